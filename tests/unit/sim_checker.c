/* The checker of the simulation: a good history passes, and for each invariant a history made by hand is rejected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sim/checker.h"

#define ADD(kind_, ...) history_add(h, (history_record){.kind = HISTORY_##kind_, __VA_ARGS__})

static stet_id id_of(uint8_t number) {
    return (stet_id){{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, [15] = number}};
}

/* A request that was answered and is there in all its parts, a reader, a channel, a job and its call. */
static void good(history *h) {
    uint32_t key = history_name_of(h, "key"), session = history_name_of(h, "session");
    uint32_t channel = history_name_of(h, "channel"), project = history_name_of(h, "project");
    ADD(INVOKE, .id = id_of(1), .stream = key, .hash = 7);
    ADD(OK, .id = id_of(1), .stream = key, .hash = 7, .answer = 9, .number = 1);
    for (uint32_t part = 0; part < FACETS_COUNT; part++)
        ADD(FACET, .id = id_of(1), .code = part, .number = 1);
    ADD(WROTE, .stream = key, .number = 1);
    ADD(WROTE, .stream = key, .number = 1, .answer = 1);
    ADD(READ, .stream = key, .number = 1);
    for (uint64_t n = 1; n <= 3; n++) {
        ADD(PUBLISHED, .stream = session, .number = n, .hash = 100 + n);
        ADD(EVENT, .stream = session, .number = n, .hash = 100 + n);
        ADD(SENT, .stream = channel, .number = n, .id = id_of((uint8_t)(10 + n)), .hash = n);
        ADD(TAKEN, .stream = channel, .number = n, .id = id_of((uint8_t)(10 + n)));
        ADD(ACKED, .stream = channel, .number = n);
        ADD(COMMIT, .stream = channel, .number = n);
    }
    ADD(STORED, .stream = session, .number = 1, .hash = 101, .id = id_of(50), .code = CHECKER_QUEUED);
    ADD(STORED, .stream = session, .number = 2, .hash = 102, .id = id_of(50), .code = CHECKER_ACTIVE);
    ADD(STORED, .stream = session, .number = 3, .hash = 103, .id = id_of(50), .code = CHECKER_JOB_DONE);
    ADD(HEAD, .stream = session, .number = 3);
    ADD(EFFECT, .id = id_of(50), .stream = project, .number = UINT64_C(1) << 32 | 1);
    ADD(EFFECT_END, .id = id_of(50), .stream = project, .number = UINT64_C(1) << 32 | 1);
    ADD(KNOWN, .id = id_of(50), .number = 1, .answer = 1);
    ADD(OPENED, .stream = channel, .number = 3);
    ADD(OWNER, .stream = project, .number = 1);
    ADD(SERVED, .stream = project, .number = 1);
    ADD(OWNER, .stream = project, .number = 2);
    ADD(SERVED, .stream = project, .number = 2);
    ADD(SUM, .number = 5, .answer = 5);
    ADD(BASE, .number = 5, .answer = 5);
    ADD(PENDING, .number = 0);
    h->whole = true;
}

typedef void spoil_fn(history *h);

static void rejects(spoil_fn *spoil, const char *invariant) {
    char text[CHECKER_TEXT_SIZE];
    history h = {.records = NULL};
    good(&h);
    spoil(&h);
    if (checker_run(&h, text))
        fail_msg("%s was not found", invariant);
    if (strncmp(text, invariant, strlen(invariant)) != 0 || text[strlen(invariant)] != ':')
        fail_msg("%s was found as \"%s\"", invariant, text);
    history_done(&h);
}

static void a_good_history_passes(void **state) {
    char text[CHECKER_TEXT_SIZE];
    history h = {.records = NULL};
    (void)state;
    good(&h);
    if (!checker_run(&h, text))
        fail_msg("%s", text);
    history_done(&h);
}

static void answered_and_gone(history *h) {
    ADD(INVOKE, .id = id_of(2), .hash = 7);
    ADD(OK, .id = id_of(2), .hash = 7, .answer = 1, .number = 2);
    ADD(FACET, .id = id_of(2), .code = FACET_STATE, .number = 0);
}

