/* sockets_internal - what sockets.c (opening, sending) and sockets_loop.c (receiving) share. */
#ifndef BROKER_SOCKETS_INTERNAL_H
#define BROKER_SOCKETS_INTERNAL_H

#include "broker/sockets.h"

#include <zmq.h>

enum { BROKER_IDENTITY_SIZE_MAX = sizeof((broker_peer *)NULL)->id };

/* A zmq_msg_t that can be handed around: a broker_frame's handle. */
typedef struct broker_message {
    zmq_msg_t msg; /* initialised while it is in use */
    struct broker_message *next;
} broker_message;

typedef struct broker_chunk broker_chunk; /* memory of pooled messages */

typedef struct broker_port {
    void *socket;
    bool discarding; /* in the middle of a message that is too long */
} broker_port;

struct broker_sockets {
    void *context;
    broker_port front, back, events_in, events;
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

/* As zmq_msg_recv and zmq_msg_send, but never EINTR. */
int broker_recv(zmq_msg_t *msg, void *socket, int flags);
int broker_send(zmq_msg_t *msg, void *socket, int flags);

#endif
