/* Encoding and decoding of envelopes, routes and error bodies.
 *
 * An envelope is decoded in one pass without stet_mp_check(): every known key has one type and one bound, and
 * a bit per key catches repeats. Encoders write the keys in the order of KEYS, so the key expected next is
 * nearly always the one that comes. Only a frame with keys that we do not know is checked as a whole, because
 * then there are values in it that nobody looks at. */
#include "proto/wire/envelope.h"

#include "proto/wire/json.h"
#include "proto/wire/mp.h"

enum { SOFTWARE_SIZE_MAX = 64, ROLE_SIZE_MAX = 16 };

/* X(C name, wire name with its fixstr header): in the order of the wire. */
#define KEYS(X)                                                                                              \
    X(V, "\xa1v")                                                                                            \
    X(KIND, "\xa4kind")                                                                                      \
    X(ID, "\xa2id")                                                                                          \
    X(COMMAND, "\xa7"                                                                                        \
               "command")                                                                                    \
    X(KEY, "\xa3key")                                                                                        \
    X(TIMEOUT, "\xa9timeoutMs")                                                                              \
    X(SERVICE, "\xa7service")                                                                                \
    X(PARTITION, "\xa9partition")                                                                            \
    X(EPOCH, "\xa5"                                                                                          \
             "epoch")                                                                                        \
    X(INSTANCE, "\xa8instance")                                                                              \
    X(SEQUENCE, "\xa8sequence")                                                                              \
    X(CREDIT, "\xa6"                                                                                         \
              "credit")                                                                                      \
    X(INTERVAL, "\xaaintervalMs")                                                                            \
    X(SOFTWARE, "\xa8software")

typedef enum wire_key {
#define X(name, text) KEY_##name,
    KEYS(X)
#undef X
        KEYS_COUNT
} wire_key;

typedef struct key_text {
    const char *packed; /* with its header byte */
    uint8_t packed_size;
} key_text;

static const key_text KEY_TEXTS[KEYS_COUNT] = {
#define X(name, text) [KEY_##name] = {text, sizeof(text) - 1},
    KEYS(X)
#undef X
};

#define BIT(name) (1U << KEY_##name)

static const uint32_t REQUIRED[STET_KINDS_COUNT] = {
    [STET_KIND_REQUEST] = BIT(ID) | BIT(COMMAND),
    [STET_KIND_REPLY] = BIT(ID),
    [STET_KIND_ERROR] = 0, /* no id when it answers a ready or what had no readable id */
    [STET_KIND_SEND] = BIT(ID) | BIT(COMMAND) | BIT(SERVICE) | BIT(EPOCH) | BIT(SEQUENCE),
    [STET_KIND_ACK] = BIT(ID) | BIT(COMMAND) | BIT(SERVICE),
    [STET_KIND_READY] = BIT(SERVICE) | BIT(EPOCH) | BIT(INSTANCE) | BIT(CREDIT),
    [STET_KIND_WELCOME] = BIT(SERVICE) | BIT(EPOCH) | BIT(INSTANCE) | BIT(INTERVAL),
    [STET_KIND_HEARTBEAT] = BIT(INSTANCE),
    [STET_KIND_REGISTER] = 0,
    [STET_KIND_LEAVE] = BIT(SERVICE),
};

static const char *const KIND_NAMES[STET_KINDS_COUNT] = {[STET_KIND_NONE] = "none",
#define X(name, wire, help) [STET_KIND_##name] = wire,
                                                         STET_KINDS(X)
#undef X
};

const char *stet_kind_name(stet_kind kind) {
    ASSERT((unsigned)kind < STET_KINDS_COUNT);
    return KIND_NAMES[kind];
}

static stet_kind kind_of(stet_str name) {
    for (int kind = STET_KIND_NONE + 1; kind < STET_KINDS_COUNT; kind++)
        if (stet_str_is(name, KIND_NAMES[kind]))
            return (stet_kind)kind;
    return STET_KIND_NONE;
}

/* ---- decode ---- */

static stet_str key_name(wire_key k) {
    return (stet_str){KEY_TEXTS[k].packed + 1, (size_t)KEY_TEXTS[k].packed_size - 1};
}

static wire_key key_of(stet_str name, unsigned expected) {
    for (unsigned i = 0; i < KEYS_COUNT; i++) {
        wire_key candidate = (wire_key)((expected + i) % KEYS_COUNT);
        if (stet_str_equal(key_name(candidate), name))
            return candidate;
    }
    return KEYS_COUNT;
}

