#include "actors/drafter/documents.h"

enum { HISTORY_DEFAULT = 50 };

static stet_key version_key(stet_str project, uint64_t version) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_VERSIONS, project);
    stet_key_u64_descending(&key, version);
    return key;
}

static stet_key text_key(stet_str project, uint64_t version) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_TEXTS, project);
    stet_key_u64(&key, version);
    return key;
}

static drafter_document document_of(stet_str row) {
    const stet_str none = {NULL, 0};
    return (drafter_document){
        .version = stet_mp_get_uint(row, "version", 0),
        .size = stet_mp_get_uint(row, "size", 0),
        .author = stet_mp_get_str(row, "author", none),
        .job_id = stet_mp_get_str(row, "jobId", none),
        .at = stet_mp_get_str(row, "at", none),
        .summary = stet_mp_get_str(row, "summary", none),
    };
}

stet_code drafter_document_head(stet_turn *turn, stet_str project, drafter_document *ret, stet_error *e) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_DOCUMENTS, project);
    stet_str row;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &row, e);
    if (rc == STET_NOT_FOUND) {
        *ret = (drafter_document){.version = 0};
        return STET_OK;
    }
    if (rc == STET_OK)
        *ret = document_of(row);
    return rc;
}

static stet_code version_row(stet_turn *turn, stet_str project, uint64_t version, drafter_document *ret,
                             stet_error *e) {
    stet_key key = version_key(project, version);
    stet_str row;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &row, e);
    if (rc == STET_OK)
        *ret = document_of(row);
    return rc;
}

stet_code drafter_document_text(stet_turn *turn, stet_str project, uint64_t version, stet_str *ret,
                                stet_error *e) {
    if (version == 0) {
        *ret = STET_STR("");
        return STET_OK;
    }
    stet_key key = text_key(project, version);
    return stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), ret, e);
}

