#include "actors/runtime/recent_ids.h"

#include <xxhash.h>

static bool above(stet_id a, stet_id b) {
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) > 0;
}

static uint32_t bit_of(uint64_t hash, int probe) {
    return (uint32_t)(hash >> (32 * probe)) % RECENT_IDS_BITS;
}

static void set(recent_ids_generation *generation, uint32_t bit) {
    generation->bits[bit / 64] |= (uint64_t)1 << (bit % 64);
}

static bool is_set(const recent_ids_generation *generation, uint32_t bit) {
    return (generation->bits[bit / 64] >> (bit % 64) & 1) != 0;
}

void stet_recent_ids_begin(recent_ids *self, stet_id largest_stored) {
    memset(self, 0, sizeof(*self));
    self->floor = largest_stored;
}

void stet_recent_ids_add(recent_ids *self, stet_id id) {
    if (self->generations[self->current].count == RECENT_IDS_GENERATION) {
        self->current ^= 1;
        recent_ids_generation *older = &self->generations[self->current];
        if (above(older->largest, self->floor))
            self->floor = older->largest;
        memset(older, 0, sizeof(*older));
    }
    recent_ids_generation *generation = &self->generations[self->current];
    uint64_t hash = XXH3_64bits(id.bytes, sizeof(id.bytes));
    set(generation, bit_of(hash, 0));
    set(generation, bit_of(hash, 1));
    if (above(id, generation->largest))
        generation->largest = id;
    generation->count++;
}

bool stet_recent_ids_is_new(const recent_ids *self, stet_id id) {
    if (!above(id, self->floor))
        return false;
    uint64_t hash = XXH3_64bits(id.bytes, sizeof(id.bytes));
    for (int i = 0; i < 2; i++)
        if (is_set(&self->generations[i], bit_of(hash, 0)) && is_set(&self->generations[i], bit_of(hash, 1)))
            return false;
    return true;
}
