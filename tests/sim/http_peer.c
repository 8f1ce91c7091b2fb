/* The provider of the model: takes a call, writes it into the ledger (history), and answers after a while, in
 * pieces, or badly. Each document carries a mark; the answer's document says which mark it was made from, so
 * that the end shows on which version a draft has landed. */
#include "tests/sim/sim.h"

#include "proto/wire/json.h"

#include <stdlib.h>

enum { ANSWER_MAX = 64 << 10 };

static uint64_t number_of(stet_call_ref ref) {
    return (uint64_t)ref.attempt << 32 | ref.number;
}

static void note(sim *s, history_kind kind, const http_call *call) {
    history_add(&s->history, (history_record){.kind = kind,
                                              .at_ms = s->world.boot_ms,
                                              .id = call->ref.job_id,
                                              .number = call->number,
                                              .stream = call->stream});
}

static void end_call(sim *s, http_call *call) {
    if (call->open)
        note(s, HISTORY_EFFECT_END, call);
    call->open = false;
}

static void free_call(sim *s, http_call *call) {
    for (http_call **at = &s->calls; *at; at = &(*at)->next) {
        if (*at != call)
            continue;
        *at = call->next;
        break;
    }
    stet_buf_done(&call->text);
    free(call);
}

/* ---- the answer ---- */

static void data_line(stet_buf *b, const char *content, const char *finish) {
    stet_buf_append_str(b, STET_STR("data: {\"model\":\"sim\",\"choices\":[{\"index\":0,\"delta\":{"));
    if (content) {
        stet_buf_append_str(b, STET_STR("\"content\":"));
        stet_json_quote(b, stet_str_of(content));
    }
    stet_buf_append_byte(b, '}');
    if (finish)
        stet_buf_printf(b, ",\"finish_reason\":\"%s\"", finish);
    stet_buf_append_str(b, STET_STR("}]"));
    if (finish)
        stet_buf_append_str(b, STET_STR(",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}"));
    stet_buf_append_str(b, STET_STR("}\n\n"));
}

uint64_t http_peer_mark(stet_str text, const char *before) {
    const char *at = memmem(text.data, text.size, before, 2);
    uint64_t number = 0;
    for (size_t i = at ? (size_t)(at - text.data) + 2 : text.size; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            break;
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    return number;
}

static uint64_t mark_in(stet_str request) {
    static const char before[] = "<<<DOCUMENT", end[] = "DOCUMENT>>>";
    const char *at = memmem(request.data, request.size, before, sizeof(before) - 1);
    if (!at)
        return 0;
    size_t left = request.size - (size_t)(at - request.data);
    const char *stop = memmem(at, left, end, sizeof(end) - 1);
    return http_peer_mark(stet_str_from(at, stop ? (size_t)(stop - at) : left), "@@");
}

bool http_peer_is_plain(const sim *s) {
    return strcmp(stet_config_str(s->config, STET_SETTING_openai_schema), "none") == 0;
}

static void write_answer(sim *s, http_call *call, stet_str request) {
    char text[160];
    unsigned long long from = mark_in(request);
    /* Twice: what the provider has garbled shall not be taken for a mark. */
    (void)snprintf(text, sizeof(text),
                   http_peer_is_plain(s)
                       ? "@@%llu made from ##%llu ((%llu"
                       : "{\"markdown\":\"@@%llu made from ##%llu ((%llu\",\"summary\":\"new\"}",
                   (unsigned long long)++s->marks, from, from);
    size_t half = 1 + world_below(&s->world, strlen(text) - 1);
    char first[160];
    (void)snprintf(first, sizeof(first), "%.*s", (int)half, text);
    data_line(&call->text, first, NULL);
    data_line(&call->text, text + half, NULL);
    data_line(&call->text, NULL, "stop");
    stet_buf_append_str(&call->text, STET_STR("data: [DONE]\n\n"));
}

static void write_error(http_call *call, const char *code) {
    stet_buf_clear(&call->text);
    stet_buf_printf(&call->text, "{\"error\":{\"message\":\"simulated\",\"code\":\"%s\"}}", code);
}

static void choose_fault(sim *s, http_call *call) {
    static const uint32_t statuses[] = {429, 500, 503, 400, 408};
    world *w = &s->world;
    sim_fault fault = FAULT_http_status + (sim_fault)world_below(w, FAULT_http_late - FAULT_http_status);
    if (fault == FAULT_http_garbage && http_peer_is_plain(s))
        fault = FAULT_http_cut; /* nobody can tell what was garbled from what was meant */
    fault_count(s, fault);
    switch (fault) {
    case FAULT_http_status:
        call->status = statuses[world_below(w, COUNT_OF(statuses))];
        call->retry_after_ms = world_chance(w, 300) ? world_between(w, 0, 3000) : -1;
        write_error(call, world_chance(w, 100) ? "insufficient_quota" : "simulated");
        break;
    case FAULT_http_connect:
        call->failure = STET_HTTP_CONNECT;
        call->status = 0;
        stet_buf_clear(&call->text);
        break;
    case FAULT_http_lost:
        call->failure = STET_HTTP_LOST;
        call->status = 0;
        stet_buf_clear(&call->text);
        break;
    case FAULT_http_cut:
        call->failure = world_chance(w, 500) ? STET_HTTP_LOST : STET_HTTP_NONE;
        stet_buf_truncate(&call->text, world_below(w, call->text.size));
        break;
    case FAULT_http_timeout:
        call->failure = STET_HTTP_TIMEOUT;
        stet_buf_truncate(&call->text, world_below(w, call->text.size));
        break;
    default:
        for (int i = 0; i < 8; i++)
            call->text.data[world_below(w, call->text.size)] = (uint8_t)world_below(w, 256);
        break;
    }
}

/* ---- pieces ---- */

static void hand_in(http_call *call, bool done) {
    sim_actor *actor = call->actor;
    size_t size = done ? 0 : call->text.size - call->given;
    if (!done && call->pieces_left > 0)
        size = 1 + world_below(&actor->sim->world, size);
    actor_result *result = calloc(1, sizeof(*result) + size);
    ASSERT(result != NULL);
    result->done = done;
    result->ref = call->ref;
    result->failure = call->failure;
    result->status = call->status;
    result->retry_after_ms = call->retry_after_ms;
    result->size = size;
    if (size > 0)
        memcpy(result->bytes, call->text.data + call->given, size);
    call->given += size;
    *actor->results_end = result;
    actor->results_end = &result->next;
    actor_node_round_at(actor, actor->sim->world.boot_ms);
}

static void next_piece(void *object, uint64_t token) {
    sim *s = object;
    http_call *call = s->calls;
    while (call && call->token != token)
        call = call->next;
    if (!call)
        return; /* taken back, or its caller is dead */
    bool more = call->given < call->text.size;
    hand_in(call, !more);
    if (!more) {
        end_call(s, call);
        free_call(s, call);
        return;
    }
    if (call->pieces_left > 0)
        call->pieces_left--;
    world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 0, s->mix.http_ms / 4), next_piece, s,
             token);
}

