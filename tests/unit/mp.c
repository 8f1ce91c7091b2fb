/* MessagePack: the writer, the reader and the check, also against msgpack-c's own decoder. */
#include "proto/wire/mp.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <msgpack.h>

#include "proto/base/prng.h"
#include "proto/wire/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BYTES(...) stet_str_from((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static stet_code check(stet_str bytes) {
    return stet_mp_check(bytes, STET_MP_LIMITS_BODY, NULL);
}

static void assert_bytes(const stet_buf *b, stet_str expected) {
    assert_true(stet_buf_ok(b));
    assert_int_equal(b->size, expected.size);
    assert_memory_equal(b->data, expected.data, expected.size);
}

static void unsigned_numbers_take_the_smallest_form_and_read_back(void **state) {
    (void)state;
    static const struct {
        uint64_t n;
        size_t size;
    } rows[] = {{0, 1},
                {127, 1},
                {128, 2},
                {255, 2},
                {256, 3},
                {65535, 3},
                {65536, 5},
                {UINT32_MAX, 5},
                {UINT32_MAX + 1ULL, 9},
                {INT64_MAX, 9},
                {INT64_MAX + 1ULL, 9},
                {UINT64_MAX, 9}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(64);
        stet_mp_uint(&b, rows[i].n);
        assert_int_equal(b.size, rows[i].size);
        assert_int_equal(check(stet_buf_str(&b)), STET_OK);
        stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&b));
        assert_int_equal(stet_mp_peek(&r), STET_MP_UINT);
        assert_true(stet_mp_read_uint(&r) == rows[i].n);
        assert_false(r.failed);
        r = stet_mp_reader_of(stet_buf_str(&b));
        int64_t n = stet_mp_read_int(&r);
        assert_int_equal(r.failed, rows[i].n > INT64_MAX);
        if (!r.failed)
            assert_true((uint64_t)n == rows[i].n);
    }
}

static void negative_numbers_take_the_smallest_form_and_read_back(void **state) {
    (void)state;
    static const struct {
        int64_t n;
        size_t size;
    } rows[] = {{-1, 1},       {-32, 1},       {-33, 2},
                {-128, 2},     {-129, 3},      {-32768, 3},
                {-32769, 5},   {INT32_MIN, 5}, {INT32_MIN - 1LL, 9},
                {INT64_MIN, 9}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(64);
        stet_mp_int(&b, rows[i].n);
        assert_int_equal(b.size, rows[i].size);
        stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&b));
        assert_int_equal(stet_mp_peek(&r), STET_MP_INT);
        assert_true(stet_mp_read_int(&r) == rows[i].n);
        assert_false(r.failed);
        r = stet_mp_reader_of(stet_buf_str(&b));
        assert_true(stet_mp_read_uint(&r) == 0);
        assert_true(r.failed);
    }
}

static void longer_forms_of_small_numbers_are_read(void **state) {
    (void)state;
    static const uint8_t forms[][9] = {{0xcc, 5},
                                       {0xcd, 0, 5},
                                       {0xce, 0, 0, 0, 5},
                                       {0xd0, 5},
                                       {0xd1, 0, 5},
                                       {0xd2, 0, 0, 0, 5},
                                       {0xcf, 0, 0, 0, 0, 0, 0, 0, 5},
                                       {0xd3, 0, 0, 0, 0, 0, 0, 0, 5}};
    static const size_t sizes[] = {2, 3, 5, 2, 3, 5, 9, 9};
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        stet_mp_reader r = stet_mp_reader_of(stet_str_from(forms[i], sizes[i]));
        assert_int_equal(stet_mp_peek(&r), STET_MP_UINT);
        assert_int_equal(stet_mp_read_uint(&r), 5);
        assert_false(r.failed);
        assert_ptr_equal(r.at, r.end);
    }
}

