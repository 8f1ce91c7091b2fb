/* durable - the engine of a real store: RocksDB, the committer and the witness, put together. */
#ifndef STET_DURABLE_H
#define STET_DURABLE_H

#include "store/engine.h"
#include "store/head.h"

/* The directory exists and is locked (not for read_only, which changes nothing in it). Errors as
 * stet_store_open. */
NODISCARD
stet_code stet_durable_open(const stet_store_options *options, stet_engine **ret, stet_head *ret_head,
                            stet_error *e);
/* Free space below which opening is not tried. */
uint64_t stet_durable_headroom(const stet_store_options *options);

#endif
