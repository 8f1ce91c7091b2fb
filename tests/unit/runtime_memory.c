/* A turn for which an allocation fails: each of them once, alone and with all that follow. */
#include "tests/unit/runtime_rig.h"

#include "proto/wire/json.h"
#include "tests/sim/memory.h"

#include <stdio.h>

typedef struct starving {
    const char *markdown; /* what the rig's service does, see runtime_rig.c */
    bool sent;            /* by another actor */
    bool for_ever;
} starving;

static stet_envelope envelope_of(const starving *how) {
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = rig_id(1), .command = STET_STR("drafter.document.put")};
    if (how->sent) {
        envelope.kind = STET_KIND_SEND;
        envelope.service = STET_STR("probe");
        envelope.epoch = 1;
        envelope.sequence = 1;
    }
    return envelope;
}

static void message_of(const starving *how, stet_buf *frame, stet_buf *route, stet_buf *body) {
    stet_envelope envelope = envelope_of(how);
    stet_envelope_encode(&envelope, frame);
    stet_route_encode(&(stet_route){.ticket = 9, .role = STET_STR("control"), .remaining_ms = 1000}, route);
    stet_mp_map(body, 3);
    stet_mp_put_cstr(body, "projectId", "p1");
    stet_mp_put_uint(body, "baseVersion", 0);
    stet_mp_put_cstr(body, "markdown", how->markdown);
}

/* One message and its commit; true when an allocation has failed. */
static bool hand_in(rig *self, const starving *how, memory_fault *fault) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), route = STET_BUF(256), body = STET_BUF(1024);
    message_of(how, &frame, &route, &body);
    memory_on(fault);
    stet_core_message(self->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
    stet_core_commit(self->core);
    bool struck = memory_off();
    if (!stet_core_fatal(self->core, NULL))
        rig_complete(self);
    if (stet_core_fatal(self->core, NULL))
        rig_crash(self);
    return struck;
}

/* An error says that the same may be asked again, never that it was too large. */
static void look_at_answer(const rig *self) {
    for (size_t i = 0; i < self->sent_count; i++) {
        stet_error error;
        if (rig_envelope(self, i).kind != STET_KIND_ERROR)
            continue;
        stet_error_decode(rig_body(self, i), &error);
        if (!stet_code_may_resend(error.code))
            fail_msg("%s: %s", stet_code_name(error.code), error.message);
    }
}

/* Once, whole, and with an answer. */
static void look_at_end(rig *self, const starving *how) {
    CLEANUP(stet_buf_done) stet_buf problems = STET_BUF(64 << 10);
    size_t n = how->sent ? rig_find_kind(self, STET_KIND_ACK, 0) : rig_answer(self, 1);
    assert_true(n != SIZE_MAX);
    if (how->sent)
        assert_int_equal(rig_envelope(self, n).sequence, 1);
    else
        assert_int_equal(rig_envelope(self, n).kind, STET_KIND_REPLY);
    if (rig_check(self, &problems) > 0)
        fail_msg("%.*s", STET_STR_ARG(stet_buf_str(&problems)));
    rig_forget(self);
    rig_request(self, 2, "drafter.document.get", "{\"projectId\":\"p1\"}");
    rig_round(self);
    n = rig_answer(self, 2);
    assert_true(n != SIZE_MAX);
    assert_int_equal(stet_mp_get_uint(rig_body(self, n), "version", 0), 1);
}

static void each_allocation_fails(const starving *how) {
    bool struck = true;
    uint64_t n = 0;
    for (; struck; n++) {
        rig *self = rig_new();
        memory_fault fault = {.after = n, .rounds = 1, .for_ever = how->for_ever}, none = {.rounds = 0};
        struck = hand_in(self, how, &fault);
        look_at_answer(self);
        rig_forget(self);
        assert_false(hand_in(self, how, &none));
        look_at_end(self, how);
        rig_free(self);
    }
    if (n < 3)
        fail_msg("%s needs only %u allocations: this shows nothing", how->markdown, (unsigned)n);
}

