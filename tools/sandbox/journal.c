#include "tools/sandbox/journal.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>

#include "proto/base/clock.h"
#include "proto/wire/json.h"
#include "proto/wire/rfc3339.h"

typedef struct entry {
    uint64_t index;
    stet_buf text; /* the JSON object but for answer, outcome and the closing brace */
    uint32_t status;
    const char *fault;
    const char *outcome;
} entry;

struct sandbox_journal {
    pthread_mutex_t lock;
    entry entries[SANDBOX_JOURNAL_MAX]; /* ring: `count` entries from `first` on */
    size_t first;
    size_t count;
    size_t bytes;
    uint64_t last;
};

sandbox_journal *sandbox_journal_new(void) {
    sandbox_journal *self = calloc(1, sizeof *self);
    if (self != NULL)
        (void)pthread_mutex_init(&self->lock, NULL);
    return self;
}

static void drop_oldest(sandbox_journal *self) {
    ASSERT(self->count > 0);
    entry *e = &self->entries[self->first];
    self->bytes -= e->text.size;
    stet_buf_done(&e->text);
    self->first = (self->first + 1) % SANDBOX_JOURNAL_MAX;
    self->count--;
}

void sandbox_journal_clear(sandbox_journal *self) {
    (void)pthread_mutex_lock(&self->lock);
    while (self->count > 0)
        drop_oldest(self);
    (void)pthread_mutex_unlock(&self->lock);
}

sandbox_journal *sandbox_journal_free(sandbox_journal *self) {
    if (self == NULL)
        return NULL;
    sandbox_journal_clear(self);
    (void)pthread_mutex_destroy(&self->lock);
    free(self);
    return NULL;
}

/* "Bearer sk-abcdef" becomes "Bearer ****cdef"; short keys show nothing. */
static void mask(stet_buf *b, const char *value) {
    const char *key = strrchr(value, ' ');
    key = key == NULL ? value : key + 1;
    size_t size = strlen(key);
    stet_buf_append(b, value, (size_t)(key - value));
    stet_buf_append_str(b, STET_STR("****"));
    if (size >= 8)
        stet_buf_append_str(b, stet_str_of(key + size - 4));
}

/* Of a header that was sent more than once the values are shown in one, as RFC 9110 section 5.3 joins them. */
typedef struct header_writer {
    struct MHD_Connection *connection;
    stet_buf *b;
    size_t count;
} header_writer;

typedef struct header_search {
    const char *name;
    size_t at, before;
    bool found;
} header_search;

static enum MHD_Result look_before(void *context, enum MHD_ValueKind kind, const char *name,
                                   const char *value) {
    header_search *s = context;
    (void)kind, (void)value;
    if (s->at++ == s->before)
        return MHD_NO;
    s->found |= strcasecmp(name, s->name) == 0;
    return MHD_YES;
}

typedef struct value_joiner {
    stet_buf *b;
    const char *name;
    bool any, secret;
} value_joiner;

static enum MHD_Result join_value(void *context, enum MHD_ValueKind kind, const char *name,
                                  const char *value) {
    value_joiner *j = context;
    (void)kind;
    if (strcasecmp(name, j->name) != 0)
        return MHD_YES;
    stet_buf_append_str(j->b, j->any ? STET_STR(", ") : STET_STR(""));
    j->any = true;
    if (j->secret)
        mask(j->b, value == NULL ? "" : value);
    else
        stet_buf_append_str(j->b, stet_str_of(value));
    return MHD_YES;
}

static enum MHD_Result write_header(void *context, enum MHD_ValueKind kind, const char *name,
                                    const char *value) {
    header_writer *w = context;
    header_search earlier = {.name = name, .before = w->count++};
    (void)value;
    (void)MHD_get_connection_values(w->connection, kind, look_before, &earlier);
    if (earlier.found)
        return MHD_YES;
    CLEANUP(stet_buf_done) stet_buf values = STET_BUF(64 * 1024);
    value_joiner joiner = {.b = &values,
                           .name = name,
                           .secret = strcasecmp(name, "authorization") == 0 ||
                                     strcasecmp(name, "proxy-authorization") == 0};
    (void)MHD_get_connection_values(w->connection, kind, join_value, &joiner);
    stet_buf_append_str(w->b, earlier.before > 0 ? STET_STR(", ") : STET_STR(""));
    stet_json_quote(w->b, stet_str_of(name));
    stet_buf_append_str(w->b, STET_STR(": "));
    stet_json_quote(w->b, stet_buf_str(&values));
    return MHD_YES;
}

