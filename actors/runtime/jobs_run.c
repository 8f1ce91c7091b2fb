/* The tick: take back lost attempts, promote what is due, call running jobs again, start ready ones.
 *
 * Each step works on one job between a mark and, when it fails, an undo, so that one bad job costs the others
 * nothing. Nothing here grows with the backlog: a start reads one READY row, the job, its key and its queue.
 */
#include "actors/runtime/jobs_change.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

enum {
    STARTS_PER_TICK = 256,
    PAGE = 32, /* rows gathered before a scan is closed and they are worked on */
    DUE_PER_TICK = 256,
    TICK_BYTES_MAX = 256 << 10,
    LATER_MS = 100 /* wait after a run that answered busy, at least */
};

typedef struct tick {
    stet_turn *turn;
    stet_batch *batch;
    const stet_job_queue *queue;
    size_t bytes_at_start;
    int64_t now_ms;
    int64_t next_ms;
    uint32_t starts_left, due_left; /* of this queue */
    bool full;                      /* this turn takes no more */
    bool hold;                      /* this queue waits: its actor was busy */
} tick;

/* What became of one job's step. */
typedef enum step {
    STEP_OK,
    STEP_FULL,  /* does not fit into this turn */
    STEP_LATER, /* the actor cannot take it now */
    STEP_FAILED /* the actor answered an error */
} step;

static void plan(tick *t, int64_t wall_ms) {
    if (wall_ms < t->next_ms)
        t->next_ms = wall_ms;
}

/* No more work in this tick; what is left is planned for. */
static bool tick_is_over(tick *t, uint32_t left) {
    if (t->hold)
        return true;
    if (left > 0 && !t->full && stet_turn_bytes(t->turn) < t->bytes_at_start + TICK_BYTES_MAX)
        return false;
    plan(t, 0);
    return true;
}

static step step_of(stet_turn *turn, stet_code rc, stet_error *e) {
    if (stet_turn_overflowed(turn) && stet_turn_starved(turn)) {
        (void)stet_error_set(e, STET_BUSY, "no memory for a job now");
        return STEP_LATER;
    }
    if (stet_turn_overflowed(turn))
        return STEP_FULL;
    if (rc == STET_OK)
        return STEP_OK;
    return rc == STET_BUSY || rc == STET_UNAVAILABLE ? STEP_LATER : STEP_FAILED;
}

/* Undoes a step that did not go through. True when the error in e is the job's own and must be written. */
static bool step_undo(tick *t, stet_turn_mark mark, step outcome, bool alone, stet_error *e) {
    stet_turn_undo(t->turn, mark);
    switch (outcome) {
    case STEP_FULL:
        if (!alone) {
            t->full = true;
            return false;
        }
        (void)stet_error_set(e, STET_TOO_LARGE, "what the job asks for does not fit into one commit");
        return true;
    case STEP_LATER:
        t->hold = true;
        plan(t, t->now_ms + (e->retry_after_ms > LATER_MS ? (int64_t)e->retry_after_ms : LATER_MS));
        return false;
    default:
        return true;
    }
}

/* The first PAGE ids behind prefix. With `from`, keys are (time, id): only those up to until_ms are taken,
 * and the time of the first row goes to ret_first (UINT64_MAX: none). */
static stet_code page_of(stet_batch *batch, const stet_key *prefix, const stet_key *from, uint64_t until_ms,
                         stet_id *ids, uint32_t *ret_count, uint64_t *ret_first, stet_error *e) {
    CLEANUP(stet_scan_done)
    stet_scan *scan = stet_batch_scan(batch, stet_key_bytes(prefix),
                                      from != NULL ? stet_key_bytes(from) : (stet_str){NULL, 0},
                                      /* reverse= */ false);
    if (scan == NULL)
        return stet_error_set(e, STET_BUSY, "no memory to look at the jobs; give the actor more");
    uint32_t count = 0;
    uint64_t first = UINT64_MAX;
    stet_str key, value;
    while (count < PAGE && stet_scan_next(scan, &key, &value)) {
        stet_key_reader r = jobs_behind(key, prefix);
        uint64_t at_ms = from != NULL ? stet_key_read_u64(&r) : 0;
        stet_id id = stet_key_read_id(&r);
        if (r.failed)
            return stet_error_set(e, STET_INTERNAL,
                                  "an index row of the jobs cannot be read; restore a backup");
        if (count == 0)
            first = at_ms;
        if (at_ms > until_ms)
            break;
        ids[count++] = id;
    }
    *ret_count = count;
    *ret_first = first;
    return stet_scan_status(scan, e);
}

