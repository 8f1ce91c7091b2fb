/* Looking at jobs: lists, counts, place in the queue, age. Writes nothing. */
#include "actors/runtime/jobs_change.h"

enum {
    LIST_ROWS_MAX = 10000,
    LIST_BYTES_MAX = 8 << 20, /* rows that were read stay in memory until the handler returns */
    POSITION_MAX = 1000,
    OLDEST_ROWS_MAX = 100 /* heads, and running keys, that the age is taken from */
};

/* ---- list ---- */

typedef struct list {
    stet_batch *batch;
    const stet_job_queue *queue;
    const stet_job_filter *filter;
    stet_key prefix;
    bool rows;     /* the scan is over JOBS itself */
    uint64_t left; /* jobs that can still match; UINT64_MAX: not known */
} list;

static stet_code list_open(list *l, stet_error *e) {
    const stet_job_filter *f = l->filter;
    uint8_t table = STET_TABLE_JOBS;
    if (f->key.size > 0)
        table = STET_TABLE_JOBS_BY_KEY;
    else if (f->by_state && (f->state == STET_JOB_ERROR || f->state == STET_JOB_CANCELLED))
        table = STET_TABLE_JOBS_FAILED;
    else if (f->by_state && f->state == STET_JOB_ACTIVE)
        table = STET_TABLE_JOBS_ACTIVE;
    l->rows = table == STET_TABLE_JOBS;
    l->prefix = jobs_index_key(table, l->queue);
    if (table == STET_TABLE_JOBS_BY_KEY)
        stet_key_str(&l->prefix, f->key);
    if (table == STET_TABLE_JOBS_FAILED)
        stet_key_u64(&l->prefix, f->state);
    l->left = UINT64_MAX;
    if (!f->by_state || f->before_order != 0)
        return STET_OK;
    /* From the newest, the count says when all of a state have been seen. */
    jobs_queue_state q;
    jobs_key_state k;
    stet_code rc = f->key.size > 0 ? jobs_key_load(l->batch, l->queue, f->key, &k, e)
                                   : jobs_queue_load(l->batch, l->queue, &q, e);
    if (rc == STET_OK)
        l->left = f->key.size > 0 ? k.counts[f->state] : q.counts[f->state];
    return rc;
}

static stet_code list_read(list *l, stet_id id, stet_str value, jobs_record *ret, stet_error *e) {
    return l->rows ? jobs_record_decode(l->queue, id, value, ret, e)
                   : jobs_record_load_row(l->batch, l->queue, id, ret, e);
}

static size_t bytes_of(const jobs_record *r) {
    size_t bytes = 256 + r->job.detail.size;
    bytes +=
        r->blob_bytes[JOBS_PART_PAYLOAD] + r->blob_bytes[JOBS_PART_RESULT] + r->blob_bytes[JOBS_PART_HISTORY];
    return bytes + r->job.payload.size + r->job.result.size + r->job.attempts.size;
}

typedef stet_code list_visit(void *context, const stet_job *job, stet_error *e);

static stet_code list_scan(list *l, stet_scan *scan, list_visit *visit, void *context, uint64_t *ret_next,
                           stet_error *e) {
    const stet_job_filter *f = l->filter;
    uint32_t looked = 0, visited = 0;
    size_t bytes = 0;
    uint64_t last = 0;
    stet_str key, value;
    *ret_next = 0;
    while (l->left > 0 && stet_scan_next(scan, &key, &value)) {
        if (visited == f->limit || looked == LIST_ROWS_MAX || bytes > LIST_BYTES_MAX) {
            *ret_next = last;
            return STET_OK;
        }
        looked++;
        stet_key_reader r = jobs_behind(key, &l->prefix);
        stet_id id = stet_key_read_id(&r);
        jobs_record record;
        stet_code rc = list_read(l, id, value, &record, e);
        if (rc != STET_OK)
            return rc;
        last = record.job.order;
        if (!l->rows)
            bytes += bytes_of(&record);
        bool state_fits = !f->by_state || record.job.state == f->state;
        if (state_fits && l->left != UINT64_MAX)
            l->left--;
        if (!state_fits || (f->error_code != NULL && strcmp(f->error_code, record.job.error_code) != 0))
            continue;
        rc = jobs_record_blobs(l->batch, &record, e);
        if (rc == STET_OK)
            rc = visit(context, &record.job, e);
        if (rc != STET_OK)
            return rc;
        if (l->rows)
            bytes += record.blob_bytes[0] + record.blob_bytes[1] + record.blob_bytes[2];
        visited++;
    }
    return stet_scan_status(scan, e);
}

