/* Settings: sources, checks and secrets. */
#include "proto/base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct fixture {
    char directory[64];
    char path[96];
} fixture;

static int set_up(void **state) {
    static fixture f;
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        if (stet_setting_at((stet_setting)i)->environment[0] != '\0')
            (void)unsetenv(stet_setting_at((stet_setting)i)->environment);
    }
    (void)snprintf(f.directory, sizeof f.directory, "/tmp/stet-config-XXXXXX");
    assert_non_null(mkdtemp(f.directory));
    (void)snprintf(f.path, sizeof f.path, "%s/stet.conf", f.directory);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    (void)unlink(f->path);
    return rmdir(f->directory);
}

static stet_code load(fixture *f, const char *text, mode_t mode, stet_config **ret, stet_error *e) {
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(f->path, mode), 0);
    memset(e, 0, sizeof *e);
    return stet_config_load(f->path, ret, e);
}

static void refused(fixture *f, const char *text, const char *reason) {
    stet_config *config = NULL;
    stet_error e;
    assert_int_equal(load(f, text, 0600, &config, &e), STET_INVALID);
    assert_null(config);
    if (strstr(e.message, reason) == NULL)
        fail_msg("'%s' does not contain '%s'", e.message, reason);
    assert_non_null(strstr(e.message, f->path));
}

static void defaults_are_valid_and_named_by_source(void **state) {
    (void)state;
    stet_config *config = NULL;
    stet_error e;
    assert_int_equal(stet_config_load(NULL, &config, &e), STET_OK);
    assert_int_equal(stet_config_int(config, STET_SETTING_broker_timeout), 30000);
    assert_int_equal(stet_config_int(config, STET_SETTING_store_memory), 64 << 20);
    assert_int_equal(stet_config_int(config, STET_SETTING_actor_events_keep), INT64_C(30) * 24 * 3600 * 1000);
    assert_false(stet_config_bool(config, STET_SETTING_openai_auth_optional));
    assert_string_equal(stet_config_str(config, STET_SETTING_front_listen), "");
    assert_true(stet_config_list_has(config, STET_SETTING_drafter_retry_statuses, 429));
    assert_false(stet_config_list_has(config, STET_SETTING_drafter_retry_statuses, 42));
    assert_int_equal(stet_config_source(config, STET_SETTING_openai_model), STET_FROM_DEFAULT);
    stet_config_free(config);
}

static void environment_wins_over_file_wins_over_default(void **state) {
    fixture *f = *state;
    stet_config *config = NULL;
    stet_error e;
    (void)setenv("OPENAI_MODEL", "from-environment", 1);
    (void)setenv("OPENAI_ORGANIZATION", "", 1); /* empty: as if not set */
    const char *text =
        "# a comment\n  # another\n\nopenai\r\n    model = from-file\r\n    organization = \"a # b\" # why\n"
        "drafter\n    retryStatuses = \"\"\n    concurrency = 9\nbroker.queueMax = 12\n";
    assert_int_equal(load(f, text, 0644, &config, &e), STET_OK);
    assert_string_equal(stet_config_str(config, STET_SETTING_openai_model), "from-environment");
    assert_int_equal(stet_config_source(config, STET_SETTING_openai_model), STET_FROM_ENVIRONMENT);
    assert_string_equal(stet_config_str(config, STET_SETTING_openai_organization), "a # b");
    assert_int_equal(stet_config_int(config, STET_SETTING_drafter_concurrency), 9);
    assert_int_equal(stet_config_int(config, STET_SETTING_broker_queue_max), 12);
    assert_int_equal(stet_config_source(config, STET_SETTING_broker_queue_max), STET_FROM_FILE);
    assert_false(stet_config_list_has(config, STET_SETTING_drafter_retry_statuses, 429));
    stet_config_free(config);
    (void)unsetenv("OPENAI_MODEL");
    (void)unsetenv("OPENAI_ORGANIZATION");
}

static void typo_is_an_error_with_file_and_key(void **state) {
    fixture *f = *state;
    stet_config *config = NULL;
    stet_error e;
    assert_int_equal(load(f, "broker\n    queueMx = 1\n", 0600, &config, &e), STET_INVALID);
    assert_string_equal(e.field, "broker.queueMx");
    assert_non_null(strstr(e.message, f->path));
    refused(f, "brokr\n    queueMax = 1\n", "brokr");
    refused(f, "queueMax = 1\n", "queueMax");
    refused(f, "broker\n    queueMax = 1\n        deeper = 2\n", "broker.queueMax");
    refused(f, "broker = 5\n", "broker");
    refused(f, "broker\n    queueMax = 1\n    queueMax = 2\n", "twice");
}

