#include "tests/unit/drafter_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/wire/json.h"

enum { ROUNDS_MAX = 200, TEXT_MAX = 4 << 20, PARTITION = 0 };
static const stet_mp_limits limits = {.depth_max = 16, .nodes_max = 65536};

/* ---- lines ---- */

static void add_line(rig_lines *lines, const char *format, ...) PRINTF(2, 3);
static void add_line(rig_lines *lines, const char *format, ...) {
    va_list arguments;
    assert_true(lines->count < RIG_LINES_MAX);
    va_start(arguments, format);
    assert_true(vasprintf(&lines->line[lines->count], format, arguments) >= 0);
    va_end(arguments);
    lines->count++;
}

static void free_lines(rig_lines *lines) {
    for (size_t i = 0; i < lines->count; i++)
        free(lines->line[i]);
    lines->count = 0;
}

size_t rig_count(const rig_lines *lines, const char *text) {
    size_t count = 0;
    for (size_t i = 0; i < lines->count; i++)
        count += strstr(lines->line[i], text) != NULL ? 1 : 0;
    return count;
}

const char *rig_last(const rig_lines *lines) {
    assert_true(lines->count > 0);
    return lines->line[lines->count - 1];
}

/* ---- the edge ---- */

static char *json_of(stet_str mp) {
    stet_error e;
    stet_buf json = STET_BUF(TEXT_MAX);
    if (mp.size == 0)
        return strdup("");
    if (stet_mp_to_json(mp, (stet_json_style){.indent = 0}, &json, &e) != STET_OK)
        fail_msg("%s", e.message);
    stet_buf_append_byte(&json, '\0');
    assert_true(stet_buf_ok(&json));
    return (char *)json.data;
}

static void queue_ack(rig *self, const stet_envelope *sent) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_str receiver = stet_command_service(sent->command);
    uint64_t *mark = &self->marks[stet_str_is(receiver, "alerts") ? 1 : 0];
    stet_envelope ack = {.kind = STET_KIND_ACK,
                         .id = sent->id,
                         .command = sent->command,
                         .service = receiver,
                         .partition = PARTITION,
                         .epoch = 1,
                         .sequence = *mark};
    stet_envelope_encode(&ack, &frame);
    uint32_t size = (uint32_t)frame.size;
    stet_buf_append(&self->acks, &size, sizeof(size));
    stet_buf_append_str(&self->acks, stet_buf_str(&frame));
    assert_true(stet_buf_ok(&self->acks));
}

static void take_send(rig *self, const stet_envelope *envelope, stet_str body) {
    stet_str receiver = stet_command_service(envelope->command);
    uint64_t *mark = &self->marks[stet_str_is(receiver, "alerts") ? 1 : 0];
    if (self->silent)
        return;
    if (envelope->sequence == *mark + 1) {
        char *json = json_of(body);
        add_line(&self->sends, "%.*s %s", STET_STR_ARG(envelope->command), json);
        free(json);
        (*mark)++;
    }
    queue_ack(self, envelope);
}

static bool edge_send(void *context, stet_str frame, stet_str route, stet_str body) {
    rig *self = context;
    stet_envelope envelope;
    stet_error e;
    (void)route;
    assert_int_equal(stet_envelope_decode(frame, &envelope, &e), STET_OK);
    if (envelope.kind == STET_KIND_SEND) {
        take_send(self, &envelope, body);
    } else if (envelope.kind == STET_KIND_REPLY || envelope.kind == STET_KIND_ERROR) {
        assert_false(self->answered);
        assert_true(stet_id_equal(envelope.id, self->last_request));
        self->answered = true;
        self->refused = envelope.kind == STET_KIND_ERROR;
        stet_buf_clear(&self->reply);
        stet_buf_append_str(&self->reply, body);
    }
    return true;
}

static void edge_publish(void *context, stet_str topic, stet_str payload) {
    rig *self = context;
    add_line(&self->topics, "%.*s", STET_STR_ARG(topic));
    add_line(&self->events, "%.*s", STET_STR_ARG(payload));
}

