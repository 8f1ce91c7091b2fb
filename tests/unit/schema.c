/* The command table: every field of every command at its limits, and what a decoder must refuse. */
#include "proto/wire/schema.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/wire/rfc3339.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const char SOME_UUID[] = "019f9c2e-8d7a-7c3e-9b1f-2a6d4e8f0a1b";

static void put_text(stet_buf *b, size_t size) {
    char *text = malloc(size + 1);
    memset(text, 'x', size);
    stet_mp_str(b, stet_str_from(text, size));
    free(text);
}

static void put_least(const stet_field *field, stet_buf *b);

/* A record with only what is required, each at its least. */
static void put_record(const stet_record *record, stet_buf *b, const char *without) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 0;
    for (size_t i = 0; i < record->fields_count; i++) {
        const stet_field *field = &record->fields[i];
        if (field->need != STET_NEED_REQUIRED || (without && strcmp(without, field->name) == 0))
            continue;
        stet_mp_cstr(b, field->name);
        put_least(field, b);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

/* The field with the bounded quantity n: bytes, value, or items. */
static void put_sized(const stet_field *field, stet_buf *b, int64_t n) {
    switch (field->type) {
    case STET_TYPE_STR:
        put_text(b, (size_t)n);
        return;
    case STET_TYPE_INT:
    case STET_TYPE_UINT:
        stet_mp_int(b, n);
        return;
    case STET_TYPE_JSON: { /* a bin would do as well: header of 5 bytes above 65535 */
        size_t header = n <= 1 ? 0 : n <= 32 ? 1 : n <= 257 ? 2 : n <= 65538 ? 3 : 5;
        if (header == 0)
            stet_mp_nil(b);
        else
            put_text(b, (size_t)n - header);
        return;
    }
    case STET_TYPE_STRS:
    case STET_TYPE_LIST:
        stet_mp_array(b, (uint32_t)n);
        for (int64_t i = 0; i < n; i++) {
            if (field->type == STET_TYPE_STRS)
                stet_mp_cstr(b, "x");
            else
                put_record(field->record, b, NULL);
        }
        return;
    case STET_TYPE_BOOL:
        stet_mp_bool(b, true);
        return;
    case STET_TYPE_TIME:
        stet_mp_cstr(b, "1970-01-01T00:00:00Z");
        return;
    case STET_TYPE_ID:
        stet_mp_cstr(b, SOME_UUID);
        return;
    case STET_TYPE_CHOICE:
        stet_mp_str(b, stet_str_from(field->choices, strcspn(field->choices, "|")));
        return;
    }
}

static void put_least(const stet_field *field, stet_buf *b) {
    put_sized(field, b, field->min);
}

typedef void put_value(const stet_field *field, stet_buf *b, int64_t n);

/* A body of the command where `field` has a value of our choice; the rest is as little as is allowed. */
static stet_code decode_with(const stet_command *command, const stet_field *field, put_value *put, int64_t n,
                             stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4 << 20);
    size_t mark = stet_mp_open(&b);
    uint32_t pairs = 0;
    for (size_t i = 0; i < command->record.fields_count; i++) {
        const stet_field *other = &command->record.fields[i];
        if (other != field && other->need != STET_NEED_REQUIRED)
            continue;
        stet_mp_cstr(&b, other->name);
        if (other == field)
            put(field, &b, n);
        else
            put_least(other, &b);
        pairs++;
    }
    stet_mp_close_map(&b, mark, pairs);
    assert_true(stet_buf_ok(&b));
    void *decoded = calloc(1, command->record.struct_size);
    stet_code rc = stet_schema_decode(&command->record, stet_buf_str(&b), decoded, e);
    if (rc == STET_OK && field)
        assert_true(*((bool *)decoded + field->has_offset));
    free(decoded);
    return rc;
}

static void assert_accepts(const stet_command *command, const stet_field *field, put_value *put, int64_t n) {
    stet_error e = {.message = ""};
    stet_code rc = decode_with(command, field, put, n, &e);
    if (rc != STET_OK)
        print_error("%s %s with %lld: %s\n", command->name, field->name, (long long)n, e.message);
    assert_int_equal(rc, STET_OK);
}

static void assert_refuses(const stet_command *command, const stet_field *field, put_value *put, int64_t n) {
    stet_error e = {.message = ""};
    stet_code rc = decode_with(command, field, put, n, &e);
    if (rc != STET_INVALID || strcmp(e.field, field->name) != 0)
        print_error("%s %s with %lld: field %s %s\n", command->name, field->name, (long long)n, e.field,
                    e.message);
    assert_int_equal(rc, STET_INVALID);
    assert_string_equal(e.field, field->name);
    assert_memory_equal(e.message, field->name, strlen(field->name));
}

