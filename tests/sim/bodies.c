/* What a request of each kind says: mostly small; now and then as large as it may be, a little larger, or empty. */
#include "tests/sim/workload.h"

enum {
    LARGE_KEPT_MAX = 48,
    VALUE_MAX = 65536,
    TEXT_MAX = 65536,
    INSTRUCTION_MAX = 16384,
    MARKDOWN_MAX = 524288,
    AROUND = 40
};

/* Which of so many; most go to the first when the seed has a hot key. */
static uint64_t pick(sim *s, uint64_t count) {
    return s->mix.hot && world_chance(&s->world, 900) ? 0 : world_below(&s->world, count);
}

/* How much is added to something that may have so many bytes: mostly nothing, else something near the limit. */
static size_t large(sim *s, size_t most) {
    if (s->large_count == LARGE_KEPT_MAX || !world_chance(&s->world, s->mix.large))
        return 0;
    s->large_count++;
    fault_count(s, FAULT_request_large);
    return world_chance(&s->world, 300) ? (size_t)world_below(&s->world, most)
                                        : most + AROUND / 2 - (size_t)world_below(&s->world, AROUND);
}

static void fill(stet_buf *b, size_t size, uint8_t with) {
    uint8_t *at = stet_buf_extend(b, size);
    ASSERT(at != NULL);
    memset(at, with, size);
}

static void put_filled(stet_buf *b, const char *name, size_t size) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(BODY_MAX);
    fill(&text, size, 'x');
    stet_mp_put_str(b, name, stet_buf_str(&text));
}

const char *body_name(char text[SIM_NAME_SIZE], char kind, uint64_t number) {
    (void)snprintf(text, SIM_NAME_SIZE, "%c%llu", kind, (unsigned long long)number);
    return text;
}

void body_put(sim *s, sim_op *op, stet_buf *b, sim_lane *lane) {
    char key[SIM_NAME_SIZE];
    (void)snprintf(key, sizeof(key), "k%u-%u", op->client, op->lane);
    stet_mp_map(b, strcmp(op->command, "probe.put") == 0 ? 2 : 1);
    stet_mp_put_cstr(b, "key", key);
    op->stream = history_name(&s->history, stet_str_of(key));
    if (strcmp(op->command, "probe.get") == 0)
        return;
    op->number = ++lane->put_number;
    size_t more = large(s, world_chance(&s->world, 100) ? STET_BODY_BYTES_MAX - AROUND : VALUE_MAX);
    if (more == 0) {
        stet_mp_put_uint(b, "value", op->number);
        return;
    }
    CLEANUP(stet_buf_done) stet_buf filling = STET_BUF(BODY_MAX);
    fill(&filling, more - AROUND / 2 < more ? more - AROUND / 2 : more, 'x');
    stet_mp_cstr(b, "value");
    stet_mp_array(b, 2);
    stet_mp_uint(b, op->number);
    stet_mp_bin(b, filling.data, filling.size);
}

uint64_t body_put_number(stet_str reply) {
    stet_mp_reader r = stet_mp_reader_of(stet_mp_get_raw(reply, "value"));
    if (stet_mp_peek(&r) == STET_MP_ARRAY)
        (void)stet_mp_read_array(&r);
    return stet_mp_read_uint(&r);
}

static void body_job(sim *s, sim_op *op, stet_buf *b) {
    char session[SIM_NAME_SIZE], key[SIM_NAME_SIZE];
    bool has_key = world_chance(&s->world, 500), later = world_chance(&s->world, 200);
    stet_mp_map(b, 1u + has_key + later);
    stet_mp_put_cstr(b, "sessionId", body_name(session, 's', pick(s, SIM_SESSIONS)));
    if (has_key)
        stet_mp_put_cstr(b, "key", body_name(key, 'j', pick(s, 2)));
    if (later)
        stet_mp_put_time(b, "runAt", world_wall_ms(&s->world) + world_between(&s->world, 0, 20000));
    op->stream = history_name(&s->history, stet_str_of(session));
}

