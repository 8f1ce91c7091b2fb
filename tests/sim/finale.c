/* The end: every process is gone, the stores are read. What can be asked is asked through each actor's own
 * commands, on a core of its own that nothing disturbs; the rows of the two small services are read directly.
 */
#include "tests/sim/checker.h"
#include "tests/sim/workload.h"

#include "proto/wire/json.h"

#include <stdlib.h>

enum { REPLY_MAX = 2 << 20, ROUNDS_MAX = 64, ROW_MAX = 4096 };

/* ---- an actor that answers one question at a time ---- */

typedef struct oracle {
    sim *s;
    sim_actor *actor;
    stet_core *core;
    stet_id asked;
    bool answered, refused;
    stet_buf reply;
} oracle;

static bool take_answer(void *context, stet_str frame, stet_str route, stet_str body) {
    oracle *self = context;
    stet_envelope envelope;
    (void)route;
    if (stet_envelope_decode(frame, &envelope, NULL) != STET_OK || !stet_id_equal(envelope.id, self->asked) ||
        (envelope.kind != STET_KIND_REPLY && envelope.kind != STET_KIND_ERROR))
        return true;
    self->answered = true;
    self->refused = envelope.kind == STET_KIND_ERROR;
    stet_buf_clear(&self->reply);
    stet_buf_append_str(&self->reply, body);
    return true;
}

static void drop_event(void *context, stet_str topic, stet_str payload) {
    (void)context, (void)topic, (void)payload;
}

static void drop_call(void *context, stet_call_ref ref, const stet_http_request *request) {
    (void)context, (void)ref, (void)request;
}

static void drop_cancel(void *context, stet_call_ref ref) {
    (void)context, (void)ref;
}

static void drop_work(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input) {
    (void)context, (void)ref, (void)work, (void)input;
}

static void drop_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    (void)context, (void)level, (void)event, (void)message, (void)fields;
}

static void complain(sim *s, const char *who, const char *what, stet_str text) {
    history_add(&s->history, (history_record){.kind = HISTORY_COMPLAINT,
                                              .at_ms = s->world.boot_ms,
                                              .stream = history_name_of(&s->history, "%s: %s %.*s", who, what,
                                                                        STET_STR_ARG(text))});
}

static void oracle_open(oracle *self, sim *s, sim_actor *actor) {
    const stet_core_edge edge = {.context = self,
                                 .send = take_answer,
                                 .publish = drop_event,
                                 .call_start = drop_call,
                                 .call_cancel = drop_cancel,
                                 .work_start = drop_work,
                                 .log = drop_log};
    stet_error error = {.code = STET_OK};
    *self = (oracle){.s = s, .actor = actor, .reply = STET_BUF(REPLY_MAX)};
    stet_core_options options = {
        .service = actor->service, .config = s->config, .store = actor->store, .seed = 1};
    if (stet_core_new(&options, &edge, world_wall_ms(&s->world), s->world.boot_ms, &self->core, &error) !=
        STET_OK)
        complain(s, actor->name, "cannot be opened at the end:", stet_str_of(error.message));
}

static void oracle_close(oracle *self) {
    self->core = stet_core_free(self->core);
    stet_store_memory_crash(self->actor->store);
    stet_buf_done(&self->reply);
}

/* The reply; {NULL, 0} when it was refused. */
static stet_str ask(oracle *self, const char *command, const stet_buf *body) {
    CLEANUP(stet_buf_done) stet_buf frame = STET_BUF(1024), route = STET_BUF(256);
    if (!self->core)
        return (stet_str){NULL, 0};
    self->asked = stet_id_next(&self->s->world.ids, 1);
    self->answered = false;
    stet_envelope envelope = {.kind = STET_KIND_REQUEST, .id = self->asked, .command = stet_str_of(command)};
    stet_envelope_encode(&envelope, &frame);
    stet_route_encode(&(stet_route){.ticket = 1, .role = STET_STR("control"), .remaining_ms = 1000}, &route);
    stet_core_time(self->core, world_wall_ms(&self->s->world), self->s->world.boot_ms);
    stet_core_message(self->core, stet_buf_str(&frame), stet_buf_str(&route), stet_buf_str(body));
    for (int i = 0; i < ROUNDS_MAX && !self->answered; i++) {
        stet_core_commit(self->core);
        stet_core_complete(self->core);
    }
    if (!self->answered)
        complain(self->s, self->actor->name, "does not answer", stet_str_of(command));
    return self->answered && !self->refused ? stet_buf_str(&self->reply) : (stet_str){NULL, 0};
}

