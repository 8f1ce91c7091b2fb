/* The in-memory twin: the durable rows are an overlay without undo; a submitted commit is applied when it is
 * collected, so that a crash between the two loses it, as it may lose what was not synced. Removed and
 * overwritten bytes stay in the arena until they are half of it; then the live rows move to a new one. */
#include "store/engine.h"

#include <stdlib.h>

enum { GARBAGE_MIN = 1 << 20 };

typedef struct memory_engine {
    stet_engine base;
    stet_overlay durable;
    size_t garbage;
    stet_commit *pending;
    stet_buf write;
} memory_engine;

typedef struct memory_iter {
    stet_engine_iter base;
    const stet_overlay *rows;
    const stet_row *at;
    size_t lower_size, upper_size;
    bool bounded;
    uint8_t lower[STET_BOUND_BYTES_MAX], upper[STET_BOUND_BYTES_MAX];
} memory_iter;

static stet_code memory_get(stet_engine *base, stet_str key, stet_arena *into, stet_str *ret, stet_error *e) {
    const memory_engine *self = (const memory_engine *)base;
    const stet_row *row = stet_overlay_find(&self->durable, key);
    if (!row)
        return STET_NOT_FOUND;
    stet_str copy = stet_arena_copy(into, stet_row_value(row));
    if (!copy.data)
        return stet_error_set(e, STET_BUSY, "out of memory for a value that was read");
    *ret = copy;
    return STET_OK;
}

/* Hands out the row the iterator has come to, when it is inside the bounds. */
static bool iter_row(memory_iter *self, const stet_row *row, stet_str *ret_key, stet_str *ret_value) {
    self->at = NULL;
    if (!row || stet_bytes_compare(stet_row_key(row), stet_str_from(self->lower, self->lower_size)) < 0)
        return false;
    if (self->bounded &&
        stet_bytes_compare(stet_row_key(row), stet_str_from(self->upper, self->upper_size)) >= 0)
        return false;
    self->at = row;
    *ret_key = stet_row_key(row);
    *ret_value = stet_row_value(row);
    return true;
}

static bool memory_seek(stet_engine_iter *base, stet_str key, bool reverse, stet_str *ret_key,
                        stet_str *ret_value) {
    memory_iter *self = (memory_iter *)base;
    stet_str lower = stet_str_from(self->lower, self->lower_size);
    const stet_row *row;
    if (!reverse)
        row = stet_overlay_seek(self->rows, stet_bytes_compare(key, lower) < 0 ? lower : key,
                                /* past= */ false);
    else if (key.size > 0)
        row = stet_overlay_seek_back(self->rows, key, /* past= */ false);
    else if (self->bounded)
        row = stet_overlay_seek_back(self->rows, stet_str_from(self->upper, self->upper_size),
                                     /* past= */ true);
    else
        row = stet_overlay_last(self->rows);
    return iter_row(self, row, ret_key, ret_value);
}

static bool memory_step(stet_engine_iter *base, bool reverse, stet_str *ret_key, stet_str *ret_value) {
    memory_iter *self = (memory_iter *)base;
    if (!self->at)
        return false;
    const stet_row *row = reverse ? self->at->previous : stet_row_after(self->at);
    return iter_row(self, row == self->rows->head ? NULL : row, ret_key, ret_value);
}

static stet_code memory_status(const stet_engine_iter *self, stet_error *e) {
    (void)self;
    (void)e;
    return STET_OK;
}

static void memory_iter_free(stet_engine_iter *self) {
    free(self);
}

static const stet_engine_iter_ops memory_iter_ops = {
    .seek = memory_seek, .step = memory_step, .status = memory_status, .free = memory_iter_free};

static stet_engine_iter *memory_iter_new(stet_engine *base, stet_str lower, stet_str upper) {
    const memory_engine *self = (const memory_engine *)base;
    ASSERT(lower.size <= STET_BOUND_BYTES_MAX && upper.size <= STET_BOUND_BYTES_MAX);
    memory_iter *iter = malloc(sizeof *iter);
    if (!iter)
        return NULL;
    iter->base.ops = &memory_iter_ops;
    iter->rows = &self->durable;
    iter->at = NULL;
    iter->lower_size = lower.size;
    iter->upper_size = upper.size;
    iter->bounded = upper.size > 0;
    if (lower.size > 0)
        memcpy(iter->lower, lower.data, lower.size);
    if (upper.size > 0)
        memcpy(iter->upper, upper.data, upper.size);
    return &iter->base;
}

