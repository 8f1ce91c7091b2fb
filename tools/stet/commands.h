/* commands - the one table of what `stet` can do, and the functions behind it. */
#ifndef TOOLS_STET_COMMANDS_H
#define TOOLS_STET_COMMANDS_H

#include "tools/stet/cli.h"

extern const args_command stet_commands[];
extern const args_row stet_globals[];

/* supervisor/ */
int run_up(stet_cli *cli, const args *a);
int run_down(stet_cli *cli, const args *a);
/* status.c */
int run_status(stet_cli *cli, const args *a);
/* call.c */
int run_call(stet_cli *cli, const args *a);
/* Sends the row's request with a body made of the arguments; shows the answer as a table, or as JSON with
 * --json. */
int run_request(stet_cli *cli, const args *a);
/* watch.c */
int run_watch(stet_cli *cli, const args *a);
int run_draft(stet_cli *cli, const args *a);
/* documents.c */
int run_doc_get(stet_cli *cli, const args *a);
int run_doc_put(stet_cli *cli, const args *a);
int run_transcript_append(stet_cli *cli, const args *a);
/* local.c */
int run_inspect(stet_cli *cli, const args *a);
int run_config(stet_cli *cli, const args *a);
int run_completion(stet_cli *cli, const args *a);
/* keys.c */
int run_keys_new(stet_cli *cli, const args *a);
int run_keys_list(stet_cli *cli, const args *a);
int run_keys_revoke(stet_cli *cli, const args *a);
/* doctor.c */
int run_doctor(stet_cli *cli, const args *a);

/* Command names as one text, separated by spaces. */
void call_names(stet_buf *b);
/* The answer of a friendly command for people; false when it has no form of its own. */
bool show_answer(const char *command, stet_str body, stet_buf *b);

#endif
