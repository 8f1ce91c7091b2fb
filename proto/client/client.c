#include "proto/client/client_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/paths.h"

/* At most so many answers are taken from the socket before due resends are looked at again. */
enum { DRAIN_MAX = 1024, HWM = 70000, RECONNECT_MS = 20, RECONNECT_MAX_MS = 500, HEARTBEAT_MS = 1000 };

int client_fail(stet_client *client, stet_code code, const char *format, ...) {
    char text[STET_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    stet_error_set(&client->error, code, "%s", text);
    return -1;
}

/* ---- sockets ---- */

static bool set_option(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

void *client_socket(stet_client *client, int type) {
    void *socket = zmq_socket(client->context, type);
    int64_t size_max = STET_BODY_BYTES_MAX + STET_ENVELOPE_BYTES_MAX;
    if (socket && set_option(socket, ZMQ_LINGER, 0) && set_option(socket, ZMQ_SNDHWM, HWM) &&
        set_option(socket, ZMQ_RCVHWM, HWM) && set_option(socket, ZMQ_RECONNECT_IVL, RECONNECT_MS) &&
        set_option(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
        set_option(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) &&
        set_option(socket, ZMQ_HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS) &&
        zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) == 0)
        return socket;
    client_fail(client, STET_INTERNAL, "cannot make a socket: %s", zmq_strerror(zmq_errno()));
    if (socket)
        (void)zmq_close(socket);
    return NULL;
}

int client_connect(stet_client *client, void *socket, const char *endpoints) {
    char list[CLIENT_ENDPOINTS_MAX];
    if (client_key_show(client, socket, endpoints) != 0)
        return -1;
    (void)snprintf(list, sizeof list, "%s", endpoints);
    char *rest = list;
    for (char *endpoint; (endpoint = strsep(&rest, ",")) != NULL;) {
        endpoint += strspn(endpoint, " ");
        if (strncmp(endpoint, "tcp://", 6) != 0 && strncmp(endpoint, "ipc://", 6) != 0)
            return client_fail(client, STET_INVALID, "endpoint \"%s\": write tcp://HOST:PORT or ipc://PATH",
                               endpoint);
        if (zmq_connect(socket, endpoint) != 0)
            return client_fail(client, STET_INVALID, "endpoint \"%s\": %s", endpoint,
                               zmq_strerror(zmq_errno()));
    }
    return 0;
}

void *client_monitor(stet_client *client, void *socket) {
    char address[64];
    (void)snprintf(address, sizeof address, "inproc://monitor-%p", socket);
    void *monitor = NULL;
    if (zmq_socket_monitor(socket, address,
                           ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                               ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) == 0) {
        monitor = zmq_socket(client->context, ZMQ_PAIR);
        if (monitor && set_option(monitor, ZMQ_LINGER, 0) && zmq_connect(monitor, address) == 0)
            return monitor;
    }
    client_fail(client, STET_INTERNAL, "cannot watch a socket: %s", zmq_strerror(zmq_errno()));
    if (monitor)
        (void)zmq_close(monitor);
    return NULL;
}

bool client_receive(void *socket, zmq_msg_t *frames, int frames_max, int *ret_count) {
    int count = 0;
    for (bool more = true; more; count++) {
        zmq_msg_t spare;
        zmq_msg_t *frame = count < frames_max ? &frames[count] : &spare;
        (void)zmq_msg_init(frame);
        int rc;
        do
            rc = zmq_msg_recv(frame, socket, ZMQ_DONTWAIT);
        while (rc < 0 && zmq_errno() == EINTR);
        if (rc < 0) {
            (void)zmq_msg_close(frame);
            break;
        }
        more = zmq_msg_more(frame) != 0;
        if (frame == &spare)
            (void)zmq_msg_close(frame);
    }
    *ret_count = count;
    if (count > frames_max)
        for (int i = 0; i < frames_max; i++)
            (void)zmq_msg_close(&frames[i]);
    return count > 0 && count <= frames_max;
}

/* True when it tells of a connection. */
static bool note_event(stet_client *client, stet_str event) {
    uint16_t kind = 0;
    if (event.size < sizeof kind)
        return false;
    memcpy(&kind, event.data, sizeof kind);
    switch (kind) {
    case ZMQ_EVENT_CONNECTED:
        return true;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        client->handshake = NULL;
        client->key_refused = false;
        return false;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        client->handshake = "the broker refused the key: it does not know it, or not for this endpoint";
        client->key_refused = true;
        return false;
    default:
        client->handshake =
            "the handshake broke off: is a key needed there, and is the broker's public key right?";
        return false;
    }
}

void client_monitor_close(void *socket, void *monitor) {
    if (!monitor)
        return;
    (void)zmq_socket_monitor(socket, NULL, 0);
    (void)zmq_close(monitor);
}

bool client_monitor_connected(stet_client *client, void *monitor) {
    bool connected = false;
    for (;;) {
        zmq_msg_t frames[2];
        int count = 0;
        if (!client_receive(monitor, frames, 2, &count)) {
            if (count == 0)
                return connected;
            continue;
        }
        connected |= note_event(client, client_frame(&frames[0]));
        for (int i = 0; i < count; i++)
            (void)zmq_msg_close(&frames[i]);
    }
}

static bool edge_send(void *context, stet_str envelope, stet_str body) {
    stet_client *self = context;
    int rc;
    do
        rc = zmq_send(self->dealer, envelope.data, envelope.size, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    while (rc < 0 && zmq_errno() == EINTR);
    if (rc < 0)
        return false;
    /* The first frame has its place in the queue, so the rest of the message cannot be refused. */
    do
        rc = zmq_send(self->dealer, body.data, body.size, ZMQ_DONTWAIT);
    while (rc < 0 && zmq_errno() == EINTR);
    return rc >= 0;
}

void client_service(stet_client *self) {
    int64_t now = stet_clock_boot_ms();
    if (client_monitor_connected(self, self->monitor)) {
        if (self->connected_before)
            client_core_reconnected(self->core, now);
        self->connected_before = true;
    }
    for (int i = 0; i < DRAIN_MAX; i++) {
        zmq_msg_t frames[2];
        int count = 0;
        bool whole = client_receive(self->dealer, frames, 2, &count);
        if (count == 0)
            break;
        if (!whole)
            continue;
        if (count == 2)
            self->handed_out +=
                client_core_receive(self->core, client_frame(&frames[0]), client_frame(&frames[1]), now);
        for (int k = 0; k < count; k++)
            (void)zmq_msg_close(&frames[k]);
    }
    self->handed_out += client_core_tick(self->core, stet_clock_boot_ms());
}

long client_poll_ms(const stet_client *self, int wait_ms) {
    int64_t wake = client_core_next_wake(self->core);
    int64_t left = wake == INT64_MAX ? INT64_MAX : wake - stet_clock_boot_ms();
    if (left < 0)
        left = 0;
    if (wait_ms >= 0 && wait_ms < left)
        return wait_ms;
    return left == INT64_MAX ? -1 : (long)left;
}

/* ---- life ---- */

static int open_sockets(stet_client *self, const char *endpoints) {
    self->context = zmq_ctx_new();
    if (!self->context)
        return client_fail(self, STET_INTERNAL, "cannot start ZeroMQ: %s", zmq_strerror(zmq_errno()));
    self->dealer = client_socket(self, ZMQ_DEALER);
    if (!self->dealer)
        return -1;
    self->monitor = client_monitor(self, self->dealer);
    if (!self->monitor)
        return -1;
    return client_connect(self, self->dealer, endpoints);
}

static int open_client(stet_client *self, const stet_client_options *options) {
    stet_client_options defaults = {.endpoints = NULL};
    if (!options)
        options = &defaults;
    self->timeout_ms = options->timeout_ms ? options->timeout_ms : CLIENT_TIMEOUT_DEFAULT_MS;
    stet_paths paths = {.front = ""};
    if ((!options->endpoints || !options->events) &&
        stet_paths_of(options->data, &paths, &self->error) != STET_OK)
        return -1;
    const char *events = options->events ? options->events : paths.events;
    const char *endpoints = options->endpoints ? options->endpoints : paths.front;
    if (strlen(events) >= sizeof self->events || strlen(endpoints) >= CLIENT_ENDPOINTS_MAX)
        return client_fail(self, STET_INVALID, "the list of endpoints has more than %d bytes",
                           CLIENT_ENDPOINTS_MAX - 1);
    (void)snprintf(self->events, sizeof self->events, "%s", events);
    if (client_key_load(self, options, endpoints, events) != 0)
        return -1;

    uint64_t seed = stet_clock_seed();
    self->ids = stet_id_source_of(seed);
    client_edge edge = {.context = self, .send = edge_send};
    self->core = client_core_new(&edge, seed);
    if (!self->core)
        return client_fail(self, STET_INTERNAL, "out of memory");
    return open_sockets(self, endpoints);
}

stet_client *stet_client_new(const stet_client_options *options, char *error, size_t error_size) {
    stet_client *self = calloc(1, sizeof *self);
    if (self) {
        self->answer_body = (stet_buf)STET_BUF(STET_BODY_BYTES_MAX);
        if (open_client(self, options) == 0)
            return self;
    }
    if (error && error_size)
        (void)snprintf(error, error_size, "%s", self ? self->error.message : "out of memory");
    stet_client_free(self);
    return NULL;
}

void stet_client_free(stet_client *self) {
    if (!self)
        return;
    self->core = client_core_free(self->core);
    client_monitor_close(self->dealer, self->monitor);
    if (self->dealer)
        (void)zmq_close(self->dealer);
    if (self->context)
        while (zmq_ctx_term(self->context) != 0 && zmq_errno() == EINTR) {
        }
    stet_buf_done(&self->answer_body);
    stet_key_pair_done(&self->key);
    free(self);
}

const char *stet_client_error(const stet_client *self) {
    return self->error.message;
}

const char *stet_client_last_id(const stet_client *self) {
    return self->last_id;
}

size_t stet_client_pending(const stet_client *self) {
    return client_core_pending(self->core);
}

int stet_client_fd(stet_client *self) {
    int fd = -1;
    size_t size = sizeof fd;
    return zmq_getsockopt(self->dealer, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}

const char *stet_version(void) {
    return STET_SOFTWARE_VERSION;
}

/* ---- asynchronous requests ---- */

typedef struct callback {
    stet_client_done_fn *done;
    void *context;
} callback;

static void call_back(void *context, stet_id id, const client_result *result) {
    callback *cb = context;
    char id_text[STET_ID_TEXT_SIZE];
    stet_id_text(id, id_text);
    stet_answer answer = {
        .code = result->refused ? stet_code_name(result->error.code) : NULL,
        .message = result->error.message,
        .field = result->error.field,
        .body = (const uint8_t *)result->body.data,
        .body_size = result->body.size,
        .sends = result->sends,
    };
    cb->done(cb->context, id_text, result->answered ? &answer : NULL);
    free(cb);
}

/* The id to send with: the caller's, or a new one; noted as the last. */
static int choose_id(stet_client *self, const char *id_text, stet_id *ret_id) {
    if (!id_text)
        *ret_id = stet_id_next(&self->ids, stet_clock_wall_ms());
    else if (!stet_id_parse(stet_str_of(id_text), ret_id))
        return client_fail(self, STET_INVALID, "id \"%.64s\" is not a UUID", id_text);
    stet_id_text(*ret_id, self->last_id);
    return 0;
}

static int send_request(stet_client *self, client_request *request, const char *id_text) {
    self->error = (stet_error){.code = STET_OK};
    if (choose_id(self, id_text, &request->id) != 0)
        return -1;
    if (request->timeout_ms == 0)
        request->timeout_ms = self->timeout_ms;
    return client_core_send(self->core, request, stet_clock_boot_ms(), &self->error) == STET_OK ? 0 : -1;
}

int stet_client_send(stet_client *self, const char *command, const uint8_t *body, size_t body_size,
                     const char *id_text, uint32_t timeout_ms, stet_client_done_fn *done, void *context) {
    callback *cb = malloc(sizeof *cb);
    if (!cb)
        return client_fail(self, STET_INTERNAL, "out of memory");
    *cb = (callback){.done = done, .context = context};
    client_request request = {
        .command = stet_str_of(command),
        .body = stet_str_from(body, body_size),
        .timeout_ms = timeout_ms,
        .done = call_back,
        .context = cb,
    };
    if (send_request(self, &request, id_text) == 0)
        return 0;
    free(cb);
    return -1;
}

int stet_client_poll(stet_client *self, int wait_ms) {
    self->handed_out = 0;
    client_service(self);
    if (self->handed_out == 0 && wait_ms != 0) {
        zmq_pollitem_t items[] = {{.socket = self->dealer, .events = ZMQ_POLLIN},
                                  {.socket = self->monitor, .events = ZMQ_POLLIN}};
        if (zmq_poll(items, COUNT_OF(items), client_poll_ms(self, wait_ms)) < 0)
            return client_fail(self, STET_INTERNAL, "waiting was interrupted: %s", zmq_strerror(zmq_errno()));
        client_service(self);
    }
    return (int)self->handed_out;
}

/* ---- blocking requests ---- */

typedef struct waiter {
    stet_client *client; /* NULL: nobody waits any more */
    bool over;
    bool answered;
    bool refused;
    uint32_t sends;
} waiter;

static void stop_waiting(void *context, stet_id id, const client_result *result) {
    (void)id;
    waiter *w = context;
    stet_client *self = w->client;
    if (self == NULL) {
        free(w);
        return;
    }
    w->over = true;
    w->answered = result->answered;
    w->refused = result->refused;
    w->sends = result->sends;
    self->answer_error = result->error;
    stet_buf_clear(&self->answer_body);
    stet_buf_append_str(&self->answer_body, result->body);
}

/* A signal does not end the wait: the core's deadline does, or a broker that does not want us. */
static waiter wait_for_answer(stet_client *self, waiter *w) {
    while (!w->over && !self->key_refused)
        (void)stet_client_poll(self, -1);
    waiter result = *w;
    if (w->over)
        free(w);
    else
        w->client = NULL;
    return result;
}

int stet_client_request(stet_client *self, const char *command, const uint8_t *body, size_t body_size,
                        const char *id_text, uint32_t timeout_ms, stet_answer *answer) {
    waiter *waiting = calloc(1, sizeof *waiting);
    if (!waiting)
        return client_fail(self, STET_INTERNAL, "out of memory") - 1;
    waiting->client = self;
    client_request request = {
        .command = stet_str_of(command),
        .body = stet_str_from(body, body_size),
        .timeout_ms = timeout_ms,
        .done = stop_waiting,
        .context = waiting,
    };
    if (send_request(self, &request, id_text) != 0) {
        free(waiting);
        return -2;
    }
    waiter w = wait_for_answer(self, waiting);
    if (!w.answered && self->handshake != NULL)
        return client_fail(self, STET_UNAUTHORIZED, "no answer: %s", self->handshake);
    if (!w.answered && self->answer_error.code != STET_OK)
        return client_fail(self, STET_TIMEOUT, "no answer in time; the last word was %s: %s",
                           stet_code_name(self->answer_error.code), self->answer_error.message);
    if (!w.answered)
        return client_fail(self, STET_TIMEOUT, "no answer in time: is the instance up? (stet status)");
    if (!stet_buf_ok(&self->answer_body))
        return client_fail(self, STET_INTERNAL, "out of memory for the answer");
    *answer = (stet_answer){
        .code = w.refused ? stet_code_name(self->answer_error.code) : NULL,
        .message = self->answer_error.message,
        .field = self->answer_error.field,
        .body = self->answer_body.data,
        .body_size = self->answer_body.size,
        .sends = w.sends,
    };
    self->error = (stet_error){.code = STET_OK};
    return 0;
}
