/*
 * main.c: the table of commands, and how a command line becomes a call of one.
 *
 * Everything that is known about a command stands in its row: help, argument checks and the shells' completions are
 * made from it.
 */
#include "cli.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

/* In the order of help. */
/* clang-format off */
#define OPTION_JSON {.name = "json", .help = "write JSON"}
#define OPTION_INDENT {.name = "indent", .arg = "N", .help = "break lines, with N spaces for each level"}
#define OPTIONS_CREATE \
    {.name = "size", .arg = "BYTES", \
     .help = "reserve so much at creation (default 1M; K, M, G and T are powers of 1024)"}, \
    {.name = "max-size", .arg = "BYTES", .help = "let the file grow to this size (default 16G)"}, \
    {.name = "mode", .arg = "OCTAL", .help = "permission bits of the new file (default 600)"}

const struct command commands[] = {
    {.name = "open", .synopsis = "STORE", .run = cmd_open,
     .summary = "open a store and show a summary; on a terminal, start a prompt",
     .operands = {OPERAND_STORE}, .operands_min = 1, .operands_max = 1,
     .options = {{.name = "create", .help = "create the store if there is none"}, OPTIONS_CREATE, OPTION_JSON},
     .details = "At the prompt all commands work, and an address may leave out the store: get /key"},
    {.name = "create", .synopsis = "STORE", .run = cmd_create,
     .summary = "create an empty store",
     .operands = {OPERAND_STORE}, .operands_min = 1, .operands_max = 1,
     .options = {OPTIONS_CREATE, OPTION_JSON}},
    {.name = "rm", .synopsis = "STORE...", .run = cmd_rm,
     .summary = "remove stores",
     .operands = {OPERAND_STORE, OPERAND_STORE}, .operands_min = 1, .operands_max = -1,
     .options = {{.letter = 'f', .name = "force",
                  .help = "even while processes have it open: they go on with the removed file"}, OPTION_JSON}},
    {.name = "ls", .synopsis = "[ADDRESS]", .run = cmd_ls,
     .summary = "list all stores, or what an object contains",
     .operands = {OPERAND_ADDRESS}, .operands_max = 1,
     .options = {{.letter = 'l', .name = "long",
                  .help = "show type, size and version of each (of stores: size and time of the last change)"},
                 {.letter = 'd', .name = "directory",
                  .help = "show the object itself instead of what it contains"}, OPTION_JSON}},
    {.name = "tree", .synopsis = "ADDRESS", .run = cmd_tree,
     .summary = "show an object and all below it as a tree",
     .operands = {OPERAND_ADDRESS}, .operands_min = 1, .operands_max = 1,
     .options = {{.letter = 'L', .name = "level", .arg = "N", .help = "go down N levels only"}, OPTION_JSON}},
    {.name = "get", .synopsis = "ADDRESS", .run = cmd_get,
     .summary = "print a value as a Python literal",
     .operands = {OPERAND_ADDRESS}, .operands_min = 1, .operands_max = 1,
     .options = {OPTION_INDENT, OPTION_JSON}},
    {.name = "cat", .synopsis = "ADDRESS", .run = cmd_cat,
     .summary = "print a value raw: text and bytes as they are, the rest as JSON",
     .operands = {OPERAND_ADDRESS}, .operands_min = 1, .operands_max = 1,
     .options = {OPTION_JSON}},
    {.name = "set", .synopsis = "ADDRESS VALUE|-", .run = cmd_set,
     .summary = "set a value",
     .operands = {OPERAND_ADDRESS, OPERAND_VALUE}, .operands_min = 2, .operands_max = 2,
     .options = {{.name = "json", .help = "VALUE is JSON, the tags of a dump included"},
                 {.name = "if-value", .arg = "OLD", .is_literal = true,
                  .help = "only if OLD, a Python literal, is the value there now (else exit code 4)"}},
     .details = "VALUE is a Python literal: 42, 1.5, 'text', b'\\x00', (1, 2), [1, {'a': None}]; - reads it from standard "
                "input.\nAt the end of a list's address, /- appends."},
    {.name = "del", .synopsis = "ADDRESS", .run = cmd_del,
     .summary = "delete a key, or an element of a list",
     .operands = {OPERAND_ADDRESS}, .operands_min = 1, .operands_max = 1,
     .options = {OPTION_JSON}},
    {.name = "stat", .synopsis = "STORE", .run = cmd_stat,
     .summary = "show sizes and counters of a store",
     .operands = {OPERAND_STORE}, .operands_min = 1, .operands_max = 1,
     .options = {{.letter = 'i', .name = "interval", .arg = "SECONDS",
                  .help = "again and again, with what happened per second"},
                 {.letter = 'n', .name = "count", .arg = "N", .help = "with -i: N times"},
                 {.name = "classes", .help = "show each size of blocks as well"},
                 {.name = "holders", .help = "show what is garbage, and what sessions and proxies keep alive"},
                 OPTION_JSON}},
    {.name = "ps", .synopsis = "STORE", .run = cmd_ps,
     .summary = "list the sessions of a store",
     .operands = {OPERAND_STORE}, .operands_min = 1, .operands_max = 1,
     .options = {{.name = "reap", .help = "first clean up after processes that died"}, OPTION_JSON}},
    {.name = "gc", .synopsis = "STORE", .run = cmd_gc,
     .summary = "free what nothing refers to any more",
     .operands = {OPERAND_STORE}, .operands_min = 1, .operands_max = 1,
     .options = {{.letter = 'n', .name = "dry-run", .help = "only tell what would be freed, and who keeps what"},
                 {.letter = 'j', .name = "jobs", .arg = "N", .help = "with N threads"},
                 {.name = "growth", .arg = "PERCENT|never",
                  .help = "do not collect now: let collections begin by themselves at this growth of the heap"},
                 {.name = "trim", .help = "then give free memory back to the system; only while nobody else has the store open"},
                 OPTION_JSON},
     .details = "Collections also begin by themselves, as a store grows. Everybody goes on working meanwhile."},
    {.name = "why", .synopsis = "ADDRESS", .run = cmd_why,
     .summary = "show what keeps an object alive: paths, proxies, sessions, transactions",
     .operands = {OPERAND_ADDRESS}, .operands_min = 1, .operands_max = 1,
     .options = {{.letter = 'n', .name = "count", .arg = "N", .help = "show N reasons at most (default 16)"}, OPTION_JSON},
     .details = "Exit code 1: nothing keeps it, the next collection frees it."},
    {.name = "load", .synopsis = "ADDRESS [FILE|-]", .run = cmd_load,
     .summary = "load JSON, JSON Lines or a dump into an address, all or nothing",
     .operands = {OPERAND_ADDRESS, OPERAND_FILE}, .operands_min = 1, .operands_max = 2,
     .options = {{.name = "lines", .help = "the input is JSON Lines: a list of its values, even if it is one or none"},
                 {.name = "plain", .help = "the tags of a dump mean nothing: {\"$ref\": ...} is a dict"}, OPTION_JSON},
     .details = "What the address named before is replaced. STORE: is the root, for which the input is one dict."},
    {.name = "dump", .synopsis = "ADDRESS", .run = cmd_dump,
     .summary = "write a value as exact JSON, which load reads back",
     .operands = {OPERAND_ADDRESS}, .operands_min = 1, .operands_max = 1,
     .options = {OPTION_INDENT, OPTION_JSON}},
    {.name = "copy", .synopsis = "STORE NEW", .run = cmd_copy,
     .summary = "copy a store into a new one, without garbage and free memory",
     .operands = {OPERAND_STORE, OPERAND_STORE}, .operands_min = 2, .operands_max = 2,
     .options = {OPTIONS_CREATE, {.name = "compact", .help = "say that the copy is to be dense, which it always is"},
                 OPTION_JSON},
     .details = "What is copied was true at one instant. The copy's --max-size is that of the store, if not given."},
    {.name = "check", .synopsis = "STORE", .run = cmd_check,
     .summary = "verify a whole store; changes nothing unless told to repair it",
     .operands = {OPERAND_STORE}, .operands_min = 1, .operands_max = 1,
     .options = {{.name = "repair", .help = "if it is damaged, rebuild it from what can be read, and tell what was lost"},
                 {.name = "backup", .arg = "FILE", .help = "with --repair: keep the damaged file under this name"},
                 {.name = "output", .arg = "FILE",
                  .help = "with --repair: write the rebuilt store here, and leave the damaged one as it is"}, OPTION_JSON},
     .details = "A store can be repaired while no process has it open. Exit code 5: damaged, and not repaired."},
    {.name = "mount", .synopsis = "STORE DIR", .run = cmd_mount,
     .summary = "mount a store as a file system",
     .operands = {OPERAND_STORE, OPERAND_DIR}, .operands_min = 2, .operands_max = 2,
     .options = {{.letter = 'o', .name = "options", .arg = "LIST", .help = "mount options, as shobjfs(1) has them"},
                 OPTION_JSON}},
    {.name = "umount", .synopsis = "DIR", .run = cmd_umount,
     .summary = "unmount a mounted store",
     .operands = {OPERAND_DIR}, .operands_min = 1, .operands_max = 1,
     .options = {OPTION_JSON}},
    {.name = "completion", .synopsis = "bash|zsh|fish", .run = cmd_completion,
     .summary = "print a shell's completion script",
     .operands = {OPERAND_SHELL}, .operands_max = 1,
     .options = {{.name = "addresses", .arg = "PREFIX",
                  .help = "print the addresses that begin with PREFIX, for the scripts"}, OPTION_JSON}},
    {.name = "help", .synopsis = "[COMMAND]", .run = cmd_help,
     .summary = "explain a command",
     .operands = {OPERAND_COMMAND}, .operands_max = 1,
     .options = {OPTION_JSON}},
    {.name = NULL}};
