/* recent_ids - tells of most new requests, without asking the store, that their id was never used before.
 *
 * Ids are UUIDv7 and so grow with time (any other id costs a look into the store, nothing else): an id above
 * all that are stored is new. Requests of several clients cross on their way, so the newest ids are not a line
 * but a fringe. Its ids stand in two Bloom filters of a generation each; the floor is the largest id that is
 * in neither:
 *
 *      id <= floor            may be stored: look
 *      in a generation's bits may be stored: look
 *      else                   is not
 *
 * A full generation takes the place of the older one, whose largest id raises the floor. What is wrong is
 * wrong in the safe direction: an id that was taken back, or swept, is looked for in vain. Source of the
 * filter: B. H. Bloom, Space/time trade-offs in hash coding with allowable errors, 1970. */
#ifndef STET_RECENT_IDS_H
#define STET_RECENT_IDS_H

#include "proto/base/base.h"
#include "proto/wire/id.h"

enum {
    RECENT_IDS_GENERATION = 16384, /* ids */
    RECENT_IDS_BITS = 1 << 18      /* 16 for each, two of which are set: 1.4 % false positives when full */
};

typedef struct recent_ids_generation {
    uint32_t count;
    stet_id largest;
    uint64_t bits[RECENT_IDS_BITS / 64];
} recent_ids_generation;

typedef struct recent_ids {
    stet_id floor;
    uint32_t current;
    recent_ids_generation generations[2];
} recent_ids;

/* All zeros is a valid set of a store without ids. largest_stored: nothing in the store is above it. */
void stet_recent_ids_begin(recent_ids *self, stet_id largest_stored);
/* Before the id can be in the store. */
void stet_recent_ids_add(recent_ids *self, stet_id id);
/* True: the id was never added, and is not in the store. */
bool stet_recent_ids_is_new(const recent_ids *self, stet_id id);

#endif
