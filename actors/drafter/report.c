#include "actors/drafter/report.h"

#include <stdio.h>

#include "proto/wire/json.h"
#include "proto/wire/rfc3339.h"

enum { REPORT_BYTES_MAX = 16 << 10, MESSAGE_MAX = 400 };

static const stet_str nothing = {NULL, 0};

/* ---- events ---- */

typedef struct report_event {
    const char *status;
    const char *message;
    double progress;
    const char *error_code; /* NULL: none */
    bool with_result;
} report_event;

static void put_extra(stet_buf *b, const stet_job *job, const report_event *event) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 0;
    if (event->error_code && event->error_code[0] != '\0') {
        stet_mp_put_cstr(b, "errorCode", event->error_code);
        pairs++;
    }
    if (event->with_result && job->result.size > 0) {
        stet_mp_put_uint(b, "documentVersion", stet_mp_get_uint(job->result, "documentVersion", 0));
        stet_mp_put_str(b, "generatedSummary",
                        stet_mp_get_str(job->result, "generatedSummary", STET_STR("")));
        pairs += 2;
    }
    stet_mp_close_map(b, mark, pairs);
}

static stet_code send_event(stet_turn *turn, const stet_job *job, const report_event *event, stet_error *e) {
    uint8_t room[512];
    CLEANUP(stet_buf_done) stet_buf extra = STET_BUF_ON(room, REPORT_BYTES_MAX);
    put_extra(&extra, job, event);
    stet_code rc = drafter_built(&extra, "the event", e);
    if (rc != STET_OK)
        return rc;
    return stet_turn_event(turn,
                           &(stet_event){
                               .session_id = stet_mp_get_str(job->payload, "sessionId", nothing),
                               .project_id = stet_mp_get_str(job->payload, "projectId", nothing),
                               .job_id = job->id,
                               .kind = "draft",
                               .status = event->status,
                               .attempt = job->attempt_total,
                               .progress = event->progress,
                               .message = stet_str_of(event->message),
                               .extra = stet_buf_str(&extra),
                           },
                           e);
}

stet_code drafter_progress_event(stet_turn *turn, const stet_job *job, double progress, const char *message,
                                 const char *error_code, stet_error *e) {
    return send_event(
        turn, job,
        &(report_event){
            .status = "progress", .message = message, .progress = progress, .error_code = error_code},
        e);
}

/* An error message short enough for an event or an alert, whole characters only: a cut one would not be valid
 * text. */
static stet_str short_message(const stet_job *job) {
    stet_str text = job->error_message.size > 0 ? job->error_message : stet_str_of(job->error_code);
    text.size = stet_utf8_cut(text, MESSAGE_MAX);
    return text;
}

/* False: this write changes nothing that the session should hear of. */
static bool event_of(const stet_job *job, stet_job_state before, char *text, size_t text_size,
                     report_event *ret) {
    *ret =
        (report_event){.status = stet_job_state_name(job->state), .message = text, .progress = job->progress};
    bool new_attempt = before == STET_JOB_ACTIVE && job->error_code[0] != '\0';
    if (job->state == before)
        return false;
    switch (job->state) {
    case STET_JOB_QUEUED:
        ret->progress = 0;
        ret->error_code = new_attempt ? job->error_code : NULL;
        if (new_attempt)
            (void)snprintf(text, text_size, "will be tried again: %.*s", STET_STR_ARG(short_message(job)));
        else
            (void)snprintf(text, text_size, "%s",
                           before == STET_JOB_ERROR || before == STET_JOB_CANCELLED
                               ? "queued again by an operator"
                               : "waiting for its turn");
        return true;
    case STET_JOB_DELAYED: {
        char at[STET_RFC3339_SIZE];
        stet_rfc3339_text(job->run_at_ms, at);
        ret->progress = 0;
        ret->error_code = new_attempt ? job->error_code : NULL;
        if (new_attempt)
            (void)snprintf(text, text_size, "will be tried again at %s: %.*s", at,
                           STET_STR_ARG(short_message(job)));
        else
            (void)snprintf(text, text_size, "waits until %s", at);
        return true;
    }
    case STET_JOB_ACTIVE:
        ret->progress = 0;
        (void)snprintf(text, text_size, "drafting has begun");
        return true;
    case STET_JOB_DONE:
        ret->progress = 1;
        ret->with_result = true;
        (void)snprintf(text, text_size, "the document is at version %llu",
                       (unsigned long long)stet_mp_get_uint(job->result, "documentVersion", 0));
        return true;
    case STET_JOB_ERROR:
        ret->error_code = job->error_code;
        (void)snprintf(text, text_size, "%.*s", STET_STR_ARG(short_message(job)));
        return true;
    case STET_JOB_CANCELLED:
        (void)snprintf(text, text_size, "cancelled");
        return true;
    case STET_JOB_STATES_COUNT:
        break;
    }
    return false;
}

