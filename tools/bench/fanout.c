/* fanout - events a second from one publisher through the broker to N subscribers, without loss.
 *
 * A PUB socket drops when a subscriber's queue is full, so the publisher stays at most AHEAD events before
 * the slowest subscriber; what is measured is the rate at which all of them get every event. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/base/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/instance.h"

enum { AHEAD = 20000, EVENT_BYTES = 200, HWM = 100000, SUBSCRIBERS_MAX = 100, CONNECT_US = 500000 };

typedef struct shared {
    atomic_bool stop;
    _Atomic uint64_t slowest;   /* events that every subscriber has got */
    _Atomic uint64_t delivered; /* in all */
    _Atomic uint64_t lost;
} shared;

static void *open_socket(void *context, int type, const char *endpoint) {
    void *socket = zmq_socket(context, type);
    int hwm = HWM, linger = 0;
    ASSERT(socket && zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm) == 0 &&
           zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm) == 0 &&
           zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger) == 0);
    if (type == ZMQ_SUB)
        ASSERT(zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0) == 0);
    ASSERT(zmq_connect(socket, endpoint) == 0);
    return socket;
}

/* The event's number is in its payload; a number that is not the next means loss. */
static uint64_t take_events(void *socket, uint64_t *next, shared *s) {
    uint64_t got = 0;
    char topic[64], payload[EVENT_BYTES + 64];
    while (zmq_recv(socket, topic, sizeof topic, ZMQ_DONTWAIT) >= 0) {
        int size = zmq_recv(socket, payload, sizeof payload - 1, 0);
        payload[size > 0 ? size : 0] = 0;
        const char *seq = strstr(payload, "\"seq\":");
        uint64_t number = seq ? strtoull(seq + 6, NULL, 10) : 0;
        if (number > *next)
            atomic_fetch_add(&s->lost, number - *next);
        *next = number + 1;
        got++;
    }
    return got;
}

static void subscriber_process(const stet_paths *paths, uint32_t count, shared *s) {
    void *context = zmq_ctx_new(), *sockets[SUBSCRIBERS_MAX];
    uint64_t next[SUBSCRIBERS_MAX];
    zmq_pollitem_t items[SUBSCRIBERS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        sockets[i] = open_socket(context, ZMQ_SUB, paths->events);
        items[i] = (zmq_pollitem_t){.socket = sockets[i], .events = ZMQ_POLLIN};
        next[i] = 1;
    }
    while (!atomic_load(&s->stop)) {
        (void)zmq_poll(items, (int)count, 50);
        uint64_t delivered = 0, slowest = UINT64_MAX;
        for (uint32_t i = 0; i < count; i++) {
            delivered += take_events(sockets[i], &next[i], s);
            slowest = next[i] - 1 < slowest ? next[i] - 1 : slowest;
        }
        atomic_fetch_add(&s->delivered, delivered);
        atomic_store(&s->slowest, slowest);
    }
    _exit(0);
}

static uint64_t publish_for(void *socket, shared *s, double seconds) {
    uint64_t number = 0, until = stet_clock_boot_ns() + (uint64_t)(seconds * 1e9);
    char payload[EVENT_BYTES + 64];
    while (stet_clock_boot_ns() < until) {
        if (number - atomic_load(&s->slowest) > AHEAD) {
            (void)usleep(50);
            continue;
        }
        int size =
            snprintf(payload, sizeof payload,
                     "TOOL_PROGRESS::{\"seq\":%llu,\"sessionId\":\"fan\",\"actor\":\"probe\",\"fill\":\"",
                     (unsigned long long)++number);
        memset(payload + size, 'x', (size_t)(EVENT_BYTES - size));
        memcpy(payload + EVENT_BYTES - 2, "\"}", 2);
        ASSERT(zmq_send(socket, "TOOL_PROGRESS/fan", 17, ZMQ_SNDMORE) >= 0 &&
               zmq_send(socket, payload, EVENT_BYTES, 0) >= 0);
    }
    return number;
}

static stet_code measure(const bench_options *options, uint32_t count, stet_error *e) {
    bench_instance instance;
    stet_code rc = bench_instance_make(&instance, options->directory, e);
    if (rc == STET_OK)
        rc = bench_instance_start_broker(&instance, e);
    shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (rc == STET_OK && s == MAP_FAILED)
        rc = stet_error_set(e, STET_INTERNAL, "out of memory");
    if (rc == STET_OK) {
        pid_t pid = fork();
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            subscriber_process(&instance.paths, count, s);
        }
        void *context = zmq_ctx_new();
        void *publisher = open_socket(context, ZMQ_PUB, instance.paths.events_in);
        (void)usleep(CONNECT_US);
        uint64_t began = stet_clock_boot_ns();
        uint64_t published = publish_for(publisher, s, options->seconds);
        double seconds = (double)(stet_clock_boot_ns() - began) / 1e9;
        bench_report_figure(
            &options->report,
            "{\"figure\":\"fanout\",\"subscribers\":%u,\"eventBytes\":%d,\"publishedPerSecond\":%.0f,"
            "\"deliveredPerSecond\":%.0f,\"lost\":%llu}",
            count, EVENT_BYTES, (double)published / seconds, (double)atomic_load(&s->delivered) / seconds,
            (unsigned long long)atomic_load(&s->lost));
        atomic_store(&s->stop, true);
        (void)waitpid(pid, NULL, 0);
        (void)zmq_close(publisher);
        (void)zmq_ctx_term(context);
    }
    bench_instance_end(&instance);
    return rc;
}

stet_code bench_fanout(const bench_options *options, stet_error *e) {
    static const uint32_t counts[] = {1, 10, SUBSCRIBERS_MAX};
    stet_code rc = STET_OK;
    for (size_t i = 0; i < COUNT_OF(counts) && rc == STET_OK; i++)
        rc = measure(options, counts[i], e);
    return rc;
}
