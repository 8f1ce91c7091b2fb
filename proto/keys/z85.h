/* z85 - the text form of keys that ZeroMQ uses (rfc.zeromq.org/spec/32): four bytes as five printable
 * characters. Thread: any. Memory: the caller's. */
#ifndef STET_Z85_H
#define STET_Z85_H

#include "proto/base/base.h"

/* Writes size / 4 * 5 characters and a NUL. size: a multiple of 4. */
void stet_z85_encode(const uint8_t *bytes, size_t size, char *ret_text);
/* Exactly `size` bytes out of size / 4 * 5 characters; false when the text is anything else. */
NODISCARD
bool stet_z85_decode(stet_str text, uint8_t *ret_bytes, size_t size);

#endif
