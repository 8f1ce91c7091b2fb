#include "broker/sockets_gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "proto/base/log.h"

enum { WATCHES_MAX = 2 * BROKER_DOORS_COUNT, SELF_TEST_MS = 10000, DRAIN_MAX = 256, ADDRESS_MAX = 128 };
#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define HANDSHAKE_FAILURES                                                                                   \
    (ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |                            \
     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_ACCEPT_FAILED)

typedef struct watch {
    const char *name;
    char address[64];
    void *pair; /* the handler's */
} watch;

struct broker_gate {
    char directory[STET_PATH_MAX];
    stet_key_pair pair;
    stet_keys *keys; /* changed by the loop alone, under the lock; the loop reads without */
    pthread_mutex_t lock;
    void *context, *handler; /* handler: the REP socket, used by the thread after its start */
    pthread_t thread;
    bool running;
    int stop_fd, ended_fd, changes_fd;
    watch watches[WATCHES_MAX];
    uint32_t watches_count;
    atomic_uint_fast64_t refused, failed;
};

/* ---- the handler ---- */

static int receive(zmq_msg_t *msg, void *socket) {
    int rc;
    do
        rc = zmq_msg_recv(msg, socket, ZMQ_DONTWAIT);
    while (rc < 0 && zmq_errno() == EINTR);
    return rc;
}

/* The whole message; keeps the first frames_max frames. How many came; 0: none. */
static uint32_t receive_all(void *socket, zmq_msg_t *frames, uint32_t frames_max) {
    uint32_t count = 0;
    for (bool more = true; more; count++) {
        zmq_msg_t spare;
        zmq_msg_t *frame = count < frames_max ? &frames[count] : &spare;
        (void)zmq_msg_init(frame);
        if (receive(frame, socket) < 0) {
            (void)zmq_msg_close(frame);
            break;
        }
        more = zmq_msg_more(frame) != 0;
        if (frame == &spare)
            (void)zmq_msg_close(frame);
    }
    return count;
}

static void close_all(zmq_msg_t *frames, uint32_t count, uint32_t frames_max) {
    for (uint32_t i = 0; i < count && i < frames_max; i++)
        (void)zmq_msg_close(&frames[i]);
}

static bool send_text(void *socket, stet_str text, bool more) {
    int rc;
    do
        rc = zmq_send(socket, text.data, text.size, more ? ZMQ_SNDMORE : 0);
    while (rc < 0 && zmq_errno() == EINTR);
    return rc >= 0;
}

static void log_refused(const broker_zap_answer *answer, const stet_str *frames, uint32_t count) {
    stet_str none = {NULL, 0};
    char key[STET_KEY_TEXT_SIZE] = "";
    if (count == BROKER_ZAP_FRAMES && frames[6].size == STET_KEY_BYTES)
        (void)zmq_z85_encode(key, (const uint8_t *)frames[6].data, STET_KEY_BYTES);
    stet_log(STET_WARN, "handshake.refused", answer->text,
             STET_LOG_C("socket", answer->door < BROKER_DOORS_COUNT ? broker_door_name(answer->door) : ""),
             STET_LOG_S("peer", count > 3 ? frames[3] : none), STET_LOG_C("public_key", key));
}

/* Reads one request and answers it; false when the socket is of no use any more. */
static bool answer_one(broker_gate *self, bool *ret_any) {
    zmq_msg_t messages[BROKER_ZAP_FRAMES];
    stet_str frames[BROKER_ZAP_FRAMES];
    uint32_t count = receive_all(self->handler, messages, BROKER_ZAP_FRAMES);
    *ret_any = count > 0;
    if (count == 0)
        return zmq_errno() == EAGAIN;
    for (uint32_t i = 0; i < count && i < BROKER_ZAP_FRAMES; i++)
        frames[i] = stet_str_from(zmq_msg_data(&messages[i]), zmq_msg_size(&messages[i]));
    char user[STET_KEY_TEXT_SIZE] = "";
    (void)pthread_mutex_lock(&self->lock);
    broker_zap_answer answer = broker_zap_decide(self->keys, frames, count);
    if (answer.key != NULL)
        memcpy(user, answer.key->public_key, sizeof user);
    (void)pthread_mutex_unlock(&self->lock);
    bool self_test = count > 3 && stet_str_is(frames[3], "self-test");
    if (answer.key == NULL && !self_test) {
        atomic_fetch_add(&self->refused, 1);
        log_refused(&answer, frames, count);
    }
    void *to = self->handler;
    bool sent =
        send_text(to, STET_STR("1.0"), true) && send_text(to, count > 1 ? frames[1] : STET_STR(""), true) &&
        send_text(to, stet_str_of(answer.status), true) && send_text(to, stet_str_of(answer.text), true) &&
        send_text(to, stet_str_of(user), true) && send_text(to, STET_STR(""), false);
    close_all(messages, count, BROKER_ZAP_FRAMES);
    return sent;
}

