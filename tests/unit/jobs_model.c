/* The engine against a plain, slow twin: random operations, crashes at every commit, the same states and
 * start order. */
#include "jobs_fixture.h"

enum { JOBS_MAX = 140, KEYS = 5, DEDUPS = 2, CONCURRENCY = 3, ATTEMPTS = 3, KEEP_MS = 20000 };
static const char *const KEY_NAMES[KEYS] = {"a", "b", "c", "d", "e"};
static const char *const DEDUP_NAMES[DEDUPS] = {"x", "y"};

typedef struct mjob {
    stet_id id;
    bool there;
    unsigned key;
    int dedup; /* -1: none */
    bool replace, forced;
    stet_job_state state;
    uint32_t priority, attempt, total, retries;
    int64_t run_at_ms, finished_ms, resume_ms;
    uint8_t payload;
} mjob;

typedef struct model {
    mjob jobs[JOBS_MAX];
    bool queue_paused, key_paused[KEYS];
    int head[KEYS]; /* index of the job in READY, or -1 */
    uint64_t turn[KEYS], next_turn;
} model;

typedef struct world {
    fixture *f;
    model now, durable;
    stet_prng random;
    uint32_t key_concurrency;
    unsigned step;
} world;

static unsigned below(world *w, unsigned bound) {
    return (unsigned)stet_prng_below(&w->random, bound);
}

/* ---- the twin ---- */

static uint32_t level_of(const mjob *j) {
    return j->forced ? 0 : j->priority + 1;
}

static bool goes_before(const mjob *a, const mjob *b) {
    if (level_of(a) != level_of(b))
        return level_of(a) < level_of(b);
    return memcmp(a->id.bytes, b->id.bytes, sizeof(a->id.bytes)) < 0;
}

static unsigned active_of(const model *m, int key) {
    unsigned count = 0;
    for (unsigned i = 0; i < JOBS_MAX; i++)
        count += m->jobs[i].there && m->jobs[i].state == STET_JOB_ACTIVE &&
                 (key < 0 || m->jobs[i].key == (unsigned)key);
    return count;
}

static int first_of(const model *m, unsigned key) {
    int first = -1;
    for (int i = 0; i < JOBS_MAX; i++) {
        const mjob *j = &m->jobs[i];
        if (j->there && j->key == key && j->state == STET_JOB_QUEUED &&
            (first < 0 || goes_before(j, &m->jobs[first])))
            first = i;
    }
    return first;
}

/* `touched`: the head was put in anew even when it is the same job again. */
static void settle_key(world *w, unsigned key, bool touched) {
    model *m = &w->now;
    int first = first_of(m, key);
    bool busy = w->key_concurrency != 0 && active_of(m, (int)key) >= w->key_concurrency;
    if (first >= 0 && (busy || (m->key_paused[key] && !m->jobs[first].forced)))
        first = -1;
    if (first != m->head[key] || touched) {
        m->head[key] = first;
        m->turn[key] = first >= 0 ? m->next_turn++ : 0;
    }
}

static void set_state(world *w, mjob *j, stet_job_state state) {
    bool was_head = w->now.head[j->key] == (int)(j - w->now.jobs);
    j->state = state;
    if (state != STET_JOB_QUEUED)
        j->forced = false;
    if (state != STET_JOB_ACTIVE)
        j->resume_ms = 0;
    if (jobs_finished(state))
        j->finished_ms = w->f->turn.wall_ms;
    settle_key(w, j->key, was_head);
}

static mjob *waiting_with(model *m, unsigned key, int dedup) {
    for (unsigned i = 0; dedup >= 0 && i < JOBS_MAX; i++) {
        mjob *j = &m->jobs[i];
        if (j->there && j->key == key && j->dedup == dedup &&
            (j->state == STET_JOB_QUEUED || j->state == STET_JOB_DELAYED))
            return j;
    }
    return NULL;
}

