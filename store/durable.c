#include "store/durable.h"
#include "proto/base/log.h"
#include "store/committer.h"
#include "store/files.h"
#include "store/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { READ_ONLY_TRIES = 5 };

typedef struct durable_engine {
    stet_engine base;
    stet_rocks *rocks;
    stet_witness *witness;     /* NULL when read only */
    stet_committer *committer; /* NULL when read only */
    stet_commit *submitted;
    uint64_t number, epoch; /* of the last durable commit */
    stet_hash hash;
    char log_directory[STET_PATH_MAX]; /* "": beside the data */
} durable_engine;

static stet_code durable_get(stet_engine *base, stet_str key, stet_arena *into, stet_str *ret,
                             stet_error *e) {
    return stet_rocks_get(((durable_engine *)base)->rocks, key, into, ret, e);
}

static stet_engine_iter *durable_iter(stet_engine *base, stet_str lower, stet_str upper) {
    return stet_rocks_iter(((durable_engine *)base)->rocks, lower, upper);
}

static void durable_submit(stet_engine *base, stet_commit *commit) {
    durable_engine *self = (durable_engine *)base;
    self->submitted = commit;
    stet_committer_submit(self->committer, commit);
}

static bool durable_collect(stet_engine *base) {
    durable_engine *self = (durable_engine *)base;
    if (!self->committer || !stet_committer_collect(self->committer))
        return false;
    const stet_commit *commit = TAKE(self->submitted);
    if (commit->result == STET_COMMIT_OK) {
        self->number = commit->record.number;
        self->epoch = commit->record.epoch;
        self->hash = stet_commit_record_hash(&commit->record);
    }
    return true;
}

static int durable_fd(const stet_engine *base) {
    const durable_engine *self = (const durable_engine *)base;
    return self->committer ? stet_committer_fd(self->committer) : -1;
}

/* A checkpoint is a store's directory of its own: db/ and a witness of a commit that is surely in it. */
static stet_code fill_checkpoint(const durable_engine *self, const char *directory, stet_error *e) {
    char db[STET_PATH_MAX];
    stet_code rc = stet_files_join(directory, "db", db, e);
    if (rc == STET_OK)
        rc = stet_rocks_checkpoint(self->rocks, db, e);
    if (rc != STET_OK || self->number == 0)
        return rc;
    const stet_witness_record none = {.state = STET_WITNESS_NONE};
    stet_witness *witness = NULL;
    rc = stet_witness_open(directory, &none, &witness, e);
    for (int slot = 0; slot < 2 && rc == STET_OK; slot++) /* a first write that is damaged counts as none */
        rc = stet_witness_write(witness, self->epoch, self->number, &self->hash, e);
    stet_witness_close(witness);
    return rc;
}

static stet_code remove_checkpoint(const char *directory, stet_error *e) {
    static const char *const inner[] = {"db", "db.tmp"};
    for (size_t i = 0; i < COUNT_OF(inner); i++) {
        char path[STET_PATH_MAX];
        stet_code rc = stet_files_join(directory, inner[i], path, e);
        if (rc == STET_OK)
            rc = stet_files_remove_directory(path, e);
        if (rc != STET_OK)
            return rc;
    }
    return stet_files_remove_directory(directory, e);
}

static stet_code sync_parent(const char *path, stet_error *e) {
    char parent[STET_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash)
        return stet_files_sync_directory(".", e);
    int size = slash == path ? 1 : (int)(slash - path);
    (void)snprintf(parent, sizeof parent, "%.*s", size, path);
    return stet_files_sync_directory(parent, e);
}

static stet_code durable_checkpoint(stet_engine *base, const char *directory, stet_error *e) {
    const durable_engine *self = (const durable_engine *)base;
    char partial[STET_PATH_MAX];
    int size = snprintf(partial, sizeof partial, "%s.partial", directory);
    if (size < 0 || size >= (int)sizeof partial)
        return stet_error_set(e, STET_INVALID, "the path of the checkpoint is too long");
    if (stet_files_exists(directory))
        return stet_error_set(e, STET_CONFLICT, "%.150s exists: name a directory that does not", directory);
    stet_code rc = remove_checkpoint(partial, e);
    if (rc == STET_OK)
        rc = stet_make_directories(partial, e);
    if (rc == STET_OK)
        rc = fill_checkpoint(self, partial, e);
    if (rc == STET_OK)
        rc = stet_files_sync_directory(partial, e);
    if (rc == STET_OK && renameat2(AT_FDCWD, partial, AT_FDCWD, directory, RENAME_NOREPLACE) != 0)
        rc = stet_error_set(e, STET_INTERNAL, "%.150s cannot be named so: %s", directory, strerror(errno));
    if (rc == STET_OK)
        return sync_parent(directory, e);
    (void)remove_checkpoint(partial, NULL);
    return rc;
}

