/* Requests through the broker's core: routing, credit, queues, deadlines, refusals. */
#include "tests/unit/broker_fixture.h"

/* ---- routing ---- */
static void a_request_and_its_answer_travel_uncopied(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    stet_envelope envelope = {.kind = STET_KIND_REQUEST,
                              .id = fake_id(f),
                              .command = STET_STR("drafter.submit"),
                              .key = STET_STR("p1"),
                              .timeout_ms = 700};
    broker_frame envelope_frame = fake_envelope(f, &envelope), body = fake_frame(f, "\x81\xa1x\x05", 4);
    broker_peer client = fake_peer(1);
    broker_core_front(f->core, &client, STET_ROLE_PRODUCER, envelope_frame, body, f->now_ms);

    const fake_sent *dispatched = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    assert_ptr_equal(dispatched->envelope.handle, envelope_frame.handle);
    assert_ptr_equal(dispatched->body.handle, body.handle);
    stet_route route;
    assert_int_equal(
        stet_route_decode(stet_str_from(dispatched->route.data, dispatched->route.size), &route, NULL),
        STET_OK);
    assert_true(stet_str_is(route.role, "producer"));
    assert_int_equal(route.slot, stet_slot_of(STET_STR("p1")));
    assert_int_equal(route.remaining_ms, 700);

    fake_answer(f, ACTOR, STET_KIND_REPLY, dispatched);
    const fake_sent *reply = fake_take_front(f, 1, STET_KIND_REPLY);
    assert_true(stet_id_equal(reply->decoded.id, envelope.id));
    assert_int_equal(reply->body.size, 4);
    assert_int_equal(fake_counter(f, "replies"), 1); /* this answer is counted after it was made */
}

static void an_actors_error_is_passed_on(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    (void)fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *dispatched = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    fake_answer(f, ACTOR, STET_KIND_ERROR, dispatched);
    (void)fake_take_front(f, 1, STET_KIND_ERROR);
}

static void an_unknown_service_is_not_found(void **state) {
    fake *f = *state;
    (void)fake_request(f, 1, "nobody.knows", 0);
    (void)fake_take_error(f, 1, STET_NOT_FOUND);
}

static void a_service_that_is_not_running_is_unavailable_at_once(void **state) {
    fake *f = *state;
    (void)fake_request(f, 1, "drafter.submit", 0);
    assert_int_equal(fake_retry_ms(fake_take_error(f, 1, STET_UNAVAILABLE)), 250);
}

static void a_service_outside_of_the_table_can_register(void **state) {
    fake *f = *state;
    registered(f, "echo", ACTOR, 10);
    (void)fake_request(f, 1, "echo.back", 0);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    /* Once seen it is known: away is not the same as never heard of. */
    stet_envelope leave = {.kind = STET_KIND_LEAVE, .service = STET_STR("echo")};
    fake_back(f, ACTOR, &leave, (stet_str){0}, (stet_str){0});
    (void)fake_request(f, 1, "echo.back", 0);
    (void)fake_take_error(f, 1, STET_UNAVAILABLE);
}

/* ---- credit and queue ---- */
static void credit_bounds_what_an_actor_holds(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 2);
    stet_id ids[5];
    for (uint32_t i = 0; i < 5; i++)
        ids[i] = fake_request(f, 1 + i % 3, "drafter.submit", 0);
    const fake_sent *first = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    assert_int_equal(fake_waiting(f), 0);
    for (uint32_t i = 2; i < 5; i++) {
        fake_answer(f, ACTOR, STET_KIND_REPLY, first);
        (void)fake_take(f);
        first = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
        assert_true(stet_id_equal(first->decoded.id, ids[i])); /* in the order they came */
    }
}

static void what_comes_later_does_not_overtake_the_queue(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *working = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_id queued = fake_request(f, 1, "drafter.submit", 0);
    stet_id later = fake_request(f, 2, "drafter.submit", 0);
    fake_answer(f, ACTOR, STET_KIND_REPLY, working);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    const fake_sent *next = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    assert_true(stet_id_equal(next->decoded.id, queued));
    fake_answer(f, ACTOR, STET_KIND_REPLY, next);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    assert_true(stet_id_equal(fake_take_back(f, ACTOR, STET_KIND_REQUEST)->decoded.id, later));
}

