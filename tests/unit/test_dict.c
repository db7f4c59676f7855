/*
 * test_dict.c: the dict against a simple model, one thread.
 */
#include "dicts.h"

#define UNIVERSE_MAX 4000u
#define FORCED_MAX   1500u /* of keys that are forced into few groups */
#define WALKS        4

typedef struct slot {
    uint64_t bits;     /* of the value */
    uint64_t inserted; /* moment of the insertion; 0: absent */
} slot;

/* A walk under way, and what it has met. */
typedef struct walk {
    shobj_dict_iter iter;
    bool open;
    uint64_t began;
    uint64_t *met; /* per key: the insertion that was met last */
    uint64_t last; /* insertion given out last */
} walk;

typedef struct model {
    shobj_store *store;
    shobj_oid dict;
    enum hash_style style;
    uint32_t universe;
    uint32_t count;
    uint64_t moment;
    uint64_t random;
    slot slots[UNIVERSE_MAX];
    slot saved[UNIVERSE_MAX]; /* at the begin of the transaction */
    uint32_t saved_count;
    shobj_key keys[UNIVERSE_MAX];
    char texts[UNIVERSE_MAX][48];
    walk walks[WALKS];
    bool in_txn;
} model;

/* ---------------------------------------------------------------------------------------- model */

static void model_init(model *m, shobj_store *store, uint32_t universe, enum hash_style style, uint64_t seed)
{
    memset(m->slots, 0, sizeof(m->slots));
    m->store = store;
    m->style = style;
    m->universe = universe;
    m->count = 0;
    m->moment = 1;
    m->random = seed;
    m->in_txn = false;
    for (uint32_t n = 0; n < universe; n++)
        m->keys[n] = key_make(store, n, style, m->texts[n]);
    for (int i = 0; i < WALKS; i++)
        m->walks[i].open = false;
    CHECK_INT(shobj_dict_new(store, NULL, 0, &m->dict), 0);
}

/* The present key that was inserted first or last; universe if none. */
static uint32_t model_end(const model *m, bool first)
{
    uint32_t best = m->universe;
    for (uint32_t n = 0; n < m->universe; n++)
        if (m->slots[n].inserted != 0 &&
            (best == m->universe || (m->slots[n].inserted < m->slots[best].inserted) == first))
            best = n;
    return best;
}

static void model_store(model *m, uint32_t n, uint64_t bits)
{
    if (m->slots[n].inserted == 0) {
        m->slots[n].inserted = m->moment++;
        m->count++;
    }
    m->slots[n].bits = bits;
}

static void model_drop(model *m, uint32_t n)
{
    m->slots[n].inserted = 0;
    m->count--;
}

/* ------------------------------------------------------------------------------------ comparing */

/* All entries, in order, in batches. */
static void compare_walk(model *m, bool reverse, size_t batch)
{
    shobj_dict_iter iter;
    shobj_item items[64];
    uint64_t last = reverse ? UINT64_MAX : 0;
    uint32_t met = 0;
    shobj_dict_iter_init(&iter, m->dict, reverse);
    for (;;) {
        size_t count;
        CHECK_INT(shobj_dict_iter_next(m->store, &iter, items, batch, &count), 0);
        CHECK(count <= batch);
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++, met++) {
            uint32_t n = key_number(&items[i].key);
            CHECK(n < m->universe);
            CHECK(m->slots[n].inserted != 0);
            CHECK(value_bits(&items[i].value) == m->slots[n].bits);
            CHECK(reverse ? m->slots[n].inserted < last : m->slots[n].inserted > last);
            last = m->slots[n].inserted;
        }
    }
    CHECK_INT(met, m->count);
}

static void compare(model *m)
{
    CHECK_INT(dict_len(m->store, m->dict), m->count);
    for (uint32_t n = 0; n < m->universe; n++) {
        shobj_value value;
        int rc = shobj_dict_get(m->store, m->dict, &m->keys[n], &value);
        CHECK_INT(rc, m->slots[n].inserted ? 0 : SHOBJ_ENOTFOUND);
        if (rc == 0)
            CHECK(value_bits(&value) == m->slots[n].bits);
    }
    compare_walk(m, false, 1 + check_random(&m->random) % 64);
    compare_walk(m, true, 1 + check_random(&m->random) % 64);
    dict_check(m->store, m->dict, m->style);
}

