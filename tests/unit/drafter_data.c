/* Documents and transcripts: nothing is overwritten, nothing is dropped, repeats change nothing. */
#include "tests/unit/drafter_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define ITEM(id, previous, text, second)                                                                     \
    "{\"id\":\"" id "\",\"previousItemId\":" previous ",\"role\":\"user\",\"text\":\"" text                  \
    "\",\"timestamp\":\"2026-11-01T10:00:" second "Z\"}"
#define APPEND "{\"projectId\":\"p1\",\"items\":[%s]}"

static void append(rig *r, const char *items, const char *appended, const char *repeated,
                   const char *warning) {
    if (!rig_ask(r, "drafter.transcript.append", APPEND, items))
        fail_msg("%s", rig_get(r, "message"));
    assert_string_equal(rig_get(r, "appended"), appended);
    assert_string_equal(rig_get(r, "repeated"), repeated);
    assert_string_equal(rig_get(r, "warnings.0.kind"), warning ? warning : "(none)");
    assert_string_equal(rig_get(r, "warnings.1"), "(none)");
}

static void three_items(rig *r) {
    append(r,
           ITEM("m1", "null", "one", "01") "," ITEM("m2", "\"m1\"", "two", "02") "," ITEM("m3", "\"m2\"",
                                                                                          "three", "03"),
           "3", "0", NULL);
}

/* ---- transcripts ---- */

static void items_are_kept_in_the_order_they_came(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    three_items(&r);
    rig_crash(&r);
    assert_true(rig_ask(&r, "drafter.transcript.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "items.0.id"), "m1");
    assert_string_equal(rig_get(&r, "items.0.previousItemId"), "null");
    assert_string_equal(rig_get(&r, "items.2.text"), "three");
    assert_string_equal(rig_get(&r, "items.2.timestamp"), "2026-11-01T10:00:03.000Z");
    assert_string_equal(rig_get(&r, "snapshot.items"), "3");
    assert_string_equal(rig_get(&r, "snapshot.lastItemId"), "m3");
    assert_string_equal(rig_get(&r, "cursor"), "(none)");
}

static void k23_a_repeat_has_no_effect(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    three_items(&r);
    uint64_t before = stet_store_last_number(r.store);
    char snapshot[64];
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    (void)snprintf(snapshot, sizeof(snapshot), "%s", rig_get(&r, "transcript.snapshotAt"));
    rig_pass(&r, 1000);
    append(&r, ITEM("m2", "\"m1\"", "two", "02"), "0", "1", NULL);
    assert_string_equal(rig_get(&r, "items"), "3");
    assert_true(stet_store_last_number(r.store) >= before);
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "transcript.snapshotAt"), snapshot);
}

