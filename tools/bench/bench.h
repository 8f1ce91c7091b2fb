/* bench - the figures: each function measures one thing on an instance of its own and prints one JSON object
 * a figure. */
#ifndef BENCH_H
#define BENCH_H

#include "tools/bench/report.h"

#define BENCH_WARMUP_SECONDS 0.5

typedef struct bench_options {
    const char *directory; /* where instances are made */
    double seconds;        /* of each throughput figure */
    uint32_t payload_bytes;
    uint64_t backlog;                   /* queued jobs of the backlog figure */
    uint32_t only_window, only_clients; /* 0: the whole table */
    bench_report report;
} bench_options;

NODISCARD
stet_code bench_put(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_job(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_draft(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_latency(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_machine(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_fanout(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_idle(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_backlog(const bench_options *options, stet_error *e);
NODISCARD
stet_code bench_overload(const bench_options *options, stet_error *e);

#endif
