/* What was promised about background drafting, row by row: the row's id begins the test's name. */
#include "tests/unit/drafter_fixture.h"

#include <stdio.h>
#include <stdlib.h>

static const char *text_of(stet_id id) {
    static char text[STET_ID_TEXT_SIZE];
    stet_id_text(id, text);
    return text;
}

static bool is_prefix(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The JSON of a published event. */
static const char *event_json(const rig *r, size_t index) {
    static const char prefix[] = "TOOL_PROGRESS::";
    assert_true(index < r->events.count);
    assert_true(is_prefix(r->events.line[index], prefix));
    return r->events.line[index] + sizeof(prefix) - 1;
}

static void fail_call(rig *r) {
    rig_call_end(r, rig_open_call(r), 401, STET_HTTP_NONE, -1);
}

/* ---- submit, queue, events ---- */

static void d01_submit_is_answered_before_the_model_is(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    assert_string_equal(rig_get(&r, "status"), "queued");
    assert_string_equal(rig_get(&r, "position"), "0");
    assert_string_equal(rig_get(&r, "existing"), "false");
    assert_int_equal(rig_open_calls(&r), 1);
    assert_string_equal(rig_job(&r, id, "status"), "active");
}

static void d02_each_job_is_one_stored_record_that_survives_a_crash(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_land(&r, "# One", "Wrote one");
    rig_crash(&r);
    assert_string_equal(rig_job(&r, id, "status"), "done");
    assert_string_equal(rig_job(&r, id, "projectId"), "p1");
    assert_string_equal(rig_job(&r, id, "instruction"), "Write.");
    assert_true(rig_ask(&r, "drafter.list", "{}"));
    assert_string_equal(rig_get(&r, "jobs.0.jobId"), text_of(id));
    assert_string_equal(rig_get(&r, "jobs.1"), "(none)");
}

static void d03_d12_every_status_is_published_and_kept_word_for_word(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_land(&r, "# One", "Wrote one");
    static const char *const statuses[] = {"queued", "active", "done"};
    assert_int_equal(r.events.count, 3);
    assert_true(rig_ask(&r, "drafter.events", "{\"sessionId\":\"s1\"}"));
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        char path[32];
        const char *json = event_json(&r, i);
        assert_string_equal(r.topics.line[i], "TOOL_PROGRESS/s1");
        assert_string_equal(rig_json_get(json, "status"), statuses[i]);
        assert_string_equal(rig_json_get(json, "jobId"), text_of(id));
        assert_string_equal(rig_json_get(json, "kind"), "draft");
        assert_string_equal(rig_json_get(json, "projectId"), "p1");
        (void)snprintf(path, sizeof(path), "events.%zu", i);
        assert_string_equal(rig_get(&r, path), json);
    }
    assert_string_equal(rig_json_get(event_json(&r, 2), "documentVersion"), "1");
    assert_string_equal(rig_json_get(event_json(&r, 2), "generatedSummary"), "Wrote one");
}

static void d04_other_requests_are_answered_while_a_job_runs(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    rig_submit(&r, "p1", "s1");
    for (int i = 0; i < 50; i++)
        assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "active.status"), "active");
    assert_int_equal(rig_open_calls(&r), 1);
}

static void d05_the_edit_lands_in_the_document(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    assert_false(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
    rig_land(&r, "# One\n\ntext", "Wrote one");
    assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "markdown"), "# One\n\ntext");
    assert_string_equal(rig_get(&r, "version"), "1");
    assert_string_equal(rig_get(&r, "author"), "drafter");
    assert_string_equal(rig_get(&r, "jobId"), text_of(id));
    assert_string_equal(rig_job(&r, id, "documentVersion"), "1");
    assert_string_equal(rig_job(&r, id, "model"), "model-x-1");
    assert_string_equal(rig_job(&r, id, "usage.promptTokens"), "1000");
}

