/*
 * shapes.c: sound heaps of several shapes.
 *
 * A shape is the same each time it is made, bit for bit but for times and process ids: what the library draws at random at
 * the creation of a heap comes from the getrandom() of this file. So a seed or a fuzzer's input means the same damage in
 * every run.
 *
 * The last shapes hold what processes leave that were killed: one in the middle of a transaction, and, by setting state
 * words and locks as a commit would have, in the middle of a commit.
 */
#include "damage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap/layout.h"

#define MAX_SIZE (16ULL << 20)

static uint64_t random_state = 1;
static unsigned shrunk_by = 1;

void shape_shrink(unsigned by)
{
    shrunk_by = by;
}

/* How many there are to be: enough for each form that a container may have. */
static unsigned scaled(unsigned count)
{
    return count <= 100 ? count : count / shrunk_by < 100 ? 100 : count / shrunk_by;
}

/* Stands for the system's in this program. */
ssize_t getrandom(void *buf, size_t bytes, unsigned flags)
{
    uint8_t *out = buf;
    (void)flags;
    for (size_t i = 0; i < bytes; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(random_state >> 56);
    }
    return (ssize_t)bytes;
}

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "damage: making a sound heap: %s: %s\n", what, shobj_error_message());
    exit(3);
}

static void must_system(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "damage: making a sound heap: %s: %s\n", what, strerror(errno));
    exit(3);
}

/* ------------------------------------------------------------------------------------------ values */

static shobj_value of_int(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

static shobj_value of_text(const char *text)
{
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
}

static shobj_value of_object(shobj_oid oid)
{
    return (shobj_value){.type = SHOBJ_OBJECT, .oid = oid};
}

void shape_key(unsigned number, char ret_text[24])
{
    snprintf(ret_text, 24, number % 3 == 0 ? "k%u" : "a longer key %u", number);
}

static void put(shobj_store *store, shobj_oid dict, shobj_value key, shobj_value value)
{
    shobj_key ready;
    must(shobj_key_init(store, &key, &ready), "a key");
    must(shobj_dict_set(store, dict, &ready, &value), "setting a key");
}

static shobj_oid new_dict(shobj_store *store)
{
    shobj_oid oid = 0;
    must(shobj_dict_new(store, NULL, 0, &oid), "a dict");
    return oid;
}

static shobj_oid new_list(shobj_store *store)
{
    shobj_oid oid = 0;
    must(shobj_list_new(store, NULL, 0, &oid), "a list");
    return oid;
}

static void append(shobj_store *store, shobj_oid list, shobj_value value)
{
    must(shobj_list_append(store, list, &value), "appending");
}

/* One value of each type, the numbers large and small. */
static void put_types(shobj_store *store, shobj_oid dict)
{
    static const uint8_t magnitude[20] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
    const shobj_value inner[] = {of_int(1), of_text("a text in a tuple"), {.type = SHOBJ_NONE}};
    const shobj_value pair[] = {{.type = SHOBJ_TUPLE, .items = inner, .count = 3}, of_text("two")};
    const shobj_value values[] = {
        {.type = SHOBJ_NONE},
        {.type = SHOBJ_BOOL, .i = 1},
        of_int(-7),
        of_int(INT64_MAX),
        {.type = SHOBJ_BIGINT, .data = magnitude, .count = sizeof(magnitude), .negative = 1},
        {.type = SHOBJ_FLOAT, .f = 1.5},
        {.type = SHOBJ_COMPLEX, .c = {1.5, -2.5}},
        of_text("short"),
        of_text("a text that is too long for a cell"),
        {.type = SHOBJ_BYTES, .data = "bytes of some length", .count = 20},
        {.type = SHOBJ_TUPLE, .items = pair, .count = 2},
        {.type = SHOBJ_FROZENSET, .items = inner, .count = 3},
    };
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char key[24];
        shape_key(i, key);
        put(store, dict, of_text(key), values[i]);
    }
    put(store, dict, values[10], of_int(10)); /* a tuple, a float and bytes as keys */
    put(store, dict, values[5], of_int(11));
    put(store, dict, values[9], of_int(12));
}

