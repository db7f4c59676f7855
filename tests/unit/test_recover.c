/*
 * test_recover.c: a process dies at each fault point in turn, and its recoverer, too; others find every transaction
 * whole or absent, nothing locked, no slot and no slab lost. One that is stopped while it locks delays nobody.
 */
#include "deaths.h"
#include "nodes.h"

#define NODES 12
#define START 1000

static shobj_store *store;
static uint64_t sessions_alive, processes_alive; /* ours */
static uint64_t nodes[NODES];
static uint64_t lone; /* changed by single writes only */

/* ------------------------------------------------------------------------------------------ what the victim does */

static int move_body(shobj_store *st, void *arg)
{
    (void)arg;
    int rc = 0;
    for (int i = 0; i < NODES && rc == 0; i++)
        rc = node_add(st, nodes[i], i % 2 ? 1 : (uint64_t)-1, false);
    return rc;
}

static int undone_body(shobj_store *st, void *arg)
{
    int rc = move_body(st, arg);
    node_new(st, 1);
    return rc ? rc : SHOBJ_EABORTED;
}

/* A node that takes a box with it and lets another one go. */
static int box_body(sho_session *s, uint64_t off)
{
    sho_view view;
    uint64_t box;
    sho_word *words;
    int rc = sho_op_read(s, off, NODE_KIND, &view);
    if (rc || (rc = sho_op_write(s, &view)) || (rc = sho_op_new_box(s, SHM_BOX_BYTES, 0, 64, &box, &words)))
        return rc;
    for (int i = 0; i < 8; i++)
        sho_store(words + i, box);
    uint64_t old = sho_view_word(&view, 1);
    if (old != 0 && (rc = sho_op_release_box(s, old)))
        return rc;
    sho_op_leaf(s);
    if ((rc = sho_op_check(s)))
        return rc;
    sho_op_set(s, &view, 1, box);
    return 0;
}

/* A node replaced by a new one: the old is freed by commit. */
static int swap_body(sho_session *s, uint64_t parent_off)
{
    sho_view parent, child, fresh;
    int rc = sho_op_read(s, parent_off, NODE_KIND, &parent);
    if (rc)
        return rc;
    uint64_t child_off = sho_view_word(&parent, 2);
    if (child_off != 0 && ((rc = sho_op_read(s, child_off, NODE_KIND, &child)) || (rc = sho_op_write(s, &child))))
        return rc;
    if ((rc = sho_op_write(s, &parent)) || (rc = sho_op_new(s, NODE_KIND, 6, &fresh)) || (rc = sho_op_check(s)))
        return rc;
    sho_op_set(s, &fresh, 0, 4711);
    if (child_off != 0)
        sho_op_free_node(s, &child);
    sho_op_set(s, &parent, 2, fresh.off);
    return 0;
}

static void victim(void)
{
    int rc;
    CHECK_INT(node_add(store, lone, 1, true), 0);
    CHECK_INT(shobj_run(store, move_body, NULL), 0);
    for (int i = 0; i < 3; i++) {
        RUN(store, rc, box_body(s, lone));
        CHECK_INT(rc, 0);
        RUN(store, rc, swap_body(s, lone));
        CHECK_INT(rc, 0);
    }
    CHECK_INT(shobj_run(store, undone_body, NULL), SHOBJ_EABORTED);
    CHECK_INT(shobj_run(store, move_body, NULL), 0);
    shobj_close(store);
}

static bool run_child(void (*fn)(void), enum sho_fault_kind kind, uint64_t passage)
{
    return dies(fn, kind, passage, NULL);
}

static void recoverer(void)
{
    sho_recover_all(store->region);
}

/* ------------------------------------------------------------------------------------------ what the others find */

static uint64_t value_of(uint64_t off)
{
    uint64_t value = 0;
    CHECK_INT(node_get(store, off, &value), 0);
    return value;
}

static int parts; /* blocks that the lone node has: its box and its child */

/* The lone node's box and child are what the victim made of them, whole. */
static int look_body(sho_session *s)
{
    sho_view view, child;
    int rc = sho_op_read(s, lone, NODE_KIND, &view);
    if (rc)
        return rc;
    uint64_t box = sho_view_word(&view, 1), child_off = sho_view_word(&view, 2);
    uint64_t header = 0, stamps[8] = {0}, number = 4711;
    const sho_word *words;
    if (box != 0 && (rc = sho_op_box(s, box, &header, &words)))
        return rc;
    for (int i = 0; box != 0 && i < 8; i++)
        stamps[i] = sho_load(words + i);
    if (child_off != 0) {
        if ((rc = sho_op_read(s, child_off, NODE_KIND, &child)))
            return rc;
        number = sho_view_word(&child, 0);
    }
    if ((rc = sho_op_check(s)))
        return rc;
    parts = (box != 0) + (child_off != 0);
    CHECK_INT(number, 4711);
    CHECK_INT(SHM_HEADER_KIND(header), box != 0 ? SHM_BOX_BYTES : 0);
    for (int i = 0; i < 8; i++)
        CHECK_INT(stamps[i], box);
    return 0;
}

static void look(void)
{
    int rc;
    RUN(store, rc, look_body(s));
    CHECK_INT(rc, 0);
}

