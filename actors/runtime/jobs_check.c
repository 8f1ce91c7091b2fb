/* Sweeping finished jobs, and verifying rows against each other for <service>.check. */
#include "actors/runtime/jobs_change.h"

enum { SWEEP_REMOVES_MAX = 128, RECOUNT_MAX = 10000 };

static const stet_job_queue *queue_named(const stet_service *service, stet_str name) {
    for (size_t i = 0; i < service->queues_count; i++)
        if (stet_str_is(name, service->queues[i].name))
            return &service->queues[i];
    return NULL;
}

/* The queue of a job table's key; the reader goes on behind its name. NULL: no such queue. */
static const stet_job_queue *queue_of(const stet_service *service, stet_str key, stet_key_reader *ret_rest) {
    char name[STET_JOB_KEY_SIZE_MAX];
    uint8_t table;
    *ret_rest = stet_key_reader_of(key, &table);
    size_t size = stet_key_read_str(ret_rest, name, sizeof(name));
    return ret_rest->failed ? NULL : queue_named(service, stet_str_from(name, size));
}

/* ---- sweep ---- */

static stet_code sweep_remove(stet_turn *turn, const stet_job_queue *queue, stet_id id, stet_error *e) {
    stet_batch *batch = stet_turn_batch(turn);
    jobs_record record;
    stet_code rc = jobs_record_load_row(batch, queue, id, &record, e);
    if (rc != STET_OK)
        return rc;
    jobs_record_delete(batch, &record);
    return jobs_index_move(batch, &record, NULL, e);
}

typedef struct sweep_found {
    const stet_job_queue *queue;
    stet_id id;
} sweep_found;

static stet_code sweep_look(stet_turn *turn, const stet_service *service, stet_str key, stet_str value,
                            sweep_found *found, uint32_t *count, stet_error *e) {
    stet_key_reader rest;
    const stet_job_queue *queue = queue_of(service, key, &rest);
    if (queue == NULL) /* a queue that this release does not have: nobody knows how long to keep it */
        return STET_OK;
    int64_t keep_ms = jobs_keep_ms(turn, queue);
    jobs_record record;
    stet_id id = stet_key_read_id(&rest);
    stet_code rc = jobs_record_decode(queue, id, value, &record, e);
    if (rc == STET_OK && keep_ms > 0 && jobs_finished(record.job.state) &&
        record.job.finished_ms <= stet_turn_wall_ms(turn) - keep_ms)
        found[(*count)++] = (sweep_found){.queue = queue, .id = id};
    return rc;
}

stet_code stet_jobs_sweep(stet_turn *turn, const stet_service *service, stet_buf *cursor, uint32_t rows_max,
                          stet_error *e) {
    sweep_found found[SWEEP_REMOVES_MAX];
    uint32_t count = 0, looked = 0;
    bool more = false;
    {
        stet_key prefix = stet_key_of(STET_TABLE_JOBS);
        CLEANUP(stet_scan_done)
        stet_scan *scan =
            stet_batch_scan(stet_turn_batch(turn), stet_key_bytes(&prefix), stet_buf_str(cursor),
                            /* reverse= */ false);
        if (scan == NULL)
            return stet_error_set(e, STET_BUSY, "no memory to sweep finished jobs; give the actor more");
        stet_str key, value;
        while (stet_scan_next(scan, &key, &value)) {
            if (looked++ == rows_max || count == SWEEP_REMOVES_MAX) { /* the next call begins with this row */
                stet_buf_clear(cursor);
                stet_buf_append_str(cursor, key);
                more = stet_buf_ok(cursor);
                break;
            }
            stet_code rc = sweep_look(turn, service, key, value, found, &count, e);
            if (rc != STET_OK)
                return rc;
        }
        stet_code rc = stet_scan_status(scan, e);
        if (rc != STET_OK)
            return rc;
    }
    for (uint32_t i = 0; i < count; i++) {
        stet_code rc = sweep_remove(turn, found[i].queue, found[i].id, e);
        if (rc != STET_OK)
            return rc;
    }
    if (!more)
        stet_buf_clear(cursor);
    return STET_OK;
}

/* ---- check ---- */

typedef struct check {
    stet_batch *batch;
    const stet_job_queue *queue;
    stet_checker *checker;
    stet_str key, value;  /* the row looked at */
    stet_key_reader rest; /* its key behind the queue's name */
} check;

#define PROBLEM(c, kind, ...) stet_check_problem((c)->checker, kind, (c)->key, __VA_ARGS__)

