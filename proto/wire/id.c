#include "proto/wire/id.h"

enum { RAND_A_MAX = 0xfff };

stet_id_source stet_id_source_of(uint64_t seed) {
    return (stet_id_source){.last_ms = 0, .counter = 0, .prng = stet_prng_of(seed)};
}

stet_id stet_id_next(stet_id_source *self, int64_t wall_ms) {
    uint64_t now_ms = wall_ms > 0 ? (uint64_t)wall_ms : 0;
    uint64_t random = stet_prng_next(&self->prng);
    if (now_ms > self->last_ms) {
        self->last_ms = now_ms;
        self->counter = (uint32_t)(stet_prng_next(&self->prng) & 0x7ff); /* the upper half is room to count */
    } else if (self->counter < RAND_A_MAX) {
        self->counter++;
    } else { /* more than fit in a millisecond: borrow from the next */
        self->last_ms++;
        self->counter = 0;
    }
    stet_id id;
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(self->last_ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | self->counter >> 8);
    id.bytes[7] = (uint8_t)self->counter;
    for (int i = 0; i < 8; i++)
        id.bytes[8 + i] = (uint8_t)(random >> (56 - 8 * i));
    id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
    return id;
}

bool stet_id_is_zero(stet_id id) {
    static const stet_id zero = {{0}};
    return stet_id_equal(id, zero);
}

bool stet_id_equal(stet_id a, stet_id b) {
    return memcmp(a.bytes, b.bytes, STET_ID_BYTES) == 0;
}

void stet_id_text(stet_id id, char ret_text[STET_ID_TEXT_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    char *at = ret_text;
    for (int i = 0; i < STET_ID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[id.bytes[i] >> 4];
        *at++ = digits[id.bytes[i] & 0xf];
    }
    *at = 0;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool stet_id_parse(stet_str text, stet_id *ret_id) {
    if (text.size != STET_ID_TEXT_SIZE - 1)
        return false;
    stet_id id;
    const char *at = text.data;
    for (int i = 0; i < STET_ID_BYTES; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *at++ != '-')
            return false;
        int high = hex_value(at[0]), low = hex_value(at[1]);
        if (high < 0 || low < 0)
            return false;
        id.bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret_id = id;
    return true;
}

bool stet_id_from_bytes(stet_str bytes, stet_id *ret_id) {
    if (bytes.size != STET_ID_BYTES)
        return false;
    memcpy(ret_id->bytes, bytes.data, STET_ID_BYTES);
    return true;
}
