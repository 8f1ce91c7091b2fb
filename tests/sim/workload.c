/* What clients do. A client has lanes; a lane does one thing after the other and thinks in between. Keys of
 * its own tell about order (probe.put, the counter), shared ones about conflicts (documents, accounts, jobs
 * of one key). What came to no answer is asked again under the same id before the lane goes on, or left for
 * the end. Now and then an earlier request is asked again, or its id is used for something else. */
#include "tests/sim/workload.h"

#include <stdlib.h>

static const struct {
    const char *command;
    uint32_t weight;
    bool is_write;
} kinds[OP_KINDS] = {
    [OP_PUT] = {"probe.put", 16, true},
    [OP_GET] = {"probe.get", 10, false},
    [OP_JOB] = {"probe.job", 10, true},
    [OP_ADD] = {"metrics.record", 24, true},
    [OP_MOVE] = {"metrics.record", 10, true},
    [OP_SUBMIT] = {"drafter.submit", 10, true},
    [OP_DOCUMENT_PUT] = {"drafter.document.put", 8, true},
    [OP_DOCUMENT_GET] = {"drafter.document.get", 6, false},
    [OP_APPEND] = {"drafter.transcript.append", 5, true},
    [OP_CANCEL] = {"drafter.cancel", 4, true},
    [OP_RETRY] = {"drafter.retry", 3, true},
    [OP_PAUSE] = {"drafter.pause", 1, true},
    [OP_RESUME] = {"drafter.resume", 3, true},
    [OP_DRAIN] = {"drafter.drain", 2, true},
    [OP_LOOK] = {"drafter.list", 4, false},
};

static const char *const looks[] = {"drafter.list", "drafter.health", "probe.stats", "broker.services",
                                    "metrics.nothing"};

enum { VISITORS_WRITE = 100 /* per mille */, SMALL_BODY = 8192 };

static void lane_next(void *object, uint64_t asked);

static uint32_t who(const sim_op *op) {
    return op->client * 8 + op->lane;
}

static void note(sim *s, history_kind kind, const sim_op *op, history_record extra) {
    extra.kind = kind;
    extra.at_ms = s->world.boot_ms;
    extra.id = op->id;
    extra.hash = op->body_hash;
    extra.who = who(op);
    extra.stream = op->stream;
    history_add(&s->history, extra);
}

/* ---- asking ---- */

static sim_op *op_new(sim *s, const sim_lane *lane) {
    if (s->ops_count == SIM_OPS_MAX)
        return NULL;
    sim_op *op = &s->ops[s->ops_count++];
    *op =
        (sim_op){.client = lane->client->number, .lane = lane->number, .askers = 1u << lane->client->number};
    return op;
}

static stet_str keep(stet_str text) {
    char *copy = malloc(text.size + 1);
    ASSERT(copy != NULL);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    return stet_str_from(copy, text.size);
}

static void take_body(sim_op *op, stet_str body) {
    op->body = keep(body);
    op->body_hash = world_hash(world_hash(7, op->command, strlen(op->command)), body.data, body.size);
}

static void ask(sim *s, sim_lane *lane, sim_op *op) {
    static const uint32_t timeouts[] = {1000, 5000, 20000};
    lane->op = op;
    lane->asked++;
    s->totals.requests++;
    if (op->is_write)
        note(s, HISTORY_INVOKE, op, (history_record){.number = op->number});
    world_tell(&s->world, lane->client->name, op->command, op->lane, op->repeat, (stet_str){NULL, 0});
    uint32_t timeout_ms = s->calm ? 10000 : timeouts[world_below(&s->world, COUNT_OF(timeouts))];
    if (!client_node_ask(lane->client, op, timeout_ms, workload_answered, lane))
        workload_answered(lane, op->id, &(client_result){.answered = false});
}

static op_kind choose_kind(sim *s) {
    uint32_t sum = 0;
    if (s->jobs_count > 0 && world_chance(&s->world, s->mix.second_thoughts))
        return stet_id_is_zero(s->cancelled) ? OP_CANCEL : OP_RETRY;
    for (int i = 0; i < OP_KINDS; i++)
        sum += kinds[i].weight;
    uint64_t at = world_below(&s->world, sum);
    for (int i = 0; i < OP_KINDS; i++) {
        if (at < kinds[i].weight)
            return (op_kind)i;
        at -= kinds[i].weight;
    }
    return OP_LOOK;
}

