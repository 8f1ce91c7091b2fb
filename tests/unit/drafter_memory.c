/* An answer of the model for which an allocation fails: each of them once, alone and with all that follow in its turn. Whatever
 * was lost, the job is done in the end, on the whole text; or it has failed for what the provider said, with one alert. */
#include "tests/unit/drafter_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/memory.h"

#define CHUNK(json_text)                                                                                     \
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" json_text "\"},\"finish_reason\":null}]}"   \
    "\n\n"
#define END "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
#define FIRST "# A document whose first piece is long enough for a buffer of its own"
#define MIDDLE "the middle of it, where nobody would see that something is missing"

enum { PIECES_MAX = 8, WAITS = 60 };

typedef struct answer {
    const char *schema;
    uint32_t status;
    const char *pieces[PIECES_MAX];
    const char *code; /* of the job's error; NULL: it lands */
} answer;

static const answer answers[] = {
    {"none", 200, {CHUNK(FIRST "\\n"), CHUNK(MIDDLE "\\n"), CHUNK("the end"), END}, NULL},
    {"json_object",
     200,
     {CHUNK("{\\\"summary\\\":\\\"{}\\\",\\\"markdown\\\":\\\"" FIRST "\\\\n"), CHUNK(MIDDLE "\\\\n"),
      CHUNK("the end\\\"}"), END},
     NULL},
    {"none",
     200,
     {"{\"choices\":[{\"index\":0,\"message\":{\"content\":\"" FIRST "\\n" MIDDLE "\\nthe end\"},",
      "\"finish_reason\":\"stop\"}]}"},
     NULL},
    {"none", 400, {"{\"error\":{\"message\":\"bad\"}}"}, "http_400"},
};

static const char whole[] = FIRST "\n" MIDDLE "\nthe end";

static void go_on(rig *r) {
    if (stet_core_fatal(r->core, NULL))
        rig_crash(r);
    else
        rig_settle(r);
}

/* The open call is answered, also when it is taken back meanwhile: that was on its way. True when an allocation has failed. */
static bool answer_once(rig *r, const answer *a, memory_fault *fault) {
    rig_call *call = rig_open_call(r);
    bool struck = false;
    for (int i = 0; i < PIECES_MAX && a->pieces[i] && (call->open || call->cancelled); i++) {
        stet_http_data data = {.ref = call->ref, .status = a->status, .bytes = stet_str_of(a->pieces[i])};
        memory_on(fault);
        stet_core_call_data(r->core, &data);
        struck |= memory_off();
        go_on(r);
    }
    if (!call->open && !call->cancelled)
        return struck;
    call->open = false;
    stet_http_result result = {.ref = call->ref,
                               .status = a->status,
                               .reason = "",
                               .content_type = STET_STR(""),
                               .retry_after_ms = -1};
    memory_on(fault);
    stet_core_call_done(r->core, &result);
    struck |= memory_off();
    go_on(r);
    return struck;
}

static void look_at_end(rig *r, const answer *a, stet_id id, uint64_t n) {
    if (a->code) {
        assert_string_equal(rig_job(r, id, "error.code"), a->code);
        assert_int_equal(rig_count(&r->sends, "alerts.raise"), 1);
    } else {
        if (strcmp(rig_job(r, id, "status"), "done") != 0)
            fail_msg("%s, allocation %u: %s", a->schema, (unsigned)n, rig_job(r, id, "error.message"));
        assert_true(rig_ask(r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
        assert_string_equal(rig_get(r, "markdown"), whole);
        assert_int_equal(rig_count(&r->sends, "alerts.raise"), 0);
    }
    assert_int_equal(rig_count(&r->sends, a->code ? "\"status\":\"error\"" : "\"status\":\"done\""), 1);
    assert_int_equal(rig_count(&r->events, "invalid_output"), 0); /* for what was never read */
    assert_int_equal(rig_check_problems(r), 0);
}

static void an_answer_for_which_there_is_no_memory_is_asked_for_again(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        bool struck = true;
        uint64_t n = 0;
        for (; struck; n++) {
            CLEANUP(rig_done) rig r;
            memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1}, none = {.rounds = 0};
            rig_start(&r, (const char *const[]){"openai.schema", answers[i].schema, NULL});
            stet_id id = rig_submit(&r, "p1", "s1");
            struck = answer_once(&r, &answers[i], &fault);
            for (int wait = 0; wait < WAITS; wait++) {
                rig_pass(&r, 60000);
                if (rig_open_calls(&r) > 0)
                    (void)answer_once(&r, &answers[i], &none);
            }
            look_at_end(&r, &answers[i], id, n);
        }
        assert_true(n > 10); /* else nothing was tried */
    }
}

