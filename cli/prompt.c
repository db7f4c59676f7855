/*
 * prompt.c: the interactive prompt: lines with history and completion by libedit, split into words, run as commands.
 *
 * Words are separated by blanks; quotes '..' and "..", and backslashes, keep blanks in a word, as in a shell. Literals need
 * no second quoting: the value of `set` is the rest of the line just as it stands, set /name 'a b', and an option's value
 * that is a literal keeps its quotes.
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

#define WORD_MAX    64
#define HISTORY_MAX 1000

/* ---- words */

typedef struct words {
    char *text; /* of all words, each NUL-terminated, then room for as much again */
    char *word[WORD_MAX + 1];
    size_t from[WORD_MAX], to[WORD_MAX]; /* where each stands in the line */
    int count;
    const char *error; /* why the line can't be split */
} words;

/* Returns where the word ends, NULL if that is inside a quote. */
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
    return quote == '\0' ? at : NULL;
}

static bool split(const char *line, words *ret)
{
    *ret = (words){.text = malloc(4 * strlen(line) + 4), .error = "out of memory"};
    char *to = ret->text;
    const char *at = line;
    while (ret->text != NULL) {
        at += strspn(at, " \t");
        if (*at == '\0')
            return true;
        ret->error = "the line has too many words";
        if (ret->count == WORD_MAX)
            break;
        ret->from[ret->count] = (size_t)(at - line);
        ret->word[ret->count] = to;
        ret->error = "a quote is not closed";
        at = copy_word(at, &to);
        if (at == NULL)
            break;
        ret->to[ret->count++] = (size_t)(at - line);
    }
    return false;
}

/* The option that takes the next word as its value; NULL if this word is no such option. */
static const struct option *valued_option(const struct command *command, const char *word)
{
    for (int i = 0; i < OPTION_MAX && command->options[i].name != NULL; i++) {
        const struct option *o = &command->options[i];
        const char letter[3] = {'-', o->letter, '\0'};
        bool is_it = strncmp(word, "--", 2) == 0 ? strcmp(word + 2, o->name) == 0 : strcmp(word, letter) == 0;
        if (is_it && o->arg != NULL)
            return o;
    }
    return NULL;
}

/* Puts literals in as they stand in the line: option values that are some, and the rest of the line for a value. */
static void take_literals(words *w, const char *line)
{
    const struct command *command = command_find(w->word[0]);
    char *raw = w->text + 2 * strlen(line) + 2;
    int operand = 0;
    for (int i = 1; command != NULL && i < w->count; i++) {
        const struct option *option = valued_option(command, w->word[i]);
        if (option != NULL && option->is_literal && i + 1 < w->count) {
            size_t bytes = w->to[i + 1] - w->from[i + 1];
            w->word[i + 1] = memcpy(raw, line + w->from[i + 1], bytes);
            raw[bytes] = '\0';
            raw += bytes + 1;
        }
        if (option != NULL) {
            i++;
        } else if (w->word[i][0] != '-' || operand > 0) {
            if (command->operands[operand < OPERAND_MAX ? operand : OPERAND_MAX] == OPERAND_VALUE) {
                w->word[i] = (char *)line + w->from[i];
                w->count = i + 1;
            }
            operand++;
        }
    }
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

/* What may stand behind these words, beginning with `text`. */
static void find_candidates(const words *w, const char *text)
{
    const struct command *command = w->count > 0 ? command_find(w->word[0]) : NULL;
    int operand = -1;
    for (int i = 0; i < w->count; i++)
        operand += w->word[i][0] != '-';
    operand = operand < 0 ? 0 : operand > OPERAND_MAX ? OPERAND_MAX : operand;
    enum operand kind = command != NULL ? command->operands[operand] : OPERAND_NONE;
    if (w->count == 0 || kind == OPERAND_COMMAND) {
        for (const struct command *c = commands; c->name != NULL; c++)
            add_candidate(c->name, (void *)text);
        if (w->count == 0)
            add_candidate("exit", (void *)text);
    } else if (command != NULL && text[0] == '-') {
        add_options(command, text);
    } else if (kind == OPERAND_STORE || kind == OPERAND_ADDRESS) {
        complete_address(prompt_store, text, add_candidate, (void *)text);
    }
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
    words before = {0};
    char *line = strndup(rl_line_buffer, (size_t)start);
    clear_candidates();
    if (line != NULL && split(line, &before))
        find_candidates(&before, text);
    free(before.text);
    free(line);
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
        fprintf(stderr, "shobj: %s\n", w.error);
    } else if (w.count > 0) {
        take_literals(&w, line);
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
