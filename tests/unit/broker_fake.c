#include "tests/unit/broker_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { LIVE = 0x11fe, DEAD = 0xdead };

typedef struct memory {
    uint32_t state;
    uint8_t bytes[];
} memory;

/* ---- the edge ---- */
static broker_frame frame_new(void *context, const void *data, size_t size) {
    fake *self = context;
    assert_true(size > 0);
    if (self->frames_left == 0)
        return (broker_frame){0};
    if (self->frames_left > 0)
        self->frames_left--;
    return fake_frame(self, data, size);
}

static void frame_free(void *context, broker_frame frame) {
    fake *self = context;
    memory *m = frame.handle;
    assert_int_equal(m->state, LIVE);
    m->state = DEAD;
    free(m);
    self->frames_live--;
}

static void release(fake *self, fake_sent *message) {
    broker_frame frames[] = {message->envelope, message->route, message->body};
    for (size_t i = 0; i < COUNT_OF(frames); i++)
        if (frames[i].handle != NULL)
            frame_free(self, frames[i]);
}

static bool keep(fake *self, fake_sent message, bool delivered) {
    stet_error error;
    if (stet_envelope_decode(stet_str_from(message.envelope.data, message.envelope.size), &message.decoded,
                             &error) != STET_OK)
        fail_msg("the core sent no envelope: %s", error.message);
    if (self->watch != NULL)
        self->watch(self->watch_context, &message);
    if (self->watch != NULL || !delivered) {
        release(self, &message);
        return delivered;
    }
    assert_true(self->sent_count < FAKE_SENT_MAX);
    self->sent[self->sent_count++] = message;
    return true;
}

static bool send_front(void *context, const broker_peer *to, broker_frame envelope, broker_frame body) {
    fake *self = context;
    assert_non_null(envelope.handle);
    return keep(self, (fake_sent){.front = true, .to = *to, .envelope = envelope, .body = body}, !self->deaf);
}

static bool send_back(void *context, const broker_peer *to, broker_frame envelope, broker_frame route,
                      broker_frame body) {
    fake *self = context;
    bool delivered = self->deaf_back.size != to->size || memcmp(self->deaf_back.id, to->id, to->size) != 0;
    return keep(self,
                (fake_sent){.front = false, .to = *to, .envelope = envelope, .route = route, .body = body},
                delivered);
}

static stet_str copy_of(stet_str text) {
    char *copy = malloc(text.size + 1);
    assert_non_null(copy);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return stet_str_from(copy, text.size);
}

static void publish(void *context, stet_str topic, stet_str payload) {
    fake *self = context;
    assert_true(self->published_count < FAKE_SENT_MAX);
    self->published[self->published_count++] = (fake_published){copy_of(topic), copy_of(payload)};
}

/* ---- life ---- */
broker_options fake_options(void) {
    return (broker_options){.queue_max = 8,
                            .queue_bytes = 1 << 20,
                            .sessions_max = 4,
                            .heartbeat_ms = 250,
                            .timeout_ms = 1000,
                            .instance = {{1, 2, 3}},
                            .software = "test"};
}

void fake_start(fake *self, const broker_options *options) {
    *self = (fake){.now_ms = 1000000, .frames_left = -1};
    self->sent = calloc(FAKE_SENT_MAX, sizeof *self->sent);
    self->published = calloc(FAKE_SENT_MAX, sizeof *self->published);
    assert_non_null(self->sent);
    assert_non_null(self->published);
    const broker_edge edge = {.context = self,
                              .send_front = send_front,
                              .send_back = send_back,
                              .publish = publish,
                              .frame_new = frame_new,
                              .frame_free = frame_free};
    self->core = broker_core_new(options, &edge, self->now_ms);
    assert_non_null(self->core);
}

void fake_forget(fake *self) {
    for (uint32_t i = 0; i < self->sent_count; i++)
        release(self, &self->sent[i]);
    for (uint32_t i = 0; i < self->published_count; i++) {
        free((void *)(uintptr_t)self->published[i].topic.data);
        free((void *)(uintptr_t)self->published[i].payload.data);
    }
    self->sent_count = self->sent_taken = self->published_count = 0;
}

void fake_stop(fake *self) {
    self->core = broker_core_free(self->core);
    fake_forget(self);
    assert_int_equal(self->frames_live, 0);
    free(self->sent);
    free(self->published);
}

/* ---- input ---- */
broker_peer fake_peer(uint32_t number) {
    broker_peer peer = {.size = 5};
    memcpy(peer.id + 1, &number, sizeof number);
    return peer;
}

broker_frame fake_frame(fake *self, const void *data, size_t size) {
    memory *m = malloc(sizeof *m + size);
    assert_non_null(m);
    m->state = LIVE;
    if (size > 0)
        memcpy(m->bytes, data, size);
    self->frames_live++;
    return (broker_frame){.data = m->bytes, .size = size, .handle = m};
}

broker_frame fake_envelope(fake *self, const stet_envelope *envelope) {
    stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(envelope, &b);
    assert_true(stet_buf_ok(&b));
    broker_frame frame = fake_frame(self, b.data, b.size);
    stet_buf_done(&b);
    return frame;
}

stet_id fake_id(fake *self) {
    stet_id id = {{0x77}};
    uint64_t number = ++self->next_id;
    memcpy(id.bytes + 8, &number, sizeof number);
    return id;
}

void fake_front(fake *self, uint32_t client, const stet_envelope *envelope, stet_str body) {
    broker_peer from = fake_peer(client);
    broker_core_front(self->core, &from, STET_ROLE_CONTROL, fake_envelope(self, envelope),
                      fake_frame(self, body.data, body.size), self->now_ms);
}

