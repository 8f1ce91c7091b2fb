#include "tests/unit/runtime_rig.h"

#include "actors/runtime/turn.h"

#include "proto/wire/json.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the service: drafter.document.put counts per project and notes each id it was applied for; its
 * markdown says what else to do ---- */

static void put_row(stet_turn *turn, const stet_key *key, uint64_t number) {
    uint8_t room[16];
    stet_buf value = STET_BUF_ON(room, sizeof(room));
    stet_mp_uint(&value, number);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(key), stet_buf_str(&value));
}

static uint64_t get_row(stet_turn *turn, const stet_key *key) {
    stet_str value;
    stet_error e;
    if (stet_batch_get(stet_turn_batch(turn), stet_key_bytes(key), &value, &e) != STET_OK)
        return 0;
    stet_mp_reader r = stet_mp_reader_of(value);
    return stet_mp_read_uint(&r);
}

static uint64_t count_up(stet_turn *turn, stet_str project) {
    stet_key counter = stet_key_of(RIG_TABLE_COUNTERS), applied = stet_key_of(RIG_TABLE_APPLIED);
    stet_key_str(&counter, project);
    stet_key_id(&applied, stet_turn_request_id(turn));
    uint64_t n = get_row(turn, &counter) + 1;
    put_row(turn, &counter, n);
    put_row(turn, &applied, get_row(turn, &applied) + 1);
    return n;
}

static stet_code send_alert(stet_turn *turn, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(1024);
    stet_mp_map(&body, 5);
    stet_mp_put_cstr(&body, "rule", "draft.error");
    stet_mp_put_cstr(&body, "cause", "test");
    stet_mp_put_cstr(&body, "severity", "warning");
    stet_mp_put_cstr(&body, "message", "hello");
    stet_mp_put_time(&body, "at", stet_turn_wall_ms(turn));
    if (!stet_buf_ok(&body))
        return stet_error_set(e, STET_BUSY, "no memory for a message");
    return stet_turn_send(turn, "alerts.raise", stet_buf_str(&body), e);
}

static stet_code many_rows(stet_turn *turn, uint32_t rows) {
    static char big[64 << 10];
    for (uint32_t i = 0; i < rows; i++) {
        stet_key key = stet_key_of(66);
        stet_key_id(&key, stet_turn_request_id(turn));
        stet_key_u64(&key, i);
        stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), stet_str_from(big, sizeof(big)));
    }
    return STET_OK;
}

static void call(stet_turn *turn, uint32_t number) {
    stet_http_header headers[] = {{"Authorization", "Bearer x"}, {"X-Empty", ""}};
    stet_http_request request = {.method = "POST",
                                 .url = "https://example.invalid/",
                                 .headers = headers,
                                 .headers_count = 2,
                                 .body = STET_STR("{}"),
                                 .timeout_ms = 7};
    stet_error e;
    assert_int_equal(stet_turn_call(turn, (stet_call_ref){rig_id(900), 1, number}, &request, &e), STET_OK);
}

static stet_code document_put(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    const cmd_drafter_document_put *in = request;
    stet_code rc = STET_OK;
    uint64_t n = count_up(turn, in->project_id);
    stet_event event = {.session_id = in->project_id,
                        .project_id = STET_STR("p"),
                        .kind = "draft",
                        .status = "queued",
                        .attempt = 1,
                        .progress = 0.25,
                        .message = STET_STR("say \"hi\"")};
    if (stet_str_is(in->markdown, "event with more"))
        event.extra = STET_STR("\x81\xa4more\x01");
    if (stet_str_is(in->markdown, "event") || stet_str_is(in->markdown, "event with more"))
        rc = stet_turn_event(turn, &event, e);
    else if (stet_str_is(in->markdown, "send"))
        rc = send_alert(turn, e);
    else if (stet_str_is(in->markdown, "timer"))
        rc = stet_turn_timer(turn, STET_STR("t1"), stet_turn_wall_ms(turn) + 1000, STET_STR("pay"), e);
    else if (stet_str_is(in->markdown, "cancel timer"))
        rc = stet_turn_timer_cancel(turn, STET_STR("t1"), e);
    else if (stet_str_is(in->markdown, "job"))
        turn->jobs_wake = true; /* as the engine does for a job that may start */
    else if (stet_str_is(in->markdown, "large"))
        rc = many_rows(turn, 40);
    else if (stet_str_is(in->markdown, "too large"))
        rc = many_rows(turn, 80);
    else if (stet_str_is(in->markdown, "call"))
        call(turn, 1);
    else if (stet_str_is(in->markdown, "cancel call"))
        stet_turn_call_cancel(turn, (stet_call_ref){rig_id(900), 1, 1});
    else if (stet_str_is(in->markdown, "everything, then fail")) {
        rc = stet_turn_event(turn, &event, e);
        if (rc == STET_OK)
            rc = send_alert(turn, e);
        call(turn, 2);
        if (rc == STET_OK)
            rc = stet_error_set(e, STET_CONFLICT, "told to fail");
    } else if (stet_str_is(in->markdown, "busy")) {
        rc = stet_error_set(e, STET_BUSY, "told to be busy");
    }
    stet_mp_map(reply, 1);
    stet_mp_put_uint(reply, "version", n);
    return rc;
}

