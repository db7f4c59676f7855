/*
 * target.h: the store and path that an operand names, and what is read there.
 */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include "cli.h"
#include "out.h"

struct target {
    shobj_store *store;
    const char *path;
    bool is_owned; /* opened for this call, to be closed */
};

/* How long a command waits for others before it gives up with ETIMEOUT: $SHOBJ_TIMEOUT seconds, else a minute. */
extern int64_t patience_seconds;
/* Reads $SHOBJ_TIMEOUT. Exit code. */
int patience_init(void);
/* What the store is asked for from here on may wait that long. Work that takes longer says it again now and then. */
void patience_renew(shobj_store *store);
/* For shobj_options.wait_interrupted: Ctrl-C at the prompt ends a wait. */
bool patience_is_interrupted(void);

/* Opens the store of an address, or takes the prompt's. Prints what is wrong and returns an exit code, 0 if fine;
 * target_close() is due after 0 only. */
int target_open(const struct call *call, const char *address, enum shobj_open_mode mode, struct target *ret_target);
/* The name of a store that an operand gives (it may end in ':', as the address of the root does), to be free()d. EXIT_DONE, or
 * what is wrong, told. */
int target_store_name(const struct call *call, const char *address, char **ret_name);
/* The same for an operand that names a whole store. */
int target_open_store(const struct call *call, const char *address, enum shobj_open_mode mode,
                      struct target *ret_target);
void target_close(struct target *target);

/* Runs a transaction as shobj_run() does, but not for ever: ETIMEOUT if it kept losing for so long. */
int target_run(const struct target *target, int (*body)(shobj_store *store, void *arg), void *arg);
/* fail() for an error of target_run(). */
int target_fail(const struct call *call, int error);

/* Reads value and text in one transaction into the spool. 0 or an exit code, with the reason printed. */
int target_render(const struct call *call, const struct target *target, enum shobj_form form, unsigned indent,
                  unsigned depth_max, struct spool *spool);

/* The name of a value's type: "dict", "int". */
const char *value_type(const shobj_value *value);
/* Number of entries, elements or bytes; false for values that have no size. A store call for objects. */
int value_size(shobj_store *store, const shobj_value *value, bool *ret_has_size, uint64_t *ret_size);

/* Calls back with each address that begins with `prefix` (one step more of its path, or a store). `store`: the prompt's, or
 * NULL. Silent about errors: there is just nothing to complete. */
void complete_address(shobj_store *store, const char *prefix, void (*each)(const char *text, void *arg), void *arg);

/* Reads a whole number option: "N" in [min, max]. Exit code. */
int parse_number(const struct call *call, const char *option, uint64_t min, uint64_t max, uint64_t *ret_number);
/* --size, --max-size, --mode. Exit code. */
int read_create_options(const struct call *call, shobj_options *ret);
/* Bytes with an optional K, M, G or T. Exit code. */
int parse_bytes(const struct call *call, const char *option, uint64_t *ret_bytes);

#endif
