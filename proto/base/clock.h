/* clock - the only file that asks the operating system for time and for entropy.
 *
 * Edges read the clock and hand the value in; cores and handlers never call this. Wall time is for people and
 * for runAt; boot time (monotonic, counts suspend) is for timeouts, heartbeats and back-off inside one
 * process. */
#ifndef STET_CLOCK_H
#define STET_CLOCK_H

#include "proto/base/base.h"

#include <time.h>

int64_t stet_clock_wall_ms(void); /* since 1970-01-01T00:00:00Z */
int64_t stet_clock_boot_ms(void); /* CLOCK_BOOTTIME */
uint64_t stet_clock_boot_ns(void);
/* ns from now on CLOCK_MONOTONIC: the deadline of a pthread_cond_timedwait, which cannot count in boot time.
 */
struct timespec stet_clock_monotonic_in(uint64_t ns);
uint64_t stet_clock_seed(void); /* 64 bits of the kernel's entropy, to seed a stet_prng */

#endif