static stet_code document_get(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    const cmd_drafter_document_get *in = request;
    stet_key counter = stet_key_of(RIG_TABLE_COUNTERS);
    (void)e;
    stet_key_str(&counter, in->project_id);
    stet_mp_map(reply, 1);
    stet_mp_put_uint(reply, "version", get_row(turn, &counter));
    return STET_OK;
}

static stet_code on_timer(stet_turn *turn, stet_str name, stet_str payload, stet_error *e) {
    (void)e;
    assert_true(stet_str_is(payload, "pay"));
    (void)count_up(turn, name);
    return STET_OK;
}

static stet_code on_done(stet_turn *turn, stet_job *job, const stet_http_result *result, stet_error *e) {
    (void)job;
    if (result->status == 500)
        return stet_error_set(e, STET_INTERNAL, "a bug of the actor");
    if (result->status == 413)
        return many_rows(turn, 40);
    (void)count_up(turn, STET_STR("done"));
    return STET_OK;
}

static stet_code on_data(stet_turn *turn, stet_job *job, const stet_http_data *data, stet_error *e) {
    (void)turn, (void)job;
    return data->status == 500 ? stet_error_set(e, STET_INTERNAL, "a bug of the actor") : STET_OK;
}

static stet_code check_counter(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                               stet_error *e) {
    (void)turn;
    (void)e;
    if (stet_mp_check(value, (stet_mp_limits){1, 1}, NULL) != STET_OK)
        stet_check_problem(checker, "counters.unreadable", key, "not a number");
    return STET_OK;
}

static const stet_handler handlers[] = {{STET_CMD_drafter_document_put, document_put},
                                        {STET_CMD_drafter_document_get, document_get}};
static const stet_table_name tables[] = {
    {RIG_TABLE_COUNTERS, "counters"}, {RIG_TABLE_APPLIED, "applied"}, {66, "rows"}};
static const stet_check_table checks[] = {{RIG_TABLE_COUNTERS, check_counter}};
static const stet_service service = {.name = "drafter",
                                     .handlers = handlers,
                                     .handlers_count = COUNT_OF(handlers),
                                     .tables = tables,
                                     .tables_count = COUNT_OF(tables),
                                     .checks = checks,
                                     .checks_count = COUNT_OF(checks),
                                     .timer = on_timer,
                                     .call_data = on_data,
                                     .call_done = on_done};

/* ---- the edge ---- */

static void keep(stet_buf *b, stet_str text) {
    *b = (stet_buf)STET_BUF(4 << 20);
    stet_buf_append_str(b, text);
}

static bool edge_send(void *context, stet_str envelope, stet_str route, stet_str body) {
    rig *self = context;
    self->tries++;
    if (self->line_down)
        return false;
    assert_true(self->sent_count < RIG_SENT_MAX);
    rig_sent *s = &self->sent[self->sent_count++];
    keep(&s->envelope, envelope);
    keep(&s->route, route);
    keep(&s->body, body);
    return true;
}

static void edge_publish(void *context, stet_str topic, stet_str payload) {
    rig *self = context;
    assert_true(self->published_count < COUNT_OF(self->published));
    rig_sent *s = &self->published[self->published_count++];
    keep(&s->envelope, topic);
    keep(&s->body, payload);
    keep(&s->route, (stet_str){NULL, 0});
}

static void edge_call_start(void *context, stet_call_ref ref, const stet_http_request *request) {
    rig *self = context;
    assert_string_equal(request->method, "POST");
    assert_string_equal(request->headers[0].value, "Bearer x");
    assert_string_equal(request->headers[1].name, "X-Empty");
    assert_string_equal(request->headers[1].value, "");
    assert_true(stet_str_is(request->body, "{}"));
    assert_int_equal(request->timeout_ms, 7);
    self->calls[self->calls_count++] = ref;
}

