/* The broker: its real core, frames that are plain memory, and a life that can end at any moment. */
#include "tests/sim/sim.h"

#include <stdlib.h>

static broker_frame frame_new(void *context, const void *data, size_t size) {
    (void)context;
    uint8_t *bytes = malloc(size);
    if (!bytes)
        return (broker_frame){.handle = NULL};
    memcpy(bytes, data, size);
    return (broker_frame){.data = bytes, .size = size, .handle = bytes};
}

static void frame_free(void *context, broker_frame frame) {
    (void)context;
    free(frame.handle);
}

static bool send_to(sim *s, net_socket socket, const broker_peer *to, broker_frame *frames, uint32_t count) {
    CLEANUP(memory_let_go) int held = memory_hold();
    stet_str bytes[NET_FRAMES_MAX];
    net_link *link = net_find(&s->net, socket, to);
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = stet_str_from(frames[i].data, frames[i].size);
    bool sent = link ? net_to_node(link, bytes, count) : net_is_ghost(&s->net, to);
    for (uint32_t i = 0; i < count; i++)
        free(frames[i].handle);
    return sent;
}

/* What the broker passes on for an actor, and to whom it says that it is the owner. */
static void look_at(sim *s, net_socket socket, broker_frame frame) {
    CLEANUP(memory_let_go) int held = memory_hold();
    stet_envelope envelope;
    if (!s->broker.speaker || s->slots_count == SIM_ACTORS ||
        stet_envelope_decode(stet_str_from(frame.data, frame.size), &envelope, NULL) != STET_OK)
        return;
    if (envelope.kind == STET_KIND_WELCOME)
        owners_welcomed(s, s->broker.speaker);
    else if (socket == NET_FRONT || envelope.kind == STET_KIND_ACK)
        owners_answered(s, s->broker.speaker);
}

static bool send_front(void *context, const broker_peer *to, broker_frame envelope, broker_frame body) {
    look_at(context, NET_FRONT, envelope);
    return send_to(context, NET_FRONT, to, (broker_frame[]){envelope, body}, 2);
}

static bool send_back(void *context, const broker_peer *to, broker_frame envelope, broker_frame route,
                      broker_frame body) {
    look_at(context, NET_BACK, envelope);
    return send_to(context, NET_BACK, to, (broker_frame[]){envelope, route, body}, 3);
}

static void publish(void *context, stet_str topic, stet_str payload) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim *s = context;
    for (size_t i = 0; i < s->net.links_count; i++) {
        net_link *link = s->net.links[i];
        if (link->socket != NET_EVENTS || !link->up || !link->subscribed)
            continue;
        const sim_reader *reader = link->node;
        char prefix[64];
        int size = snprintf(prefix, sizeof(prefix), "TOOL_PROGRESS/%s", reader->session);
        if (topic.size >= (size_t)size && memcmp(topic.data, prefix, (size_t)size) == 0)
            (void)net_to_node(link, (stet_str[]){topic, payload}, 2);
    }
}

static void say(void *context, stet_level level, const char *event, const char *message,
                const stet_log_field *fields) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim *s = context;
    (void)fields;
    world_tell(&s->world, "broker", event, (uint64_t)level, 0, (stet_str){NULL, 0});
    if (level == STET_ERROR)
        history_add(&s->history,
                    (history_record){.kind = HISTORY_COMPLAINT,
                                     .at_ms = s->world.boot_ms,
                                     .stream = history_name_of(&s->history, "broker: %s", message)});
}

/* ---- time ---- */

static void wake(void *object, uint64_t life);

static void plan(sim_broker *self) {
    int64_t wake_ms = broker_core_next_wake(self->core);
    if (wake_ms >= self->wake_ms || wake_ms == INT64_MAX)
        return;
    self->wake_ms = wake_ms;
    world_at(&self->sim->world, wake_ms, wake, self, self->life);
}

static void wake(void *object, uint64_t life) {
    sim_broker *self = object;
    world *w = &self->sim->world;
    if (!self->core || self->life != life || w->boot_ms < self->wake_ms)
        return;
    if (w->boot_ms < self->paused_until_ms) {
        self->wake_ms = self->paused_until_ms;
        world_at(w, self->wake_ms, wake, self, life);
        return;
    }
    self->wake_ms = INT64_MAX;
    broker_core_tick(self->core, w->boot_ms);
    plan(self);
}

