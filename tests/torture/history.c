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
 * them, and stops some for a few milliseconds; where the library has fault points, workers die and stop at those, too
 * (HISTORY_FAULT=kill@NAME or stop@NAME: at this one only). In the end it writes down all of the store as one more
 * transaction.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <fcntl.h>

#include "history.h"

const char torture_name[] = "history";
static const char usage[] = "history DIRECTORY [SECONDS [SEED [WORKERS [EVERY_US [BYTES]]]]]";

enum { WORKERS_MAX = 16 };

struct mix mix;
_Atomic uint64_t *written;
char path[300];

/* ---------------------------------------------------------------------------------------------- before */

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
    pid_t pid = fork_child();
    if (pid == 0) {
        build(directory);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "history: building the store failed\n");
        exit(2);
    }
}

/* ---------------------------------------------------------------------------------------------- afterwards */

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

/* ---------------------------------------------------------------------------------------------- the storm */

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

/* If the library has fault points, most workers die or stop at one of them, sooner or later: at some passage of those of
 * one name, or of all. */
static void plan_fault(uint64_t *seed)
{
    static const char *const points[] = {
        "commit.locking", "commit.locked_one", "commit.locked_all", "commit.clock", "commit.before_decide",
        "commit.decided", "commit.stored_word", "commit.before_unlock", "commit.unlocked", "single.before_lock",
        "single.locked", "single.versioned", "single.unlocked", "block.free", "block.freed",
    };
    const char *only = getenv("HISTORY_FAULT");
    const char *point = points[draw(seed, sizeof(points) / sizeof(points[0]))];
    unsigned kind = draw(seed, 8);
    unsigned one = 1 + draw(seed, 2u << draw(seed, 9)), any = 1 + draw(seed, 2u << draw(seed, 14));
    char text[80];
    if (only != NULL && strlen(only) > 5)
        snprintf(text, sizeof(text), "%.4s:%u@%s", only, one, only + 5);
    else if (kind % 2 == 0)
        snprintf(text, sizeof(text), "%s:%u@%s", kind < 3 ? "kill" : "stop", one, point);
    else
        snprintf(text, sizeof(text), "%s:%u", kind < 3 ? "kill" : "stop", any);
    setenv("SHOBJ_FAULT", text, 1);
}

static void start(struct storm *storm, struct victim *v)
{
    uint64_t seed = next_random(&storm->seed) | 1;
    v->go_on_ns = 0;
    v->pid = fork_child();
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

/* ---------------------------------------------------------------------------------------------- the run */

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
