#include "tools/sandbox/stream.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/prng.h"
#include "tools/sandbox/journal.h"

enum { WRITE_MAX = 401 }; /* bytes of one write of a stream; odd, and in no relation to events */

typedef struct delivery {
    sandbox *sandbox;
    struct MHD_Connection *connection;
    sandbox_reply reply;
    stet_prng prng;
    uint64_t index;
    size_t limit;     /* bytes of body before the end's own behaviour */
    size_t next_mark; /* number of the first mark not passed */
    const char *outcome;
} delivery;

sandbox_reply sandbox_reply_of(const sandbox *owner, uint32_t status, const char *content_type) {
    return (sandbox_reply){.status = status,
                           .content_type = content_type,
                           .body = STET_BUF(SANDBOX_REPLY_BYTES_MAX),
                           .marks = STET_BUF(SANDBOX_REPLY_BYTES_MAX),
                           .headers = STET_BUF(64 * 1024),
                           .filler = STET_BUF(64 * 1024),
                           .delay_ms = atomic_load(&owner->delay_ms),
                           .token_delay_ms = atomic_load(&owner->token_delay_ms)};
}

void sandbox_reply_done(sandbox_reply *self) {
    stet_buf_done(&self->body);
    stet_buf_done(&self->marks);
    stet_buf_done(&self->headers);
    stet_buf_done(&self->filler);
}

void sandbox_reply_header(sandbox_reply *self, const char *name, stet_str value) {
    stet_buf_append(&self->headers, name, strlen(name) + 1);
    stet_buf_append_str(&self->headers, value);
    stet_buf_append_byte(&self->headers, '\0');
}

void sandbox_reply_mark(sandbox_reply *self) {
    uint32_t offset = (uint32_t)self->body.size;
    stet_buf_append(&self->marks, &offset, sizeof offset);
}

static size_t mark_at(const delivery *d, size_t number) {
    uint32_t offset;
    if (number >= d->reply.marks.size / sizeof offset)
        return SIZE_MAX;
    memcpy(&offset, d->reply.marks.data + number * sizeof offset, sizeof offset);
    return offset;
}

/* Pauses where a mark is, then says how many bytes go out in this write; 0 when nobody is there any more. */
static size_t next_write(delivery *d, size_t pos, size_t max) {
    size_t size = d->limit - pos;
    while (mark_at(d, d->next_mark) < pos)
        d->next_mark++;
    if (d->reply.token_delay_ms > 0) {
        if (mark_at(d, d->next_mark) == pos) {
            d->next_mark++;
            if (!sandbox_wait(d->sandbox, d->connection, d->reply.token_delay_ms))
                return 0;
        }
        size_t mark = mark_at(d, d->next_mark);
        if (mark - pos < size)
            size = mark - pos;
    }
    if (d->reply.streamed) {
        size_t odd = 1 + (size_t)stet_prng_below(&d->prng, WRITE_MAX);
        size = odd < size ? odd : size;
    }
    return size < max ? size : max;
}

static ssize_t read_filler(delivery *d, size_t at, char *to, size_t max) {
    if (d->reply.filler.size == 0 || !sandbox_wait(d->sandbox, d->connection, d->reply.token_delay_ms))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t done = 0;
    while (done < max) {
        size_t from = (at + done) % d->reply.filler.size;
        size_t size = d->reply.filler.size - from;
        size = size < max - done ? size : max - done;
        memcpy(to + done, d->reply.filler.data + from, size);
        done += size;
    }
    return (ssize_t)done;
}

/* The peer may close as soon as it has the last byte, so what that byte means is noted before it goes out. */
static void reached_limit(delivery *d) {
    if (d->reply.end == SANDBOX_END_COMPLETE)
        d->outcome = "complete";
    if (d->reply.end == SANDBOX_END_STALL) {
        d->outcome = "stalled";
        sandbox_journal_finish(d->sandbox->journal, d->index, d->outcome);
    }
}

