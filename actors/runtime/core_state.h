/* core_state - the inside of stet_core, shared by core.c (batches) and inputs.c (what a turn is fed with). */
#ifndef STET_CORE_STATE_H
#define STET_CORE_STATE_H

#include "actors/runtime/admit.h"
#include "actors/runtime/core.h"
#include "actors/runtime/link.h"
#include "actors/runtime/outbox.h"
#include "actors/runtime/records.h"

enum {
    CORE_EFFECTS_SOFT_BYTES = 4 << 20, /* answers of a turn, past which it is committed */
    CORE_TIMERS_A_ROUND = 64,
    CORE_SWEEP_STEP_MS = 50,
    CORE_SWEEP_LATE_MS = 1000,
    CORE_SWEEP_PASS_MS = 60000,
    CORE_RETRY_MS = 1000
};

/* One input, with its strings; a deferred one owns a copy of them. */
typedef struct core_input {
    enum { CORE_MESSAGE, CORE_CALL_DATA, CORE_CALL_DONE, CORE_WORK_DONE } kind;
    struct core_input *next;
    stet_str envelope, route; /* MESSAGE */
    stet_str body;            /* MESSAGE; bytes, body or result of the others */
    stet_http_data data;
    stet_http_result result;
    stet_call_ref ref;
    stet_code code;
    stet_str message;
    char copies[]; /* of a deferred one */
} core_input;

struct stet_core {
    stet_turn turn;
    stet_core_edge edge;
    stet_admit admit;
    stet_link link;
    stet_outbox outbox;
    stet_sweep sweep;

    stet_effects lists[3];
    stet_effects *in_flight; /* effects of the batch being committed; NULL when none is */
    stet_effects *releasing; /* of the one before, while it is released */
    uint64_t ticket;
    uint32_t messages; /* of the batch under construction */
    uint32_t messages_max;
    size_t bytes_max;

    stet_turn_mark undo; /* before what runs now has written anything */
    core_input *deferred, **deferred_end;

    int64_t jobs_wall_ms; /* next stet_jobs_tick */
    int64_t jobs_retry_boot_ms;
    int64_t sweep_boot_ms;

    bool steps_late; /* the turn was full before the core's own steps */
    bool stopping;
    int fatal;
    stet_error fatal_error;
};

void core_fatal(stet_core *self, int exit_code, const stet_error *e);
/* Is nothing written and nothing asked for yet? What then does not fit will never fit. */
bool core_is_empty(stet_core *self);
/* False: it did not fit into what is left of the batch, nothing of it is left, try again in the next. */
bool core_run(stet_core *self, const core_input *input);
/* Runs now, or after the next commit when there are others waiting or it does not fit. */
void core_input_run(stet_core *self, const core_input *input);
void core_deferred_run(stet_core *self);
void core_deferred_free(stet_core *self);

/* A step of the runtime's own (timer, jobs, sweep), like a message: undone when it fails. */
typedef stet_code core_step_fn(stet_core *self, void *context, stet_error *e);
/* STET_BUSY with *ret_full: did not fit, undone, to be repeated in the next batch. */
stet_code core_step(stet_core *self, core_step_fn *step, void *context, bool *ret_full, stet_error *e);

#endif
