#include "tests/unit/store_fixture.h"

enum { TUPLES = 3000, PARTS_MAX = 3, TEXT_MAX = 4 };

typedef struct part {
    enum { TEXT, NUMBER, DESCENDING, ID } kind;
    char text[TEXT_MAX];
    size_t size;
    uint64_t number;
    stet_id id;
} part;

/* Every tuple has the same kinds at the same places, as the keys of one table have. */
static const int shape[PARTS_MAX] = {TEXT, NUMBER, DESCENDING};

static part random_part(stet_prng *prng, int kind) {
    static const char letters[] = {0, 1, 'a', 'b', (char)0xff};
    part p = {.kind = kind};
    p.size = stet_prng_below(prng, TEXT_MAX + 1);
    for (size_t i = 0; i < p.size; i++)
        p.text[i] = letters[stet_prng_below(prng, sizeof letters)];
    p.number = stet_prng_below(prng, 2) ? stet_prng_below(prng, 3) : stet_prng_next(prng);
    return p;
}

static stet_key key_of(const part *parts) {
    stet_key key = stet_key_of(STET_TABLE_ACTOR_FIRST);
    for (int i = 0; i < PARTS_MAX; i++) {
        if (parts[i].kind == TEXT)
            stet_key_str(&key, stet_str_from(parts[i].text, parts[i].size));
        else if (parts[i].kind == NUMBER)
            stet_key_u64(&key, parts[i].number);
        else
            stet_key_u64_descending(&key, parts[i].number);
    }
    return key;
}

static int compare_bytes(const void *a, size_t a_size, const void *b, size_t b_size) {
    size_t size = a_size < b_size ? a_size : b_size;
    int order = size ? memcmp(a, b, size) : 0;
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

static int compare_tuples(const part *a, const part *b) {
    for (int i = 0; i < PARTS_MAX; i++) {
        int order = (a[i].number > b[i].number) - (a[i].number < b[i].number);
        if (a[i].kind == TEXT)
            order = compare_bytes(a[i].text, a[i].size, b[i].text, b[i].size);
        else if (a[i].kind == DESCENDING)
            order = -order;
        if (order)
            return order;
    }
    return 0;
}

static int sign(int n) {
    return (n > 0) - (n < 0);
}

static void byte_order_is_tuple_order(void **state) {
    (void)state;
    stet_prng prng = stet_prng_of(11);
    part before[PARTS_MAX] = {0};
    for (int i = 0; i < PARTS_MAX; i++)
        before[i] = random_part(&prng, shape[i]);
    for (int n = 0; n < TUPLES; n++) {
        part now[PARTS_MAX];
        for (int i = 0; i < PARTS_MAX; i++)
            now[i] = stet_prng_below(&prng, 3) == 0 ? before[i] : random_part(&prng, shape[i]);
        stet_key a = key_of(before), b = key_of(now);
        int want = sign(compare_tuples(before, now));
        int got = sign(compare_bytes(a.bytes, a.size, b.bytes, b.size));
        if (want != got)
            print_error("seed 11, tuple %d\n", n);
        assert_int_equal(got, want);
        memcpy(before, now, sizeof now);
    }
}

static void reading_gives_back_what_was_written(void **state) {
    (void)state;
    stet_prng prng = stet_prng_of(12);
    for (int n = 0; n < TUPLES; n++) {
        part p = random_part(&prng, TEXT);
        for (size_t i = 0; i < sizeof p.id.bytes; i++)
            p.id.bytes[i] = (uint8_t)stet_prng_next(&prng);
        stet_key key = stet_key_of(200);
        stet_key_str(&key, stet_str_from(p.text, p.size));
        stet_key_u64(&key, p.number);
        stet_key_u64_descending(&key, p.number);
        stet_key_id(&key, p.id);
        uint8_t table;
        char text[TEXT_MAX];
        stet_key_reader r = stet_key_reader_of(stet_key_bytes(&key), &table);
        assert_int_equal(table, 200);
        assert_int_equal(stet_key_read_str(&r, text, sizeof text), p.size);
        assert_memory_equal(text, p.text, p.size);
        assert_int_equal(stet_key_read_u64(&r), p.number);
        assert_int_equal(stet_key_read_u64_descending(&r), p.number);
        assert_true(stet_id_equal(stet_key_read_id(&r), p.id));
        assert_false(r.failed);
        assert_ptr_equal(r.at, r.end);
    }
}

static void a_prefix_of_parts_is_a_prefix_of_bytes(void **state) {
    (void)state;
    stet_key a = stet_key_of(64), longer;
    stet_key_str(&a, STET_STR("a"));
    longer = a;
    stet_key_u64(&longer, 7);
    assert_memory_equal(a.bytes, longer.bytes, a.size);
    stet_key other = stet_key_of(64);
    stet_key_str(&other, STET_STR("ab"));
    assert_true(other.size > a.size);
    assert_memory_not_equal(a.bytes, other.bytes, a.size); /* "a" does not cover "ab" */
}

static void cut_and_foreign_keys_fail_and_stay_failed(void **state) {
    (void)state;
    stet_key key = stet_key_of(64);
    stet_key_str(&key, STET_STR("text"));
    stet_key_u64(&key, 7);
    uint8_t table;
    char text[8];
    for (size_t size = 0; size < key.size; size++) {
        stet_key_reader r = stet_key_reader_of(stet_str_from(key.bytes, size), &table);
        (void)stet_key_read_str(&r, text, sizeof text);
        assert_int_equal(stet_key_read_u64(&r), 0);
        assert_true(r.failed);
        assert_int_equal(stet_key_read_u64(&r), 0);
    }
    stet_key_reader r = stet_key_reader_of(stet_key_bytes(&key), &table);
    assert_int_equal(stet_key_read_str(&r, text, /* size_max= */ 3), 0);
    assert_true(r.failed); /* one byte too long for the room given */
    r = stet_key_reader_of(stet_key_bytes(&key), &table);
    assert_int_equal(stet_key_read_u64(&r), 0);
    assert_true(r.failed);
}

static void expect_json(const stet_key *key, const char *name, const char *want) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    stet_key_json(stet_key_bytes(key), name, &b);
    stet_buf_append_byte(&b, 0);
    assert_true(stet_buf_ok(&b));
    assert_string_equal((const char *)b.data, want);
}

