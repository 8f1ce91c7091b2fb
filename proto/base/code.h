/* code - what can fail returns a stet_code and fills a stet_error.
 *
 * Programs branch on the code; people read the message; nothing branches on the message. The list stands in
 * proto/base/errors.def and is also the list of codes on the wire.
 * Thread: any. Memory: a stet_error is a plain value, nothing to free. */
#ifndef STET_CODE_H
#define STET_CODE_H

#include "proto/base/base.h"

typedef enum stet_code {
    STET_OK = 0,
#define X(name, wire, resend, advice) STET_##name,
#include "proto/base/errors.def"
#undef X
    STET_CODES_COUNT
} stet_code;

enum { STET_ERROR_FIELD_MAX = 96, STET_ERROR_MESSAGE_MAX = 256, STET_ERROR_DETAILS_MAX = 256 };

typedef struct stet_error {
    stet_code code;
    uint32_t retry_after_ms;                 /* 0: no hint */
    char field[STET_ERROR_FIELD_MAX];        /* path of the offending field, e.g. "items[2].id", or "" */
    char message[STET_ERROR_MESSAGE_MAX];    /* a sentence for people that says what to do next */
    uint8_t details[STET_ERROR_DETAILS_MAX]; /* a MessagePack map, e.g. {currentVersion: 4} */
    size_t details_size;                     /* 0: none */
} stet_error;

/* Sets code and message, clears the rest; evaluates to code, so `return stet_error_set(e, STET_BUSY, "...")`.
 * e may be NULL. Messages are cut at STET_ERROR_MESSAGE_MAX - 1 bytes on a UTF-8 boundary. A macro, so that
 * compilers and analysers see that what comes back is the code that went in, and never STET_OK. */
#define stet_error_set(e, code, ...) stet_error_field(e, code, "", __VA_ARGS__)
/* The same with the path of a field. */
#define stet_error_field(e, code, field, ...)                                                                \
    __extension__({                                                                                          \
        const stet_code set_ = (code);                                                                       \
        stet_error_write((e), set_, (field), __VA_ARGS__);                                                   \
        set_;                                                                                                \
    })
void stet_error_write(stet_error *e, stet_code code, const char *field, const char *format, ...) PRINTF(4, 5);

const char *stet_code_name(stet_code code);   /* wire name; "ok" for STET_OK */
const char *stet_code_advice(stet_code code); /* what to do next; "" for STET_OK */
bool stet_code_may_resend(stet_code code);
/* STET_INTERNAL when the name is unknown (a newer peer). */
stet_code stet_code_from_name(stet_str name);
/* What a failed call to the disk (errno) means: STET_UNAVAILABLE when it passes once somebody makes room or makes the disk
 * writable, STET_BUSY when starting again may cure it, else `otherwise`. */
stet_code stet_code_of_disk(int error, stet_code otherwise);

#endif