/* ------------------------------------------------------------------------------------------ the shapes */

static void make_small(shobj_store *store)
{
    shobj_oid root = shobj_root(store);
    shobj_oid dict = new_dict(store), list = new_list(store);
    put_types(store, dict);
    for (int i = 0; i < 4; i++)
        append(store, list, of_int(i));
    put(store, root, of_text("dict"), of_object(dict));
    put(store, root, of_text("list"), of_object(list));
    put(store, root, of_int(1), of_text("one"));
}

static shobj_oid dict_of(shobj_store *store, unsigned count)
{
    shobj_oid dict = new_dict(store);
    char key[24];
    for (unsigned i = 0; i < count; i++) {
        shape_key(i, key);
        put(store, dict, i % 5 == 0 ? of_int(i) : of_text(key),
            i % 7 == 0 ? of_text("a value that has a block of its own") : of_int(i));
    }
    return dict;
}

static shobj_oid list_of(shobj_store *store, unsigned count)
{
    shobj_oid list = new_list(store);
    for (unsigned i = 0; i < count; i++)
        append(store, list, i % 6 == 0 ? of_text("an element with a block of its own") : of_int(i));
    return list;
}

static void make_dicts(shobj_store *store)
{
    static const unsigned counts[] = {8, 20, 60, 700};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        put(store, shobj_root(store), of_int(counts[i]), of_object(dict_of(store, scaled(counts[i]))));
}

static void make_large_dict(shobj_store *store)
{
    put(store, shobj_root(store), of_text("dict"), of_object(dict_of(store, scaled(4000))));
}

static void make_lists(shobj_store *store)
{
    static const unsigned counts[] = {5, 30, 100, 1500};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        shobj_oid list = list_of(store, scaled(counts[i]));
        shobj_value middle = of_text("in the middle");
        for (unsigned k = 0; k < scaled(counts[i]) / 4; k++)
            must(shobj_list_insert(store, list, scaled(counts[i]) / 2, &middle), "inserting");
        put(store, shobj_root(store), of_int(counts[i]), of_object(list));
    }
}

/* Dicts and lists inside one another, shared, and round in circles. */
static void make_nested(shobj_store *store)
{
    shobj_oid root = shobj_root(store), shared = new_list(store), above = root;
    put(store, root, of_text("shared"), of_object(shared));
    for (unsigned i = 0; i < 60 / shrunk_by + 9; i++) {
        shobj_oid dict = new_dict(store), list = new_list(store);
        const shobj_value pair[] = {of_object(dict), of_object(shared)};
        append(store, list, of_object(dict));
        append(store, list, (shobj_value){.type = SHOBJ_TUPLE, .items = pair, .count = 2});
        put(store, dict, of_text("up"), of_object(above));
        put(store, dict, of_text("shared"), of_object(shared));
        put(store, above, of_text("down"), of_object(list));
        put(store, above, of_int(i), of_object(dict));
        append(store, shared, of_object(list));
        above = i % 8 == 7 ? root : dict;
    }
}

/* Values from 1 KiB to several slabs, some of them freed again; of some sizes more than one, so that they share wide slabs. */
static void make_big(shobj_store *store)
{
    shobj_oid root = shobj_root(store);
    static uint8_t bytes[300000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)('a' + i % 26);
    unsigned number = 0;
    for (size_t size = 1000; size <= sizeof(bytes); size += size / 2, number++)
        put(store, root, of_int(number),
            (shobj_value){.type = number % 2 ? SHOBJ_STR : SHOBJ_BYTES, .data = bytes, .count = size});
    static const size_t shared[] = {26000, 40000, 70000, 160000};
    for (unsigned i = 0; i < 4 * sizeof(shared) / sizeof(shared[0]); i++, number++)
        put(store, root, of_int(number), (shobj_value){.type = SHOBJ_BYTES, .data = bytes, .count = shared[i % 4]});
    for (unsigned i = 0; i < number; i += 3)
        put(store, root, of_int(i), of_int(0));
}

