/* turn - the inside of stet_turn: what a message is handled with. Only the runtime includes this.
 *
 * There is one stet_turn per core. Its effects pointer names the list of the batch under construction and
 * moves to the other list when that batch is sealed. Everything durable is read and written through the
 * store's batch; what stands here is either an input (time, randomness, configuration) or a hint that may be
 * wrong in the safe direction. */
#ifndef STET_TURN_H
#define STET_TURN_H

#include "actors/runtime/effects.h"
#include "actors/runtime/engine.h"
#include "actors/runtime/recent_ids.h"

enum { TURN_COUNTERS_MAX = 128, TURN_ROW_FORMAT = 1 };

/* EVENT_HEADS [1, last, newestAtMs, swept up to] */
typedef struct stet_event_head {
    uint64_t last;
    int64_t newest_ms;
    uint64_t swept; /* events up to this number are gone */
} stet_event_head;

typedef struct turn_counter {
    const char *name;
    uint64_t value;
} turn_counter;

/* The events of one session in the batch under construction, not rows yet: see event_runs.c. */
typedef struct turn_run {
    stet_event_head stored; /* the head's row, before them */
    int64_t newest_ms;
    uint32_t count;
    uint32_t item_last; /* in the list of effects; each item names the one before it */
    effects_slice session;
    uint32_t next; /* in its bucket; TURN_NO_RUN at the end */
} turn_run;

enum { TURN_RUN_BUCKETS = 1024 };
#define TURN_NO_RUN UINT32_MAX

typedef struct turn_runs {
    turn_run *runs;
    uint32_t count, capacity;
    uint32_t events; /* of all runs */
    size_t bytes;    /* that their rows will have, at most */
    uint32_t buckets[TURN_RUN_BUCKETS];
    bool lost; /* a row of them found no memory: what was built must not be committed */
} turn_runs;

struct stet_turn {
    const stet_service *service;
    const stet_config *config;
    stet_store *store;
    stet_prng prng;
    stet_id_source ids;
    int64_t wall_ms, boot_ms;
    void *state;
    stet_effects *effects;
    uint32_t partition;
    stet_id instance;

    stet_id request_id; /* of the request being handled */
    stet_role role;

    void *send_struct; /* where the body of a send is decoded to be checked */
    stet_buf row;      /* scratch for row values */
    turn_runs runs;    /* events of this batch */
    recent_ids recent; /* of requests that were answered */

    turn_counter counters[TURN_COUNTERS_MAX];
    size_t counters_count;

    /* Hints. */
    bool broker_heard; /* lately, as of the beginning of the round */
    bool jobs_wake;
    int64_t timers_wall_ms; /* no timer is due before this */
};

/* Room for any command's struct. */
size_t stet_turn_struct_size_max(void);

/* Everything that is said about one of our own rows that cannot be read: a bug, or damage the store did not
 * see. */
static inline stet_code stet_turn_row_damaged(stet_error *e, const char *table) {
    return stet_error_set(e, STET_INTERNAL, "a row of table %s cannot be read; run the actor's check", table);
}
/* Reads a row that need not be there. */
NODISCARD
stet_code stet_turn_row_find(stet_turn *turn, const stet_key *key, stet_str *ret_value, bool *ret_found,
                             stet_error *e);
/* stet_batch_scan of the turn's batch. NULL: STET_BUSY, for want of memory. */
stet_scan *stet_turn_scan(stet_turn *turn, stet_str prefix, stet_str from, bool reverse, stet_error *e);
/* Opens a row [format, ...] for reading; false when it is not one of at least `items` items. */
bool stet_turn_row_open(stet_str value, uint32_t items, stet_mp_reader *ret);
/* The scratch buffer for a row of `items` items, its format already written. */
stet_buf *stet_turn_row_new(stet_turn *turn, uint32_t items);
void stet_turn_row_put(stet_turn *turn, const stet_key *key);

#endif
