/* buf - a growable byte buffer with a hard limit.
 *
 * Appending never has to be checked call by call: an append that would pass size_max, or that finds no
 * memory, sets `failed`, appends nothing and makes all later appends no-ops. Look at stet_buf_ok() once at
 * the end. Thread: one at a time. Memory: stet_buf_done() frees; CLEANUP(stet_buf_done) does it by scope. */
#ifndef STET_BUF_H
#define STET_BUF_H

#include "proto/base/base.h"

typedef struct stet_buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t size_max;
    bool failed;
    bool borrowed; /* data is the room of STET_BUF_ON */
    bool starved;  /* it failed for want of memory, not of room under size_max */
} stet_buf;

#define STET_BUF(bytes_max)                                                                                  \
    { .data = NULL, .size = 0, .capacity = 0, .size_max = (bytes_max), .failed = false }
/* Begins in `room`, an array of the caller's that outlives it, and goes to the heap only when that is full:
 * for values that are nearly always small. */
#define STET_BUF_ON(room, bytes_max)                                                                         \
    {                                                                                                        \
        .data = (room), .size = 0, .capacity = sizeof(room) < (bytes_max) ? sizeof(room) : (bytes_max),      \
        .size_max = (bytes_max), .failed = false, .borrowed = true                                           \
    }

/* Appends when there is no room yet. */
void stet_buf_append_slow(stet_buf *self, const void *data, size_t size);
/* These two are most of the calls of a turn: inline where the room is there. */
static inline void stet_buf_append(stet_buf *self, const void *data, size_t size) {
    if (size - 1 < self->capacity - self->size && !self->failed) { /* size 0 is the other way too */
        memcpy(self->data + self->size, data, size);
        self->size += size;
    } else {
        stet_buf_append_slow(self, data, size);
    }
}
static inline void stet_buf_append_byte(stet_buf *self, uint8_t byte) {
    if (self->size < self->capacity && !self->failed)
        self->data[self->size++] = byte;
    else
        stet_buf_append_slow(self, &byte, 1);
}
static inline void stet_buf_append_str(stet_buf *self, stet_str text) {
    stet_buf_append(self, text.data, text.size);
}
/* In decimal. */
void stet_buf_append_uint(stet_buf *self, uint64_t number);
void stet_buf_append_int(stet_buf *self, int64_t number);
void stet_buf_printf(stet_buf *self, const char *format, ...) PRINTF(2, 3);
/* Makes room and returns where the next `size` bytes go, counted as appended; NULL when failed. */
uint8_t *stet_buf_extend(stet_buf *self, size_t size);
/* Back to a smaller size (for undo); keeps memory, clears nothing else. size <= self->size. */
void stet_buf_truncate(stet_buf *self, size_t size);
/* Empty again and not failed; keeps the memory. */
void stet_buf_clear(stet_buf *self);
/* Frees; the buffer may be used again. */
void stet_buf_done(stet_buf *self);

static inline bool stet_buf_ok(const stet_buf *self) {
    return !self->failed;
}
static inline bool stet_buf_starved(const stet_buf *self) {
    return self->starved;
}
static inline stet_str stet_buf_str(const stet_buf *self) {
    return (stet_str){(const char *)self->data, self->size};
}

#endif
