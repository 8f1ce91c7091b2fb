/* Lists, counts, place in the queue, age, what users see, and what <service>.check finds. */
#include "jobs_fixture.h"

static int setup(void **state) {
    *state = fixture_new(7);
    return 0;
}

static int teardown(void **state) {
    fixture_free(*state);
    return 0;
}

typedef struct seen {
    stet_id ids[600];
    uint32_t count;
    size_t payload_size;
} seen;

static stet_code see(void *context, const stet_job *job, stet_error *e) {
    (void)e;
    seen *s = context;
    s->ids[s->count++] = job->id;
    s->payload_size = job->payload.size;
    return STET_OK;
}

static uint64_t list(fixture *f, stet_job_filter filter, seen *s) {
    uint64_t next;
    OK(stet_job_list(&f->turn, queue(f), &filter, see, s, &next, e));
    release(f);
    return next;
}

static void lists_are_newest_first_and_paged_without_gap_or_repeat(void **state) {
    fixture *f = *state;
    stet_id ids[57];
    for (unsigned i = 0; i < 57; i++) {
        ids[i] = submit_key(f, i % 3 == 0 ? "a" : "b");
        if (i == 30)
            commit(f);
    }
    seen all = {.count = 0}, key_a = {.count = 0};
    stet_job_filter filter = {.limit = 10};
    unsigned pages = 0;
    do {
        filter.before_order = list(f, filter, &all);
        pages++;
    } while (filter.before_order != 0);
    assert_int_equal(pages, 6);
    assert_int_equal(all.count, 57);
    for (unsigned i = 0; i < 57; i++)
        assert_true(stet_id_equal(all.ids[i], ids[56 - i]));
    assert_int_equal(list(f, (stet_job_filter){.key = STET_STR("a"), .limit = 100}, &key_a), 0);
    assert_int_equal(key_a.count, 19);
    assert_true(stet_id_equal(key_a.ids[0], ids[54]));
    seen five = {.count = 0};
    (void)list(f, (stet_job_filter){.key = STET_STR("a"), .limit = 5}, &five);
    assert_int_equal(five.count, 5);
    seen none = {.count = 0};
    assert_int_equal(list(f, (stet_job_filter){.key = STET_STR("unknown"), .limit = 5}, &none), 0);
    assert_int_equal(none.count, 0);
}

static void lists_select_by_state_and_error_code(void **state) {
    fixture *f = *state;
    f->set.concurrency = 0;
    f->queues[0].key_concurrency = 0;
    for (unsigned i = 0; i < 20; i++)
        (void)submit_key(f, "a");
    tick(f);
    for (unsigned i = 0; i < 15; i++) {
        stet_job job = read_job(f, f->started[i]);
        if (i < 5)
            assert_int_equal(done(f, job.id), STET_OK);
        else
            OK(stet_job_fail_finally(&f->turn, &job, i % 2 == 0 ? "http_429" : "no_key", STET_STR("no"), e));
    }
    static const struct {
        stet_job_state state;
        uint32_t count;
    } WANTED[] = {{STET_JOB_ACTIVE, 5},
                  {STET_JOB_DONE, 5},
                  {STET_JOB_ERROR, 10},
                  {STET_JOB_QUEUED, 0},
                  {STET_JOB_CANCELLED, 0}};
    for (unsigned i = 0; i < COUNT_OF(WANTED); i++) {
        seen s = {.count = 0}, by_key = {.count = 0};
        stet_job_filter filter = {.by_state = true, .state = WANTED[i].state, .limit = 100};
        assert_int_equal(list(f, filter, &s), 0);
        assert_int_equal(s.count, WANTED[i].count);
        filter.key = STET_STR("a");
        (void)list(f, filter, &by_key);
        assert_int_equal(by_key.count, WANTED[i].count);
    }
    seen coded = {.count = 0}, paged = {.count = 0};
    stet_job_filter filter = {
        .by_state = true, .state = STET_JOB_ERROR, .error_code = "http_429", .limit = 100};
    (void)list(f, filter, &coded);
    assert_int_equal(coded.count, 5);
    filter.limit = 2;
    do
        filter.before_order = list(f, filter, &paged);
    while (filter.before_order != 0);
    assert_int_equal(paged.count, 5);
    seen any = {.count = 0};
    (void)list(f, (stet_job_filter){.error_code = "no_key", .limit = 100}, &any);
    assert_int_equal(any.count, 5);
}

