/* Constant load: a mailbox that is never empty keeps neither a timer nor a job from starting. */
#include "tests/unit/runtime_rig.h"

static const char PUT[] = "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"\"}";
static const char PUT_TIMER[] = "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"timer\"}";
static const char PUT_JOB[] = "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"job\"}";
static const char GET_TIMER[] = "{\"projectId\":\"t1\"}"; /* counts how often the timer t1 has fired */

/* Fills the turn before the core's own steps get their chance, as a loop does that drains its mailbox first. */
static void full_round(rig *r, uint32_t *number) {
    while (stet_core_wants_more(r->core))
        rig_request(r, (*number)++, "drafter.document.put", PUT);
    rig_seal(r);
    rig_complete(r);
    rig_forget(r);
}

static void timers_and_jobs_start_though_every_turn_is_full(void **state) {
    (void)state;
    rig *r = rig_new();
    uint32_t number = 10;
    rig_request(r, 1, "drafter.document.put", PUT_TIMER);
    rig_round(r);
    rig_later(r, 2000); /* the timer is due */
    rig_job_active((stet_id){{0}}, 0);
    rig_request(r, 2, "drafter.document.put", PUT_JOB);
    for (int round = 0; round < 3; round++)
        full_round(r, &number);
    assert_int_equal(rig_job_ticks(), 1);
    rig_request(r, 3, "drafter.document.get", GET_TIMER);
    stet_core_commit(r->core); /* answers the read; no tick that could fire the timer only now */
    assert_int_equal(stet_mp_get_uint(rig_body(r, rig_answer(r, 3)), "version", 0), 1);
    rig_free(r);
}

static void the_own_steps_of_a_full_turn_are_not_run_again_and_again(void **state) {
    (void)state;
    rig *r = rig_new();
    uint32_t number = 10;
    rig_job_active((stet_id){{0}}, 0);
    for (int round = 0; round < 3; round++)
        full_round(r, &number);
    assert_int_equal(rig_job_ticks(), 0); /* nothing was due */
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_and_jobs_start_though_every_turn_is_full),
        cmocka_unit_test(the_own_steps_of_a_full_turn_are_not_run_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
