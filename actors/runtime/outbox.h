/* outbox - the sending end of the channels to other actors.
 *
 * A message is a row, written in the commit that caused it; its number in the channel comes from the head
 * row. After that commit it is sent, at most OUTBOX_WINDOW unacknowledged at a time, and sent again until the
 * receiver's cumulative acknowledgement deletes it. In memory stands only what is in flight: a restart goes
 * on from the mark.
 *
 *       acked           sent            released          given
 *   ------|---in flight---|---waiting-------|--not durable--|
 *
 *   progress  an ack above `acked`: window wide open, patience full
 *   refusal   error from the broker or the receiver: back to `acked`, wait 100 ms, then 200, ... 5 s, try
 * with ONE message silence   nothing for 2 s with something in flight: the same without the wait
 *
 * Numbers in the rows never repeat. On the wire they count from 1 in each epoch of the sender: wire = row -
 * base, where base is what was acked when the epoch began. Thread: the loop's. Limits: OUTBOX_ROWS_MAX rows
 * or OUTBOX_BYTES_MAX bytes a receiver, then STET_BUSY. */
#ifndef STET_OUTBOX_H
#define STET_OUTBOX_H

#include "actors/runtime/turn.h"

enum {
    OUTBOX_ROWS_MAX = 100000,
    OUTBOX_BYTES_MAX = 64 << 20,
    OUTBOX_WINDOW = 64,
    OUTBOX_CHANNELS_MAX = 32,
    OUTBOX_ACK_ROWS_MAX = 1024,
    OUTBOX_BACKOFF_FIRST_MS = 100,
    OUTBOX_BACKOFF_MAX_MS = 5000,
    OUTBOX_SILENCE_MS = 2000
};

/* OUTBOX_HEADS [1, epoch, base, given, acked, bytes waiting] */
typedef struct stet_outbox_head {
    uint64_t epoch, base, given, acked, bytes;
} stet_outbox_head;

/* OUTBOX [1, id, command, body] */
typedef struct stet_outbox_row {
    stet_id id;
    stet_str command, body;
} stet_outbox_row;

typedef struct stet_channel {
    char receiver[STET_SERVICE_SIZE_MAX + 1];
    uint64_t base, acked, sent, released;
    int64_t blocked_boot_ms;  /* nothing is sent before */
    int64_t progress_boot_ms; /* last send into silence, or last progress */
    uint32_t backoff_ms;      /* 0 while the channel works */
    bool damaged;             /* a row is missing: said once, nothing more is sent */
} stet_channel;

typedef struct stet_outbox {
    stet_channel channels[OUTBOX_CHANNELS_MAX];
    size_t count;
} stet_outbox;

NODISCARD
bool stet_outbox_head_decode(stet_str value, stet_outbox_head *ret);
NODISCARD
bool stet_outbox_row_decode(stet_str value, stet_outbox_row *ret);
stet_key stet_outbox_row_key(stet_str receiver, uint64_t sequence);
NODISCARD
stet_code stet_outbox_head_read(stet_turn *turn, stet_str receiver, stet_outbox_head *ret, stet_error *e);

/* First turn: what waits, and the new base where the epoch has changed. */
NODISCARD
stet_code stet_outbox_load(stet_outbox *self, stet_turn *turn, stet_error *e);
/* After the commit of a message: sends it at once when it is its turn, or leaves it to the pump. */
void stet_outbox_release(stet_outbox *self, const stet_turn *turn, const stet_effects *effects, size_t index,
                         const stet_core_edge *edge);
/* In a turn: deletes what the receiver has. *ret_lost: the receiver has more than was ever given, so this
 * store has lost what was acknowledged. */
NODISCARD
stet_code stet_outbox_ack(stet_outbox *self, stet_turn *turn, const stet_envelope *ack, bool *ret_lost,
                          stet_error *e);
/* A send was refused on its way or by its receiver. True when that is news. */
bool stet_outbox_refused(stet_outbox *self, const stet_turn *turn, stet_str receiver);
/* Sends what may be sent, and again what was not acknowledged. Outside of any message. */
NODISCARD
stet_code stet_outbox_pump(stet_outbox *self, stet_turn *turn, const stet_core_edge *edge, stet_error *e);
int64_t stet_outbox_wake_boot_ms(const stet_outbox *self);
/* {receiver: {pending, acked}} */
NODISCARD
stet_code stet_outbox_stats(stet_turn *turn, stet_buf *b, stet_error *e);

#endif
