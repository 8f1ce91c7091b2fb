/* The reader and the check.
 *
 * Both stand on item_read(), which takes one header (and the payload of a scalar, string or binary) and
 * refuses what does not lie within the bytes. A container's count is compared with the bytes left before
 * anybody loops over it: every item needs at least one byte, so a count can never be larger than the message
 * that holds it.
 *
 * The check walks with an explicit stack of open containers. Keys of open maps lie in one stack of slices: a
 * map of up to KEYS_PAIRWISE keys compares each new key with the ones before it, a larger one is sorted when
 * it closes, so that no choice of keys makes it quadratic (a hash table would need a secret seed for that).
 */
#include "proto/wire/mp.h"

#include <stdlib.h>

#include "proto/wire/json.h"

typedef struct item {
    stet_mp_type type;
    uint64_t n; /* UINT, BOOL; bits of INT and of DOUBLE; count of ARRAY and MAP; bytes of STR, BIN, EXT */
    const uint8_t *data; /* of STR, BIN, EXT */
} item;

static inline uint64_t big_endian(const uint8_t *at, size_t size) {
    uint64_t n = 0;
    for (size_t i = 0; i < size; i++)
        n = n << 8 | at[i];
    return n;
}

/* Bits of a float as the bits of the same double. */
static uint64_t widen_float(uint64_t bits) {
    uint32_t narrow = (uint32_t)bits;
    float f;
    memcpy(&f, &narrow, sizeof f);
    double d = (double)f;
    uint64_t wide;
    memcpy(&wide, &d, sizeof wide);
    return wide;
}

/* What the first bytes 0xc0 to 0xdf mean: bytes that follow as number (value, size or count), and extra bytes
 * (the type byte of ext) before the payload. fixext has its payload size in `fixed`. */
typedef struct form {
    uint8_t type;
    uint8_t number_size;
    uint8_t extra;
    uint8_t fixed;
} form;

static const form FORMS[32] = {
    [0x00] = {STET_MP_NIL, 0, 0, 0},  [0x01] = {STET_MP_NONE, 0, 0, 0},   [0x02] = {STET_MP_BOOL, 0, 0, 0},
    [0x03] = {STET_MP_BOOL, 0, 0, 1}, [0x04] = {STET_MP_BIN, 1, 0, 0},    [0x05] = {STET_MP_BIN, 2, 0, 0},
    [0x06] = {STET_MP_BIN, 4, 0, 0},  [0x07] = {STET_MP_EXT, 1, 1, 0},    [0x08] = {STET_MP_EXT, 2, 1, 0},
    [0x09] = {STET_MP_EXT, 4, 1, 0},  [0x0a] = {STET_MP_DOUBLE, 4, 0, 0}, [0x0b] = {STET_MP_DOUBLE, 8, 0, 0},
    [0x0c] = {STET_MP_UINT, 1, 0, 0}, [0x0d] = {STET_MP_UINT, 2, 0, 0},   [0x0e] = {STET_MP_UINT, 4, 0, 0},
    [0x0f] = {STET_MP_UINT, 8, 0, 0}, [0x10] = {STET_MP_INT, 1, 0, 0},    [0x11] = {STET_MP_INT, 2, 0, 0},
    [0x12] = {STET_MP_INT, 4, 0, 0},  [0x13] = {STET_MP_INT, 8, 0, 0},    [0x14] = {STET_MP_EXT, 0, 1, 1},
    [0x15] = {STET_MP_EXT, 0, 1, 2},  [0x16] = {STET_MP_EXT, 0, 1, 4},    [0x17] = {STET_MP_EXT, 0, 1, 8},
    [0x18] = {STET_MP_EXT, 0, 1, 16}, [0x19] = {STET_MP_STR, 1, 0, 0},    [0x1a] = {STET_MP_STR, 2, 0, 0},
    [0x1b] = {STET_MP_STR, 4, 0, 0},  [0x1c] = {STET_MP_ARRAY, 2, 0, 0},  [0x1d] = {STET_MP_ARRAY, 4, 0, 0},
    [0x1e] = {STET_MP_MAP, 2, 0, 0},  [0x1f] = {STET_MP_MAP, 4, 0, 0},
};

static bool item_sized(const uint8_t **at, const uint8_t *end, item *ret) {
    if (ret->n > (uint64_t)(end - *at))
        return false;
    ret->data = *at;
    *at += ret->n;
    return true;
}

static bool item_counted(const uint8_t *at, const uint8_t *end, const item *read) {
    uint64_t least = read->type == STET_MP_MAP ? read->n * 2 : read->n;
    return least <= (uint64_t)(end - at);
}

