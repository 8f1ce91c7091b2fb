/* What a key may do, what is answered to libzmq's ZAP requests, and what the core makes of roles. */
#include "broker/access.h"
#include "broker_fake.h"

#include "proto/keys/z85.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- requests of limited viewers ---- */

static stet_code check(const char *sessions, const char *command, stet_str body) {
    stet_known_key key = {.role = STET_ROLE_VIEWER};
    (void)snprintf(key.sessions, sizeof key.sessions, "%s", sessions);
    stet_envelope envelope = {.kind = STET_KIND_REQUEST, .id = {{1}}, .command = stet_str_of(command)};
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&envelope, &b);
    stet_error e;
    return broker_access_request(&key, stet_buf_str(&b), body, &e);
}

#define SESSION "\xa9sessionId"

static void a_limited_viewer_reads_its_sessions_and_nothing_else(void **state) {
    (void)state;
    stet_str own = STET_STR("\x81" SESSION "\xa2s1"), foreign = STET_STR("\x81" SESSION "\xa2s2");
    assert_int_equal(check("s1", "drafter.events", own), STET_OK);
    assert_int_equal(check("s1", "broker.last", own), STET_OK);
    assert_int_equal(check("s0,s1", "other.events", own), STET_OK);
    assert_int_equal(check("s1", "drafter.events", foreign), STET_FORBIDDEN);
    assert_int_equal(check("s1", "broker.last", foreign), STET_FORBIDDEN);
    static const char *const others[] = {"broker.version", "broker.stats",     "drafter.queue",
                                         "drafter.job",    "drafter.list",     "drafter.submit",
                                         "events",         "drafter.a.events", "drafter.eventsx"};
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_int_equal(check("s1", others[i], own), STET_FORBIDDEN);
    assert_int_equal(check("", "drafter.list", foreign), STET_OK); /* not limited: the role decides */
}

static void a_body_that_can_be_read_two_ways_is_refused(void **state) {
    (void)state;
    static const stet_str bodies[] = {STET_STR(""),
                                      STET_STR("\x80"),
                                      STET_STR("\x82" SESSION "\xa2s1" SESSION "\xa2s2"),
                                      STET_STR("\x81" SESSION "\x92\xa2s1\xa2s2"),
                                      STET_STR("\x81" SESSION "\xa2s1\x81" SESSION "\xa2s2"),
                                      STET_STR("\x81" SESSION "\xa4s1\0x"),
                                      STET_STR("\x81" SESSION "\xa3s1"),
                                      STET_STR("\xdf\xff\xff\xff\xff"),
                                      STET_STR("\x81" SESSION "\xc0")};
    for (size_t i = 0; i < COUNT_OF(bodies); i++)
        assert_int_equal(check("s1", "drafter.events", bodies[i]), STET_FORBIDDEN);
}

static void doors_are_for_those_who_may_pass(void **state) {
    (void)state;
    const stet_known_key actor = {.role = STET_ROLE_ACTOR}, control = {.role = STET_ROLE_CONTROL},
                         viewer = {.role = STET_ROLE_VIEWER},
                         limited = {.role = STET_ROLE_VIEWER, .sessions = "s"};
    assert_true(broker_access_door(&limited, BROKER_DOOR_FRONT));
    assert_false(broker_access_door(&limited, BROKER_DOOR_EVENTS));
    assert_true(broker_access_door(&viewer, BROKER_DOOR_EVENTS));
    assert_true(broker_access_door(&actor, BROKER_DOOR_BACK));
    assert_true(broker_access_door(&actor, BROKER_DOOR_EVENTS_IN));
    assert_false(broker_access_door(&control, BROKER_DOOR_BACK));
    assert_false(broker_access_door(&control, BROKER_DOOR_EVENTS_IN));
    assert_false(broker_access_door(&viewer, BROKER_DOOR_BACK));
}

/* ---- ZAP ---- */

typedef struct list {
    char directory[64];
    stet_keys *keys;
    uint8_t actor[STET_KEY_BYTES], limited[STET_KEY_BYTES];
} list;

