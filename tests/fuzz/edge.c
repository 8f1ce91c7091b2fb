/* The broker's edge: sockets, its loop and the handler for keys as they are in the program, with peers that send
 * any number of frames of any size to each door, break off in the middle, come back under other names, speak to
 * the handler for keys and damage the list of keys. Nothing is lost, counted twice or joined to another message:
 * the broker's counters say of every message what became of it, whoever shows no key is nobody, what goes out has
 * its two or three frames, a good client is answered and a good subscriber hears to the end.
 *
 * Peers are inproc, which skips libzmq's own parser and shows no key at all; by the first byte they come over TCP
 * with a good key instead. There is a broker for each of the two, which gets a new core for each input; its loop
 * runs in this thread until nothing is left to be done, as zmq_poll then says that it is to stop (the linker puts
 * ours in place). What is waited for is a counter, never a time.
 *
 * Input: a byte, then operations, a byte each, with what they need behind it. */
#include "tests/fuzz/edge_place.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/keys/z85.h"
#include "proto/wire/mp.h"

enum {
    OPERATIONS_MAX = 64,
    FRAMES_MOST = 6,
    LOOKS_MAX = 60000, /* of a millisecond; never reached but by a broker that hangs */
    NAME_SIZE_MAX = 20,
    ZAP_FRAMES_MOST = 9,
    TCP = 0xff /* the first byte; seldom, as handshakes take their time */
};

/* What the counters have to say, or at least. */
typedef struct expected {
    uint64_t requests, malformed_front, malformed_back, malformed_events, unauthorized, refused;
    uint64_t back_slack, unauthorized_slack; /* messages of which the core, or libzmq, decides */
} expected;

typedef struct world {
    place *place;
    broker_sockets *sockets;
    bool tcp;
    void *context, *asker, *subscriber;
    void *peers[BROKER_DOORS_COUNT][2];
    bool named[BROKER_DOORS_COUNT][2]; /* longer than the broker takes */
    expected want;
} world;

/* ---- sockets ---- */

static void *new_socket(world *w, int type) {
    void *socket = zmq_socket(w->context, type);
    int linger = 0;
    ASSERT(socket != NULL && zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger) == 0);
    return socket;
}

static void send_frame(void *socket, stet_str frame, bool more) {
    int rc = zmq_send(socket, frame.size > 0 ? frame.data : "", frame.size,
                      ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
    ASSERT(rc == (int)frame.size);
}

static bool readable(void *socket) {
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    return zmq_poll(&item, 1, 0) > 0;
}

/* A whole message, if there is one; the frame of number `keep` is appended to ret. How many frames. */
static uint32_t receive(void *socket, uint32_t keep, stet_buf *ret) {
    uint32_t count = 0;
    for (bool more = readable(socket); more; count++) {
        zmq_msg_t msg;
        ASSERT(zmq_msg_init(&msg) == 0 && zmq_msg_recv(&msg, socket, 0) >= 0);
        if (count == keep && ret != NULL)
            stet_buf_append(ret, zmq_msg_data(&msg), zmq_msg_size(&msg));
        more = zmq_msg_more(&msg) != 0;
        ASSERT(zmq_msg_close(&msg) == 0);
    }
    return count;
}

/* The same, for which the broker may have to do something, or another thread. */
static uint32_t await(const world *w, void *socket, uint32_t keep, stet_buf *ret) {
    for (uint32_t i = 0; i < LOOKS_MAX; i++) {
        edge_turn(w->place);
        if (readable(socket))
            return receive(socket, keep, ret);
        (void)poll(NULL, 0, i < 8 ? 0 : 1);
    }
    return 0;
}

static const int peer_types[BROKER_DOORS_COUNT] = {[BROKER_DOOR_FRONT] = ZMQ_DEALER,
                                                   [BROKER_DOOR_BACK] = ZMQ_DEALER,
                                                   [BROKER_DOOR_EVENTS] = ZMQ_XSUB,
                                                   [BROKER_DOOR_EVENTS_IN] = ZMQ_XPUB};

static void show_key(void *socket, broker_door door) {
    const stet_key_pair *pair =
        door == BROKER_DOOR_BACK || door == BROKER_DOOR_EVENTS_IN ? &edge_server : &edge_client;
    ASSERT(zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, edge_server.public_key, STET_KEY_TEXT_SIZE) == 0);
    ASSERT(zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, pair->public_key, STET_KEY_TEXT_SIZE) == 0);
    ASSERT(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, pair->secret_key, STET_KEY_TEXT_SIZE) == 0);
}

