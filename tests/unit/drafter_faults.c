/* What each fault of the model's API does to a job (K1): how many calls, which end, which code, which alert.
 */
#include "tests/unit/drafter_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK(json_text)                                                                                     \
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" json_text "\"},\"finish_reason\":null}]}"   \
    "\n\n"
#define FINISH(reason) "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}\n\n"
#define DONE "data: [DONE]\n\n"

/* Every call of the job is answered like this. */
typedef struct fault {
    const char *name;
    uint32_t status;
    const char *body;
    stet_http_failure failure;
    size_t calls;     /* until the job has ended */
    const char *code; /* of the job's error */
    const char *severity;
} fault;

static const fault faults[] = {
    {"401", 401, "{\"error\":{\"message\":\"bad key\",\"code\":\"invalid_api_key\"}}", STET_HTTP_NONE, 1,
     "http_401", "critical"},
    {"400", 400, "{\"error\":{\"message\":\"bad\",\"type\":\"invalid_request_error\"}}", STET_HTTP_NONE, 1,
     "http_400", "warning"},
    {"404", 404, "{\"error\":\"no such model\"}", STET_HTTP_NONE, 1, "http_404", "critical"},
    {"429 rate", 429,
     "{\"error\":{\"message\":\"slow\",\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}",
     STET_HTTP_NONE, 3, "rate_limited", "warning"},
    {"429 quota", 429,
     "{\"error\":{\"message\":\"pay\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}",
     STET_HTTP_NONE, 1, "quota", "critical"},
    {"500", 500, "oops", STET_HTTP_NONE, 3, "http_500", "warning"},
    {"503", 503, "", STET_HTTP_NONE, 3, "http_503", "warning"},
    {"connect", 0, "", STET_HTTP_CONNECT, 3, "connect_failed", "warning"},
    {"reset", 0, "", STET_HTTP_LOST, 3, "answer_lost", "warning"},
    {"reset in the middle", 200, CHUNK("{\\\"mark"), STET_HTTP_LOST, 3, "answer_lost", "warning"},
    {"stall", 200, CHUNK("{\\\"mark"), STET_HTTP_TIMEOUT, 3, "timeout", "warning"},
    {"too large", 200, CHUNK("x"), STET_HTTP_TOO_LARGE, 1, "answer_too_large", "warning"},
    {"refused url", 0, "", STET_HTTP_REFUSED, 1, "url_refused", "critical"},
    {"half a stream", 200, CHUNK("{\\\"markdown\\\":\\\"half"), STET_HTTP_NONE, 3, "answer_lost", "warning"},
    {"page of html", 200, "<html>busy</html>", STET_HTTP_NONE, 3, "answer_lost", "warning"},
    {"error in the stream", 200, CHUNK("a") "data: {\"error\":{\"type\":\"server_error\"}}\n\n",
     STET_HTTP_NONE, 3, "http_500", "warning"},
    {"invalid JSON", 200, CHUNK("{\\\"markdown\\\":") FINISH("stop") DONE, STET_HTTP_NONE, 3,
     "invalid_output", "warning"},
    {"wrong schema", 200, CHUNK("{\\\"title\\\":\\\"x\\\"}") FINISH("stop") DONE, STET_HTTP_NONE, 3,
     "invalid_output", "warning"},
    {"refusal", 200,
     "data: {\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"No.\"},\"finish_reason\":null}]}\n\n" FINISH(
         "stop") DONE,
     STET_HTTP_NONE, 1, "refused_by_model", "warning"},
    {"length", 200, CHUNK("{\\\"markdown\\\":\\\"a\\\"") FINISH("length") DONE, STET_HTTP_NONE, 1,
     "output_cut", "warning"},
};

static const char *alert_of(const rig *r) {
    for (size_t i = 0; i < r->sends.count; i++) {
        if (strncmp(r->sends.line[i], "alerts.raise ", 13) == 0)
            return r->sends.line[i] + 13;
    }
    fail_msg("no alert was raised");
    return NULL;
}

static void answer_with(rig *r, const fault *f) {
    rig_call *call = rig_open_call(r);
    if (f->body[0] && f->status != 0)
        rig_call_data(r, call, f->status, f->body);
    if (call->open)
        rig_call_end(r, call, f->status, f->failure, -1);
}