static void edge_call_start(void *context, stet_call_ref ref, const stet_http_request *request) {
    rig *self = context;
    assert_true(self->calls_count < RIG_CALLS_MAX);
    rig_call *call = &self->calls[self->calls_count++];
    *call = (rig_call){.ref = ref,
                       .boot_ms = self->boot_ms,
                       .open = true,
                       .url = STET_BUF(4096),
                       .headers = STET_BUF(8192),
                       .body = STET_BUF(DRAFTER_REQUEST_MAX)};
    stet_buf_printf(&call->url, "%s %s", request->method, request->url);
    for (size_t i = 0; i < request->headers_count; i++)
        stet_buf_printf(&call->headers, "%s: %s\n", request->headers[i].name, request->headers[i].value);
    stet_buf_append_str(&call->body, request->body);
    stet_buf_append_byte(&call->url, '\0');
    stet_buf_append_byte(&call->headers, '\0');
    stet_buf_append_byte(&call->body, '\0');
}

static void edge_call_cancel(void *context, stet_call_ref ref) {
    rig *self = context;
    for (size_t i = 0; i < self->calls_count; i++) {
        rig_call *call = &self->calls[i];
        if (call->open && stet_id_equal(call->ref.job_id, ref.job_id) && call->ref.attempt == ref.attempt &&
            call->ref.number == ref.number) {
            call->open = false;
            call->cancelled = true;
        }
    }
}

static void edge_work_start(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input) {
    (void)context;
    (void)ref;
    (void)work;
    (void)input;
    fail_msg("the drafter has no work for threads");
}

static void edge_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    rig *self = context;
    CLEANUP(stet_buf_done) stet_buf line = STET_BUF(16 << 10);
    stet_buf_printf(&line, "%s%s %s %s", level & STET_RECORD ? "record " : "", stet_level_name(level), event,
                    message);
    for (; fields && fields->name; fields++) {
        if (fields->type == STET_LOG_INT)
            stet_buf_printf(&line, " %s=%lld", fields->name, (long long)fields->number);
        else
            stet_buf_printf(&line, " %s=%.*s", fields->name, STET_STR_ARG(fields->text));
    }
    add_line(&self->logs, "%.*s", STET_STR_ARG(stet_buf_str(&line)));
}

/* ---- life ---- */

static void welcome(rig *self) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope envelope = {.kind = STET_KIND_WELCOME,
                              .service = STET_STR("drafter"),
                              .epoch = 1,
                              .interval_ms = 250,
                              .instance = {.bytes = {7}},
                              .software = STET_STR("test")};
    stet_envelope_encode(&envelope, &frame);
    stet_core_message(self->core, stet_buf_str(&frame), (stet_str){NULL, 0}, (stet_str){NULL, 0});
}

static void begin_life(rig *self) {
    stet_error e;
    stet_core_edge edge = {.context = self,
                           .send = edge_send,
                           .publish = edge_publish,
                           .call_start = edge_call_start,
                           .call_cancel = edge_call_cancel,
                           .work_start = edge_work_start,
                           .log = edge_log};
    stet_core_options options = {.service = &drafter_service,
                                 .config = self->config,
                                 .store = self->store,
                                 .seed = 42 + self->lives,
                                 .instance = {.bytes = {1, (uint8_t)self->lives}},
                                 .partition = PARTITION};
    self->lives++;
    if (stet_core_new(&options, &edge, self->wall_ms, self->boot_ms, &self->core, &e) != STET_OK)
        fail_msg("%s", e.message);
    rig_settle(self);
}

static void set(rig *self, const char *key, const char *value) {
    stet_error e;
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        if (strcmp(stet_setting_at((stet_setting)i)->key, key) == 0) {
            if (stet_config_set(self->config, (stet_setting)i, value, &e) != STET_OK)
                fail_msg("%s", e.message);
            return;
        }
    }
    fail_msg("no setting %s", key);
}

