/* The head of an HTTP answer, and the rules for calls: values are cut, waits are read as RFC 9110 has them or not
 * at all, and no spelling of an address makes a private one public.
 *
 * Input: a byte, then lines. Each is a header line, a wait, an address, a method and a header of ours. */
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "actors/runtime/http_call.h"
#include "actors/runtime/http_rules.h"
#include "tests/fuzz/fuzz.h"

enum { NOW_S = 1700000000 };

/* ---- waits, read once more by other means ---- */

static stet_str trimmed(stet_str text) {
    while (text.size > 0 && (*text.data == ' ' || *text.data == '\t'))
        text = stet_str_from(text.data + 1, text.size - 1);
    while (text.size > 0 && memchr(" \t\r\n", text.data[text.size - 1], 4) != NULL)
        text.size--;
    return text;
}

static int64_t clamped(double ms) {
    return ms > (double)STET_HTTP_RETRY_AFTER_MAX_MS ? STET_HTTP_RETRY_AFTER_MAX_MS
           : ms < 0                                  ? 0
                                                     : (int64_t)ms;
}

/* -1: not a date. */
static int64_t date_wait(const char *text) {
    struct tm tm = {0};
    char again[64];
    const char *end = strptime(text + 5, "%d %b %Y %H:%M:%S GMT", &tm);
    if (end == NULL || *end != '\0')
        return -1;
    time_t at = timegm(&tm);
    if (strftime(again, sizeof again, "%d %b %Y %H:%M:%S GMT", &tm) == 0 || strcmp(again, text + 5) != 0)
        return -2; /* a date that there is not, like 31 Feb, or letters of another case: either may be taken */
    return clamped(((double)at - NOW_S) * 1000);
}

static void try_wait(stet_str line) {
    char text[64];
    stet_str value = trimmed(line);
    int64_t seconds = stet_http_retry_after(line, (int64_t)NOW_S * 1000), ms = stet_http_retry_after_ms(line);
    ASSERT(seconds >= -1 && seconds <= STET_HTTP_RETRY_AFTER_MAX_MS);
    ASSERT(ms >= -1 && ms <= STET_HTTP_RETRY_AFTER_MAX_MS);
    bool number = value.size > 0 && isdigit((unsigned char)value.data[0]);
    size_t dots = 0;
    for (size_t i = 0; i < value.size; i++) {
        dots += value.data[i] == '.';
        number &= isdigit((unsigned char)value.data[i]) || value.data[i] == '.';
    }
    number &= dots <= 1;
    if (value.size >= sizeof text) /* a number as long as it likes */
        return;
    memcpy(text, value.size > 0 ? value.data : "", value.size);
    text[value.size] = '\0';
    if (number) {
        double exact = strtod(text, NULL) * 1000;
        ASSERT(seconds >= clamped(exact - 1) && seconds <= clamped(exact + 1));
        ASSERT(ms >= clamped(exact / 1000 - 1) && ms <= clamped(exact / 1000));
        return;
    }
    ASSERT(ms == -1);
    /* The name of the day is not looked at. */
    int64_t date = value.size == 29 && memchr(text + 3, '\0', 26) == NULL && text[3] == ',' && text[4] == ' '
                       ? date_wait(text)
                       : -1;
    ASSERT(date == -2 || seconds == date || (date >= 0 && seconds == -1) || (date == -1 && seconds == -1));
}

/* ---- the head ---- */

static bool ended(const char *slot) {
    return memchr(slot, '\0', STET_HTTP_VALUE_MAX) != NULL;
}

static bool plain(const char *text) {
    while (*text != '\0' && !iscntrl((unsigned char)*text))
        text++;
    return *text == '\0';
}

static void try_head(stet_str text, uint8_t choice) {
    call c = {.failure = (stet_http_failure)(choice % (STET_HTTP_REFUSED + 1)),
              .host = "api.example.com",
              .retry_after_ms = -1,
              .sent_again = (choice & 8) != 0,
              .no_memory = (choice & 16) != 0,
              .loopback = (choice & 32) != 0};
    for (size_t at = 0; at < text.size;) {
        const char *end = memchr(text.data + at, '\n', text.size - at);
        size_t size = end ? (size_t)(end + 1 - text.data) - at : text.size - at;
        uint8_t *line = malloc(size);
        ASSERT(line != NULL);
        memcpy(line, text.data + at, size);
        stet_http_call_header(&c, stet_str_from(line, size), (int64_t)NOW_S * 1000);
        free(line);
        at += size;
        ASSERT(c.status <= 999 && ended(c.content_type) && ended(c.request_id));
        ASSERT(c.retry_after_ms >= -1 && c.retry_after_ms <= STET_HTTP_RETRY_AFTER_MAX_MS);
        ASSERT(plain(c.content_type) && plain(c.request_id));
    }
    stet_http_call_explain(&c, "detail");
    ASSERT(strlen(c.reason) < STET_HTTP_REASON_MAX && (c.reason[0] != '\0' || c.failure == STET_HTTP_NONE));
    stet_http_call_forget(&c);
    ASSERT(c.status == 0 && c.retry_after_ms == -1 && c.content_type[0] == '\0');
}

