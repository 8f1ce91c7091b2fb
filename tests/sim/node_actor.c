/* An actor: the real core on the store in memory, and the rounds of actors/runtime/loop.c without sockets.
 *
 * A round: set the time, take the completion that is due, drain the mailbox, hand in results, tick, commit. A
 * commit takes a while of simulated time, so that rounds happen while it is in flight. Death comes between
 * rounds, or where a doom says: before the commit, in it (the rows kept or lost), or after some of its
 * effects have left. What leaves is written into the history here, at the last moment before the network. */
#include "tests/sim/sim.h"

#include <stdlib.h>

enum { MAILBOX_MAX = 16384, RESTART_MAX_MS = 5000 };

static const stet_str nothing = {NULL, 0};

static world *world_of(const sim_actor *self) {
    return &self->sim->world;
}

static uint32_t commits_of(const sim_actor *self) {
    return history_name_of(&self->sim->history, "%s commits", self->name);
}

static void note(sim_actor *self, history_record record) {
    record.at_ms = world_of(self)->boot_ms;
    history_add(&self->sim->history, record);
}

/* ---- what leaves ---- */

/* False: the process is dead by now, nothing leaves. */
static bool alive_to_say(sim_actor *self) {
    if (self->dying)
        return false;
    if (self->doom != DOOM_IN_RELEASE)
        return true;
    if (self->doom_left > 0) {
        self->doom_left--;
        return true;
    }
    self->dying = true;
    return false;
}

static void note_sent(sim_actor *self, const stet_envelope *envelope, stet_str body) {
    history *h = &self->sim->history;
    stet_str receiver = stet_command_service(envelope->command);
    note(self,
         (history_record){.kind = HISTORY_SENT,
                          .id = envelope->id,
                          .stream = history_name_of(h, "%s to %.*s", self->name, STET_STR_ARG(receiver)),
                          .number = envelope->sequence,
                          .hash = world_hash(1, body.data, body.size)});
}

/* The sender's name is not in an ack: the message that it answers tells the channel. */
static void note_acked(sim_actor *self, const stet_envelope *envelope) {
    const history *h = &self->sim->history;
    for (size_t i = h->count; i > 0; i--) {
        const history_record *r = &h->records[i - 1];
        if (r->kind != HISTORY_SENT || !stet_id_equal(r->id, envelope->id))
            continue;
        note(self,
             (history_record){.kind = HISTORY_ACKED, .stream = r->stream, .number = envelope->sequence});
        return;
    }
}

static bool edge_send(void *context, stet_str frame, stet_str route, stet_str body) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim_actor *self = context;
    stet_envelope envelope;
    if (!alive_to_say(self))
        return false;
    stet_code rc = stet_envelope_decode(frame, &envelope, NULL);
    ASSERT(rc == STET_OK);
    if (!net_to_broker(&self->back, (stet_str[]){frame, route, body}, 3))
        return false;
    world_tell(world_of(self), self->name, stet_kind_name(envelope.kind), envelope.sequence, body.size,
               envelope.command);
    if (self->replaced)
        return true; /* the broker shall not pass it on */
    if (envelope.kind == STET_KIND_SEND)
        note_sent(self, &envelope, body);
    else if (envelope.kind == STET_KIND_ACK)
        note_acked(self, &envelope);
    return true;
}

static void edge_publish(void *context, stet_str topic, stet_str payload) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim_actor *self = context;
    const size_t head = strlen("TOOL_PROGRESS/"), prefix = strlen("TOOL_PROGRESS::");
    if (!alive_to_say(self) || self->replaced)
        return;
    stet_str text = {payload.data + prefix, payload.size - prefix};
    uint64_t number = 0;
    for (size_t i = strlen("{\"seq\":"); i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    note(self, (history_record){.kind = HISTORY_PUBLISHED,
                                .stream = history_name_of(&self->sim->history, "%s/%.*s", self->name,
                                                          (int)(topic.size - head), topic.data + head),
                                .number = number,
                                .hash = world_hash(1, text.data, text.size)});
    world_tell(world_of(self), self->name, "publish", number, 0, topic);
    (void)net_to_broker(&self->events, (stet_str[]){topic, payload}, 2);
}

static void edge_call_start(void *context, stet_call_ref ref, const stet_http_request *request) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim_actor *self = context;
    if (alive_to_say(self))
        http_peer_start(self, ref, request);
}

static void edge_call_cancel(void *context, stet_call_ref ref) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim_actor *self = context;
    if (alive_to_say(self))
        http_peer_cancel(self, ref);
}

static void edge_work_start(void *context, stet_call_ref ref, stet_work_fn *work, stet_str input) {
    (void)context, (void)ref, (void)work, (void)input;
    ASSERT(false); /* no actor of the simulation has work for threads */
}

