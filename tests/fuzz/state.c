/* The file in which the supervisor writes down what runs, read by `stet status`: whatever stands in it, status says
 * what it can and shows no control character; the same as JSON is JSON; nobody else than an actor of ours is taken
 * for one. What a supervisor writes is read the same, whatever the reasons of its children say.
 *
 * A child holds the supervisor's lock, as status reads the file only when somebody does; no broker is there.
 *
 * Input: a byte, then the file; or, with the highest bit, what a supervisor knows. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"
#include "tools/stet/commands.h"
#include "tools/stet/supervisor/supervisor.h"

enum { SHOWN_BYTES_MAX = 16 << 20 };

typedef struct place {
    char directory[32], file[STET_PATH_MAX + 64];
    stet_cli cli;
    int shown; /* what was printed */
    pid_t holder;
} place;

/* ---- once ---- */

static place *place_once(void);

static void remove_files(void) {
    static const char *const names[] = {
        "run/" SUPERVISOR_FILE, "run/" SUPERVISOR_FILE ".tmp", "run/" SUPERVISOR_LOCK, "run", "log", ""};
    place *p = place_once();
    (void)kill(p->holder, SIGKILL);
    (void)waitpid(p->holder, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", p->directory, names[i]);
        (void)remove(path);
    }
}