static void a_list_looks_at_a_bounded_number_of_rows(void **state) {
    fixture *f = *state;
    f->run = run_done;
    f->set.concurrency = 0;
    f->queues[0].key_concurrency = 0;
    stet_id old =
        submit(f, &(stet_job_submit){.key = STET_STR("z"), .run_at_ms = f->turn.wall_ms + 100000000});
    stet_id older =
        submit(f, &(stet_job_submit){.key = STET_STR("z"), .run_at_ms = f->turn.wall_ms + 200000000});
    for (unsigned i = 0; i < 10100; i++) {
        (void)submit_key(f, "a");
        if (i % 200 == 199) {
            tick(f);
            f->started_count = f->written_count = 0;
            commit(f);
        }
    }
    seen s = {.count = 0};
    stet_job_filter filter = {.by_state = true, .state = STET_JOB_DELAYED, .limit = 10};
    uint64_t before = stet_store_stats_of(f->turn.store).reads;
    filter.before_order = list(f, filter, &s);
    assert_int_equal(s.count, 0);
    assert_true(filter.before_order != 0);
    assert_in_range(stet_store_stats_of(f->turn.store).reads - before, 10000, 10010);
    assert_int_equal(list(f, filter, &s), 0);
    assert_int_equal(s.count, 2);
    assert_true(stet_id_equal(s.ids[0], older));
    assert_true(stet_id_equal(s.ids[1], old));
}

static void a_list_brings_long_payloads_too(void **state) {
    fixture *f = *state;
    static char bytes[100000];
    (void)submit(f, &(stet_job_submit){.key = STET_STR("a"), .payload = {bytes, sizeof(bytes)}});
    seen s = {.count = 0};
    (void)list(f, (stet_job_filter){.limit = 10}, &s);
    assert_int_equal(s.payload_size, sizeof(bytes));
}

static uint32_t position(fixture *f, stet_id id) {
    stet_job job = read_job(f, id);
    return stet_job_position(&f->turn, &job);
}

static void position_counts_what_starts_before(void **state) {
    fixture *f = *state;
    f->set.concurrency = 1;
    stet_id running = submit_key(f, "r");
    tick(f);
    assert_int_equal(position(f, running), 0);
    stet_id a1 = submit_key(f, "a"), b1 = submit_key(f, "b"), a2 = submit_key(f, "a"),
            a3 = submit_key(f, "a");
    assert_int_equal(position(f, a1), 0);
    assert_int_equal(position(f, b1), 1);
    assert_int_equal(position(f, a2), 2); /* both heads */
    assert_int_equal(position(f, a3), 3);
    stet_id urgent = submit(f, &(stet_job_submit){.key = STET_STR("c"), .priority = 0});
    assert_int_equal(position(f, urgent), 0);
    assert_int_equal(position(f, a1), 1);
    stet_id last = {{0}};
    for (unsigned i = 0; i < 1200; i++)
        last = submit_key(f, "a");
    assert_int_equal(position(f, last), 1000);
    commit(f);
    uint64_t before = stet_store_stats_of(f->turn.store).reads;
    (void)position(f, last);
    assert_in_range(stet_store_stats_of(f->turn.store).reads - before, 1,
                    10); /* the newest is not counted one by one */
}

static void the_oldest_due_job_is_found_also_behind_a_running_one(void **state) {
    fixture *f = *state;
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 0);
    f->set.concurrency = 1;
    (void)submit_key(f, "a");
    tick(f);
    f->turn.wall_ms += 100;
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 0);
    (void)submit_key(f, "a");
    f->turn.wall_ms += 100;
    (void)submit_key(f, "b");
    f->turn.wall_ms += 100;
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 200);
    pause_key(f, "a", true);
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 100);
    OK(stet_job_pause(&f->turn, queue(f), (stet_str){NULL, 0}, true, e));
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 0);
    OK(stet_job_pause(&f->turn, queue(f), (stet_str){NULL, 0}, false, e));
    (void)submit(f, &(stet_job_submit){.key = STET_STR("c"), .run_at_ms = f->turn.wall_ms + 50});
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 100);
    f->turn.wall_ms += 1000;
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 1100);
}

static void a_delayed_job_that_is_due_counts_from_when_it_was_due(void **state) {
    fixture *f = *state;
    (void)submit(f, &(stet_job_submit){.key = STET_STR("c"), .run_at_ms = f->turn.wall_ms + 50});
    f->turn.wall_ms += 80;
    assert_int_equal(stet_job_oldest_due_ms(&f->turn, queue(f)), 30);
}

