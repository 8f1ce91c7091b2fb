/* doctor: one line a check, each with what to do. A check is a function in a table; it reports through the
 * same list. */
#include "tools/stet/commands.h"
#include "tools/stet/supervisor/supervisor.h"
#include "tools/stet/table.h"

#include <czmq.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { FD_MIN = 1024, FD_GOOD = 4096, ASK_MS = 2000 };

typedef enum verdict { OK, WARN, FAIL } verdict;
static const char *const verdict_names[] = {[OK] = "ok", [WARN] = "warn", [FAIL] = "fail"};

typedef struct report {
    stet_cli *cli;
    stet_config *config; /* NULL when it cannot be loaded */
    stet_buf rows;       /* maps {result, check, message}, one after the other */
    uint32_t count;
    verdict worst;
} report;

static void tell(report *r, verdict v, const char *check, const char *format, ...) PRINTF(4, 5);
static void tell(report *r, verdict v, const char *check, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    stet_mp_map(&r->rows, 3);
    stet_mp_put_cstr(&r->rows, "result", verdict_names[v]);
    stet_mp_put_cstr(&r->rows, "check", check);
    stet_mp_put_cstr(&r->rows, "message", message);
    r->count++;
    if (v > r->worst)
        r->worst = v;
}

static void check_programs(report *r) {
    uint32_t missing = 0;
    for (size_t i = 0; i < supervisor_programs_count; i++) {
        char path[2 * STET_PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", r->cli->programs, supervisor_programs[i].file);
        if (access(path, X_OK) == 0)
            continue;
        missing++;
        tell(r, supervisor_programs[i].stage == STAGE_SANDBOX ? WARN : FAIL, "programs",
             "%s is not in %s: install it beside stet", supervisor_programs[i].file, r->cli->programs);
    }
    if (missing == 0)
        tell(r, OK, "programs", "stet " STET_SOFTWARE_VERSION ", all programs in %s", r->cli->programs);
}

static void check_libraries(report *r) {
    int major = 0, minor = 0, patch = 0;
    zmq_version(&major, &minor, &patch);
    bool known = major == 4 && minor >= 3;
    tell(r, known ? OK : FAIL, "libzmq", "%d.%d.%d%s", major, minor, patch, known ? "" : ": Stet needs 4.3");
    bool same = major == ZMQ_VERSION_MAJOR && minor == ZMQ_VERSION_MINOR;
    if (!same)
        tell(r, WARN, "libzmq", "built against %d.%d: build again", ZMQ_VERSION_MAJOR, ZMQ_VERSION_MINOR);
    if (!zmq_has("ipc"))
        tell(r, FAIL, "libzmq", "this libzmq has no ipc transport: install the system's package");
}

static void check_config(report *r) {
    stet_error e;
    const char *path = r->cli->config_path;
    if (stet_config_load(path[0] != '\0' ? path : NULL, &r->config, &e) != STET_OK)
        tell(r, FAIL, "config", "%s", e.message);
    else
        tell(r, OK, "config", "%s", path[0] != '\0' ? path : "no file, built-in settings");
}

static void check_model(report *r) {
    if (r->config == NULL)
        return;
    bool key = stet_config_str(r->config, STET_SETTING_openai_api_key)[0] != '\0';
    bool optional = stet_config_bool(r->config, STET_SETTING_openai_auth_optional);
    const char *url = stet_config_str(r->config, STET_SETTING_openai_base_url);
    if (key || optional)
        tell(r, OK, "model", "%s%s", url, key ? "" : " (without a key)");
    else
        tell(r, WARN, "model",
             "OPENAI_API_KEY is not set: every draft ends in error at once. Set it before 'stet up', or use "
             "'stet up --sandbox'");
    /* Who would call the webhook is not built yet; until then the log is where an alert is seen. */
    if (stet_config_str(r->config, STET_SETTING_draft_alert_webhook)[0] == '\0')
        tell(r, OK, "alerts", "no webhook: alerts are in the outbox and in the log");
    else
        tell(r, WARN, "alerts",
             "DRAFT_ALERT_WEBHOOK is set, but no alerts actor is there to call it: alerts wait in the "
             "outbox. Unset it to "
             "have them in the log");
}

static void check_mode(report *r, const char *what, const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0)
        tell(r, OK, what, "%s is not there yet: 'stet up' creates it", path);
    else if (!S_ISDIR(info.st_mode))
        tell(r, FAIL, what, "%s is not a directory: move it away", path);
    else if (info.st_uid != geteuid())
        tell(r, FAIL, what, "%s belongs to user %u: run as that user, or use another --data", path,
             (unsigned)info.st_uid);
    else if ((info.st_mode & 0077) != 0)
        tell(r, FAIL, what, "%s has mode %04o, so others may enter: chmod 700 %s", path,
             (unsigned)(info.st_mode & 07777), path);
    else
        tell(r, OK, what, "%s", path);
}

static void check_directories(report *r) {
    check_mode(r, "data", r->cli->paths.data);
    check_mode(r, "run", r->cli->paths.run);
    char below[STET_PATH_MAX + 8];
    (void)snprintf(below, sizeof below, "%s/run", r->cli->paths.data);
    if (strcmp(below, r->cli->paths.run) != 0)
        tell(r, WARN, "sockets",
             "the data directory's path is too long for sockets: they are in %s; a shorter path is simpler",
             r->cli->paths.run);
    else
        tell(r, OK, "sockets", "%s", r->cli->paths.front);
}

