/* What a turn is fed with: messages of the broker, results of calls and of work. Each is one unit of undo. */
#include "actors/runtime/core_state.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

#include <stdlib.h>

/* ---- answers ---- */

static void answer(stet_core *self, stet_kind kind, const stet_envelope *to, stet_str route, stet_str body) {
    stet_envelope envelope = {.kind = kind, .id = to->id};
    if (to->kind == STET_KIND_SEND)
        envelope.command = to->command;
    stet_effects_answer(self->turn.effects, &envelope, route, body);
}

static void answer_error(stet_core *self, const stet_envelope *to, stet_str route, const stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(8 << 10);
    stet_error_encode(e, &body);
    if (!stet_buf_ok(&body))
        stet_effects_fail(self->turn.effects,
                          stet_buf_starved(&body)); /* an answer of nothing would be another one */
    answer(self, STET_KIND_ERROR, to, route, stet_buf_str(&body));
    if (e->code == STET_INTERNAL)
        stet_turn_log(
            &self->turn, STET_ERROR, "request.internal", "a request failed for a reason that is ours",
            (stet_log_field[]){
                STET_LOG_S("command", to->command), STET_LOG_C("error", e->message), {.name = NULL}});
}

static void answer_ack(stet_core *self, const stet_envelope *to, stet_str route, uint64_t mark) {
    stet_turn *turn = &self->turn;
    stet_envelope envelope = {.kind = STET_KIND_ACK,
                              .id = to->id,
                              .command = to->command,
                              .service = stet_str_of(turn->service->name),
                              .partition = turn->partition,
                              .epoch = stet_store_epoch(turn->store),
                              .sequence = mark};
    stet_effects_answer(turn->effects, &envelope, route, (stet_str){NULL, 0});
}

/* What cannot be done although the turn was empty; before it is undone. */
static stet_code too_much(stet_turn *turn, stet_error *e) {
    if (stet_turn_starved(turn))
        return stet_error_set(e, STET_BUSY, "there is no memory for this now; send it again");
    return stet_error_set(e, STET_TOO_LARGE,
                          "this needs more than one commit may hold; ask for less at once");
}

/* ---- requests ---- */

static bool run_request(stet_core *self, const stet_envelope *envelope, const stet_route *route,
                        const core_input *in) {
    stet_turn *turn = &self->turn;
    const stet_command *command = stet_command_find(envelope->command);
    if (command && command->effect == STET_EFFECT_READ)
        stet_runs_flush(turn); /* it may read them */
    /* Behind the rows of events: they belong to the messages before this one. */
    stet_turn_mark mark = self->undo = stet_turn_mark_of(turn);
    stet_error error = {0};
    bool alone = core_is_empty(self);
    stet_code rc = stet_admit_request(&self->admit, turn, command, envelope, stet_role_from_name(route->role),
                                      in->body, &error);
    if (rc == STET_OK)
        answer(self, STET_KIND_REPLY, envelope, in->route, stet_buf_str(&self->admit.reply));
    if (stet_turn_overflowed(turn)) {
        rc = too_much(turn, &error);
        stet_turn_undo(turn, mark);
        if (!alone)
            return false;
    }
    if (rc != STET_OK) {
        if (!PLANT(refused_kept))
            stet_turn_undo(turn, mark);
        answer_error(self, envelope, in->route, &error);
        stet_turn_count(turn, "requests.refused", 1);
    }
    stet_turn_count(turn, "requests", 1);
    return true;
}

/* ---- messages of other actors ---- */

/* Everything that a repeat would not change is taken off the channel, or it would block it for ever. */
static void refuse_send(stet_core *self, const stet_envelope *envelope, const core_input *in,
                        const stet_error *e) {
    stet_turn *turn = &self->turn;
    stet_turn_count(turn, "inbox.refused", 1);
    stet_turn_log(turn, STET_ERROR, "inbox.refused",
                  "a message of another actor cannot be applied and was dropped",
                  (stet_log_field[]){STET_LOG_S("command", envelope->command),
                                     STET_LOG_S("sender", envelope->service),
                                     STET_LOG_C("code", stet_code_name(e->code)),
                                     STET_LOG_C("field", e->field),
                                     STET_LOG_C("error", e->message),
                                     {.name = NULL}});
    stet_inbox_mark_put(turn, envelope, envelope->sequence);
    answer_ack(self, envelope, in->route, envelope->sequence);
}

