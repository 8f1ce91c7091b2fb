#include "tools/sandbox/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "proto/wire/mp.h"

enum { TEXTS_BYTES_MAX = 16 * 1024 * 1024, STOPS_MAX = 4, METADATA_MAX = 16, CHOICES_MAX = 128 };

static const char *const FIELDS[] = {
    "model",
    "messages",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "stop",
    "stream",
    "stream_options",
    "response_format",
    "store",
    "metadata",
    "seed",
    "safety_identifier",
    "prompt_cache_key",
    "user",
    "service_tier",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "reasoning_effort",
    "verbosity",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "modalities",
    "prediction",
    "web_search_options",
};

static bool PRINTF(4, 5)
    refuse(sandbox_problem *p, const char *param, const char *code, const char *format, ...) {
    va_list arguments;
    p->status = 400;
    p->code = code;
    (void)snprintf(p->param, sizeof p->param, "%s", param);
    va_start(arguments, format);
    (void)vsnprintf(p->message, sizeof p->message, format, arguments);
    va_end(arguments);
    return false;
}

static bool has(stet_str map, const char *key, stet_mp_reader *ret) {
    return stet_mp_find(map, key, ret) && stet_mp_peek(ret) != STET_MP_NIL;
}

static bool check_fields(stet_str mp, sandbox_problem *p) {
    stet_mp_reader r = stet_mp_reader_of(mp);
    uint32_t pairs = stet_mp_read_map(&r);
    for (uint32_t i = 0; i < pairs; i++) {
        stet_str name = stet_mp_read_str(&r);
        (void)stet_mp_read_raw(&r);
        bool known = false;
        for (size_t k = 0; k < COUNT_OF(FIELDS) && !known; k++)
            known = stet_str_is(name, FIELDS[k]);
        if (!known)
            return refuse(p, "", NULL, "Unrecognized request argument supplied: %.*s",
                          (int)(name.size < 64 ? name.size : 64), name.data);
    }
    return true;
}

static bool check_number(stet_str mp, const char *name, double min, double max, sandbox_problem *p) {
    stet_mp_reader r;
    if (!has(mp, name, &r))
        return true;
    double value = stet_mp_read_double(&r);
    if (r.failed)
        return refuse(p, name, "invalid_type", "Invalid type for '%s': expected a number.", name);
    if (!(value >= min && value <= max))
        return refuse(p, name, "decimal_out_of_range", "Invalid '%s': expected a value from %g to %g.", name,
                      min, max);
    return true;
}

static bool check_integer(stet_str mp, const char *name, uint64_t min, uint64_t max, uint64_t *ret,
                          sandbox_problem *p) {
    stet_mp_reader r;
    if (!has(mp, name, &r))
        return true;
    if (stet_mp_peek(&r) != STET_MP_UINT)
        return refuse(p, name, "invalid_type", "Invalid type for '%s': expected a positive integer.", name);
    *ret = stet_mp_read_uint(&r);
    if (*ret < min || *ret > max)
        return refuse(p, name, "integer_out_of_range", "Invalid '%s': integer out of range.", name);
    return true;
}

static bool check_bool(stet_str map, const char *param, const char *name, bool *ret, sandbox_problem *p) {
    stet_mp_reader r;
    if (!has(map, name, &r))
        return true;
    *ret = stet_mp_read_bool(&r);
    if (r.failed)
        return refuse(p, param, "invalid_type", "Invalid type for '%s': expected a boolean.", param);
    return true;
}

static bool check_sampling(stet_str mp, sandbox_chat *chat, sandbox_problem *p) {
    uint64_t choices = 1;
    stet_mp_reader r, r2;
    if (!check_number(mp, "temperature", 0, 2, p) || !check_number(mp, "top_p", 0, 1, p) ||
        !check_number(mp, "presence_penalty", -2, 2, p) || !check_number(mp, "frequency_penalty", -2, 2, p) ||
        !check_integer(mp, "n", 1, CHOICES_MAX, &choices, p) ||
        !check_integer(mp, "max_tokens", 1, UINT32_MAX, &chat->tokens_max, p) ||
        !check_integer(mp, "max_completion_tokens", 1, UINT32_MAX, &chat->tokens_max, p))
        return false;
    if (has(mp, "max_tokens", &r) && has(mp, "max_completion_tokens", &r2))
        return refuse(p, "max_tokens", "invalid_parameter_combination",
                      "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.");
    if (choices != 1)
        return refuse(p, "n", "unsupported_value", "The sandbox answers with one choice: 'n' must be 1.");
    if (has(mp, "stop", &r) && stet_mp_peek(&r) != STET_MP_STR) {
        uint32_t stops = stet_mp_read_array(&r);
        if (r.failed || stops > STOPS_MAX)
            return refuse(p, "stop", "invalid_type", "Invalid 'stop': expected a string or up to 4 strings.");
    }
    if (has(mp, "metadata", &r)) {
        uint32_t pairs = stet_mp_read_map(&r);
        if (r.failed || pairs > METADATA_MAX)
            return refuse(p, "metadata", "invalid_type", "Invalid 'metadata': expected up to 16 pairs.");
    }
    return true;
}

