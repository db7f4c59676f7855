/*
 * decode.c: values out of cells and boxes.
 *
 * Nothing that a box says is believed: its words are copied, and the copy is looked at. Three
 * bounds hold whatever the words are: nesting ends at SHO_VALUE_DEPTH_MAX, or sooner in a box that
 * holds itself; a value's boxes together are no larger than the file, since each has one owner; and
 * before more than a page is read, the operation is checked, so that a length which was garbage of
 * a race is not followed.
 */
#include "object/cell.h"

#include "base/error.h"
#include "object/str.h"
#include "object/words.h"
#include "txn/session.h"

#define FIRST_CHECK_BYTES 4096u

_Static_assert(sizeof(shobj_value) == 24, "items of a tuple are copied to arrays of these");

/* ---- reading boxes */

/* How much one value has made us read. */
typedef struct budget {
    uint64_t bytes;
    uint64_t check_at;
} budget;

typedef struct box {
    uint64_t off;
    unsigned kind;
    unsigned flags;
    uint64_t bytes;
    const sho_word *words;
} box;

static SHO_COLD int corrupt(uint64_t where, const char *what)
{
    sho_error(SHOBJ_ECORRUPT, "value at 0x%llx: %s; run shobj check", (unsigned long long)where,
              what);
    return SHOBJ_ECORRUPT;
}

static SHO_COLD int go_on(sho_session *s, uint64_t off, budget *spent)
{
    /* Relaxed: the file only grows. */
    if (spent->bytes > atomic_load_explicit(&s->region->limit, memory_order_relaxed))
        return corrupt(off, "its boxes are larger than the file, so that some have two owners");
    spent->check_at = 2 * spent->bytes;
    return sho_op_check(s);
}

static int open_box(sho_session *s, uint64_t cell, budget *spent, box *ret_box)
{
    uint64_t header;
    ret_box->off = sho_cell_off(cell);
    int rc = sho_op_box(s, ret_box->off, &header, &ret_box->words);
    if (rc)
        return rc;
    ret_box->kind = SHM_HEADER_KIND(header);
    ret_box->flags = SHM_BOX_FLAGS(header);
    ret_box->bytes = SHM_BOX_BYTES_OF(header);
    spent->bytes += ret_box->bytes + sizeof(header);
    return SHO_LIKELY(spent->bytes <= spent->check_at) ? 0 : go_on(s, ret_box->off, spent);
}

/* How deep inside tuples and frozensets we are. The landmark is the box at the last depth that was
 * a power of two: a path that goes round in a circle comes by it, whatever the circle's length. */
typedef struct level {
    unsigned depth;
    uint64_t landmark_off;
} level;

static const level outside;

static int enter(const level *above, const box *b, level *ret_level)
{
    unsigned depth = above->depth + 1;
    if (depth > SHO_VALUE_DEPTH_MAX)
        return corrupt(b->off, "tuples are nested deeper than any that can be stored");
    if (above->landmark_off == b->off)
        return corrupt(b->off, "a tuple that holds itself");
    bool is_landmark = (depth & (depth - 1)) == 0;
    *ret_level =
        (level){.depth = depth, .landmark_off = is_landmark ? b->off : above->landmark_off};
    return 0;
}

static SHO_COLD int no_memory(size_t bytes)
{
    sho_error(SHOBJ_ENOMEM, "no memory for %zu bytes of a value that was read", bytes);
    return SHOBJ_ENOMEM;
}

/* ---- decode */

static int decode_nested(sho_session *s, uint64_t cell, const level *above, budget *spent,
                         shobj_value *ret_value);

/* Copies the payload; returns the OR of its words. */
static int copy_payload(sho_session *s, const box *b, void **ret_bytes, uint64_t *ret_any)
{
    size_t room = (size_t)(b->bytes + 7) & ~(size_t)7;
    void *bytes = sho_values_alloc(s, room);
    if (bytes == NULL)
        return no_memory(room);
    *ret_any = sho_words_get(bytes, b->words, b->bytes);
    *ret_bytes = bytes;
    return 0;
}

/* Field by field: a value made elsewhere and then copied would be loaded in larger pieces than it
 * was stored in, which stalls the processor. */
static inline void set_text(shobj_value *ret_value, bool is_str, bool ascii, const void *bytes,
                            size_t count)
{
    ret_value->type = is_str ? SHOBJ_STR : SHOBJ_BYTES;
    ret_value->kind = 0;
    ret_value->negative = 0;
    ret_value->ascii = ascii;
    ret_value->reserved = 0;
    ret_value->data = bytes;
    ret_value->count = count;
}

