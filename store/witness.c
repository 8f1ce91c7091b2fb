#include "store/witness.h"
#include "proto/base/fault.h"
#include "proto/base/log.h"
#include "proto/base/paths.h"
#include "proto/base/plant.h"
#include "store/bytes.h"
#include "store/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SLOTS = 2,
    SLOT_STRIDE = 4096,
    AT_GENERATION = 8,
    AT_EPOCH = 16,
    AT_NUMBER = 24,
    AT_HASH = 32,
    AT_MANIFEST_NUMBER = 64,
    AT_MANIFEST_BYTES = 72,
    AT_MANIFEST_HASH = 80,
    AT_CHECK = 112,
    SLOT_BYTES = 144
};
_Static_assert(AT_HASH + STET_HASH_BYTES == AT_MANIFEST_NUMBER &&
                   AT_MANIFEST_HASH + STET_HASH_BYTES == AT_CHECK,
               "the check covers everything before it");

static const char magic[8] = {'S', 'T', 'E', 'T', 'W', 'I', 'T', '2'};

struct stet_witness {
    int fd;
    uint64_t generation;
    stet_manifest manifest; /* as it was last synced */
    char directory[STET_PATH_MAX];
};

static bool witness_path(const char *directory, char path[STET_PATH_MAX]) {
    int size = snprintf(path, STET_PATH_MAX, "%s/witness", directory);
    return size > 0 && size < STET_PATH_MAX;
}

static bool is_blank(const uint8_t *bytes, size_t size) {
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    return size == 0;
}

static bool decode(const uint8_t slot[SLOT_BYTES], stet_witness_record *ret) {
    stet_hash check = stet_hash_of(stet_str_from(slot, AT_CHECK));
    if (memcmp(slot, magic, sizeof magic) != 0 ||
        memcmp(slot + AT_CHECK, check.bytes, sizeof check.bytes) != 0)
        return false;
    ret->state = STET_WITNESS_KNOWN;
    ret->generation = bytes_get_u64(slot + AT_GENERATION);
    ret->epoch = bytes_get_u64(slot + AT_EPOCH);
    ret->number = bytes_get_u64(slot + AT_NUMBER);
    memcpy(ret->hash.bytes, slot + AT_HASH, STET_HASH_BYTES);
    ret->manifest.number = bytes_get_u64(slot + AT_MANIFEST_NUMBER);
    ret->manifest.bytes = bytes_get_u64(slot + AT_MANIFEST_BYTES);
    memcpy(ret->manifest.hash.bytes, slot + AT_MANIFEST_HASH, STET_HASH_BYTES);
    return true;
}

stet_code stet_witness_read(const char *directory, stet_witness_record *ret, stet_error *e) {
    *ret = (stet_witness_record){.state = STET_WITNESS_NONE};
    char path[STET_PATH_MAX];
    if (!witness_path(directory, path))
        return stet_error_set(e, STET_INVALID, "the path of the store's directory is too long");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return STET_OK;
    if (fd < 0)
        return stet_error_set(e, stet_files_code(errno), "%s cannot be opened: %s", path, strerror(errno));
    bool blank[SLOTS] = {false};
    for (int i = 0; i < SLOTS; i++) {
        uint8_t slot[SLOT_BYTES];
        stet_witness_record record;
        ssize_t size;
        do
            size = pread(fd, slot, sizeof slot, (off_t)i * SLOT_STRIDE);
        while (size < 0 && errno == EINTR);
        if (size < 0) {
            stet_code rc =
                stet_error_set(e, stet_files_code(errno), "%s cannot be read: %s", path, strerror(errno));
            (void)close(fd);
            return rc;
        }
        blank[i] = is_blank(slot, (size_t)size);
        if (ret->state == STET_WITNESS_NONE && !blank[i])
            ret->state = STET_WITNESS_DAMAGED;
        if (size == (ssize_t)sizeof slot && decode(slot, &record) &&
            (ret->state != STET_WITNESS_KNOWN || record.generation > ret->generation))
            *ret = record;
    }
    (void)close(fd);
    /* The first write of all, generation 1, knows of no commit yet and may have been cut or torn. */
    if (ret->state == STET_WITNESS_DAMAGED && blank[2 % SLOTS])
        ret->state = STET_WITNESS_NONE;
    return STET_OK;
}

