#include "store/recovery.h"
#include "proto/base/fault.h"
#include "proto/base/log.h"
#include "store/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DAMAGED_MAX = 1000 };

typedef struct recovery {
    const stet_recovery_options *options;
    char db[STET_PATH_MAX], copy[STET_PATH_MAX], ready[STET_PATH_MAX];
    stet_witness_record witness;
} recovery;

static unsigned long long llu(uint64_t n) {
    return n;
}

static stet_code move(const recovery *self, const char *from, const char *to, stet_error *e) {
    if (rename(from, to) != 0)
        return stet_error_set(e, stet_files_code(errno), "renaming %.100s: %s", from, strerror(errno));
    return stet_files_sync_directory(self->options->directory, e);
}

static stet_code keep_as_damaged(const recovery *self, const char *path, stet_error *e) {
    for (int i = 1; i <= DAMAGED_MAX; i++) {
        char name[32], kept[STET_PATH_MAX];
        (void)snprintf(name, sizeof name, "db.damaged-%d", i);
        stet_code rc = stet_files_join(self->options->directory, name, kept, e);
        if (rc != STET_OK)
            return rc;
        if (stet_files_exists(kept))
            continue;
        rc = move(self, path, kept, e);
        if (rc == STET_OK)
            stet_log(STET_WARN, "store.damaged.kept",
                     "a damaged database was put aside; delete it when understood", STET_LOG_C("path", kept));
        return rc;
    }
    return stet_error_set(e, STET_INTERNAL, "%.120s has %d damaged databases put aside: delete some",
                          self->options->directory, DAMAGED_MAX);
}

/* What an interrupted recovery left. db.ready is either the good copy before the exchange or the damaged
 * original after it; either way nothing is lost by keeping it and deciding again, unless db/ is not there at
 * all. */
static stet_code tidy(const recovery *self, stet_error *e) {
    stet_code rc = stet_files_remove_directory(self->copy, e);
    if (rc != STET_OK || !stet_files_exists(self->ready))
        return rc;
    if (!stet_files_exists(self->db))
        return move(self, self->ready, self->db, e);
    return keep_as_damaged(self, self->ready, e);
}

static bool has_ending(const char *name, const char *ending) {
    size_t size = strlen(name), ending_size = strlen(ending);
    return size >= ending_size && strcmp(name + size - ending_size, ending) == 0;
}

/* RocksDB takes a directory without CURRENT for an empty one and would delete the tables in it. */
static bool holds_rows(const char *db) {
    DIR *entries = opendir(db);
    if (!entries)
        return false;
    bool found = false;
    for (const struct dirent *entry = readdir(entries); entry && !found; entry = readdir(entries))
        found = has_ending(entry->d_name, ".sst") || has_ending(entry->d_name, ".log");
    (void)closedir(entries);
    return found;
}

static stet_code open_at(const recovery *self, const char *db, stet_log_recovery mode, bool create,
                         stet_rocks **ret, stet_head *ret_head, bool *ret_corrupt, stet_error *e) {
    const stet_recovery_options *options = self->options;
    stet_rocks_options rocks_options = {.db = db,
                                        .log_directory = options->log_directory,
                                        .memory_bytes = options->memory_bytes,
                                        .recovery = mode,
                                        .create = create,
                                        .no_sync = options->no_sync};
    stet_rocks *rocks = NULL;
    stet_code rc = stet_rocks_open(&rocks_options, &rocks, ret_corrupt, e);
    if (rc != STET_OK)
        return rc;
    rc = stet_head_load(stet_rocks_get, rocks, options->partition, options->directory, ret_head, e);
    if (rc == STET_OK)
        rc = stet_witness_compare(&self->witness, ret_head, options->directory, e);
    if (rc != STET_OK)
        rocks = stet_rocks_close(rocks);
    *ret = rocks;
    return rc;
}

static stet_code swap_in(const recovery *self, stet_error *e) {
    stet_code rc = move(self, self->copy, self->ready, e);
    FAULT(recovery_ready);
    if (rc == STET_OK)
        rc = stet_files_exchange(self->options->directory, self->db, self->ready, e);
    FAULT(recovery_exchanged);
    if (rc == STET_OK)
        rc = keep_as_damaged(self, self->ready, e);
    FAULT(recovery_kept);
    return rc;
}

/* Strict recovery has called the log or the manifest corrupt. The innocent reason is a last record that was being written
 * when the machine stopped; only a copy may be opened in the mode that drops it, and only the witness can
 * tell. */
