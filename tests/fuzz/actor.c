/* An actor's core, with the drafter on it and its store in memory, at a broker and a provider that say anything,
 * through crashes. Every request is answered once, a repeated one with the first answer; what is sent can be
 * read; events count up; no answer is an error of ours; and in the end the actor's own check finds nothing.
 *
 * Input: operations, a byte each, with what they need behind it. */
#include <stdlib.h>

#include "actors/drafter/drafter.h"
#include "actors/runtime/core.h"
#include "proto/wire/envelope.h"
#include "proto/wire/json.h"
#include "tests/fuzz/body.h"

enum {
    IDS = 16,
    TICKETS_MAX = 512,
    CALLS_MAX = 16,
    SESSIONS_MAX = 16,
    OPERATIONS_MAX = 256,
    LIFETIME_MAX_MS = 20 * 3600 * 1000 /* within it nothing is forgotten */
};
#define TICKET_FIRST UINT64_C(0x5a5a000000000000)

typedef struct asked {
    uint8_t id;
    bool write, answered;
    uint64_t hash; /* of command and body */
} asked;

typedef struct first_answer {
    bool known;
    uint64_t hash, answer;
} first_answer;

typedef struct session {
    uint64_t topic, last;
} session;

typedef struct world {
    stet_store *store;
    stet_core *core;
    int64_t wall_ms, boot_ms, lived_ms;
    uint64_t lives;
    bool line_down, checking;
    asked asked[TICKETS_MAX];
    uint32_t asked_count;
    first_answer first[IDS];
    stet_call_ref calls[CALLS_MAX];
    uint32_t calls_count;
    session sessions[SESSIONS_MAX];
    stet_envelope sent; /* the last message to another actor */
    char sent_command[STET_COMMAND_SIZE_MAX];
    stet_buf answer; /* to the check */
} world;

static uint64_t hash_of(uint64_t hash, stet_str bytes) {
    for (size_t i = 0; i < bytes.size; i++)
        hash = (hash ^ (uint8_t)bytes.data[i]) * 0x100000001b3u;
    return hash * 31 + bytes.size;
}

static stet_id id_of(uint8_t number) {
    return (stet_id){{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, [15] = number % IDS}};
}

/* ---- the edge ---- */

static void note_answer(world *w, const stet_envelope *envelope, stet_str route_bytes, stet_str body) {
    stet_route route;
    stet_error error = {.code = STET_OK};
    if (envelope->kind == STET_KIND_ERROR) {
        stet_error_decode(body, &error);
        ASSERT(error.code != STET_INTERNAL);
    }
    if (stet_route_decode(route_bytes, &route, NULL) != STET_OK || route.ticket < TICKET_FIRST)
        return;
    ASSERT(route.ticket - TICKET_FIRST < w->asked_count);
    asked *one = &w->asked[route.ticket - TICKET_FIRST];
    ASSERT(!one->answered && stet_id_equal(envelope->id, id_of(one->id)));
    one->answered = true;
    if (w->checking)
        stet_buf_append_str(&w->answer, body);
    if (!one->write || w->lived_ms > LIFETIME_MAX_MS)
        return;
    first_answer *first = &w->first[one->id];
    if (envelope->kind == STET_KIND_REPLY) {
        ASSERT(!first->known || (first->hash == one->hash && first->answer == hash_of(1, body)));
        *first = (first_answer){true, one->hash, hash_of(1, body)};
    }
}

static bool edge_send(void *context, stet_str frame, stet_str route, stet_str body) {
    world *w = context;
    stet_envelope envelope;
    if (w->line_down)
        return false;
    ASSERT(frame.size <= STET_ENVELOPE_BYTES_MAX && body.size <= STET_BODY_BYTES_MAX);
    ASSERT(stet_envelope_decode(frame, &envelope, NULL) == STET_OK);
    ASSERT(body.size == 0 || stet_mp_check(body, STET_MP_LIMITS_BODY, NULL) == STET_OK);
    if (envelope.kind == STET_KIND_REPLY || envelope.kind == STET_KIND_ERROR) {
        note_answer(w, &envelope, route, body);
    } else if (envelope.kind == STET_KIND_SEND) {
        ASSERT(route.size == 0 && envelope.sequence > 0);
        memcpy(w->sent_command, envelope.command.data, envelope.command.size);
        w->sent = (stet_envelope){.id = envelope.id,
                                  .command = stet_str_from(w->sent_command, envelope.command.size),
                                  .sequence = envelope.sequence};
    }
    return true;
}