/* The forms with a first byte of 0xc0 to 0xdf. */
static bool item_read_long(const uint8_t **at, const uint8_t *end, item *ret) {
    const form f = FORMS[**at & 0x1f];
    const uint8_t *number = *at + 1;
    if ((size_t)(end - number) < (size_t)f.number_size + f.extra || f.type == STET_MP_NONE)
        return false;
    ret->type = f.type;
    ret->n = f.number_size ? big_endian(number, f.number_size) : f.fixed;
    ret->data = NULL;
    *at = number + f.number_size + f.extra;
    switch (ret->type) {
    case STET_MP_STR:
    case STET_MP_BIN:
    case STET_MP_EXT:
        return item_sized(at, end, ret);
    case STET_MP_ARRAY:
    case STET_MP_MAP:
        return item_counted(*at, end, ret);
    case STET_MP_INT: {
        unsigned unused_bits = 64U - 8U * f.number_size;
        int64_t value =
            (int64_t)(ret->n << unused_bits) >> unused_bits; /* the sign, from the size it came in */
        ret->n = (uint64_t)value;
        if (value >= 0)
            ret->type = STET_MP_UINT;
        return true;
    }
    case STET_MP_DOUBLE:
        if (f.number_size == 4)
            ret->n = widen_float(ret->n);
        return true;
    default:
        return true;
    }
}

/* Reads one header and moves past it, and past the payload of what is no container. False when it is
 * malformed or not all there; *at is then anywhere. */
static inline bool item_read(const uint8_t **at, const uint8_t *end, item *ret) {
    if (*at == end)
        return false;
    uint8_t lead = **at;
    if (lead >= 0xc0 && lead < 0xe0)
        return item_read_long(at, end, ret);
    ++*at;
    ret->data = NULL;
    if (lead < 0x80) {
        ret->type = STET_MP_UINT;
        ret->n = lead;
        return true;
    }
    if (lead >= 0xe0) {
        ret->type = STET_MP_INT;
        ret->n = (uint64_t)(int64_t)(int8_t)lead;
        return true;
    }
    if (lead >= 0xa0) {
        ret->type = STET_MP_STR;
        ret->n = lead & 0x1f;
        return item_sized(at, end, ret);
    }
    ret->type = lead < 0x90 ? STET_MP_MAP : STET_MP_ARRAY;
    ret->n = lead & 0x0f;
    return item_counted(*at, end, ret);
}

static inline stet_str item_str(const item *read) {
    return stet_str_from(read->data, (size_t)read->n);
}

/* ---- check ---- */

enum { DEPTH_HARD_MAX = 64, KEYS_PAIRWISE = 32, KEYS_INLINE = 128 };

typedef struct level {
    uint32_t left; /* items still to come; keys and values both count */
    bool map;
    uint32_t pairs;
    size_t keys_first; /* of this map in walk.keys */
} level;

typedef struct walk {
    const uint8_t *start, *at, *end;
    stet_mp_limits limits;
    uint64_t nodes;
    uint32_t depth;
    stet_str *keys; /* of the open maps; keys_inline until that is too small */
    size_t keys_count, keys_capacity;
    level levels[DEPTH_HARD_MAX];
    stet_str keys_inline[KEYS_INLINE];
} walk;

static void walk_done(walk *w) {
    if (w->keys != w->keys_inline)
        free(w->keys);
}

static stet_code walk_refuse(const walk *w, const uint8_t *at, stet_error *e, const char *reason) {
    return stet_error_set(e, STET_INVALID, "malformed MessagePack at byte %zu: %s", (size_t)(at - w->start),
                          reason);
}