/* ---- metrics ---- */

typedef struct measures {
    uint64_t attempt, duration_ms, waited_ms, calls;
    bool has_tokens, has_cost;
    uint64_t prompt_tokens, completion_tokens, cost_micro_usd;
} measures;

static uint64_t span(int64_t from_ms, int64_t to_ms) {
    return from_ms > 0 && to_ms > from_ms ? (uint64_t)(to_ms - from_ms) : 0;
}

static measures measure(const stet_job *job, int64_t now_ms) {
    int64_t end_ms = job->finished_ms > 0 ? job->finished_ms : now_ms;
    stet_str calls = stet_mp_get_raw(job->detail, "calls");
    stet_mp_reader r = stet_mp_reader_of(calls);
    measures m = {
        .attempt = job->attempt_total,
        .duration_ms = span(job->started_ms, end_ms),
        .waited_ms = span(job->created_ms, job->started_ms > 0 ? job->started_ms : now_ms),
        .calls = calls.size > 0 ? stet_mp_read_array(&r) : 0,
    };
    if (job->state == STET_JOB_DONE) {
        stet_str usage = stet_mp_get_raw(job->result, "usage");
        stet_mp_reader cost;
        m.has_tokens = usage.size > 0;
        m.prompt_tokens = stet_mp_get_uint(usage, "promptTokens", 0);
        m.completion_tokens = stet_mp_get_uint(usage, "completionTokens", 0);
        m.has_cost = stet_mp_find(job->result, "costMicroUsd", &cost);
        m.cost_micro_usd = stet_mp_get_uint(job->result, "costMicroUsd", 0);
    }
    return m;
}

static void encode_metric(stet_buf *b, const stet_job *job, const measures *m, int64_t now_ms) {
    bool failed = job->state == STET_JOB_ERROR;
    stet_mp_map(b, 4);
    stet_mp_put_cstr(b, "name", "draft.job");
    stet_mp_cstr(b, "labels");
    stet_mp_map(b, failed ? 3 : 2);
    stet_mp_put_cstr(b, "status", stet_job_state_name(job->state));
    stet_mp_put_str(b, "projectId", job->key);
    if (failed)
        stet_mp_put_cstr(b, "errorCode", job->error_code);
    stet_mp_cstr(b, "values");
    stet_mp_map(b, 4u + (m->has_tokens ? 2u : 0u) + (m->has_cost ? 1u : 0u));
    stet_mp_put_uint(b, "attempt", m->attempt);
    stet_mp_put_uint(b, "durationMs", m->duration_ms);
    stet_mp_put_uint(b, "waitedMs", m->waited_ms);
    stet_mp_put_uint(b, "calls", m->calls);
    if (m->has_tokens) {
        stet_mp_put_uint(b, "promptTokens", m->prompt_tokens);
        stet_mp_put_uint(b, "completionTokens", m->completion_tokens);
    }
    if (m->has_cost)
        stet_mp_put_uint(b, "costMicroUsd", m->cost_micro_usd);
    stet_mp_put_time(b, "at", now_ms);
}

/* STET_OK also when the outbox is full: the loss is counted and logged. */
static stet_code send_or_count(stet_turn *turn, const char *command, const stet_buf *body,
                               const char *counter, const stet_job *job, stet_error *e) {
    stet_code rc = drafter_built(body, command, e);
    if (rc != STET_OK)
        return rc;
    rc = stet_turn_send(turn, command, stet_buf_str(body), e);
    if (rc != STET_BUSY)
        return rc;
    char id[STET_ID_TEXT_SIZE];
    stet_id_text(job->id, id);
    stet_turn_count(turn, counter, 1);
    stet_turn_log(
        turn, STET_WARN, "draft.outbox.full", "the outbox is full, dropping a message; start the receiver",
        (const stet_log_field[]){STET_LOG_C("command", command), STET_LOG_C("job_id", id), {.name = NULL}});
    return STET_OK;
}

