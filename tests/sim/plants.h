/* plants - shows that the simulation finds bugs: switches planted ones on and runs seeds until one is found. */
#ifndef SIM_PLANTS_H
#define SIM_PLANTS_H

#include "proto/base/base.h"

/* name: of one plant, or "all". Prints which seed found it and by which invariant. 0 when each was found within `count`
 * seeds, 1 when one was not, 2 when there is no such plant or this build has none. */
int plants_run(const char *name, uint64_t seed, uint64_t count);

#endif
