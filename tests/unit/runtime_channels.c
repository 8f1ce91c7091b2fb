/* Messages between actors, seen from both ends, and the registration with the broker. */
#include "tests/unit/runtime_rig.h"

#include "actors/runtime/outbox.h"
#include "proto/base/prng.h"

#include <stdio.h>

static const char SEND[] = "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"send\"}";
static const char PUT[] = "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"\"}";

static void give(rig *r, uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        rig_request(r, first + i, "drafter.document.put", SEND);
    rig_round(r);
}

static void ack(rig *r, uint64_t mark) {
    stet_envelope envelope = {.kind = STET_KIND_ACK,
                              .id = rig_id(1),
                              .command = STET_STR("alerts.raise"),
                              .service = STET_STR("alerts"),
                              .epoch = 1,
                              .sequence = mark};
    rig_message(r, &envelope, NULL);
}

static void refuse(rig *r) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), body = STET_BUF(1024);
    stet_error e = {0};
    (void)stet_error_set(&e, STET_UNAVAILABLE, "not registered");
    stet_envelope_encode(
        &(stet_envelope){.kind = STET_KIND_ERROR, .id = rig_id(1), .command = STET_STR("alerts.raise")},
        &frame);
    stet_error_encode(&e, &body);
    stet_core_message(r->core, stet_buf_str(&frame), (stet_str){0}, stet_buf_str(&body));
}

/* Sequences of the sends since rig_forget are first, first + 1, ... last, in this order. */
static void check_sends(const rig *r, uint64_t first, uint64_t last) {
    uint64_t next = first;
    for (size_t i = 0; i < r->sent_count; i++) {
        stet_envelope envelope = rig_envelope(r, i);
        if (envelope.kind != STET_KIND_SEND)
            continue;
        assert_int_equal(envelope.sequence, next);
        assert_true(stet_str_is(envelope.command, "alerts.raise"));
        assert_true(stet_str_is(envelope.service, "drafter"));
        next++;
    }
    assert_int_equal(next, last + 1);
}

static uint64_t pending(rig *r) {
    rig_request(r, 970000, "drafter.stats", "{}");
    rig_round(r);
    size_t n = rig_answer(r, 970000);
    stet_str outbox = stet_mp_get_raw(rig_body(r, n), "outbox");
    uint64_t count = stet_mp_get_uint(stet_mp_get_raw(outbox, "alerts"), "pending", UINT64_MAX);
    rig_forget(r);
    return count;
}

static void a_message_leaves_after_its_commit_and_is_deleted_by_its_ack(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", SEND);
    rig_seal(r);
    assert_int_equal(r->sent_count, 0);
    rig_complete(r);
    check_sends(r, 1, 1);
    assert_int_equal(pending(r), 1);
    ack(r, 1);
    rig_round(r);
    assert_int_equal(pending(r), 0);
    rig_later(r, 60000);
    rig_round(r);
    assert_int_equal(rig_count_kind(r, STET_KIND_SEND), 0);
    rig_free(r);
}

static void a_window_of_messages_is_in_flight_and_cumulative_acks_move_it(void **state) {
    rig *r = rig_new();
    (void)state;
    give(r, 1, 100);
    check_sends(r, 1, 64);
    rig_forget(r);
    ack(r, 10);
    rig_round(r);
    check_sends(r, 65, 74);
    rig_forget(r);
    ack(r, 74);
    rig_round(r);
    check_sends(r, 75, 100);
    ack(r, 100);
    rig_round(r);
    assert_int_equal(pending(r), 0);
    rig_free(r);
}

static void a_refused_message_is_tried_again_with_growing_pauses_one_at_a_time(void **state) {
    rig *r = rig_new();
    (void)state;
    give(r, 1, 5);
    check_sends(r, 1, 5);
    rig_forget(r);
    int64_t pause = 100;
    for (int i = 0; i < 8; i++) {
        for (int n = 0; n < 5; n++)
            refuse(r); /* the whole window comes back: counts once */
        rig_later(r, pause - 1);
        rig_round(r);
        assert_int_equal(rig_count_kind(r, STET_KIND_SEND), 0);
        rig_later(r, 1);
        rig_round(r);
        check_sends(r, 1, 1);
        rig_forget(r);
        pause = pause * 2 > 5000 ? 5000 : pause * 2;
    }
    ack(r, 1);
    rig_round(r);
    check_sends(r, 2, 5);
    rig_free(r);
}

