/* internal - what the files of the broker's core share; nobody else includes it.
 *
 * One ticket is one message from its receipt to its end, and stands in exactly one list:
 *
 *        receipt ──> QUEUED (its lane's queue, FIFO) ──> DISPATCHED (its actor's outstanding list) ──> FREE
 *           └───────────── credit and an empty queue ─────────▲
 *
 * A lane is a service and partition: a queue, and the actor that serves it now, if any. Lanes are never
 * forgotten. Invariants:
 *  1. A ticket that is not `answered` is in the timing wheel, and one that is answered is not.
 *  2. QUEUED tickets own their frames; DISPATCHED ones own none (the actor's copy is the only one).
 *  3. actor.outstanding counts its DISPATCHED tickets, also those answered `timeout` meanwhile: the actor
 * still works on them, so its credit stays used until it answers or is gone.
 *  4. A queued message is never overtaken by a later one of its lane.
 * Tickets, actors, lanes and shares refer to each other by index, since their tables may move when they grow.
 */
#ifndef BROKER_INTERNAL_H
#define BROKER_INTERNAL_H

#include "broker/core.h"

enum {
    BROKER_LANES_MAX = 256,
    BROKER_ACTORS_MAX = 256,
    BROKER_TICKETS_MAX = 1 << 18,
    BROKER_CREDIT_MAX = 16384,
    BROKER_HASH_SIZE = 1024, /* of lanes and of actors; a power of two, more than twice their number */
    BROKER_SHARE_BUCKETS = 4096,
    BROKER_WHEEL_TICK_MS = 4, /* a deadline is answered at most so much late, never early */
    BROKER_WHEEL_BUCKETS = 4096,
    BROKER_WHEEL_WORDS = BROKER_WHEEL_BUCKETS / 64,
    BROKER_TIMEOUT_MAX_MS = 3600 * 1000,
    BROKER_MISSED_HEARTBEATS = 4,
    BROKER_UNAVAILABLE_RETRY_MS = 250,
    BROKER_SOFTWARE_SIZE_MAX = 32,
    BROKER_TOPIC_SIZE_MAX = 256,
    BROKER_EVENT_BYTES_MAX = 64 << 10,
    BROKER_LAST_BYTES_MAX = 64 << 20,
    BROKER_LAST_ACTORS_MAX = 16, /* per session */
    BROKER_REPLAY_EVENTS_MAX = 1024,
    BROKER_REPLAY_INTERVAL_MS = 100,
    BROKER_REPLAY_BUDGET = 16384, /* events per interval, all prefixes together */
    BROKER_REPLAYS_MAX = 64,      /* prefixes whose last replay is remembered */
    BROKER_REPORT_INTERVAL_MS = 5000,
    BROKER_LOST_MS = 30000 /* after the deadline: longer than an answer that is only late will take */
};
#define BROKER_NONE UINT32_MAX

/* X(C name, wire name in broker.stats) */
#define BROKER_COUNTERS(X)                                                                                   \
    X(REQUESTS, "requests")                                                                                  \
    X(REPLIES, "replies")                                                                                    \
    X(SENDS, "sends")                                                                                        \
    X(ACKS, "acks")                                                                                          \
    X(QUEUED, "queued")                                                                                      \
    X(BUSY, "busy")                                                                                          \
    X(TIMEOUTS, "timeouts")                                                                                  \
    X(UNAVAILABLE, "unavailable")                                                                            \
    X(REFUSED, "refused")                                                                                    \
    X(LOST, "lostMessages")                                                                                  \
    X(LATE, "lateAnswers")                                                                                   \
    X(FORGED, "forgedTickets")                                                                               \
    X(UNDELIVERABLE, "undeliverable")                                                                        \
    X(NO_MEMORY, "noMemory")                                                                                 \
    X(MALFORMED_FRONT, "malformedFront")                                                                     \
    X(MALFORMED_BACK, "malformedBack")                                                                       \
    X(MALFORMED_EVENTS, "malformedEvents")                                                                   \
    X(UNKNOWN_PEERS, "unknownPeers")                                                                         \
    X(REGISTERED, "registered")                                                                              \
    X(REPLACED, "replaced")                                                                                  \
    X(FENCED, "fenced")                                                                                      \
    X(AWAY, "away")                                                                                          \
    X(LEFT, "left")                                                                                          \
    X(EVENTS, "events")                                                                                      \
    X(EVENTS_REPLAYED, "eventsReplayed")                                                                     \
    X(REPLAYS_SKIPPED, "replaysSkipped")                                                                     \
    X(UNAUTHORIZED, "unauthorized")                                                                          \
    X(HANDSHAKES_REFUSED, "handshakesRefused")                                                               \
    X(HANDSHAKES_FAILED, "handshakesFailed")

typedef enum broker_counter {
#define X(name, wire) BROKER_COUNT_##name,
    BROKER_COUNTERS(X)
#undef X
        BROKER_COUNTERS_COUNT
} broker_counter;

