/* The rules between jobs: order, keys, fairness, limits, deduplication, drain, pause, recovery, failing runs.
 */
#include "jobs_fixture.h"

static int setup(void **state) {
    *state = fixture_new(2);
    return 0;
}

static int teardown(void **state) {
    verify(*state);
    fixture_free(*state);
    return 0;
}

static void assert_started(fixture *f, uint32_t at, stet_id id) {
    assert_true(at < f->started_count);
    if (!stet_id_equal(f->started[at], id))
        fail_msg("start %u is another job", at);
}

/* ---- order ---- */

static void within_a_key_jobs_start_by_priority_then_submission(void **state) {
    fixture *f = *state;
    f->run = run_done;
    static const uint32_t PRIORITIES[] = {5, 5, 9, 0, 5, 0};
    static const unsigned WANTED[] = {3, 5, 0, 1, 4, 2};
    stet_id ids[COUNT_OF(PRIORITIES)];
    for (unsigned i = 0; i < COUNT_OF(PRIORITIES); i++) {
        ids[i] = submit(f, &(stet_job_submit){.key = STET_STR("a"), .priority = PRIORITIES[i]});
        verify(f);
    }
    tick(f);
    assert_int_equal(f->started_count, COUNT_OF(PRIORITIES));
    for (unsigned i = 0; i < COUNT_OF(PRIORITIES); i++)
        assert_started(f, i, ids[WANTED[i]]);
}

static void a_busy_key_does_not_block_the_others(void **state) {
    fixture *f = *state;
    stet_id first = submit_key(f, "a");
    stet_id second = submit_key(f, "a");
    stet_id other = submit_key(f, "b");
    tick(f);
    assert_state(f, first, ACTIVE);
    assert_state(f, second, QUEUED);
    assert_state(f, other, ACTIVE);
    assert_int_equal(done(f, first), STET_OK);
    tick(f);
    assert_state(f, second, ACTIVE);
}

static void queue_concurrency_holds_and_frees(void **state) {
    fixture *f = *state;
    f->set.concurrency = 2;
    stet_id ids[4];
    static const char *const KEYS[] = {"a", "b", "c", "d"};
    for (unsigned i = 0; i < 4; i++)
        ids[i] = submit_key(f, KEYS[i]);
    tick(f);
    assert_int_equal(count_of(f, STET_JOB_ACTIVE), 2);
    assert_int_equal(f->next_ms, INT64_MAX);
    uint32_t wakes = f->turn.wakes;
    assert_int_equal(done(f, ids[0]), STET_OK);
    assert_true(f->turn.wakes > wakes);
    tick(f);
    assert_state(f, ids[2], ACTIVE);
    assert_state(f, ids[3], QUEUED);
}

static void key_concurrency_above_one_and_none(void **state) {
    fixture *f = *state;
    f->queues[0].key_concurrency = 3;
    f->set.concurrency = 0;
    for (unsigned i = 0; i < 10; i++)
        (void)submit_key(f, "a");
    tick(f);
    assert_int_equal(count_of(f, STET_JOB_ACTIVE), 3);
    verify(f);
    f->queues[0].key_concurrency = 0;
    assert_int_equal(done(f, f->started[0]), STET_OK);
    tick(f);
    assert_int_equal(count_of(f, STET_JOB_ACTIVE), 9);
}

/* ---- fairness (F5) ---- */

/* Goal: one key with very many jobs and 99 keys with 10 each: the 99 finish within 1.2 x of their steps
 * alone. A step is one job done; four run at a time. */
static unsigned steps_until_small_keys_are_done(fixture *f, unsigned big) {
    f->queues[0].key_concurrency = 4;
    unsigned left = 99 * 10, steps = 0;
    for (unsigned i = 0; i < big; i++) {
        (void)submit_key(f, "big");
        if (i % 1000 == 999)
            commit(f);
    }
    for (unsigned i = 0; i < 990; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%u", i / 10);
        (void)submit_key(f, key);
    }
    commit(f);
    uint32_t finished = 0;
    while (left > 0 && steps < 5000) {
        tick(f);
        assert_true(finished < f->started_count);
        stet_id id = f->started[finished++];
        if (!stet_str_is(read_job(f, id).key, "big"))
            left--;
        assert_int_equal(done(f, id), STET_OK);
        steps++;
        if (steps % 50 == 0)
            commit(f);
    }
    assert_int_equal(left, 0);
    return steps;
}