static void a_full_queue_answers_busy_with_a_hint(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    for (uint32_t i = 0; i < 1 + 8; i++)
        (void)fake_request(f, 1 + i % 3, "drafter.submit", 0);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    assert_int_equal(fake_waiting(f), 0);
    (void)fake_request(f, 7, "drafter.submit", 0);
    uint32_t retry_ms = fake_retry_ms(fake_take_error(f, 7, STET_BUSY));
    assert_in_range(retry_ms, 50, 1000);
}

static void a_queue_full_by_bytes_answers_busy(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    static char body[400 << 10] = "\x80";
    for (uint32_t i = 0; i < 4; i++) {
        stet_envelope envelope = {
            .kind = STET_KIND_REQUEST, .id = fake_id(f), .command = STET_STR("drafter.submit")};
        fake_front(f, 1 + i, &envelope, stet_str_from(body, sizeof body));
    }
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    (void)fake_take_error(f, 4, STET_BUSY);
    assert_int_equal(fake_waiting(f), 0);
}

static void one_client_gets_at_most_half_of_a_queue(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    for (uint32_t i = 0; i < 1 + 4; i++)
        (void)fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *working = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    (void)fake_request(f, 1, "drafter.submit", 0);
    (void)fake_take_error(f, 1, STET_BUSY);
    (void)fake_request(f, 2, "drafter.submit", 0); /* others still have room */
    assert_int_equal(fake_waiting(f), 0);
    fake_answer(f, ACTOR, STET_KIND_REPLY, working); /* one of client 1 leaves the queue */
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    (void)fake_request(f, 1, "drafter.submit", 0);
    assert_int_equal(fake_waiting(f), 0);
}

/* ---- deadlines ---- */
static void a_queued_request_times_out_and_is_never_dispatched(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 60000);
    const fake_sent *working = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_id queued = fake_request(f, 1, "drafter.submit", 300);
    fake_advance(f, 299);
    assert_int_equal(fake_waiting(f), 0);
    fake_advance(f, 5);
    assert_true(stet_id_equal(fake_take_error(f, 1, STET_TIMEOUT)->decoded.id, queued));
    fake_answer(f, ACTOR, STET_KIND_REPLY, working);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    assert_int_equal(fake_waiting(f), 0);
}

static void an_expired_head_is_not_dispatched_before_the_tick(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 60000);
    const fake_sent *working = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    (void)fake_request(f, 1, "drafter.submit", 300);
    f->now_ms += 300; /* the answer arrives in the same round as the deadline, before the tick */
    fake_answer(f, ACTOR, STET_KIND_REPLY, working);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    (void)fake_take_error(f, 1, STET_TIMEOUT);
    fake_advance(f, 100);
    assert_int_equal(fake_waiting(f), 0);
}

static void a_dispatched_request_times_out_once_and_keeps_its_credit(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 100);
    const fake_sent *working = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    (void)fake_request(f, 2, "drafter.submit", 60000);
    fake_advance(f, 200);
    (void)fake_take_error(f, 1, STET_TIMEOUT);
    assert_int_equal(fake_waiting(f), 0); /* the actor still works on the first: its credit is used */
    fake_answer(f, ACTOR, STET_KIND_REPLY, working);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST); /* no second answer to client 1 */
    assert_int_equal(fake_waiting(f), 0);
    assert_int_equal(fake_counter(f, "lateAnswers"), 1);
}

