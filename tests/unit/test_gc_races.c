/*
 * test_gc_races.c: the races that the collector's rules are for (gc/README.md, G1 to G8), one by one: somebody stands at just the
 * point where the rule is needed, others go by, and then he goes on.
 */
#include <signal.h>
#include <sys/wait.h>

#include "stops.h"
#include "types/trace.h"

enum { LONG_BYTES = 3000 }; /* of a text: a box of which a slab holds 21 */

static shobj_value long_text(char *text, char fill)
{
    memset(text, fill, LONG_BYTES);
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = LONG_BYTES};
}

/* Enough elements for a head of a class that nothing else in the store has. */
enum { ITEMS = 20 };

static shobj_oid new_wide_list(void)
{
    shobj_value items[ITEMS];
    for (int i = 0; i < ITEMS; i++)
        items[i] = integer(i);
    return new_list(items, ITEMS);
}

static struct shm_slab *slab_of(uint64_t off)
{
    return sho_region_slab(store->region, off >> SHM_SLAB_SHIFT);
}

static void keep_last(void *arg, uint64_t off)
{
    *(uint64_t *)arg = off;
}

/* What the object's first node refers to last. */
static uint64_t part_of(shobj_oid oid)
{
    const struct shm_node *node = (const struct shm_node *)(store->region->base + SHM_OID_OFF(oid));
    uint64_t words[SHM_NODE_WORDS_MAX], off = 0, header = sho_load(&node->header);
    sho_node_words(node, header, words);
    sho_node_trace(header, words, UINT64_MAX, keep_last, &off);
    CHECK(off != 0);
    return off;
}

/* ------------------------------------------------------------------------------------------ marking */

/* G2. Taken out of a list that has not been scanned, by one whose holds have been: he has the only reference. */
static void test_taken_out(void)
{
    begin();
    shobj_value item = object(new_list(NULL, 0)), held;
    shobj_oid list = new_list(&item, 1);
    set(shobj_root(store), 1, object(list));
    release_all();
    go_on(3); /* up to MARK */
    CHECK_INT(shobj_list_del(store, list, 0, &held), 0);
    finish_cycle();
    CHECK(is_alive(held.oid));
    collect();
    CHECK(!is_alive(held.oid));
    finish();
}

static void mark_all(void)
{
    sho_helper h;
    CHECK_INT(sho_helper_init(&h, store, NULL), 0);
    sho_cycle_help(&h);
    sho_helper_fini(&h);
}

/* G4. A helper stands in the middle of a scan: others scan the whole node. */
static void test_half_scanned(void)
{
    begin();
    shobj_value items[2] = {object(new_list(NULL, 0)), object(new_list(NULL, 0))};
    set(shobj_root(store), 1, object(new_list(items, 2)));
    release_all();
    go_on(3);
    CHECK(start_until(mark_all, 2, "gc.shaded")); /* the list, and its first element */
    finish_cycle();
    CHECK(is_alive(items[0].oid) && is_alive(items[1].oid));
    finish_actor();
    finish();
}

static void blacken_64(void)
{
    CHECK(start_until(mark_all, 1, "gc.blackened"));
}

/* G5. A pass has gone by the slab of the last list when another helper shades that list, and comes to the slabs of those that this was
 * found by when they are black. It has met nothing gray, and ends nothing. */