static void a_key_with_many_jobs_does_not_hold_up_the_small_ones(void **state) {
    (void)state;
    fixture *alone = fixture_new(3);
    unsigned steps_alone = steps_until_small_keys_are_done(alone, 0);
    fixture_free(alone);
    fixture *mixed = fixture_new(3);
    unsigned steps_mixed = steps_until_small_keys_are_done(mixed, 10000);
    fixture_free(mixed);
    assert_int_equal(steps_alone, 990);
    assert_in_range(steps_mixed, 990, 990 * 12 / 10);
}

static uint64_t reads_per_start(unsigned backlog, const char *key) {
    fixture *f = fixture_new(4);
    f->set.concurrency = 1;
    for (unsigned i = 0; i < backlog; i++) {
        char own[16];
        (void)snprintf(own, sizeof(own), "k%u", i);
        (void)submit_key(f, key != NULL ? key : own);
        if (i % 1000 == 999)
            commit(f);
    }
    commit(f);
    uint64_t most = 0;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t before = stet_store_stats_of(f->turn.store).reads;
        tick(f);
        uint64_t reads = stet_store_stats_of(f->turn.store).reads - before;
        most = reads > most ? reads : most;
        assert_int_equal(done(f, f->started[i]), STET_OK);
        commit(f);
    }
    fixture_free(f);
    return most;
}

static void a_start_costs_the_same_with_any_backlog(void **state) {
    (void)state;
    uint64_t few = reads_per_start(64, NULL), many = reads_per_start(5000, NULL);
    uint64_t few_of_one = reads_per_start(64, "a"), many_of_one = reads_per_start(5000, "a");
    assert_int_equal(few, many);
    assert_int_equal(few_of_one, many_of_one);
    assert_in_range(many, 1, 60);
    assert_in_range(many_of_one, 1, 60);
}

/* ---- rate ---- */

static void no_window_ever_sees_more_starts_than_the_rate(void **state) {
    fixture *f = *state;
    f->queues[0].rate_max = 5;
    f->queues[0].rate_window_ms = 1000;
    f->queues[0].key_concurrency = 0;
    f->set.concurrency = 0;
    f->run = run_done;
    for (unsigned i = 0; i < 200; i++)
        (void)submit_key(f, "a");
    int64_t at[400];
    unsigned count = 0;
    stet_prng random = stet_prng_of(5);
    while (f->started_count < 200) {
        unsigned before = f->started_count;
        tick(f);
        if (before == 0)
            assert_int_equal(f->started_count, 5); /* and a free window is used up */
        for (unsigned i = before; i < f->started_count; i++)
            at[count++] = f->turn.wall_ms;
        if (count % 7 == 0) { /* a restart does not reset the window */
            commit(f);
            stet_store_memory_crash(f->turn.store);
            recover(f);
        }
        if (f->started_count < 200)
            assert_true(f->next_ms > f->turn.wall_ms && f->next_ms <= f->turn.wall_ms + 1000);
        f->turn.wall_ms += 1 + (int64_t)stet_prng_below(&random, 400);
    }
    for (unsigned i = 5; i < count; i++)
        assert_true(at[i] - at[i - 5] >= 1000);
}

static void a_clock_that_goes_back_does_not_stop_a_limited_queue(void **state) {
    fixture *f = *state;
    f->queues[0].rate_max = 1;
    f->queues[0].rate_window_ms = 1000;
    f->run = run_done;
    stet_id a = submit_key(f, "a"), b = submit_key(f, "b");
    tick(f);
    assert_state(f, a, DONE);
    f->turn.wall_ms -= 1000000;
    tick(f);
    assert_state(f, b, QUEUED);
    assert_int_equal(f->next_ms, f->turn.wall_ms + 1000);
    f->turn.wall_ms += 1000;
    tick(f);
    assert_state(f, b, DONE);
}

