/* Progress events: numbered per session from 1, stored as the JSON text that is published, so that what a
 * subscriber reads back is byte for byte what it would have received. The head row of a session outlives its
 * events: a number is never given twice. */
#include "actors/runtime/records.h"
#include "proto/base/fault.h"

#include "proto/wire/json.h"
#include "proto/wire/rfc3339.h"

#include <math.h>

enum {
    EVENT_SESSION_SIZE_MAX = 128,
    EVENT_TEXT_BYTES_MAX = (64 << 10) - 64, /* with its prefix it fits the 64 KiB that the broker relays */
    EVENTS_PAGE_BYTES = 512 << 10,
    EVENTS_PAGE_ITEMS = 200
};

stet_key stet_events_key(stet_str session, uint64_t number) {
    stet_key key = stet_key_of(STET_TABLE_EVENTS);
    stet_key_str(&key, session);
    stet_key_u64(&key, number);
    return key;
}

bool stet_events_head_decode(stet_str value, stet_event_head *ret) {
    stet_mp_reader r;
    if (!stet_turn_row_open(value, 4, &r))
        return false;
    ret->last = stet_mp_read_uint(&r);
    ret->newest_ms = stet_mp_read_int(&r);
    ret->swept = stet_mp_read_uint(&r);
    return !r.failed && ret->swept <= ret->last;
}

stet_code stet_events_head(stet_turn *turn, stet_str session, stet_event_head *ret, stet_error *e) {
    stet_key key = stet_key_of(STET_TABLE_EVENT_HEADS);
    stet_str value;
    stet_key_str(&key, session);
    *ret = (stet_event_head){0};
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &value, e);
    if (rc == STET_NOT_FOUND)
        return STET_OK;
    if (rc != STET_OK)
        return rc;
    return stet_events_head_decode(value, ret) ? STET_OK : stet_turn_row_damaged(e, "eventHeads");
}

void stet_events_head_put(stet_turn *turn, stet_str session, const stet_event_head *head) {
    stet_key key = stet_key_of(STET_TABLE_EVENT_HEADS);
    stet_key_str(&key, session);
    stet_buf *row = stet_turn_row_new(turn, 4);
    stet_mp_uint(row, head->last);
    stet_mp_int(row, head->newest_ms);
    stet_mp_uint(row, head->swept);
    stet_turn_row_put(turn, &key);
}

/* ---- the text ---- */

static void text_field(stet_buf *b, const char *name, stet_str value) {
    stet_buf_printf(b, ",\"%s\":", name);
    stet_json_quote(b, value);
}

static bool reserved(stet_str name) {
    static const char *const names[] = {"seq",    "sessionId", "projectId", "jobId",   "actor", "kind",
                                        "status", "attempt",   "progress",  "message", "at"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (stet_str_is(name, names[i]))
            return true;
    }
    return false;
}

static stet_code extra_fields(stet_buf *b, stet_str extra, stet_error *e) {
    if (extra.size == 0)
        return STET_OK;
    stet_mp_reader r = stet_mp_reader_of(extra);
    uint32_t pairs = stet_mp_read_map(&r);
    for (uint32_t i = 0; i < pairs && !r.failed; i++) {
        stet_str name = stet_mp_read_str(&r);
        stet_str value = stet_mp_read_raw(&r);
        if (r.failed)
            break;
        if (reserved(name))
            return stet_error_set(e, STET_INTERNAL, "an extra field of an event may not be called %.*s",
                                  STET_STR_ARG(name));
        stet_buf_append_byte(b, ',');
        stet_json_quote(b, name);
        stet_buf_append_byte(b, ':');
        stet_code rc = stet_mp_to_json(value, (stet_json_style){0}, b, e);
        if (rc != STET_OK)
            return rc;
    }
    return r.failed
               ? stet_error_set(e, STET_INTERNAL, "the extra fields of an event are not a MessagePack map")
               : STET_OK;
}

static stet_code event_text(const stet_turn *turn, const stet_event *event, uint64_t number, stet_buf *b,
                            stet_error *e) {
    char id[STET_ID_TEXT_SIZE], at[STET_RFC3339_SIZE];
    double progress = isfinite(event->progress) ? event->progress : 0;
    progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
    stet_buf_printf(b, "{\"seq\":%llu", (unsigned long long)number);
    text_field(b, "sessionId", event->session_id);
    if (event->project_id.size)
        text_field(b, "projectId", event->project_id);
    if (!stet_id_is_zero(event->job_id)) {
        stet_id_text(event->job_id, id);
        text_field(b, "jobId", stet_str_of(id));
    }
    text_field(b, "actor", stet_str_of(turn->service->name));
    text_field(b, "kind", stet_str_of(event->kind));
    text_field(b, "status", stet_str_of(event->status));
    stet_buf_printf(b, ",\"attempt\":%u,\"progress\":%.6g", event->attempt, progress);
    text_field(b, "message", event->message);
    stet_rfc3339_text(turn->wall_ms, at);
    text_field(b, "at", stet_str_of(at));
    stet_code rc = extra_fields(b, event->extra, e);
    stet_buf_append_byte(b, '}');
    if (rc == STET_OK && !stet_buf_ok(b))
        rc = stet_error_set(e, STET_TOO_LARGE, "an event may have %d bytes at most", EVENT_TEXT_BYTES_MAX);
    return rc;
}

