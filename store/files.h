/* files - what the store does with directories: sync, copy, move aside, remove; and where the info log goes.
 */
#ifndef STET_FILES_H
#define STET_FILES_H

#include "proto/base/code.h"
#include "proto/base/paths.h"

/* DIR/name; STET_INVALID when too long. */
NODISCARD
stet_code stet_files_join(const char *directory, const char *name, char ret[STET_PATH_MAX], stet_error *e);
bool stet_files_exists(const char *path);
/* Makes the names in the directory durable. */
NODISCARD
stet_code stet_files_sync_directory(const char *path, stet_error *e);
/* What an errno of the disk means for opening: full (wait), failed (start again), or else. */
stet_code stet_files_code(int error);
/* Copies a database's directory, which must be flat: table files (never changed once written) as hard links,
 * the rest byte by byte and synced. `to` must not exist. */
NODISCARD
stet_code stet_files_copy_database(const char *from, const char *to, stet_error *e);
/* Removes a directory and the files in it; not there is fine. */
NODISCARD
stet_code stet_files_remove_directory(const char *path, stet_error *e);
/* Exchanges two names, atomically where the file system can. */
NODISCARD
stet_code stet_files_exchange(const char *directory, const char *a, const char *b, stet_error *e);

/* A directory of our own in memory for RocksDB's info log, whose writer aborts the process on a full disk:
 * /dev/shm/stet-UID/HASH, mode 0700 (HASH of the store's directory; reading processes get their own). False
 * when there is none to be had; the log then stays beside the data. */
bool stet_files_info_log_directory(const char *directory, bool read_only, char ret[STET_PATH_MAX]);

#endif
