/* Opening: whole, torn, damaged, lost, foreign and taken databases; and kill -9 while commits are made. */
#include "store/commit_record.h"
#include "store/witness.h"
#include "tests/unit/store_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { FILE_MAX = 1 << 20, WAL_BLOCK = 32768, WAL_HEADER = 7 };

typedef struct blob {
    uint8_t bytes[FILE_MAX];
    size_t size;
} blob;

static void path_in(const fixture *f, const char *name, char path[512]) {
    (void)snprintf(path, 512, "%s/%s", f->directory, name);
}

static bool exists(const fixture *f, const char *name) {
    char path[512];
    path_in(f, name, path);
    return access(path, F_OK) == 0;
}

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

/* The newest log with something in it. */
static void newest_wal(const fixture *f, char path[512]) {
    char db[512], best[256] = "";
    path_in(f, "db", db);
    DIR *entries = opendir(db);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        size_t size = strlen(entry->d_name);
        struct stat status;
        char file[1024];
        (void)snprintf(file, sizeof file, "%s/%s", db, entry->d_name);
        if (size > 4 && size < sizeof best && strcmp(entry->d_name + size - 4, ".log") == 0 &&
            stat(file, &status) == 0 && status.st_size > 0 && strcmp(entry->d_name, best) > 0)
            (void)snprintf(best, sizeof best, "%s", entry->d_name);
    }
    (void)closedir(entries);
    assert_true(best[0] != '\0');
    (void)snprintf(path, 512, "%.240s/%s", db, best);
}

/* Where record `index` begins; the last one when there are fewer. */
static size_t record_at(const blob *wal, size_t index) {
    size_t at = 0, found = 0;
    for (size_t n = 0; at + WAL_HEADER <= wal->size; n++) {
        size_t left = WAL_BLOCK - at % WAL_BLOCK;
        if (left < WAL_HEADER) {
            at += left;
            continue;
        }
        found = at;
        if (n == index)
            break;
        at += WAL_HEADER + (size_t)wal->bytes[at + 4] + ((size_t)wal->bytes[at + 5] << 8);
    }
    return found;
}

static void commit_rows(fixture *f, int first, int count) {
    for (int i = first; i < first + count; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "row %d", i);
        fixture_put(f, text, text);
        fixture_commit(f);
    }
}

static void expect_rows(fixture *f, int first, int count, bool there) {
    for (int i = first; i < first + count; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "row %d", i);
        fixture_expect(f, text, there ? text : NULL);
    }
}

static void expect_refused(fixture *f, const char *words) {
    for (int i = 0; i < 2; i++) { /* asking again does not help */
        CHECK_CODE(f, fixture_try_open(f), STET_INTERNAL);
        if (!strstr(f->e.message, words))
            print_error("message: %s\n", f->e.message);
        assert_non_null(strstr(f->e.message, words));
        assert_non_null(strstr(f->e.message, "restore"));
    }
}

/* Rows 0..9 are witnessed; row 10 is the only record of the newest log, and the witness does not know it. */
static void prepare_unwitnessed_tail(fixture *f, char wal[512]) {
    char witness[512];
    static blob b;
    commit_rows(f, 0, 10);
    fixture_close(f);
    path_in(f, "witness", witness);
    load(witness, &b);
    fixture_open(f);
    commit_rows(f, 10, 1);
    fixture_close(f);
    save(witness, &b);
    newest_wal(f, wal);
}

static void a_tail_cut_in_the_middle_of_a_record_is_dropped(void **state) {
    fixture *f = *state;
    char wal[512];
    static blob b;
    prepare_unwitnessed_tail(f, wal);
    load(wal, &b);
    b.size -= 9;
    save(wal, &b);
    fixture_open(f);
    expect_rows(f, 0, 10, true);
    expect_rows(f, 10, 1, false);
    assert_int_equal(stet_store_last_number(f->store), 11);
    commit_rows(f, 20, 1);
}

static void a_tail_with_a_header_and_no_payload_is_dropped_in_a_copy(void **state) {
    fixture *f = *state;
    char wal[512];
    static blob b;
    prepare_unwitnessed_tail(f, wal);
    load(wal, &b);
    size_t at = record_at(&b, SIZE_MAX);
    memset(b.bytes + at + WAL_HEADER, 0, b.size - at - WAL_HEADER);
    save(wal, &b);
    fixture_open(f);
    expect_rows(f, 0, 10, true);
    expect_rows(f, 10, 1, false);
    assert_true(exists(f, "db.damaged-1"));
    assert_false(exists(f, "db.copy"));
    assert_false(exists(f, "db.ready"));
    commit_rows(f, 20, 1);
    fixture_close(f);
    fixture_open(f);
    expect_rows(f, 20, 1, true);
}