static void a_name_longer_than_any_of_ours_is_damage(void **state) {
    (void)state;
    char text[STET_KEY_NAME_MAX + 1], name[STET_KEY_BYTES_MAX];
    stet_key_reader rest;
    memset(text, 'x', sizeof text);
    for (size_t size = STET_KEY_NAME_MAX; size <= sizeof text; size++) {
        stet_key key = stet_key_of(8);
        stet_key_str(&key, stet_str_from(text, size));
        stet_str read = stet_key_open_named(stet_key_bytes(&key), name, &rest);
        assert_int_equal(rest.failed, size > STET_KEY_NAME_MAX);
        assert_int_equal(read.size, rest.failed ? 0 : size);
    }
}

static void json_shows_parts_and_hex_of_the_rest(void **state) {
    (void)state;
    stet_key key = stet_key_of(16);
    stet_key_str(&key, STET_STR("p\"1\n"));
    stet_key_u64(&key, 7);
    stet_key_u64_descending(&key, 9);
    expect_json(&key, "jobs", "[\"jobs\", \"p\\\"1\\u000a\", 7, 9]");
    key.bytes[key.size++] = 'x';
    key.bytes[key.size++] = 0xfe;
    expect_json(&key, NULL, "[16, \"p\\\"1\\u000a\", 7, 9, \"0x78fe\"]");
    stet_key id = stet_key_of(2);
    stet_key_id(&id, (stet_id){{1, 2, 3}});
    expect_json(&id, "duplicates", "[\"duplicates\", \"01020300-0000-0000-0000-000000000000\"]");
    stet_key not_text = stet_key_of(6);
    stet_key_str(&not_text, STET_STR("\xff")); /* no JSON could carry it */
    expect_json(&not_text, "events", "[\"events\", \"0x53ff0001\"]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_order_is_tuple_order),
        cmocka_unit_test(reading_gives_back_what_was_written),
        cmocka_unit_test(a_prefix_of_parts_is_a_prefix_of_bytes),
        cmocka_unit_test(cut_and_foreign_keys_fail_and_stay_failed),
        cmocka_unit_test(a_name_longer_than_any_of_ours_is_damage),
        cmocka_unit_test(json_shows_parts_and_hex_of_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
