#include "proto/client/core.h"
#include "proto/base/fault.h"

#include <stdlib.h>

#include "proto/base/prng.h"
#include "proto/base/plant.h"
#include "proto/wire/json.h"

enum {
    SILENCE_FIRST_MS = 2000,
    SILENCE_MAX_MS = 10000,
    BACKOFF_FIRST_MS = 50,
    BACKOFF_MAX_MS = 2000,
    BUCKETS = 4096 /* a power of two */
};

typedef struct pending pending;
struct pending {
    pending *bucket_next;
    size_t heap_index;
    int64_t due_ms; /* the next thing to do: send again, or give up */
    int64_t deadline_ms;
    stet_id id;
    client_done_fn *done;
    void *context;
    uint32_t sends;
    uint32_t backoff_ms; /* of the next refusal */
    uint32_t silence_ms; /* of the next silence */
    stet_error refusal;  /* the last one that was waited out; code STET_OK: none */
    uint32_t command_size, key_size;
    size_t body_size;
    char bytes[]; /* command, key, body */
};

struct client_core {
    client_edge edge;
    stet_prng prng;
    size_t count;
    pending *heap[CLIENT_PENDING_MAX]; /* by due_ms, least first */
    pending *buckets[BUCKETS];
};

client_core *client_core_new(const client_edge *edge, uint64_t seed) {
    client_core *self = calloc(1, sizeof *self);
    if (self) {
        self->edge = *edge;
        self->prng = stet_prng_of(seed);
    }
    return self;
}

/* ---- the heap of what is due and the table by id ---- */

static void heap_place(client_core *self, size_t index, pending *p) {
    self->heap[index] = p;
    p->heap_index = index;
}

static size_t heap_up(client_core *self, size_t index) {
    pending *p = self->heap[index];
    while (index > 0 && self->heap[(index - 1) / 2]->due_ms > p->due_ms) {
        heap_place(self, index, self->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    heap_place(self, index, p);
    return index;
}

static void heap_down(client_core *self, size_t index) {
    pending *p = self->heap[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= self->count)
            break;
        if (child + 1 < self->count && self->heap[child + 1]->due_ms < self->heap[child]->due_ms)
            child++;
        if (self->heap[child]->due_ms >= p->due_ms)
            break;
        heap_place(self, index, self->heap[child]);
        index = child;
    }
    heap_place(self, index, p);
}

static void heap_fix(client_core *self, size_t index) {
    heap_down(self, heap_up(self, index));
}

static void set_due(client_core *self, pending *p, int64_t due_ms) {
    p->due_ms = due_ms < p->deadline_ms ? due_ms : p->deadline_ms;
    heap_fix(self, p->heap_index);
}

static pending **bucket_of(client_core *self, stet_id id) {
    uint64_t hash; /* the last bytes of a UUIDv7 are its random ones */
    memcpy(&hash, id.bytes + 8, sizeof hash);
    return &self->buckets[(hash * 0x9e3779b97f4a7c15u >> 40) & (BUCKETS - 1)];
}

static pending *find(client_core *self, stet_id id) {
    pending *p = *bucket_of(self, id);
    while (p && !stet_id_equal(p->id, id))
        p = p->bucket_next;
    return p;
}

static void take_out(client_core *self, pending *p) {
    pending **link = bucket_of(self, p->id);
    while (*link != p)
        link = &(*link)->bucket_next;
    *link = p->bucket_next;
    size_t index = p->heap_index;
    pending *last = self->heap[--self->count];
    if (last != p) {
        heap_place(self, index, last);
        heap_fix(self, index);
    }
}

/* ---- sending ---- */

static void take_new_id(client_core *self, pending *p) {
    pending **link = bucket_of(self, p->id);
    while (*link != p)
        link = &(*link)->bucket_next;
    *link = p->bucket_next;
    p->id.bytes[STET_ID_BYTES - 1]++;
    link = bucket_of(self, p->id);
    p->bucket_next = *link;
    *link = p;
}

static void send_now(client_core *self, pending *p, int64_t boot_ms) {
    if (PLANT(retry_with_new_id) && p->sends > 0)
        take_new_id(self, p);
    int64_t left = p->deadline_ms - boot_ms;
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST,
        .id = p->id,
        .command = {p->bytes, p->command_size},
        .key = {p->bytes + p->command_size, p->key_size},
        .timeout_ms = left < 1            ? 1
                      : left > UINT32_MAX ? UINT32_MAX
                                          : (uint32_t)left,
    };
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&envelope, &frame);
    stet_str body = {p->bytes + p->command_size + p->key_size, p->body_size};
    FAULT(client_send_before);
    if (stet_buf_ok(&frame) && self->edge.send(self->edge.context, stet_buf_str(&frame), body)) {
        FAULT(client_send_after);
        p->sends++;
        set_due(self, p, boot_ms + p->silence_ms);
        p->silence_ms = p->silence_ms * 2 > SILENCE_MAX_MS ? SILENCE_MAX_MS : p->silence_ms * 2;
    } else {
        set_due(self, p, boot_ms + BACKOFF_FIRST_MS);
    }
}

