#include "actors/runtime/jobs_row.h"

#include <stdio.h>

enum { FIELDS = 22, FORCED = 1, REPLACE = 2 };

static const char *const STATE_NAMES[STET_JOB_STATES_COUNT] = {
#define X(name, wire) [STET_JOB_##name] = wire,
    STET_JOB_STATES(X)
#undef X
};

const char *stet_job_state_name(stet_job_state state) {
    ASSERT(state < STET_JOB_STATES_COUNT);
    return STATE_NAMES[state];
}

bool stet_job_state_parse(stet_str name, stet_job_state *ret) {
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++)
        if (stet_str_is(name, STATE_NAMES[i])) {
            *ret = (stet_job_state)i;
            return true;
        }
    return false;
}

uint64_t jobs_order_of(stet_id id) {
    uint64_t order = 0;
    for (unsigned i = 0; i < 8; i++)
        order = order << 8 | id.bytes[i];
    return order;
}

stet_id jobs_id_bound(uint64_t order, bool low) {
    stet_id id;
    memset(id.bytes, low ? 0x00 : 0xff, sizeof(id.bytes));
    for (unsigned i = 0; i < 8; i++)
        id.bytes[i] = (uint8_t)(order >> (56 - 8 * i));
    return id;
}

stet_key jobs_row_key(const stet_job_queue *queue, stet_id id) {
    stet_key key = stet_key_of(STET_TABLE_JOBS);
    stet_key_str(&key, stet_str_of(queue->name));
    stet_key_id(&key, id);
    return key;
}

stet_key jobs_blob_key(const stet_job_queue *queue, stet_id id, uint64_t part) {
    stet_key key = stet_key_of(STET_TABLE_JOBS_BLOBS);
    stet_key_str(&key, stet_str_of(queue->name));
    stet_key_id(&key, id);
    stet_key_u64(&key, part);
    return key;
}

static stet_str *part_of(jobs_record *record, unsigned part) {
    switch (part) {
    case JOBS_PART_PAYLOAD:
        return &record->job.payload;
    case JOBS_PART_RESULT:
        return &record->job.result;
    default:
        return &record->job.attempts;
    }
}

/* ---- encode ---- */

static void encode_bytes(stet_buf *b, stet_str bytes) {
    if (bytes.size == 0)
        stet_mp_nil(b);
    else
        stet_mp_bin(b, bytes.data, bytes.size);
}

static void encode(stet_buf *b, jobs_record *record) {
    const stet_job *job = &record->job;
    stet_mp_array(b, FIELDS);
    stet_mp_uint(b, JOBS_FORMAT);
    stet_mp_str(b, job->key);
    stet_mp_str(b, job->dedup_key);
    stet_mp_uint(b, job->state);
    stet_mp_uint(b, job->priority);
    stet_mp_uint(b, (record->forced ? FORCED : 0u) | (record->replace ? REPLACE : 0u));
    stet_mp_uint(b, job->attempt);
    stet_mp_uint(b, job->attempt_total);
    stet_mp_uint(b, job->retries);
    stet_mp_int(b, job->created_ms);
    stet_mp_int(b, job->run_at_ms);
    stet_mp_int(b, job->started_ms);
    stet_mp_int(b, job->finished_ms);
    stet_mp_int(b, record->resume_at_ms);
    stet_mp_double(b, job->progress);
    stet_mp_cstr(b, job->error_code);
    stet_mp_str(b, job->error_message);
    stet_mp_int(b, job->error_ms);
    for (unsigned i = 0; i < JOBS_PARTS; i++) {
        if (record->blob_bytes[i] != 0)
            stet_mp_uint(b, record->blob_bytes[i]);
        else
            encode_bytes(b, *part_of(record, i));
    }
    encode_bytes(b, job->detail);
}

stet_code jobs_record_put(stet_batch *batch, jobs_record *record, unsigned changed, stet_error *e) {
    const stet_job *job = &record->job;
    for (unsigned i = 0; i < JOBS_PARTS; i++) {
        if ((changed & 1u << i) == 0)
            continue;
        stet_str part = *part_of(record, i);
        stet_key key = jobs_blob_key(job->queue, job->id, i);
        if (part.size > JOBS_INLINE_MAX)
            stet_batch_put(batch, stet_key_bytes(&key), part);
        else if (record->blob_bytes[i] != 0)
            stet_batch_delete(batch, stet_key_bytes(&key));
        record->blob_bytes[i] = part.size > JOBS_INLINE_MAX ? (uint32_t)part.size : 0;
    }
    uint8_t room[2048];
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF_ON(room, STET_VALUE_BYTES_MAX);
    encode(&b, record);
    if (!stet_buf_ok(&b))
        return stet_error_set(e, STET_BUSY, "no memory to write a job; give the actor more");
    stet_key key = jobs_row_key(job->queue, job->id);
    stet_batch_put(batch, stet_key_bytes(&key), stet_buf_str(&b));
    return STET_OK;
}