static void a_message_without_memory_is_whole_or_not_there_and_may_be_sent_again(void **state) {
    static const char *const things[] = {"nothing", "event", "event with more", "send", "timer", "call"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(things); i++) {
        for (int variant = 0; variant < 4; variant++)
            each_allocation_fails(
                &(starving){.markdown = things[i], .sent = variant & 1, .for_ever = variant & 2});
    }
}

/* ---- the receiver's acknowledgement ---- */

static bool acknowledge(rig *self, memory_fault *fault) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024);
    stet_envelope envelope = {.kind = STET_KIND_ACK,
                              .id = rig_id(1),
                              .command = STET_STR("alerts.raise"),
                              .service = STET_STR("alerts"),
                              .epoch = 1,
                              .sequence = 1};
    stet_envelope_encode(&envelope, &frame);
    memory_on(fault);
    stet_core_message(self->core, stet_buf_str(&frame), (stet_str){NULL, 0}, (stet_str){NULL, 0});
    stet_core_commit(self->core);
    bool struck = memory_off();
    if (!stet_core_fatal(self->core, NULL))
        rig_complete(self);
    if (stet_core_fatal(self->core, NULL))
        rig_crash(self);
    return struck;
}

static uint64_t waiting(rig *self) {
    rig_request(self, 2, "drafter.stats", "{}");
    rig_round(self);
    stet_str outbox = stet_mp_get_raw(rig_body(self, rig_answer(self, 2)), "outbox");
    uint64_t count = stet_mp_get_uint(stet_mp_get_raw(outbox, "alerts"), "pending", UINT64_MAX);
    rig_forget(self);
    return count;
}

static void a_message_whose_ack_found_no_memory_is_sent_again_until_one_is_taken(void **state) {
    bool struck = true;
    uint64_t n = 0;
    (void)state;
    for (; struck; n++) {
        rig *self = rig_new();
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n % 2}, none = {.rounds = 0};
        assert_false(hand_in(self, &(starving){.markdown = "send"}, &none));
        rig_crash(self); /* with buffers that have not grown yet */
        assert_int_equal(rig_count_kind(self, STET_KIND_SEND), 0);
        rig_later(self, 1);
        rig_seal(self);
        rig_forget(self);
        struck = acknowledge(self, &fault);
        rig_later(self, 10000);
        rig_round(self);
        if (rig_count_kind(self, STET_KIND_SEND) != waiting(self))
            fail_msg("allocation %u: what waits is not what is sent again", (unsigned)n);
        assert_false(acknowledge(self, &none));
        assert_int_equal(waiting(self), 0);
        rig_free(self);
    }
    assert_true(n > 2); /* else nothing was tried */
}

/* ---- a question ---- */

/* A page of the check, from the middle. True when an allocation has failed. */
static bool ask_for_page(rig *self, memory_fault *fault) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), route = STET_BUF(256), body = STET_BUF(1024);
    stet_envelope_encode(
        &(stet_envelope){.kind = STET_KIND_REQUEST, .id = rig_id(3), .command = STET_STR("drafter.check")},
        &frame);
    stet_route_encode(&(stet_route){.ticket = 9, .role = STET_STR("control"), .remaining_ms = 1000}, &route);
    stet_mp_map(&body, 2);
    stet_mp_put_uint(&body, "limit", 2);
    stet_mp_put_cstr(&body, "cursor", "01");
    rig_forget(self);
    memory_on(fault);
    stet_core_message(self->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
    bool struck = memory_off();
    rig_round(self);
    if (stet_core_fatal(self->core, NULL))
        rig_crash(self);
    return struck;
}

