/* Text derived from the tables: help of one command, and docs/reference.md. */
#include "proto/wire/schema.h"

#include <stdio.h>

#include "proto/base/config.h"
#include "proto/base/exit_codes.h"
#include "proto/wire/envelope.h"

static const char *const TYPE_NAMES[] = {
    [STET_TYPE_STR] = "string",   [STET_TYPE_INT] = "integer",  [STET_TYPE_UINT] = "integer",
    [STET_TYPE_BOOL] = "boolean", [STET_TYPE_TIME] = "time",    [STET_TYPE_ID] = "uuid",
    [STET_TYPE_JSON] = "any",     [STET_TYPE_STRS] = "strings", [STET_TYPE_CHOICE] = "choice",
    [STET_TYPE_LIST] = "list",
};

const char *stet_field_type_name(stet_field_type type) {
    ASSERT((unsigned)type < COUNT_OF(TYPE_NAMES));
    return TYPE_NAMES[type];
}

static void print_range(stet_buf *b, const stet_field *field, const char *unit) {
    if (field->max == INT64_MAX)
        stet_buf_printf(b, " from %lld", (long long)field->min);
    else if (field->min == field->max)
        stet_buf_printf(b, " of %lld", (long long)field->min);
    else
        stet_buf_printf(b, " %lld..%lld", (long long)field->min, (long long)field->max);
    stet_buf_printf(b, "%s%s", *unit ? " " : "", unit);
}

/* "string 1..128 bytes", "integer 0..9", "list of transcript_item, 1..500 items". */
static void print_type(stet_buf *b, const stet_field *field) {
    stet_buf_printf(b, "%s", stet_field_type_name(field->type));
    switch (field->type) {
    case STET_TYPE_STR:
    case STET_TYPE_JSON:
        print_range(b, field, "bytes");
        return;
    case STET_TYPE_INT:
    case STET_TYPE_UINT:
        print_range(b, field, "");
        return;
    case STET_TYPE_STRS:
        print_range(b, field, "items");
        return;
    case STET_TYPE_LIST:
        stet_buf_printf(b, " of %s,", field->record->name);
        print_range(b, field, "items");
        return;
    case STET_TYPE_CHOICE:
        for (const char *at = field->choices; *at; at++)
            *at == '|' ? stet_buf_printf(b, ", ")
                       : stet_buf_printf(b, at == field->choices ? ": %c" : "%c", *at);
        return;
    case STET_TYPE_BOOL:
    case STET_TYPE_TIME:
    case STET_TYPE_ID:
        return;
    }
}

static const char *need_name(stet_need need) {
    static const char *const names[] = {
        [STET_NEED_REQUIRED] = "required", [STET_NEED_OPTIONAL] = "", [STET_NEED_NULLABLE] = "may be null"};
    return names[need];
}

/* ---- help ---- */

static void help_fields(const stet_record *record, uint32_t indent, stet_buf *b) {
    int width = 0;
    for (size_t i = 0; i < record->fields_count; i++) {
        int size = (int)strlen(record->fields[i].name);
        width = size > width ? size : width;
    }
    for (size_t i = 0; i < record->fields_count; i++) {
        const stet_field *field = &record->fields[i];
        stet_buf_printf(b, "%*s%-*s  %s\n", (int)indent, "", width, field->name, field->help);
        stet_buf_printf(b, "%*s", (int)indent + width + 2, "");
        print_type(b, field);
        if (*need_name(field->need))
            stet_buf_printf(b, "; %s", need_name(field->need));
        stet_buf_append_byte(b, '\n');
        if (field->type == STET_TYPE_LIST)
            help_fields(field->record, indent + 4, b);
    }
}

void stet_schema_help(const stet_command *command, stet_buf *b) {
    stet_buf_printf(b, "%s - %s\n\n", command->name, command->help);
    stet_buf_printf(b, "  effect   %s\n",
                    command->effect == STET_EFFECT_WRITE
                        ? "write: repeated with the same id it happens once and answers the same"
                        : "read");
    stet_buf_printf(b, "  role     %s\n", stet_role_name(command->role));
    stet_buf_printf(b, "  returns  %s\n", command->returns);
    if (command->record.fields_count == 0) {
        stet_buf_printf(b, "\nNo fields.\n");
        return;
    }
    stet_buf_printf(b, "\nFields:\n");
    help_fields(&command->record, 2, b);
}

/* ---- docs/reference.md ---- */

/* "|" would end a table cell. */
static void print_cell(stet_buf *b, const char *text) {
    for (; *text; text++) {
        if (*text == '|')
            stet_buf_append_byte(b, '\\');
        stet_buf_append_byte(b, (uint8_t)*text);
    }
}

static void reference_fields(const stet_record *record, stet_buf *b) {
    stet_buf_printf(b, "\n| field | type | | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < record->fields_count; i++) {
        const stet_field *field = &record->fields[i];
        stet_buf_printf(b, "| `%s` | ", field->name);
        print_type(b, field);
        stet_buf_printf(b, " | %s | ", need_name(field->need));
        print_cell(b, field->help);
        stet_buf_printf(b, " |\n");
    }
}

static void reference_command(const stet_command *command, stet_buf *b) {
    stet_buf_printf(b, "\n### `%s`\n\n%s.\n\n", command->name, command->help);
    stet_buf_printf(b, "Effect: %s. Role: %s. Returns: %s.\n",
                    command->effect == STET_EFFECT_WRITE ? "write" : "read", stet_role_name(command->role),
                    command->returns);
    if (command->record.fields_count > 0)
        reference_fields(&command->record, b);
}

