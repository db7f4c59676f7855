/*
 * cmd_check.c: check, and the repair of what it finds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

typedef struct check_state {
    bool json;
    bool first;
} check_state;

static void print_problem(const char *line, void *arg)
{
    check_state *state = arg;
    if (state->json) {
        fputs(state->first ? "" : ", ", stdout);
        out_json_str(line);
    } else {
        out_row((const int[]){0}, (const char *const[]){line}, 1);
    }
    state->first = false;
}

/* Opens it, or tells why not. */
static int open_checked(const struct call *call, const char *name, shobj_store **ret_store)
{
    const shobj_options options = {.mode = SHOBJ_OPEN_READ, .wait_interrupted = patience_is_interrupted};
    int rc = shobj_open(name, &options, ret_store);
    if (rc == 0)
        patience_renew(*ret_store);
    else
        fail(call, rc);
    return rc;
}

/* Verifies an open store. With `continues`, a repair is to follow: JSON is left open, and the summary is its own. */
static int verify(const struct call *call, shobj_store *store, bool continues)
{
    check_state state = {.json = call->json, .first = true};
    uint64_t problems = 0;
    if (call->json)
        fputs("{\"problems\": [", stdout);
    int rc = shobj_check(store, print_problem, &state, &problems);
    continues = continues && rc == SHOBJ_ECORRUPT;
    if (call->json)
        printf("], \"whole\": %s%s", rc == 0 ? "true" : "false", continues ? ", " : "}\n");
    if (rc == 0 && !call->json)
        printf("%s: whole\n", shobj_path(store));
    if (rc == SHOBJ_ECORRUPT && problems > 0 && !continues)
        fail_text(call, rc, "%s: damaged, %" PRIu64 " problem%s found; --repair rebuilds it from what can be read", shobj_path(store),
                  problems, problems == 1 ? "" : "s");
    else if (rc < 0 && !continues)
        fail(call, rc);
    return rc;
}

static int repair(const struct call *call, const char *name, bool continues)
{
    const shobj_repair_options options = {.output = call_option(call, "output"), .backup = call_option(call, "backup")};
    check_state state = {.json = call->json, .first = true};
    uint64_t lost = 0;
    if (call->json)
        printf("%s\"lost\": [", continues ? "" : "{");
    int rc = shobj_repair(name, &options, print_problem, &state, &lost);
    if (call->json)
        printf("], \"repaired\": %s}\n", rc == 0 ? "true" : "false");
    else if (rc == 0)
        printf("%s: repaired, %" PRIu64 " loss%s\n", options.output != NULL ? options.output : name, lost, lost == 1 ? "" : "es");
    return rc < 0 ? fail(call, rc) : EXIT_DONE;
}

/* Is that what a repair is for? */
static bool is_damage(int error)
{
    return error == SHOBJ_ECORRUPT || error == SHOBJ_EFORMAT || error == SHOBJ_EVERSION;
}

static int check_named(const struct call *call, const char *name)
{
    shobj_store *store;
    bool repairs = call_option(call, "repair") != NULL;
    int rc = open_checked(call, name, &store);
    bool opened = rc == 0;
    if (opened) {
        rc = verify(call, store, repairs);
        shobj_close(store);
    }
    if (repairs && is_damage(rc))
        return repair(call, name, opened);
    return rc < 0 ? (int)exit_code_of(rc) : EXIT_DONE;
}

int cmd_check(const struct call *call)
{
    const char *output = call_option(call, "output"), *backup = call_option(call, "backup");
    if (call_option(call, "repair") == NULL && (output != NULL || backup != NULL))
        return fail_usage(call, "--backup and --output go with --repair");
    if (output != NULL && (strchr(output, '/') == NULL || backup != NULL))
        return fail_usage(call, "--output takes a path with a '/', and no --backup: the damaged store stays as it is");
    if (call->prompt_store != NULL) {
        if (call_option(call, "repair") != NULL)
            return fail_usage(call, "--repair is for stores that nobody has open: leave the prompt first");
        struct target target;
        int code = target_open_store(call, call->operands[0], SHOBJ_OPEN_READ, &target);
        if (code != EXIT_DONE)
            return code;
        int rc = verify(call, target.store, false);
        target_close(&target);
        return rc < 0 ? (int)exit_code_of(rc) : EXIT_DONE;
    }
    char *name;
    int code = target_store_name(call, call->operands[0], &name);
    if (code != EXIT_DONE)
        return code;
    code = check_named(call, name);
    free(name);
    return code;
}
