/* http_call - one external call apart from libcurl: what is known of it, its answer's head, its result's
 * words. Private to http.c. Thread: the loop's. */
#ifndef STET_HTTP_CALL_H
#define STET_HTTP_CALL_H

#include "actors/runtime/http.h"

enum {
    STET_HTTP_HEADERS_BYTES_MAX = 256 * 1024, /* of one answer */
    STET_HTTP_HOST_MAX = 256,
    STET_HTTP_VALUE_MAX = 128,
    STET_HTTP_REASON_MAX = 512
};

typedef enum call_state {
    CALL_RUNNING,
    CALL_FINISHED, /* result complete, done() to come */
    CALL_DROPPED   /* delivered or cancelled: freed after the walk */
} call_state;

typedef struct call {
    struct call *next;
    stet_http *owner;
    stet_call_ref ref;
    call_state state;
    void *easy;                 /* CURL *; NULL before and after the transfer */
    struct curl_slist *headers; /* must outlive the transfer */
    int64_t started_ms;

    /* what was asked */
    bool stream;
    bool repeatable; /* may reach the server twice */
    bool loopback;   /* the URL names loopback: only that is allowed, else only public addresses */
    bool proxied;    /* the peer is the proxy, chosen by the operator */
    bool https;
    char host[STET_HTTP_HOST_MAX];

    /* what libcurl's callbacks noted */
    bool sent;
    bool sent_again;
    bool refused;
    bool too_large;
    bool no_memory;
    bool headers_complete;
    size_t headers_bytes;
    size_t body_bytes;
    stet_buf body; /* all of it; with stream what data() did not get yet */

    /* the answer */
    stet_http_failure failure;
    uint32_t status;
    int64_t retry_after_ms;
    bool retry_after_exact; /* from retry-after-ms, which wins */
    int64_t elapsed_ms;
    char content_type[STET_HTTP_VALUE_MAX];
    char request_id[STET_HTTP_VALUE_MAX];
    char reason[STET_HTTP_REASON_MAX];
} call;

/* Back to no answer at all. */
void stet_http_call_forget(call *c);
/* One line of the answer's head, status line and empty line included; line.size > 0. */
void stet_http_call_header(call *c, stet_str line, int64_t now_wall_ms);
/* Writes c->reason for c->failure. detail: the library's words, without secrets; "" for none. */
void stet_http_call_explain(call *c, const char *detail);
/* The callbacks. */
void stet_http_call_data(call *c, stet_http_callbacks callbacks);
void stet_http_call_done(call *c, stet_http_callbacks callbacks);

#endif
