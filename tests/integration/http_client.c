/* Goal: whatever a server does, a call ends once, with the failure that tells what is known about it.
 * Method: the real client on a poll loop against a raw server that misbehaves on demand. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/runtime/http.h"
#include "proto/base/clock.h"
#include "tests/integration/tcp_server.h"

enum { OUTCOMES_MAX = 2048 };

typedef struct outcome {
    uint32_t number;
    stet_http_failure failure;
    uint32_t status;
    char reason[512];
    char content_type[128];
    char request_id[128];
    int64_t retry_after_ms;
    size_t body_size;
    char body[64];
} outcome;

typedef struct client {
    tcp_server *server;
    stet_config *config;
    stet_http *http;
    outcome outcomes[OUTCOMES_MAX];
    size_t count;
    unsigned pieces;
    uint32_t piece_status;
    stet_buf streamed;
    uint32_t cancel_at_data; /* number of the call to cancel when its first data comes */
    unsigned restarts_left;  /* done() starts a refused call again */
} client;

static void keep(char *to, size_t size, stet_str text) {
    size_t n = text.size < size ? text.size : size - 1;
    if (n > 0)
        memcpy(to, text.data, n);
    to[n] = '\0';
}

static stet_call_ref ref_of(uint32_t number) {
    return (stet_call_ref){.job_id = {{1, 2, 3}}, .attempt = 1, .number = number};
}

static void on_data(void *context, const stet_http_data *data) {
    client *c = context;
    c->pieces++;
    c->piece_status = data->status;
    stet_buf_append_str(&c->streamed, data->bytes);
    if (c->cancel_at_data == data->ref.number)
        stet_http_cancel(c->http, data->ref);
}

static void on_done(void *context, const stet_http_result *result) {
    client *c = context;
    assert_true(c->count < OUTCOMES_MAX);
    outcome *o = &c->outcomes[c->count++];
    o->number = result->ref.number;
    o->failure = result->failure;
    o->status = result->status;
    o->retry_after_ms = result->retry_after_ms;
    o->body_size = result->body.size;
    keep(o->reason, sizeof o->reason, stet_str_of(result->reason));
    keep(o->content_type, sizeof o->content_type, result->content_type);
    keep(o->request_id, sizeof o->request_id, result->request_id);
    keep(o->body, sizeof o->body, result->body);
    assert_true(result->elapsed_ms >= 0);
    if (c->restarts_left > 0) {
        c->restarts_left--;
        stet_http_request again = {.method = "GET", .url = "ftp://localhost/"};
        assert_int_equal(stet_http_start(c->http, ref_of(o->number + 1), &again, NULL), STET_OK);
    }
}

static void open_http(client *c) {
    stet_error e;
    stet_http_callbacks callbacks = {.context = c, .data = on_data, .done = on_done};
    if (stet_http_new(c->config, callbacks, &c->http, &e) != STET_OK)
        fail_msg("%s", e.message);
}

static int setup(void **state) {
    client *c = calloc(1, sizeof *c);
    stet_error e;
    c->server = tcp_server_start();
    c->streamed = (stet_buf)STET_BUF(1 << 20);
    if (stet_config_load(NULL, &c->config, &e) != STET_OK)
        fail_msg("%s", e.message);
    *state = c;
    return 0;
}

static int teardown(void **state) {
    client *c = *state;
    c->http = stet_http_free(c->http);
    tcp_server_stop(c->server);
    c->config = stet_config_free(c->config);
    stet_buf_done(&c->streamed);
    free(c);
    return 0;
}

static void set(client *c, stet_setting setting, const char *value) {
    stet_error e;
    if (stet_config_set(c->config, setting, value, &e) != STET_OK)
        fail_msg("%s", e.message);
}

static void once(client *c) {
    int64_t wait_ms = stet_http_timeout_ms(c->http);
    struct pollfd p = {.fd = stet_http_fd(c->http), .events = POLLIN};
    (void)poll(&p, 1, wait_ms < 0 ? 1000 : (int)wait_ms);
    stet_http_run(c->http);
}

static void run(client *c) {
    while (stet_http_active(c->http) > 0)
        once(c);
}

static void start(client *c, uint32_t number, const stet_http_request *request) {
    stet_error e;
    if (c->http == NULL)
        open_http(c);
    if (stet_http_start(c->http, ref_of(number), request, &e) != STET_OK)
        fail_msg("%s", e.message);
}

static const char *url_of(client *c, const char *path, char to[128]) {
    (void)snprintf(to, 128, "http://127.0.0.1:%u%s", tcp_server_port(c->server), path);
    return to;
}