/* A power cut within the first moments: the witness was made before the database, so nothing is refused. */
static void a_young_store_whose_log_is_torn_is_no_damage(void **state) {
    fixture *f = *state;
    const stet_witness_record none = {.state = STET_WITNESS_NONE};
    static blob b;
    char wal[512], path[512];
    commit_rows(f, 0, 1);
    fixture_close(f);
    path_in(f, "witness", path);
    assert_int_equal(unlink(path), 0);
    stet_witness *witness;
    CHECK_OK(f, stet_witness_open(f->directory, &none, &witness, &f->e));
    CHECK_OK(f, stet_witness_write(witness, 0, 0, &(stet_hash){{0}}, &f->e));
    stet_witness_close(witness);
    newest_wal(f, wal);
    load(wal, &b);
    memset(b.bytes + WAL_HEADER, 0, b.size - WAL_HEADER); /* not even the store's first commit is whole */
    save(wal, &b);
    fixture_open(f);
    expect_rows(f, 0, 1, false);
    commit_rows(f, 20, 1);
    fixture_close(f);
    fixture_open(f);
    expect_rows(f, 20, 1, true);
}

static void a_store_that_died_before_its_database_is_new(void **state) {
    fixture *f = *state;
    char path[512];
    static blob b;
    fixture_close(f);
    fixture_remove_directory(f);
    assert_int_equal(mkdir(f->directory, 0700), 0);
    const stet_witness_record none = {.state = STET_WITNESS_NONE};
    stet_witness *witness;
    CHECK_OK(f, stet_witness_open(f->directory, &none, &witness, &f->e));
    CHECK_OK(f, stet_witness_write(witness, 0, 0, &(stet_hash){{0}}, &f->e));
    stet_witness_close(witness);
    fixture_open(f);
    fixture_close(f);
    fixture_remove_directory(f);
    assert_int_equal(mkdir(f->directory, 0700), 0);
    CHECK_OK(f, stet_witness_open(f->directory, &none, &witness, &f->e));
    CHECK_OK(f, stet_witness_write(witness, 0, 0, &(stet_hash){{0}}, &f->e));
    stet_witness_close(witness);
    path_in(f, "witness", path);
    load(path, &b);
    memset(b.bytes + 4096 + 112, 0, 32); /* the first write was torn inside its sector */
    save(path, &b);
    stet_witness_record record;
    CHECK_OK(f, stet_witness_read(f->directory, &record, &f->e));
    assert_int_equal(record.state, STET_WITNESS_NONE);
    fixture_open(f);
    commit_rows(f, 0, 1);
    expect_rows(f, 0, 1, true);
}

static void the_same_tail_is_missed_when_it_was_witnessed(void **state) {
    fixture *f = *state;
    char wal[512];
    static blob b;
    commit_rows(f, 0, 10);
    fixture_close(f);
    newest_wal(f, wal);
    load(wal, &b);
    size_t at = record_at(&b, SIZE_MAX);
    memset(b.bytes + at + WAL_HEADER, 0, b.size - at - WAL_HEADER);
    save(wal, &b);
    expect_refused(f, "ends at commit 10, but 11 was acknowledged");
    b.size = at; /* cut between two records: no recovery mode notices that */
    save(wal, &b);
    expect_refused(f, "ends at commit 10, but 11 was acknowledged");
}

static void a_flipped_bit_in_the_middle_of_the_log_refuses_and_keeps_the_files(void **state) {
    fixture *f = *state;
    char wal[512], witness[512];
    static blob b, after;
    commit_rows(f, 0, 20);
    fixture_close(f);
    newest_wal(f, wal);
    load(wal, &b);
    b.bytes[record_at(&b, 10) + WAL_HEADER + 20] ^= 0x10;
    save(wal, &b);
    expect_refused(f, "ends at commit 10, but 21 was acknowledged");
    load(wal, &after);
    assert_int_equal(after.size, b.size);
    assert_memory_equal(after.bytes, b.bytes, b.size);
    assert_false(exists(f, "db.copy"));
    assert_false(exists(f, "db.damaged-1"));
    path_in(f, "witness", witness);
    assert_int_equal(unlink(witness), 0);
    expect_refused(f, "has no witness");
}

