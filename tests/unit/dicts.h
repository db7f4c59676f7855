/*
 * dicts.h: a dict and a simple model of it, for the tests of the dict.
 *
 * Keys are numbers of a universe; key_make() gives each its value, so that forms and lengths mix.
 * The model keeps the value and the moment of insertion of each.
 */
#ifndef DICTS_H
#define DICTS_H

#include <stdarg.h>

#include "check.h"
#include "txn/session.h"
#include "types/dict.h"

enum hash_style {
    HASH_TRUE,
    HASH_FEW,  /* eight different hashes: groups spill */
    HASH_STEM, /* the upper 29 bits are equal: the trie is deep before it branches */
    HASH_STYLES
};

/* The value of key number n. The text lives in buf. */
__attribute__((unused)) static shobj_value key_value(uint32_t n, char buf[48])
{
    switch (n % 4) {
    case 0: return (shobj_value){.type = SHOBJ_INT, .i = (int64_t)n};
    case 1: return (shobj_value){.type = SHOBJ_STR, .data = buf, .count = (size_t)sprintf(buf, "%x", n)};
    case 2:
        return (shobj_value){
            .type = SHOBJ_BYTES, .data = buf, .count = (size_t)sprintf(buf, "a key of many bytes, number %u", n)};
    default: return (shobj_value){.type = SHOBJ_FLOAT, .f = n + 0.5};
    }
}

/* Its number. */
__attribute__((unused)) static uint32_t key_number(const shobj_value *value)
{
    char text[64] = "";
    if (value->type == SHOBJ_INT)
        return (uint32_t)value->i;
    if (value->type == SHOBJ_FLOAT)
        return (uint32_t)value->f;
    CHECK(value->type == SHOBJ_STR || value->type == SHOBJ_BYTES);
    CHECK(value->count < sizeof(text));
    memcpy(text, value->data, value->count);
    return value->type == SHOBJ_STR ? (uint32_t)strtoul(text, NULL, 16)
                                    : (uint32_t)strtoul(strrchr(text, ' '), NULL, 10);
}

__attribute__((unused)) static shobj_key key_make(shobj_store *store, uint32_t n, enum hash_style style, char buf[48])
{
    shobj_value value = key_value(n, buf);
    shobj_key key;
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    if (style == HASH_FEW)
        key.hash = 0x12345678 + ((key.hash >> 32) % 8 << 7);
    else if (style == HASH_STEM)
        key.hash = 0xabcdef00 + (key.hash >> 32) % 8;
    return key;
}

/* A value from 64 random bits; the text lives in buf. Also the way back: the bits that it was made
 * from. */
__attribute__((unused)) static shobj_value value_make(uint64_t bits, char buf[48])
{
    if (bits % 3 == 0)
        return (shobj_value){.type = SHOBJ_STR, .data = buf, .count = (size_t)sprintf(buf, "the value %" PRIu64, bits)};
    return (shobj_value){.type = SHOBJ_INT, .i = (int64_t)bits};
}

__attribute__((unused)) static uint64_t value_bits(const shobj_value *value)
{
    char text[64] = "";
    if (value->type == SHOBJ_INT)
        return (uint64_t)value->i;
    CHECK_INT(value->type, SHOBJ_STR);
    CHECK(value->count < sizeof(text));
    memcpy(text, value->data, value->count);
    return strtoull(text + strlen("the value "), NULL, 10);
}

/* ----------------------------------------------------------------------------- check and damage */

typedef struct dict_report {
    unsigned problems;
    bool hashes_are_made_up;
    bool quiet;
    size_t node_count;
    uint64_t nodes[1 << 16];
} dict_report;

__attribute__((unused, format(printf, 3, 4))) static void report_problem(void *arg, uint64_t off, const char *format,
                                                                         ...)
{
    dict_report *report = arg;
    if (report->hashes_are_made_up && strstr(format, "has not the hash") != NULL)
        return;
    report->problems++;
    if (report->quiet)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "dict node %#" PRIx64 ": ", off);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

__attribute__((unused)) static int report_cell(void *arg, uint64_t owner, uint64_t cell)
{
    return 0;
}

__attribute__((unused)) static int report_node(void *arg, uint64_t off, unsigned kind, unsigned words)
{
    dict_report *report = arg;
    if (report->node_count < SHO_COUNT_OF(report->nodes))
        report->nodes[report->node_count++] = off;
    return 0;
}

__attribute__((unused)) static int report_again(sho_session *s, shobj_oid dict, dict_report *report)
{
    sho_check_sink sink = {.problem = report_problem, .cell = report_cell, .node = report_node, .arg = report};
    report->problems = 0;
    report->node_count = 0;
    return sho_dict_check(s, SHM_OID_OFF(dict), &sink);
}

__attribute__((unused)) static int dict_report_make(shobj_store *store, shobj_oid dict, dict_report *report)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    CHECK_INT(rc, 0);
    SHO_OP(s, rc, report_again(s, dict, report));
    return rc;
}

/* The dict is whole. */
__attribute__((unused)) static void dict_check(shobj_store *store, shobj_oid dict, enum hash_style style)
{
    static _Thread_local dict_report report;
    report.hashes_are_made_up = style != HASH_TRUE;
    report.quiet = false;
    CHECK_INT(dict_report_make(store, dict, &report), 0);
    CHECK_INT(report.problems, 0);
}

/* Live blocks but for the segments of logs, which come and go with the size of operations. */
__attribute__((unused)) static uint64_t block_count(shobj_store *store)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    uint64_t segments = 0;
    for (unsigned i = 0; i < sho_region_slot_count(store->region); i++)
        for (uint64_t off = sho_load(&sho_region_slot(store->region, i)->log_next); off != 0; segments++)
            off = sho_load(&((struct shm_log_segment *)(store->region->base + off))->next);
    return stat.blocks - segments;
}

__attribute__((unused)) static uint64_t dict_len(shobj_store *store, shobj_oid dict)
{
    uint64_t count;
    CHECK_INT(shobj_dict_len(store, dict, &count), 0);
    return count;
}

#endif
