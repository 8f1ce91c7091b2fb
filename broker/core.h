/* core - the broker without sockets: frames in, frames out, no clock, no I/O.
 *
 * Routes requests to services with credit, holds a bounded queue per service, answers deadlines, keeps the
 * registry and the last event per session. Nothing in it is durable: a new broker learns all of it from ready
 * messages. Thread: one. Time: boot_ms, handed in. Memory: bounded by the options; out of memory answers busy
 * or drops a message that its sender will resend. */
#ifndef BROKER_CORE_H
#define BROKER_CORE_H

#include "proto/base/code.h"
#include "proto/base/log.h"
#include "proto/wire/envelope.h"
#include "proto/wire/schema.h"

typedef struct broker_core broker_core;

/* One frame that came from a socket. The core may keep it (queue) or hand it out again; the edge owns the
 * memory behind `handle` (a zmq_msg_t, or a test's bytes) and frees it through broker_edge.frame_free. handle
 * NULL: an empty frame, nothing to free. */
typedef struct broker_frame {
    const uint8_t *data;
    size_t size;
    void *handle;
} broker_frame;

/* A peer of one socket: the routing id that ROUTER made for the connection. */
typedef struct broker_peer {
    uint8_t id[16];
    uint8_t size;
} broker_peer;

typedef struct broker_edge {
    void *context;
    /* Each takes the frames (frees them also when the peer is gone or its queue is full). Returns false when
     * they could not be queued. route may be empty. */
    bool (*send_front)(void *context, const broker_peer *to, broker_frame envelope, broker_frame body);
    bool (*send_back)(void *context, const broker_peer *to, broker_frame envelope, broker_frame route,
                      broker_frame body);
    void (*publish)(void *context, stet_str topic, stet_str payload);
    /* A frame of the core's own bytes (copied), size > 0. handle NULL when out of memory. */
    broker_frame (*frame_new)(void *context, const void *data, size_t size);
    void (*frame_free)(void *context, broker_frame frame);
    /* What an operator should see: registered, away, replaced, left, malformed frames. May be NULL. */
    void (*log)(void *context, stet_level level, const char *event, const char *message,
                const stet_log_field *fields);
} broker_edge;

typedef struct broker_options {
    uint32_t queue_max;
    uint64_t queue_bytes;
    uint32_t sessions_max;
    uint32_t heartbeat_ms;
    uint32_t timeout_ms;
    stet_id instance;
    const char *software; /* version text, kept by pointer */
} broker_options;

broker_core *broker_core_new(const broker_options *options, const broker_edge *edge, int64_t boot_ms);
broker_core *broker_core_free(broker_core *self); /* always NULL */

/* A message from a client. Takes the frames. role: found by the edge from the peer's key. */
void broker_core_front(broker_core *self, const broker_peer *from, stet_role role, broker_frame envelope,
                       broker_frame body, int64_t boot_ms);
/* A message from a client that the edge refuses (its key may not do this): answered with the error when its
 * id can be read. Takes the frames. */
void broker_core_refuse(broker_core *self, const broker_peer *from, broker_frame envelope, broker_frame body,
                        const stet_error *error, int64_t boot_ms);
/* A message of a peer whose key is not known (any more), or not good for what it did: counted. */
void broker_core_unauthorized(broker_core *self);
/* Handshakes since the start that were refused for their key, and that went wrong before one was shown. */
void broker_core_handshakes(broker_core *self, uint64_t refused, uint64_t failed);
/* A message from an actor. Takes the frames. */
void broker_core_back(broker_core *self, const broker_peer *from, broker_frame envelope, broker_frame route,
                      broker_frame body, int64_t boot_ms);
/* A message that did not have the right number of frames, or was too large: counted. */
void broker_core_malformed(broker_core *self, bool front);
void broker_core_malformed_event(broker_core *self);
/* An event from an actor's PUB socket: remembered as the session's last, published on. */
void broker_core_event(broker_core *self, stet_str topic, stet_str payload);
/* A subscriber subscribed to this prefix: the last events that match are published again. */
void broker_core_subscribed(broker_core *self, stet_str prefix, int64_t boot_ms);
/* Deadlines and missed heartbeats. Call at broker_core_next_wake() at the latest. */
void broker_core_tick(broker_core *self, int64_t boot_ms);
int64_t broker_core_next_wake(const broker_core *self); /* boot_ms */

#endif