static void the_credit_of_a_message_that_got_lost_comes_back(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 100);
    const fake_sent *lost = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_id waits = fake_request(f, 2, "drafter.submit", 60000);
    bool timed_out = false, dispatched = false;
    const fake_sent *next = NULL;
    for (int i = 0; i < 320 && !dispatched; i++) {
        fake_advance(f, 100);
        fake_heartbeat(f, ACTOR); /* the actor lives, it has only never seen the first message */
        while (!dispatched && fake_waiting(f) > 0) {
            next = fake_take(f);
            timed_out |= next->decoded.kind == STET_KIND_ERROR && next->front;
            dispatched = next->decoded.kind == STET_KIND_REQUEST;
        }
    }
    assert_true(timed_out);
    assert_true(dispatched);
    assert_true(stet_id_equal(next->decoded.id, waits));
    assert_int_equal(fake_counter(f, "lostMessages"), 1);
    fake_answer(f, ACTOR, STET_KIND_REPLY, lost); /* found after all: too late, and harmless */
    fake_answer(f, ACTOR, STET_KIND_REPLY, next);
    fake_forget(f);
}

static void a_request_without_a_timeout_gets_the_default(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    for (int i = 0; i < 9; i++) {
        fake_advance(f, 100);
        fake_heartbeat(f, ACTOR);
    }
    fake_forget(f);
    fake_advance(f, 104);
    (void)fake_take_error(f, 1, STET_TIMEOUT);
}

static void deadlines_beyond_a_turn_of_the_wheel_are_kept(void **state) {
    fake *f = *state;
    fake_stop(f);
    broker_options options = fake_options();
    options.heartbeat_ms = 1000000;
    options.queue_max = 1000;
    fake_start(f, &options);
    registered(f, "drafter", ACTOR, 1000);
    static const uint32_t timeouts_ms[] = {1, 3, 4, 5, 16383, 16384, 16385, 50000, 100001, 3600000};
    for (size_t i = 0; i < COUNT_OF(timeouts_ms); i++)
        (void)fake_request(f, 1, "drafter.submit", timeouts_ms[i]);
    fake_forget(f);
    int64_t elapsed_ms = 0;
    for (size_t i = 0; i < COUNT_OF(timeouts_ms); i++) {
        fake_advance(f, timeouts_ms[i] - 1 - elapsed_ms > 0 ? timeouts_ms[i] - 1 - elapsed_ms : 0);
        elapsed_ms = elapsed_ms > timeouts_ms[i] - 1 ? elapsed_ms : timeouts_ms[i] - 1;
        assert_true(fake_waiting(f) == 0 || i < 4); /* the first ones lie in one another's tolerance */
        fake_advance(f, 8);
        elapsed_ms += 8;
        while (fake_waiting(f) > 0)
            (void)fake_take_error(f, 1, STET_TIMEOUT);
    }
    assert_int_equal(fake_counter(f, "timeouts"), COUNT_OF(timeouts_ms));
}

/* ---- tickets ---- */
static void only_the_actor_that_got_a_ticket_may_answer_it(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    registered(f, "echo", OTHER_ACTOR, 10);
    (void)fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *dispatched = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    fake_answer(f, OTHER_ACTOR, STET_KIND_REPLY, dispatched);
    assert_int_equal(fake_waiting(f), 0);
    assert_int_equal(fake_counter(f, "forgedTickets"), 1);
    fake_answer(f, ACTOR, STET_KIND_REPLY, dispatched);
    (void)fake_take_front(f, 1, STET_KIND_REPLY);
    fake_answer(f, ACTOR, STET_KIND_REPLY, dispatched); /* a second answer */
    assert_int_equal(fake_waiting(f), 0);
    assert_int_equal(fake_counter(f, "forgedTickets"), 2);
}

