/* engine - what the store asks of the thing that keeps its rows. rocks.c and memory.c are the two that there
 * are.
 *
 * Everything is called from the loop's thread; an engine with a thread of its own hides it behind
 * submit/collect. After a failed write an engine fails every later one: the process is to end. */
#ifndef STET_ENGINE_H
#define STET_ENGINE_H

#include "store/commit_record.h"
#include "store/store.h"

typedef struct stet_engine stet_engine;
typedef struct stet_engine_iter stet_engine_iter;

/* One commit on its way. The store fills rows and the record but for rows, body_bytes and body; the engine
 * the rest. */
typedef struct stet_commit {
    const stet_overlay *rows; /* sealed: may be read by another thread, changed by none */
    stet_commit_record record;
    stet_commit_result result;
    stet_error error;
    uint64_t write_bytes; /* as handed to the engine */
    uint64_t nanoseconds; /* of building, writing and syncing */
} stet_commit;

typedef struct stet_engine_stats {
    uint64_t memory_bytes, disk_bytes;
} stet_engine_stats;

typedef struct stet_engine_ops {
    /* STET_NOT_FOUND leaves *e alone. The value is copied into the arena. */
    stet_code (*get)(stet_engine *self, stet_str key, stet_arena *into, stet_str *ret, stet_error *e);
    /* Rows with lower <= key < upper ({NULL,0}: no upper bound); both are copied. NULL when out of memory. */
    stet_engine_iter *(*iter)(stet_engine *self, stet_str lower, stet_str upper);
    void (*submit)(stet_engine *self, stet_commit *commit); /* may return with its result */
    bool (*collect)(stet_engine *self); /* true when the submitted commit has its result */
    int (*fd)(const stet_engine *self);
    stet_code (*checkpoint)(stet_engine *self, const char *directory, stet_error *e);
    stet_engine_stats (*stats)(stet_engine *self);
    void (*close)(stet_engine *self); /* waits for a submitted commit */
} stet_engine_ops;

typedef struct stet_engine_iter_ops {
    /* First row >= key (reverse: last row <= key); an empty key means the first (last) of all. False: there
     * is none, or the engine failed: see status. Key and value live until the next call. */
    bool (*seek)(stet_engine_iter *self, stet_str key, bool reverse, stet_str *ret_key, stet_str *ret_value);
    bool (*step)(stet_engine_iter *self, bool reverse, stet_str *ret_key, stet_str *ret_value);
    stet_code (*status)(const stet_engine_iter *self, stet_error *e);
    void (*free)(stet_engine_iter *self);
} stet_engine_iter_ops;

struct stet_engine {
    const stet_engine_ops *ops;
};
struct stet_engine_iter {
    const stet_engine_iter_ops *ops;
};

enum { STET_BOUND_BYTES_MAX = STET_KEY_BYTES_MAX };

NODISCARD
stet_code stet_memory_engine_new(stet_engine **ret, stet_error *e);
/* Puts all durable rows of one into another, which has none. False when out of memory. */
NODISCARD
bool stet_memory_engine_copy(stet_engine *to, const stet_engine *from);
/* Forgets a commit that was submitted and not collected. */
void stet_memory_engine_crash(stet_engine *self);

#endif