static void stats_name_each_queue_with_counts_age_and_pause(void **state) {
    fixture *f = *state;
    (void)submit_key(f, "a");
    f->turn.wall_ms += 5;
    OK(stet_job_pause(&f->turn, &f->queues[1], (stet_str){NULL, 0}, true, e));
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    stet_jobs_stats(&f->turn, &f->service, &b);
    stet_error refusal;
    assert_int_equal(stet_mp_check(stet_buf_str(&b), STET_MP_LIMITS_BODY, &refusal), STET_OK);
    stet_str drafts = stet_mp_get_raw(stet_buf_str(&b), "drafts"),
             other = stet_mp_get_raw(stet_buf_str(&b), "other");
    assert_int_equal(stet_mp_get_uint(drafts, "queued", 9), 1);
    assert_int_equal(stet_mp_get_uint(drafts, "cancelled", 9), 0);
    assert_int_equal(stet_mp_get_uint(drafts, "oldestDueMs", 9), 5);
    assert_false(stet_mp_get_bool(drafts, "paused", true));
    assert_true(stet_mp_get_bool(other, "paused", false));
}

static void a_job_is_shown_as_a_well_formed_map_in_every_state(void **state) {
    fixture *f = *state;
    stet_id id = submit(f, &(stet_job_submit){.key = STET_STR("a"), .dedup_key = STET_STR("d")});
    for (unsigned i = 0; i < 4; i++) {
        stet_job job = read_job(f, id);
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(65536);
        stet_job_encode(&job, &b, /* extra_pairs= */ 1);
        stet_mp_put_cstr(&b, "projectId", "p");
        stet_str map = stet_buf_str(&b);
        stet_error refusal;
        assert_int_equal(stet_mp_check(map, STET_MP_LIMITS_BODY, &refusal), STET_OK);
        assert_true(
            stet_str_is(stet_mp_get_str(map, "status", STET_STR("")), stet_job_state_name(job.state)));
        assert_true(stet_str_is(stet_mp_get_str(map, "projectId", STET_STR("")), "p"));
        assert_true(stet_str_is(stet_mp_get_str(map, "dedupKey", STET_STR("")), "d"));
        assert_int_equal(stet_mp_get_raw(map, "error").size > 0, job.error_code[0] != '\0');
        assert_int_equal(stet_mp_get_raw(map, "finishedAt").size > 0, jobs_finished(job.state));
        if (i == 0)
            tick(f);
        else if (i == 1)
            assert_int_equal(failed(f, id), STET_OK);
        else
            (void)cancel(f, id);
    }
}

static void state_names_parse_back(void **state) {
    (void)state;
    stet_job_state parsed;
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++) {
        assert_true(stet_job_state_parse(stet_str_of(stet_job_state_name((stet_job_state)i)), &parsed));
        assert_int_equal(parsed, i);
    }
    assert_false(stet_job_state_parse(STET_STR("waiting"), &parsed));
}

/* ---- check ---- */

/* Deletes (or writes) one row and says whether check finds anything. */
static bool check_finds(fixture *f, uint8_t only_table) {
    stet_batch *batch = stet_turn_batch(&f->turn);
    f->problems = 0;
    for (unsigned table = 16; table < 32; table++) {
        if (only_table != 0 && table != only_table)
            continue;
        stet_key prefix = stet_key_of((uint8_t)table);
        CLEANUP(stet_scan_done)
        stet_scan *scan = stet_batch_scan(batch, stet_key_bytes(&prefix), (stet_str){NULL, 0}, false);
        stet_str key, value;
        while (stet_scan_next(scan, &key, &value))
            OK(stet_jobs_check_row(&f->turn, &f->service, (stet_checker *)(void *)f, key, value, e));
    }
    release(f);
    return f->problems > 0;
}

static void one_of_each(fixture *f) {
    static char bytes[5000];
    f->set.concurrency = 3;
    (void)submit(f, &(stet_job_submit){.key = STET_STR("a"), .payload = {bytes, sizeof(bytes)}});
    stet_id error = submit_key(f, "b");
    stet_id active = submit_key(f, "c");
    tick(f);
    assert_int_equal(fail_finally(f, error), STET_OK);
    stet_job job = read_job(f, active);
    OK(stet_job_resume_at(&f->turn, &job, f->turn.wall_ms + 5000, e));
    (void)submit(f, &(stet_job_submit){.key = STET_STR("a"), .dedup_key = STET_STR("d")}); /* waiting */
    (void)submit_key(f, "x");                                                              /* ready */
    (void)submit(f, &(stet_job_submit){.key = STET_STR("y"), .run_at_ms = f->turn.wall_ms + 1000});
    stet_id finished = submit_key(f, "z");
    tick(f);
    (void)cancel(f, finished);
    (void)submit_key(f, "w");
    commit(f);
}