void rig_start(rig *self, const char *const *settings) {
    stet_error e;
    *self = (rig){.wall_ms = 1790000000000,
                  .boot_ms = 1000,
                  .ids = stet_id_source_of(4711),
                  .reply = STET_BUF(TEXT_MAX),
                  .acks = STET_BUF(TEXT_MAX)};
    assert_int_equal(stet_config_load(NULL, &self->config, &e), STET_OK);
    set(self, "openai.apiKey", "sk-test");
    set(self, "openai.baseUrl", "http://127.0.0.1:9/v1");
    set(self, "openai.model", "model-x");
    for (; settings && settings[0]; settings += 2)
        set(self, settings[0], settings[1]);
    if (stet_store_open_memory(PARTITION, &self->store, &e) != STET_OK)
        fail_msg("%s", e.message);
    begin_life(self);
}

static void drop_calls(rig *self) {
    for (size_t i = 0; i < self->calls_count; i++)
        self->calls[i].open = false;
}

void rig_crash(rig *self) {
    self->core = stet_core_free(self->core);
    stet_store_memory_crash(self->store);
    drop_calls(self);
    stet_buf_clear(&self->acks);
    begin_life(self);
}

void rig_done(rig *self) {
    self->core = stet_core_free(self->core);
    self->store = stet_store_close(self->store);
    self->config = stet_config_free(self->config);
    for (size_t i = 0; i < self->calls_count; i++) {
        stet_buf_done(&self->calls[i].url);
        stet_buf_done(&self->calls[i].headers);
        stet_buf_done(&self->calls[i].body);
    }
    free_lines(&self->events);
    free_lines(&self->topics);
    free_lines(&self->sends);
    free_lines(&self->logs);
    stet_buf_done(&self->reply);
    stet_buf_done(&self->acks);
}

static void hand_in_acks(rig *self) {
    stet_buf acks = self->acks;
    self->acks = (stet_buf)STET_BUF(TEXT_MAX);
    for (size_t at = 0; at < acks.size;) {
        uint32_t size;
        memcpy(&size, acks.data + at, sizeof(size));
        at += sizeof(size);
        stet_core_message(self->core, stet_str_from(acks.data + at, size), (stet_str){NULL, 0},
                          (stet_str){NULL, 0});
        at += size;
    }
    stet_buf_done(&acks);
}

void rig_settle(rig *self) {
    stet_error e = {.code = STET_OK};
    welcome(self);
    for (int i = 0; i < ROUNDS_MAX; i++) {
        uint64_t number = stet_store_last_number(self->store);
        stet_core_time(self->core, self->wall_ms, self->boot_ms);
        hand_in_acks(self);
        stet_core_tick(self->core);
        stet_core_commit(self->core);
        stet_core_complete(self->core);
        if (stet_core_fatal(self->core, &e) != 0)
            fail_msg("the core ended: %s", e.message);
        if (stet_store_last_number(self->store) == number && !stet_store_commit_in_flight(self->store) &&
            self->acks.size == 0 && i > 0)
            return;
    }
    fail_msg("the actor does not settle");
}

void rig_pass(rig *self, int64_t ms) {
    self->wall_ms += ms;
    self->boot_ms += ms;
    rig_settle(self);
}

/* ---- asking ---- */

static bool ask(rig *self, stet_id id, const char *command, const char *json) {
    stet_error e;
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(TEXT_MAX);
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    CLEANUP(stet_buf_done) stet_buf route = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    if (stet_json_to_mp(stet_str_of(json), limits, &body, &e) != STET_OK)
        fail_msg("%s in %s", e.message, json);
    stet_envelope envelope = {
        .kind = STET_KIND_REQUEST, .id = id, .command = stet_str_of(command), .timeout_ms = 5000};
    stet_envelope_encode(&envelope, &frame);
    stet_route_encode(&(stet_route){.ticket = 9, .role = STET_STR("control"), .remaining_ms = 5000}, &route);
    self->last_request = id;
    self->answered = false;
    stet_core_time(self->core, self->wall_ms, self->boot_ms);
    stet_core_message(self->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(&body));
    rig_settle(self);
    assert_true(self->answered);
    return !self->refused;
}