/* ------------------------------------------------------------------------------ walks under way */

static void walk_open(model *m, walk *w)
{
    shobj_dict_iter_init(&w->iter, m->dict, check_random(&m->random) % 2);
    w->open = true;
    w->began = m->moment;
    w->last = w->iter.reverse ? UINT64_MAX : 0;
    memset(w->met, 0, UNIVERSE_MAX * sizeof(*w->met));
}

/* What was there from its beginning to its end has been met: an insertion before `began` that is
 * still there. */
static void walk_close(model *m, walk *w)
{
    w->open = false;
    for (uint32_t n = 0; n < m->universe; n++)
        if (m->slots[n].inserted != 0 && m->slots[n].inserted < w->began)
            CHECK(w->met[n] == m->slots[n].inserted);
}

static void walk_step(model *m, walk *w)
{
    shobj_item items[40];
    size_t count;
    size_t max = 1 + check_random(&m->random) % 40;
    CHECK_INT(shobj_dict_iter_next(m->store, &w->iter, items, max, &count), 0);
    for (size_t i = 0; i < count; i++) {
        uint32_t n = key_number(&items[i].key);
        CHECK(n < m->universe);
        uint64_t inserted = m->slots[n].inserted;
        CHECK(inserted != 0);
        CHECK(w->iter.reverse ? inserted < w->last : inserted > w->last);
        w->last = inserted;
        w->met[n] = inserted;
    }
    if (count < max)
        walk_close(m, w);
}

/* ------------------------------------------------------------------------------------- one step */

static void step_set(model *m, uint32_t n, bool only_if_absent)
{
    char text[48];
    uint64_t bits = check_random(&m->random);
    shobj_value value = value_make(bits, text);
    shobj_value now;
    if (!only_if_absent) {
        CHECK_INT(shobj_dict_set(m->store, m->dict, &m->keys[n], &value), 0);
        model_store(m, n, bits);
        return;
    }
    CHECK_INT(shobj_dict_setdefault(m->store, m->dict, &m->keys[n], &value, &now), 0);
    if (m->slots[n].inserted == 0)
        model_store(m, n, bits);
    CHECK(value_bits(&now) == m->slots[n].bits);
}

static void step_del(model *m, uint32_t n, bool wants_value)
{
    shobj_value value;
    int rc = shobj_dict_del(m->store, m->dict, &m->keys[n], wants_value ? &value : NULL);
    CHECK_INT(rc, m->slots[n].inserted ? 0 : SHOBJ_ENOTFOUND);
    if (rc)
        return;
    if (wants_value)
        CHECK(value_bits(&value) == m->slots[n].bits);
    model_drop(m, n);
}

static void step_popitem(model *m, bool first)
{
    shobj_item item;
    uint32_t n = model_end(m, first);
    int rc = shobj_dict_popitem(m->store, m->dict, first, &item);
    CHECK_INT(rc, n < m->universe ? 0 : SHOBJ_ENOTFOUND);
    if (rc)
        return;
    CHECK_INT(key_number(&item.key), n);
    CHECK(value_bits(&item.value) == m->slots[n].bits);
    model_drop(m, n);
}

static void step_clear(model *m)
{
    CHECK_INT(shobj_dict_clear(m->store, m->dict), 0);
    for (uint32_t n = 0; n < m->universe; n++)
        m->slots[n].inserted = 0;
    m->count = 0;
}

static void step_txn(model *m)
{
    bool walking = false;
    for (int i = 0; i < WALKS; i++)
        walking |= m->walks[i].open;
    if (m->in_txn && check_random(&m->random) % 2) {
        shobj_txn_abort(m->store);
        memcpy(m->slots, m->saved, sizeof(m->slots));
        m->count = m->saved_count;
        m->in_txn = false;
    } else if (m->in_txn) {
        CHECK_INT(shobj_txn_commit(m->store), 0);
        m->in_txn = false;
    } else if (!walking) { /* an abort would take back what a walk has met */
        CHECK_INT(shobj_txn_begin(m->store), 0);
        memcpy(m->saved, m->slots, sizeof(m->slots));
        m->saved_count = m->count;
        m->in_txn = true;
    }
}