static bool is_bounded(const stet_field *field) {
    return field->type != STET_TYPE_BOOL && field->type != STET_TYPE_ID && field->type != STET_TYPE_TIME &&
           field->type != STET_TYPE_CHOICE;
}

static void every_field_is_accepted_at_its_limits_and_refused_beyond(void **state) {
    (void)state;
    int tried = 0;
    for (int c = 0; c < STET_CMD_COUNT; c++) {
        const stet_command *command = stet_command_at((stet_command_index)c);
        for (size_t i = 0; i < command->record.fields_count; i++) {
            const stet_field *field = &command->record.fields[i];
            assert_accepts(command, field, put_sized, field->min);
            if (!is_bounded(field))
                continue;
            bool number = field->type == STET_TYPE_INT || field->type == STET_TYPE_UINT;
            assert_accepts(command, field, put_sized, field->max);
            if (field->max < INT64_MAX)
                assert_refuses(command, field, put_sized, field->max + 1);
            if (number || (field->min > 0 && field->type != STET_TYPE_JSON))
                assert_refuses(command, field, put_sized, field->min - 1);
            tried++;
        }
    }
    assert_true(tried > 40);
}

static void put_other_type(const stet_field *field, stet_buf *b, int64_t n) {
    switch (n) {
    case 0:
        stet_mp_nil(b);
        return;
    case 1:
        if (field->type == STET_TYPE_BOOL)
            stet_mp_uint(b, 1);
        else
            stet_mp_bool(b, true);
        return;
    case 2:
        stet_mp_double(b, 1.0);
        return;
    case 3:
        stet_mp_bin(b, "0123456789abcdef", 16);
        return;
    case 4:
        stet_mp_map(b, 0);
        return;
    case 5:
        if (field->type == STET_TYPE_INT || field->type == STET_TYPE_UINT)
            stet_mp_cstr(b, "5");
        else
            stet_mp_uint(b, UINT64_MAX);
        return;
    default:
        if (field->type == STET_TYPE_STRS || field->type == STET_TYPE_LIST)
            stet_mp_cstr(b, "a");
        else
            stet_mp_array(b, 0);
    }
}

static void every_field_refuses_every_other_type(void **state) {
    (void)state;
    for (int c = 0; c < STET_CMD_COUNT; c++) {
        const stet_command *command = stet_command_at((stet_command_index)c);
        for (size_t i = 0; i < command->record.fields_count; i++) {
            const stet_field *field = &command->record.fields[i];
            for (int64_t n = 0; n <= 6; n++) {
                if (field->type == STET_TYPE_JSON)
                    assert_accepts(command, field, put_other_type, n);
                else
                    assert_refuses(command, field, put_other_type, n);
            }
        }
    }
}

static void every_required_field_is_missed(void **state) {
    (void)state;
    for (int c = 0; c < STET_CMD_COUNT; c++) {
        const stet_command *command = stet_command_at((stet_command_index)c);
        void *decoded = calloc(1, command->record.struct_size);
        for (size_t i = 0; i < command->record.fields_count; i++) {
            const stet_field *field = &command->record.fields[i];
            CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 20);
            put_record(&command->record, &b, field->name);
            stet_error e;
            stet_code rc = stet_schema_decode(&command->record, stet_buf_str(&b), decoded, &e);
            assert_int_equal(rc, field->need == STET_NEED_REQUIRED ? STET_INVALID : STET_OK);
            if (rc != STET_OK) {
                assert_string_equal(e.field, field->name);
                assert_non_null(strstr(e.message, "is missing"));
            }
        }
        free(decoded);
    }
}

static stet_code decode(const stet_record *record, void *ret, stet_str body, stet_error *e) {
    assert_int_equal(stet_mp_check(body, STET_MP_LIMITS_BODY, NULL), STET_OK);
    return stet_schema_decode(record, body, ret, e);
}

static const stet_record *record_of(stet_command_index index) {
    return &stet_command_at(index)->record;
}

