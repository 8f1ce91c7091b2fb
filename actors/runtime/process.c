/* The main() of an actor program. */
#include "actors/runtime/process.h"
#include "proto/base/fault.h"

#include "proto/base/clock.h"
#include "proto/base/dumps.h"

#include <czmq.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct process_options {
    const char *data, *config, *inspect;
    bool check, help, version;
} process_options;

static void print_help(const char *name) {
    (void)printf(
        "Usage: stet-%s [--data DIR] [--config FILE]\n"
        "       stet-%s --inspect [TABLE[/COMPONENT...]] [--data DIR]\n"
        "       stet-%s --check [--data DIR]\n"
        "\n"
        "Runs the %s actor. Usually started by `stet up`.\n"
        "\n"
        "  --data DIR        where everything lies (default: STET_DATA, else ~/.local/share/stet)\n"
        "  --config FILE     settings (default: STET_CONFIG, else DATA/stet.conf when it is there)\n"
        "  --inspect [WHAT]  print the stored rows as JSON lines, also while the actor runs\n"
        "  --check           verify the stored rows against each other\n"
        "  --version, --help\n"
        "\n"
        "Exit codes: 0 stopped, 2 usage, 70 a bug, 74 store error (start again), 75 the data is in use,\n"
        "76 another owner, 77 data is missing or damaged (restore, do not restart), 78 configuration.\n",
        name, name, name, name);
}

/* "--name VALUE" and "--name=VALUE". *ret NULL: it is not this option. False: the value is missing. */
static bool take_value(const char *name, int argc, char **argv, int *at, const char **ret) {
    size_t size = strlen(name);
    const char *arg = argv[*at];
    ASSERT(arg != NULL); /* *at < argc */
    *ret = NULL;
    if (strncmp(arg, name, size) != 0)
        return true;
    if (arg[size] == '=') {
        *ret = arg + size + 1;
        return true;
    }
    if (arg[size] != '\0')
        return true;
    if (*at + 1 >= argc)
        return false;
    *ret = argv[++*at];
    return true;
}

static bool read_options(int argc, char **argv, process_options *ret) {
    for (int i = 1; i < argc; i++) {
        const char *data = NULL, *config = NULL;
        if (strcmp(argv[i], "--help") == 0)
            ret->help = true;
        else if (strcmp(argv[i], "--version") == 0)
            ret->version = true;
        else if (strcmp(argv[i], "--check") == 0)
            ret->check = true;
        else if (strcmp(argv[i], "--inspect") == 0)
            ret->inspect = i + 1 < argc && argv[i + 1][0] != '-' ? argv[++i] : "";
        else if (!take_value("--data", argc, argv, &i, &data) ||
                 (!data && !take_value("--config", argc, argv, &i, &config)) || (!data && !config))
            return false;
        if (data)
            ret->data = data;
        if (config)
            ret->config = config;
    }
    return true;
}

static int complain(const char *event, const stet_error *e, int exit_code) {
    stet_log(STET_ERROR, event, e->message, STET_LOG_C("code", stet_code_name(e->code)),
             STET_LOG_C("field", e->field), STET_LOG_I("exit", exit_code));
    return exit_code;
}

/* ---- surroundings ---- */

/* Signals are blocked before the first thread starts, so that all inherit it and only the descriptor sees
 * them. */
static int open_signals(void) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    (void)signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void raise_limits(void) {
    struct rlimit limit;
    (void)umask(077);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    stet_forbid_dumps(); /* a core file would carry keys and documents */
}

static stet_code read_config(stet_process *self, const process_options *options, stet_error *e) {
    char path[STET_PATH_MAX + 16];
    const char *file = options->config ? options->config : getenv("STET_CONFIG");
    if (!file || !*file) {
        file = NULL;
        int size = snprintf(path, sizeof(path), "%s/stet.conf", self->paths.data);
        if (size > 0 && (size_t)size < sizeof(path) && access(path, F_OK) == 0)
            file = path;
    }
    stet_code rc = stet_config_load(file, &self->config, e);
    if (rc != STET_OK)
        return rc;
    stet_level level =
        stet_level_from_name(stet_str_of(stet_config_str(self->config, STET_SETTING_log_level)), STET_INFO);
    stet_log_init(self->service->name, level);
    return STET_OK;
}

/* True when a signal came during the wait. */
static bool wait_for_signal(int signals, int64_t wait_ms) {
    zmq_pollitem_t item = {.fd = signals, .events = ZMQ_POLLIN};
    return zmq_poll(&item, 1, (long)wait_ms) > 0;
}

static uint64_t size_of(const stet_config *config, stet_setting setting) {
    int64_t bytes = stet_config_int(config, setting);
    return bytes < 0 ? 0 : (uint64_t)bytes;
}

