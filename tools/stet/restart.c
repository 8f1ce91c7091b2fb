#include "tools/stet/restart.h"

#include "proto/base/exit_codes.h"

#include <stdio.h>
#include <sys/wait.h>

const char *restart_state_name(restart_state state) {
    static const char *const names[] = {
#define X(name, text) [RESTART_##name] = (text),
        RESTART_STATES(X)
#undef X
    };
    ASSERT((size_t)state < COUNT_OF(names));
    return names[state];
}

restart restart_of(int64_t now_ms, int64_t delay_max_ms) {
    return (restart){.state = RESTART_STARTING, .due_ms = now_ms, .delay_max_ms = delay_max_ms};
}

void restart_started(restart *self, int64_t now_ms) {
    ASSERT(!self->alive);
    self->alive = true;
    self->started_ms = now_ms;
    self->due_ms = INT64_MAX;
    if (self->state != RESTART_CRASH_LOOP) {
        self->state = RESTART_RUNNING;
        self->reason[0] = '\0';
    }
}

/* True when this and the last ends make a crash loop. */
static bool count_end(restart *self, int64_t now_ms) {
    self->ends_ms[self->ends_count++ % RESTART_LOOP_ENDS] = now_ms;
    if (self->ends_count < RESTART_LOOP_ENDS)
        return false;
    int64_t oldest_ms = self->ends_ms[self->ends_count % RESTART_LOOP_ENDS];
    return now_ms - oldest_ms < RESTART_LOOP_WINDOW_MS;
}

static void back_off(restart *self, int64_t now_ms) {
    bool settled = self->alive && now_ms - self->started_ms >= RESTART_SETTLED_MS;
    self->alive = false;
    self->restarts++;
    bool loop = count_end(self, now_ms);
    self->delay_ms = settled || self->delay_ms == 0 ? RESTART_DELAY_MIN_MS : self->delay_ms * 2;
    if (loop || self->delay_ms > self->delay_max_ms)
        self->delay_ms = self->delay_max_ms;
    self->state = loop ? RESTART_CRASH_LOOP : RESTART_BACKOFF;
    self->due_ms = now_ms + self->delay_ms;
}

/* What no restart can cure; NULL for the rest. */
static const char *incurable(int exit_code) {
    switch (exit_code) {
    case STET_EXIT_USAGE:
        return "it refused its arguments: stet and its programs may be of different versions";
    case STET_EXIT_DAMAGED:
        return "acknowledged data is missing: restore a backup";
    case STET_EXIT_CONFIG:
        return "its configuration is wrong: correct it, then stet down and stet up";
    default:
        return NULL;
    }
}

static const char *known_end(int exit_code) {
    switch (exit_code) {
    case STET_EXIT_OK:
        return " (unasked)";
    case STET_EXIT_STORE:
        return " (store error)";
    case STET_EXIT_LOCKED:
        return " (another process owns the data)";
    case STET_EXIT_FENCED:
        return " (another owner has a higher epoch)";
    default:
        return "";
    }
}

void restart_ended(restart *self, int64_t now_ms, int wait_status) {
    ASSERT(self->alive);
    int exit_code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
    const char *cure = incurable(exit_code);
    if (WIFSIGNALED(wait_status)) {
        (void)snprintf(self->reason, sizeof self->reason, "ended by signal %d (%s)", WTERMSIG(wait_status),
                       strsignal(WTERMSIG(wait_status)));
    } else {
        (void)snprintf(self->reason, sizeof self->reason, "exit %d%s%s", exit_code,
                       cure ? ": " : known_end(exit_code), cure ? cure : "");
    }
    if (cure != NULL) {
        self->alive = false;
        self->state = RESTART_FAILED;
        self->due_ms = INT64_MAX;
    } else {
        back_off(self, now_ms);
    }
}

void restart_refused(restart *self, int64_t now_ms, const char *reason) {
    ASSERT(!self->alive);
    (void)snprintf(self->reason, sizeof self->reason, "%s", reason);
    back_off(self, now_ms);
}

void restart_postponed(restart *self, int64_t due_ms, const char *reason) {
    ASSERT(!self->alive);
    (void)snprintf(self->reason, sizeof self->reason, "%s", reason);
    self->due_ms = due_ms;
}

bool restart_settle(restart *self, int64_t now_ms) {
    if (!self->alive || self->state != RESTART_CRASH_LOOP || now_ms - self->started_ms < RESTART_SETTLED_MS)
        return false;
    self->state = RESTART_RUNNING;
    self->reason[0] = '\0';
    self->ends_count = 0;
    return true;
}

int64_t restart_wake_ms(const restart *self) {
    if (self->alive)
        return self->state == RESTART_CRASH_LOOP ? self->started_ms + RESTART_SETTLED_MS : INT64_MAX;
    return self->due_ms;
}