static void decoded_values_are_what_was_sent(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    stet_mp_map(&b, 6);
    stet_mp_put_cstr(&b, "sessionId", "s-1");
    stet_mp_put_cstr(&b, "projectId", "p-1");
    stet_mp_cstr(&b, "messagePointers");
    stet_mp_array(&b, 2);
    stet_mp_cstr(&b, "m1");
    stet_mp_cstr(&b, "m2");
    stet_mp_cstr(&b, "promptContext");
    stet_mp_map(&b, 1);
    stet_mp_put_uint(&b, "tone", 3);
    stet_mp_put_uint(&b, "priority", 9);
    stet_mp_put_cstr(&b, "runAt", "2026-11-25T23:38:36.123+01:00");
    cmd_drafter_submit c;
    memset(&c, 0xff, sizeof c);
    assert_int_equal(decode(record_of(STET_CMD_drafter_submit), &c, stet_buf_str(&b), NULL), STET_OK);
    assert_true(c.has_session_id && stet_str_is(c.session_id, "s-1"));
    assert_true(c.has_project_id && stet_str_is(c.project_id, "p-1"));
    assert_true(c.has_message_pointers && c.message_pointers.count == 2);
    stet_mp_reader r = stet_list_reader(c.message_pointers);
    assert_true(stet_str_is(stet_mp_read_str(&r), "m1"));
    assert_true(stet_str_is(stet_mp_read_str(&r), "m2"));
    assert_true(c.has_prompt_context);
    assert_int_equal(stet_mp_get_uint(c.prompt_context, "tone", 0), 3);
    assert_true(c.has_priority && c.priority == 9);
    assert_true(c.has_run_at && c.run_at == 1795646316123);
    assert_false(c.has_instruction || c.has_dedup_key || c.has_transcript_anchors);
    assert_null(c.instruction.data);
    assert_int_equal(c.transcript_anchors.count, 0);
    r = stet_list_reader(c.transcript_anchors); /* absent: empty */
    assert_int_equal(stet_mp_peek(&r), STET_MP_NONE);
}