/* An active job goes back to wait, unless another one waits in its place. */
static void goes_back(world *w, mjob *j, stet_job_state state, int64_t run_at_ms) {
    mjob *other = waiting_with(&w->now, j->key, j->dedup);
    if (other != NULL && other->replace) {
        set_state(w, j, STET_JOB_CANCELLED);
        return;
    }
    if (other != NULL)
        set_state(w, other, STET_JOB_CANCELLED);
    j->run_at_ms = run_at_ms;
    set_state(w, j, state);
}

static int next_start(const world *w) {
    const model *m = &w->now;
    int best = -1;
    for (unsigned k = 0; k < KEYS; k++) {
        int i = m->head[k];
        if (i < 0 || (m->queue_paused && !m->jobs[i].forced))
            continue;
        if (best < 0 || level_of(&m->jobs[i]) < level_of(&m->jobs[best]) ||
            (level_of(&m->jobs[i]) == level_of(&m->jobs[best]) && m->turn[k] < m->turn[m->jobs[best].key]))
            best = i;
    }
    return active_of(m, -1) < CONCURRENCY ? best : -1;
}

/* ---- operations, on both ---- */

static mjob *pick(world *w, bool (*fits)(const mjob *j)) {
    unsigned from = below(w, JOBS_MAX);
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        mjob *j = &w->now.jobs[(from + i) % JOBS_MAX];
        if (j->there && (fits == NULL || fits(j)))
            return j;
    }
    return NULL;
}

static bool is_active(const mjob *j) {
    return j->state == STET_JOB_ACTIVE;
}

static void op_submit(world *w) {
    fixture *f = w->f;
    mjob *free_job = NULL;
    for (unsigned i = 0; i < JOBS_MAX && free_job == NULL; i++)
        free_job = w->now.jobs[i].there ? NULL : &w->now.jobs[i];
    if (free_job == NULL)
        return;
    mjob j = {
        .there = true, .key = below(w, KEYS), .dedup = (int)below(w, 6) - 4, .replace = below(w, 2) == 0};
    j.dedup = j.dedup < 0 ? -1 : j.dedup;
    j.priority = 4 + below(w, 3);
    j.payload = (uint8_t)below(w, 100);
    j.run_at_ms = f->turn.wall_ms + (below(w, 3) == 0 ? (int64_t)below(w, 3000) : 0);
    stet_job_submit s = {.key = stet_str_of(KEY_NAMES[j.key]),
                         .dedup_key = j.dedup < 0 ? (stet_str){NULL, 0} : stet_str_of(DEDUP_NAMES[j.dedup]),
                         .dedup = j.replace ? STET_DEDUP_REPLACE_PAYLOAD : STET_DEDUP_KEEP_FIRST,
                         .priority = j.priority,
                         .payload = stet_str_from(&j.payload, 1),
                         .run_at_ms = j.run_at_ms};
    stet_job job;
    bool existing;
    OK(stet_job_submit_new(&f->turn, queue(f), &s, &job, &existing, e));
    mjob *other = waiting_with(&w->now, j.key, j.dedup);
    assert_int_equal(existing, other != NULL);
    if (other != NULL) {
        assert_true(stet_id_equal(other->id, job.id));
        if (j.replace) {
            other->payload = j.payload;
            other->replace = true;
        }
        return;
    }
    j.id = job.id;
    *free_job = j;
    set_state(w, free_job, j.run_at_ms > f->turn.wall_ms ? STET_JOB_DELAYED : STET_JOB_QUEUED);
}

static int by_due(const void *a, const void *b) {
    const mjob *x = *(mjob *const *)a, *y = *(mjob *const *)b;
    if (x->run_at_ms != y->run_at_ms)
        return x->run_at_ms < y->run_at_ms ? -1 : 1;
    return memcmp(x->id.bytes, y->id.bytes, sizeof(x->id.bytes));
}

static unsigned delayed_jobs(model *m, mjob **ret) {
    unsigned count = 0;
    for (unsigned i = 0; i < JOBS_MAX; i++)
        if (m->jobs[i].there && m->jobs[i].state == STET_JOB_DELAYED)
            ret[count++] = &m->jobs[i];
    qsort(ret, count, sizeof(*ret), by_due);
    return count;
}