static sim_op *new_thing(sim *s, sim_lane *lane, op_kind kind) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(BODY_MAX);
    sim_op *op = s->ops_count < SIM_OPS_NEW ? op_new(s, lane) : NULL;
    if (!op)
        return NULL;
    op->command = kind == OP_LOOK ? looks[world_below(&s->world, COUNT_OF(looks))] : kinds[kind].command;
    op->is_write = kinds[kind].is_write;
    op->id = stet_id_next(&s->world.ids, world_wall_ms(&s->world));
    bool empty = kind < OP_PAUSE && world_chance(&s->world, s->mix.empty);
    if (empty) {
        body_empty(s, op, &body);
    } else if (!body_write(s, op, kind, &body, lane)) {
        s->ops_count--;
        return NULL;
    }
    ASSERT(stet_buf_ok(&body));
    take_body(op, stet_buf_str(&body));
    if (kind == OP_PUT && !empty)
        note(s, HISTORY_WROTE, op, (history_record){.number = op->number});
    return op;
}

/* The same request again, or its id for another one. */
static sim_op *again(sim *s, const sim_lane *lane, sim_op *earlier, bool steal) {
    sim_op *op = op_new(s, lane);
    if (!op)
        return NULL;
    uint32_t client = op->client, number = op->lane;
    *op = *earlier;
    op->client = client;
    op->lane = number;
    op->repeat = true;
    op->steal = steal;
    op->of = earlier;
    if (!steal)
        earlier->askers |= 1u << client;
    op->state = OP_ASKED;
    if (!steal) {
        op->body = keep(earlier->body);
        return op;
    }
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(BODY_MAX);
    sim_lane other = {.client = lane->client, .number = lane->number, .put_number = 1000000};
    body_put(s, op, &body, &other); /* only of probe.put, see earlier_thing */
    take_body(op, stet_buf_str(&body));
    return op;
}

static bool is_pending(const sim *s, stet_id id) {
    for (uint32_t c = 0; c < s->mix.clients; c++) {
        for (uint32_t l = 0; l < s->mix.lanes; l++) {
            if (s->clients[c].lanes[l].op && stet_id_equal(s->clients[c].lanes[l].op->id, id))
                return true;
        }
    }
    return false;
}

static sim_op *earlier_thing(sim *s, const sim_lane *lane, bool steal) {
    for (int tries = 0; tries < 8 && s->ops_count > 0; tries++) {
        sim_op *op = &s->ops[world_below(&s->world, s->ops_count)];
        if (!op->is_write || op->repeat || op->state != OP_OK || is_pending(s, op->id))
            continue;
        /* An answer is known by its id alone, and may come late: no client asks for two things under one. */
        uint32_t me = 1u << lane->client->number;
        if (!steal && !(op->thieves & me))
            return again(s, lane, op, steal);
        if (steal && strcmp(op->command, "probe.put") == 0 && !(op->askers & me)) {
            op->thieves |= me;
            return again(s, lane, op, steal);
        }
    }
    return NULL;
}

/* What has no answer yet and nobody asks for now. */
static sim_op *unknown_thing(sim *s) {
    for (size_t i = 0; s->unknown > 0 && i < s->ops_count; i++) {
        sim_op *op = &s->ops[i];
        if (op->is_write && !op->repeat && op->state == OP_UNKNOWN && !is_pending(s, op->id))
            return op;
    }
    return NULL;
}

static void resume_all(sim *s, sim_lane *lane) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(64);
    char project[SIM_NAME_SIZE];
    sim_op *op = op_new(s, lane);
    if (!op) {
        world_fail(&s->world, "I12: %d requests and no end: what is unknown stays unknown", SIM_OPS_MAX);
        return;
    }
    op->command = "drafter.resume";
    op->is_write = true;
    op->id = stet_id_next(&s->world.ids, world_wall_ms(&s->world));
    op->stream = history_name(&s->history, STET_STR("pauses"));
    if (s->resumes_left == 1) {
        stet_mp_map(&body, 0);
    } else {
        stet_mp_map(&body, 1);
        stet_mp_put_cstr(&body, "projectId", body_name(project, 'p', s->resumes_left - 2));
    }
    s->resumes_left--;
    take_body(op, stet_buf_str(&body));
    ask(s, lane, op);
}

static void plan_next(sim *s, sim_lane *lane) {
    if (lane->client == &s->visitor)
        return; /* it does not come back */
    world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 1, s->calm ? 100 : s->mix.think_ms),
             lane_next, lane, lane->asked);
}

static bool is_busy(const sim *s) {
    for (uint32_t c = 0; c < s->mix.clients; c++) {
        for (uint32_t l = 0; l < s->mix.lanes; l++) {
            if (s->clients[c].lanes[l].op)
                return true;
        }
    }
    return false;
}

