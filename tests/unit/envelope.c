/* Envelopes, routes and error bodies: round trips, bounds, and what is refused. */
#include "proto/wire/envelope.h"

#include <stdlib.h>

#include "proto/wire/mp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const stet_id SOME_ID = {{1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}};
static const stet_id SOME_LIFE = {{9, 9, 9}};

static void assert_same(const stet_envelope *a, const stet_envelope *b) {
    assert_int_equal(a->kind, b->kind);
    assert_true(stet_id_equal(a->id, b->id));
    assert_true(stet_str_equal(a->command, b->command));
    assert_true(stet_str_equal(a->key, b->key));
    assert_int_equal(a->timeout_ms, b->timeout_ms);
    assert_true(stet_str_equal(a->service, b->service));
    assert_int_equal(a->partition, b->partition);
    assert_true(a->epoch == b->epoch);
    assert_true(stet_id_equal(a->instance, b->instance));
    assert_true(a->sequence == b->sequence);
    assert_int_equal(a->credit, b->credit);
    assert_int_equal(a->interval_ms, b->interval_ms);
    assert_true(stet_str_equal(a->software, b->software));
}

static void round_trip(stet_envelope in) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&in, &b);
    assert_true(stet_buf_ok(&b));
    assert_int_equal(stet_mp_check(stet_buf_str(&b), STET_MP_LIMITS_ENVELOPE, NULL), STET_OK);
    stet_envelope out;
    stet_error e;
    assert_int_equal(stet_envelope_decode(stet_buf_str(&b), &out, &e), STET_OK);
    assert_same(&in, &out);
    for (size_t size = 0; size < b.size; size++) {
        uint8_t *cut = malloc(size ? size : 1);
        memcpy(cut, b.data, size);
        assert_int_equal(stet_envelope_decode(stet_str_from(cut, size), &out, &e), STET_INVALID);
        free(cut);
    }
}

static void every_kind_survives_the_trip(void **state) {
    (void)state;
    stet_str drafter = STET_STR("drafter"), alerts = STET_STR("alerts"), software = STET_STR("0.1.0");
    round_trip((stet_envelope){.kind = STET_KIND_REQUEST,
                               .id = SOME_ID,
                               .command = STET_STR("drafter.transcript.append"),
                               .key = STET_STR("prójekt"),
                               .timeout_ms = 30000});
    round_trip((stet_envelope){.kind = STET_KIND_REPLY, .id = SOME_ID});
    round_trip((stet_envelope){.kind = STET_KIND_ERROR, .id = SOME_ID, .command = STET_STR("alerts.raise")});
    round_trip((stet_envelope){.kind = STET_KIND_ERROR});
    round_trip((stet_envelope){.kind = STET_KIND_SEND,
                               .id = SOME_ID,
                               .command = STET_STR("alerts.raise"),
                               .key = STET_STR("k"),
                               .service = drafter,
                               .partition = 1023,
                               .epoch = 3,
                               .sequence = 99});
    round_trip((stet_envelope){.kind = STET_KIND_ACK,
                               .id = SOME_ID,
                               .command = STET_STR("alerts.raise"),
                               .service = alerts,
                               .epoch = 1});
    round_trip((stet_envelope){.kind = STET_KIND_READY,
                               .service = drafter,
                               .epoch = 1,
                               .instance = SOME_LIFE,
                               .credit = 2048,
                               .software = software});
    round_trip((stet_envelope){.kind = STET_KIND_WELCOME,
                               .service = drafter,
                               .epoch = 1,
                               .instance = SOME_LIFE,
                               .interval_ms = 250,
                               .software = software});
    round_trip((stet_envelope){.kind = STET_KIND_HEARTBEAT, .instance = SOME_LIFE});
    round_trip((stet_envelope){.kind = STET_KIND_REGISTER});
    round_trip(
        (stet_envelope){.kind = STET_KIND_LEAVE, .service = drafter, .epoch = 1, .instance = SOME_LIFE});
}

static void the_largest_envelope_fits_the_bound(void **state) {
    (void)state;
    char text[STET_ROUTING_KEY_SIZE_MAX];
    memset(text, 'x', sizeof text);
    round_trip((stet_envelope){.kind = STET_KIND_HEARTBEAT,
                               .id = SOME_ID,
                               .command = stet_str_from(text, STET_COMMAND_SIZE_MAX),
                               .key = stet_str_from(text, STET_ROUTING_KEY_SIZE_MAX),
                               .timeout_ms = UINT32_MAX,
                               .service = stet_str_from(text, STET_SERVICE_SIZE_MAX),
                               .partition = STET_SLOTS - 1,
                               .epoch = INT64_MAX,
                               .instance = SOME_LIFE,
                               .sequence = INT64_MAX,
                               .credit = UINT32_MAX,
                               .interval_ms = UINT32_MAX,
                               .software = stet_str_from(text, 64)});
}

