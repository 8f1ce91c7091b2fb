/* Envelopes, routes and error bodies: what is taken is written back and read the same. */
#include "proto/wire/envelope.h"

#include "proto/wire/json.h"
#include "proto/wire/mp.h"
#include "tests/fuzz/fuzz.h"

static void try_envelope(stet_str frame) {
    stet_envelope first, second;
    stet_error e;
    if (stet_envelope_decode(frame, &first, &e) != STET_OK) {
        ASSERT(first.kind == STET_KIND_NONE && first.command.data == NULL);
        ASSERT(e.code == STET_INVALID && stet_utf8_valid(stet_str_of(e.message)));
        return;
    }
    ASSERT(stet_mp_check(frame, STET_MP_LIMITS_ENVELOPE, &e) == STET_OK);
    CLEANUP(stet_buf_done) stet_buf once = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    CLEANUP(stet_buf_done) stet_buf twice = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&first, &once);
    ASSERT(stet_buf_ok(&once));
    ASSERT(stet_envelope_decode(stet_buf_str(&once), &second, &e) == STET_OK);
    stet_envelope_encode(&second, &twice);
    ASSERT(stet_str_equal(stet_buf_str(&once), stet_buf_str(&twice)));
    ASSERT(stet_str_equal(first.command, second.command) && stet_str_equal(first.key, second.key));
    ASSERT(stet_slot_of(first.key) < STET_SLOTS);
    ASSERT(stet_command_service(first.command).size <= first.command.size);
}

static void try_route(stet_str frame) {
    stet_route first, second;
    if (stet_route_decode(frame, &first, NULL) != STET_OK)
        return;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(256);
    stet_route_encode(&first, &b);
    ASSERT(stet_route_decode(stet_buf_str(&b), &second, NULL) == STET_OK);
    ASSERT(first.ticket == second.ticket && first.slot == second.slot &&
           stet_str_equal(first.role, second.role));
}

static void try_error(stet_str body) {
    stet_error first, second;
    stet_error_decode(body, &first);
    ASSERT(first.code != STET_OK);
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    stet_error_encode(&first, &b);
    ASSERT(stet_buf_ok(&b));
    ASSERT(stet_mp_check(stet_buf_str(&b), STET_MP_LIMITS_BODY, NULL) == STET_OK);
    stet_error_decode(stet_buf_str(&b), &second);
    ASSERT(memcmp(&first, &second, sizeof first) == 0);
}

void fuzz_one(const uint8_t *data, size_t size) {
    stet_str bytes = stet_str_from(data, size);
    try_envelope(bytes);
    try_route(bytes);
    try_error(bytes);
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const stet_id id = {{1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}};
    if (index == 0) {
        stet_route_encode(
            &(stet_route){.ticket = 7, .role = STET_STR("control"), .slot = 3, .remaining_ms = 30000}, b);
        return true;
    }
    if (index == 1) {
        stet_error e;
        (void)stet_error_field(&e, STET_CONFLICT, "baseVersion",
                               "the document has version 4; read it and decide again");
        e.retry_after_ms = 250;
        memcpy(e.details,
               "\x81\xaf"
               "currentVersion\x04",
               e.details_size = 17);
        stet_error_encode(&e, b);
        return true;
    }
    if (index >= STET_KINDS_COUNT + 1)
        return false;
    stet_envelope_encode(&(stet_envelope){.kind = (stet_kind)(index - 1),
                                          .id = id,
                                          .command = STET_STR("drafter.submit"),
                                          .key = STET_STR("project-1"),
                                          .timeout_ms = 30000,
                                          .service = STET_STR("drafter"),
                                          .partition = 1,
                                          .epoch = 1,
                                          .instance = id,
                                          .sequence = 300,
                                          .credit = 2048,
                                          .interval_ms = 250,
                                          .software = STET_STR("0.1.0")},
                         b);
    return true;
}
