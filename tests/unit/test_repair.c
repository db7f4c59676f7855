/*
 * test_repair.c: what the check says of aimed damage, and what the repair makes of it.
 *
 * Each case makes a store in a file, damages one thing, and looks: the check must find it, the repair must tell just what was lost,
 * and the repaired store must be whole and hold all the rest.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "txn/session.h"
#include "types/dict.h"
#include "types/list.h"

#define MAX_BYTES (64u << 20)

#define KEYS 3000
#define ELEMENTS 2000

static char path[64], backup[80], output[80];

static shobj_store *open_mode(enum shobj_open_mode mode)
{
    /* A mapping of its own also with SHOBJ_TWIN: damage is done to this one, and looked at through it. */
    const shobj_options options = {.mode = mode, .max_size = MAX_BYTES, .own_mapping = true};
    shobj_store *store;
    CHECK_INT(shobj_open(path, &options, &store), 0);
    return store;
}

static shobj_value of_text(const char *text)
{
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
}

static shobj_value of_object(shobj_oid oid)
{
    return (shobj_value){.type = SHOBJ_OBJECT, .oid = oid};
}

static shobj_key key_of(shobj_store *store, int number, char room[32])
{
    shobj_key key;
    snprintf(room, 32, "key number %d", number);
    shobj_value value = of_text(room);
    CHECK_INT(shobj_key_init(store, &value, &key), 0);
    return key;
}

static void put(shobj_store *store, const char *name, shobj_oid oid)
{
    shobj_value value = of_object(oid);
    char place[40];
    snprintf(place, sizeof(place), "/%s", name);
    CHECK_INT(shobj_path_set(store, place, &value), 0);
}

static shobj_oid oid_at(shobj_store *store, const char *place)
{
    shobj_value value;
    CHECK_INT(shobj_path_get(store, place, &value), 0);
    CHECK_INT(value.type, SHOBJ_OBJECT);
    return value.oid;
}

/* dict: KEYS keys in order; list: ELEMENTS ints, and itself; shared: [dict]. */
static shobj_store *make(void)
{
    shobj_store *store = open_mode(SHOBJ_OPEN_NEW);
    shobj_oid dict, list, shared;
    char room[32];
    CHECK_INT(shobj_dict_new(store, NULL, 0, &dict), 0);
    CHECK_INT(shobj_list_new(store, NULL, 0, &list), 0);
    CHECK_INT(shobj_list_new(store, NULL, 0, &shared), 0);
    for (int i = 0; i < KEYS; i++) {
        shobj_key key = key_of(store, i, room);
        shobj_value value = i % 2 ? (shobj_value){.type = SHOBJ_INT, .i = i} : of_text("a value with a block");
        CHECK_INT(shobj_dict_set(store, dict, &key, &value), 0);
    }
    for (int i = 0; i < ELEMENTS; i++) {
        shobj_value value = {.type = SHOBJ_INT, .i = i};
        CHECK_INT(shobj_list_append(store, list, &value), 0);
    }
    shobj_value value = of_object(list);
    CHECK_INT(shobj_list_append(store, list, &value), 0);
    value = of_object(dict);
    CHECK_INT(shobj_list_append(store, shared, &value), 0);
    put(store, "dict", dict);
    put(store, "list", list);
    put(store, "shared", shared);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    return store;
}

/* ------------------------------------------------------------------------------------------ looking */

struct report {
    char text[1 << 16];
    uint64_t count;
};

static void add_line(const char *line, void *arg)
{
    struct report *report = arg;
    size_t used = strlen(report->text);
    report->count++;
    snprintf(report->text + used, sizeof(report->text) - used, "%s\n", line);
}

static struct report report;

/* The check finds a problem whose line has these words. */
static void expect_problem(shobj_store *store, const char *words)
{
    uint64_t count = 0;
    report = (struct report){0};
    CHECK_INT(shobj_check(store, add_line, &report, &count), SHOBJ_ECORRUPT);
    CHECK_INT(count, report.count);
    if (strstr(report.text, words) == NULL) {
        printf("the check says:\n%.2000s", report.text);
        CHECK(strstr(report.text, words) != NULL);
    }
}

