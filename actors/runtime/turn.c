#include "actors/runtime/records.h"
#include "proto/base/plant.h"

#include <stdlib.h>

int64_t stet_turn_wall_ms(const stet_turn *turn) {
    return turn->wall_ms;
}

int64_t stet_turn_boot_ms(const stet_turn *turn) {
    return turn->boot_ms;
}

stet_prng *stet_turn_prng(stet_turn *turn) {
    return &turn->prng;
}

stet_id stet_turn_new_id(stet_turn *turn) {
    return stet_id_next(&turn->ids, turn->wall_ms);
}

const stet_config *stet_turn_config(const stet_turn *turn) {
    return turn->config;
}

stet_batch *stet_turn_batch(stet_turn *turn) {
    stet_batch *batch = stet_store_batch(turn->store);
    ASSERT(batch != NULL); /* made, and found to be there, before the turn began */
    return batch;
}

void *stet_turn_state(const stet_turn *turn) {
    return turn->state;
}

stet_id stet_turn_request_id(const stet_turn *turn) {
    return turn->request_id;
}

stet_role stet_turn_role(const stet_turn *turn) {
    return turn->role;
}

void stet_turn_wake_jobs(stet_turn *turn) {
    turn->jobs_wake = true;
}

/* ---- undo ---- */

stet_turn_mark stet_turn_mark_of(stet_turn *turn) {
    return (stet_turn_mark){.batch = stet_batch_mark(stet_turn_batch(turn)),
                            .items = turn->effects->count,
                            .bytes = turn->effects->bytes.size,
                            .runs = turn->runs.count};
}

void stet_turn_undo(stet_turn *turn, stet_turn_mark mark) {
    stet_batch_rollback(stet_turn_batch(turn), mark.batch);
    stet_runs_cut(turn, mark.items, mark.runs);
    stet_effects_cut(turn->effects, mark.items, mark.bytes);
}

size_t stet_turn_bytes(stet_turn *turn) {
    return stet_batch_bytes(stet_turn_batch(turn)) + turn->runs.bytes;
}

bool stet_turn_overflowed(stet_turn *turn) {
    if (PLANT(overflow_ignored))
        return false;
    return turn->effects->failed || stet_batch_failed(stet_turn_batch(turn)) ||
           stet_turn_bytes(turn) > STET_BATCH_BYTES_MAX;
}

void stet_turn_fail(stet_turn *turn, bool starved) {
    stet_effects_fail(turn->effects, starved);
}

bool stet_turn_starved(stet_turn *turn) {
    return turn->effects->starved || stet_batch_starved(stet_turn_batch(turn));
}

/* ---- calls, work, log, counters ---- */

stet_code stet_turn_call(stet_turn *turn, stet_call_ref ref, const stet_http_request *request,
                         stet_error *e) {
    if (request->headers_count > EFFECTS_HEADERS_MAX)
        return stet_error_set(e, STET_INTERNAL, "a call may carry %d headers at most, not %zu",
                              EFFECTS_HEADERS_MAX, request->headers_count);
    stet_effects_call(turn->effects, ref, request);
    stet_turn_count(turn, "calls.asked", 1);
    return STET_OK;
}

void stet_turn_call_cancel(stet_turn *turn, stet_call_ref ref) {
    effects_item *item = stet_effects_add(turn->effects, EFFECTS_CALL_CANCEL);
    if (item)
        item->ref = ref;
}

stet_code stet_turn_work(stet_turn *turn, stet_call_ref ref, stet_work_fn *work, stet_str input,
                         stet_error *e) {
    if (input.size > EFFECTS_BYTES_MAX / 2)
        return stet_error_set(e, STET_TOO_LARGE, "work input of %zu bytes is too large", input.size);
    effects_slice a = stet_effects_store(turn->effects, input);
    effects_item *item = stet_effects_add(turn->effects, EFFECTS_WORK);
    if (item) {
        item->a = a;
        item->ref = ref;
        item->work = work;
    }
    return STET_OK;
}

void stet_turn_log(stet_turn *turn, stet_level level, const char *event, const char *message,
                   const stet_log_field *fields) {
    stet_effects_log(turn->effects, level, event, message, fields);
}

void stet_turn_count(stet_turn *turn, const char *name, uint64_t amount) {
    for (size_t i = 0; i < turn->counters_count; i++) {
        turn_counter *c = &turn->counters[i];
        if (c->name == name || strcmp(c->name, name) == 0) {
            c->value += amount;
            return;
        }
    }
    /* Names are constants of the program: a full table only means that the newest are not shown. */
    if (turn->counters_count < TURN_COUNTERS_MAX)
        turn->counters[turn->counters_count++] = (turn_counter){name, amount};
}

/* ---- rows ---- */

size_t stet_turn_struct_size_max(void) {
    size_t size_max = sizeof(max_align_t);
    for (int i = 0; i < STET_CMD_COUNT; i++) {
        size_t size = stet_command_at((stet_command_index)i)->record.struct_size;
        if (size > size_max)
            size_max = size;
    }
    return size_max;
}

stet_code stet_turn_row_find(stet_turn *turn, const stet_key *key, stet_str *ret_value, bool *ret_found,
                             stet_error *e) {
    *ret_value = (stet_str){NULL, 0};
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(key), ret_value, e);
    *ret_found = rc == STET_OK;
    return rc == STET_NOT_FOUND ? STET_OK : rc;
}

stet_scan *stet_turn_scan(stet_turn *turn, stet_str prefix, stet_str from, bool reverse, stet_error *e) {
    stet_scan *scan = stet_batch_scan(stet_turn_batch(turn), prefix, from, reverse);
    if (!scan)
        (void)stet_error_set(e, STET_BUSY, "no memory for a scan");
    return scan;
}

bool stet_turn_row_open(stet_str value, uint32_t items, stet_mp_reader *ret) {
    *ret = stet_mp_reader_of(value);
    uint32_t found = stet_mp_read_array(ret);
    uint64_t format = stet_mp_read_uint(ret);
    return !ret->failed && found >= items && format == TURN_ROW_FORMAT;
}

stet_buf *stet_turn_row_new(stet_turn *turn, uint32_t items) {
    stet_buf_clear(&turn->row);
    stet_mp_array(&turn->row, items);
    stet_mp_uint(&turn->row, TURN_ROW_FORMAT);
    return &turn->row;
}

void stet_turn_row_put(stet_turn *turn, const stet_key *key) {
    /* A row too large for the buffer counts like one too large for the batch. */
    if (!stet_buf_ok(&turn->row))
        stet_effects_fail(turn->effects, stet_buf_starved(&turn->row));
    else
        stet_batch_put(stet_turn_batch(turn), stet_key_bytes(key), stet_buf_str(&turn->row));
}
