/* commands.c - what clients ask to be done with jobs: submit, drain, retry, cancel, pause, resume. */
#include "actors/drafter/drafter.h"

enum { RETRY_DEFAULT = 100, RETRY_MAX = 1000, RETRY_PAGES_MAX = 100 };

static const stet_str whole_queue = {NULL, 0};

/* ---- submit ---- */

static void encode_payload(stet_buf *b, const cmd_drafter_submit *in) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 2;
    stet_mp_put_str(b, "projectId", in->project_id);
    stet_mp_put_str(b, "sessionId", in->session_id);
    if (in->has_instruction) {
        stet_mp_put_str(b, "instruction", in->instruction);
        pairs++;
    }
    if (in->has_message_pointers) {
        stet_mp_put_raw(b, "messagePointers", in->message_pointers.raw);
        pairs++;
    }
    if (in->has_transcript_anchors) {
        stet_mp_put_raw(b, "transcriptAnchors", in->transcript_anchors.raw);
        pairs++;
    }
    if (in->has_prompt_context) {
        stet_mp_put_raw(b, "promptContext", in->prompt_context);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

DRAFTER_HANDLER(submit) {
    const cmd_drafter_submit *in = request;
    uint8_t room[2048];
    CLEANUP(stet_buf_done) stet_buf payload = STET_BUF_ON(room, STET_JOB_PAYLOAD_MAX);
    encode_payload(&payload, in);
    stet_code rc = drafter_built(&payload, "the request", e);
    if (rc != STET_OK)
        return rc;
    stet_job_submit submit = {
        .key = in->project_id,
        .payload = stet_buf_str(&payload),
        .priority = in->has_priority ? (uint32_t)in->priority : DRAFTER_PRIORITY_DEFAULT,
        .run_at_ms = in->has_run_at ? in->run_at : 0,
        .dedup_key = in->has_dedup_key ? in->dedup_key : (stet_str){NULL, 0},
        .dedup = STET_DEDUP_KEEP_FIRST,
    };
    stet_job job;
    bool existing;
    rc = stet_job_submit_new(turn, &drafter_queue, &submit, &job, &existing, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 4);
    drafter_put_id(reply, "jobId", job.id);
    stet_mp_put_cstr(reply, "status", stet_job_state_name(job.state));
    stet_mp_put_uint(reply, "position", stet_job_position(turn, &job));
    stet_mp_put_bool(reply, "existing", existing);
    return STET_OK;
}

/* ---- drain ---- */

DRAFTER_HANDLER(drain) {
    const cmd_drafter_drain *in = request;
    int64_t limit = in->has_limit
                        ? in->limit
                        : stet_config_int(stet_turn_config(turn), STET_SETTING_drafter_drain_default);
    limit = limit < 1 ? 1 : limit > DRAFTER_DRAIN_MAX ? DRAFTER_DRAIN_MAX : limit;
    stet_id ids[DRAFTER_DRAIN_MAX];
    uint32_t count = 0;
    uint64_t counts[STET_JOB_STATES_COUNT];
    stet_code rc = stet_job_drain(turn, &drafter_queue, (uint32_t)limit, ids, &count, e);
    if (rc == STET_OK)
        rc = stet_job_counts(turn, &drafter_queue, whole_queue, counts, e);
    if (rc != STET_OK)
        return rc;
    uint64_t waiting = counts[STET_JOB_QUEUED] + counts[STET_JOB_DELAYED];
    stet_mp_map(reply, 2);
    stet_mp_cstr(reply, "drained");
    stet_mp_array(reply, count);
    for (uint32_t i = 0; i < count; i++) {
        stet_mp_map(reply, 1);
        drafter_put_id(reply, "jobId", ids[i]);
    }
    stet_mp_put_uint(reply, "waiting", waiting > count ? waiting - count : 0);
    return STET_OK;
}

/* ---- retry ---- */

/* Ids are gathered first: a list must not change while it is walked. */
typedef struct retry_list {
    stet_buf ids;
    uint32_t count, limit;
} retry_list;

static void retry_list_done(retry_list *list) {
    stet_buf_done(&list->ids);
}

static stet_code gather_failed(void *context, const stet_job *job, stet_error *e) {
    retry_list *list = context;
    if (list->count < list->limit) {
        stet_buf_append(&list->ids, job->id.bytes, STET_ID_BYTES);
        list->count++;
    }
    return drafter_built(&list->ids, "the list of jobs", e);
}

static stet_code retry_one(stet_turn *turn, stet_id id, stet_error *e) {
    stet_job job;
    stet_code rc = stet_job_read(turn, &drafter_queue, id, &job, e);
    if (rc == STET_NOT_FOUND)
        return stet_error_field(e, STET_NOT_FOUND, "jobId",
                                "there is no such job; drafter.list shows those that are kept");
    return rc == STET_OK ? stet_job_retry(turn, &job, e) : rc;
}

static stet_code gather_all(stet_turn *turn, const cmd_drafter_retry *in, retry_list *list, bool *ret_more,
                            stet_error *e) {
    char code[65] = "";
    if (in->error_code.size > 0 && in->error_code.size < sizeof(code))
        memcpy(code, in->error_code.data, in->error_code.size);
    stet_job_filter filter = {
        .key = in->project_id,
        .by_state = true,
        .state = STET_JOB_ERROR,
        .error_code = in->has_error_code ? code : NULL,
    };
    uint64_t next = 0;
    for (int page = 0; page < RETRY_PAGES_MAX; page++) {
        filter.limit = list->limit - list->count;
        stet_code rc = stet_job_list(turn, &drafter_queue, &filter, gather_failed, list, &next, e);
        if (rc != STET_OK)
            return rc;
        if (next == 0 || list->count == list->limit)
            break;
        filter.before_order = next;
    }
    *ret_more = next != 0;
    return STET_OK;
}

DRAFTER_HANDLER(retry) {
    const cmd_drafter_retry *in = request;
    CLEANUP(retry_list_done)
    retry_list list = {.ids = STET_BUF(RETRY_MAX * STET_ID_BYTES),
                       .limit = in->has_limit ? (uint32_t)in->limit : RETRY_DEFAULT};
    bool more = false;
    bool several = in->has_project_id || in->has_error_code || (in->has_all && in->all);
    stet_code rc = STET_OK;
    if (in->has_job_id == several)
        return stet_error_field(
            e, STET_INVALID, "jobId",
            "name either one job (jobId) or a set (projectId, errorCode, both, or all: true)");
    if (in->has_job_id) {
        stet_buf_append(&list.ids, in->job_id.bytes, STET_ID_BYTES);
        list.count = 1;
        rc = drafter_built(&list.ids, "the list of jobs", e);
    } else {
        rc = gather_all(turn, in, &list, &more, e);
    }
    stet_mp_map(reply, 3);
    stet_mp_cstr(reply, "jobs");
    stet_mp_array(reply, list.count);
    for (uint32_t i = 0; rc == STET_OK && i < list.count; i++) {
        stet_id id;
        memcpy(id.bytes, list.ids.data + i * STET_ID_BYTES, STET_ID_BYTES);
        stet_mp_map(reply, 1);
        drafter_put_id(reply, "jobId", id);
        rc = retry_one(turn, id, e);
    }
    stet_mp_put_uint(reply, "requeued", list.count);
    stet_mp_put_bool(reply, "more", more);
    return rc;
}

/* ---- cancel, pause, resume ---- */

DRAFTER_HANDLER(cancel) {
    const cmd_drafter_cancel *in = request;
    stet_job job;
    stet_code rc = stet_job_read(turn, &drafter_queue, in->job_id, &job, e);
    if (rc == STET_NOT_FOUND)
        return stet_error_field(e, STET_NOT_FOUND, "jobId",
                                "there is no such job; drafter.list shows those that are kept");
    if (rc == STET_OK)
        rc = stet_job_cancel(turn, &job, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 2);
    drafter_put_id(reply, "jobId", job.id);
    stet_mp_put_cstr(reply, "status", stet_job_state_name(STET_JOB_CANCELLED));
    return STET_OK;
}

static stet_code set_paused(stet_turn *turn, stet_str project, bool paused, stet_buf *reply, stet_error *e) {
    stet_code rc = stet_job_pause(turn, &drafter_queue, project, paused, e);
    if (rc != STET_OK)
        return rc;
    bool still = stet_job_paused(turn, &drafter_queue, whole_queue) ||
                 (project.size > 0 && stet_job_paused(turn, &drafter_queue, project));
    stet_mp_map(reply, 1);
    stet_mp_put_bool(reply, "paused", still);
    return STET_OK;
}

DRAFTER_HANDLER(pause) {
    const cmd_drafter_pause *in = request;
    return set_paused(turn, in->project_id, true, reply, e);
}

DRAFTER_HANDLER(resume) {
    const cmd_drafter_resume *in = request;
    return set_paused(turn, in->project_id, false, reply, e);
}