static void op_tick(world *w) {
    fixture *f = w->f;
    f->started_count = 0;
    f->written_count = 0;
    tick(f);
    mjob *due[JOBS_MAX];
    unsigned count = delayed_jobs(&w->now, due);
    for (unsigned i = 0; i < count && due[i]->run_at_ms <= f->turn.wall_ms; i++)
        set_state(w, due[i], STET_JOB_QUEUED);
    unsigned resumed = 0; /* run is called for these first */
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        mjob *j = &w->now.jobs[i];
        if (j->there && j->resume_ms != 0 && j->resume_ms <= f->turn.wall_ms) {
            j->resume_ms = 0;
            resumed++;
        }
    }
    for (unsigned i = resumed; i < f->started_count; i++) {
        int next = next_start(w);
        if (next < 0)
            fail_msg("step %u: start %u was not expected", w->step, i);
        mjob *j = &w->now.jobs[next];
        if (!stet_id_equal(j->id, f->started[i]))
            fail_msg("step %u: start %u is another job than key %s expects", w->step, i, KEY_NAMES[j->key]);
        j->attempt++;
        j->total++;
        assert_true(j->attempt <= ATTEMPTS);
        set_state(w, j, STET_JOB_ACTIVE);
    }
    if (next_start(w) >= 0)
        fail_msg("step %u: a job of key %s could start and did not", w->step,
                 KEY_NAMES[w->now.jobs[next_start(w)].key]);
}

static void op_end(world *w) {
    fixture *f = w->f;
    mjob *j = pick(w, is_active);
    if (j == NULL)
        return;
    stet_job job = read_job(f, j->id);
    switch (below(w, 5)) {
    case 0:
    case 1:
        OK(stet_job_done(&f->turn, &job, STET_STR("\x01"), e));
        set_state(w, j, STET_JOB_DONE);
        break;
    case 2:
        OK(stet_job_fail_finally(&f->turn, &job, "final", STET_STR("over"), e));
        set_state(w, j, STET_JOB_ERROR);
        break;
    default: {
        bool at_once = below(w, 2) == 0;
        OK(stet_job_failed(&f->turn, &job, "again", STET_STR("once more"), at_once ? -1 : 0, e));
        if (j->attempt == ATTEMPTS)
            set_state(w, j, STET_JOB_ERROR);
        else
            goes_back(w, j, at_once ? STET_JOB_QUEUED : STET_JOB_DELAYED, job.run_at_ms);
        break;
    }
    }
    assert_int_equal(job.state, j->state);
}

static void op_detail(world *w) {
    fixture *f = w->f;
    mjob *j = pick(w, is_active);
    if (j == NULL)
        return;
    stet_job job = read_job(f, j->id);
    if (below(w, 2) == 0) {
        OK(stet_job_set_detail(&f->turn, &job, STET_STR("\x81\xa1n\x01"), 0.5, e));
    } else {
        j->resume_ms = f->turn.wall_ms + 1 + below(w, 2000);
        OK(stet_job_resume_at(&f->turn, &job, j->resume_ms, e));
    }
}

static void op_cancel(world *w) {
    mjob *j = pick(w, NULL);
    if (j == NULL)
        return;
    bool over = j->state == STET_JOB_DONE || j->state == STET_JOB_ERROR;
    assert_int_equal(cancel(w->f, j->id), over ? STET_CONFLICT : STET_OK);
    if (!over && j->state != STET_JOB_CANCELLED)
        set_state(w, j, STET_JOB_CANCELLED);
}

static void op_retry(world *w) {
    mjob *j = pick(w, NULL);
    if (j == NULL)
        return;
    bool can = j->state == STET_JOB_ERROR || j->state == STET_JOB_CANCELLED;
    can = can && waiting_with(&w->now, j->key, j->dedup) == NULL;
    assert_int_equal(retry(w->f, j->id), can ? STET_OK : STET_CONFLICT);
    if (!can)
        return;
    j->attempt = 0;
    j->retries++;
    j->run_at_ms = w->f->turn.wall_ms;
    set_state(w, j, STET_JOB_QUEUED);
}

