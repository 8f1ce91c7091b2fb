/* JSON text to MessagePack.
 *
 * One pass over the text with an explicit stack of open containers, writing as it goes. The text is checked
 * as UTF-8 first, so the parser itself meets only well-formed characters. Keys of the open maps are
 * remembered as places in the output (which stay where they are while their map is open): small maps compare
 * a new key with those before it, larger ones are sorted when they close. Integers are exact or refused;
 * everything with a point or an exponent is a double, so that writing and reading again gives the same type.
 */
#include "proto/wire/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH_HARD_MAX = 64, KEYS_PAIRWISE = 32, NUMBER_SIZE_MAX = 512 };

typedef struct json_key {
    size_t at, size; /* in the output, without header */
    size_t source;   /* in the text, for the error */
} json_key;

typedef struct json_level {
    size_t mark; /* of stet_mp_open */
    uint32_t count;
    bool map;
    size_t keys_first;
} json_level;

typedef struct json_parser {
    stet_str text;
    size_t at;
    stet_mp_limits limits;
    uint64_t nodes;
    stet_buf *out;
    stet_buf scratch; /* of a string with escapes */
    json_key *keys;
    size_t keys_count, keys_capacity;
    uint32_t depth;
    json_level levels[DEPTH_HARD_MAX];
    stet_error *e;
} json_parser;

static void parser_done(json_parser *p) {
    free(p->keys);
    stet_buf_done(&p->scratch);
}

