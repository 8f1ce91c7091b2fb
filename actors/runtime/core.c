/* The batches. Each has its list of effects: the one under construction, the one in flight, and the one before it while
 * that is released.
 *
 *      messages ──> batch A, list A ── seal ──> committing ──> OK: release list A
 *                   batch B, list B  <── messages that come meanwhile ──  then seal B
 *
 * seal: something written, nothing in flight   commit; the lists change places
 *       something written, one in flight       wait for it
 *       only reads, nothing in flight          release at once
 *       only reads, one in flight              join its list: they may have read its rows
 * So an answer never overtakes the commit it rests on, and the disk's sync is shared by all that came while
 * it was busy. After anything but OK nothing is released any more: `fatal` closes the one gate in release().
 */
#include "actors/runtime/core_state.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

#include <sodium.h>
#include <stdlib.h>

void core_fatal(stet_core *self, int exit_code, const stet_error *e) {
    if (self->fatal)
        return;
    self->fatal = exit_code;
    self->fatal_error = *e;
    self->edge.log(self->edge.context, STET_ERROR, "core.fatal", e->message,
                   (stet_log_field[]){STET_LOG_I("exit", exit_code),
                                      STET_LOG_C("code", stet_code_name(e->code)),
                                      {.name = NULL}});
}

int stet_core_fatal(const stet_core *self, stet_error *e) {
    if (self->fatal && e)
        *e = self->fatal_error;
    return self->fatal;
}

/* False, and fatal, when there is no memory for a batch or the store could not be read: what was decided on
 * such a reading is neither committed nor released, and no turn begins any more. */
static bool have_batch(stet_core *self) {
    stet_error error = {0};
    if (self->fatal)
        return false;
    if (!stet_store_batch(self->turn.store))
        (void)stet_error_set(&error, STET_INTERNAL, "no memory for a batch");
    else if (stet_store_read_status(self->turn.store, &error) == STET_OK)
        return true;
    core_fatal(self, STET_EXIT_STORE, &error);
    return false;
}

bool core_is_empty(stet_core *self) {
    return stet_batch_count(stet_turn_batch(&self->turn)) == 0 && self->turn.effects->count == 0;
}

/* Is there room for more than `times` turns' worth? */
static bool has_room(const stet_core *self, size_t times) {
    const stet_turn *turn = &self->turn;
    if (self->fatal || self->deferred)
        return false;
    if (self->in_flight && self->in_flight->bytes.size >= 2 * CORE_EFFECTS_SOFT_BYTES)
        return false;
    return turn->effects->bytes.size < times * CORE_EFFECTS_SOFT_BYTES &&
           stet_batch_bytes(stet_store_batch(turn->store)) + turn->runs.bytes < times * self->bytes_max;
}

bool stet_core_wants_more(const stet_core *self) {
    return self->messages < self->messages_max && has_room(self, 1);
}

/* A turn full of submissions still starts their jobs: a job that is submitted, started and ended in one
 * commit is written once instead of twice or three times. */
static bool may_start_jobs(const stet_core *self) {
    return has_room(self, 2);
}

static void own_steps(stet_core *self);

/* ---- release: the one gate ---- */

static void release(stet_core *self, stet_effects *effects) {
    for (size_t i = 0; i < effects->count; i++) {
        if (effects->items[i].kind == EFFECTS_SEND)
            stet_outbox_release(&self->outbox, &self->turn, effects, i, &self->edge);
        else if (!stet_effects_release(effects, i, &self->edge))
            stet_turn_count(&self->turn, "answers.dropped", 1);
    }
    stet_effects_clear(effects);
}

/* One that is neither under construction, in flight nor being released. */
static stet_effects *free_list(stet_core *self) {
    for (size_t i = 0; i < COUNT_OF(self->lists); i++) {
        stet_effects *list = &self->lists[i];
        if (list != self->turn.effects && list != self->in_flight && list != self->releasing)
            return list;
    }
    ASSERT(false);
    return NULL;
}

