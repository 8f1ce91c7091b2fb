#include "broker/internal.h"
#include "proto/base/fault.h"

#include <stdlib.h>

/* FNV-1a with a seed and a final mix: good enough for tables whose keys peers may choose but not see hashed.
 */
uint64_t broker_hash(uint64_t seed, const void *data, size_t size) {
    const uint8_t *bytes = data;
    uint64_t hash = seed ^ 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ hash >> 32;
}

bool broker_peer_equal(const broker_peer *a, const broker_peer *b) {
    return a->size == b->size && memcmp(a->id, b->id, a->size) == 0;
}

const char *broker_counter_name(broker_counter counter) {
    static const char *const names[] = {
#define X(name, wire) [BROKER_COUNT_##name] = wire,
        BROKER_COUNTERS(X)
#undef X
    };
    ASSERT(counter < BROKER_COUNTERS_COUNT);
    return names[counter];
}

void broker_log(broker_core *self, stet_level level, const char *event, const char *message,
                const broker_actor *actor) {
    if (self->edge.log == NULL)
        return;
    const broker_lane *lane = &self->registry.lanes[actor->lane];
    char instance[STET_ID_TEXT_SIZE];
    stet_id_text(actor->instance, instance);
    const stet_log_field fields[] = {STET_LOG_S("service", broker_lane_service(lane)),
                                     STET_LOG_I("partition", lane->partition),
                                     STET_LOG_I("epoch", (int64_t)actor->epoch),
                                     STET_LOG_C("instance", instance),
                                     STET_LOG_I("outstanding", actor->outstanding.count),
                                     STET_LOG_I("queued", lane->queue.count),
                                     {.name = NULL}};
    self->edge.log(self->edge.context, level, event, message, fields);
}

broker_core *broker_core_new(const broker_options *options, const broker_edge *edge, int64_t boot_ms) {
    ASSERT(options->queue_max > 0 && options->sessions_max > 0 && options->heartbeat_ms > 0 &&
           options->timeout_ms > 0);
    broker_core *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->options = *options;
    self->edge = *edge;
    self->now_ms = self->started_ms = boot_ms;
    self->report_ms = boot_ms + BROKER_REPORT_INTERVAL_MS;
    self->seed = broker_hash(0, options->instance.bytes, sizeof options->instance.bytes);
    self->envelope_buf = (stet_buf)STET_BUF(STET_ENVELOPE_BYTES_MAX);
    self->body_buf = (stet_buf)STET_BUF(STET_BODY_BYTES_MAX);
    self->route_buf = (stet_buf)STET_BUF(256);
    broker_pending_init(self);
    broker_shares_init(self);
    broker_registry_init(self);
    self->last = broker_last_new(options->sessions_max, self->seed);
    if (self->last == NULL)
        return broker_core_free(self);
    return self;
}

broker_core *broker_core_free(broker_core *self) {
    if (self == NULL)
        return NULL;
    broker_pending_done(self);
    broker_shares_done(self);
    self->last = broker_last_free(self->last);
    stet_buf_done(&self->envelope_buf);
    stet_buf_done(&self->body_buf);
    stet_buf_done(&self->route_buf);
    free(self);
    return NULL;
}

/* A clock that goes back (it should not) stands still instead. */
static void set_time(broker_core *self, int64_t boot_ms) {
    if (boot_ms > self->now_ms)
        self->now_ms = boot_ms;
}

void broker_core_malformed(broker_core *self, bool front) {
    broker_count(self, front ? BROKER_COUNT_MALFORMED_FRONT : BROKER_COUNT_MALFORMED_BACK);
}

void broker_core_malformed_event(broker_core *self) {
    broker_count(self, BROKER_COUNT_MALFORMED_EVENTS);
}

/* ---- front ---- */
/* Fills *ret when the message may be routed; else *e says why not, and ret->id whether anybody can be told.
 */
static stet_code admit_front(broker_core *self, stet_role role, broker_frame envelope_frame,
                             broker_frame body, stet_envelope *ret, stet_error *e) {
    stet_str frame = stet_str_from(envelope_frame.data, envelope_frame.size);
    stet_code rc = stet_envelope_decode(frame, ret, e);
    if (rc != STET_OK) { /* ret->id is there when it could be read, e.g. in a message of a newer version */
        broker_core_malformed(self, /* front= */ true);
        return rc;
    }
    if (stet_id_is_zero(ret->id)) {
        broker_core_malformed(self, /* front= */ true);
        return stet_error_field(e, STET_INVALID, "id", "a request needs an id");
    }
    if (ret->kind != STET_KIND_REQUEST)
        return stet_error_field(e, STET_INVALID, "kind", "a client sends requests only");
    if (stet_command_service(ret->command).size == 0)
        return stet_error_field(e, STET_INVALID, "command",
                                "a command is SERVICE.NAME, e.g. broker.services");
    if (body.size > STET_BODY_BYTES_MAX)
        return stet_error_set(e, STET_TOO_LARGE, "the body is %zu bytes, at most %d are carried", body.size,
                              STET_BODY_BYTES_MAX);
    if (role == STET_ROLE_NONE)
        return stet_error_set(e, STET_UNAUTHORIZED,
                              "this connection has no role; present a key that the broker knows");
    /* What is not in the table is the actor's to decide. */
    const stet_command *command = role == STET_ROLE_CONTROL ? NULL : stet_command_find(ret->command);
    if (command != NULL && !stet_role_may(role, command))
        return stet_error_set(e, STET_FORBIDDEN, "%s needs the role %s; yours is %s", command->name,
                              stet_role_name(command->role), stet_role_name(role));
    return STET_OK;
}

