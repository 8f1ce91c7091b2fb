#include "actors/drafter/verdict.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/wire/json.h"

enum { KEY_PART_SIZE = 8 /* shorter beginnings of a key are no secret */ };

/* ---- tables ---- */

/* type or code of an error that waiting does not cure: money or allowance is used up. */
static const char *const quota_names[] = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "budget_exceeded",
};

static const char *const rate_names[] = {
    "rate_limit_exceeded", "slow_down", "rate_limit_error", "throttling_error", "tokens", "requests",
};

/* An error inside a 200 stream has no status: the one it would have had. */
static const struct {
    const char *name;
    uint32_t status;
} stream_statuses[] = {
    {"invalid_request_error", 400},
    {"invalid_api_key", 401},
    {"authentication_error", 401},
    {"permission_error", 403},
    {"not_found_error", 404},
    {"rate_limit_exceeded", 429},
    {"rate_limit_error", 429},
    {"slow_down", 429},
    {"tokens", 429},
    {"requests", 429},
    {"throttling_error", 429},
    {"server_is_overloaded", 503},
    {"service_unavailable_error", 503},
    {"unavailable_error", 503},
};

static const struct {
    uint32_t status;
    const char *next;
} status_advice[] = {
    {400, "correct the openai settings or send less, then retry the job"},
    {401, "check OPENAI_API_KEY, restart the drafter, then retry the job"},
    {403, "check the key's permissions and region, then retry the job"},
    {404, "check openai.model and openai.baseUrl, then retry the job"},
    {413, "send a smaller document or context, then retry the job"},
    {422, "correct the openai settings, then retry the job"},
    {429, "wait or lower drafter.concurrency, then retry the job"},
};

/* ---- helpers ---- */

static bool one_of(const char *text, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0)
            return true;
    }
    return false;
}

static void PRINTF(4, 5)
    set(drafter_outcome *ret, drafter_verdict verdict, const char *code, const char *format, ...) {
    ret->verdict = verdict;
    (void)snprintf(ret->code, sizeof(ret->code), "%s", code);
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(ret->message, sizeof(ret->message), format, arguments);
    va_end(arguments);
    if (size >= (int)sizeof(ret->message)) {
        stet_str text = stet_str_from(ret->message, sizeof(ret->message) - 1);
        ret->message[stet_utf8_cut(text, text.size - 3)] = '\0';
    }
}

static const char *advice_of(uint32_t status) {
    for (size_t i = 0; i < COUNT_OF(status_advice); i++) {
        if (status_advice[i].status == status)
            return status_advice[i].next;
    }
    return status >= 500 ? "wait until the provider is well, then retry the job"
                         : "check openai.baseUrl and the provider, then retry the job";
}

/* Also when they end in the beginning of it: they were cut, and the rest of it stood behind. */
static bool hold_key(stet_str words, const stet_config *config) {
    stet_str key = stet_str_of(stet_config_str(config, STET_SETTING_openai_api_key));
    if (key.size == 0 || words.size == 0)
        return false;
    if (memmem(words.data, words.size, key.data, key.size) != NULL)
        return true;
    for (size_t size = KEY_PART_SIZE; size < key.size && size <= words.size; size++) {
        if (memcmp(words.data + words.size - size, key.data, size) == 0)
            return true;
    }
    return false;
}

/* The provider's own words, unless they hold our key. */
static stet_str words_of(stet_str words, const stet_config *config) {
    if (words.size == 0)
        return STET_STR("no reason given");
    return hold_key(words, config) ? STET_STR("reason hidden: it holds the key") : words;
}

static uint32_t stream_status(const drafter_model_error *error) {
    uint32_t number = 0;
    for (const char *at = error->code; *at >= '0' && *at <= '9' && number < 1000; at++)
        number = number * 10 + (uint32_t)(*at - '0');
    if (number >= 400 && number <= 599)
        return number;
    for (size_t i = 0; i < COUNT_OF(stream_statuses); i++) {
        if (strcmp(error->code, stream_statuses[i].name) == 0)
            return stream_statuses[i].status;
    }
    for (size_t i = 0; i < COUNT_OF(stream_statuses); i++) {
        if (strcmp(error->type, stream_statuses[i].name) == 0)
            return stream_statuses[i].status;
    }
    return 500;
}

/* ---- the classes ---- */

static void judge_status(uint32_t status, const drafter_model_error *error, const stet_config *config,
                         drafter_outcome *ret) {
    stet_str words = words_of(stet_str_of(error->present ? error->message : ""), config);
    if (one_of(error->code, quota_names, COUNT_OF(quota_names)) ||
        one_of(error->type, quota_names, COUNT_OF(quota_names))) {
        set(ret, DRAFTER_FINAL, "quota",
            "the provider's quota is used up (%.*s): raise it there, then retry the job",
            STET_STR_ARG(words));
        return;
    }
    char code[64];
    (void)snprintf(code, sizeof(code), "http_%u", status);
    bool rate = status == 429 && (one_of(error->code, rate_names, COUNT_OF(rate_names)) ||
                                  one_of(error->type, rate_names, COUNT_OF(rate_names)));
    bool again = stet_config_list_has(config, STET_SETTING_drafter_retry_statuses, status);
    set(ret, again ? DRAFTER_AGAIN : DRAFTER_FINAL, rate ? "rate_limited" : code,
        "the model's API answered %u (%.*s): %s", status, STET_STR_ARG(words), advice_of(status));
}

