/* sim - a whole system in one thread: the real broker core, real actor cores on stores in memory, real client
 * cores, joined by simulated connections (net.h) and one simulated clock (world.h), under a mix of faults
 * that the seed chooses.
 *
 *   workload.c ──> node_client.c ═══ net.c ═══ node_broker.c ═══ net.c ═══ node_actor.c ──> http_peer.c
 *       │              │ what was asked, told, seen                            │ what left, what is durable
 *       └──────────────┴────────────────> history.c <──────────────────────────┘          finale.c reads the
 * end └──> checker.c docs/testing.md says how to run a seed again, add a fault, an invariant or a planted
 * bug. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "actors/runtime/core.h"
#include "proto/client/core.h"
#include "proto/client/merge.h"
#include "tests/sim/history.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"

enum {
    SIM_ACTORS = 4,
    SIM_PROBE = 0,
    SIM_SINK = 3,
    SIM_SLOTS = SIM_ACTORS + 4, /* with those that have been replaced */
    SIM_CLIENTS_MAX = 4,
    SIM_READERS = 6,
    SIM_LANES_MAX = 3, /* of one client: each does one thing after the other */
    SIM_OPS_MAX = 16384,
    SIM_OPS_NEW = 4096,   /* new things; */
    SIM_OPS_WORK = 12288, /* these asked again; the rest is for the end */
    SIM_JOBS_MAX = 256,
    SIM_NAME_SIZE = 24,
    SIM_LONGEST_MS = 3600000, /* what is kept for longer than a run is there at its end */
    SIM_PROJECTS = 3,
    SIM_SESSIONS = 3,
    SIM_ACCOUNTS = 4
};

typedef enum sim_profile { SIM_SAFETY, SIM_LIVENESS } sim_profile;

/* X(C name): everything that can go wrong; each is counted, so that a run can say that it really happened. */
#define SIM_FAULTS(X)                                                                                        \
    X(broker_kill)                                                                                           \
    X(broker_pause)                                                                                          \
    X(actor_kill)                                                                                            \
    X(actor_kill_before_commit)                                                                              \
    X(actor_kill_commit_lost)                                                                                \
    X(actor_kill_commit_kept)                                                                                \
    X(actor_kill_in_release)                                                                                 \
    X(actor_kill_in_recovery)                                                                                \
    X(actor_pause)                                                                                           \
    X(actor_leave)                                                                                           \
    X(commit_slow)                                                                                           \
    X(commit_unknown)                                                                                        \
    X(commit_unavailable)                                                                                    \
    X(read_error)                                                                                            \
    X(disk_full)                                                                                             \
    X(rolled_back)                                                                                           \
    X(taken_over)                                                                                            \
    X(actor_memory)                                                                                          \
    X(broker_memory)                                                                                         \
    X(client_memory)                                                                                         \
    X(client_kill)                                                                                           \
    X(reader_kill)                                                                                           \
    X(connection_break)                                                                                      \
    X(connection_half_open)                                                                                  \
    X(partition)                                                                                             \
    X(partition_one_way)                                                                                     \
    X(stranger)                                                                                              \
    X(clock_hour)                                                                                            \
    X(clock_year)                                                                                            \
    X(clock_frozen)                                                                                          \
    X(clock_backwards)                                                                                       \
    X(http_status)                                                                                           \
    X(http_connect)                                                                                          \
    X(http_lost)                                                                                             \
    X(http_cut)                                                                                              \
    X(http_timeout)                                                                                          \
    X(http_garbage)                                                                                          \
    X(http_late)                                                                                             \
    X(rolled_back_refused)                                                                                   \
    X(taken_over_fenced)                                                                                     \
    X(message_lost)                                                                                          \
    X(message_doubled)                                                                                       \
    X(queue_full)                                                                                            \
    X(visit)                                                                                                 \
    X(request_empty)                                                                                         \
    X(request_large)                                                                                         \
    X(hot_key)

typedef enum sim_fault {
#define X(name) FAULT_##name,
    SIM_FAULTS(X)
#undef X
        FAULTS_COUNT
} sim_fault;

typedef struct sim sim;
typedef struct sim_actor sim_actor;

/* ---- the broker ---- */
typedef struct sim_broker {
    sim *sim;
    broker_core *core;
    uint64_t life;
    int64_t paused_until_ms;
    int64_t wake_ms;          /* of the wake that is planned */
    const sim_actor *speaker; /* whose message it handles */
    memory_fault memory;
} sim_broker;

void broker_node_init(sim *s);
void broker_node_start(sim *s);
void broker_node_kill(sim *s);
void broker_node_pause(sim *s, int64_t ms);
int64_t broker_node_deliver(void *node, net_link *link, net_packet *packet);

/* ---- actors ---- */
/* Where an actor is to die, the n-th time it comes there. */
typedef enum actor_doom {
    DOOM_NONE,
    DOOM_BEFORE_COMMIT,
    DOOM_COMMIT_LOST,
    DOOM_COMMIT_KEPT,
    DOOM_IN_RELEASE,
    DOOM_IN_RECOVERY
} actor_doom;