/* A request with one more pair, or with one pair instead of ours. */
typedef void put_fn(stet_buf *b, const void *value);

static stet_code decode_with(const char *name, put_fn *put, const void *value, stet_envelope *ret,
                             stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    size_t mark = stet_mp_open(&b);
    uint32_t pairs = 0;
    static const char *const names[] = {"v", "kind", "id", "command"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i], name) == 0)
            continue;
        stet_mp_cstr(&b, names[i]);
        if (i == 0)
            stet_mp_uint(&b, 1);
        else if (i == 1)
            stet_mp_cstr(&b, "request");
        else if (i == 2)
            stet_mp_bin(&b, SOME_ID.bytes, STET_ID_BYTES);
        else
            stet_mp_cstr(&b, "a.b");
        pairs++;
    }
    if (put) {
        stet_mp_cstr(&b, name);
        put(&b, value);
        pairs++;
    }
    stet_mp_close_map(&b, mark, pairs);
    return stet_envelope_decode(stet_buf_str(&b), ret, e);
}

static void put_text(stet_buf *b, const void *value) {
    stet_mp_cstr(b, value);
}
static void put_number(stet_buf *b, const void *value) {
    stet_mp_uint(b, *(const uint64_t *)value);
}
static void put_bytes(stet_buf *b, const void *value) {
    stet_mp_bin(b, "0123456789abcdef!", *(const size_t *)value);
}
static void put_nested(stet_buf *b, const void *value) {
    for (int i = 0; i < *(const int *)value; i++)
        stet_mp_array(b, 1);
    stet_mp_nil(b);
}

static void expect(const char *name, put_fn *put, const void *value, stet_code expected) {
    stet_envelope out;
    stet_error e = {.field = ""};
    stet_code rc = decode_with(name, put, value, &out, &e);
    if (rc != expected)
        print_error("%s: %s\n", name, e.message);
    assert_int_equal(rc, expected);
    if (rc != STET_OK)
        assert_string_equal(e.field, name);
}

static void text_is_bounded(const char *name, size_t max) {
    char text[512];
    memset(text, 'a', sizeof text);
    text[max] = 0;
    expect(name, put_text, text, STET_OK);
    text[max] = 'a';
    text[max + 1] = 0;
    expect(name, put_text, text, STET_INVALID);
    expect(name, put_number, &(uint64_t){1}, STET_INVALID);
    text[1] = 0;
    text[0] = (char)0xff;
    expect(name, put_text, text, STET_INVALID);
}

static void number_is_bounded(const char *name, uint64_t max) {
    expect(name, put_number, &max, STET_OK);
    expect(name, put_number, &(uint64_t){max + 1}, STET_INVALID);
    expect(name, put_number, &(uint64_t){UINT64_MAX}, STET_INVALID);
    expect(name, put_text, "1", STET_INVALID);
}

static void each_key_is_bounded(void **state) {
    (void)state;
    text_is_bounded("command", STET_COMMAND_SIZE_MAX);
    text_is_bounded("key", STET_ROUTING_KEY_SIZE_MAX);
    text_is_bounded("service", STET_SERVICE_SIZE_MAX);
    text_is_bounded("software", 64);
    number_is_bounded("timeoutMs", UINT32_MAX);
    number_is_bounded("partition", STET_SLOTS - 1);
    number_is_bounded("epoch", INT64_MAX);
    number_is_bounded("sequence", INT64_MAX);
    number_is_bounded("credit", UINT32_MAX);
    number_is_bounded("intervalMs", UINT32_MAX);
    for (size_t size = 15; size <= 17; size++) {
        expect("id", put_bytes, &size, size == 16 ? STET_OK : STET_INVALID);
        expect("instance", put_bytes, &size, size == 16 ? STET_OK : STET_INVALID);
    }
    expect("id", put_text, "0123456789abcdef", STET_INVALID); /* str is not bin */
    expect("kind", put_text, "request", STET_OK);
    expect("kind", put_text, "none", STET_INVALID);
    expect("kind", put_text, "requests", STET_INVALID);
    expect("kind", NULL, NULL, STET_INVALID);
    expect("command", NULL, NULL, STET_INVALID);
    expect("id", NULL, NULL, STET_INVALID);
}

