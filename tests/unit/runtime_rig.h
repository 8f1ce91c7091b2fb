/* runtime_rig - a core with the in-memory store, an edge that remembers, and a small service called drafter.
 *
 * Time stands still unless a test moves it. The commit in flight becomes durable when the test lets it:
 * rig_complete. The job engine is a double (runtime_engine_double.c) that knows one job. */
#ifndef STET_RUNTIME_RIG_H
#define STET_RUNTIME_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/runtime/core.h"
#include "actors/runtime/engine.h"

enum { RIG_SENT_MAX = 4096, RIG_TABLE_COUNTERS = 64, RIG_TABLE_APPLIED = 65 };

typedef struct rig_sent {
    stet_buf envelope, route, body;
} rig_sent;

typedef struct rig {
    stet_store *store;
    stet_config *config;
    stet_core *core;
    int64_t wall_ms, boot_ms;
    uint64_t lives;
    bool line_down; /* edge->send says no */
    uint64_t tries; /* of edge->send */
    rig_sent sent[RIG_SENT_MAX];
    size_t sent_count;
    rig_sent published[256]; /* envelope = topic, body = payload */
    size_t published_count;
    stet_call_ref calls[64];
    size_t calls_count;
    stet_call_ref cancels[64];
    size_t cancels_count;
    size_t errors_logged;
} rig;

/* Empty store, core started and registered, nothing in flight, nothing remembered. */
rig *rig_new(void);
void rig_free(rig *self);
/* The process dies and starts again: what was not durable is gone. Registered again, nothing remembered. */
void rig_crash(rig *self);
/* A core on the store as it is, not registered: what a start says. */
stet_code rig_open(rig *self, stet_error *e);
void rig_forget(rig *self); /* what was sent and published */

/* One message; bodies as JSON. The id's last bytes are `number`. */
void rig_request(rig *self, uint32_t number, const char *command, const char *json);
void rig_request_as(rig *self, const char *role, uint32_t number, const char *command, const char *json);
void rig_send(rig *self, uint64_t sequence, const char *command, const char *json);
void rig_message(rig *self, const stet_envelope *envelope, const char *json);
/* tick, seal */
void rig_seal(rig *self);
/* take completions and release, until nothing is in flight */
void rig_complete(rig *self);
/* seal and complete */
void rig_round(rig *self);
void rig_later(rig *self, int64_t ms);

stet_id rig_id(uint32_t number);
/* The n-th message that was sent, decoded; its strings live until rig_forget. */
stet_envelope rig_envelope(const rig *self, size_t n);
stet_str rig_body(const rig *self, size_t n);
/* How many sent messages are of this kind. */
size_t rig_count_kind(const rig *self, stet_kind kind);
/* Index of the first sent message of this kind at or after n; fails the test when there is none. */
size_t rig_find_kind(const rig *self, stet_kind kind, size_t n);
/* Index of the answer (reply or error) to this request; SIZE_MAX when there is none. */
size_t rig_answer(const rig *self, uint32_t number);
uint64_t rig_counter(rig *self, const char *name); /* of <service>.stats */
/* Everything .check finds, as JSON text; caller frees with stet_buf_done. Returns the number of problems. */
uint32_t rig_check(rig *self, stet_buf *ret_json);

/* ---- the engine double ---- */
void rig_job_active(stet_id id, uint32_t attempt); /* zero id: none */
size_t rig_job_failures(void);
size_t rig_job_ticks(void); /* since rig_job_active */

#endif
