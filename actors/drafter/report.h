/* report - what the world hears about a job: one progress event per change of state, one metric per write
 * (D-13), one alert per error (D-26). All in the commit of the write itself. Thread: the loop's, inside a
 * turn. */
#ifndef DRAFTER_REPORT_H
#define DRAFTER_REPORT_H

#include "actors/drafter/drafter.h"

/* stet_job_queue.written of the drafts. A full outbox loses a metric (counted, logged), never the job (D-16).
 */
NODISCARD
stet_code drafter_job_written(stet_turn *turn, const stet_job *job, stet_job_state before, stet_error *e);
/* A progress event of the running attempt. */
NODISCARD
stet_code drafter_progress_event(stet_turn *turn, const stet_job *job, double progress, const char *message,
                                 const char *error_code, stet_error *e);

#endif
