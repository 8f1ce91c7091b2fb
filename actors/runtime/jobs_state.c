/* The two state rows (queue, key) and the keys of index rows; the moves are in jobs_index.c. */
#include "actors/runtime/jobs_index.h"

enum { QUEUE_FIELDS = 11 + STET_JOB_STATES_COUNT, KEY_FIELDS = 7 + STET_JOB_STATES_COUNT };

/* ---- keys ---- */

stet_key jobs_index_key(uint8_t table, const stet_job_queue *queue) {
    stet_key key = stet_key_of(table);
    stet_key_str(&key, stet_str_of(queue->name));
    return key;
}

stet_key jobs_ready_key(const stet_job_queue *queue, uint32_t level, uint64_t turn) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_READY, queue);
    stet_key_u64(&key, level);
    stet_key_u64(&key, turn);
    return key;
}

stet_key jobs_waiting_key(const stet_job_queue *queue, stet_str job_key, uint32_t level, stet_id id) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_WAITING, queue);
    stet_key_str(&key, job_key);
    stet_key_u64(&key, level);
    stet_key_id(&key, id);
    return key;
}

stet_key jobs_time_key(uint8_t table, const stet_job_queue *queue, uint64_t at_ms, stet_id id) {
    stet_key key = jobs_index_key(table, queue);
    stet_key_u64(&key, at_ms);
    stet_key_id(&key, id);
    return key;
}

stet_key jobs_active_key(const stet_job_queue *queue, stet_id id) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_ACTIVE, queue);
    stet_key_id(&key, id);
    return key;
}

stet_key jobs_failed_key(const stet_job_queue *queue, stet_job_state state, stet_id id) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_FAILED, queue);
    stet_key_u64(&key, state);
    stet_key_id(&key, id);
    return key;
}

stet_key jobs_by_key_key(const stet_job_queue *queue, stet_str job_key, stet_id id) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_BY_KEY, queue);
    stet_key_str(&key, job_key);
    stet_key_id(&key, id);
    return key;
}

stet_key jobs_dedup_key(const stet_job_queue *queue, stet_str job_key, stet_str dedup_key) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_DEDUP, queue);
    stet_key_str(&key, job_key);
    stet_key_str(&key, dedup_key);
    return key;
}

stet_key_reader jobs_behind(stet_str key, const stet_key *prefix) {
    ASSERT(key.size >= prefix->size);
    const uint8_t *bytes = (const uint8_t *)key.data;
    return (stet_key_reader){.at = bytes + prefix->size, .end = bytes + key.size, .failed = false};
}

/* ---- rows ---- */

/* The state rows that were read or written last, decoded: a job's life reads its queue's five times and its key's
 * three. A row is written here alone, and the memo is zeroed when a write is taken back. */
typedef struct memo {
    const stet_job_queue *queue; /* NULL: nothing */
    jobs_queue_state state;
    const stet_job_queue *key_queue;
    uint32_t key_size;
    char key[STET_JOB_KEY_SIZE_MAX];
    jobs_key_state key_state;
} memo;
_Static_assert(sizeof(memo) <= STET_BATCH_MEMO_BYTES, "it fits");

static void queue_memo(stet_batch *batch, const stet_job_queue *queue, const jobs_queue_state *state) {
    memo *m = stet_batch_memo(batch);
    m->queue = stet_batch_failed(batch) ? NULL : queue;
    m->state = *state;
}

static void key_memo(stet_batch *batch, const stet_job_queue *queue, stet_str key,
                     const jobs_key_state *state) {
    memo *m = stet_batch_memo(batch);
    m->key_queue = stet_batch_failed(batch) || key.size > sizeof(m->key) ? NULL : queue;
    if (!m->key_queue)
        return;
    m->key_size = (uint32_t)key.size;
    memcpy(m->key, key.data, key.size);
    m->key_state = *state;
}

static void put(stet_batch *batch, const stet_key *key, const stet_buf *b, bool is_new) {
    ASSERT(stet_buf_ok(b)); /* it is on the stack, and large enough for the largest numbers */
    if (is_new)
        stet_batch_insert(batch, stet_key_bytes(key), stet_buf_str(b));
    else
        stet_batch_put(batch, stet_key_bytes(key), stet_buf_str(b));
}

