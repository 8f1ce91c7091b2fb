#include "broker/sockets_internal.h"
#include "proto/base/fault.h"

#include "proto/base/clock.h"
#include "proto/base/exit_codes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum {
    FRAMES_MAX = 3,
    DRAIN_MAX = 1000,    /* messages a socket may hand in before the others have their turn */
    DISCARD_MAX = 10000, /* frames of an overlong message that are dropped in one go */
    WAIT_MAX_MS = 1000,
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
        memcpy(ret_peer->id, zmq_msg_data(&identity), size);
        ret_peer->size = (uint8_t)size;
    }
    (void)zmq_msg_close(&identity);
    FAULT(broker_identity);
    if (fits && more)
        return receive_frames(self, port, frames, count);
    if (more)
        discard(port);
    return MALFORMED;
}

/* Each drain returns whether the socket may have more. */
static bool drain_front(broker_sockets *self) {
    broker_frame frames[FRAMES_MAX];
    broker_peer peer;
    for (uint32_t i = 0; i < DRAIN_MAX; i++) {
        outcome got = receive(self, &self->front, &peer, frames, 2);
        if (got == MESSAGE)
            FAULT(broker_front_received);
        if (got == NOTHING)
            return self->front.discarding;
        if (got == MESSAGE)
            broker_core_front(self->core, &peer, STET_ROLE_CONTROL, frames[0], frames[1], self->now_ms);
        else
            broker_core_malformed(self->core, /* front= */ true);
    }
    return true;
}

static bool drain_back(broker_sockets *self) {
    broker_frame frames[FRAMES_MAX];
    broker_peer peer;
    for (uint32_t i = 0; i < DRAIN_MAX; i++) {
        outcome got = receive(self, &self->back, &peer, frames, 3);
        if (got == MESSAGE)
            FAULT(broker_back_received);
        if (got == NOTHING)
            return self->back.discarding;
        if (got == MESSAGE)
            broker_core_back(self->core, &peer, frames[0], frames[1], frames[2], self->now_ms);
        else
            broker_core_malformed(self->core, /* front= */ false);
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

static bool drain_events_in(broker_sockets *self) {
    broker_port *port = &self->events_in;
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
        if (more && zmq_msg_more(&self->event_payload) == 0) {
            relay(self);
            continue;
        }
        if (more)
            discard(port);
        broker_core_malformed_event(self->core);
        (void)zmq_msg_close(&self->event_topic);
        (void)zmq_msg_close(&self->event_payload);
    }
    return true;
}

static bool drain_subscriptions(broker_sockets *self) {
    broker_port *port = &self->events;
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
        if (!more && size > 0 && bytes[0] == 1)
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
    uint64_t pages = 0;
    if (fscanf(file, "%*u %" SCNu64, &pages) != 1)
        pages = 0;
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
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
    return wait < WAIT_MAX_MS ? (long)wait : WAIT_MAX_MS;
}

int broker_sockets_run(broker_sockets *self, int stop_fd) {
    zmq_pollitem_t items[] = {{.fd = stop_fd, .events = ZMQ_POLLIN},
                              {.socket = self->back.socket, .events = ZMQ_POLLIN},
                              {.socket = self->front.socket, .events = ZMQ_POLLIN},
                              {.socket = self->events_in.socket, .events = ZMQ_POLLIN},
                              {.socket = self->events.socket, .events = ZMQ_POLLIN}};
    bool more = false;
    for (;;) {
        int rc = zmq_poll(items, COUNT_OF(items), more ? 0 : wait_ms(self));
        ASSERT(rc >= 0 || zmq_errno() == EINTR);
        self->now_ms = stet_clock_boot_ms();
        broker_core_tick(self->core, self->now_ms);
        if (!memory_is_fine(self))
            return STET_EXIT_INTERNAL;
        more = false;
        if (rc <= 0)
            continue;
        if (items[0].revents != 0)
            return STET_EXIT_OK;
        /* Answers first: they make room for what comes in. */
        more |= items[1].revents != 0 && drain_back(self);
        more |= items[2].revents != 0 && drain_front(self);
        more |= items[3].revents != 0 && drain_events_in(self);
        more |= items[4].revents != 0 && drain_subscriptions(self);
    }
}
