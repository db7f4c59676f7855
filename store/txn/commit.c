/*
 * commit.c: how what a session has gathered becomes true at one instant, or not at all.
 *
 *   full commit                                        single write (a lone node, a "fact of the node")
 *     slot.state = LOCKING(seq)                          slot.state = SINGLE(seq), slot.wv = 0; C7
 *     each node's orec: base -> lock(slot, seq)          its orec: base -> lock(slot, seq)
 *     has another the right of way? give up; C7          has another the right of way? give back (wait.c, W3)
 *     wv = ++clock, above every base                     wv = max(clock, base) + 1, clock read after the lock
 *     every entry read is as it was                      slot.wv = wv                           <- decides
 *     slot.wv = wv                                       store the changed words, orec = wv
 *     slot.state: LOCKING -> COMMITTED(seq)  <- decides  wake, free what was replaced, empty the log
 *     store the changed words, orecs = wv                slot.state = IDLE(seq)
 *     wake who sleeps on them (sleep.c)
 *     free what was replaced, empty the log
 *     slot.state = IDLE(seq)
 *
 * C1  When the clock reaches c, every write with a version <= c holds its lock or is done: a full commit takes wv with all
 *     its locks held, a single write reads the clock with its lock held. So a reader that started at rv = c and finds
 *     a node unlocked at a version <= c has found what was current at c.
 * C2  Versions of a node only grow: wv is above every base.
 * C3  Nobody waits while it holds a lock: one that it can't have makes it release all and start a round with a new seq.
 * C4  A seq is left only when no orec carries it. In LOCKING anyone may move the state to ABORTED and give the locks
 *     back to their logged bases (wait.c), so the owner releases by compare-and-swap; from COMMITTED and SINGLE on only the
 *     owner, or who has proof of its death, touches the nodes (but for a lock that a SINGLE owner gives back itself).
 * C5  A lone node needs no validation of the rest: the operation's path was checked, and what it does is right as long
 *     as the node itself is unchanged, which the lock's compare-and-swap from the base proves. Nodes keep
 *     their class for ever and freed ones have raised orecs, so a stale swap can't hit another node.
 * C6  The log is whole before the first lock, wv before the deciding swap; a single write is decided by wv itself, which is
 *     logged before the first word is stored. So whoever finds the owner dead knows from state and wv whether it was
 *     decided, and can finish or undo it.
 * C7  What a commit frees, no sweep does. While a collection marks, the log is shaded: with all locks held, or by a single
 *     write before it locks, so that a lock got at the version read proves the words shaded to be those replaced; or by who
 *     arms and finds the commit under way. In KILL and SWEEP only nodes that are marked are changed, and what these hold is
 *     marked, too. One that is not marked is garbage: taken out by another while this operation was under way (a full commit
 *     finds what led to it changed), or of an object that the caller knew by its id alone (ESTALE).
 *
 * Memory order: the lock swaps are full barriers; they release the log and the state. The stores of words are relaxed and
 * come before the release store of the orec, whose partner is the acquire in sho_op_read. A reader can't see a stored word
 * without seeing the lock when it looks at the orec again: the words are stored after the lock swap (full barrier), and
 * the reader's fence orders its two looks.
 *
 * A crash leaves: in LOCKING, locks that anyone gives back; decided, a log that the recoverer stores again word by word
 * (storing twice is storing once); afterwards, blocks to free, wiped from the log one by one.
 */
#include "txn/session.h"

#define ROUNDS_MAX 64u
#define SHO_GIVE_WAY 2

void sho_write_apply(sho_region *region, struct shm_write *write, uint64_t lock, uint64_t wv)
{
    uint64_t first = sho_load(&write->node);
    unsigned word_count = SHM_RECORD_WORDS(first);
    struct shm_node *node =
        (struct shm_node *)sho_region_at(region, SHM_RECORD_OFF(first), SHM_NODE_BYTES(word_count));
    if (node == NULL || sho_load_acquire(&node->orec) != lock)
        return; /* damaged, or done already */
    for (uint64_t mask = sho_load(&write->mask); mask != 0; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctzll(mask);
        if (i < word_count)
            sho_store(&node->words[i], sho_load(&write->words[i]));
        (void)sho_fault("commit.stored_word");
    }
    if (sho_load(&write->base) & SHM_WRITE_FREES)
        sho_store(&node->header, (sho_load(&node->header) & ~0xffULL) | SHM_DYING); /* FREE when it is given back (log.c) */
    (void)sho_fault("commit.before_unlock");
    /* Release: the words before the version that says they are there; pairs with the acquire in sho_op_read. */
    sho_store_release(&node->orec, wv);
}

