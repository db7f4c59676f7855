/*
 * trace.c: where references stand in the nodes of each kind. dict.h and list.h draw them.
 */
#include "types/trace.h"

#include "types/dict.h"
#include "types/list.h"

typedef struct tracer {
    const uint64_t *words;
    unsigned count;
    uint64_t mask;
    sho_trace_visit visit;
    void *arg;
} tracer;

static bool wanted(const tracer *t, unsigned i)
{
    return i < t->count && (t->mask >> i & 1) != 0;
}

static void trace_cell(const tracer *t, uint64_t cell)
{
    if (sho_cell_is_object(cell) || sho_cell_is_box(cell))
        t->visit(t->arg, sho_cell_off(cell));
}

static void trace_ref(const tracer *t, unsigned i, uint64_t off)
{
    if (wanted(t, i) && off != 0)
        t->visit(t->arg, off);
}

/* Cells from word `first` on: all of them, or with step 3 the keys and values of entries. */
static void trace_cells(const tracer *t, unsigned first, unsigned step)
{
    for (unsigned i = first; i < t->count; i++)
        if ((step == 1 || (i - first) % step != 0) && wanted(t, i))
            trace_cell(t, t->words[i]);
}

static void trace_dict(const tracer *t)
{
    switch (SHO_DICT_MODE(t->words[0])) {
    case SHO_DICT_INLINE:
        trace_cells(t, SHO_DICT_HEAD_ENTRIES, 3);
        break;
    case SHO_DICT_INDEXED:
        trace_ref(t, SHO_DICT_HEAD_ORDER, t->words[SHO_DICT_HEAD_ORDER]);
        /* fall through */
    case SHO_DICT_CHUNK:
        trace_ref(t, SHO_DICT_HEAD_REF, SHO_DICT_REF_OFF(t->words[SHO_DICT_HEAD_REF]));
    }
}

static void trace_group(const tracer *t)
{
    trace_ref(t, 0, SHO_DICT_GROUP_SPILL(t->words[0]));
    for (unsigned i = 1; i < t->count; i++)
        trace_ref(t, i, (t->words[i] & ((1ULL << 43) - 1)) << 4);
}

static void trace_list(const tracer *t)
{
    if (LIST_META_IS_INLINE(t->words[0])) {
        trace_cells(t, 1, 1);
    } else {
        trace_ref(t, LIST_HEAD_ROOT, t->words[LIST_HEAD_ROOT]);
        trace_ref(t, LIST_HEAD_TAIL, t->words[LIST_HEAD_TAIL]);
    }
}

void sho_node_trace(uint64_t header, const uint64_t *words, uint64_t mask, sho_trace_visit visit, void *arg)
{
    tracer t = {.words = words, .count = SHM_NODE_WORDS(header), .mask = mask, .visit = visit, .arg = arg};
    if (t.count == 0 || t.count > SHM_NODE_WORDS_MAX)
        return;
    switch (SHM_HEADER_KIND(header)) {
    case SHM_DICT:
        trace_dict(&t);
        break;
    case SHM_DICT_ORDER:
        trace_ref(&t, SHO_DICT_ORDER_FIRST, t.words[SHO_DICT_ORDER_FIRST]);
        trace_ref(&t, SHO_DICT_ORDER_TAIL, t.words[SHO_DICT_ORDER_TAIL]);
        break;
    case SHM_DICT_TRIE:
        for (unsigned i = 0; i < t.count; i++)
            trace_ref(&t, i, SHO_DICT_REF_OFF(t.words[i]));
        break;
    case SHM_DICT_GROUP:
        trace_group(&t);
        break;
    case SHM_DICT_CHUNK:
        trace_ref(&t, SHO_DICT_CHUNK_NEXT, t.words[SHO_DICT_CHUNK_NEXT]);
        trace_ref(&t, SHO_DICT_CHUNK_PREV, t.words[SHO_DICT_CHUNK_PREV]);
        trace_cells(&t, SHO_DICT_CHUNK_ENTRIES, 3);
        break;
    case SHM_LIST:
        trace_list(&t);
        break;
    case SHM_LIST_INNER:
        for (unsigned k = 0; k < LIST_FANOUT; k++)
            if (LIST_INNER_REF(k) < t.count)
                trace_ref(&t, LIST_INNER_REF(k), t.words[LIST_INNER_REF(k)]);
        break;
    case SHM_LIST_LEAF:
        trace_cells(&t, 1, 1);
        break;
    default:
        break; /* free */
    }
}

void sho_box_trace(uint64_t header, const sho_word *words, sho_trace_visit visit, void *arg)
{
    unsigned kind = SHM_HEADER_KIND(header);
    if (kind != SHM_BOX_TUPLE && kind != SHM_BOX_FROZENSET)
        return;
    tracer t = {.visit = visit, .arg = arg};
    unsigned stride = kind == SHM_BOX_FROZENSET ? 2 : 1;
    for (uint64_t i = stride - 1; i < SHM_BOX_BYTES_OF(header) / 8; i += stride)
        trace_cell(&t, sho_load(words + i));
}
