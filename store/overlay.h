/* overlay - an ordered map of key -> value | tombstone in one arena, with undo: the batch under construction.
 *
 *   a skip list; towers of `next` pointers (height h with probability 4^-(h-1)), and `previous` at the
 * bottom:
 *
 *      head ─────────────────────────────► row d ─────────► end
 *      head ─────────► row b ────────────► row d ─────────► end
 *      head ► row a ⇄ row b ⇄ row c ⇄ row d ⇄ row e ⇄ end
 *
 * Beside it a hash table of the same rows, chained: most questions are for one key, and walking the list costs 15
 * comparisons. New rows often come in order (ids and numbers grow), so the newest row of each table (first byte of the key)
 * is tried first as the one before: three of four rows have no tower, and need nothing else. A row is one piece of the arena: the tower, the key, the value. A second write of a key takes only the new
 * value. Heights come from a generator with a fixed seed, so the same calls make the same list. Every change
 * leaves an undo entry with the arena's position before it; undoing to a mark unlinks or restores, and gives
 * the memory back, so that messages that fail one after the other do not eat the batch's memory.
 *
 * Once sealed (by the owner; nothing here) it is not changed any more and may be read from two threads. */
#ifndef STET_OVERLAY_H
#define STET_OVERLAY_H

#include "store/arena.h"

enum { STET_OVERLAY_HEIGHT_MAX = 12 };

typedef struct stet_row stet_row;
struct stet_row {
    stet_row *previous;   /* the head before the first row */
    stet_row *chain;      /* the next one in its bucket */
    const uint8_t *value; /* NULL: a tombstone */
    uint32_t value_size;
    uint16_t key_size;
    uint8_t height;
    bool fresh;       /* nothing below has this key: as a tombstone it need not be written */
    stet_row *next[]; /* height of them; the key's bytes follow */
};

typedef struct stet_undo {
    stet_row *row;
    const uint8_t *value; /* as it was */
    uint32_t value_size;
    bool created;
    stet_arena_mark arena;
} stet_undo;

typedef struct stet_overlay {
    stet_arena arena;
    stet_row *head; /* of full height, before the first row; NULL before the first write */
    stet_row **buckets;
    uint32_t buckets_count; /* a power of two; 0 before the first write */
    uint32_t linked;        /* rows in the list */
    stet_row *newest[UINT8_MAX + 1];
    uint64_t seed;
    size_t bytes;   /* keys and values of the rows that are to be written */
    uint32_t count; /* of those rows */
    bool keeps_undo;
    stet_undo *undo;
    size_t undo_count, undo_capacity;
} stet_overlay;

stet_overlay stet_overlay_of(size_t arena_bytes_max, bool keeps_undo);
void stet_overlay_done(stet_overlay *self);
/* Empty again; keeps some memory. */
void stet_overlay_clear(stet_overlay *self);

/* value.data NULL: a tombstone. False when out of memory; then nothing has changed. */
NODISCARD
bool stet_overlay_put(stet_overlay *self, stet_str key, stet_str value);
/* The same for a row that is not there, neither here nor below. Deleted again, it leaves nothing to write. */
NODISCARD
bool stet_overlay_insert(stet_overlay *self, stet_str key, stet_str value);
/* Would a row of so many bytes be inside the bounds? Then a put that failed has found no memory. */
bool stet_overlay_has_room(const stet_overlay *self, size_t bytes);
/* Takes the row itself out (not a tombstone); without undo only. */
void stet_overlay_remove(stet_overlay *self, stet_str key);
/* Number of changes so far: the mark to undo to. */
size_t stet_overlay_mark(const stet_overlay *self);
void stet_overlay_undo(stet_overlay *self, size_t mark);

/* The row with this key, tombstones too; NULL when there is none. */
const stet_row *stet_overlay_find(const stet_overlay *self, stet_str key);
/* First row with key >= (or > when `past`); NULL at the end. An empty key is before all. */
const stet_row *stet_overlay_seek(const stet_overlay *self, stet_str key, bool past);
/* Last row with key <= (or < when `past`); NULL when none. */
const stet_row *stet_overlay_seek_back(const stet_overlay *self, stet_str key, bool past);
const stet_row *stet_overlay_first(const stet_overlay *self);
const stet_row *stet_overlay_last(const stet_overlay *self);

static inline stet_str stet_row_key(const stet_row *row) {
    return stet_str_from(&row->next[row->height], row->key_size);
}
static inline stet_str stet_row_value(const stet_row *row) {
    return stet_str_from(row->value, row->value_size);
}
static inline bool stet_row_is_tombstone(const stet_row *row) {
    return row->value == NULL;
}
/* Put and deleted again, with nothing below: as if it had never been. */
static inline bool stet_row_is_void(const stet_row *row) {
    return row->fresh && row->value == NULL;
}
/* NULL at the end. */
static inline const stet_row *stet_row_after(const stet_row *row) {
    return row->next[0];
}

/* memcmp order, the shorter first when one begins with the other. */
static inline int stet_bytes_compare(stet_str a, stet_str b) {
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size > 0 ? memcmp(a.data, b.data, size) : 0;
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

#endif
