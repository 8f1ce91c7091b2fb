/* arena - memory that is given out by moving a pointer and taken back all at once, or back to a mark.
 *
 * A put costs one such move, never a malloc. Blocks stay with the arena for the next batch (up to a bound).
 * Thread: one at a time; sealed contents may be read by others. Limits: bytes_max over all blocks. */
#ifndef STET_ARENA_H
#define STET_ARENA_H

#include "proto/base/base.h"

typedef struct stet_arena_block stet_arena_block;

typedef struct stet_arena {
    stet_arena_block *first, *current;
    size_t used;      /* bytes given out from current */
    size_t allocated; /* bytes of all blocks */
    size_t bytes_max;
} stet_arena;

typedef struct stet_arena_mark {
    stet_arena_block *block;
    size_t used;
} stet_arena_mark;

stet_arena stet_arena_of(size_t bytes_max);
/* Aligned to 8. NULL when out of memory or over bytes_max. */
void *stet_arena_take(stet_arena *self, size_t size);
/* Would so many bytes be under bytes_max? Then a take that failed has found no memory. */
bool stet_arena_has_room(const stet_arena *self, size_t size);
/* A copy of the bytes; never NULL data when it succeeds, {NULL, 0} when there is no memory. */
stet_str stet_arena_copy(stet_arena *self, stet_str bytes);
stet_arena_mark stet_arena_mark_of(const stet_arena *self);
/* Everything given out since the mark is dead. */
void stet_arena_rewind(stet_arena *self, stet_arena_mark mark);
/* Everything is dead; keeps blocks up to keep_bytes. */
void stet_arena_reset(stet_arena *self, size_t keep_bytes);
void stet_arena_done(stet_arena *self);

#endif
