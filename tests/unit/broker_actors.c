/* The life of actors at the broker's core: registration, epochs, heartbeats, leaving, outbox messages. */
#include "tests/unit/broker_fixture.h"

static stet_str service_row(fake *f) {
    stet_str services = stet_mp_get_raw(fake_ask(f, "broker.services", STET_STR("\x80")), "services");
    stet_mp_reader r = stet_mp_reader_of(services);
    assert_int_equal(stet_mp_read_array(&r), 1);
    return stet_mp_read_raw(&r);
}

static void welcome_tells_interval_and_instance(void **state) {
    fake *f = *state;
    fake_ready(f, ACTOR, "drafter", 3, 10);
    const fake_sent *welcome = fake_take_back(f, ACTOR, STET_KIND_WELCOME);
    assert_true(stet_str_is(welcome->decoded.service, "drafter"));
    assert_int_equal(welcome->decoded.epoch, 3);
    assert_int_equal(welcome->decoded.interval_ms, 250);
    assert_int_equal(welcome->decoded.instance.bytes[0], 1);
}

static void heartbeats_keep_an_actor_registered(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    for (int i = 0; i < 20; i++) {
        fake_advance(f, 250);
        fake_heartbeat(f, ACTOR);
        (void)fake_take_back(f, ACTOR, STET_KIND_HEARTBEAT);
    }
    assert_true(stet_str_is(stet_mp_get_str(service_row(f), "state", (stet_str){0}), "ready"));
    assert_int_equal(fake_waiting(f), 0);
}

static void four_missed_heartbeats_mean_away(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 60000);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_id queued = fake_request(f, 2, "drafter.submit", 60000);
    fake_advance(f, 999);
    assert_int_equal(fake_waiting(f), 0);
    fake_advance(f, 1);
    (void)fake_take_error(f, 1, STET_UNAVAILABLE);
    assert_int_equal(fake_waiting(f), 0); /* what is queued waits */
    assert_true(stet_str_is(stet_mp_get_str(service_row(f), "state", (stet_str){0}), "away"));
    (void)fake_request(f, 3, "drafter.submit", 0);
    (void)fake_take_error(f, 3, STET_UNAVAILABLE); /* what is new does not */
    fake_heartbeat(f, ACTOR);
    (void)fake_take_back(f, ACTOR, STET_KIND_REGISTER);
    fake_ready(f, ACTOR, "drafter", 1, 1);
    (void)fake_take_back(f, ACTOR, STET_KIND_WELCOME);
    assert_true(stet_id_equal(fake_take_back(f, ACTOR, STET_KIND_REQUEST)->decoded.id, queued));
}

static void anything_from_an_unknown_peer_is_answered_register(void **state) {
    fake *f = *state;
    fake_heartbeat(f, ACTOR);
    const fake_sent *answer = fake_take_back(f, ACTOR, STET_KIND_REGISTER);
    assert_int_equal(answer->body.size, 0);
    stet_envelope reply = {.kind = STET_KIND_REPLY, .id = fake_id(f)};
    fake_back(f, ACTOR, &reply, STET_STR("\x80"), STET_STR("\x80"));
    (void)fake_take_back(f, ACTOR, STET_KIND_REGISTER);
}

static void ready_again_by_the_same_actor_keeps_its_work(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *working = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    (void)fake_request(f, 2, "drafter.submit", 0);
    fake_ready(f, ACTOR, "drafter", 1, 2); /* now with more credit */
    (void)fake_take_back(f, ACTOR, STET_KIND_WELCOME);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    fake_answer(f, ACTOR, STET_KIND_REPLY, working);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
}

static void an_actor_that_comes_back_replaces_its_old_connection(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *working = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_id queued = fake_request(f, 2, "drafter.submit", 0);
    fake_ready(f, SUCCESSOR, "drafter", 1, 1);
    (void)fake_take_error(f, 1, STET_UNAVAILABLE);
    (void)fake_take_back(f, SUCCESSOR, STET_KIND_WELCOME);
    assert_true(stet_id_equal(fake_take_back(f, SUCCESSOR, STET_KIND_REQUEST)->decoded.id, queued));
    fake_answer(f, ACTOR, STET_KIND_REPLY, working); /* the old one is a stranger now */
    (void)fake_take_back(f, ACTOR, STET_KIND_REGISTER);
    assert_int_equal(fake_waiting(f), 0);
    assert_int_equal(fake_counter(f, "replaced"), 1);
}

