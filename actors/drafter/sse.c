#include "actors/drafter/sse.h"

drafter_sse drafter_sse_of(size_t event_bytes_max) {
    ASSERT(event_bytes_max > 0);
    return (drafter_sse){
        .line = STET_BUF(event_bytes_max),
        .data = STET_BUF(event_bytes_max),
    };
}

void drafter_sse_done(drafter_sse *self) {
    stet_buf_done(&self->line);
    stet_buf_done(&self->data);
}

static void take_field(drafter_sse *self, stet_str line) {
    const char *colon = memchr(line.data, ':', line.size);
    size_t name_size = colon ? (size_t)(colon - line.data) : line.size;
    stet_str name = stet_str_from(line.data, name_size);
    stet_str value = {NULL, 0};
    if (colon) {
        value = stet_str_from(colon + 1, line.size - name_size - 1);
        if (value.size > 0 && value.data[0] == ' ') {
            value.data++;
            value.size--;
        }
    }
    if (stet_str_is(name, "data")) {
        if (self->has_data)
            stet_buf_append_byte(&self->data, '\n');
        stet_buf_append_str(&self->data, value);
        self->has_data = true;
    } else if (stet_str_is(name, "event")) {
        size_t size = value.size < DRAFTER_SSE_NAME_MAX ? value.size : DRAFTER_SSE_NAME_MAX - 1;
        if (size > 0)
            memcpy(self->name, value.data, size);
        self->name[size] = '\0';
    }
}

/* The line is complete, without its end. */
static void take_line(drafter_sse *self, drafter_sse_event_fn *event, void *context) {
    if (self->line.size > 0) {
        if (self->line.data[0] != ':')
            take_field(self, stet_buf_str(&self->line));
        stet_buf_clear(&self->line);
        return;
    }
    if (self->has_data && stet_buf_ok(&self->data))
        event(context, self->name, stet_buf_str(&self->data));
    if (stet_buf_ok(&self->data))
        stet_buf_clear(&self->data);
    self->has_data = false;
    self->name[0] = '\0';
}

void drafter_sse_feed(drafter_sse *self, stet_str bytes, drafter_sse_event_fn *event, void *context) {
    size_t at = 0;
    while (at < bytes.size && !self->too_large) {
        if (self->after_cr) {
            self->after_cr = false;
            if (bytes.data[at] == '\n') {
                at++;
                continue;
            }
        }
        size_t end = at;
        while (end < bytes.size && bytes.data[end] != '\n' && bytes.data[end] != '\r')
            end++;
        stet_buf_append(&self->line, bytes.data + at, end - at);
        if (end < bytes.size && stet_buf_ok(&self->line)) {
            self->after_cr = bytes.data[end] == '\r';
            take_line(self, event, context);
            end++;
        }
        at = end;
        if (!stet_buf_ok(&self->line) || !stet_buf_ok(&self->data))
            self->too_large = true;
    }
}
