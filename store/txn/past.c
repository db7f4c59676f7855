/*
 * past.c: what nodes were a moment ago, so that a transaction that only reads need not lose against those who write.
 *
 * A long read beside many short writes finds again and again a node that is newer than its snapshot, after others that it
 * has read have changed, too: no instant fits both. So one that has lost asks committers to leave behind, for a while,
 * what they overwrite; it then goes back from a node's words, commit by commit, to what they were at its snapshot.
 *
 *   superblock.past_until       commits up to this version leave their past; moved on by who reads so
 *   2048 cells of 256 bytes     commit wv has the cell wv mod 2048, until a later one takes it:
 *     version                   wv; | WRITING while it is being filled
 *     off | count, base, mask, header, the old words under the mask       of each node that fits
 *     ...
 *
 *   node now:  orec v3 ---------> cell of v3: base v2, old words --------> cell of v2: base v1 <= rv, old words.  Done.
 *
 * P1  A cell is a fact: "commit wv found node off at version base, with these words". It stays true for ever, so it matters
 *     neither whose it is nor how old, and a cell that is missing costs a lost execution at most: then the reader goes on
 *     as any other. Nothing depends on a cell's being there.
 * P2  It is filled after the commit was decided and before the first of its words is stored; the release of the orec
 *     publishes it with the words. Versions of one node never come twice, so (wv, off) names one change. (Single
 *     writes that leave nothing may share a version with another node's commit.)
 * P3  A commit that leaves its past ticks the clock, single writes too. So what such a commit has done before a reader begins
 *     has a version up to the reader's rv, and is not undone: a snapshot is never older than its transaction's beginning.
 * P4  What a chain of cells leads to at a version <= rv is what was there when the clock was rv: C1 and C2 in commit.c.
 * P5  Words that were undone and may refer to a box or an object are not believed (the box may be freed, the object's memory
 *     another one's): such a node has no past. The words that no cell touched are the node's own, and what they refer
 *     to lives as long as the orec is what it was when they were copied: the operation's check looks at it again. Offsets of
 *     nodes may be followed: a node that was reachable at rv and is freed has a version above rv from then on.
 * P6  Only a transaction that was begun for reading looks back. Having done so it can't move its snapshot: at a node
 *     without a past it loses.
 * P7  A node that is locked by a commit which is decided, for a version above rv, need not be waited for: as long as the orec
 *     carries the lock, its words are those under the commit's mask, which the cell has, and others, which stay.
 *
 * Memory order: a cell is a seqlock with one writer at a time. The claiming swap, with the fence behind it, comes before the words; the
 * release store of the version after them. A reader's acquire load, fence and second load of the version are the partners.
 *
 * A crash leaves at most one cell WRITING, of the version in the dead one's slot: who recovers it clears that (P1).
 * A stopped one costs one cell in 2048 until it goes on.
 */
#include "heap/region.h"
#include "txn/session.h"

#define WRITING 1ULL
#define HEAD_WORDS 4u
#define ASKED_COMMITS 65536u
#define EXECUTIONS 1000u
#define STEPS_MAX 64u
#define BLOCK_BYTES 65536u

static struct shm_past *cell_of(const sho_region *region, uint64_t version)
{
    struct shm_past *cells = (struct shm_past *)(region->base + SHM_PAST_OFF);
    return &cells[version / SHM_VERSION_ONE % SHM_PAST_CELLS];
}

/* ------------------------------------------------------------------------------------------ leaving it behind */

/* Behind the first `at` words of a cell; returns where the next one goes. */
static unsigned keep_node(struct shm_past *cell, unsigned at, struct shm_node *node, const struct shm_write *write)
{
    uint64_t header = sho_load(&node->header);
    uint64_t base = sho_load(&write->base);
    unsigned word_count = SHM_NODE_WORDS(header);
    uint64_t all = word_count < 64 ? (1ULL << word_count) - 1 : UINT64_MAX;
    /* Freed memory will get other words without a commit: all of them are kept. */
    uint64_t mask = base & SHM_WRITE_FREES ? all : sho_load(&write->mask) & all;
    unsigned count = (unsigned)__builtin_popcountll(mask);
    if (at + HEAD_WORDS + count > SHM_PAST_WORDS)
        return at;
    sho_word *words = cell->words + at;
    sho_store(words++, SHM_RECORD_OFF(sho_load(&write->node)) | (uint64_t)count << 56);
    sho_store(words++, base & ~SHM_WRITE_FREES);
    sho_store(words++, mask);
    sho_store(words++, header);
    for (; mask != 0; mask &= mask - 1)
        sho_store(words++, sho_load(&node->words[__builtin_ctzll(mask)]));
    return at + HEAD_WORDS + count;
}

