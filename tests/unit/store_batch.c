/* What a batch promises, on both engines. */
#include "store/commit_record.h"
#include "tests/unit/store_fixture.h"

static void a_batch_sees_its_own_writes(void **state) {
    fixture *f = *state;
    fixture_expect(f, "a", NULL);
    fixture_put(f, "a", "1");
    fixture_expect(f, "a", "1");
    fixture_put(f, "a", "2");
    fixture_expect(f, "a", "2");
    assert_int_equal(stet_batch_count(stet_store_batch(f->store)), 1);
    fixture_put(f, "empty", "");
    fixture_expect(f, "empty", "");
}

static void a_delete_hides_the_row_below(void **state) {
    fixture *f = *state;
    fixture_put(f, "a", "1");
    fixture_put(f, "b", "1");
    fixture_commit(f);
    fixture_expect(f, "a", "1");
    fixture_delete(f, "a");
    fixture_expect(f, "a", NULL);
    fixture_submit(f);
    fixture_expect(f, "a", NULL); /* in flight */
    fixture_complete(f);
    fixture_expect(f, "a", NULL);
    fixture_expect(f, "b", "1");
}

static void reads_go_through_the_batch_in_flight(void **state) {
    fixture *f = *state;
    fixture_put(f, "a", "1");
    fixture_put(f, "b", "1");
    fixture_submit(f);
    assert_true(stet_store_commit_in_flight(f->store));
    fixture_expect(f, "a", "1");
    fixture_put(f, "b", "2");
    fixture_delete(f, "a");
    fixture_expect(f, "a", NULL);
    fixture_expect(f, "b", "2");
    fixture_complete(f);
    fixture_expect(f, "a", NULL);
    fixture_expect(f, "b", "2");
    fixture_commit(f);
    fixture_expect(f, "a", NULL);
    fixture_expect(f, "b", "2");
}

static void a_row_that_was_read_is_read_anew_once_written(void **state) {
    fixture *f = *state;
    fixture_put(f, "hot", "1");
    fixture_commit(f);
    fixture_expect(f, "hot", "1");
    fixture_expect(f, "hot", "1"); /* kept by now */
    uint64_t mark = stet_batch_mark(stet_store_batch(f->store));
    fixture_put(f, "hot", "2");
    fixture_expect(f, "hot", "2");
    stet_batch_rollback(stet_store_batch(f->store), mark);
    fixture_expect(f, "hot", "1");
    fixture_put(f, "hot", "3");
    fixture_submit(f);
    fixture_expect(f, "hot", "3");
    fixture_complete(f);
    fixture_expect(f, "hot", "3");
    fixture_delete(f, "hot");
    fixture_commit(f);
    fixture_expect(f, "hot", NULL);
    fixture_put(f, "hot", "4");
    fixture_commit(f);
    fixture_expect(f, "hot", "4");
}

static void rollback_nests(void **state) {
    fixture *f = *state;
    stet_batch *batch = stet_store_batch(f->store);
    fixture_put(f, "a", "1");
    uint64_t outer = stet_batch_mark(batch);
    fixture_put(f, "b", "1");
    uint64_t inner = stet_batch_mark(batch);
    fixture_put(f, "a", "2");
    fixture_put(f, "b", "22");
    fixture_delete(f, "a");
    fixture_put(f, "c", "1");
    stet_batch_rollback(batch, inner);
    fixture_expect(f, "a", "1");
    fixture_expect(f, "b", "1");
    fixture_expect(f, "c", NULL);
    fixture_put(f, "c", "3");
    stet_batch_rollback(batch, outer);
    fixture_expect(f, "a", "1");
    fixture_expect(f, "b", NULL);
    fixture_expect(f, "c", NULL);
    assert_int_equal(stet_batch_count(batch), 1);
    fixture_commit(f);
    fixture_expect(f, "a", "1");
    fixture_expect(f, "b", NULL);
}

