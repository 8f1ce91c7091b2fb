/* A store whose rows are anything: the actor starts on it or says why not, answers every request, says of rows
 * that it cannot read that it cannot, and its check finds them; no row ends the process or keeps it busy. Every
 * row can be shown as JSON.
 *
 * Input: a byte, then rows: key and value. Seeds are the rows of a drafter that has worked. */
#include <stdlib.h>

#include "actors/drafter/drafter.h"
#include "actors/runtime/builtin.h"
#include "actors/runtime/core.h"
#include "actors/runtime/outbox.h"
#include "actors/runtime/records.h"
#include "proto/wire/envelope.h"
#include "proto/wire/json.h"
#include "tests/fuzz/body.h"

enum { ROWS_MAX = 512, CALLS_MAX = 16, LIVE_STEPS = 12, AT_ONCE_MAX = 60 };

typedef struct world {
    stet_store *store;
    stet_core *core;
    int64_t wall_ms, boot_ms;
    uint32_t asked, answered;
    stet_call_ref calls[CALLS_MAX];
    uint32_t calls_count;
    uint64_t problems; /* found by the check; UINT64_MAX: it could not be made */
    bool checking;
    stet_buf cursor;
} world;

/* ---- the edge ---- */

static void note_check(world *w, stet_kind kind, stet_str body) {
    stet_mp_reader problems;
    stet_buf_clear(&w->cursor);
    if (kind == STET_KIND_ERROR || !stet_mp_find(body, "problems", &problems)) {
        w->problems = UINT64_MAX;
        return;
    }
    w->problems += stet_mp_read_array(&problems);
    stet_buf_append_str(&w->cursor, stet_mp_get_str(body, "cursor", (stet_str){NULL, 0}));
}

static bool edge_send(void *context, stet_str frame, stet_str route, stet_str body) {
    world *w = context;
    stet_envelope envelope;
    (void)route;
    ASSERT(stet_envelope_decode(frame, &envelope, NULL) == STET_OK);
    if (envelope.kind != STET_KIND_REPLY && envelope.kind != STET_KIND_ERROR)
        return true;
    w->answered++;
    if (w->checking)
        note_check(w, envelope.kind, body);
    return true;
}

static void edge_publish(void *context, stet_str topic, stet_str payload) {
    (void)context;
    ASSERT(topic.size > 0 && payload.size > 0);
}

static void edge_call_start(void *context, stet_call_ref ref, const stet_http_request *request) {
    world *w = context;
    ASSERT(stet_utf8_valid(request->body));
    if (w->calls_count < CALLS_MAX)
        w->calls[w->calls_count++] = ref;
}

static void edge_call_cancel(void *context, stet_call_ref ref) {
    (void)context, (void)ref;
}

static void edge_work_start(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input) {
    (void)context, (void)ref, (void)work, (void)input;
}

static void edge_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    (void)context, (void)level, (void)event, (void)message, (void)fields;
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

static world *world_new(void) {
    world *w = calloc(1, sizeof *w);
    ASSERT(w != NULL && stet_store_open_memory(0, &w->store, NULL) == STET_OK);
    w->wall_ms = 1700000000000;
    w->boot_ms = 1000000;
    w->cursor = (stet_buf)STET_BUF(STET_BODY_BYTES_MAX);
    return w;
}

static void world_free(world *w) {
    w->core = stet_core_free(w->core);
    w->store = stet_store_close(w->store);
    stet_buf_done(&w->cursor);
    free(w);
}

static bool start(world *w) {
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
                                       .seed = 1,
                                       .instance = {{1}}};
    stet_error e;
    if (stet_core_new(&options, &edge, w->wall_ms, w->boot_ms, &w->core, &e) == STET_OK)
        return true;
    ASSERT(w->core == NULL && e.message[0] != '\0');
    return false;
}

/* Commits until nothing is left. False when the process would end. */
static bool settle(world *w) {
    for (int i = 0; i < 64 && stet_core_fatal(w->core, NULL) == 0; i++) {
        stet_core_commit(w->core);
        if (!stet_store_commit_in_flight(w->store) && stet_batch_count(stet_store_batch(w->store)) == 0)
            return true;
        stet_core_complete(w->core);
    }
    return stet_core_fatal(w->core, NULL) == 0;
}