static bool apply_send(stet_core *self, const stet_envelope *envelope, const core_input *in) {
    stet_turn *turn = &self->turn;
    FAULT(inbox_apply_before);
    stet_turn_mark mark = stet_turn_mark_of(turn);
    stet_error error = {0};
    bool alone = core_is_empty(self);
    stet_code rc = stet_admit_send(&self->admit, turn, envelope, in->body, &error);
    if (rc == STET_OK) {
        if (!PLANT(inbox_mark_forgotten) || envelope->sequence % 8 != 0)
            stet_inbox_mark_put(turn, envelope, envelope->sequence);
        answer_ack(self, envelope, in->route, envelope->sequence);
        stet_turn_count(turn, "inbox.applied", 1);
        FAULT(inbox_apply_after);
    }
    if (stet_turn_overflowed(turn)) {
        rc = too_much(turn, &error);
        stet_turn_undo(turn, mark);
        if (!alone)
            return false;
    }
    if (rc == STET_OK)
        return true;
    stet_turn_undo(turn, mark);
    if (stet_code_may_resend(rc))
        answer_error(self, envelope, in->route, &error);
    else
        refuse_send(self, envelope, in, &error);
    return true;
}

static bool run_send(stet_core *self, const stet_envelope *envelope, const core_input *in) {
    stet_turn *turn = &self->turn;
    stet_error error = {0};
    uint64_t mark = 0;
    bool alone = core_is_empty(self);
    if (envelope->sequence == 0 || envelope->service.size == 0) {
        stet_turn_count(turn, "messages.malformed", 1);
        return true;
    }
    stet_turn_mark undo = stet_turn_mark_of(turn);
    stet_code rc = stet_inbox_mark(turn, envelope, &mark, &error);
    if (rc != STET_OK) {
        error.code = STET_UNAVAILABLE; /* the sender keeps it and asks again */
        answer_error(self, envelope, in->route, &error);
    } else if (envelope->sequence == mark + 1 || (PLANT(inbox_gap_applied) && envelope->sequence > mark)) {
        return apply_send(self, envelope, in);
    } else {
        /* Applied before, or one before it is missing: say how far we are. */
        if (envelope->sequence <= mark)
            FAULT(inbox_repeat);
        stet_turn_count(turn, envelope->sequence <= mark ? "inbox.repeated" : "inbox.gaps", 1);
        answer_ack(self, envelope, in->route, mark);
    }
    if (!stet_turn_overflowed(turn))
        return true;
    stet_turn_undo(turn, undo);
    return alone;
}

static bool run_ack(stet_core *self, const stet_envelope *envelope) {
    stet_turn *turn = &self->turn;
    stet_turn_mark mark = stet_turn_mark_of(turn);
    stet_error error = {0};
    bool lost = false, alone = core_is_empty(self);
    FAULT(outbox_ack_received);
    stet_code rc = stet_outbox_ack(&self->outbox, turn, envelope, &lost, &error);
    if (lost) {
        (void)stet_error_set(
            &error, STET_INTERNAL,
            "%.*s has applied message %llu of ours, which this store never gave: it has lost what was "
            "acknowledged; restore the last backup",
            STET_STR_ARG(envelope->service), (unsigned long long)envelope->sequence);
        core_fatal(self, STET_EXIT_DAMAGED, &error);
        return true;
    }
    if (stet_turn_overflowed(turn)) {
        stet_turn_undo(turn, mark);
        return alone;
    }
    if (rc != STET_OK) {
        stet_turn_undo(turn, mark);
        stet_turn_log(turn, STET_ERROR, "outbox.ack", "an acknowledgement could not be taken",
                      (stet_log_field[]){STET_LOG_C("error", error.message), {.name = NULL}});
    }
    return true;
}

static void run_refusal(stet_core *self, const stet_envelope *envelope, const core_input *in) {
    stet_turn *turn = &self->turn;
    stet_error error;
    stet_str receiver = stet_command_service(envelope->command);
    stet_turn_count(turn, "outbox.refused", 1);
    if (!stet_outbox_refused(&self->outbox, turn, receiver))
        return;
    stet_error_decode(in->body, &error);
    stet_turn_log(turn, STET_INFO, "outbox.waiting", "a receiver does not take messages now, they wait",
                  (stet_log_field[]){STET_LOG_S("receiver", receiver),
                                     STET_LOG_C("code", stet_code_name(error.code)),
                                     STET_LOG_C("error", error.message),
                                     {.name = NULL}});
}

static void run_link(stet_core *self, const stet_envelope *envelope, const core_input *in) {
    stet_error error = {0};
    bool fenced = false;
    stet_link_message(&self->link, &self->turn, envelope, in->body, &self->edge, &fenced);
    if (fenced) {
        (void)stet_error_set(&error, STET_CONFLICT,
                             "another owner of this partition is registered with a higher epoch");
        core_fatal(self, STET_EXIT_FENCED, &error);
    }
}

