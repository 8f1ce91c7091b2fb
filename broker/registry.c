/* registry - which peer serves which service and partition now.
 *
 *              ready (epoch >= lane's)          4 heartbeats missed, peer unreachable, replaced
 *   unknown ─────────────────────────> registered ─────────────────────────────────────────────> unknown
 *      ▲                                   │ leave                                                   ▲
 *      └── register (to whatever it says)  └────> leaving ── nothing outstanding, or as above ───────┘
 *
 * A lane remembers the highest epoch that ever registered: a lower one is refused also when nobody is there
 * now, since it belongs to an owner that has been fenced. */
#include "broker/internal.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

void broker_registry_init(broker_core *self) {
    self->registry.away_check_ms = INT64_MAX;
}

/* ---- look-up ---- */
static uint32_t lane_slot(const broker_core *self, stet_str service, uint32_t partition) {
    const broker_registry *registry = &self->registry;
    uint32_t slot =
        (uint32_t)broker_hash(self->seed + partition, service.data, service.size) % BROKER_HASH_SIZE;
    for (;; slot = (slot + 1) % BROKER_HASH_SIZE) {
        if (registry->lane_hash[slot] == 0)
            return slot;
        const broker_lane *lane = &registry->lanes[registry->lane_hash[slot] - 1];
        if (lane->partition == partition && stet_str_equal(broker_lane_service(lane), service))
            return slot;
    }
}

uint32_t broker_lane_find(const broker_core *self, stet_str service, uint32_t partition) {
    uint32_t entry = self->registry.lane_hash[lane_slot(self, service, partition)];
    return entry == 0 ? BROKER_NONE : entry - 1;
}

stet_str broker_lane_service(const broker_lane *lane) {
    return stet_str_from(lane->service, lane->service_size);
}

static uint32_t lane_get(broker_core *self, stet_str service, uint32_t partition) {
    broker_registry *registry = &self->registry;
    uint32_t slot = lane_slot(self, service, partition);
    if (registry->lane_hash[slot] != 0)
        return registry->lane_hash[slot] - 1u;
    if (registry->lanes_count == BROKER_LANES_MAX)
        return BROKER_NONE;
    uint32_t index = registry->lanes_count++;
    broker_lane *lane = &registry->lanes[index];
    lane->service_size = (uint8_t)service.size;
    memcpy(lane->service, service.data, service.size);
    lane->partition = partition;
    lane->actor = BROKER_NONE;
    lane->drain_since_ms = self->now_ms;
    registry->lane_hash[slot] = (uint16_t)(index + 1);
    return index;
}

static uint32_t actor_slot(const broker_core *self, const broker_peer *peer) {
    const broker_registry *registry = &self->registry;
    uint32_t slot = (uint32_t)broker_hash(self->seed, peer->id, peer->size) % BROKER_HASH_SIZE;
    while (registry->actor_hash[slot] != 0 &&
           !broker_peer_equal(&registry->actors[registry->actor_hash[slot] - 1].peer, peer))
        slot = (slot + 1) % BROKER_HASH_SIZE;
    return slot;
}

uint32_t broker_actor_find(const broker_core *self, const broker_peer *peer) {
    uint32_t entry = self->registry.actor_hash[actor_slot(self, peer)];
    return entry == 0 ? BROKER_NONE : entry - 1;
}

static void actor_hash_rebuild(broker_core *self) {
    broker_registry *registry = &self->registry;
    memset(registry->actor_hash, 0, sizeof registry->actor_hash);
    for (uint32_t i = 0; i < BROKER_ACTORS_MAX; i++)
        if (registry->actors[i].used)
            registry->actor_hash[actor_slot(self, &registry->actors[i].peer)] = (uint16_t)(i + 1);
}

uint32_t broker_partition_of(const broker_core *self, stet_str service, uint32_t slot) {
    (void)self;
    (void)service;
    (void)slot;
    return 0;
}

/* ---- words to actors ---- */
void broker_ask_register(broker_core *self, const broker_peer *peer) {
    broker_count(self, BROKER_COUNT_UNKNOWN_PEERS);
    stet_envelope envelope = {.kind = STET_KIND_REGISTER, .instance = self->options.instance};
    broker_send_back(self, peer, &envelope, (stet_str){0});
}

