#include "proto/base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* One reason for the fallback below: the kernel takes no longer socket address. */
enum { SOCKET_PATH_MAX = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 };
_Static_assert(SOCKET_PATH_MAX + sizeof "ipc://" <= STET_ENDPOINT_MAX, "every socket path fits an endpoint");

typedef struct socket_name {
    const char *name;
    size_t offset;
} socket_name;

static const socket_name socket_names[] = {
    {"front.sock", offsetof(stet_paths, front)},
    {"back.sock", offsetof(stet_paths, back)},
    {"events-in.sock", offsetof(stet_paths, events_in)},
    {"events.sock", offsetof(stet_paths, events)},
};
enum { SOCKET_NAME_SIZE_MAX = sizeof "events-in.sock" - 1 };

static stet_code join(char *ret_path, const char *directory, const char *name, stet_error *e) {
    const char *slash = directory[0] == '/' && directory[1] == '\0' ? "" : "/";
    int size = snprintf(ret_path, STET_PATH_MAX, "%s%s%s", directory, slash, name);
    if (size < 0 || size >= STET_PATH_MAX)
        return stet_error_set(e, STET_TOO_LARGE,
                              "the path %.60s... is longer than %d bytes: use a shorter --data", directory,
                              STET_PATH_MAX - 1);
    return STET_OK;
}

static stet_code copy(char *ret_path, const char *path, stet_error *e) {
    size_t size = strlen(path);
    if (size >= STET_PATH_MAX)
        return stet_error_set(e, STET_TOO_LARGE,
                              "the path %.60s... is longer than %d bytes: use a shorter --data", path,
                              STET_PATH_MAX - 1);
    memcpy(ret_path, path, size + 1);
    return STET_OK;
}

static stet_code default_data(char ret_path[STET_PATH_MAX], stet_error *e) {
    const char *from = getenv("STET_DATA");
    if (from != NULL && from[0] != '\0')
        return copy(ret_path, from, e);
    from = getenv("XDG_DATA_HOME");
    if (from != NULL && from[0] == '/')
        return join(ret_path, from, "stet", e);
    from = getenv("HOME");
    if (from != NULL && from[0] == '/')
        return join(ret_path, from, ".local/share/stet", e);
    return stet_error_set(e, STET_INVALID, "no data directory: give --data DIR, or set STET_DATA or HOME");
}

/* Absolute, without symbolic links in the part that exists: the hash of a long path must be the same before
 * the directory is created and after, whatever way it was written. */
static stet_code absolute(const char *path, char ret_path[STET_PATH_MAX], stet_error *e) {
    char head[STET_PATH_MAX], tail[STET_PATH_MAX] = "", resolved[PATH_MAX];
    stet_code rc = STET_OK;
    if (path[0] == '/') {
        rc = copy(head, path, e);
    } else {
        char here[PATH_MAX];
        if (getcwd(here, sizeof here) == NULL)
            return stet_error_set(e, STET_INVALID, "the working directory is gone: give an absolute --data");
        rc = join(head, here, path, e);
    }
    while (rc == STET_OK && realpath(head, resolved) == NULL) {
        if (errno != ENOENT)
            return stet_error_set(e, STET_INVALID, "data directory %s: %s", head, strerror(errno));
        char *slash = strrchr(head, '/');
        ASSERT(slash != NULL); /* "/" itself always resolves */
        if (strcmp(slash + 1, "..") == 0)
            return stet_error_set(e, STET_INVALID, "data directory %s: does not exist and has '..' in it",
                                  path);
        char rest[STET_PATH_MAX];
        memcpy(rest, tail, sizeof rest);
        if (slash[1] != '\0' && strcmp(slash + 1, ".") != 0)
            rc = rest[0] == '\0' ? copy(tail, slash + 1, e) : join(tail, slash + 1, rest, e);
        *(slash == head ? slash + 1 : slash) = '\0';
    }
    if (rc != STET_OK)
        return rc;
    return tail[0] == '\0' ? copy(ret_path, resolved, e) : join(ret_path, resolved, tail, e);
}

static uint64_t fnv1a(const char *text) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * UINT64_C(1099511628211);
    return hash;
}

