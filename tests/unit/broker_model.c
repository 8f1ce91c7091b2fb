/* Random inputs to the broker's core against a plain model. STET_SEED repeats a run.
 *
 * Claims: every request and send that is taken in is answered exactly once and to the one who asked; nothing
 * is dispatched to an actor beyond its credit, twice, late or overtaking; the core's count of what an
 * actor holds is the model's; a frame is freed exactly once and none is held beyond the queues. */
#include "broker/internal.h"
#include "tests/unit/broker_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum {
    CLIENTS = 5,
    PEERS = 6, /* connections of actors; several may want the same service */
    SERVICES = 3,
    ASKED_MAX = 40000,
    ROUTE_MAX = 64,
    STEPS = 30000,
    FIRST_PEER = 100
};

static const char *const SERVICE_NAMES[SERVICES] = {"drafter", "echo", "third"};

typedef struct asked {
    bool is_send;
    uint32_t from; /* client or peer number */
    int64_t deadline_ms;
    uint32_t answers, dispatches;
    uint32_t held_by; /* peer, or BROKER_NONE */
    uint8_t route[ROUTE_MAX];
    size_t route_size;
} asked;

typedef struct model {
    fake f;
    stet_prng prng;
    asked *all;
    uint32_t count;
    uint32_t dispatched_next[SERVICES]; /* by lane: nothing before this one may be dispatched any more */
    uint32_t
        holding[PEERS]; /* messages dispatched to the peer and not answered by it, since its registration */
} model;

static uint32_t below(model *m, uint32_t bound) {
    return (uint32_t)stet_prng_below(&m->prng, bound);
}

static stet_id id_of(uint32_t index) {
    stet_id id = {{0x99}};
    memcpy(id.bytes + 8, &index, sizeof index);
    return id;
}

static uint32_t index_of(const model *m, stet_id id) {
    uint32_t index;
    memcpy(&index, id.bytes + 8, sizeof index);
    return id.bytes[0] == 0x99 && index < m->count ? index : BROKER_NONE;
}

static uint32_t number_of(const broker_peer *peer) {
    uint32_t number;
    memcpy(&number, peer->id + 1, sizeof number);
    return number;
}

/* A peer was forgotten: the model forgets what it held. */
static void drop_holdings(model *m, uint32_t peer) {
    for (uint32_t i = 0; i < m->count; i++)
        if (m->all[i].held_by == peer)
            m->all[i].held_by = BROKER_NONE;
    m->holding[peer] = 0;
}

static uint32_t actor_at(const model *m, uint32_t peer) {
    broker_peer id = fake_peer(FIRST_PEER + peer);
    return broker_actor_find(m->f.core, &id);
}

/* Sees everything that the core sends. */
static void watch(void *context, const fake_sent *message) {
    model *m = context;
    const stet_envelope *envelope = &message->decoded;
    if (!message->front && envelope->kind == STET_KIND_WELCOME)
        return;
    uint32_t index = index_of(m, envelope->id);
    if (index == BROKER_NONE)
        return;
    asked *a = &m->all[index];
    uint32_t to = number_of(&message->to);
    if (envelope->kind == STET_KIND_REQUEST || envelope->kind == STET_KIND_SEND) {
        assert_false(message->front);
        assert_int_equal(envelope->kind == STET_KIND_SEND, a->is_send);
        assert_true(m->f.now_ms < a->deadline_ms);
        assert_int_equal(a->answers, 0);
        assert_int_equal(++a->dispatches, 1);
        a->held_by = to - FIRST_PEER;
        m->holding[a->held_by]++;
        uint32_t lane = m->f.core->registry.actors[actor_at(m, a->held_by)].lane;
        assert_true(index >= m->dispatched_next[lane]);
        m->dispatched_next[lane] = index + 1;
        assert_true(m->holding[a->held_by] <= m->f.core->registry.actors[actor_at(m, a->held_by)].credit);
        a->route_size = message->route.size;
        assert_true(a->route_size > 0 && a->route_size <= ROUTE_MAX);
        memcpy(a->route, message->route.data, a->route_size);
        return;
    }
    assert_int_equal(++a->answers, 1);
    assert_int_equal(to, a->from);
    assert_int_equal(message->front, !a->is_send);
}

static asked *ask(model *m, bool is_send, uint32_t from, uint32_t timeout_ms, stet_id *ret_id) {
    assert_true(m->count < ASKED_MAX);
    asked *a = &m->all[m->count];
    *a = (asked){.is_send = is_send,
                 .from = from,
                 .deadline_ms = m->f.now_ms + (timeout_ms > 0 ? timeout_ms : m->f.core->options.timeout_ms),
                 .held_by = BROKER_NONE};
    *ret_id = id_of(m->count++);
    return a;
}

