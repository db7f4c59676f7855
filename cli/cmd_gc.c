/*
 * cmd_gc.c: gc and why: what is freed, and what keeps an object from that.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memory.h"
#include "target.h"

#define THREADS_MAX 64
#define GROWTH_MAX  1000000
#define REASONS     16

/* ---- gc */

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int set_growth(const struct call *call, shobj_store *store)
{
    uint64_t percent;
    const char *text = call_option(call, "growth");
    if (strcmp(text, "never") == 0) {
        percent = UINT32_MAX;
    } else {
        int code = parse_number(call, "growth", 1, GROWTH_MAX, &percent);
        if (code != EXIT_DONE)
            return code;
    }
    int rc = shobj_gc_growth(store, (uint32_t)percent);
    return rc < 0 ? fail(call, rc) : EXIT_DONE;
}

/* Closes the store: memory is given back while nobody has it open. `store` is not the prompt's. */
static int trim(const struct call *call, struct target *target, uint64_t *ret_bytes)
{
    char *path = strdup(shobj_path(target->store));
    if (path == NULL)
        return fail_errno(call, "trimming a store");
    target_close(target);
    target->is_owned = false;
    int rc = shobj_trim(path, ret_bytes);
    free(path);
    return rc < 0 ? fail(call, rc) : EXIT_DONE;
}

static int collect(const struct call *call, struct target *target, unsigned threads)
{
    shobj_store *store = target->store;
    bool trims = call_option(call, "trim") != NULL;
    uint64_t trimmed = 0;
    shobj_gc before, after;
    double began = now_seconds();
    shobj_gc_get(store, &before);
    shobj_deadline(store, 0); /* it waits for nobody, and a large heap takes its time */
    int rc = shobj_collect(store, threads);
    if (rc < 0)
        return fail(call, rc);
    shobj_gc_get(store, &after);
    if (trims) {
        int code = trim(call, target, &trimmed);
        if (code != EXIT_DONE)
            return code;
    }
    const struct figure figures[] = {
        {"freed", after.freed_ever - before.freed_ever, FIGURE_PLAIN},
        {"freed_bytes", after.freed_ever_bytes - before.freed_ever_bytes, FIGURE_BYTES},
        {"live_bytes", after.live_bytes, FIGURE_BYTES},
        {"held_slabs", after.held_slabs, FIGURE_PLAIN},
        {"trimmed_bytes", trimmed, FIGURE_BYTES},
    };
    size_t count = sizeof(figures) / sizeof(figures[0]) - !trims;
    char seconds[32];
    bool first = true;
    snprintf(seconds, sizeof(seconds), "%.6f", now_seconds() - began);
    if (call->json)
        fputc('{', stdout);
    out_figures(figures, count, call->json, &first);
    if (call->json) {
        out_json_name("seconds", &first);
        printf("%s}\n", seconds);
    } else {
        out_named_text("seconds", seconds, false, NULL);
    }
    return EXIT_DONE;
}

static int look(const struct call *call, shobj_store *store)
{
    bool first = true;
    if (call->json)
        fputc('{', stdout);
    int rc = print_garbage(store, call->json, &first);
    if (rc < 0)
        return fail(call, rc);
    if (call->json)
        fputs("}\n", stdout);
    return EXIT_DONE;
}

int cmd_gc(const struct call *call)
{
    bool dry = call_option(call, "dry-run") != NULL;
    bool growth = call_option(call, "growth") != NULL;
    uint64_t threads = 1;
    int code = EXIT_DONE;
    if (call_option(call, "jobs") != NULL)
        code = parse_number(call, "jobs", 1, THREADS_MAX, &threads);
    bool trims = call_option(call, "trim") != NULL;
    if (code == EXIT_DONE && dry && (growth || trims || call_option(call, "jobs") != NULL))
        code = fail_usage(call, "-n changes nothing and takes one thread: no --growth, --trim or -j with it");
    if (code == EXIT_DONE && growth && (trims || call_option(call, "jobs") != NULL))
        code = fail_usage(call, "--growth does not collect: no --trim or -j with it");
    struct target target;
    if (code == EXIT_DONE)
        code = target_open_store(call, call->operands[0], dry ? SHOBJ_OPEN_READ : SHOBJ_OPEN_WRITE, &target);
    if (code != EXIT_DONE)
        return code;
    if (growth)
        code = set_growth(call, target.store);
    else
        code = dry ? look(call, target.store) : collect(call, &target, (unsigned)threads);
    target_close(&target);
    return code;
}

/* ---- why */

typedef struct why_state {
    bool json;
    uint64_t count;
    int64_t pid; /* this process */
} why_state;

static const char *keeper_name(enum shobj_keeper keeper)
{
    switch (keeper) {
    case SHOBJ_KEEPER_PIN: return "pin";
    case SHOBJ_KEEPER_HOLD: return "hold";
    case SHOBJ_KEEPER_TRANSACTION: return "transaction";
    default: return "root";
    }
}

static int print_reason(const shobj_reason *reason, void *arg)
{
    static const int widths[] = {-11, 8, 7, 0};
    why_state *state = arg;
    bool has_process = reason->keeper != SHOBJ_KEEPER_ROOT;
    bool has_session = reason->keeper == SHOBJ_KEEPER_HOLD || reason->keeper == SHOBJ_KEEPER_TRANSACTION;
    state->count++;
    if (state->json) {
        bool first = true;
        fputs(state->count == 1 ? "\n {" : ",\n {", stdout);
        out_json_name("keeper", &first);
        out_json_str(keeper_name(reason->keeper));
        if (has_process) {
            out_json_number("pid", (uint64_t)reason->pid, &first);
            out_json_number("process", reason->process, &first);
        }
        if (has_session)
            out_json_number("session", reason->session, &first);
        out_json_name("path", &first);
        out_json_str(reason->path);
        fputc('}', stdout);
        return interrupted;
    }
    char pid[32], session[32];
    snprintf(pid, sizeof(pid), has_process ? "%" PRId64 : "-", reason->pid);
    snprintf(session, sizeof(session), has_session ? "%" PRIu32 : "-", reason->session);
    out_row(widths, (const char *const[]){keeper_name(reason->keeper), pid, session, reason->path}, 4);
    return interrupted;
}

int cmd_why(const struct call *call)
{
    uint64_t max = REASONS;
    if (call_option(call, "count") != NULL) {
        int code = parse_number(call, "count", 1, UINT32_MAX, &max);
        if (code != EXIT_DONE)
            return code;
    }
    struct target target;
    int code = target_open(call, call->operands[0], SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    shobj_value value;
    why_state state = {.json = call->json};
    int rc = shobj_path_get(target.store, target.path, &value);
    if (rc == 0 && value.type != SHOBJ_OBJECT) {
        code = fail_text(call, SHOBJ_ETYPE, "'%s' is a %s: it belongs to the object that holds it; ask for that one",
                         call->operands[0], value_type(&value));
    } else if (rc == 0) {
        if (call->json)
            fputc('[', stdout);
        rc = shobj_why(target.store, value.oid, (unsigned)max, print_reason, &state);
        if (rc >= 0 && call->json)
            fputs(state.count > 0 ? "\n]\n" : "]\n", stdout);
        if (rc >= 0 && state.count == 0)
            code = EXIT_ABSENT;
    }
    if (rc < 0)
        code = fail(call, rc);
    target_close(&target);
    return code;
}
