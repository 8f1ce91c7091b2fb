#include "tests/integration/tcp_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/base.h"

enum { CONNECTIONS_MAX = 64, REQUEST_MAX = 64 * 1024 };

struct tcp_server {
    int listener;
    uint16_t port;
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_t threads[CONNECTIONS_MAX];
    int fds[CONNECTIONS_MAX];
    unsigned connections;
    unsigned requests;
    char last[REQUEST_MAX];
    size_t last_size;
};

typedef struct connection {
    tcp_server *server;
    int fd;
} connection;

static bool send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static bool say(int fd, const char *text) {
    return send_all(fd, text, strlen(text));
}

/* Waits for the peer to close, or for tcp_server_stop. */
static void wait_for_end(int fd) {
    char scrap[1024];
    while (recv(fd, scrap, sizeof scrap, 0) > 0)
        continue;
}

static void reset(int fd) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* One whole request into text; its size, 0 at the end of the connection. */
static size_t read_request(int fd, char *text, size_t text_max) {
    size_t have = 0, need = SIZE_MAX;
    while (have < need) {
        if (have + 1 >= text_max)
            return 0;
        ssize_t n = recv(fd, text + have, need == SIZE_MAX ? 1 : need - have, 0);
        if (n <= 0)
            return 0;
        have += (size_t)n;
        text[have] = '\0';
        if (need == SIZE_MAX && have >= 4 && memcmp(text + have - 4, "\r\n\r\n", 4) == 0) {
            const char *length = strcasestr(text, "\r\ncontent-length:");
            need = have + (length != NULL ? strtoul(length + 17, NULL, 10) : 0);
        }
    }
    return have;
}

static bool is_path(const char *request, const char *path) {
    const char *at = strchr(request, ' ');
    size_t size = strlen(path);
    return at != NULL && strncmp(at + 1, path, size) == 0 && (at[1 + size] == ' ' || at[1 + size] == '?');
}

static bool chunked(int fd) {
    static const char *const pieces[] = {"HTTP/1.1 200 OK\r\nTransfer-Enc",
                                         "oding: chunked\r\nContent-Type: text/event-",
                                         "stream\r\n\r",
                                         "\n5\r\nhel",
                                         "lo\r\n1",
                                         "\r\n,\r",
                                         "\n6\r\n wor",
                                         "ld\r\n0\r\n\r",
                                         "\n"};
    for (size_t i = 0; i < COUNT_OF(pieces); i++)
        if (!say(fd, pieces[i]))
            return false;
    return true;
}

static bool endless(int fd) {
    char block[4096];
    memset(block, 'x', sizeof block);
    if (!say(fd, "HTTP/1.1 200 OK\r\n\r\n"))
        return false;
    while (send_all(fd, block, sizeof block))
        continue;
    return false;
}

static bool header_bomb(int fd) {
    if (!say(fd, "HTTP/1.1 200 OK\r\n"))
        return false;
    while (say(fd, "X-Filler: 0123456789012345678901234567890123456789\r\n"))
        continue;
    return false;
}

