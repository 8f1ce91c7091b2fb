/* Events through the broker's core: relay, the last event of each session and actor, replay to new
 * subscribers. */
#include "tests/unit/broker_fixture.h"

#include <stdio.h>

static void event(fake *f, const char *session, const char *actor, unsigned sequence) {
    char topic[300], payload[400];
    (void)snprintf(topic, sizeof topic, "TOOL_PROGRESS/%s", session);
    (void)snprintf(payload, sizeof payload,
                   "TOOL_PROGRESS::{\"seq\":%u,\"sessionId\":\"%s\",\"actor\":\"%s\",\"kind\":\"k\"}",
                   sequence, session, actor);
    broker_core_event(f->core, stet_str_of(topic), stet_str_of(payload));
}

static void subscribe(fake *f, const char *prefix) {
    broker_core_subscribed(f->core, stet_str_of(prefix), f->now_ms);
}

static void assert_published(const fake *f, uint32_t index, const char *part) {
    assert_true(index < f->published_count);
    if (strstr(f->published[index].payload.data, part) == NULL)
        fail_msg("published %s, expected %s", f->published[index].payload.data, part);
}

/* The number of events that broker.last answers; the first one has to contain `part`. */
static uint32_t last(fake *f, const char *session, const char *part) {
    stet_buf body = STET_BUF(512);
    stet_mp_map(&body, 1);
    stet_mp_put_cstr(&body, "sessionId", session);
    stet_str answer = stet_mp_get_raw(fake_ask(f, "broker.last", stet_buf_str(&body)), "events");
    stet_buf_done(&body);
    stet_mp_reader r = stet_mp_reader_of(answer);
    uint32_t count = stet_mp_read_array(&r);
    if (count > 0) {
        stet_str text = stet_mp_read_str(&r);
        assert_int_equal(text.data[0], '{');
        assert_non_null(memmem(text.data, text.size, part, strlen(part)));
    }
    return count;
}

static void events_are_relayed_as_they_are(void **state) {
    fake *f = *state;
    broker_core_event(f->core, STET_STR("TOOL_PROGRESS/s"), STET_STR("TOOL_PROGRESS::{}"));
    broker_core_event(f->core, STET_STR("other"), STET_STR("whatever"));
    assert_int_equal(f->published_count, 2);
    assert_true(stet_str_is(f->published[0].topic, "TOOL_PROGRESS/s"));
    assert_true(stet_str_is(f->published[1].payload, "whatever"));
}

static void the_last_event_is_kept_for_each_session_and_actor(void **state) {
    fake *f = *state;
    event(f, "s1", "drafter", 1);
    event(f, "s1", "publisher", 1);
    event(f, "s1", "drafter", 2);
    event(f, "s2", "drafter", 9);
    assert_int_equal(last(f, "s1", "\"seq\":2"), 2);
    assert_int_equal(last(f, "s2", "\"seq\":9"), 1);
    assert_int_equal(last(f, "s3", ""), 0);
}

static void the_actor_is_found_by_its_key_only(void **state) {
    fake *f = *state;
    static const char *const payloads[] = {
        "TOOL_PROGRESS::{\"seq\":1,\"sessionId\":\"\\\"actor\\\":\\\"x\\\"\",\"actor\":\"drafter\"}",
        "TOOL_PROGRESS::{\"seq\":2,\"sessionId\":\"actor\",\"actor\":\"drafter\",\"extra\":{\"actor\":\"y\"}"
        "}",
        "TOOL_PROGRESS::{\"seq\":3, \"actor\" : \"drafter\"}",
    };
    for (size_t i = 0; i < COUNT_OF(payloads); i++)
        broker_core_event(f->core, STET_STR("TOOL_PROGRESS/s"), stet_str_of(payloads[i]));
    assert_int_equal(last(f, "s", "\"seq\":3"), 1);
    static const char *const odd[] = {"TOOL_PROGRESS::{\"actor\"", "{\"actor\":", "{\"actor\":5}",
                                      "{\"actor\":\"", ""};
    for (size_t i = 0; i < COUNT_OF(odd); i++)
        broker_core_event(f->core, STET_STR("TOOL_PROGRESS/odd"), stet_str_of(odd[i]));
    assert_int_equal(f->published_count, COUNT_OF(payloads) + COUNT_OF(odd));
}

static void the_session_unused_longest_is_forgotten(void **state) {
    fake *f = *state; /* sessions_max is 4 */
    event(f, "a", "drafter", 1);
    event(f, "b", "drafter", 1);
    event(f, "c", "drafter", 1);
    event(f, "d", "drafter", 1);
    event(f, "a", "drafter", 2); /* used again */
    event(f, "e", "drafter", 1);
    assert_int_equal(last(f, "b", ""), 0);
    assert_int_equal(last(f, "a", "\"seq\":2"), 1);
    for (unsigned i = 0; i < 1000; i++) {
        char session[16];
        (void)snprintf(session, sizeof session, "x%u", i);
        event(f, session, "drafter", 1);
        event(f, session, "media", 1);
    }
    fake_forget(f);
    subscribe(f, "");
    assert_int_equal(f->published_count, 8);
}

