/* What stands around every target: limits, and inputs taken apart. */
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* NOLINTBEGIN(bugprone-reserved-identifier): the names are the sanitizer runtime's */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *)) __attribute__((weak));
size_t __sanitizer_get_allocated_size(const volatile void *p) __attribute__((weak));
/* NOLINTEND(bugprone-reserved-identifier) */

static atomic_llong memory_now, memory_most;
static int64_t cpu_ms;

static void on_malloc(const volatile void *p, size_t size) {
    (void)p;
    long long now = atomic_fetch_add(&memory_now, (long long)size) + (long long)size;
    if (now > atomic_load(&memory_most))
        atomic_store(&memory_most, now);
}

static void on_free(const volatile void *p) {
    if (p != NULL)
        atomic_fetch_sub(&memory_now, (long long)__sanitizer_get_allocated_size(p));
}

static int64_t cpu_now_ms(void) {
    struct timespec now;
    ASSERT(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool counting;
    if (!counting && __sanitizer_install_malloc_and_free_hooks != NULL)
        (void)__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    counting = true;
    int64_t start_ms = cpu_now_ms();
    atomic_store(&memory_now, 0);
    atomic_store(&memory_most, 0);
    fuzz_one(data, size);
    cpu_ms = cpu_now_ms() - start_ms;
    ASSERT(atomic_load(&memory_most) <= FUZZ_MEMORY_MAX);
#ifdef FUZZ_CPU_LIMIT
    ASSERT(cpu_ms <= FUZZ_CPU_MAX_MS);
#endif
    return 0;
}

fuzz_cost fuzz_last_cost(void) {
    return (fuzz_cost){.memory = atomic_load(&memory_most), .cpu_ms = cpu_ms};
}

/* ---- inputs taken apart ---- */

struct fuzz_copy {
    struct fuzz_copy *next;
    uint8_t *bytes;
};

fuzz_input fuzz_input_of(const uint8_t *data, size_t size) {
    return (fuzz_input){.at = data, .left = size};
}

void fuzz_input_done(fuzz_input *self) {
    while (self->copies != NULL) {
        struct fuzz_copy *copy = self->copies;
        self->copies = copy->next;
        free(copy->bytes);
        free(copy);
    }
}

uint8_t fuzz_byte(fuzz_input *self) {
    if (self->left == 0)
        return 0;
    self->left--;
    return *self->at++;
}

uint64_t fuzz_number(fuzz_input *self, unsigned bytes) {
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number = number << 8 | fuzz_byte(self);
    return number;
}

static stet_str take(fuzz_input *self, size_t size) {
    if (size > self->left)
        size = self->left;
    struct fuzz_copy *copy = malloc(sizeof *copy);
    ASSERT(copy != NULL);
    copy->bytes = malloc(size > 0 ? size : 1);
    ASSERT(copy->bytes != NULL);
    if (size > 0)
        memcpy(copy->bytes, self->at, size);
    copy->next = self->copies;
    self->copies = copy;
    self->at += size;
    self->left -= size;
    return stet_str_from(copy->bytes, size);
}

stet_str fuzz_piece(fuzz_input *self) {
    size_t size = fuzz_byte(self);
    return take(self, size == 255 ? fuzz_number(self, 3) : size);
}

stet_str fuzz_rest(fuzz_input *self) {
    return take(self, self->left);
}

void fuzz_put_piece(stet_buf *b, stet_str piece) {
    ASSERT(piece.size < 1 << 24);
    if (piece.size < 255) {
        stet_buf_append_byte(b, (uint8_t)piece.size);
    } else {
        stet_buf_append_byte(b, 255);
        for (unsigned shift = 24; shift > 0; shift -= 8)
            stet_buf_append_byte(b, (uint8_t)(piece.size >> (shift - 8)));
    }
    stet_buf_append_str(b, piece);
}
