/* endpoints - which configured addresses the broker may listen on.
 *
 * Until clients are known by keys, only what stays on this machine: ipc:// with an absolute path, or tcp://
 * on a numeric loopback address. Abstract ipc sockets (ipc://@...) are refused, since they have no
 * permissions. Thread: any. Memory: slices of the setting's text. */
#ifndef BROKER_ENDPOINTS_H
#define BROKER_ENDPOINTS_H

#include "proto/base/code.h"
#include "proto/base/paths.h"

enum { BROKER_ENDPOINTS_MAX = 8 };

typedef struct broker_endpoints {
    char items[BROKER_ENDPOINTS_MAX][STET_ENDPOINT_MAX];
    uint32_t count;
} broker_endpoints;

/* A comma separated list; empty is fine. STET_INVALID names the endpoint and the reason. setting: for the
 * message. */
NODISCARD
stet_code broker_endpoints_parse(const char *list, const char *setting, broker_endpoints *ret, stet_error *e);

#endif