static void check_finds_nothing_in_a_sound_store_and_every_row_that_is_missing(void **state) {
    fixture *f = *state;
    one_of_each(f);
    assert_false(check_finds(f, 0));
    stet_batch *batch = stet_turn_batch(&f->turn);
    for (unsigned table = 16; table <= 27; table++) {
        stet_key prefix = stet_key_of((uint8_t)table);
        unsigned rows = (unsigned)rows_of(f, (uint8_t)table);
        if (rows == 0)
            fail_msg("the test has no row in table %u", table);
        for (unsigned row = 0; row < rows; row++) {
            stet_key key;
            {
                CLEANUP(stet_scan_done)
                stet_scan *scan = stet_batch_scan(batch, stet_key_bytes(&prefix), (stet_str){NULL, 0}, false);
                stet_str found, value;
                for (unsigned i = 0; i <= row; i++)
                    assert_true(stet_scan_next(scan, &found, &value));
                memcpy(key.bytes, found.data, found.size);
                key.size = found.size;
            }
            uint64_t mark = stet_batch_mark(batch);
            stet_batch_delete(batch, stet_key_bytes(&key));
            if (!check_finds(f, 0))
                fail_msg("row %u of table %u is missing and nobody noticed", row, table);
            stet_batch_rollback(batch, mark);
        }
    }
    assert_false(check_finds(f, 0));
}

static void check_finds_rows_that_nothing_justifies(void **state) {
    fixture *f = *state;
    one_of_each(f);
    stet_job job = read_job(f, f->started[0]); /* active */
    stet_batch *batch = stet_turn_batch(&f->turn);
    stet_id strange = {{1, 2, 3}};
    const stet_key keys[] = {jobs_ready_key(queue(f), 3, 999),
                             jobs_waiting_key(queue(f), job.key, 3, job.id),
                             jobs_time_key(STET_TABLE_JOBS_DELAYED, queue(f), 7, job.id),
                             jobs_time_key(STET_TABLE_JOBS_RESUME, queue(f), 7, job.id),
                             jobs_active_key(queue(f), strange),
                             jobs_failed_key(queue(f), STET_JOB_ERROR, job.id),
                             jobs_by_key_key(queue(f), STET_STR("q"), job.id),
                             jobs_dedup_key(queue(f), job.key, STET_STR("q")),
                             jobs_blob_key(queue(f), job.id, 2),
                             jobs_row_key(queue(f), strange)};
    for (unsigned i = 0; i < COUNT_OF(keys); i++) {
        uint64_t mark = stet_batch_mark(batch);
        stet_batch_put(batch, stet_key_bytes(&keys[i]), STET_STR(""));
        if (!check_finds(f, keys[i].bytes[0]))
            fail_msg("a stray row of table %u was not noticed", keys[i].bytes[0]);
        stet_batch_rollback(batch, mark);
    }
    stet_key foreign = stet_key_of(STET_TABLE_JOBS);
    stet_key_str(&foreign, STET_STR("nobody"));
    stet_batch_put(batch, stet_key_bytes(&foreign), STET_STR(""));
    assert_true(check_finds(f, STET_TABLE_JOBS));
}

static void rows_that_cannot_be_read_are_errors_and_never_followed(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "a");
    commit(f);
    stet_batch *batch = stet_turn_batch(&f->turn);
    stet_key key = jobs_row_key(queue(f), id);
    stet_str value;
    stet_error refusal;
    assert_int_equal(stet_batch_get(batch, stet_key_bytes(&key), &value, &refusal), STET_OK);
    char bytes[512];
    assert_true(value.size < sizeof(bytes));
    memcpy(bytes, value.data, value.size);
    size_t size = value.size;
    stet_job job;
    for (size_t cut = 0; cut < size; cut++) {
        stet_batch_put(batch, stet_key_bytes(&key), (stet_str){bytes, cut});
        assert_int_equal(stet_job_read(&f->turn, queue(f), id, &job, &refusal), STET_INTERNAL);
    }
    for (size_t at = 0; at < size; at++)
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            bytes[at] = (char)(bytes[at] ^ (char)flip);
            stet_batch_put(batch, stet_key_bytes(&key), (stet_str){bytes, size});
            (void)!stet_job_read(&f->turn, queue(f), id, &job, &refusal);
            bytes[at] = (char)(bytes[at] ^ (char)flip);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(lists_are_newest_first_and_paged_without_gap_or_repeat),
        TEST(lists_select_by_state_and_error_code),
        TEST(a_list_looks_at_a_bounded_number_of_rows),
        TEST(a_list_brings_long_payloads_too),
        TEST(position_counts_what_starts_before),
        TEST(the_oldest_due_job_is_found_also_behind_a_running_one),
        TEST(a_delayed_job_that_is_due_counts_from_when_it_was_due),
        TEST(stats_name_each_queue_with_counts_age_and_pause),
        TEST(a_job_is_shown_as_a_well_formed_map_in_every_state),
        TEST(state_names_parse_back),
        TEST(check_finds_nothing_in_a_sound_store_and_every_row_that_is_missing),
        TEST(check_finds_rows_that_nothing_justifies),
        TEST(rows_that_cannot_be_read_are_errors_and_never_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
