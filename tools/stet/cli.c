#include "tools/stet/cli.h"

#include "proto/wire/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- where the instance is ---- */

static stet_code copy_path(char ret_path[STET_PATH_MAX], const char *path, stet_error *e) {
    int size = snprintf(ret_path, STET_PATH_MAX, "%s", path);
    return size >= 0 && size < STET_PATH_MAX
               ? STET_OK
               : stet_error_set(e, STET_TOO_LARGE, "the path %.40s... is too long", path);
}

/* Absolute, because a detached supervisor leaves the working directory. */
static stet_code find_config(stet_cli *self, const args *a, stet_error *e) {
    const char *given = args_get(a, "--config");
    if (given == NULL)
        given = getenv("STET_CONFIG");
    if (given != NULL && given[0] != '\0') {
        char *resolved = realpath(given, NULL);
        stet_code rc =
            resolved ? copy_path(self->config_path, resolved, e)
                     : stet_error_set(e, STET_INVALID, "configuration file %s: %s", given, strerror(errno));
        free(resolved);
        return rc;
    }
    char path[STET_PATH_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/stet.conf", self->paths.data);
    return access(path, F_OK) == 0 ? copy_path(self->config_path, path, e) : STET_OK;
}

static stet_code find_programs(stet_cli *self, stet_error *e) {
    ssize_t size = readlink("/proc/self/exe", self->programs, sizeof self->programs - 1);
    if (size <= 0)
        return stet_error_set(e, STET_INTERNAL,
                              "cannot find the directory of the programs: is /proc mounted?");
    self->programs[size] = '\0';
    char *slash = strrchr(self->programs, '/');
    ASSERT(slash != NULL);
    *slash = '\0';
    return STET_OK;
}

/* What stands in the supervisor's file and in JSON has to be UTF-8, else nobody could read what runs. */
static stet_code check_shown(const char *what, const char *path, stet_error *e) {
    return stet_utf8_valid(stet_str_of(path))
               ? STET_OK
               : stet_error_set(e, STET_INVALID, "the name of the %s is not UTF-8: choose another", what);
}

int cli_open(stet_cli *self, const args *a) {
    stet_error e;
    *self = (stet_cli){.json = args_has(a, "--json"),
                       .terminal = isatty(STDOUT_FILENO) == 1,
                       .data_given = args_has(a, "--data")};
    stet_code rc = stet_paths_of(args_get(a, "--data"), &self->paths, &e);
    if (rc == STET_OK)
        rc = find_config(self, a, &e);
    if (rc == STET_OK)
        rc = check_shown("data directory", self->paths.data, &e);
    if (rc == STET_OK)
        rc = check_shown("configuration file", self->config_path, &e);
    if (rc == STET_OK)
        rc = find_programs(self, &e);
    return rc == STET_OK ? CLI_DONE : cli_fail_error(CLI_USAGE, &e);
}

void cli_done(stet_cli *self) {
    stet_client_free(self->client);
    self->client = NULL;
    self->remote = stet_config_free(self->remote);
}

int cli_load_config(const stet_cli *self, stet_config **ret) {
    stet_error e;
    stet_code rc = stet_config_load(self->config_path[0] != '\0' ? self->config_path : NULL, ret, &e);
    return rc == STET_OK ? CLI_DONE : cli_fail_error(CLI_USAGE, &e);
}

/* ---- reporting ---- */

int cli_fail(int exit_code, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "stet: %s\n", message);
    return exit_code;
}

int cli_fail_error(int exit_code, const stet_error *e) {
    return cli_fail(exit_code, "%s", e->message);
}

/* The same JSON, in which U+0080 to U+009F, which move a terminal's cursor as well, are written as escapes. */
static void escape_c1(stet_buf *b, stet_str json) {
    for (size_t i = 0; i < json.size; i++) {
        uint8_t c = (uint8_t)json.data[i];
        if (c == 0xC2 && i + 1 < json.size && (uint8_t)json.data[i + 1] < 0xA0)
            stet_buf_printf(b, "\\u00%02x", (uint8_t)json.data[++i]);
        else
            stet_buf_append_byte(b, c);
    }
}

/* One line or more of JSON, as everything that may reach a terminal. */
static stet_code to_json(stet_str mp, uint32_t indent, stet_buf *ret, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(CLI_TEXT_MAX);
    stet_code rc = stet_mp_to_json(mp, (stet_json_style){.indent = indent}, &json, e);
    if (rc != STET_OK)
        return rc;
    escape_c1(ret, stet_buf_str(&json));
    return stet_buf_ok(ret) ? STET_OK : stet_error_set(e, STET_TOO_LARGE, "it is too large");
}

