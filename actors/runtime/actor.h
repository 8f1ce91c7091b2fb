/* actor - what an actor's author sees: a table that says what the actor is, and the turn its handlers work
 * on.
 *
 * A turn: drain the mailbox; admit each message (schema, role, duplicate); handle it; ONE synced commit; then
 * release the effects. Nothing leaves the process before the commit that justifies it.
 *
 * A handler is a deterministic function of its turn: clock, randomness, configuration, store and I/O come in
 * through it. It takes no lock, starts no thread, opens no socket, blocks on nothing. When it returns an
 * error, its writes and effects are undone and the error is the answer; the other messages of the turn stay.
 *
 * Thread: handlers run on the loop's thread. Memory: strings handed to a handler live until it returns;
 * everything given to an effect is copied. */
#ifndef STET_ACTOR_H
#define STET_ACTOR_H

#include "proto/base/buf.h"
#include "proto/base/config.h"
#include "proto/base/code.h"
#include "proto/base/exit_codes.h"
#include "proto/base/log.h"
#include "proto/base/prng.h"
#include "proto/wire/id.h"
#include "proto/wire/mp.h"
#include "proto/wire/schema.h"
#include "store/store.h"

typedef struct stet_turn stet_turn;
typedef struct stet_job stet_job;             /* actors/runtime/jobs.h */
typedef struct stet_job_queue stet_job_queue; /* actors/runtime/jobs.h */

/* ---- what comes in through the turn ---- */
int64_t stet_turn_wall_ms(const stet_turn *turn); /* one value for the whole turn */
int64_t stet_turn_boot_ms(const stet_turn *turn);
stet_prng *stet_turn_prng(stet_turn *turn);
stet_id stet_turn_new_id(stet_turn *turn); /* UUIDv7 */
const stet_config *stet_turn_config(const stet_turn *turn);
stet_batch *stet_turn_batch(stet_turn *turn);
void *stet_turn_state(
    const stet_turn *turn); /* the actor's volatile memory, from stet_service.state_size; lost in a crash */
/* True when the turn wrote or asked for more than one commit may hold: what this message did will be undone,
 * and its handler runs again in the next turn. A handler that changes volatile memory asks this first, or it
 * does so twice. */
bool stet_turn_overflowed(stet_turn *turn);
/* What this message does cannot be known or kept: it overflows. */
void stet_turn_fail(stet_turn *turn, bool starved);
/* It overflowed because there was no memory: the same may succeed later. */
bool stet_turn_starved(stet_turn *turn);
/* The request being handled; zero/empty outside of a request. */
stet_id stet_turn_request_id(const stet_turn *turn);
stet_role stet_turn_role(const stet_turn *turn);

/* ---- effects: collected, released after the commit, dropped on error ---- */

/* A durable message to another actor, in order per receiver, applied there once. body: a MessagePack map that
 * fits the command's schema (checked here, so that our own bug does not wait in an outbox). STET_BUSY when
 * the outbox is full, and when there is no memory: then the turn has overflowed too. */
NODISCARD
stet_code stet_turn_send(stet_turn *turn, const char *command, stet_str body, stet_error *e);

/* A progress event: gets the session's next number, is stored in this commit and published after it. */
typedef struct stet_event {
    stet_str session_id; /* required, 1..128 bytes */
    stet_str project_id; /* optional */
    stet_id job_id;      /* zero: none */
    const char *kind;    /* "draft", ... */
    const char *status;  /* "queued", "active", "progress", "done", ... */
    uint32_t attempt;
    double progress;  /* 0..1 */
    stet_str message; /* for people */
    stet_str extra;   /* optional MessagePack map whose fields are added to the JSON */
} stet_event;
NODISCARD
stet_code stet_turn_event(stet_turn *turn, const stet_event *event, stet_error *e);

/* A durable timer; setting a name again moves it. Fires once: stet_service.timer runs in a turn that also
 * deletes it. */
NODISCARD
stet_code stet_turn_timer(stet_turn *turn, stet_str name, int64_t due_wall_ms, stet_str payload,
                          stet_error *e);
NODISCARD
stet_code stet_turn_timer_cancel(stet_turn *turn, stet_str name, stet_error *e);

/* Who an external call or a piece of work belongs to. A result whose attempt is not the job's current one
 * never reaches the actor: it is refused and counted. `number` tells the tries of one attempt apart. */
typedef struct stet_call_ref {
    stet_id job_id;
    uint32_t attempt;
    uint32_t number;
} stet_call_ref;

typedef struct stet_http_header {
    const char *name;
    const char *value;
} stet_http_header;

/* Started after the commit that holds its intent (the job's attempt). http only to loopback, else https. */
typedef struct stet_http_request {
    const char *method; /* "GET", "POST", ... */
    const char *url;
    const stet_http_header *headers; /* values may be secrets: never logged */
    size_t headers_count;
    stet_str body;
    bool stream;        /* body pieces reach stet_service.call_data as they arrive, also of non-2xx answers */
    int64_t timeout_ms; /* whole call; 0: the setting */
} stet_http_request;
NODISCARD
stet_code stet_turn_call(stet_turn *turn, stet_call_ref ref, const stet_http_request *request, stet_error *e);
/* Also takes back a call asked for in this turn. No call_done follows. */
void stet_turn_call_cancel(stet_turn *turn, stet_call_ref ref);