stet_id fake_request(fake *self, uint32_t client, const char *command, uint32_t timeout_ms) {
    stet_envelope envelope = {.kind = STET_KIND_REQUEST,
                              .id = fake_id(self),
                              .command = stet_str_of(command),
                              .timeout_ms = timeout_ms};
    fake_front(self, client, &envelope, STET_STR("\x80"));
    return envelope.id;
}

void fake_back(fake *self, uint32_t actor, const stet_envelope *envelope, stet_str route, stet_str body) {
    broker_peer from = fake_peer(actor);
    broker_core_back(self->core, &from, fake_envelope(self, envelope),
                     fake_frame(self, route.data, route.size), fake_frame(self, body.data, body.size),
                     self->now_ms);
}

static stet_id instance_of(uint32_t actor) {
    stet_id id = {{0x33}};
    memcpy(id.bytes + 12, &actor, sizeof actor);
    return id;
}

void fake_ready(fake *self, uint32_t actor, const char *service, uint64_t epoch, uint32_t credit) {
    stet_envelope ready = {.kind = STET_KIND_READY,
                           .service = stet_str_of(service),
                           .epoch = epoch,
                           .instance = instance_of(actor),
                           .credit = credit,
                           .software = STET_STR("1.2.3")};
    fake_back(self, actor, &ready, (stet_str){0}, (stet_str){0});
}

void fake_heartbeat(fake *self, uint32_t actor) {
    stet_envelope heartbeat = {.kind = STET_KIND_HEARTBEAT, .instance = instance_of(actor)};
    fake_back(self, actor, &heartbeat, (stet_str){0}, (stet_str){0});
}

void fake_advance(fake *self, int64_t ms) {
    int64_t end_ms = self->now_ms + ms;
    for (;;) {
        int64_t wake_ms = broker_core_next_wake(self->core);
        if (wake_ms > end_ms)
            break;
        if (wake_ms > self->now_ms)
            self->now_ms = wake_ms;
        broker_core_tick(self->core, self->now_ms);
        assert_true(broker_core_next_wake(self->core) > self->now_ms);
    }
    self->now_ms = end_ms;
    broker_core_tick(self->core, self->now_ms);
}

void fake_answer(fake *self, uint32_t actor, stet_kind kind, const fake_sent *dispatched) {
    stet_envelope envelope = {.kind = kind, .id = dispatched->decoded.id};
    if (kind == STET_KIND_ACK) {
        envelope.command = dispatched->decoded.command;
        envelope.service = STET_STR("drafter");
        envelope.epoch = 1;
        envelope.sequence = dispatched->decoded.sequence;
    }
    fake_back(self, actor, &envelope, stet_str_from(dispatched->route.data, dispatched->route.size),
              STET_STR("\x81\xa1r\x01"));
}

/* ---- output ---- */
uint32_t fake_waiting(const fake *self) {
    return self->sent_count - self->sent_taken;
}

const fake_sent *fake_take(fake *self) {
    assert_true(fake_waiting(self) > 0);
    return &self->sent[self->sent_taken++];
}

static const fake_sent *take(fake *self, bool front, uint32_t number, stet_kind kind) {
    const fake_sent *message = fake_take(self);
    broker_peer peer = fake_peer(number);
    assert_string_equal(stet_kind_name(message->decoded.kind), stet_kind_name(kind));
    assert_int_equal(message->front, front);
    assert_memory_equal(message->to.id, peer.id, peer.size);
    return message;
}

const fake_sent *fake_take_front(fake *self, uint32_t client, stet_kind kind) {
    return take(self, /* front= */ true, client, kind);
}

const fake_sent *fake_take_back(fake *self, uint32_t actor, stet_kind kind) {
    return take(self, /* front= */ false, actor, kind);
}

const fake_sent *fake_take_error(fake *self, uint32_t client, stet_code code) {
    const fake_sent *message = fake_take_front(self, client, STET_KIND_ERROR);
    assert_string_equal(stet_code_name(fake_code(message)), stet_code_name(code));
    return message;
}

static stet_error error_of(const fake_sent *message) {
    stet_error error;
    assert_int_equal(message->decoded.kind, STET_KIND_ERROR);
    stet_error_decode(stet_str_from(message->body.data, message->body.size), &error);
    return error;
}

stet_code fake_code(const fake_sent *message) {
    return error_of(message).code;
}

uint32_t fake_retry_ms(const fake_sent *message) {
    return error_of(message).retry_after_ms;
}

stet_str fake_ask(fake *self, const char *command, stet_str body) {
    enum { ASKING = 9999 };
    uint32_t taken = self->sent_taken;
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = fake_id(self), .command = stet_str_of(command)};
    fake_front(self, ASKING, &envelope, body);
    assert_true(self->sent_count > taken);
    /* Seen out of turn: what waits to be taken stays in order before it. */
    fake_sent message = self->sent[self->sent_count - 1];
    assert_string_equal(stet_kind_name(message.decoded.kind), "reply");
    assert_true(stet_id_equal(message.decoded.id, envelope.id));
    for (uint32_t i = self->sent_count - 1; i > taken; i--)
        self->sent[i] = self->sent[i - 1];
    self->sent[taken] = message;
    self->sent_taken++;
    return stet_str_from(message.body.data, message.body.size);
}

uint64_t fake_counter(fake *self, const char *name) {
    stet_str counters = stet_mp_get_raw(fake_ask(self, "broker.stats", STET_STR("\x80")), "counters");
    return stet_mp_get_uint(counters, name, UINT64_MAX);
}
