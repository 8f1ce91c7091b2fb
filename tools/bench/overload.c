/* overload - what is still served when clients offer five times what the actor can take and go on sending whatever they are
 * told. The actor is made slow, a few messages a commit, so that it is the limit, not the clients, which share its processors. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/instance.h"
#include "tools/bench/load.h"

enum { CAPACITY_CLIENTS = 4, CAPACITY_WINDOW = 64, CLIENTS = 20, TIMES = 5 };

static const char SLOW_ACTOR[] = "actor\n    turnMessages = 4\n";

static stet_code write_config(const bench_instance *instance, stet_error *e) {
    char path[STET_PATH_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/stet.conf", instance->paths.data);
    FILE *file = fopen(path, "we");
    bool good = file && fputs(SLOW_ACTOR, file) >= 0;
    if (file)
        good &= fclose(file) == 0;
    return good ? STET_OK : stet_error_set(e, STET_UNAVAILABLE, "cannot write %s: %s", path, strerror(errno));
}

static double per_second(uint64_t count, const load_result *result) {
    return (double)count / result->seconds;
}

static stet_code measure(const bench_instance *instance, const bench_options *options, stet_error *e) {
    load_options load = {.instance = instance,
                         .command = "probe.put",
                         .clients = CAPACITY_CLIENTS,
                         .window = CAPACITY_WINDOW,
                         .payload_bytes = options->payload_bytes,
                         .seconds = options->seconds,
                         .warmup_seconds = BENCH_WARMUP_SECONDS};
    load_result capacity, over;
    stet_code rc = load_run(&load, &capacity, e);
    if (rc != STET_OK)
        return rc;
    load.clients = CLIENTS;
    load.window = LOAD_WINDOW_MAX;
    load.rate = TIMES * per_second(capacity.completed, &capacity) / CLIENTS;
    load.impatient = load.polite = true;
    rc = load_run(&load, &over, e);
    int64_t began = stet_clock_boot_ms();
    if (rc == STET_OK)
        rc = bench_instance_call(instance, "probe.health", e);
    if (rc == STET_OK)
        bench_report_figure(
            &options->report,
            "{\"figure\":\"overload\",\"capacityPerSecond\":%.0f,\"offeredPerSecond\":%.0f,"
            "\"servedPerSecond\":%.0f,"
            "\"servedOfCapacity\":%.2f,\"refusedPerSecond\":%.0f,\"capacityP99Ms\":%.1f,\"servedP99Ms\":%.1f,"
            "\"refusedP99Ms\":%.1f,\"answeredAgainMs\":%lld}",
            per_second(capacity.completed, &capacity), per_second(over.sent, &over),
            per_second(over.completed, &over),
            per_second(over.completed, &over) / per_second(capacity.completed, &capacity),
            per_second(over.refused, &over), capacity.p99_ms, over.p99_ms, over.refused_p99_ms,
            (long long)(stet_clock_boot_ms() - began));
    return rc;
}

stet_code bench_overload(const bench_options *options, stet_error *e) {
    bench_instance instance;
    int64_t ignored;
    stet_code rc = bench_instance_make(&instance, options->directory, e);
    if (rc == STET_OK)
        rc = write_config(&instance, e);
    if (rc == STET_OK)
        rc = bench_instance_start_broker(&instance, e);
    if (rc == STET_OK)
        rc = bench_instance_start_actor(&instance, "probe", &ignored, e);
    if (rc == STET_OK)
        rc = measure(&instance, options, e);
    bench_instance_end(&instance);
    return rc;
}
