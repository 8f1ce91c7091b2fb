#include "proto/base/prng.h"

static uint64_t splitmix64(uint64_t *x) {
    uint64_t z = (*x += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, unsigned bits) {
    return (x << bits) | (x >> (64 - bits));
}

stet_prng stet_prng_of(uint64_t seed) {
    stet_prng self;
    for (size_t i = 0; i < COUNT_OF(self.state); i++)
        self.state[i] = splitmix64(&seed);
    return self;
}

uint64_t stet_prng_next(stet_prng *self) {
    uint64_t *s = self->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t stet_prng_below(stet_prng *self, uint64_t bound) {
    ASSERT(bound > 0);
    /* The lowest 2^64 mod bound values would make some results likelier: thrown away. */
    uint64_t least = (0 - bound) % bound;
    uint64_t x;
    do {
        x = stet_prng_next(self);
    } while (x < least);
    return x % bound;
}
