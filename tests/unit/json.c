/* JSON to MessagePack and back: nothing lost on the way, nothing wrong let in. */
#include "proto/wire/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const stet_json_style LINE = {0};

static stet_code to_mp(const char *json, size_t size, stet_buf *mp, stet_error *e) {
    char *own = malloc(size ? size : 1); /* without a NUL, so that a sanitizer sees a step too far */
    memcpy(own, json, size);
    stet_code rc = stet_json_to_mp(stet_str_from(own, size), STET_MP_LIMITS_BODY, mp, e);
    free(own);
    return rc;
}

static void assert_becomes(const char *json, const char *expected) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(1 << 20);
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(1 << 20);
    stet_error e = {.message = ""};
    stet_code rc = to_mp(json, strlen(json), &mp, &e);
    if (rc != STET_OK)
        print_error("%s: %s\n", json, e.message);
    assert_int_equal(rc, STET_OK);
    assert_int_equal(stet_mp_check(stet_buf_str(&mp), STET_MP_LIMITS_BODY, NULL), STET_OK);
    assert_int_equal(stet_mp_to_json(stet_buf_str(&mp), LINE, &text, &e), STET_OK);
    stet_buf_append_byte(&text, 0);
    assert_string_equal((char *)text.data, expected);
}

static void assert_refused_bytes(const char *json, size_t size, const char *reason) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(1 << 20);
    stet_buf_append_byte(&mp, 0xc0);
    stet_error e = {.message = ""};
    assert_int_equal(to_mp(json, size, &mp, &e), STET_INVALID);
    if (strstr(e.message, reason) == NULL)
        print_error("%s: %s\n", json, e.message);
    assert_non_null(strstr(e.message, reason));
    assert_int_equal(mp.size, 1); /* what was written is taken back */
}

static void assert_refused(const char *json, const char *reason) {
    assert_refused_bytes(json, strlen(json), reason);
}

static void values_come_back_as_they_went(void **state) {
    (void)state;
    static const char *const same[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "\"\"",
        "[]",
        "{}",
        "[[],{},[[]]]",
        "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"e\"}",
        "{\"\":1}",
        "\"grüße 🎉 \\\" \\\\ / \\b\\f\\n\\r\\t\\u0000\\u001f\\u007f\"",
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]",
    };
    for (size_t i = 0; i < COUNT_OF(same); i++)
        assert_becomes(same[i], same[i]);
    assert_becomes(" \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } } \n", "{\"a\":[1,2],\"b\":{}}");
}

static void integers_are_exact_over_the_whole_64_bits(void **state) {
    (void)state;
    static const char *const same[] = {"9007199254740993",     "9223372036854775807",  "9223372036854775808",
                                       "18446744073709551615", "-9223372036854775807", "-9223372036854775808",
                                       "-9007199254740993"};
    for (size_t i = 0; i < COUNT_OF(same); i++)
        assert_becomes(same[i], same[i]);
    assert_becomes("-0", "0");
    assert_refused("18446744073709551616", "64 bits");
    assert_refused("-9223372036854775809", "64 bits");
    assert_refused("100000000000000000000", "64 bits");
}

static void doubles_take_the_shortest_text_that_reads_back(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"0.1", "0.1"},
        {"1.0", "1.0"},
        {"1e0", "1.0"},
        {"1E+2", "100.0"},
        {"-0.0", "-0.0"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"5e-324", "5e-324"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"2.2250738585072014e-308", "2.2250738585072014e-308"},
        {"1e21", "1e+21"},
        {"123456789.5", "123456789.5"},
        {"1e-7", "1e-07"},
        {"9007199254740993.0", "9007199254740992.0"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_becomes(rows[i][0], rows[i][1]);
    assert_refused("1e999", "too large");
    assert_refused("-1e999", "too large");
}

static void every_double_survives_the_trip(void **state) {
    (void)state;
    stet_prng p = stet_prng_of(11);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = stet_prng_next(&p);
        if (i % 4 == 0) /* subnormal */
            bits &= UINT64_C(0x800fffffffffffff);
        double value, again;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(64);
        CLEANUP(stet_buf_done) stet_buf text = STET_BUF(64);
        CLEANUP(stet_buf_done) stet_buf back = STET_BUF(64);
        stet_mp_double(&mp, value);
        assert_int_equal(stet_mp_to_json(stet_buf_str(&mp), LINE, &text, NULL), STET_OK);
        assert_int_equal(stet_json_to_mp(stet_buf_str(&text), STET_MP_LIMITS_BODY, &back, NULL), STET_OK);
        stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&back));
        again = stet_mp_read_double(&r);
        assert_memory_equal(&value, &again, sizeof value);
    }
}

