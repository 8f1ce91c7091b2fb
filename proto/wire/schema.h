/* schema - what is derived from commands.def: a struct per command, one decoder that refuses what does not
 * fit (with the field's path), one encoder's help, and the rows that --help, completion and docs/reference.md
 * print.
 *
 * A decoded struct points into the body: no allocation, nothing to free; it lives as long as the body.
 * Thread: any; all tables are const. */
#ifndef STET_SCHEMA_H
#define STET_SCHEMA_H

#include "proto/base/buf.h"
#include "proto/base/code.h"
#include "proto/wire/id.h"
#include "proto/wire/mp.h"

typedef enum stet_role {
    STET_ROLE_NONE,
    STET_ROLE_VIEWER,
    STET_ROLE_PRODUCER,
    STET_ROLE_CONTROL,
    STET_ROLE_ACTOR
} stet_role;
typedef enum stet_effect { STET_EFFECT_READ, STET_EFFECT_WRITE } stet_effect;
typedef enum stet_need {
    STET_NEED_REQUIRED,
    STET_NEED_OPTIONAL,
    STET_NEED_NULLABLE /* optional, and null = absent */
} stet_need;
typedef enum stet_field_type {
    STET_TYPE_STR,
    STET_TYPE_INT,
    STET_TYPE_UINT,
    STET_TYPE_BOOL,
    STET_TYPE_TIME,
    STET_TYPE_ID,
    STET_TYPE_JSON,
    STET_TYPE_STRS,
    STET_TYPE_CHOICE,
    STET_TYPE_LIST
} stet_field_type;

/* The elements of a STRS or LIST field: the bytes of the array, already checked. */
typedef struct stet_list {
    stet_str raw;
    uint32_t count;
} stet_list;

#define STET_C_STR stet_str
#define STET_C_INT int64_t
#define STET_C_UINT uint64_t
#define STET_C_BOOL bool
#define STET_C_TIME int64_t
#define STET_C_ID stet_id
#define STET_C_JSON stet_str
#define STET_C_STRS stet_list

/* cmd_drafter_submit {stet_str project_id; bool has_project_id; ...}; an absent field is zero. */
#define RECORD(C, help) typedef struct cmd_##C {
#define COMMAND(C, wire, effect, role, help, returns)                                                        \
    typedef struct cmd_##C {                                                                                 \
        char unused_;
#define FIELD(C, name, wire, type, need, min, max, help)                                                     \
    STET_C_##type name;                                                                                      \
    bool has_##name;
#define CHOICE(C, name, wire, need, choices, help)                                                           \
    stet_str name;                                                                                           \
    bool has_##name;
#define LIST(C, name, wire, record, need, min, max, help)                                                    \
    stet_list name;                                                                                          \
    bool has_##name;
#define END(C)                                                                                               \
    }                                                                                                        \
    cmd_##C;
#include "proto/wire/commands.def"
#undef RECORD
#undef COMMAND
#undef FIELD
#undef CHOICE
#undef LIST
#undef END

/* Index of each command: STET_CMD_drafter_submit. */
typedef enum stet_command_index {
#define RECORD(C, help)
#define COMMAND(C, wire, effect, role, help, returns) STET_CMD_##C,
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
    STET_CMD_COUNT
} stet_command_index;

typedef struct stet_record stet_record;
typedef struct stet_field {
    const char *name; /* wire name */
    stet_field_type type;
    stet_need need;
    size_t offset;     /* of the value in the struct */
    size_t has_offset; /* of has_... */
    int64_t min, max;
    const char *choices;       /* CHOICE: "a|b|c" */
    const stet_record *record; /* LIST */
    const char *help;
} stet_field;

struct stet_record {
    const char *name;
    const stet_field *fields;
    size_t fields_count;
    size_t struct_size;
};

typedef struct stet_command {
    const char *name; /* wire name */
    stet_effect effect;
    stet_role role;
    const char *help;
    const char *returns;
    stet_record record;
} stet_command;

/* Rows in the order of commands.def; index < STET_CMD_COUNT. */
const stet_command *stet_command_at(stet_command_index index);
/* NULL when there is no such command. One pass over a byte per command (its name's size), then one comparison
 * for each name of that size. */
const stet_command *stet_command_find(stet_str name);
stet_command_index stet_command_index_of(const stet_command *command);
/* True when at least one command of the table has this service as its first label. */
bool stet_service_known(stet_str service);
/* CONTROL may all; ACTOR all but what needs CONTROL; PRODUCER and VIEWER what needs no more than they are. */
bool stet_role_may(stet_role caller, const stet_command *command);
stet_role stet_role_from_name(stet_str name); /* STET_ROLE_NONE when unknown */
const char *stet_role_name(stet_role role);

/* Decodes a body (checked with stet_mp_check first; no bytes at all count as an empty map) into the command's
 * struct, record->struct_size bytes, zeroed first. STET_INVALID names the field's path: missing, wrong type,
 * out of bounds, not one of the choices, or unknown (a typo is an error, not silence). */
NODISCARD
stet_code stet_schema_decode(const stet_record *record, stet_str body, void *ret_struct, stet_error *e);
/* The same for bytes from outside: bounds the size (STET_TOO_LARGE), checks them, then decodes. */
NODISCARD
stet_code stet_body_decode(const stet_command *command, stet_str body, void *ret_struct, stet_error *e);
/* Iterates a LIST: decodes the element at the reader into ret_struct. Cannot fail on a decoded body. */
stet_mp_reader stet_list_reader(stet_list list); /* stands on the first element */
void stet_list_next(const stet_record *record, stet_mp_reader *r, void *ret_struct);
/* The record of a LIST, e.g. &stet_record_transcript_item. */
#define RECORD(C, help) extern const stet_record stet_record_##C;
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

/* Text derived from the table. */
void stet_schema_help(const stet_command *command, stet_buf *b); /* for `stet call SERVICE.COMMAND --help` */
void stet_schema_reference(stet_buf *b);                         /* docs/reference.md, whole */
const char *stet_field_type_name(stet_field_type type);

#endif
