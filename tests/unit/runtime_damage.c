/* The runtime's own rows when they are damaged: refused where they are read, so that nothing goes on with what they
 * say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/runtime/outbox.h"
#include "actors/runtime/records.h"

#include <stdlib.h>

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

/* ---- rows read by a turn ---- */

static stet_turn *turn_new(void) {
    stet_turn *turn = calloc(1, sizeof(*turn));
    stet_error e;
    assert_non_null(turn);
    turn->row = (stet_buf)STET_BUF(1024);
    assert_int_equal(stet_store_open_memory(0, &turn->store, &e), STET_OK);
    return turn;
}

static void turn_free(stet_turn *turn) {
    stet_batch_release_reads(stet_turn_batch(turn));
    turn->store = stet_store_close(turn->store);
    stet_buf_done(&turn->row);
    free(turn);
}

static const stet_envelope sent = {.service = {"drafter", 7}, .partition = 2, .epoch = 3};
static const uint8_t some_hash[DUPLICATES_HASH_BYTES] = {7};

typedef enum row_kind { ROW_DUPLICATE, ROW_MARK, ROW_HEAD, ROW_KINDS } row_kind;

static stet_key row_key(row_kind kind) {
    static const uint8_t tables[] = {STET_TABLE_DUPLICATES, STET_TABLE_INBOX_MARKS, STET_TABLE_OUTBOX_HEADS};
    stet_key key = stet_key_of(tables[kind]);
    if (kind == ROW_DUPLICATE) {
        stet_key_id(&key, (stet_id){{9}});
        return key;
    }
    stet_key_str(&key, kind == ROW_MARK ? sent.service : STET_STR("metrics"));
    stet_key_u64(&key, kind == ROW_MARK ? sent.partition : 0);
    if (kind == ROW_MARK)
        stet_key_u64(&key, sent.epoch);
    return key;
}

/* What the row says as one number: 0 when it is not there. */
static stet_code read_row(stet_turn *turn, row_kind kind, uint64_t *ret, stet_error *e) {
    stet_duplicate duplicate = {.answered_ms = 0};
    stet_outbox_head head;
    bool known;
    stet_code rc;
    switch (kind) {
    case ROW_DUPLICATE:
        rc = stet_duplicates_find(turn, (stet_id){{9}}, &duplicate, &known, e);
        *ret = rc == STET_OK && known ? duplicate.answer.size : 0;
        return rc;
    case ROW_MARK:
        return stet_inbox_mark(turn, &sent, ret, e);
    default:
        rc = stet_outbox_head_read(turn, STET_STR("metrics"), &head, e);
        *ret = head.given;
        return rc;
    }
}

static void put_good(stet_turn *turn, row_kind kind) {
    if (kind == ROW_DUPLICATE) {
        stet_duplicates_put(turn, (stet_id){{9}}, some_hash, STET_STR("answer"));
    } else if (kind == ROW_MARK) {
        stet_inbox_mark_put(turn, &sent, 5);
    } else {
        stet_key key = row_key(kind);
        stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), STET_STR("\x96\x01\x01\x00\x05\x02\x00"));
    }
}

static void a_row_that_is_cut_anywhere_is_damaged_and_a_missing_one_is_nothing(void **state) {
    (void)state;
    static const uint64_t said[ROW_KINDS] = {6, 5, 5};
    for (row_kind kind = 0; kind < ROW_KINDS; kind++) {
        stet_turn *turn = turn_new();
        stet_error e;
        uint64_t number = 99;
        stet_str value;
        assert_int_equal(read_row(turn, kind, &number, &e), STET_OK);
        assert_int_equal(number, 0);
        put_good(turn, kind);
        assert_int_equal(read_row(turn, kind, &number, &e), STET_OK);
        assert_int_equal(number, said[kind]);
        stet_key key = row_key(kind);
        assert_int_equal(stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &value, &e), STET_OK);
        for (size_t size = 0; size < value.size; size++) {
            stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), stet_str_from(value.data, size));
            assert_int_equal(read_row(turn, kind, &number, &e), STET_INTERNAL);
            assert_non_null(strstr(e.message, "run the actor's check"));
        }
        stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), STET_STR("\x96\x02\x01\x00\x05\x02\x00"));
        assert_int_equal(read_row(turn, kind, &number, &e), STET_INTERNAL); /* of another format */
        turn_free(turn);
    }
}

