/* What goes wrong. A seed chooses its own mix: which faults there are at all, how often each, how slow the
 * disk and the network are, how small the limits. Runs that do everything at once find less than runs that do
 * a few things a lot. */
#include "tests/sim/sim.h"

enum { HOUR_MS = 3600 * 1000, PAUSE_MAX_MS = 30000 };

static const int64_t year_ms = INT64_C(365) * 24 * HOUR_MS;

static const char *const names[] = {
#define X(name) #name,
    SIM_FAULTS(X)
#undef X
};

const char *fault_name(sim_fault fault) {
    return names[fault];
}

void fault_count(sim *s, sim_fault fault) {
    s->totals.faults[fault]++;
    world_tell(&s->world, "fault", names[fault], 0, 0, (stet_str){NULL, 0});
}

/* ---- the mix ---- */

static void set(sim *s, stet_setting setting, const char *const *values, size_t count) {
    stet_error error;
    stet_code rc = stet_config_set(s->config, setting, values[world_below(&s->world, count)], &error);
    ASSERT(rc == STET_OK);
}

#define SET(name, ...)                                                                                       \
    set(s, STET_SETTING_##name, (const char *const[]){__VA_ARGS__},                                          \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void choose_settings(sim *s) {
    SET(actor_turn_messages, "1", "2", "16", "1024");
    SET(actor_turn_bytes, "2K", "256K", "256K");
    SET(actor_credit, "1", "4", "2048", "2048");
    SET(broker_queue_max, "2", "64", "8192");
    SET(broker_heartbeat, "250ms", "1s");
    SET(broker_queue_bytes, "64M", "64M", "64K");
    SET(broker_sessions_max, "4096", "4096", "1", "3");
    SET(broker_timeout, "30s", "2s");
    SET(drafter_concurrency, "1", "4");
    SET(actor_events_keep, "30d", "30d", "30d", "30d", "1s", "20s");
    s->history.forgets = stet_config_int(s->config, STET_SETTING_actor_events_keep) < SIM_LONGEST_MS;
    SET(drafter_attempts, "1", "3");
    SET(drafter_call_tries, "1", "3");
    SET(drafter_jobs_keep, "30d", "30d", "30d", "1s", "10s");
    SET(drafter_call_backoff, "10ms", "1s");
    SET(drafter_job_backoff, "50ms", "5s");
    SET(drafter_progress_every, "0ms", "500ms");
    SET(openai_schema, "json_schema", "json_schema", "json_object", "none");
    SET(openai_api_key, "sim-key");
    SET(openai_base_url, "http://127.0.0.1:9/v1");
}

static int64_t one_of(world *w, const int64_t *values, size_t count) {
    return values[world_below(w, count)];
}

