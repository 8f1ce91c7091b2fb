/* The broker's core between clients and actors that say anything: its tables stay whole and bounded, every
 * frame is freed once, every question is answered once, and time alone brings it back to rest.
 *
 * Input: operations, a byte each, with what they need behind it. */
#include "broker/internal.h"

#include <stdlib.h>

#include "proto/wire/mp.h"
#include "tests/fuzz/fuzz.h"

enum { PEERS = 8, HELD_MAX = 32, ROUTE_MAX = 64, OPERATIONS_MAX = 400, QUEUE_MAX = 8, QUEUE_BYTES = 4096 };

typedef struct held { /* a message that an actor was given */
    broker_peer peer;
    stet_id id;
    uint8_t route[ROUTE_MAX];
    size_t route_size;
} held;

typedef struct world {
    broker_core *core;
    int64_t now_ms;
    int64_t frames_live;
    int32_t frames_left; /* frame_new fails at 0 */
    bool dry, deaf_front, in_ready;
    uint8_t deaf_peer; /* of the actors; PEERS: none */
    held held[HELD_MAX];
    uint32_t held_count;
    uint64_t asked_front, answered_front, asked_back, answered_back;
    uint64_t published;
} world;

static broker_peer peer_of(bool front, uint8_t number) {
    return (broker_peer){.id = {0, front, number}, .size = 5};
}

/* ---- the edge ---- */

static broker_frame frame_of(world *w, const void *data, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    ASSERT(copy != NULL);
    memcpy(copy, size > 0 ? data : "", size);
    w->frames_live++;
    return (broker_frame){.data = copy, .size = size, .handle = copy};
}

static broker_frame frame_new(void *context, const void *data, size_t size) {
    world *w = context;
    ASSERT(size > 0);
    if (w->frames_left == 0) {
        w->dry = true;
        return (broker_frame){0};
    }
    if (w->frames_left > 0)
        w->frames_left--;
    return frame_of(w, data, size);
}

static void frame_free(void *context, broker_frame frame) {
    world *w = context;
    ASSERT(w->frames_live > 0);
    w->frames_live--;
    free(frame.handle);
}

static void check_sent(broker_frame frame, broker_frame body, stet_envelope *ret) {
    ASSERT(frame.handle != NULL && frame.size <= STET_ENVELOPE_BYTES_MAX);
    ASSERT(body.size <= STET_BODY_BYTES_MAX);
    ASSERT(stet_envelope_decode(stet_str_from(frame.data, frame.size), ret, NULL) == STET_OK);
}

static bool send_front(void *context, const broker_peer *to, broker_frame envelope, broker_frame body) {
    world *w = context;
    stet_envelope sent;
    check_sent(envelope, body, &sent);
    ASSERT(sent.kind == STET_KIND_REPLY || sent.kind == STET_KIND_ERROR);
    ASSERT(to->id[1] == 1);
    w->answered_front++;
    broker_frame_free(w->core, envelope);
    broker_frame_free(w->core, body);
    return !w->deaf_front;
}

static bool send_back(void *context, const broker_peer *to, broker_frame envelope, broker_frame route,
                      broker_frame body) {
    world *w = context;
    stet_envelope sent;
    check_sent(envelope, body, &sent);
    ASSERT(to->id[1] == 0);
    if (sent.kind == STET_KIND_REQUEST || sent.kind == STET_KIND_SEND) {
        stet_route read;
        ASSERT(stet_route_decode(stet_str_from(route.data, route.size), &read, NULL) == STET_OK);
        ASSERT(read.slot == stet_slot_of(sent.key) && read.remaining_ms > 0);
        ASSERT(read.remaining_ms <= BROKER_TIMEOUT_MAX_MS && route.size <= ROUTE_MAX);
        held *h = &w->held[w->held_count++ % HELD_MAX];
        *h = (held){.peer = *to, .id = sent.id, .route_size = route.size};
        memcpy(h->route, route.data, route.size);
    } else {
        ASSERT(route.handle == NULL);
        /* What refuses a ready names no command. */
        w->answered_back += sent.kind == STET_KIND_ACK ||
                            (sent.kind == STET_KIND_ERROR && (!w->in_ready || sent.command.size > 0));
    }
    broker_frame_free(w->core, envelope);
    broker_frame_free(w->core, route);
    broker_frame_free(w->core, body);
    return to->id[2] != w->deaf_peer;
}