static void a_hash_of_another_size_is_damaged(void **state) {
    (void)state;
    for (uint32_t size = DUPLICATES_HASH_BYTES - 1; size <= DUPLICATES_HASH_BYTES + 1; size++) {
        static const uint8_t zeros[DUPLICATES_HASH_BYTES + 1];
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(128);
        stet_duplicate duplicate;
        stet_mp_array(&b, 4);
        stet_mp_uint(&b, TURN_ROW_FORMAT);
        stet_mp_bin(&b, zeros, size);
        stet_mp_int(&b, 1);
        stet_mp_bin(&b, "\x80", 1);
        assert_int_equal(stet_duplicates_decode(stet_buf_str(&b), &duplicate), size == DUPLICATES_HASH_BYTES);
    }
}

static void a_disk_that_cannot_be_read_is_never_taken_for_a_missing_row(void **state) {
    (void)state;
    for (row_kind kind = 0; kind < ROW_KINDS; kind++) {
        stet_turn *turn = turn_new();
        stet_error e;
        uint64_t number;
        turn->recent.floor = (stet_id){{0xff}}; /* nothing is known to be new */
        stet_store_memory_fail_reads(turn->store);
        assert_int_equal(read_row(turn, kind, &number, &e), STET_INTERNAL);
        assert_int_not_equal(stet_store_read_status(turn->store, &e), STET_OK);
        turn_free(turn);
    }
}

static void the_first_turn_knows_the_largest_id_that_was_answered(void **state) {
    (void)state;
    stet_turn *turn = turn_new();
    stet_error e;
    assert_int_equal(stet_duplicates_begin(turn, &e), STET_OK);
    assert_true(stet_recent_ids_is_new(&turn->recent, (stet_id){{1}}));
    stet_duplicates_put(turn, (stet_id){{9}}, some_hash, STET_STR("answer"));
    stet_duplicates_put(turn, (stet_id){{4}}, some_hash, STET_STR("answer"));
    assert_int_equal(stet_duplicates_begin(turn, &e), STET_OK);
    assert_false(stet_recent_ids_is_new(&turn->recent, (stet_id){{1}}));
    assert_false(stet_recent_ids_is_new(&turn->recent, (stet_id){{9}}));
    assert_true(stet_recent_ids_is_new(&turn->recent, (stet_id){{10}}));
    stet_key odd = stet_key_of(STET_TABLE_DUPLICATES);
    stet_key_str(&odd, STET_STR("no id"));
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&odd), STET_STR(""));
    assert_int_equal(stet_duplicates_begin(turn, &e), STET_INTERNAL);
    turn_free(turn);
}

/* ---- the outbox ---- */

static void a_new_epoch_counts_from_what_was_acknowledged(void **state) {
    (void)state;
    stet_turn *turn = turn_new();
    stet_outbox outbox = {.count = 0};
    stet_outbox_head head;
    stet_error e;
    stet_key key = row_key(ROW_HEAD);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), STET_STR("\x96\x01\x63\x01\x09\x04\x00"));
    assert_int_equal(stet_outbox_load(&outbox, turn, &e), STET_OK);
    assert_int_equal(stet_outbox_head_read(turn, STET_STR("metrics"), &head, &e), STET_OK);
    assert_int_equal(head.epoch, stet_store_epoch(turn->store));
    assert_int_equal(head.base, 4);
    assert_int_equal(head.given, 9);
    assert_int_equal(outbox.channels[0].base, 4);
    turn_free(turn);
}