static void invented_tickets_are_refused(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    stet_id id = fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *dispatched = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_route route;
    assert_int_equal(
        stet_route_decode(stet_str_from(dispatched->route.data, dispatched->route.size), &route, NULL),
        STET_OK);
    stet_envelope reply = {.kind = STET_KIND_REPLY, .id = id};
    const uint64_t wrong[] = {
        0, 1, route.ticket + 1, route.ticket + (1ull << 32), route.ticket ^ (1ull << 63), UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        stet_route forged = route;
        forged.ticket = wrong[i];
        stet_buf b = STET_BUF(256);
        stet_route_encode(&forged, &b);
        fake_back(f, ACTOR, &reply, stet_buf_str(&b), STET_STR("\x80"));
        stet_buf_done(&b);
    }
    stet_envelope other = {.kind = STET_KIND_REPLY, .id = fake_id(f)}; /* right ticket, another id */
    stet_str right = stet_str_from(dispatched->route.data, dispatched->route.size);
    fake_back(f, ACTOR, &other, right, STET_STR("\x80"));
    stet_envelope ack = {.kind = STET_KIND_ACK,
                         .id = id,
                         .command = STET_STR("drafter.submit"),
                         .service = STET_STR("drafter"),
                         .epoch = 1};
    fake_back(f, ACTOR, &ack, right, (stet_str){0}); /* a request is not acked */
    fake_back(f, ACTOR, &reply, STET_STR("\xc1"), STET_STR("\x80"));
    assert_int_equal(fake_waiting(f), 0);
    assert_int_equal(fake_counter(f, "forgedTickets"), COUNT_OF(wrong) + 2);
    assert_int_equal(fake_counter(f, "malformedBack"), 1);
}

/* ---- what is refused ---- */
static void junk_is_counted_and_not_answered(void **state) {
    fake *f = *state;
    broker_peer client = fake_peer(1), actor = fake_peer(ACTOR);
    static const char *const junk[] = {
        "", "\xc1", "\x80", "hello", "\x91\x91\x91\x91\x91\x91\x91", "\xdf\xff\xff\xff\xff"};
    for (size_t i = 0; i < COUNT_OF(junk); i++) {
        broker_core_front(f->core, &client, STET_ROLE_CONTROL, fake_frame(f, junk[i], strlen(junk[i])),
                          fake_frame(f, junk[i], strlen(junk[i])), f->now_ms);
        broker_core_back(f->core, &actor, fake_frame(f, junk[i], strlen(junk[i])), fake_frame(f, "", 0),
                         fake_frame(f, "", 0), f->now_ms);
    }
    broker_core_malformed(f->core, true);
    assert_int_equal(fake_waiting(f), 0);
    assert_int_equal(fake_counter(f, "malformedFront"), COUNT_OF(junk) + 1);
    assert_int_equal(fake_counter(f, "malformedBack"), COUNT_OF(junk));
}

static void another_version_is_refused_with_an_answer(void **state) {
    fake *f = *state;
    stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_id id = fake_id(f);
    stet_mp_map(&b, 4);
    stet_mp_put_uint(&b, "v", 2);
    stet_mp_put_cstr(&b, "kind", "request");
    stet_mp_cstr(&b, "id");
    stet_mp_bin(&b, id.bytes, sizeof id.bytes);
    stet_mp_put_cstr(&b, "command", "drafter.submit");
    broker_peer client = fake_peer(1);
    broker_core_front(f->core, &client, STET_ROLE_CONTROL, fake_frame(f, b.data, b.size),
                      fake_frame(f, "\x80", 1), f->now_ms);
    assert_true(stet_id_equal(fake_take_error(f, 1, STET_INVALID)->decoded.id, id));
    stet_buf_done(&b);
}

static void clients_may_only_send_requests(void **state) {
    fake *f = *state;
    for (int kind = STET_KIND_NONE + 1; kind < STET_KINDS_COUNT; kind++) {
        if (kind == STET_KIND_REQUEST)
            continue;
        stet_envelope envelope = {.kind = (stet_kind)kind,
                                  .id = fake_id(f),
                                  .command = STET_STR("drafter.submit"),
                                  .service = STET_STR("drafter"),
                                  .epoch = 1,
                                  .instance = fake_id(f),
                                  .sequence = 1,
                                  .credit = 1,
                                  .interval_ms = 1};
        fake_front(f, 1, &envelope, STET_STR("\x80"));
        (void)fake_take_error(f, 1, STET_INVALID);
    }
}

static void a_command_without_a_service_is_invalid(void **state) {
    fake *f = *state;
    (void)fake_request(f, 1, "submit", 0);
    (void)fake_take_error(f, 1, STET_INVALID);
}

