/* status: what the supervisor knows (from its file), what the broker and the services say (asked), and what
 * the kernel says of each process, put together as one map and shown as JSON or as tables. */
#include "tools/stet/commands.h"
#include "tools/stet/supervisor/supervisor.h"
#include "tools/stet/view.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ASK_MS = 2000, SERVICES_MAX = 32, REASON_MAX = 300 };

static const stet_str none = {NULL, 0};

typedef struct status {
    bool supervised;
    int64_t supervisor_pid;
    bool broker_answers;
    stet_buf state;    /* the supervisor's file */
    stet_buf services; /* broker.services */
    stet_buf stats;    /* broker.stats */
    stet_buf queues;   /* rows {service, name, queued, delayed, active, error, oldestWaitingMs}, one after the
                          other */
    uint32_t queues_count;
    uint64_t oldest_ms;
    stet_buf reasons; /* strings, one after the other */
    uint32_t reasons_count;
} status;

static void status_done(status *s) {
    stet_buf *const buffers[] = {&s->state, &s->services, &s->stats, &s->queues, &s->reasons};
    for (size_t i = 0; i < COUNT_OF(buffers); i++)
        stet_buf_done(buffers[i]);
}

static uint64_t rss_bytes(int64_t pid) {
    char path[64], text[128] = "";
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/statm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    const char *resident = size > 0 ? strchr(text, ' ') : NULL;
    return resident ? strtoull(resident + 1, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void add_reason(status *s, const char *format, ...) PRINTF(2, 3);
static void add_reason(status *s, const char *format, ...) {
    char text[REASON_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    stet_mp_cstr(&s->reasons, text);
    s->reasons_count++;
}

static void add_reasons(status *s, const char *who, stet_str health) {
    stet_str reasons = stet_mp_get_raw(health, "reasons");
    stet_mp_reader r = stet_mp_reader_of(reasons);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str reason = stet_mp_read_str(&r);
        add_reason(s, "%s: %.*s", who, STET_STR_ARG(reason));
    }
}

/* ---- gathering ---- */

static bool ask(stet_cli *cli, const char *command, stet_buf *reply) {
    stet_buf_clear(reply);
    return cli_ask(cli, command, STET_STR("\x80"), ASK_MS, reply); /* {} */
}

static void add_queue(status *s, const char *service, stet_str name, stet_str queue) {
    static const char *const counts[] = {"queued", "delayed", "active", "error"};
    uint64_t oldest_ms = stet_mp_get_uint(queue, "oldestDueMs", 0);
    if (oldest_ms > s->oldest_ms)
        s->oldest_ms = oldest_ms;
    stet_mp_map(&s->queues, 4 + COUNT_OF(counts));
    stet_mp_put_cstr(&s->queues, "service", service);
    stet_mp_put_str(&s->queues, "name", name);
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        stet_mp_put_uint(&s->queues, counts[i], stet_mp_get_uint(queue, counts[i], 0));
    stet_mp_put_bool(&s->queues, "paused", stet_mp_get_bool(queue, "paused", false));
    stet_mp_put_uint(&s->queues, "oldestWaitingMs", oldest_ms);
    s->queues_count++;
}

/* queues of SERVICE.stats: {name: {queued, ..., oldestDueMs, paused}}. */
static void add_queues(status *s, const char *service, stet_str queues) {
    stet_mp_reader r = stet_mp_reader_of(queues);
    uint32_t count = stet_mp_peek(&r) == STET_MP_MAP ? stet_mp_read_map(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str name = stet_mp_read_str(&r);
        stet_str queue = stet_mp_read_raw(&r);
        add_queue(s, service, name, queue);
    }
}

static void ask_service(stet_cli *cli, status *s, stet_str name) {
    char service[64], command[80];
    (void)snprintf(service, sizeof service, "%.*s", STET_STR_ARG(name));
    CLEANUP(stet_buf_done) stet_buf reply = STET_BUF(CLI_BODY_MAX);
    (void)snprintf(command, sizeof command, "%s.health", service);
    if (!ask(cli, command, &reply)) {
        add_reason(s, "%s: does not answer", service);
        return;
    }
    add_reasons(s, service, stet_buf_str(&reply));
    (void)snprintf(command, sizeof command, "%s.stats", service);
    if (ask(cli, command, &reply))
        add_queues(s, service, stet_mp_get_raw(stet_buf_str(&reply), "queues"));
}

static void ask_services(stet_cli *cli, status *s) {
    stet_str services = stet_mp_get_raw(stet_buf_str(&s->services), "services");
    stet_mp_reader r = stet_mp_reader_of(services);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && i < SERVICES_MAX && !r.failed; i++) {
        stet_str service = stet_mp_read_raw(&r);
        if (stet_str_is(stet_mp_get_str(service, "state", none), "ready"))
            ask_service(cli, s, stet_mp_get_str(service, "name", none));
    }
}

static void check_processes(status *s) {
    stet_str processes = stet_mp_get_raw(stet_buf_str(&s->state), "processes");
    stet_mp_reader r = stet_mp_reader_of(processes);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str process = stet_mp_read_raw(&r);
        stet_str state = stet_mp_get_str(process, "state", none);
        if (stet_str_is(state, "running"))
            continue;
        add_reason(s, "process %.*s is in state %.*s: %.*s",
                   STET_STR_ARG(stet_mp_get_str(process, "name", none)), STET_STR_ARG(state),
                   STET_STR_ARG(stet_mp_get_str(process, "reason", none)));
    }
}

