/* witness - the last commit number, kept outside the database, so that a database that has lost its end is
 * noticed.
 *
 * No recovery mode of RocksDB notices a log that was cut at a record boundary, emptied or deleted. The file
 * beside db/ has two slots, in two blocks of 4096 bytes; each write goes to the older one and is synced, so
 * that a cut write leaves the other. A slot, integers big-endian:
 *
 *      0   8  magic "STETWIT2"
 *      8   8  generation: the higher one counts
 *     16   8  epoch
 *     24   8  commit number
 *     32  32  hash of that commit
 *     64  16  number and size of RocksDB's manifest, 0 when there is none (manifest.h)
 *     80  32  hash of that many bytes of it
 *    112  32  BLAKE2b-256 of the 112 bytes before
 *
 * Thread: one at a time (the committer's while the store is open). */
#ifndef STET_WITNESS_H
#define STET_WITNESS_H

#include "proto/base/code.h"
#include "store/head.h"
#include "store/manifest.h"

typedef struct stet_witness stet_witness;

typedef enum stet_witness_state {
    STET_WITNESS_NONE, /* no file, or one whose first write was cut */
    STET_WITNESS_KNOWN,
    STET_WITNESS_DAMAGED /* a file without a good slot */
} stet_witness_state;

typedef struct stet_witness_record {
    stet_witness_state state;
    uint64_t generation, epoch, number;
    stet_hash hash;
    stet_manifest manifest;
} stet_witness_record;

/* Reads DIR/witness; creates nothing. An error is one of the disk. */
NODISCARD
stet_code stet_witness_read(const char *directory, stet_witness_record *ret, stet_error *e);
/* Opens for writing, creating the file; goes on from what was read. */
NODISCARD
stet_code stet_witness_open(const char *directory, const stet_witness_record *from, stet_witness **ret,
                            stet_error *e);
/* On disk when it returns, with DIR/db as it is now. After an error the process is to end: it is not tried again. */
NODISCARD
stet_code stet_witness_write(stet_witness *self, uint64_t epoch, uint64_t number, const stet_hash *hash,
                             stet_error *e);
/* Is everything there that was acknowledged? STET_INTERNAL when not; the message says what to do. */
NODISCARD
stet_code stet_witness_compare(const stet_witness_record *witness, const stet_head *head,
                               const char *directory, stet_error *e);
stet_witness *stet_witness_close(stet_witness *self); /* always NULL */

#endif
