/*
 * out.h: data on standard output: rows that are aligned on a terminal and separated by tabs elsewhere, JSON, text in bulk.
 */
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include <stdio.h>

#include "cli.h"

bool out_is_terminal(void);

/* One row. On a terminal the cells are padded to widths[i] (negative: to the left edge), but for the last one. Control
 * characters become '?'. */
void out_row(const int *widths, const char *const *cells, size_t count);

/* A JSON string, quotes included. */
void out_json_str(const char *text);
/* `"name": ` behind `first ? "" : ", "`, and false to *first. */
void out_json_name(const char *name, bool *first);
void out_json_number(const char *name, uint64_t number, bool *first);

/* One figure of a store. */
enum figure_form { FIGURE_PLAIN, FIGURE_BYTES, FIGURE_TIME, FIGURE_PERCENT };
struct figure {
    const char *name;
    uint64_t value;
    enum figure_form form;
};
/* JSON: members of an object. Else a line "name value" each; on a terminal sizes and times are for people, elsewhere they are plain
 * numbers. A percentage of UINT32_MAX is none. */
void out_figures(const struct figure *figures, size_t count, bool json, bool *first);
/* The same with a text. */
void out_named_text(const char *name, const char *text, bool json, bool *first);

/* For shobj_render(): writes to standard output; nonzero after an error of it, or when interrupted. */
int out_write(const char *text, size_t bytes, void *arg);

/* Bytes for people: 512, 1.5K, 23M. */
void out_format_bytes(uint64_t bytes, char ret_text[16]);
/* Local time of CLOCK_REALTIME nanoseconds. */
void out_format_time(int64_t time_ns, char ret_text[32]);

/* Pushes data out before an error is written, so that both keep their order on a terminal. */
void out_flush_for_error(void);
/* At the end of a command: an exit code, not 0 if standard output could not take it all. */
int out_finish(const struct call *call);

/* ---- text kept until it is complete: in memory, and in a temporary file when it is large */

/* Text in memory, {0} at first, with a NUL behind it that does not count. */
struct buffer {
    char *text;
    size_t bytes, room;
};

/* For shobj_render(), arg is the buffer. SHOBJ_ENOMEM. */
int buffer_add(const char *text, size_t bytes, void *arg);

struct spool {
    struct buffer kept;
    FILE *file; /* all behind it, once it is too much for memory */
};

/* For shobj_render(), arg is the spool. SHOBJ_ENOMEM, SHOBJ_EIO (with errno). */
int spool_write(const char *text, size_t bytes, void *arg);
/* Empties it, for another attempt. */
void spool_clear(struct spool *spool);
/* Writes it to standard output and ends it. */
void spool_print(struct spool *spool);
void spool_free(struct spool *spool);

#endif
