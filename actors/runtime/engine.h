/* engine - what the core asks of the job engine. Actors never include this.
 *
 * The engine keeps no truth in memory: counts, indexes and the head of each queue are rows read through the
 * batch, so an undone message leaves nothing behind. What is volatile is a hint: "this queue may have
 * something to start". Thread: the loop's. Every function works inside a turn. */
#ifndef STET_ENGINE_H
#define STET_ENGINE_H

#include "actors/runtime/jobs.h"

/* First turn after opening: every active job goes back to its queue, its attempt noted as "interrupted" (or
 * to error when no attempt is left). Bounded by the queues' concurrency. */
NODISCARD
stet_code stet_jobs_recover(stet_turn *turn, const stet_service *service, stet_error *e);

/* Promotes delayed jobs that are due, starts ready jobs while limits allow, resumes attempts whose time has
 * come (stet_job_resume_at). Bounded work per call: at most 256 starts, and none after 256 KiB of batch. Each
 * start is undone alone when its run fails (stet_turn_undo) and then written as a failed attempt; a run that
 * answers STET_BUSY or STET_UNAVAILABLE is undone and tried again later. Calls stet_batch_release_reads()
 * between starts: a tick is a message of its own. An error is the store's or our bug. *ret_next_wall_ms: when
 * to call again: 0 now (there is more), INT64_MAX nothing planned. */
NODISCARD
stet_code stet_jobs_tick(stet_turn *turn, const stet_service *service, int64_t *ret_next_wall_ms,
                         stet_error *e);

/* The fence: reads the job a call or work result belongs to. False when the job is gone, not active, or its
 * current attempt_total is not ref.attempt: the result must be dropped and counted. A job that could not be read
 * overflows the turn. */
bool stet_jobs_current(stet_turn *turn, const stet_service *service, stet_call_ref ref, stet_job *ret_job);

/* Removes finished jobs past retention, and their rows in every index: looks at up to rows_max rows, going on
 * from cursor (a buffer that the core keeps; empty = from the beginning; emptied at the end of a pass). */
NODISCARD
stet_code stet_jobs_sweep(stet_turn *turn, const stet_service *service, stet_buf *cursor, uint32_t rows_max,
                          stet_error *e);

/* Verifies one row of a job table (numbers 16..31): is it justified by the others? */
NODISCARD
stet_code stet_jobs_check_row(stet_turn *turn, const stet_service *service, stet_checker *checker,
                              stet_str key, stet_str value, stet_error *e);

/* Value of the key "queues" in <service>.stats: {name: {queued, ..., oldestDueMs, paused}}. */
void stet_jobs_stats(stet_turn *turn, const stet_service *service, stet_buf *b);

/* ---- what the engine needs from the core (turn.c) ---- */
/* Something may be startable: call stet_jobs_tick in this round of the loop. */
void stet_turn_wake_jobs(stet_turn *turn);
/* Undo of a part of a turn: writes and effects since the mark are gone. Marks nest. No scan may be open.
 * Never use stet_batch_rollback alone: the effects would stay. */
typedef struct stet_turn_mark {
    uint64_t batch;
    size_t items, bytes;
    uint32_t runs;
} stet_turn_mark;
stet_turn_mark stet_turn_mark_of(stet_turn *turn);
/* What the commit will hold, events included, which are not in the batch yet. */
size_t stet_turn_bytes(stet_turn *turn);
void stet_turn_undo(stet_turn *turn, stet_turn_mark mark);

#endif
