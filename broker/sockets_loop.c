#include "broker/sockets_internal.h"
#include "proto/base/fault.h"

#include "proto/base/clock.h"
#include "proto/base/exit_codes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    FRAMES_MAX = 3,
    DRAIN_MAX = 1000,    /* messages a socket may hand in before the others have their turn */
    DISCARD_MAX = 10000, /* frames of an overlong message that are dropped in one go */
    WAIT_MAX_MS = 1000,
    BIND_AGAIN_WAIT_MS = 5,
    MEMORY_CHECK_MS = 1000
};

typedef enum outcome { NOTHING, MESSAGE, MALFORMED } outcome;

/* Reads what is left of a message and drops it; gives the others a turn when that is much. */
static void discard(broker_port *port) {
    port->discarding = true;
    for (uint32_t i = 0; i < DISCARD_MAX && port->discarding; i++) {
        zmq_msg_t msg;
        (void)zmq_msg_init(&msg);
        port->discarding = broker_recv(&msg, port->socket, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&msg) != 0;
        (void)zmq_msg_close(&msg);
    }
}

static void free_frames(broker_sockets *self, broker_frame *frames, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        broker_message *message = frames[i].handle;
        (void)zmq_msg_close(&message->msg);
        broker_message_give(self, message);
    }
}

/* The frames after the identity: exactly `count`, or the whole message is dropped. */
static outcome receive_frames(broker_sockets *self, broker_port *port, broker_frame *frames, uint32_t count) {
    bool more = true;
    for (uint32_t i = 0; i < count; i++) {
        broker_message *message = more ? broker_message_take(self) : NULL;
        if (message == NULL) {
            free_frames(self, frames, i);
            if (more)
                discard(port);
            return MALFORMED;
        }
        (void)zmq_msg_init(&message->msg);
        frames[i].handle = message;
        if (broker_recv(&message->msg, port->socket, ZMQ_DONTWAIT) < 0) {
            free_frames(self, frames, i + 1);
            return MALFORMED;
        }
        frames[i].data = zmq_msg_data(&message->msg);
        frames[i].size = zmq_msg_size(&message->msg);
        more = zmq_msg_more(&message->msg) != 0;
    }
    if (!more)
        return MESSAGE;
    free_frames(self, frames, count);
    discard(port);
    return MALFORMED;
}

static outcome receive(broker_sockets *self, broker_port *port, broker_peer *ret_peer, broker_frame *frames,
                       uint32_t count) {
    if (port->discarding) {
        discard(port);
        return port->discarding ? NOTHING : MALFORMED;
    }
    zmq_msg_t identity;
    (void)zmq_msg_init(&identity);
    if (broker_recv(&identity, port->socket, ZMQ_DONTWAIT) < 0) {
        ASSERT(zmq_errno() == EAGAIN);
        return NOTHING;
    }
    size_t size = zmq_msg_size(&identity);
    bool fits = size > 0 && size <= BROKER_IDENTITY_SIZE_MAX, more = zmq_msg_more(&identity) != 0;
    if (fits) {
        ret_peer->id[0] = port->keyed ? BROKER_TAG_KEYED : BROKER_TAG_OPEN;
        memcpy(ret_peer->id + 1, zmq_msg_data(&identity), size);
        ret_peer->size = (uint8_t)(size + 1);
    }
    (void)zmq_msg_close(&identity);
    FAULT(broker_identity);
    if (fits && more)
        return receive_frames(self, port, frames, count);
    if (more)
        discard(port);
    return MALFORMED;
}

/* Whose message this is; NULL, and counted, when it is nobody's. */
static const stet_known_key *key_of(broker_sockets *self, const broker_frame *frames, uint32_t count) {
    zmq_msg_t *messages[FRAMES_MAX];
    for (uint32_t i = 0; i < count; i++)
        messages[i] = &((broker_message *)frames[i].handle)->msg;
    const stet_known_key *key = broker_gate_key(self->gate, messages, count);
    if (key == NULL)
        broker_core_unauthorized(self->core);
    return key;
}

static void front_keyed(broker_sockets *self, const broker_peer *peer, const broker_frame *frames) {
    const stet_known_key *key = key_of(self, frames, 2);
    stet_error error;
    if (key != NULL &&
        broker_access_request(key, stet_str_from(frames[0].data, frames[0].size),
                              stet_str_from(frames[1].data, frames[1].size), &error) != STET_OK)
        broker_core_refuse(self->core, peer, frames[0], frames[1], &error, self->now_ms);
    else
        broker_core_front(self->core, peer, key != NULL ? key->role : STET_ROLE_NONE, frames[0], frames[1],
                          self->now_ms);
}