typedef struct actor_result { /* of a call, waiting for a round */
    struct actor_result *next;
    bool done;
    stet_call_ref ref;
    stet_http_failure failure;
    uint32_t status;
    int64_t retry_after_ms;
    size_t size;
    char bytes[];
} actor_result;

struct sim_actor {
    sim *sim;
    const stet_service *service;
    const char *name;
    stet_store *store;
    stet_core *core; /* NULL: dead */
    uint64_t life;
    bool wanted; /* may run now; else it appears later, or has gone for good */
    bool stopping;
    int64_t paused_until_ms;
    net_link back, events;
    net_packet *mailbox, **mailbox_end;
    uint32_t mailbox_count;
    actor_result *results, **results_end;
    bool committing;
    int64_t commit_done_ms;
    int64_t round_ms; /* of the round that is planned; INT64_MAX: none */
    actor_doom doom;
    uint64_t doom_left;
    bool dying;          /* nothing leaves any more, the round ends in death */
    bool failing;        /* a store error was made: ending with an error is right */
    uint64_t disk_fulls; /* the last one ends */
    memory_fault memory;
    bool starved;      /* memory has run out in this life: ending with an error is right */
    bool replaced;     /* another owner has its place */
    stet_store *kept;  /* an older copy */
    stet_store *truth; /* while the older copy is in its place */
    uint64_t starts, deaths;
};

sim_actor *actor_node_init(sim *s, const stet_service *service, stet_store *store);
void actor_node_done(sim_actor *self);
void actor_node_start(sim_actor *self, int64_t after_ms);
/* kept: the commit in flight has become durable, but nobody was told. */
void actor_node_kill(sim_actor *self, bool kept);
void actor_node_round_at(sim_actor *self, int64_t at_ms);
void actor_node_pause(sim_actor *self, int64_t ms);
/* An event: what made the disk full for the n-th time is gone. */
void actor_node_room_again(void *object, uint64_t number);

/* Its first commit is that of a new owner. */
void actor_node_begin(sim_actor *self);

/* ---- owners ---- */
bool owners_take_over(sim *s);
bool owners_roll_back(sim *s, sim_actor *self);
void owners_give_back(sim_actor *self);
/* The broker has told this one that it is the owner; has passed on an answer of it; has died. */
void owners_welcomed(sim *s, const sim_actor *actor);
void owners_answered(sim *s, const sim_actor *actor);
void owners_broker_died(sim *s);

extern const stet_service sim_counter_service, sim_sink_service;
/* What the counter service is asked for, read from its own rows at the end. */
enum { SIM_TABLE_COUNTERS = 64, SIM_TABLE_APPLIED = 65, SIM_TABLE_TAKEN = 66, SIM_TABLE_FIRED = 67 };

/* ---- the provider ---- */
typedef struct http_call {
    struct http_call *next;
    sim_actor *actor;
    uint64_t life;
    stet_call_ref ref;
    uint32_t stream; /* name of the project */
    uint64_t number;
    uint64_t token;
    stet_buf text; /* the whole answer */
    size_t given;
    stet_http_failure failure;
    uint32_t status;
    int64_t retry_after_ms;
    uint32_t pieces_left;
    bool open;
    bool late; /* taken back, and answers all the same */
} http_call;

void http_peer_start(sim_actor *actor, stet_call_ref ref, const stet_http_request *request);
void http_peer_cancel(sim_actor *actor, stet_call_ref ref);
void http_peer_actor_died(sim_actor *actor);
void http_peer_done(sim *s);
/* The number behind these two characters; 0: there is none. */
uint64_t http_peer_mark(stet_str text, const char *before);
/* The model is asked for plain text: nothing of it is ever garbled, since nobody could tell. */
bool http_peer_is_plain(const sim *s);

/* ---- clients ---- */
typedef enum op_state { OP_ASKED, OP_OK, OP_REFUSED, OP_UNKNOWN } op_state;

typedef struct sim_op {
    stet_id id;
    const char *command;
    stet_str body; /* owned */
    uint64_t body_hash;
    op_state state;
    uint32_t client, lane;
    uint32_t stream; /* key, session or project */
    uint64_t number; /* what it writes, for those that do */
    bool is_write;
    bool repeat; /* of an earlier one: same id */
    bool steal;  /* the id of an earlier one, for something else */
    struct sim_op *of;
    uint32_t askers, thieves; /* of its id: clients, as bits */
} sim_op;

typedef struct sim_lane {
    struct sim_client *client;
    uint32_t number;
    sim_op *op; /* under way */
    uint64_t asked;
    uint64_t put_number; /* of its own key */
    sim_op *unresolved;  /* to be asked again before anything else */
} sim_lane;

typedef struct sim_client {
    sim *sim;
    uint32_t number;
    char name[SIM_NAME_SIZE];
    client_core *core;
    uint64_t life;
    net_link front;
    uint32_t first_connection; /* of this life */
    memory_fault memory;
    int64_t wake_ms;
    sim_lane lanes[SIM_LANES_MAX];
} sim_client;