static void publish(void *context, stet_str topic, stet_str payload) {
    world *w = context;
    ASSERT(topic.size > 0 && topic.size <= BROKER_TOPIC_SIZE_MAX && payload.size <= BROKER_EVENT_BYTES_MAX);
    w->published++;
}

/* ---- what always holds ---- */

typedef struct sums {
    uint32_t tickets, shares;
    int64_t frames;
} sums;

static void check_ticket(world *w, uint32_t index, broker_ticket_state state) {
    const broker_ticket *ticket = broker_ticket_at(w->core, index);
    ASSERT(ticket->state == state);
    ASSERT(ticket->wheel_bucket < BROKER_WHEEL_BUCKETS); /* nothing is kept without an end */
    ASSERT(state == BROKER_QUEUED ? ticket->share != BROKER_NONE && !ticket->answered
                                  : ticket->envelope.handle == NULL && ticket->body.handle == NULL);
}

static void check_lane(world *w, const broker_lane *lane, sums *all) {
    uint64_t bytes = 0;
    uint32_t count = 0;
    for (uint32_t i = lane->queue.count > 0 ? lane->queue.head : BROKER_NONE; i != BROKER_NONE;
         i = broker_ticket_at(w->core, i)->next) {
        const broker_ticket *ticket = broker_ticket_at(w->core, i);
        check_ticket(w, i, BROKER_QUEUED);
        const broker_share *share = &w->core->shares.shares[ticket->share];
        ASSERT(broker_peer_equal(&share->peer, &ticket->from) && share->back == ticket->is_send);
        ASSERT(share->count > 0 && share->count <= QUEUE_MAX / 2);
        ASSERT(share->count == 1 || share->bytes <= QUEUE_BYTES / 2);
        all->frames += (ticket->envelope.handle != NULL) + (ticket->body.handle != NULL);
        bytes += ticket->bytes;
        count++;
    }
    ASSERT(count == lane->queue.count && bytes == lane->queue_bytes);
    ASSERT(count <= QUEUE_MAX && (count <= 1 || bytes <= QUEUE_BYTES));
    all->tickets += count;
    if (lane->actor != BROKER_NONE) {
        const broker_actor *actor = &w->core->registry.actors[lane->actor];
        ASSERT(actor->used && &w->core->registry.lanes[actor->lane] == lane && actor->epoch == lane->epoch);
    }
}

static void check_actor(world *w, const broker_actor *actor, sums *all) {
    uint64_t bytes = 0;
    uint32_t count = 0;
    ASSERT(actor->credit > 0 && actor->credit <= BROKER_CREDIT_MAX);
    for (uint32_t i = actor->outstanding.count > 0 ? actor->outstanding.head : BROKER_NONE; i != BROKER_NONE;
         i = broker_ticket_at(w->core, i)->next) {
        check_ticket(w, i, BROKER_DISPATCHED);
        bytes += broker_ticket_at(w->core, i)->bytes;
        count++;
    }
    ASSERT(count == actor->outstanding.count && bytes == actor->outstanding_bytes);
    ASSERT(count <= 1 || bytes <= QUEUE_BYTES);
    all->tickets += count;
}

static void check(world *w) {
    sums all = {.tickets = 0};
    const broker_registry *registry = &w->core->registry;
    ASSERT(registry->lanes_count <= BROKER_LANES_MAX);
    for (uint32_t i = 0; i < registry->lanes_count; i++)
        check_lane(w, &registry->lanes[i], &all);
    for (uint32_t i = 0; i < BROKER_ACTORS_MAX; i++) {
        if (!registry->actors[i].used)
            continue;
        ASSERT(broker_actor_find(w->core, &registry->actors[i].peer) == i);
        ASSERT(registry->lanes[registry->actors[i].lane].actor == i);
        check_actor(w, &registry->actors[i], &all);
    }
    ASSERT(all.tickets == w->core->pending.used && all.frames == w->frames_live);
    if (!w->dry) {
        ASSERT(w->answered_front <= w->asked_front && w->answered_back <= w->asked_back);
    }
}