static void check_fault(const fault *f) {
    CLEANUP(rig_done) rig r;
    char text[STET_ID_TEXT_SIZE];
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    stet_id_text(id, text);
    for (int i = 0; i < 20 && rig_open_calls(&r) > 0; i++) {
        answer_with(&r, f);
        rig_pass(&r, 120000);
    }
    assert_string_equal(rig_job(&r, id, "error.code"), f->code);
    assert_string_equal(rig_job(&r, id, "status"), "error");
    assert_true(strlen(rig_job(&r, id, "error.message")) > 30);
    assert_string_equal(rig_job(&r, id, "generatedSummary"), "(none)");
    assert_int_equal(r.calls_count, f->calls);
    assert_int_equal(rig_count(&r.sends, "alerts.raise"), 1);
    const char *alert = alert_of(&r);
    assert_string_equal(rig_json_get(alert, "rule"), "draft.error");
    assert_string_equal(rig_json_get(alert, "cause"), f->code);
    assert_string_equal(rig_json_get(alert, "severity"), f->severity);
    assert_string_equal(rig_json_get(alert, "fields.jobId"), text);
    assert_string_equal(rig_json_get(alert, "fields.projectId"), "p1");
    assert_string_equal(rig_json_get(alert, "fields.sessionId"), "s1");
    assert_string_equal(rig_json_get(alert, "fields.error.code"), f->code);
    const char *last = rig_last(&r.events) + strlen("TOOL_PROGRESS::");
    assert_string_equal(rig_json_get(last, "status"), "error");
    assert_string_equal(rig_json_get(last, "errorCode"), f->code);
    assert_false(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
    assert_int_equal(rig_check_problems(&r), 0);
}

static void d26_d29_d32_each_fault_ends_as_it_should_with_one_alert(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        check_fault(&faults[i]);
}

static void d29_d30_a_call_is_tried_three_times_with_growing_waits(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"drafter.callBackoff", "1s", NULL});
    stet_id id = rig_submit(&r, "p1", "s1");
    for (int i = 0; i < 2; i++) {
        rig_call_end(&r, rig_open_call(&r), 503, STET_HTTP_NONE, -1);
        assert_string_equal(rig_job(&r, id, "status"), "active");
        for (int step = 0; step < 10000 && rig_open_calls(&r) == 0; step++)
            rig_pass(&r, 10);
    }
    assert_int_equal(r.calls_count, 3);
    assert_in_range(r.calls[1].boot_ms - r.calls[0].boot_ms, 1000, 1300);
    assert_in_range(r.calls[2].boot_ms - r.calls[1].boot_ms, 2000, 2600);
    assert_int_equal(r.calls[2].ref.attempt, 1);
    rig_land(&r, "# One", "Wrote one");
    assert_string_equal(rig_job(&r, id, "status"), "done");
    assert_string_equal(rig_job(&r, id, "attempt"), "1");
    assert_string_equal(rig_job(&r, id, "attempts.0.detail.calls.0.code"), "http_503");
    assert_string_equal(rig_job(&r, id, "attempts.0.detail.calls.0.requestId"), "req-1");
    assert_string_equal(rig_job(&r, id, "attempts.0.detail.calls.2.outcome"), "ok");
    assert_int_equal(rig_count(&r.sends, "alerts.raise"), 0);
}

static void retry_after_is_obeyed_up_to_the_longest_wait(void **state) {
    (void)state;
    static const int64_t waits[] = {7000, 600000};
    for (size_t i = 0; i < COUNT_OF(waits); i++) {
        CLEANUP(rig_done) rig r;
        rig_start(&r, (const char *const[]){"drafter.callBackoff", "1s", "drafter.backoffMax", "60s", NULL});
        rig_submit(&r, "p1", "s1");
        rig_call_end(&r, rig_open_call(&r), 429, STET_HTTP_NONE, waits[i]);
        int64_t expected = waits[i] < 60000 ? waits[i] : 60000;
        rig_pass(&r, expected - 10);
        assert_int_equal(r.calls_count, 1);
        rig_pass(&r, 20);
        assert_int_equal(r.calls_count, 2);
    }
}