/* First what is open, a pause may be among it; then the queues are resumed, one after the other. */
static void finish_next(sim *s, sim_lane *lane) {
    sim_op *unknown = unknown_thing(s);
    sim_op *op = unknown ? again(s, lane, unknown, /* steal= */ false) : NULL;
    if (op)
        ask(s, lane, op);
    else if (s->resumes_left > 0 && is_busy(s))
        plan_next(s, lane);
    else if (s->resumes_left > 0)
        resume_all(s, lane);
}

static void lane_next(void *object, uint64_t asked) {
    sim_lane *lane = object;
    sim *s = lane->client->sim;
    sim_op *op = NULL;
    if (lane->op || lane->asked != asked)
        return;
    if (s->finishing) {
        finish_next(s, lane);
        return;
    }
    if (!s->working || s->ops_count >= SIM_OPS_WORK)
        return;
    if (lane->unresolved)
        op = again(s, lane, lane->unresolved, /* steal= */ false);
    else if (world_chance(&s->world, s->mix.repeat))
        op = earlier_thing(s, lane, /* steal= */ false);
    else if (world_chance(&s->world, s->mix.steal))
        op = earlier_thing(s, lane, /* steal= */ true);
    if (!op)
        op = new_thing(s, lane, choose_kind(s));
    if (op)
        ask(s, lane, op);
    else
        plan_next(s, lane);
}

/* ---- answers ---- */

static void remember_job(sim *s, stet_str body) {
    stet_id id;
    if (s->jobs_count == SIM_JOBS_MAX || !stet_id_parse(stet_mp_get_str(body, "jobId", STET_STR("")), &id))
        return;
    for (size_t i = 0; i < s->jobs_count; i++) {
        if (stet_id_equal(s->jobs[i], id))
            return;
    }
    s->jobs[s->jobs_count++] = id;
}

static void know_version(sim *s, const sim_op *op, uint64_t version) {
    const char *name = s->history.names[op->stream];
    if (strncmp(name, "document ", 9) != 0)
        return; /* an empty request */
    s->documents[name[strlen(name) - 1] - '0'] = version;
}

static void answered_ok(sim *s, sim_op *op, stet_str body) {
    history_record extra = {.answer = world_hash(1, body.data, body.size), .code = op->repeat};
    if (strcmp(op->command, "metrics.record") == 0)
        extra.number = stet_mp_get_uint(body, "value", 0);
    if (op->is_write)
        note(s, HISTORY_OK, op, extra);
    if (op->steal)
        return;
    if (strcmp(op->command, "probe.put") == 0 && (!op->repeat || op->of->state == OP_UNKNOWN))
        note(s, HISTORY_WROTE, op->repeat ? op->of : op, (history_record){.number = op->number, .answer = 1});
    else if (strcmp(op->command, "probe.get") == 0)
        note(s, HISTORY_READ, op, (history_record){.number = body_put_number(body)});
    else if (strcmp(op->command, "drafter.submit") == 0)
        remember_job(s, body);
    else if (strcmp(op->command, "drafter.cancel") == 0)
        (void)!stet_id_parse(stet_mp_get_str(body, "jobId", STET_STR("")), &s->cancelled);
    else if (strcmp(op->command, "drafter.retry") == 0)
        s->cancelled = (stet_id){{0}};
    else if (strcmp(op->command, "drafter.document.get") == 0)
        know_version(s, op, stet_mp_get_uint(body, "version", 0));
    else if (strcmp(op->command, "drafter.document.put") == 0 && !op->repeat) {
        uint64_t version = stet_mp_get_uint(body, "version", 0);
        know_version(s, op, version);
        history_add(&s->history, (history_record){.kind = HISTORY_PUBLISHED,
                                                  .at_ms = s->world.boot_ms,
                                                  .stream = op->stream,
                                                  .number = version,
                                                  .hash = op->number});
    }
}

/* Nothing of this size passes a limit: whoever says so has found no memory, or no place beside others, and means busy. */
static void look_at_size(sim *s, const sim_op *op, const client_result *result) {
    if (result->error.code == STET_TOO_LARGE && op->body.size < SMALL_BODY)
        history_add(&s->history, (history_record){.kind = HISTORY_COMPLAINT,
                                                  .at_ms = s->world.boot_ms,
                                                  .id = op->id,
                                                  .stream = history_name_of(
                                                      &s->history, "%s of %zu bytes is too large: %s",
                                                      op->command, op->body.size, result->error.message)});
}

