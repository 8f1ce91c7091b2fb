/* machine - the floor under the latency of single jobs: how long the machine takes to wake a thread, to sync a
 * small write, and for both in the number in which a job needs them from its submit to its done event. Nothing
 * of Stet is in it.
 *
 * A chain of threads, each asleep on an event descriptor until the one before it posts, in the order of a job:
 * the client's socket; the broker's socket, program, socket; the actor's socket, its program, which syncs, its
 * socket; the broker's three again; the client's socket, and its program, which began. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "tools/bench/bench.h"

enum { WAKES = 12, THREADS = WAKES - 1, SYNCS_AT = 5, PER_SECOND = 200, FILE_NAME_SIZE = 4096 };

typedef struct chain chain;

typedef struct hop {
    chain *of;
    int index;
    pthread_t thread;
} hop;

struct chain {
    hop hops[THREADS];
    int events[WAKES]; /* of each thread; the last is of who began */
    int file;
    char *payload;
    uint32_t payload_bytes;
    bool stopping; /* read after an event that was posted after it was set */
    int error;     /* errno of a thread's start, of the write or the sync */
    size_t round, rounds;
    uint64_t posted_ns; /* by whoever is awake: the chain has one at a time */
    uint64_t *wake_ns, *sync_ns, *chain_ns;
};

static void post(chain *self, int to) {
    const uint64_t one = 1;
    self->posted_ns = stet_clock_boot_ns();
    ssize_t size = write(self->events[to], &one, sizeof one);
    ASSERT(size == (ssize_t)sizeof one);
}

/* How long ago it was posted. */
static uint64_t wait_for_post(const chain *self, int at) {
    uint64_t count;
    ssize_t size;
    do
        size = read(self->events[at], &count, sizeof count);
    while (size < 0 && errno == EINTR);
    ASSERT(size == (ssize_t)sizeof count);
    return stet_clock_boot_ns() - self->posted_ns;
}

static void note_wake(chain *self, int at, uint64_t ns) {
    self->wake_ns[self->round * WAKES + (size_t)at] = ns;
}

static void sync_write(chain *self) {
    uint64_t start_ns = stet_clock_boot_ns();
    errno = 0;
    if (write(self->file, self->payload, self->payload_bytes) != (ssize_t)self->payload_bytes ||
        fdatasync(self->file) != 0)
        self->error = errno ? errno : ENOSPC; /* a write that was cut short has none */
    self->sync_ns[self->round] = stet_clock_boot_ns() - start_ns;
}

static void *hop_main(void *argument) {
    const hop *self = argument;
    chain *of = self->of;
    for (;;) {
        uint64_t wake_ns = wait_for_post(of, self->index);
        if (of->stopping) {
            post(of, self->index + 1);
            return NULL;
        }
        note_wake(of, self->index, wake_ns);
        if (self->index == SYNCS_AT)
            sync_write(of);
        post(of, self->index + 1);
    }
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_ms(const uint64_t *sorted_ns, size_t count, size_t per_cent) {
    size_t index = count * per_cent / 100;
    return (double)sorted_ns[index] / 1e6;
}

static void measure(chain *self) {
    for (self->round = 0; self->round < self->rounds && !self->error; self->round++) {
        (void)usleep(1000000 / PER_SECOND);
        uint64_t start_ns = stet_clock_boot_ns();
        post(self, 0);
        note_wake(self, THREADS, wait_for_post(self, THREADS));
        self->chain_ns[self->round] = stet_clock_boot_ns() - start_ns;
    }
}

static void print(const chain *self, const bench_report *report) {
    size_t n = self->rounds;
    qsort(self->wake_ns, n * WAKES, sizeof(uint64_t), compare);
    qsort(self->sync_ns, n, sizeof(uint64_t), compare);
    qsort(self->chain_ns, n, sizeof(uint64_t), compare);
    bench_report_figure(report,
                        "{\"figure\":\"machineAt200PerSecond\",\"payloadBytes\":%u,\"wakesEach\":%d,"
                        "\"wakeP50Ms\":%.3f,\"wakeP99Ms\":%.3f,\"syncP50Ms\":%.3f,\"syncP99Ms\":%.3f,"
                        "\"p50Ms\":%.3f,\"p99Ms\":%.3f}",
                        self->payload_bytes, WAKES, quantile_ms(self->wake_ns, n * WAKES, 50),
                        quantile_ms(self->wake_ns, n * WAKES, 99), quantile_ms(self->sync_ns, n, 50),
                        quantile_ms(self->sync_ns, n, 99), quantile_ms(self->chain_ns, n, 50),
                        quantile_ms(self->chain_ns, n, 99));
}

/* Runs the chain with its threads. 0, or the errno of what failed. */
static int run(chain *self) {
    int started = 0;
    while (started < THREADS && !self->error) {
        hop *one = &self->hops[started];
        *one = (hop){.of = self, .index = started};
        self->error = pthread_create(&one->thread, NULL, hop_main, one);
        started += self->error == 0;
    }
    if (!self->error)
        measure(self);
    self->stopping = true;
    if (started > 0)
        post(self, 0);
    for (int i = 0; i < started; i++)
        (void)pthread_join(self->hops[i].thread, NULL);
    return self->error;
}

/* 0, or the errno of what failed. */
static int open_chain(chain *self, const char *directory) {
    char file[FILE_NAME_SIZE];
    (void)snprintf(file, sizeof file, "%s/stet-bench-XXXXXX", directory);
    self->file = mkostemp(file, O_CLOEXEC);
    int error = self->file < 0 ? errno : unlink(file) != 0 ? errno : 0;
    for (int i = 0; i < WAKES; i++) {
        self->events[i] = eventfd(0, EFD_CLOEXEC);
        if (self->events[i] < 0)
            error = errno;
    }
    self->payload = calloc(1, self->payload_bytes);
    self->wake_ns = calloc(self->rounds * WAKES, sizeof(uint64_t));
    self->sync_ns = calloc(self->rounds, sizeof(uint64_t));
    self->chain_ns = calloc(self->rounds, sizeof(uint64_t));
    return self->payload && self->wake_ns && self->sync_ns && self->chain_ns ? error : ENOMEM;
}

static void close_chain(chain *self) {
    if (self->file >= 0)
        (void)close(self->file);
    for (int i = 0; i < WAKES; i++)
        if (self->events[i] >= 0)
            (void)close(self->events[i]);
    free(self->payload);
    free(self->wake_ns);
    free(self->sync_ns);
    free(self->chain_ns);
}

stet_code bench_machine(const bench_options *options, stet_error *e) {
    chain self = {.payload_bytes = options->payload_bytes,
                  .rounds = 1 + (size_t)(options->seconds * 2 * PER_SECOND)};
    int error = open_chain(&self, options->directory);
    if (!error)
        error = run(&self);
    stet_code rc = STET_OK;
    if (error)
        rc = stet_error_set(e, STET_UNAVAILABLE, "measuring the machine in %s: %s", options->directory,
                            strerror(error));
    else
        print(&self, &options->report);
    close_chain(&self);
    return rc;
}
