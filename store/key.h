/* key - ordered tuple keys: one table byte, then components; memcmp order is tuple order.
 *
 *   'S' text: bytes with 0x00 written 0x00 0xFF, ended by 0x00 0x01      'U' eight bytes big-endian
 *   'D' the same complemented (descending order)                         'I' sixteen bytes of an id
 * The tag byte before each component makes keys readable for `inspect`. Keys live on the stack. */
#ifndef STET_KEY_H
#define STET_KEY_H

#include "proto/base/buf.h"
#include "proto/base/code.h"
#include "proto/wire/id.h"

enum { STET_KEY_BYTES_MAX = 768 };

typedef struct stet_key {
    uint8_t bytes[STET_KEY_BYTES_MAX];
    size_t size;
} stet_key;

/* table: a number of tables.def or of the actor's own table list (64..255). */
stet_key stet_key_of(uint8_t table);
/* Appending past the maximum asserts: admission bounds every string that becomes part of a key. */
void stet_key_str(stet_key *key, stet_str text);
void stet_key_u64(stet_key *key, uint64_t number);
void stet_key_u64_descending(stet_key *key, uint64_t number);
void stet_key_id(stet_key *key, stet_id id);

static inline stet_str stet_key_bytes(const stet_key *key) {
    return stet_str_from(key->bytes, key->size);
}

/* Reading a key back, component by component; `failed` is sticky and yields zeros. */
typedef struct stet_key_reader {
    const uint8_t *at, *end;
    bool failed;
} stet_key_reader;
stet_key_reader stet_key_reader_of(stet_str key, uint8_t *ret_table);
/* Unescapes into text (size_max bytes); returns the size. */
size_t stet_key_read_str(stet_key_reader *r, char *text, size_t size_max);
/* Most keys begin with a name: opens the key and reads it. *ret_rest: what stands behind the name; failed for a
 * name that is longer than any of ours, so that there is room for it in every other key. */
enum { STET_KEY_NAME_MAX = 256 };
stet_str stet_key_open_named(stet_str key, char name[STET_KEY_BYTES_MAX], stet_key_reader *ret_rest);
uint64_t stet_key_read_u64(stet_key_reader *r);
uint64_t stet_key_read_u64_descending(stet_key_reader *r);
stet_id stet_key_read_id(stet_key_reader *r);
/* The key as JSON, ["jobs", "p1", 7], for inspect; names[table] may be NULL. */
void stet_key_json(stet_str key, const char *table_name, stet_buf *b);

#endif
