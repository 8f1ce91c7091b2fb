#include "actors/drafter/answer.h"

#include <stdlib.h>

#include "proto/wire/json.h"
#include "proto/wire/mp.h"

static const stet_mp_limits json_limits = {.depth_max = 16, .nodes_max = 65536};

drafter_answer *drafter_answer_new(void) {
    drafter_answer *self = calloc(1, sizeof(*self));
    if (!self)
        return NULL;
    self->sse = drafter_sse_of(DRAFTER_EVENT_MAX);
    self->content.size_max = DRAFTER_CONTENT_MAX;
    self->refusal.size_max = DRAFTER_CONTENT_MAX;
    self->body.size_max = DRAFTER_JSON_ANSWER_MAX;
    self->scratch.size_max = DRAFTER_JSON_ANSWER_MAX;
    return self;
}

drafter_answer *drafter_answer_free(drafter_answer *self) {
    if (self) {
        drafter_sse_done(&self->sse);
        stet_buf_done(&self->content);
        stet_buf_done(&self->refusal);
        stet_buf_done(&self->body);
        stet_buf_done(&self->scratch);
        free(self);
    }
    return NULL;
}

static void copy_text(char *to, size_t to_size, stet_str from) {
    size_t size = stet_utf8_cut(from, to_size - 1);
    if (size > 0)
        memcpy(to, from.data, size);
    to[size] = '\0';
}

/* A field that servers write as text, number or null. */
static void copy_scalar(char *to, size_t to_size, stet_str map, const char *key) {
    stet_mp_reader value;
    to[0] = '\0';
    if (!stet_mp_find(map, key, &value))
        return;
    if (stet_mp_peek(&value) == STET_MP_STR)
        copy_text(to, to_size, stet_mp_read_str(&value));
    else if (stet_mp_peek(&value) == STET_MP_UINT) {
        uint64_t number = stet_mp_read_uint(&value);
        stet_buf text = STET_BUF(32);
        stet_buf_printf(&text, "%llu", (unsigned long long)number);
        copy_text(to, to_size, stet_buf_str(&text));
        stet_buf_done(&text);
    }
}

/* True when the map holds an error. */
static bool take_error(drafter_answer *self, stet_str map) {
    stet_mp_reader value;
    stet_str source = map;
    if (stet_mp_find(map, "error", &value)) {
        if (stet_mp_peek(&value) == STET_MP_NIL)
            return false;
        if (stet_mp_peek(&value) == STET_MP_STR) {
            copy_text(self->error.message, sizeof(self->error.message), stet_mp_read_str(&value));
            self->error.present = true;
            return true;
        }
        source = stet_mp_read_raw(&value);
    } else if (!stet_str_is(stet_mp_get_str(map, "object", STET_STR("")), "error")) {
        return false;
    }
    copy_scalar(self->error.type, sizeof(self->error.type), source, "type");
    copy_scalar(self->error.code, sizeof(self->error.code), source, "code");
    copy_text(self->error.message, sizeof(self->error.message),
              stet_mp_get_str(source, "message", STET_STR("")));
    self->error.present = true;
    return true;
}

static void take_usage(drafter_answer *self, stet_str usage) {
    stet_mp_reader r = stet_mp_reader_of(usage);
    if (usage.size == 0 || stet_mp_peek(&r) != STET_MP_MAP)
        return;
    stet_str prompt_details = stet_mp_get_raw(usage, "prompt_tokens_details");
    stet_str completion_details = stet_mp_get_raw(usage, "completion_tokens_details");
    self->usage = (drafter_usage){
        .known = true,
        .prompt = stet_mp_get_uint(usage, "prompt_tokens", 0),
        .completion = stet_mp_get_uint(usage, "completion_tokens", 0),
        .cached = stet_mp_get_uint(prompt_details, "cached_tokens", 0),
        .reasoning = stet_mp_get_uint(completion_details, "reasoning_tokens", 0),
    };
}

static void look_at_room(drafter_answer *self, const stet_buf *b) {
    self->starved |= stet_buf_starved(b);
    self->too_large |= !stet_buf_ok(b) && !stet_buf_starved(b);
}