static pid_t hold_lock(const place *p) {
    int told[2], fd = -1;
    char word = 0;
    ASSERT(pipe2(told, O_CLOEXEC) == 0);
    pid_t parent = getpid(), pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || stet_lock_file(p->cli.paths.run, SUPERVISOR_LOCK, &fd, NULL) != STET_OK ||
            write(told[1], "y", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    ASSERT(close(told[1]) == 0 && read(told[0], &word, 1) == 1 && close(told[0]) == 0);
    return pid;
}

static place *place_once(void) {
    static place p;
    stet_error e;
    if (p.directory[0] != '\0')
        return &p;
    (void)snprintf(p.directory, sizeof p.directory, "/tmp/stet-fuzz-XXXXXX");
    ASSERT(mkdtemp(p.directory) != NULL);
    ASSERT(stet_paths_of(p.directory, &p.cli.paths, &e) == STET_OK);
    ASSERT(stet_paths_create(&p.cli.paths, &e) == STET_OK);
    (void)snprintf(p.file, sizeof p.file, "%s/" SUPERVISOR_FILE, p.cli.paths.run);
    ASSERT((p.shown = memfd_create("shown", MFD_CLOEXEC)) > 0);
    p.holder = hold_lock(&p);
    ASSERT(atexit(remove_files) == 0);
    return &p;
}

/* ---- status ---- */

/* Appends what `stet status` prints. */
static void run_shown(place *p, bool json, stet_buf *ret) {
    ASSERT(fflush(stdout) == 0 && ftruncate(p->shown, 0) == 0 && lseek(p->shown, 0, SEEK_SET) == 0);
    int before = dup(STDOUT_FILENO);
    ASSERT(before >= 0 && dup2(p->shown, STDOUT_FILENO) >= 0);
    p->cli.json = json;
    int rc = run_status(&p->cli, NULL);
    ASSERT(dup2(before, STDOUT_FILENO) >= 0 && close(before) == 0);
    ASSERT(rc == CLI_UNREACHABLE); /* for want of a broker */
    off_t size = lseek(p->shown, 0, SEEK_END);
    ASSERT(size > 0 && size <= SHOWN_BYTES_MAX);
    uint8_t *at = stet_buf_extend(ret, (size_t)size);
    ASSERT(at != NULL && pread(p->shown, at, (size_t)size, 0) == size);
}

/* No control character but the end of a line, neither of ASCII nor of U+0080 to U+009F. */
static void check_text(const stet_buf *b) {
    ASSERT(stet_utf8_valid(stet_buf_str(b)));
    for (size_t i = 0; i < b->size; i++) {
        ASSERT(b->data[i] >= 0x20 || b->data[i] == '\n');
        ASSERT(b->data[i] != 0x7f && (i + 1 >= b->size || b->data[i] != 0xc2 || b->data[i + 1] >= 0xa0));
    }
}

static void try_status(place *p) {
    CLEANUP(stet_buf_done)
    stet_buf text = STET_BUF(SHOWN_BYTES_MAX), json = STET_BUF(SHOWN_BYTES_MAX),
             mp = STET_BUF(SHOWN_BYTES_MAX);
    run_shown(p, false, &text);
    check_text(&text);
    run_shown(p, true, &json);
    stet_mp_limits limits = {.depth_max = 64, .nodes_max = 1 << 20};
    ASSERT(stet_json_to_mp(stet_buf_str(&json), limits, &mp, NULL) == STET_OK);
    stet_str status = stet_buf_str(&mp);
    ASSERT(stet_mp_get_int(stet_mp_get_raw(status, "supervisor"), "pid", 0) == p->holder);
    ASSERT(stet_str_is(stet_mp_get_str(status, "data", STET_STR("")), p->cli.paths.data));
}

static void try_file(place *p, stet_str text) {
    int fd = open(p->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0 && write(fd, text.size > 0 ? text.data : "", text.size) == (ssize_t)text.size);
    ASSERT(close(fd) == 0);
    try_status(p);
    CLEANUP(stet_buf_done) stet_buf state = STET_BUF(CLI_BODY_MAX);
    stet_error e = {.code = STET_OK};
    if (supervisor_read_state(&p->cli.paths, &state, &e) != STET_OK) {
        ASSERT(e.code != STET_OK && e.message[0] != '\0');
        return;
    }
    const program *actors[SUPERVISOR_CHILDREN_MAX];
    size_t count = supervisor_actors(stet_buf_str(&state), actors);
    ASSERT(count < SUPERVISOR_CHILDREN_MAX);
    for (size_t i = 0; i < count; i++) {
        ASSERT(actors[i]->stage == STAGE_ACTOR);
        for (size_t k = 0; k < i; k++)
            ASSERT(actors[i] != actors[k]);
    }
}

/* ---- a supervisor ---- */

static void put_reason(child *c, stet_str text) {
    size_t size = stet_utf8_valid(text) ? stet_utf8_cut(text, sizeof c->restart.reason - 1) : 0;
    if (size > 0)
        memcpy(c->restart.reason, text.data, size);
    c->restart.reason[size] = '\0';
}

static void check_child(const child *c, stet_str read) {
    ASSERT(stet_str_is(stet_mp_get_str(read, "name", STET_STR("")), c->program->name));
    ASSERT(stet_str_is(stet_mp_get_str(read, "state", STET_STR("")), restart_state_name(c->restart.state)));
    ASSERT(stet_str_is(stet_mp_get_str(read, "reason", STET_STR("?")), c->restart.reason));
    ASSERT(stet_mp_get_int(read, "pid", -1) == c->pid);
    ASSERT(stet_mp_get_uint(read, "restarts", UINT64_MAX) == c->restart.restarts);
}

static void try_supervisor(place *p, fuzz_input *in) {
    static const restart_state states[] = {RESTART_STARTING, RESTART_RUNNING, RESTART_STOPPED};
    supervisor s = {
        .paths = &p->cli.paths, .config_path = "", .started_wall_ms = (int64_t)fuzz_number(in, 6)};
    while (s.count < supervisor_programs_count && in->left > 0) {
        child *c = &s.children[s.count];
        *c = (child){.program = &supervisor_programs[s.count], .since_ms = (int64_t)fuzz_number(in, 5)};
        c->pid = (pid_t)(fuzz_number(in, 4) >> 1);
        c->restart.state = states[fuzz_byte(in) % COUNT_OF(states)];
        put_reason(c, fuzz_piece(in));
        s.count++;
    }
    stet_error e;
    CLEANUP(stet_buf_done) stet_buf state = STET_BUF(CLI_BODY_MAX);
    ASSERT(supervisor_write_state(&s, &e) == STET_OK);
    ASSERT(supervisor_read_state(&p->cli.paths, &state, &e) == STET_OK);
    stet_mp_reader r = stet_mp_reader_of(stet_mp_get_raw(stet_buf_str(&state), "processes"));
    ASSERT(stet_mp_read_array(&r) == s.count);
    for (size_t i = 0; i < s.count; i++)
        check_child(&s.children[i], stet_mp_read_raw(&r));
    try_status(p);
}

void fuzz_one(const uint8_t *data, size_t size) {
    place *p = place_once();
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    if (fuzz_byte(&in) >= 0x80)
        try_supervisor(p, &in);
    else
        try_file(p, fuzz_rest(&in));
}

/* ---- seeds ---- */

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const files[] = {
        "{\n  \"pid\": 7,\n  \"data\": \"/d\",\n  \"config\": \"\",\n  \"detached\": true,\n  \"stopping\": "
        "false,\n"
        "  \"startedAt\": \"2026-11-25T22:38:36.123Z\",\n  \"endpoints\": {\"front\": \"ipc:///d/f\", "
        "\"events\": "
        "\"ipc:///d/e\", \"sandbox\": \"http://127.0.0.1:1\"},\n  \"processes\": [\n    {\"name\": "
        "\"broker\", "
        "\"pid\": 8, \"state\": \"running\", \"restarts\": 0, \"reason\": \"\", \"startedAt\": "
        "\"2026-11-25T22:38:36.123Z\"},\n    {\"name\": \"drafter\", \"pid\": 0, \"state\": \"failed\", "
        "\"restarts\": "
        "4, \"reason\": \"exit code 64\"}]}",
        "{\"pid\":1,\"endpoints\":{\"front\":[1],\"events\":null},\"processes\":[{\"name\":\"probe\",\"pid\":"
        "-1,"
        "\"reason\":\"\\u001b[2J\\n\"},{},[],null]}",
        "{\"processes\":{\"name\":\"drafter\"},\"endpoints\":[],\"startedAt\":1e9}",
        "[]",
        "",
    };
    if (index < COUNT_OF(files)) {
        stet_buf_append_byte(b, 0);
        stet_buf_append_str(b, stet_str_of(files[index]));
        return true;
    }
    if (index > COUNT_OF(files) + 3)
        return false;
    stet_buf_append(b, (const uint8_t[]){0x80, 1, 0x8b, 0xcf, 0xe5, 0x68, 0}, 7);
    for (size_t i = COUNT_OF(files); i < index + 1; i++) {
        stet_buf_append(b, (const uint8_t[]){0, 0, 0, (uint8_t)i, 0, 0, 0, 1, 2, (uint8_t)i}, 10);
        fuzz_put_piece(b, STET_STR("ended by signal 11 \xc3\xa4\x1b"));
    }
    return true;
}
