#include "store/log_format.h"

enum { BLOCK_BYTES = 32768, HEADER_BYTES = 7 };
static const uint32_t crc_polynomial = 0x82F63B78, crc_mask = 0xA282EAD8;
typedef enum piece_type { PIECE_FULL = 1, PIECE_FIRST, PIECE_MIDDLE, PIECE_LAST } piece_type;

static uint32_t crc32c(const uint8_t *bytes, size_t size) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? crc_polynomial : 0);
    }
    return ~crc;
}

static uint32_t masked(uint32_t crc) {
    return ((crc >> 15) | (crc << 17)) + crc_mask;
}

static uint32_t get_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Size of the whole piece at `at`, 0 when there is none. */
static size_t piece_at(const uint8_t *at, size_t left, size_t left_in_block, uint8_t *ret_type) {
    *ret_type = 0;
    if (left < HEADER_BYTES)
        return 0;
    size_t size = HEADER_BYTES + (size_t)at[4] + ((size_t)at[5] << 8);
    *ret_type = at[6];
    if (size > left || size > left_in_block || *ret_type < PIECE_FULL || *ret_type > PIECE_LAST)
        return 0;
    return get_u32(at) == masked(crc32c(at + 6, size - 6)) ? size : 0;
}

size_t stet_log_format_whole(stet_str file) {
    const uint8_t *bytes = (const uint8_t *)file.data;
    size_t at = 0, whole = 0;
    bool inside = false;
    while (at < file.size) {
        size_t left_in_block = BLOCK_BYTES - at % BLOCK_BYTES;
        if (left_in_block < HEADER_BYTES) {
            at += left_in_block;
            continue;
        }
        uint8_t type = 0;
        size_t size = piece_at(bytes + at, file.size - at, left_in_block, &type);
        bool begins = type == PIECE_FULL || type == PIECE_FIRST;
        if (size == 0 || begins == inside)
            break;
        at += size;
        inside = type == PIECE_FIRST || type == PIECE_MIDDLE;
        if (!inside)
            whole = at;
    }
    return whole;
}
