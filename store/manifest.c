#include "store/manifest.h"
#include "proto/base/log.h"
#include "store/files.h"
#include "store/log_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_BYTES = 64 << 10, CURRENT_BYTES = 64, CUT_BYTES_MAX = 64 << 20 };

static stet_code failed(const char *path, stet_error *e) {
    return stet_error_set(e, stet_files_code(errno), "%.150s cannot be read: %s", path, strerror(errno));
}

static ssize_t read_some(int fd, void *into, size_t size) {
    ssize_t got;
    do
        got = read(fd, into, size);
    while (got < 0 && errno == EINTR);
    return got;
}

/* The number in "MANIFEST-000123\n"; 0 when there is no such file, or other words in it: RocksDB will say so. */
static stet_code current_number(const char *db, uint64_t *ret, stet_error *e) {
    static const char prefix[] = "MANIFEST-";
    char path[STET_PATH_MAX], text[CURRENT_BYTES] = "";
    *ret = 0;
    stet_code rc = stet_files_join(db, "CURRENT", path, e);
    if (rc != STET_OK)
        return rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? STET_OK : failed(path, e);
    ssize_t size = read_some(fd, text, sizeof text - 1);
    if (size < 0)
        rc = failed(path, e);
    (void)close(fd);
    char *end = NULL;
    if (rc == STET_OK && strncmp(text, prefix, sizeof prefix - 1) == 0) {
        uint64_t number = strtoull(text + sizeof prefix - 1, &end, 10);
        if (end && *end == '\n')
            *ret = number;
    }
    return rc;
}

static stet_code open_current(const char *db, int flags, uint64_t *ret_number, int *ret_fd,
                              char path[STET_PATH_MAX], stet_error *e) {
    char name[32];
    *ret_fd = -1;
    stet_code rc = current_number(db, ret_number, e);
    if (rc != STET_OK || *ret_number == 0)
        return rc;
    (void)snprintf(name, sizeof name, "MANIFEST-%06" PRIu64, *ret_number);
    rc = stet_files_join(db, name, path, e);
    if (rc != STET_OK)
        return rc;
    *ret_fd = open(path, flags | O_CLOEXEC);
    if (*ret_fd < 0 && errno != ENOENT)
        return failed(path, e);
    return STET_OK;
}

static stet_code hash_file(int fd, const char *path, uint64_t bytes_max, stet_manifest *ret, stet_error *e) {
    uint8_t *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        return stet_error_set(e, STET_BUSY, "out of memory for the manifest");
    crypto_generichash_state state;
    (void)crypto_generichash_init(&state, NULL, 0, sizeof ret->hash.bytes);
    stet_code rc = STET_OK;
    ret->bytes = 0;
    while (ret->bytes < bytes_max) {
        uint64_t left = bytes_max - ret->bytes;
        ssize_t size = read_some(fd, chunk, left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES);
        if (size < 0)
            rc = failed(path, e);
        if (size <= 0)
            break;
        (void)crypto_generichash_update(&state, chunk, (size_t)size);
        ret->bytes += (uint64_t)size;
    }
    (void)crypto_generichash_final(&state, ret->hash.bytes, sizeof ret->hash.bytes);
    free(chunk);
    return rc;
}

stet_code stet_manifest_read(const char *directory, uint64_t bytes_max, stet_manifest *ret, stet_error *e) {
    char path[STET_PATH_MAX], db[STET_PATH_MAX];
    int fd = -1;
    *ret = (stet_manifest){.number = 0};
    stet_code rc = stet_files_join(directory, "db", db, e);
    if (rc == STET_OK)
        rc = open_current(db, O_RDONLY, &ret->number, &fd, path, e);
    if (rc != STET_OK || fd < 0)
        return rc;
    rc = hash_file(fd, path, bytes_max, ret, e);
    (void)close(fd);
    return rc;
}

stet_code stet_manifest_sync(const char *directory, stet_manifest *known, stet_error *e) {
    char path[STET_PATH_MAX], db[STET_PATH_MAX];
    stet_manifest found = {.number = 0};
    struct stat status;
    int fd = -1;
    stet_code rc = stet_files_join(directory, "db", db, e);
    if (rc == STET_OK)
        rc = open_current(db, O_RDONLY, &found.number, &fd, path, e);
    if (rc != STET_OK || fd < 0)
        return rc;
    if (fstat(fd, &status) != 0)
        rc = failed(path, e);
    bool same = found.number == known->number;
    if (rc != STET_OK || (same && (uint64_t)status.st_size == known->bytes)) {
        (void)close(fd);
        return rc;
    }
    /* The size from before the sync: what is appended meanwhile may not be covered by it. */
    rc = fdatasync(fd) == 0 ? STET_OK : failed(path, e);
    if (rc == STET_OK)
        rc = hash_file(fd, path, (uint64_t)status.st_size, &found, e);
    (void)close(fd);
    if (rc == STET_OK && !same)
        rc = stet_files_sync_directory(db, e);
    if (rc == STET_OK)
        *known = found;
    return rc;
}

/* Up to where the manifest is whole, at least what is known of it. */
static stet_code whole_bytes(int fd, const char *path, uint64_t known_bytes, uint64_t *ret_size,
                             uint64_t *ret_whole, stet_error *e) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return failed(path, e);
    *ret_size = *ret_whole = (uint64_t)status.st_size;
    if (*ret_size <= known_bytes || *ret_size > CUT_BYTES_MAX)
        return STET_OK;
    uint8_t *bytes = malloc(*ret_size);
    if (!bytes)
        return stet_error_set(e, STET_BUSY, "out of memory for the manifest");
    stet_code rc = STET_OK;
    size_t size = 0;
    while (rc == STET_OK && size < *ret_size) {
        ssize_t got = read_some(fd, bytes + size, *ret_size - size);
        if (got <= 0)
            rc = failed(path, e);
        else
            size += (size_t)got;
    }
    if (rc == STET_OK) {
        *ret_whole = stet_log_format_whole(stet_str_from(bytes, size));
        if (*ret_whole < known_bytes) /* the record that the witness saw half of */
            *ret_whole = known_bytes;
    }
    free(bytes);
    return rc;
}

stet_code stet_manifest_cut(const char *db, const stet_manifest *known, bool *ret_cut, stet_error *e) {
    char path[STET_PATH_MAX];
    uint64_t number = 0, size = 0, whole = 0;
    int fd = -1;
    *ret_cut = false;
    stet_code rc = open_current(db, O_RDWR, &number, &fd, path, e);
    if (rc != STET_OK || fd < 0)
        return rc;
    if (known->number != 0 && number == known->number)
        rc = whole_bytes(fd, path, known->bytes, &size, &whole, e);
    if (rc == STET_OK && whole < size) {
        *ret_cut = true;
        if (ftruncate(fd, (off_t)whole) != 0 || fsync(fd) != 0)
            rc = stet_error_set(e, stet_files_code(errno), "%.150s cannot be cut: %s", path, strerror(errno));
    }
    (void)close(fd);
    if (rc == STET_OK && *ret_cut)
        stet_log(STET_WARN, "store.manifest.torn",
                 "the last record of the manifest was torn; the copy goes on without it",
                 STET_LOG_C("path", path), STET_LOG_I("bytes", (int64_t)size),
                 STET_LOG_I("whole", (int64_t)whole));
    return rc;
}