static void begin_commit(stet_core *self) {
    stet_turn *turn = &self->turn;
    stet_error error = {0};
    stet_runs_flush(turn);
    stet_sweep_clock_write(turn, &self->sweep);
    uint64_t rows = stet_batch_count(stet_turn_batch(turn));
    FAULT(batch_built);
    for (size_t i = 0; PLANT(event_before_commit) && i < turn->effects->count; i++) {
        if (turn->effects->items[i].kind == EFFECTS_PUBLISH)
            (void)stet_effects_release(turn->effects, i, &self->edge);
    }
    stet_code rc = turn->runs.lost && !PLANT(event_row_lost)
                       ? stet_error_set(&error, STET_BUSY, "no memory for the events of a commit")
                       : stet_batch_commit(stet_turn_batch(turn), turn->wall_ms, &self->ticket, &error);
    if (rc != STET_OK) {
        core_fatal(self, STET_EXIT_STORE, &error);
        return;
    }
    stet_turn_count(turn, "commits", 1);
    stet_turn_count(turn, "rows", rows);
    self->in_flight = turn->effects;
    turn->effects = free_list(self);
    self->messages = 0;
    if (PLANT(ack_before_commit))
        release(self, self->in_flight);
}

static bool has_writes(stet_core *self) {
    return stet_batch_count(stet_turn_batch(&self->turn)) > 0 || self->turn.runs.events > 0;
}

/* True when nothing is left under construction. */
static bool seal(stet_core *self) {
    stet_turn *turn = &self->turn;
    if (!have_batch(self))
        return false;
    if (has_writes(self)) {
        if (self->in_flight)
            return false;
        begin_commit(self);
        return have_batch(self);
    }
    if (PLANT(read_before_commit))
        release(self, turn->effects);
    if (self->in_flight && !stet_effects_join(self->in_flight, turn->effects))
        return false; /* no room: they wait for the commit in their own list */
    if (!self->in_flight)
        release(self, turn->effects);
    self->messages = 0;
    return true;
}

void stet_core_commit(stet_core *self) {
    bool late = self->steps_late && !self->stopping;
    /* Each round takes at least the first of the deferred: alone, it fits or is refused. */
    while (seal(self)) {
        if (self->deferred) {
            core_deferred_run(self);
        } else if (late) {
            late = false;
            own_steps(self);
        } else {
            return;
        }
    }
}

void stet_core_collect(stet_core *self) {
    stet_completion completion;
    if (self->fatal || !stet_store_next_completion(self->turn.store, &completion))
        return;
    ASSERT(self->in_flight != NULL);
    ASSERT(completion.ticket == self->ticket);
    if (completion.result != STET_COMMIT_OK && !PLANT(commit_error_ignored)) {
        core_fatal(self, completion.result == STET_COMMIT_FENCED ? STET_EXIT_FENCED : STET_EXIT_STORE,
                   &completion.error);
        return;
    }
    FAULT(completion_taken);
    self->releasing = TAKE(self->in_flight);
    if (!stet_core_wants_more(self) && has_writes(self))
        stet_core_commit(self); /* nothing can join it any more: the disk goes on while we release */
    release(self, self->releasing);
    self->releasing = NULL;
}

void stet_core_complete(stet_core *self) {
    bool was_in_flight = self->in_flight != NULL;
    uint64_t ticket = self->ticket;
    stet_core_collect(self);
    if (was_in_flight && (!self->in_flight || self->ticket != ticket))
        stet_core_commit(self);
}

/* ---- the runtime's own steps ---- */

stet_code core_step(stet_core *self, core_step_fn *step, void *context, bool *ret_full, stet_error *e) {
    stet_turn *turn = &self->turn;
    stet_turn_mark mark = stet_turn_mark_of(turn);
    bool alone = core_is_empty(self);
    stet_code rc = step(self, context, e);
    *ret_full = false;
    if (stet_turn_overflowed(turn)) {
        *ret_full = !alone;
        rc = stet_turn_starved(turn)
                 ? stet_error_set(e, STET_BUSY, "no memory for this now")
                 : stet_error_set(e, alone ? STET_TOO_LARGE : STET_BUSY, "more than one commit may hold");
    }
    if (rc != STET_OK)
        stet_turn_undo(turn, mark);
    stet_batch_release_reads(stet_turn_batch(turn));
    self->messages++;
    return rc;
}

