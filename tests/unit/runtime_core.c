/* The turn: nothing leaves before its commit, an error undoes only its message, a repeat has no second
 * effect. */
#include "tests/unit/runtime_rig.h"

#include <stdio.h>
#include <stdlib.h>

static const char PUT[] = "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"\"}";
static const char GET[] = "{\"projectId\":\"p1\"}";

static const char *put_with(const char *markdown) {
    static char text[256];
    (void)snprintf(text, sizeof(text), "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"%s\"}",
                   markdown);
    return text;
}

static stet_code code_of(rig *r, uint32_t number) {
    stet_error e = {0};
    size_t n = rig_answer(r, number);
    assert_true(n != SIZE_MAX);
    if (rig_envelope(r, n).kind == STET_KIND_REPLY)
        return STET_OK;
    stet_error_decode(rig_body(r, n), &e);
    return e.code;
}

static uint64_t version_of(rig *r, uint32_t number) {
    size_t n = rig_answer(r, number);
    assert_true(n != SIZE_MAX);
    return stet_mp_get_uint(rig_body(r, n), "version", UINT64_MAX);
}

static uint64_t stored_version(rig *r) {
    rig_forget(r);
    rig_request(r, 990000, "drafter.document.get", GET);
    rig_round(r);
    uint64_t version = version_of(r, 990000);
    rig_forget(r);
    return version;
}

static void nothing_leaves_before_its_commit_is_durable(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", put_with("event"));
    assert_int_equal(r->sent_count, 0);
    rig_seal(r);
    assert_true(stet_store_commit_in_flight(r->store));
    assert_int_equal(r->sent_count, 0);
    assert_int_equal(r->published_count, 0);
    rig_complete(r);
    assert_int_equal(r->sent_count, 1);
    assert_int_equal(r->published_count, 1);
    assert_int_equal(version_of(r, 1), 1);
    rig_free(r);
}

static void the_next_batch_is_built_while_one_is_in_flight_and_leaves_after_it(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_seal(r);
    rig_request(r, 2, "drafter.document.put", PUT);
    rig_request(r, 3, "drafter.document.put", PUT);
    rig_seal(r); /* has to wait */
    assert_int_equal(r->sent_count, 0);
    uint64_t commits = stet_store_last_number(r->store);
    rig_complete(r); /* the first, then the two others in one commit */
    assert_int_equal(stet_store_last_number(r->store), commits + 2);
    assert_int_equal(r->sent_count, 3);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(rig_answer(r, i), i - 1);
        assert_int_equal(version_of(r, i), i);
    }
    rig_free(r);
}

static void an_error_undoes_only_its_message(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", put_with("event"));
    rig_request(r, 2, "drafter.document.put", put_with("everything, then fail"));
    rig_request(r, 3, "drafter.document.put", put_with("event"));
    rig_round(r);
    assert_int_equal(code_of(r, 2), STET_CONFLICT);
    assert_int_equal(version_of(r, 1), 1);
    assert_int_equal(version_of(r, 3), 2);
    assert_int_equal(r->published_count, 2); /* and their numbers have no hole */
    assert_int_equal(rig_count_kind(r, STET_KIND_SEND), 0);
    assert_int_equal(r->calls_count, 0);
    assert_int_equal(stored_version(r), 2);
    CLEANUP(stet_buf_done) stet_buf found = STET_BUF(1 << 20);
    assert_int_equal(rig_check(r, &found), 0);
    rig_free(r);
}

static void a_repeat_gets_the_same_bytes_and_has_no_second_effect(void **state) {
    rig *r = rig_new();
    (void)state;
    CLEANUP(stet_buf_done) stet_buf first = STET_BUF(1024);
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_request(r, 1, "drafter.document.put", PUT); /* in the same turn */
    rig_round(r);
    assert_int_equal(r->sent_count, 2);
    stet_buf_append_str(&first, rig_body(r, 0));
    assert_true(stet_str_equal(stet_buf_str(&first), rig_body(r, 1)));
    rig_forget(r);
    rig_request(r, 2, "drafter.document.put", PUT);
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_round(r);
    assert_true(stet_str_equal(stet_buf_str(&first), rig_body(r, rig_answer(r, 1))));
    rig_crash(r);
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_round(r);
    assert_true(stet_str_equal(stet_buf_str(&first), rig_body(r, rig_answer(r, 1))));
    assert_int_equal(stored_version(r), 2);
    rig_free(r);
}