static void body_count(sim *s, sim_op *op, stet_buf *b, bool move) {
    char name[SIM_NAME_SIZE], to[SIM_NAME_SIZE], session[SIM_NAME_SIZE];
    if (move)
        (void)body_name(name, 'a', pick(s, SIM_ACCOUNTS));
    else
        (void)snprintf(name, sizeof(name), "c%u-%u", op->client, op->lane);
    stet_mp_map(b, 4);
    stet_mp_put_cstr(b, "name", name);
    stet_mp_cstr(b, "labels");
    stet_mp_map(b, move ? 2 : 1);
    stet_mp_put_cstr(b, "session", body_name(session, 'c', pick(s, SIM_SESSIONS)));
    if (move)
        stet_mp_put_cstr(b, "to", body_name(to, 'a', pick(s, SIM_ACCOUNTS)));
    stet_mp_cstr(b, "values");
    stet_mp_map(b, 1);
    stet_mp_put_uint(b, "amount", move ? 1 + world_below(&s->world, 60) : 1);
    stet_mp_put_time(b, "at", world_wall_ms(&s->world));
    op->stream = history_name(&s->history, stet_str_of(name));
}

static uint64_t choose_project(sim *s, sim_op *op, char text[SIM_NAME_SIZE]) {
    uint64_t number = pick(s, SIM_PROJECTS);
    op->stream = history_name_of(&s->history, "document %s", body_name(text, 'p', number));
    return number;
}

static void body_submit(sim *s, sim_op *op, stet_buf *b) {
    char project[SIM_NAME_SIZE], session[SIM_NAME_SIZE], key[SIM_NAME_SIZE];
    uint64_t number = choose_project(s, op, project);
    bool dedup = world_chance(&s->world, 200), later = world_chance(&s->world, 100);
    stet_mp_map(b, 4u + dedup + later);
    stet_mp_put_cstr(b, "projectId", project);
    stet_mp_put_cstr(b, "sessionId", body_name(session, 'd', number));
    size_t more = large(s, INSTRUCTION_MAX);
    if (more > 0)
        put_filled(b, "instruction", more);
    else
        stet_mp_put_cstr(b, "instruction", "write");
    stet_mp_put_uint(b, "priority", world_below(&s->world, 10));
    if (dedup)
        stet_mp_put_cstr(b, "dedupKey", body_name(key, 'x', pick(s, 2)));
    if (later)
        stet_mp_put_time(b, "runAt", world_wall_ms(&s->world) + world_between(&s->world, 0, 15000));
}

static void body_document(sim *s, sim_op *op, stet_buf *b, bool put) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(BODY_MAX);
    char project[SIM_NAME_SIZE];
    uint64_t number = choose_project(s, op, project);
    stet_mp_map(b, put ? 3 : 1);
    stet_mp_put_cstr(b, "projectId", project);
    if (!put)
        return;
    op->number = ++s->marks;
    stet_buf_printf(&text, "@@%llu by a person", (unsigned long long)op->number);
    size_t more = large(s, MARKDOWN_MAX);
    if (more > text.size)
        fill(&text, more - text.size, 'x');
    stet_mp_put_uint(b, "baseVersion", s->documents[number]);
    stet_mp_put_str(b, "markdown", stet_buf_str(&text));
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
        stet_mp_put_cstr(b, "id", body_name(item, 'i', world_below(&s->world, 20) * 8 + i));
        stet_mp_put_cstr(b, "role", "user");
        size_t more = large(s, TEXT_MAX);
        if (more > 0)
            put_filled(b, "text", more);
        else
            stet_mp_put_cstr(b, "text", "hello");
        stet_mp_put_time(b, "timestamp", world_wall_ms(&s->world));
    }
}

static bool body_of_job(sim *s, sim_op *op, stet_buf *b) {
    char text[STET_ID_TEXT_SIZE];
    if (s->jobs_count == 0)
        return false;
    size_t recent = s->jobs_count < 8 ? s->jobs_count : 8;
    if (world_chance(&s->world, 2 * s->mix.second_thoughts))
        recent = 1;
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

bool body_write(sim *s, sim_op *op, op_kind kind, stet_buf *b, sim_lane *lane) {
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
            stet_mp_put_cstr(b, "projectId", body_name(project, 'p', pick(s, SIM_PROJECTS)));
        }
        return true;
    default:
        stet_mp_map(b, 0);
        op->stream = history_name(&s->history, STET_STR("looks"));
        return true;
    }
}

void body_empty(sim *s, sim_op *op, stet_buf *b) {
    static const char *const names[] = {"key", "projectId", "sessionId", "jobId", "name"};
    op->stream = history_name(&s->history, STET_STR("empty"));
    fault_count(s, FAULT_request_empty);
    switch (world_below(&s->world, 3)) {
    case 0:
        break; /* not a byte */
    case 1:
        stet_mp_map(b, 0);
        break;
    default:
        stet_mp_map(b, 1);
        stet_mp_put_cstr(b, names[world_below(&s->world, COUNT_OF(names))], "");
        break;
    }
}