stet_code stet_job_list(stet_turn *turn, const stet_job_queue *queue, const stet_job_filter *filter,
                        stet_code (*visit)(void *context, const stet_job *job, stet_error *e), void *context,
                        uint64_t *ret_next, stet_error *e) {
    ASSERT(filter->limit > 0);
    list l = {.batch = stet_turn_batch(turn), .queue = queue, .filter = filter};
    stet_code rc = list_open(&l, e);
    if (rc != STET_OK)
        return rc;
    stet_key from = l.prefix;
    if (filter->before_order != 0)
        stet_key_id(&from, jobs_id_bound(filter->before_order - 1, /* low= */ false));
    CLEANUP(stet_scan_done)
    stet_scan *scan = stet_batch_scan(l.batch, stet_key_bytes(&l.prefix),
                                      filter->before_order != 0 ? stet_key_bytes(&from) : (stet_str){NULL, 0},
                                      /* reverse= */ true);
    if (scan == NULL)
        return stet_error_set(e, STET_BUSY, "no memory to list the jobs of queue %s; give the actor more",
                              queue->name);
    return list_scan(&l, scan, visit, context, ret_next, e);
}

stet_code stet_job_counts(stet_turn *turn, const stet_job_queue *queue, stet_str key,
                          uint64_t ret_counts[STET_JOB_STATES_COUNT], stet_error *e) {
    jobs_queue_state q;
    jobs_key_state k;
    stet_code rc = key.size > 0 ? jobs_key_load(stet_turn_batch(turn), queue, key, &k, e)
                                : jobs_queue_load(stet_turn_batch(turn), queue, &q, e);
    if (rc == STET_OK)
        memcpy(ret_counts, key.size > 0 ? k.counts : q.counts, sizeof(q.counts));
    return rc;
}

/* ---- position ---- */

/* Rows before `until` among those that begin with prefix, counted up to POSITION_MAX. */
static uint32_t rows_before(stet_batch *batch, const stet_key *prefix, const stet_key *from,
                            const stet_key *until) {
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(batch, stet_key_bytes(prefix), stet_key_bytes(from), /* reverse= */ false);
    uint32_t count = 0;
    stet_str key, value;
    while (scan != NULL && count < POSITION_MAX && stet_scan_next(scan, &key, &value)) {
        if (stet_str_equal(key, stet_key_bytes(until)))
            break;
        count++;
    }
    return count;
}

static bool is_last(stet_batch *batch, const stet_key *prefix, const stet_key *row) {
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(batch, stet_key_bytes(prefix), (stet_str){NULL, 0}, /* reverse= */ true);
    stet_str key, value;
    return scan != NULL && stet_scan_next(scan, &key, &value) && stet_str_equal(key, stet_key_bytes(row));
}

/* The newest job is the usual question, and needs no counting of rows. */
static uint64_t position_ready(stet_batch *batch, const stet_job_queue *queue, const jobs_queue_state *q,
                               const jobs_key_state *k) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < k->head_level; i++)
        count += q->ready[i];
    if (k->head_turn + 1 == q->next_turn)
        return count + q->ready[k->head_level] - 1;
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS_READY, queue);
    stet_key_u64(&prefix, k->head_level);
    stet_key from = jobs_ready_key(queue, k->head_level, q->ready_from[k->head_level]);
    stet_key row = jobs_ready_key(queue, k->head_level, k->head_turn);
    return count + rows_before(batch, &prefix, &from, &row);
}

