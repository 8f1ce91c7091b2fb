/* The loop of an actor program. One round:
 *
 *   read the clock once -> take a completion, release -> drain the mailbox -> results of calls and work ->
 * tick -> seal
 *   -> wait for: a message, a completion, a call, a result, a signal, or the time of the next thing that is
 * due
 *
 * A quiet actor gives memory back before it waits. A full turn stops the draining; then only the completion
 * is waited for. Nothing here blocks but the wait and a small commit's sync (store.h): writes to the broker that
 * find its queue full are dropped, because whoever misses the message asks again.
 */
#include "actors/runtime/process.h"

#include "proto/base/clock.h"

#include <errno.h>
#include <malloc.h>
#include <sys/signalfd.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

enum {
    LOOP_WAIT_MAX_MS = 1000,
    LOOP_HWM_MESSAGES = 16384,
    LOOP_HWM_EVENTS = 16384,
    LOOP_LINGER_MS = 500,
    LOOP_RECONNECT_MS = 50,
    LOOP_RECONNECT_MAX_MS = 500,
    LOOP_ZMTP_HEARTBEAT_MS = 1000,
    LOOP_ZMTP_TIMEOUT_MS = 3000,
    LOOP_FRAMES = 3,
    LOOP_POLL_ITEMS = 5,
    LOOP_TRIM_MS = 2000,
    LOOP_TRIMS = 5
};

/* ---- what the core wants to happen outside ---- */

static bool send_frame(void *socket, stet_str frame, int flags) {
    int sent;
    do
        sent = zmq_send(socket, frame.size ? frame.data : "", frame.size, flags | ZMQ_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

/* Only the first frame can find the queue full: a message that has begun keeps its place. */
static bool edge_send(void *context, stet_str envelope, stet_str route, stet_str body) {
    stet_process *self = context;
    return send_frame(self->dealer, envelope, ZMQ_SNDMORE) && send_frame(self->dealer, route, ZMQ_SNDMORE) &&
           send_frame(self->dealer, body, 0);
}

static void edge_publish(void *context, stet_str topic, stet_str payload) {
    stet_process *self = context;
    if (send_frame(self->events, topic, ZMQ_SNDMORE))
        (void)send_frame(self->events, payload, 0);
}

static void remember_failure(stet_process *self, stet_call_ref ref, bool work, const stet_error *e) {
    if (self->failures_count == self->failures_capacity) {
        size_t capacity = self->failures_capacity ? 2 * self->failures_capacity : 16;
        process_failure *grown = realloc(self->failures, capacity * sizeof(*grown));
        ASSERT(grown != NULL); /* a lost result would leave its job active for ever; a restart does not */
        self->failures = grown;
        self->failures_capacity = capacity;
    }
    self->failures[self->failures_count++] = (process_failure){.ref = ref, .work = work, .error = *e};
}

static void edge_call_start(void *context, stet_call_ref ref, const stet_http_request *request) {
    stet_process *self = context;
    stet_error error = {0};
    stet_code rc = self->http ? stet_http_start(self->http, ref, request, &error)
                              : stet_error_set(&error, STET_INTERNAL, "this actor makes no calls");
    if (rc != STET_OK)
        remember_failure(self, ref, /* work= */ false, &error);
}

static void edge_call_cancel(void *context, stet_call_ref ref) {
    stet_process *self = context;
    if (self->http)
        stet_http_cancel(self->http, ref);
}

static void edge_work_start(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input) {
    stet_process *self = context;
    stet_error error = {0};
    stet_code rc = self->workers ? stet_workers_start(self->workers, ref, work, input, &error)
                                 : stet_error_set(&error, STET_INTERNAL, "this actor has no workers");
    if (rc != STET_OK)
        remember_failure(self, ref, /* work= */ true, &error);
}

static void edge_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    (void)context;
    stet_log_fields(level, event, message, fields);
}

static void call_data(void *context, const stet_http_data *data) {
    stet_core_call_data(((stet_process *)context)->core, data);
}

static void call_done(void *context, const stet_http_result *result) {
    stet_core_call_done(((stet_process *)context)->core, result);
}

/* ---- opening ---- */

static bool set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof(value)) == 0;
}

