/* jobs_fixture - the job engine on a store in memory, with a turn that has nothing else: the functions of the
 * turn that the engine calls are defined here, so a test links the engine alone. */
#ifndef STET_JOBS_FIXTURE_H
#define STET_JOBS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "actors/runtime/engine.h"
#include "actors/runtime/jobs_index.h"

enum { FIXTURE_LOG_MAX = 20000, FIXTURE_START_MS = 1700000000 };

typedef struct settings {
    uint32_t concurrency, attempts_max;
    int64_t backoff_first_ms, backoff_max_ms, keep_ms;
} settings;

typedef struct written_entry {
    stet_id id;
    stet_job_state before, after;
    uint32_t attempt_total;
} written_entry;

typedef struct fixture fixture;
typedef stet_code run_fn(fixture *f, stet_turn *turn, stet_job *job, stet_error *e);

struct stet_turn {
    fixture *f;
    stet_store *store;
    int64_t wall_ms;
    stet_prng prng;
    stet_id_source ids;
    const stet_service *service;
    uint32_t wakes;
    uint64_t effects; /* how many a real turn would hold */
    uint64_t effects_max;
    bool starved; /* what does not fit found no memory */
};

struct fixture {
    stet_turn turn;
    settings set;
    stet_job_queue queues[2];
    stet_service service;
    run_fn *run;                      /* NULL: the attempt goes on */
    stet_code written_code;           /* what written answers */
    stet_id started[FIXTURE_LOG_MAX]; /* by run, in order */
    uint32_t started_count;
    written_entry written[FIXTURE_LOG_MAX];
    uint32_t written_count;
    uint32_t abandoned;
    uint32_t problems;
    char problem[300];
    int64_t next_ms; /* of the last tick */
};

/* ---- the turn ---- */

stet_batch *stet_turn_batch(stet_turn *turn) {
    return stet_store_batch(turn->store);
}
int64_t stet_turn_wall_ms(const stet_turn *turn) {
    return turn->wall_ms;
}
stet_prng *stet_turn_prng(stet_turn *turn) {
    return &turn->prng;
}
stet_id stet_turn_new_id(stet_turn *turn) {
    return stet_id_next(&turn->ids, turn->wall_ms);
}
const stet_config *stet_turn_config(const stet_turn *turn) {
    return (const stet_config *)(const void *)&turn->f->set;
}
void stet_turn_wake_jobs(stet_turn *turn) {
    turn->wakes++;
}
stet_turn_mark stet_turn_mark_of(stet_turn *turn) {
    return (stet_turn_mark){.batch = stet_batch_mark(stet_turn_batch(turn)), .items = turn->effects};
}
void stet_turn_undo(stet_turn *turn, stet_turn_mark mark) {
    stet_batch_rollback(stet_turn_batch(turn), mark.batch);
    turn->effects = mark.items;
    turn->starved = false;
}
size_t stet_turn_bytes(stet_turn *turn) {
    return stet_batch_bytes(stet_turn_batch(turn));
}
bool stet_turn_overflowed(stet_turn *turn) {
    return turn->effects > turn->effects_max || stet_batch_failed(stet_turn_batch(turn));
}
bool stet_turn_starved(stet_turn *turn) {
    return turn->starved || stet_batch_starved(stet_turn_batch(turn));
}
void stet_turn_fail(stet_turn *turn, bool starved) {
    turn->starved = starved;
    turn->effects = turn->effects_max + 1;
}
void stet_check_problem(stet_checker *checker, const char *kind, stet_str key, const char *format, ...) {
    fixture *f = (fixture *)(void *)checker;
    (void)key;
    va_list arguments;
    va_start(arguments, format);
    int at = snprintf(f->problem, sizeof(f->problem), "%s: ", kind);
    (void)vsnprintf(f->problem + at, sizeof(f->problem) - (size_t)at, format, arguments);
    va_end(arguments);
    f->problems++;
}

/* ---- the queue ---- */

static inline const settings *settings_of(const stet_config *config) {
    return (const settings *)(const void *)config;
}
static inline uint32_t set_concurrency(const stet_config *config) {
    return settings_of(config)->concurrency;
}
static inline uint32_t set_attempts_max(const stet_config *config) {
    return settings_of(config)->attempts_max;
}
static inline int64_t set_backoff_first(const stet_config *config) {
    return settings_of(config)->backoff_first_ms;
}
static inline int64_t set_backoff_max(const stet_config *config) {
    return settings_of(config)->backoff_max_ms;
}
static inline int64_t set_keep(const stet_config *config) {
    return settings_of(config)->keep_ms;
}

