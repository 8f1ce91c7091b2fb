/* A changed prompt fails a test (D-50): snapshots of what the model is sent lie in snapshots/. After a change
 * that is meant, run with STET_SNAPSHOT_WRITE=1 and read the difference before committing it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "actors/drafter/model.h"
#include "actors/drafter/prompt.h"

static drafter_template builtin(void) {
    drafter_template made;
    stet_error e;
    stet_str text = stet_str_from(drafter_prompt_builtin, drafter_prompt_builtin_size);
    assert_int_equal(drafter_template_parse(text, &made, &e), STET_OK);
    return made;
}

static void check_snapshot(const char *name, stet_str actual) {
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", STET_SNAPSHOTS, name);
    if (getenv("STET_SNAPSHOT_WRITE")) {
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        assert_int_equal(fwrite(actual.data, 1, actual.size, out), actual.size);
        assert_int_equal(fclose(out), 0);
    }
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    CLEANUP(stet_buf_done) stet_buf expected = STET_BUF(1 << 20);
    uint8_t piece[4096];
    size_t size;
    while ((size = fread(piece, 1, sizeof(piece), in)) > 0)
        stet_buf_append(&expected, piece, size);
    assert_int_equal(fclose(in), 0);
    stet_buf_append_byte(&expected, '\0');
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(1 << 20);
    stet_buf_append_str(&text, actual);
    stet_buf_append_byte(&text, '\0');
    assert_string_equal((const char *)text.data, (const char *)expected.data);
}

static void check_prompt(const char *name, const drafter_prompt_values *values) {
    CLEANUP(drafter_template_done) drafter_template made = builtin();
    CLEANUP(stet_buf_done) stet_buf system = STET_BUF(DRAFTER_PROMPT_MAX);
    CLEANUP(stet_buf_done) stet_buf user = STET_BUF(DRAFTER_PROMPT_MAX);
    CLEANUP(stet_buf_done) stet_buf both = STET_BUF(DRAFTER_PROMPT_MAX);
    drafter_prompt_render(&made, values, &system, &user);
    stet_buf_printf(&both, "[system]\n%.*s\n[user]\n%.*s", STET_STR_ARG(stet_buf_str(&system)),
                    STET_STR_ARG(stet_buf_str(&user)));
    check_snapshot(name, stet_buf_str(&both));
}

static void d50_prompt_of_a_first_draft_is_as_recorded(void **state) {
    (void)state;
    check_prompt("prompt_first_draft.txt",
                 &(drafter_prompt_values){
                     .project_id = STET_STR("bakery"),
                     .document_version = STET_STR("0"),
                     .document = STET_STR(""),
                     .instruction = STET_STR("Write an outline."),
                     .excerpts = STET_STR("(none)"),
                     .messages = STET_STR("(none)"),
                     .prompt_context = STET_STR("(none)"),
                     .answer_format = stet_str_of(drafter_schema_instruction(DRAFTER_JSON_SCHEMA)),
                 });
}

static void d50_prompt_of_a_revision_is_as_recorded(void **state) {
    (void)state;
    check_prompt("prompt_revision.txt",
                 &(drafter_prompt_values){
                     .project_id = STET_STR("bakery"),
                     .document_version = STET_STR("3"),
                     .document = STET_STR("# Bread\n\nOld text with {{instruction}} in it."),
                     .instruction = STET_STR("Shorten the first section."),
                     .excerpts = STET_STR("[m1] user at 2026-11-01T10:00:00.000Z\nIt is too long."),
                     .messages = STET_STR("[m2] assistant at 2026-11-01T10:01:00.000Z\nShall I shorten it?"),
                     .prompt_context = STET_STR("{\"outlineTarget\":\"intro\",\"cues\":[1,2.5,null]}"),
                     .answer_format = stet_str_of(drafter_schema_instruction(DRAFTER_PLAIN)),
                 });
}

static void d50_request_body_is_as_recorded(void **state) {
    (void)state;
    static const char *const names[] = {"json_schema", "json_object", "none"};
    stet_config *config;
    stet_error e;
    assert_int_equal(stet_config_load(NULL, &config, &e), STET_OK);
    assert_int_equal(stet_config_set(config, STET_SETTING_openai_model, "model-x", &e), STET_OK);
    CLEANUP(stet_buf_done) stet_buf all = STET_BUF(1 << 20);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        drafter_schema schema;
        assert_int_equal(drafter_schema_parse(names[i], &schema, &e), STET_OK);
        drafter_model_request(config, schema, STET_STR("Be \"good\"."), STET_STR("Write\nit."), &all);
        stet_buf_append_byte(&all, '\n');
    }
    (void)stet_config_free(config);
    check_snapshot("request_bodies.txt", stet_buf_str(&all));
}

static void what_is_filled_in_is_not_expanded_again(void **state) {
    (void)state;
    drafter_template made;
    stet_error e;
    assert_int_equal(
        drafter_template_parse(STET_STR("s\n=== user ===\n{{document}}/{{instruction}}"), &made, &e),
        STET_OK);
    CLEANUP(stet_buf_done) stet_buf system = STET_BUF(64);
    CLEANUP(stet_buf_done) stet_buf user = STET_BUF(64);
    drafter_prompt_render(
        &made,
        &(drafter_prompt_values){.document = STET_STR("{{instruction}}"), .instruction = STET_STR("I")},
        &system, &user);
    assert_true(stet_str_is(stet_buf_str(&user), "{{instruction}}/I"));
    assert_true(stet_str_is(stet_buf_str(&system), "s"));
    drafter_template_done(&made);
}

static void templates_that_cannot_work_are_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "no user part {{document}} {{instruction}}",
        "s\n=== user ===\n{{document}}",
        "s\n=== user ===\n{{instruction}}",
        "{{document}}\n=== user ===\n{{instruction}}",
        "{{typo}}\n=== user ===\n{{document}}{{instruction}}",
        "s\n=== user ===\n{{document}}{{instruction}}{{ document }}",
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        drafter_template made;
        stet_error e;
        assert_int_equal(drafter_template_parse(stet_str_of(texts[i]), &made, &e), STET_INVALID);
        assert_string_equal(e.field, "drafter.promptFile");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(d50_prompt_of_a_first_draft_is_as_recorded),
        cmocka_unit_test(d50_prompt_of_a_revision_is_as_recorded),
        cmocka_unit_test(d50_request_body_is_as_recorded),
        cmocka_unit_test(what_is_filled_in_is_not_expanded_again),
        cmocka_unit_test(templates_that_cannot_work_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