static void strings_and_binaries_take_every_header_size(void **state) {
    (void)state;
    static const struct {
        size_t size, str_header, bin_header;
    } rows[] = {{0, 1, 2}, {31, 1, 2}, {32, 2, 2}, {255, 2, 2}, {256, 3, 3}, {65535, 3, 3}, {65536, 5, 5}};
    char *text = malloc(65536);
    memset(text, 'x', 65536);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 18);
        stet_mp_str(&b, stet_str_from(text, rows[i].size));
        assert_int_equal(b.size, rows[i].size + rows[i].str_header);
        size_t bin_at = b.size;
        stet_mp_bin(&b, text, rows[i].size);
        assert_int_equal(b.size - bin_at, rows[i].size + rows[i].bin_header);
        stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&b));
        assert_true(stet_str_equal(stet_mp_read_str(&r), stet_str_from(text, rows[i].size)));
        assert_int_equal(stet_mp_peek(&r), STET_MP_BIN);
        assert_true(stet_str_equal(stet_mp_read_bin(&r), stet_str_from(text, rows[i].size)));
        assert_false(r.failed);
        assert_int_equal(check(stet_str_from(b.data, bin_at)), STET_OK);
    }
    free(text);
}

static void other_scalars_round_trip(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(256);
    stet_mp_nil(&b);
    stet_mp_bool(&b, true);
    stet_mp_bool(&b, false);
    stet_mp_double(&b, -0.1);
    stet_mp_uint(&b, 7);
    stet_mp_int(&b, -7);
    stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&b));
    stet_mp_read_nil(&r);
    assert_true(stet_mp_read_bool(&r));
    assert_false(stet_mp_read_bool(&r));
    assert_int_equal(stet_mp_peek(&r), STET_MP_DOUBLE);
    assert_true(stet_mp_read_double(&r) == -0.1);
    assert_true(stet_mp_read_double(&r) == 7.0);
    assert_true(stet_mp_read_double(&r) == -7.0);
    assert_false(r.failed);
    assert_int_equal(stet_mp_peek(&r), STET_MP_NONE);
    r = stet_mp_reader_of(BYTES(0xca, 0x3f, 0xc0, 0, 0)); /* a float is read as the same double */
    assert_true(stet_mp_read_double(&r) == 1.5);
    assert_false(r.failed);
}

static void open_containers_close_with_the_smallest_header(void **state) {
    (void)state;
    static const uint32_t counts[] = {0, 1, 15, 16, 65535, 65536};
    static const size_t headers[] = {1, 1, 1, 3, 3, 5};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        CLEANUP(stet_buf_done) stet_buf opened = STET_BUF(1 << 20);
        CLEANUP(stet_buf_done) stet_buf plain = STET_BUF(1 << 20);
        stet_buf_append_byte(&opened, 0xc0);
        stet_buf_append_byte(&plain, 0xc0);
        size_t mark = stet_mp_open(&opened);
        stet_mp_array(&plain, counts[i]);
        for (uint32_t n = 0; n < counts[i]; n++) {
            stet_mp_uint(&opened, n % 100);
            stet_mp_uint(&plain, n % 100);
        }
        stet_mp_close_array(&opened, mark, counts[i]);
        assert_int_equal(opened.size, 1 + headers[i] + counts[i]);
        assert_bytes(&opened, stet_buf_str(&plain));
        stet_buf_clear(&opened);
        stet_buf_clear(&plain);
        mark = stet_mp_open(&opened);
        stet_mp_map(&plain, counts[i]);
        for (uint32_t n = 0; n < counts[i] * 2; n++) {
            stet_mp_nil(&opened);
            stet_mp_nil(&plain);
        }
        stet_mp_close_map(&opened, mark, counts[i]);
        assert_bytes(&opened, stet_buf_str(&plain));
    }
}

static void a_full_buffer_fails_and_stays_failed(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(20);
    size_t mark = stet_mp_open(&b);
    for (int i = 0; i < 18; i++)
        stet_mp_nil(&b);
    stet_mp_close_array(&b, mark, 18); /* 19 bytes and two more for the header */
    assert_false(stet_buf_ok(&b));
    stet_mp_put_cstr(&b, "a", "b");
    assert_false(stet_buf_ok(&b));
}

