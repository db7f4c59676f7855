/*
 * trace.h: what a node or a box refers to, for the collector.
 */
#ifndef SHO_TRACE_H
#define SHO_TRACE_H

#include "object/cell.h"

/* Told the offset of each object, part and box that is referred to: untrusted words, which the visitor has to check. */
typedef void (*sho_trace_visit)(void *arg, uint64_t off);

/* Words 0 .. word_count - 1 of a node of that header; visits what those in `mask` refer to. Word 0 tells how to read the others. */
void sho_node_trace(uint64_t header, const uint64_t *words, uint64_t mask, sho_trace_visit visit, void *arg);

/* Visits what the cells of a box refer to. `words` is its payload, in the heap. */
void sho_box_trace(uint64_t header, const sho_word *words, sho_trace_visit visit, void *arg);

#endif
