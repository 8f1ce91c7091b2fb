/* jobs_row - one job as it lies in the store. Private to the job engine (jobs_*.c).
 *
 * JOBS (queue, id) holds one MessagePack array, rewritten by every change of state. Payload, result and
 * history longer than JOBS_INLINE_MAX lie in rows of their own (JOBS_BLOBS), written only when they change: a
 * 100 KiB payload is not written again by each of the four changes of a job's life, and a small one costs no
 * second row.
 *
 * The first eight bytes of an id are the job's place in submission order: UUIDv7 puts the time and a counter
 * there, and the engine keeps them growing within a queue (jobs_index_id). So "newest first" is a reverse
 * scan of JOBS and no table carries an order number beside the id.
 *
 * A new format of the row: raise JOBS_FORMAT, keep reading the old one in jobs_row.c, add it to the migration
 * test. */
#ifndef STET_JOBS_ROW_H
#define STET_JOBS_ROW_H

#include "actors/runtime/jobs.h"

enum {
    JOBS_FORMAT = 1,
    JOBS_INLINE_MAX = 4096,
    JOBS_HISTORY_BYTES_MAX = 256 << 10, /* the oldest attempts go when more */
    JOBS_MESSAGE_MAX = 1024             /* bytes of an error message that are kept */
};

/* Parts of a job that may lie in a row of their own; bit 1 << part in masks. */
enum { JOBS_PART_PAYLOAD, JOBS_PART_RESULT, JOBS_PART_HISTORY, JOBS_PARTS };
enum {
    JOBS_PAYLOAD = 1 << JOBS_PART_PAYLOAD,
    JOBS_RESULT = 1 << JOBS_PART_RESULT,
    JOBS_HISTORY = 1 << JOBS_PART_HISTORY,
    JOBS_STRINGS = 1 << JOBS_PARTS /* other strings of the job point at somebody's buffer */
};

typedef struct jobs_record {
    stet_job job;
    bool forced;                     /* drained: runs in spite of back-off and pause */
    bool replace;                    /* the latest submission with its dedup key wanted its payload to win */
    int64_t resume_at_ms;            /* 0: none */
    uint32_t blob_bytes[JOBS_PARTS]; /* 0: the part is inline (or absent) */
} jobs_record;

uint64_t jobs_order_of(stet_id id);
/* The smallest (low) or largest id with that order, to seek with. */
stet_id jobs_id_bound(uint64_t order, bool low);
static inline bool jobs_waits(const jobs_record *record) {
    return record->job.state == STET_JOB_QUEUED || record->job.state == STET_JOB_DELAYED;
}
static inline bool jobs_finished(stet_job_state state) {
    return state == STET_JOB_DONE || state == STET_JOB_ERROR || state == STET_JOB_CANCELLED;
}

stet_key jobs_row_key(const stet_job_queue *queue, stet_id id);
stet_key jobs_blob_key(const stet_job_queue *queue, stet_id id, uint64_t part);

/* STET_NOT_FOUND. Strings live until stet_batch_release_reads(). */
NODISCARD
stet_code jobs_record_load(stet_batch *batch, const stet_job_queue *queue, stet_id id, jobs_record *ret,
                           stet_error *e);
/* The same without the blobs. */
NODISCARD
stet_code jobs_record_load_row(stet_batch *batch, const stet_job_queue *queue, stet_id id, jobs_record *ret,
                               stet_error *e);
/* From a row's value; strings point into it. Without blobs, parts that lie elsewhere stay {NULL, 0}. */
NODISCARD
stet_code jobs_record_decode(const stet_job_queue *queue, stet_id id, stet_str value, jobs_record *ret,
                             stet_error *e);
NODISCARD
stet_code jobs_record_blobs(stet_batch *batch, jobs_record *record, stet_error *e);
/* Writes the row, and the blobs of the parts in `changed`. */
NODISCARD
stet_code jobs_record_put(stet_batch *batch, jobs_record *record, unsigned changed, stet_error *e);
/* Makes the strings of a record just put, with the same `changed`, live until stet_batch_release_reads(),
 * whoever's buffers they were in. */
NODISCARD
stet_code jobs_record_keep(stet_batch *batch, jobs_record *record, unsigned changed, stet_error *e);
void jobs_record_delete(stet_batch *batch, const jobs_record *record);

/* The history with one entry more, built in b: {attempt, startedAt, finishedAt, outcome, error?, detail?}. */
void jobs_history_append(stet_buf *b, const jobs_record *record, int64_t now_ms, const char *outcome,
                         const char *error_code, stet_str message);
/* At most bytes_max bytes, cut between characters. */
stet_str jobs_cut(stet_str text, size_t bytes_max);

#endif