static void wrong_value_is_an_error(void **state) {
    fixture *f = *state;
    refused(f, "broker\n    queueMax = many\n", "broker.queueMax");
    refused(f, "broker\n    queueMax = -1\n", "whole number");
    refused(f, "broker\n    queueMax = 99999999999999999999\n", "whole number");
    refused(f, "broker\n    queueMax =\n", "whole number");
    refused(f, "broker\n    timeout = 30 s\n", "duration");
    refused(f, "broker\n    timeout = 9223372036854775807d\n", "duration");
    refused(f, "store\n    memory = 32MB\n", "size");
    refused(f, "openai\n    authOptional = maybe\n", "true or false");
    refused(f, "drafter\n    retryStatuses = 408,,429\n", "commas");
    refused(f, "log\n    level = loud\n", "debug, info, warn or error");
}

static void broken_syntax_names_the_line(void **state) {
    fixture *f = *state;
    refused(f, "broker\n  queueMax = 1\n", "line 2: indent");
    refused(f, "broker\n\tqueueMax = 1\n", "line 2: indent");
    refused(f, "broker\n        queueMax = 1\n", "line 2: indented deeper");
    refused(f, "broker\n    queueMax: 1\n", "line 2: expected '='");
    refused(f, "openai\n    model = \"x\n", "line 2: the quote");
    refused(f, "openai\n    model = \"x\" y\n", "line 2: text after");
    refused(f, "# fine\n= 4\n", "line 2: a name");
    refused(f, "bv/",
            "line 1: expected '='"); /* zconfig would say so on stdout, as for anything with a slash */
    refused(f, "/bv = 1\n", "line 1: a name");
}

/* Each name more takes zconfig longer: a mebibyte of them took seconds. */
static void a_file_of_names_without_end_is_refused(void **state) {
    fixture *f = *state;
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(1 << 20);
    for (int i = 0; i < 2000; i++)
        stet_buf_append_str(&text, STET_STR("broker\n"));
    stet_buf_append_byte(&text, 0);
    refused(f, (const char *)text.data, "line 1001: more names");
}

static void secret_in_a_file_that_others_can_read_is_refused(void **state) {
    fixture *f = *state;
    stet_config *config = NULL;
    stet_error e;
    const char *text = "openai\n    apiKey = sk-secret\n";
    assert_int_equal(load(f, text, 0640, &config, &e), STET_INVALID);
    assert_non_null(strstr(e.message, "chmod 600"));
    assert_null(strstr(e.message, "sk-secret"));
    assert_int_equal(load(f, text, 0604, &config, &e), STET_INVALID);
    assert_int_equal(load(f, text, 0600, &config, &e), STET_OK);
    assert_string_equal(stet_config_str(config, STET_SETTING_openai_api_key), "sk-secret");
    CLEANUP(stet_buf_done) stet_buf shown = STET_BUF(64);
    stet_config_show(config, STET_SETTING_openai_api_key, &shown);
    assert_true(stet_str_is(stet_buf_str(&shown), "****"));
    stet_config_free(config);
}

static void missing_file_is_an_error(void **state) {
    (void)state;
    stet_config *config = NULL;
    stet_error e;
    assert_int_equal(stet_config_load("/nonexistent/stet.conf", &config, &e), STET_INVALID);
    assert_non_null(strstr(e.message, "/nonexistent/stet.conf"));
}

static void set_checks_like_the_file(void **state) {
    (void)state;
    stet_config *config = NULL;
    stet_error e;
    assert_int_equal(stet_config_load(NULL, &config, &e), STET_OK);
    assert_int_equal(stet_config_set(config, STET_SETTING_broker_heartbeat, "10ms", &e), STET_OK);
    assert_int_equal(stet_config_int(config, STET_SETTING_broker_heartbeat), 10);
    assert_int_equal(stet_config_set(config, STET_SETTING_broker_heartbeat, "soon", &e), STET_INVALID);
    assert_int_equal(stet_config_int(config, STET_SETTING_broker_heartbeat), 10);
    assert_null(stet_config_free(config));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_valid_and_named_by_source, set_up, tear_down),
        cmocka_unit_test_setup_teardown(environment_wins_over_file_wins_over_default, set_up, tear_down),
        cmocka_unit_test_setup_teardown(typo_is_an_error_with_file_and_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_value_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(broken_syntax_names_the_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_of_names_without_end_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(secret_in_a_file_that_others_can_read_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_file_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(set_checks_like_the_file, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