/* ---- calls ---- */

static uint32_t project_of(sim *s, stet_str request) {
    static const char before[] = "# Project ";
    const char *at = memmem(request.data, request.size, before, sizeof(before) - 1);
    ASSERT(at != NULL);
    at += sizeof(before) - 1;
    size_t size = 0;
    while (at + size < request.data + request.size && at[size] != '\\' && at[size] != '\n')
        size++;
    return history_name_of(&s->history, "calls for %.*s", (int)size, at);
}

void http_peer_start(sim_actor *actor, stet_call_ref ref, const stet_http_request *request) {
    sim *s = actor->sim;
    http_call *call = calloc(1, sizeof(*call));
    ASSERT(call != NULL);
    *call = (http_call){.next = s->calls,
                        .actor = actor,
                        .life = actor->life,
                        .ref = ref,
                        .stream = project_of(s, request->body),
                        .number = number_of(ref),
                        .token = ++s->calls_token,
                        .text = STET_BUF(ANSWER_MAX),
                        .status = 200,
                        .retry_after_ms = -1,
                        .pieces_left = (uint32_t)world_below(&s->world, 5),
                        .open = true};
    s->calls = call;
    s->totals.effects++;
    note(s, HISTORY_EFFECT, call);
    world_tell(&s->world, actor->name, "call", ref.attempt, ref.number, stet_str_from(ref.job_id.bytes, 0));
    write_answer(s, call, request->body);
    if (!s->calm && world_chance(&s->world, s->mix.http_faults))
        choose_fault(s, call);
    world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 1, s->calm ? 200 : s->mix.http_ms),
             next_piece, s, call->token);
}

void http_peer_cancel(sim_actor *actor, stet_call_ref ref) {
    sim *s = actor->sim;
    for (http_call *call = s->calls; call; call = call->next) {
        if (call->late || !stet_id_equal(call->ref.job_id, ref.job_id) || call->number != number_of(ref))
            continue;
        world_tell(&s->world, actor->name, "call taken back", ref.attempt, ref.number, (stet_str){NULL, 0});
        end_call(s, call);
        /* The core has to bear a result that was on its way: its attempt tells that it is stale. */
        call->late = !s->calm && world_chance(&s->world, s->mix.http_late);
        if (call->late)
            fault_count(s, FAULT_http_late);
        else
            free_call(s, call);
        return;
    }
}

void http_peer_actor_died(sim_actor *actor) {
    sim *s = actor->sim;
    for (http_call *call = s->calls, *next; call; call = next) {
        next = call->next;
        if (call->actor != actor)
            continue;
        end_call(s, call);
        free_call(s, call);
    }
}

void http_peer_done(sim *s) {
    while (s->calls)
        free_call(s, s->calls);
}
