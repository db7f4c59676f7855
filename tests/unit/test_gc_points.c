/*
 * test_gc_points.c: one who stands still, or dies, at any point of a collection or of a change beside one, while others go on: nobody
 * waits for him, nothing that is reachable goes, and when he has gone on or been cleaned up after, all else has gone. And objects
 * that are pinned by their id alone while a collection comes from any phase to any later one.
 *
 * An argument: how many random points are tried (SHOBJ_SEED draws them).
 */
#include <signal.h>
#include <sys/wait.h>

#include "stops.h"

static uint64_t random_state;

static unsigned below(unsigned bound)
{
    return (unsigned)(check_random(&random_state) % bound);
}

/* ------------------------------------------------------------------------------------------ pins by id */

static unsigned phases_meanwhile;

static void go_on_meanwhile(void)
{
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    go_on(phases_meanwhile);
}

/* Pins an object of which only the id is known (or, `is_kept`, that another pin keeps), when the collection is in phase `from`, and while
 * the pinning one stands at `point` it moves on. */
static bool pin_by_id(const char *point, unsigned from, unsigned phases, bool is_kept)
{
    shobj_value item = integer(12);
    item = object(new_list(&item, 1));
    shobj_oid inner = item.oid, oid = new_list(&item, 1);
    uint32_t other = pin(oid), at;
    release_all();
    if (!is_kept)
        shobj_unpin(pins, other);
    go_on(from);
    CHECK_INT(SHM_GC_PHASE(sho_load(&store->region->sb->gc)), from);
    phases_meanwhile = phases;
    sho_fault_plan_call(go_on_meanwhile, 1, point);
    int rc = shobj_pin(pins, oid, &at);
    bool met = sho_fault_passages() != 0 || SHM_GC_PHASE(sho_load(&store->region->sb->gc)) != from;
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    if (is_kept)
        shobj_unpin(pins, other);
    finish_cycle();
    CHECK(rc == 0 || (rc == SHOBJ_ESTALE && !is_kept));
    collect();
    CHECK_INT(is_alive(oid), rc == 0);
    CHECK_INT(is_alive(inner), rc == 0);
    AUDIT(store, rc == 0 ? 3 : 1);
    if (rc == 0) {
        shobj_value value;
        CHECK_INT(shobj_list_get(store, inner, 0, &value), 0);
        CHECK_INT(value.i, 12);
        shobj_unpin(pins, at);
    }
    collect();
    AUDIT(store, 1);
    return met;
}

static void test_pins_by_id(void)
{
    static const char *const points[] = {"pin.stored", "pin.looked", "pin.shaded", "gc.shaded"};
    unsigned met = 0;
    begin();
    for (unsigned k = 0; k < sizeof(points) / sizeof(points[0]); k++)
        for (unsigned from = SHM_GC_IDLE; from <= SHM_GC_SWEEP; from++)
            for (unsigned phases = 1; phases <= 11; phases++)
                for (int is_kept = 0; is_kept < 2; is_kept++)
                    met += pin_by_id(points[k], from, phases, is_kept);
    CHECK(met > 100);
    finish();
}

/* ------------------------------------------------------------------------------------------ a block in transit */

static uint64_t taken_passage;

static void when_named(void)
{
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    go_on(2); /* SWEEP, and its end */
}

static void when_taken(void)
{
    sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
    go_on(4); /* up to KILL: roots have been read */
    sho_fault_plan_call(when_named, 1, "node.named");
}

/* So many new objects that the log needs another segment in the middle of some object's taking. */
static int many_body(shobj_store *st, void *arg)
{
    enum { MANY = 460 };
    static shobj_value items[MANY];
    sho_fault_plan_call(when_taken, taken_passage, "node.taken");
    for (int i = 0; i < MANY; i++) {
        int rc = shobj_list_new(st, NULL, 0, &items[i].oid);
        if (rc)
            return rc;
        items[i].type = SHOBJ_OBJECT;
    }
    shobj_oid list;
    int rc = shobj_list_new(st, items, MANY, &list);
    shobj_value value = object(list);
    shobj_key key = key_of(1);
    (void)arg;
    return rc ? rc : shobj_dict_set(st, shobj_root(st), &key, &value);
}

