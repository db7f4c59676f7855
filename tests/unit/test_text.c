/*
 * test_text.c: literals, rendered text, addresses and paths. Random values go to text and back; what
 * reads from the store while it holds something that the store gave out is tried for being overwritten.
 */
#include "values.h"

typedef struct text {
    char *at;
    size_t bytes, room;
    int calls_max; /* after so many calls writing ends; 0: never */
    int calls;
} text;

static int put(const char *from, size_t bytes, void *arg)
{
    text *t = arg;
    if (t->bytes + bytes + 1 > t->room) {
        t->room = 2 * t->room + bytes + 1;
        t->at = realloc(t->at, t->room);
        CHECK(t->at != NULL);
    }
    memcpy(t->at + t->bytes, from, bytes);
    t->bytes += bytes;
    t->at[t->bytes] = '\0';
    t->calls++;
    return t->calls_max > 0 && t->calls >= t->calls_max ? 77 : 0;
}

/* The text of a value, good until the next call. */
static const char *render(shobj_store *store, const shobj_value *v, enum shobj_form form)
{
    static text t;
    t.bytes = 0;
    CHECK_INT(put("", 0, &t), 0);
    CHECK_INT(shobj_render(store, v, form, 0, 0, put, &t), 0);
    return t.at;
}

/* shobj_literal_parse() with memory that stays. */
static shobj_value parse(const char *literal)
{
    shobj_value v;
    void *memory;
    CHECK_INT(shobj_literal_parse(literal, &v, &memory), 0);
    static void *before;
    free(before);
    before = memory;
    return v;
}

static void test_literals_round(uint64_t *random)
{
    for (int i = 0; i < 20000; i++) {
        shobj_value v = random_value(random, 3);
        char *first = strdup(render(NULL, &v, SHOBJ_FORM_LITERAL));
        shobj_value again = parse(first);
        /* The bits of a NaN have no literal. */
        CHECK(strstr(first, "nan") != NULL || same(&v, &again));
        CHECK(strcmp(first, render(NULL, &again, SHOBJ_FORM_LITERAL)) == 0);
        free(first);
    }
}

/* Of a length that decimal text would take minutes for. */
static void test_huge_int(void)
{
    const size_t count = 2u << 20;
    uint8_t *bytes = malloc(count);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    bytes[count - 1] = 0x0a;
    shobj_value v = {.type = SHOBJ_BIGINT, .negative = 1, .data = bytes, .count = count};
    const char *literal = render(NULL, &v, SHOBJ_FORM_LITERAL);
    CHECK_INT(strlen(literal), 3 + 2 * count - 1);
    CHECK(memcmp(literal, "-0xa", 4) == 0);
    shobj_value again = parse(literal);
    CHECK(same(&v, &again));
    CHECK(memcmp(render(NULL, &v, SHOBJ_FORM_DUMP), "{\"$int\": \"-0xa", 14) == 0);
    CHECK(memcmp(render(NULL, &v, SHOBJ_FORM_JSON), "\"-0xa", 5) == 0);
    free(bytes);
}

/* Doubles near powers of two and ten, subnormal ones, and of few digits. */
static void test_floats_round(uint64_t *random)
{
    for (int i = 0; i < 200000; i++) {
        uint64_t r = check_random(random);
        double f = r % 3 == 0   ? double_of((r >> 2 & 0x7ff) << 52 | (r >> 60 & 1))
                   : r % 3 == 1 ? (double)(r >> 40) / (double)(1 + (r >> 3 & 0xfff))
                                : double_of(r);
        if (f != f)
            continue;
        shobj_value v = real(f);
        shobj_value again = parse(render(NULL, &v, SHOBJ_FORM_LITERAL));
        CHECK(same(&v, &again));
    }
}