static bool first_of_service(stet_command_index index, stet_str service) {
    for (int i = 0; i < (int)index; i++)
        if (stet_str_equal(stet_command_service(stet_str_of(stet_command_at((stet_command_index)i)->name)),
                           service))
            return false;
    return true;
}

static void reference_commands(stet_buf *b) {
    stet_buf_printf(
        b,
        "\n## Commands\n\n"
        "The body of a request is a MessagePack map with these fields; an empty frame counts as an empty\n"
        "map. A field that is not listed is refused, so is one out of its bounds; the error's `field` is\n"
        "its path, such as `items[2].id`. Sizes of strings are bytes of UTF-8. A *time* is RFC 3339 text, a\n"
        "*uuid* is text of 36 characters, *strings* is an array of strings of 1..256 bytes, *any* is any\n"
        "JSON value. A *write* that is repeated with the same request id happens once.\n");
    for (int first = 0; first < STET_CMD_COUNT; first++) {
        stet_str service =
            stet_command_service(stet_str_of(stet_command_at((stet_command_index)first)->name));
        if (!first_of_service((stet_command_index)first, service))
            continue;
        stet_buf_printf(b, "\n## Service `%.*s`\n", STET_STR_ARG(service));
        for (int i = first; i < STET_CMD_COUNT; i++) {
            const stet_command *command = stet_command_at((stet_command_index)i);
            if (stet_str_equal(stet_command_service(stet_str_of(command->name)), service))
                reference_command(command, b);
        }
    }
}

static void reference_records(stet_buf *b) {
    stet_buf_printf(b, "\n## Elements of lists\n");
#define RECORD(C, help)                                                                                      \
    stet_buf_printf(b, "\n### %s\n\n%s.\n", stet_record_##C.name, help);                                     \
    reference_fields(&stet_record_##C, b);
#define COMMAND(C, wire, effect, role, help, returns)
#define FIELD(C, name, wire, type, need, min, max, help)
#define CHOICE(C, name, wire, need, choices, help)
#define LIST(C, name, wire, record, need, min, max, help)
#define END(C)
#include "proto/wire/commands.def"
#undef RECORD
#undef COMMAND
#undef FIELD
#undef CHOICE
#undef LIST
#undef END
}

static void reference_errors(stet_buf *b) {
    stet_buf_printf(b, "\n## Error codes\n\n"
                       "*Resend* says whether the same request may be sent again with the same id.\n\n"
                       "| code | resend | what to do next |\n|---|---|---|\n");
    for (int code = STET_OK + 1; code < STET_CODES_COUNT; code++)
        stet_buf_printf(b, "| `%s` | %s | %s |\n", stet_code_name((stet_code)code),
                        stet_code_may_resend((stet_code)code) ? "yes" : "no",
                        stet_code_advice((stet_code)code));
}

static void reference_kinds(stet_buf *b) {
    stet_buf_printf(b, "\n## Kinds of messages\n\n| kind | |\n|---|---|\n");
#define X(name, wire, help) stet_buf_printf(b, "| `%s` | %s |\n", wire, help);
    STET_KINDS(X)
#undef X
}

static void reference_settings(stet_buf *b) {
    stet_buf_printf(
        b,
        "\n## Settings\n\n"
        "From the environment, then the configuration file (ZPL: `section` and, indented by four spaces,\n"
        "`key = value`), then the default. Secrets come only from the environment or from a file with mode\n"
        "0600. A key that is not listed is an error. STR is text, INT an integer, MS a duration (`250ms`, "
        "`30s`,\n"
        "`5m`, `24h`, `7d`, or bare milliseconds), SIZE bytes (`64K`, `32M`, `1G`), BOOL `true` or `false`, "
        "INTS\n"
        "a list of integers separated by commas.\n\n"
        "| setting | type | default | environment | |\n|---|---|---|---|---|\n");
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        const stet_setting_info *setting = stet_setting_at((stet_setting)i);
        stet_buf_printf(b, "| `%s` | %s%s | %s%s%s | %s%s%s | ", setting->key, setting->type_name,
                        setting->secret ? ", secret" : "", *setting->fallback ? "`" : "", setting->fallback,
                        *setting->fallback ? "`" : "", *setting->environment ? "`" : "", setting->environment,
                        *setting->environment ? "`" : "");
        print_cell(b, setting->help);
        stet_buf_printf(b, " |\n");
    }
}

static void reference_exit_codes(stet_buf *b) {
    stet_buf_printf(b, "\n## Exit codes of the programs\n\n| code | |\n|---|---|\n");
#define X(name, code, help) stet_buf_printf(b, "| %d | %s |\n", code, help);
    STET_EXIT_CODES(X)
#undef X
}

void stet_schema_reference(stet_buf *b) {
    stet_buf_printf(b, "# Reference\n\n"
                       "Generated from the tables in `proto/` by `stet-reference`; a test compares. How the "
                       "messages travel is\n"
                       "in [protocol.md](protocol.md).\n\n"
                       "[Commands](#commands) · [Error codes](#error-codes) · [Kinds](#kinds-of-messages) ·\n"
                       "[Settings](#settings) · [Exit codes](#exit-codes-of-the-programs)\n");
    reference_commands(b);
    reference_records(b);
    reference_errors(b);
    reference_kinds(b);
    reference_settings(b);
    reference_exit_codes(b);
}