static bool run_message(stet_core *self, const core_input *in) {
    stet_envelope envelope;
    stet_route route;
    FAULT(message_received);
    stet_link_heard(&self->link, &self->turn);
    if (stet_envelope_decode(in->envelope, &envelope, NULL) != STET_OK) {
        stet_turn_count(&self->turn, "messages.malformed", 1);
        return true;
    }
    switch (envelope.kind) {
    case STET_KIND_REQUEST:
        if (stet_route_decode(in->route, &route, NULL) == STET_OK)
            return run_request(self, &envelope, &route, in);
        break;
    case STET_KIND_SEND:
        return run_send(self, &envelope, in);
    case STET_KIND_ACK:
        return run_ack(self, &envelope);
    case STET_KIND_ERROR:
        if (envelope.command.size > 0)
            run_refusal(self, &envelope, in);
        else
            run_link(self, &envelope, in);
        return true;
    case STET_KIND_WELCOME:
    case STET_KIND_REGISTER:
    case STET_KIND_HEARTBEAT:
        run_link(self, &envelope, in);
        return true;
    default:
        break;
    }
    stet_turn_count(&self->turn, "messages.malformed", 1);
    return true;
}

/* ---- results ---- */

static stet_code hand_result(stet_core *self, stet_job *job, const core_input *in, stet_error *e) {
    const stet_service *service = self->turn.service;
    switch (in->kind) {
    case CORE_CALL_DATA:
        FAULT(call_data);
        return service->call_data ? service->call_data(&self->turn, job, &in->data, e) : STET_OK;
    case CORE_CALL_DONE:
        FAULT(call_done);
        return service->call_done ? service->call_done(&self->turn, job, &in->result, e) : STET_OK;
    default:
        /* With an error the sentence stands where the result would. */
        return service->work_done ? service->work_done(&self->turn, job, in->ref, in->code,
                                                       in->code == STET_OK ? in->body : in->message, e)
                                  : STET_OK;
    }
}

/* Recovery ends the attempt; dropping a result would hang the job. */
static void cannot_note(stet_core *self, const char *why) {
    stet_error error = {0};
    (void)stet_error_set(&error, STET_INTERNAL, "cannot note what became of a call: %s", why);
    core_fatal(self, STET_EXIT_INTERNAL, &error);
}

/* The actor could not take the result of its own call: without an end the job would stay active until a
 * restart. What of the call is still to come is not wanted any more. False: in a turn of its own. */
static bool fail_attempt(stet_core *self, const core_input *in, const stet_error *cause, bool alone) {
    stet_turn *turn = &self->turn;
    stet_error error = {0};
    stet_job job;
    stet_turn_mark mark = stet_turn_mark_of(turn);
    stet_turn_log(turn, STET_ERROR, "result.failed", "the actor failed on a result, its attempt ends",
                  (stet_log_field[]){STET_LOG_C("code", stet_code_name(cause->code)),
                                     STET_LOG_C("error", cause->message),
                                     {.name = NULL}});
    stet_code rc = STET_OK;
    if (stet_jobs_current(turn, turn->service, in->ref, &job)) {
        if (in->kind == CORE_CALL_DATA)
            stet_turn_call_cancel(turn, in->ref);
        rc = stet_job_failed(turn, &job, "internal", stet_str_of(cause->message), /* retry_after_ms= */ 0,
                             &error);
    }
    bool full = stet_turn_overflowed(turn), memory = stet_turn_starved(turn) || rc == STET_BUSY;
    if (rc == STET_OK && !full)
        return true;
    stet_turn_undo(turn, mark);
    if (memory || alone) /* not even in a turn of its own */
        cannot_note(self, memory          ? "no memory"
                          : rc != STET_OK ? error.message
                                          : "it does not fit into a commit");
    return alone || memory;
}

static bool cancelled(const stet_core *self, stet_call_ref ref) {
    return stet_effects_cancelled(self->turn.effects, ref, 0) ||
           (self->in_flight && stet_effects_cancelled(self->in_flight, ref, 0));
}

static bool run_result(stet_core *self, const core_input *in) {
    stet_turn *turn = &self->turn;
    stet_turn_mark mark = stet_turn_mark_of(turn);
    stet_error error = {0};
    stet_job job;
    bool alone = core_is_empty(self);
    if (cancelled(self, in->ref) || !stet_jobs_current(turn, turn->service, in->ref, &job)) {
        if (stet_turn_starved(turn))
            cannot_note(self, "no memory");
        stet_turn_count(turn, "results.stale", 1);
        return true;
    }
    stet_code rc = hand_result(self, &job, in, &error);
    if (stet_turn_overflowed(turn)) {
        rc = too_much(turn, &error);
        stet_turn_undo(turn, mark);
        if (!alone)
            return false;
    }
    stet_turn_count(turn, "results", 1);
    if (rc != STET_OK) {
        stet_turn_undo(turn, mark);
        stet_turn_count(turn, "results.failed", 1);
        return fail_attempt(self, in, &error, alone);
    }
    return true;
}

