/* space - stop taking work before the disk is full, and a ballast file to get out when it is.
 *
 * Below the mark (the lesser of free_min and 5 % of the file system) nothing is written any more. The ballast
 * is deleted when a database is to be opened on a disk without the room that takes, and made again when there
 * is room. Figures are those for users without privilege (f_bavail). Thread: the loop's. */
#ifndef STET_SPACE_H
#define STET_SPACE_H

#include "proto/base/code.h"
#include "proto/base/paths.h"

typedef struct stet_space_figures {
    uint64_t total_bytes, available_bytes;
} stet_space_figures;

/* False: could not be found out. */
typedef bool (*stet_space_lookup)(void *context, const char *directory, stet_space_figures *ret);
/* statvfs(3). */
bool stet_space_lookup_system(void *context, const char *directory, stet_space_figures *ret);

typedef struct stet_space {
    char directory[STET_PATH_MAX];
    uint64_t free_min_bytes; /* 0: there is always room */
    uint64_t ballast_bytes;
    stet_space_lookup lookup;
    void *lookup_context;
    int64_t looked_up_ms; /* -1: never */
    bool writable, has_ballast;
} stet_space;

/* STET_INVALID when the directory's path is too long. */
NODISCARD
stet_code stet_space_init(stet_space *self, const char *directory, uint64_t free_min_bytes,
                          uint64_t ballast_bytes, stet_error *e);
/* Before a database is opened: STET_UNAVAILABLE when even without the ballast less than need_bytes are free.
 */
NODISCARD
stet_code stet_space_prepare(stet_space *self, uint64_t need_bytes, stet_error *e);
/* After it was opened: makes the ballast when there is room for it above the mark. */
void stet_space_make_ballast(stet_space *self);
/* Looks at most every 250 ms of boot_ms. */
bool stet_space_writable(stet_space *self, int64_t boot_ms);

#endif
