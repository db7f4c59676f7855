/*
 * test_key.c: equal keys have equal hashes and find each other in whatever form they are stored;
 * different ones do not.
 *
 * The oracle is a class that is known by construction: a number is made from mantissa * 2^shift in
 * every type that can hold it, so that no arithmetic of the library's own decides what is to be
 * equal.
 */
#include "values.h"

#include <math.h>

#include "object/cell.h"
#include "txn/op.h"

static shobj_store *store;
static sho_session *s;
static const uint64_t seed[2] = {0x243f6a8885a308d3, 0x13198a2e03707344};

#define POOL_MAX 2500
static struct {
    shobj_value value;
    unsigned class;
    shobj_key key;
    uint64_t cell;
} pool[POOL_MAX];
static size_t pool_count;
static unsigned class_count;

static void add(unsigned class, shobj_value value)
{
    CHECK(pool_count < POOL_MAX);
    pool[pool_count].value = value;
    pool[pool_count].class = class;
    CHECK_INT(sho_key_init(seed, &value, &pool[pool_count].key), 0);
    pool_count++;
}

static unsigned add_new(shobj_value value)
{
    add(class_count, value);
    return class_count++;
}

static bool equals(uint64_t cell, const shobj_key *key)
{
    int rc;
    bool equal;
    SHO_OP(s, rc, sho_key_equals(s, cell, key, &equal));
    CHECK_INT(rc, 0);
    return equal;
}

/* ---- the pool */

/* An odd mantissa (or 0) and a shift name an integer once. */
static void add_integer(uint64_t mantissa, unsigned shift, bool negative)
{
    unsigned class = class_count++;
    unsigned bits = mantissa == 0 ? 0 : 64 - (unsigned)__builtin_clzll(mantissa) + shift;
    add(class, bigint(mantissa, shift, negative, 0));
    add(class, bigint(mantissa, shift, negative, 1 + shift % 17));
    if (bits < 64)
        add(class, integer((int64_t)(negative ? 0 - (mantissa << shift) : mantissa << shift)));
    if (bits == 64 && mantissa == 1 && negative)
        add(class, integer(INT64_MIN));
    if (bits == 0 || (bits == 1 && !negative))
        add(class, (shobj_value){.type = SHOBJ_BOOL, .i = bits == 1 ? 256 : 0});
    if (mantissa < 1ULL << 53 && bits <= 1024) {
        double f = ldexp((double)mantissa, (int)shift);
        add(class, real(negative ? -f : f));
        add(class, complex_of(negative ? -f : f, 0.0));
        add(class, complex_of(negative ? -f : f, -0.0));
        if (mantissa == 0)
            add(class, real(-f));
    }
}

/* Ints of several words that agree in the lower ones. */
static void add_long_integers(void)
{
    for (size_t count = 9; count <= 40; count++) {
        uint8_t bytes[40] = {7};
        memset(bytes + 8, 0, sizeof(bytes) - 8);
        bytes[8] = 1;
        bytes[count - 1] = 1;
        shobj_value value = bytes_of(SHOBJ_BIGINT, bytes, count);
        unsigned class = add_new(value);
        add(class, bytes_of(SHOBJ_BIGINT, bytes, sizeof(bytes)));
        value.negative = 1;
        add_new(value);
    }
}

static void add_integers(uint64_t *random)
{
    add_integer(0, 0, false);
    for (int negative = 0; negative < 2; negative++) {
        static const unsigned shifts[] = {0,  1,  46, 47,  48,  52,  53,   54,   62,
                                          63, 64, 65, 127, 970, 971, 1023, 1024, 1030};
        for (size_t i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++)
            add_integer(1, shifts[i], negative);
        static const unsigned widths[] = {2, 47, 48, 49, 52, 53, 54, 55, 62, 63, 64};
        for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
            uint64_t top = widths[i] == 64 ? UINT64_MAX : (1ULL << widths[i]) - 1;
            add_integer(top, 0, negative); /* 2^n - 1 */
            if (widths[i] > 2)
                add_integer((1ULL << (widths[i] - 1)) + 1, 0, negative); /* 2^(n-1) + 1 */
            add_integer(top, 960, negative);
        }
        for (unsigned i = 0; i < 60; i++) {
            uint64_t mantissa = check_random(random) >> (check_random(random) % 60) | 1;
            add_integer(mantissa, 66 + i, negative); /* shifts that are not used above */
        }
    }
}

