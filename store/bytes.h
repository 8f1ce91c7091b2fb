/* bytes - numbers in keys and files: big-endian. */
#ifndef STET_STORE_BYTES_H
#define STET_STORE_BYTES_H

#include <stdint.h>
#include <string.h>

#define BYTES_OF(bits)                                                                                       \
    static inline void bytes_put_u##bits(uint8_t *at, uint##bits##_t n) {                                    \
        n = __builtin_bswap##bits(n);                                                                        \
        memcpy(at, &n, sizeof n);                                                                            \
    }                                                                                                        \
    static inline uint##bits##_t bytes_get_u##bits(const uint8_t *at) {                                      \
        uint##bits##_t n;                                                                                    \
        memcpy(&n, at, sizeof n);                                                                            \
        return __builtin_bswap##bits(n);                                                                     \
    }
BYTES_OF(16)
BYTES_OF(32)
BYTES_OF(64)
#undef BYTES_OF

#endif