stet_code client_core_send(client_core *self, const client_request *request, int64_t boot_ms, stet_error *e) {
    if (self->count == CLIENT_PENDING_MAX)
        return stet_error_set(e, STET_BUSY, "%d requests wait for their answers already: poll first",
                              CLIENT_PENDING_MAX);
    if (find(self, request->id))
        return stet_error_set(e, STET_CONFLICT, "a request with this id waits for its answer already");
    if (request->body.size > STET_BODY_BYTES_MAX)
        return stet_error_set(e, STET_TOO_LARGE, "the body has %zu bytes, at most %d are allowed",
                              request->body.size, STET_BODY_BYTES_MAX);
    if (!stet_name_valid(request->command, STET_COMMAND_SIZE_MAX))
        return stet_error_set(e, STET_INVALID, "a command is 1 to %d of A-Z a-z 0-9 . - _",
                              STET_COMMAND_SIZE_MAX);
    if (request->key.size > STET_ROUTING_KEY_SIZE_MAX || !stet_utf8_valid(request->key))
        return stet_error_set(e, STET_INVALID, "a routing key has at most %d bytes of UTF-8",
                              STET_ROUTING_KEY_SIZE_MAX);

    pending *p = calloc(1, sizeof *p + request->command.size + request->key.size + request->body.size);
    if (!p)
        return stet_error_set(e, STET_INTERNAL, "out of memory");
    p->id = request->id;
    p->done = request->done;
    p->context = request->context;
    p->deadline_ms = boot_ms + request->timeout_ms;
    p->due_ms = p->deadline_ms;
    p->backoff_ms = BACKOFF_FIRST_MS;
    p->silence_ms = SILENCE_FIRST_MS;
    p->command_size = (uint32_t)request->command.size;
    p->key_size = (uint32_t)request->key.size;
    p->body_size = request->body.size;
    char *at = p->bytes;
    memcpy(at, request->command.data, request->command.size);
    at += request->command.size;
    if (request->key.size)
        memcpy(at, request->key.data, request->key.size);
    at += request->key.size;
    if (request->body.size)
        memcpy(at, request->body.data, request->body.size);

    pending **bucket = bucket_of(self, p->id);
    p->bucket_next = *bucket;
    *bucket = p;
    heap_place(self, self->count++, p);
    heap_fix(self, p->heap_index);
    send_now(self, p, boot_ms);
    return STET_OK;
}

/* ---- answers ---- */

static void finish(client_core *self, pending *p, client_result *result) {
    take_out(self, p);
    result->sends = p->sends;
    p->done(p->context, p->id, result);
    free(p);
}

/* Waited out and sent again, since the same request may succeed later. `timeout` is the broker's word that it
 * does not know: only a resend tells. */
static bool worth_waiting(stet_code code) {
    return code == STET_BUSY || code == STET_UNAVAILABLE || code == STET_TIMEOUT;
}

static void wait_out(client_core *self, pending *p, const stet_error *refusal, int64_t boot_ms) {
    p->refusal = *refusal;
    uint64_t wait = p->backoff_ms > refusal->retry_after_ms ? p->backoff_ms : refusal->retry_after_ms;
    wait += stet_prng_below(&self->prng, wait / 4 + 1);
    p->backoff_ms = p->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : p->backoff_ms * 2;
    p->silence_ms = SILENCE_FIRST_MS;
    set_due(self, p, boot_ms + (int64_t)wait);
}

uint32_t client_core_receive(client_core *self, stet_str frame, stet_str body, int64_t boot_ms) {
    stet_envelope envelope;
    stet_error ignored;
    if (stet_envelope_decode(frame, &envelope, &ignored) != STET_OK)
        return 0;
    pending *p = find(self, envelope.id);
    if (!p)
        return 0;
    client_result result = {.answered = true, .body = body};
    if (envelope.kind == STET_KIND_ERROR) {
        result.refused = true;
        stet_error_decode(body, &result.error);
        if (worth_waiting(result.error.code) && boot_ms < p->deadline_ms) {
            wait_out(self, p, &result.error, boot_ms);
            return 0;
        }
        if (worth_waiting(result.error.code))
            result.answered = false;
    } else if (envelope.kind != STET_KIND_REPLY) {
        return 0;
    }
    FAULT(client_answer);
    finish(self, p, &result);
    return 1;
}

void client_core_reconnected(client_core *self, int64_t boot_ms) {
    for (size_t i = 0; i < self->count; i++) {
        pending *p = self->heap[i];
        p->silence_ms = SILENCE_FIRST_MS;
        p->due_ms = boot_ms < p->deadline_ms ? boot_ms : p->deadline_ms;
    }
    for (size_t i = self->count / 2; i-- > 0;)
        heap_down(self, i);
}

uint32_t client_core_tick(client_core *self, int64_t boot_ms) {
    uint32_t given_up = 0;
    /* A resend that could not leave is due again later than now, so this ends. */
    while (self->count > 0 && self->heap[0]->due_ms <= boot_ms) {
        pending *p = self->heap[0];
        if (boot_ms < p->deadline_ms) {
            send_now(self, p, boot_ms);
            continue;
        }
        client_result result = {.answered = false, .error = p->refusal};
        finish(self, p, &result);
        given_up++;
    }
    return given_up;
}

int64_t client_core_next_wake(const client_core *self) {
    return self->count > 0 ? self->heap[0]->due_ms : INT64_MAX;
}

size_t client_core_pending(const client_core *self) {
    return self->count;
}

client_core *client_core_free(client_core *self) {
    if (self) {
        while (self->count > 0)
            /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): finish takes it out of the heap first */
            finish(self, self->heap[0], &(client_result){.answered = false, .error = self->heap[0]->refusal});
        free(self);
    }
    return NULL;
}
