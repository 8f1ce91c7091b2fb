/* pending - tickets in dense slots, and the timing wheel of their deadlines.
 *
 * A ticket's number is generation << 32 | slot. The generation changes with each use of a slot and starts
 * from the broker's instance, so a number from an earlier use, or from an earlier life of the broker, finds
 * nothing.
 *
 * The wheel is a hashed one: bucket = deadline / tick modulo the number of buckets. Insert and remove are
 * O(1); a deadline further away than one revolution stays in its bucket and is looked at once per revolution.
 * A bitmap of buckets in use gives the next wake-up without walking them. A bucket is swept when it has
 * passed as a whole. */
#include "broker/internal.h"

#include <stdlib.h>

enum { TICKETS_FIRST = 1024, SWEEPING = BROKER_WHEEL_BUCKETS };

void broker_pending_init(broker_core *self) {
    broker_pending *pending = &self->pending;
    pending->free_head = BROKER_NONE;
    pending->generation_seed = (uint32_t)(self->seed >> 16) | 1;
    pending->wheel_at = self->now_ms / BROKER_WHEEL_TICK_MS;
    for (uint32_t i = 0; i < COUNT_OF(pending->wheel); i++)
        pending->wheel[i] = BROKER_NONE;
}

void broker_pending_done(broker_core *self) {
    broker_pending *pending = &self->pending;
    for (uint32_t i = 0; i < pending->capacity; i++) {
        broker_frame_free(self, pending->tickets[i].envelope);
        broker_frame_free(self, pending->tickets[i].body);
    }
    free(TAKE(pending->tickets));
    pending->capacity = 0;
}

static bool grow(broker_pending *pending) {
    if (pending->capacity >= BROKER_TICKETS_MAX)
        return false;
    uint32_t capacity = pending->capacity == 0 ? TICKETS_FIRST : pending->capacity * 2;
    broker_ticket *tickets = realloc(pending->tickets, capacity * sizeof *tickets);
    if (tickets == NULL)
        return false;
    memset(tickets + pending->capacity, 0, (capacity - pending->capacity) * sizeof *tickets);
    for (uint32_t i = capacity; i-- > pending->capacity;) {
        tickets[i].generation = pending->generation_seed;
        tickets[i].next = pending->free_head;
        pending->free_head = i;
    }
    pending->tickets = tickets;
    pending->capacity = capacity;
    return true;
}

uint32_t broker_ticket_new(broker_core *self) {
    broker_pending *pending = &self->pending;
    if (pending->free_head == BROKER_NONE && !grow(pending))
        return BROKER_NONE;
    uint32_t index = pending->free_head;
    broker_ticket *ticket = &pending->tickets[index];
    ASSERT(ticket->state == BROKER_FREE);
    pending->free_head = ticket->next;
    pending->used++;
    /* Only what is read before it is set: this runs for every message. A free ticket holds no frames. */
    ticket->is_send = ticket->answered = false;
    ticket->role = 0;
    ticket->command_size = 0;
    ticket->bytes = 0;
    ticket->lane = ticket->actor = ticket->share = BROKER_NONE;
    ticket->next = ticket->prev = BROKER_NONE;
    ticket->wheel_bucket = ticket->wheel_next = ticket->wheel_prev = BROKER_NONE;
    return index;
}

void broker_ticket_free(broker_core *self, uint32_t index) {
    broker_pending *pending = &self->pending;
    broker_ticket *ticket = broker_ticket_at(self, index);
    broker_wheel_remove(self, index);
    broker_frame_free(self, ticket->envelope);
    broker_frame_free(self, ticket->body);
    ticket->envelope = ticket->body = (broker_frame){0};
    ticket->state = BROKER_FREE;
    ticket->generation++;
    ticket->next = pending->free_head;
    pending->free_head = index;
    ASSERT(pending->used > 0);
    pending->used--;
}

broker_ticket *broker_ticket_at(broker_core *self, uint32_t index) {
    ASSERT(index < self->pending.capacity);
    return &self->pending.tickets[index];
}

uint64_t broker_ticket_number(broker_core *self, uint32_t index) {
    return (uint64_t)broker_ticket_at(self, index)->generation << 32 | index;
}

uint32_t broker_ticket_find(broker_core *self, uint64_t number) {
    uint32_t index = (uint32_t)number;
    if (index >= self->pending.capacity)
        return BROKER_NONE;
    const broker_ticket *ticket = &self->pending.tickets[index];
    if (ticket->state == BROKER_FREE || ticket->generation != (uint32_t)(number >> 32))
        return BROKER_NONE;
    return index;
}

void broker_list_push(broker_core *self, broker_list *list, uint32_t index) {
    broker_ticket *ticket = broker_ticket_at(self, index);
    ticket->next = BROKER_NONE;
    ticket->prev = list->count == 0 ? BROKER_NONE : list->tail;
    if (list->count == 0)
        list->head = index;
    else
        broker_ticket_at(self, list->tail)->next = index;
    list->tail = index;
    list->count++;
}

