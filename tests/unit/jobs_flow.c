/* The life of one job: every transition, every bound, every refusal. */
#include "jobs_fixture.h"

static int setup(void **state) {
    *state = fixture_new(1);
    return 0;
}

static int teardown(void **state) {
    verify(*state);
    fixture_free(*state);
    return 0;
}

static void submitted_job_is_queued_started_and_done(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "p1");
    assert_state(f, id, QUEUED);
    verify(f);
    tick(f);
    assert_state(f, id, ACTIVE);
    assert_int_equal(read_job(f, id).attempt, 1);
    verify(f);
    assert_int_equal(done(f, id), STET_OK);
    stet_job job = read_job(f, id);
    assert_int_equal(job.state, STET_JOB_DONE);
    assert_true(stet_str_is(job.result, "\xa2ok"));
    assert_true(job.progress == 1.0);
    stet_mp_reader r = stet_mp_reader_of(job.attempts);
    assert_int_equal(stet_mp_read_array(&r), 1);
    assert_true(stet_str_is(stet_mp_get_str(stet_mp_read_raw(&r), "outcome", STET_STR("")), "done"));
}

static void every_write_is_told_once_with_the_state_before(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "p1");
    tick(f);
    assert_int_equal(failed(f, id), STET_OK);
    f->turn.wall_ms += 2000;
    tick(f);
    assert_int_equal(done(f, id), STET_OK);
    static const stet_job_state WANTED[][2] = {
        {STET_JOB_STATES_COUNT, STET_JOB_QUEUED}, {STET_JOB_QUEUED, STET_JOB_ACTIVE},
        {STET_JOB_ACTIVE, STET_JOB_DELAYED},      {STET_JOB_DELAYED, STET_JOB_QUEUED},
        {STET_JOB_QUEUED, STET_JOB_ACTIVE},       {STET_JOB_ACTIVE, STET_JOB_DONE}};
    assert_int_equal(f->written_count, COUNT_OF(WANTED));
    for (unsigned i = 0; i < COUNT_OF(WANTED); i++) {
        assert_int_equal(f->written[i].before, WANTED[i][0]);
        assert_int_equal(f->written[i].after, WANTED[i][1]);
    }
}

static void run_that_ends_the_job_at_once_leaves_nothing_active(void **state) {
    fixture *f = *state;
    f->run = run_done;
    stet_id id = submit_key(f, "p1");
    tick(f);
    assert_state(f, id, DONE);
    assert_int_equal(count_of(f, STET_JOB_ACTIVE), 0);
}

static void a_better_priority_goes_first_across_keys(void **state) {
    fixture *f = *state;
    f->set.concurrency = 1;
    stet_id low = submit(f, &(stet_job_submit){.key = STET_STR("a"), .priority = 7});
    stet_id high = submit(f, &(stet_job_submit){.key = STET_STR("b"), .priority = 1});
    tick(f);
    assert_state(f, high, ACTIVE);
    assert_state(f, low, QUEUED);
}

static void a_job_of_its_own_key_costs_four_rows_and_then_three(void **state) {
    fixture *f = *state;
    f->set.concurrency = 0;
    stet_id ids[10];
    for (unsigned i = 0; i < 10; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%u", i);
        ids[i] = submit_key(f, key);
    }
    tick(f);
    assert_int_equal(stet_batch_count(stet_turn_batch(&f->turn)), 10 * 4 + 1); /* and the queue's row */
    commit(f);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(done(f, ids[i]), STET_OK);
    assert_int_equal(stet_batch_count(stet_turn_batch(&f->turn)), 10 * 3 + 1);
}

static void delayed_job_runs_when_due_and_not_before(void **state) {
    fixture *f = *state;
    int64_t due_ms = f->turn.wall_ms + 5000;
    stet_id id = submit(f, &(stet_job_submit){.key = STET_STR("p1"), .run_at_ms = due_ms});
    assert_state(f, id, DELAYED);
    tick(f);
    assert_int_equal(f->next_ms, due_ms);
    f->turn.wall_ms = due_ms - 1;
    tick(f);
    assert_state(f, id, DELAYED);
    verify(f);
    f->turn.wall_ms = due_ms;
    tick(f);
    assert_state(f, id, ACTIVE);
}