/* Each drain returns whether the socket may have more. */
static bool drain_front(broker_sockets *self, broker_port *port) {
    broker_frame frames[FRAMES_MAX];
    broker_peer peer;
    for (uint32_t i = 0; i < DRAIN_MAX; i++) {
        outcome got = receive(self, port, &peer, frames, 2);
        if (got == MESSAGE)
            FAULT(broker_front_received);
        if (got == NOTHING)
            return port->discarding;
        if (got == MALFORMED)
            broker_core_malformed(self->core, /* front= */ true);
        else if (port->keyed)
            front_keyed(self, &peer, frames);
        else
            broker_core_front(self->core, &peer, STET_ROLE_CONTROL, frames[0], frames[1], self->now_ms);
    }
    return true;
}

/* Who is no actor (any more) gets no answer, and so is away soon. */
static bool may_act(broker_sockets *self, const broker_frame *frames, uint32_t count) {
    const stet_known_key *key = key_of(self, frames, count);
    if (key != NULL && key->role != STET_ROLE_ACTOR)
        broker_core_unauthorized(self->core);
    return key != NULL && key->role == STET_ROLE_ACTOR;
}

static bool drain_back(broker_sockets *self, broker_port *port) {
    broker_frame frames[FRAMES_MAX];
    broker_peer peer;
    for (uint32_t i = 0; i < DRAIN_MAX; i++) {
        outcome got = receive(self, port, &peer, frames, 3);
        if (got == MESSAGE)
            FAULT(broker_back_received);
        if (got == NOTHING)
            return port->discarding;
        if (got == MALFORMED)
            broker_core_malformed(self->core, /* front= */ false);
        else if (port->keyed && !may_act(self, frames, 3))
            free_frames(self, frames, 3);
        else
            broker_core_back(self->core, &peer, frames[0], frames[1], frames[2], self->now_ms);
    }
    return true;
}

static void relay(broker_sockets *self) {
    stet_str topic = stet_str_from(zmq_msg_data(&self->event_topic), zmq_msg_size(&self->event_topic));
    stet_str payload = stet_str_from(zmq_msg_data(&self->event_payload), zmq_msg_size(&self->event_payload));
    self->event_in_hand = true;
    broker_core_event(self->core, topic, payload);
    if (!self->event_in_hand)
        return; /* publishing has taken them */
    self->event_in_hand = false;
    (void)zmq_msg_close(&self->event_topic);
    (void)zmq_msg_close(&self->event_payload);
}

static bool may_publish(broker_sockets *self) {
    zmq_msg_t *const frames[] = {&self->event_topic, &self->event_payload};
    const stet_known_key *key = broker_gate_key(self->gate, frames, COUNT_OF(frames));
    if (key != NULL && key->role == STET_ROLE_ACTOR)
        return true;
    broker_core_unauthorized(self->core);
    return false;
}

static bool drain_events_in(broker_sockets *self, broker_port *port) {
    for (uint32_t i = 0; i < DRAIN_MAX; i++) {
        if (port->discarding) {
            discard(port);
            continue;
        }
        (void)zmq_msg_init(&self->event_topic);
        if (broker_recv(&self->event_topic, port->socket, ZMQ_DONTWAIT) < 0)
            return false;
        bool more = zmq_msg_more(&self->event_topic) != 0;
        (void)zmq_msg_init(&self->event_payload);
        more = more && broker_recv(&self->event_payload, port->socket, ZMQ_DONTWAIT) >= 0;
        bool whole = more && zmq_msg_more(&self->event_payload) == 0;
        if (whole && (!port->keyed || may_publish(self))) {
            relay(self);
            continue;
        }
        if (more && !whole)
            discard(port);
        if (!whole)
            broker_core_malformed_event(self->core);
        (void)zmq_msg_close(&self->event_topic);
        (void)zmq_msg_close(&self->event_payload);
    }
    return true;
}

/* A subscriber with a key that is not good cannot be refused one by one: all connections are made anew. */
static bool may_subscribe(broker_sockets *self, zmq_msg_t *msg) {
    const stet_known_key *key = broker_gate_key(self->gate, &msg, 1);
    if (key != NULL && broker_access_door(key, BROKER_DOOR_EVENTS))
        return true;
    broker_core_unauthorized(self->core);
    broker_sockets_cut(self);
    return false;
}

static bool drain_subscriptions(broker_sockets *self, broker_port *port) {
    for (uint32_t i = 0; i < DRAIN_MAX; i++) {
        if (port->discarding) {
            discard(port);
            continue;
        }
        zmq_msg_t msg;
        (void)zmq_msg_init(&msg);
        if (broker_recv(&msg, port->socket, ZMQ_DONTWAIT) < 0)
            return false;
        const char *bytes = zmq_msg_data(&msg);
        size_t size = zmq_msg_size(&msg);
        bool more = zmq_msg_more(&msg) != 0;
        bool subscribes = !more && size > 0 && bytes[0] == 1;
        if (subscribes && (!port->keyed || may_subscribe(self, &msg)))
            broker_core_subscribed(self->core, stet_str_from(bytes + 1, size - 1), self->now_ms);
        (void)zmq_msg_close(&msg);
        if (more)
            discard(port);
    }
    return true;
}

