/*
 * json_refs.c: {"$ref": path}: where they stand, and what they mean when all is read.
 */
#include "json_build.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int json_note_refs(loader *l, shobj_oid container, bool is_dict, const shobj_value *values, size_t count)
{
    for (size_t i = is_dict ? 1 : 0; i < count; i += is_dict ? 2 : 1) {
        if (!json_holds(&values[i], json_is_ref))
            continue;
        if (!json_grow(l, (void **)&l->mends, l->mend_count, &l->mend_room, sizeof(mend)))
            return 0;
        mend *m = &l->mends[l->mend_count++];
        *m = (mend){.container = container, .is_dict = is_dict, .index = (int64_t)i};
        m->value = json_copy_value(&l->kept, &values[i], true);
        if (is_dict)
            m->key = json_copy_value(&l->kept, &values[i - 1], true);
    }
    return 1;
}

static int fail_ref(loader *l, const shobj_value *ref, const char *what)
{
    snprintf(l->load->error, sizeof(l->load->error), "{\"$ref\": \"%.*s\"}: %s (--plain loads it as a dict)",
             (int)(ref->count < 200 ? ref->count : 200), (const char *)ref->data, what);
    return SHOBJ_EINVAL;
}

/* The object at a path below the value that was loaded. */
static int resolve(loader *l, const shobj_value *loaded, const shobj_value *ref, shobj_value *ret)
{
    if (ref->count > 0 && memchr(ref->data, '\0', ref->count) != NULL)
        return fail_ref(l, ref, "a path holds no NUL");
    char *path = malloc(ref->count + 32);
    if (path == NULL)
        return SHOBJ_ENOMEM;
    if (ref->count > 0)
        memcpy(path, ref->data, ref->count);
    path[ref->count] = '\0';
    shobj_value at = *loaded;
    char *rest = path;
    while (at.type == SHOBJ_TUPLE && *rest == '/') {
        char *end;
        unsigned long long index = strtoull(rest + 1, &end, 10);
        if (end == rest + 1 || (*end != '/' && *end != '\0') || index >= at.count)
            break;
        shobj_value item = at.items[index];
        at = item;
        rest = end;
    }
    int rc = 0;
    if (at.type == SHOBJ_OBJECT) {
        char *address = malloc(ref->count + 32);
        if (address != NULL) {
            sprintf(address, "@%016" PRIx64 "%s", at.oid, rest);
            rc = shobj_path_get(l->store, address, &at);
        } else {
            rc = SHOBJ_ENOMEM;
        }
        free(address);
    }
    free(path);
    if (rc == SHOBJ_ENOTFOUND || rc == SHOBJ_ETYPE || rc == SHOBJ_EINVAL)
        return fail_ref(l, ref, "there is nothing at this path of the input");
    if (rc == 0 && (at.type != SHOBJ_OBJECT || json_is_ref(&at)))
        return fail_ref(l, ref, "what is at this path is no dict or list, which alone can be shared");
    *ret = at;
    return rc;
}

int json_resolve_refs(loader *l, const shobj_value *loaded, shobj_value *v)
{
    if (json_is_ref(v))
        return resolve(l, loaded, v, v);
    int rc = 0;
    if (json_is_sequence(v) && json_holds(v, json_is_ref)) {
        shobj_value *items = obstack_copy(&l->kept, v->items, v->count * sizeof(shobj_value));
        for (size_t i = 0; i < v->count && rc == 0; i++)
            rc = json_resolve_refs(l, loaded, &items[i]);
        v->items = items;
    }
    return rc;
}

static int mend_place(loader *l, const shobj_value *loaded, mend *m)
{
    int rc = json_resolve_refs(l, loaded, &m->value);
    if (rc < 0 || !m->is_dict)
        return rc < 0 ? rc : shobj_list_set(l->store, m->container, m->index, &m->value);
    shobj_key key;
    rc = shobj_key_init(l->store, &m->key, &key);
    return rc < 0 ? rc : shobj_dict_set(l->store, m->container, &key, &m->value);
}

int json_mend_all(loader *l, const shobj_value *loaded)
{
    int rc = 0;
    for (size_t i = 0; i < l->mend_count && rc == 0; i++)
        rc = mend_place(l, loaded, &l->mends[i]);
    return rc;
}
