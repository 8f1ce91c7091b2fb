#include "broker/sockets_internal.h"

#include "proto/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    POOL_CHUNK = 256,
    FRONT_SEND_HWM = 8192, /* answers that wait for one client; more are dropped, and the client resends */
    FRONT_RECV_HWM = 1000,
    BACK_SEND_HWM = 40000, /* more than any credit, so that an actor within its credit is never full */
    BACK_RECV_HWM = 4096,
    EVENTS_HWM = 100000,
    EVENT_BYTES_MAX = (64 << 10) + 1024,
    SUBSCRIPTION_BYTES_MAX = 1024,
    LINGER_MS = 200,
    BACKLOG = 1024,
    HANDSHAKE_MS = 5000,
    HEARTBEAT_MS = 5000,
    HEARTBEAT_TIMEOUT_MS = 15000,
    BIND_AGAIN_MS = 10000,
    /* Twice what is carried: what is a little too large is answered too_large, more costs the connection. */
    FRAME_BYTES_MAX = 2 * STET_BODY_BYTES_MAX
};

struct broker_chunk {
    broker_chunk *next;
    broker_message messages[POOL_CHUNK];
};

/* ---- messages ---- */
broker_message *broker_message_take(broker_sockets *self) {
    if (self->pool == NULL) {
        broker_chunk *chunk = malloc(sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        chunk->next = self->chunks;
        self->chunks = chunk;
        for (uint32_t i = 0; i < POOL_CHUNK; i++)
            broker_message_give(self, &chunk->messages[i]);
    }
    broker_message *message = self->pool;
    self->pool = message->next;
    return message;
}

void broker_message_give(broker_sockets *self, broker_message *message) {
    message->next = self->pool;
    self->pool = message;
}

int broker_recv(zmq_msg_t *msg, void *socket, int flags) {
    int rc;
    do
        rc = zmq_msg_recv(msg, socket, flags);
    while (rc < 0 && zmq_errno() == EINTR);
    return rc;
}

int broker_send(zmq_msg_t *msg, void *socket, int flags) {
    int rc;
    do
        rc = zmq_msg_send(msg, socket, flags);
    while (rc < 0 && zmq_errno() == EINTR);
    return rc;
}

/* ---- what the core asks for ---- */
static broker_frame frame_new(void *context, const void *data, size_t size) {
    broker_message *message = broker_message_take(context);
    if (message == NULL)
        return (broker_frame){0};
    if (zmq_msg_init_size(&message->msg, size) != 0) {
        broker_message_give(context, message);
        return (broker_frame){0};
    }
    memcpy(zmq_msg_data(&message->msg), data, size);
    return (broker_frame){.data = zmq_msg_data(&message->msg), .size = size, .handle = message};
}

static void frame_free(void *context, broker_frame frame) {
    broker_message *message = frame.handle;
    (void)zmq_msg_close(&message->msg);
    broker_message_give(context, message);
}

/* After the identity was taken, ROUTER takes the rest without fail, also when the peer has just gone. */
static void send_rest(broker_sockets *self, void *socket, const broker_frame *frames, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0);
        broker_message *message = frames[i].handle;
        zmq_msg_t empty;
        zmq_msg_t *msg = message != NULL ? &message->msg : &empty;
        if (message == NULL)
            (void)zmq_msg_init(&empty);
        int rc = broker_send(msg, socket, flags);
        ASSERT(rc >= 0);
        if (message != NULL)
            broker_message_give(self, message);
    }
}

