#include "tests/sim/history.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void history_done(history *self) {
    for (uint32_t i = 0; i < self->names_count; i++)
        free(self->names[i]);
    free(self->records);
    *self = (history){.records = NULL};
}

void history_add(history *self, history_record record) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 1024;
        self->records = realloc(self->records, self->capacity * sizeof(*self->records));
        ASSERT(self->records != NULL);
    }
    self->records[self->count++] = record;
}

static uint32_t slot_of(const history *self, stet_str text) {
    uint32_t at = 2166136261u;
    for (size_t i = 0; i < text.size; i++)
        at = (at ^ (uint8_t)text.data[i]) * 16777619u;
    for (at ^= at >> 15;; at++) {
        uint32_t entry = self->slots[at % HISTORY_SLOTS];
        if (entry == 0 || stet_str_is(text, self->names[entry - 1]))
            return at % HISTORY_SLOTS;
    }
}

uint32_t history_name(history *self, stet_str text) {
    uint32_t slot = slot_of(self, text);
    if (self->slots[slot] > 0)
        return self->slots[slot] - 1u;
    ASSERT(self->names_count < HISTORY_NAMES_MAX);
    char *copy = malloc(text.size + 1);
    ASSERT(copy != NULL);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    self->names[self->names_count] = copy;
    self->slots[slot] = (uint16_t)(self->names_count + 1);
    return self->names_count++;
}

uint32_t history_name_of(history *self, const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return history_name(self, stet_str_of(text));
}

const char *history_kind_text(history_kind kind) {
    static const char *const texts[] = {
#define X(name, text, fields) text,
        HISTORY_KINDS(X)
#undef X
    };
    return kind < HISTORY_KINDS_COUNT ? texts[kind] : "?";
}