/* An actor may run without having found the broker; the broker cannot know of it. */
static void check_registered(status *s) {
    stet_str services = stet_mp_get_raw(stet_buf_str(&s->services), "services");
    const program *actors[SUPERVISOR_CHILDREN_MAX];
    size_t count = s->supervised ? supervisor_actors(stet_buf_str(&s->state), actors) : 0;
    for (size_t i = 0; i < count; i++)
        if (!view_has(services, "name", actors[i]->name))
            add_reason(s, "%s has not registered with the broker; look at its log", actors[i]->name);
}

static void gather(stet_cli *cli, status *s) {
    s->supervisor_pid = stet_lock_holder(cli->paths.run, SUPERVISOR_LOCK);
    s->supervised = s->supervisor_pid != 0;
    if (s->supervised && supervisor_read_state(&cli->paths, &s->state, NULL) == STET_OK)
        check_processes(s);
    else if (s->supervised)
        add_reason(
            s,
            "the supervisor has not written down what runs: it has just started, or the disk of %s is full",
            cli->paths.run);
    s->broker_answers =
        access(cli->paths.front + strlen("ipc://"), F_OK) == 0 && ask(cli, "broker.services", &s->services);
    if (!s->broker_answers) {
        add_reason(s,
                   s->supervised ? "the broker does not answer" : "nothing runs here: 'stet up' starts it");
        return;
    }
    CLEANUP(stet_buf_done) stet_buf health = STET_BUF(CLI_BODY_MAX);
    if (ask(cli, "broker.health", &health))
        add_reasons(s, "broker", stet_buf_str(&health));
    if (ask(cli, "broker.stats", &s->stats))
        s->oldest_ms = stet_mp_get_uint(stet_buf_str(&s->stats), "oldestWaitingMs", 0);
    check_registered(s);
    ask_services(cli, s);
}

/* ---- showing ---- */

/* The supervisor's row with what the kernel says added. */
static void put_process(stet_str process, stet_buf *b) {
    static const char *const texts[] = {"name", "state", "reason", "startedAt"};
    int64_t pid = stet_mp_get_int(process, "pid", 0);
    stet_mp_map(b, 3 + COUNT_OF(texts));
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        stet_mp_put_str(b, texts[i], stet_mp_get_str(process, texts[i], STET_STR("")));
    stet_mp_put_int(b, "pid", pid);
    stet_mp_put_uint(b, "restarts", stet_mp_get_uint(process, "restarts", 0));
    stet_mp_put_uint(b, "rssBytes", pid > 0 ? rss_bytes(pid) : 0);
}

static void put_processes(stet_str processes, stet_buf *b) {
    stet_mp_reader r = stet_mp_reader_of(processes);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    stet_mp_array(b, count);
    for (uint32_t i = 0; i < count; i++)
        put_process(stet_mp_read_raw(&r), b);
}

static void put_endpoints(const stet_cli *cli, stet_str state, stet_buf *b) {
    stet_str known = stet_mp_get_raw(state, "endpoints");
    if (known.size > 0) {
        stet_mp_raw(b, known);
        return;
    }
    stet_mp_map(b, 2);
    stet_mp_put_cstr(b, "front", cli->paths.front);
    stet_mp_put_cstr(b, "events", cli->paths.events);
}

/* The array at `key` of a map, or an empty one. */
static void put_array(stet_buf *b, stet_str map, const char *key) {
    stet_str array = stet_mp_get_raw(map, key);
    if (array.size > 0)
        stet_mp_raw(b, array);
    else
        stet_mp_array(b, 0);
}

/* null when nobody supervises. */
static void put_supervisor(const status *s, stet_str state, stet_buf *b) {
    if (!s->supervised) {
        stet_mp_nil(b);
        return;
    }
    stet_mp_map(b, 4);
    stet_mp_put_int(b, "pid", s->supervisor_pid);
    stet_mp_put_str(b, "startedAt", stet_mp_get_str(state, "startedAt", STET_STR("")));
    stet_mp_put_bool(b, "detached", stet_mp_get_bool(state, "detached", false));
    stet_mp_put_bool(b, "stopping", stet_mp_get_bool(state, "stopping", false));
}