static void d06_d07_queue_takes_a_project_and_shows_its_active_job(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    assert_false(rig_ask(&r, "drafter.queue", "{}"));
    assert_string_equal(rig_get(&r, "field"), "projectId");
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_submit(&r, "p1", "s1");
    rig_submit(&r, "p2", "s1");
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "active.jobId"), text_of(id));
    assert_string_equal(rig_get(&r, "counts.active"), "1");
    assert_string_equal(rig_get(&r, "counts.queued"), "1");
    rig_land(&r, "# B", "b");
    rig_land(&r, "# A", "a");
    rig_land(&r, "# A2", "a2");
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "active"), "null");
    assert_string_equal(rig_get(&r, "counts.done"), "2");
    assert_int_equal(rig_check_problems(&r), 0);
}

static void d08_d10_queue_returns_the_last_five_jobs_newest_first(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    stet_id ids[7];
    rig_start(&r, NULL);
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        ids[i] = rig_submit(&r, "p1", "s1");
        rig_submit(&r, "other", "s1");
        rig_pass(&r, 5);
    }
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    for (size_t i = 0; i < 5; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "recent.%zu.jobId", i);
        assert_string_equal(rig_get(&r, path), text_of(ids[6 - i]));
    }
    assert_string_equal(rig_get(&r, "recent.5"), "(none)");
}

static void d09_queue_has_the_transcript_snapshot(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    assert_true(rig_ask(&r, "drafter.transcript.append",
                        "{\"projectId\":\"p1\",\"items\":[{\"id\":\"m1\",\"role\":\"user\",\"text\":\"hi\","
                        "\"timestamp\":\"2026-11-01T10:00:00Z\"}]}"));
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "transcript.items"), "1");
    assert_string_equal(rig_get(&r, "transcript.lastItemId"), "m1");
    assert_string_equal(rig_get(&r, "transcript.lastAt"), "2026-11-01T10:00:00.000Z");
    assert_true(is_prefix(rig_get(&r, "transcript.snapshotAt"), "2026-"));
}

static void d10_an_unknown_project_gives_an_empty_well_formed_answer(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"nobody\"}"));
    assert_string_equal(rig_get(&r, "active"), "null");
    assert_string_equal(rig_get(&r, "recent"), "[]");
    assert_string_equal(rig_get(&r, "counts.error"), "0");
    assert_string_equal(rig_get(&r, "transcript"),
                        "{\"items\":0,\"lastItemId\":null,\"lastAt\":null,\"snapshotAt\":null}");
}

static void d11_the_latest_event_is_kept_and_can_be_fetched(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    rig_submit(&r, "p1", "s1");
    rig_land(&r, "# One", "Wrote one");
    rig_crash(&r);
    assert_true(rig_ask(&r, "drafter.events", "{\"sessionId\":\"s1\",\"afterSeq\":2}"));
    assert_string_equal(rig_json_get(rig_get(&r, "events.0"), "status"), "done");
    assert_string_equal(rig_get(&r, "lastSeq"), "3");
}

/* ---- metrics ---- */

static size_t metrics_with(const rig *r, const char *status) {
    char text[64];
    (void)snprintf(text, sizeof(text), "\"status\":\"%s\"", status);
    size_t count = 0;
    for (size_t i = 0; i < r->sends.count; i++)
        count += is_prefix(r->sends.line[i], "metrics.record ") && strstr(r->sends.line[i], text) ? 1 : 0;
    return count;
}

static void d13_every_job_write_sends_one_metric(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    rig_submit(&r, "p1", "s1");
    rig_land(&r, "# One", "Wrote one");
    /* New; started; call noted; call's end noted; done. */
    assert_int_equal(metrics_with(&r, "queued"), 1);
    assert_int_equal(metrics_with(&r, "active"), 3);
    assert_int_equal(metrics_with(&r, "done"), 1);
    assert_int_equal(rig_count(&r.sends, "metrics.record"), 5);
    assert_true(rig_ask(&r, "drafter.stats", "{}"));
    const char *done = rig_last(&r.sends);
    assert_non_null(strstr(done, "\"name\":\"draft.job\""));
    assert_non_null(strstr(done, "\"projectId\":\"p1\""));
    assert_non_null(strstr(done, "\"attempt\":1"));
    assert_non_null(strstr(done, "\"durationMs\":"));
    assert_non_null(strstr(done, "\"promptTokens\":1000"));
}

