/*
 * object.c: keys made ready for a store, and what can be asked of any object.
 */
#include "object/cell.h"
#include "txn/session.h"

SHOBJ_API int shobj_key_init(shobj_store *store, const shobj_value *value, shobj_key *ret_key)
{
    return sho_key_init(store->region->hash_seed, value, ret_key);
}

static int object_body(sho_session *s, shobj_oid oid, enum shobj_kind *ret_kind, uint64_t *ret_version)
{
    sho_view head;
    int rc = sho_op_read_object(s, oid, 0, &head);
    if (rc)
        return rc;
    *ret_kind = (enum shobj_kind)SHM_HEADER_KIND(head.header);
    if (ret_version != NULL)
        *ret_version = s->o.entries[head.entry & ~SHO_ENTRY_NEW_BIT].version / SHM_VERSION_ONE;
    return 0;
}

SHOBJ_API int shobj_object(shobj_store *store, shobj_oid oid, enum shobj_kind *ret_kind, uint64_t *ret_version)
{
    sho_session *s;
    int rc = sho_session_get(store, &s);
    if (rc == 0)
        SHO_OP(s, rc, object_body(s, oid, ret_kind, ret_version));
    return rc;
}