static const outcome *call_with(client *c, const stet_http_request *request) {
    size_t before = c->count;
    start(c, (uint32_t)before + 1, request);
    run(c);
    assert_int_equal(c->count, before + 1);
    return &c->outcomes[before];
}

static const outcome *get(client *c, const char *path) {
    char url[128];
    return call_with(c, &(stet_http_request){.method = "GET", .url = url_of(c, path, url)});
}

static const outcome *post(client *c, const char *path, bool stream) {
    char url[128];
    stet_http_header header = {"Content-Type", "application/json"};
    return call_with(c, &(stet_http_request){.method = "POST",
                                             .url = url_of(c, path, url),
                                             .headers = &header,
                                             .headers_count = 1,
                                             .body = STET_STR("{}"),
                                             .stream = stream});
}

static const outcome *get_url(client *c, const char *url) {
    return call_with(c, &(stet_http_request){.method = "GET", .url = url});
}

/* ---- answers ---- */

static void an_answer_comes_whole_with_type_and_request_id(void **state) {
    const outcome *o = get(*state, "/ok");
    assert_int_equal(o->failure, STET_HTTP_NONE);
    assert_int_equal(o->status, 200);
    assert_string_equal(o->body, "hello");
    assert_string_equal(o->content_type, "text/plain");
    assert_string_equal(o->request_id, "req-7");
    assert_string_equal(o->reason, "");
    assert_int_equal(o->retry_after_ms, -1);
}

static void what_is_sent_is_what_was_asked_and_no_more(void **state) {
    client *c = *state;
    char seen[4096], url[128];
    stet_http_header headers[] = {{"Authorization", "Bearer s3cret"}, {"X-Empty", ""}};
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1);
    (void)setenv("all_proxy", "http://127.0.0.1:1", 1);
    const outcome *o = call_with(c, &(stet_http_request){.method = "PATCH",
                                                         .url = url_of(c, "/ok", url),
                                                         .headers = headers,
                                                         .headers_count = 2,
                                                         .body = STET_STR("a\0b")});
    (void)unsetenv("http_proxy");
    (void)unsetenv("all_proxy");
    assert_int_equal(o->status, 200);
    size_t size = tcp_server_last(c->server, seen, sizeof seen);
    assert_memory_equal(seen, "PATCH /ok HTTP/1.1\r\n", 20);
    assert_non_null(strstr(seen, "\r\nAuthorization: Bearer s3cret\r\n"));
    assert_non_null(strstr(seen, "\r\nX-Empty:"));
    assert_null(strcasestr(seen, "\r\nExpect:"));
    assert_null(strcasestr(seen, "\r\nAccept-Encoding:"));
    assert_null(strcasestr(seen, "\r\nCookie:"));
    assert_memory_equal(seen + size - 7, "\r\n\r\na\0b", 7);
}

static void a_chunked_stream_in_odd_pieces_arrives_in_order(void **state) {
    client *c = *state;
    const outcome *o = post(c, "/chunked", /* stream= */ true);
    assert_int_equal(o->failure, STET_HTTP_NONE);
    assert_int_equal(o->body_size, 0);
    assert_true(c->pieces > 0);
    assert_int_equal(c->piece_status, 200);
    assert_int_equal(c->streamed.size, 12);
    assert_memory_equal(c->streamed.data, "hello, world", 12);
    o = post(c, "/chunked", /* stream= */ false);
    assert_string_equal(o->body, "hello, world");
    assert_string_equal(o->content_type, "text/event-stream");
}

static void a_stream_brings_bodies_of_errors_too(void **state) {
    client *c = *state;
    const outcome *o = post(c, "/error", /* stream= */ true);
    assert_int_equal(o->status, 500);
    assert_int_equal(c->piece_status, 500);
    assert_memory_equal(c->streamed.data, "boom", 4);
}

static void headers_of_interim_answers_are_forgotten(void **state) {
    const outcome *o = get(*state, "/interim");
    assert_int_equal(o->status, 201);
    assert_int_equal(o->retry_after_ms, -1);
    assert_string_equal(o->body, "ok");
}

static void retry_after_is_read_in_all_forms(void **state) {
    assert_int_equal(get(*state, "/retry-seconds")->retry_after_ms, 7000);
    assert_int_equal(get(*state, "/retry-past")->retry_after_ms, 0);
    assert_int_equal(get(*state, "/retry-ms")->retry_after_ms, 250);
}

static void a_redirect_is_an_answer_and_is_not_followed(void **state) {
    client *c = *state;
    const outcome *o = get(c, "/redirect");
    assert_int_equal(o->failure, STET_HTTP_NONE);
    assert_int_equal(o->status, 302);
    assert_int_equal(tcp_server_requests(c->server), 1);
}

