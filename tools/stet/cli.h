/* cli - what the commands share: where the instance is, the connection, and how answers are shown.
 *
 * Commands return exit codes. A problem is reported once, where it is found: usage as a sentence on stderr,
 * an error answer as its JSON on stderr. Thread: one. Memory: cli_done(). */
#ifndef TOOLS_STET_CLI_H
#define TOOLS_STET_CLI_H

#include "proto/base/config.h"
#include "proto/base/paths.h"
#include "proto/client/stet.h"
#include "proto/wire/mp.h"
#include "tools/stet/args.h"

enum { CLI_DONE = 0, CLI_ERROR = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };
enum { CLI_TEXT_MAX = 64 << 20, CLI_BODY_MAX = 4 << 20, CLI_PAGES_MAX = 10000 };

struct stet_cli {
    stet_paths paths;
    char config_path[STET_PATH_MAX]; /* "" for none */
    char programs[STET_PATH_MAX];    /* directory of the stet executable */
    bool json;
    bool terminal;   /* stdout is one */
    bool data_given; /* --data: that instance is meant, whatever client.front says */
    stet_client *client;
    stet_config *remote; /* its client.* settings say where the broker is; NULL: the local instance */
};

/* Finds data directory, configuration file and programs. Prints what is wrong. */
int cli_open(stet_cli *self, const args *a);
void cli_done(stet_cli *self);

/* "stet: ..." on stderr; returns the exit code given. */
int cli_fail(int exit_code, const char *format, ...) PRINTF(2, 3);
int cli_fail_error(int exit_code, const stet_error *e);
/* An error as JSON on stderr; returns the exit code that belongs to it. */
int cli_fail_answer(const stet_answer *answer);

/* False, said with what to do, when neither broker nor supervisor is there. For what may also be asked of a
 * broker elsewhere: call it before cli_client(), which then goes where client.front says. */
bool cli_running(stet_cli *self);
/* To the local instance, unless cli_running() has said otherwise. NULL when it cannot be made (reported). */
stet_client *cli_client(stet_cli *self);
/* Sends and waits. On CLI_DONE the reply is appended to ret_body; anything else is reported already. */
int cli_request(stet_cli *self, const char *command, stet_str body, const char *id_text, uint32_t timeout_ms,
                stet_buf *ret_body);
/* The same for the command's own request, with the body that its options make. */
enum { CLI_TIMEOUT_MS = 30000 };
int cli_request_of(stet_cli *self, const args *a, stet_buf *ret_body);
/* cli_request without a word, for what may well be down. False when there is no reply. */
bool cli_ask(stet_cli *self, const char *command, stet_str body, uint32_t timeout_ms, stet_buf *ret_body);

/* JSON text, @FILE or - (stdin) as it is, or converted to MessagePack. Reports what is wrong, returns
 * CLI_USAGE then. */
int cli_read_text(const char *argument, bool plain_is_path, stet_buf *ret_text);
int cli_read_json(const char *argument, stet_buf *ret_mp);
/* The request body that the given options and positionals of the command make, by their `field`. */
int cli_body(const args *a, stet_buf *ret_body);

/* Everything goes through these, so that a closed pipe ends a command with an exit code instead of a signal.
 */
int cli_print(stet_str text);
int cli_print_json(stet_str mp, bool pretty);

/* config file that the instance uses: --config, STET_CONFIG, else DATA/stet.conf when it is there. */
int cli_load_config(const stet_cli *self, stet_config **ret);

#endif
