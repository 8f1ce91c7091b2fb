/* merge - one session's events of one actor, from two sources, to the reader once and in order.
 *
 * The live stream is fast but may miss events (not yet connected, full queue, broker gone). Reading
 * `<service>.events` is sure but asked for. The subscriber goes live first, then reads from the last number
 * it knows: live event == next     delivered live event <  next     seen before: dropped live event >  next
 * something was missed: dropped, and a read is due at once, which brings it again event of a page >= next
 * delivered; the page is the truth, also where retention has removed older events A read is also due at the
 * start, after every new connection, and from time to time while all is quiet (READ_FIRST_MS doubling to
 * READ_MAX_MS), because a lost last event would show no gap. Pure: time is handed in. */
#ifndef STET_CLIENT_MERGE_H
#define STET_CLIENT_MERGE_H

#include "proto/base/base.h"

typedef struct client_merge {
    uint64_t next;     /* number expected next; 0: not known yet, the first page tells ("from now on") */
    uint64_t seen_max; /* highest live number that was dropped as too early */
    bool reading;      /* a page is asked for or being handed out */
    int64_t read_due_ms;
    int64_t read_wait_ms;
} client_merge;

/* after_seq UINT64_MAX: from now on. */
client_merge client_merge_of(uint64_t after_seq, int64_t boot_ms);
/* True when the live event is to be delivered now. */
bool client_merge_live(client_merge *self, uint64_t seq, int64_t boot_ms);
/* A new connection: something may have been missed. */
void client_merge_reconnected(client_merge *self, int64_t boot_ms);
/* True when a page is to be asked for now; *ret_after is what to put into afterSeq. Marks it as asked for. */
bool client_merge_read(client_merge *self, int64_t boot_ms, uint64_t *ret_after);
/* True when this event of a page is to be delivered. */
bool client_merge_page_event(client_merge *self, uint64_t seq);
/* The page is handed out. delivered: any of it; more: the actor has further ones; last_seq: the session's
 * head. */
void client_merge_page_end(client_merge *self, bool delivered, bool more, uint64_t last_seq, int64_t boot_ms);
/* The read failed: ask again later. */
void client_merge_page_failed(client_merge *self, int64_t boot_ms);
/* When the next read is due; INT64_MAX while one is under way. */
int64_t client_merge_next_wake(const client_merge *self);

#endif