static void the_higher_epoch_wins_and_the_lower_is_refused(void **state) {
    fake *f = *state;
    fake_ready(f, ACTOR, "drafter", 5, 1);
    (void)fake_take_back(f, ACTOR, STET_KIND_WELCOME);
    fake_ready(f, SUCCESSOR, "drafter", 4, 1);
    const fake_sent *refusal = fake_take_back(f, SUCCESSOR, STET_KIND_ERROR);
    assert_int_equal(fake_code(refusal), STET_CONFLICT);
    fake_ready(f, SUCCESSOR, "drafter", 6, 1);
    (void)fake_take_back(f, SUCCESSOR, STET_KIND_WELCOME);
    fake_heartbeat(f, ACTOR);
    (void)fake_take_back(f, ACTOR, STET_KIND_REGISTER);
    fake_ready(f, ACTOR, "drafter", 5, 1);
    assert_int_equal(fake_code(fake_take_back(f, ACTOR, STET_KIND_ERROR)), STET_CONFLICT);
    assert_int_equal(fake_counter(f, "fenced"), 2);
}

static void a_lower_epoch_is_refused_also_after_the_higher_is_gone(void **state) {
    fake *f = *state;
    fake_ready(f, ACTOR, "drafter", 5, 1);
    fake_advance(f, 2000);
    fake_forget(f);
    fake_ready(f, SUCCESSOR, "drafter", 4, 1);
    assert_int_equal(fake_code(fake_take_back(f, SUCCESSOR, STET_KIND_ERROR)), STET_CONFLICT);
}

static void a_connection_that_registers_another_service_leaves_the_first(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    registered(f, "echo", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    (void)fake_take_error(f, 1, STET_UNAVAILABLE);
    (void)fake_request(f, 1, "echo.back", 0);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
}

static void nobody_can_register_as_the_broker(void **state) {
    fake *f = *state;
    fake_ready(f, ACTOR, "broker", 1, 1);
    assert_int_equal(fake_code(fake_take_back(f, ACTOR, STET_KIND_ERROR)), STET_INVALID);
}

static void registrations_are_bounded(void **state) {
    fake *f = *state;
    for (uint32_t i = 0; i < 300; i++) {
        char service[16];
        stet_buf name = STET_BUF(sizeof service);
        stet_buf_printf(&name, "s%u", i);
        stet_buf_append_byte(&name, 0);
        fake_ready(f, 1000 + i, (const char *)name.data, 1, 1);
        stet_buf_done(&name);
        const fake_sent *answer = fake_take(f);
        assert_int_equal(answer->decoded.kind, i < 256 ? STET_KIND_WELCOME : STET_KIND_ERROR);
    }
}

static void a_leaving_actor_gets_nothing_new_and_finishes(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 2);
    (void)fake_request(f, 1, "drafter.submit", 60000);
    (void)fake_request(f, 1, "drafter.submit", 60000);
    stet_id queued = fake_request(f, 1, "drafter.submit", 60000);
    const fake_sent *first = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    const fake_sent *second = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_envelope leave = {.kind = STET_KIND_LEAVE, .service = STET_STR("drafter")};
    fake_back(f, ACTOR, &leave, (stet_str){0}, (stet_str){0});
    fake_answer(f, ACTOR, STET_KIND_REPLY, first);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    fake_answer(f, ACTOR, STET_KIND_REPLY, second);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    assert_int_equal(fake_waiting(f), 0);
    fake_heartbeat(f, ACTOR); /* forgotten */
    (void)fake_take_back(f, ACTOR, STET_KIND_REGISTER);
    fake_ready(f, SUCCESSOR, "drafter", 1, 2);
    (void)fake_take_back(f, SUCCESSOR, STET_KIND_WELCOME);
    assert_true(stet_id_equal(fake_take_back(f, SUCCESSOR, STET_KIND_REQUEST)->decoded.id, queued));
}

