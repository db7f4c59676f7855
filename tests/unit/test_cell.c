/*
 * test_cell.c: values into cells and back: exactly, in one form only, with no block left over, and
 * nothing but errors from words that are nonsense.
 */
#include "values.h"

#include "object/cell.h"
#include "txn/op.h"

static shobj_store *store;
static sho_session *s;

/* Each is a single operation of its own. */
static int encode(shobj_value value, uint64_t *ret_cell)
{
    int rc;
    SHO_OP(s, rc, sho_cell_encode(s, &value, ret_cell));
    return rc;
}

static int decode(uint64_t cell, shobj_value *ret_value)
{
    int rc;
    sho_values_reset(s);
    SHO_OP(s, rc, sho_cell_decode(s, cell, ret_value));
    return rc;
}

static void release(uint64_t cell)
{
    int rc;
    SHO_OP(s, rc, sho_cell_release(s, cell));
    CHECK_INT(rc, 0);
}

static uint64_t blocks(void)
{
    shobj_stat stat;
    CHECK_INT(shobj_stat_get(store, &stat), 0);
    return stat.blocks;
}

static uint64_t encoded(shobj_value value)
{
    uint64_t cell = SHO_CELL_EMPTY;
    CHECK_INT(encode(value, &cell), 0);
    CHECK(cell != SHO_CELL_EMPTY);
    return cell;
}

/* Stores `value`, reads it back as `expected`, and returns whether it took a box. */
static bool round_trip_as(shobj_value value, shobj_value expected)
{
    uint64_t cell = encoded(value);
    bool boxed = sho_cell_is_box(cell);
    CHECK(sho_cell_in_place(&value) == (boxed ? SHO_CELL_EMPTY : cell));
    shobj_value back;
    CHECK_INT(decode(cell, &back), 0);
    CHECK(same(&expected, &back));
    CHECK(back.reserved == 0);
    /* What was read is in its one form: it has the same cell again. */
    if (!boxed)
        CHECK(sho_cell_in_place(&back) == cell);
    release(cell);
    return boxed;
}

static bool round_trip(shobj_value value)
{
    return round_trip_as(value, value);
}

/* ---- in place */

