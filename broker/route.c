/* route - from a request or send to an actor, and from its answer back to who asked.
 *
 * Every message that is taken in gets exactly one answer: the actor's, or an error made here (busy,
 * unavailable, timeout). An answer that cannot be delivered (the client is gone, or does not read) is counted
 * and forgotten; the client resends with the same id when it comes back. */
#include "broker/internal.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

void broker_frame_free(broker_core *self, broker_frame frame) {
    if (frame.handle != NULL)
        self->edge.frame_free(self->edge.context, frame);
}

static broker_frame frame_of(broker_core *self, stet_str bytes) {
    broker_frame frame = {0};
    if (bytes.size > 0) {
        frame = self->edge.frame_new(self->edge.context, bytes.data, bytes.size);
        if (frame.handle == NULL)
            broker_count(self, BROKER_COUNT_NO_MEMORY);
    }
    return frame;
}

static broker_frame envelope_of(broker_core *self, const stet_envelope *envelope) {
    stet_buf_clear(&self->envelope_buf);
    stet_envelope_encode(envelope, &self->envelope_buf);
    if (!stet_buf_ok(&self->envelope_buf)) {
        broker_count(self, BROKER_COUNT_NO_MEMORY);
        return (broker_frame){0};
    }
    return frame_of(self, stet_buf_str(&self->envelope_buf));
}

/* ---- errors ---- */
static stet_str error_body(broker_core *self, const stet_error *error) {
    stet_buf_clear(&self->body_buf);
    stet_error_encode(error, &self->body_buf);
    return stet_buf_ok(&self->body_buf) ? stet_buf_str(&self->body_buf) : (stet_str){0};
}

void broker_send_back(broker_core *self, const broker_peer *to, const stet_envelope *envelope,
                      stet_str body) {
    broker_frame envelope_frame = envelope_of(self, envelope);
    broker_frame body_frame = frame_of(self, body);
    if (envelope_frame.handle == NULL || (body.size > 0 && body_frame.handle == NULL)) {
        broker_frame_free(self, envelope_frame);
        broker_frame_free(self, body_frame);
        return;
    }
    if (!self->edge.send_back(self->edge.context, to, envelope_frame, (broker_frame){0}, body_frame))
        broker_count(self, BROKER_COUNT_UNDELIVERABLE);
}

void broker_send_front(broker_core *self, const broker_peer *to, const stet_envelope *envelope,
                       stet_str body) {
    broker_frame envelope_frame = envelope_of(self, envelope);
    broker_frame body_frame = frame_of(self, body);
    if (envelope_frame.handle == NULL || body_frame.handle == NULL) {
        broker_frame_free(self, envelope_frame);
        broker_frame_free(self, body_frame);
        return;
    }
    if (!self->edge.send_front(self->edge.context, to, envelope_frame, body_frame))
        broker_count(self, BROKER_COUNT_UNDELIVERABLE);
}

void broker_error_front(broker_core *self, const broker_peer *to, stet_id id, const stet_error *error) {
    stet_envelope envelope = {.kind = STET_KIND_ERROR, .id = id};
    broker_send_front(self, to, &envelope, error_body(self, error));
}

void broker_error_back(broker_core *self, const broker_peer *to, stet_id id, stet_str command,
                       const stet_error *error) {
    stet_envelope envelope = {.kind = STET_KIND_ERROR, .id = id, .command = command};
    broker_send_back(self, to, &envelope, error_body(self, error));
}

void broker_ticket_refuse(broker_core *self, uint32_t index, stet_code code, uint32_t retry_ms,
                          const char *message) {
    broker_ticket *ticket = broker_ticket_at(self, index);
    ASSERT(!ticket->answered);
    ticket->answered = true;
    broker_wheel_remove(self, index);
    stet_error error;
    (void)stet_error_set(&error, code, "%s", message);
    error.retry_after_ms = retry_ms;
    if (ticket->is_send)
        broker_error_back(self, &ticket->from, ticket->id,
                          stet_str_from(ticket->command, ticket->command_size), &error);
    else
        broker_error_front(self, &ticket->from, ticket->id, &error);
}

