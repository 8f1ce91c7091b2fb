/* The disk says no, or there is no memory, at one place after the other: whatever the place, the store says so or goes on, and the
 * next start finds everything that was acknowledged.
 *
 * Method: the n-th call of our own code to the disk, or the n-th allocation, fails once, for n = 0, 1, 2, ... until a whole run
 * has fewer. RocksDB's own calls are not reached; tests/power/nth.py is for them. */
#include "store/witness.h"
#include "tests/unit/store_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum { ROWS = 2, NO_MEMORY = -1, FILE_MAX = 1 << 20, WAL_HEADER = 7, PLACES_MAX = 2000 };

/* The wrapped functions have no other way to know. `left` < 0: nothing fails (any more). */
static atomic_int left = -1, struck, error_now;

static void arm(int error, int place) {
    struck = 0;
    error_now = error;
    left = place;
}

static bool disarm(void) {
    left = -1;
    return struck > 0;
}

static bool fails(bool memory) {
    if (left < 0 || memory != (error_now == NO_MEMORY) || atomic_fetch_sub(&left, 1) != 0)
        return false;
    struck = 1;
    if (!memory)
        errno = error_now;
    return true;
}

/* Not the descriptor by which the commit thread wakes us: it has no disk. */
static bool file_fails(int fd) {
    struct stat status;
    return left >= 0 && fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) &&
           fails(false);
}

#define WRAP(type, name, parameters, arguments, failing, failed)                                             \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters {                                                                          \
        return (failing) ? (failed) : __real_##name arguments;                                               \
    }
WRAP(void *, malloc, (size_t size), (size), fails(true), NULL)
WRAP(void *, calloc, (size_t count, size_t size), (count, size), fails(true), NULL)
WRAP(void *, realloc, (void *old, size_t size), (old, size), fails(true), NULL)
WRAP(ssize_t, read, (int fd, void *into, size_t size), (fd, into, size), file_fails(fd), -1)
WRAP(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size), file_fails(fd), -1)
WRAP(ssize_t, pread, (int fd, void *into, size_t size, off_t at), (fd, into, size, at), file_fails(fd), -1)
WRAP(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at), file_fails(fd),
     -1)
WRAP(int, fsync, (int fd), (fd), file_fails(fd), -1)
WRAP(int, fdatasync, (int fd), (fd), file_fails(fd), -1)
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), file_fails(fd), -1)
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size), file_fails(fd), -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), fails(false), -1)
WRAP(int, renameat2, (int at, const char *from, int to_at, const char *to, unsigned flags),
     (at, from, to_at, to, flags), fails(false), -1)
WRAP(int, link, (const char *from, const char *to), (from, to), fails(false), -1)
WRAP(int, unlink, (const char *path), (path), fails(false), -1)
WRAP(int, rmdir, (const char *path), (path), fails(false), -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), fails(false), -1)
WRAP(DIR *, opendir, (const char *path), (path), fails(false), NULL)

/* NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's */
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
/* NOLINTEND(bugprone-reserved-identifier) */
int __wrap_open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return fails(false) ? -1 : __real_open(path, flags, mode);
}

/* Opens, commits, reads, closes; what fails is not tried again. Returns how many rows were acknowledged. */
static int work(fixture *f, int first) {
    int acknowledged = first;
    if (fixture_try_open(f) != STET_OK)
        return acknowledged;
    for (bool good = true; good && acknowledged < first + ROWS;) {
        char key[16];
        uint64_t ticket;
        stet_completion done;
        (void)snprintf(key, sizeof key, "k%d", acknowledged);
        fixture_put(f, key, "value");
        good = stet_batch_commit(stet_store_batch(f->store), FIXTURE_WALL_MS, &ticket, &f->e) == STET_OK;
        struct pollfd wait = {.fd = stet_store_completion_fd(f->store), .events = POLLIN};
        while (good && !stet_store_next_completion(f->store, &done))
            assert_int_equal(poll(&wait, 1, 30000), 1);
        good = good && done.result == STET_COMMIT_OK;
        acknowledged += good;
    }
    fixture_close(f);
    return acknowledged;
}

