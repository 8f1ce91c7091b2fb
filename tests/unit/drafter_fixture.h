/* drafter_fixture - the drafter on the memory store, with the test in the place of the broker, of the model's
 * server and of the clock. Everything that leaves the actor is kept here; nothing leaves before its commit.
 *
 * A test asks (rig_ask), answers calls (rig_call_*), lets time pass (rig_pass), crashes the actor
 * (rig_crash), and looks at what was answered, published, sent and logged. Requests and replies are written
 * as JSON. Thread: one. Errors: asserts of cmocka. */
#ifndef DRAFTER_FIXTURE_H
#define DRAFTER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/drafter/drafter.h"
#include "actors/runtime/core.h"

enum { RIG_CALLS_MAX = 64, RIG_LINES_MAX = 2048 };

/* A call that the actor has asked for. */
typedef struct rig_call {
    stet_call_ref ref;
    int64_t boot_ms; /* when it started */
    bool open;       /* not ended, not taken back */
    bool cancelled;
    stet_buf url, headers, body; /* headers: "name: value\n" */
} rig_call;

typedef struct rig_lines {
    char *line[RIG_LINES_MAX];
    size_t count;
} rig_lines;

typedef struct rig {
    stet_config *config;
    stet_store *store;
    stet_core *core;
    int64_t wall_ms, boot_ms;
    uint64_t lives;
    stet_id_source ids;
    rig_call calls[RIG_CALLS_MAX];
    size_t calls_count;
    rig_lines events; /* as published: the payload frame */
    rig_lines topics; /* of the same */
    rig_lines sends;  /* "command {json}" of what went to other actors, each once */
    rig_lines logs;   /* "level event message name=value ..." */
    stet_buf reply;   /* MessagePack body of the last answer */
    bool answered;
    bool refused; /* the answer was an error */
    stet_id last_request;
    bool silent;       /* other actors acknowledge nothing */
    stet_buf acks;     /* to be handed in: size-prefixed envelopes */
    uint64_t marks[2]; /* highest number taken per receiver: metrics, alerts */
} rig;

/* settings: pairs of "section.key" and value, ended by NULL. The key "sk-test" and short waits are set unless
 * given. */
void rig_start(rig *self, const char *const *settings);
void rig_done(rig *self);
/* The process dies: what was not durable is gone, calls are gone; a new life begins. */
void rig_crash(rig *self);

/* Rounds of the loop until nothing more happens. */
void rig_settle(rig *self);
void rig_pass(rig *self, int64_t ms);

/* One request; settles. True when it was answered with a reply. format: JSON. */
bool rig_ask(rig *self, const char *command, const char *format, ...) PRINTF(3, 4);
/* The same request again, with the same id. */
bool rig_ask_as(rig *self, stet_id id, const char *command, const char *format, ...) PRINTF(4, 5);

/* A value in the last answer: "recent.0.status". NULL-terminated copy that lives until the next call;
 * "(none)" when it is not there; other types as JSON. */
const char *rig_get(rig *self, const char *path);
/* The same in any JSON text, e.g. an event. */
const char *rig_json_get(const char *json, const char *path);
/* submit for project p and session s; returns the job's id. */
stet_id rig_submit(rig *self, const char *project, const char *session);
/* drafter.job of that job, then rig_get. */
const char *rig_job(rig *self, stet_id id, const char *path);

/* The open call with the highest number; fails the test when there is none. */
rig_call *rig_open_call(rig *self);
size_t rig_open_calls(const rig *self);
/* Hands in pieces of `piece` bytes, then the end. Settles. */
void rig_call_answer(rig *self, rig_call *call, uint32_t status, const char *body, size_t piece);
void rig_call_data(rig *self, rig_call *call, uint32_t status, const char *bytes);
void rig_call_end(rig *self, rig_call *call, uint32_t status, stet_http_failure failure,
                  int64_t retry_after_ms);
/* A whole good stream. Free with free(). */
char *rig_stream(const char *markdown, const char *summary);
/* The open call is answered with such a stream. */
void rig_land(rig *self, const char *markdown, const char *summary);

/* How many lines contain the text. */
size_t rig_count(const rig_lines *lines, const char *text);
const char *rig_last(const rig_lines *lines);
/* Number of rows that drafter.check finds wrong. */
size_t rig_check_problems(rig *self);

#endif
