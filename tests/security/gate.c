/* Goal: the broker fails closed whatever becomes of the ZAP handler. Method: the gate and the sockets in this process, with
 * the handler missing, stopped, silent, or talking nonsense; and strangers, whom libzmq lets in whenever nobody answers. */
#include "broker/sockets_internal.h"
#include "proto/base/exit_codes.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { LONG_MS = 20000, QUIET_MS = 300 };

typedef struct place {
    char directory[64], keys[128];
    stet_key_pair server, known, stranger;
    void *context;
    broker_gate *gate;
    void *sockets[16];
    uint32_t sockets_count;
} place;

static void add_key(place *p) {
    stet_known_key key = {.name = "known", .role = STET_ROLE_CONTROL, .created = "now"};
    stet_error e;
    memcpy(key.public_key, p->known.public_key, sizeof key.public_key);
    if (stet_keys_add(p->keys, &key, &e) != STET_OK)
        fail_msg("%s", e.message);
}

static int setup(void **state) {
    place *p = calloc(1, sizeof *p);
    char path[STET_PATH_MAX];
    stet_error e;
    (void)snprintf(p->directory, sizeof p->directory, "/tmp/stet-gate-XXXXXX");
    if (mkdtemp(p->directory) == NULL) {
        free(p);
        return -1;
    }
    (void)snprintf(p->keys, sizeof p->keys, "%s/keys", p->directory);
    assert_int_equal(stet_key_pair_new(&p->server, &e), STET_OK);
    assert_int_equal(stet_key_pair_new(&p->known, &e), STET_OK);
    assert_int_equal(stet_key_pair_new(&p->stranger, &e), STET_OK);
    add_key(p);
    assert_int_equal(stet_keys_server_path(p->keys, path, &e), STET_OK);
    assert_int_equal(stet_key_pair_write(path, &p->server, &e), STET_OK);
    if (broker_gate_new(p->keys, &p->gate, &e) != STET_OK)
        fail_msg("%s", e.message);
    p->context = zmq_ctx_new();
    *state = p;
    return 0;
}

static int teardown(void **state) {
    static const char *const names[] = {
        "keys/known.pub", "keys/server.key", "keys", "run/broker.lock", "run", "log", ""};
    place *p = *state;
    for (uint32_t i = 0; i < p->sockets_count; i++)
        (void)zmq_close(p->sockets[i]);
    p->gate = broker_gate_free(p->gate);
    (void)zmq_ctx_term(p->context);
    char path[128];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", p->directory, names[i]);
        (void)remove(path);
    }
    int rc = access(p->directory, F_OK) == 0 ? -1 : 0;
    free(p);
    return rc;
}

static void *new_socket(place *p, int type) {
    void *socket = zmq_socket(p->context, type);
    int linger = 0;
    assert_non_null(socket);
    assert_true(p->sockets_count < COUNT_OF(p->sockets));
    p->sockets[p->sockets_count++] = socket;
    assert_int_equal(zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger), 0);
    return socket;
}

/* A listening socket that asks for keys; ret_endpoint: where. */
static void *listening(place *p, int type, broker_door door, char ret_endpoint[128]) {
    void *socket = new_socket(p, type);
    size_t size = 128;
    assert_true(broker_gate_guard(p->gate, socket, door));
    assert_int_equal(zmq_bind(socket, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, ret_endpoint, &size), 0);
    return socket;
}

static void *connected(place *p, int type, const stet_key_pair *pair, const char *endpoint) {
    void *socket = new_socket(p, type);
    const stet_key_pair *server = &p->server;
    assert_int_equal(zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server->public_key, STET_KEY_TEXT_SIZE), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, pair->public_key, STET_KEY_TEXT_SIZE), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, pair->secret_key, STET_KEY_TEXT_SIZE), 0);
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    return socket;
}

static bool readable(void *socket, long wait_ms) {
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    return zmq_poll(&item, 1, wait_ms) > 0;
}

static void send_two(void *socket) {
    assert_true(zmq_send(socket, "a", 1, ZMQ_SNDMORE | ZMQ_DONTWAIT) == 1);
    assert_true(zmq_send(socket, "b", 1, ZMQ_DONTWAIT) == 1);
}

/* Whose the next message is; its first `skip` frames are not looked at. */
static const stet_known_key *whose(place *p, void *socket, uint32_t skip) {
    zmq_msg_t frames[4];
    zmq_msg_t *pointers[4];
    uint32_t count = 0;
    bool more = true;
    assert_true(readable(socket, LONG_MS));
    for (; more && count < COUNT_OF(frames); count++) {
        (void)zmq_msg_init(&frames[count]);
        assert_true(zmq_msg_recv(&frames[count], socket, 0) >= 0);
        pointers[count] = &frames[count];
        more = zmq_msg_more(&frames[count]) != 0;
    }
    assert_true(count > skip);
    const stet_known_key *key = broker_gate_key(p->gate, pointers + skip, count - skip);
    for (uint32_t i = 0; i < count; i++)
        (void)zmq_msg_close(&frames[i]);
    return key;
}

