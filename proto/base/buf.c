#include "proto/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 64 };

static bool reserve(stet_buf *self, size_t more) {
    if (self->failed)
        return false;
    ASSERT(self->size <= self->size_max);
    if (more > self->size_max - self->size) {
        self->failed = true;
        return false;
    }
    size_t needed = self->size + more;
    if (needed <= self->capacity)
        return true;
    size_t capacity = self->capacity < CAPACITY_MIN ? CAPACITY_MIN : self->capacity;
    while (capacity < needed)
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    if (capacity > self->size_max)
        capacity = self->size_max;
    uint8_t *data = realloc(self->borrowed ? NULL : self->data, capacity);
    if (data == NULL) {
        self->failed = self->starved = true;
        return false;
    }
    if (self->borrowed && self->size > 0) {
        ASSERT(self->data != NULL);
        memcpy(data, self->data, self->size);
    }
    self->borrowed = false;
    self->data = data;
    self->capacity = capacity;
    return true;
}

void stet_buf_append_slow(stet_buf *self, const void *data, size_t size) {
    if (size == 0 || !reserve(self, size))
        return;
    memcpy(self->data + self->size, data, size);
    self->size += size;
}

void stet_buf_append_uint(stet_buf *self, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    stet_buf_append(self, digits + at, sizeof digits - at);
}

void stet_buf_append_int(stet_buf *self, int64_t number) {
    if (number < 0)
        stet_buf_append_byte(self, '-');
    stet_buf_append_uint(self, number < 0 ? -(uint64_t)number : (uint64_t)number);
}

void stet_buf_printf(stet_buf *self, const char *format, ...) {
    if (self->failed)
        return;
    char small[256];
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (length < 0) {
        self->failed = true;
    } else if ((size_t)length < sizeof small) {
        stet_buf_append(self, small, (size_t)length);
    } else {
        /* vsnprintf ends with a NUL, which is not ours to keep: it needs a byte of its own for a moment. */
        char *large = malloc((size_t)length + 1);
        if (large == NULL) {
            self->failed = self->starved = true;
        } else {
            (void)vsnprintf(large, (size_t)length + 1, format, again);
            stet_buf_append(self, large, (size_t)length);
            free(large);
        }
    }
    va_end(again);
}

uint8_t *stet_buf_extend(stet_buf *self, size_t size) {
    /* At least one byte is asked for, so that success is never NULL. */
    if (!reserve(self, size) || (self->data == NULL && !reserve(self, 1)))
        return NULL;
    uint8_t *place = self->data + self->size;
    self->size += size;
    return place;
}

void stet_buf_truncate(stet_buf *self, size_t size) {
    ASSERT(size <= self->size);
    self->size = size;
}

void stet_buf_clear(stet_buf *self) {
    self->size = 0;
    self->failed = self->starved = false;
}

void stet_buf_done(stet_buf *self) {
    if (!self->borrowed)
        free(self->data);
    self->borrowed = false;
    self->data = NULL;
    self->size = 0;
    self->capacity = 0;
    self->failed = self->starved = false;
}