static int exit_code_of(const char *code) {
    stet_code c = stet_code_from_name(stet_str_of(code));
    return c == STET_TIMEOUT || c == STET_UNAVAILABLE ? CLI_UNREACHABLE : CLI_ERROR;
}

int cli_fail_answer(const stet_answer *answer) {
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(CLI_TEXT_MAX);
    stet_str body = stet_str_from(answer->body, answer->body_size);
    if (to_json(body, /* indent= */ 0, &json, NULL) != STET_OK)
        stet_buf_printf(&json, "{\"code\":\"%s\"}", answer->code);
    (void)fprintf(stderr, "%.*s\n", STET_STR_ARG(stet_buf_str(&json)));
    return exit_code_of(answer->code);
}

static int fail_no_answer(stet_cli *self) {
    const char *id = stet_client_last_id(self->client);
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(4096), json = STET_BUF(16384);
    stet_mp_map(&body, 3);
    stet_mp_put_cstr(&body, "code", "timeout");
    stet_mp_put_cstr(&body, "message", stet_client_error(self->client));
    stet_mp_put_cstr(&body, "id", id ? id : "");
    if (to_json(stet_buf_str(&body), /* indent= */ 0, &json, NULL) == STET_OK)
        (void)fprintf(stderr, "%.*s\n", STET_STR_ARG(stet_buf_str(&json)));
    return CLI_UNREACHABLE;
}

int cli_print(stet_str text) {
    size_t written = fwrite(text.data ? text.data : "", 1, text.size, stdout);
    /* The reader is gone (`stet watch | head`): nothing to say to anybody. */
    return written == text.size && fflush(stdout) == 0 ? CLI_DONE : CLI_ERROR;
}

int cli_print_json(stet_str mp, bool pretty) {
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(CLI_TEXT_MAX);
    stet_error e;
    if (to_json(mp, pretty ? 2 : 0, &json, &e) != STET_OK)
        return cli_fail(CLI_ERROR, "the answer cannot be shown: %s", e.message);
    stet_buf_append_byte(&json, '\n');
    return cli_print(stet_buf_str(&json));
}

/* ---- asking ---- */

/* The setting, or NULL for none. */
static const char *remote_setting(const stet_cli *self, stet_setting setting) {
    const char *text = self->remote != NULL ? stet_config_str(self->remote, setting) : "";
    return text[0] != '\0' ? text : NULL;
}

stet_client *cli_client(stet_cli *self) {
    if (self->client == NULL) {
        char error[256] = "";
        stet_client_options options = {.data = self->paths.data,
                                       .endpoints = remote_setting(self, STET_SETTING_client_front),
                                       .events = remote_setting(self, STET_SETTING_client_events),
                                       .key_file = remote_setting(self, STET_SETTING_client_key_file),
                                       .server_key = remote_setting(self, STET_SETTING_client_server_key)};
        self->client = stet_client_new(&options, error, sizeof error);
        if (self->client == NULL)
            (void)cli_fail(CLI_UNREACHABLE, "%s", error);
    }
    return self->client;
}

bool cli_running(stet_cli *self) {
    if (self->remote != NULL)
        return true;
    if (!self->data_given) {
        stet_config *config = NULL;
        if (cli_load_config(self, &config) != CLI_DONE)
            return false;
        if (stet_config_str(config, STET_SETTING_client_front)[0] != '\0') {
            self->remote = config;
            return true;
        }
        config = stet_config_free(config);
    }
    const char *socket_path = self->paths.front + strlen("ipc://");
    if (access(socket_path, F_OK) == 0 || stet_lock_holder(self->paths.run, "stet.lock") != 0)
        return true;
    (void)cli_fail(CLI_UNREACHABLE,
                   "nothing runs on %s: 'stet up' starts it, --data or STET_DATA says which instance",
                   self->paths.data);
    return false;
}

int cli_request(stet_cli *self, const char *command, stet_str body, const char *id_text, uint32_t timeout_ms,
                stet_buf *ret_body) {
    if (!cli_running(self) || cli_client(self) == NULL)
        return CLI_UNREACHABLE;
    stet_answer answer = {0};
    int rc = stet_client_request(self->client, command, (const uint8_t *)body.data, body.size, id_text,
                                 timeout_ms, &answer);
    if (rc == -1)
        return fail_no_answer(self);
    if (rc != 0)
        return cli_fail(CLI_USAGE, "%s", stet_client_error(self->client));
    if (answer.code != NULL)
        return cli_fail_answer(&answer);
    stet_buf_append(ret_body, answer.body, answer.body_size);
    return stet_buf_ok(ret_body) ? CLI_DONE : cli_fail(CLI_ERROR, "the answer is too large");
}

