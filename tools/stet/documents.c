/* Documents and transcripts: files in and out. */
#include "proto/wire/json.h"
#include "tools/stet/commands.h"

enum { DOCUMENT_BYTES_MAX = 524288, PART_ITEMS_MAX = 500, PART_BYTES_MAX = 700 << 10 };

/* A document shown on a terminal must not move its cursor; in a file it stays as it is, byte for byte. */
static void put_for_terminal(stet_buf *b, stet_str text) {
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = (uint8_t)text.data[i];
        bool c1_control = c == 0xC2 && i + 1 < text.size && (uint8_t)text.data[i + 1] < 0xA0;
        bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F || c1_control;
        stet_buf_append_byte(b, control ? '?' : c);
        i += c1_control;
    }
}

int run_doc_get(stet_cli *cli, const args *a) {
    CLEANUP(stet_buf_done) stet_buf reply = STET_BUF(CLI_BODY_MAX), text = STET_BUF(CLI_BODY_MAX);
    int rc = cli_request_of(cli, a, &reply);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        return cli_print_json(stet_buf_str(&reply), /* pretty= */ false);
    stet_str markdown = stet_mp_get_str(stet_buf_str(&reply), "markdown", (stet_str){NULL, 0});
    if (!cli->terminal)
        return cli_print(markdown);
    put_for_terminal(&text, markdown);
    if (text.size > 0 && text.data[text.size - 1] != '\n')
        stet_buf_append_byte(&text, '\n');
    return cli_print(stet_buf_str(&text));
}

/* The version that a put without --base replaces: the current one, 0 when there is no document yet. */
static int current_version(stet_cli *cli, const char *project, uint64_t *ret_version) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(1024);
    stet_mp_map(&body, 1);
    stet_mp_put_cstr(&body, "projectId", project);
    stet_str text = stet_buf_str(&body);
    if (!cli_running(cli) || cli_client(cli) == NULL)
        return CLI_UNREACHABLE;
    stet_answer answer = {0};
    if (stet_client_request(cli->client, "drafter.document.get", (const uint8_t *)text.data, text.size, NULL,
                            CLI_TIMEOUT_MS, &answer) != 0)
        return cli_fail(CLI_UNREACHABLE, "%s", stet_client_error(cli->client));
    *ret_version = 0;
    if (answer.code == NULL)
        *ret_version = stet_mp_get_uint(stet_str_from(answer.body, answer.body_size), "version", 0);
    else if (strcmp(answer.code, "not_found") != 0)
        return cli_fail_answer(&answer);
    return CLI_DONE;
}

static int print_reply(const stet_cli *cli, const char *command, const stet_buf *reply) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(CLI_TEXT_MAX);
    if (cli->json || !show_answer(command, stet_buf_str(reply), &text))
        return cli_print_json(stet_buf_str(reply), /* pretty= */ false);
    return cli_print(stet_buf_str(&text));
}

int run_doc_put(stet_cli *cli, const args *a) {
    const char *project = args_get(a, "PROJECT");
    CLEANUP(stet_buf_done) stet_buf markdown = STET_BUF(DOCUMENT_BYTES_MAX);
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(CLI_BODY_MAX), reply = STET_BUF(CLI_BODY_MAX);
    int rc = cli_read_text(args_get(a, "FILE"), /* plain_is_path= */ true, &markdown);
    uint64_t base = args_number(a, "--base", 0);
    if (rc == CLI_DONE && !args_has(a, "--base"))
        rc = current_version(cli, project, &base);
    if (rc != CLI_DONE)
        return rc;
    stet_mp_map(&body, 3);
    stet_mp_put_cstr(&body, "projectId", project);
    stet_mp_put_uint(&body, "baseVersion", base);
    stet_mp_put_str(&body, "markdown", stet_buf_str(&markdown));
    rc = cli_request(cli, a->command->request, stet_buf_str(&body), NULL, CLI_TIMEOUT_MS, &reply);
    return rc == CLI_DONE ? print_reply(cli, a->command->request, &reply) : rc;
}

/* ---- transcript append ---- */

static const stet_mp_limits items_limits = {.depth_max = 16, .nodes_max = 8 << 20};

/* One JSON value a line; returns the number of items. */
static int read_lines(stet_str text, stet_buf *ret_items, uint32_t *ret_count) {
    int number = 0;
    for (size_t at = 0; at < text.size;) {
        const char *line = text.data + at;
        const char *end = memchr(line, '\n', text.size - at);
        size_t size = end ? (size_t)(end - line) : text.size - at;
        at += size + 1;
        number++;
        size_t blank = 0;
        while (blank < size && (line[blank] == ' ' || line[blank] == '\t' || line[blank] == '\r'))
            blank++;
        if (blank == size)
            continue;
        stet_error e;
        if (stet_json_to_mp(stet_str_from(line, size), STET_MP_LIMITS_BODY, ret_items, &e) != STET_OK)
            return cli_fail(CLI_USAGE, "line %d: %s (give a JSON array, or one item a line)", number,
                            e.message);
        (*ret_count)++;
    }
    return CLI_DONE;
}

