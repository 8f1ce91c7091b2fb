/* sockets_gate - who is let in on the TCP endpoints that ask for keys.
 *
 * libzmq admits everybody when nobody answers its ZAP requests, so the gate fails closed three times:
 *  - broker_gate_start() returns only after the handler has refused a key that is not there; bind after it;
 *  - when the handler ends, broker_gate_ended_fd() is readable, and the broker ends itself;
 *  - broker_gate_key() is asked for every message: no User-Id, or one that is not in the list now, is nobody.
 * The User-Id is the public key's text, so that a key that is revoked and another one of the same name are
 * two.
 *
 * The handler also listens to the sockets' monitors: handshakes that fail are counted and logged (at most 20
 * lines a second), refused keys with the peer's address, others with ours, since libzmq tells no more.
 * Thread: the broker's loop calls; the handler has its own thread, which reads the list under a lock. */
#ifndef BROKER_SOCKETS_GATE_H
#define BROKER_SOCKETS_GATE_H

#include "broker/access.h"

#include <zmq.h>

typedef struct broker_gate broker_gate;

/* Reads the keys; a file among them that is none is an error. directory: kept by copy. */
NODISCARD
stet_code broker_gate_new(const char *directory, broker_gate **ret, stet_error *e);
/* Before bind: asks for keys on this socket. False when libzmq refuses (see zmq_errno). */
NODISCARD
bool broker_gate_guard(const broker_gate *self, void *socket, broker_door door);
/* Watches a socket's handshakes; before broker_gate_start(). name: literal, for the log. */
NODISCARD
bool broker_gate_watch(broker_gate *self, void *socket, const char *name);
NODISCARD
stet_code broker_gate_start(broker_gate *self, void *context, stet_error *e);
/* Stops the handler and waits for its end; broker_gate_ended_fd() is readable then. Before the context ends.
 */
void broker_gate_stop(broker_gate *self);
broker_gate *broker_gate_free(broker_gate *self); /* always NULL; stops first */

/* The key that every one of these frames was sent with; NULL: nobody's. Valid until the next reload. */
const stet_known_key *broker_gate_key(const broker_gate *self, zmq_msg_t *const *frames, uint32_t count);
/* Readable when the directory has changed: call broker_gate_reload(). */
int broker_gate_changes_fd(const broker_gate *self);
/* True when somebody may do less than before, so that connections have to be cut. What cannot be read lets
 * nobody in. */
bool broker_gate_reload(broker_gate *self);
int broker_gate_ended_fd(const broker_gate *self);
void broker_gate_counts(broker_gate *self, uint64_t *ret_refused, uint64_t *ret_failed);

#endif
