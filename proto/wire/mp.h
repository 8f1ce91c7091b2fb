/* mp - MessagePack: written with msgpack-c into a stet_buf, read through a cursor that builds no objects.
 *
 * Everything from outside goes through stet_mp_check() first: it walks the bytes once and refuses what is
 * malformed, too deep, too many, not UTF-8, ext, a duplicate or non-string map key, or followed by more
 * bytes. msgpack-c believes a length before the bytes are there, so nothing is decoded by it. The reader
 * never reads past its end even without the check; a wrong type or a cut sets `failed` (sticky) and yields
 * zeros. Strings point into the input, which must outlive them. Thread: any, no shared state. Source:
 * github.com/msgpack/msgpack/blob/master/spec.md */
#ifndef STET_MP_H
#define STET_MP_H

#include "proto/base/buf.h"
#include "proto/base/code.h"

/* ---- check ---- */
typedef struct stet_mp_limits {
    uint32_t depth_max; /* nesting of arrays and maps, 64 at most; 1 = a flat map */
    uint32_t nodes_max; /* values and keys in all */
} stet_mp_limits;

#define STET_MP_LIMITS_BODY ((stet_mp_limits){.depth_max = 16, .nodes_max = 65536})
#define STET_MP_LIMITS_ENVELOPE ((stet_mp_limits){.depth_max = 2, .nodes_max = 64})

/* STET_INVALID with a reason and the byte offset. */
NODISCARD
stet_code stet_mp_check(stet_str bytes, stet_mp_limits limits, stet_error *e);

/* ---- write: sticky failure lies in the buffer ---- */
void stet_mp_map(stet_buf *b, uint32_t pairs);
void stet_mp_array(stet_buf *b, uint32_t items);
void stet_mp_str(stet_buf *b, stet_str text);
void stet_mp_cstr(stet_buf *b, const char *text);
void stet_mp_bin(stet_buf *b, const void *data, size_t size);
void stet_mp_uint(stet_buf *b, uint64_t n);
void stet_mp_int(stet_buf *b, int64_t n);
void stet_mp_bool(stet_buf *b, bool value);
void stet_mp_double(stet_buf *b, double value);
void stet_mp_nil(stet_buf *b);
/* One complete MessagePack value, copied as it is. */
void stet_mp_raw(stet_buf *b, stet_str value);

/* A map or array whose size is known only at the end. Open returns the mark to close with; close patches the
 * header to the smallest form (moves the content by up to 4 bytes). */
size_t stet_mp_open(stet_buf *b);
void stet_mp_close_map(stet_buf *b, size_t mark, uint32_t pairs);
void stet_mp_close_array(stet_buf *b, size_t mark, uint32_t items);

/* Key and value of a map in one call. */
void stet_mp_put_str(stet_buf *b, const char *key, stet_str value);
void stet_mp_put_cstr(stet_buf *b, const char *key, const char *value);
void stet_mp_put_uint(stet_buf *b, const char *key, uint64_t value);
void stet_mp_put_int(stet_buf *b, const char *key, int64_t value);
void stet_mp_put_bool(stet_buf *b, const char *key, bool value);
void stet_mp_put_double(stet_buf *b, const char *key, double value);
void stet_mp_put_raw(stet_buf *b, const char *key, stet_str value);
/* A time as RFC 3339 text. */
void stet_mp_put_time(stet_buf *b, const char *key, int64_t wall_ms);

/* ---- read ---- */
typedef enum stet_mp_type {
    STET_MP_NONE, /* at the end, or failed */
    STET_MP_NIL,
    STET_MP_BOOL,
    STET_MP_UINT, /* not negative, up to 2^64 - 1 */
    STET_MP_INT,  /* negative */
    STET_MP_DOUBLE,
    STET_MP_STR,
    STET_MP_BIN,
    STET_MP_ARRAY,
    STET_MP_MAP,
    STET_MP_EXT
} stet_mp_type;

typedef struct stet_mp_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
} stet_mp_reader;

stet_mp_reader stet_mp_reader_of(stet_str bytes);
stet_mp_type stet_mp_peek(const stet_mp_reader *r);
uint32_t stet_mp_read_map(stet_mp_reader *r);   /* number of pairs that follow */
uint32_t stet_mp_read_array(stet_mp_reader *r); /* number of items that follow */
stet_str stet_mp_read_str(stet_mp_reader *r);
stet_str stet_mp_read_bin(stet_mp_reader *r);
uint64_t stet_mp_read_uint(stet_mp_reader *r);
int64_t stet_mp_read_int(stet_mp_reader *r); /* also takes a non-negative one that fits */
bool stet_mp_read_bool(stet_mp_reader *r);
double stet_mp_read_double(stet_mp_reader *r); /* also takes integers */
void stet_mp_read_nil(stet_mp_reader *r);
/* The next value whole, as its bytes; moves past it. Iterative: depth cannot exhaust the stack. */
stet_str stet_mp_read_raw(stet_mp_reader *r);

/* Looks a key up in a map's bytes. False when `map` is not a map or has no such key. */
NODISCARD
bool stet_mp_find(stet_str map, const char *key, stet_mp_reader *ret_value);
/* Shorthands for records we wrote ourselves: the fallback when the key is missing or of another type. */
stet_str stet_mp_get_str(stet_str map, const char *key, stet_str fallback);
uint64_t stet_mp_get_uint(stet_str map, const char *key, uint64_t fallback);
int64_t stet_mp_get_int(stet_str map, const char *key, int64_t fallback);
bool stet_mp_get_bool(stet_str map, const char *key, bool fallback);
double stet_mp_get_double(stet_str map, const char *key, double fallback);
/* The raw bytes of the value; {NULL, 0} when missing. */
stet_str stet_mp_get_raw(stet_str map, const char *key);

#endif