static void add_reals(uint64_t *random)
{
    static const double fractions[] = {
        0.5, 0.1, 1.5, 140737488355327.5, 140737488355328.5, 4503599627370495.5, 5e-324, 1e-300};
    for (size_t i = 0; i < sizeof(fractions) / sizeof(fractions[0]); i++) {
        for (int negative = 0; negative < 2; negative++) {
            double f = negative ? -fractions[i] : fractions[i];
            unsigned class = add_new(real(f));
            add(class, complex_of(f, 0.0));
            add(class, complex_of(f, -0.0));
        }
    }
    static const uint64_t odd[] = {0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000,
                                   0xfff8000000000000, 0x7ff8000000000001, 0x7ff0000000000001,
                                   0xfff8ffffffffffff, 0xfff9000000000000, 0xffffffffffffffff,
                                   0x7fffffffffffffff};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        unsigned class = add_new(real(double_of(odd[i])));
        add(class, real(double_of(odd[i])));
        add_new(complex_of(0, double_of(odd[i])));
        add_new(complex_of(double_of(odd[i]), 1));
    }
    for (unsigned i = 0; i < 40; i++) {
        double f = ldexp((double)(check_random(random) | 1) + 0.0,
                         -(int)(66 + check_random(random) % 1000));
        add_new(real(f == 0 ? 3e-308 * (i + 1) : f));
    }
    unsigned class = add_new(complex_of(0.0, 1.0));
    add(class, complex_of(-0.0, 1.0));
    add_new(complex_of(1.0, 1.0));
    add_new(complex_of(1.0, -1.0));
    add_new(complex_of(0.0, -1.0));
}

static void add_texts(void)
{
    add_new(none());
    char text[80];
    memset(text, 'a', sizeof(text));
    for (size_t count = 0; count < 70; count++) {
        add_new(bytes_of(SHOBJ_STR, text, count));
        add_new(bytes_of(SHOBJ_BYTES, text, count));
        if (count == 0)
            continue;
        text[count - 1] = 'b'; /* the last byte differs */
        add_new(bytes_of(SHOBJ_STR, text, count));
        add_new(bytes_of(SHOBJ_BYTES, text, count));
        text[count - 1] = '\0'; /* a zero at the end is not padding */
        unsigned class = add_new(bytes_of(SHOBJ_STR, text, count));
        add(class, bytes_of(SHOBJ_STR, text, count));
        add_new(bytes_of(SHOBJ_BYTES, text, count));
        text[count - 1] = 'a';
    }
    add_new(str("\xed\xa0\x80"));
    add_new(str("\xed\xa0\xbd\xed\xb8\x80"));
    add_new(str("\xf0\x9f\x98\x80"));
}

static shobj_value pair(enum shobj_type type, shobj_value a, shobj_value b)
{
    shobj_value items[2] = {a, b};
    return items_of(type, items, 2);
}

static void add_groups(void)
{
    for (int type = SHOBJ_TUPLE; type <= SHOBJ_FROZENSET; type++) {
        enum shobj_type t = (enum shobj_type)type;
        bool is_set = t == SHOBJ_FROZENSET;
        add_new(items_of(t, NULL, 0));
        shobj_value empty = items_of(t, NULL, 0);
        add_new(items_of(t, &empty, 1));
        unsigned class = add_new(pair(t, integer(1), str("two")));
        add(class, pair(t, boolean(true), str("two")));
        add(class, pair(t, complex_of(1, 0), str("two")));
        add(is_set ? class : class_count++, pair(t, str("two"), real(1)));
        class = add_new(pair(t, bigint(1, 70, false, 3), str("a longer text")));
        add(class, pair(t, real(0x1p70), str("a longer text")));
        add(is_set ? class : class_count++, pair(t, str("a longer text"), real(0x1p70)));
        shobj_value inner = pair(t, integer(3), real(0.5));
        shobj_value alike = pair(t, real(3), complex_of(0.5, 0));
        class = add_new(items_of(t, &inner, 1));
        add(class, items_of(t, &alike, 1));
        add_new(pair(t, inner, integer(0)));
        shobj_value single = integer(1);
        add_new(items_of(t, &single, 1));
    }
    shobj_value inner = items_of(SHOBJ_TUPLE, NULL, 0);
    add_new(items_of(SHOBJ_FROZENSET, &inner, 1));
    inner = items_of(SHOBJ_FROZENSET, NULL, 0);
    add_new(items_of(SHOBJ_TUPLE, &inner, 1));
}

/* Sets of many items in two orders, with and without one odd item. */
static void add_large_sets(void)
{
    enum { COUNT = 400 };
    shobj_value items[COUNT], reversed[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char text[32];
        snprintf(text, sizeof(text), "item %d", i);
        items[i] = i % 2 ? str(text) : integer(i);
        reversed[COUNT - 1 - i] = i % 2 ? str(text) : real(i);
    }
    unsigned class = add_new(items_of(SHOBJ_FROZENSET, items, COUNT));
    add(class, items_of(SHOBJ_FROZENSET, reversed, COUNT));
    items[17] = str("another");
    add_new(items_of(SHOBJ_FROZENSET, items, COUNT));
    add_new(items_of(SHOBJ_FROZENSET, items, COUNT - 1));
}