static void connections_are_reused(void **state) {
    client *c = *state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(post(c, "/ok", false)->status, 200);
    assert_int_equal(tcp_server_connections(c->server), 1);
    assert_int_equal(tcp_server_requests(c->server), 5);
}

/* ---- failures ---- */

static void a_refused_connection_is_not_sent(void **state) {
    tcp_server *gone = tcp_server_start();
    char url[128];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/hidden?token=s3cret", tcp_server_port(gone));
    tcp_server_stop(gone);
    const outcome *o = get_url(*state, url);
    assert_int_equal(o->failure, STET_HTTP_CONNECT);
    assert_non_null(strstr(o->reason, "127.0.0.1"));
    assert_null(strstr(o->reason, "s3cret"));
    assert_null(strstr(o->reason, "hidden"));
}

/* openssl's own test server with a certificate for 127.0.0.1 that only its file vouches for. */
typedef struct tls_server {
    pid_t pid;
    unsigned port;
    char directory[64];
    char certificate[96];
    char key[96];
} tls_server;

static void spawn(char *const argv[], int output, pid_t *ret_pid) {
    *ret_pid = fork();
    if (*ret_pid == 0) {
        (void)dup2(output, STDOUT_FILENO);
        (void)dup2(output, STDERR_FILENO);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    assert_true(*ret_pid > 0);
}

static bool tls_start(tls_server *t) {
    int pipe_fds[2], status;
    memcpy(t->directory, "/tmp/stet-tls-XXXXXX", 21);
    assert_non_null(mkdtemp(t->directory));
    (void)snprintf(t->certificate, sizeof t->certificate, "%s/cert.pem", t->directory);
    (void)snprintf(t->key, sizeof t->key, "%s/key.pem", t->directory);
    assert_int_equal(pipe(pipe_fds), 0);
    char *make[] = {"openssl", "req",   "-x509",    "-newkey",      "ed25519",
                    "-nodes",  "-subj", "/CN=test", "-addext",      "subjectAltName=IP:127.0.0.1",
                    "-keyout", t->key,  "-out",     t->certificate, NULL};
    spawn(make, pipe_fds[1], &t->pid);
    assert_true(waitpid(t->pid, &status, 0) == t->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return false;
    char *serve[] = {"openssl", "s_server",     "-accept", "127.0.0.1:0", "-www",
                     "-cert",   t->certificate, "-key",    t->key,        NULL};
    spawn(serve, pipe_fds[1], &t->pid);
    (void)close(pipe_fds[1]);
    FILE *output = fdopen(pipe_fds[0], "r");
    char line[512];
    t->port = 0;
    static const char prefix[] = "ACCEPT 127.0.0.1:";
    while (t->port == 0 && fgets(line, sizeof line, output) != NULL)
        if (strncmp(line, prefix, sizeof prefix - 1) == 0)
            t->port = (uint32_t)strtoul(line + sizeof prefix - 1, NULL, 10);
    (void)fclose(output);
    return t->port != 0;
}

static void tls_stop(tls_server *t) {
    (void)kill(t->pid, SIGKILL);
    (void)waitpid(t->pid, NULL, 0);
    (void)unlink(t->certificate);
    (void)unlink(t->key);
    (void)rmdir(t->directory);
}

static void only_a_certificate_that_is_vouched_for_gets_the_request(void **state) {
    client *c = *state;
    tls_server t = {0};
    char url[128];
    if (!tls_start(&t)) {
        tls_stop(&t);
        skip(); /* no openssl program here */
    }
    (void)snprintf(url, sizeof url, "https://127.0.0.1:%u/", t.port);
    const outcome *o = get_url(c, url);
    assert_int_equal(o->failure, STET_HTTP_CONNECT);
    c->http = stet_http_free(c->http);
    set(c, STET_SETTING_http_ca_file, t.certificate);
    o = get_url(c, url);
    if (o->failure != STET_HTTP_NONE)
        fail_msg("failure %d, %s", (int)o->failure, o->reason);
    assert_int_equal(o->status, 200);
    (void)snprintf(url, sizeof url, "https://localhost:%u/", t.port); /* not a name of the certificate */
    assert_int_equal(get_url(c, url)->failure, STET_HTTP_CONNECT);
    tls_stop(&t);
}

static void a_lost_answer_is_lost(void **state) {
    static const char *const paths[] = {"/reset", "/no-answer", "/half", "/half-headers", "/garbage"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        const outcome *o = post(*state, paths[i], false);
        if (o->failure != STET_HTTP_LOST)
            fail_msg("%s: failure %d, %s", paths[i], (int)o->failure, o->reason);
        assert_int_equal(o->body_size, 0);
        assert_string_not_equal(o->reason, "");
    }
}

static void a_request_with_effects_is_not_sent_twice_by_itself(void **state) {
    client *c = *state;
    assert_int_equal(post(c, "/first-only", false)->status, 200);
    assert_int_equal(post(c, "/first-only", false)->failure, STET_HTTP_LOST);
    assert_int_equal(tcp_server_requests(c->server), 2);
}

static void a_safe_request_on_a_dead_connection_is_sent_again(void **state) {
    client *c = *state;
    assert_int_equal(get(c, "/first-only")->status, 200);
    assert_int_equal(get(c, "/first-only")->status, 200);
    assert_int_equal(tcp_server_requests(c->server), 3);
}

static void a_stalled_answer_times_out(void **state) {
    client *c = *state;
    set(c, STET_SETTING_http_stall_timeout, "1s");
    assert_int_equal(get(c, "/stall")->failure, STET_HTTP_TIMEOUT);
}

static void a_call_has_a_total_time(void **state) {
    client *c = *state;
    char url[128];
    set(c, STET_SETTING_http_total_timeout, "100ms");
    assert_int_equal(get(c, "/stall")->failure, STET_HTTP_TIMEOUT);
    c->http = stet_http_free(c->http);
    set(c, STET_SETTING_http_total_timeout, "1h");
    const outcome *o = call_with(
        c, &(stet_http_request){.method = "GET", .url = url_of(c, "/stall", url), .timeout_ms = 100});
    assert_int_equal(o->failure, STET_HTTP_TIMEOUT);
}

static void an_endless_body_is_stopped_at_the_limit(void **state) {
    client *c = *state;
    set(c, STET_SETTING_http_body_max, "64K");
    assert_int_equal(get(c, "/endless")->failure, STET_HTTP_TOO_LARGE);
    const outcome *o = post(c, "/endless", /* stream= */ true);
    assert_int_equal(o->failure, STET_HTTP_TOO_LARGE);
    assert_true(c->streamed.size <= 64 * 1024);
}

static void endless_headers_are_stopped(void **state) {
    assert_int_equal(get(*state, "/header-bomb")->failure, STET_HTTP_TOO_LARGE);
}

/* ---- refusals ---- */

static void what_is_not_allowed_is_refused_before_it_is_sent(void **state) {
    static const char *const urls[] = {"file:///etc/passwd",
                                       "ftp://127.0.0.1/",
                                       "gopher://127.0.0.1/",
                                       "http://example.com/",
                                       "http://10.0.0.1/",
                                       "http://[::ffff:10.0.0.1]/",
                                       "http://user:pass@127.0.0.1/",
                                       "https://10.255.255.1/",
                                       "https://192.168.1.1/",
                                       "https://169.254.169.254/latest/meta-data/",
                                       "https://0.0.0.0/",
                                       "https://0xa9fea9fe/",
                                       "https://[::ffff:192.168.0.1]/",
                                       "https://[fe80::1]/",
                                       "https://[fd00::1]/",
                                       "not a url",
                                       ""};
    client *c = *state;
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        const outcome *o = get_url(c, urls[i]);
        if (o->failure != STET_HTTP_REFUSED)
            fail_msg("%s: failure %d, %s", urls[i], (int)o->failure, o->reason);
        assert_string_not_equal(o->reason, "");
    }
}

static void a_name_that_leads_to_loopback_is_refused(void **state) {
    client *c = *state;
    char url[128]; /* libcurl resolves *.localhost to loopback by itself */
    (void)snprintf(url, sizeof url, "https://inside.localhost:%u/ok", tcp_server_port(c->server));
    assert_int_equal(get_url(c, url)->failure, STET_HTTP_REFUSED);
    assert_int_equal(tcp_server_connections(c->server), 0);
}

static void headers_cannot_smuggle_others_in(void **state) {
    static const stet_http_header bad[] = {
        {"X-A", "1\r\nX-B: 2"}, {"X-A\r\nX-B", "1"}, {"X A", "1"}, {"", "1"}, {"X-A", "1\n"}};
    client *c = *state;
    char url[128];
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        stet_http_request request = {
            .method = "GET", .url = url_of(c, "/ok", url), .headers = &bad[i], .headers_count = 1};
        assert_int_equal(call_with(c, &request)->failure, STET_HTTP_REFUSED);
    }
    stet_http_request request = {.method = "GET /x HTTP/1.1\r\n", .url = url_of(c, "/ok", url)};
    assert_int_equal(call_with(c, &request)->failure, STET_HTTP_REFUSED);
    assert_int_equal(tcp_server_requests(c->server), 0);
}

