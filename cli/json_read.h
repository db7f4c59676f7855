/*
 * json_read.h: JSON text from a file or from memory, as events with places.
 */
#ifndef CLI_JSON_READ_H
#define CLI_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <yajl/yajl_parse.h>

/* Where text comes from: a descriptor that can be read from its beginning again, or memory. */
typedef struct json_input {
    int fd;           /* -1: memory */
    const char *text; /* of memory */
    uint64_t bytes;   /* in all */
    /* May be NULL: told now and then how far the reading is; true ends it. */
    bool (*progress)(uint64_t done, uint64_t bytes);
} json_input;

typedef struct json_reader json_reader;

/* Reads the whole input once and calls back for each token. Any number of values may follow each other. Returns 0; 1 if a
 * callback gave up; -1 if the input is no JSON or can't be read, with the reason in `error`. */
int json_read(const json_input *input, const yajl_callbacks *callbacks, void *arg, json_reader **ret_reader,
              char error[256]);

/* Inside a callback, or after an error: the line and column, from 1, of the last character that was read. */
void json_place(json_reader *reader, uint64_t *ret_line, uint64_t *ret_column);

#endif