static void welcome(broker_core *self, const broker_actor *actor) {
    const broker_lane *lane = &self->registry.lanes[actor->lane];
    stet_envelope envelope = {.kind = STET_KIND_WELCOME,
                              .service = broker_lane_service(lane),
                              .partition = lane->partition,
                              .epoch = actor->epoch,
                              .instance = self->options.instance,
                              .interval_ms = self->options.heartbeat_ms,
                              .software = stet_str_of(self->options.software)};
    broker_send_back(self, &actor->peer, &envelope, (stet_str){0});
}

/* ---- away ---- */
static int64_t away_at_ms(const broker_core *self, const broker_actor *actor) {
    return actor->seen_ms + (int64_t)BROKER_MISSED_HEARTBEATS * self->options.heartbeat_ms;
}

void broker_away_sweep(broker_core *self) {
    broker_registry *registry = &self->registry;
    if (self->now_ms < registry->away_check_ms)
        return;
    registry->away_check_ms = INT64_MAX;
    for (uint32_t i = 0; i < BROKER_ACTORS_MAX; i++) {
        broker_actor *actor = &registry->actors[i];
        if (!actor->used)
            continue;
        int64_t away_ms = away_at_ms(self, actor);
        if (away_ms <= self->now_ms) {
            broker_count(self, BROKER_COUNT_AWAY);
            broker_actor_gone(self, i, "actor.away",
                              "the actor has gone quiet; its outstanding requests are answered unavailable");
        } else if (away_ms < registry->away_check_ms) {
            registry->away_check_ms = away_ms;
        }
    }
}

int64_t broker_away_next_ms(const broker_core *self) {
    return self->registry.away_check_ms;
}

void broker_actor_gone(broker_core *self, uint32_t index, const char *event, const char *message) {
    broker_actor *actor = &self->registry.actors[index];
    ASSERT(actor->used);
    FAULT(broker_gone);
    if (event != NULL)
        broker_log(self, STET_WARN, event, message, actor);
    if (self->registry.lanes[actor->lane].actor == index)
        self->registry.lanes[actor->lane].actor = BROKER_NONE;
    while (actor->outstanding.count > 0) {
        uint32_t ticket = actor->outstanding.head;
        broker_list_remove(self, &actor->outstanding, ticket);
        if (!broker_ticket_at(self, ticket)->answered) {
            broker_count(self, BROKER_COUNT_UNAVAILABLE);
            broker_ticket_refuse(self, ticket, STET_UNAVAILABLE, BROKER_UNAVAILABLE_RETRY_MS,
                                 "the service went away while it worked on this; resend with the same id");
        }
        broker_ticket_free(self, ticket);
    }
    memset(actor, 0, sizeof *actor);
    actor_hash_rebuild(self);
}

/* ---- ready, heartbeat, leave ---- */
static uint32_t actor_new(broker_core *self, const broker_peer *peer) {
    broker_registry *registry = &self->registry;
    for (uint32_t i = 0; i < BROKER_ACTORS_MAX; i++) {
        if (registry->actors[i].used)
            continue;
        registry->actors[i] = (broker_actor){.used = true, .peer = *peer};
        registry->actor_hash[actor_slot(self, peer)] = (uint16_t)(i + 1);
        return i;
    }
    return BROKER_NONE;
}

static void refuse_ready(broker_core *self, const broker_peer *from, const stet_envelope *ready,
                         stet_code code, const char *message) {
    stet_error error;
    (void)stet_error_set(&error, code, "%s", message);
    if (stet_code_may_resend(code))
        error.retry_after_ms = BROKER_UNAVAILABLE_RETRY_MS;
    broker_count(self, BROKER_COUNT_REFUSED);
    broker_error_back(self, from, ready->id, (stet_str){0}, &error);
}

static void actor_update(broker_core *self, broker_actor *actor, const stet_envelope *ready) {
    uint32_t credit = ready->credit > 0 ? ready->credit : 1;
    actor->credit = credit < BROKER_CREDIT_MAX ? credit : BROKER_CREDIT_MAX;
    actor->epoch = ready->epoch;
    actor->instance = ready->instance;
    actor->leaving = false;
    actor->seen_ms = self->now_ms;
    size_t size = ready->software.size;
    actor->software_size = (uint8_t)(size < BROKER_SOFTWARE_SIZE_MAX ? size : BROKER_SOFTWARE_SIZE_MAX);
    if (actor->software_size > 0)
        memcpy(actor->software, ready->software.data, actor->software_size);
    int64_t away_ms = away_at_ms(self, actor);
    if (away_ms < self->registry.away_check_ms)
        self->registry.away_check_ms = away_ms;
}