/* Much was there and is gone: free lists of all kinds. */
static void make_churned(shobj_store *store)
{
    shobj_oid root = shobj_root(store);
    unsigned count = scaled(1500);
    shobj_oid dict = dict_of(store, count), list = list_of(store, count);
    put(store, root, of_text("dict"), of_object(dict));
    put(store, root, of_text("list"), of_object(list));
    for (unsigned i = 0; i < count - count / 15; i++) {
        char text[24];
        shape_key(i, text);
        shobj_value value = i % 5 == 0 ? of_int(i) : of_text(text);
        shobj_key key;
        must(shobj_key_init(store, &value, &key), "a key");
        if (i % 11 != 0)
            must(shobj_dict_del(store, dict, &key, NULL), "deleting a key");
        must(shobj_list_del(store, list, i % 2 ? -1 : 10, NULL), "deleting an element");
    }
}

/* Filled to the brim: nothing more can be taken. */
static void make_full(shobj_store *store)
{
    shobj_oid list = new_list(store);
    static const char bytes[9000];
    const shobj_value big = {.type = SHOBJ_BYTES, .data = bytes, .count = sizeof(bytes)};
    put_types(store, shobj_root(store));
    put(store, shobj_root(store), of_text("list"), of_object(list));
    while (shobj_list_append(store, list, &big) == 0)
        ;
}

/* Dies in the middle of a transaction that has a log of some length. */
static void make_killed(shobj_store *store)
{
    shobj_oid dict = dict_of(store, 300), list = list_of(store, 300);
    put(store, shobj_root(store), of_text("dict"), of_object(dict));
    put(store, shobj_root(store), of_text("list"), of_object(list));
    pid_t pid = fork();
    must_system(pid >= 0, "fork");
    if (pid == 0) {
        must(shobj_txn_begin(store), "a transaction");
        uint64_t count;
        must(shobj_dict_len(store, dict, &count), "its length");
        must(shobj_list_len(store, list, &count), "its length");
        for (unsigned i = 0; i < 250; i++) {
            shobj_value text = of_text("a text that a transaction never committed");
            put(store, dict, of_int(5 * (int64_t)i), text);
            must(shobj_list_set(store, list, i, &text), "setting an element");
        }
        put(store, dict, of_text("new"), of_object(list_of(store, 100)));
        raise(SIGKILL);
    }
    must_system(waitpid(pid, NULL, 0) == pid, "waiting for a process that was to die");
}

static const struct {
    const char *name;
    void (*make)(shobj_store *store);
} shapes[SHAPE_COUNT] = {
    {"small", make_small},   {"dicts", make_dicts},     {"large dict", make_large_dict}, {"lists", make_lists},
    {"nested", make_nested}, {"big values", make_big},  {"churned", make_churned},       {"full", make_full},
    {"killed", make_killed}, {"committing", make_killed},
};

const char *shape_name(unsigned shape)
{
    return shapes[shape].name;
}

/* ------------------------------------------------------------------------------------------ images */

static uint64_t *word_at(const struct image *image, uint64_t off)
{
    return (uint64_t *)(image->bytes + off);
}