static uint64_t position_waiting(stet_batch *batch, const jobs_record *r, const jobs_queue_state *q,
                                 const jobs_key_state *k) {
    const stet_job_queue *queue = r->job.queue;
    uint64_t count = 0;
    for (uint32_t i = 0; i <= jobs_level(r); i++)
        count += q->ready[i];
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS_WAITING, queue);
    stet_key_str(&prefix, r->job.key);
    stet_key row = jobs_waiting_key(queue, r->job.key, jobs_level(r), r->job.id);
    if (is_last(batch, &prefix, &row))
        return count + jobs_waiting_rows(k) - 1;
    stet_key from =
        jobs_waiting_key(queue, r->job.key, k->from_level, jobs_id_bound(k->from_order, /* low= */ true));
    return count + rows_before(batch, &prefix, &from, &row);
}

uint32_t stet_job_position(stet_turn *turn, const stet_job *job) {
    stet_batch *batch = stet_turn_batch(turn);
    jobs_record record;
    jobs_queue_state q;
    jobs_key_state k;
    stet_error e;
    if (jobs_record_load_row(batch, job->queue, job->id, &record, &e) != STET_OK ||
        record.job.state != STET_JOB_QUEUED || jobs_queue_load(batch, job->queue, &q, &e) != STET_OK ||
        jobs_key_load(batch, job->queue, record.job.key, &k, &e) != STET_OK)
        return 0;
    uint64_t position = k.head_order == record.job.order ? position_ready(batch, job->queue, &q, &k)
                                                         : position_waiting(batch, &record, &q, &k);
    return position < POSITION_MAX ? (uint32_t)position : POSITION_MAX;
}

/* ---- age ---- */

static void older(int64_t *oldest_ms, int64_t since_ms) {
    if (since_ms < *oldest_ms)
        *oldest_ms = since_ms;
}

/* Heads: the turn order is nearly the order of age, so the first rows of each level decide. */
static void oldest_ready(stet_batch *batch, const stet_job_queue *queue, const jobs_queue_state *q,
                         int64_t *oldest_ms) {
    for (uint32_t level = 0; level < (q->paused_ms != 0 ? 1 : JOBS_LEVELS); level++) {
        jobs_ready_row rows[OLDEST_ROWS_MAX];
        uint32_t count = 0;
        stet_error e;
        if (q->ready[level] == 0 ||
            jobs_ready_rows(batch, queue, q, level, rows, OLDEST_ROWS_MAX, &count, &e) != STET_OK)
            continue;
        for (uint32_t i = 0; i < count; i++)
            older(oldest_ms, rows[i].since_ms);
    }
}

/* Jobs behind a running one of their key. */
static void oldest_behind_active(stet_batch *batch, const stet_job_queue *queue, int64_t *oldest_ms) {
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS_ACTIVE, queue);
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(batch, stet_key_bytes(&prefix), (stet_str){NULL, 0}, /* reverse= */ false);
    stet_str key, value;
    for (uint32_t i = 0; scan != NULL && i < OLDEST_ROWS_MAX && stet_scan_next(scan, &key, &value); i++) {
        stet_key_reader r = jobs_behind(key, &prefix);
        jobs_record record;
        jobs_key_state k;
        stet_error e;
        if (jobs_record_load_row(batch, queue, stet_key_read_id(&r), &record, &e) != STET_OK ||
            jobs_key_load(batch, queue, record.job.key, &k, &e) != STET_OK || jobs_waiting_rows(&k) == 0 ||
            k.paused_ms != 0)
            continue;
        stet_id id;
        uint32_t level;
        int64_t since_ms;
        if (jobs_waiting_first(batch, queue, record.job.key, &k, &id, &level, &since_ms, &e) == STET_OK)
            older(oldest_ms, since_ms);
    }
}