void broker_core_front(broker_core *self, const broker_peer *from, stet_role role,
                       broker_frame envelope_frame, broker_frame body, int64_t boot_ms) {
    set_time(self, boot_ms);
    broker_count(self, BROKER_COUNT_REQUESTS);
    stet_envelope envelope = {0};
    stet_error error;
    stet_code rc = admit_front(self, role, envelope_frame, body, &envelope, &error);
    if (rc == STET_OK && !stet_str_is(stet_command_service(envelope.command), "broker")) {
        broker_route(self, from, role, &envelope, envelope_frame, body);
        return;
    }
    if (rc == STET_OK) {
        broker_builtin(self, from, role, &envelope, stet_str_from(body.data, body.size));
    } else if (!stet_id_is_zero(envelope.id)) {
        broker_count(self, BROKER_COUNT_REFUSED);
        broker_error_front(self, from, envelope.id, &error);
    }
    broker_frame_free(self, envelope_frame);
    broker_frame_free(self, body);
}

void broker_core_refuse(broker_core *self, const broker_peer *from, broker_frame envelope_frame,
                        broker_frame body, const stet_error *error, int64_t boot_ms) {
    set_time(self, boot_ms);
    broker_count(self, BROKER_COUNT_REQUESTS);
    stet_envelope envelope = {0};
    stet_error ignored;
    if (stet_envelope_decode(stet_str_from(envelope_frame.data, envelope_frame.size), &envelope, &ignored) !=
        STET_OK)
        broker_core_malformed(self, /* front= */ true);
    if (!stet_id_is_zero(envelope.id)) {
        broker_count(self, BROKER_COUNT_REFUSED);
        broker_error_front(self, from, envelope.id, error);
    }
    broker_frame_free(self, envelope_frame);
    broker_frame_free(self, body);
}

void broker_core_unauthorized(broker_core *self) {
    broker_count(self, BROKER_COUNT_UNAUTHORIZED);
}

void broker_core_handshakes(broker_core *self, uint64_t refused, uint64_t failed) {
    self->counters[BROKER_COUNT_HANDSHAKES_REFUSED] = refused;
    self->counters[BROKER_COUNT_HANDSHAKES_FAILED] = failed;
}

/* ---- back ---- */
/* The channel's name is what the receiver deduplicates by, so it has to be the sender's own. */
static stet_code admit_send(const broker_core *self, const broker_actor *actor, const stet_envelope *envelope,
                            broker_frame body, stet_error *e) {
    const broker_lane *lane = &self->registry.lanes[actor->lane];
    if (!stet_str_equal(envelope->service, broker_lane_service(lane)) ||
        envelope->partition != lane->partition || envelope->epoch != actor->epoch)
        return stet_error_field(e, STET_FORBIDDEN, "service",
                                "a send names its sender's own service, partition and epoch");
    stet_str service = stet_command_service(envelope->command);
    if (service.size == 0 || stet_str_is(service, "broker"))
        return stet_error_field(e, STET_INVALID, "command", "a send needs a command of another actor");
    if (body.size > STET_BODY_BYTES_MAX)
        return stet_error_set(e, STET_TOO_LARGE, "the body is %zu bytes, at most %d are carried", body.size,
                              STET_BODY_BYTES_MAX);
    return STET_OK;
}

/* Takes the frames. */
static void back_send(broker_core *self, uint32_t actor_index, const stet_envelope *envelope,
                      broker_frame envelope_frame, broker_frame body) {
    const broker_actor *actor = &self->registry.actors[actor_index];
    broker_peer from = actor->peer;
    stet_error error;
    broker_count(self, BROKER_COUNT_SENDS);
    if (stet_id_is_zero(envelope->id)) {
        broker_core_malformed(self, /* front= */ false);
    } else if (admit_send(self, actor, envelope, body, &error) != STET_OK) {
        broker_count(self, BROKER_COUNT_REFUSED);
        broker_error_back(self, &from, envelope->id, envelope->command, &error);
    } else {
        broker_route(self, &from, STET_ROLE_ACTOR, envelope, envelope_frame, body);
        return;
    }
    broker_frame_free(self, envelope_frame);
    broker_frame_free(self, body);
}

