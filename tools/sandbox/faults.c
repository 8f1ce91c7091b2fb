#include "tools/sandbox/faults.h"

#include <pthread.h>
#include <stdlib.h>

#include "proto/wire/json.h"
#include "proto/wire/mp.h"

enum { TEXT_BYTES_MAX = 1024 * 1024, DELAY_MS_MAX = 24 * 3600 * 1000 };

struct sandbox_faults {
    pthread_mutex_t lock;
    sandbox_fault faults[SANDBOX_FAULTS_MAX]; /* `count` of them, the oldest first */
    size_t count;
    uint64_t last_id;
};

static const struct {
    const char *name;
    const char *help;
} KINDS[] = {
#define X(name, text, help) {text, help},
    SANDBOX_FAULT_KINDS(X)
#undef X
};

sandbox_faults *sandbox_faults_new(void) {
    sandbox_faults *self = calloc(1, sizeof *self);
    if (self != NULL)
        (void)pthread_mutex_init(&self->lock, NULL);
    return self;
}

sandbox_faults *sandbox_faults_free(sandbox_faults *self) {
    if (self == NULL)
        return NULL;
    (void)sandbox_faults_remove(self, /* id= */ 0);
    (void)pthread_mutex_destroy(&self->lock);
    free(self);
    return NULL;
}

const char *sandbox_fault_kind_name(sandbox_fault_kind kind) {
    return KINDS[kind].name;
}

void sandbox_fault_done(sandbox_fault *self) {
    stet_buf_done(&self->match);
    stet_buf_done(&self->retry_after);
    stet_buf_done(&self->body);
    stet_buf_done(&self->headers);
}

/* ---- reading the control request ---- */

static stet_code read_kind(stet_str text, sandbox_fault *f, stet_error *e) {
    for (size_t i = 0; i < COUNT_OF(KINDS); i++)
        if (stet_str_is(text, KINDS[i].name)) {
            f->kind = (sandbox_fault_kind)i;
            return STET_OK;
        }
    return stet_error_field(e, STET_INVALID, "kind", "no such fault: GET /sandbox/faults lists the kinds");
}

static stet_code read_number(stet_mp_reader *value, const char *field, int64_t min, int64_t max, int64_t *ret,
                             stet_error *e) {
    *ret = stet_mp_read_int(value);
    if (value->failed || *ret < min || *ret > max)
        return stet_error_field(e, STET_INVALID, field, "must be a whole number from %lld to %lld",
                                (long long)min, (long long)max);
    return STET_OK;
}

static bool is_text_of_header(stet_str text) {
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return false;
    return true;
}

static stet_code read_headers(stet_mp_reader *value, stet_buf *headers, stet_error *e) {
    uint32_t pairs = stet_mp_read_map(value);
    for (uint32_t i = 0; i < pairs && !value->failed; i++) {
        stet_str name = stet_mp_read_str(value);
        stet_str text = stet_mp_read_str(value);
        if (value->failed || name.size == 0 || !is_text_of_header(name) || !is_text_of_header(text))
            return stet_error_field(e, STET_INVALID, "headers",
                                    "must be an object of strings without line breaks");
        stet_buf_append_str(headers, name);
        stet_buf_append_byte(headers, '\0');
        stet_buf_append_str(headers, text);
        stet_buf_append_byte(headers, '\0');
    }
    if (value->failed)
        return stet_error_field(e, STET_INVALID, "headers", "must be an object of strings");
    return STET_OK;
}

/* A string is sent as it is, anything else as JSON. */
static stet_code read_body(stet_mp_reader *value, stet_buf *body, stet_error *e) {
    if (stet_mp_peek(value) == STET_MP_STR) {
        stet_buf_append_str(body, stet_mp_read_str(value));
        return STET_OK;
    }
    return stet_mp_to_json(stet_mp_read_raw(value), (stet_json_style){0}, body, e);
}

static stet_code read_text(stet_mp_reader *value, const char *field, stet_buf *ret, stet_error *e) {
    stet_str text = stet_mp_read_str(value);
    if (value->failed)
        return stet_error_field(e, STET_INVALID, field, "must be a string");
    stet_buf_append_str(ret, text);
    return STET_OK;
}