/* Neither an answer nor its actor's end came long after the deadline: the message or its answer was lost on a
 * connection that still lives. The actor's credit is given back, or each loss would cost it one for ever. */
static void reclaim(broker_core *self, uint32_t index) {
    broker_ticket *ticket = broker_ticket_at(self, index);
    uint32_t lane = ticket->lane, actor_index = ticket->actor;
    broker_actor *actor = &self->registry.actors[actor_index];
    broker_count(self, BROKER_COUNT_LOST);
    ASSERT(actor->outstanding_bytes >= ticket->bytes);
    actor->outstanding_bytes -= ticket->bytes;
    broker_list_remove(self, &actor->outstanding, index);
    broker_ticket_free(self, index);
    broker_drain(self, lane);
    broker_actor_maybe_left(self, actor_index);
}

void broker_expired(broker_core *self, uint32_t index) {
    broker_ticket *ticket = broker_ticket_at(self, index);
    if (ticket->answered) {
        if (!PLANT(credit_lost))
            reclaim(self, index);
        return;
    }
    broker_count(self, BROKER_COUNT_TIMEOUTS);
    if (ticket->state == BROKER_QUEUED) {
        broker_queue_remove(self, index);
        broker_ticket_refuse(self, index, STET_TIMEOUT, 0,
                             "the deadline passed before an actor took this; resend with the same id");
        broker_ticket_free(self, index);
        return;
    }
    broker_ticket_refuse(
        self, index, STET_TIMEOUT, 0,
        "the deadline passed while an actor worked on this; resend with the same id to learn the outcome");
    ticket->deadline_ms = self->now_ms + BROKER_LOST_MS;
    broker_wheel_insert(self, index);
}

/* ---- dispatch ---- */
static bool has_room(const broker_core *self, const broker_actor *actor, uint32_t bytes) {
    return !actor->leaving && actor->outstanding.count < actor->credit &&
           (actor->outstanding.count == 0 || actor->outstanding_bytes + bytes <= self->options.queue_bytes);
}

static broker_frame route_of(broker_core *self, uint32_t index) {
    const broker_ticket *ticket = broker_ticket_at(self, index);
    stet_route route = {.ticket = broker_ticket_number(self, index),
                        .role = stet_str_of(stet_role_name((stet_role)ticket->role)),
                        .slot = ticket->slot,
                        .partition = self->registry.lanes[ticket->lane].partition,
                        .remaining_ms = (uint32_t)(ticket->deadline_ms - self->now_ms)};
    stet_buf_clear(&self->route_buf);
    stet_route_encode(&route, &self->route_buf);
    if (!stet_buf_ok(&self->route_buf)) {
        broker_count(self, BROKER_COUNT_NO_MEMORY);
        return (broker_frame){0};
    }
    return frame_of(self, stet_buf_str(&self->route_buf));
}

/* The ticket is in no list and in the wheel; its lane has an actor with room. Takes the frames. */
static void dispatch(broker_core *self, uint32_t index, broker_frame envelope, broker_frame body) {
    broker_frame route = route_of(self, index);
    if (route.handle == NULL) {
        broker_frame_free(self, envelope);
        broker_frame_free(self, body);
        broker_count(self, BROKER_COUNT_BUSY);
        broker_ticket_refuse(self, index, STET_BUSY, BROKER_UNAVAILABLE_RETRY_MS,
                             "the broker is out of memory; resend later");
        broker_ticket_free(self, index);
        return;
    }
    broker_ticket *ticket = broker_ticket_at(self, index);
    ticket->state = BROKER_DISPATCHED;
    ticket->actor = self->registry.lanes[ticket->lane].actor;
    broker_actor *actor = &self->registry.actors[ticket->actor];
    actor->outstanding_bytes += ticket->bytes;
    broker_list_push(self, &actor->outstanding, index);
    FAULT(broker_dispatch_before);
    if (!self->edge.send_back(self->edge.context, &actor->peer, envelope, route, body)) {
        broker_count(self, BROKER_COUNT_AWAY);
        broker_actor_gone(self, ticket->actor, "actor.away",
                          "the actor's connection is gone or takes nothing more");
    }
    FAULT(broker_dispatch_after);
}

