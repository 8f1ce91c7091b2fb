/* jobs - the one job engine: durable queues with keys, priorities, delays, retries, cancel and pause.
 *
 *            submit                    start (attempt + 1, committed before run's effects leave)
 *   (new) ---------> queued ---------------------------> active ---> done
 *             \        ^  ^                              |  |  \---> error      retry by an operator:
 *        runAt \       |  | due                  retry   |  |                   error, cancelled -> queued,
 * count fresh,
 *               `-> delayed <----------------------------'  |                   history kept
 *                      \------------ cancel ----------------+---> cancelled
 *
 * Invariants: at most `key_concurrency` active jobs per key and `concurrency` per queue; within a key jobs
 * start in the order (priority, submission); an attempt has a number, and a result that carries another
 * number is refused; a crash returns active jobs to the queue with the attempt counted and noted as
 * "interrupted"; attempts never pass attempts_max without an operator; counts are rows, kept in the same
 * batch (O(1)). Memory does not grow with the backlog: the index is in the store, only the head of a queue is
 * looked at.
 *
 * A job's payload and result are MessagePack values that belong to the actor. Fields the actor needs at hand
 * during the life of a job (project, session) belong in the payload. */
#ifndef STET_JOBS_H
#define STET_JOBS_H

#include "actors/runtime/actor.h"

#define STET_JOB_STATES(X)                                                                                   \
    X(QUEUED, "queued")                                                                                      \
    X(DELAYED, "delayed") X(ACTIVE, "active") X(DONE, "done") X(ERROR, "error") X(CANCELLED, "cancelled")
typedef enum stet_job_state {
#define X(name, wire) STET_JOB_##name,
    STET_JOB_STATES(X)
#undef X
        STET_JOB_STATES_COUNT
} stet_job_state;
const char *stet_job_state_name(stet_job_state state);
NODISCARD
bool stet_job_state_parse(stet_str name, stet_job_state *ret);

enum {
    STET_JOB_KEY_SIZE_MAX = 128,
    STET_JOB_PAYLOAD_MAX = 512 << 10,
    STET_JOB_RESULT_MAX = 512 << 10,
    STET_JOB_DETAIL_MAX = 16 << 10,
    STET_JOB_PRIORITIES = 10,
    STET_JOB_ATTEMPTS_KEPT = 64
};

/* A job as read in this turn. Strings live until the handler returns. */
struct stet_job {
    stet_id id;
    const stet_job_queue *queue;
    stet_str key;
    stet_str dedup_key;
    stet_job_state state;
    uint32_t priority; /* 0 first */
    uint32_t
        attempt; /* of the current count: 0 before the first start; an operator's retry starts at 0 again */
    uint32_t attempt_total; /* never goes back: the fence, and the number shown in events */
    uint32_t retries;       /* how often an operator requeued it */
    uint64_t order;         /* place in submission order */
    int64_t created_ms, run_at_ms, started_ms, finished_ms;
    double progress;
    char error_code[64]; /* of the last failure; "" for none */
    stet_str error_message;
    int64_t error_ms;
    stet_str payload;  /* MessagePack */
    stet_str result;   /* MessagePack; {NULL, 0}: none */
    stet_str attempts; /* MessagePack array: {attempt, startedAt, finishedAt, outcome, error: {code, message},
                          detail} */
    stet_str detail; /* MessagePack map the actor keeps about the current attempt (stet_job_set_detail), e.g.
                        its calls */
};

struct stet_job_queue {
    const char *name; /* "drafts" */
    /* Settings, so that they can be configured; a NULL-able limit of 0 means none. */
    uint32_t (*concurrency)(const stet_config *config);
    uint32_t key_concurrency;
    uint32_t (*attempts_max)(const stet_config *config);
    int64_t (*backoff_first_ms)(const stet_config *config);
    int64_t (*backoff_max_ms)(const stet_config *config);
    int64_t (*keep_ms)(const stet_config *config); /* retention of finished jobs */
    uint32_t rate_max; /* starts per rate_window_ms in the whole queue; 0: no limit */
    int64_t rate_window_ms;

    /* The attempt has begun (state active, attempt counted): ask for calls or work, or finish at once. */
    stet_code (*run)(stet_turn *turn, stet_job *job, stet_error *e);
    /* After every write of a job (D-13), with the state it now has: events, metrics, alerts go here. `before`
     * is its state before this write, or STET_JOB_STATES_COUNT for a new job. */
    stet_code (*written)(stet_turn *turn, const stet_job *job, stet_job_state before, stet_error *e);
    /* An active job was taken back by cancel or by a lost attempt: take back its calls. */
    void (*abandon)(stet_turn *turn, const stet_job *job);
};

typedef struct stet_job_submit {
    stet_str key;
    stet_str payload;
    uint32_t priority;  /* 0..9 */
    int64_t run_at_ms;  /* 0: now */
    stet_str dedup_key; /* {NULL, 0}: none; unique per key among jobs that are queued or delayed */
    enum { STET_DEDUP_KEEP_FIRST, STET_DEDUP_REPLACE_PAYLOAD } dedup;
} stet_job_submit;