static void silence_for_two_seconds_begins_again_from_the_mark(void **state) {
    rig *r = rig_new();
    (void)state;
    give(r, 1, 3);
    ack(r, 1);
    rig_round(r);
    rig_forget(r);
    rig_later(r, 1999);
    rig_round(r);
    assert_int_equal(rig_count_kind(r, STET_KIND_SEND), 0);
    rig_later(r, 1);
    rig_round(r);
    check_sends(r, 2, 2);
    rig_forget(r);
    ack(r, 2);
    rig_round(r);
    check_sends(r, 3, 3);
    rig_free(r);
}

static void after_a_restart_the_channel_goes_on_from_what_was_acked(void **state) {
    rig *r = rig_new();
    (void)state;
    give(r, 1, 5);
    ack(r, 2);
    rig_round(r);
    r->line_down = true;
    rig_crash(r);
    r->line_down = false;
    rig_later(r, 200);
    rig_round(r);
    check_sends(r, 3, 3); /* the first try found no line: one, to see whether it is back */
    ack(r, 3);
    rig_round(r);
    check_sends(r, 3, 5);
    rig_forget(r);
    give(r, 50, 1);
    check_sends(r, 6, 6);
    rig_free(r);
}

/* As when the receiver had them all, and the sender died before it heard so. */
static void many_messages_acknowledged_at_once_are_deleted_in_steps(void **state) {
    enum { COUNT = OUTBOX_ACK_ROWS_MAX + 200 };
    rig *r = rig_new();
    (void)state;
    r->line_down = true;
    for (uint32_t i = 0; i < COUNT; i += 100)
        give(r, 1 + i, COUNT - i < 100 ? COUNT - i : 100);
    rig_crash(r);
    r->line_down = false;
    ack(r, COUNT);
    rig_round(r);
    assert_int_equal(pending(r), COUNT - OUTBOX_ACK_ROWS_MAX);
    rig_later(r, 6000);
    rig_round(r);
    ack(r, COUNT);
    rig_round(r);
    assert_int_equal(pending(r), 0);
    rig_free(r);
}

static void a_message_whose_commit_was_lost_is_not_sent_and_its_number_is_given_again(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", SEND);
    rig_seal(r);
    rig_crash(r);
    assert_int_equal(rig_count_kind(r, STET_KIND_SEND), 0);
    give(r, 2, 1);
    check_sends(r, 1, 1);
    rig_free(r);
}

static void old_and_wild_acks_change_nothing(void **state) {
    rig *r = rig_new();
    (void)state;
    ack(r, 5); /* of a channel that does not exist */
    give(r, 1, 3);
    ack(r, 2);
    ack(r, 1);
    ack(r, INT64_MAX);
    rig_round(r);
    assert_int_equal(pending(r), 1);
    assert_int_equal(stet_core_fatal(r->core, NULL), 0);
    rig_free(r);
}

static void a_receiver_that_has_more_than_was_given_shows_that_the_store_lost_it(void **state) {
    rig *r = rig_new();
    (void)state;
    give(r, 1, 2);
    stet_id id = rig_envelope(r, rig_find_kind(r, STET_KIND_SEND, 0)).id;
    stet_envelope envelope = {.kind = STET_KIND_ACK,
                              .id = id,
                              .command = STET_STR("alerts.raise"),
                              .service = STET_STR("alerts"),
                              .epoch = 1,
                              .sequence = 9};
    rig_message(r, &envelope, NULL);
    assert_int_equal(stet_core_fatal(r->core, NULL), STET_EXIT_DAMAGED);
    rig_forget(r);
    rig_request(r, 3, "drafter.document.put", PUT);
    rig_seal(r);
    assert_int_equal(r->sent_count, 0);
    rig_free(r);
}