static void many_due_jobs_are_promoted_in_bounded_steps(void **state) {
    fixture *f = *state;
    f->set.concurrency = 0;
    f->run = run_done;
    for (int i = 0; i < 700; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%d", i);
        (void)submit(f,
                     &(stet_job_submit){.key = stet_str_of(key), .run_at_ms = f->turn.wall_ms + 1 + i % 7});
        if (i % 100 == 99)
            commit(f);
    }
    f->turn.wall_ms += 10;
    unsigned ticks = 0;
    do {
        tick(f);
        commit(f);
        ticks++;
    } while (f->next_ms == 0 && ticks < 100);
    assert_int_equal(count_of(f, STET_JOB_DONE), 700);
    assert_in_range(ticks, 3, 10);
    assert_int_equal(f->next_ms, INT64_MAX);
}

static void retries_back_off_exponentially_with_bounded_jitter_then_error(void **state) {
    fixture *f = *state;
    f->set.attempts_max = 4;
    f->set.backoff_max_ms = 3000;
    stet_id id = submit_key(f, "p1");
    static const int64_t BASES[] = {1000, 2000, 3000};
    for (unsigned i = 0; i < COUNT_OF(BASES); i++) {
        tick(f);
        assert_state(f, id, ACTIVE);
        assert_int_equal(failed(f, id), STET_OK);
        stet_job job = read_job(f, id);
        assert_int_equal(job.state, STET_JOB_DELAYED);
        assert_in_range(job.run_at_ms - f->turn.wall_ms, BASES[i], BASES[i] + BASES[i] / 4);
        f->turn.wall_ms = job.run_at_ms;
    }
    tick(f);
    assert_int_equal(failed(f, id), STET_OK);
    stet_job job = read_job(f, id);
    assert_int_equal(job.state, STET_JOB_ERROR);
    assert_string_equal(job.error_code, "http_500");
    assert_true(stet_str_is(job.error_message, "it broke"));
    assert_int_equal(job.attempt, 4);
}

static void retry_after_is_the_least_wait_and_a_negative_one_means_at_once(void **state) {
    fixture *f = *state;
    f->set.attempts_max = 0;
    stet_id id = submit_key(f, "p1");
    tick(f);
    stet_job job = read_job(f, id);
    OK(stet_job_failed(&f->turn, &job, "http_429", STET_STR("slow down"), 45000, e));
    assert_int_equal(job.state, STET_JOB_DELAYED);
    assert_int_equal(job.run_at_ms, f->turn.wall_ms + 45000);
    f->turn.wall_ms += 45000;
    tick(f);
    job = read_job(f, id);
    OK(stet_job_failed(&f->turn, &job, "base_changed", STET_STR("again"), -1, e));
    assert_int_equal(job.state, STET_JOB_QUEUED);
}

static void fail_finally_ends_in_error_with_attempts_left(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "p1");
    tick(f);
    assert_int_equal(fail_finally(f, id), STET_OK);
    assert_state(f, id, ERROR);
    assert_string_equal(read_job(f, id).error_code, "no_key");
}

static void no_attempt_beyond_the_guard_without_an_operator(void **state) {
    fixture *f = *state;
    f->set.backoff_first_ms = 0;
    stet_id id = submit_key(f, "p1");
    for (unsigned i = 0; i < 10; i++) {
        tick(f);
        (void)failed(f, id);
    }
    assert_int_equal(f->started_count, 3);
    assert_state(f, id, ERROR);
    (void)drain(f, 10);
    tick(f);
    assert_int_equal(f->started_count, 3);
    assert_int_equal(retry(f, id), STET_OK);
    stet_job job = read_job(f, id);
    assert_int_equal(job.attempt, 0);
    assert_int_equal(job.attempt_total, 3);
    assert_int_equal(job.retries, 1);
    assert_string_equal(job.error_code, "");
    stet_mp_reader r = stet_mp_reader_of(job.attempts);
    assert_int_equal(stet_mp_read_array(&r), 3);
    tick(f);
    job = read_job(f, id);
    assert_int_equal(job.attempt, 1);
    assert_int_equal(job.attempt_total, 4);
}

