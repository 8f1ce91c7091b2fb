/* One seed: make the system, let it work under faults, let it come to rest or stop it where it is, read the
 * end, check. */
#include "tests/sim/sim.h"

#include "actors/drafter/drafter.h"
#include "actors/probe/probe.h"
#include "tests/sim/checker.h"

#include <stdlib.h>

enum {
    REST_MAX_MS = 240000,
    REST_LATE_MS = 30000,
    REST_STEP_MS = 1000,
    READERS_MS = 45000,
    STEPS_MAX = 3000000
};

sim *sim_new(void) {
    stet_error error;
    sim *self = calloc(1, sizeof(*self));
    ASSERT(self != NULL);
    self->ops = calloc(SIM_OPS_MAX, sizeof(*self->ops));
    stet_code rc = stet_config_load(NULL, &self->config, &error);
    ASSERT(self->ops != NULL && rc == STET_OK);
    return self;
}

sim *sim_free(sim *self) {
    self->config = stet_config_free(self->config);
    free(self->ops);
    free(self);
    return NULL;
}

/* ---- the system ---- */

static void late_start(void *object, uint64_t number) {
    sim_actor *actor = object;
    (void)number;
    actor->wanted = true;
    actor_node_start(actor, 0);
}

static void open_system(sim *s) {
    static const stet_service *const services[SIM_ACTORS] = {&probe_service, &drafter_service,
                                                             &sim_counter_service, &sim_sink_service};
    static const struct {
        const char *service, *session;
    } readers[SIM_READERS] = {{"probe", "s0"},   {"probe", "s1"},   {"drafter", "d0"},
                              {"drafter", "d1"}, {"drafter", "d2"}, {"probe", "s0"}};
    broker_node_init(s);
    net_init(&s->net, &s->world, &s->broker, broker_node_deliver);
    s->net.rates = (net_rates){.delay_ms = 2};
    broker_node_start(s);
    for (size_t i = 0; i < SIM_ACTORS; i++) {
        sim_actor *actor = s->actors[i] = actor_node_init(s, services[i], /* store= */ NULL);
        if (i >= 2 && s->mix.receivers_late) {
            actor->wanted = false;
            world_at(&s->world, s->world.boot_ms + world_between(&s->world, 0, s->mix.length_ms), late_start,
                     actor, 0);
        } else {
            actor_node_start(actor, world_between(&s->world, 0, 300));
        }
    }
    for (uint32_t i = 0; i < s->mix.clients; i++)
        client_node_init(s, &s->clients[i], i, "client");
    if (s->mix.visits > 0)
        client_node_init(s, &s->visitor, SIM_CLIENTS_MAX, "visitor");
    for (uint32_t i = 0; i < SIM_READERS; i++)
        reader_node_init(s, i, &s->clients[i % s->mix.clients], readers[i].service, readers[i].session);
}

static void close_system(sim *s) {
    workload_done(s);
    for (uint32_t i = 0; i < s->mix.clients; i++)
        client_node_done(&s->clients[i]);
    client_node_done(&s->visitor);
    for (int i = 0; i < SIM_READERS; i++)
        reader_node_done(&s->readers[i]);
    http_peer_done(s);
    for (uint32_t i = 0; i < s->slots_count; i++)
        actor_node_done(&s->slots[i]);
    s->broker.core = broker_core_free(s->broker.core);
    net_done(&s->net);
    history_done(&s->history);
    world_done(&s->world);
}

/* ---- the course ---- */

static void run_until(sim *s, int64_t until_ms) {
    uint64_t steps = 0;
    while (world_step(&s->world, until_ms)) {
        if (++steps > STEPS_MAX)
            world_fail(&s->world, "I12: more than %d steps: something goes round in circles", STEPS_MAX);
    }
}

static void pending(sim *s, const char *what, uint64_t number) {
    history_add(&s->history, (history_record){.kind = HISTORY_PENDING,
                                              .at_ms = s->world.boot_ms,
                                              .stream = history_name(&s->history, stet_str_of(what)),
                                              .number = number});
}

/* Until nothing waits any more; then a little, so that readers can read to the end. */
static void come_to_rest(sim *s) {
    const char *what = "requests";
    int64_t begun_ms = s->world.boot_ms, until_ms = begun_ms + REST_MAX_MS;
    uint64_t waiting = 1;
    while (waiting > 0 && s->world.boot_ms < until_ms && !s->world.failed) {
        run_until(s, s->world.boot_ms + REST_STEP_MS);
        what = "requests";
        waiting = workload_resting(s) ? finale_waiting(s, &what) : 1;
        if (waiting == 0 && s->replaced) {
            waiting = 1;
            what = "an owner that was replaced";
        }
    }
    pending(s, what, waiting);
    if (s->world.boot_ms - begun_ms > s->totals.rest_ms_max)
        s->totals.rest_ms_max = s->world.boot_ms - begun_ms;
    s->totals.rests_late += s->world.boot_ms - begun_ms > REST_LATE_MS;
    /* Before the readers' time: what a clock that was ahead has put off may still happen in it. */
    finale_heads(s);
    run_until(s, s->world.boot_ms + READERS_MS);
    s->history.whole = true;
}

static void stop_everything(sim *s) {
    s->working = s->finishing = false;
    if (s->replaced)
        actor_node_kill(s->replaced, /* kept= */ false);
    for (int i = 0; i < SIM_ACTORS; i++) {
        owners_give_back(s->actors[i]);
        s->actors[i]->wanted = false;
        actor_node_kill(s->actors[i], s->history.whole || world_chance(&s->world, 500));
    }
}

static void reset(sim *s) {
    sim_op *ops = s->ops;
    stet_config *config = s->config;
    sim_totals totals = s->totals;
    *s = (sim){.ops = ops, .config = config, .totals = totals};
}

bool sim_run(sim *s, const sim_options *options) {
    char text[CHECKER_TEXT_SIZE];
    reset(s);
    world_init(&s->world, options->seed);
    s->world.telling = options->telling;
    s->world.file = options->trace;
    s->wall_offset_ms = s->world.wall_offset_ms;
    int64_t started_ms = s->world.boot_ms;
    faults_choose(s);
    if (options->profile >= 0)
        s->mix.profile = (sim_profile)options->profile;
    open_system(s);
    run_until(s, s->world.boot_ms + 500);
    workload_start(s);
    faults_start(s);
    run_until(s, s->world.boot_ms + s->mix.length_ms);
    if (s->mix.profile == SIM_LIVENESS) {
        faults_end(s);
        workload_finish(s);
        come_to_rest(s);
    }
    stop_everything(s);
    if (!s->world.failed) {
        finale_read(s);
        if (!checker_run(&s->history, text))
            world_fail(&s->world, "%s", text);
    }
    s->totals.seeds++;
    s->totals.violations += s->world.failed;
    s->totals.simulated_ms += s->world.boot_ms - started_ms;
    s->totals.messages += s->net.sent;
    s->totals.faults[FAULT_message_lost] += s->net.lost;
    s->totals.faults[FAULT_message_doubled] += s->net.doubled;
    s->totals.faults[FAULT_queue_full] += s->net.refused;
    s->totals.faults[FAULT_hot_key] += s->mix.hot;
    close_system(s);
    return !s->world.failed;
}
