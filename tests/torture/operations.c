/*
 * operations.c: processes that make single operations on one small dict or list at the same time, round after round,
 * and write down each call and its result, for linearizable.py to judge.
 *
 *     operations FILE [SECONDS [SEED [PROCESSES [BYTES]]]]
 *
 * Each round begins with a dict or a list of a known content, often one at the edge of a form (a head that is full, a
 * chunk or leaf that will split or join). The processes start together and make a few operations each, without
 * transactions.
 * The file has a line for each round and each operation:
 *
 *     R dict|list content
 *     O process called returned name argument ... = result
 *
 * Keys and values are numbers, an absent one is "-"; content is key:value,key:value or value,value.
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <fcntl.h>

#include "numbers.h"

const char torture_name[] = "operations";
static const char usage[] = "operations FILE [SECONDS [SEED [PROCESSES [BYTES]]]]";

enum {
    PROCESSES_MAX = 6,
    OPERATIONS_MAX = 6,  /* of a process in a round */
    TEXT_MAX = 1200,     /* of an operation */
    READ_MAX = 80,
    SPINS = 3000
};

/* One process's part of a round. */
struct part {
    _Atomic uint32_t round_done;
    unsigned count;
    struct {
        int64_t called_ns, returned_ns;
        char text[TEXT_MAX];
    } operations[OPERATIONS_MAX];
};

/* What the processes share outside the store. */
static struct {
    _Atomic uint32_t round; /* to be worked on; UINT32_MAX: there will be no more */
    bool is_dict;
    unsigned size;  /* of the content at the start */
    unsigned count; /* operations of each process */
    struct part parts[PROCESSES_MAX];
} *shared;

static char path[300];

struct worker {
    shobj_store *store;
    shobj_oid dict, list;
    unsigned process;
    uint64_t random;
    uint32_t drawn;
    char *text; /* of the operation under way */
    size_t bytes;
};

/* ---------------------------------------------------------------------------------------------- words of a line */

__attribute__((format(printf, 2, 3))) static void say(struct worker *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    w->bytes += (size_t)vsnprintf(w->text + w->bytes, TEXT_MAX - w->bytes, format, args);
    va_end(args);
    if (w->bytes >= TEXT_MAX) {
        fprintf(stderr, "operations: an operation takes more than %d bytes to tell\n", TEXT_MAX);
        _exit(3);
    }
}

static shobj_value new_value(struct worker *w, struct value_room *room)
{
    uint32_t number = (w->process + 1) << 24 | (++w->drawn & 0xffffff);
    say(w, " %" PRIu32, number);
    return value_of(number, room);
}

/* The result of a call: what it gave, nothing, or that there is no such thing. */
static void say_result(struct worker *w, int rc, const shobj_value *value)
{
    if (rc == SHOBJ_ENOTFOUND)
        say(w, " = -");
    else if (rc < 0)
        say(w, " = %s", shobj_error_name(rc));
    else if (value == NULL)
        say(w, " = ok");
    else
        say(w, " = %" PRIu32, number_of(value));
}

/* Keys of even numbers are ints, of odd ones texts that need a block. */
static shobj_key key_of(struct worker *w, unsigned number)
{
    static char text[40];
    shobj_value value = int_value(number);
    shobj_key key;
    if (number % 2)
        value = (shobj_value){.type = SHOBJ_STR, .data = text,
                              .count = (size_t)snprintf(text, sizeof(text), "key number %u", number)};
    must(shobj_key_init(w->store, &value, &key), "making a key");
    return key;
}

static unsigned number_of_key(const shobj_value *value)
{
    if (value->type == SHOBJ_INT)
        return (unsigned)value->i;
    return value->count > 11 ? (unsigned)strtoul((const char *)value->data + 11, NULL, 10) : UINT32_MAX;
}

/* ---------------------------------------------------------------------------------------------- operations */

static void say_items(struct worker *w, int rc, const shobj_item *items, size_t count)
{
    if (rc < 0) {
        say_result(w, rc, NULL);
        return;
    }
    say(w, " = ");
    for (size_t i = 0; i < count; i++)
        say(w, "%s%u:%" PRIu32, i ? "," : "", number_of_key(&items[i].key), number_of(&items[i].value));
}