static void put_item(stet_buf *b, const char *id, const char *previous, bool null_previous,
                     const char *extra) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 4;
    stet_mp_put_cstr(b, "id", id);
    stet_mp_put_cstr(b, "role", "user");
    stet_mp_put_cstr(b, "text", "");
    stet_mp_put_cstr(b, "timestamp", "1970-01-01T00:00:01Z");
    if (previous || null_previous) {
        stet_mp_cstr(b, "previousItemId");
        if (previous)
            stet_mp_cstr(b, previous);
        else
            stet_mp_nil(b);
        pairs++;
    }
    if (extra) {
        stet_mp_put_uint(b, extra, 1);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

static void list_elements_come_one_by_one_and_null_is_absent(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    stet_mp_map(&b, 2);
    stet_mp_put_cstr(&b, "projectId", "p");
    stet_mp_cstr(&b, "items");
    stet_mp_array(&b, 3);
    put_item(&b, "a", NULL, true, NULL);
    put_item(&b, "b", "a", false, NULL);
    put_item(&b, "c", NULL, false, NULL);
    cmd_drafter_transcript_append c;
    assert_int_equal(decode(record_of(STET_CMD_drafter_transcript_append), &c, stet_buf_str(&b), NULL),
                     STET_OK);
    assert_int_equal(c.items.count, 3);
    stet_mp_reader r = stet_list_reader(c.items);
    for (uint32_t i = 0; i < c.items.count; i++) {
        cmd_transcript_item item;
        stet_list_next(&stet_record_transcript_item, &r, &item);
        assert_int_equal(item.id.data[0], 'a' + (int)i);
        assert_int_equal(item.has_previous_item_id, i == 1);
        assert_int_equal(item.timestamp, 1000);
    }
    assert_ptr_equal(r.at, r.end);
}

static void nested_errors_name_the_whole_path(void **state) {
    (void)state;
    static const struct {
        const char *id, *previous, *extra, *path;
    } rows[] = {{"", NULL, NULL, "items[2].id"},
                {"x", "", NULL, "items[2].previousItemId"},
                {"x", NULL, "Text", "items[2].Text"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
        stet_mp_map(&b, 2);
        stet_mp_put_cstr(&b, "projectId", "p");
        stet_mp_cstr(&b, "items");
        stet_mp_array(&b, 3);
        put_item(&b, "a", NULL, false, NULL);
        put_item(&b, "b", "a", false, NULL);
        put_item(&b, rows[i].id, rows[i].previous, false, rows[i].extra);
        cmd_drafter_transcript_append c;
        stet_error e;
        assert_int_equal(decode(record_of(STET_CMD_drafter_transcript_append), &c, stet_buf_str(&b), &e),
                         STET_INVALID);
        assert_string_equal(e.field, rows[i].path);
    }
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    stet_mp_map(&b, 1);
    stet_mp_cstr(&b, "items");
    stet_mp_array(&b, 1);
    stet_mp_uint(&b, 1);
    cmd_drafter_transcript_append c;
    stet_error e;
    assert_int_equal(decode(record_of(STET_CMD_drafter_transcript_append), &c, stet_buf_str(&b), &e),
                     STET_INVALID);
    assert_string_equal(e.field, "items[0]");
    stet_buf_clear(&b);
    stet_mp_map(&b, 1);
    stet_mp_cstr(&b, "messagePointers");
    stet_mp_array(&b, 2);
    stet_mp_cstr(&b, "m");
    put_text(&b, 257);
    cmd_drafter_submit s;
    assert_int_equal(decode(record_of(STET_CMD_drafter_submit), &s, stet_buf_str(&b), &e), STET_INVALID);
    assert_string_equal(e.field, "messagePointers[1]");
}

static void an_unknown_field_is_refused_by_name(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
    stet_mp_map(&b, 2);
    stet_mp_put_cstr(&b, "projectId", "p");
    stet_mp_put_cstr(&b, "projectID", "p");
    cmd_drafter_queue c;
    stet_error e;
    assert_int_equal(decode(record_of(STET_CMD_drafter_queue), &c, stet_buf_str(&b), &e), STET_INVALID);
    assert_string_equal(e.field, "projectID");
    stet_buf_clear(&b);
    stet_mp_map(&b, 1); /* a name that a peer made long */
    put_text(&b, 2000);
    stet_mp_nil(&b);
    assert_int_equal(decode(record_of(STET_CMD_drafter_queue), &c, stet_buf_str(&b), &e), STET_INVALID);
    assert_int_equal(strlen(e.field), STET_ERROR_FIELD_MAX - 1);
    char none;
    assert_int_equal(stet_schema_decode(record_of(STET_CMD_broker_stats), stet_buf_str(&b), &none, &e),
                     STET_INVALID);
}

static void choices_times_and_ids_are_checked(void **state) {
    (void)state;
    static const struct {
        stet_command_index command;
        const char *field, *value;
        bool good;
    } rows[] = {
        {STET_CMD_drafter_list, "status", "queued", true},
        {STET_CMD_drafter_list, "status", "cancelled", true},
        {STET_CMD_drafter_list, "status", "delayed", true},
        {STET_CMD_drafter_list, "status", "queue", false},
        {STET_CMD_drafter_list, "status", "", false},
        {STET_CMD_drafter_list, "status", "queued|delayed", false},
        {STET_CMD_drafter_list, "status", "Queued", false},
        {STET_CMD_drafter_job, "jobId", "019f9c2e-8d7a-7c3e-9b1f-2a6d4e8f0a1b", true},
        {STET_CMD_drafter_job, "jobId", "019F9C2E-8D7A-7C3E-9B1F-2A6D4E8F0A1B", true},
        {STET_CMD_drafter_job, "jobId", "019f9c2e", false},
        {STET_CMD_drafter_submit, "runAt", "1969-12-31T23:59:59.999Z", false},
        {STET_CMD_drafter_submit, "runAt", "1970-01-01T00:00:00Z", true},
        {STET_CMD_drafter_submit, "runAt", "tomorrow", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(stet_buf_done) stet_buf b = STET_BUF(4096);
        bool submit = rows[i].command == STET_CMD_drafter_submit;
        stet_mp_map(&b, submit ? 3 : 1);
        stet_mp_put_cstr(&b, rows[i].field, rows[i].value);
        if (submit) {
            stet_mp_put_cstr(&b, "projectId", "p");
            stet_mp_put_cstr(&b, "sessionId", "s");
        }
        uint64_t decoded[256];
        stet_error e;
        assert_int_equal(decode(record_of(rows[i].command), decoded, stet_buf_str(&b), &e),
                         rows[i].good ? STET_OK : STET_INVALID);
        if (!rows[i].good)
            assert_string_equal(e.field, rows[i].field);
    }
}

static void no_body_counts_as_an_empty_map(void **state) {
    (void)state;
    cmd_drafter_stats stats;
    cmd_drafter_job job;
    stet_error e;
    assert_int_equal(stet_schema_decode(record_of(STET_CMD_drafter_stats), (stet_str){NULL, 0}, &stats, &e),
                     STET_OK);
    assert_int_equal(stet_schema_decode(record_of(STET_CMD_drafter_job), (stet_str){NULL, 0}, &job, &e),
                     STET_INVALID);
    assert_string_equal(e.field, "jobId");
    assert_int_equal(decode(record_of(STET_CMD_drafter_stats), &stats, STET_STR("\x90"), &e), STET_INVALID);
    assert_string_equal(e.message, "the body must be a MessagePack map");
}

static void commands_are_found_by_name_and_only_by_it(void **state) {
    (void)state;
    for (int c = 0; c < STET_CMD_COUNT; c++) {
        const stet_command *command = stet_command_at((stet_command_index)c);
        assert_ptr_equal(stet_command_find(stet_str_of(command->name)), command);
        assert_int_equal(stet_command_index_of(command), c);
        stet_str shorter = stet_str_of(command->name);
        shorter.size--;
        assert_null(stet_command_find(shorter));
        assert_true(strlen(command->name) <= 64);
        assert_true(*command->help && *command->returns);
    }
    assert_null(stet_command_find((stet_str){NULL, 0}));
    assert_null(stet_command_find(STET_STR("drafter.submiT")));
    assert_null(stet_command_find(STET_STR("drafter.")));
    char text[300];
    memset(text, 'x', sizeof text);
    assert_null(stet_command_find(stet_str_from(text, sizeof text)));
    assert_true(stet_service_known(STET_STR("drafter")));
    assert_true(stet_service_known(STET_STR("broker")));
    assert_true(stet_service_known(STET_STR("alerts")));
    assert_false(stet_service_known(STET_STR("drafte")));
    assert_false(stet_service_known(STET_STR("drafter.transcript.appendix")));
    assert_false(stet_service_known((stet_str){NULL, 0}));
}

static void roles_may_what_the_table_says(void **state) {
    (void)state;
    static const struct {
        const char *command;
        bool viewer, producer, control, actor;
    } rows[] = {{"drafter.queue", true, true, true, true},
                {"drafter.submit", false, true, true, true},
                {"drafter.drain", false, false, true, false},
                {"alerts.raise", false, false, true, true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const stet_command *command = stet_command_find(stet_str_of(rows[i].command));
        assert_non_null(command);
        assert_false(stet_role_may(STET_ROLE_NONE, command));
        assert_int_equal(stet_role_may(STET_ROLE_VIEWER, command), rows[i].viewer);
        assert_int_equal(stet_role_may(STET_ROLE_PRODUCER, command), rows[i].producer);
        assert_int_equal(stet_role_may(STET_ROLE_CONTROL, command), rows[i].control);
        assert_int_equal(stet_role_may(STET_ROLE_ACTOR, command), rows[i].actor);
    }
    for (int role = STET_ROLE_VIEWER; role <= STET_ROLE_ACTOR; role++)
        assert_int_equal(stet_role_from_name(stet_str_of(stet_role_name((stet_role)role))), role);
    assert_int_equal(stet_role_from_name(STET_STR("none")), STET_ROLE_NONE);
    assert_int_equal(stet_role_from_name(STET_STR("root")), STET_ROLE_NONE);
}

static void help_and_reference_name_every_command_and_field(void **state) {
    (void)state;
    CLEANUP(stet_buf_done) stet_buf reference = STET_BUF(1 << 20);
    stet_schema_reference(&reference);
    stet_buf_append_byte(&reference, 0);
    assert_true(stet_buf_ok(&reference));
    for (int c = 0; c < STET_CMD_COUNT; c++) {
        const stet_command *command = stet_command_at((stet_command_index)c);
        CLEANUP(stet_buf_done) stet_buf help = STET_BUF(1 << 16);
        stet_schema_help(command, &help);
        stet_buf_append_byte(&help, 0);
        assert_true(stet_buf_ok(&help));
        assert_non_null(strstr((char *)reference.data, command->name));
        assert_non_null(strstr((char *)help.data, command->name));
        for (size_t i = 0; i < command->record.fields_count; i++) {
            assert_non_null(strstr((char *)help.data, command->record.fields[i].name));
            assert_non_null(strstr((char *)reference.data, command->record.fields[i].name));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_accepted_at_its_limits_and_refused_beyond),
        cmocka_unit_test(every_field_refuses_every_other_type),
        cmocka_unit_test(every_required_field_is_missed),
        cmocka_unit_test(decoded_values_are_what_was_sent),
        cmocka_unit_test(list_elements_come_one_by_one_and_null_is_absent),
        cmocka_unit_test(nested_errors_name_the_whole_path),
        cmocka_unit_test(an_unknown_field_is_refused_by_name),
        cmocka_unit_test(choices_times_and_ids_are_checked),
        cmocka_unit_test(no_body_counts_as_an_empty_map),
        cmocka_unit_test(commands_are_found_by_name_and_only_by_it),
        cmocka_unit_test(roles_may_what_the_table_says),
        cmocka_unit_test(help_and_reference_name_every_command_and_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