static void edge_call_cancel(void *context, stet_call_ref ref) {
    rig *self = context;
    self->cancels[self->cancels_count++] = ref;
}

static void edge_work_start(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input) {
    (void)context;
    (void)ref;
    (void)work;
    (void)input;
}

static void edge_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    rig *self = context;
    (void)event;
    (void)message;
    (void)fields;
    if (level == STET_ERROR)
        self->errors_logged++;
}

/* ---- life ---- */

stet_code rig_open(rig *self, stet_error *e) {
    stet_core_edge edge = {.context = self,
                           .send = edge_send,
                           .publish = edge_publish,
                           .call_start = edge_call_start,
                           .call_cancel = edge_call_cancel,
                           .work_start = edge_work_start,
                           .log = edge_log};
    stet_core_options options = {.service = &service,
                                 .config = self->config,
                                 .store = self->store,
                                 .seed = 42 + self->lives++,
                                 .instance = rig_id(77)};
    return stet_core_new(&options, &edge, self->wall_ms, self->boot_ms, &self->core, e);
}

static void start(rig *self) {
    stet_error e = {0};
    assert_int_equal(rig_open(self, &e), STET_OK);
    rig_round(self);
    stet_envelope welcome = {.kind = STET_KIND_WELCOME,
                             .service = STET_STR("drafter"),
                             .epoch = 1,
                             .interval_ms = 250,
                             .instance = rig_id(88)};
    rig_message(self, &welcome, NULL);
    rig_round(self);
    rig_forget(self);
}

rig *rig_new(void) {
    rig *self = calloc(1, sizeof(*self));
    stet_error e = {0};
    assert_non_null(self);
    self->wall_ms = 1700000000000;
    self->boot_ms = 1000000;
    assert_int_equal(stet_config_load(NULL, &self->config, &e), STET_OK);
    assert_int_equal(stet_store_open_memory(0, &self->store, &e), STET_OK);
    rig_job_active((stet_id){{0}}, 0);
    start(self);
    return self;
}

void rig_free(rig *self) {
    rig_forget(self);
    stet_core_free(self->core);
    stet_store_close(self->store);
    stet_config_free(self->config);
    free(self);
}

void rig_crash(rig *self) {
    self->core = stet_core_free(self->core);
    stet_store_memory_crash(self->store);
    self->boot_ms += 100;
    start(self);
}

void rig_forget(rig *self) {
    for (size_t i = 0; i < self->sent_count; i++) {
        stet_buf_done(&self->sent[i].envelope);
        stet_buf_done(&self->sent[i].route);
        stet_buf_done(&self->sent[i].body);
    }
    for (size_t i = 0; i < self->published_count; i++) {
        stet_buf_done(&self->published[i].envelope);
        stet_buf_done(&self->published[i].body);
    }
    self->sent_count = 0;
    self->published_count = 0;
    self->calls_count = 0;
    self->cancels_count = 0;
    self->errors_logged = 0;
}

/* ---- inputs ---- */

stet_id rig_id(uint32_t number) {
    stet_id id = {{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80}};
    for (size_t i = 0; i < 4; i++)
        id.bytes[12 + i] = (uint8_t)(number >> (24 - 8 * i));
    return id;
}

static void message_as(rig *self, const char *role, const stet_envelope *envelope, const char *json) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), route = STET_BUF(256), body = STET_BUF(4 << 20);
    stet_error e = {0};
    stet_envelope_encode(envelope, &frame);
    stet_route_encode(&(stet_route){.ticket = 9, .role = stet_str_of(role), .remaining_ms = 1000}, &route);
    if (json && stet_json_to_mp(stet_str_of(json), STET_MP_LIMITS_BODY, &body, &e) != STET_OK)
        fail_msg("%s: %s", json, e.message);
    stet_core_message(self->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
}

void rig_message(rig *self, const stet_envelope *envelope, const char *json) {
    message_as(self, "control", envelope, json);
}

void rig_request_as(rig *self, const char *role, uint32_t number, const char *command, const char *json) {
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = rig_id(number), .command = stet_str_of(command)};
    message_as(self, role, &envelope, json);
}

void rig_request(rig *self, uint32_t number, const char *command, const char *json) {
    rig_request_as(self, "control", number, command, json);
}

