/* Requests: `call` for any command, and the friendly commands that are a request with a table around the
 * answer. */
#include "proto/wire/id.h"
#include "proto/wire/json.h"
#include "proto/wire/schema.h"
#include "tools/stet/commands.h"

void call_names(stet_buf *b) {
    for (int i = 0; i < STET_CMD_COUNT; i++) {
        const stet_command *command = stet_command_at((stet_command_index)i);
        if (command->role != STET_ROLE_ACTOR)
            stet_buf_printf(b, "%s%s", i > 0 ? " " : "", command->name);
    }
}

/* Says before sending what the table knows; a service of a newer release may have commands that this one does
 * not know. */
static int check_name(const char *name) {
    if (stet_command_find(stet_str_of(name)) != NULL)
        return CLI_DONE;
    const char *dot = strchr(name, '.');
    if (dot == NULL)
        return cli_fail(CLI_USAGE, "'%.60s' is not SERVICE.COMMAND; try 'stet call drafter.queue --help'",
                        name);
    return CLI_DONE;
}

int run_call(stet_cli *cli, const args *a) {
    const char *name = args_get(a, "COMMAND");
    int rc = check_name(name);
    if (rc != CLI_DONE)
        return rc;
    const char *id_text = args_get(a, "--id");
    stet_id id;
    if (id_text != NULL && !stet_id_parse(stet_str_of(id_text), &id))
        return cli_fail(CLI_USAGE, "--id must be a UUID, not '%.60s'", id_text);
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(CLI_BODY_MAX), reply = STET_BUF(CLI_BODY_MAX);
    const char *text = args_get(a, "BODY");
    rc = cli_read_json(text ? text : "{}", &body);
    if (rc == CLI_DONE)
        rc = cli_request(cli, name, stet_buf_str(&body), id_text,
                         args_milliseconds(a, "--timeout", CLI_TIMEOUT_MS), &reply);
    return rc == CLI_DONE ? cli_print_json(stet_buf_str(&reply), cli->terminal) : rc;
}

int run_request(stet_cli *cli, const args *a) {
    CLEANUP(stet_buf_done) stet_buf reply = STET_BUF(CLI_BODY_MAX);
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(CLI_TEXT_MAX);
    int rc = cli_request_of(cli, a, &reply);
    if (rc != CLI_DONE)
        return rc;
    if (!cli->json && show_answer(a->command->request, stet_buf_str(&reply), &text))
        return cli_print(stet_buf_str(&text));
    return cli_print_json(stet_buf_str(&reply), cli->terminal && !cli->json);
}