/* Every one against every other. */
static void test_pool(void)
{
    for (size_t i = 0; i < pool_count; i++) {
        int rc;
        SHO_OP(s, rc, sho_cell_encode(s, &pool[i].value, &pool[i].cell));
        CHECK_INT(rc, 0);
        CHECK(pool[i].key.cell == SHO_CELL_EMPTY || pool[i].key.cell == pool[i].cell);
        CHECK((uint32_t)pool[i].key.hash != 0);
        CHECK(sho_key_hash(seed, &pool[i].value) == pool[i].key.hash);
    }
    for (size_t i = 0; i < pool_count; i++) {
        CHECK(!equals(SHO_CELL_EMPTY, &pool[i].key));
        for (size_t j = 0; j < pool_count; j++) {
            bool expected = pool[i].class == pool[j].class;
            CHECK(equals(pool[i].cell, &pool[j].key) == expected);
            CHECK((pool[i].key.hash == pool[j].key.hash) == expected);
        }
    }
}

/* ---- the rest */

/* A value that is read back is the same key as the one that was stored. */
static void test_random_values(uint64_t *random)
{
    for (unsigned i = 0; i < 4000; i++) {
        shobj_value value = random_value(random, 3);
        shobj_value back;
        shobj_key key, again;
        int rc;
        uint64_t cell = SHO_CELL_EMPTY;
        CHECK_INT(sho_key_init(seed, &value, &key), 0);
        SHO_OP(s, rc, sho_cell_encode(s, &value, &cell));
        CHECK_INT(rc, 0);
        sho_values_reset(s);
        SHO_OP(s, rc, sho_cell_decode(s, cell, &back));
        CHECK_INT(rc, 0);
        CHECK_INT(sho_key_init(seed, &back, &again), 0);
        CHECK(again.hash == key.hash);
        CHECK(again.cell == key.cell);
        CHECK(equals(cell, &again));
        CHECK(equals(cell, &key));
    }
}

static void test_refused(void)
{
    shobj_key key = {.hash = 77};
    shobj_value object = {.type = SHOBJ_OBJECT, .oid = shobj_root(store)};
    shobj_value tuple = pair(SHOBJ_TUPLE, integer(1), object);
    shobj_value deeper = pair(SHOBJ_FROZENSET, integer(1), tuple);
    shobj_value bad = str("a\xff");
    shobj_value absent = {.type = SHOBJ_ABSENT};
    CHECK_INT(sho_key_init(seed, &object, &key), SHOBJ_ETYPE);
    CHECK(strstr(shobj_error_message(), "key") != NULL);
    CHECK_INT(sho_key_init(seed, &tuple, &key), SHOBJ_ETYPE);
    CHECK_INT(sho_key_init(seed, &deeper, &key), SHOBJ_ETYPE);
    CHECK_INT(sho_key_init(seed, &bad, &key), SHOBJ_EINVAL);
    CHECK_INT(sho_key_init(seed, &absent, &key), SHOBJ_EINVAL);
    CHECK_INT(key.hash, 77);
    shobj_value deep = integer(1);
    for (unsigned i = 0; i < SHO_VALUE_DEPTH_MAX; i++)
        deep = items_of(SHOBJ_TUPLE, &deep, 1);
    CHECK_INT(sho_key_init(seed, &deep, &key), 0);
    deep = items_of(SHOBJ_TUPLE, &deep, 1);
    CHECK_INT(sho_key_init(seed, &deep, &key), SHOBJ_EINVAL);
}

static int make_box(unsigned kind, unsigned flags, uint64_t bytes, const uint64_t *payload,
                    uint64_t *ret_cell)
{
    uint64_t off;
    sho_word *words;
    int rc = sho_op_new_box(s, kind, flags, bytes, &off, &words);
    if (rc)
        return rc;
    for (size_t i = 0; i < (bytes + 7) / 8; i++)
        sho_store(&words[i], payload[i]);
    *ret_cell = SHO_CELL(SHO_TAG_BOX, off);
    return 0;
}

