/* Which addresses the broker accepts to listen on. */
#include "broker/endpoints.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void what_stays_on_this_machine_is_accepted(void **state) {
    (void)state;
    static const char *const good[] = {"tcp://127.0.0.1:5570", "tcp://127.1.2.3:1", "tcp://[::1]:5570",
                                       "tcp://127.0.0.1:*", "ipc:///run/stet/x.sock"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        broker_endpoints endpoints;
        stet_error error = {0};
        if (broker_endpoints_parse(good[i], "broker.listen", &endpoints, &error) != STET_OK)
            fail_msg("%s: %s", good[i], error.message);
        assert_int_equal(endpoints.count, 1);
        assert_string_equal(endpoints.items[0], good[i]);
    }
}

static void what_reaches_beyond_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"tcp://0.0.0.0:5570",
                                      "tcp://*:5570",
                                      "tcp://192.168.1.1:5570",
                                      "tcp://[::]:5570",
                                      "tcp://[::ffff:8.8.8.8]:1",
                                      "tcp://localhost:5570",
                                      "tcp://127.0.0.1.evil.example:1",
                                      "tcp://127.0.0.1",
                                      "tcp://127.0.0.1:",
                                      "tcp://127.0.0.1:70000",
                                      "tcp://127.0.0.1:55x",
                                      "tcp://eth0:5570",
                                      "tcp://",
                                      "ipc://@abstract",
                                      "ipc://relative",
                                      "ipc://*",
                                      "udp://127.0.0.1:5570",
                                      "inproc://x",
                                      "ws://127.0.0.1:80",
                                      "pgm://127.0.0.1:80",
                                      "nonsense"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        broker_endpoints endpoints;
        stet_error error = {0};
        if (broker_endpoints_parse(bad[i], "broker.listen", &endpoints, &error) != STET_INVALID)
            fail_msg("%s was accepted", bad[i]);
        assert_string_equal(error.field, "broker.listen");
    }
}

static void lists_are_split_and_bounded(void **state) {
    (void)state;
    broker_endpoints endpoints;
    stet_error error;
    assert_int_equal(broker_endpoints_parse("", "x", &endpoints, &error), STET_OK);
    assert_int_equal(endpoints.count, 0);
    assert_int_equal(broker_endpoints_parse(" ipc:///a , ,tcp://127.0.0.1:1,", "x", &endpoints, &error),
                     STET_OK);
    assert_int_equal(endpoints.count, 2);
    assert_string_equal(endpoints.items[0], "ipc:///a");
    assert_string_equal(endpoints.items[1], "tcp://127.0.0.1:1");
    assert_int_equal(broker_endpoints_parse(
                         "ipc:///1,ipc:///2,ipc:///3,ipc:///4,ipc:///5,ipc:///6,ipc:///7,ipc:///8,ipc:///9",
                         "x", &endpoints, &error),
                     STET_INVALID);
    char long_one[300] = "ipc:///";
    memset(long_one + 7, 'a', sizeof long_one - 8);
    assert_int_equal(broker_endpoints_parse(long_one, "x", &endpoints, &error), STET_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stays_on_this_machine_is_accepted),
        cmocka_unit_test(what_reaches_beyond_is_refused),
        cmocka_unit_test(lists_are_split_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
