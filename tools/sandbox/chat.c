#include "tools/sandbox/chat.h"

#include <stdio.h>
#include <strings.h>

#include "proto/base/clock.h"
#include "proto/wire/json.h"
#include "tools/sandbox/answer.h"
#include "tools/sandbox/check.h"
#include "tools/sandbox/completion.h"
#include "tools/sandbox/faults.h"
#include "tools/sandbox/stream.h"

enum { CONTENT_BYTES_MAX = 24 * 1024 * 1024 };

static const char JSON[] = "application/json";
static const char *const MODELS[] = {"gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o-mini", "gpt-x"};

static int send_error(const sandbox_request *r, uint32_t status, const char *message, const char *type,
                      const char *param, const char *code) {
    sandbox_reply reply = sandbox_reply_of(r->sandbox, status, JSON);
    sandbox_error_json(&reply.body, message, type, param, code);
    return sandbox_reply_send(r, &reply);
}

/* ---- credentials ---- */

/* True when the key is one; else *ret_sent is the answer that was sent. */
static bool authorized(const sandbox_request *r, int *ret_sent) {
    const char *header = sandbox_header(r, "Authorization");
    if (header == NULL || strncasecmp(header, "Bearer ", 7) != 0 ||
        header[7 + strspn(header + 7, " ")] == '\0') {
        *ret_sent =
            send_error(r, 401,
                       "You didn't provide an API key. You need to provide your API key in an Authorization "
                       "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                       "invalid_request_error", "", NULL);
        return false;
    }
    if (strcmp(header + 7, "bad-key") == 0) {
        *ret_sent = send_error(r, 401, "Incorrect API key provided: bad-key.", "invalid_request_error", "",
                               "\"invalid_api_key\"");
        return false;
    }
    return true;
}

/* ---- faults that need no answer of the model ---- */

typedef struct canned {
    sandbox_fault_kind kind;
    uint32_t status;
    const char *message, *type, *code;
    const char *retry_after; /* NULL: none */
} canned;

static const canned CANNED[] = {
    {SANDBOX_FAULT_RATE_LIMIT, 429,
     "Rate limit reached for gpt-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please "
     "try again in "
     "1s.",
     "tokens", "\"rate_limit_exceeded\"", "1"},
    {SANDBOX_FAULT_QUOTA, 429, "You exceeded your current quota, please check your plan and billing details.",
     "insufficient_quota", "\"insufficient_quota\"", NULL},
    {SANDBOX_FAULT_OVERLOADED, 503,
     "The server is currently overloaded with other requests. Please try again later.",
     "service_unavailable_error", "\"server_is_overloaded\"", "1"},
};

static const char *type_of(uint32_t status) {
    return status >= 500 ? "server_error" : "invalid_request_error";
}

/* Status and default body of a fault that answers with an error; false for the other kinds. */
static bool canned_answer(const sandbox_fault *f, sandbox_reply *reply, const char **ret_retry_after) {
    char code[16];
    for (size_t i = 0; i < COUNT_OF(CANNED); i++)
        if (CANNED[i].kind == f->kind) {
            reply->status = f->status != 0 ? f->status : CANNED[i].status;
            sandbox_error_json(&reply->body, CANNED[i].message, CANNED[i].type, "", CANNED[i].code);
            *ret_retry_after = CANNED[i].retry_after;
            return true;
        }
    switch (f->kind) {
    case SANDBOX_FAULT_STATUS:
        reply->status = f->status != 0 ? f->status : 500;
        sandbox_error_json(&reply->body, "The sandbox was told to answer so.", type_of(reply->status), "",
                           NULL);
        return true;
    case SANDBOX_FAULT_STRING_CODE:
    case SANDBOX_FAULT_NUMBER_CODE:
        reply->status = f->status != 0 ? f->status : 429;
        (void)snprintf(code, sizeof code, f->kind == SANDBOX_FAULT_STRING_CODE ? "\"%u\"" : "%u",
                       reply->status);
        sandbox_error_json(&reply->body, "litellm.RateLimitError: the sandbox was told to answer so.",
                           "throttling_error", "", code);
        return true;
    default:
        return false;
    }
}

static void apply_common(const sandbox_fault *f, sandbox_reply *reply) {
    reply->fault = sandbox_fault_kind_name(f->kind);
    if (f->delay_ms >= 0)
        reply->delay_ms = f->delay_ms;
    if (f->token_delay_ms >= 0)
        reply->token_delay_ms = f->token_delay_ms;
    stet_buf_append_str(&reply->headers, stet_buf_str(&f->headers));
}

/* True: answered, *ret_sent says how. */
static bool answer_by_fault(const sandbox_request *r, const sandbox_fault *f, int *ret_sent) {
    const char *retry_after = NULL;
    sandbox_reply reply = sandbox_reply_of(r->sandbox, 0, JSON);
    apply_common(f, &reply);
    bool reset = f->kind == SANDBOX_FAULT_RESET;
    if (reset)
        reply.end = SANDBOX_END_RESET;
    if (!reset && !canned_answer(f, &reply, &retry_after)) {
        sandbox_reply_done(&reply);
        return false;
    }
    if (f->body.size > 0) {
        stet_buf_clear(&reply.body);
        stet_buf_append_str(&reply.body, stet_buf_str(&f->body));
    }
    if (f->retry_after.size > 0)
        sandbox_reply_header(&reply, "Retry-After", stet_buf_str(&f->retry_after));
    else if (retry_after != NULL)
        sandbox_reply_header(&reply, "Retry-After", stet_str_of(retry_after));
    *ret_sent = sandbox_reply_send(r, &reply);
    return true;
}

/* ---- the model ---- */

static void write_content(const sandbox_chat *chat, const sandbox_fault *f, stet_buf *content) {
    CLEANUP(stet_buf_done) stet_buf markdown = STET_BUF(CONTENT_BYTES_MAX);
    CLEANUP(stet_buf_done) stet_buf summary = STET_BUF(64 * 1024);
    sandbox_fault_kind kind = f == NULL ? SANDBOX_FAULT_DELAY : f->kind;
    stet_str user = stet_buf_str(&chat->texts);
    user.data += chat->user_start;
    user.size -= chat->user_start;
    sandbox_answer_edit(user, &markdown, &summary);
    if (kind == SANDBOX_FAULT_BAD_JSON) {
        stet_buf_append_str(content, STET_STR("Sure! Here is the document: {\"markdown\": \"# Half"));
    } else if (kind == SANDBOX_FAULT_WRONG_SCHEMA) {
        stet_buf_append_str(content, STET_STR("{\"text\": \"not what was asked\", \"notes\": [1, 2]}"));
    } else if (kind == SANDBOX_FAULT_REFUSAL) {
        stet_buf_append_str(content, STET_STR("I'm sorry, but I can't help with that."));
    } else if (chat->format == SANDBOX_FORMAT_TEXT || (kind == SANDBOX_FAULT_IGNORE_SCHEMA && !f->fence)) {
        stet_buf_append_str(content, stet_buf_str(&markdown));
    } else {
        bool fence = kind == SANDBOX_FAULT_IGNORE_SCHEMA;
        stet_buf_append_str(content, fence ? STET_STR("```json\n") : STET_STR(""));
        if (chat->schema.size > 0 && !sandbox_schema_is_draft(chat->schema))
            sandbox_answer_of_schema(chat->schema, stet_buf_str(&summary), content);
        else
            sandbox_answer_json(stet_buf_str(&markdown), stet_buf_str(&summary), content);
        stet_buf_append_str(content, fence ? STET_STR("\n```") : STET_STR(""));
    }
    if (!stet_buf_ok(&markdown) || !stet_buf_ok(&summary))
        content->failed = true;
}

static void complete(const sandbox_request *r, const sandbox_chat *chat, const sandbox_fault *f,
                     sandbox_completion *c) {
    *c = (sandbox_completion){.index = r->index,
                              .created_s = stet_clock_wall_ms() / 1000,
                              .content = STET_BUF(CONTENT_BYTES_MAX),
                              .refusal = f != NULL && f->kind == SANDBOX_FAULT_REFUSAL,
                              .finish = "stop",
                              .prompt_tokens = sandbox_tokens_of(chat->texts.size) + 7};
    write_content(chat, f, &c->content);
    size_t size_max =
        chat->tokens_max == 0 || chat->tokens_max > SIZE_MAX / 4 ? SIZE_MAX : (size_t)chat->tokens_max * 4;
    if (f != NULL && f->kind == SANDBOX_FAULT_LENGTH && c->content.size / 2 < size_max)
        size_max = c->content.size / 2;
    if (c->content.size > size_max) {
        stet_buf_truncate(&c->content, stet_utf8_cut(stet_buf_str(&c->content), size_max));
        c->finish = "length";
    }
    c->completion_tokens = sandbox_tokens_of(c->content.size);
}

/* How a fault breaks off an answer that is right so far. */
static void break_off(const sandbox_fault *f, sandbox_reply *reply) {
    reply->cut = reply->end == SANDBOX_END_ENDLESS ? reply->cut : reply->body.size / 2;
    switch (f->kind) {
    case SANDBOX_FAULT_RESET_MID:
        reply->end = SANDBOX_END_RESET;
        break;
    case SANDBOX_FAULT_STALL:
        reply->end = SANDBOX_END_STALL;
        break;
    case SANDBOX_FAULT_ENDLESS:
        if (reply->filler.size == 0)
            stet_buf_append_byte(&reply->filler, ' ');
        reply->end = SANDBOX_END_ENDLESS;
        break;
    case SANDBOX_FAULT_HALF_STREAM:
        if (reply->streamed)
            break; /* cut between two events already */
        stet_buf_truncate(&reply->body, reply->cut);
        reply->streamed = true; /* no Content-Length that would betray the cut */
        break;
    default:
        break;
    }
}

static int send_completion(const sandbox_request *r, const sandbox_chat *chat, const sandbox_fault *f) {
    sandbox_completion c;
    complete(r, chat, f, &c);
    sandbox_reply reply = sandbox_reply_of(r->sandbox, 200, JSON);
    char remaining[24];
    (void)snprintf(remaining, sizeof remaining, "%llu",
                   2000000 - (unsigned long long)(c.prompt_tokens % 2000000));
    sandbox_reply_header(&reply, "openai-version", STET_STR("2020-10-01"));
    sandbox_reply_header(&reply, "openai-processing-ms", STET_STR("12"));
    sandbox_reply_header(&reply, "x-ratelimit-limit-requests", STET_STR("5000"));
    sandbox_reply_header(&reply, "x-ratelimit-remaining-requests", STET_STR("4999"));
    sandbox_reply_header(&reply, "x-ratelimit-reset-requests", STET_STR("12ms"));
    sandbox_reply_header(&reply, "x-ratelimit-limit-tokens", STET_STR("2000000"));
    sandbox_reply_header(&reply, "x-ratelimit-remaining-tokens", stet_str_of(remaining));
    sandbox_reply_header(&reply, "x-ratelimit-reset-tokens", STET_STR("1s"));
    if (chat->stream)
        sandbox_completion_stream(chat, &c, f, &reply);
    else
        sandbox_completion_plain(chat, &c, &reply);
    if (f != NULL) {
        apply_common(f, &reply);
        break_off(f, &reply);
    }
    if (!stet_buf_ok(&c.content))
        reply.body.failed = true;
    stet_buf_done(&c.content);
    return sandbox_reply_send(r, &reply);
}

static int answer(const sandbox_request *r, const sandbox_chat *chat, const sandbox_problem *problem,
                  const sandbox_fault *f) {
    int sent = 0;
    char code[64];
    if (f != NULL && answer_by_fault(r, f, &sent))
        return sent;
    if (!authorized(r, &sent))
        return sent;
    if (problem != NULL) {
        (void)snprintf(code, sizeof code, "\"%s\"", problem->code == NULL ? "" : problem->code);
        return send_error(r, problem->status, problem->message, "invalid_request_error", problem->param,
                          problem->code == NULL ? NULL : code);
    }
    if (f != NULL && f->kind == SANDBOX_FAULT_ERROR_IN_STREAM && !chat->stream)
        return send_error(r, 500, "The server had an error while processing your request. Sorry about that!",
                          "server_error", "", NULL);
    return send_completion(r, chat, f);
}

int sandbox_chat_completions(const sandbox_request *r) {
    sandbox_chat chat;
    sandbox_problem problem;
    sandbox_fault fault;
    bool valid = sandbox_chat_read(r->mp, &chat, &problem);
    bool faulty = sandbox_faults_take(r->sandbox->faults, r->body, stet_buf_str(&chat.texts), &fault);
    int sent = answer(r, &chat, valid ? NULL : &problem, faulty ? &fault : NULL);
    if (faulty)
        sandbox_fault_done(&fault);
    sandbox_chat_done(&chat);
    return sent;
}

/* ---- models and the rest ---- */

static void write_model(stet_buf *b, stet_str id) {
    stet_buf_append_str(b, STET_STR("{\"id\":"));
    stet_json_quote(b, id);
    stet_buf_append_str(
        b,
        STET_STR(
            ",\"object\":\"model\",\"created\":1686935002,\"owned_by\":\"sandbox\",\"shutdown_date\":null}"));
}

int sandbox_models(const sandbox_request *r) {
    int sent = 0;
    if (!authorized(r, &sent))
        return sent;
    const char *id = r->path + strlen("/v1/models");
    sandbox_reply reply = sandbox_reply_of(r->sandbox, 200, JSON);
    if (id[0] == '/') {
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(MODELS) && !known; i++)
            known = strcmp(id + 1, MODELS[i]) == 0;
        if (known) {
            write_model(&reply.body, stet_str_of(id + 1));
        } else {
            reply.status = 404;
            sandbox_error_json(&reply.body, "The model does not exist or you do not have access to it.",
                               "invalid_request_error", "model", "\"model_not_found\"");
        }
        return sandbox_reply_send(r, &reply);
    }
    stet_buf_append_str(&reply.body, STET_STR("{\"object\":\"list\",\"data\":["));
    for (size_t i = 0; i < COUNT_OF(MODELS); i++) {
        if (i > 0)
            stet_buf_append_byte(&reply.body, ',');
        write_model(&reply.body, stet_str_of(MODELS[i]));
    }
    stet_buf_append_str(&reply.body, STET_STR("]}"));
    return sandbox_reply_send(r, &reply);
}

int sandbox_chat_unknown(const sandbox_request *r) {
    char message[256];
    (void)snprintf(message, sizeof message, "Invalid URL (%s %s)", r->method, r->path);
    return send_error(r, 404, message, "invalid_request_error", "", NULL);
}

int sandbox_chat_too_large(const sandbox_request *r) {
    return send_error(r, 413, "The request is too large.", "invalid_request_error", "", NULL);
}
