/* up and down.
 *
 * `up` waits until the instance is green. Waiting needs ZeroMQ and supervising needs fork, so they are two
 * processes: detached, the caller waits and the child supervises; in the foreground, the caller supervises
 * and a child waits, prints and ends. */
#include "tools/stet/commands.h"
#include "tools/stet/supervisor/supervisor.h"
#include "tools/stet/view.h"

#include "proto/base/clock.h"
#include "proto/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GREEN_WITHIN_MS = 30 * 1000,
    ASK_MS = 1000,
    ASK_EVERY_MS = 50,
    DOWN_WITHIN_MS = 45 * 1000,
    LOCK_WITHIN_MS = 5000
};

/* ---- waiting for green ---- */

static bool service_ready(stet_str services, const char *name) {
    stet_mp_reader r = stet_mp_reader_of(services);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str service = stet_mp_read_raw(&r);
        if (stet_str_is(stet_mp_get_str(service, "name", (stet_str){NULL, 0}), name) &&
            stet_str_is(stet_mp_get_str(service, "state", (stet_str){NULL, 0}), "ready"))
            return true;
    }
    return false;
}

/* What is still missing; "" when all is there. */
static void missing(stet_cli *cli, char *ret_text, size_t size) {
    CLEANUP(stet_buf_done) stet_buf reply = STET_BUF(CLI_BODY_MAX), state = STET_BUF(CLI_BODY_MAX);
    ret_text[0] = '\0';
    stet_str empty = STET_STR("\x80"); /* {} */
    if (supervisor_read_state(&cli->paths, &state, NULL) != STET_OK) {
        (void)snprintf(ret_text, size,
                       "the supervisor has not written down what runs; is the disk of %.300s full?",
                       cli->paths.run);
        return;
    }
    if (!cli_ask(cli, "broker.services", empty, ASK_MS, &reply)) {
        (void)snprintf(ret_text, size, "the broker does not answer");
        return;
    }
    stet_str services = stet_mp_get_raw(stet_buf_str(&reply), "services");
    const program *actors[SUPERVISOR_CHILDREN_MAX];
    size_t count = supervisor_actors(stet_buf_str(&state), actors);
    for (size_t i = 0; i < count; i++) {
        if (!service_ready(services, actors[i]->name)) {
            (void)snprintf(ret_text, size, "%s has not registered", actors[i]->name);
            return;
        }
    }
    stet_buf_clear(&reply);
    if (!cli_ask(cli, "broker.health", empty, ASK_MS, &reply)) {
        (void)snprintf(ret_text, size, "the broker does not answer");
    } else if (!stet_str_is(stet_mp_get_str(stet_buf_str(&reply), "status", (stet_str){NULL, 0}), "green")) {
        CLEANUP(stet_buf_done) stet_buf reasons = STET_BUF(CLI_BODY_MAX);
        view_value(stet_mp_get_raw(stet_buf_str(&reply), "reasons"), VIEW_TEXT, &reasons);
        (void)snprintf(ret_text, size, "%.*s", STET_STR_ARG(stet_buf_str(&reasons)));
    }
}

/* A process that will not be started again, with its reason; "" for none. */
static void failed_process(const stet_cli *cli, char *ret_text, size_t size) {
    CLEANUP(stet_buf_done) stet_buf state = STET_BUF(CLI_BODY_MAX);
    ret_text[0] = '\0';
    if (supervisor_read_state(&cli->paths, &state, NULL) != STET_OK)
        return;
    stet_str processes = stet_mp_get_raw(stet_buf_str(&state), "processes");
    stet_mp_reader r = stet_mp_reader_of(processes);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str process = stet_mp_read_raw(&r);
        stet_str none = {NULL, 0};
        if (!stet_str_is(stet_mp_get_str(process, "state", none), "failed"))
            continue;
        (void)snprintf(ret_text, size, "%.*s: %.*s", STET_STR_ARG(stet_mp_get_str(process, "name", none)),
                       STET_STR_ARG(stet_mp_get_str(process, "reason", none)));
        return;
    }
}

/* An instance may be up and yet unable to do its work, for want of a key: said once here, and by status. */
static void put_complaints(stet_cli *cli, stet_str state, stet_buf *b) {
    const program *actors[SUPERVISOR_CHILDREN_MAX];
    size_t actors_count = supervisor_actors(state, actors);
    for (size_t i = 0; i < actors_count; i++) {
        char command[64];
        (void)snprintf(command, sizeof command, "%s.health", actors[i]->name);
        CLEANUP(stet_buf_done) stet_buf reply = STET_BUF(CLI_BODY_MAX);
        if (!cli_ask(cli, command, STET_STR("\x80"), ASK_MS, &reply))
            continue;
        stet_str reasons = stet_mp_get_raw(stet_buf_str(&reply), "reasons");
        stet_mp_reader r = stet_mp_reader_of(reasons);
        uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
        for (uint32_t n = 0; n < count && !r.failed; n++) {
            stet_str reason = stet_mp_read_str(&r);
            stet_buf_printf(b, "Mind: %s: %.*s\n", actors[i]->name, STET_STR_ARG(reason));
        }
    }
}

