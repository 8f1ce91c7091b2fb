#include "actors/runtime/outbox.h"
#include "proto/base/fault.h"
#include "proto/base/plant.h"

/* ---- rows ---- */

bool stet_outbox_head_decode(stet_str value, stet_outbox_head *ret) {
    stet_mp_reader r;
    if (!stet_turn_row_open(value, 6, &r))
        return false;
    ret->epoch = stet_mp_read_uint(&r);
    ret->base = stet_mp_read_uint(&r);
    ret->given = stet_mp_read_uint(&r);
    ret->acked = stet_mp_read_uint(&r);
    ret->bytes = stet_mp_read_uint(&r);
    return !r.failed && ret->base <= ret->acked && ret->acked <= ret->given && ret->given < INT64_MAX;
}

bool stet_outbox_row_decode(stet_str value, stet_outbox_row *ret) {
    stet_mp_reader r;
    if (!stet_turn_row_open(value, 4, &r))
        return false;
    stet_str id = stet_mp_read_bin(&r);
    ret->command = stet_mp_read_str(&r);
    ret->body = stet_mp_read_bin(&r);
    return !r.failed && stet_id_from_bytes(id, &ret->id) &&
           stet_name_valid(ret->command, STET_COMMAND_SIZE_MAX);
}

static stet_key head_key(stet_str receiver) {
    stet_key key = stet_key_of(STET_TABLE_OUTBOX_HEADS);
    stet_key_str(&key, receiver);
    stet_key_u64(&key, 0); /* partition of the receiver */
    return key;
}

stet_key stet_outbox_row_key(stet_str receiver, uint64_t sequence) {
    stet_key key = stet_key_of(STET_TABLE_OUTBOX);
    stet_key_str(&key, receiver);
    stet_key_u64(&key, 0);
    stet_key_u64(&key, sequence);
    return key;
}

stet_code stet_outbox_head_read(stet_turn *turn, stet_str receiver, stet_outbox_head *ret, stet_error *e) {
    stet_key key = head_key(receiver);
    stet_str value;
    bool found;
    *ret = (stet_outbox_head){.epoch = stet_store_epoch(turn->store)};
    stet_code rc = stet_turn_row_find(turn, &key, &value, &found, e);
    if (found && !stet_outbox_head_decode(value, ret))
        rc = stet_turn_row_damaged(e, "outboxHeads");
    return rc;
}

/* Calls `visit` with each head that is stored. */
static stet_code each_head(stet_turn *turn,
                           stet_code (*visit)(void *context, stet_turn *turn, stet_str receiver,
                                              stet_outbox_head *head, stet_error *e),
                           void *context, stet_error *e) {
    stet_key prefix = stet_key_of(STET_TABLE_OUTBOX_HEADS);
    stet_str key, value;
    CLEANUP(stet_scan_done)
    stet_scan *scan = stet_turn_scan(turn, stet_key_bytes(&prefix), (stet_str){NULL, 0}, false, e);
    if (!scan)
        return STET_BUSY;
    while (stet_scan_next(scan, &key, &value)) {
        char name[STET_KEY_BYTES_MAX];
        stet_key_reader r;
        stet_outbox_head head;
        stet_str receiver = stet_key_open_named(key, name, &r);
        uint64_t partition = stet_key_read_u64(&r);
        bool good = !r.failed && r.at == r.end && partition == 0 &&
                    stet_name_valid(receiver, STET_SERVICE_SIZE_MAX) && stet_outbox_head_decode(value, &head);
        stet_code rc =
            good ? visit(context, turn, receiver, &head, e) : stet_turn_row_damaged(e, "outboxHeads");
        if (rc != STET_OK)
            return rc;
    }
    return stet_scan_status(scan, e);
}

static void head_put(stet_turn *turn, stet_str receiver, const stet_outbox_head *head) {
    stet_key key = head_key(receiver);
    stet_buf *row = stet_turn_row_new(turn, 6);
    stet_mp_uint(row, head->epoch);
    stet_mp_uint(row, head->base);
    stet_mp_uint(row, head->given);
    stet_mp_uint(row, head->acked);
    stet_mp_uint(row, head->bytes);
    stet_turn_row_put(turn, &key);
}

/* ---- giving ---- */

static stet_envelope send_envelope(const stet_turn *turn, stet_id id, stet_str command, uint64_t sequence) {
    return (stet_envelope){.kind = STET_KIND_SEND,
                           .id = id,
                           .command = command,
                           .service = stet_str_of(turn->service->name),
                           .partition = turn->partition,
                           .epoch = stet_store_epoch(turn->store),
                           .sequence = sequence};
}

