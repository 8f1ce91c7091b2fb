/* What an operator does to jobs: cancel, retry, drain, pause. */
#include "actors/runtime/jobs_change.h"
#include "proto/base/fault.h"

enum { DRAIN_LOOKS_MAX = 10000 }; /* rows one drain looks at */

/* ---- cancel and retry ---- */

static stet_code refuse(const stet_job *job, const char *what, stet_error *e) {
    char text[STET_ID_TEXT_SIZE];
    stet_id_text(job->id, text);
    return stet_error_set(e, STET_CONFLICT, "job %s is %s and cannot be %s", text,
                          stet_job_state_name(job->state), what);
}

stet_code stet_job_cancel(stet_turn *turn, stet_job *job, stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load(stet_turn_batch(turn), job->queue, job->id, &record, e);
    if (rc != STET_OK)
        return rc;
    FAULT(job_cancelled);
    switch (record.job.state) {
    case STET_JOB_QUEUED:
    case STET_JOB_DELAYED:
        rc = jobs_end_waiting(turn, &record, STET_JOB_CANCELLED, NULL, (stet_str){NULL, 0}, e);
        break;
    case STET_JOB_ACTIVE:
        if (record.job.queue->abandon != NULL)
            record.job.queue->abandon(turn, &record.job);
        rc = jobs_end_attempt(turn, &record, &(jobs_end){.state = STET_JOB_CANCELLED, .outcome = "cancelled"},
                              e);
        break;
    case STET_JOB_CANCELLED:
        break;
    default:
        return refuse(&record.job, "cancelled", e);
    }
    if (rc == STET_OK)
        *job = record.job;
    return rc;
}

stet_code stet_job_retry(stet_turn *turn, stet_job *job, stet_error *e) {
    jobs_record record, other;
    stet_code rc = jobs_record_load(stet_turn_batch(turn), job->queue, job->id, &record, e);
    if (rc != STET_OK)
        return rc;
    if (record.job.state != STET_JOB_ERROR && record.job.state != STET_JOB_CANCELLED)
        return refuse(&record.job, "retried; only error and cancelled jobs can", e);
    if (record.job.dedup_key.size > 0) {
        rc = jobs_dedup_find(turn, job->queue, record.job.key, record.job.dedup_key, &other, e);
        if (rc == STET_OK)
            return refuse(&record.job, "retried: another job with its dedup key waits", e);
        if (rc != STET_NOT_FOUND)
            return rc;
    }
    jobs_record after = record;
    after.job.state = STET_JOB_QUEUED;
    after.job.attempt = 0;
    after.job.retries++;
    FAULT(job_retried);
    after.job.run_at_ms = stet_turn_wall_ms(turn);
    after.job.started_ms = 0;
    after.job.finished_ms = 0;
    after.job.progress = 0;
    after.job.detail = (stet_str){NULL, 0};
    memset(after.job.error_code, 0, sizeof(after.job.error_code));
    after.job.error_message = (stet_str){NULL, 0};
    after.job.error_ms = 0;
    rc = jobs_change(turn, &record, &after, 0, e);
    if (rc == STET_OK)
        *job = after.job;
    return rc;
}

/* ---- drain ---- */

typedef struct drain {
    stet_turn *turn;
    const stet_job_queue *queue;
    stet_id *ids;
    uint32_t limit, count;
    uint32_t looks; /* rows that may still be looked at */
} drain;

/* Gathers ids of an index whose keys end with the id, skipping what is drained already. */
static stet_code gather(drain *d, uint8_t table, bool forced_possible, stet_id *ids, uint32_t max,
                        uint32_t *ret_count, stet_error *e) {
    stet_key prefix = jobs_index_key(table, d->queue);
    CLEANUP(stet_scan_done)
    stet_scan *scan = jobs_scan(stet_turn_batch(d->turn), d->queue, &prefix, (stet_str){NULL, 0}, e);
    if (scan == NULL)
        return STET_BUSY;
    uint32_t count = 0;
    stet_str key, value;
    while (count < max && d->looks > 0 && stet_scan_next(scan, &key, &value)) {
        d->looks--;
        stet_key_reader r = jobs_behind(key, &prefix);
        if (forced_possible) {
            char job_key[STET_JOB_KEY_SIZE_MAX + 1];
            (void)stet_key_read_str(&r, job_key, sizeof(job_key));
            if (stet_key_read_u64(&r) == 0)
                continue;
        } else {
            (void)stet_key_read_u64(&r);
        }
        ids[count] = stet_key_read_id(&r);
        if (r.failed)
            return stet_error_set(e, STET_INTERNAL,
                                  "an index row of queue %s cannot be read; restore a backup",
                                  d->queue->name);
        count++;
    }
    *ret_count = count;
    return stet_scan_status(scan, e);
}

