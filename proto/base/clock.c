#include "proto/base/clock.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

static struct timespec now(clockid_t clock) {
    struct timespec t = {0};
    int rc = clock_gettime(clock, &t);
    ASSERT(rc == 0);
    return t;
}

int64_t stet_clock_wall_ms(void) {
    struct timespec t = now(CLOCK_REALTIME);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t stet_clock_boot_ms(void) {
    struct timespec t = now(CLOCK_BOOTTIME);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t stet_clock_boot_ns(void) {
    struct timespec t = now(CLOCK_BOOTTIME);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct timespec stet_clock_monotonic_in(uint64_t ns) {
    struct timespec until = now(CLOCK_MONOTONIC);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    return until;
}

uint64_t stet_clock_seed(void) {
    uint64_t seed = 0;
    ssize_t size;
    do {
        size = getrandom(&seed, sizeof seed, 0);
    } while (size < 0 && errno == EINTR);
    ASSERT(size == (ssize_t)sizeof seed); /* up to 256 bytes are never cut */
    return seed;
}
