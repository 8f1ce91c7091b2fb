/* Where things lie, and who holds them. */
#include "proto/base/paths.h"

#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char root[64];

static int set_up(void **state) {
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/stet-paths-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state) {
    (void)state;
    return nftw(root, remove_entry, /* fds_max= */ 8, FTW_DEPTH | FTW_PHYS);
}

static stet_paths paths_below_root(const char *name) {
    char path[STET_PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    stet_paths paths;
    stet_error e;
    assert_int_equal(stet_paths_of(path, &paths, &e), STET_OK);
    return paths;
}

static void sockets_lie_in_the_run_directory(void **state) {
    (void)state;
    stet_paths paths = paths_below_root("data");
    char expected[STET_PATH_MAX];
    (void)snprintf(expected, sizeof expected, "%s/data", root);
    assert_string_equal(paths.data, expected);
    (void)snprintf(expected, sizeof expected, "ipc://%s/data/run/front.sock", root);
    assert_string_equal(paths.front, expected);
    char actor[STET_PATH_MAX];
    stet_error e;
    assert_int_equal(stet_paths_actor(&paths, "drafter", 0, actor, &e), STET_OK);
    (void)snprintf(expected, sizeof expected, "%s/data/drafter/0", root);
    assert_string_equal(actor, expected);
}

static void every_spelling_of_a_directory_is_the_same_before_and_after_it_exists(void **state) {
    (void)state;
    char link[128];
    (void)snprintf(link, sizeof link, "%s/link", root);
    assert_int_equal(symlink(root, link), 0);
    stet_paths straight = paths_below_root("a/b");
    const char *const spellings[] = {"link/a/b", "a//b/", "./a/./b", "link/link/a/b/"};
    for (int after = 0; after < 2; after++) {
        for (size_t i = 0; i < COUNT_OF(spellings); i++)
            assert_string_equal(paths_below_root(spellings[i]).data, straight.data);
        stet_error e;
        assert_int_equal(stet_paths_create(&straight, &e), STET_OK);
    }
    char here[STET_PATH_MAX];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(root), 0);
    stet_paths relative;
    stet_error e;
    assert_int_equal(stet_paths_of("a/b", &relative, &e), STET_OK);
    assert_int_equal(chdir(here), 0);
    assert_string_equal(relative.data, straight.data);
}

static void too_long_a_path_moves_the_sockets_and_only_them(void **state) {
    (void)state;
    char name[200];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    stet_paths paths = paths_below_root(name);
    assert_int_equal(strncmp(paths.run, "/tmp/stet-", 10), 0);
    assert_non_null(strstr(paths.data, name));
    assert_true(strlen(paths.events_in) < STET_ENDPOINT_MAX);
    name[150] = 'y';
    assert_string_not_equal(paths_below_root(name).run, paths.run);
    char huge[2 * STET_PATH_MAX];
    memset(huge, 'x', sizeof huge);
    huge[sizeof huge - 1] = '\0';
    stet_error e;
    assert_int_equal(stet_paths_of(huge, &paths, &e), STET_TOO_LARGE);
}

static void default_place_follows_the_environment(void **state) {
    (void)state;
    stet_paths paths;
    stet_error e;
    (void)setenv("HOME", root, 1);
    (void)unsetenv("XDG_DATA_HOME");
    (void)unsetenv("STET_DATA");
    assert_int_equal(stet_paths_of(NULL, &paths, &e), STET_OK);
    assert_non_null(strstr(paths.data, "/.local/share/stet"));
    char other[128];
    (void)snprintf(other, sizeof other, "%s/xdg", root);
    (void)setenv("XDG_DATA_HOME", other, 1);
    assert_int_equal(stet_paths_of(NULL, &paths, &e), STET_OK);
    assert_non_null(strstr(paths.data, "/xdg/stet"));
    (void)snprintf(other, sizeof other, "%s/mine", root);
    (void)setenv("STET_DATA", other, 1);
    assert_int_equal(stet_paths_of(NULL, &paths, &e), STET_OK);
    assert_string_equal(paths.data, other);
}

static void created_directories_are_private_and_a_public_run_directory_is_refused(void **state) {
    (void)state;
    stet_paths paths = paths_below_root("deep/er/data");
    stet_error e;
    assert_int_equal(stet_paths_create(&paths, &e), STET_OK);
    struct stat info;
    assert_int_equal(stat(paths.run, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    assert_int_equal(stat(paths.log, &info), 0);
    assert_int_equal(stet_paths_create(&paths, &e), STET_OK);
    assert_int_equal(chmod(paths.run, 0750), 0);
    assert_int_equal(stet_paths_create(&paths, &e), STET_FORBIDDEN);
    assert_non_null(strstr(e.message, "chmod 700"));
    assert_int_equal(rmdir(paths.run), 0);
    assert_int_equal(symlink("/tmp", paths.run), 0);
    assert_int_equal(stet_paths_create(&paths, &e), STET_INVALID);
}

static void file_in_the_way_is_an_error(void **state) {
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/file", root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    stet_error e;
    assert_int_equal(stet_make_directories(path, &e), STET_INVALID);
    (void)snprintf(path, sizeof path, "%s/file/below", root);
    assert_int_equal(stet_make_directories(path, &e), STET_INVALID);
}

/* A child that takes the lock, says so, and waits to be killed. */
static pid_t start_holder(void) {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = -1;
        char said = stet_lock_file(root, "x.lock", &fd, NULL) == STET_OK ? 'y' : 'n';
        if (write(ready[1], &said, 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    char said = '?';
    assert_int_equal(read(ready[0], &said, 1), 1);
    assert_int_equal(said, 'y');
    (void)close(ready[0]);
    (void)close(ready[1]);
    return pid;
}

static void lock_names_its_holder_refuses_a_second_and_dies_with_it(void **state) {
    (void)state;
    assert_int_equal(stet_lock_holder(root, "x.lock"), 0);
    pid_t holder = start_holder();
    assert_int_equal(stet_lock_holder(root, "x.lock"), holder);
    int fd = -1;
    stet_error e;
    assert_int_equal(stet_lock_file(root, "x.lock", &fd, &e), STET_CONFLICT);
    char pid_text[32];
    (void)snprintf(pid_text, sizeof pid_text, "process %d", (int)holder);
    assert_non_null(strstr(e.message, pid_text));
    assert_int_equal(stet_lock_file(root, "other.lock", &fd, &e), STET_OK);
    (void)close(fd);
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    assert_int_equal(stet_lock_holder(root, "x.lock"), 0);
    assert_int_equal(stet_lock_file(root, "x.lock", &fd, &e), STET_OK);
    (void)close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sockets_lie_in_the_run_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_spelling_of_a_directory_is_the_same_before_and_after_it_exists,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_long_a_path_moves_the_sockets_and_only_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(default_place_follows_the_environment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(created_directories_are_private_and_a_public_run_directory_is_refused,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(file_in_the_way_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lock_names_its_holder_refuses_a_second_and_dies_with_it, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
