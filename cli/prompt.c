/*
 * prompt.c: the interactive prompt: lines with history and completion by libedit, split into words, run as commands.
 *
 * Words are separated by blanks; quotes '..' and "..", and backslashes, keep blanks in a word, as in a shell. The value of
 * `set` is the rest of the line just as it stands, so that literals need no second quoting: set /name 'a b'
 */
#include "prompt.h"

#include <editline/readline.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "target.h"

#define WORD_MAX 64
#define HISTORY_MAX 1000

/* ---- words */

typedef struct words {
    char *text; /* of all words, each NUL-terminated */
    char *word[WORD_MAX + 1];
    size_t from[WORD_MAX]; /* where each begins in the line */
    int count;
} words;

static const char *copy_word(const char *at, char **to)
{
    char quote = '\0';
    for (; *at != '\0' && (quote != '\0' || (*at != ' ' && *at != '\t')); at++) {
        if (quote == '\0' && (*at == '\'' || *at == '"'))
            quote = *at;
        else if (*at == quote)
            quote = '\0';
        else if (*at == '\\' && quote != '\'' && at[1] != '\0')
            *(*to)++ = *++at;
        else
            *(*to)++ = *at;
    }
    *(*to)++ = '\0';
    return at;
}

/* False if there are too many or no memory. */
static bool split(const char *line, words *ret)
{
    *ret = (words){.text = malloc(2 * strlen(line) + 2)};
    char *to = ret->text;
    const char *at = line;
    while (ret->text != NULL) {
        at += strspn(at, " \t");
        if (*at == '\0')
            return true;
        if (ret->count == WORD_MAX)
            break;
        ret->from[ret->count] = (size_t)(at - line);
        ret->word[ret->count++] = to;
        at = copy_word(at, &to);
    }
    return false;
}

/* The word with which a value begins that reaches to the end of the line, or -1. */
static int value_word(const words *w)
{
    const struct command *command = command_find(w->word[0]);
    int operand = 0;
    for (int i = 1; command != NULL && i < w->count; i++) {
        const char *word = w->word[i];
        if (word[0] == '-' && word[1] != '\0' && operand == 0) {
            /* An option; one with a value of its own takes the next word, unless it has "=". */
            for (int o = 0; o < OPTION_MAX && command->options[o].name != NULL; o++) {
                if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, command->options[o].name) == 0 &&
                    command->options[o].arg != NULL)
                    i++;
            }
        } else if (command->operands[operand < OPERAND_MAX ? operand : OPERAND_MAX] == OPERAND_VALUE) {
            return i;
        } else {
            operand++;
        }
    }
    return -1;
}

/* ---- completion */

static shobj_store *prompt_store;

typedef struct candidates {
    char **list;
    size_t count, room, next;
} candidates;

static candidates found;

static void add_candidate(const char *text, void *arg)
{
    const char *prefix = arg;
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        return;
    if (found.count == found.room) {
        size_t room = 2 * found.room + 32;
        char **larger = realloc(found.list, room * sizeof(char *));
        if (larger == NULL)
            return;
        found.list = larger;
        found.room = room;
    }
    char *copy = strdup(text);
    if (copy != NULL)
        found.list[found.count++] = copy;
}

static void clear_candidates(void)
{
    while (found.count > 0)
        free(found.list[--found.count]);
    found.next = 0;
}

static void add_options(const struct command *command, const char *text)
{
    char option[64];
    for (int i = 0; i < OPTION_MAX && command->options[i].name != NULL; i++) {
        snprintf(option, sizeof(option), "--%s", command->options[i].name);
        add_candidate(option, (void *)text);
    }
}

