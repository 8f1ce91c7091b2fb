/* drafting.c - one attempt of a draft.
 *
 *   run ──> prompt from document + transcript ──> detail {calls: [.., {try}]} ──commit──> the call starts
 *    ^                                                                                          │
 *    │                                              call_data: collects the text, tells progress │
 *    │ AGAIN: resume_at (back-off)                                                              v
 *    └─────────────── verdict <── call_done (or the answer grew too large: taken back at once) ──
 *
 *         LANDED    is the document still at the version that the model saw?
 *                   yes: new version, summary, result and last event in this commit
 *                   no: document_conflict, at once again on the new base
 *         UNUSABLE  the attempt fails; the job has drafter.attempts of them
 *         FINAL     or AGAIN after the last try: error at once, alert
 *
 * The attempt is the intent that is on disk before the call. A crash between call and commit loses the
 * answer, never the record that a call was made: recovery ends the attempt as interrupted. The provider
 * offers no way to ask for a lost answer and no idempotency key; a repeated call costs money but changes
 * nothing outside, so it is repeated. What call_data collects is volatile and keyed by job, attempt and try;
 * a slot that nobody ends (its turn was undone) is taken by the next call. Of a call that was given up in a turn that was then
 * undone the slot stays, as lost: its next piece would else begin an answer without a beginning. */
#include <stdio.h>

#include "actors/drafter/detail.h"
#include "actors/drafter/documents.h"
#include "actors/drafter/report.h"
#include "proto/wire/json.h"
#include "proto/base/plant.h"

enum { URL_MAX = 1024, HEADER_MAX = 1024, RESULT_MAX = 32 << 10 };

/* ---- calls in flight ---- */

static bool same_ref(stet_call_ref a, stet_call_ref b) {
    return stet_id_equal(a.job_id, b.job_id) && a.attempt == b.attempt && a.number == b.number;
}

static drafter_call *find_call(drafter_state *state, stet_call_ref ref) {
    for (size_t i = 0; i < DRAFTER_CALLS_MAX; i++) {
        const drafter_call *call = &state->calls[i];
        if ((call->answer || call->lost) && same_ref(call->ref, ref))
            return &state->calls[i];
    }
    return NULL;
}

static void end_call(drafter_call *call) {
    if (call) {
        call->answer = drafter_answer_free(call->answer);
        *call = (drafter_call){.answer = NULL};
    }
}

/* The place is kept, as long as no other call needs it. */
static void lose_call(drafter_call *call) {
    if (!call)
        return;
    call->answer = drafter_answer_free(call->answer);
    call->lost = true;
}

static int use_of(const drafter_call *call) {
    return call->answer ? 2 : call->lost ? 1 : 0;
}

/* In the least used place, of two the older. Lost at once when out of memory. */
static drafter_call *begin_call(drafter_state *state, stet_call_ref ref, int64_t boot_ms) {
    drafter_call *call = &state->calls[0];
    for (size_t i = 1; i < DRAFTER_CALLS_MAX && use_of(call) > 0; i++) {
        drafter_call *other = &state->calls[i];
        if (use_of(other) < use_of(call) ||
            (use_of(other) == use_of(call) && other->event_boot_ms < call->event_boot_ms))
            call = other;
    }
    end_call(call);
    call->ref = ref;
    call->event_boot_ms = boot_ms;
    call->answer = drafter_answer_new();
    call->lost = !call->answer;
    return call;
}

void drafter_calls_done(drafter_state *state) {
    for (size_t i = 0; i < DRAFTER_CALLS_MAX; i++)
        end_call(&state->calls[i]);
}

void drafter_abandon(stet_turn *turn, const stet_job *job) {
    drafter_state *state = stet_turn_state(turn);
    drafter_detail detail = drafter_detail_of(job);
    if (detail.calls_count == 0 || PLANT(cancelled_lands))
        return;
    stet_call_ref ref = {.job_id = job->id, .attempt = job->attempt_total, .number = detail.calls_count};
    stet_turn_call_cancel(turn, ref);
    if (!stet_turn_overflowed(turn))
        lose_call(find_call(state, ref)); /* not ended: all of this may still be undone */
}