/* ---- recovery ---- */

static stet_code take_back(stet_turn *turn, jobs_record *record, stet_error *e) {
    uint32_t attempts_max = jobs_attempts_max(turn, record->job.queue);
    bool again = attempts_max == 0 || record->job.attempt < attempts_max;
    jobs_end end = {.state = again ? STET_JOB_QUEUED : STET_JOB_ERROR,
                    .outcome = "interrupted",
                    .error_code = "interrupted",
                    .message = STET_STR("the actor stopped during the attempt")};
    return jobs_end_attempt(turn, record, &end, e);
}

static stet_code recover_one(tick *t, stet_id id, stet_error *e) {
    stet_turn_mark mark = stet_turn_mark_of(t->turn);
    jobs_record record;
    stet_code rc = jobs_record_load(t->batch, t->queue, id, &record, e);
    FAULT(job_taken_back);
    if (rc == STET_OK)
        rc = take_back(t->turn, &record, e);
    step outcome = step_of(t->turn, rc, e);
    bool broken = outcome != STEP_OK && step_undo(t, mark, outcome, /* alone= */ false, e);
    stet_batch_release_reads(t->batch);
    return broken ? e->code : STET_OK;
}

/* Takes back active jobs of an earlier life; nothing of the queue starts before all are back. */
static stet_code recover_some(tick *t, stet_error *e) {
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS_ACTIVE, t->queue);
    stet_id ids[PAGE];
    uint32_t count = PAGE;
    while (count == PAGE) {
        uint64_t first;
        stet_code rc = page_of(t->batch, &prefix, NULL, 0, ids, &count, &first, e);
        for (uint32_t i = 0; rc == STET_OK && i < count; i++) {
            if (tick_is_over(t, 1))
                return STET_OK;
            rc = recover_one(t, ids[i], e);
        }
        if (rc != STET_OK)
            return rc;
    }
    jobs_queue_state state;
    stet_code rc = jobs_queue_load(t->batch, t->queue, &state, e);
    if (rc == STET_OK && count == 0 && state.counts[STET_JOB_ACTIVE] > 0)
        return stet_error_set(e, STET_INTERNAL,
                              "queue %s counts active jobs that have no row; restore a backup",
                              t->queue->name);
    if (rc != STET_OK || state.counts[STET_JOB_ACTIVE] > 0 || !state.recovering)
        return rc;
    state.recovering = false;
    jobs_queue_save(t->batch, t->queue, &state);
    return STET_OK;
}

static tick tick_of(stet_turn *turn) {
    return (tick){.turn = turn,
                  .batch = stet_turn_batch(turn),
                  .now_ms = stet_turn_wall_ms(turn),
                  .next_ms = INT64_MAX};
}

/* Each queue has limits of its own, so that the first cannot starve the others. */
static void tick_queue(tick *t, const stet_job_queue *queue) {
    t->queue = queue;
    t->bytes_at_start = stet_turn_bytes(t->turn);
    t->starts_left = STARTS_PER_TICK;
    t->due_left = DUE_PER_TICK;
    t->hold = false;
}

