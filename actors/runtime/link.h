/* link - the actor's side of its registration with the broker.
 *
 *   away ── ready, each interval ──> (welcome) ──> registered ── heartbeat, each interval
 *     ^                                               │
 *     └───── register, another broker's life, or ─────┘
 *            nothing heard for LINK_MISSED intervals
 *
 * Nothing here is durable and nothing waits for a commit: these messages say only that the actor is there.
 * Thread: the loop's. Time: boot_ms of the turn. */
#ifndef STET_LINK_H
#define STET_LINK_H

#include "actors/runtime/turn.h"

enum { LINK_MISSED = 4, LINK_INTERVAL_MIN_MS = 10, LINK_INTERVAL_MAX_MS = 60000 };

typedef struct stet_link {
    bool registered, leaving;
    int64_t interval_ms;
    int64_t heard_boot_ms; /* INT64_MIN / 2: never */
    int64_t next_boot_ms;  /* of the next ready or heartbeat */
    int64_t ready_boot_ms; /* of the last ready */
    int64_t pause_ms;      /* before the next ready when there is no connection yet */
    uint32_t starved;      /* messages in a row that no memory was found for */
    stet_id broker;
    uint64_t registrations;
} stet_link;

void stet_link_init(stet_link *self, const stet_config *config);
/* welcome, register, heartbeat, or an error that answers ready. *ret_fenced: another owner with a higher
 * epoch is registered. */
void stet_link_message(stet_link *self, const stet_turn *turn, const stet_envelope *envelope, stet_str body,
                       const stet_core_edge *edge, bool *ret_fenced);
/* Any message of the broker shows that it is there. */
void stet_link_heard(stet_link *self, const stet_turn *turn);
void stet_link_tick(stet_link *self, const stet_turn *turn, const stet_core_edge *edge);
void stet_link_leave(stet_link *self, const stet_turn *turn, const stet_core_edge *edge);
/* Not a moment's lack of memory, but one that lasts: the process cannot even say that it is there. */
bool stet_link_is_starved(const stet_link *self);
bool stet_link_is_heard(const stet_link *self, int64_t boot_ms);

#endif
