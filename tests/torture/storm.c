/*
 * storm.c: what kill.py does, through the C API: at the full speed of the library, with a death every few milliseconds.
 *
 *     storm [SECONDS [SEED [WORKERS [EVERY_US]]]]
 *
 * Each worker runs transactions that move money between keys of one large dict, note the move in a journal of its own
 * (a list), count it, and keep a window of slips (strings of all sizes) in a dict that all share; between them it makes
 * single operations on a dict and a list that nobody audits. An auditor looks at everything in transactions. In the
 * end all are dead; then
 *
 *   - the money is all there, each journal and the slips are what the counts say;
 *   - each worker's count is the last that it saw committed, or one more for each death since;
 *   - everything in the store can be read, the check finds it whole, and no session but one's own is left.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shobj.h>

enum {
    WORKERS_MAX = 16,
    ACCOUNTS = 300,
    OPENING_BALANCE = 1000,
    JOURNAL_MAX = 60,
    SLIPS_MAX = 20,
    SCRATCH = 400,
    TEXT_MAX = 3000
};

/* What a worker tells its parent, outside the store. */
struct progress {
    _Atomic int64_t count;   /* the last transaction (of the auditor: audit) seen done */
    _Atomic int64_t when_ns; /* and when */
};

static struct progress *progress; /* [workers + 1], the auditor's last */
static char path[256];
static char text[TEXT_MAX];

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static shobj_value int_value(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

static shobj_value str_value(const char *data, size_t count)
{
    return (shobj_value){.type = SHOBJ_STR, .data = data, .count = count};
}

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "storm: process %d: %s: %s: %s\n", (int)getpid(), what, shobj_error_name(rc), shobj_error_message());
    _exit(3);
}

static shobj_key int_key(shobj_store *store, int64_t number)
{
    shobj_value value = int_value(number);
    shobj_key key;
    must(shobj_key_init(store, &value, &key), "making a key");
    return key;
}

/* ---------------------------------------------------------------------------------------------- one worker's view */

struct worker {
    shobj_store *store;
    int64_t number;
    uint64_t random;
    shobj_oid accounts, counts, journals, slips, scratch_dict, scratch_list;
    shobj_key count_key;
    shobj_oid journal;
    int64_t done; /* what the transaction made of the count */
    int64_t sum;
    char wrong[200];
};

static shobj_oid object_at(shobj_store *store, const char *where)
{
    shobj_value value;
    must(shobj_path_get(store, where, &value), where);
    return value.oid;
}

static void look_up(struct worker *w, int64_t number)
{
    shobj_options options = {.mode = SHOBJ_OPEN_WRITE};
    must(shobj_open(path, &options, &w->store), "opening the store");
    w->number = number;
    w->accounts = object_at(w->store, "/accounts");
    w->counts = object_at(w->store, "/counts");
    w->journals = object_at(w->store, "/journals");
    w->slips = object_at(w->store, "/slips");
    w->scratch_dict = object_at(w->store, "/scratch dict");
    w->scratch_list = object_at(w->store, "/scratch list");
    w->count_key = int_key(w->store, number);
}

static int add_to(struct worker *w, int64_t account, int64_t amount)
{
    shobj_key key = int_key(w->store, account);
    shobj_value balance;
    int rc = shobj_dict_get(w->store, w->accounts, &key, &balance);
    if (rc < 0)
        return rc;
    balance.i += amount;
    return shobj_dict_set(w->store, w->accounts, &key, &balance);
}

static int write_slip(struct worker *w, int64_t count)
{
    shobj_value parts[2] = {int_value(w->number), int_value(count)};
    shobj_value name = {.type = SHOBJ_TUPLE, .items = parts, .count = 2};
    shobj_value slip = str_value(text, next_random(&w->random) % (w->random & 256 ? 12 : TEXT_MAX));
    shobj_key key;
    int rc = shobj_key_init(w->store, &name, &key);
    if (rc < 0)
        return rc;
    rc = shobj_dict_set(w->store, w->slips, &key, &slip);
    if (rc < 0 || count <= SLIPS_MAX)
        return rc;
    parts[1] = int_value(count - SLIPS_MAX);
    rc = shobj_key_init(w->store, &name, &key);
    if (rc < 0)
        return rc;
    return shobj_dict_del(w->store, w->slips, &key, NULL);
}

