/* The directory of known keys. In memory: sorted by name to be shown, hashed by public key to be found. */
#include "proto/keys/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SLOTS = 2 * STET_KEYS_MAX, FILES_MAX = 4 * STET_KEYS_MAX };
#define SUFFIX ".pub"

struct stet_keys {
    stet_known_key *items;
    uint32_t count, capacity;
    uint16_t slots[SLOTS]; /* index + 1, 0: empty; linear probing */
};

static bool name_valid(stet_str name) {
    if (name.size == 0 || name.size > STET_KEY_NAME_SIZE_MAX || name.data[0] == '.' || name.data[0] == '-')
        return false;
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '-' || c == '_'))
            return false;
    }
    return true;
}

static bool sessions_valid(const char *sessions) {
    for (const char *at = sessions; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == '"' || *at == 0x7f)
            return false;
    return strlen(sessions) <= STET_KEY_SESSIONS_BYTES_MAX;
}

static stet_code check_key(const stet_known_key *key, stet_error *e) {
    stet_str name = stet_str_of(key->name);
    if (!name_valid(name) || stet_str_is(name, "server"))
        return stet_error_field(e, STET_INVALID, "name",
                                "a key's name has 1 to %d of A-Z a-z 0-9 . - _ and is not 'server'",
                                STET_KEY_NAME_SIZE_MAX);
    if (key->role == STET_ROLE_NONE)
        return stet_error_field(e, STET_INVALID, "role", "a role is viewer, producer, control or actor");
    if (!sessions_valid(key->sessions))
        return stet_error_field(e, STET_INVALID, "sessions",
                                "sessions are at most %d bytes, without quotes and control characters",
                                STET_KEY_SESSIONS_BYTES_MAX);
    if (key->sessions[0] != '\0' && key->role != STET_ROLE_VIEWER)
        return stet_error_field(e, STET_INVALID, "sessions", "only a viewer can be limited to sessions");
    if (!stet_key_text_valid(stet_str_of(key->public_key)))
        return stet_error_field(e, STET_INVALID, "public", "a public key is 40 characters of Z85");
    return STET_OK;
}

bool stet_known_key_sees(const stet_known_key *key, stet_str session) {
    const char *at = key->sessions;
    if (*at == '\0')
        return true;
    while (*at != '\0') {
        size_t size = strcspn(at, ",");
        if (size > 0 && stet_str_equal(stet_str_from(at, size), session))
            return true;
        at += size + (at[size] == ',');
    }
    return false;
}

/* ---- paths ---- */

static stet_code path_in(const char *directory, const char *name, const char *suffix,
                         char ret_path[STET_PATH_MAX], stet_error *e) {
    int size = snprintf(ret_path, STET_PATH_MAX, "%s/%s%s", directory, name, suffix);
    return size > 0 && size < STET_PATH_MAX
               ? STET_OK
               : stet_error_set(e, STET_TOO_LARGE, "the path %.60s... is too long", directory);
}

stet_code stet_keys_directory(const char *setting, const stet_paths *paths, char ret_path[STET_PATH_MAX],
                              stet_error *e) {
    if (setting[0] == '\0')
        return path_in(paths->data, "keys", "", ret_path, e);
    if (setting[0] != '/' || strlen(setting) >= STET_PATH_MAX)
        return stet_error_field(e, STET_INVALID, "broker.keys", "broker.keys must be an absolute path");
    memcpy(ret_path, setting, strlen(setting) + 1);
    return STET_OK;
}

stet_code stet_keys_server_path(const char *directory, char ret_path[STET_PATH_MAX], stet_error *e) {
    return path_in(directory, "server.key", "", ret_path, e);
}

/* ---- reading ---- */

