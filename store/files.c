#include "store/files.h"
#include "store/commit_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 64 << 10, HASH_TEXT_BYTES = 12 };
static const char memory_directory[] = "/dev/shm";

stet_code stet_files_code(int error) {
    return stet_code_of_disk(error, STET_INTERNAL);
}

static stet_code failed(const char *doing, const char *path, stet_error *e) {
    return stet_error_set(e, stet_files_code(errno), "%s %.120s: %s", doing, path, strerror(errno));
}

stet_code stet_files_join(const char *directory, const char *name, char ret[STET_PATH_MAX], stet_error *e) {
    int size = snprintf(ret, STET_PATH_MAX, "%s/%s", directory, name);
    if (size < 0 || size >= STET_PATH_MAX)
        return stet_error_set(e, STET_INVALID, "the path of the store's directory is too long");
    return STET_OK;
}

bool stet_files_exists(const char *path) {
    return access(path, F_OK) == 0;
}

stet_code stet_files_sync_directory(const char *path, stet_error *e) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed("opening", path, e);
    stet_code rc = fsync(fd) == 0 ? STET_OK : failed("syncing", path, e);
    (void)close(fd);
    return rc;
}

static stet_code write_all(int fd, const uint8_t *data, size_t size, const char *path, stet_error *e) {
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return failed("writing", path, e);
        data += written;
        size -= (size_t)written;
    }
    return STET_OK;
}

static stet_code copy_bytes(int from, int to, const char *path, stet_error *e) {
    uint8_t *bytes = malloc(COPY_BYTES);
    if (!bytes)
        return stet_error_set(e, STET_BUSY, "out of memory for copying %.120s", path);
    stet_code rc = STET_OK;
    while (rc == STET_OK) {
        ssize_t size = read(from, bytes, COPY_BYTES);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            rc = failed("reading", path, e);
        if (size <= 0)
            break;
        rc = write_all(to, bytes, (size_t)size, path, e);
    }
    if (rc == STET_OK && fsync(to) != 0)
        rc = failed("syncing", path, e);
    free(bytes);
    return rc;
}

static stet_code copy_file(const char *from, const char *to, stet_error *e) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return failed("opening", from, e);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    stet_code rc = out < 0 ? failed("creating", to, e) : copy_bytes(in, out, to, e);
    (void)close(in);
    if (out >= 0)
        (void)close(out);
    return rc;
}

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static stet_code copy_entry(const char *from, const char *to, const char *name, stet_error *e) {
    char source[STET_PATH_MAX], target[STET_PATH_MAX];
    stet_code rc = stet_files_join(from, name, source, e);
    if (rc == STET_OK)
        rc = stet_files_join(to, name, target, e);
    struct stat status;
    if (rc != STET_OK)
        return rc;
    if (lstat(source, &status) != 0)
        return failed("looking at", source, e);
    if (!S_ISREG(status.st_mode) || strcmp(name, "LOCK") == 0)
        return STET_OK;
    if (ends_with(name, ".sst") && link(source, target) == 0)
        return STET_OK;
    return copy_file(source, target, e);
}

typedef stet_code (*entry_visit)(const char *directory, const char *other, const char *name, stet_error *e);

static stet_code for_each_entry(const char *directory, const char *other, entry_visit visit, stet_error *e) {
    DIR *entries = opendir(directory);
    if (!entries)
        return failed("opening", directory, e);
    stet_code rc = STET_OK;
    while (rc == STET_OK) {
        const struct dirent *entry = readdir(entries);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = visit(directory, other, entry->d_name, e);
    }
    (void)closedir(entries);
    return rc;
}

stet_code stet_files_copy_database(const char *from, const char *to, stet_error *e) {
    if (mkdir(to, 0700) != 0)
        return failed("creating", to, e);
    stet_code rc = for_each_entry(from, to, copy_entry, e);
    return rc == STET_OK ? stet_files_sync_directory(to, e) : rc;
}

static stet_code remove_entry(const char *directory, const char *other, const char *name, stet_error *e) {
    (void)other;
    char path[STET_PATH_MAX];
    stet_code rc = stet_files_join(directory, name, path, e);
    if (rc == STET_OK && unlink(path) != 0 && errno != ENOENT)
        rc = failed("removing", path, e);
    return rc;
}

stet_code stet_files_remove_directory(const char *path, stet_error *e) {
    if (!stet_files_exists(path))
        return STET_OK;
    stet_code rc = for_each_entry(path, NULL, remove_entry, e);
    if (rc == STET_OK && rmdir(path) != 0)
        rc = failed("removing", path, e);
    return rc;
}

stet_code stet_files_exchange(const char *directory, const char *a, const char *b, stet_error *e) {
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0)
        return stet_files_sync_directory(directory, e);
    return failed("exchanging", a, e);
}

/* A directory in a place where anybody may write counts only when it is ours and closed to others. */
static bool own_directory(const char *path) {
    struct stat status;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return false;
    return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
           (status.st_mode & 0077) == 0;
}

bool stet_files_info_log_directory(const char *directory, bool read_only, char ret[STET_PATH_MAX]) {
    char real[PATH_MAX], parent[STET_PATH_MAX], name[2 * HASH_TEXT_BYTES + 32];
    if (!realpath(directory, real))
        return false;
    stet_hash hash = stet_hash_of(stet_str_of(real));
    for (int i = 0; i < HASH_TEXT_BYTES; i++)
        (void)snprintf(name + 2 * i, 3, "%02x", hash.bytes[i]);
    if (read_only)
        (void)snprintf(name + 2 * HASH_TEXT_BYTES, 32, "-%ld", (long)getpid());
    (void)snprintf(parent, sizeof parent, "%s/stet-%lu", memory_directory, (unsigned long)geteuid());
    if (!own_directory(parent) || stet_files_join(parent, name, ret, NULL) != STET_OK)
        return false;
    return own_directory(ret);
}