static stet_code send_metric(stet_turn *turn, const stet_job *job, stet_error *e) {
    int64_t now_ms = stet_turn_wall_ms(turn);
    measures m = measure(job, now_ms);
    uint8_t room[512];
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF_ON(room, REPORT_BYTES_MAX);
    encode_metric(&body, job, &m, now_ms);
    stet_turn_count(turn, "draftJobWrites", 1);
    if (stet_config_str(stet_turn_config(turn), STET_SETTING_draft_metrics_endpoint)[0] == '\0') {
        char id[STET_ID_TEXT_SIZE];
        stet_id_text(job->id, id);
        stet_turn_log(turn, STET_INFO | STET_RECORD, "draft.metric", "draft.job",
                      (const stet_log_field[]){STET_LOG_C("job_id", id),
                                               STET_LOG_S("project_id", job->key),
                                               STET_LOG_C("status", stet_job_state_name(job->state)),
                                               STET_LOG_I("attempt", job->attempt_total),
                                               STET_LOG_I("duration_ms", (int64_t)m.duration_ms),
                                               {.name = NULL}});
    }
    return send_or_count(turn, "metrics.record", &body, "metricsDropped", job, e);
}

/* ---- alerts ---- */

/* What fails every draft until a person acts, and not just this one. */
static bool is_critical(const char *code) {
    static const char *const codes[] = {"missing_key", "quota",    "http_401",
                                        "http_403",    "http_404", "url_refused"};
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        if (strcmp(code, codes[i]) == 0)
            return true;
    }
    return false;
}

static stet_code send_alert(stet_turn *turn, const stet_job *job, stet_error *e) {
    char id[STET_ID_TEXT_SIZE];
    char message[512];
    stet_id_text(job->id, id);
    (void)snprintf(message, sizeof(message), "%.*s", STET_STR_ARG(short_message(job)));
    const char *code = job->error_code[0] != '\0' ? job->error_code : "unknown";
    stet_str session = stet_mp_get_str(job->payload, "sessionId", nothing);
    uint8_t room[1024];
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF_ON(room, REPORT_BYTES_MAX);
    stet_mp_map(&body, 6);
    stet_mp_put_cstr(&body, "rule", "draft.error");
    stet_mp_put_cstr(&body, "cause", code);
    stet_mp_put_cstr(&body, "severity", is_critical(code) ? "critical" : "warning");
    stet_mp_put_cstr(&body, "message", message[0] != '\0' ? message : code);
    stet_mp_cstr(&body, "fields");
    stet_mp_map(&body, 4);
    stet_mp_put_cstr(&body, "jobId", id);
    stet_mp_put_str(&body, "projectId", job->key);
    stet_mp_put_str(&body, "sessionId", session);
    stet_mp_cstr(&body, "error");
    stet_mp_map(&body, 2);
    stet_mp_put_cstr(&body, "code", code);
    stet_mp_put_cstr(&body, "message", message);
    stet_mp_put_time(&body, "at", stet_turn_wall_ms(turn));
    bool no_webhook = stet_config_str(stet_turn_config(turn), STET_SETTING_draft_alert_webhook)[0] == '\0';
    stet_code rc = send_or_count(turn, "alerts.raise", &body, "alertsDropped", job, e);
    if (rc == STET_OK && no_webhook)
        stet_turn_log(turn, STET_ERROR | STET_RECORD, "draft.alert", message,
                      (const stet_log_field[]){STET_LOG_C("rule", "draft.error"),
                                               STET_LOG_C("cause", code),
                                               STET_LOG_C("job_id", id),
                                               STET_LOG_S("project_id", job->key),
                                               STET_LOG_S("session_id", session),
                                               {.name = NULL}});
    return rc;
}

/* ---- the hook ---- */

/* drafter.queue finds a project's active job by one row, however long its backlog is. */
static void note_active(stet_turn *turn, const stet_job *job, stet_job_state before) {
    bool active = job->state == STET_JOB_ACTIVE;
    if (active == (before == STET_JOB_ACTIVE))
        return;
    stet_key key = drafter_project_key(DRAFTER_TABLE_ACTIVE, job->key);
    if (active)
        stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key),
                       stet_str_from(job->id.bytes, STET_ID_BYTES));
    else
        stet_batch_delete(stet_turn_batch(turn), stet_key_bytes(&key));
}

stet_code drafter_job_written(stet_turn *turn, const stet_job *job, stet_job_state before, stet_error *e) {
    char text[512];
    report_event event;
    note_active(turn, job, before);
    stet_code rc = STET_OK;
    if (event_of(job, before, text, sizeof(text), &event))
        rc = send_event(turn, job, &event, e);
    if (rc == STET_OK)
        rc = send_metric(turn, job, e);
    if (rc == STET_OK && job->state == STET_JOB_ERROR && before != STET_JOB_ERROR)
        rc = send_alert(turn, job, e);
    return rc;
}
