/* stet-sandbox - the outside world on loopback, for demos, tests and staging. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/exit_codes.h"
#include "proto/base/log.h"
#include "tools/sandbox/server.h"

static const char USAGE[] =
    "Usage: stet-sandbox [--port N] [--port-file FILE] [--delay-ms N] [--token-delay-ms N]\n"
    "An OpenAI-compatible API on 127.0.0.1 that asks no model, with faults on demand.\n\n"
    "  --port N            port to listen on; 0 (the default) takes a free one\n"
    "  --port-file FILE    listen on the port in FILE when it exists, else write the port there\n"
    "  --delay-ms N        wait before every answer (default 0)\n"
    "  --token-delay-ms N  wait between the events of a stream (default 0)\n"
    "  --help              this text\n"
    "  --version           version\n\n"
    "The address is printed on standard output. See docs/sandbox.md for the control API.\n";

typedef struct options {
    uint16_t port;
    const char *port_file;
    int64_t delay_ms;
    int64_t token_delay_ms;
} options;

static bool read_number(const char *text, int64_t max, int64_t *ret) {
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || n > max)
        return false;
    *ret = n;
    return true;
}

/* -1: go on; else the exit code. */
static int read_options(int argc, char **argv, options *ret) {
    static const struct option list[] = {
        {"port", required_argument, NULL, 'p'},
        {"port-file", required_argument, NULL, 'f'},
        {"delay-ms", required_argument, NULL, 'd'},
        {"token-delay-ms", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int64_t number = 0;
    for (int c = getopt_long(argc, argv, "", list, NULL); c != -1;
         c = getopt_long(argc, argv, "", list, NULL)) {
        bool ok = true;
        switch (c) {
        case 'p':
            ok = read_number(optarg, UINT16_MAX, &number);
            ret->port = (uint16_t)number;
            break;
        case 'f':
            ret->port_file = optarg;
            break;
        case 'd':
            ok = read_number(optarg, 600000, &ret->delay_ms);
            break;
        case 't':
            ok = read_number(optarg, 600000, &ret->token_delay_ms);
            break;
        case 'h':
            (void)fputs(USAGE, stdout);
            return STET_EXIT_OK;
        case 'v':
            (void)puts("stet-sandbox " STET_SOFTWARE_VERSION);
            return STET_EXIT_OK;
        default:
            ok = false;
        }
        if (!ok) {
            (void)fputs(USAGE, stderr);
            return STET_EXIT_USAGE;
        }
    }
    if (optind != argc) {
        (void)fputs(USAGE, stderr);
        return STET_EXIT_USAGE;
    }
    return -1;
}

/* The port of an earlier run, so that what was configured with it stays right; 0 when there is no file. */
static stet_code read_port_file(const char *path, uint16_t *ret, stet_error *e) {
    FILE *file = fopen(path, "re");
    char line[16] = "";
    int64_t port = 0;
    *ret = 0;
    if (file == NULL && errno == ENOENT)
        return STET_OK;
    if (file == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "%s: %s", path, strerror(errno));
    bool any = fgets(line, sizeof line, file) != NULL;
    (void)fclose(file);
    line[strcspn(line, "\n")] = '\0';
    if (!any || !read_number(line, UINT16_MAX, &port) || port == 0)
        return stet_error_set(e, STET_INVALID, "%s does not hold a port: correct or remove it", path);
    *ret = (uint16_t)port;
    return STET_OK;
}

/* Readers see the old file, none, or the whole new one. */
static stet_code write_port_file(const char *path, uint16_t port, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf other = STET_BUF(4096);
    stet_buf_printf(&other, "%s.%ld", path, (long)getpid());
    stet_buf_append_byte(&other, '\0');
    if (!stet_buf_ok(&other))
        return stet_error_set(e, STET_INVALID, "the path of the port file is too long");
    const char *name = (const char *)other.data;
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && dprintf(fd, "%u\n", port) > 0;
    int problem = errno;
    if (fd >= 0)
        (void)close(fd);
    if (ok && rename(name, path) == 0)
        return STET_OK;
    problem = ok ? errno : problem;
    (void)unlink(name);
    return stet_error_set(e, STET_UNAVAILABLE, "%s: %s", path, strerror(problem));
}

static stet_code listen_on(uint16_t port, int *ret_fd, uint16_t *ret_port, stet_error *e) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return stet_error_set(e, STET_UNAVAILABLE, "no socket: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        stet_code rc =
            stet_error_set(e, STET_UNAVAILABLE, "cannot listen on 127.0.0.1:%u: %s", port, strerror(errno));
        (void)close(fd);
        return rc;
    }
    *ret_fd = fd;
    *ret_port = ntohs(address.sin_port);
    return STET_OK;
}

static stet_code start(const options *o, sandbox *s, uint16_t *ret_port, stet_error *e) {
    uint16_t port = o->port;
    int listener = -1;
    stet_code rc = STET_OK;
    if (port == 0 && o->port_file != NULL)
        rc = read_port_file(o->port_file, &port, e);
    if (rc == STET_OK)
        rc = listen_on(port, &listener, ret_port, e);
    if (rc == STET_OK)
        rc = sandbox_start(s, listener, e);
    if (rc == STET_OK && o->port_file != NULL && (port == 0 || o->port != 0))
        rc = write_port_file(o->port_file, *ret_port, e);
    if (rc != STET_OK && s->daemon == NULL && listener >= 0)
        (void)close(listener); /* else libmicrohttpd's */
    return rc;
}

int main(int argc, char **argv) {
    options o = {0};
    int code = read_options(argc, argv, &o);
    if (code >= 0)
        return code;
    const char *level = getenv("STET_LOG");
    stet_log_init("sandbox", stet_level_from_name(stet_str_of(level), STET_INFO));
    (void)signal(SIGPIPE, SIG_IGN);
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL); /* before any thread: only sigwait below takes them */

    sandbox s = {.stop_fd = -1};
    stet_error e;
    uint16_t port = 0;
    atomic_store(&s.delay_ms, o.delay_ms);
    atomic_store(&s.token_delay_ms, o.token_delay_ms);
    stet_code rc = start(&o, &s, &port, &e);
    if (rc != STET_OK) {
        stet_log(STET_ERROR, "sandbox.start", e.message);
        sandbox_stop(&s);
        return STET_EXIT_CONFIG;
    }
    (void)printf("http://127.0.0.1:%u/v1\n", port);
    (void)fflush(stdout);
    stet_log(STET_INFO, "sandbox.listening", "the sandbox answers on loopback", STET_LOG_I("port", port));
    int number = 0;
    (void)sigwait(&signals, &number);
    sandbox_stop(&s);
    stet_log(STET_INFO, "sandbox.stopped", "all connections are closed", STET_LOG_I("signal", number));
    return STET_EXIT_OK;
}