/* Makes the dead process's transaction one that had decided and taken its locks: it is committed by who recovers it. */
static void make_committed(const struct image *image)
{
    for (unsigned slot = 0; slot < SHM_SLOT_MAX; slot++) {
        struct shm_slot *at = (struct shm_slot *)(image->bytes + SHM_SLOT_OFF + (uint64_t)slot * SHM_PAGE_BYTES);
        uint64_t log_end = *(uint64_t *)&at->log_end;
        if ((uint8_t *)(at + 1) > image->bytes + image->size || log_end == 0)
            continue;
        uint64_t seq = SHM_SEQ(*(uint64_t *)&at->state) + 1;
        struct shm_superblock *sb = (struct shm_superblock *)image->bytes;
        uint64_t *clock = (uint64_t *)&sb->clock;
        *clock += SHM_VERSION_ONE;
        *(uint64_t *)&at->wv = *clock;
        *(uint64_t *)&at->state = SHM_STATE(seq, SHM_COMMITTED);
        uint64_t segment = 0, off = (uint64_t)((uint8_t *)at->log - image->bytes), bytes = SHM_LOG_INLINE_BYTES;
        uint64_t next = *(uint64_t *)&at->log_next;
        for (;; segment++) {
            uint64_t end = segment == log_end >> 32 ? (uint32_t)log_end : bytes;
            for (uint64_t used = 0; used + 8 <= end;) {
                uint64_t first = *word_at(image, off + used);
                bool is_write = SHM_RECORD_TYPE(first) == SHM_RECORD_WRITE;
                if (is_write && *word_at(image, off + used + 16) != 0)
                    *word_at(image, SHM_RECORD_OFF(first)) = SHM_OREC_LOCK(slot, seq);
                used += is_write ? 24 + 8 * SHM_RECORD_WORDS(first) : 8;
            }
            if (segment == log_end >> 32 || next == 0)
                break;
            off = next + offsetof(struct shm_log_segment, records);
            bytes = *word_at(image, next + offsetof(struct shm_log_segment, bytes));
            next = *word_at(image, next + offsetof(struct shm_log_segment, next));
        }
    }
}

static void find_pages(struct image *image)
{
    static const uint8_t zeros[SHM_PAGE_BYTES];
    image->page_count = 0;
    image->pages = malloc(image->size / SHM_PAGE_BYTES * sizeof(*image->pages));
    must_system(image->pages != NULL, "memory");
    for (uint32_t page = 0; page < image->size / SHM_PAGE_BYTES; page++)
        if (memcmp(image->bytes + (size_t)page * SHM_PAGE_BYTES, zeros, SHM_PAGE_BYTES) != 0)
            image->pages[image->page_count++] = page;
}

static void read_image(const char *path, struct image *ret_image)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must_system(fd >= 0 && fstat(fd, &st) == 0, path);
    *ret_image = (struct image){.bytes = malloc((size_t)st.st_size), .size = (size_t)st.st_size};
    must_system(ret_image->bytes != NULL, "memory");
    must_system(read(fd, ret_image->bytes, ret_image->size) == st.st_size, path);
    close(fd);
}

void shape_make(unsigned shape, const char *path, struct image *ret_image)
{
    const shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = shape == 7 ? 4ULL << 20 : MAX_SIZE};
    shobj_store *store;
    random_state = shape + 1;
    must(shobj_open(path, &options, &store), path);
    shapes[shape].make(store);
    if (shape < 8) {
        shobj_close(store);
        read_image(path, ret_image);
    } else {
        read_image(path, ret_image); /* before anybody cleans up */
        shobj_close(store);
    }
    must_system(unlink(path) == 0, path);
    if (shape == 9)
        make_committed(ret_image);
    find_pages(ret_image);
}

void image_copy(const struct image *image, struct image *ret_copy)
{
    *ret_copy = *image;
    ret_copy->bytes = malloc(image->size);
    must_system(ret_copy->bytes != NULL, "memory");
    memcpy(ret_copy->bytes, image->bytes, image->size);
}

bool image_write(const struct image *image, const char *path)
{
    static const uint8_t zeros[SHM_PAGE_BYTES];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = fd >= 0 && ftruncate(fd, (off_t)image->size) == 0;
    for (size_t at = 0; good && at < image->size; at += SHM_PAGE_BYTES) {
        size_t bytes = image->size - at < SHM_PAGE_BYTES ? image->size - at : SHM_PAGE_BYTES;
        if (memcmp(image->bytes + at, zeros, bytes) != 0)
            good = pwrite(fd, image->bytes + at, bytes, (off_t)at) == (ssize_t)bytes;
    }
    return close(fd) == 0 && good;
}