static void a_log_that_was_deleted_or_emptied_is_missed(void **state) {
    fixture *f = *state;
    char wal[512];
    commit_rows(f, 0, 5);
    fixture_close(f);
    newest_wal(f, wal);
    assert_int_equal(truncate(wal, 0), 0);
    expect_refused(f, "but 6 was acknowledged");
    fixture_remove_directory(f);
    assert_int_equal(mkdir(f->directory, 0700), 0);
    fixture_open(f);
    commit_rows(f, 0, 5);
    fixture_close(f);
    newest_wal(f, wal);
    assert_int_equal(unlink(wal), 0);
    expect_refused(f, "but 6 was acknowledged");
}

static void change_witness(fixture *f, int64_t more, uint8_t hash_change) {
    stet_witness_record record;
    stet_witness *witness;
    CHECK_OK(f, stet_witness_read(f->directory, &record, &f->e));
    CHECK_OK(f, stet_witness_open(f->directory, &record, &witness, &f->e));
    record.hash.bytes[3] ^= hash_change;
    CHECK_OK(f,
             stet_witness_write(witness, record.epoch, record.number + (uint64_t)more, &record.hash, &f->e));
    stet_witness_close(witness);
}

/* RocksDB opens it as the list of an earlier time, and deletes the tables that are not on it. */
static void a_manifest_that_lost_its_end_is_refused(void **state) {
    fixture *f = *state;
    char current[512], name[64] = "", path[600];
    static blob b;
    commit_rows(f, 0, 3);
    fixture_close(f);
    path_in(f, "db/CURRENT", current);
    load(current, &b);
    memcpy(name, b.bytes, b.size - 1);
    (void)snprintf(path, sizeof path, "%s/db/%s", f->directory, name);
    load(path, &b);
    b.size -= 1;
    save(path, &b);
    expect_refused(f, "MANIFEST");
    b.size += 1;
    save(path, &b);
    fixture_open(f);
    expect_rows(f, 0, 3, true);
}

static void a_witness_ahead_or_of_another_history_refuses(void **state) {
    fixture *f = *state;
    commit_rows(f, 0, 3);
    fixture_close(f);
    change_witness(f, /* more= */ 0, /* hash_change= */ 1);
    expect_refused(f, "commit 4 is not the one");
    change_witness(f, /* more= */ 5, /* hash_change= */ 1);
    expect_refused(f, "ends at commit 4, but 9 was acknowledged");
}

static void a_missing_witness_is_accepted_and_a_damaged_one_is_not(void **state) {
    fixture *f = *state;
    char witness[512];
    static blob b;
    commit_rows(f, 0, 3);
    fixture_close(f);
    path_in(f, "witness", witness);
    load(witness, &b);
    for (size_t i = 64; i < b.size; i += 4096)
        b.bytes[i] ^= 1;
    save(witness, &b);
    expect_refused(f, "its witness is damaged");
    assert_int_equal(unlink(witness), 0);
    fixture_open(f);
    expect_rows(f, 0, 3, true);
}

static void a_lost_database_is_not_taken_for_a_new_one(void **state) {
    fixture *f = *state;
    char current[512], db[512], away[512], witness[512];
    commit_rows(f, 0, 3);
    fixture_close(f);
    path_in(f, "db", db);
    path_in(f, "away", away);
    path_in(f, "db/CURRENT", current);
    path_in(f, "witness", witness);
    assert_int_equal(rename(db, away), 0);
    expect_refused(f, "its witness knows commit 4");
    assert_int_equal(rename(away, db), 0);
    assert_int_equal(unlink(current), 0);
    expect_refused(f, "its witness knows commit 4");
    assert_int_equal(unlink(witness), 0);
    expect_refused(f, "CURRENT is missing");
}

static void an_interrupted_recovery_is_taken_up_again(void **state) {
    fixture *f = *state;
    char db[512], ready[512], copy[512], junk[512];
    commit_rows(f, 0, 3);
    fixture_close(f);
    path_in(f, "db", db);
    path_in(f, "db.ready", ready);
    path_in(f, "db.copy", copy);
    path_in(f, "db.copy/CURRENT", junk);
    assert_int_equal(mkdir(copy, 0700), 0); /* cut while copying */
    save(junk, &(blob){.size = 0});
    assert_int_equal(mkdir(ready, 0700), 0); /* cut before or after the exchange */
    fixture_open(f);
    expect_rows(f, 0, 3, true);
    assert_false(exists(f, "db.copy"));
    assert_false(exists(f, "db.ready"));
    assert_true(exists(f, "db.damaged-1"));
    fixture_close(f);
    assert_int_equal(rename(db, ready), 0); /* cut where names cannot be exchanged */
    fixture_open(f);
    expect_rows(f, 0, 3, true);
}