/* ---- what every actor can be asked ---- */

static void ask_check(oracle *self) {
    char command[SIM_NAME_SIZE + 8], cursor[2049] = "";
    (void)snprintf(command, sizeof(command), "%s.check", self->actor->name);
    for (int page = 0; page < 1000; page++) {
        CLEANUP(stet_buf_done) stet_buf body = STET_BUF(4096), text = STET_BUF(4096);
        stet_mp_map(&body, cursor[0] ? 2 : 1);
        stet_mp_put_uint(&body, "limit", 10000);
        if (cursor[0])
            stet_mp_put_cstr(&body, "cursor", cursor);
        stet_str reply = ask(self, command, &body);
        stet_str problems = stet_mp_get_raw(reply, "problems"),
                 next = stet_mp_get_str(reply, "cursor", (stet_str){NULL, 0});
        stet_mp_reader r = stet_mp_reader_of(problems);
        if (problems.size == 0 || stet_mp_read_array(&r) > 0) {
            (void)!stet_mp_to_json(problems, (stet_json_style){0}, &text, NULL);
            complain(self->s, self->actor->name, "check finds", stet_buf_str(&text));
        }
        if (next.size == 0 || next.size >= sizeof(cursor))
            return;
        (void)snprintf(cursor, sizeof(cursor), "%.*s", STET_STR_ARG(next));
    }
}

static void facet(sim *s, stet_id id, history_facet which, uint64_t number) {
    history_add(&s->history,
                (history_record){.kind = HISTORY_FACET, .id = id, .code = which, .number = number});
}

static void note_event(sim *s, uint32_t stream, stet_str json, stet_buf *scratch) {
    stet_id id = {{0}};
    stet_error ignored;
    stet_buf_clear(scratch);
    if (stet_json_to_mp(json, STET_MP_LIMITS_BODY, scratch, &ignored) != STET_OK)
        return;
    stet_str map = stet_buf_str(scratch);
    (void)!stet_id_parse(stet_mp_get_str(map, "jobId", STET_STR("")), &id);
    history_add(&s->history,
                (history_record){.kind = HISTORY_STORED,
                                 .at_ms = s->world.boot_ms,
                                 .id = id,
                                 .stream = stream,
                                 .number = stet_mp_get_uint(map, "seq", 0),
                                 .code = checker_status_of(stet_mp_get_str(map, "status", STET_STR(""))),
                                 .hash = world_hash(1, json.data, json.size)});
    if (stet_id_parse(stet_mp_get_str(map, "messageId", STET_STR("")), &id))
        facet(s, id, FACET_EVENT, 1);
}

static void ask_events(oracle *self, char kind) {
    char command[SIM_NAME_SIZE + 8], session[SIM_NAME_SIZE];
    CLEANUP(stet_buf_done) stet_buf scratch = STET_BUF(64 << 10);
    (void)snprintf(command, sizeof(command), "%s.events", self->actor->name);
    for (int i = 0; i < SIM_SESSIONS; i++) {
        uint64_t after = 0;
        bool more = true;
        (void)snprintf(session, sizeof(session), "%c%d", kind, i);
        uint32_t stream = history_name_of(&self->s->history, "%s/%s", self->actor->name, session);
        while (more) {
            CLEANUP(stet_buf_done) stet_buf body = STET_BUF(256);
            stet_mp_reader events;
            stet_mp_map(&body, 3);
            stet_mp_put_cstr(&body, "sessionId", session);
            stet_mp_put_uint(&body, "afterSeq", after);
            stet_mp_put_uint(&body, "limit", 1000);
            stet_str reply = ask(self, command, &body);
            if (!stet_mp_find(reply, "events", &events))
                break;
            for (uint32_t left = stet_mp_read_array(&events); left > 0; left--)
                note_event(self->s, stream, stet_mp_read_str(&events), &scratch);
            after = stet_mp_get_uint(reply, "lastSeq", 0);
            more = stet_mp_get_bool(reply, "more", false);
        }
    }
}

