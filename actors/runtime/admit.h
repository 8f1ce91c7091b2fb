/* admit - from a message's bytes to its handler: is it ours, may the caller, does it fit, was it answered
 * before.
 *
 * Works inside a turn and answers with a code; undoing and answering is the core's. */
#ifndef STET_ADMIT_H
#define STET_ADMIT_H

#include "actors/runtime/turn.h"

typedef struct stet_admit {
    stet_handler_fn *handlers[STET_CMD_COUNT];
    void *request; /* the decoded body */
    stet_buf reply;
#ifdef STET_PLANTS
    bool late; /* the record of the last answer, not yet written */
    stet_id late_id;
    uint8_t late_hash[16];
    stet_buf late_reply;
#endif
} stet_admit;

NODISCARD
stet_code stet_admit_init(stet_admit *self, const stet_service *service, stet_error *e);
void stet_admit_done(stet_admit *self);
/* The answer stands in self->reply until the next call; at least {}. */
NODISCARD
stet_code stet_admit_request(stet_admit *self, stet_turn *turn, const stet_command *command,
                             const stet_envelope *envelope, stet_role role, stet_str body, stet_error *e);
/* The message of another actor, whose turn in its channel it is. */
NODISCARD
stet_code stet_admit_send(stet_admit *self, stet_turn *turn, const stet_envelope *envelope, stet_str body,
                          stet_error *e);

#endif