static void an_unknown_format_is_refused_with_both_versions(void **state) {
    fixture *f = *state;
    stet_batch_put(stet_store_batch(f->store), stet_store_key_format, STET_STR("\x63")); /* MessagePack 99 */
    fixture_commit(f);
    fixture_close(f);
    CHECK_CODE(f, fixture_try_open(f), STET_INVALID);
    assert_non_null(strstr(f->e.message, "format 99"));
    assert_non_null(strstr(f->e.message, "knows 1"));
}

static void another_partition_is_refused(void **state) {
    fixture *f = *state;
    fixture_close(f);
    stet_store_options options = fixture_options(f);
    options.partition = 3;
    CHECK_CODE(f, stet_store_open(&options, &f->store, &f->e), STET_INVALID);
}

static void an_epoch_that_the_head_does_not_share_is_refused(void **state) {
    fixture *f = *state;
    stet_batch_put(stet_store_batch(f->store), stet_store_key_epoch, STET_STR("\x07"));
    fixture_commit(f);
    fixture_close(f);
    expect_refused(f, "epoch 7");
}

static void reading_beside_the_writer_works_and_writes_nothing(void **state) {
    fixture *f = *state;
    commit_rows(f, 0, 5);
    fixture reader = *f;
    stet_store_options options = fixture_options(f);
    options.read_only = true;
    CHECK_OK(&reader, stet_store_open(&options, &reader.store, &reader.e));
    expect_rows(&reader, 0, 5, true);
    assert_int_equal(stet_store_last_number(reader.store), 6);
    uint64_t ticket;
    fixture_put(&reader, "x", "x");
    CHECK_CODE(&reader, stet_batch_commit(stet_store_batch(reader.store), 0, &ticket, &reader.e),
               STET_FORBIDDEN);
    assert_false(stet_store_writable(reader.store, 1000));
    commit_rows(f, 5, 1);
    fixture_close(&reader);
    expect_rows(f, 0, 6, true);
}

static void reading_where_nothing_is_makes_nothing(void **state) {
    (void)state;
    fixture f = {.memory = false};
    fixture_make_directory(&f);
    stet_store_options options = fixture_options(&f);
    options.read_only = true;
    CHECK_CODE(&f, stet_store_open(&options, &f.store, &f.e), STET_NOT_FOUND);
    assert_int_equal(rmdir(f.directory), 0);
}

static void a_checkpoint_opens_with_the_same_rows(void **state) {
    fixture *f = *state;
    fixture copy = {.memory = false};
    commit_rows(f, 0, 20);
    fixture_put(f, "later", "x");
    fixture_submit(f); /* in flight: may be in it or not */
    (void)snprintf(copy.directory, sizeof copy.directory, "%.200s/checkpoint", f->directory);
    CHECK_OK(f, stet_store_checkpoint(f->store, copy.directory, &f->e));
    CHECK_CODE(f, stet_store_checkpoint(f->store, copy.directory, &f->e), STET_CONFLICT);
    fixture_complete(f);
    commit_rows(f, 20, 1);
    fixture_open(&copy);
    expect_rows(&copy, 0, 20, true);
    expect_rows(&copy, 20, 1, false);
    assert_true(stet_store_last_number(copy.store) == 21 || stet_store_last_number(copy.store) == 22);
    commit_rows(&copy, 30, 1);
    fixture_close(&copy);
    expect_rows(f, 30, 1, false);
}

static void the_last_commit_is_witnessed_without_another_one(void **state) {
    fixture *f = *state;
    commit_rows(f, 0, 3);
    for (int ms = 0; ms < 20000; ms++) { /* waits for the condition, not for a time */
        stet_witness_record record;
        CHECK_OK(f, stet_witness_read(f->directory, &record, &f->e));
        if (record.state == STET_WITNESS_KNOWN && record.number == 4)
            return;
        (void)poll(NULL, 0, 1);
    }
    fail_msg("not witnessed");
}

static void the_info_log_is_not_beside_the_data(void **state) {
    fixture *f = *state;
    if (access("/dev/shm", W_OK) != 0)
        skip();
    assert_false(exists(f, "db/LOG"));
}

/* ---- other processes: this program again, since a fork has neither the threads nor the locks ---- */