static const char *tcp_endpoint(const world *w, broker_door door) {
    const broker_sockets *sockets = w->sockets;
    for (uint32_t i = 0; i < sockets->bound_count; i++)
        if (sockets->bound[i].socket == sockets->keyed[door].socket)
            return sockets->bound[i].endpoint;
    ASSERT(false);
    return "";
}

static void *connect_to(world *w, broker_door door, bool keyed, stet_str name) {
    char endpoint[2 * STET_ENDPOINT_MAX];
    void *socket = new_socket(w, peer_types[door]);
    if (name.size > 0)
        ASSERT(zmq_setsockopt(socket, ZMQ_ROUTING_ID, name.data, name.size) == 0);
    (void)snprintf(endpoint, sizeof endpoint, "inproc://%s-%s", keyed ? "keyed" : "open",
                   broker_door_name(door));
    if (keyed && w->tcp) {
        show_key(socket, door);
        (void)snprintf(endpoint, sizeof endpoint, "%s", tcp_endpoint(w, door));
    }
    ASSERT(zmq_connect(socket, endpoint) == 0);
    if (door ==
        BROKER_DOOR_EVENTS_IN) /* what is sent before the broker's subscription is here is for nobody */
        ASSERT(await(w, socket, 0, NULL) == 1);
    return socket;
}

static void *peer_of(world *w, broker_door door, bool keyed) {
    if (w->peers[door][keyed] == NULL)
        w->peers[door][keyed] = connect_to(w, door, keyed, STET_STR(""));
    return w->peers[door][keyed];
}

/* What has come to a peer; each message has the frames that belong there. */
static void hear(world *w, broker_door door, bool keyed) {
    static const uint32_t frames[BROKER_DOORS_COUNT] = {[BROKER_DOOR_FRONT] = 2,
                                                        [BROKER_DOOR_BACK] = 3,
                                                        [BROKER_DOOR_EVENTS] = 2,
                                                        [BROKER_DOOR_EVENTS_IN] = 1};
    void *socket = w->peers[door][keyed];
    if (socket == NULL)
        return;
    CLEANUP(stet_buf_done) stet_buf first = STET_BUF(1 << 20);
    for (uint32_t count; stet_buf_clear(&first), (count = receive(socket, 0, &first)) > 0;) {
        stet_envelope envelope;
        ASSERT(count == frames[door]);
        if (door == BROKER_DOOR_FRONT || door == BROKER_DOOR_BACK)
            ASSERT(stet_envelope_decode(stet_buf_str(&first), &envelope, NULL) == STET_OK);
    }
}

static void close_peer(world *w, broker_door door, bool keyed) {
    hear(w, door, keyed);
    if (w->peers[door][keyed] != NULL)
        ASSERT(zmq_close(w->peers[door][keyed]) == 0);
    w->peers[door][keyed] = NULL;
    w->named[door][keyed] = false;
}

/* ---- the broker's life ---- */

static void start(world *w) {
    place *p = edge_place(w->tcp);
    w->place = p;
    w->sockets = p->sockets;
    w->context = w->sockets->context;
    uint64_t failed;
    broker_gate_counts(w->sockets->gate, &w->want.refused, &failed);
    const broker_edge edge = w->sockets->core->edge;
    w->sockets->core = broker_core_free(w->sockets->core);
    w->sockets->core = broker_core_new(&p->core, &edge, w->sockets->now_ms);
    ASSERT(w->sockets->core != NULL);
    if (p->asker == NULL) {
        p->asker = connect_to(w, BROKER_DOOR_FRONT, false, STET_STR(""));
        p->subscriber = new_socket(w, ZMQ_SUB);
        ASSERT(zmq_setsockopt(p->subscriber, ZMQ_SUBSCRIBE, "", 0) == 0);
        ASSERT(zmq_connect(p->subscriber, "inproc://open-events") == 0);
    }
    w->asker = p->asker;
    w->subscriber = p->subscriber;
}