static void test_blackened_behind_a_pass(void)
{
    sho_helper h;
    begin();
    shobj_oid last = new_wide_list();
    shobj_value item = object(last);
    for (int i = 1; i < (int)SHO_HELPER_BATCH; i++) /* they and the root dict are blackened together, */
        item = object(new_list(&item, 1));
    set(shobj_root(store), 1, item);
    release_all();
    go_on(3);
    CHECK_INT(sho_helper_init(&h, store, NULL), 0);
    h.gc = sho_load_acquire(&h.region->sb->gc);
    h.shader = (sho_shader){.region = h.region, .slot = h.s->slot, .cycle = SHM_GC_CYCLE(h.gc)};
    h.first_slab = (SHM_OID_OFF(last) >> SHM_SLAB_SHIFT) - (h.region->data_off >> SHM_SLAB_SHIFT);
    sho_fault_plan_call(blacken_64, 2, "gc.visit");
    CHECK(sho_cycle_mark(&h));
    CHECK(actor.was_parked);
    sho_cas(&h.region->sb->gc, h.gc, SHM_GC(SHM_GC_CYCLE(h.gc), 0, SHM_GC_KILL)); /* as cycle.c does */
    CHECK_INT(SHM_GC_PHASE(sho_load(&h.region->sb->gc)), SHM_GC_MARK);
    finish_actor();
    sho_helper_fini(&h);
    finish_cycle();
    CHECK(is_alive(last));
    finish();
}

/* G5. An object is pinned by its id when a helper has found that marking is over, but has not said so. */
static void test_pinned_behind_a_pass(void)
{
    sho_helper h;
    uint32_t at;
    begin();
    shobj_oid oid = new_list(NULL, 0);
    release_all();
    go_on(3);
    CHECK_INT(sho_helper_init(&h, store, NULL), 0);
    h.gc = sho_load_acquire(&h.region->sb->gc);
    h.shader = (sho_shader){.region = h.region, .slot = h.s->slot, .cycle = SHM_GC_CYCLE(h.gc)};
    CHECK(sho_cycle_mark(&h));
    CHECK_INT(shobj_pin(pins, oid, &at), 0);
    sho_cas(&h.region->sb->gc, h.gc, SHM_GC(SHM_GC_CYCLE(h.gc), 0, SHM_GC_KILL));
    CHECK_INT(SHM_GC_PHASE(sho_load(&h.region->sb->gc)), SHM_GC_MARK);
    sho_helper_fini(&h);
    finish_cycle();
    CHECK(is_alive(oid));
    shobj_unpin(pins, at);
    finish();
}

/* ------------------------------------------------------------------------------------------ killing */

static uint64_t part_off;
static shobj_oid condemned;

static void *sweep_part(void *arg)
{
    sho_session *s;
    sho_sweep_count count = {0};
    (void)arg;
    CHECK_INT(sho_session_get(store, &s), 0);
    CHECK_INT(sho_slab_sweep(&s->heap, part_off >> SHM_SLAB_SHIFT, sho_load(&store->region->sb->gc), &count), SHO_SWEPT);
    CHECK_INT(count.freed, 1);
    shobj_detach(store);
    shobj_detach(store);
    return NULL;
}

static void kill_and_sweep_part(void)
{
    go_on(1); /* KILL */
    in_thread(sweep_part);
}

static void kill_alone(void)
{
    sho_helper h;
    CHECK_INT(sho_helper_init(&h, store, NULL), 0);
    h.gc = sho_load_acquire(&h.region->sb->gc);
    h.shader = (sho_shader){.region = h.region, .slot = h.s->slot, .cycle = SHM_GC_CYCLE(h.gc)};
    (void)sho_cycle_kill(&h);
    sho_helper_fini(&h);
}

/* In the other helper's thread: it has judged the head, and finds that this one is first. */
static void kill_first(void)
{
    CHECK(start_until(kill_alone, 1, "gc.killed"));
}

static void two_kill_and_sweep_part(void)
{
    sho_fault_plan_call(kill_first, 1, "gc.kill");
    kill_and_sweep_part();
    CHECK(actor.was_parked && !actor.is_over);
}

/* G7. A condemned list, of which only the id is known, is changed: its head has been read, then it is killed, and what it refers to
 * swept, but not yet the head. The change has lost; or the old element would be freed twice. */