static int write_journal(struct worker *w, int64_t count)
{
    shobj_value entry = int_value(count);
    int rc = shobj_list_append(w->store, w->journal, &entry);
    if (rc < 0 || count <= JOURNAL_MAX)
        return rc;
    return shobj_list_del(w->store, w->journal, 0, NULL);
}

/* A transaction of a worker. */
static int move_money(shobj_store *store, void *arg)
{
    struct worker *w = arg;
    int64_t amount = (int64_t)(next_random(&w->random) % 100);
    uint64_t pause = next_random(&w->random);
    shobj_value count;

    int rc = add_to(w, (int64_t)(next_random(&w->random) % ACCOUNTS), -amount);
    if (rc < 0)
        return rc;
    if (pause % 4 == 0)
        usleep(pause / 4 % 300); /* to be killed or overtaken here */
    rc = add_to(w, (int64_t)(next_random(&w->random) % ACCOUNTS), amount);
    if (rc < 0)
        return rc;
    rc = shobj_dict_get(store, w->counts, &w->count_key, &count);
    if (rc < 0)
        return rc;
    count.i++;
    rc = shobj_dict_set(store, w->counts, &w->count_key, &count);
    if (rc < 0)
        return rc;
    rc = write_journal(w, count.i);
    if (rc < 0)
        return rc;
    w->done = count.i;
    return write_slip(w, count.i);
}

/* Single operations: their results are nobody's business but that they work. */
static void scribble(struct worker *w)
{
    shobj_key key = int_key(w->store, (int64_t)(next_random(&w->random) % SCRATCH));
    shobj_value value = str_value(text, next_random(&w->random) % TEXT_MAX);
    uint64_t length;
    int rc;

    must(shobj_dict_set(w->store, w->scratch_dict, &key, &value), "setting a key");
    key = int_key(w->store, (int64_t)(next_random(&w->random) % SCRATCH));
    rc = shobj_dict_del(w->store, w->scratch_dict, &key, NULL);
    must(rc == SHOBJ_ENOTFOUND ? 0 : rc, "deleting a key");
    must(shobj_list_len(w->store, w->scratch_list, &length), "measuring a list");
    if (length < SCRATCH) {
        must(shobj_list_insert(w->store, w->scratch_list, (int64_t)(next_random(&w->random) % SCRATCH), &value),
             "inserting");
    } else {
        rc = shobj_list_del(w->store, w->scratch_list, (int64_t)(next_random(&w->random) % SCRATCH), NULL);
        must(rc == SHOBJ_ENOTFOUND ? 0 : rc, "deleting from a list");
    }
}

static void work(int64_t number, uint64_t seed)
{
    struct worker w = {.random = seed | 1};
    shobj_value journal;

    look_up(&w, number);
    must(shobj_list_get(w.store, w.journals, number, &journal), "finding the journal");
    w.journal = journal.oid;
    for (;;) {
        must(shobj_run(w.store, move_money, &w), "moving money");
        progress[number].count = w.done;
        progress[number].when_ns = now_ns();
        scribble(&w);
    }
}

/* ---------------------------------------------------------------------------------------------- the audit */