static void a_map(stet_buf *b) {
    stet_mp_map(b, 6);
    stet_mp_put_cstr(b, "name", "ünïcode");
    stet_mp_put_uint(b, "size", 300);
    stet_mp_put_int(b, "delta", -5);
    stet_mp_put_bool(b, "on", true);
    stet_mp_put_double(b, "ratio", 0.5);
    stet_mp_cstr(b, "list");
    stet_mp_array(b, 3);
    stet_mp_nil(b);
    stet_mp_map(b, 1);
    stet_mp_put_time(b, "at", 0);
    stet_mp_bin(b, "\xff\x00", 2);
}

static void values_are_found_by_key(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1024);
    a_map(&b);
    stet_str map = stet_buf_str(&b);
    assert_true(stet_str_is(stet_mp_get_str(map, "name", STET_STR("?")), "ünïcode"));
    assert_true(stet_str_is(stet_mp_get_str(map, "size", STET_STR("?")), "?"));
    assert_int_equal(stet_mp_get_uint(map, "size", 1), 300);
    assert_int_equal(stet_mp_get_uint(map, "delta", 1), 1);
    assert_int_equal(stet_mp_get_int(map, "delta", 1), -5);
    assert_int_equal(stet_mp_get_int(map, "missing", 1), 1);
    assert_true(stet_mp_get_bool(map, "on", false));
    assert_true(stet_mp_get_double(map, "ratio", 0) == 0.5);
    stet_str list = stet_mp_get_raw(map, "list");
    assert_int_equal(list.data[0], (char)0x93);
    assert_ptr_equal(list.data + list.size, map.data + map.size);
    stet_mp_reader r = stet_mp_reader_of(list);
    assert_int_equal(stet_mp_read_array(&r), 3);
    assert_int_equal(stet_mp_read_raw(&r).size, 1);
    assert_true(
        stet_str_is(stet_mp_get_str(stet_mp_read_raw(&r), "at", STET_STR("?")), "1970-01-01T00:00:00.000Z"));
    assert_false(stet_mp_find(list, "at", &r));
    assert_null(stet_mp_get_raw(map, "missing").data);
    assert_false(stet_mp_find((stet_str){NULL, 0}, "at", &r));
}

static void what_is_missing_or_of_another_type_is_the_fallback(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1024);
    a_map(&b);
    stet_str map = stet_buf_str(&b);
    static const char *const others[] = {"missing", "list"};
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        assert_true(stet_str_is(stet_mp_get_str(map, others[i], STET_STR("?")), "?"));
        assert_int_equal(stet_mp_get_uint(map, others[i], 7), 7);
        assert_int_equal(stet_mp_get_int(map, others[i], -7), -7);
        assert_true(stet_mp_get_bool(map, others[i], true) && !stet_mp_get_bool(map, others[i], false));
        assert_true(stet_mp_get_double(map, others[i], 0.25) == 0.25);
    }
    stet_str odd = BYTES(0x82, 5, 0xa1, 'a', 0xa1, 'a', 9); /* a key that is no string is passed over */
    assert_int_equal(stet_mp_get_uint(odd, "a", 0), 9);
    assert_int_equal(stet_mp_get_uint(BYTES(0x82, 5, 0xa1, 'a', 0xa1), "a", 3), 3); /* cut behind it */
    assert_int_equal(stet_mp_get_uint(BYTES(0x81, 0xa1, 'a'), "a", 3), 3);
}

