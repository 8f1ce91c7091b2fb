/* fault - places where a test lets the program die. Nothing at all in a normal build.
 *
 * With -DSTET_FAULTS (targets stet-*-faults, for the tests only) FAULT(name) counts, and the process ends
 * with exit code 137, as by SIGKILL: no destructor, no flush. The environment chooses: STET_FAULT=name:k die
 * when name is reached for the k-th time STET_FAULT_COUNTS=FILE   count every point in FILE, one 64-bit
 * number each, shared by all processes STET_FAULT_NO_SYNC=1     commits are not synced: the power-loss
 * harness must notice Names are in faults.def and nowhere else. Any thread. */
#ifndef STET_FAULT_H
#define STET_FAULT_H

#include <stdbool.h>

typedef enum stet_fault {
#define X(name, program, help) STET_FAULT_##name,
#include "proto/base/faults.def"
#undef X
    STET_FAULTS_COUNT
} stet_fault;

#ifdef STET_FAULTS
void stet_fault_reached(stet_fault fault);
bool stet_fault_no_sync(void);
#define FAULT(name) stet_fault_reached(STET_FAULT_##name)
#define FAULT_NO_SYNC stet_fault_no_sync()
#else
#define FAULT(name) ((void)STET_FAULT_##name)
#define FAULT_NO_SYNC false
#endif

#endif
