#include "actors/runtime/jobs_change.h"
#include "proto/base/fault.h"

enum { JITTER_PART = 4 };
static const int64_t WAIT_MS_MAX =
    INT64_C(365) * 24 * 3600 * 1000; /* no wait is longer, whatever was configured */

/* ---- settings ---- */

uint32_t jobs_concurrency(stet_turn *turn, const stet_job_queue *queue) {
    return queue->concurrency != NULL ? queue->concurrency(stet_turn_config(turn)) : 0;
}

uint32_t jobs_attempts_max(stet_turn *turn, const stet_job_queue *queue) {
    return queue->attempts_max != NULL ? queue->attempts_max(stet_turn_config(turn)) : 0;
}

int64_t jobs_keep_ms(stet_turn *turn, const stet_job_queue *queue) {
    return queue->keep_ms != NULL ? queue->keep_ms(stet_turn_config(turn)) : 0;
}

/* ---- writing ---- */

stet_code jobs_change_quietly(stet_turn *turn, const jobs_record *before, jobs_record *after,
                              unsigned changed, stet_error *e) {
    stet_batch *batch = stet_turn_batch(turn);
    jobs_record record = *after;
    if (record.job.state != STET_JOB_QUEUED)
        record.forced = false;
    if (record.job.state != STET_JOB_ACTIVE)
        record.resume_at_ms = 0;
    stet_code rc = jobs_record_put(batch, &record, changed, e);
    if (rc == STET_OK)
        rc = jobs_index_move(batch, before, &record, e);
    if (rc == STET_OK && changed != 0)
        rc = jobs_record_keep(batch, &record, changed, e);
    if (rc != STET_OK)
        return rc;
    bool freed =
        before != NULL && before->job.state == STET_JOB_ACTIVE && record.job.state != STET_JOB_ACTIVE;
    if (freed || jobs_waits(&record) || record.resume_at_ms != 0)
        stet_turn_wake_jobs(turn);
    *after = record;
    return STET_OK;
}

stet_code jobs_change(stet_turn *turn, const jobs_record *before, jobs_record *after, unsigned changed,
                      stet_error *e) {
    const stet_job_queue *queue = after->job.queue;
    stet_job_state state_before = before != NULL ? before->job.state : STET_JOB_STATES_COUNT;
    stet_code rc = jobs_change_quietly(turn, before, after, changed, e);
    if (rc == STET_OK && queue->written != NULL)
        rc = queue->written(turn, &after->job, state_before, e);
    return rc;
}

stet_code jobs_load_active(stet_turn *turn, const stet_job *job, jobs_record *ret, stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load(stet_turn_batch(turn), job->queue, job->id, &record, e);
    if (rc != STET_OK)
        return rc;
    if (record.job.state != STET_JOB_ACTIVE || record.job.attempt_total != job->attempt_total) {
        char text[STET_ID_TEXT_SIZE];
        stet_id_text(job->id, text);
        return stet_error_set(e, STET_CONFLICT,
                              "attempt %u of job %s is over (the job is %s); drop its result",
                              job->attempt_total, text, stet_job_state_name(record.job.state));
    }
    *ret = record;
    return STET_OK;
}

static void set_error(stet_job *job, const char *code, stet_str message, int64_t now_ms) {
    stet_str cut = jobs_cut(stet_str_of(code), sizeof(job->error_code) - 1);
    memset(job->error_code, 0, sizeof(job->error_code));
    if (cut.size > 0)
        memcpy(job->error_code, cut.data, cut.size);
    job->error_message = jobs_cut(message, JOBS_MESSAGE_MAX);
    job->error_ms = now_ms;
}

/* ---- ends ---- */

stet_code jobs_dedup_find(stet_turn *turn, const stet_job_queue *queue, stet_str key, stet_str dedup_key,
                          jobs_record *ret, stet_error *e) {
    stet_batch *batch = stet_turn_batch(turn);
    stet_key row = jobs_dedup_key(queue, key, dedup_key);
    stet_str value;
    stet_code rc = stet_batch_get(batch, stet_key_bytes(&row), &value, e);
    if (rc != STET_OK)
        return rc;
    stet_id id;
    if (!stet_id_from_bytes(value, &id))
        return stet_error_set(e, STET_INTERNAL, "a dedup row of queue %s cannot be read; restore a backup",
                              queue->name);
    return jobs_record_load(batch, queue, id, ret, e);
}

stet_code jobs_end_waiting(stet_turn *turn, jobs_record *record, stet_job_state state, const char *error_code,
                           stet_str message, stet_error *e) {
    int64_t now_ms = stet_turn_wall_ms(turn);
    jobs_record after = *record;
    after.job.state = state;
    after.job.finished_ms = now_ms;
    if (error_code != NULL)
        set_error(&after.job, error_code, message, now_ms);
    stet_code rc = jobs_change(turn, record, &after, error_code != NULL ? JOBS_STRINGS : 0, e);
    if (rc == STET_OK)
        *record = after;
    return rc;
}

