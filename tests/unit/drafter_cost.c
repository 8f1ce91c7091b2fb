/* Money in whole micro-USD. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/drafter/cost.h"

static drafter_prices prices_of(const char *in, const char *cached, const char *out) {
    drafter_prices prices;
    stet_error e;
    assert_int_equal(drafter_prices_parse(in, cached, out, &prices, &e), STET_OK);
    return prices;
}

static void prices_are_read_exactly(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t micro;
    } rows[] = {{"0", 0}, {"0.40", 400000}, {"1.6", 1600000}, {"0.000001", 1}, {"9999.999999", 9999999999u}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint64_t micro = 77;
        stet_error e;
        assert_int_equal(drafter_price_parse(rows[i].text, "openai.priceIn", &micro, &e), STET_OK);
        assert_int_equal(micro, rows[i].micro);
    }
}

static void what_is_no_price_is_refused_with_the_setting(void **state) {
    (void)state;
    static const char *const texts[] = {"",    ".",     ".5",        "5.",    "-1", "1e3",
                                        "0,4", "10000", "0.0000001", "1.2.3", " 1"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        uint64_t micro;
        stet_error e;
        assert_int_equal(drafter_price_parse(texts[i], "openai.priceIn", &micro, &e), STET_INVALID);
        assert_string_equal(e.field, "openai.priceIn");
    }
}

static void cost_counts_cached_tokens_at_their_price(void **state) {
    (void)state;
    drafter_prices prices = prices_of("0.40", "0.10", "1.60");
    drafter_usage usage = {.known = true, .prompt = 1000000, .cached = 250000, .completion = 500000};
    uint64_t micro;
    assert_true(drafter_cost(&prices, &usage, &micro));
    assert_int_equal(micro, 300000 + 25000 + 800000);
}

static void an_empty_cached_price_is_the_prompt_price(void **state) {
    (void)state;
    drafter_prices prices = prices_of("0.40", "", "0");
    drafter_usage usage = {.known = true, .prompt = 100, .cached = 100};
    uint64_t micro;
    assert_true(drafter_cost(&prices, &usage, &micro));
    assert_int_equal(micro, 40);
}

static void cost_is_rounded_half_up(void **state) {
    (void)state;
    drafter_prices prices = prices_of("0.5", "", "0");
    uint64_t micro;
    assert_true(drafter_cost(&prices, &(drafter_usage){.known = true, .prompt = 1}, &micro));
    assert_int_equal(micro, 1);
    prices = prices_of("0.499999", "", "0");
    assert_true(drafter_cost(&prices, &(drafter_usage){.known = true, .prompt = 1}, &micro));
    assert_int_equal(micro, 0);
}

static void unknown_price_or_usage_is_unknown_cost_not_zero(void **state) {
    (void)state;
    uint64_t micro = 77;
    drafter_prices prices = prices_of("", "", "");
    assert_false(drafter_cost(&prices, &(drafter_usage){.known = true, .prompt = 1}, &micro));
    prices = prices_of("1", "", "");
    assert_false(drafter_cost(&prices, &(drafter_usage){.known = true, .prompt = 1}, &micro));
    prices = prices_of("1", "", "1");
    assert_false(drafter_cost(&prices, &(drafter_usage){.known = false}, &micro));
    assert_int_equal(micro, 77);
}

static void absurd_token_counts_give_no_cost_instead_of_an_overflow(void **state) {
    (void)state;
    uint64_t micro;
    drafter_prices prices = prices_of("9999.999999", "", "9999.999999");
    assert_false(drafter_cost(&prices, &(drafter_usage){.known = true, .prompt = UINT64_MAX}, &micro));
    assert_false(drafter_cost(&prices, &(drafter_usage){.known = true, .prompt = 1, .cached = 2}, &micro));
    assert_true(drafter_cost(
        &prices, &(drafter_usage){.known = true, .prompt = 500000000, .completion = 500000000}, &micro));
    assert_int_equal(micro, 9999999999000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prices_are_read_exactly),
        cmocka_unit_test(what_is_no_price_is_refused_with_the_setting),
        cmocka_unit_test(cost_counts_cached_tokens_at_their_price),
        cmocka_unit_test(an_empty_cached_price_is_the_prompt_price),
        cmocka_unit_test(cost_is_rounded_half_up),
        cmocka_unit_test(unknown_price_or_usage_is_unknown_cost_not_zero),
        cmocka_unit_test(absurd_token_counts_give_no_cost_instead_of_an_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
