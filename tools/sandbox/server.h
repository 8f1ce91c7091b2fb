/* server - the sandbox's HTTP side: one thread a connection, a table of routes, and the state they share.
 *
 * Thread: handlers run on the connection's thread; journal, faults and pace have locks of their own.
 * Limits: SANDBOX_CONNECTIONS_MAX connections, SANDBOX_BODY_BYTES_MAX bytes a request. */
#ifndef STET_SANDBOX_SERVER_H
#define STET_SANDBOX_SERVER_H

#include <stdatomic.h>

#include "proto/base/buf.h"
#include "proto/base/code.h"

struct MHD_Connection;
struct sandbox_journal;
struct sandbox_faults;

enum { SANDBOX_CONNECTIONS_MAX = 256, SANDBOX_BODY_BYTES_MAX = 8 * 1024 * 1024 };

typedef struct sandbox {
    struct sandbox_journal *journal;
    struct sandbox_faults *faults;
    struct MHD_Daemon *daemon;
    atomic_llong delay_ms;       /* before every answer */
    atomic_llong token_delay_ms; /* between the events of a stream */
    int stop_fd;                 /* readable from the moment the sandbox stops */
} sandbox;

typedef struct sandbox_request {
    sandbox *sandbox;
    struct MHD_Connection *connection;
    const char *method;
    const char *path;
    stet_str body;  /* as received */
    stet_str mp;    /* the body as MessagePack; empty when it is not JSON */
    uint64_t index; /* in the journal; 0 for what is not recorded */
} sandbox_request;

/* Takes the listening socket. STET_UNAVAILABLE when no thread or memory. */
NODISCARD
stet_code sandbox_start(sandbox *self, int listener, stet_error *e);
/* Open streams end at once; returns when every thread has. */
void sandbox_stop(sandbox *self);

/* Waits on the connection's thread. False when the sandbox stops or the peer has gone. ms < 0: without limit.
 */
bool sandbox_wait(const sandbox *self, struct MHD_Connection *connection, int64_t ms);
/* Resets the connection now; the peer sees ECONNRESET. */
void sandbox_reset(struct MHD_Connection *connection);
/* NULL when there is no such header or query argument. */
const char *sandbox_header(const sandbox_request *r, const char *name);
const char *sandbox_query(const sandbox_request *r, const char *name);

#endif
