#include "tools/bench/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/client/stet.h"

enum { START_MS = 60000, POLL_MS = 200 };

stet_code bench_instance_make(bench_instance *self, const char *parent, stet_error *e) {
    *self = (bench_instance){.broker = -1};
    ssize_t size = readlink("/proc/self/exe", self->programs, sizeof self->programs - 1);
    char *slash = size > 0 ? strrchr(self->programs, '/') : NULL;
    if (!slash)
        return stet_error_set(e, STET_INTERNAL, "cannot find the directory of the programs");
    *slash = 0;
    char data[STET_PATH_MAX];
    int length = snprintf(data, sizeof data, "%s/stet-bench-XXXXXX", parent);
    if (length < 0 || (size_t)length >= sizeof data || !mkdtemp(data))
        return stet_error_set(e, STET_INVALID, "cannot make a directory in %s: %s", parent, strerror(errno));
    stet_code rc = stet_paths_of(data, &self->paths, e);
    return rc == STET_OK ? stet_paths_create(&self->paths, e) : rc;
}

static pid_t start(bench_instance *self, const char *name) {
    char program[STET_PATH_MAX + 64], log[STET_PATH_MAX + 64];
    (void)snprintf(program, sizeof program, "%s/stet-%s", self->programs, name);
    (void)snprintf(log, sizeof log, "%s/%s.log", self->paths.log, name);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (getppid() != parent || fd < 0 || dup2(fd, STDERR_FILENO) < 0)
        _exit(126);
    execl(program, program, "--data", self->paths.data, (char *)NULL);
    _exit(127);
}

/* Asks until the command is answered or the child has ended. */
static stet_code wait_for(bench_instance *self, pid_t pid, const char *command, stet_error *e) {
    stet_client_options options = {.data = self->paths.data, .timeout_ms = POLL_MS};
    stet_client *client = stet_client_new(&options, e->message, sizeof e->message);
    stet_code rc = STET_UNAVAILABLE;
    int64_t until = stet_clock_boot_ms() + START_MS;
    while (client && rc != STET_OK && stet_clock_boot_ms() < until && waitpid(pid, NULL, WNOHANG) == 0) {
        stet_answer answer;
        if (stet_client_request(client, command, NULL, 0, NULL, 0, &answer) == 0 && !answer.code)
            rc = STET_OK;
    }
    stet_client_free(client);
    if (rc == STET_OK)
        return rc;
    return stet_error_set(e, rc, "%s was not answered: look at %s", command, self->paths.log);
}

stet_code bench_instance_start_broker(bench_instance *self, stet_error *e) {
    self->broker = start(self, "broker");
    return wait_for(self, self->broker, "broker.version", e);
}

stet_code bench_instance_start_actor(bench_instance *self, const char *name, int64_t *ret_ms, stet_error *e) {
    ASSERT(self->actors_count < BENCH_ACTORS_MAX);
    int64_t before = stet_clock_boot_ms();
    pid_t pid = start(self, name);
    self->names[self->actors_count] = name;
    self->actors[self->actors_count++] = pid;
    char command[64];
    (void)snprintf(command, sizeof command, "%s.stats", name);
    stet_code rc = wait_for(self, pid, command, e);
    *ret_ms = stet_clock_boot_ms() - before;
    return rc;
}

stet_code bench_instance_call(const bench_instance *instance, const char *command, stet_error *e) {
    stet_client_options options = {.data = instance->paths.data};
    stet_client *client = stet_client_new(&options, e->message, sizeof e->message);
    stet_answer answer = {.code = NULL};
    bool ok = client && stet_client_request(client, command, NULL, 0, NULL, 0, &answer) == 0 && !answer.code;
    stet_client_free(client);
    return ok ? STET_OK : stet_error_set(e, STET_UNAVAILABLE, "%s was not answered", command);
}

static void stop(pid_t pid) {
    if (pid > 0 && kill(pid, SIGTERM) == 0)
        (void)waitpid(pid, NULL, 0);
}

void bench_instance_stop_actors(bench_instance *self) {
    while (self->actors_count > 0)
        stop(self->actors[--self->actors_count]);
}

static void remove_tree(const char *path) {
    char *const roots[] = {(char *)(uintptr_t)path, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *entry; tree && (entry = fts_read(tree)) != NULL;)
        if (entry->fts_info != FTS_D)
            (void)remove(entry->fts_accpath);
    if (tree)
        (void)fts_close(tree);
}

void bench_instance_end(bench_instance *self) {
    bench_instance_stop_actors(self);
    stop(self->broker);
    self->broker = -1;
    remove_tree(self->paths.data);
    if (strncmp(self->paths.run, self->paths.data, strlen(self->paths.data)) != 0)
        remove_tree(self->paths.run);
}

/* ---- what /proc tells ---- */

static bool read_file(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        (void)close(fd);
    text[got > 0 ? got : 0] = 0;
    return got > 0;
}

int64_t bench_rss_bytes(pid_t pid) {
    char path[64], text[256], *at = text;
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    if (!read_file(path, text, sizeof text))
        return 0;
    (void)strtoll(at, &at, 10);
    return strtoll(at, NULL, 10) * sysconf(_SC_PAGESIZE);
}

double bench_cpu_seconds(pid_t pid) {
    char path[64], text[1024];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    char *at = read_file(path, text, sizeof text) ? strrchr(text, ')') : NULL;
    if (!at)
        return 0;
    /* Fields 14 and 15 are user and system time; after ')' come a blank and field 3. */
    for (int field = 2; field < 13 && at; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return 0;
    long long user = strtoll(at + 1, &at, 10), kernel = strtoll(at, NULL, 10);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

int64_t bench_disk_bytes(const char *directory) {
    char *const roots[] = {(char *)(uintptr_t)directory, NULL};
    int64_t bytes = 0;
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *entry; tree && (entry = fts_read(tree)) != NULL;)
        if (entry->fts_info == FTS_F)
            bytes += (int64_t)entry->fts_statp->st_blocks * 512;
    if (tree)
        (void)fts_close(tree);
    return bytes;
}
