/* process - an actor program around its core: options and paths (process.c), sockets and the loop (loop.c),
 * looking into a store that is not running (inspect.c). */
#ifndef STET_PROCESS_H
#define STET_PROCESS_H

#include "actors/runtime/core.h"
#include "actors/runtime/http.h"
#include "actors/runtime/workers.h"
#include "proto/base/paths.h"

enum {
    PROCESS_PARTITION = 0,
    PROCESS_STOP_MS = 5000,     /* at most, to answer what is outstanding */
    PROCESS_QUIET_MS = 100,     /* without a message before a stop is taken for complete */
    PROCESS_DISK_WAIT_MS = 1000 /* between two looks at a full disk */
};

/* What could not be started is told to the core as a result, but not from inside its release. */
typedef struct process_failure {
    stet_call_ref ref;
    bool work;
    stet_error error;
} process_failure;

typedef struct stet_process {
    const stet_service *service;
    stet_config *config;
    stet_paths paths;
    char directory[STET_PATH_MAX];
    stet_store *store;
    stet_core *core;
    stet_http *http;       /* NULL for a service without call_done */
    stet_workers *workers; /* NULL for a service without work_done */
    void *context, *dealer, *events;
    int signals;
    bool stopping;
    int64_t stop_boot_ms, message_boot_ms;
    uint64_t trim_number; /* last commit that was seen */
    uint32_t trims_left;
    int64_t trim_boot_ms;
    process_failure *failures;
    size_t failures_count, failures_capacity;
} stet_process;

/* Opens sockets and core over self->store, and works until a signal or a fatal error. Returns the exit code.
 */
int stet_process_serve(stet_process *self);

/* Prints the rows of a store as JSON lines; prefix NULL or "": all, else TABLE[/COMPONENT...]. */
int stet_inspect_rows(const stet_service *service, const char *directory, const char *prefix);
/* Runs the service's check over the whole store, printing each problem as a JSON line. 1 when there are
 * problems. */
int stet_inspect_check(const stet_service *service, const stet_config *config, const char *directory);

#endif