/* ---- probe ---- */

static void ask_values(oracle *self) {
    sim *s = self->s;
    for (uint32_t c = 0; c < s->mix.clients; c++) {
        for (uint32_t l = 0; l < s->mix.lanes; l++) {
            CLEANUP(stet_buf_done) stet_buf body = STET_BUF(64);
            char key[SIM_NAME_SIZE];
            (void)snprintf(key, sizeof(key), "k%u-%u", c, l);
            stet_mp_map(&body, 1);
            stet_mp_put_cstr(&body, "key", key);
            stet_str reply = ask(self, "probe.get", &body);
            history_add(&s->history, (history_record){.kind = HISTORY_READ,
                                                      .at_ms = s->world.boot_ms,
                                                      .who = c * 8 + l,
                                                      .stream = history_name(&s->history, stet_str_of(key)),
                                                      .number = reply.size > 0 ? body_put_number(reply) : 0});
        }
    }
}

/* ---- drafter ---- */

static void numbered(sim *s, history_kind kind, uint32_t stream, uint64_t number, uint64_t mark) {
    history_add(
        &s->history,
        (history_record){
            .kind = kind, .at_ms = s->world.boot_ms, .stream = stream, .number = number, .hash = mark});
}

/* The versions of a document are a numbered stream too: the mark of each is its content. */
static void ask_documents(oracle *self) {
    sim *s = self->s;
    for (int p = 0; p < SIM_PROJECTS; p++) {
        uint64_t before = 0;
        char project[SIM_NAME_SIZE];
        (void)snprintf(project, sizeof(project), "p%d", p);
        uint32_t stream = history_name_of(&s->history, "document %s", project);
        for (uint64_t version = 1;; version++) {
            CLEANUP(stet_buf_done) stet_buf body = STET_BUF(64);
            stet_mp_map(&body, 2);
            stet_mp_put_cstr(&body, "projectId", project);
            stet_mp_put_uint(&body, "version", version);
            stet_str reply = ask(self, "drafter.document.get", &body);
            if (reply.size == 0)
                break;
            stet_str text = stet_mp_get_str(reply, "markdown", STET_STR(""));
            uint64_t mark = http_peer_mark(text, "@@"), from = http_peer_mark(text, "##");
            numbered(s, HISTORY_STORED, stream, version, mark);
            /* In JSON the provider may have garbled it, and it is still JSON. */
            if (http_peer_is_plain(s) && (text.size < 2 || memcmp(text.data, "@@", 2) != 0))
                complain(s, "drafter", "a document without its beginning:", text);
            if (memmem(text.data, text.size, "##", 2) && from == http_peer_mark(text, "(("))
                history_add(&s->history,
                            (history_record){.kind = HISTORY_BASE,
                                             .stream = history_name_of(&s->history, "%s version %llu",
                                                                       project, (unsigned long long)version),
                                             .number = from,
                                             .answer = before});
            before = mark;
        }
    }
}

