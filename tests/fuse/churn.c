/*
 * churn.c: a writer that never stops, for the tests of the mount to read beside.
 *
 *     churn STORE      changes STORE:/churn in transactions until it is killed; makes it first if it is not there
 *
 *   fixed   {"k0" .. "k199": int}    always the same keys; each transaction moves an amount between two values: the sum
 *                                    stays
 *   moving  {...}                    keys come and go, and "here" or "there" is in it, never both, never none
 *   list    [...]                    grows and shrinks
 *
 * Prints "ready" when there is something to be seen.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shobj.h>

enum { FIXED_COUNT = 200, MOVING_COUNT = 400, LIST_MAX = 100 };

typedef struct churn {
    shobj_oid fixed, moving, list;
    uint64_t seed;
} churn;

static uint64_t random_below(churn *c, uint64_t bound)
{
    c->seed = c->seed * 6364136223846793005u + 1442695040888963407u;
    return (c->seed >> 33) % bound;
}

static shobj_value str(const char *text)
{
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
}

static int set(shobj_store *store, shobj_oid dict, const char *name, shobj_value value)
{
    shobj_value text = str(name);
    shobj_key key;
    int rc = shobj_key_init(store, &text, &key);
    return rc < 0 ? rc : shobj_dict_set(store, dict, &key, &value);
}

static int get(shobj_store *store, shobj_oid dict, const char *name, shobj_value *ret)
{
    shobj_value text = str(name);
    shobj_key key;
    int rc = shobj_key_init(store, &text, &key);
    return rc < 0 ? rc : shobj_dict_get(store, dict, &key, ret);
}

static int del(shobj_store *store, shobj_oid dict, const char *name)
{
    shobj_value text = str(name);
    shobj_key key;
    int rc = shobj_key_init(store, &text, &key);
    if (rc == 0)
        rc = shobj_dict_del(store, dict, &key, NULL);
    return rc == SHOBJ_ENOTFOUND ? 0 : rc;
}

static int add_amount(shobj_store *store, shobj_oid dict, uint64_t number, int64_t amount)
{
    char name[24];
    shobj_value value;
    snprintf(name, sizeof(name), "k%" PRIu64, number);
    int rc = get(store, dict, name, &value);
    if (rc < 0)
        return rc;
    value.i += amount;
    return set(store, dict, name, value);
}

static int change(shobj_store *store, void *arg)
{
    churn *c = arg;
    char name[24];
    int64_t amount = (int64_t)random_below(c, 1000);
    shobj_value value = {.type = SHOBJ_INT, .i = amount};
    int rc = add_amount(store, c->fixed, random_below(c, FIXED_COUNT), amount);
    if (rc == 0)
        rc = add_amount(store, c->fixed, random_below(c, FIXED_COUNT), -amount);

    bool is_here = random_below(c, 2) == 0;
    snprintf(name, sizeof(name), "m%" PRIu64, random_below(c, MOVING_COUNT));
    if (rc == 0)
        rc = random_below(c, 2) == 0 ? set(store, c->moving, name, value) : del(store, c->moving, name);
    if (rc == 0)
        rc = del(store, c->moving, is_here ? "there" : "here");
    if (rc == 0)
        rc = set(store, c->moving, is_here ? "here" : "there", value);

    uint64_t count;
    if (rc == 0)
        rc = shobj_list_len(store, c->list, &count);
    if (rc != 0)
        return rc;
    if (count > 0 && (count >= LIST_MAX || random_below(c, 2) == 0))
        return shobj_list_del(store, c->list, (int64_t)random_below(c, count), NULL);
    return shobj_list_insert(store, c->list, (int64_t)random_below(c, count + 1), &value);
}

static int make(shobj_store *store, void *arg)
{
    churn *c = arg;
    shobj_oid all;
    shobj_value value;
    shobj_value zero = {.type = SHOBJ_INT};
    int rc = get(store, shobj_root(store), "churn", &value);
    if (rc == 0) {
        all = value.oid;
        const struct {
            const char *name;
            shobj_oid *oid;
        } parts[] = {{"fixed", &c->fixed}, {"moving", &c->moving}, {"list", &c->list}};
        for (size_t i = 0; rc == 0 && i < 3; i++) {
            rc = get(store, all, parts[i].name, &value);
            *parts[i].oid = value.oid;
        }
        return rc;
    }
    if (rc != SHOBJ_ENOTFOUND || (rc = shobj_dict_new(store, NULL, 0, &all)) < 0 ||
        (rc = shobj_dict_new(store, NULL, 0, &c->fixed)) < 0 || (rc = shobj_dict_new(store, NULL, 0, &c->moving)) < 0 ||
        (rc = shobj_list_new(store, NULL, 0, &c->list)) < 0)
        return rc;
    for (int i = 0; rc == 0 && i < FIXED_COUNT; i++) {
        char name[24];
        snprintf(name, sizeof(name), "k%d", i);
        rc = set(store, c->fixed, name, zero);
    }
    if (rc == 0)
        rc = set(store, c->moving, "here", zero);
    if (rc == 0)
        rc = set(store, all, "fixed", (shobj_value){.type = SHOBJ_OBJECT, .oid = c->fixed});
    if (rc == 0)
        rc = set(store, all, "moving", (shobj_value){.type = SHOBJ_OBJECT, .oid = c->moving});
    if (rc == 0)
        rc = set(store, all, "list", (shobj_value){.type = SHOBJ_OBJECT, .oid = c->list});
    return rc < 0 ? rc : set(store, shobj_root(store), "churn", (shobj_value){.type = SHOBJ_OBJECT, .oid = all});
}

int main(int argc, char **argv)
{
    churn c = {.seed = 1};
    shobj_store *store;
    if (argc != 2) {
        fputs("usage: churn STORE\n", stderr);
        return 2;
    }
    int rc = shobj_open(argv[1], NULL, &store);
    if (rc == 0)
        rc = shobj_run(store, make, &c);
    if (rc == 0) {
        puts("ready");
        fflush(stdout);
    }
    while (rc == 0)
        rc = shobj_run(store, change, &c);
    fprintf(stderr, "churn: %s\n", shobj_error_message());
    return 1;
}