/* ---- messages ---- */

static broker_frame frame_of(stet_str bytes) {
    return bytes.size > 0 ? frame_new(NULL, bytes.data, bytes.size) : (broker_frame){.data = NULL};
}

static void take_front(sim_broker *self, const net_packet *packet, int64_t now_ms) {
    broker_frame envelope = frame_of(packet->frames[0]), body = frame_of(packet->frames[1]);
    memory_on(&self->memory);
    broker_core_front(self->core, &packet->peer, STET_ROLE_CONTROL, envelope, body, now_ms);
}

static void take_back(sim_broker *self, const net_link *link, const net_packet *packet, int64_t now_ms) {
    broker_frame envelope = frame_of(packet->frames[0]), route = frame_of(packet->frames[1]),
                 body = frame_of(packet->frames[2]);
    self->speaker = link->node;
    memory_on(&self->memory);
    broker_core_back(self->core, &packet->peer, envelope, route, body, now_ms);
    self->speaker = NULL;
}

int64_t broker_node_deliver(void *node, net_link *link, net_packet *packet) {
    sim_broker *self = node;
    int64_t now_ms = self->sim->world.boot_ms;
    const stet_str *f = packet->frames;
    if (!self->core)
        return 0;
    if (now_ms < self->paused_until_ms)
        return self->paused_until_ms;
    switch (link->socket) {
    case NET_FRONT:
        take_front(self, packet, now_ms);
        break;
    case NET_BACK:
        take_back(self, link, packet, now_ms);
        break;
    case NET_EVENTS_IN:
        memory_on(&self->memory);
        broker_core_event(self->core, f[0], f[1]);
        break;
    case NET_EVENTS:
        link->subscribed = true;
        memory_on(&self->memory);
        broker_core_subscribed(self->core, f[0], now_ms);
        break;
    }
    if (memory_off())
        fault_count(self->sim, FAULT_broker_memory);
    plan(self);
    return 0;
}

/* ---- life ---- */

void broker_node_init(sim *s) {
    s->broker = (sim_broker){.sim = s, .wake_ms = INT64_MAX};
}

void broker_node_start(sim *s) {
    sim_broker *self = &s->broker;
    const broker_edge edge = {.context = s,
                              .send_front = send_front,
                              .send_back = send_back,
                              .publish = publish,
                              .frame_new = frame_new,
                              .frame_free = frame_free,
                              .log = say};
    const stet_config *c = s->config;
    broker_options options = {.queue_max = (uint32_t)stet_config_int(c, STET_SETTING_broker_queue_max),
                              .queue_bytes = (uint64_t)stet_config_int(c, STET_SETTING_broker_queue_bytes),
                              .sessions_max = (uint32_t)stet_config_int(c, STET_SETTING_broker_sessions_max),
                              .heartbeat_ms = (uint32_t)stet_config_int(c, STET_SETTING_broker_heartbeat),
                              .timeout_ms = (uint32_t)stet_config_int(c, STET_SETTING_broker_timeout),
                              .instance = stet_id_next(&s->world.ids, 1),
                              .software = "sim"};
    self->core = broker_core_new(&options, &edge, s->world.boot_ms);
    ASSERT(self->core != NULL);
    self->life++;
    self->paused_until_ms = 0;
    self->wake_ms = INT64_MAX;
    world_tell(&s->world, "broker", "started", self->life, 0, (stet_str){NULL, 0});
    net_broker_appears(&s->net);
    plan(self);
}

static void start_again(void *object, uint64_t life) {
    sim_broker *self = object;
    if (!self->core && self->life == life)
        broker_node_start(self->sim);
}

void broker_node_kill(sim *s) {
    sim_broker *self = &s->broker;
    if (!self->core)
        return;
    world_tell(&s->world, "broker", "killed", self->life, 0, (stet_str){NULL, 0});
    self->core = broker_core_free(self->core);
    net_broker_dies(&s->net);
    owners_broker_died(s);
    world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 10, s->calm ? 100 : 8000), start_again,
             self, self->life);
}

void broker_node_pause(sim *s, int64_t ms) {
    s->broker.paused_until_ms = s->world.boot_ms + ms;
}
