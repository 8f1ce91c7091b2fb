/* How the answers of the friendly commands look to people. The fields are those of docs/reference.md. */
#include "tools/stet/commands.h"
#include "tools/stet/view.h"

#include <inttypes.h>

static const view_column job_columns[] = {
    {"JOB", "jobId", VIEW_TEXT},           {"PROJECT", "projectId", VIEW_TEXT},
    {"STATUS", "status", VIEW_TEXT},       {"ATTEMPT", "attempt", VIEW_TEXT},
    {"CREATED", "createdAt", VIEW_TIME},   {"FINISHED", "finishedAt", VIEW_TIME},
    {"ERROR", "error.message", VIEW_TEXT}, {.title = NULL},
};

static const view_column job_facts[] = {
    {"job", "jobId", VIEW_TEXT},
    {"project", "projectId", VIEW_TEXT},
    {"session", "sessionId", VIEW_TEXT},
    {"status", "status", VIEW_TEXT},
    {"progress", "progress", VIEW_PERCENT},
    {"attempt", "attempt", VIEW_TEXT},
    {"requeued", "retries", VIEW_TEXT},
    {"priority", "priority", VIEW_TEXT},
    {"created", "createdAt", VIEW_TIME},
    {"not before", "runAt", VIEW_TIME},
    {"started", "startedAt", VIEW_TIME},
    {"finished", "finishedAt", VIEW_TIME},
    {"instruction", "instruction", VIEW_TEXT},
    {"error code", "error.code", VIEW_TEXT},
    {"error", "error.message", VIEW_TEXT},
    {"document", "result.documentVersion", VIEW_TEXT},
    {"summary", "result.generatedSummary", VIEW_TEXT},
    {"model", "result.model", VIEW_TEXT},
    {"tokens in", "result.usage.promptTokens", VIEW_TEXT},
    {"tokens out", "result.usage.completionTokens", VIEW_TEXT},
    {.title = NULL},
};

static const view_column attempt_columns[] = {
    {"ATTEMPT", "attempt", VIEW_TEXT},
    {"STARTED", "startedAt", VIEW_TIME},
    {"FINISHED", "finishedAt", VIEW_TIME},
    {"OUTCOME", "outcome", VIEW_TEXT},
    {"CODE", "error.code", VIEW_TEXT},
    {"ERROR", "error.message", VIEW_TEXT},
    {.title = NULL},
};

static const view_column version_columns[] = {
    {"VERSION", "version", VIEW_TEXT}, {"SIZE", "size", VIEW_BYTES}, {"AUTHOR", "author", VIEW_TEXT},
    {"AT", "at", VIEW_TIME},           {"JOB", "jobId", VIEW_TEXT},  {.title = NULL},
};

static const view_column item_columns[] = {
    {"AT", "timestamp", VIEW_TIME}, {"ID", "id", VIEW_TEXT},     {"AFTER", "previousItemId", VIEW_TEXT},
    {"ROLE", "role", VIEW_TEXT},    {"TEXT", "text", VIEW_TEXT}, {.title = NULL},
};

static const view_column transcript_columns[] = {
    {"PROJECT", "projectId", VIEW_TEXT},    {"ITEMS", "items", VIEW_TEXT},
    {"LAST ITEM", "lastItemId", VIEW_TEXT}, {"LAST AT", "lastAt", VIEW_TIME},
    {"SNAPSHOT", "snapshotAt", VIEW_TIME},  {.title = NULL},
};

static const view_column id_columns[] = {{"JOB", "jobId", VIEW_TEXT}, {.title = NULL}};

static const view_column warning_columns[] = {{"ITEM", "itemId", VIEW_TEXT},
                                              {"KIND", "kind", VIEW_TEXT},
                                              {"WARNING", "message", VIEW_TEXT},
                                              {.title = NULL}};

enum { NAME_WIDTH_MAX = 72, CURSOR_WIDTH_MAX = 2000 };

/* "queued 3, active 1": what is not zero. */
static void put_counts(stet_str counts, stet_buf *b) {
    stet_mp_reader r = stet_mp_reader_of(counts);
    uint32_t pairs = stet_mp_peek(&r) == STET_MP_MAP ? stet_mp_read_map(&r) : 0;
    bool any = false;
    for (uint32_t i = 0; i < pairs && !r.failed; i++) {
        stet_str name = stet_mp_read_str(&r);
        stet_str value = stet_mp_read_raw(&r);
        stet_mp_reader v = stet_mp_reader_of(value);
        if (stet_mp_peek(&v) != STET_MP_UINT)
            continue;
        uint64_t count = stet_mp_read_uint(&v);
        if (count == 0)
            continue;
        stet_buf_append_str(b, any ? STET_STR(", ") : STET_STR(""));
        table_clean(b, name, NAME_WIDTH_MAX);
        stet_buf_printf(b, " %" PRIu64, count);
        any = true;
    }
    stet_buf_printf(b, any ? "\n" : "none\n");
}

static void put_more(stet_str body, stet_buf *b) {
    stet_str cursor = stet_mp_get_str(body, "cursor", (stet_str){NULL, 0});
    if (cursor.size == 0)
        return;
    stet_buf_append_str(b, STET_STR("more: --cursor "));
    table_clean(b, cursor, CURSOR_WIDTH_MAX);
    stet_buf_append_byte(b, '\n');
}

