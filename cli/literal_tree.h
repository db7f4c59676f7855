/*
 * literal_tree.h: Python literals with containers in them.
 */
#ifndef CLI_LITERAL_TREE_H
#define CLI_LITERAL_TREE_H

#include <shobj.h>

/* Memory of the values that were read, to be freed when they are stored. */
typedef struct literal_memory {
    void **blocks;
    size_t count, room;
} literal_memory;

/* Reads a literal; lists and dicts in it become new objects of the store. Errors as of shobj_literal_parse() and the store;
 * `error` (256 bytes) gets the text of the former. To be called inside a transaction, so that nothing stays of a
 * literal that is bad at its end. */
int literal_tree_build(shobj_store *store, const char *text, shobj_value *ret_value, literal_memory *memory,
                       char error[256]);
void literal_memory_free(literal_memory *memory);

#endif