static void d37_k23_the_same_id_with_other_content_is_stored_beside_the_first_and_warned(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    three_items(&r);
    append(&r, ITEM("m2", "\"m1\"", "changed", "02"), "1", "0", "duplicate_id");
    append(&r, ITEM("m2", "\"m1\"", "changed", "02"), "0", "1", NULL);
    append(&r, ITEM("m2", "\"m1\"", "two", "02"), "0", "1", NULL);
    append(&r, ITEM("m2", "\"m1\"", "again", "02"), "1", "0", "duplicate_id");
    append(&r, ITEM("m4", "\"m3\"", "four", "04"), "1", "0", NULL);
    assert_true(rig_ask(&r, "drafter.transcript.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "items.1.text"), "two");
    assert_string_equal(rig_get(&r, "items.3.text"), "changed");
    assert_string_equal(rig_get(&r, "items.4.text"), "again");
    assert_int_equal(rig_count(&r.logs, "warn transcript.anomaly"), 2);
    assert_int_equal(rig_check_problems(&r), 0);
}

static void d38_d39_links_and_times_that_do_not_fit_are_stored_and_warned_once(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    three_items(&r);
    append(&r, ITEM("m4", "\"gone\"", "four", "04"), "1", "0", "missing_previous");
    append(&r, ITEM("m5", "null", "five", "05"), "1", "0", "missing_previous");
    append(&r, ITEM("m6", "\"m5\"", "six", "00"), "1", "0", "timestamp_order");
    append(&r, ITEM("m7", "\"m6\"", "seven", "07"), "1", "0", NULL);
    append(&r, ITEM("m8", "\"m2\"", "branch", "08"), "1", "0", NULL);
    assert_true(rig_ask(&r, "drafter.transcript.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "items.7.id"), "m8");
}

static void transcripts_are_read_page_by_page(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    char cursor[32] = "1";
    rig_start(&r, NULL);
    three_items(&r);
    append(&r, ITEM("m4", "\"m3\"", "four", "04"), "1", "0", NULL);
    for (int page = 0; page < 2; page++) {
        assert_true(rig_ask(&r, "drafter.transcript.get",
                            "{\"projectId\":\"p1\",\"limit\":2,\"cursor\":\"%s\"}", cursor));
        assert_string_equal(rig_get(&r, "items.0.id"), page == 0 ? "m1" : "m3");
        assert_string_equal(rig_get(&r, "items.2"), "(none)");
        (void)snprintf(cursor, sizeof(cursor), "%s", rig_get(&r, "cursor"));
    }
    assert_string_equal(cursor, "(none)");
    assert_false(rig_ask(&r, "drafter.transcript.get", "{\"projectId\":\"p1\",\"cursor\":\"x\"}"));
    assert_string_equal(rig_get(&r, "field"), "cursor");
}

static void d36_every_project_with_a_transcript_is_listed(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    for (int i = 0; i < 5; i++)
        assert_true(rig_ask(&r, "drafter.transcript.append", "{\"projectId\":\"p%d\",\"items\":[%s]}", i,
                            ITEM("m1", "null", "x", "01")));
    size_t seen = 0;
    char body[128] = "{\"limit\":2}";
    for (int page = 0; page < 5; page++) {
        assert_true(rig_ask(&r, "drafter.transcript.list", "%s", body));
        for (int i = 0; i < 2; i++) {
            char path[40];
            char expected[16];
            (void)snprintf(path, sizeof(path), "transcripts.%d.projectId", i);
            (void)snprintf(expected, sizeof(expected), "p%zu", seen);
            if (strcmp(rig_get(&r, path), "(none)") == 0)
                break;
            assert_string_equal(rig_get(&r, path), expected);
            seen++;
        }
        if (strcmp(rig_get(&r, "cursor"), "(none)") == 0)
            break;
        (void)snprintf(body, sizeof(body), "{\"limit\":2,\"cursor\":\"%s\"}", rig_get(&r, "cursor"));
    }
    assert_int_equal(seen, 5);
}

/* ---- what reaches the prompt ---- */

static const char *user_message(rig *r) {
    return rig_json_get((const char *)rig_open_call(r)->body.data, "messages.1.content");
}

static void d43_d44_message_pointers_are_resolved_and_the_others_named(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    stet_id id;
    rig_start(&r, NULL);
    three_items(&r);
    assert_true(
        rig_ask(&r, "drafter.submit",
                "{\"projectId\":\"p1\",\"sessionId\":\"s1\",\"messagePointers\":[\"m2\",\"gone\",\"m2\"]}"));
    assert_true(stet_id_parse(stet_str_of(rig_get(&r, "jobId")), &id));
    const char *prompt = user_message(&r);
    assert_non_null(strstr(prompt, "[m2] user at 2026-11-01T10:00:02.000Z\ntwo"));
    assert_null(strstr(prompt, "[m1]"));
    rig_land(&r, "# One", "one");
    assert_string_equal(rig_job(&r, id, "unresolvedPointers"), "[\"gone\"]");
    assert_string_equal(rig_job(&r, id, "attempts.0.detail.unresolved.0"), "gone");
    assert_string_equal(rig_job(&r, id, "messagePointers.1"), "gone");
}

static void d45_anchors_bring_the_items_around_them_each_once(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, (const char *const[]){"drafter.excerptItems", "1", NULL});
    for (int i = 1; i <= 9; i++) {
        char previous[16];
        (void)snprintf(previous, sizeof(previous), i == 1 ? "null" : "\"m%d\"", i - 1);
        assert_true(rig_ask(&r, "drafter.transcript.append",
                            "{\"projectId\":\"p1\",\"items\":[{\"id\":\"m%d\",\"previousItemId\":%s,\"role\":"
                            "\"user\",\"text\":\"t%d\","
                            "\"timestamp\":\"2026-11-01T10:00:0%dZ\"}]}",
                            i, previous, i, i));
    }
    assert_true(rig_ask(
        &r, "drafter.submit",
        "{\"projectId\":\"p1\",\"sessionId\":\"s1\",\"transcriptAnchors\":[\"m9\",\"m2\",\"m3\",\"none\"]}"));
    const char *prompt = user_message(&r);
    static const char *const in[] = {"[m1]", "[m2]", "[m3]", "[m4]", "[m8]", "[m9]", "\n...\n"};
    static const char *const out[] = {"[m5]", "[m6]", "[m7]"};
    for (size_t i = 0; i < COUNT_OF(in); i++) {
        const char *found = strstr(prompt, in[i]);
        assert_non_null(found);
        assert_null(strstr(found + 1, in[i]));
    }
    for (size_t i = 0; i < COUNT_OF(out); i++)
        assert_null(strstr(prompt, out[i]));
}

static void d46_the_prompt_context_reaches_the_model_unchanged(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    static const char context[] = "{\"outlineTarget\":\"intro\",\"cues\":[1,-2.5,true,null,\"\\\"q\\\"\"],"
                                  "\"big\":9007199254740993,\"deep\":{\"a\":[{}]}}";
    rig_start(&r, NULL);
    assert_true(rig_ask(&r, "drafter.submit",
                        "{\"projectId\":\"p1\",\"sessionId\":\"s1\",\"promptContext\":%s}", context));
    assert_non_null(strstr(user_message(&r), context));
}

static void a_context_that_is_too_long_is_cut_by_items_and_said(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    char *text = malloc(60001);
    assert_non_null(text);
    memset(text, 'x', 60000);
    text[60000] = '\0';
    for (int i = 1; i <= 6; i++)
        assert_true(
            rig_ask(&r, "drafter.transcript.append",
                    "{\"projectId\":\"p1\",\"items\":[{\"id\":\"m%d\",\"role\":\"user\",\"text\":\"%s\","
                    "\"timestamp\":\"2026-11-01T10:00:0%dZ\"}]}",
                    i, text, i));
    free(text);
    assert_true(rig_ask(&r, "drafter.submit",
                        "{\"projectId\":\"p1\",\"sessionId\":\"s1\",\"messagePointers\":[\"m1\",\"m2\","
                        "\"m3\",\"m4\",\"m5\",\"m6\"]}"));
    rig_call *call = rig_open_call(&r);
    assert_true(call->body.size < 300000);
    assert_non_null(strstr((const char *)call->body.data, "(2 more left out: too long)"));
}

/* ---- documents ---- */

static void a_put_on_an_old_base_is_refused_with_the_current_version(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    assert_true(
        rig_ask(&r, "drafter.document.put", "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"one\"}"));
    assert_string_equal(rig_get(&r, "version"), "1");
    assert_true(
        rig_ask(&r, "drafter.document.put", "{\"projectId\":\"p1\",\"baseVersion\":1,\"markdown\":\"two\"}"));
    static const int bases[] = {0, 1, 3};
    for (size_t i = 0; i < COUNT_OF(bases); i++) {
        assert_false(rig_ask(&r, "drafter.document.put",
                             "{\"projectId\":\"p1\",\"baseVersion\":%d,\"markdown\":\"x\"}", bases[i]));
        assert_string_equal(rig_get(&r, "code"), "conflict");
        assert_string_equal(rig_get(&r, "details.currentVersion"), "2");
    }
}

static void every_version_can_be_read_again(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    for (int i = 0; i < 5; i++)
        assert_true(rig_ask(&r, "drafter.document.put",
                            "{\"projectId\":\"p1\",\"baseVersion\":%d,\"markdown\":\"text %d\"}", i, i + 1));
    rig_crash(&r);
    assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\",\"version\":2}"));
    assert_string_equal(rig_get(&r, "markdown"), "text 2");
    assert_true(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "markdown"), "text 5");
    assert_false(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p1\",\"version\":6}"));
    assert_string_equal(rig_get(&r, "code"), "not_found");
    assert_true(rig_ask(&r, "drafter.document.history", "{\"projectId\":\"p1\",\"limit\":2}"));
    assert_string_equal(rig_get(&r, "versions.0.version"), "5");
    assert_string_equal(rig_get(&r, "versions.1.version"), "4");
    assert_string_equal(rig_get(&r, "cursor"), "3");
    assert_true(
        rig_ask(&r, "drafter.document.history", "{\"projectId\":\"p1\",\"limit\":9,\"cursor\":\"3\"}"));
    assert_string_equal(rig_get(&r, "versions.0.version"), "3");
    assert_string_equal(rig_get(&r, "versions.2.size"), "6");
    assert_string_equal(rig_get(&r, "cursor"), "(none)");
    assert_true(rig_ask(&r, "drafter.document.history", "{\"projectId\":\"nobody\"}"));
    assert_string_equal(rig_get(&r, "versions"), "[]");
}