/* A list of tickets, linked through broker_ticket.next and .prev. */
typedef struct broker_list {
    uint32_t head, tail, count;
} broker_list;

typedef enum broker_ticket_state { BROKER_FREE, BROKER_QUEUED, BROKER_DISPATCHED } broker_ticket_state;

typedef struct broker_ticket {
    uint32_t generation; /* bumped when freed, so that an old number finds nothing */
    uint8_t state;
    bool is_send;  /* from an actor's outbox: the answer goes to the back socket */
    bool answered; /* by the broker (timeout) while the actor still works on it */
    uint8_t role;
    broker_peer from;
    uint8_t command_size;
    char command[STET_COMMAND_SIZE_MAX]; /* sends only: their errors carry it */
    stet_id id;
    uint32_t slot, lane, actor, share;
    uint32_t next, prev;
    uint32_t wheel_bucket, wheel_next, wheel_prev;
    uint32_t bytes; /* of envelope and body */
    int64_t received_ms, deadline_ms;
    broker_frame envelope, body; /* QUEUED only */
} broker_ticket;

typedef struct broker_pending {
    broker_ticket *tickets;
    uint32_t capacity, free_head, used;
    uint32_t generation_seed;
    int64_t wheel_at; /* number of the last bucket that was swept: boot_ms / BROKER_WHEEL_TICK_MS */
    uint64_t wheel_bits[BROKER_WHEEL_WORDS];
    uint32_t wheel[BROKER_WHEEL_BUCKETS + 1]; /* heads; the last one holds the bucket being swept */
} broker_pending;

typedef struct broker_lane {
    uint8_t service_size;
    char service[STET_SERVICE_SIZE_MAX];
    uint32_t partition;
    uint32_t actor; /* BROKER_NONE: nobody serves it now */
    uint64_t epoch; /* the highest that was ever registered */
    broker_list queue;
    uint64_t queue_bytes;
    uint32_t drained, drain_rate; /* dispatched from the queue in this second; per second in the one before */
    int64_t drain_since_ms;
} broker_lane;

typedef struct broker_actor {
    bool used, leaving;
    broker_peer peer;
    uint32_t lane;
    uint64_t epoch;
    stet_id instance;
    uint32_t credit;
    broker_list outstanding;
    uint64_t outstanding_bytes;
    int64_t seen_ms;
    uint8_t software_size;
    char software[BROKER_SOFTWARE_SIZE_MAX];
} broker_actor;

typedef struct broker_registry {
    broker_lane lanes[BROKER_LANES_MAX];
    uint32_t lanes_count;
    broker_actor actors[BROKER_ACTORS_MAX];
    uint16_t lane_hash[BROKER_HASH_SIZE];  /* index + 1, 0: empty; linear probing */
    uint16_t actor_hash[BROKER_HASH_SIZE]; /* rebuilt when an actor goes, which is rare */
    int64_t away_check_ms;                 /* no actor can be away before */
} broker_registry;

/* What one peer holds of one lane's queue. Exists only while that is more than nothing. */
typedef struct broker_share {
    broker_peer peer;
    bool back;
    uint32_t lane, count, next;
    uint64_t bytes;
} broker_share;

typedef struct broker_shares {
    broker_share *shares;
    uint32_t capacity, free_head;
    uint32_t buckets[BROKER_SHARE_BUCKETS];
} broker_shares;

typedef struct broker_last broker_last; /* last_events.c */

struct broker_core {
    broker_options options;
    broker_edge edge;
    int64_t now_ms, started_ms, report_ms;
    uint64_t reported_malformed;
    uint64_t seed; /* for hashes over what peers choose */
    uint64_t counters[BROKER_COUNTERS_COUNT];
    broker_pending pending;
    broker_registry registry;
    broker_shares shares;
    broker_last *last;
    stet_buf envelope_buf, body_buf, route_buf; /* kept for reuse */
};

static inline void broker_count(broker_core *self, broker_counter counter) {
    self->counters[counter]++;
}
uint64_t broker_hash(uint64_t seed, const void *data, size_t size);
bool broker_peer_equal(const broker_peer *a, const broker_peer *b);

/* ---- pending.c: tickets, their lists and their deadlines ---- */
void broker_pending_init(broker_core *self);
void broker_pending_done(broker_core *self);
/* BROKER_NONE when there are too many or no memory is left. The caller fills in who, what and when. */
uint32_t broker_ticket_new(broker_core *self);
/* Takes it out of the wheel and frees its frames; the caller has taken it out of its list. */
void broker_ticket_free(broker_core *self, uint32_t index);
broker_ticket *broker_ticket_at(broker_core *self, uint32_t index);
/* What stands in the route. */
uint64_t broker_ticket_number(broker_core *self, uint32_t index);
uint32_t broker_ticket_find(broker_core *self, uint64_t number);
void broker_list_push(broker_core *self, broker_list *list, uint32_t index);
void broker_list_remove(broker_core *self, broker_list *list, uint32_t index);
void broker_wheel_insert(broker_core *self, uint32_t index);
void broker_wheel_remove(broker_core *self, uint32_t index);
/* Hands every ticket whose deadline has passed to broker_expired(). */
void broker_wheel_sweep(broker_core *self);
int64_t broker_wheel_next_ms(const broker_core *self); /* INT64_MAX: no deadline */

