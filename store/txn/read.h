/*
 * read.h: the entries of a session, as the two halves of operations see them (read.c, op.c).
 */
#ifndef SHO_READ_H
#define SHO_READ_H

#include "txn/session.h"

/* Twice as much room, or `least` elements. ENOMEM. */
int sho_array_grow(void **array, uint32_t *room, size_t element_bytes, uint32_t least);

/* From here on entries are found by offset. ENOMEM. */
int sho_entries_map(sho_session *s);
/* A new entry, the last one. ENOMEM. */
int sho_entry_add(sho_session *s, struct shm_node *node, uint64_t version, bool is_new, uint32_t *ret_entry);
/* It was read through the log of a decided owner. */
void sho_entry_through(sho_session *s, uint32_t entry, struct shm_write *write);
void sho_entries_truncate(sho_session *s, uint32_t count);

SHO_INLINE bool sho_entry_valid(const sho_entry *e)
{
    return e->is_new || (!e->is_past && sho_load_acquire(&e->node->orec) == e->version);
}

/* The transaction can't commit any more. ECONFLICT. */
int sho_op_doom(sho_session *s);

/* The node is locked: waits, or (*ret_through) reads it through the log of an owner that has decided and stands still. What is
 * read through stood, and stands on, when the snapshot is taken anew: no version need be known. */
int sho_op_meet_lock(sho_session *s, struct shm_node *node, uint64_t orec, struct shm_write **ret_through);

#endif
