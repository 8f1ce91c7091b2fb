#include "store/key.h"
#include "proto/wire/json.h"
#include "store/bytes.h"

/* Text is escaped so that memcmp order is tuple order: the end mark 00 01 sorts below the escape 00 FF, so
 * "a" sorts before "a\0", and both before "ab". */
enum { TAG_STR = 'S', TAG_U64 = 'U', TAG_U64_DESCENDING = 'D', TAG_ID = 'I' };
enum { ESCAPE = 0x00, ESCAPED_ZERO = 0xff, TEXT_END = 0x01 };

static void append(stet_key *key, const void *data, size_t size) {
    ASSERT(size <= STET_KEY_BYTES_MAX - key->size);
    memcpy(key->bytes + key->size, data, size);
    key->size += size;
}

static void append_byte(stet_key *key, uint8_t byte) {
    ASSERT(key->size < STET_KEY_BYTES_MAX);
    key->bytes[key->size++] = byte;
}

stet_key stet_key_of(uint8_t table) {
    stet_key key; /* the 768 bytes are not cleared: only bytes[0..size) count */
    key.bytes[0] = table;
    key.size = 1;
    return key;
}

void stet_key_str(stet_key *key, stet_str text) {
    append_byte(key, TAG_STR);
    const char *at = text.data;
    size_t left = text.size;
    while (left > 0) {
        const char *zero = memchr(at, 0, left);
        size_t plain = zero ? (size_t)(zero - at) : left;
        append(key, at, plain);
        at += plain;
        left -= plain;
        if (zero) {
            append(key, (const uint8_t[]){ESCAPE, ESCAPED_ZERO}, 2);
            at++;
            left--;
        }
    }
    append(key, (const uint8_t[]){ESCAPE, TEXT_END}, 2);
}

static void append_u64(stet_key *key, uint8_t tag, uint64_t number) {
    uint8_t bytes[sizeof number];
    bytes_put_u64(bytes, number);
    append_byte(key, tag);
    append(key, bytes, sizeof bytes);
}

void stet_key_u64(stet_key *key, uint64_t number) {
    append_u64(key, TAG_U64, number);
}

void stet_key_u64_descending(stet_key *key, uint64_t number) {
    append_u64(key, TAG_U64_DESCENDING, ~number);
}

void stet_key_id(stet_key *key, stet_id id) {
    append_byte(key, TAG_ID);
    append(key, id.bytes, sizeof id.bytes);
}

stet_key_reader stet_key_reader_of(stet_str key, uint8_t *ret_table) {
    const uint8_t *data = (const uint8_t *)key.data;
    if (key.size == 0) {
        *ret_table = 0;
        return (stet_key_reader){.at = data, .end = data, .failed = true};
    }
    *ret_table = data[0];
    return (stet_key_reader){.at = data + 1, .end = data + key.size, .failed = false};
}

/* True when the next component has this tag and, behind it, at least size_min bytes; moves past the tag. */
static bool take_tag(stet_key_reader *r, uint8_t tag, size_t size_min) {
    if (r->failed || r->at == r->end || *r->at != tag || (size_t)(r->end - r->at) - 1 < size_min) {
        r->failed = true;
        return false;
    }
    r->at++;
    return true;
}

size_t stet_key_read_str(stet_key_reader *r, char *text, size_t size_max) {
    if (!take_tag(r, TAG_STR, /* size_min= */ 2))
        return 0;
    size_t size = 0;
    while (r->end - r->at >= 2) {
        uint8_t byte = *r->at++;
        if (byte == ESCAPE) {
            uint8_t second = *r->at++;
            if (second == TEXT_END)
                return size;
            if (second != ESCAPED_ZERO)
                break;
        }
        if (size == size_max)
            break;
        text[size++] = (char)byte;
    }
    r->failed = true;
    return 0;
}

stet_str stet_key_open_named(stet_str key, char name[STET_KEY_BYTES_MAX], stet_key_reader *ret_rest) {
    uint8_t table;
    *ret_rest = stet_key_reader_of(key, &table);
    return stet_str_from(name, stet_key_read_str(ret_rest, name, STET_KEY_NAME_MAX));
}

static uint64_t read_u64(stet_key_reader *r, uint8_t tag) {
    if (!take_tag(r, tag, sizeof(uint64_t)))
        return 0;
    uint64_t number = bytes_get_u64(r->at);
    r->at += sizeof number;
    return number;
}

uint64_t stet_key_read_u64(stet_key_reader *r) {
    return read_u64(r, TAG_U64);
}

uint64_t stet_key_read_u64_descending(stet_key_reader *r) {
    uint64_t complement = read_u64(r, TAG_U64_DESCENDING);
    return r->failed ? 0 : ~complement;
}

stet_id stet_key_read_id(stet_key_reader *r) {
    stet_id id = {{0}};
    if (!take_tag(r, TAG_ID, sizeof id.bytes))
        return id;
    memcpy(id.bytes, r->at, sizeof id.bytes);
    r->at += sizeof id.bytes;
    return id;
}

static void json_text(stet_buf *b, const char *text, size_t size) {
    stet_buf_append_byte(b, '"');
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte == '"' || byte == '\\') {
            stet_buf_append_byte(b, '\\');
            stet_buf_append_byte(b, byte);
        } else if (byte < 0x20 || byte == 0x7f) {
            stet_buf_printf(b, "\\u%04x", byte);
        } else {
            stet_buf_append_byte(b, byte);
        }
    }
    stet_buf_append_byte(b, '"');
}

static void json_component(stet_key_reader *r, stet_buf *b) {
    switch (*r->at) {
    case TAG_STR: {
        char text[STET_KEY_BYTES_MAX];
        size_t size = stet_key_read_str(r, text, sizeof text);
        if (!stet_utf8_valid(stet_str_from(text, size)))
            r->failed = true; /* JSON could not carry it */
        if (!r->failed)
            json_text(b, text, size);
        return;
    }
    case TAG_U64: {
        uint64_t number = stet_key_read_u64(r);
        if (!r->failed)
            stet_buf_printf(b, "%llu", (unsigned long long)number);
        return;
    }
    case TAG_U64_DESCENDING: {
        uint64_t number = stet_key_read_u64_descending(r);
        if (!r->failed)
            stet_buf_printf(b, "%llu", (unsigned long long)number);
        return;
    }
    case TAG_ID: {
        char text[STET_ID_TEXT_SIZE];
        stet_id id = stet_key_read_id(r);
        if (r->failed)
            return;
        stet_id_text(id, text);
        json_text(b, text, strlen(text));
        return;
    }
    default:
        r->failed = true;
    }
}

void stet_key_json(stet_str key, const char *table_name, stet_buf *b) {
    uint8_t table;
    stet_key_reader r = stet_key_reader_of(key, &table);
    stet_buf_append_byte(b, '[');
    if (table_name)
        json_text(b, table_name, strlen(table_name));
    else
        stet_buf_printf(b, "%u", table);
    while (!r.failed && r.at < r.end) {
        const uint8_t *rest = r.at;
        size_t size = b->size;
        stet_buf_append(b, ", ", 2);
        json_component(&r, b);
        if (!r.failed || b->failed)
            continue;
        stet_buf_truncate(b,
                          size); /* not a component: the rest as hex, so that inspect shows it all the same */
        stet_buf_append_str(b, STET_STR(", \"0x"));
        for (const uint8_t *at = rest; at < r.end; at++)
            stet_buf_printf(b, "%02x", *at);
        stet_buf_append_byte(b, '"');
        r.at = r.end;
    }
    stet_buf_append_byte(b, ']');
}
