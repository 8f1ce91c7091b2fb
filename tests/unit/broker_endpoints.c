/* Which addresses the broker accepts to listen on. */
#include "broker/endpoints.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static const broker_endpoints_rule no_keys = {"broker.listen", BROKER_CURVE_AUTO, false, false};
static const broker_endpoints_rule with_keys = {"broker.listen", BROKER_CURVE_AUTO, true, false};
static const broker_endpoints_rule always = {"broker.listen", BROKER_CURVE_ALWAYS, true, false};
static const broker_endpoints_rule never = {"broker.listen", BROKER_CURVE_NEVER, true, false};
static const broker_endpoints_rule actors = {"broker.actors", BROKER_CURVE_AUTO, true, true};

static broker_endpoints open_ones, keyed_ones;

static stet_code parse(const char *list, const broker_endpoints_rule *rule, stet_error *e) {
    open_ones = keyed_ones = (broker_endpoints){0};
    return broker_endpoints_parse(list, rule, &open_ones, &keyed_ones, e);
}

static void assert_refused(const char *list, const broker_endpoints_rule *rule) {
    stet_error error = {0};
    if (parse(list, rule, &error) != STET_INVALID)
        fail_msg("%s was accepted", list);
    assert_string_equal(error.field, rule->setting);
}

static void assert_goes_to(const char *endpoint, const broker_endpoints_rule *rule, bool keyed) {
    stet_error error = {0};
    if (parse(endpoint, rule, &error) != STET_OK)
        fail_msg("%s: %s", endpoint, error.message);
    const broker_endpoints *to = keyed ? &keyed_ones : &open_ones;
    assert_int_equal(open_ones.count + keyed_ones.count, 1);
    assert_int_equal(to->count, 1);
    assert_string_equal(to->items[0], endpoint);
}

static const char *const loopback[] = {"tcp://127.0.0.1:5570", "tcp://127.1.2.3:1", "tcp://[::1]:5570",
                                       "tcp://127.0.0.1:*"};
static const char *const beyond[] = {"tcp://0.0.0.0:5570", "tcp://*:5570", "tcp://192.168.1.1:5570",
                                     "tcp://[::]:5570", "tcp://[::ffff:127.0.0.1]:1"};

static void what_stays_on_this_machine_is_open_until_there_are_keys(void **state) {
    (void)state;
    assert_goes_to("ipc:///run/stet/x.sock", &no_keys, false);
    assert_goes_to("ipc:///run/stet/x.sock", &always, false);
    for (size_t i = 0; i < COUNT_OF(loopback); i++) {
        assert_goes_to(loopback[i], &no_keys, false);
        assert_goes_to(loopback[i], &never, false);
        assert_goes_to(loopback[i], &with_keys, true);
        assert_goes_to(loopback[i], &always, true);
    }
}

static void what_reaches_beyond_asks_for_keys_or_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(beyond); i++) {
        assert_refused(beyond[i], &no_keys);
        assert_refused(beyond[i], &never);
        assert_goes_to(beyond[i], &with_keys, true);
    }
}

static void actors_elsewhere_always_show_a_key(void **state) {
    (void)state;
    static const broker_endpoints_rule without = {"broker.actors", BROKER_CURVE_AUTO, false, true};
    static const broker_endpoints_rule forbidden = {"broker.actors", BROKER_CURVE_NEVER, true, true};
    assert_goes_to("tcp://127.0.0.1:1", &actors, true);
    assert_refused("tcp://127.0.0.1:1", &without);
    assert_refused("tcp://127.0.0.1:1", &forbidden);
    assert_refused("ipc:///x", &actors);
}

static void what_is_no_address_of_ours_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"tcp://localhost:5570",
                                      "tcp://127.0.0.1.evil.example:1",
                                      "tcp://127.0.0.1",
                                      "tcp://127.0.0.1:",
                                      "tcp://127.0.0.1:70000",
                                      "tcp://127.0.0.1:55x",
                                      "tcp://2130706433:1",
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
        assert_refused(bad[i], &no_keys);
        assert_refused(bad[i], &with_keys);
    }
}

static void lists_are_split_and_bounded(void **state) {
    (void)state;
    stet_error error;
    assert_int_equal(parse("", &no_keys, &error), STET_OK);
    assert_int_equal(open_ones.count + keyed_ones.count, 0);
    assert_int_equal(parse(" ipc:///a , ,tcp://127.0.0.1:1,", &no_keys, &error), STET_OK);
    assert_int_equal(open_ones.count, 2);
    assert_string_equal(open_ones.items[0], "ipc:///a");
    assert_string_equal(open_ones.items[1], "tcp://127.0.0.1:1");
    assert_int_equal(parse("ipc:///1,ipc:///2,ipc:///3,ipc:///4,ipc:///5,ipc:///6,ipc:///7,ipc:///8,ipc:///9",
                           &no_keys, &error),
                     STET_INVALID);
    char long_one[300] = "ipc:///";
    memset(long_one + 7, 'a', sizeof long_one - 8);
    assert_int_equal(parse(long_one, &no_keys, &error), STET_INVALID);
}

static void the_mode_is_one_of_three(void **state) {
    (void)state;
    stet_error error;
    broker_curve_mode mode = BROKER_CURVE_NEVER;
    assert_int_equal(broker_curve_mode_parse("auto", &mode, &error), STET_OK);
    assert_int_equal(mode, BROKER_CURVE_AUTO);
    assert_int_equal(broker_curve_mode_parse("off", &mode, &error), STET_INVALID);
    assert_string_equal(error.field, "broker.curve");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stays_on_this_machine_is_open_until_there_are_keys),
        cmocka_unit_test(what_reaches_beyond_asks_for_keys_or_is_refused),
        cmocka_unit_test(actors_elsewhere_always_show_a_key),
        cmocka_unit_test(what_is_no_address_of_ours_is_refused),
        cmocka_unit_test(lists_are_split_and_bounded),
        cmocka_unit_test(the_mode_is_one_of_three),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
