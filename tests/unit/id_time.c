/* Ids that never go back and times that survive the trip through text. */
#include "proto/wire/id.h"
#include "proto/wire/rfc3339.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void ids_are_version_7_and_carry_the_time(void **state) {
    (void)state;
    stet_id_source source = stet_id_source_of(1);
    stet_id id = stet_id_next(&source, INT64_C(0x0123456789ab));
    char text[STET_ID_TEXT_SIZE];
    stet_id_text(id, text);
    assert_memory_equal(text, "01234567-89ab-7", 15);
    assert_non_null(strchr("89ab", text[19]));
    assert_false(stet_id_is_zero(id));
}

static void ids_only_grow_also_when_the_clock_goes_back(void **state) {
    (void)state;
    stet_id_source source = stet_id_source_of(2);
    stet_id last = {{0}};
    int64_t clock[] = {1000, 1000, 999, 5000, 1, -7, 5001, 5000, 0, INT64_C(1) << 46};
    for (size_t i = 0; i < COUNT_OF(clock); i++) {
        for (int n = 0; n < 6000; n++) { /* more than one millisecond's count holds */
            stet_id id = stet_id_next(&source, clock[i]);
            assert_true(memcmp(id.bytes, last.bytes, STET_ID_BYTES) > 0);
            last = id;
        }
    }
}

static void id_text_reads_back_in_either_case(void **state) {
    (void)state;
    stet_id_source source = stet_id_source_of(3);
    for (int i = 0; i < 100; i++) {
        stet_id id = stet_id_next(&source, 1700000000000 + i), again;
        char text[STET_ID_TEXT_SIZE];
        stet_id_text(id, text);
        assert_true(stet_id_parse(stet_str_of(text), &again));
        assert_true(stet_id_equal(id, again));
        for (char *c = text; *c; c++)
            if (*c >= 'a' && *c <= 'f')
                *c = (char)(*c - 'a' + 'A');
        assert_true(stet_id_parse(stet_str_of(text), &again));
        assert_true(stet_id_equal(id, again));
    }
}

static void what_is_no_uuid_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "0123456789abcdef0123456789abcdef",
                                      "01234567-89ab-7def-8123-456789abcde",
                                      "01234567-89ab-7def-8123-456789abcdef0",
                                      "01234567-89ab-7def-8123_456789abcdef",
                                      "01234567-89ab-7def-8123-456789abcdeg",
                                      "0123456-789ab-7def-8123-456789abcdef",
                                      "+1234567-89ab-7def-8123-456789abcdef"};
    stet_id id;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(stet_id_parse(stet_str_of(bad[i]), &id));
    assert_false(stet_id_from_bytes(STET_STR("123456789012345"), &id));
    assert_false(stet_id_from_bytes(STET_STR("12345678901234567"), &id));
    assert_true(stet_id_from_bytes(STET_STR("1234567890123456"), &id));
}

static void times_are_written_in_utc_with_milliseconds(void **state) {
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {1795646316123, "2026-11-25T22:38:36.123Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {-2203891200001, "1900-02-28T23:59:59.999Z"},
        {INT64_C(-62167219200000), "0000-01-01T00:00:00.000Z"},
        {INT64_C(253402300799999), "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[STET_RFC3339_SIZE];
        int64_t again;
        stet_rfc3339_text(rows[i].ms, text);
        assert_string_equal(text, rows[i].text);
        assert_true(stet_rfc3339_parse(stet_str_of(text), &again));
        assert_true(again == rows[i].ms);
    }
    char text[STET_RFC3339_SIZE];
    stet_rfc3339_text(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    stet_rfc3339_text(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000Z");
}

static void every_day_of_four_centuries_survives_the_trip(void **state) {
    (void)state;
    for (int64_t day = -80000; day < 80000; day++) {
        char text[STET_RFC3339_SIZE];
        int64_t ms = day * 86400000 + 43200000, again;
        stet_rfc3339_text(ms, text);
        assert_true(stet_rfc3339_parse(stet_str_of(text), &again));
        assert_true(again == ms);
    }
}

static void offsets_fractions_and_leap_seconds_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01t00:00:00z", 0},
        {"1970-01-01 00:00:00+00:00", 0},
        {"1970-01-01T01:30:00+01:30", 0},
        {"1969-12-31T16:00:00-08:00", 0},
        {"1970-01-01T00:00:00-00:00", 0},
        {"1970-01-01T00:00:00.5Z", 500},
        {"1970-01-01T00:00:00.0019999Z", 1},
        {"2024-02-29T12:00:00Z", 1709208000000},
        {"2016-12-31T23:59:60Z", 1483228799999},
        {"2017-01-01T08:59:60+09:00", 1483228799999},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int64_t ms;
        assert_true(stet_rfc3339_parse(stet_str_of(rows[i].text), &ms));
        assert_true(ms == rows[i].ms);
    }
}

static void what_is_no_date_time_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "2026-07-25",
                                      "2026-07-25T10:00:00",
                                      "2026-07-25T10:00Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "2026-04-31T00:00:00Z",
                                      "2026-07-00T00:00:00Z",
                                      "2026-07-25T24:00:00Z",
                                      "2026-07-25T10:60:00Z",
                                      "2026-07-25T10:00:61Z",
                                      "2026-07-25T10:00:60Z",
                                      "2026-07-25T10:00:00.Z",
                                      "2026-07-25T10:00:00+24:00",
                                      "2026-07-25T10:00:00+0100",
                                      "2026-07-25T10:00:00+01",
                                      "2026-07-25T10:00:00Zx",
                                      " 2026-07-25T10:00:00Z",
                                      "+026-07-25T10:00:00Z",
                                      "2026-7-25T10:00:00Z",
                                      "2026/07/25T10:00:00Z"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        int64_t ms;
        assert_false(stet_rfc3339_parse(stet_str_of(bad[i]), &ms));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_version_7_and_carry_the_time),
        cmocka_unit_test(ids_only_grow_also_when_the_clock_goes_back),
        cmocka_unit_test(id_text_reads_back_in_either_case),
        cmocka_unit_test(what_is_no_uuid_is_refused),
        cmocka_unit_test(times_are_written_in_utc_with_milliseconds),
        cmocka_unit_test(every_day_of_four_centuries_survives_the_trip),
        cmocka_unit_test(offsets_fractions_and_leap_seconds_are_read),
        cmocka_unit_test(what_is_no_date_time_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
