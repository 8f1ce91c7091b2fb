/* store - one actor's durable state: ordered keys, batches that see their own writes, ONE commit.
 *
 *   begin -> get / put / delete / scan, message by message -> commit -> ticket -> completion (an event of the
 * loop)
 *
 * There is one batch under construction and at most one in flight. Reads look at the batch, then at the batch
 * in flight, then at the engine: nobody assumes that a commit is readable in the engine when commit returns.
 * Engines: RocksDB (builds the write batch, hashes it into the chain, writes and syncs, on a thread of its own
 * what is not small) and memory (for simulation and unit tests). Handlers never know which.
 *
 * Commit record: each commit carries, in the same write, the META row "head": a fixed header (magic, format,
 * partition, epoch, number, time, count, length, previous hash, XXH3-128 of the WriteBatch bytes). Numbers
 * have no gap and are never reused.
 *
 * Errors: a failed commit is UNKNOWN, not undone. The only right reaction is to end the process without a
 * reply; opening again is the one repair path. Thread: all calls from the loop's thread, except where noted.
 */
#ifndef STET_STORE_H
#define STET_STORE_H

#include "proto/base/code.h"
#include "store/key.h"

enum {
#define X(name, number, text, key, value) STET_TABLE_##name = number,
#include "store/tables.def"
#undef X
    STET_TABLE_ACTOR_FIRST = 64
};

enum {
    STET_STORE_FORMAT = 1, /* refuses what it does not know */
    STET_VALUE_BYTES_MAX = 2 << 20,
    STET_BATCH_BYTES_MAX = 4 << 20 /* hard cap of one turn */
};

typedef struct stet_store stet_store;
typedef struct stet_batch stet_batch;
typedef struct stet_scan stet_scan;

typedef enum stet_commit_result {
    STET_COMMIT_OK,
    STET_COMMIT_FENCED,     /* another owner has a higher epoch */
    STET_COMMIT_UNKNOWN,    /* may or may not be on disk: end the process */
    STET_COMMIT_UNAVAILABLE /* not written */
} stet_commit_result;

typedef struct stet_completion {
    uint64_t ticket;
    uint64_t number; /* the commit number */
    stet_commit_result result;
    stet_error error;
} stet_completion;

typedef struct stet_store_options {
    const char *directory; /* DATA/ACTOR/PARTITION; created when missing; locked while open */
    uint32_t partition;
    uint64_t memory_bytes;   /* write buffers and cache together */
    uint64_t free_min_bytes; /* below it stet_store_writable() says no; 0: never */
    uint64_t ballast_bytes;
    bool read_only; /* for inspect: no lock, no recovery, no commit */
    bool no_sync;   /* only for the power-loss harness, which must notice it */
} stet_store_options;

/* Opens with strict log recovery; on a torn tail or damage decides by the witness as store/recovery.h says.
 * STET_CONFLICT: another process has it. STET_INVALID: format not known (both versions named), another
 * partition. STET_UNAVAILABLE: the disk is full, even without the ballast: wait and open again.
 * STET_BUSY: the disk (EIO) or memory failed: end the process and start again.
 * STET_NOT_FOUND: read_only and nothing there. STET_INTERNAL: acknowledged data is missing or damaged: refuse
 * to serve, the message says what to restore.
 */
NODISCARD
stet_code stet_store_open(const stet_store_options *options, stet_store **ret, stet_error *e);
/* The in-memory twin. Commits become durable when stet_store_next_completion() hands them out. */
NODISCARD
stet_code stet_store_open_memory(uint32_t partition, stet_store **ret, stet_error *e);
/* Waits for the commit in flight, flushes the witness, frees. NULL is a no-op; always returns NULL. Dropping
 * an open batch drops its writes. */
stet_store *stet_store_close(stet_store *self);
/* Memory engine only: forgets the batches that are not durable, as a crash would; the store is then as after
 * open. */
void stet_store_memory_crash(stet_store *self);
/* Memory engine only: the next commit ends with this result, its rows are lost. */
void stet_store_memory_fail_commit(stet_store *self, stet_commit_result result);
/* Memory engine only: opens again what a crash has left. As on disk, a witness that is kept apart, here one commit
 * behind, decides whether it is everything. */
NODISCARD
stet_code stet_store_memory_open_again(stet_store *self, stet_error *e);
/* Memory engine only: the witness of `from` stands beside these rows, as when an old database is put in a directory. */
void stet_store_memory_witness(stet_store *self, const stet_store *from);
/* Memory engine only: a store of its own with the rows that are durable now. An epoch above theirs makes it another
 * owner's, and its first commit says so. */
NODISCARD
stet_code stet_store_memory_copy(const stet_store *from, uint64_t epoch, stet_store **ret, stet_error *e);
/* Memory engine only: there is no room on its disk, or is again. */
void stet_store_memory_full(stet_store *self, bool full);
/* Memory engine only: from now on reads of durable rows fail. */
void stet_store_memory_fail_reads(stet_store *self);