static void a_lowered_guard_stops_a_waiting_job_also_when_drained(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "p1");
    tick(f);
    assert_int_equal(failed(f, id), STET_OK);
    f->set.attempts_max = 1;
    assert_int_equal(drain(f, 3), 1);
    tick(f);
    assert_state(f, id, ERROR);
    assert_int_equal(f->started_count, 1);
    assert_string_equal(read_job(f, id).error_code, "http_500");
}

static void result_of_an_old_attempt_is_refused_by_the_fence(void **state) {
    fixture *f = *state;
    f->set.backoff_first_ms = 0;
    stet_id id = submit_key(f, "p1");
    tick(f);
    stet_job old = read_job(f, id);
    stet_call_ref ref = {.job_id = id, .attempt = 1};
    stet_job job;
    assert_true(stet_jobs_current(&f->turn, &f->service, ref, &job));
    assert_int_equal(failed(f, id), STET_OK);
    assert_false(stet_jobs_current(&f->turn, &f->service, ref, &job));
    tick(f);
    assert_false(stet_jobs_current(&f->turn, &f->service, ref, &job));
    stet_error e;
    assert_int_equal(stet_job_done(&f->turn, &old, STET_STR("\x01"), &e), STET_CONFLICT);
    assert_int_equal(stet_job_set_detail(&f->turn, &old, STET_STR("\x80"), 0.5, &e), STET_CONFLICT);
    assert_int_equal(stet_job_resume_at(&f->turn, &old, 1, &e), STET_CONFLICT);
    ref.attempt = 2;
    assert_true(stet_jobs_current(&f->turn, &f->service, ref, &job));
}

/* Else its result would be dropped, and it would stay active for ever. */
static void a_job_that_cannot_be_read_is_not_one_of_an_old_attempt(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "p1");
    tick(f);
    commit(f);
    f->turn.effects_max = 1000;
    stet_turn_mark mark = stet_turn_mark_of(&f->turn);
    stet_job job;
    stet_store_memory_fail_reads(f->turn.store);
    assert_false(stet_jobs_current(&f->turn, &f->service, (stet_call_ref){.job_id = id, .attempt = 1}, &job));
    assert_true(stet_turn_overflowed(&f->turn));
    stet_turn_undo(&f->turn, mark);
    stet_batch_release_reads(stet_turn_batch(&f->turn));
    stet_store_memory_crash(f->turn.store); /* it reads again */
    assert_true(stet_jobs_current(&f->turn, &f->service, (stet_call_ref){.job_id = id, .attempt = 1}, &job));
    assert_false(stet_turn_overflowed(&f->turn));
}

static void cancel_works_in_every_state_that_is_not_over(void **state) {
    fixture *f = *state;
    stet_id queued = submit_key(f, "a");
    assert_int_equal(cancel(f, queued), STET_OK);
    assert_state(f, queued, CANCELLED);
    assert_int_equal(cancel(f, queued), STET_OK); /* again: nothing to do */

    stet_id delayed = submit(f, &(stet_job_submit){.key = STET_STR("a"), .run_at_ms = f->turn.wall_ms + 9});
    assert_int_equal(cancel(f, delayed), STET_OK);

    stet_id active = submit_key(f, "a");
    stet_id next = submit_key(f, "a");
    tick(f);
    assert_state(f, next, QUEUED);
    assert_int_equal(cancel(f, active), STET_OK);
    assert_int_equal(f->abandoned, 1);
    stet_job job;
    assert_false(
        stet_jobs_current(&f->turn, &f->service, (stet_call_ref){.job_id = active, .attempt = 1}, &job));
    tick(f); /* the slot is free at once */
    assert_state(f, next, ACTIVE);
    verify(f);

    assert_int_equal(done(f, next), STET_OK);
    assert_int_equal(cancel(f, next), STET_CONFLICT);
    stet_id error = submit_key(f, "b");
    tick(f);
    assert_int_equal(fail_finally(f, error), STET_OK);
    assert_int_equal(cancel(f, error), STET_CONFLICT);
    f->turn.wall_ms += 1000;
    tick(f);
    assert_state(f, delayed, CANCELLED);
}

static void cancelled_in_backoff_never_wakes(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "a");
    tick(f);
    assert_int_equal(failed(f, id), STET_OK);
    assert_int_equal(cancel(f, id), STET_OK);
    f->turn.wall_ms += 100000;
    tick(f);
    assert_state(f, id, CANCELLED);
    assert_int_equal(f->next_ms, INT64_MAX);
}