static void numbers_are_read_as_any_type_that_holds_them(void **state) {
    (void)state;
    stet_str most = BYTES(0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    stet_mp_reader r = stet_mp_reader_of(most);
    assert_int_equal(stet_mp_read_int(&r), 0);
    assert_true(r.failed);
    r = stet_mp_reader_of(most);
    assert_true(stet_mp_read_uint(&r) == UINT64_MAX);
    assert_false(r.failed);
    r = stet_mp_reader_of(BYTES(0xcf, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
    assert_true(stet_mp_read_int(&r) == INT64_MAX);
    r = stet_mp_reader_of(BYTES(0xfe, 0xfe, 0x05, 0xca, 0x3f, 0x80, 0x00, 0x00, 0xc3));
    assert_int_equal(stet_mp_read_int(&r), -2);
    assert_true(stet_mp_read_double(&r) == -2);
    assert_true(stet_mp_read_double(&r) == 5);
    assert_true(stet_mp_read_double(&r) == 1);
    assert_false(r.failed);
    assert_true(stet_mp_read_double(&r) == 0); /* true is no number */
    assert_true(r.failed);
    assert_int_equal(stet_mp_get_uint(BYTES(0x81, 0xa1, 'a', 0xff), "a", 3), 3); /* -1 is not unsigned */
}

static void a_cut_at_any_byte_is_refused_and_never_read_past(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1024);
    a_map(&b);
    assert_int_equal(check(stet_buf_str(&b)), STET_OK);
    for (size_t size = 0; size < b.size; size++) {
        uint8_t *cut = malloc(size ? size : 1); /* its own memory, so that a sanitizer sees a step too far */
        memcpy(cut, b.data, size);
        stet_str bytes = stet_str_from(cut, size);
        assert_int_equal(check(bytes), STET_INVALID);
        stet_mp_reader r = stet_mp_reader_of(bytes);
        assert_null(stet_mp_read_raw(&r).data);
        assert_true(r.failed);
        assert_int_equal(stet_mp_peek(&r), STET_MP_NONE);
        (void)stet_mp_get_raw(bytes, "list");
        free(cut);
    }
}

static void failure_of_the_reader_is_sticky_and_yields_zeros(void **state) {
    (void)state;
    stet_mp_reader r = stet_mp_reader_of(BYTES(0x05, 0x06, 0xa1, 'x'));
    assert_int_equal(stet_mp_read_str(&r).size, 0);
    assert_true(r.failed);
    assert_int_equal(stet_mp_read_uint(&r), 0);
    assert_int_equal(stet_mp_read_int(&r), 0);
    assert_int_equal(stet_mp_read_map(&r), 0);
    assert_int_equal(stet_mp_read_array(&r), 0);
    assert_int_equal(stet_mp_read_bin(&r).size, 0);
    assert_false(stet_mp_read_bool(&r));
    assert_true(stet_mp_read_double(&r) == 0);
    stet_mp_read_nil(&r);
    assert_null(stet_mp_read_raw(&r).data);
    assert_true(r.failed);
}

static void hostile_headers_are_refused_at_once(void **state) {
    (void)state;
    assert_int_equal(check(BYTES(0xdd, 0xff, 0xff, 0xff, 0xff)), STET_INVALID);
    assert_int_equal(check(BYTES(0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0)), STET_INVALID);
    assert_int_equal(check(BYTES(0xdf, 0x80, 0x00, 0x00, 0x00)), STET_INVALID);
    assert_int_equal(check(BYTES(0xdb, 0xff, 0xff, 0xff, 0xff, 'a')), STET_INVALID);
    assert_int_equal(check(BYTES(0xc6, 0xff, 0xff, 0xff, 0xff, 'a')), STET_INVALID);
    assert_int_equal(check(BYTES(0xc1)), STET_INVALID);
    assert_int_equal(check(BYTES(0x91, 0xc1)), STET_INVALID);
    assert_int_equal(check((stet_str){NULL, 0}), STET_INVALID);
    stet_mp_reader r = stet_mp_reader_of(BYTES(0xdd, 0x00, 0x00, 0x00, 0x03, 1, 2));
    assert_int_equal(stet_mp_read_array(&r), 0); /* nobody loops over what cannot be there */
    assert_true(r.failed);
}

static void ext_is_refused_in_every_form_but_can_be_skipped(void **state) {
    (void)state;
    static const uint8_t heads[] = {0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xc7, 0xc8, 0xc9};
    static const size_t head_sizes[] = {2, 2, 2, 2, 2, 3, 4, 6}, bodies[] = {1, 2, 4, 8, 16, 3, 3, 3};
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        uint8_t bytes[32] = {heads[i]};
        if (head_sizes[i] > 2)
            bytes[head_sizes[i] - 2] = 3;
        stet_str value = stet_str_from(bytes, head_sizes[i] + bodies[i]);
        assert_int_equal(check(value), STET_INVALID);
        stet_mp_reader r = stet_mp_reader_of(value);
        assert_int_equal(stet_mp_peek(&r), STET_MP_EXT);
        assert_int_equal(stet_mp_read_raw(&r).size, value.size);
        assert_false(r.failed);
    }
}

static void depth_is_allowed_up_to_the_limit(void **state) {
    (void)state;
    for (uint32_t depth_max = 0; depth_max <= 32; depth_max++) {
        for (uint32_t depth = 0; depth <= 40; depth++) {
            uint8_t bytes[64];
            memset(bytes, 0x91, depth);
            bytes[depth] = 0xc0;
            stet_code rc = stet_mp_check(stet_str_from(bytes, depth + 1),
                                         (stet_mp_limits){.depth_max = depth_max, .nodes_max = 1000}, NULL);
            assert_int_equal(rc, depth <= depth_max ? STET_OK : STET_INVALID);
        }
    }
    enum { BOMB = 1 << 20 };
    uint8_t *bomb = malloc(BOMB);
    memset(bomb, 0x91, BOMB);
    bomb[BOMB - 1] = 0xc0;
    assert_int_equal(check(stet_str_from(bomb, BOMB)), STET_INVALID);
    stet_mp_reader r = stet_mp_reader_of(stet_str_from(bomb, BOMB));
    assert_int_equal(stet_mp_read_raw(&r).size, BOMB); /* iterative */
    free(bomb);
}

static void values_are_counted_up_to_the_limit(void **state) {
    (void)state;
    stet_str five = BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'b', 2);
    assert_int_equal(stet_mp_check(five, (stet_mp_limits){.depth_max = 1, .nodes_max = 5}, NULL), STET_OK);
    assert_int_equal(stet_mp_check(five, (stet_mp_limits){.depth_max = 1, .nodes_max = 4}, NULL),
                     STET_INVALID);
    assert_int_equal(stet_mp_check(BYTES(1), (stet_mp_limits){.depth_max = 1, .nodes_max = 0}, NULL),
                     STET_INVALID);
}

