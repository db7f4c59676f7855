/*
 * test_gc_born.c: a cycle begins while an object is being made, at each point in turn: some of its blocks are older than the cycle,
 * the others are born black. All of them are there when the cycle is over, if the object is kept; and so is an object that it refers
 * to, though what kept that one before is gone when the roots are read.
 */
#include "base/fault.h"
#include "gc/cycle.h"
#include "nodes.h"

#define ITEMS 40 /* more than one node takes */

static shobj_store *store;
static bool has_begun;
static shobj_oid inner;

static void begin(void)
{
    sho_cycle_begin(store->region);
    has_begun = true;
}

static shobj_value text_value(char *text, size_t bytes, int i)
{
    snprintf(text, bytes, "%d: too long to stand in a word", i);
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
}

static shobj_oid make_dict(void)
{
    static char texts[2 * ITEMS][64];
    shobj_item items[ITEMS];
    shobj_oid dict;
    for (int i = 0; i < ITEMS; i++) {
        items[i].key = text_value(texts[i], sizeof(texts[i]), i);
        items[i].value = text_value(texts[ITEMS + i], sizeof(texts[i]), i + 1000);
    }
    CHECK_INT(shobj_dict_new(store, items, ITEMS, &dict), 0);
    return dict;
}

static void check_dict(shobj_oid dict)
{
    for (int i = 0; i < ITEMS; i++) {
        char text[64], expected[64];
        shobj_value name = text_value(text, sizeof(text), i), value, other = text_value(expected, sizeof(expected), i + 1000);
        shobj_key key;
        CHECK_INT(shobj_key_init(store, &name, &key), 0);
        CHECK_INT(shobj_dict_get(store, dict, &key, &value), 0);
        CHECK(value.type == SHOBJ_STR && value.count == other.count && memcmp(value.data, other.data, value.count) == 0);
    }
}

static shobj_oid make_list(void)
{
    static char texts[ITEMS][64];
    shobj_value values[ITEMS];
    shobj_oid list;
    for (int i = 0; i < ITEMS; i++)
        values[i] = text_value(texts[i], sizeof(texts[i]), i);
    CHECK_INT(shobj_list_new(store, values, ITEMS, &list), 0);
    return list;
}

/* The text is made when the reference has been put aside, and the node takes it. */
static shobj_oid make_pair(void)
{
    char text[64];
    shobj_value values[] = {{.type = SHOBJ_OBJECT, .oid = inner}, text_value(text, sizeof(text), 1)};
    shobj_item items[] = {{.key = {.type = SHOBJ_INT, .i = 0}, .value = values[0]},
                          {.key = {.type = SHOBJ_INT, .i = 1}, .value = values[1]}};
    shobj_oid dict;
    CHECK_INT(shobj_dict_new(store, items, 2, &dict), 0);
    return dict;
}

static void check_pair(shobj_oid dict)
{
    shobj_value name = {.type = SHOBJ_INT, .i = 0}, value;
    shobj_key key;
    uint64_t length;
    CHECK_INT(shobj_key_init(store, &name, &key), 0);
    CHECK_INT(shobj_dict_get(store, dict, &key, &value), 0);
    CHECK(value.type == SHOBJ_OBJECT && value.oid == inner);
    CHECK_INT(shobj_list_len(store, inner, &length), 0);
}

static void check_list(shobj_oid list)
{
    for (int i = 0; i < ITEMS; i++) {
        char text[64];
        shobj_value value, expected = text_value(text, sizeof(text), i);
        CHECK_INT(shobj_list_get(store, list, i, &value), 0);
        CHECK(value.type == SHOBJ_STR && value.count == expected.count && memcmp(value.data, expected.data, value.count) == 0);
    }
}

static void test_born(shobj_oid (*make)(void), void (*check)(shobj_oid oid), unsigned blocks)
{
    shobj_pins *pins;
    unsigned points = 0;
    CHECK_INT(shobj_pins_open(store, &pins), 0);
    do {
        uint32_t pin, inner_pin;
        CHECK_INT(shobj_list_new(store, NULL, 0, &inner), 0);
        CHECK_INT(shobj_pin(pins, inner, &inner_pin), 0);
        for (int i = 0; i < 2; i++)
            shobj_release(store, 0);
        has_begun = false;
        sho_fault_plan_call(begin, ++points, NULL);
        shobj_oid oid = make();
        sho_fault_plan(SHO_FAULT_NONE, 0, NULL);
        shobj_unpin(pins, inner_pin);
        CHECK_INT(shobj_pin(pins, oid, &pin), 0);
        CHECK_INT(shobj_collect(store, 1), 0);
        check(oid);
        CHECK_INT(shobj_check(store, NULL, NULL, NULL), 0);
        shobj_unpin(pins, pin);
        CHECK_INT(shobj_collect(store, 1), 0);
    } while (has_begun);
    CHECK(points > blocks);
    shobj_pins_close(pins);
}

int main(void)
{
    store = check_store();
    test_born(make_dict, check_dict, 2 * ITEMS);
    test_born(make_list, check_list, ITEMS);
    test_born(make_pair, check_pair, 2);
    shobj_close(store);
    return 0;
}