static void retry_refuses_what_is_not_over_or_is_done(void **state) {
    fixture *f = *state;
    stet_id id = submit_key(f, "a");
    assert_int_equal(retry(f, id), STET_CONFLICT);
    tick(f);
    assert_int_equal(retry(f, id), STET_CONFLICT);
    assert_int_equal(done(f, id), STET_OK);
    assert_int_equal(retry(f, id), STET_CONFLICT);
    stet_id cancelled = submit_key(f, "a");
    assert_int_equal(cancel(f, cancelled), STET_OK);
    assert_int_equal(retry(f, cancelled), STET_OK);
    assert_state(f, cancelled, QUEUED);
    assert_int_equal(retry(f, (stet_id){{9}}), STET_NOT_FOUND);
}

static stet_code run_detail(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    (void)f;
    return stet_job_set_detail(turn, job,
                               STET_STR("\x81\xa5"
                                        "calls\x02"),
                               0.25, e);
}

static stet_code run_starved(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    (void)job;
    (void)e;
    if (f->started_count == 1)
        stet_turn_fail(turn, /* starved= */ true);
    return STET_OK;
}

static void a_start_without_memory_comes_again_later_without_an_attempt_lost(void **state) {
    fixture *f = *state;
    f->run = run_starved;
    f->turn.effects_max = 100;
    stet_id id = submit_key(f, "a");
    commit(f); /* so that it is alone in its turn */
    tick(f);
    assert_state(f, id, QUEUED);
    assert_int_equal(f->next_ms, f->turn.wall_ms + 100);
    f->turn.wall_ms += 100;
    tick(f);
    assert_state(f, id, ACTIVE);
    assert_int_equal(read_job(f, id).attempt, 1);
}

static void detail_becomes_part_of_the_history(void **state) {
    fixture *f = *state;
    f->run = run_detail;
    stet_id id = submit_key(f, "a");
    tick(f);
    stet_job job = read_job(f, id);
    assert_true(job.progress == 0.25);
    assert_int_equal(stet_mp_get_uint(job.detail, "calls", 0), 2);
    assert_int_equal(failed(f, id), STET_OK);
    job = read_job(f, id);
    stet_mp_reader r = stet_mp_reader_of(job.attempts);
    assert_int_equal(stet_mp_read_array(&r), 1);
    stet_str entry = stet_mp_read_raw(&r);
    assert_int_equal(stet_mp_get_uint(stet_mp_get_raw(entry, "detail"), "calls", 0), 2);
    assert_true(
        stet_str_is(stet_mp_get_str(stet_mp_get_raw(entry, "error"), "code", STET_STR("")), "http_500"));
}

static stet_code run_resume(fixture *f, stet_turn *turn, stet_job *job, stet_error *e) {
    if (f->started_count < 3)
        return stet_job_resume_at(turn, job, turn->wall_ms + 100 * f->started_count, e);
    return stet_job_done(turn, job, STET_STR("\x01"), e);
}

static void resume_calls_run_again_inside_the_same_attempt(void **state) {
    fixture *f = *state;
    f->run = run_resume;
    stet_id id = submit_key(f, "a");
    tick(f);
    verify(f);
    assert_int_equal(f->next_ms, f->turn.wall_ms + 100);
    f->turn.wall_ms += 99;
    tick(f);
    assert_int_equal(f->started_count, 1);
    f->turn.wall_ms += 1;
    tick(f);
    assert_int_equal(f->started_count, 2);
    assert_int_equal(read_job(f, id).attempt_total, 1);
    verify(f);
    f->turn.wall_ms += 200;
    tick(f);
    assert_state(f, id, DONE);
    assert_int_equal(read_job(f, id).attempt_total, 1);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_RESUME), 0);
}

static void a_job_that_ends_is_not_resumed(void **state) {
    fixture *f = *state;
    f->run = run_resume;
    stet_id id = submit_key(f, "a");
    tick(f);
    assert_int_equal(cancel(f, id), STET_OK);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_RESUME), 0);
    f->turn.wall_ms += 1000;
    tick(f);
    assert_int_equal(f->started_count, 1);
}