static int read_items(const char *file, stet_buf *ret_items, uint32_t *ret_count) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(CLI_TEXT_MAX), array = STET_BUF(CLI_TEXT_MAX);
    int rc = cli_read_text(file, /* plain_is_path= */ true, &text);
    if (rc != CLI_DONE)
        return rc;
    size_t at = 0;
    while (at < text.size && strchr(" \t\r\n", text.data[at]) != NULL && text.data[at] != '\0')
        at++;
    if (at == text.size || text.data[at] != '[')
        return read_lines(stet_buf_str(&text), ret_items, ret_count);
    stet_error e;
    if (stet_json_to_mp(stet_buf_str(&text), items_limits, &array, &e) != STET_OK)
        return cli_fail(CLI_USAGE, "%s: %s", file, e.message);
    stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&array));
    *ret_count = stet_mp_read_array(&r);
    stet_buf_append(ret_items, r.at, (size_t)(r.end - r.at));
    return CLI_DONE;
}

typedef struct totals {
    uint64_t appended, repeated, items;
    stet_buf warnings; /* MessagePack values, one after the other */
    uint32_t warnings_count;
} totals;

static void add_totals(totals *t, stet_str reply) {
    t->appended += stet_mp_get_uint(reply, "appended", 0);
    t->repeated += stet_mp_get_uint(reply, "repeated", 0);
    t->items = stet_mp_get_uint(reply, "items", 0);
    stet_str warnings = stet_mp_get_raw(reply, "warnings");
    stet_mp_reader r = stet_mp_reader_of(warnings);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    stet_buf_append(&t->warnings, r.at, (size_t)(r.end - r.at));
    t->warnings_count += count;
}

/* Sends the next items, as many as one request takes. */
static int send_part(stet_cli *cli, const args *a, stet_mp_reader *r, uint32_t *left, totals *t) {
    const uint8_t *start = r->at;
    uint32_t items = 0;
    while (*left > 0 && items < PART_ITEMS_MAX && (items == 0 || r->at - start < PART_BYTES_MAX)) {
        (void)stet_mp_read_raw(r);
        items++;
        (*left)--;
    }
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(CLI_BODY_MAX), reply = STET_BUF(CLI_BODY_MAX);
    stet_mp_map(&body, 2);
    stet_mp_put_cstr(&body, "projectId", args_get(a, "PROJECT"));
    stet_mp_cstr(&body, "items");
    stet_mp_array(&body, items);
    stet_buf_append(&body, start, (size_t)(r->at - start));
    if (!stet_buf_ok(&body))
        return cli_fail(CLI_USAGE, "an item is too large");
    int rc = cli_request(cli, a->command->request, stet_buf_str(&body), NULL, CLI_TIMEOUT_MS, &reply);
    if (rc == CLI_DONE)
        add_totals(t, stet_buf_str(&reply));
    return rc;
}

static void totals_done(totals *t) {
    stet_buf_done(&t->warnings);
}

int run_transcript_append(stet_cli *cli, const args *a) {
    CLEANUP(stet_buf_done) stet_buf items = STET_BUF(CLI_TEXT_MAX), merged = STET_BUF(CLI_TEXT_MAX);
    CLEANUP(totals_done) totals t = {.warnings = STET_BUF(CLI_TEXT_MAX)};
    uint32_t left = 0;
    int rc = read_items(args_get(a, "FILE"), &items, &left);
    if (rc == CLI_DONE && left == 0)
        return cli_fail(CLI_USAGE, "%s has no items", args_get(a, "FILE"));
    stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&items));
    while (rc == CLI_DONE && left > 0)
        rc = send_part(cli, a, &r, &left, &t);
    if (rc != CLI_DONE)
        return rc;
    stet_mp_map(&merged, 4);
    stet_mp_put_uint(&merged, "appended", t.appended);
    stet_mp_put_uint(&merged, "repeated", t.repeated);
    stet_mp_put_uint(&merged, "items", t.items);
    stet_mp_cstr(&merged, "warnings");
    stet_mp_array(&merged, t.warnings_count);
    stet_buf_append_str(&merged, stet_buf_str(&t.warnings));
    return print_reply(cli, a->command->request, &merged);
}
