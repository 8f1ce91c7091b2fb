/* The command line: parsing and what is derived from the table. */
#include "tools/stet/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int nothing(stet_cli *cli, const args *a) {
    (void)cli;
    (void)a;
    return 0;
}

static const args_row globals[] = {
    {"--data", "DIR", ARGS_FILE, NULL, "where"},
    {"--json", NULL, ARGS_FLAG, NULL, "json"},
    {"--help", NULL, ARGS_FLAG, NULL, "help"},
    {"--version", NULL, ARGS_FLAG, NULL, "version"},
    {.name = NULL},
};
static const args_row drain_rows[] = {
    {"--limit", "N", ARGS_COUNT, "limit", "how many"},
    {"--base", "N", ARGS_NUMBER, NULL, "base"},
    {"--timeout", "S", ARGS_SECONDS, NULL, "seconds"},
    {"--now", NULL, ARGS_FLAG, NULL, "now"},
    {.name = NULL},
};
static const args_row put_rows[] = {
    {"PROJECT", "required", ARGS_TEXT, "projectId", "which"},
    {"FILE", NULL, ARGS_FILE, NULL, "file"},
    {"--version", "N", ARGS_COUNT, "version", "version"},
    {.name = NULL},
};
static const args_command commands[] = {
    {"drain", "Drain", drain_rows, "drafter.drain", nothing, NULL, "stet drain"},
    {"doc get", "Get", put_rows, NULL, nothing, NULL, NULL},
    {"doc put", "Put", put_rows, NULL, nothing, NULL, NULL},
    {.name = NULL},
};

enum { WORDS_MAX = 16 };
static args parsed;
static stet_error error;

static stet_code parse(const char *line) {
    static char text[512];
    char *words[WORDS_MAX] = {(char *)(uintptr_t) "stet"};
    int count = 1;
    assert_true(strlen(line) < sizeof text);
    memcpy(text, line, strlen(line) + 1);
    for (char *at = text; *at != '\0' && count < WORDS_MAX;) {
        words[count++] = at;
        at += strcspn(at, " ");
        if (*at != '\0')
            *at++ = '\0';
    }
    memset(&error, 0, sizeof error);
    return args_parse(commands, globals, count, words, &parsed, &error);
}

static void options_may_stand_anywhere_with_space_or_equals(void **state) {
    (void)state;
    const char *const lines[] = {"--data /x drain --limit 5", "drain --limit=5 --data=/x",
                                 "drain --data /x --limit 5"};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        assert_int_equal(parse(lines[i]), STET_OK);
        assert_string_equal(parsed.command->name, "drain");
        assert_string_equal(args_get(&parsed, "--data"), "/x");
        assert_int_equal(args_number(&parsed, "--limit", 3), 5);
        assert_false(args_has(&parsed, "--json"));
        assert_false(args_has(&parsed, "--now"));
    }
    assert_int_equal(parse("drain"), STET_OK);
    assert_int_equal(args_number(&parsed, "--limit", 3), 3);
}

static void count_refuses_zero_negative_and_what_is_no_number(void **state) {
    (void)state;
    const char *const wrong[] = {
        "0", "-1", "x", "5x", "1.5", "", "+3", "0x10", "99999999999999999999", "9223372036854775808"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        char line[64] = "drain --limit=";
        size_t size = strlen(line);
        memcpy(line + size, wrong[i], strlen(wrong[i]) + 1);
        assert_int_equal(parse(line), STET_INVALID);
        assert_non_null(strstr(error.message, "--limit must be a whole number of at least 1"));
    }
    assert_int_equal(parse("drain --limit -5"), STET_INVALID);
    assert_int_equal(parse("drain --base 0"), STET_OK);
    assert_int_equal(parse("drain --base -1"), STET_INVALID);
    assert_int_equal(parse("drain --limit 9223372036854775807"), STET_OK);
}