static void an_unreachable_actor_is_away_at_once(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    (void)fake_request(f, 1, "drafter.submit", 0);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    f->deaf_back = fake_peer(ACTOR);
    (void)fake_request(f, 2, "drafter.submit", 0);
    (void)fake_take_error(f, 1, STET_UNAVAILABLE);
    (void)fake_take_error(f, 2, STET_UNAVAILABLE);
    assert_int_equal(fake_counter(f, "away"), 1);
}

/* ---- outbox messages ---- */
static stet_envelope send_of(fake *f, const char *command, uint64_t sequence) {
    return (stet_envelope){.kind = STET_KIND_SEND,
                           .id = fake_id(f),
                           .command = stet_str_of(command),
                           .service = STET_STR("drafter"),
                           .epoch = 1,
                           .sequence = sequence};
}

static void a_send_reaches_its_receiver_and_the_ack_its_sender(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    registered(f, "echo", RECEIVER, 10);
    stet_envelope send = send_of(f, "echo.note", 7);
    fake_back(f, ACTOR, &send, (stet_str){0}, STET_STR("\x80"));
    const fake_sent *received = fake_take_back(f, RECEIVER, STET_KIND_SEND);
    assert_int_equal(received->decoded.sequence, 7);
    assert_true(stet_str_is(received->decoded.service, "drafter"));
    stet_route route;
    assert_int_equal(
        stet_route_decode(stet_str_from(received->route.data, received->route.size), &route, NULL), STET_OK);
    assert_true(stet_str_is(route.role, "actor"));
    fake_answer(f, RECEIVER, STET_KIND_ACK, received);
    const fake_sent *ack = fake_take_back(f, ACTOR, STET_KIND_ACK);
    assert_int_equal(ack->decoded.sequence, 7);
    assert_int_equal(ack->route.size, 0);
    assert_true(stet_id_equal(ack->decoded.id, send.id));
}

static void a_receivers_error_returns_to_the_sender(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    registered(f, "echo", RECEIVER, 10);
    stet_envelope send = send_of(f, "echo.note", 1);
    fake_back(f, ACTOR, &send, (stet_str){0}, STET_STR("\x80"));
    fake_answer(f, RECEIVER, STET_KIND_ERROR, fake_take_back(f, RECEIVER, STET_KIND_SEND));
    (void)fake_take_back(f, ACTOR, STET_KIND_ERROR);
}

static void a_send_to_nobody_is_unavailable_at_once(void **state) {
    fake *f = *state;
    registered(f, "echo", RECEIVER, 10);
    fake_advance(f, 1000);
    registered(f, "drafter", ACTOR, 10);
    stet_envelope send = send_of(f, "echo.note", 1);
    fake_back(f, ACTOR, &send, (stet_str){0}, STET_STR("\x80"));
    const fake_sent *error = fake_take_back(f, ACTOR, STET_KIND_ERROR);
    assert_int_equal(fake_code(error), STET_UNAVAILABLE);
    assert_true(stet_id_equal(error->decoded.id, send.id));
    assert_true(stet_str_is(error->decoded.command, "echo.note"));
}

static void a_send_in_another_actors_name_is_forbidden(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    registered(f, "echo", RECEIVER, 10);
    stet_envelope send = send_of(f, "echo.note", 1);
    send.epoch = 2;
    fake_back(f, ACTOR, &send, (stet_str){0}, STET_STR("\x80"));
    assert_int_equal(fake_code(fake_take_back(f, ACTOR, STET_KIND_ERROR)), STET_FORBIDDEN);
    send = send_of(f, "drafter.note", 1);
    fake_back(f, RECEIVER, &send, (stet_str){0}, STET_STR("\x80"));
    assert_int_equal(fake_code(fake_take_back(f, RECEIVER, STET_KIND_ERROR)), STET_FORBIDDEN);
}

static void a_send_that_its_receiver_does_not_ack_times_out_with_its_command(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    registered(f, "echo", RECEIVER, 10);
    stet_envelope send = send_of(f, "echo.note", 1);
    send.timeout_ms = 200;
    fake_back(f, ACTOR, &send, (stet_str){0}, STET_STR("\x80"));
    (void)fake_take_back(f, RECEIVER, STET_KIND_SEND);
    fake_advance(f, 210);
    const fake_sent *error = fake_take_back(f, ACTOR, STET_KIND_ERROR);
    assert_int_equal(fake_code(error), STET_TIMEOUT);
    assert_true(stet_str_is(error->decoded.command, "echo.note"));
}