/* ---- whom a call may reach ---- */

static bool private_v4(uint32_t a) {
    return a >> 24 == 10 || a >> 24 == 127 || a >> 24 == 0 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 ||
           a >> 16 == 0xa9fe || a >> 28 >= 0xe || a >> 22 == 0x191;
}

static void try_bytes(const uint8_t bytes[16]) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6}, mapped = {.sin6_family = AF_INET6};
    char text[INET6_ADDRSTRLEN];
    memcpy(&v4.sin_addr, bytes, 4);
    memcpy(&v6.sin6_addr, bytes, 16);
    memcpy(mapped.sin6_addr.s6_addr + 10, "\xff\xff", 2);
    memcpy(mapped.sin6_addr.s6_addr + 12, bytes, 4);
    stet_http_peer of_v4 = stet_http_peer_of((const struct sockaddr *)&v4);
    ASSERT((of_v4 != STET_HTTP_PEER_PUBLIC) >= private_v4(ntohl(v4.sin_addr.s_addr)));
    ASSERT((of_v4 == STET_HTTP_PEER_LOOPBACK) == (bytes[0] == 127));
    ASSERT(stet_http_peer_of((const struct sockaddr *)&mapped) == of_v4);
    ASSERT(inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text) != NULL &&
           stet_http_peer_of_text(text) == of_v4);
    stet_http_peer of_v6 = stet_http_peer_of((const struct sockaddr *)&v6);
    ASSERT(of_v6 != STET_HTTP_PEER_PUBLIC || (bytes[0] & 0xfe) != 0xfc);
    ASSERT(of_v6 != STET_HTTP_PEER_PUBLIC || bytes[0] != 0xfe);
    ASSERT(inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text) != NULL &&
           stet_http_peer_of_text(text) == of_v6);
}

static void try_text(const char *text, size_t size) {
    struct in_addr v4;
    struct in6_addr v6;
    if (stet_http_peer_of_text(text) != STET_HTTP_PEER_LOCAL)
        ASSERT(inet_pton(AF_INET, text, &v4) == 1 || inet_pton(AF_INET6, text, &v6) == 1);
    if (stet_http_host_is_loopback(text))
        ASSERT(strcasecmp(text, "localhost") == 0 || strncmp(text, "127.", 4) == 0 ||
               strchr(text, ':') != NULL || text[0] == '[');
    if (stet_http_method_valid(text))
        ASSERT(size > 0 && size <= 16 && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == size);
    if (stet_http_header_valid("X-A", text))
        ASSERT(strpbrk(text, "\r\n\x7f") == NULL);
    if (stet_http_header_valid(text, "a"))
        ASSERT(size > 0 && strpbrk(text, "\r\n: \t\"(),/;<=>?@[\\]{}") == NULL);
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    uint8_t choice = fuzz_byte(&in);
    uint8_t bytes[16] = {0};
    memcpy(bytes, size > 1 ? in.at : bytes, in.left < 16 ? in.left : 16);
    try_bytes(bytes);
    stet_str text = fuzz_rest(&in);
    try_head(text, choice);
    CLEANUP(stet_buf_done) stet_buf line = STET_BUF(FUZZ_INPUT_MAX);
    const char *end = text.size > 0 ? memchr(text.data, '\n', text.size) : NULL;
    stet_buf_append(&line, text.data, end ? (size_t)(end - text.data) : text.size);
    try_wait(stet_buf_str(&line));
    stet_buf_append_byte(&line, 0);
    try_text((const char *)line.data, strlen((const char *)line.data));
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const seeds[] = {
        "\x01HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: req_1\r\n\r\n",
        "\x02HTTP/2 429 \r\nretry-after-ms: 250.5\r\nRetry-After: 7\r\n\r\n",
        "\x04HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 x\r\nRetry-After: Sun, 06 Nov 2033 08:49:37 "
        "GMT\r\n\r\n",
        "\x03Sun, 06 Nov 1994 08:49:37 GMT",
        "\x05"
        "1.5",
        "\x05"
        "120",
        "\x00[::1]",
        "\x00"
        "127.0.0.1",
        "\x00::ffff:10.0.0.1",
        "\x00LocalHost",
        "\x00POST",
        "\x00X-Name",
    };
    if (index >= COUNT_OF(seeds))
        return false;
    size_t size = strlen(seeds[index] + 1) + 1;
    stet_buf_append(b, seeds[index], size);
    return true;
}
