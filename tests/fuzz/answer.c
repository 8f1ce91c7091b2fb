/* The model's answer: the same however it is cut, bounded, and judged into words that never hold the key.
 *
 * Input: a byte that chooses status and failure, a byte for the cuts, the stream. */
#include <stdlib.h>

#include "actors/drafter/verdict.h"
#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"

#define KEY "sk-secret-key"

static void answer_done(drafter_answer **answer) {
    *answer = drafter_answer_free(*answer);
}

static const stet_config *config_with_key(void) {
    static stet_config *config;
    if (config == NULL) {
        ASSERT(stet_config_load(NULL, &config, NULL) == STET_OK);
        ASSERT(stet_config_set(config, STET_SETTING_openai_api_key, KEY, NULL) == STET_OK);
    }
    return config;
}

/* ---- events, once by the parser and once by its rules, read literally ---- */

static void note_event(void *context, const char *name, stet_str data) {
    ASSERT(strlen(name) < DRAFTER_SSE_NAME_MAX);
    stet_buf_printf(context, "%s|%zu|", name, data.size);
    stet_buf_append_str(context, data);
}

typedef struct plain_event {
    stet_buf data;
    bool has_data;
    char name[DRAFTER_SSE_NAME_MAX];
} plain_event;

static void plain_line(plain_event *event, stet_str line, stet_buf *seen) {
    const char *colon = line.size > 0 ? memchr(line.data, ':', line.size) : NULL;
    stet_str field = {line.data, colon ? (size_t)(colon - line.data) : line.size};
    stet_str value = {NULL, 0};
    if (colon)
        value = stet_str_from(colon + 1, line.size - field.size - 1);
    if (value.size > 0 && *value.data == ' ')
        value = stet_str_from(value.data + 1, value.size - 1);
    if (line.size == 0) {
        if (event->has_data)
            note_event(seen, event->name, stet_buf_str(&event->data));
        stet_buf_clear(&event->data);
        event->has_data = false;
        event->name[0] = '\0';
    } else if (stet_str_is(field, "data")) {
        if (event->has_data)
            stet_buf_append_byte(&event->data, '\n');
        event->has_data = true;
        stet_buf_append_str(&event->data, value);
    } else if (stet_str_is(field, "event")) {
        size_t size = value.size < sizeof event->name ? value.size : sizeof event->name - 1;
        memcpy(event->name, size > 0 ? value.data : "", size);
        event->name[size] = '\0';
    }
}

static void plain_events(stet_str text, stet_buf *seen) {
    plain_event event = {.data = STET_BUF(FUZZ_INPUT_MAX)};
    size_t start = 0;
    for (size_t at = 0; at < text.size; at++) {
        if (text.data[at] != '\n' && text.data[at] != '\r')
            continue;
        plain_line(&event, stet_str_from(text.data + start, at - start), seen);
        if (text.data[at] == '\r' && at + 1 < text.size && text.data[at + 1] == '\n')
            at++;
        start = at + 1;
    }
    stet_buf_done(&event.data);
}

static void try_events(stet_str stream, size_t step) {
    CLEANUP(stet_buf_done) stet_buf seen = STET_BUF(8 << 20);
    CLEANUP(stet_buf_done) stet_buf expected = STET_BUF(8 << 20);
    CLEANUP(drafter_sse_done) drafter_sse sse = drafter_sse_of(FUZZ_INPUT_MAX);
    for (size_t at = 0; at < stream.size; at += step)
        drafter_sse_feed(&sse,
                         stet_str_from(stream.data + at, step < stream.size - at ? step : stream.size - at),
                         note_event, &seen);
    plain_events(stream, &expected);
    ASSERT(!sse.too_large && stet_buf_ok(&seen) && stet_buf_ok(&expected));
    ASSERT(stet_str_equal(stet_buf_str(&seen), stet_buf_str(&expected)));

    CLEANUP(drafter_sse_done) drafter_sse small = drafter_sse_of(16);
    stet_buf_clear(&seen);
    drafter_sse_feed(&small, stream, note_event, &seen);
    ASSERT(small.line.size <= 16 && small.data.size <= 16);
}

/* ---- the whole answer ---- */

static drafter_answer *answer_of(stet_str stream, uint32_t status, size_t step) {
    drafter_answer *answer = drafter_answer_new();
    ASSERT(answer != NULL);
    for (size_t at = 0; at < stream.size; at += step)
        drafter_answer_feed(
            answer, status,
            stet_str_from(stream.data + at, step < stream.size - at ? step : stream.size - at));
    drafter_answer_finish(answer);
    drafter_answer_finish(answer);
    return answer;
}

static void check_answer(const drafter_answer *a) {
    ASSERT(a->content.size <= DRAFTER_CONTENT_MAX && a->refusal.size <= DRAFTER_CONTENT_MAX);
    ASSERT(stet_utf8_valid(stet_buf_str(&a->content)) && stet_utf8_valid(stet_buf_str(&a->refusal)));
    ASSERT(a->status == 200 || a->body.size <= DRAFTER_ERROR_BODY_MAX);
    ASSERT(stet_utf8_valid(stet_str_of(a->model)) && stet_utf8_valid(stet_str_of(a->finish_reason)));
    ASSERT(stet_utf8_valid(stet_str_of(a->error.type)) && stet_utf8_valid(stet_str_of(a->error.code)) &&
           stet_utf8_valid(stet_str_of(a->error.message)));
}