static void test_words(void)
{
    struct {
        shobj_value value;
        uint64_t cell;
    } expected[] = {
        {none(), 2},
        {boolean(false), 4},
        {boolean(true), 5},
        {integer(0), 0x0001000000000000},
        {integer(1), 0x0001000000000001},
        {integer(-1), 0x0001ffffffffffff},
        {integer(0x7fffffffffff), 0x00017fffffffffff},
        {integer(-0x800000000000), 0x0001800000000000},
        {str(""), 0x0002000000000000},
        {str("a"), 0x0002010000000061},
        {str("abcde"), 0x0002056564636261},
        {str("\xc3\xa9"), 0x000202000000a9c3},
        {bytes_of(SHOBJ_BYTES, "", 0), 0x0003000000000000},
        {bytes_of(SHOBJ_BYTES, "\0\xff\0\0\0", 5), 0x000305000000ff00},
        {real(0.0), 0x0007000000000000},
        {real(-0.0), 0x8007000000000000},
        {real(1.0), 0x3ff7000000000000},
        {real(double_of(0xfff8ffffffffffff)), 0xffffffffffffffff},
        {bigint(5, 0, true, 20), 0x0001fffffffffffb},
        {bigint(0, 0, true, 0), 0x0001000000000000},
        {integer(0x800000000000), 0},
        {integer(-0x800000000001), 0},
        {real(double_of(0xfff9000000000000)), 0},
        {str("abcdef"), 0},
        {str("\xff"), 0},
        {complex_of(1, 0), 0},
        {items_of(SHOBJ_TUPLE, NULL, 0), 0},
        {{.type = SHOBJ_ABSENT}, 0},
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        CHECK(sho_cell_in_place(&expected[i].value) == expected[i].cell);
    /* Anything but 0 is true. */
    CHECK(sho_cell_in_place(&(shobj_value){.type = SHOBJ_BOOL, .i = -1}) == SHO_CELL_TRUE);
}

static void test_ints(void)
{
    for (unsigned shift = 0; shift < 64; shift++) {
        for (int64_t delta = -3; delta <= 3; delta++) {
            uint64_t u = (1ULL << shift) + (uint64_t)delta;
            int64_t both[2] = {(int64_t)u, (int64_t)(0 - u)};
            for (int sign = 0; sign < 2; sign++) {
                int64_t i = both[sign];
                bool fits = i >= -0x800000000000 && i <= 0x7fffffffffff;
                CHECK(round_trip(integer(i)) == !fits);
                /* The same as a BIGINT with and without needless zeros. */
                uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
                CHECK(round_trip_as(bigint(magnitude, 0, i < 0, 0), integer(i)) == !fits);
                CHECK(round_trip_as(bigint(magnitude, 0, i < 0, 9), integer(i)) == !fits);
            }
        }
    }
    CHECK(round_trip(integer(INT64_MIN)));
    CHECK(round_trip(integer(INT64_MAX)));
    CHECK(round_trip_as(bigint(1, 63, true, 0), integer(INT64_MIN)));
    CHECK(round_trip(bigint(1, 63, false, 0)));
    CHECK(round_trip(bigint(UINT64_MAX, 0, false, 0)));
    CHECK(round_trip(bigint((1ULL << 63) + 1, 0, true, 0)));
    for (unsigned shift = 1; shift < 1200; shift++) {
        uint64_t mantissa = UINT64_MAX / shift | 1ULL << 63 | 1;
        shobj_value plain = bigint(mantissa, shift, shift & 1, 0);
        CHECK(round_trip(plain));
        CHECK(round_trip_as(bigint(mantissa, shift, shift & 1, shift % 20), plain));
    }
}

static void test_floats(void)
{
    static const uint64_t edges[] = {
        0x0000000000000000, 0x0000000000000001, 0x000fffffffffffff, 0x0010000000000000,
        0x3fefffffffffffff, 0x3ff0000000000000, 0x42e0000000000000, 0x4340000000000000,
        0x43e0000000000000, 0x7fefffffffffffff, 0x7ff0000000000000, 0x7ff0000000000001,
        0x7ff7ffffffffffff, 0x7ff8000000000000, 0x7fffffffffffffff,
    };
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        CHECK(!round_trip(real(double_of(edges[i]))));
        uint64_t negative = edges[i] | 1ULL << 63;
        CHECK(round_trip(real(double_of(negative))) == (negative > 0xfff8ffffffffffff));
    }
    for (uint64_t bits = 0xfff8fffffffffff0; bits < 0xfff9000000000010; bits++)
        CHECK(round_trip(real(double_of(bits))) == (bits >= 0xfff9000000000000));
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
        CHECK(round_trip(complex_of(double_of(edges[i]), double_of(~edges[i]))));
}

/* ---- text */

static void test_text_lengths(void)
{
    static const size_t lengths[] = {4088,  4089,  4095,  4096,    4097,
                                     65535, 65536, 65537, 1 << 20, (1 << 20) + 3};
    enum { SHORT = 300 };
    for (size_t i = 0; i < SHORT + sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t count = i < SHORT ? i : lengths[i - SHORT];
        char *text = keep(count + 8);
        for (size_t j = 0; j < count; j++)
            text[j] = (char)('!' + j % 90);
        shobj_value value = {.type = SHOBJ_STR, .data = text, .count = count};
        CHECK(round_trip(value) == (count > 5));
        value.type = SHOBJ_BYTES;
        CHECK(round_trip(value) == (count > 5));
        memset(text, 0, count);
        CHECK(round_trip(value) == (count > 5));
        if (count >= 2) { /* the last character is not ASCII */
            text[count - 2] = '\xc2';
            text[count - 1] = '\x80';
            value.type = SHOBJ_STR;
            CHECK(round_trip(value) == (count > 5));
        }
    }
}

static void test_text_ascii(void)
{
    static const struct {
        const char *text;
        bool ascii;
    } texts[] = {
        {"", true},
        {"a\x7f", true},
        {"\xc2\x80", false},
        {"abc\xc3\xa9", false},
        {"abcdefgh", true},
        {"abcdefg\xc3\xa9", false},
        {"\xed\xa0\x80xyz", false},
        {"1234567\x7f", true},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint64_t cell = encoded(str(texts[i].text));
        shobj_value back;
        CHECK_INT(decode(cell, &back), 0);
        CHECK(back.ascii == texts[i].ascii);
        release(cell);
    }
}

