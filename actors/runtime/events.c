/* Progress events: numbered per session from 1, stored as the JSON text that is published, so that what a
 * subscriber reads back is byte for byte what it would have received. The head row of a session outlives its
 * events: a number is never given twice. */
#include "actors/runtime/records.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

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
    bool found;
    stet_key_str(&key, session);
    *ret = (stet_event_head){0};
    stet_code rc = stet_turn_row_find(turn, &key, &value, &found, e);
    if (found && !stet_events_head_decode(value, ret))
        rc = stet_turn_row_damaged(e, "eventHeads");
    return rc;
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

uint32_t stet_events_open(stet_str value, stet_mp_reader *ret) {
    *ret = stet_mp_reader_of(value);
    uint32_t items = stet_mp_read_array(ret);
    return stet_mp_read_uint(ret) == TURN_ROW_FORMAT && !ret->failed && items > 1 ? items - 1 : 0;
}

/* The scan's next row; *ret_first 0 when there is none. */
static stet_code next_row(stet_scan *scan, uint64_t *ret_first, uint32_t *ret_count,
                          stet_mp_reader *ret_texts, stet_error *e) {
    stet_str key, value;
    stet_key_reader r;
    char session[STET_KEY_BYTES_MAX];
    *ret_first = 0;
    *ret_count = 0;
    if (!stet_scan_next(scan, &key, &value))
        return stet_scan_status(scan, e);
    (void)stet_key_open_named(key, session, &r);
    *ret_first = stet_key_read_u64(&r);
    *ret_count = stet_events_open(value, ret_texts);
    return r.failed || *ret_count == 0 ? stet_turn_row_damaged(e, "events") : STET_OK;
}

static stet_scan *scan_rows(stet_turn *turn, stet_str session, uint64_t from, bool back, stet_error *e) {
    stet_key prefix = stet_key_of(STET_TABLE_EVENTS);
    stet_key_str(&prefix, session);
    stet_key first = stet_events_key(session, from);
    return stet_turn_scan(turn, stet_key_bytes(&prefix), stet_key_bytes(&first), back, e);
}

stet_code stet_events_row_before(stet_turn *turn, stet_str session, uint64_t number, uint64_t *ret_first,
                                 uint32_t *ret_count, stet_error *e) {
    stet_mp_reader texts;
    CLEANUP(stet_scan_done) stet_scan *scan = scan_rows(turn, session, number, /* back= */ true, e);
    return scan ? next_row(scan, ret_first, ret_count, &texts, e) : STET_BUSY;
}

/* ---- the text ---- */

/* `name` with everything up to the value: ,"kind": */
static void text_field(stet_buf *b, stet_str name, stet_str value) {
    stet_buf_append_str(b, name);
    stet_json_quote(b, value);
}

static void append_progress(stet_buf *b, double progress) {
    if (progress <= 0 || !isfinite(progress))
        stet_buf_append_byte(b, '0');
    else if (progress >= 1)
        stet_buf_append_byte(b, '1');
    else
        stet_buf_printf(b, "%.6g", progress);
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
    stet_buf_append_str(b, STET_STR("{\"seq\":"));
    stet_buf_append_uint(b, number);
    text_field(b, STET_STR(",\"sessionId\":"), event->session_id);
    if (event->project_id.size)
        text_field(b, STET_STR(",\"projectId\":"), event->project_id);
    if (!stet_id_is_zero(event->job_id)) {
        stet_id_text(event->job_id, id);
        text_field(b, STET_STR(",\"jobId\":"), stet_str_of(id));
    }
    text_field(b, STET_STR(",\"actor\":"), stet_str_of(turn->service->name));
    text_field(b, STET_STR(",\"kind\":"), stet_str_of(event->kind));
    text_field(b, STET_STR(",\"status\":"), stet_str_of(event->status));
    stet_buf_append_str(b, STET_STR(",\"attempt\":"));
    stet_buf_append_uint(b, event->attempt);
    stet_buf_append_str(b, STET_STR(",\"progress\":"));
    append_progress(b, event->progress);
    text_field(b, STET_STR(",\"message\":"), event->message);
    stet_rfc3339_text(turn->wall_ms, at);
    text_field(b, STET_STR(",\"at\":"), stet_str_of(at));
    stet_code rc = extra_fields(b, event->extra, e);
    stet_buf_append_byte(b, '}');
    return rc;
}