void jobs_record_delete(stet_batch *batch, const jobs_record *record) {
    const stet_job *job = &record->job;
    for (unsigned i = 0; i < JOBS_PARTS; i++) {
        if (record->blob_bytes[i] == 0)
            continue;
        stet_key key = jobs_blob_key(job->queue, job->id, i);
        stet_batch_delete(batch, stet_key_bytes(&key));
    }
    stet_key key = jobs_row_key(job->queue, job->id);
    stet_batch_delete(batch, stet_key_bytes(&key));
}

/* ---- decode ---- */

static stet_str decode_bytes(stet_mp_reader *r) {
    if (stet_mp_peek(r) == STET_MP_NIL) {
        stet_mp_read_nil(r);
        return (stet_str){NULL, 0};
    }
    return stet_mp_read_bin(r);
}

static void decode_parts(stet_mp_reader *r, jobs_record *record) {
    for (unsigned i = 0; i < JOBS_PARTS; i++) {
        if (stet_mp_peek(r) == STET_MP_UINT)
            record->blob_bytes[i] = (uint32_t)stet_mp_read_uint(r);
        else
            *part_of(record, i) = decode_bytes(r);
    }
}

static stet_code damaged(const stet_job_queue *queue, stet_id id, const char *what, stet_error *e) {
    char text[STET_ID_TEXT_SIZE];
    stet_id_text(id, text);
    return stet_error_set(e, STET_INTERNAL, "%s of job %s in queue %s cannot be read; restore a backup", what,
                          text, queue->name);
}

stet_code jobs_record_decode(const stet_job_queue *queue, stet_id id, stet_str value, jobs_record *ret,
                             stet_error *e) {
    jobs_record record = {.job = {.id = id, .queue = queue, .order = jobs_order_of(id)}};
    stet_job *job = &record.job;
    stet_mp_reader r = stet_mp_reader_of(value);
    uint32_t fields = stet_mp_read_array(&r);
    uint64_t format = stet_mp_read_uint(&r);
    if (r.failed || fields != FIELDS || format != JOBS_FORMAT)
        return damaged(queue, id, "the row", e);
    job->key = stet_mp_read_str(&r);
    job->dedup_key = stet_mp_read_str(&r);
    uint64_t state = stet_mp_read_uint(&r);
    job->priority = (uint32_t)stet_mp_read_uint(&r);
    uint64_t flags = stet_mp_read_uint(&r);
    record.forced = (flags & FORCED) != 0;
    record.replace = (flags & REPLACE) != 0;
    job->attempt = (uint32_t)stet_mp_read_uint(&r);
    job->attempt_total = (uint32_t)stet_mp_read_uint(&r);
    job->retries = (uint32_t)stet_mp_read_uint(&r);
    job->created_ms = stet_mp_read_int(&r);
    job->run_at_ms = stet_mp_read_int(&r);
    job->started_ms = stet_mp_read_int(&r);
    job->finished_ms = stet_mp_read_int(&r);
    record.resume_at_ms = stet_mp_read_int(&r);
    job->progress = stet_mp_read_double(&r);
    stet_str code = stet_mp_read_str(&r);
    job->error_message = stet_mp_read_str(&r);
    job->error_ms = stet_mp_read_int(&r);
    decode_parts(&r, &record);
    job->detail = decode_bytes(&r);
    if (r.failed || r.at != r.end || state >= STET_JOB_STATES_COUNT || job->priority >= STET_JOB_PRIORITIES ||
        code.size >= sizeof(job->error_code))
        return damaged(queue, id, "the row", e);
    job->state = (stet_job_state)state;
    if (code.size > 0)
        memcpy(job->error_code, code.data, code.size);
    *ret = record;
    return STET_OK;
}

static stet_code load_blob(stet_batch *batch, jobs_record *record, unsigned part, stet_error *e) {
    const stet_job *job = &record->job;
    stet_key key = jobs_blob_key(job->queue, job->id, part);
    stet_str value;
    stet_code rc = stet_batch_get(batch, stet_key_bytes(&key), &value, e);
    if (rc == STET_NOT_FOUND || (rc == STET_OK && value.size != record->blob_bytes[part]))
        return damaged(job->queue, job->id, "a long part", e);
    if (rc == STET_OK)
        *part_of(record, part) = value;
    return rc;
}

