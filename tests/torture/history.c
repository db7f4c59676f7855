/*
 * history.c: processes that run transactions on one store and write down what they saw, for serializable.py to judge.
 *
 *     history DIRECTORY [SECONDS [SEED [WORKERS [EVERY_US [BYTES]]]]]
 *
 * All that is written into the store can be told apart: each element of a list and each value of a register is a
 * number that is drawn once. Nothing is written blindly: lists are appended to, and before a list is cleared or
 * a register is set, it is read. So the order of all versions of a list or register can be found out from what was
 * read. A clear is followed by an append in the same transaction: the first element names the generation of the list.
 *
 * A worker writes lines to DIRECTORY/worker-N by write(2), so that its death loses none:
 *
 *     T invoked kind op op ... .   an attempt, before its commit is asked for (t: transaction, s: single operation)
 *     E ended ok|failed .          how the attempt ended
 *     D died .                     the process is dead (from its parent); the next lines are of another one
 *
 * and the operations, with K the number of a list or register and V numbers of 8 hexadecimal digits:
 *
 *     a:K:V[V...]   appended             c:K:V   cleared, then appended V
 *     r:K:V[V...]   all of a list        l:K:V   its last element         p:K:V[V...]   its beginning
 *     g:K:V         read a register      w:K:V   set it
 *     {  }  !       begin, end, undoing of a nested block
 *
 * An attempt whose E line is missing may have happened or not. The parent kills some workers with SIGKILL and replaces
 * them, and stops some for a few milliseconds; where the library has fault points, workers die and stop at those, too. In
 * the end it writes down all of the store as one more transaction.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <fcntl.h>

#include "numbers.h"

const char torture_name[] = "history";
static const char usage[] = "history DIRECTORY [SECONDS [SEED [WORKERS [EVERY_US [BYTES]]]]]";

enum {
    WORKERS_MAX = 16,
    LISTS_MAX = 8,
    REGISTERS_MAX = 48,
    INCARNATIONS_MAX = 4095, /* numbers have 12 bits for who drew them */
    COUNT_BITS = 20,
    READ_MAX = 48, /* elements of one call */
    NESTING_MAX = 3
};

/* What this run is like; drawn from the seed. */
static struct {
    unsigned lists, registers, hot_registers;
    unsigned clear_at; /* elements from which on a list is cleared */
    unsigned pause;    /* one operation in so many is followed by a pause */
} mix;

/* Bytes of history written by all, outside the store. */
static _Atomic uint64_t *written;
static char path[300];

/* ---------------------------------------------------------------------------------------------- a worker */

struct worker {
    shobj_store *store;
    uint64_t random;
    uint32_t incarnation, drawn;
    shobj_oid lists, registers;
    shobj_oid list[LISTS_MAX]; /* their objects are never replaced */
    int file;
    struct line line;
    int64_t invoked_ns;  /* of the attempt under way, before its snapshot was taken */
    bool is_undecided;   /* the last line is an attempt that was to be committed */
    bool only_reads;
    unsigned op_count;
    unsigned depth;
};

static void add_number(struct worker *w, uint32_t number)
{
    if (number != 0)
        line_add(&w->line, "%08" PRIx32, number);
    else
        line_add(&w->line, "????????");
}

static void add_op(struct worker *w, char op, unsigned key, uint32_t number)
{
    line_add(&w->line, " %c:%u:", op, key);
    add_number(w, number);
}

static uint32_t new_number(struct worker *w)
{
    if (++w->drawn >> COUNT_BITS) {
        pause(); /* all numbers are used up; the parent ends this process as it ends all */
        _exit(3);
    }
    return w->incarnation << COUNT_BITS | w->drawn;
}

static void begin_line(struct worker *w, char kind)
{
    w->line.bytes = 0;
    line_add(&w->line, "T %" PRId64 " %c", w->invoked_ns, kind);
}

static void write_line(struct worker *w)
{
    *written += w->line.bytes;
    line_write(&w->line, w->file);
}

