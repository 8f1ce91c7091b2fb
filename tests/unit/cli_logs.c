/* Logs of detached processes: bounded, and kept once. */
#include "tools/stet/supervisor/supervisor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { LARGE = (16 << 20) + 100 };

static stet_paths paths;

static const char *path_of(const char *name) {
    static char path[STET_PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/%s", paths.log, name);
    return path;
}

static off_t size_of(const char *name) {
    struct stat info;
    return stat(path_of(name), &info) == 0 ? info.st_size : -1;
}

static int setup(void **state) {
    (void)state;
    (void)snprintf(paths.log, sizeof paths.log, "/tmp/stet-logs-XXXXXX");
    return mkdtemp(paths.log) != NULL ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    (void)unlink(path_of("a.log"));
    (void)unlink(path_of("a.log.1"));
    return rmdir(paths.log);
}

/* Text at its end, as the rest is a hole. */
static int open_large(void) {
    int fd = supervisor_open_log(&paths, "a");
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, LARGE - 4), 0);
    assert_int_equal(write(fd, "end\n", 4), 4);
    return fd;
}

static void ends_with_text(const char *name) {
    char text[4] = "";
    FILE *file = fopen(path_of(name), "re");
    assert_non_null(file);
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fread(text, 1, sizeof text, file), sizeof text);
    (void)fclose(file);
    assert_memory_equal(text, "end\n", sizeof text);
}

static void a_large_log_is_moved_away_when_it_is_opened(void **state) {
    (void)state;
    (void)close(open_large());
    int fd = supervisor_open_log(&paths, "a");
    assert_int_equal(size_of("a.log"), 0);
    assert_int_equal(size_of("a.log.1"), LARGE);
    ends_with_text("a.log.1");
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    (void)close(fd);
}

static void a_log_that_grows_while_it_is_written_is_cut_and_its_end_kept(void **state) {
    (void)state;
    int fd = open_large();
    supervisor_trim_log(&paths, "a");
    assert_int_equal(size_of("a.log"), 0);
    assert_int_equal(size_of("a.log.1"), 16 << 20);
    ends_with_text("a.log.1");
    assert_int_equal(write(fd, "on\n", 3), 3); /* its writer goes on where the file begins now */
    assert_int_equal(size_of("a.log"), 3);
    supervisor_trim_log(&paths, "a");
    assert_int_equal(size_of("a.log"), 3); /* small enough */
    (void)close(fd);
}

static void a_log_that_is_not_there_is_no_trouble(void **state) {
    (void)state;
    supervisor_trim_log(&paths, "a");
    assert_int_equal(size_of("a.log"), -1);
    (void)rmdir(paths.log);
    assert_int_equal(supervisor_open_log(&paths, "a"), -1);
    assert_int_equal(mkdir(paths.log, 0700), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_large_log_is_moved_away_when_it_is_opened),
        TEST(a_log_that_grows_while_it_is_written_is_cut_and_its_end_kept),
        TEST(a_log_that_is_not_there_is_no_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
