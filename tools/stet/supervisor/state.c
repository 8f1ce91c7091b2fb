#include "tools/stet/supervisor/supervisor.h"
#include "tools/stet/view.h"

#include "proto/wire/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { STATE_BYTES_MAX = 256 << 10 };

static void put_child(const child *c, stet_buf *b) {
    stet_mp_map(b, c->since_ms == 0 ? 5 : 6);
    stet_mp_put_cstr(b, "name", c->program->name);
    stet_mp_put_int(b, "pid", c->pid);
    stet_mp_put_cstr(b, "state", restart_state_name(c->restart.state));
    stet_mp_put_uint(b, "restarts", c->restart.restarts);
    stet_mp_put_cstr(b, "reason", c->restart.reason);
    if (c->since_ms != 0)
        stet_mp_put_time(b, "startedAt", c->since_ms);
}

void supervisor_encode(const supervisor *self, stet_buf *b) {
    stet_mp_map(b, 8);
    stet_mp_put_int(b, "pid", getpid());
    stet_mp_put_cstr(b, "data", self->paths->data);
    stet_mp_put_cstr(b, "config", self->config_path);
    stet_mp_put_bool(b, "detached", self->detached);
    stet_mp_put_bool(b, "stopping", self->stopping);
    stet_mp_put_time(b, "startedAt", self->started_wall_ms);
    stet_mp_cstr(b, "endpoints");
    int port = self->sandbox ? supervisor_sandbox_port(self->paths) : 0;
    stet_mp_map(b, port > 0 ? 3 : 2);
    stet_mp_put_cstr(b, "front", self->paths->front);
    stet_mp_put_cstr(b, "events", self->paths->events);
    if (port > 0) {
        char url[64];
        (void)snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
        stet_mp_put_cstr(b, "sandbox", url);
    }
    stet_mp_cstr(b, "processes");
    stet_mp_array(b, (uint32_t)self->count);
    for (size_t i = 0; i < self->count; i++)
        put_child(&self->children[i], b);
}

static stet_code write_whole(const char *path, stet_str text, stet_error *e) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return stet_error_set(e, STET_UNAVAILABLE, "cannot write %s: %s", path, strerror(errno));
    ssize_t written = write(fd, text.data, text.size);
    bool whole = written == (ssize_t)text.size;
    int reason = errno;
    if (close(fd) != 0 || !whole)
        return stet_error_set(e, STET_UNAVAILABLE, "cannot write %s: %s", path, strerror(reason));
    return STET_OK;
}

/* Not synced: after a crash of the machine nothing of it is true any more. */
stet_code supervisor_write_state(const supervisor *self, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(STATE_BYTES_MAX), json = STET_BUF(STATE_BYTES_MAX);
    char path[STET_PATH_MAX + 64], temporary[STET_PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/" SUPERVISOR_FILE, self->paths->run);
    (void)snprintf(temporary, sizeof temporary, "%s/" SUPERVISOR_FILE ".tmp", self->paths->run);
    supervisor_encode(self, &mp);
    stet_code rc = stet_mp_to_json(stet_buf_str(&mp), (stet_json_style){.indent = 2}, &json, e);
    if (rc == STET_OK)
        rc = write_whole(temporary, stet_buf_str(&json), e);
    if (rc == STET_OK && rename(temporary, path) != 0)
        rc = stet_error_set(e, STET_UNAVAILABLE, "cannot write %s: %s", path, strerror(errno));
    return rc;
}

stet_code supervisor_read_state(const stet_paths *paths, stet_buf *ret, stet_error *e) {
    char path[STET_PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/" SUPERVISOR_FILE, paths->run);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return stet_error_set(e, STET_NOT_FOUND, "no %s", path);
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(STATE_BYTES_MAX);
    for (;;) {
        char block[4096];
        ssize_t got = read(fd, block, sizeof block);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        stet_buf_append(&json, block, (size_t)got);
    }
    (void)close(fd);
    return stet_json_to_mp(stet_buf_str(&json), STET_MP_LIMITS_BODY, ret, e);
}

void supervisor_remove_files(const stet_paths *paths) {
    const char *const endpoints[] = {paths->front, paths->back, paths->events_in, paths->events};
    for (size_t i = 0; i < COUNT_OF(endpoints); i++)
        (void)unlink(endpoints[i] + strlen("ipc://"));
    char path[STET_PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/" SUPERVISOR_FILE, paths->run);
    (void)unlink(path);
}

size_t supervisor_actors(stet_str state, const program **ret) {
    stet_str processes = stet_mp_get_raw(state, "processes");
    size_t count = 0;
    for (size_t i = 0; i < supervisor_programs_count && count < SUPERVISOR_CHILDREN_MAX; i++) {
        const program *p = &supervisor_programs[i];
        if (p->stage == STAGE_ACTOR && view_has(processes, "name", p->name))
            ret[count++] = p;
    }
    return count;
}
