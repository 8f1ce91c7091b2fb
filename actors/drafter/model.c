#include "actors/drafter/model.h"

#include "proto/wire/json.h"
#include "proto/wire/mp.h"

enum { OBJECT_STARTS_MAX = 8, DERIVED_SUMMARY_MAX = 200 };

static const struct {
    const char *name;
    const char *instruction;
} schemas[] = {
    [DRAFTER_JSON_SCHEMA] =
        {"json_schema", "Answer with one JSON object with exactly these fields: \"markdown\", the whole new "
                        "document, and \"summary\", one or two sentences about what you changed."},
    [DRAFTER_JSON_OBJECT] =
        {"json_object",
         "Answer with one JSON object with exactly these fields: \"markdown\", the whole new "
         "document, and \"summary\", one or two sentences about what you changed. Write nothing "
         "outside of the JSON object."},
    [DRAFTER_PLAIN] = {"none", "Answer with the whole new document in Markdown and with nothing else."},
};

stet_code drafter_schema_parse(const char *text, drafter_schema *ret, stet_error *e) {
    for (size_t i = 0; i < COUNT_OF(schemas); i++) {
        if (strcmp(text, schemas[i].name) == 0) {
            *ret = (drafter_schema)i;
            return STET_OK;
        }
    }
    return stet_error_field(
        e, STET_INVALID, "openai.schema",
        "openai.schema must be json_schema, json_object or none; correct it and start again");
}

const char *drafter_schema_instruction(drafter_schema schema) {
    return schemas[schema].instruction;
}

static void put_quoted(stet_buf *b, const char *text) {
    stet_json_quote(b, stet_str_of(text));
}

static void put_message(stet_buf *b, const char *role, stet_str content) {
    stet_buf_printf(b, "{\"role\":\"%s\",\"content\":", role);
    stet_json_quote(b, content);
    stet_buf_append_byte(b, '}');
}

void drafter_model_request(const stet_config *config, drafter_schema schema, stet_str system, stet_str user,
                           stet_buf *ret_json) {
    stet_buf *b = ret_json;
    stet_buf_append_str(b, STET_STR("{\"model\":"));
    put_quoted(b, stet_config_str(config, STET_SETTING_openai_model));
    stet_buf_append_str(b, STET_STR(",\"messages\":["));
    put_message(b, "system", system);
    stet_buf_append_byte(b, ',');
    put_message(b, "user", user);
    stet_buf_append_str(b, STET_STR("],"));
    put_quoted(b, stet_config_str(config, STET_SETTING_openai_max_tokens_field));
    stet_buf_printf(b, ":%lld,\"stream\":true,\"stream_options\":{\"include_usage\":true}",
                    (long long)stet_config_int(config, STET_SETTING_openai_max_tokens));
    if (schema == DRAFTER_JSON_SCHEMA)
        stet_buf_append_str(
            b,
            STET_STR(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"draft\","
                     "\"strict\":true,\"schema\":{\"type\":\"object\",\"properties\":{"
                     "\"markdown\":{\"type\":\"string\",\"description\":\"the whole new document\"},"
                     "\"summary\":{\"type\":\"string\",\"description\":\"what was changed, for a person\"}},"
                     "\"required\":[\"markdown\",\"summary\"],\"additionalProperties\":false}}}"));
    else if (schema == DRAFTER_JSON_OBJECT)
        stet_buf_append_str(b, STET_STR(",\"response_format\":{\"type\":\"json_object\"}"));
    stet_buf_append_byte(b, '}');
}

/* ---- the text of the answer ---- */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static stet_str trim(stet_str text) {
    while (text.size > 0 && is_space(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_space(text.data[text.size - 1]))
        text.size--;
    return text;
}

/* "```json\n...\n```" -> "..."; anything else as it is. */
static stet_str without_fence(stet_str text) {
    if (text.size < 7 || memcmp(text.data, "```", 3) != 0 || memcmp(text.data + text.size - 3, "```", 3) != 0)
        return text;
    const char *line_end = memchr(text.data, '\n', text.size);
    if (!line_end || line_end >= text.data + text.size - 3)
        return text;
    const char *begin = line_end + 1;
    return trim(stet_str_from(begin, (size_t)(text.data + text.size - 3 - begin)));
}

/* The balanced {...} that begins at text.data[0]; {NULL, 0} when it is not closed. Braces inside strings do
 * not count. */
static stet_str balanced_object(stet_str text) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{') {
            depth++;
        } else if (c == '}' && --depth == 0) {
            return stet_str_from(text.data, i + 1);
        }
    }
    return (stet_str){NULL, 0};
}

