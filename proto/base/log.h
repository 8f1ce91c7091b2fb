/* log - one line of structured JSON per event on stderr; a short human line when stderr is a terminal.
 *
 * Library code returns errors; programs and the loop log them, once. A line has ts, level, program, event
 * (dotted, fixed text) and the given fields; what a peer chose is escaped. Never bodies, prompts or secrets.
 * Each event name is limited to 20 lines a second; what was held back is counted in the next line as
 * `suppressed`. Thread: safe from any thread of the process (one short lock). */
#ifndef STET_LOG_H
#define STET_LOG_H

#include "proto/base/base.h"

/* STET_RECORD is or-ed to a level: the line is itself the record, as a metric is that has no other sink.
 * Neither the limit nor the least level holds it back; whoever writes it bounds how often. */
typedef enum stet_level { STET_DEBUG, STET_INFO, STET_WARN, STET_ERROR, STET_RECORD = 0x10 } stet_level;
enum { STET_LOG_FIELDS_MAX = 15 };

typedef struct stet_log_field {
    const char *name; /* job_id, project_id, content_item_id, provider, peer, ... ; NULL ends the list */
    enum { STET_LOG_STR, STET_LOG_INT } type;
    stet_str text;
    int64_t number;
} stet_log_field;

#define STET_LOG_S(name_, value) ((stet_log_field){.name = (name_), .type = STET_LOG_STR, .text = (value)})
#define STET_LOG_C(name_, value)                                                                             \
    ((stet_log_field){.name = (name_), .type = STET_LOG_STR, .text = stet_str_of(value)})
#define STET_LOG_I(name_, value) ((stet_log_field){.name = (name_), .type = STET_LOG_INT, .number = (value)})

/* program: "broker", "drafter", ... ; kept by pointer. */
void stet_log_init(const char *program, stet_level least);
/* fields: an array ended by {.name = NULL}; NULL for none. */
void stet_log_fields(stet_level level, const char *event, const char *message, const stet_log_field *fields);
/* With up to STET_LOG_FIELDS_MAX fields; the rest of the array is zero and ends the list. */
#define stet_log(level, event, message, ...)                                                                 \
    stet_log_fields((level), (event), (message), (const stet_log_field[STET_LOG_FIELDS_MAX + 1]){__VA_ARGS__})
stet_level stet_level_from_name(stet_str name, stet_level fallback);
/* Of a record: the name of its level. */
const char *stet_level_name(stet_level level);

#endif