/* Of the data directory, or of what exists above it. */
static bool disk_of(const char *path, struct statvfs *ret) {
    char part[STET_PATH_MAX];
    (void)snprintf(part, sizeof part, "%s", path);
    while (statvfs(part, ret) != 0) {
        char *slash = strrchr(part, '/');
        if (slash == NULL)
            return false;
        *(slash == part ? slash + 1 : slash) = '\0';
        if (slash == part)
            return statvfs(part, ret) == 0;
    }
    return true;
}

static void check_space(report *r) {
    struct statvfs disk;
    if (!disk_of(r->cli->paths.data, &disk)) {
        tell(r, FAIL, "space", "cannot look at the disk of %s", r->cli->paths.data);
        return;
    }
    uint64_t available = (uint64_t)disk.f_bavail * disk.f_frsize,
             total = (uint64_t)disk.f_blocks * disk.f_frsize;
    uint64_t mark =
        r->config ? (uint64_t)stet_config_int(r->config, STET_SETTING_store_free_min) : 512u << 20;
    if (mark > total / 20)
        mark = total / 20;
    CLEANUP(stet_buf_done) stet_buf have = STET_BUF(64), need = STET_BUF(64);
    table_put_bytes(&have, available);
    table_put_bytes(&need, mark);
    verdict v = available < mark ? FAIL : available < 4 * mark ? WARN : OK;
    tell(r, v, "space", "%.*s free%s%.*s%s", STET_STR_ARG(stet_buf_str(&have)),
         v == FAIL   ? ", below the mark of "
         : v == WARN ? ", near the mark of "
                     : "; writes stop below ",
         STET_STR_ARG(stet_buf_str(&need)),
         v == OK ? "" : " (store.freeMin) under which writes are refused: make room");
}

static void check_files(report *r) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    verdict v = limit.rlim_cur < FD_MIN ? FAIL : limit.rlim_cur < FD_GOOD ? WARN : OK;
    tell(r, v, "files", "%" PRIu64 " open files allowed%s", (uint64_t)limit.rlim_cur,
         v == OK ? "" : ": raise it with 'ulimit -n 65536' before 'stet up', each client takes one");
}

static void check_locks(report *r) {
    int64_t supervisor_pid = stet_lock_holder(r->cli->paths.run, SUPERVISOR_LOCK);
    int64_t broker_pid = stet_lock_holder(r->cli->paths.run, "broker.lock");
    if (supervisor_pid != 0)
        tell(r, OK, "supervisor", "process %" PRId64, supervisor_pid);
    else if (broker_pid != 0)
        tell(r, WARN, "supervisor",
             "none, but a broker runs (process %" PRId64 "): it is not restarted when it ends", broker_pid);
    else
        tell(r, OK, "supervisor", "nothing runs: 'stet up' starts it");
}

static void check_broker(report *r) {
    if (access(r->cli->paths.front + strlen("ipc://"), F_OK) != 0)
        return; /* nothing runs: said above */
    CLEANUP(stet_buf_done) stet_buf reply = STET_BUF(CLI_BODY_MAX);
    if (!cli_ask(r->cli, "broker.version", STET_STR("\x80"), ASK_MS, &reply)) {
        tell(r, FAIL, "broker", "does not answer: 'stet status' and %s/broker.log say more",
             r->cli->paths.log);
        return;
    }
    stet_str version = stet_mp_get_str(stet_buf_str(&reply), "version", STET_STR("?"));
    bool same = stet_str_is(version, STET_SOFTWARE_VERSION);
    tell(r, same ? OK : WARN, "broker", "answers, version %.*s%s", STET_STR_ARG(version),
         same ? "" : "; this stet is " STET_SOFTWARE_VERSION ": 'stet down' and 'stet up' after an upgrade");
    stet_buf_clear(&reply);
    if (!cli_ask(r->cli, "broker.health", STET_STR("\x80"), ASK_MS, &reply) ||
        !stet_str_is(stet_mp_get_str(stet_buf_str(&reply), "status", STET_STR("")), "green"))
        tell(r, FAIL, "health", "red: 'stet status' says why");
}

static void (*const checks[])(report *) = {check_programs, check_libraries,   check_config,
                                           check_model,    check_directories, check_space,
                                           check_files,    check_locks,       check_broker};

static int print_report(const report *r) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(CLI_BODY_MAX);
    if (r->cli->json) {
        stet_mp_map(&b, 2);
        stet_mp_put_cstr(&b, "result", verdict_names[r->worst]);
        stet_mp_cstr(&b, "checks");
        stet_mp_array(&b, r->count);
        stet_buf_append_str(&b, stet_buf_str(&r->rows));
        return cli_print_json(stet_buf_str(&b), /* pretty= */ false);
    }
    stet_mp_reader rows = stet_mp_reader_of(stet_buf_str(&r->rows));
    for (uint32_t i = 0; i < r->count; i++) {
        stet_str row = stet_mp_read_raw(&rows);
        stet_buf_printf(&b, "%-5.*s %-11.*s ", STET_STR_ARG(stet_mp_get_str(row, "result", STET_STR(""))),
                        STET_STR_ARG(stet_mp_get_str(row, "check", STET_STR(""))));
        table_clean(&b, stet_mp_get_str(row, "message", STET_STR("")), CLI_BODY_MAX);
        stet_buf_append_byte(&b, '\n');
    }
    return cli_print(stet_buf_str(&b));
}

int run_doctor(stet_cli *cli, const args *a) {
    (void)a;
    report r = {.cli = cli, .rows = STET_BUF(CLI_BODY_MAX)};
    for (size_t i = 0; i < COUNT_OF(checks); i++)
        checks[i](&r);
    int rc = print_report(&r);
    stet_config_free(r.config);
    stet_buf_done(&r.rows);
    return rc == CLI_DONE && r.worst == FAIL ? CLI_ERROR : rc;
}