stet_code stet_jobs_recover(stet_turn *turn, const stet_service *service, stet_error *e) {
    tick t = tick_of(turn);
    for (size_t i = 0; i < service->queues_count; i++) {
        tick_queue(&t, &service->queues[i]);
        jobs_queue_state state;
        stet_code rc = jobs_queue_load(t.batch, t.queue, &state, e);
        if (rc == STET_OK && state.counts[STET_JOB_ACTIVE] > 0 && !PLANT(active_not_taken_back)) {
            state.recovering = true;
            jobs_queue_save(t.batch, t.queue, &state);
            rc = recover_some(&t, e);
        }
        if (rc != STET_OK)
            return rc;
    }
    stet_turn_wake_jobs(turn);
    return STET_OK;
}

/* ---- what is due ---- */

static stet_code promote(tick *t, stet_id id, stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load(t->batch, t->queue, id, &record, e);
    if (rc != STET_OK)
        return rc;
    jobs_record after = record;
    after.job.state = STET_JOB_QUEUED;
    FAULT(job_promoted);
    return jobs_change(t->turn, &record, &after, 0, e);
}

static stet_code resume(tick *t, stet_id id, stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load(t->batch, t->queue, id, &record, e);
    if (rc != STET_OK)
        return rc;
    jobs_record after = record;
    after.resume_at_ms = 0;
    FAULT(job_resumed);
    rc = jobs_change_quietly(t->turn, &record, &after, 0, e);
    return rc == STET_OK ? t->queue->run(t->turn, &after.job, e) : rc;
}

/* The actor's run or written failed: the attempt ends as failed, from the state before. */
static stet_code fail_resumed(tick *t, stet_id id, const stet_error *cause, stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load(t->batch, t->queue, id, &record, e);
    if (rc != STET_OK)
        return rc;
    if (t->queue->abandon != NULL)
        t->queue->abandon(t->turn, &record.job);
    return jobs_fail_attempt(t->turn, &record, stet_code_name(cause->code), stet_str_of(cause->message), 0,
                             e);
}

/* One due row: promote (DELAYED) or resume (RESUME). */
static stet_code due_one(tick *t, uint8_t table, stet_id id, stet_error *e) {
    stet_turn_mark mark = stet_turn_mark_of(t->turn);
    bool alone = stet_turn_bytes(t->turn) == 0;
    stet_code rc = table == STET_TABLE_JOBS_DELAYED ? promote(t, id, e) : resume(t, id, e);
    step outcome = step_of(t->turn, rc, e);
    bool failed = outcome != STEP_OK && step_undo(t, mark, outcome, alone, e);
    stet_batch_release_reads(t->batch);
    if (!failed)
        return STET_OK;
    if (table == STET_TABLE_JOBS_DELAYED)
        return e->code;
    stet_error cause = *e;
    rc = fail_resumed(t, id, &cause, e);
    stet_batch_release_reads(t->batch);
    return rc;
}

static bool due_row(const jobs_queue_state *state, uint8_t table, uint64_t *ret_from) {
    *ret_from = table == STET_TABLE_JOBS_DELAYED ? state->delayed_from : state->resume_from;
    return (table == STET_TABLE_JOBS_DELAYED ? state->counts[STET_JOB_DELAYED] : state->resumes) > 0;
}

/* Works through the rows of a time index that are due. */
static stet_code due(tick *t, uint8_t table, stet_error *e) {
    for (;;) {
        jobs_queue_state state;
        uint64_t from_ms, first_ms;
        stet_code rc = jobs_queue_load(t->batch, t->queue, &state, e);
        if (rc != STET_OK || !due_row(&state, table, &from_ms))
            return rc;
        if (from_ms > (uint64_t)t->now_ms) {
            plan(t, (int64_t)from_ms);
            return STET_OK;
        }
        stet_key prefix = jobs_index_key(table, t->queue);
        stet_key from = jobs_time_key(table, t->queue, from_ms, jobs_id_bound(0, /* low= */ true));
        stet_id ids[PAGE];
        uint32_t count;
        rc = page_of(t->batch, &prefix, &from, (uint64_t)t->now_ms, ids, &count, &first_ms, e);
        for (uint32_t i = 0; rc == STET_OK && i < count; i++) {
            if (tick_is_over(t, t->due_left))
                return STET_OK;
            t->due_left--;
            rc = due_one(t, table, ids[i], e);
        }
        if (rc == STET_OK && count == 0 && first_ms == UINT64_MAX)
            return stet_error_set(e, STET_INTERNAL,
                                  "queue %s counts due jobs that have no row; restore a backup",
                                  t->queue->name);
        if (rc == STET_OK && count == 0) { /* nothing was written since: this is where the next look begins */
            *(table == STET_TABLE_JOBS_DELAYED ? &state.delayed_from : &state.resume_from) = first_ms;
            jobs_queue_save(t->batch, t->queue, &state);
        }
        if (rc != STET_OK)
            return rc;
    }
}

