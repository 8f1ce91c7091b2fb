/* libstet at its sockets: what it refuses, and what it makes of a broker that says anything. A thread plays the broker, on a
 * Unix socket in a directory of its own. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.h>
#include <cmocka.h>

#include "proto/client/stet.h"
#include "proto/keys/keys.h"
#include "proto/wire/envelope.h"
#include "proto/wire/mp.h"

enum { WAIT_MS = 30000, LOOK_MS = 20 };

typedef enum manner { ANSWERS, BABBLES, IS_BUSY, REFUSES, IS_SILENT } manner;

typedef struct place {
    char directory[64], front[96], events[96];
    void *context, *router, *publisher;
    pthread_t thread;
    atomic_bool over;
    atomic_int manner;          /* how the broker is now */
    atomic_uint heard;          /* requests */
    _Atomic(const char *) page; /* what the next read gives: events as JSON texts separated by newlines */
} place;

/* ---- the broker ---- */

static void say(place *p, const zmq_msg_t *identity, const stet_str *frames, uint32_t count) {
    zmq_msg_t to;
    (void)zmq_msg_init(&to);
    assert_int_equal(zmq_msg_copy(&to, (zmq_msg_t *)(uintptr_t)identity), 0);
    assert_true(zmq_msg_send(&to, p->router, ZMQ_SNDMORE) >= 0);
    for (uint32_t i = 0; i < count; i++)
        assert_true(zmq_send(p->router, frames[i].size > 0 ? frames[i].data : "", frames[i].size,
                             i + 1 < count ? ZMQ_SNDMORE : 0) >= 0);
}

static void put_page(place *p, stet_buf *body) {
    const char *text = atomic_exchange(&p->page, NULL);
    size_t mark;
    uint32_t count = 0;
    stet_mp_map(body, 3);
    stet_mp_put_bool(body, "more", false);
    stet_mp_put_uint(body, "lastSeq", 3);
    stet_mp_cstr(body, "events");
    mark = stet_mp_open(body);
    for (; text && *text != '\0'; count++) {
        size_t size = strcspn(text, "\n");
        stet_mp_str(body, stet_str_from(text, size));
        text += size + (text[size] == '\n');
    }
    stet_mp_close_array(body, mark, count);
}

static void answer(place *p, const zmq_msg_t *identity, const stet_envelope *request) {
    CLEANUP(stet_buf_done)
    stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX), body = STET_BUF(STET_BODY_BYTES_MAX);
    manner how = (manner)atomic_load(&p->manner);
    bool refuses = how == IS_BUSY || how == REFUSES;
    stet_envelope_encode(
        &(stet_envelope){.kind = refuses ? STET_KIND_ERROR : STET_KIND_REPLY, .id = request->id}, &frame);
    stet_error e;
    if (how == IS_BUSY) {
        (void)stet_error_set(&e, STET_BUSY, "the queue is full");
        e.retry_after_ms = 20;
        stet_error_encode(&e, &body);
    } else if (how == REFUSES) {
        (void)stet_error_field(&e, STET_INVALID, "items[0].id", "is missing");
        stet_error_encode(&e, &body);
    } else if (stet_str_is(request->command, "drafter.events")) {
        put_page(p, &body);
    } else {
        stet_mp_map(&body, 1);
        stet_mp_put_cstr(&body, "said", "yes");
    }
    const stet_str frames[] = {stet_buf_str(&frame), stet_buf_str(&body), STET_STR("more"),
                               STET_STR("and more")};
    if (how == BABBLES) {
        say(p, identity, frames, 1);
        say(p, identity, frames, 3);
        say(p, identity, frames, 4);
        say(p, identity, (const stet_str[]){STET_STR("nonsense"), STET_STR("\x80")}, 2);
        say(p, identity, (const stet_str[]){STET_STR(""), STET_STR("")}, 2);
    }
    if (how != IS_SILENT)
        say(p, identity, frames, 2);
}

