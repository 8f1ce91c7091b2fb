/* stream - an answer on its way: bytes, where the pauses are, and how it ends.
 *
 * Streamed answers leave in writes cut at odd byte positions, since a client must not depend on where they
 * are cut. Memory: sandbox_reply_send takes what the reply owns and leaves it empty. */
#ifndef STET_SANDBOX_STREAM_H
#define STET_SANDBOX_STREAM_H

#include "tools/sandbox/server.h"

enum { SANDBOX_REPLY_BYTES_MAX = 96 * 1024 * 1024 };

typedef enum sandbox_end {
    SANDBOX_END_COMPLETE,
    SANDBOX_END_RESET,  /* the connection is reset after `cut` bytes; 0: before any byte */
    SANDBOX_END_STALL,  /* nothing more after `cut` bytes, until the peer goes */
    SANDBOX_END_ENDLESS /* after `cut` bytes `filler` again and again, until the peer goes */
} sandbox_end;

typedef struct sandbox_reply {
    uint32_t status;
    const char *content_type; /* a literal */
    bool streamed;
    stet_buf body;
    stet_buf marks;   /* uint32_t offsets in body where a pause of token_delay_ms falls */
    stet_buf headers; /* further ones: name NUL value NUL ... */
    stet_buf filler;
    int64_t delay_ms; /* before the first byte */
    int64_t token_delay_ms;
    sandbox_end end;
    size_t cut;        /* for ends other than complete */
    const char *fault; /* name of the fault at work, a literal, or NULL */
} sandbox_reply;

/* Empty, with the sandbox's pace. */
sandbox_reply sandbox_reply_of(const sandbox *owner, uint32_t status, const char *content_type);
void sandbox_reply_done(sandbox_reply *self);
void sandbox_reply_header(sandbox_reply *self, const char *name, stet_str value);
/* A pause may fall here. */
void sandbox_reply_mark(sandbox_reply *self);
/* Returns what libmicrohttpd's handler returns: MHD_YES or MHD_NO. */
int sandbox_reply_send(const sandbox_request *r, sandbox_reply *self);

#endif