/* *ret_job is the new job, or the waiting one with the same dedup key (*ret_existing). */
NODISCARD
stet_code stet_job_submit_new(stet_turn *turn, const stet_job_queue *queue, const stet_job_submit *submit,
                              stet_job *ret_job, bool *ret_existing, stet_error *e);
/* STET_NOT_FOUND. */
NODISCARD
stet_code stet_job_read(stet_turn *turn, const stet_job_queue *queue, stet_id id, stet_job *ret_job,
                        stet_error *e);
/* How many jobs of the queue start before this one, counted up to 1000; 0 when it is not waiting. */
uint32_t stet_job_position(stet_turn *turn, const stet_job *job);

/* ---- ends of an attempt; only for a job that is active ---- */
NODISCARD
stet_code stet_job_done(stet_turn *turn, stet_job *job, stet_str result, stet_error *e);
/* Fails the attempt: again after back-off with jitter (at least retry_after_ms) while attempts are left, else
 * error. retry_after_ms < 0: again at once, without back-off (the cause is gone: the base changed). */
NODISCARD
stet_code stet_job_failed(stet_turn *turn, stet_job *job, const char *error_code, stet_str message,
                          int64_t retry_after_ms, stet_error *e);
/* Ends the job in error at once, whatever attempts are left. */
NODISCARD
stet_code stet_job_fail_finally(stet_turn *turn, stet_job *job, const char *error_code, stet_str message,
                                stet_error *e);
/* Keeps something about the running attempt (durable with this commit); it becomes part of the attempt's
 * history. */
NODISCARD
stet_code stet_job_set_detail(stet_turn *turn, stet_job *job, stet_str detail, double progress,
                              stet_error *e);
/* Wakes the active job's actor at a time: stet_service.timer with name "job:<id>:<attempt_total>" is not
 * used; instead queue->run is called again for the same attempt (for call retries inside one attempt). */
NODISCARD
stet_code stet_job_resume_at(stet_turn *turn, stet_job *job, int64_t wall_ms, stet_error *e);

/* ---- operator ---- */
NODISCARD
stet_code stet_job_cancel(stet_turn *turn, stet_job *job,
                          stet_error *e); /* STET_CONFLICT when done or error */
/* Only error and cancelled jobs (STET_CONFLICT otherwise): fresh count, history kept. */
NODISCARD
stet_code stet_job_retry(stet_turn *turn, stet_job *job, stet_error *e);
/* Marks up to limit waiting jobs (queued or delayed, in start order) to run now in spite of back-off or
 * pause; key concurrency and attempts_max still hold. ids: array of limit. Returns how many through
 * ret_count. */
NODISCARD
stet_code stet_job_drain(stet_turn *turn, const stet_job_queue *queue, uint32_t limit, stet_id *ids,
                         uint32_t *ret_count, stet_error *e);
/* key {NULL, 0}: the whole queue. */
NODISCARD
stet_code stet_job_pause(stet_turn *turn, const stet_job_queue *queue, stet_str key, bool paused,
                         stet_error *e);
bool stet_job_paused(stet_turn *turn, const stet_job_queue *queue, stet_str key);

/* ---- look ---- */
/* Counts by state; key {NULL, 0}: the whole queue. */
NODISCARD
stet_code stet_job_counts(stet_turn *turn, const stet_job_queue *queue, stet_str key,
                          uint64_t ret_counts[STET_JOB_STATES_COUNT], stet_error *e);
typedef struct stet_job_filter {
    stet_str key; /* {NULL, 0}: all */
    bool by_state;
    stet_job_state state;
    const char *error_code; /* NULL: all */
    uint64_t before_order;  /* page: only jobs with a smaller order; 0: from the newest */
    uint32_t limit;
} stet_job_filter;
/* Newest first; calls visit for each; *ret_next is the before_order of the next page, 0 when there is none.
 * Bounded: looks at 10,000 rows at most per call and then returns with *ret_next set. */
NODISCARD
stet_code stet_job_list(stet_turn *turn, const stet_job_queue *queue, const stet_job_filter *filter,
                        stet_code (*visit)(void *context, const stet_job *job, stet_error *e), void *context,
                        uint64_t *ret_next, stet_error *e);
/* Age in ms of the oldest job that is due and waits; 0 when none. */
int64_t stet_job_oldest_due_ms(stet_turn *turn, const stet_job_queue *queue);
/* The job as a MessagePack map as users see it: jobId, status, attempts[], error, times as RFC 3339, ... plus
 * the payload's fields that `describe` adds. */
void stet_job_encode(
    const stet_job *job, stet_buf *b,
    uint32_t extra_pairs); /* opens a map with room for extra_pairs, which the caller writes after */

#endif
