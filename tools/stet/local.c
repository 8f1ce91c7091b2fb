/* What needs no broker: inspect, config, completion. */
#include "tools/stet/commands.h"
#include "tools/stet/table.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* The actor's own program knows its tables and opens its store, so this one needs no database code. */
int run_inspect(stet_cli *cli, const args *a) {
    const char *actor = args_get(a, "ACTOR");
    for (const char *at = actor; *at != '\0'; at++) {
        if (!islower((unsigned char)*at) && !(at != actor && *at == '-'))
            return cli_fail(CLI_USAGE, "'%.40s' is not the name of an actor; try drafter", actor);
    }
    char program[2 * STET_PATH_MAX];
    (void)snprintf(program, sizeof program, "%s/stet-%.40s", cli->programs, actor);
    char *arguments[8] = {program, "--data", cli->paths.data};
    size_t count = 3;
    if (cli->config_path[0] != '\0') {
        arguments[count++] = "--config";
        arguments[count++] = cli->config_path;
    }
    arguments[count++] = "--inspect";
    if (args_has(a, "PREFIX"))
        arguments[count++] = (char *)(uintptr_t)args_get(a, "PREFIX");
    (void)signal(SIGPIPE, SIG_DFL);
    (void)execv(program, arguments);
    return cli_fail(errno == ENOENT ? CLI_USAGE : CLI_ERROR, "cannot run %s: %s", program, strerror(errno));
}

/* ---- config ---- */

static const char *source_name(stet_setting_source source) {
    switch (source) {
    case STET_FROM_DEFAULT:
        return "default";
    case STET_FROM_FILE:
        return "file";
    case STET_FROM_ENVIRONMENT:
        return "environment";
    }
    return "default";
}

static void put_setting(const stet_config *config, stet_setting setting, stet_buf *b) {
    const stet_setting_info *info = stet_setting_at(setting);
    CLEANUP(stet_buf_done) stet_buf value = STET_BUF(CLI_BODY_MAX);
    stet_config_show(config, setting, &value);
    stet_mp_map(b, 8);
    stet_mp_put_cstr(b, "key", info->key);
    stet_mp_put_str(b, "value", stet_buf_str(&value));
    stet_mp_put_cstr(b, "source", source_name(stet_config_source(config, setting)));
    stet_mp_put_cstr(b, "default", info->fallback);
    stet_mp_put_cstr(b, "type", info->type_name);
    stet_mp_put_cstr(b, "environment", info->environment);
    stet_mp_put_bool(b, "secret", info->secret);
    stet_mp_put_cstr(b, "help", info->help);
}

static void put_setting_row(const stet_config *config, stet_setting setting, table *t) {
    const stet_setting_info *info = stet_setting_at(setting);
    CLEANUP(stet_buf_done) stet_buf value = STET_BUF(CLI_BODY_MAX);
    stet_config_show(config, setting, &value);
    table_cell_c(t, info->key);
    table_cell(t, stet_buf_str(&value));
    table_cell_c(t, source_name(stet_config_source(config, setting)));
    table_cell_c(t, info->help);
}

int run_config(stet_cli *cli, const args *a) {
    (void)a;
    stet_config *config = NULL;
    int rc = cli_load_config(cli, &config);
    if (rc != CLI_DONE)
        return rc;
    static const char *const titles[] = {"SETTING", "VALUE", "SOURCE", "WHAT IT IS"};
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(CLI_TEXT_MAX);
    CLEANUP(table_done) table t = table_of(titles, COUNT_OF(titles));
    if (cli->json) {
        stet_mp_map(&b, 2);
        stet_mp_put_cstr(&b, "file", cli->config_path);
        stet_mp_cstr(&b, "settings");
        stet_mp_array(&b, STET_SETTINGS_COUNT);
    }
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        if (cli->json)
            put_setting(config, (stet_setting)i, &b);
        else
            put_setting_row(config, (stet_setting)i, &t);
    }
    stet_config_free(config);
    if (cli->json)
        return cli_print_json(stet_buf_str(&b), /* pretty= */ false);
    table_print(&t, &b);
    stet_buf_printf(&b, "\nfile: %s\n",
                    cli->config_path[0] != '\0' ? cli->config_path : "none (DATA/stet.conf would be read)");
    return cli_print(stet_buf_str(&b));
}

int run_completion(stet_cli *cli, const args *a) {
    (void)cli;
    if (strcmp(args_get(a, "SHELL"), "bash") != 0)
        return cli_fail(CLI_USAGE, "there is a script for bash only");
    CLEANUP(stet_buf_done) stet_buf names = STET_BUF(CLI_BODY_MAX), script = STET_BUF(CLI_BODY_MAX);
    call_names(&names);
    args_completion(stet_commands, stet_globals, stet_buf_str(&names), &script);
    return cli_print(stet_buf_str(&script));
}