/* ---- asking ---- */

static stet_code ask(stet_turn *turn, const stet_job *job, uint32_t number, stet_str body, stet_error *e) {
    const stet_config *config = stet_turn_config(turn);
    char url[URL_MAX];
    char authorization[HEADER_MAX];
    const char *base = stet_config_str(config, STET_SETTING_openai_base_url);
    size_t base_size = strlen(base);
    while (base_size > 0 && base[base_size - 1] == '/')
        base_size--;
    const char *key = stet_config_str(config, STET_SETTING_openai_api_key);
    int url_size = snprintf(url, sizeof(url), "%.*s/chat/completions", (int)base_size, base);
    int key_size = snprintf(authorization, sizeof(authorization), "Bearer %s", key);
    if (url_size >= URL_MAX || key_size >= HEADER_MAX)
        return stet_error_set(e, STET_INVALID,
                              "openai.baseUrl or openai.apiKey is too long; correct it and start again");
    stet_http_header headers[4] = {{"Content-Type", "application/json"}, {"Accept", "text/event-stream"}};
    size_t count = 2;
    if (key[0] != '\0')
        headers[count++] = (stet_http_header){"Authorization", authorization};
    const char *organization = stet_config_str(config, STET_SETTING_openai_organization);
    if (organization[0] != '\0')
        headers[count++] = (stet_http_header){"OpenAI-Organization", organization};
    stet_http_request request = {.method = "POST",
                                 .url = url,
                                 .headers = headers,
                                 .headers_count = count,
                                 .body = body,
                                 .stream = true};
    stet_call_ref ref = {.job_id = job->id, .attempt = job->attempt_total, .number = number};
    stet_code rc = stet_turn_call(turn, ref, &request, e);
    explicit_bzero(authorization, sizeof(authorization));
    return rc;
}

static void build_request(stet_turn *turn, const stet_job *job, const drafter_context *context,
                          uint64_t version, stet_str markdown, stet_buf *ret) {
    const drafter_state *state = stet_turn_state(turn);
    char version_text[DRAFTER_NUMBER_SIZE];
    CLEANUP(stet_buf_done) stet_buf system = STET_BUF(DRAFTER_PROMPT_MAX);
    CLEANUP(stet_buf_done) stet_buf user = STET_BUF(DRAFTER_PROMPT_MAX);
    stet_str instruction = stet_mp_get_str(job->payload, "instruction", (stet_str){NULL, 0});
    drafter_prompt_values values = {
        .project_id = job->key,
        .document_version = drafter_number_text(version, version_text),
        .document = markdown,
        .instruction = instruction.size > 0
                           ? instruction
                           : STET_STR("Bring the document up to date with the conversation above."),
        .excerpts = stet_buf_str(&context->excerpts),
        .messages = stet_buf_str(&context->messages),
        .prompt_context = stet_buf_str(&context->json),
        .answer_format = stet_str_of(drafter_schema_instruction(state->schema)),
    };
    drafter_prompt_render(&state->prompt, &values, &system, &user);
    drafter_model_request(stet_turn_config(turn), state->schema, stet_buf_str(&system), stet_buf_str(&user),
                          ret);
    const stet_buf *const parts[] = {&system, &user, &context->json, &context->excerpts, &context->messages};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        ret->failed |= i < 3 && !stet_buf_ok(parts[i]); /* the others are cut to what fits */
        ret->starved |= stet_buf_starved(parts[i]);
    }
}

