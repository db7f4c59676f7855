/*
 * cmd_completion.c: completion scripts of the shells, made from the table of commands. Stores and paths are asked of
 * `shobj completion --addresses PREFIX` while the user types.
 */
#include <stdio.h>
#include <string.h>

#include "target.h"

static void print_address(const char *text, void *arg)
{
    (void)arg;
    puts(text);
}

static const char *operand_word(enum operand operand)
{
    switch (operand) {
    case OPERAND_STORE: return "store";
    case OPERAND_ADDRESS: return "address";
    case OPERAND_FILE: return "file";
    case OPERAND_DIR: return "dir";
    case OPERAND_COMMAND: return "command";
    case OPERAND_SHELL: return "shell";
    default: return "none";
    }
}

/* Text inside '...' of a shell. */
static void put_quoted(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            fputc(*text, stdout);
    }
}

/* Rows of a case statement: what the operands of each command are, its options, and which of them take a value. */
static void print_cases(void)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        printf("    %s) kinds=(", c->name);
        for (int i = 0; i < OPERAND_MAX && c->operands[i] != OPERAND_NONE; i++)
            printf("%s%s", i > 0 ? " " : "", operand_word(c->operands[i]));
        fputs(") options=(", stdout);
        for (int i = 0; i < OPTION_MAX && c->options[i].name != NULL; i++)
            printf("%s--%s", i > 0 ? " " : "", c->options[i].name);
        fputs(") valued=' ", stdout);
        for (int i = 0; i < OPTION_MAX && c->options[i].name != NULL; i++) {
            if (c->options[i].arg != NULL)
                printf("--%s ", c->options[i].name);
            if (c->options[i].arg != NULL && c->options[i].letter != 0)
                printf("-%c ", c->options[i].letter);
        }
        fputs("' ;;\n", stdout);
    }
}

static void print_command_names(void)
{
    for (const struct command *c = commands; c->name != NULL; c++)
        printf("%s%s", c > commands ? " " : "", c->name);
}

/* bash breaks words at ':', so that the line is taken apart anew, and what stands before the last ':' is cut off. */
static void print_bash(void)
{
    fputs("# Completion of shobj for bash: eval \"$(shobj completion bash)\"\n"
          "_shobj()\n"
          "{\n"
          "    local line=${COMP_LINE:0:COMP_POINT} cur='' i operand=0 kind candidate valued=''\n"
          "    local -a words kinds=() options=() found=()\n"
          "    read -ra words <<<\"$line\"\n"
          "    case $line in\n"
          "    *[[:space:]]) ;;\n"
          "    *) cur=${words[${#words[@]}-1]}; unset \"words[${#words[@]}-1]\" ;;\n"
          "    esac\n"
          "    COMPREPLY=()\n"
          "    if ((${#words[@]} < 2)); then\n"
          "        mapfile -t COMPREPLY < <(compgen -W '",
          stdout);
    print_command_names();
    fputs("' -- \"$cur\")\n"
          "        return\n"
          "    fi\n"
          "    case ${words[1]} in\n",
          stdout);
    print_cases();
    fputs("    esac\n"
          "    for ((i = 2; i < ${#words[@]}; i++)); do\n"
          "        if [[ $valued == *\" ${words[i]} \"* ]]; then ((++i < ${#words[@]})) || return\n"
          "        elif [[ ${words[i]} != -?* ]]; then ((++operand)); fi\n"
          "    done\n"
          "    if [[ $cur == -* ]]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"${options[*]}\" -- \"$cur\")\n"
          "        return\n"
          "    fi\n"
          "    kind=${kinds[operand]-}\n"
          "    case $kind in\n"
          "    store) mapfile -t found < <(compgen -W \"$(shobj ls 2>/dev/null)\" -- \"$cur\"; compgen -f -- \"$cur\") "
          ";;\n"
          "    address) mapfile -t found < <(shobj completion --addresses \"$cur\" 2>/dev/null) ;;\n"
          "    file) mapfile -t found < <(compgen -f -- \"$cur\") ;;\n"
          "    dir) mapfile -t found < <(compgen -d -- \"$cur\") ;;\n"
          "    command) mapfile -t found < <(compgen -W '",
          stdout);
    print_command_names();
    fputs("' -- \"$cur\") ;;\n"
          "    shell) mapfile -t found < <(compgen -W 'bash zsh fish' -- \"$cur\") ;;\n"
          "    esac\n"
          "    for candidate in \"${found[@]}\"; do\n"
          "        [[ $candidate == */ ]] && compopt -o nospace\n"
          "        [[ $COMP_WORDBREAKS == *:* && $cur == *:* ]] && candidate=${candidate#\"${cur%\"${cur##*:}\"}\"}\n"
          "        printf -v candidate %q \"$candidate\"\n"
          "        COMPREPLY+=(\"$candidate\")\n"
          "    done\n"
          "}\n"
          "complete -F _shobj shobj\n",
          stdout);
}

