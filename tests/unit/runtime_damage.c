/* The runtime's own rows when they are damaged: refused where they are read, so that nothing goes on with what they
 * say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/runtime/outbox.h"

static bool head_is_taken(uint64_t base, uint64_t acked, uint64_t given) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(64);
    stet_outbox_head head;
    stet_mp_array(&b, 6);
    stet_mp_uint(&b, TURN_ROW_FORMAT);
    stet_mp_uint(&b, 1);
    stet_mp_uint(&b, base);
    stet_mp_uint(&b, given);
    stet_mp_uint(&b, acked);
    stet_mp_uint(&b, 0);
    return stet_outbox_head_decode(stet_buf_str(&b), &head);
}

static void numbers_of_a_channel_are_in_order_and_end(void **state) {
    (void)state;
    assert_true(head_is_taken(0, 0, 0));
    assert_true(head_is_taken(1, 2, 3));
    assert_false(head_is_taken(2, 1, 3));
    assert_false(head_is_taken(1, 3, 2));
    assert_false(head_is_taken(0, 0, INT64_MAX)); /* the next would not fit into an envelope */
}

/* Was: the process aborted when the message was sent again. */
static void a_message_with_a_command_that_no_envelope_carries_is_damaged(void **state) {
    (void)state;
    static const struct {
        const char *command;
        bool taken;
    } cases[] = {{"metrics.record", true}, {"", false}, {"metrics record", false}, {"\xff", false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(128);
        stet_outbox_row row;
        stet_mp_array(&b, 4);
        stet_mp_uint(&b, TURN_ROW_FORMAT);
        stet_mp_bin(&b, "0123456789abcdef", 16);
        stet_mp_cstr(&b, cases[i].command);
        stet_mp_bin(&b, "\x80", 1);
        assert_int_equal(stet_outbox_row_decode(stet_buf_str(&b), &row), cases[i].taken);
    }
}

static stet_code load_with_head(stet_str receiver, uint64_t partition) {
    stet_store *store;
    stet_outbox outbox = {.count = 0};
    stet_error e;
    assert_int_equal(stet_store_open_memory(0, &store, &e), STET_OK);
    stet_turn turn = {.store = store, .row = STET_BUF(1024)};
    stet_key key = stet_key_of(STET_TABLE_OUTBOX_HEADS);
    stet_key_str(&key, receiver);
    stet_key_u64(&key, partition);
    stet_batch_put(stet_store_batch(store), stet_key_bytes(&key), STET_STR("\x96\x01\x01\x00\x05\x02\x00"));
    stet_code rc = stet_outbox_load(&outbox, &turn, &e);
    stet_batch_release_reads(stet_store_batch(store));
    stet_buf_done(&turn.row);
    store = stet_store_close(store);
    assert_null(store);
    return rc;
}

/* Was: two channels of one name, of which one was given what the other had said. */
static void a_channel_has_one_head_and_a_name(void **state) {
    (void)state;
    assert_int_equal(load_with_head(STET_STR("metrics"), 0), STET_OK);
    assert_int_equal(load_with_head(STET_STR("metrics"), 1), STET_INTERNAL);
    assert_int_equal(load_with_head(STET_STR("no name"), 0), STET_INTERNAL);
    assert_int_equal(load_with_head(STET_STR(""), 0), STET_INTERNAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_a_channel_are_in_order_and_end),
        cmocka_unit_test(a_message_with_a_command_that_no_envelope_carries_is_damaged),
        cmocka_unit_test(a_channel_has_one_head_and_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
