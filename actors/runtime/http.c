/* How it hangs together:
 *
 *   stet_http_start --> call (RUNNING) --> curl_multi ---- sockets --> own epoll fd --> the loop's poll
 *                         |                    `---------- timer ----> timer_due_ms --> stet_http_timeout_ms
 *                         | curl's callbacks only fill the call: headers, body, flags
 *   stet_http_run:  events -> curl -> finished transfers -> deliver(): data() and done() of every call
 *
 * Delivery walks the list of calls after curl has returned, so a callback of ours may start and cancel calls
 * freely: new calls go to the list's end, cancelled ones are only marked (DROPPED) until the walk is over.
 *
 * "Sent" is known from CURLOPT_PREREQFUNCTION, which libcurl calls after connect and TLS, just before it
 * hands a request to a connection. What fails before that is CONNECT, after it LOST. The same callback is
 * where a second sending is stopped (libcurl repeats a request by itself when a kept connection turns out
 * dead) and where the real peer's address is checked, on kept connections too. CURLOPT_OPENSOCKETFUNCTION
 * checks it once more before a single packet goes out.
 *
 * Reasons name the host, never path, query, headers or libcurl's error buffer: those can hold secrets. */
#include "actors/runtime/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "actors/runtime/http_call.h"
#include "actors/runtime/http_rules.h"
#include "proto/base/clock.h"

enum {
    EVENTS_PER_ROUND = 64,
    ROUNDS_PER_RUN = 4,
    REQUEST_HEADERS_MAX = 64,
    REQUEST_HEADER_BYTES_MAX = 64 * 1024
};

struct stet_http {
    stet_http_callbacks callbacks;
    CURLM *multi;
    int epoll;
    int64_t timer_due_ms; /* boot time; -1 none */
    call *calls;
    call **calls_end;
    size_t active;   /* RUNNING and FINISHED */
    size_t finished; /* FINISHED */
    bool running;    /* inside stet_http_run */

    int64_t connect_timeout_ms;
    int64_t total_timeout_ms;
    int64_t stall_timeout_ms;
    size_t body_max;
    char *proxy;
    char *ca_file;
};

/* ---- curl's callbacks: note, never act ---- */

static bool peer_allowed(const call *c, stet_http_peer peer) {
    if (c->proxied)
        return true;
    return c->loopback ? peer == STET_HTTP_PEER_LOOPBACK : peer == STET_HTTP_PEER_PUBLIC;
}

static curl_socket_t on_open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    call *c = context;
    (void)purpose;
    if (!peer_allowed(c, stet_http_peer_of(&address->addr))) {
        c->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int on_request(void *context, char *peer, char *local, int peer_port, int local_port) {
    call *c = context;
    (void)local;
    (void)peer_port;
    (void)local_port;
    if (!peer_allowed(c, stet_http_peer_of_text(peer))) {
        c->refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    if (c->sent && !c->repeatable) {
        c->sent_again = true;
        return CURL_PREREQFUNC_ABORT;
    }
    c->sent = true;
    return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *data, size_t size, size_t count, void *context) {
    call *c = context;
    size_t bytes = size * count;
    c->headers_bytes += bytes;
    if (c->headers_bytes > STET_HTTP_HEADERS_BYTES_MAX) {
        c->too_large = true;
        return 0;
    }
    if (bytes > 0)
        stet_http_call_header(c, (stet_str){data, bytes}, stet_clock_wall_ms());
    return bytes;
}

static size_t on_body(char *data, size_t size, size_t count, void *context) {
    call *c = context;
    size_t bytes = size * count;
    if (bytes > c->owner->body_max - c->body_bytes) {
        c->too_large = true;
        return 0;
    }
    stet_buf_append(&c->body, data, bytes);
    if (!stet_buf_ok(&c->body)) {
        c->no_memory = true;
        return 0;
    }
    c->body_bytes += bytes;
    return bytes;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context) {
    stet_http *self = context;
    (void)easy;
    (void)socket_context;
    struct epoll_event event = {.data.fd = fd};
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, &event); /* gone already when the socket was closed */
        return 0;
    }
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    /* Numbers are reused after close, so what we believe about fd may be stale: ask the kernel. A failure is
     * left to the call's timeout. */
    if (epoll_ctl(self->epoll, EPOLL_CTL_MOD, fd, &event) != 0 && errno == ENOENT)
        (void)epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event);
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *context) {
    stet_http *self = context;
    (void)multi;
    self->timer_due_ms = timeout_ms < 0 ? -1 : stet_clock_boot_ms() + timeout_ms;
    return 0;
}

