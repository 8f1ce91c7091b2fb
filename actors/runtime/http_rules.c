#include "actors/runtime/http_rules.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>

/* ---- addresses ---- */

typedef struct range {
    uint32_t network;
    uint32_t bits;
} range;

/* RFC 6890 and its updates: what is not the public Internet. */
static const range LOCAL_V4[] = {
    {0x00000000, 8},  /* 0.0.0.0/8: this network; Linux connects 0.0.0.0 to itself */
    {0x0a000000, 8},  /* 10/8 */
    {0x64400000, 10}, /* 100.64/10: carrier NAT */
    {0xa9fe0000, 16}, /* 169.254/16: link-local, cloud metadata */
    {0xac100000, 12}, /* 172.16/12 */
    {0xc0000000, 24}, /* 192.0.0/24 */
    {0xc0000200, 24}, /* 192.0.2/24: documentation */
    {0xc0a80000, 16}, /* 192.168/16 */
    {0xc6120000, 15}, /* 198.18/15: benchmarks */
    {0xc6336400, 24}, /* 198.51.100/24 */
    {0xcb007100, 24}, /* 203.0.113/24 */
    {0xe0000000, 3},  /* multicast, reserved, broadcast */
};

static stet_http_peer peer_v4(uint32_t address) {
    if (address >> 24 == 127)
        return STET_HTTP_PEER_LOOPBACK;
    for (size_t i = 0; i < COUNT_OF(LOCAL_V4); i++)
        if ((address ^ LOCAL_V4[i].network) >> (32 - LOCAL_V4[i].bits) == 0)
            return STET_HTTP_PEER_LOCAL;
    return STET_HTTP_PEER_PUBLIC;
}

static uint32_t v4_at(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static stet_http_peer peer_v6(const uint8_t a[16]) {
    static const uint8_t zeros[12];
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(a, zeros, 10) == 0 && a[10] == 0xff && a[11] == 0xff)
        return peer_v4(v4_at(a + 12));
    if (memcmp(a, zeros, 12) == 0) {
        if (v4_at(a + 12) == 1)
            return STET_HTTP_PEER_LOOPBACK;
        return v4_at(a + 12) == 0 ? STET_HTTP_PEER_LOCAL : peer_v4(v4_at(a + 12));
    }
    if (memcmp(a, nat64, 12) == 0)
        return peer_v4(v4_at(a + 12));
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return peer_v4(v4_at(a + 2));
    if ((a[0] & 0xe0) !=
        0x20) /* only 2000::/3 is global; fc00::/7, fe80::/10, ff00::/8 and the rest are not */
        return STET_HTTP_PEER_LOCAL;
    if (a[0] == 0x20 && a[1] == 0x01 && (a[2] & 0xfe) == 0) /* 2001::/23: Teredo and other special uses */
        return STET_HTTP_PEER_LOCAL;
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8) /* documentation */
        return STET_HTTP_PEER_LOCAL;
    return STET_HTTP_PEER_PUBLIC;
}

stet_http_peer stet_http_peer_of(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return peer_v4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        return peer_v6(in6.sin6_addr.s6_addr);
    }
    return STET_HTTP_PEER_LOCAL;
}

stet_http_peer stet_http_peer_of_text(const char *address) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return peer_v4(ntohl(v4.s_addr));
    if (inet_pton(AF_INET6, address, &v6) == 1)
        return peer_v6(v6.s6_addr);
    return STET_HTTP_PEER_LOCAL;
}

bool stet_http_host_is_loopback(const char *host) {
    if (strcasecmp(host, "localhost") == 0)
        return true;
    char literal[INET6_ADDRSTRLEN];
    size_t size = strlen(host);
    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host++;
        size -= 2;
    }
    if (size >= sizeof literal)
        return false;
    memcpy(literal, host, size);
    literal[size] = '\0';
    return stet_http_peer_of_text(literal) == STET_HTTP_PEER_LOOPBACK;
}

/* ---- method and headers ---- */

bool stet_http_method_valid(const char *method) {
    size_t size = 0;
    for (; method[size] != '\0'; size++)
        if (size == 16 || method[size] < 'A' || method[size] > 'Z')
            return false;
    return size > 0;
}

