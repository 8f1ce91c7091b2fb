/* The two small binary layouts: the commit record and the witness. */
#include "proto/base/paths.h"
#include "store/commit_record.h"
#include "store/witness.h"
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <sodium.h>

static stet_commit_record sample(void) {
    stet_commit_record record = {.partition = 0x01020304,
                                 .rows = 5,
                                 .epoch = 6,
                                 .number = 7,
                                 .wall_ms = INT64_C(1700000000123),
                                 .body_bytes = 99};
    memset(record.previous.bytes, 0xaa, STET_HASH_BYTES);
    memset(record.body.bytes, 0xbb, STET_BODY_HASH_BYTES);
    return record;
}

static void a_record_has_the_bytes_the_header_says(void **state) {
    (void)state;
    static const uint8_t start[] = {'S', 'T', 'C', 'R',  0,    2,    0,    0,    1, 2, 3, 4, 0, 0, 0, 5,
                                    0,   0,   0,   0,    0,    0,    0,    6,    0, 0, 0, 0, 0, 0, 0, 7,
                                    0,   0,   1,   0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0, 0, 0, 0, 0, 0, 0, 99};
    stet_commit_record record = sample(), back;
    uint8_t bytes[STET_COMMIT_RECORD_BYTES];
    stet_error e;
    stet_commit_record_encode(&record, bytes);
    assert_memory_equal(bytes, start, sizeof start);
    assert_int_equal(bytes[48], 0xaa);
    assert_int_equal(bytes[80], 0xbb);
    assert_int_equal(stet_commit_record_decode(stet_str_from(bytes, sizeof bytes), &back, &e), STET_OK);
    assert_memory_equal(&back, &record, sizeof record);
}

static void a_record_that_is_cut_foreign_or_contradictory_is_refused(void **state) {
    (void)state;
    stet_commit_record record = sample(), back;
    uint8_t bytes[STET_COMMIT_RECORD_BYTES];
    stet_error e;
    stet_commit_record_encode(&record, bytes);
    for (size_t size = 0; size < sizeof bytes; size++)
        assert_int_equal(stet_commit_record_decode(stet_str_from(bytes, size), &back, &e), STET_INVALID);
    bytes[5] = 1;
    assert_int_equal(stet_commit_record_decode(stet_str_from(bytes, sizeof bytes), &back, &e), STET_INVALID);
    assert_non_null(strstr(e.message, "format 1"));
    record.number = 1; /* the first has nothing before it */
    stet_commit_record_encode(&record, bytes);
    assert_int_equal(stet_commit_record_decode(stet_str_from(bytes, sizeof bytes), &back, &e), STET_INVALID);
    for (int i = 0; i < 4;
         i++) { /* a first commit with something before it, another one without; no owner, no rows */
        record = sample();
        record.number = i == 0 ? 0 : record.number;
        record.epoch = i == 1 ? 0 : record.epoch;
        record.rows = i == 2 ? 0 : record.rows;
        if (i == 3)
            memset(record.previous.bytes, 0, sizeof record.previous.bytes);
        stet_commit_record_encode(&record, bytes);
        assert_int_equal(stet_commit_record_decode(stet_str_from(bytes, sizeof bytes), &back, &e),
                         STET_INVALID);
        assert_non_null(strstr(e.message, "contradicts itself"));
    }
    static const size_t fixed[] = {0, 6, 7}; /* the magic, and two bytes that are zero */
    record = sample();
    for (size_t i = 0; i < COUNT_OF(fixed); i++) {
        stet_commit_record_encode(&record, bytes);
        bytes[fixed[i]] ^= 1;
        assert_int_equal(stet_commit_record_decode(stet_str_from(bytes, sizeof bytes), &back, &e),
                         STET_INVALID);
    }
}

static void the_body_is_a_write_batch_in_key_order(void **state) {
    (void)state;
    static const uint8_t body[] = {0, 0, 0,   0, 0,   0,  0, 0, 2, 0, 0, 0, /* sequence, rows */
                                   0, 1, 'a',                               /* delete a */
                                   1, 1, 'b', 2, 'x', 'y'};                 /* put b = xy */
    stet_overlay rows = stet_overlay_of(1 << 20, /* keeps_undo= */ true);
    assert_true(stet_overlay_put(&rows, STET_STR("b"), STET_STR("xy")));
    assert_true(stet_overlay_put(&rows, STET_STR("a"), (stet_str){NULL, 0}));
    stet_commit_record record = sample();
    CLEANUP(stet_buf_done) stet_buf write = STET_BUF(1 << 20);
    assert_true(stet_commit_build(&rows, &record, &write));
    assert_int_equal(record.rows, 2);
    assert_int_equal(record.body_bytes, sizeof body);
    /* What xxhsum -H128 says of these bytes. */
    static const uint8_t hash[STET_BODY_HASH_BYTES] = {0x8e, 0x94, 0x73, 0xde, 0x0a, 0x41, 0xbf, 0x7f,
                                                       0x52, 0x3f, 0x22, 0xd6, 0x9f, 0xd4, 0x48, 0x65};
    assert_memory_equal(record.body.bytes, hash, sizeof hash);
    assert_int_equal(write.data[8], 3); /* the head row is written too, and is not in the body */
    assert_memory_equal(write.data + 12, body + 12, sizeof body - 12);
    stet_overlay_done(&rows);
}