#define ONE_OF(...)                                                                                          \
    one_of(&s->world, (const int64_t[]){__VA_ARGS__},                                                        \
           sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

void faults_choose(sim *s) {
    world *w = &s->world;
    sim_mix *m = &s->mix;
    *m = (sim_mix){.profile = world_chance(w, 600) ? SIM_LIVENESS : SIM_SAFETY,
                   .length_ms = ONE_OF(10000, 30000, 60000, 120000),
                   .think_ms = ONE_OF(5, 200, 2000, 5000),
                   .clients = 1 + (uint32_t)world_below(w, SIM_CLIENTS_MAX),
                   .lanes = 1 + (uint32_t)world_below(w, SIM_LANES_MAX),
                   .commit_ms = ONE_OF(0, 3, 20, 200),
                   .commit_slow_ms = ONE_OF(500, 5000, 30000),
                   .commit_slow = (uint32_t)ONE_OF(0, 0, 5, 30),
                   .fault_every_ms = ONE_OF(300, 1500, 6000, 20000),
                   .http_faults = (uint32_t)ONE_OF(0, 200, 600, 900),
                   .http_late = (uint32_t)ONE_OF(0, 500, 900),
                   .http_ms = ONE_OF(50, 1000, 8000),
                   .steal = (uint32_t)ONE_OF(0, 20, 100),
                   .repeat = (uint32_t)ONE_OF(0, 50, 300),
                   .second_thoughts = (uint32_t)ONE_OF(0, 0, 0, 100, 300),
                   .receivers_late = world_chance(w, 300),
                   .hot = world_chance(w, 200),
                   .large = (uint32_t)ONE_OF(0, 0, 0, 0, 10, 100),
                   .empty = (uint32_t)ONE_OF(0, 0, 20),
                   .visits =
                       world_chance(w, 100) ? (uint32_t)ONE_OF(20, 100, 300, 300, 300, 1000, 1000, 10000) : 0,
                   .visit_ms = ONE_OF(2, 20, 200)};
    m->rates = (net_rates){.loss = (uint32_t)ONE_OF(0, 0, 0, 5, 5, 50, 50, 200, 500),
                           .loss_events = (uint32_t)ONE_OF(0, 10, 200, 500),
                           .refusal = (uint32_t)ONE_OF(0, 0, 0, 20, 100),
                           .spike = (uint32_t)ONE_OF(0, 5, 50),
                           .doubled = (uint32_t)ONE_OF(0, 0, 0, 20, 200),
                           .delay_ms = ONE_OF(0, 2, 20, 200),
                           .spike_ms = ONE_OF(200, 3000, 60000)};
    if (m->think_ms <= 5 && m->length_ms > 30000)
        m->length_ms = 10000; /* busy or long, not both: a seed has to stay short */
    for (int i = 0; i < FAULT_http_status; i++) {
        m->weights[i] = world_chance(w, 450) ? 1 + (uint32_t)world_below(w, 10) : 0;
        m->weights_sum += m->weights[i];
    }
    choose_settings(s);
}

/* ---- each fault ---- */

static sim_actor *any_actor(sim *s) {
    return s->actors[world_below(&s->world, SIM_ACTORS)];
}

static net_link *any_link(sim *s) {
    return s->net.links[world_below(&s->world, s->net.links_count)];
}

static int64_t a_while(sim *s) {
    return world_skewed(&s->world, 50, PAUSE_MAX_MS);
}

static void block(sim *s, net_direction *direction, int64_t ms, bool black_hole) {
    direction->blocked_until_ms = s->world.boot_ms + ms;
    direction->black_hole = black_hole;
}

static void partition(sim *s, bool one_way) {
    net_link *link = any_link(s);
    int64_t ms = a_while(s);
    bool black_hole = world_chance(&s->world, 500);
    uint64_t which = one_way ? 1 + world_below(&s->world, 2) : 3;
    if (which & 1)
        block(s, &link->to_broker, ms, black_hole);
    if (which & 2)
        block(s, &link->to_node, ms, black_hole);
}

/* Bytes that are no message of ours, from a connection that is. */
static void stranger(sim *s) {
    uint8_t bytes[64];
    net_link *link = any_link(s);
    stet_str frames[NET_FRAMES_MAX];
    if (link->socket == NET_EVENTS || link->socket == NET_EVENTS_IN)
        return;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)world_below(&s->world, 256);
    for (size_t i = 0; i < NET_FRAMES_MAX; i++)
        frames[i] = stet_str_from(bytes, world_below(&s->world, sizeof(bytes)));
    if (world_chance(&s->world, 500))
        (void)net_to_broker(link, frames, link->socket == NET_FRONT ? 2 : 3);
    else
        (void)net_to_node(link, frames, link->socket == NET_FRONT ? 2 : 3);
}

static void doom(sim *s, actor_doom where, uint64_t within) {
    sim_actor *actor = any_actor(s);
    actor->doom = where;
    actor->doom_left = world_below(&s->world, within);
    if (where == DOOM_IN_RECOVERY) {
        actor_node_kill(actor, world_chance(&s->world, 500));
        actor->doom = where;
    }
}