static void encode(const stet_cli *cli, const status *s, stet_buf *b) {
    stet_str state = stet_buf_str(&s->state);
    stet_mp_map(b, 9);
    stet_mp_cstr(b, "supervisor");
    put_supervisor(s, state, b);
    stet_mp_put_cstr(b, "data", cli->paths.data);
    stet_mp_put_str(b, "config", stet_mp_get_str(state, "config", STET_STR("")));
    stet_mp_cstr(b, "endpoints");
    put_endpoints(cli, state, b);
    stet_mp_cstr(b, "processes");
    put_processes(stet_mp_get_raw(state, "processes"), b);
    stet_mp_cstr(b, "services");
    put_array(b, stet_buf_str(&s->services), "services");
    stet_mp_cstr(b, "queues");
    stet_mp_array(b, s->queues_count);
    stet_buf_append_str(b, stet_buf_str(&s->queues));
    stet_mp_put_uint(b, "oldestWaitingMs", s->oldest_ms);
    stet_mp_cstr(b, "health");
    stet_mp_map(b, 2);
    stet_mp_put_cstr(b, "status", s->reasons_count == 0 ? "green" : "red");
    stet_mp_cstr(b, "reasons");
    stet_mp_array(b, s->reasons_count);
    stet_buf_append_str(b, stet_buf_str(&s->reasons));
}

static void put_lines(stet_str strings, stet_buf *b) {
    stet_mp_reader r = stet_mp_reader_of(strings);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_buf_printf(b, "  ");
        table_clean(b, stet_mp_read_str(&r), REASON_MAX);
        stet_buf_append_byte(b, '\n');
    }
}

static void show(stet_str map, stet_buf *b) {
    static const view_column facts[] = {{"data", "data", VIEW_TEXT},
                                        {"config", "config", VIEW_TEXT},
                                        {"up since", "supervisor.startedAt", VIEW_TIME},
                                        {"front", "endpoints.front", VIEW_TEXT},
                                        {"events", "endpoints.events", VIEW_TEXT},
                                        {"sandbox", "endpoints.sandbox", VIEW_TEXT},
                                        {"oldest waiting", "oldestWaitingMs", VIEW_DURATION_MS},
                                        {"health", "health.status", VIEW_TEXT},
                                        {.title = NULL}};
    static const view_column processes[] = {
        {"PROCESS", "name", VIEW_TEXT},     {"PID", "pid", VIEW_TEXT},
        {"STATE", "state", VIEW_TEXT},      {"RESTARTS", "restarts", VIEW_TEXT},
        {"MEMORY", "rssBytes", VIEW_BYTES}, {"SINCE", "startedAt", VIEW_TIME},
        {"REASON", "reason", VIEW_TEXT},    {.title = NULL}};
    static const view_column services[] = {{"SERVICE", "name", VIEW_TEXT},
                                           {"PARTITION", "partition", VIEW_TEXT},
                                           {"STATE", "state", VIEW_TEXT},
                                           {"QUEUED", "queued", VIEW_TEXT},
                                           {"OUTSTANDING", "outstanding", VIEW_TEXT},
                                           {"CREDIT", "credit", VIEW_TEXT},
                                           {"VERSION", "software", VIEW_TEXT},
                                           {.title = NULL}};
    static const view_column queues[] = {{"JOBS OF", "service", VIEW_TEXT},
                                         {"QUEUE", "name", VIEW_TEXT},
                                         {"QUEUED", "queued", VIEW_TEXT},
                                         {"DELAYED", "delayed", VIEW_TEXT},
                                         {"ACTIVE", "active", VIEW_TEXT},
                                         {"ERROR", "error", VIEW_TEXT},
                                         {"PAUSED", "paused", VIEW_TEXT},
                                         {"OLDEST WAITING", "oldestWaitingMs", VIEW_DURATION_MS},
                                         {.title = NULL}};
    view_facts(map, facts, b);
    put_lines(view_find(map, "health.reasons"), b);
    stet_buf_append_byte(b, '\n');
    view_table(stet_mp_get_raw(map, "processes"), processes, "no processes", b);
    stet_buf_append_byte(b, '\n');
    view_table(stet_mp_get_raw(map, "services"), services, "no services", b);
    stet_buf_append_byte(b, '\n');
    view_table(stet_mp_get_raw(map, "queues"), queues, "no queues", b);
}

int run_status(stet_cli *cli, const args *a) {
    (void)a;
    CLEANUP(status_done)
    status s = {.state = STET_BUF(CLI_BODY_MAX),
                .services = STET_BUF(CLI_BODY_MAX),
                .stats = STET_BUF(CLI_BODY_MAX),
                .queues = STET_BUF(CLI_BODY_MAX),
                .reasons = STET_BUF(CLI_BODY_MAX)};
    CLEANUP(stet_buf_done) stet_buf map = STET_BUF(CLI_TEXT_MAX), text = STET_BUF(CLI_TEXT_MAX);
    gather(cli, &s);
    encode(cli, &s, &map);
    int rc = CLI_DONE;
    if (cli->json) {
        rc = cli_print_json(stet_buf_str(&map), /* pretty= */ cli->terminal);
    } else {
        show(stet_buf_str(&map), &text);
        rc = cli_print(stet_buf_str(&text));
    }
    return s.broker_answers ? rc : CLI_UNREACHABLE;
}
