#include "actors/drafter/prompt.h"

static const char part_mark[] = "\n=== user ===\n";

static const struct {
    const char *placeholder;
    size_t offset;
} placeholders[] = {
#define X(name, placeholder) {placeholder, offsetof(drafter_prompt_values, name)},
    DRAFTER_PLACEHOLDERS(X)
#undef X
};

/* The next {{...}} of the text; false when there is none. */
static bool next_placeholder(stet_str text, size_t *ret_at, size_t *ret_size, stet_str *ret_name) {
    const char *open = text.size > 0 ? memmem(text.data, text.size, "{{", 2) : NULL;
    if (!open)
        return false;
    size_t at = (size_t)(open - text.data);
    const char *close = memmem(open + 2, text.size - at - 2, "}}", 2);
    if (!close)
        return false;
    *ret_at = at;
    *ret_size = (size_t)(close - open) + 2;
    *ret_name = stet_str_from(open + 2, (size_t)(close - open) - 2);
    return true;
}

static const stet_str *value_of(const drafter_prompt_values *values, stet_str name) {
    for (size_t i = 0; i < COUNT_OF(placeholders); i++) {
        if (stet_str_is(name, placeholders[i].placeholder))
            return (const stet_str *)(const void *)((const char *)values + placeholders[i].offset);
    }
    return NULL;
}

static stet_code check_placeholders(stet_str text, bool *ret_document, bool *ret_instruction, stet_error *e) {
    static const drafter_prompt_values none;
    size_t at;
    size_t size;
    stet_str name;
    while (next_placeholder(text, &at, &size, &name)) {
        if (!value_of(&none, name))
            return stet_error_field(
                e, STET_INVALID, "drafter.promptFile",
                "the prompt template has an unknown placeholder {{%.*s}}; use one of docs/drafter.md",
                (int)(name.size < 40 ? name.size : 40), name.data);
        *ret_document = *ret_document || stet_str_is(name, "document");
        *ret_instruction = *ret_instruction || stet_str_is(name, "instruction");
        text = stet_str_from(text.data + at + size, text.size - at - size);
    }
    return STET_OK;
}

stet_code drafter_template_parse(stet_str text, drafter_template *ret, stet_error *e) {
    const char *mark = text.size > 0 ? memmem(text.data, text.size, part_mark, sizeof(part_mark) - 1) : NULL;
    if (text.size > DRAFTER_TEMPLATE_MAX)
        return stet_error_field(e, STET_INVALID, "drafter.promptFile",
                                "the prompt template is larger than %d bytes; shorten it",
                                DRAFTER_TEMPLATE_MAX);
    if (!mark)
        return stet_error_field(
            e, STET_INVALID, "drafter.promptFile",
            "the prompt template has no line \"=== user ===\" between the system and the user "
            "message; add it");
    drafter_template made = {
        .text = STET_BUF(DRAFTER_TEMPLATE_MAX),
        .system_size = (size_t)(mark - text.data),
        .user_at = (size_t)(mark - text.data) + sizeof(part_mark) - 1,
    };
    bool ignored = false;
    bool has_document = false;
    bool has_instruction = false;
    stet_code rc = check_placeholders(stet_str_from(text.data, made.system_size), &ignored, &ignored, e);
    if (rc == STET_OK)
        rc = check_placeholders(stet_str_from(text.data + made.user_at, text.size - made.user_at),
                                &has_document, &has_instruction, e);
    if (rc != STET_OK)
        return rc;
    if (!has_document || !has_instruction)
        return stet_error_field(
            e, STET_INVALID, "drafter.promptFile",
            "the user part of the prompt template needs {{document}} and {{instruction}}; add them");
    stet_buf_append_str(&made.text, text);
    if (!stet_buf_ok(&made.text)) {
        stet_buf_done(&made.text);
        return stet_error_set(e, STET_BUSY, "no memory for the prompt template");
    }
    *ret = made;
    return STET_OK;
}

void drafter_template_done(drafter_template *self) {
    stet_buf_done(&self->text);
}

static void render(stet_str text, const drafter_prompt_values *values, stet_buf *b) {
    size_t at;
    size_t size;
    stet_str name;
    while (next_placeholder(text, &at, &size, &name)) {
        const stet_str *value = value_of(values, name);
        ASSERT(value != NULL);
        stet_buf_append(b, text.data, at);
        stet_buf_append_str(b, *value);
        text = stet_str_from(text.data + at + size, text.size - at - size);
    }
    stet_buf_append_str(b, text);
}

void drafter_prompt_render(const drafter_template *self, const drafter_prompt_values *values,
                           stet_buf *ret_system, stet_buf *ret_user) {
    const char *text = (const char *)self->text.data;
    render(stet_str_from(text, self->system_size), values, ret_system);
    render(stet_str_from(text + self->user_at, self->text.size - self->user_at), values, ret_user);
}
