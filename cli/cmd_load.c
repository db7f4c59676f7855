/*
 * cmd_load.c: load. The whole input becomes one transaction, which may have to run more than once: input that can't be read
 * again (a pipe) goes to a temporary file first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "json_load.h"
#include "target.h"

/* ---- progress, on a terminal */

#define BAR_COLUMNS 40

static struct progress {
    uint64_t started_ms, shown_ms;
    bool is_shown;
} bar;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* What is over in the wink of an eye needs no bar. */
static bool show_progress(uint64_t done, uint64_t bytes)
{
    uint64_t now = now_ms();
    if (bar.started_ms == 0)
        bar.started_ms = bar.shown_ms = now;
    if (interrupted || !isatty(STDERR_FILENO) || now - bar.started_ms < 300 || now - bar.shown_ms < 100)
        return interrupted;
    bar.shown_ms = now;
    bar.is_shown = true;
    double share = bytes > 0 ? (double)done / (double)bytes : 0;
    char text[16];
    char total[16];
    out_format_bytes(done, text);
    out_format_bytes(bytes, total);
    fprintf(stderr, "\r[%-*.*s] %3u%%  %s of %s ", BAR_COLUMNS, (int)(BAR_COLUMNS * share),
            "########################################", (unsigned)(100 * share), text, total);
    return false;
}

static void clear_progress(void)
{
    if (bar.is_shown)
        fprintf(stderr, "\r%*s\r", BAR_COLUMNS + 40, "");
    bar = (struct progress){0};
}

/* ---- input */

/* Copies a stream to an unnamed file. -1 with errno. */
static int spool_stream(int from)
{
    FILE *file = tmpfile();
    if (file == NULL)
        return -1;
    char block[65536];
    ssize_t got;
    do {
        got = read(from, block, sizeof(block));
        if (got > 0 && fwrite(block, 1, (size_t)got, file) < (size_t)got)
            got = -1;
    } while (got > 0 || (got < 0 && errno == EINTR && !interrupted));
    int fd = got == 0 && fflush(file) == 0 ? dup(fileno(file)) : -1;
    int error = errno;
    fclose(file);
    errno = error;
    return fd;
}

/* A descriptor that can be read from its beginning any number of times. -1 with errno. */
static int open_input(const char *name, uint64_t *ret_bytes)
{
    int fd = strcmp(name, "-") == 0 ? dup(STDIN_FILENO) : open(name, O_RDONLY | O_CLOEXEC);
    struct stat file;
    if (fd < 0)
        return -1;
    bool is_good = fstat(fd, &file) == 0;
    if (is_good && S_ISDIR(file.st_mode)) {
        errno = EISDIR;
        is_good = false;
    } else if (is_good && !(S_ISREG(file.st_mode) && lseek(fd, 0, SEEK_CUR) == 0)) {
        int copy = spool_stream(fd);
        close(fd);
        fd = copy;
        is_good = fd >= 0 && fstat(fd, &file) == 0;
    }
    if (!is_good) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        errno = error;
        return -1;
    }
    *ret_bytes = (uint64_t)file.st_size;
    return fd;
}

static bool ends_with(const char *name, const char *end)
{
    size_t bytes = strlen(name);
    size_t end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(name + bytes - end_bytes, end) == 0;
}

static int check_path(shobj_store *store, const char *path)
{
    shobj_oid container;
    enum shobj_kind kind;
    shobj_value step;
    return json_is_root(store, path) ? 0 : shobj_path_parent(store, path, &container, &kind, &step);
}

int cmd_load(const struct call *call)
{
    const char *name = call->count > 1 ? call->operands[1] : "-";
    struct target target;
    int code = target_open(call, call->operands[0], SHOBJ_OPEN_WRITE, &target);
    if (code != EXIT_DONE)
        return code;
    json_input input = {.progress = show_progress};
    input.fd = open_input(name, &input.bytes);
    const char *shown = strcmp(name, "-") == 0 ? "standard input" : name;
    if (input.fd < 0) {
        code = fail_errno(call, shown);
        target_close(&target);
        return code;
    }
    json_load load = {.input = &input,
                      .path = target.path,
                      .is_lines =
                          call_option(call, "lines") != NULL || ends_with(name, ".jsonl") || ends_with(name, ".ndjson"),
                      .is_plain = call_option(call, "plain") != NULL};
    /* A path that can't be set should not wait for the whole input. */
    int rc = check_path(target.store, target.path);
    if (rc == 0)
        rc = target_run(&target, json_load_body, &load);
    clear_progress();
    if (rc < 0)
        code = load.error[0] != '\0' ? fail_text(call, rc, "%s, %s; nothing was loaded", shown, load.error)
                                     : target_fail(call, rc);
    else if (call->json)
        printf("{\"bytes\": %" PRIu64 ", \"values\": %" PRIu64 "}\n", input.bytes, load.value_count);
    close(input.fd);
    target_close(&target);
    return code;
}