static void send_effect(stet_turn *turn, const stet_envelope *envelope, stet_str receiver, stet_str body,
                        uint64_t sequence) {
    stet_effects *effects = turn->effects;
    effects_slice a = {effects->bytes.size, 0};
    stet_envelope_encode(envelope, &effects->bytes);
    a.size = effects->bytes.size - a.offset;
    effects_slice b = stet_effects_store(effects, receiver);
    effects_slice c = stet_effects_store(effects, body);
    effects_item *item = stet_effects_add(effects, EFFECTS_SEND);
    if (!item)
        return;
    item->a = a;
    item->b = b;
    item->c = c;
    item->number = (int64_t)sequence;
}

static stet_code check_send(stet_turn *turn, const char *command, stet_str body, stet_error *e) {
    const stet_command *row = stet_command_find(stet_str_of(command));
    if (!row)
        return stet_error_set(e, STET_INTERNAL, "there is no command %s to send", command);
    return stet_body_decode(row, body, turn->send_struct, e);
}

stet_code stet_turn_send(stet_turn *turn, const char *command, stet_str body, stet_error *e) {
    stet_str receiver = stet_command_service(stet_str_of(command));
    stet_outbox_head head;
    stet_code rc = check_send(turn, command, body, e);
    if (rc == STET_OK)
        rc = stet_outbox_head_read(turn, receiver, &head, e);
    /* Whoever goes on when the outbox is full must not go on now. */
    if (rc == STET_BUSY)
        stet_turn_fail(turn, /* starved= */ true);
    if (rc != STET_OK)
        return rc;
    if (head.given - head.acked >= OUTBOX_ROWS_MAX || head.bytes + body.size > OUTBOX_BYTES_MAX) {
        rc = stet_error_set(e, STET_BUSY, "too much waits for %.*s; look whether it runs",
                            STET_STR_ARG(receiver));
        if (e)
            e->retry_after_ms = 1000;
        return rc;
    }
    stet_id id = stet_turn_new_id(turn);
    head.given++;
    stet_key key = stet_outbox_row_key(receiver, head.given);
    stet_buf *row = stet_turn_row_new(turn, 4);
    stet_mp_bin(row, id.bytes, sizeof(id.bytes));
    stet_mp_cstr(row, command);
    stet_mp_bin(row, body.data, body.size);
    head.bytes += row->size;
    if (!PLANT(outbox_row_forgotten) || head.given % 4 != 0)
        stet_turn_row_put(turn, &key);
    head_put(turn, receiver, &head);
    stet_envelope envelope = send_envelope(turn, id, stet_str_of(command), head.given - head.base);
    send_effect(turn, &envelope, receiver, body, head.given);
    stet_turn_count(turn, "outbox.given", 1);
    return STET_OK;
}

/* ---- channels in memory ---- */

static stet_channel *find_channel(stet_outbox *self, stet_str receiver) {
    for (size_t i = 0; i < self->count; i++) {
        if (stet_str_is(receiver, self->channels[i].receiver))
            return &self->channels[i];
    }
    return NULL;
}

static stet_channel *new_channel(stet_outbox *self, stet_str receiver, const stet_outbox_head *head) {
    /* Receivers are services of our own command table: far fewer than there is room for. */
    ASSERT(self->count < OUTBOX_CHANNELS_MAX);
    ASSERT(receiver.size <= STET_SERVICE_SIZE_MAX);
    stet_channel *channel = &self->channels[self->count++];
    *channel = (stet_channel){
        .base = head->base, .acked = head->acked, .sent = head->acked, .released = head->given};
    memcpy(channel->receiver, receiver.data, receiver.size);
    return channel;
}

static stet_code load_channel(void *context, stet_turn *turn, stet_str receiver, stet_outbox_head *head,
                              stet_error *e) {
    stet_outbox *self = context;
    uint64_t epoch = stet_store_epoch(turn->store);
    if (self->count == OUTBOX_CHANNELS_MAX)
        return stet_turn_row_damaged(e, "outboxHeads");
    if (head->epoch != epoch) {
        head->epoch = epoch;
        head->base = head->acked;
        head_put(turn, receiver, head);
    }
    if (PLANT(sequence_reused)) {
        head->given = head->acked;
        head_put(turn, receiver, head);
    }
    (void)new_channel(self, receiver, head);
    return STET_OK;
}

stet_code stet_outbox_load(stet_outbox *self, stet_turn *turn, stet_error *e) {
    return each_head(turn, load_channel, self, e);
}

static bool may_send(const stet_channel *channel, int64_t boot_ms) {
    uint64_t window = channel->backoff_ms ? 1 : OUTBOX_WINDOW;
    return !channel->damaged && channel->sent < channel->released &&
           channel->sent - channel->acked < window && channel->blocked_boot_ms <= boot_ms;
}