static void write_request(stet_buf *b, uint64_t index, const sandbox_request *r) {
    char at[STET_RFC3339_SIZE];
    stet_rfc3339_text(stet_clock_wall_ms(), at);
    stet_buf_printf(b, "{\"index\": %llu, \"at\": \"%s\", \"method\": ", (unsigned long long)index, at);
    stet_json_quote(b, stet_str_of(r->method));
    stet_buf_append_str(b, STET_STR(", \"path\": "));
    stet_json_quote(b, stet_str_of(r->path));
    stet_buf_append_str(b, STET_STR(", \"headers\": {"));
    header_writer writer = {.connection = r->connection, .b = b};
    (void)MHD_get_connection_values(r->connection, MHD_HEADER_KIND, write_header, &writer);
    stet_buf_append_str(b, STET_STR("}, \"body\": "));
    if (r->body.size == 0)
        stet_buf_append_str(b, STET_STR("null"));
    else if (r->mp.size > 0)
        stet_buf_append_str(b, r->body); /* was read as JSON, so it may stand here as it came */
    else
        stet_json_quote(b, r->body);
}

uint64_t sandbox_journal_add(sandbox_journal *self, const sandbox_request *r) {
    stet_buf text = STET_BUF(SANDBOX_JOURNAL_BYTES_MAX);
    (void)pthread_mutex_lock(&self->lock);
    uint64_t index = ++self->last;
    (void)pthread_mutex_unlock(&self->lock);
    write_request(&text, index, r);
    if (!stet_buf_ok(&text)) {
        stet_buf_done(&text);
        return 0;
    }
    (void)pthread_mutex_lock(&self->lock);
    while (self->count == SANDBOX_JOURNAL_MAX ||
           (self->count > 0 && self->bytes + text.size > SANDBOX_JOURNAL_BYTES_MAX))
        drop_oldest(self);
    self->entries[(self->first + self->count) % SANDBOX_JOURNAL_MAX] =
        (entry){.index = index, .text = text, .outcome = "answering"};
    self->count++;
    self->bytes += text.size;
    (void)pthread_mutex_unlock(&self->lock);
    return index;
}

/* From the newest: what is looked for came in a moment ago. */
static entry *find(sandbox_journal *self, uint64_t index) {
    for (size_t i = self->count; i > 0; i--) {
        entry *e = &self->entries[(self->first + i - 1) % SANDBOX_JOURNAL_MAX];
        if (e->index == index)
            return e;
    }
    return NULL;
}

void sandbox_journal_answer(sandbox_journal *self, uint64_t index, uint32_t status, const char *fault) {
    (void)pthread_mutex_lock(&self->lock);
    entry *e = find(self, index);
    if (e != NULL) {
        e->status = status;
        e->fault = fault;
    }
    (void)pthread_mutex_unlock(&self->lock);
}

void sandbox_journal_finish(sandbox_journal *self, uint64_t index, const char *outcome) {
    (void)pthread_mutex_lock(&self->lock);
    entry *e = find(self, index);
    if (e != NULL)
        e->outcome = outcome;
    (void)pthread_mutex_unlock(&self->lock);
}

void sandbox_journal_json(sandbox_journal *self, uint64_t since, uint64_t limit, stet_buf *b) {
    (void)pthread_mutex_lock(&self->lock);
    stet_buf_append_str(b, STET_STR("{\"requests\": ["));
    uint64_t shown = 0;
    for (size_t i = 0; i < self->count && shown < limit; i++) {
        const entry *e = &self->entries[(self->first + i) % SANDBOX_JOURNAL_MAX];
        if (e->index <= since)
            continue;
        stet_buf_append_str(b, shown++ > 0 ? STET_STR(",\n") : STET_STR("\n"));
        stet_buf_append_str(b, stet_buf_str(&e->text));
        stet_buf_printf(b, ", \"status\": %u, \"fault\": ", e->status);
        if (e->fault == NULL)
            stet_buf_append_str(b, STET_STR("null"));
        else
            stet_json_quote(b, stet_str_of(e->fault));
        stet_buf_printf(b, ", \"outcome\": \"%s\"}", e->outcome);
    }
    stet_buf_printf(b, "], \"last\": %llu}\n", (unsigned long long)self->last);
    (void)pthread_mutex_unlock(&self->lock);
}