static void names_hold_only_letters_digits_dot_dash_underscore(void **state) {
    (void)state;
    static const char *const bad[] = {"", "a b", "a/b", "a\nb", "ä.b", "a:b", "a.b*", "a.b\x7f"};
    expect("command", put_text, "drafter.getById-2_x", STET_OK);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        expect("command", put_text, bad[i], STET_INVALID);
        expect("service", put_text, bad[i], STET_INVALID);
    }
}

static void another_version_is_refused_and_a_missing_one_too(void **state) {
    (void)state;
    expect("v", put_number, &(uint64_t){1}, STET_OK);
    expect("v", put_number, &(uint64_t){0}, STET_INVALID);
    expect("v", put_number, &(uint64_t){2}, STET_INVALID);
    expect("v", put_text, "1", STET_INVALID);
    expect("v", NULL, NULL, STET_INVALID);
}

static void unknown_keys_are_ignored_within_the_limits(void **state) {
    (void)state;
    stet_envelope out;
    expect("traceparent", put_text, "00-1", STET_OK);
    assert_int_equal(decode_with("deep", put_nested, &(int){1}, &out, NULL), STET_OK);
    assert_int_equal(decode_with("deep", put_nested, &(int){2}, &out, NULL), STET_INVALID);
    assert_int_equal(decode_with("deep", put_nested, &(int){900}, &out, NULL), STET_INVALID);
    assert_int_equal(decode_with("text", put_text, "\xff", &out, NULL), STET_INVALID);
}

static void a_key_that_stands_twice_is_refused(void **state) {
    (void)state;
    stet_envelope out;
    stet_str twice = STET_STR("\x83\xa1v\x01\xa4kind\xa8register\xa1v\x01");
    assert_int_equal(stet_envelope_decode(twice, &out, NULL), STET_INVALID);
    stet_str strangers = STET_STR("\x84\xa1v\x01\xa4kind\xa8register\xa1x\x01\xa1x\x01");
    assert_int_equal(stet_envelope_decode(strangers, &out, NULL), STET_INVALID);
    stet_str once = STET_STR("\x82\xa4kind\xa8register\xa1v\x01");
    assert_int_equal(stet_envelope_decode(once, &out, NULL), STET_OK);
    stet_str more = STET_STR("\x82\xa4kind\xa8register\xa1v\x01\xc0");
    assert_int_equal(stet_envelope_decode(more, &out, NULL), STET_INVALID);
}

static void a_refused_envelope_still_gives_its_id(void **state) {
    (void)state;
    stet_envelope out;
    stet_error e;
    assert_int_equal(decode_with("v", put_number, &(uint64_t){2}, &out, &e), STET_INVALID);
    assert_true(stet_id_equal(out.id, SOME_ID));
    assert_int_equal(out.kind, STET_KIND_NONE);
    assert_int_equal(stet_envelope_decode(STET_STR("garbage"), &out, &e), STET_INVALID);
    assert_true(stet_id_is_zero(out.id));
}

static void a_frame_over_the_bound_is_refused_unread(void **state) {
    (void)state;
    uint8_t *frame = calloc(1, STET_ENVELOPE_BYTES_MAX + 1);
    stet_envelope out;
    stet_error e;
    assert_int_equal(stet_envelope_decode(stet_str_from(frame, STET_ENVELOPE_BYTES_MAX + 1), &out, &e),
                     STET_INVALID);
    assert_non_null(strstr(e.message, "1025"));
    free(frame);
    assert_int_equal(stet_envelope_decode((stet_str){NULL, 0}, &out, &e), STET_INVALID);
}

static void the_service_is_the_first_label(void **state) {
    (void)state;
    assert_true(stet_str_is(stet_command_service(STET_STR("drafter.transcript.append")), "drafter"));
    assert_true(stet_str_is(stet_command_service(STET_STR(".x")), ""));
    assert_null(stet_command_service(STET_STR("drafter")).data);
    assert_null(stet_command_service((stet_str){NULL, 0}).data);
}

static void slots_never_change(void **state) {
    (void)state;
    assert_int_equal(stet_slot_of(STET_STR("")), 0xcbf29ce484222325 % 1024);
    assert_int_equal(stet_slot_of(STET_STR("a")), 0xaf63dc4c8601ec8c % 1024); /* published FNV-1a 64 values */
    assert_int_equal(stet_slot_of(STET_STR("foobar")), 0x85944171f73967e8 % 1024);
}