static stet_code read_flag(stet_mp_reader *value, const char *field, bool *ret, stet_error *e) {
    *ret = stet_mp_read_bool(value);
    return value->failed ? stet_error_field(e, STET_INVALID, field, "must be true or false") : STET_OK;
}

static stet_code read_retry_after(stet_mp_reader *value, stet_buf *ret, stet_error *e) {
    if (stet_mp_peek(value) == STET_MP_UINT) {
        stet_buf_printf(ret, "%llu", (unsigned long long)stet_mp_read_uint(value));
        return STET_OK;
    }
    stet_code rc = read_text(value, "retryAfter", ret, e);
    if (rc == STET_OK && !is_text_of_header(stet_buf_str(ret)))
        rc = stet_error_field(e, STET_INVALID, "retryAfter", "must not contain line breaks");
    return rc;
}

static stet_code read_field(stet_str name, stet_mp_reader *value, sandbox_fault *f, bool *kind_given,
                            stet_error *e) {
    int64_t number = 0;
    if (stet_str_is(name, "kind")) {
        *kind_given = true;
        return read_kind(stet_mp_read_str(value), f, e);
    }
    if (stet_str_is(name, "match"))
        return read_text(value, "match", &f->match, e);
    if (stet_str_is(name, "times")) {
        stet_code rc = read_number(value, "times", 0, INT64_MAX, &number, e);
        f->times_left = (uint64_t)number;
        return rc;
    }
    if (stet_str_is(name, "status")) {
        stet_code rc = read_number(value, "status", 200, 599, &number, e);
        f->status = (uint32_t)number;
        return rc;
    }
    if (stet_str_is(name, "delayMs"))
        return read_number(value, "delayMs", 0, DELAY_MS_MAX, &f->delay_ms, e);
    if (stet_str_is(name, "tokenDelayMs"))
        return read_number(value, "tokenDelayMs", 0, DELAY_MS_MAX, &f->token_delay_ms, e);
    if (stet_str_is(name, "retryAfter"))
        return read_retry_after(value, &f->retry_after, e);
    if (stet_str_is(name, "fence"))
        return read_flag(value, "fence", &f->fence, e);
    if (stet_str_is(name, "namedEvent"))
        return read_flag(value, "namedEvent", &f->named_event, e);
    if (stet_str_is(name, "body"))
        return read_body(value, &f->body, e);
    if (stet_str_is(name, "headers"))
        return read_headers(value, &f->headers, e);
    char field[STET_ERROR_FIELD_MAX];
    size_t size = name.size < sizeof field ? name.size : sizeof field - 1;
    memcpy(field, name.data, size);
    field[size] = '\0';
    return stet_error_field(e, STET_INVALID, field, "no such field of a fault");
}

static stet_code read_fault(stet_str mp, sandbox_fault *f, stet_error *e) {
    stet_mp_reader r = stet_mp_reader_of(mp);
    uint32_t pairs = stet_mp_read_map(&r);
    bool kind_given = false;
    if (r.failed)
        return stet_error_set(e, STET_INVALID, "send a JSON object");
    for (uint32_t i = 0; i < pairs; i++) {
        stet_str name = stet_mp_read_str(&r);
        stet_code rc = read_field(name, &r, f, &kind_given, e);
        if (rc != STET_OK)
            return rc;
    }
    if (!kind_given)
        f->kind = f->status != 0 || f->body.size > 0 ? SANDBOX_FAULT_STATUS : SANDBOX_FAULT_DELAY;
    if (!stet_buf_ok(&f->match) || !stet_buf_ok(&f->body) || !stet_buf_ok(&f->headers))
        return stet_error_set(e, STET_TOO_LARGE, "the fault's texts are too large");
    return STET_OK;
}

static sandbox_fault new_fault(void) {
    return (sandbox_fault){.times_left = 1,
                           .delay_ms = -1,
                           .token_delay_ms = -1,
                           .match = STET_BUF(TEXT_BYTES_MAX),
                           .retry_after = STET_BUF(256),
                           .body = STET_BUF(TEXT_BYTES_MAX),
                           .headers = STET_BUF(16 * 1024)};
}