/* ---- operations ---- */

static void front(world *w, uint8_t number, uint8_t role, stet_str envelope, stet_str body) {
    broker_peer from = peer_of(true, number % PEERS);
    stet_envelope read;
    stet_code rc = stet_envelope_decode(envelope, &read, NULL); /* the id is there also when it fails */
    w->asked_front += (rc == STET_OK || rc == STET_INVALID) && !stet_id_is_zero(read.id);
    broker_frame frames[] = {frame_of(w, envelope.data, envelope.size), frame_of(w, body.data, body.size)};
    if (role == 255) {
        stet_error error;
        (void)stet_error_set(&error, STET_FORBIDDEN, "this key may not");
        broker_core_refuse(w->core, &from, frames[0], frames[1], &error, w->now_ms);
    } else {
        broker_core_front(w->core, &from, (stet_role)(role % (STET_ROLE_ACTOR + 1)), frames[0], frames[1],
                          w->now_ms);
    }
}

static void back(world *w, uint8_t number, stet_str envelope, stet_str route, stet_str body) {
    broker_peer from = peer_of(false, number % PEERS);
    stet_envelope read;
    if (stet_envelope_decode(envelope, &read, NULL) == STET_OK && read.kind == STET_KIND_SEND &&
        broker_actor_find(w->core, &from) != BROKER_NONE)
        w->asked_back += !stet_id_is_zero(read.id);
    w->in_ready = read.kind == STET_KIND_READY;
    broker_core_back(w->core, &from, frame_of(w, envelope.data, envelope.size),
                     frame_of(w, route.data, route.size), frame_of(w, body.data, body.size), w->now_ms);
    w->in_ready = false;
}

static const char *const services[] = {"drafter", "metrics", "a", "broker"};
static const char *const commands[] = {"drafter.submit", "metrics.record", "a.b",
                                       "broker.stats",   "nobody.x",       "broker.services",
                                       "broker.version", "broker.last"};

static stet_envelope made(fuzz_input *in, stet_kind kind) {
    uint8_t what = fuzz_byte(in);
    stet_envelope envelope = {.kind = kind, .id = {{1, what >> 5}}};
    envelope.instance.bytes[0] = 1 + (what & 1);
    envelope.epoch = 1 + (what >> 1 & 1);
    envelope.service = stet_str_of(services[what >> 2 & 3]);
    if (kind == STET_KIND_REQUEST || kind == STET_KIND_SEND) {
        envelope.command = stet_str_of(commands[fuzz_byte(in) % COUNT_OF(commands)]);
        envelope.timeout_ms = (uint32_t)fuzz_number(in, 2);
        envelope.sequence = 1;
    }
    if (kind == STET_KIND_READY)
        envelope.credit = fuzz_byte(in);
    return envelope;
}

static void say_front(world *w, fuzz_input *in) {
    stet_envelope envelope = made(in, STET_KIND_REQUEST);
    envelope.service = (stet_str){NULL, 0};
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&envelope, &b);
    uint8_t from = fuzz_byte(in);
    front(w, from, from >> 5 == 0 ? STET_ROLE_VIEWER : STET_ROLE_CONTROL, stet_buf_str(&b), fuzz_piece(in));
}

static void say_back(world *w, fuzz_input *in, stet_kind kind) {
    stet_envelope envelope = made(in, kind);
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&envelope, &b);
    stet_str body = kind == STET_KIND_SEND ? fuzz_piece(in) : (stet_str){NULL, 0};
    back(w, fuzz_byte(in), stet_buf_str(&b), (stet_str){NULL, 0}, body);
}