static void applied_twice(history *h) {
    ADD(INVOKE, .id = id_of(2), .hash = 7);
    ADD(OK, .id = id_of(2), .hash = 7, .number = 2);
    ADD(FACET, .id = id_of(2), .code = FACET_STATE, .number = 1);
    ADD(FACET, .id = id_of(2), .code = FACET_STATE, .number = 1);
}

static void another_answer(history *h) {
    ADD(OK, .id = id_of(1), .hash = 7, .answer = 10, .code = 1);
}

static void another_request_answered(history *h) {
    ADD(OK, .id = id_of(1), .hash = 8, .answer = 9, .code = 1);
}

static void refused_after_an_answer(history *h) {
    ADD(REFUSED, .id = id_of(1), .hash = 7, .number = 1);
}

static void applied_out_of_order(history *h) {
    uint32_t channel = history_name_of(h, "other channel");
    for (uint64_t n = 1; n <= 2; n++) {
        ADD(SENT, .stream = channel, .number = n, .id = id_of((uint8_t)(20 + n)));
        ADD(TAKEN, .stream = channel, .number = n, .id = id_of((uint8_t)(23 - n)));
    }
}

static void a_gap_in_a_channel(history *h) {
    uint32_t channel = history_name_of(h, "other channel");
    ADD(SENT, .stream = channel, .number = 2, .id = id_of(22));
    ADD(TAKEN, .stream = channel, .number = 2, .id = id_of(22));
}

static void a_number_of_a_channel_given_twice(history *h) {
    ADD(SENT, .stream = history_name_of(h, "channel"), .number = 3, .id = id_of(99), .hash = 3);
}

static void a_read_of_old(history *h) {
    ADD(READ, .stream = history_name_of(h, "key"), .number = 0);
}

static void a_read_of_what_never_was(history *h) {
    ADD(READ, .stream = history_name_of(h, "key"), .number = 2);
}

/* Number 2 was given up without an answer, then 3 was answered: 2 may come after it. */
static uint32_t a_write_adrift(history *h) {
    uint32_t key = history_name_of(h, "key");
    ADD(WROTE, .id = id_of(72), .stream = key, .number = 2);
    ADD(UNKNOWN, .id = id_of(72), .stream = key);
    ADD(WROTE, .id = id_of(73), .stream = key, .number = 3);
    ADD(WROTE, .id = id_of(73), .stream = key, .number = 3, .answer = 1);
    return key;
}

static void a_write_adrift_that_hides_nothing_older(history *h) {
    ADD(READ, .stream = a_write_adrift(h), .number = 1);
}

static void a_write_that_comes_back_after_one_that_was_adrift(history *h) {
    uint32_t key = a_write_adrift(h);
    ADD(READ, .stream = key, .number = 2);
    ADD(READ, .stream = key, .number = 3);
}

static void a_write_adrift_that_comes_twice(history *h) {
    uint32_t key = a_write_adrift(h);
    ADD(READ, .stream = key, .number = 2);
    ADD(WROTE, .id = id_of(74), .stream = key, .number = 4);
    ADD(WROTE, .id = id_of(74), .stream = key, .number = 4, .answer = 1);
    ADD(READ, .stream = key, .number = 2);
}

static void a_write_that_is_not_adrift_any_more(history *h) {
    uint32_t key = a_write_adrift(h);
    ADD(REFUSED, .id = id_of(72), .stream = key, .number = 1);
    ADD(READ, .stream = key, .number = 2);
}

static void a_counter_that_goes_back(history *h) {
    uint32_t key = history_name_of(h, "key");
    ADD(INVOKE, .id = id_of(3), .stream = key, .hash = 7);
    ADD(OK, .id = id_of(3), .stream = key, .hash = 7, .number = 1);
}

static void two_calls_at_a_time(history *h) {
    uint32_t project = history_name_of(h, "project");
    ADD(EFFECT, .id = id_of(60), .stream = project, .number = UINT64_C(1) << 32 | 1);
    ADD(EFFECT, .id = id_of(61), .stream = project, .number = UINT64_C(1) << 32 | 1);
}

static void a_reader_that_missed_one(history *h) {
    uint32_t session = history_name_of(h, "session");
    ADD(EVENT, .who = 1, .stream = session, .number = 1, .hash = 101);
    ADD(EVENT, .who = 1, .stream = session, .number = 3, .hash = 103);
}

