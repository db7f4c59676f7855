/*
 * json_load.h: values from JSON: plain JSON, JSON Lines, and the exact form that dump writes.
 */
#ifndef CLI_JSON_LOAD_H
#define CLI_JSON_LOAD_H

#include <stdbool.h>

#include <shobj.h>

#include "json_read.h"

typedef struct json_load {
    const json_input *input;
    const char *path; /* where the value goes; the root's contents are replaced */
    bool is_lines;    /* a list of all values, even if there is one or none */
    bool is_plain;    /* tags mean nothing */
    /* Results. */
    uint64_t value_count;
    char error[512]; /* not empty if the input is to blame */
} json_load;

/* Whether a path names the root. */
bool json_is_root(shobj_store *store, const char *path);

/* Reads and stores everything. The body of a transaction: arg is the json_load; fit for shobj_run(). New objects are nobody's
 * business, and the path is looked at when they are all there: so a load of minutes loses only against those who change
 * the place in the moment at its end. */
int json_load_body(shobj_store *store, void *arg);

#endif