stet_code jobs_record_blobs(stet_batch *batch, jobs_record *record, stet_error *e) {
    for (unsigned i = 0; i < JOBS_PARTS; i++) {
        if (record->blob_bytes[i] == 0)
            continue;
        stet_code rc = load_blob(batch, record, i, e);
        if (rc != STET_OK)
            return rc;
    }
    return STET_OK;
}

stet_code jobs_record_load_row(stet_batch *batch, const stet_job_queue *queue, stet_id id, jobs_record *ret,
                               stet_error *e) {
    stet_key key = jobs_row_key(queue, id);
    stet_str value;
    stet_code rc = stet_batch_get(batch, stet_key_bytes(&key), &value, e);
    if (rc == STET_NOT_FOUND) {
        char text[STET_ID_TEXT_SIZE];
        stet_id_text(id, text);
        return stet_error_set(e, STET_NOT_FOUND, "there is no job %s in queue %s; check the id", text,
                              queue->name);
    }
    return rc == STET_OK ? jobs_record_decode(queue, id, value, ret, e) : rc;
}

stet_code jobs_record_load(stet_batch *batch, const stet_job_queue *queue, stet_id id, jobs_record *ret,
                           stet_error *e) {
    jobs_record record;
    stet_code rc = jobs_record_load_row(batch, queue, id, &record, e);
    if (rc == STET_OK)
        rc = jobs_record_blobs(batch, &record, e);
    if (rc == STET_OK)
        *ret = record;
    return rc;
}

static bool keep(stet_batch *batch, stet_str *text) {
    return text->size == 0 || stet_batch_keep(batch, text);
}

stet_code jobs_record_keep(stet_batch *batch, jobs_record *record, unsigned changed, stet_error *e) {
    stet_job *job = &record->job;
    bool kept = true;
    for (unsigned i = 0; i < JOBS_PARTS && kept; i++)
        kept = (changed & 1u << i) == 0 || keep(batch, part_of(record, i));
    kept = kept && keep(batch, &job->key) && keep(batch, &job->dedup_key) &&
           keep(batch, &job->error_message) && keep(batch, &job->detail);
    return kept ? STET_OK : stet_error_set(e, STET_BUSY, "out of memory for a job that was written");
}

/* ---- history ---- */

stet_str jobs_cut(stet_str text, size_t bytes_max) {
    if (text.size <= bytes_max)
        return text;
    size_t size = bytes_max;
    while (size > 0 && ((uint8_t)text.data[size] & 0xc0) == 0x80)
        size--;
    return (stet_str){text.data, size};
}

static void history_entry(stet_buf *b, const jobs_record *record, int64_t now_ms, const char *outcome,
                          const char *error_code, stet_str message) {
    const stet_job *job = &record->job;
    bool failed = error_code[0] != '\0';
    bool detail = job->detail.size > 0;
    stet_mp_map(b, 4u + (failed ? 1u : 0u) + (detail ? 1u : 0u));
    stet_mp_put_uint(b, "attempt", job->attempt_total);
    stet_mp_put_time(b, "startedAt", job->started_ms);
    stet_mp_put_time(b, "finishedAt", now_ms);
    stet_mp_put_cstr(b, "outcome", outcome);
    if (failed) {
        stet_mp_cstr(b, "error");
        stet_mp_map(b, 2);
        stet_mp_put_cstr(b, "code", error_code);
        stet_mp_put_str(b, "message", message);
    }
    if (detail)
        stet_mp_put_raw(b, "detail", job->detail);
}

void jobs_history_append(stet_buf *b, const jobs_record *record, int64_t now_ms, const char *outcome,
                         const char *error_code, stet_str message) {
    stet_mp_reader r = stet_mp_reader_of(record->job.attempts);
    uint32_t kept = record->job.attempts.size > 0 ? stet_mp_read_array(&r) : 0;
    while (kept > 0 && !r.failed &&
           (kept >= STET_JOB_ATTEMPTS_KEPT || (size_t)(r.end - r.at) > JOBS_HISTORY_BYTES_MAX)) {
        (void)stet_mp_read_raw(&r);
        kept--;
    }
    if (r.failed) /* our own bytes, checked by <service>.check: begin anew rather than stop the job */
        kept = 0;
    stet_mp_array(b, kept + 1);
    for (uint32_t i = 0; i < kept; i++)
        stet_mp_raw(b, stet_mp_read_raw(&r));
    history_entry(b, record, now_ms, outcome, error_code, message);
}
