/*
 * prompt.h: the interactive prompt of `shobj open`.
 */
#ifndef CLI_PROMPT_H
#define CLI_PROMPT_H

#include <shobj.h>

/* Reads and runs commands until end of input or "exit". Returns an exit code. */
int prompt_run(shobj_store *store);

#endif