/* A refused key has been counted and logged where it was refused. */
static void note(broker_gate *self, const watch *w, stet_str event, stet_str address) {
    uint16_t kind = 0;
    uint32_t value = 0;
    if (event.size != sizeof kind + sizeof value)
        return;
    memcpy(&kind, event.data, sizeof kind);
    memcpy(&value, event.data + sizeof kind, sizeof value);
    if (kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        return;
    atomic_fetch_add(&self->failed, 1);
    const char *what = kind == ZMQ_EVENT_ACCEPT_FAILED               ? "a connection could not be accepted"
                       : kind == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL ? "a peer did not speak as it must here"
                                                                     : "a peer broke off its handshake";
    stet_log(STET_WARN, "handshake.failed", what, STET_LOG_C("socket", w->name),
             STET_LOG_S("endpoint", address), STET_LOG_I("detail", (int64_t)value));
}

static void drain_watch(broker_gate *self, const watch *w) {
    for (uint32_t i = 0; i < DRAIN_MAX; i++) {
        zmq_msg_t frames[2];
        uint32_t count = receive_all(w->pair, frames, COUNT_OF(frames));
        if (count == 0)
            return;
        if (count == 2) {
            size_t size = zmq_msg_size(&frames[1]);
            note(self, w, stet_str_from(zmq_msg_data(&frames[0]), zmq_msg_size(&frames[0])),
                 stet_str_from(zmq_msg_data(&frames[1]), size < ADDRESS_MAX ? size : ADDRESS_MAX));
        }
        close_all(frames, count, COUNT_OF(frames));
    }
}

static bool answer_waiting(broker_gate *self) {
    bool any = true;
    for (uint32_t i = 0; i < DRAIN_MAX && any; i++)
        if (!answer_one(self, &any))
            return false;
    return true;
}

static void serve(broker_gate *self) {
    zmq_pollitem_t items[2 + WATCHES_MAX] = {{.fd = self->stop_fd, .events = ZMQ_POLLIN},
                                             {.socket = self->handler, .events = ZMQ_POLLIN}};
    for (uint32_t i = 0; i < self->watches_count; i++)
        items[2 + i] = (zmq_pollitem_t){.socket = self->watches[i].pair, .events = ZMQ_POLLIN};
    for (;;) {
        int rc = zmq_poll(items, (int)(2 + self->watches_count), -1);
        if (rc < 0 && zmq_errno() == EINTR)
            continue;
        if (rc < 0 || items[0].revents != 0)
            return;
        if (items[1].revents != 0 && !answer_waiting(self))
            return;
        for (uint32_t i = 0; i < self->watches_count; i++)
            if (items[2 + i].revents != 0)
                drain_watch(self, &self->watches[i]);
    }
}

static void close_sockets(broker_gate *self) {
    for (uint32_t i = 0; i < self->watches_count; i++) {
        if (self->watches[i].pair != NULL)
            (void)zmq_close(self->watches[i].pair);
        self->watches[i].pair = NULL;
    }
    if (self->handler != NULL)
        (void)zmq_close(self->handler);
    self->handler = NULL;
}

static void tell(int fd) {
    uint64_t one = 1;
    ssize_t put;
    do
        put = write(fd, &one, sizeof one);
    while (put < 0 && errno == EINTR);
}

static void *run_handler(void *context) {
    broker_gate *self = context;
    serve(self);
    close_sockets(self);
    tell(self->ended_fd);
    return NULL;
}

/* ---- start and stop ---- */

static stet_code load_all(broker_gate *self, stet_error *e) {
    char path[STET_PATH_MAX];
    uint32_t bad = 0;
    stet_code rc = stet_keys_server_path(self->directory, path, e);
    if (rc == STET_OK)
        rc = stet_key_pair_read(path, &self->pair, e);
    /* Watched before it is read: no change goes unseen. */
    if (rc == STET_OK && (self->changes_fd < 0 ||
                          inotify_add_watch(self->changes_fd, self->directory,
                                            IN_CLOSE_WRITE | IN_CREATE | IN_MOVE | IN_DELETE | IN_ATTRIB |
                                                IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0))
        rc = stet_error_set(e, STET_UNAVAILABLE, "cannot watch %s: %s", self->directory, strerror(errno));
    if (rc == STET_OK)
        rc = stet_keys_load(self->directory, &self->keys, &bad, e);
    return rc == STET_OK && bad > 0 ? STET_INVALID : rc;
}

stet_code broker_gate_new(const char *directory, broker_gate **ret, stet_error *e) {
    broker_gate *self = calloc(1, sizeof *self);
    if (self == NULL)
        return stet_error_set(e, STET_INTERNAL, "out of memory");
    (void)snprintf(self->directory, sizeof self->directory, "%s", directory);
    (void)pthread_mutex_init(&self->lock, NULL);
    self->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->changes_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    stet_code rc = self->stop_fd < 0 || self->ended_fd < 0
                       ? stet_error_set(e, STET_INTERNAL, "no file descriptors: %s", strerror(errno))
                       : load_all(self, e);
    if (rc != STET_OK) {
        (void)broker_gate_free(self);
        return rc;
    }
    *ret = self;
    return STET_OK;
}

bool broker_gate_guard(const broker_gate *self, void *socket, broker_door door) {
    const char *domain = broker_door_name(door);
    int server = 1;
    return zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) == 0 &&
           zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &server, sizeof server) == 0 &&
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, self->pair.secret_key, STET_KEY_TEXT_SIZE) == 0;
}

