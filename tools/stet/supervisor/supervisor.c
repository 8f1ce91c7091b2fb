#include "tools/stet/supervisor/supervisor.h"

#include "proto/base/clock.h"
#include "proto/base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POSTPONE_MS = 50, LOG_CHECK_EVERY_MS = 60 * 1000, WRITE_AGAIN_MS = 1000 };

/* ---- what it knows, on disk ---- */

/* On a full disk it cannot, and is tried again: else `stet status` would tell for ever what was true before. */
static void write_state(supervisor *self, int64_t now_ms) {
    stet_error e;
    bool written = supervisor_write_state(self, &e) == STET_OK,
         was_written = self->write_again_ms == INT64_MAX;
    if (!written && was_written)
        stet_log(STET_WARN, "supervisor.state", "status cannot be written, trying again every second",
                 STET_LOG_C("reason", e.message));
    self->write_again_ms = written ? INT64_MAX : now_ms + WRITE_AGAIN_MS;
}

/* ---- starting ---- */

/* Why a child must wait; NULL when it may start. */
static const char *obstacle(const supervisor *self, const child *c, char *text, size_t size) {
    if (self->sandbox && c->program->stage == STAGE_ACTOR && supervisor_sandbox_port(self->paths) == 0)
        return "waiting for the sandbox";
    int64_t holder = supervisor_lock_holder(self, c->program);
    if (holder == 0)
        return NULL;
    (void)snprintf(text, size, "waiting for process %lld, which still owns its data", (long long)holder);
    return text;
}

/* True when something changed that is worth writing down. */
static bool start_child(supervisor *self, child *c, int64_t now_ms) {
    char text[sizeof c->restart.reason];
    const char *why = obstacle(self, c, text, sizeof text);
    if (why != NULL) {
        bool news = strcmp(why, c->restart.reason) != 0;
        restart_postponed(&c->restart, now_ms + POSTPONE_MS, why);
        return news;
    }
    if (!supervisor_spawn(self, c, text, sizeof text)) {
        stet_log(STET_ERROR, "process.refused", text, STET_LOG_C("name", c->program->name));
        restart_refused(&c->restart, now_ms, text);
        return true;
    }
    c->since_ms = stet_clock_wall_ms();
    restart_started(&c->restart, now_ms);
    stet_log(STET_INFO, "process.started", c->program->file, STET_LOG_C("name", c->program->name),
             STET_LOG_I("pid", c->pid));
    return true;
}

/* ---- ends ---- */

static void child_ended(supervisor *self, child *c, int wait_status, int64_t now_ms) {
    pid_t pid = c->pid;
    c->pid = 0;
    if (self->stopping) {
        c->restart.alive = false;
        c->restart.state = RESTART_STOPPED;
        c->restart.reason[0] = '\0';
        stet_log(STET_INFO, "process.stopped", c->program->file, STET_LOG_C("name", c->program->name));
        return;
    }
    restart_ended(&c->restart, now_ms, wait_status);
    stet_log(STET_WARN, "process.ended", c->restart.reason, STET_LOG_C("name", c->program->name),
             STET_LOG_I("pid", pid), STET_LOG_C("state", restart_state_name(c->restart.state)),
             STET_LOG_I("restarts", c->restart.restarts));
}

static bool reap(supervisor *self, int64_t now_ms) {
    bool changed = false;
    for (size_t i = 0; i < self->count; i++) {
        child *c = &self->children[i];
        int wait_status = 0;
        if (c->pid > 0 && waitpid(c->pid, &wait_status, WNOHANG) == c->pid) {
            child_ended(self, c, wait_status, now_ms);
            changed = true;
        }
    }
    if (self->waiter > 0 && waitpid(self->waiter, NULL, WNOHANG) == self->waiter)
        self->waiter = 0;
    return changed;
}

/* ---- stopping ---- */

static void kill_child(const child *c, int signal_number) {
    if (c->pid > 0)
        (void)kill(c->pid, signal_number);
}

static void stop_stage(supervisor *self, int64_t now_ms) {
    for (size_t i = 0; i < self->count; i++) {
        child *c = &self->children[i];
        if (c->program->stage != self->stage)
            continue;
        if (c->pid == 0) {
            c->restart.state = RESTART_STOPPED;
            continue;
        }
        c->restart.state = RESTART_STOPPING;
        c->kill_ms = now_ms + SUPERVISOR_STOP_MS;
        kill_child(c, SIGTERM);
    }
}

static void begin_stop(supervisor *self, int64_t now_ms) {
    if (self->stopping) { /* asked twice: somebody is impatient */
        for (size_t i = 0; i < self->count; i++)
            kill_child(&self->children[i], SIGKILL);
        return;
    }
    self->stopping = true;
    for (size_t i = 0; i < self->count; i++)
        self->children[i].restart.due_ms = INT64_MAX;
    self->stage = STAGE_ACTOR;
    stet_log(STET_INFO, "supervisor.stopping", "actors first, then the broker");
    stop_stage(self, now_ms);
    if (self->waiter > 0)
        (void)kill(self->waiter, SIGKILL);
}

static bool stage_is_over(const supervisor *self) {
    for (size_t i = 0; i < self->count; i++) {
        if (self->children[i].program->stage == self->stage && self->children[i].pid != 0)
            return false;
    }
    return true;
}