static void a_full_outbox_answers_busy(void **state) {
    rig *r = rig_new();
    (void)state;
    CLEANUP(stet_buf_done) stet_buf head = STET_BUF(128);
    give(r, 1, 1);
    /* As if 100,000 waited. */
    stet_key key = stet_key_of(STET_TABLE_OUTBOX_HEADS);
    stet_key_str(&key, STET_STR("alerts"));
    stet_key_u64(&key, 0);
    stet_mp_array(&head, 6);
    stet_mp_uint(&head, 1);
    stet_mp_uint(&head, 1);
    stet_mp_uint(&head, 0);
    stet_mp_uint(&head, OUTBOX_ROWS_MAX);
    stet_mp_uint(&head, 0);
    stet_mp_uint(&head, 1000);
    stet_batch_put(stet_store_batch(r->store), stet_key_bytes(&key), stet_buf_str(&head));
    rig_request(r, 2, "drafter.document.put", SEND);
    rig_round(r);
    size_t n = rig_answer(r, 2);
    stet_error e;
    stet_error_decode(rig_body(r, n), &e);
    assert_int_equal(e.code, STET_BUSY);
    assert_int_equal(e.retry_after_ms, 1000);
    rig_free(r);
}

/* ---- the receiving end ---- */

static uint64_t last_ack(const rig *r) {
    uint64_t mark = UINT64_MAX;
    for (size_t i = 0; i < r->sent_count; i++) {
        stet_envelope envelope = rig_envelope(r, i);
        if (envelope.kind == STET_KIND_ACK) {
            assert_true(stet_str_is(envelope.service, "drafter"));
            mark = envelope.sequence;
        }
    }
    return mark;
}

static uint64_t version(rig *r) {
    rig_request(r, 960000, "drafter.document.get", "{\"projectId\":\"p1\"}");
    rig_round(r);
    uint64_t n = stet_mp_get_uint(rig_body(r, rig_answer(r, 960000)), "version", UINT64_MAX);
    rig_forget(r);
    return n;
}

static void each_number_of_a_channel_is_applied_once_and_in_order(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_send(r, 1, "drafter.document.put", PUT);
    rig_seal(r);
    assert_int_equal(rig_count_kind(r, STET_KIND_ACK), 0); /* not before it is durable */
    rig_complete(r);
    assert_int_equal(last_ack(r), 1);
    rig_send(r, 1, "drafter.document.put", PUT); /* again */
    rig_round(r);
    assert_int_equal(last_ack(r), 1);
    rig_send(r, 3, "drafter.document.put", PUT); /* 2 is missing */
    rig_round(r);
    assert_int_equal(last_ack(r), 1);
    rig_send(r, 2, "drafter.document.put", PUT);
    rig_send(r, 3, "drafter.document.put", PUT);
    rig_round(r);
    assert_int_equal(last_ack(r), 3);
    assert_int_equal(version(r), 3);
    rig_crash(r);
    rig_send(r, 3, "drafter.document.put", PUT);
    rig_round(r);
    assert_int_equal(last_ack(r), 3);
    assert_int_equal(version(r), 3);
    rig_free(r);
}

static void a_poison_message_is_taken_off_the_channel(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_send(r, 1, "drafter.document.put", "{\"projectId\":7}");
    rig_send(r, 2, "drafter.nothing", "{}");
    rig_send(r, 3, "drafter.document.put",
             "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"everything, then fail\"}");
    rig_send(r, 4, "drafter.document.put",
             "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"too large\"}");
    rig_send(r, 5, "drafter.document.put", PUT);
    rig_round(r);
    rig_round(r);
    assert_int_equal(last_ack(r), 5);
    assert_int_equal(r->errors_logged, 4);
    assert_int_equal(r->published_count, 0);
    assert_int_equal(version(r), 1);
    rig_free(r);
}

static void a_message_that_may_succeed_later_stays_with_its_sender(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_send(r, 1, "drafter.document.put", "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"busy\"}");
    rig_send(r, 2, "drafter.document.put", PUT);
    rig_round(r);
    stet_envelope envelope = rig_envelope(r, rig_find_kind(r, STET_KIND_ERROR, 0));
    assert_true(stet_str_is(envelope.command, "drafter.document.put"));
    assert_int_equal(last_ack(r), 0);
    assert_int_equal(version(r), 0);
    rig_free(r);
}

