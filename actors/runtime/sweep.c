/* Retention: removes what is older than the settings say, a few rows a step, each step a message of a turn.
 *
 * Answers: ids are UUIDv7, so the oldest stand first and an ordinary pass may end after a stretch of rows
 * that stay; every SWEEP_FULL_EVERY-th pass looks at all, for clients whose ids have another order. Events:
 * only a session whose newest event is too old goes, as a whole; its head row stays. *
 * Ages are taken from the wall clock, which can be set forward by a year; then everything would look old at once
 * and the answers of a minute ago would go. So the distance of wall clock and boot clock stands in a row of META.
 * Where it has grown by more than a minute, nothing is removed for as long as answers are kept: whatever was
 * younger than that has then come of age by a clock that nobody sets. A machine that was started anew looks the
 * same, and waits the same. */
#include "actors/runtime/records.h"
#include "proto/base/fault.h"

enum { SWEEP_FULL_EVERY = 60, SWEEP_KEPT_MAX = 4 * SWEEP_ROWS, CLOCK_SLACK_MS = 60000 };

/* ---- the clock ---- */

static stet_key clock_key(void) {
    stet_key key = stet_key_of(STET_TABLE_META);
    stet_key_str(&key, STET_STR("clock"));
    return key;
}

void stet_sweep_time(stet_sweep *sweep, int64_t wall_ms, int64_t boot_ms) {
    int64_t offset_ms = wall_ms - boot_ms, moved_ms = offset_ms - sweep->offset_ms;
    if (moved_ms <= CLOCK_SLACK_MS && moved_ms >= -CLOCK_SLACK_MS)
        return;
    if (moved_ms > 0) {
        sweep->went_forward = true;
        sweep->forward_boot_ms = boot_ms;
    }
    sweep->offset_ms = offset_ms;
    sweep->clock_moved = true;
}

void stet_sweep_clock_write(stet_turn *turn, stet_sweep *sweep) {
    if (!sweep->clock_moved)
        return;
    stet_key key = clock_key();
    stet_buf *row = stet_turn_row_new(turn, 4);
    stet_mp_int(row, sweep->offset_ms);
    stet_mp_bool(row, sweep->went_forward);
    stet_mp_int(row, sweep->forward_boot_ms);
    if (!stet_buf_ok(row))
        return; /* no memory: with the next commit */
    stet_turn_row_put(turn, &key);
    sweep->clock_moved = false;
    bool is_new = sweep->clock_new;
    sweep->clock_new = false;
    if (is_new)
        return;
    stet_turn_log(turn, STET_INFO, "clock.moved", "the clock was set, or the machine started anew",
                  (stet_log_field[]){STET_LOG_I("retention_waits", sweep->went_forward), {.name = NULL}});
}

stet_code stet_sweep_load(stet_turn *turn, stet_sweep *sweep, stet_error *e) {
    stet_key key = clock_key();
    stet_str value;
    stet_mp_reader r;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &value, e);
    if (rc == STET_NOT_FOUND) {
        sweep->offset_ms = turn->wall_ms - turn->boot_ms;
        sweep->clock_moved = sweep->clock_new = true;
        return STET_OK;
    }
    if (rc != STET_OK)
        return rc;
    if (!stet_turn_row_open(value, 4, &r))
        return stet_turn_row_damaged(e, "meta");
    sweep->offset_ms = stet_mp_read_int(&r);
    sweep->went_forward = stet_mp_read_bool(&r);
    sweep->forward_boot_ms = stet_mp_read_int(&r);
    if (r.failed)
        return stet_turn_row_damaged(e, "meta");
    stet_sweep_time(sweep, turn->wall_ms, turn->boot_ms);
    return STET_OK;
}

/* A boot clock that is before the mark is of another start: wait anew, from its beginning. */
static bool is_held(const stet_turn *turn, const stet_sweep *sweep) {
    int64_t since_ms = sweep->forward_boot_ms <= turn->boot_ms ? sweep->forward_boot_ms : 0;
    return sweep->went_forward &&
           turn->boot_ms - since_ms < stet_config_int(turn->config, STET_SETTING_actor_duplicates_keep);
}

/* ---- rows ---- */

static stet_scan *open_scan(stet_turn *turn, uint8_t table, const stet_buf *cursor, stet_error *e) {
    stet_key prefix = stet_key_of(table);
    /* The cursor's row was looked at; a zero byte behind it makes the smallest key that is larger. */
    uint8_t from[STET_KEY_BYTES_MAX];
    size_t size = 0;
    if (cursor->size > 0) {
        ASSERT(cursor->size < STET_KEY_BYTES_MAX);
        memcpy(from, cursor->data, cursor->size);
        from[cursor->size] = 0;
        size = cursor->size + 1;
    }
    return stet_turn_scan(turn, stet_key_bytes(&prefix), stet_str_from(from, size), false, e);
}

static void keep_cursor(stet_sweep *sweep, stet_str key) {
    stet_buf_clear(&sweep->cursor);
    stet_buf_append_str(&sweep->cursor, key);
    if (!stet_buf_ok(&sweep->cursor))
        stet_buf_clear(&sweep->cursor); /* no memory: the pass begins again */
}