static int audit_worker(struct worker *w, int64_t number, uint64_t *ret_slips)
{
    shobj_key key = int_key(w->store, number);
    shobj_value count, journal, last = int_value(0);
    uint64_t length;

    int rc = shobj_dict_get(w->store, w->counts, &key, &count);
    if (rc < 0)
        return rc;
    rc = shobj_list_get(w->store, w->journals, number, &journal);
    if (rc < 0)
        return rc;
    rc = shobj_list_len(w->store, journal.oid, &length);
    if (rc < 0)
        return rc;
    if (length > 0) {
        rc = shobj_list_get(w->store, journal.oid, -1, &last);
        if (rc < 0)
            return rc;
    }
    if (last.i != count.i || length != (uint64_t)(count.i < JOURNAL_MAX ? count.i : JOURNAL_MAX))
        snprintf(w->wrong, sizeof(w->wrong), "worker %" PRId64 ": count %" PRId64 ", journal of %" PRIu64 " ends with %" PRId64,
                 number, count.i, length, last.i);
    *ret_slips += (uint64_t)(count.i < SLIPS_MAX ? count.i : SLIPS_MAX);
    return 0;
}

/* w->number: how many workers there are. */
static int look_at_all(shobj_store *store, void *arg)
{
    struct worker *w = arg;
    uint64_t slips = 0, slips_there;

    w->wrong[0] = '\0';
    w->sum = 0;
    for (int64_t account = 0; account < ACCOUNTS; account++) {
        shobj_key key = int_key(store, account);
        shobj_value balance;
        int rc = shobj_dict_get(store, w->accounts, &key, &balance);
        if (rc < 0)
            return rc;
        w->sum += balance.i;
    }
    if (w->sum != (int64_t)ACCOUNTS * OPENING_BALANCE)
        snprintf(w->wrong, sizeof(w->wrong), "the balances add up to %" PRId64, w->sum);
    for (int64_t number = 0; number < w->number; number++) {
        int rc = audit_worker(w, number, &slips);
        if (rc < 0)
            return rc;
    }
    int rc = shobj_dict_len(store, w->slips, &slips_there);
    if (rc == 0 && slips != slips_there)
        snprintf(w->wrong, sizeof(w->wrong), "%" PRIu64 " slips, not %" PRIu64, slips_there, slips);
    return rc;
}

static void audit(int64_t workers)
{
    struct worker w = {.random = 1};
    look_up(&w, workers);
    for (int64_t count = 1;; count++) {
        must(shobj_run(w.store, look_at_all, &w), "auditing");
        if (w.wrong[0] != '\0') {
            fprintf(stderr, "storm: audit %" PRId64 ": %s\n", count, w.wrong);
            _exit(4);
        }
        progress[workers].count = count;
        progress[workers].when_ns = now_ns();
        usleep(2000);
    }
}

/* ---------------------------------------------------------------------------------------------- the parent */

static void store_object(shobj_store *store, const char *where, shobj_oid oid)
{
    shobj_value value = {.type = SHOBJ_OBJECT, .oid = oid};
    must(shobj_path_set(store, where, &value), where);
}

static void build(int64_t workers)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = UINT64_C(1) << 30};
    static const char *const dicts[] = {"/accounts", "/counts", "/slips", "/scratch dict"};
    static const char *const lists[] = {"/journals", "/scratch list"};
    shobj_store *store;
    shobj_oid oid;

    must(shobj_open(path, &options, &store), "creating the store");
    for (size_t i = 0; i < sizeof(dicts) / sizeof(dicts[0]); i++) {
        must(shobj_dict_new(store, NULL, 0, &oid), "making a dict");
        store_object(store, dicts[i], oid);
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        must(shobj_list_new(store, NULL, 0, &oid), "making a list");
        store_object(store, lists[i], oid);
    }
    for (int64_t account = 0; account < ACCOUNTS; account++) {
        shobj_key key = int_key(store, account);
        shobj_value value = int_value(OPENING_BALANCE);
        must(shobj_dict_set(store, object_at(store, "/accounts"), &key, &value), "opening an account");
    }
    for (int64_t number = 0; number < workers; number++) {
        shobj_key key = int_key(store, number);
        shobj_value value = int_value(0);
        must(shobj_dict_set(store, object_at(store, "/counts"), &key, &value), "setting a count");
        must(shobj_list_new(store, NULL, 0, &oid), "making a journal");
        value = (shobj_value){.type = SHOBJ_OBJECT, .oid = oid};
        must(shobj_list_append(store, object_at(store, "/journals"), &value), "storing a journal");
    }
    shobj_close(store);
}