void rig_send(rig *self, uint64_t sequence, const char *command, const char *json) {
    stet_envelope envelope = {.kind = STET_KIND_SEND,
                              .id = rig_id(5000 + (uint32_t)sequence),
                              .command = stet_str_of(command),
                              .service = STET_STR("publisher"),
                              .epoch = 1,
                              .sequence = sequence};
    message_as(self, "actor", &envelope, json);
}

void rig_seal(rig *self) {
    stet_core_time(self->core, self->wall_ms, self->boot_ms);
    stet_core_tick(self->core);
    stet_core_commit(self->core);
}

void rig_complete(rig *self) {
    while (stet_store_commit_in_flight(self->store))
        stet_core_complete(self->core);
}

void rig_round(rig *self) {
    rig_seal(self);
    rig_complete(self);
}

void rig_later(rig *self, int64_t ms) {
    self->wall_ms += ms;
    self->boot_ms += ms;
    stet_core_time(self->core, self->wall_ms, self->boot_ms);
}

/* ---- what came out ---- */

stet_envelope rig_envelope(const rig *self, size_t n) {
    stet_envelope envelope = {0};
    stet_error e = {0};
    assert_true(n < self->sent_count);
    assert_int_equal(stet_envelope_decode(stet_buf_str(&self->sent[n].envelope), &envelope, &e), STET_OK);
    return envelope;
}

stet_str rig_body(const rig *self, size_t n) {
    assert_true(n < self->sent_count);
    return stet_buf_str(&self->sent[n].body);
}

size_t rig_count_kind(const rig *self, stet_kind kind) {
    size_t count = 0;
    for (size_t i = 0; i < self->sent_count; i++)
        count += rig_envelope(self, i).kind == kind;
    return count;
}

size_t rig_find_kind(const rig *self, stet_kind kind, size_t n) {
    for (size_t i = n; i < self->sent_count; i++) {
        if (rig_envelope(self, i).kind == kind)
            return i;
    }
    fail_msg("no message of kind %s was sent", stet_kind_name(kind));
    return 0;
}

size_t rig_answer(const rig *self, uint32_t number) {
    for (size_t i = 0; i < self->sent_count; i++) {
        stet_envelope envelope = rig_envelope(self, i);
        if ((envelope.kind == STET_KIND_REPLY || envelope.kind == STET_KIND_ERROR) &&
            stet_id_equal(envelope.id, rig_id(number)))
            return i;
    }
    return SIZE_MAX;
}

uint64_t rig_counter(rig *self, const char *name) {
    rig_request(self, 999999, "drafter.stats", "{}");
    rig_round(self);
    size_t n = rig_answer(self, 999999);
    assert_true(n != SIZE_MAX);
    uint64_t value = stet_mp_get_uint(stet_mp_get_raw(rig_body(self, n), "counters"), name, 0);
    /* One answer at a time: a second call must find its own. */
    stet_buf_clear(&self->sent[n].envelope);
    stet_envelope_encode(&(stet_envelope){.kind = STET_KIND_HEARTBEAT}, &self->sent[n].envelope);
    return value;
}

uint32_t rig_check(rig *self, stet_buf *ret_json) {
    char cursor[2100] = "", request[2200];
    uint32_t problems = 0;
    for (uint32_t page = 0;; page++) {
        stet_error e = {0};
        uint32_t number = 800000 + page;
        (void)snprintf(request, sizeof(request),
                       cursor[0] ? "{\"limit\":7,\"cursor\":\"%s\"}" : "{\"limit\":7}", cursor);
        rig_request(self, number, "drafter.check", request);
        rig_round(self);
        size_t n = rig_answer(self, number);
        assert_true(n != SIZE_MAX);
        assert_int_equal(rig_envelope(self, n).kind, STET_KIND_REPLY);
        stet_str body = rig_body(self, n), next = stet_mp_get_str(body, "cursor", (stet_str){NULL, 0});
        stet_mp_reader r;
        assert_true(stet_mp_find(body, "problems", &r));
        problems += stet_mp_read_array(&r);
        assert_int_equal(
            stet_mp_to_json(stet_mp_get_raw(body, "problems"), (stet_json_style){0}, ret_json, &e), STET_OK);
        assert_true(next.size < sizeof(cursor));
        memcpy(cursor, next.data ? next.data : "", next.size);
        cursor[next.size] = '\0';
        rig_forget(self);
        if (next.size == 0)
            return problems;
    }
}
