/* How a child is started: its own process group (Ctrl-C reaches the supervisor only, which stops in order),
 * death with the supervisor, a clean signal mask, its output, and secrets through the environment alone. */
#include "tools/stet/supervisor/supervisor.h"

#include "proto/base/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

const program supervisor_programs[] = {
    {"sandbox", "stet-sandbox", STAGE_SANDBOX},
    {"broker", "stet-broker", STAGE_BROKER},
    {"drafter", "stet-drafter", STAGE_ACTOR},
    {"probe", "stet-probe", STAGE_ACTOR},
};
const size_t supervisor_programs_count = COUNT_OF(supervisor_programs);

enum { ARGUMENTS_MAX = 8, EXIT_CANNOT_START = 71 };

int supervisor_sandbox_port(const stet_paths *paths) {
    char path[STET_PATH_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/" SUPERVISOR_PORT_FILE, paths->run);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    char text[16] = "";
    ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (size <= 0)
        return 0;
    char *end = NULL;
    long port = strtol(text, &end, 10);
    bool whole = *end == '\n' || *end == '\0';
    return whole && port > 0 && port < 65536 ? (int)port : 0;
}

void supervisor_check_sandbox_port(const stet_paths *paths) {
    int port = supervisor_sandbox_port(paths);
    int fd = port > 0 ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return;
    int yes = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bool taken = bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 && errno == EADDRINUSE;
    (void)close(fd);
    if (!taken)
        return;
    char path[STET_PATH_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/" SUPERVISOR_PORT_FILE, paths->run);
    (void)unlink(path);
}

int64_t supervisor_lock_holder(const supervisor *self, const program *p) {
    char directory[STET_PATH_MAX];
    switch (p->stage) {
    case STAGE_BROKER:
        return stet_lock_holder(self->paths->run, "broker.lock");
    case STAGE_ACTOR:
        if (stet_paths_actor(self->paths, p->name, /* partition= */ 0, directory, NULL) != STET_OK)
            return 0;
        return stet_lock_holder(directory, "owner.lock");
    case STAGE_SANDBOX:
    case STAGES_COUNT:
        break;
    }
    return 0;
}

/* argv of the child; strings live as long as `path` and the supervisor. */
static void make_arguments(const supervisor *self, const program *p, char *path, char *port_path, size_t size,
                           const char *arguments[ARGUMENTS_MAX]) {
    size_t count = 0;
    arguments[count++] = path;
    if (p->stage == STAGE_SANDBOX) {
        (void)snprintf(port_path, size, "%s/" SUPERVISOR_PORT_FILE, self->paths->run);
        arguments[count++] = "--port-file";
        arguments[count++] = port_path;
    } else {
        arguments[count++] = "--data";
        arguments[count++] = self->paths->data;
        if (self->config_path[0] != '\0') {
            arguments[count++] = "--config";
            arguments[count++] = self->config_path;
        }
    }
    arguments[count] = NULL;
    ASSERT(count < ARGUMENTS_MAX);
}

static bool point_to_sandbox(const supervisor *self) {
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", supervisor_sandbox_port(self->paths));
    return setenv("OPENAI_BASE_URL", url, 1) == 0 && setenv("OPENAI_API_KEY", "sandbox", 1) == 0;
}

/* Only actors call the outside: nobody else gets the secrets. */
static bool forget_secrets(void) {
    bool good = true;
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        const stet_setting_info *info = stet_setting_at((stet_setting)i);
        if (info->secret && info->environment[0] != '\0')
            good = unsetenv(info->environment) == 0 && good;
    }
    return good;
}

static _Noreturn void run_child(const supervisor *self, const program *p, pid_t parent, int log_fd) {
    char path[2 * STET_PATH_MAX], port_path[2 * STET_PATH_MAX];
    const char *arguments[ARGUMENTS_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", self->programs, p->file);
    make_arguments(self, p, path, port_path, sizeof port_path, arguments);

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it died before the line above */
        _exit(EXIT_CANNOT_START);
    (void)setpgid(0, 0);
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);

    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ready = null_fd >= 0 && dup2(null_fd, STDIN_FILENO) >= 0 && dup2(null_fd, STDOUT_FILENO) >= 0;
    if (log_fd >= 0)
        ready = ready && dup2(log_fd, STDERR_FILENO) >= 0;
    (void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    if (self->sandbox && p->stage == STAGE_ACTOR)
        ready = ready && point_to_sandbox(self);
    if (p->stage != STAGE_ACTOR)
        ready = ready && forget_secrets();
    if (ready)
        (void)execv(path, (char *const *)(uintptr_t)arguments);
    (void)fprintf(stderr, "stet: cannot run %s: %s\n", path, strerror(errno));
    _exit(EXIT_CANNOT_START);
}

bool supervisor_spawn(supervisor *self, child *c, char *ret_reason, size_t reason_size) {
    ASSERT(c->pid == 0);
    char path[2 * STET_PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", self->programs, c->program->file);
    if (access(path, X_OK) != 0) {
        (void)snprintf(ret_reason, reason_size, "cannot run %s: %s", c->program->file, strerror(errno));
        return false;
    }
    int log_fd = -1;
    if (self->detached) {
        log_fd = supervisor_open_log(self->paths, c->program->name);
        if (log_fd < 0) {
            (void)snprintf(ret_reason, reason_size, "cannot open its log: %s", strerror(errno));
            return false;
        }
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        run_child(self, c->program, parent, log_fd);
    if (pid < 0)
        (void)snprintf(ret_reason, reason_size, "cannot fork: %s", strerror(errno));
    if (log_fd >= 0)
        (void)close(log_fd);
    if (pid < 0)
        return false;
    c->pid = pid;
    return true;
}