/* The job wants to wait again. True through ret_superseded when another one waits in its place, for good. */
static stet_code settle_dedup(stet_turn *turn, const jobs_record *record, bool *ret_superseded,
                              stet_error *e) {
    *ret_superseded = false;
    if (record->job.dedup_key.size == 0)
        return STET_OK;
    jobs_record other;
    stet_code rc =
        jobs_dedup_find(turn, record->job.queue, record->job.key, record->job.dedup_key, &other, e);
    if (rc == STET_NOT_FOUND)
        return STET_OK;
    if (rc != STET_OK)
        return rc;
    if (other.replace) {
        *ret_superseded = true;
        return STET_OK;
    }
    return jobs_end_waiting(
        turn, &other, STET_JOB_CANCELLED, "superseded",
        STET_STR("the job before it, with the same dedup key, waits again and runs instead"), e);
}

stet_code jobs_end_attempt(stet_turn *turn, jobs_record *record, const jobs_end *end, stet_error *e) {
    int64_t now_ms = stet_turn_wall_ms(turn);
    const char *code = end->error_code != NULL ? end->error_code : "";
    jobs_record after = *record;
    stet_job *job = &after.job;
    job->state = end->state;
    bool superseded = false;
    if (jobs_waits(&after)) {
        stet_code rc = settle_dedup(turn, record, &superseded, e);
        if (rc != STET_OK)
            return rc;
    }
    uint8_t room[1024];
    CLEANUP(stet_buf_done) stet_buf history = STET_BUF_ON(room, STET_VALUE_BYTES_MAX);
    jobs_history_append(&history, record, now_ms, end->outcome, code,
                        jobs_cut(end->message, JOBS_MESSAGE_MAX));
    if (!stet_buf_ok(&history))
        return stet_error_set(e, STET_BUSY, "no memory for the history of a job; give the actor more");
    job->attempts = stet_buf_str(&history);
    if (code[0] != '\0')
        set_error(job, code, end->message, now_ms);
    if (superseded) {
        job->state = STET_JOB_CANCELLED;
        set_error(job, "superseded", STET_STR("a newer job with the same dedup key waits and runs instead"),
                  now_ms);
    }
    unsigned changed = JOBS_HISTORY;
    if (job->state == STET_JOB_DONE) {
        job->result = end->result;
        job->progress = 1;
        set_error(job, "", (stet_str){NULL, 0}, 0);
        changed |= JOBS_RESULT;
    }
    if (jobs_waits(&after)) {
        job->run_at_ms = now_ms + end->wait_ms;
        job->progress = 0;
    } else {
        job->finished_ms = now_ms;
    }
    stet_code rc = jobs_change(turn, record, &after, changed, e);
    FAULT(job_ended);
    if (rc == STET_OK)
        *record = after;
    return rc;
}

static int64_t backoff_ms(stet_turn *turn, const jobs_record *record, int64_t retry_after_ms) {
    if (retry_after_ms < 0)
        return 0;
    const stet_job_queue *queue = record->job.queue;
    const stet_config *config = stet_turn_config(turn);
    int64_t wait_ms = queue->backoff_first_ms != NULL ? queue->backoff_first_ms(config) : 0;
    int64_t max_ms = queue->backoff_max_ms != NULL ? queue->backoff_max_ms(config) : 0;
    if (max_ms <= 0 || max_ms > WAIT_MS_MAX)
        max_ms = WAIT_MS_MAX;
    if (wait_ms < 0)
        wait_ms = 0;
    for (uint32_t i = 1; i < record->job.attempt && wait_ms < max_ms && wait_ms > 0; i++)
        wait_ms *= 2;
    if (wait_ms > max_ms)
        wait_ms = max_ms;
    wait_ms += (int64_t)stet_prng_below(stet_turn_prng(turn), (uint64_t)(wait_ms / JITTER_PART) + 1);
    if (retry_after_ms > WAIT_MS_MAX)
        retry_after_ms = WAIT_MS_MAX;
    return wait_ms < retry_after_ms ? retry_after_ms : wait_ms;
}

stet_code jobs_fail_attempt(stet_turn *turn, jobs_record *record, const char *error_code, stet_str message,
                            int64_t retry_after_ms, stet_error *e) {
    FAULT(job_failed);
    uint32_t attempts_max = jobs_attempts_max(turn, record->job.queue);
    jobs_end end = {
        .state = STET_JOB_ERROR, .outcome = "failed", .error_code = error_code, .message = message};
    if (attempts_max == 0 || record->job.attempt < attempts_max) {
        end.wait_ms = backoff_ms(turn, record, retry_after_ms);
        end.state = end.wait_ms > 0 ? STET_JOB_DELAYED : STET_JOB_QUEUED;
    }
    return jobs_end_attempt(turn, record, &end, e);
}