/* content: a string, or an array of parts of type text. */
static bool read_content(stet_mp_reader *r, uint32_t number, stet_buf *texts, sandbox_problem *p) {
    char param[96];
    (void)snprintf(param, sizeof param, "messages[%u].content", number);
    if (stet_mp_peek(r) == STET_MP_STR) {
        stet_buf_append_str(texts, stet_mp_read_str(r));
        stet_buf_append_byte(texts, '\n');
        return true;
    }
    if (stet_mp_peek(r) != STET_MP_ARRAY)
        return refuse(p, param, "invalid_type",
                      "Invalid type for '%s': expected one of a string or array of objects.", param);
    uint32_t parts = stet_mp_read_array(r);
    for (uint32_t i = 0; i < parts; i++) {
        stet_str part = stet_mp_read_raw(r);
        stet_mp_reader text;
        if (!stet_str_is(stet_mp_get_str(part, "type", (stet_str){NULL, 0}), "text") ||
            !stet_mp_find(part, "text", &text) || stet_mp_peek(&text) != STET_MP_STR)
            return refuse(p, param, "invalid_value",
                          "Invalid '%s[%u]': the sandbox knows parts of type text.", param, i);
        stet_buf_append_str(texts, stet_mp_read_str(&text));
        stet_buf_append_byte(texts, '\n');
    }
    return true;
}

static bool read_message(stet_str message, uint32_t number, bool user, sandbox_chat *chat,
                         sandbox_problem *p) {
    static const char *const roles[] = {"developer", "system", "user", "assistant", "tool"};
    char param[96];
    stet_str role = stet_mp_get_str(message, "role", (stet_str){NULL, 0});
    bool known = false;
    for (size_t i = 0; i < COUNT_OF(roles) && !known; i++)
        known = stet_str_is(role, roles[i]);
    (void)snprintf(param, sizeof param, "messages[%u].role", number);
    if (!known)
        return refuse(p, param, "invalid_value",
                      "Invalid value for '%s': expected one of developer, system, user, assistant, tool.",
                      param);
    if (stet_str_is(role, "user") != user)
        return true;
    stet_mp_reader content;
    if (!has(message, "content", &content)) {
        if (stet_str_is(role, "assistant"))
            return true; /* tool calls instead */
        (void)snprintf(param, sizeof param, "messages[%u].content", number);
        return refuse(p, param, "missing_required_parameter", "Missing required parameter: '%s'.", param);
    }
    return read_content(&content, number, &chat->texts, p);
}

static bool check_messages(stet_str mp, sandbox_chat *chat, sandbox_problem *p) {
    stet_mp_reader messages;
    if (!has(mp, "messages", &messages))
        return refuse(p, "messages", "missing_required_parameter", "Missing required parameter: 'messages'.");
    if (stet_mp_peek(&messages) != STET_MP_ARRAY)
        return refuse(p, "messages", "invalid_type",
                      "Invalid type for 'messages': expected an array of objects.");
    for (int user = 0; user < 2; user++) {
        stet_mp_reader r = messages;
        uint32_t count = stet_mp_read_array(&r);
        if (count == 0)
            return refuse(p, "messages", "empty_array", "Invalid 'messages': empty array.");
        if (user == 1)
            chat->user_start = chat->texts.size;
        for (uint32_t i = 0; i < count; i++)
            if (!read_message(stet_mp_read_raw(&r), i, user == 1, chat, p))
                return false;
    }
    if (!stet_buf_ok(&chat->texts))
        return refuse(p, "messages", "string_above_max_length", "Invalid 'messages': too long.");
    return true;
}

