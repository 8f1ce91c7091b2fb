#include "proto/keys/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

void stet_keys_wipe(stet_buf *b) {
    if (b->data != NULL)
        sodium_memzero(b->data, b->capacity);
    stet_buf_done(b);
}

stet_code key_check_private(int fd, const char *path, bool directory, stet_error *e) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return stet_error_set(e, STET_INVALID, "%s: %s", path, strerror(errno));
    if (directory ? !S_ISDIR(info.st_mode) : !S_ISREG(info.st_mode))
        return stet_error_set(e, STET_INVALID, "%s is not a %s", path, directory ? "directory" : "file");
    if (info.st_uid != geteuid())
        return stet_error_set(e, STET_FORBIDDEN, "%s belongs to user %u, not to you", path,
                              (unsigned)info.st_uid);
    if ((info.st_mode & 0077) != 0)
        return stet_error_set(e, STET_FORBIDDEN, "%s has mode %04o, so others may read it: chmod %s it", path,
                              (unsigned)(info.st_mode & 07777), directory ? "700" : "600");
    return STET_OK;
}

/* ---- reading ---- */

static stet_code read_text(const char *path, stet_buf *ret_text, stet_error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return stet_error_set(e, errno == ENOENT ? STET_NOT_FOUND : STET_INVALID, "cannot read %s: %s", path,
                              strerror(errno));
    stet_code rc = key_check_private(fd, path, /* directory= */ false, e);
    /* The whole room at once: a buffer that grows would leave copies of a secret behind. */
    uint8_t *room = rc == STET_OK ? stet_buf_extend(ret_text, KEY_FILE_BYTES_MAX) : NULL;
    if (rc == STET_OK && room == NULL)
        rc = stet_error_set(e, STET_UNAVAILABLE, "out of memory");
    size_t size = 0;
    while (rc == STET_OK) {
        ssize_t got = read(fd, room + size, KEY_FILE_BYTES_MAX - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = stet_error_set(e, STET_INVALID, "cannot read %s: %s", path, strerror(errno));
        if (got <= 0)
            break;
        size += (size_t)got;
        if (size == KEY_FILE_BYTES_MAX)
            rc = stet_error_set(e, STET_INVALID, "%s is too large for a key", path);
    }
    (void)close(fd);
    if (rc == STET_OK)
        stet_buf_truncate(ret_text, size);
    return rc;
}

/* Splits `name = "value"`; false when the line is anything else. */
static bool split(stet_str line, stet_str *ret_name, stet_str *ret_value) {
    static const char between[] = " = \"";
    const char *at = memmem(line.data, line.size, between, sizeof between - 1);
    if (at == NULL || line.data[line.size - 1] != '"')
        return false;
    *ret_name = stet_str_from(line.data, (size_t)(at - line.data));
    at += sizeof between - 1;
    const char *end = line.data + line.size - 1;
    if (at > end)
        return false;
    *ret_value = stet_str_from(at, (size_t)(end - at));
    return memchr(at, '"', ret_value->size) == NULL;
}

static stet_code take_line(const char *path, stet_str line, key_line *lines, size_t lines_count,
                           stet_error *e) {
    stet_str name, value;
    if (!split(line, &name, &value))
        return stet_error_set(e, STET_INVALID, "%s: a line is not NAME = \"VALUE\"", path);
    for (size_t i = 0; i < lines_count; i++) {
        if (!stet_str_is(name, lines[i].name))
            continue;
        if (lines[i].seen || value.size >= lines[i].size_max || memchr(value.data, '\0', value.size) != NULL)
            return stet_error_set(e, STET_INVALID, "%s: %s stands twice or is too long", path, lines[i].name);
        memcpy(lines[i].value, value.data, value.size);
        lines[i].value[value.size] = '\0';
        lines[i].seen = true;
        return STET_OK;
    }
    return stet_error_set(e, STET_INVALID, "%s: a line has an unknown name", path);
}

stet_code key_file_read(const char *path, key_line *lines, size_t lines_count, stet_error *e) {
    CLEANUP(stet_keys_wipe) stet_buf text = STET_BUF(KEY_FILE_BYTES_MAX);
    stet_code rc = read_text(path, &text, e);
    stet_str rest = stet_buf_str(&text);
    while (rc == STET_OK && rest.size > 0) {
        const char *end = memchr(rest.data, '\n', rest.size);
        stet_str line = stet_str_from(rest.data, end != NULL ? (size_t)(end - rest.data) : rest.size);
        size_t used = line.size + (end != NULL);
        rest = stet_str_from(rest.data + used, rest.size - used);
        if (line.size > 0 && line.data[0] != '#')
            rc = take_line(path, line, lines, lines_count, e);
    }
    for (size_t i = 0; rc == STET_OK && i < lines_count; i++)
        if (lines[i].required && !lines[i].seen)
            rc = stet_error_set(e, STET_INVALID, "%s: %s is missing", path, lines[i].name);
    return rc;
}

/* ---- writing ---- */

void key_line_put(stet_buf *b, const char *name, const char *value) {
    stet_buf_append_str(b, stet_str_of(name));
    stet_buf_append_str(b, STET_STR(" = \""));
    stet_buf_append_str(b, stet_str_of(value));
    stet_buf_append_str(b, STET_STR("\"\n"));
}

static void directory_of(const char *path, char ret_path[STET_PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    ASSERT(size < STET_PATH_MAX);
    memcpy(ret_path, size > 0 ? path : ".", size > 0 ? size : 1);
    ret_path[size > 0 ? size : 1] = '\0';
}

stet_code key_directory_sync(const char *path, stet_error *e) {
    char directory[STET_PATH_MAX];
    directory_of(path, directory);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        (void)close(fd);
    return good ? STET_OK
                : stet_error_set(e, STET_UNAVAILABLE, "cannot sync %s: %s", directory, strerror(error));
}

static bool write_all(int fd, stet_str text) {
    for (size_t done = 0; done < text.size;) {
        ssize_t put = write(fd, text.data + done, text.size - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += (size_t)put;
    }
    return fsync(fd) == 0;
}

stet_code key_file_write(const char *path, stet_str text, stet_error *e) {
    char beside[STET_PATH_MAX + 16];
    int size = snprintf(beside, sizeof beside, "%s.XXXXXX", path);
    if (size < 0 || (size_t)size >= STET_PATH_MAX)
        return stet_error_set(e, STET_TOO_LARGE, "the path %.60s... is too long", path);
    int fd = mkostemp(beside, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return stet_error_set(e, STET_INVALID, "cannot write %s: %s", path, strerror(errno));
    bool written = write_all(fd, text);
    int error = errno;
    (void)close(fd);
    /* A link does not replace what is there, as a rename would. */
    if (written && link(beside, path) != 0) {
        written = false;
        error = errno;
    }
    (void)unlink(beside);
    if (!written)
        return stet_error_set(e, error == EEXIST ? STET_CONFLICT : STET_UNAVAILABLE, "cannot write %s: %s",
                              path, strerror(error));
    return key_directory_sync(path, e);
}