static int decode_text(sho_session *s, const box *b, shobj_value *ret_value)
{
    if (b->bytes <= SHO_SHORT_BYTES_MAX)
        return corrupt(b->off, "text that fits into a cell is in a box");
    void *bytes;
    uint64_t any;
    int rc = copy_payload(s, b, &bytes, &any);
    if (rc)
        return rc;
    bool is_str = b->kind == SHM_BOX_STR;
    bool ascii = is_str && (any & SHO_HIGH_BITS) == 0;
    if (is_str && ascii != ((b->flags & SHM_BOX_ASCII) != 0))
        return corrupt(b->off, "a str whose ASCII flag is wrong");
    if (is_str && !ascii && sho_str_check(bytes, b->bytes, &ascii) != b->bytes)
        return corrupt(b->off, "a str that is not UTF-8");
    set_text(ret_value, is_str, ascii, bytes, b->bytes);
    return 0;
}

static int decode_int(sho_session *s, const box *b, shobj_value *ret_value)
{
    if (b->bytes == 0 || b->bytes % 8 != 0)
        return corrupt(b->off, "an int of a broken number of bytes");
    bool negative = (b->flags & SHM_BOX_NEGATIVE) != 0;
    uint64_t magnitude = sho_load(&b->words[0]);
    int64_t i;
    if (b->bytes == 8 && sho_magnitude_to_int(magnitude, negative, &i)) {
        if (sho_int_is_small(i))
            return corrupt(b->off, "an int that fits into a cell is in a box");
        *ret_value = (shobj_value){.type = SHOBJ_INT, .i = i};
        return 0;
    }
    void *bytes;
    uint64_t any;
    int rc = copy_payload(s, b, &bytes, &any);
    if (rc)
        return rc;
    size_t count = b->bytes;
    while (count > b->bytes - 8 && ((const uint8_t *)bytes)[count - 1] == 0)
        count--;
    if (count == b->bytes - 8)
        return corrupt(b->off, "an int with an empty top word");
    *ret_value =
        (shobj_value){.type = SHOBJ_BIGINT, .negative = negative, .data = bytes, .count = count};
    return 0;
}

static int decode_floats(const box *b, shobj_value *ret_value)
{
    if (b->kind == SHM_BOX_FLOAT && b->bytes == 8) {
        double f = sho_double_of(sho_load(&b->words[0]));
        if (sho_double_is_in_place(f))
            return corrupt(b->off, "a float that fits into a cell is in a box");
        *ret_value = (shobj_value){.type = SHOBJ_FLOAT, .f = f};
        return 0;
    }
    if (b->kind == SHM_BOX_COMPLEX && b->bytes == 16) {
        double real = sho_double_of(sho_load(&b->words[0]));
        double imaginary = sho_double_of(sho_load(&b->words[1]));
        *ret_value = (shobj_value){.type = SHOBJ_COMPLEX, .c = {real, imaginary}};
        return 0;
    }
    return corrupt(b->off, "a float or complex of a wrong size");
}

/* Tuples have a word per item, frozensets two: hash and cell. */
static int decode_items(sho_session *s, const box *b, const level *above, budget *spent,
                        shobj_value *ret_value)
{
    bool is_set = b->kind == SHM_BOX_FROZENSET;
    unsigned stride = is_set ? 2 : 1;
    if (b->bytes % (8 * stride) != 0)
        return corrupt(b->off, "a tuple or frozenset of a broken number of bytes");
    level here;
    int rc = enter(above, b, &here);
    if (rc)
        return rc;
    size_t count = b->bytes / (8 * stride);
    shobj_value *items = NULL;
    if (count > 0) {
        items = sho_values_alloc(s, count * sizeof(*items));
        if (items == NULL)
            return no_memory(count * sizeof(*items));
    }
    uint64_t last_hash = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_set) {
            uint64_t hash = sho_load(&b->words[2 * i]);
            if (hash < last_hash)
                return corrupt(b->off, "the items of a frozenset are out of order");
            last_hash = hash;
        }
        uint64_t cell = sho_load(&b->words[stride * i + stride - 1]);
        rc = decode_nested(s, cell, &here, spent, &items[i]);
        if (rc)
            return rc;
    }
    *ret_value = (shobj_value){
        .type = is_set ? SHOBJ_FROZENSET : SHOBJ_TUPLE, .items = items, .count = count};
    return 0;
}

static int decode_box(sho_session *s, uint64_t cell, const level *above, budget *spent,
                      shobj_value *ret_value)
{
    box b;
    int rc = open_box(s, cell, spent, &b);
    if (rc)
        return rc;
    switch (b.kind) {
    case SHM_BOX_STR:
    case SHM_BOX_BYTES:
        return decode_text(s, &b, ret_value);
    case SHM_BOX_TUPLE:
    case SHM_BOX_FROZENSET:
        return decode_items(s, &b, above, spent, ret_value);
    case SHM_BOX_INT:
        return decode_int(s, &b, ret_value);
    case SHM_BOX_FLOAT:
    case SHM_BOX_COMPLEX:
        return decode_floats(&b, ret_value);
    default:
        return corrupt(b.off, "a cell refers to a box that holds no value");
    }
}