static void test_heads_first(void (*meanwhile)(void))
{
    char text[LONG_BYTES];
    begin();
    shobj_value value = long_text(text, 'a');
    shobj_oid list = new_list(&value, 1);
    part_off = part_of(list);
    release_all();
    go_on(4); /* up to KILL */
    value = long_text(text, 'b');
    actor.was_parked = false;
    actor.is_over = true;
    sho_fault_plan_call(meanwhile, 1, "box.taken");
    CHECK_INT(shobj_list_set(store, list, 0, &value), SHOBJ_ESTALE);
    if (actor.was_parked)
        finish_actor();
    finish_cycle();
    collect();
    AUDIT(store, 1);
    finish();
}

static void set_first(void)
{
    char text[LONG_BYTES];
    shobj_value value = long_text(text, 'b');
    CHECK_INT(shobj_list_set(store, condemned, 0, &value), SHOBJ_ESTALE);
}

static void set_first_in_txn(void)
{
    char text[LONG_BYTES];
    shobj_value value = long_text(text, 'b');
    CHECK_INT(shobj_txn_begin(store), 0);
    int rc = shobj_list_set(store, condemned, 0, &value);
    CHECK(rc == 0 || rc == SHOBJ_ESTALE);
    CHECK_INT(shobj_txn_commit(store), SHOBJ_ESTALE);
}

/* C7 in commit.c. A list is condemned, and no helper has come to its head yet, when it is changed by one who knows its id. He would free
 * what the sweep frees. */
static void test_condemned_unchanged(void (*change_first)(void))
{
    char text[LONG_BYTES];
    begin();
    shobj_value value = long_text(text, 'a');
    condemned = new_list(&value, 1);
    release_all();
    go_on(4); /* up to KILL */
    change_first();
    finish_cycle();
    collect();
    AUDIT(store, 1);
    finish();
}

/* The same, by one who has looked at the collector's word before marking was over, and locks afterwards. */
static void test_condemned_behind_a_look(void)
{
    char text[LONG_BYTES];
    begin();
    shobj_value value = long_text(text, 'a');
    condemned = new_list(&value, 1);
    release_all();
    go_on(3); /* up to MARK */
    CHECK(start_until(set_first, 1, "single.before_lock"));
    go_on(2); /* marked, killed */
    finish_actor();
    finish_cycle();
    collect();
    AUDIT(store, 1);
    finish();
}

/* ------------------------------------------------------------------------------------------ sweeping */

static void sweep_slab_of_part(void)
{
    sho_session *s;
    sho_sweep_count count = {0};
    CHECK_INT(sho_session_get(store, &s), 0);
    (void)sho_slab_sweep(&s->heap, part_off >> SHM_SLAB_SHIFT, sho_load(&store->region->sb->gc), &count);
}

/* G8. A sweeper has stood still in a slab for so long that the cycle has ended without him. What is taken there afterwards has no mark
 * of that cycle, and need not have one. */
static void test_late_sweeper(void)
{
    begin();
    shobj_oid oids[3];
    uint32_t at[3];
    at[0] = pin(oids[0] = new_wide_list());
    release_all();
    go_on(5); /* up to SWEEP */
    part_off = SHM_OID_OFF(oids[0]);
    CHECK(start_until(sweep_slab_of_part, 1, "sweep.claimed"));
    sho_word *gc = &store->region->sb->gc;
    sho_store(gc, SHM_GC(SHM_GC_CYCLE(sho_load(gc)), 0, SHM_GC_IDLE)); /* as cycle.c does after a second */
    for (int i = 1; i < 3; i++) /* one of them in that slab, also if there are two mappings */
        at[i] = pin(oids[i] = new_wide_list());
    finish_actor();
    for (int i = 0; i < 3; i++)
        CHECK(is_alive(oids[i]));
    release_all();
    AUDIT(store, 4);
    for (int i = 0; i < 3; i++)
        shobj_unpin(pins, at[i]);
    finish();
}

/* ------------------------------------------------------------------------------------------ taking, freeing */

static unsigned phases_before, phases_after;

static void pass_by_after(void)
{
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    go_on(phases_after);
}

static void pass_by_before(void)
{
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    go_on(phases_before);
    sho_fault_plan_call(pass_by_after, 1, "node.written");
}