static void expect_rows(fixture *f, int count) {
    fixture_open(f);
    for (int i = 0; i < count; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        fixture_expect(f, key, "value");
    }
    fixture_close(f);
}

/* At each stride-th place. `prepare` leaves a closed store with so many rows, which it returns. */
static void fail_everywhere(int error, int first, int stride, int (*prepare)(fixture *f)) {
    bool reached = true;
    int place = first;
    for (; reached; place += stride) {
        fixture f = {.memory = false};
        assert_in_range(place, 0, PLACES_MAX);
        fixture_make_directory(&f);
        int rows = prepare(&f);
        arm(error, place);
        int acknowledged = work(&f, rows);
        reached = disarm();
        expect_rows(&f, acknowledged);
        assert_true(reached || acknowledged == rows + ROWS);
        fixture_remove_directory(&f);
    }
    assert_true(place > 5);
}

/* ---- what is there before ---- */

static int nothing(fixture *f) {
    (void)f;
    return 0;
}

static void whole_file(const char *path, uint8_t *bytes, size_t *ret_size) {
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t size = read(fd, bytes, FILE_MAX);
    assert_true(size > 0);
    assert_int_equal(close(fd), 0);
    *ret_size = (size_t)size;
}

static void put_file(const char *path, const uint8_t *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(close(fd), 0);
}

static void newest_log(const fixture *f, char path[600]) {
    char db[300], best[256] = "";
    (void)snprintf(db, sizeof db, "%s/db", f->directory);
    DIR *entries = opendir(db);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        size_t size = strlen(entry->d_name);
        if (size > 4 && strcmp(entry->d_name + size - 4, ".log") == 0 && strcmp(entry->d_name, best) > 0)
            (void)snprintf(best, sizeof best, "%s", entry->d_name);
    }
    (void)closedir(entries);
    (void)snprintf(path, 600, "%s/%s", db, best);
}

/* A commit whose record has arrived without its bytes, and which the witness does not know: recovery goes the whole way, with the
 * copy, the exchange and what is put aside. */
static int torn(fixture *f) {
    static uint8_t bytes[FILE_MAX], witness[FILE_MAX];
    char path[600], log[600];
    size_t size, witness_size;
    (void)snprintf(path, sizeof path, "%s/witness", f->directory);
    int rows = work(f, 0);
    whole_file(path, witness, &witness_size);
    fixture_open(f);
    fixture_put(f, "torn", "value");
    fixture_commit(f);
    fixture_close(f);
    put_file(path, witness, witness_size);
    newest_log(f, log);
    whole_file(log, bytes, &size);
    memset(bytes + WAL_HEADER, 0, size - WAL_HEADER);
    put_file(log, bytes, size);
    return rows;
}

static void a_new_store_survives_each_failure_of_the_disk(void **state) {
    (void)state;
    fail_everywhere(ENOSPC, 0, 1, nothing);
}

static void a_call_that_was_interrupted_is_no_failure_of_what_was_acknowledged(void **state) {
    (void)state;
    fail_everywhere(EINTR, 0, 1, nothing);
}

static void a_store_survives_each_allocation_that_fails(void **state) {
    (void)state;
    fail_everywhere(NO_MEMORY, 0, 1, nothing);
}

static void a_recovery_survives_each_failure_of_the_disk(void **state) {
    (void)state;
    fail_everywhere(EIO, 0, 2, torn);
}

static void a_recovery_survives_each_allocation_that_fails(void **state) {
    (void)state;
    fail_everywhere(NO_MEMORY, 1, 2, torn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_store_survives_each_failure_of_the_disk),
        cmocka_unit_test(a_call_that_was_interrupted_is_no_failure_of_what_was_acknowledged),
        cmocka_unit_test(a_store_survives_each_allocation_that_fails),
        cmocka_unit_test(a_recovery_survives_each_failure_of_the_disk),
        cmocka_unit_test(a_recovery_survives_each_allocation_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
