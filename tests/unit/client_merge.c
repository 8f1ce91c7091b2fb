#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/base/prng.h"
#include "proto/client/merge.h"

static void live_events_in_order_are_delivered_without_a_read_between(void **state) {
    (void)state;
    client_merge m = client_merge_of(/* after_seq= */ 4, /* boot_ms= */ 0);
    assert_true(client_merge_live(&m, 5, 0));
    assert_true(client_merge_live(&m, 6, 0));
    assert_false(client_merge_live(&m, 6, 0));
    assert_false(client_merge_live(&m, 3, 0));
}

static void a_gap_makes_a_read_due_at_once(void **state) {
    (void)state;
    client_merge m = client_merge_of(0, 0);
    uint64_t after = 99;
    assert_true(client_merge_read(&m, 0, &after));
    assert_int_equal(after, 0);
    client_merge_page_end(&m, false, false, 0, 0);
    assert_false(client_merge_read(&m, 1, &after));
    assert_false(client_merge_live(&m, 2, 1));
    assert_true(client_merge_read(&m, 1, &after));
    assert_int_equal(after, 0);
}

static void from_now_on_starts_behind_the_head(void **state) {
    (void)state;
    client_merge m = client_merge_of(UINT64_MAX, 0);
    uint64_t after = 0;
    assert_false(client_merge_live(&m, 8, 0));
    assert_true(client_merge_read(&m, 0, &after));
    assert_int_equal(after, INT64_MAX);
    client_merge_page_end(&m, false, false, 8, 0);
    assert_false(client_merge_live(&m, 8, 0));
    assert_true(client_merge_live(&m, 9, 0));
}

static void events_removed_by_retention_do_not_stop_the_reader(void **state) {
    (void)state;
    client_merge m = client_merge_of(0, 0);
    uint64_t after = 0;
    assert_true(client_merge_read(&m, 0, &after));
    assert_true(client_merge_page_event(&m, 7));
    client_merge_page_end(&m, true, false, 9, 0);
    assert_true(client_merge_live(&m, 10, 0));
}

static void numbers_that_no_event_can_have_change_nothing(void **state) {
    (void)state;
    client_merge m = client_merge_of(4, 0);
    uint64_t after = 0;
    assert_true(client_merge_read(&m, 0, &after));
    assert_false(client_merge_page_event(&m, UINT64_MAX));
    assert_false(client_merge_live(&m, UINT64_MAX, 0));
    client_merge_page_end(&m, false, false, UINT64_MAX, 0);
    assert_true(client_merge_live(&m, 5, 0)); /* and not from the beginning again */
    assert_false(client_merge_live(&m, 5, 0));
}

/* Goal: whatever is lost, repeated or late on the live stream, the reader gets 1..n once and in order.
 * Method: an actor that numbers events, a live stream that drops and repeats, reads that may fail. */
static void any_mix_of_losses_gives_every_number_once(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        stet_prng prng = stet_prng_of(seed);
        client_merge m = client_merge_of(0, 0);
        uint64_t head = 0, delivered = 0;
        for (int64_t now = 0; now < 100000; now += 50) {
            if (head < 300 && stet_prng_below(&prng, 2) == 0) {
                head++;
                uint64_t shown = stet_prng_below(&prng, 8) == 0 && head > 3 ? head - 3 : head;
                if (stet_prng_below(&prng, 3) != 0 && client_merge_live(&m, shown, now))
                    assert_int_equal(++delivered, shown);
            }
            if (stet_prng_below(&prng, 50) == 0)
                client_merge_reconnected(&m, now);
            uint64_t after = 0;
            if (!client_merge_read(&m, now, &after))
                continue;
            if (stet_prng_below(&prng, 4) == 0) {
                client_merge_page_failed(&m, now);
                continue;
            }
            uint64_t last = after + 7 < head ? after + 7 : head;
            bool any = false;
            for (uint64_t seq = after + 1; seq <= last; seq++)
                if (client_merge_page_event(&m, seq)) {
                    assert_int_equal(++delivered, seq);
                    any = true;
                }
            client_merge_page_end(&m, any, last < head, head, now);
        }
        assert_int_equal(head, 300);
        assert_int_equal(delivered, 300);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_events_in_order_are_delivered_without_a_read_between),
        cmocka_unit_test(a_gap_makes_a_read_due_at_once),
        cmocka_unit_test(from_now_on_starts_behind_the_head),
        cmocka_unit_test(events_removed_by_retention_do_not_stop_the_reader),
        cmocka_unit_test(numbers_that_no_event_can_have_change_nothing),
        cmocka_unit_test(any_mix_of_losses_gives_every_number_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
