/* head - what a database says about itself: format, epoch and the head of its commit chain. */
#ifndef STET_HEAD_H
#define STET_HEAD_H

#include "store/commit_record.h"

typedef struct stet_head {
    bool present; /* false: a database without a row of ours, made a moment ago */
    uint64_t epoch;
    stet_commit_record record;
    stet_hash hash; /* of the record: what the next commit names as its previous */
} stet_head;

/* Reads one row, as stet_engine_ops.get does. */
typedef stet_code (*stet_head_get)(void *from, stet_str key, stet_arena *into, stet_str *ret, stet_error *e);

/* STET_INVALID: a format that is not known, named with ours, or another partition's database. STET_INTERNAL:
 * rows that contradict each other or cannot be read. `directory` is for the messages. */
NODISCARD
stet_code stet_head_load(stet_head_get get, void *from, uint32_t partition, const char *directory,
                         stet_head *ret, stet_error *e);

#endif