static void end_line(struct worker *w, int64_t ended_ns, bool is_done)
{
    line_add(&w->line, "E %" PRId64 " %s .\n", ended_ns, is_done ? "ok" : "failed");
}

/* Lets others in between, so that transactions overlap on few processors. */
static void linger(struct worker *w)
{
    uint64_t r = next_random(&w->random);
    if (r % mix.pause)
        return;
    switch (r / mix.pause % 8) {
    case 0:
        usleep((useconds_t)(r >> 20) % 200);
        break;
    case 1:
    case 2:
    case 3:
        sched_yield();
        break;
    default:
        for (unsigned i = (unsigned)(r >> 20) % 2000; i > 0; i--)
            __asm__ volatile("" ::: "memory");
    }
}

/* ---------------------------------------------------------------------------------------------- operations */

static int find_list(struct worker *w, unsigned k, shobj_oid *ret_list)
{
    *ret_list = w->list[k];
    if (draw(&w->random, 2))
        return 0;
    shobj_key key = int_key(w->store, k);
    shobj_value value;
    int rc = shobj_dict_get(w->store, w->lists, &key, &value);
    if (rc == 0)
        *ret_list = value.oid;
    return rc;
}

/* One to four elements by one call. They are in the line before the call is made. */
static int append(struct worker *w, unsigned k)
{
    struct value_room rooms[4];
    shobj_value values[4];
    char where[40];
    shobj_oid list;
    unsigned how = draw(&w->random, 8);
    unsigned count = how < 2 ? 1 + draw(&w->random, 4) : 1;
    int rc = find_list(w, k, &list);
    if (rc < 0)
        return rc;
    line_add(&w->line, " a:%u:", k);
    for (unsigned i = 0; i < count; i++) {
        uint32_t number = new_number(w);
        values[i] = value_of(number, &rooms[i]);
        add_number(w, number);
    }
    if (w->depth == 0) {
        line_add(&w->line, " .\n");
        write_line(w);
    }
    if (how < 2)
        return shobj_list_extend(w->store, list, values, count);
    if (how == 2) {
        snprintf(where, sizeof(where), "/lists/%u/-", k);
        return shobj_path_set(w->store, where, values);
    }
    if (how == 3)
        return shobj_list_insert(w->store, list, INT64_MAX, values);
    return shobj_list_append(w->store, list, values);
}

static int read_in_pieces(struct worker *w, shobj_oid list, unsigned *ret_count)
{
    shobj_value values[READ_MAX];
    size_t count;
    *ret_count = 0;
    for (;;) {
        int rc = shobj_list_read(w->store, list, *ret_count, values, 1 + draw(&w->random, READ_MAX), &count);
        if (rc < 0 || count == 0)
            return rc;
        line_need(&w->line, count * 9);
        for (size_t i = 0; i < count; i++)
            add_number(w, number_of(&values[i]));
        *ret_count += (unsigned)count;
    }
}

static int read_one_by_one(struct worker *w, shobj_oid list, unsigned *ret_count)
{
    uint64_t count;
    shobj_value value;
    int rc = shobj_list_len(w->store, list, &count);
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        rc = shobj_list_get(w->store, list, (int64_t)i, &value);
        if (rc == 0)
            add_number(w, number_of(&value));
    }
    *ret_count = (unsigned)count;
    return rc;
}

/* A list index that was in range a moment ago, or in this transaction, is out of it: no state explains that. */
static int unexpected(struct worker *w, int rc)
{
    if (rc < 0 && rc != SHOBJ_ECONFLICT) {
        line_add(&w->line, " error:%s .\n", shobj_error_name(rc));
        write_line(w);
        must(rc, "an operation of a transaction");
    }
    return rc;
}

