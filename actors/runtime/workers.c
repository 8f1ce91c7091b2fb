#include "actors/runtime/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct item {
    struct item *next;
    stet_call_ref ref;
    stet_work_fn *work;
    stet_buf input;
    stet_code code;
    stet_error error;
    stet_buf result;
} item;

typedef struct list {
    item *first;
    item *last;
} list;

struct stet_workers {
    pthread_mutex_t lock; /* guards waiting, finished and stopping */
    pthread_cond_t wake;
    list waiting;
    list finished; /* the eventfd is readable exactly while this is not empty */
    bool stopping;

    int fd;
    size_t pending; /* the loop's only */
    uint32_t pending_max;
    uint32_t threads_max;
    uint32_t threads_count;
    pthread_t threads[];
};

static void push(list *l, item *i) {
    i->next = NULL;
    if (l->last != NULL)
        l->last->next = i;
    else
        l->first = i;
    l->last = i;
}

static item *pop(list *l) {
    item *i = l->first;
    if (i == NULL)
        return NULL;
    l->first = i->next;
    if (l->first == NULL)
        l->last = NULL;
    i->next = NULL;
    return i;
}

static void item_free(item *i) {
    if (i == NULL)
        return;
    stet_buf_done(&i->input);
    stet_buf_done(&i->result);
    free(i);
}

static void list_free(list *l) {
    for (item *i = pop(l); i != NULL; i = pop(l))
        item_free(i);
}

static void item_work(item *i) {
    i->code = i->work(stet_buf_str(&i->input), &i->result, &i->error);
    if (i->code == STET_OK && stet_buf_starved(&i->result))
        i->code = stet_error_set(&i->error, STET_BUSY, "no memory for the result of the work");
    if (i->code == STET_OK && !stet_buf_ok(&i->result))
        i->code = stet_error_set(&i->error, STET_TOO_LARGE, "the result of the work passes %d bytes",
                                 STET_WORK_RESULT_BYTES_MAX);
    if (i->code != STET_OK)
        stet_buf_done(&i->result);
    stet_buf_done(&i->input);
}

static void signal_fd(int fd) {
    const uint64_t one = 1;
    ssize_t rc;
    do
        rc = write(fd, &one, sizeof one);
    while (rc < 0 && errno == EINTR);
    ASSERT(
        rc ==
        (ssize_t)sizeof one); /* the counter cannot fill: one write a pending piece, and those are bounded */
}

static void *thread_main(void *argument) {
    stet_workers *self = argument;
    (void)pthread_mutex_lock(&self->lock);
    for (;;) {
        while (!self->stopping && self->waiting.first == NULL)
            (void)pthread_cond_wait(&self->wake, &self->lock);
        if (self->stopping)
            break;
        item *i = pop(&self->waiting);
        (void)pthread_mutex_unlock(&self->lock);
        item_work(i);
        (void)pthread_mutex_lock(&self->lock);
        push(&self->finished, i);
        signal_fd(self->fd);
    }
    (void)pthread_mutex_unlock(&self->lock);
    return NULL;
}

stet_code stet_workers_new(uint32_t threads, uint32_t pending_max, stet_workers **ret, stet_error *e) {
    ASSERT(threads > 0);
    ASSERT(pending_max > 0);
    stet_workers *self = calloc(1, sizeof *self + threads * sizeof(pthread_t));
    if (self == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "no memory for the worker threads");
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->fd < 0) {
        free(self);
        return stet_error_set(e, STET_UNAVAILABLE, "no eventfd for the worker threads: %s", strerror(errno));
    }
    self->threads_max = threads;
    self->pending_max = pending_max;
    (void)pthread_mutex_init(&self->lock, NULL);
    (void)pthread_cond_init(&self->wake, NULL);
    *ret = self;
    return STET_OK;
}

stet_workers *stet_workers_free(stet_workers *self) {
    if (self == NULL)
        return NULL;
    (void)pthread_mutex_lock(&self->lock);
    self->stopping = true;
    (void)pthread_cond_broadcast(&self->wake);
    (void)pthread_mutex_unlock(&self->lock);
    for (uint32_t i = 0; i < self->threads_count; i++)
        (void)pthread_join(self->threads[i], NULL);
    list_free(&self->waiting);
    list_free(&self->finished);
    (void)pthread_cond_destroy(&self->wake);
    (void)pthread_mutex_destroy(&self->lock);
    (void)close(self->fd);
    free(self);
    return NULL;
}

int stet_workers_fd(const stet_workers *self) {
    return self->fd;
}

/* One thread more while there is work for it. Signals are the loop's: a thread that took SIGTERM would hide
 * it. */
static int grow(stet_workers *self) {
    if (self->threads_count == self->threads_max || self->threads_count > self->pending)
        return 0;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&self->threads[self->threads_count], NULL, thread_main, self);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        self->threads_count++;
    return self->threads_count > 0 ? 0 : rc;
}

stet_code stet_workers_start(stet_workers *self, stet_call_ref ref, stet_work_fn *work, stet_str input,
                             stet_error *e) {
    ASSERT(work != NULL);
    if (self->pending == self->pending_max)
        return stet_error_set(e, STET_BUSY, "%u pieces of work are pending already", self->pending_max);
    int rc = grow(self);
    if (rc != 0)
        return stet_error_set(e, STET_UNAVAILABLE, "no worker thread: %s", strerror(rc));
    item *i = calloc(1, sizeof *i);
    if (i == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "no memory for the work");
    i->ref = ref;
    i->work = work;
    i->input = (stet_buf)STET_BUF(input.size);
    i->result = (stet_buf)STET_BUF(STET_WORK_RESULT_BYTES_MAX);
    stet_buf_append_str(&i->input, input);
    if (!stet_buf_ok(&i->input)) {
        item_free(i);
        return stet_error_set(e, STET_UNAVAILABLE, "no memory for the work's input");
    }
    self->pending++;
    (void)pthread_mutex_lock(&self->lock);
    push(&self->waiting, i);
    (void)pthread_cond_signal(&self->wake);
    (void)pthread_mutex_unlock(&self->lock);
    return STET_OK;
}

bool stet_workers_next(stet_workers *self, stet_work_result *ret) {
    uint64_t count;
    (void)pthread_mutex_lock(&self->lock);
    item *i = pop(&self->finished);
    if (self->finished.first == NULL) {
        ssize_t rc = read(self->fd, &count, sizeof count); /* EAGAIN when it was not set: as good */
        (void)rc;
    }
    (void)pthread_mutex_unlock(&self->lock);
    if (i == NULL)
        return false;
    ASSERT(self->pending > 0);
    self->pending--;
    *ret = (stet_work_result){.ref = i->ref, .code = i->code, .error = i->error, .result = i->result};
    i->result = (stet_buf)STET_BUF(0);
    item_free(i);
    return true;
}

void stet_work_result_done(stet_work_result *self) {
    stet_buf_done(&self->result);
}

size_t stet_workers_pending(const stet_workers *self) {
    return self->pending;
}
