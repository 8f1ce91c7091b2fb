/* plant - bugs that a test switches on, to show that it would find them. Nothing at all in a normal build.
 *
 * With -DSTET_PLANTS (stet-sim-plants, for the tests only) PLANT(name) is true when that bug is switched on;
 * else it is the constant false and the compiler drops what hangs on it. Names are in plants.def and nowhere
 * else. */
#ifndef STET_PLANT_H
#define STET_PLANT_H

#include <stdbool.h>

typedef enum stet_plant {
    STET_PLANT_none,
#define X(name, help) STET_PLANT_##name,
#include "proto/base/plants.def"
#undef X
    STET_PLANTS_COUNT
} stet_plant;

#ifdef STET_PLANTS
extern stet_plant stet_planted;
#define PLANT(name) (stet_planted == STET_PLANT_##name)
#else
#define PLANT(name) (false && STET_PLANT_##name)
#endif

#endif