bool stet_name_valid(stet_str text, size_t size_max) {
    if (text.size == 0 || text.size > size_max)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '-' || c == '_'))
            return false;
    }
    return true;
}

static bool is_text(stet_str text, size_t size_max) {
    return text.size <= size_max && stet_utf8_valid(text);
}

static bool read_name(stet_mp_reader *r, size_t size_max, stet_str *ret) {
    *ret = stet_mp_read_str(r);
    return stet_name_valid(*ret, size_max);
}

static bool read_text(stet_mp_reader *r, size_t size_max, stet_str *ret) {
    *ret = stet_mp_read_str(r);
    return is_text(*ret, size_max);
}

static bool read_id(stet_mp_reader *r, stet_id *ret) {
    return stet_id_from_bytes(stet_mp_read_bin(r), ret);
}

static bool read_u32(stet_mp_reader *r, uint32_t max, uint32_t *ret) {
    uint64_t n = stet_mp_read_uint(r);
    *ret = (uint32_t)n;
    return n <= max;
}

static bool read_u63(stet_mp_reader *r, uint64_t *ret) {
    *ret = stet_mp_read_uint(r);
    return *ret <= INT64_MAX;
}

/* True when the value is of the type and within the bounds of its key. */
static bool read_value(stet_mp_reader *r, wire_key k, stet_envelope *ret) {
    switch (k) {
    case KEY_V:
        return stet_mp_read_uint(r) == STET_VERSION_WIRE;
    case KEY_KIND:
        ret->kind = kind_of(stet_mp_read_str(r));
        return ret->kind != STET_KIND_NONE;
    case KEY_ID:
        return read_id(r, &ret->id);
    case KEY_COMMAND:
        return read_name(r, STET_COMMAND_SIZE_MAX, &ret->command);
    case KEY_KEY:
        return read_text(r, STET_ROUTING_KEY_SIZE_MAX, &ret->key);
    case KEY_TIMEOUT:
        return read_u32(r, UINT32_MAX, &ret->timeout_ms);
    case KEY_SERVICE:
        return read_name(r, STET_SERVICE_SIZE_MAX, &ret->service);
    case KEY_PARTITION:
        return read_u32(r, STET_SLOTS - 1, &ret->partition);
    case KEY_EPOCH:
        return read_u63(r, &ret->epoch);
    case KEY_INSTANCE:
        return read_id(r, &ret->instance);
    case KEY_SEQUENCE:
        return read_u63(r, &ret->sequence);
    case KEY_CREDIT:
        return read_u32(r, UINT32_MAX, &ret->credit);
    case KEY_INTERVAL:
        return read_u32(r, UINT32_MAX, &ret->interval_ms);
    case KEY_SOFTWARE:
        return read_text(r, SOFTWARE_SIZE_MAX, &ret->software);
    case KEYS_COUNT:
        break;
    }
    return false;
}

/* What is there and not zero, as bits: zero and empty mean absent. */
static uint32_t present(const stet_envelope *v) {
    return (stet_id_is_zero(v->id) ? 0 : BIT(ID)) | (v->command.size ? BIT(COMMAND) : 0) |
           (v->service.size ? BIT(SERVICE) : 0) | (v->epoch ? BIT(EPOCH) : 0) |
           (stet_id_is_zero(v->instance) ? 0 : BIT(INSTANCE)) | (v->sequence ? BIT(SEQUENCE) : 0) |
           (v->credit ? BIT(CREDIT) : 0) | (v->interval_ms ? BIT(INTERVAL) : 0);
}

static stet_code refuse_key(wire_key k, stet_error *e, const char *reason) {
    char name[16] = "";
    stet_str text = key_name(k);
    ASSERT(text.size < sizeof name);
    memcpy(name, text.data, text.size);
    return stet_error_field(e, STET_INVALID, name, "envelope: %s %s; see docs/protocol.md", name, reason);
}

static stet_code check_required(const stet_envelope *envelope, uint32_t seen, stet_error *e) {
    if (!(seen & BIT(V)))
        return refuse_key(KEY_V, e, "is missing");
    if (!(seen & BIT(KIND)))
        return refuse_key(KEY_KIND, e, "is missing");
    uint32_t missing = REQUIRED[envelope->kind] & ~present(envelope);
    for (unsigned k = 0; k < KEYS_COUNT; k++)
        if (missing & 1U << k)
            return refuse_key((wire_key)k, e, "is missing or zero");
    return STET_OK;
}