/* False and the scratch starved: nobody can say what it is. */
static bool parse_object(stet_str text, stet_buf *scratch) {
    stet_error ignored;
    stet_buf_clear(scratch);
    if (text.size == 0 || text.data[0] != '{')
        return false;
    stet_code rc = stet_json_to_mp(text, STET_MP_LIMITS_BODY, scratch, &ignored);
    if (rc == STET_BUSY)
        scratch->failed = scratch->starved = true;
    return rc == STET_OK;
}

/* The whole text, what a fence holds, or the first {...} in it. */
static bool find_object(stet_str content, stet_buf *scratch) {
    stet_str text = without_fence(trim(content));
    if (parse_object(text, scratch))
        return true;
    for (int tries = 0; tries < OBJECT_STARTS_MAX && text.size > 0 && !stet_buf_starved(scratch); tries++) {
        const char *start = memchr(text.data, '{', text.size);
        if (!start)
            return false;
        text = stet_str_from(start, text.size - (size_t)(start - text.data));
        if (parse_object(balanced_object(text), scratch))
            return true;
        text = stet_str_from(text.data + 1, text.size - 1);
    }
    return false;
}

/* The first line that says something, without its Markdown marks. */
static stet_str derive_summary(stet_str markdown) {
    stet_str text = trim(markdown);
    while (text.size > 0 && (is_space(text.data[0]) || strchr("#>*-", text.data[0]) != NULL)) {
        text.data++;
        text.size--;
    }
    const char *end = text.size > 0 ? memchr(text.data, '\n', text.size) : NULL;
    if (end)
        text.size = (size_t)(end - text.data);
    text = trim(text);
    text.size = stet_utf8_cut(text, DERIVED_SUMMARY_MAX);
    return text;
}

static bool read_string(stet_str map, const char *key, stet_str *ret) {
    stet_mp_reader value;
    if (!stet_mp_find(map, key, &value) || stet_mp_peek(&value) != STET_MP_STR)
        return false;
    *ret = stet_mp_read_str(&value);
    return true;
}

static bool parse_plain(stet_str content, drafter_output *ret, const char **ret_reason) {
    stet_str markdown = without_fence(trim(content));
    if (markdown.size == 0) {
        *ret_reason = "the model wrote nothing";
        return false;
    }
    *ret = (drafter_output){.markdown = markdown, .summary = derive_summary(markdown)};
    return true;
}

bool drafter_output_parse(drafter_schema schema, stet_str content, stet_buf *scratch, drafter_output *ret,
                          const char **ret_reason) {
    if (schema == DRAFTER_PLAIN)
        return parse_plain(content, ret, ret_reason);
    if (!find_object(content, scratch)) {
        *ret_reason = "the model's answer is not a JSON object";
        return false;
    }
    stet_str map = stet_buf_str(scratch);
    drafter_output output = {{NULL, 0}, {NULL, 0}};
    if (!read_string(map, "markdown", &output.markdown)) {
        *ret_reason = "the model's JSON has no text \"markdown\"";
        return false;
    }
    if (trim(output.markdown).size == 0) {
        *ret_reason = "the model's \"markdown\" is blank";
        return false;
    }
    stet_mp_reader present;
    bool has_summary = stet_mp_find(map, "summary", &present);
    if (!read_string(map, "summary", &output.summary) && (has_summary || schema == DRAFTER_JSON_SCHEMA)) {
        *ret_reason = "the model's JSON has no text \"summary\"";
        return false;
    }
    output.summary = trim(output.summary);
    if (output.summary.size == 0)
        output.summary = derive_summary(output.markdown);
    output.summary.size = stet_utf8_cut(output.summary, DRAFTER_SUMMARY_MAX);
    *ret = output;
    return true;
}