static stet_code force(drain *d, const stet_id *ids, uint32_t count, stet_error *e) {
    int64_t now_ms = stet_turn_wall_ms(d->turn);
    for (uint32_t i = 0; i < count && d->count < d->limit; i++) {
        jobs_record record;
        stet_code rc = jobs_record_load(stet_turn_batch(d->turn), d->queue, ids[i], &record, e);
        if (rc != STET_OK)
            return rc;
        if (!jobs_waits(&record))
            return stet_error_set(e, STET_INTERNAL,
                                  "an index row of queue %s is of a job that does not wait; restore a backup",
                                  d->queue->name);
        if (record.forced)
            continue;
        jobs_record after = record;
        after.forced = true;
        FAULT(job_drained);
        after.job.state = STET_JOB_QUEUED;
        if (record.job.state == STET_JOB_DELAYED) {
            after.job.run_at_ms = now_ms;
            rc = jobs_change(d->turn, &record, &after, 0, e);
        } else { /* neither state nor detail changes: nothing to tell */
            rc = jobs_change_quietly(d->turn, &record, &after, 0, e);
        }
        if (rc != STET_OK)
            return rc;
        d->ids[d->count++] = ids[i];
    }
    return STET_OK;
}

enum { DRAIN_PAGE = 64 };

/* The heads that may start, level by level. */
static stet_code drain_ready(drain *d, stet_error *e) {
    jobs_queue_state state;
    stet_code rc = jobs_queue_load(stet_turn_batch(d->turn), d->queue, &state, e);
    for (uint32_t level = 1; rc == STET_OK && level < JOBS_LEVELS; level++) {
        while (rc == STET_OK && d->count < d->limit && d->looks > 0 && state.ready[level] > 0) {
            jobs_ready_row rows[DRAIN_PAGE];
            stet_id ids[DRAIN_PAGE];
            uint32_t count = 0;
            rc = jobs_ready_rows(stet_turn_batch(d->turn), d->queue, &state, level, rows, DRAIN_PAGE, &count,
                                 e);
            if (rc != STET_OK || count == 0)
                break;
            d->looks -= count < d->looks ? count : d->looks;
            for (uint32_t i = 0; i < count; i++)
                ids[i] = rows[i].id;
            rc = force(d, ids, count, e);
            if (rc == STET_OK)
                rc = jobs_queue_load(stet_turn_batch(d->turn), d->queue, &state, e);
        }
    }
    return rc;
}

stet_code stet_job_drain(stet_turn *turn, const stet_job_queue *queue, uint32_t limit, stet_id *ids,
                         uint32_t *ret_count, stet_error *e) {
    drain d = {.turn = turn, .queue = queue, .ids = ids, .limit = limit, .looks = DRAIN_LOOKS_MAX};
    stet_code rc = drain_ready(&d, e);
    static const uint8_t TABLES[] = {STET_TABLE_JOBS_WAITING, STET_TABLE_JOBS_DELAYED};
    for (unsigned i = 0; rc == STET_OK && i < COUNT_OF(TABLES); i++) {
        while (rc == STET_OK && d.count < d.limit && d.looks > 0) {
            stet_id page[DRAIN_PAGE];
            uint32_t found = 0, before = d.count;
            uint32_t wanted = limit - d.count < DRAIN_PAGE ? limit - d.count : DRAIN_PAGE;
            rc = gather(&d, TABLES[i], TABLES[i] == STET_TABLE_JOBS_WAITING, page, wanted, &found, e);
            if (rc == STET_OK)
                rc = force(&d, page, found, e);
            if (found == 0 || d.count == before)
                break;
        }
    }
    if (rc == STET_OK)
        *ret_count = d.count;
    return rc;
}

/* ---- pause ---- */

stet_code stet_job_pause(stet_turn *turn, const stet_job_queue *queue, stet_str key, bool paused,
                         stet_error *e) {
    stet_batch *batch = stet_turn_batch(turn);
    int64_t now_ms = stet_turn_wall_ms(turn);
    int64_t since_ms = paused ? (now_ms > 0 ? now_ms : 1) : 0;
    if (key.size > STET_JOB_KEY_SIZE_MAX)
        return stet_error_field(e, STET_INVALID, "key", "a job's key has 1 to %d bytes",
                                STET_JOB_KEY_SIZE_MAX);
    FAULT(job_paused);
    stet_code rc;
    if (key.size > 0) {
        jobs_key_state state;
        rc = jobs_key_load(batch, queue, key, &state, e);
        if (rc == STET_OK && (state.paused_ms != 0) != paused)
            rc = jobs_index_pause_key(batch, queue, key, since_ms, e);
    } else {
        jobs_queue_state state;
        rc = jobs_queue_load(batch, queue, &state, e);
        if (rc == STET_OK && (state.paused_ms != 0) != paused) {
            state.paused_ms = since_ms;
            jobs_queue_save(batch, queue, &state);
        }
    }
    if (rc == STET_OK)
        stet_turn_wake_jobs(turn);
    return rc;
}

bool stet_job_paused(stet_turn *turn, const stet_job_queue *queue, stet_str key) {
    jobs_queue_state state;
    stet_error e;
    if (jobs_queue_load(stet_turn_batch(turn), queue, &state, &e) == STET_OK && state.paused_ms != 0)
        return true;
    jobs_key_state key_state;
    return key.size > 0 && jobs_key_load(stet_turn_batch(turn), queue, key, &key_state, &e) == STET_OK &&
           key_state.paused_ms != 0;
}
