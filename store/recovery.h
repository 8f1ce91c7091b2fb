/* recovery - opening a database, and the decision whether what it holds is everything that was acknowledged.
 *
 *   db/            strict log recovery    its last commit, against the witness    what happens
 *   -----------    -------------------    ------------------------------------
 * ----------------------------------- not there      -                      no witness a new database not
 * there      -                      there is one                            refused: lost opens          ok
 * equal or above                          goes on opens          ok                     no witness file goes
 * on, with a warning opens          ok                     below, another hash, witness damaged    refused
 *   damaged        Corruption             equal or above, found in a copy         a torn tail: the copy takes
 * its place, opened in point-in-time mode            the original stays as db.damaged-N damaged Corruption
 * below, or no witness                    refused; nothing was changed
 *
 * Refused is STET_INTERNAL with a message that says what to restore. Names used beside db/: db.copy (being
 * made; may be deleted), db.ready (decided; being swapped in), db.damaged-N (kept for people). A crash at any
 * point leaves one of them, and the next opening goes on from there. */
#ifndef STET_RECOVERY_H
#define STET_RECOVERY_H

#include "store/head.h"
#include "store/rocks.h"
#include "store/witness.h"

typedef struct stet_recovery_options {
    const char *directory;     /* holds db/ and the witness */
    const char *log_directory; /* NULL: beside the data */
    uint32_t partition;
    uint64_t memory_bytes;
    bool no_sync;
} stet_recovery_options;

NODISCARD
stet_code stet_recovery_open(const stet_recovery_options *options, stet_rocks **ret, stet_head *ret_head,
                             stet_witness_record *ret_witness, stet_error *e);

#endif
