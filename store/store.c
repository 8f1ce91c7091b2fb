#include "proto/base/clock.h"
#include "proto/base/fault.h"
#include "proto/base/paths.h"
#include "proto/wire/mp.h"
#include "store/durable.h"
#include "store/store_internal.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>

static stet_store *store_new(uint32_t partition) {
    stet_store *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    for (size_t i = 0; i < COUNT_OF(self->overlays); i++)
        self->overlays[i] = stet_overlay_of(STET_BATCH_ARENA_BYTES, /* keeps_undo= */ true);
    self->building = &self->overlays[0];
    self->batch = (stet_batch){.store = self, .reads = stet_arena_of(STET_READS_BYTES_MAX)};
    self->partition = partition;
    self->epoch = 1;
    self->lock_fd = -1;
    return self;
}

static void take_head(stet_store *self, const stet_head *head) {
    self->number = head->present ? head->record.number : 0;
    self->epoch = head->present ? head->epoch : 1;
    self->hash = head->hash;
}

static void put_number(stet_batch *batch, stet_str key, uint64_t number) {
    uint8_t room[16];
    stet_buf value = STET_BUF_ON(room, sizeof room);
    stet_mp_uint(&value, number);
    ASSERT(stet_buf_ok(&value));
    stet_batch_put(batch, key, stet_buf_str(&value));
}

static void wait_for_completion(const stet_store *self) {
    struct pollfd wait = {.fd = stet_store_completion_fd(self), .events = POLLIN};
    if (wait.fd < 0)
        return;
    while (poll(&wait, 1, /* timeout_ms= */ -1) < 0)
        ASSERT(errno == EINTR);
}

/* Commit number 1: the rows that every later opening checks first. */
static stet_code first_commit(stet_store *self, int64_t wall_ms, stet_error *e) {
    stet_batch *batch = stet_store_batch(self);
    put_number(batch, stet_store_key_format, STET_STORE_FORMAT);
    put_number(batch, stet_store_key_epoch, self->epoch);
    uint64_t ticket;
    stet_code rc = stet_batch_commit(batch, wall_ms, &ticket, e);
    if (rc != STET_OK)
        return rc;
    stet_completion done;
    do
        wait_for_completion(self);
    while (!stet_store_next_completion(self, &done));
    if (done.result == STET_COMMIT_OK)
        return STET_OK;
    if (e)
        *e = done.error;
    return done.error.code;
}

static stet_code take_directory(stet_store *self, const stet_store_options *options, stet_error *e) {
    stet_code rc = stet_make_directories(options->directory, e);
    if (rc == STET_OK)
        rc = stet_lock_file(options->directory, "owner.lock", &self->lock_fd, e);
    if (rc != STET_OK)
        return rc;
    FAULT(open_locked);
    self->space = malloc(sizeof *self->space);
    if (!self->space)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    rc = stet_space_init(self->space, options->directory, options->free_min_bytes, options->ballast_bytes, e);
    if (rc == STET_OK)
        rc = stet_space_prepare(self->space, stet_durable_headroom(options), e);
    return rc;
}

static stet_code open_durable(stet_store *self, const stet_store_options *options, stet_error *e) {
    stet_code rc = options->read_only ? STET_OK : take_directory(self, options, e);
    stet_head head = {.present = false};
    if (rc == STET_OK)
        rc = stet_durable_open(options, &self->engine, &head, e);
    if (rc != STET_OK)
        return rc;
    FAULT(open_database_after);
    take_head(self, &head);
    self->read_only = options->read_only;
    if (self->read_only)
        return STET_OK;
    if (!head.present) {
        FAULT(epoch_before);
        rc = first_commit(self, stet_clock_wall_ms(), e);
    }
    if (rc == STET_OK)
        stet_space_make_ballast(self->space);
    return rc;
}

