#include "tests/sim/net.h"

#include <stdlib.h>

enum { QUEUE_MAX = 16384, RECONNECT_FIRST_MS = 20, RECONNECT_MAX_MS = 500, LATE_MS = 200 };

static void connect_again(void *object, uint64_t number);

static void direction_init(net_direction *self) {
    *self = (net_direction){.first = NULL};
    self->end = &self->first;
}

void net_init(net *self, world *w, void *broker, net_deliver_fn *deliver) {
    *self = (net){.world = w, .broker = broker, .deliver = deliver};
}

void net_add(net *self, net_link *link) {
    ASSERT(self->links_count < NET_LINKS_MAX);
    self->links[self->links_count++] = link;
    link->net = self;
    direction_init(&link->to_broker);
    direction_init(&link->to_node);
    link->waiting_end = &link->waiting;
}

void net_free(net_packet *packet) {
    free(packet);
}

static void free_list(net_packet **first) {
    while (*first) {
        net_packet *packet = *first;
        *first = packet->next;
        free(packet);
    }
}

void net_done(net *self) {
    for (size_t i = 0; i < self->links_count; i++) {
        free_list(&self->links[i]->to_broker.first);
        free_list(&self->links[i]->to_node.first);
        free_list(&self->links[i]->waiting);
    }
}

/* ---- delivery ---- */

static net_packet *unlink_packet(net_direction *direction, uint64_t order) {
    for (net_packet **at = &direction->first; *at; at = &(*at)->next) {
        net_packet *packet = *at;
        if (packet->order != order)
            continue;
        *at = packet->next;
        if (!*at)
            direction->end = at;
        direction->count--;
        packet->next = NULL;
        return packet;
    }
    return NULL;
}

static net_packet *find_packet(const net_direction *direction, uint64_t order) {
    net_packet *packet = direction->first;
    while (packet && packet->order != order)
        packet = packet->next;
    return packet;
}

static void arrive_at_broker(void *object, uint64_t order) {
    net_link *link = object;
    net *self = link->net;
    net_packet *packet = find_packet(&link->to_broker, order);
    if (!packet)
        return; /* lost with its connection */
    if (self->broker_there) {
        int64_t again_ms = self->deliver(self->broker, link, packet);
        if (again_ms > self->world->boot_ms) {
            world_at(self->world, again_ms, arrive_at_broker, link, order);
            return;
        }
    }
    free(unlink_packet(&link->to_broker, order));
}

static void arrive_at_node(void *object, uint64_t order) {
    net_link *link = object;
    net_packet *packet = unlink_packet(&link->to_node, order);
    if (!packet)
        return;
    if (!link->wanted)
        free(packet);
    else
        (void)link->deliver(link->node, link, packet);
}

/* ---- sending ---- */

static net_packet *packet_new(net *self, const stet_str *frames, uint32_t count) {
    size_t size = 0;
    ASSERT(count <= NET_FRAMES_MAX);
    for (uint32_t i = 0; i < count; i++)
        size += frames[i].size;
    net_packet *packet = malloc(sizeof(*packet) + size + 1);
    ASSERT(packet != NULL);
    *packet = (net_packet){.order = self->order++, .count = count};
    char *at = packet->bytes;
    for (uint32_t i = 0; i < count; i++) {
        if (frames[i].size > 0)
            memcpy(at, frames[i].data, frames[i].size);
        packet->frames[i] = stet_str_from(at, frames[i].size);
        at += frames[i].size;
    }
    return packet;
}

static bool is_events(const net_link *link) {
    return link->socket == NET_EVENTS_IN || link->socket == NET_EVENTS;
}

static void put(net_link *link, net_direction *direction, net_packet *packet);

static void put_twin(net_link *link, net_direction *direction, const net_packet *packet) {
    net *self = link->net;
    self->doubled++;
    put(link, direction, packet_new(self, packet->frames, packet->count));
}