static int clear(struct worker *w, unsigned k, shobj_oid list, unsigned count)
{
    struct value_room room;
    uint32_t number = new_number(w);
    shobj_value value = value_of(number, &room);
    int rc = 0;
    if (count < 40 && draw(&w->random, 2)) {
        for (; rc == 0 && count > 0; count--)
            rc = shobj_list_del(w->store, list, draw(&w->random, count), NULL);
    } else {
        rc = shobj_list_clear(w->store, list);
    }
    if (rc < 0)
        return rc;
    rc = shobj_list_append(w->store, list, &value);
    if (rc == 0)
        add_op(w, 'c', k, number);
    return rc;
}

/* All of a list, and then perhaps nothing. */
static int read_list(struct worker *w, unsigned k)
{
    shobj_oid list;
    unsigned count;
    int rc = find_list(w, k, &list);
    if (rc < 0)
        return rc;
    size_t start = w->line.bytes;
    line_add(&w->line, " r:%u:", k);
    rc = draw(&w->random, 8) ? read_in_pieces(w, list, &count) : read_one_by_one(w, list, &count);
    if (rc < 0) {
        w->line.bytes = start; /* only a part of it was read */
        return rc;
    }
    if (!w->only_reads && count >= mix.clear_at && draw(&w->random, 2))
        return clear(w, k, list, count);
    return 0;
}

static int read_last(struct worker *w, unsigned k)
{
    shobj_oid list;
    shobj_value value;
    int rc = find_list(w, k, &list);
    if (rc == 0)
        rc = shobj_list_get(w->store, list, -1, &value);
    if (rc == 0)
        add_op(w, 'l', k, number_of(&value));
    return rc;
}

static unsigned some_register(struct worker *w)
{
    return draw(&w->random, draw(&w->random, 8) ? mix.hot_registers : mix.registers);
}

static int read_register(struct worker *w, unsigned k)
{
    shobj_key key = int_key(w->store, k);
    shobj_value value;
    int rc = shobj_dict_get(w->store, w->registers, &key, &value);
    if (rc == 0)
        add_op(w, 'g', k, number_of(&value));
    return rc;
}

/* Reads a register and sets it: in place, or by taking the key out and putting it in again at the end. */
static int change_register(struct worker *w, unsigned k)
{
    struct value_room room;
    uint32_t number = new_number(w);
    shobj_value value = value_of(number, &room), before;
    shobj_key key = int_key(w->store, k);
    bool by_deleting = draw(&w->random, 3) == 0;
    int rc = by_deleting ? shobj_dict_del(w->store, w->registers, &key, &before)
                         : shobj_dict_get(w->store, w->registers, &key, &before);
    if (rc < 0)
        return rc;
    add_op(w, 'g', k, number_of(&before));
    linger(w);
    rc = draw(&w->random, 2) && by_deleting ? shobj_dict_setdefault(w->store, w->registers, &key, &value, NULL)
                                            : shobj_dict_set(w->store, w->registers, &key, &value);
    if (rc == 0)
        add_op(w, 'w', k, number);
    return rc;
}

static int some_operations(struct worker *w, unsigned count);

static int nested_body(shobj_store *store, void *arg)
{
    struct worker *w = arg;
    return some_operations(w, 1 + draw(&w->random, 3));
}

static int nested_block(struct worker *w)
{
    bool is_undone = draw(&w->random, 2);
    int rc;
    line_add(&w->line, " {");
    w->depth++;
    if (!is_undone && draw(&w->random, 2)) {
        rc = shobj_run(w->store, nested_body, w);
    } else {
        rc = shobj_txn_begin(w->store);
        if (rc == 0) {
            rc = nested_body(w->store, w);
            if (rc < 0 || is_undone)
                shobj_txn_abort(w->store);
            else
                rc = shobj_txn_commit(w->store);
        }
    }
    w->depth--;
    line_add(&w->line, is_undone || rc < 0 ? " !" : " }");
    return rc;
}