static void a_reader_that_did_not_finish(history *h) {
    ADD(EVENT, .who = 1, .stream = history_name_of(h, "session"), .number = 1, .hash = 101);
}

static void a_number_with_two_contents(history *h) {
    ADD(PUBLISHED, .stream = history_name_of(h, "session"), .number = 2, .hash = 999);
}

static void an_event_that_is_not_stored(history *h) {
    ADD(PUBLISHED, .stream = history_name_of(h, "session"), .number = 4, .hash = 104);
}

static void refused_and_there(history *h) {
    ADD(INVOKE, .id = id_of(2), .hash = 7);
    ADD(REFUSED, .id = id_of(2), .hash = 7, .number = 1);
    ADD(FACET, .id = id_of(2), .code = FACET_STATE, .number = 1);
}

static void never_told(history *h) {
    ADD(INVOKE, .id = id_of(2), .hash = 7);
    ADD(UNKNOWN, .id = id_of(2), .hash = 7);
}

static void half_a_message(history *h) {
    ADD(INVOKE, .id = id_of(2), .hash = 7);
    ADD(UNKNOWN, .id = id_of(2), .hash = 7);
    ADD(FACET, .id = id_of(2), .code = FACET_STATE, .number = 1);
    ADD(FACET, .id = id_of(2), .code = FACET_SEND, .number = 0);
}

static void one_try_twice(history *h) {
    uint32_t project = history_name_of(h, "project");
    ADD(EFFECT, .id = id_of(50), .stream = project, .number = UINT64_C(1) << 32 | 1);
    ADD(EFFECT_END, .id = id_of(50), .stream = project, .number = UINT64_C(1) << 32 | 1);
}

static void a_call_nobody_knows_of(history *h) {
    uint32_t project = history_name_of(h, "project");
    ADD(EFFECT, .id = id_of(50), .stream = project, .number = UINT64_C(2) << 32 | 1);
    ADD(EFFECT_END, .id = id_of(50), .stream = project, .number = UINT64_C(2) << 32 | 1);
}

static void a_wrong_sum(history *h) {
    ADD(SUM, .number = 4, .answer = 5);
}

static void something_waits(history *h) {
    ADD(PENDING, .number = 1);
}

static void a_commit_number_again(history *h) {
    ADD(COMMIT, .stream = history_name_of(h, "channel"), .number = 3);
}

static void served_without_its_end(history *h) {
    ADD(OPENED, .stream = history_name_of(h, "channel"), .number = 2);
}

static void the_owner_again_after_it_was_replaced(history *h) {
    ADD(OWNER, .stream = history_name_of(h, "project"), .number = 1);
}

static void an_answer_of_an_owner_that_was_replaced(history *h) {
    ADD(SERVED, .stream = history_name_of(h, "project"), .number = 1);
}

static void acknowledged_ahead(history *h) {
    ADD(ACKED, .stream = history_name_of(h, "channel"), .number = 4);
}

static void done_twice(history *h) {
    uint32_t session = history_name_of(h, "session");
    ADD(STORED, .stream = session, .number = 4, .hash = 104, .id = id_of(50), .code = CHECKER_JOB_DONE);
    ADD(EVENT, .stream = session, .number = 4, .hash = 104);
}

static void cancelled_and_landed(history *h) {
    uint32_t session = history_name_of(h, "other session");
    static const uint32_t course[] = {CHECKER_QUEUED, CHECKER_ACTIVE, CHECKER_CANCELLED, CHECKER_JOB_DONE};
    for (uint64_t n = 0; n < COUNT_OF(course); n++)
        ADD(STORED, .stream = session, .number = n + 1, .hash = n, .id = id_of(51), .code = course[n]);
}

static void landed_elsewhere(history *h) {
    ADD(BASE, .number = 4, .answer = 5);
}

static void a_complaint(history *h) {
    ADD(COMPLAINT, .stream = history_name_of(h, "drafter: outbox.damaged"));
}