/* Takes the packet. */
static void put(net_link *link, net_direction *direction, net_packet *packet) {
    net *self = link->net;
    world *w = self->world;
    bool blocked = direction->blocked_until_ms > w->boot_ms;
    bool subscription = link->socket == NET_EVENTS && direction == &link->to_broker;
    uint32_t loss = is_events(link) ? self->rates.loss_events : self->rates.loss;
    self->sent++;
    if (!subscription && ((blocked && direction->black_hole) || world_chance(w, loss))) {
        self->lost++;
        free(packet);
        return;
    }
    int64_t at_ms = w->boot_ms + world_skewed(w, 0, self->rates.delay_ms);
    if (world_chance(w, self->rates.spike))
        at_ms += world_skewed(w, 0, self->rates.spike_ms);
    if (blocked && at_ms < direction->blocked_until_ms)
        at_ms = direction->blocked_until_ms;
    if (at_ms < direction->last_ms)
        at_ms = direction->last_ms;
    direction->last_ms = at_ms;
    packet->peer = link->peer;
    packet->next = NULL;
    *direction->end = packet;
    direction->end = &packet->next;
    direction->count++;
    world_at(w, at_ms, direction == &link->to_broker ? arrive_at_broker : arrive_at_node, link,
             packet->order);
    if (!subscription && world_chance(w, self->rates.doubled))
        put_twin(link, direction, packet);
}

bool net_to_broker(net_link *link, const stet_str *frames, uint32_t count) {
    net *self = link->net;
    /* A subscription is no message: ZeroMQ always finds place for it. */
    if (link->socket != NET_EVENTS && world_chance(self->world, self->rates.refusal)) {
        self->refused++;
        return false;
    }
    if (link->up) {
        if (link->to_broker.count >= QUEUE_MAX)
            return false;
        put(link, &link->to_broker, packet_new(self, frames, count));
        return true;
    }
    if (!link->keeps || link->waiting_count >= QUEUE_MAX)
        return false;
    net_packet *packet = packet_new(self, frames, count);
    *link->waiting_end = packet;
    link->waiting_end = &packet->next;
    link->waiting_count++;
    return true;
}

bool net_to_node(net_link *link, const stet_str *frames, uint32_t count) {
    net *self = link->net;
    if (!link->up || link->to_node.count >= QUEUE_MAX || world_chance(self->world, self->rates.refusal)) {
        self->refused++;
        return false;
    }
    put(link, &link->to_node, packet_new(self, frames, count));
    return true;
}

