/*
 * cmd_help.c: help, made from the table of commands.
 */
#include <stdio.h>
#include <string.h>

#include "out.h"

static const char addresses[] =
    "An ADDRESS is STORE, STORE:/PATH or STORE:@OBJECT-ID. A STORE is a name in $SHOBJ_DIR (else /dev/shm), or a path\n"
    "with a '/' in it. A PATH is a JSON pointer: /key/0/-1; '~1' stands for '/', '~0' for '~', and '~=' begins a key\n"
    "that is no str, as a Python literal: /~=42, /~=(1, 2). /- is the place behind the end of a list.\n";

static const char exit_codes[] =
    "Exit codes: 0 done, 1 path absent or answer no, 2 usage, 3 store missing or unreadable, "
    "4 conflict or timeout,\n5 damaged, 6 full, 7 refused.\n";

static void print_option(const struct option *o)
{
    char text[64];
    char letter[8] = "    ";
    if (o->letter != 0)
        snprintf(letter, sizeof(letter), "-%c, ", o->letter);
    snprintf(text, sizeof(text), "%s--%s%s%s", letter, o->name, o->arg != NULL ? " " : "",
             o->arg != NULL ? o->arg : "");
    printf("  %-26s %s\n", text, o->help);
}

static void print_json(const struct command *only)
{
    bool first = true;
    fputc('[', stdout);
    for (const struct command *c = commands; c->name != NULL; c++) {
        bool first_member = true;
        if (only != NULL && c != only)
            continue;
        fputs(first ? "\n {" : ",\n {", stdout);
        first = false;
        out_json_name("name", &first_member);
        out_json_str(c->name);
        out_json_name("synopsis", &first_member);
        out_json_str(c->synopsis);
        out_json_name("summary", &first_member);
        out_json_str(c->summary);
        fputc('}', stdout);
    }
    fputs("\n]\n", stdout);
}

static void print_command(const struct command *c)
{
    printf("usage: shobj %s [OPTION...] %s\n\n%c%s.\n", c->name, c->synopsis, c->summary[0] - 'a' + 'A',
           c->summary + 1);
    if (c->details != NULL)
        printf("%s\n", c->details);
    printf("\nOptions:\n");
    for (int i = 0; i < OPTION_MAX && c->options[i].name != NULL; i++)
        print_option(&c->options[i]);
    if (c->operands[0] == OPERAND_ADDRESS)
        printf("\n%s", addresses);
}

int cmd_help(const struct call *call)
{
    const struct command *command = NULL;
    if (call->count > 0) {
        command = command_find(call->operands[0]);
        if (command == NULL)
            return fail_usage(call, "there is no command '%s'", call->operands[0]);
    }
    if (call->json) {
        print_json(command);
        return EXIT_DONE;
    }
    if (command != NULL) {
        print_command(command);
        return EXIT_DONE;
    }
    printf("usage: shobj COMMAND [OPTION...] [OPERAND...]\n\nWorks on stores of shared objects.\n\n");
    for (const struct command *c = commands; c->name != NULL; c++)
        printf("  %-12s%s\n", c->name, c->summary);
    printf("\n'shobj help COMMAND' and shobj(1) tell more; 'shobj --version' prints the version.\n\n%s\n%s", addresses,
           exit_codes);
    return EXIT_DONE;
}
