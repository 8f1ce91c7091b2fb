#include "actors/drafter/jobs_view.h"

enum { PAIRS_MAX = 16 };

typedef struct pair {
    stet_str key;
    stet_str value;
} pair;

/* Fields of the payload and of the result become fields of the job; result comes second and has names of its
 * own. */
static uint32_t gather(stet_str map, bool whole, pair *pairs, uint32_t count) {
    stet_mp_reader r = stet_mp_reader_of(map);
    uint32_t left = map.size > 0 ? stet_mp_read_map(&r) : 0;
    for (; left > 0 && !r.failed && count < PAIRS_MAX; left--) {
        pair next = {.key = stet_mp_read_str(&r)};
        next.value = stet_mp_read_raw(&r);
        if (!r.failed && (whole || stet_str_is(next.key, "projectId") || stet_str_is(next.key, "sessionId")))
            pairs[count++] = next;
    }
    return count;
}

void drafter_job_encode(stet_buf *b, const stet_job *job, bool whole) {
    pair pairs[PAIRS_MAX];
    uint32_t count = gather(job->payload, whole, pairs, 0);
    count = gather(job->result, /* whole= */ true, pairs, count);
    stet_job_encode(job, b, count);
    for (uint32_t i = 0; i < count; i++) {
        stet_mp_str(b, pairs[i].key);
        stet_mp_raw(b, pairs[i].value);
    }
}