static void dict_operation(struct worker *w, int64_t *ret_called_ns, int64_t *ret_returned_ns)
{
    struct value_room room;
    shobj_value value, given;
    shobj_item items[32];
    shobj_dict_iter iter;
    uint64_t length;
    size_t count = 0;
    bool has;
    int rc;
    /* Few keys: some of those that are there, the last ones, some that are not. */
    unsigned number = draw(&w->random, 4) + (draw(&w->random, 4) && shared->size > 1 ? shared->size - 2 : 0);
    shobj_key key = key_of(w, number);
    unsigned choice = draw(&w->random, 100);

#define TIMED(call) (*ret_called_ns = now_ns(), rc = (call), *ret_returned_ns = now_ns())
    if (choice < 20) {
        say(w, "get %u", number);
        TIMED(shobj_dict_get(w->store, w->dict, &key, &value));
        say_result(w, rc, &value);
    } else if (choice < 40) {
        say(w, "set %u", number);
        given = new_value(w, &room);
        TIMED(shobj_dict_set(w->store, w->dict, &key, &given));
        say_result(w, rc, NULL);
    } else if (choice < 55) {
        say(w, "del %u", number);
        TIMED(shobj_dict_del(w->store, w->dict, &key, &value));
        say_result(w, rc, &value);
    } else if (choice < 67) {
        say(w, "setdefault %u", number);
        given = new_value(w, &room);
        TIMED(shobj_dict_setdefault(w->store, w->dict, &key, &given, &value));
        say_result(w, rc, &value);
    } else if (choice < 77) {
        bool first = draw(&w->random, 2);
        say(w, "popitem %d", first);
        TIMED(shobj_dict_popitem(w->store, w->dict, first, items));
        say_items(w, rc, items, 1);
    } else if (choice < 82) {
        say(w, "has %u", number);
        TIMED(shobj_dict_has(w->store, w->dict, &key, &has));
        say(w, " = %d", rc < 0 ? rc : has);
    } else if (choice < 89) {
        say(w, "len");
        TIMED(shobj_dict_len(w->store, w->dict, &length));
        say(w, " = %" PRId64, rc < 0 ? rc : (int64_t)length);
    } else if (choice < 98) {
        say(w, "items");
        shobj_dict_iter_init(&iter, w->dict, false);
        TIMED(shobj_dict_iter_next(w->store, &iter, items, 32, &count));
        say_items(w, rc, items, count);
    } else {
        say(w, "clear");
        TIMED(shobj_dict_clear(w->store, w->dict));
        say_result(w, rc, NULL);
    }
}

static void list_operation(struct worker *w, int64_t *ret_called_ns, int64_t *ret_returned_ns)
{
    struct value_room room, room2;
    shobj_value values[READ_MAX], value;
    uint64_t length;
    size_t count = 0;
    int rc;
    int64_t index = draw(&w->random, 3) ? (int64_t)draw(&w->random, shared->size + 2) : -1;
    unsigned choice = draw(&w->random, 100);

    if (choice < 18) {
        say(w, "get %" PRId64, index);
        TIMED(shobj_list_get(w->store, w->list, index, &value));
        say_result(w, rc, &value);
    } else if (choice < 30) {
        say(w, "set %" PRId64, index);
        value = new_value(w, &room);
        TIMED(shobj_list_set(w->store, w->list, index, &value));
        say_result(w, rc, NULL);
    } else if (choice < 45) {
        say(w, "append");
        value = new_value(w, &room);
        TIMED(shobj_list_append(w->store, w->list, &value));
        say_result(w, rc, NULL);
    } else if (choice < 52) {
        say(w, "extend");
        values[0] = new_value(w, &room);
        values[1] = new_value(w, &room2);
        TIMED(shobj_list_extend(w->store, w->list, values, 2));
        say_result(w, rc, NULL);
    } else if (choice < 62) {
        say(w, "insert %" PRId64, index);
        value = new_value(w, &room);
        TIMED(shobj_list_insert(w->store, w->list, index, &value));
        say_result(w, rc, NULL);
    } else if (choice < 80) {
        index = draw(&w->random, 3) ? index : 0;
        say(w, "del %" PRId64, index);
        TIMED(shobj_list_del(w->store, w->list, index, &value));
        say_result(w, rc, &value);
    } else if (choice < 88) {
        say(w, "len");
        TIMED(shobj_list_len(w->store, w->list, &length));
        say(w, " = %" PRId64, rc < 0 ? rc : (int64_t)length);
    } else if (choice < 98) {
        uint64_t first = draw(&w->random, 3) ? 0 : draw(&w->random, shared->size + 1);
        say(w, "read %" PRIu64, first);
        TIMED(shobj_list_read(w->store, w->list, first, values, READ_MAX, &count));
        say(w, " = ");
        for (size_t i = 0; rc == 0 && i < count; i++)
            say(w, "%s%" PRIu32, i ? "," : "", number_of(&values[i]));
        if (rc < 0)
            say(w, "%s", shobj_error_name(rc));
    } else {
        say(w, "clear");
        TIMED(shobj_list_clear(w->store, w->list));
        say_result(w, rc, NULL);
    }
#undef TIMED
}

