/* rfc3339 - times as text: "2026-11-25T22:38:36.123Z". Written in UTC with milliseconds; read with any
 * offset. */
#ifndef STET_RFC3339_H
#define STET_RFC3339_H

#include "proto/base/base.h"

enum { STET_RFC3339_SIZE = 25 }; /* 24 characters and a NUL */

/* wall_ms from 0000-01-01 to 9999-12-31; outside of that it is clamped. */
void stet_rfc3339_text(int64_t wall_ms, char ret_text[STET_RFC3339_SIZE]);
/* Refuses what is not a full RFC 3339 date-time (calendar checked, leap second read as :59.999). */
NODISCARD
bool stet_rfc3339_parse(stet_str text, int64_t *ret_wall_ms);

#endif
