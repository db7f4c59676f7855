/*
 * recipe.c: how a sound heap is damaged.
 *
 * A recipe is one to eight strokes. Each has a place and an act. Half of the places are aimed: the superblock's words,
 * the stacks of slabs, wait buckets, process records, slots and their logs, slab descriptors, orecs and headers. The worst
 * damage looks sound: so many of the words that are written are those of other places, or differ from what was there by a
 * little, and the superblock's checksum is often made to fit.
 */
#include "damage.h"

#include <stdio.h>
#include <string.h>

#include "heap/layout.h"

#define STROKES_MAX 8u

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t choose(struct choices *c, uint64_t bound)
{
    if (bound <= 1)
        return 0;
    if (c->bytes == NULL)
        return next_random(&c->state) % bound;
    /* As few bytes as the bound needs: a mutation of the input then means one decision. */
    uint64_t value = 0;
    for (uint64_t reach = 1; reach < bound && c->left > 0; c->left--) {
        value = value << 8 | *c->bytes++;
        reach = reach > UINT64_MAX >> 8 ? UINT64_MAX : reach << 8;
    }
    return value % bound;
}

static uint64_t choose_word(struct choices *c)
{
    return choose(c, 1ULL << 32) << 32 | choose(c, 1ULL << 32);
}

/* ------------------------------------------------------------------------------------------ places */

static uint64_t word_get(const struct image *image, uint64_t off)
{
    uint64_t word = 0;
    if (off + 8 <= image->size)
        memcpy(&word, image->bytes + off, 8);
    return word;
}

static void word_put(struct image *image, uint64_t off, uint64_t word)
{
    if (off + 8 <= image->size)
        memcpy(image->bytes + off, &word, 8);
}

/* A word of a page that has something, and from there on the next one that is not 0. */
static uint64_t place_any(struct choices *c, const struct image *image)
{
    uint64_t page = image->pages[choose(c, image->page_count)];
    uint64_t at = page * SHM_PAGE_BYTES + 8 * choose(c, SHM_PAGE_BYTES / 8);
    for (unsigned i = 0; i < 16; i++)
        if (word_get(image, at + 8 * i) != 0)
            return at + 8 * i;
    return at;
}

static uint64_t slab_count(const struct image *image)
{
    return image->size >> SHM_SLAB_SHIFT;
}

static uint64_t first_slab(const struct image *image)
{
    uint64_t data_off = word_get(image, offsetof(struct shm_superblock, data_off));
    return data_off < image->size ? data_off >> SHM_SLAB_SHIFT : 0;
}

static uint64_t descriptor(uint64_t slab)
{
    return SHM_DIR_OFF + slab * sizeof(struct shm_slab);
}

/* A slab that is in use. */
static uint64_t place_slab(struct choices *c, const struct image *image)
{
    uint64_t first = first_slab(image), count = slab_count(image);
    uint64_t slab = first + choose(c, count - first);
    for (unsigned i = 0; i < 64 && word_get(image, descriptor(slab)) == 0; i++)
        slab = slab + 1 < count ? slab + 1 : first;
    return slab;
}

/* The start of what may be a block: 16-aligned, in a slab of nodes or boxes. */
static uint64_t place_block(struct choices *c, const struct image *image)
{
    uint64_t slab = place_slab(c, image);
    uint64_t at = (slab << SHM_SLAB_SHIFT) + 16 * choose(c, SHM_SLAB_BYTES / 16);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t header = word_get(image, at + 8);
        unsigned kind = SHM_HEADER_KIND(header), words = SHM_NODE_WORDS(header);
        if (kind != 0 && kind < SHM_BOX_FLOAT && words >= 4 && words <= SHM_NODE_WORDS_MAX)
            break;
        at += 16;
    }
    return at;
}

static uint64_t place_slot(struct choices *c, const struct image *image)
{
    uint64_t high = word_get(image, offsetof(struct shm_superblock, slot_high));
    return SHM_SLOT_OFF + choose(c, high < SHM_SLOT_MAX ? high + 1 : SHM_SLOT_MAX) * SHM_PAGE_BYTES;
}

static uint64_t place_aimed(struct choices *c, const struct image *image)
{
    switch (choose(c, 12)) {
    case 0: return 8 * choose(c, sizeof(struct shm_superblock) / 8);
    case 1: return offsetof(struct shm_superblock, slab_count) + 8 * choose(c, 32);
    case 2: return SHM_PARTIAL_OFF + 8 * choose(c, 84);
    case 3: return SHM_BUCKET_OFF + 8 * choose(c, SHM_BUCKET_COUNT);
    case 4: return SHM_PROCESS_OFF + 64 * choose(c, 4) + 8 * choose(c, 3);
    case 5: return place_slot(c, image) + 8 * choose(c, 40);
    case 6: return place_slot(c, image) + offsetof(struct shm_slot, log) + 8 * choose(c, SHM_LOG_INLINE_BYTES / 8);
    case 7: return descriptor(place_slab(c, image)) + 8 * choose(c, 5);
    case 8: return place_block(c, image);
    case 9: return place_block(c, image) + 8;
    case 10: return place_block(c, image) + 16;
    default: return place_block(c, image) + 16 + 8 * choose(c, 8);
    }
}