static void routes_survive_the_trip_and_others_are_refused(void **state) {
    (void)state;
    stet_route in = {.ticket = UINT64_MAX,
                     .role = STET_STR("control"),
                     .slot = 1023,
                     .partition = 7,
                     .remaining_ms = UINT32_MAX};
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(256);
    stet_route_encode(&in, &b);
    stet_route out;
    assert_int_equal(stet_route_decode(stet_buf_str(&b), &out, NULL), STET_OK);
    assert_true(out.ticket == in.ticket && out.slot == 1023 && out.partition == 7);
    assert_true(out.remaining_ms == UINT32_MAX && stet_str_is(out.role, "control"));
    for (size_t size = 0; size < b.size; size++)
        assert_int_equal(stet_route_decode(stet_str_from(b.data, size), &out, NULL), STET_INVALID);
    stet_buf_append_byte(&b, 0xc0);
    assert_int_equal(stet_route_decode(stet_buf_str(&b), &out, NULL), STET_INVALID);
    assert_int_equal(stet_route_decode(STET_STR("\x95\x01\xa1x\xcd\x04\x00\x00\x00"), &out, NULL),
                     STET_INVALID);
}

static void error_bodies_survive_the_trip(void **state) {
    (void)state;
    stet_error in, out;
    (void)stet_error_field(&in, STET_CONFLICT, "items[2].id", "read version %d and decide again", 4);
    in.retry_after_ms = 250;
    stet_buf details = STET_BUF(64);
    stet_mp_map(&details, 1);
    stet_mp_put_uint(&details, "currentVersion", 4);
    memcpy(in.details, details.data, details.size);
    in.details_size = details.size;
    stet_buf_done(&details);
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(2048);
    stet_error_encode(&in, &b);
    assert_int_equal(stet_mp_check(stet_buf_str(&b), STET_MP_LIMITS_BODY, NULL), STET_OK);
    stet_error_decode(stet_buf_str(&b), &out);
    assert_int_equal(out.code, STET_CONFLICT);
    assert_string_equal(out.field, in.field);
    assert_string_equal(out.message, in.message);
    assert_int_equal(out.retry_after_ms, 250);
    assert_int_equal(out.details_size, in.details_size);
    assert_memory_equal(out.details, in.details, in.details_size);
}

static void words_of_an_error_end_at_a_nul(void **state) {
    (void)state;
    stet_error out;
    stet_error_decode(STET_STR("\x83\xa4"
                               "code\xa8"
                               "conflict\xa5"
                               "field\xa3"
                               "a\0b\xa7"
                               "message\xa3"
                               "m\0n"),
                      &out);
    assert_int_equal(out.code, STET_CONFLICT);
    assert_memory_equal(out.field, "a\0\0", 3);
    assert_memory_equal(out.message, "m\0\0", 3);
}

static void an_error_that_cannot_be_read_is_internal(void **state) {
    (void)state;
    static const stet_str bodies[] = {{"", 0},
                                      {"\xc1", 1},
                                      {"\x80", 1},
                                      {"\x81\xa4"
                                       "code\x05",
                                       7},
                                      {"\x81\xa4"
                                       "code\xa2ok",
                                       9},
                                      {"\x81\xa4"
                                       "code\xa3new",
                                       10},
                                      {"\x93\x01\x02\x03", 4}};
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        stet_error out;
        stet_error_decode(bodies[i], &out);
        assert_int_equal(out.code, STET_INTERNAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_survives_the_trip),
        cmocka_unit_test(the_largest_envelope_fits_the_bound),
        cmocka_unit_test(each_key_is_bounded),
        cmocka_unit_test(names_hold_only_letters_digits_dot_dash_underscore),
        cmocka_unit_test(another_version_is_refused_and_a_missing_one_too),
        cmocka_unit_test(unknown_keys_are_ignored_within_the_limits),
        cmocka_unit_test(a_key_that_stands_twice_is_refused),
        cmocka_unit_test(a_refused_envelope_still_gives_its_id),
        cmocka_unit_test(a_frame_over_the_bound_is_refused_unread),
        cmocka_unit_test(the_service_is_the_first_label),
        cmocka_unit_test(slots_never_change),
        cmocka_unit_test(routes_survive_the_trip_and_others_are_refused),
        cmocka_unit_test(error_bodies_survive_the_trip),
        cmocka_unit_test(words_of_an_error_end_at_a_nul),
        cmocka_unit_test(an_error_that_cannot_be_read_is_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