static void start(place *p) {
    stet_error e;
    if (broker_gate_start(p->gate, p->context, &e) != STET_OK)
        fail_msg("%s", e.message);
}

static void without_a_handler_strangers_get_in_and_are_nobody(void **state) {
    place *p = *state;
    char endpoint[128];
    void *router = listening(p, ZMQ_ROUTER, BROKER_DOOR_FRONT, endpoint);
    send_two(connected(p, ZMQ_DEALER, &p->stranger, endpoint));
    assert_null(whose(p, router, 1)); /* it did arrive: that is what libzmq does */
    void *known = connected(p, ZMQ_DEALER, &p->known, endpoint);
    send_two(known);
    assert_null(whose(p, router, 1)); /* nobody has looked at this key either */
    void *xpub = listening(p, ZMQ_XPUB, BROKER_DOOR_EVENTS, endpoint);
    void *sub = connected(p, ZMQ_SUB, &p->stranger, endpoint);
    assert_int_equal(zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "", 0), 0);
    assert_null(whose(p, xpub, 0));
}

static void a_message_is_its_keys_until_that_is_revoked(void **state) {
    place *p = *state;
    char endpoint[128];
    stet_error e;
    start(p);
    void *router = listening(p, ZMQ_ROUTER, BROKER_DOOR_FRONT, endpoint);
    void *stranger = connected(p, ZMQ_DEALER, &p->stranger, endpoint);
    (void)zmq_send(stranger, "a", 1, ZMQ_DONTWAIT);
    void *known = connected(p, ZMQ_DEALER, &p->known, endpoint);
    send_two(known);
    const stet_known_key *key = whose(p, router, 1);
    assert_non_null(key);
    assert_string_equal(key->name, "known");
    void *xpub = listening(p, ZMQ_XPUB, BROKER_DOOR_EVENTS, endpoint);
    void *sub = connected(p, ZMQ_SUB, &p->known, endpoint);
    assert_int_equal(zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "x", 1), 0);
    assert_non_null(whose(p, xpub, 0));
    assert_int_equal(stet_keys_remove(p->keys, "known", &e), STET_OK);
    zmq_pollitem_t changed = {.fd = broker_gate_changes_fd(p->gate), .events = ZMQ_POLLIN};
    assert_int_equal(zmq_poll(&changed, 1, LONG_MS), 1);
    assert_true(broker_gate_reload(p->gate));
    send_two(known); /* over the connection that was let in */
    assert_null(whose(p, router, 1));
    assert_int_equal(zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "y", 1), 0);
    assert_null(whose(p, xpub, 0));
    add_key(p);
    assert_false(broker_gate_reload(p->gate));
    send_two(known);
    assert_non_null(whose(p, router, 1));
    assert_false(readable(router, QUIET_MS)); /* the stranger was never let in */
    uint64_t refused, failed;
    broker_gate_counts(p->gate, &refused, &failed);
    assert_true(refused >= 1);
}

static void a_directory_that_cannot_be_trusted_lets_nobody_in(void **state) {
    place *p = *state;
    char endpoint[128];
    start(p);
    void *router = listening(p, ZMQ_ROUTER, BROKER_DOOR_FRONT, endpoint);
    void *known = connected(p, ZMQ_DEALER, &p->known, endpoint);
    send_two(known);
    assert_non_null(whose(p, router, 1));
    assert_int_equal(chmod(p->keys, 0755), 0);
    assert_true(broker_gate_reload(p->gate));
    send_two(known);
    assert_null(whose(p, router, 1));
    assert_int_equal(chmod(p->keys, 0700), 0);
    assert_false(broker_gate_reload(p->gate));
    send_two(known);
    assert_non_null(whose(p, router, 1));
}

/* Answers one ZAP request with these frames; "ID" stands for the request's id. NULL ends; no frame at all: silence. */
static void answer_with(void *handler, const char *const *frames) {
    char id[64] = "";
    assert_true(readable(handler, LONG_MS));
    int more = 1;
    size_t size = sizeof more;
    for (int i = 0; more != 0; i++) {
        char frame[64];
        int got = zmq_recv(handler, frame, sizeof frame - 1, 0);
        assert_true(got >= 0);
        if (i == 1)
            (void)snprintf(id, sizeof id, "%.*s", got, frame);
        assert_int_equal(zmq_getsockopt(handler, ZMQ_RCVMORE, &more, &size), 0);
    }
    for (; frames[0] != NULL; frames++) {
        const char *text = strcmp(frames[0], "ID") == 0 ? id : frames[0];
        assert_true(zmq_send(handler, text, strlen(text), frames[1] != NULL ? ZMQ_SNDMORE : 0) >= 0);
    }
}