/* Stored nonsense equals nothing, or is an error; it never makes the comparison run away. */
static void test_nonsense(uint64_t *random)
{
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t payload[4];
        for (unsigned j = 0; j < 4; j++) {
            payload[j] = check_random(random) >> (check_random(random) % 64);
            if (check_random(random) % 2)
                payload[j] = SHO_CELL(check_random(random) % 8, payload[j] & 0x1fffffff & ~7ULL);
        }
        int rc;
        uint64_t cell = SHO_CELL_EMPTY;
        SHO_OP(s, rc,
               make_box(SHM_BOX_FLOAT + (unsigned)(check_random(random) % 7),
                        check_random(random) % 4, check_random(random) % 33, payload, &cell));
        CHECK_INT(rc, 0);
        for (unsigned j = 0; j < 20; j++) {
            bool equal;
            const shobj_key *key = &pool[check_random(random) % pool_count].key;
            SHO_OP(s, rc, sho_key_equals(s, cell, key, &equal));
            CHECK(rc == 0 || rc == SHOBJ_ECORRUPT);
            SHO_OP(s, rc, sho_key_equals(s, payload[j % 4], key, &equal));
            CHECK(rc == 0 || rc == SHOBJ_ECORRUPT);
        }
    }
}

static int compare_words(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The hashes of `count` keys: hardly more collisions of 32 bits than chance gives, and every byte
 * spread evenly. */
static void expect_spread(uint64_t *hashes, size_t count)
{
    for (unsigned byte = 0; byte < 8; byte++) {
        size_t counts[256] = {0};
        for (size_t i = 0; i < count; i++)
            counts[hashes[i] >> (8 * byte) & 0xff]++;
        double chi = 0;
        double mean = (double)count / 256;
        for (unsigned i = 0; i < 256; i++)
            chi += ((double)counts[i] - mean) * ((double)counts[i] - mean) / mean;
        /* 255 on average with a standard deviation of 22.6; less is more even than chance. */
        CHECK(chi < 400);
    }
    for (size_t i = 0; i < count; i++)
        hashes[i] &= UINT32_MAX;
    qsort(hashes, count, sizeof(*hashes), compare_words);
    size_t collisions = 0;
    for (size_t i = 1; i < count; i++)
        collisions += hashes[i] == hashes[i - 1];
    double expected = (double)count * (double)count / 0x1p33;
    CHECK((double)collisions < 2 * expected + 10);
}

static void test_spread(void)
{
    enum { COUNT = 200000 };
    uint64_t *hashes = keep(COUNT * sizeof(*hashes));
    for (unsigned kind = 0; kind < 7; kind++) {
        for (unsigned i = 0; i < COUNT; i++) {
            char text[64];
            shobj_value value;
            static const char *const formats[] = {
                "%x", "key:%u", "a common beginning of some length %u", "%u and an end %0*u"};
            if (kind < 4) {
                snprintf(text, sizeof(text), formats[kind], i, 20, 7u);
                value = (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
            } else {
                value = kind == 4   ? integer(i)
                        : kind == 5 ? integer((int64_t)i << 24)
                                    : real(i / 8.0 + 0.01);
            }
            hashes[i] = sho_key_hash(seed, &value);
        }
        expect_spread(hashes, COUNT);
    }
}

/* One bit of a key changed: about half of the bits of its hash do. */
static void test_avalanche(uint64_t *random)
{
    for (size_t count = 1; count <= 80; count += count < 9 ? 1 : 7) {
        uint64_t changed = 0;
        enum { TRIES = 400 };
        for (unsigned i = 0; i < TRIES; i++) {
            uint8_t bytes[80];
            for (size_t j = 0; j < count; j++)
                bytes[j] = (uint8_t)check_random(random);
            shobj_value value = {.type = SHOBJ_BYTES, .data = bytes, .count = count};
            uint64_t before = sho_key_hash(seed, &value);
            size_t bit = check_random(random) % (8 * count);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            changed += (uint64_t)__builtin_popcountll(before ^ sho_key_hash(seed, &value));
        }
        double mean = (double)changed / TRIES;
        CHECK(mean > 30 && mean < 34);
    }
}

static void test_seeds(void)
{
    shobj_value values[] = {integer(5), str("abc"), str("a text of some length"),
                            items_of(SHOBJ_TUPLE, NULL, 0), none()};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        const uint64_t other[2][2] = {{seed[0] + 1, seed[1]}, {seed[0], seed[1] + 1}};
        CHECK(sho_key_hash(seed, &values[i]) != sho_key_hash(other[0], &values[i]));
        CHECK(sho_key_hash(seed, &values[i]) != sho_key_hash(other[1], &values[i]));
    }
}

int main(void)
{
    uint64_t random = check_seed();
    store = check_store();
    CHECK_INT(sho_session_get(store, &s), 0);
    add_integers(&random);
    add_long_integers();
    add_reals(&random);
    add_texts();
    add_groups();
    add_large_sets();
    test_pool();
    test_random_values(&random);
    test_refused();
    test_nonsense(&random);
    test_spread();
    test_avalanche(&random);
    test_seeds();
    shobj_close(store);
    return 0;
}