static void kill_the_slow(supervisor *self, int64_t now_ms) {
    for (size_t i = 0; i < self->count; i++) {
        child *c = &self->children[i];
        if (c->pid == 0 || c->kill_ms > now_ms)
            continue;
        stet_log(STET_WARN, "process.killed", "did not stop within 10 s",
                 STET_LOG_C("name", c->program->name));
        c->kill_ms = INT64_MAX;
        kill_child(c, SIGKILL);
    }
}

/* True when all is stopped. */
static bool advance_stop(supervisor *self, int64_t now_ms) {
    kill_the_slow(self, now_ms);
    while (stage_is_over(self)) {
        if (self->stage == STAGE_SANDBOX)
            return true;
        self->stage--;
        stop_stage(self, now_ms);
    }
    return false;
}

/* ---- the loop ---- */

static bool tick(supervisor *self, int64_t now_ms) {
    bool changed = false;
    for (size_t i = 0; i < self->count; i++) {
        child *c = &self->children[i];
        if (restart_settle(&c->restart, now_ms))
            changed = true;
        if (!self->stopping && c->pid == 0 && c->restart.due_ms <= now_ms)
            changed |= start_child(self, c, now_ms);
    }
    if (self->detached && now_ms >= self->log_check_ms) {
        self->log_check_ms = now_ms + LOG_CHECK_EVERY_MS;
        supervisor_trim_log(self->paths, "supervisor");
        for (size_t i = 0; i < self->count; i++)
            supervisor_trim_log(self->paths, self->children[i].program->name);
    }
    return changed;
}

static int wait_ms(const supervisor *self, int64_t now_ms) {
    int64_t wake_ms = self->detached ? self->log_check_ms : INT64_MAX;
    if (self->write_again_ms < wake_ms)
        wake_ms = self->write_again_ms;
    for (size_t i = 0; i < self->count; i++) {
        const child *c = &self->children[i];
        int64_t own_ms =
            self->stopping ? (c->pid != 0 ? c->kill_ms : INT64_MAX) : restart_wake_ms(&c->restart);
        if (own_ms < wake_ms)
            wake_ms = own_ms;
    }
    if (wake_ms == INT64_MAX)
        return -1;
    int64_t wait = wake_ms - now_ms;
    return wait < 0 ? 0 : wait > LOG_CHECK_EVERY_MS ? LOG_CHECK_EVERY_MS : (int)wait;
}

/* Empties the signalfd; true when somebody asked to stop. */
static bool drain_signals(supervisor *self) {
    struct signalfd_siginfo info;
    bool stop = false;
    while (read(self->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        stop |= info.ssi_signo != SIGCHLD;
    return stop;
}

static bool open_signals(supervisor *self) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return false;
    self->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return self->signal_fd >= 0;
}

/* True when the program is to run in this instance: the sandbox when asked for, actors by the setting. */
static bool is_wanted(const supervisor *self, const program *p) {
    if (p->stage == STAGE_BROKER)
        return true;
    if (p->stage == STAGE_SANDBOX)
        return self->sandbox;
    const char *at = stet_config_str(self->config, STET_SETTING_supervisor_actors);
    for (size_t size; *at != '\0'; at += size) {
        at += strspn(at, ", ");
        size = strcspn(at, ", ");
        if (size == strlen(p->name) && strncmp(at, p->name, size) == 0)
            return true;
    }
    return false;
}

static void add_children(supervisor *self, int64_t now_ms) {
    int64_t delay_max_ms = stet_config_int(self->config, STET_SETTING_supervisor_restart_max);
    for (size_t i = 0; i < supervisor_programs_count; i++) {
        const program *p = &supervisor_programs[i];
        if (!is_wanted(self, p))
            continue;
        ASSERT(self->count < SUPERVISOR_CHILDREN_MAX);
        self->children[self->count++] =
            (child){.program = p, .kill_ms = INT64_MAX, .restart = restart_of(now_ms, delay_max_ms)};
    }
}

int supervisor_run(supervisor *self) {
    if (!open_signals(self)) {
        stet_log(STET_ERROR, "supervisor.start", "no signalfd", STET_LOG_C("reason", strerror(errno)));
        return CLI_ERROR;
    }
    int64_t now_ms = stet_clock_boot_ms();
    self->started_wall_ms = stet_clock_wall_ms();
    if (self->sandbox)
        supervisor_check_sandbox_port(self->paths);
    add_children(self, now_ms);
    self->write_again_ms = INT64_MAX;
    bool over = false, changed = true;
    while (!over) {
        changed |= tick(self, now_ms);
        if (changed || now_ms >= self->write_again_ms)
            write_state(self, now_ms);
        struct pollfd pollfd = {.fd = self->signal_fd, .events = POLLIN};
        int ready = poll(&pollfd, 1, wait_ms(self, now_ms));
        now_ms = stet_clock_boot_ms();
        changed = ready < 0 && errno != EINTR; /* nothing sensible can be done: the next tick looks again */
        bool stop = drain_signals(self);
        changed |= reap(self, now_ms);
        if (stop) {
            begin_stop(self, now_ms);
            changed = true;
        }
        over = self->stopping && advance_stop(self, now_ms);
    }
    supervisor_remove_files(self->paths);
    (void)close(self->signal_fd);
    stet_log(STET_INFO, "supervisor.stopped", "everything is stopped");
    return CLI_DONE;
}
