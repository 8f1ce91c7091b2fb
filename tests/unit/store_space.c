/* Full disks: the mark, the ballast, and a real file system of 24 MiB where the system lets us make one. */
#include "store/space.h"
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { MIB = 1 << 20 };

/* A disk whose figures the test sets; the ballast takes its part of what is available. */
typedef struct fake_disk {
    stet_space_figures figures;
    uint64_t ballast_bytes;
    char ballast[512];
    int looks;
    bool broken;
} fake_disk;

static bool look(void *context, const char *directory, stet_space_figures *ret) {
    fake_disk *disk = context;
    (void)directory;
    disk->looks++;
    *ret = disk->figures;
    if (access(disk->ballast, F_OK) == 0)
        ret->available_bytes =
            ret->available_bytes > disk->ballast_bytes ? ret->available_bytes - disk->ballast_bytes : 0;
    return !disk->broken;
}

static void init(fixture *f, fake_disk *disk, stet_space *space, uint64_t free_min_bytes,
                 uint64_t ballast_bytes) {
    fixture_make_directory(f);
    *disk =
        (fake_disk){.figures = {.total_bytes = (uint64_t)1000 * MIB, .available_bytes = (uint64_t)500 * MIB},
                    .ballast_bytes = ballast_bytes};
    (void)snprintf(disk->ballast, sizeof disk->ballast, "%s/ballast", f->directory);
    CHECK_OK(f, stet_space_init(space, f->directory, free_min_bytes, ballast_bytes, &f->e));
    space->lookup = look;
    space->lookup_context = disk;
}

static void the_mark_is_the_lesser_of_the_setting_and_five_percent(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fake_disk disk;
    stet_space space;
    init(&f, &disk, &space, /* free_min_bytes= */ (uint64_t)900 * MIB, /* ballast_bytes= */ 0);
    disk.figures.available_bytes = (uint64_t)50 * MIB;
    assert_true(stet_space_writable(&space, 1000));
    disk.figures.available_bytes--;
    assert_false(stet_space_writable(&space, 2000));
    space.free_min_bytes = (uint64_t)10 * MIB;
    assert_true(stet_space_writable(&space, 3000));
    disk.figures.available_bytes = (uint64_t)10 * MIB - 1;
    assert_false(stet_space_writable(&space, 4000));
    disk.broken = true;
    disk.figures.available_bytes = (uint64_t)500 * MIB;
    assert_false(stet_space_writable(&space, 5000));
    space.free_min_bytes = 0; /* never */
    assert_true(stet_space_writable(&space, 6000));
    fixture_remove_directory(&f);
}

static void the_disk_is_looked_at_every_250_ms_at_most(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fake_disk disk;
    stet_space space;
    init(&f, &disk, &space, /* free_min_bytes= */ MIB, /* ballast_bytes= */ 0);
    for (int64_t ms = 0; ms < 1000; ms++)
        assert_true(stet_space_writable(&space, ms));
    assert_int_equal(disk.looks, 4);
    fixture_remove_directory(&f);
}

static void the_ballast_is_made_with_room_and_given_up_on_a_full_disk(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fake_disk disk;
    stet_space space;
    struct stat status;
    init(&f, &disk, &space, /* free_min_bytes= */ (uint64_t)10 * MIB, /* ballast_bytes= */ 4 * MIB);
    CHECK_OK(&f, stet_space_prepare(&space, /* need_bytes= */ 2 * MIB, &f.e));
    stet_space_make_ballast(&space);
    assert_int_equal(stat(disk.ballast, &status), 0);
    assert_int_equal(status.st_size, 4 * MIB);
    assert_true(status.st_blocks * 512 >= 4 * MIB); /* no hole */

    CHECK_OK(&f,
             stet_space_init(&space, f.directory, (uint64_t)10 * MIB, 4 * MIB, &f.e)); /* the next process */
    space.lookup = look;
    space.lookup_context = &disk;
    disk.figures.available_bytes = (uint64_t)5 * MIB; /* 1 MiB beside the ballast */
    CHECK_OK(&f, stet_space_prepare(&space, /* need_bytes= */ 2 * MIB, &f.e));
    assert_int_equal(access(disk.ballast, F_OK), -1);
    assert_false(stet_space_writable(&space, 1000));
    disk.figures.available_bytes = MIB;
    CHECK_CODE(&f, stet_space_prepare(&space, /* need_bytes= */ 2 * MIB, &f.e), STET_UNAVAILABLE);
    assert_non_null(strstr(f.e.message, "make room"));

    disk.figures.available_bytes = (uint64_t)10 * MIB; /* room again, but not for the ballast as well */
    assert_true(stet_space_writable(&space, 2000));
    assert_int_equal(access(disk.ballast, F_OK), -1);
    disk.figures.available_bytes = (uint64_t)30 * MIB;
    assert_true(stet_space_writable(&space, 3000));
    assert_int_equal(access(disk.ballast, F_OK), 0);
    fixture_remove_directory(&f);
}

