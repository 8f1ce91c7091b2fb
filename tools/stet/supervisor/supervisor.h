/* supervisor - starts the programs of one instance, keeps them running, stops them in order.
 *
 * One thread, one poll(): signals come through a signalfd, time through the poll's timeout, so an idle
 * supervisor costs nothing. Children get SIGTERM when the supervisor dies (PR_SET_PDEATHSIG), so nothing
 * outlives it; the next `up` waits for the locks that old children still hold. What it knows stands in
 * DATA/run/supervisor.json, replaced whole at every change.
 *
 *   start:  sandbox and broker, then actors as soon as the sandbox's port is known
 *   stop:   actors, then broker, then sandbox: SIGTERM, after 10 s SIGKILL
 *
 * No ZeroMQ here: it forks, and a context would not survive that. */
#ifndef TOOLS_STET_SUPERVISOR_H
#define TOOLS_STET_SUPERVISOR_H

#include "tools/stet/cli.h"
#include "tools/stet/restart.h"

#include <sys/types.h>

enum { SUPERVISOR_CHILDREN_MAX = 12, SUPERVISOR_STOP_MS = 10 * 1000 };

#define SUPERVISOR_LOCK "stet.lock"
#define SUPERVISOR_FILE "supervisor.json"
#define SUPERVISOR_PORT_FILE "sandbox.port"

/* The order of stopping is the reverse of these. */
typedef enum program_stage { STAGE_SANDBOX, STAGE_BROKER, STAGE_ACTOR, STAGES_COUNT } program_stage;

typedef struct program {
    const char *name;
    const char *file; /* beside the stet executable */
    program_stage stage;
} program;

extern const program supervisor_programs[];
extern const size_t supervisor_programs_count;

typedef struct child {
    const program *program;
    pid_t pid;        /* 0: not running */
    int64_t kill_ms;  /* while stopping: when to send SIGKILL; INT64_MAX: not */
    int64_t since_ms; /* wall time of the last start, for people */
    restart restart;
} child;

typedef struct supervisor {
    const stet_paths *paths;
    const char *config_path; /* "" for none */
    const stet_config *config;
    const char *programs; /* directory */
    bool sandbox;
    bool detached;
    child children[SUPERVISOR_CHILDREN_MAX];
    size_t count;
    int signal_fd;
    bool stopping;
    program_stage stage; /* while stopping: the one that is being stopped */
    int64_t log_check_ms;
    int64_t write_again_ms; /* the file could not be written; INT64_MAX: it could */
    int64_t started_wall_ms;
    pid_t waiter; /* of `up` in the foreground; 0: none */
} supervisor;

/* Runs until told to stop by SIGTERM or SIGINT; the lock must be held. Returns the exit code. */
int supervisor_run(supervisor *self);

/* spawn.c: starts the child's program. False with a reason when it cannot be started. */
bool supervisor_spawn(supervisor *self, child *c, char *ret_reason, size_t reason_size);
/* Port of the sandbox, 0 while unknown. */
int supervisor_sandbox_port(const stet_paths *paths);
/* Forgets the port when something else listens there by now, so that the sandbox takes a new one. Before the
 * start only: running actors know the port. */
void supervisor_check_sandbox_port(const stet_paths *paths);
/* pid of somebody else who holds the lock that this program will need; 0: nobody. */
int64_t supervisor_lock_holder(const supervisor *self, const program *p);

/* logs.c: opens DATA/log/NAME.log for appending, renamed to NAME.log.1 before when it is large. -1 on
 * failure. */
int supervisor_open_log(const stet_paths *paths, const char *name);
/* Cuts logs that have grown large while their writer runs; the old text is kept in NAME.log.1. */
void supervisor_trim_log(const stet_paths *paths, const char *name);

/* state.c: what it knows, as MessagePack and as the file. */
void supervisor_encode(const supervisor *self, stet_buf *b);
NODISCARD
stet_code supervisor_write_state(const supervisor *self, stet_error *e);
/* The file as MessagePack; STET_NOT_FOUND when there is none. */
NODISCARD
stet_code supervisor_read_state(const stet_paths *paths, stet_buf *ret, stet_error *e);
/* Sockets and the state file; locks and the sandbox's port stay. */
void supervisor_remove_files(const stet_paths *paths);

/* state.c: the actors that an instance runs, by its state; ret holds SUPERVISOR_CHILDREN_MAX. Returns how
 * many. */
size_t supervisor_actors(stet_str state, const program **ret);

#endif