static void log_failure(stet_core *self, const char *event, const char *message, const stet_error *e) {
    stet_turn_count(&self->turn, event, 1);
    stet_turn_log(&self->turn, STET_ERROR, event, message,
                  (stet_log_field[]){STET_LOG_C("code", stet_code_name(e->code)),
                                     STET_LOG_C("error", e->message),
                                     {.name = NULL}});
}

static stet_code timer_step(stet_core *self, void *context, stet_error *e) {
    return stet_timers_fire(&self->turn, *(const stet_str *)context, e);
}

static stet_code postpone_step(stet_core *self, void *context, stet_error *e) {
    return stet_timers_postpone(&self->turn, *(const stet_str *)context, e);
}

static void tick_timers(stet_core *self) {
    stet_turn *turn = &self->turn;
    char name[STET_KEY_BYTES_MAX];
    for (int i = 0;
         i < CORE_TIMERS_A_ROUND && turn->timers_wall_ms <= turn->wall_ms && stet_core_wants_more(self);
         i++) {
        stet_error error = {0};
        size_t size = 0;
        bool full = false;
        stet_turn_mark mark = stet_turn_mark_of(turn);
        stet_code rc = stet_timers_next(turn, name, &size, &error);
        if (rc != STET_OK)
            stet_turn_undo(turn, mark); /* else a failure of memory would stay with the batch for ever */
        if (rc == STET_OK && size == 0)
            return;
        stet_str text = {name, size};
        if (rc == STET_OK)
            rc = core_step(self, timer_step, &text, &full, &error);
        if (full)
            return;
        if (rc == STET_OK)
            continue;
        log_failure(self, "timer.failed", "a timer's turn failed, will try again in a few seconds", &error);
        if (size == 0 || core_step(self, postpone_step, &text, &full, &error) != STET_OK) {
            /* Not even that: look again later, whatever the rows say. */
            turn->timers_wall_ms = turn->wall_ms + CORE_RETRY_MS;
            return;
        }
    }
}

static stet_code jobs_step(stet_core *self, void *context, stet_error *e) {
    return stet_jobs_tick(&self->turn, self->turn.service, context, e);
}

static void tick_jobs(stet_core *self) {
    stet_turn *turn = &self->turn;
    stet_error error = {0};
    int64_t next_ms = INT64_MAX;
    bool full = false;
    if (!turn->jobs_wake && self->jobs_wall_ms > turn->wall_ms)
        return;
    if (self->jobs_retry_boot_ms > turn->boot_ms || !may_start_jobs(self))
        return;
    turn->jobs_wake = false;
    stet_code rc = core_step(self, jobs_step, &next_ms, &full, &error);
    if (rc == STET_OK) {
        self->jobs_wall_ms = next_ms;
        return;
    }
    turn->jobs_wake = true;
    if (full)
        return;
    log_failure(self, "jobs.failed", "starting jobs failed, will try again in a second", &error);
    self->jobs_retry_boot_ms = turn->boot_ms + CORE_RETRY_MS;
}

/* What is quiet is read in the tables: every event has to stand there. */
static stet_code sweep_step(stet_core *self, void *context, stet_error *e) {
    return stet_sweep_step(&self->turn, &self->sweep, context, e);
}

static void tick_sweep(stet_core *self) {
    stet_turn *turn = &self->turn;
    stet_error error = {0};
    bool end = false, full = false;
    bool busy = self->messages > 0 || self->in_flight;
    if (turn->boot_ms < self->sweep_boot_ms + (busy ? CORE_SWEEP_LATE_MS : 0) || !stet_core_wants_more(self))
        return;
    stet_runs_flush(turn);
    stet_code rc = core_step(self, sweep_step, &end, &full, &error);
    if (rc != STET_OK && !full)
        log_failure(self, "sweep.failed", "removing old rows failed, going on with the next table", &error);
    self->sweep_boot_ms = turn->boot_ms + (end ? CORE_SWEEP_PASS_MS : CORE_SWEEP_STEP_MS);
}