static bool set_common(void *socket, int hwm) {
    int64_t message_max = STET_BODY_BYTES_MAX + 4096;
    /* IMMEDIATE: without a broker nothing piles up; what was not said is asked for again. */
    return set_int(socket, ZMQ_SNDHWM, hwm) && set_int(socket, ZMQ_RCVHWM, hwm) &&
           set_int(socket, ZMQ_LINGER, LOOP_LINGER_MS) && set_int(socket, ZMQ_IMMEDIATE, 1) &&
           set_int(socket, ZMQ_RECONNECT_IVL, LOOP_RECONNECT_MS) &&
           set_int(socket, ZMQ_RECONNECT_IVL_MAX, LOOP_RECONNECT_MAX_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_IVL, LOOP_ZMTP_HEARTBEAT_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, LOOP_ZMTP_TIMEOUT_MS) &&
           zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &message_max, sizeof(message_max)) == 0;
}

static stet_code open_sockets(stet_process *self, stet_error *e) {
    self->context = zmq_ctx_new();
    if (self->context) {
        self->dealer = zmq_socket(self->context, ZMQ_DEALER);
        self->events = zmq_socket(self->context, ZMQ_PUB);
    }
    if (!self->dealer || !self->events || !set_common(self->dealer, LOOP_HWM_MESSAGES) ||
        !set_common(self->events, LOOP_HWM_EVENTS) || zmq_connect(self->dealer, self->paths.back) != 0 ||
        zmq_connect(self->events, self->paths.events_in) != 0)
        return stet_error_set(e, STET_INTERNAL, "cannot open sockets to %s: %s", self->paths.back,
                              zmq_strerror(zmq_errno()));
    return STET_OK;
}

static stet_code open_core(stet_process *self, stet_error *e) {
    stet_core_edge edge = {.context = self,
                           .send = edge_send,
                           .publish = edge_publish,
                           .call_start = edge_call_start,
                           .call_cancel = edge_call_cancel,
                           .work_start = edge_work_start,
                           .log = edge_log};
    int64_t wall_ms = stet_clock_wall_ms();
    stet_id_source ids = stet_id_source_of(stet_clock_seed());
    stet_core_options options = {.service = self->service,
                                 .config = self->config,
                                 .store = self->store,
                                 .seed = stet_clock_seed(),
                                 .instance = stet_id_next(&ids, wall_ms),
                                 .partition = PROCESS_PARTITION};
    return stet_core_new(&options, &edge, wall_ms, stet_clock_boot_ms(), &self->core, e);
}

static stet_code open_edges(stet_process *self, stet_error *e) {
    stet_code rc = open_sockets(self, e);
    if (rc == STET_OK && self->service->call_done) {
        stet_http_callbacks callbacks = {.context = self, .data = call_data, .done = call_done};
        rc = stet_http_new(self->config, callbacks, &self->http, e);
    }
    if (rc == STET_OK && self->service->work_done) {
        int64_t threads = stet_config_int(self->config, STET_SETTING_actor_workers);
        threads = threads < 1 ? 1 : threads > 64 ? 64 : threads;
        rc = stet_workers_new((uint32_t)threads, /* pending_max= */ 4096, &self->workers, e);
    }
    return rc;
}

static void close_edges(stet_process *self) {
    self->core = stet_core_free(self->core);
    self->http = stet_http_free(self->http);
    self->workers = stet_workers_free(self->workers);
    free(self->failures);
    self->failures = NULL;
    if (self->dealer)
        (void)zmq_close(self->dealer);
    if (self->events)
        (void)zmq_close(self->events);
    if (self->context)
        while (zmq_ctx_term(self->context) != 0 && zmq_errno() == EINTR)
            ;
}

/* ---- a round ---- */