/* Reads one session of one actor through the merge of live and stored events. */
typedef struct sim_reader {
    sim *sim;
    uint32_t number;
    char name[SIM_NAME_SIZE];
    const char *service;
    char session[SIM_NAME_SIZE];
    uint32_t stream; /* name of service and session */
    sim_client *client;
    net_link events;
    uint32_t first_connection; /* of this life */
    client_merge merge;
    uint64_t life;
    uint64_t delivered; /* kept by whoever reads */
    int64_t wake_ms;
    stet_buf scratch;
} sim_reader;

void client_node_init(sim *s, sim_client *self, uint32_t number, const char *name);
void client_node_kill(sim_client *self);
void client_node_done(sim_client *self);
/* Asks; the answer comes to workload_answered. False: it could not be asked now. */
bool client_node_ask(sim_client *self, sim_op *op, uint32_t timeout_ms, client_done_fn *done, void *context);
void client_node_plan(sim_client *self);
void reader_node_init(sim *s, uint32_t number, sim_client *client, const char *service, const char *session);
void reader_node_kill(sim_reader *self);
void reader_node_done(sim_reader *self);

/* ---- what clients do ---- */
void workload_start(sim *s);
void workload_answered(void *context, stet_id id, const client_result *result);
/* Faults are over: no new work, what is unknown is asked again, what was stopped goes on. */
void workload_finish(sim *s);
bool workload_resting(sim *s);
void workload_done(sim *s);

/* ---- what goes wrong ---- */
typedef struct sim_mix {
    sim_profile profile;
    int64_t length_ms; /* of the part with faults */
    int64_t think_ms;  /* between two things of a lane */
    uint32_t clients, lanes;
    int64_t commit_ms, commit_slow_ms;
    uint32_t commit_slow; /* per mille */
    uint32_t weights[FAULTS_COUNT];
    uint32_t weights_sum;
    int64_t fault_every_ms;
    net_rates rates;
    uint32_t http_late;   /* per mille of calls that are taken back */
    uint32_t http_faults; /* per mille of calls */
    int64_t http_ms;
    uint32_t steal, repeat;   /* per mille of requests */
    uint32_t second_thoughts; /* the same: a job is cancelled, and wanted again */
    bool receivers_late;
    bool hot;              /* most is about one project, one key */
    uint32_t large, empty; /* per mille of requests */
    uint32_t visits;       /* of clients that come once */
    int64_t visit_ms;
} sim_mix;

void faults_choose(sim *s);
void faults_start(sim *s);
void faults_end(sim *s);
void fault_count(sim *s, sim_fault fault);
const char *fault_name(sim_fault fault);

/* ---- the end ---- */
/* How many rows of some kind still wait for something, and of which. */
uint64_t finale_waiting(sim *s, const char **ret_what);
/* How far each session is, before anything is stopped. */
void finale_heads(sim *s);
void finale_read(sim *s);

typedef struct finale_count { /* how often a message is found somewhere */
    stet_id id;
    uint64_t number;
} finale_count;

typedef struct sim_totals {
    uint64_t seeds, violations;
    int64_t simulated_ms, clock_jumped_ms;
    int64_t rest_ms_max; /* from the last fault until nothing waited any more */
    uint64_t rests_late;
    uint64_t requests, answers, refusals, unknown, effects, events_seen, messages, commits, starts, taken;
    uint64_t faults[FAULTS_COUNT];
} sim_totals;

struct sim {
    world world;
    net net;
    sim_mix mix;
    stet_config *config;
    bool calm;      /* the faults are over */
    bool working;   /* clients begin new things */
    bool finishing; /* they only ask for what is open */
    uint64_t resumes_left;
    sim_broker broker;
    sim_actor *actors[SIM_ACTORS], slots[SIM_SLOTS];
    uint32_t slots_count;
    sim_actor *replaced; /* still lives, although another owner has its place */
    sim_client clients[SIM_CLIENTS_MAX];
    sim_client visitor; /* many clients, one after the other */
    sim_reader readers[SIM_READERS];
    sim_op *ops;
    size_t ops_count;
    http_call *calls;
    uint64_t calls_token;
    stet_id jobs[SIM_JOBS_MAX];
    stet_id cancelled; /* the last one; zero: none */
    size_t jobs_count;
    uint64_t documents[SIM_PROJECTS]; /* the version last heard of */
    uint64_t marks;                   /* of documents, so that each text is its own */
    size_t large_count;               /* of bodies that are kept */
    size_t unknown;                   /* writes that have come to no answer */
    int64_t wall_offset_ms;           /* of the right clock */
    bool clock_was_ahead;             /* so that something may be due only after the end */
    uint64_t waiting, accounts, accounts_sum;
    finale_count *at_counter, *at_sink; /* sorted by id */
    size_t at_counter_count, at_sink_count;
    history history;
    sim_totals totals;
};

typedef struct sim_options {
    uint64_t seed;
    int profile; /* of sim_profile; -1: the seed chooses */
    bool telling;
    FILE *trace;
} sim_options;

sim *sim_new(void);
sim *sim_free(sim *self); /* always NULL */
/* Runs one seed. True when no promise was broken; else world.violation says which. Totals add up over runs.
 */
bool sim_run(sim *s, const sim_options *options);

#endif