static void encode_counts(stet_buf *b, const uint64_t counts[STET_JOB_STATES_COUNT]) {
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++)
        stet_mp_uint(b, counts[i]);
}

static void decode_counts(stet_mp_reader *r, uint64_t counts[STET_JOB_STATES_COUNT]) {
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++)
        counts[i] = stet_mp_read_uint(r);
}

void jobs_queue_save(stet_batch *batch, const stet_job_queue *queue, const jobs_queue_state *state) {
    uint8_t room[1024];
    stet_buf b = STET_BUF_ON(room, sizeof(room));
    stet_mp_array(&b, QUEUE_FIELDS);
    stet_mp_uint(&b, JOBS_FORMAT);
    stet_mp_uint(&b, state->last_order);
    stet_mp_uint(&b, state->next_turn);
    stet_mp_int(&b, state->paused_ms);
    stet_mp_bool(&b, state->recovering);
    encode_counts(&b, state->counts);
    stet_mp_uint(&b, state->resumes);
    stet_mp_uint(&b, state->rate_number);
    stet_mp_uint(&b, state->delayed_from);
    stet_mp_uint(&b, state->resume_from);
    uint32_t levels = 0;
    for (uint32_t i = 0; i < JOBS_LEVELS; i++)
        levels += state->ready[i] != 0 ? 1u : 0u;
    stet_mp_uint(&b, levels);
    stet_mp_array(&b, 3 * levels);
    for (uint32_t i = 0; i < JOBS_LEVELS; i++) {
        if (state->ready[i] == 0)
            continue;
        stet_mp_uint(&b, i);
        stet_mp_uint(&b, state->ready[i]);
        stet_mp_uint(&b, state->ready_from[i]);
    }
    stet_key key = jobs_index_key(STET_TABLE_JOBS_QUEUES, queue);
    put(batch, &key, &b, /* is_new= */ false);
    queue_memo(batch, queue, state);
}

static bool queue_decode(stet_str value, jobs_queue_state *state) {
    stet_mp_reader r = stet_mp_reader_of(value);
    uint32_t fields = stet_mp_read_array(&r);
    uint64_t format = stet_mp_read_uint(&r);
    if (r.failed || fields != QUEUE_FIELDS || format != JOBS_FORMAT)
        return false;
    state->last_order = stet_mp_read_uint(&r);
    state->next_turn = stet_mp_read_uint(&r);
    state->paused_ms = stet_mp_read_int(&r);
    state->recovering = stet_mp_read_bool(&r);
    decode_counts(&r, state->counts);
    state->resumes = stet_mp_read_uint(&r);
    state->rate_number = stet_mp_read_uint(&r);
    state->delayed_from = stet_mp_read_uint(&r);
    state->resume_from = stet_mp_read_uint(&r);
    uint64_t levels = stet_mp_read_uint(&r);
    if (stet_mp_read_array(&r) != 3 * levels)
        return false;
    for (uint64_t i = 0; i < levels && !r.failed; i++) {
        uint64_t level = stet_mp_read_uint(&r);
        if (level >= JOBS_LEVELS)
            return false;
        state->ready[level] = stet_mp_read_uint(&r);
        state->ready_from[level] = stet_mp_read_uint(&r);
    }
    return !r.failed && r.at == r.end;
}

stet_code jobs_queue_load(stet_batch *batch, const stet_job_queue *queue, jobs_queue_state *ret,
                          stet_error *e) {
    const memo *m = stet_batch_memo(batch);
    if (m->queue == queue) {
        *ret = m->state;
        return STET_OK;
    }
    stet_key key = jobs_index_key(STET_TABLE_JOBS_QUEUES, queue);
    stet_str value;
    stet_code rc = stet_batch_get(batch, stet_key_bytes(&key), &value, e);
    *ret = (jobs_queue_state){.next_turn = 1};
    if (rc == STET_NOT_FOUND)
        return STET_OK;
    if (rc == STET_OK && !queue_decode(value, ret))
        return stet_error_set(e, STET_INTERNAL, "the state row of queue %s cannot be read; restore a backup",
                              queue->name);
    if (rc == STET_OK)
        queue_memo(batch, queue, ret);
    return rc;
}