static void ask_jobs(oracle *self) {
    sim *s = self->s;
    for (size_t i = 0; i < s->jobs_count; i++) {
        CLEANUP(stet_buf_done) stet_buf body = STET_BUF(64);
        char id[STET_ID_TEXT_SIZE];
        stet_id_text(s->jobs[i], id);
        stet_mp_map(&body, 1);
        stet_mp_put_cstr(&body, "jobId", id);
        stet_str job = stet_mp_get_raw(ask(self, "drafter.job", &body), "job");
        stet_str status = stet_mp_get_str(job, "status", STET_STR(""));
        if (job.size == 0 && stet_config_int(s->config, STET_SETTING_drafter_jobs_keep) > SIM_LONGEST_MS)
            complain(s, "drafter", "a job that was answered is not there:", stet_str_of(id));
        if (!stet_str_is(status, "done") && !stet_str_is(status, "error") &&
            !stet_str_is(status, "cancelled"))
            continue;
        history_record known = {.kind = HISTORY_KNOWN, .at_ms = s->world.boot_ms, .id = s->jobs[i]};
        stet_mp_reader attempts = stet_mp_reader_of(stet_mp_get_raw(job, "attempts"));
        for (uint32_t left = stet_mp_read_array(&attempts); left > 0; left--) {
            stet_str attempt = stet_mp_read_raw(&attempts);
            uint64_t number = stet_mp_get_uint(attempt, "attempt", 0);
            stet_mp_reader calls =
                stet_mp_reader_of(stet_mp_get_raw(stet_mp_get_raw(attempt, "detail"), "calls"));
            known.number = number > known.number ? number : known.number;
            known.answer += stet_mp_read_array(&calls);
        }
        history_add(&s->history, known);
    }
}

/* ---- the rows of the small services ---- */

typedef void row_fn(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value);

static void each_row(sim *s, sim_actor *actor, uint8_t table, row_fn *fn) {
    stet_key prefix = stet_key_of(table);
    stet_str key, value;
    {
        CLEANUP(stet_scan_done)
        stet_scan *scan = stet_batch_scan(stet_store_batch(actor->store), stet_key_bytes(&prefix),
                                          (stet_str){NULL, 0}, false);
        while (scan && stet_scan_next(scan, &key, &value)) {
            uint8_t found;
            stet_key_reader r = stet_key_reader_of(key, &found);
            fn(s, actor, &r, value);
        }
    }
    stet_batch_release_reads(stet_store_batch(actor->store));
}

static uint64_t number_of(stet_str value) {
    stet_mp_reader r = stet_mp_reader_of(value);
    return stet_mp_read_uint(&r);
}

static void row_applied(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    facet(s, stet_key_read_id(key), actor->service == &sim_sink_service ? FACET_SEND : FACET_STATE,
          number_of(value));
}

static void row_fired(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    (void)actor;
    facet(s, stet_key_read_id(key), FACET_TIMER, number_of(value));
}

/* A timer that waits: its payload is the id. */
static void row_timer(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    stet_id id;
    stet_mp_reader r = stet_mp_reader_of(value);
    (void)actor, (void)key;
    (void)stet_mp_read_array(&r);
    (void)stet_mp_read_uint(&r);
    (void)stet_mp_read_int(&r);
    if (stet_id_from_bytes(stet_mp_read_bin(&r), &id))
        facet(s, id, FACET_TIMER, 1);
}

static int by_id(const void *pa, const void *pb) {
    const finale_count *a = pa, *b = pb;
    return memcmp(a->id.bytes, b->id.bytes, STET_ID_BYTES);
}

/* What has been found of one facet, in one sorted list. */
static finale_count *gather(const sim *s, history_facet which, size_t *ret_count) {
    finale_count *list = calloc(s->history.count + 1, sizeof(*list));
    size_t count = 0;
    ASSERT(list != NULL);
    for (size_t i = 0; i < s->history.count; i++) {
        const history_record *r = &s->history.records[i];
        if (r->kind == HISTORY_FACET && r->code == which)
            list[count++] = (finale_count){r->id, r->number};
    }
    qsort(list, count, sizeof(*list), by_id);
    *ret_count = count;
    return list;
}