/* What carries no body for anybody else. */
static void back_control(broker_core *self, const broker_peer *from, uint32_t actor_index,
                         const stet_envelope *envelope) {
    if (envelope->kind == STET_KIND_READY)
        broker_ready(self, from, envelope);
    else if (actor_index == BROKER_NONE)
        broker_ask_register(self, from);
    else if (envelope->kind == STET_KIND_HEARTBEAT)
        broker_heartbeat(self, actor_index, envelope);
    else if (envelope->kind == STET_KIND_LEAVE)
        broker_leave(self, actor_index);
    else
        broker_core_malformed(self, /* front= */ false);
}

void broker_core_back(broker_core *self, const broker_peer *from, broker_frame envelope_frame,
                      broker_frame route, broker_frame body, int64_t boot_ms) {
    set_time(self, boot_ms);
    stet_envelope envelope;
    stet_code rc =
        stet_envelope_decode(stet_str_from(envelope_frame.data, envelope_frame.size), &envelope, NULL);
    uint32_t actor = broker_actor_find(self, from);
    if (actor != BROKER_NONE && rc == STET_OK) {
        self->registry.actors[actor].seen_ms = self->now_ms;
        switch (envelope.kind) {
        case STET_KIND_REPLY:
        case STET_KIND_ERROR:
        case STET_KIND_ACK:
            broker_answer(self, actor, &envelope, envelope_frame, route, body);
            return;
        case STET_KIND_SEND:
            broker_frame_free(self, route);
            back_send(self, actor, &envelope, envelope_frame, body);
            return;
        default:
            break;
        }
    }
    if (rc == STET_OK)
        back_control(self, from, actor, &envelope);
    else
        broker_core_malformed(self, /* front= */ false);
    broker_frame_free(self, envelope_frame);
    broker_frame_free(self, route);
    broker_frame_free(self, body);
}

/* ---- events ---- */
void broker_core_event(broker_core *self, stet_str topic, stet_str payload) {
    if (topic.size == 0 || topic.size > BROKER_TOPIC_SIZE_MAX || payload.size > BROKER_EVENT_BYTES_MAX) {
        broker_count(self, BROKER_COUNT_MALFORMED_EVENTS);
        return;
    }
    broker_count(self, BROKER_COUNT_EVENTS);
    broker_last_put(self->last, topic, payload);
    FAULT(broker_event_before);
    self->edge.publish(self->edge.context, topic, payload);
    FAULT(broker_event_after);
}

void broker_core_subscribed(broker_core *self, stet_str prefix, int64_t boot_ms) {
    set_time(self, boot_ms);
    if (prefix.size <= BROKER_TOPIC_SIZE_MAX)
        broker_last_subscribed(self, prefix);
}

/* ---- time ---- */
static uint64_t malformed(const broker_core *self) {
    return self->counters[BROKER_COUNT_MALFORMED_FRONT] + self->counters[BROKER_COUNT_MALFORMED_BACK] +
           self->counters[BROKER_COUNT_MALFORMED_EVENTS] + self->counters[BROKER_COUNT_FORGED];
}

static void report(broker_core *self) {
    if (self->now_ms < self->report_ms || malformed(self) == self->reported_malformed)
        return;
    self->reported_malformed = malformed(self);
    self->report_ms = self->now_ms + BROKER_REPORT_INTERVAL_MS;
    if (self->edge.log == NULL)
        return;
    const stet_log_field fields[] = {
        STET_LOG_I("front", (int64_t)self->counters[BROKER_COUNT_MALFORMED_FRONT]),
        STET_LOG_I("back", (int64_t)self->counters[BROKER_COUNT_MALFORMED_BACK]),
        STET_LOG_I("events", (int64_t)self->counters[BROKER_COUNT_MALFORMED_EVENTS]),
        STET_LOG_I("forged_tickets", (int64_t)self->counters[BROKER_COUNT_FORGED]),
        {.name = NULL}};
    self->edge.log(self->edge.context, STET_WARN, "frames.malformed",
                   "messages that are not STET/1 were dropped; counts since the start", fields);
}

void broker_core_tick(broker_core *self, int64_t boot_ms) {
    set_time(self, boot_ms);
    broker_wheel_sweep(self);
    broker_away_sweep(self);
    broker_last_tick(self);
    report(self);
}

int64_t broker_core_next_wake(const broker_core *self) {
    int64_t wake_ms = broker_wheel_next_ms(self);
    int64_t away_ms = broker_away_next_ms(self);
    int64_t replay_ms = broker_last_next_ms(self);
    if (away_ms < wake_ms)
        wake_ms = away_ms;
    if (replay_ms < wake_ms)
        wake_ms = replay_ms;
    if (malformed(self) != self->reported_malformed && self->report_ms < wake_ms)
        wake_ms = self->report_ms;
    return wake_ms;
}
