/* What clients do. A client has lanes; a lane does one thing after the other and thinks in between. Keys of
 * its own tell about order (probe.put, the counter), shared ones about conflicts (documents, accounts, jobs
 * of one key). What came to no answer is asked again under the same id before the lane goes on, or left for
 * the end. Now and then an earlier request is asked again, or its id is used for something else. */
#include "tests/sim/sim.h"

#include <stdlib.h>

enum { BODY_MAX = 4096 };

typedef enum op_kind {
    OP_PUT,
    OP_GET,
    OP_JOB,
    OP_ADD,
    OP_MOVE,
    OP_SUBMIT,
    OP_DOCUMENT_PUT,
    OP_DOCUMENT_GET,
    OP_APPEND,
    OP_CANCEL,
    OP_RETRY,
    OP_PAUSE,
    OP_RESUME,
    OP_DRAIN,
    OP_LOOK,
    OP_KINDS
} op_kind;

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

/* ---- bodies ---- */

static const char *name_in(char text[SIM_NAME_SIZE], char kind, uint64_t number) {
    (void)snprintf(text, SIM_NAME_SIZE, "%c%llu", kind, (unsigned long long)number);
    return text;
}

static void body_put(sim *s, sim_op *op, stet_buf *b, sim_lane *lane) {
    char key[SIM_NAME_SIZE];
    (void)snprintf(key, sizeof(key), "k%u-%u", op->client, op->lane);
    stet_mp_map(b, strcmp(op->command, "probe.put") == 0 ? 2 : 1);
    stet_mp_put_cstr(b, "key", key);
    op->stream = history_name(&s->history, stet_str_of(key));
    if (strcmp(op->command, "probe.get") == 0)
        return;
    op->number = ++lane->put_number;
    stet_mp_put_uint(b, "value", op->number);
}

static void body_job(sim *s, sim_op *op, stet_buf *b) {
    char session[SIM_NAME_SIZE], key[SIM_NAME_SIZE];
    bool has_key = world_chance(&s->world, 500), later = world_chance(&s->world, 200);
    stet_mp_map(b, 1u + has_key + later);
    stet_mp_put_cstr(b, "sessionId", name_in(session, 's', world_below(&s->world, SIM_SESSIONS)));
    if (has_key)
        stet_mp_put_cstr(b, "key", name_in(key, 'j', world_below(&s->world, 2)));
    if (later)
        stet_mp_put_time(b, "runAt", world_wall_ms(&s->world) + world_between(&s->world, 0, 20000));
    op->stream = history_name(&s->history, stet_str_of(session));
}

static void body_count(sim *s, sim_op *op, stet_buf *b, bool move) {
    char name[SIM_NAME_SIZE], to[SIM_NAME_SIZE], session[SIM_NAME_SIZE];
    if (move)
        (void)name_in(name, 'a', world_below(&s->world, SIM_ACCOUNTS));
    else
        (void)snprintf(name, sizeof(name), "c%u-%u", op->client, op->lane);
    stet_mp_map(b, 4);
    stet_mp_put_cstr(b, "name", name);
    stet_mp_cstr(b, "labels");
    stet_mp_map(b, move ? 2 : 1);
    stet_mp_put_cstr(b, "session", name_in(session, 'c', world_below(&s->world, SIM_SESSIONS)));
    if (move)
        stet_mp_put_cstr(b, "to", name_in(to, 'a', world_below(&s->world, SIM_ACCOUNTS)));
    stet_mp_cstr(b, "values");
    stet_mp_map(b, 1);
    stet_mp_put_uint(b, "amount", move ? 1 + world_below(&s->world, 60) : 1);
    stet_mp_put_time(b, "at", world_wall_ms(&s->world));
    op->stream = history_name(&s->history, stet_str_of(name));
}

static uint64_t choose_project(sim *s, sim_op *op, char text[SIM_NAME_SIZE]) {
    uint64_t number = world_below(&s->world, SIM_PROJECTS);
    op->stream = history_name_of(&s->history, "document %s", name_in(text, 'p', number));
    return number;
}

static void body_submit(sim *s, sim_op *op, stet_buf *b) {
    char project[SIM_NAME_SIZE], session[SIM_NAME_SIZE], key[SIM_NAME_SIZE];
    uint64_t number = choose_project(s, op, project);
    bool dedup = world_chance(&s->world, 200), later = world_chance(&s->world, 100);
    stet_mp_map(b, 4u + dedup + later);
    stet_mp_put_cstr(b, "projectId", project);
    stet_mp_put_cstr(b, "sessionId", name_in(session, 'd', number));
    stet_mp_put_cstr(b, "instruction", "write");
    stet_mp_put_uint(b, "priority", world_below(&s->world, 10));
    if (dedup)
        stet_mp_put_cstr(b, "dedupKey", name_in(key, 'x', world_below(&s->world, 2)));
    if (later)
        stet_mp_put_time(b, "runAt", world_wall_ms(&s->world) + world_between(&s->world, 0, 15000));
}