static bool is_token_char(unsigned char c) {
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

bool stet_http_header_valid(const char *name, const char *value) {
    if (name[0] == '\0')
        return false;
    for (const char *at = name; *at != '\0'; at++)
        if (!is_token_char((unsigned char)*at))
            return false;
    for (const char *at = value; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static stet_str trim(stet_str text) {
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && memchr(" \t\r\n", text.data[text.size - 1], 4) != NULL)
        text.size--;
    return text;
}

bool stet_http_header_split(stet_str line, stet_str *ret_name, stet_str *ret_value) {
    const char *colon = line.size > 0 ? memchr(line.data, ':', line.size) : NULL;
    if (colon == NULL || colon == line.data)
        return false;
    size_t name_size = (size_t)(colon - line.data);
    *ret_name = trim((stet_str){line.data, name_size});
    *ret_value = trim((stet_str){colon + 1, line.size - name_size - 1});
    return true;
}

bool stet_http_name_is(stet_str name, const char *lower_case) {
    return name.size == strlen(lower_case) && strncasecmp(name.data, lower_case, name.size) == 0;
}

/* ---- Retry-After ---- */

static int64_t clamp_wait(int64_t ms) {
    if (ms < 0)
        return 0;
    return ms > STET_HTTP_RETRY_AFTER_MAX_MS ? STET_HTTP_RETRY_AFTER_MAX_MS : ms;
}

/* A decimal number times 1000^thousands, fractions cut to the unit; -1 when it is not one. */
static int64_t decimal(stet_str text, bool seconds) {
    int64_t whole = 0;
    size_t at = 0;
    for (; at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; at++)
        if (whole <= STET_HTTP_RETRY_AFTER_MAX_MS)
            whole = whole * 10 + (text.data[at] - '0');
    if (at == 0)
        return -1;
    int64_t ms = seconds ? whole * 1000 : whole;
    if (at == text.size)
        return clamp_wait(ms);
    if (text.data[at++] != '.')
        return -1;
    int64_t weight = seconds ? 100 : 0;
    for (; at < text.size; at++, weight /= 10) {
        if (text.data[at] < '0' || text.data[at] > '9')
            return -1;
        ms += weight * (text.data[at] - '0');
    }
    return clamp_wait(ms);
}

static bool two_digits(const char *at, int64_t *ret) {
    if (at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9')
        return false;
    *ret = (at[0] - '0') * 10 + (at[1] - '0');
    return true;
}

static int64_t month_of(const char *at) {
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int64_t i = 0; i < 12; i++)
        if (memcmp(at, names + i * 3, 3) == 0)
            return i + 1;
    return 0;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = year / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT": the only form that senders may produce (RFC 9110, 5.6.7). */
static bool imf_fixdate(stet_str text, int64_t *ret_wall_ms) {
    if (text.size != 29)
        return false;
    const char *t = text.data;
    if (t[3] != ',' || t[4] != ' ' || t[7] != ' ' || t[11] != ' ' || t[16] != ' ' || t[19] != ':' ||
        t[22] != ':' || memcmp(t + 25, " GMT", 4) != 0)
        return false;
    int64_t day, century, year, hour, minute, second;
    int64_t month = month_of(t + 8);
    if (month == 0 || !two_digits(t + 5, &day) || !two_digits(t + 12, &century) ||
        !two_digits(t + 14, &year) || !two_digits(t + 17, &hour) || !two_digits(t + 20, &minute) ||
        !two_digits(t + 23, &second))
        return false;
    if (day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return false;
    *ret_wall_ms =
        ((days_of(century * 100 + year, month, day) * 24 + hour) * 3600 + minute * 60 + second) * 1000;
    return true;
}

int64_t stet_http_retry_after(stet_str value, int64_t now_wall_ms) {
    value = trim(value);
    int64_t at_wall_ms;
    if (imf_fixdate(value, &at_wall_ms))
        return clamp_wait(at_wall_ms - now_wall_ms);
    return decimal(value, /* seconds= */ true);
}

int64_t stet_http_retry_after_ms(stet_str value) {
    return decimal(trim(value), /* seconds= */ false);
}