/* ---- one call ---- */

static void call_close(call *c) {
    if (c->easy != NULL) {
        (void)curl_multi_remove_handle(c->owner->multi, c->easy); /* not added: an error we may ignore */
        curl_easy_cleanup(c->easy);
        c->easy = NULL;
    }
    curl_slist_free_all(c->headers);
    c->headers = NULL;
}

static void call_free(call *c) {
    call_close(c);
    stet_buf_done(&c->body);
    free(c);
}

static void call_finish(call *c, stet_http_failure failure) {
    ASSERT(c->state == CALL_RUNNING);
    c->state = CALL_FINISHED;
    c->failure = failure;
    c->elapsed_ms = stet_clock_boot_ms() - c->started_ms;
    c->owner->finished++;
    call_close(c);
}

static void call_drop(call *c) {
    if (c->state == CALL_DROPPED)
        return;
    if (c->state == CALL_FINISHED)
        c->owner->finished--;
    c->owner->active--;
    c->state = CALL_DROPPED;
    call_close(c);
}

static const char *add_headers(call *c, const stet_http_request *request) {
    if (request->headers_count > REQUEST_HEADERS_MAX)
        return "too many headers";
    stet_buf line = STET_BUF(REQUEST_HEADER_BYTES_MAX);
    const char *refusal = NULL;
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* no waiting for 100 with large bodies */
    for (size_t i = 0; i < request->headers_count && list != NULL && refusal == NULL; i++) {
        const stet_http_header *h = &request->headers[i];
        if (!stet_http_header_valid(h->name, h->value)) {
            refusal = "a header has characters that are not allowed";
            break;
        }
        c->repeatable = c->repeatable || strcasecmp(h->name, "idempotency-key") == 0;
        stet_buf_clear(&line);
        stet_buf_printf(&line, h->value[0] == '\0' ? "%s;%s" : "%s: %s", h->name, h->value);
        stet_buf_append_byte(&line, '\0');
        c->no_memory |= stet_buf_starved(&line);
        if (!stet_buf_ok(&line)) {
            refusal = c->no_memory ? NULL : "a header is too long";
            break;
        }
        struct curl_slist *longer = curl_slist_append(list, (const char *)line.data);
        if (longer == NULL)
            curl_slist_free_all(list);
        list = longer;
    }
    if (line.data != NULL)
        explicit_bzero(line.data, line.capacity);
    stet_buf_done(&line);
    c->headers = list;
    if (list == NULL && refusal == NULL)
        c->no_memory = true;
    return refusal;
}

static const char *check_url(call *c, const char *scheme, const char *host) {
    if (strlen(host) >= STET_HTTP_HOST_MAX)
        return "the host's name is too long";
    memcpy(c->host, host, strlen(host) + 1);
    c->loopback = stet_http_host_is_loopback(host);
    c->https = strcasecmp(scheme, "https") == 0;
    if (c->https || (strcasecmp(scheme, "http") == 0 && c->loopback))
        return NULL;
    return "the URL's scheme is not allowed: use https, or http to a loopback address";
}

/* *ret_url: the URL as libcurl reads it, so that what was checked is what is used; curl_free it. NULL without one: there was no
 * memory, which is not the URL's fault. */
static const char *read_url(call *c, const char *text, char **ret_url) {
    CURLU *url = curl_url();
    char *scheme = NULL, *host = NULL;
    const char *refusal = NULL;
    CURLUcode rc =
        url != NULL ? curl_url_set(url, CURLUPART_URL, text, CURLU_DISALLOW_USER) : CURLUE_OUT_OF_MEMORY;
    if (rc == CURLUE_OK)
        rc = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
    if (rc == CURLUE_OK)
        rc = curl_url_get(url, CURLUPART_HOST, &host, 0);
    if (scheme != NULL && rc != CURLUE_OUT_OF_MEMORY)
        refusal = check_url(c, scheme, rc == CURLUE_OK ? host : ""); /* file:///... has none */
    else if (rc != CURLUE_OUT_OF_MEMORY)
        refusal = "the URL is not valid";
    if (refusal == NULL && rc == CURLUE_OK)
        rc = curl_url_get(url, CURLUPART_URL, ret_url, 0);
    c->no_memory = rc == CURLUE_OUT_OF_MEMORY;
    if (refusal == NULL && rc != CURLUE_OK && !c->no_memory)
        refusal = "the URL is not valid";
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(url);
    return refusal;
}