static void want_row(const check *c, const stet_key *key, const char *name, const stet_job *job) {
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(c->batch, stet_key_bytes(key), (stet_str){NULL, 0}, /* reverse= */ false);
    stet_str found, value;
    if (scan == NULL || !stet_scan_next(scan, &found, &value) || !stet_str_equal(found, stet_key_bytes(key)))
        PROBLEM(c, "job_index_missing", "a job that is %s has no row in %s", stet_job_state_name(job->state),
                name);
}

/* Loads the job a row belongs to; false, and a problem, when there is none. */
static bool job_of_row(const check *c, stet_id id, jobs_record *ret) {
    stet_error e;
    if (jobs_record_load_row(c->batch, c->queue, id, ret, &e) == STET_OK)
        return true;
    PROBLEM(c, "job_index_stray", "the row's job cannot be read: %s", e.message);
    return false;
}

static void stray_unless(const check *c, bool justified, const char *what) {
    if (!justified)
        PROBLEM(c, "job_index_stray", "%s", what);
}

static void check_job_blobs(const check *c, const jobs_record *r) {
    for (unsigned i = 0; i < JOBS_PARTS; i++) {
        if (r->blob_bytes[i] == 0)
            continue;
        stet_key key = jobs_blob_key(c->queue, r->job.id, i);
        want_row(c, &key, "jobsBlobs", &r->job);
    }
}

static void check_job(check *c) {
    stet_error e;
    jobs_record r;
    jobs_key_state k;
    stet_id id = stet_key_read_id(&c->rest);
    if (c->rest.failed || jobs_record_decode(c->queue, id, c->value, &r, &e) != STET_OK) {
        PROBLEM(c, "job_unreadable", "the job's row cannot be read");
        return;
    }
    if (jobs_key_load(c->batch, c->queue, r.job.key, &k, &e) != STET_OK || k.counts[r.job.state] == 0)
        PROBLEM(c, "job_count_wrong", "the job's key counts no job that is %s",
                stet_job_state_name(r.job.state));
    stet_key row = jobs_by_key_key(c->queue, r.job.key, id);
    want_row(c, &row, "jobsByKey", &r.job);
    if (jobs_waits(&r) && r.job.dedup_key.size > 0) {
        row = jobs_dedup_key(c->queue, r.job.key, r.job.dedup_key);
        want_row(c, &row, "jobsDedup", &r.job);
    }
    check_job_blobs(c, &r);
    switch (r.job.state) {
    case STET_JOB_QUEUED:
        row = k.head_order == r.job.order ? jobs_ready_key(c->queue, k.head_level, k.head_turn)
                                          : jobs_waiting_key(c->queue, r.job.key, jobs_level(&r), id);
        want_row(c, &row, "jobsReady or jobsWaiting", &r.job);
        break;
    case STET_JOB_DELAYED:
        row = jobs_time_key(STET_TABLE_JOBS_DELAYED, c->queue, (uint64_t)r.job.run_at_ms, id);
        want_row(c, &row, "jobsDelayed", &r.job);
        break;
    case STET_JOB_ACTIVE:
        row = jobs_active_key(c->queue, id);
        want_row(c, &row, "jobsActive", &r.job);
        row = jobs_time_key(STET_TABLE_JOBS_RESUME, c->queue, (uint64_t)r.resume_at_ms, id);
        if (r.resume_at_ms != 0)
            want_row(c, &row, "jobsResume", &r.job);
        break;
    case STET_JOB_ERROR:
    case STET_JOB_CANCELLED:
        row = jobs_failed_key(c->queue, r.job.state, id);
        want_row(c, &row, "jobsFailed", &r.job);
        break;
    default:
        break;
    }
}

static void check_ready(check *c) {
    stet_error e;
    jobs_record r;
    jobs_key_state k;
    jobs_queue_state q;
    jobs_ready_row row;
    uint64_t level = stet_key_read_u64(&c->rest), turn = stet_key_read_u64(&c->rest);
    if (c->rest.failed || level >= JOBS_LEVELS || !jobs_ready_decode(c->value, &row)) {
        PROBLEM(c, "job_unreadable", "the ready row cannot be read");
        return;
    }
    if (!job_of_row(c, row.id, &r))
        return;
    if (jobs_key_load(c->batch, c->queue, r.job.key, &k, &e) != STET_OK ||
        jobs_queue_load(c->batch, c->queue, &q, &e) != STET_OK)
        return;
    stray_unless(c, r.job.state == STET_JOB_QUEUED && jobs_level(&r) == level,
                 "the job is not queued at this level");
    stray_unless(c, k.head_order == r.job.order && k.head_turn == turn && k.head_level == level,
                 "the job is not the head of its key");
    if (q.ready[level] == 0 || turn < q.ready_from[level])
        PROBLEM(c, "job_mark_wrong", "the queue looks for ready jobs only behind this row");
}

