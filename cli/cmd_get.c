/*
 * cmd_get.c: get, cat, dump: a value as text, each read in one transaction.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

#define LINE_COLUMNS 100 /* a literal that is longer is broken into lines on a terminal */

static int print_value(const struct call *call, enum shobj_form form, bool break_long)
{
    uint64_t indent = 0;
    bool has_indent = call_option(call, "indent") != NULL;
    int code = has_indent ? parse_number(call, "indent", 0, 16, &indent) : EXIT_DONE;
    struct target target;
    if (code == EXIT_DONE)
        code = target_open(call, call->operands[0], SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    struct spool spool = {0};
    code = target_render(call, &target, form, (unsigned)indent, 0, &spool);
    if (code == EXIT_DONE && break_long && !has_indent && (spool.kept.bytes > LINE_COLUMNS || spool.file != NULL))
        code = target_render(call, &target, form, 2, 0, &spool);
    target_close(&target);
    if (code == EXIT_DONE) {
        spool_print(&spool);
        fputc('\n', stdout);
    }
    return code;
}

int cmd_get(const struct call *call)
{
    return print_value(call, call->json ? SHOBJ_FORM_JSON : SHOBJ_FORM_LITERAL, out_is_terminal());
}

int cmd_dump(const struct call *call)
{
    return print_value(call, SHOBJ_FORM_DUMP, false);
}

/* As a file of the mount has it: text, numbers and constants end with a newline, bytes are bare. */
int cmd_cat(const struct call *call)
{
    if (call->json)
        return print_value(call, SHOBJ_FORM_JSON, false);
    struct target target;
    int code = target_open(call, call->operands[0], SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    shobj_value value;
    struct spool spool = {0};
    int rc = shobj_path_get(target.store, target.path, &value);
    if (rc < 0) {
        code = fail(call, rc);
    } else if (value.type == SHOBJ_STR || value.type == SHOBJ_BYTES) {
        fwrite(value.data, 1, value.count, stdout);
    } else {
        bool is_literal = value.type == SHOBJ_FLOAT || value.type == SHOBJ_COMPLEX;
        bool is_container = value.type == SHOBJ_OBJECT;
        code = target_render(call, &target, is_literal ? SHOBJ_FORM_LITERAL : SHOBJ_FORM_JSON, is_container ? 2 : 0, 0,
                             &spool);
        if (code == EXIT_DONE)
            spool_print(&spool);
    }
    if (code == EXIT_DONE && value.type != SHOBJ_BYTES)
        fputc('\n', stdout);
    target_close(&target);
    return code;
}