/* ---- deduplication (F4) ---- */

static stet_job save(fixture *f, const char *payload, bool replace, bool *existing) {
    stet_job_submit s = {
        .key = STET_STR("draft"), .dedup_key = STET_STR("d"), .payload = stet_str_of(payload)};
    s.dedup = replace ? STET_DEDUP_REPLACE_PAYLOAD : STET_DEDUP_KEEP_FIRST;
    stet_job job;
    OK(stet_job_submit_new(&f->turn, queue(f), &s, &job, existing, e));
    return job;
}

static void keep_first_answers_the_waiting_job_unchanged(void **state) {
    fixture *f = *state;
    bool existing;
    stet_job first = save(f, "\x01", false, &existing);
    assert_false(existing);
    stet_job second = save(f, "\x02", false, &existing);
    assert_true(existing);
    assert_true(stet_id_equal(first.id, second.id));
    assert_true(stet_str_is(read_job(f, first.id).payload, "\x01"));
}

static void replace_lets_the_latest_payload_win_and_one_more_wait_during_the_run(void **state) {
    fixture *f = *state;
    bool existing;
    stet_job first = save(f, "\x01", true, &existing);
    (void)save(f, "\x02", true, &existing);
    assert_true(existing);
    tick(f);
    assert_true(stet_str_is(read_job(f, first.id).payload, "\x02"));
    stet_job second = save(f, "\x03", true, &existing);
    assert_false(existing);
    (void)save(f, "\x04", true, &existing);
    assert_true(existing);
    tick(f);
    assert_state(f, second.id, QUEUED);
    assert_int_equal(done(f, first.id), STET_OK);
    tick(f);
    assert_state(f, second.id, ACTIVE);
    assert_true(stet_str_is(read_job(f, second.id).payload, "\x04"));
}

static void a_failed_save_gives_way_to_the_newer_one_that_waits(void **state) {
    fixture *f = *state;
    bool existing;
    stet_job first = save(f, "\x01", true, &existing);
    tick(f);
    stet_job second = save(f, "\x02", true, &existing);
    assert_int_equal(failed(f, first.id), STET_OK);
    stet_job old = read_job(f, first.id);
    assert_int_equal(old.state, STET_JOB_CANCELLED);
    assert_string_equal(old.error_code, "superseded");
    verify(f);
    assert_int_equal(retry(f, first.id), STET_CONFLICT);
    tick(f);
    assert_state(f, second.id, ACTIVE);
}

static void with_keep_first_a_failed_job_keeps_its_place_before_the_newer_one(void **state) {
    fixture *f = *state;
    bool existing;
    stet_job first = save(f, "\x01", false, &existing);
    tick(f);
    stet_job second = save(f, "\x02", false, &existing);
    assert_false(existing);
    assert_int_equal(failed(f, first.id), STET_OK);
    assert_state(f, first.id, DELAYED);
    assert_state(f, second.id, CANCELLED);
    (void)save(f, "\x03", false, &existing);
    assert_true(existing);
}

/* ---- drain ---- */

static void drain_runs_jobs_in_spite_of_back_off(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "a");
    tick(f);
    assert_int_equal(failed(f, id), STET_OK);
    tick(f);
    assert_state(f, id, DELAYED);
    assert_int_equal(drain(f, 3), 1);
    verify(f);
    tick(f);
    assert_state(f, id, ACTIVE);
}

static void drain_runs_jobs_in_spite_of_both_pauses_and_only_as_many_as_asked(void **state) {
    fixture *f = *state;
    stet_id a = submit_key(f, "a"), b = submit_key(f, "b"), c = submit_key(f, "c");
    pause_key(f, "a", true);
    OK(stet_job_pause(&f->turn, queue(f), (stet_str){NULL, 0}, true, e));
    tick(f);
    assert_int_equal(f->started_count, 0);
    assert_int_equal(drain(f, 1), 1);
    tick(f);
    assert_int_equal(f->started_count, 1);
    assert_started(f, 0, b); /* the paused key's job is not a head; it comes after those that are */
    assert_int_equal(drain(f, 10), 2);
    verify(f);
    tick(f);
    assert_state(f, a, ACTIVE);
    assert_state(f, c, ACTIVE);
    assert_int_equal(drain(f, 10), 0);
}

