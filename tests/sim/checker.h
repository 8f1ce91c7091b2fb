/* checker - does a history keep the promises? One function for each invariant; each is tested by a history
 * made by hand that it must reject (tests/unit/sim_checker.c).
 *
 *   I1  what was answered with OK is there at the end
 *   I2  each message is applied at most once
 *   I3  the same request asked again gets the same answer; another request under its id is refused
 *   I4  a channel is applied in order, without a gap, and its numbers never change their meaning
 *   I5  what one client does to one key, one thing after the other, is seen in that order (what it did not wait
 *       for, because it went away, at any place, once); one call at a time for a project
 *   I6  progress: numbers 1..n, once each, the same text live, read back and stored
 *   I7  what was refused is never applied (a refusal of a request that was sent once: of two copies under way one
 *       may be refused and the other not)
 *   I8  what is unknown is applied at most once, and asking again tells which
 *   I9  one message is one unit: its state, event, message and timer are all there or none
 *   I10 a call to the outside is made once for each attempt and try, and its job knows of it
 *   I11 sums stay
 *   I12 when the faults stop, everything comes to an end
 *   I13 one owner: commit numbers have no gap and never go back; nobody hears an owner that was replaced
 *   I15 no acknowledgement is ahead of what its giver has at the end; no store is served that has lost its end
 *   J1  a job's events follow its life: after done nothing, after error or cancelled only queued
 *   J2  a draft lands on the version that it was made from
 *   S1  no part complains about itself */
#ifndef SIM_CHECKER_H
#define SIM_CHECKER_H

#include "tests/sim/history.h"

enum { CHECKER_TEXT_SIZE = 400 };

/* The code (STORED.code) of a job's event by its status text; see checker.c. */
typedef enum checker_status {
    CHECKER_OTHER,
    CHECKER_QUEUED,
    CHECKER_DELAYED,
    CHECKER_ACTIVE,
    CHECKER_PROGRESS,
    CHECKER_JOB_DONE,
    CHECKER_JOB_ERROR,
    CHECKER_CANCELLED
} checker_status;

checker_status checker_status_of(stet_str text);

/* True when the history is good; else the text begins with the invariant, e.g. "I3: ...". */
bool checker_run(const history *h, char ret_text[CHECKER_TEXT_SIZE]);

#endif
