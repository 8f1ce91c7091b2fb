#include "tools/sandbox/control.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/wire/json.h"
#include "proto/wire/mp.h"
#include "tools/sandbox/faults.h"
#include "tools/sandbox/journal.h"
#include "tools/sandbox/page.h"
#include "tools/sandbox/stream.h"

enum { PACE_MS_MAX = 600000 };

/* Without the pace: that is for the API, not for those who look at it. */
static sandbox_reply reply_of(const sandbox_request *r, uint32_t status) {
    sandbox_reply reply = sandbox_reply_of(r->sandbox, status, "application/json");
    reply.delay_ms = reply.token_delay_ms = 0;
    return reply;
}

static int send_error(const sandbox_request *r, uint32_t status, const stet_error *e) {
    sandbox_reply reply = reply_of(r, status);
    stet_buf_append_str(&reply.body, STET_STR("{\"error\": {\"message\": "));
    stet_json_quote(&reply.body, stet_str_of(e->message));
    stet_buf_append_str(&reply.body, STET_STR(", \"field\": "));
    stet_json_quote(&reply.body, stet_str_of(e->field));
    stet_buf_append_str(&reply.body, STET_STR("}}\n"));
    return sandbox_reply_send(r, &reply);
}

static uint64_t query_number(const sandbox_request *r, const char *name, uint64_t fallback) {
    const char *text = sandbox_query(r, name);
    char *end = NULL;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return fallback;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' ? n : fallback;
}

int sandbox_control_fault_add(const sandbox_request *r) {
    stet_error e;
    uint64_t id = 0;
    if (r->mp.size == 0) {
        (void)stet_error_set(&e, STET_INVALID, "send a JSON object");
        return send_error(r, 400, &e);
    }
    stet_code rc = sandbox_faults_add(r->sandbox->faults, r->mp, &id, &e);
    if (rc != STET_OK)
        return send_error(r, rc == STET_BUSY ? 409 : 400, &e);
    sandbox_reply reply = reply_of(r, 201);
    stet_buf_printf(&reply.body, "{\"id\": %llu}\n", (unsigned long long)id);
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_fault_list(const sandbox_request *r) {
    sandbox_reply reply = reply_of(r, 200);
    sandbox_faults_json(r->sandbox->faults, &reply.body);
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_fault_remove(const sandbox_request *r) {
    sandbox_reply reply = reply_of(r, 200);
    size_t removed = sandbox_faults_remove(r->sandbox->faults, query_number(r, "id", 0));
    stet_buf_printf(&reply.body, "{\"removed\": %zu}\n", removed);
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_requests(const sandbox_request *r) {
    sandbox_reply reply = reply_of(r, 200);
    sandbox_journal_json(r->sandbox->journal, query_number(r, "since", 0),
                         query_number(r, "limit", UINT64_MAX), &reply.body);
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_requests_clear(const sandbox_request *r) {
    sandbox_reply reply = reply_of(r, 200);
    sandbox_journal_clear(r->sandbox->journal);
    stet_buf_append_str(&reply.body, STET_STR("{}\n"));
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_pace(const sandbox_request *r) {
    sandbox_reply reply = reply_of(r, 200);
    stet_buf_printf(&reply.body, "{\"delayMs\": %lld, \"tokenDelayMs\": %lld}\n",
                    atomic_load(&r->sandbox->delay_ms), atomic_load(&r->sandbox->token_delay_ms));
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_pace_set(const sandbox_request *r) {
    stet_error e;
    int64_t delay = stet_mp_get_int(r->mp, "delayMs", atomic_load(&r->sandbox->delay_ms));
    int64_t token_delay = stet_mp_get_int(r->mp, "tokenDelayMs", atomic_load(&r->sandbox->token_delay_ms));
    if (r->mp.size == 0 || delay < 0 || delay > PACE_MS_MAX || token_delay < 0 || token_delay > PACE_MS_MAX) {
        (void)stet_error_set(&e, STET_INVALID,
                             "send {\"delayMs\": N, \"tokenDelayMs\": N}, each from 0 to %d", PACE_MS_MAX);
        return send_error(r, 400, &e);
    }
    atomic_store(&r->sandbox->delay_ms, delay);
    atomic_store(&r->sandbox->token_delay_ms, token_delay);
    return sandbox_control_pace(r);
}

int sandbox_control_health(const sandbox_request *r) {
    sandbox_reply reply = reply_of(r, 200);
    stet_buf_append_str(&reply.body, STET_STR("{\"status\": \"ok\"}\n"));
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_page(const sandbox_request *r) {
    sandbox_reply reply = reply_of(r, 200);
    reply.content_type = "text/html; charset=utf-8";
    stet_buf_append_str(&reply.body, sandbox_page());
    return sandbox_reply_send(r, &reply);
}

int sandbox_control_unknown(const sandbox_request *r) {
    stet_error e;
    (void)stet_error_set(&e, STET_NOT_FOUND,
                         "no such page: /v1 is the API, /sandbox/faults and /sandbox/requests the control");
    return send_error(r, 404, &e);
}