static void a_drained_job_of_a_busy_key_runs_next_when_the_key_frees(void **state) {
    fixture *f = *state;
    stet_id first = submit_key(f, "a");
    tick(f);
    stet_id delayed = submit(
        f, &(stet_job_submit){.key = STET_STR("a"), .priority = 9, .run_at_ms = f->turn.wall_ms + 60000});
    assert_int_equal(drain(f, 5), 1);
    stet_id urgent = submit(f, &(stet_job_submit){.key = STET_STR("a"), .priority = 0});
    tick(f);
    assert_state(f, delayed, QUEUED);
    assert_int_equal(drain(f, 1), 1); /* the drained one does not count again */
    commit(f);
    stet_store_memory_crash(f->turn.store);
    verify(f);
    assert_int_equal(done(f, first), STET_OK);
    tick(f);
    assert_state(f, delayed, ACTIVE);
    assert_state(f, urgent, QUEUED);
}

static void drain_looks_past_heads_into_waiting_and_delayed_jobs(void **state) {
    fixture *f = *state;
    for (unsigned i = 0; i < 70; i++)
        (void)submit_key(f, "a");
    for (unsigned i = 0; i < 5; i++)
        (void)submit(f, &(stet_job_submit){.key = STET_STR("b"), .run_at_ms = f->turn.wall_ms + 1000 + i});
    assert_int_equal(drain(f, 64), 64);
    assert_int_equal(drain(f, 64), 11);
    assert_int_equal(drain(f, 64), 0);
    assert_int_equal(count_of(f, STET_JOB_DELAYED), 0);
}

/* ---- pause ---- */

static void a_paused_key_finishes_what_runs_and_starts_nothing_until_resumed(void **state) {
    fixture *f = *state;
    stet_id first = submit_key(f, "a"), second = submit_key(f, "a"), other = submit_key(f, "b");
    tick(f);
    pause_key(f, "a", true);
    pause_key(f, "empty", true);
    commit(f);
    stet_store_memory_crash(f->turn.store); /* a pause survives */
    verify(f);
    assert_true(stet_job_paused(&f->turn, queue(f), STET_STR("a")));
    assert_false(stet_job_paused(&f->turn, queue(f), STET_STR("b")));
    assert_int_equal(done(f, first), STET_OK);
    tick(f);
    assert_state(f, second, QUEUED);
    assert_state(f, other, ACTIVE);
    verify(f);
    pause_key(f, "a", false);
    pause_key(f, "empty", false);
    tick(f);
    assert_state(f, second, ACTIVE);
}

static void a_paused_queue_starts_nothing_until_resumed(void **state) {
    fixture *f = *state;
    OK(stet_job_pause(&f->turn, queue(f), (stet_str){NULL, 0}, true, e));
    stet_id id = submit_key(f, "a");
    tick(f);
    assert_state(f, id, QUEUED);
    assert_true(stet_job_paused(&f->turn, queue(f), STET_STR("a")));
    OK(stet_job_pause(&f->turn, queue(f), (stet_str){NULL, 0}, false, e));
    tick(f);
    assert_state(f, id, ACTIVE);
}

/* ---- recovery ---- */

