#include "proto/base/code.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct code_row {
    const char *name;
    const char *advice;
    bool may_resend;
} code_row;

static const code_row rows[STET_CODES_COUNT] = {
    [STET_OK] = {"ok", "", false},
#define X(name, wire, resend, advice) [STET_##name] = {wire, advice, resend},
#include "proto/base/errors.def"
#undef X
};

static const code_row *row_of(stet_code code) {
    ASSERT((int)code >= 0 && code < STET_CODES_COUNT);
    return &rows[code];
}

/* Copies at most size_max - 1 bytes and never ends inside a UTF-8 character. */
static void copy_text(char *to, size_t size_max, const char *from) {
    size_t size = strnlen(from, size_max);
    if (size == size_max) {
        size = size_max - 1;
        while (size > 0 && ((uint8_t)from[size] & 0xC0) == 0x80)
            size--;
    }
    memcpy(to, from, size);
    to[size] = '\0';
}

void stet_error_write(stet_error *e, stet_code code, const char *field, const char *format, ...) {
    ASSERT(code != STET_OK);
    ASSERT(code < STET_CODES_COUNT);
    if (e == NULL)
        return;
    /* Formatted aside first: arguments may point into *e (wrapping an error in a longer sentence). One byte
     * more than the message holds shows where the cut would fall. */
    char message[STET_ERROR_MESSAGE_MAX + 8];
    char path[STET_ERROR_FIELD_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (size < 0)
        message[0] = '\0';
    copy_text(path, sizeof path, field ? field : "");
    memset(e, 0, sizeof *e);
    e->code = code;
    copy_text(e->message, sizeof e->message, message);
    memcpy(e->field, path, sizeof path);
}

const char *stet_code_name(stet_code code) {
    return row_of(code)->name;
}

const char *stet_code_advice(stet_code code) {
    return row_of(code)->advice;
}

bool stet_code_may_resend(stet_code code) {
    return row_of(code)->may_resend;
}

stet_code stet_code_from_name(stet_str name) {
    for (int code = STET_OK; code < STET_CODES_COUNT; code++) {
        if (stet_str_is(name, rows[code].name))
            return (stet_code)code;
    }
    return STET_INTERNAL;
}

stet_code stet_code_of_disk(int error, stet_code otherwise) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EROFS:
        return STET_UNAVAILABLE;
    case EIO:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return STET_BUSY;
    default:
        return otherwise;
    }
}