/* ---- cancel, bounds ---- */

static void a_call_cancelled_mid_stream_ends_silently(void **state) {
    client *c = *state;
    char url[128];
    c->cancel_at_data = 1;
    start(c, 1, &(stet_http_request){.method = "POST", .url = url_of(c, "/stall", url), .stream = true});
    run(c);
    assert_int_equal(c->pieces, 1);
    assert_int_equal(c->count, 0);
    assert_int_equal(get(c, "/ok")->status, 200); /* and the client still works */
}

static void cancel_of_the_unknown_and_before_the_first_run_is_harmless(void **state) {
    client *c = *state;
    char url[128];
    start(c, 1, &(stet_http_request){.method = "GET", .url = url_of(c, "/ok", url)});
    start(c, 2, &(stet_http_request){.method = "GET", .url = "ftp://localhost/"});
    stet_http_cancel(c->http, ref_of(9));
    assert_int_equal(stet_http_active(c->http), 2);
    stet_http_cancel(c->http, ref_of(1));
    stet_http_cancel(c->http, ref_of(2));
    assert_int_equal(stet_http_active(c->http), 0);
    stet_http_run(c->http);
    assert_int_equal(c->count, 0);
}

static void done_may_start_the_next_call(void **state) {
    client *c = *state;
    c->restarts_left = 100;
    start(c, 1, &(stet_http_request){.method = "GET", .url = "ftp://localhost/"});
    assert_int_equal(stet_http_timeout_ms(c->http), 0);
    run(c);
    assert_int_equal(c->count, 101);
    assert_int_equal(stet_http_timeout_ms(c->http), -1);
}