static void a_crash_returns_active_jobs_with_the_attempt_counted(void **state) {
    fixture *f = *state;
    f->set.attempts_max = 2;
    stet_id id = submit_key(f, "a"), next = submit_key(f, "a");
    tick(f);
    stet_job job = read_job(f, id);
    OK(stet_job_set_detail(&f->turn, &job, STET_STR("\x81\xa1n\x01"), 0.5, e));
    commit(f);
    for (unsigned crash = 1; crash <= 2; crash++) {
        stet_store_memory_crash(f->turn.store);
        recover(f);
        verify(f);
        job = read_job(f, id);
        assert_int_equal(job.attempt, crash);
        assert_string_equal(job.error_code, "interrupted");
        stet_mp_reader r = stet_mp_reader_of(job.attempts);
        assert_int_equal(stet_mp_read_array(&r), crash);
        stet_str entry = stet_mp_read_raw(&r);
        assert_true(stet_str_is(stet_mp_get_str(entry, "outcome", STET_STR("")), "interrupted"));
        assert_int_equal(stet_mp_get_uint(stet_mp_get_raw(entry, "detail"), "n", 0), 1);
        assert_int_equal(job.state, crash == 1 ? STET_JOB_QUEUED : STET_JOB_ERROR);
        tick(f); /* it goes before the next of its key */
        if (crash == 1)
            assert_state(f, next, QUEUED);
        else
            assert_state(f, next, ACTIVE);
        commit(f);
    }
}

static void recovery_of_very_many_jobs_is_spread_over_ticks_and_nothing_starts_before(void **state) {
    fixture *f = *state;
    f->set.concurrency = 0;
    f->queues[0].key_concurrency = 0;
    static char bytes[4000];
    memset(bytes, 'x', sizeof(bytes));
    for (unsigned i = 0; i < 300; i++) {
        (void)submit(f, &(stet_job_submit){.key = STET_STR("a"), .payload = {bytes, sizeof(bytes)}});
        tick(f);
        commit(f);
    }
    assert_int_equal(count_of(f, STET_JOB_ACTIVE), 300);
    stet_store_memory_crash(f->turn.store);
    uint32_t started = f->started_count;
    recover(f);
    assert_true(stet_batch_bytes(stet_turn_batch(&f->turn)) < 400 << 10);
    assert_in_range(count_of(f, STET_JOB_ACTIVE), 1, 299);
    commit(f);
    verify(f);
    unsigned ticks = 0;
    while (f->started_count == started && ticks++ < 20) {
        tick(f);
        assert_int_equal(f->next_ms, 0);
        commit(f);
    }
    assert_in_range(ticks, 2, 15);
    assert_int_equal(read_job(f, f->started[started]).attempt, 2);
}

/* ---- runs that fail ---- */

static stet_code run_broken(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    (void)f;
    turn->effects += 10;
    stet_key key = stet_key_of(200);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), STET_STR("half done"));
    if (!stet_str_is(job->key, "bad"))
        return STET_OK;
    return stet_error_set(e, STET_INTERNAL, "a bug");
}

static void a_run_that_fails_is_undone_alone_and_counts_as_an_attempt(void **state) {
    fixture *f = *state;
    f->run = run_broken;
    stet_id bad = submit_key(f, "bad");
    tick(f);
    assert_int_equal(rows_of(f, 200), 0);
    stet_job job = read_job(f, bad);
    assert_int_equal(job.state, STET_JOB_DELAYED);
    assert_int_equal(job.attempt, 1);
    assert_string_equal(job.error_code, "internal");
    assert_int_equal(f->next_ms, job.run_at_ms);
    verify(f);
    stet_id good = submit_key(f, "good");
    tick(f);
    assert_state(f, good, ACTIVE);
}

static stet_code run_busy(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    (void)turn;
    (void)job;
    if (f->started_count > 1)
        return STET_OK;
    stet_error_set(e, STET_BUSY, "not now");
    e->retry_after_ms = 250;
    return STET_BUSY;
}

static void a_busy_actor_gets_the_job_again_later_without_an_attempt_lost(void **state) {
    fixture *f = *state;
    f->run = run_busy;
    stet_id id = submit_key(f, "a");
    tick(f);
    assert_state(f, id, QUEUED);
    assert_int_equal(f->next_ms, f->turn.wall_ms + 250);
    f->turn.wall_ms += 250;
    tick(f);
    assert_state(f, id, ACTIVE);
    assert_int_equal(read_job(f, id).attempt, 1);
}

