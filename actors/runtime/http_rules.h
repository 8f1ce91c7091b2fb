/* http_rules - what an external call may contain, whom it may reach, and how long an answer asks to wait.
 *
 * Pure functions, apart from http.c so that they can be tested and fuzzed without a network.
 * Thread: any. Memory: none kept. */
#ifndef STET_HTTP_RULES_H
#define STET_HTTP_RULES_H

#include "proto/base/base.h"

struct sockaddr;

typedef enum stet_http_peer {
    STET_HTTP_PEER_PUBLIC,
    STET_HTTP_PEER_LOOPBACK,
    STET_HTTP_PEER_LOCAL /* private, link-local, multicast, reserved, or not an IP address at all */
} stet_http_peer;

/* IPv6 forms that carry an IPv4 address (mapped, compatible, 6to4, NAT64) are judged by that address. */
stet_http_peer stet_http_peer_of(const struct sockaddr *address);
/* From numeric text such as "127.0.0.1" or "::ffff:10.0.0.1". */
stet_http_peer stet_http_peer_of_text(const char *address);

/* "localhost", or a literal loopback address; IPv6 with or without brackets. */
bool stet_http_host_is_loopback(const char *host);

bool stet_http_method_valid(const char *method); /* 1..16 upper-case letters */
/* A token as name; no control characters but tab in the value, so that no header can be smuggled in. */
bool stet_http_header_valid(const char *name, const char *value);

/* One header line "Name: value\r\n" split; false when it is not one. Slices point into line. */
bool stet_http_header_split(stet_str line, stet_str *ret_name, stet_str *ret_value);
bool stet_http_name_is(stet_str name, const char *lower_case);

/* Value of Retry-After: whole seconds or an IMF-fixdate (relative to now_wall_ms). -1 when it is neither.
 * Results are clamped to 0..STET_HTTP_RETRY_AFTER_MAX_MS. */
int64_t stet_http_retry_after(stet_str value, int64_t now_wall_ms);
/* Value of retry-after-ms: a decimal number of milliseconds. -1 when it is not. */
int64_t stet_http_retry_after_ms(stet_str value);

#define STET_HTTP_RETRY_AFTER_MAX_MS ((int64_t)7 * 24 * 3600 * 1000)

#endif
