#include "store/arena.h"

#include <stdlib.h>

enum { BLOCK_BYTES = 64 << 10 };

struct stet_arena_block {
    stet_arena_block *next;
    size_t capacity;
    _Alignas(8) uint8_t data[];
};

stet_arena stet_arena_of(size_t bytes_max) {
    return (stet_arena){.bytes_max = bytes_max};
}

/* Makes a block with room for `size` bytes the current one. */
static bool next_block(stet_arena *self, size_t size) {
    stet_arena_block *next = self->current ? self->current->next : self->first;
    if (!next || next->capacity < size) {
        size_t capacity = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        if (capacity > self->bytes_max || self->allocated > self->bytes_max - capacity)
            return false;
        stet_arena_block *block = malloc(sizeof *block + capacity);
        if (!block)
            return false;
        block->capacity = capacity;
        block->next = next; /* a kept block that is too small waits behind this one */
        *(self->current ? &self->current->next : &self->first) = block;
        self->allocated += capacity;
        next = block;
    }
    self->current = next;
    self->used = 0;
    return true;
}

bool stet_arena_has_room(const stet_arena *self, size_t size) {
    size_t capacity = size > BLOCK_BYTES ? size : BLOCK_BYTES;
    return capacity <= self->bytes_max && self->allocated <= self->bytes_max - capacity;
}

void *stet_arena_take(stet_arena *self, size_t size) {
    if (size > self->bytes_max)
        return NULL;
    size = (size + 7) & ~(size_t)7;
    if ((!self->current || self->current->capacity - self->used < size) && !next_block(self, size))
        return NULL;
    void *taken = self->current->data + self->used;
    self->used += size;
    return taken;
}

stet_str stet_arena_copy(stet_arena *self, stet_str bytes) {
    char *copy = stet_arena_take(self, bytes.size > 0 ? bytes.size : 1);
    if (!copy)
        return (stet_str){NULL, 0};
    if (bytes.size > 0)
        memcpy(copy, bytes.data, bytes.size);
    return (stet_str){copy, bytes.size};
}

stet_arena_mark stet_arena_mark_of(const stet_arena *self) {
    return (stet_arena_mark){.block = self->current, .used = self->used};
}

void stet_arena_rewind(stet_arena *self, stet_arena_mark mark) {
    self->current = mark.block;
    self->used = mark.used;
}

void stet_arena_reset(stet_arena *self, size_t keep_bytes) {
    size_t kept = 0;
    stet_arena_block **link = &self->first;
    while (*link) {
        stet_arena_block *block = *link;
        if (kept + block->capacity <= keep_bytes) {
            kept += block->capacity;
            link = &block->next;
        } else {
            *link = block->next;
            free(block);
        }
    }
    self->allocated = kept;
    self->current = NULL;
    self->used = 0;
}

void stet_arena_done(stet_arena *self) {
    stet_arena_reset(self, /* keep_bytes= */ 0);
}
