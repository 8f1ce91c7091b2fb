/* log_format - where the whole records of one of RocksDB's log files end (write-ahead logs and manifests share the format).
 *
 * Blocks of 32 KiB; a record is one piece, or several when it does not fit: a header of 7 bytes (masked CRC-32C of type and
 * payload, length, type; little-endian) and the payload. What is left of a block that is too small for a header is zeros.
 *
 * Thread: any; no state. */
#ifndef STET_LOG_FORMAT_H
#define STET_LOG_FORMAT_H

#include "proto/base/base.h"

/* Bytes up to the end of the last record before the first that is not whole: cut, damaged, or of a type that is not known
 * here. All of them when every record is whole. */
size_t stet_log_format_whole(stet_str file);

#endif