static void edge_publish(void *context, stet_str topic, stet_str payload) {
    world *w = context;
    static const char prefix[] = "TOOL_PROGRESS::{\"seq\":";
    ASSERT(payload.size > sizeof prefix && memcmp(payload.data, prefix, sizeof prefix - 1) == 0);
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(STET_BODY_BYTES_MAX);
    stet_str json = stet_str_from(payload.data + 15, payload.size - 15);
    ASSERT(stet_json_to_mp(json, STET_MP_LIMITS_BODY, &mp, NULL) == STET_OK);
    uint64_t seq = stet_mp_get_uint(stet_buf_str(&mp), "seq", 0), hash = hash_of(1, topic);
    session *s = &w->sessions[0];
    while (s < w->sessions + SESSIONS_MAX && s->last > 0 && s->topic != hash)
        s++;
    if (s == w->sessions + SESSIONS_MAX)
        return;
    ASSERT(seq > s->last);
    *s = (session){.topic = hash, .last = seq};
}

static void edge_call_start(void *context, stet_call_ref ref, const stet_http_request *request) {
    world *w = context;
    ASSERT(request->body.size <= DRAFTER_REQUEST_MAX && stet_utf8_valid(request->body));
    if (w->calls_count < CALLS_MAX)
        w->calls[w->calls_count++] = ref;
}

static void call_end(world *w, uint32_t index) {
    w->calls[index] = w->calls[--w->calls_count];
}

static void edge_call_cancel(void *context, stet_call_ref ref) {
    world *w = context;
    for (uint32_t i = 0; i < w->calls_count; i++) {
        if (stet_id_equal(w->calls[i].job_id, ref.job_id) && w->calls[i].attempt == ref.attempt &&
            w->calls[i].number == ref.number)
            call_end(w, i--);
    }
}

static void edge_work_start(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input) {
    (void)context, (void)ref, (void)work, (void)input;
    ASSERT(false); /* the drafter has no work for threads */
}

static void edge_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    (void)context, (void)level, (void)message, (void)fields;
    ASSERT(strcmp(event, "outbox.damaged") != 0 && strcmp(event, "result.failed") != 0 &&
           strcmp(event, "request.internal") != 0);
}

/* ---- life ---- */

static const stet_config *config_once(void) {
    static stet_config *config;
    if (config == NULL) {
        ASSERT(stet_config_load(NULL, &config, NULL) == STET_OK);
        ASSERT(stet_config_set(config, STET_SETTING_openai_api_key, "sk-secret-key", NULL) == STET_OK);
    }
    return config;
}

static void start(world *w) {
    const stet_core_edge edge = {.context = w,
                                 .send = edge_send,
                                 .publish = edge_publish,
                                 .call_start = edge_call_start,
                                 .call_cancel = edge_call_cancel,
                                 .work_start = edge_work_start,
                                 .log = edge_log};
    const stet_core_options options = {.service = &drafter_service,
                                       .config = config_once(),
                                       .store = w->store,
                                       .seed = 1 + w->lives++,
                                       .instance = id_of(1)};
    w->calls_count = 0;
    w->sent = (stet_envelope){.sequence = 0};
    ASSERT(stet_core_new(&options, &edge, w->wall_ms, w->boot_ms, &w->core, NULL) == STET_OK);
}

static void crash(world *w) {
    w->core = stet_core_free(w->core);
    stet_store_memory_crash(w->store);
    for (uint32_t i = 0; i < w->asked_count; i++)
        w->asked[i].answered = true; /* or never */
    start(w);
}

/* What ends the process: a higher epoch elsewhere, or a receiver that has what was never given. Both are the
 * broker's words. */
static void restart_if_fatal(world *w) {
    stet_error e;
    int code = stet_core_fatal(w->core, &e);
    if (code == 0)
        return;
    ASSERT(code == STET_EXIT_FENCED || code == STET_EXIT_DAMAGED);
    crash(w);
}

static void settle(world *w) {
    for (int i = 0; i < 64 && stet_core_fatal(w->core, NULL) == 0; i++) {
        stet_core_commit(w->core);
        if (!stet_store_commit_in_flight(w->store) && stet_batch_count(stet_store_batch(w->store)) == 0)
            break;
        stet_core_complete(w->core);
    }
    restart_if_fatal(w);
}

static void later(world *w, int64_t ms, int64_t wall_ms) {
    w->boot_ms += ms;
    w->wall_ms += wall_ms;
    w->lived_ms += ms + (wall_ms > ms ? wall_ms : 0);
    stet_core_time(w->core, w->wall_ms, w->boot_ms);
}

/* ---- operations ---- */

static void message(world *w, stet_str envelope, stet_str route, stet_str body) {
    if (!stet_core_wants_more(w->core))
        settle(w);
    stet_core_message(w->core, envelope, route, body);
    restart_if_fatal(w);
}

