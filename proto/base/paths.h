/* paths - where things of one instance lie under its data directory.
 *
 *   DATA/run/            mode 0700: sockets, locks, state of the supervisor   (or /tmp/stet-UID-HASH/ when
 * DATA is too DATA/log/            logs of detached processes                            long for a socket
 * address) DATA/ACTOR/PART/     an actor's partition: db/, witness, ballast Thread: any. Memory: plain
 * values, created by nobody but stet_paths_create() and stet_make_directories(). */
#ifndef STET_PATHS_H
#define STET_PATHS_H

#include "proto/base/code.h"

enum { STET_PATH_MAX = 1024, STET_ENDPOINT_MAX = 128 };

typedef struct stet_paths {
    char data[STET_PATH_MAX]; /* absolute */
    char run[STET_PATH_MAX];
    char log[STET_PATH_MAX];
    char front[STET_ENDPOINT_MAX];     /* ipc://... clients */
    char back[STET_ENDPOINT_MAX];      /* ipc://... actors */
    char events_in[STET_ENDPOINT_MAX]; /* ipc://... actors publish here */
    char events[STET_ENDPOINT_MAX];    /* ipc://... subscribers */
} stet_paths;

/* data NULL: STET_DATA, else $XDG_DATA_HOME/stet, else ~/.local/share/stet. Creates nothing. */
NODISCARD
stet_code stet_paths_of(const char *data, stet_paths *ret, stet_error *e);
/* Creates data, run and log (0700) where missing; refuses a run directory that others may enter. */
NODISCARD
stet_code stet_paths_create(const stet_paths *paths, stet_error *e);
/* DATA/ACTOR/PARTITION. */
NODISCARD
stet_code stet_paths_actor(const stet_paths *paths, const char *actor, uint32_t partition,
                           char ret_path[STET_PATH_MAX], stet_error *e);
/* mkdir -p with mode 0700. */
NODISCARD
stet_code stet_make_directories(const char *path, stet_error *e);
/* A directory of ours that nobody else may enter; STET_FORBIDDEN says what to do. may_be_link: false where
 * others can put one before us, as in /tmp. */
NODISCARD
stet_code stet_check_private(const char *path, bool may_be_link, stet_error *e);
/* Takes an exclusive lock (fcntl) on DIR/name; *ret_fd stays open as long as it is held, close-on-exec.
 * STET_CONFLICT when another process holds it (its pid in the message). The kernel frees it when the holder
 * dies. */
NODISCARD
stet_code stet_lock_file(const char *directory, const char *name, int *ret_fd, stet_error *e);
/* pid of the holder of DIR/name, 0 when nobody holds it. Not for a lock that this very process holds: closing
 * the file would free it. (For the same reason a lock is taken after the last fork.) */
int64_t stet_lock_holder(const char *directory, const char *name);

#endif
