/*
 * cmd_set.c: set and del.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json_load.h"
#include "literal_tree.h"
#include "target.h"

/* ---- what standard input holds */

static char *read_stdin(void)
{
    size_t bytes = 0;
    size_t room = 4096;
    char *text = malloc(room);
    while (text != NULL) {
        ssize_t got = read(STDIN_FILENO, text + bytes, room - bytes - 1);
        if (got < 0 && errno == EINTR && !interrupted)
            continue;
        if (got <= 0) {
            text[bytes] = '\0';
            if (got == 0 && strlen(text) == bytes)
                return text;
            errno = got < 0 ? errno : EILSEQ; /* a NUL: it would end the text early */
            break;
        }
        bytes += (size_t)got;
        if (bytes + 1 == room) {
            room *= 2;
            char *larger = realloc(text, room);
            if (larger == NULL)
                break;
            text = larger;
        }
    }
    free(text);
    return NULL;
}

/* ---- set */

typedef struct set_call {
    const char *path;
    const char *text;
    const char *if_value; /* may be NULL */
    json_load *json;      /* not NULL: the text is JSON */
    char error[256];
    bool is_other; /* the value there is not if_value; `found` is its literal */
    struct spool found;
} set_call;

/* A literal in the form in which it would be printed. */
static int normalize(shobj_store *store, const char *text, struct spool *ret, char error[256])
{
    shobj_value value;
    void *memory = NULL;
    int rc = shobj_literal_parse(text, &value, &memory);
    if (rc == 0)
        rc = shobj_render(store, &value, SHOBJ_FORM_LITERAL, 0, 0, spool_write, ret);
    else
        snprintf(error, 256, "--if-value, %s", shobj_error_message());
    free(memory);
    return rc;
}

/* Types count: 1 is not 1.0 here. An absent key is no value at all. */
static int compare(shobj_store *store, set_call *call)
{
    struct spool expected = {0};
    shobj_value there;
    spool_clear(&call->found);
    int rc = normalize(store, call->if_value, &expected, call->error);
    if (rc == 0)
        rc = shobj_path_get(store, call->path, &there);
    if (rc == 0)
        rc = shobj_render(store, &there, SHOBJ_FORM_LITERAL, 0, 0, spool_write, &call->found);
    if (rc == 0) {
        call->is_other = call->found.kept.bytes != expected.kept.bytes || call->found.file != NULL ||
                         memcmp(call->found.kept.text, expected.kept.text, expected.kept.bytes) != 0;
        rc = call->is_other ? SHOBJ_EABORTED : 0;
    }
    spool_free(&expected);
    return rc;
}

static int set_literal(shobj_store *store, set_call *call)
{
    literal_memory memory = {0};
    shobj_value value;
    int rc = literal_tree_build(store, call->text, &value, &memory, call->error);
    if (rc == 0)
        rc = shobj_path_set(store, call->path, &value);
    literal_memory_free(&memory);
    return rc;
}

static int set_body(shobj_store *store, void *arg)
{
    set_call *call = arg;
    call->error[0] = '\0';
    call->is_other = false;
    int rc = call->if_value != NULL ? compare(store, call) : 0;
    if (rc < 0)
        return rc;
    return call->json != NULL ? json_load_body(store, call->json) : set_literal(store, call);
}

static int set_failed(const struct call *call, const set_call *set, int rc)
{
    if (set->is_other)
        return fail_text(call, rc, "the value there is not %s but %.*s: nothing was set", set->if_value,
                         (int)(set->found.kept.bytes < 200 ? set->found.kept.bytes : 200), set->found.kept.text);
    if (set->error[0] != '\0')
        return fail_text(call, rc, "'%.100s': %s", set->text, set->error);
    if (set->json != NULL && set->json->error[0] != '\0')
        return fail_text(call, rc, "not the JSON of a value: %s", set->json->error);
    return target_fail(call, rc);
}

int cmd_set(const struct call *call)
{
    char *from_stdin = NULL;
    const char *text = call->operands[1];
    if (strcmp(text, "-") == 0) {
        text = from_stdin = read_stdin();
        if (text == NULL)
            return errno == EILSEQ ? fail_text(call, SHOBJ_EINVAL, "standard input: there is a NUL in the text")
                                   : fail_errno(call, "reading standard input");
    }
    struct target target;
    int code = target_open(call, call->operands[0], SHOBJ_OPEN_WRITE, &target);
    if (code == EXIT_DONE) {
        json_input input = {.fd = -1, .text = text, .bytes = strlen(text)};
        json_load json = {.input = &input, .path = target.path};
        set_call set = {.path = target.path,
                        .text = text,
                        .if_value = call_option(call, "if-value"),
                        .json = call->json ? &json : NULL};
        int rc = target_run(&target, set_body, &set);
        if (rc < 0)
            code = set_failed(call, &set, rc);
        spool_free(&set.found);
        target_close(&target);
    }
    free(from_stdin);
    return code;
}

int cmd_del(const struct call *call)
{
    struct target target;
    int code = target_open(call, call->operands[0], SHOBJ_OPEN_WRITE, &target);
    if (code != EXIT_DONE)
        return code;
    int rc = shobj_path_set(target.store, target.path, NULL);
    if (rc < 0) {
        code = fail(call, rc);
    } else if (call->json) {
        fputs("{\"deleted\": ", stdout);
        out_json_str(call->operands[0]);
        fputs("}\n", stdout);
    }
    target_close(&target);
    return code;
}