/* ---- in a process of its own ---- */

static pid_t run_self(const char *mode, const char *directory) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execl("/proc/self/exe", "unit_store_space", mode, directory, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static int exit_code_of(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status))
        print_error("child ended by signal %d\n", WTERMSIG(status));
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Commits until one fails, at most `commits`; the result of the last. */
static stet_commit_result fill(stet_store *store, int commits, uint64_t *ret_acked) {
    for (int i = 0; i < commits; i++) {
        static const char value[64 << 10];
        stet_error e;
        uint64_t ticket;
        stet_completion done;
        stet_key key = stet_key_of(STET_TABLE_ACTOR_FIRST);
        stet_key_u64(&key, stet_store_last_number(store) + 1);
        stet_batch_put(stet_store_batch(store), stet_key_bytes(&key), stet_str_from(value, sizeof value));
        if (stet_batch_commit(stet_store_batch(store), FIXTURE_WALL_MS, &ticket, &e) != STET_OK)
            return STET_COMMIT_UNAVAILABLE;
        struct pollfd wait = {.fd = stet_store_completion_fd(store), .events = POLLIN};
        if (poll(&wait, 1, 30000) != 1 || !stet_store_next_completion(store, &done))
            return STET_COMMIT_FENCED;
        if (done.result != STET_COMMIT_OK)
            return done.result;
        *ret_acked = done.number;
    }
    return STET_COMMIT_OK;
}

/* 0 when the store fails as it must; another number says where it did not. */
static int child_limit(const char *directory) {
    struct rlimit limit = {.rlim_cur = 4 * MIB, .rlim_max = 4 * MIB};
    stet_store_options options = {.directory = directory, .memory_bytes = 64 * MIB};
    stet_store *store;
    stet_error e;
    uint64_t acked = 0, ticket;
    (void)signal(SIGXFSZ, SIG_IGN);
    if (stet_store_open(&options, &store, &e) != STET_OK || setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 1;
    if (fill(store, /* commits= */ 1000, &acked) != STET_COMMIT_UNKNOWN || acked == 0)
        return 2;
    if (stet_store_last_number(store) != acked)
        return 3;
    stet_batch_put(stet_store_batch(store), STET_STR("x"), STET_STR("x"));
    if (stet_batch_commit(stet_store_batch(store), FIXTURE_WALL_MS, &ticket, &e) != STET_INTERNAL)
        return 4;
    if (stet_store_commit_in_flight(store) ||
        stet_store_next_completion(store, &(stet_completion){.ticket = 0}))
        return 5;
    FILE *out = fopen("acked", "w");
    if (!out || fprintf(out, "%d\n", (int)acked) < 0 || fclose(out) != 0)
        return 6;
    _exit(0);
}

static void after_a_failed_write_nothing_is_written_and_opening_repairs(void **state) {
    fixture *f = *state;
    char line[16] = "";
    fixture_close(f);
    assert_int_equal(chdir(f->directory), 0);
    assert_int_equal(exit_code_of(run_self("limit", f->directory)), 0);
    FILE *in = fopen("acked", "r");
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    (void)fclose(in);
    assert_int_equal(chdir("/"), 0);
    fixture_open(f);
    unsigned long acked = strtoul(line, NULL, 10);
    assert_true(stet_store_last_number(f->store) >= acked);
    for (unsigned long number = 2; number <= acked; number++) {
        stet_str value;
        stet_key key = stet_key_of(STET_TABLE_ACTOR_FIRST);
        stet_key_u64(&key, (uint64_t)number);
        CHECK_OK(f, stet_batch_get(stet_store_batch(f->store), stet_key_bytes(&key), &value, &f->e));
    }
}

enum { SKIPPED = 77 };

static bool write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        (void)close(fd);
    return written;
}