/* `growth`: of 100 changes of presence, how many insert. */
static void step(model *m, unsigned growth)
{
    uint32_t n = (uint32_t)(check_random(&m->random) % m->universe);
    unsigned what = (unsigned)(check_random(&m->random) % 1000);
    if (what < 700) {
        if (check_random(&m->random) % 100 < growth)
            step_set(m, n, what % 4 == 0);
        else
            step_del(m, n, what % 2);
    } else if (what < 730) {
        step_popitem(m, what % 2);
    } else if (what < 900) {
        bool has;
        CHECK_INT(shobj_dict_has(m->store, m->dict, &m->keys[n], &has), 0);
        CHECK_INT(has, m->slots[n].inserted != 0);
    } else if (what < 980) {
        walk *w = &m->walks[what % WALKS];
        if (w->open)
            walk_step(m, w);
        else if (!m->in_txn)
            walk_open(m, w);
    } else if (what < 999) {
        step_txn(m);
    } else if (check_random(&m->random) % 4 == 0) {
        step_clear(m);
    }
}

static void finish(model *m)
{
    if (m->in_txn)
        step_txn(m);
    compare(m);
    while (m->count > 0)
        step_popitem(m, m->count % 2);
    compare(m);
}

/* Grows and shrinks several times; in the end nothing but the head is left. */
static void test_model(model *m, uint32_t universe, enum hash_style style, unsigned steps, uint64_t seed,
                       shobj_store *store)
{
    static const unsigned growths[] = {90, 50, 20, 70, 10, 95, 0};
    uint64_t before = block_count(store);
    model_init(m, store, universe, style, seed);
    for (unsigned g = 0; g < SHO_COUNT_OF(growths); g++) {
        for (unsigned i = 0; i < steps; i++) {
            step(m, growths[g]);
            if (universe < 100 && i % 32 == 0)
                compare(m);
        }
        compare(m);
    }
    finish(m);
    CHECK_INT(block_count(store), before + 1);
}

/* ----------------------------------------------------------------------------------------- bulk */

static void test_bulk_of(shobj_store *store, size_t count, size_t different)
{
    shobj_item *items = calloc(count + 1, sizeof(*items));
    char(*texts)[48] = calloc(count + 1, sizeof(*texts));
    shobj_oid dict;
    shobj_key key;
    char text[48];
    CHECK(items != NULL && texts != NULL);
    uint64_t before = block_count(store);
    for (size_t i = 0; i < count; i++) {
        items[i].key = key_value((uint32_t)(i % different), texts[i]);
        items[i].value = (shobj_value){.type = SHOBJ_INT, .i = (int64_t)i};
    }
    CHECK_INT(shobj_dict_new(store, items, count, &dict), 0);
    size_t expected = count < different ? count : different;
    CHECK_INT(dict_len(store, dict), expected);
    dict_check(store, dict, HASH_TRUE);
    shobj_dict_iter iter;
    shobj_item batch[32];
    size_t n = 0;
    size_t got;
    shobj_dict_iter_init(&iter, dict, false);
    do {
        CHECK_INT(shobj_dict_iter_next(store, &iter, batch, 32, &got), 0);
        for (size_t i = 0; i < got; i++, n++) {
            CHECK_INT(key_number(&batch[i].key), n);
            /* The last item with that key. */
            CHECK_INT(batch[i].value.i, count - 1 - (count - 1 - n) % different);
        }
    } while (got > 0);
    CHECK_INT(n, expected);
    for (uint32_t k = 0; k < expected + 3; k++) {
        bool has;
        key = key_make(store, k, HASH_TRUE, text);
        CHECK_INT(shobj_dict_has(store, dict, &key, &has), 0);
        CHECK_INT(has, k < expected);
    }
    /* It goes on as any other: one in, all out. */
    shobj_value value = {.type = SHOBJ_NONE};
    key = key_make(store, (uint32_t)expected, HASH_TRUE, text);
    CHECK_INT(shobj_dict_set(store, dict, &key, &value), 0);
    dict_check(store, dict, HASH_TRUE);
    CHECK_INT(shobj_dict_clear(store, dict), 0);
    CHECK_INT(dict_len(store, dict), 0);
    dict_check(store, dict, HASH_TRUE);
    CHECK_INT(block_count(store), before + 1);
    free(items);
    free(texts);
}

