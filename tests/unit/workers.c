/* Goal: every piece of work taken gives one result, bounds hold, and free leaves nothing running. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <pthread.h>

#include <cmocka.h>

#include "actors/runtime/workers.h"

static stet_call_ref ref_of(uint32_t number) {
    return (stet_call_ref){.job_id = {{7}}, .attempt = 1, .number = number};
}

static stet_code copy(stet_str input, stet_buf *result, stet_error *e) {
    (void)e;
    stet_buf_append_str(result, input);
    return STET_OK;
}

static stet_code refuse(stet_str input, stet_buf *result, stet_error *e) {
    stet_buf_append_str(result, input);
    return stet_error_set(e, STET_INVALID, "cannot read the image");
}

static stet_code overflow(stet_str input, stet_buf *result, stet_error *e) {
    (void)input;
    (void)e;
    static const char block[64 * 1024];
    for (int i = 0; i < 129; i++)
        stet_buf_append(result, block, sizeof block);
    return STET_OK;
}

static stet_code signals_blocked(stet_str input, stet_buf *result, stet_error *e) {
    (void)input;
    (void)e;
    sigset_t set;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &set);
    stet_buf_append_byte(result, sigismember(&set, SIGTERM) ? 'y' : 'n');
    return STET_OK;
}

/* Passes a gate that the test holds: input is a pthread_mutex_t *. */
static stet_code pass_gate(stet_str input, stet_buf *result, stet_error *e) {
    (void)result;
    (void)e;
    pthread_mutex_t *gate;
    memcpy(&gate, input.data, sizeof gate);
    (void)pthread_mutex_lock(gate);
    (void)pthread_mutex_unlock(gate);
    return STET_OK;
}

static bool readable(const stet_workers *w, int timeout_ms) {
    struct pollfd p = {.fd = stet_workers_fd(w), .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

static stet_work_result wait_result(stet_workers *w) {
    stet_work_result r;
    for (;;) {
        assert_true(readable(w, 30000));
        if (stet_workers_next(w, &r))
            return r;
    }
}

static stet_workers *make(uint32_t threads, uint32_t pending_max) {
    stet_workers *w;
    stet_error e;
    if (stet_workers_new(threads, pending_max, &w, &e) != STET_OK)
        fail_msg("%s", e.message);
    return w;
}

static void every_piece_gives_its_own_result(void **state) {
    (void)state;
    stet_workers *w = make(3, 200);
    stet_error e;
    bool seen[200] = {false};
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(stet_workers_start(w, ref_of(i), copy, stet_str_from(&i, sizeof i), &e), STET_OK);
    assert_int_equal(stet_workers_pending(w), 200);
    for (uint32_t i = 0; i < 200; i++) {
        stet_work_result r = wait_result(w);
        uint32_t value;
        assert_int_equal(r.code, STET_OK);
        assert_int_equal(r.result.size, sizeof value);
        memcpy(&value, r.result.data, sizeof value);
        assert_int_equal(value, r.ref.number);
        assert_false(seen[value]);
        seen[value] = true;
        stet_work_result_done(&r);
    }
    assert_int_equal(stet_workers_pending(w), 0);
    stet_work_result none;
    assert_false(stet_workers_next(w, &none));
    assert_false(readable(w, 0));
    w = stet_workers_free(w);
    assert_null(w);
}

static void errors_and_overflow_come_back_without_a_result(void **state) {
    (void)state;
    stet_workers *w = make(1, 4);
    stet_error e;
    assert_int_equal(stet_workers_start(w, ref_of(1), refuse, STET_STR("x"), &e), STET_OK);
    stet_work_result r = wait_result(w);
    assert_int_equal(r.code, STET_INVALID);
    assert_string_equal(r.error.message, "cannot read the image");
    assert_int_equal(r.result.size, 0);
    stet_work_result_done(&r);
    assert_int_equal(stet_workers_start(w, ref_of(2), overflow, STET_STR(""), &e), STET_OK);
    r = wait_result(w);
    assert_int_equal(r.code, STET_TOO_LARGE);
    assert_int_equal(r.result.size, 0);
    stet_work_result_done(&r);
    stet_workers_free(w);
}

static void one_piece_too_many_is_busy(void **state) {
    (void)state;
    stet_workers *w = make(1, 2);
    stet_error e;
    assert_int_equal(stet_workers_start(w, ref_of(1), copy, STET_STR("a"), &e), STET_OK);
    assert_int_equal(stet_workers_start(w, ref_of(2), copy, STET_STR("b"), &e), STET_OK);
    assert_int_equal(stet_workers_start(w, ref_of(3), copy, STET_STR("c"), &e), STET_BUSY);
    stet_work_result r = wait_result(w);
    stet_work_result_done(&r);
    assert_int_equal(stet_workers_start(w, ref_of(3), copy, STET_STR("c"), &e), STET_OK);
    stet_workers_free(w);
}

static void free_waits_for_what_runs_and_drops_the_rest(void **state) {
    (void)state;
    stet_workers *w = make(1, 16);
    stet_error e;
    static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_t *address = &gate;
    (void)pthread_mutex_lock(&gate);
    for (uint32_t i = 0; i < 16; i++)
        assert_int_equal(
            stet_workers_start(w, ref_of(i), pass_gate, stet_str_from(&address, sizeof address), &e),
            STET_OK);
    (void)pthread_mutex_unlock(&gate);
    assert_null(stet_workers_free(w)); /* a thread left behind or a piece leaked shows under the sanitizers */
    assert_null(stet_workers_free(NULL));
}

static void workers_take_no_signals(void **state) {
    (void)state;
    stet_workers *w = make(1, 1);
    stet_error e;
    assert_int_equal(stet_workers_start(w, ref_of(1), signals_blocked, STET_STR(""), &e), STET_OK);
    stet_work_result r = wait_result(w);
    assert_int_equal(r.result.data[0], 'y');
    stet_work_result_done(&r);
    stet_workers_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_gives_its_own_result),
        cmocka_unit_test(errors_and_overflow_come_back_without_a_result),
        cmocka_unit_test(one_piece_too_many_is_busy),
        cmocka_unit_test(free_waits_for_what_runs_and_drops_the_rest),
        cmocka_unit_test(workers_take_no_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
