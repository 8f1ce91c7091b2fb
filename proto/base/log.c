/* log - how a line is made.
 *
 * A line is built in a buffer on the stack and leaves in one write(), so lines of several processes that
 * share a stderr do not mix. The lock covers the limiter only. The limiter is a small direct-mapped table by
 * event name: two names in one slot only share their budget. It and the program's name are the one
 * process-wide state of Stet: a log line may be due anywhere, also where no context is at hand. */
#include "proto/base/log.h"

#include "proto/base/buf.h"
#include "proto/base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 8192, TEXT_BYTES_MAX = 1024, SLOTS = 64, PER_SECOND = 20 };

typedef struct limiter_slot {
    const char *event;
    int64_t window_ms;
    uint32_t lines;
    uint64_t suppressed;
} limiter_slot;

static struct {
    pthread_mutex_t lock;
    const char *program;
    stet_level least;
    bool human;
    limiter_slot slots[SLOTS];
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER, .program = "stet", .least = STET_INFO};

static const char *const level_names[] = {
    [STET_DEBUG] = "debug", [STET_INFO] = "info", [STET_WARN] = "warn", [STET_ERROR] = "error"};

void stet_log_init(const char *program, stet_level least) {
    ASSERT(program != NULL);
    (void)pthread_mutex_lock(&logger.lock);
    logger.program = program;
    logger.least = least;
    logger.human = isatty(STDERR_FILENO) == 1;
    memset(logger.slots, 0, sizeof logger.slots);
    (void)pthread_mutex_unlock(&logger.lock);
}

const char *stet_level_name(stet_level level) {
    size_t index = (size_t)level & ~(size_t)STET_RECORD;
    ASSERT(index < COUNT_OF(level_names));
    return level_names[index];
}

stet_level stet_level_from_name(stet_str name, stet_level fallback) {
    for (size_t i = 0; i < COUNT_OF(level_names); i++) {
        if (stet_str_is(name, level_names[i]))
            return (stet_level)i;
    }
    return fallback;
}

/* False when the line is held back; otherwise what was held back before it. Called with the lock held. */
static bool admit(const char *event, int64_t boot_ms, uint64_t *ret_suppressed) {
    uint32_t hash = 2166136261u;
    for (const char *at = event; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    limiter_slot *slot = &logger.slots[hash % SLOTS];
    if (slot->event == NULL || boot_ms - slot->window_ms >= 1000) {
        slot->event = event;
        slot->window_ms = boot_ms;
        slot->lines = 0;
    }
    if (slot->lines >= PER_SECOND) {
        slot->suppressed++;
        return false;
    }
    slot->lines++;
    *ret_suppressed = slot->suppressed;
    slot->suppressed = 0;
    return true;
}

/* Length of the well-formed UTF-8 character at the start of `text`, 0 when there is none. */
static size_t utf8_length(const uint8_t *text, size_t size) {
    uint8_t first = text[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                    : (first & 0xF0) == 0xE0         ? 3
                    : first >= 0xF0 && first <= 0xF4 ? 4
                                                     : 0;
    if (length == 0 || size < length)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    }
    bool overlong = (first == 0xE0 && text[1] < 0xA0) || (first == 0xF0 && text[1] < 0x90);
    bool beyond = (first == 0xED && text[1] > 0x9F) || (first == 0xF4 && text[1] > 0x8F);
    return overlong || beyond ? 0 : length;
}

/* How many bytes stand in a line as they are, nearly always all. */
static size_t plain_run(const uint8_t *text, size_t size) {
    size_t i = 0;
    while (i < size && text[i] >= 0x20 && text[i] < 0x7F && text[i] != '"' && text[i] != '\\')
        i++;
    return i;
}

/* The same escaping serves both formats: no control character of a peer reaches a log file or a terminal. */
static void put_escaped(stet_buf *b, stet_str text) {
    size_t size = text.size > TEXT_BYTES_MAX ? TEXT_BYTES_MAX : text.size;
    const uint8_t *at = (const uint8_t *)text.data;
    for (size_t i = 0; i < size;) {
        size_t run = plain_run(at + i, size - i);
        stet_buf_append(b, at + i, run);
        i += run;
        if (i == size)
            break;
        size_t length = utf8_length(at + i, size - i);
        if (length == 0) {
            stet_buf_append(b, "\xEF\xBF\xBD", 3);
            i++;
            continue;
        }
        uint8_t c = at[i];
        bool c1_control = length == 2 && c == 0xC2 && at[i + 1] < 0xA0;
        if (c == '"' || c == '\\') {
            stet_buf_append_byte(b, '\\');
            stet_buf_append_byte(b, c);
        } else if (c == '\n') {
            stet_buf_append(b, "\\n", 2);
        } else if (c < 0x20 || c == 0x7F) {
            stet_buf_printf(b, "\\u%04x", c);
        } else if (c1_control) {
            stet_buf_printf(b, "\\u%04x", at[i + 1]);
        } else {
            stet_buf_append(b, at + i, length);
        }
        i += length;
    }
    if (size < text.size)
        stet_buf_append(b, "...", 3);
}

static void put_digits(stet_buf *b, int number, int digits) {
    char text[4];
    ASSERT(digits <= (int)sizeof text);
    for (int i = digits - 1; i >= 0; i--, number /= 10)
        text[i] = (char)('0' + number % 10);
    stet_buf_append(b, text, (size_t)digits);
}

static void put_time(stet_buf *b, int64_t wall_ms, bool human) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts = {0};
    if (human) {
        (void)localtime_r(&seconds, &parts);
    } else {
        (void)gmtime_r(&seconds, &parts);
        put_digits(b, parts.tm_year + 1900, 4);
        stet_buf_append_byte(b, '-');
        put_digits(b, parts.tm_mon + 1, 2);
        stet_buf_append_byte(b, '-');
        put_digits(b, parts.tm_mday, 2);
        stet_buf_append_byte(b, 'T');
    }
    put_digits(b, parts.tm_hour, 2);
    stet_buf_append_byte(b, ':');
    put_digits(b, parts.tm_min, 2);
    stet_buf_append_byte(b, ':');
    put_digits(b, parts.tm_sec, 2);
    stet_buf_append_byte(b, '.');
    put_digits(b, (int)(wall_ms % 1000), 3);
    if (!human)
        stet_buf_append_byte(b, 'Z');
}

