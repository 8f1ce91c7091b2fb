/* The model's answers: what is read out of them and what each failure means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "actors/drafter/verdict.h"

#define CHUNK(delta, finish)                                                                                 \
    "data: {\"id\":\"c\",\"model\":\"model-x\",\"choices\":[{\"index\":0,\"delta\":" delta                   \
    ",\"finish_reason\":" finish "}]}\n\n"
#define TEXT(json_text) CHUNK("{\"content\":\"" json_text "\"}", "null")
#define STOP CHUNK("{}", "\"stop\"")
#define DONE "data: [DONE]\n\n"
#define USAGE                                                                                                \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13,"      \
    "\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\n"
#define GOOD TEXT("{\\\"markdown\\\":\\\"# Hi\\\",") TEXT("\\\"summary\\\":\\\"Said hi\\\"}") STOP USAGE DONE

typedef struct judged {
    drafter_answer *answer;
    drafter_outcome outcome;
} judged;

static void judged_done(judged *j) {
    j->answer = drafter_answer_free(j->answer);
}

static stet_config *config_of(const char *key, const char *statuses) {
    stet_config *config;
    stet_error e;
    assert_int_equal(stet_config_load(NULL, &config, &e), STET_OK);
    if (key)
        assert_int_equal(stet_config_set(config, STET_SETTING_openai_api_key, key, &e), STET_OK);
    if (statuses)
        assert_int_equal(stet_config_set(config, STET_SETTING_drafter_retry_statuses, statuses, &e), STET_OK);
    return config;
}

static judged judge_as(const char *body, uint32_t status, stet_http_failure failure, drafter_schema schema,
                       const char *statuses, size_t piece) {
    judged j = {.answer = drafter_answer_new()};
    assert_non_null(j.answer);
    size_t size = strlen(body);
    for (size_t at = 0; at < size; at += piece)
        drafter_answer_feed(j.answer, status,
                            stet_str_from(body + at, piece < size - at ? piece : size - at));
    drafter_answer_finish(j.answer);
    stet_http_result result = {.failure = failure, .status = status, .reason = "", .retry_after_ms = -1};
    stet_config *config = config_of("sk-secret-key", statuses);
    drafter_judge(j.answer, &result, config, schema, &j.outcome);
    (void)stet_config_free(config);
    return j;
}

static void check(const char *body, uint32_t status, drafter_verdict verdict, const char *code) {
    CLEANUP(judged_done) judged j = judge_as(body, status, STET_HTTP_NONE, DRAFTER_JSON_SCHEMA, NULL, 7);
    assert_string_equal(j.outcome.code, code);
    assert_int_equal(j.outcome.verdict, verdict);
    if (verdict != DRAFTER_LANDED)
        assert_true(j.outcome.message[0] != '\0');
}

static void check_output(drafter_schema schema, const char *content, const char *markdown,
                         const char *summary) {
    CLEANUP(stet_buf_done) stet_buf scratch = STET_BUF(1 << 20);
    drafter_output output;
    const char *reason = NULL;
    bool usable = drafter_output_parse(schema, stet_str_of(content), &scratch, &output, &reason);
    if (!markdown) {
        assert_false(usable);
        assert_non_null(reason);
        return;
    }
    assert_true(usable);
    assert_true(stet_str_is(output.markdown, markdown));
    assert_true(stet_str_is(output.summary, summary));
}

static void a_stream_gives_text_usage_and_model_for_any_split(void **state) {
    (void)state;
    for (size_t piece = 1; piece < 400; piece += 13) {
        CLEANUP(judged_done) judged j = judge_as(GOOD, 200, STET_HTTP_NONE, DRAFTER_JSON_SCHEMA, NULL, piece);
        assert_int_equal(j.outcome.verdict, DRAFTER_LANDED);
        assert_true(stet_str_is(j.outcome.output.markdown, "# Hi"));
        assert_true(stet_str_is(j.outcome.output.summary, "Said hi"));
        assert_string_equal(j.answer->model, "model-x");
        assert_true(j.answer->usage.known);
        assert_int_equal(j.answer->usage.prompt, 9);
        assert_int_equal(j.answer->usage.cached, 2);
        assert_int_equal(j.answer->usage.completion, 4);
    }
}

static void an_answer_of_a_server_that_ignores_stream_is_read(void **state) {
    (void)state;
    check(" {\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
          "\"{\\\"markdown\\\":\\\"x\\\",\\\"summary\\\":\\\"y\\\"}\",\"refusal\":null},\"finish_reason\":"
          "\"stop\"}],"
          "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}",
          200, DRAFTER_LANDED, "");
    check("{\"choices\":[{\"index\":0,\"message\":{\"content\":\"{\\\"markdown\\\"", 200, DRAFTER_AGAIN,
          "answer_lost");
}

static void chunks_without_choices_and_null_fields_are_harmless(void **state) {
    (void)state;
    check(": ping\n\ndata: {\"choices\":null,\"usage\":null}\n\ndata: {}\n\n"
          "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"}}]}\n\n" GOOD "data: junk\n\n",
          200, DRAFTER_LANDED, "");
}

static void statuses_are_classed(void **state) {
    (void)state;
    check("{\"error\":{\"message\":\"bad\",\"type\":\"invalid_request_error\"}}", 400, DRAFTER_FINAL,
          "http_400");
    check("{\"error\":{\"message\":\"no\",\"code\":\"invalid_api_key\"}}", 401, DRAFTER_FINAL, "http_401");
    check("", 403, DRAFTER_FINAL, "http_403");
    check("<html>", 404, DRAFTER_FINAL, "http_404");
    check("", 302, DRAFTER_FINAL, "http_302");
    check("", 204, DRAFTER_FINAL, "http_204");
    check("", 408, DRAFTER_AGAIN, "http_408");
    check("{\"error\":\"text\"}", 500, DRAFTER_AGAIN, "http_500");
    check("{\"object\":\"error\",\"message\":\"m\",\"code\":503}", 503, DRAFTER_AGAIN, "http_503");
    check("", 501, DRAFTER_FINAL, "http_501");
}

static void a_rate_limit_is_tried_again_and_a_quota_is_not(void **state) {
    (void)state;
    check("{\"error\":{\"message\":\"slow\",\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}", 429,
          DRAFTER_AGAIN, "rate_limited");
    check("", 429, DRAFTER_AGAIN, "http_429");
    check("{\"error\":{\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}", 429, DRAFTER_FINAL,
          "quota");
    check("{\"error\":{\"type\":\"requests\",\"code\":\"project_spend_limit_exceeded\"}}", 429, DRAFTER_FINAL,
          "quota");
    check("{\"error\":{\"type\":\"budget_exceeded\",\"code\":\"400\"}}", 400, DRAFTER_FINAL, "quota");
}

static void an_empty_list_of_statuses_tries_nothing_again(void **state) {
    (void)state;
    static const uint32_t statuses[] = {408, 429, 500, 503};
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        CLEANUP(judged_done) judged j = judge_as("", statuses[i], STET_HTTP_NONE, DRAFTER_JSON_SCHEMA, "", 7);
        assert_int_equal(j.outcome.verdict, DRAFTER_FINAL);
    }
}

static void transport_failures_are_classed(void **state) {
    (void)state;
    static const struct {
        stet_http_failure failure;
        drafter_verdict verdict;
        const char *code;
    } rows[] = {
        {STET_HTTP_CONNECT, DRAFTER_AGAIN, "connect_failed"},
        {STET_HTTP_LOST, DRAFTER_AGAIN, "answer_lost"},
        {STET_HTTP_TIMEOUT, DRAFTER_AGAIN, "timeout"},
        {STET_HTTP_TOO_LARGE, DRAFTER_FINAL, "answer_too_large"},
        {STET_HTTP_REFUSED, DRAFTER_FINAL, "url_refused"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(judged_done)
        judged j = judge_as(TEXT("half"), 200, rows[i].failure, DRAFTER_JSON_SCHEMA, NULL, 50);
        assert_string_equal(j.outcome.code, rows[i].code);
        assert_int_equal(j.outcome.verdict, rows[i].verdict);
    }
}

static void a_stream_without_its_end_is_a_lost_answer(void **state) {
    (void)state;
    check(TEXT("{\\\"markdown\\\":\\\"half"), 200, DRAFTER_AGAIN, "answer_lost");
    check(TEXT("{}") STOP, 200, DRAFTER_AGAIN, "answer_lost");
    check("", 200, DRAFTER_AGAIN, "answer_lost");
    check("<html>busy</html>", 200, DRAFTER_AGAIN, "answer_lost");
    check("data: {\"choices\":[\n\n" DONE, 200, DRAFTER_AGAIN, "answer_lost");
}

static void errors_inside_a_stream_are_classed_like_statuses(void **state) {
    (void)state;
    check(TEXT("a") "data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\"}}\n\n" DONE, 200,
          DRAFTER_AGAIN, "http_500");
    check("event: error\ndata: {\"message\":\"boom\",\"code\":503}\n\n", 200, DRAFTER_AGAIN, "http_503");
    check("data: {\"error\":{\"code\":\"429\",\"type\":\"throttling_error\"}}\n\n", 200, DRAFTER_AGAIN,
          "rate_limited");
    check("data: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n", 200, DRAFTER_FINAL, "quota");
    check("data: {\"error\":{\"type\":\"invalid_request_error\"}}\n\n", 200, DRAFTER_FINAL, "http_400");
}

static void refusal_filter_and_cut_output_are_final(void **state) {
    (void)state;
    check(CHUNK("{\"refusal\":\"I cannot.\"}", "null") STOP DONE, 200, DRAFTER_FINAL, "refused_by_model");
    check(CHUNK("{}", "\"content_filter\"") DONE, 200, DRAFTER_FINAL, "refused_by_model");
    check(TEXT("{\\\"markdown\\\":\\\"a\\\",\\\"summary\\\":\\\"b\\\"}") CHUNK("{}", "\"length\"") DONE, 200,
          DRAFTER_FINAL, "output_cut");
}

static void unusable_output_fails_the_attempt_only(void **state) {
    (void)state;
    check(TEXT("Sure, here it is!") STOP DONE, 200, DRAFTER_UNUSABLE, "invalid_output");
    check(TEXT("{\\\"text\\\":\\\"x\\\"}") STOP DONE, 200, DRAFTER_UNUSABLE, "invalid_output");
    check(STOP DONE, 200, DRAFTER_UNUSABLE, "invalid_output");
}

static void an_endless_answer_is_bounded(void **state) {
    (void)state;
    drafter_answer *answer = drafter_answer_new();
    CLEANUP(stet_buf_done) stet_buf piece = STET_BUF(1 << 16);
    stet_buf_append_str(&piece, STET_STR("data: {\"choices\":[{\"delta\":{\"content\":\""));
    for (int i = 0; i < 32000; i++)
        stet_buf_append_byte(&piece, 'x');
    stet_buf_append_str(&piece, STET_STR("\"}}]}\n\n"));
    for (int i = 0; i < 100; i++)
        drafter_answer_feed(answer, 200, stet_buf_str(&piece));
    assert_true(answer->too_large);
    assert_true(answer->content.size <= DRAFTER_CONTENT_MAX);
    (void)drafter_answer_free(answer);
}

static void usable_output_is_found_as_documented(void **state) {
    (void)state;
    check_output(DRAFTER_JSON_SCHEMA, "{\"markdown\":\"# A\",\"summary\":\"s\",\"more\":1}", "# A", "s");
    check_output(DRAFTER_JSON_SCHEMA, "\n```json\n{\"markdown\":\"# A\",\"summary\":\"s\"}\n```\n", "# A",
                 "s");
    check_output(DRAFTER_JSON_SCHEMA, "Here {it} is: {\"markdown\":\"a } b\",\"summary\":\"s\"} Enjoy!",
                 "a } b", "s");
    check_output(DRAFTER_JSON_SCHEMA, "{\"markdown\":\"# Title\\n\\ntext\",\"summary\":\"\"}",
                 "# Title\n\ntext", "Title");
    check_output(DRAFTER_JSON_SCHEMA, "{\"markdown\":\"# A\"}", NULL, NULL);
    check_output(DRAFTER_JSON_SCHEMA, "{\"markdown\":\" \\n\",\"summary\":\"s\"}", NULL, NULL);
    check_output(DRAFTER_JSON_SCHEMA, "{\"markdown\":5,\"summary\":\"s\"}", NULL, NULL);
    check_output(DRAFTER_JSON_SCHEMA, "# A\n\nplain markdown", NULL, NULL);
    check_output(DRAFTER_JSON_SCHEMA, "{\"markdown\":\"never closed", NULL, NULL);
    check_output(DRAFTER_JSON_SCHEMA, "[1]", NULL, NULL);
    check_output(DRAFTER_JSON_OBJECT, "{\"markdown\":\"## B\\nx\"}", "## B\nx", "B");
    check_output(DRAFTER_JSON_OBJECT, "{\"markdown\":\"## B\",\"summary\":7}", NULL, NULL);
    check_output(DRAFTER_PLAIN, "# C\n\nx\n", "# C\n\nx", "C");
    check_output(DRAFTER_PLAIN, "```markdown\n# C\nx\n```", "# C\nx", "C");
    check_output(DRAFTER_PLAIN, " \n ", NULL, NULL);
}

static void check_hides_key(const char *body, uint32_t status) {
    CLEANUP(judged_done)
    judged j = judge_as(body, status, STET_HTTP_NONE, DRAFTER_JSON_SCHEMA, NULL, 9);
    assert_null(strstr(j.outcome.message, "sk-secre"));
    assert_non_null(strstr(j.outcome.message, "hidden"));
}

static void a_message_never_holds_the_key(void **state) {
    (void)state;
    check_hides_key("{\"error\":{\"message\":\"Incorrect key sk-secret-key\"}}", 401);
    check_hides_key("{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"Key sk-secret-key\"}}", 429);
    check_hides_key(CHUNK("{\"refusal\":\"Not with sk-secret-key!\"}", "null") DONE, 200);
}

static void a_message_that_was_cut_within_the_key_is_hidden_too(void **state) {
    (void)state;
    char body[512];
    for (int before = 147; before <= 151; before++) { /* of 159 bytes that are kept */
        (void)snprintf(body, sizeof body, "{\"error\":{\"message\":\"%0*d%s\"}}", before, 0, "sk-secret-key");
        check_hides_key(body, 401);
    }
}