/* ---- starts ---- */

static stet_key rate_key(const tick *t, const jobs_queue_state *state) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_RATE, t->queue);
    stet_key_u64(&key, state->rate_number % t->queue->rate_max);
    return key;
}

static void rate_put(tick *t, const stet_key *key, int64_t at_ms) {
    uint8_t room[16];
    stet_buf b = STET_BUF_ON(room, sizeof(room));
    stet_mp_int(&b, at_ms);
    ASSERT(stet_buf_ok(&b));
    stet_batch_put(t->batch, stet_key_bytes(key), stet_buf_str(&b));
}

/* The start rate_max starts ago must be a window away: exact for every window, one row read and written per
 * start. */
static stet_code rate_free_at(tick *t, const jobs_queue_state *state, int64_t *ret_ms, stet_error *e) {
    *ret_ms = 0;
    if (t->queue->rate_max == 0)
        return STET_OK;
    stet_key key = rate_key(t, state);
    stet_str value;
    stet_code rc = stet_batch_get(t->batch, stet_key_bytes(&key), &value, e);
    if (rc == STET_NOT_FOUND)
        return STET_OK;
    if (rc != STET_OK)
        return rc;
    stet_mp_reader r = stet_mp_reader_of(value);
    int64_t at_ms = stet_mp_read_int(&r);
    if (at_ms >
        t->now_ms) { /* the clock went back: count from now, rather than wait for the old time to return */
        at_ms = t->now_ms;
        rate_put(t, &key, at_ms);
    }
    *ret_ms = at_ms + t->queue->rate_window_ms;
    return STET_OK;
}

static stet_code rate_take(tick *t, stet_error *e) {
    if (t->queue->rate_max == 0)
        return STET_OK;
    jobs_queue_state state;
    stet_code rc = jobs_queue_load(t->batch, t->queue, &state, e);
    if (rc != STET_OK)
        return rc;
    stet_key key = rate_key(t, &state);
    rate_put(t, &key, t->now_ms);
    state.rate_number++;
    jobs_queue_save(t->batch, t->queue, &state);
    return STET_OK;
}

static stet_code begin_attempt(tick *t, jobs_record *record, stet_error *e) {
    stet_code rc = rate_take(t, e);
    if (rc != STET_OK)
        return rc;
    jobs_record after = *record;
    stet_job *job = &after.job;
    job->state = STET_JOB_ACTIVE;
    job->attempt++;
    job->attempt_total++;
    job->started_ms = t->now_ms;
    job->progress = 0;
    job->detail = (stet_str){NULL, 0};
    rc = jobs_change(t->turn, record, &after, 0, e);
    FAULT(job_started);
    if (rc == STET_OK)
        *record = after;
    return rc;
}

/* A start that failed was undone: write the attempt as failed, so that it counts and backs off. */
static stet_code fail_started(tick *t, stet_id id, const stet_error *cause, stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load(t->batch, t->queue, id, &record, e);
    if (rc == STET_OK)
        rc = begin_attempt(t, &record, e);
    if (rc == STET_OK)
        rc = jobs_fail_attempt(t->turn, &record, stet_code_name(cause->code), stet_str_of(cause->message), 0,
                               e);
    stet_batch_release_reads(t->batch);
    return rc;
}