static void judge_failure(const stet_http_result *result, drafter_outcome *ret) {
    const char *reason = result->reason && result->reason[0] ? result->reason : "no reason given";
    switch (result->failure) {
    case STET_HTTP_CONNECT:
        set(ret, DRAFTER_AGAIN, "connect_failed",
            "the model's API cannot be reached (%s): check openai.baseUrl and the network, then retry the "
            "job",
            reason);
        return;
    case STET_HTTP_TIMEOUT:
        set(ret, DRAFTER_AGAIN, "timeout",
            "the model's API did not answer in time (%s): check the provider or raise http.totalTimeout and "
            "http.stallTimeout, then retry the job",
            reason);
        return;
    case STET_HTTP_TOO_LARGE:
        set(ret, DRAFTER_FINAL, "answer_too_large",
            "the model's answer is too large (%s): lower openai.maxTokens or raise http.bodyMax, then retry "
            "the job",
            reason);
        return;
    case STET_HTTP_REFUSED:
        set(ret, DRAFTER_FINAL, "url_refused",
            "the call was not made (%s): correct openai.baseUrl, restart the drafter, then retry the job",
            reason);
        return;
    case STET_HTTP_LOST:
    case STET_HTTP_NONE:
        break;
    }
    set(ret, DRAFTER_AGAIN, "answer_lost",
        "the model's answer was lost (%s): check the provider, then retry the job", reason);
}

static void lost_for_memory(drafter_outcome *ret) {
    set(ret, DRAFTER_AGAIN, "answer_lost",
        "the model's answer was lost (there was no memory for it): give the drafter more, then retry the "
        "job");
}

static void judge_output(drafter_answer *answer, drafter_schema schema, drafter_outcome *ret) {
    const char *reason = "";
    if (!drafter_output_parse(schema, stet_buf_str(&answer->content), &answer->scratch, &ret->output,
                              &reason)) {
        if (stet_buf_starved(&answer->scratch)) {
            lost_for_memory(ret);
            return;
        }
        set(ret, DRAFTER_UNUSABLE, "invalid_output",
            "%s: check openai.model and openai.schema, or the instruction, then retry the job", reason);
        return;
    }
    if (ret->output.markdown.size > DRAFTER_MARKDOWN_MAX) {
        set(ret, DRAFTER_FINAL, "answer_too_large",
            "the new document is larger than %d bytes: ask for less, then submit again",
            DRAFTER_MARKDOWN_MAX);
        return;
    }
    set(ret, DRAFTER_LANDED, "", "%s", "");
}

static void judge_answer(drafter_answer *answer, const stet_config *config, drafter_schema schema,
                         drafter_outcome *ret) {
    if (answer->error.present) {
        judge_status(stream_status(&answer->error), &answer->error, config, ret);
        return;
    }
    if (answer->starved) {
        lost_for_memory(ret);
        return;
    }
    if (answer->too_large) {
        set(ret, DRAFTER_FINAL, "answer_too_large",
            "the model wrote more than a document may hold: lower openai.maxTokens or ask for less, then "
            "retry the job");
        return;
    }
    if (!answer->done) {
        set(ret, DRAFTER_AGAIN, "answer_lost",
            "the model's answer %s: check the provider, then retry the job",
            answer->malformed ? "cannot be read" : "ended before it was complete");
        return;
    }
    if (answer->refusal.size > 0 || strcmp(answer->finish_reason, "content_filter") == 0) {
        stet_str words = stet_buf_str(&answer->refusal);
        words.size = stet_utf8_cut(words, 160);
        words = words_of(words, config);
        set(ret, DRAFTER_FINAL, "refused_by_model",
            "the model refused (%.*s): change the instruction or the document, then submit again",
            STET_STR_ARG(words));
        return;
    }
    if (strcmp(answer->finish_reason, "length") == 0) {
        set(ret, DRAFTER_FINAL, "output_cut",
            "the model's answer was cut at its token limit: raise openai.maxTokens or ask for less, then "
            "retry the job");
        return;
    }
    judge_output(answer, schema, ret);
}

void drafter_judge(drafter_answer *answer, const stet_http_result *result, const stet_config *config,
                   drafter_schema schema, drafter_outcome *ret) {
    static const drafter_model_error none = {.present = false};
    *ret = (drafter_outcome){.verdict = DRAFTER_FINAL};
    if (result->failure != STET_HTTP_NONE || (result->status == 200 && !answer))
        judge_failure(result, ret);
    else if (result->status != 200)
        judge_status(result->status, answer ? &answer->error : &none, config, ret);
    else
        judge_answer(answer, config, schema, ret);
}

int64_t drafter_backoff_ms(int64_t first_ms, int64_t max_ms, uint32_t tries_made, int64_t retry_after_ms,
                           uint64_t random) {
    int64_t wait = first_ms > 0 ? first_ms : 0;
    for (uint32_t i = 1; i < tries_made && wait < max_ms; i++)
        wait *= 2;
    if (wait > max_ms)
        wait = max_ms;
    wait += (int64_t)(random % (uint64_t)(wait / 4 + 1));
    if (wait < retry_after_ms)
        wait = retry_after_ms;
    return wait < max_ms ? wait : max_ms;
}
