#include "tests/fuzz/edge_place.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/exit_codes.h"
#include "proto/keys/files.h"

/* Of rfc.zeromq.org/spec/26: the client's pair and the server's, who is the only actor here as well. */
const stet_key_pair edge_client = {.public_key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
                                   .secret_key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"};
const stet_key_pair edge_server = {.public_key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
                                   .secret_key = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"};

/* ---- the loop ---- */

static _Thread_local bool turning;

/* NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's */
int __real_zmq_poll(zmq_pollitem_t *items, int count, long timeout);
int __wrap_zmq_poll(zmq_pollitem_t *items, int count, long timeout);

/* In the loop: what there is, and then that it is to stop, which is its first item. */
int __wrap_zmq_poll(zmq_pollitem_t *items, int count, long timeout) {
    int ready = __real_zmq_poll(items, count, turning ? 0 : timeout);
    if (!turning || ready != 0)
        return ready;
    items[0].revents = ZMQ_POLLIN;
    return 1;
}
/* NOLINTEND(bugprone-reserved-identifier) */

void edge_turn(const place *p) {
    turning = true;
    ASSERT(broker_sockets_run(p->sockets, broker_gate_ended_fd(p->sockets->gate)) == STET_EXIT_OK);
    turning = false;
}

/* ---- files ---- */

void edge_put_known(place *p, stet_str text) {
    int fd = open(p->known, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0 && write(fd, text.size > 0 ? text.data : "", text.size) == (ssize_t)text.size);
    ASSERT(close(fd) == 0);
}

void edge_put_client(place *p) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(512);
    key_line_put(&text, "name", "known");
    key_line_put(&text, "role", "control");
    key_line_put(&text, "public", edge_client.public_key);
    key_line_put(&text, "sessions", "");
    key_line_put(&text, "created", "");
    edge_put_known(p, stet_buf_str(&text));
    p->known_changed = false;
}

static place places[2]; /* for TCP: the second */

static void close_all(void) {
    static const char *const names[] = {
        "keys/known.pub", "keys/actor.pub", "keys/server.key", "keys", "run", "log", ""};
    for (place *p = places; p < places + COUNT_OF(places); p++) {
        if (p->sockets == NULL)
            continue;
        ASSERT(zmq_close(p->asker) == 0 && zmq_close(p->subscriber) == 0);
        p->sockets = broker_sockets_close(p->sockets);
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            char path[STET_PATH_MAX + 32];
            int size = snprintf(path, sizeof path, "%s/%s", p->directory, names[i]);
            ASSERT(size > 0 && (size_t)size < sizeof path);
            (void)remove(path);
        }
    }
}

static void make_files(place *p) {
    char path[STET_PATH_MAX];
    stet_error e;
    (void)snprintf(p->directory, sizeof p->directory, "/tmp/stet-fuzz-XXXXXX");
    ASSERT(mkdtemp(p->directory) != NULL);
    (void)snprintf(p->keys, sizeof p->keys, "%s/keys", p->directory);
    (void)snprintf(p->known, sizeof p->known, "%s/known.pub", p->keys);
    ASSERT(stet_paths_of(p->directory, &p->paths, &e) == STET_OK &&
           stet_paths_create(&p->paths, &e) == STET_OK);
    stet_known_key actor = {.name = "actor", .role = STET_ROLE_ACTOR, .created = "now"};
    memcpy(actor.public_key, edge_server.public_key, sizeof actor.public_key);
    ASSERT(stet_keys_add(p->keys, &actor, &e) == STET_OK);
    ASSERT(stet_keys_server_path(p->keys, path, &e) == STET_OK);
    ASSERT(stet_key_pair_write(path, &edge_server, &e) == STET_OK);
    edge_put_client(p);
}

static void open_broker(place *p, bool tcp) {
    p->core = (broker_options){.queue_max = 8,
                               .queue_bytes = 1 << 20,
                               .sessions_max = 4,
                               .heartbeat_ms = 60000,
                               .timeout_ms = 60000,
                               .instance = {{1}},
                               .software = "fuzz"};
    broker_sockets_options options = {.paths = &p->paths, .keys_directory = p->keys, .core = p->core};
    stet_error e;
    for (broker_door door = 0; door < BROKER_DOORS_COUNT; door++) {
        options.open[door].count = options.keyed[door].count = 1;
        (void)snprintf(options.open[door].items[0], STET_ENDPOINT_MAX, "inproc://open-%s",
                       broker_door_name(door));
        (void)snprintf(options.keyed[door].items[0], STET_ENDPOINT_MAX,
                       tcp ? "tcp://127.0.0.1:*" : "inproc://keyed-%s", broker_door_name(door));
    }
    ASSERT(broker_sockets_open(&options, &p->sockets, &e) == STET_OK);
}

place *edge_place(bool tcp) {
    place *p = &places[tcp];
    if (p->sockets != NULL)
        return p;
    stet_log_init("fuzz", STET_RECORD);
    ASSERT(places[!tcp].sockets != NULL || atexit(close_all) == 0);
    make_files(p);
    open_broker(p, tcp);
    return p;
}
