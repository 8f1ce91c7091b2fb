#include "actors/runtime/builtin.h"

#include "actors/runtime/outbox.h"
#include "actors/runtime/records.h"

static void put_store(stet_turn *turn, stet_buf *b) {
    stet_store_stats s = stet_store_stats_of(turn->store);
    stet_mp_map(b, 8);
    stet_mp_put_uint(b, "lastCommit", stet_store_last_number(turn->store));
    stet_mp_put_uint(b, "commits", s.commits);
    stet_mp_put_uint(b, "commitBytes", s.commit_bytes);
    stet_mp_put_uint(b, "rowsWritten", s.rows_written);
    stet_mp_put_uint(b, "reads", s.reads);
    stet_mp_put_uint(b, "memoryBytes", s.memory_bytes);
    stet_mp_put_uint(b, "diskBytes", s.disk_bytes);
    stet_mp_put_uint(b, "commitNsLast", s.commit_ns_last);
}

static stet_code stats(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    char instance[STET_ID_TEXT_SIZE];
    (void)request;
    stet_id_text(turn->instance, instance);
    stet_mp_map(reply, 9);
    stet_mp_put_cstr(reply, "service", turn->service->name);
    stet_mp_put_uint(reply, "partition", turn->partition);
    stet_mp_put_uint(reply, "epoch", stet_store_epoch(turn->store));
    stet_mp_put_cstr(reply, "instance", instance);
    stet_mp_put_cstr(reply, "software", STET_SOFTWARE_VERSION);
    stet_mp_cstr(reply, "counters");
    stet_mp_map(reply, (uint32_t)turn->counters_count);
    for (size_t i = 0; i < turn->counters_count; i++)
        stet_mp_put_uint(reply, turn->counters[i].name, turn->counters[i].value);
    stet_mp_cstr(reply, "queues");
    stet_jobs_stats(turn, turn->service, reply);
    stet_mp_cstr(reply, "outbox");
    stet_code rc = stet_outbox_stats(turn, reply, e);
    stet_mp_cstr(reply, "store");
    put_store(turn, reply);
    return rc;
}

static stet_code health(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    uint32_t reasons = 0;
    (void)request;
    (void)e;
    /* status comes last: the reasons are written, and counted, first. */
    stet_mp_map(reply, 2);
    stet_mp_cstr(reply, "reasons");
    size_t mark = stet_mp_open(reply);
    if (!stet_store_writable(turn->store, turn->boot_ms)) {
        stet_mp_cstr(reply, "the disk is nearly full: writes are refused until there is room");
        reasons++;
    }
    if (!turn->broker_heard) {
        stet_mp_cstr(reply, "the broker has not been heard lately");
        reasons++;
    }
    if (turn->service->health)
        reasons += turn->service->health(turn, reply);
    stet_mp_close_array(reply, mark, reasons);
    stet_mp_put_cstr(reply, "status", reasons ? "red" : "green");
    return STET_OK;
}

stet_handler_fn *stet_builtin_find(const stet_service *service, const stet_command *command) {
    static const struct {
        const char *label;
        stet_handler_fn *handle;
    } rows[] = {
        {"events", stet_events_read}, {"stats", stats}, {"health", health}, {"check", stet_check_read}};
    stet_str name = stet_str_of(command->name);
    stet_str first = stet_command_service(name);
    if (!stet_str_is(first, service->name))
        return NULL;
    stet_str label = {name.data + first.size + 1, name.size - first.size - 1};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (stet_str_is(label, rows[i].label))
            return rows[i].handle;
    }
    return NULL;
}