/* After the first failure does nothing, so that the end sees it. */
#define SET(option, value)                                                                                   \
    do {                                                                                                     \
        if (rc == CURLE_OK)                                                                                  \
            rc = curl_easy_setopt(easy, option, value);                                                      \
    } while (0)

static CURLcode set_safety(CURL *easy, call *c) {
    const stet_http *h = c->owner;
    c->proxied = h->proxy != NULL && !c->loopback;
    CURLcode rc = CURLE_OK;
    SET(CURLOPT_PROTOCOLS_STR, c->https ? "https" : "http");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "https"); /* must not be empty; redirects are off */
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_MAXREDIRS, 0L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (h->ca_file != NULL)
        SET(CURLOPT_CAINFO, h->ca_file);
    SET(CURLOPT_PROXY, c->proxied ? h->proxy : ""); /* "" also shuts out the environment's */
    SET(CURLOPT_NOPROXY, "");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    SET(CURLOPT_UNRESTRICTED_AUTH, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a cancelled call does not wait for its name lookup's thread */
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, c);
    SET(CURLOPT_PREREQFUNCTION, on_request);
    SET(CURLOPT_PREREQDATA, c);
    return rc;
}

static long at_least_one(int64_t n) {
    return n < 1 ? 1 : (long)n;
}

