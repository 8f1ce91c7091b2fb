#include <stdio.h>
#include <stdlib.h>

#include "proto/client/stet.h"
#include "proto/wire/envelope.h"
#include "proto/wire/json.h"

enum { JSON_BYTES_MAX = 8 * STET_BODY_BYTES_MAX };

static void say(char *error, size_t error_size, const char *text) {
    if (error && error_size)
        (void)snprintf(error, error_size, "%s", text);
}

uint8_t *stet_body_from_json(const char *json, size_t json_size, size_t *ret_size, char *error,
                             size_t error_size) {
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(STET_BODY_BYTES_MAX);
    stet_error e = {.code = STET_OK};
    if (stet_json_to_mp(stet_str_from(json, json_size), STET_MP_LIMITS_BODY, &body, &e) != STET_OK) {
        say(error, error_size, e.message);
        return NULL;
    }
    *ret_size = body.size;
    return TAKE(body.data);
}

char *stet_body_to_json(const uint8_t *bytes, size_t size, int indent, char *error, size_t error_size) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(JSON_BYTES_MAX);
    stet_error e = {.code = STET_OK};
    stet_json_style style = {.indent = indent > 0 ? (uint32_t)indent : 0};
    if (size == 0)
        stet_buf_append_str(&text, STET_STR("{}"));
    else if (stet_mp_to_json(stet_str_from(bytes, size), style, &text, &e) != STET_OK) {
        say(error, error_size, e.message);
        return NULL;
    }
    stet_buf_append_byte(&text, 0);
    if (!stet_buf_ok(&text)) {
        say(error, error_size, "out of memory");
        return NULL;
    }
    return (char *)TAKE(text.data);
}
