/* The real stet-broker, spoken to through plain ZeroMQ sockets by friends and by enemies. */
#include "proto/base/clock.h"
#include "proto/base/exit_codes.h"
#include "proto/base/paths.h"
#include "proto/wire/envelope.h"
#include "proto/wire/mp.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>
#include <cmocka.h>

enum { FRAMES_MAX = 4, SOCKETS_MAX = 32, WAIT_MS = 20000 };

typedef struct instance {
    void *zmq;
    char directory[64];
    stet_paths paths;
    pid_t pid;
    uint32_t ids;
    void *sockets[SOCKETS_MAX]; /* all that a test opens, closed by its teardown */
    uint32_t sockets_count;
    void *statistics; /* client that asks for counters */
} instance;

typedef struct message {
    uint8_t bytes[FRAMES_MAX][4096];
    size_t sizes[FRAMES_MAX];
    uint32_t count;
    stet_envelope envelope; /* of the first frame */
} message;

/* ---- the program ---- */
static pid_t spawn(const char *const *arguments) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (getenv("STET_TEST_VERBOSE") == NULL)
            (void)dup2(null, STDERR_FILENO);
        (void)execv(STET_BROKER_PROGRAM, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    return pid;
}

static void start_broker(instance *i, const char *config) {
    const char *const arguments[] = {
        "stet-broker", "--data", i->directory, config != NULL ? "--config" : NULL, config, NULL};
    i->pid = spawn(arguments);
}

