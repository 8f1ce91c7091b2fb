/* store_fixture - a store in memory or in a directory of its own, for the tests of the store. */
#ifndef STET_TEST_STORE_FIXTURE_H
#define STET_TEST_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/prng.h"
#include "store/store.h"

typedef struct fixture {
    bool memory;
    char directory[256];
    stet_store *store;
    stet_error e;
} fixture;

#define FIXTURE_WALL_MS INT64_C(1700000000000)

static inline void fixture_check(const stet_error *e, stet_code got, stet_code want, int line) {
    if (got != want)
        print_error("line %d: got %s (%s), want %s\n", line, stet_code_name(got), got ? e->message : "",
                    stet_code_name(want));
    assert_int_equal(got, want);
}
#define CHECK_CODE(f, call, want) fixture_check(&(f)->e, (call), (want), __LINE__)
#define CHECK_OK(f, call) CHECK_CODE(f, call, STET_OK)

static inline stet_store_options fixture_options(const fixture *f) {
    return (stet_store_options){.directory = f->directory, .memory_bytes = 8 << 20};
}

static inline stet_code fixture_try_open(fixture *f) {
    stet_store_options options = fixture_options(f);
    return stet_store_open(&options, &f->store, &f->e);
}

static inline void fixture_open(fixture *f) {
    CHECK_OK(f, f->memory ? stet_store_open_memory(0, &f->store, &f->e) : fixture_try_open(f));
}

static inline void fixture_close(fixture *f) {
    f->store = stet_store_close(f->store);
}

static inline void fixture_make_directory(fixture *f) {
    const char *base = getenv("TMPDIR");
    (void)snprintf(f->directory, sizeof f->directory, "%s/stet-store-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(f->directory));
}

static inline int fixture_remove_entry(const char *path, const struct stat *status, int type,
                                       struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline void fixture_remove_directory(const fixture *f) {
    assert_int_equal(nftw(f->directory, fixture_remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* *state says which engine: NULL is RocksDB, anything else memory. */
static inline int fixture_setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->memory = *state != NULL;
    if (!f->memory)
        fixture_make_directory(f);
    fixture_open(f);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state) {
    fixture *f = *state;
    fixture_close(f);
    if (!f->memory)
        fixture_remove_directory(f);
    free(f);
    return 0;
}

static inline stet_completion fixture_complete(fixture *f) {
    stet_completion done;
    struct pollfd wait = {.fd = stet_store_completion_fd(f->store), .events = POLLIN};
    assert_true(stet_store_commit_in_flight(f->store));
    if (wait.fd >= 0)
        assert_int_equal(poll(&wait, 1, 30000), 1);
    assert_true(stet_store_next_completion(f->store, &done));
    assert_int_equal(done.result, STET_COMMIT_OK);
    assert_false(stet_store_commit_in_flight(f->store));
    return done;
}

static inline uint64_t fixture_submit(fixture *f) {
    uint64_t ticket = 0;
    CHECK_OK(f, stet_batch_commit(stet_store_batch(f->store), FIXTURE_WALL_MS, &ticket, &f->e));
    return ticket;
}

static inline stet_completion fixture_commit(fixture *f) {
    uint64_t ticket = fixture_submit(f);
    stet_completion done = fixture_complete(f);
    assert_int_equal(done.ticket, ticket);
    return done;
}

static inline stet_str fixture_key(stet_key *key, const char *text) {
    *key = stet_key_of(STET_TABLE_ACTOR_FIRST);
    stet_key_str(key, stet_str_of(text));
    return stet_key_bytes(key);
}

static inline void fixture_put(fixture *f, const char *key, const char *value) {
    stet_key k;
    stet_batch_put(stet_store_batch(f->store), fixture_key(&k, key), stet_str_of(value));
}

static inline void fixture_delete(fixture *f, const char *key) {
    stet_key k;
    stet_batch_delete(stet_store_batch(f->store), fixture_key(&k, key));
}

/* value NULL: the row must not be there. */
static inline void fixture_expect(fixture *f, const char *key, const char *value) {
    stet_key k;
    stet_str got = {NULL, 0};
    stet_code rc = stet_batch_get(stet_store_batch(f->store), fixture_key(&k, key), &got, &f->e);
    if (rc != (value ? STET_OK : STET_NOT_FOUND))
        print_error("key %s: %s\n", key, stet_code_name(rc));
    assert_int_equal(rc, value ? STET_OK : STET_NOT_FOUND);
    if (value) {
        assert_int_equal(got.size, strlen(value));
        assert_memory_equal(got.data, value, got.size);
    }
}

#endif
