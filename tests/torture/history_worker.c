/*
 * history_worker.c: a worker of history.c: draws operations and transactions, makes them, and writes them down.
 */
#include <sched.h>

#include "history.h"

enum {
    COUNT_BITS = 20, /* of a number: how many its process has drawn */
    READ_MAX = 48,   /* elements of one call */
    NESTING_MAX = 3
};

/* ---------------------------------------------------------------------------------------------- lines */

static void add_number(struct worker *w, uint32_t number)
{
    if (number != 0)
        line_add(&w->line, "%08" PRIx32, number);
    else
        line_add(&w->line, "????????");
}

void add_op(struct worker *w, char op, unsigned key, uint32_t number)
{
    line_add(&w->line, " %c:%u:", op, key);
    add_number(w, number);
}

uint32_t new_number(struct worker *w)
{
    if (++w->drawn >> COUNT_BITS) {
        pause(); /* all numbers are used up; the parent ends this process as it ends all */
        _exit(3);
    }
    return w->incarnation << COUNT_BITS | w->drawn;
}

void begin_line(struct worker *w, char kind)
{
    w->line.bytes = 0;
    line_add(&w->line, "T %" PRId64 " %c", w->invoked_ns, kind);
}

void write_line(struct worker *w)
{
    *written += w->line.bytes;
    line_write(&w->line, w->file);
}

void end_line(struct worker *w, int64_t ended_ns, bool is_done)
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

int read_in_pieces(struct worker *w, shobj_oid list, unsigned *ret_count)
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

int read_register(struct worker *w, unsigned k)
{
    shobj_key key = int_key(w->store, k);
    shobj_value value;
    int rc = shobj_dict_get(w->store, w->registers, &key, &value);
    if (rc == 0)
        add_op(w, 'g', k, number_of(&value));
    return rc;
}

/* How many registers there are never changes: nobody takes one out without putting it in again. */
static int count_registers(struct worker *w)
{
    uint64_t count;
    int rc = shobj_dict_len(w->store, w->registers, &count);
    if (rc == 0 && count != mix.registers)
        line_add(&w->line, " error:%" PRIu64 "-registers", count);
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
    unsigned choice = draw(&w->random, 104);
    linger(w);
    if (choice >= 99)
        return count_registers(w);
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
        int rc = w->only_reads && draw(&w->random, 4) ? shobj_txn_begin_read(w->store) : shobj_txn_begin(w->store);
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

void look_up(struct worker *w)
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

void work(int file, uint32_t incarnation, uint64_t seed, uint64_t bytes_max)
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
