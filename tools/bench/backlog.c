/* backlog - what a million waiting jobs cost: memory, disk, throughput beside them, and the time from start
 * to first job. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/base/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/instance.h"
#include "tools/bench/load.h"

enum { SETTLE_US = 2000000, SETTLE_MAX = 60, FIRST_JOB_MS = 60000, LITTLE = 1000 };

static const double QUIET_CPU = 0.02;

/* Until the actor is through with what the writes before have left to be done, its compactions: the figures are those
 * of a backlog, not of a burst. */
static void settle(const bench_instance *instance) {
    for (int i = 0; i < SETTLE_MAX; i++) {
        double before = bench_cpu_seconds(instance->actors[0]);
        (void)usleep(SETTLE_US);
        if (bench_cpu_seconds(instance->actors[0]) - before < QUIET_CPU * SETTLE_US / 1e6)
            return;
    }
}

static bool more_frames(void *socket) {
    int more = 0;
    size_t size = sizeof more;
    (void)zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    return more != 0;
}

/* Listens for the first job that starts after `began`. */
static stet_code first_start(void *socket, int64_t began, int64_t *ret_ms, stet_error *e) {
    static const char active[] = "\"status\":\"active\"";
    for (;;) {
        int64_t left = began + FIRST_JOB_MS - stet_clock_boot_ms();
        zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
        if (left <= 0 || zmq_poll(&item, 1, (long)left) <= 0)
            return stet_error_set(e, STET_TIMEOUT, "no job started within %d ms", FIRST_JOB_MS);
        char payload[4096];
        int size;
        do
            size = zmq_recv(socket, payload, sizeof payload, 0);
        while (size >= 0 && more_frames(socket));
        size_t stored = size < 0 ? 0 : (size_t)size < sizeof payload ? (size_t)size : sizeof payload;
        if (memmem(payload, stored, active, sizeof active - 1)) {
            *ret_ms = stet_clock_boot_ms() - began;
            return STET_OK;
        }
    }
}

static stet_code restart_and_time(bench_instance *instance, int64_t *ret_first_ms, stet_error *e) {
    bench_instance_stop_actors(instance);
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_SUB);
    int linger = 0;
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    (void)zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "TOOL_PROGRESS/", strlen("TOOL_PROGRESS/"));
    (void)zmq_connect(socket, instance->paths.events);
    (void)usleep(300000);
    int64_t began = stet_clock_boot_ms(), ignored;
    stet_code rc = bench_instance_start_actor(instance, "drafter", &ignored, e);
    if (rc == STET_OK)
        rc = bench_instance_call(instance, "drafter.resume", e);
    if (rc == STET_OK)
        rc = first_start(socket, began, ret_first_ms, e);
    (void)zmq_close(socket);
    (void)zmq_ctx_term(context);
    return rc;
}

/* Submits up to `count`, or for the measured time when it is 0. */
static stet_code submit(const bench_instance *instance, const bench_options *options, uint64_t count,
                        load_result *ret, stet_error *e) {
    load_options load = {.instance = instance,
                         .command = "drafter.submit",
                         .clients = 1,
                         .window = 1024,
                         .payload_bytes = options->payload_bytes,
                         .requests_max = count,
                         .seconds = options->seconds,
                         .warmup_seconds = BENCH_WARMUP_SECONDS};
    return load_run(&load, ret, e);
}

static double per_second(const load_result *result) {
    return (double)result->completed / result->seconds;
}

static stet_code fill_and_measure(bench_instance *instance, const bench_options *options, stet_error *e) {
    settle(instance);
    int64_t rss_idle = bench_rss_bytes(instance->actors[0]), first_ms = 0;
    load_result little, few, filled, many;
    stet_code rc = bench_instance_call(instance, "drafter.pause", e);
    if (rc == STET_OK)
        rc = submit(instance, options, LITTLE, &little, e);
    if (rc == STET_OK) {
        settle(instance);
        rc = submit(instance, options, /* count= */ 0, &few, e);
    }
    if (rc == STET_OK)
        rc = submit(instance, options, options->backlog, &filled, e);
    if (rc != STET_OK)
        return rc;
    settle(instance);
    int64_t rss = bench_rss_bytes(instance->actors[0]), disk = bench_disk_bytes(instance->paths.data);
    rc = submit(instance, options, /* count= */ 0, &many, e);
    if (rc == STET_OK)
        rc = restart_and_time(instance, &first_ms, e);
    if (rc == STET_OK)
        bench_report_figure(
            &options->report,
            "{\"figure\":\"backlog\",\"queued\":%llu,\"rssBytes\":%lld,\"rssOverIdleBytes\":%lld,"
            "\"diskBytes\":%lld,\"fillPerSecond\":%.0f,\"submitsBesideFewPerSecond\":%.0f,"
            "\"submitsBesidePerSecond\":%.0f,\"startToFirstJobMs\":%lld}",
            (unsigned long long)options->backlog, (long long)rss, (long long)(rss - rss_idle),
            (long long)disk, per_second(&filled), per_second(&few), per_second(&many), (long long)first_ms);
    return rc;
}

stet_code bench_backlog(const bench_options *options, stet_error *e) {
    (void)unsetenv("OPENAI_API_KEY");
    bench_instance instance;
    int64_t ignored;
    stet_code rc = bench_instance_make(&instance, options->directory, e);
    if (rc == STET_OK)
        rc = bench_instance_start_broker(&instance, e);
    if (rc == STET_OK)
        rc = bench_instance_start_actor(&instance, "drafter", &ignored, e);
    if (rc == STET_OK)
        rc = fill_and_measure(&instance, options, e);
    bench_instance_end(&instance);
    return rc;
}
