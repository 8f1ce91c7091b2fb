/* A call that finds no memory: each allocation of ours fails once, alone and with all that follow. It was not made, and is never
 * taken for one that may not be made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/runtime/http.h"
#include "tests/sim/memory.h"

#include <poll.h>

typedef struct ended {
    bool done;
    stet_http_failure failure;
} ended;

static void on_data(void *context, const stet_http_data *data) {
    (void)context, (void)data;
}

static void on_done(void *context, const stet_http_result *result) {
    ended *self = context;
    self->done = true;
    self->failure = result->failure;
}

static void wait_for_end(stet_http *http, const ended *self) {
    while (!self->done) {
        struct pollfd p = {.fd = stet_http_fd(http), .events = POLLIN};
        int64_t wait_ms = stet_http_timeout_ms(http);
        (void)poll(&p, 1, wait_ms < 0 || wait_ms > 100 ? 100 : (int)wait_ms);
        stet_http_run(http);
    }
}

static void a_call_without_memory_was_not_made_and_may_be_made_again(void **state) {
    static char key[300];
    bool struck = true;
    uint64_t n = 0;
    stet_error e;
    stet_config *config = NULL;
    (void)state;
    memset(key, 'k', sizeof(key) - 1);
    const stet_http_header headers[] = {{"Content-Type", "application/json"}, {"Authorization", key}};
    /* Port 9 of this machine: nobody is there, so no call goes further than this. */
    const stet_http_request request = {.method = "POST",
                                       .url = "http://127.0.0.1:9/v1/chat/completions",
                                       .headers = headers,
                                       .headers_count = COUNT_OF(headers),
                                       .body = STET_STR("{}"),
                                       .stream = true};
    assert_int_equal(stet_config_load(NULL, &config, &e), STET_OK);
    for (; struck; n++) {
        ended end = {.done = false};
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1};
        stet_http *http = NULL;
        stet_http_callbacks callbacks = {.context = &end, .data = on_data, .done = on_done};
        assert_int_equal(stet_http_new(config, callbacks, &http, &e), STET_OK);
        memory_on(&fault);
        stet_code rc = stet_http_start(http, (stet_call_ref){.attempt = 1, .number = 1}, &request, &e);
        struck = memory_off();
        if (rc == STET_OK) {
            wait_for_end(http, &end);
            assert_int_equal(end.failure, STET_HTTP_CONNECT);
        } else {
            assert_true(stet_code_may_resend(rc));
        }
        http = stet_http_free(http);
    }
    assert_true(n > 4); /* else nothing was tried */
    config = stet_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_without_memory_was_not_made_and_may_be_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