static int exit_code_of(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int stop_broker(instance *i, int signal_number) {
    pid_t pid = i->pid;
    i->pid = 0;
    assert_int_equal(kill(pid, signal_number), 0);
    return exit_code_of(pid);
}

static int remove_directory(const char *path) {
    const char *const arguments[] = {"rm", "-rf", path, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        (void)execvp("rm", (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    return exit_code_of(pid);
}

/* ---- sockets ---- */
static void set(void *socket, int option, int value) {
    assert_int_equal(zmq_setsockopt(socket, option, &value, sizeof value), 0);
}

static void *new_socket(instance *i, int type) {
    void *socket = zmq_socket(i->zmq, type);
    assert_non_null(socket);
    assert_true(i->sockets_count < SOCKETS_MAX);
    i->sockets[i->sockets_count++] = socket;
    set(socket, ZMQ_LINGER, 0);
    return socket;
}

static void *open_socket(instance *i, int type, const char *endpoint) {
    void *socket = new_socket(i, type);
    set(socket, ZMQ_RCVTIMEO, WAIT_MS);
    set(socket, ZMQ_SNDTIMEO, WAIT_MS);
    set(socket, ZMQ_RECONNECT_IVL, 20);
    if (type == ZMQ_SUB)
        assert_int_equal(zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "TOOL_PROGRESS/", 14), 0);
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    return socket;
}

static void *dealer(instance *i, const char *endpoint) {
    return open_socket(i, ZMQ_DEALER, endpoint);
}

static void send_frame(void *socket, const void *data, size_t size, bool more) {
    assert_int_equal(zmq_send(socket, data, size, more ? ZMQ_SNDMORE : 0), (int)size);
}

/* False when nothing came within the time. */
static bool receive(void *socket, int wait_ms, message *ret) {
    *ret = (message){0};
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    if (zmq_poll(&item, 1, wait_ms) <= 0)
        return false;
    int more = 1;
    while (more != 0) {
        assert_true(ret->count < FRAMES_MAX);
        int size = zmq_recv(socket, ret->bytes[ret->count], sizeof ret->bytes[0], 0);
        assert_in_range(size, 0, sizeof ret->bytes[0]);
        ret->sizes[ret->count++] = (size_t)size;
        size_t option_size = sizeof more;
        assert_int_equal(zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &option_size), 0);
    }
    return true;
}

static void receive_envelope(void *socket, message *ret) {
    assert_true(receive(socket, WAIT_MS, ret));
    stet_error error;
    if (stet_envelope_decode(stet_str_from(ret->bytes[0], ret->sizes[0]), &ret->envelope, &error) != STET_OK)
        fail_msg("not an envelope: %s", error.message);
}

static stet_str frame_of(const message *m, uint32_t index) {
    assert_true(index < m->count);
    return stet_str_from(m->bytes[index], m->sizes[index]);
}

static void send_envelope(void *socket, const stet_envelope *envelope) {
    stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(envelope, &b);
    assert_true(stet_buf_ok(&b));
    send_frame(socket, b.data, b.size, true);
    stet_buf_done(&b);
}

static stet_id new_id(instance *i) {
    stet_id id = {{1}};
    memcpy(id.bytes + 8, &(uint32_t){++i->ids}, sizeof(uint32_t));
    return id;
}

static stet_id request(instance *i, void *socket, const char *command, const void *body, size_t size) {
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = new_id(i), .command = stet_str_of(command), .timeout_ms = WAIT_MS};
    send_envelope(socket, &envelope);
    send_frame(socket, body, size, false);
    return envelope.id;
}

/* The body of the reply. */
static stet_str ask_with(instance *i, void *socket, const char *command, stet_str body, message *ret) {
    stet_id id = request(i, socket, command, body.data, body.size);
    receive_envelope(socket, ret);
    assert_string_equal(stet_kind_name(ret->envelope.kind), "reply");
    assert_true(stet_id_equal(ret->envelope.id, id));
    return frame_of(ret, 1);
}

static stet_str ask(instance *i, void *socket, const char *command, message *ret) {
    return ask_with(i, socket, command, STET_STR("\x80"), ret);
}

static int setup(void **state) {
    instance *i = calloc(1, sizeof *i);
    assert_non_null(i);
    (void)snprintf(i->directory, sizeof i->directory, "/tmp/stet-broker-XXXXXX");
    assert_non_null(mkdtemp(i->directory));
    stet_error error;
    assert_int_equal(stet_paths_of(i->directory, &i->paths, &error), STET_OK);
    i->zmq = zmq_ctx_new();
    assert_non_null(i->zmq);
    start_broker(i, NULL);
    i->statistics = dealer(i, i->paths.front);
    message answer;
    (void)ask(i, i->statistics, "broker.version", &answer); /* waits until it is there */
    *state = i;
    return 0;
}

static int teardown(void **state) {
    instance *i = *state;
    if (i->pid != 0)
        assert_int_equal(stop_broker(i, SIGTERM), STET_EXIT_OK);
    for (uint32_t n = 0; n < i->sockets_count; n++)
        (void)zmq_close(i->sockets[n]);
    (void)zmq_ctx_term(i->zmq);
    assert_int_equal(remove_directory(i->directory), 0);
    free(i);
    return 0;
}

static uint64_t counter(instance *i, const char *name) {
    message answer;
    stet_str counters = stet_mp_get_raw(ask(i, i->statistics, "broker.stats", &answer), "counters");
    return stet_mp_get_uint(counters, name, UINT64_MAX);
}

static void wait_for_counter(instance *i, const char *name, uint64_t at_least) {
    int64_t end_ms = stet_clock_boot_ms() + WAIT_MS;
    while (counter(i, name) < at_least)
        if (stet_clock_boot_ms() > end_ms)
            fail_msg("%s stays below %llu", name, (unsigned long long)at_least);
}

/* ---- an actor, by hand ---- */
static const stet_id ACTOR_INSTANCE = {{0xac}};

static void send_ready(void *socket) {
    stet_envelope ready = {.kind = STET_KIND_READY,
                           .service = STET_STR("echo"),
                           .epoch = 1,
                           .instance = ACTOR_INSTANCE,
                           .credit = 100};
    send_envelope(socket, &ready);
    send_frame(socket, "", 0, true);
    send_frame(socket, "", 0, false);
}

static void send_heartbeat(void *socket) {
    stet_envelope heartbeat = {.kind = STET_KIND_HEARTBEAT, .instance = ACTOR_INSTANCE};
    send_envelope(socket, &heartbeat);
    send_frame(socket, "", 0, true);
    send_frame(socket, "", 0, false);
}

static void *start_actor(instance *i) {
    void *socket = dealer(i, i->paths.back);
    send_ready(socket);
    message welcome;
    receive_envelope(socket, &welcome);
    assert_int_equal(welcome.envelope.kind, STET_KIND_WELCOME);
    assert_int_equal(welcome.count, 3);
    return socket;
}

/* Serves one message: echoes a request, registers again when asked. Returns its kind, NONE when nothing came.
 */
static stet_kind serve_one(void *socket, int wait_ms) {
    message m;
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    if (zmq_poll(&item, 1, wait_ms) <= 0)
        return STET_KIND_NONE;
    receive_envelope(socket, &m);
    if (m.envelope.kind == STET_KIND_REGISTER)
        send_ready(socket);
    if (m.envelope.kind == STET_KIND_REQUEST) {
        stet_envelope reply = {.kind = STET_KIND_REPLY, .id = m.envelope.id};
        send_envelope(socket, &reply);
        send_frame(socket, m.bytes[1], m.sizes[1], true);
        send_frame(socket, m.bytes[2], m.sizes[2], false);
    }
    return m.envelope.kind;
}

static void serve_request(void *socket) {
    for (int tries = 0; tries < 100; tries++)
        if (serve_one(socket, WAIT_MS) == STET_KIND_REQUEST)
            return;
    fail_msg("the request did not reach the actor");
}

static void assert_echo_works(instance *i, void *client, void *actor) {
    send_heartbeat(actor);
    stet_id id = request(i, client, "echo.back", "\x81\xa1x\x07", 4);
    serve_request(actor);
    message answer;
    receive_envelope(client, &answer);
    assert_string_equal(stet_kind_name(answer.envelope.kind), "reply");
    assert_true(stet_id_equal(answer.envelope.id, id));
    assert_true(stet_str_equal(frame_of(&answer, 1), STET_STR("\x81\xa1x\x07")));
}

/* ---- friends ---- */
static void a_request_reaches_a_raw_actor_and_its_answer_the_client(void **state) {
    instance *i = *state;
    void *actor = start_actor(i), *client = dealer(i, i->paths.front);
    for (int n = 0; n < 20; n++)
        assert_echo_works(i, client, actor);
}

static void after_a_kill_the_actor_is_registered_again_soon(void **state) {
    instance *i = *state;
    void *actor = start_actor(i), *client = dealer(i, i->paths.front);
    assert_echo_works(i, client, actor);
    assert_int_equal(stop_broker(i, SIGKILL), -SIGKILL);
    start_broker(i, NULL);
    int64_t started_ms = stet_clock_boot_ms();
    bool welcome = false;
    while (!welcome) {
        send_heartbeat(actor);
        welcome = serve_one(actor, 50) == STET_KIND_WELCOME;
        assert_true(stet_clock_boot_ms() - started_ms < 10000);
    }
    print_message("registered %lld ms after the restart\n", (long long)(stet_clock_boot_ms() - started_ms));
    assert_echo_works(i, client, actor);
}

static bool receive_event(void *subscriber, int wait_ms, const char *part) {
    message m;
    while (receive(subscriber, wait_ms, &m)) {
        assert_int_equal(m.count, 2);
        if (memmem(m.bytes[1], m.sizes[1], part, strlen(part)) != NULL)
            return true;
    }
    return false;
}

static void publish(void *publisher, const char *session, int sequence) {
    char topic[64], payload[128];
    int topic_size = snprintf(topic, sizeof topic, "TOOL_PROGRESS/%s", session);
    int size =
        snprintf(payload, sizeof payload,
                 "TOOL_PROGRESS::{\"seq\":%d,\"sessionId\":\"%s\",\"actor\":\"echo\"}", sequence, session);
    send_frame(publisher, topic, (size_t)topic_size, true);
    send_frame(publisher, payload, (size_t)size, false);
}

static void events_are_relayed_and_the_last_one_waits_for_newcomers(void **state) {
    instance *i = *state;
    void *publisher = open_socket(i, ZMQ_PUB, i->paths.events_in);
    void *subscriber = open_socket(i, ZMQ_SUB, i->paths.events);
    int sequence = 0;
    do /* until both connections stand: what is published before is lost, as PUB does it */
        publish(publisher, "s1", ++sequence);
    while (!receive_event(subscriber, 20, "\"seq\":") && sequence < 500);
    publish(publisher, "s1", 1000);
    assert_true(receive_event(subscriber, WAIT_MS, "\"seq\":1000"));
    void *late = open_socket(i, ZMQ_SUB, i->paths.events);
    assert_true(receive_event(late, WAIT_MS, "\"seq\":1000"));

    void *client = dealer(i, i->paths.front);
    message answer;
    stet_str events = stet_mp_get_raw(
        ask_with(i, client, "broker.last", STET_STR("\x81\xa9sessionId\xa2s1"), &answer), "events");
    stet_mp_reader r = stet_mp_reader_of(events);
    assert_int_equal(stet_mp_read_array(&r), 1);
    assert_true(stet_str_is(stet_mp_read_str(&r), "{\"seq\":1000,\"sessionId\":\"s1\",\"actor\":\"echo\"}"));
}

/* ---- enemies ---- */
static void send_frames(void *socket, uint32_t count, stet_str first) {
    for (uint32_t n = 0; n < count; n++)
        send_frame(socket, n == 0 ? first.data : "x", n == 0 ? first.size : 1, n + 1 < count);
}

static void hostile_frames_are_counted_and_hurt_nobody(void **state) {
    instance *i = *state;
    void *actor = start_actor(i), *client = dealer(i, i->paths.front);
    void *front = dealer(i, i->paths.front), *back = dealer(i, i->paths.back);
    static char deep[1024], version2[] = "\x83\xa1v\x02\xa4kind\xa7request\xa7"
                                         "command\xa3"
                                         "a.b";
    memset(deep, '\x91', sizeof deep);
    static const uint32_t counts[] = {1, 2, 3, 4, 6, 100};
    for (size_t n = 0; n < COUNT_OF(counts); n++) {
        send_frames(front, counts[n], stet_str_from(deep, sizeof deep));
        send_frames(front, counts[n], stet_str_from(version2, sizeof version2 - 1));
        send_frames(back, counts[n], stet_str_from(deep, sizeof deep));
        send_frames(back, counts[n], (stet_str){"", 0});
    }
    stet_prng prng = stet_prng_of(7);
    for (int n = 0; n < 2000; n++) {
        uint8_t bytes[200];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (uint8_t)stet_prng_next(&prng);
        stet_str text = stet_str_from(bytes, stet_prng_below(&prng, sizeof bytes));
        send_frames(n % 2 == 0 ? front : back, 1 + (uint32_t)stet_prng_below(&prng, 5), text);
    }
    wait_for_counter(i, "malformedFront", 1000 + 2 * COUNT_OF(counts));
    wait_for_counter(i, "malformedBack", 1000 + 2 * COUNT_OF(counts));
    send_heartbeat(actor);
    while (serve_one(actor, 100) != STET_KIND_NONE)
        continue;
    assert_echo_works(i, client, actor);
}

/* Sees when the socket loses its connection, from now on. */
static void *watch_disconnect(instance *i, void *socket) {
    assert_int_equal(zmq_socket_monitor(socket, "inproc://monitor", ZMQ_EVENT_DISCONNECTED), 0);
    void *monitor = new_socket(i, ZMQ_PAIR);
    assert_int_equal(zmq_connect(monitor, "inproc://monitor"), 0);
    return monitor;
}

static void a_body_a_little_too_large_is_answered_so(void **state) {
    instance *i = *state;
    void *client = dealer(i, i->paths.front);
    static const char large[STET_BODY_BYTES_MAX + 1];
    (void)request(i, client, "echo.back", large, sizeof large);
    message answer;
    receive_envelope(client, &answer);
    stet_error error;
    stet_error_decode(frame_of(&answer, 1), &error);
    assert_int_equal(error.code, STET_TOO_LARGE);
}

static void a_frame_over_the_limit_closes_that_connection_only(void **state) {
    instance *i = *state;
    void *actor = start_actor(i), *client = dealer(i, i->paths.front);
    assert_echo_works(i, client, actor);
    static const char large[2 * STET_BODY_BYTES_MAX + 1];
    void *enemy = dealer(i, i->paths.front);
    message answer;
    (void)ask(i, enemy, "broker.version", &answer);
    void *monitor = watch_disconnect(i, enemy);
    (void)request(i, enemy, "echo.back", large, sizeof large);
    assert_true(receive(monitor, WAIT_MS, &answer));
    (void)zmq_socket_monitor(enemy, NULL, 0);
    assert_echo_works(i, client, actor);
}

static void a_message_of_very_many_frames_is_dropped(void **state) {
    instance *i = *state;
    void *client = dealer(i, i->paths.front), *enemy = dealer(i, i->paths.front);
    for (int n = 0; n < 200000; n++)
        send_frame(enemy, "x", 1, true);
    message answer;
    (void)ask(i, client, "broker.version", &answer);
    send_frame(enemy, "x", 1, false);
    wait_for_counter(i, "malformedFront", 1);
    (void)ask(i, enemy, "broker.version", &answer); /* the next message of the same peer is understood */
    assert_true(counter(i, "malformedFront") < 30);
}

/* libzmq sends nothing before a message is complete, so an enemy like this one speaks ZMTP by itself. */
static int raw_zmtp_dealer(const char *endpoint) {
    static const uint8_t greeting[64] = "\xff\0\0\0\0\0\0\0\0\x7f\x03\0NULL";
    static const uint8_t ready[] = "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06"
                                   "DEALER";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", endpoint + strlen("ipc://"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    int64_t end_ms = stet_clock_boot_ms() + WAIT_MS;
    while (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        assert_true(stet_clock_boot_ms() < end_ms);
    assert_int_equal(write(fd, greeting, sizeof greeting), sizeof greeting);
    uint8_t theirs[64];
    assert_int_equal(recv(fd, theirs, sizeof theirs, MSG_WAITALL), sizeof theirs);
    assert_int_equal(write(fd, ready, sizeof ready - 1), sizeof ready - 1);
    return fd;
}

static void an_endless_message_ends_the_broker_at_its_memory_limit(void **state) {
    instance *i = *state;
    assert_int_equal(stop_broker(i, SIGTERM), STET_EXIT_OK);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/stet.zpl", i->directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs("broker\n    memoryMax = 256M\n", file);
    assert_int_equal(fclose(file), 0);
    start_broker(i, path);
    int enemy = raw_zmtp_dealer(i->paths.front);
    static uint8_t frame[9 + 60000] = "\x03\0\0\0\0\0\0\xea\x60"; /* more, long, 60000 bytes */
    int64_t end_ms = stet_clock_boot_ms() + WAIT_MS;
    int status = 0;
    while (waitpid(i->pid, &status, WNOHANG) == 0) {
        (void)send(enemy, frame, sizeof frame, MSG_NOSIGNAL);
        assert_true(stet_clock_boot_ms() < end_ms);
    }
    i->pid = 0;
    (void)close(enemy);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STET_EXIT_INTERNAL);
}

static void chosen_identities_are_of_no_use(void **state) {
    instance *i = *state;
    void *actor = start_actor(i), *client = dealer(i, i->paths.front);
    char identity[255];
    memset(identity, 'a', sizeof identity);
    void *enemies[6];
    for (size_t n = 0; n < COUNT_OF(enemies); n++) {
        static const size_t sizes[] = {255, 17, 16, 16, 5, 1};
        enemies[n] = new_socket(i, ZMQ_DEALER);
        identity[0] = n == 4 ? '\0' : 'a';
        assert_int_equal(zmq_setsockopt(enemies[n], ZMQ_ROUTING_ID, identity, sizes[n]), 0);
        assert_int_equal(zmq_connect(enemies[n], i->paths.back), 0);
        send_heartbeat(enemies[n]);
        stet_envelope forged = {.kind = STET_KIND_REPLY, .id = new_id(i)};
        send_envelope(enemies[n], &forged);
        send_frame(enemies[n],
                   "\x95\x00\xa7"
                   "control\x00\x00\x01",
                   13, true);
        send_frame(enemies[n], "\x80", 1, false);
    }
    wait_for_counter(i, "malformedBack", 4); /* two messages each of two identities that are too long */
    wait_for_counter(i, "unknownPeers", 4);
    assert_echo_works(i, client, actor);
}

static void a_client_that_never_reads_does_not_hold_up_others(void **state) {
    instance *i = *state;
    void *actor = start_actor(i), *client = dealer(i, i->paths.front);
    void *enemy = new_socket(i, ZMQ_DEALER);
    set(enemy, ZMQ_RCVHWM, 1);
    assert_int_equal(zmq_connect(enemy, i->paths.front), 0);
    int64_t worst_ms = 0;
    for (int n = 0; n < 40000; n++) {
        (void)request(i, enemy, "broker.stats", "\x80", 1);
        if (n % 1000 == 999) {
            int64_t from_ms = stet_clock_boot_ms();
            assert_echo_works(i, client, actor);
            int64_t took_ms = stet_clock_boot_ms() - from_ms;
            worst_ms = took_ms > worst_ms ? took_ms : worst_ms;
        }
    }
    print_message("worst echo beside it: %lld ms\n", (long long)worst_ms);
    assert_true(worst_ms < 5000);
    wait_for_counter(i, "undeliverable", 1000);
    assert_echo_works(i, client, actor);
}

/* ---- the process ---- */
static void a_second_broker_is_told_that_the_first_holds_the_lock(void **state) {
    instance *i = *state;
    const char *const arguments[] = {"stet-broker", "--data", i->directory, NULL};
    assert_int_equal(exit_code_of(spawn(arguments)), STET_EXIT_LOCKED);
    message answer;
    (void)ask(i, dealer(i, i->paths.front), "broker.version", &answer); /* the first still has its sockets */
}

static void a_stop_is_clean_and_removes_the_sockets(void **state) {
    instance *i = *state;
    assert_int_equal(stop_broker(i, SIGTERM), STET_EXIT_OK);
    const char *const endpoints[] = {i->paths.front, i->paths.back, i->paths.events_in, i->paths.events};
    for (size_t n = 0; n < COUNT_OF(endpoints); n++) {
        struct stat info;
        assert_int_equal(stat(endpoints[n] + strlen("ipc://"), &info), -1);
    }
    start_broker(i, NULL);
    void *client = dealer(i, i->paths.front);
    message answer;
    (void)ask(i, client, "broker.version", &answer);
    assert_int_equal(stop_broker(i, SIGINT), STET_EXIT_OK);
}

static void listening_beyond_loopback_is_refused_and_on_it_works(void **state) {
    instance *i = *state;
    assert_int_equal(stop_broker(i, SIGTERM), STET_EXIT_OK);
    assert_int_equal(setenv("STET_LISTEN", "tcp://0.0.0.0:*", 1), 0);
    const char *const arguments[] = {"stet-broker", "--data", i->directory, NULL};
    assert_int_equal(exit_code_of(spawn(arguments)), STET_EXIT_CONFIG);
    char endpoint[128];
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/more.sock", i->directory);
    assert_int_equal(setenv("STET_LISTEN", endpoint, 1), 0);
    start_broker(i, NULL);
    assert_int_equal(unsetenv("STET_LISTEN"), 0);
    void *client = dealer(i, endpoint);
    message answer;
    (void)ask(i, client, "broker.version", &answer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_reaches_a_raw_actor_and_its_answer_the_client, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(after_a_kill_the_actor_is_registered_again_soon, setup, teardown),
        cmocka_unit_test_setup_teardown(events_are_relayed_and_the_last_one_waits_for_newcomers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(hostile_frames_are_counted_and_hurt_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_a_little_too_large_is_answered_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frame_over_the_limit_closes_that_connection_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_of_very_many_frames_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(an_endless_message_ends_the_broker_at_its_memory_limit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(chosen_identities_are_of_no_use, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_that_never_reads_does_not_hold_up_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_broker_is_told_that_the_first_holds_the_lock, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stop_is_clean_and_removes_the_sockets, setup, teardown),
        cmocka_unit_test_setup_teardown(listening_beyond_loopback_is_refused_and_on_it_works, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