stet_code stet_store_open(const stet_store_options *options, stet_store **ret, stet_error *e) {
    if (sodium_init() < 0)
        return stet_error_set(e, STET_INTERNAL, "libsodium cannot be initialised");
    stet_store *self = store_new(options->partition);
    if (!self)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    stet_code rc = open_durable(self, options, e);
    if (rc == STET_OK)
        *ret = self;
    else
        stet_store_close(self);
    return rc;
}

stet_code stet_store_open_memory(uint32_t partition, stet_store **ret, stet_error *e) {
    if (sodium_init() < 0)
        return stet_error_set(e, STET_INTERNAL, "libsodium cannot be initialised");
    stet_store *self = store_new(partition);
    if (!self)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    self->in_memory = true;
    stet_code rc = stet_memory_engine_new(&self->engine, e);
    if (rc == STET_OK)
        rc = first_commit(self, /* wall_ms= */ 0, e); /* the same bytes in every simulation */
    if (rc == STET_OK)
        *ret = self;
    else
        stet_store_close(self);
    return rc;
}

stet_store *stet_store_close(stet_store *self) {
    if (!self)
        return NULL;
    ASSERT(self->batch.scans_open == 0);
    FAULT(close_before);
    if (self->engine)
        self->engine->ops->close(
            self->engine); /* the committer may read the overlay in flight: before it is freed */
    for (size_t i = 0; i < COUNT_OF(self->overlays); i++)
        stet_overlay_done(&self->overlays[i]);
    stet_arena_done(&self->batch.reads);
    free(self->space);
    if (self->lock_fd >= 0)
        (void)close(self->lock_fd);
    free(self);
    return NULL;
}

static stet_code engine_get(void *from, stet_str key, stet_arena *into, stet_str *ret, stet_error *e) {
    stet_engine *engine = from;
    return engine->ops->get(engine, key, into, ret, e);
}

static stet_code load_memory(stet_store *self, stet_head *ret, stet_error *e) {
    return stet_head_load(engine_get, self->engine, self->partition, "memory", ret, e);
}

void stet_store_memory_crash(stet_store *self) {
    ASSERT(self->in_memory);
    ASSERT(self->batch.scans_open == 0);
    stet_memory_engine_crash(self->engine);
    self->in_flight = NULL;
    for (size_t i = 0; i < COUNT_OF(self->overlays); i++)
        stet_overlay_clear(&self->overlays[i]);
    self->changes++;
    memset(self->batch.memo, 0, sizeof self->batch.memo);
    memset(&self->hot, 0, sizeof self->hot);
    self->batch.failed = self->batch.starved = false;
    stet_batch_release_reads(&self->batch);
    self->failed = false;
    self->read_error.code = STET_OK;
    self->fail_reads = false;
    self->next_commit = STET_COMMIT_OK;
    stet_head head;
    stet_error e;
    stet_code rc = load_memory(self, &head, &e);
    ASSERT(rc == STET_OK && head.present);
    take_head(self, &head);
}

stet_code stet_store_memory_open_again(stet_store *self, stet_error *e) {
    stet_head head;
    stet_store_memory_crash(self);
    stet_code rc = load_memory(self, &head, e);
    return rc == STET_OK ? stet_witness_compare(&self->witness, &head, "memory", e) : rc;
}

void stet_store_memory_witness(stet_store *self, const stet_store *from) {
    ASSERT(self->in_memory && from->in_memory);
    self->witness = from->witness;
}

static stet_code copy_memory(stet_store *self, const stet_store *from, uint64_t epoch, stet_error *e) {
    stet_head head;
    stet_completion done;
    uint64_t ticket;
    self->in_memory = true;
    self->witness = from->witness;
    stet_code rc = stet_memory_engine_new(&self->engine, e);
    if (rc == STET_OK && !stet_memory_engine_copy(self->engine, from->engine))
        rc = stet_error_set(e, STET_BUSY, "out of memory for a copy");
    if (rc == STET_OK)
        rc = load_memory(self, &head, e);
    if (rc != STET_OK)
        return rc;
    take_head(self, &head);
    if (epoch <= self->epoch)
        return STET_OK;
    self->epoch = epoch;
    put_number(stet_store_batch(self), stet_store_key_epoch, epoch);
    rc = stet_batch_commit(stet_store_batch(self), /* wall_ms= */ 0, &ticket, e);
    if (rc == STET_OK && (!stet_store_next_completion(self, &done) || done.result != STET_COMMIT_OK))
        rc = stet_error_set(e, STET_BUSY, "the new owner cannot be written");
    return rc;
}

