#include "actors/runtime/jobs_index.h"
#include "proto/base/plant.h"

/* Everything one move works on. */
typedef struct move {
    stet_batch *batch;
    const stet_job_queue *queue;
    stet_str key;
    jobs_queue_state q;
    jobs_key_state k;
    bool damaged; /* counts and rows contradict each other: the move fails in the end */
} move;

static void put(move *m, const stet_key *key, stet_str value) {
    stet_batch_put(m->batch, stet_key_bytes(key), value);
}

/* A job enters a table where it is not: when it leaves in the same commit, nothing of that is written. */
static void insert(move *m, const stet_key *key, stet_str value) {
    stet_batch_insert(m->batch, stet_key_bytes(key), value);
}

static void delete (move *m, const stet_key *key) {
    stet_batch_delete(m->batch, stet_key_bytes(key));
}

/* ---- READY and WAITING ---- */

static bool before(uint32_t level_a, uint64_t order_a, uint32_t level_b, uint64_t order_b) {
    return level_a != level_b ? level_a < level_b : order_a < order_b;
}

static bool key_is_busy(const move *m) {
    if (PLANT(key_not_exclusive))
        return false;
    return m->queue->key_concurrency != 0 && m->k.counts[STET_JOB_ACTIVE] >= m->queue->key_concurrency;
}

/* Whether a job of that level may be the key's row in READY. */
static bool may_be_ready(const move *m, uint32_t level) {
    return !key_is_busy(m) && (m->k.paused_ms == 0 || level == 0);
}

static void ready_put(move *m, stet_id id, uint32_t level, int64_t since_ms) {
    m->damaged |= m->k.head_order != 0;
    uint8_t room[64];
    stet_buf value = STET_BUF_ON(room, sizeof(room));
    stet_mp_array(&value, 2);
    stet_mp_bin(&value, id.bytes, sizeof(id.bytes));
    stet_mp_int(&value, since_ms);
    ASSERT(stet_buf_ok(&value));
    uint64_t turn = m->q.next_turn++;
    stet_key key = jobs_ready_key(m->queue, level, turn);
    insert(m, &key, stet_buf_str(&value));
    if (m->q.ready[level]++ == 0)
        m->q.ready_from[level] = turn;
    m->k.head_order = jobs_order_of(id);
    m->k.head_level = level;
    m->k.head_turn = turn;
}

static void ready_delete(move *m) {
    m->damaged |= m->k.head_order == 0 || m->q.ready[m->k.head_level] == 0;
    stet_key key = jobs_ready_key(m->queue, m->k.head_level, m->k.head_turn);
    delete (m, &key);
    m->q.ready[m->k.head_level]--;
    /* Turns only grow: when the first row goes, the next can only be behind it. */
    if (m->q.ready_from[m->k.head_level] == m->k.head_turn)
        m->q.ready_from[m->k.head_level]++;
    m->k.head_order = 0;
    m->k.head_turn = 0;
    m->k.head_level = 0;
}

static void waiting_put(move *m, stet_id id, uint32_t level, int64_t since_ms, uint64_t rows_before) {
    uint8_t room[16];
    stet_buf value = STET_BUF_ON(room, sizeof(room));
    stet_mp_int(&value, since_ms);
    ASSERT(stet_buf_ok(&value));
    stet_key key = jobs_waiting_key(m->queue, m->key, level, id);
    insert(m, &key, stet_buf_str(&value));
    uint64_t order = jobs_order_of(id);
    if (rows_before == 0 || before(level, order, m->k.from_level, m->k.from_order)) {
        m->k.from_level = level;
        m->k.from_order = order;
    }
}

/* The key's row in READY goes to WAITING. waiting: rows there before. */
static stet_code demote(move *m, uint64_t waiting, stet_error *e) {
    stet_key key = jobs_ready_key(m->queue, m->k.head_level, m->k.head_turn);
    stet_str value;
    stet_code rc = stet_batch_get(m->batch, stet_key_bytes(&key), &value, e);
    jobs_ready_row row;
    if (rc == STET_NOT_FOUND || (rc == STET_OK && !jobs_ready_decode(value, &row)))
        return stet_error_set(e, STET_INTERNAL,
                              "the ready row of a key in queue %s is missing; restore a backup",
                              m->queue->name);
    if (rc != STET_OK)
        return rc;
    uint32_t level = m->k.head_level;
    ready_delete(m);
    waiting_put(m, row.id, level, row.since_ms, waiting);
    return STET_OK;
}

