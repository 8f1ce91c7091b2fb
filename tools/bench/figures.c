#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/bench/bench.h"
#include "tools/bench/instance.h"
#include "tools/bench/load.h"

static stet_code open_instance(bench_instance *instance, const bench_options *options, const char *actor,
                               stet_error *e) {
    int64_t ignored;
    stet_code rc = bench_instance_make(instance, options->directory, e);
    if (rc == STET_OK)
        rc = bench_instance_start_broker(instance, e);
    return rc == STET_OK ? bench_instance_start_actor(instance, actor, &ignored, e) : rc;
}

/* CPU of one request: on a shared machine it says more than the rate. */
static double us_each(double seconds, const load_result *result) {
    return result->completed ? seconds * 1e6 / (double)result->completed : 0;
}

static void print_load(const bench_report *report, const char *figure, const load_options *load,
                       const load_result *result) {
    bench_report_figure(
        report,
        "{\"figure\":\"%s\",\"window\":%u,\"clients\":%u,\"payloadBytes\":%u,\"perSecond\":%.0f,\"p50Ms\":"
        "%.3f,"
        "\"p99Ms\":%.3f,\"p999Ms\":%.3f,\"brokerCpuUs\":%.2f,\"actorsCpuUs\":%.2f,\"refused\":%llu,"
        "\"seconds\":%.2f}",
        figure, load->window, load->clients, load->payload_bytes, (double)result->completed / result->seconds,
        result->p50_ms, result->p99_ms, result->p999_ms, us_each(result->broker_cpu_seconds, result),
        us_each(result->actors_cpu_seconds, result), (unsigned long long)result->refused, result->seconds);
}

/* One instance for the whole table of windows and clients, as a user's instance would go on. first: a command
 * before all, or NULL. */
static stet_code throughput(const bench_options *options, const char *figure, const char *actor,
                            const char *first, load_options load, stet_error *e) {
    static const uint32_t windows[] = {1, 64, 1024}, clients[] = {1, 4, 16};
    bench_instance instance;
    stet_code rc = open_instance(&instance, options, actor, e);
    if (rc == STET_OK && first)
        rc = bench_instance_call(&instance, first, e);
    load.instance = &instance;
    load.payload_bytes = options->payload_bytes;
    load.seconds = options->seconds;
    load.warmup_seconds = BENCH_WARMUP_SECONDS;
    for (size_t c = 0; c < COUNT_OF(clients) && rc == STET_OK; c++)
        for (size_t w = 0; w < COUNT_OF(windows) && rc == STET_OK; w++) {
            if ((options->only_window && options->only_window != windows[w]) ||
                (options->only_clients && options->only_clients != clients[c]))
                continue;
            load.window = windows[w];
            load.clients = clients[c];
            load_result result;
            rc = load_run(&load, &result, e);
            if (rc == STET_OK)
                print_load(&options->report, figure, &load, &result);
        }
    bench_instance_end(&instance);
    return rc;
}

stet_code bench_put(const bench_options *options, stet_error *e) {
    return throughput(options, "put", "probe", NULL, (load_options){.command = "probe.put"}, e);
}

stet_code bench_job(const bench_options *options, stet_error *e) {
    return throughput(options, "job", "probe", NULL,
                      (load_options){.command = "probe.job", .until_done = true}, e);
}

stet_code bench_draft(const bench_options *options, stet_error *e) {
    /* Paused: a draft takes seconds, so that at this rate all but a few wait. */
    return throughput(options, "draft", "drafter", "drafter.pause",
                      (load_options){.command = "drafter.submit"}, e);
}

stet_code bench_latency(const bench_options *options, stet_error *e) {
    bench_instance instance;
    stet_code rc = open_instance(&instance, options, "probe", e);
    load_options load = {.instance = &instance,
                         .command = "probe.job",
                         .clients = 1,
                         .window = 1000,
                         .rate = 200,
                         .payload_bytes = options->payload_bytes,
                         .seconds = options->seconds * 2,
                         .warmup_seconds = BENCH_WARMUP_SECONDS,
                         .until_done = true};
    load_result result;
    if (rc == STET_OK)
        rc = load_run(&load, &result, e);
    if (rc == STET_OK)
        print_load(&options->report, "jobAt200PerSecond", &load, &result);
    bench_instance_end(&instance);
    return rc;
}

stet_code bench_idle(const bench_options *options, stet_error *e) {
    bench_instance instance;
    int64_t start_ms = 0;
    stet_code rc = open_instance(&instance, options, "probe", e);
    if (rc == STET_OK)
        rc = bench_instance_start_actor(&instance, "drafter", &start_ms, e);
    if (rc == STET_OK) {
        const double span = options->seconds * 2;
        (void)usleep(1000000); /* what starting leaves to do is done */
        double before = bench_cpu_seconds(instance.broker);
        int64_t rss = 0;
        for (int i = 0; i < instance.actors_count; i++)
            before += bench_cpu_seconds(instance.actors[i]);
        (void)usleep((useconds_t)(span * 1e6));
        double after = bench_cpu_seconds(instance.broker);
        rss = bench_rss_bytes(instance.broker);
        bench_report_figure(&options->report,
                            "{\"figure\":\"idle\",\"process\":\"broker\",\"rssBytes\":%lld}", (long long)rss);
        for (int i = 0; i < instance.actors_count; i++) {
            after += bench_cpu_seconds(instance.actors[i]);
            int64_t one = bench_rss_bytes(instance.actors[i]);
            bench_report_figure(&options->report,
                                "{\"figure\":\"idle\",\"process\":\"%s\",\"rssBytes\":%lld}",
                                instance.names[i], (long long)one);
            rss += one;
        }
        bench_report_figure(
            &options->report,
            "{\"figure\":\"idle\",\"process\":\"all\",\"rssBytes\":%lld,\"cpuPercent\":%.3f,\"startMs\":%"
            "lld}",
            (long long)rss, (after - before) / span * 100, (long long)start_ms);
    }
    bench_instance_end(&instance);
    return rc;
}
