/*
 * test_str.c: which byte strings are text. All strings of up to 3 bytes are tried, and all of 4
 * that begin like a long code point.
 */
#include "check.h"

#include "object/str.h"

static size_t good_bytes(const void *text, size_t count)
{
    bool ascii;
    size_t good = sho_str_check(text, count, &ascii);
    CHECK(good <= count);
    bool expected = true;
    for (size_t i = 0; i < count; i++)
        expected = expected && ((const uint8_t *)text)[i] < 128;
    CHECK(ascii == expected);
    return good;
}

static void test_all_short(void)
{
    enum { ONE = 128, TWO = 0x800 - 0x80, THREE = 0x10000 - 0x800 };
    uint64_t counts[4] = {0};
    for (uint32_t word = 0; word < 1u << 24; word++) {
        uint8_t text[3] = {(uint8_t)(word >> 16), (uint8_t)(word >> 8), (uint8_t)word};
        counts[3] += good_bytes(text, 3) == 3;
        if (word < 1u << 16)
            counts[2] += good_bytes(text + 1, 2) == 2;
        if (word < 1u << 8)
            counts[1] += good_bytes(text + 2, 1) == 1;
    }
    CHECK_INT(counts[1], ONE);
    CHECK_INT(counts[2], ONE * ONE + TWO);
    CHECK_INT(counts[3], ONE * ONE * ONE + 2 * ONE * TWO + THREE);
}

/* Only the first byte of a long code point matters to how many there are: 0x10000 up to 0x10ffff.
 */
static void test_all_long(void)
{
    uint64_t count = 0;
    for (uint32_t first = 0xf0; first <= 0xff; first++) {
        for (uint32_t second = 0x70; second <= 0xd0; second++) {
            for (uint32_t rest = 0; rest < 1u << 16;
                 rest += first == 0xf0 || first == 0xf4 ? 1 : 13) {
                uint8_t text[4] = {(uint8_t)first, (uint8_t)second, (uint8_t)(rest >> 8),
                                   (uint8_t)rest};
                bool good = good_bytes(text, 4) == 4;
                bool expected = first <= 0xf4 && second >= (first == 0xf0 ? 0x90 : 0x80) &&
                                second <= (first == 0xf4 ? 0x8f : 0xbf) && text[2] >> 6 == 2 &&
                                text[3] >> 6 == 2;
                CHECK(good == expected);
                count += good && (first == 0xf0 || first == 0xf4);
            }
        }
    }
    CHECK_INT(count, 0x30000 + 0x10000);
}

/* A bad byte, and a character cut off, at every place of texts of many lengths. */
static void test_places(void)
{
    static const char smile[4] = {'\xf0', '\x9f', '\x98', '\x80'};
    char text[200];
    for (size_t count = 0; count < sizeof(text); count++) {
        memset(text, 'x', sizeof(text));
        CHECK_INT(good_bytes(text, count), count);
        for (size_t at = 0; at < count; at++) {
            text[at] = '\xff';
            CHECK_INT(good_bytes(text, count), at);
            text[at] = 'x';
        }
        if (count < 4)
            continue;
        for (size_t at = 0; at + 4 <= count; at++) {
            memcpy(text + at, smile, sizeof(smile));
            CHECK_INT(good_bytes(text, count), count);
            for (size_t cut = at + 1; cut < at + 4; cut++)
                CHECK_INT(good_bytes(text, cut), at);
            memset(text + at, 'x', 4);
        }
    }
}

static void test_surrogates(void)
{
    CHECK_INT(good_bytes("\xed\xa0\x80", 3), 3);
    CHECK_INT(good_bytes("\xed\xbf\xbf", 3), 3);
    CHECK_INT(good_bytes("\xed\xa0\xbd\xed\xb8\x80", 6), 6);
    CHECK_INT(good_bytes("\xc0\x80", 2), 0);
    CHECK_INT(good_bytes("", 0), 0);
}

int main(void)
{
    test_all_short();
    test_all_long();
    test_places();
    test_surrogates();
    return 0;
}
