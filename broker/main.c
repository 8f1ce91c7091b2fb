/* stet-broker - the program: options, configuration, lock, signals; then the loop of sockets_loop.c. */
#include "broker/sockets.h"
#include "proto/base/clock.h"
#include "proto/base/config.h"
#include "proto/base/dumps.h"
#include "proto/base/exit_codes.h"
#include "proto/base/log.h"
#include "proto/keys/keys.h"
#include "proto/wire/id.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

static const char HELP[] =
    "Usage: stet-broker [--data DIR] [--config FILE]\n"
    "\n"
    "Routes requests and events between clients and actors. Usually started by `stet up`.\n"
    "\n"
    "  --data DIR     where the instance keeps its files (default: STET_DATA, else ~/.local/share/stet)\n"
    "  --config FILE  settings, in ZPL\n"
    "  --help         this text\n"
    "  --version      the version\n"
    "\n"
    "Exit codes: 0 stopped, 2 usage, 70 internal, 75 another broker serves this directory, 78 "
    "configuration.\n";

typedef struct arguments {
    const char *data, *config;
} arguments;

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, arguments *ret) {
    static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                            {"config", required_argument, NULL, 'c'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            ret->data = optarg;
            break;
        case 'c':
            ret->config = optarg;
            break;
        case 'h':
            (void)fputs(HELP, stdout);
            return STET_EXIT_OK;
        case 'v':
            (void)puts("stet-broker " STET_SOFTWARE_VERSION);
            return STET_EXIT_OK;
        default:
            (void)fputs("Try stet-broker --help.\n", stderr);
            return STET_EXIT_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "stet-broker: unexpected argument %s\nTry stet-broker --help.\n", argv[optind]);
        return STET_EXIT_USAGE;
    }
    return -1;
}

/* Every connection costs a file descriptor; libzmq spins when there are none left. Keys and bodies do not go
 * to core files. */
static void set_limits(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    stet_forbid_dumps();
    (void)umask(077);
}

/* Blocked before libzmq starts its threads, so that they inherit it. */
static int open_signals(void) {
    sigset_t signals;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0)
        return -1;
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static uint32_t to_u32(int64_t value) {
    if (value < 1)
        return 1;
    return value > INT32_MAX ? INT32_MAX : (uint32_t)value;
}

static broker_options core_options(const stet_config *config) {
    stet_id_source ids = stet_id_source_of(stet_clock_seed());
    int64_t queue_bytes = stet_config_int(config, STET_SETTING_broker_queue_bytes);
    return (broker_options){.queue_max = to_u32(stet_config_int(config, STET_SETTING_broker_queue_max)),
                            .queue_bytes = queue_bytes > 0 ? (uint64_t)queue_bytes : 1,
                            .sessions_max = to_u32(stet_config_int(config, STET_SETTING_broker_sessions_max)),
                            .heartbeat_ms = to_u32(stet_config_int(config, STET_SETTING_broker_heartbeat)),
                            .timeout_ms = to_u32(stet_config_int(config, STET_SETTING_broker_timeout)),
                            .instance = stet_id_next(&ids, stet_clock_wall_ms()),
                            .software = STET_SOFTWARE_VERSION};
}

static int fail(int exit_code, const stet_error *e) {
    stet_log(STET_ERROR, "broker.failed", e->message, STET_LOG_C("code", stet_code_name(e->code)),
             STET_LOG_C("field", e->field));
    return exit_code;
}

/* Sorts the configured endpoints into open ones and those that ask for keys. */
/* A full disk or lack of memory passes, and starting again helps then; the configuration is for a person. */
static int exit_code_of(stet_code rc) {
    if (rc == STET_UNAVAILABLE || rc == STET_BUSY)
        return STET_EXIT_STORE;
    return rc == STET_INTERNAL ? STET_EXIT_INTERNAL : STET_EXIT_CONFIG;
}