static int one_operation(struct worker *w)
{
    unsigned k = draw(&w->random, mix.lists);
    unsigned choice = draw(&w->random, 100);
    linger(w);
    if (choice < 8 && w->depth < NESTING_MAX)
        return nested_block(w);
    if (choice < 25)
        return read_list(w, k);
    if (choice < 40)
        return read_last(w, k);
    if (choice < 55 || w->only_reads)
        return choice % 2 && w->only_reads ? read_last(w, k) : read_register(w, some_register(w));
    return choice < 72 ? change_register(w, some_register(w)) : append(w, k);
}

static int some_operations(struct worker *w, unsigned count)
{
    for (; count > 0; count--) {
        int rc = unexpected(w, one_operation(w));
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------- attempts */

/* One attempt: its line is written before its commit is asked for. EABORTED: on a whim. */
static int attempt(shobj_store *store, void *arg)
{
    struct worker *w = arg;
    if (w->is_undecided) { /* shobj_run() comes again: the last one was not committed */
        w->is_undecided = false;
        end_line(w, now_ns(), false);
        write_line(w);
    }
    begin_line(w, 't');
    w->depth = 1;
    int rc = some_operations(w, w->op_count);
    linger(w);
    if (rc == 0 && draw(&w->random, 12) == 0)
        rc = SHOBJ_EABORTED;
    line_add(&w->line, " .\n");
    w->invoked_ns = now_ns(); /* before the snapshot of the next attempt, if there will be one */
    if (rc < 0)
        end_line(w, w->invoked_ns, false);
    else
        w->is_undecided = true;
    write_line(w);
    return rc;
}

/* By hand what shobj_run() does, but without a pause after a failure. */
static int run_by_hand(struct worker *w)
{
    for (;;) {
        w->invoked_ns = now_ns();
        int rc = shobj_txn_begin(w->store);
        if (rc < 0)
            return rc;
        rc = attempt(w->store, w);
        if (rc < 0) {
            shobj_txn_abort(w->store);
        } else {
            rc = shobj_txn_commit(w->store);
        }
        if (rc != SHOBJ_ECONFLICT)
            return rc;
    }
}

static void transaction(struct worker *w)
{
    w->only_reads = draw(&w->random, 4) == 0;
    w->op_count = 1 + draw(&w->random, 6);
    w->invoked_ns = now_ns();
    int rc = draw(&w->random, 2) ? shobj_run(w->store, attempt, w) : run_by_hand(w);
    int64_t ended_ns = now_ns();
    must(rc == SHOBJ_EABORTED ? 0 : rc, "a transaction");
    if (!w->is_undecided)
        return;
    w->is_undecided = false;
    end_line(w, ended_ns, true);
    write_line(w);
}

/* An operation outside of transactions, which is one by itself. */
static void single_operation(struct worker *w)
{
    unsigned k = draw(&w->random, mix.lists), choice = draw(&w->random, 6);
    shobj_value values[READ_MAX];
    size_t count;
    int rc;
    w->depth = 0;
    w->only_reads = true;
    w->invoked_ns = now_ns();
    begin_line(w, 's');
    if (choice < 3) {
        rc = append(w, k);
    } else {
        if (choice == 3) {
            rc = shobj_list_read(w->store, w->list[k], 0, values, READ_MAX, &count);
            line_add(&w->line, " p:%u:", k);
            line_need(&w->line, READ_MAX * 9);
            for (size_t i = 0; rc == 0 && i < count; i++)
                add_number(w, number_of(&values[i]));
        } else {
            rc = choice == 4 ? read_last(w, k) : read_register(w, some_register(w));
        }
        line_add(&w->line, " .\n");
    }
    int64_t ended_ns = now_ns();
    if (rc == SHOBJ_ENOTFOUND && choice == 4)
        fprintf(stderr, "history: list %u has no elements, as no transaction leaves it\n", k);
    must(rc, "a single operation");
    end_line(w, ended_ns, true);
    write_line(w);
}

static shobj_oid object_at(shobj_store *store, const char *where)
{
    shobj_value value;
    must(shobj_path_get(store, where, &value), where);
    return value.oid;
}

static void look_up(struct worker *w)
{
    shobj_options options = {.mode = SHOBJ_OPEN_WRITE};
    shobj_value value;
    must(shobj_open(path, &options, &w->store), "opening the store");
    w->lists = object_at(w->store, "/lists");
    w->registers = object_at(w->store, "/registers");
    for (unsigned k = 0; k < mix.lists; k++) {
        shobj_key key = int_key(w->store, k);
        must(shobj_dict_get(w->store, w->lists, &key, &value), "finding a list");
        w->list[k] = value.oid;
    }
}

__attribute__((noreturn)) static void work(int file, uint32_t incarnation, uint64_t seed, uint64_t bytes_max)
{
    struct worker w = {.random = seed | 1, .incarnation = incarnation, .file = file};
    look_up(&w);
    while (*written < bytes_max) {
        if (draw(&w.random, 4) == 0)
            single_operation(&w);
        else
            transaction(&w);
    }
    for (;;)
        pause(); /* enough is written down; to be killed */
}

/* ---------------------------------------------------------------------------------------------- the parent */

static int open_file(const char *directory, const char *name, unsigned number)
{
    char file[400];
    snprintf(file, sizeof(file), "%s/%s-%u", directory, name, number);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die(file);
    return fd;
}

/* The store as it begins, written down as the first transaction. */
static void build(const char *directory)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = UINT64_C(1) << 30};
    struct worker w = {.incarnation = INCARNATIONS_MAX, .file = open_file(directory, "first", 0)};
    struct value_room room;
    shobj_value value;
    shobj_oid list;

    must(shobj_open(path, &options, &w.store), "creating the store");
    w.invoked_ns = now_ns();
    begin_line(&w, 't');
    must(shobj_dict_new(w.store, NULL, 0, &w.lists), "making a dict");
    must(shobj_dict_new(w.store, NULL, 0, &w.registers), "making a dict");
    value = (shobj_value){.type = SHOBJ_OBJECT, .oid = w.lists};
    must(shobj_path_set(w.store, "/lists", &value), "storing a dict");
    value.oid = w.registers;
    must(shobj_path_set(w.store, "/registers", &value), "storing a dict");
    for (unsigned k = 0; k < mix.lists; k++) {
        shobj_key key = int_key(w.store, k);
        uint32_t number = new_number(&w);
        value = value_of(number, &room);
        must(shobj_list_new(w.store, &value, 1, &list), "making a list");
        add_op(&w, 'c', k, number);
        value = (shobj_value){.type = SHOBJ_OBJECT, .oid = list};
        must(shobj_dict_set(w.store, w.lists, &key, &value), "storing a list");
        /* "/lists/0/-" in an address finds the same list by a key that is text. */
        char text[12];
        shobj_value name = {.type = SHOBJ_STR, .data = text, .count = (size_t)snprintf(text, sizeof(text), "%u", k)};
        must(shobj_key_init(w.store, &name, &key), "making a key");
        must(shobj_dict_set(w.store, w.lists, &key, &value), "storing a list");
    }
    for (unsigned k = 0; k < mix.registers; k++) {
        shobj_key key = int_key(w.store, k);
        uint32_t number = new_number(&w);
        value = value_of(number, &room);
        must(shobj_dict_set(w.store, w.registers, &key, &value), "setting a register");
        add_op(&w, 'w', k, number);
    }
    line_add(&w.line, " .\n");
    end_line(&w, now_ns(), true);
    write_line(&w);
    close(w.file);
    shobj_close(w.store);
}

