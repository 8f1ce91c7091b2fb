/* verdict - what one try of the model's call means for the job: every failure is classed here, once.
 *
 *   LANDED    usable output
 *   AGAIN     transport error, time-out, lost answer, or a status of drafter.retryStatuses: try the call
 * again UNUSABLE  a complete answer that cannot be used: the attempt fails, the job is tried again FINAL
 * anything else: the job ends in error at once Body codes decide before the status: OpenAI uses 429 for a
 * rate and for a quota, gateways put numbers into texts. Pure: the same answer gives the same verdict. */
#ifndef DRAFTER_VERDICT_H
#define DRAFTER_VERDICT_H

#include "actors/drafter/answer.h"
#include "actors/drafter/model.h"
#include "actors/runtime/actor.h"

typedef enum drafter_verdict {
    DRAFTER_LANDED,
    DRAFTER_AGAIN,
    DRAFTER_UNUSABLE,
    DRAFTER_FINAL
} drafter_verdict;

typedef struct drafter_outcome {
    drafter_verdict verdict;
    char code[64];         /* of the job's error: http_401, quota, ... ; "" when landed */
    char message[400];     /* what happened and what to do next; never holds the key */
    drafter_output output; /* LANDED: points into the answer */
} drafter_outcome;

/* answer: what call_data collected, finished; NULL when nothing came. */
void drafter_judge(drafter_answer *answer, const stet_http_result *result, const stet_config *config,
                   drafter_schema schema, drafter_outcome *ret);
/* Wait before try number `tries_made` + 1: first * 2^(tries_made - 1), at least retry_after_ms (< 0: none),
 * with up to a quarter more by `random`, never above max_ms. */
int64_t drafter_backoff_ms(int64_t first_ms, int64_t max_ms, uint32_t tries_made, int64_t retry_after_ms,
                           uint64_t random);

#endif
