#include "tools/sandbox/server.h"

#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/wire/json.h"
#include "tools/sandbox/chat.h"
#include "tools/sandbox/control.h"
#include "tools/sandbox/faults.h"
#include "tools/sandbox/journal.h"

enum { IDLE_SECONDS = 300 };

typedef struct route {
    const char *method;
    const char *path;
    bool below; /* also paths below it */
    int (*handle)(const sandbox_request *r);
} route;

static const route ROUTES[] = {
    {"POST", "/v1/chat/completions", false, sandbox_chat_completions},
    {"GET", "/v1/models", true, sandbox_models},
    {"POST", "/sandbox/faults", false, sandbox_control_fault_add},
    {"GET", "/sandbox/faults", false, sandbox_control_fault_list},
    {"DELETE", "/sandbox/faults", false, sandbox_control_fault_remove},
    {"GET", "/sandbox/requests", false, sandbox_control_requests},
    {"DELETE", "/sandbox/requests", false, sandbox_control_requests_clear},
    {"GET", "/sandbox/pace", false, sandbox_control_pace},
    {"POST", "/sandbox/pace", false, sandbox_control_pace_set},
    {"GET", "/health", false, sandbox_control_health},
    {"GET", "/", false, sandbox_control_page},
};

/* What libmicrohttpd keeps for us between the pieces of one request. */
typedef struct upload {
    stet_buf body;
} upload;

static int connection_fd(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info == NULL ? -1 : info->connect_fd;
}

bool sandbox_wait(const sandbox *self, struct MHD_Connection *connection, int64_t ms) {
    struct pollfd fds[] = {{.fd = self->stop_fd, .events = POLLIN},
                           {.fd = connection_fd(connection), .events = POLLRDHUP}};
    const int64_t due_ms = stet_clock_boot_ms() + ms;
    for (;;) {
        int64_t left = ms < 0 ? INT32_MAX : due_ms - stet_clock_boot_ms();
        left = left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : left;
        if (poll(fds, COUNT_OF(fds), (int)left) > 0)
            return false;
        if (ms >= 0 && stet_clock_boot_ms() >= due_ms)
            return true;
    }
}

void sandbox_reset(struct MHD_Connection *connection) {
    /* Dissolving the association sends the reset at once; libmicrohttpd's own close would say FIN first. */
    const struct sockaddr none = {.sa_family = AF_UNSPEC};
    (void)connect(connection_fd(connection), &none, sizeof none);
}

const char *sandbox_header(const sandbox_request *r, const char *name) {
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *sandbox_query(const sandbox_request *r, const char *name) {
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static bool path_matches(const route *at, const char *path) {
    size_t size = strlen(at->path);
    if (strncmp(path, at->path, size) != 0)
        return false;
    return path[size] == '\0' || (at->below && path[size] == '/');
}

static int dispatch(const sandbox_request *r) {
    const char *method = strcmp(r->method, MHD_HTTP_METHOD_HEAD) == 0 ? "GET" : r->method;
    for (size_t i = 0; i < COUNT_OF(ROUTES); i++)
        if (strcmp(method, ROUTES[i].method) == 0 && path_matches(&ROUTES[i], r->path))
            return ROUTES[i].handle(r);
    return starts_with(r->path, "/v1") ? sandbox_chat_unknown(r) : sandbox_control_unknown(r);
}

static int handle(sandbox *self, struct MHD_Connection *connection, const char *method, const char *path,
                  const upload *up) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(2 * SANDBOX_BODY_BYTES_MAX);
    sandbox_request r = {.sandbox = self,
                         .connection = connection,
                         .method = method,
                         .path = path,
                         .body = stet_buf_str(&up->body)};
    if (r.body.size > 0 && stet_json_to_mp(r.body, STET_MP_LIMITS_BODY, &mp, NULL) == STET_OK)
        r.mp = stet_buf_str(&mp);
    if (starts_with(path, "/v1"))
        r.index = sandbox_journal_add(self->journal, &r);
    if (!stet_buf_ok(&up->body))
        return sandbox_chat_too_large(&r);
    return dispatch(&r);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **request_context) {
    sandbox *self = context;
    upload *up = *request_context;
    (void)version;
    if (up == NULL) { /* the first call brings the headers only */
        up = calloc(1, sizeof *up);
        if (up == NULL)
            return MHD_NO;
        up->body = (stet_buf)STET_BUF(SANDBOX_BODY_BYTES_MAX);
        *request_context = up;
        return MHD_YES;
    }
    if (*data_size > 0) { /* of a body that is too large nothing more is kept, but it is read to its end */
        stet_buf_append(&up->body, data, *data_size);
        *data_size = 0;
        return MHD_YES;
    }
    return handle(self, connection, method, path, up) == MHD_YES ? MHD_YES : MHD_NO;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request_context,
                         enum MHD_RequestTerminationCode code) {
    upload *up = *request_context;
    (void)context;
    (void)connection;
    (void)code;
    if (up == NULL)
        return;
    stet_buf_done(&up->body);
    free(up);
    *request_context = NULL;
}

stet_code sandbox_start(sandbox *self, int listener, stet_error *e) {
    self->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->journal = sandbox_journal_new();
    self->faults = sandbox_faults_new();
    if (self->stop_fd < 0 || self->journal == NULL || self->faults == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "no memory or descriptor for the sandbox");
    self->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL,
        NULL, on_request, self, MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)SANDBOX_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (self->daemon == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "the HTTP server does not start");
    return STET_OK;
}

void sandbox_stop(sandbox *self) {
    const uint64_t one = 1;
    ssize_t written = write(self->stop_fd, &one, sizeof one);
    (void)written;
    if (self->daemon != NULL)
        MHD_stop_daemon(self->daemon); /* joins all threads */
    self->daemon = NULL;
    self->journal = sandbox_journal_free(self->journal);
    self->faults = sandbox_faults_free(self->faults);
    if (self->stop_fd >= 0)
        (void)close(self->stop_fd);
    self->stop_fd = -1;
}