/* ---------------------------------------------------------------------------------------------- rounds */

static void wait_a_moment(unsigned turn)
{
    if (turn < SPINS)
        __asm__ volatile("pause" ::: "memory");
    else
        sched_yield();
}

/* This process's operations of a round. */
static void take_part(struct worker *w, uint32_t round)
{
    struct part *part = &shared->parts[w->process];
    for (part->count = 0; part->count < shared->count; part->count++) {
        w->text = part->operations[part->count].text;
        w->bytes = 0;
        for (unsigned i = draw(&w->random, 3) ? 0 : draw(&w->random, 300); i > 0; i--)
            __asm__ volatile("" ::: "memory");
        (shared->is_dict ? dict_operation : list_operation)(w, &part->operations[part->count].called_ns,
                                                            &part->operations[part->count].returned_ns);
    }
    part->round_done = round;
}

static shobj_oid object_at(shobj_store *store, const char *where)
{
    shobj_value value;
    must(shobj_path_get(store, where, &value), where);
    return value.oid;
}

static void look_up(struct worker *w, unsigned process, uint64_t seed)
{
    shobj_options options = {.mode = SHOBJ_OPEN_WRITE};
    *w = (struct worker){.process = process, .random = seed | 1};
    must(shobj_open(path, &options, &w->store), "opening the store");
    w->dict = object_at(w->store, "/dict");
    w->list = object_at(w->store, "/list");
}

__attribute__((noreturn)) static void work(unsigned process, uint64_t seed)
{
    struct worker w;
    look_up(&w, process, seed);
    for (uint32_t round = 1;; round++) {
        uint32_t now;
        for (unsigned turn = 0; (now = shared->round) < round; turn++)
            wait_a_moment(turn);
        if (now == UINT32_MAX)
            break;
        take_part(&w, round);
    }
    shobj_close(w.store);
    _exit(0);
}

/* With nobody else at work: gives the dict or the list its content, and tells it. */
static void prepare(struct worker *w, struct line *line)
{
    static const unsigned dict_sizes[] = {0, 1, 3, 4, 5, 9, 10, 11, 19, 20, 21, 22, 40};
    static const unsigned list_sizes[] = {0, 1, 4, 5, 6, 12, 32, 33, 34, 35, 65, 66, 67};
    char text[TEXT_MAX];
    struct value_room room;
    shobj_value value;
    shared->is_dict = draw(&w->random, 2);
    shared->count = 2 + draw(&w->random, OPERATIONS_MAX - 1);
    shared->size = shared->is_dict ? dict_sizes[draw(&w->random, sizeof(dict_sizes) / sizeof(dict_sizes[0]))]
                                   : list_sizes[draw(&w->random, sizeof(list_sizes) / sizeof(list_sizes[0]))];
    line_add(line, "R %s ", shared->is_dict ? "dict" : "list");
    must(shared->is_dict ? shobj_dict_clear(w->store, w->dict) : shobj_list_clear(w->store, w->list), "clearing");
    for (unsigned i = 0; i < shared->size; i++) {
        w->text = text;
        w->bytes = 0;
        value = new_value(w, &room);
        if (shared->is_dict) {
            shobj_key key = key_of(w, i);
            must(shobj_dict_set(w->store, w->dict, &key, &value), "filling a dict");
            line_add(line, "%s%u:%s", i ? "," : "", i, text + 1);
        } else {
            must(shobj_list_append(w->store, w->list, &value), "filling a list");
            line_add(line, "%s%s", i ? "," : "", text + 1);
        }
    }
    line_add(line, "\n");
}