stet_code stet_store_memory_copy(const stet_store *from, uint64_t epoch, stet_store **ret, stet_error *e) {
    ASSERT(from->in_memory);
    stet_store *self = store_new(from->partition);
    if (!self)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    stet_code rc = copy_memory(self, from, epoch, e);
    if (rc == STET_OK)
        *ret = self;
    else
        stet_store_close(self);
    return rc;
}

void stet_store_memory_fail_commit(stet_store *self, stet_commit_result result) {
    ASSERT(self->in_memory);
    self->next_commit = result;
}

void stet_store_memory_fail_reads(stet_store *self) {
    ASSERT(self->in_memory);
    self->fail_reads = true;
}

void stet_store_memory_full(stet_store *self, bool full) {
    ASSERT(self->in_memory);
    self->full = full;
}

void stet_store_memory_damaged(stet_store *self) {
    ASSERT(self->in_memory);
    self->damaged = true;
}

stet_code stet_store_read_status(const stet_store *self, stet_error *e) {
    if (self->read_error.code != STET_OK && e)
        *e = self->read_error;
    return self->read_error.code;
}

int stet_store_completion_fd(const stet_store *self) {
    return self->engine->ops->fd(self->engine);
}

bool stet_store_next_completion(stet_store *self, stet_completion *ret) {
    if (!self->in_flight || !self->engine->ops->collect(self->engine))
        return false;
    ASSERT(self->batch.scans_open == 0); /* a scan may stand on a row of the batch in flight */
    const stet_commit *commit = &self->commit;
    *ret =
        (stet_completion){.ticket = self->ticket, .number = commit->record.number, .result = commit->result};
    if (commit->result == STET_COMMIT_OK) {
        self->witness =
            (stet_witness_record){.state = STET_WITNESS_KNOWN, .number = self->number, .hash = self->hash};
        self->number = commit->record.number;
        self->hash = stet_commit_record_hash(&commit->record);
        self->stats.commits++;
        self->stats.commit_bytes += commit->write_bytes;
        self->stats.rows_written += commit->record.rows;
        self->stats.commit_ns_last = commit->nanoseconds;
    } else {
        self->failed = true;
        ret->error = commit->error;
    }
    stet_hot_rows_forget(&self->hot, stet_store_key_head); /* the one row that no batch writes */
    stet_overlay_clear(self->in_flight);
    self->in_flight = NULL;
    return true;
}

bool stet_store_commit_in_flight(const stet_store *self) {
    return self->in_flight != NULL;
}

bool stet_store_writable(stet_store *self, int64_t boot_ms) {
    return self->space ? stet_space_writable(self->space, boot_ms) : !self->read_only && !self->full;
}

uint64_t stet_store_epoch(const stet_store *self) {
    return self->epoch;
}

uint64_t stet_store_last_number(const stet_store *self) {
    return self->number;
}

stet_code stet_store_checkpoint(stet_store *self, const char *directory, stet_error *e) {
    return self->engine->ops->checkpoint(self->engine, directory, e);
}

stet_store_stats stet_store_stats_of(stet_store *self) {
    stet_store_stats stats = self->stats;
    stet_engine_stats engine = self->engine->ops->stats(self->engine);
    stats.memory_bytes = engine.memory_bytes + self->overlays[0].arena.allocated +
                         self->overlays[1].arena.allocated + self->batch.reads.allocated;
    stats.disk_bytes = engine.disk_bytes;
    return stats;
}

stet_batch *stet_store_batch(stet_store *self) {
    return &self->batch;
}
