#include "tests/sim/memory.h"

#include <stddef.h>

/* The allocator has no other way to know. */
static struct {
    memory_fault *fault;
    uint64_t struck_before;
    int held;
} now;

void memory_on(memory_fault *fault) {
    now.fault = fault->rounds > 0 ? fault : NULL;
    now.struck_before = fault->struck;
}

bool memory_struck(void) {
    return now.fault && now.fault->struck > now.struck_before;
}

bool memory_off(void) {
    memory_fault *fault = TAKE(now.fault);
    if (!fault || fault->struck == 0)
        return false;
    fault->rounds = fault->for_ever ? fault->rounds - 1 : 0;
    return fault->struck > now.struck_before;
}

int memory_hold(void) {
    now.held++;
    return now.held;
}

void memory_let_go(const int *held) {
    (void)held;
    now.held--;
}

static bool fails(void) {
    memory_fault *fault = now.fault;
    if (!fault || now.held > 0 || (fault->struck > 0 && !fault->for_ever))
        return false;
    if (fault->after > 0) {
        fault->after--;
        return false;
    }
    fault->struck++;
    return true;
}

/* NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
/* NOLINTEND(bugprone-reserved-identifier) */

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size) {
    return fails() ? NULL : __real_realloc(old, size);
}