static void check_waiting(check *c) {
    char text[STET_JOB_KEY_SIZE_MAX + 1];
    stet_error e;
    jobs_record r;
    jobs_key_state k;
    stet_str key = stet_str_from(text, stet_key_read_str(&c->rest, text, sizeof(text)));
    uint64_t level = stet_key_read_u64(&c->rest);
    stet_id id = stet_key_read_id(&c->rest);
    if (!job_of_row(c, id, &r) || jobs_key_load(c->batch, c->queue, key, &k, &e) != STET_OK)
        return;
    stray_unless(c,
                 r.job.state == STET_JOB_QUEUED && stet_str_equal(key, r.job.key) &&
                     jobs_level(&r) == level && k.head_order != r.job.order,
                 "the job does not wait behind its key's head at this level");
    if (level < k.from_level || (level == k.from_level && r.job.order < k.from_order))
        PROBLEM(c, "job_mark_wrong", "the key looks for waiting jobs only behind this row");
}

static void check_time(check *c, uint8_t table) {
    stet_error e;
    jobs_record r;
    jobs_queue_state q;
    uint64_t at_ms = stet_key_read_u64(&c->rest);
    if (!job_of_row(c, stet_key_read_id(&c->rest), &r) ||
        jobs_queue_load(c->batch, c->queue, &q, &e) != STET_OK)
        return;
    bool delayed = table == STET_TABLE_JOBS_DELAYED;
    stray_unless(c,
                 delayed ? r.job.state == STET_JOB_DELAYED && (uint64_t)r.job.run_at_ms == at_ms
                         : r.job.state == STET_JOB_ACTIVE && (uint64_t)r.resume_at_ms == at_ms,
                 "the job does not wait for this time");
    if (at_ms < (delayed ? q.delayed_from : q.resume_from))
        PROBLEM(c, "job_mark_wrong", "the queue looks for due jobs only behind this row");
}

static void check_by_key(check *c) {
    char text[STET_JOB_KEY_SIZE_MAX + 1];
    jobs_record r;
    stet_str key = stet_str_from(text, stet_key_read_str(&c->rest, text, sizeof(text)));
    if (job_of_row(c, stet_key_read_id(&c->rest), &r))
        stray_unless(c, stet_str_equal(key, r.job.key), "the job has another key");
}

static void check_dedup(check *c) {
    char text[STET_JOB_KEY_SIZE_MAX + 1], dedup_text[STET_JOB_KEY_SIZE_MAX + 1];
    jobs_record r;
    stet_id id;
    stet_str key = stet_str_from(text, stet_key_read_str(&c->rest, text, sizeof(text)));
    stet_str dedup = stet_str_from(dedup_text, stet_key_read_str(&c->rest, dedup_text, sizeof(dedup_text)));
    if (!stet_id_from_bytes(c->value, &id)) {
        PROBLEM(c, "job_unreadable", "the dedup row cannot be read");
        return;
    }
    if (job_of_row(c, id, &r))
        stray_unless(
            c, jobs_waits(&r) && stet_str_equal(key, r.job.key) && stet_str_equal(dedup, r.job.dedup_key),
            "the job does not wait under this dedup key");
}

static void check_blob(check *c) {
    jobs_record r;
    stet_id id = stet_key_read_id(&c->rest);
    uint64_t part = stet_key_read_u64(&c->rest);
    if (job_of_row(c, id, &r))
        stray_unless(c, part < JOBS_PARTS && c->value.size > 0 && r.blob_bytes[part] == c->value.size,
                     "the job has no such long part");
}

static void check_counts(const check *c, const uint64_t counted[STET_JOB_STATES_COUNT],
                         const uint64_t kept[STET_JOB_STATES_COUNT]) {
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++)
        if (counted[i] != kept[i])
            PROBLEM(c, "job_count_wrong", "%llu jobs are %s, %llu are counted",
                    (unsigned long long)counted[i], stet_job_state_name((stet_job_state)i),
                    (unsigned long long)kept[i]);
}

