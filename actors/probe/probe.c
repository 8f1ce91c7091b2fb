#include "actors/probe/probe.h"

#include "actors/runtime/jobs.h"

enum {
    TABLE_VALUES = STET_TABLE_ACTOR_FIRST, /* key -> the value */
};

/* ---- values ---- */

static stet_key value_key(stet_str key) {
    stet_key k = stet_key_of(TABLE_VALUES);
    stet_key_str(&k, key);
    return k;
}

static stet_code put(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    (void)reply, (void)e;
    const cmd_probe_put *put = request;
    stet_key key = value_key(put->key);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), put->value);
    return STET_OK;
}

static stet_code get(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    const cmd_probe_get *get = request;
    stet_key key = value_key(get->key);
    stet_str value;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &value, e);
    if (rc == STET_NOT_FOUND)
        return stet_error_field(e, rc, "key", "there is no value under this key: put one first");
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 1);
    stet_mp_put_raw(reply, "value", value);
    return STET_OK;
}

/* ---- jobs ---- */

static uint32_t concurrency(const stet_config *config) {
    (void)config;
    return 4096;
}

static uint32_t attempts_max(const stet_config *config) {
    (void)config;
    return 3;
}

static int64_t backoff_ms(const stet_config *config) {
    (void)config;
    return 100;
}

static int64_t keep_ms(const stet_config *config) {
    return stet_config_int(config, STET_SETTING_actor_duplicates_keep);
}

static stet_code run(stet_turn *turn, stet_job *job, stet_error *e) {
    return stet_job_done(turn, job, (stet_str){NULL, 0}, e);
}

/* The payload of a job: its session, then what the caller gave. */
static stet_code written(stet_turn *turn, const stet_job *job, stet_job_state before, stet_error *e) {
    if (job->state == before)
        return STET_OK;
    stet_event event = {
        .session_id = stet_mp_get_str(job->payload, "sessionId", STET_STR("")),
        .job_id = job->id,
        .kind = "probe",
        .status = stet_job_state_name(job->state),
        .attempt = job->attempt_total,
        .progress = job->state == STET_JOB_DONE ? 1.0 : 0.0,
    };
    return stet_turn_event(turn, &event, e);
}

static const stet_job_queue jobs = {
    .name = "probe",
    .concurrency = concurrency,
    .key_concurrency = 1,
    .attempts_max = attempts_max,
    .backoff_first_ms = backoff_ms,
    .backoff_max_ms = backoff_ms,
    .keep_ms = keep_ms,
    .run = run,
    .written = written,
};

static stet_code submit(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    const cmd_probe_job *wanted = request;
    uint8_t room[2048];
    CLEANUP(stet_buf_done) stet_buf payload = STET_BUF_ON(room, STET_JOB_PAYLOAD_MAX);
    stet_mp_map(&payload, wanted->has_payload ? 2 : 1);
    stet_mp_put_str(&payload, "sessionId", wanted->session_id);
    if (wanted->has_payload)
        stet_mp_put_raw(&payload, "payload", wanted->payload);
    if (stet_buf_starved(&payload))
        return stet_error_set(e, STET_BUSY, "there is no memory for the job's payload now; send it again");
    if (!stet_buf_ok(&payload))
        return stet_error_field(e, STET_TOO_LARGE, "payload", "a payload has %d bytes at most",
                                STET_JOB_PAYLOAD_MAX);

    char id_text[STET_ID_TEXT_SIZE];
    stet_id_text(stet_turn_request_id(turn), id_text);
    stet_job_submit submit = {
        .key = wanted->has_key ? wanted->key : stet_str_of(id_text),
        .payload = stet_buf_str(&payload),
        .priority = 5,
        .run_at_ms = wanted->run_at,
    };
    stet_job job;
    bool existing = false;
    stet_code rc = stet_job_submit_new(turn, &jobs, &submit, &job, &existing, e);
    if (rc != STET_OK)
        return rc;
    stet_id_text(job.id, id_text);
    stet_mp_map(reply, 2);
    stet_mp_put_cstr(reply, "jobId", id_text);
    stet_mp_put_cstr(reply, "status", stet_job_state_name(job.state));
    return STET_OK;
}

/* ---- the actor ---- */

static const stet_handler handlers[] = {
    {STET_CMD_probe_put, put},
    {STET_CMD_probe_get, get},
    {STET_CMD_probe_job, submit},
};

static const stet_table_name tables[] = {{TABLE_VALUES, "values"}};

const stet_service probe_service = {
    .name = "probe",
    .handlers = handlers,
    .handlers_count = COUNT_OF(handlers),
    .queues = &jobs,
    .queues_count = 1,
    .tables = tables,
    .tables_count = COUNT_OF(tables),
};