static void serve_one(place *p) {
    zmq_msg_t frames[3];
    for (size_t i = 0; i < COUNT_OF(frames); i++) {
        (void)zmq_msg_init(&frames[i]);
        assert_true(zmq_msg_recv(&frames[i], p->router, 0) >= 0);
        assert_int_equal(zmq_msg_more(&frames[i]), i + 1 < COUNT_OF(frames));
    }
    stet_envelope request;
    stet_error e;
    assert_int_equal(
        stet_envelope_decode(stet_str_from(zmq_msg_data(&frames[1]), zmq_msg_size(&frames[1])), &request, &e),
        STET_OK);
    atomic_fetch_add(&p->heard, 1);
    answer(p, &frames[0], &request);
    for (size_t i = 0; i < COUNT_OF(frames); i++)
        (void)zmq_msg_close(&frames[i]);
}

static void *serve(void *context) {
    place *p = context;
    while (!atomic_load(&p->over)) {
        zmq_pollitem_t item = {.socket = p->router, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, LOOK_MS) > 0)
            serve_one(p);
    }
    return NULL;
}

static void *bound(place *p, int type, const char *endpoint) {
    void *socket = zmq_socket(p->context, type);
    int linger = 0;
    assert_non_null(socket);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_bind(socket, endpoint), 0);
    return socket;
}

static int setup(void **state) {
    place *p = calloc(1, sizeof *p);
    (void)snprintf(p->directory, sizeof p->directory, "/tmp/stet-client-XXXXXX");
    if (mkdtemp(p->directory) == NULL) {
        free(p);
        return -1;
    }
    (void)snprintf(p->front, sizeof p->front, "ipc://%s/front", p->directory);
    (void)snprintf(p->events, sizeof p->events, "ipc://%s/events", p->directory);
    p->context = zmq_ctx_new();
    p->router = bound(p, ZMQ_ROUTER, p->front);
    p->publisher = bound(p, ZMQ_XPUB, p->events);
    *state = p;
    return pthread_create(&p->thread, NULL, serve, p);
}

static int teardown(void **state) {
    static const char *const names[] = {"front", "events", "a.key", ""};
    place *p = *state;
    atomic_store(&p->over, true);
    (void)pthread_join(p->thread, NULL);
    (void)zmq_close(p->router);
    (void)zmq_close(p->publisher);
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

static stet_client *client_of(place *p) {
    char error[256] = "";
    stet_client *client = stet_client_new(&(stet_client_options){.endpoints = p->front, .events = p->events},
                                          error, sizeof error);
    if (client == NULL)
        fail_msg("%s", error);
    return client;
}

static int ask(stet_client *client, const char *id, uint32_t timeout_ms, stet_answer *ret) {
    return stet_client_request(client, "probe.put", (const uint8_t *)"\x80", 1, id, timeout_ms, ret);
}

static bool says(const stet_answer *a) {
    return stet_str_is(stet_mp_get_str(stet_str_from(a->body, a->body_size), "said", STET_STR("")), "yes");
}

/* ---- options ---- */

static void refused_with(const stet_client_options *options, const char *word) {
    char error[256] = "";
    if (stet_client_new(options, error, sizeof error) != NULL)
        fail_msg("taken, in spite of: %s", word);
    if (strstr(error, word) == NULL)
        fail_msg("\"%s\" does not say: %s", error, word);
    assert_null(stet_client_new(options, NULL, 0));
}

static void options_that_cannot_work_are_refused_with_a_reason(void **state) {
    place *p = *state;
    char longer[2048];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    refused_with(&(stet_client_options){.endpoints = "http://127.0.0.1:1", .events = p->events},
                 "write tcp://HOST:PORT");
    refused_with(&(stet_client_options){.endpoints = "tcp://127.0.0.1", .events = p->events},
                 "tcp://127.0.0.1");
    refused_with(&(stet_client_options){.endpoints = longer, .events = p->events}, "list of endpoints");
    refused_with(&(stet_client_options){.endpoints = p->front, .events = longer}, "list of endpoints");
    refused_with(&(stet_client_options){.data = longer}, "long");
}

static void key_file(const place *p, const stet_key_pair *pair, char ret_path[128]) {
    stet_error e;
    (void)snprintf(ret_path, 128, "%s/a.key", p->directory);
    (void)unlink(ret_path);
    assert_int_equal(stet_key_pair_write(ret_path, pair, &e), STET_OK);
}

static void beyond_this_machine_nothing_is_sent_without_a_key(void **state) {
    place *p = *state;
    char path[128];
    stet_key_pair pair;
    stet_error e;
    stet_client_options o = {
        .endpoints = "tcp://192.0.2.1:5570", .events = "tcp://192.0.2.1:5571", .key_file = ""};
    refused_with(&o, "needs a key");
    o.events = p->events;
    refused_with(&o, "needs a key");
    o.key_file = "/nowhere/a.key";
    refused_with(&o, "/nowhere/a.key");
    assert_int_equal(stet_key_pair_new(&pair, &e), STET_OK);
    key_file(p, &pair, path);
    o.key_file = path;
    o.server_key = "";
    refused_with(&o, "STET_SERVER_KEY");
    o.server_key = "too short";
    refused_with(&o, "40 characters");
    o.server_key = pair.public_key;
    o.endpoints = "tcp://192.0.2.1:5570, ipc:///tmp/x";
    refused_with(&o, "must be tcp://");
    o.endpoints = "tcp://192.0.2.1:5570";
    stet_client *client = stet_client_new(&o, NULL, 0); /* does not wait for anybody */
    assert_non_null(client);
    stet_client_free(client);
    assert_int_equal(chmod(path, 0644), 0);
    refused_with(&o, "a.key");
    stet_key_pair_done(&pair);
}

/* ---- requests ---- */

static void what_is_no_answer_is_skipped(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_answer a = {0};
    atomic_store(&p->manner, BABBLES);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(client, NULL, WAIT_MS, &a), 0);
        assert_null(a.code);
        assert_true(says(&a));
        assert_string_equal(stet_client_error(client), "");
    }
    stet_client_free(client);
}

