/* jobs_index - every index row and every count of the job engine, written in one place. Private to jobs_*.c.
 *
 * Given a job before and after a change, jobs_index_move() writes and deletes exactly the rows that differ:
 *
 *   state                rows
 *   queued               READY (queue, level, turn)  when it is the head of a key that may start a job, or
 * else WAITING (queue, key, level, id) delayed              DELAYED (queue, run at, id) active ACTIVE (queue,
 * id), and RESUME (queue, resume at, id) when it asked to be called again error, cancelled     FAILED (queue,
 * state, id) queued and delayed   DEDUP (queue, key, dedup key) when the job has one all BY_KEY (queue, key,
 * id), from submission to sweep counts               KEYS (queue, key) and QUEUES (queue)
 *
 * The head of a key is its first queued job by (level, submission); level 0 is for drained jobs, level p + 1
 * for priority p. It has a READY row exactly when the key may start a job: fewer active ones than
 * key_concurrency, and the key not paused or the head drained. So READY holds at most one row per key, a
 * million jobs of a busy key are never looked at, and a job alone in its key costs one put and one delete.
 * Whoever becomes head gets the queue's next turn number: keys take turns inside a level (round robin),
 * however many jobs one of them has.
 *
 * Marks ("from"): RocksDB walks over deleted rows at the front of a range one by one until a compaction takes
 * them. The state rows remember where each range can begin at the earliest, so a scan starts behind the
 * graveyard. A mark that is too low costs time, never a job; one that is too high is a bug that
 * <service>.check reports. */
#ifndef STET_JOBS_INDEX_H
#define STET_JOBS_INDEX_H

#include "actors/runtime/jobs_row.h"

enum { JOBS_LEVELS = STET_JOB_PRIORITIES + 1 };

typedef struct jobs_queue_state {
    uint64_t last_order; /* of the newest job */
    uint64_t next_turn;
    int64_t paused_ms; /* 0: not paused */
    bool recovering;   /* active jobs of an earlier life are still to be taken back: nothing starts */
    uint64_t counts[STET_JOB_STATES_COUNT];
    uint64_t resumes;      /* rows of RESUME */
    uint64_t rate_number;  /* starts so far, when the queue has a rate */
    uint64_t delayed_from; /* no row of DELAYED is due earlier; meaningless when there is none */
    uint64_t resume_from;
    uint64_t ready[JOBS_LEVELS];      /* rows of READY */
    uint64_t ready_from[JOBS_LEVELS]; /* no row of that level has a smaller turn */
} jobs_queue_state;

typedef struct jobs_key_state {
    bool stored; /* there is a row */
    uint64_t counts[STET_JOB_STATES_COUNT];
    int64_t paused_ms;
    uint64_t head_order; /* 0: no READY row */
    uint64_t head_turn;
    uint32_t head_level;
    uint32_t from_level; /* no row of WAITING is before (from_level, from_order) */
    uint64_t from_order;
} jobs_key_state;

NODISCARD
stet_code jobs_queue_load(stet_batch *batch, const stet_job_queue *queue, jobs_queue_state *ret,
                          stet_error *e);
void jobs_queue_save(stet_batch *batch, const stet_job_queue *queue, const jobs_queue_state *state);
NODISCARD
stet_code jobs_key_load(stet_batch *batch, const stet_job_queue *queue, stet_str key, jobs_key_state *ret,
                        stet_error *e);
/* Deletes the row when nothing is left to say. */
void jobs_key_save(stet_batch *batch, const stet_job_queue *queue, stet_str key, const jobs_key_state *state);

static inline uint32_t jobs_level(const jobs_record *record) {
    return record->forced ? 0 : record->job.priority + 1;
}
/* Queued jobs of the key that lie in WAITING. */
static inline uint64_t jobs_waiting_rows(const jobs_key_state *state) {
    return state->counts[STET_JOB_QUEUED] - (state->head_order != 0 ? 1 : 0);
}

/* An id greater than all of the queue: `proposed`, or the next one when the clock went back. */
stet_id jobs_index_id(const jobs_queue_state *state, stet_id proposed);

/* before NULL: a new job. after NULL: the job is removed (rows of JOBS and JOBS_BLOBS are the caller's). Key,
 * dedup key and id of a job never change. */
NODISCARD
stet_code jobs_index_move(stet_batch *batch, const jobs_record *before, const jobs_record *after,
                          stet_error *e);
/* Sets a key's pause (0: none) and its READY row accordingly. */
NODISCARD
stet_code jobs_index_pause_key(stet_batch *batch, const stet_job_queue *queue, stet_str key,
                               int64_t paused_ms, stet_error *e);

/* ---- keys of index rows, and what stands behind their prefix ---- */
stet_key jobs_index_key(uint8_t table, const stet_job_queue *queue);
stet_key jobs_ready_key(const stet_job_queue *queue, uint32_t level, uint64_t turn);
stet_key jobs_waiting_key(const stet_job_queue *queue, stet_str key, uint32_t level, stet_id id);
stet_key jobs_time_key(uint8_t table, const stet_job_queue *queue, uint64_t at_ms,
                       stet_id id); /* DELAYED, RESUME */
stet_key jobs_active_key(const stet_job_queue *queue, stet_id id);
stet_key jobs_failed_key(const stet_job_queue *queue, stet_job_state state, stet_id id);
stet_key jobs_by_key_key(const stet_job_queue *queue, stet_str key, stet_id id);
stet_key jobs_dedup_key(const stet_job_queue *queue, stet_str key, stet_str dedup_key);
/* Reads on behind a prefix of whole components. */
stet_key_reader jobs_behind(stet_str key, const stet_key *prefix);

typedef struct jobs_ready_row {
    stet_id id;
    int64_t since_ms; /* due since */
    uint64_t turn;
} jobs_ready_row;
/* The rows of an index from `from` on. NULL: STET_BUSY, for want of memory. */
stet_scan *jobs_scan(stet_batch *batch, const stet_job_queue *queue, const stet_key *prefix, stet_str from,
                     stet_error *e);
/* The first rows of a level, at most `max`; returns their number through ret_count. */
NODISCARD
stet_code jobs_ready_rows(stet_batch *batch, const stet_job_queue *queue, const jobs_queue_state *state,
                          uint32_t level, jobs_ready_row *rows, uint32_t max, uint32_t *ret_count,
                          stet_error *e);
/* The first row of a key in WAITING; STET_NOT_FOUND when there is none. */
NODISCARD
stet_code jobs_waiting_first(stet_batch *batch, const stet_job_queue *queue, stet_str key,
                             const jobs_key_state *state, stet_id *ret_id, uint32_t *ret_level,
                             int64_t *ret_since_ms, stet_error *e);
/* Value of a READY row. */
NODISCARD
bool jobs_ready_decode(stet_str value, jobs_ready_row *ret);

#endif