static void fail_store(sim *s, stet_commit_result result) {
    sim_actor *actor = any_actor(s);
    if (!actor->core)
        return;
    actor->failing = true;
    stet_store_memory_fail_commit(actor->store, result);
}

static void fill_disk(sim *s) {
    sim_actor *actor = any_actor(s);
    stet_store_memory_full(actor->store, true);
    world_at(&s->world, s->world.boot_ms + a_while(s), actor_node_room_again, actor, ++actor->disk_fulls);
}

static void move_clock(sim *s, int64_t ms) {
    s->world.wall_offset_ms += ms;
    s->clock_was_ahead |= s->world.wall_offset_ms > s->wall_offset_ms;
    s->totals.clock_jumped_ms += ms < 0 ? -ms : ms;
}

static void thaw(void *object, uint64_t number) {
    sim *s = object;
    (void)number;
    if (s->world.wall_frozen_ms) {
        /* It goes on from where it stood. */
        s->world.wall_offset_ms = s->world.wall_frozen_ms - s->world.boot_ms;
        s->world.wall_frozen_ms = 0;
    }
}

static void freeze_clock(sim *s) {
    s->world.wall_frozen_ms = world_wall_ms(&s->world);
    world_at(&s->world, s->world.boot_ms + a_while(s), thaw, s, 0);
}

static void leave(sim *s) {
    sim_actor *actor = any_actor(s);
    if (!actor->core || actor->stopping)
        return;
    actor->stopping = true;
    stet_core_stop(actor->core);
    actor_node_round_at(actor, s->world.boot_ms);
}

static void strike_actor(sim *s, sim_fault fault) {
    switch (fault) {
    case FAULT_actor_kill:
        actor_node_kill(any_actor(s), world_chance(&s->world, 500));
        break;
    case FAULT_actor_kill_before_commit:
        doom(s, DOOM_BEFORE_COMMIT, 4);
        return;
    case FAULT_actor_kill_commit_lost:
        doom(s, DOOM_COMMIT_LOST, 4);
        return;
    case FAULT_actor_kill_commit_kept:
        doom(s, DOOM_COMMIT_KEPT, 4);
        return;
    case FAULT_actor_kill_in_release:
        doom(s, DOOM_IN_RELEASE, 16);
        return;
    case FAULT_actor_kill_in_recovery:
        doom(s, DOOM_IN_RECOVERY, 3);
        return;
    case FAULT_actor_pause:
        actor_node_pause(any_actor(s), a_while(s));
        break;
    case FAULT_actor_leave:
        leave(s);
        break;
    case FAULT_commit_unknown:
        fail_store(s, STET_COMMIT_UNKNOWN);
        break;
    case FAULT_commit_unavailable:
        fail_store(s, world_chance(&s->world, 500) ? STET_COMMIT_UNAVAILABLE : STET_COMMIT_FENCED);
        break;
    case FAULT_rolled_back:
        if (!owners_roll_back(s, any_actor(s)))
            return;
        break;
    case FAULT_taken_over:
        if (!owners_take_over(s))
            return;
        break;
    case FAULT_disk_full:
        fill_disk(s);
        break;
    default: {
        sim_actor *actor = any_actor(s);
        if (!actor->core)
            return;
        actor->failing = true;
        stet_store_memory_fail_reads(actor->store);
        break;
    }
    }
    fault_count(s, fault); /* a doom is counted when it strikes */
}

static void strike_clock(sim *s, sim_fault fault) {
    bool back = world_chance(&s->world, 500);
    switch (fault) {
    case FAULT_clock_hour:
        move_clock(s, (back ? -1 : 1) * world_between(&s->world, 1, HOUR_MS));
        break;
    case FAULT_clock_year:
        move_clock(s, (back ? -1 : 1) * world_between(&s->world, HOUR_MS, year_ms));
        break;
    case FAULT_clock_frozen:
        freeze_clock(s);
        break;
    default:
        move_clock(s, -world_between(&s->world, 1, 5000));
        break;
    }
}