static void test_taking(void)
{
    begin();
    for (taken_passage = 1; taken_passage < 460; taken_passage += taken_passage < 360 ? 40 : 1) {
        shobj_detach(store); /* with its log segments */
        shobj_detach(store);
        CHECK_INT(shobj_run(store, many_body, NULL), 0);
        finish_cycle();
        collect();
        AUDIT(store, 0);
        shobj_oid list = get(shobj_root(store), 1).oid;
        for (int i = 0; i < 460; i++) {
            shobj_value value;
            CHECK_INT(shobj_list_get(store, list, i, &value), 0);
            CHECK(is_alive(value.oid));
        }
    }
    finish();
}

/* ------------------------------------------------------------------------------------------ anybody, anywhere */

static struct model ours, theirs;
static int collections; /* that the one who stands still makes */

static void work(void)
{
    for (int i = 0; i < 25; i++) {
        step(&theirs);
        pin_weakly(&theirs);
        CHECK(shobj_run(store, send_body, &theirs) == 0);
        take_slowly(&theirs);
    }
}

static void work_collecting(void)
{
    for (int i = 0; i < collections; i++) {
        work();
        CHECK_INT(shobj_collect(store, 1), 0);
    }
}

static void begin_two(void)
{
    begin();
    mailbox = new_list(NULL, 0);
    set(shobj_root(store), -1, object(mailbox));
    model_begin(&ours, 1, check_random(&random_state));
    model_begin(&theirs, 2, check_random(&random_state));
    for (int i = 0; i < 60; i++) {
        step(&ours);
        step(&theirs);
    }
}

static void finish_two(void)
{
    judge(&ours, true);
    judge(&theirs, true);
    release_all();
    AUDIT(store, 0);
    shobj_pins_close(ours.pins);
    shobj_pins_close(theirs.pins);
    finish();
}

static bool is_sweeping(void)
{
    for (unsigned i = 0; i < sho_region_slot_count(store->region); i++)
        if (sho_load(&sho_region_slot(store->region, i)->sweeping) != 0)
            return true;
    return false;
}

/* Another stands at the passage-th point while we change things and collect, whole. False: it did not come so far. */
static bool stand_still(void (*fn)(void), const char *point, uint64_t passage)
{
    begin_two();
    bool stood = start_until(fn, passage, point);
    bool sweeping = is_sweeping();
    for (unsigned round = stood && sweeping ? 1 : 2; round > 0; round--) { /* a sweeper is waited for, but not for ever */
        uint64_t began = sho_monotonic_ns();
        release_all();
        CHECK_INT(shobj_collect(store, 1), 0);
        CHECK(sho_monotonic_ns() - began < 10000000000u);
        if (sweeping)
            CHECK(sho_load(&store->region->sb->gc_held_slabs) <= 1);
        judge(&ours, true);
        for (unsigned i = below(30); i > 0; i--) {
            step(&ours);
            pin_weakly(&ours);
        }
    }
    finish_actor();
    collect();
    CHECK_INT(sho_load(&store->region->sb->gc_held_slabs), 0);
    finish_two();
    return stood;
}

/* The collector's points: a few passages of each. */
static void test_points_of_helpers(void)
{
    static const char *const points[] = {
        "gc.begun",   "gc.armed_slot", "gc.scanned_holds", "gc.scanned_pins", "gc.scanned_slot", "gc.shaded",   "gc.scanned",
        "gc.counted", "gc.blackened",  "gc.passed",        "gc.judge",        "gc.kill",         "gc.killed",   "gc.step",
        "gc.swept",   "sweep.judge",   "sweep.claim",      "sweep.claimed",   "sweep.freed",     "sweep.done"};
    for (unsigned k = 0; k < sizeof(points) / sizeof(points[0]); k++) {
        bool waits = strncmp(points[k], "sweep", 5) == 0; /* others give the slab's sweeper a second */
        collections = 1;
        unsigned stood = 0;
        for (unsigned i = 0; i < 12 && stood < (waits ? 2 : 6); i++)
            stood += stand_still(work_collecting, points[k], stood == 0 ? 1 : 2 + below(12));
        CHECK(stood > 0);
    }
}

static void test_points_at_random(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        collections = (int)below(3);
        stand_still(collections > 0 ? work_collecting : work, NULL, 1 + below(collections > 0 ? 6000 : 2500));
    }
}

/* ------------------------------------------------------------------------------------------ those who have lost */

static void collect_here(void)
{
    CHECK_INT(shobj_collect(store, 1), 0);
}

static void *remove_it(void *arg)
{
    (void)arg;
    unset(shobj_root(store), 1);
    shobj_detach(store);
    return NULL;
}

static unsigned executions;