stet_code stet_witness_open(const char *directory, const stet_witness_record *from, stet_witness **ret,
                            stet_error *e) {
    char path[STET_PATH_MAX];
    if (!witness_path(directory, path))
        return stet_error_set(e, STET_INVALID, "the path of the store's directory is too long");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return stet_error_set(e, stet_files_code(errno), "%s cannot be opened: %s", path, strerror(errno));
    /* Its blocks are taken now, so that the witness can still be written when the disk is full. */
    if (fallocate(fd, 0, 0, SLOTS * SLOT_STRIDE) != 0 && stet_files_code(errno) == STET_UNAVAILABLE) {
        (void)close(fd);
        return stet_error_set(e, STET_UNAVAILABLE, "no room for %s: make room on the disk", path);
    }
    stet_code rc = stet_files_sync_directory(directory, e);
    stet_witness *self = rc == STET_OK ? malloc(sizeof *self) : NULL;
    if (!self) {
        (void)close(fd);
        return rc != STET_OK ? rc : stet_error_set(e, STET_BUSY, "out of memory for the store");
    }
    *self = (stet_witness){.fd = fd, .generation = from->generation};
    (void)snprintf(self->directory, sizeof self->directory, "%s", directory);
    *ret = self;
    return STET_OK;
}

stet_code stet_witness_write(stet_witness *self, uint64_t epoch, uint64_t number, const stet_hash *hash,
                             stet_error *e) {
    uint64_t generation = self->generation + 1;
    uint8_t slot[SLOT_BYTES];
    stet_code rc = stet_manifest_sync(self->directory, &self->manifest, e);
    if (rc != STET_OK)
        return rc;
    memcpy(slot, magic, sizeof magic);
    bytes_put_u64(slot + AT_GENERATION, generation);
    bytes_put_u64(slot + AT_EPOCH, epoch);
    bytes_put_u64(slot + AT_NUMBER, number);
    memcpy(slot + AT_HASH, hash->bytes, STET_HASH_BYTES);
    bytes_put_u64(slot + AT_MANIFEST_NUMBER, self->manifest.number);
    bytes_put_u64(slot + AT_MANIFEST_BYTES, self->manifest.bytes);
    memcpy(slot + AT_MANIFEST_HASH, self->manifest.hash.bytes, STET_HASH_BYTES);
    stet_hash check = stet_hash_of(stet_str_from(slot, AT_CHECK));
    memcpy(slot + AT_CHECK, check.bytes, sizeof check.bytes);
    FAULT(witness_before);
    ssize_t size;
    do
        size = pwrite(self->fd, slot, sizeof slot, (off_t)(generation % SLOTS) * SLOT_STRIDE);
    while (size < 0 && errno == EINTR);
    FAULT(witness_between);
    if (size != (ssize_t)sizeof slot || fdatasync(self->fd) != 0)
        return stet_error_set(e, STET_BUSY, "the witness cannot be written: %s; end the process",
                              strerror(errno));
    FAULT(witness_after);
    self->generation = generation;
    return STET_OK;
}

stet_witness *stet_witness_close(stet_witness *self) {
    if (self) {
        (void)close(self->fd);
        free(self);
    }
    return NULL;
}

stet_code stet_witness_compare(const stet_witness_record *witness, const stet_head *head,
                               const char *directory, stet_error *e) {
    uint64_t number = head->present ? head->record.number : 0;
    if (witness->state == STET_WITNESS_DAMAGED)
        return stet_error_set(
            e, STET_INTERNAL,
            "%.80s ends at commit %llu, but its witness is damaged: restore a backup, or delete the "
            "file 'witness' to accept what is there",
            directory, (unsigned long long)number);
    if (witness->state == STET_WITNESS_NONE) {
        if (number > 1)
            stet_log(STET_WARN, "store.witness.missing", "nothing tells whether the database is complete",
                     STET_LOG_C("path", directory), STET_LOG_I("number", (int64_t)number));
        return STET_OK;
    }
    if (number < witness->number && !PLANT(witness_ignored))
        return stet_error_set(
            e, STET_INTERNAL,
            "%.80s ends at commit %llu, but %llu was acknowledged: data is missing; nothing is served "
            "or changed; restore a backup",
            directory, (unsigned long long)number, (unsigned long long)witness->number);
    if (number == witness->number && !stet_hash_equal(&head->hash, &witness->hash))
        return stet_error_set(e, STET_INTERNAL,
                              "%.80s: commit %llu is not the one that was acknowledged: restore a backup",
                              directory, (unsigned long long)number);
    return STET_OK;
}