void sho_write_release(sho_region *region, struct shm_write *write, uint64_t lock)
{
    struct shm_node *node =
        (struct shm_node *)sho_region_at(region, SHM_RECORD_OFF(sho_load(&write->node)), SHM_NODE_BYTES(1));
    if (node == NULL || sho_load(&node->orec) != lock)
        return;
    (void)sho_fault("commit.before_release");
    if (sho_cas(&node->orec, lock, sho_load(&write->base) & ~SHM_WRITE_FREES))
        sho_wake_node(region, node);
}

static bool entry_changes(const sho_entry *e)
{
    return !e->is_new && !e->is_through && e->write != NULL &&
           (sho_load(&e->write->mask) != 0 || (sho_load(&e->write->base) & SHM_WRITE_FREES) != 0);
}

/* Nodes of changes that were deferred come last: others want them, too, so they are locked last and unlocked first. */
static bool goes_before(const sho_session *s, uint32_t a, uint32_t b)
{
    bool a_late = a >= s->late_from, b_late = b >= s->late_from;
    return a_late != b_late ? b_late : s->o.entries[a].node < s->o.entries[b].node;
}

static int compare_entries(const void *a, const void *b, void *session)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return goes_before(session, x, y) ? -1 : x != y;
}

/* Fills s->order with the entries that change, in the order of locking. Returns their number, or ENOMEM. */
static int order_writes(sho_session *s)
{
    if (s->order_room < s->write_count) {
        uint32_t room = s->write_count * 2 + 16;
        uint32_t *p = realloc(s->order, room * sizeof(*p));
        if (p == NULL)
            return sho_error(SHOBJ_ENOMEM, "out of memory for committing %u nodes", s->write_count);
        s->order = p;
        s->order_room = room;
    }
    if (s->o.entry_count == 1) {
        s->order[0] = 0;
        return 1;
    }
    int count = 0;
    for (uint32_t i = 0; i < s->o.entry_count && (uint32_t)count < s->write_count; i++)
        if (entry_changes(&s->o.entries[i])) {
            int at = count++;
            /* Few, and often in order: insertion; many: sorted below. */
            if (s->write_count <= 16)
                for (; at > 0 && goes_before(s, i, s->order[at - 1]); at--)
                    s->order[at] = s->order[at - 1];
            s->order[at] = i;
        }
    if (s->write_count > 16)
        qsort_r(s->order, (size_t)count, sizeof(*s->order), compare_entries, s);
    return count;
}

/* ------------------------------------------------------------------------------------------ full commit */

static void release_locks(sho_session *s, int count, uint64_t lock)
{
    for (int i = 0; i < count; i++) {
        (void)sho_fault("commit.release");
        sho_write_release(s->region, s->o.entries[s->order[i]].write, lock);
    }
}

/* Locks all nodes. 0; SHO_RESTART: somebody holds one (waited for it; another round may do); ECONFLICT: one has changed. */
static int lock_all(sho_session *s, int count, uint64_t lock, uint64_t *ret_base_max)
{
    uint64_t base_max = 0;
    for (int i = 0; i < count; i++) {
        sho_entry *e = &s->o.entries[s->order[i]];
        uint64_t seen = e->version;
        if (SHO_LIKELY(atomic_compare_exchange_strong(&e->node->orec, &seen, lock))) {
            (void)sho_fault("commit.locked_one");
            if (e->version > base_max)
                base_max = e->version;
            continue;
        }
        release_locks(s, i, lock);
        if (!SHM_OREC_IS_LOCKED(seen))
            return SHOBJ_ECONFLICT;
        sho_store_release(&s->slot->state, SHM_STATE(s->seq, SHM_IDLE)); /* C3: before any waiting */
        int rc = sho_wait_lock(s, e->node, seen, NULL);
        return rc ? rc : SHO_RESTART;
    }
    *ret_base_max = base_max;
    return 0;
}

/* C1: only with all locks held. */
static uint64_t draw_version(sho_session *s, uint64_t base_max)
{
    sho_word *clock = &s->region->sb->clock;
    uint64_t wv = atomic_fetch_add(clock, SHM_VERSION_ONE) + SHM_VERSION_ONE;
    if (SHO_LIKELY(wv > base_max))
        return wv;
    wv = base_max + SHM_VERSION_ONE;
    uint64_t now = sho_load(clock);
    while (now < wv && !atomic_compare_exchange_weak(clock, &now, wv))
        ;
    return wv;
}