static void force(world *w, mjob *j, const stet_id *ids, unsigned *at) {
    assert_true(stet_id_equal(ids[(*at)++], j->id));
    bool was_head = w->now.head[j->key] == (int)(j - w->now.jobs);
    if (j->state == STET_JOB_DELAYED)
        j->run_at_ms = w->f->turn.wall_ms;
    j->state = STET_JOB_QUEUED;
    j->forced = true;
    settle_key(w, j->key, was_head);
}

static mjob *drain_head(world *w) {
    mjob *best = NULL;
    for (unsigned k = 0; k < KEYS; k++) {
        mjob *j = w->now.head[k] >= 0 ? &w->now.jobs[w->now.head[k]] : NULL;
        if (j == NULL || j->forced)
            continue;
        if (best == NULL || level_of(j) < level_of(best) ||
            (level_of(j) == level_of(best) && w->now.turn[k] < w->now.turn[best->key]))
            best = j;
    }
    return best;
}

static int by_place(const void *a, const void *b) {
    const mjob *x = *(mjob *const *)a, *y = *(mjob *const *)b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return goes_before(x, y) ? -1 : 1;
}

static void op_drain(world *w) {
    fixture *f = w->f;
    stet_id ids[8];
    uint32_t limit = 1 + below(w, 8), count;
    OK(stet_job_drain(&f->turn, queue(f), limit, ids, &count, e));
    unsigned at = 0;
    mjob *j;
    while (at < limit && (j = drain_head(w)) != NULL)
        force(w, j, ids, &at);
    mjob *rest[JOBS_MAX];
    unsigned waiting = 0;
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        j = &w->now.jobs[i];
        if (j->there && j->state == STET_JOB_QUEUED && !j->forced)
            rest[waiting++] = j;
    }
    qsort(rest, waiting, sizeof(*rest), by_place);
    for (unsigned i = 0; i < waiting && at < limit; i++)
        force(w, rest[i], ids, &at);
    unsigned delayed = delayed_jobs(&w->now, rest);
    for (unsigned i = 0; i < delayed && at < limit; i++)
        force(w, rest[i], ids, &at);
    assert_int_equal(at, count);
}

static void op_pause(world *w) {
    fixture *f = w->f;
    bool paused = below(w, 3) == 0;
    if (below(w, 3) == 0) {
        OK(stet_job_pause(&f->turn, queue(f), (stet_str){NULL, 0}, paused, e));
        w->now.queue_paused = paused;
        return;
    }
    unsigned key = below(w, KEYS);
    pause_key(f, KEY_NAMES[key], paused);
    w->now.key_paused[key] = paused;
    settle_key(w, key, false);
}

static void op_sweep(world *w) {
    fixture *f = w->f;
    CLEANUP(stet_buf_done) stet_buf cursor = STET_BUF(1024);
    do
        OK(stet_jobs_sweep(&f->turn, &f->service, &cursor, 1 + below(w, 50), e));
    while (cursor.size > 0);
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        mjob *j = &w->now.jobs[i];
        if (j->there && jobs_finished(j->state) && j->finished_ms <= f->turn.wall_ms - KEEP_MS)
            j->there = false;
    }
}

static int by_id(const void *a, const void *b) {
    return memcmp((*(mjob *const *)a)->id.bytes, (*(mjob *const *)b)->id.bytes, STET_ID_BYTES);
}

static void op_crash(world *w, bool in_flight) {
    fixture *f = w->f;
    release(f);
    stet_batch *batch = stet_turn_batch(&f->turn);
    if (in_flight && stet_batch_count(batch) > 0) {
        uint64_t ticket;
        OK(stet_batch_commit(batch, f->turn.wall_ms, &ticket, e));
    }
    stet_store_memory_crash(f->turn.store);
    w->now = w->durable;
    recover(f);
    mjob *active[JOBS_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < JOBS_MAX; i++)
        if (w->now.jobs[i].there && w->now.jobs[i].state == STET_JOB_ACTIVE)
            active[count++] = &w->now.jobs[i];
    qsort(active, count, sizeof(*active), by_id);
    for (unsigned i = 0; i < count; i++) {
        if (active[i]->attempt == ATTEMPTS)
            set_state(w, active[i], STET_JOB_ERROR);
        else
            goes_back(w, active[i], STET_JOB_QUEUED, f->turn.wall_ms);
    }
}

