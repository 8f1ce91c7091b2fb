/* committer - makes commits durable, one at a time, and keeps the witness behind them.
 *
 * submit -> the write is built, hashed into the chain, written and synced -> the completion fd becomes readable
 * -> collect. A commit that is small, on a disk that was quick last time, is made by submit itself: handing it to
 * the thread and being woken by it takes longer than what the caller would do meanwhile. Any other is the
 * thread's, beside which the caller goes on. The witness is always the thread's; it is synced within 100 ms of a
 * commit, after its completion was posted. Thread: submit, collect, fd and stop from the loop's. */
#ifndef STET_COMMITTER_H
#define STET_COMMITTER_H

#include "store/rocks.h"
#include "store/witness.h"

typedef struct stet_committer stet_committer;

/* rocks and witness outlive it; not owned. */
NODISCARD
stet_code stet_committer_start(stet_rocks *rocks, stet_witness *witness, stet_committer **ret, stet_error *e);
/* Waits for a submitted commit, witnesses the last one, ends the thread. Always NULL. */
stet_committer *stet_committer_stop(stet_committer *self);
int stet_committer_fd(const stet_committer *self);
/* None may be submitted. *commit is not the caller's until it is collected. May return with its result. */
void stet_committer_submit(stet_committer *self, stet_commit *commit);
/* True once per submitted commit, when it has its result. */
bool stet_committer_collect(stet_committer *self);

#endif
