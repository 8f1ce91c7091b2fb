/* sockets_internal - what sockets.c (opening, sending) and sockets_loop.c (receiving) share. */
#ifndef BROKER_SOCKETS_INTERNAL_H
#define BROKER_SOCKETS_INTERNAL_H

#include "broker/sockets.h"
#include "broker/sockets_gate.h"

#include <zmq.h>

/* The first byte of a core peer's id; the rest is the routing id. */
enum { BROKER_TAG_OPEN, BROKER_TAG_KEYED };
enum { BROKER_IDENTITY_SIZE_MAX = sizeof((broker_peer *)NULL)->id - 1 };

/* A zmq_msg_t that can be handed around: a broker_frame's handle. */
typedef struct broker_message {
    zmq_msg_t msg; /* initialised while it is in use */
    struct broker_message *next;
} broker_message;

typedef struct broker_chunk broker_chunk; /* memory of pooled messages */

typedef struct broker_port {
    void *socket; /* NULL: not configured */
    broker_door door;
    bool keyed;      /* everybody there must show a key, with every message */
    bool discarding; /* in the middle of a message that is too long */
} broker_port;

/* An endpoint with keys, to be bound again when a key was taken back. */
typedef struct broker_bound {
    void *socket;
    bool up;
    char endpoint[2 * STET_ENDPOINT_MAX];
} broker_bound;

struct broker_sockets {
    void *context;
    broker_port open[BROKER_DOORS_COUNT], keyed[BROKER_DOORS_COUNT];
    broker_gate *gate; /* NULL: no endpoint asks for keys */
    broker_bound bound[BROKER_DOORS_COUNT * BROKER_ENDPOINTS_MAX];
    uint32_t bound_count, down_count; /* down: unbound and not bound again yet */
    int64_t down_since_ms;
    broker_core *core;
    stet_paths paths;
    uint64_t memory_max;
    int64_t memory_check_ms;
    broker_message *pool;
    broker_chunk *chunks;
    /* The event being relayed: publishing it sends these instead of a copy. */
    zmq_msg_t event_topic, event_payload;
    bool event_in_hand;
    int64_t now_ms;
};

/* NULL when out of memory. Not initialised. */
broker_message *broker_message_take(broker_sockets *self);
/* Not initialised any more. */
void broker_message_give(broker_sockets *self, broker_message *message);

/* Closes every connection that was made with a key; who still has a good one comes back by itself. */
void broker_sockets_cut(broker_sockets *self);
/* Binds what is down, when the system lets it go. False when that has taken too long. */
bool broker_sockets_bind_again(broker_sockets *self);

/* As zmq_msg_recv and zmq_msg_send, but never EINTR. */
int broker_recv(zmq_msg_t *msg, void *socket, int flags);
int broker_send(zmq_msg_t *msg, void *socket, int flags);

#endif