static void test_bulk(shobj_store *store)
{
    static const size_t counts[] = {0, 1, 4, 5, 19, 20, 21, 46, 47, 60, 1000, 3000, 30000};
    for (size_t i = 0; i < SHO_COUNT_OF(counts); i++) {
        test_bulk_of(store, counts[i], counts[i] + 1);
        if (counts[i] > 2)
            test_bulk_of(store, counts[i], counts[i] / 2 + 1);
    }
    /* 1, 1.0 and True are one key, the first one stays. */
    shobj_item items[] = {{{.type = SHOBJ_FLOAT, .f = 1.0}, {.type = SHOBJ_INT, .i = 1}},
                          {{.type = SHOBJ_INT, .i = 1}, {.type = SHOBJ_INT, .i = 2}},
                          {{.type = SHOBJ_BOOL, .i = 1}, {.type = SHOBJ_INT, .i = 3}}};
    shobj_oid dict;
    shobj_item item;
    CHECK_INT(shobj_dict_new(store, items, 3, &dict), 0);
    CHECK_INT(dict_len(store, dict), 1);
    CHECK_INT(shobj_dict_popitem(store, dict, false, &item), 0);
    CHECK_INT(item.key.type, SHOBJ_FLOAT);
    CHECK_INT(item.value.i, 3);
    /* A key that can't be one leaves nothing behind. */
    uint64_t before = block_count(store);
    items[2].key = (shobj_value){.type = SHOBJ_OBJECT, .oid = dict};
    items[0].value = (shobj_value){.type = SHOBJ_STR, .data = "a boxed value", .count = 13};
    CHECK_INT(shobj_dict_new(store, items, 3, &dict), SHOBJ_ETYPE);
    CHECK_INT(block_count(store), before);
}

/* ---------------------------------------------------------------------------- serials far apart */

static int skip_body(sho_session *s, shobj_oid dict, uint64_t serials)
{
    sho_view head, part;
    int rc = sho_dict_read_head(s, dict, &head);
    if (rc || (rc = sho_op_write(s, &head)))
        return rc;
    uint64_t meta = sho_view_word(&head, 0);
    bool indexed = SHO_DICT_MODE(meta) == SHO_DICT_INDEXED;
    if (indexed && ((rc = sho_dict_read_order(s, &head, &part)) || (rc = sho_op_write(s, &part))))
        return rc;
    rc = sho_op_check(s);
    if (rc)
        return rc;
    if (indexed) {
        sho_op_set(s, &part, SHO_DICT_ORDER_SERIAL, sho_view_word(&part, SHO_DICT_ORDER_SERIAL) + serials);
    } else {
        /* The low halves of the entries' serials would be taken for higher ones: an empty dict
         * only. */
        CHECK_INT(SHO_DICT_MODE(meta), SHO_DICT_INLINE);
        CHECK_INT(SHO_DICT_HEAD_LIVE(meta), 0);
        sho_op_set(s, &head, 0, SHO_DICT_HEAD_META(0, 0, SHO_DICT_HEAD_LIMIT(meta) + serials));
    }
    return 0;
}

/* As if so many entries had come and gone. */
static void skip_serials(model *m, uint64_t serials)
{
    sho_session *s;
    int rc = sho_session_get(m->store, &s);
    CHECK_INT(rc, 0);
    SHO_OP(s, rc, skip_body(s, m->dict, serials));
    CHECK_INT(rc, 0);
}

