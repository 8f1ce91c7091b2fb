/* manifest - RocksDB's list of the tables and logs that count, witnessed.
 *
 * A manifest that has lost its end opens without an error: it is then the list of an earlier time, the tables that it does not
 * know are deleted, and if the newest log is still there, so is the last commit; what lay between is gone and nobody notices. So
 * the witness keeps which manifest there was, how long it was and the hash of that many bytes. It only ever grows, until another
 * with a higher number takes its place.
 *
 * What lies behind the witnessed bytes may have been on its way to the disk when the machine stopped. RocksDB forgives a record that
 * ends too early there, but not one of which only the beginning has arrived (a file's size can be durable before its bytes). Such a
 * one is cut, in a copy. Was it synced after all and damaged later, then what it made superfluous is gone: RocksDB
 * misses the tables, or the logs that the records before name (track_and_verify_wals_in_manifest), and refuses.
 *
 * Thread: any; no state. */
#ifndef STET_MANIFEST_H
#define STET_MANIFEST_H

#include "proto/base/code.h"
#include "store/commit_record.h"

typedef struct stet_manifest {
    uint64_t number; /* 0: none is named by db/CURRENT */
    uint64_t bytes;
    stet_hash hash; /* of the bytes */
} stet_manifest;

/* Of DIR/db; looks at `bytes_max` bytes at most. An error is one of the disk. */
NODISCARD
stet_code stet_manifest_read(const char *directory, uint64_t bytes_max, stet_manifest *ret, stet_error *e);
/* Brings *known up to date with what is durable: when the manifest has grown or changed, it and its directory are
 * synced before. Beside a database that is open: a manifest that is replaced meanwhile leaves *known as it was. */
NODISCARD
stet_code stet_manifest_sync(const char *directory, stet_manifest *known, stet_error *e);
/* Cuts the records of the manifest in db behind the first `known->bytes` that are not whole; false when there are none, or when it
 * is another manifest. */
NODISCARD
stet_code stet_manifest_cut(const char *db, const stet_manifest *known, bool *ret_cut, stet_error *e);

#endif
