/* Who owns an actor's data, and whether they are all there.
 *
 * Taken over: the process stands still, a copy of its store gets a higher epoch and is started as another process, and
 * when the broker has welcomed that one the first wakes up, with what it had in hand. It may go on for itself until it is
 * told, but nobody may hear an answer of it. Only services that send nothing to other actors are taken over: what lies in
 * an outbox would be sent anew under the new epoch, whether it has arrived or not. Live events of the old owner
 * may still reach subscribers in earnest, and do not here.
 *
 * Rolled back: an older copy of the store is put in the place of the newer one, beside the witness that knows better.
 * Nothing may be served until the right one is put back. */
#include "tests/sim/sim.h"

enum { START_MAX_MS = 5000, WAKE_MAX_MS = 20000, BACK_MAX_MS = 20000 };

static stet_store *copy_of(const stet_store *store, uint64_t epoch) {
    stet_store *copy = NULL;
    stet_error error;
    stet_code rc = stet_store_memory_copy(store, epoch, &copy, &error);
    ASSERT(rc == STET_OK);
    return copy;
}

static bool is_whole(const sim_actor *self) {
    return self->core && !self->stopping && !self->dying && self->wanted && !self->truth;
}

/* ---- taken over ---- */

static void note_owner(sim *s, history_kind kind, const sim_actor *actor) {
    history_add(&s->history,
                (history_record){.kind = kind,
                                 .at_ms = s->world.boot_ms,
                                 .stream = history_name_of(&s->history, "owners of %s", actor->name),
                                 .number = stet_store_epoch(actor->store)});
}

bool owners_take_over(sim *s) {
    size_t index = world_chance(&s->world, 500) ? SIM_PROBE : SIM_SINK;
    sim_actor *old = s->actors[index];
    if (s->replaced || s->slots_count == SIM_SLOTS || !is_whole(old))
        return false;
    sim_actor *next = actor_node_init(s, old->service, copy_of(old->store, stet_store_epoch(old->store) + 1));
    s->actors[index] = next;
    s->replaced = old;
    old->replaced = old->failing = true;
    old->wanted = false;
    old->paused_until_ms = INT64_MAX / 2;
    net_close(&old->events);
    world_tell(&s->world, old->name, "taken over", stet_store_epoch(next->store),
               stet_store_last_number(next->store), (stet_str){NULL, 0});
    actor_node_begin(next);
    actor_node_start(next, world_skewed(&s->world, 20, START_MAX_MS));
    return true;
}

static void wake(void *object, uint64_t broker_life) {
    sim_actor *self = object;
    sim *s = self->sim;
    if (s->replaced != self || s->broker.life != broker_life || !s->broker.core)
        return;
    world_tell(&s->world, self->name, "wakes up", 0, 0, (stet_str){NULL, 0});
    self->paused_until_ms = 0;
    actor_node_round_at(self, s->world.boot_ms);
}

void owners_welcomed(sim *s, const sim_actor *actor) {
    note_owner(s, HISTORY_OWNER, actor);
    if (s->replaced && s->replaced->service == actor->service && s->replaced != actor)
        world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 0, s->calm ? 1000 : WAKE_MAX_MS), wake,
                 s->replaced, s->broker.life);
}

void owners_answered(sim *s, const sim_actor *actor) {
    if (actor->service == s->actors[SIM_PROBE]->service || actor->service == s->actors[SIM_SINK]->service)
        note_owner(s, HISTORY_SERVED, actor);
}

/* A new broker knows no epoch before somebody registers: who was replaced under the old one and is awake, might be the
 * first. So it is ended here, as by whoever moves an actor. */
void owners_broker_died(sim *s) {
    if (s->replaced && s->replaced->paused_until_ms == 0)
        actor_node_kill(s->replaced, /* kept= */ false);
}

/* ---- rolled back ---- */

static void give_back(void *object, uint64_t number) {
    sim_actor *self = object;
    (void)number;
    if (!self->truth)
        return;
    world_tell(&self->sim->world, self->name, "put back", stet_store_last_number(self->truth), 0,
               (stet_str){NULL, 0});
    if (self->core) /* it was served: the checker will say so */
        actor_node_kill(self, /* kept= */ false);
    self->kept = self->store;
    self->store = TAKE(self->truth);
    actor_node_start(self, 0);
}

void owners_give_back(sim_actor *self) {
    give_back(self, 0);
}

bool owners_roll_back(sim *s, sim_actor *self) {
    if (!is_whole(self))
        return false;
    if (!self->kept) {
        self->kept = copy_of(self->store, /* epoch= */ 0);
        return false;
    }
    /* Of the last commit the witness may not know yet. */
    if (stet_store_last_number(self->kept) + 2 > stet_store_last_number(self->store))
        return false;
    actor_node_kill(self, world_chance(&s->world, 500));
    stet_store_memory_witness(self->kept, self->store);
    self->truth = self->store;
    self->store = TAKE(self->kept);
    world_tell(&s->world, self->name, "rolled back", stet_store_last_number(self->store), 0,
               (stet_str){NULL, 0});
    world_at(&s->world, s->world.boot_ms + world_skewed(&s->world, 100, BACK_MAX_MS), give_back, self, 0);
    return true;
}
