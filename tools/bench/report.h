/* report - prints the figures, and beside each what it is of a saved run. Thread: one. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "proto/base/buf.h"
#include "proto/base/code.h"

typedef struct bench_report {
    stet_buf saved; /* the figures of an earlier run as MessagePack maps, one after another; empty: none */
} bench_report;

#define BENCH_REPORT                                                                                         \
    { .saved = STET_BUF(8 << 20) }

/* Reads what an earlier run has printed. Lines of ratios, should they be in it, are passed over. */
NODISCARD
stet_code bench_report_compare(bench_report *self, const char *file, stet_error *e);
void bench_report_done(bench_report *self);
/* One figure as one JSON object, which the format makes; with a saved run a second one with "ratioOf": the name, the
 * same labels (what was measured), and for each number this run's divided by the saved one's. */
void bench_report_figure(const bench_report *self, const char *format, ...) PRINTF(2, 3);

#endif
