/* envelope - the frame of STET/1 that the broker reads; the body frame travels untouched.
 *
 * Front (clients, DEALER to the broker's ROUTER):   [envelope][body]
 * Back  (actors,  DEALER to the broker's ROUTER):   [envelope][route][body]
 * On the wire an envelope is a MessagePack map with short keys; which kind carries which is in
 * docs/protocol.md and in the table of envelope.c. Unknown keys are ignored, another version is refused.
 *
 * `route` is made by the broker for each dispatched message and handed back by the actor unchanged: a
 * MessagePack array [ticket, role, slot, partition, remainingMs]; empty where there is nothing to route back.
 */
#ifndef STET_ENVELOPE_H
#define STET_ENVELOPE_H

#include "proto/base/buf.h"
#include "proto/base/code.h"
#include "proto/wire/id.h"

enum {
    STET_VERSION_WIRE = 1,
    STET_SLOTS = 1024, /* key -> slot, fixed for ever */
    STET_ENVELOPE_BYTES_MAX = 1024,
    STET_BODY_BYTES_MAX = 1 << 20, /* 1 MiB */
    STET_COMMAND_SIZE_MAX = 64,
    STET_SERVICE_SIZE_MAX = 32,
    STET_ROUTING_KEY_SIZE_MAX = 256
};

/* X(C name, wire name, help) */
#define STET_KINDS(X)                                                                                        \
    X(REQUEST, "request", "client -> broker -> actor: do this and answer")                                   \
    X(REPLY, "reply", "the answer to a request")                                                             \
    X(ERROR, "error", "the answer to a request or send that was refused; the body is an error body")         \
    X(SEND, "send", "actor -> broker -> actor: a numbered message of an outbox channel")                     \
    X(ACK, "ack", "receiver -> broker -> sender: everything up to sequence is applied and on disk")          \
    X(READY, "ready", "actor -> broker: I serve this partition, with this much credit")                      \
    X(WELCOME, "welcome", "broker -> actor: registered; heartbeat at this interval")                         \
    X(HEARTBEAT, "heartbeat", "both ways between actor and broker: alive")                                   \
    X(REGISTER, "register", "broker -> actor: I do not know you, send ready")                                \
    X(LEAVE, "leave", "actor -> broker: send nothing new, I am going")

typedef enum stet_kind {
    STET_KIND_NONE = 0,
#define X(name, wire, help) STET_KIND_##name,
    STET_KINDS(X)
#undef X
        STET_KINDS_COUNT
} stet_kind;

/* Strings point into the decoded frame. Zero and {NULL, 0} mean absent. */
typedef struct stet_envelope {
    stet_kind kind;
    stet_id id;       /* request, reply, error, send, ack: the id of the message (or of the one answered) */
    stet_str command; /* request, send; also on error and ack that answer a send: "drafter.submit" */
    stet_str key;     /* routing key: request, send; hashed to a slot */
    uint32_t timeout_ms; /* request, send: how long the sender waits, counted from receipt; 0 = the default */
    stet_str service;   /* ready, welcome, heartbeat, leave: the actor's service; send: the sender's; ack: the
                           receiver's */
    uint32_t partition; /* of `service` */
    uint64_t epoch;   /* of `service`: 1 in local mode; the broker prefers the higher and refuses the lower */
    stet_id instance; /* ready, heartbeat, leave: one life of the actor; welcome, heartbeat from the broker:
                         one life of the broker */
    uint64_t sequence;    /* send: number in the channel, from 1; ack: the receiver's high-water mark */
    uint32_t credit;      /* ready: how many messages may be outstanding at the actor */
    uint32_t interval_ms; /* welcome: heartbeat interval */
    stet_str software;    /* ready, welcome: program version */
} stet_envelope;

/* STET_INVALID for anything that is not a STET/1 envelope within the bounds above: a name (command, service)
 * has 1 or more of A-Z a-z 0-9 . - _, what the kind needs is there and not zero. *ret is then empty, but for
 * the id where one could be read, so that the answer can carry it. */
NODISCARD
stet_code stet_envelope_decode(stet_str frame, stet_envelope *ret, stet_error *e);
/* What is zero or empty is left out. */
void stet_envelope_encode(const stet_envelope *envelope, stet_buf *b);
const char *stet_kind_name(stet_kind kind);
/* What a command or a service may be called: 1 to size_max letters, digits, '.', '-' and '_', which are safe in
 * keys, logs, file names and topics. */
bool stet_name_valid(stet_str text, size_t size_max);

/* The first label of "drafter.transcript.append" is the service; {NULL, 0} when there is no dot. */
stet_str stet_command_service(stet_str command);
/* FNV-1a 64 of the key, modulo STET_SLOTS. Never changes: data is placed by it. */
uint32_t stet_slot_of(stet_str key);

typedef struct stet_route {
    uint64_t ticket; /* the broker's; opaque to actors */
    stet_str role;   /* the sender's role, found by the broker from its key, e.g. "control" */
    uint32_t slot;
    uint32_t partition;
    uint32_t remaining_ms;
} stet_route;
NODISCARD
stet_code stet_route_decode(stet_str frame, stet_route *ret, stet_error *e);
void stet_route_encode(const stet_route *route, stet_buf *b);

/* An error as the body of an error message: {code, message, field?, retryAfterMs?, details?}. */
void stet_error_encode(const stet_error *error, stet_buf *b);
/* Never fails: what cannot be read becomes STET_INTERNAL. */
void stet_error_decode(stet_str body, stet_error *ret);

#endif
