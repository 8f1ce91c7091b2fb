#include "actors/runtime/http_call.h"

#include <stdio.h>
#include <strings.h>

#include "actors/runtime/http_rules.h"

/* Cut to the slot, and at a control character: it goes into logs and into a job's history. */
static void keep_value(char slot[STET_HTTP_VALUE_MAX], stet_str value) {
    size_t size = 0;
    while (size < value.size && size < STET_HTTP_VALUE_MAX - 1 && (uint8_t)value.data[size] >= 0x20 &&
           value.data[size] != 0x7f)
        size++;
    memcpy(slot, value.data, size);
    slot[size] = '\0';
}

void stet_http_call_forget(call *c) {
    c->headers_complete = false;
    c->status = 0;
    c->content_type[0] = c->request_id[0] = '\0';
    c->retry_after_ms = -1;
    c->retry_after_exact = false;
}

/* "HTTP/1.1 200 OK". An interim 1xx answer or a proxy's may have come before: what it said is forgotten. */
static void status_line(call *c, stet_str line) {
    stet_http_call_forget(c);
    const char *at = memchr(line.data, ' ', line.size);
    const char *end = line.data + line.size;
    if (at == NULL || end - at < 4)
        return;
    uint32_t status = 0;
    for (int i = 1; i <= 3; i++) {
        if (at[i] < '0' || at[i] > '9')
            return;
        status = status * 10 + (uint32_t)(at[i] - '0');
    }
    c->status = status;
}

void stet_http_call_header(call *c, stet_str line, int64_t now_wall_ms) {
    stet_str name, value;
    ASSERT(line.size > 0);
    if (line.size >= 5 && strncasecmp(line.data, "HTTP/", 5) == 0) {
        status_line(c, line);
        return;
    }
    if (line.data[0] == '\r' || line.data[0] == '\n') {
        c->headers_complete = true;
        return;
    }
    if (!stet_http_header_split(line, &name, &value))
        return;
    if (stet_http_name_is(name, "content-type")) {
        keep_value(c->content_type, value);
    } else if (stet_http_name_is(name, "x-request-id")) {
        keep_value(c->request_id, value);
    } else if (stet_http_name_is(name, "retry-after-ms")) {
        int64_t ms = stet_http_retry_after_ms(value);
        if (ms >= 0) {
            c->retry_after_ms = ms;
            c->retry_after_exact = true;
        }
    } else if (stet_http_name_is(name, "retry-after") && !c->retry_after_exact) {
        c->retry_after_ms = stet_http_retry_after(value, now_wall_ms);
    }
}

void stet_http_call_explain(call *c, const char *detail) {
    char *to = c->reason;
    const size_t size = sizeof c->reason;
    switch (c->failure) {
    case STET_HTTP_NONE:
        break;
    case STET_HTTP_CONNECT:
        (void)snprintf(to, size, "no connection to %s: %s", c->host, detail);
        break;
    case STET_HTTP_LOST:
        if (c->sent_again)
            (void)snprintf(to, size, "%s closed the connection after the request was sent", c->host);
        else if (c->no_memory)
            (void)snprintf(to, size, "no memory for the answer of %s", c->host);
        else
            (void)snprintf(to, size, "the answer of %s ended early: %s", c->host, detail);
        break;
    case STET_HTTP_TIMEOUT:
        (void)snprintf(to, size,
                       c->sent ? "%s did not answer completely in time" : "%s could not be reached in time",
                       c->host);
        break;
    case STET_HTTP_TOO_LARGE:
        (void)snprintf(to, size,
                       c->headers_bytes > STET_HTTP_HEADERS_BYTES_MAX
                           ? "the headers of the answer of %s are larger than the %zu bytes allowed"
                           : "the answer of %s is larger than the %zu bytes allowed (http.bodyMax)",
                       c->host,
                       c->headers_bytes > STET_HTTP_HEADERS_BYTES_MAX ? (size_t)STET_HTTP_HEADERS_BYTES_MAX
                                                                      : c->body.size_max);
        break;
    case STET_HTTP_REFUSED:
        (void)snprintf(to, size,
                       c->loopback ? "%s does not lead to a loopback address"
                                   : "%s leads to a private or local address: name a public host",
                       c->host);
        break;
    }
}

void stet_http_call_data(call *c, stet_http_callbacks callbacks) {
    stet_http_data piece = {.ref = c->ref, .status = c->status, .bytes = stet_buf_str(&c->body)};
    callbacks.data(callbacks.context, &piece);
    stet_buf_clear(&c->body);
}

void stet_http_call_done(call *c, stet_http_callbacks callbacks) {
    stet_http_result result = {.ref = c->ref,
                               .failure = c->failure,
                               .status = c->status,
                               .reason = c->reason,
                               .body = stet_buf_str(&c->body),
                               .content_type = stet_str_of(c->content_type),
                               .request_id = stet_str_of(c->request_id),
                               .retry_after_ms = c->retry_after_ms,
                               .elapsed_ms = c->elapsed_ms};
    callbacks.done(callbacks.context, &result);
}