/* Memory engine only, for tests: rows may be anything, and what is said of them (stet_batch_insert) is no longer
 * looked at. */
void stet_store_memory_damaged(stet_store *self);

/* Readable when a completion waits; -1 for the memory engine (then a completion is ready at once). */
int stet_store_completion_fd(const stet_store *self);
/* The next completion, in commit order; false when none is ready. Releases the batch in flight: no scan may
 * be open. */
bool stet_store_next_completion(stet_store *self, stet_completion *ret);
bool stet_store_commit_in_flight(const stet_store *self);
/* STET_OK, or the first error that the engine met while reading, whoever was told: end the process. */
stet_code stet_store_read_status(const stet_store *self, stet_error *e);

/* False when free space is below the mark (looked up at most every 250 ms of boot_ms): answer `unavailable`.
 */
bool stet_store_writable(stet_store *self, int64_t boot_ms);
uint64_t stet_store_epoch(const stet_store *self);
uint64_t stet_store_last_number(const stet_store *self); /* last durable commit */
/* Copies the database (hard links where it can) to a directory that must not exist (STET_CONFLICT); the copy
 * can be opened as a store. A commit in flight may be in it or not. */
NODISCARD
stet_code stet_store_checkpoint(stet_store *self, const char *directory, stet_error *e);

typedef struct stet_store_stats {
    uint64_t commits, commit_bytes, rows_written, reads, memory_bytes, disk_bytes, commit_ns_last;
} stet_store_stats;
stet_store_stats stet_store_stats_of(stet_store *self);

/* ---- the batch under construction ---- */
/* The one under construction, always the same pointer: after a commit it is empty again. Owned by the store,
 * never NULL. */
stet_batch *stet_store_batch(stet_store *self);
/* STET_NOT_FOUND, with an empty message, when there is no such row. The value lives until
 * stet_batch_release_reads(). STET_BUSY: no memory, the batch has failed. Any other error comes from the engine and must end the
 * process. */
NODISCARD
stet_code stet_batch_get(stet_batch *self, stet_str key, stet_str *ret_value, stet_error *e);
/* Puts a copy of *text, which lives as long as what was read, in its place. False when out of memory. */
NODISCARD
bool stet_batch_keep(stet_batch *self, stet_str *text);
/* Fill memory only. Out of memory or over STET_BATCH_BYTES_MAX sets the sticky failure that
 * stet_batch_failed() shows and that a rollback to a mark from before clears. */
void stet_batch_put(stet_batch *self, stet_str key, stet_str value);
/* A put of a row that a get would not find: if it is deleted again in this batch, nothing of it is written.
 * Only for rows that are surely not there (a key never used before): a wrong claim could leave a deleted row
 * behind. */
void stet_batch_insert(stet_batch *self, stet_str key, stet_str value);
void stet_batch_delete(stet_batch *self, stet_str key);
bool stet_batch_failed(const stet_batch *self);
/* It failed, and there was no memory, whereas it would not have been too large. */
bool stet_batch_starved(const stet_batch *self);
size_t stet_batch_bytes(const stet_batch *self);   /* keys and values that would be written */
uint32_t stet_batch_count(const stet_batch *self); /* rows that would be written */
/* Undo to here: one message of the turn failed, the others stay. Marks nest. No scan may be open. */
uint64_t stet_batch_mark(const stet_batch *self);
void stet_batch_rollback(stet_batch *self, uint64_t mark);
/* A place where whoever writes one row again and again may keep it decoded beside it. Zeroed whenever rows are taken back
 * (rollback, crash), never else. */
enum { STET_BATCH_MEMO_BYTES = 1024 };
void *stet_batch_memo(stet_batch *self);
/* Frees what gets and scans of this message have read. The runtime calls it after each message. */
void stet_batch_release_reads(stet_batch *self);
/* Seals the batch and starts writing it; a small one is written when it returns, so that it takes as long as the
 * disk's sync. Only when no commit is in flight and the batch is not empty. The completion comes with the ticket in
 * either case. wall_ms goes into the commit record. */
NODISCARD
stet_code stet_batch_commit(stet_batch *self, int64_t wall_ms, uint64_t *ret_ticket, stet_error *e);

/* ---- ordered scan over everything that begins with prefix ---- */
/* from: first key wanted, inside the prefix (or past it: nothing), {NULL,0} = the beginning (the end when
 * reverse; then `from` is the last key wanted). Sees the writes of this batch up to now; rows written during
 * the scan may be seen or not. NULL when out of memory (the batch then has failed). */
stet_scan *stet_batch_scan(stet_batch *self, stet_str prefix, stet_str from, bool reverse);
/* False at the end or on an engine error. key and value live until the next call. */
bool stet_scan_next(stet_scan *self, stet_str *ret_key, stet_str *ret_value);
/* STET_OK, or the engine's error that ended the scan. */
stet_code stet_scan_status(const stet_scan *self, stet_error *e);
stet_scan *stet_scan_free(stet_scan *self); /* always NULL */
void stet_scan_done(stet_scan **self);      /* for CLEANUP */

#endif
