/* documents - one Markdown document a project; every version is kept, none is ever overwritten.
 * Rows: the head (current version, last summary), one row of facts a version, the text apart so that a
 * history is read without the texts. Thread: the loop's, inside a turn. Memory: strings live until the
 * handler returns. */
#ifndef DRAFTER_DOCUMENTS_H
#define DRAFTER_DOCUMENTS_H

#include "actors/drafter/drafter.h"

typedef struct drafter_document {
    uint64_t version; /* 0: there is none */
    uint64_t size;
    stet_str author;  /* "user" or "drafter" */
    stet_str job_id;  /* text; {NULL, 0} when a user wrote it */
    stet_str at;      /* RFC 3339 */
    stet_str summary; /* of the last model run that landed; {NULL, 0}: none yet */
} drafter_document;

/* The current version; version 0 when the project has no document. */
NODISCARD
stet_code drafter_document_head(stet_turn *turn, stet_str project, drafter_document *ret, stet_error *e);
/* "" for version 0. STET_NOT_FOUND when there is no such version. */
NODISCARD
stet_code drafter_document_text(stet_turn *turn, stet_str project, uint64_t version, stet_str *ret,
                                stet_error *e);

typedef struct drafter_revision {
    stet_str markdown;
    const char *author;
    stet_id job_id;   /* zero: none */
    stet_str summary; /* {NULL, 0}: the head keeps the one it has */
} drafter_revision;
/* Writes version head->version + 1. The caller has checked the base. */
NODISCARD
stet_code drafter_document_store(stet_turn *turn, stet_str project, const drafter_document *head,
                                 const drafter_revision *revision, uint64_t *ret_version, stet_error *e);

#endif
