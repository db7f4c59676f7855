/*
 * cmd_store.c: create, rm, open (the summary; the prompt is in prompt.c), stat, ps.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "prompt.h"
#include "target.h"

/* ---- create, open, rm */

int read_create_options(const struct call *call, shobj_options *ret)
{
    int code = EXIT_DONE;
    if (call_option(call, "size") != NULL)
        code = parse_bytes(call, "size", &ret->size);
    if (code == EXIT_DONE && call_option(call, "max-size") != NULL)
        code = parse_bytes(call, "max-size", &ret->max_size);
    const char *mode = call_option(call, "mode");
    if (code != EXIT_DONE || mode == NULL)
        return code;
    char *end;
    unsigned long bits = strtoul(mode, &end, 8);
    if (mode[0] < '0' || mode[0] > '7' || *end != '\0' || bits > 0777)
        return fail_usage(call, "--mode %s: give octal permission bits, such as 600 or 660", mode);
    ret->file_mode = (unsigned)bits;
    return EXIT_DONE;
}

static void format_uuid(const shobj_store *store, char ret_text[37])
{
    const uint8_t *u = shobj_uuid(store);
    char *at = ret_text;
    for (int i = 0; i < 16; i++)
        at += sprintf(at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", u[i]);
}

#define FIGURE_MAX 40

static size_t list_figures(const shobj_stat *s, struct figure *ret)
{
    const shobj_gc *gc = &s->gc;
    const struct figure all[] = {
        {"file_bytes", s->file_bytes, FIGURE_BYTES},
        {"size_bytes", s->size_bytes, FIGURE_BYTES},
        {"max_bytes", s->max_bytes, FIGURE_BYTES},
        {"used_bytes", s->used_bytes, FIGURE_BYTES},
        {"free_bytes", s->free_bytes, FIGURE_BYTES},
        {"kept_bytes", s->kept_bytes, FIGURE_BYTES},
        {"live_bytes", gc->live_bytes, FIGURE_BYTES},
        {"slabs", s->slabs, FIGURE_PLAIN},
        {"free_slabs", s->free_slabs, FIGURE_PLAIN},
        {"given_slabs", s->given_slabs, FIGURE_PLAIN},
        {"objects", s->objects, FIGURE_PLAIN},
        {"blocks", s->blocks, FIGURE_PLAIN},
        {"pins", s->pins, FIGURE_PLAIN},
        {"commits", s->commits, FIGURE_PLAIN},
        {"conflicts", s->conflicts, FIGURE_PLAIN},
        {"retries", s->retries, FIGURE_PLAIN},
        {"elders", s->elders, FIGURE_PLAIN},
        {"recoveries", s->recoveries, FIGURE_PLAIN},
        {"collections", gc->collections, FIGURE_PLAIN},
        {"gc_cycle", gc->cycle, FIGURE_PLAIN},
        {"gc_began_ns", (uint64_t)gc->began_ns, FIGURE_TIME},
        {"gc_mark_ended_ns", (uint64_t)gc->mark_ended_ns, FIGURE_TIME},
        {"gc_ended_ns", (uint64_t)gc->ended_ns, FIGURE_TIME},
        {"gc_marked", gc->marked, FIGURE_PLAIN},
        {"gc_marked_bytes", gc->marked_bytes, FIGURE_BYTES},
        {"gc_freed", gc->freed, FIGURE_PLAIN},
        {"gc_freed_bytes", gc->freed_bytes, FIGURE_BYTES},
        {"gc_freed_ever", gc->freed_ever, FIGURE_PLAIN},
        {"gc_freed_ever_bytes", gc->freed_ever_bytes, FIGURE_BYTES},
        {"gc_held_slabs", gc->held_slabs, FIGURE_PLAIN},
        {"gc_growth", gc->growth, FIGURE_PERCENT},
        {"sessions", s->sessions, FIGURE_PLAIN},
        {"processes", s->processes, FIGURE_PLAIN},
        {"clock", s->clock, FIGURE_PLAIN},
        {"layout_version", s->layout_version, FIGURE_PLAIN},
        {"created_ns", (uint64_t)s->created_ns, FIGURE_TIME},
    };
    _Static_assert(sizeof(all) / sizeof(all[0]) <= FIGURE_MAX, "room for all figures");
    memcpy(ret, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static void print_summary(const shobj_store *store, const shobj_stat *stat, bool json, bool *first)
{
    struct figure figures[FIGURE_MAX];
    size_t count = list_figures(stat, figures);
    char uuid[37];
    format_uuid(store, uuid);
    const char *const texts[][2] = {{"path", shobj_path(store)}, {"uuid", uuid}, {"gc_phase", stat->gc.phase}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        out_named_text(texts[i][0], texts[i][1], json, first);
    out_figures(figures, count, json, first);
}

static int summarize(const struct call *call, shobj_store *store, bool classes, bool holders)
{
    shobj_stat stat;
    bool first = true;
    int rc = shobj_stat_get(store, &stat);
    if (rc < 0)
        return fail(call, rc);
    if (call->json)
        fputc('{', stdout);
    print_summary(store, &stat, call->json, &first);
    print_kept(store, call->json, &first);
    if (classes)
        print_classes(store, &stat, call->json, &first);
    if (holders) {
        rc = print_garbage(store, call->json, &first);
        if (rc < 0)
            return fail(call, rc);
    }
    if (call->json)
        fputs("}\n", stdout);
    return EXIT_DONE;
}

/* A store's name may end in ':', as the address of its root does. */
static int open_named(const struct call *call, shobj_options *options, shobj_store **ret_store)
{
    char *name;
    int code = target_store_name(call, call->operands[0], &name);
    if (code != EXIT_DONE)
        return code;
    options->wait_interrupted = patience_is_interrupted;
    int rc = shobj_open(name, options, ret_store);
    if (rc == SHOBJ_EACCES && options->mode == SHOBJ_OPEN_WRITE) {
        options->mode = SHOBJ_OPEN_READ; /* a prompt that can only look is better than none */
        rc = shobj_open(name, options, ret_store);
    }
    free(name);
    if (rc < 0)
        return fail(call, rc);
    patience_renew(*ret_store);
    return EXIT_DONE;
}

int cmd_create(const struct call *call)
{
    shobj_options options = {.mode = SHOBJ_OPEN_EXCL};
    shobj_store *store = NULL;
    int code = read_create_options(call, &options);
    if (code == EXIT_DONE)
        code = open_named(call, &options, &store);
    if (code != EXIT_DONE)
        return code;
    if (call->json)
        code = summarize(call, store, false, false);
    shobj_close(store);
    return code;
}

int cmd_open(const struct call *call)
{
    shobj_options options = {.mode = call_option(call, "create") != NULL ? SHOBJ_OPEN_CREATE : SHOBJ_OPEN_WRITE};
    shobj_store *store = NULL;
    int code = read_create_options(call, &options);
    if (code == EXIT_DONE)
        code = open_named(call, &options, &store);
    if (code != EXIT_DONE)
        return code;
    code = summarize(call, store, false, false);
    if (code == EXIT_DONE && !call->json && call->prompt_store == NULL && out_is_terminal() && isatty(STDIN_FILENO))
        code = prompt_run(store);
    shobj_close(store);
    return code;
}

int cmd_rm(const struct call *call)
{
    bool force = call_option(call, "force") != NULL;
    int code = EXIT_DONE;
    bool first = true;
    if (call->json)
        fputs("{\"removed\": [", stdout);
    for (int i = 0; i < call->count; i++) {
        int rc = shobj_unlink(call->operands[i], force);
        if (rc < 0) {
            code = fail(call, rc);
        } else if (call->json) {
            fputs(first ? "" : ", ", stdout);
            out_json_str(call->operands[i]);
            first = false;
        }
    }
    if (call->json)
        fputs("]}\n", stdout);
    return code;
}

/* ---- stat */

static void sleep_seconds(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR && !interrupted)
        ;
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* One line: sizes now, and what happened per second since `before`. */
static void print_rates(const shobj_stat *before, const shobj_stat *now, double seconds, bool json)
{
    static const int widths[] = {8, 8, 10, 12, 12, 10, 12, 8};
    const struct {
        const char *name;
        uint64_t before, now;
    } rates[] = {{"commits_per_s", before->commits, now->commits},
                 {"conflicts_per_s", before->conflicts, now->conflicts},
                 {"retries_per_s", before->retries, now->retries},
                 {"recoveries_per_s", before->recoveries, now->recoveries}};
    char text[8][32];
    if (json) {
        bool first = true;
        fputc('{', stdout);
        out_json_number("used_bytes", now->used_bytes, &first);
        out_json_number("free_bytes", now->free_bytes, &first);
        out_json_number("objects", now->objects, &first);
        out_json_number("sessions", now->sessions, &first);
        for (size_t i = 0; i < 4; i++) {
            out_json_name(rates[i].name, &first);
            printf("%.1f", (double)(rates[i].now - rates[i].before) / seconds);
        }
        fputs("}\n", stdout);
        return;
    }
    if (out_is_terminal()) {
        out_format_bytes(now->used_bytes, text[0]);
        out_format_bytes(now->free_bytes, text[1]);
    } else {
        snprintf(text[0], sizeof(text[0]), "%" PRIu64, now->used_bytes);
        snprintf(text[1], sizeof(text[1]), "%" PRIu64, now->free_bytes);
    }
    snprintf(text[2], sizeof(text[2]), "%" PRIu64, now->objects);
    for (size_t i = 0; i < 4; i++)
        snprintf(text[3 + i], sizeof(text[0]), "%.1f", (double)(rates[i].now - rates[i].before) / seconds);
    snprintf(text[7], sizeof(text[7]), "%" PRIu64, now->sessions);
    out_row(widths, (const char *const[]){text[0], text[1], text[2], text[3], text[4], text[5], text[6], text[7]}, 8);
}

static int watch_stat(const struct call *call, shobj_store *store, double interval, uint64_t count)
{
    shobj_stat before;
    int rc = shobj_stat_get(store, &before);
    double then = now_seconds();
    if (rc == 0 && !call->json && out_is_terminal())
        puts("    used      free     objects     commits/s   conflicts/s   retries/s  recoveries/s  sessions");
    for (uint64_t i = 0; rc == 0 && (count == 0 || i < count) && !interrupted; i++) {
        shobj_stat stat;
        sleep_seconds(interval);
        rc = shobj_stat_get(store, &stat);
        double now = now_seconds();
        if (rc == 0)
            print_rates(&before, &stat, now - then, call->json);
        if (fflush(stdout) != 0)
            break;
        before = stat;
        then = now;
    }
    return rc < 0 ? fail(call, rc) : EXIT_DONE;
}

int cmd_stat(const struct call *call)
{
    const char *interval_text = call_option(call, "interval");
    double interval = 0;
    uint64_t count = 0;
    if (interval_text != NULL) {
        char *end;
        interval = strtod(interval_text, &end);
        if (end == interval_text || *end != '\0' || !(interval >= 0.01 && interval <= 86400))
            return fail_usage(call, "--interval %s: give seconds from 0.01 to 86400", interval_text);
    }
    if (call_option(call, "count") != NULL) {
        if (interval_text == NULL)
            return fail_usage(call, "--count goes with --interval");
        int code = parse_number(call, "count", 1, UINT32_MAX, &count);
        if (code != EXIT_DONE)
            return code;
    }
    struct target target;
    int code = target_open_store(call, call->operands[0], SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    bool classes = call_option(call, "classes") != NULL, holders = call_option(call, "holders") != NULL;
    code = interval_text != NULL ? watch_stat(call, target.store, interval, count)
                                 : summarize(call, target.store, classes, holders);
    target_close(&target);
    return code;
}

/* ---- ps */

typedef struct ps_state {
    bool json;
    bool first;
} ps_state;

static double seconds_since(int64_t time_ns)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec - (double)time_ns / 1e9 + (double)now.tv_nsec / 1e9;
}

static int print_session(const shobj_session_info *info, void *arg)
{
    static const int widths[] = {7, 7, 8, 8, -10, 10, 10, 6, 10, 10};
    ps_state *state = arg;
    if (info->self)
        return 0;
    if (state->json) {
        bool first = true;
        fputs(state->first ? "\n {" : ",\n {", stdout);
        out_json_number("session", info->session, &first);
        out_json_number("process", info->process, &first);
        out_json_number("pid", (uint64_t)info->pid, &first);
        out_json_number("tid", (uint64_t)info->tid, &first);
        out_json_name("alive", &first);
        fputs(info->alive ? "true" : "false", stdout);
        out_json_name("state", &first);
        out_json_str(info->state);
        out_json_number("seq", info->seq, &first);
        out_json_number("commits", info->commits, &first);
        out_json_number("conflicts", info->conflicts, &first);
        out_json_number("attached_ns", (uint64_t)info->attached_ns, &first);
        out_json_number("began_ns", (uint64_t)info->began_ns, &first);
        out_json_number("held", info->held_count, &first);
        fputc('}', stdout);
        state->first = false;
        return interrupted;
    }
    if (state->first && out_is_terminal())
        puts(
            "session  process       pid       tid  state         attached         txn    held     commits   conflicts");
    state->first = false;
    char text[9][32];
    snprintf(text[0], 32, "%" PRIu32, info->session);
    snprintf(text[1], 32, "%" PRIu32, info->process);
    snprintf(text[2], 32, "%" PRId64, info->pid);
    snprintf(text[3], 32, "%" PRId64, info->tid);
    snprintf(text[4], 32, "%.1fs", seconds_since(info->attached_ns));
    snprintf(text[5], 32, info->began_ns != 0 ? "%.1fs" : "-", seconds_since(info->began_ns));
    snprintf(text[6], 32, "%" PRIu32, info->held_count);
    snprintf(text[7], 32, "%" PRIu64, info->commits);
    snprintf(text[8], 32, "%" PRIu64, info->conflicts);
    out_row(widths,
            (const char *const[]){text[0], text[1], text[2], text[3], info->alive ? info->state : "dead", text[4],
                                  text[5], text[6], text[7], text[8]},
            10);
    return interrupted;
}

int cmd_ps(const struct call *call)
{
    bool reap = call_option(call, "reap") != NULL;
    struct target target;
    int code = target_open_store(call, call->operands[0], reap ? SHOBJ_OPEN_WRITE : SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    unsigned reaped = 0;
    int rc = reap ? shobj_reap(target.store, &reaped) : 0;
    if (rc == 0 && reap)
        fprintf(stderr, "cleaned up after %u dead process%s\n", reaped, reaped == 1 ? "" : "es");
    ps_state state = {.json = call->json, .first = true};
    if (rc == 0 && call->json)
        fputc('[', stdout);
    if (rc == 0)
        rc = shobj_sessions(target.store, print_session, &state);
    if (rc >= 0 && call->json)
        fputs(state.first ? "]\n" : "\n]\n", stdout);
    code = rc < 0 ? fail(call, rc) : EXIT_DONE;
    target_close(&target);
    return code;
}