static void request(world *w, const stet_command *command, uint8_t id, const char *role, stet_str body) {
    if (w->asked_count == TICKETS_MAX)
        return;
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX), route = STET_BUF(256);
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = id_of(id), .command = stet_str_of(command->name)};
    stet_envelope_encode(&envelope, &frame);
    stet_route_encode(&(stet_route){.ticket = TICKET_FIRST + w->asked_count,
                                    .role = stet_str_of(role),
                                    .remaining_ms = 1000},
                      &route);
    w->asked[w->asked_count++] = (asked){.id = id % IDS,
                                         .write = command->effect == STET_EFFECT_WRITE,
                                         .hash = hash_of(hash_of(1, envelope.command), body)};
    message(w, stet_buf_str(&frame), stet_buf_str(&route), body);
}

static void say_request(world *w, fuzz_input *in, bool made) {
    uint8_t id = fuzz_byte(in);
    const stet_command *command = fuzz_command(in, "drafter");
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(STET_BODY_BYTES_MAX);
    if (made)
        fuzz_put_body(in, &command->record, &body);
    const char *role = id < 240 ? "control" : id < 248 ? "viewer" : "nobody";
    request(w, command, id, role, made ? stet_buf_str(&body) : fuzz_piece(in));
}

static void say_send(world *w, fuzz_input *in) {
    const stet_command *command = fuzz_command(in, "drafter");
    CLEANUP(stet_buf_done)
    stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX), body = STET_BUF(STET_BODY_BYTES_MAX);
    uint8_t what = fuzz_byte(in);
    stet_envelope_encode(&(stet_envelope){.kind = STET_KIND_SEND,
                                          .id = id_of(what),
                                          .command = stet_str_of(command->name),
                                          .service = STET_STR("probe"),
                                          .epoch = 1 + what / 128,
                                          .sequence = what & 0x40 ? fuzz_number(in, 8) >> 1 : 1 + what % 4U},
                         &frame);
    fuzz_put_body(in, &command->record, &body);
    message(w, stet_buf_str(&frame), (stet_str){NULL, 0}, stet_buf_str(&body));
}

/* What a broker says to an actor, and answers to what was sent. */
static void say_link(world *w, fuzz_input *in) {
    static const stet_kind kinds[] = {STET_KIND_WELCOME, STET_KIND_HEARTBEAT, STET_KIND_REGISTER,
                                      STET_KIND_ACK,     STET_KIND_ACK,       STET_KIND_ERROR,
                                      STET_KIND_ERROR,   STET_KIND_ACK};
    uint8_t what = fuzz_byte(in);
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX), body = STET_BUF(1024);
    stet_envelope envelope = {.kind = kinds[what % 8],
                              .id = w->sent.id,
                              .command = w->sent.command,
                              .service = STET_STR("drafter"),
                              .epoch = 1,
                              .instance = id_of(what >> 6),
                              .interval_ms = fuzz_byte(in),
                              .sequence = w->sent.sequence};
    if (envelope.kind == STET_KIND_ACK && what & 0x20)
        envelope.sequence = fuzz_number(in, what & 0x10 ? 8 : 1) >> 1;
    if (envelope.kind == STET_KIND_ERROR) {
        stet_error error;
        (void)stet_error_set(&error, (stet_code)(1 + (what >> 4) % (STET_CODES_COUNT - 1)), "no");
        stet_error_encode(&error, &body);
        if (what & 0x08)
            envelope.command = (stet_str){NULL, 0};
    }
    stet_envelope_encode(&envelope, &frame);
    message(w, stet_buf_str(&frame), (stet_str){NULL, 0}, stet_buf_str(&body));
}

static void say_raw(world *w, fuzz_input *in) {
    stet_str envelope = fuzz_piece(in), route = fuzz_piece(in), body = fuzz_piece(in);
    stet_route read;
    if (stet_route_decode(route, &read, NULL) != STET_OK || read.ticket < TICKET_FIRST)
        message(w, envelope, route, body);
}

#define DRAFT                                                                                                \
    "data: {\"choices\":[{\"delta\":{\"content\":\"{\\\"markdown\\\":\\\"# "                                 \
    "A\\\",\\\"summary\\\":\\\"s\\\"}\"}}]}\n\n"
static const char *const pieces[] = {DRAFT "data: [DONE]\n\n", DRAFT, "data: [DONE]\n\n",
                                     "{\"error\":{\"code\":\"x\"}}"};

