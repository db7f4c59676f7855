/*
 * numbers.h: values of various types and sizes that each stand for a number, and tell whether they are whole.
 *
 * Some stand in the word that holds them, some in a block of their own which is freed when they are replaced: a reader
 * who sees a block that is not what it was reads no number.
 */
#ifndef NUMBERS_H
#define NUMBERS_H

#include "torture.h"

enum { PADDING_MAX = 60 };

/* What a value points to. */
struct value_room {
    char text[PADDING_MAX + 16];
    shobj_value items[2];
};

static inline size_t padded(uint32_t number, char *text)
{
    size_t padding = number / 8 % PADDING_MAX;
    snprintf(text, 9, "%08" PRIx32, number);
    memset(text + 8, 'a' + (int)(number % 26), padding);
    return 8 + padding;
}

/* The value that stands for a number. *room must live as long. */
static inline shobj_value value_of(uint32_t number, struct value_room *room)
{
    switch (number % 8) {
    case 0:
    case 1:
    case 2:
    case 3:
        return int_value(number);
    case 4:
        return (shobj_value){.type = SHOBJ_FLOAT, .f = number + 0.25};
    case 5:
    case 6:
        return (shobj_value){.type = number % 8 == 5 ? SHOBJ_STR : SHOBJ_BYTES,
                             .data = room->text,
                             .count = padded(number, room->text)};
    default:
        room->items[0] = int_value(number);
        room->items[1] = (shobj_value){.type = SHOBJ_STR, .data = room->text, .count = padded(number, room->text)};
        return (shobj_value){.type = SHOBJ_TUPLE, .items = room->items, .count = 2};
    }
}

static inline bool same_value(const shobj_value *a, const shobj_value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case SHOBJ_INT:
        return a->i == b->i;
    case SHOBJ_FLOAT:
        return a->f == b->f;
    case SHOBJ_TUPLE:
        return a->count == 2 && b->count == 2 && same_value(&a->items[0], &b->items[0]) &&
               same_value(&a->items[1], &b->items[1]);
    default:
        return a->count == b->count && memcmp(a->data, b->data, a->count) == 0;
    }
}

/* The number that a value stands for; 0 if it is not whole. */
static inline uint32_t number_of(const shobj_value *value)
{
    struct value_room room;
    char digits[9] = {0};
    uint32_t number = 0;
    if (value->type == SHOBJ_INT) {
        number = (uint32_t)value->i;
    } else if (value->type == SHOBJ_FLOAT) {
        number = value->f >= 0 && value->f < UINT32_MAX ? (uint32_t)value->f : 0;
    } else if (value->type == SHOBJ_TUPLE && value->count == 2 && value->items[0].type == SHOBJ_INT) {
        number = (uint32_t)value->items[0].i;
    } else if ((value->type == SHOBJ_STR || value->type == SHOBJ_BYTES) && value->count >= 8) {
        memcpy(digits, value->data, 8);
        number = (uint32_t)strtoul(digits, NULL, 16);
    }
    shobj_value whole = value_of(number, &room);
    return same_value(value, &whole) ? number : 0;
}

#endif
