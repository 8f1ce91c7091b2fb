#include "actors/runtime/admit.h"
#include "proto/base/fault.h"

#include "actors/runtime/builtin.h"
#include "actors/runtime/records.h"
#include "proto/base/plant.h"

#include <stdlib.h>

stet_code stet_admit_init(stet_admit *self, const stet_service *service, stet_error *e) {
    *self = (stet_admit){.reply = STET_BUF(STET_BODY_BYTES_MAX)};
#ifdef STET_PLANTS
    self->late_reply = (stet_buf)STET_BUF(STET_BODY_BYTES_MAX);
#endif
    self->request = calloc(1, stet_turn_struct_size_max());
    if (!self->request)
        return stet_error_set(e, STET_UNAVAILABLE, "no memory");
    for (int i = 0; i < STET_CMD_COUNT; i++)
        self->handlers[i] = stet_builtin_find(service, stet_command_at((stet_command_index)i));
    for (size_t i = 0; i < service->handlers_count; i++) {
        const stet_handler *h = &service->handlers[i];
        ASSERT(h->command < STET_CMD_COUNT);
        ASSERT(self->handlers[h->command] == NULL); /* once, and not one of the runtime's */
        ASSERT(
            stet_str_is(stet_command_service(stet_str_of(stet_command_at(h->command)->name)), service->name));
        self->handlers[h->command] = h->handle;
    }
    return STET_OK;
}

void stet_admit_done(stet_admit *self) {
    free(self->request);
    self->request = NULL;
    stet_buf_done(&self->reply);
#ifdef STET_PLANTS
    stet_buf_done(&self->late_reply);
#endif
}

/* The checks that need no store. Decodes the body. */
static stet_code fits(stet_admit *self, const stet_command *command, const stet_envelope *envelope,
                      stet_role role, stet_str body, stet_error *e) {
    if (!command || !self->handlers[stet_command_index_of(command)])
        return stet_error_set(e, STET_NOT_FOUND, "there is no command %.*s here",
                              STET_STR_ARG(envelope->command));
    if (!stet_role_may(role, command))
        return stet_error_set(e, STET_FORBIDDEN, "%s needs the role %s; yours is %s", command->name,
                              stet_role_name(command->role), stet_role_name(role));
    return stet_body_decode(command, body, self->request, e);
}

static stet_code writable(stet_turn *turn, stet_error *e) {
    if (stet_store_writable(turn->store, turn->boot_ms))
        return STET_OK;
    stet_code rc = stet_error_set(e, STET_UNAVAILABLE,
                                  "the disk is nearly full; make room, then resend with the same id");
    if (e)
        e->retry_after_ms = 1000;
    return rc;
}

static stet_code run(stet_admit *self, stet_turn *turn, const stet_command *command, stet_error *e) {
    stet_buf_clear(&self->reply);
    FAULT(handler_before);
    stet_code rc = self->handlers[stet_command_index_of(command)](turn, self->request, &self->reply, e);
    FAULT(handler_after);
    if (rc != STET_OK)
        return rc;
    if (self->reply.size == 0)
        stet_mp_map(&self->reply, 0);
    if (stet_buf_starved(&self->reply))
        return stet_error_set(e, STET_BUSY, "there is no memory for the answer now; send it again");
    if (!stet_buf_ok(&self->reply))
        return stet_error_set(e, STET_TOO_LARGE, "the answer is larger than %d bytes; ask for less",
                              STET_BODY_BYTES_MAX);
    return STET_OK;
}

/* A request that was answered before: the same answer, or a conflict when the id was used for something else.
 */
static stet_code repeated(stet_admit *self, stet_turn *turn, const stet_duplicate *known, const uint8_t *hash,
                          stet_error *e) {
    if (!PLANT(duplicate_any_body) && memcmp(known->hash, hash, DUPLICATES_HASH_BYTES) != 0) {
        stet_turn_count(turn, "requests.conflicts", 1);
        return stet_error_field(e, STET_CONFLICT, "id",
                                "this id was used for another request; use a new one");
    }
    FAULT(duplicate_answered);
    stet_turn_count(turn, "requests.repeated", 1);
    stet_buf_clear(&self->reply);
    stet_buf_append_str(&self->reply, known->answer);
    return stet_buf_ok(&self->reply) ? STET_OK : stet_error_set(e, STET_BUSY, "no memory for the answer");
}

static void remember(stet_admit *self, stet_turn *turn, const uint8_t *hash) {
#ifdef STET_PLANTS
    if (PLANT(duplicate_late)) {
        if (self->late)
            stet_duplicates_put(turn, self->late_id, self->late_hash, stet_buf_str(&self->late_reply));
        self->late = true;
        self->late_id = turn->request_id;
        memcpy(self->late_hash, hash, sizeof(self->late_hash));
        stet_buf_clear(&self->late_reply);
        stet_buf_append_str(&self->late_reply, stet_buf_str(&self->reply));
        return;
    }
#endif
    if (!PLANT(duplicate_forgotten))
        stet_duplicates_put(turn, turn->request_id, hash, stet_buf_str(&self->reply));
}

static stet_code run_write(stet_admit *self, stet_turn *turn, const stet_command *command, stet_str body,
                           stet_error *e) {
    uint8_t hash[DUPLICATES_HASH_BYTES];
    stet_duplicate known;
    bool is_known = false;
    stet_duplicates_hash(stet_str_of(command->name), body, hash);
    stet_code rc = stet_duplicates_find(turn, turn->request_id, &known, &is_known, e);
    if (rc != STET_OK)
        return rc;
    FAULT(duplicate_looked_up);
    if (is_known)
        return repeated(self, turn, &known, hash, e);
    rc = writable(turn, e);
    if (rc == STET_OK)
        rc = run(self, turn, command, e);
    if (rc == STET_OK)
        remember(self, turn, hash);
    return rc;
}

stet_code stet_admit_request(stet_admit *self, stet_turn *turn, const stet_command *command,
                             const stet_envelope *envelope, stet_role role, stet_str body, stet_error *e) {
    if (stet_id_is_zero(envelope->id))
        return stet_error_field(e, STET_INVALID, "id", "a request needs an id of 16 bytes");
    stet_code rc = fits(self, command, envelope, role, body, e);
    if (rc != STET_OK)
        return rc;
    turn->request_id = envelope->id;
    turn->role = role;
    rc = command->effect == STET_EFFECT_WRITE ? run_write(self, turn, command, body, e)
                                              : run(self, turn, command, e);
    turn->request_id = (stet_id){{0}};
    turn->role = STET_ROLE_NONE;
    return rc;
}

stet_code stet_admit_send(stet_admit *self, stet_turn *turn, const stet_envelope *envelope, stet_str body,
                          stet_error *e) {
    const stet_command *command = stet_command_find(envelope->command);
    stet_code rc = fits(self, command, envelope, STET_ROLE_ACTOR, body, e);
    if (rc == STET_OK)
        rc = writable(turn, e);
    if (rc != STET_OK)
        return rc;
    turn->request_id = envelope->id;
    turn->role = STET_ROLE_ACTOR;
    rc = run(self, turn, command, e);
    turn->request_id = (stet_id){{0}};
    turn->role = STET_ROLE_NONE;
    return rc;
}