stet_code sandbox_faults_add(sandbox_faults *self, stet_str mp, uint64_t *ret_id, stet_error *e) {
    sandbox_fault f = new_fault();
    stet_code rc = read_fault(mp, &f, e);
    if (rc != STET_OK) {
        sandbox_fault_done(&f);
        return rc;
    }
    (void)pthread_mutex_lock(&self->lock);
    if (self->count == SANDBOX_FAULTS_MAX) {
        rc = stet_error_set(e, STET_BUSY, "%d faults are set already: DELETE /sandbox/faults",
                            SANDBOX_FAULTS_MAX);
        sandbox_fault_done(&f);
    } else {
        f.id = *ret_id = ++self->last_id;
        self->faults[self->count++] = f;
    }
    (void)pthread_mutex_unlock(&self->lock);
    return rc;
}

/* ---- use ---- */

static void remove_at(sandbox_faults *self, size_t at) {
    sandbox_fault_done(&self->faults[at]);
    memmove(&self->faults[at], &self->faults[at + 1], (self->count - at - 1) * sizeof self->faults[0]);
    self->count--;
}

size_t sandbox_faults_remove(sandbox_faults *self, uint64_t id) {
    size_t removed = 0;
    (void)pthread_mutex_lock(&self->lock);
    for (size_t i = self->count; i > 0; i--)
        if (id == 0 || self->faults[i - 1].id == id) {
            remove_at(self, i - 1);
            removed++;
        }
    (void)pthread_mutex_unlock(&self->lock);
    return removed;
}

static bool contains(stet_str text, stet_str part) {
    return part.size == 0 || (text.size > 0 && memmem(text.data, text.size, part.data, part.size) != NULL);
}

static void copy(stet_buf *to, const stet_buf *from) {
    stet_buf_append_str(to, stet_buf_str(from));
}

static sandbox_fault copy_of(const sandbox_fault *f) {
    sandbox_fault fresh = new_fault(), c = *f;
    c.match = fresh.match;
    c.retry_after = fresh.retry_after;
    c.body = fresh.body;
    c.headers = fresh.headers;
    copy(&c.retry_after, &f->retry_after);
    copy(&c.body, &f->body);
    copy(&c.headers, &f->headers);
    return c;
}

bool sandbox_faults_take(sandbox_faults *self, stet_str body, stet_str texts, sandbox_fault *ret) {
    bool found = false;
    (void)pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->count && !found; i++) {
        sandbox_fault *f = &self->faults[i];
        stet_str match = stet_buf_str(&f->match);
        if (!contains(body, match) && !contains(texts, match))
            continue;
        found = true;
        f->hits++;
        *ret = copy_of(f);
        if (f->times_left > 0 && --f->times_left == 0)
            remove_at(self, i);
    }
    (void)pthread_mutex_unlock(&self->lock);
    return found;
}

void sandbox_faults_json(sandbox_faults *self, stet_buf *b) {
    (void)pthread_mutex_lock(&self->lock);
    stet_buf_append_str(b, STET_STR("{\"faults\": ["));
    for (size_t i = 0; i < self->count; i++) {
        const sandbox_fault *f = &self->faults[i];
        stet_buf_printf(b, "%s\n{\"id\": %llu, \"kind\": \"%s\", \"match\": ", i > 0 ? "," : "",
                        (unsigned long long)f->id, KINDS[f->kind].name);
        stet_json_quote(b, stet_buf_str(&f->match));
        stet_buf_printf(
            b,
            ", \"times\": %llu, \"hits\": %llu, \"status\": %u, \"delayMs\": %lld, \"tokenDelayMs\": %lld}",
            (unsigned long long)f->times_left, (unsigned long long)f->hits, f->status, (long long)f->delay_ms,
            (long long)f->token_delay_ms);
    }
    (void)pthread_mutex_unlock(&self->lock);
    stet_buf_append_str(b, STET_STR("], \"kinds\": {"));
    for (size_t i = 0; i < COUNT_OF(KINDS); i++) {
        stet_buf_printf(b, "%s\"%s\": ", i > 0 ? ", " : "", KINDS[i].name);
        stet_json_quote(b, stet_str_of(KINDS[i].help));
    }
    stet_buf_append_str(b, STET_STR("}}\n"));
}