static void not_a_number_and_infinity_become_null(void **state) {
    (void)state;
    static const double odd[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(64);
        CLEANUP(stet_buf_done) stet_buf text = STET_BUF(64);
        stet_mp_double(&mp, odd[i]);
        assert_int_equal(stet_mp_to_json(stet_buf_str(&mp), LINE, &text, NULL), STET_OK);
        assert_true(stet_str_is(stet_buf_str(&text), "null"));
    }
}

static void numbers_outside_of_the_grammar_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"01",   "-",        "+1",        "1.",  ".5",   "1e",  "1e+",
                                      "0x10", "1_000",    "00",        "-01", "1.e5", "--1", "1e5.5",
                                      "NaN",  "Infinity", "-Infinity", "1,",  "١"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_refused(bad[i], "JSON line 1");
}

static void escapes_and_surrogates_are_decoded(void **state) {
    (void)state;
    assert_becomes("\"\\u0041\\u00e9\\u20ac\\ud83c\\udf89\\/\"", "\"Aé€🎉/\"");
    assert_becomes("{\"\\u0061\":1}", "{\"a\":1}");
    assert_refused("\"\\ud83c\"", "surrogate");
    assert_refused("\"\\ud83cx\"", "surrogate");
    assert_refused("\"\\udf89\"", "surrogate");
    assert_refused("\"\\ud83c\\u0041\"", "surrogate");
    assert_refused("\"\\ud83c\\ud83c\"", "surrogate");
    assert_refused("\"\\u00g0\"", "hexadecimal");
    assert_refused("\"\\u00", "too early");
    assert_refused("\"\\x41\"", "escape");
    assert_refused("\"\\", "too early");
    assert_refused("\"a\nb\"", "control");
    assert_refused("\"a", "too early");
    assert_refused_bytes("\"\0\"", 3, "control");
    assert_refused_bytes("1\0", 2, "text follows");
    assert_refused_bytes("\0", 1, "expected");
}

static void text_that_is_not_utf8_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"\"\xc0\x80\"",
                                      "\"\xc1\xbf\"",
                                      "\"\xe0\x80\x80\"",
                                      "\"\xe0\x9f\xbf\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xed\xbf\xbf\"",
                                      "\"\xf0\x80\x80\x80\"",
                                      "\"\xf0\x8f\xbf\xbf\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xf5\x80\x80\x80\"",
                                      "\"\xff\"",
                                      "\"\x80\"",
                                      "\"\xe2\x82\"",
                                      "\"\xe2\x82"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_refused(bad[i], "UTF-8");
    assert_refused("[\"é\",\n \"é\xff\"]", "line 2 column 4");
    assert_becomes("\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"",
                   "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"");
}

static void structure_errors_name_line_and_column(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"", "too early"},
        {"   ", "too early"},
        {"[1,", "too early"},
        {"[1,]", "line 1 column 4: a value"},
        {"[,1]", "line 1 column 2: a value"},
        {"[1 2]", "line 1 column 4: a comma or ]"},
        {"{\"a\":1 \"b\":2}", "a comma or }"},
        {"{\"a\":1,}", "line 1 column 8: a key"},
        {"{\"a\" 1}", "a colon"},
        {"{\"a\"}", "a colon"},
        {"{a:1}", "a key in double quotes"},
        {"{'a':1}", "a key in double quotes"},
        {"{1:2}", "a key in double quotes"},
        {"[1}", "a comma or ]"},
        {"{\"a\":1]", "a comma or }"},
        {"]", "a value"},
        {"1 2", "line 1 column 3: text follows"},
        {"{} x", "text follows"},
        {"{}{}", "text follows"},
        {"nul", "a value"},
        {"True", "a value"},
        {"nulll", "text follows"},
        {"// c\n1", "a value"},
        {"{\n  \"a\": 1,\n  \"ü\": x\n}", "line 3 column 8: a value"},
        {"\xef\xbb\xbf{}", "a value"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_refused(rows[i][0], rows[i][1]);
}