static stet_code decode(stet_str frame, stet_envelope *ret, stet_error *e) {
    if (frame.size > STET_ENVELOPE_BYTES_MAX)
        return stet_error_set(e, STET_INVALID, "the envelope has %zu bytes, %d at most are allowed",
                              frame.size, STET_ENVELOPE_BYTES_MAX);
    stet_mp_reader r = stet_mp_reader_of(frame);
    uint32_t pairs = stet_mp_read_map(&r);
    uint32_t seen = 0;
    bool strangers = false;
    for (unsigned expected = 0; pairs > 0 && !r.failed; pairs--) {
        wire_key k = key_of(stet_mp_read_str(&r), expected);
        if (k == KEYS_COUNT) {
            strangers = true;
            (void)stet_mp_read_raw(&r);
            continue;
        }
        if (seen & 1U << k)
            return refuse_key(k, e, "stands there twice");
        seen |= 1U << k;
        expected = (unsigned)k + 1;
        if (!read_value(&r, k, ret) || r.failed)
            return k == KEY_V ? refuse_key(k, e, "is not 1, the version spoken here")
                              : refuse_key(k, e, "has a wrong type or is out of bounds");
    }
    if (r.failed || r.at != r.end)
        return stet_error_set(e, STET_INVALID,
                              "the envelope is not one MessagePack map; see docs/protocol.md");
    if (strangers) {
        stet_code rc = stet_mp_check(frame, STET_MP_LIMITS_ENVELOPE, e);
        if (rc != STET_OK)
            return rc;
    }
    return check_required(ret, seen, e);
}

stet_code stet_envelope_decode(stet_str frame, stet_envelope *ret, stet_error *e) {
    stet_envelope envelope = {.kind = STET_KIND_NONE};
    stet_code rc = decode(frame, &envelope, e);
    if (rc != STET_OK) { /* the id alone, so that the sender learns what was refused */
        stet_mp_reader value;
        envelope = (stet_envelope){.kind = STET_KIND_NONE};
        if (frame.size <= STET_ENVELOPE_BYTES_MAX && stet_mp_find(frame, "id", &value))
            (void)read_id(&value, &envelope.id);
    }
    *ret = envelope;
    return rc;
}

/* ---- encode ---- */

static void put_key(stet_buf *b, wire_key k) {
    stet_buf_append(b, KEY_TEXTS[k].packed, KEY_TEXTS[k].packed_size);
}

static uint32_t put_str(stet_buf *b, wire_key k, stet_str value) {
    if (value.size == 0)
        return 0;
    put_key(b, k);
    stet_mp_str(b, value);
    return 1;
}

static uint32_t put_uint(stet_buf *b, wire_key k, uint64_t value) {
    if (value == 0)
        return 0;
    put_key(b, k);
    stet_mp_uint(b, value);
    return 1;
}

static uint32_t put_id(stet_buf *b, wire_key k, stet_id value) {
    if (stet_id_is_zero(value))
        return 0;
    put_key(b, k);
    stet_mp_bin(b, value.bytes, STET_ID_BYTES);
    return 1;
}

void stet_envelope_encode(const stet_envelope *v, stet_buf *b) {
    ASSERT(v->kind > STET_KIND_NONE && v->kind < STET_KINDS_COUNT);
    ASSERT(v->command.size == 0 || stet_name_valid(v->command, STET_COMMAND_SIZE_MAX));
    ASSERT(v->service.size == 0 || stet_name_valid(v->service, STET_SERVICE_SIZE_MAX));
    ASSERT(v->key.size <= STET_ROUTING_KEY_SIZE_MAX && v->software.size <= SOFTWARE_SIZE_MAX);
    ASSERT(v->partition < STET_SLOTS && v->epoch <= INT64_MAX && v->sequence <= INT64_MAX);
    size_t mark = stet_mp_open(b); /* never more than 15 pairs, so closing moves nothing */
    put_key(b, KEY_V);
    stet_mp_uint(b, STET_VERSION_WIRE);
    put_key(b, KEY_KIND);
    stet_mp_cstr(b, KIND_NAMES[v->kind]);
    uint32_t pairs = 2;
    pairs += put_id(b, KEY_ID, v->id);
    pairs += put_str(b, KEY_COMMAND, v->command);
    pairs += put_str(b, KEY_KEY, v->key);
    pairs += put_uint(b, KEY_TIMEOUT, v->timeout_ms);
    pairs += put_str(b, KEY_SERVICE, v->service);
    pairs += put_uint(b, KEY_PARTITION, v->partition);
    pairs += put_uint(b, KEY_EPOCH, v->epoch);
    pairs += put_id(b, KEY_INSTANCE, v->instance);
    pairs += put_uint(b, KEY_SEQUENCE, v->sequence);
    pairs += put_uint(b, KEY_CREDIT, v->credit);
    pairs += put_uint(b, KEY_INTERVAL, v->interval_ms);
    pairs += put_str(b, KEY_SOFTWARE, v->software);
    stet_mp_close_map(b, mark, pairs);
}