static bool check_schema(stet_str format, sandbox_chat *chat, sandbox_problem *p) {
    stet_str json_schema = stet_mp_get_raw(format, "json_schema");
    stet_str name = stet_mp_get_str(json_schema, "name", (stet_str){NULL, 0});
    if (json_schema.size == 0)
        return refuse(p, "response_format.json_schema", "missing_required_parameter",
                      "Missing required parameter: 'response_format.json_schema'.");
    bool name_ok = name.size > 0 && name.size <= 64;
    for (size_t i = 0; i < name.size && name_ok; i++) {
        unsigned char c = (unsigned char)name.data[i];
        name_ok = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
                  c == '-';
    }
    if (!name_ok)
        return refuse(
            p, "response_format.json_schema.name", "invalid_value",
            "Invalid 'response_format.json_schema.name': expected 1 to 64 of letters, digits, _ and -.");
    chat->schema = stet_mp_get_raw(json_schema, "schema");
    if (chat->schema.size == 0)
        return refuse(p, "response_format.json_schema.schema", "missing_required_parameter",
                      "Missing required parameter: 'response_format.json_schema.schema'.");
    if (!stet_mp_get_bool(json_schema, "strict", false))
        return true;
    stet_mp_reader properties, required;
    uint32_t properties_count = 0, required_count = 0;
    if (stet_mp_find(chat->schema, "properties", &properties))
        properties_count = stet_mp_read_map(&properties);
    if (stet_mp_find(chat->schema, "required", &required))
        required_count = stet_mp_read_array(&required);
    if (stet_mp_get_bool(chat->schema, "additionalProperties", true) || properties_count != required_count)
        return refuse(
            p, "response_format", NULL,
            "Invalid schema for response_format: with 'strict', 'additionalProperties' must be false and "
            "'required' must name every property.");
    return true;
}

static bool check_format(stet_str mp, sandbox_chat *chat, sandbox_problem *p) {
    stet_str format = stet_mp_get_raw(mp, "response_format");
    stet_mp_reader r;
    if (!has(mp, "response_format", &r))
        return true;
    stet_str type = stet_mp_get_str(format, "type", (stet_str){NULL, 0});
    if (stet_str_is(type, "text"))
        return true;
    if (stet_str_is(type, "json_schema")) {
        chat->format = SANDBOX_FORMAT_JSON_SCHEMA;
        return check_schema(format, chat, p);
    }
    if (!stet_str_is(type, "json_object"))
        return refuse(p, "response_format.type", "invalid_value",
                      "Invalid value for 'response_format.type': expected text, json_object or json_schema.");
    chat->format = SANDBOX_FORMAT_JSON_OBJECT;
    for (size_t i = 0; i + 4 <= chat->texts.size; i++)
        if (strncasecmp((const char *)chat->texts.data + i, "json", 4) == 0)
            return true;
    return refuse(p, "messages", NULL,
                  "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
                  "'json_object'.");
}

static bool check_stream(stet_str mp, sandbox_chat *chat, sandbox_problem *p) {
    stet_mp_reader r;
    if (!check_bool(mp, "stream", "stream", &chat->stream, p))
        return false;
    if (!has(mp, "stream_options", &r))
        return true;
    if (!chat->stream)
        return refuse(p, "stream_options", NULL,
                      "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    stet_str options = stet_mp_get_raw(mp, "stream_options");
    return check_bool(options, "stream_options.include_usage", "include_usage", &chat->include_usage, p) &&
           check_bool(options, "stream_options.include_obfuscation", "include_obfuscation",
                      &chat->obfuscation, p);
}

bool sandbox_chat_read(stet_str mp, sandbox_chat *ret, sandbox_problem *p) {
    *ret = (sandbox_chat){.obfuscation = true, .texts = STET_BUF(TEXTS_BYTES_MAX)};
    stet_mp_reader r = stet_mp_reader_of(mp);
    if (mp.size == 0 || stet_mp_peek(&r) != STET_MP_MAP)
        return refuse(p, "", NULL,
                      "We could not parse the JSON body of your request. The API expects a JSON payload.");
    if (!check_fields(mp, p))
        return false;
    ret->model = stet_mp_get_str(mp, "model", (stet_str){NULL, 0});
    if (ret->model.size == 0)
        return refuse(p, "model", "missing_required_parameter", "you must provide a model parameter");
    if (ret->model.size >= 7 && memcmp(ret->model.data, "no-such", 7) == 0) {
        (void)refuse(p, "model", "model_not_found",
                     "The model `%.*s` does not exist or you do not have access to it.",
                     (int)(ret->model.size < 64 ? ret->model.size : 64), ret->model.data);
        p->status = 404;
        return false;
    }
    return check_messages(mp, ret, p) && check_sampling(mp, ret, p) && check_format(mp, ret, p) &&
           check_stream(mp, ret, p);
}

void sandbox_chat_done(sandbox_chat *self) {
    stet_buf_done(&self->texts);
}