static void write_round(struct line *line, unsigned processes, int file)
{
    for (unsigned p = 0; p < processes; p++) {
        const struct part *part = &shared->parts[p];
        for (unsigned i = 0; i < part->count; i++) {
            line_need(line, TEXT_MAX + 60);
            line->bytes += (size_t)snprintf(line->text + line->bytes, TEXT_MAX + 60,
                                            "O %u %" PRId64 " %" PRId64 " %s\n", p, part->operations[i].called_ns,
                                            part->operations[i].returned_ns, part->operations[i].text);
        }
    }
    line_write(line, file);
}

static void wait_for_all(unsigned processes, uint32_t round)
{
    for (unsigned p = 1; p < processes; p++)
        for (unsigned turn = 0; shared->parts[p].round_done < round; turn++) {
            wait_a_moment(turn);
            if (turn % 100000 == 99999 && waitpid(-1, NULL, WNOHANG) > 0) {
                fprintf(stderr, "operations: a process has ended by itself\n");
                exit(1);
            }
        }
}

static uint32_t run(int file, unsigned processes, double seconds, uint64_t bytes_max, uint64_t seed)
{
    struct worker w;
    struct line line = {0};
    uint32_t round = 0;
    uint64_t bytes = 0;
    look_up(&w, 0, seed);
    for (int64_t end_ns = now_ns() + (int64_t)(seconds * 1e9); now_ns() < end_ns && bytes < bytes_max;) {
        prepare(&w, &line);
        shared->round = ++round;
        take_part(&w, round);
        wait_for_all(processes, round);
        bytes += line.bytes;
        write_round(&line, processes, file);
    }
    shared->round = UINT32_MAX;
    free(line.text);
    shobj_close(w.store);
    return round;
}

static void build(void)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = UINT64_C(1) << 30};
    shobj_value value = {.type = SHOBJ_OBJECT};
    shobj_store *store;
    must(shobj_open(path, &options, &store), "creating the store");
    must(shobj_dict_new(store, NULL, 0, &value.oid), "making a dict");
    must(shobj_path_set(store, "/dict", &value), "storing the dict");
    must(shobj_list_new(store, NULL, 0, &value.oid), "making a list");
    must(shobj_path_set(store, "/list", &value), "storing the list");
    shobj_close(store);
}

static void print_problem(const char *line, void *arg)
{
    printf("FAILED: check: %s\n", line);
}

static int look_afterwards(void)
{
    shobj_options options = {.mode = SHOBJ_OPEN_WRITE};
    shobj_store *store;
    uint64_t problems = 0;
    must(shobj_open(path, &options, &store), "opening the store");
    int rc = shobj_check(store, print_problem, NULL, &problems);
    shobj_close(store);
    return rc != 0 || problems != 0;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 6) {
        fprintf(stderr, "usage: %s\n", usage);
        return 2;
    }
    double seconds = number_argument(argc, argv, 2, 1, 0, 1e6, usage);
    uint64_t seed = (uint64_t)number_argument(argc, argv, 3, (double)(now_ns() % 1000000000), 0, 1e15, usage);
    unsigned processes = (unsigned)number_argument(argc, argv, 4, 3, 1, PROCESSES_MAX, usage);
    uint64_t bytes_max = (uint64_t)number_argument(argc, argv, 5, 4e6, 0, 1e12, usage);
    int failures = 0, status;

    const char *heaps = getenv("SHOBJ_DIR");
    snprintf(path, sizeof(path), "%s/shobj-operations-%d", heaps ? heaps : "/dev/shm", (int)getpid());
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (shared == MAP_FAILED || file < 0)
        die(shared == MAP_FAILED ? "mmap" : argv[1]);
    build();
    seed = seed * 2 + 1;
    for (unsigned i = 0; i < 8; i++)
        next_random(&seed); /* seeds that are close to each other go different ways */
    for (unsigned p = 1; p < processes; p++) {
        if (fork_child() == 0)
            work(p, next_random(&seed) + p);
    }
    uint32_t rounds = run(file, processes, seconds, bytes_max, next_random(&seed));
    while (wait(&status) > 0)
        failures += status != 0;
    failures += look_afterwards();
    printf("%" PRIu32 " rounds of %u processes\n", rounds, processes);
    if (failures) {
        printf("FAILED: %d; the store is kept: %s\n", failures, path);
        return EXIT_FAILURE;
    }
    must(shobj_unlink(path, false), "removing the store");
    return EXIT_SUCCESS;
}
