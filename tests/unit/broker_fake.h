/* broker_fake - an edge for tests of the broker's core: counts frames, keeps what was sent, can refuse and
 * run dry. */
#ifndef TESTS_BROKER_FAKE_H
#define TESTS_BROKER_FAKE_H

#include "broker/core.h"

enum { FAKE_SENT_MAX = 65536 };

typedef struct fake_sent {
    bool front;
    broker_peer to;
    broker_frame envelope, route, body; /* owned */
    stet_envelope decoded;
} fake_sent;

typedef struct fake_published {
    stet_str topic, payload; /* copies */
} fake_published;

typedef struct fake {
    broker_core *core;
    int64_t now_ms;
    int64_t frames_live;
    int64_t frames_left;   /* frame_new fails when it gets to 0; -1: never */
    bool deaf;             /* front sends fail */
    broker_peer deaf_back; /* back sends to this peer fail; size 0: none */
    fake_sent *sent;
    uint32_t sent_count, sent_taken;
    fake_published *published;
    uint32_t published_count;
    uint64_t next_id;
    void (*watch)(void *context,
                  const fake_sent *message); /* sees each message instead of the list; may be NULL */
    void *watch_context;
} fake;

/* queue_max 8, queue_bytes 1 MiB, sessions_max 4, heartbeat 250, timeout 1000. */
broker_options fake_options(void);
void fake_start(fake *self, const broker_options *options);
/* Ends the core and asserts that no frame is left. */
void fake_stop(fake *self);

broker_peer fake_peer(uint32_t number);
broker_frame fake_frame(fake *self, const void *data, size_t size);
broker_frame fake_envelope(fake *self, const stet_envelope *envelope);
stet_id fake_id(fake *self);

/* A request of `client` with a body {}. Returns its id. */
stet_id fake_request(fake *self, uint32_t client, const char *command, uint32_t timeout_ms);
void fake_front(fake *self, uint32_t client, const stet_envelope *envelope, stet_str body);
void fake_back(fake *self, uint32_t actor, const stet_envelope *envelope, stet_str route, stet_str body);
void fake_ready(fake *self, uint32_t actor, const char *service, uint64_t epoch, uint32_t credit);
void fake_heartbeat(fake *self, uint32_t actor);
/* Advances the clock step by step as the core asks to be woken; actors do not beat meanwhile. */
void fake_advance(fake *self, int64_t ms);
/* reply, error or ack to a dispatched message */
void fake_answer(fake *self, uint32_t actor, stet_kind kind, const fake_sent *dispatched);

/* The oldest message not yet taken; fails the test when there is none. */
const fake_sent *fake_take(fake *self);
/* The same; fails unless it goes to this client or actor and is of this kind. */
const fake_sent *fake_take_front(fake *self, uint32_t client, stet_kind kind);
const fake_sent *fake_take_back(fake *self, uint32_t actor, stet_kind kind);
/* An error to this client with this code. */
const fake_sent *fake_take_error(fake *self, uint32_t client, stet_code code);
uint32_t fake_waiting(const fake *self);
void fake_forget(fake *self); /* everything that was sent and published */
stet_code fake_code(const fake_sent *message);
uint32_t fake_retry_ms(const fake_sent *message);
/* A counter of broker.stats. */
uint64_t fake_counter(fake *self, const char *name);
/* The body of the answer to this command; valid until the next fake_forget. */
stet_str fake_ask(fake *self, const char *command, stet_str body);

#endif
