#include "store/store_internal.h"

#include "proto/base/plant.h"

static stet_code not_found(stet_error *e) {
    if (e) { /* the commonest answer of all (every new request asks for its duplicate): no formatting, no
                clearing */
        e->code = STET_NOT_FOUND;
        e->retry_after_ms = 0;
        e->field[0] = '\0';
        e->message[0] = '\0';
        e->details_size = 0;
    }
    return STET_NOT_FOUND;
}

stet_code stet_store_read_result(stet_store *store, stet_code rc, const stet_error *e) {
    if (rc == STET_OK || store->read_error.code != STET_OK)
        return rc;
    if (e)
        store->read_error = *e;
    else
        (void)stet_error_set(&store->read_error, rc, "reading the store failed");
    return rc;
}

static stet_code engine_get(stet_batch *self, stet_str key, stet_str *ret_value, stet_error *e) {
    stet_store *store = self->store;
    stet_code rc = store->fail_reads
                       ? stet_error_set(e, STET_INTERNAL, "reading fails, as the test wants it")
                       : store->engine->ops->get(store->engine, key, &self->reads, ret_value, e);
    if (rc == STET_OK)
        stet_hot_rows_keep(&store->hot, key, *ret_value);
    return rc == STET_NOT_FOUND ? not_found(e) : stet_store_read_result(store, rc, e);
}

stet_code stet_batch_get(stet_batch *self, stet_str key, stet_str *ret_value, stet_error *e) {
    ASSERT(key.size > 0 && key.size <= STET_KEY_BYTES_MAX);
    stet_store *store = self->store;
    store->stats.reads++;
    const stet_row *row = stet_overlay_find(store->building, key);
    if (!row && store->in_flight)
        row = stet_overlay_find(store->in_flight, key);
    if (row && stet_row_is_tombstone(row))
        return not_found(e);
    stet_str value;
    if (row)
        value = stet_row_value(row);
    else if (store->fail_reads || !stet_hot_rows_find(&store->hot, key, &value))
        return engine_get(self, key, ret_value, e);
    /* A copy: a later rollback, completion or read takes the memory back. */
    stet_str copy = stet_arena_copy(&self->reads, value);
    if (!copy.data) {
        /* As where a scan finds none: nobody shall take it for not there. */
        self->failed = self->starved = true;
        return stet_error_set(e, STET_BUSY, "out of memory for a value that was read");
    }
    *ret_value = copy;
    return STET_OK;
}

bool stet_batch_keep(stet_batch *self, stet_str *text) {
    stet_str copy = stet_arena_copy(&self->reads, *text);
    if (!copy.data)
        return false;
    *text = copy;
    return true;
}

static void write_row(stet_batch *self, stet_str key, stet_str value, bool absent) {
    ASSERT(key.size > 0 && key.size <= STET_KEY_BYTES_MAX);
    stet_store *store = self->store;
    stet_overlay *building = store->building;
    if (self->failed)
        return;
    size_t mark = stet_overlay_mark(building);
    store->changes++;
    if (!PLANT(hot_row_stale))
        stet_hot_rows_forget(&store->hot, key);
    if (value.size > STET_VALUE_BYTES_MAX) {
        self->failed = true;
    } else if (!(absent ? stet_overlay_insert(building, key, value)
                        : stet_overlay_put(building, key, value))) {
        self->failed = true;
        self->starved = stet_overlay_has_room(building, key.size + value.size);
    } else if (building->bytes > STET_BATCH_BYTES_MAX) {
        stet_overlay_undo(building, mark);
        self->failed = true;
    }
}

/* An empty value is a value; only NULL inside the overlay is a tombstone. */
static stet_str present(stet_str value) {
    ASSERT(value.data || value.size == 0);
    return value.data ? value : (stet_str){"", 0};
}

void stet_batch_put(stet_batch *self, stet_str key, stet_str value) {
    write_row(self, key, present(value), /* absent= */ false);
}

/* Looking whether it is true would cost what this saves; in memory, under tests and simulation, it is looked
 * at. */
static bool is_absent(stet_batch *self, stet_str key) {
    stet_store *store = self->store;
    const stet_row *row = stet_overlay_find(store->building, key);
    if (!row && store->in_flight)
        row = stet_overlay_find(store->in_flight, key);
    if (row)
        return stet_row_is_tombstone(row);
    stet_str value;
    return store->fail_reads || store->damaged ||
           store->engine->ops->get(store->engine, key, &self->reads, &value, NULL) == STET_NOT_FOUND;
}

void stet_batch_insert(stet_batch *self, stet_str key, stet_str value) {
    ASSERT(!self->store->in_memory || is_absent(self, key));
    write_row(self, key, present(value), /* absent= */ true);
}

void stet_batch_delete(stet_batch *self, stet_str key) {
    write_row(self, key, (stet_str){NULL, 0}, /* absent= */ false);
}

bool stet_batch_failed(const stet_batch *self) {
    return self->failed;
}

bool stet_batch_starved(const stet_batch *self) {
    return self->starved;
}

size_t stet_batch_bytes(const stet_batch *self) {
    return self->store->building->bytes;
}

uint32_t stet_batch_count(const stet_batch *self) {
    return self->store->building->count;
}

/* The failure counts as one more change, so that a mark taken after it does not clear it. */
uint64_t stet_batch_mark(const stet_batch *self) {
    return stet_overlay_mark(self->store->building) + (self->failed ? 1 : 0);
}

void stet_batch_rollback(stet_batch *self, uint64_t mark) {
    ASSERT(self->scans_open == 0);
    ASSERT(mark <= stet_batch_mark(self));
    stet_overlay *building = self->store->building;
    if (mark > stet_overlay_mark(building))
        return;
    stet_overlay_undo(building, (size_t)mark);
    memset(self->memo, 0, sizeof self->memo);
    self->store->changes++;
    self->failed = self->starved = false;
}

void *stet_batch_memo(stet_batch *self) {
    return self->memo;
}

void stet_batch_release_reads(stet_batch *self) {
    stet_arena_reset(&self->reads, STET_READS_KEEP_BYTES);
}

stet_code stet_batch_commit(stet_batch *self, int64_t wall_ms, uint64_t *ret_ticket, stet_error *e) {
    stet_store *store = self->store;
    ASSERT(store->in_flight == NULL);
    ASSERT(self->scans_open == 0);
    if (store->read_only)
        return stet_error_set(e, STET_FORBIDDEN, "the store is open for reading only");
    if (store->failed)
        return stet_error_set(e, STET_INTERNAL,
                              "an earlier commit failed: end the process and open the store again");
    if (self->starved)
        return stet_error_set(e, STET_BUSY, "out of memory for the batch: roll back to a mark first");
    if (self->failed)
        return stet_error_set(e, STET_TOO_LARGE, "the batch is over its limit: roll back to a mark first");
    ASSERT(store->building->count > 0);
    stet_overlay *sealed = store->building;
    store->in_flight = sealed;
    store->building = sealed == &store->overlays[0] ? &store->overlays[1] : &store->overlays[0];
    store->commit = (stet_commit){.rows = sealed,
                                  .record = {.partition = store->partition,
                                             .epoch = store->epoch,
                                             .number = store->number + 1,
                                             .wall_ms = wall_ms,
                                             .previous = store->hash}};
    *ret_ticket = ++store->ticket;
    store->engine->ops->submit(store->engine, &store->commit);
    if (store->next_commit != STET_COMMIT_OK) {
        store->commit.result = store->next_commit;
        (void)stet_error_set(&store->commit.error, STET_INTERNAL, "the commit fails, as the test wants it");
    }
    return STET_OK;
}