static stet_key key_row_key(const stet_job_queue *queue, stet_str job_key) {
    stet_key key = jobs_index_key(STET_TABLE_JOBS_KEYS, queue);
    stet_key_str(&key, job_key);
    return key;
}

void jobs_key_save(stet_batch *batch, const stet_job_queue *queue, stet_str job_key,
                   const jobs_key_state *state) {
    stet_key key = key_row_key(queue, job_key);
    uint64_t all = 0;
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++)
        all += state->counts[i];
    if (all == 0 && state->paused_ms == 0) {
        if (state->stored)
            stet_batch_delete(batch, stet_key_bytes(&key));
        key_memo(batch, queue, job_key, &(jobs_key_state){.stored = false});
        return;
    }
    uint8_t room[256];
    stet_buf b = STET_BUF_ON(room, sizeof(room));
    stet_mp_array(&b, KEY_FIELDS);
    stet_mp_uint(&b, JOBS_FORMAT);
    encode_counts(&b, state->counts);
    stet_mp_int(&b, state->paused_ms);
    stet_mp_uint(&b, state->head_order);
    stet_mp_uint(&b, state->head_turn);
    stet_mp_uint(&b, state->head_level);
    stet_mp_uint(&b, state->from_level);
    stet_mp_uint(&b, state->from_order);
    put(batch, &key, &b, /* is_new= */ !state->stored);
    jobs_key_state now = *state;
    now.stored = true;
    key_memo(batch, queue, job_key, &now);
}

static bool key_decode(stet_str value, jobs_key_state *state) {
    stet_mp_reader r = stet_mp_reader_of(value);
    uint32_t fields = stet_mp_read_array(&r);
    uint64_t format = stet_mp_read_uint(&r);
    if (r.failed || fields != KEY_FIELDS || format != JOBS_FORMAT)
        return false;
    decode_counts(&r, state->counts);
    state->paused_ms = stet_mp_read_int(&r);
    state->head_order = stet_mp_read_uint(&r);
    state->head_turn = stet_mp_read_uint(&r);
    state->head_level = (uint32_t)stet_mp_read_uint(&r);
    state->from_level = (uint32_t)stet_mp_read_uint(&r);
    state->from_order = stet_mp_read_uint(&r);
    return !r.failed && r.at == r.end && state->head_level < JOBS_LEVELS;
}

stet_code jobs_key_load(stet_batch *batch, const stet_job_queue *queue, stet_str job_key, jobs_key_state *ret,
                        stet_error *e) {
    const memo *m = stet_batch_memo(batch);
    if (m->key_queue == queue && stet_str_equal((stet_str){m->key, m->key_size}, job_key)) {
        *ret = m->key_state;
        return STET_OK;
    }
    stet_key key = key_row_key(queue, job_key);
    stet_str value;
    stet_code rc = stet_batch_get(batch, stet_key_bytes(&key), &value, e);
    *ret = (jobs_key_state){.head_order = 0};
    if (rc == STET_NOT_FOUND)
        return STET_OK;
    if (rc == STET_OK && !key_decode(value, ret))
        return stet_error_set(e, STET_INTERNAL,
                              "the state row of a key in queue %s cannot be read; restore a backup",
                              queue->name);
    ret->stored = rc == STET_OK;
    return rc;
}

stet_id jobs_index_id(const jobs_queue_state *state, stet_id proposed) {
    if (jobs_order_of(proposed) > state->last_order)
        return proposed;
    /* Without the version digit the eight bytes are one number: 48 bits of time, 12 of counter. */
    uint64_t last = state->last_order;
    uint64_t next = ((last >> 16 << 12) | (last & 0xfff)) + 1;
    uint64_t order = next >> 12 << 16 | 0x7000 | (next & 0xfff);
    stet_id id = jobs_id_bound(order, /* low= */ true);
    memcpy(id.bytes + 8, proposed.bytes + 8, 8);
    return id; /* a number that is used up, which only damage does, is refused by the move */
}
