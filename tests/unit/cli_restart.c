/* When the supervisor starts a process again. Exit statuses are made as wait() encodes them. */
#include "proto/base/exit_codes.h"
#include "tools/stet/restart.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>

enum { DELAY_MAX_MS = 5000 };

static int exited(int code) {
    return code << 8;
}

static void delay_doubles_to_its_limit(void **state) {
    (void)state;
    const int64_t delays[] = {100, 200, 400, 800};
    int64_t now_ms = 0;
    restart r = restart_of(now_ms, DELAY_MAX_MS);
    assert_int_equal(r.due_ms, 0);
    for (size_t i = 0; i < COUNT_OF(delays); i++) {
        restart_started(&r, now_ms);
        assert_int_equal(r.state, RESTART_RUNNING);
        assert_int_equal(restart_wake_ms(&r), INT64_MAX);
        restart_ended(&r, now_ms, exited(1));
        assert_int_equal(r.state, RESTART_BACKOFF);
        assert_int_equal(r.due_ms - now_ms, delays[i]);
        assert_int_equal(r.restarts, i + 1);
        now_ms = r.due_ms;
    }
}

static void slow_crashes_double_up_to_five_seconds_and_no_further(void **state) {
    (void)state;
    int64_t now_ms = 0;
    restart r = restart_of(now_ms, DELAY_MAX_MS);
    int64_t delay_ms = 0;
    for (int i = 0; i < 20;
         i++) { /* alive for 9 s each: never five ends within a minute once delays are long */
        restart_started(&r, now_ms);
        now_ms += 9000 + 7000;
        r.started_ms = now_ms - 9000;
        restart_ended(&r, now_ms, exited(1));
        delay_ms = r.due_ms - now_ms;
        assert_true(delay_ms <= DELAY_MAX_MS);
        now_ms = r.due_ms;
    }
    assert_int_equal(delay_ms, DELAY_MAX_MS);
}

static void ten_seconds_alive_forget_the_delay(void **state) {
    (void)state;
    restart r = restart_of(0, DELAY_MAX_MS);
    for (int i = 0; i < 3; i++) {
        restart_started(&r, 0);
        restart_ended(&r, 0, exited(1));
    }
    assert_int_equal(r.due_ms, 400);
    restart_started(&r, 400);
    restart_ended(&r, 400 + RESTART_SETTLED_MS, exited(1));
    assert_int_equal(r.due_ms, 400 + RESTART_SETTLED_MS + 100);
}

static void five_ends_in_a_minute_are_a_crash_loop_that_goes_on_every_five_seconds(void **state) {
    (void)state;
    int64_t now_ms = 1000;
    restart r = restart_of(now_ms, DELAY_MAX_MS);
    for (int i = 0; i < RESTART_LOOP_ENDS; i++) {
        assert_int_not_equal(r.state, RESTART_CRASH_LOOP);
        restart_started(&r, now_ms);
        restart_ended(&r, now_ms, SIGSEGV);
        now_ms = r.due_ms;
    }
    assert_int_equal(r.state, RESTART_CRASH_LOOP);
    assert_non_null(strstr(r.reason, "signal 11"));
    restart_started(&r, now_ms);
    assert_int_equal(r.state, RESTART_CRASH_LOOP); /* shown until it has proved itself */
    restart_ended(&r, now_ms + 10, SIGSEGV);
    assert_int_equal(r.due_ms, now_ms + 10 + DELAY_MAX_MS);
    restart_started(&r, r.due_ms);
    int64_t settled_ms = restart_wake_ms(&r);
    assert_false(restart_settle(&r, settled_ms - 1));
    assert_true(restart_settle(&r, settled_ms));
    assert_int_equal(r.state, RESTART_RUNNING);
    assert_string_equal(r.reason, "");
    restart_ended(&r, settled_ms, SIGSEGV);
    assert_int_equal(r.state, RESTART_BACKOFF); /* the ends before count no more */
}

static void five_ends_in_more_than_a_minute_are_none(void **state) {
    (void)state;
    int64_t now_ms = 0;
    restart r = restart_of(now_ms, DELAY_MAX_MS);
    for (int i = 0; i < 10; i++) {
        restart_started(&r, now_ms);
        restart_ended(&r, now_ms + RESTART_LOOP_WINDOW_MS / 4, exited(1));
        assert_int_equal(r.state, RESTART_BACKOFF);
        now_ms = r.due_ms;
    }
}

static void what_no_restart_can_cure_is_not_restarted(void **state) {
    (void)state;
    const int codes[] = {STET_EXIT_USAGE, STET_EXIT_DAMAGED, STET_EXIT_CONFIG};
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        restart r = restart_of(0, DELAY_MAX_MS);
        restart_started(&r, 0);
        restart_ended(&r, 0, exited(codes[i]));
        assert_int_equal(r.state, RESTART_FAILED);
        assert_int_equal(restart_wake_ms(&r), INT64_MAX);
        assert_true(strlen(r.reason) > 10);
    }
    const int curable[] = {STET_EXIT_OK,    1, STET_EXIT_INTERNAL, STET_EXIT_STORE, STET_EXIT_LOCKED,
                           STET_EXIT_FENCED};
    for (size_t i = 0; i < COUNT_OF(curable); i++) {
        restart r = restart_of(0, DELAY_MAX_MS);
        restart_started(&r, 0);
        restart_ended(&r, 0, exited(curable[i]));
        assert_int_equal(r.state, RESTART_BACKOFF);
    }
}

static void postponed_start_counts_no_end(void **state) {
    (void)state;
    restart r = restart_of(0, DELAY_MAX_MS);
    for (int i = 0; i < 100; i++)
        restart_postponed(&r, 50, "waiting");
    assert_int_equal(r.restarts, 0);
    assert_int_equal(r.state, RESTART_STARTING);
    assert_int_equal(restart_wake_ms(&r), 50);
    assert_string_equal(r.reason, "waiting");
    restart_started(&r, 50);
    assert_string_equal(r.reason, "");
    restart_ended(&r, 60, exited(1));
    restart_refused(&r, 160, "cannot run it");
    assert_int_equal(r.restarts, 2);
    assert_string_equal(r.reason, "cannot run it");
    assert_int_equal(r.due_ms, 360);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delay_doubles_to_its_limit),
        cmocka_unit_test(slow_crashes_double_up_to_five_seconds_and_no_further),
        cmocka_unit_test(ten_seconds_alive_forget_the_delay),
        cmocka_unit_test(five_ends_in_a_minute_are_a_crash_loop_that_goes_on_every_five_seconds),
        cmocka_unit_test(five_ends_in_more_than_a_minute_are_none),
        cmocka_unit_test(what_no_restart_can_cure_is_not_restarted),
        cmocka_unit_test(postponed_start_counts_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