/* Time goes on, in steps; between them the core is ticked as often as it wants to be at once. */
static bool live(world *w, int64_t ms) {
    for (int i = 0; i < LIVE_STEPS; i++) {
        w->boot_ms += ms / LIVE_STEPS;
        w->wall_ms += ms / LIVE_STEPS;
        stet_core_time(w->core, w->wall_ms, w->boot_ms);
        int at_once = 0;
        do {
            ASSERT(at_once++ < AT_ONCE_MAX); /* what cannot be done must not be tried without a pause */
            stet_core_tick(w->core);
            if (!settle(w))
                return false;
        } while (stet_core_next_wake_boot_ms(w->core) <= w->boot_ms);
    }
    return true;
}

static bool request(world *w, const stet_command *command, stet_str body) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX), route = STET_BUF(256);
    stet_id id = {
        {1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, [14] = (uint8_t)(w->asked >> 8), [15] = (uint8_t)w->asked}};
    stet_envelope_encode(
        &(stet_envelope){.kind = STET_KIND_REQUEST, .id = id, .command = stet_str_of(command->name)}, &frame);
    stet_route_encode(&(stet_route){.ticket = 1, .role = STET_STR("control"), .remaining_ms = 1000}, &route);
    w->asked++;
    stet_core_message(w->core, stet_buf_str(&frame), stet_buf_str(&route), body);
    bool lives = settle(w);
    ASSERT(!lives || w->answered == w->asked);
    return lives;
}

/* ---- what an actor that works does ---- */

static bool check(world *w) {
    const stet_command *command = stet_command_find(STET_STR("drafter.check"));
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(STET_BODY_BYTES_MAX);
    w->checking = true;
    w->problems = 0;
    stet_buf_clear(&w->cursor);
    bool lives = true;
    for (int page = 0; lives && page < 16 && (page == 0 || w->cursor.size > 0); page++) {
        stet_buf_clear(&body);
        stet_mp_map(&body, w->cursor.size > 0);
        if (w->cursor.size > 0)
            stet_mp_put_str(&body, "cursor", stet_buf_str(&w->cursor));
        lives = request(w, command, stet_buf_str(&body));
    }
    w->checking = false;
    return lives;
}

static bool ask_everything(world *w, uint8_t choice) {
    for (int i = 0; i < STET_CMD_COUNT; i++) {
        const stet_command *command = stet_command_at((stet_command_index)i);
        if (!stet_str_is(stet_command_service(stet_str_of(command->name)), "drafter"))
            continue;
        uint8_t bytes[64];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (uint8_t)(choice + i + (int)k * (choice % 5));
        CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(bytes, sizeof bytes);
        CLEANUP(stet_buf_done) stet_buf body = STET_BUF(STET_BODY_BYTES_MAX);
        fuzz_put_body(&in, &command->record, &body);
        if (!request(w, command, stet_buf_str(&body)))
            return false;
    }
    return true;
}

static bool answer_calls(world *w) {
    while (w->calls_count > 0) {
        stet_call_ref ref = w->calls[--w->calls_count];
        stet_http_data data = {
            .ref = ref,
            .status = 200,
            .bytes = STET_STR("data: {\"choices\":[{\"delta\":{\"content\":\"{\\\"markdown\\\":"
                              "\\\"# A\\\",\\\"summary\\\":\\\"s\\\"}\"}}]}\n\ndata: [DONE]\n\n")};
        stet_http_result result = {.ref = ref, .status = 200, .reason = "", .retry_after_ms = -1};
        stet_core_call_data(w->core, &data);
        stet_core_call_done(w->core, &result);
        if (!settle(w))
            return false;
    }
    return true;
}

/* ---- rows ---- */

/* As --inspect prints them. */
static void show(stet_str key, stet_str value) {
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(32 << 20), mp = STET_BUF(32 << 20);
    stet_mp_limits limits = {.depth_max = 64, .nodes_max = 1 << 20};
    stet_key_json(key, stet_table_name_of(&drafter_service, (uint8_t)key.data[0]), &json);
    ASSERT(stet_json_to_mp(stet_buf_str(&json), limits, &mp, NULL) == STET_OK);
    stet_buf_clear(&json);
    if (stet_mp_check(value, limits, NULL) != STET_OK ||
        stet_mp_to_json(value, (stet_json_style){.ids = true, .nested = true}, &json, NULL) != STET_OK)
        return;
    stet_buf_clear(&mp);
    ASSERT(stet_json_to_mp(stet_buf_str(&json), (stet_mp_limits){.depth_max = 64, .nodes_max = 1 << 21}, &mp,
                           NULL) == STET_OK);
}

