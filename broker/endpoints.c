#include "broker/endpoints.h"

#include <arpa/inet.h>

static bool has_prefix(stet_str text, const char *prefix) {
    size_t size = strlen(prefix);
    return text.size >= size && memcmp(text.data, prefix, size) == 0;
}

static stet_str skip(stet_str text, size_t size) {
    return stet_str_from(text.data + size, text.size - size);
}

static bool is_port(stet_str text) {
    if (stet_str_is(text, "*"))
        return true;
    unsigned port = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text.data[i] - '0');
        if (port > UINT16_MAX)
            return false;
    }
    return text.size > 0;
}

typedef enum reach { REACH_NONE, REACH_LOOPBACK, REACH_BEYOND } reach;

/* Numeric addresses only: a name may mean another machine tomorrow. */
static reach reach_of(stet_str host) {
    char text[INET6_ADDRSTRLEN + 1] = {0};
    if (stet_str_is(host, "*"))
        return REACH_BEYOND;
    bool v6 = host.size > 2 && host.data[0] == '[' && host.data[host.size - 1] == ']';
    if (v6)
        host = stet_str_from(host.data + 1, host.size - 2);
    if (host.size == 0 || host.size >= sizeof text)
        return REACH_NONE;
    memcpy(text, host.data, host.size);
    struct in_addr v4_address;
    struct in6_addr v6_address;
    if (v6)
        return inet_pton(AF_INET6, text, &v6_address) != 1 ? REACH_NONE
               : IN6_IS_ADDR_LOOPBACK(&v6_address)         ? REACH_LOOPBACK
                                                           : REACH_BEYOND;
    if (inet_pton(AF_INET, text, &v4_address) != 1)
        return REACH_NONE;
    return ntohl(v4_address.s_addr) >> 24 == 127 ? REACH_LOOPBACK : REACH_BEYOND;
}

static reach reach_of_tcp(stet_str address) {
    const char *colon = memrchr(address.data, ':', address.size);
    if (colon == NULL)
        return REACH_NONE;
    size_t host_size = (size_t)(colon - address.data);
    return is_port(skip(address, host_size + 1)) ? reach_of(stet_str_from(address.data, host_size))
                                                 : REACH_NONE;
}

static stet_code check_keyed(stet_str endpoint, const broker_endpoints_rule *rule, stet_error *e) {
    if (rule->mode == BROKER_CURVE_NEVER)
        return stet_error_field(e, STET_INVALID, rule->setting,
                                "%.*s is refused: it needs keys, and broker.curve is never",
                                STET_STR_ARG(endpoint));
    if (!rule->have_keys)
        return stet_error_field(
            e, STET_INVALID, rule->setting,
            "%.*s is refused: peers there must show a key, and there are none; make one with "
            "'stet keys new'",
            STET_STR_ARG(endpoint));
    return STET_OK;
}

static stet_code check(stet_str endpoint, const broker_endpoints_rule *rule, bool *ret_keyed, stet_error *e) {
    *ret_keyed = false;
    if (endpoint.size >= STET_ENDPOINT_MAX || memchr(endpoint.data, '\0', endpoint.size) != NULL)
        return stet_error_field(e, STET_INVALID, rule->setting, "an endpoint has at most %d bytes",
                                STET_ENDPOINT_MAX - 1);
    if (has_prefix(endpoint, "ipc:///") && !rule->actors_only)
        return STET_OK;
    reach where =
        has_prefix(endpoint, "tcp://") ? reach_of_tcp(skip(endpoint, strlen("tcp://"))) : REACH_NONE;
    if (where == REACH_NONE)
        return stet_error_field(e, STET_INVALID, rule->setting,
                                "%.*s is refused: write tcp://ADDRESS:PORT with a numeric address%s",
                                STET_STR_ARG(endpoint), rule->actors_only ? "" : ", or ipc:///PATH");
    *ret_keyed = where == REACH_BEYOND || rule->actors_only || rule->mode == BROKER_CURVE_ALWAYS ||
                 (rule->mode == BROKER_CURVE_AUTO && rule->have_keys);
    return *ret_keyed ? check_keyed(endpoint, rule, e) : STET_OK;
}

static stet_code add(broker_endpoints *to, stet_str endpoint, const char *setting, stet_error *e) {
    if (to->count == BROKER_ENDPOINTS_MAX)
        return stet_error_field(e, STET_INVALID, setting, "at most %d endpoints", BROKER_ENDPOINTS_MAX);
    memcpy(to->items[to->count], endpoint.data, endpoint.size);
    to->items[to->count++][endpoint.size] = '\0';
    return STET_OK;
}

stet_code broker_endpoints_parse(const char *list, const broker_endpoints_rule *rule,
                                 broker_endpoints *ret_open, broker_endpoints *ret_keyed, stet_error *e) {
    while (*list != '\0') {
        size_t size = strcspn(list, ",");
        stet_str endpoint = stet_str_from(list, size);
        list += list[size] == ',' ? size + 1 : size;
        while (endpoint.size > 0 && endpoint.data[0] == ' ')
            endpoint = skip(endpoint, 1);
        while (endpoint.size > 0 && endpoint.data[endpoint.size - 1] == ' ')
            endpoint.size--;
        if (endpoint.size == 0)
            continue;
        bool keyed = false;
        stet_code rc = check(endpoint, rule, &keyed, e);
        if (rc == STET_OK)
            rc = add(keyed ? ret_keyed : ret_open, endpoint, rule->setting, e);
        if (rc != STET_OK)
            return rc;
    }
    return STET_OK;
}

stet_code broker_curve_mode_parse(const char *text, broker_curve_mode *ret, stet_error *e) {
    static const char *const names[] = {
        [BROKER_CURVE_AUTO] = "auto", [BROKER_CURVE_ALWAYS] = "always", [BROKER_CURVE_NEVER] = "never"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (broker_curve_mode)i;
            return STET_OK;
        }
    }
    return stet_error_field(e, STET_INVALID, "broker.curve", "broker.curve is auto, always or never");
}
