/* replay - runs a fuzz target without libFuzzer: every file of a corpus, every seed, then random mutations of
 * both.
 *
 *   fuzz_TARGET [--seconds N] [--seed N] [--large] [--write-seeds DIR] [FILE | DIR]...
 *
 * Deterministic but for the moment it stops: the same seed tries the same inputs in the same order. --large
 * blows every input up to a mebibyte by repeating a piece of it, and holds it to FUZZ_CPU_MAX_MS. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/prng.h"
#include "tests/fuzz/fuzz.h"

enum { POOL_MAX = 4096, INPUT_SIZE_MAX = 1 << 16, MUTATIONS_MAX = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

typedef struct pool {
    input items[POOL_MAX];
    size_t count;
} pool;

/* The input under test, where a signal handler and the sanitizer's death callback can reach it. */
static const uint8_t *volatile current_data;
static volatile size_t current_size;
static char crash_path[256];

/* NOLINTNEXTLINE(bugprone-reserved-identifier): the name is the sanitizer runtime's */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void save_input(void) {
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
        (void)!write(fd, current_data, current_size);
        (void)close(fd);
    }
}

static void on_crash(int number) {
    save_input();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void run(const uint8_t *data, size_t size) {
    uint8_t *own = malloc(size ? size : 1); /* exactly as large, so that a sanitizer sees a step too far */
    ASSERT(own != NULL);
    memcpy(own, data, size);
    current_data = own;
    current_size = size;
    (void)LLVMFuzzerTestOneInput(own, size);
    free(own);
}

static void pool_add(pool *p, const uint8_t *data, size_t size, stet_prng *prng) {
    size_t at = p->count < POOL_MAX ? p->count++ : (size_t)stet_prng_below(prng, POOL_MAX);
    free(p->items[at].data);
    p->items[at].data = malloc(size ? size : 1);
    ASSERT(p->items[at].data != NULL);
    memcpy(p->items[at].data, data, size);
    p->items[at].size = size;
}

static void add_file(pool *p, const char *path, stet_prng *prng) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    uint8_t *data = malloc(INPUT_SIZE_MAX);
    ASSERT(data != NULL);
    pool_add(p, data, fread(data, 1, INPUT_SIZE_MAX, file), prng);
    free(data);
    (void)fclose(file);
}

static void add_path(pool *p, const char *path, stet_prng *prng) {
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISDIR(status.st_mode)) {
        add_file(p, path, prng);
        return;
    }
    DIR *directory = opendir(path);
    if (directory == NULL)
        return; /* no corpus yet */
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        add_file(p, name, prng);
    }
    (void)closedir(directory);
}

static void add_seeds(pool *p, const char *write_to, stet_prng *prng) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(INPUT_SIZE_MAX);
    for (size_t i = 0; stet_buf_clear(&b), fuzz_seed(i, &b); i++) {
        ASSERT(stet_buf_ok(&b));
        pool_add(p, b.data, b.size, prng);
        if (write_to) {
            char name[4096];
            (void)snprintf(name, sizeof name, "%s/seed-%zu", write_to, i);
            FILE *file = fopen(name, "wb");
            ASSERT(file != NULL);
            (void)fwrite(b.data, 1, b.size, file);
            (void)fclose(file);
        }
    }
}

/* One change of a kind that parsers trip over. Returns the new size. */
static size_t mutate(uint8_t *data, size_t size, const pool *p, stet_prng *prng) {
    static const uint8_t odd[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4,
                                  0xc6, 0xc7, 0xca, 0xcb, 0xcf, 0xd3, 0xd9, 0xdb, 0xdc, 0xdd, 0xde,
                                  0xdf, 0xe0, 0xff, '"',  '\\', '{',  '}',  '[',  ',',  '0'};
    size_t at = (size_t)stet_prng_below(prng, size + 1);
    size_t room = INPUT_SIZE_MAX - size;
    size_t length = 1 + (size_t)stet_prng_below(prng, stet_prng_below(prng, 4) ? 4 : 64);
    switch (stet_prng_below(prng, 8)) {
    case 0:
        if (at < size)
            data[at] ^= (uint8_t)(1U << stet_prng_below(prng, 8));
        return size;
    case 1:
        if (at < size)
            data[at] = odd[stet_prng_below(prng, sizeof odd)];
        return size;
    case 2:
        if (at < size)
            data[at] = (uint8_t)stet_prng_next(prng);
        return size;
    case 3: /* drop */
        if (length > size - at)
            length = size - at;
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    case 4: /* insert */
        if (length > room)
            return size;
        memmove(data + at + length, data + at, size - at);
        for (size_t i = 0; i < length; i++)
            data[at + i] = stet_prng_below(prng, 2) ? odd[stet_prng_below(prng, sizeof odd)]
                                                    : (uint8_t)stet_prng_next(prng);
        return size + length;
    case 5: /* repeat a piece */
        if (length > size - at || length > room)
            return size;
        memmove(data + at + length, data + at, size - at);
        return size + length;
    case 6: { /* the tail of another */
        const input *other = &p->items[stet_prng_below(prng, p->count)];
        size_t from = (size_t)stet_prng_below(prng, other->size + 1);
        size_t tail = other->size - from;
        if (tail > INPUT_SIZE_MAX - at)
            tail = INPUT_SIZE_MAX - at;
        memcpy(data + at, other->data + from, tail);
        return at + tail;
    }
    default:
        return at;
    }
}

