/*
 * container.h: what check (and later the collector) needs from each container kind.
 */
#ifndef SHO_CONTAINER_H
#define SHO_CONTAINER_H

#include "object/cell.h"

/* Told about each thing found while checking one object. `problem` gets one formatted line. `cell` gets each live cell of
 * the object (keys too), `node` each node that belongs to it (the first one included): the caller tracks sharing. */
typedef struct sho_check_sink {
    void (*problem)(void *arg, uint64_t off, const char *format, ...) __attribute__((format(printf, 3, 4)));
    int (*cell)(void *arg, uint64_t owner_off, uint64_t cell);
    int (*node)(void *arg, uint64_t off, unsigned kind, unsigned word_count);
    void *arg;
} sho_check_sink;

/* A body for SHO_OP-like use: walks the object's whole structure with sho_op_read() and verifies every invariant of the file's
 * head comment (counts, order, index against entries, tree against lengths). Returns 0 (problems were reported),
 * SHO_RESTART, or an error of the sink. May report problems that a race made up: the caller runs it inside a
 * transaction and believes it only if the check at its end holds. */
int sho_dict_check(sho_session *s, uint64_t off, const sho_check_sink *sink);
int sho_list_check(sho_session *s, uint64_t off, const sho_check_sink *sink);

/* Gather half: a new empty dict or list for `expected` entries (0: unknown); its first node's view. */
int sho_dict_create(sho_session *s, size_t expected, sho_view *ret_head);
int sho_list_create(sho_session *s, size_t expected, sho_view *ret_head);

#endif