static void step_request(model *m) {
    static const char *const commands[] = {"drafter.submit", "echo.back",      "third.x",
                                           "nobody.x",       "broker.version", "nodot"};
    uint32_t client = below(m, CLIENTS), timeout_ms = below(m, 3) == 0 ? 0 : below(m, 3000);
    stet_envelope envelope = {.kind = STET_KIND_REQUEST,
                              .command =
                                  stet_str_of(commands[below(m, 20) < 17 ? below(m, 3) : below(m, 6)])};
    envelope.timeout_ms = timeout_ms;
    (void)ask(m, false, client, timeout_ms, &envelope.id);
    static const char body[3000];
    fake_front(&m->f, client, &envelope, stet_str_from(body, below(m, sizeof body)));
}

static void step_send(model *m) {
    uint32_t peer = below(m, PEERS), actor = actor_at(m, peer);
    if (actor == BROKER_NONE)
        return;
    const broker_actor *known = &m->f.core->registry.actors[actor];
    char service[STET_SERVICE_SIZE_MAX], command[64];
    stet_str name = broker_lane_service(&m->f.core->registry.lanes[known->lane]);
    memcpy(service, name.data, name.size);
    (void)snprintf(command, sizeof command, "%s.note", SERVICE_NAMES[below(m, SERVICES)]);
    stet_envelope envelope = {.kind = STET_KIND_SEND,
                              .command = stet_str_of(command),
                              .timeout_ms = below(m, 2000),
                              .service = stet_str_from(service, name.size),
                              .epoch = known->epoch,
                              .sequence = 1 + below(m, 5)};
    (void)ask(m, true, FIRST_PEER + peer, envelope.timeout_ms, &envelope.id);
    fake_back(&m->f, FIRST_PEER + peer, &envelope, (stet_str){0}, STET_STR("\x80"));
}

/* An actor answers something it holds. */
static void step_answer(model *m) {
    if (m->count == 0)
        return;
    uint32_t start = below(m, m->count);
    for (uint32_t k = 0; k < m->count && k < 2000; k++) {
        uint32_t index = (start + k) % m->count;
        asked *a = &m->all[index];
        if (a->held_by == BROKER_NONE)
            continue;
        uint32_t peer = a->held_by;
        bool known = actor_at(m, peer) != BROKER_NONE;
        assert_true(known);
        a->held_by = BROKER_NONE;
        m->holding[peer]--;
        stet_envelope envelope = {.kind = a->is_send ? STET_KIND_ACK : STET_KIND_REPLY,
                                  .id = id_of(index),
                                  .command = STET_STR("x.y"),
                                  .service = STET_STR("echo"),
                                  .epoch = 1};
        if (below(m, 5) == 0)
            envelope.kind = STET_KIND_ERROR;
        if (!a->is_send)
            envelope.command = envelope.service = (stet_str){0};
        fake_back(&m->f, FIRST_PEER + peer, &envelope, stet_str_from(a->route, a->route_size),
                  STET_STR("\x80"));
        return;
    }
}

/* Answers that no actor may give: somebody else's, one twice, with a changed ticket. */
static void step_forge(model *m) {
    if (m->count == 0)
        return;
    uint32_t recent = m->count < 30 ? m->count : 30; /* likely to be held by somebody now */
    uint32_t index = m->count - 1 - below(m, recent), peer = below(m, PEERS);
    const asked *a = &m->all[index];
    if (a->route_size == 0 || a->held_by == peer)
        return;
    stet_envelope envelope = {.kind = STET_KIND_REPLY, .id = id_of(index)};
    fake_back(&m->f, FIRST_PEER + peer, &envelope, stet_str_from(a->route, a->route_size), STET_STR("\x80"));
}

static void step_ready(model *m) {
    uint32_t peer = below(m, PEERS), luck = below(m, 100);
    const char *service = SERVICE_NAMES[peer % SERVICES];
    uint32_t lane = broker_lane_find(m->f.core, stet_str_of(service), 0);
    uint64_t epoch = lane == BROKER_NONE ? 5 : m->f.core->registry.lanes[lane].epoch;
    epoch += luck < 3 ? 1 : 0;
    epoch -= luck > 95 ? 1 : 0;
    /* A second connection for the same service comes seldom, or nobody would get any work done. */
    if (peer < SERVICES || below(m, 10) == 0)
        fake_ready(&m->f, FIRST_PEER + peer, service, epoch, 1 + below(m, 4));
}

static void step_life(model *m) {
    uint32_t peer = below(m, PEERS);
    if (below(m, 12) == 0) {
        stet_envelope leave = {.kind = STET_KIND_LEAVE, .service = STET_STR("echo")};
        fake_back(&m->f, FIRST_PEER + peer, &leave, (stet_str){0}, (stet_str){0});
        return;
    }
    fake_heartbeat(&m->f, FIRST_PEER + peer);
}