/* clang-format on */

volatile sig_atomic_t interrupted;

const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0)
            return c;
    }
    return NULL;
}

const char *call_option(const struct call *call, const char *name)
{
    for (int i = 0; i < OPTION_MAX && call->command->options[i].name != NULL; i++) {
        if (strcmp(call->command->options[i].name, name) == 0)
            return call->values[i];
    }
    return NULL;
}

/* ---- errors */

/* One row per error number of the library. */
enum exit_code exit_code_of(int error)
{
    static const struct {
        int error;
        enum exit_code code;
    } table[] = {
        {0, EXIT_DONE},
        {SHOBJ_ENOTFOUND, EXIT_ABSENT},
        {SHOBJ_EINVAL, EXIT_USAGE},
        {SHOBJ_ETYPE, EXIT_ABSENT},
        {SHOBJ_ENOENT, EXIT_STORE},
        {SHOBJ_EEXIST, EXIT_REFUSED},
        {SHOBJ_EACCES, EXIT_STORE},
        {SHOBJ_EREADONLY, EXIT_REFUSED},
        {SHOBJ_EFULL, EXIT_FULL},
        {SHOBJ_ENOMEM, EXIT_FULL},
        {SHOBJ_EVERSION, EXIT_STORE},
        {SHOBJ_EFORMAT, EXIT_STORE},
        {SHOBJ_ECORRUPT, EXIT_DAMAGED},
        {SHOBJ_ECONFLICT, EXIT_CONFLICT},
        {SHOBJ_ETIMEOUT, EXIT_CONFLICT},
        {SHOBJ_ESTALE, EXIT_ABSENT},
        {SHOBJ_EBUSY, EXIT_REFUSED},
        {SHOBJ_ETXN, EXIT_REFUSED},
        {SHOBJ_ELIMIT, EXIT_REFUSED},
        {SHOBJ_EIO, EXIT_STORE},
        {SHOBJ_EABORTED, EXIT_CONFLICT},
        {SHOBJ_ERETRY, EXIT_CONFLICT},
        {SHOBJ_EINTR, EXIT_CONFLICT},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].error == error)
            return table[i].code;
    }
    return EXIT_REFUSED;
}

