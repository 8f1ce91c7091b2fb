#include "store/committer.h"
#include "proto/base/fault.h"
#include "proto/base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    /* A commit is witnessed at most this long after it; the promise is 100 ms. */
    WITNESS_AFTER_MS = 60,
    /* Up to these the caller makes the commit. Measured with 64 to 4,096 requests under way: the caller makes more of
     * small ones, of large ones the thread, beside which the caller builds the next. With the
     * default limits a turn that is full of writes is not small. */
    OWN_ROWS_MAX = 256,
    OWN_BYTES_MAX = 256 << 10,
    /* A disk that took longer may take longer again: the caller has heartbeats to send. */
    OWN_MS_MAX = 5
};

struct stet_committer {
    stet_rocks *rocks;
    stet_witness *witness;
    int event_fd;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    /* under the mutex */
    stet_commit *submitted; /* to the thread */
    bool writing;           /* somebody, the thread or the caller, has the fields below */
    bool waits_for_time;    /* the thread: until the witness is due */
    bool done, stopping;
    /* of who is writing */
    stet_buf write;
    stet_error failure; /* code != STET_OK: nothing is written any more */
    bool unwitnessed, witness_failed;
    uint64_t unwitnessed_since_ns, last_ns;
    stet_commit_record last;
};

static void write_commit(stet_committer *self, stet_commit *commit) {
    if (!stet_commit_build(commit->rows, &commit->record, &self->write)) {
        stet_error_set(&self->failure, STET_BUSY, "out of memory for the commit");
        return;
    }
    commit->write_bytes = self->write.size;
    FAULT(commit_write_before);
    if (stet_rocks_write(self->rocks, stet_buf_str(&self->write), &self->failure) != STET_OK)
        return;
    FAULT(commit_write_after);
    self->last = commit->record;
    if (!self->unwitnessed) {
        self->unwitnessed = true;
        self->unwitnessed_since_ns = stet_clock_boot_ns();
    }
}

static void run(stet_committer *self, stet_commit *commit) {
    uint64_t start = stet_clock_boot_ns();
    if (self->failure.code == STET_OK)
        write_commit(self, commit);
    commit->nanoseconds = self->last_ns = stet_clock_boot_ns() - start;
    commit->result = self->failure.code == STET_OK ? STET_COMMIT_OK : STET_COMMIT_UNKNOWN;
    commit->error = self->failure;
}

/* Also after a commit has failed: the ones before it were acknowledged. */
static void witness(stet_committer *self) {
    self->unwitnessed = false;
    if (self->witness_failed)
        return;
    stet_hash hash = stet_commit_record_hash(&self->last);
    stet_error e;
    if (stet_witness_write(self->witness, self->last.epoch, self->last.number, &hash, &e) == STET_OK)
        return;
    self->witness_failed = true;
    if (self->failure.code == STET_OK)
        self->failure = e; /* the next commit has it as its result */
}

static uint64_t witness_due_ns(const stet_committer *self) {
    return self->unwitnessed_since_ns + (uint64_t)WITNESS_AFTER_MS * 1000000;
}

/* Waits, the mutex held, for a commit, for the end, or until the witness is due, and while the caller writes. */
static void wait_for_work(stet_committer *self) {
    while (self->writing || (!self->submitted && !self->stopping)) {
        if (self->writing || !self->unwitnessed) {
            (void)pthread_cond_wait(&self->wake, &self->mutex);
            continue;
        }
        uint64_t now = stet_clock_boot_ns(), due = witness_due_ns(self);
        if (now >= due)
            return;
        struct timespec until = stet_clock_monotonic_in(due - now);
        self->waits_for_time = true;
        (void)pthread_cond_timedwait(&self->wake, &self->mutex, &until);
        self->waits_for_time = false;
    }
}

static void post(const stet_committer *self) {
    const uint64_t one = 1;
    ssize_t size;
    do
        size = write(self->event_fd, &one, sizeof one);
    while (size < 0 && errno == EINTR);
    ASSERT(size == (ssize_t)sizeof one);
}

