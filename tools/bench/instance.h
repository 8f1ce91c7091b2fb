/* instance - broker and actors of a benchmark as child processes in a directory of its own. Thread: one. */
#ifndef BENCH_INSTANCE_H
#define BENCH_INSTANCE_H

#include <sys/types.h>

#include "proto/base/paths.h"

enum { BENCH_ACTORS_MAX = 4 };

typedef struct bench_instance {
    char programs[STET_PATH_MAX]; /* directory of the executables */
    stet_paths paths;
    pid_t broker;
    pid_t actors[BENCH_ACTORS_MAX];
    const char *names[BENCH_ACTORS_MAX]; /* "probe", "drafter" */
    int actors_count;
} bench_instance;

/* Makes a new directory under parent. Starts nothing. */
NODISCARD
stet_code bench_instance_make(bench_instance *self, const char *parent, stet_error *e);
NODISCARD
stet_code bench_instance_start_broker(bench_instance *self, stet_error *e);
/* name: kept by pointer. Returns when the actor answers its health command; *ret_ms is how long that took. */
NODISCARD
stet_code bench_instance_start_actor(bench_instance *self, const char *name, int64_t *ret_ms, stet_error *e);
/* A command without fields; STET_UNAVAILABLE when it is refused. */
NODISCARD
stet_code bench_instance_call(const bench_instance *self, const char *command, stet_error *e);
/* SIGTERM, then waits. */
void bench_instance_stop_actors(bench_instance *self);
/* Stops everything and removes the directory. */
void bench_instance_end(bench_instance *self);

/* Of a child: resident bytes, and CPU seconds it has used. */
int64_t bench_rss_bytes(pid_t pid);
double bench_cpu_seconds(pid_t pid);
int64_t bench_disk_bytes(const char *directory);

#endif