/* Line and column (in characters) are counted only when something is wrong. */
static stet_code refuse_at(const json_parser *p, size_t at, const char *reason) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < p->text.size; i++) {
        if (p->text.data[i] == '\n') {
            line++;
            column = 1;
        } else if (((uint8_t)p->text.data[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    return stet_error_set(p->e, STET_INVALID, "JSON line %zu column %zu: %s", line, column, reason);
}

static stet_code refuse(const json_parser *p, const char *reason) {
    return refuse_at(p, p->at, p->at >= p->text.size ? "the text ends too early" : reason);
}

/* The character at the cursor; 0 at the end (a NUL in the text is refused by whoever meets it). */
static char look(const json_parser *p) {
    if (p->at < p->text.size)
        return p->text.data[p->at];
    return '\0';
}

static void skip_space(json_parser *p) {
    while (p->at < p->text.size) {
        char c = p->text.data[p->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return;
        p->at++;
    }
}

/* ---- strings ---- */

static bool read_hex4(json_parser *p, uint32_t *ret) {
    uint32_t n = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        char c = look(p);
        if (c >= '0' && c <= '9')
            n = n << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            n = n << 4 | (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            n = n << 4 | (uint32_t)(c - 'A' + 10);
        else
            return false;
    }
    *ret = n;
    return true;
}

static void append_character(stet_buf *b, uint32_t c) {
    if (c < 0x80) {
        stet_buf_append_byte(b, (uint8_t)c);
        return;
    }
    if (c < 0x800) {
        stet_buf_append_byte(b, (uint8_t)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            stet_buf_append_byte(b, (uint8_t)(0xe0 | c >> 12));
        } else {
            stet_buf_append_byte(b, (uint8_t)(0xf0 | c >> 18));
            stet_buf_append_byte(b, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        }
        stet_buf_append_byte(b, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
    }
    stet_buf_append_byte(b, (uint8_t)(0x80 | (c & 0x3f)));
}

/* After "\u". */
static stet_code read_unicode_escape(json_parser *p) {
    size_t start = p->at;
    uint32_t c, low = 0;
    if (!read_hex4(p, &c))
        return refuse(p, "\\u needs four hexadecimal digits");
    if (c >= 0xd800 && c <= 0xdfff) {
        bool pair = c < 0xdc00 && p->text.size - p->at >= 2 && memcmp(p->text.data + p->at, "\\u", 2) == 0;
        if (pair) {
            p->at += 2;
            if (!read_hex4(p, &low))
                return refuse(p, "\\u needs four hexadecimal digits");
        }
        if (!pair || low < 0xdc00 || low > 0xdfff)
            return refuse_at(p, start, "half of a surrogate pair stands alone");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    append_character(&p->scratch, c);
    return STET_OK;
}

static stet_code read_escape(json_parser *p) {
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    p->at++; /* the backslash */
    char c = look(p);
    if (c == 'u') {
        p->at++;
        return read_unicode_escape(p);
    }
    const char *found = c ? strchr(letters, c) : NULL;
    if (found == NULL)
        return refuse(p, "no such escape; write \\\\ for a backslash");
    stet_buf_append_byte(&p->scratch, (uint8_t)values[found - letters]);
    p->at++;
    return STET_OK;
}

/* At the opening quote. *ret lies in the text, or in scratch when there were escapes. */
static stet_code read_string(json_parser *p, stet_str *ret) {
    size_t start = ++p->at;
    bool escaped = false;
    stet_buf_clear(&p->scratch);
    for (size_t run = start;;) {
        while (p->at < p->text.size && p->text.data[p->at] != '"' && p->text.data[p->at] != '\\' &&
               (uint8_t)p->text.data[p->at] >= 0x20)
            p->at++;
        char c = look(p);
        if (c != '"' && c != '\\')
            return refuse(p, "a control character in a string; escape it");
        if (c == '\\' || escaped)
            stet_buf_append(&p->scratch, p->text.data + run, p->at - run);
        if (c == '"')
            break;
        escaped = true;
        stet_code rc = read_escape(p);
        if (rc != STET_OK)
            return rc;
        run = p->at;
    }
    *ret = escaped ? stet_buf_str(&p->scratch) : stet_str_from(p->text.data + start, p->at - start);
    p->at++;
    if (stet_buf_ok(&p->scratch))
        return STET_OK;
    return stet_error_set(p->e, STET_BUSY, "out of memory while reading JSON; try again later");
}

/* ---- numbers ---- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static size_t skip_digits(json_parser *p) {
    size_t start = p->at;
    while (is_digit(look(p)))
        p->at++;
    return p->at - start;
}

static stet_code write_integer(json_parser *p, size_t start) {
    bool negative = p->text.data[start] == '-';
    uint64_t n = 0;
    for (size_t i = start + negative; i < p->at; i++) {
        uint64_t digit = (uint64_t)(p->text.data[i] - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return refuse_at(p, start, "the integer does not fit in 64 bits");
        n = n * 10 + digit;
    }
    if (!negative)
        stet_mp_uint(p->out, n);
    else if (n <= (uint64_t)INT64_MAX + 1)
        stet_mp_int(p->out, (int64_t)(0 - n));
    else
        return refuse_at(p, start, "the integer does not fit in 64 bits");
    return STET_OK;
}

static stet_code write_double(json_parser *p, size_t start) {
    char number[NUMBER_SIZE_MAX];
    size_t size = p->at - start;
    if (size >= sizeof number)
        return refuse_at(p, start, "the number has too many digits");
    memcpy(number, p->text.data + start, size);
    number[size] = 0;
    /* The decimal point must not depend on the program's locale; for "C" glibc allocates nothing here. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0)
        return stet_error_set(p->e, STET_BUSY, "out of memory while reading JSON; try again later");
    double value = strtod_l(number, NULL, plain);
    freelocale(plain);
    if (!isfinite(value))
        return refuse_at(p, start, "the number is too large for a double");
    stet_mp_double(p->out, value);
    return STET_OK;
}

static stet_code read_number(json_parser *p) {
    size_t start = p->at;
    bool integer = true;
    if (look(p) == '-')
        p->at++;
    size_t first = p->at;
    size_t digits = skip_digits(p);
    if (digits == 0)
        return refuse(p, "a value is expected");
    if (digits > 1 && p->text.data[first] == '0')
        return refuse_at(p, start, "a number must not start with 0");
    if (look(p) == '.') {
        integer = false;
        p->at++;
        if (skip_digits(p) == 0)
            return refuse(p, "digits are expected after the point");
    }
    if (look(p) == 'e' || look(p) == 'E') {
        integer = false;
        p->at++;
        if (look(p) == '+' || look(p) == '-')
            p->at++;
        if (skip_digits(p) == 0)
            return refuse(p, "digits are expected in the exponent");
    }
    return integer ? write_integer(p, start) : write_double(p, start);
}

/* ---- structure ---- */

static stet_code count_node(json_parser *p) {
    if (++p->nodes > p->limits.nodes_max)
        return refuse(p, "too many values");
    return STET_OK;
}

static stet_code open_container(json_parser *p, bool map) {
    if (p->depth == p->limits.depth_max)
        return refuse(p, "nested too deep");
    p->levels[p->depth++] =
        (json_level){.mark = stet_mp_open(p->out), .count = 0, .map = map, .keys_first = p->keys_count};
    p->at++;
    return STET_OK;
}

static stet_str key_text(const json_parser *p, const json_key *k) {
    return stet_str_from(p->out->data + k->at, k->size);
}

static int key_compare(const void *left, const void *right, void *context) {
    const json_parser *p = context;
    stet_str a = key_text(p, left), b = key_text(p, right);
    if (a.size != b.size)
        return a.size < b.size ? -1 : 1;
    return a.size ? memcmp(a.data, b.data, a.size) : 0;
}

static stet_code close_container(json_parser *p) {
    json_level *top = &p->levels[--p->depth];
    p->at++;
    if (!top->map) {
        stet_mp_close_array(p->out, top->mark, top->count);
        return STET_OK;
    }
    size_t count = p->keys_count - top->keys_first;
    p->keys_count = top->keys_first;
    if (count > KEYS_PAIRWISE && stet_buf_ok(p->out)) {
        json_key *keys = p->keys + top->keys_first;
        qsort_r(keys, count, sizeof *keys, key_compare, p);
        for (size_t i = 1; i < count; i++)
            if (key_compare(&keys[i - 1], &keys[i], p) == 0)
                return refuse_at(p, keys[i].source > keys[i - 1].source ? keys[i].source : keys[i - 1].source,
                                 "the same key twice");
    }
    stet_mp_close_map(p->out, top->mark, top->count);
    return STET_OK;
}

static stet_code remember_key(json_parser *p, stet_str key, size_t source) {
    if (!stet_buf_ok(p->out))
        return STET_OK; /* reported at the end */
    if (p->keys_count == p->keys_capacity) {
        size_t capacity = p->keys_capacity ? p->keys_capacity * 2 : 64;
        json_key *grown = reallocarray(p->keys, capacity, sizeof *grown);
        if (grown == NULL)
            return stet_error_set(p->e, STET_BUSY, "out of memory while reading JSON; try again later");
        p->keys = grown;
        p->keys_capacity = capacity;
    }
    const json_level *top = &p->levels[p->depth - 1];
    if (p->keys_count - top->keys_first < KEYS_PAIRWISE)
        for (size_t i = top->keys_first; i < p->keys_count; i++)
            if (stet_str_equal(key_text(p, &p->keys[i]), key))
                return refuse_at(p, source, "the same key twice");
    p->keys[p->keys_count++] = (json_key){.at = p->out->size - key.size, .size = key.size, .source = source};
    return STET_OK;
}

/* "key" : */
static stet_code read_key(json_parser *p) {
    size_t source = p->at;
    stet_str key = {NULL, 0};
    if (look(p) != '"')
        return refuse(p, "a key in double quotes is expected");
    stet_code rc = count_node(p);
    if (rc == STET_OK)
        rc = read_string(p, &key);
    if (rc != STET_OK)
        return rc;
    stet_mp_str(p->out, key);
    rc = remember_key(p, key, source);
    if (rc != STET_OK)
        return rc;
    skip_space(p);
    if (look(p) != ':')
        return refuse(p, "a colon is expected");
    p->at++;
    skip_space(p);
    return STET_OK;
}

static bool take_word(json_parser *p, const char *word) {
    size_t size = strlen(word);
    if (p->text.size - p->at < size || memcmp(p->text.data + p->at, word, size) != 0)
        return false;
    p->at += size;
    return true;
}

static stet_code read_scalar(json_parser *p) {
    stet_str text = {NULL, 0};
    stet_code rc;
    switch (look(p)) {
    case '"':
        rc = read_string(p, &text);
        if (rc == STET_OK)
            stet_mp_str(p->out, text);
        return rc;
    case 't':
        if (!take_word(p, "true"))
            break;
        stet_mp_bool(p->out, true);
        return STET_OK;
    case 'f':
        if (!take_word(p, "false"))
            break;
        stet_mp_bool(p->out, false);
        return STET_OK;
    case 'n':
        if (!take_word(p, "null"))
            break;
        stet_mp_nil(p->out);
        return STET_OK;
    default:
        return read_number(p);
    }
    return refuse_at(p, p->at, "a value is expected");
}

/* One value, or the opening of one. *ret_opened: a container now waits for its first item. */
static stet_code read_value(json_parser *p, bool *ret_opened) {
    char c = look(p);
    stet_code rc = count_node(p);
    if (rc != STET_OK)
        return rc;
    *ret_opened = c == '{' || c == '[';
    return *ret_opened ? open_container(p, c == '{') : read_scalar(p);
}

/* Between values: closes what is complete, or stands before the next value. */
static stet_code go_on(json_parser *p, bool opened) {
    while (p->depth > 0) {
        json_level *top = &p->levels[p->depth - 1];
        skip_space(p);
        if (look(p) == (top->map ? '}' : ']')) {
            stet_code rc = close_container(p);
            if (rc != STET_OK)
                return rc;
            opened = false;
            continue;
        }
        if (!opened) {
            if (look(p) != ',')
                return refuse(p, top->map ? "a comma or } is expected" : "a comma or ] is expected");
            p->at++;
            skip_space(p);
        }
        top->count++;
        return top->map ? read_key(p) : STET_OK;
    }
    return STET_OK;
}

static stet_code parse(json_parser *p) {
    size_t good = stet_utf8_prefix(p->text);
    if (good != p->text.size)
        return refuse_at(p, good, "the text is not UTF-8");
    skip_space(p);
    do {
        bool opened = false;
        stet_code rc = read_value(p, &opened);
        if (rc == STET_OK)
            rc = go_on(p, opened);
        if (rc != STET_OK)
            return rc;
    } while (p->depth > 0);
    skip_space(p);
    if (p->at != p->text.size)
        return refuse(p, "text follows the value");
    if (stet_buf_starved(p->out))
        return stet_error_set(p->e, STET_BUSY, "out of memory while reading JSON; try again later");
    if (!stet_buf_ok(p->out))
        return stet_error_set(p->e, STET_TOO_LARGE, "the JSON is larger than the %zu bytes allowed here",
                              p->out->size_max);
    return STET_OK;
}

stet_code stet_json_to_mp(stet_str json, stet_mp_limits limits, stet_buf *ret_mp, stet_error *e) {
    ASSERT(limits.depth_max <= DEPTH_HARD_MAX);
    CLEANUP(parser_done) json_parser p;
    p.text = json;
    p.at = 0;
    p.limits = limits;
    p.nodes = 0;
    p.out = ret_mp;
    p.scratch = (stet_buf)STET_BUF(json.size);
    p.keys = NULL;
    p.keys_count = p.keys_capacity = 0;
    p.depth = 0;
    p.e = e;
    size_t size_before = ret_mp->size;
    stet_code rc = parse(&p);
    if (rc != STET_OK && ret_mp->size > size_before)
        stet_buf_truncate(ret_mp, size_before);
    return rc;
}