/* An answer to something that was dispatched, by who has it or by somebody else, or with another route. */
static void answer(world *w, fuzz_input *in) {
    uint8_t what = fuzz_byte(in);
    if (w->held_count == 0)
        return;
    const held *h = &w->held[what % (w->held_count < HELD_MAX ? w->held_count : HELD_MAX)];
    static const stet_kind kinds[] = {STET_KIND_REPLY, STET_KIND_ACK, STET_KIND_ERROR, STET_KIND_REPLY};
    stet_envelope envelope = {.kind = kinds[what >> 6],
                              .id = h->id,
                              .command = STET_STR("a.b"),
                              .service = STET_STR("a"),
                              .epoch = 1};
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&envelope, &b);
    uint8_t twist = fuzz_byte(in);
    uint8_t route[ROUTE_MAX];
    memcpy(route, h->route, h->route_size);
    if (twist > 240)
        route[fuzz_byte(in) % h->route_size] ^= (uint8_t)(1 + twist);
    back(w, twist > 200 ? twist : h->peer.id[2], stet_buf_str(&b), stet_str_from(route, h->route_size),
         fuzz_piece(in));
}

static void tick(world *w, int64_t ms) {
    w->now_ms += ms;
    broker_core_tick(w->core, w->now_ms);
    ASSERT(broker_core_next_wake(w->core) > w->now_ms); /* or the loop would turn without end */
}

static void operate(world *w, fuzz_input *in) {
    stet_str one, two;
    uint8_t what = fuzz_byte(in), from;
    switch (what % 16) {
    case 0:
        from = fuzz_byte(in);
        one = fuzz_piece(in);
        front(w, from, fuzz_byte(in), one, fuzz_piece(in));
        break;
    case 1:
        from = fuzz_byte(in);
        one = fuzz_piece(in);
        two = fuzz_piece(in);
        back(w, from, one, two, fuzz_piece(in));
        break;
    case 2:
    case 3:
    case 4:
        say_front(w, in);
        break;
    case 5:
        say_back(w, in, STET_KIND_READY);
        break;
    case 6:
        say_back(w, in, STET_KIND_HEARTBEAT);
        break;
    case 7:
        say_back(w, in, STET_KIND_LEAVE);
        break;
    case 8:
        say_back(w, in, STET_KIND_SEND);
        break;
    case 9:
    case 10:
        answer(w, in);
        break;
    case 11:
        tick(w, (int64_t)fuzz_number(in, 1 + (what >> 4) % 4));
        break;
    case 12:
        one = fuzz_piece(in);
        broker_core_event(w->core, one, fuzz_piece(in));
        break;
    case 13:
        broker_core_subscribed(w->core, fuzz_piece(in), w->now_ms);
        break;
    case 14:
        w->deaf_front = (what >> 4 & 1) != 0;
        w->deaf_peer = fuzz_byte(in) % (PEERS + 1);
        break;
    case 15:
        w->frames_left = what >> 4 > 8 ? what >> 4 & 3 : -1;
        break;
    }
}

void fuzz_one(const uint8_t *data, size_t size) {
    world w = {.now_ms = 1000000, .frames_left = -1, .deaf_peer = PEERS};
    const broker_options options = {.queue_max = QUEUE_MAX,
                                    .queue_bytes = QUEUE_BYTES,
                                    .sessions_max = 4,
                                    .heartbeat_ms = 250,
                                    .timeout_ms = 1000,
                                    .instance = {{9}},
                                    .software = "fuzz"};
    const broker_edge edge = {.context = &w,
                              .send_front = send_front,
                              .send_back = send_back,
                              .publish = publish,
                              .frame_new = frame_new,
                              .frame_free = frame_free};
    w.core = broker_core_new(&options, &edge, w.now_ms);
    ASSERT(w.core != NULL);
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    for (int i = 0; i < OPERATIONS_MAX && in.left > 0; i++) {
        operate(&w, &in);
        if (i % 8 == 0)
            check(&w);
    }
    check(&w);
    w.frames_left = -1;
    w.deaf_front = false;
    w.deaf_peer = PEERS;
    for (int i = 0; i < 4; i++)
        tick(&w, BROKER_TIMEOUT_MAX_MS + BROKER_LOST_MS);
    check(&w);
    ASSERT(w.core->pending.used == 0 && w.frames_live == 0);
    ASSERT(broker_core_next_wake(w.core) == INT64_MAX);
    ASSERT(w.dry || (w.answered_front == w.asked_front && w.answered_back == w.asked_back));
    w.core = broker_core_free(w.core);
    ASSERT(w.frames_live == 0);
}

