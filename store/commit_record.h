/* commit_record - the fixed header of a commit, and the bytes that are committed.
 *
 * The body is a RocksDB WriteBatch, Put and Delete of the default column family only, in key order:
 *
 *      0   8  sequence, zero here (RocksDB writes its own into its copy)
 *      8   4  number of rows, little-endian
 *     12   …  rows: 0x01 varint key-size key varint value-size value   |   0x00 varint key-size key
 *
 * Both engines build the same bytes, so a chain does not depend on the engine. The header is the value of the
 * META row "head", which goes into the same write but not into the body (it holds the body's hash). Integers
 * big-endian:
 *
 *      0   4  magic "STCR"                    48  32  hash of the commit before (zeros for number 1)
 *      4   2  format of the record, 2         80  16  XXH3-128 of the body, canonical
 *      6   2  zero                            96      end
 *      8   4  partition
 *     12   4  rows in the body
 *     16   8  epoch
 *     24   8  number, from 1, no gap
 *     32   8  wall time, ms since 1970
 *     40   8  bytes of the body
 *
 * The hash of a commit is the BLAKE2b-256 of these 96 bytes. The body's is not a cryptographic one: it shows
 * damage, and who could forge a body could forge the record as well. Format 1 had a BLAKE2b-256 there, which was
 * a quarter of the work of a commit. A step to another layout takes a new format number. */
#ifndef STET_COMMIT_RECORD_H
#define STET_COMMIT_RECORD_H

#include "proto/base/buf.h"
#include "proto/base/code.h"
#include "store/overlay.h"

enum {
    STET_HASH_BYTES = 32,
    STET_BODY_HASH_BYTES = 16,
    STET_COMMIT_RECORD_BYTES = 96,
    STET_COMMIT_RECORD_FORMAT = 2,
    STET_COMMIT_BYTES_MAX = 64 << 20 /* far above what a batch may hold */
};

typedef struct stet_hash {
    uint8_t bytes[STET_HASH_BYTES];
} stet_hash;

typedef struct stet_body_hash {
    uint8_t bytes[STET_BODY_HASH_BYTES];
} stet_body_hash;

typedef struct stet_commit_record {
    uint32_t partition;
    uint32_t rows;
    uint64_t epoch;
    uint64_t number;
    int64_t wall_ms;
    uint64_t body_bytes;
    stet_hash previous;
    stet_body_hash body;
} stet_commit_record;

stet_hash stet_hash_of(stet_str bytes);
stet_body_hash stet_body_hash_of(stet_str body);
bool stet_hash_equal(const stet_hash *a, const stet_hash *b);

void stet_commit_record_encode(const stet_commit_record *record, uint8_t ret[STET_COMMIT_RECORD_BYTES]);
/* STET_INVALID: size, magic or format (named) is not known, or number and previous hash contradict each
 * other. */
NODISCARD
stet_code stet_commit_record_decode(stet_str bytes, stet_commit_record *ret, stet_error *e);
stet_hash stet_commit_record_hash(const stet_commit_record *record);

/* Fills rows, body_bytes and body of the record and the buffer (cleared first) with the body, then with the
 * head row and the row count of both: what the engine is to write. False when out of memory. Touches nothing
 * else: may run on another thread while the rows are read. */
NODISCARD
bool stet_commit_build(const stet_overlay *rows, stet_commit_record *record, stet_buf *write);

/* The keys of META that the store itself keeps. */
extern const stet_str stet_store_key_head, stet_store_key_format, stet_store_key_epoch;

#endif
