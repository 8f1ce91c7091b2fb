#include "store/overlay.h"

#include <stdlib.h>
#include <xxhash.h>

enum {
    UNDO_FIRST = 256,
    KEEP_BYTES = 2 << 20,
    UNDO_KEEP = 16384,
    BUCKETS_FIRST = 1024,
    BUCKETS_KEEP = 16384
};
static const uint64_t seed_start = UINT64_C(0x9e3779b97f4a7c15);

stet_overlay stet_overlay_of(size_t arena_bytes_max, bool keeps_undo) {
    return (stet_overlay){
        .arena = stet_arena_of(arena_bytes_max), .seed = seed_start, .keeps_undo = keeps_undo};
}

void stet_overlay_done(stet_overlay *self) {
    stet_arena_done(&self->arena);
    free(self->undo);
    free(self->buckets);
    *self = stet_overlay_of(self->arena.bytes_max, self->keeps_undo);
}

void stet_overlay_clear(stet_overlay *self) {
    stet_arena_reset(&self->arena, KEEP_BYTES);
    self->head = NULL;
    memset(self->newest, 0, sizeof self->newest);
    self->seed = seed_start;
    self->bytes = 0;
    self->count = 0;
    if (self->buckets_count > BUCKETS_KEEP) {
        free(self->buckets);
        self->buckets = NULL;
        self->buckets_count = 0;
    } else if (self->linked > 0) {
        memset(self->buckets, 0, self->buckets_count * sizeof(stet_row *));
    }
    self->linked = 0;
    self->undo_count = 0;
    if (self->undo_capacity > UNDO_KEEP) {
        free(self->undo);
        self->undo = NULL;
        self->undo_capacity = 0;
    }
}

static uint8_t random_height(stet_overlay *self) {
    uint64_t x = self->seed; /* xorshift64 */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    self->seed = x;
    uint8_t height = 1;
    for (uint64_t bits = x >> 16; height < STET_OVERLAY_HEIGHT_MAX && (bits & 3) == 0; bits >>= 2)
        height++;
    return height;
}

bool stet_overlay_has_room(const stet_overlay *self, size_t bytes) {
    return stet_arena_has_room(&self->arena,
                               sizeof(stet_row) + STET_OVERLAY_HEIGHT_MAX * sizeof(stet_row *) + bytes);
}

static stet_row *row_new(stet_overlay *self, uint8_t height, stet_str key, stet_str value) {
    size_t tower = (size_t)height * sizeof(stet_row *);
    stet_row *row = stet_arena_take(&self->arena, sizeof *row + tower + key.size + value.size);
    if (!row)
        return NULL;
    uint8_t *bytes = (uint8_t *)row + sizeof *row + tower;
    row->height = height;
    row->fresh = false;
    row->key_size = (uint16_t)key.size;
    if (key.size > 0)
        memcpy(bytes, key.data, key.size);
    row->value = value.data ? bytes + key.size : NULL;
    row->value_size = (uint32_t)value.size;
    if (row->value && value.size > 0)
        memcpy(bytes + key.size, value.data, value.size);
    return row;
}

static bool ensure_head(stet_overlay *self) {
    if (self->head)
        return true;
    stet_row *head = row_new(self, STET_OVERLAY_HEIGHT_MAX, (stet_str){NULL, 0}, (stet_str){NULL, 0});
    if (!head)
        return false;
    head->previous = NULL;
    memset(head->next, 0, STET_OVERLAY_HEIGHT_MAX * sizeof head->next[0]);
    self->head = head;
    return true;
}

/* The last row with key < `key` (<= when `equal_too`), possibly the head; fills the path when asked to. A row
 * met again one level down is not compared again: it was found to be too far already. */
static stet_row *descend(const stet_overlay *self, stet_str key, bool equal_too, stet_row **path) {
    stet_row *at = self->head;
    const stet_row *too_far = NULL;
    for (int level = STET_OVERLAY_HEIGHT_MAX - 1; level >= 0; level--) {
        for (;;) {
            stet_row *next = at->next[level];
            if (!next || next == too_far)
                break;
            int order = stet_bytes_compare(stet_row_key(next), key);
            if (order > 0 || (order == 0 && !equal_too)) {
                too_far = next;
                break;
            }
            at = next;
        }
        if (path)
            path[level] = at;
    }
    return at;
}

