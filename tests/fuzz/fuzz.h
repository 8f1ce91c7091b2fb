/* fuzz - what a fuzz target consists of: one function that takes any bytes, and seeds to start from.
 *
 * The frame (frame.c) calls it and holds it to the limits below. With clang and -DSTET_FUZZ=ON each target is
 * also a libFuzzer program; the plain program of every build (replay.c) runs files and seeds and then random
 * mutations. A property that does not hold ends the program through ASSERT, with the input written to
 * crash-TARGET in the working directory; what was found is mended and kept as a unit test of that code. */
#ifndef STET_TESTS_FUZZ_H
#define STET_TESTS_FUZZ_H

#include "proto/base/buf.h"

enum {
    FUZZ_INPUT_MAX = 1 << 20,
    FUZZ_MEMORY_MAX = 64 << 20, /* allocated at once, where a sanitizer counts it */
    FUZZ_CPU_MAX_MS = 1000      /* under libFuzzer and with --large only */
};

/* The target. */
void fuzz_one(const uint8_t *data, size_t size);
/* Appends seed number `index` to b; false when there is none of that number. */
bool fuzz_seed(size_t index, stet_buf *b);

/* What the last input cost. */
typedef struct fuzz_cost {
    int64_t memory; /* most bytes at once; 0 without a sanitizer */
    int64_t cpu_ms;
} fuzz_cost;
fuzz_cost fuzz_last_cost(void);

/* An input taken apart: every piece is a copy of exactly its size, so that a sanitizer sees a step too far.
 * Past the end come zeros and empty pieces. */
typedef struct fuzz_input {
    const uint8_t *at;
    size_t left;
    struct fuzz_copy *copies;
} fuzz_input;

fuzz_input fuzz_input_of(const uint8_t *data, size_t size);
void fuzz_input_done(fuzz_input *self); /* frees the pieces */
uint8_t fuzz_byte(fuzz_input *self);
uint64_t fuzz_number(fuzz_input *self, unsigned bytes); /* big-endian */
/* One byte says how many bytes; 255: the next three do. */
stet_str fuzz_piece(fuzz_input *self);
stet_str fuzz_rest(fuzz_input *self);
/* What fuzz_piece reads. */
void fuzz_put_piece(stet_buf *b, stet_str piece);

#endif