/* Timers, jobs, retention: what no message brings. When messages have filled the turn they go first in the next one, or a
 * mailbox that is never empty would keep them from ever starting. */
static void own_steps(stet_core *self) {
    tick_timers(self);
    tick_jobs(self);
    tick_sweep(self);
    self->steps_late = !stet_core_wants_more(self);
}

void stet_core_tick(stet_core *self) {
    stet_error error = {0};
    if (!have_batch(self))
        return;
    stet_link_tick(&self->link, &self->turn, &self->edge);
    if (stet_link_is_starved(&self->link)) {
        (void)stet_error_set(&error, STET_BUSY,
                             "no memory for a heartbeat, again and again: ending, to be started anew");
        core_fatal(self, STET_EXIT_INTERNAL, &error);
        return;
    }
    if (!self->stopping)
        own_steps(self);
    if (stet_outbox_pump(&self->outbox, &self->turn, &self->edge, &error) != STET_OK)
        core_fatal(self, STET_EXIT_STORE, &error);
}

/* ---- time ---- */

void stet_core_time(stet_core *self, int64_t wall_ms, int64_t boot_ms) {
    self->turn.wall_ms = wall_ms;
    self->turn.boot_ms = boot_ms;
    stet_sweep_time(&self->sweep, wall_ms, boot_ms);
    self->turn.broker_heard = stet_link_is_heard(&self->link, boot_ms);
}