static void block(stet_channel *channel, int64_t boot_ms) {
    uint32_t next = channel->backoff_ms ? channel->backoff_ms * 2 : OUTBOX_BACKOFF_FIRST_MS;
    channel->backoff_ms = next > OUTBOX_BACKOFF_MAX_MS ? OUTBOX_BACKOFF_MAX_MS : next;
    channel->blocked_boot_ms = boot_ms + channel->backoff_ms;
    channel->sent = channel->acked;
}

static void sent_one(stet_channel *channel, int64_t boot_ms, bool queued) {
    if (!queued) {
        block(channel, boot_ms);
        return;
    }
    if (channel->sent == channel->acked)
        channel->progress_boot_ms = boot_ms;
    channel->sent++;
}

void stet_outbox_release(stet_outbox *self, const stet_turn *turn, const stet_effects *effects, size_t index,
                         const stet_core_edge *edge) {
    const effects_item *item = &effects->items[index];
    stet_str receiver = stet_effects_text(effects, item->b);
    uint64_t sequence = (uint64_t)item->number;
    stet_channel *channel = find_channel(self, receiver);
    if (!channel) /* the first message ever to this receiver: number 1, base 0 */
        channel = new_channel(
            self, receiver,
            &(stet_outbox_head){.base = sequence - 1, .acked = sequence - 1, .given = sequence - 1});
    ASSERT(sequence > channel->released);
    channel->released = sequence;
    if (channel->sent + 1 != sequence || !may_send(channel, turn->boot_ms))
        return;
    FAULT(outbox_send_before);
    sent_one(channel, turn->boot_ms,
             edge->send(edge->context, stet_effects_text(effects, item->a), (stet_str){NULL, 0},
                        stet_effects_text(effects, item->c)));
    FAULT(outbox_send_after);
}

/* ---- acknowledgements ---- */

/* Is the message that was acknowledged one of those that wait? Else the ack belongs to another life. */
static bool waits(stet_turn *turn, stet_str receiver, const stet_outbox_head *head, stet_id id) {
    for (uint64_t n = head->acked + 1; n <= head->given && n <= head->acked + OUTBOX_WINDOW; n++) {
        stet_key key = stet_outbox_row_key(receiver, n);
        stet_str value;
        stet_outbox_row row;
        if (stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &value, NULL) == STET_OK &&
            stet_outbox_row_decode(value, &row) && stet_id_equal(row.id, id))
            return true;
    }
    return false;
}

static stet_code delete_rows(stet_turn *turn, stet_str receiver, stet_outbox_head *head, uint64_t mark,
                             stet_error *e) {
    if (mark > head->acked + OUTBOX_ACK_ROWS_MAX)
        mark = head->acked + OUTBOX_ACK_ROWS_MAX; /* the rest goes with the next ack */
    for (uint64_t n = head->acked + 1; n <= mark; n++) {
        stet_key key = stet_outbox_row_key(receiver, n);
        stet_str value;
        bool found;
        stet_code rc = stet_turn_row_find(turn, &key, &value, &found, e);
        if (rc != STET_OK)
            return rc;
        if (found) {
            head->bytes -= value.size < head->bytes ? value.size : head->bytes;
            stet_batch_delete(stet_turn_batch(turn), stet_key_bytes(&key));
        }
    }
    head->acked = mark;
    if (head->acked == head->given)
        head->bytes = 0;
    head_put(turn, receiver, head);
    return STET_OK;
}

stet_code stet_outbox_ack(stet_outbox *self, stet_turn *turn, const stet_envelope *ack, bool *ret_lost,
                          stet_error *e) {
    stet_str receiver = stet_command_service(ack->command);
    stet_channel *channel = find_channel(self, receiver);
    stet_outbox_head head;
    *ret_lost = false;
    if (!channel)
        return STET_OK;
    stet_code rc = stet_outbox_head_read(turn, receiver, &head, e);
    if (rc != STET_OK)
        return rc;
    /* The receiver's number counts from this epoch's base; a wild one must not wrap around. */
    if (ack->sequence > head.given - head.base) {
        *ret_lost = waits(turn, receiver, &head, ack->id);
        return STET_OK;
    }
    uint64_t mark = head.base + ack->sequence;
    if (mark <= head.acked) {
        /* No progress: a repeat, or the receiver misses one. If it lasts, begin again before the silence is
         * over. */
        if (channel->sent > channel->acked && channel->backoff_ms == 0)
            channel->progress_boot_ms -= OUTBOX_SILENCE_MS / OUTBOX_WINDOW;
        return STET_OK;
    }
    rc = delete_rows(turn, receiver, &head, mark, e);
    if (rc != STET_OK || stet_turn_overflowed(turn))
        return rc; /* the rows come back: the channel must not be ahead of them, or nobody sends them again */
    FAULT(outbox_rows_deleted);
    channel->acked = head.acked;
    if (channel->sent < channel->acked)
        channel->sent = channel->acked;
    channel->backoff_ms = 0;
    channel->blocked_boot_ms = 0;
    channel->progress_boot_ms = turn->boot_ms;
    stet_turn_count(turn, "outbox.acked", 1);
    return STET_OK;
}