static void an_error_is_an_answer_that_names_the_field(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_answer a = {0};
    atomic_store(&p->manner, REFUSES);
    assert_int_equal(ask(client, NULL, WAIT_MS, &a), 0);
    assert_string_equal(a.code, "invalid");
    assert_string_equal(a.field, "items[0].id");
    assert_string_equal(a.message, "is missing");
    assert_int_equal(a.sends, 1);
    stet_client_free(client);
}

static void a_broker_that_stays_busy_is_asked_again_and_its_last_word_told(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_answer a = {0};
    atomic_store(&p->manner, IS_BUSY);
    uint32_t heard;
    do { /* on a slow machine a second may be over before the second try */
        heard = atomic_load(&p->heard);
        assert_int_equal(ask(client, NULL, 1000, &a), -1);
    } while (atomic_load(&p->heard) - heard < 2);
    assert_non_null(strstr(stet_client_error(client), "busy"));
    stet_client_free(client);
}

static void silence_ends_in_time_and_the_same_id_can_be_asked_again(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_answer a = {0};
    char id[64];
    atomic_store(&p->manner, IS_SILENT);
    assert_int_equal(ask(client, NULL, 100, &a), -1);
    assert_non_null(strstr(stet_client_error(client), "no answer in time"));
    (void)snprintf(id, sizeof id, "%s", stet_client_last_id(client));
    atomic_store(&p->manner, ANSWERS);
    assert_int_equal(ask(client, id, WAIT_MS, &a), 0);
    assert_string_equal(stet_client_last_id(client), id);
    assert_string_equal(stet_client_error(client), "");
    stet_client_free(client);
}

static void count_done(void *context, const char *id_text, const stet_answer *a) {
    uint32_t *counts = context; /* with an answer, without */
    assert_int_equal(strlen(id_text), 36);
    counts[a == NULL]++;
}

