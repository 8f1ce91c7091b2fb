/* checks.c - drafter.check: is every row justified by the others? Reads only. */
#include "actors/drafter/documents.h"
#include "actors/drafter/transcripts.h"

/* STET_NOT_FOUND is a finding, any other error ends the check. */
static stet_code note_missing(stet_checker *checker, stet_code rc, stet_str key, const char *what) {
    if (rc != STET_NOT_FOUND)
        return rc;
    stet_check_problem(checker, "missing_row", key, "%s is not there", what);
    return STET_OK;
}

static stet_code check_document(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                                stet_error *e) {
    char text[STET_KEY_BYTES_MAX];
    stet_key_reader rest;
    stet_str markdown;
    stet_str project = stet_key_open_named(key, text, &rest);
    uint64_t version = stet_mp_get_uint(value, "version", 0);
    stet_code rc = drafter_document_text(turn, project, version, &markdown, e);
    if (rc == STET_OK && markdown.size != stet_mp_get_uint(value, "size", UINT64_MAX))
        stet_check_problem(checker, "size", key, "the text of version %llu has %zu bytes",
                           (unsigned long long)version, markdown.size);
    return note_missing(checker, rc, key, "the text of the current version");
}

static stet_code check_version(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                               stet_error *e) {
    char text[STET_KEY_BYTES_MAX];
    stet_key_reader rest;
    drafter_document head;
    stet_str markdown;
    stet_str project = stet_key_open_named(key, text, &rest);
    uint64_t version = stet_key_read_u64_descending(&rest);
    (void)value;
    stet_code rc = drafter_document_head(turn, project, &head, e);
    if (rc == STET_OK && version > head.version)
        stet_check_problem(checker, "version", key, "version %llu is above the document's current one",
                           (unsigned long long)version);
    if (rc == STET_OK)
        rc = drafter_document_text(turn, project, version, &markdown, e);
    return note_missing(checker, rc, key, "the text of this version");
}

static stet_code check_transcript(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                                  stet_error *e) {
    char text[STET_KEY_BYTES_MAX];
    stet_key_reader rest;
    drafter_item item;
    stet_str project = stet_key_open_named(key, text, &rest);
    stet_code rc = drafter_item_read(turn, project, stet_mp_get_uint(value, "items", 0), &item, e);
    return note_missing(checker, rc, key, "the last item");
}

static stet_code check_item(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                            stet_error *e) {
    char text[STET_KEY_BYTES_MAX];
    stet_key_reader rest;
    uint64_t first;
    stet_str project = stet_key_open_named(key, text, &rest);
    uint64_t sequence = stet_key_read_u64(&rest);
    stet_str id = stet_mp_get_str(value, "id", STET_STR(""));
    if (rest.failed || id.size > STET_KEY_NAME_MAX) {
        stet_check_problem(checker, "value", key, "the item cannot be read");
        return STET_OK;
    }
    stet_code rc = drafter_item_find(turn, project, id, &first, e);
    if (rc == STET_OK && first > sequence)
        stet_check_problem(checker, "order", key, "the id's first item is a later one");
    return note_missing(checker, rc, key, "the index of the item's id");
}

static stet_code check_active(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                              stet_error *e) {
    stet_id id;
    stet_job job;
    if (!stet_id_from_bytes(value, &id)) {
        stet_check_problem(checker, "value", key, "the row holds no job id");
        return STET_OK;
    }
    stet_code rc = stet_job_read(turn, &drafter_queue, id, &job, e);
    if (rc == STET_OK && job.state != STET_JOB_ACTIVE)
        stet_check_problem(checker, "state", key, "the job is %s, not active",
                           stet_job_state_name(job.state));
    return note_missing(checker, rc, key, "the active job");
}

const stet_check_table drafter_checks[DRAFTER_CHECKS] = {
    {DRAFTER_TABLE_DOCUMENTS, check_document},     {DRAFTER_TABLE_VERSIONS, check_version},
    {DRAFTER_TABLE_TRANSCRIPTS, check_transcript}, {DRAFTER_TABLE_ITEMS, check_item},
    {DRAFTER_TABLE_ACTIVE, check_active},
};
