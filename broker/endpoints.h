/* endpoints - which configured addresses the broker may listen on, and on which of them peers must show a
 * key.
 *
 * ipc:// with an absolute path, or tcp:// on a numeric address. Abstract ipc sockets (ipc://@...) are
 * refused, since they have no permissions; every other transport too. Beyond loopback a key is compulsory.
 * Thread: any. Memory: slices of the setting's text. */
#ifndef BROKER_ENDPOINTS_H
#define BROKER_ENDPOINTS_H

#include "proto/base/code.h"
#include "proto/base/paths.h"

enum { BROKER_ENDPOINTS_MAX = 8 };

typedef enum broker_curve_mode {
    BROKER_CURVE_AUTO,
    BROKER_CURVE_ALWAYS,
    BROKER_CURVE_NEVER
} broker_curve_mode;

/* What holds for a list of endpoints. */
typedef struct broker_endpoints_rule {
    const char *setting; /* for messages */
    broker_curve_mode mode;
    bool have_keys;   /* the broker has a key pair */
    bool actors_only; /* never without keys: whoever connects may answer for a service */
} broker_endpoints_rule;

typedef struct broker_endpoints {
    char items[BROKER_ENDPOINTS_MAX][STET_ENDPOINT_MAX];
    uint32_t count;
} broker_endpoints;

/* A comma separated list; empty is fine. Adds to ret_open what anybody who reaches it may use, to ret_keyed
 * what needs a key. STET_INVALID names the endpoint and the reason. */
NODISCARD
stet_code broker_endpoints_parse(const char *list, const broker_endpoints_rule *rule,
                                 broker_endpoints *ret_open, broker_endpoints *ret_keyed, stet_error *e);
/* "auto", "always" or "never". */
NODISCARD
stet_code broker_curve_mode_parse(const char *text, broker_curve_mode *ret, stet_error *e);

#endif