static uint64_t place(struct choices *c, const struct image *image)
{
    uint64_t at = choose(c, 2) ? place_aimed(c, image) : place_any(c, image);
    return (at + 8 <= image->size ? at : choose(c, image->size / 8) * 8) & ~7ULL;
}

/* ------------------------------------------------------------------------------------------ acts */

static uint64_t checksum_of(const struct image *image)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < offsetof(struct shm_superblock, checksum) && i < image->size; i++)
        h = (h ^ image->bytes[i]) * 0x100000001b3u;
    return h;
}

static uint64_t interesting(struct choices *c, const struct image *image, uint64_t at)
{
    uint64_t old = word_get(image, at);
    switch (choose(c, 14)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return UINT64_MAX;
    case 3: return 1ULL << choose(c, 64);
    case 4: return image->size - 8 * choose(c, 16);
    case 5: return at; /* itself */
    case 6: return at & ~(uint64_t)15;
    case 7: return place_block(c, image);
    case 8: return (uint64_t)4 << 48 | place_block(c, image);              /* the cell of an object */
    case 9: return (uint64_t)5 << 48 | (place_block(c, image) & ~7ULL);    /* the cell of a box */
    case 10: return SHM_OREC_LOCK(choose(c, 8), choose(c, 2) ? choose(c, 64) : choose(c, SHM_SEQ_MASK));
    case 11: return old + 1 + choose(c, 16);
    case 12: return old - 1 - choose(c, 16);
    default: return old ^ choose_word(c);
    }
}

/* A lock on a node by a slot that is in some phase: one that may never go away. */
static void lock_node(struct choices *c, struct image *image, uint64_t at)
{
    uint64_t slot_off = place_slot(c, image);
    unsigned slot = (unsigned)((slot_off - SHM_SLOT_OFF) / SHM_PAGE_BYTES);
    uint64_t seq = SHM_SEQ(word_get(image, slot_off)) + choose(c, 3);
    word_put(image, slot_off, SHM_STATE(seq, choose(c, 7)));
    word_put(image, slot_off + offsetof(struct shm_slot, process), choose(c, 4));
    word_put(image, at, SHM_OREC_LOCK(slot, SHM_SEQ(word_get(image, slot_off))));
}

static void cut(struct choices *c, struct image *image)
{
    static const uint64_t units[] = {1, 8, SHM_PAGE_BYTES, SHM_SLAB_BYTES};
    uint64_t unit = units[choose(c, 4)];
    image->size = choose(c, 4) ? image->size - choose(c, image->size / 2) / unit * unit
                               : choose(c, image->size) / unit * unit;
}

static void copy_range(struct choices *c, struct image *image, uint64_t from, uint64_t to)
{
    static const uint64_t sizes[] = {16, 64, 512, SHM_PAGE_BYTES, SHM_SLAB_BYTES};
    uint64_t bytes = sizes[choose(c, 5)];
    if (bytes >= SHM_PAGE_BYTES) {
        from -= from % bytes;
        to -= to % bytes;
    }
    if (from + bytes <= image->size && to + bytes <= image->size)
        memmove(image->bytes + to, image->bytes + from, bytes);
}

static void stroke(struct choices *c, struct image *image, char words[100])
{
    uint64_t at = place(c, image), other, length;
    unsigned act = (unsigned)choose(c, 12);
    snprintf(words, 100, "act %u at 0x%llx", act, (unsigned long long)at);
    switch (act) {
    case 0:
    case 1:
        image->bytes[at + choose(c, 8)] ^= (uint8_t)(1u << choose(c, 8));
        break;
    case 2:
        other = place(c, image);
        length = word_get(image, at);
        word_put(image, at, word_get(image, other));
        word_put(image, other, length);
        break;
    case 3:
        length = choose(c, 2) ? SHM_PAGE_BYTES : 8u << choose(c, 8);
        other = at & ~(length - 1);
        if (other + length <= image->size)
            memset(image->bytes + other, 0, length);
        break;
    case 4:
        word_put(image, at, choose_word(c));
        break;
    case 5:
    case 6:
    case 7:
        word_put(image, at, interesting(c, image, at));
        break;
    case 8:
    case 9:
        word_put(image, at, word_get(image, place(c, image)));
        break;
    case 10:
        copy_range(c, image, place(c, image), at);
        break;
    default:
        if (choose(c, 2))
            lock_node(c, image, place_block(c, image));
        else if (choose(c, 3) == 0)
            cut(c, image);
        break;
    }
}

void recipe_apply(struct choices *c, struct image *image, void (*describe)(const char *words))
{
    bool fits = choose(c, 4) != 0;
    unsigned count = 1;
    while (count < STROKES_MAX && choose(c, 2))
        count++;
    for (unsigned i = 0; i < count && image->size >= SHM_PAGE_BYTES; i++) {
        char words[100];
        stroke(c, image, words);
        if (describe != NULL)
            describe(words);
    }
    if (fits && image->size >= sizeof(struct shm_superblock))
        word_put(image, offsetof(struct shm_superblock, checksum), checksum_of(image));
}