static void a_row_inserted_and_deleted_again_is_not_written(void **state) {
    fixture *f = *state;
    stet_batch *batch = stet_store_batch(f->store);
    stet_key k;
    fixture_put(f, "a", "1");
    stet_batch_insert(batch, fixture_key(&k, "b"), STET_STR("2"));
    fixture_expect(f, "b", "2");
    assert_int_equal(stet_batch_count(batch), 2);
    size_t bytes = stet_batch_bytes(batch);
    uint64_t mark = stet_batch_mark(batch);
    fixture_delete(f, "b");
    fixture_expect(f, "b", NULL);
    assert_int_equal(stet_batch_count(batch), 1);
    stet_batch_rollback(batch, mark);
    fixture_expect(f, "b", "2");
    assert_int_equal(stet_batch_count(batch), 2);
    assert_int_equal(stet_batch_bytes(batch), bytes);
    fixture_delete(f, "b");
    uint64_t written = stet_store_stats_of(f->store).rows_written;
    fixture_commit(f);
    assert_int_equal(stet_store_stats_of(f->store).rows_written, written + 1);
    fixture_expect(f, "b", NULL);
    /* What was there before is deleted, however often it is put again. */
    fixture_delete(f, "a");
    stet_batch_insert(batch, fixture_key(&k, "a"), STET_STR("3"));
    fixture_delete(f, "a");
    fixture_commit(f);
    fixture_expect(f, "a", NULL);
}

static void a_value_read_outlives_rollback_and_completion(void **state) {
    fixture *f = *state;
    stet_batch *batch = stet_store_batch(f->store);
    stet_key k;
    stet_str built, flying;
    uint64_t mark = stet_batch_mark(batch);
    fixture_put(f, "a", "built");
    CHECK_OK(f, stet_batch_get(batch, fixture_key(&k, "a"), &built, &f->e));
    stet_batch_rollback(batch, mark);
    fixture_put(f, "a", "other");
    assert_memory_equal(built.data, "built", 5);
    fixture_submit(f);
    CHECK_OK(f, stet_batch_get(batch, fixture_key(&k, "a"), &flying, &f->e));
    fixture_complete(f);
    fixture_put(f, "b", "again");
    assert_memory_equal(flying.data, "other", 5);
    stet_batch_release_reads(batch);
}

static void put_sized(fixture *f, const char *key, size_t size) {
    stet_key k;
    char *value = calloc(1, size + 1);
    assert_non_null(value);
    stet_batch_put(stet_store_batch(f->store), fixture_key(&k, key), stet_str_from(value, size));
    free(value);
}

static void a_value_over_its_limit_fails_the_batch(void **state) {
    fixture *f = *state;
    stet_batch *batch = stet_store_batch(f->store);
    put_sized(f, "limit", STET_VALUE_BYTES_MAX);
    assert_false(stet_batch_failed(batch));
    uint64_t mark = stet_batch_mark(batch);
    put_sized(f, "more", STET_VALUE_BYTES_MAX + 1);
    assert_true(stet_batch_failed(batch));
    fixture_expect(f, "more", NULL);
    fixture_put(f, "later", "x"); /* no-op: sticky */
    fixture_expect(f, "later", NULL);
    uint64_t ticket;
    CHECK_CODE(f, stet_batch_commit(batch, FIXTURE_WALL_MS, &ticket, &f->e), STET_TOO_LARGE);
    stet_batch_rollback(batch, mark);
    assert_false(stet_batch_failed(batch));
    fixture_commit(f);
}

static void a_batch_over_its_limit_fails_until_rolled_back_to_before(void **state) {
    fixture *f = *state;
    stet_batch *batch = stet_store_batch(f->store);
    put_sized(f, "1", STET_VALUE_BYTES_MAX);
    uint64_t before = stet_batch_mark(batch);
    put_sized(f, "2", STET_VALUE_BYTES_MAX);
    assert_true(stet_batch_failed(batch)); /* the keys count too */
    assert_true(stet_batch_bytes(batch) <= STET_BATCH_BYTES_MAX);
    uint64_t after = stet_batch_mark(batch);
    stet_batch_rollback(batch, after);
    assert_true(stet_batch_failed(batch));
    stet_batch_rollback(batch, before);
    assert_false(stet_batch_failed(batch));
    fixture_put(f, "3", "x");
    fixture_expect(f, "2", NULL);
    fixture_expect(f, "3", "x");
    fixture_commit(f);
    fixture_expect(f, "3", "x");
}