/* As it was found, for the next input. */
static void stop(world *w) {
    for (broker_door door = 0; door < BROKER_DOORS_COUNT; door++) {
        close_peer(w, door, false);
        close_peer(w, door, true);
    }
    if (w->place->known_changed)
        edge_put_client(w->place);
    for (uint32_t i = 0; i == 0 || w->sockets->down_count > 0; i++) {
        ASSERT(i < LOOKS_MAX);
        edge_turn(w->place);
    }
}

/* ---- what became of everything ---- */

static void ask(world *w, stet_buf *ret_body) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(
        &(stet_envelope){.kind = STET_KIND_REQUEST, .id = {{7}}, .command = STET_STR("broker.stats")},
        &frame);
    send_frame(w->asker, stet_buf_str(&frame), true);
    send_frame(w->asker, STET_STR("\x80"), false);
    w->want.requests++;
    stet_buf_clear(ret_body);
    ASSERT(await(w, w->asker, 1, ret_body) == 2);
}

static uint64_t counter(stet_str stats, const char *name) {
    return stet_mp_get_uint(stet_mp_get_raw(stats, "counters"), name, UINT64_MAX);
}

/* True when all has come in; more than was sent never does. */
static bool all_counted(world *w, stet_str stats) {
    const expected *want = &w->want;
    const struct {
        const char *name;
        uint64_t least, slack;
    } rows[] = {{"requests", want->requests, 0},
                {"malformedFront", want->malformed_front, 0},
                {"malformedBack", want->malformed_back, want->back_slack},
                {"malformedEvents", want->malformed_events, 0},
                {"unauthorized", want->unauthorized, want->unauthorized_slack},
                {"handshakesRefused", want->refused, 0}};
    bool all = true;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint64_t value = counter(stats, rows[i].name);
        ASSERT(value <= rows[i].least + rows[i].slack);
        all = all && value >= rows[i].least;
    }
    return all;
}

static void settle(world *w) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(STET_BODY_BYTES_MAX);
    for (uint32_t i = 0; i < LOOKS_MAX; i++) {
        ask(w, &body);
        if (all_counted(w, stet_buf_str(&body)))
            return;
        if (i > 8)
            (void)poll(NULL, 0, 1);
    }
    ASSERT(false); /* something that was sent is lost */
}

/* ---- operations ---- */

static stet_str made_envelope(fuzz_input *in, stet_buf *b) {
    static const char *const commands[] = {"broker.stats", "broker.last", "drafter.submit", "probe.put"};
    uint8_t what = fuzz_byte(in);
    stet_buf_clear(b);
    stet_envelope_encode(&(stet_envelope){.kind = (stet_kind)(1 + what % (STET_KINDS_COUNT - 1)),
                                          .id = {{fuzz_byte(in)}},
                                          .command = stet_str_of(commands[what >> 4 & 3]),
                                          .service = what & 0x80 ? STET_STR("drafter") : STET_STR("probe"),
                                          .epoch = 1,
                                          .instance = {{1, what}},
                                          .sequence = 1,
                                          .credit = what >> 5},
                         b);
    return stet_buf_str(b);
}

static void note_two(world *w, bool nobody, bool named, const stet_str *frames, uint32_t count) {
    stet_envelope envelope;
    if (named || count != 2) {
        w->want.malformed_front++;
        return;
    }
    w->want.requests++;
    w->want.unauthorized += nobody;
    w->want.malformed_front +=
        stet_envelope_decode(frames[0], &envelope, NULL) != STET_OK || stet_id_is_zero(envelope.id);
}