static void the_same_id_for_another_request_is_a_conflict(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_round(r);
    rig_forget(r);
    rig_request(r, 1, "drafter.document.put", put_with("other"));
    rig_round(r);
    assert_int_equal(code_of(r, 1), STET_CONFLICT);
    assert_int_equal(stored_version(r), 1);
    rig_free(r);
}

static void a_refused_request_is_not_remembered(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", put_with("busy"));
    rig_round(r);
    assert_int_equal(code_of(r, 1), STET_BUSY);
    rig_forget(r);
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_round(r);
    assert_int_equal(version_of(r, 1), 1);
    rig_free(r);
}

static void a_read_is_answered_at_once_but_waits_for_a_commit_in_flight(void **state) {
    rig *r = rig_new();
    (void)state;
    uint64_t commits = stet_store_last_number(r->store);
    rig_request(r, 1, "drafter.document.get", GET);
    rig_seal(r);
    assert_int_equal(version_of(r, 1), 0);
    assert_int_equal(stet_store_last_number(r->store), commits);
    rig_request(r, 2, "drafter.document.put", PUT);
    rig_seal(r);
    rig_request(r, 3, "drafter.document.get", GET);
    rig_seal(r);
    assert_int_equal(rig_answer(r, 3), SIZE_MAX); /* it has seen what is not durable yet */
    rig_request(r, 4, "drafter.document.put", PUT);
    rig_seal(r);
    stet_core_complete(r->core);
    assert_int_equal(version_of(r, 3), 1);
    rig_free(r);
}

static void a_read_that_saw_a_lost_commit_is_never_answered(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_seal(r);
    rig_request(r, 2, "drafter.document.get", GET);
    rig_seal(r);
    rig_crash(r);
    assert_int_equal(r->sent_count, 0);
    assert_int_equal(stored_version(r), 0);
    rig_free(r);
}

static void admission_names_what_is_wrong(void **state) {
    rig *r = rig_new();
    (void)state;
    stet_error e = {0};
    rig_request(r, 1, "drafter.nothing", "{}");
    rig_request(r, 2, "alerts.raise", "{}");
    rig_request(r, 3, "drafter.pause", "{}"); /* in the table, but this service has no handler */
    rig_request_as(r, "viewer", 4, "drafter.document.put", PUT);
    rig_request_as(r, "nonsense", 5, "drafter.document.get", GET);
    rig_request(r, 6, "drafter.document.put", "{\"projectId\":7,\"baseVersion\":0,\"markdown\":\"\"}");
    rig_request(r, 7, "drafter.document.put", NULL);
    rig_round(r);
    assert_int_equal(code_of(r, 1), STET_NOT_FOUND);
    assert_int_equal(code_of(r, 2), STET_NOT_FOUND);
    assert_int_equal(code_of(r, 3), STET_NOT_FOUND);
    assert_int_equal(code_of(r, 4), STET_FORBIDDEN);
    assert_int_equal(code_of(r, 5), STET_FORBIDDEN);
    assert_int_equal(code_of(r, 6), STET_INVALID);
    stet_error_decode(rig_body(r, rig_answer(r, 6)), &e);
    assert_string_equal(e.field, "projectId");
    assert_int_equal(code_of(r, 7), STET_INVALID);
    assert_int_equal(stored_version(r), 0);
    rig_free(r);
}

