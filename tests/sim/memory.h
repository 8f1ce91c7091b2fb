/* memory - allocations that fail. The programs of the simulation are linked with --wrap=malloc and friends: while a fault
 * is on, the n-th allocation of the core that runs gets nothing, once or from there on. What the simulation
 * itself needs meanwhile, in the edges that the core calls, is let through. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include "proto/base/base.h"

typedef struct memory_fault {
    uint64_t after;  /* so many allocations still succeed */
    uint32_t rounds; /* that it lasts, once it has begun; 0: there is none */
    bool for_ever;   /* all from there on, not only one */
    uint64_t struck; /* allocations that failed */
} memory_fault;

void memory_on(memory_fault *fault);
/* True when an allocation has failed since memory_on. */
bool memory_struck(void);
bool memory_off(void); /* the same */
/* For CLEANUP(memory_let_go): until then all allocations succeed. */
int memory_hold(void);
void memory_let_go(const int *held);

#endif