static void seconds_become_milliseconds_within_bounds(void **state) {
    (void)state;
    assert_int_equal(parse("drain --timeout 0.5"), STET_OK);
    assert_int_equal(args_milliseconds(&parsed, "--timeout", 1), 500);
    assert_int_equal(parse("drain --timeout 86400"), STET_OK);
    assert_int_equal(args_milliseconds(&parsed, "--timeout", 1), 86400000);
    const char *const wrong[] = {"drain --timeout 0",   "drain --timeout 86401", "drain --timeout inf",
                                 "drain --timeout 1e3", "drain --timeout -1",    "drain --timeout 0x1"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_int_equal(parse(wrong[i]), STET_INVALID);
}

static void commands_of_two_words_and_their_group(void **state) {
    (void)state;
    assert_int_equal(parse("doc put p1 file.md"), STET_OK);
    assert_string_equal(parsed.command->name, "doc put");
    assert_string_equal(args_get(&parsed, "PROJECT"), "p1");
    assert_string_equal(args_get(&parsed, "FILE"), "file.md");
    assert_int_equal(parse("doc --help"), STET_OK);
    assert_null(parsed.command);
    assert_string_equal(parsed.group, "doc");
    assert_int_equal(parse("doc burn"), STET_INVALID);
    assert_int_equal(parse("burn"), STET_INVALID);
}

static void own_option_wins_over_a_global_one_of_the_same_name(void **state) {
    (void)state;
    assert_int_equal(parse("doc get p1 --version 3"), STET_OK);
    assert_int_equal(args_number(&parsed, "--version", 0), 3);
    assert_int_equal(parse("--version"), STET_OK);
    assert_true(args_has(&parsed, "--version"));
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"drain --lmit 5", "unknown option --lmit"},
        {"drain 5", "unexpected argument '5'"},
        {"doc put", "PROJECT is missing"},
        {"doc put a b c", "unexpected argument 'c'"},
        {"drain --limit", "--limit needs a value"},
        {"drain --now=1", "--now takes no value"},
        {"drain --limit 1 --limit 2", "--limit is given twice"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(parse(cases[i].line), STET_INVALID);
        if (strstr(error.message, cases[i].message) == NULL)
            fail_msg("%s: '%s'", cases[i].line, error.message);
    }
}

static void dash_is_an_argument_and_two_dashes_end_the_options(void **state) {
    (void)state;
    assert_int_equal(parse("doc put p1 -"), STET_OK);
    assert_string_equal(args_get(&parsed, "FILE"), "-");
    assert_int_equal(parse("doc put -- --odd -x"), STET_OK);
    assert_string_equal(args_get(&parsed, "PROJECT"), "--odd");
    assert_string_equal(args_get(&parsed, "FILE"), "-x");
}

static void help_is_never_an_error_for_what_is_missing(void **state) {
    (void)state;
    assert_int_equal(parse("doc put --help"), STET_OK);
    assert_int_equal(parse("doc put -h"), STET_OK);
    assert_true(args_has(&parsed, "--help"));
}

static void every_row_is_in_help_usage_and_completion(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 16);
    args_usage(&commands[2], &b);
    assert_true(stet_str_is(stet_buf_str(&b), "stet doc put PROJECT [FILE] [--version N]"));
    stet_buf_clear(&b);
    args_command_help(&commands[0], globals, &b);
    stet_buf_append_byte(&b, '\0');
    const char *const words[] = {"--limit N", "--timeout S", "--data DIR", "drafter.drain",
                                 "Example: stet drain"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        assert_non_null(strstr((const char *)b.data, words[i]));
    stet_buf_clear(&b);
    args_completion(commands, globals, STET_STR("a.b c.d"), &b);
    stet_buf_append_byte(&b, '\0');
    assert_non_null(strstr((const char *)b.data, "drain doc"));
    assert_non_null(strstr((const char *)b.data, "a.b c.d"));
    assert_non_null(strstr((const char *)b.data, "doc) words=\" get put\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_may_stand_anywhere_with_space_or_equals),
        cmocka_unit_test(count_refuses_zero_negative_and_what_is_no_number),
        cmocka_unit_test(seconds_become_milliseconds_within_bounds),
        cmocka_unit_test(commands_of_two_words_and_their_group),
        cmocka_unit_test(own_option_wins_over_a_global_one_of_the_same_name),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(dash_is_an_argument_and_two_dashes_end_the_options),
        cmocka_unit_test(help_is_never_an_error_for_what_is_missing),
        cmocka_unit_test(every_row_is_in_help_usage_and_completion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
