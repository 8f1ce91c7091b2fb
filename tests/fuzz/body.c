#include "tests/fuzz/body.h"

#include "proto/wire/envelope.h"
#include "proto/wire/mp.h"

enum { ELEMENTS_MAX = 4 };

static const char *const words[] = {
    "p1",    "p2", "s1", "m1", "m2",  "m3",          "user",     "# Title\n\ntext",
    "retry", "0",  "7",  "",   "a b", "draft.error", "\xc3\xa4", "2026-11-25T22:38:36.123Z"};

static void put_number(fuzz_input *in, const stet_field *field, stet_buf *b) {
    uint8_t how = fuzz_byte(in);
    int64_t number = how < 240 ? how % 12 : (int64_t)fuzz_number(in, 8);
    stet_mp_int(b, how % 4 == 3 ? field->min : number);
}

static void put_id(fuzz_input *in, stet_buf *b) {
    uint8_t what = fuzz_byte(in);
    char text[STET_ID_TEXT_SIZE];
    stet_id id = {{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, [15] = what % 16}};
    stet_id_text(id, text);
    stet_mp_cstr(b, what < 250 ? text : "not an id");
}

static void put_choice(fuzz_input *in, const stet_field *field, stet_buf *b) {
    const char *at = field->choices;
    for (uint8_t skip = fuzz_byte(in) % 8; skip > 0 && strchr(at, '|') != NULL; skip--)
        at = strchr(at, '|') + 1;
    stet_mp_str(b, stet_str_from(at, strcspn(at, "|")));
}

static void put_word(fuzz_input *in, stet_buf *b) {
    stet_mp_cstr(b, words[fuzz_byte(in) % COUNT_OF(words)]);
}

static void put_field(fuzz_input *in, const stet_field *field, stet_buf *b) {
    uint32_t count;
    switch (field->type) {
    case STET_TYPE_STR:
        put_word(in, b);
        return;
    case STET_TYPE_INT:
    case STET_TYPE_UINT:
        put_number(in, field, b);
        return;
    case STET_TYPE_BOOL:
        stet_mp_bool(b, (fuzz_byte(in) & 1) != 0);
        return;
    case STET_TYPE_TIME:
        stet_mp_cstr(b, "2026-11-25T22:38:36.123Z");
        return;
    case STET_TYPE_ID:
        put_id(in, b);
        return;
    case STET_TYPE_CHOICE:
        put_choice(in, field, b);
        return;
    case STET_TYPE_JSON:
        stet_mp_map(b, 1);
        stet_mp_put_int(b, "a", fuzz_byte(in));
        return;
    case STET_TYPE_STRS:
        count = fuzz_byte(in) % ELEMENTS_MAX;
        stet_mp_array(b, count);
        while (count-- > 0)
            put_word(in, b);
        return;
    case STET_TYPE_LIST:
        count = fuzz_byte(in) % ELEMENTS_MAX;
        stet_mp_array(b, count);
        while (count-- > 0)
            fuzz_put_body(in, field->record, b); /* lists of lists are not in the table */
        return;
    }
}

void fuzz_put_body(fuzz_input *in, const stet_record *record, stet_buf *b) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 0;
    uint64_t choice = fuzz_number(in, 2);
    for (size_t i = 0; i < record->fields_count; i++) {
        const stet_field *field = &record->fields[i];
        bool wanted = (choice >> (i % 15) & 1) != 0;
        if (field->need == STET_NEED_REQUIRED ? choice == 0xffff : !wanted)
            continue;
        stet_mp_cstr(b, field->name);
        put_field(in, field, b);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

const stet_command *fuzz_command(fuzz_input *in, const char *service) {
    const stet_command *found[STET_CMD_COUNT];
    size_t count = 0;
    for (int i = 0; i < STET_CMD_COUNT; i++) {
        const stet_command *command = stet_command_at((stet_command_index)i);
        if (stet_str_is(stet_command_service(stet_str_of(command->name)), service))
            found[count++] = command;
    }
    ASSERT(count > 0);
    return found[fuzz_byte(in) % count];
}
