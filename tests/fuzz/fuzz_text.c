/*
 * fuzz_text.c: libFuzzer on texts: Python literals, paths, JSON and dumps.
 *
 * Byte 0 of the input says what the rest is. Besides not to crash, what was read must be what is written: the text of a
 * literal, and the dump of what was loaded, are read again, and the second text must equal the first. All of it in a small
 * store, whose root is filled anew each time; what that leaves behind goes with the store, which is made anew now and then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "json_load.h"
#include "literal_tree.h"
#include "target.h"

#define TEXT_BYTES_MAX (1u << 22)
#define INPUTS_PER_STORE 2000

static shobj_store *store;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* ---- what the command's files want of its main program */

volatile sig_atomic_t interrupted;

int fail_errno(const struct call *call, const char *what)
{
    (void)call;
    perror(what);
    return EXIT_STORE;
}

void patience_renew(shobj_store *of)
{
    (void)of;
}

/* ---- texts */

struct text {
    char *bytes;
    size_t count;
};

static int add_text(const char *bytes, size_t count, void *arg)
{
    struct text *text = arg;
    if (text->count + count > TEXT_BYTES_MAX)
        return 1;
    text->bytes = realloc(text->bytes, text->count + count + 1);
    if (text->bytes == NULL)
        abort();
    memcpy(text->bytes + text->count, bytes, count);
    text->count += count;
    text->bytes[text->count] = '\0';
    return 0;
}

static struct text render(const shobj_value *value, enum shobj_form form)
{
    struct text text = {0};
    int rc = shobj_render(store, value, form, 0, 0, add_text, &text);
    if (rc < 0) {
        fprintf(stderr, "fuzz_text: rendering: %s\n", shobj_error_message());
        abort();
    }
    if (rc > 0) { /* too long to be compared: shared values may be written many times */
        free(text.bytes);
        text = (struct text){0};
    }
    return text;
}

static void compare(struct text first, struct text second, const char *what)
{
    if (first.bytes != NULL && second.bytes != NULL && strcmp(first.bytes, second.bytes) != 0) {
        fprintf(stderr, "fuzz_text: %s:\n%.2000s\nread again is\n%.2000s\n", what, first.bytes, second.bytes);
        abort();
    }
    free(first.bytes);
    free(second.bytes);
}

/* An error must have a message, and be one of those that a bad text may have. */
static void judge(int rc, const char *what)
{
    static const int fair[] = {SHOBJ_EINVAL, SHOBJ_ETYPE, SHOBJ_ENOTFOUND, SHOBJ_EFULL, SHOBJ_ESTALE};
    bool is_fair = rc == 0;
    for (size_t i = 0; i < sizeof(fair) / sizeof(fair[0]); i++)
        is_fair = is_fair || (rc == fair[i] && shobj_error_message()[0] != '\0');
    if (is_fair)
        return;
    fprintf(stderr, "fuzz_text: %s: %s: %s\n", what, shobj_error_name(rc), shobj_error_message());
    abort();
}

/* ---- kinds of input */

static void try_literal(const char *text)
{
    shobj_value value, again;
    void *memory = NULL, *more = NULL;
    int rc = shobj_literal_parse(text, &value, &memory);
    judge(rc, "a literal");
    if (rc)
        return;
    struct text first = render(&value, SHOBJ_FORM_LITERAL);
    if (first.bytes != NULL) {
        rc = shobj_literal_parse(first.bytes, &again, &more);
        if (rc) {
            fprintf(stderr, "fuzz_text: the text of a literal can't be read: %s: %.2000s\n", shobj_error_message(),
                    first.bytes);
            abort();
        }
        compare(first, render(&again, SHOBJ_FORM_LITERAL), "a literal");
    }
    free(more);
    free(memory);
}

static void try_step(const shobj_value *key)
{
    char step[4096];
    size_t bytes = shobj_path_step(key, step, 1);
    if (bytes < sizeof(step) && shobj_path_step(key, step, sizeof(step)) != bytes)
        abort();
}

