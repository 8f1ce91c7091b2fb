/* body - bodies and seeds of commands, made from the table. */
#ifndef STET_TESTS_FUZZ_BODY_H
#define STET_TESTS_FUZZ_BODY_H

#include "proto/wire/schema.h"
#include "tests/fuzz/fuzz.h"

/* A body that mostly fits; the input chooses the fields and their values. */
void fuzz_put_body(fuzz_input *in, const stet_record *record, stet_buf *b);
/* A command of this service, by the next byte. */
const stet_command *fuzz_command(fuzz_input *in, const char *service);

#endif
