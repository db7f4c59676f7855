/*
 * fuzz_heap.c: libFuzzer on damaged heaps.
 *
 * An input is a recipe: byte 0 chooses the shape of a sound heap and what is done with it (for reading, for writing, to be
 * repaired), bytes 1 and 2 seed the calls, the rest are the choices of what is damaged (../damage/recipe.c). Everything
 * happens in this process: the heap is written to a file in memory, opened, checked, walked, rendered, changed, closed.
 *
 * Not left to chance: that the calls end. Waits are bounded by the thread's deadline, and -timeout by libFuzzer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "damage.h"

static struct image images[SHAPE_COUNT];
static char path[64];

static void remove_file(void)
{
    unlink(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    snprintf(path, sizeof(path), "/dev/shm/fuzz_heap-%ld", (long)getpid());
    atexit(remove_file);
    shape_shrink(8);
    for (unsigned shape = 0; shape < SHAPE_COUNT; shape++)
        shape_make(shape, path, &images[shape]);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const struct effort effort = {.changes = 30, .values = 800, .text_bytes = 12000};
    if (bytes < 3)
        return -1;
    struct choices choices = {.bytes = data + 3, .left = bytes - 3};
    unsigned shape = data[0] % SHAPE_COUNT;
    enum exercise_mode mode = (enum exercise_mode)(data[0] / SHAPE_COUNT % 3);
    struct image damaged;
    image_copy(&images[shape], &damaged);
    recipe_apply(&choices, &damaged, NULL);
    if (!image_write(&damaged, path)) {
        perror(path);
        abort();
    }
    free(damaged.bytes);
    const char *wrong = exercise(path, mode, data[1] | (uint64_t)data[2] << 8, &effort, false);
    if (wrong != NULL) {
        fprintf(stderr, "fuzz_heap: shape %s: %s\n", shape_name(shape), wrong);
        abort();
    }
    return 0;
}