static void a_client_without_a_role_is_unauthorized(void **state) {
    fake *f = *state;
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = fake_id(f), .command = STET_STR("broker.version")};
    broker_peer client = fake_peer(1);
    broker_core_front(f->core, &client, STET_ROLE_NONE, fake_envelope(f, &envelope), fake_frame(f, "\x80", 1),
                      f->now_ms);
    (void)fake_take_error(f, 1, STET_UNAUTHORIZED);
}

static void too_large_a_body_is_refused_and_the_limit_passes(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 10);
    char *body = calloc(1, STET_BODY_BYTES_MAX + 1);
    assert_non_null(body);
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = fake_id(f), .command = STET_STR("drafter.submit")};
    fake_front(f, 1, &envelope, stet_str_from(body, STET_BODY_BYTES_MAX + 1));
    (void)fake_take_error(f, 1, STET_TOO_LARGE);
    envelope.id = fake_id(f);
    fake_front(f, 1, &envelope, stet_str_from(body, STET_BODY_BYTES_MAX));
    const fake_sent *dispatched = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    stet_envelope reply = {.kind = STET_KIND_REPLY, .id = envelope.id};
    fake_back(f, ACTOR, &reply, stet_str_from(dispatched->route.data, dispatched->route.size),
              stet_str_from(body, STET_BODY_BYTES_MAX + 1));
    (void)fake_take_error(f, 1, STET_TOO_LARGE);
    free(body);
}

static void a_client_that_is_gone_costs_nothing_but_a_count(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    const fake_sent *dispatched = fake_take_back(f, ACTOR, STET_KIND_REQUEST);
    f->deaf = true;
    fake_answer(f, ACTOR, STET_KIND_REPLY, dispatched);
    f->deaf = false;
    assert_int_equal(fake_counter(f, "undeliverable"), 1);
    (void)fake_request(f, 1, "drafter.submit", 0);
    (void)fake_take_back(f, ACTOR, STET_KIND_REQUEST); /* the credit is back */
}

static void without_memory_for_frames_nothing_leaks_or_breaks(void **state) {
    fake *f = *state;
    registered(f, "drafter", ACTOR, 2);
    for (int64_t left = 0; left < 6; left++) {
        f->frames_left = left;
        (void)fake_request(f, 1, "drafter.submit", 0);
        (void)fake_request(f, 1, "nobody.knows", 0);
        (void)fake_request(f, 1, "broker.version", 0);
        fake_heartbeat(f, ACTOR);
    }
    f->frames_left = -1;
    assert_true(fake_counter(f, "noMemory") > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_request_and_its_answer_travel_uncopied),
        TEST(an_actors_error_is_passed_on),
        TEST(an_unknown_service_is_not_found),
        TEST(a_service_that_is_not_running_is_unavailable_at_once),
        TEST(a_service_outside_of_the_table_can_register),
        TEST(credit_bounds_what_an_actor_holds),
        TEST(what_comes_later_does_not_overtake_the_queue),
        TEST(a_full_queue_answers_busy_with_a_hint),
        TEST(a_queue_full_by_bytes_answers_busy),
        TEST(one_client_gets_at_most_half_of_a_queue),
        TEST(a_queued_request_times_out_and_is_never_dispatched),
        TEST(an_expired_head_is_not_dispatched_before_the_tick),
        TEST(a_dispatched_request_times_out_once_and_keeps_its_credit),
        TEST(the_credit_of_a_message_that_got_lost_comes_back),
        TEST(a_request_without_a_timeout_gets_the_default),
        TEST(deadlines_beyond_a_turn_of_the_wheel_are_kept),
        TEST(only_the_actor_that_got_a_ticket_may_answer_it),
        TEST(invented_tickets_are_refused),
        TEST(junk_is_counted_and_not_answered),
        TEST(another_version_is_refused_with_an_answer),
        TEST(clients_may_only_send_requests),
        TEST(a_command_without_a_service_is_invalid),
        TEST(a_client_without_a_role_is_unauthorized),
        TEST(too_large_a_body_is_refused_and_the_limit_passes),
        TEST(a_client_that_is_gone_costs_nothing_but_a_count),
        TEST(without_memory_for_frames_nothing_leaks_or_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