static void repeated_keys_are_refused_in_objects_of_every_size(void **state) {
    (void)state;
    assert_refused("{\"a\":1,\"a\":2}", "line 1 column 8: the same key twice");
    assert_refused("{\"a\":1,\"\\u0061\":2}", "the same key twice");
    assert_refused("{\"a\":{\"b\":1},\"a\":2}", "the same key twice");
    assert_refused("[{\"x\":{\"b\":1,\"b\":1}}]", "the same key twice");
    assert_becomes("{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}",
                   "{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}");
    static const int sizes[] = {31, 32, 33, 34, 64, 65, 500};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (int repeat = 0; repeat <= 1; repeat++) {
            CLEANUP(stet_buf_done) stet_buf json = STET_BUF(1 << 20);
            CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(1 << 20);
            stet_buf_printf(&json, "[{");
            for (int n = 0; n < sizes[i]; n++)
                stet_buf_printf(&json, "%s\"key%d\":{\"key0\":[%d]}", n ? "," : "",
                                repeat && n == sizes[i] - 1 ? sizes[i] / 2 - 1 : n, n);
            stet_buf_printf(&json, "}]");
            stet_code rc = stet_json_to_mp(stet_buf_str(&json), STET_MP_LIMITS_BODY, &mp, NULL);
            assert_int_equal(rc, repeat ? STET_INVALID : STET_OK);
            if (!repeat)
                assert_int_equal(stet_mp_check(stet_buf_str(&mp), STET_MP_LIMITS_BODY, NULL), STET_OK);
        }
    }
}

static void depth_and_count_are_bounded(void **state) {
    (void)state;
    enum { BOMB = 1 << 18 };
    char *bomb = malloc(BOMB);
    memset(bomb, '[', BOMB);
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(1 << 20);
    stet_error e;
    assert_int_equal(stet_json_to_mp(stet_str_from(bomb, BOMB), STET_MP_LIMITS_BODY, &mp, &e), STET_INVALID);
    assert_non_null(strstr(e.message, "column 17: nested too deep"));
    free(bomb);
    stet_mp_limits five = {.depth_max = 2, .nodes_max = 5};
    assert_int_equal(stet_json_to_mp(STET_STR("{\"a\":[1,2]}"), five, &mp, &e), STET_OK);
    assert_int_equal(stet_json_to_mp(STET_STR("{\"a\":[1,2,3]}"), five, &mp, &e), STET_INVALID);
    assert_non_null(strstr(e.message, "too many"));
}

static void what_does_not_fit_is_too_large(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(8);
    stet_error e;
    assert_int_equal(stet_json_to_mp(STET_STR("[\"0123456789\",{\"a\":[1]}]"), STET_MP_LIMITS_BODY, &mp, &e),
                     STET_TOO_LARGE);
    stet_buf_clear(&mp);
    assert_int_equal(stet_mp_to_json(STET_STR("\xa8"
                                              "01234567"),
                                     LINE, &mp, &e),
                     STET_TOO_LARGE);
}

static void binary_is_shown_in_base64_or_as_a_uuid(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        stet_json_style style;
        const char *expected;
    } rows[] = {
        {"", 0, {0}, "{\"$bin\":\"\"}"},
        {"f", 1, {0}, "{\"$bin\":\"Zg==\"}"},
        {"fo", 2, {0}, "{\"$bin\":\"Zm8=\"}"},
        {"foo", 3, {0}, "{\"$bin\":\"Zm9v\"}"},
        {"\xff\xfe\xfd\xfc", 4, {0}, "{\"$bin\":\"//79/A==\"}"},
        {"0123456789abcdef", 16, {.ids = true}, "\"30313233-3435-3637-3839-616263646566\""},
        {"0123456789abcdef", 16, {0}, "{\"$bin\":\"MDEyMzQ1Njc4OWFiY2RlZg==\"}"},
        {"0123456789abcde", 15, {.ids = true}, "{\"$bin\":\"MDEyMzQ1Njc4OWFiY2Rl\"}"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(64);
        CLEANUP(stet_buf_done) stet_buf text = STET_BUF(256);
        stet_mp_bin(&mp, rows[i].bytes, rows[i].size);
        assert_int_equal(stet_mp_to_json(stet_buf_str(&mp), rows[i].style, &text, NULL), STET_OK);
        stet_buf_append_byte(&text, 0);
        assert_string_equal((char *)text.data, rows[i].expected);
    }
}