static bool send_frames(broker_sockets *self, broker_door door, const broker_peer *to,
                        const broker_frame *frames, uint32_t count) {
    void *socket = (to->id[0] == BROKER_TAG_KEYED ? self->keyed : self->open)[door].socket;
    ASSERT(socket != NULL && to->size > 1);
    size_t size = (size_t)to->size - 1;
    zmq_msg_t identity;
    int rc = zmq_msg_init_size(&identity, size); /* small enough to be kept inside: takes no memory */
    ASSERT(rc == 0);
    memcpy(zmq_msg_data(&identity), to->id + 1, size);
    if (broker_send(&identity, socket, ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0) {
        send_rest(self, socket, frames, count);
        return true;
    }
    int error = zmq_errno();
    ASSERT(error == EAGAIN || error == EHOSTUNREACH);
    (void)zmq_msg_close(&identity);
    for (uint32_t i = 0; i < count; i++)
        if (frames[i].handle != NULL)
            frame_free(self, frames[i]);
    return false;
}

static bool send_front(void *context, const broker_peer *to, broker_frame envelope, broker_frame body) {
    const broker_frame frames[] = {envelope, body};
    return send_frames(context, BROKER_DOOR_FRONT, to, frames, COUNT_OF(frames));
}

static bool send_back(void *context, const broker_peer *to, broker_frame envelope, broker_frame route,
                      broker_frame body) {
    const broker_frame frames[] = {envelope, route, body};
    return send_frames(context, BROKER_DOOR_BACK, to, frames, COUNT_OF(frames));
}

/* XPUB drops for a subscriber that is full, and never blocks or fails for a complete message. Takes both. */
static void publish_on(void *socket, zmq_msg_t *topic, zmq_msg_t *payload) {
    if (broker_send(topic, socket, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
        (void)zmq_msg_close(topic);
    else if (broker_send(payload, socket, ZMQ_DONTWAIT) >= 0)
        return;
    (void)zmq_msg_close(payload);
}

static void publish_two(broker_sockets *self, zmq_msg_t *topic, zmq_msg_t *payload) {
    void *keyed = self->keyed[BROKER_DOOR_EVENTS].socket;
    zmq_msg_t topic_copy, payload_copy; /* share the bytes */
    (void)zmq_msg_init(&topic_copy);
    (void)zmq_msg_init(&payload_copy);
    if (keyed != NULL && zmq_msg_copy(&topic_copy, topic) == 0 && zmq_msg_copy(&payload_copy, payload) == 0) {
        publish_on(keyed, &topic_copy, &payload_copy);
    } else {
        (void)zmq_msg_close(&topic_copy);
        (void)zmq_msg_close(&payload_copy);
    }
    publish_on(self->open[BROKER_DOOR_EVENTS].socket, topic, payload);
}

static bool copy_of(zmq_msg_t *msg, stet_str bytes) {
    if (zmq_msg_init_size(msg, bytes.size) != 0)
        return false;
    if (bytes.size > 0)
        memcpy(zmq_msg_data(msg), bytes.data, bytes.size);
    return true;
}

static void publish(void *context, stet_str topic, stet_str payload) {
    broker_sockets *self = context;
    if (self->event_in_hand && payload.data == zmq_msg_data(&self->event_payload)) {
        self->event_in_hand = false;
        publish_two(self, &self->event_topic, &self->event_payload);
        return;
    }
    zmq_msg_t topic_msg, payload_msg;
    if (!copy_of(&topic_msg, topic))
        return;
    if (copy_of(&payload_msg, payload))
        publish_two(self, &topic_msg, &payload_msg);
    else
        (void)zmq_msg_close(&topic_msg);
}

static void log_event(void *context, stet_level level, const char *event, const char *message,
                      const stet_log_field *fields) {
    (void)context;
    stet_log_fields(level, event, message, fields);
}

/* ---- open and close ---- */
static bool set(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_common(void *socket, int recv_hwm, int send_hwm, int64_t message_max) {
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &message_max, sizeof message_max) == 0 &&
           set(socket, ZMQ_RCVHWM, recv_hwm) && set(socket, ZMQ_SNDHWM, send_hwm) &&
           set(socket, ZMQ_LINGER, LINGER_MS) && set(socket, ZMQ_BACKLOG, BACKLOG) &&
           set(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) && set(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) &&
           set(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS) && set(socket, ZMQ_IPV6, 1);
}

typedef struct door_kind {
    int type, recv_hwm, send_hwm;
    int64_t message_max;
    int option; /* one more to be set to 1; 0: none */
} door_kind;

static const door_kind kinds[BROKER_DOORS_COUNT] = {
    [BROKER_DOOR_FRONT] = {ZMQ_ROUTER, FRONT_RECV_HWM, FRONT_SEND_HWM, FRAME_BYTES_MAX, ZMQ_ROUTER_MANDATORY},
    [BROKER_DOOR_BACK] = {ZMQ_ROUTER, BACK_RECV_HWM, BACK_SEND_HWM, FRAME_BYTES_MAX, ZMQ_ROUTER_MANDATORY},
    [BROKER_DOOR_EVENTS] = {ZMQ_XPUB, EVENTS_HWM, EVENTS_HWM, SUBSCRIPTION_BYTES_MAX, ZMQ_XPUB_VERBOSE},
    [BROKER_DOOR_EVENTS_IN] = {ZMQ_XSUB, EVENTS_HWM, EVENTS_HWM, EVENT_BYTES_MAX, 0},
};

static bool create_port(broker_sockets *self, broker_port *port, broker_door door, bool keyed) {
    const door_kind *kind = &kinds[door];
    port->door = door;
    port->keyed = keyed;
    port->socket = zmq_socket(self->context, kind->type);
    return port->socket != NULL &&
           set_common(port->socket, kind->recv_hwm, kind->send_hwm, kind->message_max) &&
           (kind->option == 0 || set(port->socket, kind->option, 1)) &&
           (!keyed || (broker_gate_guard(self->gate, port->socket, door) &&
                       broker_gate_watch(self->gate, port->socket, broker_door_name(door))));
}

static bool create(broker_sockets *self, const broker_sockets_options *options) {
    self->context = zmq_ctx_new();
    bool good = self->context != NULL;
    for (broker_door door = 0; good && door < BROKER_DOORS_COUNT; door++)
        good = create_port(self, &self->open[door], door, /* keyed= */ false) &&
               (options->keyed[door].count == 0 ||
                create_port(self, &self->keyed[door], door, /* keyed= */ true));
    return good;
}

static stet_code bind_to(const broker_port *port, const char *endpoint, char *ret_bound, size_t size,
                         stet_error *e) {
    if (zmq_bind(port->socket, endpoint) != 0)
        return stet_error_set(e, stet_code_of_disk(zmq_errno(), STET_INVALID), "cannot listen on %s: %s",
                              endpoint, zmq_strerror(zmq_errno()));
    ret_bound[0] = '\0';
    (void)zmq_getsockopt(port->socket, ZMQ_LAST_ENDPOINT, ret_bound, &size);
    stet_log(STET_INFO, "listen", "listening", STET_LOG_C("endpoint", ret_bound),
             STET_LOG_C("socket", broker_door_name(port->door)),
             STET_LOG_C("keys", port->keyed ? "yes" : "no"));
    return STET_OK;
}

static stet_code bind_door(broker_sockets *self, broker_door door, const char *first,
                           const broker_sockets_options *options, stet_error *e) {
    char bound[2 * STET_ENDPOINT_MAX];
    const broker_endpoints *open = &options->open[door], *keyed = &options->keyed[door];
    stet_code rc = bind_to(&self->open[door], first, bound, sizeof bound, e);
    for (uint32_t i = 0; rc == STET_OK && i < open->count; i++)
        rc = bind_to(&self->open[door], open->items[i], bound, sizeof bound, e);
    for (uint32_t i = 0; rc == STET_OK && i < keyed->count; i++) {
        broker_bound *b = &self->bound[self->bound_count++];
        *b = (broker_bound){.socket = self->keyed[door].socket, .up = true};
        rc = bind_to(&self->keyed[door], keyed->items[i], b->endpoint, sizeof b->endpoint, e);
    }
    return rc;
}

static bool subscribe(const broker_port *port) {
    return port->socket == NULL || zmq_send(port->socket, "\x01", 1, 0) == 1;
}

static stet_code bind_all(broker_sockets *self, const broker_sockets_options *options, stet_error *e) {
    const stet_paths *paths = options->paths;
    /* Actors first: a client that can ask finds them sooner. */
    stet_code rc = bind_door(self, BROKER_DOOR_EVENTS_IN, paths->events_in, options, e);
    if (rc == STET_OK)
        rc = bind_door(self, BROKER_DOOR_BACK, paths->back, options, e);
    if (rc == STET_OK)
        rc = bind_door(self, BROKER_DOOR_EVENTS, paths->events, options, e);
    if (rc == STET_OK)
        rc = bind_door(self, BROKER_DOOR_FRONT, paths->front, options, e);
    if (rc == STET_OK &&
        (!subscribe(&self->open[BROKER_DOOR_EVENTS_IN]) || !subscribe(&self->keyed[BROKER_DOOR_EVENTS_IN])))
        return stet_error_set(e, STET_INTERNAL, "cannot subscribe to events: %s", zmq_strerror(zmq_errno()));
    return rc;
}

/* libzmq ends the connections that a listener has accepted together with the listener. */
void broker_sockets_cut(broker_sockets *self) {
    for (uint32_t i = 0; i < self->bound_count; i++) {
        broker_bound *b = &self->bound[i];
        if (!b->up)
            continue;
        int rc = zmq_unbind(b->socket, b->endpoint);
        ASSERT(rc == 0);
        b->up = false;
        self->down_count++;
    }
    self->down_since_ms = self->now_ms;
}

bool broker_sockets_bind_again(broker_sockets *self) {
    for (uint32_t i = 0; i < self->bound_count; i++) {
        broker_bound *b = &self->bound[i];
        if (b->up || zmq_bind(b->socket, b->endpoint) != 0)
            continue;
        b->up = true;
        self->down_count--;
    }
    if (self->down_count == 0 || self->now_ms - self->down_since_ms < BIND_AGAIN_MS)
        return true;
    stet_log(STET_ERROR, "listen.lost", "cannot listen again after keys were taken back, ending",
             STET_LOG_I("endpoints", self->down_count));
    return false;
}

static bool any_keyed(const broker_sockets_options *options) {
    for (broker_door door = 0; door < BROKER_DOORS_COUNT; door++)
        if (options->keyed[door].count > 0)
            return true;
    return false;
}

stet_code broker_sockets_open(const broker_sockets_options *options, broker_sockets **ret, stet_error *e) {
    broker_sockets *self = calloc(1, sizeof *self);
    if (self == NULL)
        return stet_error_set(e, STET_INTERNAL, "out of memory");
    self->paths = *options->paths;
    self->memory_max = options->memory_max;
    self->now_ms = stet_clock_boot_ms();
    const broker_edge edge = {.context = self,
                              .send_front = send_front,
                              .send_back = send_back,
                              .publish = publish,
                              .frame_new = frame_new,
                              .frame_free = frame_free,
                              .log = log_event};
    stet_code rc = STET_OK;
    self->core = broker_core_new(&options->core, &edge, self->now_ms);
    if (any_keyed(options))
        rc = broker_gate_new(options->keys_directory, &self->gate, e);
    if (rc == STET_OK && (self->core == NULL || !create(self, options)))
        rc = stet_error_set(e, STET_INTERNAL, "cannot create sockets: %s", zmq_strerror(zmq_errno()));
    if (rc == STET_OK && self->gate != NULL)
        rc = broker_gate_start(self->gate, self->context, e);
    if (rc == STET_OK)
        rc = bind_all(self, options, e);
    if (rc != STET_OK) {
        (void)broker_sockets_close(self);
        return rc;
    }
    *ret = self;
    return STET_OK;
}

static void close_port(broker_port *port) {
    if (port->socket != NULL)
        (void)zmq_close(port->socket);
    port->socket = NULL;
}

/* libzmq removes them as well; this is for the day it does not. We hold the lock, so they are ours. */
static void unlink_endpoint(const char *endpoint) {
    static const char scheme[] = "ipc://";
    if (strncmp(endpoint, scheme, sizeof scheme - 1) == 0)
        (void)unlink(endpoint + sizeof scheme - 1);
}

broker_sockets *broker_sockets_close(broker_sockets *self) {
    if (self == NULL)
        return NULL;
    self->core = broker_core_free(self->core);
    for (broker_door door = 0; door < BROKER_DOORS_COUNT; door++) {
        close_port(&self->keyed[door]);
        close_port(&self->open[door]);
    }
    self->gate = broker_gate_free(self->gate); /* last, as it must answer as long as anybody can connect */
    while (self->context != NULL && zmq_ctx_term(self->context) != 0 && zmq_errno() == EINTR)
        continue;
    unlink_endpoint(self->paths.front);
    unlink_endpoint(self->paths.back);
    unlink_endpoint(self->paths.events_in);
    unlink_endpoint(self->paths.events);
    while (self->chunks != NULL) {
        broker_chunk *chunk = self->chunks;
        self->chunks = chunk->next;
        free(chunk);
    }
    free(self);
    return NULL;
}
