/* exit_codes - how broker and actor programs end; the supervisor decides by them whether to start again. */
#ifndef STET_EXIT_CODES_H
#define STET_EXIT_CODES_H

enum {
    STET_EXIT_OK = 0,
    STET_EXIT_USAGE = 2,
    STET_EXIT_INTERNAL = 70,
    STET_EXIT_STORE = 74,   /* a store error: start again and recover */
    STET_EXIT_LOCKED = 75,  /* another process owns the data */
    STET_EXIT_FENCED = 76,  /* another owner has a higher epoch */
    STET_EXIT_DAMAGED = 77, /* acknowledged data is missing: do not restart, restore */
    STET_EXIT_CONFIG = 78
};

#endif
