/* fuzz - what a fuzz target consists of: one function that takes any bytes, and seeds to start from.
 *
 * With clang and -DSTET_FUZZ=ON each target is also a libFuzzer program; the plain program of every build
 * (replay.c) runs a corpus and then random mutations. A property that does not hold ends the program through
 * ASSERT, with the input written to crash-TARGET in the working directory; keep it in
 * tests/fuzz/corpus/TARGET/. */
#ifndef STET_TESTS_FUZZ_H
#define STET_TESTS_FUZZ_H

#include "proto/base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Appends seed number `index` to b; false when there is none of that number. */
bool fuzz_seed(size_t index, stet_buf *b);

#endif
