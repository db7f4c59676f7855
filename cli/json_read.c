/*
 * json_read.c: feeds JSON text to yajl, keeps count of lines and columns, and keeps lone surrogates whole.
 *
 * yajl turns the escape of a surrogate that has no partner into '?'. A str may hold such surrogates, as three bytes of
 * UTF-8 each, so that these escapes are replaced by those bytes before yajl sees them. A backslash stands nowhere but in
 * strings, which makes them easy to find:
 *
 *   text   ...."....\ud83d\ude00....\ud800...."...      read in blocks; what might be the beginning of an escape at the
 *   fed    |---------------------->|<-->|---->|         end of one is left for the next
 *                                  3 bytes
 */
#include "json_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES  (256u << 10)
#define ESCAPE_BYTES 6u

struct json_reader {
    const json_input *input;
    yajl_handle yajl;
    /* The piece that yajl is at, and how much of it the counts below cover. */
    const unsigned char *piece;
    size_t piece_bytes;
    size_t counted;
    uint64_t line;   /* from 1 */
    uint64_t column; /* characters of this line that are behind us */
    bool has_text;   /* something but blanks was read */
};

/* Moves the counts on to `bytes` of the piece. */
static void count_to(json_reader *r, size_t bytes)
{
    if (bytes > r->piece_bytes)
        bytes = r->piece_bytes;
    for (; r->counted < bytes; r->counted++) {
        unsigned char c = r->piece[r->counted];
        if (c == '\n') {
            r->line++;
            r->column = 0;
        } else if ((c & 0xc0) != 0x80) {
            r->column++;
        }
        r->has_text = r->has_text || !(c == ' ' || c == '\n' || c == '\t' || c == '\r');
    }
}

void json_place(json_reader *r, uint64_t *ret_line, uint64_t *ret_column)
{
    count_to(r, yajl_get_bytes_consumed(r->yajl));
    *ret_line = r->line;
    *ret_column = r->column > 0 ? r->column : 1;
}

/* ---- feeding */

/* yajl's words without its prefix and newline. */
static void explain(json_reader *r, char error[256])
{
    unsigned char *text = yajl_get_error(r->yajl, 0, NULL, 0);
    const char *colon = strstr((const char *)text, "error: ");
    snprintf(error, 256, "%s", colon != NULL ? colon + strlen("error: ") : (const char *)text);
    error[strcspn(error, "\n")] = '\0';
    size_t bytes = strlen(error);
    if (bytes > 0 && error[bytes - 1] == '.')
        error[bytes - 1] = '\0';
    yajl_free_error(r->yajl, text);
    if (strcmp(error, "premature EOF") == 0)
        snprintf(error, 256, "the text ends too early");
    else if (strcmp(error, "invalid character inside string") == 0) {
        snprintf(error, 256, "a control character inside a string (write it as \\u00..)");
        r->column++; /* yajl stands before it */
    }
}

/* A piece of text; `counts` says whether its characters are those of the input. */
static int feed(json_reader *r, const unsigned char *text, size_t bytes, char error[256])
{
    if (bytes == 0)
        return 0;
    r->piece = text;
    r->piece_bytes = bytes;
    r->counted = 0;
    yajl_status status = yajl_parse(r->yajl, text, bytes);
    if (status == yajl_status_ok) {
        count_to(r, bytes);
        return 0;
    }
    count_to(r, yajl_get_bytes_consumed(r->yajl));
    if (status == yajl_status_client_canceled)
        return 1;
    explain(r, error);
    return -1;
}

