#include "proto/wire/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/wire/id.h"

/* For people's eyes and for records we wrote ourselves: deeper than any body may be. */
#define LIMITS ((stet_mp_limits){.depth_max = DEPTH_MAX, .nodes_max = 1U << 24})
enum { DEPTH_MAX = 64 };
#define LOW_BITS UINT64_C(0x0101010101010101)
#define HIGH_BITS UINT64_C(0x8080808080808080)

/* ---- strings ---- */

static void append_escaped(stet_buf *b, uint8_t c) {
    static const char letters[] = "\b\f\n\r\t\"\\", names[] = "bfnrt\"\\";
    const char *found = c ? strchr(letters, c) : NULL;
    if (found != NULL) {
        stet_buf_append_byte(b, '\\');
        stet_buf_append_byte(b, (uint8_t)names[found - letters]);
    } else {
        stet_buf_printf(b, "\\u%04x", (unsigned)c);
    }
}

static void append_valid(stet_buf *b, stet_str text) {
    size_t run = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        stet_buf_append(b, text.data + run, i - run);
        append_escaped(b, c);
        run = i + 1;
    }
    if (text.size > run)
        stet_buf_append(b, text.data + run, text.size - run);
}

static bool any_byte_is(uint64_t eight, uint8_t byte) {
    uint64_t zero_where = eight ^ (LOW_BITS * byte);
    return ((zero_where - LOW_BITS) & ~zero_where & HIGH_BITS) != 0;
}

/* Eight bytes of ASCII that stand in JSON as they are. */
static bool are_plain(uint64_t eight) {
    bool control = ((eight - LOW_BITS * 0x20) & ~eight & HIGH_BITS) != 0;
    return (eight & HIGH_BITS) == 0 && !control && !any_byte_is(eight, '"') && !any_byte_is(eight, '\\') &&
           !any_byte_is(eight, 0x7f);
}

/* How much at the beginning, in steps of eight bytes but for the rest at the end, is plain. */
static size_t plain_prefix(stet_str text) {
    size_t size = 0;
    for (; text.size - size >= sizeof(uint64_t); size += sizeof(uint64_t)) {
        uint64_t eight;
        memcpy(&eight, text.data + size, sizeof eight);
        if (!are_plain(eight))
            return size;
    }
    uint64_t rest = LOW_BITS * ' ';
    if (text.size > size)
        memcpy(&rest, text.data + size, text.size - size);
    return are_plain(rest) ? text.size : size;
}

void stet_json_quote(stet_buf *b, stet_str text) {
    stet_buf_append_byte(b, '"');
    size_t plain = plain_prefix(text);
    stet_buf_append(b, text.data, plain);
    if (plain > 0)
        text = (stet_str){text.data + plain, text.size - plain};
    while (text.size > 0) {
        size_t good = stet_utf8_prefix(text);
        append_valid(b, (stet_str){text.data, good});
        if (good == text.size)
            break;
        stet_buf_append_str(b, STET_STR("\xef\xbf\xbd"));
        text = (stet_str){text.data + good + 1, text.size - good - 1};
    }
    stet_buf_append_byte(b, '"');
}

/* ---- other scalars ---- */

/* The text with the fewest digits that reads back as the same double. Up to 15 digits a decimal survives the
 * trip through a normal double, so %.15g, which drops trailing zeros, finds every short one; subnormals have
 * less. */