static void d14_d15_metrics_go_to_the_log_only_without_a_sink(void **state) {
    (void)state;
    static const char *const set[] = {"metrics.draftEndpoint", "http://127.0.0.1:9/m", NULL};
    for (int with_sink = 0; with_sink <= 1; with_sink++) {
        CLEANUP(rig_done) rig r;
        rig_start(&r, with_sink ? set : NULL);
        rig_submit(&r, "p1", "s1");
        rig_land(&r, "# One", "Wrote one");
        assert_int_equal(rig_count(&r.logs, "record info draft.metric"), with_sink ? 0 : 5);
        assert_int_equal(rig_count(&r.sends, "metrics.record"), 5);
    }
}

static void d16_a_sink_that_takes_nothing_never_delays_a_job(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    r.silent = true;
    for (int i = 0; i < 100; i++) {
        rig_submit(&r, "p1", "s1");
        rig_land(&r, "# One", "Wrote one");
        r.calls_count = 0;
        for (size_t k = 0; k < 1; k++) {
            stet_buf_done(&r.calls[k].url);
            stet_buf_done(&r.calls[k].headers);
            stet_buf_done(&r.calls[k].body);
        }
    }
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "counts.done"), "100");
}

/* ---- drains ---- */

static size_t drained(rig *r) {
    size_t count = 0;
    char path[32];
    for (;; count++) {
        (void)snprintf(path, sizeof(path), "drained.%zu.jobId", count);
        if (strcmp(rig_get(r, path), "(none)") == 0)
            return count;
    }
}

static void check_drain(const char *body, size_t expected) {
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"drafter.concurrency", "32", NULL});
    assert_true(rig_ask(&r, "drafter.pause", "{}"));
    assert_string_equal(rig_get(&r, "paused"), "true");
    for (int i = 0; i < 14; i++) {
        char project[16];
        (void)snprintf(project, sizeof(project), "p%d", i);
        rig_submit(&r, project, "s1");
        assert_string_equal(rig_get(&r, "status"), "queued");
    }
    assert_int_equal(rig_open_calls(&r), 0);
    assert_true(rig_ask(&r, "drafter.drain", "%s", body));
    assert_int_equal(drained(&r), expected);
    char waiting[16];
    (void)snprintf(waiting, sizeof(waiting), "%zu", 14 - expected);
    assert_string_equal(rig_get(&r, "waiting"), waiting);
    assert_int_equal(rig_open_calls(&r), expected);
}

static void d17_d20_drain_runs_as_many_jobs_as_the_limit_says(void **state) {
    (void)state;
    check_drain("{\"limit\":5}", 5);
    check_drain("{\"limit\":1}", 1);
    check_drain("{\"limit\":10}", 10);
}

static void d18_drain_without_a_limit_runs_three(void **state) {
    (void)state;
    check_drain("{}", 3);
}

static void d19_drain_never_runs_more_than_ten(void **state) {
    (void)state;
    check_drain("{\"limit\":11}", 10);
    check_drain("{\"limit\":10000}", 10);
}

static void d21_drain_refuses_zero_negative_and_words(void **state) {
    (void)state;
    static const char *const bodies[] = {"{\"limit\":0}", "{\"limit\":-1}", "{\"limit\":\"five\"}",
                                         "{\"limit\":1.5}"};
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        assert_false(rig_ask(&r, "drafter.drain", "%s", bodies[i]));
        assert_string_equal(rig_get(&r, "code"), "invalid");
        assert_string_equal(rig_get(&r, "field"), "limit");
        assert_true(strlen(rig_get(&r, "message")) > 10);
    }
}

