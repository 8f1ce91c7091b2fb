/* probe - the smallest actor there is: a value under a key, and a job that does nothing.
 *
 * It measures the runtime (stet-bench), is killed by the crash tests, and shows all that an actor consists
 * of. */
#ifndef PROBE_H
#define PROBE_H

#include "actors/runtime/actor.h"

extern const stet_service probe_service;

#endif
