/* stet - control client and supervisor. */
#include "proto/base/dumps.h"
#include "proto/wire/schema.h"
#include "tools/stet/commands.h"

#include <czmq.h>

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HELP_BYTES_MAX = 1 << 20 };

/* czmq reads ZSYS_... and would change limits behind our back, here and in every process started from here.
 */
static void clean_environment(void) {
    static const char prefix[] = "ZSYS_";
    for (bool found = true; found;) {
        found = false;
        for (char **variable = environ; *variable != NULL && !found; variable++) {
            char name[128];
            size_t size = strcspn(*variable, "=");
            if (strncmp(*variable, prefix, sizeof prefix - 1) != 0 || size >= sizeof name)
                continue;
            memcpy(name, *variable, size);
            name[size] = '\0';
            found = unsetenv(name) == 0;
        }
    }
}

static int print_help(const args *a) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(HELP_BYTES_MAX);
    const stet_command *called = NULL;
    if (a->command != NULL && a->command->run == run_call && args_get(a, "COMMAND") != NULL)
        called = stet_command_find(stet_str_of(args_get(a, "COMMAND")));
    if (called != NULL)
        stet_schema_help(called, &b);
    else if (a->command != NULL)
        args_command_help(a->command, stet_globals, &b);
    else
        args_overview(stet_commands, stet_globals, a->group, &b);
    return cli_print(stet_buf_str(&b));
}

static int usage_error(const args *a, const stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(HELP_BYTES_MAX);
    if (a->command != NULL) {
        stet_buf_printf(&b, "Usage: ");
        args_usage(a->command, &b);
        stet_buf_printf(&b, "\n'stet %s --help' explains", a->command->name);
    } else {
        stet_buf_printf(&b, "'stet --help' lists the commands");
    }
    return cli_fail(CLI_USAGE, "%s\n%.*s", e->message, STET_STR_ARG(stet_buf_str(&b)));
}

int main(int argc, char **argv) {
    clean_environment();
    stet_forbid_dumps(); /* secrets are in the environment, key files in memory */
    (void)umask(077);
    zsys_handler_set(NULL); /* czmq's first call would take SIGINT and SIGTERM */
    (void)signal(SIGPIPE, SIG_IGN);
    args a;
    stet_error e;
    if (args_parse(stet_commands, stet_globals, argc, argv, &a, &e) != STET_OK)
        return usage_error(&a, &e);
    if (args_has(&a, "--version") && a.command == NULL)
        return cli_print(STET_STR("stet " STET_SOFTWARE_VERSION "\n"));
    if (args_has(&a, "--help"))
        return print_help(&a);
    if (a.command == NULL) {
        (void)print_help(&a);
        return CLI_USAGE;
    }
    stet_cli c;
    int rc = cli_open(&c, &a);
    if (rc == CLI_DONE)
        rc = a.command->run(&c, &a);
    cli_done(&c);
    return rc;
}