static stet_row **newest_of(stet_overlay *self, stet_str key) {
    return &self->newest[(uint8_t)key.data[0]];
}

/* The newest row of the table when the key belongs right behind it. */
static stet_row *just_before(stet_overlay *self, stet_str key) {
    stet_row *row = *newest_of(self, key);
    if (!row || stet_bytes_compare(stet_row_key(row), key) > 0)
        return NULL;
    return row->next[0] && stet_bytes_compare(stet_row_key(row->next[0]), key) < 0 ? NULL : row;
}

/* What is to be written changes: once with -1 before a row does, once with 1 after it. */
static void weigh(stet_overlay *self, const stet_row *row, int sign) {
    if (stet_row_is_void(row))
        return;
    size_t bytes = (size_t)row->key_size + row->value_size;
    self->count += (uint32_t)sign;
    self->bytes += sign < 0 ? -bytes : bytes;
}

/* ---- the hash table ---- */

static stet_row **bucket_of(const stet_overlay *self, stet_str key) {
    return &self->buckets[XXH3_64bits(key.data, key.size) & (self->buckets_count - 1)];
}

static stet_row *find(const stet_overlay *self, stet_str key) {
    if (self->linked == 0)
        return NULL;
    stet_row *row = *bucket_of(self, key);
    while (row && !stet_str_equal(stet_row_key(row), key))
        row = row->chain;
    return row;
}

static void chain_in(stet_overlay *self, stet_row *row) {
    stet_row **bucket = bucket_of(self, stet_row_key(row));
    row->chain = *bucket;
    *bucket = row;
}

static void chain_out(stet_overlay *self, const stet_row *row) {
    stet_row **link = bucket_of(self, stet_row_key(row));
    while (*link != row)
        link = &(*link)->chain;
    *link = row->chain;
}

/* Without memory for more buckets the chains grow; only the first ones must be there. */
static bool ensure_buckets(stet_overlay *self) {
    if (self->linked < self->buckets_count)
        return true;
    uint32_t count = self->buckets_count > 0 ? 2 * self->buckets_count : BUCKETS_FIRST;
    stet_row **buckets = calloc(count, sizeof(*buckets));
    if (!buckets)
        return self->buckets_count > 0;
    free(self->buckets);
    self->buckets = buckets;
    self->buckets_count = count;
    for (stet_row *row = self->head ? self->head->next[0] : NULL; row; row = row->next[0])
        chain_in(self, row);
    return true;
}

static void unlink_row(stet_overlay *self, stet_row *row) {
    stet_row *path[STET_OVERLAY_HEIGHT_MAX];
    (void)descend(self, stet_row_key(row), /* equal_too= */ false, path);
    for (int level = 0; level < row->height; level++) {
        ASSERT(path[level]->next[level] == row);
        path[level]->next[level] = row->next[level];
    }
    if (row->next[0])
        row->next[0]->previous = row->previous;
    chain_out(self, row);
    self->linked--;
    stet_row **newest = newest_of(self, stet_row_key(row));
    if (*newest == row)
        *newest = NULL;
    weigh(self, row, -1);
}

static bool ensure_undo(stet_overlay *self) {
    if (!self->keeps_undo || self->undo_count < self->undo_capacity)
        return true;
    size_t capacity = self->undo_capacity > 0 ? 2 * self->undo_capacity : UNDO_FIRST;
    stet_undo *undo = realloc(self->undo, capacity * sizeof *undo);
    if (!undo)
        return false;
    self->undo = undo;
    self->undo_capacity = capacity;
    return true;
}

static void remember(stet_overlay *self, stet_undo undo) {
    if (self->keeps_undo)
        self->undo[self->undo_count++] = undo;
}