static void test_text_refused(void)
{
    uint64_t before = blocks();
    static const char *const bad[] = {
        "\xff", "abcdefghi\x80", "\xc3", "\xe2\x82", "0123456789\xf4\x90\x80\x80", "\xc0\xaf"};
    uint64_t cell = 77;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_INT(encode(str(bad[i]), &cell), SHOBJ_EINVAL);
        CHECK(strstr(shobj_error_message(), "UTF-8") != NULL);
        shobj_value items[2] = {str("a str that takes a box"), str(bad[i])};
        CHECK_INT(encode(items_of(SHOBJ_TUPLE, items, 2), &cell), SHOBJ_EINVAL);
    }
    CHECK_INT(encode(str("abcdefghi\x80"), &cell), SHOBJ_EINVAL);
    CHECK(strstr(shobj_error_message(), "byte 9 (0x80)") != NULL);
    CHECK_INT(cell, 77);
    CHECK_INT(blocks(), before);
}

/* ---- nesting */

static shobj_value nested(unsigned depth, enum shobj_type type)
{
    shobj_value value = str("at the bottom");
    for (unsigned i = 0; i < depth; i++)
        value = items_of(type, &value, 1);
    return value;
}

static void test_tuples(void)
{
    CHECK(round_trip(items_of(SHOBJ_TUPLE, NULL, 0)));
    CHECK(round_trip(items_of(SHOBJ_FROZENSET, NULL, 0)));
    shobj_value items[] = {none(),
                           boolean(true),
                           integer(1),
                           real(1),
                           str("short"),
                           str("longer than five"),
                           bigint(1, 64, true, 0),
                           items_of(SHOBJ_TUPLE, NULL, 0),
                           complex_of(1, 2)};
    for (size_t count = 0; count <= sizeof(items) / sizeof(items[0]); count++) {
        CHECK(round_trip(items_of(SHOBJ_TUPLE, items, count)));
        shobj_value twice[2] = {items_of(SHOBJ_TUPLE, items, count),
                                items_of(SHOBJ_TUPLE, items, count)};
        CHECK(round_trip(items_of(SHOBJ_TUPLE, twice, 2)));
    }
    enum { MANY = 20000 };
    shobj_value *many = keep(MANY * sizeof(*many));
    for (int i = 0; i < MANY; i++)
        many[i] = i % 3 == 0 ? str("every third one takes a box") : integer(i);
    CHECK(round_trip(items_of(SHOBJ_TUPLE, many, MANY)));
}

static void test_depth(void)
{
    uint64_t before = blocks();
    for (int type = SHOBJ_TUPLE; type <= SHOBJ_FROZENSET; type++) {
        CHECK(round_trip(nested(SHO_VALUE_DEPTH_MAX, (enum shobj_type)type)));
        uint64_t cell;
        CHECK_INT(encode(nested(SHO_VALUE_DEPTH_MAX + 1, (enum shobj_type)type), &cell),
                  SHOBJ_EINVAL);
        CHECK(strstr(shobj_error_message(), "nested") != NULL);
    }
    CHECK_INT(blocks(), before);
}

static void test_frozensets(void)
{
    enum { COUNT = 3000 };
    shobj_value *items = keep(COUNT * sizeof(*items));
    for (int i = 0; i < COUNT; i++) {
        char text[32];
        snprintf(text, sizeof(text), "item %d", i);
        items[i] = i % 2 ? str(text) : integer(i);
    }
    CHECK(round_trip(items_of(SHOBJ_FROZENSET, items, COUNT)));
    /* Two equal items, of one type or two, wherever they are. */
    uint64_t cell;
    for (size_t count = 2; count < COUNT; count += count / 2) {
        shobj_value kept = items[count - 1];
        items[count - 1] = count % 2 ? items[0] : complex_of((double)items[0].i, -0.0);
        CHECK_INT(encode(items_of(SHOBJ_FROZENSET, items, count), &cell), SHOBJ_EINVAL);
        CHECK(strstr(shobj_error_message(), "equal") != NULL);
        items[count - 1] = kept;
    }
}

/* ---- objects */