/* Topic and payload, right into the list of effects. */
static stet_code publish(stet_turn *turn, const stet_event *event, uint64_t number,
                         effects_slice *ret_session, stet_error *e) {
    static const stet_str topic = {"TOOL_PROGRESS/", 14}, payload = {"TOOL_PROGRESS::", 15};
    stet_effects *effects = turn->effects;
    stet_buf *bytes = &effects->bytes;
    size_t begin = bytes->size;
    stet_buf_append_str(bytes, topic);
    *ret_session = (effects_slice){bytes->size, event->session_id.size};
    stet_buf_append_str(bytes, event->session_id);
    effects_slice a = {begin, bytes->size - begin}, b = {bytes->size, 0};
    stet_buf_append_str(bytes, payload);
    stet_code rc = event_text(turn, event, number, bytes, e);
    b.size = bytes->size - b.offset;
    if (rc == STET_OK && stet_buf_ok(bytes) && b.size - payload.size > EVENT_TEXT_BYTES_MAX)
        rc = stet_error_set(e, STET_TOO_LARGE, "an event may have %d bytes at most", EVENT_TEXT_BYTES_MAX);
    if (!stet_buf_ok(bytes))
        stet_effects_fail(effects, stet_buf_starved(bytes));
    if (rc != STET_OK) {
        stet_buf_truncate(bytes, begin);
        return rc;
    }
    effects_item *item = stet_effects_add(effects, EFFECTS_PUBLISH);
    if (item) {
        item->a = a;
        item->b = b;
    }
    return STET_OK;
}

stet_code stet_turn_event(stet_turn *turn, const stet_event *event, stet_error *e) {
    stet_event_head head;
    uint32_t run;
    effects_slice session;
    ASSERT(event->kind != NULL);
    ASSERT(event->status != NULL);
    if (event->session_id.size == 0 || event->session_id.size > EVENT_SESSION_SIZE_MAX)
        return stet_error_field(e, STET_INVALID, "sessionId", "a session id has 1 to %d bytes",
                                EVENT_SESSION_SIZE_MAX);
    stet_code rc = stet_runs_head(turn, event->session_id, &run, &head, e);
    if (rc == STET_OK)
        rc = publish(turn, event, head.last + 1, &session, e);
    if (rc != STET_OK)
        return rc;
    if (!turn->effects->failed)
        stet_runs_add(turn, run, &head, session);
    stet_turn_count(turn, "events", 1);
    return STET_OK;
}

/* ---- catch-up ---- */

/* Writes up to `limit` texts after the number; *ret_last is the number of the last one written. */
static stet_code page(stet_turn *turn, stet_str session, uint64_t after, uint32_t limit, stet_buf *reply,
                      uint64_t *ret_last, stet_error *e) {
    size_t mark = stet_mp_open(reply), begin = reply->size;
    uint64_t first;
    uint32_t count = 0, texts;
    stet_mp_reader r;
    stet_code rc = stet_events_row_before(turn, session, after + 1, &first, &texts, e);
    if (rc != STET_OK)
        return rc;
    CLEANUP(stet_scan_done)
    stet_scan *scan = scan_rows(turn, session, first > 0 ? first : after + 1, /* back= */ false, e);
    if (!scan)
        return STET_BUSY;
    bool full = false;
    while (!full && (rc = next_row(scan, &first, &texts, &r, e)) == STET_OK && first > 0)
        for (uint32_t i = 0; i < texts && !full; i++) {
            stet_str text = stet_mp_read_str(&r);
            if (r.failed)
                return stet_turn_row_damaged(e, "events");
            if (first + i <= after + (PLANT(catch_up_skips_one) ? 1 : 0))
                continue;
            full = count == limit || (count > 0 && reply->size - begin + text.size > EVENTS_PAGE_BYTES);
            if (full)
                break;
            FAULT(catch_up_read);
            *ret_last = first + i;
            stet_mp_str(reply, text);
            count++;
        }
    stet_mp_close_array(reply, mark, count);
    return rc;
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
