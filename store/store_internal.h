/* store_internal - the fields of store and batch, for store.c, batch.c and scan.c alone.
 *
 *   overlays[2]: one is being built, the other in flight or empty; a commit swaps them. */
#ifndef STET_STORE_INTERNAL_H
#define STET_STORE_INTERNAL_H

#include "store/engine.h"
#include "store/hot_rows.h"
#include "store/space.h"
#include "store/witness.h"

enum {
    /* Overwritten values stay in the arena until the commit: room for some of that, then the batch fails. */
    STET_BATCH_ARENA_BYTES = 6 * STET_BATCH_BYTES_MAX,
    STET_READS_BYTES_MAX = 256 << 20, /* what one message may read by get */
    STET_READS_KEEP_BYTES = 1 << 20
};

struct stet_batch {
    stet_store *store;
    stet_arena reads;
    uint32_t scans_open;
    bool failed, starved;
    _Alignas(max_align_t) uint8_t memo[STET_BATCH_MEMO_BYTES];
};

struct stet_store {
    stet_engine *engine;
    stet_batch batch;
    stet_overlay overlays[2];
    stet_overlay *building;
    stet_overlay *in_flight; /* NULL: none */
    uint64_t changes;        /* of the building overlay's order: an open scan looks again when it moved */
    stet_commit commit;      /* the one in flight */
    uint64_t ticket;
    uint64_t number, epoch; /* last durable commit */
    stet_hash hash;
    uint32_t partition;
    bool failed, read_only, in_memory;
    stet_error read_error;          /* code STET_OK: none yet */
    bool fail_reads, full, damaged; /* tests, in memory */
    stet_commit_result next_commit; /* tests, in memory: what becomes of it */
    stet_witness_record witness;    /* in memory: of the commit before the last */
    int lock_fd;
    stet_space *space; /* NULL in memory and when read only */
    stet_store_stats stats;
    stet_hot_rows hot;
};

/* Remembers the first error of reading; returns rc. */
stet_code stet_store_read_result(stet_store *store, stet_code rc, const stet_error *e);

#endif