/* Repairs the store, which nobody has open, and opens it: it is whole. */
static shobj_store *repair(uint64_t *ret_lost)
{
    report = (struct report){0};
    CHECK_INT(shobj_repair(path, NULL, add_line, &report, ret_lost), 0);
    CHECK_INT(*ret_lost, report.count);
    shobj_store *store = open_mode(SHOBJ_OPEN_WRITE);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    return store;
}

/* All keys but `missing`, in order. */
static void expect_dict(shobj_store *store, shobj_oid dict, int missing)
{
    shobj_dict_iter iter;
    shobj_item item;
    size_t got;
    uint64_t count;
    char room[32];
    CHECK_INT(shobj_dict_len(store, dict, &count), 0);
    CHECK_INT(count, KEYS - missing);
    shobj_dict_iter_init(&iter, dict, false);
    int last = -1, all = 0;
    while (shobj_dict_iter_next(store, &iter, &item, 1, &got) == 0 && got == 1) {
        int number;
        memcpy(room, item.key.data, item.key.count);
        room[item.key.count] = '\0';
        CHECK_INT(sscanf(room, "key number %d", &number), 1);
        CHECK(number > last);
        if (number % 2)
            CHECK_INT(item.value.i, number);
        else
            CHECK_INT(item.value.type, SHOBJ_STR);
        last = number;
        all++;
    }
    CHECK_INT(all, KEYS - missing);
}

static void expect_list(shobj_store *store, shobj_oid list)
{
    shobj_value value;
    uint64_t count;
    CHECK_INT(shobj_list_len(store, list, &count), 0);
    CHECK_INT(count, ELEMENTS + 1);
    for (int i = 0; i < ELEMENTS; i++) {
        CHECK_INT(shobj_list_get(store, list, i, &value), 0);
        CHECK_INT(value.i, i);
    }
    CHECK_INT(shobj_list_get(store, list, -1, &value), 0);
    CHECK_INT(value.oid, list);
}

/* Nothing is lost, and what was one is one. */
static void expect_all(shobj_store *store)
{
    expect_dict(store, oid_at(store, "/dict"), 0);
    expect_list(store, oid_at(store, "/list"));
    CHECK_INT(oid_at(store, "/shared/0"), oid_at(store, "/dict"));
}

static sho_word *word_of(shobj_store *store, uint64_t off, unsigned word)
{
    sho_word *words = sho_region_at(store->region, off, SHM_NODE_BYTES(word + 1));
    CHECK(words != NULL);
    return words + 2 + word;
}

static uint64_t node_word(shobj_store *store, uint64_t off, unsigned word)
{
    return sho_load(word_of(store, off, word));
}

static void expect_repair(uint64_t lost_count)
{
    uint64_t lost;
    shobj_store *store = repair(&lost);
    if (lost != lost_count)
        printf("the repair says:\n%.2000s", report.text);
    CHECK_INT(lost, lost_count);
    expect_all(store);
    shobj_close(store);
}

/* ------------------------------------------------------------------------------------------ cases */

static void test_sound(void)
{
    uint8_t uuid[16];
    struct stat before, after;
    shobj_store *store = make();
    memcpy(uuid, shobj_uuid(store), 16);
    shobj_close(store);
    CHECK_INT(chmod(path, 0640), 0);
    CHECK_INT(stat(path, &before), 0);
    expect_repair(0);
    CHECK_INT(stat(path, &after), 0);
    CHECK(after.st_ino != before.st_ino);
    CHECK_INT(after.st_mode & 0777, 0640);
    store = open_mode(SHOBJ_OPEN_READ);
    CHECK_INT(memcmp(uuid, shobj_uuid(store), 16), 0);
    CHECK_INT(store->region->max_bytes, 64u << 20);
    shobj_close(store);
}

