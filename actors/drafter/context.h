/* context - what of the conversation goes into a job's prompt: messages pointed at, excerpts around anchors,
 * and the caller's own JSON, unchanged. What cannot be found is named, what is too long is left out and
 * counted: neither fails the job. Thread: the loop's, inside a turn. */
#ifndef DRAFTER_CONTEXT_H
#define DRAFTER_CONTEXT_H

#include "actors/drafter/drafter.h"

enum {
    DRAFTER_CONTEXT_MAX = 256 << 10,
    DRAFTER_ANCHORS_MAX = 64,
    DRAFTER_EXCERPT_ITEMS_MAX = 50,
    DRAFTER_UNRESOLVED_BYTES = 4 << 10
};

typedef struct drafter_context {
    stet_buf excerpts;
    stet_buf messages;
    stet_buf json;       /* promptContext */
    stet_buf unresolved; /* MessagePack array of messagePointers that name nothing: the first few KiB */
    stet_buf unresolved_anchors; /* the same of transcriptAnchors */
    uint32_t unresolved_count;   /* of both, all */
    uint32_t left_out;           /* items that found no room */
} drafter_context;

/* Fills *ret, which the caller frees also after an error. */
NODISCARD
stet_code drafter_context_build(stet_turn *turn, const stet_job *job, drafter_context *ret, stet_error *e);
void drafter_context_done(drafter_context *self);

#endif