/* ---- comparing ---- */

static void compare(world *w) {
    fixture *f = w->f;
    uint64_t counts[STET_JOB_STATES_COUNT] = {0}, kept[STET_JOB_STATES_COUNT];
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        const mjob *j = &w->now.jobs[i];
        if (!j->there)
            continue;
        stet_job job = read_job(f, j->id);
        if (job.state != j->state)
            fail_msg("step %u: job %u is %s and should be %s", w->step, i, stet_job_state_name(job.state),
                     stet_job_state_name(j->state));
        assert_int_equal(job.attempt, j->attempt);
        assert_int_equal(job.attempt_total, j->total);
        assert_int_equal(job.retries, j->retries);
        assert_int_equal((uint8_t)job.payload.data[0], j->payload);
        counts[j->state]++;
    }
    OK(stet_job_counts(&f->turn, queue(f), (stet_str){NULL, 0}, kept, e));
    for (unsigned s = 0; s < STET_JOB_STATES_COUNT; s++)
        assert_int_equal(counts[s], kept[s]);
    for (unsigned k = 0; k < KEYS; k++)
        assert_true(w->key_concurrency == 0 || active_of(&w->now, (int)k) <= w->key_concurrency);
    release(f);
}

static world *world_new(uint64_t seed, uint32_t key_concurrency) {
    world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->f = fixture_new(seed);
    w->f->set = (settings){CONCURRENCY, ATTEMPTS, 500, 3000, KEEP_MS};
    w->f->queues[0].key_concurrency = key_concurrency;
    w->key_concurrency = key_concurrency;
    w->random = stet_prng_of(seed * 77 + 1);
    for (unsigned k = 0; k < KEYS; k++)
        w->now.head[k] = -1;
    w->now.next_turn = 1;
    w->durable = w->now;
    return w;
}

static void world_free(world *w) {
    fixture_free(w->f);
    free(w);
}

static void one_step(world *w) {
    unsigned choice = below(w, 100);
    w->step++;
    if (choice < 30)
        op_submit(w);
    else if (choice < 48)
        op_tick(w);
    else if (choice < 62)
        op_end(w);
    else if (choice < 67)
        op_detail(w);
    else if (choice < 72)
        op_cancel(w);
    else if (choice < 77)
        op_retry(w);
    else if (choice < 81)
        op_drain(w);
    else if (choice < 87)
        op_pause(w);
    else if (choice < 90)
        op_sweep(w);
    else
        w->f->turn.wall_ms += below(w, 1500);
    w->f->written_count = 0;
    release(w->f);
}

static void random_operations_do_what_the_twin_does(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        print_message("seed %u\n", (unsigned)seed);
        world *w = world_new(seed, (uint32_t)(seed % 4)); /* 0: no limit per key */
        for (unsigned i = 0; i < 2500; i++) {
            one_step(w);
            if (below(w, 8) == 0) {
                compare(w);
                commit(w->f);
                w->durable = w->now;
            }
            if (below(w, 60) == 0) {
                op_crash(w, below(w, 2) == 0);
                compare(w);
            }
            if (i % 16 == 0)
                verify(w->f);
        }
        compare(w);
        verify(w->f);
        world_free(w);
    }
}

/* Crash at commit 1, 2, 3, ... of the same workload, with the commit on its way lost: what was durable
 * stands. */
static void a_crash_at_any_commit_keeps_what_was_durable(void **state) {
    (void)state;
    for (unsigned crash_at = 1; crash_at <= 90; crash_at++) {
        world *w = world_new(1000, 1);
        for (unsigned number = 1; number <= crash_at + 3; number++) {
            for (unsigned i = 0; i < 4; i++)
                one_step(w);
            if (number == crash_at) {
                op_crash(w, true);
                compare(w);
                verify(w->f);
            }
            commit(w->f);
            w->durable = w->now;
        }
        op_tick(w);
        compare(w);
        verify(w->f);
        world_free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_do_what_the_twin_does),
        cmocka_unit_test(a_crash_at_any_commit_keeps_what_was_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