static void test_serials(model *m, shobj_store *store)
{
    model_init(m, store, 200, HASH_TRUE, check_seed_used);
    check_keep(store, m->dict); /* where there is no room, all is collected that nothing refers to */
    skip_serials(m, UINT32_MAX - 10);
    for (uint32_t n = 0; n < 60; n++) {
        step_set(m, n, false);
        compare(m);
    }
    for (unsigned round = 0; round < 8; round++) {
        skip_serials(m, (1ULL << 32) - 30 + round * 7);
        for (uint32_t n = 0; n < 22; n++)
            step_set(m, 60 + round * 8 + n % 8, false);
        compare(m);
    }
    for (uint32_t n = 0; n < 120; n++) {
        step_del(m, n * 7 % 124, true);
        compare(m);
    }
    step_clear(m);
    compare(m);
    skip_serials(m, SHO_DICT_SERIAL_MAX - (1ULL << 37) - 3);
    finish(m);
    skip_serials(m, 1ULL << 36);
    uint64_t next = 0;
    char text[48];
    shobj_value value = value_make(1, text);
    sho_view head;
    sho_session *s;
    int rc = sho_session_get(store, &s);
    CHECK_INT(rc, 0);
    SHO_OP(s, rc, sho_dict_read_head(s, m->dict, &head));
    CHECK_INT(rc, 0);
    next = SHO_DICT_HEAD_LIMIT(sho_view_word(&head, 0));
    skip_serials(m, SHO_DICT_SERIAL_MAX - next - 2);
    step_set(m, 0, false);
    step_set(m, 1, false);
    CHECK_INT(shobj_dict_set(store, m->dict, &m->keys[2], &value), SHOBJ_EFULL);
    step_set(m, 1, false);
    compare(m);
    finish(m);
}

/* --------------------------------------------------------------------------------------- damage */

static void try_all(model *m, uint32_t n)
{
    shobj_value value;
    shobj_item items[32];
    shobj_dict_iter iter;
    size_t got = 0;
    bool has;
    uint64_t count;
    char text[48];
    shobj_value other = value_make(check_random(&m->random), text);
    (void)shobj_dict_get(m->store, m->dict, &m->keys[n], &value);
    (void)shobj_dict_has(m->store, m->dict, &m->keys[n], &has);
    (void)shobj_dict_len(m->store, m->dict, &count);
    for (int reverse = 0; reverse < 2; reverse++) {
        shobj_dict_iter_init(&iter, m->dict, reverse);
        while (shobj_dict_iter_next(m->store, &iter, items, 32, &got) == 0 && got > 0)
            ;
    }
    CHECK_INT(shobj_txn_begin(m->store), 0);
    switch (n % 5) {
    case 0: (void)shobj_dict_clear(m->store, m->dict); break;
    case 1: (void)shobj_dict_popitem(m->store, m->dict, n % 2, items); break;
    case 2:
        for (uint32_t k = 0; k < 100; k++)
            (void)shobj_dict_del(m->store, m->dict, &m->keys[(n + k) % m->universe], NULL);
        break;
    default:
        for (uint32_t k = 0; k < 20; k++)
            (void)shobj_dict_set(m->store, m->dict, &m->keys[(n + k) % m->universe], &other);
        break;
    }
    shobj_txn_abort(m->store);
}

/* One word of the dict's nodes is spoilt at a time: everything answers, nothing crashes or hangs. */
static void test_damage(model *m, shobj_store *store, uint32_t universe, unsigned rounds)
{
    static dict_report report;
    model_init(m, store, universe, HASH_TRUE, check_seed_used);
    for (uint32_t n = 0; n < universe; n++)
        step_set(m, n, false);
    for (uint32_t n = 0; n < universe; n += 3)
        step_del(m, n, false);
    compare(m);
    report.quiet = true;
    CHECK_INT(dict_report_make(store, m->dict, &report), 0);
    CHECK_INT(report.problems, 0);
    static uint64_t nodes[SHO_COUNT_OF(report.nodes)];
    size_t node_count = report.node_count;
    CHECK(node_count > 0 && universe > 0);
    memcpy(nodes, report.nodes, sizeof(nodes));
    unsigned told = 0;
    for (unsigned round = 0; round < rounds; round++) {
        struct shm_node *node = (struct shm_node *)(store->region->base + nodes[check_random(&m->random) % node_count]);
        struct shm_node *another =
            (struct shm_node *)(store->region->base + nodes[check_random(&m->random) % node_count]);
        sho_word *word = &node->words[check_random(&m->random) % SHM_NODE_WORDS(sho_load(&node->header))];
        uint64_t was = sho_load(word);
        uint64_t spoilt = was ^ 1ULL << check_random(&m->random) % 64;
        if (round % 4 == 0)
            spoilt = sho_load(&another->words[check_random(&m->random) % SHM_NODE_WORDS(sho_load(&another->header))]);
        sho_store(word, spoilt);
        try_all(m, (uint32_t)(check_random(&m->random) % universe));
        int rc = dict_report_make(store, m->dict, &report);
        CHECK(rc == 0 || rc == SHOBJ_ECORRUPT);
        told += rc != 0 || report.problems > 0;
        sho_store(word, was);
    }
    /* Values are spoilt too, which is nobody's concern here. */
    CHECK(told > rounds / 3);
    compare(m);
}