/* Both ends against a line that loses, doubles and reorders, with crashes of either: in the end each message
 * was applied once and in order. The receiver is modelled as the mark it would store. */
static void a_bad_line_and_crashes_lose_and_double_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        rig *r = rig_new();
        stet_prng prng = stet_prng_of(seed);
        uint64_t mark = 0, given = 0;
        for (int step = 0; step < 400; step++) {
            if (given < 60 && stet_prng_below(&prng, 3) == 0) {
                rig_request(r, 1000 + (uint32_t)given, "drafter.document.put", SEND);
                rig_round(r);
                given++;
            }
            for (size_t i = 0; i < r->sent_count; i++) {
                stet_envelope envelope = rig_envelope(r, i);
                if (envelope.kind != STET_KIND_SEND || stet_prng_below(&prng, 4) == 0)
                    continue; /* lost */
                if (envelope.sequence == mark + 1)
                    mark++;
                if (stet_prng_below(&prng, 4) != 0)
                    ack(r, mark);
            }
            rig_forget(r);
            if (stet_prng_below(&prng, 40) == 0)
                rig_crash(r);
            if (stet_prng_below(&prng, 10) == 0)
                refuse(r);
            rig_later(r, (int64_t)stet_prng_below(&prng, 700));
            rig_round(r);
        }
        for (int step = 0; step < 200 && mark < given; step++) { /* the line is good again */
            for (size_t i = 0; i < r->sent_count; i++) {
                stet_envelope envelope = rig_envelope(r, i);
                if (envelope.kind == STET_KIND_SEND && envelope.sequence == mark + 1)
                    mark++;
            }
            rig_forget(r);
            ack(r, mark);
            rig_later(r, 1000);
            rig_round(r);
        }
        if (mark != given)
            fail_msg("seed %u: %u of %u messages arrived", (unsigned)seed, (unsigned)mark, (unsigned)given);
        ack(r, mark);
        rig_round(r);
        assert_int_equal(pending(r), 0);
        rig_free(r);
    }
}

/* ---- registration ---- */

static void from_broker(rig *r, stet_kind kind, uint32_t broker) {
    stet_envelope envelope = {.kind = kind,
                              .service = STET_STR("drafter"),
                              .epoch = 1,
                              .interval_ms = 250,
                              .instance = rig_id(broker)};
    rig_message(r, &envelope, NULL);
}

static void heartbeats_keep_the_interval_and_silence_ends_in_ready(void **state) {
    rig *r = rig_new();
    (void)state;
    for (int i = 0; i < 4; i++) {
        rig_later(r, 250);
        rig_round(r);
        from_broker(r, STET_KIND_HEARTBEAT, 88);
    }
    assert_int_equal(rig_count_kind(r, STET_KIND_HEARTBEAT), 4);
    assert_int_equal(rig_count_kind(r, STET_KIND_READY), 0);
    rig_forget(r);
    for (int i = 0; i < 8; i++) {
        rig_later(r, 250);
        rig_round(r);
    }
    assert_in_range(rig_count_kind(r, STET_KIND_READY), 4, 6);
    stet_envelope ready = rig_envelope(r, rig_find_kind(r, STET_KIND_READY, 0));
    assert_int_equal(ready.epoch, 1);
    assert_int_equal(ready.credit, 2048);
    assert_true(stet_id_equal(ready.instance, rig_id(77)));
    rig_free(r);
}

static void without_a_connection_ready_is_tried_again_soon_and_then_each_interval(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_later(r, 1000);
    r->line_down = true;
    rig_round(r);
    int64_t waits[] = {20, 40, 80, 160, 250, 250};
    for (size_t i = 0; i < COUNT_OF(waits); i++) {
        uint64_t tries = r->tries;
        rig_later(r, waits[i] - 1);
        rig_round(r);
        assert_int_equal(r->tries, tries);
        rig_later(r, 1);
        rig_round(r);
        assert_int_equal(r->tries, tries + 1);
    }
    rig_free(r);
}