/* G8. A block was taken before the cycle began, and says that it is used when marking is over: nothing names or marks it but its
 * taker. */
static void test_taken_before(unsigned before)
{
    begin();
    phases_before = before;
    phases_after = 6 - before;
    sho_fault_plan_call(pass_by_before, 1, "node.taken");
    shobj_oid oid = new_list(NULL, 0);
    CHECK_INT(SHM_GC_PHASE(sho_load(&store->region->sb->gc)), SHM_GC_IDLE);
    uint32_t at = pin(oid);
    collect();
    CHECK(is_alive(oid));
    AUDIT(store, 2);
    shobj_unpin(pins, at);
    finish();
}

static shobj_oid leaves;

/* A list of several nodes; the slab that most of them are in. */
static struct shm_slab *make_leaves(void)
{
    enum { MANY = 200 };
    shobj_value items[MANY];
    for (int i = 0; i < MANY; i++)
        items[i] = integer(i);
    leaves = new_list(NULL, 0);
    CHECK_INT(shobj_list_extend(store, leaves, items, MANY), 0);
    set(shobj_root(store), 1, object(leaves));
    return slab_of(part_of(leaves));
}

static void clear_leaves(void)
{
    CHECK_INT(shobj_list_clear(store, leaves), 0);
}

static void replace(void)
{
    char text[LONG_BYTES];
    set(shobj_root(store), 1, long_text(text, 'b'));
}

/* G8. A committer is about to give a block back that his log does not name any more. A collection goes by, and then its slab's owner
 * uses up what is free there. */
static void test_freed_meanwhile(void)
{
    enum { MANY = 100 }; /* more than two slabs hold */
    char text[LONG_BYTES];
    begin();
    shobj_oid root = shobj_root(store);
    set(root, 1, long_text(text, 'a'));
    CHECK(start_until(replace, 1, "block.free"));
    collect();
    for (int i = 0; i < MANY; i++)
        set(root, 10 + i, long_text(text, (char)('c' + i % 20)));
    finish_actor();
    AUDIT(store, 0);
    for (int i = 0; i < MANY; i++) {
        shobj_value value = get(root, 10 + i), expected = long_text(text, (char)('c' + i % 20));
        CHECK(same(&value, &expected));
    }
    finish();
}

/* A commit has taken nodes out of use, and is still to give them back, when somebody looks for lost blocks in their slab: they are none. */
static void test_looked_for_meanwhile(void)
{
    begin();
    struct shm_slab *d = make_leaves();
    CHECK(start_until(clear_leaves, 1, "commit.unlocked"));
    atomic_fetch_or(&d->lost, SHM_LOST_BLOCKS); /* as if somebody had died who took from it before */
    for (int i = 0; i < 2; i++)
        collect(); /* by both sessions that this thread has where there are two mappings: one of them owns the slab */
    CHECK_INT(sho_load(&d->lost), 0);
    finish_actor();
    AUDIT(store, 0);
    finish();
}

/* ------------------------------------------------------------------------------------------ those who die */

static int to_parent[2], to_child[2];

static pid_t start_child(void (*fn)(void))
{
    CHECK(pipe(to_parent) == 0 && pipe(to_child) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        fn();
        _exit(0);
    }
    return pid;
}

static void expect_death(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int i = 0; i < 2; i++) {
        close(to_parent[i]);
        close(to_child[i]);
    }
}

static shobj_oid all;

/* Each list stays, so that in the end all of a slab is in use but for the last block. */
static void take_up(void)
{
    for (;;) {
        shobj_oid oid = new_wide_list();
        shobj_value value = object(oid);
        CHECK_INT(shobj_list_append(store, all, &value), 0); /* two calls: the next list is of the same session */
        if (LIST_COUNT(sho_load(&slab_of(SHM_OID_OFF(oid))->private_list)) == 1)
            sho_fault_plan(SHO_FAULT_KILL, 1, "node.taken");
    }
}