static bool ask_va(rig *self, stet_id id, const char *command, const char *format, va_list arguments)
    PRINTF(4, 0);
static bool ask_va(rig *self, stet_id id, const char *command, const char *format, va_list arguments) {
    char *json;
    assert_true(vasprintf(&json, format, arguments) >= 0);
    bool good = ask(self, id, command, json);
    free(json);
    return good;
}

bool rig_ask(rig *self, const char *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    bool good = ask_va(self, stet_id_next(&self->ids, self->wall_ms), command, format, arguments);
    va_end(arguments);
    return good;
}

bool rig_ask_as(rig *self, stet_id id, const char *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    bool good = ask_va(self, id, command, format, arguments);
    va_end(arguments);
    return good;
}

stet_id rig_submit(rig *self, const char *project, const char *session) {
    stet_id id;
    if (!rig_ask(self, "drafter.submit",
                 "{\"projectId\":\"%s\",\"sessionId\":\"%s\",\"instruction\":\"Write.\"}", project, session))
        fail_msg("%s", rig_get(self, "message"));
    assert_true(stet_id_parse(stet_str_of(rig_get(self, "jobId")), &id));
    return id;
}

/* ---- looking ---- */

/* One step down: a key of a map or an index of an array. */
static bool step(stet_str *value, const char *name, size_t size) {
    char key[64];
    assert_true(size < sizeof(key));
    memcpy(key, name, size);
    key[size] = '\0';
    stet_mp_reader r = stet_mp_reader_of(*value);
    if (stet_mp_peek(&r) == STET_MP_MAP) {
        *value = stet_mp_get_raw(*value, key);
        return value->size > 0;
    }
    if (stet_mp_peek(&r) != STET_MP_ARRAY)
        return false;
    uint32_t count = stet_mp_read_array(&r);
    unsigned long index = strtoul(key, NULL, 10);
    if (index >= count)
        return false;
    for (unsigned long i = 0; i < index; i++)
        (void)stet_mp_read_raw(&r);
    *value = stet_mp_read_raw(&r);
    return !r.failed;
}

static const char *get(stet_str value, const char *path) {
    static _Thread_local char text[64 << 10];
    for (const char *at = path; *at;) {
        size_t size = strcspn(at, ".");
        if (!step(&value, at, size))
            return "(none)";
        at += size + (at[size] == '.' ? 1 : 0);
    }
    stet_mp_reader r = stet_mp_reader_of(value);
    if (stet_mp_peek(&r) == STET_MP_STR) {
        stet_str found = stet_mp_read_str(&r);
        assert_true(found.size < sizeof(text));
        (void)snprintf(text, sizeof(text), "%.*s", STET_STR_ARG(found));
        return text;
    }
    char *json = json_of(value);
    assert_true(strlen(json) < sizeof(text));
    (void)snprintf(text, sizeof(text), "%s", json);
    free(json);
    return text;
}

const char *rig_get(rig *self, const char *path) {
    return get(stet_buf_str(&self->reply), path);
}

const char *rig_json_get(const char *json, const char *path) {
    stet_error e;
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(TEXT_MAX);
    if (stet_json_to_mp(stet_str_of(json), limits, &mp, &e) != STET_OK)
        fail_msg("%s in %s", e.message, json);
    return get(stet_buf_str(&mp), path);
}

const char *rig_job(rig *self, stet_id id, const char *path) {
    char text[STET_ID_TEXT_SIZE];
    char whole[128];
    stet_id_text(id, text);
    if (!rig_ask(self, "drafter.job", "{\"jobId\":\"%s\"}", text))
        fail_msg("%s", rig_get(self, "message"));
    (void)snprintf(whole, sizeof(whole), "job.%s", path);
    return rig_get(self, whole);
}

