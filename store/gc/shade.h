/*
 * shade.h: making blocks known to the cycle that is under way.
 *
 * Shading an object or a part makes its node gray: somebody will scan it. A box has no gray: it is marked, and what its cells refer
 * to is shaded at once. All of it takes untrusted offsets: what is no block in use is left alone.
 */
#ifndef SHO_SHADE_H
#define SHO_SHADE_H

#include "heap/mark.h"
#include "txn/session.h"

typedef struct sho_shader {
    sho_region *region;
    struct shm_slot *slot; /* counts */
    uint32_t cycle;
    unsigned depth; /* of boxes inside one another */
    void (*gray)(void *arg, uint64_t off); /* told each node that was made gray; may be NULL */
    void *arg;
    uint64_t marked; /* boxes */
} sho_shader;

void sho_shade(sho_shader *shader, uint64_t off);

/* The object of an id, if it is that one still. */
void sho_shade_object(sho_shader *shader, shobj_oid oid);

/* All that the log of a slot names: what it changes, as it was and as it will be, what it has taken, with its contents, what it
 * is going to free or to need. */
void sho_shade_log(sho_shader *shader, struct shm_slot *slot);

/* Copies the words of a node with that header, as they are now (at most SHM_NODE_WORDS_MAX); their number. */
SHO_INLINE unsigned sho_node_words(const struct shm_node *node, uint64_t header, uint64_t *words)
{
    unsigned count = SHM_NODE_WORDS(header) <= SHM_NODE_WORDS_MAX ? SHM_NODE_WORDS(header) : 0;
    for (unsigned i = 0; i < count; i++)
        words[i] = sho_load(&node->words[i]);
    return count;
}

/* sho_trace_visit */
void sho_shade_visit(void *shader, uint64_t off);

#endif
