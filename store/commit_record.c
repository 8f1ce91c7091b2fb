#include "store/commit_record.h"
#include "store/bytes.h"
#include "store/store.h"

#include <sodium.h>
#include <xxhash.h>

enum {
    AT_MAGIC = 0,
    AT_FORMAT = 4,
    AT_ZERO = 6,
    AT_PARTITION = 8,
    AT_ROWS = 12,
    AT_EPOCH = 16,
    AT_NUMBER = 24,
    AT_WALL = 32,
    AT_BODY_BYTES = 40,
    AT_PREVIOUS = 48,
    AT_BODY = 80
};
_Static_assert(AT_BODY + STET_BODY_HASH_BYTES == STET_COMMIT_RECORD_BYTES,
               "the record ends with the body's hash");
_Static_assert(STET_TABLE_META == 1, "the literals below begin with the table's number");

static const char magic[4] = {'S', 'T', 'C', 'R'};

/* stet_key_of(META) and stet_key_str(name), written out: constants need no code. */
const stet_str stet_store_key_head = {"\x01Shead\x00\x01", 8};
const stet_str stet_store_key_format = {"\x01Sformat\x00\x01", 10};
const stet_str stet_store_key_epoch = {"\x01Sepoch\x00\x01", 9};

stet_hash stet_hash_of(stet_str bytes) {
    stet_hash hash;
    int rc =
        crypto_generichash(hash.bytes, sizeof hash.bytes, (const uint8_t *)bytes.data, bytes.size, NULL, 0);
    ASSERT(rc == 0);
    return hash;
}

stet_body_hash stet_body_hash_of(stet_str body) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(body.data, body.size));
    stet_body_hash hash;
    _Static_assert(sizeof hash.bytes == sizeof canonical.digest, "a hash is stored whole");
    memcpy(hash.bytes, canonical.digest, sizeof hash.bytes);
    return hash;
}

bool stet_hash_equal(const stet_hash *a, const stet_hash *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void stet_commit_record_encode(const stet_commit_record *record, uint8_t ret[STET_COMMIT_RECORD_BYTES]) {
    memcpy(ret + AT_MAGIC, magic, sizeof magic);
    bytes_put_u16(ret + AT_FORMAT, STET_COMMIT_RECORD_FORMAT);
    bytes_put_u16(ret + AT_ZERO, 0);
    bytes_put_u32(ret + AT_PARTITION, record->partition);
    bytes_put_u32(ret + AT_ROWS, record->rows);
    bytes_put_u64(ret + AT_EPOCH, record->epoch);
    bytes_put_u64(ret + AT_NUMBER, record->number);
    bytes_put_u64(ret + AT_WALL, (uint64_t)record->wall_ms);
    bytes_put_u64(ret + AT_BODY_BYTES, record->body_bytes);
    memcpy(ret + AT_PREVIOUS, record->previous.bytes, STET_HASH_BYTES);
    memcpy(ret + AT_BODY, record->body.bytes, STET_BODY_HASH_BYTES);
}

stet_code stet_commit_record_decode(stet_str bytes, stet_commit_record *ret, stet_error *e) {
    const uint8_t *at = (const uint8_t *)bytes.data;
    if (bytes.size < AT_ZERO || memcmp(at + AT_MAGIC, magic, sizeof magic) != 0)
        return stet_error_set(e, STET_INVALID, "the head of the commit chain is not a commit record");
    uint16_t format = bytes_get_u16(at + AT_FORMAT);
    if (format != STET_COMMIT_RECORD_FORMAT)
        return stet_error_set(e, STET_INVALID, "the commit record has format %u, this program knows %u",
                              format, STET_COMMIT_RECORD_FORMAT);
    if (bytes.size != STET_COMMIT_RECORD_BYTES || bytes_get_u16(at + AT_ZERO) != 0)
        return stet_error_set(e, STET_INVALID, "the commit record has %zu bytes, %u are expected", bytes.size,
                              STET_COMMIT_RECORD_BYTES);
    stet_commit_record record = {.partition = bytes_get_u32(at + AT_PARTITION),
                                 .rows = bytes_get_u32(at + AT_ROWS),
                                 .epoch = bytes_get_u64(at + AT_EPOCH),
                                 .number = bytes_get_u64(at + AT_NUMBER),
                                 .wall_ms = (int64_t)bytes_get_u64(at + AT_WALL),
                                 .body_bytes = bytes_get_u64(at + AT_BODY_BYTES)};
    memcpy(record.previous.bytes, at + AT_PREVIOUS, STET_HASH_BYTES);
    memcpy(record.body.bytes, at + AT_BODY, STET_BODY_HASH_BYTES);
    static const stet_hash zero;
    if (record.number == 0 || record.epoch == 0 || record.rows == 0 ||
        (record.number == 1) != stet_hash_equal(&record.previous, &zero))
        return stet_error_set(e, STET_INVALID,
                              "the commit record contradicts itself (number %llu, epoch %llu)",
                              (unsigned long long)record.number, (unsigned long long)record.epoch);
    *ret = record;
    return STET_OK;
}

stet_hash stet_commit_record_hash(const stet_commit_record *record) {
    uint8_t bytes[STET_COMMIT_RECORD_BYTES];
    stet_commit_record_encode(record, bytes);
    return stet_hash_of(stet_str_from(bytes, sizeof bytes));
}

enum { BATCH_HEAD_BYTES = 12, BATCH_COUNT_AT = 8, TAG_DELETE = 0x00, TAG_PUT = 0x01, VARINT_MAX = 5 };

static uint8_t *write_varint(uint8_t *at, uint32_t n) {
    for (; n >= 0x80; n >>= 7)
        *at++ = (uint8_t)(n | 0x80);
    *at++ = (uint8_t)n;
    return at;
}

static uint8_t *write_bytes(uint8_t *at, stet_str bytes) {
    at = write_varint(at, (uint32_t)bytes.size);
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static void append_row(stet_buf *b, stet_str key, stet_str value) {
    uint8_t *start = stet_buf_extend(b, 1 + 2 * VARINT_MAX + key.size + value.size);
    if (!start)
        return;
    *start = value.data ? TAG_PUT : TAG_DELETE;
    uint8_t *end = write_bytes(start + 1, key);
    if (value.data)
        end = write_bytes(end, value);
    stet_buf_truncate(b, (size_t)(end - b->data));
}

static void write_count(stet_buf *b, uint32_t count) {
    for (int i = 0; i < 4; i++)
        b->data[BATCH_COUNT_AT + i] = (uint8_t)(count >> (8 * i));
}

bool stet_commit_build(const stet_overlay *rows, stet_commit_record *record, stet_buf *write) {
    stet_buf_clear(write);
    uint8_t *head = stet_buf_extend(write, BATCH_HEAD_BYTES);
    if (!head)
        return false;
    memset(head, 0, BATCH_HEAD_BYTES);
    for (const stet_row *row = stet_overlay_first(rows); row; row = stet_row_after(row))
        if (!stet_row_is_void(row))
            append_row(write, stet_row_key(row), stet_row_value(row));
    if (!stet_buf_ok(write))
        return false;
    write_count(write, rows->count);
    record->rows = rows->count;
    record->body_bytes = write->size;
    record->body = stet_body_hash_of(stet_buf_str(write));

    uint8_t header[STET_COMMIT_RECORD_BYTES];
    stet_commit_record_encode(record, header);
    append_row(write, stet_store_key_head, stet_str_from(header, sizeof header));
    if (!stet_buf_ok(write))
        return false;
    write_count(write, rows->count + 1);
    return true;
}