/* Errors that are not the actor's own. */
static bool is_expected(const sim_actor *self, const char *event) {
    static const char *const without_memory[] = {"timer.failed", "jobs.failed",   "sweep.failed",
                                                 "outbox.ack",   "result.failed", "core.fatal"};
    bool starved = self->starved || memory_struck();
    for (size_t i = 0; starved && i < COUNT_OF(without_memory); i++) {
        if (strcmp(event, without_memory[i]) == 0)
            return true;
    }
    return strcmp(event, "draft.alert") == 0 || (self->failing && strcmp(event, "core.fatal") == 0);
}

static void edge_log(void *context, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim_actor *self = context;
    char detail[160] = "";
    for (; fields && fields->name; fields++) {
        if (fields->type == STET_LOG_STR &&
            (strcmp(fields->name, "error") == 0 || strcmp(fields->name, "command") == 0))
            (void)snprintf(detail + strlen(detail), sizeof(detail) - strlen(detail), " %.*s",
                           STET_STR_ARG(fields->text));
    }
    world_tell(world_of(self), self->name, event, (uint64_t)level, 0, stet_str_of(detail));
    if (level == STET_ERROR && !self->dying && !is_expected(self, event))
        note(self, (history_record){.kind = HISTORY_COMPLAINT,
                                    .stream = history_name_of(&self->sim->history, "%s: %s: %s%s", self->name,
                                                              event, message, detail)});
}

/* ---- mailbox ---- */

static void empty_mailbox(sim_actor *self) {
    while (self->mailbox) {
        net_packet *packet = self->mailbox;
        self->mailbox = packet->next;
        net_free(packet);
    }
    self->mailbox_end = &self->mailbox;
    self->mailbox_count = 0;
    while (self->results) {
        actor_result *result = self->results;
        self->results = result->next;
        free(result);
    }
    self->results_end = &self->results;
}

static int64_t deliver(void *node, net_link *link, net_packet *packet) {
    sim_actor *self = node;
    (void)link;
    if (!self->core || self->mailbox_count >= MAILBOX_MAX) {
        net_free(packet);
        return 0;
    }
    *self->mailbox_end = packet;
    self->mailbox_end = &packet->next;
    self->mailbox_count++;
    actor_node_round_at(self, world_of(self)->boot_ms);
    return 0;
}

static void drain(sim_actor *self) {
    while (self->mailbox && stet_core_wants_more(self->core)) {
        net_packet *packet = self->mailbox;
        self->mailbox = packet->next;
        if (!self->mailbox)
            self->mailbox_end = &self->mailbox;
        self->mailbox_count--;
        stet_core_message(self->core, packet->frames[0], packet->frames[1], packet->frames[2]);
        net_free(packet);
    }
}

static void take_results(sim_actor *self) {
    while (self->results && !self->stopping && stet_core_wants_more(self->core)) {
        actor_result *r = self->results;
        self->results = r->next;
        if (!self->results)
            self->results_end = &self->results;
        if (r->done) {
            stet_http_result result = {.ref = r->ref,
                                       .failure = r->failure,
                                       .status = r->status,
                                       .reason = r->failure ? "simulated" : "",
                                       .body = nothing,
                                       .content_type = STET_STR("text/event-stream"),
                                       .retry_after_ms = r->retry_after_ms,
                                       .elapsed_ms = 1};
            stet_core_call_done(self->core, &result);
        } else {
            stet_http_data data = {
                .ref = r->ref, .status = r->status, .bytes = stet_str_from(r->bytes, r->size)};
            stet_core_call_data(self->core, &data);
        }
        free(r);
    }
}

/* ---- commits ---- */

static void look_at_commit(sim_actor *self) {
    sim *s = self->sim;
    if (self->committing || !stet_store_commit_in_flight(self->store))
        return;
    self->committing = true;
    int64_t ms = world_skewed(world_of(self), 0, s->mix.commit_ms);
    if (!s->calm && world_chance(world_of(self), s->mix.commit_slow)) {
        ms = world_skewed(world_of(self), 0, s->mix.commit_slow_ms);
        fault_count(s, FAULT_commit_slow);
    }
    self->commit_done_ms = world_of(self)->boot_ms + ms;
}

static void note_commit(sim_actor *self) {
    if (self->replaced)
        return; /* for itself alone */
    note(self, (history_record){.kind = HISTORY_COMMIT,
                                .stream = commits_of(self),
                                .number = stet_store_last_number(self->store)});
    self->sim->totals.commits++;
}

