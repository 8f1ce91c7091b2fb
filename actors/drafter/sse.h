/* sse - server-sent events out of a byte stream that is cut anywhere.
 *
 * Rules: LF, CRLF or CR end a line; several data lines of one event join with LF; a line that starts with ':'
 * is a comment; one space after the colon is dropped; a blank line ends an event; an event without data is
 * dropped; a cut event at the end of the stream is dropped too. Fields other than `data` and `event` are
 * ignored. Memory: one line and one event, each bounded by event_bytes_max; passing it sets `too_large`
 * (sticky) and the rest of the stream is ignored. Thread: one at a time. Source: WHATWG HTML, section 9.2. */
#ifndef DRAFTER_SSE_H
#define DRAFTER_SSE_H

#include "proto/base/buf.h"

enum { DRAFTER_SSE_NAME_MAX = 32 };

typedef struct drafter_sse {
    stet_buf line; /* the unfinished line */
    stet_buf data; /* data lines of the unfinished event */
    char name[DRAFTER_SSE_NAME_MAX];
    bool has_data;
    bool after_cr; /* a CR ended the last line: an LF that follows belongs to it */
    bool too_large;
} drafter_sse;

drafter_sse drafter_sse_of(size_t event_bytes_max);
void drafter_sse_done(drafter_sse *self);

/* name: "" or the event's name, cut at DRAFTER_SSE_NAME_MAX - 1. Both live during the call only. */
typedef void drafter_sse_event_fn(void *context, const char *name, stet_str data);
void drafter_sse_feed(drafter_sse *self, stet_str bytes, drafter_sse_event_fn *event, void *context);

#endif