static stet_code read_endpoints(const stet_config *config, const char *keys_directory,
                                broker_sockets_options *ret, stet_error *e) {
    static const struct {
        broker_door door;
        stet_setting setting;
        bool actors_only;
    } lists[] = {{BROKER_DOOR_FRONT, STET_SETTING_front_listen, false},
                 {BROKER_DOOR_EVENTS, STET_SETTING_events_listen, false},
                 {BROKER_DOOR_BACK, STET_SETTING_back_listen, true},
                 {BROKER_DOOR_EVENTS_IN, STET_SETTING_events_in_listen, true}};
    broker_endpoints_rule rule = {.mode = BROKER_CURVE_AUTO};
    char path[STET_PATH_MAX];
    stet_code rc = broker_curve_mode_parse(stet_config_str(config, STET_SETTING_broker_curve), &rule.mode, e);
    if (rc == STET_OK)
        rc = stet_keys_server_path(keys_directory, path, e);
    if (rc == STET_OK)
        rule.have_keys = access(path, F_OK) == 0;
    for (uint32_t i = 0; rc == STET_OK && i < COUNT_OF(lists); i++) {
        broker_door door = lists[i].door;
        rule.setting = stet_setting_at(lists[i].setting)->key;
        rule.actors_only = lists[i].actors_only;
        rc = broker_endpoints_parse(stet_config_str(config, lists[i].setting), &rule, &ret->open[door],
                                    &ret->keyed[door], e);
    }
    return rc;
}

static int serve(const stet_config *config, const stet_paths *paths, int stop_fd) {
    stet_error error;
    char keys[STET_PATH_MAX];
    broker_sockets_options options = {.paths = paths, .core = core_options(config), .keys_directory = keys};
    int64_t memory_max = stet_config_int(config, STET_SETTING_broker_memory_max);
    options.memory_max = memory_max > 0 ? (uint64_t)memory_max : 0;
    if (stet_keys_directory(stet_config_str(config, STET_SETTING_broker_keys), paths, keys, &error) !=
            STET_OK ||
        read_endpoints(config, keys, &options, &error) != STET_OK)
        return fail(STET_EXIT_CONFIG, &error);
    broker_sockets *sockets = NULL;
    if (broker_sockets_open(&options, &sockets, &error) != STET_OK)
        return fail(exit_code_of(error.code), &error);
    char instance[STET_ID_TEXT_SIZE];
    stet_id_text(options.core.instance, instance);
    stet_log(STET_INFO, "broker.started", "ready", STET_LOG_C("version", STET_SOFTWARE_VERSION),
             STET_LOG_C("instance", instance), STET_LOG_I("pid", getpid()), STET_LOG_C("data", paths->data));
    int exit_code = broker_sockets_run(sockets, stop_fd);
    stet_log(STET_INFO, "broker.stopping", "closing", STET_LOG_I("exit_code", exit_code));
    (void)broker_sockets_close(sockets);
    return exit_code;
}

static int run(const arguments *given, const stet_config *config) {
    stet_error error;
    stet_paths paths;
    if (stet_paths_of(given->data, &paths, &error) != STET_OK || stet_paths_create(&paths, &error) != STET_OK)
        return fail(exit_code_of(error.code), &error);
    int lock_fd = -1;
    /* Before binding: a second bind on the same path would silently take it from the first. */
    stet_code rc = stet_lock_file(paths.run, "broker.lock", &lock_fd, &error);
    if (rc != STET_OK)
        return fail(rc == STET_CONFLICT ? STET_EXIT_LOCKED : STET_EXIT_INTERNAL, &error);
    int stop_fd = open_signals();
    int exit_code;
    if (stop_fd < 0) {
        (void)stet_error_set(&error, STET_INTERNAL, "cannot take signals: errno %d", errno);
        exit_code = fail(STET_EXIT_INTERNAL, &error);
    } else {
        exit_code = serve(config, &paths, stop_fd);
        (void)close(stop_fd);
    }
    (void)close(lock_fd);
    return exit_code;
}

int main(int argc, char **argv) {
    arguments given = {0};
    int early = parse(argc, argv, &given);
    if (early >= 0)
        return early;
    set_limits();
    stet_log_init("broker", STET_INFO);
    stet_config *config = NULL;
    stet_error error;
    if (stet_config_load(given.config, &config, &error) != STET_OK)
        return fail(exit_code_of(error.code), &error);
    const char *level = stet_config_str(config, STET_SETTING_log_level);
    stet_log_init("broker", stet_level_from_name(stet_str_of(level), STET_INFO));
    int exit_code = run(&given, config);
    config = stet_config_free(config);
    return exit_code;
}