static void an_empty_list_of_statuses_gives_one_call(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"drafter.retryStatuses", "", NULL});
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_call_end(&r, rig_open_call(&r), 500, STET_HTTP_NONE, -1);
    assert_string_equal(rig_job(&r, id, "status"), "error");
    assert_int_equal(r.calls_count, 1);
}

static void d31_a_missing_key_fails_at_once_without_a_call(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"openai.apiKey", "", NULL});
    stet_id id = rig_submit(&r, "p1", "s1");
    assert_string_equal(rig_job(&r, id, "status"), "error");
    assert_string_equal(rig_job(&r, id, "error.code"), "missing_key");
    assert_int_equal(r.calls_count, 0);
    assert_string_equal(rig_json_get(alert_of(&r), "cause"), "missing_key");
    assert_true(rig_ask(&r, "drafter.health", "{}"));
    assert_string_equal(rig_get(&r, "status"), "red");
}

static void a_server_that_needs_no_key_gets_none(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"openai.apiKey", "", "openai.authOptional", "true", NULL});
    rig_submit(&r, "p1", "s1");
    rig_call *call = rig_open_call(&r);
    assert_null(strstr((const char *)call->headers.data, "Authorization"));
    rig_land(&r, "# One", "Wrote one");
    assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
}

static void the_call_is_what_the_api_wants(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"openai.baseUrl", "http://127.0.0.1:9/v1/", "openai.organization",
                                        "org-1", NULL});
    rig_submit(&r, "p1", "s1");
    rig_call *call = rig_open_call(&r);
    const char *body = (const char *)call->body.data;
    assert_string_equal((const char *)call->url.data, "POST http://127.0.0.1:9/v1/chat/completions");
    assert_non_null(strstr((const char *)call->headers.data, "Authorization: Bearer sk-test\n"));
    assert_non_null(strstr((const char *)call->headers.data, "OpenAI-Organization: org-1\n"));
    assert_string_equal(rig_json_get(body, "model"), "model-x");
    assert_string_equal(rig_json_get(body, "stream"), "true");
    assert_non_null(
        strstr(rig_json_get(body, "messages.1.content"), "<<<INSTRUCTION\nWrite.\nINSTRUCTION>>>"));
}

static void the_key_is_in_no_log_event_answer_or_message(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"openai.apiKey", "sk-very-secret", NULL});
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_call *call = rig_open_call(&r);
    rig_call_answer(&r, call, 401, "{\"error\":{\"message\":\"Incorrect API key sk-very-secret\"}}", 1000);
    assert_null(strstr(rig_job(&r, id, "error.message"), "sk-very-secret"));
    assert_null(strstr(rig_job(&r, id, "attempts"), "sk-very-secret"));
    assert_int_equal(rig_count(&r.logs, "sk-very-secret"), 0);
    assert_int_equal(rig_count(&r.events, "sk-very-secret"), 0);
    assert_int_equal(rig_count(&r.sends, "sk-very-secret"), 0);
}

