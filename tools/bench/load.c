#include "tools/bench/load.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/base/clock.h"
#include "proto/base/prng.h"
#include "proto/wire/envelope.h"
#include "proto/wire/mp.h"

enum {
    LATENCIES_MAX = 400000,
    UNDER_WAY_MAX = LOAD_WINDOW_MAX + 1,
    HWM = 200000,
    WAIT_MS = 100,
    STALL_MS = 60000
};

/* How long answers took; when there are too many, the last ones. */
typedef struct latencies {
    uint64_t count;
    uint32_t us[LATENCIES_MAX];
} latencies;

/* Of the measured time. */
typedef struct slot {
    uint64_t sent;
    bool failed;
    latencies completed, refused;
} slot;

typedef struct shared {
    atomic_bool go, measuring, stop;
    slot slots[LOAD_CLIENTS_MAX];
} shared;

static const uint64_t KEYS = 10000000000; /* ten digits */

/* One client process. A request's number is in its id and, for jobs, in its session's event order. */
typedef struct client {
    const load_options *options;
    shared *shared;
    slot *slot;
    uint32_t index;
    void *context, *dealer, *events;
    char session[64];
    stet_buf envelope, body;
    size_t id_at, key_at;
    uint64_t sent, replied, done;
    uint64_t pause_until_ns; /* a refusal asked for it */
    uint64_t first_key;      /* keys are new in each run, also on one instance */
    uint64_t sent_ns[UNDER_WAY_MAX];
} client;

static size_t find_bytes(const stet_buf *b, const void *needle, size_t size) {
    const uint8_t *at = memmem(b->data, b->size, needle, size);
    ASSERT(at != NULL);
    return (size_t)(at - b->data);
}

static void make_body(client *c) {
    const load_options *o = c->options;
    CLEANUP(stet_buf_done) stet_buf noise = STET_BUF(1 << 20);
    stet_prng prng = stet_prng_of(c->index + 9);
    for (uint32_t i = 0; i < o->payload_bytes; i++)
        stet_buf_append_byte(&noise, (uint8_t)('0' + stet_prng_below(&prng, 64)));
    stet_str payload = stet_buf_str(&noise);
    if (strcmp(o->command, "drafter.submit") == 0) {
        stet_mp_map(&c->body, 3);
        stet_mp_put_cstr(&c->body, "projectId", "k000000000000");
        stet_mp_put_cstr(&c->body, "sessionId", c->session);
        stet_mp_put_str(&c->body, "instruction", payload);
    } else if (o->until_done) {
        stet_mp_map(&c->body, 3);
        stet_mp_put_cstr(&c->body, "key", "k000000000000");
        stet_mp_put_cstr(&c->body, "sessionId", c->session);
        stet_mp_put_str(&c->body, "payload", payload);
    } else {
        stet_mp_map(&c->body, 2);
        stet_mp_put_cstr(&c->body, "key", "k000000000000");
        stet_mp_put_str(&c->body, "value", payload);
    }
    c->key_at = find_bytes(&c->body, "k000000000000", 13) + 1;
}

static void make_frames(client *c) {
    stet_id_source ids = stet_id_source_of(stet_clock_seed());
    stet_id id = stet_id_next(&ids, stet_clock_wall_ms());
    stet_envelope envelope = {.kind = STET_KIND_REQUEST,
                              .id = id,
                              .command = stet_str_of(c->options->command),
                              .timeout_ms = STALL_MS};
    stet_envelope_encode(&envelope, &c->envelope);
    c->id_at = find_bytes(&c->envelope, id.bytes, sizeof id.bytes);
    make_body(c);
    ASSERT(stet_buf_ok(&c->envelope) && stet_buf_ok(&c->body));
}

static void *open_socket(client *c, int type, const char *endpoint) {
    void *socket = zmq_socket(c->context, type);
    int hwm = HWM, linger = 0;
    ASSERT(socket && zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm) == 0 &&
           zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm) == 0 &&
           zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger) == 0);
    if (type == ZMQ_SUB) {
        char topic[128];
        int size = snprintf(topic, sizeof topic, "TOOL_PROGRESS/%s", c->session);
        ASSERT(zmq_setsockopt(socket, ZMQ_SUBSCRIBE, topic, (size_t)size) == 0);
    }
    ASSERT(zmq_connect(socket, endpoint) == 0);
    return socket;
}