static uint64_t count_of(const finale_count *list, size_t count, stet_id id) {
    const finale_count wanted = {.id = id};
    const finale_count *at = bsearch(&wanted, list, count, sizeof(*list), by_id);
    uint64_t sum = 0;
    while (at && at > list && stet_id_equal(at[-1].id, id))
        at--;
    for (; at && at < list + count && stet_id_equal(at->id, id); at++)
        sum += at->number;
    return sum;
}

/* A message that waits; it may have been applied already, and the acknowledgement be missing. */
static void row_outbox(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    stet_id id;
    stet_mp_reader r = stet_mp_reader_of(value);
    (void)actor, (void)key;
    (void)stet_mp_read_array(&r);
    (void)stet_mp_read_uint(&r);
    (void)stet_mp_read_bin(&r);
    (void)stet_mp_read_str(&r);
    stet_str body = stet_mp_read_bin(&r);
    if (stet_id_parse(stet_mp_get_str(body, "cause", STET_STR("")), &id) &&
        count_of(s->at_sink, s->at_sink_count, id) == 0)
        facet(s, id, FACET_SEND, 1);
}

static void row_taken(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    char channel[SIM_NAME_SIZE];
    stet_str sender = {channel, stet_key_read_str(key, channel, sizeof(channel))};
    history_record r = {.kind = HISTORY_TAKEN,
                        .at_ms = s->world.boot_ms,
                        .stream =
                            history_name_of(&s->history, "%.*s to %s", STET_STR_ARG(sender), actor->name)};
    r.number = stet_key_read_u64(key);
    if (stet_id_from_bytes(value, &r.id))
        history_add(&s->history, r);
    s->totals.taken++;
}

/* ---- sums ---- */

static void row_counter(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    char kind[SIM_NAME_SIZE], name[64];
    (void)actor;
    stet_str what = {kind, stet_key_read_str(key, kind, sizeof(kind))};
    stet_str which = {name, stet_key_read_str(key, name, sizeof(name))};
    if (stet_str_is(what, "account")) {
        s->accounts_sum += number_of(value);
        s->accounts++;
    } else if (stet_str_is(what, "counter")) {
        uint32_t stream = history_name(&s->history, which);
        uint64_t applied = 0;
        for (size_t i = 0; i < s->ops_count; i++) {
            const sim_op *op = &s->ops[i];
            if (op->repeat || op->stream != stream || strcmp(op->command, "metrics.record") != 0)
                continue;
            applied += count_of(s->at_counter, s->at_counter_count, op->id);
        }
        history_add(&s->history, (history_record){.kind = HISTORY_SUM,
                                                  .stream = stream,
                                                  .number = number_of(value),
                                                  .answer = applied});
    }
}

/* A row holds the texts of one commit. */
static void row_event(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    char session[SIM_NAME_SIZE];
    CLEANUP(stet_buf_done) stet_buf scratch = STET_BUF(64 << 10);
    stet_str name = {session, stet_key_read_str(key, session, sizeof(session))};
    stet_mp_reader texts = stet_mp_reader_of(value);
    uint32_t items = stet_mp_read_array(&texts);
    (void)stet_mp_read_uint(&texts);
    for (uint32_t i = 1; i < items; i++)
        note_event(s, history_name_of(&s->history, "%s/%.*s", actor->name, STET_STR_ARG(name)),
                   stet_mp_read_str(&texts), &scratch);
}

