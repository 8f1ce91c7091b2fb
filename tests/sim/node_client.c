/* A client: the real request core on one connection, and readers that merge live and stored events. */
#include "tests/sim/sim.h"

#include "proto/wire/json.h"

#include <stdlib.h>

enum { PAGE_EVENTS = 20, PAGE_TIMEOUT_MS = 5000, EVENT_MAX = 64 << 10 };

/* ---- requests ---- */

static bool edge_send(void *context, stet_str envelope, stet_str body) {
    CLEANUP(memory_let_go) int held = memory_hold();
    sim_client *self = context;
    return net_to_broker(&self->front, (stet_str[]){envelope, body}, 2);
}

static void wake(void *object, uint64_t life) {
    sim_client *self = object;
    if (self->life != life || self->sim->world.boot_ms < self->wake_ms)
        return;
    self->wake_ms = INT64_MAX;
    (void)client_core_tick(self->core, self->sim->world.boot_ms);
    client_node_plan(self);
}

void client_node_plan(sim_client *self) {
    int64_t wake_ms = client_core_next_wake(self->core);
    if (wake_ms >= self->wake_ms || wake_ms == INT64_MAX)
        return;
    self->wake_ms = wake_ms;
    world_at(&self->sim->world, wake_ms, wake, self, self->life);
}

static int64_t deliver(void *node, net_link *link, net_packet *packet) {
    sim_client *self = node;
    (void)link;
    (void)client_core_receive(self->core, packet->frames[0], packet->frames[1], self->sim->world.boot_ms);
    net_free(packet);
    client_node_plan(self);
    return 0;
}

static void connected(void *node, net_link *link) {
    sim_client *self = node;
    if (link->connection != self->first_connection)
        client_core_reconnected(self->core, self->sim->world.boot_ms);
    client_node_plan(self);
}

bool client_node_ask(sim_client *self, sim_op *op, uint32_t timeout_ms, client_done_fn *done, void *context) {
    stet_error error;
    client_request request = {.id = op->id,
                              .command = stet_str_of(op->command),
                              .body = op->body,
                              .timeout_ms = timeout_ms,
                              .done = done,
                              .context = context};
    memory_on(&self->memory);
    bool asked = client_core_send(self->core, &request, self->sim->world.boot_ms, &error) == STET_OK;
    if (memory_off())
        fault_count(self->sim, FAULT_client_memory);
    client_node_plan(self);
    return asked;
}

static void start(sim_client *self) {
    sim *s = self->sim;
    self->core =
        client_core_new(&(client_edge){.context = self, .send = edge_send}, stet_prng_next(&s->world.prng));
    ASSERT(self->core != NULL);
    self->life++;
    self->wake_ms = INT64_MAX;
    self->first_connection = self->front.connection;
    net_open(&self->front);
}

void client_node_init(sim *s, sim_client *self, uint32_t number, const char *name) {
    *self = (sim_client){.sim = s, .number = number};
    (void)snprintf(self->name, sizeof(self->name), "%s%u", name, number);
    for (uint32_t i = 0; i < SIM_LANES_MAX; i++)
        self->lanes[i] = (sim_lane){.client = self, .number = i};
    self->front = (net_link){.socket = NET_FRONT,
                             .name = self->name,
                             .node = self,
                             .deliver = deliver,
                             .connected = connected,
                             .keeps = true,
                             .quick = self == &s->visitor};
    net_add(&s->net, &self->front);
    start(self);
}

/* Whoever waits is told that no answer came. */
void client_node_kill(sim_client *self) {
    world_tell(&self->sim->world, self->name, "killed", self->life, client_core_pending(self->core),
               (stet_str){NULL, 0});
    net_close(&self->front);
    client_core *core = self->core;
    self->life++;
    start(self);
    (void)client_core_free(core);
}

void client_node_done(sim_client *self) {
    self->core = client_core_free(self->core);
}

/* ---- readers ---- */

static void reader_wake(void *object, uint64_t life);

static void reader_plan(sim_reader *self) {
    int64_t wake_ms = client_merge_next_wake(&self->merge);
    if (wake_ms >= self->wake_ms || wake_ms == INT64_MAX)
        return;
    self->wake_ms = wake_ms;
    world_at(&self->sim->world, wake_ms, reader_wake, self, self->life);
}

static void delivered(sim_reader *self, uint64_t number, stet_str text) {
    self->delivered = number;
    self->sim->totals.events_seen++;
    history_add(&self->sim->history, (history_record){.kind = HISTORY_EVENT,
                                                      .at_ms = self->sim->world.boot_ms,
                                                      .who = self->number,
                                                      .stream = self->stream,
                                                      .number = number,
                                                      .hash = world_hash(1, text.data, text.size)});
}

/* 0: not an event of this session. */
static uint64_t number_in(sim_reader *self, stet_str json) {
    stet_error ignored;
    stet_buf_clear(&self->scratch);
    if (stet_json_to_mp(json, STET_MP_LIMITS_BODY, &self->scratch, &ignored) != STET_OK)
        return 0;
    stet_str map = stet_buf_str(&self->scratch);
    if (!stet_str_is(stet_mp_get_str(map, "sessionId", STET_STR("")), self->session) ||
        !stet_str_is(stet_mp_get_str(map, "actor", STET_STR("")), self->service))
        return 0;
    return stet_mp_get_uint(map, "seq", 0);
}

