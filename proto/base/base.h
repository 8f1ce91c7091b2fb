/* base - the few macros and the one string slice that every file of Stet uses.
 *
 * ASSERT is our own and stays on in release builds: it guards what only a bug of ours can break. What the
 * world can do (a peer's bytes, a full disk, no memory) is returned as a stet_code, never asserted. */
#ifndef STET_BASE_H
#define STET_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
/* Runs fn(&variable) when the variable leaves scope. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
/* Gives the pointer away: evaluates to p and leaves NULL behind. */
#define TAKE(p)                                                                                              \
    __extension__({                                                                                          \
        __typeof__(p) take_ = (p);                                                                           \
        (p) = NULL;                                                                                          \
        take_;                                                                                               \
    })
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

_Noreturn void stet_assert_failed(const char *condition, const char *file, int line);
#define ASSERT(condition) ((condition) ? (void)0 : stet_assert_failed(#condition, __FILE__, __LINE__))

/* A slice of bytes owned by somebody else; not NUL-terminated. {NULL, 0} is the empty string. */
typedef struct stet_str {
    const char *data;
    size_t size;
} stet_str;

#define STET_STR(literal) ((stet_str){(literal), sizeof(literal) - 1})
/* printf helper: printf("%.*s", STET_STR_ARG(s)). */
#define STET_STR_ARG(s) (int)(s).size, (s).size ? (s).data : ""

static inline stet_str stet_str_of(const char *text) {
    return (stet_str){text, text ? strlen(text) : 0};
}
static inline stet_str stet_str_from(const void *data, size_t size) {
    return (stet_str){(const char *)data, size};
}
static inline bool stet_str_equal(stet_str a, stet_str b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
static inline bool stet_str_is(stet_str a, const char *text) {
    return stet_str_equal(a, stet_str_of(text));
}

#endif
