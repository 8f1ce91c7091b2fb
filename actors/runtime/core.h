/* core - the actor turn without sockets, disk calls or clocks: inputs in, one commit, effects out.
 *
 *   message / call result / tick ──> turn (admit, handle) ──> batch + effects ──commit──> ticket
 * ──completion──> release
 *
 * Effects of a batch are released together, in commit order, when its completion says OK; a read that was
 * answered from a batch not yet durable waits for it too. While one batch syncs, the next is built. The
 * process shell (process.c) and the simulator drive the same core. Thread: one. Memory: bounded by the turn
 * settings. Errors: a store error or a commit that is not OK is fatal: the core stops releasing and
 * stet_core_fatal() gives the exit code. */
#ifndef STET_CORE_H
#define STET_CORE_H

#include "actors/runtime/actor.h"
#include "proto/wire/envelope.h"

typedef struct stet_core stet_core;

/* Where effects go. Called only after the commit that justifies them. Data is valid during the call only. */
typedef struct stet_core_edge {
    void *context;
    /* To the broker's back socket. route may be empty. false: could not be queued (the sender will ask
     * again). */
    bool (*send)(void *context, stet_str envelope, stet_str route, stet_str body);
    void (*publish)(void *context, stet_str topic, stet_str payload);
    /* Takes over nothing; must copy. */
    void (*call_start)(void *context, stet_call_ref ref, const stet_http_request *request);
    void (*call_cancel)(void *context, stet_call_ref ref);
    void (*work_start)(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input);
    void (*log)(void *context, stet_level level, const char *event, const char *message,
                const stet_log_field *fields);
} stet_core_edge;

typedef struct stet_core_options {
    const stet_service *service;
    const stet_config *config;
    stet_store *store; /* not owned */
    uint64_t seed;
    stet_id instance; /* one life of this process */
    uint32_t partition;
} stet_core_options;

/* Runs recovery and service->start in the first turn. */
NODISCARD
stet_code stet_core_new(const stet_core_options *options, const stet_core_edge *edge, int64_t wall_ms,
                        int64_t boot_ms, stet_core **ret, stet_error *e);
stet_core *stet_core_free(stet_core *self); /* always NULL */

/* ---- inputs. Time is set once per round of the loop. ---- */
void stet_core_time(stet_core *self, int64_t wall_ms, int64_t boot_ms);
/* A message from the broker: request, send, ack, welcome, register, heartbeat, error. */
void stet_core_message(stet_core *self, stet_str envelope, stet_str route, stet_str body);
void stet_core_call_data(stet_core *self, const stet_http_data *data);
void stet_core_call_done(stet_core *self, const stet_http_result *result);
void stet_core_work_done(stet_core *self, stet_call_ref ref, stet_code code, const char *message,
                         stet_str result);
/* Due timers, due jobs, outbox resends, heartbeats, sweeping. */
void stet_core_tick(stet_core *self);
/* False when the turn is full: stop draining, commit first. */
bool stet_core_wants_more(const stet_core *self);
/* Seals the turn: commits when there is something to commit and none is in flight; releases at once when
 * there are only reads and nothing is in flight. */
void stet_core_commit(stet_core *self);
/* Takes the store's completion if there is one and releases its effects. What was built meanwhile is left for a
 * stet_core_commit, so that what waits outside can join it; a full turn is sealed first. */
void stet_core_collect(stet_core *self);
/* The same, and seals what was built meanwhile. */
void stet_core_complete(stet_core *self);
int64_t stet_core_next_wake_boot_ms(const stet_core *self);
/* Leave politely: says leave to the broker, starts nothing new. */
void stet_core_stop(stet_core *self);
/* True when stopped and nothing is in flight. */
bool stet_core_idle(const stet_core *self);
/* 0, or the exit code to end with at once. */
int stet_core_fatal(const stet_core *self, stet_error *e);

#endif