static void a_message_that_does_not_fit_is_tried_again_alone(void **state) {
    rig *r = rig_new();
    (void)state;
    /* Two times 2.5 MiB do not fit into one commit of 4 MiB. */
    rig_request(r, 1, "drafter.document.put", put_with("large"));
    assert_false(stet_core_wants_more(r->core));
    rig_request(r, 2, "drafter.document.put", put_with("large"));
    rig_request(r, 3, "drafter.document.put", PUT);
    rig_round(r);
    rig_round(r);
    assert_int_equal(version_of(r, 1), 1);
    assert_int_equal(version_of(r, 2), 2);
    assert_int_equal(version_of(r, 3), 3);
    assert_true(stet_core_wants_more(r->core));
    assert_int_equal(rig_counter(r, "messages.deferred"), 2);
    rig_free(r);
}

static void what_never_fits_is_too_large(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_request(r, 2, "drafter.document.put", put_with("too large"));
    rig_round(r);
    rig_round(r);
    assert_int_equal(code_of(r, 2), STET_TOO_LARGE);
    assert_int_equal(stored_version(r), 1);
    rig_free(r);
}

static void the_turn_is_full_after_the_set_number_of_messages(void **state) {
    rig *r = rig_new();
    (void)state;
    uint32_t n = 0;
    while (stet_core_wants_more(r->core) && n < 5000)
        rig_request(r, 10000 + n++, "drafter.document.get", GET);
    assert_int_equal(n, 1024);
    rig_seal(r);
    assert_true(stet_core_wants_more(r->core));
    assert_int_equal(r->sent_count, 1024);
    rig_free(r);
}

/* ---- events ---- */

static void events_are_numbered_per_session_and_stored_as_published(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", put_with("event"));
    rig_request(r, 2, "drafter.document.put", put_with("event"));
    rig_round(r);
    rig_request(r, 3, "drafter.document.put",
                "{\"projectId\":\"p2\",\"baseVersion\":0,\"markdown\":\"event\"}");
    rig_round(r);
    assert_int_equal(r->published_count, 3);
    assert_true(stet_str_is(stet_buf_str(&r->published[0].envelope), "TOOL_PROGRESS/p1"));
    assert_true(stet_str_is(stet_buf_str(&r->published[2].envelope), "TOOL_PROGRESS/p2"));
    assert_true(
        stet_str_is(stet_buf_str(&r->published[0].body),
                    "TOOL_PROGRESS::{\"seq\":1,\"sessionId\":\"p1\",\"projectId\":\"p\",\"actor\":"
                    "\"drafter\",\"kind\":\"draft\","
                    "\"status\":\"queued\",\"attempt\":1,\"progress\":0.25,\"message\":\"say \\\"hi\\\"\","
                    "\"at\":\"2023-11-14T22:13:20.000Z\"}"));
    rig_request(r, 4, "drafter.events", "{\"sessionId\":\"p1\"}");
    rig_round(r);
    stet_mp_reader read;
    assert_true(stet_mp_find(rig_body(r, rig_answer(r, 4)), "events", &read));
    assert_int_equal(stet_mp_read_array(&read), 2);
    for (size_t i = 0; i < 2; i++) {
        stet_str text = stet_mp_read_str(&read), published = stet_buf_str(&r->published[i].body);
        assert_true(stet_str_equal(text, (stet_str){published.data + 15, published.size - 15}));
    }
    rig_free(r);
}

static void catch_up_goes_on_page_by_page_without_a_gap(void **state) {
    rig *r = rig_new();
    (void)state;
    for (uint32_t i = 0; i < 7; i++)
        rig_request(r, 1 + i, "drafter.document.put", put_with("event"));
    rig_round(r);
    uint64_t after = 0, seen = 0;
    for (uint32_t page = 0;; page++) {
        char text[128];
        stet_mp_reader read;
        (void)snprintf(text, sizeof(text), "{\"sessionId\":\"p1\",\"afterSeq\":%u,\"limit\":3}",
                       (unsigned)after);
        rig_request(r, 100 + page, "drafter.events", text);
        rig_round(r);
        stet_str body = rig_body(r, rig_answer(r, 100 + page));
        assert_true(stet_mp_find(body, "events", &read));
        seen += stet_mp_read_array(&read);
        after = stet_mp_get_uint(body, "lastSeq", 0);
        assert_int_equal(after, seen);
        if (!stet_mp_get_bool(body, "more", false))
            break;
    }
    assert_int_equal(seen, 7);
    rig_free(r);
}

