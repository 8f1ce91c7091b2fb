#include "proto/base/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void stet_assert_failed(const char *condition, const char *file, int line) {
    /* stderr is unbuffered and the log's lock may be held by this very thread, so no stet_log here. */
    (void)fprintf(stderr, "stet: bug: %s does not hold (%s:%d); please report this line\n", condition, file,
                  line);
    abort();
}