/* The second number of statm; 0 when it cannot be read. */
static uint64_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    char line[128] = "";
    const char *second = fgets(line, sizeof line, file) ? strchr(line, ' ') : NULL;
    (void)fclose(file);
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static bool memory_is_fine(broker_sockets *self) {
    if (self->memory_max == 0 || self->now_ms < self->memory_check_ms)
        return true;
    self->memory_check_ms = self->now_ms + MEMORY_CHECK_MS;
    uint64_t bytes = resident_bytes();
    if (bytes <= self->memory_max)
        return true;
    stet_log(STET_ERROR, "memory.limit",
             "more memory in use than broker.memoryMax, ending to be started anew",
             STET_LOG_I("bytes", (int64_t)bytes), STET_LOG_I("bytes_max", (int64_t)self->memory_max));
    return false;
}

static long wait_ms(broker_sockets *self) {
    int64_t wait = broker_core_next_wake(self->core) - self->now_ms;
    if (wait < 0)
        return 0;
    int64_t most = self->down_count > 0 ? BIND_AGAIN_WAIT_MS : WAIT_MAX_MS;
    return wait < most ? (long)wait : (long)most;
}

/* ---- the loop ---- */
typedef bool drain_fn(broker_sockets *self, broker_port *port);

typedef struct source {
    drain_fn *drain;
    broker_port *port;
} source;

enum { ITEM_STOP, ITEM_ENDED, ITEM_CHANGES, ITEM_SOURCES, ITEMS_MAX = ITEM_SOURCES + 2 * BROKER_DOORS_COUNT };

/* Answers first: they make room for what comes in. */
static uint32_t sources_of(broker_sockets *self, source ret_sources[2 * BROKER_DOORS_COUNT]) {
    static const broker_door order[] = {BROKER_DOOR_BACK, BROKER_DOOR_FRONT, BROKER_DOOR_EVENTS_IN,
                                        BROKER_DOOR_EVENTS};
    static drain_fn *const drains[] = {drain_back, drain_front, drain_events_in, drain_subscriptions};
    uint32_t count = 0;
    for (uint32_t i = 0; i < COUNT_OF(order); i++) {
        ret_sources[count++] = (source){drains[i], &self->open[order[i]]};
        if (self->keyed[order[i]].socket != NULL)
            ret_sources[count++] = (source){drains[i], &self->keyed[order[i]]};
    }
    return count;
}

/* False: the broker has to end, since nobody would be refused any more, or nobody let in. */
static bool tend_gate(broker_sockets *self, const zmq_pollitem_t *items) {
    if (self->gate == NULL)
        return true;
    if (items[ITEM_ENDED].revents != 0) {
        stet_log(STET_ERROR, "keys.handler_ended", "nobody answers for keys any more, ending");
        return false;
    }
    if (items[ITEM_CHANGES].revents != 0 && broker_gate_reload(self->gate))
        broker_sockets_cut(self);
    uint64_t refused, failed;
    broker_gate_counts(self->gate, &refused, &failed);
    broker_core_handshakes(self->core, refused, failed);
    return self->down_count == 0 || broker_sockets_bind_again(self);
}

int broker_sockets_run(broker_sockets *self, int stop_fd) {
    source sources[2 * BROKER_DOORS_COUNT];
    uint32_t count = sources_of(self, sources);
    /* A descriptor of -1 would be an error: without a gate the stop descriptor stands for the two of it. */
    zmq_pollitem_t items[ITEMS_MAX] = {
        [ITEM_STOP] = {.fd = stop_fd, .events = ZMQ_POLLIN},
        [ITEM_ENDED] = {.fd = self->gate ? broker_gate_ended_fd(self->gate) : stop_fd, .events = ZMQ_POLLIN},
        [ITEM_CHANGES] = {.fd = self->gate ? broker_gate_changes_fd(self->gate) : stop_fd,
                          .events = ZMQ_POLLIN}};
    for (uint32_t i = 0; i < count; i++)
        items[ITEM_SOURCES + i] = (zmq_pollitem_t){.socket = sources[i].port->socket, .events = ZMQ_POLLIN};
    bool more = false;
    for (;;) {
        int rc = zmq_poll(items, (int)(ITEM_SOURCES + count), more ? 0 : wait_ms(self));
        ASSERT(rc >= 0 || zmq_errno() == EINTR);
        self->now_ms = stet_clock_boot_ms();
        broker_core_tick(self->core, self->now_ms);
        if (!memory_is_fine(self))
            return STET_EXIT_INTERNAL;
        more = false;
        if (rc < 0)
            continue;
        if (!tend_gate(self, items))
            return STET_EXIT_INTERNAL;
        if (rc == 0)
            continue;
        if (items[ITEM_STOP].revents != 0)
            return STET_EXIT_OK;
        for (uint32_t i = 0; i < count; i++)
            more |= items[ITEM_SOURCES + i].revents != 0 && sources[i].drain(self, sources[i].port);
    }
}