/* As every client makes it, from the time; but client and request's number stand where its random part would be. */
static void write_id(client *c, uint64_t number) {
    uint8_t *id = c->envelope.data + c->id_at;
    uint64_t wall_ms = (uint64_t)stet_clock_wall_ms();
    for (int i = 0; i < 6; i++)
        id[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    id[8] = (uint8_t)c->index;
    for (int i = 1; i < 8; i++)
        id[8 + i] = (uint8_t)(number >> (56 - 8 * i));
}

static uint64_t number_of(stet_id id) {
    uint64_t number = 0;
    for (int i = 1; i < 8; i++)
        number = number << 8 | id.bytes[8 + i];
    return number;
}

static void send_one(client *c) {
    uint64_t number = ++c->sent;
    write_id(c, number);
    char digits[16];
    (void)snprintf(digits, sizeof digits, "%02u%010llu", c->index % 100,
                   (unsigned long long)((c->first_key + number) % KEYS));
    memcpy(c->body.data + c->key_at, digits, 12);
    c->sent_ns[number % UNDER_WAY_MAX] = stet_clock_boot_ns();
    ASSERT(zmq_send(c->dealer, c->envelope.data, c->envelope.size, ZMQ_SNDMORE) >= 0);
    ASSERT(zmq_send(c->dealer, c->body.data, c->body.size, 0) >= 0);
}

static bool is_measuring(const client *c) {
    return atomic_load_explicit(&c->shared->measuring, memory_order_relaxed);
}

static void note(const client *c, uint64_t number, latencies *into) {
    if (!is_measuring(c))
        return;
    uint64_t us = (stet_clock_boot_ns() - c->sent_ns[number % UNDER_WAY_MAX]) / 1000;
    into->us[into->count++ % LATENCIES_MAX] = (uint32_t)us;
}

/* A reply's number is in its id, which lies in the envelope as bin 16. */
static bool take_reply(client *c) {
    zmq_msg_t envelope, body;
    (void)zmq_msg_init(&envelope);
    (void)zmq_msg_init(&body);
    bool got = zmq_msg_recv(&envelope, c->dealer, ZMQ_DONTWAIT) >= 0;
    if (got) {
        ASSERT(zmq_msg_more(&envelope) && zmq_msg_recv(&body, c->dealer, 0) >= 0);
        stet_envelope e;
        ASSERT(stet_envelope_decode(stet_str_from(zmq_msg_data(&envelope), zmq_msg_size(&envelope)), &e,
                                    NULL) == STET_OK);
        c->replied++;
        if (e.kind != STET_KIND_REPLY) {
            stet_error error;
            stet_error_decode(stet_str_from(zmq_msg_data(&body), zmq_msg_size(&body)), &error);
            c->pause_until_ns = stet_clock_boot_ns() + (uint64_t)error.retry_after_ms * 1000000;
            note(c, number_of(e.id), &c->slot->refused);
            c->done += c->options->until_done; /* no event will come */
        } else if (!c->options->until_done) {
            note(c, number_of(e.id), &c->slot->completed);
        }
    }
    (void)zmq_msg_close(&envelope);
    (void)zmq_msg_close(&body);
    return got;
}

/* Jobs of one client are started and done in the order in which they were submitted: the n-th done event is
 * the n-th job's. */
static bool take_event(client *c) {
    zmq_msg_t topic, payload;
    (void)zmq_msg_init(&topic);
    (void)zmq_msg_init(&payload);
    bool got = zmq_msg_recv(&topic, c->events, ZMQ_DONTWAIT) >= 0;
    if (got) {
        ASSERT(zmq_msg_more(&topic) && zmq_msg_recv(&payload, c->events, 0) >= 0);
        static const char done[] = "\"status\":\"done\"";
        if (memmem(zmq_msg_data(&payload), zmq_msg_size(&payload), done, sizeof done - 1))
            note(c, ++c->done, &c->slot->completed);
    }
    (void)zmq_msg_close(&topic);
    (void)zmq_msg_close(&payload);
    return got;
}

/* A refused request is not sent again: the next one takes its place, after the pause that was asked for. */
static bool may_send(const client *c, uint64_t started_ns) {
    const load_options *o = c->options;
    if (o->requests_max && c->sent >= o->requests_max)
        return false;
    uint64_t finished = o->until_done && c->done < c->replied ? c->done : c->replied;
    if (c->sent - finished >= o->window || (!o->impatient && stet_clock_boot_ns() < c->pause_until_ns))
        return false;
    return o->rate <= 0 || (double)c->sent < o->rate * (double)(stet_clock_boot_ns() - started_ns) / 1e9;
}

static void run_client(client *c) {
    const load_options *o = c->options;
    uint64_t started = stet_clock_boot_ns(), heard = started;
    while (!atomic_load_explicit(&c->shared->stop, memory_order_relaxed)) {
        while (may_send(c, started)) {
            send_one(c);
            c->slot->sent += is_measuring(c);
        }
        bool any = false;
        while (take_reply(c))
            any = true;
        while (c->events && take_event(c))
            any = true;
        uint64_t now = stet_clock_boot_ns();
        if (any) {
            heard = now;
            continue;
        }
        if (o->requests_max && c->replied >= o->requests_max && (!c->events || c->done >= o->requests_max))
            return;
        if (now - heard > (uint64_t)STALL_MS * 1000000) {
            c->slot->failed = true;
            return;
        }
        zmq_pollitem_t items[] = {{.socket = c->dealer, .events = ZMQ_POLLIN},
                                  {.socket = c->events, .events = ZMQ_POLLIN}};
        bool pausing = now < c->pause_until_ns;
        (void)zmq_poll(items, c->events ? 2 : 1, o->rate > 0 || pausing ? 1 : WAIT_MS);
    }
}

static void client_process(const load_options *options, shared *s, uint32_t index) {
    client *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    if (options->polite)
        (void)sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){.sched_priority = 0});
    c->options = options;
    c->shared = s;
    c->slot = &s->slots[index];
    c->index = index;
    c->first_key = stet_clock_seed() % KEYS;
    c->context = zmq_ctx_new();
    c->envelope = (stet_buf)STET_BUF(1024);
    c->body = (stet_buf)STET_BUF(1 << 20);
    (void)snprintf(c->session, sizeof c->session, "bench-%d-%u-", (int)getpid(), index);
    make_frames(c);
    c->dealer = open_socket(c, ZMQ_DEALER, options->instance->paths.front);
    if (options->until_done)
        c->events = open_socket(c, ZMQ_SUB, options->instance->paths.events);
    while (!atomic_load(&s->go))
        (void)usleep(1000);
    run_client(c);
    _exit(0);
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_ms(const uint32_t *sorted_us, size_t count, size_t per_mille) {
    size_t index = count * per_mille / 1000;
    return sorted_us[index] / 1e3;
}