static void map_keys_are_strings_and_stand_once(void **state) {
    (void)state;
    assert_int_equal(check(BYTES(0x81, 1, 2)), STET_INVALID);
    assert_int_equal(check(BYTES(0x81, 0xc4, 1, 'a', 2)), STET_INVALID);
    assert_int_equal(check(BYTES(0x81, 0x80, 2)), STET_INVALID);
    assert_int_equal(check(BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'a', 2)), STET_INVALID);
    assert_int_equal(check(BYTES(0x82, 0xa1, 'a', 1, 0xd9, 1, 'a', 2)),
                     STET_INVALID); /* another form, the same key */
    assert_int_equal(check(BYTES(0x82, 0xa0, 1, 0xa0, 2)), STET_INVALID);
    /* the same key in two maps, one inside the other and one beside it */
    assert_int_equal(check(BYTES(0x81, 0xa1, 'a', 0x92, 0x81, 0xa1, 'a', 1, 0x81, 0xa1, 'a', 2)), STET_OK);
    /* ... and one more time after the nested maps */
    assert_int_equal(check(BYTES(0x82, 0xa1, 'a', 0x81, 0xa1, 'b', 1, 0xa1, 'a', 2)), STET_INVALID);
}

static void repeated_keys_are_found_in_maps_of_every_size(void **state) {
    (void)state;
    static const uint32_t sizes[] = {2, 31, 32, 33, 34, 127, 128, 129, 1000, 5000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (int repeat = 0; repeat <= 1; repeat++) {
            CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 20);
            stet_mp_array(&b, 2);
            stet_mp_map(&b, sizes[i]);
            for (uint32_t n = 0; n < sizes[i]; n++) {
                char name[16];
                (void)snprintf(name, sizeof name, "k%u", repeat && n == sizes[i] - 1 ? sizes[i] / 2 - 1 : n);
                stet_mp_cstr(&b, name);
                stet_mp_map(&b, 1);
                stet_mp_put_uint(&b, "k0", n);
            }
            stet_mp_nil(&b);
            assert_int_equal(check(stet_buf_str(&b)), repeat ? STET_INVALID : STET_OK);
        }
    }
}