/* Messages that publish and stay, that publish and fail, and reads between them, in turns of random length:
 * what was published is what is read, without a gap, from any number on; the check finds nothing; one row a
 * session and commit. */
static void events_of_a_turn_stand_in_one_row_and_read_like_single_ones(void **state) {
    enum { SESSIONS = 5, STEPS = 120 };
    rig *r = rig_new();
    (void)state;
    uint64_t last[SESSIONS] = {0};
    stet_prng prng = stet_prng_of(5);
    CLEANUP(stet_buf_done) stet_buf found = STET_BUF(1 << 20);
    for (uint32_t i = 0; i < STEPS; i++) {
        char text[160];
        uint32_t session = (uint32_t)stet_prng_below(&prng, SESSIONS);
        uint64_t what = stet_prng_below(&prng, 10);
        if (what == 9) {
            uint64_t after = stet_prng_below(&prng, last[session] + 1);
            stet_mp_reader read;
            (void)snprintf(text, sizeof(text), "{\"sessionId\":\"p%u\",\"afterSeq\":%u}", session,
                           (unsigned)after);
            rig_request(r, 1 + i, "drafter.events", text);
            rig_round(r);
            assert_true(stet_mp_find(rig_body(r, rig_answer(r, 1 + i)), "events", &read));
            assert_int_equal(stet_mp_read_array(&read), last[session] - after);
            for (uint64_t n = after + 1; n <= last[session]; n++) {
                stet_str event = stet_mp_read_str(&read);
                (void)snprintf(text, sizeof(text), "{\"seq\":%u,\"sessionId\":\"p%u\",", (unsigned)n,
                               session);
                assert_true(event.size > strlen(text) && memcmp(event.data, text, strlen(text)) == 0);
            }
        } else {
            (void)snprintf(text, sizeof(text),
                           "{\"projectId\":\"p%u\",\"baseVersion\":0,\"markdown\":\"%s\"}", session,
                           what < 6 ? "event" : "everything, then fail");
            rig_request(r, 1 + i, "drafter.document.put", text);
            last[session] += what < 6 ? 1 : 0;
            if (what % 3 == 0)
                rig_round(r);
        }
        if (r->sent_count > RIG_SENT_MAX / 2)
            rig_forget(r);
    }
    rig_round(r);
    rig_forget(r);
    assert_int_equal(rig_check(r, &found), 0);
    rig_crash(r);
    for (uint32_t i = 0; i < 20; i++)
        rig_request(r, 1000 + i, "drafter.document.put", put_with(i % 2 ? "event" : "everything, then fail"));
    rig_round(r);
    uint64_t rows = rig_counter(r, "rows");
    rig_forget(r);
    rig_request(r, 1100, "drafter.document.put", put_with("event"));
    rig_round(r);
    /* The event's row and its session's head, two rows of the handler, the answer. */
    assert_int_equal(rig_counter(r, "rows") - rows, 5);
    rig_free(r);
}

static void numbers_of_swept_events_are_not_given_again(void **state) {
    rig *r = rig_new();
    (void)state;
    CLEANUP(stet_buf_done) stet_buf found = STET_BUF(1 << 20);
    stet_mp_reader read;
    rig_request(r, 1, "drafter.document.put", put_with("event"));
    rig_request(r, 2, "drafter.document.put", put_with("event"));
    rig_round(r);
    for (int i = 0; i < 40; i++) { /* a month and more: enough rounds for whole passes */
        rig_later(r, 24ll * 3600 * 1000);
        rig_round(r);
    }
    rig_forget(r);
    rig_request(r, 3, "drafter.events", "{\"sessionId\":\"p1\"}");
    rig_round(r);
    assert_true(stet_mp_find(rig_body(r, rig_answer(r, 3)), "events", &read));
    assert_int_equal(stet_mp_read_array(&read), 0);
    rig_request(r, 4, "drafter.document.put", put_with("event"));
    rig_round(r);
    assert_non_null(memmem(r->published[0].body.data, r->published[0].body.size, "\"seq\":3,", 8));
    rig_forget(r);
    assert_int_equal(rig_check(r, &found), 0);
    rig_free(r);
}

