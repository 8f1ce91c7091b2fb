/* workload - what workload.c and bodies.c share: the kinds of things that clients ask for. */
#ifndef SIM_WORKLOAD_H
#define SIM_WORKLOAD_H

#include "tests/sim/sim.h"

enum { BODY_MAX = STET_BODY_BYTES_MAX + 4096 };

typedef enum op_kind {
    OP_PUT,
    OP_GET,
    OP_JOB,
    OP_ADD,
    OP_MOVE,
    OP_SUBMIT,
    OP_DOCUMENT_PUT,
    OP_DOCUMENT_GET,
    OP_APPEND,
    OP_CANCEL,
    OP_RETRY,
    OP_PAUSE,
    OP_RESUME,
    OP_DRAIN,
    OP_LOOK,
    OP_KINDS
} op_kind;

const char *body_name(char text[SIM_NAME_SIZE], char kind, uint64_t number);
/* The number in a value, from the answer to probe.get. */
uint64_t body_put_number(stet_str reply);
void body_put(sim *s, sim_op *op, stet_buf *b, sim_lane *lane);
/* False: it cannot be asked now. */
bool body_write(sim *s, sim_op *op, op_kind kind, stet_buf *b, sim_lane *lane);
/* In place of what belongs there: nothing, an empty map, an empty name. */
void body_empty(sim *s, sim_op *op, stet_buf *b);

#endif