static void an_endless_answer_is_taken_back_before_it_ends(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_call *call = rig_open_call(&r);
    char *piece = malloc(64 << 10);
    assert_non_null(piece);
    int at = snprintf(piece, 64 << 10, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
    memset(piece + at, 'x', 60000);
    (void)snprintf(piece + at + 60000, 64, "\"}}]}\n\n");
    for (int i = 0; i < 100 && call->open; i++)
        rig_call_data(&r, call, 200, piece);
    free(piece);
    assert_true(call->cancelled);
    assert_string_equal(rig_job(&r, id, "error.code"), "answer_too_large");
    assert_int_equal(r.calls_count, 1);
}

static void d27_d28_an_alert_is_logged_only_without_a_webhook(void **state) {
    (void)state;
    static const char *const set[] = {"alerts.draftWebhook", "http://127.0.0.1:9/hook", NULL};
    for (int with_webhook = 0; with_webhook <= 1; with_webhook++) {
        CLEANUP(rig_done) rig r;
        rig_start(&r, with_webhook ? set : NULL);
        stet_id id = rig_submit(&r, "p1", "s1");
        rig_call_end(&r, rig_open_call(&r), 401, STET_HTTP_NONE, -1);
        assert_int_equal(rig_count(&r.logs, "record error draft.alert"), with_webhook ? 0 : 1);
        assert_int_equal(rig_count(&r.sends, "alerts.raise"), 1);
        assert_string_equal(rig_job(&r, id, "status"), "error");
    }
}

static void a_fenced_answer_lands(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_call_answer(&r, rig_open_call(&r), 200,
                    CHUNK("```json\\n{\\\"markdown\\\":\\\"# F\\\",\\\"summary\\\":\\\"f\\\"}\\n```")
                        FINISH("stop") DONE,
                    11);
    assert_string_equal(rig_job(&r, id, "generatedSummary"), "f");
}

static void a_late_answer_of_an_earlier_call_changes_nothing(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_call *first = rig_open_call(&r);
    rig_call_end(&r, first, 500, STET_HTTP_NONE, -1);
    rig_pass(&r, 5000);
    assert_int_equal(r.calls_count, 2);
    char *stream = rig_stream("# Late", "late");
    rig_call_data(&r, first, 200, stream);
    rig_call_end(&r, first, 200, STET_HTTP_NONE, -1);
    free(stream);
    assert_string_equal(rig_job(&r, id, "status"), "active");
    rig_land(&r, "# Right", "right");
    assert_string_equal(rig_job(&r, id, "generatedSummary"), "right");
}

/* ---- money ---- */

static void cost_is_known_only_with_prices(void **state) {
    (void)state;
    static const char *const set[] = {"openai.priceIn", "0.40", "openai.priceOut", "1.60", NULL};
    for (int priced = 0; priced <= 1; priced++) {
        CLEANUP(rig_done) rig r;
        rig_start(&r, priced ? set : NULL);
        stet_id id = rig_submit(&r, "p1", "s1");
        rig_land(&r, "# One", "Wrote one");
        assert_string_equal(rig_job(&r, id, "costMicroUsd"), priced ? "560" : "(none)");
    }
}

/* ---- the document ---- */

static void put(rig *r, int base, const char *markdown) {
    if (!rig_ask(r, "drafter.document.put", "{\"projectId\":\"p1\",\"baseVersion\":%d,\"markdown\":\"%s\"}",
                 base, markdown))
        fail_msg("%s", rig_get(r, "message"));
}

static void an_edit_during_the_call_is_not_overwritten_and_the_draft_runs_again(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    put(&r, 0, "mine");
    stet_id id = rig_submit(&r, "p1", "s1");
    put(&r, 1, "mine, edited");
    rig_land(&r, "# On version 1", "old base");
    assert_int_equal(r.calls_count, 2);
    assert_non_null(strstr((const char *)r.calls[1].body.data, "mine, edited"));
    assert_string_equal(rig_job(&r, id, "attempts.0.error.code"), "document_conflict");
    rig_land(&r, "# On version 2", "new base");
    assert_string_equal(rig_job(&r, id, "status"), "done");
    assert_true(rig_ask(&r, "drafter.document.history", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "versions.0.author"), "drafter");
    assert_string_equal(rig_get(&r, "versions.1.author"), "user");
    assert_string_equal(rig_get(&r, "versions.3"), "(none)");
}

static void endless_edits_end_in_a_conflict_after_the_attempts(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    for (int i = 0; i < 3; i++) {
        put(&r, i, "edit");
        rig_land(&r, "# Late", "late");
    }
    assert_string_equal(rig_job(&r, id, "status"), "error");
    assert_string_equal(rig_job(&r, id, "error.code"), "document_conflict");
    assert_string_equal(rig_json_get(alert_of(&r), "cause"), "document_conflict");
    assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "version"), "3");
    assert_string_equal(rig_get(&r, "markdown"), "edit");
}

static void
d47_d48_the_summary_is_kept_after_success_replaced_by_the_next_and_absent_after_failure(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    stet_id id = rig_submit(&r, "p1", "s1");
    rig_call_end(&r, rig_open_call(&r), 401, STET_HTTP_NONE, -1);
    assert_string_equal(rig_job(&r, id, "generatedSummary"), "(none)");
    put(&r, 0, "start");
    assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "generatedSummary"), "(none)");
    static const char *const summaries[] = {"first", "second"};
    for (size_t i = 0; i < COUNT_OF(summaries); i++) {
        id = rig_submit(&r, "p1", "s1");
        rig_land(&r, "# Text", summaries[i]);
        assert_string_equal(rig_job(&r, id, "generatedSummary"), summaries[i]);
        assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
        assert_string_equal(rig_get(&r, "generatedSummary"), summaries[i]);
    }
    put(&r, 3, "edited");
    assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "generatedSummary"), "second");
    assert_int_equal(rig_check_problems(&r), 0);
}

