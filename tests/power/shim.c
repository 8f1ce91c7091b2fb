/* shim - LD_PRELOAD library between a program and its disk, for files below STET_SHIM_DIR.
 *
 * 1. Power loss (STET_SHIM_LOG=FILE, STET_SHIM_GRAVES=DIR on the same file system): notes what a test needs
 * to work out afterwards what a power cut would have left. One line per event, in FILE, which outlives a
 * SIGKILL. A line is written before a call that changes something and after one that makes something durable,
 * so that a kill between never makes more look durable than was. W path begin end       written O path begin
 * hex       ... over these bytes S path size            so many bytes are durable      D path the entries of
 * the directory are C path, M path         file, directory is created     T path size            truncated R
 * from to grave        renamed; what the target was is linked at the grave ("-": there was none) X a b
 * exchanged                      U path grave           unlinked L from to              linked Fields are
 * separated by tabs.
 * 2. Failures: STET_SHIM_FAIL=EIO|ENOSPC|SHORT, STET_SHIM_AT=n, STET_SHIM_FOREVER=0|1: the n-th of write,
 * pwrite, fsync, fdatasync, open for writing, rename, link, unlink, ftruncate, fallocate fails so, or all
 * from the n-th on.
 *    STET_SHIM_SWITCH=FILE: while there is such a file, all of them that need room fail with what it names,
 * EDQUOT or EROFS (the latter also those that change names); with SLOW in it none fails, but each write to a table (*.sst)
 * takes STET_SHIM_SLOW=ms, so that logs stay needed.
 * STET_SHIM_DIE=NAME, STET_SHIM_DIE_AT=n: SIGKILL instead of the n-th sync of files whose path contains NAME.
 * 3. STET_SHIM_MALLOC_AT=n, STET_SHIM_FOREVER: the n-th malloc, calloc or realloc that the program itself
 * asks for (not a library: the caller's address decides) gives NULL. STET_SHIM_COUNT=FILE: three 64-bit
 * numbers, kept up to date: calls that could fail, failures, allocations. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FD_MAX = 4096, SHORT = -1 };

static char directory[PATH_MAX];
static size_t directory_size;
static char graves[PATH_MAX];
static char switch_file[PATH_MAX];
static _Atomic uint64_t graves_count;
static int log_fd = -1;
static int fail_errno;
static bool fail_forever;
static const char *die_name;
static uint64_t fail_at, malloc_at, slow_ms, die_at;
static _Atomic uint64_t syncs;
static _Atomic uint64_t calls, failures, allocations;
static struct shared { _Atomic uint64_t calls, failures, allocations; } * shared;
static uintptr_t program_begin, program_end;
static char *volatile paths[FD_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool ready;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

/* Where the program's own code lies, from /proc: the shim's symbols are not the program's. */
static void find_program(void) {
    char exe[PATH_MAX], line[PATH_MAX + 128];
    ssize_t size = readlink("/proc/self/exe", exe, sizeof exe - 1);
    FILE *maps = size > 0 ? fopen("/proc/self/maps", "re") : NULL;
    if (!maps)
        return;
    exe[size] = '\0';
    while (fgets(line, sizeof line, maps)) {
        char *dash, *end;
        unsigned long from = strtoul(line, &dash, 16);
        unsigned long to = *dash == '-' ? strtoul(dash + 1, &end, 16) : 0;
        if (to <= from || !strstr(line, exe))
            continue;
        if (!program_begin || from < program_begin)
            program_begin = from;
        if (to > program_end)
            program_end = to;
    }
    (void)fclose(maps);
}

static uint64_t number(const char *name) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void start(void) {
    const char *text = getenv("STET_SHIM_DIR");
    if (!text || !realpath(text, directory))
        return;
    directory_size = strlen(directory);
    text = getenv("STET_SHIM_FAIL");
    fail_errno = !text ? 0 : strcmp(text, "ENOSPC") == 0 ? ENOSPC : strcmp(text, "SHORT") == 0 ? SHORT : EIO;
    fail_at = number("STET_SHIM_AT");
    fail_forever = number("STET_SHIM_FOREVER") != 0;
    text = getenv("STET_SHIM_LOG");
    if (text)
        log_fd = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    text = getenv("STET_SHIM_GRAVES");
    (void)snprintf(graves, sizeof graves, "%s", text ? text : "");
    text = getenv("STET_SHIM_SWITCH");
    (void)snprintf(switch_file, sizeof switch_file, "%s", text ? text : "");
    text = getenv("STET_SHIM_COUNT");
    int fd = text ? open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0 && REAL(ftruncate)(fd, sizeof *shared) == 0)
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        (void)close(fd);
    if (shared == MAP_FAILED)
        abort();
    find_program();
    malloc_at = number("STET_SHIM_MALLOC_AT");
    slow_ms = number("STET_SHIM_SLOW");
    die_name = getenv("STET_SHIM_DIE");
    die_at = number("STET_SHIM_DIE_AT");
    ready = true;
}