static void show_queue(stet_str body, stet_buf *b) {
    stet_str active = stet_mp_get_raw(body, "active");
    stet_mp_reader r = stet_mp_reader_of(active);
    stet_buf_printf(b, "Active\n");
    if (stet_mp_peek(&r) == STET_MP_MAP)
        view_facts(active, job_facts, b);
    else
        stet_buf_printf(b, "none\n");
    stet_buf_printf(b, "\nLast five\n");
    view_table(stet_mp_get_raw(body, "recent"), job_columns, "none", b);
    stet_buf_printf(b, "\nCounts\n");
    put_counts(stet_mp_get_raw(body, "counts"), b);
    stet_buf_printf(b, "\nTranscript\n");
    view_facts(stet_mp_get_raw(body, "transcript"),
               (const view_column[]){{"items", "items", VIEW_TEXT},
                                     {"last item", "lastItemId", VIEW_TEXT},
                                     {"last at", "lastAt", VIEW_TIME},
                                     {"snapshot", "snapshotAt", VIEW_TIME},
                                     {.title = NULL}},
               b);
}

static void show_list(stet_str body, stet_buf *b) {
    view_table(stet_mp_get_raw(body, "jobs"), job_columns, "no jobs", b);
    put_more(body, b);
}

static void show_job(stet_str body, stet_buf *b) {
    stet_str job = stet_mp_get_raw(body, "job");
    view_facts(job, job_facts, b);
    stet_buf_printf(b, "\n");
    view_table(stet_mp_get_raw(job, "attempts"), attempt_columns, "no attempts yet", b);
}

static void show_drain(stet_str body, stet_buf *b) {
    view_table(stet_mp_get_raw(body, "drained"), id_columns, "nothing waits", b);
    stet_buf_printf(b, "waiting: %" PRIu64 "\n", stet_mp_get_uint(body, "waiting", 0));
}

static void show_retry(stet_str body, stet_buf *b) {
    stet_buf_printf(b, "requeued: %" PRIu64 "\n", stet_mp_get_uint(body, "requeued", 0));
    view_table(stet_mp_get_raw(body, "jobs"), id_columns, "no failed job fits", b);
    if (stet_mp_get_bool(body, "more", false))
        stet_buf_printf(b, "there are more: run it again\n");
}

static void show_history(stet_str body, stet_buf *b) {
    view_table(stet_mp_get_raw(body, "versions"), version_columns, "no document yet", b);
    put_more(body, b);
}

static void show_items(stet_str body, stet_buf *b) {
    view_table(stet_mp_get_raw(body, "items"), item_columns, "no items", b);
    put_more(body, b);
}

static void show_transcripts(stet_str body, stet_buf *b) {
    view_table(stet_mp_get_raw(body, "transcripts"), transcript_columns, "no transcripts", b);
    put_more(body, b);
}

static void show_append(stet_str body, stet_buf *b) {
    stet_buf_printf(b, "appended %" PRIu64 ", repeated %" PRIu64 ", items now %" PRIu64 "\n",
                    stet_mp_get_uint(body, "appended", 0), stet_mp_get_uint(body, "repeated", 0),
                    stet_mp_get_uint(body, "items", 0));
    CLEANUP(stet_buf_done) stet_buf warnings = STET_BUF(CLI_TEXT_MAX);
    view_table(stet_mp_get_raw(body, "warnings"), warning_columns, "", &warnings);
    if (warnings.size > 1)
        stet_buf_append_str(b, stet_buf_str(&warnings));
}

static void show_put(stet_str body, stet_buf *b) {
    stet_buf_printf(b, "version %" PRIu64 "\n", stet_mp_get_uint(body, "version", 0));
}

static void show_cancel(stet_str body, stet_buf *b) {
    stet_str job = stet_mp_get_str(body, "jobId", (stet_str){NULL, 0});
    stet_str status = stet_mp_get_str(body, "status", STET_STR("cancelled"));
    table_clean(b, job, NAME_WIDTH_MAX);
    stet_buf_append_byte(b, ' ');
    table_clean(b, status, NAME_WIDTH_MAX);
    stet_buf_append_byte(b, '\n');
}

static void show_pause(stet_str body, stet_buf *b) {
    stet_buf_printf(b, "%s\n", stet_mp_get_bool(body, "paused", false) ? "paused" : "running");
}

static const struct {
    const char *command;
    void (*show)(stet_str body, stet_buf *b);
} shows[] = {
    {"drafter.queue", show_queue},
    {"drafter.list", show_list},
    {"drafter.job", show_job},
    {"drafter.drain", show_drain},
    {"drafter.retry", show_retry},
    {"drafter.cancel", show_cancel},
    {"drafter.pause", show_pause},
    {"drafter.resume", show_pause},
    {"drafter.document.put", show_put},
    {"drafter.document.history", show_history},
    {"drafter.transcript.get", show_items},
    {"drafter.transcript.list", show_transcripts},
    {"drafter.transcript.append", show_append},
};

bool show_answer(const char *command, stet_str body, stet_buf *b) {
    for (size_t i = 0; i < COUNT_OF(shows); i++) {
        if (strcmp(shows[i].command, command) == 0) {
            shows[i].show(body, b);
            return true;
        }
    }
    return false;
}
