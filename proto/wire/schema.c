/* The tables of commands.def and the one decoder that walks them. */
#include "proto/wire/schema.h"

#include "proto/wire/envelope.h"

#include <stdio.h>

#include "proto/wire/rfc3339.h"

enum { STRS_ITEM_SIZE_MAX = 256, RECORD_SIZE_MAX = 1024, PATH_SIZE_MAX = STET_ERROR_FIELD_MAX };

/* ---- tables ---- */

/* The fields of each record and command; the last row only keeps the array from being empty. */
#define RECORD(C, help) static const stet_field fields_##C[] = {
#define COMMAND(C, wire, effect, role, help, returns) static const stet_field fields_##C[] = {
#define FIELD(C, name, wire, type, need, min, max, help)                                                     \
    {wire,                                                                                                   \
     STET_TYPE_##type,                                                                                       \
     STET_NEED_##need,                                                                                       \
     offsetof(cmd_##C, name),                                                                                \
     offsetof(cmd_##C, has_##name),                                                                          \
     min,                                                                                                    \
     max,                                                                                                    \
     NULL,                                                                                                   \
     NULL,                                                                                                   \
     help},
#define CHOICE(C, name, wire, need, choices, help)                                                           \
    {wire,                                                                                                   \
     STET_TYPE_CHOICE,                                                                                       \
     STET_NEED_##need,                                                                                       \
     offsetof(cmd_##C, name),                                                                                \
     offsetof(cmd_##C, has_##name),                                                                          \
     0,                                                                                                      \
     0,                                                                                                      \
     choices,                                                                                                \
     NULL,                                                                                                   \
     help},
#define LIST(C, name, wire, record, need, min, max, help)                                                    \
    {wire,                                                                                                   \
     STET_TYPE_LIST,                                                                                         \
     STET_NEED_##need,                                                                                       \
     offsetof(cmd_##C, name),                                                                                \
     offsetof(cmd_##C, has_##name),                                                                          \
     min,                                                                                                    \
     max,                                                                                                    \
     NULL,                                                                                                   \
     &stet_record_##record,                                                                                  \
     help},
/* clang-format off */
#define END(C) {.name = NULL}};
/* clang-format on */
#include "proto/wire/commands.def"
#undef RECORD
#undef COMMAND
#undef FIELD
#undef CHOICE
#undef LIST
#undef END

#define RECORD(C, help)                                                                                      \
    const stet_record stet_record_##C = {#C, fields_##C, COUNT_OF(fields_##C) - 1, sizeof(cmd_##C)};         \
    _Static_assert(sizeof(cmd_##C) <= RECORD_SIZE_MAX, "a list element is decoded in place to be checked");
#define COMMAND(C, wire, effect, role, help, returns)
#define FIELD(C, name, wire, type, need, min, max, help)
#define CHOICE(C, name, wire, need, choices, help)
#define LIST(C, name, wire, record, need, min, max, help)
#define END(C)
#include "proto/wire/commands.def"
#undef RECORD
#undef COMMAND

#define RECORD(C, help)
#define COMMAND(C, wire, effect, role, help, returns)                                                        \
    [STET_CMD_##C] = {wire,                                                                                  \
                      STET_EFFECT_##effect,                                                                  \
                      STET_ROLE_##role,                                                                      \
                      help,                                                                                  \
                      returns,                                                                               \
                      {wire, fields_##C, COUNT_OF(fields_##C) - 1, sizeof(cmd_##C)}},
static const stet_command COMMANDS[STET_CMD_COUNT] = {
#include "proto/wire/commands.def"
};
#undef COMMAND

/* Sizes of the names in one run of bytes: a search looks at these, and at a name only when its size fits. */
#define COMMAND(C, wire, effect, role, help, returns) [STET_CMD_##C] = sizeof(wire) - 1,
static const uint8_t NAME_SIZES[STET_CMD_COUNT] = {
#include "proto/wire/commands.def"
};
#undef RECORD
#undef COMMAND
#undef FIELD
#undef CHOICE
#undef LIST
#undef END

const stet_command *stet_command_at(stet_command_index index) {
    ASSERT((unsigned)index < STET_CMD_COUNT);
    return &COMMANDS[index];
}

const stet_command *stet_command_find(stet_str name) {
    if (name.size == 0 || name.size > UINT8_MAX)
        return NULL;
    const uint8_t *at = NAME_SIZES, *end = NAME_SIZES + STET_CMD_COUNT;
    while ((at = memchr(at, (int)name.size, (size_t)(end - at))) != NULL) {
        const stet_command *command = &COMMANDS[at - NAME_SIZES];
        if (memcmp(command->name, name.data, name.size) == 0)
            return command;
        if (++at == end)
            break;
    }
    return NULL;
}

stet_command_index stet_command_index_of(const stet_command *command) {
    ASSERT(command >= COMMANDS && command < COMMANDS + STET_CMD_COUNT);
    return (stet_command_index)(command - COMMANDS);
}

bool stet_service_known(stet_str service) {
    if (service.size == 0)
        return false;
    for (size_t i = 0; i < STET_CMD_COUNT; i++)
        if (NAME_SIZES[i] > service.size && COMMANDS[i].name[service.size] == '.' &&
            memcmp(COMMANDS[i].name, service.data, service.size) == 0)
            return true;
    return false;
}

/* ---- roles ---- */

static const char *const ROLE_NAMES[] = {
    [STET_ROLE_NONE] = "none",       [STET_ROLE_VIEWER] = "viewer", [STET_ROLE_PRODUCER] = "producer",
    [STET_ROLE_CONTROL] = "control", [STET_ROLE_ACTOR] = "actor",
};

bool stet_role_may(stet_role caller, const stet_command *command) {
    switch (caller) {
    case STET_ROLE_CONTROL:
        return true;
    case STET_ROLE_ACTOR: /* works on behalf of producers and talks to other actors, but does not operate them
                           */
        return command->role != STET_ROLE_CONTROL;
    case STET_ROLE_VIEWER:
    case STET_ROLE_PRODUCER:
        return command->role <= caller;
    case STET_ROLE_NONE:
        break;
    }
    return false;
}

stet_role stet_role_from_name(stet_str name) {
    for (int role = STET_ROLE_VIEWER; role <= STET_ROLE_ACTOR; role++)
        if (stet_str_is(name, ROLE_NAMES[role]))
            return (stet_role)role;
    return STET_ROLE_NONE;
}

const char *stet_role_name(stet_role role) {
    ASSERT((unsigned)role < COUNT_OF(ROLE_NAMES));
    return ROLE_NAMES[role];
}

/* ---- decode ---- */

/* Where the decoder is: a chain on its stack, written out only when something is wrong. */
typedef struct place {
    const struct place *up;
    stet_str name;
    uint32_t index; /* of the element, when name is empty */
} place;

static void place_write(const place *at, stet_buf *b) {
    if (at == NULL)
        return;
    place_write(at->up, b); /* as deep as records nest in commands.def */
    if (at->name.data == NULL) {
        stet_buf_printf(b, "[%u]", at->index);
        return;
    }
    if (b->size > 0)
        stet_buf_append_byte(b, '.');
    stet_buf_append(b, at->name.data, at->name.size < PATH_SIZE_MAX ? at->name.size : PATH_SIZE_MAX);
}

/* `text` says what is expected; the path is put before it. */
static stet_code refuse(const place *at, stet_error *e, const char *text) {
    CLEANUP(stet_buf_done) stet_buf path = STET_BUF(4 * PATH_SIZE_MAX);
    place_write(at, &path);
    stet_buf_append_byte(&path, 0);
    const char *name = stet_buf_ok(&path) ? (const char *)path.data : "";
    return stet_error_field(e, STET_INVALID, name, "%s%s%s", name, *name ? " " : "", text);
}

static stet_code refuse_bounds(const place *at, const stet_field *field, stet_error *e, const char *what) {
    char text[128];
    (void)snprintf(text, sizeof text, "must be %s from %lld to %lld", what, (long long)field->min,
                   (long long)field->max);
    return refuse(at, e, text);
}

static stet_code decode_str(const place *at, const stet_field *field, stet_mp_reader *r, stet_str *ret,
                            stet_error *e) {
    if (stet_mp_peek(r) != STET_MP_STR)
        return refuse(at, e, "must be a string");
    *ret = stet_mp_read_str(r);
    if (ret->size < (uint64_t)field->min || ret->size > (uint64_t)field->max)
        return refuse_bounds(at, field, e, "a string with a size in bytes");
    return STET_OK;
}

static stet_code decode_int(const place *at, const stet_field *field, stet_mp_reader *r, int64_t *ret,
                            stet_error *e) {
    stet_mp_type type = stet_mp_peek(r);
    if (type != STET_MP_INT && type != STET_MP_UINT)
        return refuse(at, e, "must be an integer");
    *ret = stet_mp_read_int(r);
    if (r->failed || *ret < field->min || *ret > field->max)
        return refuse_bounds(at, field, e, "an integer");
    return STET_OK;
}

static stet_code decode_uint(const place *at, const stet_field *field, stet_mp_reader *r, uint64_t *ret,
                             stet_error *e) {
    int64_t value = 0;
    stet_code rc = decode_int(at, field, r, &value, e);
    ASSERT(rc != STET_OK || value >= 0); /* min is never negative */
    *ret = (uint64_t)value;
    return rc;
}

static stet_code decode_bool(const place *at, stet_mp_reader *r, bool *ret, stet_error *e) {
    if (stet_mp_peek(r) != STET_MP_BOOL)
        return refuse(at, e, "must be true or false");
    *ret = stet_mp_read_bool(r);
    return STET_OK;
}

static stet_code decode_time(const place *at, const stet_field *field, stet_mp_reader *r, int64_t *ret,
                             stet_error *e) {
    if (stet_mp_peek(r) != STET_MP_STR || !stet_rfc3339_parse(stet_mp_read_str(r), ret))
        return refuse(at, e, "must be an RFC 3339 date and time such as 2026-11-25T22:38:36.123Z");
    if (*ret < field->min || *ret > field->max)
        return refuse(at, e, "must be a time from 1970 on");
    return STET_OK;
}

static stet_code decode_id(const place *at, stet_mp_reader *r, stet_id *ret, stet_error *e) {
    if (stet_mp_peek(r) != STET_MP_STR || !stet_id_parse(stet_mp_read_str(r), ret))
        return refuse(at, e, "must be a UUID such as 019f9c2e-8d7a-7c3e-9b1f-2a6d4e8f0a1b");
    return STET_OK;
}

static stet_code decode_json(const place *at, const stet_field *field, stet_mp_reader *r, stet_str *ret,
                             stet_error *e) {
    *ret = stet_mp_read_raw(r);
    if (ret->size < (uint64_t)field->min || ret->size > (uint64_t)field->max)
        return refuse_bounds(at, field, e, "any JSON value with an encoded size in bytes");
    return STET_OK;
}

static bool is_choice(const char *choices, stet_str value) {
    for (const char *at = choices; *at;) {
        size_t size = strcspn(at, "|");
        if (stet_str_equal(value, stet_str_from(at, size)))
            return true;
        at += size + (at[size] == '|');
    }
    return false;
}

static stet_code decode_choice(const place *at, const stet_field *field, stet_mp_reader *r, stet_str *ret,
                               stet_error *e) {
    char text[160];
    if (stet_mp_peek(r) == STET_MP_STR) {
        *ret = stet_mp_read_str(r);
        if (is_choice(field->choices, *ret))
            return STET_OK;
    }
    (void)snprintf(text, sizeof text, "must be one of %s", field->choices);
    return refuse(at, e, text);
}

static stet_code decode_record(const stet_record *record, const place *at, stet_mp_reader *r,
                               void *ret_struct, stet_error *e);

/* STRS and LIST: every element is checked, and the bytes of the array kept. */
static stet_code decode_items(const place *at, const stet_field *field, stet_mp_reader *r, stet_list *ret,
                              stet_error *e) {
    static const stet_field item = {.type = STET_TYPE_STR, .min = 1, .max = STRS_ITEM_SIZE_MAX};
    if (stet_mp_peek(r) != STET_MP_ARRAY)
        return refuse(at, e, "must be an array");
    const uint8_t *start = r->at;
    uint32_t count = stet_mp_read_array(r);
    if (count < (uint64_t)field->min || count > (uint64_t)field->max)
        return refuse_bounds(at, field, e, "an array with a number of items");
    for (uint32_t i = 0; i < count; i++) {
        place element = {.up = at, .index = i};
        stet_str text;
        _Alignas(max_align_t) uint8_t scratch[RECORD_SIZE_MAX];
        stet_code rc = field->type == STET_TYPE_STRS ? decode_str(&element, &item, r, &text, e)
                                                     : decode_record(field->record, &element, r, scratch, e);
        if (rc != STET_OK)
            return rc;
    }
    *ret = (stet_list){.raw = stet_str_from(start, (size_t)(r->at - start)), .count = count};
    return STET_OK;
}

static stet_code decode_field(const place *at, const stet_field *field, stet_mp_reader *r, void *value,
                              stet_error *e) {
    switch (field->type) {
    case STET_TYPE_STR:
        return decode_str(at, field, r, value, e);
    case STET_TYPE_INT:
        return decode_int(at, field, r, value, e);
    case STET_TYPE_UINT:
        return decode_uint(at, field, r, value, e);
    case STET_TYPE_BOOL:
        return decode_bool(at, r, value, e);
    case STET_TYPE_TIME:
        return decode_time(at, field, r, value, e);
    case STET_TYPE_ID:
        return decode_id(at, r, value, e);
    case STET_TYPE_JSON:
        return decode_json(at, field, r, value, e);
    case STET_TYPE_CHOICE:
        return decode_choice(at, field, r, value, e);
    case STET_TYPE_STRS:
    case STET_TYPE_LIST:
        return decode_items(at, field, r, value, e);
    }
    ASSERT(false); /* every type has its case */
    return STET_INTERNAL;
}

/* Peers send fields mostly in the order of the table: the search starts where the last one ended. */
static const stet_field *find_field(const stet_record *record, stet_str name, size_t *expected) {
    for (size_t i = 0; i < record->fields_count; i++) {
        size_t index = (*expected + i) % record->fields_count;
        if (stet_str_is(name, record->fields[index].name)) {
            *expected = index + 1;
            return &record->fields[index];
        }
    }
    return NULL;
}

static stet_code decode_pair(const stet_record *record, const place *up, stet_mp_reader *r, size_t *expected,
                             uint8_t *base, stet_error *e) {
    if (stet_mp_peek(r) != STET_MP_STR)
        return refuse(up, e, "is malformed: a key is not a string");
    place at = {.up = up, .name = stet_mp_read_str(r)};
    const stet_field *field = find_field(record, at.name, expected);
    if (field == NULL)
        return refuse(&at, e, "is not a field of this command; look at its --help for the names");
    bool *has = (bool *)(base + field->has_offset);
    if (*has)
        return refuse(&at, e, "stands there twice");
    if (field->need == STET_NEED_NULLABLE && stet_mp_peek(r) == STET_MP_NIL) {
        stet_mp_read_nil(r);
        return STET_OK;
    }
    stet_code rc = decode_field(&at, field, r, base + field->offset, e);
    if (rc == STET_OK && r->failed)
        rc = refuse(&at, e, "is malformed");
    *has = true;
    return rc;
}

static stet_code decode_record(const stet_record *record, const place *at, stet_mp_reader *r,
                               void *ret_struct, stet_error *e) {
    memset(ret_struct, 0, record->struct_size);
    if (stet_mp_peek(r) != STET_MP_MAP)
        return refuse(at, e, at ? "must be a map" : "the body must be a MessagePack map");
    size_t expected = 0;
    for (uint32_t pairs = stet_mp_read_map(r); pairs > 0; pairs--) {
        stet_code rc = decode_pair(record, at, r, &expected, ret_struct, e);
        if (rc != STET_OK)
            return rc;
    }
    for (size_t i = 0; i < record->fields_count; i++) {
        const stet_field *field = &record->fields[i];
        place missing = {.up = at, .name = stet_str_of(field->name)};
        if (field->need == STET_NEED_REQUIRED && !*((const bool *)ret_struct + field->has_offset))
            return refuse(&missing, e, "is missing");
    }
    return STET_OK;
}

stet_code stet_schema_decode(const stet_record *record, stet_str body, void *ret_struct, stet_error *e) {
    stet_mp_reader r = stet_mp_reader_of(body.size ? body : STET_STR("\x80"));
    stet_code rc = decode_record(record, NULL, &r, ret_struct, e);
    if (rc == STET_OK && r.at != r.end)
        rc = stet_error_set(e, STET_INVALID, "bytes follow the body's map");
    return rc;
}

stet_mp_reader stet_list_reader(stet_list list) {
    stet_mp_reader r = stet_mp_reader_of(list.raw);
    uint32_t count = list.raw.size ? stet_mp_read_array(&r) : 0;
    ASSERT(count == list.count);
    return r;
}

void stet_list_next(const stet_record *record, stet_mp_reader *r, void *ret_struct) {
    stet_code rc = decode_record(record, NULL, r, ret_struct, NULL);
    ASSERT(rc == STET_OK); /* checked when the body was decoded */
}

stet_code stet_body_decode(const stet_command *command, stet_str body, void *ret_struct, stet_error *e) {
    if (body.size > STET_BODY_BYTES_MAX)
        return stet_error_set(e, STET_TOO_LARGE, "a body has at most %d bytes, this one has %zu",
                              STET_BODY_BYTES_MAX, body.size);
    stet_code rc = body.size ? stet_mp_check(body, STET_MP_LIMITS_BODY, e) : STET_OK;
    return rc == STET_OK ? stet_schema_decode(&command->record, body, ret_struct, e) : rc;
}