static void read_counter(sim *s, sim_actor *counter, sim_actor *sink) {
    static const history_facet all[] = {FACET_STATE, FACET_EVENT, FACET_SEND, FACET_TIMER};
    each_row(s, counter, STET_TABLE_EVENTS, row_event);
    each_row(s, counter, SIM_TABLE_APPLIED, row_applied);
    each_row(s, counter, SIM_TABLE_FIRED, row_fired);
    each_row(s, counter, STET_TABLE_TIMERS, row_timer);
    each_row(s, sink, SIM_TABLE_APPLIED, row_applied);
    s->at_counter = gather(s, FACET_STATE, &s->at_counter_count);
    s->at_sink = gather(s, FACET_SEND, &s->at_sink_count);
    each_row(s, counter, STET_TABLE_OUTBOX, row_outbox);
    each_row(s, counter, SIM_TABLE_TAKEN, row_taken);
    each_row(s, sink, SIM_TABLE_TAKEN, row_taken);
    each_row(s, counter, SIM_TABLE_COUNTERS, row_counter);
    free(s->at_counter);
    free(s->at_sink);
    if (s->accounts > 0)
        history_add(&s->history,
                    (history_record){.kind = HISTORY_SUM,
                                     .stream = history_name(&s->history, STET_STR("all accounts")),
                                     .number = s->accounts_sum,
                                     .answer = s->accounts * 100});
    /* What is nowhere is nowhere: the checker shall know that it was looked for. */
    for (size_t i = 0; i < s->ops_count; i++) {
        if (strcmp(s->ops[i].command, "metrics.record") != 0 || s->ops[i].repeat)
            continue;
        for (size_t k = 0; k < COUNT_OF(all); k++)
            facet(s, s->ops[i].id, all[k], 0);
    }
}

/* ---- what still waits ---- */

static void row_waits(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    (void)actor, (void)key, (void)value;
    s->waiting++;
}

uint64_t finale_waiting(sim *s, const char **ret_what) {
    static const struct {
        uint8_t table;
        bool timed; /* waits for a time of the wall clock */
        const char *what;
    } tables[] = {{STET_TABLE_OUTBOX, false, "outbox"},
                  {STET_TABLE_JOBS_READY, true, "ready jobs"},
                  {STET_TABLE_TIMERS, true, "timers"},
                  {STET_TABLE_JOBS_ACTIVE, true, "active jobs"},
                  {STET_TABLE_JOBS_WAITING, true, "waiting jobs"},
                  {STET_TABLE_JOBS_DELAYED, true, "delayed jobs"}};
    for (int a = 0; a < SIM_ACTORS; a++) {
        for (size_t t = 0; t < COUNT_OF(tables); t++) {
            /* What a clock that was ahead has put off is still to come. */
            if (tables[t].timed && s->clock_was_ahead)
                continue;
            s->waiting = 0;
            each_row(s, s->actors[a], tables[t].table, row_waits);
            if (s->waiting == 0)
                continue;
            *ret_what = tables[t].what;
            return s->waiting;
        }
    }
    return 0;
}

/* ---- how far the sessions are ---- */

static void row_head(sim *s, sim_actor *actor, stet_key_reader *key, stet_str value) {
    char session[SIM_NAME_SIZE];
    stet_str name = {session, stet_key_read_str(key, session, sizeof(session))};
    stet_mp_reader r = stet_mp_reader_of(value);
    (void)stet_mp_read_array(&r);
    (void)stet_mp_read_uint(&r);
    history_add(&s->history, (history_record){.kind = HISTORY_HEAD,
                                              .at_ms = s->world.boot_ms,
                                              .stream = history_name_of(&s->history, "%s/%.*s", actor->name,
                                                                        STET_STR_ARG(name)),
                                              .number = stet_mp_read_uint(&r)});
}

void finale_heads(sim *s) {
    for (int i = 0; i < 2; i++)
        each_row(s, s->actors[i], STET_TABLE_EVENT_HEADS, row_head);
}

/* ---- all of it ---- */

void finale_read(sim *s) {
    static const char sessions[] = {'s', 'd'};
    for (int i = 0; i < 2; i++) {
        oracle o;
        oracle_open(&o, s, s->actors[i]);
        ask_check(&o);
        ask_events(&o, sessions[i]);
        if (i == 0) {
            ask_values(&o);
        } else {
            ask_documents(&o);
            ask_jobs(&o);
        }
        oracle_close(&o);
    }
    read_counter(s, s->actors[2], s->actors[3]);
}
