/* The three-way merge: rows of the batch, of the batch in flight and of the engine, in key order; for a key
 * that several have, the newest counts; tombstones hide it.
 *
 * Each source stands on its next candidate. The engine and the batch in flight do not change while a scan is
 * open (a completion must not be taken meanwhile); the batch does, so when it has, its source looks for its
 * place again behind the last key handed out. */
#include "store/store_internal.h"

#include <stdlib.h>

typedef struct scan_source {
    const stet_overlay *rows; /* NULL: the engine */
    const stet_row *row;
    stet_engine_iter *iter;
    bool present; /* key and value are a candidate */
    stet_str key, value;
} scan_source;

enum { BUILDING, IN_FLIGHT, ENGINE, SOURCES };

struct stet_scan {
    stet_batch *batch;
    scan_source sources[SOURCES]; /* newest first */
    bool reverse, started, ended;
    uint64_t changes; /* the store's, when the building source last looked */
    stet_code status;
    stet_error error;
    size_t lower_size, upper_size, last_size, from_size; /* upper_size 0: no bound; from_size 0: none */
    uint8_t lower[STET_KEY_BYTES_MAX], upper[STET_KEY_BYTES_MAX];
    uint8_t last[STET_KEY_BYTES_MAX]; /* the key handed out last; before the first, `from` */
};

static stet_str lower_of(const stet_scan *self) {
    return stet_str_from(self->lower, self->lower_size);
}
static stet_str upper_of(const stet_scan *self) {
    return stet_str_from(self->upper, self->upper_size);
}
static stet_str last_of(const stet_scan *self) {
    return stet_str_from(self->last, self->last_size);
}

/* The smallest key above everything that begins with prefix; size 0 when there is none (only 0xff). */
static size_t prefix_end(stet_str prefix, uint8_t *end) {
    size_t size = prefix.size;
    if (size > 0)
        memcpy(end, prefix.data, size);
    while (size > 0 && end[size - 1] == 0xff)
        size--;
    if (size > 0)
        end[size - 1]++;
    return size;
}

static void take_row(const stet_scan *self, scan_source *source, const stet_row *row) {
    if (row && stet_bytes_compare(stet_row_key(row), lower_of(self)) < 0)
        row = NULL;
    if (row && self->upper_size > 0 && stet_bytes_compare(stet_row_key(row), upper_of(self)) >= 0)
        row = NULL;
    source->row = row;
    source->present = row != NULL;
    if (row)
        source->key = stet_row_key(row);
}

/* Puts an overlay source on its first row at (past: behind) the key, in the direction of the scan. */
static void seek_rows(const stet_scan *self, scan_source *source, stet_str key, bool past) {
    const stet_row *row;
    if (!self->reverse)
        row = stet_overlay_seek(source->rows, key, past);
    else if (key.size > 0)
        row = stet_overlay_seek_back(source->rows, key, past);
    else
        row = stet_overlay_last(source->rows);
    take_row(self, source, row);
}

static void step_rows(const stet_scan *self, scan_source *source) {
    const stet_row *row = self->reverse ? source->row->previous : stet_row_after(source->row);
    take_row(self, source, row == source->rows->head ? NULL : row);
}

/* Where the scan begins: forward at from or the lower bound; backward at from, just below the upper bound, or
 * at the very end. False when `from` lies past the range. */
static bool start_of(const stet_scan *self, stet_str *ret_key, bool *ret_past) {
    stet_str from = stet_str_from(self->last, self->from_size);
    *ret_past = false;
    if (!self->reverse) {
        *ret_key = from.size > 0 && stet_bytes_compare(from, lower_of(self)) > 0 ? from : lower_of(self);
        return self->upper_size == 0 || stet_bytes_compare(*ret_key, upper_of(self)) < 0;
    }
    bool inside = from.size > 0 && (self->upper_size == 0 || stet_bytes_compare(from, upper_of(self)) < 0);
    *ret_key = inside ? from : upper_of(self);
    *ret_past = !inside;
    return !inside || stet_bytes_compare(from, lower_of(self)) >= 0;
}

