/* Tables for people. */
#include "proto/wire/mp.h"
#include "tools/stet/commands.h"
#include "tools/stet/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void columns_are_as_wide_as_their_widest_cell_in_characters(void **state) {
    (void)state;
    CLEANUP(table_done) table t = table_of((const char *const[]){"NAME", "N"}, 2);
    table_cell_c(&t, "\xC3\xA4\xC3\xB6\xC3\xBC"); /* three characters, six bytes */
    table_cell_c(&t, "1");
    table_cell_c(&t, "longer name");
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 16);
    table_print(&t, &b); /* the missing cell is filled up */
    assert_true(stet_str_is(stet_buf_str(&b), "NAME         N\n"
                                              "\xC3\xA4\xC3\xB6\xC3\xBC          1\n"
                                              "longer name  -\n"));
}

static void no_control_character_of_a_peer_reaches_the_terminal(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 16);
    table_clean(&b, STET_STR("a\x1b[2J\nb\xC2\x9B\x7F\xFF\0c"), 100);
    for (size_t i = 0; i < b.size; i++)
        assert_true(b.data[i] >= 0x20 && b.data[i] != 0x7F && b.data[i] < 0x80);
    assert_true(stet_str_is(stet_buf_str(&b), "a [2J b  ? c"));
}

/* Names in counts, the cursor, and what a cancel answers stood there as they came. */
static void no_answer_brings_a_control_character_to_the_terminal(void **state) {
    (void)state;
    static const struct {
        const char *command;
        stet_str body;
        const char *shown;
    } cases[] = {
        {"drafter.cancel", {"\x82\xa5jobId\xa4x\x1b[2\xa6status\xa1\n", 22}, "x [2  \n"},
        {"drafter.list",
         {"\x82\xa4jobs\x90\xa6"
          "cursor\xa2\x1b"
          "c",
          17},
         "no jobs\nmore: --cursor  c\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 16);
        assert_true(show_answer(cases[i].command, cases[i].body, &b));
        assert_true(stet_str_is(stet_buf_str(&b), cases[i].shown));
    }
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 16);
    assert_true(show_answer("drafter.queue",
                            STET_STR("\x81\xa6"
                                     "counts\x81\xa2\x1b[\x01"),
                            &b));
    assert_non_null(memmem(b.data, b.size, "Counts\n [ 1\n", 12));
}

static void long_text_is_cut_between_characters(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 16);
    table_clean(&b, STET_STR("\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC"), 3);
    assert_true(stet_str_is(stet_buf_str(&b), "\xE2\x82\xAC\xE2\x82\xAC\xE2\x80\xA6"));
    stet_buf_clear(&b);
    table_clean(&b, STET_STR("abc"), 3);
    assert_true(stet_str_is(stet_buf_str(&b), "abc"));
}

static void numbers_as_people_read_them(void **state) {
    (void)state;
    static const struct {
        uint64_t number;
        const char *bytes, *duration;
    } cases[] = {
        {0, "0B", "0ms"},           {999, "999B", "999ms"},    {1023, "1023B", "1s"},
        {1536, "1.5K", "1s"},       {61000, "60K", "1m01s"},   {3600000, "3.4M", "1h00m"},
        {90061000, "86M", "1d01h"}, {UINT64_MAX, "16E", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(64);
        table_put_bytes(&b, cases[i].number);
        assert_true(stet_str_is(stet_buf_str(&b), cases[i].bytes));
        stet_buf_clear(&b);
        table_put_duration(&b, cases[i].number);
        if (cases[i].duration != NULL)
            assert_true(stet_str_is(stet_buf_str(&b), cases[i].duration));
    }
}

static void rows_of_an_answer_become_a_table_and_missing_values_a_dash(void **state) {
    (void)state;
    static const view_column columns[] = {{"JOB", "jobId", VIEW_TEXT},
                                          {"ERROR", "error.message", VIEW_TEXT},
                                          {"P", "progress", VIEW_PERCENT},
                                          {.title = NULL}};
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(1 << 16), b = STET_BUF(1 << 16);
    stet_mp_array(&mp, 2);
    stet_mp_map(&mp, 2);
    stet_mp_put_cstr(&mp, "jobId", "j1");
    stet_mp_cstr(&mp, "error");
    stet_mp_map(&mp, 1);
    stet_mp_put_cstr(&mp, "message", "too bad");
    stet_mp_map(&mp, 2);
    stet_mp_put_cstr(&mp, "jobId", "j2");
    stet_mp_put_double(&mp, "progress", 0.456);
    view_table(stet_buf_str(&mp), columns, "none", &b);
    assert_true(stet_str_is(stet_buf_str(&b), "JOB  ERROR    P\n"
                                              "j1   too bad  -\n"
                                              "j2   -        46%\n"));
    stet_buf_clear(&b);
    view_table((stet_str){NULL, 0}, columns, "none", &b);
    assert_true(stet_str_is(stet_buf_str(&b), "none\n"));
}

static void table_has_a_limit(void **state) {
    (void)state;
    CLEANUP(table_done) table t = table_of((const char *const[]){"A"}, 1);
    for (int i = 0; i < TABLE_CELLS_MAX + 10; i++)
        table_cell_c(&t, "x");
    assert_int_equal(t.cells, TABLE_CELLS_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell_in_characters),
        cmocka_unit_test(no_control_character_of_a_peer_reaches_the_terminal),
        cmocka_unit_test(no_answer_brings_a_control_character_to_the_terminal),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(numbers_as_people_read_them),
        cmocka_unit_test(rows_of_an_answer_become_a_table_and_missing_values_a_dash),
        cmocka_unit_test(table_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