/* ---- attempts ---- */

static void unusable(rig *r) {
    char *stream = rig_stream(" ", "nothing");
    rig_call_answer(r, rig_open_call(r), 200, stream, strlen(stream));
    free(stream);
}

static void d22_a_drained_job_waits_no_longer_but_its_attempts_count(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    for (int attempt = 1; attempt <= 3; attempt++) {
        unusable(&r);
        if (attempt < 3) {
            assert_string_equal(rig_job(&r, id, "status"), "delayed");
            assert_true(rig_ask(&r, "drafter.drain", "{}"));
            assert_int_equal(drained(&r), 1);
        }
    }
    assert_string_equal(rig_job(&r, id, "status"), "error");
    assert_true(rig_ask(&r, "drafter.drain", "{}"));
    assert_int_equal(drained(&r), 0);
    rig_pass(&r, 3600000);
    assert_int_equal(r.calls_count, 3);
}

static void d23_d24_a_failed_job_is_tried_three_times_and_then_is_in_error(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    for (int attempt = 1; attempt <= 3; attempt++) {
        assert_int_equal(r.calls_count, attempt);
        unusable(&r);
        assert_string_equal(rig_job(&r, id, "status"), attempt < 3 ? "delayed" : "error");
        rig_pass(&r, 120000);
    }
    assert_int_equal(r.calls_count, 3);
    assert_string_equal(rig_job(&r, id, "error.code"), "invalid_output");
    assert_int_equal(rig_count(&r.events, "\"status\":\"delayed\""), 2);
    assert_int_equal(rig_count(&r.sends, "alerts.raise"), 1);
    rig_pass(&r, 86400000);
    assert_int_equal(r.calls_count, 3);
}

static void d24_d34_an_operators_retry_starts_a_fresh_count_and_keeps_the_history(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    for (int attempt = 1; attempt <= 3; attempt++) {
        unusable(&r);
        rig_pass(&r, 120000);
    }
    assert_true(rig_ask(&r, "drafter.retry", "{\"jobId\":\"%s\"}", text_of(id)));
    assert_string_equal(rig_get(&r, "requeued"), "1");
    assert_int_equal(r.calls_count, 4);
    assert_string_equal(rig_job(&r, id, "attempt"), "1");
    assert_string_equal(rig_job(&r, id, "attemptTotal"), "4");
    rig_land(&r, "# One", "Wrote one");
    assert_string_equal(rig_job(&r, id, "status"), "done");
    assert_string_equal(rig_job(&r, id, "attempts.3.outcome"), "done");
    assert_string_equal(rig_job(&r, id, "attempts.0.error.code"), "invalid_output");
    assert_string_equal(rig_job(&r, id, "attempts.4"), "(none)");
}

static void d33_d34_failed_jobs_are_listed_and_retried_by_project_code_or_all(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    for (int i = 0; i < 3; i++) {
        rig_submit(&r, i == 0 ? "p1" : "p2", "s1");
        fail_call(&r);
    }
    assert_true(rig_ask(&r, "drafter.list", "{\"status\":\"error\"}"));
    assert_string_equal(rig_get(&r, "jobs.2.error.code"), "http_401");
    assert_string_equal(rig_get(&r, "jobs.3"), "(none)");
    assert_true(rig_ask(&r, "drafter.retry", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "requeued"), "1");
    assert_true(rig_ask(&r, "drafter.retry", "{\"errorCode\":\"quota\"}"));
    assert_string_equal(rig_get(&r, "requeued"), "0");
    assert_true(rig_ask(&r, "drafter.retry", "{\"all\":true,\"limit\":1}"));
    assert_string_equal(rig_get(&r, "requeued"), "1");
    assert_string_equal(rig_get(&r, "more"), "true");
    assert_false(rig_ask(&r, "drafter.retry", "{}"));
    assert_string_equal(rig_get(&r, "code"), "invalid");
    assert_false(rig_ask(&r, "drafter.retry", "{\"all\":false}"));
}