stet_str stet_command_service(stet_str command) {
    const char *dot = command.size ? memchr(command.data, '.', command.size) : NULL;
    return dot ? stet_str_from(command.data, (size_t)(dot - command.data)) : (stet_str){NULL, 0};
}

uint32_t stet_slot_of(stet_str key) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ (uint8_t)key.data[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(hash % STET_SLOTS);
}

/* ---- route ---- */

stet_code stet_route_decode(stet_str frame, stet_route *ret, stet_error *e) {
    stet_mp_reader r = stet_mp_reader_of(frame);
    stet_route route = {0};
    bool good = stet_mp_read_array(&r) == 5;
    route.ticket = stet_mp_read_uint(&r);
    good &= read_text(&r, ROLE_SIZE_MAX, &route.role);
    good &= read_u32(&r, STET_SLOTS - 1, &route.slot);
    good &= read_u32(&r, STET_SLOTS - 1, &route.partition);
    good &= read_u32(&r, UINT32_MAX, &route.remaining_ms);
    if (!good || r.failed || r.at != r.end)
        return stet_error_set(e, STET_INVALID,
                              "the route frame is not [ticket, role, slot, partition, remainingMs]");
    *ret = route;
    return STET_OK;
}

void stet_route_encode(const stet_route *route, stet_buf *b) {
    ASSERT(route->role.size <= ROLE_SIZE_MAX);
    ASSERT(route->slot < STET_SLOTS && route->partition < STET_SLOTS);
    stet_mp_array(b, 5);
    stet_mp_uint(b, route->ticket);
    stet_mp_str(b, route->role);
    stet_mp_uint(b, route->slot);
    stet_mp_uint(b, route->partition);
    stet_mp_uint(b, route->remaining_ms);
}

/* ---- error body ---- */

void stet_error_encode(const stet_error *error, stet_buf *b) {
    ASSERT(error->code != STET_OK);
    size_t mark = stet_mp_open(b);
    uint32_t pairs = 2;
    stet_mp_put_cstr(b, "code", stet_code_name(error->code));
    stet_mp_put_cstr(b, "message", error->message);
    if (error->field[0]) {
        stet_mp_put_cstr(b, "field", error->field);
        pairs++;
    }
    if (error->retry_after_ms) {
        stet_mp_put_uint(b, "retryAfterMs", error->retry_after_ms);
        pairs++;
    }
    if (error->details_size) {
        stet_mp_put_raw(b, "details", stet_str_from(error->details, error->details_size));
        pairs++;
    }
    stet_mp_close_map(b, mark, pairs);
}

/* Up to a NUL, too: nothing of what stands behind it would be written again. */
static void copy_text(char *to, size_t to_size, stet_str from) {
    from.size = strnlen(from.data, from.size);
    size_t size = stet_utf8_cut(from, to_size - 1);
    if (size)
        memcpy(to, from.data, size);
    to[size] = 0;
}

void stet_error_decode(stet_str body, stet_error *ret) {
    static const stet_str none = {"", 0};
    memset(ret, 0, sizeof *ret);
    ret->code = STET_INTERNAL;
    stet_str code = none;
    if (stet_mp_check(body, STET_MP_LIMITS_BODY, NULL) == STET_OK)
        code = stet_mp_get_str(body, "code", none);
    if (code.size == 0) {
        copy_text(ret->message, sizeof ret->message,
                  STET_STR("the error that came back could not be read; look at the log of the actor"));
        return;
    }
    ret->code = stet_code_from_name(code);
    if (ret->code == STET_OK) /* "ok" is no error */
        ret->code = STET_INTERNAL;
    copy_text(ret->message, sizeof ret->message, stet_mp_get_str(body, "message", none));
    copy_text(ret->field, sizeof ret->field, stet_mp_get_str(body, "field", none));
    uint64_t wait_ms = stet_mp_get_uint(body, "retryAfterMs", 0);
    ret->retry_after_ms = wait_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)wait_ms;
    stet_str details = stet_mp_get_raw(body, "details");
    stet_mp_reader r = stet_mp_reader_of(details);
    if (details.size <= sizeof ret->details && stet_mp_peek(&r) == STET_MP_MAP) {
        memcpy(ret->details, details.data, details.size);
        ret->details_size = details.size;
    }
}