static void a_new_broker_is_told_ready_once(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_later(r, 100);
    for (int i = 0; i < 10; i++)
        from_broker(r, STET_KIND_REGISTER, 99);
    assert_int_equal(rig_count_kind(r, STET_KIND_READY), 1);
    from_broker(r, STET_KIND_WELCOME, 99);
    rig_forget(r);
    rig_later(r, 250);
    rig_round(r);
    assert_int_equal(rig_count_kind(r, STET_KIND_HEARTBEAT), 1);
    from_broker(r, STET_KIND_HEARTBEAT, 100); /* yet another life */
    assert_int_equal(rig_count_kind(r, STET_KIND_READY), 1);
    rig_free(r);
}

static void a_higher_epoch_elsewhere_ends_the_process(void **state) {
    rig *r = rig_new();
    (void)state;
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), body = STET_BUF(1024);
    stet_error e = {0};
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_seal(r);
    (void)stet_error_set(&e, STET_CONFLICT, "a higher epoch is registered");
    stet_envelope_encode(&(stet_envelope){.kind = STET_KIND_ERROR}, &frame);
    stet_error_encode(&e, &body);
    stet_core_message(r->core, stet_buf_str(&frame), (stet_str){0}, stet_buf_str(&body));
    assert_int_equal(stet_core_fatal(r->core, &e), STET_EXIT_FENCED);
    stet_core_complete(r->core);
    assert_int_equal(rig_answer(r, 1), SIZE_MAX); /* nothing is released any more */
    rig_free(r);
}

static void a_stop_says_leave_and_is_idle_when_all_is_answered(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_seal(r);
    stet_core_stop(r->core);
    assert_int_equal(rig_count_kind(r, STET_KIND_LEAVE), 1);
    assert_false(stet_core_idle(r->core));
    rig_complete(r);
    assert_true(stet_core_idle(r->core));
    assert_int_not_equal(rig_answer(r, 1), SIZE_MAX);
    rig_free(r);
}

static void garbage_from_the_broker_is_counted(void **state) {
    rig *r = rig_new();
    (void)state;
    stet_core_message(r->core, STET_STR("garbage"), (stet_str){0}, (stet_str){0});
    stet_core_message(r->core, (stet_str){0}, (stet_str){0}, (stet_str){0});
    rig_message(r, &(stet_envelope){.kind = STET_KIND_READY}, NULL);
    rig_send(r, 0, "drafter.document.put", PUT);
    assert_int_equal(rig_counter(r, "messages.malformed"), 4);
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_leaves_after_its_commit_and_is_deleted_by_its_ack),
        cmocka_unit_test(a_window_of_messages_is_in_flight_and_cumulative_acks_move_it),
        cmocka_unit_test(a_refused_message_is_tried_again_with_growing_pauses_one_at_a_time),
        cmocka_unit_test(silence_for_two_seconds_begins_again_from_the_mark),
        cmocka_unit_test(after_a_restart_the_channel_goes_on_from_what_was_acked),
        cmocka_unit_test(many_messages_acknowledged_at_once_are_deleted_in_steps),
        cmocka_unit_test(a_message_whose_commit_was_lost_is_not_sent_and_its_number_is_given_again),
        cmocka_unit_test(old_and_wild_acks_change_nothing),
        cmocka_unit_test(a_receiver_that_has_more_than_was_given_shows_that_the_store_lost_it),
        cmocka_unit_test(a_full_outbox_answers_busy),
        cmocka_unit_test(each_number_of_a_channel_is_applied_once_and_in_order),
        cmocka_unit_test(a_poison_message_is_taken_off_the_channel),
        cmocka_unit_test(a_message_that_may_succeed_later_stays_with_its_sender),
        cmocka_unit_test(a_bad_line_and_crashes_lose_and_double_nothing),
        cmocka_unit_test(heartbeats_keep_the_interval_and_silence_ends_in_ready),
        cmocka_unit_test(without_a_connection_ready_is_tried_again_soon_and_then_each_interval),
        cmocka_unit_test(a_new_broker_is_told_ready_once),
        cmocka_unit_test(a_higher_epoch_elsewhere_ends_the_process),
        cmocka_unit_test(a_stop_says_leave_and_is_idle_when_all_is_answered),
        cmocka_unit_test(garbage_from_the_broker_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
