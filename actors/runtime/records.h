/* records - the runtime's own tables, apart from outbox and jobs: answers given, events, timers, marks of
 * channels.
 *
 * Each function works inside a turn: what it writes is part of the turn's commit, what it asks for is
 * released after it. The layout of each row stands beside its functions and in store/tables.def. Errors:
 * STET_INTERNAL for a row that cannot be read; the store's own errors pass through. */
#ifndef STET_RECORDS_H
#define STET_RECORDS_H

#include "actors/runtime/turn.h"

/* ---- duplicates: [1, hash of command and body, answeredAtMs, answer] ---- */
enum { DUPLICATES_HASH_BYTES = 16 };
typedef struct stet_duplicate {
    uint8_t hash[DUPLICATES_HASH_BYTES];
    int64_t answered_ms;
    stet_str answer;
} stet_duplicate;
/* Before the first request of this life: learns from the store which ids may have been used. */
NODISCARD
stet_code stet_duplicates_begin(stet_turn *turn, stet_error *e);
void stet_duplicates_hash(stet_str command, stet_str body, uint8_t ret_hash[DUPLICATES_HASH_BYTES]);
/* *ret_known false when the id has not been answered. */
NODISCARD
stet_code stet_duplicates_find(stet_turn *turn, stet_id id, stet_duplicate *ret, bool *ret_known,
                               stet_error *e);
void stet_duplicates_put(stet_turn *turn, stet_id id, const uint8_t hash[DUPLICATES_HASH_BYTES],
                         stet_str answer);
NODISCARD
bool stet_duplicates_decode(stet_str value, stet_duplicate *ret);

/* ---- events: EVENT_HEADS [1, last, newestAtMs, swept up to]; EVENTS (session, number of the first text) [1,
 * text, ...]: those of a session in one commit stand in one row, or a few ---- */
NODISCARD
bool stet_events_head_decode(stet_str value, stet_event_head *ret);
/* All zero when the session has no event. As stored: what waits in a run is not in it. */
NODISCARD
stet_code stet_events_head(stet_turn *turn, stet_str session, stet_event_head *ret, stet_error *e);
void stet_events_head_put(stet_turn *turn, stet_str session, const stet_event_head *head);
stet_key stet_events_key(stet_str session, uint64_t number);
/* A row's texts, one after the other with stet_mp_read_str; returns how many, 0 when it cannot be read. */
uint32_t stet_events_open(stet_str value, stet_mp_reader *ret);
/* The last row of a session that begins with `number` or before it. *ret_first 0: there is none. */
NODISCARD
stet_code stet_events_row_before(stet_turn *turn, stet_str session, uint64_t number, uint64_t *ret_first,
                                 uint32_t *ret_count, stet_error *e);
/* Answers <service>.events. */
NODISCARD
stet_code stet_events_read(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e);

/* Runs: what was published in this batch and is not in a row yet. Whatever reads those tables flushes first.
 */
void stet_runs_init(turn_runs *self);
void stet_runs_done(turn_runs *self);
/* The session's last number: of its run, or as stored. */
NODISCARD
stet_code stet_runs_head(stet_turn *turn, stet_str session, uint32_t *ret_run, stet_event_head *ret,
                         stet_error *e);
/* Takes in the list's last item, an event of that session; run and head: from stet_runs_head. */
void stet_runs_add(stet_turn *turn, uint32_t run, const stet_event_head *head, effects_slice session);
/* Before the list is cut to `items`, and down to `count` runs. */
void stet_runs_cut(stet_turn *turn, size_t items, uint32_t count);
/* Writes the rows and forgets the runs. Not inside of a message: an undo would not bring the runs back. */
void stet_runs_flush(stet_turn *turn);

/* ---- timers: TIMERS [1, due, payload], TIMERS_DUE nothing ---- */
typedef struct stet_timer_row {
    int64_t due_ms;
    stet_str payload;
} stet_timer_row;
NODISCARD
bool stet_timers_decode(stet_str value, stet_timer_row *ret);
/* The next timer that is due, by name (name: STET_KEY_BYTES_MAX bytes). *ret_size 0 when none is; then the
 * hint in the turn says when the next one will be. */
NODISCARD
stet_code stet_timers_next(stet_turn *turn, char *ret_name, size_t *ret_size, stet_error *e);
/* Deletes the timer and runs service->timer. */
NODISCARD
stet_code stet_timers_fire(stet_turn *turn, stet_str name, stet_error *e);
/* Moves a timer that could not be fired a few seconds on, so that a bug does not become a busy loop. */
NODISCARD
stet_code stet_timers_postpone(stet_turn *turn, stet_str name, stet_error *e);

/* ---- inbox marks: [1, last sequence applied] ---- */
NODISCARD
stet_code stet_inbox_mark(stet_turn *turn, const stet_envelope *send, uint64_t *ret_mark, stet_error *e);
void stet_inbox_mark_put(stet_turn *turn, const stet_envelope *send, uint64_t mark);
NODISCARD
bool stet_inbox_decode(stet_str value, uint64_t *ret_mark);

/* ---- retention, a few rows at a time ---- */
enum { SWEEP_ROWS = 512 };
typedef struct stet_sweep {
    stet_buf cursor; /* last key looked at */
    uint32_t stage;
    uint32_t pass;
    uint32_t kept; /* rows seen in a row that stay */
    /* The clock row: how far the wall clock is before the boot clock, and when it was last found set forward.
     */
    int64_t offset_ms, forward_boot_ms;
    bool went_forward;
    bool clock_moved; /* the row is to be written */
    bool clock_new;   /* for the first time: nothing has moved */
} stet_sweep;
/* In the first turn of a life: reads the clock row, or writes it. */
NODISCARD
stet_code stet_sweep_load(stet_turn *turn, stet_sweep *sweep, stet_error *e);
/* At the beginning of each round, and before each commit: what is written at a time has to stand beside it.
 */
void stet_sweep_time(stet_sweep *sweep, int64_t wall_ms, int64_t boot_ms);
void stet_sweep_clock_write(stet_turn *turn, stet_sweep *sweep);
/* Does one step. *ret_end: a pass over everything is over. After an error the step is to be undone and
 * repeated. */
NODISCARD
stet_code stet_sweep_step(stet_turn *turn, stet_sweep *sweep, bool *ret_end, stet_error *e);

#endif