static void a_page_without_memory_is_whole_or_busy(void **state) {
    bool struck = true;
    uint64_t n = 0;
    (void)state;
    for (; struck; n++) {
        rig *self = rig_new();
        CLEANUP(stet_buf_done) stet_buf right = STET_BUF(64 << 10);
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1}, none = {.rounds = 0};
        assert_false(hand_in(self, &(starving){.markdown = "event"}, &none));
        rig_crash(self); /* with buffers that have not grown yet */
        assert_false(ask_for_page(self, &none));
        stet_buf_append_str(&right, rig_body(self, rig_answer(self, 3)));
        assert_true(stet_mp_get_str(stet_buf_str(&right), "cursor", STET_STR("")).size > 0);
        rig_crash(self);
        struck = ask_for_page(self, &fault);
        look_at_answer(self);
        size_t at = rig_answer(self, 3);
        if (at != SIZE_MAX && rig_envelope(self, at).kind == STET_KIND_REPLY)
            assert_true(stet_str_equal(rig_body(self, at), stet_buf_str(&right)));
        rig_free(self);
    }
    assert_true(n > 6); /* else nothing was tried */
}

/* The rig's service does not look at what a read of a row says. */
static void a_row_for_which_there_is_no_memory_is_not_one_that_is_not_there(void **state) {
    bool struck = true;
    (void)state;
    for (uint64_t n = 0; struck; n++) {
        rig *self = rig_new();
        CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), route = STET_BUF(256), body = STET_BUF(1024);
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1};
        rig_request(self, 2, "drafter.document.put",
                    "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"\"}");
        stet_envelope_encode(&(stet_envelope){.kind = STET_KIND_REQUEST,
                                              .id = rig_id(3),
                                              .command = STET_STR("drafter.document.get")},
                             &frame);
        stet_route_encode(&(stet_route){.ticket = 9, .role = STET_STR("control"), .remaining_ms = 1000},
                          &route);
        stet_mp_map(&body, 1);
        stet_mp_put_cstr(&body, "projectId", "p1");
        memory_on(&fault);
        stet_core_message(self->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
        struck = memory_off();
        rig_round(self);
        size_t at = rig_answer(self, 3);
        if (at != SIZE_MAX && rig_envelope(self, at).kind == STET_KIND_REPLY)
            assert_int_equal(stet_mp_get_uint(rig_body(self, at), "version", 0), 1);
        rig_free(self);
    }
}

/* A read writes the rows of the events before it. */
static void a_question_without_memory_takes_no_event_away(void **state) {
    static const char event[] = "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"event\"}";
    bool struck = true;
    (void)state;
    for (uint64_t n = 0; struck; n++) {
        rig *self = rig_new();
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1};
        rig_request(self, 1, "drafter.document.put", event);
        struck = ask_for_page(self, &fault);
        bool published = self->published_count > 0;
        rig_forget(self);
        rig_request(self, 2, "drafter.document.put", event);
        rig_round(self);
        assert_int_equal(self->published_count, 1);
        stet_str text = stet_buf_str(&self->published[0].body);
        const char *wanted = published ? "{\"seq\":2," : "{\"seq\":1,";
        if (!memmem(text.data, text.size, wanted, strlen(wanted)))
            fail_msg("allocation %u: %.*s", (unsigned)n, STET_STR_ARG(text));
        rig_free(self);
    }
}

/* ---- the next message of the turn ---- */

