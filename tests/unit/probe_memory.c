/* A job of the probe for which an allocation fails: each of them once, alone and with all that follow. It is refused for now, or
 * kept with the whole payload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/probe/probe.h"
#include "actors/runtime/core.h"
#include "actors/runtime/jobs_row.h"
#include "tests/sim/memory.h"

enum { PAYLOAD = 5000, WALL_MS = 1700000000 };

typedef struct answer {
    bool came, refused;
    stet_error error;
} answer;

static bool take_answer(void *context, stet_str frame, stet_str route, stet_str body) {
    answer *self = context;
    stet_envelope envelope;
    (void)route;
    if (stet_envelope_decode(frame, &envelope, NULL) != STET_OK ||
        (envelope.kind != STET_KIND_REPLY && envelope.kind != STET_KIND_ERROR))
        return true;
    self->came = true;
    self->refused = envelope.kind == STET_KIND_ERROR;
    if (self->refused)
        stet_error_decode(body, &self->error);
    return true;
}

static void drop_event(void *context, stet_str topic, stet_str payload) {
    (void)context, (void)topic, (void)payload;
}

static void drop_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    (void)context, (void)level, (void)event, (void)message, (void)fields;
}

/* The payloads of the jobs that are there are whole; how many. */
static size_t look_at_jobs(stet_store *store) {
    stet_batch *batch = stet_store_batch(store);
    stet_key prefix = stet_key_of(STET_TABLE_JOBS);
    size_t count = 0;
    stet_str key, value;
    {
        CLEANUP(stet_scan_done)
        stet_scan *scan = stet_batch_scan(batch, stet_key_bytes(&prefix), (stet_str){NULL, 0}, false);
        while (stet_scan_next(scan, &key, &value)) {
            jobs_record record;
            stet_error e;
            stet_id id;
            memcpy(id.bytes, key.data + key.size - STET_ID_BYTES, STET_ID_BYTES);
            assert_int_equal(jobs_record_load(batch, &probe_service.queues[0], id, &record, &e), STET_OK);
            assert_int_equal(stet_mp_check(record.job.payload, STET_MP_LIMITS_BODY, NULL), STET_OK);
            assert_true(stet_mp_get_raw(record.job.payload, "payload").size >= PAYLOAD);
            count++;
        }
    }
    stet_batch_release_reads(batch);
    return count;
}

static bool submit(stet_core *core, memory_fault *fault) {
    CLEANUP(stet_buf_done)
    stet_buf frame = STET_BUF(1024), route = STET_BUF(256), body = STET_BUF(2 * PAYLOAD);
    static const char payload[PAYLOAD];
    stet_envelope_encode(&(stet_envelope){.kind = STET_KIND_REQUEST,
                                          .id = {.bytes = {1, 2, 3}},
                                          .command = STET_STR("probe.job")},
                         &frame);
    stet_route_encode(&(stet_route){.ticket = 9, .role = STET_STR("control"), .remaining_ms = 1000}, &route);
    stet_mp_map(&body, 2);
    stet_mp_put_cstr(&body, "sessionId", "s1");
    stet_mp_cstr(&body, "payload");
    stet_mp_bin(&body, payload, sizeof(payload));
    assert_true(stet_buf_ok(&body));
    memory_on(fault);
    stet_core_message(core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
    bool struck = memory_off();
    for (int i = 0; i < 8; i++) {
        stet_core_commit(core);
        stet_core_complete(core);
    }
    return struck;
}

static void a_job_is_kept_with_its_whole_payload_or_refused_for_now(void **state) {
    bool struck = true;
    uint64_t n = 0;
    (void)state;
    for (; struck; n++) {
        stet_error e;
        stet_config *config = NULL;
        stet_store *store = NULL;
        stet_core *core = NULL;
        answer got = {.came = false};
        const stet_core_edge edge = {
            .context = &got, .send = take_answer, .publish = drop_event, .log = drop_log};
        memory_fault fault = {.after = n / 2, .rounds = 1, .for_ever = n & 1}, none = {.rounds = 0};
        assert_int_equal(stet_config_load(NULL, &config, &e), STET_OK);
        assert_int_equal(stet_store_open_memory(0, &store, &e), STET_OK);
        stet_core_options options = {.service = &probe_service, .config = config, .store = store, .seed = 1};
        assert_int_equal(stet_core_new(&options, &edge, WALL_MS, 1000, &core, &e), STET_OK);
        struck = submit(core, &fault);
        assert_true(!got.refused || stet_code_may_resend(got.error.code));
        (void)look_at_jobs(store);
        if (stet_core_fatal(core, NULL) == 0) {
            assert_false(submit(core, &none));
            assert_true(got.came && !got.refused);
            assert_int_equal(look_at_jobs(store), 1);
        }
        core = stet_core_free(core);
        store = stet_store_close(store);
        config = stet_config_free(config);
    }
    assert_true(n > 6); /* else nothing was tried */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_is_kept_with_its_whole_payload_or_refused_for_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