static void note_three(world *w, bool nobody, bool named, const stet_str *frames, uint32_t count) {
    stet_envelope envelope;
    bool whole = !named && count == 3;
    if (whole && nobody)
        w->want.unauthorized++;
    else if (!whole || stet_envelope_decode(frames[0], &envelope, NULL) != STET_OK)
        w->want.malformed_back++;
    else
        w->want.back_slack++;
}

static void note_event(world *w, bool nobody, const stet_str *frames, uint32_t count) {
    if (count != 2)
        w->want.malformed_events++;
    else if (nobody)
        w->want.unauthorized++;
    else
        w->want.malformed_events += frames[0].size == 0 || frames[0].size > BROKER_TOPIC_SIZE_MAX ||
                                    frames[1].size > BROKER_EVENT_BYTES_MAX;
}

static void note_subscription(world *w, bool nobody, const stet_str *frames, uint32_t count) {
    if (!nobody)
        return;
    if (count == 1)
        w->want.unauthorized += frames[0].size > 0 && frames[0].data[0] == 1;
    else /* an unsubscription that is not sent leaves what follows it to stand alone */
        w->want.unauthorized_slack += count;
}

static void say(world *w, fuzz_input *in, uint8_t what) {
    CLEANUP(stet_buf_done) stet_buf envelope = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    broker_door door = (broker_door)(what % BROKER_DOORS_COUNT);
    bool keyed = (what & 0x08) != 0, named = w->named[door][keyed];
    uint32_t count = 1 + (uint32_t)(what >> 4 & 7) % FRAMES_MOST;
    stet_str frames[FRAMES_MOST];
    void *socket = peer_of(w, door, keyed);
    for (uint32_t i = 0; i < count; i++)
        frames[i] = i == 0 && what & 0x80 ? made_envelope(in, &envelope) : fuzz_piece(in);
    for (uint32_t i = 0; i < count; i++)
        send_frame(socket, frames[i], i + 1 < count);
    bool nobody = keyed && !w->tcp;
    if (door == BROKER_DOOR_FRONT)
        note_two(w, nobody, named, frames, count);
    else if (door == BROKER_DOOR_BACK)
        note_three(w, nobody, named, frames, count);
    else if (door == BROKER_DOOR_EVENTS_IN)
        note_event(w, nobody, frames, count);
    else
        note_subscription(w, nobody, frames, count);
}

/* Goes, perhaps in the middle of a message, and comes back, perhaps under a name. */
static void come_again(world *w, fuzz_input *in, uint8_t what) {
    broker_door door = (broker_door)(what % BROKER_DOORS_COUNT);
    bool keyed = (what & 0x08) != 0;
    settle(w); /* what waits in its pipe would be lost with it */
    if (w->peers[door][keyed] != NULL && what & 0x10)
        send_frame(w->peers[door][keyed], fuzz_piece(in), true);
    close_peer(w, door, keyed);
    stet_str wanted = fuzz_piece(in);
    char name[1 + NAME_SIZE_MAX];
    size_t size = wanted.size < NAME_SIZE_MAX ? wanted.size : NAME_SIZE_MAX;
    if (peer_types[door] != ZMQ_DEALER || !(what & 0x20))
        size = 0;
    static uint32_t names;
    name[0] = (char)(1 + names++ % 255); /* nobody's now */
    if (size > 0)
        memcpy(name + 1, wanted.data, size);
    w->peers[door][keyed] = connect_to(w, door, keyed, stet_str_from(name, size > 0 ? size + 1 : 0));
    w->named[door][keyed] = size + 1 > BROKER_IDENTITY_SIZE_MAX;
}

