/*
 * dict_new.c: a new dict, empty or with many items at once.
 *
 * Items are numbered in private memory first: of equal keys the first one stays with the last one's
 * value. Then come the values' cells, and the dict is built in the form that it would have grown
 * to. Serials are the numbers.
 */
#include "types/dict.h"

#include "base/error.h"

int sho_dict_create(sho_session *s, size_t expected, sho_view *ret_head)
{
    unsigned slots = SHO_DICT_HEAD_SLOTS_MIN;
    if (expected > slots && expected <= SHO_DICT_SLOTS_MAX)
        slots = (unsigned)expected;
    return sho_op_new(s, SHM_DICT, SHO_DICT_HEAD_WORDS(slots), ret_head);
}

/* Private memory for the items of one call. */
typedef struct bulk {
    const shobj_item *items;
    size_t item_count;
    sho_dict_entry *entries; /* `value` is the item's number until values are encoded */
    size_t count;            /* different keys */
    uint32_t *table;         /* open addressing by hash: entry + 1; NULL: few enough to be looked at one by one */
    unsigned table_shift;
    uint64_t *scratch;
    void *memory;
    sho_dict_entry few[SHO_DICT_SLOTS_MAX];
} bulk;

static int bulk_init(bulk *b, const shobj_item *items, size_t count)
{
    b->items = items;
    b->item_count = count;
    b->entries = b->few;
    b->count = 0;
    b->table = NULL;
    b->memory = NULL;
    if (count <= SHO_DICT_SLOTS_MAX)
        return 0;
    if (count >= UINT32_MAX)
        return sho_error(SHOBJ_EINVAL, "a dict of %zu items: at most %u can be stored at once", count, UINT32_MAX - 1);
    unsigned bits = 65 - (unsigned)__builtin_clzll(count);
    size_t entry_bytes = count * sizeof(*b->entries);
    size_t scratch_bytes = SHO_DICT_BUILD_SCRATCH(count) * sizeof(*b->scratch);
    b->memory = calloc(1, entry_bytes + scratch_bytes + sizeof(*b->table) * ((size_t)1 << bits));
    if (b->memory == NULL)
        return sho_error(SHOBJ_ENOMEM, "out of memory for a dict of %zu items", count);
    b->entries = b->memory;
    b->scratch = (uint64_t *)((char *)b->memory + entry_bytes);
    b->table = (uint32_t *)((char *)b->scratch + scratch_bytes);
    b->table_shift = 64 - bits;
    return 0;
}

static size_t table_start(const bulk *b, uint32_t hash)
{
    return (size_t)((uint64_t)hash * 0x9e3779b97f4a7c15u >> b->table_shift);
}

/* The entry with the key, or count if there is none; *ret_at is then its place in the table. */
static int bulk_find(sho_session *s, const bulk *b, const shobj_key *key, size_t *ret_entry, size_t *ret_at)
{
    uint32_t hash = (uint32_t)key->hash;
    size_t mask = b->table ? ((size_t)1 << (64 - b->table_shift)) - 1 : 0;
    size_t at = b->table ? table_start(b, hash) : 0;
    for (;; at = b->table ? (at + 1) & mask : at + 1) {
        size_t i = b->table ? (size_t)b->table[at] - 1 : at;
        if (b->table ? b->table[at] == 0 : at == b->count) {
            *ret_entry = b->count;
            *ret_at = at;
            return 0;
        }
        if (b->entries[i].hash != hash)
            continue;
        bool equal;
        int rc = sho_key_equals(s, b->entries[i].key, key, &equal);
        if (rc)
            return rc;
        if (equal) {
            *ret_entry = i;
            return 0;
        }
    }
}

/* Numbers the items and takes their cells. */
static int bulk_encode(sho_session *s, bulk *b)
{
    shobj_store *store = sho_session_store(s);
    b->count = 0;
    if (b->table)
        for (size_t i = 0; i < (size_t)1 << (64 - b->table_shift); i++)
            b->table[i] = 0;
    for (size_t i = 0; i < b->item_count; i++) {
        shobj_key key;
        size_t entry;
        size_t at = 0;
        int rc = shobj_key_init(store, &b->items[i].key, &key);
        if (rc || (rc = bulk_find(s, b, &key, &entry, &at)))
            return rc;
        sho_dict_entry *e = &b->entries[entry];
        if (entry == b->count) {
            e->serial = entry;
            e->hash = (uint32_t)key.hash;
            e->key = key.cell;
            if (e->key == SHO_CELL_EMPTY && (rc = sho_cell_encode(s, &key.value, &e->key)))
                return rc;
            b->count++;
            if (b->table)
                b->table[at] = (uint32_t)b->count;
        }
        e->value = i;
    }
    for (size_t i = 0; i < b->count; i++) {
        int rc = sho_cell_encode(s, &b->items[b->entries[i].value].value, &b->entries[i].value);
        if (rc)
            return rc;
    }
    return 0;
}

static int new_body(sho_session *s, bulk *b, shobj_oid *oid)
{
    sho_view head;
    int rc = bulk_encode(s, b);
    if (rc || (rc = sho_dict_create(s, b->count, &head)))
        return rc;
    if (b->count > SHO_DICT_SLOTS_MAX) {
        uint64_t root = 0;
        uint64_t order_off = 0;
        rc = sho_dict_build_indexed(s, b->entries, b->count, b->count, b->scratch, &root, &order_off);
        if (rc)
            return rc;
        sho_dict_head_refer(s, &head, SHO_DICT_INDEXED, root, order_off);
    } else {
        sho_dict_array array;
        rc = sho_dict_head_array(&head, &array);
        if (rc)
            return rc;
        sho_dict_array_fill(s, &array, b->entries, (unsigned)b->count);
        array.limit = b->count;
        sho_dict_array_store(s, &array, false);
    }
    *oid = SHM_OID(head.off, SHM_NODE_BIRTH(head.header));
    rc = sho_op_hold_new(s, *oid);
    return rc ? rc : sho_op_check(s);
}

SHOBJ_API int shobj_dict_new(shobj_store *store, const shobj_item *items, size_t count, shobj_oid *ret_dict)
{
    sho_session *s;
    bulk b;
    shobj_oid oid = 0;
    int rc = sho_session_get(store, &s);
    if (rc || (rc = bulk_init(&b, items, count)))
        return rc;
    SHO_OP(s, rc, new_body(s, &b, &oid));
    free(b.memory);
    if (rc == 0)
        *ret_dict = oid;
    return rc;
}