int cli_request_of(stet_cli *self, const args *a, stet_buf *ret_body) {
    ASSERT(a->command->request != NULL);
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(CLI_BODY_MAX);
    int rc = cli_body(a, &body);
    return rc == CLI_DONE
               ? cli_request(self, a->command->request, stet_buf_str(&body), NULL, CLI_TIMEOUT_MS, ret_body)
               : rc;
}

bool cli_ask(stet_cli *self, const char *command, stet_str body, uint32_t timeout_ms, stet_buf *ret_body) {
    stet_answer answer = {0};
    if (cli_client(self) == NULL)
        return false;
    if (stet_client_request(self->client, command, (const uint8_t *)body.data, body.size, NULL, timeout_ms,
                            &answer) != 0 ||
        answer.code != NULL)
        return false;
    stet_buf_append(ret_body, answer.body, answer.body_size);
    return stet_buf_ok(ret_body);
}

/* ---- request bodies ---- */

static int read_stream(int fd, const char *name, stet_buf *ret_text) {
    for (;;) {
        char block[16384];
        ssize_t got = read(fd, block, sizeof block);
        if (got == 0)
            break;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cli_fail(CLI_USAGE, "cannot read %s: %s", name, strerror(errno));
        stet_buf_append(ret_text, block, (size_t)got);
        if (!stet_buf_ok(ret_text))
            return cli_fail(CLI_USAGE, "%s is longer than %zu bytes", name, ret_text->size_max);
    }
    return CLI_DONE;
}

int cli_read_text(const char *argument, bool plain_is_path, stet_buf *ret_text) {
    if (strcmp(argument, "-") == 0)
        return read_stream(STDIN_FILENO, "stdin", ret_text);
    if (argument[0] != '@' && !plain_is_path) {
        stet_buf_append_str(ret_text, stet_str_of(argument));
        return stet_buf_ok(ret_text) ? CLI_DONE : cli_fail(CLI_USAGE, "the text is too long");
    }
    const char *path = argument[0] == '@' ? argument + 1 : argument;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cli_fail(CLI_USAGE, "cannot read %s: %s", path, strerror(errno));
    int rc = read_stream(fd, path, ret_text);
    (void)close(fd);
    return rc;
}

int cli_read_json(const char *argument, stet_buf *ret_mp) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(CLI_BODY_MAX);
    int rc = cli_read_text(argument, /* plain_is_path= */ false, &text);
    if (rc != CLI_DONE)
        return rc;
    stet_error e;
    if (stet_json_to_mp(stet_buf_str(&text), STET_MP_LIMITS_BODY, ret_mp, &e) != STET_OK)
        return cli_fail(CLI_USAGE, "not JSON: %s", e.message);
    return CLI_DONE;
}

static void put_list(stet_buf *b, const char *text) {
    size_t mark = stet_mp_open(b);
    uint32_t items = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        if (size > 0) {
            stet_mp_str(b, stet_str_from(text, size));
            items++;
        }
        text += size + (text[size] == ',');
    }
    stet_mp_close_array(b, mark, items);
}

static int put_field(stet_buf *b, const args_row *row, const char *text) {
    switch (row->type) {
    case ARGS_FLAG:
        stet_mp_bool(b, true);
        return CLI_DONE;
    case ARGS_COUNT:
    case ARGS_NUMBER:
        stet_mp_uint(b, strtoull(text, NULL, 10));
        return CLI_DONE;
    case ARGS_LIST:
        put_list(b, text);
        return CLI_DONE;
    case ARGS_JSON:
        return cli_read_json(text, b);
    case ARGS_TEXT:
    case ARGS_FILE:
    case ARGS_SECONDS:
        break;
    }
    stet_mp_cstr(b, text);
    return CLI_DONE;
}

int cli_body(const args *a, stet_buf *ret_body) {
    size_t mark = stet_mp_open(ret_body);
    uint32_t pairs = 0;
    const args_row *rows = a->command->rows;
    for (size_t i = 0; rows != NULL && rows[i].name != NULL; i++) {
        if (rows[i].field == NULL || a->values[i] == NULL)
            continue;
        stet_mp_cstr(ret_body, rows[i].field);
        int rc = put_field(ret_body, &rows[i], a->values[i]);
        if (rc != CLI_DONE)
            return rc;
        pairs++;
    }
    stet_mp_close_map(ret_body, mark, pairs);
    return stet_buf_ok(ret_body) ? CLI_DONE : cli_fail(CLI_USAGE, "the request is too large");
}