/* ---- a turn that is too full ---- */

/* Goal: a result whose turn overflows is undone and handled again without losing or doubling what was
 * collected. Method: twelve answers of 500 KB end in one turn, which holds 4 MiB. */
static void many_large_answers_in_one_turn_all_land_whole(void **state) {
    (void)state;
    enum { JOBS = 12, SIZE = 500000 };
    CLEANUP(rig_done) rig r;
    stet_id ids[JOBS];
    char project[16];
    rig_start(&r, (const char *const[]){"drafter.concurrency", "32", "drafter.progressEvery", "0", NULL});
    char *markdown = malloc(SIZE + 1);
    assert_non_null(markdown);
    memset(markdown, 'x', SIZE);
    markdown[SIZE] = '\0';
    char *stream = rig_stream(markdown, "large");
    for (int i = 0; i < JOBS; i++) {
        (void)snprintf(project, sizeof(project), "p%d", i);
        ids[i] = rig_submit(&r, project, "s1");
    }
    assert_int_equal(rig_open_calls(&r), JOBS);
    size_t half = strlen(stream) / 2;
    for (int i = 0; i < JOBS; i++) {
        rig_call *call = &r.calls[i];
        stet_http_data data = {.ref = call->ref, .status = 200, .bytes = stet_str_from(stream, half)};
        stet_core_call_data(r.core, &data);
        data.bytes = stet_str_of(stream + half);
        stet_core_call_data(r.core, &data);
        stet_core_call_done(
            r.core, &(stet_http_result){.ref = call->ref, .status = 200, .reason = "", .retry_after_ms = -1});
        call->open = false;
    }
    rig_settle(&r);
    for (int i = 0; i < JOBS; i++) {
        assert_string_equal(rig_job(&r, ids[i], "status"), "done");
        assert_string_equal(rig_job(&r, ids[i], "attempt"), "1");
        (void)snprintf(project, sizeof(project), "p%d", i);
        assert_true(rig_ask(&r, "drafter.document.history", "{\"projectId\":\"%s\"}", project));
        assert_string_equal(rig_get(&r, "versions.0.size"), "500000");
    }
    assert_int_equal(r.calls_count, JOBS);
    assert_true(rig_ask(&r, "drafter.stats", "{}"));
    assert_non_null(strstr(rig_get(&r, ""), "messages.deferred"));
    free(stream);
    free(markdown);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(d26_d29_d32_each_fault_ends_as_it_should_with_one_alert),
        cmocka_unit_test(d29_d30_a_call_is_tried_three_times_with_growing_waits),
        cmocka_unit_test(retry_after_is_obeyed_up_to_the_longest_wait),
        cmocka_unit_test(an_empty_list_of_statuses_gives_one_call),
        cmocka_unit_test(d31_a_missing_key_fails_at_once_without_a_call),
        cmocka_unit_test(a_server_that_needs_no_key_gets_none),
        cmocka_unit_test(the_call_is_what_the_api_wants),
        cmocka_unit_test(the_key_is_in_no_log_event_answer_or_message),
        cmocka_unit_test(an_endless_answer_is_taken_back_before_it_ends),
        cmocka_unit_test(d27_d28_an_alert_is_logged_only_without_a_webhook),
        cmocka_unit_test(a_fenced_answer_lands),
        cmocka_unit_test(a_late_answer_of_an_earlier_call_changes_nothing),
        cmocka_unit_test(cost_is_known_only_with_prices),
        cmocka_unit_test(an_edit_during_the_call_is_not_overwritten_and_the_draft_runs_again),
        cmocka_unit_test(endless_edits_end_in_a_conflict_after_the_attempts),
        cmocka_unit_test(many_large_answers_in_one_turn_all_land_whole),
        cmocka_unit_test(
            d47_d48_the_summary_is_kept_after_success_replaced_by_the_next_and_absent_after_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