/* --------------------------------------------------------------------------------- a full store */

static shobj_value long_value(uint64_t n, char text[200])
{
    memset(text, 'x', 200);
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = 20 + n % 180};
}

/* What fails for want of room leaves no trace, and deleting needs none. */
static void test_full(uint64_t seed)
{
    char name[64];
    char text[48];
    char value_text[200];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-full-%ld", (long)getpid());
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 6 << 20, .own_mapping = true};
    shobj_store *store;
    CHECK_INT(shobj_open(name, &options, &store), 0);
    CHECK_INT(shobj_unlink(name, true), 0);
    shobj_oid dict = shobj_root(store);
    for (int round = 0; round < 4; round++) {
        uint32_t count = 0;
        for (;; count++) {
            shobj_key key = key_make(store, count, HASH_TRUE, text);
            shobj_value value = long_value(count, value_text);
            bool has;
            int rc = shobj_dict_set(store, dict, &key, &value);
            if (rc == 0)
                continue;
            CHECK_INT(rc, SHOBJ_EFULL);
            CHECK_INT(shobj_dict_has(store, dict, &key, &has), 0);
            CHECK(!has);
            break;
        }
        CHECK(count > 1000);
        CHECK_INT(dict_len(store, dict), count);
        CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
        /* From all over, from the front, from the back, with the values wanted. */
        uint32_t at = (uint32_t)(seed % count); /* the stride below is a prime above all counts */
        for (uint32_t i = 0; i < count; i++) {
            shobj_item item;
            shobj_value value;
            uint32_t n = at;
            at = (at + 1000003) % count;
            if (round == 0 || round == 3) {
                shobj_key key = key_make(store, n, HASH_TRUE, text);
                CHECK_INT(shobj_dict_del(store, dict, &key, round == 3 ? &value : NULL), 0);
            } else {
                CHECK_INT(shobj_dict_popitem(store, dict, round == 1, &item), 0);
            }
        }
        CHECK_INT(dict_len(store, dict), 0);
        CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
    }
    shobj_close(store);
}

/* ------------------------------------------------------------------------------------- sparse chunks */

static unsigned chunk_count(shobj_store *store, shobj_oid dict)
{
    static dict_report report;
    unsigned count = 0;
    CHECK_INT(dict_report_make(store, dict, &report), 0);
    CHECK_INT(report.problems, 0);
    for (size_t i = 0; i < report.node_count; i++) {
        const struct shm_node *node = (const struct shm_node *)(store->region->base + report.nodes[i]);
        count += SHM_HEADER_KIND(sho_load(&node->header)) == SHM_DICT_CHUNK;
    }
    return count;
}

/* Two chunks that have become half empty together become one: what is deleted at random gives memory back before chunks
 * are empty. The entries keep their order. */