/* Counted when an allocation fails, see node_*.c. */
static void starve(sim *s, sim_fault fault) {
    const memory_fault memory = {.after = (uint64_t)world_skewed(&s->world, 0, ONE_OF(20, 1000)),
                                 .rounds = 1 + (uint32_t)world_below(&s->world, 4),
                                 .for_ever = world_chance(&s->world, 300)};
    if (fault == FAULT_actor_memory)
        any_actor(s)->memory = memory;
    else if (fault == FAULT_broker_memory)
        s->broker.memory = memory;
    else
        s->clients[world_below(&s->world, s->mix.clients)].memory = memory;
}

static void strike(sim *s, sim_fault fault) {
    switch (fault) {
    case FAULT_actor_memory:
    case FAULT_broker_memory:
    case FAULT_client_memory:
        starve(s, fault);
        return;
    case FAULT_broker_kill:
        broker_node_kill(s);
        break;
    case FAULT_broker_pause:
        broker_node_pause(s, a_while(s));
        break;
    case FAULT_client_kill:
        client_node_kill(&s->clients[world_below(&s->world, s->mix.clients)]);
        break;
    case FAULT_reader_kill:
        reader_node_kill(&s->readers[world_below(&s->world, SIM_READERS)]);
        break;
    case FAULT_connection_break:
        net_break(any_link(s));
        break;
    case FAULT_connection_half_open:
        net_half_open(any_link(s), a_while(s), world_chance(&s->world, 500));
        break;
    case FAULT_partition:
        partition(s, /* one_way= */ false);
        break;
    case FAULT_partition_one_way:
        partition(s, /* one_way= */ true);
        break;
    case FAULT_stranger:
        stranger(s);
        break;
    case FAULT_clock_hour:
    case FAULT_clock_year:
    case FAULT_clock_frozen:
    case FAULT_clock_backwards:
        strike_clock(s, fault);
        break;
    case FAULT_commit_slow:
        return; /* happens by itself, see node_actor.c */
    default:
        strike_actor(s, fault);
        return;
    }
    fault_count(s, fault);
}

/* ---- the course ---- */

static void next_fault(void *object, uint64_t number) {
    sim *s = object;
    (void)number;
    if (s->calm)
        return;
    uint64_t at = world_below(&s->world, s->mix.weights_sum);
    for (int i = 0; i < FAULT_http_status; i++) {
        if (at < s->mix.weights[i]) {
            strike(s, (sim_fault)i);
            break;
        }
        at -= s->mix.weights[i];
    }
    world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 1, 2 * s->mix.fault_every_ms), next_fault,
             s, 0);
}

void faults_start(sim *s) {
    s->net.rates = s->mix.rates;
    if (s->mix.weights_sum > 0)
        next_fault(s, 0);
}

void faults_end(sim *s) {
    s->calm = true;
    net_heal(&s->net);
    thaw(s, 0);
    s->world.wall_offset_ms =
        s->wall_offset_ms; /* the clock is right again, or timers would be due next year */
    s->broker.paused_until_ms = 0;
    s->broker.memory.rounds = 0;
    for (uint32_t i = 0; i < s->mix.clients; i++)
        s->clients[i].memory.rounds = 0;
    if (!s->broker.core)
        broker_node_start(s);
    for (int i = 0; i < SIM_ACTORS; i++) {
        sim_actor *actor = s->actors[i];
        actor->paused_until_ms = 0;
        actor->doom = DOOM_NONE;
        actor->memory.rounds = 0;
        owners_give_back(actor);
        actor_node_room_again(actor, actor->disk_fulls);
        if (actor->core)
            actor_node_round_at(actor, s->world.boot_ms);
        else
            actor_node_start(actor, 0);
    }
    world_tell(&s->world, "fault", "no more", 0, 0, (stet_str){NULL, 0});
}