static void say_call(world *w, fuzz_input *in, bool done) {
    uint8_t what = fuzz_byte(in);
    if (w->calls_count == 0)
        return;
    uint32_t index = what % w->calls_count;
    stet_call_ref ref = w->calls[index];
    static const uint32_t statuses[] = {200, 200, 200, 429, 500, 400};
    uint32_t status = statuses[(what >> 4) % COUNT_OF(statuses)];
    if (!stet_core_wants_more(w->core))
        settle(w);
    if (!done) {
        uint8_t piece = fuzz_byte(in);
        stet_str bytes = piece < COUNT_OF(pieces) ? stet_str_of(pieces[piece]) : fuzz_piece(in);
        stet_core_call_data(w->core, &(stet_http_data){.ref = ref, .status = status, .bytes = bytes});
        return;
    }
    call_end(w, index);
    uint8_t failure = fuzz_byte(in);
    stet_http_result result = {.ref = ref,
                               .failure = failure < 128 ? STET_HTTP_NONE : (stet_http_failure)(failure % 6),
                               .status = status,
                               .reason = "fuzz",
                               .content_type = STET_STR("text/event-stream"),
                               .request_id = fuzz_piece(in),
                               .retry_after_ms = (int64_t)fuzz_number(in, 2) - 1};
    stet_core_call_done(w->core, &result);
    restart_if_fatal(w);
}

static void operate(world *w, fuzz_input *in) {
    uint8_t what = fuzz_byte(in);
    switch (what % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        say_request(w, in, /* made= */ what % 16 < 4);
        break;
    case 5:
        say_send(w, in);
        break;
    case 6:
        say_link(w, in);
        break;
    case 7:
        say_raw(w, in);
        break;
    case 8:
    case 9:
        say_call(w, in, what % 16 == 9);
        break;
    case 10:
        stet_core_tick(w->core);
        stet_core_commit(w->core);
        break;
    case 11:
        stet_core_complete(w->core);
        break;
    case 12:
        settle(w);
        break;
    case 13:
        later(w, (int64_t)fuzz_number(in, 1 + what / 64 % 3), 0);
        w->wall_ms += what & 0x20 ? 0 : 1000; /* the clocks need not go together */
        stet_core_tick(w->core);
        break;
    case 14:
        later(w, 0, (int64_t)fuzz_number(in, 4) - INT32_MAX);
        break;
    default:
        if (what < 0x40)
            crash(w);
        else
            w->line_down = what < 0x80;
    }
    restart_if_fatal(w);
}

/* ---- in the end ---- */

static void check(world *w) {
    static const stet_command *command;
    if (command == NULL)
        command = stet_command_find(STET_STR("drafter.check"));
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(STET_BODY_BYTES_MAX);
    stet_mp_map(&body, 0);
    w->checking = true;
    for (int page = 0; page < 64; page++) {
        stet_buf_clear(&w->answer);
        request(w, command, 0, "control", stet_buf_str(&body));
        settle(w);
        stet_mp_reader problems;
        ASSERT(stet_mp_find(stet_buf_str(&w->answer), "problems", &problems));
        ASSERT(stet_mp_read_array(&problems) == 0 && !problems.failed);
        stet_str cursor = stet_mp_get_str(stet_buf_str(&w->answer), "cursor", (stet_str){NULL, 0});
        if (cursor.size == 0)
            return;
        stet_buf_clear(&body);
        stet_mp_map(&body, 1);
        stet_mp_put_str(&body, "cursor", cursor);
    }
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    world *w = calloc(1, sizeof *w);
    ASSERT(w != NULL && stet_store_open_memory(0, &w->store, NULL) == STET_OK);
    w->wall_ms = 1700000000000;
    w->boot_ms = 1000000;
    w->answer = (stet_buf)STET_BUF(STET_BODY_BYTES_MAX);
    start(w);
    for (int i = 0; i < OPERATIONS_MAX && in.left > 0; i++)
        operate(w, &in);
    w->line_down = false;
    w->asked_count = w->asked_count > TICKETS_MAX - 80 ? TICKETS_MAX - 80 : w->asked_count;
    settle(w);
    check(w);
    w->core = stet_core_free(w->core);
    w->store = stet_store_close(w->store);
    stet_buf_done(&w->answer);
    free(w);
}

bool fuzz_seed(size_t index, stet_buf *b) {
    if (index >= 40)
        return false;
    /* Welcome, then one command after the other with some of its fields, twice; then time, answers, crash. */
    static const uint8_t welcome[] = {6, 0x00, 250, 12};
    static const uint8_t call[] = {12, 0x0d, 9, 0x0a, 12, 8, 0, 0, 12, 9, 0, 0, 0, 0, 0, 12, 6, 3, 0, 12};
    stet_buf_append(b, welcome, sizeof welcome);
    for (uint8_t i = 0; i < 8; i++) {
        const uint8_t one[] = {
            i % 4, i, (uint8_t)(index + i / 2),  0x7f, (uint8_t)(index * 7), i, (uint8_t)(i * index), 1, 2, 3,
            0,     1, (uint8_t)(i % 2 ? 12 : 10)};
        stet_buf_append(b, one, sizeof one);
        stet_buf_append(b, call, index % 3 == 0 ? sizeof call : 3);
    }
    stet_buf_append(b, (const uint8_t[]){0x0f, 13, 0xff, 12}, 4);
    return true;
}
