/* journal - what the sandbox received and how it answered, in memory, the oldest forgotten first.
 *
 * Thread: any, one lock. Limits: SANDBOX_JOURNAL_MAX requests and SANDBOX_JOURNAL_BYTES_MAX bytes.
 * Keys of the Authorization header are masked before they are kept. */
#ifndef STET_SANDBOX_JOURNAL_H
#define STET_SANDBOX_JOURNAL_H

#include "tools/sandbox/server.h"

enum { SANDBOX_JOURNAL_MAX = 10000, SANDBOX_JOURNAL_BYTES_MAX = 64 * 1024 * 1024 };

typedef struct sandbox_journal sandbox_journal;

sandbox_journal *sandbox_journal_new(void); /* NULL only when out of memory */
sandbox_journal *sandbox_journal_free(sandbox_journal *self);

/* Records the request; returns its index, from 1, never used again; 0 when there is no memory. */
uint64_t sandbox_journal_add(sandbox_journal *self, const sandbox_request *r);
/* What is being answered. status 0: nothing. fault: a literal or NULL. Unknown indexes are ignored. */
void sandbox_journal_answer(sandbox_journal *self, uint64_t index, uint32_t status, const char *fault);
/* How it ended; a literal: complete, aborted (the peer went), reset, stalled, endless. */
void sandbox_journal_finish(sandbox_journal *self, uint64_t index, const char *outcome);

/* {"requests": [...], "last": N}: requests with an index above `since`, at most `limit`, oldest first. */
void sandbox_journal_json(sandbox_journal *self, uint64_t since, uint64_t limit, stet_buf *b);
void sandbox_journal_clear(sandbox_journal *self);

#endif
