/* core - the request side of the client without sockets: who waits for which answer, when to send again, when
 * to give up.
 *
 * A request is sent at once and stays in the table until its answer, or its deadline. It is sent again with
 * the same id
 *   - when the connection to a broker was lost and is back (client_core_reconnected),
 *   - after `busy`, `unavailable` or the broker's `timeout`: after retryAfterMs, at least a doubling
 * back-off,
 *   - after silence: SILENCE_FIRST_MS, doubling (a lost message, a broker that died unseen).
 * Any other answer is handed out. Past the deadline `done` is called without an answer.
 * Thread: one. Time: boot milliseconds, handed in. Memory: owns copies of command and body. */
#ifndef STET_CLIENT_CORE_H
#define STET_CLIENT_CORE_H

#include "proto/base/code.h"
#include "proto/wire/envelope.h"

enum { CLIENT_PENDING_MAX = 65536 };

typedef struct client_core client_core;

typedef struct client_result {
    bool answered;    /* false: nothing came in time; `error` is then the last refusal that was waited out, if
                         any */
    bool refused;     /* the answer is an error */
    stet_error error; /* of a refusal */
    stet_str body;    /* the reply or the error body */
    uint32_t sends;
} client_result;

typedef void client_done_fn(void *context, stet_id id, const client_result *result);

typedef struct client_edge {
    void *context;
    /* False when the socket would block: the core tries again later. */
    bool (*send)(void *context, stet_str envelope, stet_str body);
} client_edge;

/* NULL when out of memory. seed: for jitter. */
client_core *client_core_new(const client_edge *edge, uint64_t seed);
/* Calls done, without an answer, for all that still wait. NULL is a no-op; always returns NULL. */
client_core *client_core_free(client_core *self);

typedef struct client_request {
    stet_id id;
    stet_str command;
    stet_str key; /* routing key; {NULL, 0}: none */
    stet_str body;
    uint32_t timeout_ms;
    client_done_fn *done;
    void *context;
} client_request;

/* STET_BUSY when CLIENT_PENDING_MAX wait already, STET_CONFLICT when this id waits already. `done` is called
 * later, from receive or tick, exactly once unless the core is freed before. */
NODISCARD
stet_code client_core_send(client_core *self, const client_request *request, int64_t boot_ms, stet_error *e);
/* What came from the broker. Anything that answers nothing that waits is dropped. Returns how many were
 * handed out. */
uint32_t client_core_receive(client_core *self, stet_str envelope, stet_str body, int64_t boot_ms);
/* The connection is new: what waits is sent again. */
void client_core_reconnected(client_core *self, int64_t boot_ms);
/* Sends what is due and gives up what is late. Returns how many were given up. */
uint32_t client_core_tick(client_core *self, int64_t boot_ms);
/* boot_ms of the next tick; INT64_MAX when nothing waits. */
int64_t client_core_next_wake(const client_core *self);
size_t client_core_pending(const client_core *self);

#endif