bool stet_outbox_refused(stet_outbox *self, const stet_turn *turn, stet_str receiver) {
    stet_channel *channel = find_channel(self, receiver);
    /* A whole window may be refused: only the first refusal counts. */
    if (!channel || channel->sent == channel->acked || channel->blocked_boot_ms > turn->boot_ms)
        return false;
    bool news = channel->backoff_ms == 0;
    block(channel, turn->boot_ms);
    return news;
}

/* ---- sending again ---- */

static stet_code send_next(stet_channel *channel, stet_turn *turn, const stet_core_edge *edge,
                           stet_error *e) {
    stet_str receiver = stet_str_of(channel->receiver), value;
    uint64_t sequence = channel->sent + 1;
    stet_key key = stet_outbox_row_key(receiver, sequence);
    stet_outbox_row row;
    bool found;
    stet_code rc = stet_turn_row_find(turn, &key, &value, &found, e);
    if (rc != STET_OK)
        return rc;
    if (!found || !stet_outbox_row_decode(value, &row)) {
        channel->damaged = true;
        edge->log(edge->context, STET_ERROR, "outbox.damaged",
                  "a message of an outbox is missing or cannot be read; run check",
                  (stet_log_field[]){STET_LOG_S("receiver", receiver),
                                     STET_LOG_I("sequence", (int64_t)sequence),
                                     {.name = NULL}});
        return STET_OK;
    }
    stet_envelope envelope = send_envelope(turn, row.id, row.command, sequence - channel->base);
    CLEANUP(stet_buf_done)
    stet_buf frame = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    stet_envelope_encode(&envelope, &frame);
    if (stet_buf_starved(&frame)) { /* as if it could not be queued */
        sent_one(channel, turn->boot_ms, /* queued= */ false);
        return STET_OK;
    }
    ASSERT(stet_buf_ok(&frame));
    FAULT(outbox_resend);
    if (PLANT(outbox_deleted_early))
        stet_batch_delete(stet_turn_batch(turn), stet_key_bytes(&key));
    sent_one(channel, turn->boot_ms,
             edge->send(edge->context, stet_buf_str(&frame), (stet_str){NULL, 0}, row.body));
    return STET_OK;
}

stet_code stet_outbox_pump(stet_outbox *self, stet_turn *turn, const stet_core_edge *edge, stet_error *e) {
    stet_code rc = STET_OK;
    for (size_t i = 0; i < self->count && rc == STET_OK; i++) {
        stet_channel *channel = &self->channels[i];
        if (channel->sent > channel->acked && !PLANT(outbox_never_again) &&
            channel->progress_boot_ms + OUTBOX_SILENCE_MS <= turn->boot_ms) {
            block(channel, turn->boot_ms);
            channel->blocked_boot_ms = turn->boot_ms; /* the silence was the wait */
            stet_turn_count(turn, "outbox.silence", 1);
        }
        while (rc == STET_OK && may_send(channel, turn->boot_ms))
            rc = send_next(channel, turn, edge, e);
    }
    stet_batch_release_reads(stet_turn_batch(turn));
    return rc;
}

int64_t stet_outbox_wake_boot_ms(const stet_outbox *self) {
    int64_t wake = INT64_MAX;
    for (size_t i = 0; i < self->count; i++) {
        const stet_channel *c = &self->channels[i];
        int64_t at = INT64_MAX;
        if (c->damaged || c->acked == c->released)
            continue;
        if (c->sent > c->acked)
            at = c->progress_boot_ms + OUTBOX_SILENCE_MS;
        if (may_send(c, INT64_MAX) && c->blocked_boot_ms < at)
            at = c->blocked_boot_ms;
        if (at < wake)
            wake = at;
    }
    return wake;
}

typedef struct stats {
    stet_buf *b;
    uint32_t count;
} stats;

static stet_code put_stats(void *context, stet_turn *turn, stet_str receiver, stet_outbox_head *head,
                           stet_error *e) {
    stats *self = context;
    (void)turn;
    (void)e;
    stet_mp_str(self->b, receiver);
    stet_mp_map(self->b, 2);
    stet_mp_put_uint(self->b, "pending", head->given - head->acked);
    stet_mp_put_uint(self->b, "acked", head->acked);
    self->count++;
    return STET_OK;
}

stet_code stet_outbox_stats(stet_turn *turn, stet_buf *b, stet_error *e) {
    stats self = {.b = b};
    size_t mark = stet_mp_open(b);
    stet_code rc = each_head(turn, put_stats, &self, e);
    stet_mp_close_map(b, mark, self.count);
    return rc;
}
