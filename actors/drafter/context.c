#include "actors/drafter/context.h"

#include "actors/drafter/transcripts.h"
#include "proto/wire/json.h"
#include "proto/wire/rfc3339.h"

typedef struct span {
    uint64_t first, last;
} span;

void drafter_context_done(drafter_context *self) {
    stet_buf_done(&self->excerpts);
    stet_buf_done(&self->messages);
    stet_buf_done(&self->json);
    stet_buf_done(&self->unresolved);
    stet_buf_done(&self->unresolved_anchors);
}

/* Room is kept for the heading line and for the note about what was left out. */
static void render_item(drafter_context *self, stet_buf *b, const drafter_item *item) {
    if (b->size + item->id.size + item->role.size + item->text.size + 256 > DRAFTER_CONTEXT_MAX) {
        self->left_out++;
        return;
    }
    char at[STET_RFC3339_SIZE];
    stet_rfc3339_text(item->at_ms, at);
    stet_buf_printf(b, "%s[%.*s] %.*s at %s\n%.*s\n", b->size > 0 ? "\n" : "", STET_STR_ARG(item->id),
                    STET_STR_ARG(item->role), at, STET_STR_ARG(item->text));
}

static void end_section(drafter_context *self, stet_buf *b) {
    if (self->left_out > 0)
        stet_buf_printf(b, "(%u more left out: too long)\n", self->left_out);
    if (b->size == 0)
        stet_buf_append_str(b, STET_STR("(none)"));
    else if (b->data[b->size - 1] == '\n')
        stet_buf_truncate(b, b->size - 1);
}

/* Calls found for each id of the payload's list that is an item, and lists the others. */
static stet_code resolve(stet_turn *turn, const stet_job *job, const char *field, stet_buf *unresolved,
                         uint32_t *missing_count, void (*found)(void *context, uint64_t sequence),
                         void *context, stet_error *e) {
    stet_str ids = stet_mp_get_raw(job->payload, field);
    size_t mark = stet_mp_open(unresolved);
    uint32_t missing = 0;
    stet_mp_reader r = stet_mp_reader_of(ids);
    uint32_t count = ids.size > 0 ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str id = stet_mp_read_str(&r);
        uint64_t sequence;
        stet_code rc = drafter_item_find(turn, job->key, id, &sequence, e);
        if (rc == STET_OK) {
            found(context, sequence);
        } else if (rc == STET_NOT_FOUND) {
            (*missing_count)++;
            if (unresolved->size + id.size < DRAFTER_UNRESOLVED_BYTES) {
                stet_mp_str(unresolved, id);
                missing++;
            }
        } else {
            return rc;
        }
    }
    stet_mp_close_array(unresolved, mark, missing);
    return drafter_built(unresolved, "the list of what was not found", e);
}

/* ---- messages ---- */

enum { POINTERS_MAX = 256 };

typedef struct sequences {
    uint64_t at[POINTERS_MAX];
    size_t count;
} sequences;

static void add_sequence(void *context, uint64_t sequence) {
    sequences *list = context;
    for (size_t i = 0; i < list->count; i++) {
        if (list->at[i] == sequence)
            return;
    }
    if (list->count < POINTERS_MAX)
        list->at[list->count++] = sequence;
}

static stet_code build_messages(stet_turn *turn, const stet_job *job, drafter_context *self, stet_error *e) {
    sequences list = {.count = 0};
    stet_code rc = resolve(turn, job, "messagePointers", &self->unresolved, &self->unresolved_count,
                           add_sequence, &list, e);
    for (size_t i = 0; rc == STET_OK && i < list.count; i++) {
        drafter_item item;
        rc = drafter_item_read(turn, job->key, list.at[i], &item, e);
        if (rc == STET_OK)
            render_item(self, &self->messages, &item);
    }
    end_section(self, &self->messages);
    return rc;
}

/* ---- excerpts ---- */

/* Anchors in order, their surroundings joined where they touch. */
static size_t spans_of(sequences *anchors, uint64_t around, uint64_t items, span spans[POINTERS_MAX]) {
    for (size_t i = 1; i < anchors->count; i++) {
        uint64_t moving = anchors->at[i];
        size_t j = i;
        for (; j > 0 && anchors->at[j - 1] > moving; j--)
            anchors->at[j] = anchors->at[j - 1];
        anchors->at[j] = moving;
    }
    size_t count = 0;
    for (size_t i = 0; i < anchors->count; i++) {
        uint64_t anchor = anchors->at[i];
        span next = {.first = anchor > around ? anchor - around : 1,
                     .last = anchor + around < items ? anchor + around : items};
        if (count > 0 && next.first <= spans[count - 1].last + 1)
            spans[count - 1].last = next.last;
        else
            spans[count++] = next;
    }
    return count;
}

static stet_code build_excerpts(stet_turn *turn, const stet_job *job, drafter_context *self, stet_error *e) {
    sequences anchors = {.count = 0};
    span spans[POINTERS_MAX];
    drafter_transcript head;
    uint32_t left_out = self->left_out;
    int64_t around = stet_config_int(stet_turn_config(turn), STET_SETTING_drafter_excerpt_items);
    around = around < 0 ? 0 : around > DRAFTER_EXCERPT_ITEMS_MAX ? DRAFTER_EXCERPT_ITEMS_MAX : around;
    self->left_out = 0;
    stet_code rc = resolve(turn, job, "transcriptAnchors", &self->unresolved_anchors, &self->unresolved_count,
                           add_sequence, &anchors, e);
    if (rc == STET_OK)
        rc = drafter_transcript_head(turn, job->key, &head, e);
    if (rc != STET_OK)
        return rc;
    size_t count = spans_of(&anchors, (uint64_t)around, head.items, spans);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            stet_buf_append_str(&self->excerpts, STET_STR("\n...\n"));
        for (uint64_t sequence = spans[i].first; sequence <= spans[i].last; sequence++) {
            drafter_item item;
            rc = drafter_item_read(turn, job->key, sequence, &item, e);
            if (rc != STET_OK)
                return rc;
            render_item(self, &self->excerpts, &item);
        }
    }
    end_section(self, &self->excerpts);
    self->left_out += left_out;
    return STET_OK;
}

static stet_code build_json(const stet_job *job, drafter_context *self, stet_error *e) {
    stet_str value = stet_mp_get_raw(job->payload, "promptContext");
    if (value.size == 0) {
        stet_buf_append_str(&self->json, STET_STR("(none)"));
        return STET_OK;
    }
    return stet_mp_to_json(value, (stet_json_style){.indent = 0}, &self->json, e);
}

stet_code drafter_context_build(stet_turn *turn, const stet_job *job, drafter_context *ret, stet_error *e) {
    *ret = (drafter_context){
        .excerpts = STET_BUF(DRAFTER_CONTEXT_MAX + 1024),
        .messages = STET_BUF(DRAFTER_CONTEXT_MAX + 1024),
        .json = STET_BUF(DRAFTER_CONTEXT_MAX * 2),
        .unresolved = STET_BUF(DRAFTER_UNRESOLVED_BYTES + 1024),
        .unresolved_anchors = STET_BUF(DRAFTER_UNRESOLVED_BYTES + 1024),
    };
    stet_code rc = build_messages(turn, job, ret, e);
    if (rc == STET_OK)
        rc = build_excerpts(turn, job, ret, e);
    if (rc == STET_OK)
        rc = build_json(job, ret, e);
    return rc;
}