static stet_code run_large(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    (void)f;
    (void)e;
    turn->effects += stet_str_is(job->key, "huge") ? 1000 : 30;
    return STET_OK;
}

static void starts_that_do_not_fit_wait_for_the_next_turn(void **state) {
    fixture *f = *state;
    f->run = run_large;
    f->turn.effects_max = 100;
    static const char *const KEYS[] = {"a", "b", "c", "huge"};
    for (unsigned i = 0; i < 4; i++)
        (void)submit_key(f, KEYS[i]);
    commit(f);
    tick(f);
    assert_int_equal(count_of(f, STET_JOB_ACTIVE), 3);
    assert_int_equal(f->next_ms, 0);
    commit(f);
    tick(f); /* alone it does not fit either: it fails instead of being tried for ever */
    assert_int_equal(count_of(f, STET_JOB_DELAYED), 1);
    assert_string_equal(read_job(f, f->started[f->started_count - 1]).error_code, "too_large");
}

static stet_code run_cancels_b(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    if (!stet_str_is(job->key, "a"))
        return STET_OK;
    stet_job b;
    stet_code rc = stet_job_read(turn, queue(f), f->written[1].id, &b, e);
    return rc == STET_OK ? stet_job_cancel(turn, &b, e) : rc;
}

static void a_run_may_cancel_a_job_that_was_about_to_start(void **state) {
    fixture *f = *state;
    f->run = run_cancels_b;
    (void)submit_key(f, "a");
    stet_id b = submit_key(f, "b");
    stet_id c = submit_key(f, "c");
    tick(f);
    assert_state(f, b, CANCELLED);
    assert_state(f, c, ACTIVE);
    assert_int_equal(f->started_count, 2);
}

static void an_error_of_written_is_the_callers_and_undone_by_it(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "a");
    tick(f);
    f->written_code = STET_INTERNAL;
    assert_int_equal(done(f, id), STET_INTERNAL);
    assert_state(f, id, ACTIVE);
    assert_int_equal(cancel(f, id), STET_INTERNAL);
    assert_state(f, id, ACTIVE);
    f->written_code = STET_OK;
    assert_int_equal(done(f, id), STET_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(within_a_key_jobs_start_by_priority_then_submission),
        TEST(a_busy_key_does_not_block_the_others),
        TEST(queue_concurrency_holds_and_frees),
        TEST(key_concurrency_above_one_and_none),
        TEST(a_key_with_many_jobs_does_not_hold_up_the_small_ones),
        TEST(a_start_costs_the_same_with_any_backlog),
        TEST(no_window_ever_sees_more_starts_than_the_rate),
        TEST(a_clock_that_goes_back_does_not_stop_a_limited_queue),
        TEST(keep_first_answers_the_waiting_job_unchanged),
        TEST(replace_lets_the_latest_payload_win_and_one_more_wait_during_the_run),
        TEST(a_failed_save_gives_way_to_the_newer_one_that_waits),
        TEST(with_keep_first_a_failed_job_keeps_its_place_before_the_newer_one),
        TEST(drain_runs_jobs_in_spite_of_back_off),
        TEST(drain_runs_jobs_in_spite_of_both_pauses_and_only_as_many_as_asked),
        TEST(a_drained_job_of_a_busy_key_runs_next_when_the_key_frees),
        TEST(drain_looks_past_heads_into_waiting_and_delayed_jobs),
        TEST(a_paused_key_finishes_what_runs_and_starts_nothing_until_resumed),
        TEST(a_paused_queue_starts_nothing_until_resumed),
        TEST(a_crash_returns_active_jobs_with_the_attempt_counted),
        TEST(recovery_of_very_many_jobs_is_spread_over_ticks_and_nothing_starts_before),
        TEST(a_run_that_fails_is_undone_alone_and_counts_as_an_attempt),
        TEST(a_busy_actor_gets_the_job_again_later_without_an_attempt_lost),
        TEST(starts_that_do_not_fit_wait_for_the_next_turn),
        TEST(a_run_may_cancel_a_job_that_was_about_to_start),
        TEST(an_error_of_written_is_the_callers_and_undone_by_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