bool broker_gate_watch(broker_gate *self, void *socket, const char *name) {
    ASSERT(self->watches_count < WATCHES_MAX && !self->running);
    watch *w = &self->watches[self->watches_count];
    w->name = name;
    (void)snprintf(w->address, sizeof w->address, "inproc://handshakes-%u", self->watches_count);
    if (zmq_socket_monitor(socket, w->address, HANDSHAKE_FAILURES) != 0)
        return false;
    self->watches_count++;
    return true;
}

static bool open_sockets(broker_gate *self, void *context) {
    int linger = 0;
    self->handler = zmq_socket(context, ZMQ_REP);
    if (self->handler == NULL || zmq_setsockopt(self->handler, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_bind(self->handler, ZAP_ENDPOINT) != 0)
        return false;
    for (uint32_t i = 0; i < self->watches_count; i++) {
        watch *w = &self->watches[i];
        w->pair = zmq_socket(context, ZMQ_PAIR);
        if (w->pair == NULL || zmq_setsockopt(w->pair, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
            zmq_connect(w->pair, w->address) != 0)
            return false;
    }
    return true;
}

/* A stranger's key, shown as libzmq shows it, must come back refused. */
static bool strangers_are_refused(void *context) {
    static const char nobody[STET_KEY_BYTES];
    static const stet_str request[BROKER_ZAP_FRAMES] = {
        {"1.0", 3}, {"self", 4},  {"front", 5},           {"self-test", 9},
        {"", 0},    {"CURVE", 5}, {nobody, sizeof nobody}};
    void *socket = zmq_socket(context, ZMQ_REQ);
    int linger = 0, wait_ms = SELF_TEST_MS;
    bool good = socket != NULL && zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger) == 0 &&
                zmq_connect(socket, ZAP_ENDPOINT) == 0;
    for (uint32_t i = 0; good && i < COUNT_OF(request); i++)
        good = send_text(socket, request[i], i + 1 < COUNT_OF(request));
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    int rc = 0;
    while (good && (rc = zmq_poll(&item, 1, wait_ms)) < 0 && zmq_errno() == EINTR)
        continue;
    zmq_msg_t frames[3];
    uint32_t count = good && rc > 0 ? receive_all(socket, frames, COUNT_OF(frames)) : 0;
    good = count > 2 &&
           stet_str_is(stet_str_from(zmq_msg_data(&frames[1]), zmq_msg_size(&frames[1])), "self") &&
           stet_str_is(stet_str_from(zmq_msg_data(&frames[2]), zmq_msg_size(&frames[2])), "400");
    close_all(frames, count, COUNT_OF(frames));
    if (socket != NULL)
        (void)zmq_close(socket);
    return good;
}

stet_code broker_gate_start(broker_gate *self, void *context, stet_error *e) {
    ASSERT(!self->running);
    if (!open_sockets(self, context)) {
        close_sockets(self);
        return stet_error_set(e, STET_INTERNAL, "cannot answer for keys: %s", zmq_strerror(zmq_errno()));
    }
    if (pthread_create(&self->thread, NULL, run_handler, self) != 0) {
        close_sockets(self);
        return stet_error_set(e, STET_INTERNAL, "cannot start a thread that answers for keys");
    }
    self->running = true;
    if (!strangers_are_refused(context))
        return stet_error_set(e, STET_INTERNAL, "a key that is not known was not refused: nothing is opened");
    stet_log(STET_INFO, "keys.loaded", "keys are asked for on TCP", STET_LOG_C("directory", self->directory),
             STET_LOG_I("keys", stet_keys_count(self->keys)),
             STET_LOG_C("public_key", self->pair.public_key));
    return STET_OK;
}

void broker_gate_stop(broker_gate *self) {
    if (!self->running)
        return;
    tell(self->stop_fd);
    (void)pthread_join(self->thread, NULL);
    self->running = false;
}

broker_gate *broker_gate_free(broker_gate *self) {
    if (self == NULL)
        return NULL;
    broker_gate_stop(self);
    const int fds[] = {self->stop_fd, self->ended_fd, self->changes_fd};
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    (void)pthread_mutex_destroy(&self->lock);
    self->keys = stet_keys_free(self->keys);
    stet_key_pair_done(&self->pair);
    free(self);
    return NULL;
}

/* ---- asked by the loop ---- */

const stet_known_key *broker_gate_key(const broker_gate *self, zmq_msg_t *const *frames, uint32_t count) {
    const char *first = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const char *user = zmq_msg_gets(frames[i], "User-Id");
        if (user == NULL || user[0] == '\0' || (first != NULL && strcmp(user, first) != 0))
            return NULL;
        first = user;
    }
    return first != NULL ? stet_keys_find(self->keys, stet_str_of(first)) : NULL;
}

