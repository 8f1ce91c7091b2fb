#include "tools/sandbox/completion.h"

#include "proto/base/prng.h"
#include "proto/wire/json.h"

enum {
    DELTA_BYTES_MIN = 12, /* about three tokens */
    DELTAS_MAX =
        400, /* long answers come in larger pieces, so that a stream stays within a client's limits */
    EVENTS_PER_PING = 23
};

uint64_t sandbox_tokens_of(size_t bytes) {
    return (bytes + 3) / 4;
}

static void write_usage(stet_buf *b, const sandbox_completion *c) {
    stet_buf_printf(b,
                    "{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu,"
                    "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
                    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
                    "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
                    (unsigned long long)c->prompt_tokens, (unsigned long long)c->completion_tokens,
                    (unsigned long long)c->prompt_tokens + c->completion_tokens);
}

/* An alias answers with a dated name, as the real API does. */
static void write_head(stet_buf *b, const sandbox_chat *chat, const sandbox_completion *c,
                       const char *object) {
    CLEANUP(stet_buf_done) stet_buf model = STET_BUF(4096);
    stet_buf_append_str(&model, chat->model);
    stet_buf_append_str(&model, STET_STR("-2026-08-01"));
    stet_buf_printf(b, "{\"id\":\"chatcmpl-s%llu\",\"object\":\"%s\",\"created\":%lld,\"model\":",
                    (unsigned long long)c->index, object, (long long)c->created_s);
    stet_json_quote(b, stet_buf_str(&model));
}

void sandbox_completion_plain(const sandbox_chat *chat, const sandbox_completion *c, sandbox_reply *reply) {
    stet_buf *b = &reply->body;
    write_head(b, chat, c, "chat.completion");
    stet_buf_append_str(
        b, STET_STR(",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"));
    if (c->refusal)
        stet_buf_append_str(b, STET_STR("null,\"refusal\":"));
    stet_json_quote(b, stet_buf_str(&c->content));
    if (!c->refusal)
        stet_buf_append_str(b, STET_STR(",\"refusal\":null"));
    stet_buf_printf(
        b, ",\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"%s\"}],\"usage\":", c->finish);
    write_usage(b, c);
    stet_buf_append_str(b, STET_STR(",\"service_tier\":\"default\",\"system_fingerprint\":null}\n"));
}

typedef struct streamer {
    const sandbox_chat *chat;
    const sandbox_completion *c;
    sandbox_reply *reply;
    stet_prng prng;
    unsigned events;
} streamer;

static void begin_event(streamer *s) {
    if (++s->events % EVENTS_PER_PING == 0)
        stet_buf_append_str(&s->reply->body, STET_STR(": ping\n\n"));
    sandbox_reply_mark(s->reply);
    stet_buf_append_str(&s->reply->body, STET_STR("data: "));
    write_head(&s->reply->body, s->chat, s->c, "chat.completion.chunk");
    stet_buf_append_str(&s->reply->body,
                        STET_STR(",\"service_tier\":\"default\",\"system_fingerprint\":null"));
}

static void end_event(streamer *s) {
    stet_buf *b = &s->reply->body;
    if (s->chat->include_usage)
        stet_buf_append_str(b, STET_STR(",\"usage\":null"));
    if (s->chat->obfuscation)
        stet_buf_printf(b, ",\"obfuscation\":\"%.*llx\"", 1 + (int)stet_prng_below(&s->prng, 15),
                        (unsigned long long)stet_prng_next(&s->prng));
    stet_buf_append_str(b, STET_STR("}\n\n"));
}

static void delta_event(streamer *s, const char *member, stet_str text, const char *finish) {
    stet_buf *b = &s->reply->body;
    begin_event(s);
    stet_buf_append_str(b, STET_STR(",\"choices\":[{\"index\":0,\"delta\":{"));
    if (s->events == 1)
        stet_buf_append_str(b, STET_STR("\"role\":\"assistant\",\"refusal\":null,\"content\":\"\""));
    else if (finish == NULL) {
        stet_buf_printf(b, "\"%s\":", member);
        stet_json_quote(b, text);
    }
    stet_buf_append_str(b, STET_STR("},\"logprobs\":null,\"finish_reason\":"));
    if (finish == NULL)
        stet_buf_append_str(b, STET_STR("null"));
    else
        stet_buf_printf(b, "\"%s\"", finish);
    stet_buf_append_str(b, STET_STR("}]"));
    end_event(s);
}

