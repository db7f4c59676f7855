/*
 * ptrmap.h: a hash table from object addresses to pointers, for the memory of one conversion ("this one was met
 * before"). The caller keeps the objects alive. Nothing is ever taken out.
 */
#ifndef SHOPY_PTRMAP_H
#define SHOPY_PTRMAP_H

#include "state.h"

struct ptrmap_entry {
    const void *key;
    void *value;
};

struct ptrmap {
    struct ptrmap_entry *entries; /* a power of two, at most half full; NULL while empty */
    size_t mask;
    size_t count;
};

static inline size_t ptrmap_slot(const struct ptrmap *map, const void *key)
{
    size_t i = (size_t)(((uintptr_t)key >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 24) & map->mask;
    while (map->entries[i].key != NULL && map->entries[i].key != key)
        i = (i + 1) & map->mask;
    return i;
}

/* NULL if absent. */
static inline void *ptrmap_get(const struct ptrmap *map, const void *key)
{
    return map->entries ? map->entries[ptrmap_slot(map, key)].value : NULL;
}

static inline int ptrmap_grow(struct ptrmap *map)
{
    struct ptrmap old = *map;
    size_t size = old.entries ? (old.mask + 1) * 2 : 16;
    map->entries = PyMem_Calloc(size, sizeof map->entries[0]);
    if (map->entries == NULL) {
        *map = old;
        PyErr_NoMemory();
        return -1;
    }
    map->mask = size - 1;
    for (size_t i = 0; old.entries != NULL && i <= old.mask; i++) {
        if (old.entries[i].key != NULL)
            map->entries[ptrmap_slot(map, old.entries[i].key)] = old.entries[i];
    }
    PyMem_Free(old.entries);
    return 0;
}

/* Adds or replaces. -1 with MemoryError. */
static inline int ptrmap_put(struct ptrmap *map, const void *key, void *value)
{
    if ((map->entries == NULL || map->count * 2 > map->mask) && ptrmap_grow(map) < 0)
        return -1;
    struct ptrmap_entry *entry = &map->entries[ptrmap_slot(map, key)];
    map->count += entry->key == NULL;
    *entry = (struct ptrmap_entry){key, value};
    return 0;
}

static inline void ptrmap_free(struct ptrmap *map)
{
    PyMem_Free(map->entries);
    *map = (struct ptrmap){0};
}

#endif