int broker_gate_changes_fd(const broker_gate *self) {
    return self->changes_fd;
}

int broker_gate_ended_fd(const broker_gate *self) {
    return self->ended_fd;
}

bool broker_gate_reload(broker_gate *self) {
    char events[4096];
    for (uint32_t i = 0; i < DRAIN_MAX && read(self->changes_fd, events, sizeof events) > 0; i++)
        continue;
    stet_keys *now = NULL;
    stet_error error;
    uint32_t bad = 0;
    stet_code rc = stet_keys_load(self->directory, &now, &bad, &error);
    if (rc != STET_OK || bad > 0)
        stet_log(STET_ERROR, "keys.bad", error.message, STET_LOG_I("left_out", bad));
    if (rc != STET_OK)
        now = NULL; /* nobody */
    stet_keys *before = self->keys;
    bool narrowed = stet_keys_narrowed(before, now);
    (void)pthread_mutex_lock(&self->lock);
    self->keys = now;
    (void)pthread_mutex_unlock(&self->lock);
    (void)stet_keys_free(before);
    stet_log(STET_INFO, "keys.loaded",
             narrowed ? "keys were taken back: connections are cut" : "keys were read anew",
             STET_LOG_I("keys", stet_keys_count(now)));
    return narrowed;
}

void broker_gate_counts(broker_gate *self, uint64_t *ret_refused, uint64_t *ret_failed) {
    *ret_refused = atomic_load_explicit(&self->refused, memory_order_relaxed);
    *ret_failed = atomic_load_explicit(&self->failed, memory_order_relaxed);
}