/* Constants and names of ours, which need no escaping. */
static void put(stet_buf *b, const char *text) {
    stet_buf_append(b, text, strlen(text));
}

static void put_json(stet_buf *b, stet_level level, const char *event, const char *message,
                     const stet_log_field *fields, uint64_t suppressed) {
    put(b, "{\"ts\":\"");
    put_time(b, stet_clock_wall_ms(), /* human= */ false);
    put(b, "\",\"level\":\"");
    put(b, stet_level_name(level));
    put(b, "\",\"program\":\"");
    put(b, logger.program);
    put(b, "\",\"event\":\"");
    put_escaped(b, stet_str_of(event));
    put(b, "\",\"message\":\"");
    put_escaped(b, stet_str_of(message));
    stet_buf_append_byte(b, '"');
    for (; fields != NULL && fields->name != NULL; fields++) {
        size_t before = b->size;
        put(b, ",\"");
        put(b, fields->name);
        put(b, "\":");
        if (fields->type == STET_LOG_INT) {
            stet_buf_append_int(b, fields->number);
        } else {
            stet_buf_append_byte(b, '"');
            put_escaped(b, fields->text);
            stet_buf_append_byte(b, '"');
        }
        if (b->size > LINE_BYTES_MAX ||
            !stet_buf_ok(b)) { /* what does not fit is left out; the line stays JSON */
            stet_buf_truncate(b, before);
            b->failed = false;
            break;
        }
    }
    if (suppressed > 0)
        stet_buf_printf(b, ",\"suppressed\":%" PRIu64, suppressed);
    stet_buf_append(b, "}\n", 2);
}

static void put_human(stet_buf *b, stet_level level, const char *event, const char *message,
                      const stet_log_field *fields, uint64_t suppressed) {
    put_time(b, stet_clock_wall_ms(), /* human= */ true);
    stet_buf_printf(b, " %-5s %s %s: ", stet_level_name(level), logger.program, event);
    put_escaped(b, stet_str_of(message));
    for (; fields != NULL && fields->name != NULL; fields++) {
        stet_buf_printf(b, " %s=", fields->name);
        if (fields->type == STET_LOG_INT)
            stet_buf_printf(b, "%" PRId64, fields->number);
        else
            put_escaped(b, fields->text);
    }
    if (suppressed > 0)
        stet_buf_printf(b, " suppressed=%" PRIu64, suppressed);
    stet_buf_append_byte(b, '\n');
}

void stet_log_fields(stet_level level, const char *event, const char *message, const stet_log_field *fields) {
    ASSERT(event != NULL);
    int errno_before = errno;
    uint64_t suppressed = 0;
    (void)pthread_mutex_lock(&logger.lock);
    bool admitted = (level & STET_RECORD) != 0 ||
                    (level >= logger.least && admit(event, stet_clock_boot_ms(), &suppressed));
    bool human = logger.human;
    (void)pthread_mutex_unlock(&logger.lock);
    if (admitted) {
        uint8_t room[1024];
        CLEANUP(stet_buf_done) stet_buf line = STET_BUF_ON(room, 2 * LINE_BYTES_MAX);
        message = message ? message : "";
        if (human)
            put_human(&line, level, event, message, fields, suppressed);
        else
            put_json(&line, level, event, message, fields, suppressed);
        /* A log that cannot be written must not stop the program: a full disk or a closed pipe loses the
         * line. */
        ssize_t written = line.size == 0 ? 0 : write(STDERR_FILENO, line.data, line.size);
        (void)written;
    }
    errno = errno_before;
}