void broker_drain(broker_core *self, uint32_t lane_index) {
    broker_lane *lane = &self->registry.lanes[lane_index];
    while (lane->actor != BROKER_NONE && lane->queue.count > 0) {
        uint32_t index = lane->queue.head;
        broker_ticket *ticket = broker_ticket_at(self, index);
        if (ticket->deadline_ms <= self->now_ms) {
            broker_expired(self, index);
            continue;
        }
        if (!has_room(self, &self->registry.actors[lane->actor], ticket->bytes))
            return;
        broker_queue_remove(self, index);
        broker_queue_drained(self, lane);
        FAULT(broker_drained);
        broker_frame envelope = ticket->envelope, body = ticket->body;
        ticket->envelope = ticket->body = (broker_frame){0};
        dispatch(self, index, envelope, body);
    }
}

/* ---- taking in ---- */
static void refuse(broker_core *self, const broker_peer *from, const stet_envelope *envelope,
                   const stet_error *error) {
    if (envelope->kind == STET_KIND_SEND)
        broker_error_back(self, from, envelope->id, envelope->command, error);
    else
        broker_error_front(self, from, envelope->id, error);
}

/* STET_OK and the lane, which has an actor that takes work. */
static stet_code find_lane(broker_core *self, const stet_envelope *envelope, uint32_t slot,
                           uint32_t *ret_lane, stet_error *e) {
    stet_str service = stet_command_service(envelope->command);
    uint32_t index = broker_lane_find(self, service, broker_partition_of(self, service, slot));
    if (index == BROKER_NONE && !stet_service_known(service)) {
        broker_count(self, BROKER_COUNT_REFUSED);
        return stet_error_field(e, STET_NOT_FOUND, "command",
                                "there is no service \"%.*s\"; see broker.services", STET_STR_ARG(service));
    }
    uint32_t actor = index == BROKER_NONE ? BROKER_NONE : self->registry.lanes[index].actor;
    if (actor == BROKER_NONE || self->registry.actors[actor].leaving) {
        broker_count(self, BROKER_COUNT_UNAVAILABLE);
        stet_code rc = stet_error_set(e, STET_UNAVAILABLE,
                                      "service %.*s is not running; start it, or resend with the same id",
                                      STET_STR_ARG(service));
        e->retry_after_ms = BROKER_UNAVAILABLE_RETRY_MS;
        return rc;
    }
    *ret_lane = index;
    return STET_OK;
}

static uint32_t ticket_of(broker_core *self, const broker_peer *from, stet_role role,
                          const stet_envelope *envelope, size_t bytes) {
    uint32_t index = broker_ticket_new(self);
    if (index == BROKER_NONE)
        return BROKER_NONE;
    uint32_t timeout_ms = envelope->timeout_ms > 0 ? envelope->timeout_ms : self->options.timeout_ms;
    if (timeout_ms > BROKER_TIMEOUT_MAX_MS)
        timeout_ms = BROKER_TIMEOUT_MAX_MS;
    broker_ticket *ticket = broker_ticket_at(self, index);
    ticket->is_send = envelope->kind == STET_KIND_SEND;
    ticket->role = (uint8_t)role;
    ticket->from = *from;
    ticket->id = envelope->id;
    ticket->bytes = (uint32_t)bytes;
    ticket->received_ms = self->now_ms;
    ticket->deadline_ms = self->now_ms + timeout_ms;
    if (ticket->is_send) {
        ASSERT(envelope->command.size <= sizeof ticket->command);
        ticket->command_size = (uint8_t)envelope->command.size;
        memcpy(ticket->command, envelope->command.data, envelope->command.size);
    }
    return index;
}