static pid_t run_self(const char *mode, const char *directory, int fd) {
    char number[16];
    (void)snprintf(number, sizeof number, "%d", fd);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execl("/proc/self/exe", "unit_store_recovery", mode, directory, number, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static int child_open(const char *directory) {
    stet_store_options options = {.directory = directory, .memory_bytes = 8 << 20};
    stet_store *store = NULL;
    stet_error e;
    int rc = (int)stet_store_open(&options, &store, &e);
    stet_store_close(store);
    return rc;
}

/* Commits row N in commit N+?: numbers go down the pipe when they are acknowledged. Ends by being killed. */
static int child_commit(const char *directory, int fd) {
    fixture f = {.memory = false};
    (void)snprintf(f.directory, sizeof f.directory, "%s", directory);
    if (fixture_try_open(&f) != STET_OK)
        return 1;
    for (;;) {
        uint64_t number = stet_store_last_number(f.store) + 1, ticket;
        char text[32];
        (void)snprintf(text, sizeof text, "row %d", (int)number);
        fixture_put(&f, text, text);
        if (stet_batch_commit(stet_store_batch(f.store), FIXTURE_WALL_MS, &ticket, &f.e) != STET_OK)
            return 2;
        struct pollfd wait = {.fd = stet_store_completion_fd(f.store), .events = POLLIN};
        stet_completion done;
        if (poll(&wait, 1, -1) != 1 || !stet_store_next_completion(f.store, &done) ||
            done.result != STET_COMMIT_OK || done.number != number)
            return 3;
        if (write(fd, &number, sizeof number) != (ssize_t)sizeof number)
            return 4;
    }
}

static void a_second_process_is_refused_until_the_first_is_gone(void **state) {
    fixture *f = *state;
    int status;
    pid_t pid = run_self("open", f->directory, -1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STET_CONFLICT);
    fixture_close(f);
    pid = run_self("open", f->directory, -1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), STET_OK);
}

static void what_was_acknowledged_survives_kill_9(void **state) {
    fixture *f = *state;
    stet_prng prng = stet_prng_of(3);
    uint64_t first = stet_store_last_number(f->store) + 1, acked = 0;
    for (int round = 0; round < 6; round++) {
        fixture_close(f);
        int pipes[2], status;
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = run_self("commit", f->directory, pipes[1]);
        assert_int_equal(close(pipes[1]), 0);
        uint64_t number, wanted = 1 + stet_prng_below(&prng, 200);
        for (uint64_t seen = 0; read(pipes[0], &number, sizeof number) == (ssize_t)sizeof number; seen++) {
            acked = number;
            if (seen == wanted)
                (void)kill(pid, SIGKILL); /* and then read on: what is in the pipe was acknowledged too */
        }
        assert_int_equal(close(pipes[0]), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        fixture_open(f);
        assert_true(stet_store_last_number(f->store) >= acked);
        expect_rows(f, (int)first, (int)(acked - first) + 1, true);
        stet_batch_release_reads(stet_store_batch(f->store));
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "open") == 0)
        return child_open(argv[2]);
    if (argc == 4 && strcmp(argv[1], "commit") == 0)
        return child_commit(argv[2], (int)strtol(argv[3], NULL, 10));
    const struct CMUnitTest tests[] = {
        TEST(a_tail_cut_in_the_middle_of_a_record_is_dropped),
        TEST(a_tail_with_a_header_and_no_payload_is_dropped_in_a_copy),
        TEST(a_young_store_whose_log_is_torn_is_no_damage),
        TEST(a_store_that_died_before_its_database_is_new),
        TEST(the_same_tail_is_missed_when_it_was_witnessed),
        TEST(a_flipped_bit_in_the_middle_of_the_log_refuses_and_keeps_the_files),
        TEST(a_log_that_was_deleted_or_emptied_is_missed),
        TEST(a_manifest_that_lost_its_end_is_refused),
        TEST(a_witness_ahead_or_of_another_history_refuses),
        TEST(a_missing_witness_is_accepted_and_a_damaged_one_is_not),
        TEST(a_lost_database_is_not_taken_for_a_new_one),
        TEST(an_interrupted_recovery_is_taken_up_again),
        TEST(an_unknown_format_is_refused_with_both_versions),
        TEST(another_partition_is_refused),
        TEST(an_epoch_that_the_head_does_not_share_is_refused),
        TEST(reading_beside_the_writer_works_and_writes_nothing),
        cmocka_unit_test(reading_where_nothing_is_makes_nothing),
        TEST(a_checkpoint_opens_with_the_same_rows),
        TEST(the_last_commit_is_witnessed_without_another_one),
        TEST(the_info_log_is_not_beside_the_data),
        TEST(a_second_process_is_refused_until_the_first_is_gone),
        TEST(what_was_acknowledged_survives_kill_9),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
