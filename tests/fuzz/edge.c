/* The broker's edge: sockets, its loop and the handler for keys as they are in the program, with peers that send
 * any number of frames of any size to each door, break off in the middle, come back under other names, speak to
 * the handler for keys and damage the list of keys. Nothing is lost, counted twice or joined to another message:
 * the broker's counters say of every message what became of it, whoever shows no key is nobody, what goes out has
 * its two or three frames, a good client is answered and a good subscriber hears to the end.
 *
 * Peers are inproc, which skips libzmq's own parser and shows no key at all; by the first byte they come over TCP
 * with a good key instead. The loop runs in a thread; what is waited for is a counter, never a time.
 *
 * Input: a byte, then operations, a byte each, with what they need behind it. */
#include "broker/internal.h"
#include "broker/sockets_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/exit_codes.h"
#include "proto/keys/files.h"
#include "proto/keys/z85.h"
#include "proto/wire/mp.h"
#include "tests/fuzz/fuzz.h"

enum {
    OPERATIONS_MAX = 64,
    FRAMES_MOST = 6,
    ANSWER_MS = 60000, /* never reached but by a broker that hangs */
    ASKS_MAX = 20000,
    NAME_SIZE_MAX = 20,
    ZAP_FRAMES_MOST = 9
};

/* Of rfc.zeromq.org/spec/26: the client's pair and the server's, who is the only actor here as well. */
static const stet_key_pair client = {.public_key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
                                     .secret_key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"};
static const stet_key_pair server = {.public_key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
                                     .secret_key = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"};

typedef struct place {
    char directory[32], keys[64], known[80];
    stet_paths paths;
    bool known_changed;
} place;

/* What the counters have to say, or at least. */
typedef struct expected {
    uint64_t requests, malformed_front, malformed_back, malformed_events, unauthorized, refused;
    uint64_t back_slack, unauthorized_slack; /* messages of which the core, or libzmq, decides */
} expected;

typedef struct world {
    place *place;
    broker_sockets *sockets;
    pthread_t thread;
    int stop_fd, exit_code;
    bool tcp;
    void *context, *asker, *subscriber;
    void *peers[BROKER_DOORS_COUNT][2];
    bool named[BROKER_DOORS_COUNT][2]; /* longer than the broker takes */
    uint8_t names;
    expected want;
} world;

/* ---- files ---- */

static void put_known(place *p, stet_str text) {
    int fd = open(p->known, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0 && write(fd, text.size > 0 ? text.data : "", text.size) == (ssize_t)text.size);
    ASSERT(close(fd) == 0);
}

static void put_client(place *p) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(512);
    key_line_put(&text, "name", "known");
    key_line_put(&text, "role", "control");
    key_line_put(&text, "public", client.public_key);
    key_line_put(&text, "sessions", "");
    key_line_put(&text, "created", "");
    put_known(p, stet_buf_str(&text));
    p->known_changed = false;
}

static place *place_once(void);

static void remove_files(void) {
    static const char *const names[] = {
        "keys/known.pub", "keys/actor.pub", "keys/server.key", "keys", "run", "log", ""};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[sizeof(place_once()->directory) + 32];
        if (snprintf(path, sizeof path, "%s/%s", place_once()->directory, names[i]) < (int)sizeof path)
            (void)remove(path);
    }
}

static place *place_once(void) {
    static place p;
    char path[STET_PATH_MAX];
    stet_error e;
    if (p.directory[0] != '\0')
        return &p;
    stet_log_init("fuzz", STET_RECORD);
    (void)snprintf(p.directory, sizeof p.directory, "/tmp/stet-fuzz-XXXXXX");
    ASSERT(mkdtemp(p.directory) != NULL && atexit(remove_files) == 0);
    (void)snprintf(p.keys, sizeof p.keys, "%s/keys", p.directory);
    (void)snprintf(p.known, sizeof p.known, "%s/known.pub", p.keys);
    ASSERT(stet_paths_of(p.directory, &p.paths, &e) == STET_OK && stet_paths_create(&p.paths, &e) == STET_OK);
    stet_known_key actor = {.name = "actor", .role = STET_ROLE_ACTOR, .created = "now"};
    memcpy(actor.public_key, server.public_key, sizeof actor.public_key);
    ASSERT(stet_keys_add(p.keys, &actor, &e) == STET_OK);
    ASSERT(stet_keys_server_path(p.keys, path, &e) == STET_OK);
    ASSERT(stet_key_pair_write(path, &server, &e) == STET_OK);
    put_client(&p);
    return &p;
}

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

/* A whole message; the frame of number `keep` is appended to ret. How many frames; 0: there is none. */
static uint32_t receive(void *socket, long wait_ms, uint32_t keep, stet_buf *ret) {
    uint32_t count = 0;
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    for (bool more = zmq_poll(&item, 1, wait_ms) > 0; more; count++) {
        zmq_msg_t msg;
        ASSERT(zmq_msg_init(&msg) == 0 && zmq_msg_recv(&msg, socket, 0) >= 0);
        if (count == keep && ret != NULL)
            stet_buf_append(ret, zmq_msg_data(&msg), zmq_msg_size(&msg));
        more = zmq_msg_more(&msg) != 0;
        ASSERT(zmq_msg_close(&msg) == 0);
    }
    return count;
}

static const int peer_types[BROKER_DOORS_COUNT] = {[BROKER_DOOR_FRONT] = ZMQ_DEALER,
                                                   [BROKER_DOOR_BACK] = ZMQ_DEALER,
                                                   [BROKER_DOOR_EVENTS] = ZMQ_XSUB,
                                                   [BROKER_DOOR_EVENTS_IN] = ZMQ_XPUB};

