/* detail - what a job's attempt remembers about its calls (stet_job_set_detail): {baseVersion, baseSize,
 * calls: [{try, startedAt, endedAt?, outcome?, status?, code?, requestId?, promptTokens?,
 * completionTokens?}], unresolved: [...], unresolvedAnchors: [...], unresolvedCount, leftOut}. It becomes
 * part of the attempt's history. */
#ifndef DRAFTER_DETAIL_H
#define DRAFTER_DETAIL_H

#include "actors/drafter/context.h"
#include "actors/drafter/verdict.h"

enum { DRAFTER_DETAIL_MAX = 16 << 10 /* the engine takes no more */, DRAFTER_REQUEST_ID_MAX = 100 };

typedef struct drafter_detail {
    uint64_t base_version; /* of the document that the call saw */
    uint64_t base_size;
    stet_str calls; /* MessagePack array; {NULL, 0}: none */
    uint32_t calls_count;
    bool last_ended;     /* what still comes of that call is late */
    stet_str unresolved; /* MessagePack array; {NULL, 0}: none */
    stet_str unresolved_anchors;
    uint64_t unresolved_count;
    uint64_t left_out;
} drafter_detail;

/* Points into the job. */
drafter_detail drafter_detail_of(const stet_job *job);
/* The detail with one call more, about to be made. */
void drafter_detail_begin(stet_buf *b, const drafter_detail *detail, const drafter_context *context,
                          uint64_t base_version, uint64_t base_size, int64_t now_ms);
/* The detail with its last call ended. */
void drafter_detail_end(stet_buf *b, const drafter_detail *detail, const drafter_outcome *outcome,
                        const stet_http_result *result, const drafter_answer *answer, int64_t now_ms);

#endif