/* delta: chunks of a stream; message: a whole answer. */
static void take_choice(drafter_answer *self, stet_str choice) {
    stet_str part = stet_mp_get_raw(choice, "delta");
    if (part.size == 0)
        part = stet_mp_get_raw(choice, "message");
    stet_buf_append_str(&self->content, stet_mp_get_str(part, "content", (stet_str){NULL, 0}));
    stet_buf_append_str(&self->refusal, stet_mp_get_str(part, "refusal", (stet_str){NULL, 0}));
    stet_str finish = stet_mp_get_str(choice, "finish_reason", (stet_str){NULL, 0});
    if (finish.size > 0)
        copy_text(self->finish_reason, sizeof(self->finish_reason), finish);
    look_at_room(self, &self->content);
    look_at_room(self, &self->refusal);
}

static void take_object(drafter_answer *self, stet_str map) {
    if (take_error(self, map))
        return;
    stet_str model = stet_mp_get_str(map, "model", (stet_str){NULL, 0});
    if (model.size > 0)
        copy_text(self->model, sizeof(self->model), model);
    take_usage(self, stet_mp_get_raw(map, "usage"));
    stet_str choices = stet_mp_get_raw(map, "choices");
    stet_mp_reader r = stet_mp_reader_of(choices);
    if (choices.size == 0 || stet_mp_peek(&r) != STET_MP_ARRAY)
        return;
    uint32_t count = stet_mp_read_array(&r);
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str choice = stet_mp_read_raw(&r);
        if (stet_mp_get_uint(choice, "index", 0) == 0)
            take_choice(self, choice);
    }
}

static bool read_object(drafter_answer *self, stet_str json) {
    stet_error ignored;
    stet_buf_clear(&self->scratch);
    if (stet_json_to_mp(json, json_limits, &self->scratch, &ignored) != STET_OK)
        return false;
    stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&self->scratch));
    return stet_mp_peek(&r) == STET_MP_MAP;
}

static void take_event(void *context, const char *name, stet_str data) {
    drafter_answer *self = context;
    if (self->done || self->error.present || self->malformed)
        return;
    if (stet_str_is(data, "[DONE]")) {
        self->done = true;
        return;
    }
    if (!read_object(self, data)) {
        self->malformed = true;
        return;
    }
    take_object(self, stet_buf_str(&self->scratch));
    if (strcmp(name, "error") == 0 && !self->error.present) {
        stet_str map = stet_buf_str(&self->scratch);
        copy_scalar(self->error.type, sizeof(self->error.type), map, "type");
        copy_scalar(self->error.code, sizeof(self->error.code), map, "code");
        copy_text(self->error.message, sizeof(self->error.message),
                  stet_mp_get_str(map, "message", STET_STR("")));
        self->error.present = true;
    }
}

/* The first byte that is not white space tells a JSON answer from a stream. */
static void find_kind(drafter_answer *self, stet_str bytes) {
    for (size_t i = 0; i < bytes.size; i++) {
        char c = bytes.data[i];
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
            continue;
        self->kind = c == '{' ? DRAFTER_BODY_JSON : DRAFTER_BODY_STREAM;
        return;
    }
}

void drafter_answer_feed(drafter_answer *self, uint32_t status, stet_str bytes) {
    self->status = status;
    if (status != 200) {
        size_t room = self->body.size < DRAFTER_ERROR_BODY_MAX ? DRAFTER_ERROR_BODY_MAX - self->body.size : 0;
        stet_buf_append(&self->body, bytes.data, bytes.size < room ? bytes.size : room);
        return;
    }
    if (self->done || self->too_large || self->starved)
        return;
    if (self->kind == DRAFTER_BODY_UNKNOWN)
        find_kind(self, bytes);
    if (self->kind == DRAFTER_BODY_JSON) {
        stet_buf_append_str(&self->body, bytes);
        look_at_room(self, &self->body);
        return;
    }
    drafter_sse_feed(&self->sse, bytes, take_event, self);
    look_at_room(self, &self->sse.line);
    look_at_room(self, &self->sse.data);
}

void drafter_answer_finish(drafter_answer *self) {
    if (self->finished || (self->status == 200 && self->kind != DRAFTER_BODY_JSON))
        return;
    self->finished = true;
    if (self->too_large || self->starved || self->body.size == 0)
        return;
    if (!read_object(self, stet_buf_str(&self->body))) {
        self->malformed = true;
        return;
    }
    if (self->status != 200) {
        (void)take_error(self, stet_buf_str(&self->scratch));
        return;
    }
    take_object(self, stet_buf_str(&self->scratch));
    self->done = true;
}