static int64_t at_wall(const stet_core *self, int64_t wall_ms) {
    if (wall_ms == INT64_MAX)
        return INT64_MAX;
    return wall_ms <= self->turn.wall_ms ? self->turn.boot_ms
                                         : self->turn.boot_ms + (wall_ms - self->turn.wall_ms);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t stet_core_next_wake_boot_ms(const stet_core *self) {
    int64_t wake = least(self->link.next_boot_ms, stet_outbox_wake_boot_ms(&self->outbox));
    if (self->stopping || !may_start_jobs(self))
        return wake; /* what is due waits for the completion */
    int64_t jobs = self->turn.jobs_wake ? self->turn.boot_ms : at_wall(self, self->jobs_wall_ms);
    if (jobs < self->jobs_retry_boot_ms)
        jobs = self->jobs_retry_boot_ms;
    wake = least(wake, jobs);
    if (!stet_core_wants_more(self))
        return wake;
    wake = least(wake, at_wall(self, self->turn.timers_wall_ms));
    bool busy = self->in_flight != NULL;
    return least(wake, self->sweep_boot_ms + (busy ? CORE_SWEEP_LATE_MS : 0));
}

/* ---- life ---- */

static stet_code first_turn(stet_core *self, stet_error *e) {
    stet_turn *turn = &self->turn;
    FAULT(core_opened);
    stet_code rc = stet_duplicates_begin(turn, e);
    if (rc == STET_OK)
        rc = stet_outbox_load(&self->outbox, turn, e);
    if (rc == STET_OK)
        rc = stet_sweep_load(turn, &self->sweep, e);
    if (rc == STET_OK)
        rc = stet_jobs_recover(turn, turn->service, e);
    if (rc == STET_OK && turn->service->start)
        rc = turn->service->start(turn, e);
    if (rc == STET_OK && stet_turn_starved(turn))
        rc = stet_error_set(e, STET_BUSY, "no memory for the first turn; start again");
    if (rc == STET_OK && stet_turn_overflowed(turn))
        rc = stet_error_set(e, STET_INTERNAL, "recovery wrote more than one commit may hold");
    stet_batch_release_reads(stet_turn_batch(turn));
    if (rc == STET_OK)
        stet_core_commit(self);
    return rc;
}

static void init_turn(stet_core *self, const stet_core_options *options, int64_t wall_ms, int64_t boot_ms) {
    self->turn = (stet_turn){.service = options->service,
                             .config = options->config,
                             .store = options->store,
                             .prng = stet_prng_of(options->seed),
                             .ids = stet_id_source_of(options->seed ^ 0x9E3779B97F4A7C15u),
                             .wall_ms = wall_ms,
                             .boot_ms = boot_ms,
                             .effects = &self->lists[0],
                             .partition = options->partition,
                             .instance = options->instance,
                             .row = STET_BUF(STET_VALUE_BYTES_MAX),
                             .jobs_wake = true,
                             .timers_wall_ms = INT64_MIN};
    stet_runs_init(&self->turn.runs);
}

static void init_limits(stet_core *self, const stet_config *config) {
    int64_t messages = stet_config_int(config, STET_SETTING_actor_turn_messages);
    int64_t bytes = stet_config_int(config, STET_SETTING_actor_turn_bytes);
    self->messages_max = messages < 1                       ? 1
                         : messages > EFFECTS_ITEMS_MAX / 4 ? EFFECTS_ITEMS_MAX / 4
                                                            : (uint32_t)messages;
    self->bytes_max = bytes < 1                          ? 1
                      : bytes > STET_BATCH_BYTES_MAX / 2 ? STET_BATCH_BYTES_MAX / 2
                                                         : (size_t)bytes;
}

stet_code stet_core_new(const stet_core_options *options, const stet_core_edge *edge, int64_t wall_ms,
                        int64_t boot_ms, stet_core **ret, stet_error *e) {
    if (sodium_init() < 0)
        return stet_error_set(e, STET_INTERNAL, "libsodium cannot be initialised");
    stet_core *self = calloc(1, sizeof(*self));
    if (!self)
        return stet_error_set(e, STET_UNAVAILABLE, "no memory");
    init_turn(self, options, wall_ms, boot_ms);
    init_limits(self, options->config);
    self->edge = *edge;
    self->deferred_end = &self->deferred;
    self->jobs_wall_ms = INT64_MAX;
    self->sweep_boot_ms = boot_ms + CORE_SWEEP_LATE_MS;
    self->sweep.cursor = (stet_buf)STET_BUF(STET_KEY_BYTES_MAX);
    for (size_t i = 0; i < COUNT_OF(self->lists); i++)
        stet_effects_init(&self->lists[i]);
    stet_link_init(&self->link, options->config);
    size_t state_size = options->service->state_size;
    self->turn.state = calloc(1, state_size ? state_size : 1);
    self->turn.send_struct = calloc(1, stet_turn_struct_size_max());
    stet_code rc = stet_admit_init(&self->admit, options->service, e);
    if (rc == STET_OK && (!self->turn.state || !self->turn.send_struct || !stet_store_batch(options->store)))
        rc = stet_error_set(e, STET_UNAVAILABLE, "no memory");
    if (rc == STET_OK && options->service->load)
        rc = options->service->load(options->config, self->turn.state, e);
    if (rc == STET_OK)
        rc = first_turn(self, e);
    if (rc != STET_OK) {
        (void)stet_core_free(self);
        return rc;
    }
    *ret = self;
    return STET_OK;
}

stet_core *stet_core_free(stet_core *self) {
    if (!self)
        return NULL;
    if (self->turn.service->stop && self->turn.state)
        self->turn.service->stop(self->turn.state);
    core_deferred_free(self);
    stet_admit_done(&self->admit);
    for (size_t i = 0; i < COUNT_OF(self->lists); i++)
        stet_effects_done(&self->lists[i]);
    stet_buf_done(&self->sweep.cursor);
    stet_runs_done(&self->turn.runs);
    stet_buf_done(&self->turn.row);
    free(self->turn.send_struct);
    free(self->turn.state);
    free(self);
    return NULL;
}

void stet_core_stop(stet_core *self) {
    self->stopping = true;
    if (!self->fatal)
        stet_link_leave(&self->link, &self->turn, &self->edge);
}

bool stet_core_idle(const stet_core *self) {
    return self->stopping && !self->in_flight && !self->deferred && self->turn.effects->count == 0 &&
           stet_batch_count(stet_store_batch(self->turn.store)) == 0;
}