static stet_engine_stats durable_stats(stet_engine *base) {
    return stet_rocks_stats(((durable_engine *)base)->rocks);
}

static void durable_close(stet_engine *base) {
    durable_engine *self = (durable_engine *)base;
    stet_committer_stop(self->committer);
    stet_witness_close(self->witness);
    stet_rocks_close(self->rocks);
    if (self->log_directory[0] && stet_files_remove_directory(self->log_directory, NULL) != STET_OK)
        stet_log(STET_DEBUG, "store.infolog.left", "the info log could not be removed",
                 STET_LOG_C("path", self->log_directory));
    free(self);
}

static const stet_engine_ops durable_ops = {.get = durable_get,
                                            .iter = durable_iter,
                                            .submit = durable_submit,
                                            .collect = durable_collect,
                                            .fd = durable_fd,
                                            .checkpoint = durable_checkpoint,
                                            .stats = durable_stats,
                                            .close = durable_close};

static stet_code open_writer(durable_engine *self, const stet_store_options *options, stet_head *ret_head,
                             stet_error *e) {
    stet_recovery_options recovery = {.directory = options->directory,
                                      .log_directory = self->log_directory[0] ? self->log_directory : NULL,
                                      .partition = options->partition,
                                      .memory_bytes = options->memory_bytes,
                                      .no_sync = options->no_sync};
    stet_witness_record witness;
    stet_code rc = stet_recovery_open(&recovery, &self->rocks, ret_head, &witness, e);
    if (rc == STET_OK)
        rc = stet_witness_open(options->directory, &witness, &self->witness, e);
    /* Opening has made a new manifest. */
    if (rc == STET_OK && ret_head->present)
        rc = stet_witness_write(self->witness, ret_head->epoch, ret_head->record.number, &ret_head->hash, e);
    if (rc == STET_OK)
        rc = stet_committer_start(self->rocks, self->witness, &self->committer, e);
    return rc;
}

/* Beside a process that writes: what it deletes or appends meanwhile may make one try fail. Inspecting a
 * damaged database is allowed; it says so. */
static stet_code open_reader(durable_engine *self, const stet_store_options *options, stet_head *ret_head,
                             stet_error *e) {
    char db[STET_PATH_MAX];
    stet_code rc = stet_files_join(options->directory, "db", db, e);
    if (rc != STET_OK)
        return rc;
    if (!stet_files_exists(db))
        return stet_error_set(e, STET_NOT_FOUND, "%.150s holds no store", options->directory);
    stet_rocks_options rocks = {.db = db,
                                .log_directory = self->log_directory[0] ? self->log_directory : NULL,
                                .memory_bytes = options->memory_bytes,
                                .recovery = STET_LOG_STRICT,
                                .read_only = true};
    bool corrupt = false;
    rc = STET_INTERNAL;
    for (int i = 0; i < READ_ONLY_TRIES && (rc == STET_INTERNAL || rc == STET_BUSY); i++)
        rc = stet_rocks_open(&rocks, &self->rocks, &corrupt, e);
    if (rc != STET_OK && corrupt) {
        stet_log(STET_WARN, "store.damaged.read",
                 "the log is damaged: showing what is readable before the damage",
                 STET_LOG_C("path", options->directory));
        rocks.recovery = STET_LOG_POINT_IN_TIME;
        rc = stet_rocks_open(&rocks, &self->rocks, &corrupt, e);
    }
    if (rc == STET_OK)
        rc = stet_head_load(stet_rocks_get, self->rocks, options->partition, options->directory, ret_head, e);
    return rc;
}

stet_code stet_durable_open(const stet_store_options *options, stet_engine **ret, stet_head *ret_head,
                            stet_error *e) {
    durable_engine *self = calloc(1, sizeof *self);
    if (!self)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    self->base.ops = &durable_ops;
    if (!stet_files_info_log_directory(options->directory, options->read_only, self->log_directory))
        self->log_directory[0] = '\0';
    stet_code rc = options->read_only ? open_reader(self, options, ret_head, e)
                                      : open_writer(self, options, ret_head, e);
    if (rc != STET_OK) {
        durable_close(&self->base);
        return rc;
    }
    self->number = ret_head->record.number;
    self->epoch = ret_head->epoch;
    self->hash = ret_head->hash;
    *ret = &self->base;
    return STET_OK;
}

uint64_t stet_durable_headroom(const stet_store_options *options) {
    return stet_rocks_headroom(options->memory_bytes);
}
