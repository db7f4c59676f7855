/*
 * messages.c: what goes through a store must not stay in it. Part of the torture (run), with COUNT by the time it has.
 *
 *     messages [COUNT [FORM...]]
 *
 *   values   one key of a dict gets COUNT values of 1 KiB, one after the other
 *   bytes    one process appends COUNT messages of 1 KiB to a list, another one takes them from its front
 *   dicts    the same, each message a dict with a number and 1 KiB of bytes
 *
 * Every message is looked at: its number, in order, and its bytes. The file must stay under 64 MiB; values and bytes are
 * given back at once, so that not one collection begins; the dicts that nobody refers to any more must have been
 * collected without anybody asking for it. The sender waits when it is WINDOW messages ahead, asleep in the store.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "torture.h"

enum { MESSAGE_BYTES = 1024, WINDOW = 1024, FILE_BYTES_MAX = 64 << 20, COUNT_FEW = 300000 };

const char torture_name[] = "messages";

static char path[256];
static shobj_store *store;
static int64_t count;

static void ensure(bool condition, const char *what, int64_t number)
{
    if (condition)
        return;
    fprintf(stderr, "messages: FAILED: %s (message %" PRId64 ")\n", what, number);
    exit(1);
}

static shobj_key key_of(const char *name)
{
    shobj_value value = {.type = SHOBJ_STR, .data = name, .count = strlen(name)};
    shobj_key key;
    must(shobj_key_init(store, &value, &key), "making a key");
    return key;
}

static shobj_oid list_at(const char *where)
{
    shobj_value value;
    must(shobj_path_get(store, where, &value), where);
    return value.oid;
}

/* ---------------------------------------------------------------------------------------------- one message */

static char message[MESSAGE_BYTES];

static shobj_value bytes_of(int64_t number)
{
    memset(message, (int)(number % 251), sizeof(message));
    memcpy(message, &number, sizeof(number));
    return (shobj_value){.type = SHOBJ_BYTES, .data = message, .count = sizeof(message)};
}

static void check_bytes(const shobj_value *value, int64_t number)
{
    int64_t found;
    ensure(value->type == SHOBJ_BYTES && value->count == MESSAGE_BYTES, "it is no message", number);
    const char *data = value->data;
    memcpy(&found, data, sizeof(found));
    ensure(found == number, "another message was expected", number);
    for (size_t i = sizeof(found); i < MESSAGE_BYTES; i += 97)
        ensure(data[i] == (char)(number % 251), "its bytes are not what was sent", number);
}

static void send_dict(shobj_oid list, int64_t number)
{
    shobj_item items[] = {
        {.key = {.type = SHOBJ_STR, .data = "number", .count = 6}, .value = int_value(number)},
        {.key = {.type = SHOBJ_STR, .data = "body", .count = 4}, .value = bytes_of(number)},
    };
    shobj_value value = {.type = SHOBJ_OBJECT};
    must(shobj_dict_new(store, items, 2, &value.oid), "making a dict");
    must(shobj_list_append(store, list, &value), "sending a dict");
}

static void check_dict(const shobj_value *value, int64_t number)
{
    static shobj_key keys[2];
    static shobj_pins *pins;
    shobj_value found[2];
    uint32_t pin;
    if (pins == NULL) {
        must(shobj_pins_open(store, &pins), "making a table of pins");
        keys[0] = key_of("number");
        keys[1] = key_of("body");
    }
    ensure(value->type == SHOBJ_OBJECT && value->kind == SHOBJ_KIND_DICT, "it is no dict", number);
    must(shobj_pin(pins, value->oid, &pin), "pinning a dict");
    for (int i = 0; i < 2; i++) {
        must(shobj_dict_get(store, value->oid, &keys[i], &found[i]), "reading a dict");
        if (i == 0)
            ensure(found[0].type == SHOBJ_INT && found[0].i == number, "another number was expected", number);
        else
            check_bytes(&found[1], number);
    }
    shobj_unpin(pins, pin);
}

/* ---------------------------------------------------------------------------------------------- through a list */

struct gauge {
    shobj_key key; /* how many were received, now and then */
    int64_t least;
};

static int await_gauge(shobj_store *s, void *arg)
{
    const struct gauge *gauge = arg;
    shobj_value value;
    int rc = shobj_dict_get(s, shobj_root(s), &gauge->key, &value);
    if (rc < 0)
        return rc;
    return value.i >= gauge->least ? 0 : SHOBJ_ERETRY;
}

