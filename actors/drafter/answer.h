/* answer - collects the pieces of one HTTP answer of the model: a stream of chunks, a plain JSON answer from
 * a server that ignores "stream", or the JSON body of an error. Says what came, judges nothing (verdict.h
 * does). Memory: bounded by the limits below whatever the server sends; past them `too_large` is set and the
 * rest ignored; the same with `starved`, where memory fails. Thread: one at a time. */
#ifndef DRAFTER_ANSWER_H
#define DRAFTER_ANSWER_H

#include "actors/drafter/cost.h"
#include "actors/drafter/sse.h"

enum {
    DRAFTER_CONTENT_MAX = 2 << 20,     /* text written by the model */
    DRAFTER_EVENT_MAX = 2 << 20,       /* one event of the stream */
    DRAFTER_JSON_ANSWER_MAX = 4 << 20, /* an answer that is not a stream */
    DRAFTER_ERROR_BODY_MAX = 64 << 10  /* of an error's body only so much is looked at */
};

/* An error as the servers write it: an object, a text, at the top; codes as text, number or null. */
typedef struct drafter_model_error {
    bool present;
    char type[64];
    char code[64];
    char message[160];
} drafter_model_error;

typedef struct drafter_answer {
    drafter_sse sse;
    stet_buf content;
    stet_buf refusal;
    stet_buf body;    /* an answer that is not a stream, or an error's body */
    stet_buf scratch; /* MessagePack of the chunk being read; later of the output */
    uint32_t status;
    enum { DRAFTER_BODY_UNKNOWN, DRAFTER_BODY_STREAM, DRAFTER_BODY_JSON } kind;
    bool done; /* [DONE] came, or the JSON answer was whole */
    bool finished;
    bool malformed; /* a piece was not JSON */
    bool too_large;
    bool starved; /* there was no memory for a piece: what is here has a hole */
    char finish_reason[32];
    char model[64];
    drafter_usage usage;
    drafter_model_error error;
} drafter_answer;

/* NULL only when out of memory. */
drafter_answer *drafter_answer_new(void);
drafter_answer *drafter_answer_free(drafter_answer *self); /* always NULL */
void drafter_answer_feed(drafter_answer *self, uint32_t status, stet_str bytes);
/* After the last piece: reads a body that is not a stream. Again has no effect. */
void drafter_answer_finish(drafter_answer *self);

#endif