/* Reads on in a list that another has taken away, while a collection kills what is in it: it has lost, and nothing is damaged. */
static int read_on_body(shobj_store *st, void *arg)
{
    shobj_value value;
    shobj_key key = key_of(1);
    (void)arg;
    executions++;
    int rc = shobj_dict_get(st, shobj_root(st), &key, &value);
    if (rc)
        return rc == SHOBJ_ENOTFOUND ? 0 : rc;
    get(shobj_root(st), 2); /* lets go of it */
    in_thread(remove_it);
    CHECK(start_until(collect_here, 1, "gc.killed"));
    shobj_value inner;
    rc = shobj_list_get(st, value.oid, 0, &inner);
    finish_actor();
    CHECK_INT(rc, SHOBJ_ECONFLICT);
    return rc;
}

static void test_lost(void)
{
    begin();
    set(shobj_root(store), 2, integer(1));
    shobj_value item = object(new_list(NULL, 0)); /* in front of the one that refers to it: killed before */
    set(shobj_root(store), 1, object(new_list(&item, 1)));
    release_all();
    executions = 0;
    CHECK_INT(shobj_run(store, read_on_body, NULL), 0);
    CHECK_INT(executions, 2);
    finish();
}

/* ------------------------------------------------------------------------------------------ death */

/* A child that does the same dies at the passage-th point; ours goes on beside what it leaves. True if it died there. */
static bool die(void (*fn)(void), const char *point, uint64_t passage)
{
    begin_two();
    shobj_pins_close(theirs.pins); /* the child's copy of them is the child's */
    theirs.pins = NULL;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK_INT(shobj_pins_open(store, &theirs.pins), 0);
        for (int i = 0; i < OBJECTS; i++)
            theirs.things[i].is_pinned = false;
        sho_fault_plan(SHO_FAULT_KILL, passage, point);
        fn();
        _exit(0);
    }
    for (int i = 0; i < 20; i++)
        step(&ours);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    CHECK(died || status == 0);
    for (int i = 0; i < 10; i++)
        step(&ours);
    release_all();
    unsigned reaped;
    CHECK_INT(shobj_reap(store, &reaped), 0);
    CHECK_INT(shobj_collect(store, 1), 0);
    judge(&ours, true);
    audit left = AUDIT(store, 0);
    CHECK_INT(left.lost, 0);
    if (store->twin == NULL) /* else this thread has two sessions, and one of them has collected */
        CHECK_INT(left.lost_owned, 0);
    CHECK_INT(shobj_list_clear(store, mailbox), 0);
    unset(shobj_root(store), 2);
    shobj_pins_close(ours.pins);
    shobj_detach(store);
    shobj_detach(store);
    CHECK_INT(shobj_collect(store, 1), 0); /* nobody owns a slab */
    left = AUDIT(store, 0);
    CHECK_INT(left.lost + left.lost_owned, 0);
    finish();
    return died;
}

static void test_deaths(unsigned count)
{
    static const char *const points[] = {
        "gc.begun",   "gc.armed_slot", "gc.scanned_holds", "gc.scanned_pins", "gc.scanned_slot", "gc.shaded",  "gc.scanned",
        "gc.counted", "gc.blackened",  "gc.passed",        "gc.judge",        "gc.kill",         "gc.killed",  "gc.step",
        "gc.swept",   "sweep.judge",   "sweep.claim",      "sweep.claimed",   "sweep.freed",     "sweep.done", "sweep.looks",
        "sweep.found", "pin.stored",   "pin.cleared",      "block.taken",     "block.free",      "block.freed", "node.taken",
        "node.written", "node.named",  "box.taken",        "run.claimed",     "run.shrunk",      "slab.claim", "slab.popped",
        "slab.list",  "log.append",    "commit.locked_all", "commit.decided", "commit.freed"};
    unsigned died = 0;
    for (unsigned k = 0; k < sizeof(points) / sizeof(points[0]); k++)
        for (int i = 0; i < 4; i++) {
            collections = 1;
            died += die(work_collecting, points[k], 1 + (i == 0 ? 0 : below(40)));
        }
    for (unsigned i = 0; i < count; i++) {
        collections = 1 + (int)below(2);
        died += die(work_collecting, NULL, 1 + below(6000));
    }
    printf("%u deaths\n", died);
    CHECK(died > sizeof(points) / sizeof(points[0]));
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    random_state = check_seed();
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 40;
    test_taking();
    test_lost();
    test_pins_by_id();
    test_points_of_helpers();
    test_points_at_random(count);
    test_deaths(count);
    return 0;
}
