/* faults - what shall go wrong, asked for over the control API and used up by the requests it matches.
 *
 * Thread: any, one lock. Memory: a taken fault is a copy, ended by sandbox_fault_done.
 * Limits: SANDBOX_FAULTS_MAX faults at once. */
#ifndef STET_SANDBOX_FAULTS_H
#define STET_SANDBOX_FAULTS_H

#include "tools/sandbox/server.h"

enum { SANDBOX_FAULTS_MAX = 256 };

/* X(C name, name in the control API, what it does). One list for the parser, the page and the documentation.
 */
#define SANDBOX_FAULT_KINDS(X)                                                                               \
    X(DELAY, "delay", "a right answer, later: only delayMs and tokenDelayMs count")                          \
    X(STATUS, "status", "the given status, body and headers")                                                \
    X(RESET, "reset", "the connection is reset before any byte")                                             \
    X(RESET_MID, "reset-mid", "the connection is reset in the middle of the answer")                         \
    X(STALL, "stall", "half of the answer, then nothing")                                                    \
    X(ENDLESS, "endless", "a body that never ends")                                                          \
    X(HALF_STREAM, "half-stream", "the answer ends cleanly in the middle, without [DONE]")                   \
    X(BAD_JSON, "bad-json", "the model's content is not JSON")                                               \
    X(WRONG_SCHEMA, "wrong-schema", "the model's content is JSON of another shape")                          \
    X(REFUSAL, "refusal", "the model refuses")                                                               \
    X(LENGTH, "length", "the content is cut off, finish_reason is length")                                   \
    X(ERROR_IN_STREAM, "error-in-stream", "an error object in the middle of a 200 stream")                   \
    X(RATE_LIMIT, "rate-limit", "429 rate_limit_exceeded with Retry-After")                                  \
    X(QUOTA, "quota", "429 insufficient_quota")                                                              \
    X(OVERLOADED, "overloaded", "503 server_is_overloaded with Retry-After")                                 \
    X(STRING_CODE, "string-code", "an error whose code is the status as text")                               \
    X(NUMBER_CODE, "number-code", "an error whose code is the status as a number")                           \
    X(IGNORE_SCHEMA, "ignore-schema",                                                                        \
      "plain Markdown in spite of response_format; with fence, JSON in a code fence")

typedef enum sandbox_fault_kind {
#define X(name, text, help) SANDBOX_FAULT_##name,
    SANDBOX_FAULT_KINDS(X)
#undef X
        SANDBOX_FAULT_KINDS_COUNT
} sandbox_fault_kind;

typedef struct sandbox_fault {
    uint64_t id;
    sandbox_fault_kind kind;
    stet_buf match;      /* a part of the request's body or message texts; empty: every request */
    uint64_t times_left; /* 0: until removed */
    uint64_t hits;
    uint32_t status; /* 0: the kind's own */
    bool fence;
    bool named_event;       /* error-in-stream as "event: error" */
    int64_t delay_ms;       /* -1: the pace */
    int64_t token_delay_ms; /* -1: the pace */
    stet_buf retry_after;   /* value of Retry-After; empty: the kind's own */
    stet_buf body;          /* empty: the kind's own */
    stet_buf headers;       /* name NUL value NUL ... */
} sandbox_fault;

typedef struct sandbox_faults sandbox_faults;

sandbox_faults *sandbox_faults_new(void); /* NULL only when out of memory */
sandbox_faults *sandbox_faults_free(sandbox_faults *self);
const char *sandbox_fault_kind_name(sandbox_fault_kind kind);

/* mp: the control request's body. STET_INVALID names the field; STET_BUSY when there are SANDBOX_FAULTS_MAX.
 */
NODISCARD
stet_code sandbox_faults_add(sandbox_faults *self, stet_str mp, uint64_t *ret_id, stet_error *e);
/* id 0: all. Returns how many. */
size_t sandbox_faults_remove(sandbox_faults *self, uint64_t id);
/* {"faults": [...], "kinds": {name: help}} */
void sandbox_faults_json(sandbox_faults *self, stet_buf *b);

/* The oldest fault that matches, used up by one. body: as received; texts: the messages' texts, decoded. */
NODISCARD
bool sandbox_faults_take(sandbox_faults *self, stet_str body, stet_str texts, sandbox_fault *ret);
void sandbox_fault_done(sandbox_fault *self);

#endif
