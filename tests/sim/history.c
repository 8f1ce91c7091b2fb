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

uint32_t history_name(history *self, stet_str text) {
    for (uint32_t i = 0; i < self->names_count; i++) {
        if (stet_str_is(text, self->names[i]))
            return i;
    }
    ASSERT(self->names_count < HISTORY_NAMES_MAX);
    char *copy = malloc(text.size + 1);
    ASSERT(copy != NULL);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    self->names[self->names_count] = copy;
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