static int64_t live(void *node, net_link *link, net_packet *packet) {
    sim_reader *self = node;
    const size_t prefix = strlen("TOOL_PROGRESS::");
    (void)link;
    stet_str json = {packet->frames[1].data + prefix, packet->frames[1].size - prefix};
    uint64_t number = number_in(self, json);
    if (number > 0 && client_merge_live(&self->merge, number, self->sim->world.boot_ms))
        delivered(self, number, json);
    net_free(packet);
    reader_plan(self);
    return 0;
}

/* The reader and its life in one number: an answer to an earlier life is dropped. */
typedef struct page_request {
    sim_reader *reader;
    uint64_t life;
} page_request;

static void hand_out_page(sim_reader *self, stet_str body, int64_t now_ms) {
    stet_mp_reader events;
    bool any = false;
    if (!stet_mp_find(body, "events", &events)) {
        client_merge_page_failed(&self->merge, now_ms);
        return;
    }
    uint32_t count = stet_mp_read_array(&events);
    for (uint32_t i = 0; i < count; i++) {
        stet_str json = stet_mp_read_str(&events);
        uint64_t number = number_in(self, json);
        if (number > 0 && client_merge_page_event(&self->merge, number)) {
            delivered(self, number, json);
            any = true;
        }
    }
    client_merge_page_end(&self->merge, any, stet_mp_get_bool(body, "more", false),
                          stet_mp_get_uint(body, "lastSeq", 0), now_ms);
}

static void page_came(void *context, stet_id id, const client_result *result) {
    page_request *request = context;
    sim_reader *self = request->reader;
    int64_t now_ms = self->sim->world.boot_ms;
    bool mine = request->life == self->life;
    (void)id;
    free(request);
    if (!mine)
        return;
    if (result->answered && !result->refused)
        hand_out_page(self, result->body, now_ms);
    else
        client_merge_page_failed(&self->merge, now_ms);
    reader_plan(self);
}

static void ask_for_page(sim_reader *self) {
    sim *s = self->sim;
    uint64_t after = 0;
    if (!client_merge_read(&self->merge, s->world.boot_ms, &after))
        return;
    char command[SIM_NAME_SIZE + 8];
    (void)snprintf(command, sizeof(command), "%s.events", self->service);
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(256);
    stet_mp_map(&body, 3);
    stet_mp_put_cstr(&body, "sessionId", self->session);
    stet_mp_put_uint(&body, "afterSeq", after);
    stet_mp_put_uint(&body, "limit", PAGE_EVENTS);
    page_request *request = malloc(sizeof(*request));
    ASSERT(request != NULL);
    *request = (page_request){self, self->life};
    sim_op op = {.id = stet_id_next(&s->world.ids, world_wall_ms(&s->world)),
                 .command = command,
                 .body = stet_buf_str(&body)};
    if (!client_node_ask(self->client, &op, PAGE_TIMEOUT_MS, page_came, request)) {
        free(request);
        client_merge_page_failed(&self->merge, s->world.boot_ms);
    }
}

static void reader_wake(void *object, uint64_t life) {
    sim_reader *self = object;
    if (self->life != life || self->sim->world.boot_ms < self->wake_ms)
        return;
    self->wake_ms = INT64_MAX;
    ask_for_page(self);
    reader_plan(self);
}

static void subscribe(void *node, net_link *link) {
    sim_reader *self = node;
    char prefix[64];
    int size = snprintf(prefix, sizeof(prefix), "TOOL_PROGRESS/%s", self->session);
    stet_str frame = {prefix, (size_t)size};
    (void)net_to_broker(link, &frame, 1);
    if (link->connection != self->first_connection)
        client_merge_reconnected(&self->merge, self->sim->world.boot_ms);
    reader_plan(self);
}

static void reader_start(sim_reader *self) {
    self->life++;
    self->wake_ms = INT64_MAX;
    self->merge = client_merge_of(self->delivered, self->sim->world.boot_ms);
    self->first_connection = self->events.connection;
    net_open(&self->events);
    reader_plan(self);
}

void reader_node_init(sim *s, uint32_t number, sim_client *client, const char *service, const char *session) {
    sim_reader *self = &s->readers[number];
    *self = (sim_reader){
        .sim = s, .number = number, .client = client, .service = service, .scratch = STET_BUF(EVENT_MAX)};
    (void)snprintf(self->name, sizeof(self->name), "reader%u", number);
    (void)snprintf(self->session, sizeof(self->session), "%s", session);
    self->stream = history_name_of(&s->history, "%s/%s", service, session);
    self->events = (net_link){
        .socket = NET_EVENTS, .name = self->name, .node = self, .deliver = live, .connected = subscribe};
    net_add(&s->net, &self->events);
    reader_start(self);
}

void reader_node_kill(sim_reader *self) {
    world_tell(&self->sim->world, self->name, "killed", self->life, self->delivered, (stet_str){NULL, 0});
    net_close(&self->events);
    reader_start(self);
}

void reader_node_done(sim_reader *self) {
    stet_buf_done(&self->scratch);
}
