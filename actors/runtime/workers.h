/* workers - threads for blocking or heavy work; the results come back to the loop through an eventfd.
 *
 * Poll stet_workers_fd() for reading; when readable, call stet_workers_next() until it returns false. The
 * threads are started with the first piece of work, block all signals, and touch nothing but the work's own
 * input and result.
 *
 * Thread: all functions belong to the loop's. Memory: start copies the input.
 * Limits: at most `pending_max` pieces started and not yet taken by stet_workers_next; a result has at most
 * STET_WORK_RESULT_BYTES_MAX bytes. */
#ifndef STET_WORKERS_H
#define STET_WORKERS_H

#include "actors/runtime/actor.h"

enum { STET_WORK_RESULT_BYTES_MAX = 8 * 1024 * 1024 };

typedef struct stet_workers stet_workers;

typedef struct stet_work_result {
    stet_call_ref ref;
    stet_code code;
    stet_error error; /* when code is not STET_OK */
    stet_buf result;  /* one MessagePack value; empty on error */
} stet_work_result;

/* threads > 0, pending_max > 0. STET_UNAVAILABLE without memory or descriptor. */
NODISCARD
stet_code stet_workers_new(uint32_t threads, uint32_t pending_max, stet_workers **ret, stet_error *e);
/* Drops what has not begun and waits for what has. NULL is a no-op; always NULL. */
stet_workers *stet_workers_free(stet_workers *self);

/* For poll, readable while results wait; owned by self. */
int stet_workers_fd(const stet_workers *self);
/* STET_BUSY when pending_max pieces are pending, STET_UNAVAILABLE without memory or thread: no result
 * follows. */
NODISCARD
stet_code stet_workers_start(stet_workers *self, stet_call_ref ref, stet_work_fn *work, stet_str input,
                             stet_error *e);
/* The oldest result: free with stet_work_result_done. False when none waits. */
NODISCARD
bool stet_workers_next(stet_workers *self, stet_work_result *ret);
void stet_work_result_done(stet_work_result *self);
/* Started and not yet taken. */
size_t stet_workers_pending(const stet_workers *self);

#endif