typedef latencies *pick_fn(slot *one);

static latencies *pick_completed(slot *one) {
    return &one->completed;
}

static latencies *pick_refused(slot *one) {
    return &one->refused;
}

/* Of all clients, sorted, to be freed; NULL: no memory. */
static uint32_t *sorted(shared *s, uint32_t clients, pick_fn *pick, size_t *ret_count) {
    ASSERT(clients > 0);
    uint32_t *all = malloc((size_t)clients * LATENCIES_MAX * sizeof *all);
    *ret_count = 0;
    for (uint32_t i = 0; all && i < clients; i++) {
        const latencies *mine = pick(&s->slots[i]);
        size_t kept = mine->count < LATENCIES_MAX ? mine->count : LATENCIES_MAX;
        memcpy(all + *ret_count, mine->us, kept * sizeof *all);
        *ret_count += kept;
    }
    if (all)
        qsort(all, *ret_count, sizeof *all, compare_u32);
    return all;
}

static stet_code add_up(const load_options *options, shared *s, load_result *ret, stet_error *e) {
    size_t count, refused_count;
    uint32_t *completed = sorted(s, options->clients, pick_completed, &count);
    uint32_t *refused = sorted(s, options->clients, pick_refused, &refused_count);
    bool failed = false, starved = !completed || !refused;
    for (uint32_t i = 0; i < options->clients; i++) {
        const slot *one = &s->slots[i];
        ret->sent += one->sent;
        ret->completed += one->completed.count;
        ret->refused += one->refused.count;
        failed |= one->failed;
    }
    if (!starved && count) {
        ret->p50_ms = quantile_ms(completed, count, 500);
        ret->p99_ms = quantile_ms(completed, count, 990);
        ret->p999_ms = quantile_ms(completed, count, 999);
    }
    if (!starved && refused_count)
        ret->refused_p99_ms = quantile_ms(refused, refused_count, 990);
    free(completed);
    free(refused);
    if (starved)
        return stet_error_set(e, STET_INTERNAL, "out of memory");
    return failed ? stet_error_set(e, STET_TIMEOUT, "%s: nothing was answered for %d s", options->command,
                                   STALL_MS / 1000)
                  : STET_OK;
}

/* sign -1 at the beginning, 1 at the end: the difference is left. */
static void count_cpu(const bench_instance *instance, load_result *ret, double sign) {
    ret->broker_cpu_seconds += sign * bench_cpu_seconds(instance->broker);
    for (int i = 0; i < instance->actors_count; i++)
        ret->actors_cpu_seconds += sign * bench_cpu_seconds(instance->actors[i]);
}

static void finish(const load_options *options, uint64_t began_ns, load_result *ret) {
    ret->seconds = (double)(stet_clock_boot_ns() - began_ns) / 1e9;
    count_cpu(options->instance, ret, 1);
}

stet_code load_run(const load_options *options, load_result *ret, stet_error *e) {
    ASSERT(options->clients <= LOAD_CLIENTS_MAX && options->window <= LOAD_WINDOW_MAX);
    shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return stet_error_set(e, STET_INTERNAL, "out of memory");
    pid_t pids[LOAD_CLIENTS_MAX];
    for (uint32_t i = 0; i < options->clients; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            client_process(options, s, i);
    }
    (void)usleep(300000); /* every socket is connected and subscribed before the first request */
    atomic_store(&s->go, true);
    bool by_count = options->requests_max > 0;
    if (!by_count)
        (void)usleep((useconds_t)(options->warmup_seconds * 1e6));
    *ret = (load_result){.seconds = 0};
    count_cpu(options->instance, ret, -1);
    uint64_t began = stet_clock_boot_ns();
    atomic_store(&s->measuring, true);
    if (!by_count) {
        (void)usleep((useconds_t)(options->seconds * 1e6));
        atomic_store(&s->measuring, false);
        finish(options, began, ret);
    }
    atomic_store(&s->stop, !by_count);
    for (uint32_t i = 0; i < options->clients; i++)
        (void)waitpid(pids[i], NULL, 0);
    if (by_count)
        finish(options, began, ret);
    stet_code rc = add_up(options, s, ret, e);
    (void)munmap(s, sizeof *s);
    return rc;
}