static stet_code recover(const recovery *self, stet_head *ret_head, stet_error *e) {
    stet_error found = *e; /* RocksDB's own words */
    if (self->witness.state != STET_WITNESS_KNOWN)
        return stet_error_set(
            e, STET_INTERNAL,
            "%.60s is damaged and has no witness: restore a backup; nothing was changed (%.100s)",
            self->options->directory, found.message);
    FAULT(recovery_begin);
    stet_code rc = stet_files_copy_database(self->db, self->copy, e);
    if (rc != STET_OK)
        return rc;
    FAULT(recovery_copied);
    stet_rocks *rocks = NULL;
    bool corrupt = false, cut;
    rc = stet_manifest_cut(self->copy, &self->witness.manifest, &cut, e);
    if (rc == STET_OK)
        rc = open_at(self, self->copy, STET_LOG_POINT_IN_TIME, /* create= */ false, &rocks, ret_head,
                     &corrupt, e);
    rocks = stet_rocks_close(rocks);
    if (rc == STET_OK) {
        FAULT(recovery_opened);
        stet_log(STET_WARN, "store.tail.torn",
                 "the last record of the log or of the manifest was torn; everything acknowledged is there",
                 STET_LOG_C("path", self->options->directory),
                 STET_LOG_I("number", (int64_t)ret_head->record.number),
                 STET_LOG_I("witnessed", (int64_t)self->witness.number));
        return swap_in(self, e);
    }
    if (stet_files_remove_directory(self->copy, NULL) != STET_OK)
        stet_log(STET_WARN, "store.copy.left", "a copy could not be removed, will retry at the next start",
                 STET_LOG_C("path", self->copy));
    if (corrupt)
        return stet_error_set(e, STET_INTERNAL,
                              "%.60s is damaged: restore a backup; nothing was changed (%.120s)",
                              self->options->directory, found.message);
    return rc;
}

static stet_code set_up(recovery *self, stet_error *e) {
    const char *directory = self->options->directory;
    stet_code rc = stet_files_join(directory, "db", self->db, e);
    if (rc == STET_OK)
        rc = stet_files_join(directory, "db.copy", self->copy, e);
    if (rc == STET_OK)
        rc = stet_files_join(directory, "db.ready", self->ready, e);
    if (rc == STET_OK)
        rc = tidy(self, e);
    if (rc == STET_OK)
        rc = stet_witness_read(directory, &self->witness, e);
    return rc;
}

static stet_code is_there(const recovery *self, bool *ret_there, stet_error *e) {
    char current[STET_PATH_MAX];
    stet_code rc = stet_files_join(self->db, "CURRENT", current, e);
    if (rc != STET_OK)
        return rc;
    *ret_there = stet_files_exists(current);
    if (*ret_there)
        return STET_OK;
    if (self->witness.state == STET_WITNESS_KNOWN && self->witness.number == 0)
        return STET_OK; /* died while it was being made */
    if (self->witness.state != STET_WITNESS_NONE)
        return stet_error_set(e, STET_INTERNAL,
                              "%.80s has no database, but its witness knows commit %llu: restore a backup",
                              self->options->directory, llu(self->witness.number));
    if (holds_rows(self->db))
        return stet_error_set(e, STET_INTERNAL, "%.80s: db/CURRENT is missing: restore a backup",
                              self->options->directory);
    return STET_OK;
}

/* Before anything is opened, which would delete the tables that a shortened manifest does not name. */
static stet_code check_manifest(const recovery *self, stet_error *e) {
    const stet_manifest *known = &self->witness.manifest;
    stet_manifest found;
    if (self->witness.state != STET_WITNESS_KNOWN || known->number == 0)
        return STET_OK;
    stet_code rc = stet_manifest_read(self->options->directory, known->bytes, &found, e);
    if (rc != STET_OK || found.number > known->number)
        return rc;
    if (found.number == known->number && found.bytes == known->bytes &&
        stet_hash_equal(&found.hash, &known->hash))
        return STET_OK;
    return stet_error_set(
        e, STET_INTERNAL,
        "%.80s is damaged: db/MANIFEST-%06llu is not the one that was witnessed, with %llu bytes; nothing is "
        "served or changed; restore a backup",
        self->options->directory, llu(known->number), llu(known->bytes));
}

/* The witness is there before the database: else a power cut in the first moments, which may tear the first
 * records of the log, could not be told from damage. */
static stet_code begin_witness(recovery *self, stet_error *e) {
    static const stet_hash none = {{0}};
    const char *directory = self->options->directory;
    stet_witness *witness = NULL;
    stet_code rc = stet_witness_open(directory, &self->witness, &witness, e);
    if (rc == STET_OK)
        rc = stet_witness_write(witness, /* epoch= */ 0, /* number= */ 0, &none, e);
    stet_witness_close(witness);
    return rc == STET_OK ? stet_witness_read(directory, &self->witness, e) : rc;
}

stet_code stet_recovery_open(const stet_recovery_options *options, stet_rocks **ret, stet_head *ret_head,
                             stet_witness_record *ret_witness, stet_error *e) {
    recovery self = {.options = options};
    bool there = false, corrupt;
    stet_error local;
    e = e ? e : &local;
    stet_code rc = set_up(&self, e);
    if (rc == STET_OK)
        rc = is_there(&self, &there, e);
    if (rc == STET_OK && !there && self.witness.state == STET_WITNESS_NONE)
        rc = begin_witness(&self, e);
    if (rc == STET_OK && there)
        rc = check_manifest(&self, e);
    if (rc != STET_OK)
        return rc;
    rc = open_at(&self, self.db, STET_LOG_STRICT, !there, ret, ret_head, &corrupt, e);
    if (rc != STET_OK && corrupt && there) {
        rc = recover(&self, ret_head, e);
        if (rc == STET_OK)
            rc = open_at(&self, self.db, STET_LOG_STRICT, /* create= */ false, ret, ret_head, &corrupt, e);
    }
    if (rc == STET_OK)
        *ret_witness = self.witness;
    return rc;
}