/* The count of queued jobs does not yet contain this one. */
static stet_code enter_queued(move *m, const jobs_record *r, stet_error *e) {
    uint32_t level = jobs_level(r);
    uint64_t order = r->job.order;
    uint64_t waiting = jobs_waiting_rows(&m->k);
    bool first = waiting == 0;
    if (m->k.head_order != 0)
        first = before(level, order, m->k.head_level, m->k.head_order);
    else if (waiting > 0)
        first = before(level, order, m->k.from_level, m->k.from_order);
    if (!first || !may_be_ready(m, level)) {
        waiting_put(m, r->job.id, level, r->job.run_at_ms, waiting);
        return STET_OK;
    }
    stet_code rc = m->k.head_order != 0 ? demote(m, waiting, e) : STET_OK;
    if (rc == STET_OK)
        ready_put(m, r->job.id, level, r->job.run_at_ms);
    return rc;
}

static void leave_queued(move *m, const jobs_record *r) {
    if (m->k.head_order == r->job.order) {
        ready_delete(m);
        return;
    }
    stet_key key = jobs_waiting_key(m->queue, m->key, jobs_level(r), r->job.id);
    delete (m, &key);
}

/* After a change: the head of the key is in READY exactly when it may start. */
static stet_code settle(move *m, stet_error *e) {
    if (m->k.head_order != 0 && !may_be_ready(m, m->k.head_level)) {
        stet_code rc = demote(m, jobs_waiting_rows(&m->k), e);
        if (rc != STET_OK)
            return rc;
    }
    if (m->k.head_order != 0 || key_is_busy(m) || jobs_waiting_rows(&m->k) == 0)
        return STET_OK;
    stet_id id;
    uint32_t level;
    int64_t since_ms;
    stet_code rc = jobs_waiting_first(m->batch, m->queue, m->key, &m->k, &id, &level, &since_ms, e);
    if (rc == STET_NOT_FOUND)
        return stet_error_set(e, STET_INTERNAL, "a waiting row of queue %s is missing; restore a backup",
                              m->queue->name);
    if (rc != STET_OK)
        return rc;
    m->k.from_level = level;
    m->k.from_order = jobs_order_of(id);
    if (!may_be_ready(m, level))
        return STET_OK;
    stet_key key = jobs_waiting_key(m->queue, m->key, level, id);
    delete (m, &key);
    ready_put(m, id, level, since_ms);
    return STET_OK;
}

/* ---- the other states ---- */

static void enter_time(move *m, uint8_t table, int64_t at_ms, stet_id id, uint64_t rows_before,
                       uint64_t *from) {
    stet_key key = jobs_time_key(table, m->queue, (uint64_t)at_ms, id);
    insert(m, &key, (stet_str){NULL, 0});
    if (rows_before == 0 || (uint64_t)at_ms < *from)
        *from = (uint64_t)at_ms;
}

static void enter_resume(move *m, const jobs_record *r) {
    if (r->resume_at_ms == 0)
        return;
    enter_time(m, STET_TABLE_JOBS_RESUME, r->resume_at_ms, r->job.id, m->q.resumes, &m->q.resume_from);
    m->q.resumes++;
}

static void leave_resume(move *m, const jobs_record *r) {
    if (r->resume_at_ms == 0)
        return;
    stet_key key = jobs_time_key(STET_TABLE_JOBS_RESUME, m->queue, (uint64_t)r->resume_at_ms, r->job.id);
    delete (m, &key);
    m->q.resumes--;
}

static void dedup_row(move *m, const jobs_record *r, bool there) {
    if (r->job.dedup_key.size == 0)
        return;
    stet_key key = jobs_dedup_key(m->queue, m->key, r->job.dedup_key);
    if (there)
        put(m, &key, stet_str_from(r->job.id.bytes, sizeof(r->job.id.bytes)));
    else
        delete (m, &key);
}