stet_code stet_paths_of(const char *data, stet_paths *ret, stet_error *e) {
    stet_paths paths = {0};
    char given[STET_PATH_MAX];
    stet_code rc = data != NULL && data[0] != '\0' ? copy(given, data, e) : default_data(given, e);
    if (rc == STET_OK)
        rc = absolute(given, paths.data, e);
    if (rc == STET_OK)
        rc = join(paths.log, paths.data, "log", e);
    if (rc == STET_OK)
        rc = join(paths.run, paths.data, "run", e);
    if (rc != STET_OK)
        return rc;
    if (strlen(paths.run) + 1 + SOCKET_NAME_SIZE_MAX > SOCKET_PATH_MAX)
        (void)snprintf(paths.run, sizeof paths.run, "/tmp/stet-%u-%016" PRIx64, (unsigned)getuid(),
                       fnv1a(paths.data));
    for (size_t i = 0; i < COUNT_OF(socket_names); i++) {
        char *endpoint = (char *)&paths + socket_names[i].offset;
        int size = snprintf(endpoint, STET_ENDPOINT_MAX, "ipc://%s/%s", paths.run, socket_names[i].name);
        ASSERT(size > 0 && size < STET_ENDPOINT_MAX);
    }
    *ret = paths;
    return STET_OK;
}

stet_code stet_make_directories(const char *path, stet_error *e) {
    char part[STET_PATH_MAX];
    stet_code rc = copy(part, path, e);
    if (rc != STET_OK)
        return rc;
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return stet_error_set(e, stet_code_of_disk(errno, STET_INVALID), "cannot create %s: %s", part,
                                  strerror(errno));
        if (end == '\0')
            break;
        *at = end;
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return stet_error_set(e, STET_INVALID, "%s is not a directory: move it away or choose another", path);
    return STET_OK;
}

stet_code stet_check_private(const char *path, bool may_be_link, stet_error *e) {
    struct stat info;
    if ((may_be_link ? stat(path, &info) : lstat(path, &info)) != 0)
        return stet_error_set(e, stet_code_of_disk(errno, STET_INVALID), "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return stet_error_set(e, STET_INVALID, "%s is not a directory: remove it", path);
    if (info.st_uid != geteuid())
        return stet_error_set(e, STET_FORBIDDEN,
                              "%s belongs to user %u: run as that user or use another --data", path,
                              (unsigned)info.st_uid);
    if ((info.st_mode & 0077) != 0)
        return stet_error_set(e, STET_FORBIDDEN, "%s has mode %04o, so others may enter: chmod 700 it", path,
                              (unsigned)(info.st_mode & 07777));
    return STET_OK;
}

stet_code stet_paths_create(const stet_paths *paths, stet_error *e) {
    const char *const directories[] = {paths->data, paths->run, paths->log};
    for (size_t i = 0; i < COUNT_OF(directories); i++) {
        stet_code rc = stet_make_directories(directories[i], e);
        if (rc != STET_OK)
            return rc;
    }
    return stet_check_private(paths->run, /* may_be_link= */ false, e);
}

stet_code stet_paths_actor(const stet_paths *paths, const char *actor, uint32_t partition,
                           char ret_path[STET_PATH_MAX], stet_error *e) {
    char name[64];
    int size = snprintf(name, sizeof name, "%s/%" PRIu32, actor, partition);
    ASSERT(size > 0 && (size_t)size < sizeof name);
    return join(ret_path, paths->data, name, e);
}

/* fcntl locks carry the holder's pid, which flock and open-file-description locks do not. */
static struct flock whole_file(short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
}

stet_code stet_lock_file(const char *directory, const char *name, int *ret_fd, stet_error *e) {
    char path[STET_PATH_MAX];
    stet_code rc = join(path, directory, name, e);
    if (rc != STET_OK)
        return rc;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return stet_error_set(e, stet_code_of_disk(errno, STET_INVALID), "cannot open %s: %s", path,
                              strerror(errno));
    struct flock lock = whole_file(F_WRLCK);
    if (fcntl(fd, F_SETLK, &lock) == 0) {
        *ret_fd = fd;
        return STET_OK;
    }
    bool taken = errno == EACCES || errno == EAGAIN;
    if (taken) {
        lock = whole_file(F_WRLCK);
        bool known = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
        rc = stet_error_set(e, STET_CONFLICT, "%s is held by process %d: stop it first", path,
                            known ? (int)lock.l_pid : 0);
    } else {
        rc = stet_error_set(e, STET_INTERNAL, "cannot lock %s: %s", path, strerror(errno));
    }
    (void)close(fd);
    return rc;
}

int64_t stet_lock_holder(const char *directory, const char *name) {
    char path[STET_PATH_MAX];
    if (join(path, directory, name, NULL) != STET_OK)
        return 0;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return 0;
    struct flock lock = whole_file(F_WRLCK);
    int64_t pid = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
    (void)close(fd);
    return pid;
}
