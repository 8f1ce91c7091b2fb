/* control - the sandbox's own API below /sandbox/, the page and the health check. Not recorded in the
 * journal. */
#ifndef STET_SANDBOX_CONTROL_H
#define STET_SANDBOX_CONTROL_H

#include "tools/sandbox/server.h"

int sandbox_control_fault_add(const sandbox_request *r);
int sandbox_control_fault_list(const sandbox_request *r);
int sandbox_control_fault_remove(const sandbox_request *r);
int sandbox_control_requests(const sandbox_request *r);
int sandbox_control_requests_clear(const sandbox_request *r);
int sandbox_control_pace(const sandbox_request *r);
int sandbox_control_pace_set(const sandbox_request *r);
int sandbox_control_health(const sandbox_request *r);
int sandbox_control_page(const sandbox_request *r);
int sandbox_control_unknown(const sandbox_request *r);

#endif
