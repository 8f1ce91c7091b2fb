/* builtin - the commands every actor answers: events, stats, health, check.
 *
 * Handlers like those of an actor; which one a command has is decided by its name behind the service. */
#ifndef STET_BUILTIN_H
#define STET_BUILTIN_H

#include "actors/runtime/turn.h"

/* NULL when the command is not one of the runtime's for this service. */
stet_handler_fn *stet_builtin_find(const stet_service *service, const stet_command *command);

/* Answers <service>.check (check.c). */
NODISCARD
stet_code stet_check_read(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e);
/* Verifies one row of any table. */
NODISCARD
stet_code stet_check_row(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value, stet_error *e);
/* Name of a table for people; NULL when neither the runtime nor the service has it. */
const char *stet_table_name_of(const stet_service *service, uint8_t table);

#endif
