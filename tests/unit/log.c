/* Log lines, captured from stderr through a pipe. */
#include "proto/base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

enum { CAPTURE_MAX = 65536 };

typedef struct capture {
    int pipe[2];
    int stderr_before;
    char text[CAPTURE_MAX + 1];
} capture;

static void capture_start(capture *c) {
    assert_int_equal(pipe(c->pipe), 0);
    assert_true(fcntl(c->pipe[1], F_SETPIPE_SZ, CAPTURE_MAX) >= 0);
    c->stderr_before = dup(STDERR_FILENO);
    assert_true(dup2(c->pipe[1], STDERR_FILENO) >= 0);
    stet_log_init("test", STET_INFO);
}

static const char *capture_end(capture *c) {
    (void)dup2(c->stderr_before, STDERR_FILENO);
    (void)close(c->stderr_before);
    (void)close(c->pipe[1]);
    size_t size = 0;
    ssize_t got;
    while (size < CAPTURE_MAX && (got = read(c->pipe[0], c->text + size, CAPTURE_MAX - size)) > 0)
        size += (size_t)got;
    (void)close(c->pipe[0]);
    c->text[size] = '\0';
    return c->text;
}

static size_t count_of(const char *text, const char *part) {
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

static void line_is_json_with_level_program_event_and_fields(void **state) {
    (void)state;
    capture c;
    capture_start(&c);
    stet_log(STET_WARN, "mailbox.full", "dropping nothing", STET_LOG_C("job_id", "j1"),
             STET_LOG_I("items", -1024));
    stet_log(STET_INFO, "plain", "no fields");
    const char *text = capture_end(&c);
    assert_int_equal(strncmp(text, "{\"ts\":\"20", 9), 0);
    assert_non_null(
        strstr(text, "Z\",\"level\":\"warn\",\"program\":\"test\",\"event\":\"mailbox.full\",\"message\":"
                     "\"dropping nothing\",\"job_id\":\"j1\",\"items\":-1024}\n"));
    assert_non_null(strstr(text, "\"event\":\"plain\",\"message\":\"no fields\"}\n"));
}

static void what_a_peer_chose_is_escaped(void **state) {
    (void)state;
    capture c;
    capture_start(&c);
    stet_log(STET_ERROR, "escape", "m",
             STET_LOG_S("peer", STET_STR("a\"b\\c\nd\x1b[31m\x7f\xC2\x9B\xff\xE2\x82\xAC\0z")));
    const char *text = capture_end(&c);
    assert_non_null(strstr(
        text, "\"peer\":\"a\\\"b\\\\c\\nd\\u001b[31m\\u007f\\u009b\xEF\xBF\xBD\xE2\x82\xAC\\u0000z\"}\n"));
    assert_int_equal(count_of(text, "\n"), 1);
}

static void long_text_and_many_fields_keep_the_line_whole(void **state) {
    (void)state;
    static char text_of_field[5000];
    memset(text_of_field, 'x', sizeof text_of_field);
    stet_log_field fields[40];
    for (size_t i = 0; i < COUNT_OF(fields) - 1; i++)
        fields[i] = STET_LOG_S("field", stet_str_from(text_of_field, sizeof text_of_field));
    fields[COUNT_OF(fields) - 1] = (stet_log_field){.name = NULL};
    capture c;
    capture_start(&c);
    stet_log_fields(STET_INFO, "long", "m", fields);
    const char *text = capture_end(&c);
    size_t size = strlen(text);
    assert_true(size > 1024 && size < 10000);
    assert_string_equal(text + size - 6, "...\"}\n");
}

static void below_the_least_level_nothing_is_written(void **state) {
    (void)state;
    capture c;
    capture_start(&c);
    stet_log(STET_DEBUG, "quiet", "m");
    assert_string_equal(capture_end(&c), "");
}

static void flood_of_one_event_is_held_back_and_counted_others_pass(void **state) {
    (void)state;
    capture c;
    capture_start(&c);
    for (int i = 0; i < 100; i++)
        stet_log(STET_INFO, "flood", "m");
    stet_log(STET_INFO, "other", "m");
    const char *text = capture_end(&c);
    size_t lines = count_of(text, "\"flood\"");
    assert_true(lines >= 20 && lines < 100);
    assert_int_equal(count_of(text, "\"other\""), 1);
}

static void a_record_is_written_whatever_the_limit_and_the_least_level(void **state) {
    (void)state;
    capture c;
    capture_start(&c);
    stet_log_init("test", STET_ERROR);
    for (int i = 0; i < 100; i++)
        stet_log(STET_INFO | STET_RECORD, "draft.metric", "m");
    stet_log(STET_INFO, "draft.metric", "an ordinary line of the same name");
    assert_int_equal(
        count_of(capture_end(&c), "\"level\":\"info\",\"program\":\"test\",\"event\":\"draft.metric\""), 100);
}

static void level_names_go_both_ways(void **state) {
    (void)state;
    for (stet_level level = STET_DEBUG; level <= STET_ERROR; level++)
        assert_int_equal(stet_level_from_name(stet_str_of(stet_level_name(level)), STET_DEBUG), level);
    assert_int_equal(stet_level_from_name(STET_STR("loud"), STET_WARN), STET_WARN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_is_json_with_level_program_event_and_fields),
        cmocka_unit_test(what_a_peer_chose_is_escaped),
        cmocka_unit_test(long_text_and_many_fields_keep_the_line_whole),
        cmocka_unit_test(below_the_least_level_nothing_is_written),
        cmocka_unit_test(flood_of_one_event_is_held_back_and_counted_others_pass),
        cmocka_unit_test(a_record_is_written_whatever_the_limit_and_the_least_level),
        cmocka_unit_test(level_names_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