static void each_bad_history_is_rejected(void **state) {
    static const struct {
        spoil_fn *spoil;
        const char *invariant;
    } cases[] = {
        {answered_and_gone, "I1"},
        {applied_twice, "I2"},
        {another_answer, "I3"},
        {another_request_answered, "I3"},
        {refused_after_an_answer, "I3"},
        {applied_out_of_order, "I4"},
        {a_gap_in_a_channel, "I4"},
        {a_number_of_a_channel_given_twice, "I4"},
        {a_read_of_old, "I5"},
        {a_read_of_what_never_was, "I5"},
        {a_write_adrift_that_hides_nothing_older, "I5"},
        {a_write_that_comes_back_after_one_that_was_adrift, "I5"},
        {a_write_adrift_that_comes_twice, "I5"},
        {a_write_that_is_not_adrift_any_more, "I5"},
        {a_counter_that_goes_back, "I5"},
        {two_calls_at_a_time, "I5"},
        {a_reader_that_missed_one, "I6"},
        {a_reader_that_did_not_finish, "I6"},
        {a_number_with_two_contents, "I6"},
        {an_event_that_is_not_stored, "I6"},
        {refused_and_there, "I7"},
        {never_told, "I8"},
        {half_a_message, "I9"},
        {one_try_twice, "I10"},
        {a_call_nobody_knows_of, "I10"},
        {a_wrong_sum, "I11"},
        {something_waits, "I12"},
        {a_commit_number_again, "I13"},
        {the_owner_again_after_it_was_replaced, "I13"},
        {an_answer_of_an_owner_that_was_replaced, "I13"},
        {acknowledged_ahead, "I15"},
        {served_without_its_end, "I15"},
        {done_twice, "J1"},
        {cancelled_and_landed, "J1"},
        {landed_elsewhere, "J2"},
        {a_complaint, "S1"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        rejects(cases[i].spoil, cases[i].invariant);
}

/* Of a request that was sent twice one copy may be refused and the other applied: no violation. */
static void a_refusal_of_a_request_that_was_sent_twice_says_nothing_of_the_other_copy(void **state) {
    char text[CHECKER_TEXT_SIZE];
    history all = {.records = NULL}, *h = &all;
    (void)state;
    good(h);
    ADD(INVOKE, .id = id_of(2), .hash = 7);
    ADD(REFUSED, .id = id_of(2), .hash = 7, .number = 2);
    ADD(FACET, .id = id_of(2), .code = FACET_STATE, .number = 1);
    if (!checker_run(h, text))
        fail_msg("%s", text);
    history_done(h);
}

static void a_write_that_nobody_waited_for_may_be_applied_after_a_later_one(void **state) {
    char text[CHECKER_TEXT_SIZE];
    history all = {.records = NULL}, *h = &all;
    (void)state;
    good(h);
    uint32_t key = a_write_adrift(h);
    ADD(READ, .stream = key, .number = 3);
    ADD(READ, .stream = key, .number = 2);
    ADD(READ, .stream = key, .number = 2);
    ADD(WROTE, .id = id_of(74), .stream = key, .number = 4);
    ADD(WROTE, .id = id_of(74), .stream = key, .number = 4, .answer = 1);
    ADD(READ, .stream = key, .number = 4);
    if (!checker_run(h, text))
        fail_msg("%s", text);
    history_done(h);
}

/* Old events may be gone, for readers too; but none comes twice. */
static void what_forgets_may_begin_anywhere_and_go_on_later_but_not_again(void **state) {
    char text[CHECKER_TEXT_SIZE];
    history all = {.records = NULL}, *h = &all;
    (void)state;
    good(h);
    uint32_t session = history_name_of(h, "forgetting session");
    ADD(STORED, .stream = session, .number = 7, .hash = 7);
    ADD(EVENT, .stream = session, .number = 3, .hash = 3);
    ADD(EVENT, .stream = session, .number = 7, .hash = 7);
    assert_false(checker_run(h, text));
    h->forgets = true;
    if (!checker_run(h, text))
        fail_msg("%s", text);
    ADD(EVENT, .stream = session, .number = 7, .hash = 7);
    assert_false(checker_run(h, text));
    history_done(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_history_passes),
        cmocka_unit_test(each_bad_history_is_rejected),
        cmocka_unit_test(a_refusal_of_a_request_that_was_sent_twice_says_nothing_of_the_other_copy),
        cmocka_unit_test(a_write_that_nobody_waited_for_may_be_applied_after_a_later_one),
        cmocka_unit_test(what_forgets_may_begin_anywhere_and_go_on_later_but_not_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
