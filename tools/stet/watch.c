/* watch and draft --wait: progress events as lines. */
#include "proto/base/clock.h"
#include "proto/wire/id.h"
#include "proto/wire/json.h"
#include "tools/stet/commands.h"
#include "tools/stet/view.h"

enum {
    WAIT_MS = 1000,
    ASK_EVERY_MS = 2000,
    ASK_TIMEOUT_MS = 5000,
    SUBMIT_TIMEOUT_MS = 30000,
    DRAFT_TIMEOUT_MS = 600000
};
enum { EVENT_BYTES_MAX = 1 << 20 };

/* The event as MessagePack; false when it is not JSON (of a foreign publisher). */
static bool read_event(const stet_client_event *event, stet_buf *ret_mp) {
    stet_str json = stet_str_from(event->json, event->json_size);
    return stet_json_to_mp(json, STET_MP_LIMITS_BODY, ret_mp, NULL) == STET_OK;
}

static void put_field(stet_buf *b, stet_str event, const char *path, view_kind kind, int width) {
    CLEANUP(stet_buf_done) stet_buf value = STET_BUF(EVENT_BYTES_MAX), clean = STET_BUF(EVENT_BYTES_MAX);
    view_value(view_find(event, path), kind, &value);
    table_clean(&clean, stet_buf_str(&value), /* width_max= */ 200);
    stet_buf_printf(b, "%-*.*s ", width, STET_STR_ARG(stet_buf_str(&clean)));
}

/* TIME [ACTOR SESSION] STATUS 45% MESSAGE */
static int print_event(stet_str event, bool with_session) {
    CLEANUP(stet_buf_done) stet_buf line = STET_BUF(EVENT_BYTES_MAX);
    put_field(&line, event, "at", VIEW_TIME, 0);
    if (with_session) {
        put_field(&line, event, "actor", VIEW_TEXT, 8);
        put_field(&line, event, "sessionId", VIEW_TEXT, 12);
    }
    put_field(&line, event, "seq", VIEW_TEXT, 4);
    put_field(&line, event, "status", VIEW_TEXT, 9);
    put_field(&line, event, "progress", VIEW_PERCENT, 4);
    put_field(&line, event, "message", VIEW_TEXT, 0);
    while (line.size > 0 && line.data[line.size - 1] == ' ')
        stet_buf_truncate(&line, line.size - 1);
    stet_buf_append_byte(&line, '\n');
    return cli_print(stet_buf_str(&line));
}

static int show_event(const stet_cli *cli, const stet_client_event *event) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(EVENT_BYTES_MAX), line = STET_BUF(EVENT_BYTES_MAX);
    if (!cli->json)
        return read_event(event, &mp) ? print_event(stet_buf_str(&mp), /* with_session= */ true) : CLI_DONE;
    stet_buf_append(&line, event->json, event->json_size);
    stet_buf_append_byte(&line, '\n');
    return cli_print(stet_buf_str(&line));
}

static void free_subscriber(stet_subscriber **self) {
    stet_subscriber_free(*self);
}

int run_watch(stet_cli *cli, const args *a) {
    const char *session = args_get(a, "--session");
    if (session == NULL && (args_has(a, "--since") || args_has(a, "--service")))
        return cli_fail(CLI_USAGE, "--since and --service need --session: numbers count per session");
    if (!cli_running(cli) || cli_client(cli) == NULL)
        return CLI_UNREACHABLE;
    CLEANUP(free_subscriber)
    stet_subscriber *subscriber = stet_subscriber_new(cli->client, session, args_get(a, "--service"),
                                                      args_number(a, "--since", UINT64_MAX));
    if (subscriber == NULL)
        return cli_fail(CLI_UNREACHABLE, "%s", stet_client_error(cli->client));
    for (;;) {
        stet_client_event event = {0};
        int got = stet_subscriber_next(subscriber, &event, WAIT_MS);
        if (got < 0)
            return cli_fail(CLI_UNREACHABLE, "%s", stet_client_error(cli->client));
        if (got > 0 && show_event(cli, &event) != CLI_DONE)
            return CLI_ERROR;
    }
}

/* ---- draft ---- */

static bool is_end(stet_str status) {
    return stet_str_is(status, "done") || stet_str_is(status, "error") || stet_str_is(status, "cancelled");
}

/* The number of the session's last event, so that following begins right behind it and misses nothing. */
static uint64_t last_number(stet_cli *cli, const char *session) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(1024), reply = STET_BUF(CLI_BODY_MAX);
    stet_mp_map(&body, 3);
    stet_mp_put_cstr(&body, "sessionId", session);
    stet_mp_put_uint(&body, "afterSeq", INT64_MAX);
    stet_mp_put_uint(&body, "limit", 1);
    bool known = cli_ask(cli, "drafter.events", stet_buf_str(&body), ASK_TIMEOUT_MS, &reply);
    return known ? stet_mp_get_uint(stet_buf_str(&reply), "lastSeq", 0) : UINT64_MAX;
}

/* The job as it is now, appended to ret_reply as drafter.job answers it; false when nobody answers. */
static bool ask_job(stet_cli *cli, const char *job_id, stet_buf *ret_reply) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(256);
    stet_mp_map(&body, 1);
    stet_mp_put_cstr(&body, "jobId", job_id);
    stet_buf_clear(ret_reply);
    return cli_ask(cli, "drafter.job", stet_buf_str(&body), ASK_TIMEOUT_MS, ret_reply);
}

