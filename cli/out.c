/*
 * out.c: data on standard output. See out.h.
 */
#include "out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#define SPOOL_MEMORY_MAX (64u << 20)

bool out_is_terminal(void)
{
    static int known = -1;
    if (known < 0)
        known = isatty(STDOUT_FILENO);
    return known == 1;
}

/* Writes a cell and returns how many columns it takes. */
static int put_cell(const char *text)
{
    int columns = 0;
    mbstate_t state = {0};
    while (*text != '\0') {
        wchar_t wide;
        size_t bytes = mbrtowc(&wide, text, strlen(text), &state);
        if (bytes == (size_t)-1 || bytes == (size_t)-2) {
            /* No character of this locale: as it is. */
            memset(&state, 0, sizeof(state));
            bytes = 1;
            wide = L'?';
        }
        int width = wcwidth(wide);
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            fputc('?', stdout);
        else
            fwrite(text, 1, bytes, stdout);
        columns += width < 0 ? 1 : width;
        text += bytes;
    }
    return columns;
}

void out_row(const int *widths, const char *const *cells, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int width = out_is_terminal() ? widths[i] : 0;
        if (i > 0)
            fputs(out_is_terminal() ? "  " : "\t", stdout);
        for (int pad = width - (int)strlen(cells[i]); pad > 0; pad--)
            fputc(' ', stdout);
        int columns = put_cell(cells[i]);
        for (int pad = -width - columns; pad > 0 && i + 1 < count; pad--)
            fputc(' ', stdout);
    }
    fputc('\n', stdout);
}

void out_json_str(const char *text)
{
    shobj_value v = {.type = SHOBJ_STR, .data = text, .count = strlen(text)};
    shobj_render(NULL, &v, SHOBJ_FORM_JSON, 0, 0, out_write, NULL);
}

void out_json_name(const char *name, bool *first)
{
    if (!*first)
        fputs(", ", stdout);
    *first = false;
    out_json_str(name);
    fputs(": ", stdout);
}

void out_json_number(const char *name, uint64_t number, bool *first)
{
    out_json_name(name, first);
    printf("%" PRIu64, number);
}

void out_named_text(const char *name, const char *text, bool json, bool *first)
{
    if (json) {
        out_json_name(name, first);
        out_json_str(text);
    } else {
        out_row((const int[]){-19, 0}, (const char *const[]){name, text}, 2);
    }
}

static void put_figure(const struct figure *f)
{
    char text[32];
    char name[32];
    bool is_short = out_is_terminal() && (f->form == FIGURE_BYTES || f->form == FIGURE_TIME);
    snprintf(text, sizeof(text), "%" PRIu64, f->value);
    snprintf(name, sizeof(name), "%s", f->name);
    if (f->form == FIGURE_PERCENT && f->value == UINT32_MAX)
        snprintf(text, sizeof(text), "none");
    else if (is_short && f->form == FIGURE_BYTES)
        out_format_bytes(f->value, text);
    else if (is_short && f->value == 0)
        snprintf(text, sizeof(text), "never");
    else if (is_short)
        out_format_time((int64_t)f->value, text);
    if (is_short)
        *strrchr(name, '_') = '\0'; /* the unit is in the text */
    out_named_text(name, text, false, NULL);
}

void out_figures(const struct figure *figures, size_t count, bool json, bool *first)
{
    for (size_t i = 0; i < count; i++) {
        const struct figure *f = figures + i;
        if (!json) {
            put_figure(f);
        } else if (f->form == FIGURE_PERCENT && f->value == UINT32_MAX) {
            out_json_name(f->name, first);
            fputs("null", stdout);
        } else {
            out_json_number(f->name, f->value, first);
        }
    }
}

int out_write(const char *text, size_t bytes, void *arg)
{
    (void)arg;
    return fwrite(text, 1, bytes, stdout) < bytes || interrupted;
}

void out_format_bytes(uint64_t bytes, char ret_text[16])
{
    static const char units[] = "BKMGTPE";
    double scaled = (double)bytes;
    size_t unit = 0;
    while (scaled >= 1023.5 && unit < 6) {
        scaled /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(ret_text, 16, "%" PRIu64, bytes);
    else
        snprintf(ret_text, 16, scaled < 9.95 ? "%.1f%c" : "%.0f%c", scaled, units[unit]);
}

void out_format_time(int64_t time_ns, char ret_text[32])
{
    time_t seconds = (time_t)(time_ns / 1000000000);
    struct tm local;
    if (localtime_r(&seconds, &local) == NULL || strftime(ret_text, 32, "%Y-%m-%d %H:%M:%S", &local) == 0)
        snprintf(ret_text, 32, "?");
}

void out_flush_for_error(void)
{
    fflush(stdout);
}

int out_finish(const struct call *call)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_DONE;
    clearerr(stdout);
    return fail_errno(call, "writing to standard output");
}

/* ---- buffer and spool */

int buffer_add(const char *text, size_t bytes, void *arg)
{
    struct buffer *b = arg;
    if (b->bytes + bytes + 1 > b->room) {
        size_t room = b->room * 2 + bytes + 1024;
        char *larger = realloc(b->text, room);
        if (larger == NULL)
            return SHOBJ_ENOMEM;
        b->text = larger;
        b->room = room;
    }
    memcpy(b->text + b->bytes, text, bytes);
    b->bytes += bytes;
    b->text[b->bytes] = '\0';
    return 0;
}

int spool_write(const char *text, size_t bytes, void *arg)
{
    struct spool *s = arg;
    if (interrupted)
        return SHOBJ_EABORTED;
    if (s->file == NULL && s->kept.bytes + bytes <= SPOOL_MEMORY_MAX)
        return buffer_add(text, bytes, &s->kept);
    if (s->file == NULL) {
        s->file = tmpfile();
        if (s->file == NULL)
            return SHOBJ_EIO;
    }
    return fwrite(text, 1, bytes, s->file) == bytes ? 0 : SHOBJ_EIO;
}

void spool_clear(struct spool *s)
{
    s->kept.bytes = 0;
    if (s->file != NULL)
        fclose(s->file);
    s->file = NULL;
}

void spool_print(struct spool *s)
{
    fwrite(s->kept.text, 1, s->kept.bytes, stdout);
    if (s->file != NULL) {
        char block[65536];
        size_t bytes;
        rewind(s->file);
        while ((bytes = fread(block, 1, sizeof(block), s->file)) > 0)
            fwrite(block, 1, bytes, stdout);
    }
    spool_free(s);
}

void spool_free(struct spool *s)
{
    spool_clear(s);
    free(s->kept.text);
    s->kept = (struct buffer){0};
}
