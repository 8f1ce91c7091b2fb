/* json - JSON text to MessagePack and back, without a tree between.
 *
 * Lossless for what the command schemas allow: 64-bit integers exact, doubles by their shortest text that
 * reads back the same, UTF-8 checked, duplicate keys refused. An own transcoder because the packaged
 * libraries read large integers as doubles or let the last of two equal keys win. bin is shown as {"$bin":
 * "<base64>"}, except that 16 bytes are shown as a UUID when `ids` is set (for inspect). Thread: any. Source:
 * RFC 8259. */
#ifndef STET_JSON_H
#define STET_JSON_H

#include "proto/base/buf.h"
#include "proto/base/code.h"
#include "proto/wire/mp.h"

/* Exactly one value, white space around it allowed. STET_INVALID names line, column and reason. */
NODISCARD
stet_code stet_json_to_mp(stet_str json, stet_mp_limits limits, stet_buf *ret_mp, stet_error *e);

typedef struct stet_json_style {
    uint32_t indent; /* 0: one line */
    bool ids;        /* show 16-byte bins as UUIDs */
    bool nested;     /* show a bin that holds a MessagePack map as {"$mp": the map} */
} stet_json_style;

/* STET_INVALID when the bytes are not MessagePack; NaN and infinities become null. */
NODISCARD
stet_code stet_mp_to_json(stet_str mp, stet_json_style style, stet_buf *ret_json, stet_error *e);
/* A JSON string literal with quotes; bytes that are not UTF-8 become U+FFFD. */
void stet_json_quote(stet_buf *b, stet_str text);
/* True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool stet_utf8_valid(stet_str text);
/* Size of the longest prefix that is well-formed UTF-8. */
size_t stet_utf8_prefix(stet_str text);
/* The largest size <= size_max at which the text can be cut without splitting a character. */
size_t stet_utf8_cut(stet_str text, size_t size_max);

#endif