static void strings_that_are_not_utf8_are_refused(void **state) {
    (void)state;
    assert_int_equal(check(BYTES(0xa2, 0xc3, 0xbc)), STET_OK);
    assert_int_equal(check(BYTES(0xa1, 0xff)), STET_INVALID);
    assert_int_equal(check(BYTES(0xa2, 0xc0, 0x80)), STET_INVALID);
    assert_int_equal(check(BYTES(0x81, 0xa1, 0xff, 1)), STET_INVALID);
    assert_int_equal(check(BYTES(0xc4, 1, 0xff)), STET_OK); /* bin may hold anything */
}

static void bytes_after_the_value_are_refused_with_their_place(void **state) {
    (void)state;
    stet_error e;
    assert_int_equal(stet_mp_check(BYTES(0x80, 0xc0), STET_MP_LIMITS_BODY, &e), STET_INVALID);
    assert_non_null(strstr(e.message, "byte 1"));
}

/* ---- against msgpack-c ---- */

static void random_text(stet_prng *p, stet_buf *b, char tag) {
    char text[80];
    size_t size = stet_prng_below(p, 4) ? stet_prng_below(p, 12) : stet_prng_below(p, 70);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)('a' + stet_prng_below(p, 26));
    if (size)
        text[0] = tag; /* keys of one map differ by their tag */
    stet_mp_str(b, stet_str_from(text, size));
}

static void random_value(stet_prng *p, stet_buf *b, int depth) {
    uint32_t count = (uint32_t)(stet_prng_below(p, 8) ? stet_prng_below(p, 5) : stet_prng_below(p, 40));
    uint64_t bits = stet_prng_next(p) >> stet_prng_below(p, 64);
    switch (stet_prng_below(p, depth < 6 ? 10 : 7)) {
    case 0:
        stet_mp_nil(b);
        return;
    case 1:
        stet_mp_bool(b, bits & 1);
        return;
    case 2:
        stet_mp_uint(b, bits);
        return;
    case 3:
        stet_mp_int(b, -(int64_t)(bits >> 1));
        return;
    case 4:
        stet_mp_double(b, (double)bits / 3);
        return;
    case 5:
        stet_mp_bin(b, &bits, bits & 7);
        return;
    case 6:
        random_text(p, b, 't');
        return;
    case 7:
        stet_mp_array(b, count);
        for (uint32_t i = 0; i < count; i++)
            random_value(p, b, depth + 1);
        return;
    default:
        stet_mp_map(b, count);
        for (uint32_t i = 0; i < count; i++) {
            char name[16];
            (void)snprintf(name, sizeof name, "%u", i);
            stet_mp_cstr(b, name);
            random_value(p, b, depth + 1);
        }
        return;
    }
}

static void what_is_written_at_random_is_decoded_the_same_by_msgpack_c(void **state) {
    (void)state;
    stet_prng p = stet_prng_of(20260725);
    for (int round = 0; round < 3000; round++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 22);
        random_value(&p, &b, 0);
        stet_mp_limits limits = {.depth_max = 16, .nodes_max = 1 << 20};
        assert_int_equal(stet_mp_check(stet_buf_str(&b), limits, NULL), STET_OK);
        msgpack_unpacked u;
        msgpack_unpacked_init(&u);
        size_t offset = 0;
        assert_int_equal(msgpack_unpack_next(&u, (const char *)b.data, b.size, &offset),
                         MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(offset, b.size);
        msgpack_sbuffer again;
        msgpack_sbuffer_init(&again);
        msgpack_packer packer;
        msgpack_packer_init(&packer, &again, msgpack_sbuffer_write);
        assert_int_equal(msgpack_pack_object(&packer, u.data), 0);
        assert_bytes(&b, stet_str_from(again.data, again.size));
        msgpack_sbuffer_destroy(&again);
        msgpack_unpacked_destroy(&u);
    }
}