static void publish(stet_turn *turn, stet_str session, stet_str text) {
    stet_effects *effects = turn->effects;
    effects_slice a = {effects->bytes.size, 0}, b;
    stet_buf_append_str(&effects->bytes, STET_STR("TOOL_PROGRESS/"));
    stet_buf_append_str(&effects->bytes, session);
    a.size = effects->bytes.size - a.offset;
    b = (effects_slice){effects->bytes.size, 0};
    stet_buf_append_str(&effects->bytes, STET_STR("TOOL_PROGRESS::"));
    stet_buf_append_str(&effects->bytes, text);
    b.size = effects->bytes.size - b.offset;
    if (!stet_buf_ok(&effects->bytes))
        effects->failed = true;
    effects_item *item = stet_effects_add(effects, EFFECTS_PUBLISH);
    if (item) {
        item->a = a;
        item->b = b;
    }
}

stet_code stet_turn_event(stet_turn *turn, const stet_event *event, stet_error *e) {
    stet_event_head head;
    ASSERT(event->kind != NULL);
    ASSERT(event->status != NULL);
    if (event->session_id.size == 0 || event->session_id.size > EVENT_SESSION_SIZE_MAX)
        return stet_error_field(e, STET_INVALID, "sessionId", "a session id has 1 to %d bytes",
                                EVENT_SESSION_SIZE_MAX);
    stet_code rc = stet_events_head(turn, event->session_id, &head, e);
    if (rc != STET_OK)
        return rc;
    head.last++;
    head.newest_ms = turn->wall_ms;
    stet_buf_clear(&turn->json);
    turn->json.size_max = EVENT_TEXT_BYTES_MAX;
    rc = event_text(turn, event, head.last, &turn->json, e);
    if (rc != STET_OK)
        return rc;
    stet_key key = stet_events_key(event->session_id, head.last);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), stet_buf_str(&turn->json));
    stet_events_head_put(turn, event->session_id, &head);
    publish(turn, event->session_id, stet_buf_str(&turn->json));
    stet_turn_count(turn, "events", 1);
    return STET_OK;
}

/* ---- catch-up ---- */

/* Writes up to `limit` texts after the number; *ret_last is the number of the last one written. */
static stet_code page(stet_turn *turn, stet_str session, uint64_t after, uint32_t limit, stet_buf *reply,
                      uint64_t *ret_last, stet_error *e) {
    stet_key prefix = stet_key_of(STET_TABLE_EVENTS);
    stet_key_str(&prefix, session);
    stet_key from = stet_events_key(session, after + 1);
    size_t mark = stet_mp_open(reply);
    size_t begin = reply->size;
    uint32_t count = 0;
    stet_str key, value;
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(stet_turn_batch(turn), stet_key_bytes(&prefix), stet_key_bytes(&from), false);
    if (!scan)
        return stet_error_set(e, STET_BUSY, "no memory for a scan");
    while (count < limit && stet_scan_next(scan, &key, &value)) {
        FAULT(catch_up_read);
        if (count > 0 && reply->size - begin + value.size > EVENTS_PAGE_BYTES)
            break;
        uint8_t table;
        char text[STET_KEY_BYTES_MAX];
        stet_key_reader r = stet_key_reader_of(key, &table);
        (void)stet_key_read_str(&r, text, sizeof(text));
        *ret_last = stet_key_read_u64(&r);
        stet_mp_str(reply, value);
        count++;
    }
    stet_mp_close_array(reply, mark, count);
    return stet_scan_status(scan, e);
}

stet_code stet_events_read(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    /* Every service's set of runtime commands is the same list of fields, hence the same struct. */
    const cmd_drafter_events *in = request;
    stet_event_head head;
    uint32_t limit = in->has_limit ? (uint32_t)in->limit : EVENTS_PAGE_ITEMS;
    uint64_t last = 0;
    stet_code rc = stet_events_head(turn, in->session_id, &head, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 3);
    stet_mp_cstr(reply, "events");
    if (in->after_seq >= head.last) {
        stet_mp_array(reply, 0);
    } else {
        rc = page(turn, in->session_id, in->after_seq, limit, reply, &last, e);
        if (rc != STET_OK)
            return rc;
    }
    if (last == 0)
        last = head.last;
    stet_mp_put_uint(reply, "lastSeq", last);
    stet_mp_put_bool(reply, "more", last < head.last);
    return STET_OK;
}