static void send_all(bool dicts)
{
    shobj_oid list = list_at("/queue");
    struct gauge gauge = {.key = key_of("received")};
    for (int64_t number = 0; number < count; number++) {
        if (number % (WINDOW / 4) == 0) {
            gauge.least = number - WINDOW * 3 / 4;
            must(shobj_run(store, await_gauge, &gauge), "waiting for the receiver");
        }
        if (dicts) {
            send_dict(list, number);
        } else {
            shobj_value value = bytes_of(number);
            must(shobj_list_append(store, list, &value), "sending");
        }
    }
}

static int await_message(shobj_store *s, void *arg)
{
    uint64_t length;
    int rc = shobj_list_len(s, *(const shobj_oid *)arg, &length);
    return rc < 0 ? rc : length > 0 ? 0 : SHOBJ_ERETRY;
}

static void receive_all(bool dicts)
{
    shobj_oid list = list_at("/queue");
    shobj_key received = key_of("received");
    for (int64_t number = 0; number < count; number++) {
        shobj_value value;
        int rc;
        while ((rc = shobj_list_del(store, list, 0, &value)) == SHOBJ_ENOTFOUND)
            must(shobj_run(store, await_message, &list), "waiting for the sender");
        must(rc, "receiving");
        if (dicts)
            check_dict(&value, number);
        else
            check_bytes(&value, number);
        if ((number + 1) % (WINDOW / 4) == 0) {
            value = int_value(number + 1);
            must(shobj_dict_set(store, shobj_root(store), &received, &value), "telling the sender");
        }
    }
}

static void through_list(bool dicts)
{
    shobj_value value = {.type = SHOBJ_OBJECT};
    must(shobj_list_new(store, NULL, 0, &value.oid), "making a list");
    must(shobj_path_set(store, "/queue", &value), "storing the list");
    value = int_value(0);
    must(shobj_path_set(store, "/received", &value), "storing the gauge");
    shobj_close(store); /* each of the two opens it for itself */
    pid_t pid = fork_child();
    shobj_options options = {.mode = SHOBJ_OPEN_WRITE};
    must(shobj_open(path, &options, &store), "opening the store");
    if (pid == 0) {
        send_all(dicts);
        shobj_close(store);
        _exit(EXIT_SUCCESS);
    }
    receive_all(dicts);
    int status;
    ensure(waitpid(pid, &status, 0) == pid && status == 0, "the sender failed", count);
}

/* ---------------------------------------------------------------------------------------------- the forms */

static void send_values(void)
{
    shobj_key key = key_of("value");
    shobj_value found;
    for (int64_t number = 0; number < count; number++) {
        shobj_value value = bytes_of(number);
        must(shobj_dict_set(store, shobj_root(store), &key, &value), "replacing the value");
        if (number % 1000 == 0) {
            must(shobj_dict_get(store, shobj_root(store), &key, &found), "reading the value");
            check_bytes(&found, number);
        }
    }
}

static void send_bytes(void)
{
    through_list(false);
}

static void send_dicts(void)
{
    through_list(true);
}

static const struct form {
    const char *name;
    void (*send)(void);
    bool collected;
} forms[] = {{"values", send_values, false}, {"bytes", send_bytes, false}, {"dicts", send_dicts, true}};

static void test(const struct form *form)
{
    shobj_options options = {.mode = SHOBJ_OPEN_NEW};
    shobj_stat stat;
    struct stat file;
    must(shobj_open(path, &options, &store), "creating the store");
    form->send();
    must(shobj_stat_get(store, &stat), "reading the figures");
    must(shobj_check(store, NULL, NULL, NULL), "checking the store");
    ensure(lstat(path, &file) == 0, "the file is gone", count);
    printf("%-8s %10" PRId64 " messages, %6.1f MiB of file, %" PRIu64 " collections\n", form->name, count,
           (double)file.st_blocks * 512 / (1 << 20), stat.gc.collections);
    fflush(stdout);
    ensure(file.st_blocks * INT64_C(512) < FILE_BYTES_MAX, "the file is 64 MiB or more", count);
    if (form->collected)
        ensure(stat.gc.collections > 0 || count < COUNT_FEW, "nothing was collected", count);
    else
        ensure(stat.gc.collections == 0, "a collection began", count);
    shobj_close(store);
    must(shobj_unlink(path, true), "removing the store");
}

int main(int argc, char **argv)
{
    const char *directory = getenv("SHOBJ_DIR");
    snprintf(path, sizeof(path), "%s/shobj-messages-%d", directory ? directory : "/dev/shm", (int)getpid());
    count = argc > 1 ? strtoll(argv[1], NULL, 10) : COUNT_FEW;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        bool chosen = argc <= 2;
        for (int a = 2; a < argc; a++)
            chosen = chosen || strcmp(argv[a], forms[i].name) == 0;
        if (chosen)
            test(&forms[i]);
    }
    return EXIT_SUCCESS;
}
