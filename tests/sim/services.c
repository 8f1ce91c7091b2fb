/* Two small services for the simulation, on the real core. They take the places of metrics and alerts,
 * because those names are in the table of commands; the drafter's outbox finds them there.
 *
 * metrics: a counter whose every request leaves a trace in each way a message can: state, event, message to
 * another actor, timer. So the end shows whether one message was one unit. Measurements of the drafter are
 * put in a row. alerts: takes messages, in rows numbered in the order of applying. */
#include "tests/sim/sim.h"

enum { TIMER_LATER_MS = 1500, START_BALANCE = 100 };

static uint64_t read_number(stet_turn *turn, const stet_key *key, uint64_t fallback, stet_code *rc,
                            stet_error *e) {
    stet_str value;
    if (*rc != STET_OK)
        return fallback;
    *rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(key), &value, e);
    if (*rc == STET_NOT_FOUND) {
        *rc = STET_OK;
        return fallback;
    }
    if (*rc != STET_OK)
        return fallback;
    stet_mp_reader r = stet_mp_reader_of(value);
    return stet_mp_read_uint(&r);
}

static void write_number(stet_turn *turn, const stet_key *key, uint64_t number) {
    uint8_t bytes[16];
    stet_buf value = STET_BUF_ON(bytes, sizeof(bytes));
    stet_mp_uint(&value, number);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(key), stet_buf_str(&value));
}

static stet_key counter_key(const char *kind, stet_str name) {
    stet_key key = stet_key_of(SIM_TABLE_COUNTERS);
    stet_key_str(&key, stet_str_of(kind));
    stet_key_str(&key, name);
    return key;
}

static stet_key id_key(uint8_t table, stet_id id) {
    stet_key key = stet_key_of(table);
    stet_key_id(&key, id);
    return key;
}

/* A message of another actor: its place in the order of applying, and its id. */
static stet_code take(stet_turn *turn, const char *channel, stet_error *e) {
    stet_code rc = STET_OK;
    stet_key last = counter_key("taken", stet_str_of(channel));
    uint64_t n = read_number(turn, &last, 0, &rc, e) + 1;
    if (rc != STET_OK)
        return rc;
    stet_id id = stet_turn_request_id(turn);
    stet_key key = stet_key_of(SIM_TABLE_TAKEN);
    stet_key_str(&key, stet_str_of(channel));
    stet_key_u64(&key, n);
    write_number(turn, &last, n);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(&key), stet_str_from(id.bytes, STET_ID_BYTES));
    return STET_OK;
}

/* ---- the counter ---- */

static stet_code move(stet_turn *turn, stet_str from, stet_str to, uint64_t amount, stet_error *e) {
    stet_code rc = STET_OK;
    stet_key from_key = counter_key("account", from), to_key = counter_key("account", to);
    uint64_t there = read_number(turn, &from_key, START_BALANCE, &rc, e);
    if (rc == STET_OK && there < amount)
        return stet_error_set(e, STET_CONFLICT, "not so much is there");
    write_number(turn, &from_key, there - amount);
    uint64_t here = read_number(turn, &to_key, START_BALANCE, &rc, e);
    write_number(turn, &to_key, here + amount);
    return rc;
}

static stet_code tell(stet_turn *turn, stet_str session, const char *id, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf extra = STET_BUF(128);
    stet_mp_map(&extra, 1);
    stet_mp_put_cstr(&extra, "messageId", id);
    if (!stet_buf_ok(&extra))
        return stet_error_set(e, STET_BUSY, "no memory for an event");
    stet_event event = {
        .session_id = session, .kind = "count", .status = "counted", .extra = stet_buf_str(&extra)};
    return stet_turn_event(turn, &event, e);
}