static int print_up(stet_cli *cli, int64_t took_ms) {
    CLEANUP(stet_buf_done) stet_buf state = STET_BUF(CLI_BODY_MAX), text = STET_BUF(CLI_BODY_MAX);
    if (supervisor_read_state(&cli->paths, &state, NULL) != STET_OK)
        return cli_fail(CLI_ERROR, "the supervisor has ended; look at %s/supervisor.log", cli->paths.log);
    if (cli->json)
        return cli_print_json(stet_buf_str(&state), /* pretty= */ false);
    stet_buf_printf(&text, "stet is up after %" PRId64 ".%" PRId64 " s\n", took_ms / 1000,
                    took_ms % 1000 / 100);
    view_facts(stet_buf_str(&state),
               (const view_column[]){{"  data", "data", VIEW_TEXT},
                                     {"  front", "endpoints.front", VIEW_TEXT},
                                     {"  events", "endpoints.events", VIEW_TEXT},
                                     {"  sandbox", "endpoints.sandbox", VIEW_TEXT},
                                     {.title = NULL}},
               &text);
    put_complaints(cli, stet_buf_str(&state), &text);
    stet_buf_printf(
        &text,
        "Go on in another shell with\n"
        "  export STET_DATA='%s'\n"
        "  stet draft --project p1 --session s1 --instruction 'Write a short launch note' --wait\n"
        "  stet status\n  stet watch\n  stet down\n",
        cli->paths.data);
    return cli_print(stet_buf_str(&text));
}

static int wait_until_green(stet_cli *cli, int64_t since_ms) {
    char why[512] = "", failed[256] = "";
    while (stet_clock_boot_ms() - since_ms < GREEN_WITHIN_MS) {
        missing(cli, why, sizeof why);
        if (why[0] == '\0')
            return print_up(cli, stet_clock_boot_ms() - since_ms);
        failed_process(cli, failed, sizeof failed);
        if (failed[0] != '\0')
            return cli_fail(CLI_ERROR, "%s (log: %s/); the rest keeps running: stet status, stet down",
                            failed, cli->paths.log);
        if (stet_lock_holder(cli->paths.run, SUPERVISOR_LOCK) == 0)
            return cli_fail(CLI_ERROR, "the supervisor has ended; look at %s/supervisor.log", cli->paths.log);
        (void)poll(NULL, 0, ASK_EVERY_MS);
    }
    return cli_fail(CLI_UNREACHABLE, "not green after %d s: %s; it keeps trying: stet status, logs in %s/",
                    GREEN_WITHIN_MS / 1000, why, cli->paths.log);
}

/* ---- the two ways of supervising ---- */

/* Takes the lock, waiting a moment for a supervisor that is just ending. */
static stet_code take_lock(const stet_paths *paths, int *ret_fd, stet_error *e) {
    int64_t give_up_ms = stet_clock_boot_ms() + LOCK_WITHIN_MS;
    for (;;) {
        stet_code rc = stet_lock_file(paths->run, SUPERVISOR_LOCK, ret_fd, e);
        CLEANUP(stet_buf_done) stet_buf state = STET_BUF(CLI_BODY_MAX);
        bool ending = rc == STET_CONFLICT && supervisor_read_state(paths, &state, NULL) == STET_OK &&
                      stet_mp_get_bool(stet_buf_str(&state), "stopping", false);
        if (!ending || stet_clock_boot_ms() >= give_up_ms)
            return rc != STET_CONFLICT
                       ? rc
                       : stet_error_set(e, rc, "already running: %s ('stet status' shows it)", e->message);
        (void)poll(NULL, 0, ASK_EVERY_MS);
    }
}

static supervisor make_supervisor(const stet_cli *cli, const args *a, const stet_config *config,
                                  bool detached) {
    return (supervisor){.paths = &cli->paths,
                        .config_path = cli->config_path,
                        .config = config,
                        .programs = cli->programs,
                        .sandbox = args_has(a, "--sandbox"),
                        .detached = detached,
                        .signal_fd = -1};
}

static int run_foreground(stet_cli *cli, const args *a, const stet_config *config) {
    stet_error e;
    int lock_fd = -1;
    if (take_lock(&cli->paths, &lock_fd, &e) != STET_OK)
        return cli_fail(CLI_ERROR, "%s", e.message);
    int64_t since_ms = stet_clock_boot_ms();
    supervisor_remove_files(&cli->paths);
    pid_t parent = getpid();
    pid_t waiter = fork();
    if (waiter == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* The lock's descriptor is the parent's business: closing it here frees nothing. */
        int rc = getppid() == parent ? wait_until_green(cli, since_ms) : CLI_ERROR;
        cli_done(cli);
        _exit(rc);
    }
    stet_log_init("stet", STET_INFO);
    supervisor s = make_supervisor(cli, a, config, /* detached= */ false);
    s.waiter = waiter > 0 ? waiter : 0;
    int rc = supervisor_run(&s);
    (void)close(lock_fd);
    return rc;
}