static void print_zsh(void)
{
    fputs("#compdef shobj\n"
          "# Completion of shobj for zsh: eval \"$(shobj completion zsh)\", or a file _shobj in $fpath\n"
          "_shobj()\n"
          "{\n"
          "    local operand=1 i kind valued=''\n"
          "    local -a kinds options found commands\n"
          "    commands=(\n",
          stdout);
    for (const struct command *c = commands; c->name != NULL; c++) {
        printf("        '%s:", c->name);
        put_quoted(c->summary);
        fputs("'\n", stdout);
    }
    fputs("    )\n"
          "    if ((CURRENT == 2)); then\n"
          "        _describe command commands\n"
          "        return\n"
          "    fi\n"
          "    case $words[2] in\n",
          stdout);
    print_cases();
    fputs("    esac\n"
          "    for ((i = 3; i < CURRENT; i++)); do\n"
          "        if [[ $valued == *\" $words[i] \"* ]]; then ((++i < CURRENT)) || return\n"
          "        elif [[ $words[i] != -?* ]]; then ((++operand)); fi\n"
          "    done\n"
          "    if [[ $PREFIX == -* ]]; then\n"
          "        compadd -- $options\n"
          "        return\n"
          "    fi\n"
          "    kind=$kinds[operand]\n"
          "    case $kind in\n"
          "    store) found=(${(f)\"$(shobj ls 2>/dev/null)\"}); compadd -- $found; _files ;;\n"
          "    address) found=(${(f)\"$(shobj completion --addresses ${(Q)PREFIX} 2>/dev/null)\"}); compadd -S '' -- "
          "$found ;;\n"
          "    file) _files ;;\n"
          "    dir) _files -/ ;;\n"
          "    command) _describe command commands ;;\n"
          "    shell) compadd bash zsh fish ;;\n"
          "    esac\n"
          "}\n"
          "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _shobj \"$@\"; else compdef _shobj shobj; fi\n",
          stdout);
}

static void print_fish(void)
{
    fputs("# Completion of shobj for fish: shobj completion fish | source\n"
          "complete -c shobj -f\n",
          stdout);
    for (const struct command *c = commands; c->name != NULL; c++) {
        const char *seen = "__fish_seen_subcommand_from";
        printf("complete -c shobj -n __fish_use_subcommand -a %s -d '", c->name);
        put_quoted(c->summary);
        fputs("'\n", stdout);
        for (int i = 0; i < OPTION_MAX && c->options[i].name != NULL; i++) {
            const struct option *o = &c->options[i];
            printf("complete -c shobj -n '%s %s' -l %s", seen, c->name, o->name);
            if (o->letter != 0)
                printf(" -s %c", o->letter);
            if (o->arg != NULL)
                fputs(" -x", stdout);
            fputs(" -d '", stdout);
            put_quoted(o->help);
            fputs("'\n", stdout);
        }
        for (int i = 0; i < OPERAND_MAX && c->operands[i] != OPERAND_NONE; i++) {
            const char *what = c->operands[i] == OPERAND_STORE     ? "-F -a '(shobj ls 2>/dev/null)'"
                               : c->operands[i] == OPERAND_ADDRESS ? "-a '(shobj completion --addresses (commandline "
                                                                     "-ct) 2>/dev/null)'"
                               : c->operands[i] == OPERAND_FILE    ? "-F"
                               : c->operands[i] == OPERAND_DIR     ? "-a '(__fish_complete_directories)'"
                               : c->operands[i] == OPERAND_SHELL   ? "-a 'bash zsh fish'"
                                                                   : NULL;
            if (what != NULL && (i == 0 || c->operands[i] != c->operands[i - 1]))
                printf("complete -c shobj -n '%s %s' %s\n", seen, c->name, what);
        }
    }
}

int cmd_completion(const struct call *call)
{
    const char *prefix = call_option(call, "addresses");
    if (prefix != NULL) {
        complete_address(call->prompt_store, prefix, print_address, NULL);
        return EXIT_DONE;
    }
    const char *shell = call->count > 0 ? call->operands[0] : "";
    if (strcmp(shell, "bash") == 0)
        print_bash();
    else if (strcmp(shell, "zsh") == 0)
        print_zsh();
    else if (strcmp(shell, "fish") == 0)
        print_fish();
    else
        return fail_usage(call, "'%s': give bash, zsh or fish", shell);
    return EXIT_DONE;
}
