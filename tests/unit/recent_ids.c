/* recent_ids: "new" is never said of an id that was added or that the store may have. */
#include "actors/runtime/recent_ids.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

enum { CLIENTS = 5, FIRST_MS = 1700000000 };

static stet_id id_at(uint64_t n) {
    stet_id id = {{0}};
    for (int i = 0; i < 8; i++)
        id.bytes[i] = (uint8_t)(n >> (56 - 8 * i));
    return id;
}

static recent_ids *begun(stet_id largest_stored) {
    recent_ids *recent = malloc(sizeof(*recent));
    assert_non_null(recent);
    stet_recent_ids_begin(recent, largest_stored);
    return recent;
}

static void what_was_added_is_never_new_again(void **state) {
    (void)state;
    enum { COUNT = 5 * RECENT_IDS_GENERATION + 7 };
    recent_ids *recent = begun(id_at(0));
    stet_id_source clients[CLIENTS];
    stet_id *ids = calloc(COUNT, sizeof(*ids));
    assert_non_null(ids);
    stet_prng prng = stet_prng_of(7);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = stet_id_source_of((uint64_t)i + 1);
    for (int i = 0; i < COUNT; i++) { /* their clocks differ, and they take turns at random */
        uint64_t client = stet_prng_below(&prng, CLIENTS);
        ids[i] = stet_id_next(&clients[client], FIRST_MS + i / 100 + (int64_t)client * 20);
        stet_recent_ids_add(recent, ids[i]);
    }
    for (int i = 0; i < COUNT; i++)
        assert_false(stet_recent_ids_is_new(recent, ids[i]));
    free(ids);
    free(recent);
}

static void what_the_store_may_have_is_not_new(void **state) {
    (void)state;
    recent_ids *recent = begun(id_at(1000));
    assert_false(stet_recent_ids_is_new(recent, id_at(1000)));
    assert_false(stet_recent_ids_is_new(recent, id_at(1)));
    assert_true(stet_recent_ids_is_new(recent, id_at(1001)));
    free(recent);
}

static void most_growing_ids_are_known_to_be_new(void **state) {
    (void)state;
    enum { COUNT = 3 * RECENT_IDS_GENERATION };
    recent_ids *recent = begun(id_at(0));
    int looked_up = 0;
    for (uint64_t n = 1; n <= COUNT; n++) {
        looked_up += !stet_recent_ids_is_new(recent, id_at(n));
        stet_recent_ids_add(recent, id_at(n));
    }
    assert_true(looked_up < COUNT / 20);
    free(recent);
}

static void an_id_from_the_future_costs_looks_and_nothing_else(void **state) {
    (void)state;
    recent_ids *recent = begun(id_at(0));
    stet_recent_ids_add(recent, id_at(UINT64_MAX));
    assert_true(stet_recent_ids_is_new(recent, id_at(5)));
    for (uint64_t n = 10; n < 10 + 2 * RECENT_IDS_GENERATION; n++)
        stet_recent_ids_add(recent, id_at(n));
    assert_false(stet_recent_ids_is_new(recent, id_at(UINT64_C(1) << 40))); /* now it is the floor */
    free(recent);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_never_new_again),
        cmocka_unit_test(what_the_store_may_have_is_not_new),
        cmocka_unit_test(most_growing_ids_are_known_to_be_new),
        cmocka_unit_test(an_id_from_the_future_costs_looks_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
