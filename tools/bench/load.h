/* load - client processes that keep a window of requests under way and record what comes back.
 *
 * They speak the wire without libstet, as lean as the protocol allows, so that two cores measure the system
 * more than its client. Each client is a process with its own connection; counters lie in shared memory. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "tools/bench/instance.h"

enum { LOAD_CLIENTS_MAX = 64, LOAD_WINDOW_MAX = 65535 };

typedef struct load_options {
    const bench_instance *instance;
    const char *command; /* probe.put, probe.job, drafter.submit */
    uint32_t clients;
    uint32_t window;        /* requests under way per client */
    uint32_t payload_bytes; /* of the value or payload */
    double seconds;         /* measured, after warm-up */
    double warmup_seconds;
    double rate;           /* requests a second per client; 0: as fast as the window allows */
    uint64_t requests_max; /* stop after so many per client; 0: by time */
    bool polite;           /* leaves the processors to the system first, as clients on other machines do */
    bool impatient;        /* goes on sending when a refusal asks for a pause */
    bool until_done;       /* a request leaves the window when its "done" event comes, not with its reply */
} load_options;

typedef struct load_result {
    uint64_t sent, completed, refused; /* within the measured time */
    double seconds;
    double p50_ms, p99_ms, p999_ms; /* of what was completed */
    double refused_p99_ms;
    double broker_cpu_seconds, actors_cpu_seconds; /* used meanwhile */
} load_result;

NODISCARD
stet_code load_run(const load_options *options, load_result *ret, stet_error *e);

#endif
