/* queries.c - what clients ask about jobs: drafter.queue, drafter.job, drafter.list. Read only. */
#include "actors/drafter/jobs_view.h"
#include "actors/drafter/transcripts.h"

enum { LIST_DEFAULT = 50 };

typedef struct jobs_array {
    stet_buf *b;
    uint32_t count;
    uint64_t last_order; /* of the last one encoded */
    bool full;           /* the reply has no room for more */
} jobs_array;

static stet_code visit_job(void *context, const stet_job *job, stet_error *e) {
    (void)e;
    jobs_array *list = context;
    if (list->full)
        return STET_OK;
    if (list->b->size > DRAFTER_REPLY_ROOM) {
        list->full = true;
        return STET_OK;
    }
    drafter_job_encode(list->b, job, /* whole= */ false);
    list->count++;
    list->last_order = job->order;
    return STET_OK;
}

/* ---- drafter.queue ---- */

static stet_code encode_active(stet_turn *turn, stet_str project, stet_buf *b, stet_error *e) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_ACTIVE, project);
    stet_str value;
    stet_id id;
    stet_job job;
    stet_mp_cstr(b, "active");
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &value, e);
    if (rc == STET_OK && stet_id_from_bytes(value, &id)) {
        rc = stet_job_read(turn, &drafter_queue, id, &job, e);
        if (rc == STET_OK) {
            drafter_job_encode(b, &job, /* whole= */ false);
            return STET_OK;
        }
    }
    stet_mp_nil(b);
    return rc == STET_NOT_FOUND ? STET_OK : rc;
}

static stet_code encode_recent(stet_turn *turn, stet_str project, stet_buf *b, stet_error *e) {
    stet_job_filter filter = {.key = project, .limit = DRAFTER_RECENT_JOBS};
    jobs_array list = {.b = b};
    uint64_t next;
    stet_mp_cstr(b, "recent");
    size_t mark = stet_mp_open(b);
    stet_code rc = stet_job_list(turn, &drafter_queue, &filter, visit_job, &list, &next, e);
    stet_mp_close_array(b, mark, list.count);
    return rc;
}

static stet_code encode_counts(stet_turn *turn, stet_str project, stet_buf *b, stet_error *e) {
    uint64_t counts[STET_JOB_STATES_COUNT];
    stet_code rc = stet_job_counts(turn, &drafter_queue, project, counts, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_cstr(b, "counts");
    stet_mp_map(b, STET_JOB_STATES_COUNT);
    for (int i = 0; i < STET_JOB_STATES_COUNT; i++)
        stet_mp_put_uint(b, stet_job_state_name((stet_job_state)i), counts[i]);
    return STET_OK;
}

DRAFTER_HANDLER(queue) {
    const cmd_drafter_queue *in = request;
    drafter_transcript transcript;
    stet_mp_map(reply, 6);
    stet_mp_put_str(reply, "projectId", in->project_id);
    stet_mp_put_bool(reply, "paused",
                     stet_job_paused(turn, &drafter_queue, (stet_str){NULL, 0}) ||
                         stet_job_paused(turn, &drafter_queue, in->project_id));
    stet_code rc = encode_active(turn, in->project_id, reply, e);
    if (rc == STET_OK)
        rc = encode_recent(turn, in->project_id, reply, e);
    if (rc == STET_OK)
        rc = encode_counts(turn, in->project_id, reply, e);
    if (rc == STET_OK)
        rc = drafter_transcript_head(turn, in->project_id, &transcript, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_cstr(reply, "transcript");
    drafter_snapshot_encode(&transcript, reply);
    return STET_OK;
}

/* ---- drafter.job and drafter.list ---- */

DRAFTER_HANDLER(job) {
    const cmd_drafter_job *in = request;
    stet_job job;
    stet_code rc = stet_job_read(turn, &drafter_queue, in->job_id, &job, e);
    if (rc == STET_NOT_FOUND)
        return stet_error_field(e, STET_NOT_FOUND, "jobId",
                                "there is no such job; drafter.list shows those that are kept");
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 1);
    stet_mp_cstr(reply, "job");
    drafter_job_encode(reply, &job, /* whole= */ true);
    return STET_OK;
}

DRAFTER_HANDLER(list) {
    const cmd_drafter_list *in = request;
    stet_job_filter filter = {.key = in->project_id,
                              .limit = in->has_limit ? (uint32_t)in->limit : LIST_DEFAULT};
    stet_code rc = drafter_cursor_read(in->has_cursor, in->cursor, &filter.before_order, e);
    if (rc != STET_OK)
        return rc;
    filter.by_state = in->has_status;
    if (in->has_status && !stet_job_state_parse(in->status, &filter.state))
        return stet_error_field(e, STET_INVALID, "status", "no such status; see the command's help");
    jobs_array list = {.b = reply};
    uint64_t next = 0;
    size_t mark = stet_mp_open(reply);
    stet_mp_cstr(reply, "jobs");
    size_t jobs = stet_mp_open(reply);
    rc = stet_job_list(turn, &drafter_queue, &filter, visit_job, &list, &next, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_close_array(reply, jobs, list.count);
    if (list.full)
        next = list.last_order;
    drafter_page_close(reply, mark, 1, next);
    return STET_OK;
}