static void encode_row(stet_buf *b, uint64_t version, const drafter_revision *revision, stet_str summary,
                       int64_t now_ms) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 5;
    stet_mp_put_uint(b, "format", DRAFTER_FORMAT);
    stet_mp_put_uint(b, "version", version);
    stet_mp_put_uint(b, "size", revision->markdown.size);
    stet_mp_put_cstr(b, "author", revision->author);
    stet_mp_put_time(b, "at", now_ms);
    if (!stet_id_is_zero(revision->job_id)) {
        drafter_put_id(b, "jobId", revision->job_id);
        pairs++;
    }
    if (summary.size > 0) {
        stet_mp_put_str(b, "summary", summary);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

stet_code drafter_document_store(stet_turn *turn, stet_str project, const drafter_document *head,
                                 const drafter_revision *revision, uint64_t *ret_version, stet_error *e) {
    ASSERT(revision->markdown.size <= DRAFTER_MARKDOWN_MAX);
    stet_batch *batch = stet_turn_batch(turn);
    uint64_t version = head->version + 1;
    int64_t now_ms = stet_turn_wall_ms(turn);
    CLEANUP(stet_buf_done) stet_buf row = STET_BUF(8 << 10);
    CLEANUP(stet_buf_done) stet_buf head_row = STET_BUF(8 << 10);
    encode_row(&row, version, revision, revision->summary, now_ms);
    encode_row(&head_row, version, revision, revision->summary.size > 0 ? revision->summary : head->summary,
               now_ms);
    stet_code rc = drafter_built(&row, "the document's row", e);
    if (rc == STET_OK)
        rc = drafter_built(&head_row, "the document's head", e);
    if (rc != STET_OK)
        return rc;
    stet_key key = version_key(project, version);
    stet_batch_put(batch, stet_key_bytes(&key), stet_buf_str(&row));
    key = text_key(project, version);
    stet_batch_put(batch, stet_key_bytes(&key), revision->markdown);
    key = drafter_project_key(DRAFTER_TABLE_DOCUMENTS, project);
    stet_batch_put(batch, stet_key_bytes(&key), stet_buf_str(&head_row));
    *ret_version = version;
    return STET_OK;
}

/* ---- commands ---- */

DRAFTER_HANDLER(document_get) {
    const cmd_drafter_document_get *in = request;
    drafter_document document;
    stet_str markdown;
    stet_code rc = in->has_version ? version_row(turn, in->project_id, in->version, &document, e)
                                   : drafter_document_head(turn, in->project_id, &document, e);
    if (rc == STET_OK && document.version > 0)
        rc = drafter_document_text(turn, in->project_id, document.version, &markdown, e);
    else if (rc == STET_OK)
        rc = STET_NOT_FOUND;
    if (rc == STET_NOT_FOUND)
        return in->has_version
                   ? stet_error_field(e, STET_NOT_FOUND, "version",
                                      "the project has no such version; drafter.document.history lists them")
                   : stet_error_field(e, STET_NOT_FOUND, "projectId",
                                      "the project has no document yet; store one with drafter.document.put "
                                      "or submit a draft");
    if (rc != STET_OK)
        return rc;
    size_t mark = stet_mp_open(reply);
    uint32_t pairs = 5;
    stet_mp_put_str(reply, "projectId", in->project_id);
    stet_mp_put_uint(reply, "version", document.version);
    stet_mp_put_str(reply, "markdown", markdown);
    stet_mp_put_str(reply, "author", document.author);
    stet_mp_put_str(reply, "at", document.at);
    if (document.job_id.size > 0) {
        stet_mp_put_str(reply, "jobId", document.job_id);
        pairs++;
    }
    if (document.summary.size > 0) {
        stet_mp_put_str(reply, "generatedSummary", document.summary);
        pairs++;
    }
    stet_mp_close_map(reply, mark, pairs);
    return STET_OK;
}

static stet_code conflict(uint64_t base, uint64_t current, stet_error *e) {
    stet_code rc =
        stet_error_field(e, STET_CONFLICT, "baseVersion",
                         "the document is at version %llu, not %llu: read it again and redo the change on it",
                         (unsigned long long)current, (unsigned long long)base);
    CLEANUP(stet_buf_done) stet_buf details = STET_BUF(STET_ERROR_DETAILS_MAX);
    stet_mp_map(&details, 1);
    stet_mp_put_uint(&details, "currentVersion", current);
    if (e && stet_buf_ok(&details)) {
        memcpy(e->details, details.data, details.size);
        e->details_size = details.size;
    }
    return rc;
}

DRAFTER_HANDLER(document_put) {
    const cmd_drafter_document_put *in = request;
    drafter_document head;
    stet_code rc = drafter_document_head(turn, in->project_id, &head, e);
    if (rc != STET_OK)
        return rc;
    if (head.version != in->base_version)
        return conflict(in->base_version, head.version, e);
    uint64_t version;
    rc = drafter_document_store(turn, in->project_id, &head,
                                &(drafter_revision){.markdown = in->markdown, .author = "user"}, &version, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 1);
    stet_mp_put_uint(reply, "version", version);
    return STET_OK;
}

static void encode_version(stet_buf *b, const drafter_document *document) {
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 4;
    stet_mp_put_uint(b, "version", document->version);
    stet_mp_put_uint(b, "size", document->size);
    stet_mp_put_str(b, "author", document->author);
    stet_mp_put_str(b, "at", document->at);
    if (document->job_id.size > 0) {
        stet_mp_put_str(b, "jobId", document->job_id);
        pairs++;
    }
    if (document->summary.size > 0) {
        stet_mp_put_str(b, "generatedSummary", document->summary);
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

DRAFTER_HANDLER(document_history) {
    const cmd_drafter_document_history *in = request;
    uint64_t limit = in->has_limit ? in->limit : HISTORY_DEFAULT;
    uint64_t first = UINT64_MAX;
    stet_code rc = drafter_cursor_read(in->has_cursor, in->cursor, &first, e);
    if (rc != STET_OK)
        return rc;
    stet_key prefix = drafter_project_key(DRAFTER_TABLE_VERSIONS, in->project_id);
    stet_key from = version_key(in->project_id, first);
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_batch_scan(stet_turn_batch(turn), stet_key_bytes(&prefix), stet_key_bytes(&from), false);
    if (!scan)
        return stet_error_set(e, STET_BUSY, "no memory to read the history");
    size_t mark = stet_mp_open(reply);
    stet_mp_cstr(reply, "versions");
    size_t versions = stet_mp_open(reply);
    uint32_t count = 0;
    uint64_t next = 0;
    stet_str key;
    stet_str row;
    while (next == 0 && stet_scan_next(scan, &key, &row)) {
        drafter_document document = document_of(row);
        if (count == limit) {
            next = document.version;
        } else {
            encode_version(reply, &document);
            count++;
        }
    }
    stet_mp_close_array(reply, versions, count);
    drafter_page_close(reply, mark, 1, next);
    return stet_scan_status(scan, e);
}