/* ---- a cancellation that did not take place ---- */

/* True when an allocation has failed. */
static bool cancel(rig *r, stet_id id, memory_fault *fault) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), route = STET_BUF(256), body = STET_BUF(256);
    char text[STET_ID_TEXT_SIZE];
    stet_id_text(id, text);
    r->last_request = stet_id_next(&r->ids, r->wall_ms);
    r->answered = false;
    stet_envelope_encode(&(stet_envelope){.kind = STET_KIND_REQUEST,
                                          .id = r->last_request,
                                          .command = STET_STR("drafter.cancel")},
                         &frame);
    stet_route_encode(&(stet_route){.ticket = 9, .role = STET_STR("control"), .remaining_ms = 1000}, &route);
    stet_mp_map(&body, 1);
    stet_mp_put_cstr(&body, "jobId", text);
    memory_on(fault);
    stet_core_message(r->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
    bool struck = memory_off();
    go_on(r);
    return struck;
}

static void feed(rig *r, rig_call *call, const char *piece) {
    if (call->open)
        rig_call_data(r, call, 200, piece);
}

/* Its history does not fit into the room that it has without memory: it tells of each item that is not there. */
static stet_id submit_with_a_long_history(rig *r) {
    char items[8192] = "";
    stet_id id;
    for (int i = 0; i < 50; i++)
        (void)snprintf(items + strlen(items), sizeof(items) - strlen(items), "%s\"%0100d\"", i ? "," : "", i);
    assert_true(rig_ask(r, "drafter.submit",
                        "{\"projectId\":\"p1\",\"sessionId\":\"s1\",\"messagePointers\":[%s]}", items));
    assert_true(stet_id_parse(stet_str_of(rig_get(r, "jobId")), &id));
    return id;
}

static void a_cancellation_without_memory_takes_nothing_away_from_an_answer(void **state) {
    const answer *a = &answers[0];
    bool struck = true;
    uint64_t n = 0;
    (void)state;
    for (; struck; n++) {
        CLEANUP(rig_done) rig r;
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1}, none = {.rounds = 0};
        rig_start(&r, (const char *const[]){"openai.schema", a->schema, NULL});
        stet_id id = submit_with_a_long_history(&r);
        rig_call *call = rig_open_call(&r);
        feed(&r, call, a->pieces[0]);
        struck = cancel(&r, id, &fault);
        bool cancelled = r.answered && !r.refused;
        for (int i = 1; a->pieces[i]; i++)
            feed(&r, call, a->pieces[i]);
        if (call->open)
            rig_call_end(&r, call, 200, STET_HTTP_NONE, -1);
        for (int wait = 0; wait < WAITS; wait++) {
            rig_pass(&r, 60000);
            if (rig_open_calls(&r) > 0)
                (void)answer_once(&r, a, &none);
        }
        assert_string_equal(rig_job(&r, id, "status"), cancelled ? "cancelled" : "done");
        assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}") != cancelled);
        if (!cancelled)
            assert_string_equal(rig_get(&r, "markdown"), whole);
        assert_int_equal(rig_check_problems(&r), 0);
    }
    assert_true(n > 4); /* else nothing was tried */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_for_which_there_is_no_memory_is_asked_for_again),
        cmocka_unit_test(a_cancellation_without_memory_takes_nothing_away_from_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
