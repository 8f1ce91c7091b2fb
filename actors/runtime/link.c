#include "actors/runtime/link.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

enum { READY_AGAIN_MS = 20 };

void stet_link_init(stet_link *self, const stet_config *config) {
    *self = (stet_link){.interval_ms = stet_config_int(config, STET_SETTING_broker_heartbeat),
                        .heard_boot_ms = INT64_MIN / 2,
                        .next_boot_ms = INT64_MIN / 2,
                        .ready_boot_ms = INT64_MIN / 2};
    if (self->interval_ms < LINK_INTERVAL_MIN_MS)
        self->interval_ms = LINK_INTERVAL_MIN_MS;
}

static bool say(stet_link *self, const stet_turn *turn, const stet_core_edge *edge, stet_kind kind) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope envelope = {.kind = kind,
                              .service = stet_str_of(turn->service->name),
                              .partition = turn->partition,
                              .epoch = stet_store_epoch(turn->store),
                              .instance = turn->instance};
    if (kind == STET_KIND_READY) {
        int64_t credit = stet_config_int(turn->config, STET_SETTING_actor_credit);
        envelope.credit = credit < 1 ? 1 : credit > UINT32_MAX ? UINT32_MAX : (uint32_t)credit;
        envelope.software = STET_STR(STET_SOFTWARE_VERSION);
    }
    stet_envelope_encode(&envelope, &frame);
    self->starved = stet_buf_starved(&frame) ? self->starved + 1 : 0;
    return stet_buf_ok(&frame) &&
           edge->send(edge->context, stet_buf_str(&frame), (stet_str){NULL, 0}, (stet_str){NULL, 0});
}

static void say_ready(stet_link *self, const stet_turn *turn, const stet_core_edge *edge) {
    int64_t wait_ms = self->interval_ms;
    self->registered = false;
    self->ready_boot_ms = turn->boot_ms;
    if (say(self, turn, edge, STET_KIND_READY)) {
        self->pause_ms = 0;
    } else {
        /* Connecting takes a few milliseconds after a start, and a whole interval would be downtime. */
        self->pause_ms = self->pause_ms == 0 ? READY_AGAIN_MS : 2 * self->pause_ms;
        if (self->pause_ms > self->interval_ms)
            self->pause_ms = self->interval_ms;
        wait_ms = self->pause_ms;
    }
    self->next_boot_ms = turn->boot_ms + wait_ms;
}

bool stet_link_is_starved(const stet_link *self) {
    return self->starved >= LINK_MISSED;
}

bool stet_link_is_heard(const stet_link *self, int64_t boot_ms) {
    return boot_ms - self->heard_boot_ms < LINK_MISSED * self->interval_ms;
}

void stet_link_heard(stet_link *self, const stet_turn *turn) {
    self->heard_boot_ms = turn->boot_ms;
}

static void welcomed(stet_link *self, const stet_turn *turn, const stet_envelope *envelope,
                     const stet_core_edge *edge) {
    if (self->leaving)
        return;
    if (!self->registered) {
        self->registrations++;
        edge->log(edge->context, STET_INFO, "broker.welcome", "registered with the broker",
                  (stet_log_field[]){STET_LOG_I("interval_ms", envelope->interval_ms), {.name = NULL}});
    }
    self->registered = true;
    FAULT(welcomed);
    self->broker = envelope->instance;
    if (envelope->interval_ms >= LINK_INTERVAL_MIN_MS && envelope->interval_ms <= LINK_INTERVAL_MAX_MS)
        self->interval_ms = envelope->interval_ms;
    self->next_boot_ms = turn->boot_ms + self->interval_ms;
}

void stet_link_message(stet_link *self, const stet_turn *turn, const stet_envelope *envelope, stet_str body,
                       const stet_core_edge *edge, bool *ret_fenced) {
    stet_error error;
    *ret_fenced = false;
    switch (envelope->kind) {
    case STET_KIND_WELCOME:
        welcomed(self, turn, envelope, edge);
        break;
    case STET_KIND_HEARTBEAT:
        /* Another life of the broker that already knows us cannot be; it is asked to know us anew. */
        if (self->registered && !self->leaving && !stet_id_equal(envelope->instance, self->broker))
            say_ready(self, turn, edge);
        break;
    case STET_KIND_REGISTER:
        /* One is sent for each of our messages to a broker that has just started: one ready answers them all.
         */
        if (!self->leaving && turn->boot_ms - self->ready_boot_ms >= READY_AGAIN_MS)
            say_ready(self, turn, edge);
        break;
    default:
        stet_error_decode(body, &error);
        *ret_fenced = error.code == STET_CONFLICT && !PLANT(fence_ignored);
        if (!*ret_fenced)
            edge->log(edge->context, STET_WARN, "broker.refused",
                      "the broker did not take the registration, trying again",
                      (stet_log_field[]){STET_LOG_C("error", error.message), {.name = NULL}});
        break;
    }
}

void stet_link_tick(stet_link *self, const stet_turn *turn, const stet_core_edge *edge) {
    if (self->registered && !stet_link_is_heard(self, turn->boot_ms)) {
        self->registered = false;
        self->next_boot_ms = turn->boot_ms;
        edge->log(edge->context, STET_WARN, "broker.away",
                  "nothing heard from the broker, registering until it answers", NULL);
    }
    if (turn->boot_ms < self->next_boot_ms)
        return;
    if (self->registered || self->leaving) {
        self->next_boot_ms = turn->boot_ms + self->interval_ms;
        (void)say(self, turn, edge, STET_KIND_HEARTBEAT);
    } else {
        say_ready(self, turn, edge);
    }
}

void stet_link_leave(stet_link *self, const stet_turn *turn, const stet_core_edge *edge) {
    if (self->leaving)
        return;
    self->leaving = true;
    FAULT(leave);
    (void)say(self, turn, edge, STET_KIND_LEAVE);
}