static void actors_of_a_session_are_bounded(void **state) {
    fake *f = *state;
    for (unsigned i = 0; i < 40; i++) {
        char actor[16];
        (void)snprintf(actor, sizeof actor, "a%u", i);
        event(f, "s", actor, i + 1);
    }
    assert_int_equal(last(f, "s", "\"seq\":40"), 16);
}

static void a_new_subscriber_gets_what_matches_newest_first(void **state) {
    fake *f = *state;
    event(f, "one", "drafter", 1);
    event(f, "two", "drafter", 2);
    event(f, "on", "drafter", 3);
    fake_forget(f);
    subscribe(f, "TOOL_PROGRESS/on");
    assert_int_equal(f->published_count, 2);
    assert_published(f, 0, "\"seq\":3");
    assert_published(f, 1, "\"seq\":1");
    subscribe(f, "TOOL_PROGRESS/nothing");
    subscribe(f, "x");
    assert_int_equal(f->published_count, 2);
}

static void repeated_subscriptions_are_replayed_once_more_after_the_interval(void **state) {
    fake *f = *state;
    event(f, "s", "drafter", 1);
    fake_forget(f);
    for (int i = 0; i < 50; i++)
        subscribe(f, "TOOL_PROGRESS/s");
    assert_int_equal(f->published_count, 1);
    fake_advance(f, 99);
    assert_int_equal(f->published_count, 1);
    fake_advance(f, 1); /* nobody who came meanwhile is left out */
    assert_int_equal(f->published_count, 2);
    fake_advance(f, 1000);
    assert_int_equal(f->published_count, 2);
    subscribe(f, "TOOL_PROGRESS/s");
    assert_int_equal(f->published_count, 3);
}

static void a_replay_is_bounded(void **state) {
    fake *f = *state;
    fake_stop(f);
    broker_options options = fake_options();
    options.sessions_max = 3000;
    fake_start(f, &options);
    for (unsigned i = 0; i < 3000; i++) {
        char session[16];
        (void)snprintf(session, sizeof session, "s%u", i);
        event(f, session, "drafter", i);
    }
    fake_forget(f);
    subscribe(f, "");
    assert_int_equal(f->published_count, 1024);
    assert_published(f, 0, "\"seq\":2999");
    /* Many prefixes at once cannot make it publish without end. */
    for (unsigned i = 0; i < 200; i++) {
        char prefix[16] = "TOOL_PROGRESS/s";
        prefix[i % 14] = '\0';
        subscribe(f, prefix);
    }
    assert_true(f->published_count <= 16384 + 1024);
    assert_true(fake_counter(f, "eventsReplayed") == f->published_count);
}

static void oversized_events_are_dropped_and_counted(void **state) {
    fake *f = *state;
    static char large[(64 << 10) + 1];
    broker_core_event(f->core, STET_STR("TOOL_PROGRESS/s"), stet_str_from(large, sizeof large));
    broker_core_event(f->core, stet_str_from(large, 257), STET_STR("x"));
    broker_core_event(f->core, (stet_str){0}, STET_STR("x"));
    assert_int_equal(f->published_count, 0);
    assert_int_equal(fake_counter(f, "malformedEvents"), 3);
    broker_core_event(f->core, STET_STR("TOOL_PROGRESS/s"), stet_str_from(large, sizeof large - 1));
    broker_core_event(f->core, stet_str_from(large, 256), (stet_str){0});
    assert_int_equal(f->published_count, 2);
}

static void the_cache_is_bounded_by_bytes(void **state) {
    fake *f = *state;
    fake_stop(f);
    broker_options options = fake_options();
    options.sessions_max = 2000;
    fake_start(f, &options);
    static char payload[60 << 10];
    memset(payload, 'x', sizeof payload);
    for (unsigned i = 0; i < 1500; i++) {
        char topic[32];
        int size = snprintf(topic, sizeof topic, "TOOL_PROGRESS/s%u", i);
        broker_core_event(f->core, stet_str_from(topic, (size_t)size),
                          stet_str_from(payload, sizeof payload));
        fake_forget(f);
    }
    subscribe(f, "");
    assert_in_range(f->published_count, 1000, (64u << 20) / sizeof payload);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(events_are_relayed_as_they_are),
        TEST(the_last_event_is_kept_for_each_session_and_actor),
        TEST(the_actor_is_found_by_its_key_only),
        TEST(the_session_unused_longest_is_forgotten),
        TEST(actors_of_a_session_are_bounded),
        TEST(a_new_subscriber_gets_what_matches_newest_first),
        TEST(repeated_subscriptions_are_replayed_once_more_after_the_interval),
        TEST(a_replay_is_bounded),
        TEST(oversized_events_are_dropped_and_counted),
        TEST(the_cache_is_bounded_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