static inline stet_code on_run(stet_turn *turn, stet_job *job, stet_error *e) {
    fixture *f = turn->f;
    assert_int_equal(job->state, STET_JOB_ACTIVE);
    assert_true(f->started_count < FIXTURE_LOG_MAX);
    f->started[f->started_count++] = job->id;
    return f->run != NULL ? f->run(f, turn, job, e) : STET_OK;
}

static inline stet_code on_written(stet_turn *turn, const stet_job *job, stet_job_state before,
                                   stet_error *e) {
    fixture *f = turn->f;
    assert_true(f->written_count < FIXTURE_LOG_MAX);
    f->written[f->written_count++] = (written_entry){job->id, before, job->state, job->attempt_total};
    turn->effects++;
    return f->written_code == STET_OK ? STET_OK : stet_error_set(e, f->written_code, "as the test wants");
}

static inline void on_abandon(stet_turn *turn, const stet_job *job) {
    assert_int_equal(job->state, STET_JOB_ACTIVE);
    turn->f->abandoned++;
}

static inline fixture *fixture_new(uint64_t seed) {
    fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    stet_error e;
    f->set = (settings){.concurrency = 4,
                        .attempts_max = 3,
                        .backoff_first_ms = 1000,
                        .backoff_max_ms = 60000,
                        .keep_ms = 3600000};
    for (unsigned i = 0; i < 2; i++)
        f->queues[i] = (stet_job_queue){.name = i == 0 ? "drafts" : "other",
                                        .concurrency = set_concurrency,
                                        .key_concurrency = 1,
                                        .attempts_max = set_attempts_max,
                                        .backoff_first_ms = set_backoff_first,
                                        .backoff_max_ms = set_backoff_max,
                                        .keep_ms = set_keep,
                                        .run = on_run,
                                        .written = on_written,
                                        .abandon = on_abandon};
    f->service = (stet_service){.name = "test", .queues = f->queues, .queues_count = 2};
    f->turn = (stet_turn){.f = f,
                          .wall_ms = FIXTURE_START_MS,
                          .prng = stet_prng_of(seed),
                          .ids = stet_id_source_of(seed + 1),
                          .service = &f->service,
                          .effects_max = UINT64_MAX};
    assert_int_equal(stet_store_open_memory(0, &f->turn.store, &e), STET_OK);
    return f;
}

static inline void fixture_free(fixture *f) {
    (void)stet_store_close(f->turn.store);
    free(f);
}

/* ---- steps ---- */

