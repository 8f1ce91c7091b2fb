/* Runs: the events of a batch, kept until it is sealed.
 *
 *   effects:   answer | event s1 | event s2 | answer | event s1 | ...
 *                          ^-----------------------------'  previous
 *   runs:      s1 {head as stored, 2 events}   s2 {head as stored, 1 event}
 *
 * A row an event, and the session's head again with each, were the larger part of what a small job wrote. So
 * a turn only numbers events and puts their texts on its list of effects; sealing writes one row (or a few)
 * with all texts that a session got in this commit, and its head once. Their size counts as written from the
 * beginning, so that what was taken in always fits. Undo cuts the list of effects and, item by item, the
 * runs. */
#include "actors/runtime/records.h"
#include "proto/base/plant.h"

#include <stdlib.h>
#include <xxhash.h>

enum {
    ROW_TEXT_BYTES = 64 << 10, /* a reader of one event reads its whole row */
    TEXT_OVERHEAD = 5,
    RUN_OVERHEAD = 128, /* keys and head, but for the session's name */
    RUNS_FIRST = 64
};

static const size_t PREFIX_BYTES = sizeof("TOOL_PROGRESS::") - 1;

void stet_runs_init(turn_runs *self) {
    memset(self->buckets, 0xff, sizeof(self->buckets));
}

void stet_runs_done(turn_runs *self) {
    free(self->runs);
    self->runs = NULL;
}

static uint32_t *bucket_of(turn_runs *self, stet_str session) {
    return &self->buckets[XXH3_64bits(session.data, session.size) % TURN_RUN_BUCKETS];
}

static size_t run_bytes(stet_str session) {
    return RUN_OVERHEAD + 4 * session.size; /* twice in a key, where a zero byte is written as two */
}

/* Two rows in succession hold more than ROW_TEXT_BYTES: each half of that brings one more row at the most. */
static size_t text_bytes(stet_str session, size_t payload) {
    size_t size = payload - PREFIX_BYTES + TEXT_OVERHEAD;
    return size + size * run_bytes(session) / (ROW_TEXT_BYTES / 2) + 1;
}

stet_code stet_runs_head(stet_turn *turn, stet_str session, uint32_t *ret_run, stet_event_head *ret,
                         stet_error *e) {
    turn_runs *self = &turn->runs;
    for (uint32_t i = *bucket_of(self, session); i != TURN_NO_RUN; i = self->runs[i].next) {
        turn_run *run = &self->runs[i];
        if (!stet_str_equal(stet_effects_text(turn->effects, run->session), session))
            continue;
        *ret_run = i;
        *ret = run->stored;
        ret->last += run->count;
        return STET_OK;
    }
    *ret_run = TURN_NO_RUN;
    return stet_events_head(turn, session, ret, e);
}

static bool make_room(turn_runs *self) {
    if (self->count < self->capacity)
        return true;
    uint32_t capacity = self->capacity ? 2 * self->capacity : RUNS_FIRST;
    turn_run *grown = realloc(self->runs, capacity * sizeof(*grown));
    if (!grown)
        return false;
    self->runs = grown;
    self->capacity = capacity;
    return true;
}

void stet_runs_add(stet_turn *turn, uint32_t run_index, const stet_event_head *head, effects_slice session) {
    turn_runs *self = &turn->runs;
    stet_effects *effects = turn->effects;
    stet_str name = stet_effects_text(effects, session);
    uint32_t item = (uint32_t)effects->count - 1;
    if (run_index == TURN_NO_RUN) {
        if (!make_room(self)) {
            stet_effects_fail(effects, /* starved= */ true);
            effects->items[item].run = TURN_NO_RUN; /* to be undone */
            return;
        }
        uint32_t *bucket = bucket_of(self, name);
        run_index = self->count++;
        self->runs[run_index] = (turn_run){.stored = *head, .session = session, .next = *bucket};
        *bucket = run_index;
        self->bytes += run_bytes(name);
    }
    turn_run *run = &self->runs[run_index];
    effects->items[item].run = run_index;
    effects->items[item].previous = run->item_last;
    run->item_last = item;
    run->count++;
    run->newest_ms = turn->wall_ms;
    self->events++;
    self->bytes += text_bytes(name, effects->items[item].b.size);
}

void stet_runs_cut(stet_turn *turn, size_t items, uint32_t count) {
    turn_runs *self = &turn->runs;
    const stet_effects *effects = turn->effects;
    for (size_t i = effects->count; self->events > 0 && i-- > items;) {
        const effects_item *item = &effects->items[i];
        if (item->kind != EFFECTS_PUBLISH || item->run == TURN_NO_RUN)
            continue;
        turn_run *run = &self->runs[item->run];
        ASSERT(run->item_last == i);
        run->item_last = item->previous;
        run->count--;
        self->events--;
        self->bytes -= text_bytes(stet_effects_text(effects, run->session), item->b.size);
    }
    while (self->count > count) { /* the newest of all is the first of its bucket */
        const turn_run *run = &self->runs[--self->count];
        ASSERT(run->count == 0);
        stet_str name = stet_effects_text(effects, run->session);
        *bucket_of(self, name) = run->next;
        self->bytes -= run_bytes(name);
    }
}

static stet_str text_of(const stet_effects *effects, uint32_t item) {
    stet_str payload = stet_effects_text(effects, effects->items[item].b);
    return (stet_str){payload.data + PREFIX_BYTES, payload.size - PREFIX_BYTES};
}

/* Turns the chain of a run around, for it was linked backwards; returns its first item. */
static uint32_t reverse(stet_effects *effects, const turn_run *run) {
    uint32_t after = 0, at = run->item_last;
    for (uint32_t i = 0; i < run->count; i++) {
        uint32_t before = effects->items[at].previous;
        effects->items[at].previous = after;
        after = at;
        at = before;
    }
    return after;
}

static void write_run(stet_turn *turn, const turn_run *run) {
    stet_effects *effects = turn->effects;
    stet_str session = stet_effects_text(effects, run->session);
    uint32_t at = reverse(effects, run);
    uint64_t number = run->stored.last + 1;
    for (uint32_t left = run->count; left > 0;) {
        uint32_t count = 0, end = at;
        for (size_t bytes = 0; count < left; count++, end = effects->items[end].previous) {
            bytes += text_of(effects, end).size;
            if (count > 0 && bytes > ROW_TEXT_BYTES)
                break;
        }
        stet_buf *row = stet_turn_row_new(turn, count + 1);
        for (uint32_t i = 0; i < count; i++, at = effects->items[at].previous)
            stet_mp_str(row, text_of(effects, at));
        stet_key key = stet_events_key(session, number);
        stet_turn_row_put(turn, &key);
        turn->runs.lost |= !stet_buf_ok(row);
        number += count;
        left -= count;
    }
    stet_event_head head = {.last = number - 1, .newest_ms = run->newest_ms, .swept = run->stored.swept};
    if (!PLANT(event_number_reused) || head.last % 8 != 0)
        stet_events_head_put(turn, session, &head);
    turn->runs.lost |= !stet_buf_ok(&turn->row) || stet_batch_failed(stet_turn_batch(turn));
}

void stet_runs_flush(stet_turn *turn) {
    turn_runs *self = &turn->runs;
    for (uint32_t i = 0; i < self->count; i++) {
        const turn_run *run = &self->runs[i];
        *bucket_of(self, stet_effects_text(turn->effects, run->session)) = TURN_NO_RUN;
        if (run->count > 0)
            write_run(turn, run);
    }
    self->count = 0;
    self->events = 0;
    self->bytes = 0;
}