/* Ends in the tail of the input, so that what was opened is closed again. */
static size_t blow_up(uint8_t *data, size_t size, stet_prng *prng) {
    size_t at = (size_t)stet_prng_below(prng, size);
    size_t length = 1 + (size_t)stet_prng_below(prng, stet_prng_below(prng, 2) ? 8 : 200);
    if (length > size - at)
        length = size - at;
    size_t tail = size - at - length;
    size_t times = (FUZZ_INPUT_MAX - size) / length;
    memmove(data + at + length + times * length, data + at + length, tail);
    for (size_t i = 0; i < times; i++)
        memcpy(data + at + length + i * length, data + at, length);
    return size + times * length;
}

static void fuzz_large(const pool *p, uint64_t seconds, stet_prng *prng) {
    uint8_t *data = malloc(FUZZ_INPUT_MAX);
    ASSERT(data != NULL);
    fuzz_cost worst = {.memory = 0};
    uint64_t rounds = 0;
    for (int64_t until_ms = stet_clock_boot_ms() + (int64_t)(seconds * 1000);
         stet_clock_boot_ms() < until_ms;) {
        const input *from = &p->items[stet_prng_below(prng, p->count)];
        if (from->size == 0)
            continue;
        memcpy(data, from->data, from->size);
        size_t size = blow_up(data, from->size, prng);
        run(data, size);
        fuzz_cost cost = fuzz_last_cost();
        worst.memory = cost.memory > worst.memory ? cost.memory : worst.memory;
        if (cost.cpu_ms > worst.cpu_ms) {
            worst.cpu_ms = cost.cpu_ms;
            current_data = data;
            current_size = size;
            if (cost.cpu_ms > FUZZ_CPU_MAX_MS)
                save_input();
        }
        rounds++;
    }
    printf("%llu large inputs: at most %lld ms and %lld KiB each\n", (unsigned long long)rounds,
           (long long)worst.cpu_ms, (long long)worst.memory / 1024);
    free(data);
    if (worst.cpu_ms > FUZZ_CPU_MAX_MS)
        exit(1);
}

static uint64_t fuzz(pool *p, uint64_t seconds, stet_prng *prng) {
    uint8_t *data = malloc(INPUT_SIZE_MAX);
    ASSERT(data != NULL);
    uint64_t rounds = 0;
    int64_t until_ms = stet_clock_boot_ms() + (int64_t)(seconds * 1000);
    while (p->count > 0 && (rounds % 16 != 0 || stet_clock_boot_ms() < until_ms)) {
        const input *from = &p->items[stet_prng_below(prng, p->count)];
        size_t size = from->size;
        memcpy(data, from->data, size);
        for (uint64_t changes = 1 + stet_prng_below(prng, MUTATIONS_MAX); changes > 0; changes--)
            size = mutate(data, size, p, prng);
        run(data, size);
        if (size < 4096 && stet_prng_below(prng, 64) == 0)
            pool_add(p, data, size, prng); /* wander off */
        rounds++;
    }
    free(data);
    return rounds;
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/');
    (void)snprintf(crash_path, sizeof crash_path, "crash-%s", slash ? slash + 1 : argv[0]);
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        (void)signal(signals[i], on_crash);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(save_input);
    uint64_t seconds = 0, seed = 1;
    bool large = false;
    const char *write_to = NULL;
    pool *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    stet_prng prng = stet_prng_of(seed);
    for (int i = 1; i < argc; i++) {
        bool value = i + 1 < argc;
        if (value && strcmp(argv[i], "--seconds") == 0)
            seconds = strtoull(argv[++i], NULL, 10);
        else if (value && strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--large") == 0)
            large = true;
        else if (value && strcmp(argv[i], "--write-seeds") == 0)
            write_to = argv[++i];
        else
            add_path(p, argv[i], &prng);
    }
    size_t files = p->count;
    add_seeds(p, write_to, &prng);
    size_t seeds = p->count - files;
    for (size_t i = 0; i < p->count; i++)
        run(p->items[i].data, p->items[i].size);
    prng = stet_prng_of(seed);
    if (large && p->count > 0)
        fuzz_large(p, seconds, &prng);
    uint64_t rounds = large ? 0 : fuzz(p, seconds, &prng);
    printf("%zu files, %zu seeds, %llu mutations from seed %llu: no property broken\n", files, seeds,
           (unsigned long long)rounds, (unsigned long long)seed);
    for (size_t i = 0; i < POOL_MAX; i++)
        free(p->items[i].data);
    free(p);
    return 0;
}