static void test_sparse(shobj_store *store, uint64_t seed)
{
    enum { COUNT = 6000 };
    uint64_t random = seed | 1;
    shobj_oid dict;
    CHECK_INT(shobj_dict_new(store, NULL, 0, &dict), 0);
    for (int i = 0; i < COUNT; i++) {
        shobj_value v = {.type = SHOBJ_INT, .i = i};
        shobj_key key;
        CHECK_INT(shobj_key_init(store, &v, &key), 0);
        CHECK_INT(shobj_dict_set(store, dict, &key, &v), 0);
    }
    unsigned full = chunk_count(store, dict);
    CHECK(full >= COUNT / SHO_DICT_SLOTS_MAX);
    static int at_random[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int j = (int)(check_random(&random) % (unsigned)(i + 1));
        at_random[i] = at_random[j];
        at_random[j] = i;
    }
    static bool gone[COUNT];
    memset(gone, 0, sizeof(gone));
    for (int deleted = 0; deleted < COUNT - 200; deleted++) {
        shobj_value v = {.type = SHOBJ_INT, .i = at_random[deleted]};
        shobj_key key;
        CHECK_INT(shobj_key_init(store, &v, &key), 0);
        CHECK_INT(shobj_dict_del(store, dict, &key, NULL), 0);
        gone[v.i] = true;
        if (deleted % 500 != 499 || deleted < COUNT / 2)
            continue;
        unsigned live = (unsigned)(COUNT - deleted - 1);
        unsigned chunks = chunk_count(store, dict);
        CHECK(chunks * (SHO_DICT_SLOTS_MAX / 2) <= live + live / 10);
        shobj_dict_iter iter;
        shobj_item items[32];
        size_t count;
        int expected = 0;
        shobj_dict_iter_init(&iter, dict, false);
        do {
            CHECK_INT(shobj_dict_iter_next(store, &iter, items, 32, &count), 0);
            for (size_t i = 0; i < count; i++) {
                while (gone[expected])
                    expected++;
                CHECK_INT(items[i].key.i, expected++);
            }
        } while (count > 0);
    }
}

/* --------------------------------------------------------------------------------------- errors */

static void test_errors(shobj_store *store)
{
    shobj_oid dict;
    shobj_oid list;
    shobj_value value;
    shobj_item item;
    shobj_dict_iter iter;
    size_t count;
    char text[48];
    shobj_key key = key_make(store, 5, HASH_TRUE, text);
    CHECK_INT(shobj_dict_new(store, NULL, 0, &dict), 0);
    CHECK_INT(shobj_list_new(store, NULL, 0, &list), 0);
    CHECK_INT(shobj_dict_get(store, dict, &key, &value), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_dict_del(store, dict, &key, NULL), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_dict_popitem(store, dict, true, &item), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_dict_get(store, list, &key, &value), SHOBJ_ETYPE);
    CHECK_INT(shobj_dict_get(store, dict ^ 1, &key, &value), SHOBJ_ESTALE);
    CHECK_INT(shobj_dict_clear(store, dict), 0);
    shobj_dict_iter_init(&iter, dict, false);
    CHECK_INT(shobj_dict_iter_next(store, &iter, &item, 0, &count), SHOBJ_EINVAL);
    /* An object as a value comes back as it went in; a stale one is refused. */
    value = (shobj_value){.type = SHOBJ_OBJECT, .oid = list};
    CHECK_INT(shobj_dict_setdefault(store, dict, &key, &value, &value), 0);
    CHECK_INT(value.type, SHOBJ_OBJECT);
    CHECK_INT(value.kind, SHOBJ_KIND_LIST);
    CHECK(value.oid == list);
    value.oid ^= 1;
    CHECK_INT(shobj_dict_set(store, dict, &key, &value), SHOBJ_ESTALE);
    CHECK_INT(dict_len(store, dict), 1);
}

int main(void)
{
    shobj_store *store = check_store();
    uint64_t seed = check_seed();
    model *m = calloc(1, sizeof(*m));
    CHECK(m != NULL);
    for (int i = 0; i < WALKS; i++) {
        m->walks[i].met = calloc(UNIVERSE_MAX, sizeof(*m->walks[i].met));
        CHECK(m->walks[i].met != NULL);
    }
    test_errors(store);
    test_bulk(store);
    test_full(seed);
    static const struct {
        uint32_t universe;
        unsigned steps;
    } sizes[] = {{3, 1000}, {9, 1500}, {30, 2500}, {90, 3000}, {700, 3000}, {UNIVERSE_MAX, 9000}};
    for (size_t i = 0; i < SHO_COUNT_OF(sizes); i++)
        for (int style = 0; style < HASH_STYLES; style++)
            test_model(m, style == HASH_TRUE || sizes[i].universe < FORCED_MAX ? sizes[i].universe : FORCED_MAX, style,
                       sizes[i].steps, seed + i, store);
    test_serials(m, store);
    test_sparse(store, seed);
    test_damage(m, store, 3, 300);
    test_damage(m, store, 30, 1000);
    test_damage(m, store, 600, 3000);
    for (int i = 0; i < WALKS; i++)
        free(m->walks[i].met);
    free(m);
    shobj_close(store);
    return 0;
}