static void complain(const struct call *call, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof(text), format, args);
    out_flush_for_error();
    bool has_name = call != NULL && call->command != NULL;
    fprintf(stderr, "shobj%s%s: ", has_name ? " " : "", has_name ? call->command->name : "");
    for (const char *c = text; *c != '\0'; c++)
        fputc((unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c, stderr);
    fputc('\n', stderr);
}

int fail_text(const struct call *call, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(call, format, args);
    va_end(args);
    return exit_code_of(error);
}

int fail(const struct call *call, int error)
{
    const char *message = shobj_error_message();
    return fail_text(call, error, "%s", message[0] != '\0' ? message : shobj_error_text(error));
}

int fail_usage(const struct call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(call, format, args);
    va_end(args);
    if (call != NULL && call->command != NULL)
        fprintf(stderr, "usage: shobj %s [OPTION...] %s   (shobj help %s explains it)\n", call->command->name,
                call->command->synopsis, call->command->name);
    return EXIT_USAGE;
}

int fail_errno(const struct call *call, const char *what)
{
    return fail_text(call, SHOBJ_EIO, "%s: %s", what, strerror(errno));
}

/* ---- arguments */

/* -5 and -.5 are values, unless the command has such an option (none has). */
static bool is_option(const char *arg)
{
    return arg[0] == '-' && arg[1] != '\0' && !(arg[1] >= '0' && arg[1] <= '9') && arg[1] != '.';
}

