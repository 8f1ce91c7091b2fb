#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/base/prng.h"
#include "proto/client/core.h"
#include "proto/wire/mp.h"

/* A wire that records what was sent, and what the requester was told. */
typedef struct wire {
    client_core *core;
    bool blocked;
    uint32_t sent;
    stet_id last_id;
    uint32_t last_timeout_ms;
    uint32_t done, answered, refused;
    stet_code code;
    stet_id_source ids;
} wire;

static bool wire_send(void *context, stet_str frame, stet_str body) {
    wire *w = context;
    (void)body;
    if (w->blocked)
        return false;
    stet_envelope envelope;
    assert_int_equal(stet_envelope_decode(frame, &envelope, NULL), STET_OK);
    assert_int_equal(envelope.kind, STET_KIND_REQUEST);
    w->sent++;
    w->last_id = envelope.id;
    w->last_timeout_ms = envelope.timeout_ms;
    return true;
}

static void wire_done(void *context, stet_id id, const client_result *result) {
    (void)id;
    wire *w = context;
    w->done++;
    w->answered += result->answered;
    w->refused += result->refused;
    w->code = result->error.code;
}

static void wire_open(wire *w) {
    *w = (wire){.ids = stet_id_source_of(7)};
    w->core = client_core_new(&(client_edge){.context = w, .send = wire_send}, 1);
    assert_non_null(w->core);
}

static stet_id ask(wire *w, int64_t now, uint32_t timeout_ms) {
    stet_id id = stet_id_next(&w->ids, 1000);
    client_request request = {.id = id,
                              .command = STET_STR("drafter.submit"),
                              .body = STET_STR("\x80"),
                              .timeout_ms = timeout_ms,
                              .done = wire_done,
                              .context = w};
    stet_error e;
    assert_int_equal(client_core_send(w->core, &request, now, &e), STET_OK);
    return id;
}

static uint32_t answer(wire *w, stet_id id, stet_code code, uint32_t retry_after_ms, int64_t now) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024);
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(1024);
    stet_envelope envelope = {.kind = code == STET_OK ? STET_KIND_REPLY : STET_KIND_ERROR, .id = id};
    stet_envelope_encode(&envelope, &frame);
    if (code == STET_OK)
        stet_mp_map(&body, 0);
    else
        stet_error_encode(&(stet_error){.code = code, .message = "no", .retry_after_ms = retry_after_ms},
                          &body);
    return client_core_receive(w->core, stet_buf_str(&frame), stet_buf_str(&body), now);
}

static void a_reply_ends_the_request_and_a_second_copy_is_dropped(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    stet_id id = ask(&w, 0, 1000);
    assert_int_equal(w.sent, 1);
    assert_int_equal(answer(&w, id, STET_OK, 0, 5), 1);
    assert_int_equal(answer(&w, id, STET_OK, 0, 6), 0);
    assert_int_equal(w.done, 1);
    assert_int_equal(client_core_pending(w.core), 0);
    w.core = client_core_free(w.core);
}

static void busy_is_waited_out_and_resent_with_the_same_id(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    stet_id id = ask(&w, 0, 10000);
    assert_int_equal(answer(&w, id, STET_BUSY, 300, 10), 0);
    client_core_tick(w.core, 309);
    assert_int_equal(w.sent, 1);
    client_core_tick(w.core, 400);
    assert_int_equal(w.sent, 2);
    assert_true(stet_id_equal(w.last_id, id));
    assert_true(w.last_timeout_ms <= 9600);
    w.core = client_core_free(w.core);
}

static void the_longest_wait_is_not_taken_for_a_short_one(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    stet_id id = ask(&w, 0, 60000);
    for (int i = 0; i < 8; i++) /* whatever is added by chance */
        assert_int_equal(answer(&w, id, STET_BUSY, UINT32_MAX - (uint32_t)i, 10), 0);
    client_core_tick(w.core, 59999);
    assert_int_equal(w.sent, 1);
    w.core = client_core_free(w.core);
}

static void a_refusal_for_good_is_handed_out_at_once(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    stet_id id = ask(&w, 0, 10000);
    assert_int_equal(answer(&w, id, STET_CONFLICT, 0, 10), 1);
    assert_int_equal(w.refused, 1);
    assert_int_equal(w.code, STET_CONFLICT);
    (void)client_core_free(w.core);
}