static stet_code pass_on(stet_turn *turn, const char *id, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(1024);
    stet_mp_map(&body, 5);
    stet_mp_put_cstr(&body, "rule", "sim");
    stet_mp_put_cstr(&body, "cause", id);
    stet_mp_put_cstr(&body, "severity", "warning");
    stet_mp_put_cstr(&body, "message", "counted");
    stet_mp_put_time(&body, "at", stet_turn_wall_ms(turn));
    if (!stet_buf_ok(&body))
        return stet_error_set(e, STET_BUSY, "no memory for a message");
    return stet_turn_send(turn, "alerts.raise", stet_buf_str(&body), e);
}

static stet_code count(stet_turn *turn, const cmd_metrics_record *in, stet_buf *reply, stet_error *e) {
    char id[STET_ID_TEXT_SIZE];
    stet_code rc = STET_OK;
    stet_str to = stet_mp_get_str(in->labels, "to", (stet_str){NULL, 0});
    stet_id_text(stet_turn_request_id(turn), id);
    stet_key counter = counter_key("counter", in->name);
    uint64_t value = read_number(turn, &counter, 0, &rc, e);
    if (rc == STET_OK && to.size > 0)
        rc = move(turn, in->name, to, stet_mp_get_uint(in->values, "amount", 0), e);
    if (rc == STET_OK && to.size == 0)
        write_number(turn, &counter, ++value);
    stet_key applied = id_key(SIM_TABLE_APPLIED, stet_turn_request_id(turn));
    uint64_t times = read_number(turn, &applied, 0, &rc, e);
    write_number(turn, &applied, times + 1);
    if (rc == STET_OK)
        rc = tell(turn, stet_mp_get_str(in->labels, "session", STET_STR("none")), id, e);
    if (rc == STET_OK)
        rc = pass_on(turn, id, e);
    if (rc == STET_OK)
        rc = stet_turn_timer(turn, stet_str_of(id), stet_turn_wall_ms(turn) + TIMER_LATER_MS,
                             stet_str_from(stet_turn_request_id(turn).bytes, STET_ID_BYTES), e);
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 1);
    stet_mp_put_uint(reply, "value", to.size > 0 ? 0 : value);
    return STET_OK;
}

static stet_code record(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    const cmd_metrics_record *in = request;
    if (stet_turn_role(turn) == STET_ROLE_ACTOR)
        return take(turn, "drafter", e);
    return count(turn, in, reply, e);
}

static stet_code fired(stet_turn *turn, stet_str name, stet_str payload, stet_error *e) {
    stet_code rc = STET_OK;
    stet_id id;
    (void)name;
    if (!stet_id_from_bytes(payload, &id))
        return stet_error_set(e, STET_INTERNAL, "a timer has lost its payload");
    stet_key key = id_key(SIM_TABLE_FIRED, id);
    uint64_t times = read_number(turn, &key, 0, &rc, e);
    write_number(turn, &key, times + 1);
    return rc;
}

static const stet_handler counter_handlers[] = {{STET_CMD_metrics_record, record}};

const stet_service sim_counter_service = {.name = "metrics",
                                          .handlers = counter_handlers,
                                          .handlers_count = COUNT_OF(counter_handlers),
                                          .timer = fired};

/* ---- alerts ---- */

static stet_code raise_alert(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    const cmd_alerts_raise *in = request;
    (void)reply;
    stet_id id;
    stet_code rc = STET_OK;
    if (!stet_str_is(in->rule, "sim"))
        return take(turn, "drafter", e);
    if (!stet_id_parse(in->cause, &id))
        return stet_error_set(e, STET_INVALID, "the cause is no id");
    stet_key applied = id_key(SIM_TABLE_APPLIED, id);
    uint64_t times = read_number(turn, &applied, 0, &rc, e);
    write_number(turn, &applied, times + 1);
    return rc == STET_OK ? take(turn, "metrics", e) : rc;
}

static const stet_handler sink_handlers[] = {{STET_CMD_alerts_raise, raise_alert}};

const stet_service sim_sink_service = {
    .name = "alerts", .handlers = sink_handlers, .handlers_count = COUNT_OF(sink_handlers)};
