/*
 * memory.h: how a store's memory is used and who keeps it: parts of what stat and gc print.
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include "out.h"

/* Each adds a member to a JSON object, or a table with a head. */

/* Sessions of others for which free memory is set aside. */
void print_kept(shobj_store *store, bool json, bool *first);
/* Each size of blocks, and how much of the memory in use is free blocks. */
void print_classes(shobj_store *store, const shobj_stat *stat, bool json, bool *first);
/* What a collection would free, and who keeps what the root does not lead to. An error of the library. */
int print_garbage(shobj_store *store, bool json, bool *first);

#endif
