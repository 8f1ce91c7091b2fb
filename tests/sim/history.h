/* history - what clients asked and were told, what readers saw, what reached the outside, and what was found
 * at the end. The checker (checker.h) sees nothing else: no clock, no core, no store. Times are for people.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include "proto/base/base.h"
#include "proto/wire/id.h"

/* X(C name, text, which fields it uses) */
#define HISTORY_KINDS(X)                                                                                     \
    X(INVOKE, "invoke", "id, who = client, stream = key, hash = what was asked")                             \
    X(OK, "ok",                                                                                              \
      "id, who, stream, hash = what was asked, answer = hash of the answer, number = value it tells")        \
    X(REFUSED, "refused", "id, hash, code; number = how often it had been sent")                             \
    X(UNKNOWN, "unknown", "id: no answer came")                                                              \
    X(READ, "read", "who, stream = key, number = the value's number, 0: nothing there")                      \
    X(WROTE, "wrote", "who, stream = key, number = of the value: before an OK or UNKNOWN of the same id")    \
    X(EVENT, "event", "who = reader, stream = session, number, hash")                                        \
    X(PUBLISHED, "published", "stream = session, number, hash: left the actor live")                         \
    X(STORED, "stored", "stream = session, number, hash; id = job, code = status")                           \
    X(HEAD, "head", "stream = session, number = of its last event when all was at rest")                     \
    X(SENT, "sent", "stream = channel, number, id, hash: left the sender")                                   \
    X(ACKED, "acked", "stream = channel, number: the receiver said that it has all up to it")                \
    X(TAKEN, "taken", "stream = channel, number = place in the order of applying, id")                       \
    X(EFFECT, "effect", "id = job, number = attempt and try, stream = project: a call to the outside began") \
    X(EFFECT_END, "effect end", "the same: it ended, was taken back, or its caller died")                    \
    X(KNOWN, "known", "id = job, number = attempts it says it has had, answer = calls it knows of")          \
    X(FACET, "facet", "id = message, code = which part, number = how often it is there")                     \
    X(BASE, "base",                                                                                          \
      "stream = version, number = mark that it was made from, answer = mark of the version before")          \
    X(SUM, "sum", "stream = what, number = found, answer = expected")                                        \
    X(COMMIT, "commit", "stream = actor, number: a commit was seen to be durable")                           \
    X(OPENED, "opened", "stream = as COMMIT, number: a store is served from this commit on")                 \
    X(OWNER, "owner", "stream = owners of an actor, number = epoch: the broker said that it is the owner")   \
    X(SERVED, "served", "the same: the broker passed on an answer of it")                                    \
    X(PENDING, "pending", "stream = what, number: still waits, long after the last fault")                   \
    X(COMPLAINT, "complaint", "stream = what an actor or the broker says went wrong inside itself")

typedef enum history_kind {
#define X(name, text, fields) HISTORY_##name,
    HISTORY_KINDS(X)
#undef X
        HISTORY_KINDS_COUNT
} history_kind;

/* Parts of one applied message: all there, or none. */
typedef enum history_facet { FACET_STATE, FACET_EVENT, FACET_SEND, FACET_TIMER, FACETS_COUNT } history_facet;

typedef struct history_record {
    history_kind kind;
    uint32_t who, stream, code;
    int64_t at_ms;
    stet_id id;
    uint64_t number, hash, answer;
} history_record;

enum { HISTORY_NAMES_MAX = 4096, HISTORY_SLOTS = 4 * HISTORY_NAMES_MAX };

typedef struct history {
    history_record *records;
    size_t count, capacity;
    char *names[HISTORY_NAMES_MAX];
    uint32_t names_count;
    uint16_t slots[HISTORY_SLOTS]; /* of a name, by its hash: its number + 1 */
    bool forgets;                  /* old events are removed: what is there begins anywhere */
    bool whole; /* the end was quiet: everything that was begun has come to its end and was read */
} history;

void history_done(history *self);
void history_add(history *self, history_record record);
/* The number of a name; the same text has the same number. */
uint32_t history_name(history *self, stet_str text);
uint32_t history_name_of(history *self, const char *format, ...) PRINTF(2, 3);
const char *history_kind_text(history_kind kind);

#endif
