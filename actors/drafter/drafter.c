/* drafter.c - the tables that make the actor: its commands, its queue, its rows. */
#include "actors/drafter/drafter.h"

#include "actors/drafter/report.h"

/* ---- the queue ---- */

static uint32_t bounded(int64_t value, int64_t least, int64_t most) {
    return (uint32_t)(value < least ? least : value > most ? most : value);
}

static uint32_t concurrency(const stet_config *config) {
    return bounded(stet_config_int(config, STET_SETTING_drafter_concurrency), 1, DRAFTER_CALLS_MAX);
}

static uint32_t attempts_max(const stet_config *config) {
    return bounded(stet_config_int(config, STET_SETTING_drafter_attempts), 1, STET_JOB_ATTEMPTS_KEPT);
}

static int64_t backoff_first_ms(const stet_config *config) {
    return stet_config_int(config, STET_SETTING_drafter_job_backoff);
}

static int64_t backoff_max_ms(const stet_config *config) {
    return stet_config_int(config, STET_SETTING_drafter_backoff_max);
}

static int64_t keep_ms(const stet_config *config) {
    return stet_config_int(config, STET_SETTING_drafter_jobs_keep);
}

/* One draft of a project at a time: two would write against the same version and one would be thrown away. */
const stet_job_queue drafter_queue = {
    .name = "drafts",
    .concurrency = concurrency,
    .key_concurrency = 1,
    .attempts_max = attempts_max,
    .backoff_first_ms = backoff_first_ms,
    .backoff_max_ms = backoff_max_ms,
    .keep_ms = keep_ms,
    .run = drafter_run,
    .written = drafter_job_written,
    .abandon = drafter_abandon,
};

/* ---- hooks ---- */

static stet_code start(stet_turn *turn, stet_error *e) {
    (void)e;
    if (drafter_key_missing(stet_turn_config(turn)))
        stet_turn_log(turn, STET_WARN, "draft.key.missing",
                      "OPENAI_API_KEY is not set: every draft ends in error; set it and restart the drafter",
                      NULL);
    return STET_OK;
}

static void stop(void *state) {
    drafter_state *self = state;
    drafter_calls_done(self);
    drafter_template_done(&self->prompt);
}

static uint32_t health(stet_turn *turn, stet_buf *reasons) {
    if (!drafter_key_missing(stet_turn_config(turn)))
        return 0;
    stet_mp_cstr(reasons,
                 "OPENAI_API_KEY is not set: every draft ends in error; set it and restart the drafter");
    return 1;
}

/* ---- tables ---- */

static const stet_handler handlers[] = {
    {STET_CMD_drafter_submit, drafter_on_submit},
    {STET_CMD_drafter_queue, drafter_on_queue},
    {STET_CMD_drafter_job, drafter_on_job},
    {STET_CMD_drafter_list, drafter_on_list},
    {STET_CMD_drafter_drain, drafter_on_drain},
    {STET_CMD_drafter_retry, drafter_on_retry},
    {STET_CMD_drafter_cancel, drafter_on_cancel},
    {STET_CMD_drafter_pause, drafter_on_pause},
    {STET_CMD_drafter_resume, drafter_on_resume},
    {STET_CMD_drafter_transcript_append, drafter_on_transcript_append},
    {STET_CMD_drafter_transcript_get, drafter_on_transcript_get},
    {STET_CMD_drafter_transcript_list, drafter_on_transcript_list},
    {STET_CMD_drafter_document_get, drafter_on_document_get},
    {STET_CMD_drafter_document_put, drafter_on_document_put},
    {STET_CMD_drafter_document_history, drafter_on_document_history},
};

static const stet_table_name tables[] = {
#define X(name, number, text) {number, text},
    DRAFTER_TABLES(X)
#undef X
};

const stet_service drafter_service = {
    .name = "drafter",
    .handlers = handlers,
    .handlers_count = COUNT_OF(handlers),
    .queues = &drafter_queue,
    .queues_count = 1,
    .tables = tables,
    .tables_count = COUNT_OF(tables),
    .checks = drafter_checks,
    .checks_count = DRAFTER_CHECKS,
    .state_size = sizeof(drafter_state),
    .load = drafter_load,
    .start = start,
    .stop = stop,
    .call_data = drafter_call_data,
    .call_done = drafter_call_done,
    .health = health,
};