static CURLcode set_transfer(CURL *easy, call *c, const char *url, const stet_http_request *request) {
    const stet_http *h = c->owner;
    int64_t total = request->timeout_ms > 0 ? request->timeout_ms : h->total_timeout_ms;
    CURLcode rc = CURLE_OK;
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PRIVATE, c);
    SET(CURLOPT_HTTPHEADER, c->headers);
    SET(CURLOPT_USERAGENT, "stet/" STET_SOFTWARE_VERSION);
    SET(CURLOPT_CONNECTTIMEOUT_MS, at_least_one(h->connect_timeout_ms));
    SET(CURLOPT_TIMEOUT_MS, at_least_one(total));
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, at_least_one((h->stall_timeout_ms + 999) / 1000));
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, c);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, c);
    if (strcmp(request->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (strcmp(request->method, "GET") == 0 && request->body.size == 0) {
        SET(CURLOPT_HTTPGET, 1L);
    } else {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
        SET(CURLOPT_COPYPOSTFIELDS, request->body.size > 0 ? request->body.data : "");
        if (strcmp(request->method, "POST") != 0)
            SET(CURLOPT_CUSTOMREQUEST, request->method);
    }
    return rc;
}

/* NULL when the call is under way, else why it is refused. A failure that is not the request's fault finishes
 * it here. */
static const char *call_begin(call *c, const stet_http_request *request) {
    if (!stet_http_method_valid(request->method))
        return "the method is not valid";
    c->repeatable = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0 ||
                    strcmp(request->method, "OPTIONS") == 0;
    char *url = NULL;
    const char *refusal = read_url(c, request->url, &url);
    if (refusal == NULL)
        refusal = add_headers(c, request);
    if (refusal == NULL) {
        c->easy = curl_easy_init();
        CURLcode rc = c->easy == NULL || c->no_memory ? CURLE_OUT_OF_MEMORY : set_safety(c->easy, c);
        if (rc == CURLE_OK)
            rc = set_transfer(c->easy, c, url, request);
        if (rc == CURLE_OK && curl_multi_add_handle(c->owner->multi, c->easy) != CURLM_OK)
            rc = CURLE_FAILED_INIT;
        if (rc != CURLE_OK) {
            (void)snprintf(c->reason, sizeof c->reason, "the call could not be prepared: %s",
                           curl_easy_strerror(rc));
            call_finish(c, STET_HTTP_CONNECT);
        }
    }
    curl_free(url);
    return refusal;
}

static stet_http_failure failure_of(const call *c, CURLcode code) {
    if (c->refused && !c->sent)
        return STET_HTTP_REFUSED;
    if (c->too_large)
        return STET_HTTP_TOO_LARGE;
    if (code == CURLE_OK)
        return c->headers_complete ? STET_HTTP_NONE
                                   : STET_HTTP_LOST; /* libcurl takes cut-off headers for an answer */
    if (code == CURLE_OPERATION_TIMEDOUT)
        return STET_HTTP_TIMEOUT;
    if (!c->sent && (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT))
        return STET_HTTP_REFUSED;
    return c->sent ? STET_HTTP_LOST : STET_HTTP_CONNECT;
}

static void call_complete(call *c, CURLcode code) {
    stet_http_failure failure = failure_of(c, code);
    if (failure != STET_HTTP_NONE && !c->stream)
        stet_buf_clear(&c->body); /* half a body is nothing to decide by */
    call_finish(c, failure);
    stet_http_call_explain(c, code == CURLE_OK ? "its headers are not complete" : curl_easy_strerror(code));
}

/* ---- delivery ---- */

static void sweep(stet_http *self) {
    call **at = &self->calls;
    while (*at != NULL) {
        call *c = *at;
        if (c->state == CALL_DROPPED) {
            *at = c->next;
            call_free(c);
        } else {
            at = &c->next;
        }
    }
    self->calls_end = at;
}

/* Calls started by the callbacks wait for the next run: a done() that always starts a refused call must not
 * loop. */
static void deliver(stet_http *self) {
    call **end = self->calls_end;
    for (call **at = &self->calls; at != end; at = &(*at)->next) {
        call *c = *at;
        if (c->state != CALL_DROPPED && c->stream && c->body.size > 0)
            stet_http_call_data(c, self->callbacks);
        if (c->state == CALL_FINISHED) {
            call_drop(c); /* first: a cancel in the callback must not find it; freed by sweep */
            stet_http_call_done(c, self->callbacks);
        }
    }
}

static void collect(stet_http *self) {
    int left = 0;
    for (CURLMsg *m = curl_multi_info_read(self->multi, &left); m != NULL;
         m = curl_multi_info_read(self->multi, &left)) {
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        call *c = NULL;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        ASSERT(c != NULL && c->easy == m->easy_handle);
        call_complete(c, code); /* m is gone from here on */
    }
}

/* True when there may be more to do at once. */
static bool perform(stet_http *self) {
    struct epoll_event events[EVENTS_PER_ROUND];
    int still_running = 0;
    int count = epoll_wait(self->epoll, events, EVENTS_PER_ROUND, /* timeout= */ 0);
    for (int i = 0; i < count; i++) {
        int mask = 0;
        if (events[i].events & EPOLLIN)
            mask |= CURL_CSELECT_IN;
        if (events[i].events & EPOLLOUT)
            mask |= CURL_CSELECT_OUT;
        if (events[i].events & (EPOLLERR | EPOLLHUP))
            mask |= CURL_CSELECT_ERR;
        (void)curl_multi_socket_action(self->multi, events[i].data.fd, mask, &still_running);
    }
    bool due = self->timer_due_ms >= 0 && self->timer_due_ms <= stet_clock_boot_ms();
    if (due) {
        self->timer_due_ms = -1;
        (void)curl_multi_socket_action(self->multi, CURL_SOCKET_TIMEOUT, 0, &still_running);
    }
    return due || count == EVENTS_PER_ROUND;
}

void stet_http_run(stet_http *self) {
    ASSERT(!self->running);
    self->running = true;
    for (int round = 0; round < ROUNDS_PER_RUN && perform(self); round++)
        continue;
    collect(self);
    deliver(self);
    sweep(self);
    self->running = false;
}

/* ---- the whole ---- */

static bool keep_text(char **slot, const char *text) {
    if (text[0] == '\0')
        return true; /* stays NULL */
    *slot = strdup(text);
    return *slot != NULL;
}

static bool set_multi(stet_http *self, long connections) {
    return curl_multi_setopt(self->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
           curl_multi_setopt(self->multi, CURLMOPT_SOCKETDATA, self) == CURLM_OK &&
           curl_multi_setopt(self->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
           curl_multi_setopt(self->multi, CURLMOPT_TIMERDATA, self) == CURLM_OK &&
           curl_multi_setopt(self->multi, CURLMOPT_MAXCONNECTS, connections) == CURLM_OK;
}

stet_code stet_http_new(const stet_config *config, stet_http_callbacks callbacks, stet_http **ret,
                        stet_error *e) {
    ASSERT(callbacks.data != NULL);
    ASSERT(callbacks.done != NULL);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return stet_error_set(e, STET_UNAVAILABLE, "libcurl does not start");
    stet_http *self = calloc(1, sizeof *self);
    if (self == NULL) {
        curl_global_cleanup();
        return stet_error_set(e, STET_UNAVAILABLE, "no memory for the HTTP client");
    }
    self->callbacks = callbacks;
    self->timer_due_ms = -1;
    self->calls_end = &self->calls;
    self->connect_timeout_ms = stet_config_int(config, STET_SETTING_http_connect_timeout);
    self->total_timeout_ms = stet_config_int(config, STET_SETTING_http_total_timeout);
    self->stall_timeout_ms = stet_config_int(config, STET_SETTING_http_stall_timeout);
    self->body_max = (size_t)stet_config_int(config, STET_SETTING_http_body_max);
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->multi = curl_multi_init();
    if (self->epoll < 0 || self->multi == NULL ||
        !keep_text(&self->proxy, stet_config_str(config, STET_SETTING_http_proxy)) ||
        !keep_text(&self->ca_file, stet_config_str(config, STET_SETTING_http_ca_file))) {
        (void)stet_http_free(self);
        return stet_error_set(e, STET_UNAVAILABLE, "no memory or descriptor for the HTTP client");
    }
    if (!set_multi(self, at_least_one(stet_config_int(config, STET_SETTING_http_connections)))) {
        (void)stet_http_free(self);
        return stet_error_field(e, STET_INVALID, "http.connections",
                                "libcurl refuses this number of connections");
    }
    *ret = self;
    return STET_OK;
}

stet_http *stet_http_free(stet_http *self) {
    if (self == NULL)
        return NULL;
    ASSERT(!self->running);
    for (call *c = self->calls; c != NULL; c = c->next)
        call_drop(c);
    sweep(self);
    if (self->multi != NULL)
        (void)curl_multi_cleanup(self->multi);
    if (self->epoll >= 0)
        (void)close(self->epoll);
    if (self->proxy != NULL)
        explicit_bzero(self->proxy, strlen(self->proxy)); /* may hold a password */
    free(self->proxy);
    free(self->ca_file);
    free(self);
    curl_global_cleanup();
    return NULL;
}

int stet_http_fd(const stet_http *self) {
    return self->epoll;
}

int64_t stet_http_timeout_ms(const stet_http *self) {
    if (self->finished > 0)
        return 0;
    if (self->timer_due_ms < 0)
        return -1;
    int64_t left = self->timer_due_ms - stet_clock_boot_ms();
    return left > 0 ? left : 0;
}

stet_code stet_http_start(stet_http *self, stet_call_ref ref, const stet_http_request *request,
                          stet_error *e) {
    ASSERT(request->method != NULL);
    ASSERT(request->url != NULL);
    if (self->active >= STET_HTTP_CALLS_MAX)
        return stet_error_set(e, STET_BUSY, "%d calls are running already", STET_HTTP_CALLS_MAX);
    call *c = calloc(1, sizeof *c);
    if (c == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "no memory for the call");
    c->owner = self;
    c->ref = ref;
    c->stream = request->stream;
    c->started_ms = stet_clock_boot_ms();
    c->body = (stet_buf)STET_BUF(self->body_max);
    stet_http_call_forget(c);
    *self->calls_end = c;
    self->calls_end = &c->next;
    self->active++;
    const char *refusal = call_begin(c, request);
    if (refusal != NULL) {
        (void)snprintf(c->reason, sizeof c->reason, "%s", refusal);
        call_finish(c, STET_HTTP_REFUSED);
    }
    return STET_OK;
}

void stet_http_cancel(stet_http *self, stet_call_ref ref) {
    for (call *c = self->calls; c != NULL; c = c->next)
        if (c->ref.number == ref.number && c->ref.attempt == ref.attempt &&
            stet_id_equal(c->ref.job_id, ref.job_id))
            call_drop(c);
    if (!self->running)
        sweep(self);
}

size_t stet_http_active(const stet_http *self) {
    return self->active;
}
