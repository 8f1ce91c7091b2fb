/* drafter - background drafting: documents, their transcripts, and the jobs that let a model revise them.
 *
 *   submit -> job (queued) -> run: document + transcript -> prompt -> call -> stream -> verdict
 *                                                   landed: new version + summary + result + last event, ONE
 * commit
 *
 * Files: documents.c, transcripts.c (rows); commands.c, queries.c (what clients ask); drafting.c (a job's
 * run), context.c (what goes into the prompt), detail.c (calls of the attempt), report.c (events, metrics,
 * alerts). Everything here runs in a turn: no clock, random, file or socket of its own; settings.c alone
 * reads a file, once. */
#ifndef DRAFTER_DRAFTER_H
#define DRAFTER_DRAFTER_H

#include "actors/drafter/answer.h"
#include "actors/drafter/model.h"
#include "actors/drafter/prompt.h"
#include "actors/runtime/actor.h"
#include "actors/runtime/jobs.h"

/* X(C name, number, name for inspect): key; value. A number is never given a new meaning. */
#define DRAFTER_TABLES(X)                                                                                    \
    X(DOCUMENTS, 64, "documents")        /* project; head: {format, version, size, author, at, ...} */       \
    X(VERSIONS, 65, "documentVersions")  /* project, version descending; {format, size, author, ...} */      \
    X(TEXTS, 66, "documentTexts")        /* project, version; the Markdown itself */                         \
    X(TRANSCRIPTS, 67, "transcripts")    /* project; {format, items, lastItemId, lastAt, snapshotAt} */      \
    X(ITEMS, 68, "transcriptItems")      /* project, sequence; {format, id, role, text, ...} */              \
    X(ITEM_IDS, 69, "transcriptItemIds") /* project, item id; sequence of the first with that id */          \
    X(ITEM_VARIANTS, 70, "transcriptVariants") /* project, item id, content hash; sequence of another */     \
    X(ACTIVE, 71, "activeDrafts")              /* project; id of its active job */

enum {
#define X(name, number, text) DRAFTER_TABLE_##name = number,
    DRAFTER_TABLES(X)
#undef X
};

enum {
    DRAFTER_FORMAT = 1, /* of every row above */
    DRAFTER_CALLS_MAX = 256,
    DRAFTER_TRIES_MAX = 20,
    DRAFTER_DRAIN_MAX = 10,
    DRAFTER_RECENT_JOBS = 5,
    DRAFTER_PRIORITY_DEFAULT = 5,
    DRAFTER_REPLY_ROOM = 700 << 10 /* a page ends when the reply has grown to this */
};

/* One call in flight: what has come of its answer. Lost in a crash, like the call. */
typedef struct drafter_call {
    stet_call_ref ref;
    drafter_answer *answer;
    /* Without answer: what had come was given away, and what still comes must not pass for all of it. */
    bool lost;
    int64_t event_boot_ms; /* of the last progress event, or of the first piece */
    bool had_event;
} drafter_call;

/* The actor's volatile memory. */
typedef struct drafter_state {
    drafter_template prompt;
    drafter_prices prices;
    drafter_schema schema;
    drafter_call calls[DRAFTER_CALLS_MAX];
} drafter_state;

extern const stet_service drafter_service;
extern const stet_job_queue drafter_queue;

/* settings.c: parses what the settings hold into the state; the only code here that reads a file. */
NODISCARD
stet_code drafter_load(const stet_config *config, void *state, stet_error *e);
bool drafter_key_missing(const stet_config *config);
uint32_t drafter_call_tries(const stet_config *config);

/* drafting.c */
NODISCARD
stet_code drafter_run(stet_turn *turn, stet_job *job, stet_error *e);
void drafter_abandon(stet_turn *turn, const stet_job *job);
NODISCARD
stet_code drafter_call_data(stet_turn *turn, stet_job *job, const stet_http_data *data, stet_error *e);
NODISCARD
stet_code drafter_call_done(stet_turn *turn, stet_job *job, const stet_http_result *result, stet_error *e);
void drafter_calls_done(drafter_state *state);

/* The handler of a command. */
#define DRAFTER_HANDLER(name)                                                                                \
    stet_code drafter_on_##name(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e)
DRAFTER_HANDLER(submit);
DRAFTER_HANDLER(drain);
DRAFTER_HANDLER(retry);
DRAFTER_HANDLER(cancel);
DRAFTER_HANDLER(pause);
DRAFTER_HANDLER(resume);
DRAFTER_HANDLER(queue);
DRAFTER_HANDLER(job);
DRAFTER_HANDLER(list);
DRAFTER_HANDLER(transcript_append);
DRAFTER_HANDLER(transcript_get);
DRAFTER_HANDLER(transcript_list);
DRAFTER_HANDLER(document_get);
DRAFTER_HANDLER(document_put);
DRAFTER_HANDLER(document_history);

/* checks.c */
enum { DRAFTER_CHECKS = 5 };
extern const stet_check_table drafter_checks[DRAFTER_CHECKS];

/* ---- small shared helpers (settings.c) ---- */
/* An id as text into a map. */
void drafter_put_id(stet_buf *b, const char *key, stet_id id);
/* Most tables begin with the project. */
stet_key drafter_project_key(uint8_t table, stet_str project);

/* Pages: a command answers as much as fits, and with it a cursor, from which the next page goes on. */
NODISCARD
stet_code drafter_cursor_refused(stet_error *e);
/* A cursor that is a number; *ret keeps what it is when there is none. */
NODISCARD
stet_code drafter_cursor_read(bool has_cursor, stet_str cursor, uint64_t *ret, stet_error *e);
/* Closes the map of a page, which has `pairs` pairs, and puts a cursor into it unless `next` is 0. */
void drafter_page_close(stet_buf *reply, size_t mark, uint32_t pairs, uint64_t next);
enum { DRAFTER_NUMBER_SIZE = 24 };
stet_str drafter_number_text(uint64_t number, char text[DRAFTER_NUMBER_SIZE]);
/* STET_INTERNAL when the buffer has failed: what was built does not fit. */
NODISCARD
stet_code drafter_built(const stet_buf *b, const char *what, stet_error *e);

#endif