/* ---- queue.c: what waits for credit ---- */
void broker_shares_init(broker_core *self);
void broker_shares_done(broker_core *self);
/* Queues a ticket that owns its frames. STET_BUSY when the lane is full or its sender holds too much of it.
 */
NODISCARD
stet_code broker_queue_push(broker_core *self, uint32_t lane, uint32_t index, stet_error *e);
void broker_queue_remove(broker_core *self, uint32_t index);
uint32_t broker_queue_retry_ms(const broker_lane *lane);
void broker_queue_drained(broker_core *self, broker_lane *lane);
int64_t broker_queue_oldest_ms(broker_core *self); /* how long the oldest of all lanes has waited */

/* ---- registry.c: lanes and the life of actors ---- */
void broker_registry_init(broker_core *self);
uint32_t broker_lane_find(const broker_core *self, stet_str service, uint32_t partition);
stet_str broker_lane_service(const broker_lane *lane);
uint32_t broker_actor_find(const broker_core *self, const broker_peer *peer);
/* slot -> partition: one partition until there is a table. */
uint32_t broker_partition_of(const broker_core *self, stet_str service, uint32_t slot);
void broker_ready(broker_core *self, const broker_peer *from, const stet_envelope *ready);
void broker_heartbeat(broker_core *self, uint32_t actor, const stet_envelope *heartbeat);
void broker_leave(broker_core *self, uint32_t actor);
/* The actor is gone: its outstanding messages are answered unavailable, the queue stays. */
void broker_actor_gone(broker_core *self, uint32_t actor, const char *event, const char *message);
/* After an answer: a leaving actor with nothing outstanding is forgotten. */
void broker_actor_maybe_left(broker_core *self, uint32_t actor);
void broker_away_sweep(broker_core *self);
int64_t broker_away_next_ms(const broker_core *self);
void broker_ask_register(broker_core *self, const broker_peer *peer);

/* ---- route.c: dispatch and answers ---- */
/* A request or send that is fit to be routed. Takes the frames. */
void broker_route(broker_core *self, const broker_peer *from, stet_role role, const stet_envelope *envelope,
                  broker_frame envelope_frame, broker_frame body);
/* Dispatches from the queue while the actor has credit. */
void broker_drain(broker_core *self, uint32_t lane);
/* reply, error or ack of an actor. Takes the frames. */
void broker_answer(broker_core *self, uint32_t actor, const stet_envelope *envelope,
                   broker_frame envelope_frame, broker_frame route, broker_frame body);
/* The ticket's sender gets this error; the ticket itself stays as it is, but for `answered` and the wheel. */
void broker_ticket_refuse(broker_core *self, uint32_t index, stet_code code, uint32_t retry_ms,
                          const char *message);
void broker_expired(broker_core *self, uint32_t index);
/* An error to a client (command empty) or to an actor. */
void broker_error_front(broker_core *self, const broker_peer *to, stet_id id, const stet_error *error);
void broker_error_back(broker_core *self, const broker_peer *to, stet_id id, stet_str command,
                       const stet_error *error);
/* Encodes and sends; body may be empty for an actor only. */
void broker_send_front(broker_core *self, const broker_peer *to, const stet_envelope *envelope,
                       stet_str body);
void broker_send_back(broker_core *self, const broker_peer *to, const stet_envelope *envelope, stet_str body);
void broker_frame_free(broker_core *self, broker_frame frame);

/* ---- last_events.c ---- */
broker_last *broker_last_new(uint32_t sessions_max, uint64_t seed);
broker_last *broker_last_free(broker_last *self); /* always NULL */
void broker_last_put(broker_last *self, stet_str topic, stet_str payload);
/* Publishes again what matches, newest first; returns how many. */
uint32_t broker_last_replay(broker_last *self, stet_str prefix, uint32_t events_max, const broker_edge *edge);
/* Appends the JSON texts of a session's events as MessagePack strings; returns how many. */
uint32_t broker_last_session(broker_last *self, stet_str session_id, stet_buf *b);
/* Rate limit of replays: a prefix that comes again too early is replayed once, later, by the tick. */
void broker_last_subscribed(broker_core *self, stet_str prefix);
void broker_last_tick(broker_core *self);
int64_t broker_last_next_ms(const broker_core *self);

/* ---- builtin.c: the commands of service "broker" ---- */
void broker_builtin(broker_core *self, const broker_peer *from, stet_role role, const stet_envelope *request,
                    stet_str body);

/* ---- core.c ---- */
void broker_log(broker_core *self, stet_level level, const char *event, const char *message,
                const broker_actor *actor);
const char *broker_counter_name(broker_counter counter);

#endif