static int decode_short(sho_session *s, uint64_t cell, shobj_value *ret_value)
{
    size_t count = cell >> 40 & 0xff;
    uint64_t word = cell & ((1ULL << 40) - 1);
    if (count > SHO_SHORT_BYTES_MAX || word >> (8 * count) != 0)
        return corrupt(cell, "not the cell of a short str or bytes");
    uint64_t *bytes = sho_values_alloc(s, sizeof(word));
    if (SHO_UNLIKELY(bytes == NULL))
        return no_memory(sizeof(word));
    *bytes = word;
    bool is_str = SHO_CELL_TAG(cell) == SHO_TAG_STR;
    bool ascii = is_str && (word & SHO_HIGH_BITS) == 0;
    if (is_str && !ascii && sho_str_check(bytes, count, &ascii) != count)
        return corrupt(cell, "the cell of a short str that is not UTF-8");
    set_text(ret_value, is_str, ascii, bytes, count);
    return 0;
}

static int decode_object(sho_session *s, uint64_t cell, shobj_value *ret_value)
{
    uint64_t off = sho_cell_off(cell);
    uint64_t header;
    int rc = sho_op_node_header(s, off, &header);
    if (rc)
        return rc;
    unsigned kind = SHM_HEADER_KIND(header);
    if (SHO_UNLIKELY(kind == SHM_DYING)) /* and what refers to it is about to go, too */
        return sho_op_object_condemned(s, SHM_OID(off, SHM_NODE_BIRTH(header)));
    if (!SHM_KIND_IS_OBJECT(kind) || off % 16 != 0)
        return corrupt(off, "a cell refers to an object where there is none");
    *ret_value = (shobj_value){
        .type = SHOBJ_OBJECT, .kind = (uint8_t)kind, .oid = SHM_OID(off, SHM_NODE_BIRTH(header))};
    return sho_hold(s, ret_value->oid);
}

/* All that the inline part leaves. */
static int decode_rest(sho_session *s, uint64_t cell, const level *above, budget *spent,
                       shobj_value *ret_value)
{
    switch (SHO_CELL_TAG(cell)) {
    case SHO_TAG_STR:
    case SHO_TAG_BYTES:
        return decode_short(s, cell, ret_value);
    case SHO_TAG_BOX:
        return decode_box(s, cell, above, spent, ret_value);
    case SHO_TAG_OBJECT:
        return decode_object(s, cell, ret_value);
    default:
        if (cell == SHO_CELL_EMPTY && above->depth == 0) {
            *ret_value = (shobj_value){.type = SHOBJ_ABSENT};
            return 0;
        }
        return corrupt(cell, "not a cell");
    }
}

int sho_cell_decode_other(sho_session *s, uint64_t cell, shobj_value *ret_value)
{
    budget spent = {.check_at = FIRST_CHECK_BYTES};
    return decode_rest(s, cell, &outside, &spent, ret_value);
}

static int decode_nested(sho_session *s, uint64_t cell, const level *above, budget *spent,
                         shobj_value *ret_value)
{
    unsigned tag = SHO_CELL_TAG(cell);
    if ((tag >= SHO_TAG_STR && tag <= SHO_TAG_BOX) || cell == SHO_CELL_EMPTY)
        return decode_rest(s, cell, above, spent, ret_value);
    return sho_cell_decode(s, cell, ret_value);
}

/* ---- walk, release */

typedef struct walk {
    sho_session *s;
    int (*visit)(sho_session *s, uint64_t cell, void *arg);
    void *arg;
    budget spent;
} walk;

static int walk_cell(walk *w, uint64_t cell, const level *above)
{
    if (!sho_cell_is_box(cell))
        return sho_cell_is_object(cell) ? w->visit(w->s, cell, w->arg) : 0;
    box b;
    int rc = open_box(w->s, cell, &w->spent, &b);
    if (rc == 0)
        rc = w->visit(w->s, cell, w->arg);
    if (rc || (b.kind != SHM_BOX_TUPLE && b.kind != SHM_BOX_FROZENSET))
        return rc;
    level here;
    rc = enter(above, &b, &here);
    if (rc)
        return rc;
    unsigned stride = b.kind == SHM_BOX_FROZENSET ? 2 : 1;
    for (uint64_t i = stride - 1; i < b.bytes / 8; i += stride) {
        rc = walk_cell(w, sho_load(&b.words[i]), &here);
        if (rc)
            return rc;
    }
    return 0;
}

int sho_cell_walk(sho_session *s, uint64_t cell,
                  int (*visit)(sho_session *s, uint64_t cell, void *arg), void *arg)
{
    walk w = {.s = s, .visit = visit, .arg = arg, .spent = {.check_at = FIRST_CHECK_BYTES}};
    return walk_cell(&w, cell, &outside);
}

static int release_one(sho_session *s, uint64_t cell, void *arg)
{
    return sho_cell_is_box(cell) ? sho_op_release_box(s, sho_cell_off(cell)) : 0;
}

int sho_cell_release_box(sho_session *s, uint64_t cell)
{
    return sho_cell_walk(s, cell, release_one, NULL);
}