/* Number of frames of the next message; only the first LOOP_FRAMES are kept. 0: there is none. */
static int receive(stet_process *self, zmq_msg_t frames[LOOP_FRAMES]) {
    int count = 0;
    for (;;) {
        zmq_msg_t extra, *frame = count < LOOP_FRAMES ? &frames[count] : &extra;
        int size, more;
        (void)zmq_msg_init(frame);
        do
            size = zmq_msg_recv(frame, self->dealer, ZMQ_DONTWAIT);
        while (size < 0 && zmq_errno() == EINTR);
        if (size < 0) {
            (void)zmq_msg_close(frame);
            return count; /* nothing there; a message is handed out whole, so count is 0 */
        }
        count++;
        more = zmq_msg_more(frame);
        if (frame == &extra)
            (void)zmq_msg_close(frame);
        if (!more)
            return count;
    }
}

static stet_str bytes_of(zmq_msg_t *frame) {
    return stet_str_from(zmq_msg_data(frame), zmq_msg_size(frame));
}

static void drain(stet_process *self, int64_t boot_ms) {
    zmq_msg_t frames[LOOP_FRAMES];
    while (stet_core_wants_more(self->core)) {
        int count = receive(self, frames);
        if (count == 0)
            return;
        self->message_boot_ms = boot_ms;
        if (count == LOOP_FRAMES)
            stet_core_message(self->core, bytes_of(&frames[0]), bytes_of(&frames[1]), bytes_of(&frames[2]));
        else
            stet_log(STET_WARN, "message.malformed", "a message does not have three frames, dropping it",
                     STET_LOG_I("frames", count));
        for (int i = 0; i < count && i < LOOP_FRAMES; i++)
            (void)zmq_msg_close(&frames[i]);
    }
}

static void take_failures(stet_process *self) {
    /* A result may cause the next failure: only those of before this round. */
    size_t count = self->failures_count;
    for (size_t i = 0; i < count; i++) {
        process_failure failure = self->failures[i];
        if (failure.work) {
            stet_core_work_done(self->core, failure.ref, failure.error.code, failure.error.message,
                                (stet_str){NULL, 0});
        } else {
            stet_http_result result = {.ref = failure.ref,
                                       .failure = STET_HTTP_CONNECT, /* surely not sent */
                                       .reason = failure.error.message,
                                       .retry_after_ms = -1};
            stet_core_call_done(self->core, &result);
        }
    }
    memmove(self->failures, self->failures + count,
            (self->failures_count - count) * sizeof(self->failures[0]));
    self->failures_count -= count;
}

/* Results are left where they are while the turn is full. After a stop they stay for the next life's
 * recovery. */
static void take_results(stet_process *self) {
    stet_work_result result;
    if (self->stopping || !stet_core_wants_more(self->core))
        return;
    if (self->failures_count > 0)
        take_failures(self);
    if (self->http)
        stet_http_run(self->http);
    while (self->workers && stet_core_wants_more(self->core) && stet_workers_next(self->workers, &result)) {
        stet_core_work_done(self->core, result.ref, result.code, result.error.message,
                            stet_buf_str(&result.result));
        stet_work_result_done(&result);
    }
}

static void take_signals(stet_process *self, int64_t boot_ms) {
    struct signalfd_siginfo info;
    if (read(self->signals, &info, sizeof(info)) != (ssize_t)sizeof(info) || self->stopping)
        return;
    stet_log(STET_INFO, "actor.stopping", "told to stop", STET_LOG_I("signal", (int64_t)info.ssi_signo));
    self->stopping = true;
    self->stop_boot_ms = boot_ms;
    self->message_boot_ms = boot_ms;
    stet_core_stop(self->core);
}

static long wait_ms(const stet_process *self) {
    int64_t now_ms = stet_clock_boot_ms();
    int64_t wait = stet_core_next_wake_boot_ms(self->core);
    wait = wait <= now_ms ? 0 : wait - now_ms;
    if (self->stopping && wait > PROCESS_QUIET_MS / 2)
        wait = PROCESS_QUIET_MS / 2;
    if (self->http && !self->stopping && stet_core_wants_more(self->core)) {
        int64_t calls = stet_http_timeout_ms(self->http);
        if (calls >= 0 && calls < wait)
            wait = calls;
        if (self->failures_count > 0)
            wait = 0;
    }
    return (long)(wait > LOOP_WAIT_MAX_MS ? LOOP_WAIT_MAX_MS : wait);
}