/* The index of a large dict, in several ways. */
static void test_dict_index(void)
{
    shobj_store *store = make();
    uint64_t head = SHM_OID_OFF(oid_at(store, "/dict"));
    uint64_t trie = SHO_DICT_REF_OFF(node_word(store, head, SHO_DICT_HEAD_REF));
    for (unsigned i = 0; i < 20; i++)
        sho_store(word_of(store, trie, i), 0);
    expect_problem(store, "the way to its key is damaged");
    shobj_close(store);
    expect_repair(0);
}

static void test_dict_counts(void)
{
    shobj_store *store = make();
    uint64_t head = SHM_OID_OFF(oid_at(store, "/dict"));
    uint64_t order = node_word(store, head, SHO_DICT_HEAD_ORDER);
    sho_store(word_of(store, order, SHO_DICT_ORDER_COUNT), 17);
    expect_problem(store, "counts 17 entries and has 3000");
    shobj_close(store);
    expect_repair(0);
}

/* The list of chunks is broken, and the order node gone: the index leads to all of them. */
static void test_dict_order(void)
{
    shobj_store *store = make();
    uint64_t head = SHM_OID_OFF(oid_at(store, "/dict"));
    uint64_t order = node_word(store, head, SHO_DICT_HEAD_ORDER);
    uint64_t first = node_word(store, order, SHO_DICT_ORDER_FIRST);
    uint64_t second = node_word(store, first, SHO_DICT_CHUNK_NEXT);
    sho_store(word_of(store, second, SHO_DICT_CHUNK_NEXT), 0);
    expect_problem(store, "the list of chunks ends elsewhere");
    sho_store(word_of(store, order, SHO_DICT_ORDER_FIRST), second);
    sho_store(word_of(store, order, SHO_DICT_ORDER_TAIL), head);
    shobj_close(store);
    expect_repair(0);
}

/* One entry has no key any more, another a value that is no cell. */
static void test_dict_entries(void)
{
    uint64_t lost;
    char room[32];
    bool has;
    shobj_store *store = make();
    uint64_t head = SHM_OID_OFF(oid_at(store, "/dict"));
    uint64_t order = node_word(store, head, SHO_DICT_HEAD_ORDER);
    uint64_t first = node_word(store, order, SHO_DICT_ORDER_FIRST);
    sho_store(word_of(store, first, SHO_DICT_CHUNK_ENTRIES + 3 * 2 + 1), SHO_CELL_EMPTY);
    sho_store(word_of(store, first, SHO_DICT_CHUNK_ENTRIES + 3 * 4 + 2), SHO_CELL(6, 0));
    expect_problem(store, "entry 2 is incomplete");
    CHECK(strstr(report.text, "holds a value that can't be read") != NULL);
    shobj_close(store);
    store = repair(&lost);
    CHECK_INT(lost, 3); /* each of them, and that it counts one more than can be found */
    CHECK(strstr(report.text, "the value of key key number 4 can't be read") != NULL);
    expect_dict(store, oid_at(store, "/dict"), 2);
    shobj_key key = key_of(store, 4, room);
    CHECK_INT(shobj_dict_has(store, oid_at(store, "/dict"), &key, &has), 0);
    CHECK(!has);
    expect_list(store, oid_at(store, "/list"));
    shobj_close(store);
}

/* A leaf of the tree is gone, and with it 33 elements; one more can't be read. */
static void test_list(void)
{
    uint64_t lost, count;
    shobj_value value;
    shobj_store *store = make();
    uint64_t head = SHM_OID_OFF(oid_at(store, "/list"));
    uint64_t inner = node_word(store, node_word(store, head, LIST_HEAD_ROOT), LIST_INNER_REF(0));
    uint64_t leaf = node_word(store, inner, LIST_INNER_REF(1)), next = node_word(store, inner, LIST_INNER_REF(2));
    sho_store(word_of(store, next, 1), SHO_CELL(6, 1));
    struct shm_node *node = (struct shm_node *)(store->region->base + leaf);
    sho_store(&node->header, sho_load(&node->header) & ~0xffULL);
    expect_problem(store, "where there is none of level 0");
    shobj_close(store);
    store = repair(&lost);
    CHECK_INT(lost, 2);
    CHECK(strstr(report.text, "33 elements of a list") != NULL);
    shobj_oid list = oid_at(store, "/list");
    CHECK_INT(shobj_list_len(store, list, &count), 0);
    CHECK_INT(count, ELEMENTS + 1 - 33);
    CHECK_INT(shobj_list_get(store, list, 32, &value), 0);
    CHECK_INT(value.i, 32);
    CHECK_INT(shobj_list_get(store, list, 33, &value), 0);
    CHECK_INT(value.type, SHOBJ_NONE);
    CHECK_INT(shobj_list_get(store, list, 34, &value), 0);
    CHECK_INT(value.i, 67);
    CHECK_INT(shobj_list_get(store, list, -1, &value), 0);
    CHECK_INT(value.oid, list);
    expect_dict(store, oid_at(store, "/dict"), 0);
    shobj_close(store);
}

