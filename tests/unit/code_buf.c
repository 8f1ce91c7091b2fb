/* Errors, buffers and random numbers: what everything else stands on. */
#include "proto/base/buf.h"
#include "proto/base/clock.h"
#include "proto/base/code.h"
#include "proto/base/prng.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void error_set_fills_code_and_message_and_clears_the_rest(void **state) {
    (void)state;
    stet_error e = {.retry_after_ms = 7, .field = "old", .details_size = 3};
    assert_int_equal(stet_error_set(&e, STET_BUSY, "queue of %d is full", 5), STET_BUSY);
    assert_int_equal(e.code, STET_BUSY);
    assert_string_equal(e.message, "queue of 5 is full");
    assert_string_equal(e.field, "");
    assert_int_equal(e.retry_after_ms, 0);
    assert_int_equal(e.details_size, 0);
    assert_int_equal(stet_error_field(&e, STET_INVALID, "items[2].id", "missing"), STET_INVALID);
    assert_string_equal(e.field, "items[2].id");
    assert_int_equal(stet_error_set(NULL, STET_TIMEOUT, "nobody listens"), STET_TIMEOUT);
}

static void error_may_be_wrapped_in_its_own_message(void **state) {
    (void)state;
    stet_error e;
    (void)stet_error_field(&e, STET_INVALID, "a.b", "too long");
    (void)stet_error_field(&e, e.code, e.field, "file x: %s", e.message);
    assert_string_equal(e.message, "file x: too long");
    assert_string_equal(e.field, "a.b");
}

static void long_message_is_cut_between_characters(void **state) {
    (void)state;
    char text[STET_ERROR_MESSAGE_MAX + 100];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    memcpy(text + STET_ERROR_MESSAGE_MAX - 3, "\xE2\x82\xAC", 3); /* the third byte does not fit */
    stet_error e;
    (void)stet_error_set(&e, STET_INVALID, "%s", text);
    assert_int_equal(strlen(e.message), STET_ERROR_MESSAGE_MAX - 3);
    memcpy(text + STET_ERROR_MESSAGE_MAX - 4,
           "\xE2\x82\xAC"
           "a",
           4); /* fits exactly */
    (void)stet_error_set(&e, STET_INVALID, "%s", text);
    assert_int_equal(strlen(e.message), STET_ERROR_MESSAGE_MAX - 1);
}

static void code_names_go_both_ways(void **state) {
    (void)state;
    for (int code = STET_OK; code < STET_CODES_COUNT; code++)
        assert_int_equal(stet_code_from_name(stet_str_of(stet_code_name((stet_code)code))), code);
    assert_int_equal(stet_code_from_name(STET_STR("from_the_future")), STET_INTERNAL);
    assert_true(stet_code_may_resend(STET_BUSY));
    assert_false(stet_code_may_resend(STET_INVALID));
    assert_string_equal(stet_code_advice(STET_OK), "");
    assert_true(strlen(stet_code_advice(STET_PAUSED)) > 0);
}

static void what_a_disk_refuses_for_now_is_not_taken_for_damage_or_configuration(void **state) {
    (void)state;
    static const int room[] = {ENOSPC, EDQUOT, EROFS}, again[] = {EIO, EMFILE, ENFILE, ENOMEM};
    for (size_t i = 0; i < COUNT_OF(room); i++)
        assert_int_equal(stet_code_of_disk(room[i], STET_INTERNAL), STET_UNAVAILABLE);
    for (size_t i = 0; i < COUNT_OF(again); i++)
        assert_int_equal(stet_code_of_disk(again[i], STET_INTERNAL), STET_BUSY);
    assert_int_equal(stet_code_of_disk(ENOENT, STET_INTERNAL), STET_INTERNAL);
    assert_int_equal(stet_code_of_disk(ENOTDIR, STET_INVALID), STET_INVALID);
}