/* No attempt is left (the setting was lowered): never one more without an operator. */
static stet_code guard(tick *t, jobs_record *record, bool *ret_ended, stet_error *e) {
    uint32_t attempts_max = jobs_attempts_max(t->turn, t->queue);
    *ret_ended = attempts_max != 0 && record->job.attempt >= attempts_max;
    if (!*ret_ended)
        return STET_OK;
    bool known = record->job.error_code[0] != '\0';
    return jobs_end_waiting(t->turn, record, STET_JOB_ERROR, known ? NULL : "attempts",
                            STET_STR("no attempt is left; retry the job by hand"), e);
}

static stet_code start_one(tick *t, stet_id id, stet_error *e) {
    stet_turn_mark mark = stet_turn_mark_of(t->turn);
    bool alone = stet_turn_bytes(t->turn) == 0;
    bool ended = false;
    jobs_record record;
    stet_code rc = jobs_record_load(t->batch, t->queue, id, &record, e);
    if (rc == STET_OK)
        rc = guard(t, &record, &ended, e);
    if (rc == STET_OK && !ended)
        rc = begin_attempt(t, &record, e);
    if (rc == STET_OK && !ended)
        rc = t->queue->run(t->turn, &record.job, e);
    step outcome = step_of(t->turn, rc, e);
    bool failed = outcome != STEP_OK && step_undo(t, mark, outcome, alone, e);
    stet_batch_release_reads(t->batch);
    if (!failed)
        return STET_OK;
    stet_error cause = *e;
    return fail_started(t, id, &cause, e);
}

/* The level to start from next: the first with a row; only drained jobs (level 0) while the queue is paused.
 */
static uint32_t next_level(const jobs_queue_state *state) {
    uint32_t levels = state->paused_ms != 0 ? 1 : JOBS_LEVELS;
    for (uint32_t i = 0; i < levels; i++)
        if (state->ready[i] > 0)
            return i;
    return JOBS_LEVELS;
}

/* Whether one more may start now; plans the next look when only time is missing. */
static stet_code may_start(tick *t, const jobs_queue_state *state, bool *ret_may, stet_error *e) {
    *ret_may = false;
    uint32_t concurrency = jobs_concurrency(t->turn, t->queue);
    if (concurrency != 0 && state->counts[STET_JOB_ACTIVE] >= concurrency)
        return STET_OK;
    int64_t free_at_ms;
    stet_code rc = rate_free_at(t, state, &free_at_ms, e);
    if (rc != STET_OK)
        return rc;
    if (free_at_ms > t->now_ms) {
        plan(t, free_at_ms);
        return STET_OK;
    }
    *ret_may = true;
    return STET_OK;
}

/* True when the row is still there: a run before it may have cancelled or displaced the job. */
static stet_code still_ready(tick *t, uint32_t level, uint64_t turn_number, bool *ret_there, stet_error *e) {
    stet_key key = jobs_ready_key(t->queue, level, turn_number);
    stet_str value;
    stet_code rc = stet_batch_get(t->batch, stet_key_bytes(&key), &value, e);
    *ret_there = rc == STET_OK;
    return rc == STET_NOT_FOUND ? STET_OK : rc;
}

/* Starts the first rows of a level until a better level appears or a limit is reached. */
static stet_code start_page(tick *t, jobs_queue_state *state, uint32_t level, bool *ret_may, stet_error *e) {
    jobs_ready_row rows[PAGE];
    uint32_t count = 0;
    stet_code rc = jobs_ready_rows(t->batch, t->queue, state, level, rows, PAGE, &count, e);
    if (rc == STET_OK && count == 0)
        return stet_error_set(e, STET_INTERNAL,
                              "queue %s counts ready jobs that have no row; restore a backup",
                              t->queue->name);
    for (uint32_t i = 0; rc == STET_OK && i < count && *ret_may; i++) {
        if (tick_is_over(t, t->starts_left))
            return STET_OK;
        bool there;
        rc = still_ready(t, level, rows[i].turn, &there, e);
        if (rc != STET_OK || !there)
            continue;
        t->starts_left--;
        rc = start_one(t, rows[i].id, e);
        if (rc == STET_OK)
            rc = jobs_queue_load(t->batch, t->queue, state, e);
        if (rc == STET_OK && next_level(state) != level)
            break;
        if (rc == STET_OK)
            rc = may_start(t, state, ret_may, e);
    }
    return rc;
}

