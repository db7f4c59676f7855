/*
 * container.h: what check (and later the collector) needs from each container kind.
 */
#ifndef SHO_CONTAINER_H
#define SHO_CONTAINER_H

#include "heap/region.h"
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

/* What salvaging finds in a damaged container. `lost` gets one formatted line about what can't be had. */
typedef struct sho_salvage_sink {
    void (*lost)(void *arg, uint64_t off, const char *format, ...) __attribute__((format(printf, 3, 4)));
    int (*entry)(void *arg, uint64_t key, uint64_t value); /* of a dict, in the order of insertion */
    int (*element)(void *arg, uint64_t cell);              /* of a list, in order; EMPTY: one that was lost */
    void *arg;
} sho_salvage_sink;

/* Reads what can be read of a container in memory that nobody else changes, whatever its counts and its index say. 0, ENOMEM,
 * or what the sink returned. */
int sho_dict_salvage(sho_region *region, uint64_t off, const sho_salvage_sink *sink);
int sho_list_salvage(sho_region *region, uint64_t off, const sho_salvage_sink *sink);

/* The node at off, if that is a place for one and its header names the kind; reads no orec. */
SHO_INLINE bool sho_salvage_node(sho_region *region, uint64_t off, unsigned kind, sho_view *ret_view)
{
    struct shm_node *node = (struct shm_node *)sho_region_at(region, off, SHM_NODE_BYTES(1));
    if (node == NULL || (off & 15))
        return false;
    uint64_t header = sho_load(&node->header);
    unsigned words = SHM_NODE_WORDS(header);
    if (SHM_HEADER_KIND(header) != kind || words == 0 || words > SHM_NODE_WORDS_MAX ||
        sho_region_at(region, off, SHM_NODE_BYTES(words)) == NULL)
        return false;
    *ret_view = (sho_view){.words = node->words, .off = off, .header = header, .word_count = words};
    return true;
}

/* Gather half: a new empty dict or list for `expected` entries (0: unknown); its first node's view. */
int sho_dict_create(sho_session *s, size_t expected, sho_view *ret_head);
int sho_list_create(sho_session *s, size_t expected, sho_view *ret_head);

#endif