stet_code drafter_run(stet_turn *turn, stet_job *job, stet_error *e) {
    if (drafter_key_missing(stet_turn_config(turn)))
        return stet_job_fail_finally(
            turn, job, "missing_key",
            STET_STR("OPENAI_API_KEY is not set: set it, restart the drafter, then retry the job"), e);
    drafter_document head;
    stet_str markdown;
    CLEANUP(drafter_context_done) drafter_context context = {.left_out = 0};
    CLEANUP(stet_buf_done) stet_buf request = STET_BUF(DRAFTER_REQUEST_MAX);
    CLEANUP(stet_buf_done) stet_buf row = STET_BUF(DRAFTER_DETAIL_MAX);
    stet_code rc = drafter_document_head(turn, job->key, &head, e);
    if (rc == STET_OK)
        rc = drafter_document_text(turn, job->key, head.version, &markdown, e);
    if (rc == STET_OK)
        rc = drafter_context_build(turn, job, &context, e);
    if (rc != STET_OK)
        return rc;
    build_request(turn, job, &context, head.version, markdown, &request);
    if (stet_buf_starved(&request))
        return stet_error_set(e, STET_BUSY, "there is no memory for the prompt now");
    if (!stet_buf_ok(&request))
        return stet_job_fail_finally(
            turn, job, "prompt_too_large",
            STET_STR("the prompt is too large to send: shorten the document, the context or the "
                     "instruction, then submit again"),
            e);
    drafter_detail detail = drafter_detail_of(job);
    uint32_t number = detail.calls_count + 1;
    drafter_detail_begin(&row, &detail, &context, head.version, markdown.size, stet_turn_wall_ms(turn));
    rc = drafter_built(&row, "the attempt's detail", e);
    if (rc == STET_OK)
        rc = stet_job_set_detail(turn, job, stet_buf_str(&row), job->progress, e);
    if (rc == STET_OK)
        rc = ask(turn, job, number, stet_buf_str(&request), e);
    if (rc == STET_OK)
        stet_turn_count(turn, "modelCalls", 1);
    return rc;
}

/* ---- ends ---- */

