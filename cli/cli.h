/*
 * cli.h: what the files of the command share: the table of commands, a call of one, exit codes, errors.
 */
#ifndef CLI_H
#define CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shobj.h>

/* The documented exit codes. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_ABSENT = 1, /* the path is absent, or the answer is no */
    EXIT_USAGE = 2,
    EXIT_STORE = 3, /* missing or unreadable store, file or directory */
    EXIT_CONFLICT = 4,
    EXIT_DAMAGED = 5,
    EXIT_FULL = 6,
    EXIT_REFUSED = 7
};

/* What an operand is, for completion and help. */
enum operand {
    OPERAND_NONE,
    OPERAND_STORE,
    OPERAND_ADDRESS,
    OPERAND_FILE,
    OPERAND_DIR,
    OPERAND_VALUE, /* text of a value: the prompt takes the rest of the line as it is */
    OPERAND_COMMAND,
    OPERAND_SHELL
};

struct option {
    char letter; /* 0: none */
    const char *name;
    const char *arg; /* what its value is called, NULL: it takes none */
    const char *help;
    bool is_literal; /* its value is a Python literal */
};

#define OPTION_MAX  8
#define OPERAND_MAX 2

struct call;

struct command {
    const char *name;
    const char *summary;
    const char *synopsis; /* its operands */
    int (*run)(const struct call *call);
    enum operand operands[OPERAND_MAX + 1]; /* the last one repeats */
    int operands_min, operands_max;         /* max -1: any number */
    struct option options[OPTION_MAX];      /* ended by one without name */
    const char *details;                    /* for help; may be NULL */
};

/* All commands, ended by one without name. */
extern const struct command commands[];
const struct command *command_find(const char *name);

/* One call of a command, its arguments sorted out. */
struct call {
    const struct command *command;
    int count;
    char **operands;
    const char *values[OPTION_MAX]; /* by place in command->options: NULL if not given, "" for one without value */
    bool json;
    shobj_store *prompt_store; /* at the prompt: what addresses without STORE mean */
};

/* Sorts arguments (argv[0] is the command's name) and runs the command; `prompt_store` may be NULL. Returns the exit
 * code. argv is reordered. */
int command_run(int argc, char **argv, shobj_store *prompt_store);

/* The value of an option, "" for a flag, NULL if it was not given. */
const char *call_option(const struct call *call, const char *name);

/* ---- errors: each prints "shobj COMMAND: message" on stderr and returns the exit code */

/* Of a failed call of the library. */
int fail(const struct call *call, int error);
/* The same with other words than the library's message; the exit code is still that of `error`. */
int fail_text(const struct call *call, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
int fail_usage(const struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Of a failed system call on `what`, from errno. */
int fail_errno(const struct call *call, const char *what);
/* Exit code of an error number of the library. */
enum exit_code exit_code_of(int error);

/* ---- interruption: at the prompt, Ctrl-C ends a command early instead of the program */

extern volatile sig_atomic_t interrupted;

/* ---- the commands */

int cmd_open(const struct call *call);
int cmd_create(const struct call *call);
int cmd_rm(const struct call *call);
int cmd_ls(const struct call *call);
int cmd_tree(const struct call *call);
int cmd_get(const struct call *call);
int cmd_cat(const struct call *call);
int cmd_set(const struct call *call);
int cmd_del(const struct call *call);
int cmd_stat(const struct call *call);
int cmd_ps(const struct call *call);
int cmd_gc(const struct call *call);
int cmd_why(const struct call *call);
int cmd_load(const struct call *call);
int cmd_dump(const struct call *call);
int cmd_copy(const struct call *call);
int cmd_check(const struct call *call);
int cmd_mount(const struct call *call);
int cmd_umount(const struct call *call);
int cmd_completion(const struct call *call);
int cmd_help(const struct call *call);

#endif