static void corrupt(const char *directory, off_t at, const void *bytes, size_t size) {
    char path[300];
    (void)snprintf(path, sizeof path, "%s/witness", directory);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, at), size);
    assert_int_equal(close(fd), 0);
}

static void write_witness(fixture *f, uint64_t number) {
    stet_witness_record record;
    stet_witness *witness;
    stet_hash hash;
    memset(hash.bytes, (int)number, sizeof hash.bytes);
    CHECK_OK(f, stet_witness_read(f->directory, &record, &f->e));
    CHECK_OK(f, stet_witness_open(f->directory, &record, &witness, &f->e));
    CHECK_OK(f, stet_witness_write(witness, /* epoch= */ 1, number, &hash, &f->e));
    stet_witness_close(witness);
}

static stet_witness_record read_witness(fixture *f) {
    stet_witness_record record;
    CHECK_OK(f, stet_witness_read(f->directory, &record, &f->e));
    return record;
}

static void a_torn_slot_leaves_the_one_before(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fixture_make_directory(&f);
    assert_int_equal(read_witness(&f).state, STET_WITNESS_NONE);
    for (uint64_t number = 1; number <= 6; number++) {
        write_witness(&f, number);
        assert_int_equal(read_witness(&f).number, number);
        assert_int_equal(read_witness(&f).hash.bytes[5], number);
    }
    corrupt(f.directory, 0, "torn", 4); /* six writes: the newest is in slot 0 */
    assert_int_equal(read_witness(&f).state, STET_WITNESS_KNOWN);
    assert_int_equal(read_witness(&f).number, 5);
    write_witness(&f, 7); /* goes over the torn one */
    assert_int_equal(read_witness(&f).number, 7);
    corrupt(f.directory, 4096 + 30, "torn", 4);
    assert_int_equal(read_witness(&f).number, 7);
    corrupt(f.directory, 64, "torn", 4);
    assert_int_equal(read_witness(&f).state, STET_WITNESS_DAMAGED);
    fixture_remove_directory(&f);
}

static void a_first_write_that_never_arrived_is_no_damage(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fixture_make_directory(&f);
    stet_witness_record none = {.state = STET_WITNESS_NONE};
    stet_witness *witness;
    CHECK_OK(&f, stet_witness_open(f.directory, &none, &witness, &f.e));
    stet_witness_close(witness);
    assert_int_equal(read_witness(&f).state, STET_WITNESS_NONE);
    static const uint8_t zeros[96];
    corrupt(f.directory, 4096, zeros, sizeof zeros);
    assert_int_equal(read_witness(&f).state, STET_WITNESS_NONE);
    fixture_remove_directory(&f);
}

static void a_witness_that_cannot_be_read_or_made_is_an_error(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fixture_make_directory(&f);
    stet_witness_record record, none = {.state = STET_WITNESS_NONE};
    stet_witness *witness = NULL;
    char path[300], lost[300], endless[STET_PATH_MAX + 1];
    memset(endless, 'x', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    CHECK_CODE(&f, stet_witness_read(endless, &record, &f.e), STET_INVALID);
    CHECK_CODE(&f, stet_witness_open(endless, &none, &witness, &f.e), STET_INVALID);
    (void)snprintf(lost, sizeof lost, "%s/not/there", f.directory);
    CHECK_OK(&f, stet_witness_read(lost, &record, &f.e)); /* a store that was never there has none */
    assert_int_equal(record.state, STET_WITNESS_NONE);
    assert_int_not_equal(stet_witness_open(lost, &none, &witness, &f.e), STET_OK);
    (void)snprintf(path, sizeof path, "%s/witness", f.directory);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_not_equal(stet_witness_read(f.directory, &record, &f.e), STET_OK);
    assert_non_null(strstr(f.e.message, path));
    assert_int_not_equal(stet_witness_open(f.directory, &none, &witness, &f.e), STET_OK);
    assert_null(witness);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("witness", path), 0); /* of itself */
    assert_int_not_equal(stet_witness_read(f.directory, &record, &f.e), STET_OK);
    fixture_remove_directory(&f);
}

static void a_witness_that_cannot_be_written_says_that_the_process_has_to_end(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fixture_make_directory(&f);
    stet_witness_record none = {.state = STET_WITNESS_NONE};
    stet_witness *witness;
    stet_hash hash = {{1}};
    char path[300];
    (void)snprintf(path, sizeof path, "%s/witness", f.directory);
    assert_int_equal(symlink("/dev/full", path), 0);
    CHECK_OK(&f, stet_witness_open(f.directory, &none, &witness, &f.e));
    CHECK_CODE(&f, stet_witness_write(witness, 1, 1, &hash, &f.e), STET_BUSY);
    assert_non_null(strstr(f.e.message, "end the process"));
    assert_null(stet_witness_close(witness));
    assert_null(stet_witness_close(NULL));
    fixture_remove_directory(&f);
}

int main(void) {
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_has_the_bytes_the_header_says),
        cmocka_unit_test(a_record_that_is_cut_foreign_or_contradictory_is_refused),
        cmocka_unit_test(the_body_is_a_write_batch_in_key_order),
        cmocka_unit_test(a_torn_slot_leaves_the_one_before),
        cmocka_unit_test(a_first_write_that_never_arrived_is_no_damage),
        cmocka_unit_test(a_witness_that_cannot_be_read_or_made_is_an_error),
        cmocka_unit_test(a_witness_that_cannot_be_written_says_that_the_process_has_to_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
