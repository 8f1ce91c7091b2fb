/* Goal: no address that is not meant is reachable under any spelling, and waits are read or refused, never
 * guessed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "actors/runtime/http_call.h"
#include "actors/runtime/http_rules.h"

static void addresses_are_told_apart_under_every_spelling(void **state) {
    static const struct {
        const char *text;
        stet_http_peer peer;
    } cases[] = {
        {"127.0.0.1", STET_HTTP_PEER_LOOPBACK},
        {"127.255.255.254", STET_HTTP_PEER_LOOPBACK},
        {"::1", STET_HTTP_PEER_LOOPBACK},
        {"::ffff:127.0.0.1", STET_HTTP_PEER_LOOPBACK},
        {"64:ff9b::7f00:1", STET_HTTP_PEER_LOOPBACK},
        {"0.0.0.0", STET_HTTP_PEER_LOCAL},
        {"10.0.0.0", STET_HTTP_PEER_LOCAL},
        {"10.255.255.255", STET_HTTP_PEER_LOCAL},
        {"100.64.0.1", STET_HTTP_PEER_LOCAL},
        {"169.254.169.254", STET_HTTP_PEER_LOCAL},
        {"172.16.0.1", STET_HTTP_PEER_LOCAL},
        {"172.31.255.255", STET_HTTP_PEER_LOCAL},
        {"192.168.0.1", STET_HTTP_PEER_LOCAL},
        {"198.19.0.1", STET_HTTP_PEER_LOCAL},
        {"224.0.0.1", STET_HTTP_PEER_LOCAL},
        {"255.255.255.255", STET_HTTP_PEER_LOCAL},
        {"::", STET_HTTP_PEER_LOCAL},
        {"::10.0.0.1", STET_HTTP_PEER_LOCAL},
        {"::ffff:10.0.0.1", STET_HTTP_PEER_LOCAL},
        {"2002:a00:1::", STET_HTTP_PEER_LOCAL},
        {"fe80::1", STET_HTTP_PEER_LOCAL},
        {"fc00::1", STET_HTTP_PEER_LOCAL},
        {"fd12::1", STET_HTTP_PEER_LOCAL},
        {"ff02::1", STET_HTTP_PEER_LOCAL},
        {"2001:db8::1", STET_HTTP_PEER_LOCAL},
        {"2001:0:1::", STET_HTTP_PEER_LOCAL},
        {"", STET_HTTP_PEER_LOCAL},
        {"/run/socket", STET_HTTP_PEER_LOCAL},
        {"9.255.255.255", STET_HTTP_PEER_PUBLIC},
        {"11.0.0.0", STET_HTTP_PEER_PUBLIC},
        {"100.63.255.255", STET_HTTP_PEER_PUBLIC},
        {"100.128.0.0", STET_HTTP_PEER_PUBLIC},
        {"172.15.255.255", STET_HTTP_PEER_PUBLIC},
        {"172.32.0.0", STET_HTTP_PEER_PUBLIC},
        {"223.255.255.255", STET_HTTP_PEER_PUBLIC},
        {"::ffff:8.8.8.8", STET_HTTP_PEER_PUBLIC},
        {"2606:4700::1", STET_HTTP_PEER_PUBLIC},
        {"2001:4860::1", STET_HTTP_PEER_PUBLIC},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (stet_http_peer_of_text(cases[i].text) != cases[i].peer)
            fail_msg("%s is taken for %d", cases[i].text, (int)stet_http_peer_of_text(cases[i].text));
}

static void only_names_and_literals_of_loopback_are_loopback(void **state) {
    (void)state;
    assert_true(stet_http_host_is_loopback("localhost"));
    assert_true(stet_http_host_is_loopback("LocalHost"));
    assert_true(stet_http_host_is_loopback("127.0.0.1"));
    assert_true(stet_http_host_is_loopback("[::1]"));
    assert_true(stet_http_host_is_loopback("::1"));
    assert_false(stet_http_host_is_loopback(""));
    assert_false(stet_http_host_is_loopback("["));
    assert_false(stet_http_host_is_loopback("localhost.example.com"));
    assert_false(stet_http_host_is_loopback("127.0.0.1.example.com"));
    assert_false(stet_http_host_is_loopback("[fe80::1]"));
    assert_false(stet_http_host_is_loopback("0000000000000000000000000000000000000000000000000000:1"));
}

static void methods_and_headers_carry_no_control_characters(void **state) {
    (void)state;
    assert_true(stet_http_method_valid("POST"));
    assert_true(stet_http_method_valid("ABCDEFGHIJKLMNOP"));
    assert_false(stet_http_method_valid("ABCDEFGHIJKLMNOPQ"));
    assert_false(stet_http_method_valid(""));
    assert_false(stet_http_method_valid("get"));
    assert_false(stet_http_method_valid("GET "));
    assert_true(stet_http_header_valid("X-A", "a\tb \xc3\xa4"));
    assert_true(stet_http_header_valid("X-A", ""));
    assert_false(stet_http_header_valid("", "a"));
    assert_false(stet_http_header_valid("X:A", "a"));
    assert_false(stet_http_header_valid("X-A", "a\nb"));
    assert_false(stet_http_header_valid("X-A", "a\rb"));
    assert_false(stet_http_header_valid("X-A", "a\x7f"));
}

static void header_lines_are_split_and_trimmed(void **state) {
    (void)state;
    stet_str name, value;
    assert_true(stet_http_header_split(STET_STR("Retry-After:  7 \r\n"), &name, &value));
    assert_true(stet_http_name_is(name, "retry-after"));
    assert_true(stet_str_is(value, "7"));
    assert_true(stet_http_header_split(STET_STR("X:\r\n"), &name, &value));
    assert_int_equal(value.size, 0);
    assert_false(stet_http_header_split(STET_STR("no colon\r\n"), &name, &value));
    assert_false(stet_http_header_split(STET_STR(": x\r\n"), &name, &value));
    assert_false(stet_http_header_split(STET_STR(""), &name, &value));
}

static void a_value_is_kept_up_to_its_first_control_character(void **state) {
    (void)state;
    call c = {.retry_after_ms = -1};
    stet_http_call_header(&c, STET_STR("x-request-id: req\r1\n"), 0);
    assert_string_equal(c.request_id, "req");
    stet_http_call_header(&c, STET_STR("Content-Type: a\x1b[2Jb\r\n"), 0);
    assert_string_equal(c.content_type, "a");
    stet_http_call_header(&c, STET_STR("Content-Type: text/plain; x=\xc3\xa4\r\n"), 0);
    assert_string_equal(c.content_type, "text/plain; x=\xc3\xa4");
}

static void waits_are_read_or_refused(void **state) {
    (void)state;
    const int64_t date = 784111777000; /* Sun, 06 Nov 1994 08:49:37 GMT */
    assert_int_equal(stet_http_retry_after(STET_STR("0"), 0), 0);
    assert_int_equal(stet_http_retry_after(STET_STR("7"), 0), 7000);
    assert_int_equal(stet_http_retry_after(STET_STR("1.5"), 0), 1500);
    assert_int_equal(stet_http_retry_after(STET_STR("0.6519"), 0), 651);
    assert_int_equal(stet_http_retry_after(STET_STR("99999999999999999999999"), 0),
                     STET_HTTP_RETRY_AFTER_MAX_MS);
    assert_int_equal(stet_http_retry_after(STET_STR("Sun, 06 Nov 1994 08:49:37 GMT"), date - 5000), 5000);
    assert_int_equal(stet_http_retry_after(STET_STR("Sun, 06 Nov 1994 08:49:37 GMT"), date + 5000), 0);
    assert_int_equal(stet_http_retry_after(STET_STR("Sun, 06 Nov 1994 08:49:37 GMT"), 0),
                     STET_HTTP_RETRY_AFTER_MAX_MS);
    assert_int_equal(stet_http_retry_after(STET_STR("Thu, 29 Feb 2024 00:00:00 GMT"), 1709164799000), 1000);
    static const char *const bad[] = {"",
                                      "-1",
                                      "soon",
                                      "7s",
                                      ".5",
                                      "1.2.3",
                                      "Sun, 06 Foo 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 08:49:37 CET",
                                      "Sun, 06 Nov 1994 24:49:37 GMT"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(stet_http_retry_after(stet_str_of(bad[i]), 0), -1);
    assert_int_equal(stet_http_retry_after_ms(STET_STR("250")), 250);
    assert_int_equal(stet_http_retry_after_ms(STET_STR("250.9")), 250);
    assert_int_equal(stet_http_retry_after_ms(STET_STR("x")), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_told_apart_under_every_spelling),
        cmocka_unit_test(only_names_and_literals_of_loopback_are_loopback),
        cmocka_unit_test(methods_and_headers_carry_no_control_characters),
        cmocka_unit_test(header_lines_are_split_and_trimmed),
        cmocka_unit_test(a_value_is_kept_up_to_its_first_control_character),
        cmocka_unit_test(waits_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