size_t rig_check_problems(rig *self) {
    size_t problems = 0;
    char cursor[4096] = "";
    for (int page = 0; page < 1000; page++) {
        bool good = cursor[0] ? rig_ask(self, "drafter.check", "{\"cursor\":\"%s\"}", cursor)
                              : rig_ask(self, "drafter.check", "{}");
        if (!good)
            fail_msg("%s", rig_get(self, "message"));
        stet_str list = stet_mp_get_raw(stet_buf_str(&self->reply), "problems");
        stet_mp_reader r = stet_mp_reader_of(list);
        uint32_t count = stet_mp_read_array(&r);
        if (count > 0)
            print_message("%s\n", rig_get(self, "problems"));
        problems += count;
        (void)snprintf(cursor, sizeof(cursor), "%s", rig_get(self, "cursor"));
        if (strcmp(cursor, "(none)") == 0)
            break;
    }
    return problems;
}

/* ---- the model's server ---- */

rig_call *rig_open_call(rig *self) {
    for (size_t i = self->calls_count; i > 0; i--) {
        if (self->calls[i - 1].open)
            return &self->calls[i - 1];
    }
    fail_msg("the actor has no call open");
    return NULL;
}

size_t rig_open_calls(const rig *self) {
    size_t count = 0;
    for (size_t i = 0; i < self->calls_count; i++)
        count += self->calls[i].open ? 1 : 0;
    return count;
}

void rig_call_data(rig *self, rig_call *call, uint32_t status, const char *bytes) {
    stet_core_time(self->core, self->wall_ms, self->boot_ms);
    stet_core_call_data(self->core,
                        &(stet_http_data){.ref = call->ref, .status = status, .bytes = stet_str_of(bytes)});
    rig_settle(self);
}

void rig_call_end(rig *self, rig_call *call, uint32_t status, stet_http_failure failure,
                  int64_t retry_after_ms) {
    call->open = false;
    stet_core_time(self->core, self->wall_ms, self->boot_ms);
    stet_core_call_done(self->core,
                        &(stet_http_result){.ref = call->ref,
                                            .failure = failure,
                                            .status = status,
                                            .reason = failure == STET_HTTP_NONE ? "" : "as the test wants",
                                            .request_id = STET_STR("req-1"),
                                            .retry_after_ms = retry_after_ms,
                                            .elapsed_ms = 5});
    rig_settle(self);
}

void rig_call_answer(rig *self, rig_call *call, uint32_t status, const char *body, size_t piece) {
    size_t size = strlen(body);
    char *bytes = malloc(piece + 1);
    assert_non_null(bytes);
    for (size_t at = 0; at < size && call->open; at += piece) {
        size_t now = piece < size - at ? piece : size - at;
        memcpy(bytes, body + at, now);
        bytes[now] = '\0';
        rig_call_data(self, call, status, bytes);
    }
    free(bytes);
    if (call->open)
        rig_call_end(self, call, status, STET_HTTP_NONE, -1);
}

char *rig_stream(const char *markdown, const char *summary) {
    CLEANUP(stet_buf_done) stet_buf answer = STET_BUF(TEXT_MAX);
    CLEANUP(stet_buf_done) stet_buf content = STET_BUF(TEXT_MAX);
    stet_buf stream = STET_BUF(TEXT_MAX);
    stet_buf_append_str(&answer, STET_STR("{\"markdown\":"));
    stet_json_quote(&answer, stet_str_of(markdown));
    stet_buf_append_str(&answer, STET_STR(",\"summary\":"));
    stet_json_quote(&answer, stet_str_of(summary));
    stet_buf_append_byte(&answer, '}');
    stet_json_quote(&content, stet_buf_str(&answer));
    stet_buf_printf(&stream,
                    "data: {\"model\":\"model-x-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%.*s},"
                    "\"finish_reason\":null}]}\n\n"
                    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100}}\n\n"
                    "data: [DONE]\n\n",
                    STET_STR_ARG(stet_buf_str(&content)));
    stet_buf_append_byte(&stream, '\0');
    assert_true(stet_buf_ok(&stream));
    return (char *)stream.data;
}

void rig_land(rig *self, const char *markdown, const char *summary) {
    char *stream = rig_stream(markdown, summary);
    rig_call_answer(self, rig_open_call(self), 200, stream, strlen(stream));
    free(stream);
}
