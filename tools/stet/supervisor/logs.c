/* Logs of detached processes: DATA/log/NAME.log, and one older piece NAME.log.1. */
#include "tools/stet/supervisor/supervisor.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_BYTES_MAX = 16 << 20 };

static void log_path(const stet_paths *paths, const char *name, const char *suffix, char *ret_path,
                     size_t size) {
    (void)snprintf(ret_path, size, "%s/%s.log%s", paths->log, name, suffix);
}

int supervisor_open_log(const stet_paths *paths, const char *name) {
    char path[STET_PATH_MAX + 64], old[STET_PATH_MAX + 64];
    log_path(paths, name, "", path, sizeof path);
    log_path(paths, name, ".1", old, sizeof old);
    struct stat info;
    if (stat(path, &info) == 0 && info.st_size > LOG_BYTES_MAX)
        (void)rename(path, old);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The writer keeps its descriptor, so the file cannot be renamed away under it: its text is copied and the
 * file cut. Lines written in between are lost, which a log may; a disk filled by a log would stop the
 * instance. */
void supervisor_trim_log(const stet_paths *paths, const char *name) {
    char path[STET_PATH_MAX + 64], old[STET_PATH_MAX + 64];
    log_path(paths, name, "", path, sizeof path);
    log_path(paths, name, ".1", old, sizeof old);
    struct stat info;
    if (stat(path, &info) != 0 || info.st_size <= LOG_BYTES_MAX)
        return;
    int from = open(path, O_RDWR | O_CLOEXEC);
    int to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    off_t at = info.st_size > LOG_BYTES_MAX ? info.st_size - LOG_BYTES_MAX : 0;
    while (from >= 0 && to >= 0 && at < info.st_size) {
        if (sendfile(to, from, &at, (size_t)(info.st_size - at)) <= 0)
            break;
    }
    int cut = from >= 0 ? ftruncate(from, 0) : 0;
    (void)cut;
    if (from >= 0)
        (void)close(from);
    if (to >= 0)
        (void)close(to);
}
