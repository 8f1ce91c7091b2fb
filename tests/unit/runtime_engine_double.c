/* A stand-in for the job engine: one job, whose attempt the test says. */
#include "tests/unit/runtime_rig.h"

static stet_id job_id;
static uint32_t job_attempt;
static size_t failures, ticks;

void rig_job_active(stet_id id, uint32_t attempt) {
    job_id = id;
    job_attempt = attempt;
    failures = 0;
    ticks = 0;
}

size_t rig_job_ticks(void) {
    return ticks;
}

size_t rig_job_failures(void) {
    return failures;
}

stet_code stet_jobs_recover(stet_turn *turn, const stet_service *service, stet_error *e) {
    (void)turn;
    (void)service;
    (void)e;
    return STET_OK;
}

stet_code stet_jobs_tick(stet_turn *turn, const stet_service *service, int64_t *ret_next_wall_ms,
                         stet_error *e) {
    (void)turn;
    (void)service;
    (void)e;
    *ret_next_wall_ms = INT64_MAX;
    ticks++;
    return STET_OK;
}

bool stet_jobs_current(stet_turn *turn, const stet_service *service, stet_call_ref ref, stet_job *ret_job) {
    (void)turn;
    (void)service;
    *ret_job = (stet_job){.id = ref.job_id, .attempt_total = ref.attempt, .state = STET_JOB_ACTIVE};
    return !stet_id_is_zero(job_id) && stet_id_equal(ref.job_id, job_id) && ref.attempt == job_attempt;
}

stet_code stet_jobs_sweep(stet_turn *turn, const stet_service *service, stet_buf *cursor, uint32_t rows_max,
                          stet_error *e) {
    (void)turn;
    (void)service;
    (void)rows_max;
    (void)e;
    stet_buf_clear(cursor);
    return STET_OK;
}

stet_code stet_jobs_check_row(stet_turn *turn, const stet_service *service, stet_checker *checker,
                              stet_str key, stet_str value, stet_error *e) {
    (void)turn;
    (void)service;
    (void)value;
    (void)e;
    stet_check_problem(checker, "jobs.double", key, "the double has no jobs");
    return STET_OK;
}

void stet_jobs_stats(stet_turn *turn, const stet_service *service, stet_buf *b) {
    (void)turn;
    (void)service;
    stet_mp_map(b, 0);
}

stet_code stet_job_failed(stet_turn *turn, stet_job *job, const char *error_code, stet_str message,
                          int64_t retry_after_ms, stet_error *e) {
    (void)turn;
    (void)job;
    (void)error_code;
    (void)message;
    (void)retry_after_ms;
    (void)e;
    failures++;
    return STET_OK;
}
