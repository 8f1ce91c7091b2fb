/* prng - deterministic random numbers for handlers and simulations (xoshiro256**, seeded by splitmix64).
 * Not for keys or secrets. Thread: one at a time. */
#ifndef STET_PRNG_H
#define STET_PRNG_H

#include "proto/base/base.h"

typedef struct stet_prng {
    uint64_t state[4];
} stet_prng;

stet_prng stet_prng_of(uint64_t seed);
uint64_t stet_prng_next(stet_prng *self);
/* Uniform in [0, bound); bound > 0. */
uint64_t stet_prng_below(stet_prng *self, uint64_t bound);

#endif
