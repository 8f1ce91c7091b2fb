#include "proto/client/merge.h"
#include "proto/base/plant.h"

enum { READ_FIRST_MS = 250, READ_MAX_MS = 5000, READ_AFTER_FAILURE_MS = 500 };

/* The highest number that can be asked after. A higher one is no event's, and the next would not be one. */
#define SEQ_MAX ((uint64_t)INT64_MAX)

client_merge client_merge_of(uint64_t after_seq, int64_t boot_ms) {
    return (client_merge){
        .next = after_seq == UINT64_MAX ? 0 : after_seq + 1,
        .read_due_ms = boot_ms,
        .read_wait_ms = READ_FIRST_MS,
    };
}

bool client_merge_live(client_merge *self, uint64_t seq, int64_t boot_ms) {
    if (self->next != 0 && seq == self->next && seq <= SEQ_MAX) {
        self->next++;
        return true;
    }
    if (seq > self->next && seq <= SEQ_MAX) {
        if (seq > self->seen_max)
            self->seen_max = seq;
        self->read_due_ms = boot_ms;
    }
    return false;
}

void client_merge_reconnected(client_merge *self, int64_t boot_ms) {
    self->read_due_ms = boot_ms;
    self->read_wait_ms = READ_FIRST_MS;
}

bool client_merge_read(client_merge *self, int64_t boot_ms, uint64_t *ret_after) {
    if (self->reading || boot_ms < self->read_due_ms)
        return false;
    self->reading = true;
    *ret_after = self->next == 0 ? INT64_MAX : self->next - 1;
    /* What comes live while the page is under way makes another read due; until then none is. */
    self->read_due_ms = INT64_MAX;
    return true;
}

bool client_merge_page_event(client_merge *self, uint64_t seq) {
    if (self->next == 0 || seq > SEQ_MAX || (seq < self->next && !PLANT(merge_repeats)))
        return false;
    self->next = seq + 1;
    return true;
}

void client_merge_page_end(client_merge *self, bool delivered, bool more, uint64_t last_seq,
                           int64_t boot_ms) {
    self->reading = false;
    if (last_seq > SEQ_MAX)
        last_seq = 0;
    /* A last page has shown all there is up to the head; what was not in it has been removed by retention. */
    if (!more && self->next <= last_seq)
        self->next = last_seq + 1;
    if (delivered && (more || self->next <= self->seen_max)) {
        self->read_due_ms = boot_ms;
        return;
    }
    if (!delivered)
        self->seen_max = 0; /* a number that cannot be read is no reason to ask without pause */
    self->read_wait_ms = delivered ? READ_FIRST_MS : self->read_wait_ms * 2;
    if (self->read_wait_ms > READ_MAX_MS)
        self->read_wait_ms = READ_MAX_MS;
    self->read_due_ms = boot_ms + self->read_wait_ms;
}

void client_merge_page_failed(client_merge *self, int64_t boot_ms) {
    self->reading = false;
    self->read_due_ms = boot_ms + READ_AFTER_FAILURE_MS;
}

int64_t client_merge_next_wake(const client_merge *self) {
    return self->reading ? INT64_MAX : self->read_due_ms;
}
