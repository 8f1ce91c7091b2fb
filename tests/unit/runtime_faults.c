/* Crashes at every commit, and planted damage that the check must find. */
#include "tests/unit/runtime_rig.h"

#include <stdio.h>

enum { REQUESTS = 40 };

static const char *const kinds[] = {"", "event", "send", "timer", "everything, then fail", "busy"};

static const char *body_of(uint32_t number) {
    static char text[128];
    (void)snprintf(text, sizeof(text), "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"%s\"}",
                   kinds[number % COUNT_OF(kinds)]);
    return text;
}

/* Goal: what was acknowledged survives a crash at any commit, and is applied once however often it is
 * repeated. Method: the process dies just before commit 1, 2, 3, ... becomes durable, until a run has fewer
 * commits than that. Then all requests are repeated, and each answer must be the one given before the crash.
 */
static bool dies_now(rig *r, uint64_t commit) {
    return stet_store_commit_in_flight(r->store) && stet_store_last_number(r->store) + 1 == commit;
}

static bool run_with_crash(uint64_t crash_at) {
    rig *r = rig_new();
    uint64_t first = stet_store_last_number(r->store);
    bool crashed = false;
    stet_buf answers[REQUESTS];
    for (uint32_t i = 0; i < REQUESTS; i++)
        answers[i] = (stet_buf)STET_BUF(1024);
    for (uint32_t i = 0; i < REQUESTS && !crashed; i++) {
        rig_request(r, i, "drafter.document.put", body_of(i));
        rig_seal(r);
        crashed = dies_now(r, first + crash_at);
        while (!crashed && i % 3 == 2 && stet_store_commit_in_flight(r->store)) {
            stet_core_complete(r->core);
            crashed = dies_now(r, first + crash_at);
        }
        for (uint32_t n = 0; n <= i; n++) {
            size_t at = rig_answer(r, n);
            if (at != SIZE_MAX && rig_envelope(r, at).kind == STET_KIND_REPLY && answers[n].size == 0)
                stet_buf_append_str(&answers[n], rig_body(r, at));
        }
    }
    if (crashed)
        rig_crash(r);
    else
        rig_complete(r);
    rig_forget(r);
    uint64_t applied = 0;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        rig_request(r, i, "drafter.document.put", body_of(i));
        rig_round(r);
        size_t at = rig_answer(r, i);
        assert_true(at != SIZE_MAX);
        bool ok = rig_envelope(r, at).kind == STET_KIND_REPLY;
        assert_int_equal(ok, i % COUNT_OF(kinds) < 4);
        applied += ok;
        if (answers[i].size > 0 && !stet_str_equal(stet_buf_str(&answers[i]), rig_body(r, at)))
            fail_msg("crash at commit %u: request %u has another answer", (unsigned)crash_at, (unsigned)i);
    }
    rig_request(r, 5000, "drafter.document.get", "{\"projectId\":\"p1\"}");
    rig_round(r);
    uint64_t counted = stet_mp_get_uint(rig_body(r, rig_answer(r, 5000)), "version", 0);
    if (counted != applied)
        fail_msg("crash at commit %u: %u applied, %u counted", (unsigned)crash_at, (unsigned)applied,
                 (unsigned)counted);
    CLEANUP(stet_buf_done) stet_buf found = STET_BUF(1 << 20);
    if (rig_check(r, &found) != 0)
        fail_msg("crash at commit %u: %.*s", (unsigned)crash_at, (int)found.size, (const char *)found.data);
    for (uint32_t i = 0; i < REQUESTS; i++)
        stet_buf_done(&answers[i]);
    rig_free(r);
    return crashed;
}

static void a_crash_at_any_commit_loses_and_doubles_no_acknowledged_request(void **state) {
    uint64_t n = 1;
    (void)state;
    while (run_with_crash(n))
        n++;
    assert_true(n > 10); /* else nothing was tried */
}

/* ---- the store fails ---- */