static void answered_error(sim *s, sim_op *op, const client_result *result) {
    look_at_size(s, op, result);
    if (op->is_write)
        note(s, HISTORY_REFUSED, op,
             (history_record){.code = result->error.code,
                              .number = result->sends + (s->mix.rates.doubled > 0)});
    else if (strcmp(op->command, "probe.get") == 0 && result->error.code == STET_NOT_FOUND)
        note(s, HISTORY_READ, op, (history_record){.number = 0});
    else if (strcmp(op->command, "drafter.document.get") == 0 && result->error.code == STET_NOT_FOUND)
        know_version(s, op, 0);
    if (strcmp(op->command, "drafter.document.put") == 0)
        know_version(s, op,
                     stet_mp_get_uint(stet_str_from(result->error.details, result->error.details_size),
                                      "currentVersion", 0));
}

static op_state settle(sim *s, sim_op *op, const client_result *result) {
    if (!result->answered) {
        s->totals.unknown++;
        if (op->is_write)
            note(s, HISTORY_UNKNOWN, op, (history_record){.number = 0});
        return OP_UNKNOWN;
    }
    if (result->refused) {
        s->totals.refusals++;
        answered_error(s, op, result);
        return OP_REFUSED;
    }
    s->totals.answers++;
    answered_ok(s, op, result->body);
    return OP_OK;
}

static void set_state(sim *s, sim_op *op, op_state state) {
    if (op->is_write && !op->repeat) {
        s->unknown -= op->state == OP_UNKNOWN;
        s->unknown += state == OP_UNKNOWN;
    }
    op->state = state;
}

void workload_answered(void *context, stet_id id, const client_result *result) {
    sim_lane *lane = context;
    sim *s = lane->client->sim;
    sim_op *op = lane->op;
    (void)id; /* a lane has one request under way */
    ASSERT(op != NULL);
    lane->op = NULL;
    set_state(s, op, settle(s, op, result));
    world_tell(&s->world, lane->client->name, "answer", op->state, result->error.code,
               stet_str_of(op->command));
    sim_op *first = op->repeat ? op->of : op;
    if (op->repeat && !op->steal && first->state == OP_UNKNOWN)
        set_state(s, first, op->state);
    /* A client that wants an answer asks again; an increment may also stay open until the end. */
    if (!op->steal && first->is_write && first->state == OP_UNKNOWN)
        lane->unresolved =
            lane->unresolved || strcmp(op->command, "metrics.record") != 0 || world_chance(&s->world, 500)
                ? first
                : NULL;
    else if (lane->unresolved == first)
        lane->unresolved = NULL;
    plan_next(s, lane);
}

/* ---- visitors ---- */

static void visitor_answered(void *context, stet_id id, const client_result *result) {
    sim *s = context;
    (void)id;
    s->totals.answers += result->answered;
}

/* One that comes, asks for one thing and is gone, mostly before it has an answer. Always on a new connection. */
static void visit(void *object, uint64_t left) {
    sim *s = object;
    sim_lane *lane = &s->visitor.lanes[0];
    if (!s->working || left == 0)
        return;
    fault_count(s, FAULT_visit);
    client_node_kill(&s->visitor);
    sim_op *op = world_chance(&s->world, VISITORS_WRITE) ? new_thing(s, lane, choose_kind(s)) : NULL;
    sim_op look = {.id = stet_id_next(&s->world.ids, world_wall_ms(&s->world)),
                   .command = looks[world_below(&s->world, COUNT_OF(looks))],
                   .body = STET_STR("\x80")};
    if (op)
        ask(s, lane, op);
    else
        (void)client_node_ask(&s->visitor, &look, 5000, visitor_answered, s);
    world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 0, s->mix.visit_ms), visit, s, left - 1);
}

/* ---- life ---- */

void workload_start(sim *s) {
    s->working = true;
    for (uint32_t c = 0; c < s->mix.clients; c++) {
        for (uint32_t l = 0; l < s->mix.lanes; l++)
            plan_next(s, &s->clients[c].lanes[l]);
    }
    visit(s, s->mix.visits);
}

void workload_finish(sim *s) {
    s->working = false;
    s->finishing = true;
    s->resumes_left = SIM_PROJECTS + 1;
    if (s->mix.visits > 0)
        client_node_kill(&s->visitor); /* the last one goes; what it asked for is asked by others */
    for (uint32_t c = 0; c < s->mix.clients; c++) {
        for (uint32_t l = 0; l < s->mix.lanes; l++) {
            sim_lane *lane = &s->clients[c].lanes[l];
            lane->unresolved = NULL;
            if (!lane->op)
                plan_next(s, lane);
        }
    }
}

bool workload_resting(sim *s) {
    return !is_busy(s) && s->resumes_left == 0 && !unknown_thing(s);
}

void workload_done(sim *s) {
    for (size_t i = 0; i < s->ops_count; i++)
        free((void *)(uintptr_t)s->ops[i].body.data);
    s->ops_count = 0;
}