static void check_same(const drafter_answer *a, const drafter_answer *b) {
    ASSERT(a->done == b->done && a->malformed == b->malformed && a->too_large == b->too_large);
    ASSERT(a->kind == b->kind && a->finished == b->finished);
    ASSERT(stet_str_equal(stet_buf_str(&a->content), stet_buf_str(&b->content)));
    ASSERT(stet_str_equal(stet_buf_str(&a->refusal), stet_buf_str(&b->refusal)));
    ASSERT(strcmp(a->model, b->model) == 0 && strcmp(a->finish_reason, b->finish_reason) == 0);
    ASSERT(a->usage.known == b->usage.known && a->usage.prompt == b->usage.prompt &&
           a->usage.cached == b->usage.cached && a->usage.completion == b->usage.completion &&
           a->usage.reasoning == b->usage.reasoning);
    ASSERT(memcmp(&a->error, &b->error, sizeof a->error) == 0);
}

static void judge(drafter_answer *answer, const stet_http_result *result, const stet_config *config,
                  drafter_schema schema) {
    drafter_outcome outcome, again;
    drafter_judge(answer, result, config, schema, &outcome);
    ASSERT(stet_utf8_valid(stet_str_of(outcome.message)) && stet_utf8_valid(stet_str_of(outcome.code)));
    ASSERT(strstr(outcome.message, KEY) == NULL && strstr(outcome.code, KEY) == NULL);
    if (outcome.verdict == DRAFTER_LANDED) {
        ASSERT(answer->done && answer->status == 200 && outcome.code[0] == '\0');
        ASSERT(outcome.output.markdown.size > 0 && outcome.output.markdown.size <= DRAFTER_MARKDOWN_MAX);
        ASSERT(outcome.output.summary.size <= DRAFTER_SUMMARY_MAX);
        ASSERT(stet_utf8_valid(outcome.output.markdown) && stet_utf8_valid(outcome.output.summary));
    } else {
        ASSERT(outcome.code[0] != '\0' && outcome.message[0] != '\0');
    }
    drafter_judge(answer, result, config, schema, &again);
    ASSERT(outcome.verdict == again.verdict && strcmp(outcome.message, again.message) == 0);
}

void fuzz_one(const uint8_t *data, size_t size) {
    static const uint32_t statuses[] = {200, 200, 200, 200, 400, 401, 429, 503};
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    uint8_t choice = fuzz_byte(&in);
    size_t step = 1 + (size_t)fuzz_byte(&in);
    stet_str stream = fuzz_rest(&in);
    uint32_t status = statuses[choice & 7];
    try_events(stream, step);
    CLEANUP(answer_done) drafter_answer *whole = answer_of(stream, status, stream.size + 1);
    CLEANUP(answer_done) drafter_answer *pieces = answer_of(stream, status, step);
    check_answer(whole);
    check_same(whole, pieces);

    const stet_config *config = config_with_key();
    stet_http_result result = {.failure = (stet_http_failure)((choice >> 3) % (STET_HTTP_REFUSED + 1)),
                               .status = status,
                               .reason = "",
                               .retry_after_ms = -1};
    for (int schema = DRAFTER_JSON_SCHEMA; schema <= DRAFTER_PLAIN; schema++)
        judge(whole, &result, config, (drafter_schema)schema);
}

bool fuzz_seed(size_t index, stet_buf *b) {
#define CHUNK(json) "data: {\"model\":\"m\",\"choices\":[{\"index\":0," json "}]}\n\n"
    static const struct {
        uint8_t choice;
        const char *text;
    } seeds[] = {
        {0, CHUNK("\"delta\":{\"content\":\"{\\\"markdown\\\":\\\"# Hi\\\",\"}")
                CHUNK("\"delta\":{\"content\":\"\\\"summary\\\":\\\"hi\\\"}\"}")
                    CHUNK("\"finish_reason\":\"stop\"") "data: "
                                                        "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,"
                                                        "\"completion_tokens\":4,"
                                                        "\"prompt_tokens_details\":{\"cached_tokens\":2},"
                                                        "\"completion_tokens_details\":"
                                                        "{\"reasoning_tokens\":1}}}\r\n\r\ndata: [DONE]\r\r"},
        {0,
         CHUNK(
             "\"delta\":{\"content\":\"```json\\n{\\\"markdown\\\":\\\"a\\\"}\\n```\"}") "data: [DONE]\n\n"},
        {0, ": ping\n\nevent: error\ndata: {\"type\":\"tokens\",\"code\":503,\"message\":\"" KEY "\"}\n\n"},
        {0, CHUNK("\"delta\":{\"refusal\":\"No. " KEY "\"}") "data: [DONE]\n\n"},
        {0, CHUNK("\"delta\":{\"content\":\"x\"},\"finish_reason\":\"length\"") "data: [DONE]\n\n"},
        {0, "{\"choices\":[{\"message\":{\"content\":\"# A\\n\\ntext\"},\"finish_reason\":\"stop\"}]}"},
        {0, "data: {\"error\":\"down\"}\n\n"},
        {0, "data: {\"object\":\"error\",\"message\":\"m\",\"code\":null}\n\n"},
        {6,
         "{\"error\":{\"type\":\"insufficient_quota\",\"code\":\"rate_limit_exceeded\",\"message\":\"no\"}}"},
        {5, "{\"error\":{\"message\":\"Incorrect API key provided: " KEY "\"}}"},
        {7, "<html>busy</html>"},
        {8, "data: {}\n\n"},
    };
    if (index >= COUNT_OF(seeds))
        return false;
    stet_buf_append_byte(b, seeds[index].choice);
    stet_buf_append_byte(b, 6);
    stet_buf_append_str(b, stet_str_of(seeds[index].text));
    return true;
}