/* A mount of our own: in a new user namespace where one may be made without privilege. */
static bool mount_small_disk(const char *directory) {
    char users[32], groups[32];
    (void)snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    (void)snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return false;
    (void)write_text("/proc/self/setgroups", "deny");
    return write_text("/proc/self/uid_map", users) && write_text("/proc/self/gid_map", groups) &&
           mount("tmpfs", directory, "tmpfs", 0, "size=24m,mode=0700") == 0;
}

static int occupy(const char *path, off_t leave_bytes) {
    stet_space_figures figures;
    char directory[300];
    (void)snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (!stet_space_lookup_system(NULL, directory, &figures))
        return -1;
    off_t size = (off_t)figures.available_bytes - leave_bytes;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -1 : size > 0 ? fallocate(fd, 0, 0, size) : 0;
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

static int child_disk(const char *directory) {
    char data[300], other[300], more[300], last[300], ballast[400];
    stet_store *store;
    stet_error e;
    uint64_t acked = 0;
    if (!mount_small_disk(directory))
        return SKIPPED;
    (void)snprintf(data, sizeof data, "%.250s/data", directory);
    (void)snprintf(other, sizeof other, "%.250s/other", directory);
    (void)snprintf(more, sizeof more, "%.250s/more", directory);
    (void)snprintf(last, sizeof last, "%.250s/last", directory);
    (void)snprintf(ballast, sizeof ballast, "%s/ballast", data);
    stet_store_options options = {
        .directory = data, .memory_bytes = 4 * MIB, .free_min_bytes = 1 * MIB, .ballast_bytes = 4 * MIB};
    if (stet_store_open(&options, &store, &e) != STET_OK || access(ballast, F_OK) != 0)
        return 1;
    if (!stet_store_writable(store, 1000) || fill(store, /* commits= */ 4, &acked) != STET_COMMIT_OK)
        return 2;
    if (occupy(other, /* leave_bytes= */ 512 << 10) != 0 || stet_store_writable(store, 2000))
        return 3; /* below the mark: no work is taken */
    if (fill(store, /* commits= */ 100, &acked) != STET_COMMIT_UNKNOWN)
        return 4; /* an actor that goes on all the same meets the end of the disk, and must end */
    store = stet_store_close(store);
    if (occupy(more, /* leave_bytes= */ 256 << 10) != 0 || access(ballast, F_OK) != 0)
        return 5;
    if (stet_store_open(&options, &store, &e) != STET_OK || access(ballast, F_OK) == 0)
        return 6; /* the ballast has made room for the recovery */
    if (stet_store_last_number(store) < acked)
        return 7;
    store = stet_store_close(store);
    if (occupy(last, /* leave_bytes= */ 256 << 10) != 0)
        return 8;
    if (stet_store_open(&options, &store, &e) != STET_UNAVAILABLE)
        return 9; /* nothing left to give up: the process waits */
    if (unlink(other) != 0 || stet_store_open(&options, &store, &e) != STET_OK)
        return 10;
    if (stet_store_last_number(store) < acked || !stet_store_writable(store, 4000) ||
        access(ballast, F_OK) != 0)
        return 11;
    store = stet_store_close(store);
    return 0;
}

static void a_full_disk_refuses_work_recovers_with_the_ballast_and_waits(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fixture_make_directory(&f);
    int code = exit_code_of(run_self("disk", f.directory));
    assert_int_equal(rmdir(f.directory), 0);
    if (code == SKIPPED)
        skip();
    assert_int_equal(code, 0);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "limit") == 0)
        return child_limit(argv[2]);
    if (argc == 3 && strcmp(argv[1], "disk") == 0)
        return child_disk(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mark_is_the_lesser_of_the_setting_and_five_percent),
        cmocka_unit_test(the_disk_is_looked_at_every_250_ms_at_most),
        cmocka_unit_test(the_ballast_is_made_with_room_and_given_up_on_a_full_disk),
        cmocka_unit_test_setup_teardown(after_a_failed_write_nothing_is_written_and_opening_repairs,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test(a_full_disk_refuses_work_recovers_with_the_ballast_and_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
