/* http - external calls on the actor's loop: libcurl's multi interface behind one pollable descriptor.
 *
 * Poll stet_http_fd() for reading with stet_http_timeout_ms() as the longest wait; when it is readable or the
 * wait is over, call stet_http_run(). All callbacks are made from stet_http_run, never from inside libcurl.
 *
 * A call that stet_http_start took ends in exactly one done(), unless it is cancelled. Before it, with
 * request->stream, data() brings the body in order, piece by piece.
 *
 * What is refused before or instead of sending (failure STET_HTTP_REFUSED): schemes other than https and, to
 * loopback only, http; https to private, link-local or loopback addresses unless the URL itself names
 * loopback; URLs with user names; header names or values with control characters. Redirects are answers like
 * any other, never followed. A request is handed to the network once: where libcurl would send it again over
 * a new connection because a kept one turned out dead, a method that is not safe and carries no
 * Idempotency-Key ends as STET_HTTP_LOST instead.
 *
 * Thread: one, the loop's. The program must ignore SIGPIPE. Memory: start copies everything it is given; what
 * callbacks get lives until they return. Limits: STET_HTTP_CALLS_MAX calls at once, http.bodyMax bytes each.
 */
#ifndef STET_HTTP_H
#define STET_HTTP_H

#include "actors/runtime/actor.h"

enum { STET_HTTP_CALLS_MAX = 1024 };

typedef struct stet_http stet_http;

/* Both may call stet_http_start and stet_http_cancel, but neither stet_http_run nor stet_http_free. */
typedef struct stet_http_callbacks {
    void *context;
    void (*data)(void *context, const stet_http_data *data);
    void (*done)(void *context, const stet_http_result *result);
} stet_http_callbacks;

/* Reads the http.* settings; config is not kept. STET_INVALID for a setting that libcurl does not take,
 * STET_UNAVAILABLE when the system gives no memory or descriptor. */
NODISCARD
stet_code stet_http_new(const stet_config *config, stet_http_callbacks callbacks, stet_http **ret,
                        stet_error *e);
/* Drops running calls without done(). NULL is a no-op; always NULL. */
stet_http *stet_http_free(stet_http *self);

/* For poll, readable when there is something to do; owned by self. */
int stet_http_fd(const stet_http *self);
/* Longest wait before the next stet_http_run: 0 at once, -1 no limit. */
int64_t stet_http_timeout_ms(const stet_http *self);
/* Does what is to do without blocking, and makes the callbacks. Bounded work a call. */
void stet_http_run(stet_http *self);

/* STET_BUSY at STET_HTTP_CALLS_MAX, STET_UNAVAILABLE without memory: then nothing was sent and no done()
 * follows. Everything else, a bad URL too, comes as done(). */
NODISCARD
stet_code stet_http_start(stet_http *self, stet_call_ref ref, const stet_http_request *request,
                          stet_error *e);
/* No callback follows; the connection of a running call is closed. Unknown refs are ignored. */
void stet_http_cancel(stet_http *self, stet_call_ref ref);
/* Calls taken and not yet done or cancelled. */
size_t stet_http_active(const stet_http *self);

#endif