static void an_answer_that_is_late_or_nonsense_lets_nobody_in(void **state) {
    static const char *const answers[][7] = {
        {NULL},                                          /* none at all */
        {"1.0", "ID", "400", "no", "", "", NULL},        /* refused */
        {"1.0", "ID", "500", "error", "", "", NULL},     /* failed */
        {"1.0", "ID", "999", "OK", "user", "", NULL},    /* no such status */
        {"1.0", "ID", "20", "OK", "user", "", NULL},     /* cut */
        {"2.0", "ID", "200", "OK", "user", "", NULL},    /* another version */
        {"1.0", "other", "200", "OK", "user", "", NULL}, /* another request's */
        {"1.0", "ID", "200", "OK", NULL},                /* too short */
        {"garbage", NULL},
        {"1.0", "ID", "200", "OK", "user", "\005", NULL} /* metadata that ends early */
    };
    static const char *const good[] = {"1.0", "ID", "200", "OK", "user", "", NULL};
    place *p = *state;
    for (size_t i = 0; i <= COUNT_OF(answers); i++) {
        void *context = p->context;
        p->context = zmq_ctx_new(); /* one handler per context */
        uint32_t before = p->sockets_count;
        void *handler = new_socket(p, ZMQ_REP);
        char endpoint[128];
        assert_int_equal(zmq_bind(handler, "inproc://zeromq.zap.01"), 0);
        void *router = listening(p, ZMQ_ROUTER, BROKER_DOOR_FRONT, endpoint);
        send_two(connected(p, ZMQ_DEALER, &p->stranger, endpoint));
        answer_with(handler, i < COUNT_OF(answers) ? answers[i] : good);
        if (readable(router, i < COUNT_OF(answers) ? QUIET_MS : LONG_MS) != (i == COUNT_OF(answers)))
            fail_msg("answer %zu", i);
        while (p->sockets_count > before)
            (void)zmq_close(p->sockets[--p->sockets_count]);
        (void)zmq_ctx_term(p->context);
        p->context = context;
    }
}

static void the_gate_does_not_open_beside_another_handler(void **state) {
    place *p = *state;
    stet_error e = {0};
    void *other = new_socket(p, ZMQ_REP);
    assert_int_equal(zmq_bind(other, "inproc://zeromq.zap.01"), 0);
    assert_int_equal(broker_gate_start(p->gate, p->context, &e), STET_INTERNAL);
    assert_string_not_equal(e.message, "");
}

typedef struct running {
    broker_sockets *sockets;
    int stop_fd, exit_code;
} running;

static void *run(void *context) {
    running *r = context;
    r->exit_code = broker_sockets_run(r->sockets, r->stop_fd);
    return NULL;
}

static void the_broker_ends_when_its_handler_ends(void **state) {
    place *p = *state;
    stet_paths paths;
    stet_error e;
    running r = {.stop_fd = eventfd(0, EFD_CLOEXEC), .exit_code = -1};
    assert_int_equal(stet_paths_of(p->directory, &paths, &e), STET_OK);
    assert_int_equal(stet_paths_create(&paths, &e), STET_OK);
    broker_sockets_options options = {
        .paths = &paths,
        .keys_directory = p->keys,
        .keyed = {[BROKER_DOOR_FRONT] = {.items = {"tcp://127.0.0.1:*"}, .count = 1}},
        .core = {.queue_max = 8,
                 .queue_bytes = 1 << 20,
                 .sessions_max = 4,
                 .heartbeat_ms = 250,
                 .timeout_ms = 1000,
                 .instance = {{1}},
                 .software = "test"}};
    if (broker_sockets_open(&options, &r.sockets, &e) != STET_OK)
        fail_msg("%s", e.message);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, &r), 0);
    broker_gate_stop(r.sockets->gate);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(r.exit_code, STET_EXIT_INTERNAL);
    r.sockets = broker_sockets_close(r.sockets);
    (void)close(r.stop_fd);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(without_a_handler_strangers_get_in_and_are_nobody),
        TEST(a_message_is_its_keys_until_that_is_revoked),
        TEST(a_directory_that_cannot_be_trusted_lets_nobody_in),
        TEST(an_answer_that_is_late_or_nonsense_lets_nobody_in),
        TEST(the_gate_does_not_open_beside_another_handler),
        TEST(the_broker_ends_when_its_handler_ends),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