/* Every entry is as it was read; those locked by this commit were swapped from their version. */
static bool reads_valid(sho_session *s, uint64_t lock)
{
    for (uint32_t i = 0; i < s->o.entry_count; i++) {
        const sho_entry *e = &s->o.entries[i];
        if (e->is_new)
            continue;
        uint64_t orec = sho_load_acquire(&e->node->orec);
        if (SHO_UNLIKELY(SHM_OREC_IS_LOCKED(orec)) && orec != lock && orec != e->version)
            orec = sho_settled_orec(s, e->node);
        if (SHO_LIKELY(orec == e->version))
            continue;
        if (orec != lock)
            return false;
        if (e->write != NULL)
            continue;
        /* A second entry of a node that another entry writes: right if both saw the same version. */
        bool same = false;
        for (uint32_t k = 0; k < s->o.entry_count && !same; k++)
            same = s->o.entries[k].node == e->node && !s->o.entries[k].is_new && s->o.entries[k].write != NULL &&
                   s->o.entries[k].version == e->version;
        if (!same)
            return false;
    }
    return true;
}

static void finish(sho_session *s)
{
    if (s->free_count > 0)
        sho_log_free_blocks(&s->heap, s->region, s->slot, (sho_log_pos){0}, true);
    (void)sho_fault("commit.freed");
    sho_log_reset(s);
    sho_store_release(&s->slot->state, SHM_STATE(s->seq, SHM_IDLE));
    sho_slot_count(&s->slot->commits);
}

/* All is as it was read, and nevertheless garbage: the caller had nothing but an id. */
static SHO_COLD int node_gone(const sho_session *s)
{
    return sho_error(SHOBJ_ESTALE, "changing %s: an object that was to change is gone: nothing referred to it any more, and its memory "
                     "is being freed; look it up again", s->region->path);
}

/* One locking round. 0, SHO_RESTART (another round may do), SHO_GIVE_WAY (the same, after the elder), ECONFLICT. */
static int commit_round(sho_session *s, int count)
{
    struct shm_slot *slot = s->slot;
    s->seq = (s->seq + 1) & SHM_SEQ_MASK;
    uint64_t lock = SHM_OREC_LOCK(s->slot_index, s->seq);
    uint64_t locking = SHM_STATE(s->seq, SHM_LOCKING);
    uint64_t base_max = 0;
    sho_store(&slot->wv, 0);
    sho_store_release(&slot->state, locking);
    (void)sho_fault("commit.locking");
    int rc = lock_all(s, count, lock, &base_max);
    if (rc)
        goto idle;
    (void)sho_fault("commit.locked_all");
    if (sho_elder_other(s)) { /* behind the swaps: elder.c, E1 */
        release_locks(s, count, lock);
        rc = SHO_GIVE_WAY;
        goto idle;
    }
    if (SHO_UNLIKELY(!sho_barrier_commit(s))) { /* C7 */
        rc = reads_valid(s, lock) ? node_gone(s) : SHOBJ_ECONFLICT;
        release_locks(s, count, lock);
        goto idle;
    }
    uint64_t wv = draw_version(s, base_max);
    (void)sho_fault("commit.clock");
    if (!reads_valid(s, lock)) {
        release_locks(s, count, lock);
        rc = SHOBJ_ECONFLICT;
        goto idle;
    }
    sho_store(&slot->wv, wv);
    (void)sho_fault("commit.before_decide");
    if (!sho_cas(&slot->state, locking, SHM_STATE(s->seq, SHM_COMMITTED))) {
        release_locks(s, count, lock); /* aborted by another; C4 */
        rc = SHO_RESTART;
        goto idle;
    }
    (void)sho_fault("commit.decided");
    if (sho_past_is_wanted(s, wv))
        sho_past_keep(s, count, wv);
    for (int i = count; i-- > 0;) {
        struct shm_write *write = s->o.entries[s->order[i]].write;
        s->free_count += sho_load(&write->base) & SHM_WRITE_FREES;
        sho_write_apply(s->region, write, lock, wv);
    }
    (void)sho_fault("commit.unlocked");
    sho_region_light_barrier(s->region);
    for (int i = 0; i < count; i++)
        sho_wake_bucket(s->region, sho_bucket_of(s->region, s->o.entries[s->order[i]].node));
    (void)sho_fault("commit.woken");
    finish(s);
    return 0;
idle:
    sho_store_release(&slot->state, SHM_STATE(s->seq, SHM_IDLE));
    return rc;
}

static int commit_full(sho_session *s, int count)
{
    for (unsigned round = 1;; round++) {
        int rc = sho_elder_other(s) ? SHO_GIVE_WAY : commit_round(s, count);
        if (rc == SHO_GIVE_WAY) {
            rc = sho_elder_yield(s);
            if (rc)
                return rc;
            round--;
        } else if (rc != SHO_RESTART) {
            return rc;
        }
        if ((round == ROUNDS_MAX && s->token == 0) || !sho_entries_valid(s))
            return SHOBJ_ECONFLICT;
        if (round > 0 && s->token == 0) /* all others wait for who has the right of way */
            sho_backoff(s, round);
    }
}