/* STET_OK with store NULL: told to stop while waiting for room on the disk. */
static stet_code open_store(stet_process *self, stet_error *e) {
    stet_store_options options = {.directory = self->directory,
                                  .no_sync = FAULT_NO_SYNC,
                                  .partition = PROCESS_PARTITION,
                                  .memory_bytes = size_of(self->config, STET_SETTING_store_memory),
                                  .free_min_bytes = size_of(self->config, STET_SETTING_store_free_min),
                                  .ballast_bytes = size_of(self->config, STET_SETTING_store_ballast)};
    for (uint64_t waited = 0;; waited++) {
        stet_code rc = stet_store_open(&options, &self->store, e);
        if (rc != STET_UNAVAILABLE)
            return rc;
        /* Alive and red: the broker does not hear us, whoever asks is told so, and a supervisor need not
         * restart. */
        if (waited % 30 == 0)
            stet_log(STET_ERROR, "store.waiting", e->message, STET_LOG_C("directory", self->directory),
                     STET_LOG_I("waited_s", (int64_t)waited));
        if (wait_for_signal(self->signals, PROCESS_DISK_WAIT_MS))
            return STET_OK;
    }
}

/* Of what is read before the store: what passes by itself may be tried again, the rest is for a person. */
static int exit_code_of_start(stet_code rc) {
    return rc == STET_UNAVAILABLE || rc == STET_BUSY ? STET_EXIT_STORE : STET_EXIT_CONFIG;
}

static int exit_code_of_open(stet_code rc) {
    switch (rc) {
    case STET_CONFLICT:
        return STET_EXIT_LOCKED;
    case STET_INVALID: /* written by another version of the program */
        return STET_EXIT_CONFIG;
    case STET_INTERNAL:
        return STET_EXIT_DAMAGED;
    default:
        return STET_EXIT_STORE;
    }
}

static int run(stet_process *self) {
    stet_error error = {0};
    self->signals = open_signals();
    if (self->signals < 0)
        return STET_EXIT_INTERNAL;
    if (stet_paths_create(&self->paths, &error) != STET_OK)
        return complain("paths.refused", &error, exit_code_of_start(error.code));
    if (stet_make_directories(self->directory, &error) != STET_OK ||
        stet_check_private(self->directory, /* may_be_link= */ true, &error) != STET_OK)
        return complain("paths.refused", &error, exit_code_of_start(error.code));
    stet_code rc = open_store(self, &error);
    if (rc != STET_OK)
        return complain("store.refused", &error, exit_code_of_open(rc));
    if (!self->store)
        return STET_EXIT_OK;
    int exit_code = stet_process_serve(self);
    if (exit_code == STET_EXIT_STORE) {
        /* The database is in a state nobody knows: nothing of it may run any more, not even its closing. */
        (void)fflush(NULL);
        _exit(exit_code);
    }
    self->store = stet_store_close(self->store);
    stet_log(exit_code ? STET_ERROR : STET_INFO, "actor.stopped", "stopped", STET_LOG_I("exit", exit_code));
    return exit_code;
}

int stet_actor_main(const stet_service *service, int argc, char **argv) {
    stet_process self = {.service = service, .signals = -1};
    process_options options = {0};
    stet_error error = {0};
    if (!read_options(argc, argv, &options)) {
        (void)fprintf(stderr, "stet-%s: unknown option or missing value; see --help\n", service->name);
        return STET_EXIT_USAGE;
    }
    if (options.help) {
        print_help(service->name);
        return STET_EXIT_OK;
    }
    if (options.version) {
        (void)printf("stet-%s %s\n", service->name, STET_SOFTWARE_VERSION);
        return STET_EXIT_OK;
    }
    zsys_handler_set(NULL); /* before any other call of czmq, which would take the signals */
    raise_limits();
    stet_log_init(service->name, STET_INFO);
    int exit_code = STET_EXIT_CONFIG;
    if (stet_paths_of(options.data, &self.paths, &error) != STET_OK ||
        stet_paths_actor(&self.paths, service->name, PROCESS_PARTITION, self.directory, &error) != STET_OK ||
        read_config(&self, &options, &error) != STET_OK)
        exit_code = complain("config.refused", &error, exit_code_of_start(error.code));
    else if (options.inspect)
        exit_code = stet_inspect_rows(service, self.directory, options.inspect);
    else if (options.check)
        exit_code = stet_inspect_check(service, self.config, self.directory);
    else
        exit_code = run(&self);
    if (self.signals >= 0)
        (void)close(self.signals);
    self.config = stet_config_free(self.config);
    return exit_code;
}
