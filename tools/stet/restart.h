/* restart - when a process that ended is started again.
 *
 * Back-off 100 ms, doubling to a given longest wait, from the start again after 10 s alive. Five ends within
 * a minute: a crash loop, shown as such and still restarted, each time after the longest wait. Exit codes
 * that no restart can cure (usage, configuration, damaged data) end in `failed` with the reason.
 *
 *   stopped --started--> running --ended--> backoff --started--> running (crash-loop until 10 s alive)
 *                           |--ended, incurable--> failed
 *
 * Pure: time and exit statuses are handed in. Thread: one. */
#ifndef TOOLS_STET_RESTART_H
#define TOOLS_STET_RESTART_H

#include "proto/base/base.h"

#define RESTART_STATES(X)                                                                                    \
    X(STARTING, "starting")                                                                                  \
    X(RUNNING, "running")                                                                                    \
    X(BACKOFF, "backoff")                                                                                    \
    X(CRASH_LOOP, "crash-loop")                                                                              \
    X(FAILED, "failed")                                                                                      \
    X(STOPPING, "stopping")                                                                                  \
    X(STOPPED, "stopped")

typedef enum restart_state {
#define X(name, text) RESTART_##name,
    RESTART_STATES(X)
#undef X
} restart_state;

enum {
    RESTART_DELAY_MIN_MS = 100,
    RESTART_SETTLED_MS = 10 * 1000,
    RESTART_LOOP_ENDS = 5,
    RESTART_LOOP_WINDOW_MS = 60 * 1000
};

typedef struct restart {
    restart_state state;
    bool alive;
    uint32_t restarts;
    uint32_t ends_count;
    int64_t ends_ms[RESTART_LOOP_ENDS]; /* ring of the last ends */
    int64_t started_ms;
    int64_t due_ms; /* when to start; INT64_MAX: not by itself */
    int64_t delay_ms, delay_max_ms;
    char reason[160]; /* of the last end, or of the wait; "" for none */
} restart;

restart restart_of(int64_t now_ms, int64_t delay_max_ms); /* due at once */
void restart_started(restart *self, int64_t now_ms);
/* wait_status as waitpid() gives it. */
void restart_ended(restart *self, int64_t now_ms, int wait_status);
/* It could not be started at all: like an end. */
void restart_refused(restart *self, int64_t now_ms, const char *reason);
/* Not yet: try again at due_ms; no end is counted. */
void restart_postponed(restart *self, int64_t due_ms, const char *reason);
/* Running for long enough that earlier ends no longer count; true when the state changed. */
bool restart_settle(restart *self, int64_t now_ms);
/* When restart_settle or a start is due; INT64_MAX: never. */
int64_t restart_wake_ms(const restart *self);
const char *restart_state_name(restart_state state);

#endif
