/* Rows of the job engine that contradict each other, which only damage brings about: each is said and stops what
 * stands on it; none ends the process or keeps it busy. */
#include "tests/unit/jobs_fixture.h"

static void erase(fixture *f, const stet_key *key) {
    stet_batch_delete(stet_turn_batch(&f->turn), stet_key_bytes(key));
    commit(f);
    stet_store_memory_crash(f->turn.store); /* nothing is remembered beside the rows */
    stet_store_memory_damaged(f->turn.store);
}

/* Was: nothing starts, and the next look is due at once, for ever. */
static void an_active_job_without_its_row_stops_the_recovery(void **state) {
    (void)state;
    stet_error e = {0};
    fixture *f = fixture_new(1);
    stet_id id = submit_key(f, "k");
    tick(f);
    assert_int_equal(state_of(f, id), STET_JOB_ACTIVE);
    stet_key active = jobs_active_key(queue(f), id);
    erase(f, &active);
    assert_int_equal(stet_jobs_recover(&f->turn, &f->service, &e), STET_INTERNAL);
    assert_non_null(strstr(e.message, "active jobs that have no row"));
    fixture_free(f);
}

/* Was: the process aborted. */
static void counts_that_do_not_fit_the_rows_fail_the_move(void **state) {
    (void)state;
    stet_error e = {0};
    fixture *f = fixture_new(1);
    stet_id id = submit_key(f, "k");
    commit(f);
    stet_key counts = stet_key_of(STET_TABLE_JOBS_KEYS);
    stet_key_str(&counts, stet_str_of(queue(f)->name));
    stet_key_str(&counts, STET_STR("k"));
    erase(f, &counts);
    stet_job job = read_job(f, id);
    assert_int_equal(stet_job_cancel(&f->turn, &job, &e), STET_INTERNAL);
    assert_non_null(strstr(e.message, "do not fit its rows"));
    fixture_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_active_job_without_its_row_stops_the_recovery),
        cmocka_unit_test(counts_that_do_not_fit_the_rows_fail_the_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