static void x10_projects_do_not_see_each_other(void **state) {
    (void)state;
    CLEANUP(rig_done) rig r;
    rig_start(&r, NULL);
    assert_true(rig_ask(&r, "drafter.document.put",
                        "{\"projectId\":\"p1\",\"baseVersion\":0,\"markdown\":\"secret\"}"));
    three_items(&r);
    assert_true(rig_ask(&r, "drafter.submit",
                        "{\"projectId\":\"p\",\"sessionId\":\"s2\",\"messagePointers\":[\"m1\"]}"));
    assert_null(strstr(user_message(&r), "secret"));
    assert_null(strstr(user_message(&r), "[m1]"));
    assert_false(rig_ask(&r, "drafter.document.get", "{\"projectId\":\"p\"}"));
    assert_true(rig_ask(&r, "drafter.queue", "{\"projectId\":\"p1\"}"));
    assert_string_equal(rig_get(&r, "active"), "null");
}

/* The rows that stand between a project's people and the model: a field that goes missing from the table
 * fails here. */
static void d49_the_fields_that_were_promised_are_in_the_table(void **state) {
    (void)state;
    static const char *const promised[] = {"projectId", "sessionId", "messagePointers", "transcriptAnchors",
                                           "promptContext"};
    const stet_record *record = &stet_command_at(STET_CMD_drafter_submit)->record;
    for (size_t i = 0; i < COUNT_OF(promised); i++) {
        bool found = false;
        for (size_t f = 0; f < record->fields_count; f++)
            found |= strcmp(record->fields[f].name, promised[i]) == 0;
        if (!found)
            fail_msg("drafter.submit has no field %s", promised[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(d49_the_fields_that_were_promised_are_in_the_table),
        cmocka_unit_test(items_are_kept_in_the_order_they_came),
        cmocka_unit_test(k23_a_repeat_has_no_effect),
        cmocka_unit_test(d37_k23_the_same_id_with_other_content_is_stored_beside_the_first_and_warned),
        cmocka_unit_test(d38_d39_links_and_times_that_do_not_fit_are_stored_and_warned_once),
        cmocka_unit_test(transcripts_are_read_page_by_page),
        cmocka_unit_test(d36_every_project_with_a_transcript_is_listed),
        cmocka_unit_test(d43_d44_message_pointers_are_resolved_and_the_others_named),
        cmocka_unit_test(d45_anchors_bring_the_items_around_them_each_once),
        cmocka_unit_test(d46_the_prompt_context_reaches_the_model_unchanged),
        cmocka_unit_test(a_context_that_is_too_long_is_cut_by_items_and_said),
        cmocka_unit_test(a_put_on_an_old_base_is_refused_with_the_current_version),
        cmocka_unit_test(every_version_can_be_read_again),
        cmocka_unit_test(x10_projects_do_not_see_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