static bool overwrite(stet_overlay *self, stet_row *row, stet_str value) {
    stet_undo undo = {.row = row,
                      .value = row->value,
                      .value_size = row->value_size,
                      .arena = stet_arena_mark_of(&self->arena)};
    stet_str copy = {NULL, 0};
    if (value.data) {
        copy = stet_arena_copy(&self->arena, value);
        if (!copy.data)
            return false;
    }
    remember(self, undo);
    weigh(self, row, -1);
    row->value = (const uint8_t *)copy.data;
    row->value_size = (uint32_t)copy.size;
    weigh(self, row, 1);
    return true;
}

static bool write_row(stet_overlay *self, stet_str key, stet_str value, bool fresh) {
    ASSERT(key.size > 0 && key.size <= UINT16_MAX);
    ASSERT(value.size <= UINT32_MAX);
    if (!ensure_head(self) || !ensure_undo(self) || !ensure_buckets(self))
        return false;
    stet_row *known = find(self, key);
    if (known)
        return overwrite(self, known, value);

    uint8_t height = random_height(self);
    stet_row *path[STET_OVERLAY_HEIGHT_MAX];
    stet_row *before = height == 1 ? just_before(self, key) : NULL;
    if (before)
        path[0] = before;
    else
        before = descend(self, key, /* equal_too= */ false, path);
    stet_row *after = before->next[0];
    stet_arena_mark mark = stet_arena_mark_of(&self->arena);
    stet_row *row = row_new(self, height, key, value);
    if (!row)
        return false;
    for (int level = 0; level < height; level++) {
        row->next[level] = path[level]->next[level];
        path[level]->next[level] = row;
    }
    row->previous = before;
    if (after)
        after->previous = row;
    row->fresh = fresh;
    chain_in(self, row);
    self->linked++;
    *newest_of(self, key) = row;
    weigh(self, row, 1);
    remember(self, (stet_undo){.row = row, .created = true, .arena = mark});
    return true;
}

bool stet_overlay_put(stet_overlay *self, stet_str key, stet_str value) {
    return write_row(self, key, value, /* fresh= */ false);
}

bool stet_overlay_insert(stet_overlay *self, stet_str key, stet_str value) {
    return write_row(self, key, value, /* fresh= */ true);
}

void stet_overlay_remove(stet_overlay *self, stet_str key) {
    ASSERT(!self->keeps_undo);
    const stet_row *found = stet_overlay_find(self, key);
    if (found)
        unlink_row(self, found->previous->next[0]);
}

size_t stet_overlay_mark(const stet_overlay *self) {
    return self->undo_count;
}

void stet_overlay_undo(stet_overlay *self, size_t mark) {
    ASSERT(self->keeps_undo);
    ASSERT(mark <= self->undo_count);
    while (self->undo_count > mark) {
        const stet_undo *undo = &self->undo[--self->undo_count];
        stet_row *row = undo->row;
        if (undo->created) {
            unlink_row(self, row);
        } else {
            weigh(self, row, -1);
            row->value = undo->value;
            row->value_size = undo->value_size;
            weigh(self, row, 1);
        }
        stet_arena_rewind(&self->arena, undo->arena);
    }
}

const stet_row *stet_overlay_seek(const stet_overlay *self, stet_str key, bool past) {
    return self->head ? descend(self, key, /* equal_too= */ past, NULL)->next[0] : NULL;
}

const stet_row *stet_overlay_seek_back(const stet_overlay *self, stet_str key, bool past) {
    if (!self->head)
        return NULL;
    const stet_row *row = descend(self, key, /* equal_too= */ !past, NULL);
    return row == self->head ? NULL : row;
}

const stet_row *stet_overlay_find(const stet_overlay *self, stet_str key) {
    return find(self, key);
}

const stet_row *stet_overlay_first(const stet_overlay *self) {
    return self->head ? self->head->next[0] : NULL;
}

const stet_row *stet_overlay_last(const stet_overlay *self) {
    if (!self->head)
        return NULL;
    const stet_row *at = self->head;
    for (int level = STET_OVERLAY_HEIGHT_MAX - 1; level >= 0; level--)
        while (at->next[level])
            at = at->next[level];
    return at == self->head ? NULL : at;
}