static void the_rows_of_broker_services_show_the_load(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    (void)fake_request(f, 1, "drafter.submit", 0);
    fake_advance(f, 100);
    stet_str row = service_row(f);
    assert_true(stet_str_is(stet_mp_get_str(row, "name", (stet_str){0}), "drafter"));
    assert_true(stet_str_is(stet_mp_get_str(row, "software", (stet_str){0}), "1.2.3"));
    assert_int_equal(stet_mp_get_uint(row, "outstanding", 99), 1);
    assert_int_equal(stet_mp_get_uint(row, "queued", 99), 1);
    assert_int_equal(stet_mp_get_uint(row, "credit", 99), 1);
    assert_int_equal(stet_mp_get_int(row, "seenMsAgo", -1), 100);
    stet_str stats = fake_ask(f, "broker.stats", STET_STR("\x80"));
    assert_int_equal(stet_mp_get_int(stats, "oldestWaitingMs", -1), 100);
}

static void health_is_red_when_a_service_is_away(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    assert_true(stet_str_is(
        stet_mp_get_str(fake_ask(f, "broker.health", STET_STR("\x80")), "status", (stet_str){0}), "green"));
    fake_advance(f, 1000);
    stet_str health = fake_ask(f, "broker.health", STET_STR("\x80"));
    assert_true(stet_str_is(stet_mp_get_str(health, "status", (stet_str){0}), "red"));
    stet_mp_reader r = stet_mp_reader_of(stet_mp_get_raw(health, "reasons"));
    assert_int_equal(stet_mp_read_array(&r), 1);
    assert_true(stet_str_is(stet_mp_read_str(&r), "drafter/0 is away; look at its log"));
}

static void the_brokers_commands_check_their_bodies(void **state) {
    fake *f = *state;
    assert_int_equal(stet_mp_get_uint(fake_ask(f, "broker.version", STET_STR("\x80")), "wire", 0), 1);
    stet_envelope request = {
        .kind = STET_KIND_REQUEST, .id = fake_id(f), .command = STET_STR("broker.version")};
    fake_front(f, 1, &request, STET_STR("\x81\xa1x\x01")); /* an unknown field */
    (void)fake_take_error(f, 1, STET_INVALID);
    request.id = fake_id(f);
    fake_front(f, 1, &request, STET_STR("\xc1"));
    (void)fake_take_error(f, 1, STET_INVALID);
    request.id = fake_id(f);
    request.command = STET_STR("broker.last");
    fake_front(f, 1, &request, STET_STR("\x80")); /* sessionId is missing */
    (void)fake_take_error(f, 1, STET_INVALID);
    request.id = fake_id(f);
    request.command = STET_STR("broker.explode");
    fake_front(f, 1, &request, STET_STR("\x80"));
    (void)fake_take_error(f, 1, STET_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(welcome_tells_interval_and_instance),
        TEST(heartbeats_keep_an_actor_registered),
        TEST(four_missed_heartbeats_mean_away),
        TEST(anything_from_an_unknown_peer_is_answered_register),
        TEST(ready_again_by_the_same_actor_keeps_its_work),
        TEST(an_actor_that_comes_back_replaces_its_old_connection),
        TEST(the_higher_epoch_wins_and_the_lower_is_refused),
        TEST(a_lower_epoch_is_refused_also_after_the_higher_is_gone),
        TEST(a_connection_that_registers_another_service_leaves_the_first),
        TEST(nobody_can_register_as_the_broker),
        TEST(registrations_are_bounded),
        TEST(a_leaving_actor_gets_nothing_new_and_finishes),
        TEST(an_unreachable_actor_is_away_at_once),
        TEST(a_send_reaches_its_receiver_and_the_ack_its_sender),
        TEST(a_receivers_error_returns_to_the_sender),
        TEST(a_send_to_nobody_is_unavailable_at_once),
        TEST(a_send_in_another_actors_name_is_forbidden),
        TEST(a_send_that_its_receiver_does_not_ack_times_out_with_its_command),
        TEST(the_rows_of_broker_services_show_the_load),
        TEST(health_is_red_when_a_service_is_away),
        TEST(the_brokers_commands_check_their_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