static void an_active_job_cannot_be_retried_and_an_unknown_one_is_not_found(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    assert_false(rig_ask(&r, "drafter.retry", "{\"jobId\":\"%s\"}", text_of(id)));
    assert_string_equal(rig_get(&r, "code"), "conflict");
    assert_false(rig_ask(&r, "drafter.job", "{\"jobId\":\"00000000-0000-7000-8000-000000000001\"}"));
    assert_string_equal(rig_get(&r, "code"), "not_found");
}

static void a_crash_counts_the_attempt_and_ends_in_error_with_an_alert(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    for (int life = 1; life <= 3; life++) {
        assert_int_equal(r.calls_count, life);
        rig_crash(&r);
        rig_pass(&r, 120000);
    }
    assert_string_equal(rig_job(&r, id, "status"), "error");
    assert_string_equal(rig_job(&r, id, "error.code"), "interrupted");
    assert_int_equal(r.calls_count, 3);
    assert_int_equal(rig_count(&r.sends, "alerts.raise"), 1);
    assert_int_equal(rig_check_problems(&r), 0);
}

/* ---- cancel, pause ---- */

static void f06_cancel_takes_the_call_back_and_frees_the_slot(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"drafter.concurrency", "1", NULL});
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_submit(&r, "p2", "s1");
    rig_call *call = rig_open_call(&r);
    rig_call_data(&r, call, 200, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n");
    assert_true(rig_ask(&r, "drafter.cancel", "{\"jobId\":\"%s\"}", text_of(id)));
    assert_string_equal(rig_get(&r, "status"), "cancelled");
    assert_true(call->cancelled);
    assert_int_equal(rig_open_calls(&r), 1);
    rig_call_end(&r, call, 200, STET_HTTP_NONE, -1);
    assert_string_equal(rig_job(&r, id, "status"), "cancelled");
    assert_int_equal(rig_count(&r.events, "\"status\":\"cancelled\""), 1);
    assert_false(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
}

static void f06_a_job_cancelled_between_two_calls_never_calls_again(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_call_end(&r, rig_open_call(&r), 500, STET_HTTP_NONE, -1);
    assert_string_equal(rig_job(&r, id, "status"), "active");
    assert_true(rig_ask(&r, "drafter.cancel", "{\"jobId\":\"%s\"}", text_of(id)));
    rig_pass(&r, 3600000);
    assert_int_equal(r.calls_count, 1);
}

static void a_paused_project_queues_and_a_resumed_one_runs(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    assert_true(rig_ask(&r, "drafter.pause", "{\"projectId\":\"p1\"}"));
    stet_id id = rig_submit(&r, "p1", "s1");
    assert_string_equal(rig_get(&r, "status"), "queued");
    rig_submit(&r, "p2", "s1");
    assert_int_equal(rig_open_calls(&r), 1);
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "paused"), "true");
    assert_true(rig_ask(&r, "drafter.resume", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "paused"), "false");
    assert_int_equal(rig_open_calls(&r), 2);
    assert_string_equal(rig_job(&r, id, "status"), "active");
}

static void a_repeated_submit_with_the_same_id_makes_one_job(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id request = stet_id_next(&r.ids, r.wall_ms);
    char first[STET_ID_TEXT_SIZE];
    for (int i = 0; i < 3; i++) {
        assert_true(rig_ask_as(&r, request, "drafter.submit", "{\"projectId\":\"p1\",\"sessionId\":\"s1\"}"));
        if (i == 0)
            (void)snprintf(first, sizeof(first), "%s", rig_get(&r, "jobId"));
        assert_string_equal(rig_get(&r, "jobId"), first);
        rig_crash(&r);
    }
    assert_true(rig_ask(&r, "drafter.list", "{}"));
    assert_string_equal(rig_get(&r, "jobs.1"), "(none)");
}