/* Makes place for a registration on this lane by this peer. True when it is the registered one, said again.
 */
static bool settle(broker_core *self, const broker_peer *from, uint32_t lane_index,
                   const stet_envelope *ready) {
    uint32_t known = broker_actor_find(self, from);
    if (known != BROKER_NONE) {
        const broker_actor *actor = &self->registry.actors[known];
        if (actor->lane == lane_index && self->registry.lanes[lane_index].actor == known &&
            stet_id_equal(actor->instance, ready->instance))
            return true;
        broker_actor_gone(self, known, "actor.replaced", "the same connection registers anew");
    }
    uint32_t owner = self->registry.lanes[lane_index].actor;
    if (owner != BROKER_NONE) {
        broker_count(self, BROKER_COUNT_REPLACED);
        broker_actor_gone(self, owner, "actor.replaced",
                          "another connection registers for the same service and partition");
    }
    return false;
}

void broker_ready(broker_core *self, const broker_peer *from, const stet_envelope *ready) {
    FAULT(broker_ready);
    if (ready->service.size == 0 || ready->service.size > STET_SERVICE_SIZE_MAX ||
        ready->partition >= STET_SLOTS || stet_str_is(ready->service, "broker")) {
        refuse_ready(self, from, ready, STET_INVALID,
                     "ready needs a service name of its own and a partition below 1024");
        return;
    }
    uint32_t lane_index = lane_get(self, ready->service, ready->partition);
    if (lane_index == BROKER_NONE) {
        refuse_ready(self, from, ready, STET_BUSY, "too many services are registered");
        return;
    }
    broker_lane *lane = &self->registry.lanes[lane_index];
    if (ready->epoch < lane->epoch && !PLANT(fence_not_checked)) {
        broker_count(self, BROKER_COUNT_FENCED);
        refuse_ready(self, from, ready, STET_CONFLICT,
                     "a higher epoch of this service and partition has registered");
        return;
    }
    uint32_t index = settle(self, from, lane_index, ready) ? lane->actor : BROKER_NONE;
    bool fresh = index == BROKER_NONE;
    if (fresh) {
        index = actor_new(self, from);
        if (index == BROKER_NONE) {
            refuse_ready(self, from, ready, STET_BUSY, "too many actors are registered");
            return;
        }
    }
    broker_actor *actor = &self->registry.actors[index];
    actor->lane = lane_index;
    actor_update(self, actor, ready);
    lane->actor = index;
    lane->epoch = ready->epoch;
    if (fresh) {
        broker_count(self, BROKER_COUNT_REGISTERED);
        broker_log(self, STET_INFO, "actor.registered", "the actor is registered", actor);
    }
    welcome(self, actor);
    FAULT(broker_welcomed);
    broker_drain(self, lane_index);
}

void broker_heartbeat(broker_core *self, uint32_t index, const stet_envelope *heartbeat) {
    broker_actor *actor = &self->registry.actors[index];
    broker_peer peer = actor->peer;
    if (!stet_id_equal(heartbeat->instance, actor->instance)) {
        broker_actor_gone(self, index, "actor.replaced",
                          "another life of the actor speaks on the same connection");
        broker_ask_register(self, &peer);
        return;
    }
    stet_envelope envelope = {.kind = STET_KIND_HEARTBEAT, .instance = self->options.instance};
    broker_send_back(self, &peer, &envelope, (stet_str){0});
}

void broker_leave(broker_core *self, uint32_t index) {
    broker_actor *actor = &self->registry.actors[index];
    if (actor->leaving)
        return;
    actor->leaving = true;
    FAULT(broker_left);
    broker_count(self, BROKER_COUNT_LEFT);
    broker_log(self, STET_INFO, "actor.left", "the actor leaves; what is queued waits for its successor",
               actor);
    broker_actor_maybe_left(self, index);
}

void broker_actor_maybe_left(broker_core *self, uint32_t index) {
    const broker_actor *actor = &self->registry.actors[index];
    if (actor->used && actor->leaving && actor->outstanding.count == 0)
        broker_actor_gone(self, index, NULL, NULL);
}