/* Hour by hour, with time for a whole pass of the sweep in each. */
static void hours(rig *r, int count) {
    for (int i = 0; i < count; i++) {
        rig_later(r, 3600 * 1000 - 400);
        for (int step = 0; step < 4; step++) {
            rig_later(r, 100);
            rig_round(r);
        }
    }
}

static void answers_are_forgotten_after_the_set_time_and_not_before(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_round(r);
    hours(r, 23);
    rig_request(r, 1, "drafter.document.put", PUT);
    rig_round(r);
    assert_int_equal(stored_version(r), 1);
    hours(r, 2);
    assert_int_equal(rig_counter(r, "duplicates.swept"), 1);
    rig_free(r);
}

/* ---- timers ---- */

static uint64_t fired(rig *r) {
    rig_request(r, 990001, "drafter.document.get", "{\"projectId\":\"t1\"}");
    rig_round(r);
    uint64_t n = version_of(r, 990001);
    rig_forget(r);
    return n;
}

static void a_timer_fires_once_also_when_the_process_dies_meanwhile(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", put_with("timer"));
    rig_round(r);
    rig_later(r, 500);
    assert_int_equal(fired(r), 0);
    rig_crash(r);
    rig_later(r, 600);
    rig_seal(r);  /* fired, but not durable */
    rig_crash(r); /* starting fires it again; the first time is undone */
    assert_int_equal(fired(r), 1);
    rig_crash(r);
    rig_later(r, 10000);
    rig_round(r);
    assert_int_equal(fired(r), 1);
    rig_free(r);
}

static void a_timer_can_be_moved_and_taken_back(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", put_with("timer"));
    rig_round(r);
    rig_later(r, 900);
    rig_request(r, 2, "drafter.document.put", put_with("timer"));
    rig_round(r);
    rig_later(r, 900);
    rig_round(r);
    assert_int_equal(fired(r), 0);
    rig_request(r, 3, "drafter.document.put", put_with("cancel timer"));
    rig_round(r);
    rig_later(r, 9000);
    rig_round(r);
    assert_int_equal(fired(r), 0);
    rig_free(r);
}

/* ---- calls ---- */

static stet_http_result result_of(uint32_t attempt, uint32_t number, uint32_t status) {
    return (stet_http_result){
        .ref = {rig_id(900), attempt, number}, .status = status, .reason = "", .retry_after_ms = -1};
}

static uint64_t results_taken(rig *r) {
    rig_request(r, 990002, "drafter.document.get", "{\"projectId\":\"done\"}");
    rig_round(r);
    uint64_t n = version_of(r, 990002);
    rig_forget(r);
    return n;
}

static void a_call_starts_after_the_commit_and_only_results_of_the_current_attempt_count(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_job_active(rig_id(900), 1);
    rig_request(r, 1, "drafter.document.put", put_with("call"));
    rig_seal(r);
    assert_int_equal(r->calls_count, 0);
    rig_complete(r);
    assert_int_equal(r->calls_count, 1);
    stet_http_result stale = result_of(2, 1, 200), current = result_of(1, 1, 200);
    stet_core_call_done(r->core, &stale);
    rig_round(r);
    assert_int_equal(results_taken(r), 0);
    stet_core_call_done(r->core, &current);
    rig_round(r);
    assert_int_equal(results_taken(r), 1);
    assert_int_equal(rig_counter(r, "results.stale"), 1);
    rig_free(r);
}

static void a_call_taken_back_in_its_own_turn_is_not_started(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.document.put", put_with("call"));
    rig_request(r, 2, "drafter.document.put", put_with("cancel call"));
    rig_round(r);
    assert_int_equal(r->calls_count, 0);
    assert_int_equal(r->cancels_count, 1);
    rig_free(r);
}