/* Our rules, written once more over msgpack-c's tree. */
static bool tree_is_allowed(const msgpack_object *o, uint32_t depth) {
    switch (o->type) {
    case MSGPACK_OBJECT_EXT:
        return false;
    case MSGPACK_OBJECT_STR:
        return stet_utf8_valid(stet_str_from(o->via.str.ptr, o->via.str.size));
    case MSGPACK_OBJECT_ARRAY:
        if (depth == 0)
            return false;
        for (uint32_t i = 0; i < o->via.array.size; i++)
            if (!tree_is_allowed(&o->via.array.ptr[i], depth - 1))
                return false;
        return true;
    case MSGPACK_OBJECT_MAP:
        if (depth == 0)
            return false;
        for (uint32_t i = 0; i < o->via.map.size; i++) {
            const msgpack_object_kv *kv = &o->via.map.ptr[i];
            if (kv->key.type != MSGPACK_OBJECT_STR || !tree_is_allowed(&kv->key, 0) ||
                !tree_is_allowed(&kv->val, depth - 1))
                return false;
            for (uint32_t j = 0; j < i; j++)
                if (msgpack_object_equal(kv->key, o->via.map.ptr[j].key))
                    return false;
        }
        return true;
    default:
        return true;
    }
}

static bool msgpack_c_and_our_rules_allow(stet_str bytes) {
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    size_t offset = 0;
    bool allowed = msgpack_unpack_next(&u, bytes.data, bytes.size, &offset) == MSGPACK_UNPACK_SUCCESS &&
                   offset == bytes.size && tree_is_allowed(&u.data, 16);
    msgpack_unpacked_destroy(&u);
    return allowed;
}

static void changed_bytes_are_accepted_exactly_when_msgpack_c_and_the_rules_do(void **state) {
    (void)state;
    stet_prng p = stet_prng_of(7);
    int accepted = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 22);
        do {
            stet_buf_clear(&b);
            random_value(&p, &b, 3);
        } while (b.size > 2000);
        uint64_t changes = 1 + stet_prng_below(&p, 2);
        for (uint64_t i = 0; i < changes; i++)
            b.data[stet_prng_below(&p, b.size)] = (uint8_t)stet_prng_next(&p);
        if (memchr(b.data, 0xdd, b.size) || memchr(b.data, 0xdf, b.size))
            continue; /* msgpack-c would believe the count and reserve gigabytes */
        bool ours = check(stet_buf_str(&b)) == STET_OK;
        assert_int_equal(ours, msgpack_c_and_our_rules_allow(stet_buf_str(&b)));
        *(ours ? &accepted : &refused) += 1;
    }
    assert_true(accepted > 1000 && refused > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsigned_numbers_take_the_smallest_form_and_read_back),
        cmocka_unit_test(negative_numbers_take_the_smallest_form_and_read_back),
        cmocka_unit_test(longer_forms_of_small_numbers_are_read),
        cmocka_unit_test(strings_and_binaries_take_every_header_size),
        cmocka_unit_test(other_scalars_round_trip),
        cmocka_unit_test(open_containers_close_with_the_smallest_header),
        cmocka_unit_test(a_full_buffer_fails_and_stays_failed),
        cmocka_unit_test(values_are_found_by_key),
        cmocka_unit_test(what_is_missing_or_of_another_type_is_the_fallback),
        cmocka_unit_test(numbers_are_read_as_any_type_that_holds_them),
        cmocka_unit_test(a_cut_at_any_byte_is_refused_and_never_read_past),
        cmocka_unit_test(failure_of_the_reader_is_sticky_and_yields_zeros),
        cmocka_unit_test(hostile_headers_are_refused_at_once),
        cmocka_unit_test(ext_is_refused_in_every_form_but_can_be_skipped),
        cmocka_unit_test(depth_is_allowed_up_to_the_limit),
        cmocka_unit_test(values_are_counted_up_to_the_limit),
        cmocka_unit_test(map_keys_are_strings_and_stand_once),
        cmocka_unit_test(repeated_keys_are_found_in_maps_of_every_size),
        cmocka_unit_test(strings_that_are_not_utf8_are_refused),
        cmocka_unit_test(bytes_after_the_value_are_refused_with_their_place),
        cmocka_unit_test(what_is_written_at_random_is_decoded_the_same_by_msgpack_c),
        cmocka_unit_test(changed_bytes_are_accepted_exactly_when_msgpack_c_and_the_rules_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