static void leave(move *m, const jobs_record *r) {
    const stet_job *job = &r->job;
    stet_key key;
    switch (job->state) {
    case STET_JOB_QUEUED:
        leave_queued(m, r);
        break;
    case STET_JOB_DELAYED:
        key = jobs_time_key(STET_TABLE_JOBS_DELAYED, m->queue, (uint64_t)job->run_at_ms, job->id);
        delete (m, &key);
        break;
    case STET_JOB_ACTIVE:
        key = jobs_active_key(m->queue, job->id);
        delete (m, &key);
        leave_resume(m, r);
        break;
    case STET_JOB_ERROR:
    case STET_JOB_CANCELLED:
        key = jobs_failed_key(m->queue, job->state, job->id);
        delete (m, &key);
        break;
    default:
        break;
    }
    m->damaged |= m->q.counts[job->state] == 0 || m->k.counts[job->state] == 0;
    m->q.counts[job->state]--;
    m->k.counts[job->state]--;
}

static stet_code enter(move *m, const jobs_record *r, stet_error *e) {
    const stet_job *job = &r->job;
    stet_code rc = STET_OK;
    stet_key key;
    switch (job->state) {
    case STET_JOB_QUEUED:
        rc = enter_queued(m, r, e);
        break;
    case STET_JOB_DELAYED:
        enter_time(m, STET_TABLE_JOBS_DELAYED, job->run_at_ms, job->id, m->q.counts[STET_JOB_DELAYED],
                   &m->q.delayed_from);
        break;
    case STET_JOB_ACTIVE:
        key = jobs_active_key(m->queue, job->id);
        insert(m, &key, (stet_str){NULL, 0});
        enter_resume(m, r);
        break;
    case STET_JOB_ERROR:
    case STET_JOB_CANCELLED:
        key = jobs_failed_key(m->queue, job->state, job->id);
        insert(m, &key, (stet_str){NULL, 0});
        break;
    default:
        break;
    }
    m->q.counts[job->state]++;
    m->k.counts[job->state]++;
    return rc;
}

/* ---- moves ---- */

static bool same_place(const jobs_record *a, const jobs_record *b) {
    if (a->job.state != b->job.state)
        return false;
    switch (a->job.state) {
    case STET_JOB_QUEUED:
        return jobs_level(a) == jobs_level(b) && a->job.run_at_ms == b->job.run_at_ms;
    case STET_JOB_DELAYED:
        return a->job.run_at_ms == b->job.run_at_ms;
    case STET_JOB_ACTIVE:
        return a->resume_at_ms == b->resume_at_ms;
    default:
        return true;
    }
}

static stet_code move_begin(move *m, stet_batch *batch, const stet_job_queue *queue, stet_str key,
                            stet_error *e) {
    m->batch = batch;
    m->queue = queue;
    m->key = key;
    m->damaged = false;
    stet_code rc = jobs_queue_load(batch, queue, &m->q, e);
    return rc == STET_OK ? jobs_key_load(batch, queue, key, &m->k, e) : rc;
}

static stet_code move_end(move *m, stet_error *e) {
    if (m->damaged)
        return stet_error_set(e, STET_INTERNAL,
                              "the counts of queue %s do not fit its rows; restore a backup", m->queue->name);
    stet_code rc = settle(m, e);
    if (rc == STET_OK) {
        jobs_queue_save(m->batch, m->queue, &m->q);
        jobs_key_save(m->batch, m->queue, m->key, &m->k);
    }
    return rc;
}

static void move_resume(move *m, const jobs_record *from, const jobs_record *to) {
    leave_resume(m, from);
    enter_resume(m, to);
    jobs_queue_save(m->batch, m->queue, &m->q);
}

stet_code jobs_index_move(stet_batch *batch, const jobs_record *from, const jobs_record *to, stet_error *e) {
    ASSERT(from != NULL || to != NULL);
    if (from != NULL && to != NULL && same_place(from, to))
        return STET_OK;
    const stet_job *job = to != NULL ? &to->job : &from->job;
    move m;
    stet_code rc = move_begin(&m, batch, job->queue, job->key, e);
    if (rc != STET_OK)
        return rc;
    if (from != NULL && to != NULL && from->job.state == STET_JOB_ACTIVE &&
        to->job.state == STET_JOB_ACTIVE) {
        move_resume(&m, from, to);
        return STET_OK;
    }

    stet_key by_key = jobs_by_key_key(job->queue, job->key, job->id);
    bool waited = from != NULL && jobs_waits(from);
    bool waits = to != NULL && jobs_waits(to);
    if (from == NULL) {
        m.damaged |= job->order <= m.q.last_order;
        m.q.last_order = job->order;
        insert(&m, &by_key, (stet_str){NULL, 0});
    } else {
        leave(&m, from);
    }
    if (waited != waits)
        dedup_row(&m, waits ? to : from, waits);
    if (to == NULL)
        delete (&m, &by_key);
    else
        rc = enter(&m, to, e);
    return rc == STET_OK ? move_end(&m, e) : rc;
}

