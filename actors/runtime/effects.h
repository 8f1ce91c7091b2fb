/* effects - what a turn wants to happen outside, kept until its commit is durable.
 *
 * One list a batch. Items are small and fixed; their bytes lie one after another in one arena and are named
 * by offset, because the arena moves when it grows. Undo is cutting both back to a mark. The list may be
 * joined to another one (reads that wait for the commit in flight). Thread: one. Memory: everything is copied
 * in; bounded by EFFECTS_BYTES_MAX and EFFECTS_ITEMS_MAX, past which `failed` is set and stays set until an
 * undo to a mark from before. */
#ifndef STET_EFFECTS_H
#define STET_EFFECTS_H

#include "actors/runtime/core.h"

enum {
    EFFECTS_BYTES_MAX = 32 << 20,
    EFFECTS_ITEMS_MAX = 1 << 16,
    EFFECTS_FIELDS_MAX = 16,
    EFFECTS_HEADERS_MAX = 32
};

typedef enum effects_kind {
    EFFECTS_ANSWER,      /* a = envelope, b = route, c = body */
    EFFECTS_SEND,        /* a = envelope, b = receiver, c = body, number = sequence in the outbox */
    EFFECTS_PUBLISH,     /* a = topic, b = payload, run and previous: see event_runs.c */
    EFFECTS_CALL,        /* a = method, b = url, c = body, d = headers: name NUL value NUL ... */
    EFFECTS_CALL_CANCEL, /* ref */
    EFFECTS_WORK,        /* a = input */
    EFFECTS_LOG          /* a = event, b = message, d = fields, see effects.c */
} effects_kind;

typedef struct effects_slice {
    size_t offset, size;
} effects_slice;

typedef struct effects_item {
    effects_kind kind;
    uint32_t run, previous; /* PUBLISH */
    effects_slice a, b, c, d;
    stet_call_ref ref;
    stet_work_fn *work;
    int64_t number; /* SEND: sequence; CALL: timeout; LOG: level */
    uint32_t count; /* CALL: headers; LOG: fields */
    bool stream;
} effects_item;

typedef struct stet_effects {
    effects_item *items;
    size_t count, capacity;
    size_t cancels; /* items of kind CALL_CANCEL, so that the common case need not look for them */
    stet_buf bytes;
    bool failed;
    bool starved; /* failed for want of memory */
} stet_effects;

void stet_effects_init(stet_effects *self);
void stet_effects_done(stet_effects *self);
void stet_effects_clear(stet_effects *self);
void stet_effects_cut(stet_effects *self, size_t count, size_t bytes);
/* Moves all of `from` behind the items of self. False (and nothing moved) when it would pass the bounds. */
bool stet_effects_join(stet_effects *self, stet_effects *from);

/* Undone only by a cut to a mark from before. */
static inline void stet_effects_fail(stet_effects *self, bool starved) {
    self->failed = true;
    self->starved |= starved;
}
/* For building. `text` is stored with a NUL behind it. */
effects_slice stet_effects_store(stet_effects *self, stet_str text);
/* The new last item, zeroed; NULL when failed. */
effects_item *stet_effects_add(stet_effects *self, effects_kind kind);
static inline stet_str stet_effects_text(const stet_effects *self, effects_slice s) {
    return stet_str_from(self->bytes.data + s.offset, s.size);
}
void stet_effects_answer(stet_effects *self, const stet_envelope *envelope, stet_str route, stet_str body);
void stet_effects_call(stet_effects *self, stet_call_ref ref, const stet_http_request *request);
void stet_effects_log(stet_effects *self, stet_level level, const char *event, const char *message,
                      const stet_log_field *fields);
/* True when a cancel of this call stands at `from` or later: it is not to be started, its results not to be
 * taken. */
bool stet_effects_cancelled(const stet_effects *self, stet_call_ref ref, size_t from);

/* Hands one item to the edge; SEND is left to the outbox. True unless the edge could not queue it. */
bool stet_effects_release(const stet_effects *self, size_t index, const stet_core_edge *edge);

bool stet_call_ref_equal(stet_call_ref a, stet_call_ref b);

#endif
