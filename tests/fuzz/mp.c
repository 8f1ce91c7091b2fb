/* MessagePack: what the check lets through is read whole, rewritten the same, and decoded alike by msgpack-c; what
 * JSON can say comes back from it the same. */
#include "proto/wire/mp.h"

#include <math.h>
#include <msgpack.h>

#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"

/* *ret_json: whether JSON has all of its values. */
static void rewrite(stet_mp_reader *r, stet_buf *b, bool *ret_json) {
    uint64_t left = 1;
    double number;
    *ret_json = true;
    for (; left > 0; left--) {
        uint32_t count;
        stet_str bytes;
        switch (stet_mp_peek(r)) {
        case STET_MP_NIL:
            stet_mp_read_nil(r);
            stet_mp_nil(b);
            break;
        case STET_MP_BOOL:
            stet_mp_bool(b, stet_mp_read_bool(r));
            break;
        case STET_MP_UINT:
            stet_mp_uint(b, stet_mp_read_uint(r));
            break;
        case STET_MP_INT:
            stet_mp_int(b, stet_mp_read_int(r));
            break;
        case STET_MP_DOUBLE:
            number = stet_mp_read_double(r);
            *ret_json &= isfinite(number) != 0;
            stet_mp_double(b, number);
            break;
        case STET_MP_STR:
            stet_mp_str(b, stet_mp_read_str(r));
            break;
        case STET_MP_BIN:
            *ret_json = false;
            bytes = stet_mp_read_bin(r);
            stet_mp_bin(b, bytes.data, bytes.size);
            break;
        case STET_MP_ARRAY:
            count = stet_mp_read_array(r);
            stet_mp_array(b, count);
            left += count;
            break;
        case STET_MP_MAP:
            count = stet_mp_read_map(r);
            stet_mp_map(b, count);
            left += 2 * (uint64_t)count;
            break;
        case STET_MP_EXT:
        case STET_MP_NONE:
            ASSERT(false); /* checked bytes hold no such value */
        }
    }
    ASSERT(!r->failed && r->at == r->end);
}

static void compare_with_msgpack_c(stet_str bytes, const stet_buf *ours) {
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    size_t offset = 0;
    ASSERT(msgpack_unpack_next(&u, bytes.data, bytes.size, &offset) == MSGPACK_UNPACK_SUCCESS);
    ASSERT(offset == bytes.size);
    if (memchr(bytes.data, 0xca, bytes.size) == NULL) { /* it keeps floats, we read doubles */
        msgpack_sbuffer again;
        msgpack_sbuffer_init(&again);
        msgpack_packer packer;
        msgpack_packer_init(&packer, &again, msgpack_sbuffer_write);
        ASSERT(msgpack_pack_object(&packer, u.data) == 0);
        ASSERT(stet_str_equal(stet_str_from(again.data, again.size), stet_buf_str(ours)));
        msgpack_sbuffer_destroy(&again);
    }
    msgpack_unpacked_destroy(&u);
}

static void read_unchecked(stet_str bytes) {
    stet_mp_reader r = stet_mp_reader_of(bytes), value;
    stet_str raw = stet_mp_read_raw(&r);
    ASSERT(r.failed || (raw.data == bytes.data && raw.size <= bytes.size));
    ASSERT(!stet_mp_find(bytes, "id", &value) || value.end == r.end);
    (void)stet_mp_get_int(bytes, "a", 0);
    (void)stet_mp_get_double(bytes, "a", 0);
    r = stet_mp_reader_of(bytes);
    while (stet_mp_peek(&r) != STET_MP_NONE)
        (void)stet_mp_read_raw(&r);
}

void fuzz_one(const uint8_t *data, size_t size) {
    stet_str bytes = stet_str_from(data, size);
    stet_error e;
    read_unchecked(bytes);
    if (stet_mp_check(bytes, STET_MP_LIMITS_BODY, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID && stet_utf8_valid(stet_str_of(e.message)));
        return;
    }
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4 << 20);
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(16 << 20);
    stet_mp_reader r = stet_mp_reader_of(bytes);
    bool has_json, same_json;
    rewrite(&r, &b, &has_json);
    ASSERT(stet_buf_ok(&b));
    CLEANUP(stet_buf_done) stet_buf again = STET_BUF(4 << 20);
    r = stet_mp_reader_of(stet_buf_str(&b));
    rewrite(&r, &again, &same_json);
    ASSERT(has_json == same_json && stet_str_equal(stet_buf_str(&b), stet_buf_str(&again)));
    ASSERT(stet_mp_check(stet_buf_str(&b), STET_MP_LIMITS_BODY, &e) == STET_OK);
    compare_with_msgpack_c(bytes, &b);
    ASSERT(stet_mp_to_json(bytes, (stet_json_style){.indent = (uint32_t)(size % 3), .ids = true}, &json,
                           &e) == STET_OK);
    stet_buf_clear(&again);
    ASSERT(stet_json_to_mp(stet_buf_str(&json), (stet_mp_limits){.depth_max = 17, .nodes_max = 1 << 18},
                           &again, &e) == STET_OK);
    ASSERT(!has_json || stet_str_equal(stet_buf_str(&b), stet_buf_str(&again)));
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const stet_str seeds[] = {
        {"\x80", 1},
        {"\x93\x01\xa1x\xc0", 5},
        {"\x82\xa1"
         "a\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1"
         "b\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
         23},
        {"\x81\xa1k\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", 12},
        {"\x92\xca\x3f\xc0\x00\x00\xc2", 7},
        {"\x93\xd0\x80\xd1\x80\x00\xd2\x80\x00\x00\x00", 11},
        {"\x93\xcc\xff\xcd\xff\xff\xce\xff\xff\xff\xff", 11},
        {"\xdc\x00\x03\xd9\x01x\xda\x00\x01y\xdb\x00\x00\x00\x01z", 15},
        {"\xde\x00\x01\xa2id\xc4\x10"
         "0123456789abcdef",
         24},
        {"\xdd\x00\x00\x00\x01\xdf\x00\x00\x00\x01\xa1x\xc5\x00\x01y", 16},
        {"\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc3", 17},
        {"\x91\xd4\x01\x00", 4},
    };
    if (index < COUNT_OF(seeds)) {
        stet_buf_append_str(b, seeds[index]);
        return true;
    }
    if (index > COUNT_OF(seeds) + 1)
        return false;
    uint32_t pairs = index == COUNT_OF(seeds) ? 32 : 200; /* on both sides of the way keys are compared */
    stet_mp_map(b, pairs);
    for (uint32_t i = 0; i < pairs; i++) {
        const char name[] = {(char)('a' + i % 26), (char)('a' + i / 26), 0};
        stet_mp_put_uint(b, name, i);
    }
    return true;
}