/* ---- seeds ---- */

static void put(stet_buf *b, const char *bytes, size_t size) {
    stet_buf_append(b, bytes, size);
}
#define PUT(literal) put(b, literal, sizeof(literal) - 1)

/* An actor for "a" at peer 0 with this credit. */
static void put_ready(stet_buf *b, uint8_t credit) {
    const uint8_t bytes[] = {5, 0x28, credit, 0};
    stet_buf_append(b, bytes, sizeof bytes);
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const stet_id id = {{7}};
    CLEANUP(stet_buf_done) stet_buf envelope = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    switch (index) {
    case 0: /* asked, dispatched, answered, timed out, late */
        put_ready(b, 2);
        PUT("\x02\x28\x02\x00\x64\x21\x01\x80\x09\x00\x00\x01\x80");
        PUT("\x02\x48\x02\x00\x64\x21\x01\x80\x0b\xff\x09\x01\x00\x01\x80");
        return true;
    case 1: /* without credit: queued, refused, drained by an answer */
        put_ready(b, 1);
        for (int i = 0; i < 7; i++)
            PUT("\x03\x28\x02\x03\xe8\x21\x01\x80");
        PUT("\x09\x00\x00\x01\x80\x0b\x40\x09\x01\x00\x01\x80\x07\x28\x00");
        return true;
    case 2: /* two actors and a send between them; a deaf one; an epoch higher and one lower */
        put_ready(b, 8);
        PUT("\x05\x24\x08\x01\x08\x24\x02\x00\x64\x01\x80\x01\x09\x40\x00\x00");
        PUT("\x0e\x00\x08\x24\x02\x00\x64\x01\x80\x01\x05\x2a\x08\x02\x05\x28\x08\x03");
        return true;
    case 3: /* heartbeats, then silence */
        put_ready(b, 8);
        PUT("\x06\x28\x00\x1b\x01\x00\x06\x29\x00\x1b\xff\xff");
        return true;
    case 4: /* events and who comes later */
        PUT("\x0c\x0fTOOL_PROGRESS/s\x28TOOL_PROGRESS::{\"seq\":1,\"actor\":\"drafter\"}");
        PUT("\x0d\x0eTOOL_PROGRESS/\x0d\x0eTOOL_PROGRESS/"
            "\x0b\x64\x0b\x64\x02\x08\x07\x00\x00\x21\x0e\x81\xa9sessionId\xa1s");
        return true;
    case 5: /* what the broker answers itself, and without memory */
        PUT("\x02\x28\x03\x00\x00\x21\x01\x80\x02\x28\x05\x00\x00\x21\x01\x80\x02\x28\x06\x00\x00\x21\x01"
            "\x80");
        PUT("\xaf\x02\x28\x03\x00\x00\x21\x01\x80\x0f\x02\x28\x04\x00\x00\x21\x01\x80");
        return true;
    case 6:
    case 7: /* whole frames */
        stet_envelope_encode(&(stet_envelope){.kind = index == 6 ? STET_KIND_REQUEST : STET_KIND_READY,
                                              .id = id,
                                              .command = STET_STR("a.b"),
                                              .key = STET_STR("k"),
                                              .timeout_ms = 100,
                                              .service = STET_STR("a"),
                                              .epoch = 3,
                                              .instance = id,
                                              .credit = 4,
                                              .software = STET_STR("0.1.0")},
                             &envelope);
        stet_buf_append_byte(b, (uint8_t)(index - 6));
        stet_buf_append_byte(b, 0);
        fuzz_put_piece(b, stet_buf_str(&envelope));
        PUT("\x01\x01\x80");
        return true;
    default:
        return false;
    }
}