/* ---- which files ---- */

static bool absolute(const char *path, char into[PATH_MAX]) {
    char cwd[PATH_MAX / 2];
    if (path[0] == '/')
        return snprintf(into, PATH_MAX, "%s", path) < PATH_MAX;
    return getcwd(cwd, sizeof cwd) && snprintf(into, PATH_MAX, "%s/%s", cwd, path) < PATH_MAX;
}

static bool ours(const char *path, char into[PATH_MAX]) {
    return ready && absolute(path, into) && strncmp(into, directory, directory_size) == 0 &&
           (into[directory_size] == '/' || into[directory_size] == '\0');
}

/* The path an fd was opened with; renames are followed by the reader of the log, who knows them. */
static const char *path_of(int fd) {
    return ready && fd >= 0 && fd < FD_MAX ? paths[fd] : NULL;
}

static void remember(int fd, const char *path) {
    if (fd < 0 || fd >= FD_MAX)
        return;
    char *copy = path ? strdup(path) : NULL;
    (void)pthread_mutex_lock(&lock);
    paths[fd] = copy; /* the old one may be in use by another thread: a few bytes are left */
    (void)pthread_mutex_unlock(&lock);
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
    if (log_fd < 0)
        return;
    int saved = errno;
    char line[3 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (size > 0 && REAL(write)(log_fd, line, (size_t)size) != size)
        abort();
    errno = saved;
}

/* ---- failures ---- */

static bool hits(_Atomic uint64_t *counter, uint64_t at) {
    uint64_t n = atomic_fetch_add(counter, 1) + 1;
    return at && (n == at || (fail_forever && n > at));
}

/* True: errno is set and the call must fail. SHORT makes only writes short; the rest fails with EIO. */
static bool fails(bool *ret_short) {
    bool hit = hits(&calls, fail_errno ? fail_at : 0);
    if (shared)
        atomic_store(&shared->calls, atomic_load(&calls));
    if (!hit)
        return false;
    uint64_t count = atomic_fetch_add(&failures, 1) + 1;
    if (shared)
        atomic_store(&shared->failures, count);
    if (fail_errno == SHORT && ret_short) {
        *ret_short = true;
        return false;
    }
    errno = fail_errno == SHORT ? EIO : fail_errno;
    return true;
}

/* What the switch says now. */
static void read_switch(char name[16]) {
    memset(name, 0, 16);
    int fd = switch_file[0] ? REAL(open)(switch_file, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    if (read(fd, name, 15) < 0)
        name[0] = '\0';
    (void)REAL(close)(fd);
}

/* True: errno is set and a call that needs room, or changes names, must fail. */
static bool refuses(bool needs_room) {
    char name[16];
    read_switch(name);
    bool read_only = strcmp(name, "EROFS") == 0;
    if (!read_only && (!needs_room || strcmp(name, "EDQUOT") != 0))
        return false;
    errno = read_only ? EROFS : EDQUOT;
    return true;
}

/* ---- calls ---- */

static int opened(int fd, const char *path, bool existed, int flags) {
    if (fd >= 0) {
        if ((flags & O_CREAT) && !existed)
            note("C\t%s\n", path);
        if (flags & O_TRUNC)
            note("T\t%s\t0\n", path);
        remember(fd, path);
    }
    return fd;
}

static int open_file(const char *path, int flags, mode_t mode, int (*call)(const char *, int, ...)) {
    char full[PATH_MAX];
    if (!ours(path, full)) {
        int fd = call(path, flags, mode);
        if (fd >= 0 && fd < FD_MAX && paths[fd])
            remember(fd, NULL);
        return fd;
    }
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    bool existed = access(full, F_OK) == 0;
    if (writes && (refuses((flags & O_CREAT) && !existed) || fails(NULL)))
        return -1;
    return opened(call(path, flags, mode), full, existed, flags);
}

#define MODE_OF(flags)                                                                                       \
    mode_t mode = 0;                                                                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                   \
        va_list arguments;                                                                                   \
        va_start(arguments, flags);                                                                          \
        mode = va_arg(arguments, mode_t);                                                                    \
        va_end(arguments);                                                                                   \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_file(path, flags, mode, REAL(open));
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_file(path, flags, mode, REAL(open));
}

/* RocksDB opens some files by stdio. */
static FILE *open_stream(const char *path, const char *mode, FILE *(*call)(const char *, const char *)) {
    char full[PATH_MAX];
    bool writes = mode[0] != 'r' || strchr(mode, '+');
    bool mine = ours(path, full);
    if (mine && writes && fails(NULL))
        return NULL;
    bool existed = !mine || access(full, F_OK) == 0;
    FILE *file = call(path, mode);
    if (file && mine)
        (void)opened(fileno(file), full, existed, writes ? O_CREAT : 0);
    return file;
}

FILE *fopen(const char *path, const char *mode) {
    return open_stream(path, mode, REAL(fopen));
}

FILE *fopen64(const char *path, const char *mode) {
    return open_stream(path, mode, REAL(fopen));
}

int close(int fd) {
    if (path_of(fd))
        remember(fd, NULL);
    return REAL(close)(fd);
}

/* Notes a write of `size` bytes at `at`, and what it overwrites when that is little: the rest is appended to.
 */
static void note_write(const char *path, long long at, size_t size) {
    enum { OLD_MAX = 4096 };
    struct stat status;
    if (log_fd < 0)
        return;
    note("W\t%s\t%lld\t%lld\n", path, at, at + (long long)size);
    if (stat(path, &status) != 0 || at >= status.st_size)
        return;
    uint8_t old[OLD_MAX];
    char hex[2 * OLD_MAX + 1] = "";
    int fd = REAL(open)(path, O_RDONLY | O_CLOEXEC);
    ssize_t found = fd < 0 ? 0 : pread(fd, old, size < sizeof old ? size : sizeof old, (off_t)at);
    for (ssize_t i = 0; i < found; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", old[i]);
    if (fd >= 0)
        (void)REAL(close)(fd);
    note("O\t%s\t%lld\t%s\n", path, at, hex);
}

static long long position(int fd) {
    struct stat status;
    if (fcntl(fd, F_GETFL) & O_APPEND)
        return fstat(fd, &status) == 0 ? (long long)status.st_size : 0;
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : (long long)at;
}

/* Keeps what is about to lose its name. */
static const char *bury(const char *path, char grave[PATH_MAX]) {
    (void)snprintf(grave, PATH_MAX, "%s/%d-%llu", graves, (int)getpid(),
                   (unsigned long long)atomic_fetch_add(&graves_count, 1));
    int saved = errno;
    bool kept = log_fd >= 0 && graves[0] && REAL(link)(path, grave) == 0;
    errno = saved;
    return kept ? grave : "-";
}

static void slow_down(const char *path) {
    char name[16];
    size_t size = slow_ms ? strlen(path) : 0;
    if (size < 4 || strcmp(path + size - 4, ".sst") != 0)
        return;
    read_switch(name);
    if (strcmp(name, "SLOW") == 0)
        (void)usleep((useconds_t)slow_ms * 1000);
}

ssize_t write(int fd, const void *data, size_t size) {
    const char *path = path_of(fd);
    if (path)
        slow_down(path);
    bool cut = false;
    if (path && (refuses(true) || fails(&cut)))
        return -1;
    if (cut)
        size = size > 1 ? size / 2 : size;
    if (path)
        note_write(path, position(fd), size);
    return REAL(write)(fd, data, size);
}

static ssize_t write_at(int fd, const void *data, size_t size, off_t at) {
    const char *path = path_of(fd);
    bool cut = false;
    if (path && (refuses(true) || fails(&cut)))
        return -1;
    if (cut)
        size = size > 1 ? size / 2 : size;
    if (path)
        note_write(path, (long long)at, size);
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return write_at(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return write_at(fd, data, size, (off_t)at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    const char *path = path_of(fd);
    if (path && (refuses(true) || fails(NULL)))
        return -1;
    if (path) {
        size_t size = 0;
        for (int i = 0; i < count; i++)
            size += parts[i].iov_len;
        note_write(path, position(fd), size);
    }
    return REAL(writev)(fd, parts, count);
}

static int sync_file(int fd, int (*call)(int)) {
    const char *path = path_of(fd);
    struct stat status;
    if (!path)
        return call(fd);
    if (die_name && strstr(path, die_name) && atomic_fetch_add(&syncs, 1) + 1 == die_at)
        (void)raise(SIGKILL);
    if (fails(NULL))
        return -1;
    if (fstat(fd, &status) != 0)
        return -1;
    int rc = call(fd);
    /* The size from before: what was written meanwhile may not be covered. */
    if (rc == 0)
        note(S_ISDIR(status.st_mode) ? "D\t%s\n" : "S\t%s\t%lld\n", path, (long long)status.st_size);
    return rc;
}

int fsync(int fd) {
    return sync_file(fd, REAL(fsync));
}

int fdatasync(int fd) {
    return sync_file(fd, REAL(fdatasync));
}

static int truncate_file(int fd, off_t size) {
    const char *path = path_of(fd);
    if (path && fails(NULL))
        return -1;
    if (path)
        note("T\t%s\t%lld\n", path, (long long)size);
    return REAL(ftruncate)(fd, size);
}

int ftruncate(int fd, off_t size) {
    return truncate_file(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    return truncate_file(fd, (off_t)size);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
    if (path_of(fd) && (refuses(true) || fails(NULL)))
        return -1;
    return REAL(fallocate)(fd, mode, at, size);
}

int fallocate64(int fd, int mode, off64_t at, off64_t size) {
    return fallocate(fd, mode, (off_t)at, (off_t)size);
}

int rename(const char *from, const char *to) {
    char a[PATH_MAX], b[PATH_MAX];
    if (!ours(from, a) || !ours(to, b))
        return REAL(rename)(from, to);
    if (refuses(false) || fails(NULL))
        return -1;
    char grave[PATH_MAX];
    note("R\t%s\t%s\t%s\n", a, b, bury(b, grave));
    return REAL(rename)(from, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    char a[PATH_MAX], b[PATH_MAX];
    if (!ours(from, a) || !ours(to, b))
        return REAL(renameat2)(from_fd, from, to_fd, to, flags);
    if (refuses(false) || fails(NULL))
        return -1;
    note(flags & RENAME_EXCHANGE ? "X\t%s\t%s\n" : "R\t%s\t%s\t-\n", a, b);
    return REAL(renameat2)(from_fd, from, to_fd, to, flags);
}

int link(const char *from, const char *to) {
    char a[PATH_MAX], b[PATH_MAX];
    if (!ours(from, a) || !ours(to, b))
        return REAL(link)(from, to);
    if (refuses(true) || fails(NULL))
        return -1;
    note("L\t%s\t%s\n", a, b);
    return REAL(link)(from, to);
}

int unlink(const char *path) {
    char full[PATH_MAX];
    if (!ours(path, full))
        return REAL(unlink)(path);
    if (refuses(false) || fails(NULL))
        return -1;
    char grave[PATH_MAX];
    note("U\t%s\t%s\n", full, bury(full, grave));
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (!ours(path, full) || access(full, F_OK) == 0) /* EEXIST comes before any failure of the disk */
        return REAL(mkdir)(path, mode);
    if (refuses(true) || fails(NULL))
        return -1;
    int rc = REAL(mkdir)(path, mode);
    if (rc == 0)
        note("M\t%s\n", full);
    return rc;
}

/* ---- memory ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier): the names are glibc's */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
/* NOLINTEND(bugprone-reserved-identifier) */

static bool out_of_memory(const void *caller) {
    uintptr_t at = (uintptr_t)caller;
    if (!ready || at < program_begin || at >= program_end)
        return false;
    bool hit = hits(&allocations, malloc_at);
    if (shared)
        atomic_store(&shared->allocations, atomic_load(&allocations));
    if (!hit)
        return false;
    uint64_t count = atomic_fetch_add(&failures, 1) + 1;
    if (shared)
        atomic_store(&shared->failures, count);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size) {
    return out_of_memory(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return out_of_memory(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    return out_of_memory(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
