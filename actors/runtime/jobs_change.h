/* jobs_change - how a job changes: row, index and callback together. Private to jobs_*.c.
 *
 * Every function reads the job's row again (active ones check the attempt), writes on a copy, and gives the
 * copy out only on success: on an error nothing in memory has changed and the core undoes the writes. */
#ifndef STET_JOBS_CHANGE_H
#define STET_JOBS_CHANGE_H

#include "actors/runtime/engine.h"
#include "actors/runtime/jobs_index.h"

/* ---- settings; 0: no limit ---- */
uint32_t jobs_concurrency(stet_turn *turn, const stet_job_queue *queue);
uint32_t jobs_attempts_max(stet_turn *turn, const stet_job_queue *queue);
int64_t jobs_keep_ms(stet_turn *turn, const stet_job_queue *queue);

/* Writes `after` in place of `before` (NULL: a new job) and calls queue->written. `changed`: parts of
 * jobs_row.h. Strings of `after` point into the store afterwards. */
NODISCARD
stet_code jobs_change(stet_turn *turn, const jobs_record *before, jobs_record *after, unsigned changed,
                      stet_error *e);
/* The same without the callback, for bookkeeping that nobody outside of the engine sees. */
NODISCARD
stet_code jobs_change_quietly(stet_turn *turn, const jobs_record *before, jobs_record *after,
                              unsigned changed, stet_error *e);

/* The row of a job that must be in its attempt still: STET_CONFLICT when the attempt is over, STET_NOT_FOUND.
 */
NODISCARD
stet_code jobs_load_active(stet_turn *turn, const stet_job *job, jobs_record *ret, stet_error *e);

/* How an attempt ends. */
typedef struct jobs_end {
    stet_job_state state;
    const char *outcome;    /* in the history: done, failed, interrupted, cancelled */
    const char *error_code; /* NULL: no error */
    stet_str message;
    stet_str result;
    int64_t wait_ms; /* state DELAYED: how long */
} jobs_end;
/* Writes history and the new state of an active job. A job that goes back to wait while another one waits
 * under its dedup key: the kept one is decided as at submission (keep first: this one; replace: the other).
 */
NODISCARD
stet_code jobs_end_attempt(stet_turn *turn, jobs_record *record, const jobs_end *end, stet_error *e);
/* Again after back-off when attempts are left, else error. */
NODISCARD
stet_code jobs_fail_attempt(stet_turn *turn, jobs_record *record, const char *error_code, stet_str message,
                            int64_t retry_after_ms, stet_error *e);
/* Ends a job that waits. */
NODISCARD
stet_code jobs_end_waiting(stet_turn *turn, jobs_record *record, stet_job_state state, const char *error_code,
                           stet_str message, stet_error *e);
/* The waiting job with that dedup key; STET_NOT_FOUND. */
NODISCARD
stet_code jobs_dedup_find(stet_turn *turn, const stet_job_queue *queue, stet_str key, stet_str dedup_key,
                          jobs_record *ret, stet_error *e);

#endif