static void a_dedup_key_answers_the_waiting_job(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    char first[STET_ID_TEXT_SIZE];
    assert_true(rig_ask(&r, "drafter.pause", "{}"));
    assert_true(
        rig_ask(&r, "drafter.submit", "{\"projectId\":\"p1\",\"sessionId\":\"s1\",\"dedupKey\":\"k\"}"));
    (void)snprintf(first, sizeof(first), "%s", rig_get(&r, "jobId"));
    assert_true(
        rig_ask(&r, "drafter.submit", "{\"projectId\":\"p1\",\"sessionId\":\"s1\",\"dedupKey\":\"k\"}"));
    assert_string_equal(rig_get(&r, "jobId"), first);
    assert_string_equal(rig_get(&r, "existing"), "true");
}

static void d25_progress_is_told_at_the_configured_pace(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"drafter.progressEvery", "500ms", NULL});
    rig_submit(&r, "p1", "s1");
    rig_call *call = rig_open_call(&r);
    for (int i = 0; i < 40; i++) {
        rig_call_data(&r, call, 200,
                      "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"0123456789\"}}]}\n\n");
        rig_pass(&r, 50);
    }
    assert_in_range(rig_count(&r.events, "\"status\":\"progress\""), 3, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(d01_submit_is_answered_before_the_model_is),
        cmocka_unit_test(d02_each_job_is_one_stored_record_that_survives_a_crash),
        cmocka_unit_test(d03_d12_every_status_is_published_and_kept_word_for_word),
        cmocka_unit_test(d04_other_requests_are_answered_while_a_job_runs),
        cmocka_unit_test(d05_the_edit_lands_in_the_document),
        cmocka_unit_test(d06_d07_queue_takes_a_project_and_shows_its_active_job),
        cmocka_unit_test(d08_d10_queue_returns_the_last_five_jobs_newest_first),
        cmocka_unit_test(d09_queue_has_the_transcript_snapshot),
        cmocka_unit_test(d10_an_unknown_project_gives_an_empty_well_formed_answer),
        cmocka_unit_test(d11_the_latest_event_is_kept_and_can_be_fetched),
        cmocka_unit_test(d13_every_job_write_sends_one_metric),
        cmocka_unit_test(d14_d15_metrics_go_to_the_log_only_without_a_sink),
        cmocka_unit_test(d16_a_sink_that_takes_nothing_never_delays_a_job),
        cmocka_unit_test(d17_d20_drain_runs_as_many_jobs_as_the_limit_says),
        cmocka_unit_test(d18_drain_without_a_limit_runs_three),
        cmocka_unit_test(d19_drain_never_runs_more_than_ten),
        cmocka_unit_test(d21_drain_refuses_zero_negative_and_words),
        cmocka_unit_test(d22_a_drained_job_waits_no_longer_but_its_attempts_count),
        cmocka_unit_test(d23_d24_a_failed_job_is_tried_three_times_and_then_is_in_error),
        cmocka_unit_test(d24_d34_an_operators_retry_starts_a_fresh_count_and_keeps_the_history),
        cmocka_unit_test(d33_d34_failed_jobs_are_listed_and_retried_by_project_code_or_all),
        cmocka_unit_test(an_active_job_cannot_be_retried_and_an_unknown_one_is_not_found),
        cmocka_unit_test(a_crash_counts_the_attempt_and_ends_in_error_with_an_alert),
        cmocka_unit_test(f06_cancel_takes_the_call_back_and_frees_the_slot),
        cmocka_unit_test(f06_a_job_cancelled_between_two_calls_never_calls_again),
        cmocka_unit_test(a_paused_project_queues_and_a_resumed_one_runs),
        cmocka_unit_test(a_repeated_submit_with_the_same_id_makes_one_job),
        cmocka_unit_test(a_dedup_key_answers_the_waiting_job),
        cmocka_unit_test(d25_progress_is_told_at_the_configured_pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