/* As the handler answers: by the list as it stands on disk, if that has not been changed. */
static void check_zap(const world *w, const stet_str *frames, uint32_t count, stet_str status) {
    stet_keys *keys = NULL;
    uint32_t bad = 0;
    bool readable_now = stet_keys_load(w->place->keys, &keys, &bad, NULL) == STET_OK;
    broker_zap_answer answer = broker_zap_decide(readable_now ? keys : NULL, frames, count);
    ASSERT(w->place->known_changed || stet_str_is(status, answer.status));
    keys = stet_keys_free(keys);
    if (stet_str_is(status, "200"))
        ASSERT(count == BROKER_ZAP_FRAMES && stet_str_is(frames[5], "CURVE") &&
               frames[6].size == STET_KEY_BYTES);
}

/* Returns whether it was refused. The empty frame is always there, as libzmq is the only one that can ask: a
 * request without it from somebody who is gone makes libzmq's REP lose the answer to the next one. */
static bool handshake(world *w, const stet_str *frames, uint32_t count) {
    void *socket = new_socket(w, ZMQ_DEALER);
    ASSERT(zmq_connect(socket, "inproc://zeromq.zap.01") == 0);
    send_frame(socket, STET_STR(""), true);
    for (uint32_t i = 0; i < count; i++)
        send_frame(socket, frames[i], i + 1 < count);
    CLEANUP(stet_buf_done) stet_buf status = STET_BUF(16);
    ASSERT(await(w, socket, 3, &status) == 7);
    ASSERT(zmq_close(socket) == 0);
    check_zap(w, frames, count, stet_buf_str(&status));
    bool refused = !stet_str_is(stet_buf_str(&status), "200");
    w->want.refused += refused && !(count > 3 && stet_str_is(frames[3], "self-test"));
    return refused;
}

typedef struct zap_request {
    uint8_t key[STET_KEY_BYTES];
    stet_str frames[BROKER_ZAP_FRAMES];
} zap_request;

/* What libzmq would say for a peer with this key. */
static void zap_request_of(const char *public_key, const char *door, zap_request *ret) {
    ASSERT(stet_z85_decode(stet_str_of(public_key), ret->key, sizeof ret->key));
    const stet_str frames[BROKER_ZAP_FRAMES] = {STET_STR("1.0"),
                                                STET_STR("1"),
                                                stet_str_of(door),
                                                STET_STR("::1"),
                                                STET_STR(""),
                                                STET_STR("CURVE"),
                                                stet_str_from(ret->key, sizeof ret->key)};
    memcpy(ret->frames, frames, sizeof frames);
}

static void shake_hands(world *w, fuzz_input *in, uint8_t what) {
    stet_str frames[ZAP_FRAMES_MOST];
    uint32_t count = 1 + what % ZAP_FRAMES_MOST;
    for (uint32_t i = 0; i < count; i++)
        frames[i] = fuzz_piece(in);
    (void)handshake(w, frames, count);
}

static void change_keys(world *w, fuzz_input *in) {
    stet_str text = fuzz_piece(in);
    if (w->tcp) /* that would end connections, and what is under way on them is lost */
        return;
    w->place->known_changed = true;
    edge_put_known(w->place, text);
}

static void operate(world *w, fuzz_input *in) {
    switch (fuzz_byte(in) % 8) {
    default:
        say(w, in, fuzz_byte(in));
        break;
    case 4:
        come_again(w, in, fuzz_byte(in));
        break;
    case 5:
        shake_hands(w, in, fuzz_byte(in));
        break;
    case 6:
        change_keys(w, in);
        break;
    case 7:
        settle(w);
        break;
    }
}

/* ---- in the end ---- */

/* The list as it is on disk now is what the handler goes by, however it came to be. */
static void keys_are_as_on_disk(world *w) {
    for (uint32_t i = 0; i < LOOKS_MAX; i++) {
        stet_keys *keys = NULL;
        uint32_t bad = 0;
        bool good = stet_keys_load(w->place->keys, &keys, &bad, NULL) == STET_OK;
        const stet_known_key *key = good ? stet_keys_find(keys, stet_str_of(edge_client.public_key)) : NULL;
        bool known = key != NULL && broker_access_door(key, BROKER_DOOR_FRONT);
        keys = stet_keys_free(keys);
        zap_request request;
        zap_request_of(edge_client.public_key, "front", &request);
        if (handshake(w, request.frames, BROKER_ZAP_FRAMES) == !known)
            return;
        (void)poll(NULL, 0, 1);
    }
    ASSERT(false);
}

