/* The receiving end of a channel: how far it has been applied. A mark belongs to one epoch of the sender,
 * because a sender restored from a backup starts a new numbering. */
#include "actors/runtime/records.h"

static stet_key mark_key(const stet_envelope *send) {
    stet_key key = stet_key_of(STET_TABLE_INBOX_MARKS);
    stet_key_str(&key, send->service);
    stet_key_u64(&key, send->partition);
    stet_key_u64(&key, send->epoch);
    return key;
}

bool stet_inbox_decode(stet_str value, uint64_t *ret_mark) {
    stet_mp_reader r;
    if (!stet_turn_row_open(value, 2, &r))
        return false;
    *ret_mark = stet_mp_read_uint(&r);
    return !r.failed;
}

stet_code stet_inbox_mark(stet_turn *turn, const stet_envelope *send, uint64_t *ret_mark, stet_error *e) {
    stet_key key = mark_key(send);
    stet_str value;
    bool found;
    *ret_mark = 0;
    stet_code rc = stet_turn_row_find(turn, &key, &value, &found, e);
    if (found && !stet_inbox_decode(value, ret_mark))
        rc = stet_turn_row_damaged(e, "inboxMarks");
    return rc;
}

void stet_inbox_mark_put(stet_turn *turn, const stet_envelope *send, uint64_t mark) {
    stet_key key = mark_key(send);
    stet_buf *row = stet_turn_row_new(turn, 2);
    stet_mp_uint(row, mark);
    stet_turn_row_put(turn, &key);
}