static void encode_result(stet_turn *turn, stet_buf *b, uint64_t version, const drafter_detail *detail,
                          const drafter_outcome *outcome, const drafter_answer *answer) {
    const drafter_state *state = stet_turn_state(turn);
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 5;
    stet_mp_put_uint(b, "documentVersion", version);
    stet_mp_put_str(b, "generatedSummary", outcome->output.summary);
    stet_mp_put_cstr(b, "model",
                     answer->model[0] ? answer->model
                                      : stet_config_str(stet_turn_config(turn), STET_SETTING_openai_model));
    stet_mp_cstr(b, "unresolvedPointers");
    stet_mp_raw(b, detail->unresolved);
    stet_mp_cstr(b, "unresolvedAnchors");
    stet_mp_raw(b, detail->unresolved_anchors);
    if (answer->usage.known) {
        stet_mp_cstr(b, "usage");
        stet_mp_map(b, 4);
        stet_mp_put_uint(b, "promptTokens", answer->usage.prompt);
        stet_mp_put_uint(b, "cachedTokens", answer->usage.cached);
        stet_mp_put_uint(b, "completionTokens", answer->usage.completion);
        stet_mp_put_uint(b, "reasoningTokens", answer->usage.reasoning);
        pairs++;
    }
    uint64_t cost;
    if (drafter_cost(&state->prices, &answer->usage, &cost)) {
        stet_mp_put_uint(b, "costMicroUsd", cost);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

static stet_code land(stet_turn *turn, stet_job *job, const drafter_detail *detail,
                      const drafter_outcome *outcome, const drafter_answer *answer, stet_error *e) {
    drafter_document head;
    stet_code rc = drafter_document_head(turn, job->key, &head, e);
    if (rc != STET_OK)
        return rc;
    if (head.version != detail->base_version && !PLANT(version_not_checked)) {
        char text[200];
        int size = snprintf(
            text, sizeof(text),
            "the document went from version %llu to %llu while the model wrote: nothing was overwritten; "
            "retry the job when the edits are over",
            (unsigned long long)detail->base_version, (unsigned long long)head.version);
        stet_turn_count(turn, "documentConflicts", 1);
        return stet_job_failed(turn, job, "document_conflict", stet_str_from(text, (size_t)size),
                               /* retry_after_ms= */ -1, e);
    }
    uint64_t version;
    rc = drafter_document_store(turn, job->key, &head,
                                &(drafter_revision){.markdown = outcome->output.markdown,
                                                    .author = "drafter",
                                                    .job_id = job->id,
                                                    .summary = outcome->output.summary},
                                &version, e);
    if (rc != STET_OK)
        return rc;
    CLEANUP(stet_buf_done) stet_buf result = STET_BUF(RESULT_MAX);
    encode_result(turn, &result, version, detail, outcome, answer);
    rc = drafter_built(&result, "the job's result", e);
    return rc == STET_OK ? stet_job_done(turn, job, stet_buf_str(&result), e) : rc;
}

static stet_code try_again(stet_turn *turn, stet_job *job, uint32_t tries_made,
                           const drafter_outcome *outcome, int64_t retry_after_ms, stet_error *e) {
    const stet_config *config = stet_turn_config(turn);
    int64_t wait_ms = drafter_backoff_ms(stet_config_int(config, STET_SETTING_drafter_call_backoff),
                                         stet_config_int(config, STET_SETTING_drafter_backoff_max),
                                         tries_made, retry_after_ms, stet_prng_next(stet_turn_prng(turn)));
    char text[160];
    (void)snprintf(text, sizeof(text), "call %u of %u failed (%s), again in %lld ms", tries_made,
                   drafter_call_tries(config), outcome->code, (long long)wait_ms);
    stet_turn_count(turn, "modelCallRetries", 1);
    stet_code rc = stet_job_resume_at(turn, job, stet_turn_wall_ms(turn) + wait_ms, e);
    return rc == STET_OK ? drafter_progress_event(turn, job, job->progress, text, outcome->code, e) : rc;
}

/* AGAIN after the last try is FINAL, and says how often it was tried. */
static void give_up(drafter_outcome *outcome, uint32_t tries) {
    char text[sizeof(outcome->message)];
    (void)snprintf(text, sizeof(text), "%s", outcome->message);
    size_t room = sizeof(outcome->message) - 40;
    stet_str rest = stet_str_from(text, strlen(text));
    rest.size = stet_utf8_cut(rest, room);
    (void)snprintf(outcome->message, sizeof(outcome->message), "after %u calls: %.*s", tries,
                   STET_STR_ARG(rest));
    outcome->verdict = DRAFTER_FINAL;
}

static stet_code conclude(stet_turn *turn, stet_job *job, drafter_answer *answer,
                          const stet_http_result *result, stet_error *e) {
    const drafter_state *state = stet_turn_state(turn);
    const stet_config *config = stet_turn_config(turn);
    drafter_detail detail = drafter_detail_of(job);
    drafter_outcome outcome;
    if (answer)
        drafter_answer_finish(answer);
    drafter_judge(answer, result, config, state->schema, &outcome);
    CLEANUP(stet_buf_done) stet_buf row = STET_BUF(DRAFTER_DETAIL_MAX);
    drafter_detail_end(&row, &detail, &outcome, result, answer, stet_turn_wall_ms(turn));
    stet_code rc = drafter_built(&row, "the attempt's detail", e);
    if (rc == STET_OK)
        rc = stet_job_set_detail(turn, job, stet_buf_str(&row), job->progress, e);
    if (rc != STET_OK)
        return rc;
    uint32_t tries = drafter_call_tries(config);
    if (outcome.verdict == DRAFTER_AGAIN && detail.calls_count < tries)
        return try_again(turn, job, detail.calls_count, &outcome, result->retry_after_ms, e);
    if (outcome.verdict == DRAFTER_AGAIN)
        give_up(&outcome, detail.calls_count);
    ASSERT(answer != NULL || outcome.verdict != DRAFTER_LANDED);
    if (outcome.verdict == DRAFTER_LANDED)
        return land(turn, job, &detail, &outcome, answer, e);
    stet_str message = stet_str_of(outcome.message);
    if (outcome.verdict == DRAFTER_UNUSABLE)
        return stet_job_failed(turn, job, outcome.code, message, /* retry_after_ms= */ 0, e);
    return stet_job_fail_finally(turn, job, outcome.code, message, e);
}

/* A turn that overflows is undone and its messages come again: volatile memory changes only when it has not.
 */
static void end_call_of_turn(stet_turn *turn, drafter_call *call, stet_code rc) {
    if (stet_turn_overflowed(turn))
        return;
    if (rc == STET_OK)
        end_call(call);
    else
        lose_call(call);
}

/* Not one before it, and not one that was taken back: what was on its way comes all the same. */
static bool is_under_way(const stet_job *job, stet_call_ref ref) {
    drafter_detail detail = drafter_detail_of(job);
    return detail.calls_count == ref.number && !detail.last_ended;
}

stet_code drafter_call_done(stet_turn *turn, stet_job *job, const stet_http_result *result, stet_error *e) {
    drafter_call *call = find_call(stet_turn_state(turn), result->ref);
    stet_code rc = STET_OK;
    if (is_under_way(job, result->ref))
        rc = conclude(turn, job, call ? call->answer : NULL, result, e);
    end_call_of_turn(turn, call, rc);
    return rc;
}

/* ---- while it streams ---- */

/* Nobody knows how long the answer will be: the old document's size is the guess, and progress nears 1 but
 * never is. */
static stet_code report_progress(stet_turn *turn, const stet_job *job, drafter_call *call, stet_error *e) {
    int64_t boot_ms = stet_turn_boot_ms(turn);
    int64_t every_ms = stet_config_int(stet_turn_config(turn), STET_SETTING_drafter_progress_every);
    size_t size = call->answer->content.size;
    if (size == 0 || (call->had_event && boot_ms - call->event_boot_ms < every_ms))
        return STET_OK;
    uint64_t expected = drafter_detail_of(job).base_size;
    expected = expected < 2000 ? 2000 : expected;
    char text[64];
    (void)snprintf(text, sizeof(text), "the model has written %zu bytes", size);
    stet_code rc = drafter_progress_event(turn, job, (double)size / (double)(size + expected), text, NULL, e);
    if (rc == STET_OK && !stet_turn_overflowed(turn)) {
        call->had_event = true;
        call->event_boot_ms = boot_ms;
    }
    return rc;
}

/* What is still to come is not wanted any more. */
static stet_code conclude_early(stet_turn *turn, stet_job *job, const stet_http_data *data,
                                drafter_answer *answer, stet_http_failure failure, stet_error *e) {
    stet_http_result result = {.ref = data->ref,
                               .failure = failure,
                               .status = data->status,
                               .reason = failure == STET_HTTP_NONE ? "" : "there was no memory for it",
                               .retry_after_ms = -1};
    stet_turn_call_cancel(turn, data->ref);
    return conclude(turn, job, answer, &result, e);
}

/* The event, which may overflow the turn, comes before the piece is taken: it tells of what came before. */
stet_code drafter_call_data(stet_turn *turn, stet_job *job, const stet_http_data *data, stet_error *e) {
    drafter_state *state = stet_turn_state(turn);
    if (!is_under_way(job, data->ref))
        return STET_OK;
    drafter_call *call = find_call(state, data->ref);
    if (!call)
        call = begin_call(state, data->ref, stet_turn_boot_ms(turn));
    if (call->lost) {
        stet_code lost = conclude_early(turn, job, data, NULL, STET_HTTP_LOST, e);
        end_call_of_turn(turn, call, lost);
        return lost;
    }
    stet_code rc = report_progress(turn, job, call, e);
    if (rc != STET_OK || stet_turn_overflowed(turn))
        return rc;
    drafter_answer_feed(call->answer, data->status, data->bytes);
    if (!call->answer->too_large && !call->answer->starved)
        return STET_OK;
    rc = conclude_early(turn, job, data, call->answer, STET_HTTP_NONE, e);
    end_call_of_turn(turn, call, rc);
    return rc;
}