static stet_code start_ready(tick *t, stet_error *e) {
    for (;;) {
        jobs_queue_state state;
        stet_code rc = jobs_queue_load(t->batch, t->queue, &state, e);
        if (rc != STET_OK)
            return rc;
        uint32_t level = next_level(&state);
        bool may = false;
        if (level < JOBS_LEVELS)
            rc = may_start(t, &state, &may, e);
        if (rc != STET_OK || !may)
            return rc;
        if (tick_is_over(t, t->starts_left))
            return STET_OK;
        rc = start_page(t, &state, level, &may, e);
        if (rc != STET_OK)
            return rc;
    }
}

/* ---- for the core ---- */

static stet_code tick_one(tick *t, stet_error *e) {
    jobs_queue_state state;
    stet_code rc = jobs_queue_load(t->batch, t->queue, &state, e);
    if (rc == STET_OK && state.recovering) {
        rc = recover_some(t, e);
        if (rc == STET_OK)
            rc = jobs_queue_load(t->batch, t->queue, &state, e);
        if (rc == STET_OK && state.recovering && !t->hold)
            plan(t, 0);
        if (rc != STET_OK || state.recovering)
            return rc;
    }
    if (rc == STET_OK)
        rc = due(t, STET_TABLE_JOBS_DELAYED, e);
    if (rc == STET_OK)
        rc = due(t, STET_TABLE_JOBS_RESUME, e);
    if (rc == STET_OK)
        rc = start_ready(t, e);
    if (rc == STET_OK)
        rc = jobs_queue_load(t->batch, t->queue, &state, e);
    if (rc != STET_OK || t->hold)
        return rc;
    /* What the starts left behind: back-offs and attempts to resume. */
    if (state.counts[STET_JOB_DELAYED] > 0)
        plan(t, (int64_t)state.delayed_from);
    if (state.resumes > 0)
        plan(t, (int64_t)state.resume_from);
    return STET_OK;
}

stet_code stet_jobs_tick(stet_turn *turn, const stet_service *service, int64_t *ret_next_wall_ms,
                         stet_error *e) {
    ASSERT(e != NULL);
    tick t = tick_of(turn);
    for (size_t i = 0; i < service->queues_count; i++) {
        tick_queue(&t, &service->queues[i]);
        stet_code rc = tick_one(&t, e);
        if (rc != STET_OK)
            return rc;
    }
    *ret_next_wall_ms = t.next_ms;
    return STET_OK;
}

static bool may_take(const stet_job *job, stet_call_ref ref) {
    if (PLANT(attempt_not_checked) && job->state == STET_JOB_ACTIVE)
        return true;
    if (PLANT(cancelled_lands) && job->state == STET_JOB_CANCELLED)
        return true;
    return job->state == STET_JOB_ACTIVE && job->attempt_total == ref.attempt;
}

bool stet_jobs_current(stet_turn *turn, const stet_service *service, stet_call_ref ref, stet_job *ret_job) {
    for (size_t i = 0; i < service->queues_count; i++) {
        jobs_record record;
        stet_error e;
        stet_code rc = jobs_record_load(stet_turn_batch(turn), &service->queues[i], ref.job_id, &record, &e);
        if (rc == STET_NOT_FOUND)
            continue;
        if (rc != STET_OK) /* nobody can say: the caller sees that the turn has failed */
            stet_turn_fail(turn, /* starved= */ rc == STET_BUSY);
        if (rc != STET_OK || !may_take(&record.job, ref))
            return false;
        *ret_job = record.job;
        return true;
    }
    return false;
}
