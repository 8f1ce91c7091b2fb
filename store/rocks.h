/* rocks - RocksDB behind a few functions: the only file that includes its header.
 *
 * One column family (the default one; a database with another is refused). Every error of RocksDB becomes a
 * stet_error here, in one function, which also frees it. Thread: stet_rocks_write from one thread while the
 * others are called from another. */
#ifndef STET_ROCKS_H
#define STET_ROCKS_H

#include "store/engine.h"

typedef struct stet_rocks stet_rocks;

typedef enum stet_log_recovery {
    STET_LOG_STRICT = 0,       /* tolerates a cut last record, refuses anything else */
    STET_LOG_POINT_IN_TIME = 2 /* drops what follows a damaged record without a word: only on a copy */
} stet_log_recovery;

typedef struct stet_rocks_options {
    const char *db;            /* the directory of the database itself */
    const char *log_directory; /* of RocksDB's own info log; NULL: db */
    uint64_t memory_bytes;
    stet_log_recovery recovery;
    bool read_only, create, no_sync;
} stet_rocks_options;

/* STET_CONFLICT: another process has it. STET_UNAVAILABLE: no space left. STET_INVALID: another column
 * family. STET_INTERNAL: the rest; *ret_corrupt tells whether RocksDB calls it corruption. */
NODISCARD
stet_code stet_rocks_open(const stet_rocks_options *options, stet_rocks **ret, bool *ret_corrupt,
                          stet_error *e);
stet_rocks *stet_rocks_close(stet_rocks *self); /* always NULL */
/* For a thread of ours other than the one that opens: turns off RocksDB's counters, which cost a tenth of its
 * CPU because each is found anew through thread-local storage. */
void stet_rocks_thread_begins(void);
/* `self` is a stet_rocks; fits stet_head_get. */
stet_code stet_rocks_get(void *self, stet_str key, stet_arena *into, stet_str *ret, stet_error *e);
stet_engine_iter *stet_rocks_iter(stet_rocks *self, stet_str lower, stet_str upper);
/* The bytes of a WriteBatch, as stet_commit_build makes them. Durable on return, unless opened with no_sync.
 * After an error it is unknown whether they were written. */
NODISCARD
stet_code stet_rocks_write(stet_rocks *self, stet_str batch, stet_error *e);
/* directory must not exist. */
NODISCARD
stet_code stet_rocks_checkpoint(stet_rocks *self, const char *directory, stet_error *e);
stet_engine_stats stet_rocks_stats(stet_rocks *self);
/* Free space that opening may need: what is in the log becomes a table file. */
uint64_t stet_rocks_headroom(uint64_t memory_bytes);

#endif
