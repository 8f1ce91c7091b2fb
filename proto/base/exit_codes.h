/* exit_codes - how broker and actor programs end; the supervisor decides by them whether to start again. */
#ifndef STET_EXIT_CODES_H
#define STET_EXIT_CODES_H

/* X(C name, code, what it means and what to do) */
#define STET_EXIT_CODES(X)                                                                                   \
    X(OK, 0, "asked to stop")                                                                                \
    X(USAGE, 2, "the command line is wrong")                                                                 \
    X(INTERNAL, 70, "a bug; look at the log and report it")                                                  \
    X(STORE, 74, "a store error: start again and recover")                                                   \
    X(LOCKED, 75, "another process owns the data")                                                           \
    X(FENCED, 76, "another owner has a higher epoch")                                                        \
    X(DAMAGED, 77, "acknowledged data is missing: do not start again, restore a backup")                     \
    X(CONFIG, 78, "the configuration is wrong; the message names the setting")

enum {
#define X(name, code, help) STET_EXIT_##name = (code),
    STET_EXIT_CODES(X)
#undef X
};

#endif
