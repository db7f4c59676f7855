/*
 * error.c: error numbers, their names and texts, and the calling thread's message.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/base.h"

static _Thread_local char message[512];
static _Thread_local const char *constant; /* instead of `message` if not NULL */

void sho_error_format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    constant = NULL;
}

void sho_error_constant(const char *text)
{
    constant = text;
}

SHOBJ_API const char *shobj_error_message(void)
{
    return constant != NULL ? constant : message;
}

SHOBJ_API const char *shobj_error_name(int error)
{
    switch (error) {
    case 0:
        return "OK";
#define NAME(name, number, text)                                                                   \
    case -(number):                                                                                \
        return #name;
        SHOBJ_ERRORS(NAME)
#undef NAME
    default:
        return "E?";
    }
}

SHOBJ_API const char *shobj_error_text(int error)
{
    switch (error) {
    case 0:
        return "done";
#define TEXT(name, number, text)                                                                   \
    case -(number):                                                                                \
        return text;
        SHOBJ_ERRORS(TEXT)
#undef TEXT
    default:
        return "unknown error";
    }
}

SHOBJ_API const char *shobj_version(void)
{
    return SHOBJ_VERSION_STRING;
}