static void start(stet_scan *self) {
    self->started = true;
    stet_str key;
    bool past;
    if (!start_of(self, &key, &past)) {
        self->ended = true;
        return;
    }
    for (int i = BUILDING; i <= IN_FLIGHT; i++)
        if (self->sources[i].rows)
            seek_rows(self, &self->sources[i], key, past);
    self->changes = self->batch->store->changes;
    scan_source *engine = &self->sources[ENGINE];
    /* The engine keeps the bounds itself: an empty key is the first, or the last, inside them. */
    stet_str seek = past ? (stet_str){NULL, 0} : key;
    engine->present =
        engine->iter->ops->seek(engine->iter, seek, self->reverse, &engine->key, &engine->value);
}

/* Moves every source that stands on the last key past it. */
static void advance(stet_scan *self) {
    for (int i = BUILDING; i < SOURCES; i++) {
        scan_source *source = &self->sources[i];
        if (i == BUILDING && self->changes != self->batch->store->changes)
            continue;
        if (!source->present || !stet_str_equal(source->key, last_of(self)))
            continue;
        if (source->rows)
            step_rows(self, source);
        else
            source->present =
                source->iter->ops->step(source->iter, self->reverse, &source->key, &source->value);
    }
    if (self->changes != self->batch->store->changes) {
        seek_rows(self, &self->sources[BUILDING], last_of(self), /* past= */ true);
        self->changes = self->batch->store->changes;
    }
}

static scan_source *newest_of_nearest(stet_scan *self) {
    scan_source *best = NULL;
    for (int i = BUILDING; i < SOURCES; i++) {
        scan_source *source = &self->sources[i];
        if (!source->present)
            continue;
        int order = best ? stet_bytes_compare(source->key, best->key) : 0;
        if (!best || (self->reverse ? order > 0 : order < 0))
            best = source;
    }
    return best;
}

bool stet_scan_next(stet_scan *self, stet_str *ret_key, stet_str *ret_value) {
    while (!self->ended) {
        if (!self->started)
            start(self);
        else
            advance(self);
        scan_source *engine = &self->sources[ENGINE];
        if (!engine->present && self->status == STET_OK)
            self->status = stet_store_read_result(
                self->batch->store, engine->iter->ops->status(engine->iter, &self->error), &self->error);
        scan_source *next = self->ended || self->status != STET_OK ? NULL : newest_of_nearest(self);
        if (!next) {
            self->ended = true;
            break;
        }
        memcpy(self->last, next->key.data, next->key.size);
        self->last_size = next->key.size;
        if (next->rows && stet_row_is_tombstone(next->row))
            continue;
        *ret_key = last_of(self);
        *ret_value = next->rows ? stet_row_value(next->row) : next->value;
        self->batch->store->stats.reads++;
        return true;
    }
    return false;
}

stet_scan *stet_batch_scan(stet_batch *self, stet_str prefix, stet_str from, bool reverse) {
    ASSERT(prefix.size <= STET_KEY_BYTES_MAX && from.size <= STET_KEY_BYTES_MAX);
    stet_store *store = self->store;
    stet_scan *scan = malloc(sizeof *scan);
    if (!scan) {
        self->failed = self->starved = true;
        return NULL;
    }
    scan->batch = self;
    memset(scan->sources, 0, sizeof scan->sources);
    scan->sources[BUILDING].rows = store->building;
    scan->sources[IN_FLIGHT].rows = store->in_flight;
    scan->reverse = reverse;
    scan->started = false;
    scan->ended = false;
    scan->status = STET_OK;
    scan->lower_size = prefix.size;
    if (prefix.size > 0)
        memcpy(scan->lower, prefix.data, prefix.size);
    scan->upper_size = prefix_end(prefix, scan->upper);
    scan->from_size = from.size;
    scan->last_size = 0;
    if (from.size > 0)
        memcpy(scan->last, from.data, from.size);
    scan->sources[ENGINE].iter = store->engine->ops->iter(store->engine, lower_of(scan), upper_of(scan));
    if (!scan->sources[ENGINE].iter) {
        free(scan);
        self->failed = self->starved = true;
        return NULL;
    }
    self->scans_open++;
    return scan;
}

stet_code stet_scan_status(const stet_scan *self, stet_error *e) {
    if (self->status != STET_OK && e)
        *e = self->error;
    return self->status;
}

stet_scan *stet_scan_free(stet_scan *self) {
    if (!self)
        return NULL;
    self->sources[ENGINE].iter->ops->free(self->sources[ENGINE].iter);
    ASSERT(self->batch->scans_open > 0);
    self->batch->scans_open--;
    free(self);
    return NULL;
}

void stet_scan_done(stet_scan **self) {
    *self = stet_scan_free(*self);
}