/* Number `workers` is the auditor. */
static pid_t start(int64_t number, int64_t workers, uint64_t seed)
{
    pid_t pid = fork();
    if (pid < 0) {
        perror("storm: fork");
        exit(EXIT_FAILURE);
    }
    if (pid == 0) {
        if (number < workers)
            work(number, seed);
        else
            audit(workers);
    }
    return pid;
}

static void print_problem(const char *line, void *arg)
{
    (void)arg;
    printf("FAILED: check: %s\n", line);
}

static int print_nothing(const char *piece, size_t bytes, void *arg)
{
    (void)piece;
    *(size_t *)arg += bytes;
    return 0;
}

/* Everything after the storm, when all are dead; the number of failures. */
static int look_afterwards(int64_t workers, const int64_t *deaths_since)
{
    struct worker w = {.random = 1};
    int failures = 0;
    uint64_t problems = 0;
    size_t bytes = 0;
    shobj_stat stat;

    look_up(&w, workers);
    unsigned reaped;
    must(shobj_reap(w.store, &reaped), "reaping");
    must(shobj_run(w.store, look_at_all, &w), "the last audit");
    if (w.wrong[0] != '\0') {
        printf("FAILED: %s\n", w.wrong);
        failures++;
    }
    for (int64_t number = 0; number < workers; number++) {
        shobj_key key = int_key(w.store, number);
        shobj_value count;
        must(shobj_dict_get(w.store, w.counts, &key, &count), "reading a count");
        int64_t seen = progress[number].count;
        if (count.i < seen || count.i > seen + deaths_since[number]) {
            printf("FAILED: worker %" PRId64 " saw %" PRId64 " committed, the store has %" PRId64 "\n", number, seen, count.i);
            failures++;
        }
    }
    shobj_value root = {.type = SHOBJ_OBJECT, .kind = SHOBJ_KIND_DICT, .oid = shobj_root(w.store)};
    must(shobj_render(w.store, &root, SHOBJ_FORM_DUMP, 0, 0, print_nothing, &bytes), "reading everything");
    int rc = shobj_check(w.store, print_problem, NULL, &problems);
    failures += rc != 0 || problems != 0;
    must(shobj_stat_get(w.store, &stat), "reading the counters");
    if (stat.sessions != 1) {
        printf("FAILED: %" PRIu64 " sessions are attached, not this one alone\n", stat.sessions);
        failures++;
    }
    printf("%" PRIu64 " recoveries, %" PRIu64 " conflicts, %" PRIu64 " bytes in use, %zu bytes of text\n", stat.recoveries,
           stat.conflicts, stat.used_bytes, bytes);
    shobj_close(w.store);
    return failures;
}

struct victim {
    pid_t pid;
    int64_t started_ns;
    int64_t seen, deaths_since; /* as of its last death: the count it had noted, and deaths since it noted that */
};

/* Has it ended by itself, or hung? What the machine took from us it took from the others, too: excuse_ns. */
static int look_after(struct victim *v, int64_t number, int64_t excuse_ns, int64_t *longest_ns)
{
    int64_t last = progress[number].when_ns > v->started_ns ? progress[number].when_ns : v->started_ns;
    int64_t silent = now_ns() - last - excuse_ns;
    int status;
    if (silent > *longest_ns)
        *longest_ns = silent;
    if (waitpid(v->pid, &status, WNOHANG) == v->pid) {
        printf("FAILED: process %" PRId64 " ended by itself, status %d\n", number, status);
        v->pid = 0;
        return 1;
    }
    if (silent > 1000000000) {
        printf("FAILED: process %" PRId64 " (pid %d) has committed nothing for %.2f s\n", number, (int)v->pid, silent / 1e9);
        return 1;
    }
    return 0;
}