static void test_objects(void)
{
    shobj_oid root = shobj_root(store);
    shobj_value object = {.type = SHOBJ_OBJECT, .oid = root};
    uint64_t cell = encoded(object);
    CHECK(sho_cell_is_object(cell));
    shobj_value back;
    CHECK_INT(decode(cell, &back), 0);
    CHECK(same(&back, &object));
    CHECK_INT(back.kind, SHOBJ_KIND_DICT);

    shobj_value items[3] = {str("a box beside it"), object, object};
    shobj_value tuple = items_of(SHOBJ_TUPLE, items, 3);
    CHECK(round_trip(tuple));

    uint64_t before = blocks();
    uint64_t unset = 77;
    shobj_value gone = {.type = SHOBJ_OBJECT, .oid = root ^ 1};
    CHECK_INT(encode(gone, &unset), SHOBJ_ESTALE);
    items[2] = gone;
    CHECK_INT(encode(items_of(SHOBJ_TUPLE, items, 3), &unset), SHOBJ_ESTALE);
    CHECK_INT(encode(items_of(SHOBJ_FROZENSET, items, 2), &unset), SHOBJ_ETYPE);
    CHECK_INT(encode(items_of(SHOBJ_FROZENSET, &tuple, 1), &unset), SHOBJ_ETYPE);
    CHECK_INT(encode((shobj_value){.type = SHOBJ_ABSENT}, &unset), SHOBJ_EINVAL);
    CHECK_INT(encode((shobj_value){.type = 200}, &unset), SHOBJ_EINVAL);
    CHECK(strstr(shobj_error_message(), "200") != NULL);
    CHECK_INT(unset, 77);
    CHECK_INT(blocks(), before);

    CHECK_INT(decode(SHO_CELL_EMPTY, &back), 0);
    CHECK_INT(back.type, SHOBJ_ABSENT);
}

/* ---- walk */

struct seen {
    unsigned boxes;
    unsigned objects;
    uint64_t last;
};

static int see(sho_session *session, uint64_t cell, void *arg)
{
    struct seen *seen = arg;
    CHECK(session == s);
    CHECK(sho_cell_is_box(cell) || sho_cell_is_object(cell));
    seen->boxes += sho_cell_is_box(cell);
    seen->objects += sho_cell_is_object(cell);
    seen->last = cell;
    return seen->boxes == 5 ? SHOBJ_EABORTED : 0;
}

static void test_walk(void)
{
    shobj_value object = {.type = SHOBJ_OBJECT, .oid = shobj_root(store)};
    shobj_value set_items[2] = {str("first of the set"), integer(3)};
    shobj_value items[5] = {object, integer(1), str("a box, the second"),
                            items_of(SHOBJ_FROZENSET, set_items, 2), object};
    uint64_t cell = encoded(items_of(SHOBJ_TUPLE, items, 5));
    struct seen seen = {0};
    int rc;
    SHO_OP(s, rc, (memset(&seen, 0, sizeof(seen)), sho_cell_walk(s, cell, see, &seen)));
    CHECK_INT(rc, 0);
    CHECK_INT(seen.boxes, 4);
    CHECK_INT(seen.objects, 2);
    CHECK(sho_cell_is_object(seen.last));
    release(cell);

    items[1] = str("one box more than the visitor likes");
    cell = encoded(items_of(SHOBJ_TUPLE, items, 5));
    SHO_OP(s, rc, (memset(&seen, 0, sizeof(seen)), sho_cell_walk(s, cell, see, &seen)));
    CHECK_INT(rc, SHOBJ_EABORTED);
    CHECK_INT(seen.boxes, 5);
    release(cell);
}

/* ---- nonsense */

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

static uint64_t box(unsigned kind, unsigned flags, uint64_t bytes, const uint64_t *payload)
{
    int rc;
    uint64_t cell = SHO_CELL_EMPTY;
    SHO_OP(s, rc, make_box(kind, flags, bytes, payload, &cell));
    CHECK_INT(rc, 0);
    return cell;
}

static void expect_corrupt(uint64_t cell)
{
    shobj_value value = {.type = 99};
    CHECK_INT(decode(cell, &value), SHOBJ_ECORRUPT);
    CHECK_INT(value.type, 99);
    uint64_t nested_cell = box(SHM_BOX_TUPLE, 0, 8, &cell);
    CHECK_INT(decode(nested_cell, &value), SHOBJ_ECORRUPT);
    CHECK_INT(value.type, 99);
}

static void test_corrupt_cells(void)
{
    static const uint64_t cells[] = {
        1,
        3,
        6,
        0x0000ffffffffffff,
        0x0006000000000000,
        0x0006ffffffffffff,
        0x0002060000000000, /* longer than 5 */
        0x0002ff0000000000,
        0x0002010000006161, /* a byte behind the end */
        0x00028100000000ff,
        0x00020100000000ff, /* not UTF-8 */
        0x0003000000000001,
        0x0005000000000000, /* boxes where none can be */
        0x0005000000000008,
        0x0005ffffffffffff,
        0x0005fffffffffff8,
        0x0004000000000000,
        0x0004000000000018,
        0x0004fffffffffff0,
    };
    for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
        expect_corrupt(cells[i]);
    uint64_t empty = SHO_CELL_EMPTY;
    shobj_value value;
    CHECK_INT(decode(box(SHM_BOX_TUPLE, 0, 8, &empty), &value), SHOBJ_ECORRUPT);
}

