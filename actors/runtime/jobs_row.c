#include "actors/runtime/jobs.h"

static const char *const STATE_NAMES[STET_JOB_STATES_COUNT] = {
#define X(name, wire) [STET_JOB_##name] = wire,
    STET_JOB_STATES(X)
#undef X
};

const char *stet_job_state_name(stet_job_state state) {
    ASSERT(state < STET_JOB_STATES_COUNT);
    return STATE_NAMES[state];
}

bool stet_job_state_parse(stet_str name, stet_job_state *ret) {
    for (unsigned i = 0; i < STET_JOB_STATES_COUNT; i++)
        if (stet_str_is(name, STATE_NAMES[i])) {
            *ret = (stet_job_state)i;
            return true;
        }
    return false;
}
