/* committer - the thread that makes commits durable, one at a time, and keeps the witness behind them.
 *
 * submit -> the thread builds the write, hashes it into the chain, writes and syncs -> the completion fd
 * becomes readable -> collect. The witness is synced within 100 ms of a commit, after its completion was
 * posted. Thread: submit, collect, fd and stop from the loop's. */
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
/* None may be submitted. *commit is the thread's until it is collected. */
void stet_committer_submit(stet_committer *self, stet_commit *commit);
/* True once per submitted commit, when it has its result. */
bool stet_committer_collect(stet_committer *self);

#endif
