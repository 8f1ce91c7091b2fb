/* Linked into the fault programs only. The one state outside of structs that Stet has: a place in the code
 * has no object to hold it. */
#include "proto/base/fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { KILLED = 137 };

static const char *const names[] = {
#define X(name, program, help) #name,
#include "proto/base/faults.def"
#undef X
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int armed = -1;
static uint64_t armed_at;
static _Atomic uint64_t armed_hits;
static _Atomic uint64_t *counts;

static void arm(const char *text) {
    const char *colon = strchr(text, ':');
    size_t size = colon ? (size_t)(colon - text) : strlen(text);
    for (int i = 0; i < STET_FAULTS_COUNT; i++)
        if (strlen(names[i]) == size && memcmp(names[i], text, size) == 0)
            armed = i;
    armed_at = colon ? strtoull(colon + 1, NULL, 10) : 1;
    if (armed < 0)
        abort(); /* a name that is not in the table tests nothing */
}

static void read_environment(void) {
    const char *text = getenv("STET_FAULT");
    const char *file = getenv("STET_FAULT_COUNTS");
    if (text && *text)
        arm(text);
    if (!file || !*file)
        return;
    size_t size = STET_FAULTS_COUNT * sizeof *counts;
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
        abort();
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (mapped == MAP_FAILED)
        abort();
    counts = mapped;
}

void stet_fault_reached(stet_fault fault) {
    (void)pthread_once(&once, read_environment);
    if (counts)
        atomic_fetch_add(&counts[fault], 1);
    if (armed == (int)fault && atomic_fetch_add(&armed_hits, 1) + 1 == armed_at)
        _exit(KILLED);
}

bool stet_fault_no_sync(void) {
    return getenv("STET_FAULT_NO_SYNC") != NULL;
}