static void take_completion(sim_actor *self) {
    if (self->dying || !self->committing || self->commit_done_ms > world_of(self)->boot_ms)
        return;
    self->committing = false;
    uint64_t before = stet_store_last_number(self->store);
    stet_core_complete(self->core);
    if (stet_store_last_number(self->store) != before)
        note_commit(self);
    look_at_commit(self);
}

/* ---- rounds ---- */

static bool doom_strikes(sim_actor *self, actor_doom where) {
    if (self->doom != where)
        return false;
    if (self->doom_left > 0) {
        self->doom_left--;
        return false;
    }
    return true;
}

static void round_of(void *object, uint64_t life);

void actor_node_round_at(sim_actor *self, int64_t at_ms) {
    int64_t now_ms = world_of(self)->boot_ms;
    if (at_ms < now_ms)
        at_ms = now_ms;
    if (at_ms < self->paused_until_ms)
        at_ms = self->paused_until_ms;
    if (at_ms >= self->round_ms)
        return;
    self->round_ms = at_ms;
    world_at(world_of(self), at_ms, round_of, self, self->life);
}

static void plan(sim_actor *self) {
    int64_t now_ms = world_of(self)->boot_ms;
    int64_t next_ms = stet_core_next_wake_boot_ms(self->core);
    if (self->committing && self->commit_done_ms < next_ms)
        next_ms = self->commit_done_ms;
    if (next_ms > now_ms + 1000)
        next_ms = now_ms + 1000; /* as the loop: it never waits longer, whatever the clocks do */
    bool more = self->mailbox || (self->results && !self->stopping);
    if (next_ms <= now_ms || (more && stet_core_wants_more(self->core)))
        next_ms = now_ms + 1;
    actor_node_round_at(self, next_ms);
}

/* True when the actor died in it. */
static bool end_of_round(sim_actor *self) {
    stet_error error;
    int fatal = stet_core_fatal(self->core, &error);
    if (self->dying)
        fault_count(self->sim, FAULT_actor_kill_in_release);
    else if (fatal)
        world_tell(world_of(self), self->name, "fatal", (uint64_t)fatal, 0, stet_str_of(error.message));
    if (fatal && self->replaced)
        fault_count(self->sim, FAULT_taken_over_fenced);
    if (self->dying || fatal || (self->stopping && stet_core_idle(self->core) && !self->mailbox)) {
        actor_node_kill(self, /* kept= */ false);
        return true;
    }
    return false;
}

static void note_starved(sim_actor *self, bool starved) {
    if (!starved)
        return;
    self->starved = self->failing = true;
    fault_count(self->sim, FAULT_actor_memory);
}

static void round_of(void *object, uint64_t life) {
    sim_actor *self = object;
    world *w = world_of(self);
    if (!self->core || self->life != life || w->boot_ms < self->round_ms)
        return;
    if (w->boot_ms < self->paused_until_ms) {
        self->round_ms = INT64_MAX;
        actor_node_round_at(self, self->paused_until_ms);
        return;
    }
    self->round_ms = INT64_MAX;
    stet_core_time(self->core, world_wall_ms(w), w->boot_ms);
    take_completion(self);
    memory_on(&self->memory);
    drain(self);
    take_results(self);
    stet_core_tick(self->core);
    note_starved(self, memory_off());
    if (stet_batch_count(stet_store_batch(self->store)) > 0 && doom_strikes(self, DOOM_BEFORE_COMMIT)) {
        fault_count(self->sim, FAULT_actor_kill_before_commit);
        actor_node_kill(self, /* kept= */ false);
        return;
    }
    memory_on(&self->memory);
    stet_core_commit(self->core);
    note_starved(self, memory_off());
    bool began = !self->committing && stet_store_commit_in_flight(self->store);
    look_at_commit(self);
    if (began && !self->dying &&
        (doom_strikes(self, DOOM_COMMIT_LOST) || doom_strikes(self, DOOM_COMMIT_KEPT))) {
        bool kept = self->doom == DOOM_COMMIT_KEPT;
        fault_count(self->sim, kept ? FAULT_actor_kill_commit_kept : FAULT_actor_kill_commit_lost);
        actor_node_kill(self, kept);
        return;
    }
    take_completion(self);
    if (!end_of_round(self))
        plan(self);
}

/* ---- life ---- */

