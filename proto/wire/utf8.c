#include "proto/wire/json.h"

/* Bytes of the character that starts at `at`, 0 when it is not well-formed (Unicode 15, table 3-7). */
static size_t character_size(const uint8_t *at, const uint8_t *end) {
    uint8_t lead = at[0];
    size_t left = (size_t)(end - at);
    uint8_t low = 0x80, high = 0xbf; /* of the second byte: excludes overlong forms, surrogates, > U+10FFFF */
    size_t size;
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2)
        return 0;
    if (lead < 0xe0) {
        size = 2;
    } else if (lead < 0xf0) {
        size = 3;
        if (lead == 0xe0)
            low = 0xa0;
        else if (lead == 0xed)
            high = 0x9f;
    } else if (lead < 0xf5) {
        size = 4;
        if (lead == 0xf0)
            low = 0x90;
        else if (lead == 0xf4)
            high = 0x8f;
    } else {
        return 0;
    }
    if (left < size || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

/* Almost everything is ASCII: 32 bytes at a time, then eight. */
static const uint8_t *skip_ascii(const uint8_t *at, const uint8_t *end) {
    const uint64_t high_bits = UINT64_C(0x8080808080808080);
    uint64_t four[4];
    for (; end - at >= (ptrdiff_t)sizeof four; at += sizeof four) {
        memcpy(four, at, sizeof four);
        if (((four[0] | four[1] | four[2] | four[3]) & high_bits) != 0)
            break;
    }
    for (; end - at >= (ptrdiff_t)sizeof four[0]; at += sizeof four[0]) {
        memcpy(four, at, sizeof four[0]);
        if ((four[0] & high_bits) != 0)
            break;
    }
    while (at != end && *at < 0x80)
        at++;
    return at;
}

size_t stet_utf8_prefix(stet_str text) {
    const uint8_t *start = (const uint8_t *)text.data;
    const uint8_t *at = start, *end = text.size ? at + text.size : at;
    while ((at = skip_ascii(at, end)) != end) {
        size_t size = character_size(at, end);
        if (size == 0)
            break;
        at += size;
    }
    return (size_t)(at - start);
}

bool stet_utf8_valid(stet_str text) {
    return stet_utf8_prefix(text) == text.size;
}

size_t stet_utf8_cut(stet_str text, size_t size_max) {
    if (text.size <= size_max)
        return text.size;
    size_t size = size_max;
    /* Step back over continuation bytes, at most three: broken input is cut anywhere. */
    for (int steps = 0; steps < 3 && size > 0 && ((uint8_t)text.data[size] & 0xc0) == 0x80; steps++)
        size--;
    return size;
}
