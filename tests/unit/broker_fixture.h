/* broker_fixture - a broker's core on the edge of broker_fake, one for each test. */
#ifndef TESTS_BROKER_FIXTURE_H
#define TESTS_BROKER_FIXTURE_H

#include "tests/unit/broker_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* Numbers of actors' connections; those of clients are small. */
enum { ACTOR = 100, SUCCESSOR = 101, RECEIVER = 102, OTHER_ACTOR = 103 };

static inline int start(void **state) {
    fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    const broker_options options = fake_options();
    fake_start(f, &options);
    *state = f;
    return 0;
}

static inline int stop(void **state) {
    fake_stop(*state);
    free(*state);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

static inline void registered(fake *f, const char *service, uint32_t actor, uint32_t credit) {
    fake_ready(f, actor, service, 1, credit);
    (void)fake_take_back(f, actor, STET_KIND_WELCOME);
}

#endif