static void memory_submit(stet_engine *base, stet_commit *commit) {
    memory_engine *self = (memory_engine *)base;
    ASSERT(self->pending == NULL);
    self->pending = commit;
    commit->result = STET_COMMIT_OK;
    commit->nanoseconds = 0;
    if (!stet_commit_build(commit->rows, &commit->record, &self->write)) {
        commit->result = STET_COMMIT_UNKNOWN;
        stet_error_set(&commit->error, STET_BUSY, "out of memory for the commit");
    }
    commit->write_bytes = self->write.size;
}

static bool apply(memory_engine *self, stet_str key, stet_str value) {
    const stet_row *old = stet_overlay_find(&self->durable, key);
    if (old)
        self->garbage += (size_t)old->value_size;
    if (value.data)
        return stet_overlay_put(&self->durable, key, value);
    if (old)
        self->garbage += sizeof *old + (size_t)old->key_size;
    stet_overlay_remove(&self->durable, key);
    return true;
}

static bool compact(memory_engine *self) {
    if (self->garbage < GARBAGE_MIN || self->garbage < self->durable.bytes)
        return true;
    stet_overlay live = stet_overlay_of(SIZE_MAX, /* keeps_undo= */ false);
    for (const stet_row *row = stet_overlay_first(&self->durable); row; row = stet_row_after(row)) {
        if (!stet_overlay_put(&live, stet_row_key(row), stet_row_value(row))) {
            stet_overlay_done(&live);
            return false;
        }
    }
    stet_overlay_done(&self->durable);
    self->durable = live;
    self->garbage = 0;
    return true;
}

static bool memory_collect(stet_engine *base) {
    memory_engine *self = (memory_engine *)base;
    stet_commit *commit = TAKE(self->pending);
    if (!commit)
        return false;
    if (commit->result != STET_COMMIT_OK)
        return true;
    bool applied = true;
    for (const stet_row *row = stet_overlay_first(commit->rows); row && applied; row = stet_row_after(row))
        applied = apply(self, stet_row_key(row), stet_row_value(row));
    uint8_t head[STET_COMMIT_RECORD_BYTES];
    stet_commit_record_encode(&commit->record, head);
    if (!applied || !apply(self, stet_store_key_head, stet_str_from(head, sizeof head)) || !compact(self)) {
        commit->result = STET_COMMIT_UNKNOWN;
        stet_error_set(&commit->error, STET_BUSY, "out of memory for the rows of the commit");
    }
    return true;
}

bool stet_memory_engine_copy(stet_engine *to, const stet_engine *from) {
    const stet_overlay *rows = &((const memory_engine *)from)->durable;
    stet_overlay *copy = &((memory_engine *)to)->durable;
    for (const stet_row *row = stet_overlay_first(rows); row; row = stet_row_after(row))
        if (!stet_overlay_put(copy, stet_row_key(row), stet_row_value(row)))
            return false;
    return true;
}

void stet_memory_engine_crash(stet_engine *base) {
    ((memory_engine *)base)->pending = NULL;
}

static int memory_fd(const stet_engine *self) {
    (void)self;
    return -1;
}

static stet_code memory_checkpoint(stet_engine *self, const char *directory, stet_error *e) {
    (void)self;
    (void)directory;
    return stet_error_set(e, STET_INVALID, "a store in memory has no checkpoint");
}

static stet_engine_stats memory_stats(stet_engine *base) {
    const memory_engine *self = (const memory_engine *)base;
    return (stet_engine_stats){.memory_bytes = self->durable.arena.allocated};
}

static void memory_close(stet_engine *base) {
    memory_engine *self = (memory_engine *)base;
    stet_overlay_done(&self->durable);
    stet_buf_done(&self->write);
    free(self);
}

static const stet_engine_ops memory_ops = {.get = memory_get,
                                           .iter = memory_iter_new,
                                           .submit = memory_submit,
                                           .collect = memory_collect,
                                           .fd = memory_fd,
                                           .checkpoint = memory_checkpoint,
                                           .stats = memory_stats,
                                           .close = memory_close};

stet_code stet_memory_engine_new(stet_engine **ret, stet_error *e) {
    memory_engine *self = malloc(sizeof *self);
    if (!self)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    *self = (memory_engine){.base.ops = &memory_ops,
                            .durable = stet_overlay_of(SIZE_MAX, /* keeps_undo= */ false),
                            .write = STET_BUF(STET_COMMIT_BYTES_MAX)};
    *ret = &self->base;
    return STET_OK;
}