/* The root is gone: what it led to is found, and what that leads to stays where it is. */
static void test_root(void)
{
    uint64_t lost, count;
    char place[64], text[17];
    shobj_store *store = make();
    uint64_t head = SHM_OID_OFF(shobj_root(store));
    shobj_oid list = oid_at(store, "/list"), shared = oid_at(store, "/shared");
    struct shm_node *node = (struct shm_node *)(store->region->base + head);
    sho_store(&node->header, 0);
    expect_problem(store, "can't be walked");
    shobj_close(store);
    store = repair(&lost);
    CHECK_INT(lost, 1);
    CHECK_INT(shobj_dict_len(store, oid_at(store, "/lost+found"), &count), 0);
    CHECK_INT(count, 2); /* shared, which has dict; list, which nothing but itself refers to */
    shobj_oid_format(list, text);
    snprintf(place, sizeof(place), "/lost+found/%s", text);
    expect_list(store, oid_at(store, place));
    shobj_oid_format(shared, text);
    snprintf(place, sizeof(place), "/lost+found/%s/0", text);
    expect_dict(store, oid_at(store, place), 0);
    shobj_close(store);
}

/* Writes to the file itself. */
static void scribble(off_t at, const void *bytes, size_t count)
{
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, bytes, count, at) == (ssize_t)count);
    close(fd);
}

static void test_superblock(void)
{
    static const uint8_t zeros[SHM_PAGE_BYTES];
    const uint64_t nonsense = 0x1234567812345678u;
    shobj_store *store;
    uint64_t lost;
    /* The checksum; the largest size; the boot, with a process that never left. */
    shobj_close(make());
    scribble(offsetof(struct shm_superblock, checksum), &nonsense, 8);
    CHECK_INT(shobj_open(path, NULL, &store), SHOBJ_ECORRUPT);
    expect_repair(0);
    shobj_close(make());
    scribble(offsetof(struct shm_superblock, max_bytes), &nonsense, 8);
    scribble(offsetof(struct shm_superblock, data_off), &nonsense, 8);
    scribble(offsetof(struct shm_superblock, slab_count), &nonsense, 8);
    CHECK_INT(shobj_open(path, NULL, &store), SHOBJ_ECORRUPT);
    expect_repair(0);
    shobj_close(make());
    const uint64_t live = SHM_PROCESS_LIVE;
    scribble(offsetof(struct shm_superblock, boot_id_now), &nonsense, 8);
    scribble(SHM_PROCESS_OFF + 64, &live, 8);
    CHECK_INT(shobj_open(path, NULL, &store), SHOBJ_ECORRUPT);
    expect_repair(0);
    /* The version, which the checksum knows; another one, which it does not. */
    shobj_close(make());
    scribble(offsetof(struct shm_superblock, layout_version), &nonsense, 4);
    CHECK_INT(shobj_open(path, NULL, &store), SHOBJ_EVERSION);
    expect_repair(0);
    scribble(offsetof(struct shm_superblock, layout_version), &nonsense, 4);
    scribble(offsetof(struct shm_superblock, checksum), &nonsense, 8);
    CHECK_INT(shobj_repair(path, NULL, NULL, NULL, NULL), SHOBJ_EVERSION);
    /* All of it: what is there is found all the same, the root as one object among others. */
    shobj_close(make());
    scribble(0, zeros, sizeof(zeros));
    CHECK_INT(shobj_open(path, NULL, &store), SHOBJ_EFORMAT);
    store = repair(&lost);
    CHECK_INT(lost, 1);
    uint64_t count;
    CHECK_INT(shobj_dict_len(store, oid_at(store, "/lost+found"), &count), 0);
    CHECK_INT(count, 1);
    shobj_close(store);
    /* A file that is no heap stays as it is. */
    int fd = open(path, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0 && write(fd, "not a heap", 10) == 10);
    close(fd);
    CHECK_INT(shobj_repair(path, NULL, NULL, NULL, NULL), SHOBJ_EFORMAT);
}