void broker_list_remove(broker_core *self, broker_list *list, uint32_t index) {
    broker_ticket *ticket = broker_ticket_at(self, index);
    ASSERT(list->count > 0);
    if (ticket->prev == BROKER_NONE)
        list->head = ticket->next;
    else
        broker_ticket_at(self, ticket->prev)->next = ticket->next;
    if (ticket->next == BROKER_NONE)
        list->tail = ticket->prev;
    else
        broker_ticket_at(self, ticket->next)->prev = ticket->prev;
    ticket->next = ticket->prev = BROKER_NONE;
    list->count--;
}

static void wheel_link(broker_core *self, uint32_t index, uint32_t bucket) {
    broker_pending *pending = &self->pending;
    broker_ticket *ticket = broker_ticket_at(self, index);
    ticket->wheel_bucket = bucket;
    ticket->wheel_prev = BROKER_NONE;
    ticket->wheel_next = pending->wheel[bucket];
    if (ticket->wheel_next != BROKER_NONE)
        broker_ticket_at(self, ticket->wheel_next)->wheel_prev = index;
    pending->wheel[bucket] = index;
    if (bucket != SWEEPING)
        pending->wheel_bits[bucket / 64] |= (uint64_t)1 << (bucket % 64);
}

void broker_wheel_insert(broker_core *self, uint32_t index) {
    broker_ticket *ticket = broker_ticket_at(self, index);
    ASSERT(ticket->wheel_bucket == BROKER_NONE);
    int64_t number = ticket->deadline_ms / BROKER_WHEEL_TICK_MS;
    if (number <= self->pending.wheel_at)
        number = self->pending.wheel_at + 1;
    wheel_link(self, index, (uint32_t)(number % BROKER_WHEEL_BUCKETS));
}

void broker_wheel_remove(broker_core *self, uint32_t index) {
    broker_pending *pending = &self->pending;
    broker_ticket *ticket = broker_ticket_at(self, index);
    uint32_t bucket = ticket->wheel_bucket;
    if (bucket == BROKER_NONE)
        return;
    if (ticket->wheel_prev == BROKER_NONE)
        pending->wheel[bucket] = ticket->wheel_next;
    else
        broker_ticket_at(self, ticket->wheel_prev)->wheel_next = ticket->wheel_next;
    if (ticket->wheel_next != BROKER_NONE)
        broker_ticket_at(self, ticket->wheel_next)->wheel_prev = ticket->wheel_prev;
    if (bucket != SWEEPING && pending->wheel[bucket] == BROKER_NONE)
        pending->wheel_bits[bucket / 64] &= ~((uint64_t)1 << (bucket % 64));
    ticket->wheel_bucket = ticket->wheel_next = ticket->wheel_prev = BROKER_NONE;
}

/* What expires may unlink any other ticket, so the bucket is first moved aside and then taken from its head.
 */
static void sweep_bucket(broker_core *self, uint32_t bucket) {
    broker_pending *pending = &self->pending;
    ASSERT(pending->wheel[SWEEPING] == BROKER_NONE);
    while (pending->wheel[bucket] != BROKER_NONE) {
        uint32_t index = pending->wheel[bucket];
        broker_wheel_remove(self, index);
        wheel_link(self, index, SWEEPING);
    }
    while (pending->wheel[SWEEPING] != BROKER_NONE) {
        uint32_t index = pending->wheel[SWEEPING];
        broker_wheel_remove(self, index);
        if (broker_ticket_at(self, index)->deadline_ms > self->now_ms)
            broker_wheel_insert(self, index);
        else
            broker_expired(self, index);
    }
}

void broker_wheel_sweep(broker_core *self) {
    broker_pending *pending = &self->pending;
    int64_t to = self->now_ms / BROKER_WHEEL_TICK_MS - 1;
    if (to <= pending->wheel_at)
        return;
    int64_t from = pending->wheel_at + 1;
    if (to - from >= BROKER_WHEEL_BUCKETS)
        from = to - BROKER_WHEEL_BUCKETS + 1;
    pending->wheel_at = to;
    for (int64_t number = from; number <= to; number++) {
        uint32_t bucket = (uint32_t)(number % BROKER_WHEEL_BUCKETS);
        if ((pending->wheel_bits[bucket / 64] >> (bucket % 64) & 1) != 0)
            sweep_bucket(self, bucket);
    }
}

int64_t broker_wheel_next_ms(const broker_core *self) {
    const broker_pending *pending = &self->pending;
    uint32_t start = (uint32_t)((pending->wheel_at + 1) % BROKER_WHEEL_BUCKETS);
    /* One word more than there are: the first is looked at again for the buckets before `start`. */
    for (uint32_t i = 0; i <= BROKER_WHEEL_WORDS; i++) {
        uint32_t word = (start / 64 + i) % BROKER_WHEEL_WORDS;
        uint64_t bits = pending->wheel_bits[word];
        if (i == 0)
            bits &= ~(uint64_t)0 << (start % 64);
        if (bits == 0)
            continue;
        uint32_t bucket = word * 64 + (uint32_t)__builtin_ctzll(bits);
        uint32_t distance = (bucket + BROKER_WHEEL_BUCKETS - start) % BROKER_WHEEL_BUCKETS;
        return (pending->wheel_at + 1 + (int64_t)distance + 1) * BROKER_WHEEL_TICK_MS;
    }
    return INT64_MAX;
}