static void show_key(void *socket, broker_door door) {
    const stet_key_pair *pair = door == BROKER_DOOR_BACK || door == BROKER_DOOR_EVENTS_IN ? &server : &client;
    ASSERT(zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server.public_key, STET_KEY_TEXT_SIZE) == 0);
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
        ASSERT(receive(socket, ANSWER_MS, 0, NULL) == 1);
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
    for (uint32_t count; stet_buf_clear(&first), (count = receive(socket, 0, 0, &first)) > 0;) {
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

static void *run(void *context) {
    world *w = context;
    w->exit_code = broker_sockets_run(w->sockets, w->stop_fd);
    return NULL;
}

static void start(world *w) {
    broker_sockets_options options = {.paths = &w->place->paths,
                                      .keys_directory = w->place->keys,
                                      .core = {.queue_max = 8,
                                               .queue_bytes = 1 << 20,
                                               .sessions_max = 4,
                                               .heartbeat_ms = 60000,
                                               .timeout_ms = 60000,
                                               .instance = {{1}},
                                               .software = "fuzz"}};
    stet_error e;
    for (broker_door door = 0; door < BROKER_DOORS_COUNT; door++) {
        options.open[door].count = options.keyed[door].count = 1;
        (void)snprintf(options.open[door].items[0], STET_ENDPOINT_MAX, "inproc://open-%s",
                       broker_door_name(door));
        (void)snprintf(options.keyed[door].items[0], STET_ENDPOINT_MAX,
                       w->tcp ? "tcp://127.0.0.1:*" : "inproc://keyed-%s", broker_door_name(door));
    }
    ASSERT(broker_sockets_open(&options, &w->sockets, &e) == STET_OK);
    w->context = w->sockets->context;
    w->asker = connect_to(w, BROKER_DOOR_FRONT, false, STET_STR(""));
    w->subscriber = new_socket(w, ZMQ_SUB);
    ASSERT(zmq_setsockopt(w->subscriber, ZMQ_SUBSCRIBE, "", 0) == 0);
    ASSERT(zmq_connect(w->subscriber, "inproc://open-events") == 0);
    w->stop_fd = eventfd(0, EFD_CLOEXEC);
    ASSERT(w->stop_fd >= 0 && pthread_create(&w->thread, NULL, run, w) == 0);
}

static void stop(world *w) {
    ASSERT(eventfd_write(w->stop_fd, 1) == 0 && pthread_join(w->thread, NULL) == 0);
    ASSERT(w->exit_code == STET_EXIT_OK);
    for (broker_door door = 0; door < BROKER_DOORS_COUNT; door++) {
        close_peer(w, door, false);
        close_peer(w, door, true);
    }
    ASSERT(zmq_close(w->asker) == 0 && zmq_close(w->subscriber) == 0 && close(w->stop_fd) == 0);
    w->sockets = broker_sockets_close(w->sockets);
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
    ASSERT(receive(w->asker, ANSWER_MS, 1, ret_body) == 2);
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
    for (uint32_t i = 0; i < ASKS_MAX; i++) {
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
    name[0] = (char)(1 + w->names++); /* nobody's yet */
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
    ASSERT(receive(socket, ANSWER_MS, 3, &status) == 7);
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
    put_known(w->place, text);
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
    for (uint32_t i = 0; i < ASKS_MAX; i++) {
        stet_keys *keys = NULL;
        uint32_t bad = 0;
        bool good = stet_keys_load(w->place->keys, &keys, &bad, NULL) == STET_OK;
        const stet_known_key *key = good ? stet_keys_find(keys, stet_str_of(client.public_key)) : NULL;
        bool known = key != NULL && broker_access_door(key, BROKER_DOOR_FRONT);
        keys = stet_keys_free(keys);
        zap_request request;
        zap_request_of(client.public_key, "front", &request);
        if (handshake(w, request.frames, BROKER_ZAP_FRAMES) == !known)
            return;
        (void)poll(NULL, 0, 1);
    }
    ASSERT(false);
}

static void subscriber_hears(world *w) {
    static const char topic[] = "TOOL_PROGRESS/the-last";
    void *socket = connect_to(w, BROKER_DOOR_EVENTS_IN, false, STET_STR(""));
    CLEANUP(stet_buf_done) stet_buf first = STET_BUF(1 << 20);
    bool heard = false;
    send_frame(socket, stet_str_of(topic), true);
    send_frame(socket, STET_STR("{}"), false);
    while (!heard) {
        stet_buf_clear(&first);
        ASSERT(receive(w->subscriber, ANSWER_MS, 0, &first) == 2);
        heard = stet_str_is(stet_buf_str(&first), topic);
    }
    ASSERT(zmq_close(socket) == 0);
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    world w = {.place = place_once(), .tcp = fuzz_byte(&in) % 8 == 7};
    start(&w);
    for (int i = 0; i < OPERATIONS_MAX && in.left > 0; i++)
        operate(&w, &in);
    settle(&w);
    keys_are_as_on_disk(&w);
    settle(&w);
    subscriber_hears(&w);
    stop(&w);
    if (w.place->known_changed)
        put_client(w.place);
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
    stet_buf_append_byte(b, index >= 12 ? 7 : 0);
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
        put_handshake(b, index & 2 ? client.public_key : server.public_key,
                      (broker_door)(index % BROKER_DOORS_COUNT));
    if (index % 5 == 2) {
        stet_buf_append_byte(b, 6);
        fuzz_put_piece(b, index & 4 ? STET_STR("name = \"known\"\nrole = \"viewer\"\n") : STET_STR(""));
    }
    return true;
}