static bool readable(stet_str key, stet_str value) {
    stet_duplicate duplicate;
    stet_event_head head;
    stet_timer_row timer;
    stet_outbox_row row;
    stet_outbox_head outbox;
    uint64_t mark;
    switch ((uint8_t)key.data[0]) {
    case STET_TABLE_DUPLICATES:
        return stet_duplicates_decode(value, &duplicate);
    case STET_TABLE_EVENT_HEADS:
        return stet_events_head_decode(value, &head);
    case STET_TABLE_TIMERS:
        return stet_timers_decode(value, &timer);
    case STET_TABLE_OUTBOX:
        return stet_outbox_row_decode(value, &row);
    case STET_TABLE_OUTBOX_HEADS:
        return stet_outbox_head_decode(value, &outbox);
    case STET_TABLE_INBOX_MARKS:
        return stet_inbox_decode(value, &mark);
    default:
        return true;
    }
}

/* Returns whether all of them could be read. */
static bool put_rows(world *w, fuzz_input *in) {
    stet_batch *batch = stet_store_batch(w->store);
    bool good = true;
    uint64_t ticket;
    stet_completion completion;
    for (int i = 0; i < ROWS_MAX && in->left > 0; i++) {
        stet_str key = fuzz_piece(in), value = fuzz_piece(in);
        if (key.size == 0 || key.size > STET_KEY_BYTES_MAX || key.data[0] == STET_TABLE_META ||
            stet_batch_bytes(batch) + key.size + value.size > STET_BATCH_BYTES_MAX / 2)
            continue;
        show(key, value);
        good &= readable(key, value);
        stet_batch_put(batch, key, value);
    }
    if (stet_batch_count(batch) == 0)
        return true;
    ASSERT(stet_batch_commit(batch, w->wall_ms, &ticket, NULL) == STET_OK);
    ASSERT(stet_store_next_completion(w->store, &completion) && completion.result == STET_COMMIT_OK);
    return good;
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    world *w = world_new();
    uint8_t choice = fuzz_byte(&in);
    stet_store_memory_damaged(w->store);
    bool good = put_rows(w, &in);
    bool lives = start(w) && settle(w) && check(w);
    /* A row that two of the input claim may be a good one after all. */
    ASSERT(!lives || good || w->problems > 0 || w->asked == 0);
    (void)(lives && ask_everything(w, choice) && live(w, 2000) && answer_calls(w) &&
           live(w, 24 * 3600 * 1000) && ask_everything(w, choice) &&
           live(w, INT64_C(40) * 24 * 3600 * 1000) && check(w));
    world_free(w);
}

/* ---- seeds ---- */

static void work(world *w, size_t index) {
    ASSERT(start(w) && settle(w));
    for (uint8_t i = 0; i < 6; i++) {
        ASSERT(ask_everything(w, (uint8_t)(index * 41 + i)));
        ASSERT(live(w, 300));
        if (i % 2 == index % 2)
            ASSERT(answer_calls(w));
    }
}

/* Names that leave no room in a key. */
static void put_long_names(stet_buf *b) {
    static const uint8_t tables[] = {2,  3,  4,  5,  6,  7,  8,  9,  16, 17, 18,
                                     20, 22, 23, 24, 26, 64, 65, 66, 67, 68, 71};
    uint8_t key[STET_KEY_BYTES_MAX];
    memset(key, 'x', sizeof key);
    stet_buf_append_byte(b, 0);
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        key[0] = tables[i];
        key[1] = 'S';
        memcpy(key + 750, "\0\x01U\0\0\0\0\0\0\0\x01", 11);
        fuzz_put_piece(b, stet_str_from(key, i % 2 ? 752 : 761));
        fuzz_put_piece(b, STET_STR("\x96\x01\x01\x00\x05\x02\x00"));
    }
}

bool fuzz_seed(size_t index, stet_buf *b) {
    if (index == 24)
        put_long_names(b);
    if (index >= 24)
        return index == 24;
    world *w = world_new();
    work(w, index);
    stet_str key, value;
    stet_buf_append_byte(b, (uint8_t)index);
    stet_scan *scan =
        stet_batch_scan(stet_store_batch(w->store), (stet_str){NULL, 0}, (stet_str){NULL, 0}, false);
    ASSERT(scan != NULL);
    for (uint32_t i = 0; stet_scan_next(scan, &key, &value); i++) {
        /* Not too many of one table. */
        if (key.data[0] == STET_TABLE_META || i % 8 != index % 8 || b->size + key.size + value.size > 8000)
            continue;
        fuzz_put_piece(b, key);
        fuzz_put_piece(b, value);
    }
    stet_scan_done(&scan);
    world_free(w);
    return true;
}