/* What is refused may find no memory even for the refusal. */
static void what_found_no_memory_costs_the_next_message_nothing(void **state) {
    static const char *const things[] = {"nothing", "event", "send", "busy", "everything, then fail"};
    memory_fault none = {.rounds = 0};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(things); i++) {
        bool struck = true;
        for (uint64_t n = 0; struck; n++) {
            rig *self = rig_new();
            memory_fault fault = {.after = n / 4, .rounds = 1, .for_ever = n & 2};
            starving first = {.markdown = things[i], .sent = n & 1};
            CLEANUP(stet_buf_done)
            stet_buf frame = STET_BUF(1024), route = STET_BUF(256), body = STET_BUF(1024);
            message_of(&first, &frame, &route, &body);
            memory_on(&fault);
            stet_core_message(self->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
            struck = memory_off();
            if (!stet_core_fatal(self->core, NULL)) {
                rig_request(self, 2, "drafter.document.put",
                            "{\"projectId\":\"p2\",\"baseVersion\":0,\"markdown\":\"\"}");
                rig_round(self);
                size_t at = rig_answer(self, 2);
                if (at == SIZE_MAX || rig_envelope(self, at).kind != STET_KIND_REPLY)
                    fail_msg("%s, allocation %u: the message after it is refused", things[i], (unsigned)n);
            }
            assert_false(hand_in(self, &(starving){.markdown = "nothing"}, &none));
            rig_free(self);
        }
    }
}

/* ---- the start ---- */

static void a_start_without_memory_may_be_tried_again(void **state) {
    bool struck = true;
    (void)state;
    for (uint64_t n = 0; struck; n++) {
        rig *self = rig_new();
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1}, none = {.rounds = 0};
        stet_error e = {0};
        assert_false(hand_in(self, &(starving){.markdown = "send"}, &none));
        self->core = stet_core_free(self->core);
        stet_store_memory_crash(self->store);
        memory_on(&fault);
        stet_code rc = rig_open(self, &e);
        struck = memory_off();
        if (rc != STET_OK && !stet_code_may_resend(rc))
            fail_msg("allocation %u: %s: %s", (unsigned)n, stet_code_name(rc), e.message);
        assert_true(struck || rc == STET_OK);
        rig_crash(self);
        rig_free(self);
    }
}

/* ---- what all stands on ---- */

static void put_map(stet_buf *b, uint32_t pairs) {
    char name[16];
    stet_mp_map(b, pairs);
    for (uint32_t i = 0; i < pairs; i++) {
        (void)snprintf(name, sizeof(name), "name%u", i);
        stet_mp_put_cstr(b, name, "a \"text\"\n");
    }
}

static void bytes_that_found_no_memory_are_not_refused_for_good(void **state) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(64 << 10), json = STET_BUF(64 << 10);
    bool struck = true;
    (void)state;
    put_map(&mp, 1000);
    assert_int_equal(stet_mp_to_json(stet_buf_str(&mp), (stet_json_style){0}, &json, NULL), STET_OK);
    for (uint64_t n = 0; struck; n++) {
        CLEANUP(stet_buf_done) stet_buf text = STET_BUF(64 << 10), back = STET_BUF(64 << 10);
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1};
        memory_on(&fault);
        stet_code codes[] = {stet_mp_check(stet_buf_str(&mp), STET_MP_LIMITS_BODY, NULL),
                             stet_mp_to_json(stet_buf_str(&mp), (stet_json_style){0}, &text, NULL),
                             stet_json_to_mp(stet_buf_str(&json), STET_MP_LIMITS_BODY, &back, NULL)};
        struck = memory_off();
        for (size_t i = 0; i < COUNT_OF(codes); i++) {
            if (codes[i] != STET_OK && codes[i] != STET_BUSY)
                fail_msg("allocation %u: %s", (unsigned)n, stet_code_name(codes[i]));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_without_memory_is_whole_or_not_there_and_may_be_sent_again),
        cmocka_unit_test(a_message_whose_ack_found_no_memory_is_sent_again_until_one_is_taken),
        cmocka_unit_test(a_page_without_memory_is_whole_or_busy),
        cmocka_unit_test(a_row_for_which_there_is_no_memory_is_not_one_that_is_not_there),
        cmocka_unit_test(a_question_without_memory_takes_no_event_away),
        cmocka_unit_test(what_found_no_memory_costs_the_next_message_nothing),
        cmocka_unit_test(a_start_without_memory_may_be_tried_again),
        cmocka_unit_test(bytes_that_found_no_memory_are_not_refused_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