static void bounds_of_a_submission_are_refused_by_field(void **state) {
    fixture *f = *state;
    stet_job job;
    bool existing;
    stet_error e;
    char long_key[STET_JOB_KEY_SIZE_MAX + 1];
    memset(long_key, 'k', sizeof(long_key));
    stet_job_submit s = {.key = {long_key, STET_JOB_KEY_SIZE_MAX},
                         .dedup_key = {long_key, STET_JOB_KEY_SIZE_MAX},
                         .priority = 9};
    assert_int_equal(stet_job_submit_new(&f->turn, queue(f), &s, &job, &existing, &e), STET_OK);
    s.key.size++;
    assert_int_equal(stet_job_submit_new(&f->turn, queue(f), &s, &job, &existing, &e), STET_INVALID);
    assert_string_equal(e.field, "key");
    s.key.size = 0;
    assert_int_equal(stet_job_submit_new(&f->turn, queue(f), &s, &job, &existing, &e), STET_INVALID);
    s.key.size = 1;
    s.priority = 10;
    assert_int_equal(stet_job_submit_new(&f->turn, queue(f), &s, &job, &existing, &e), STET_INVALID);
    assert_string_equal(e.field, "priority");
    s.priority = 0;
    s.dedup_key.size++;
    assert_int_equal(stet_job_submit_new(&f->turn, queue(f), &s, &job, &existing, &e), STET_INVALID);
    assert_string_equal(e.field, "dedupKey");
}

static void keys_may_hold_any_byte(void **state) {
    fixture *f = *state;
    stet_id a = submit(f, &(stet_job_submit){.key = {"a\0b", 3}, .dedup_key = {"\0", 1}});
    stet_id b = submit(f, &(stet_job_submit){.key = {"a", 1}});
    stet_id c = submit(f, &(stet_job_submit){.key = {"a\0", 2}});
    tick(f);
    assert_state(f, a, ACTIVE);
    assert_state(f, b, ACTIVE);
    assert_state(f, c, ACTIVE);
}

static void long_payload_lies_apart_and_is_written_once(void **state) {
    fixture *f = *state;
    static char bytes[STET_JOB_PAYLOAD_MAX + 1];
    memset(bytes, 'x', sizeof(bytes));
    stet_job_submit s = {.key = STET_STR("a"), .payload = {bytes, sizeof(bytes)}};
    stet_job job;
    bool existing;
    stet_error refusal;
    assert_int_equal(stet_job_submit_new(&f->turn, queue(f), &s, &job, &existing, &refusal), STET_TOO_LARGE);
    s.payload.size = JOBS_INLINE_MAX;
    (void)submit(f, &s);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_BLOBS), 0);
    s.key = STET_STR("b");
    s.payload.size = STET_JOB_PAYLOAD_MAX;
    stet_id id = submit(f, &s);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_BLOBS), 1);
    commit(f);
    tick(f);
    assert_true(stet_batch_bytes(stet_turn_batch(&f->turn)) < 20000);
    job = read_job(f, id);
    assert_int_equal(job.payload.size, STET_JOB_PAYLOAD_MAX);
    OK(stet_job_done(&f->turn, &job, (stet_str){bytes, STET_JOB_RESULT_MAX}, e));
    assert_int_equal(job.result.size, STET_JOB_RESULT_MAX);
    assert_int_equal(job.payload.size, STET_JOB_PAYLOAD_MAX);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_BLOBS), 2);
    commit(f);
    verify(f);
    f->turn.wall_ms += 3600000;
    CLEANUP(stet_buf_done) stet_buf cursor = STET_BUF(1024);
    OK(stet_jobs_sweep(&f->turn, &f->service, &cursor, 1000, e));
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_BLOBS), 0);
}

static void history_keeps_the_last_64_attempts(void **state) {
    fixture *f = *state;
    f->set.attempts_max = 0;
    f->set.backoff_first_ms = 0;
    stet_id id = submit_key(f, "a");
    for (unsigned i = 0; i < 70; i++) {
        tick(f);
        assert_int_equal(failed(f, id), STET_OK);
        if (i % 10 == 0) {
            commit(f);
            verify(f);
        }
    }
    stet_job job = read_job(f, id);
    stet_mp_reader r = stet_mp_reader_of(job.attempts);
    assert_int_equal(stet_mp_read_array(&r), STET_JOB_ATTEMPTS_KEPT);
    assert_int_equal(stet_mp_get_uint(stet_mp_read_raw(&r), "attempt", 0), 7);
    assert_int_equal(job.attempt_total, 70);
}

