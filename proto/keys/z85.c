#include "proto/keys/z85.h"

static const char DIGITS[] =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

enum { BASE = sizeof DIGITS - 1 };
_Static_assert(BASE == 85, "85 digits");

void stet_z85_encode(const uint8_t *bytes, size_t size, char *ret_text) {
    ASSERT(size % 4 == 0);
    for (size_t at = 0; at < size; at += 4, ret_text += 5) {
        uint32_t value = (uint32_t)bytes[at] << 24 | (uint32_t)bytes[at + 1] << 16 |
                         (uint32_t)bytes[at + 2] << 8 | bytes[at + 3];
        for (int i = 4; i >= 0; i--, value /= BASE)
            ret_text[i] = DIGITS[value % BASE];
    }
    *ret_text = '\0';
}

bool stet_z85_decode(stet_str text, uint8_t *ret_bytes, size_t size) {
    ASSERT(size % 4 == 0);
    if (text.size != size / 4 * 5)
        return false;
    for (size_t at = 0; at < text.size; at += 5, ret_bytes += 4) {
        uint64_t value = 0;
        for (size_t i = 0; i < 5; i++) {
            const char *digit = memchr(DIGITS, text.data[at + i], BASE);
            if (digit == NULL)
                return false;
            value = value * BASE + (uint64_t)(digit - DIGITS);
        }
        if (value > UINT32_MAX)
            return false;
        for (int i = 3; i >= 0; i--, value >>= 8)
            ret_bytes[i] = (uint8_t)value;
    }
    return true;
}
