/* Small commits are made by who submits them, larger ones by the commit thread: whichever does, they follow one
 * another, and the witness follows the last. */
#include "store/witness.h"
#include "tests/unit/store_fixture.h"

#include <sys/inotify.h>

enum {
    COMMITS = 120,
    SMALL_ROWS = 5,
    LARGE_ROWS = 600,
    BURSTS = 25,
    BURST_MAX = 30,
    WITNESS_WAIT_MS = 30000
};

static void put_rows(fixture *f, int commit, int rows) {
    char key[32], value[32];
    (void)snprintf(value, sizeof value, "%d", commit);
    for (int i = 0; i < rows; i++) {
        (void)snprintf(key, sizeof key, "%d/%d", commit, i);
        fixture_put(f, key, value);
    }
}

static int rows_of(int commit) {
    return commit % 3 == 0 ? LARGE_ROWS : 1 + commit % SMALL_ROWS;
}

static void small_and_large_commits_follow_one_another(void **state) {
    fixture *f = *state;
    uint64_t first = stet_store_last_number(f->store);
    for (int commit = 0; commit < COMMITS; commit++) {
        put_rows(f, commit, rows_of(commit));
        assert_int_equal(fixture_commit(f).number, first + 1 + (uint64_t)commit);
    }
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(stet_store_last_number(f->store), first + COMMITS);
    for (int commit = 0; commit < COMMITS; commit++) {
        char key[32], value[32];
        (void)snprintf(value, sizeof value, "%d", commit);
        (void)snprintf(key, sizeof key, "%d/%d", commit, rows_of(commit) - 1);
        fixture_expect(f, key, value);
        (void)snprintf(key, sizeof key, "%d/%d", commit, rows_of(commit));
        fixture_expect(f, key, NULL);
    }
}

static uint64_t witnessed(fixture *f) {
    stet_witness_record witness;
    CHECK_OK(f, stet_witness_read(f->directory, &witness, &f->e));
    return witness.state == STET_WITNESS_KNOWN ? witness.number : 0;
}

static int watch_witness(const fixture *f) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/witness", f->directory);
    int changes = inotify_init1(IN_CLOEXEC);
    assert_true(changes >= 0);
    assert_true(inotify_add_watch(changes, path, IN_MODIFY) >= 0);
    return changes;
}

static void wait_for_write(int changes) {
    char events[4096];
    struct pollfd item = {.fd = changes, .events = POLLIN};
    assert_int_equal(poll(&item, 1, WITNESS_WAIT_MS), 1);
    assert_true(read(changes, events, sizeof events) > 0);
}

/* However the last commit of a burst and the thread's waiting for the witness's time fall together. */
static void the_witness_comes_to_the_last_commit_without_another(void **state) {
    fixture *f = *state;
    int changes = watch_witness(f); /* before the first look: no write comes between the two */
    stet_prng prng = stet_prng_of(1);
    for (int burst = 0; burst < BURSTS; burst++) {
        int commits = 1 + (int)stet_prng_below(&prng, BURST_MAX);
        for (int commit = 0; commit < commits; commit++) {
            put_rows(f, commit, 1);
            (void)fixture_commit(f);
        }
        while (witnessed(f) != stet_store_last_number(f->store))
            wait_for_write(changes);
    }
    (void)close(changes);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(small_and_large_commits_follow_one_another),
        TEST(the_witness_comes_to_the_last_commit_without_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