/* Answers whose text is all there is to them. */
static const struct {
    const char *path;
    const char *answer;
    bool close;
} ANSWERS[] = {
    {"/ok",
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Request-Id: req-7\r\nContent-Length: 5\r\n\r\nhello",
     false},
    {"/interim",
     "HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
     false},
    {"/half", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this", true},
    {"/half-headers", "HTTP/1.1 200 OK\r\nContent-Type: text/pl", true},
    {"/no-answer", "", true},
    {"/garbage", "hello there\r\n\r\n", true},
    {"/redirect", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n", false},
    {"/retry-seconds", "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", false},
    {"/retry-past",
     "HTTP/1.1 503 Busy\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n", false},
    {"/retry-ms", "HTTP/1.1 429 Slow\r\nretry-after-ms: 250\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
     false},
    {"/error", "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nboom", false},
};

/* False: close the connection. nth: number of the request on this connection, from 1. */
static bool answer(int fd, const char *request, unsigned nth) {
    for (size_t i = 0; i < COUNT_OF(ANSWERS); i++)
        if (is_path(request, ANSWERS[i].path))
            return say(fd, ANSWERS[i].answer) && !ANSWERS[i].close;
    if (is_path(request, "/chunked"))
        return chunked(fd);
    if (is_path(request, "/endless"))
        return endless(fd);
    if (is_path(request, "/header-bomb"))
        return header_bomb(fd);
    if (is_path(request, "/stall")) {
        (void)say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
        wait_for_end(fd);
        return false;
    }
    if (is_path(request, "/reset")) {
        reset(fd);
        return false;
    }
    if (is_path(request, "/first-only")) { /* the second request on one connection is read, then dropped */
        return nth == 1 && say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    return say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
}

static void *serve(void *argument) {
    connection c = *(connection *)argument;
    free(argument);
    char *request = malloc(REQUEST_MAX);
    unsigned nth = 0;
    for (;;) {
        size_t size = read_request(c.fd, request, REQUEST_MAX);
        if (size == 0)
            break;
        pthread_mutex_lock(&c.server->lock);
        c.server->requests++;
        memcpy(c.server->last, request, size);
        c.server->last_size = size;
        pthread_mutex_unlock(&c.server->lock);
        if (!answer(c.fd, request, ++nth))
            break;
    }
    free(request);
    pthread_mutex_lock(&c.server->lock);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (c.server->fds[i] == c.fd)
            c.server->fds[i] = -1;
    close(c.fd);
    pthread_mutex_unlock(&c.server->lock);
    return NULL;
}

static void *accept_all(void *argument) {
    tcp_server *self = argument;
    for (;;) {
        int fd = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection *c = malloc(sizeof *c);
        *c = (connection){self, fd};
        pthread_mutex_lock(&self->lock);
        ASSERT(self->connections < CONNECTIONS_MAX);
        self->fds[self->connections] = fd;
        pthread_create(&self->threads[self->connections++], NULL, serve, c);
        pthread_mutex_unlock(&self->lock);
    }
}

tcp_server *tcp_server_start(void) {
    tcp_server *self = calloc(1, sizeof *self);
    pthread_mutex_init(&self->lock, NULL);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = bind(self->listener, (struct sockaddr *)&address, size);
    ASSERT(rc == 0);
    rc = listen(self->listener, 64);
    ASSERT(rc == 0);
    rc = getsockname(self->listener, (struct sockaddr *)&address, &size);
    ASSERT(rc == 0);
    self->port = ntohs(address.sin_port);
    pthread_create(&self->acceptor, NULL, accept_all, self);
    return self;
}

void tcp_server_stop(tcp_server *self) {
    shutdown(self->listener, SHUT_RDWR);
    pthread_join(self->acceptor, NULL);
    close(self->listener);
    pthread_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->connections; i++)
        if (self->fds[i] >= 0)
            shutdown(self->fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&self->lock);
    for (unsigned i = 0; i < self->connections; i++)
        pthread_join(self->threads[i], NULL);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

uint16_t tcp_server_port(const tcp_server *self) {
    return self->port;
}

static unsigned counted(tcp_server *self, const unsigned *counter) {
    pthread_mutex_lock(&self->lock);
    unsigned n = *counter;
    pthread_mutex_unlock(&self->lock);
    return n;
}

unsigned tcp_server_connections(tcp_server *self) {
    return counted(self, &self->connections);
}

unsigned tcp_server_requests(tcp_server *self) {
    return counted(self, &self->requests);
}

size_t tcp_server_last(tcp_server *self, char *to, size_t size) {
    pthread_mutex_lock(&self->lock);
    size_t n = self->last_size < size ? self->last_size : size - 1;
    memcpy(to, self->last, n);
    to[n] = '\0';
    pthread_mutex_unlock(&self->lock);
    return n;
}
