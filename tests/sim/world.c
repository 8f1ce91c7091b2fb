#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdlib.h>

enum { FIRST_BOOT_MS = 1000000 };

static const int64_t first_wall_ms = 1790000000000;
static const uint64_t hash_start = 0xcbf29ce484222325u;

uint64_t world_hash(uint64_t hash, const void *data, size_t size) {
    const uint8_t *at = data;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    for (; size > 0; at++, size--)
        hash = (hash ^ *at) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

void world_init(world *self, uint64_t seed) {
    *self = (world){.prng = stet_prng_of(seed),
                    .ids = stet_id_source_of(seed ^ 0x5157u),
                    .boot_ms = FIRST_BOOT_MS,
                    .wall_offset_ms = first_wall_ms - FIRST_BOOT_MS,
                    .hash = hash_start};
}

void world_done(world *self) {
    free(self->heap);
    self->heap = NULL;
    self->count = self->capacity = 0;
}

/* ---- events ---- */

static bool before(const world_event *a, const world_event *b) {
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

void world_at(world *self, int64_t at_ms, world_event_fn *fn, void *object, uint64_t number) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 1024;
        self->heap = realloc(self->heap, self->capacity * sizeof(*self->heap));
        ASSERT(self->heap != NULL);
    }
    world_event event = {.at_ms = at_ms < self->boot_ms ? self->boot_ms : at_ms,
                         .order = self->order++,
                         .fn = fn,
                         .object = object,
                         .number = number};
    size_t i = self->count++;
    for (; i > 0 && before(&event, &self->heap[(i - 1) / 2]); i = (i - 1) / 2)
        self->heap[i] = self->heap[(i - 1) / 2];
    self->heap[i] = event;
}

static world_event take_first(world *self) {
    world_event first = self->heap[0], last = self->heap[--self->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= self->count)
            break;
        if (child + 1 < self->count && before(&self->heap[child + 1], &self->heap[child]))
            child++;
        if (!before(&self->heap[child], &last))
            break;
        self->heap[i] = self->heap[child];
        i = child;
    }
    self->heap[i] = last;
    return first;
}

bool world_step(world *self, int64_t until_ms) {
    if (self->failed || self->count == 0 || self->heap[0].at_ms > until_ms) {
        if (!self->failed && self->boot_ms < until_ms)
            self->boot_ms = until_ms;
        return false;
    }
    world_event event = take_first(self);
    self->boot_ms = event.at_ms;
    event.fn(event.object, event.number);
    return true;
}

/* ---- clocks and chance ---- */

int64_t world_wall_ms(const world *self) {
    return self->wall_frozen_ms ? self->wall_frozen_ms : self->boot_ms + self->wall_offset_ms;
}

uint64_t world_below(world *self, uint64_t bound) {
    return bound == 0 ? 0 : stet_prng_below(&self->prng, bound);
}

bool world_chance(world *self, uint32_t per_mille) {
    return per_mille > 0 && world_below(self, 1000) < per_mille;
}

int64_t world_between(world *self, int64_t least, int64_t most) {
    return most <= least ? least : least + (int64_t)world_below(self, (uint64_t)(most - least) + 1);
}

int64_t world_skewed(world *self, int64_t least, int64_t most) {
    int64_t range = most - least;
    for (uint64_t halvings = world_below(self, 10); halvings > 0 && range > 1; halvings--)
        range /= 2;
    return world_between(self, least, least + range);
}

/* ---- the trace ---- */

static void keep_line(world *self, const char *who, const char *what, uint64_t a, uint64_t b, stet_str text) {
    char *line = self->lines[self->lines_count++ % WORLD_LAST_LINES];
    (void)snprintf(line, WORLD_LINE_SIZE, "%10lld.%03lld %-10s %-14s %llu %llu %.*s",
                   (long long)(self->boot_ms / 1000), (long long)(self->boot_ms % 1000), who, what,
                   (unsigned long long)a, (unsigned long long)b, STET_STR_ARG(text));
    if (self->file)
        (void)fprintf(self->file, "%s\n", line);
}

void world_tell(world *self, const char *who, const char *what, uint64_t a, uint64_t b, stet_str text) {
    uint64_t numbers[3] = {(uint64_t)self->boot_ms, a, b};
    self->hash = world_hash(self->hash, numbers, sizeof(numbers));
    self->hash = world_hash(self->hash, what, strlen(what));
    self->hash = world_hash(self->hash, who, strlen(who));
    if (text.size > 0)
        self->hash = world_hash(self->hash, text.data, text.size);
    if (self->telling)
        keep_line(self, who, what, a, b, text);
}

void world_fail(world *self, const char *format, ...) {
    if (self->failed)
        return;
    self->failed = true;
    self->failed_ms = self->boot_ms;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(self->violation, sizeof(self->violation), format, arguments);
    va_end(arguments);
}
