/* id - UUIDv7 (RFC 9562 section 5.7): 48 bits of wall milliseconds, then random bits, so ids sort by age.
 * Thread: a source belongs to one thread. */
#ifndef STET_ID_H
#define STET_ID_H

#include "proto/base/base.h"
#include "proto/base/prng.h"

enum { STET_ID_BYTES = 16, STET_ID_TEXT_SIZE = 37 }; /* text: 36 characters and a NUL */

typedef struct stet_id {
    uint8_t bytes[STET_ID_BYTES];
} stet_id;

/* Ids of one source never repeat and never go back, also when the clock does: within the last seen
 * millisecond the 12 bits rand_a count up. */
typedef struct stet_id_source {
    uint64_t last_ms;
    uint32_t counter;
    stet_prng prng;
} stet_id_source;

stet_id_source stet_id_source_of(uint64_t seed);
stet_id stet_id_next(stet_id_source *self, int64_t wall_ms);
bool stet_id_is_zero(stet_id id);
bool stet_id_equal(stet_id a, stet_id b);
/* Lower-case 8-4-4-4-12. */
void stet_id_text(stet_id id, char ret_text[STET_ID_TEXT_SIZE]);
/* Accepts any UUID text, either case; false when it is not one. */
NODISCARD
bool stet_id_parse(stet_str text, stet_id *ret_id);
/* The 16 bytes of a bin; false when the size is not 16. */
NODISCARD
bool stet_id_from_bytes(stet_str bytes, stet_id *ret_id);

#endif