static void indented_text_is_the_same_value(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(1024);
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(1024);
    CLEANUP(stet_buf_done) stet_buf again = STET_BUF(1024);
    stet_str json = STET_STR("{\"a\":[1,[],{}],\"b\":\"[\",\"c\":{\"d\":null}}");
    assert_int_equal(stet_json_to_mp(json, STET_MP_LIMITS_BODY, &mp, NULL), STET_OK);
    assert_int_equal(stet_mp_to_json(stet_buf_str(&mp), (stet_json_style){.indent = 2}, &text, NULL),
                     STET_OK);
    stet_buf_append_byte(&text, 0);
    assert_string_equal((char *)text.data,
                        "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ],\n  \"b\": \"[\",\n  \"c\": {\n"
                        "    \"d\": null\n  }\n}");
    stet_buf_truncate(&text, text.size - 1);
    assert_int_equal(stet_json_to_mp(stet_buf_str(&text), STET_MP_LIMITS_BODY, &again, NULL), STET_OK);
    assert_true(stet_str_equal(stet_buf_str(&mp), stet_buf_str(&again)));
}

static void bytes_that_are_not_messagepack_are_refused(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(1024);
    assert_int_equal(stet_mp_to_json(STET_STR("\xc1"), LINE, &text, NULL), STET_INVALID);
    assert_int_equal(stet_mp_to_json(STET_STR("\x92\x01"), LINE, &text, NULL), STET_INVALID);
    assert_int_equal(stet_mp_to_json((stet_str){NULL, 0}, LINE, &text, NULL), STET_INVALID);
}

static void quoting_replaces_what_is_not_utf8(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(1024);
    stet_json_quote(&text, STET_STR("a\"\xff\xc3\xa9\xc3(\xe2\x82\x01 end of it\x80"));
    stet_buf_append_byte(&text, 0);
    assert_string_equal((char *)text.data,
                        "\"a\\\"\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\\u0001 end of "
                        "it\xef\xbf\xbd\"");
    stet_buf_clear(&text);
    stet_json_quote(&text, (stet_str){NULL, 0});
    assert_true(stet_str_is(stet_buf_str(&text), "\"\""));
}

static void utf8_is_cut_between_characters(void **state) {
    (void)state;
    stet_str text = STET_STR("aé€🎉");
    static const size_t cuts[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
    for (size_t max = 0; max < COUNT_OF(cuts); max++)
        assert_int_equal(stet_utf8_cut(text, max), cuts[max]);
    assert_int_equal(stet_utf8_cut(STET_STR("\x80\x80\x80\x80\x80\x80"), 5), 2); /* broken: cut anywhere */
    assert_int_equal(stet_utf8_cut((stet_str){NULL, 0}, 5), 0);
}

static void a_map_in_a_bin_is_shown_when_asked_for(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf inner = STET_BUF(64), mp = STET_BUF(64), json = STET_BUF(256);
    stet_mp_map(&inner, 1);
    stet_mp_put_uint(&inner, "n", 7);
    stet_mp_array(&mp, 2);
    stet_mp_bin(&mp, inner.data, inner.size);
    stet_mp_bin(&mp, "\x81", 1); /* looks like a map and is none */
    stet_json_style style = {.nested = true};
    assert_int_equal(stet_mp_to_json(stet_buf_str(&mp), style, &json, NULL), STET_OK);
    stet_buf_append_byte(&json, 0);
    assert_string_equal((const char *)json.data, "[{\"$mp\":{\"n\":7}},{\"$bin\":\"gQ==\"}]");
}

int main(void) {
    /* Any locale with a decimal comma shows a wrong point; without one installed the tests still run in "C".
     */
    static const char *const comma[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"};
    for (size_t i = 0; i < COUNT_OF(comma) && !setlocale(LC_ALL, comma[i]); i++)
        ;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_in_a_bin_is_shown_when_asked_for),
        cmocka_unit_test(values_come_back_as_they_went),
        cmocka_unit_test(integers_are_exact_over_the_whole_64_bits),
        cmocka_unit_test(doubles_take_the_shortest_text_that_reads_back),
        cmocka_unit_test(every_double_survives_the_trip),
        cmocka_unit_test(not_a_number_and_infinity_become_null),
        cmocka_unit_test(numbers_outside_of_the_grammar_are_refused),
        cmocka_unit_test(escapes_and_surrogates_are_decoded),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
        cmocka_unit_test(structure_errors_name_line_and_column),
        cmocka_unit_test(repeated_keys_are_refused_in_objects_of_every_size),
        cmocka_unit_test(depth_and_count_are_bounded),
        cmocka_unit_test(what_does_not_fit_is_too_large),
        cmocka_unit_test(binary_is_shown_in_base64_or_as_a_uuid),
        cmocka_unit_test(indented_text_is_the_same_value),
        cmocka_unit_test(bytes_that_are_not_messagepack_are_refused),
        cmocka_unit_test(quoting_replaces_what_is_not_utf8),
        cmocka_unit_test(utf8_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