static void there_is_room_for_so_many_channels_and_no_more(void **state) {
    (void)state;
    stet_turn *turn = turn_new();
    stet_error e;
    for (int i = 1; i <= OUTBOX_CHANNELS_MAX + 1; i++) {
        char name[] = {'s', (char)('a' + i / 10), (char)('a' + i % 10), '\0'};
        stet_outbox outbox = {.count = 0};
        stet_key key = stet_key_of(STET_TABLE_OUTBOX_HEADS);
        stet_key_str(&key, stet_str_of(name));
        stet_key_u64(&key, 0);
        stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), STET_STR("\x96\x01\x01\x00\x05\x02\x00"));
        stet_code rc = stet_outbox_load(&outbox, turn, &e);
        assert_int_equal(rc, i <= OUTBOX_CHANNELS_MAX ? STET_OK : STET_INTERNAL);
    }
    turn_free(turn);
}

static void what_no_command_takes_is_not_given(void **state) {
    (void)state;
    stet_turn *turn = turn_new();
    stet_outbox_head head;
    stet_error e;
    turn->send_struct = malloc(stet_turn_struct_size_max());
    assert_int_equal(stet_turn_send(turn, "metrics.no_such_command", STET_STR("\x80"), &e), STET_INTERNAL);
    assert_int_equal(stet_turn_send(turn, "alerts.raise", STET_STR("\x80"), &e), STET_INVALID);
    assert_int_equal(stet_batch_count(stet_turn_batch(turn)), 0);
    assert_int_equal(stet_outbox_head_read(turn, STET_STR("alerts"), &head, &e), STET_OK);
    assert_int_equal(head.given, 0);
    free(turn->send_struct);
    turn_free(turn);
}

/* When the loop has to look at the outbox again. */
static void the_outbox_wakes_for_what_may_be_sent_and_for_silence(void **state) {
    (void)state;
    stet_outbox outbox = {.count = 0};
    assert_true(stet_outbox_wake_boot_ms(&outbox) == INT64_MAX);
    outbox.count = 3;
    outbox.channels[0] = (stet_channel){.acked = 5, .sent = 5, .released = 5}; /* nothing waits */
    outbox.channels[1] = (stet_channel){.acked = 1, .sent = 1, .released = 5, .damaged = true};
    outbox.channels[2] = (stet_channel){.acked = 1, .sent = 1, .released = 1};
    assert_true(stet_outbox_wake_boot_ms(&outbox) == INT64_MAX);
    outbox.channels[2] = (stet_channel){.acked = 1, .sent = 4, .released = 4, .progress_boot_ms = 7000};
    assert_int_equal(stet_outbox_wake_boot_ms(&outbox), 7000 + OUTBOX_SILENCE_MS);
    outbox.channels[0] =
        (stet_channel){.acked = 5, .sent = 5, .released = 6, .blocked_boot_ms = 7100, .backoff_ms = 100};
    assert_int_equal(stet_outbox_wake_boot_ms(&outbox), 7100);
    outbox.channels[0].sent = 6; /* one at a time while the channel does not work */
    outbox.channels[0].released = 7;
    outbox.channels[0].progress_boot_ms = 6900;
    assert_int_equal(stet_outbox_wake_boot_ms(&outbox), 6900 + OUTBOX_SILENCE_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_a_channel_are_in_order_and_end),
        cmocka_unit_test(a_message_with_a_command_that_no_envelope_carries_is_damaged),
        cmocka_unit_test(a_channel_has_one_head_and_a_name),
        cmocka_unit_test(a_row_that_is_cut_anywhere_is_damaged_and_a_missing_one_is_nothing),
        cmocka_unit_test(a_hash_of_another_size_is_damaged),
        cmocka_unit_test(a_disk_that_cannot_be_read_is_never_taken_for_a_missing_row),
        cmocka_unit_test(the_first_turn_knows_the_largest_id_that_was_answered),
        cmocka_unit_test(a_new_epoch_counts_from_what_was_acknowledged),
        cmocka_unit_test(there_is_room_for_so_many_channels_and_no_more),
        cmocka_unit_test(what_no_command_takes_is_not_given),
        cmocka_unit_test(the_outbox_wakes_for_what_may_be_sent_and_for_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