/* The number of a \u escape, or -1. */
static int escape_value(const unsigned char *text)
{
    int value = 0;
    if (text[0] != '\\' || text[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        unsigned char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static int feed_surrogate(json_reader *r, int value, char error[256])
{
    unsigned char utf8[3] = {(unsigned char)(0xe0 | value >> 12), (unsigned char)(0x80 | (value >> 6 & 0x3f)),
                             (unsigned char)(0x80 | (value & 0x3f))};
    int rc = feed(r, utf8, sizeof(utf8), error);
    r->column += rc == 0 ? ESCAPE_BYTES - 1 : 0;
    return rc;
}

/* Feeds a block, but for the beginning of an escape at its end (unless it is the last block). */
static int feed_block(json_reader *r, const unsigned char *text, size_t bytes, bool is_last, size_t *ret_used,
                      char error[256])
{
    size_t from = 0;
    size_t at = 0;
    int rc = 0;
    while (rc == 0) {
        const unsigned char *backslash = memchr(text + at, '\\', bytes - at);
        if (backslash == NULL) {
            at = bytes;
            break;
        }
        at = (size_t)(backslash - text);
        size_t left = bytes - at;
        if (left < 2 * ESCAPE_BYTES && !is_last)
            break;
        int value = left >= ESCAPE_BYTES ? escape_value(backslash) : -1;
        int second = left >= 2 * ESCAPE_BYTES ? escape_value(backslash + ESCAPE_BYTES) : -1;
        bool is_pair = value >= 0xd800 && value < 0xdc00 && second >= 0xdc00 && second < 0xe000;
        if (is_pair) {
            at += 2 * ESCAPE_BYTES;
        } else if (value >= 0xd800 && value < 0xe000) {
            rc = feed(r, text + from, at - from, error);
            if (rc == 0)
                rc = feed_surrogate(r, value, error);
            at += ESCAPE_BYTES;
            from = at;
        } else {
            at += left < 2 ? 1 : 2;
        }
    }
    if (rc == 0)
        rc = feed(r, text + from, at - from, error);
    *ret_used = at;
    return rc;
}

/* ---- reading */

static int read_file(json_reader *r, char error[256])
{
    unsigned char *block = malloc(BLOCK_BYTES);
    if (block == NULL) {
        snprintf(error, 256, "out of memory");
        return -1;
    }
    size_t have = 0;
    uint64_t done = 0;
    int rc = 0;
    bool is_last = false;
    while (rc == 0 && !is_last) {
        ssize_t got = pread(r->input->fd, block + have, BLOCK_BYTES - have, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            snprintf(error, 256, "%s", strerror(errno));
            rc = -1;
            break;
        }
        is_last = got == 0;
        have += (size_t)got;
        size_t start = done == 0 && have >= 3 && memcmp(block, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark */
        done += (uint64_t)got;
        size_t used;
        rc = feed_block(r, block + start, have - start, is_last, &used, error);
        if (rc != 0)
            break;
        used += start;
        memmove(block, block + used, have - used);
        have -= used;
        if (r->input->progress != NULL && r->input->progress(done, r->input->bytes)) {
            snprintf(error, 256, "interrupted");
            rc = -1;
        }
    }
    free(block);
    return rc;
}

int json_read(const json_input *input, const yajl_callbacks *callbacks, void *arg, json_reader **ret_reader,
              char error[256])
{
    json_reader r = {.input = input, .line = 1};
    size_t used;
    r.yajl = yajl_alloc(callbacks, NULL, arg);
    if (r.yajl == NULL || !yajl_config(r.yajl, yajl_allow_multiple_values, 1)) {
        snprintf(error, 256, "out of memory");
        return -1;
    }
    *ret_reader = &r;
    int rc = input->fd >= 0 ? read_file(&r, error)
                            : feed_block(&r, (const unsigned char *)input->text, input->bytes, true, &used, error);
    if (rc == 0) {
        /* A number at the very end is told only now. */
        r.piece_bytes = 0;
        yajl_status status = yajl_complete_parse(r.yajl);
        rc = status == yajl_status_ok || !r.has_text ? 0 : status == yajl_status_client_canceled ? 1 : -1;
        if (rc < 0)
            explain(&r, error);
    }
    if (rc < 0) {
        char reason[256];
        memcpy(reason, error, sizeof(reason));
        snprintf(error, 256, "line %llu, column %llu: %.200s", (unsigned long long)r.line,
                 (unsigned long long)(r.column > 0 ? r.column : 1), reason);
    }
    yajl_free(r.yajl);
    *ret_reader = NULL;
    return rc;
}