static ssize_t read_reply(void *context, uint64_t position, char *to, size_t max) {
    delivery *d = context;
    size_t pos = (size_t)position;
    if (pos < d->limit) {
        size_t size = next_write(d, pos, max);
        if (size == 0)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        memcpy(to, d->reply.body.data + pos, size);
        if (pos + size == d->limit)
            reached_limit(d);
        return (ssize_t)size;
    }
    switch (d->reply.end) {
    case SANDBOX_END_COMPLETE:
        return MHD_CONTENT_READER_END_OF_STREAM;
    case SANDBOX_END_RESET:
        d->outcome = "reset";
        sandbox_reset(d->connection);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    case SANDBOX_END_STALL:
        (void)sandbox_wait(d->sandbox, d->connection, /* ms= */ -1);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    case SANDBOX_END_ENDLESS:
        d->outcome = "endless";
        return read_filler(d, pos - d->limit, to, max);
    }
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static void delivery_free(void *context) {
    delivery *d = context;
    sandbox_journal_finish(d->sandbox->journal, d->index, d->outcome);
    sandbox_reply_done(&d->reply);
    free(d);
}

static void add_headers(struct MHD_Response *response, const delivery *d) {
    char request_id[48];
    (void)snprintf(request_id, sizeof request_id, "req_%032llx", (unsigned long long)d->index);
    (void)MHD_add_response_header(response, "Content-Type", d->reply.content_type);
    (void)MHD_add_response_header(response, "x-request-id", request_id);
    for (size_t at = 0; at < d->reply.headers.size;) {
        const char *name = (const char *)d->reply.headers.data + at;
        const char *value = name + strlen(name) + 1;
        (void)MHD_del_response_header(response, name, request_id); /* what a fault sets wins */
        (void)MHD_del_response_header(response, name, d->reply.content_type);
        (void)MHD_add_response_header(response, name, value);
        at += strlen(name) + 1 + strlen(value) + 1;
    }
}

static bool reply_ok(const sandbox_reply *r) {
    return stet_buf_ok(&r->body) && stet_buf_ok(&r->marks) && stet_buf_ok(&r->headers) &&
           stet_buf_ok(&r->filler);
}

int sandbox_reply_send(const sandbox_request *r, sandbox_reply *self) {
    sandbox_journal_answer(r->sandbox->journal, r->index, self->status, self->fault);
    bool there = sandbox_wait(r->sandbox, r->connection, self->delay_ms);
    bool reset = self->end == SANDBOX_END_RESET && self->cut == 0;
    delivery *d = there && !reset && reply_ok(self) ? calloc(1, sizeof *d) : NULL;
    if (d == NULL) {
        if (reset)
            sandbox_reset(r->connection);
        sandbox_journal_finish(r->sandbox->journal, r->index, reset ? "reset" : "aborted");
        sandbox_reply_done(self);
        return MHD_NO;
    }
    *d = (delivery){.sandbox = r->sandbox,
                    .connection = r->connection,
                    .reply = *self,
                    .prng = stet_prng_of(r->index),
                    .index = r->index,
                    .outcome = "aborted"};
    memset(self, 0, sizeof *self);
    bool complete = d->reply.end == SANDBOX_END_COMPLETE;
    d->limit = complete || d->reply.cut > d->reply.body.size ? d->reply.body.size : d->reply.cut;
    if (complete && d->limit == 0)
        d->outcome = "complete";
    bool open_end = d->reply.streamed || d->reply.end == SANDBOX_END_ENDLESS;
    struct MHD_Response *response = MHD_create_response_from_callback(
        open_end ? MHD_SIZE_UNKNOWN : d->reply.body.size, 32 * 1024, read_reply, d, delivery_free);
    if (response == NULL) {
        delivery_free(d);
        return MHD_NO;
    }
    add_headers(response, d);
    int queued = MHD_queue_response(r->connection, d->reply.status, response);
    MHD_destroy_response(response);
    return queued;
}