static void find_candidates(const char *text, int start)
{
    words w;
    char *before = strndup(rl_line_buffer, (size_t)start);
    if (before == NULL || !split(before, &w)) {
        free(before);
        return;
    }
    const struct command *command = w.count > 0 ? command_find(w.word[0]) : NULL;
    int operand = -1;
    for (int i = 0; i < w.count; i++)
        operand += w.word[i][0] != '-';
    operand = operand < 0 ? 0 : operand > OPERAND_MAX ? OPERAND_MAX : operand;
    if (w.count == 0 || (command != NULL && command->operands[operand] == OPERAND_COMMAND)) {
        for (const struct command *c = commands; c->name != NULL; c++)
            add_candidate(c->name, (void *)text);
        if (w.count == 0)
            add_candidate("exit", (void *)text);
    } else if (command != NULL && text[0] == '-') {
        add_options(command, text);
    } else if (command != NULL &&
               (command->operands[operand] == OPERAND_STORE || command->operands[operand] == OPERAND_ADDRESS)) {
        complete_address(prompt_store, text, add_candidate, (void *)text);
    }
    free(w.text);
    free(before);
}

static char *next_candidate(const char *text, int state)
{
    if (state == 0)
        found.next = 0;
    return found.next < found.count ? strdup(found.list[found.next++]) : NULL;
}

/* A container's path goes on: no blank behind its '/'. */
static char **complete(const char *text, int start, int end)
{
    clear_candidates();
    find_candidates(text, start);
    rl_attempted_completion_over = found.count > 0;
    bool goes_on = found.count == 1 && found.list[0][strlen(found.list[0]) - 1] == '/';
    rl_completion_append_character = goes_on ? '\0' : ' ';
    return found.count > 0 ? rl_completion_matches(text, next_candidate) : NULL;
}

/* ---- history */

/* In $XDG_STATE_HOME/shobj, else ~/.local/state/shobj; NULL if there is no home. */
static char *history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    char *path = NULL;
    int bytes = -1;
    if (state != NULL && state[0] == '/')
        bytes = asprintf(&path, "%s/shobj/history", state);
    else if (home != NULL && home[0] == '/')
        bytes = asprintf(&path, "%s/.local/state/shobj/history", home);
    if (bytes < 0)
        return NULL;
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700); /* what is there already may stay; what fails shows at writing */
        *slash = '/';
    }
    return path;
}

/* ---- the loop */

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static void run_line(const char *line, shobj_store *store)
{
    words w;
    if (!split(line, &w)) {
        fprintf(stderr, "shobj: the line has too many words\n");
    } else if (w.count > 0) {
        int value = value_word(&w);
        if (value > 0) {
            w.word[value] = (char *)line + w.from[value];
            w.count = value + 1;
        }
        w.word[w.count] = NULL;
        command_run(w.count, w.word, store);
        fflush(stdout);
    }
    free(w.text);
}

static bool is_exit(const char *line)
{
    return strcmp(line, "exit") == 0 || strcmp(line, "quit") == 0;
}

static void trim(char *line)
{
    size_t bytes = strlen(line);
    while (bytes > 0 && strchr(" \t\r\n", line[bytes - 1]) != NULL)
        line[--bytes] = '\0';
}

int prompt_run(shobj_store *store)
{
    const char *name = strrchr(shobj_path(store), '/') + 1;
    char prompt[300];
    snprintf(prompt, sizeof(prompt), "%.250s> ", name);
    puts("Commands as on the command line; addresses may leave out the store: get /key. help lists them, exit ends.");

    prompt_store = store;
    rl_readline_name = "shobj";
    rl_initialize();
    rl_attempted_completion_function = complete;
    rl_basic_word_break_characters = " \t";
    rl_completer_word_break_characters = " \t";
    stifle_history(HISTORY_MAX);
    char *history = history_path();
    if (history != NULL)
        read_history(history);

    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: waiting for a key ends */
    struct sigaction before;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &before);
    for (;;) {
        interrupted = 0;
        char *line = readline(prompt);
        if (line == NULL && interrupted) {
            fputs("\n", stdout);
            continue;
        }
        if (line == NULL)
            break;
        trim(line);
        bool ends = is_exit(line);
        if (line[0] != '\0' && !ends) {
            add_history(line);
            run_line(line, store);
        }
        free(line);
        if (ends)
            break;
    }
    sigaction(SIGINT, &before, NULL);
    if (history != NULL)
        write_history(history);
    free(history);
    clear_candidates();
    free(found.list);
    found = (candidates){0};
    return EXIT_DONE;
}