/* Who takes a slab's last block dies with it: there is nothing to be taken, so that nobody who needs a block comes by. */
static void test_lost_of_a_full_slab(void)
{
    begin();
    all = new_list(NULL, 0);
    set(shobj_root(store), 1, object(all));
    expect_death(start_child(take_up));
    unsigned reaped;
    CHECK_INT(shobj_reap(store, &reaped), 0);
    shobj_value value;
    CHECK_INT(shobj_list_get(store, all, 0, &value), 0);
    const struct shm_slab *d = slab_of(SHM_OID_OFF(value.oid));
    CHECK_INT(sho_load(&d->lost), SHM_LOST_BLOCKS);
    CHECK_INT(LIST_COUNT(sho_load(&d->private_list)) + REMOTE_COUNT(sho_load(&d->remote)), 0);
    CHECK_INT(REMOTE_FLAG(sho_load(&d->remote)), SHM_REMOTE_UNLISTED);
    CHECK_INT(audit_heap(store).lost, 1);
    collect();
    CHECK_INT(AUDIT(store, 0).lost, 0);
    CHECK_INT(LIST_COUNT(sho_load(&d->private_list)) + REMOTE_COUNT(sho_load(&d->remote)), 1);
    finish();
}

static const char *last_point; /* where the child dies that stands now, */
static uint64_t last_passage;  /* at this passage from now on */

static void stand_and_die(void)
{
    char c = 0;
    CHECK(write(to_parent[1], &c, 1) == 1);
    CHECK(read(to_child[0], &c, 1) == 1);
    sho_fault_plan(SHO_FAULT_KILL, last_passage, last_point);
}

static void until_it_stands(void)
{
    char c;
    CHECK(read(to_parent[0], &c, 1) == 1);
}

static void let_die(pid_t pid)
{
    char c = 0;
    CHECK(write(to_child[1], &c, 1) == 1);
    expect_death(pid);
}

static void reap_one(void)
{
    unsigned reaped;
    CHECK_INT(shobj_reap(store, &reaped), 0);
    CHECK(reaped > 0); /* two records where there are two mappings */
}

/* The block that some session names in a word of its slot. */
static uint64_t named_by_some(size_t word_off)
{
    uint64_t off = 0;
    for (unsigned i = 0; i < sho_region_slot_count(store->region) && off == 0; i++)
        off = sho_load((const sho_word *)((const char *)sho_region_slot(store->region, i) + word_off));
    CHECK(off != 0);
    return off;
}

static void free_and_die(void)
{
    last_point = "block.free";
    last_passage = 2; /* the first leaf, behind the tree's root */
    sho_fault_plan_call(stand_and_die, 1, "commit.unlocked");
    clear_leaves();
}

static pid_t dying;
static const struct shm_slab *looked_through;

static void die_meanwhile(void)
{
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    let_die(dying);
    CHECK(slab_of(named_by_some(offsetof(struct shm_slot, freeing))) == looked_through);
    reap_one();
    dying = 0;
}

/* All blocks are on a list that should be on one, after one more collection by each of this thread's sessions. */
static void expect_nothing_lost(void)
{
    collect();
    collect();
    audit left = AUDIT(store, 0);
    CHECK_INT(left.lost + left.lost_owned, 0);
}

/* Somebody dies who has said of a node that it is free, and has not yet given it back. The slab is not his, so nobody would look. */
static void test_freed_by_the_dead(void)
{
    begin();
    make_leaves();
    pid_t pid = start_child(free_and_die);
    until_it_stands();
    let_die(pid);
    reap_one();
    expect_nothing_lost();
    finish();
}