/* In a process of its own: this one has not passed a fault point when it plans those of its workers. */
static void build_apart(const char *directory)
{
    int status;
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        build(directory);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "history: building the store failed\n");
        exit(2);
    }
}

static int read_everything(shobj_store *store, void *arg)
{
    struct worker *w = arg;
    unsigned count;
    begin_line(w, 't');
    w->depth = 1;
    for (unsigned k = 0; k < mix.lists; k++) {
        line_add(&w->line, " r:%u:", k);
        int rc = read_in_pieces(w, w->list[k], &count);
        if (rc < 0)
            return rc;
    }
    for (unsigned k = 0; k < mix.registers; k++) {
        int rc = read_register(w, k);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void print_problem(const char *line, void *arg)
{
    printf("FAILED: check: %s\n", line);
}

/* When all are dead: the store as it is, written down as the last transaction. The number of failures. */
static int look_afterwards(const char *directory)
{
    struct worker w = {.random = 1, .only_reads = true, .file = open_file(directory, "last", 0)};
    uint64_t problems = 0;
    shobj_stat stat;
    unsigned reaped;

    look_up(&w);
    w.invoked_ns = now_ns();
    must(shobj_run(w.store, read_everything, &w), "reading everything");
    line_add(&w.line, " .\n");
    end_line(&w, now_ns(), true);
    write_line(&w);
    close(w.file);
    must(shobj_reap(w.store, &reaped), "reaping");
    int rc = shobj_check(w.store, print_problem, NULL, &problems);
    must(shobj_stat_get(w.store, &stat), "reading the counters");
    if (stat.sessions != 1)
        printf("FAILED: %" PRIu64 " sessions are attached, not this one alone\n", stat.sessions);
    printf("recoveries %" PRIu64 "\nconflicts %" PRIu64 "\nrestarts %" PRIu64 "\n", stat.recoveries, stat.conflicts,
           stat.retries);
    shobj_close(w.store);
    return (rc != 0 || problems != 0) + (stat.sessions != 1);
}

struct storm {
    struct victim {
        pid_t pid;
        int file;
        int64_t go_on_ns; /* it is stopped until then; 0: it runs, as far as is known */
    } victims[WORKERS_MAX];
    unsigned workers;
    uint32_t incarnation;
    uint64_t seed, bytes_max;
    unsigned kills, stops;
    int failures;
};

/* If the library has fault points, most workers die or stop at one of them, sooner or later. */
static void plan_fault(uint64_t *seed)
{
    char text[40];
    unsigned kind = draw(seed, 4);
    unsigned passage = 1 + draw(seed, 2u << draw(seed, 14));
    snprintf(text, sizeof(text), "%s:%u", kind == 0 ? "kill" : "stop", passage);
    if (kind < 3)
        setenv("SHOBJ_FAULT", text, 1);
    else
        unsetenv("SHOBJ_FAULT");
}

static void start(struct storm *storm, struct victim *v)
{
    uint64_t seed = next_random(&storm->seed) | 1;
    v->go_on_ns = 0;
    v->pid = fork();
    if (v->pid < 0)
        die("fork");
    storm->incarnation++;
    if (v->pid == 0) {
        plan_fault(&seed);
        work(v->file, storm->incarnation, seed, storm->bytes_max);
    }
}

/* It is dead: anybody who begins now begins after that. */
static void bury(struct storm *storm, struct victim *v, int status)
{
    struct line line = {0};
    line_add(&line, "\nD %" PRId64 " .\n", now_ns());
    line_write(&line, v->file);
    free(line.text);
    v->pid = 0;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        storm->kills++;
        return;
    }
    printf("FAILED: a worker ended by itself, status %d\n", status);
    storm->failures++;
}

static void end(struct storm *storm, struct victim *v)
{
    int status;
    kill(v->pid, SIGKILL);
    do {
        if (waitpid(v->pid, &status, 0) != v->pid)
            die("waitpid");
    } while (!WIFSIGNALED(status) && !WIFEXITED(status));
    bury(storm, v, status);
}

/* Replaces who has died of a fault, and lets who has stopped go on after a while. */
static void attend(struct storm *storm)
{
    for (struct victim *v = storm->victims; v < storm->victims + storm->workers; v++) {
        int status;
        if (waitpid(v->pid, &status, WNOHANG | WUNTRACED) == v->pid) {
            if (!WIFSTOPPED(status)) {
                bury(storm, v, status);
                start(storm, v);
            } else if (v->go_on_ns == 0) {
                v->go_on_ns = now_ns() + draw(&storm->seed, 5000000);
                storm->stops++;
            }
        }
        if (v->go_on_ns != 0 && v->go_on_ns <= now_ns()) {
            v->go_on_ns = 0;
            kill(v->pid, SIGCONT);
        }
    }
}

static void strike(struct storm *storm)
{
    struct victim *v = &storm->victims[draw(&storm->seed, storm->workers)];
    if (v->go_on_ns == 0 && draw(&storm->seed, 3) == 0) {
        kill(v->pid, SIGSTOP);
        v->go_on_ns = now_ns() + draw(&storm->seed, 5000000);
        storm->stops++;
        return;
    }
    end(storm, v);
    start(storm, v);
}

/* The number of failures. */
static int rage(struct storm *storm, const char *directory, double seconds, unsigned every_us)
{
    for (unsigned i = 0; i < storm->workers; i++) {
        storm->victims[i].file = open_file(directory, "worker", i);
        start(storm, &storm->victims[i]);
    }
    int64_t next_ns = now_ns(), end_ns = next_ns + (int64_t)(seconds * 1e9);
    while (storm->failures == 0 && now_ns() < end_ns && *written < storm->bytes_max &&
           storm->incarnation < INCARNATIONS_MAX - WORKERS_MAX) {
        usleep(300);
        attend(storm);
        if (now_ns() >= next_ns) {
            next_ns += 1 + draw(&storm->seed, 2000) * (int64_t)every_us;
            strike(storm);
        }
    }
    for (unsigned i = 0; i < storm->workers; i++) {
        end(storm, &storm->victims[i]);
        close(storm->victims[i].file);
    }
    printf("kills %u\nstops %u\n", storm->kills, storm->stops);
    return storm->failures;
}

static void draw_mix(uint64_t seed)
{
    static const unsigned registers[] = {3, 8, REGISTERS_MAX}, clear_at[] = {6, 40, 90, 300};
    mix.lists = 2 + draw(&seed, LISTS_MAX - 1);
    mix.registers = registers[draw(&seed, 3)];
    mix.hot_registers = mix.registers < 6 ? mix.registers : 6;
    mix.clear_at = clear_at[draw(&seed, 4)];
    mix.pause = 3 + draw(&seed, 20);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 7) {
        fprintf(stderr, "usage: %s\n", usage);
        return 2;
    }
    const char *directory = argv[1];
    double seconds = number_argument(argc, argv, 2, 1, 0, 1e6, usage);
    uint64_t seed = (uint64_t)number_argument(argc, argv, 3, (double)(now_ns() % 1000000000), 0, 1e15, usage);
    unsigned workers = (unsigned)number_argument(argc, argv, 4, 4, 1, WORKERS_MAX, usage);
    unsigned every_us = (unsigned)number_argument(argc, argv, 5, 2000, 1, 1e9, usage);
    uint64_t bytes_max = (uint64_t)number_argument(argc, argv, 6, 16e6, 0, 1e12, usage);

    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *heaps = getenv("SHOBJ_DIR");
    snprintf(path, sizeof(path), "%s/shobj-history-%d", heaps ? heaps : "/dev/shm", (int)getpid());
    written = mmap(NULL, sizeof(*written), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (written == MAP_FAILED)
        die("mmap");
    seed = seed * 2 + 1;
    for (unsigned i = 0; i < 8; i++)
        next_random(&seed); /* seeds that are close to each other go different ways */
    draw_mix(next_random(&seed) | 1);
    struct storm storm = {.workers = workers, .seed = seed, .bytes_max = bytes_max};
    build_apart(directory);
    int failures = rage(&storm, directory, seconds, every_us);
    failures += look_afterwards(directory);
    if (failures) {
        printf("the store is kept: %s\n", path);
        return EXIT_FAILURE;
    }
    must(shobj_unlink(path, false), "removing the store");
    return EXIT_SUCCESS;
}