static void d30_waits_double_obey_retry_after_and_stay_under_the_maximum(void **state) {
    (void)state;
    assert_int_equal(drafter_backoff_ms(1000, 60000, 1, -1, 0), 1000);
    assert_int_equal(drafter_backoff_ms(1000, 60000, 2, -1, 0), 2000);
    assert_int_equal(drafter_backoff_ms(1000, 60000, 3, -1, 0), 4000);
    assert_in_range(drafter_backoff_ms(1000, 60000, 1, -1, 123456789), 1000, 1250);
    assert_int_equal(drafter_backoff_ms(1000, 60000, 1, 7000, 0), 7000);
    assert_int_equal(drafter_backoff_ms(1000, 60000, 1, 700000, 0), 60000);
    assert_int_equal(drafter_backoff_ms(1000, 60000, 4000000000u, -1, 0), 60000);
    assert_int_equal(drafter_backoff_ms(0, 60000, 2, -1, 5), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_gives_text_usage_and_model_for_any_split),
        cmocka_unit_test(an_answer_of_a_server_that_ignores_stream_is_read),
        cmocka_unit_test(chunks_without_choices_and_null_fields_are_harmless),
        cmocka_unit_test(statuses_are_classed),
        cmocka_unit_test(a_rate_limit_is_tried_again_and_a_quota_is_not),
        cmocka_unit_test(an_empty_list_of_statuses_tries_nothing_again),
        cmocka_unit_test(transport_failures_are_classed),
        cmocka_unit_test(a_stream_without_its_end_is_a_lost_answer),
        cmocka_unit_test(errors_inside_a_stream_are_classed_like_statuses),
        cmocka_unit_test(refusal_filter_and_cut_output_are_final),
        cmocka_unit_test(unusable_output_fails_the_attempt_only),
        cmocka_unit_test(an_endless_answer_is_bounded),
        cmocka_unit_test(usable_output_is_found_as_documented),
        cmocka_unit_test(a_message_never_holds_the_key),
        cmocka_unit_test(a_message_that_was_cut_within_the_key_is_hidden_too),
        cmocka_unit_test(d30_waits_double_obey_retry_after_and_stay_under_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
