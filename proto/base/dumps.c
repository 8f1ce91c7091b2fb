#include "proto/base/dumps.h"

#include <sys/prctl.h>
#include <sys/resource.h>

void stet_forbid_dumps(void) {
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
}