/* Room for the keys of a map that opens, so that pushing one never fails. */
static bool walk_reserve_keys(walk *w, uint32_t count) {
    size_t need = w->keys_count + count;
    if (need <= w->keys_capacity)
        return true;
    size_t capacity = need > w->keys_capacity * 2 ? need : w->keys_capacity * 2;
    stet_str *grown = malloc(capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    memcpy(grown, w->keys, w->keys_count * sizeof *grown);
    walk_done(w);
    w->keys = grown;
    w->keys_capacity = capacity;
    return true;
}

static int key_compare(const void *left, const void *right) {
    const stet_str *a = left, *b = right;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return a->size ? memcmp(a->data, b->data, a->size) : 0;
}

static stet_code walk_open(walk *w, const item *read, const uint8_t *at, stet_error *e) {
    uint64_t items = read->type == STET_MP_MAP ? read->n * 2 : read->n;
    if (w->depth == w->limits.depth_max)
        return walk_refuse(w, at, e, "nested too deep");
    if (w->nodes + items > w->limits.nodes_max)
        return walk_refuse(w, at, e, "too many values");
    w->nodes += items;
    if (read->type == STET_MP_MAP && !walk_reserve_keys(w, (uint32_t)read->n))
        return stet_error_set(e, STET_BUSY, "out of memory while checking a message; try again later");
    w->levels[w->depth++] = (level){.left = (uint32_t)items,
                                    .map = read->type == STET_MP_MAP,
                                    .pairs = (uint32_t)read->n,
                                    .keys_first = w->keys_count};
    return STET_OK;
}

static stet_code walk_key(walk *w, const level *top, const item *read, const uint8_t *at, stet_error *e) {
    if (read->type != STET_MP_STR)
        return walk_refuse(w, at, e, "a map key is not a string");
    stet_str key = item_str(read);
    if (top->pairs <= KEYS_PAIRWISE)
        for (size_t i = top->keys_first; i < w->keys_count; i++)
            if (stet_str_equal(w->keys[i], key))
                return walk_refuse(w, at, e, "the same map key twice");
    w->keys[w->keys_count++] = key;
    return STET_OK;
}

/* Closes the containers that are complete. */
static stet_code walk_close(walk *w, stet_error *e) {
    while (w->depth > 0 && w->levels[w->depth - 1].left == 0) {
        const level *top = &w->levels[--w->depth];
        if (!top->map)
            continue;
        stet_str *keys = w->keys + top->keys_first;
        w->keys_count = top->keys_first;
        if (top->pairs <= KEYS_PAIRWISE)
            continue;
        qsort(keys, top->pairs, sizeof *keys, key_compare);
        for (uint32_t i = 1; i < top->pairs; i++)
            if (stet_str_equal(keys[i - 1], keys[i]))
                return walk_refuse(w, (const uint8_t *)keys[i].data, e, "the same map key twice");
    }
    return STET_OK;
}

static stet_code walk_one(walk *w, stet_error *e) {
    const uint8_t *at = w->at;
    level *top = w->depth ? &w->levels[w->depth - 1] : NULL;
    item read;
    if (!item_read(&w->at, w->end, &read))
        return walk_refuse(w, at, e,
                           at == w->end ? "it ends too early" : "a value is cut off or of no known form");
    if (read.type == STET_MP_EXT)
        return walk_refuse(w, at, e, "ext values are not used here");
    if (read.type == STET_MP_STR && !stet_utf8_valid(item_str(&read)))
        return walk_refuse(w, at, e, "a string is not UTF-8");
    if (top != NULL) {
        bool is_key = top->map && top->left % 2 == 0;
        top->left--;
        if (is_key)
            return walk_key(w, top, &read, at, e);
    }
    if (read.type == STET_MP_MAP || read.type == STET_MP_ARRAY)
        return walk_open(w, &read, at, e);
    return STET_OK;
}

stet_code stet_mp_check(stet_str bytes, stet_mp_limits limits, stet_error *e) {
    ASSERT(limits.depth_max <= DEPTH_HARD_MAX);
    CLEANUP(walk_done) walk w; /* not zeroed as a whole: it is large, and nothing unset is read */
    w.start = w.at = (const uint8_t *)bytes.data;
    w.end = bytes.size ? w.start + bytes.size : w.start;
    w.limits = limits;
    w.nodes = 1;
    w.depth = 0;
    w.keys = w.keys_inline;
    w.keys_count = 0;
    w.keys_capacity = KEYS_INLINE;
    if (limits.nodes_max == 0)
        return walk_refuse(&w, w.at, e, "too many values");
    do {
        stet_code rc = walk_one(&w, e);
        if (rc == STET_OK)
            rc = walk_close(&w, e);
        if (rc != STET_OK)
            return rc;
    } while (w.depth > 0);
    if (w.at != w.end)
        return walk_refuse(&w, w.at, e, "bytes follow the value");
    return STET_OK;
}

/* ---- read ---- */

stet_mp_reader stet_mp_reader_of(stet_str bytes) {
    const uint8_t *at = (const uint8_t *)bytes.data;
    return (stet_mp_reader){.at = at, .end = bytes.size ? at + bytes.size : at, .failed = false};
}

static void reader_fail(stet_mp_reader *r) {
    r->failed = true;
    r->at = r->end;
}

/* The next item when it is of the type; else fails. */
static inline bool reader_take(stet_mp_reader *r, stet_mp_type type, item *ret) {
    if (!r->failed && item_read(&r->at, r->end, ret) && ret->type == type)
        return true;
    reader_fail(r);
    return false;
}

stet_mp_type stet_mp_peek(const stet_mp_reader *r) {
    const uint8_t *at = r->at;
    item read;
    return !r->failed && item_read(&at, r->end, &read) ? read.type : STET_MP_NONE;
}

uint32_t stet_mp_read_map(stet_mp_reader *r) {
    item read;
    return reader_take(r, STET_MP_MAP, &read) ? (uint32_t)read.n : 0;
}

uint32_t stet_mp_read_array(stet_mp_reader *r) {
    item read;
    return reader_take(r, STET_MP_ARRAY, &read) ? (uint32_t)read.n : 0;
}

stet_str stet_mp_read_str(stet_mp_reader *r) {
    item read;
    return reader_take(r, STET_MP_STR, &read) ? item_str(&read) : (stet_str){NULL, 0};
}

stet_str stet_mp_read_bin(stet_mp_reader *r) {
    item read;
    return reader_take(r, STET_MP_BIN, &read) ? item_str(&read) : (stet_str){NULL, 0};
}

uint64_t stet_mp_read_uint(stet_mp_reader *r) {
    item read;
    return reader_take(r, STET_MP_UINT, &read) ? read.n : 0;
}

int64_t stet_mp_read_int(stet_mp_reader *r) {
    item read;
    if (!r->failed && item_read(&r->at, r->end, &read))
        if (read.type == STET_MP_INT || (read.type == STET_MP_UINT && read.n <= INT64_MAX))
            return (int64_t)read.n;
    reader_fail(r);
    return 0;
}

bool stet_mp_read_bool(stet_mp_reader *r) {
    item read;
    return reader_take(r, STET_MP_BOOL, &read) && read.n != 0;
}

double stet_mp_read_double(stet_mp_reader *r) {
    item read;
    double value = 0;
    if (!r->failed && item_read(&r->at, r->end, &read)) {
        if (read.type == STET_MP_DOUBLE) {
            memcpy(&value, &read.n, sizeof value);
            return value;
        }
        if (read.type == STET_MP_UINT)
            return (double)read.n;
        if (read.type == STET_MP_INT)
            return (double)(int64_t)read.n;
    }
    reader_fail(r);
    return 0;
}

void stet_mp_read_nil(stet_mp_reader *r) {
    item read;
    (void)reader_take(r, STET_MP_NIL, &read);
}

stet_str stet_mp_read_raw(stet_mp_reader *r) {
    const uint8_t *start = r->at;
    uint64_t left = 1;
    while (left > 0) {
        item read;
        if (r->failed || !item_read(&r->at, r->end, &read)) {
            reader_fail(r);
            return (stet_str){NULL, 0};
        }
        left--;
        if (read.type == STET_MP_ARRAY)
            left += read.n;
        else if (read.type == STET_MP_MAP)
            left += read.n * 2;
        if (left >
            (uint64_t)(r->end - r->at)) { /* cannot all be there: no need to walk until they are missed */
            reader_fail(r);
            return (stet_str){NULL, 0};
        }
    }
    return stet_str_from(start, (size_t)(r->at - start));
}

bool stet_mp_find(stet_str map, const char *key, stet_mp_reader *ret_value) {
    stet_mp_reader r = stet_mp_reader_of(map);
    stet_str wanted = stet_str_of(key);
    if (stet_mp_peek(&r) != STET_MP_MAP)
        return false;
    for (uint32_t pairs = stet_mp_read_map(&r); pairs > 0 && !r.failed; pairs--) {
        stet_str name = {NULL, 0};
        bool is_name = stet_mp_peek(&r) == STET_MP_STR;
        if (is_name)
            name = stet_mp_read_str(&r);
        else
            (void)stet_mp_read_raw(&r);
        if (is_name && stet_str_equal(name, wanted)) {
            *ret_value = r;
            return true;
        }
        (void)stet_mp_read_raw(&r);
    }
    return false;
}

stet_str stet_mp_get_str(stet_str map, const char *key, stet_str fallback) {
    stet_mp_reader r;
    if (!stet_mp_find(map, key, &r))
        return fallback;
    stet_str value = stet_mp_read_str(&r);
    return r.failed ? fallback : value;
}

uint64_t stet_mp_get_uint(stet_str map, const char *key, uint64_t fallback) {
    stet_mp_reader r;
    if (!stet_mp_find(map, key, &r))
        return fallback;
    uint64_t value = stet_mp_read_uint(&r);
    return r.failed ? fallback : value;
}

int64_t stet_mp_get_int(stet_str map, const char *key, int64_t fallback) {
    stet_mp_reader r;
    if (!stet_mp_find(map, key, &r))
        return fallback;
    int64_t value = stet_mp_read_int(&r);
    return r.failed ? fallback : value;
}

bool stet_mp_get_bool(stet_str map, const char *key, bool fallback) {
    stet_mp_reader r;
    if (!stet_mp_find(map, key, &r))
        return fallback;
    bool value = stet_mp_read_bool(&r);
    return r.failed ? fallback : value;
}

double stet_mp_get_double(stet_str map, const char *key, double fallback) {
    stet_mp_reader r;
    if (!stet_mp_find(map, key, &r))
        return fallback;
    double value = stet_mp_read_double(&r);
    return r.failed ? fallback : value;
}

stet_str stet_mp_get_raw(stet_str map, const char *key) {
    stet_mp_reader r;
    return stet_mp_find(map, key, &r) ? stet_mp_read_raw(&r) : (stet_str){NULL, 0};
}