static void buf_takes_exactly_its_limit(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4);
    stet_buf_append(&b, "abcd", 4);
    assert_true(stet_buf_ok(&b));
    stet_buf_append(&b, "", 0);
    assert_true(stet_buf_ok(&b));
    stet_buf_append_byte(&b, 'e');
    assert_false(stet_buf_ok(&b));
    assert_true(stet_str_is(stet_buf_str(&b), "abcd"));
    stet_buf_truncate(&b, 1);
    stet_buf_append(&b, "x", 1); /* still failed: a no-op */
    assert_int_equal(b.size, 1);
    stet_buf_clear(&b);
    stet_buf_append_str(&b, STET_STR("ok"));
    assert_true(stet_str_is(stet_buf_str(&b), "ok"));
}

static void buf_limit_near_size_max_does_not_overflow(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(SIZE_MAX);
    stet_buf_append(&b, "ab", 2);
    assert_null(stet_buf_extend(&b, SIZE_MAX - 1));
    assert_false(stet_buf_ok(&b));
}

static void buf_printf_of_any_length(void **state) {
    (void)state;
    for (int width = 250; width < 260; width++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(260);
        stet_buf_printf(&b, "%*d", width, 7);
        assert_true(stet_buf_ok(&b));
        assert_int_equal(b.size, width);
        assert_int_equal(b.data[width - 1], '7');
    }
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(8);
    stet_buf_printf(&b, "%s", "123456789");
    assert_false(stet_buf_ok(&b));
    assert_int_equal(b.size, 0);
}

static void buf_extend_of_nothing_is_not_null(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(16);
    assert_non_null(stet_buf_extend(&b, 0));
    memset(stet_buf_extend(&b, 16), 1, 16);
    assert_int_equal(b.size, 16);
    assert_null(stet_buf_extend(&b, 1));
}

static void prng_is_a_function_of_its_seed(void **state) {
    (void)state;
    stet_prng a = stet_prng_of(42), b = stet_prng_of(42), c = stet_prng_of(43);
    bool differs = false;
    for (int i = 0; i < 100; i++) {
        uint64_t x = stet_prng_next(&a);
        assert_int_equal(x, stet_prng_next(&b));
        differs |= x != stet_prng_next(&c);
    }
    assert_true(differs);
}

static void prng_below_reaches_every_value_and_no_other(void **state) {
    (void)state;
    stet_prng prng = stet_prng_of(1);
    bool seen[7] = {false};
    for (int i = 0; i < 1000; i++) {
        uint64_t x = stet_prng_below(&prng, 7);
        assert_true(x < 7);
        seen[x] = true;
    }
    for (size_t i = 0; i < COUNT_OF(seen); i++)
        assert_true(seen[i]);
    assert_int_equal(stet_prng_below(&prng, 1), 0);
}

static void clock_moves_and_seeds_differ(void **state) {
    (void)state;
    int64_t boot_ms = stet_clock_boot_ms();
    assert_true(boot_ms > 0);
    assert_true(stet_clock_boot_ms() >= boot_ms);
    assert_true(stet_clock_wall_ms() > INT64_C(1700000000000));
    assert_true(stet_clock_seed() != stet_clock_seed());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_set_fills_code_and_message_and_clears_the_rest),
        cmocka_unit_test(error_may_be_wrapped_in_its_own_message),
        cmocka_unit_test(long_message_is_cut_between_characters),
        cmocka_unit_test(code_names_go_both_ways),
        cmocka_unit_test(what_a_disk_refuses_for_now_is_not_taken_for_damage_or_configuration),
        cmocka_unit_test(buf_takes_exactly_its_limit),
        cmocka_unit_test(buf_limit_near_size_max_does_not_overflow),
        cmocka_unit_test(buf_printf_of_any_length),
        cmocka_unit_test(buf_extend_of_nothing_is_not_null),
        cmocka_unit_test(prng_is_a_function_of_its_seed),
        cmocka_unit_test(prng_below_reaches_every_value_and_no_other),
        cmocka_unit_test(clock_moves_and_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