/* ------------------------------------------------------------------------------------------ single write */

/* W3: gives the lock back unless somebody has read through it already. */
static bool give_way(sho_session *s, const sho_entry *e, uint64_t lock)
{
    uint64_t wv = sho_load_acquire(&s->slot->wv);
    if (wv == SHM_MARK(s->seq, SHM_MARK_DECIDED) ||
        !sho_cas(&s->slot->wv, wv, SHM_MARK(s->seq, SHM_MARK_GIVEN_BACK)))
        return false;
    (void)sho_fault("single.given_back");
    sho_write_release(s->region, e->write, lock);
    sho_store_release(&s->slot->state, SHM_STATE(s->seq, SHM_IDLE));
    return true;
}

/* C7: nothing is locked yet. */
static SHO_COLD int single_in_full(sho_session *s)
{
    sho_store_release(&s->slot->state, SHM_STATE(s->seq, SHM_IDLE));
    return commit_full(s, 1);
}

static int commit_single(sho_session *s, const sho_entry *e)
{
    struct shm_slot *slot = s->slot;
    if (sho_elder_other(s)) {
        int rc = sho_elder_yield(s);
        return rc ? rc : SHO_RESTART;
    }
    s->seq = (s->seq + 1) & SHM_SEQ_MASK;
    uint64_t lock = SHM_OREC_LOCK(s->slot_index, s->seq);
    sho_store(&slot->wv, 0);
    sho_store_release(&slot->state, SHM_STATE(s->seq, SHM_SINGLE));
    sho_region_light_barrier(s->region);
    uint64_t gc = sho_gc_word(s);
    if (SHO_UNLIKELY(SHM_GC_PHASE(gc) != SHM_GC_IDLE) && !sho_barrier_commit_slow(s, gc))
        return single_in_full(s);
    (void)sho_fault("single.before_lock");
    if (SHO_UNLIKELY(!sho_cas(&e->node->orec, e->version, lock))) {
        sho_store_release(&slot->state, SHM_STATE(s->seq, SHM_IDLE));
        return SHOBJ_ECONFLICT;
    }
    (void)sho_fault("single.locked");
    if (sho_elder_other(s) && give_way(s, e, lock)) { /* behind the swap: elder.c, E1 */
        int rc = sho_elder_yield(s);
        return rc ? rc : SHO_RESTART;
    }
    uint64_t now = sho_load_acquire(&s->region->sb->clock);
    uint64_t wv = (now > e->version ? now : e->version) + SHM_VERSION_ONE;
    bool is_past_wanted = sho_past_is_wanted(s, wv);
    if (is_past_wanted)
        wv = draw_version(s, e->version); /* past.c, P3 */
    sho_store(&slot->wv, wv);
    sho_fence_release(); /* C6 */
    (void)sho_fault("single.versioned");
    if (is_past_wanted)
        sho_past_keep(s, 1, wv);
    sho_write_apply(s->region, e->write, lock, wv);
    (void)sho_fault("single.unlocked");
    sho_region_light_barrier(s->region);
    sho_wake_bucket(s->region, sho_bucket_of(s->region, e->node));
    (void)sho_fault("single.woken");
    finish(s);
    return 0;
}

int sho_commit(sho_session *s)
{
    int count = s->write_count > 0 ? order_writes(s) : 0;
    if (count < 0)
        return count;
    if (count == 0) {
        /* Nothing that anybody else knows has changed; what was read was one state. Blocks taken stay, to be
         * found through what the caller was given. One that was born black may refer to others that were there before the cycle,
         * and that nothing names any more when the log is empty. */
        if (s->new_count > 0)
            (void)sho_barrier_commit(s);
        if (s->free_count > 0)
            sho_log_free_blocks(&s->heap, s->region, s->slot, (sho_log_pos){0}, true);
        if (s->slot != NULL && s->log.segment + s->log.used > 0)
            sho_log_reset(s);
        return 0;
    }
    int rc;
    const sho_entry *lone = &s->o.entries[s->order[0]];
    if (count == 1 && s->depth == 0 && s->leaf && !(sho_load(&lone->write->base) & SHM_WRITE_FREES))
        rc = commit_single(s, lone);
    else
        rc = commit_full(s, count);
    if (SHO_UNLIKELY(rc == SHOBJ_ECONFLICT))
        return s->depth == 0 ? SHO_RESTART : sho_conflict();
    return rc;
}
