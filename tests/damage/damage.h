/*
 * damage.h: what the programs that damage heaps have in common, the driver (damage.c) and the fuzzer (../fuzz).
 *
 *   shapes.c     sound heaps of several shapes, made the same way each time, as images in memory
 *   recipe.c     how choices (drawn from a seed, or the bytes of a fuzzer's input) become damage to a copy of an image
 *   exercise.c   opens what came of it, checks, walks, renders and changes it
 *
 * What is asked of the library is in exercise.c: a result out of the table of errors each time, and an end in time.
 */
#ifndef DAMAGE_H
#define DAMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shobj.h>

/* A heap file in memory. */
struct image {
    uint8_t *bytes;
    size_t size;
    uint32_t *pages; /* those of a sound image that are not all 0 */
    size_t page_count;
};

/* Where decisions come from: bytes that are used up, or (bytes NULL) a seed. */
struct choices {
    const uint8_t *bytes;
    size_t left;
    uint64_t state;
};

/* A number below bound (0 for bound 0). Used-up bytes give 0 for ever. */
uint64_t choose(struct choices *choices, uint64_t bound);

/* ---- shapes.c */

#define SHAPE_COUNT 10

/* A heap of the shape in a file at `path`, read into memory; the file is removed. Ends the program if that fails. */
void shape_make(unsigned shape, const char *path, struct image *ret_image);
const char *shape_name(unsigned shape);
/* From here on the large containers are smaller by this factor: for many short executions. */
void shape_shrink(unsigned by);

/* Keys that some of the dicts have. */
void shape_key(unsigned number, char ret_text[24]);

/* A copy to be damaged; its bytes are malloc()ed, its pages are those of the original. */
void image_copy(const struct image *image, struct image *ret_copy);
/* Writes an image to a new file at path. Holes stay holes. False with errno. */
bool image_write(const struct image *image, const char *path);

/* ---- recipe.c */

/* Damages an image by some strokes; its size may shrink. `describe` (may be NULL) is told each in words. */
void recipe_apply(struct choices *choices, struct image *image, void (*describe)(const char *stroke));

/* ---- exercise.c */

enum exercise_mode { EXERCISE_READ, EXERCISE_WRITE, EXERCISE_REPAIR };

struct effort {
    unsigned changes;    /* to make */
    unsigned values;     /* to visit on a walk, at most */
    unsigned text_bytes; /* of a rendering to look at */
};

/* All calls on the heap file at path. NULL: each of them ended as the header says; else what did not. REPAIR: repairs it
 * first; from then on it is sound, and if it was before it must have the same contents. */
const char *exercise(const char *path, enum exercise_mode mode, uint64_t seed, const struct effort *effort, bool is_sound);

#endif