static void one_call_too_many_is_busy(void **state) {
    client *c = *state;
    stet_error e;
    stet_http_request request = {.method = "GET", .url = "ftp://localhost/"};
    for (uint32_t i = 0; i < STET_HTTP_CALLS_MAX; i++)
        start(c, i, &request);
    assert_int_equal(stet_http_start(c->http, ref_of(0), &request, &e), STET_BUSY);
    run(c);
    assert_int_equal(c->count, STET_HTTP_CALLS_MAX);
    assert_int_equal(stet_http_start(c->http, ref_of(0), &request, &e), STET_OK);
}

static void many_calls_at_once_all_end(void **state) {
    client *c = *state;
    char url[128];
    for (uint32_t i = 0; i < 20; i++)
        start(c, i, &(stet_http_request){.method = "GET", .url = url_of(c, i % 2 ? "/ok" : "/reset", url)});
    run(c);
    assert_int_equal(c->count, 20);
    for (size_t i = 0; i < c->count; i++)
        assert_int_equal(c->outcomes[i].failure, c->outcomes[i].number % 2 ? STET_HTTP_NONE : STET_HTTP_LOST);
}

static void free_drops_running_calls(void **state) {
    client *c = *state;
    char url[128];
    start(c, 1, &(stet_http_request){.method = "GET", .url = url_of(c, "/stall", url), .stream = true});
    while (c->pieces == 0)
        once(c);
    c->http = stet_http_free(c->http);
    assert_int_equal(c->count, 0);
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_answer_comes_whole_with_type_and_request_id),
        T(what_is_sent_is_what_was_asked_and_no_more),
        T(a_chunked_stream_in_odd_pieces_arrives_in_order),
        T(a_stream_brings_bodies_of_errors_too),
        T(headers_of_interim_answers_are_forgotten),
        T(retry_after_is_read_in_all_forms),
        T(a_redirect_is_an_answer_and_is_not_followed),
        T(connections_are_reused),
        T(a_refused_connection_is_not_sent),
        T(only_a_certificate_that_is_vouched_for_gets_the_request),
        T(a_lost_answer_is_lost),
        T(a_request_with_effects_is_not_sent_twice_by_itself),
        T(a_safe_request_on_a_dead_connection_is_sent_again),
        T(a_stalled_answer_times_out),
        T(a_call_has_a_total_time),
        T(an_endless_body_is_stopped_at_the_limit),
        T(endless_headers_are_stopped),
        T(what_is_not_allowed_is_refused_before_it_is_sent),
        T(a_name_that_leads_to_loopback_is_refused),
        T(headers_cannot_smuggle_others_in),
        T(a_call_cancelled_mid_stream_ends_silently),
        T(cancel_of_the_unknown_and_before_the_first_run_is_harmless),
        T(done_may_start_the_next_call),
        T(one_call_too_many_is_busy),
        T(many_calls_at_once_all_end),
        T(free_drops_running_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
