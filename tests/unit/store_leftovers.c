/* What lies beside a database when it is opened, and directories in which none can be. */
#include "proto/base/paths.h"
#include "store/recovery.h"
#include "tests/unit/store_fixture.h"

#include <sys/stat.h>

enum { DAMAGED_MAX = 1000 };

static void path_in(const fixture *f, const char *name, char path[512]) {
    (void)snprintf(path, 512, "%s/%s", f->directory, name);
}

static void make_directory(const fixture *f, const char *name) {
    char path[512];
    path_in(f, name, path);
    assert_int_equal(mkdir(path, 0700), 0);
}

static bool exists(const fixture *f, const char *name) {
    char path[512];
    path_in(f, name, path);
    return access(path, F_OK) == 0;
}

static void one_row(fixture *f) {
    fixture_put(f, "a", "1");
    fixture_commit(f);
    fixture_close(f);
}

static void the_next_free_name_is_given_to_what_is_put_aside(void **state) {
    fixture *f = *state;
    one_row(f);
    make_directory(f, "db.damaged-1");
    make_directory(f, "db.damaged-2");
    make_directory(f, "db.ready");
    fixture_open(f);
    fixture_expect(f, "a", "1");
    assert_true(exists(f, "db.damaged-3"));
    assert_false(exists(f, "db.ready"));
}

static void too_many_that_were_put_aside_are_said_and_nothing_is_touched(void **state) {
    fixture *f = *state;
    char name[32], last[512];
    one_row(f);
    for (int i = 1; i <= DAMAGED_MAX; i++) {
        (void)snprintf(name, sizeof name, "db.damaged-%d", i);
        make_directory(f, name);
    }
    make_directory(f, "db.ready");
    CHECK_CODE(f, fixture_try_open(f), STET_INTERNAL);
    assert_non_null(strstr(f->e.message, "delete some"));
    assert_true(exists(f, "db.ready"));
    path_in(f, name, last);
    assert_int_equal(rmdir(last), 0);
    fixture_open(f);
    fixture_expect(f, "a", "1");
    assert_true(exists(f, name));
}

static void a_young_store_may_have_lost_its_witness(void **state) {
    (void)state;
    fixture f = {.memory = false};
    char path[512];
    fixture_make_directory(&f);
    fixture_open(&f);
    fixture_close(&f);
    path_in(&f, "witness", path);
    assert_int_equal(unlink(path), 0);
    fixture_open(&f);
    fixture_put(&f, "a", "1");
    fixture_commit(&f);
    fixture_close(&f);
    fixture_remove_directory(&f);
}

static void a_database_of_other_files_is_new(void **state) {
    fixture *f = *state;
    char path[512];
    fixture_close(f);
    fixture_remove_directory(f);
    assert_int_equal(mkdir(f->directory, 0700), 0);
    make_directory(f, "db"); /* RocksDB died before it had a log */
    path_in(f, "db/x", path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    fixture_open(f);
    fixture_put(f, "a", "1");
    fixture_commit(f);
    fixture_expect(f, "a", "1");
}

static void a_path_that_is_too_long_is_refused(void **state) {
    (void)state;
    char directory[STET_PATH_MAX];
    stet_rocks *rocks = NULL;
    stet_head head;
    stet_witness_record witness;
    stet_error e;
    memset(directory, 'x', sizeof directory - 1);
    directory[sizeof directory - 1] = '\0';
    for (size_t less = 0; less < 16; less++) { /* one of the names in it does not fit, then the next */
        directory[sizeof directory - 1 - less] = '\0';
        stet_recovery_options options = {.directory = directory, .memory_bytes = 8 << 20};
        assert_int_not_equal(stet_recovery_open(&options, &rocks, &head, &witness, &e), STET_OK);
        assert_int_not_equal(stet_recovery_open(&options, &rocks, &head, &witness, NULL), STET_OK);
        assert_null(rocks);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_next_free_name_is_given_to_what_is_put_aside),
        TEST(too_many_that_were_put_aside_are_said_and_nothing_is_touched),
        cmocka_unit_test(a_young_store_may_have_lost_its_witness),
        TEST(a_database_of_other_files_is_new),
        cmocka_unit_test(a_path_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
