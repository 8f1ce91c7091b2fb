/* Submission, and what an actor says about a running attempt. */
#include "actors/runtime/jobs_change.h"
#include "proto/base/fault.h"

static stet_code validate(const stet_job_submit *submit, stet_error *e) {
    if (submit->key.size == 0 || submit->key.size > STET_JOB_KEY_SIZE_MAX)
        return stet_error_field(e, STET_INVALID, "key", "a job's key has 1 to %d bytes; shorten it",
                                STET_JOB_KEY_SIZE_MAX);
    if (submit->dedup_key.size > STET_JOB_KEY_SIZE_MAX)
        return stet_error_field(e, STET_INVALID, "dedupKey", "a dedup key has at most %d bytes; shorten it",
                                STET_JOB_KEY_SIZE_MAX);
    if (submit->priority >= STET_JOB_PRIORITIES)
        return stet_error_field(e, STET_INVALID, "priority", "a priority is 0 to %d",
                                STET_JOB_PRIORITIES - 1);
    if (submit->payload.size > STET_JOB_PAYLOAD_MAX)
        return stet_error_set(e, STET_TOO_LARGE,
                              "a job's payload has %zu bytes, at most %d are allowed; send less",
                              submit->payload.size, STET_JOB_PAYLOAD_MAX);
    return STET_OK;
}

/* A job with the same dedup key waits: it is the answer. */
static stet_code submit_again(stet_turn *turn, const stet_job_submit *submit, jobs_record *waiting,
                              stet_error *e) {
    if (submit->dedup != STET_DEDUP_REPLACE_PAYLOAD)
        return STET_OK;
    jobs_record after = *waiting;
    after.job.payload = submit->payload;
    after.replace = true;
    stet_code rc = jobs_change(turn, waiting, &after, JOBS_PAYLOAD, e);
    if (rc == STET_OK)
        *waiting = after;
    return rc;
}

static stet_code submit_first(stet_turn *turn, const stet_job_queue *queue, const stet_job_submit *submit,
                              jobs_record *ret, stet_error *e) {
    jobs_queue_state state;
    stet_code rc = jobs_queue_load(stet_turn_batch(turn), queue, &state, e);
    if (rc != STET_OK)
        return rc;
    int64_t now_ms = stet_turn_wall_ms(turn);
    bool later = submit->run_at_ms > now_ms;
    stet_id id = jobs_index_id(&state, stet_turn_new_id(turn));
    jobs_record record = {.job = {.id = id,
                                  .queue = queue,
                                  .order = jobs_order_of(id),
                                  .key = submit->key,
                                  .dedup_key = submit->dedup_key,
                                  .state = later ? STET_JOB_DELAYED : STET_JOB_QUEUED,
                                  .priority = submit->priority,
                                  .created_ms = now_ms,
                                  .run_at_ms = later ? submit->run_at_ms : now_ms,
                                  .payload = submit->payload},
                          .replace = submit->dedup == STET_DEDUP_REPLACE_PAYLOAD};
    rc = jobs_change(turn, NULL, &record, JOBS_PAYLOAD, e);
    FAULT(job_submitted);
    if (rc == STET_OK)
        *ret = record;
    return rc;
}

stet_code stet_job_submit_new(stet_turn *turn, const stet_job_queue *queue, const stet_job_submit *submit,
                              stet_job *ret_job, bool *ret_existing, stet_error *e) {
    stet_code rc = validate(submit, e);
    if (rc != STET_OK)
        return rc;
    jobs_record record;
    rc = STET_NOT_FOUND;
    if (submit->dedup_key.size > 0)
        rc = jobs_dedup_find(turn, queue, submit->key, submit->dedup_key, &record, e);
    if (rc != STET_OK && rc != STET_NOT_FOUND)
        return rc;
    bool existing = rc == STET_OK;
    rc = existing ? submit_again(turn, submit, &record, e) : submit_first(turn, queue, submit, &record, e);
    if (rc != STET_OK)
        return rc;
    *ret_job = record.job;
    *ret_existing = existing;
    return STET_OK;
}

stet_code stet_job_read(stet_turn *turn, const stet_job_queue *queue, stet_id id, stet_job *ret_job,
                        stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load(stet_turn_batch(turn), queue, id, &record, e);
    if (rc == STET_OK)
        *ret_job = record.job;
    return rc;
}

/* ---- the running attempt ---- */

stet_code stet_job_set_detail(stet_turn *turn, stet_job *job, stet_str detail, double progress,
                              stet_error *e) {
    if (detail.size > STET_JOB_DETAIL_MAX)
        return stet_error_set(e, STET_TOO_LARGE,
                              "the detail of an attempt has %zu bytes, at most %d are allowed", detail.size,
                              STET_JOB_DETAIL_MAX);
    jobs_record record;
    stet_code rc = jobs_load_active(turn, job, &record, e);
    if (rc != STET_OK)
        return rc;
    jobs_record after = record;
    after.job.detail = detail;
    after.job.progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
    rc = jobs_change(turn, &record, &after, JOBS_STRINGS, e);
    if (rc == STET_OK)
        *job = after.job;
    return rc;
}

stet_code stet_job_resume_at(stet_turn *turn, stet_job *job, int64_t wall_ms, stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_load_active(turn, job, &record, e);
    if (rc != STET_OK)
        return rc;
    jobs_record after = record;
    after.resume_at_ms = wall_ms > 0 ? wall_ms : 1;
    rc = jobs_change_quietly(turn, &record, &after, 0, e);
    if (rc == STET_OK)
        *job = after.job;
    return rc;
}

stet_code stet_job_done(stet_turn *turn, stet_job *job, stet_str result, stet_error *e) {
    if (result.size > STET_JOB_RESULT_MAX)
        return stet_error_set(e, STET_TOO_LARGE, "the result of a job has %zu bytes, at most %d are allowed",
                              result.size, STET_JOB_RESULT_MAX);
    jobs_record record;
    stet_code rc = jobs_load_active(turn, job, &record, e);
    if (rc != STET_OK)
        return rc;
    jobs_end end = {.state = STET_JOB_DONE, .outcome = "done", .result = result};
    rc = jobs_end_attempt(turn, &record, &end, e);
    if (rc == STET_OK)
        *job = record.job;
    return rc;
}

stet_code stet_job_failed(stet_turn *turn, stet_job *job, const char *error_code, stet_str message,
                          int64_t retry_after_ms, stet_error *e) {
    ASSERT(error_code != NULL && error_code[0] != '\0');
    jobs_record record;
    stet_code rc = jobs_load_active(turn, job, &record, e);
    if (rc == STET_OK)
        rc = jobs_fail_attempt(turn, &record, error_code, message, retry_after_ms, e);
    if (rc == STET_OK)
        *job = record.job;
    return rc;
}

stet_code stet_job_fail_finally(stet_turn *turn, stet_job *job, const char *error_code, stet_str message,
                                stet_error *e) {
    ASSERT(error_code != NULL && error_code[0] != '\0');
    jobs_record record;
    stet_code rc = jobs_load_active(turn, job, &record, e);
    if (rc != STET_OK)
        return rc;
    jobs_end end = {
        .state = STET_JOB_ERROR, .outcome = "failed", .error_code = error_code, .message = message};
    rc = jobs_end_attempt(turn, &record, &end, e);
    if (rc == STET_OK)
        *job = record.job;
    return rc;
}