static stet_code read_key(const char *path, stet_str name, stet_known_key *ret, stet_error *e) {
    char role[16] = "";
    *ret = (stet_known_key){.role = STET_ROLE_NONE};
    key_line lines[] = {{"name", ret->name, sizeof ret->name, true, false},
                        {"role", role, sizeof role, true, false},
                        {"public", ret->public_key, sizeof ret->public_key, true, false},
                        {"sessions", ret->sessions, sizeof ret->sessions, false, false},
                        {"created", ret->created, sizeof ret->created, false, false}};
    stet_code rc = key_file_read(path, lines, COUNT_OF(lines), e);
    ret->role = stet_role_from_name(stet_str_of(role));
    if (rc == STET_OK)
        rc = check_key(ret, e);
    if (rc == STET_OK && !stet_str_equal(stet_str_of(ret->name), name))
        rc = stet_error_set(e, STET_INVALID, "%s: its name is another one", path);
    return rc;
}

static bool append(stet_keys *self, const stet_known_key *key) {
    if (self->count == self->capacity) {
        uint32_t capacity = self->capacity == 0 ? 16 : self->capacity * 2;
        stet_known_key *items = reallocarray(self->items, capacity, sizeof *items);
        if (items == NULL)
            return false;
        self->items = items;
        self->capacity = capacity;
    }
    self->items[self->count++] = *key;
    return true;
}

static stet_code read_files(const char *directory, DIR *dir, stet_keys *self, uint32_t *ret_bad,
                            stet_error *e) {
    uint32_t files = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t size = strlen(entry->d_name), suffix = sizeof SUFFIX - 1;
        if (size <= suffix || strcmp(entry->d_name + size - suffix, SUFFIX) != 0)
            continue;
        char path[STET_PATH_MAX];
        stet_known_key key;
        stet_error inner;
        if (++files > FILES_MAX || self->count == STET_KEYS_MAX)
            return stet_error_set(e, STET_TOO_LARGE, "%s holds more than %d keys", directory, STET_KEYS_MAX);
        stet_code rc = path_in(directory, entry->d_name, "", path, &inner);
        if (rc == STET_OK)
            rc = read_key(path, stet_str_from(entry->d_name, size - suffix), &key, &inner);
        if (rc == STET_NOT_FOUND) /* revoked meanwhile */
            continue;
        if (rc != STET_OK) {
            ++*ret_bad;
            if (e != NULL)
                *e = inner;
        } else if (!append(self, &key)) {
            return stet_error_set(e, STET_UNAVAILABLE, "out of memory");
        }
    }
    return STET_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const stet_known_key *)a)->name, ((const stet_known_key *)b)->name);
}

static uint32_t slot_of(stet_str public_key) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < public_key.size; i++)
        hash = (hash ^ (uint8_t)public_key.data[i]) * 16777619u;
    return hash % SLOTS;
}

const stet_known_key *stet_keys_find(const stet_keys *self, stet_str public_key) {
    if (self == NULL)
        return NULL;
    for (uint32_t slot = slot_of(public_key); self->slots[slot] != 0; slot = (slot + 1) % SLOTS) {
        const stet_known_key *key = &self->items[self->slots[slot] - 1];
        if (stet_str_is(public_key, key->public_key))
            return key;
    }
    return NULL;
}

/* Drops the second of two with one public key: revoking one of them would otherwise change nothing. */
static void index_keys(stet_keys *self, uint32_t *ret_bad, stet_error *e) {
    uint32_t kept = 0;
    if (self->count > 0)
        qsort(self->items, self->count, sizeof *self->items, by_name);
    for (uint32_t i = 0; i < self->count; i++) {
        stet_str public_key = stet_str_of(self->items[i].public_key);
        if (stet_keys_find(self, public_key) != NULL) {
            ++*ret_bad;
            (void)stet_error_set(e, STET_INVALID, "the key %s is there under two names", self->items[i].name);
            continue;
        }
        if (kept != i)
            self->items[kept] = self->items[i];
        uint32_t slot = slot_of(stet_str_of(self->items[kept].public_key));
        while (self->slots[slot] != 0)
            slot = (slot + 1) % SLOTS;
        self->slots[slot] = (uint16_t)++kept;
    }
    self->count = kept;
}