static void subscriber_hears(world *w) {
    char topic[64];
    void *socket = connect_to(w, BROKER_DOOR_EVENTS_IN, false, STET_STR(""));
    CLEANUP(stet_buf_done) stet_buf first = STET_BUF(1 << 20);
    (void)snprintf(topic, sizeof topic, "TOOL_PROGRESS/the-last-%u", w->place->rounds++);
    send_frame(socket, stet_str_of(topic), true);
    send_frame(socket, STET_STR("{}"), false);
    do {
        stet_buf_clear(&first);
        ASSERT(await(w, w->subscriber, 0, &first) == 2);
    } while (!stet_str_is(stet_buf_str(&first), topic));
    ASSERT(zmq_close(socket) == 0);
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    world w = {.tcp = fuzz_byte(&in) == TCP};
    start(&w);
    for (int i = 0; i < OPERATIONS_MAX && in.left > 0; i++)
        operate(&w, &in);
    settle(&w);
    if (w.place->known_changed) {
        keys_are_as_on_disk(&w);
        settle(&w);
    }
    subscriber_hears(&w);
    stop(&w);
}

/* ---- seeds ---- */

static void put_say(stet_buf *b, uint8_t what, uint32_t pieces) {
    stet_buf_append(b, (const uint8_t[]){0, what}, 2);
    if (what & 0x80)
        stet_buf_append(b, (const uint8_t[]){(uint8_t)(what >> 1), 9}, 2);
    for (uint32_t i = what & 0x80 ? 1 : 0; i < pieces; i++)
        fuzz_put_piece(b, i > 0                            ? STET_STR("\x80")
                          : what % 4 == BROKER_DOOR_EVENTS ? STET_STR("\x01TOOL_PROGRESS/")
                                                           : STET_STR("TOOL_PROGRESS/s1"));
}

static void put_handshake(stet_buf *b, const char *public_key, broker_door door) {
    zap_request request;
    zap_request_of(public_key, broker_door_name(door), &request);
    stet_buf_append(b, (const uint8_t[]){5, BROKER_ZAP_FRAMES - 1}, 2);
    for (size_t i = 0; i < BROKER_ZAP_FRAMES; i++)
        fuzz_put_piece(b, request.frames[i]);
}

bool fuzz_seed(size_t index, stet_buf *b) {
    if (index >= 16)
        return false;
    bool keyed = (index & 1) != 0;
    stet_buf_append_byte(b, index == 15 ? TCP : 0);
    for (unsigned door = 0; door < BROKER_DOORS_COUNT; door++) {
        uint8_t at = (uint8_t)(door | (keyed ? 0x08U : 0));
        uint8_t frames = (uint8_t)((door == BROKER_DOOR_BACK ? 2 : door == BROKER_DOOR_EVENTS ? 0 : 1) << 4);
        put_say(b, door < 2 ? at | frames | 0x80 : at | frames, (frames >> 4) + 1);
        if (index % 3 == 0)
            put_say(b, (uint8_t)(at | (index % 6) << 4), (uint32_t)(index % 6) + 1);
        if (index % 4 == 1) {
            stet_buf_append(b, (const uint8_t[]){4, at | (index & 8 ? 0x30 : 0x20)}, 2);
            fuzz_put_piece(b, STET_STR("a name that is too long"));
        }
    }
    if (index % 3 == 1)
        put_handshake(b, index & 2 ? edge_client.public_key : edge_server.public_key,
                      (broker_door)(index % BROKER_DOORS_COUNT));
    if (index % 5 == 2) {
        stet_buf_append_byte(b, 6);
        fuzz_put_piece(b, index & 4 ? STET_STR("name = \"known\"\nrole = \"viewer\"\n") : STET_STR(""));
    }
    return true;
}
