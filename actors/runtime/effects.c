#include "actors/runtime/effects.h"
#include "proto/base/fault.h"

#include <stdlib.h>

/* How a log field lies in the arena: copied out before use, so alignment does not matter. */
typedef struct packed_field {
    effects_slice name, text;
    int64_t number;
    int type;
} packed_field;

void stet_effects_init(stet_effects *self) {
    *self = (stet_effects){.bytes = STET_BUF(EFFECTS_BYTES_MAX)};
}

void stet_effects_done(stet_effects *self) {
    free(self->items);
    stet_buf_done(&self->bytes);
    *self = (stet_effects){.bytes = STET_BUF(EFFECTS_BYTES_MAX)};
}

void stet_effects_clear(stet_effects *self) {
    self->count = 0;
    self->cancels = 0;
    self->failed = self->starved = false;
    stet_buf_clear(&self->bytes);
}

void stet_effects_cut(stet_effects *self, size_t count, size_t bytes) {
    ASSERT(count <= self->count);
    ASSERT(bytes <= self->bytes.size);
    while (self->count > count) {
        self->count--;
        if (self->items[self->count].kind == EFFECTS_CALL_CANCEL)
            self->cancels--;
    }
    stet_buf_truncate(&self->bytes, bytes);
    self->bytes.failed = self->bytes.starved = false;
    self->failed = self->starved = false;
}

effects_slice stet_effects_store(stet_effects *self, stet_str text) {
    effects_slice s = {self->bytes.size, text.size};
    stet_buf_append(&self->bytes, text.data, text.size);
    stet_buf_append_byte(&self->bytes, 0);
    if (!stet_buf_ok(&self->bytes)) {
        stet_effects_fail(self, stet_buf_starved(&self->bytes));
        return (effects_slice){0, 0};
    }
    return s;
}

static bool make_room(stet_effects *self, size_t wanted) {
    if (wanted <= self->capacity)
        return true;
    if (wanted > EFFECTS_ITEMS_MAX)
        return false;
    size_t capacity = self->capacity ? self->capacity : 64;
    while (capacity < wanted)
        capacity *= 2;
    effects_item *grown = realloc(self->items, capacity * sizeof(*grown));
    if (!grown)
        return false;
    self->items = grown;
    self->capacity = capacity;
    return true;
}

effects_item *stet_effects_add(stet_effects *self, effects_kind kind) {
    if (self->failed || !make_room(self, self->count + 1)) {
        stet_effects_fail(self, !self->failed && self->count < EFFECTS_ITEMS_MAX);
        return NULL;
    }
    effects_item *item = &self->items[self->count++];
    *item = (effects_item){.kind = kind};
    if (kind == EFFECTS_CALL_CANCEL)
        self->cancels++;
    return item;
}

static void move(effects_slice *s, size_t base) {
    s->offset += base;
}

bool stet_effects_join(stet_effects *self, stet_effects *from) {
    if (from->failed || self->failed || !make_room(self, self->count + from->count) ||
        from->bytes.size > EFFECTS_BYTES_MAX - self->bytes.size)
        return false;
    size_t base = self->bytes.size;
    stet_buf_append(&self->bytes, from->bytes.data, from->bytes.size);
    if (!stet_buf_ok(&self->bytes)) {
        self->bytes.failed = self->bytes.starved = false;
        return false;
    }
    for (size_t i = 0; i < from->count; i++) {
        effects_item item = from->items[i];
        move(&item.a, base);
        move(&item.b, base);
        move(&item.c, base);
        move(&item.d, base);
        /* Packed log fields name further slices: their base is kept apart. */
        if (item.kind == EFFECTS_LOG)
            item.number += (int64_t)(base << 8);
        self->items[self->count++] = item;
    }
    self->cancels += from->cancels;
    stet_effects_clear(from);
    return true;
}

void stet_effects_answer(stet_effects *self, const stet_envelope *envelope, stet_str route, stet_str body) {
    effects_slice a = {self->bytes.size, 0};
    stet_envelope_encode(envelope, &self->bytes);
    a.size = self->bytes.size - a.offset;
    if (!stet_buf_ok(&self->bytes))
        stet_effects_fail(self, stet_buf_starved(&self->bytes));
    effects_slice b = stet_effects_store(self, route);
    effects_slice c = stet_effects_store(self, body);
    effects_item *item = stet_effects_add(self, EFFECTS_ANSWER);
    if (!item)
        return;
    item->a = a;
    item->b = b;
    item->c = c;
}

void stet_effects_call(stet_effects *self, stet_call_ref ref, const stet_http_request *request) {
    effects_slice a = stet_effects_store(self, stet_str_of(request->method));
    effects_slice b = stet_effects_store(self, stet_str_of(request->url));
    effects_slice c = stet_effects_store(self, request->body);
    effects_slice d = {self->bytes.size, 0};
    for (size_t i = 0; i < request->headers_count; i++) {
        (void)stet_effects_store(self, stet_str_of(request->headers[i].name));
        (void)stet_effects_store(self, stet_str_of(request->headers[i].value));
    }
    d.size = self->bytes.size - d.offset;
    effects_item *item = stet_effects_add(self, EFFECTS_CALL);
    if (!item)
        return;
    item->a = a;
    item->b = b;
    item->c = c;
    item->d = d;
    item->ref = ref;
    item->number = request->timeout_ms;
    item->count = (uint32_t)request->headers_count;
    item->stream = request->stream;
}