static stet_code sweep_duplicates(stet_turn *turn, stet_sweep *sweep, bool *ret_end, stet_error *e) {
    int64_t oldest_ms = turn->wall_ms - stet_config_int(turn->config, STET_SETTING_actor_duplicates_keep);
    bool full = sweep->pass % SWEEP_FULL_EVERY == 0;
    stet_str key, value;
    CLEANUP(stet_scan_done) stet_scan *scan = open_scan(turn, STET_TABLE_DUPLICATES, &sweep->cursor, e);
    if (!scan)
        return STET_BUSY;
    for (uint32_t i = 0; i < SWEEP_ROWS; i++) {
        stet_duplicate duplicate;
        if (!stet_scan_next(scan, &key, &value) || (!full && sweep->kept >= SWEEP_KEPT_MAX)) {
            *ret_end = true;
            return stet_scan_status(scan, e);
        }
        keep_cursor(sweep, key);
        if (!stet_duplicates_decode(value, &duplicate))
            return stet_turn_row_damaged(e, "duplicates");
        sweep->kept++;
        if (duplicate.answered_ms < oldest_ms) {
            stet_batch_delete(stet_turn_batch(turn), stet_buf_str(&sweep->cursor));
            stet_turn_count(turn, "duplicates.swept", 1);
            FAULT(sweep_duplicates);
            sweep->kept = 0;
        }
    }
    return STET_OK;
}

/* Removes up to `room` rows of a session that has gone quiet. What is missing or cannot be read is passed
 * over. */
static stet_code sweep_session(stet_turn *turn, stet_str session, stet_event_head *head, uint32_t *room,
                               stet_error *e) {
    while (*room > 0 && head->swept < head->last) {
        stet_key key = stet_events_key(session, head->swept + 1);
        stet_str value;
        bool found;
        stet_code rc = stet_turn_row_find(turn, &key, &value, &found, e);
        if (rc != STET_OK)
            return rc;
        stet_mp_reader texts;
        uint64_t count = found ? stet_events_open(value, &texts) : 0;
        if (found)
            stet_batch_delete(stet_turn_batch(turn), stet_key_bytes(&key));
        count = count == 0 ? 1 : count < head->last - head->swept ? count : head->last - head->swept;
        head->swept += count;
        (*room)--;
        stet_turn_count(turn, "events.swept", count);
        FAULT(sweep_events);
    }
    stet_events_head_put(turn, session, head);
    return STET_OK;
}

static stet_code sweep_events(stet_turn *turn, stet_sweep *sweep, bool *ret_end, stet_error *e) {
    int64_t oldest_ms = turn->wall_ms - stet_config_int(turn->config, STET_SETTING_actor_events_keep);
    uint32_t room = SWEEP_ROWS;
    stet_str key, value;
    CLEANUP(stet_scan_done) stet_scan *scan = open_scan(turn, STET_TABLE_EVENT_HEADS, &sweep->cursor, e);
    if (!scan)
        return STET_BUSY;
    for (uint32_t i = 0; i < SWEEP_ROWS && room > 0; i++) {
        stet_event_head head;
        char text[STET_KEY_BYTES_MAX];
        stet_key_reader r;
        if (!stet_scan_next(scan, &key, &value)) {
            *ret_end = true;
            return stet_scan_status(scan, e);
        }
        stet_str session = stet_key_open_named(key, text, &r);
        if (r.failed || !stet_events_head_decode(value, &head))
            return stet_turn_row_damaged(e, "eventHeads");
        if (head.newest_ms < oldest_ms && head.swept < head.last) {
            stet_code rc = sweep_session(turn, session, &head, &room, e);
            if (rc != STET_OK)
                return rc;
            if (head.swept < head.last)
                return STET_OK; /* the cursor still stands before this session */
        }
        keep_cursor(sweep, key);
    }
    return STET_OK;
}

stet_code stet_sweep_step(stet_turn *turn, stet_sweep *sweep, bool *ret_end, stet_error *e) {
    bool table_end = false;
    stet_code rc;
    *ret_end = is_held(turn, sweep);
    if (*ret_end)
        return STET_OK;
    switch (sweep->stage) {
    case 0:
        rc = sweep_duplicates(turn, sweep, &table_end, e);
        break;
    case 1:
        rc = sweep_events(turn, sweep, &table_end, e);
        break;
    default:
        rc = stet_jobs_sweep(turn, turn->service, &sweep->cursor, SWEEP_ROWS, e);
        table_end = sweep->cursor.size == 0;
        break;
    }
    /* After an error go on with the next table: one bad row must not stop the retention of everything. */
    if (rc != STET_OK || table_end) {
        stet_buf_clear(&sweep->cursor);
        sweep->kept = 0;
        sweep->stage++;
        if (sweep->stage > 2) {
            sweep->stage = 0;
            sweep->pass++;
            *ret_end = true;
        }
    }
    return rc;
}