static void try_path(const char *path)
{
    size_t bytes;
    const char *rest;
    shobj_value value, step;
    shobj_oid container, oid;
    enum shobj_kind kind;
    judge(shobj_address_split(path, &bytes, &rest), "an address");
    judge(shobj_oid_parse(path, &oid), "an id");
    if (shobj_path_get(store, path, &value) == 0)
        free(render(&value, SHOBJ_FORM_JSON).bytes);
    if (shobj_path_parent(store, path, &container, &kind, &step) == 0 && step.type != SHOBJ_ABSENT)
        try_step(&step);
    value = (shobj_value){.type = SHOBJ_INT, .i = 1};
    judge(shobj_path_set(store, path, &value), "setting a path");
    judge(shobj_path_get(store, path, &value), "getting a path");
    judge(shobj_path_set(store, path, NULL), "deleting a path");
}

static int load(const char *text, size_t bytes, const char *path, bool is_lines, bool is_plain)
{
    const json_input input = {.fd = -1, .text = text, .bytes = bytes};
    json_load load = {.input = &input, .path = path, .is_lines = is_lines, .is_plain = is_plain};
    int rc = shobj_run(store, json_load_body, &load);
    if (rc < 0 && load.error[0] == '\0')
        judge(rc, "loading");
    return rc;
}

static void try_load(const char *text, size_t bytes, bool is_lines, bool is_plain)
{
    shobj_value value;
    if (load(text, bytes, "/x", is_lines, is_plain) != 0)
        return;
    judge(shobj_path_get(store, "/x", &value), "what was loaded");
    struct text first = render(&value, SHOBJ_FORM_DUMP);
    free(render(&value, SHOBJ_FORM_JSON).bytes);
    if (first.bytes == NULL)
        return;
    if (load(first.bytes, first.count, "/y", false, false) != 0) {
        fprintf(stderr, "fuzz_text: a dump can't be loaded: %s: %.2000s\n", shobj_error_message(), first.bytes);
        abort();
    }
    judge(shobj_path_get(store, "/y", &value), "what was loaded again");
    compare(first, render(&value, SHOBJ_FORM_DUMP), "a dump");
}

static int build_body(shobj_store *of, void *arg)
{
    char error[256] = "";
    shobj_value value;
    literal_memory memory = {0};
    int rc = literal_tree_build(of, arg, &value, &memory, error);
    if (rc == 0)
        rc = shobj_path_set(of, "/x", &value);
    literal_memory_free(&memory);
    return rc;
}

/* ---- the target */

static void fill_root(void)
{
    static const char text[] = "{\"a\": [1, [2, {\"k\": \"v\"}], \"x\"], \"~/\": {\"1\": 2}, "
                               "\"d\": {\"$dict\": [[1, 2], [{\"$tuple\": [1, \"a\"]}, 3]]}}";
    int rc = load(text, sizeof(text) - 1, "", false, false);
    if (rc) {
        fprintf(stderr, "fuzz_text: filling the store: %s\n", shobj_error_message());
        abort();
    }
}

static void new_store(void)
{
    char path[64];
    const shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 64u << 20};
    shobj_close(store);
    snprintf(path, sizeof(path), "/dev/shm/fuzz_text-%ld", (long)getpid());
    if (shobj_open(path, &options, &store) != 0) {
        fprintf(stderr, "fuzz_text: %s\n", shobj_error_message());
        abort();
    }
    unlink(path); /* nothing is left however this ends */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static unsigned inputs;
    if (bytes < 1)
        return -1;
    if (inputs++ % INPUTS_PER_STORE == 0)
        new_store();
    char *text = malloc(bytes);
    if (text == NULL)
        abort();
    memcpy(text, data + 1, bytes - 1);
    text[bytes - 1] = '\0';
    fill_root();
    switch (data[0] % 6) {
    case 0: try_literal(text); break;
    case 1: try_path(text); break;
    case 2: judge(shobj_run(store, build_body, text), "a literal with containers"); break;
    case 3: try_load(text, bytes - 1, false, false); break;
    case 4: try_load(text, bytes - 1, true, false); break;
    default: try_load(text, bytes - 1, false, true); break;
    }
    free(text);
    return 0;
}