static void add(list *l, const char *name, stet_role role, const char *sessions, uint8_t *ret_public) {
    stet_key_pair pair;
    stet_error e;
    stet_known_key key = {.role = role, .created = "now"};
    assert_int_equal(stet_key_pair_new(&pair, &e), STET_OK);
    memcpy(key.public_key, pair.public_key, sizeof key.public_key);
    (void)snprintf(key.name, sizeof key.name, "%s", name);
    (void)snprintf(key.sessions, sizeof key.sessions, "%s", sessions);
    assert_int_equal(stet_keys_add(l->directory, &key, &e), STET_OK);
    assert_true(stet_z85_decode(stet_str_of(pair.public_key), ret_public, STET_KEY_BYTES));
}

static int setup_list(void **state) {
    list *l = calloc(1, sizeof *l);
    stet_error e;
    uint32_t bad;
    (void)snprintf(l->directory, sizeof l->directory, "/tmp/stet-access-XXXXXX");
    if (mkdtemp(l->directory) == NULL) {
        free(l);
        return -1;
    }
    add(l, "actor", STET_ROLE_ACTOR, "", l->actor);
    add(l, "limited", STET_ROLE_VIEWER, "s", l->limited);
    assert_int_equal(stet_keys_load(l->directory, &l->keys, &bad, &e), STET_OK);
    *state = l;
    return 0;
}

static int teardown_list(void **state) {
    list *l = *state;
    stet_error e;
    l->keys = stet_keys_free(l->keys);
    assert_int_equal(stet_keys_remove(l->directory, "actor", &e), STET_OK);
    assert_int_equal(stet_keys_remove(l->directory, "limited", &e), STET_OK);
    int rc = rmdir(l->directory);
    free(l);
    return rc;
}

static const char *zap(const list *l, const char *version, const char *domain, const char *mechanism,
                       const void *credentials, size_t size, uint32_t count) {
    const stet_str frames[BROKER_ZAP_FRAMES] = {stet_str_of(version),
                                                STET_STR("1"),
                                                stet_str_of(domain),
                                                STET_STR("192.0.2.1"),
                                                STET_STR("spoofed"),
                                                stet_str_of(mechanism),
                                                stet_str_from(credentials, size)};
    broker_zap_answer answer = broker_zap_decide(l->keys, frames, count);
    assert_true((strcmp(answer.status, "200") == 0) == (answer.key != NULL));
    return answer.status;
}

static void only_a_known_key_at_its_door_is_let_in(void **state) {
    const list *l = *state;
    static const uint8_t nobody[STET_KEY_BYTES];
    assert_string_equal(zap(l, "1.0", "back", "CURVE", l->actor, 32, 7), "200");
    assert_string_equal(zap(l, "1.0", "front", "CURVE", l->actor, 32, 7), "200");
    assert_string_equal(zap(l, "1.0", "front", "CURVE", l->limited, 32, 7), "200");
    assert_string_equal(zap(l, "1.0", "events", "CURVE", l->limited, 32, 7), "400");
    assert_string_equal(zap(l, "1.0", "back", "CURVE", l->limited, 32, 7), "400");
    assert_string_equal(zap(l, "1.0", "front", "CURVE", nobody, 32, 7), "400");
    const list none = {.keys = NULL};
    assert_string_equal(zap(&none, "1.0", "front", "CURVE", l->actor, 32, 7), "400");
}

static void nonsense_is_refused(void **state) {
    const list *l = *state;
    static const char *const domains[] = {"", "Front", "front ", "global", "doors"};
    static const char *const mechanisms[] = {"NULL", "PLAIN", "GSSAPI", "curve", ""};
    for (size_t i = 0; i < COUNT_OF(domains); i++)
        assert_string_equal(zap(l, "1.0", domains[i], "CURVE", l->actor, 32, 7), "400");
    for (size_t i = 0; i < COUNT_OF(mechanisms); i++)
        assert_string_equal(zap(l, "1.0", "front", mechanisms[i], l->actor, 32, 7), "400");
    assert_string_equal(zap(l, "2.0", "front", "CURVE", l->actor, 32, 7), "500");
    assert_string_equal(zap(l, "", "front", "CURVE", l->actor, 32, 7), "500");
    for (uint32_t count = 0; count < 6; count++)
        assert_string_equal(zap(l, "1.0", "front", "CURVE", l->actor, 32, count), "500");
    assert_string_equal(zap(l, "1.0", "front", "CURVE", l->actor, 32, 6), "400");
    assert_string_equal(zap(l, "1.0", "front", "CURVE", l->actor, 32, 8), "400");
    assert_string_equal(zap(l, "1.0", "front", "CURVE", l->actor, 31, 7), "400");
    assert_string_equal(zap(l, "1.0", "front", "CURVE", "", 0, 7), "400");
}

