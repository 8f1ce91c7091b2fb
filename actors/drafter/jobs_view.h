/* jobs_view - a draft job as users see it: what the engine says about any job, plus the draft's own fields.
 * Thread: any, pure. */
#ifndef DRAFTER_JOBS_VIEW_H
#define DRAFTER_JOBS_VIEW_H

#include "actors/drafter/drafter.h"

/* whole: also the instruction, pointers, anchors and context of the request. */
void drafter_job_encode(stet_buf *b, const stet_job *job, bool whole);

#endif