static void format_double(double value, char text[32]) {
    int first = fabs(value) < 2.2250738585072014e-308 ? 1 : 15;
    for (int precision = first; precision <= 17; precision++) {
        (void)snprintf(text, 32, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

static void write_double(stet_buf *b, double value) {
    if (!isfinite(value)) {
        stet_buf_append_str(b, STET_STR("null"));
        return;
    }
    char text[32];
    /* "C" for this thread while printing: the point must not become a comma. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = plain ? uselocale(plain) : (locale_t)0;
    format_double(value, text);
    if (plain) {
        (void)uselocale(before);
        freelocale(plain);
    }
    stet_buf_append(b, text, strlen(text));
    if (strpbrk(text, ".e") == NULL)
        stet_buf_append_str(b, STET_STR(".0")); /* so that it is read back as a double */
}

static void write_base64(stet_buf *b, stet_str bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes.size; i += 3) {
        uint32_t three = 0;
        size_t have = bytes.size - i < 3 ? bytes.size - i : 3;
        for (size_t n = 0; n < 3; n++)
            three = three << 8 | (n < have ? (uint8_t)bytes.data[i + n] : 0);
        for (size_t n = 0; n < 4; n++)
            stet_buf_append_byte(b, (uint8_t)(n <= have ? digits[three >> (18 - 6 * n) & 0x3f] : '='));
    }
}

/* A body that was stored as it came, one level deep: what lies in a bin of it is shown as bytes. */
static bool write_nested(stet_buf *b, stet_str bytes, stet_json_style style) {
    stet_mp_reader r = stet_mp_reader_of(bytes);
    if (stet_mp_peek(&r) != STET_MP_MAP)
        return false;
    size_t mark = b->size;
    style.nested = false;
    stet_buf_append_str(b, style.indent ? STET_STR("{\"$mp\": ") : STET_STR("{\"$mp\":"));
    if (stet_mp_to_json(bytes, style, b, NULL) != STET_OK && stet_buf_ok(b)) {
        stet_buf_truncate(b, mark);
        return false;
    }
    stet_buf_append_byte(b, '}');
    return true;
}

static void write_bin(stet_buf *b, stet_str bytes, stet_json_style style) {
    stet_id id;
    if (style.ids && stet_id_from_bytes(bytes, &id)) {
        char text[STET_ID_TEXT_SIZE];
        stet_id_text(id, text);
        stet_json_quote(b, stet_str_of(text));
        return;
    }
    if (style.nested && write_nested(b, bytes, style))
        return;
    stet_buf_append_str(b, style.indent ? STET_STR("{\"$bin\": \"") : STET_STR("{\"$bin\":\""));
    write_base64(b, bytes);
    stet_buf_append_str(b, STET_STR("\"}"));
}

static void write_scalar(stet_mp_reader *r, stet_json_style style, stet_buf *b) {
    switch (stet_mp_peek(r)) {
    case STET_MP_BOOL:
        stet_buf_append_str(b, stet_mp_read_bool(r) ? STET_STR("true") : STET_STR("false"));
        return;
    case STET_MP_UINT:
        stet_buf_printf(b, "%llu", (unsigned long long)stet_mp_read_uint(r));
        return;
    case STET_MP_INT:
        stet_buf_printf(b, "%lld", (long long)stet_mp_read_int(r));
        return;
    case STET_MP_DOUBLE:
        write_double(b, stet_mp_read_double(r));
        return;
    case STET_MP_STR:
        stet_json_quote(b, stet_mp_read_str(r));
        return;
    case STET_MP_BIN:
        write_bin(b, stet_mp_read_bin(r), style);
        return;
    default:
        stet_mp_read_nil(r);
        stet_buf_append_str(b, STET_STR("null"));
        return;
    }
}

/* ---- structure ---- */

typedef struct write_level {
    uint32_t count, left; /* pairs or items */
    bool map;
} write_level;

static void new_line(stet_buf *b, stet_json_style style, uint32_t depth) {
    if (style.indent == 0)
        return;
    stet_buf_append_byte(b, '\n');
    for (uint64_t i = 0; i < (uint64_t)style.indent * depth; i++)
        stet_buf_append_byte(b, ' ');
}

stet_code stet_mp_to_json(stet_str mp, stet_json_style style, stet_buf *ret_json, stet_error *e) {
    stet_code rc = stet_mp_check(mp, LIMITS, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_reader r = stet_mp_reader_of(mp);
    write_level levels[DEPTH_MAX];
    uint32_t depth = 0;
    for (;;) {
        stet_mp_type type = stet_mp_peek(&r);
        if (type == STET_MP_MAP || type == STET_MP_ARRAY) {
            bool map = type == STET_MP_MAP;
            uint32_t count = map ? stet_mp_read_map(&r) : stet_mp_read_array(&r);
            stet_buf_append_byte(ret_json, map ? '{' : '[');
            levels[depth++] = (write_level){.count = count, .left = count, .map = map};
        } else {
            write_scalar(&r, style, ret_json);
        }
        while (depth > 0 && levels[depth - 1].left == 0) {
            depth--;
            if (levels[depth].count > 0)
                new_line(ret_json, style, depth);
            stet_buf_append_byte(ret_json, levels[depth].map ? '}' : ']');
        }
        if (depth == 0)
            break;
        write_level *top = &levels[depth - 1];
        if (top->left-- < top->count)
            stet_buf_append_byte(ret_json, ',');
        new_line(ret_json, style, depth);
        if (top->map) {
            stet_json_quote(ret_json, stet_mp_read_str(&r));
            stet_buf_append_str(ret_json, style.indent ? STET_STR(": ") : STET_STR(":"));
        }
    }
    ASSERT(r.at == r.end && !r.failed); /* what the check let through can be read */
    if (stet_buf_starved(ret_json))
        return stet_error_set(e, STET_BUSY, "out of memory while writing JSON; try again later");
    if (!stet_buf_ok(ret_json))
        return stet_error_set(e, STET_TOO_LARGE, "the JSON is larger than the %zu bytes allowed here",
                              ret_json->size_max);
    return STET_OK;
}
