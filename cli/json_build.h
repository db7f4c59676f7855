/*
 * json_build.h: what the files that build objects from JSON share (json_load.c, json_tags.c, json_refs.c).
 */
#ifndef CLI_JSON_BUILD_H
#define CLI_JSON_BUILD_H

#include <obstack.h>
#include <stdlib.h>

#include "json_load.h"

#define obstack_chunk_alloc malloc
#define obstack_chunk_free  free

/* In shobj_value.reserved, while a value is on its way: */
enum { MARK_NONE, MARK_RAW, MARK_REF };

typedef struct frame {
    size_t from;  /* its first value on the stack */
    void *memory; /* where its text begins */
    bool is_dict;
    bool is_raw;  /* the array of a tag */
    bool has_raw; /* whose elements are raw too: that of $dict */
    bool has_ref; /* there are refs in its values */
} frame;

/* A place that holds a ref. */
typedef struct mend {
    shobj_oid container;
    bool is_dict;
    shobj_value key;
    int64_t index;
    shobj_value value;
} mend;

typedef struct loader {
    json_load *load;
    shobj_store *store;
    json_reader *reader;
    int rc;
    bool into_root;

    shobj_value *values;
    size_t count, room;
    frame *frames;
    size_t depth, frame_room;
    struct obstack text;

    mend *mends;
    size_t mend_count, mend_room;
    struct obstack kept; /* what mends point to */

    uint64_t end_line; /* of the last value at the top */
} loader;

/* ---- errors: each returns 0, which stops the reading, as the callbacks of yajl do */

int json_stop(loader *l, int rc);
/* The input is to blame, at the place that was read last. */
int json_stop_at(loader *l, const char *what);
/* Of a failed call of the library: a value that the store does not take is the input's fault. */
int json_stop_store(loader *l, int rc);
int json_no_memory(loader *l);

/* Makes room for one more element; 0 without memory. */
int json_grow(loader *l, void **array, size_t count, size_t *room, size_t bytes);

/* ---- values on their way */

bool json_is_sequence(const shobj_value *v);
bool json_is_ref(const shobj_value *v);
bool json_is_ref_or_object(const shobj_value *v);
/* Whether the test is true of the value, or of one inside it. */
bool json_holds(const shobj_value *v, bool (*test)(const shobj_value *));
bool json_text_is(const shobj_value *v, const char *text);
/* A copy with all its text in an obstack; refs become None, unless they are to be kept. */
shobj_value json_copy_value(struct obstack *to, const shobj_value *from, bool keep_refs);

/* Makes an object of values (keys and values of a dict in turn), or, is_root, fills the root. 0: stopped. */
int json_make_container(loader *l, bool is_dict, const shobj_value *values, size_t count, bool has_ref, bool is_root,
                        shobj_value *ret);

/* ---- tags */

/* Whether what follows this key is the array of a tag. */
bool json_takes_array(const shobj_value *key);
/* Of a dict with one key: *ret_is_tag tells whether it was a tag, *v is then its value. 0: stopped. */
int json_apply_tag(loader *l, const shobj_value *key, shobj_value *v, bool *ret_is_tag);

/* ---- refs, when all is read: errors of the library, or EINVAL with load->error */

/* Notes which places of a new container hold refs. 0: stopped. */
int json_note_refs(loader *l, shobj_oid container, bool is_dict, const shobj_value *values, size_t count);
/* Puts the objects where the refs are; the new copy lies in l->kept. `loaded` is the value that paths begin at. */
int json_resolve_refs(loader *l, const shobj_value *loaded, shobj_value *v);
/* The same for all noted places, in the store. */
int json_mend_all(loader *l, const shobj_value *loaded);

#endif