static void what_cannot_be_sent_is_refused_at_once(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_answer a = {0};
    uint32_t counts[2] = {0};
    uint8_t *large = calloc(1, STET_BODY_BYTES_MAX + 1);
    assert_int_equal(ask(client, "no uuid", WAIT_MS, &a), -2);
    assert_non_null(strstr(stet_client_error(client), "UUID"));
    assert_int_equal(stet_client_request(client, "a command", (const uint8_t *)"\x80", 1, NULL, WAIT_MS, &a),
                     -2);
    assert_int_equal(
        stet_client_request(client, "probe.put", large, STET_BODY_BYTES_MAX + 1, NULL, WAIT_MS, &a), -2);
    assert_int_equal(stet_client_send(client, "probe.put", large, STET_BODY_BYTES_MAX + 1, NULL, WAIT_MS,
                                      count_done, counts),
                     -1);
    assert_int_equal(stet_client_pending(client), 0);
    assert_int_equal(atomic_load(&p->heard), 0);
    free(large);
    stet_client_free(client);
    assert_int_equal(counts[0] + counts[1], 0);
}

static void each_request_that_is_not_waited_for_calls_back_once(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    uint32_t counts[2] = {0};
    assert_true(stet_client_fd(client) >= 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(stet_client_send(client, "probe.put", (const uint8_t *)"\x80", 1, NULL, WAIT_MS,
                                          count_done, counts),
                         0);
    assert_int_equal(stet_client_pending(client), 20);
    while (stet_client_pending(client) > 0)
        assert_true(stet_client_poll(client, WAIT_MS) >= 0);
    assert_int_equal(counts[0], 20);
    atomic_store(&p->manner, IS_SILENT);
    assert_int_equal(
        stet_client_send(client, "probe.put", (const uint8_t *)"\x80", 1, NULL, 50, count_done, counts), 0);
    while (stet_client_pending(client) > 0) /* until it is given up */
        assert_true(stet_client_poll(client, WAIT_MS) >= 0);
    assert_int_equal(counts[1], 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(stet_client_send(client, "probe.put", (const uint8_t *)"\x80", 1, NULL, WAIT_MS,
                                          count_done, counts),
                         0);
    assert_int_equal(stet_client_poll(client, 0), 0);
    stet_client_free(client); /* tells those who still wait */
    assert_int_equal(counts[0], 20);
    assert_int_equal(counts[1], 4);
}

/* ---- events ---- */

static void publish(const place *p, const char *session, const char *payload) {
    char topic[128];
    (void)snprintf(topic, sizeof topic, "TOOL_PROGRESS/%s", session);
    assert_true(zmq_send(p->publisher, topic, strlen(topic), ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(p->publisher, payload, strlen(payload), 0) >= 0);
}

static void await_subscriber(const place *p) {
    char byte[256];
    zmq_pollitem_t item = {.socket = p->publisher, .events = ZMQ_POLLIN};
    assert_int_equal(zmq_poll(&item, 1, WAIT_MS), 1);
    assert_true(zmq_recv(p->publisher, byte, sizeof byte, 0) > 0 && byte[0] == 1);
}

#define EVENT(session, actor, seq)                                                                           \
    "TOOL_PROGRESS::{\"seq\":" seq ",\"sessionId\":\"" session "\",\"actor\":\"" actor "\"}"

static uint64_t next_seq(stet_subscriber *s) {
    stet_client_event event = {0};
    int got = stet_subscriber_next(s, &event, WAIT_MS);
    assert_int_equal(got, 1);
    assert_int_equal(strlen(event.json), event.json_size);
    return event.seq;
}

static void what_is_no_event_of_the_session_is_skipped(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_client_event event = {0};
    atomic_store(
        &p->page,
        "{\"seq\":1,\"sessionId\":\"s1\",\"actor\":\"drafter\"}\nnot json\n{\"seq\":2,\"sessionId\":\"s1\","
        "\"actor\":\"drafter\"}\n{\"seq\":3,\"sessionId\":\"s1\",\"actor\":\"drafter\"}");
    stet_subscriber *s = stet_subscriber_new(client, "s1", NULL, 0);
    assert_non_null(s);
    await_subscriber(p);
    for (uint64_t seq = 1; seq <= 3; seq++)
        assert_int_equal(next_seq(s), seq);
    publish(p, "s1", "no prefix");
    publish(p, "s1", "TOOL_PROGRESS::{broken");
    publish(p, "s1", "TOOL_PROGRESS::[]");
    publish(p, "s1", EVENT("s1", "publisher", "4")); /* numbers count per actor */
    publish(p, "s10", EVENT("s10", "drafter", "4")); /* a subscription is a prefix */
    publish(p, "s1", EVENT("s1", "drafter", "3"));   /* again */
    publish(p, "s1", EVENT("s1", "drafter", "4"));
    assert_int_equal(next_seq(s), 4);
    assert_int_equal(stet_subscriber_next(s, &event, 0), 0);
    stet_subscriber_free(s);
    stet_client_free(client);
}

static void without_a_session_everything_is_heard_live(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_subscriber *s = stet_subscriber_new(client, NULL, NULL, 0);
    assert_non_null(s);
    await_subscriber(p);
    publish(p, "a", EVENT("a", "drafter", "7"));
    publish(p, "b", EVENT("b", "publisher", "2"));
    publish(p, "a", EVENT("a", "drafter", "7"));
    assert_int_equal(next_seq(s), 7);
    assert_int_equal(next_seq(s), 2);
    assert_int_equal(next_seq(s), 7);
    assert_int_equal(atomic_load(&p->heard), 0); /* nothing is read back */
    stet_subscriber_free(s);
    stet_client_free(client);
}

static void a_subscriber_may_go_while_its_read_is_under_way(void **state) {
    place *p = *state;
    stet_client *client = client_of(p);
    stet_client_event event;
    atomic_store(&p->manner, IS_SILENT);
    stet_subscriber *s = stet_subscriber_new(client, "s1", "drafter", 0);
    assert_non_null(s);
    while (atomic_load(&p->heard) == 0)
        assert_int_equal(stet_subscriber_next(s, &event, LOOK_MS), 0);
    stet_subscriber_free(s);
    char longer[256];
    memset(longer, 's', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_null(stet_subscriber_new(client, longer, NULL, 0));
    assert_non_null(strstr(stet_client_error(client), "at most"));
    assert_null(stet_subscriber_new(client, "s1", longer, 0));
    stet_client_free(client);
}

/* ---- bodies ---- */

static void bodies_come_from_json_and_go_back(void **state) {
    (void)state;
    static const char text[] = "{\"a\":[1,null,\"\xc3\xa4\"]}";
    char error[256] = "";
    size_t size = 0;
    uint8_t *body = stet_body_from_json(text, strlen(text), &size, error, sizeof error);
    assert_non_null(body);
    char *again = stet_body_to_json(body, size, 0, error, sizeof error);
    assert_string_equal(again, text);
    char *pretty = stet_body_to_json(body, size, 2, error, sizeof error);
    assert_non_null(strstr(pretty, "\n  \"a\""));
    char *empty = stet_body_to_json(NULL, 0, 0, NULL, 0);
    assert_string_equal(empty, "{}");
    assert_null(stet_body_from_json("{", 1, &size, error, sizeof error));
    assert_string_not_equal(error, "");
    error[0] = '\0';
    assert_null(stet_body_to_json((const uint8_t *)"\xc1", 1, 0, error, sizeof error));
    assert_string_not_equal(error, "");
    assert_string_not_equal(stet_version(), "");
    free(body);
    free(again);
    free(pretty);
    free(empty);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(options_that_cannot_work_are_refused_with_a_reason),
        TEST(beyond_this_machine_nothing_is_sent_without_a_key),
        TEST(what_is_no_answer_is_skipped),
        TEST(an_error_is_an_answer_that_names_the_field),
        TEST(a_broker_that_stays_busy_is_asked_again_and_its_last_word_told),
        TEST(silence_ends_in_time_and_the_same_id_can_be_asked_again),
        TEST(what_cannot_be_sent_is_refused_at_once),
        TEST(each_request_that_is_not_waited_for_calls_back_once),
        TEST(what_is_no_event_of_the_session_is_skipped),
        TEST(without_a_session_everything_is_heard_live),
        TEST(a_subscriber_may_go_while_its_read_is_under_way),
        cmocka_unit_test(bodies_come_from_json_and_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
