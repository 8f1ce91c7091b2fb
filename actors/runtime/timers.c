/* Durable timers: one row by name, which says when, and one by due time, which is what is looked at. Both are
 * deleted in the turn that fires the timer, so it fires once however often the process dies. */
#include "actors/runtime/records.h"
#include "proto/base/plant.h"

enum { TIMER_NAME_SIZE_MAX = 256, TIMER_PAYLOAD_BYTES_MAX = 64 << 10, TIMER_RETRY_MS = 5000 };

static stet_key name_key(stet_str name) {
    stet_key key = stet_key_of(STET_TABLE_TIMERS);
    stet_key_str(&key, name);
    return key;
}

static stet_key due_key(int64_t due_ms, stet_str name) {
    stet_key key = stet_key_of(STET_TABLE_TIMERS_DUE);
    stet_key_u64(&key, (uint64_t)due_ms);
    stet_key_str(&key, name);
    return key;
}

bool stet_timers_decode(stet_str value, stet_timer_row *ret) {
    stet_mp_reader r;
    if (!stet_turn_row_open(value, 3, &r))
        return false;
    ret->due_ms = stet_mp_read_int(&r);
    ret->payload = stet_mp_read_bin(&r);
    return !r.failed && ret->due_ms >= 0;
}

static stet_code read_timer(stet_turn *turn, stet_str name, stet_timer_row *ret, stet_error *e) {
    stet_key key = name_key(name);
    stet_str value;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &value, e);
    if (rc != STET_OK)
        return rc;
    return stet_timers_decode(value, ret) ? STET_OK : stet_turn_row_damaged(e, "timers");
}

stet_code stet_turn_timer_cancel(stet_turn *turn, stet_str name, stet_error *e) {
    stet_timer_row timer;
    stet_code rc = read_timer(turn, name, &timer, e);
    if (rc == STET_NOT_FOUND)
        return STET_OK;
    if (rc != STET_OK)
        return rc;
    stet_key by_name = name_key(name), by_due = due_key(timer.due_ms, name);
    stet_batch_delete(stet_turn_batch(turn), stet_key_bytes(&by_name));
    stet_batch_delete(stet_turn_batch(turn), stet_key_bytes(&by_due));
    return STET_OK;
}

stet_code stet_turn_timer(stet_turn *turn, stet_str name, int64_t due_wall_ms, stet_str payload,
                          stet_error *e) {
    if (name.size == 0 || name.size > TIMER_NAME_SIZE_MAX)
        return stet_error_set(e, STET_INVALID, "a timer's name has 1 to %d bytes", TIMER_NAME_SIZE_MAX);
    if (payload.size > TIMER_PAYLOAD_BYTES_MAX)
        return stet_error_set(e, STET_TOO_LARGE, "a timer's payload has %d bytes at most",
                              TIMER_PAYLOAD_BYTES_MAX);
    stet_code rc = stet_turn_timer_cancel(turn, name, e);
    if (rc != STET_OK)
        return rc;
    int64_t due_ms = due_wall_ms < 0 ? 0 : due_wall_ms;
    stet_key by_name = name_key(name), by_due = due_key(due_ms, name);
    stet_buf *row = stet_turn_row_new(turn, 3);
    stet_mp_int(row, due_ms);
    stet_mp_bin(row, payload.data, payload.size);
    stet_turn_row_put(turn, &by_name);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&by_due), (stet_str){NULL, 0});
    if (due_ms < turn->timers_wall_ms)
        turn->timers_wall_ms = due_ms;
    return STET_OK;
}

stet_code stet_timers_next(stet_turn *turn, char *ret_name, size_t *ret_size, stet_error *e) {
    stet_key prefix = stet_key_of(STET_TABLE_TIMERS_DUE);
    stet_str key, value;
    uint8_t table;
    *ret_size = 0;
    CLEANUP(stet_scan_done)
    stet_scan *scan = stet_turn_scan(turn, stet_key_bytes(&prefix), (stet_str){NULL, 0}, false, e);
    if (!scan)
        return STET_BUSY;
    if (!stet_scan_next(scan, &key, &value)) {
        turn->timers_wall_ms = INT64_MAX;
        return stet_scan_status(scan, e);
    }
    stet_key_reader r = stet_key_reader_of(key, &table);
    int64_t due_ms = (int64_t)stet_key_read_u64(&r);
    size_t size = stet_key_read_str(&r, ret_name, STET_KEY_BYTES_MAX);
    if (r.failed)
        return stet_turn_row_damaged(e, "timersDue");
    turn->timers_wall_ms = due_ms;
    if (due_ms <= turn->wall_ms)
        *ret_size = size;
    return STET_OK;
}

stet_code stet_timers_fire(stet_turn *turn, stet_str name, stet_error *e) {
    stet_timer_row timer;
    stet_code rc = read_timer(turn, name, &timer, e);
    if (rc != STET_OK)
        return rc == STET_NOT_FOUND ? stet_turn_row_damaged(e, "timersDue") : rc;
    rc = PLANT(timer_stays) ? stet_timers_postpone(turn, name, e) : stet_turn_timer_cancel(turn, name, e);
    if (rc != STET_OK)
        return rc;
    stet_turn_count(turn, "timers.fired", 1);
    if (!turn->service->timer)
        return STET_OK;
    return turn->service->timer(turn, name, timer.payload, e);
}

stet_code stet_timers_postpone(stet_turn *turn, stet_str name, stet_error *e) {
    stet_timer_row timer;
    stet_code rc = read_timer(turn, name, &timer, e);
    if (rc != STET_OK)
        return rc;
    return stet_turn_timer(turn, name, turn->wall_ms + TIMER_RETRY_MS, timer.payload, e);
}