static void after_a_commit_that_is_not_ok_nothing_is_released(void **state) {
    static const struct {
        stet_commit_result result;
        int exit_code;
    } rows[] = {{STET_COMMIT_UNKNOWN, STET_EXIT_STORE},
                {STET_COMMIT_UNAVAILABLE, STET_EXIT_STORE},
                {STET_COMMIT_FENCED, STET_EXIT_FENCED}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        rig *r = rig_new();
        stet_store_memory_fail_commit(r->store, rows[i].result);
        rig_request(r, 1, "drafter.document.put", body_of(1));
        rig_seal(r);
        rig_request(r, 2, "drafter.document.put", body_of(2));
        rig_request(r, 3, "drafter.document.get", "{\"projectId\":\"p1\"}");
        rig_round(r);
        rig_round(r);
        assert_int_equal(r->sent_count, 0);
        assert_int_equal(r->published_count, 0);
        assert_int_equal(stet_core_fatal(r->core, NULL), rows[i].exit_code);
        assert_false(stet_core_wants_more(r->core));
        rig_later(r, 10000); /* no heartbeat either */
        rig_round(r);
        assert_int_equal(r->sent_count, 0);
        rig_free(r);
    }
}

static void after_a_read_that_failed_nothing_is_committed_or_released(void **state) {
    rig *r = rig_new();
    (void)state;
    uint64_t commits = stet_store_last_number(r->store);
    stet_store_memory_fail_reads(r->store);
    rig_request(r, 1, "drafter.document.put", body_of(0));
    rig_round(r);
    assert_int_equal(stet_core_fatal(r->core, NULL), STET_EXIT_STORE);
    assert_int_equal(stet_store_last_number(r->store), commits);
    assert_int_equal(r->sent_count, 0);
    rig_crash(r);
    rig_request(r, 1, "drafter.document.put", body_of(0));
    rig_round(r);
    assert_int_equal(rig_envelope(r, rig_answer(r, 1)).kind, STET_KIND_REPLY);
    rig_free(r);
}

/* ---- planted damage ---- */

static void with_rows(rig *r) {
    const char *const all[] = {"event", "event", "event", "send", "send", "send", "timer"};
    for (uint32_t i = 0; i < COUNT_OF(all); i++) {
        char text[128];
        (void)snprintf(text, sizeof(text), "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"%s\"}",
                       all[i]);
        rig_request(r, i, "drafter.document.put", text);
        rig_round(r); /* a row an event: the events of one commit stand in one */
    }
    rig_send(r, 1, "drafter.document.put", "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"\"}");
    rig_round(r);
    rig_forget(r);
}

/* The n-th row of the table; its key. */
static stet_key nth_key(rig *r, uint8_t table, uint32_t n) {
    stet_key prefix = stet_key_of(table), found = {.size = 0};
    stet_str key, value;
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(stet_store_batch(r->store), stet_key_bytes(&prefix), (stet_str){0}, false);
    for (uint32_t i = 0; i <= n; i++)
        assert_true(stet_scan_next(scan, &key, &value));
    memcpy(found.bytes, key.data, key.size);
    found.size = key.size;
    return found;
}

static void expect_found(rig *r, const char *kind, const char *what) {
    CLEANUP(stet_buf_done) stet_buf found = STET_BUF(1 << 20);
    rig_round(r);
    if (rig_check(r, &found) == 0 || !memmem(found.data, found.size, kind, strlen(kind)))
        fail_msg("%s: expected %s, found %.*s", what, kind, (int)found.size, (const char *)found.data);
}