static void messages_that_fail_do_not_eat_the_memory_of_the_batch(void **state) {
    fixture *f = *state;
    stet_batch *batch = stet_store_batch(f->store);
    fixture_put(f, "kept", "x");
    for (int i = 0; i < 100; i++) {
        uint64_t mark = stet_batch_mark(batch);
        put_sized(f, "big", STET_VALUE_BYTES_MAX);
        put_sized(f, "big", STET_VALUE_BYTES_MAX - 1);
        assert_false(stet_batch_failed(batch));
        stet_batch_rollback(batch, mark);
    }
    assert_int_equal(stet_batch_count(batch), 1);
    fixture_commit(f);
}

static stet_commit_record head_of(fixture *f) {
    stet_str value;
    stet_commit_record record;
    CHECK_OK(f, stet_batch_get(stet_store_batch(f->store), stet_store_key_head, &value, &f->e));
    CHECK_OK(f, stet_commit_record_decode(value, &record, &f->e));
    return record;
}

static void commits_are_numbered_without_a_gap_and_chained(void **state) {
    fixture *f = *state;
    stet_commit_record before = head_of(f);
    assert_int_equal(before.number, 1); /* format and epoch */
    assert_int_equal(before.epoch, stet_store_epoch(f->store));
    for (int i = 0; i < 50; i++) {
        stet_overlay twin = stet_overlay_of(1 << 20, /* keeps_undo= */ false);
        char text[32];
        stet_key k;
        (void)snprintf(text, sizeof text, "row %d", i);
        fixture_put(f, text, "value");
        fixture_delete(f, "nothing");
        assert_true(stet_overlay_put(&twin, fixture_key(&k, text), STET_STR("value")));
        assert_true(stet_overlay_put(&twin, fixture_key(&k, "nothing"), (stet_str){NULL, 0}));
        stet_completion done = fixture_commit(f);
        stet_commit_record now = head_of(f);
        stet_hash hash = stet_commit_record_hash(&before);
        assert_int_equal(done.number, before.number + 1);
        assert_int_equal(now.number, done.number);
        assert_int_equal(stet_store_last_number(f->store), done.number);
        assert_memory_equal(now.previous.bytes, hash.bytes, STET_HASH_BYTES);
        assert_int_equal(now.wall_ms, FIXTURE_WALL_MS);
        assert_int_equal(now.rows, 2);

        stet_commit_record again = now;
        CLEANUP(stet_buf_done) stet_buf write = STET_BUF(1 << 20);
        assert_true(stet_commit_build(&twin, &again, &write));
        assert_memory_equal(now.body.bytes, again.body.bytes, STET_BODY_HASH_BYTES);
        assert_int_equal(now.body_bytes, again.body_bytes);
        stet_overlay_done(&twin);
        stet_batch_release_reads(stet_store_batch(f->store));
        before = now;
    }
}

static void what_is_committed_is_there_after_opening_again(void **state) {
    fixture *f = *state;
    if (f->memory)
        return;
    fixture_put(f, "a", "1");
    fixture_delete(f, "b");
    fixture_commit(f);
    fixture_put(f, "lost", "1"); /* not committed */
    uint64_t number = stet_store_last_number(f->store);
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(stet_store_last_number(f->store), number);
    fixture_expect(f, "a", "1");
    fixture_expect(f, "lost", NULL);
    fixture_put(f, "c", "1");
    assert_int_equal(fixture_commit(f).number, number + 1);
}

static void closing_waits_for_the_commit_in_flight(void **state) {
    fixture *f = *state;
    if (f->memory)
        return;
    fixture_put(f, "a", "1");
    fixture_submit(f);
    fixture_close(f);
    fixture_open(f);
    fixture_expect(f, "a", "1");
    assert_int_equal(stet_store_last_number(f->store), 2);
}

static void a_crash_in_memory_forgets_what_was_not_handed_out(void **state) {
    fixture *f = *state;
    if (!f->memory)
        return;
    fixture_put(f, "a", "1");
    fixture_commit(f);
    fixture_put(f, "a", "2");
    fixture_put(f, "b", "1");
    fixture_submit(f);
    fixture_put(f, "c", "1");
    stet_store_memory_crash(f->store);
    fixture_expect(f, "a", "1");
    fixture_expect(f, "b", NULL);
    fixture_expect(f, "c", NULL);
    assert_int_equal(stet_store_last_number(f->store), 2);
    fixture_put(f, "b", "3");
    assert_int_equal(fixture_commit(f).number, 3);
    fixture_expect(f, "b", "3");
}