static void end(struct victim *v, int64_t number)
{
    if (v->pid == 0)
        return;
    kill(v->pid, SIGKILL);
    waitpid(v->pid, NULL, 0);
    v->deaths_since = 1 + (progress[number].count == v->seen ? v->deaths_since : 0);
    v->seen = progress[number].count;
}

static int storm(double seconds, uint64_t seed, int64_t workers, int64_t every_us)
{
    struct victim victims[WORKERS_MAX + 1] = {0};
    int64_t kills = 0, longest_ns = 0, excuse_ns = 0;
    int failures = 0;

    for (int64_t number = 0; number <= workers; number++)
        victims[number] = (struct victim){.pid = start(number, workers, next_random(&seed)), .started_ns = now_ns()};
    int64_t began = now_ns(), last = began;
    while (failures == 0 && now_ns() - began < (int64_t)(seconds * 1e9)) {
        usleep((useconds_t)every_us);
        int64_t late = now_ns() - last - every_us * 1000;
        last = now_ns();
        excuse_ns -= every_us * 250;
        excuse_ns = late > excuse_ns ? late : excuse_ns > 0 ? excuse_ns : 0;
        for (int64_t number = 0; number <= workers; number++)
            failures += look_after(&victims[number], number, excuse_ns, &longest_ns);
        if (failures)
            break;
        struct victim *v = &victims[next_random(&seed) % (uint64_t)workers];
        end(v, v - victims);
        kills++;
        v->pid = start(v - victims, workers, next_random(&seed));
        v->started_ns = now_ns();
    }
    int64_t deaths_since[WORKERS_MAX] = {0}, transactions = 0;
    for (int64_t number = 0; number <= workers; number++)
        end(&victims[number], number);
    for (int64_t number = 0; number < workers; number++) {
        deaths_since[number] = victims[number].deaths_since;
        transactions += progress[number].count;
    }
    printf("%" PRId64 " kills, %" PRId64 " transactions, %" PRId64 " audits, longest silence %.2f s\n", kills, transactions,
           (int64_t)progress[workers].count, longest_ns / 1e9);
    if (progress[workers].count == 0) {
        printf("FAILED: not one audit was finished\n");
        failures++;
    }
    return failures + look_afterwards(workers, deaths_since);
}

static double number_argument(int argc, char **argv, int index, double otherwise, double least, double most)
{
    if (argc <= index)
        return otherwise;
    char *end_of_number;
    double number = strtod(argv[index], &end_of_number);
    if (*end_of_number == '\0' && number >= least && number <= most)
        return number;
    fprintf(stderr, "storm: argument %d must be a number from %g to %g, not '%s'\n"
                    "usage: storm [SECONDS [SEED [WORKERS [EVERY_US]]]]\n", index, least, most, argv[index]);
    exit(2);
}

int main(int argc, char **argv)
{
    double seconds = number_argument(argc, argv, 1, 60, 0, 1e6);
    uint64_t seed = (uint64_t)number_argument(argc, argv, 2, (double)(now_ns() % 1000000000), 0, 1e15);
    int64_t workers = (int64_t)number_argument(argc, argv, 3, 4, 1, WORKERS_MAX);
    int64_t every_us = (int64_t)number_argument(argc, argv, 4, 3000, 1, 900000);

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seed %" PRIu64 "; again: storm %g %" PRIu64 " %" PRId64 " %" PRId64 "\n", seed, seconds, seed, workers, every_us);
    memset(text, 'x', sizeof(text));
    const char *directory = getenv("SHOBJ_DIR");
    snprintf(path, sizeof(path), "%s/shobj-storm-%d", directory ? directory : "/dev/shm", (int)getpid());
    progress = mmap(NULL, sizeof(*progress) * (WORKERS_MAX + 1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED) {
        perror("storm: mmap");
        return EXIT_FAILURE;
    }
    build(workers);
    int failures = storm(seconds, seed * 2 + 1, workers, every_us);
    if (failures) {
        printf("the store is kept: %s\n", path);
        return EXIT_FAILURE;
    }
    must(shobj_unlink(path, false), "removing the store");
    return EXIT_SUCCESS;
}