void sho_past_keep(const sho_session *s, int count, uint64_t wv)
{
    struct shm_past *cell = cell_of(s->region, wv);
    uint64_t was = sho_load(&cell->version);
    if ((was & WRITING) || was >= wv || !sho_cas(&cell->version, was, wv | WRITING))
        return; /* somebody's who stands still, or a later one's: P1 */
    sho_fence_release();
    (void)sho_fault("past.claimed");
    unsigned at = 0;
    for (int i = 0; i < count; i++) {
        const sho_entry *e = &s->o.entries[s->order[i]];
        at = keep_node(cell, at, e->node, e->write);
    }
    if (at < SHM_PAST_WORDS)
        sho_store(&cell->words[at], 0);
    (void)sho_fault("past.filled");
    sho_store_release(&cell->version, wv);
}

void sho_past_forget(const sho_region *region, uint64_t wv)
{
    if (sho_load(&region->sb->past_until) != 0)
        sho_cas(&cell_of(region, wv)->version, wv | WRITING, 0);
}

/* ------------------------------------------------------------------------------------------ asking for it */

void sho_past_lost(sho_session *s)
{
    s->past_executions = EXECUTIONS;
}

/* The cells are backed before past_until is anything but 0; without memory for them the reader does without. */
static SHO_COLD void ask(sho_session *s, uint64_t until)
{
    sho_word *word = &s->region->sb->past_until;
    if (until == 0 && sho_region_back(s->region, SHM_PAST_OFF, SHM_PAST_CELLS * sizeof(struct shm_past))) {
        s->past_executions = 0;
        return;
    }
    (void)sho_fault("past.asking");
    /* Release (in the swap): who sees it finds the cells backed. If another one has moved it on, that is as good. */
    sho_cas(word, until, sho_load(&s->region->sb->clock) + ASKED_COMMITS * SHM_VERSION_ONE);
}

void sho_past_begin(sho_session *s)
{
    if (!s->region->writable || s->token != 0) /* beside an elder nothing changes */
        return;
    s->past_executions--;
    uint64_t until = sho_load_acquire(&s->region->sb->past_until);
    if (until < sho_load(&s->region->sb->clock) + ASKED_COMMITS / 2 * SHM_VERSION_ONE)
        ask(s, until);
    s->looks_back = sho_load_acquire(&s->region->sb->past_until) != 0;
}

/* ------------------------------------------------------------------------------------------ going back */

static sho_past *past_new(sho_session *s)
{
    size_t bytes = sizeof(sho_past);
    sho_past_block *block = s->past_blocks;
    if (block == NULL || block->used + bytes > BLOCK_BYTES) {
        block = malloc(sizeof(*block) + BLOCK_BYTES);
        if (block == NULL)
            return NULL;
        block->next = s->past_blocks;
        block->used = 0;
        s->past_blocks = block;
    }
    return (sho_past *)((uint8_t *)block->data + block->used);
}

/* Keeps what past_new() gave, as far as it is in use. */
static void past_keep(sho_session *s, const sho_past *past)
{
    s->past_blocks->used += (offsetof(sho_past, words) + 8 * (size_t)past->word_count + 15) & ~(size_t)15;
}

void sho_past_end(sho_session *s, bool all)
{
    sho_past_block *block = s->past_blocks;
    while (block != NULL && (all || block->next != NULL)) {
        sho_past_block *next = block->next;
        free(block);
        block = next;
    }
    s->past_blocks = block;
    if (block != NULL)
        block->used = 0;
}