static void a_result_that_comes_after_its_cancel_is_dropped(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_job_active(rig_id(900), 1);
    rig_request(r, 1, "drafter.document.put", put_with("call"));
    rig_round(r);
    rig_request(r, 2, "drafter.document.put", put_with("cancel call"));
    rig_seal(r); /* the cancel has not reached the edge */
    stet_http_result result = result_of(1, 1, 200);
    stet_core_call_done(r->core, &result);
    rig_round(r);
    assert_int_equal(results_taken(r), 0);
    rig_free(r);
}

static void when_the_actor_fails_on_a_result_its_attempt_ends(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_job_active(rig_id(900), 1);
    stet_http_result result = result_of(1, 1, 500);
    stet_core_call_done(r->core, &result);
    rig_round(r);
    assert_int_equal(rig_job_failures(), 1);
    assert_int_equal(r->errors_logged, 1);
    rig_free(r);
}

static void a_result_that_does_not_fit_is_kept_for_the_next_turn(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_job_active(rig_id(900), 1);
    rig_request(r, 1, "drafter.document.put", put_with("large"));
    char *reason = strdup("will be freed");
    stet_http_result result = result_of(1, 1, 413);
    result.reason = reason;
    stet_core_call_done(r->core, &result);
    free(reason);
    rig_round(r);
    rig_round(r);
    assert_int_equal(rig_counter(r, "results"), 1);
    assert_int_equal(rig_job_failures(), 0);
    rig_free(r);
}

/* ---- stats, health ---- */

static void stats_and_health_answer(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_request(r, 1, "drafter.stats", "{}");
    rig_request(r, 2, "drafter.health", "{}");
    rig_round(r);
    assert_true(stet_str_is(stet_mp_get_str(rig_body(r, 0), "service", (stet_str){0}), "drafter"));
    assert_true(stet_str_is(stet_mp_get_str(rig_body(r, 1), "status", (stet_str){0}), "green"));
    rig_later(r, 5000);
    rig_request(r, 3, "drafter.health", "{}");
    rig_round(r);
    assert_true(stet_str_is(stet_mp_get_str(rig_body(r, rig_answer(r, 3)), "status", (stet_str){0}), "red"));
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_leaves_before_its_commit_is_durable),
        cmocka_unit_test(the_next_batch_is_built_while_one_is_in_flight_and_leaves_after_it),
        cmocka_unit_test(an_error_undoes_only_its_message),
        cmocka_unit_test(a_repeat_gets_the_same_bytes_and_has_no_second_effect),
        cmocka_unit_test(the_same_id_for_another_request_is_a_conflict),
        cmocka_unit_test(a_refused_request_is_not_remembered),
        cmocka_unit_test(a_read_is_answered_at_once_but_waits_for_a_commit_in_flight),
        cmocka_unit_test(a_read_that_saw_a_lost_commit_is_never_answered),
        cmocka_unit_test(admission_names_what_is_wrong),
        cmocka_unit_test(a_message_that_does_not_fit_is_tried_again_alone),
        cmocka_unit_test(what_never_fits_is_too_large),
        cmocka_unit_test(the_turn_is_full_after_the_set_number_of_messages),
        cmocka_unit_test(events_are_numbered_per_session_and_stored_as_published),
        cmocka_unit_test(catch_up_goes_on_page_by_page_without_a_gap),
        cmocka_unit_test(events_of_a_turn_stand_in_one_row_and_read_like_single_ones),
        cmocka_unit_test(numbers_of_swept_events_are_not_given_again),
        cmocka_unit_test(answers_are_forgotten_after_the_set_time_and_not_before),
        cmocka_unit_test(a_timer_fires_once_also_when_the_process_dies_meanwhile),
        cmocka_unit_test(a_timer_can_be_moved_and_taken_back),
        cmocka_unit_test(a_call_starts_after_the_commit_and_only_results_of_the_current_attempt_count),
        cmocka_unit_test(a_call_taken_back_in_its_own_turn_is_not_started),
        cmocka_unit_test(a_result_that_comes_after_its_cancel_is_dropped),
        cmocka_unit_test(when_the_actor_fails_on_a_result_its_attempt_ends),
        cmocka_unit_test(a_result_that_does_not_fit_is_kept_for_the_next_turn),
        cmocka_unit_test(stats_and_health_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
