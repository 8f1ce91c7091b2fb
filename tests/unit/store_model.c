/* Random operations against a plain sorted array, on both engines: gets, scans in both directions (also while
 * the batch changes under them), marks and rollbacks, commits left in flight, and in memory crashes. The seed
 * of a failure is printed; STET_TEST_SEED=N runs one seed. */
#include "tests/unit/store_fixture.h"

enum { KEYS = 240, KEY_MAX = 5, STEPS = 4000, MARKS_MAX = 4, ABSENT = 0 };

typedef struct view {
    uint32_t value[KEYS]; /* a number, written as text; ABSENT: no row */
} view;

typedef struct model {
    fixture *f;
    stet_prng prng;
    uint64_t seed;
    int step;
    struct {
        uint8_t bytes[KEY_MAX];
        size_t size;
    } keys[KEYS]; /* sorted */
    view now, durable, submitted;
    view marked[MARKS_MAX];
    uint64_t marks[MARKS_MAX];
    int marks_count;
    uint32_t next_value;
} model;

static uint64_t below(model *m, uint64_t bound) {
    return stet_prng_below(&m->prng, bound);
}

static stet_str key_at(const model *m, int i) {
    return stet_str_from(m->keys[i].bytes, m->keys[i].size);
}

static int compare(stet_str a, stet_str b) {
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static stet_str random_bytes(model *m, uint8_t *bytes, size_t least) {
    static const uint8_t letters[] = {0x40, 0x41, 0xff, 0xfe};
    size_t size = least + below(m, KEY_MAX + 1 - least);
    for (size_t i = 0; i < size; i++)
        bytes[i] = letters[below(m, i == 0 ? 3 : COUNT_OF(letters))];
    return stet_str_from(bytes, size);
}

static void make_keys(model *m) {
    int count = 0;
    while (count < KEYS) {
        uint8_t bytes[KEY_MAX];
        stet_str key = random_bytes(m, bytes, /* least= */ 1);
        int at = 0;
        while (at < count && compare(key_at(m, at), key) < 0)
            at++;
        if (at < count && compare(key_at(m, at), key) == 0)
            continue;
        memmove(&m->keys[at + 1], &m->keys[at], (size_t)(count - at) * sizeof m->keys[0]);
        memcpy(m->keys[at].bytes, bytes, sizeof bytes);
        m->keys[at].size = key.size;
        count++;
    }
}

static void fail_at(const model *m, const char *what) {
    print_error("%s: engine %s, seed %llu, step %d\n", what, m->f->memory ? "memory" : "rocksdb",
                (unsigned long long)m->seed, m->step);
    fail();
}

static void check_value(const model *m, uint32_t want, stet_str got) {
    char text[128];
    int size = snprintf(text, sizeof text, "%u-%060u", want, want);
    if (got.size != (size_t)size || memcmp(got.data, text, got.size) != 0)
        fail_at(m, "wrong value");
}

static void change(model *m, int i) {
    char text[128];
    if (below(m, 3) == 0) {
        stet_batch_delete(stet_store_batch(m->f->store), key_at(m, i));
        m->now.value[i] = ABSENT;
        return;
    }
    uint32_t value = ++m->next_value;
    int size = snprintf(text, sizeof text, "%u-%060u", value, value);
    bool insert = m->now.value[i] == ABSENT && below(m, 2);
    (insert ? stet_batch_insert : stet_batch_put)(stet_store_batch(m->f->store), key_at(m, i),
                                                  stet_str_from(text, (size_t)size));
    m->now.value[i] = value;
}

static void get(model *m) {
    int i = (int)below(m, KEYS);
    stet_str value;
    stet_code rc = stet_batch_get(stet_store_batch(m->f->store), key_at(m, i), &value, &m->f->e);
    if (rc != (m->now.value[i] == ABSENT ? STET_NOT_FOUND : STET_OK))
        fail_at(m, "get");
    if (rc == STET_OK)
        check_value(m, m->now.value[i], value);
}

/* The model's next key of the scan behind position `at`; KEYS or -1 at the end. */
static int next_of(const model *m, int at, stet_str prefix, stet_str from, bool reverse) {
    for (int i = reverse ? at - 1 : at + 1; i >= 0 && i < KEYS; i += reverse ? -1 : 1) {
        stet_str key = key_at(m, i);
        if (m->now.value[i] == ABSENT || key.size < prefix.size ||
            (prefix.size && memcmp(key.data, prefix.data, prefix.size) != 0))
            continue;
        if (from.size > 0 && (reverse ? compare(key, from) > 0 : compare(key, from) < 0))
            continue;
        return i;
    }
    return reverse ? -1 : KEYS;
}

static void scan(model *m) {
    uint8_t prefix_bytes[KEY_MAX], from_bytes[KEY_MAX];
    stet_str prefix = random_bytes(m, prefix_bytes, /* least= */ 1);
    if (below(m, 2))
        prefix.size = 1;
    stet_str from = below(m, 2) ? random_bytes(m, from_bytes, /* least= */ 1) : (stet_str){NULL, 0};
    bool reverse = below(m, 2), changing = below(m, 3) == 0;
    uint64_t rows_max = below(m, 4) ? UINT64_MAX : below(m, 10);
    CLEANUP(stet_scan_done)
    stet_scan *scan = stet_batch_scan(stet_store_batch(m->f->store), prefix, from, reverse);
    assert_non_null(scan);
    int at = reverse ? KEYS : -1;
    for (uint64_t rows = 0; rows < rows_max; rows++) {
        stet_str key, value;
        at = next_of(m, at, prefix, from, reverse);
        bool more = stet_scan_next(scan, &key, &value);
        if (more != (at >= 0 && at < KEYS))
            fail_at(m, more ? "scan too long" : "scan too short");
        if (!more)
            break;
        if (compare(key, key_at(m, at)) != 0)
            fail_at(m, "scan gave another key");
        check_value(m, m->now.value[at], value);
        while (changing && below(m, 2))
            change(m, below(m, 2) ? at : (int)below(m, KEYS));
    }
    CHECK_OK(m->f, stet_scan_status(scan, &m->f->e));
}

static void complete(model *m) {
    fixture_complete(m->f);
    m->durable = m->submitted;
}

static void commit(model *m) {
    if (stet_store_commit_in_flight(m->f->store))
        complete(m);
    if (stet_batch_count(stet_store_batch(m->f->store)) == 0)
        return;
    fixture_submit(m->f);
    m->submitted = m->now;
    m->marks_count = 0;
}

static void mark_or_roll_back(model *m) {
    stet_batch *batch = stet_store_batch(m->f->store);
    if (m->marks_count < MARKS_MAX && below(m, 2)) {
        m->marked[m->marks_count] = m->now;
        m->marks[m->marks_count++] = stet_batch_mark(batch);
    } else if (m->marks_count > 0) {
        m->marks_count = (int)below(m, (uint64_t)m->marks_count);
        stet_batch_rollback(batch, m->marks[m->marks_count]);
        m->now = m->marked[m->marks_count];
    }
}

static void crash_or_reopen(model *m) {
    if (m->f->memory) {
        stet_store_memory_crash(m->f->store);
        m->now = m->durable;
    } else if (below(m, 8) == 0) {
        bool in_flight = stet_store_commit_in_flight(m->f->store);
        fixture_close(m->f); /* waits for the commit in flight */
        fixture_open(m->f);
        m->now = in_flight ? m->submitted : m->durable;
        m->durable = m->now;
    } else {
        return;
    }
    m->marks_count = 0;
}

static void step(model *m) {
    uint64_t dice = below(m, 1000);
    if (dice < 550)
        change(m, (int)below(m, KEYS));
    else if (dice < 750)
        get(m);
    else if (dice < 850)
        scan(m);
    else if (dice < 930)
        mark_or_roll_back(m);
    else if (dice < 970)
        commit(m);
    else if (dice < 995 && stet_store_commit_in_flight(m->f->store))
        complete(m);
    else if (dice >= 995)
        crash_or_reopen(m);
    if (below(m, 4) == 0)
        stet_batch_release_reads(stet_store_batch(m->f->store));
}

static void random_operations_give_what_a_sorted_array_gives(void **state) {
    fixture *f = *state;
    const char *only = getenv("STET_TEST_SEED");
    uint64_t first = only ? strtoull(only, NULL, 10) : 1;
    uint64_t last = only ? first : f->memory ? 6 : 2;
    model *m = malloc(sizeof *m);
    assert_non_null(m);
    for (uint64_t seed = first; seed <= last; seed++) {
        *m = (model){.f = f, .prng = stet_prng_of(seed), .seed = seed};
        make_keys(m);
        for (m->step = 0; m->step < STEPS; m->step++)
            step(m);
        for (int i = 0; i < KEYS; i++) { /* empty for the next seed */
            stet_batch_delete(stet_store_batch(f->store), key_at(m, i));
        }
        if (stet_store_commit_in_flight(f->store))
            fixture_complete(f);
        fixture_commit(f);
    }
    free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"random_operations_give_what_a_sorted_array_gives (memory)",
         random_operations_give_what_a_sorted_array_gives, fixture_setup, fixture_teardown,
         (void *)(uintptr_t)1},
        {"random_operations_give_what_a_sorted_array_gives (rocksdb)",
         random_operations_give_what_a_sorted_array_gives, fixture_setup, fixture_teardown, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