static void after_a_commit_that_failed_there_is_no_other(void **state) {
    fixture *f = *state;
    stet_completion done;
    uint64_t ticket;
    if (!f->memory)
        return;
    fixture_put(f, "a", "1");
    fixture_commit(f);
    stet_store_memory_fail_commit(f->store, STET_COMMIT_UNKNOWN);
    fixture_put(f, "a", "2");
    (void)fixture_submit(f);
    assert_true(stet_store_next_completion(f->store, &done));
    assert_int_equal(done.result, STET_COMMIT_UNKNOWN);
    fixture_put(f, "b", "1");
    CHECK_CODE(f, stet_batch_commit(stet_store_batch(f->store), FIXTURE_WALL_MS, &ticket, &f->e),
               STET_INTERNAL);
    assert_non_null(strstr(f->e.message, "end the process"));
    assert_false(stet_store_commit_in_flight(f->store));
}

static void a_read_that_failed_is_kept_also_when_nobody_wants_to_know(void **state) {
    fixture *f = *state;
    stet_key k;
    stet_str value;
    stet_batch *batch = stet_store_batch(f->store);
    assert_int_equal(stet_batch_get(batch, fixture_key(&k, "a"), &value, NULL), STET_NOT_FOUND);
    CHECK_OK(f, stet_store_read_status(f->store, &f->e));
    if (!f->memory)
        return;
    stet_store_memory_fail_reads(f->store);
    assert_int_equal(stet_batch_get(batch, fixture_key(&k, "a"), &value, NULL), STET_INTERNAL);
    CHECK_CODE(f, stet_store_read_status(f->store, &f->e), STET_INTERNAL);
    assert_true(f->e.message[0] != '\0');
    fixture_put(f, "a", "1"); /* what was just written needs no disk */
    fixture_expect(f, "a", "1");
}

static void overwriting_in_memory_does_not_grow_for_ever(void **state) {
    fixture *f = *state;
    if (!f->memory)
        return;
    for (int i = 0; i < 64; i++) {
        put_sized(f, "same", 1 << 20);
        fixture_commit(f);
    }
    assert_true(stet_store_stats_of(f->store).memory_bytes < (uint64_t)16 << 20);
}

static void figures_count_commits_and_rows(void **state) {
    fixture *f = *state;
    fixture_put(f, "a", "1");
    fixture_put(f, "b", "1");
    fixture_commit(f);
    stet_store_stats stats = stet_store_stats_of(f->store);
    assert_int_equal(stats.commits, 2);
    assert_int_equal(stats.rows_written, 4);
    assert_true(stats.memory_bytes > 0);
    assert_true(stet_store_writable(f->store, 1000));
}

#define BOTH(test)                                                                                           \
    {#test " (memory)", test, fixture_setup, fixture_teardown, (void *)(uintptr_t)1}, {                      \
#test " (rocksdb)", test, fixture_setup, fixture_teardown, NULL                                      \
    }

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(a_batch_sees_its_own_writes),
        BOTH(a_delete_hides_the_row_below),
        BOTH(reads_go_through_the_batch_in_flight),
        BOTH(a_row_that_was_read_is_read_anew_once_written),
        BOTH(rollback_nests),
        BOTH(a_row_inserted_and_deleted_again_is_not_written),
        BOTH(a_value_read_outlives_rollback_and_completion),
        BOTH(a_value_over_its_limit_fails_the_batch),
        BOTH(a_batch_over_its_limit_fails_until_rolled_back_to_before),
        BOTH(messages_that_fail_do_not_eat_the_memory_of_the_batch),
        BOTH(commits_are_numbered_without_a_gap_and_chained),
        BOTH(what_is_committed_is_there_after_opening_again),
        BOTH(closing_waits_for_the_commit_in_flight),
        BOTH(a_crash_in_memory_forgets_what_was_not_handed_out),
        BOTH(after_a_commit_that_failed_there_is_no_other),
        BOTH(a_read_that_failed_is_kept_also_when_nobody_wants_to_know),
        BOTH(overwriting_in_memory_does_not_grow_for_ever),
        BOTH(figures_count_commits_and_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
