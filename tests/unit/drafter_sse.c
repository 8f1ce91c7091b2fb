/* The stream parser: what an event is must not depend on where the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/drafter/sse.h"

/* Events as "name|data;" one after the other. */
static void collect(void *context, const char *name, stet_str data) {
    stet_buf *seen = context;
    stet_buf_printf(seen, "%s|%.*s;", name, STET_STR_ARG(data));
}

static void feed_whole(const char *text, size_t piece, stet_buf *seen, drafter_sse *sse) {
    size_t size = strlen(text);
    for (size_t at = 0; at < size; at += piece)
        drafter_sse_feed(sse, stet_str_from(text + at, piece < size - at ? piece : size - at), collect, seen);
}

static void check_events(const char *text, const char *expected) {
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        CLEANUP(stet_buf_done) stet_buf seen = STET_BUF(4096);
        CLEANUP(drafter_sse_done) drafter_sse sse = drafter_sse_of(1024);
        feed_whole(text, piece, &seen, &sse);
        stet_buf_append_byte(&seen, '\0');
        assert_string_equal((const char *)seen.data, expected);
    }
}

static void events_are_the_same_for_any_split_and_any_line_end(void **state) {
    (void)state;
    check_events("data: a\n\ndata: b\n\n", "|a;|b;");
    check_events("data: a\r\n\r\ndata: b\r\n\r\n", "|a;|b;");
    check_events("data: a\r\rdata: b\r\r", "|a;|b;");
}

static void several_data_lines_join_with_a_line_feed(void **state) {
    (void)state;
    check_events("data: a\ndata: b\ndata\n\n", "|a\nb\n;");
    check_events("data:\ndata: b\n\n", "|\nb;");
}

static void comments_and_other_fields_are_ignored(void **state) {
    (void)state;
    check_events(": ping\n\n:\n\nid: 7\nretry: 3\ndata: x\n\n", "|x;");
}

static void event_names_are_kept_for_their_event_only(void **state) {
    (void)state;
    check_events("event: error\ndata: {}\n\ndata: y\n\n", "error|{};|y;");
    check_events("event: ping\n\ndata: y\n\n", "|y;");
}

static void only_one_space_after_the_colon_is_dropped(void **state) {
    (void)state;
    check_events("data:  two\n\ndata:none\n\n", "| two;|none;");
}

static void an_event_cut_at_the_end_is_dropped(void **state) {
    (void)state;
    check_events("data: a\n\ndata: b\n", "|a;");
    check_events("data: a\n\ndata: b", "|a;");
}

static void an_event_at_the_limit_passes_and_one_more_byte_is_too_large(void **state) {
    (void)state;
    for (size_t extra = 0; extra <= 1; extra++) {
        CLEANUP(stet_buf_done) stet_buf seen = STET_BUF(4096);
        CLEANUP(drafter_sse_done) drafter_sse sse = drafter_sse_of(/* event_bytes_max= */ 16);
        feed_whole(extra ? "data: 12345678901\n\ndata: z\n\n" : "data: 1234567890\n\ndata: z\n\n", 5, &seen,
                   &sse);
        assert_int_equal(sse.too_large, extra == 1);
        assert_int_equal(seen.size, extra ? 0 : 15);
    }
}

static void many_data_lines_cannot_pass_the_limit(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf seen = STET_BUF(4096);
    CLEANUP(drafter_sse_done) drafter_sse sse = drafter_sse_of(64);
    for (int i = 0; i < 100; i++)
        drafter_sse_feed(&sse, STET_STR("data: 123456\n"), collect, &seen);
    drafter_sse_feed(&sse, STET_STR("\n"), collect, &seen);
    assert_true(sse.too_large);
    assert_int_equal(seen.size, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_the_same_for_any_split_and_any_line_end),
        cmocka_unit_test(several_data_lines_join_with_a_line_feed),
        cmocka_unit_test(comments_and_other_fields_are_ignored),
        cmocka_unit_test(event_names_are_kept_for_their_event_only),
        cmocka_unit_test(only_one_space_after_the_colon_is_dropped),
        cmocka_unit_test(an_event_cut_at_the_end_is_dropped),
        cmocka_unit_test(an_event_at_the_limit_passes_and_one_more_byte_is_too_large),
        cmocka_unit_test(many_data_lines_cannot_pass_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