static void step_junk(model *m) {
    uint8_t bytes[40];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)below(m, 256);
    broker_peer from = fake_peer(below(m, CLIENTS));
    broker_core_front(m->f.core, &from, STET_ROLE_CONTROL, fake_frame(&m->f, bytes, below(m, sizeof bytes)),
                      fake_frame(&m->f, bytes, below(m, sizeof bytes)), m->f.now_ms);
    from = fake_peer(FIRST_PEER + below(m, PEERS));
    broker_core_back(m->f.core, &from, fake_frame(&m->f, bytes, below(m, sizeof bytes)),
                     fake_frame(&m->f, bytes, below(m, sizeof bytes)), fake_frame(&m->f, bytes, 3),
                     m->f.now_ms);
}

static void step_weather(model *m) {
    fake *f = &m->f;
    f->now_ms += below(m, 30); /* messages of this round see the time before the tick does */
    f->deaf = below(m, 8) == 0;
    f->deaf_back = below(m, 8) == 0 ? fake_peer(FIRST_PEER + below(m, PEERS)) : (broker_peer){0};
}

/* The model learns from the registry who is registered; everything else it knows by itself. */
static void learn_losses(model *m) {
    for (uint32_t peer = 0; peer < PEERS; peer++)
        if (actor_at(m, peer) == BROKER_NONE && m->holding[peer] > 0)
            drop_holdings(m, peer);
}

static void check(model *m) {
    const broker_core *core = m->f.core;
    uint64_t queued = 0, outstanding = 0;
    for (uint32_t i = 0; i < core->registry.lanes_count; i++) {
        const broker_lane *lane = &core->registry.lanes[i];
        assert_true(lane->queue.count <= core->options.queue_max);
        queued += lane->queue.count;
    }
    for (uint32_t peer = 0; peer < PEERS; peer++) {
        uint32_t actor = actor_at(m, peer);
        if (actor == BROKER_NONE)
            continue;
        const broker_actor *known = &core->registry.actors[actor];
        assert_int_equal(known->outstanding.count, m->holding[peer]);
        outstanding += known->outstanding.count;
    }
    assert_int_equal(m->f.frames_live, 2 * queued);
    assert_int_equal(core->pending.used, queued + outstanding);
}

static void step(model *m) {
    static void (*const steps[])(model *) = {
        step_request, step_request, step_request, step_request, step_request, step_send,
        step_send,    step_answer,  step_answer,  step_answer,  step_answer,  step_answer,
        step_life,    step_life,    step_life,    step_weather, step_forge,   step_junk,
    };
    uint32_t choice = below(m, 40);
    if (choice < COUNT_OF(steps))
        steps[choice](m);
    else if (choice < COUNT_OF(steps) + 3)
        step_ready(m);
    else if (choice < COUNT_OF(steps) + 5)
        fake_advance(&m->f, below(m, 120));
    learn_losses(m);
    check(m);
}

static void run(uint64_t seed) {
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->prng = stet_prng_of(seed);
    m->all = calloc(ASKED_MAX, sizeof *m->all);
    assert_non_null(m->all);
    broker_options options = fake_options();
    options.queue_max = 12;
    options.queue_bytes =
        6000; /* also bounds what an actor holds: a large head waits while small ones would fit */
    fake_start(&m->f, &options);
    m->f.watch = watch;
    m->f.watch_context = m;
    for (uint32_t i = 0; i < STEPS; i++)
        step(m);
    /* Everything comes to an end: all deadlines pass, all actors go quiet. */
    m->f.deaf = false;
    m->f.deaf_back = (broker_peer){0};
    fake_advance(&m->f, 20000);
    learn_losses(m);
    check(m);
    assert_int_equal(m->f.core->pending.used, 0);
    uint32_t dispatched = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->all[i].answers != 1)
            fail_msg("seed %llu: message %u has %u answers", (unsigned long long)seed, i, m->all[i].answers);
        dispatched += m->all[i].dispatches;
    }
    static const broker_counter must_happen[] = {
        BROKER_COUNT_QUEUED, BROKER_COUNT_BUSY,       BROKER_COUNT_TIMEOUTS, BROKER_COUNT_LATE,
        BROKER_COUNT_FORGED, BROKER_COUNT_REPLACED,   BROKER_COUNT_FENCED,   BROKER_COUNT_AWAY,
        BROKER_COUNT_LEFT,   BROKER_COUNT_UNAVAILABLE};
    for (size_t i = 0; i < COUNT_OF(must_happen); i++)
        if (m->f.core->counters[must_happen[i]] < 10)
            fail_msg("seed %llu: %s hardly happened", (unsigned long long)seed,
                     broker_counter_name(must_happen[i]));
    assert_true(dispatched > m->count / 2);
    fake_stop(&m->f);
    free(m->all);
    free(m);
}

static void every_message_is_answered_exactly_once_whatever_happens(void **state) {
    (void)state;
    const char *given = getenv("STET_SEED");
    if (given != NULL) {
        run(strtoull(given, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= 6; seed++)
        run(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_answered_exactly_once_whatever_happens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