/* What cuts lose, they lose; the rest is there. */
static void test_cut(void)
{
    struct stat st;
    uint64_t lost, count;
    shobj_close(make());
    CHECK_INT(stat(path, &st), 0);
    const uint64_t data_off = sho_data_off(MAX_BYTES);
    CHECK_INT(truncate(path, st.st_size - (st.st_size - (off_t)data_off) / 8), 0);
    shobj_store *store = repair(&lost);
    CHECK_INT(shobj_dict_len(store, shobj_root(store), &count), 0);
    CHECK(count > 0);
    shobj_close(store);
    for (off_t size = 4096; (uint64_t)size < 3 * data_off; size *= 3) { /* within the tables */
        shobj_close(make());
        CHECK_INT(truncate(path, size), 0);
        int rc = shobj_repair(path, NULL, NULL, NULL, &lost);
        CHECK_INT(rc, (uint64_t)size > data_off ? 0 : SHOBJ_ECORRUPT);
    }
}

/* Free lists, stacks, locks, slots: found by the check, gone with the repair. */
static void test_tables(void)
{
    shobj_store *store = make();
    sho_region *region = store->region;
    uint64_t slab = SHM_OID_OFF(shobj_root(store)) >> SHM_SLAB_SHIFT;
    shobj_detach(store); /* no session owns a slab */
    struct shm_slab *d = sho_region_slab(region, slab);
    uint64_t old = sho_load(&d->private_list);
    sho_store(&d->private_list, old + (1ULL << 32));
    expect_problem(store, "its count of free blocks differs from its list");
    sho_store(&d->private_list, old | 0xffff);
    expect_problem(store, "a free list leads out of the slab");
    sho_store(&d->private_list, old);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);

    shobj_detach(store);
    sho_word *stack = (sho_word *)(region->base + SHM_PARTIAL_OFF) + SHM_SLAB_CLASS(sho_load(&d->state));
    uint64_t head = sho_load(stack), next = sho_load(&d->next);
    CHECK((uint32_t)head != 0);
    sho_store(&sho_region_slab(region, (uint32_t)head - 1)->next, (uint32_t)head);
    expect_problem(store, "the stack of its class goes in a ring");
    sho_store(&sho_region_slab(region, (uint32_t)head - 1)->next, next);

    struct shm_node *node = (struct shm_node *)(region->base + SHM_OID_OFF(shobj_root(store)));
    uint64_t orec = sho_load(&node->orec);
    sho_store(&node->orec, SHM_OREC_LOCK(0, 77));
    expect_problem(store, "a node with a lock that nobody holds");
    shobj_value value;
    shobj_deadline(store, 0);
    CHECK_INT(shobj_path_get(store, "/dict", &value), SHOBJ_ECORRUPT); /* at once: there is no deadline */
    sho_store(&node->orec, orec);

    sho_word *process = &sho_region_slot(region, sho_region_slot_count(region) - 1)->process;
    old = sho_load(process);
    sho_store(process, 400);
    expect_problem(store, "belongs to a process record that is free");
    sho_store(process, old);
    CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    shobj_close(store);
    expect_repair(0);
}