static void check_whole(void)
{
    /* All moved together or not at all. */
    int64_t first = (int64_t)value_of(nodes[0]);
    for (int i = 0; i < NODES; i++)
        CHECK_INT(value_of(nodes[i]) - START, i % 2 ? START - first : first - START);
    CHECK_INT(shobj_run(store, move_body, NULL), 0); /* nothing is locked */
    CHECK_INT(node_add(store, lone, 1, true), 0);
    look(); /* before all of the dead has been recovered, and after */
    unsigned reaped;
    shobj_stat stat;
    CHECK_INT(shobj_reap(store, &reaped), 0);
    look();
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    CHECK_INT(stat.sessions, sessions_alive);
    CHECK_INT(stat.processes, processes_alive);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    const struct shm_past *cells = (const struct shm_past *)(store->region->base + SHM_PAST_OFF);
    for (unsigned i = 0; i < SHM_PAST_CELLS; i++)
        CHECK_INT(sho_load(&cells[i].version) & 1, 0); /* none is left half written */
    for (unsigned i = 0; i < sho_region_slot_count(store->region); i++) {
        struct shm_slot *slot = sho_region_slot(store->region, i);
        CHECK_INT(SHM_PHASE(sho_load(&slot->state)), sho_load(&slot->process) == 0 ? SHM_FREE : SHM_IDLE);
    }
}

static uint64_t blocks(void)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    return stat.blocks;
}

/* How often the victim passes the points at which a block is out of its free list and in no log. */
static unsigned passages(const char *name)
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        sho_fault_plan(SHO_FAULT_NONE, 0, name);
        victim();
        _exit((int)sho_fault_passages());
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    check_whole();
    return (unsigned)WEXITSTATUS(status);
}

static unsigned sweep_kill(void)
{
    unsigned kills = 0, lost = 0;
    unsigned may_lose = passages("node.taken") + passages("box.taken") + passages("block.free");
    for (uint64_t k = 1;; k++) {
        uint64_t before = blocks() - (uint64_t)parts;
        bool struck = run_child(victim, SHO_FAULT_KILL, k);
        check_whole();
        CHECK(blocks() - (uint64_t)parts <= before + struck); /* one block at most is lost */
        if (blocks() - (uint64_t)parts > before) /* less: some are found again when a slab changes hands */
            lost += (unsigned)(blocks() - (uint64_t)parts - before);
        if (!struck) {
            CHECK(lost <= may_lose);
            return kills;
        }
        kills++;
    }
}

/* The recoverer dies at its j-th point, the next one finishes. */
static unsigned sweep_kill_recoverer(void)
{
    unsigned kills = 0;
    for (uint64_t k = 1;; k += 3) {
        if (!run_child(victim, SHO_FAULT_KILL, k))
            return kills;
        for (uint64_t j = 1; run_child(recoverer, SHO_FAULT_KILL, j); j++) {
            kills++;
            if (j % 5 == 0) {
                /* Depth: a chain of recoverers, each dying a little later, all on the same victim. */
                break;
            }
        }
        check_whole();
    }
}

/* Stopped while it holds locks but has not decided: nobody waits for it, and it goes on afterwards. */
static void test_stop(const char *point)
{
    uint64_t before = value_of(nodes[0]);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        sho_fault_plan(SHO_FAULT_STOP, 1, point);
        CHECK_INT(shobj_run(store, move_body, NULL), 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, WUNTRACED) == pid);
    CHECK(WIFSTOPPED(status));
    CHECK_INT(value_of(nodes[0]), before);
    CHECK_INT(shobj_run(store, move_body, NULL), 0);
    CHECK_INT(value_of(nodes[0]), before - 1);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_whole();
    CHECK_INT(value_of(nodes[0]), before - 3); /* ours, the continued one's, check_whole's */
}

/* Every fault point that can fail does so once: the operation reports it and leaves nothing. */
static void fail_victim(void)
{
    for (uint64_t k = 1; k < 40; k++) {
        sho_fault_plan(SHO_FAULT_FAIL, k, NULL);
        int rc = shobj_run(store, undone_body, NULL);
        CHECK(rc == SHOBJ_EABORTED || rc == SHOBJ_EFULL);
    }
    shobj_close(store);
}

static void sweep_sessions(void)
{
    for (int i = 0; i < 100; i++) {
        CHECK(run_child(victim, SHO_FAULT_KILL, (uint64_t)(i % 60) + 5));
    }
    check_whole();
    CHECK(sho_region_slot_count(store->region) <= 4 * sessions_alive); /* the dead's slots are used again */
}

int main(void)
{
    store = check_store();
    for (int i = 0; i < NODES; i++)
        nodes[i] = node_new(store, START);
    lone = node_new(store, 0);
    sho_past_lost(session_of(store)); /* commits leave their past, too */
    sho_past_lost(session_of(store));
    CHECK_INT(shobj_txn_begin_read(store), 0);
    CHECK_INT(shobj_txn_commit(store), 0);
    CHECK(sho_load(&store->region->sb->past_until) != 0);
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    sessions_alive = stat.sessions;
    processes_alive = stat.processes;
    unsigned kills = sweep_kill();
    CHECK(kills > 80);
    unsigned twice = sweep_kill_recoverer();
    CHECK(twice > 50);
    test_stop("commit.locked_one");
    test_stop("commit.locked_all");
    test_stop("commit.clock");
    test_stop("commit.before_decide");
    run_child(fail_victim, SHO_FAULT_NONE, 0);
    check_whole();
    sweep_sessions();
    printf("%u kills, %u kills of recoverers\n", kills, twice);
    shobj_close(store);
    return 0;
}