stet_code jobs_index_pause_key(stet_batch *batch, const stet_job_queue *queue, stet_str key,
                               int64_t paused_ms, stet_error *e) {
    move m;
    stet_code rc = move_begin(&m, batch, queue, key, e);
    if (rc != STET_OK)
        return rc;
    m.k.paused_ms = paused_ms;
    return move_end(&m, e);
}

/* ---- reading the heads ---- */

bool jobs_ready_decode(stet_str value, jobs_ready_row *ret) {
    stet_mp_reader r = stet_mp_reader_of(value);
    if (stet_mp_read_array(&r) != 2 || !stet_id_from_bytes(stet_mp_read_bin(&r), &ret->id))
        return false;
    ret->since_ms = stet_mp_read_int(&r);
    ret->turn = 0;
    return !r.failed && r.at == r.end;
}

stet_scan *jobs_scan(stet_batch *batch, const stet_job_queue *queue, const stet_key *prefix, stet_str from,
                     stet_error *e) {
    stet_scan *scan = stet_batch_scan(batch, stet_key_bytes(prefix), from, /* reverse= */ false);
    if (scan == NULL)
        (void)stet_error_set(e, STET_BUSY, "no memory to look at queue %s; give the actor more", queue->name);
    return scan;
}

stet_code jobs_ready_rows(stet_batch *batch, const stet_job_queue *queue, const jobs_queue_state *state,
                          uint32_t level, jobs_ready_row *rows, uint32_t max, uint32_t *ret_count,
                          stet_error *e) {
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS_READY, queue);
    stet_key_u64(&prefix, level);
    stet_key from = jobs_ready_key(queue, level, state->ready_from[level]);
    CLEANUP(stet_scan_done)
    stet_scan *scan = jobs_scan(batch, queue, &prefix, stet_key_bytes(&from), e);
    if (scan == NULL)
        return STET_BUSY;
    uint32_t count = 0;
    stet_str key, value;
    while (count < max && stet_scan_next(scan, &key, &value)) {
        if (!jobs_ready_decode(value, &rows[count]))
            return stet_error_set(e, STET_INTERNAL,
                                  "a ready row of queue %s cannot be read; restore a backup", queue->name);
        stet_key_reader r = jobs_behind(key, &prefix);
        rows[count++].turn = stet_key_read_u64(&r);
    }
    *ret_count = count;
    return stet_scan_status(scan, e);
}

stet_code jobs_waiting_first(stet_batch *batch, const stet_job_queue *queue, stet_str job_key,
                             const jobs_key_state *state, stet_id *ret_id, uint32_t *ret_level,
                             int64_t *ret_since_ms, stet_error *e) {
    stet_key prefix = jobs_index_key(STET_TABLE_JOBS_WAITING, queue);
    stet_key_str(&prefix, job_key);
    stet_key from =
        jobs_waiting_key(queue, job_key, state->from_level, jobs_id_bound(state->from_order, true));
    CLEANUP(stet_scan_done)
    stet_scan *scan = jobs_scan(batch, queue, &prefix, stet_key_bytes(&from), e);
    if (scan == NULL)
        return STET_BUSY;
    stet_str key, value;
    if (!stet_scan_next(scan, &key, &value)) {
        stet_code rc = stet_scan_status(scan, e);
        return rc == STET_OK ? STET_NOT_FOUND : rc;
    }
    stet_key_reader r = jobs_behind(key, &prefix);
    *ret_level = (uint32_t)stet_key_read_u64(&r);
    *ret_id = stet_key_read_id(&r);
    stet_mp_reader v = stet_mp_reader_of(value);
    *ret_since_ms = stet_mp_read_int(&v);
    if (r.failed || v.failed || *ret_level >= JOBS_LEVELS)
        return stet_error_set(e, STET_INTERNAL, "a waiting row of queue %s cannot be read; restore a backup",
                              queue->name);
    return STET_OK;
}