static void the_check_finds_a_row_that_is_missing(void **state) {
    static const struct {
        uint8_t table;
        uint32_t n;
        const char *kind;
    } rows[] = {
        {STET_TABLE_OUTBOX, 0, "outbox.gap"},   {STET_TABLE_OUTBOX, 1, "outbox.gap"},
        {STET_TABLE_OUTBOX, 2, "outbox.gap"},   {STET_TABLE_OUTBOX_HEADS, 0, "outbox.stray"},
        {STET_TABLE_EVENTS, 0, "events.gap"},   {STET_TABLE_EVENTS, 1, "events.gap"},
        {STET_TABLE_EVENTS, 2, "events.gap"},   {STET_TABLE_EVENT_HEADS, 0, "events.stray"},
        {STET_TABLE_TIMERS, 0, "timers.stray"}, {STET_TABLE_TIMERS_DUE, 0, "timers.never"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char what[64];
        rig *r = rig_new();
        CLEANUP(stet_buf_done) stet_buf found = STET_BUF(1 << 20);
        with_rows(r);
        assert_int_equal(rig_check(r, &found), 0);
        stet_key key = nth_key(r, rows[i].table, rows[i].n);
        stet_batch_delete(stet_store_batch(r->store), stet_key_bytes(&key));
        (void)snprintf(what, sizeof(what), "table %u row %u missing", rows[i].table, rows[i].n);
        expect_found(r, rows[i].kind, what);
        rig_free(r);
    }
}

static void the_check_finds_a_row_that_cannot_be_read(void **state) {
    static const struct {
        uint8_t table;
        const char *kind;
    } rows[] = {
        {STET_TABLE_DUPLICATES, "duplicates.unreadable"}, {STET_TABLE_OUTBOX, "outbox.unreadable"},
        {STET_TABLE_OUTBOX_HEADS, "outbox.unreadable"},   {STET_TABLE_INBOX_MARKS, "inbox.unreadable"},
        {STET_TABLE_EVENTS, "events.unreadable"},         {STET_TABLE_EVENT_HEADS, "events.unreadable"},
        {STET_TABLE_TIMERS, "timers.unreadable"},         {RIG_TABLE_COUNTERS, "counters.unreadable"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char what[64];
        rig *r = rig_new();
        with_rows(r);
        stet_key key = nth_key(r, rows[i].table, 0);
        stet_batch_put(stet_store_batch(r->store), stet_key_bytes(&key), STET_STR("\xC1garbage"));
        (void)snprintf(what, sizeof(what), "table %u unreadable", rows[i].table);
        expect_found(r, rows[i].kind, what);
        rig_free(r);
    }
}

static void the_check_finds_rows_that_nothing_justifies(void **state) {
    rig *r = rig_new();
    (void)state;
    with_rows(r);
    stet_key due = stet_key_of(STET_TABLE_TIMERS_DUE), odd = stet_key_of(200),
             job = stet_key_of(STET_TABLE_JOBS);
    stet_key_u64(&due, INT64_MAX);
    stet_key_str(&due, STET_STR("t1"));
    stet_key_str(&odd, STET_STR("x"));
    stet_key_str(&job, STET_STR("x"));
    stet_batch_put(stet_store_batch(r->store), stet_key_bytes(&due), (stet_str){0});
    stet_batch_put(stet_store_batch(r->store), stet_key_bytes(&odd), STET_STR("\x01"));
    stet_batch_put(stet_store_batch(r->store), stet_key_bytes(&job), STET_STR("\x01"));
    expect_found(r, "timers.stray", "second due row");
    expect_found(r, "table.unknown", "table 200");
    expect_found(r, "jobs.double", "handed to the job engine");
    rig_free(r);
}

static void a_damaged_row_is_an_internal_error_and_not_a_crash(void **state) {
    rig *r = rig_new();
    (void)state;
    stet_error e;
    with_rows(r);
    stet_key key = nth_key(r, STET_TABLE_EVENT_HEADS, 0);
    stet_batch_put(stet_store_batch(r->store), stet_key_bytes(&key), STET_STR("\xC1"));
    rig_request(r, 100, "drafter.events", "{\"sessionId\":\"p1\"}");
    rig_round(r);
    stet_error_decode(rig_body(r, rig_answer(r, 100)), &e);
    assert_int_equal(e.code, STET_INTERNAL);
    rig_free(r);
}

static void damage(rig *r, uint8_t table, uint32_t n) {
    stet_key key = nth_key(r, table, n);
    stet_batch_put(stet_store_batch(r->store), stet_key_bytes(&key), STET_STR("\xC1"));
    rig_round(r);
}

static uint64_t version(rig *r) {
    rig_request(r, 990000, "drafter.document.get", "{\"projectId\":\"p1\"}");
    rig_round(r);
    uint64_t n = stet_mp_get_uint(rig_body(r, rig_answer(r, 990000)), "version", 0);
    rig_forget(r);
    return n;
}

static void an_answer_that_cannot_be_read_is_no_reason_to_apply_the_request_again(void **state) {
    rig *r = rig_new();
    (void)state;
    stet_error e;
    with_rows(r);
    uint64_t before = version(r);
    damage(r, STET_TABLE_DUPLICATES, 0);
    rig_request(r, 0, "drafter.document.put", body_of(1));
    rig_round(r);
    stet_error_decode(rig_body(r, rig_answer(r, 0)), &e);
    assert_int_equal(e.code, STET_INTERNAL);
    assert_int_equal(version(r), before);
    rig_free(r);
}

static void a_message_whose_mark_cannot_be_read_stays_with_its_sender(void **state) {
    rig *r = rig_new();
    (void)state;
    stet_error e;
    with_rows(r);
    uint64_t before = version(r);
    damage(r, STET_TABLE_INBOX_MARKS, 0);
    rig_send(r, 2, "drafter.document.put", "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"\"}");
    rig_round(r);
    stet_error_decode(rig_body(r, rig_find_kind(r, STET_KIND_ERROR, 0)), &e);
    assert_int_equal(e.code, STET_UNAVAILABLE);
    assert_int_equal(rig_count_kind(r, STET_KIND_ACK), 0);
    assert_int_equal(version(r), before);
    rig_free(r);
}

static void on_a_full_disk_reads_are_answered_and_writes_come_back(void **state) {
    rig *r = rig_new();
    (void)state;
    stet_error e;
    with_rows(r);
    uint64_t before = version(r);
    stet_store_memory_full(r->store, true);
    rig_later(r, 1000);
    rig_request(r, 100, "drafter.document.put", body_of(0));
    rig_send(r, 2, "drafter.document.put", "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"\"}");
    rig_request(r, 0, "drafter.document.put",
                "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"event\"}");
    rig_round(r);
    stet_error_decode(rig_body(r, rig_answer(r, 100)), &e);
    assert_int_equal(e.code, STET_UNAVAILABLE);
    assert_int_equal(e.retry_after_ms, 1000);
    assert_int_equal(rig_envelope(r, rig_answer(r, 0)).kind, STET_KIND_REPLY); /* it was answered before */
    assert_int_equal(rig_count_kind(r, STET_KIND_ACK), 0);
    assert_int_equal(version(r), before);
    stet_store_memory_full(r->store, false);
    rig_later(r, 1000);
    rig_request(r, 100, "drafter.document.put", body_of(0));
    rig_round(r);
    assert_int_equal(version(r), before + 1);
    rig_free(r);
}

static void acknowledge(rig *r, uint64_t sequence) {
    stet_envelope envelope = {.kind = STET_KIND_ACK,
                              .id = rig_id(1),
                              .command = STET_STR("alerts.raise"),
                              .service = STET_STR("alerts"),
                              .epoch = 1,
                              .sequence = sequence};
    rig_message(r, &envelope, NULL);
    rig_round(r);
}

static void nothing_is_sent_or_taken_back_by_a_head_that_cannot_be_read(void **state) {
    rig *r = rig_new();
    (void)state;
    stet_error e;
    with_rows(r);
    uint64_t before = version(r);
    damage(r, STET_TABLE_OUTBOX_HEADS, 0);
    rig_request(r, 100, "drafter.document.put", body_of(2)); /* sends */
    rig_request(r, 101, "drafter.stats", "{}");
    rig_round(r);
    for (uint32_t n = 100; n <= 101; n++) {
        stet_error_decode(rig_body(r, rig_answer(r, n)), &e);
        assert_int_equal(e.code, STET_INTERNAL);
    }
    assert_int_equal(version(r), before);
    size_t logged = r->errors_logged;
    acknowledge(r, 3);
    assert_int_equal(r->errors_logged, logged + 1);
    (void)nth_key(r, STET_TABLE_OUTBOX, 2); /* all three messages are there */
    rig_free(r);
}

static void a_channel_whose_next_message_is_damaged_stops_and_the_rest_goes_on(void **state) {
    (void)state;
    for (int missing = 0; missing <= 1; missing++) {
        rig *r = rig_new();
        r->line_down = true;
        with_rows(r);
        if (missing) {
            stet_key key = nth_key(r, STET_TABLE_OUTBOX, 1);
            stet_batch_delete(stet_store_batch(r->store), stet_key_bytes(&key));
            rig_round(r);
        } else {
            damage(r, STET_TABLE_OUTBOX, 1);
        }
        rig_crash(r);
        r->line_down = false;
        for (int i = 0; i < 100; i++) {
            rig_later(r, 200);
            if (i == 50)
                acknowledge(r, 1);
            rig_round(r);
        }
        for (size_t i = 0; i < r->sent_count; i++) {
            stet_envelope envelope = rig_envelope(r, i);
            assert_true(envelope.kind != STET_KIND_SEND || envelope.sequence == 1);
        }
        assert_int_equal(r->errors_logged, 1); /* said once */
        uint64_t before = version(r);
        rig_request(r, 100, "drafter.document.put", body_of(0));
        rig_round(r);
        assert_int_equal(version(r), before + 1);
        rig_free(r);
    }
}

/* Seconds pass, with time for whole passes of the sweep. */
static void minutes(rig *r, int count) {
    for (int i = 0; i < count * 4; i++) {
        rig_later(r, 15000);
        rig_round(r);
    }
}

static uint64_t repeated_version(rig *r) {
    rig_forget(r);
    rig_request(r, 1, "drafter.document.put", body_of(0));
    rig_round(r);
    return stet_mp_get_uint(rig_body(r, rig_answer(r, 1)), "version", 0);
}

static void a_clock_that_is_set_forward_takes_nothing_away_early(void **state) {
    const int64_t year_ms = INT64_C(365) * 24 * 3600 * 1000;
    rig *r = rig_new();
    (void)state;
    r->wall_ms -=
        year_ms; /* what is written now will look a year old, and no clock will have been wrong for long */
    rig_later(r, 0);
    rig_request(r, 1, "drafter.document.put", body_of(0));
    rig_round(r);
    r->wall_ms += year_ms;
    minutes(r, 5);
    assert_int_equal(repeated_version(r), 1);
    rig_crash(r);
    minutes(r, 5);
    r->wall_ms += year_ms;
    rig_crash(r);
    minutes(r, 5);
    assert_int_equal(repeated_version(r), 1);
    assert_int_equal(rig_counter(r, "duplicates.swept"), 0);
    for (int i = 0; i < 24; i++) {
        rig_later(r, 3600 * 1000);
        minutes(r, 1);
    }
    rig_forget(r);
    assert_int_equal(rig_counter(r, "duplicates.swept"), 1); /* old by every clock */
    rig_free(r);
}

/* The next attempt makes a call of its own: never two for one job. */
static void when_the_actor_fails_on_a_piece_of_an_answer_the_call_is_taken_back(void **state) {
    rig *r = rig_new();
    (void)state;
    rig_job_active(rig_id(900), 1);
    stet_http_data data = {.ref = {rig_id(900), 1, 1}, .status = 500, .bytes = STET_STR("x")};
    stet_core_call_data(r->core, &data);
    rig_round(r);
    assert_int_equal(rig_job_failures(), 1);
    assert_int_equal(r->cancels_count, 1);
    assert_true(stet_id_equal(r->cancels[0].job_id, rig_id(900)));
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_at_any_commit_loses_and_doubles_no_acknowledged_request),
        cmocka_unit_test(after_a_commit_that_is_not_ok_nothing_is_released),
        cmocka_unit_test(after_a_read_that_failed_nothing_is_committed_or_released),
        cmocka_unit_test(the_check_finds_a_row_that_is_missing),
        cmocka_unit_test(the_check_finds_a_row_that_cannot_be_read),
        cmocka_unit_test(the_check_finds_rows_that_nothing_justifies),
        cmocka_unit_test(a_damaged_row_is_an_internal_error_and_not_a_crash),
        cmocka_unit_test(an_answer_that_cannot_be_read_is_no_reason_to_apply_the_request_again),
        cmocka_unit_test(on_a_full_disk_reads_are_answered_and_writes_come_back),
        cmocka_unit_test(a_message_whose_mark_cannot_be_read_stays_with_its_sender),
        cmocka_unit_test(nothing_is_sent_or_taken_back_by_a_head_that_cannot_be_read),
        cmocka_unit_test(a_channel_whose_next_message_is_damaged_stops_and_the_rest_goes_on),
        cmocka_unit_test(a_clock_that_is_set_forward_takes_nothing_away_early),
        cmocka_unit_test(when_the_actor_fails_on_a_piece_of_an_answer_the_call_is_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
