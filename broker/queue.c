/* queue - one bounded queue per lane, and who holds how much of it.
 *
 * A lane takes queue_max messages and queue_bytes bytes; one peer may hold half of either, so that a single
 * client that floods a service leaves room for the others. A share exists only while its peer has something
 * queued; the ticket remembers it, so leaving the queue needs no look-up. */
#include "broker/internal.h"

#include <stdlib.h>

enum {
    SHARES_FIRST = 256,
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 1000,
    RETRY_UNKNOWN_MS = 250,
    DRAIN_WINDOW_MS = 1000
};

void broker_shares_init(broker_core *self) {
    self->shares.free_head = BROKER_NONE;
    for (uint32_t i = 0; i < BROKER_SHARE_BUCKETS; i++)
        self->shares.buckets[i] = BROKER_NONE;
}

void broker_shares_done(broker_core *self) {
    free(TAKE(self->shares.shares));
    self->shares.capacity = 0;
}

static uint32_t *share_bucket(broker_core *self, const broker_peer *peer, uint32_t lane) {
    uint64_t hash = broker_hash(self->seed + lane, peer->id, peer->size);
    return &self->shares.buckets[hash % BROKER_SHARE_BUCKETS];
}

static uint32_t share_new(broker_core *self) {
    broker_shares *shares = &self->shares;
    if (shares->free_head == BROKER_NONE) {
        uint32_t capacity = shares->capacity == 0 ? SHARES_FIRST : shares->capacity * 2;
        broker_share *grown = realloc(shares->shares, capacity * sizeof *grown);
        if (grown == NULL)
            return BROKER_NONE;
        for (uint32_t i = capacity; i-- > shares->capacity;) {
            grown[i].next = shares->free_head;
            shares->free_head = i;
        }
        shares->shares = grown;
        shares->capacity = capacity;
    }
    uint32_t index = shares->free_head;
    shares->free_head = shares->shares[index].next;
    return index;
}

/* At most one share a ticket, so the table is bounded by the tickets. */
static uint32_t share_get(broker_core *self, const broker_ticket *ticket, uint32_t lane) {
    broker_shares *shares = &self->shares;
    uint32_t *bucket = share_bucket(self, &ticket->from, lane);
    for (uint32_t i = *bucket; i != BROKER_NONE; i = shares->shares[i].next) {
        const broker_share *share = &shares->shares[i];
        if (share->lane == lane && share->back == ticket->is_send &&
            broker_peer_equal(&share->peer, &ticket->from))
            return i;
    }
    uint32_t index = share_new(self);
    if (index == BROKER_NONE)
        return BROKER_NONE;
    shares->shares[index] = (broker_share){
        .peer = ticket->from, .back = ticket->is_send, .lane = lane, .count = 0, .next = *bucket, .bytes = 0};
    *bucket = index;
    return index;
}

static void share_free_if_empty(broker_core *self, uint32_t index) {
    broker_shares *shares = &self->shares;
    broker_share *share = &shares->shares[index];
    if (share->count > 0)
        return;
    ASSERT(share->bytes == 0);
    uint32_t *link = share_bucket(self, &share->peer, share->lane);
    while (*link != index) {
        ASSERT(*link != BROKER_NONE);
        link = &shares->shares[*link].next;
    }
    *link = share->next;
    share->next = shares->free_head;
    shares->free_head = index;
}

uint32_t broker_queue_retry_ms(const broker_lane *lane) {
    if (lane->drain_rate == 0)
        return RETRY_UNKNOWN_MS;
    /* Until about half of what waits has gone. */
    uint64_t wait_ms = (uint64_t)lane->queue.count * 500 / lane->drain_rate;
    if (wait_ms < RETRY_MIN_MS)
        return RETRY_MIN_MS;
    return wait_ms > RETRY_MAX_MS ? RETRY_MAX_MS : (uint32_t)wait_ms;
}

void broker_queue_drained(broker_core *self, broker_lane *lane) {
    int64_t elapsed_ms = self->now_ms - lane->drain_since_ms;
    if (elapsed_ms >= DRAIN_WINDOW_MS) {
        uint64_t rate = (uint64_t)lane->drained * 1000 / (uint64_t)elapsed_ms;
        lane->drain_rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate;
        lane->drained = 0;
        lane->drain_since_ms = self->now_ms;
    }
    lane->drained++;
}

static stet_code busy(const broker_lane *lane, stet_error *e, const char *reason) {
    stet_code rc = stet_error_set(e, STET_BUSY, "%s; wait and resend with the same id", reason);
    if (e != NULL)
        e->retry_after_ms = broker_queue_retry_ms(lane);
    return rc;
}

stet_code broker_queue_push(broker_core *self, uint32_t lane_index, uint32_t index, stet_error *e) {
    broker_lane *lane = &self->registry.lanes[lane_index];
    broker_ticket *ticket = broker_ticket_at(self, index);
    const broker_options *options = &self->options;
    if (lane->queue.count >= options->queue_max)
        return busy(lane, e, "the service's queue is full");
    if (lane->queue.count > 0 && lane->queue_bytes + ticket->bytes > options->queue_bytes)
        return busy(lane, e, "the service's queue holds too many bytes");
    uint32_t share_index = share_get(self, ticket, lane_index);
    if (share_index == BROKER_NONE)
        return busy(lane, e, "the broker is out of memory");
    broker_share *share = &self->shares.shares[share_index];
    uint32_t count_max = options->queue_max / 2 > 0 ? options->queue_max / 2 : 1;
    if (share->count >= count_max)
        return busy(lane, e, "half of the service's queue is already yours");
    if (share->count > 0 && share->bytes + ticket->bytes > options->queue_bytes / 2)
        return busy(lane, e, "half of the service's queue is already yours, by bytes");
    share->count++;
    share->bytes += ticket->bytes;
    ticket->share = share_index;
    ticket->lane = lane_index;
    ticket->state = BROKER_QUEUED;
    lane->queue_bytes += ticket->bytes;
    broker_list_push(self, &lane->queue, index);
    broker_count(self, BROKER_COUNT_QUEUED);
    return STET_OK;
}

void broker_queue_remove(broker_core *self, uint32_t index) {
    broker_ticket *ticket = broker_ticket_at(self, index);
    ASSERT(ticket->state == BROKER_QUEUED);
    broker_lane *lane = &self->registry.lanes[ticket->lane];
    broker_share *share = &self->shares.shares[ticket->share];
    ASSERT(share->count > 0 && lane->queue_bytes >= ticket->bytes);
    share->count--;
    share->bytes -= ticket->bytes;
    share_free_if_empty(self, ticket->share);
    ticket->share = BROKER_NONE;
    lane->queue_bytes -= ticket->bytes;
    broker_list_remove(self, &lane->queue, index);
}

int64_t broker_queue_oldest_ms(broker_core *self) {
    int64_t oldest_ms = 0;
    for (uint32_t i = 0; i < self->registry.lanes_count; i++) {
        const broker_lane *lane = &self->registry.lanes[i];
        if (lane->queue.count == 0)
            continue;
        int64_t waited_ms = self->now_ms - broker_ticket_at(self, lane->queue.head)->received_ms;
        if (waited_ms > oldest_ms)
            oldest_ms = waited_ms;
    }
    return oldest_ms;
}