static int make_part(uint64_t *ret_cell)
{
    sho_view view;
    int rc = sho_op_new(s, SHM_LIST_LEAF, 4, &view);
    if (rc == 0)
        *ret_cell = SHO_CELL(SHO_TAG_OBJECT, view.off);
    return rc;
}

/* Nodes that are only parts of objects are not what a cell refers to. */
static void test_corrupt_objects(void)
{
    int rc;
    uint64_t cell = SHO_CELL_EMPTY;
    SHO_OP(s, rc, make_part(&cell));
    CHECK_INT(rc, 0);
    expect_corrupt(cell);
    uint64_t root = encoded((shobj_value){.type = SHOBJ_OBJECT, .oid = shobj_root(store)});
    expect_corrupt(root + 8);
}

static void test_corrupt_boxes(void)
{
    uint64_t zeros[4] = {0};
    uint64_t ones[4] = {1, 1, 1, 1};
    uint64_t text[2] = {0x6161616161616161, 0x6161616161616161};
    uint64_t high[2] = {0xffffffffffffffff, 0x6161616161616161};
    uint64_t unordered[4] = {2, SHO_CELL_NONE, 1, SHO_CELL_TRUE};
    shobj_value value;
    /* They are whole as they should be. */
    CHECK_INT(decode(box(SHM_BOX_STR, SHM_BOX_ASCII, 16, text), &value), 0);
    /* What is behind the end does not count. */
    CHECK_INT(
        decode(box(SHM_BOX_STR, SHM_BOX_ASCII, 9, (uint64_t[]){text[0], ~0xffULL | 'z'}), &value),
        0);
    CHECK(value.count == 9 && value.ascii && memcmp(value.data, "aaaaaaaaz", 9) == 0);
    CHECK_INT(decode(box(SHM_BOX_INT, 0, 16, ones), &value), 0);

    expect_corrupt(box(SHM_BOX_STR, 0, 16, text));             /* the flag denies ASCII */
    expect_corrupt(box(SHM_BOX_STR, SHM_BOX_ASCII, 16, high)); /* or claims it */
    expect_corrupt(box(SHM_BOX_STR, 0, 16, high));             /* not UTF-8 */
    expect_corrupt(box(SHM_BOX_STR, SHM_BOX_ASCII, 5, text));  /* fits into a cell */
    expect_corrupt(box(SHM_BOX_BYTES, 0, 5, text));
    expect_corrupt(box(SHM_BOX_BYTES, 0, 0, text));
    expect_corrupt(box(SHM_BOX_INT, 0, 0, zeros));
    expect_corrupt(box(SHM_BOX_INT, 0, 8, ones));
    expect_corrupt(box(SHM_BOX_INT, 0, 12, ones));
    expect_corrupt(
        box(SHM_BOX_INT, SHM_BOX_NEGATIVE, 24, (uint64_t[]){1, 1, 0})); /* empty top word */
    expect_corrupt(box(SHM_BOX_FLOAT, 0, 8, zeros));
    expect_corrupt(box(SHM_BOX_FLOAT, 0, 16, high));
    expect_corrupt(box(SHM_BOX_COMPLEX, 0, 8, zeros));
    expect_corrupt(box(SHM_BOX_COMPLEX, 0, 24, zeros));
    expect_corrupt(box(SHM_BOX_TUPLE, 0, 12, ones));
    expect_corrupt(box(SHM_BOX_FROZENSET, 0, 24, ones));
    expect_corrupt(box(SHM_BOX_FROZENSET, 0, 32, unordered));
    expect_corrupt(box(SHM_BOX_LOG, 0, 32, zeros));
}

/* A tuple that holds itself `width` times, and a ladder of tuples that each hold the next twice:
 * their trees have more items than there are atoms. */
static int make_knot(unsigned width, uint64_t *ret_cell)
{
    uint64_t off;
    sho_word *words;
    int rc = sho_op_new_box(s, SHM_BOX_TUPLE, 0, 8 * width, &off, &words);
    if (rc)
        return rc;
    *ret_cell = SHO_CELL(SHO_TAG_BOX, off);
    for (unsigned i = 0; i < width; i++)
        sho_store(&words[i], *ret_cell);
    return 0;
}