/* Recounts JOBS (rows) or BY_KEY; only when there are few: a check page must stay bounded. */
static void recount(const check *c, const stet_key *prefix, bool rows,
                    const uint64_t kept[STET_JOB_STATES_COUNT]) {
    uint64_t counted[STET_JOB_STATES_COUNT] = {0}, all = 0;
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++)
        all += kept[i];
    if (all > RECOUNT_MAX)
        return;
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(c->batch, stet_key_bytes(prefix), (stet_str){NULL, 0}, /* reverse= */ false);
    stet_str key, value;
    for (uint32_t n = 0; scan != NULL && n <= RECOUNT_MAX && stet_scan_next(scan, &key, &value); n++) {
        stet_key_reader r = jobs_behind(key, prefix);
        stet_id id = stet_key_read_id(&r);
        jobs_record record;
        stet_error e;
        stet_code rc = rows ? jobs_record_decode(c->queue, id, value, &record, &e)
                            : jobs_record_load_row(c->batch, c->queue, id, &record, &e);
        if (rc == STET_OK)
            counted[record.job.state]++;
    }
    check_counts(c, counted, kept);
}

static void check_key(check *c) {
    char text[STET_JOB_KEY_SIZE_MAX + 1];
    stet_error e;
    jobs_key_state k;
    stet_str key = stet_str_from(text, stet_key_read_str(&c->rest, text, sizeof(text)));
    if (jobs_key_load(c->batch, c->queue, key, &k, &e) != STET_OK) {
        PROBLEM(c, "job_unreadable", "the key's row cannot be read");
        return;
    }
    uint32_t limit = c->queue->key_concurrency;
    bool busy = limit != 0 && k.counts[STET_JOB_ACTIVE] >= limit;
    if (limit != 0 && k.counts[STET_JOB_ACTIVE] > limit)
        PROBLEM(c, "job_limit_passed", "more jobs of the key are active than %u", limit);
    bool head = k.head_order != 0;
    if (head && (busy || (k.paused_ms != 0 && k.head_level != 0)))
        PROBLEM(c, "job_index_stray", "the key may start nothing and yet has a head in jobsReady");
    if (!head && !busy && k.paused_ms == 0 && k.counts[STET_JOB_QUEUED] > 0)
        PROBLEM(c, "job_index_missing", "the key may start a job and has no head in jobsReady");
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS_BY_KEY, c->queue);
    stet_key_str(&prefix, key);
    recount(c, &prefix, /* rows= */ false, k.counts);
}

static void check_queue(check *c) {
    stet_error e;
    jobs_queue_state q;
    if (jobs_queue_load(c->batch, c->queue, &q, &e) != STET_OK) {
        PROBLEM(c, "job_unreadable", "the queue's row cannot be read");
        return;
    }
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS, c->queue);
    recount(c, &prefix, /* rows= */ true, q.counts);
}

static void check_state(check *c, uint8_t table) {
    jobs_record r;
    uint64_t state = table == STET_TABLE_JOBS_FAILED ? stet_key_read_u64(&c->rest) : STET_JOB_ACTIVE;
    if (job_of_row(c, stet_key_read_id(&c->rest), &r))
        stray_unless(c, r.job.state == state, "the job is in another state");
}

stet_code stet_jobs_check_row(stet_turn *turn, const stet_service *service, stet_checker *checker,
                              stet_str key, stet_str value, stet_error *e) {
    (void)e;
    check c = {.batch = stet_turn_batch(turn), .checker = checker, .key = key, .value = value};
    c.queue = queue_of(service, key, &c.rest);
    if (c.queue == NULL) {
        PROBLEM(&c, "job_queue_unknown", "the row belongs to a queue that this actor does not have");
        return STET_OK;
    }
    uint8_t table = (uint8_t)key.data[0];
    switch (table) {
    case STET_TABLE_JOBS:
        check_job(&c);
        break;
    case STET_TABLE_JOBS_READY:
        check_ready(&c);
        break;
    case STET_TABLE_JOBS_WAITING:
        check_waiting(&c);
        break;
    case STET_TABLE_JOBS_DELAYED:
    case STET_TABLE_JOBS_RESUME:
        check_time(&c, table);
        break;
    case STET_TABLE_JOBS_ACTIVE:
    case STET_TABLE_JOBS_FAILED:
        check_state(&c, table);
        break;
    case STET_TABLE_JOBS_BY_KEY:
        check_by_key(&c);
        break;
    case STET_TABLE_JOBS_DEDUP:
        check_dedup(&c);
        break;
    case STET_TABLE_JOBS_KEYS:
        check_key(&c);
        break;
    case STET_TABLE_JOBS_QUEUES:
        check_queue(&c);
        break;
    case STET_TABLE_JOBS_BLOBS:
        check_blob(&c);
        break;
    default: /* JOBS_RATE: times of starts, justified by nothing but themselves */
        break;
    }
    return STET_OK;
}
