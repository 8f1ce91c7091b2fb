/* Bodies: the first byte chooses the command, the rest is decoded into its struct, checked or not. */
#include "proto/wire/schema.h"

#include <stdlib.h>

#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"

static void read_lists(const stet_record *record, const uint8_t *decoded) {
    for (size_t i = 0; i < record->fields_count; i++) {
        const stet_field *field = &record->fields[i];
        if (field->type != STET_TYPE_LIST)
            continue;
        stet_list list;
        memcpy(&list, decoded + field->offset, sizeof list);
        stet_mp_reader r = stet_list_reader(list);
        void *element = malloc(field->record->struct_size);
        ASSERT(element != NULL);
        for (uint32_t n = 0; n < list.count; n++)
            stet_list_next(field->record, &r, element);
        ASSERT(list.raw.size == 0 || r.at == r.end);
        free(element);
    }
}

void fuzz_one(const uint8_t *data, size_t size) {
    if (size == 0)
        return;
    const stet_command *command = stet_command_at((stet_command_index)(data[0] % STET_CMD_COUNT));
    stet_str body = stet_str_from(data + 1, size - 1);
    uint8_t *decoded = malloc(command->record.struct_size);
    ASSERT(decoded != NULL);
    stet_error e;
    bool checked = stet_mp_check(body, STET_MP_LIMITS_BODY, NULL) == STET_OK;
    if (stet_schema_decode(&command->record, body, decoded, &e) == STET_OK) {
        read_lists(&command->record, decoded);
    } else {
        ASSERT(e.code == STET_INVALID);
        ASSERT(!checked ||
               (stet_utf8_valid(stet_str_of(e.message)) && stet_utf8_valid(stet_str_of(e.field))));
    }
    free(decoded);
}

static void put_record(const stet_record *record, bool whole, stet_buf *b);

static void put_field(const stet_field *field, bool whole, stet_buf *b) {
    switch (field->type) {
    case STET_TYPE_STR:
        stet_mp_cstr(b, "project-1");
        return;
    case STET_TYPE_INT:
    case STET_TYPE_UINT:
        stet_mp_int(b, field->min);
        return;
    case STET_TYPE_BOOL:
        stet_mp_bool(b, true);
        return;
    case STET_TYPE_TIME:
        stet_mp_cstr(b, "2026-11-25T22:38:36.123Z");
        return;
    case STET_TYPE_ID:
        stet_mp_cstr(b, "019f9c2e-8d7a-7c3e-9b1f-2a6d4e8f0a1b");
        return;
    case STET_TYPE_CHOICE:
        stet_mp_str(b, stet_str_from(field->choices, strcspn(field->choices, "|")));
        return;
    case STET_TYPE_JSON:
        stet_mp_map(b, 1);
        stet_mp_put_double(b, "a", 0.5);
        return;
    case STET_TYPE_STRS:
        stet_mp_array(b, 2);
        stet_mp_cstr(b, "m1");
        stet_mp_cstr(b, "m2");
        return;
    case STET_TYPE_LIST:
        stet_mp_array(b, 2);
        put_record(field->record, whole, b);
        put_record(field->record, whole, b);
        return;
    }
}

static void put_record(const stet_record *record, bool whole, stet_buf *b) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 0;
    for (size_t i = 0; i < record->fields_count; i++) {
        if (!whole && record->fields[i].need != STET_NEED_REQUIRED)
            continue;
        stet_mp_cstr(b, record->fields[i].name);
        put_field(&record->fields[i], whole, b);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

/* Of each command: one body with all fields and one with what is required. */
bool fuzz_seed(size_t index, stet_buf *b) {
    if (index >= 2 * STET_CMD_COUNT)
        return false;
    size_t command = index / 2;
    stet_buf_append_byte(b, (uint8_t)command);
    put_record(&stet_command_at((stet_command_index)command)->record, index % 2 == 0, b);
    return true;
}