#define OK(call)                                                                                             \
    do {                                                                                                     \
        stet_error e_ = {0};                                                                                 \
        stet_error *e = &e_;                                                                                 \
        stet_code rc_ = (call);                                                                              \
        if (rc_ != STET_OK)                                                                                  \
            fail_msg("%s: %s: %s", #call, stet_code_name(rc_), e_.message);                                  \
    } while (0)

static inline const stet_job_queue *queue(const fixture *f) {
    return &f->queues[0];
}

static inline void release(fixture *f) {
    stet_batch_release_reads(stet_turn_batch(&f->turn));
}

static inline void commit(fixture *f) {
    stet_batch *batch = stet_turn_batch(&f->turn);
    f->turn.effects = 0;
    release(f);
    assert_false(stet_batch_failed(batch));
    if (stet_batch_count(batch) == 0)
        return;
    uint64_t ticket;
    OK(stet_batch_commit(batch, f->turn.wall_ms, &ticket, e));
    stet_completion done;
    assert_true(stet_store_next_completion(f->turn.store, &done));
    assert_int_equal(done.result, STET_COMMIT_OK);
}

static inline void recover(fixture *f) {
    OK(stet_jobs_recover(&f->turn, &f->service, e));
    release(f);
}

static inline void tick(fixture *f) {
    OK(stet_jobs_tick(&f->turn, &f->service, &f->next_ms, e));
    release(f);
}

static inline stet_id submit(fixture *f, const stet_job_submit *s) {
    stet_job job;
    bool existing;
    OK(stet_job_submit_new(&f->turn, queue(f), s, &job, &existing, e));
    release(f);
    return job.id;
}

static inline stet_id submit_key(fixture *f, const char *key) {
    return submit(f,
                  &(stet_job_submit){.key = stet_str_of(key), .payload = STET_STR("\xa1p"), .priority = 5});
}

static inline stet_job read_job(fixture *f, stet_id id) {
    stet_job job;
    OK(stet_job_read(&f->turn, queue(f), id, &job, e));
    return job;
}

static inline stet_job_state state_of(fixture *f, stet_id id) {
    return read_job(f, id).state;
}

#define assert_state(f, id, wanted)                                                                          \
    assert_string_equal(stet_job_state_name(state_of((f), (id))), stet_job_state_name(STET_JOB_##wanted))

static inline uint64_t count_of(fixture *f, stet_job_state state) {
    uint64_t counts[STET_JOB_STATES_COUNT];
    OK(stet_job_counts(&f->turn, queue(f), (stet_str){NULL, 0}, counts, e));
    return counts[state];
}

static inline uint64_t rows_of(fixture *f, uint8_t table) {
    stet_key prefix = stet_key_of(table);
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(stet_turn_batch(&f->turn), stet_key_bytes(&prefix), (stet_str){NULL, 0}, false);
    uint64_t count = 0;
    stet_str key, value;
    while (stet_scan_next(scan, &key, &value))
        count++;
    return count;
}

/* Every row of every job table is justified, and every index has exactly the rows that the counts ask for. */
static inline void verify(fixture *f) {
    stet_batch *batch = stet_turn_batch(&f->turn);
    f->problems = 0;
    for (unsigned table = 16; table < 32; table++) {
        stet_key prefix = stet_key_of((uint8_t)table);
        CLEANUP(stet_scan_done)
        stet_scan *scan = stet_batch_scan(batch, stet_key_bytes(&prefix), (stet_str){NULL, 0}, false);
        stet_str key, value;
        while (stet_scan_next(scan, &key, &value)) {
            OK(stet_jobs_check_row(&f->turn, &f->service, (stet_checker *)(void *)f, key, value, e));
            if (f->problems > 0)
                fail_msg("table %u: %s", table, f->problem);
        }
    }
    uint64_t all[STET_JOB_STATES_COUNT] = {0}, ready = 0, resumes = 0, jobs = 0;
    for (unsigned i = 0; i < 2; i++) {
        jobs_queue_state q;
        OK(jobs_queue_load(batch, &f->queues[i], &q, e));
        for (unsigned s = 0; s < STET_JOB_STATES_COUNT; s++)
            all[s] += q.counts[s];
        for (unsigned l = 0; l < JOBS_LEVELS; l++)
            ready += q.ready[l];
        resumes += q.resumes;
    }
    for (unsigned s = 0; s < STET_JOB_STATES_COUNT; s++)
        jobs += all[s];
    assert_int_equal(rows_of(f, STET_TABLE_JOBS), jobs);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_BY_KEY), jobs);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_READY), ready);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_WAITING) + ready, all[STET_JOB_QUEUED]);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_DELAYED), all[STET_JOB_DELAYED]);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_ACTIVE), all[STET_JOB_ACTIVE]);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_RESUME), resumes);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_FAILED), all[STET_JOB_ERROR] + all[STET_JOB_CANCELLED]);
    release(f);
}

#define JOB_STEP(name, call)                                                                                 \
    static inline stet_code name(fixture *f, stet_id id) {                                                   \
        stet_error e_ = {0};                                                                                 \
        stet_error *e = &e_;                                                                                 \
        stet_turn *turn = &f->turn;                                                                          \
        stet_turn_mark mark = stet_turn_mark_of(turn);                                                       \
        stet_job job;                                                                                        \
        stet_code rc = stet_job_read(turn, queue(f), id, &job, e);                                           \
        if (rc == STET_OK)                                                                                   \
            rc = (call);                                                                                     \
        if (rc != STET_OK)                                                                                   \
            stet_turn_undo(turn, mark);                                                                      \
        release(f);                                                                                          \
        return rc;                                                                                           \
    }

JOB_STEP(done, stet_job_done(turn, &job, STET_STR("\xa2ok"), e))
JOB_STEP(failed, stet_job_failed(turn, &job, "http_500", STET_STR("it broke"), 0, e))
JOB_STEP(fail_finally, stet_job_fail_finally(turn, &job, "no_key", STET_STR("set the key"), e))
JOB_STEP(cancel, stet_job_cancel(turn, &job, e))
JOB_STEP(retry, stet_job_retry(turn, &job, e))

static inline stet_code run_done(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    (void)f;
    return stet_job_done(turn, job, STET_STR("\xa2ok"), e);
}

static inline void pause_key(fixture *f, const char *key, bool paused) {
    OK(stet_job_pause(&f->turn, queue(f), stet_str_of(key), paused, e));
    release(f);
}

static inline uint32_t drain(fixture *f, uint32_t limit) {
    stet_id ids[64];
    uint32_t count;
    OK(stet_job_drain(&f->turn, queue(f), limit, ids, &count, e));
    release(f);
    return count;
}

#endif