int64_t stet_job_oldest_due_ms(stet_turn *turn, const stet_job_queue *queue) {
    stet_batch *batch = stet_turn_batch(turn);
    int64_t now_ms = stet_turn_wall_ms(turn);
    int64_t oldest_ms = now_ms;
    jobs_queue_state q;
    stet_error e;
    if (jobs_queue_load(batch, queue, &q, &e) != STET_OK)
        return 0;
    oldest_ready(batch, queue, &q, &oldest_ms);
    if (q.paused_ms == 0)
        oldest_behind_active(batch, queue, &oldest_ms);
    if (q.counts[STET_JOB_DELAYED] > 0 && q.delayed_from < (uint64_t)now_ms) {
        stet_key prefix = jobs_index_key(STET_TABLE_JOBS_DELAYED, queue);
        stet_key from =
            jobs_time_key(STET_TABLE_JOBS_DELAYED, queue, q.delayed_from, jobs_id_bound(0, /* low= */ true));
        CLEANUP(stet_scan_done)
        stet_scan *scan =
            stet_batch_scan(batch, stet_key_bytes(&prefix), stet_key_bytes(&from), /* reverse= */ false);
        stet_str key, value;
        if (scan != NULL && stet_scan_next(scan, &key, &value)) {
            stet_key_reader r = jobs_behind(key, &prefix);
            older(&oldest_ms, (int64_t)stet_key_read_u64(&r));
        }
    }
    return now_ms - oldest_ms;
}

/* ---- as users see it ---- */

void stet_job_encode(const stet_job *job, stet_buf *b, uint32_t extra_pairs) {
    char id[STET_ID_TEXT_SIZE];
    stet_id_text(job->id, id);
    bool failed = job->error_code[0] != '\0';
    bool started = job->started_ms != 0, finished = job->finished_ms != 0;
    bool dedup = job->dedup_key.size > 0, detail = job->detail.size > 0;
    uint32_t optional = (failed ? 1u : 0u) + (started ? 1u : 0u) + (finished ? 1u : 0u) + (dedup ? 1u : 0u) +
                        (detail ? 1u : 0u);
    stet_mp_map(b, 12 + optional + extra_pairs);
    stet_mp_put_cstr(b, "jobId", id);
    stet_mp_put_cstr(b, "queue", job->queue->name);
    stet_mp_put_str(b, "key", job->key);
    stet_mp_put_cstr(b, "status", stet_job_state_name(job->state));
    stet_mp_put_uint(b, "priority", job->priority);
    stet_mp_put_uint(b, "attempt", job->attempt);
    stet_mp_put_uint(b, "attemptTotal", job->attempt_total);
    stet_mp_put_uint(b, "retries", job->retries);
    stet_mp_put_double(b, "progress", job->progress);
    stet_mp_put_time(b, "createdAt", job->created_ms);
    stet_mp_put_time(b, "runAt", job->run_at_ms);
    if (started)
        stet_mp_put_time(b, "startedAt", job->started_ms);
    if (finished)
        stet_mp_put_time(b, "finishedAt", job->finished_ms);
    if (dedup)
        stet_mp_put_str(b, "dedupKey", job->dedup_key);
    if (failed) {
        stet_mp_cstr(b, "error");
        stet_mp_map(b, 3);
        stet_mp_put_cstr(b, "code", job->error_code);
        stet_mp_put_str(b, "message", job->error_message);
        stet_mp_put_time(b, "at", job->error_ms);
    }
    if (detail)
        stet_mp_put_raw(b, "detail", job->detail);
    stet_mp_cstr(b, "attempts");
    if (job->attempts.size > 0)
        stet_mp_raw(b, job->attempts);
    else
        stet_mp_array(b, 0);
}

void stet_jobs_stats(stet_turn *turn, const stet_service *service, stet_buf *b) {
    stet_mp_map(b, (uint32_t)service->queues_count);
    for (size_t i = 0; i < service->queues_count; i++) {
        const stet_job_queue *queue = &service->queues[i];
        jobs_queue_state q;
        stet_error e;
        if (jobs_queue_load(stet_turn_batch(turn), queue, &q, &e) != STET_OK)
            q = (jobs_queue_state){.next_turn = 1};
        stet_mp_cstr(b, queue->name);
        stet_mp_map(b, STET_JOB_STATES_COUNT + 2);
        for (unsigned s = 0; s < STET_JOB_STATES_COUNT; s++)
            stet_mp_put_uint(b, stet_job_state_name((stet_job_state)s), q.counts[s]);
        stet_mp_put_int(b, "oldestDueMs", stet_job_oldest_due_ms(turn, queue));
        stet_mp_put_bool(b, "paused", q.paused_ms != 0);
    }
}