void stet_effects_log(stet_effects *self, stet_level level, const char *event, const char *message,
                      const stet_log_field *fields) {
    packed_field packed[EFFECTS_FIELDS_MAX];
    uint32_t count = 0;
    effects_slice a = stet_effects_store(self, stet_str_of(event));
    effects_slice b = stet_effects_store(self, stet_str_of(message));
    for (; fields && fields[count].name && count < EFFECTS_FIELDS_MAX; count++) {
        const stet_log_field *f = &fields[count];
        packed[count] = (packed_field){.type = f->type, .number = f->number};
        packed[count].name = stet_effects_store(self, stet_str_of(f->name));
        if (f->type == STET_LOG_STR)
            packed[count].text = stet_effects_store(self, f->text);
    }
    effects_slice d = stet_effects_store(self, stet_str_from(packed, count * sizeof(packed[0])));
    effects_item *item = stet_effects_add(self, EFFECTS_LOG);
    if (!item)
        return;
    item->a = a;
    item->b = b;
    item->d = d;
    item->count = count;
    item->number = (int64_t)level; /* above bit 8: how far a join has moved the packed slices */
}

bool stet_call_ref_equal(stet_call_ref a, stet_call_ref b) {
    return a.attempt == b.attempt && a.number == b.number && stet_id_equal(a.job_id, b.job_id);
}

bool stet_effects_cancelled(const stet_effects *self, stet_call_ref ref, size_t from) {
    if (self->cancels == 0)
        return false;
    for (size_t i = from; i < self->count; i++) {
        if (self->items[i].kind == EFFECTS_CALL_CANCEL && stet_call_ref_equal(self->items[i].ref, ref))
            return true;
    }
    return false;
}

static void release_call(const stet_effects *self, const effects_item *item, const stet_core_edge *edge) {
    stet_http_header headers[EFFECTS_HEADERS_MAX];
    const char *at = (const char *)self->bytes.data + item->d.offset;
    ASSERT(item->count <= EFFECTS_HEADERS_MAX);
    for (uint32_t i = 0; i < item->count; i++) {
        headers[i].name = at;
        at += strlen(at) + 1;
        headers[i].value = at;
        at += strlen(at) + 1;
    }
    stet_http_request request = {.method = stet_effects_text(self, item->a).data,
                                 .url = stet_effects_text(self, item->b).data,
                                 .headers = headers,
                                 .headers_count = item->count,
                                 .body = stet_effects_text(self, item->c),
                                 .stream = item->stream,
                                 .timeout_ms = item->number};
    FAULT(call_before_start);
    edge->call_start(edge->context, item->ref, &request);
    FAULT(call_started);
}

static void release_log(const stet_effects *self, const effects_item *item, const stet_core_edge *edge) {
    stet_log_field fields[EFFECTS_FIELDS_MAX + 1];
    size_t base = (size_t)(item->number >> 8);
    for (uint32_t i = 0; i < item->count; i++) {
        packed_field packed;
        memcpy(&packed, self->bytes.data + item->d.offset + i * sizeof(packed), sizeof(packed));
        move(&packed.name, base);
        move(&packed.text, base);
        fields[i] =
            (stet_log_field){.name = stet_effects_text(self, packed.name).data, .number = packed.number};
        if (packed.type == STET_LOG_STR) {
            fields[i].type = STET_LOG_STR;
            fields[i].text = stet_effects_text(self, packed.text);
        } else {
            fields[i].type = STET_LOG_INT;
        }
    }
    fields[item->count] = (stet_log_field){.name = NULL};
    edge->log(edge->context, (stet_level)(item->number & 0xFF), stet_effects_text(self, item->a).data,
              stet_effects_text(self, item->b).data, fields);
}

bool stet_effects_release(const stet_effects *self, size_t index, const stet_core_edge *edge) {
    const effects_item *item = &self->items[index];
    switch (item->kind) {
    case EFFECTS_ANSWER: {
        FAULT(release_answer_before);
        bool sent = edge->send(edge->context, stet_effects_text(self, item->a),
                               stet_effects_text(self, item->b), stet_effects_text(self, item->c));
        FAULT(release_answer_after);
        return sent;
    }
    case EFFECTS_SEND:
        break;
    case EFFECTS_PUBLISH:
        FAULT(publish_before);
        edge->publish(edge->context, stet_effects_text(self, item->a), stet_effects_text(self, item->b));
        FAULT(publish_after);
        break;
    case EFFECTS_CALL:
        if (!stet_effects_cancelled(self, item->ref, index + 1))
            release_call(self, item, edge);
        break;
    case EFFECTS_CALL_CANCEL:
        edge->call_cancel(edge->context, item->ref);
        break;
    case EFFECTS_WORK:
        edge->work_start(edge->context, item->ref, item->work, stet_effects_text(self, item->a));
        break;
    case EFFECTS_LOG:
        release_log(self, item, edge);
        break;
    }
    return true;
}