/* Undoes in `past`, the node at version v, what commit v did. False: not known, or not to be believed. */
static bool undo_commit(const sho_session *s, uint64_t off, uint64_t v, sho_past *past, uint64_t *ret_base)
{
    const struct shm_past *cell = cell_of(s->region, v);
    if (sho_load_acquire(&cell->version) != v)
        return false;
    const sho_word *words = cell->words;
    const sho_word *end = cell->words + SHM_PAST_WORDS;
    for (;;) {
        uint64_t first = words + HEAD_WORDS < end ? sho_load(words) : 0;
        unsigned count = SHM_RECORD_WORDS(first);
        if (first == 0 || count > (unsigned)(end - words) - HEAD_WORDS)
            return false;
        if ((first & ~(0xffULL << 56)) == off)
            break;
        words += HEAD_WORDS + count;
    }
    *ret_base = sho_load(words + 1);
    uint64_t mask = sho_load(words + 2);
    past->header = sho_load(words + 3);
    past->undone |= mask;
    if ((unsigned)__builtin_popcountll(mask) != SHM_RECORD_WORDS(sho_load(words)) ||
        SHM_NODE_WORDS(past->header) != past->word_count || (past->word_count < 64 && mask >> past->word_count != 0))
        return false;
    for (words += HEAD_WORDS; mask != 0; mask &= mask - 1)
        sho_store(&past->words[__builtin_ctzll(mask)], sho_load(words++));
    sho_fence_acquire();
    return sho_load(&cell->version) == v;
}

/* The version of the attempt that this lock is of, if it is decided, else 0. */
static uint64_t decided_version(const sho_session *s, uint64_t lock)
{
    if (SHM_OREC_SLOT(lock) >= sho_region_slot_count(s->region))
        return 0;
    const struct shm_slot *slot = sho_region_slot(s->region, SHM_OREC_SLOT(lock));
    uint64_t state = sho_load_acquire(&slot->state);
    uint64_t wv = sho_load_acquire(&slot->wv);
    bool may_be = SHM_PHASE(state) == SHM_COMMITTED || SHM_PHASE(state) == SHM_SINGLE;
    return may_be && SHM_SEQ(state) == SHM_OREC_SEQ(lock) && sho_wv_is_version(wv) ? wv : 0;
}

/* The node as it is, at one instant, and the version that this is. Of one that is locked for a version above the snapshot some
 * words may be stored already and some not: that version's cell has what all of them were (P7). */
static bool copy_now(const sho_session *s, struct shm_node *node, sho_past *past, uint64_t *ret_version)
{
    past->version = *ret_version = sho_load_acquire(&node->orec);
    if (SHM_OREC_IS_LOCKED(past->version) && (*ret_version = decided_version(s, past->version)) <= s->rv)
        return false;
    past->header = sho_load(&node->header);
    past->undone = 0;
    past->word_count = SHM_NODE_WORDS(past->header);
    if (past->word_count == 0 || past->word_count > SHM_NODE_WORDS_MAX)
        return false;
    for (unsigned i = 0; i < past->word_count; i++)
        sho_store(&past->words[i], sho_load(&node->words[i]));
    sho_fence_acquire();
    return sho_load(&node->orec) == past->version;
}

/* P5 */
static bool is_believed(const sho_past *past)
{
    for (uint64_t mask = past->undone; mask != 0; mask &= mask - 1)
        if (SHO_WORD_MAY_REFER(sho_load(&past->words[__builtin_ctzll(mask)])))
            return false;
    return true;
}

int sho_past_read(sho_session *s, struct shm_node *node, sho_past **ret_past)
{
    uint64_t off = (uint64_t)((const uint8_t *)node - s->region->base);
    sho_past *past = past_new(s);
    if (past == NULL)
        return sho_error(SHOBJ_ENOMEM, "out of memory for a transaction of %u nodes", s->o.entry_count);
    uint64_t v;
    *ret_past = NULL;
    if (!copy_now(s, node, past, &v))
        return SHM_OREC_IS_LOCKED(past->version) ? 0 : SHO_RESTART;
    for (unsigned steps = 0; v > s->rv; steps++) {
        uint64_t base;
        if (steps == STEPS_MAX || !undo_commit(s, off, v, past, &base) || base >= v)
            return 0;
        v = base;
    }
    if (!is_believed(past))
        return 0;
    past_keep(s, past);
    s->past_executions = EXECUTIONS;
    s->looked_back = true;
    *ret_past = past;
    return 0;
}
