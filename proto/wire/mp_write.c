#include "proto/wire/mp.h"

#include <msgpack/pack.h>

#include "proto/wire/rfc3339.h"

static int buf_write(void *data, const char *bytes, size_t size) {
    stet_buf *b = data;
    stet_buf_append(b, bytes, size);
    return b->failed ? -1 : 0;
}

static inline msgpack_packer packer_of(stet_buf *b) {
    return (msgpack_packer){.data = b, .callback = buf_write};
}

/* Results are ignored throughout: failure is sticky in the buffer. Small numbers and short headers are one byte, and
 * nearly all there are. */

void stet_mp_map(stet_buf *b, uint32_t pairs) {
    if (pairs < 16) {
        stet_buf_append_byte(b, (uint8_t)(0x80 | pairs));
        return;
    }
    msgpack_packer p = packer_of(b);
    (void)msgpack_pack_map(&p, pairs);
}

void stet_mp_array(stet_buf *b, uint32_t items) {
    if (items < 16) {
        stet_buf_append_byte(b, (uint8_t)(0x90 | items));
        return;
    }
    msgpack_packer p = packer_of(b);
    (void)msgpack_pack_array(&p, items);
}

void stet_mp_str(stet_buf *b, stet_str text) {
    ASSERT(text.size <= UINT32_MAX);
    if (text.size < 32) {
        stet_buf_append_byte(b, (uint8_t)(0xa0 | text.size));
    } else {
        msgpack_packer p = packer_of(b);
        (void)msgpack_pack_str(&p, text.size);
    }
    stet_buf_append(b, text.data, text.size);
}

void stet_mp_cstr(stet_buf *b, const char *text) {
    stet_mp_str(b, stet_str_of(text));
}

void stet_mp_bin(stet_buf *b, const void *data, size_t size) {
    ASSERT(size <= UINT32_MAX);
    msgpack_packer p = packer_of(b);
    (void)msgpack_pack_bin(&p, size);
    stet_buf_append(b, data, size);
}

void stet_mp_uint(stet_buf *b, uint64_t n) {
    if (n < 128) {
        stet_buf_append_byte(b, (uint8_t)n);
        return;
    }
    msgpack_packer p = packer_of(b);
    (void)msgpack_pack_uint64(&p, n);
}

void stet_mp_int(stet_buf *b, int64_t n) {
    if (n >= 0 && n < 128) {
        stet_buf_append_byte(b, (uint8_t)n);
        return;
    }
    msgpack_packer p = packer_of(b);
    (void)msgpack_pack_int64(&p, n);
}

void stet_mp_bool(stet_buf *b, bool value) {
    msgpack_packer p = packer_of(b);
    (void)(value ? msgpack_pack_true(&p) : msgpack_pack_false(&p));
}

void stet_mp_double(stet_buf *b, double value) {
    msgpack_packer p = packer_of(b);
    (void)msgpack_pack_double(&p, value);
}

void stet_mp_nil(stet_buf *b) {
    msgpack_packer p = packer_of(b);
    (void)msgpack_pack_nil(&p);
}

void stet_mp_raw(stet_buf *b, stet_str value) {
    ASSERT(value.size > 0);
    stet_buf_append(b, value.data, value.size);
}

/* Open leaves one byte for the header, enough for up to 15 items; close moves the content when it needs 3
 * or 5. */

size_t stet_mp_open(stet_buf *b) {
    size_t mark = b->size;
    stet_buf_append_byte(b, 0xc0);
    return mark;
}

static void close_container(stet_buf *b, size_t mark, uint32_t count, uint8_t small, uint8_t form16) {
    if (!stet_buf_ok(b))
        return;
    ASSERT(mark < b->size);
    if (count <= 15) {
        b->data[mark] = (uint8_t)(small | count);
        return;
    }
    size_t more = count <= UINT16_MAX ? 2 : 4;
    size_t content = b->size - mark - 1;
    if (stet_buf_extend(b, more) == NULL)
        return;
    uint8_t *head = b->data + mark;
    memmove(head + 1 + more, head + 1, content);
    head[0] = (uint8_t)(more == 2 ? form16 : form16 + 1);
    for (size_t i = 0; i < more; i++)
        head[1 + i] = (uint8_t)(count >> (8 * (more - 1 - i)));
}

void stet_mp_close_map(stet_buf *b, size_t mark, uint32_t pairs) {
    close_container(b, mark, pairs, /* small= */ 0x80, /* form16= */ 0xde);
}

void stet_mp_close_array(stet_buf *b, size_t mark, uint32_t items) {
    close_container(b, mark, items, /* small= */ 0x90, /* form16= */ 0xdc);
}

void stet_mp_put_str(stet_buf *b, const char *key, stet_str value) {
    stet_mp_cstr(b, key);
    stet_mp_str(b, value);
}

void stet_mp_put_cstr(stet_buf *b, const char *key, const char *value) {
    stet_mp_cstr(b, key);
    stet_mp_cstr(b, value);
}

void stet_mp_put_uint(stet_buf *b, const char *key, uint64_t value) {
    stet_mp_cstr(b, key);
    stet_mp_uint(b, value);
}

void stet_mp_put_int(stet_buf *b, const char *key, int64_t value) {
    stet_mp_cstr(b, key);
    stet_mp_int(b, value);
}

void stet_mp_put_bool(stet_buf *b, const char *key, bool value) {
    stet_mp_cstr(b, key);
    stet_mp_bool(b, value);
}

void stet_mp_put_double(stet_buf *b, const char *key, double value) {
    stet_mp_cstr(b, key);
    stet_mp_double(b, value);
}

void stet_mp_put_raw(stet_buf *b, const char *key, stet_str value) {
    stet_mp_cstr(b, key);
    stet_mp_raw(b, value);
}

void stet_mp_put_time(stet_buf *b, const char *key, int64_t wall_ms) {
    char text[STET_RFC3339_SIZE];
    stet_rfc3339_text(wall_ms, text);
    stet_mp_cstr(b, key);
    stet_mp_cstr(b, text);
}