typedef enum stet_http_failure {
    STET_HTTP_NONE,      /* there is a status */
    STET_HTTP_CONNECT,   /* not sent: name, connect or TLS */
    STET_HTTP_LOST,      /* sent, the answer was cut or never came: reset, half a body */
    STET_HTTP_TIMEOUT,   /* connect, total or stall time is over */
    STET_HTTP_TOO_LARGE, /* the body passed http.bodyMax */
    STET_HTTP_REFUSED    /* by us: scheme or address not allowed, bad URL */
} stet_http_failure;

typedef struct stet_http_result {
    stet_call_ref ref;
    stet_http_failure failure;
    uint32_t status;
    const char *reason; /* a sentence for people, without secrets; "" when there is none */
    stet_str body;      /* whole body; with `stream` only of what call_data did not get: nothing */
    stet_str content_type;
    stet_str request_id;    /* x-request-id, for the log */
    int64_t retry_after_ms; /* Retry-After or retry-after-ms, either form; -1: absent */
    int64_t elapsed_ms;
} stet_http_result;

typedef struct stet_http_data {
    stet_call_ref ref;
    uint32_t status;
    stet_str bytes;
} stet_http_data;

/* Blocking or heavy work on a worker thread; `work` must not touch actor state. It fills result (a
 * MessagePack value) and returns STET_OK, or an error. The result comes back as stet_service.work_done. */
typedef stet_code stet_work_fn(stet_str input, stet_buf *result, stet_error *e);
NODISCARD
stet_code stet_turn_work(stet_turn *turn, stet_call_ref ref, stet_work_fn *work, stet_str input,
                         stet_error *e);

/* A log line written after the commit. Fields are copied; ended by {.name = NULL}. */
void stet_turn_log(stet_turn *turn, stet_level level, const char *event, const char *message,
                   const stet_log_field *fields);
/* Adds to a counter of <service>.stats; name is kept by pointer. Volatile, counts also when the turn fails.
 */
void stet_turn_count(stet_turn *turn, const char *name, uint64_t amount);

/* ---- what an actor is ---- */
/* request: the command's cmd_... struct. reply: write one MessagePack map; empty means {}. */
typedef stet_code stet_handler_fn(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e);

typedef struct stet_handler {
    stet_command_index command;
    stet_handler_fn *handle;
} stet_handler;

/* Verifies rows for <service>.check: report what is wrong through stet_check_problem. */
typedef struct stet_checker stet_checker;
typedef struct stet_check_table {
    uint8_t table;
    stet_code (*check)(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value, stet_error *e);
} stet_check_table;
void stet_check_problem(stet_checker *checker, const char *kind, stet_str key, const char *format, ...)
    PRINTF(4, 5);

typedef struct stet_table_name {
    uint8_t table;
    const char *name; /* for inspect */
} stet_table_name;

typedef struct stet_service {
    const char *name;
    const stet_handler *handlers;
    size_t handlers_count;
    const stet_job_queue *queues;
    size_t queues_count;
    const stet_table_name *tables; /* the actor's own tables */
    size_t tables_count;
    const stet_check_table *checks;
    size_t checks_count;
    size_t state_size; /* zeroed volatile memory for stet_turn_state */

    /* Optional: settings into volatile memory (a template file, parsed numbers). stet_core_new calls it once,
     * before the first turn, on the zeroed state; the only hook that may read files. An error ends the start:
     * bad configuration. */
    stet_code (*load)(const stet_config *config, void *state, stet_error *e);

    /* All optional. Each runs in a turn of its own message; an error from them is our bug or the store's:
     * logged, undone. */
    stet_code (*start)(stet_turn *turn, stet_error *e); /* once after opening, before the first message */
    void (*stop)(void *state);                          /* frees what state points to */
    stet_code (*timer)(stet_turn *turn, stet_str name, stet_str payload, stet_error *e);
    stet_code (*call_data)(stet_turn *turn, stet_job *job, const stet_http_data *data, stet_error *e);
    stet_code (*call_done)(stet_turn *turn, stet_job *job, const stet_http_result *result, stet_error *e);
    stet_code (*work_done)(stet_turn *turn, stet_job *job, stet_call_ref ref, stet_code code, stet_str result,
                           stet_error *e);
    /* Adds reasons to <service>.health: append to reasons, which is an open MessagePack array of strings;
     * returns how many. */
    uint32_t (*health)(stet_turn *turn, stet_buf *reasons);
} stet_service;

/* The whole main() of an actor program: options, configuration, store, loop, safe shutdown. Returns the exit
 * code. */
int stet_actor_main(const stet_service *service, int argc, char **argv);

#endif