/* ---- the core ---- */

static int setup_core(void **state) {
    fake *f = calloc(1, sizeof *f);
    broker_options options = fake_options();
    fake_start(f, &options);
    fake_ready(f, 1, "drafter", 1, 16);
    fake_forget(f);
    *state = f;
    return 0;
}

static int teardown_core(void **state) {
    fake_stop(*state);
    free(*state);
    return 0;
}

static void send_as(fake *f, stet_role role, const char *command) {
    stet_envelope envelope = {.kind = STET_KIND_REQUEST, .id = fake_id(f), .command = stet_str_of(command)};
    broker_peer client = fake_peer(7);
    broker_core_front(f->core, &client, role, fake_envelope(f, &envelope), fake_frame(f, "\x80", 1),
                      f->now_ms);
}

static void a_command_above_ones_role_does_not_reach_the_actor(void **state) {
    fake *f = *state;
    static const struct {
        stet_role role;
        const char *command;
        bool passes;
    } cases[] = {{STET_ROLE_VIEWER, "drafter.list", true},     {STET_ROLE_VIEWER, "drafter.submit", false},
                 {STET_ROLE_PRODUCER, "drafter.submit", true}, {STET_ROLE_PRODUCER, "drafter.drain", false},
                 {STET_ROLE_ACTOR, "drafter.submit", true},    {STET_ROLE_ACTOR, "drafter.drain", false},
                 {STET_ROLE_CONTROL, "drafter.drain", true},   {STET_ROLE_VIEWER, "drafter.unheard-of", true},
                 {STET_ROLE_PRODUCER, "alerts.raise", false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        send_as(f, cases[i].role, cases[i].command);
        if (cases[i].passes)
            (void)fake_take_back(f, 1, STET_KIND_REQUEST);
        else
            (void)fake_take_error(f, 7, STET_FORBIDDEN);
        assert_int_equal(fake_waiting(f), 0);
    }
    send_as(f, STET_ROLE_NONE, "drafter.list");
    (void)fake_take_error(f, 7, STET_UNAUTHORIZED);
}

static void what_the_edge_refuses_is_answered_and_counted(void **state) {
    fake *f = *state;
    stet_error e;
    (void)stet_error_set(&e, STET_FORBIDDEN, "no");
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = fake_id(f), .command = STET_STR("drafter.list")};
    broker_peer client = fake_peer(7);
    broker_core_refuse(f->core, &client, fake_envelope(f, &envelope), fake_frame(f, "\x80", 1), &e,
                       f->now_ms);
    const fake_sent *sent = fake_take_error(f, 7, STET_FORBIDDEN);
    assert_true(stet_id_equal(sent->decoded.id, envelope.id));
    broker_core_refuse(f->core, &client, fake_frame(f, "junk", 4), fake_frame(f, "\x80", 1), &e, f->now_ms);
    assert_int_equal(fake_waiting(f), 0);
    broker_core_unauthorized(f->core);
    broker_core_handshakes(f->core, 3, 4);
    assert_int_equal(fake_counter(f, "refused"), 1);
    assert_int_equal(fake_counter(f, "malformedFront"), 1);
    assert_int_equal(fake_counter(f, "unauthorized"), 1);
    assert_int_equal(fake_counter(f, "handshakesRefused"), 3);
    assert_int_equal(fake_counter(f, "handshakesFailed"), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limited_viewer_reads_its_sessions_and_nothing_else),
        cmocka_unit_test(a_body_that_can_be_read_two_ways_is_refused),
        cmocka_unit_test(doors_are_for_those_who_may_pass),
        cmocka_unit_test_setup_teardown(only_a_known_key_at_its_door_is_let_in, setup_list, teardown_list),
        cmocka_unit_test_setup_teardown(nonsense_is_refused, setup_list, teardown_list),
        cmocka_unit_test_setup_teardown(a_command_above_ones_role_does_not_reach_the_actor, setup_core,
                                        teardown_core),
        cmocka_unit_test_setup_teardown(what_the_edge_refuses_is_answered_and_counted, setup_core,
                                        teardown_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