static void test_equal_members(void)
{
    static const struct {
        const char *literal;
        size_t count;
    } table[] = {
        {"frozenset({1, 1.0, True, 1+0j, (1,), (1.0,)})", 2},
        {"frozenset({0, False, -0.0, 0.0, -0j, ''})", 2},
        {"frozenset({9007199254740992, 9007199254740993, 9007199254740992.0})", 2},
        {"frozenset({18446744073709551616, 18446744073709551617, 18446744073709551616.0})", 2},
        {"frozenset({-18446744073709551616, 18446744073709551616.0})", 2},
        {"frozenset({9223372036854775807, 9223372036854775808, 9.223372036854775808e18})", 2},
        {"frozenset({'a', b'a', 'a'})", 2},
        {"frozenset({frozenset({1, 2}), frozenset({2.0, 1}), frozenset({1})})", 2},
        {"frozenset({inf, inf, -inf, nan, nan})", 4},
        {"frozenset({1e300, 1"
         "000000000000000000000000000000})",
         2},
        {"frozenset({None, None, ()})", 2},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        CHECK_INT(parse(table[i].literal).count, table[i].count);
}

/* Each random value is a key of one dict, and is found by the path that its step makes. */
static void test_steps_round(uint64_t *random)
{
    shobj_store *store = check_store();
    for (int i = 0; i < 3000; i++) {
        shobj_value key = random_value(random, 2);
        if (strstr(render(NULL, &key, SHOBJ_FORM_LITERAL), "nan") != NULL)
            continue;
        shobj_key ready;
        shobj_value value = integer(i);
        shobj_value got;
        CHECK_INT(shobj_key_init(store, &key, &ready), 0);
        CHECK_INT(shobj_dict_set(store, shobj_root(store), &ready, &value), 0);

        size_t bytes = shobj_path_step(&key, NULL, 0);
        char *path = malloc(bytes + 2);
        CHECK(path != NULL);
        path[0] = '/';
        CHECK_INT(shobj_path_step(&key, path + 1, bytes + 1), bytes);
        CHECK_INT(strlen(path), bytes + 1);
        CHECK(strchr(path + 1, '/') == NULL && strchr(path, '\n') == NULL);
        CHECK_INT(shobj_path_get(store, path, &got), 0);
        CHECK(same(&got, &value));

        shobj_oid container;
        enum shobj_kind kind;
        CHECK_INT(shobj_path_parent(store, path, &container, &kind, &got), 0);
        CHECK(same(&got, &key) && container == shobj_root(store) && kind == SHOBJ_KIND_DICT);

        char little[4];
        CHECK_INT(shobj_path_step(&key, little, sizeof(little)), bytes);
        CHECK(memcmp(little, path + 1, bytes < 3 ? bytes : 3) == 0 && little[bytes < 3 ? bytes : 3] == '\0');
        free(path);
    }
    shobj_close(store);
}

static void set(shobj_store *store, const char *path, shobj_value value)
{
    CHECK_INT(shobj_path_set(store, path, &value), 0);
}

static shobj_value get(shobj_store *store, const char *path)
{
    shobj_value v;
    CHECK_INT(shobj_path_get(store, path, &v), 0);
    return v;
}

static shobj_value new_list(shobj_store *store)
{
    shobj_value v = {.type = SHOBJ_OBJECT, .kind = SHOBJ_KIND_LIST};
    CHECK_INT(shobj_list_new(store, NULL, 0, &v.oid), 0);
    return v;
}

/* Values that the store gave out are handed straight back to it, together with paths of many reads. */
static void test_given_values(void)
{
    shobj_store *store = check_store();
    shobj_value dict = {.type = SHOBJ_OBJECT, .kind = SHOBJ_KIND_DICT};
    CHECK_INT(shobj_txn_begin(store), 0);
    CHECK_INT(shobj_dict_new(store, NULL, 0, &dict.oid), 0);
    set(store, "/a", dict);
    set(store, "/a/list", new_list(store));
    CHECK_INT(shobj_txn_commit(store), 0);

    char long_text[3000];
    memset(long_text, 'x', sizeof(long_text));
    shobj_value parts[] = {bytes_of(SHOBJ_STR, long_text, sizeof(long_text)), get(store, "/a/list"), str("end")};
    set(store, "/a/tuple", items_of(SHOBJ_TUPLE, parts, 3));
    set(store, "/a/list/-", str("one"));
    shobj_value given = get(store, "/a/tuple");
    CHECK_INT(shobj_path_set(store, "/a/list/-", &given), 0);
    given = get(store, "/a/list/1/0");
    CHECK(same(&given, &parts[0]));
    given = get(store, "/a/list/1/1/0");
    CHECK(given.type == SHOBJ_STR && given.count == 3 && memcmp(given.data, "one", 3) == 0);
    given = get(store, "/a/list/-1/-1");
    CHECK(given.count == 3 && memcmp(given.data, "end", 3) == 0);

    /* The way leads through the tuple, which is read to where the given text was. */
    memset(long_text, 'y', sizeof(long_text));
    shobj_value other = bytes_of(SHOBJ_STR, long_text, 2000);
    set(store, "/a/other", other);
    given = get(store, "/a/other");
    CHECK_INT(shobj_path_set(store, "/a/tuple/1/-", &given), 0);
    given = get(store, "/a/list/-1");
    CHECK(same(&given, &other));
    CHECK_INT(shobj_path_set(store, "/a/list/-1", NULL), 0);

    given = get(store, "/a/tuple");
    const char *shown = render(store, &given, SHOBJ_FORM_DUMP);
    CHECK(strncmp(shown, "{\"$tuple\": [\"xxx", 16) == 0);
    CHECK(strstr(shown, "x\", [\"one\", {\"$tuple\": [\"xxx") != NULL);
    CHECK(strstr(shown, "x\", {\"$ref\": \"/1\"}, \"end\"]}], \"end\"]}") != NULL);
    shobj_close(store);
}

/* Containers larger than any batch, with objects in between. */
static void test_batches(void)
{
    shobj_store *store = check_store();
    set(store, "/list", new_list(store));
    text expected = {0};
    CHECK_INT(put("[", 1, &expected), 0);
    for (int i = 0; i < 500; i++) {
        char item[64];
        int bytes =
            snprintf(item, sizeof(item), "%s%s", i > 0 ? ", " : "", i % 7 == 3 ? "['in', 5]" : "'text of this item'");
        CHECK_INT(put(item, (size_t)bytes, &expected), 0);
        if (i % 7 != 3) {
            set(store, "/list/-", str("text of this item"));
            continue;
        }
        set(store, "/list/-", new_list(store));
        set(store, "/list/-1/-", str("in"));
        set(store, "/list/-1/-", integer(5));
    }
    CHECK_INT(put("]", 1, &expected), 0);
    shobj_value list = get(store, "/list");
    CHECK(strcmp(render(store, &list, SHOBJ_FORM_LITERAL), expected.at) == 0);
    free(expected.at);

    text first = {.calls_max = 1};
    CHECK_INT(shobj_render(store, &list, SHOBJ_FORM_JSON, 0, 0, put, &first), 77);
    CHECK_INT(first.calls, 1);
    free(first.at);
    shobj_close(store);
}

/* The kind of a given object is looked up, whatever the caller says. */
static void test_given_kinds(void)
{
    shobj_store *store = check_store();
    set(store, "/list", new_list(store));
    set(store, "/list/-", integer(1));
    shobj_oid list = get(store, "/list").oid;
    for (unsigned kind = 0; kind < 256; kind++) {
        shobj_value items[2] = {{.type = SHOBJ_OBJECT, .kind = (uint8_t)kind, .oid = list},
                                {.type = SHOBJ_OBJECT, .kind = (uint8_t)kind, .oid = shobj_root(store)}};
        shobj_value tuple = {.type = SHOBJ_TUPLE, .items = items, .count = 2};
        CHECK(strcmp(render(store, &items[0], SHOBJ_FORM_LITERAL), "[1]") == 0);
        CHECK(strcmp(render(store, &items[1], SHOBJ_FORM_DUMP), "{\"list\": [1]}") == 0);
        CHECK(strcmp(render(store, &tuple, SHOBJ_FORM_LITERAL), "([1], {'list': [1]})") == 0);
        CHECK_INT(items[0].kind, kind);
    }

    text t = {0};
    shobj_value object = {.type = SHOBJ_OBJECT, .oid = list};
    CHECK_INT(shobj_render(NULL, &object, SHOBJ_FORM_JSON, 0, 0, put, &t), SHOBJ_EINVAL);
    object.kind = SHOBJ_KIND_LIST;
    CHECK_INT(shobj_render(NULL, &object, SHOBJ_FORM_JSON, 0, 0, put, &t), SHOBJ_EINVAL);
    shobj_value around = {.type = SHOBJ_TUPLE, .items = &object, .count = 1};
    CHECK_INT(shobj_render(NULL, &around, SHOBJ_FORM_LITERAL, 0, 1, put, &t), 0);
    CHECK(strcmp(t.at, "([...],)") == 0);
    object.oid++; /* another birth in the same place */
    CHECK_INT(shobj_render(store, &object, SHOBJ_FORM_JSON, 0, 0, put, &t), SHOBJ_ESTALE);
    free(t.at);
    shobj_close(store);
}

static void test_paths(void)
{
    shobj_store *store = check_store();
    set(store, "/l", new_list(store));
    set(store, "/l/-", integer(1));
    shobj_value v;
    shobj_oid container;
    enum shobj_kind kind;

    CHECK_INT(shobj_path_parent(store, "/l/-", &container, &kind, &v), 0);
    CHECK(kind == SHOBJ_KIND_LIST && v.type == SHOBJ_ABSENT);
    CHECK_INT(shobj_path_parent(store, "/l/-1/", &container, &kind, &v), 0);
    CHECK(v.type == SHOBJ_INT && v.i == -1);
    CHECK_INT(shobj_path_parent(store, "", &container, &kind, &v), SHOBJ_EINVAL);
    CHECK_INT(shobj_path_parent(store, "/", &container, &kind, &v), SHOBJ_EINVAL);
    CHECK_INT(shobj_path_parent(store, "/l/0/0", &container, &kind, &v), SHOBJ_ETYPE);
    CHECK_INT(shobj_path_get(store, "/nothing", &v), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_path_get(store, "/l/1", &v), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_path_get(store, "/l/x", &v), SHOBJ_ETYPE);
    CHECK_INT(shobj_path_get(store, "l", &v), SHOBJ_EINVAL);
    CHECK_INT(shobj_path_get(store, "/~", &v), SHOBJ_EINVAL);
    CHECK_INT(shobj_path_set(store, "", NULL), SHOBJ_EINVAL);
    CHECK_INT(shobj_path_set(store, "/l/-", NULL), SHOBJ_ENOTFOUND);
    CHECK_INT(shobj_path_set(store, "/nothing", NULL), SHOBJ_ENOTFOUND);

    char oid[17];
    char path[64];
    shobj_oid parsed;
    v = get(store, "/l/");
    shobj_oid_format(v.oid, oid);
    CHECK_INT(strlen(oid), 16);
    CHECK_INT(shobj_oid_parse(oid, &parsed), 0);
    CHECK(parsed == v.oid);
    CHECK_INT(shobj_oid_parse("", &parsed), SHOBJ_EINVAL);
    CHECK_INT(shobj_oid_parse("0", &parsed), SHOBJ_EINVAL);
    CHECK_INT(shobj_oid_parse("12345678901234567", &parsed), SHOBJ_EINVAL);
    CHECK_INT(shobj_oid_parse("1g", &parsed), SHOBJ_EINVAL);
    snprintf(path, sizeof(path), "@%s/0", oid);
    v = get(store, path);
    CHECK(v.type == SHOBJ_INT && v.i == 1);

    /* Inside a transaction paths see what it did, and an abort takes it back. */
    CHECK_INT(shobj_txn_begin(store), 0);
    set(store, "/l/0", integer(2));
    v = get(store, "/l/0");
    CHECK_INT(v.i, 2);
    shobj_txn_abort(store);
    v = get(store, "/l/0");
    CHECK_INT(v.i, 1);
    shobj_close(store);
}

static void test_addresses(void)
{
    static const struct {
        const char *address;
        int store_bytes; /* or an error */
        const char *path;
    } table[] = {
        {"bank", 4, ""},
        {"bank:", 4, ""},
        {"bank:/a:/b", 4, "/a:/b"},
        {"bank:@12/x", 4, "@12/x"},
        {"./a:b/bank", 10, ""},
        {"/x:y/bank:/k", 9, "/k"},
        {"", SHOBJ_EINVAL, NULL},
        {":/a", SHOBJ_EINVAL, NULL},
        {"bank:a", SHOBJ_EINVAL, NULL},
        {"/x/bank:a", SHOBJ_EINVAL, NULL},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t bytes = 0;
        const char *path = NULL;
        int rc = shobj_address_split(table[i].address, &bytes, &path);
        CHECK_INT(rc < 0 ? rc : (int)bytes, table[i].store_bytes);
        CHECK(rc < 0 || strcmp(path, table[i].path) == 0);
    }
}

int main(void)
{
    uint64_t random = check_seed();
    test_literals_round(&random);
    test_huge_int();
    test_floats_round(&random);
    test_equal_members();
    test_steps_round(&random);
    test_given_values();
    test_batches();
    test_given_kinds();
    test_paths();
    test_addresses();
    parse("None"); /* frees the last one's memory */
    return 0;
}