static void sweep_removes_only_finished_jobs_past_retention(void **state) {
    fixture *f = *state;
    f->run = run_done;
    f->set.concurrency = 0;
    for (unsigned i = 0; i < 40; i++)
        (void)submit_key(f, i % 2 == 0 ? "a" : "b");
    for (unsigned i = 0; i < 50; i++)
        tick(f);
    assert_int_equal(count_of(f, STET_JOB_DONE), 40);
    f->turn.wall_ms += 3600000 - 1;
    stet_id waiting =
        submit(f, &(stet_job_submit){.key = STET_STR("c"), .run_at_ms = f->turn.wall_ms + 100000000});
    CLEANUP(stet_buf_done) stet_buf cursor = STET_BUF(1024);
    OK(stet_jobs_sweep(&f->turn, &f->service, &cursor, 1000, e));
    assert_int_equal(count_of(f, STET_JOB_DONE), 40);
    f->turn.wall_ms += 1;
    OK(stet_jobs_sweep(&f->turn, &f->service, &cursor, 15, e));
    assert_int_equal(count_of(f, STET_JOB_DONE), 25);
    assert_true(cursor.size > 0);
    verify(f);
    OK(stet_jobs_sweep(&f->turn, &f->service, &cursor, 15, e));
    OK(stet_jobs_sweep(&f->turn, &f->service, &cursor, 15, e));
    assert_int_equal(cursor.size, 0);
    assert_int_equal(count_of(f, STET_JOB_DONE), 0);
    assert_state(f, waiting, DELAYED);
    assert_int_equal(rows_of(f, STET_TABLE_JOBS_KEYS), 1);
}

static void ids_grow_when_the_clock_goes_back(void **state) {
    fixture *f = *state;
    stet_id first = submit_key(f, "a");
    f->turn.wall_ms -= 1000000;
    f->turn.ids = stet_id_source_of(99); /* a new process */
    stet_id last = first;
    for (unsigned i = 0; i < 5000; i++) {
        stet_id id = submit_key(f, "a");
        assert_true(jobs_order_of(id) > jobs_order_of(last));
        last = id;
        if (i % 500 == 0)
            commit(f);
    }
    tick(f);
    assert_state(f, first, ACTIVE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(submitted_job_is_queued_started_and_done),
        TEST(every_write_is_told_once_with_the_state_before),
        TEST(run_that_ends_the_job_at_once_leaves_nothing_active),
        TEST(a_better_priority_goes_first_across_keys),
        TEST(a_job_of_its_own_key_costs_four_rows_and_then_three),
        TEST(delayed_job_runs_when_due_and_not_before),
        TEST(many_due_jobs_are_promoted_in_bounded_steps),
        TEST(retries_back_off_exponentially_with_bounded_jitter_then_error),
        TEST(retry_after_is_the_least_wait_and_a_negative_one_means_at_once),
        TEST(fail_finally_ends_in_error_with_attempts_left),
        TEST(no_attempt_beyond_the_guard_without_an_operator),
        TEST(a_lowered_guard_stops_a_waiting_job_also_when_drained),
        TEST(result_of_an_old_attempt_is_refused_by_the_fence),
        TEST(a_job_that_cannot_be_read_is_not_one_of_an_old_attempt),
        TEST(cancel_works_in_every_state_that_is_not_over),
        TEST(cancelled_in_backoff_never_wakes),
        TEST(retry_refuses_what_is_not_over_or_is_done),
        TEST(a_start_without_memory_comes_again_later_without_an_attempt_lost),
        TEST(detail_becomes_part_of_the_history),
        TEST(resume_calls_run_again_inside_the_same_attempt),
        TEST(a_job_that_ends_is_not_resumed),
        TEST(bounds_of_a_submission_are_refused_by_field),
        TEST(keys_may_hold_any_byte),
        TEST(long_payload_lies_apart_and_is_written_once),
        TEST(history_keeps_the_last_64_attempts),
        TEST(sweep_removes_only_finished_jobs_past_retention),
        TEST(ids_grow_when_the_clock_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