static int find_option(const struct command *command, const char *name, size_t bytes)
{
    for (int i = 0; i < OPTION_MAX && command->options[i].name != NULL; i++) {
        const struct option *o = &command->options[i];
        if (strlen(o->name) == bytes && strncmp(o->name, name, bytes) == 0)
            return i;
    }
    return -1;
}

static int find_letter(const struct command *command, char letter)
{
    for (int i = 0; i < OPTION_MAX && command->options[i].name != NULL; i++) {
        if (command->options[i].letter == letter)
            return i;
    }
    return -1;
}

/* --name, --name=value, --name value */
static int take_long(struct call *call, int argc, char **argv, int *at)
{
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t bytes = equals != NULL ? (size_t)(equals - name) : strlen(name);
    int i = find_option(call->command, name, bytes);
    if (i < 0)
        return fail_usage(call, "there is no option --%.*s", (int)bytes, name);
    if (call->command->options[i].arg == NULL) {
        call->values[i] = "";
        return equals == NULL ? 0 : fail_usage(call, "--%.*s takes no value", (int)bytes, name);
    }
    if (equals != NULL)
        call->values[i] = equals + 1;
    else if (*at + 1 < argc)
        call->values[i] = argv[++*at];
    else
        return fail_usage(call, "--%s needs %s", name, call->command->options[i].arg);
    return 0;
}

/* -l, -ld, -L2, -L 2 */
static int take_letters(struct call *call, int argc, char **argv, int *at)
{
    for (const char *c = argv[*at] + 1; *c != '\0'; c++) {
        int i = find_letter(call->command, *c);
        if (i < 0)
            return fail_usage(call, "there is no option -%c", *c);
        call->values[i] = "";
        if (call->command->options[i].arg == NULL)
            continue;
        if (c[1] != '\0')
            call->values[i] = c + 1;
        else if (*at + 1 < argc)
            call->values[i] = argv[++*at];
        else
            return fail_usage(call, "-%c needs %s", *c, call->command->options[i].arg);
        break;
    }
    return 0;
}

/* At the prompt its store is what a command works on that is given nothing else. */
static void take_prompt_store(struct call *call)
{
    static char root[] = "";
    static char *operands[] = {root, NULL};
    enum operand first = call->command->operands[0];
    if (call->prompt_store != NULL && call->count == 0 && call->command->operands_max == 1 &&
        (first == OPERAND_STORE || first == OPERAND_ADDRESS)) {
        call->operands = operands;
        call->count = 1;
    }
}

int command_run(int argc, char **argv, shobj_store *prompt_store)
{
    struct call call = {.command = command_find(argv[0]), .prompt_store = prompt_store};
    if (call.command == NULL)
        return fail_usage(NULL, "there is no command '%s'; 'shobj help' lists them", argv[0]);
    call.operands = argv + 1;
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--help") == 0) {
            char *help[] = {"help", argv[0], NULL};
            return command_run(2, help, prompt_store);
        }
        if (strcmp(argv[at], "--") == 0) {
            while (++at < argc)
                call.operands[call.count++] = argv[at];
            break;
        }
        int rc = 0;
        if (strncmp(argv[at], "--", 2) == 0)
            rc = take_long(&call, argc, argv, &at);
        else if (is_option(argv[at]))
            rc = take_letters(&call, argc, argv, &at);
        else
            call.operands[call.count++] = argv[at];
        if (rc != 0)
            return rc;
    }
    take_prompt_store(&call);
    if (call.count < call.command->operands_min)
        return fail_usage(&call, "an operand is missing");
    if (call.command->operands_max >= 0 && call.count > call.command->operands_max)
        return fail_usage(&call, "'%s' is one operand too many", call.operands[call.command->operands_max]);
    call.json = call_option(&call, "json") != NULL;
    int code = call.command->run(&call);
    int written = out_finish(&call);
    return code != EXIT_DONE ? code : written;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, ""); /* the width of characters; numbers stay as in "C" */
    if (argc < 2) {
        fail_usage(NULL, "a command is missing; 'shobj help' lists them");
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("shobj %s\n", shobj_version());
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        argv[1] = "help";
    int code = patience_init();
    return code != EXIT_DONE ? code : command_run(argc - 1, argv + 1, NULL);
}