static void start_now(void *object, uint64_t life) {
    sim_actor *self = object;
    sim *s = self->sim;
    world *w = &s->world;
    if (self->core || self->life != life || !self->wanted)
        return;
    stet_error error = {.code = STET_OK};
    if (stet_store_memory_open_again(self->store, &error) != STET_OK) {
        if (!self->truth)
            world_fail(w, "S1: %s cannot be opened again: %s", self->name, error.message);
        fault_count(s, FAULT_rolled_back_refused);
        return; /* until the right one is put back */
    }
    note(self, (history_record){.kind = HISTORY_OPENED,
                                .stream = commits_of(self),
                                .number = stet_store_last_number(self->store)});
    self->life++;
    self->starts++;
    s->totals.starts++;
    self->dying = self->failing = self->stopping = self->committing = self->starved = false;
    self->paused_until_ms = 0;
    self->round_ms = INT64_MAX;
    const stet_core_edge edge = {.context = self,
                                 .send = edge_send,
                                 .publish = edge_publish,
                                 .call_start = edge_call_start,
                                 .call_cancel = edge_call_cancel,
                                 .work_start = edge_work_start,
                                 .log = edge_log};
    stet_core_options options = {.service = self->service,
                                 .config = s->config,
                                 .store = self->store,
                                 .seed = stet_prng_next(&w->prng),
                                 .instance = stet_id_next(&w->ids, 1)};
    world_tell(w, self->name, "started", self->life, stet_store_last_number(self->store), nothing);
    memory_on(&self->memory);
    stet_code rc = stet_core_new(&options, &edge, world_wall_ms(w), w->boot_ms, &self->core, &error);
    note_starved(self, memory_off());
    if (rc != STET_OK && self->starved) {
        self->core = NULL;
        stet_store_memory_crash(self->store);
        actor_node_start(self, RESTART_MAX_MS);
        return;
    }
    if (rc != STET_OK) {
        world_fail(w, "S1: %s cannot start again: %s", self->name, error.message);
        return;
    }
    net_open(&self->back);
    net_open(&self->events);
    look_at_commit(self);
    if (doom_strikes(self, DOOM_IN_RECOVERY)) {
        fault_count(s, FAULT_actor_kill_in_recovery);
        actor_node_kill(self, world_chance(w, 500));
        return;
    }
    actor_node_round_at(self, w->boot_ms);
}

void actor_node_start(sim_actor *self, int64_t after_ms) {
    world_at(world_of(self), world_of(self)->boot_ms + after_ms, start_now, self, self->life);
}

void actor_node_kill(sim_actor *self, bool kept) {
    sim *s = self->sim;
    if (!self->core)
        return;
    self->deaths++;
    net_close(&self->back);
    net_close(&self->events);
    self->core = stet_core_free(self->core);
    if (kept && stet_store_commit_in_flight(self->store)) {
        stet_completion completion;
        if (stet_store_next_completion(self->store, &completion) && completion.result == STET_COMMIT_OK)
            note_commit(self);
    }
    stet_store_memory_crash(self->store);
    empty_mailbox(self);
    http_peer_actor_died(self);
    self->committing = false;
    if (s->replaced == self)
        s->replaced = NULL;
    self->doom = self->doom == DOOM_IN_RECOVERY && self->doom_left > 0 ? DOOM_IN_RECOVERY : DOOM_NONE;
    world_tell(&s->world, self->name, "died", self->life, kept, nothing);
    actor_node_start(self, world_skewed(&s->world, 20, s->calm ? 200 : RESTART_MAX_MS));
}

void actor_node_pause(sim_actor *self, int64_t ms) {
    self->paused_until_ms = world_of(self)->boot_ms + ms;
}

void actor_node_room_again(void *object, uint64_t number) {
    sim_actor *self = object;
    if (self->disk_fulls == number)
        stet_store_memory_full(self->store, false);
}

void actor_node_begin(sim_actor *self) {
    note_commit(self);
}

sim_actor *actor_node_init(sim *s, const stet_service *service, stet_store *store) {
    ASSERT(s->slots_count < SIM_SLOTS);
    sim_actor *self = &s->slots[s->slots_count++];
    stet_error error = {.code = STET_OK};
    *self = (sim_actor){.sim = s, .service = service, .name = service->name, .store = store, .wanted = true};
    self->round_ms = INT64_MAX;
    self->mailbox_end = &self->mailbox;
    self->results_end = &self->results;
    stet_code rc = store ? STET_OK : stet_store_open_memory(/* partition= */ 0, &self->store, &error);
    ASSERT(rc == STET_OK);
    self->back = (net_link){.socket = NET_BACK, .name = self->name, .node = self, .deliver = deliver};
    self->events = (net_link){.socket = NET_EVENTS_IN, .name = self->name, .node = self, .deliver = deliver};
    net_add(&s->net, &self->back);
    net_add(&s->net, &self->events);
    return self;
}

void actor_node_done(sim_actor *self) {
    empty_mailbox(self);
    self->core = stet_core_free(self->core);
    self->store = stet_store_close(self->store);
    self->kept = stet_store_close(self->kept);
    self->truth = stet_store_close(self->truth);
}