static void wait_for_input(stet_process *self) {
    zmq_pollitem_t items[LOOP_POLL_ITEMS];
    int count = 0, completions = stet_store_completion_fd(self->store);
    items[count++] = (zmq_pollitem_t){.fd = self->signals, .events = ZMQ_POLLIN};
    if (completions >= 0)
        items[count++] = (zmq_pollitem_t){.fd = completions, .events = ZMQ_POLLIN};
    if (stet_core_wants_more(self->core)) {
        items[count++] = (zmq_pollitem_t){.socket = self->dealer, .events = ZMQ_POLLIN};
        if (self->http && !self->stopping)
            items[count++] = (zmq_pollitem_t){.fd = stet_http_fd(self->http), .events = ZMQ_POLLIN};
        if (self->workers && !self->stopping)
            items[count++] = (zmq_pollitem_t){.fd = stet_workers_fd(self->workers), .events = ZMQ_POLLIN};
    }
    (void)zmq_poll(items, count, wait_ms(self)); /* EINTR: an early round, no harm */
}

static bool stopped(const stet_process *self, int64_t boot_ms) {
    if (!self->stopping)
        return false;
    if (boot_ms - self->stop_boot_ms >= PROCESS_STOP_MS)
        return true;
    return stet_core_idle(self->core) && boot_ms - self->message_boot_ms >= PROCESS_QUIET_MS;
}

/* After a burst the allocator keeps what the burst needed, much of it in the arenas of RocksDB's threads. When nothing was
 * committed for a while it goes back to the system; a few times, as compactions go on longer. */
static void give_memory_back(stet_process *self, int64_t boot_ms) {
    uint64_t number = stet_store_last_number(self->store);
    if (number != self->trim_number) {
        self->trim_number = number;
        self->trims_left = LOOP_TRIMS;
        self->trim_boot_ms = boot_ms + LOOP_TRIM_MS;
    } else if (self->trims_left > 0 && boot_ms >= self->trim_boot_ms) {
        (void)malloc_trim(0);
        self->trims_left--;
        self->trim_boot_ms = boot_ms + LOOP_TRIM_MS;
    }
}

static int loop(stet_process *self) {
    for (;;) {
        int64_t boot_ms = stet_clock_boot_ms();
        stet_core_time(self->core, stet_clock_wall_ms(), boot_ms);
        stet_core_collect(self->core);
        take_results(self); /* before messages, which may fill the turn again and again */
        drain(self, boot_ms);
        stet_core_tick(self->core);
        stet_core_commit(self->core);
        int fatal = stet_core_fatal(self->core, NULL);
        if (fatal)
            return fatal;
        take_signals(self, boot_ms);
        if (stopped(self, boot_ms))
            return STET_EXIT_OK;
        give_memory_back(self, boot_ms);
        wait_for_input(self);
    }
}

int stet_process_serve(stet_process *self) {
    stet_error error = {0};
    stet_code rc = open_edges(self, &error);
    int exit_code = STET_EXIT_INTERNAL;
    if (rc == STET_OK) {
        rc = open_core(self, &error);
        exit_code = rc == STET_INVALID ? STET_EXIT_CONFIG : STET_EXIT_STORE;
    }
    if (rc != STET_OK) {
        stet_log(STET_ERROR, "actor.refused", error.message, STET_LOG_C("code", stet_code_name(rc)),
                 STET_LOG_I("exit", exit_code));
    } else {
        stet_log(STET_INFO, "actor.started", "ready", STET_LOG_C("version", STET_SOFTWARE_VERSION),
                 STET_LOG_C("directory", self->directory),
                 STET_LOG_I("commit", (int64_t)stet_store_last_number(self->store)));
        exit_code = loop(self);
    }
    close_edges(self);
    return exit_code;
}
