/* tcp_server - a raw HTTP server whose answers are as wrong as a test wants: the path chooses the behaviour.
 * Thread: own threads; the counters may be read from any. */
#ifndef STET_TEST_TCP_SERVER_H
#define STET_TEST_TCP_SERVER_H

#include <stddef.h>
#include <stdint.h>

typedef struct tcp_server tcp_server;

tcp_server *tcp_server_start(void); /* 127.0.0.1, a free port */
void tcp_server_stop(tcp_server *self);
uint16_t tcp_server_port(const tcp_server *self);
unsigned tcp_server_connections(tcp_server *self); /* accepted so far */
unsigned tcp_server_requests(tcp_server *self);    /* read completely so far */
/* Copies the last request as it came; returns its size. */
size_t tcp_server_last(tcp_server *self, char *to, size_t size);

#endif
