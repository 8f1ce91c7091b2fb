#include "actors/drafter/detail.h"

#include "proto/wire/json.h"

drafter_detail drafter_detail_of(const stet_job *job) {
    drafter_detail detail = {
        .base_version = stet_mp_get_uint(job->detail, "baseVersion", 0),
        .base_size = stet_mp_get_uint(job->detail, "baseSize", 0),
        .calls = stet_mp_get_raw(job->detail, "calls"),
        .unresolved = stet_mp_get_raw(job->detail, "unresolved"),
        .unresolved_anchors = stet_mp_get_raw(job->detail, "unresolvedAnchors"),
        .unresolved_count = stet_mp_get_uint(job->detail, "unresolvedCount", 0),
        .left_out = stet_mp_get_uint(job->detail, "leftOut", 0),
    };
    if (detail.calls.size > 0) {
        stet_mp_reader r = stet_mp_reader_of(detail.calls);
        detail.calls_count = stet_mp_read_array(&r);
        for (uint32_t i = 1; i < detail.calls_count; i++)
            (void)stet_mp_read_raw(&r);
        detail.last_ended =
            detail.calls_count > 0 && stet_mp_get_raw(stet_mp_read_raw(&r), "outcome").size > 0;
    }
    return detail;
}

static void put_list(stet_buf *b, const char *key, stet_str list) {
    stet_mp_cstr(b, key);
    if (list.size > 0)
        stet_mp_raw(b, list);
    else
        stet_mp_array(b, 0);
}

/* Everything but the calls. */
static void put_head(stet_buf *b, const drafter_detail *detail) {
    stet_mp_map(b, 7);
    stet_mp_put_uint(b, "baseVersion", detail->base_version);
    stet_mp_put_uint(b, "baseSize", detail->base_size);
    put_list(b, "unresolved", detail->unresolved);
    put_list(b, "unresolvedAnchors", detail->unresolved_anchors);
    stet_mp_put_uint(b, "unresolvedCount", detail->unresolved_count);
    stet_mp_put_uint(b, "leftOut", detail->left_out);
}

/* The first `keep` calls; the reader then stands on the next. */
static stet_mp_reader copy_calls(stet_buf *b, const drafter_detail *detail, uint32_t keep) {
    stet_mp_reader r = stet_mp_reader_of(detail->calls);
    if (detail->calls.size > 0)
        (void)stet_mp_read_array(&r);
    for (uint32_t i = 0; i < keep; i++)
        stet_mp_raw(b, stet_mp_read_raw(&r));
    return r;
}

void drafter_detail_begin(stet_buf *b, const drafter_detail *detail, const drafter_context *context,
                          uint64_t base_version, uint64_t base_size, int64_t now_ms) {
    drafter_detail head = {
        .base_version = base_version,
        .base_size = base_size,
        .unresolved = stet_buf_str(&context->unresolved),
        .unresolved_anchors = stet_buf_str(&context->unresolved_anchors),
        .unresolved_count = context->unresolved_count,
        .left_out = context->left_out,
    };
    put_head(b, &head);
    stet_mp_cstr(b, "calls");
    stet_mp_array(b, detail->calls_count + 1);
    (void)copy_calls(b, detail, detail->calls_count);
    stet_mp_map(b, 2);
    stet_mp_put_uint(b, "try", detail->calls_count + 1);
    stet_mp_put_time(b, "startedAt", now_ms);
}

void drafter_detail_end(stet_buf *b, const drafter_detail *detail, const drafter_outcome *outcome,
                        const stet_http_result *result, const drafter_answer *answer, int64_t now_ms) {
    static const char *const outcomes[] = {[DRAFTER_LANDED] = "ok",
                                           [DRAFTER_AGAIN] = "failed",
                                           [DRAFTER_UNUSABLE] = "unusable",
                                           [DRAFTER_FINAL] = "failed"};
    ASSERT(detail->calls_count > 0);
    put_head(b, detail);
    stet_mp_cstr(b, "calls");
    stet_mp_array(b, detail->calls_count);
    stet_mp_reader r = copy_calls(b, detail, detail->calls_count - 1);
    stet_str last = stet_mp_read_raw(&r);
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 5;
    stet_mp_put_uint(b, "try", detail->calls_count);
    stet_mp_put_str(b, "startedAt", stet_mp_get_str(last, "startedAt", STET_STR("")));
    stet_mp_put_time(b, "endedAt", now_ms);
    stet_mp_put_cstr(b, "outcome", outcomes[outcome->verdict]);
    stet_mp_put_uint(b, "status", result->status);
    if (outcome->code[0] != '\0') {
        stet_mp_put_cstr(b, "code", outcome->code);
        pairs++;
    }
    if (result->request_id.size > 0) {
        stet_str id = result->request_id;
        id.size = stet_utf8_cut(id, DRAFTER_REQUEST_ID_MAX);
        stet_mp_put_str(b, "requestId", stet_utf8_valid(id) ? id : STET_STR("?"));
        pairs++;
    }
    if (answer && answer->usage.known) {
        stet_mp_put_uint(b, "promptTokens", answer->usage.prompt);
        stet_mp_put_uint(b, "completionTokens", answer->usage.completion);
        pairs += 2;
    }
    stet_mp_close_map(b, mark, pairs);
}