/* True when the fault ended the stream. */
static bool break_stream(streamer *s, const sandbox_fault *fault, stet_str next) {
    stet_buf *b = &s->reply->body;
    if (fault->kind == SANDBOX_FAULT_HALF_STREAM)
        return true;
    if (fault->kind == SANDBOX_FAULT_ERROR_IN_STREAM) {
        sandbox_reply_mark(s->reply);
        if (fault->named_event)
            stet_buf_append_str(b, STET_STR("event: error\n"));
        stet_buf_append_str(b, STET_STR("data: "));
        if (fault->body.size > 0)
            stet_buf_append_str(b, stet_buf_str(&fault->body));
        else
            sandbox_error_json(b, "The server had an error while processing your request. Sorry about that!",
                               "server_error", "", NULL);
        stet_buf_append_str(b, STET_STR("\n\n"));
        return true;
    }
    if (fault->kind == SANDBOX_FAULT_ENDLESS) {
        size_t start = b->size;
        delta_event(s, "content", next, NULL);
        stet_buf_append(&s->reply->filler, b->data + start, b->size - start);
        s->reply->cut = start;
        s->reply->end = SANDBOX_END_ENDLESS;
        return true;
    }
    return false;
}

static bool write_deltas(streamer *s, const sandbox_fault *fault) {
    stet_str rest = stet_buf_str(&s->c->content);
    const size_t half = rest.size / 2;
    const size_t step = rest.size / DELTAS_MAX > DELTA_BYTES_MIN ? rest.size / DELTAS_MAX : DELTA_BYTES_MIN;
    bool broken = false;
    while (rest.size > 0) {
        stet_str piece = {rest.data, stet_utf8_cut(rest, step)};
        if (fault != NULL && !broken && rest.size <= half + step) {
            broken = true;
            if (break_stream(s, fault, piece))
                return true;
        }
        delta_event(s, s->c->refusal ? "refusal" : "content", piece, NULL);
        rest.data += piece.size;
        rest.size -= piece.size;
    }
    return false;
}

void sandbox_completion_stream(const sandbox_chat *chat, const sandbox_completion *c,
                               const sandbox_fault *fault, sandbox_reply *reply) {
    streamer s = {.chat = chat, .c = c, .reply = reply, .prng = stet_prng_of(c->index)};
    stet_buf *b = &reply->body;
    reply->streamed = true;
    reply->content_type = "text/event-stream; charset=utf-8";
    delta_event(&s, "content", (stet_str){NULL, 0}, NULL);
    if (write_deltas(&s, fault))
        return;
    delta_event(&s, "content", (stet_str){NULL, 0}, c->finish);
    if (chat->include_usage) {
        begin_event(&s);
        stet_buf_append_str(b, STET_STR(",\"choices\":[],\"usage\":"));
        write_usage(b, c);
        stet_buf_append_str(b, STET_STR("}\n\n"));
    }
    sandbox_reply_mark(reply);
    stet_buf_append_str(b, STET_STR("data: [DONE]\n\n"));
}

void sandbox_error_json(stet_buf *b, const char *message, const char *type, const char *param,
                        const char *code) {
    stet_buf_append_str(b, STET_STR("{\"error\":{\"message\":"));
    stet_json_quote(b, stet_str_of(message));
    stet_buf_append_str(b, STET_STR(",\"type\":"));
    stet_json_quote(b, stet_str_of(type));
    stet_buf_append_str(b, STET_STR(",\"param\":"));
    if (param[0] == '\0')
        stet_buf_append_str(b, STET_STR("null"));
    else
        stet_json_quote(b, stet_str_of(param));
    stet_buf_printf(b, ",\"code\":%s}}", code == NULL ? "null" : code);
}