static void *thread_main(void *argument) {
    stet_committer *self = argument;
    stet_rocks_thread_begins();
    (void)pthread_mutex_lock(&self->mutex);
    for (;;) {
        wait_for_work(self);
        stet_commit *commit = self->submitted;
        bool stopping = self->stopping;
        self->writing = true;
        (void)pthread_mutex_unlock(&self->mutex);
        if (commit)
            run(self, commit);
        (void)pthread_mutex_lock(&self->mutex);
        if (commit) {
            self->submitted = NULL;
            self->done = true;
            post(self);
        }
        (void)pthread_mutex_unlock(&self->mutex);
        if (self->unwitnessed && (stopping || stet_clock_boot_ns() >= witness_due_ns(self)))
            witness(self);
        if (stopping && !commit)
            return NULL;
        (void)pthread_mutex_lock(&self->mutex);
        self->writing = false;
    }
}

/* Signals are the loop's business. */
static bool start_thread(stet_committer *self) {
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&self->thread, NULL, thread_main, self);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        (void)pthread_setname_np(self->thread, "commit");
    return rc == 0;
}

static void release(stet_committer *self) {
    if (self->event_fd >= 0)
        (void)close(self->event_fd);
    (void)pthread_cond_destroy(&self->wake);
    (void)pthread_mutex_destroy(&self->mutex);
    stet_buf_done(&self->write);
    free(self);
}

stet_code stet_committer_start(stet_rocks *rocks, stet_witness *witness_file, stet_committer **ret,
                               stet_error *e) {
    stet_committer *self = malloc(sizeof *self);
    if (!self)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    *self = (stet_committer){.rocks = rocks,
                             .witness = witness_file,
                             .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                             .write = STET_BUF(STET_COMMIT_BYTES_MAX)};
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&self->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&self->mutex, NULL);
    if (self->event_fd < 0 || !start_thread(self)) {
        stet_error_set(e, STET_INTERNAL, "no thread or event for the store: %s", strerror(errno));
        release(self);
        return STET_INTERNAL;
    }
    *ret = self;
    return STET_OK;
}

stet_committer *stet_committer_stop(stet_committer *self) {
    if (!self)
        return NULL;
    (void)pthread_mutex_lock(&self->mutex);
    self->stopping = true;
    (void)pthread_cond_signal(&self->wake);
    (void)pthread_mutex_unlock(&self->mutex);
    (void)pthread_join(self->thread, NULL);
    release(self);
    return NULL;
}

int stet_committer_fd(const stet_committer *self) {
    return self->event_fd;
}

/* The mutex held. Nothing is for the caller while the thread is at the witness, or shall come to it. */
static bool is_for_caller(const stet_committer *self, const stet_overlay *rows) {
    if (self->writing || (self->unwitnessed && stet_clock_boot_ns() >= witness_due_ns(self)))
        return false;
    return rows->count <= OWN_ROWS_MAX && rows->bytes <= OWN_BYTES_MAX &&
           self->last_ns <= (uint64_t)OWN_MS_MAX * 1000000;
}

static void write_here(stet_committer *self, stet_commit *commit) {
    run(self, commit);
    (void)pthread_mutex_lock(&self->mutex);
    self->writing = false;
    self->done = true;
    post(self);
    if (self->unwitnessed && !self->waits_for_time)
        (void)pthread_cond_signal(&self->wake);
    (void)pthread_mutex_unlock(&self->mutex);
}

void stet_committer_submit(stet_committer *self, stet_commit *commit) {
    (void)pthread_mutex_lock(&self->mutex);
    ASSERT(!self->submitted && !self->done);
    bool here = is_for_caller(self, commit->rows);
    if (here) {
        self->writing = true;
    } else {
        self->submitted = commit;
        (void)pthread_cond_signal(&self->wake);
    }
    (void)pthread_mutex_unlock(&self->mutex);
    if (here)
        write_here(self, commit);
}

bool stet_committer_collect(stet_committer *self) {
    (void)pthread_mutex_lock(&self->mutex);
    bool done = self->done;
    self->done = false;
    uint64_t count;
    while (done && read(self->event_fd, &count, sizeof count) < 0)
        ASSERT(errno == EINTR); /* it was posted under this mutex */
    (void)pthread_mutex_unlock(&self->mutex);
    return done;
}