static void test_corrupt_knots(void)
{
    for (unsigned width = 1; width < 1000; width *= 7) {
        int rc;
        uint64_t cell = SHO_CELL_EMPTY;
        SHO_OP(s, rc, make_knot(width, &cell));
        CHECK_INT(rc, 0);
        expect_corrupt(cell);
        CHECK(strstr(shobj_error_message(), "holds itself") != NULL);
        SHO_OP(s, rc, sho_cell_release(s, cell));
        CHECK_INT(rc, SHOBJ_ECORRUPT);
    }
    uint64_t cell = box(SHM_BOX_TUPLE, 0, 0, NULL);
    for (unsigned i = 0; i < 200; i++)
        cell = box(SHM_BOX_TUPLE, 0, 16, (uint64_t[]){cell, cell});
    expect_corrupt(cell);
}

/* Random words as a cell and in a box of each kind: an error or a value, never anything else. */
static void test_random_words(uint64_t *random)
{
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t payload[4];
        for (unsigned j = 0; j < 4; j++) {
            uint64_t tag = check_random(random) % 8;
            payload[j] = check_random(random) >> (check_random(random) % 64);
            if (check_random(random) % 2)
                payload[j] = SHO_CELL(tag, payload[j] & 0x1fffffff & ~7ULL);
        }
        unsigned kind = SHM_BOX_FLOAT + (unsigned)(check_random(random) % 7);
        uint64_t cell =
            box(kind, (unsigned)(check_random(random) % 4), check_random(random) % 33, payload);
        shobj_value value;
        int rc = decode(cell, &value);
        CHECK(rc == 0 || rc == SHOBJ_ECORRUPT);
        rc = decode(payload[0], &value);
        CHECK(rc == 0 || rc == SHOBJ_ECORRUPT);
    }
}

/* ---- many */

/* Encoded and released again and again, all blocks come back. */
static void test_random_values(uint64_t *random)
{
    enum { COUNT = 500, ROUNDS = 12 };
    uint64_t *cells = keep(COUNT * sizeof(*cells));
    shobj_value *values = keep(COUNT * sizeof(*values));
    uint64_t before = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            values[i] = random_value(random, 4);
            cells[i] = encoded(values[i]);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            shobj_value back;
            CHECK_INT(decode(cells[i], &back), 0);
            CHECK(same(&values[i], &back));
            /* What one cell owns, no other does: releasing this one leaves the rest as they are. */
            release(cells[i]);
        }
        if (round == 0)
            before = blocks();
    }
    CHECK_INT(blocks(), before);
}

/* ---- a full store */

/* A value that is too large for what is free leaves nothing of itself, however far it came. */
static void test_full(void)
{
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/shobj-unit-full-%ld", (long)getpid());
    shobj_options options = {.mode = SHOBJ_OPEN_NEW, .max_size = 8ULL << 20};
    CHECK_INT(shobj_open(name, &options, &store), 0);
    CHECK_INT(shobj_unlink(name, true), 0);
    CHECK_INT(sho_session_get(store, &s), 0);
    enum { COUNT = 64, BYTES = 200000 };
    shobj_value items[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char *own = keep(BYTES);
        memset(own, 'x', BYTES);
        own[0] = (char)('!' + i);
        items[i] = (shobj_value){.type = SHOBJ_STR, .data = own, .count = BYTES};
    }
    uint64_t before = blocks();
    uint64_t cell = 77;
    for (int round = 0; round < 3; round++) {
        for (int type = SHOBJ_TUPLE; type <= SHOBJ_FROZENSET; type++)
            CHECK_INT(encode(items_of((enum shobj_type)type, items, COUNT), &cell), SHOBJ_EFULL);
        CHECK_INT(cell, 77);
        CHECK_INT(blocks(), before);
        /* What fits, still fits. */
        CHECK(round_trip(items_of(SHOBJ_FROZENSET, items, 3)));
        CHECK_INT(blocks(), before);
    }
    shobj_close(store);
}

int main(void)
{
    uint64_t random = check_seed();
    store = check_store();
    CHECK_INT(sho_session_get(store, &s), 0);
    test_words();
    test_ints();
    test_floats();
    test_text_lengths();
    test_text_ascii();
    test_text_refused();
    test_tuples();
    test_depth();
    test_frozensets();
    test_objects();
    test_walk();
    test_random_values(&random);
    test_corrupt_cells();
    test_corrupt_objects();
    test_corrupt_boxes();
    test_corrupt_knots();
    test_random_words(&random);
    shobj_close(store);
    test_full();
    return 0;
}
