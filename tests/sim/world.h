/* world - simulated time, the queue of events, the one source of randomness, and the trace.
 *
 * Nothing in the simulation reads a clock, starts a thread or asks the system for randomness: everything that
 * happens is an event of this queue, ordered by (time, order of asking), and every choice comes from one
 * generator. So a seed decides everything, and the hash over the trace says whether two runs were the same
 * run. Wall time and boot time are two clocks: faults move the first, never the second. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdio.h>

#include "proto/base/base.h"
#include "proto/base/prng.h"
#include "proto/wire/id.h"

enum { WORLD_LAST_LINES = 60, WORLD_LINE_SIZE = 200, WORLD_TEXT_SIZE = 512 };

typedef void world_event_fn(void *object, uint64_t number);

typedef struct world_event {
    int64_t at_ms;
    uint64_t order;
    world_event_fn *fn;
    void *object;
    uint64_t number; /* whatever the object needs to see that an event is stale */
} world_event;

typedef struct world {
    stet_prng prng;
    stet_id_source ids;
    int64_t boot_ms;
    int64_t wall_offset_ms;
    int64_t wall_frozen_ms; /* the wall clock stands here; 0: it goes */

    world_event *heap;
    size_t count, capacity;
    uint64_t order;

    uint64_t hash;
    bool telling; /* keep the last lines; and all of them when there is a file */
    FILE *file;
    char lines[WORLD_LAST_LINES][WORLD_LINE_SIZE];
    uint64_t lines_count;

    bool failed;
    int64_t failed_ms;
    char violation[WORLD_TEXT_SIZE];
} world;

void world_init(world *self, uint64_t seed);
void world_done(world *self);

void world_at(world *self, int64_t at_ms, world_event_fn *fn, void *object, uint64_t number);
/* Runs the next event; false when there is none up to this time (the clock then stands there). */
bool world_step(world *self, int64_t until_ms);

int64_t world_wall_ms(const world *self);
uint64_t world_below(world *self, uint64_t bound); /* 0 when bound is 0 */
bool world_chance(world *self, uint32_t per_mille);
/* Uniform in [least, most]. */
int64_t world_between(world *self, int64_t least, int64_t most);
/* Mostly near least, seldom up to most. */
int64_t world_skewed(world *self, int64_t least, int64_t most);

/* One line of the trace: who did what with which numbers. Part of the hash. */
void world_tell(world *self, const char *who, const char *what, uint64_t a, uint64_t b, stet_str text);
/* The run has shown a violation; the first one counts. */
void world_fail(world *self, const char *format, ...) PRINTF(2, 3);

uint64_t world_hash(uint64_t hash, const void *data, size_t size);

#endif