/* A process that was killed in a transaction has changed nothing; in the middle of a commit, all. */
static void test_killed(bool is_committed)
{
    shobj_store *store = make();
    shobj_oid list = oid_at(store, "/list");
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        shobj_value value = of_text("changed by one who was killed");
        CHECK_INT(shobj_txn_begin(store), 0);
        CHECK_INT(shobj_list_set(store, list, 5, &value), 0);
        CHECK_INT(shobj_list_set(store, list, 1500, &value), 0);
        sho_session *s;
        CHECK_INT(sho_session_get(store, &s), 0);
        if (is_committed) {
            uint64_t wv = sho_load(&store->region->sb->clock) + 4 * SHM_VERSION_ONE;
            uint64_t lock = SHM_OREC_LOCK(s->slot_index, s->seq + 1);
            for (uint32_t i = 0; i < s->o.entry_count; i++)
                if (s->o.entries[i].write != NULL)
                    sho_store(&s->o.entries[i].node->orec, lock);
            sho_store(&s->slot->wv, wv);
            sho_store(&s->slot->state, SHM_STATE(s->seq + 1, SHM_COMMITTED));
        }
        raise(SIGKILL);
    }
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    /* Closing leaves the dead one to others. */
    shobj_close(store);
    uint64_t lost;
    shobj_value value;
    store = repair(&lost);
    CHECK_INT(lost, 0);
    for (int i = 5; i <= 1500; i += 1495) {
        CHECK_INT(shobj_list_get(store, oid_at(store, "/list"), i, &value), 0);
        CHECK_INT(value.type, is_committed ? SHOBJ_STR : SHOBJ_INT);
    }
    shobj_close(store);
}

static void test_files(void)
{
    uint64_t lost;
    struct stat old, now;
    shobj_store *store = make();
    CHECK_INT(shobj_repair(path, NULL, NULL, NULL, NULL), SHOBJ_EBUSY); /* by ourselves */
    shobj_close(store);
    CHECK_INT(stat(path, &old), 0);
    const shobj_repair_options to = {.output = output};
    CHECK_INT(shobj_repair(path, &to, NULL, NULL, &lost), 0);
    CHECK_INT(stat(path, &now), 0);
    CHECK_INT(now.st_ino, old.st_ino);
    CHECK_INT(shobj_repair(path, &to, NULL, NULL, &lost), SHOBJ_EEXIST);
    CHECK_INT(rename(output, path), 0);
    store = open_mode(SHOBJ_OPEN_READ);
    expect_all(store);
    shobj_close(store);
    CHECK_INT(stat(path, &old), 0);
    const shobj_repair_options keep = {.backup = backup};
    CHECK_INT(shobj_repair(path, &keep, NULL, NULL, &lost), 0);
    CHECK_INT(stat(backup, &now), 0);
    CHECK_INT(now.st_ino, old.st_ino);
    CHECK_INT(shobj_repair(path, &keep, NULL, NULL, &lost), SHOBJ_EEXIST); /* and the store is still there */
    store = open_mode(SHOBJ_OPEN_READ);
    expect_all(store);
    shobj_close(store);
    CHECK_INT(unlink(backup), 0);
    const shobj_repair_options both = {.backup = backup, .output = output}, bare = {.output = "name"};
    CHECK_INT(shobj_repair(path, &both, NULL, NULL, NULL), SHOBJ_EINVAL);
    CHECK_INT(shobj_repair(path, &bare, NULL, NULL, NULL), SHOBJ_EINVAL);
    CHECK_INT(shobj_unlink(path, true), 0);
    CHECK_INT(shobj_repair(path, NULL, NULL, NULL, NULL), SHOBJ_ENOENT);
}

int main(void)
{
    snprintf(path, sizeof(path), "/dev/shm/shobj-repair-%ld", (long)getpid());
    snprintf(backup, sizeof(backup), "%s.old", path);
    snprintf(output, sizeof(output), "%s.new", path);
    test_sound();
    test_dict_index();
    test_dict_counts();
    test_dict_order();
    test_dict_entries();
    test_list();
    test_root();
    test_superblock();
    test_cut();
    test_tables();
    test_killed(false);
    test_killed(true);
    test_files();
    return 0;
}
