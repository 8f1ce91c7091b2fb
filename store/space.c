#include "store/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { LOOK_EVERY_MS = 250, MARK_DIVISOR = 20 };

bool stet_space_lookup_system(void *context, const char *directory, stet_space_figures *ret) {
    (void)context;
    struct statvfs fs;
    int rc;
    do
        rc = statvfs(directory, &fs);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return false;
    ret->total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    ret->available_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return true;
}

static bool ballast_path(const stet_space *self, char path[STET_PATH_MAX]) {
    int size = snprintf(path, STET_PATH_MAX, "%s/ballast", self->directory);
    return size > 0 && size < STET_PATH_MAX;
}

stet_code stet_space_init(stet_space *self, const char *directory, uint64_t free_min_bytes,
                          uint64_t ballast_bytes, stet_error *e) {
    *self = (stet_space){.free_min_bytes = free_min_bytes,
                         .ballast_bytes = ballast_bytes,
                         .lookup = stet_space_lookup_system,
                         .looked_up_ms = -1,
                         .writable = true};
    int size = snprintf(self->directory, sizeof self->directory, "%s", directory);
    char path[STET_PATH_MAX];
    if (size < 0 || size >= (int)sizeof self->directory || !ballast_path(self, path))
        return stet_error_set(e, STET_INVALID, "the path of the store's directory is too long");
    struct stat status;
    self->has_ballast = stat(path, &status) == 0 && status.st_size > 0;
    return STET_OK;
}

static uint64_t mark_of(const stet_space *self, const stet_space_figures *figures) {
    uint64_t share = figures->total_bytes / MARK_DIVISOR;
    return self->free_min_bytes < share ? self->free_min_bytes : share;
}

stet_code stet_space_prepare(stet_space *self, uint64_t need_bytes, stet_error *e) {
    stet_space_figures figures;
    if (self->free_min_bytes == 0)
        return STET_OK;
    if (!self->lookup(self->lookup_context, self->directory, &figures))
        return stet_error_set(e, STET_UNAVAILABLE, "free space of %s cannot be found out: %s",
                              self->directory, strerror(errno));
    if (figures.available_bytes >= need_bytes)
        return STET_OK;
    char path[STET_PATH_MAX];
    if (self->has_ballast && ballast_path(self, path) && unlink(path) == 0) {
        self->has_ballast = false;
        if (!self->lookup(self->lookup_context, self->directory, &figures))
            figures.available_bytes = 0;
        if (figures.available_bytes >= need_bytes)
            return STET_OK;
    }
    return stet_error_set(
        e, STET_UNAVAILABLE,
        "the disk of %s is full: %llu KiB are free, %llu KiB are needed to open the store; make room",
        self->directory, (unsigned long long)(figures.available_bytes >> 10),
        (unsigned long long)(need_bytes >> 10));
}

/* Real blocks, not a hole. Not having a ballast is no error: it only makes a full disk harder to leave. */
static void make_ballast(stet_space *self, const stet_space_figures *figures) {
    char path[STET_PATH_MAX];
    if (self->has_ballast || self->ballast_bytes == 0 || !ballast_path(self, path))
        return;
    uint64_t mark = mark_of(self, figures);
    if (figures->available_bytes < mark || figures->available_bytes - mark < 2 * self->ballast_bytes)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    self->has_ballast = fallocate(fd, 0, 0, (off_t)self->ballast_bytes) == 0;
    (void)close(fd);
    if (!self->has_ballast)
        (void)unlink(path);
}

void stet_space_make_ballast(stet_space *self) {
    stet_space_figures figures;
    if (self->lookup(self->lookup_context, self->directory, &figures))
        make_ballast(self, &figures);
}

bool stet_space_writable(stet_space *self, int64_t boot_ms) {
    if (self->free_min_bytes == 0)
        return true;
    if (self->looked_up_ms >= 0 && boot_ms - self->looked_up_ms < LOOK_EVERY_MS)
        return self->writable;
    self->looked_up_ms = boot_ms;
    stet_space_figures figures;
    bool found_out = self->lookup(self->lookup_context, self->directory, &figures);
    self->writable = found_out && figures.available_bytes >= mark_of(self, &figures);
    if (self->writable)
        make_ballast(self, &figures);
    return self->writable;
}