void broker_route(broker_core *self, const broker_peer *from, stet_role role, const stet_envelope *envelope,
                  broker_frame envelope_frame, broker_frame body) {
    stet_error error;
    uint32_t slot = stet_slot_of(envelope->key), lane_index = BROKER_NONE, index = BROKER_NONE;
    stet_code rc = find_lane(self, envelope, slot, &lane_index, &error);
    if (rc == STET_OK) {
        index = ticket_of(self, from, role, envelope, envelope_frame.size + body.size);
        if (index == BROKER_NONE) {
            rc = stet_error_set(&error, STET_BUSY,
                                "the broker holds too many messages; wait and resend with the same id");
            error.retry_after_ms = BROKER_UNAVAILABLE_RETRY_MS;
        }
    }
    if (rc == STET_OK) {
        broker_lane *lane = &self->registry.lanes[lane_index];
        broker_ticket *ticket = broker_ticket_at(self, index);
        ticket->slot = slot;
        ticket->lane = lane_index;
        if (lane->queue.count == 0 && has_room(self, &self->registry.actors[lane->actor], ticket->bytes)) {
            broker_wheel_insert(self, index);
            dispatch(self, index, envelope_frame, body);
            return;
        }
        rc = broker_queue_push(self, lane_index, index, &error);
        if (rc == STET_OK) {
            ticket->envelope = envelope_frame;
            ticket->body = body;
            broker_wheel_insert(self, index);
            FAULT(broker_queued);
            return;
        }
        broker_ticket_free(self, index);
    }
    if (rc == STET_BUSY)
        broker_count(self, BROKER_COUNT_BUSY);
    refuse(self, from, envelope, &error);
    broker_frame_free(self, envelope_frame);
    broker_frame_free(self, body);
}

/* ---- answers ---- */
static uint32_t answered_ticket(broker_core *self, uint32_t actor, const stet_envelope *envelope,
                                broker_frame route_frame) {
    stet_route route;
    if (stet_route_decode(stet_str_from(route_frame.data, route_frame.size), &route, NULL) != STET_OK) {
        broker_core_malformed(self, /* front= */ false);
        return BROKER_NONE;
    }
    uint32_t index = broker_ticket_find(self, route.ticket);
    if (index != BROKER_NONE) {
        const broker_ticket *ticket = broker_ticket_at(self, index);
        stet_kind good = ticket->is_send ? STET_KIND_ACK : STET_KIND_REPLY;
        if (ticket->state == BROKER_DISPATCHED && ticket->actor == actor &&
            stet_id_equal(ticket->id, envelope->id) &&
            (envelope->kind == good || envelope->kind == STET_KIND_ERROR))
            return index;
    }
    broker_count(self, BROKER_COUNT_FORGED);
    return BROKER_NONE;
}

static void deliver(broker_core *self, const broker_ticket *ticket, broker_frame envelope,
                    broker_frame body) {
    bool sent;
    FAULT(broker_deliver_before);
    if (ticket->is_send) {
        broker_count(self, BROKER_COUNT_ACKS);
        sent = self->edge.send_back(self->edge.context, &ticket->from, envelope, (broker_frame){0}, body);
    } else {
        broker_count(self, BROKER_COUNT_REPLIES);
        sent = self->edge.send_front(self->edge.context, &ticket->from, envelope, body);
    }
    FAULT(broker_deliver_after);
    if (!sent)
        broker_count(self, BROKER_COUNT_UNDELIVERABLE);
}

void broker_answer(broker_core *self, uint32_t actor_index, const stet_envelope *envelope,
                   broker_frame envelope_frame, broker_frame route, broker_frame body) {
    uint32_t index = answered_ticket(self, actor_index, envelope, route);
    broker_frame_free(self, route);
    if (index == BROKER_NONE) {
        broker_frame_free(self, envelope_frame);
        broker_frame_free(self, body);
        return;
    }
    broker_ticket *ticket = broker_ticket_at(self, index);
    broker_actor *actor = &self->registry.actors[actor_index];
    ASSERT(actor->outstanding_bytes >= ticket->bytes);
    actor->outstanding_bytes -= ticket->bytes;
    broker_list_remove(self, &actor->outstanding, index);
    if (ticket->answered || body.size > STET_BODY_BYTES_MAX) {
        if (ticket->answered)
            broker_count(self, BROKER_COUNT_LATE);
        else
            broker_ticket_refuse(self, index, STET_TOO_LARGE, 0,
                                 "the answer is too large to be carried; ask for less");
        broker_frame_free(self, envelope_frame);
        broker_frame_free(self, body);
    } else {
        deliver(self, ticket, envelope_frame, body);
    }
    uint32_t lane = ticket->lane;
    broker_ticket_free(self, index);
    broker_drain(self, lane);
    broker_actor_maybe_left(self, actor_index);
}