static stet_str status_of(const stet_buf *reply) {
    return stet_mp_get_str(stet_mp_get_raw(stet_buf_str(reply), "job"), "status", (stet_str){NULL, 0});
}

/* Prints this job's event; true when the event says that the job has ended. */
static bool follow_event(const stet_cli *cli, const stet_client_event *event, const char *job_id) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(EVENT_BYTES_MAX);
    if (!read_event(event, &mp))
        return false;
    stet_str map = stet_buf_str(&mp);
    if (!stet_str_is(stet_mp_get_str(map, "jobId", (stet_str){NULL, 0}), job_id))
        return false;
    if (!cli->json)
        (void)print_event(map, /* with_session= */ false);
    return is_end(stet_mp_get_str(map, "status", (stet_str){NULL, 0}));
}

/* Until the job has ended: live events for the eye, and the job itself asked now and then, because an event
 * may be missed when the actor restarts and the truth is in the job. */
static int follow(stet_cli *cli, stet_subscriber *subscriber, const char *job_id, uint32_t timeout_ms,
                  stet_buf *ret_reply) {
    int64_t give_up_ms = stet_clock_boot_ms() + timeout_ms;
    int64_t ask_ms = stet_clock_boot_ms() + ASK_EVERY_MS;
    for (;;) {
        stet_client_event event = {0};
        int got = stet_subscriber_next(subscriber, &event, WAIT_MS);
        if (got < 0)
            return cli_fail(CLI_UNREACHABLE, "%s", stet_client_error(cli->client));
        bool ended = got > 0 && follow_event(cli, &event, job_id);
        int64_t now_ms = stet_clock_boot_ms();
        if (ended || now_ms >= ask_ms) {
            ask_ms = now_ms + ASK_EVERY_MS;
            if (ask_job(cli, job_id, ret_reply) && is_end(status_of(ret_reply)))
                return CLI_DONE;
        }
        if (now_ms >= give_up_ms)
            return cli_fail(CLI_UNREACHABLE, "the job has not ended in time; it goes on: 'stet job %s' tells",
                            job_id);
    }
}

static int print_outcome(const stet_cli *cli, const stet_buf *reply) {
    stet_str job = stet_mp_get_raw(stet_buf_str(reply), "job");
    stet_str status = status_of(reply);
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(CLI_TEXT_MAX);
    if (cli->json) {
        (void)cli_print_json(job, /* pretty= */ false);
    } else {
        (void)show_answer("drafter.job", stet_buf_str(reply), &text);
        (void)cli_print(stet_buf_str(&text));
    }
    if (stet_str_is(status, "done"))
        return CLI_DONE;
    stet_str error = stet_mp_get_raw(job, "error");
    CLEANUP(stet_buf_done) stet_buf cancelled = STET_BUF(256);
    if (error.size == 0 || stet_str_is(status, "cancelled")) {
        stet_mp_map(&cancelled, 2);
        stet_mp_put_str(&cancelled, "code", status);
        stet_mp_put_cstr(&cancelled, "message", "the job ended without a draft");
        error = stet_buf_str(&cancelled);
    }
    stet_answer answer = {.code = "cancelled", .body = (const uint8_t *)error.data, .body_size = error.size};
    return cli_fail_answer(&answer);
}

int run_draft(stet_cli *cli, const args *a) {
    const char *session = args_get(a, "--session");
    if (session == NULL || args_get(a, "--project") == NULL)
        return cli_fail(CLI_USAGE, "--project and --session are needed; 'stet draft --help' explains");
    stet_id id;
    if (args_has(a, "--id") && !stet_id_parse(stet_str_of(args_get(a, "--id")), &id))
        return cli_fail(CLI_USAGE, "--id must be a UUID");
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(CLI_BODY_MAX), reply = STET_BUF(CLI_BODY_MAX);
    int rc = cli_body(a, &body);
    if (rc != CLI_DONE)
        return rc;
    if (!cli_running(cli) || cli_client(cli) == NULL)
        return CLI_UNREACHABLE;
    bool wait = args_has(a, "--wait");
    uint64_t after = wait ? last_number(cli, session) : 0;
    CLEANUP(free_subscriber)
    stet_subscriber *subscriber = wait ? stet_subscriber_new(cli->client, session, "drafter", after) : NULL;
    if (wait && subscriber == NULL)
        return cli_fail(CLI_UNREACHABLE, "%s", stet_client_error(cli->client));
    rc = cli_request(cli, "drafter.submit", stet_buf_str(&body), args_get(a, "--id"), SUBMIT_TIMEOUT_MS,
                     &reply);
    if (rc != CLI_DONE)
        return rc;
    char job_id[STET_ID_TEXT_SIZE] = "";
    stet_str text = stet_mp_get_str(stet_buf_str(&reply), "jobId", (stet_str){NULL, 0});
    if (text.size >= sizeof job_id)
        return cli_fail(CLI_ERROR, "the answer has no job id");
    if (text.size > 0)
        memcpy(job_id, text.data, text.size);
    job_id[text.size] = '\0';
    if (!wait) {
        CLEANUP(stet_buf_done) stet_buf line = STET_BUF(128);
        stet_buf_printf(&line, "%s\n", job_id);
        return cli->json ? cli_print_json(stet_buf_str(&reply), false) : cli_print(stet_buf_str(&line));
    }
    rc = follow(cli, subscriber, job_id, args_milliseconds(a, "--timeout", DRAFT_TIMEOUT_MS), &reply);
    return rc == CLI_DONE ? print_outcome(cli, &reply) : rc;
}