/* As ROUTER makes them: a zero byte and a number. */
static broker_peer peer_of(uint32_t number) {
    return (broker_peer){
        .size = 5,
        .id = {0, (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number}};
}

static uint32_t number_of(const broker_peer *peer) {
    return (uint32_t)peer->id[1] << 24 | (uint32_t)peer->id[2] << 16 | (uint32_t)peer->id[3] << 8 |
           peer->id[4];
}

net_link *net_find(net *self, net_socket socket, const broker_peer *peer) {
    uint32_t number = number_of(peer);
    for (size_t i = 0; i < self->links_count; i++) {
        net_link *link = self->links[i];
        if (link->number == number && link->socket == socket && link->up && !link->deaf)
            return link;
    }
    return NULL;
}

/* ---- connections ---- */

static void plan_connect(net_link *link) {
    world *w = link->net->world;
    int64_t ms = link->quick ? 1 : world_skewed(w, RECONNECT_FIRST_MS, RECONNECT_MAX_MS);
    if (link->wanted)
        world_at(w, w->boot_ms + ms, connect_again, link, link->connection);
}

static void connect_now(net_link *link) {
    net *self = link->net;
    uint32_t number = ++self->peers;
    link->up = true;
    link->subscribed = link->deaf = false;
    link->number = number;
    link->peer = peer_of(number);
    link->to_broker.last_ms = link->to_node.last_ms = self->world->boot_ms;
    world_tell(self->world, link->name, "connected", number, link->waiting_count, (stet_str){NULL, 0});
    net_packet *packet = TAKE(link->waiting);
    link->waiting_end = &link->waiting;
    link->waiting_count = 0;
    while (packet) {
        net_packet *next = packet->next;
        packet->next = NULL;
        put(link, &link->to_broker, packet);
        packet = next;
    }
    if (link->connected)
        link->connected(link->node, link);
}

static void connect_again(void *object, uint64_t connection) {
    net_link *link = object;
    if (link->up || !link->wanted || link->connection != connection)
        return;
    if (link->net->broker_there)
        connect_now(link);
    else
        plan_connect(link);
}

/* Keeps the first `arrived` packets of what is under way, hands the others out. */
static net_packet *cut(net_direction *direction, uint64_t arrived) {
    net_packet **at = &direction->first;
    for (uint64_t i = 0; i < arrived && *at; i++)
        at = &(*at)->next;
    net_packet *rest = *at;
    *at = NULL;
    direction->end = at;
    direction->count = (uint32_t)arrived;
    return rest;
}

static void break_link(net_link *link, bool broker_dies) {
    net *self = link->net;
    world *w = self->world;
    if (!link->up)
        return;
    link->up = false;
    link->connection++;
    self->breaks++;
    uint64_t arrived = broker_dies ? 0 : world_below(w, (uint64_t)link->to_broker.count + 1);
    net_packet *rest = cut(&link->to_broker, arrived);
    if (link->keeps && link->wanted && rest && world_chance(w, 700)) {
        /* What had not left the socket's queue goes out first on the next connection, with new orders: the
         * events of the old ones are stale. */
        ASSERT(link->waiting == NULL);
        for (; rest && world_chance(w, 300);) {
            net_packet *lost = rest;
            rest = rest->next;
            free(lost);
        }
        link->waiting = rest;
        for (link->waiting_end = &link->waiting; *link->waiting_end;
             link->waiting_end = &(*link->waiting_end)->next) {
            (*link->waiting_end)->order = self->order++;
            link->waiting_count++;
        }
    } else {
        free_list(&rest);
    }
    rest = cut(&link->to_node, link->wanted ? world_below(w, (uint64_t)link->to_node.count + 1) : 0);
    free_list(&rest);
    world_tell(w, link->name, "broken", link->connection, arrived, (stet_str){NULL, 0});
}

void net_break(net_link *link) {
    break_link(link, /* broker_dies= */ false);
    plan_connect(link);
}

bool net_is_ghost(const net *self, const broker_peer *peer) {
    for (size_t i = 0; i < NET_GHOSTS_MAX; i++) {
        if (self->ghosts[i].number == number_of(peer) && self->ghosts[i].until_ms > self->world->boot_ms)
            return true;
    }
    return false;
}

static void notice(void *object, uint64_t connection) {
    net_link *link = object;
    if (link->up && link->deaf && link->connection == connection)
        net_break(link);
}

void net_half_open(net_link *link, int64_t ms, bool at_broker) {
    net *self = link->net;
    int64_t until_ms = self->world->boot_ms + ms;
    if (!link->up)
        return;
    if (at_broker) {
        self->ghosts[self->ghosts_count++ % NET_GHOSTS_MAX] = (struct net_ghost){link->number, until_ms};
        net_break(link);
        return;
    }
    link->deaf = true;
    link->to_broker.blocked_until_ms = until_ms;
    link->to_broker.black_hole = true;
    world_at(self->world, until_ms, notice, link, link->connection);
}

void net_open(net_link *link) {
    link->wanted = true;
    plan_connect(link);
}

void net_close(net_link *link) {
    link->wanted = false;
    break_link(link, /* broker_dies= */ false);
    link->connection++;
    free_list(&link->waiting);
    link->waiting_end = &link->waiting;
    link->waiting_count = 0;
}

void net_broker_appears(net *self) {
    self->broker_there = true;
}

void net_broker_dies(net *self) {
    self->broker_there = false;
    memset(self->ghosts, 0, sizeof(self->ghosts));
    for (size_t i = 0; i < self->links_count; i++) {
        net_packet *read_no_more = self->links[i]->up ? NULL : cut(&self->links[i]->to_broker, 0);
        free_list(&read_no_more);
        break_link(self->links[i], /* broker_dies= */ true);
        plan_connect(self->links[i]);
    }
}

void net_heal(net *self) {
    int64_t now_ms = self->world->boot_ms;
    self->rates = (net_rates){.delay_ms = 2};
    for (size_t i = 0; i < self->links_count; i++) {
        net_link *link = self->links[i];
        link->to_broker.blocked_until_ms = link->to_node.blocked_until_ms = now_ms;
        /* First in, first out: behind what is late all is late. Such a connection does not heal, it ends. */
        if (link->up && (link->deaf || link->to_broker.last_ms > now_ms + LATE_MS ||
                         link->to_node.last_ms > now_ms + LATE_MS))
            net_break(link);
    }
}
