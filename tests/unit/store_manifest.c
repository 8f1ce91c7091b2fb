/* RocksDB's manifest: where its whole records end, a last record that was torn, and one that was damaged later. */
#include "store/log_format.h"
#include "tests/unit/store_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { FILE_MAX = 4 << 20, HEADER = 7, ROW_BYTES = 60000 };

typedef struct blob {
    uint8_t bytes[FILE_MAX];
    size_t size;
} blob;

static void load(const char *path, blob *b) {
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t size = read(fd, b->bytes, sizeof b->bytes);
    assert_true(size >= 0 && size < FILE_MAX);
    b->size = (size_t)size;
    assert_int_equal(close(fd), 0);
}

static void save(const char *path, const blob *b) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b->bytes, b->size), b->size);
    assert_int_equal(close(fd), 0);
}

static bool exists(const fixture *f, const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", f->directory, name);
    return access(path, F_OK) == 0;
}

static void manifest_path(const fixture *f, char path[600]) {
    static blob b;
    char current[512], name[64] = "";
    (void)snprintf(current, sizeof current, "%s/db/CURRENT", f->directory);
    load(current, &b);
    assert_true(b.size > 1 && b.size < sizeof name);
    memcpy(name, b.bytes, b.size - 1);
    (void)snprintf(path, 600, "%s/db/%s", f->directory, name);
}

/* The lowest number of a log in db/, or the highest. */
static unsigned long log_number(const fixture *f, bool lowest) {
    char db[512];
    unsigned long best = 0;
    (void)snprintf(db, sizeof db, "%s/db", f->directory);
    DIR *entries = opendir(db);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        char *end;
        unsigned long number = strtoul(entry->d_name, &end, 10);
        if (number > 0 && strcmp(end, ".log") == 0 && (best == 0 || (number < best) == lowest))
            best = number;
    }
    (void)closedir(entries);
    return best;
}

static unsigned long oldest_log(const fixture *f) {
    return log_number(f, /* lowest= */ true);
}

static void commit_rows(fixture *f, int first, int count, size_t size) {
    static char value[ROW_BYTES + 1];
    memset(value, 'v', size);
    value[size] = '\0';
    for (int i = first; i < first + count; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "row %d", i);
        fixture_put(f, key, value);
        fixture_commit(f);
    }
}

static void expect_rows(fixture *f, int first, int count) {
    for (int i = first; i < first + count; i++) {
        stet_key k;
        stet_str got;
        char key[32];
        (void)snprintf(key, sizeof key, "row %d", i);
        CHECK_OK(f, stet_batch_get(stet_store_batch(f->store), fixture_key(&k, key), &got, &f->e));
    }
}

static size_t whole(const blob *b) {
    return stet_log_format_whole(stet_str_from(b->bytes, b->size));
}

static void what_rocksdb_wrote_is_whole_and_any_change_ends_it_there(void **state) {
    fixture *f = *state;
    static blob b;
    char path[600];
    commit_rows(f, 0, 3, /* size= */ 10);
    fixture_close(f);
    manifest_path(f, path);
    load(path, &b);
    size_t size = b.size;
    assert_true(size > 2 * HEADER);
    assert_int_equal(whole(&b), size);
    for (size_t at = 0; at < size; at++) {
        b.bytes[at] ^= 1;
        assert_true(whole(&b) <= at);
        b.bytes[at] ^= 1;
        b.size = at;
        assert_true(whole(&b) <= at);
        b.size = size;
    }
}

static void a_record_of_several_blocks_is_whole_with_its_last_piece(void **state) {
    fixture *f = *state;
    static blob b;
    char path[600];
    commit_rows(f, 0, 3, ROW_BYTES);
    fixture_close(f);
    (void)snprintf(path, sizeof path, "%s/db/%06lu.log", f->directory, oldest_log(f));
    load(path, &b);
    assert_true(b.size > 3 * ROW_BYTES);
    assert_int_equal(whole(&b), b.size);
    b.size--;
    assert_true(whole(&b) > ROW_BYTES && whole(&b) < 3 * ROW_BYTES);
}

static void a_torn_record_behind_the_witnessed_ones_is_cut_in_a_copy(void **state) {
    fixture *f = *state;
    static blob b, after;
    char path[600];
    commit_rows(f, 0, 3, /* size= */ 10);
    fixture_close(f);
    manifest_path(f, path);
    load(path, &b);
    static const uint8_t header[HEADER] = {1, 2, 3, 4, /* length */ 40, 0, /* full */ 1};
    memcpy(b.bytes + b.size, header, sizeof header);
    memset(b.bytes + b.size + sizeof header, 0, 40);
    b.size += sizeof header + 40;
    save(path, &b);
    fixture_open(f);
    expect_rows(f, 0, 3);
    assert_true(exists(f, "db.damaged-1"));
    char *db = strstr(path, "/db/MANIFEST");
    assert_non_null(db);
    char kept[700];
    (void)snprintf(kept, sizeof kept, "%.*s/db.damaged-1%s", (int)(db - path), path, db + 3);
    load(kept, &after);
    assert_int_equal(after.size, b.size); /* the original is as it was */
    commit_rows(f, 3, 1, /* size= */ 10);
    fixture_close(f);
    fixture_open(f);
    expect_rows(f, 0, 4);
}

static bool ends_up_with_another_oldest_log(const fixture *f, unsigned long log) {
    for (int i = 0; i < 3000 && oldest_log(f) == log; i++)
        (void)usleep(10000);
    return oldest_log(f) != log;
}

/* The last record is the one that tells of the table, and the log whose rows are in it is gone: cutting it would lose them. Or it
 * is the one that the log ended, when that came later: not needed any more. */
static void a_synced_record_that_was_damaged_loses_nothing(void **state) {
    fixture *f = *state;
    static blob witness, b;
    char path[600], witness_path[512];
    int rows = 6;
    (void)snprintf(witness_path, sizeof witness_path, "%s/witness", f->directory);
    commit_rows(f, 0, 3, ROW_BYTES);
    fixture_close(f);
    load(witness_path, &witness);
    fixture_open(f);
    commit_rows(f, 3, 3, ROW_BYTES);
    (void)usleep(
        300000); /* the witness is at most 100 ms behind; the test only proves less when it is more */
    load(witness_path, &witness);
    unsigned long log = oldest_log(f);
    while (log_number(f, /* lowest= */ false) == log) /* until the write buffer is full */
        commit_rows(f, rows++, 1, ROW_BYTES);
    assert_true(ends_up_with_another_oldest_log(f, log));
    fixture_close(f);
    manifest_path(f, path);
    load(path, &b);
    assert_int_equal(whole(&b), b.size);
    b.bytes[b.size - 1] ^= 1;
    save(path, &b);
    save(witness_path, &witness); /* as if the machine had stopped before the record was witnessed */
    if (fixture_try_open(f) != STET_OK) {
        assert_int_equal(f->e.code, STET_INTERNAL);
        assert_non_null(strstr(f->e.message, "restore"));
        assert_false(exists(f, "db.damaged-1"));
        b.bytes[b.size - 1] ^= 1;
        save(path, &b);
        fixture_open(f);
    }
    expect_rows(f, 0, rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_rocksdb_wrote_is_whole_and_any_change_ends_it_there,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_record_of_several_blocks_is_whole_with_its_last_piece,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_torn_record_behind_the_witnessed_ones_is_cut_in_a_copy,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_synced_record_that_was_damaged_loses_nothing, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