/* The same while somebody else looks for another lost block of that slab: it was not free yet when he looked at it. */
static void test_freed_by_the_dead_meanwhile(void)
{
    begin();
    struct shm_slab *d = make_leaves();
    looked_through = d;
    dying = start_child(free_and_die);
    until_it_stands();
    /* As if somebody had died who had taken the first of the list, or the first that was never used. */
    uint64_t list = sho_load(&d->private_list);
    CHECK_INT(LIST_HEAD(list), 0);
    sho_store(&d->private_list, LIST(0, LIST_FRESH(list) + 1, LIST_COUNT(list) - 1));
    atomic_fetch_or(&d->lost, SHM_LOST_BLOCKS);
    sho_fault_plan_call(die_meanwhile, 1, "sweep.found");
    collect();
    collect();
    CHECK_INT(dying, 0);
    expect_nothing_lost();
    finish();
}

/* The same while its recoverer has told of it, and not yet forgotten its name. */
static void test_freed_by_the_dead_and_left_out(void)
{
    begin();
    make_leaves();
    pid_t pid = start_child(free_and_die);
    until_it_stands();
    let_die(pid);
    CHECK(start_until(reap_one, 1, "recover.settled"));
    collect();
    collect();
    finish_actor();
    expect_nothing_lost();
    finish();
}

static void collect_and_die(void)
{
    sho_fault_plan(SHO_FAULT_KILL, 1, "sweep.freed");
    CHECK_INT(shobj_collect(store, 1), 0);
}

static void *collect_apart(void *arg)
{
    (void)arg;
    CHECK_INT(shobj_collect(store, 1), 0);
    shobj_detach(store);
    shobj_detach(store);
    return NULL;
}

/* A sweeper dies in a slab that has an owner; he finds the block when he has used up the others, without any collection of his. */
static void test_lost_of_an_owner(void)
{
    begin();
    shobj_oid garbage = new_wide_list();
    const struct shm_slab *d = slab_of(SHM_OID_OFF(garbage));
    release_all();
    expect_death(start_child(collect_and_die));
    reap_one();
    in_thread(collect_apart);
    audit left = AUDIT(store, 0);
    CHECK_INT(left.lost, 0);
    CHECK_INT(left.lost_owned, 1);
    unsigned room = block_count_of(SHM_SLAB_CLASS(sho_load(&d->state)));
    for (unsigned i = 0; i < 2 * room + 2; i++) /* two sessions, if there are two mappings */
        new_wide_list();
    CHECK_INT(REMOTE_FLAG(sho_load(&d->remote)), SHM_REMOTE_UNLISTED);
    CHECK_INT(sho_load(&d->lost), 0);
    left = audit_heap(store);
    CHECK_INT(left.lost + left.lost_owned + left.miscounted, 0);
    finish();
}

static void take_and_die(void)
{
    last_point = "node.written";
    last_passage = 1;
    sho_fault_plan_call(stand_and_die, 1, "node.taken");
    new_wide_list();
}

/* G6. A sweeper has seen the header of a block that somebody took before the cycle began, and died with. Then the recoverer frees it,
 * and nothing names it any more. */
static void test_taken_by_the_dead(void)
{
    begin();
    pid_t pid = start_child(take_and_die);
    until_it_stands();
    go_on(5); /* up to SWEEP */
    let_die(pid);
    part_off = named_by_some(offsetof(struct shm_slot, taking));
    CHECK(start_until(sweep_slab_of_part, 1, "sweep.judge"));
    reap_one();
    finish_actor();
    AUDIT(store, 0);
    finish_cycle();
    finish();
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_taken_out();
    test_half_scanned();
    test_blackened_behind_a_pass();
    test_pinned_behind_a_pass();
    test_heads_first(kill_and_sweep_part);
    test_heads_first(two_kill_and_sweep_part);
    test_condemned_unchanged(set_first);
    test_condemned_unchanged(set_first_in_txn);
    test_condemned_behind_a_look();
    test_late_sweeper();
    test_taken_before(4);
    test_taken_before(5);
    test_freed_meanwhile();
    test_lost_of_a_full_slab();
    test_looked_for_meanwhile();
    test_taken_by_the_dead();
    test_freed_by_the_dead();
    test_freed_by_the_dead_meanwhile();
    test_freed_by_the_dead_and_left_out();
    test_lost_of_an_owner();
    return 0;
}