stet_code stet_keys_load(const char *directory, stet_keys **ret, uint32_t *ret_bad, stet_error *e) {
    stet_keys *self = calloc(1, sizeof *self);
    *ret_bad = 0;
    if (self == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "out of memory");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    stet_code rc = STET_OK;
    if (fd < 0 && errno != ENOENT)
        rc = stet_error_set(e, STET_INVALID, "cannot read %s: %s", directory, strerror(errno));
    if (fd >= 0)
        rc = key_check_private(fd, directory, /* directory= */ true, e);
    DIR *dir = rc == STET_OK && fd >= 0 ? fdopendir(fd) : NULL;
    if (dir != NULL)
        rc = read_files(directory, dir, self, ret_bad, e);
    else if (rc == STET_OK && fd >= 0)
        rc = stet_error_set(e, STET_UNAVAILABLE, "cannot read %s: %s", directory, strerror(errno));
    if (dir != NULL)
        (void)closedir(dir);
    else if (fd >= 0)
        (void)close(fd);
    if (rc != STET_OK) {
        (void)stet_keys_free(self);
        return rc;
    }
    index_keys(self, ret_bad, e);
    *ret = self;
    return STET_OK;
}

stet_keys *stet_keys_free(stet_keys *self) {
    if (self != NULL)
        free(self->items);
    free(self);
    return NULL;
}

uint32_t stet_keys_count(const stet_keys *self) {
    return self != NULL ? self->count : 0;
}

const stet_known_key *stet_keys_at(const stet_keys *self, uint32_t index) {
    ASSERT(index < self->count);
    return &self->items[index];
}

bool stet_keys_narrowed(const stet_keys *before, const stet_keys *now) {
    for (uint32_t i = 0; i < stet_keys_count(before); i++) {
        const stet_known_key *old = &before->items[i];
        const stet_known_key *key = stet_keys_find(now, stet_str_of(old->public_key));
        if (key == NULL || key->role != old->role || strcmp(key->sessions, old->sessions) != 0)
            return true;
    }
    return false;
}

/* ---- changing ---- */

static stet_code open_directory(const char *directory, stet_error *e) {
    stet_code rc = stet_make_directories(directory, e);
    if (rc != STET_OK)
        return rc;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return stet_error_set(e, STET_INVALID, "cannot open %s: %s", directory, strerror(errno));
    rc = key_check_private(fd, directory, /* directory= */ true, e);
    (void)close(fd);
    return rc;
}

stet_code stet_keys_add(const char *directory, const stet_known_key *key, stet_error *e) {
    char path[STET_PATH_MAX];
    stet_code rc = check_key(key, e);
    if (rc == STET_OK)
        rc = open_directory(directory, e);
    if (rc == STET_OK)
        rc = path_in(directory, key->name, SUFFIX, path, e);
    if (rc != STET_OK)
        return rc;
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(KEY_FILE_BYTES_MAX);
    stet_buf_append_str(&text,
                        STET_STR("# A key that may connect. To take it back: stet keys revoke NAME\n"));
    key_line_put(&text, "name", key->name);
    key_line_put(&text, "role", stet_role_name(key->role));
    key_line_put(&text, "public", key->public_key);
    if (key->sessions[0] != '\0')
        key_line_put(&text, "sessions", key->sessions);
    key_line_put(&text, "created", key->created);
    if (!stet_buf_ok(&text))
        return stet_error_set(e, STET_UNAVAILABLE, "out of memory");
    return key_file_write(path, stet_buf_str(&text), e);
}

stet_code stet_keys_remove(const char *directory, const char *name, stet_error *e) {
    char path[STET_PATH_MAX];
    if (!name_valid(stet_str_of(name)))
        return stet_error_field(e, STET_INVALID, "name", "'%.64s' is not the name of a key", name);
    stet_code rc = path_in(directory, name, SUFFIX, path, e);
    if (rc != STET_OK)
        return rc;
    if (unlink(path) != 0)
        return errno == ENOENT
                   ? stet_error_set(e, STET_NOT_FOUND, "there is no key %s in %s", name, directory)
                   : stet_error_set(e, STET_UNAVAILABLE, "cannot remove %s: %s", path, strerror(errno));
    return key_directory_sync(path, e);
}