/* In the child: leave the terminal and the working directory, say through `report_fd` how it went. */
static _Noreturn void run_daemon(stet_cli *cli, const args *a, const stet_config *config, int report_fd) {
    stet_error e;
    int lock_fd = -1;
    (void)setsid();
    /* What the caller had open is not the daemon's: a test's pipe, a lock of a script. */
    if (report_fd != 3)
        (void)dup3(report_fd, 3, O_CLOEXEC);
    report_fd = 3;
    (void)close_range(4, ~0u, 0);
    stet_code rc = take_lock(&cli->paths, &lock_fd, &e);
    int log_fd = rc == STET_OK ? supervisor_open_log(&cli->paths, "supervisor") : -1;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (rc == STET_OK && (log_fd < 0 || null_fd < 0 || chdir("/") != 0))
        rc = stet_error_set(&e, STET_UNAVAILABLE, "cannot open %s/supervisor.log: %s", cli->paths.log,
                            strerror(errno));
    char word = rc == STET_OK ? 'y' : 'n';
    if (write(report_fd, &word, 1) != 1 ||
        (rc != STET_OK && write(report_fd, e.message, strlen(e.message)) < 0))
        rc = STET_INTERNAL;
    if (rc != STET_OK)
        _exit(CLI_ERROR);
    supervisor_remove_files(&cli->paths);
    (void)dup2(null_fd, STDIN_FILENO);
    (void)dup2(null_fd, STDOUT_FILENO);
    (void)dup2(log_fd, STDERR_FILENO);
    (void)close(report_fd);
    stet_log_init("stet", STET_INFO);
    supervisor s = make_supervisor(cli, a, config, /* detached= */ true);
    _exit(supervisor_run(&s));
}

static int run_detached(stet_cli *cli, const args *a, const stet_config *config) {
    int64_t since_ms = stet_clock_boot_ms();
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0)
        return cli_fail(CLI_ERROR, "cannot make a pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        return cli_fail(CLI_ERROR, "cannot fork: %s", strerror(errno));
    if (pid == 0) {
        (void)close(report[0]);
        run_daemon(cli, a, config, report[1]);
    }
    (void)close(report[1]);
    char word = 'n', message[STET_ERROR_MESSAGE_MAX + 1] = "the supervisor did not start";
    ssize_t got = 0;
    do {
        got = read(report[0], &word, 1);
    } while (got < 0 && errno == EINTR);
    if (word != 'y') {
        got = read(report[0], message, sizeof message - 1);
        if (got > 0)
            message[got] = '\0';
    }
    (void)close(report[0]);
    if (word != 'y')
        return cli_fail(CLI_ERROR, "%s", message);
    return wait_until_green(cli, since_ms);
}

int run_up(stet_cli *cli, const args *a) {
    stet_config *config = NULL;
    stet_error e;
    int rc = cli_load_config(cli, &config); /* a typo is told here, not by every child */
    if (rc != CLI_DONE)
        return rc;
    if (stet_paths_create(&cli->paths, &e) != STET_OK)
        rc = cli_fail_error(CLI_ERROR, &e);
    else
        rc = args_has(a, "--detach") ? run_detached(cli, a, config) : run_foreground(cli, a, config);
    stet_config_free(config);
    return rc;
}

/* ---- down ---- */

/* Waits for the process itself, not for its number: numbers are used again. */
static bool wait_for_end(int pid_fd, int within_ms) {
    struct pollfd pollfd = {.fd = pid_fd, .events = POLLIN};
    int64_t give_up_ms = stet_clock_boot_ms() + within_ms;
    int ready;
    do {
        int64_t left_ms = give_up_ms - stet_clock_boot_ms();
        ready = poll(&pollfd, 1, left_ms > 0 ? (int)left_ms : 0);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

int run_down(stet_cli *cli, const args *a) {
    (void)a;
    pid_t pid = (pid_t)stet_lock_holder(cli->paths.run, SUPERVISOR_LOCK);
    if (pid == 0) {
        int64_t broker = stet_lock_holder(cli->paths.run, "broker.lock");
        if (broker != 0)
            return cli_fail(CLI_ERROR,
                            "no supervisor runs, but a broker does (process %" PRId64 "): stop it by hand",
                            broker);
        return cli->json ? cli_print(STET_STR("{\"stopped\":false}\n"))
                         : cli_print(STET_STR("nothing runs\n"));
    }
    int pid_fd = pidfd_open(pid, 0);
    bool same = pid_fd >= 0 && stet_lock_holder(cli->paths.run, SUPERVISOR_LOCK) == pid;
    if (same && pidfd_send_signal(pid_fd, SIGTERM, NULL, 0) != 0)
        return cli_fail(CLI_ERROR, "cannot stop process %d: %s", (int)pid, strerror(errno));
    bool ended = !same || wait_for_end(pid_fd, DOWN_WITHIN_MS);
    if (pid_fd >= 0)
        (void)close(pid_fd);
    if (!ended)
        return cli_fail(CLI_UNREACHABLE,
                        "process %d has not ended within %d s; it is still stopping: stet status", (int)pid,
                        DOWN_WITHIN_MS / 1000);
    return cli->json ? cli_print(STET_STR("{\"stopped\":true}\n")) : cli_print(STET_STR("stopped\n"));
}