static void the_deadline_ends_it_without_an_answer_and_names_the_last_refusal(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    stet_id id = ask(&w, 0, 1000);
    assert_int_equal(answer(&w, id, STET_UNAVAILABLE, 900, 950), 0);
    assert_int_equal(client_core_tick(w.core, 1000), 1);
    assert_int_equal(w.done, 1);
    assert_int_equal(w.answered, 0);
    assert_int_equal(w.code, STET_UNAVAILABLE);
    w.core = client_core_free(w.core);
}

static void a_new_connection_resends_everything_that_waits(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    for (int i = 0; i < 100; i++)
        ask(&w, i, 60000 - (uint32_t)(i * 37 % 100));
    client_core_reconnected(w.core, 200);
    client_core_tick(w.core, 200);
    assert_int_equal(w.sent, 200);
    w.core = client_core_free(w.core);
    assert_int_equal(w.done, 100);
}

static void a_blocked_socket_is_tried_again(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    w.blocked = true;
    ask(&w, 0, 1000);
    assert_int_equal(w.sent, 0);
    w.blocked = false;
    client_core_tick(w.core, client_core_next_wake(w.core));
    assert_int_equal(w.sent, 1);
    w.core = client_core_free(w.core);
}

static void the_same_id_cannot_wait_twice(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    client_request request = {
        .id = ask(&w, 0, 1000), .command = STET_STR("drafter.submit"), .timeout_ms = 10};
    stet_error e;
    assert_int_equal(client_core_send(w.core, &request, 0, &e), STET_CONFLICT);
    (void)client_core_free(w.core);
}

static void a_command_or_key_that_no_envelope_carries_is_refused(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    static const char *const commands[] = {"", "a b.c", "drafter.\xc3\xa4", "drafter/queue"};
    client_request request = {.timeout_ms = 10};
    stet_error e;
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        request.command = stet_str_of(commands[i]);
        assert_int_equal(client_core_send(w.core, &request, 0, &e), STET_INVALID);
    }
    request.command = STET_STR("drafter.queue");
    request.key = STET_STR("\xff");
    assert_int_equal(client_core_send(w.core, &request, 0, &e), STET_INVALID);
    assert_int_equal(client_core_pending(w.core), 0);
    (void)client_core_free(w.core);
}

/* Goal: each request is finished exactly once, whatever the order of answers, refusals, losses and
 * reconnects. */
static void random_traffic_finishes_each_request_once(void **state) {
    (void)state;
    wire w;
    wire_open(&w);
    stet_prng prng = stet_prng_of(42);
    stet_id ids[2000];
    uint32_t asked = 0;
    for (int64_t now = 0; now < 60000; now += 7) {
        if (asked < COUNT_OF(ids))
            ids[asked++] = ask(&w, now, (uint32_t)(1 + stet_prng_below(&prng, 4000)));
        static const stet_code codes[] = {STET_OK, STET_BUSY, STET_UNAVAILABLE, STET_TIMEOUT, STET_INVALID};
        answer(&w, ids[stet_prng_below(&prng, asked)], codes[stet_prng_below(&prng, COUNT_OF(codes))],
               (uint32_t)stet_prng_below(&prng, 200), now);
        if (stet_prng_below(&prng, 500) == 0)
            client_core_reconnected(w.core, now);
        client_core_tick(w.core, now);
        assert_true(client_core_next_wake(w.core) > now);
    }
    assert_int_equal(w.done, asked);
    assert_int_equal(client_core_pending(w.core), 0);
    w.core = client_core_free(w.core);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_ends_the_request_and_a_second_copy_is_dropped),
        cmocka_unit_test(busy_is_waited_out_and_resent_with_the_same_id),
        cmocka_unit_test(the_longest_wait_is_not_taken_for_a_short_one),
        cmocka_unit_test(a_refusal_for_good_is_handed_out_at_once),
        cmocka_unit_test(the_deadline_ends_it_without_an_answer_and_names_the_last_refusal),
        cmocka_unit_test(a_new_connection_resends_everything_that_waits),
        cmocka_unit_test(a_blocked_socket_is_tried_again),
        cmocka_unit_test(the_same_id_cannot_wait_twice),
        cmocka_unit_test(a_command_or_key_that_no_envelope_carries_is_refused),
        cmocka_unit_test(random_traffic_finishes_each_request_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
