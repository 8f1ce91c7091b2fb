/* builtin - the commands of service "broker": answered here, from memory, without an actor. */
#include "broker/internal.h"

static void services(broker_core *self, stet_buf *b) {
    const broker_registry *registry = &self->registry;
    stet_mp_map(b, 1);
    stet_mp_cstr(b, "services");
    stet_mp_array(b, registry->lanes_count);
    for (uint32_t i = 0; i < registry->lanes_count; i++) {
        const broker_lane *lane = &registry->lanes[i];
        const broker_actor *actor = lane->actor == BROKER_NONE ? NULL : &registry->actors[lane->actor];
        stet_mp_map(b, actor == NULL ? 7 : 9);
        stet_mp_put_str(b, "name", broker_lane_service(lane));
        stet_mp_put_uint(b, "partition", lane->partition);
        stet_mp_put_uint(b, "epoch", lane->epoch);
        stet_mp_put_cstr(b, "state", actor == NULL ? "away" : actor->leaving ? "leaving" : "ready");
        stet_mp_put_uint(b, "outstanding", actor == NULL ? 0 : actor->outstanding.count);
        stet_mp_put_uint(b, "credit", actor == NULL ? 0 : actor->credit);
        stet_mp_put_uint(b, "queued", lane->queue.count);
        if (actor == NULL)
            continue;
        stet_mp_put_str(b, "software", stet_str_from(actor->software, actor->software_size));
        stet_mp_put_int(b, "seenMsAgo", self->now_ms - actor->seen_ms);
    }
}

static void stats(broker_core *self, stet_buf *b) {
    const broker_registry *registry = &self->registry;
    stet_mp_map(b, 4);
    stet_mp_cstr(b, "counters");
    stet_mp_map(b, BROKER_COUNTERS_COUNT);
    for (uint32_t i = 0; i < BROKER_COUNTERS_COUNT; i++)
        stet_mp_put_uint(b, broker_counter_name((broker_counter)i), self->counters[i]);
    stet_mp_cstr(b, "queues");
    stet_mp_array(b, registry->lanes_count);
    for (uint32_t i = 0; i < registry->lanes_count; i++) {
        const broker_lane *lane = &registry->lanes[i];
        stet_mp_map(b, 4);
        stet_mp_put_str(b, "name", broker_lane_service(lane));
        stet_mp_put_uint(b, "partition", lane->partition);
        stet_mp_put_uint(b, "queued", lane->queue.count);
        stet_mp_put_uint(b, "bytes", lane->queue_bytes);
    }
    stet_mp_put_int(b, "oldestWaitingMs", broker_queue_oldest_ms(self));
    stet_mp_put_int(b, "uptimeMs", self->now_ms - self->started_ms);
}

static void version(broker_core *self, stet_buf *b) {
    stet_mp_map(b, 2);
    stet_mp_put_cstr(b, "version", self->options.software);
    stet_mp_put_uint(b, "wire", STET_VERSION_WIRE);
}

static uint32_t lane_reasons(broker_core *self, const broker_lane *lane, stet_buf *b) {
    const char *what = NULL;
    char text[128];
    if (lane->actor == BROKER_NONE)
        what = "is away; look at its log";
    else if (lane->queue.count >= self->options.queue_max)
        what = "has a full queue; it is too slow for its load";
    if (what == NULL)
        return 0;
    stet_buf line = STET_BUF(sizeof text);
    stet_buf_printf(&line, "%.*s/%u %s", STET_STR_ARG(broker_lane_service(lane)), lane->partition, what);
    stet_mp_str(b, stet_buf_str(&line));
    stet_buf_done(&line);
    return 1;
}

static void health(broker_core *self, stet_buf *b) {
    uint32_t reasons = 0;
    stet_mp_map(b, 2);
    stet_mp_cstr(b, "reasons");
    size_t mark = stet_mp_open(b);
    for (uint32_t i = 0; i < self->registry.lanes_count; i++)
        reasons += lane_reasons(self, &self->registry.lanes[i], b);
    stet_mp_close_array(b, mark, reasons);
    stet_mp_put_cstr(b, "status", reasons == 0 ? "green" : "red");
}

static void last(broker_core *self, const cmd_broker_last *request, stet_buf *b) {
    stet_mp_map(b, 1);
    stet_mp_cstr(b, "events");
    size_t mark = stet_mp_open(b);
    uint32_t count = broker_last_session(self->last, request->session_id, b);
    stet_mp_close_array(b, mark, count);
}

static stet_code answer(broker_core *self, stet_role role, const stet_envelope *request, stet_str body,
                        stet_buf *b, stet_error *e) {
    const stet_command *command = stet_command_find(request->command);
    if (command == NULL)
        return stet_error_field(e, STET_NOT_FOUND, "command", "the broker has no command \"%.*s\"",
                                STET_STR_ARG(request->command));
    if (!stet_role_may(role, command))
        return stet_error_set(e, STET_FORBIDDEN, "%s needs the role %s", command->name,
                              stet_role_name(command->role));
    union {
        cmd_broker_services services;
        cmd_broker_stats stats;
        cmd_broker_version version;
        cmd_broker_health health;
        cmd_broker_last last;
    } decoded;
    ASSERT(command->record.struct_size <= sizeof decoded);
    stet_code rc = stet_body_decode(command, body, &decoded, e);
    if (rc != STET_OK)
        return rc;
    switch (stet_command_index_of(command)) {
    case STET_CMD_broker_services:
        services(self, b);
        break;
    case STET_CMD_broker_stats:
        stats(self, b);
        break;
    case STET_CMD_broker_version:
        version(self, b);
        break;
    case STET_CMD_broker_health:
        health(self, b);
        break;
    case STET_CMD_broker_last:
        last(self, &decoded.last, b);
        break;
    default:
        return stet_error_set(e, STET_NOT_FOUND, "this broker does not answer %s", command->name);
    }
    return stet_buf_ok(b) ? STET_OK : stet_error_set(e, STET_BUSY, "the answer found no memory; ask again");
}

void broker_builtin(broker_core *self, const broker_peer *from, stet_role role, const stet_envelope *request,
                    stet_str body) {
    stet_error error;
    stet_buf_clear(&self->body_buf);
    if (answer(self, role, request, body, &self->body_buf, &error) != STET_OK) {
        broker_count(self, BROKER_COUNT_REFUSED);
        broker_error_front(self, from, request->id, &error);
        return;
    }
    stet_envelope envelope = {.kind = STET_KIND_REPLY, .id = request->id};
    broker_count(self, BROKER_COUNT_REPLIES);
    broker_send_front(self, from, &envelope, stet_buf_str(&self->body_buf));
}