bool core_run(stet_core *self, const core_input *in) {
    self->undo = stet_turn_mark_of(&self->turn);
    bool taken = in->kind == CORE_MESSAGE ? run_message(self, in) : run_result(self, in);
    /* No memory even to refuse it, or to log: that is left out, or the next one would be taken for what did not fit.
     * Whoever waits for the answer asks again. */
    if (stet_turn_overflowed(&self->turn))
        stet_turn_undo(&self->turn, self->undo);
    stet_batch_release_reads(stet_turn_batch(&self->turn));
    self->messages++;
    return taken;
}

/* ---- what has to wait for the next batch ---- */

static void copy_str(stet_str *s, char **at) {
    if (s->size > 0)
        memcpy(*at, s->data, s->size);
    s->data = *at;
    *at += s->size;
}

/* The strings of an input, so that a copy of it can own them. */
static size_t input_strings(core_input *in, stet_str *ret[8]) {
    size_t count = 0;
    ret[count++] = &in->envelope;
    ret[count++] = &in->route;
    ret[count++] = &in->body;
    ret[count++] = &in->message;
    ret[count++] = &in->data.bytes;
    ret[count++] = &in->result.body;
    ret[count++] = &in->result.content_type;
    ret[count++] = &in->result.request_id;
    return count;
}

static void defer(stet_core *self, const core_input *in) {
    stet_str *strings[8];
    core_input whole = *in;
    size_t count = input_strings(&whole, strings), bytes = 0;
    stet_str reason = stet_str_of(in->result.reason);
    for (size_t i = 0; i < count; i++)
        bytes += strings[i]->size;
    core_input *copy = malloc(sizeof(*copy) + bytes + reason.size + 1);
    if (!copy) {
        stet_error error = {0};
        (void)stet_error_set(&error, STET_INTERNAL, "no memory to keep a message for the next turn");
        core_fatal(self, STET_EXIT_INTERNAL,
                   &error); /* recovery loses nothing; dropping a result would hang a job */
        return;
    }
    *copy = whole;
    copy->next = NULL;
    char *at = copy->copies;
    count = input_strings(copy, strings);
    for (size_t i = 0; i < count; i++)
        copy_str(strings[i], &at);
    if (in->result.reason) {
        memcpy(at, reason.data, reason.size);
        at[reason.size] = '\0';
        copy->result.reason = at;
    }
    *self->deferred_end = copy;
    self->deferred_end = &copy->next;
    stet_turn_count(&self->turn, "messages.deferred", 1);
}

void core_input_run(stet_core *self, const core_input *in) {
    if (self->fatal)
        return;
    if (self->deferred || !core_run(self, in))
        defer(self, in);
}

void core_deferred_run(stet_core *self) {
    while (self->deferred && !self->fatal && core_run(self, self->deferred)) {
        core_input *done = self->deferred;
        self->deferred = done->next;
        if (!self->deferred)
            self->deferred_end = &self->deferred;
        free(done);
        if (self->messages >= self->messages_max ||
            stet_batch_bytes(stet_turn_batch(&self->turn)) >= self->bytes_max)
            return;
    }
}

void core_deferred_free(stet_core *self) {
    while (self->deferred) {
        core_input *done = self->deferred;
        self->deferred = done->next;
        free(done);
    }
    self->deferred_end = &self->deferred;
}

/* ---- the public inputs ---- */

void stet_core_message(stet_core *self, stet_str envelope, stet_str route, stet_str body) {
    core_input_run(self,
                   &(core_input){.kind = CORE_MESSAGE, .envelope = envelope, .route = route, .body = body});
}

void stet_core_call_data(stet_core *self, const stet_http_data *data) {
    core_input_run(self, &(core_input){.kind = CORE_CALL_DATA, .data = *data, .ref = data->ref});
}

void stet_core_call_done(stet_core *self, const stet_http_result *result) {
    core_input_run(self, &(core_input){.kind = CORE_CALL_DONE, .result = *result, .ref = result->ref});
}

void stet_core_work_done(stet_core *self, stet_call_ref ref, stet_code code, const char *message,
                         stet_str result) {
    core_input_run(self, &(core_input){.kind = CORE_WORK_DONE,
                                       .ref = ref,
                                       .code = code,
                                       .message = stet_str_of(message),
                                       .body = result});
}