static void body_document(sim *s, sim_op *op, stet_buf *b, bool put) {
    char project[SIM_NAME_SIZE], text[64];
    uint64_t number = choose_project(s, op, project);
    stet_mp_map(b, put ? 3 : 1);
    stet_mp_put_cstr(b, "projectId", project);
    if (!put)
        return;
    op->number = ++s->marks;
    (void)snprintf(text, sizeof(text), "@@%llu by a person", (unsigned long long)op->number);
    stet_mp_put_uint(b, "baseVersion", s->documents[number]);
    stet_mp_put_cstr(b, "markdown", text);
}

static void body_append(sim *s, sim_op *op, stet_buf *b) {
    char project[SIM_NAME_SIZE], item[SIM_NAME_SIZE];
    uint64_t count = 1 + world_below(&s->world, 3);
    (void)choose_project(s, op, project);
    stet_mp_map(b, 2);
    stet_mp_put_cstr(b, "projectId", project);
    stet_mp_cstr(b, "items");
    stet_mp_array(b, (uint32_t)count);
    for (uint64_t i = 0; i < count; i++) {
        stet_mp_map(b, 4);
        stet_mp_put_cstr(b, "id", name_in(item, 'i', world_below(&s->world, 20) * 8 + i));
        stet_mp_put_cstr(b, "role", "user");
        stet_mp_put_cstr(b, "text", "hello");
        stet_mp_put_time(b, "timestamp", world_wall_ms(&s->world));
    }
}

static bool body_of_job(sim *s, sim_op *op, stet_buf *b) {
    char text[STET_ID_TEXT_SIZE];
    if (s->jobs_count == 0)
        return false;
    size_t recent = s->jobs_count < 8 ? s->jobs_count : 8;
    stet_id id = s->jobs[s->jobs_count - 1 - world_below(&s->world, recent)];
    if (strcmp(op->command, "drafter.retry") == 0 && !stet_id_is_zero(s->cancelled) &&
        world_chance(&s->world, 600))
        id = s->cancelled; /* while its call may still be on its way back */
    stet_id_text(id, text);
    stet_mp_map(b, 1);
    stet_mp_put_cstr(b, "jobId", text);
    op->stream = history_name(&s->history, STET_STR("jobs"));
    return true;
}

/* False: it cannot be asked now. */
static bool write_body(sim *s, sim_op *op, op_kind kind, stet_buf *b, sim_lane *lane) {
    char project[SIM_NAME_SIZE];
    switch (kind) {
    case OP_PUT:
    case OP_GET:
        body_put(s, op, b, lane);
        return true;
    case OP_JOB:
        body_job(s, op, b);
        return true;
    case OP_ADD:
    case OP_MOVE:
        body_count(s, op, b, kind == OP_MOVE);
        return true;
    case OP_SUBMIT:
        body_submit(s, op, b);
        return true;
    case OP_DOCUMENT_PUT:
    case OP_DOCUMENT_GET:
        body_document(s, op, b, kind == OP_DOCUMENT_PUT);
        return true;
    case OP_APPEND:
        body_append(s, op, b);
        return true;
    case OP_CANCEL:
    case OP_RETRY:
        return body_of_job(s, op, b);
    case OP_PAUSE:
    case OP_RESUME:
        op->stream = history_name(&s->history, STET_STR("pauses"));
        if (world_chance(&s->world, 300)) {
            stet_mp_map(b, 0);
        } else {
            stet_mp_map(b, 1);
            stet_mp_put_cstr(b, "projectId", name_in(project, 'p', world_below(&s->world, SIM_PROJECTS)));
        }
        return true;
    default:
        stet_mp_map(b, 0);
        op->stream = history_name(&s->history, STET_STR("looks"));
        return true;
    }
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
    if (!write_body(s, op, kind, &body, lane)) {
        s->ops_count--;
        return NULL;
    }
    ASSERT(stet_buf_ok(&body));
    take_body(op, stet_buf_str(&body));
    if (kind == OP_PUT)
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
        stet_mp_put_cstr(&body, "projectId", name_in(project, 'p', s->resumes_left - 2));
    }
    s->resumes_left--;
    take_body(op, stet_buf_str(&body));
    ask(s, lane, op);
}

static void plan_next(sim *s, sim_lane *lane) {
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
        note(s, HISTORY_READ, op, (history_record){.number = stet_mp_get_uint(body, "value", 0)});
    else if (strcmp(op->command, "drafter.submit") == 0)
        remember_job(s, body);
    else if (strcmp(op->command, "drafter.cancel") == 0)
        (void)!stet_id_parse(stet_mp_get_str(body, "jobId", STET_STR("")), &s->cancelled);
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

static void answered_error(sim *s, sim_op *op, const client_result *result) {
    if (op->is_write)
        note(s, HISTORY_REFUSED, op, (history_record){.code = result->error.code, .number = result->sends});
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

/* ---- life ---- */

void workload_start(sim *s) {
    s->working = true;
    for (uint32_t c = 0; c < s->mix.clients; c++) {
        for (uint32_t l = 0; l < s->mix.lanes; l++)
            plan_next(s, &s->clients[c].lanes[l]);
    }
}

void workload_finish(sim *s) {
    s->working = false;
    s->finishing = true;
    s->resumes_left = SIM_PROJECTS + 1;
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
