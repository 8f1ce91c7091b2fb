/* sockets - the broker's edge: ZeroMQ sockets around the core.
 *
 *   front  ROUTER  clients            2 frames          back       ROUTER  actors       3 frames
 *   events XPUB    subscribers                          events_in  XSUB    actors' PUB  2 frames
 *
 * Each of the four listens on ipc and, where configured, on open loopback TCP: whoever reaches that is
 * trusted. For endpoints that ask for keys there is a second socket of each kind, made only when it is
 * configured: which of two sockets a message came from is certain, which endpoint of one socket it came from
 * is not. A core peer's id begins with a byte that says which of the two it is on.
 *
 * A message is read frame by frame into pooled zmq_msg_t and handed to the core, which hands the same ones
 * back: bodies are never copied. What has another number of frames is read to its end and dropped. Sending
 * never blocks: a peer that is gone or full is told by the identity frame, and then nothing more of the
 * message is sent, since the next frame would be taken for an identity. What libzmq holds before a message is
 * complete is seen by nobody: an endless multipart message is bounded by the memory limit only, at which the
 * broker ends itself; it holds nothing that cannot be told again. Thread: one. Errors: what cannot be opened
 * is returned; afterwards a broken socket is our bug and asserts. */
#ifndef BROKER_SOCKETS_H
#define BROKER_SOCKETS_H

#include "broker/access.h"
#include "broker/core.h"
#include "broker/endpoints.h"
#include "proto/base/paths.h"

typedef struct broker_sockets_options {
    const stet_paths *paths;                    /* the directories exist and the lock is held */
    broker_endpoints open[BROKER_DOORS_COUNT];  /* further ones */
    broker_endpoints keyed[BROKER_DOORS_COUNT]; /* with keys only */
    const char *keys_directory;                 /* needed for keyed ones */
    broker_options core;
    uint64_t memory_max; /* bytes resident; 0: no limit */
} broker_sockets_options;

typedef struct broker_sockets broker_sockets;

/* Binds everything. STET_UNAVAILABLE names the endpoint that could not be bound; STET_INVALID, STET_FORBIDDEN
 * and STET_NOT_FOUND what is wrong with the keys. */
NODISCARD
stet_code broker_sockets_open(const broker_sockets_options *options, broker_sockets **ret, stet_error *e);
/* Serves until stop_fd is readable; returns the exit code. */
int broker_sockets_run(broker_sockets *self, int stop_fd);
/* Flushes for a moment, closes and removes the sockets. Always NULL. */
broker_sockets *broker_sockets_close(broker_sockets *self);

#endif
