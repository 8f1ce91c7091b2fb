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

static bool is_loopback(stet_str host) {
    char text[INET6_ADDRSTRLEN + 1] = {0};
    bool v6 = host.size > 2 && host.data[0] == '[' && host.data[host.size - 1] == ']';
    if (v6)
        host = stet_str_from(host.data + 1, host.size - 2);
    if (host.size == 0 || host.size >= sizeof text)
        return false;
    memcpy(text, host.data, host.size);
    struct in_addr v4_address;
    struct in6_addr v6_address;
    if (v6)
        return inet_pton(AF_INET6, text, &v6_address) == 1 && IN6_IS_ADDR_LOOPBACK(&v6_address);
    return inet_pton(AF_INET, text, &v4_address) == 1 && ntohl(v4_address.s_addr) >> 24 == 127;
}

static bool is_local_tcp(stet_str address) {
    const char *colon = memrchr(address.data, ':', address.size);
    if (colon == NULL)
        return false;
    size_t host_size = (size_t)(colon - address.data);
    return is_loopback(stet_str_from(address.data, host_size)) && is_port(skip(address, host_size + 1));
}

static stet_code check(stet_str endpoint, const char *setting, stet_error *e) {
    if (endpoint.size >= STET_ENDPOINT_MAX || memchr(endpoint.data, '\0', endpoint.size) != NULL)
        return stet_error_field(e, STET_INVALID, setting, "an endpoint has at most %d bytes",
                                STET_ENDPOINT_MAX - 1);
    if (has_prefix(endpoint, "ipc:///"))
        return STET_OK;
    if (has_prefix(endpoint, "tcp://") && is_local_tcp(skip(endpoint, strlen("tcp://"))))
        return STET_OK;
    return stet_error_field(
        e, STET_INVALID, setting,
        "%.*s is refused: only tcp://127.0.0.1:PORT, tcp://[::1]:PORT and ipc:///PATH are accepted, since "
        "peers beyond this machine are not authenticated",
        STET_STR_ARG(endpoint));
}

stet_code broker_endpoints_parse(const char *list, const char *setting, broker_endpoints *ret,
                                 stet_error *e) {
    *ret = (broker_endpoints){0};
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
        if (ret->count == BROKER_ENDPOINTS_MAX)
            return stet_error_field(e, STET_INVALID, setting, "at most %d endpoints", BROKER_ENDPOINTS_MAX);
        stet_code rc = check(endpoint, setting, e);
        if (rc != STET_OK)
            return rc;
        memcpy(ret->items[ret->count], endpoint.data, endpoint.size);
        ret->items[ret->count++][endpoint.size] = '\0';
    }
    return STET_OK;
}
