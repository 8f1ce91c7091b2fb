/* client_internal - what client.c and subscriber.c share: one thread's sockets and the answers they wait for.
 */
#ifndef STET_CLIENT_INTERNAL_H
#define STET_CLIENT_INTERNAL_H

#include <zmq.h>

#include "proto/base/buf.h"
#include "proto/client/core.h"
#include "proto/client/stet.h"
#include "proto/keys/keys.h"

enum { CLIENT_TIMEOUT_DEFAULT_MS = 30000, CLIENT_ENDPOINTS_MAX = 1024 };

struct stet_client {
    void *context; /* one zmq context per client */
    void *dealer;
    void *monitor; /* PAIR that tells when the dealer is connected again */
    client_core *core;
    stet_id_source ids;
    uint32_t timeout_ms;
    char events[CLIENT_ENDPOINTS_MAX]; /* comma separated */
    char last_id[STET_ID_TEXT_SIZE];
    stet_error error;
    bool connected_before;
    bool has_key;
    stet_key_pair key;     /* wiped with the client */
    const char *handshake; /* what went wrong with the last one; NULL: nothing */
    bool key_refused;      /* the broker does not know it, and libzmq does not try again */
    uint32_t handed_out;
    /* the answer of the blocking request */
    stet_buf answer_body;
    stet_error answer_error;
};

/* Fills client->error and returns -1. */
int client_fail(stet_client *client, stet_code code, const char *format, ...) PRINTF(3, 4);
/* Reads the key that the options or the environment name, when an endpoint is TCP. Beyond loopback there has
 * to be one. */
int client_key_load(stet_client *client, const stet_client_options *options, const char *front,
                    const char *events);
/* Lets the socket show it, when the endpoints are TCP. */
int client_key_show(stet_client *client, void *socket, const char *endpoints);
/* A socket of the client's context with every limit set; NULL fills client->error. */
void *client_socket(stet_client *client, int type);
/* Shows the key where one is needed and connects to each of the comma separated endpoints; only tcp:// and
 * ipc:// are allowed. */
int client_connect(stet_client *client, void *socket, const char *endpoints);
/* A monitor of connects and handshakes of this socket; NULL fills client->error. */
void *client_monitor(stet_client *client, void *socket);
/* Before the socket is closed: what it told a monitor that is gone would never be freed. monitor NULL: nothing. */
void client_monitor_close(void *socket, void *monitor);
/* Reads what the monitor has to tell; true when the socket was connected since the last look. */
bool client_monitor_connected(stet_client *client, void *monitor);
/* Handles what has come for requests without waiting. */
void client_service(stet_client *client);
/* How long a poll may wait, at most wait_ms (< 0: no limit of its own). */
long client_poll_ms(const stet_client *client, int wait_ms);

/* Reads one message into frames, at most frames_max; true when a message of that many frames or fewer has
 * come (*ret_count). A longer one is read to its end and dropped. Close each frame. */
bool client_receive(void *socket, zmq_msg_t *frames, int frames_max, int *ret_count);

static inline stet_str client_frame(zmq_msg_t *frame) {
    return stet_str_from(zmq_msg_data(frame), zmq_msg_size(frame));
}

#endif
