/* <service>.check: is each row justified by the others? Looks at all tables of the store in key order, page
 * by page, so that a store of any size can be verified while it works. A page is one message: it sees one
 * state of the store.
 *
 * What each table must satisfy stands with its function. The numbers of outbox and events are proved to be
 * without a gap by induction: each row's predecessor exists, and the head names the last. */
#include "actors/runtime/builtin.h"

#include "actors/runtime/outbox.h"
#include "actors/runtime/records.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    CHECK_ROWS = 1000,
    CHECK_PROBLEMS_MAX = 200,
    CHECK_CHUNK_ROWS = 32,
    CHECK_PROBLEM_BYTES_MAX = 512 << 10
};

struct stet_checker {
    const stet_service *service;
    stet_buf problems; /* MessagePack maps, one after another */
    uint32_t count;
};

const char *stet_table_name_of(const stet_service *service, uint8_t table) {
    static const struct {
        uint8_t table;
        const char *name;
    } rows[] = {
#define X(name, number, text, key, value) {number, text},
#include "store/tables.def"
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].table == table)
            return rows[i].name;
    }
    for (size_t i = 0; i < service->tables_count; i++) {
        if (service->tables[i].table == table)
            return service->tables[i].name;
    }
    return NULL;
}

void stet_check_problem(stet_checker *checker, const char *kind, stet_str key, const char *format, ...) {
    char message[256];
    va_list args;
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(8 << 10);
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (key.size > 0)
        stet_key_json(key, stet_table_name_of(checker->service, (uint8_t)key.data[0]), &text);
    stet_mp_map(&checker->problems, 3);
    stet_mp_put_cstr(&checker->problems, "kind", kind);
    stet_mp_put_str(&checker->problems, "key", stet_buf_str(&text));
    stet_mp_put_cstr(&checker->problems, "message", message);
    checker->count++;
}

/* A missing row is a finding, not an error. */
static stet_code need_row(stet_turn *turn, stet_checker *checker, const stet_key *wanted, const char *kind,
                          stet_str key, const char *what, stet_error *e) {
    stet_str value;
    bool there;
    stet_code rc = stet_turn_row_find(turn, wanted, &value, &there, e);
    if (rc == STET_OK && !there)
        stet_check_problem(checker, kind, key, "%s is missing", what);
    return rc;
}

/* ---- outbox: rows acked+1 .. given exist, and no others ---- */

static stet_code check_outbox(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                              stet_error *e) {
    char name[STET_KEY_BYTES_MAX];
    stet_outbox_row row;
    stet_outbox_head head;
    stet_key_reader r;
    stet_str receiver = stet_key_open_named(key, name, &r);
    (void)stet_key_read_u64(&r);
    uint64_t number = stet_key_read_u64(&r);
    if (r.failed || !stet_outbox_row_decode(value, &row)) {
        stet_check_problem(checker, "outbox.unreadable", key, "the message cannot be read");
        return STET_OK;
    }
    stet_code rc = stet_outbox_head_read(turn, receiver, &head, e);
    if (rc == STET_INTERNAL)
        return STET_OK; /* the head's own check says so */
    if (rc != STET_OK)
        return rc;
    if (number <= head.acked || number > head.given) {
        stet_check_problem(checker, "outbox.stray", key,
                           "number is not above acked %llu and up to given %llu",
                           (unsigned long long)head.acked, (unsigned long long)head.given);
        return STET_OK;
    }
    if (number - 1 > head.acked) {
        stet_key before = stet_outbox_row_key(receiver, number - 1);
        rc = need_row(turn, checker, &before, "outbox.gap", key, "the message before it", e);
    }
    return rc;
}

static stet_code check_outbox_head(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                                   stet_error *e) {
    char name[STET_KEY_BYTES_MAX];
    stet_outbox_head head;
    stet_key_reader r;
    stet_str receiver = stet_key_open_named(key, name, &r);
    if (r.failed || !stet_outbox_head_decode(value, &head)) {
        stet_check_problem(checker, "outbox.unreadable", key, "the head cannot be read");
        return STET_OK;
    }
    if (head.acked == head.given)
        return STET_OK;
    stet_key first = stet_outbox_row_key(receiver, head.acked + 1),
             last = stet_outbox_row_key(receiver, head.given);
    stet_code rc = need_row(turn, checker, &first, "outbox.gap", key, "the first message that waits", e);
    if (rc == STET_OK)
        rc = need_row(turn, checker, &last, "outbox.gap", key, "the last message that waits", e);
    return rc;
}

/* ---- events: swept+1 .. last stand in rows that follow each other, and no others ---- */

/* Does each text carry its number? Returns how many there are, 0 when something is wrong. */
static uint32_t event_texts(stet_str value, uint64_t number) {
    stet_mp_reader r;
    uint32_t count = stet_events_open(value, &r);
    for (uint32_t i = 0; i < count; i++) {
        char begin[48];
        int size = snprintf(begin, sizeof(begin), "{\"seq\":%" PRIu64 ",", number + i);
        stet_str text = stet_mp_read_str(&r);
        if (r.failed || text.size <= (size_t)size || memcmp(text.data, begin, (size_t)size) != 0)
            return 0;
    }
    return r.at == r.end ? count : 0;
}

/* Is `number` the one behind the last text of a row, or the first of all? */
static stet_code need_events_before(stet_turn *turn, stet_checker *checker, stet_str session, uint64_t number,
                                    const stet_event_head *head, stet_str key, const char *what,
                                    stet_error *e) {
    uint64_t first = 0;
    uint32_t count = 0;
    if (number == head->swept + 1)
        return STET_OK;
    stet_code rc = stet_events_row_before(turn, session, number - 1, &first, &count, e);
    if (rc == STET_INTERNAL && stet_store_read_status(turn->store, NULL) == STET_OK)
        return STET_OK; /* that row's own check says so */
    if (rc == STET_OK && (first == 0 || first + count != number))
        stet_check_problem(checker, "events.gap", key, "%s is missing", what);
    return rc;
}

static stet_code check_event(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                             stet_error *e) {
    char name[STET_KEY_BYTES_MAX];
    stet_event_head head;
    stet_key_reader r;
    stet_str session = stet_key_open_named(key, name, &r);
    uint64_t number = stet_key_read_u64(&r);
    uint32_t count = event_texts(value, number);
    if (r.failed || count == 0) {
        stet_check_problem(checker, "events.unreadable", key,
                           "the texts do not carry the numbers of their row");
        return STET_OK;
    }
    stet_code rc = stet_events_head(turn, session, &head, e);
    if (rc == STET_INTERNAL)
        return STET_OK;
    if (rc != STET_OK)
        return rc;
    if (number <= head.swept || number + count - 1 > head.last) {
        stet_check_problem(checker, "events.stray", key,
                           "numbers are not above swept %llu and up to last %llu",
                           (unsigned long long)head.swept, (unsigned long long)head.last);
        return STET_OK;
    }
    return need_events_before(turn, checker, session, number, &head, key, "the event before it", e);
}

static stet_code check_event_head(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                                  stet_error *e) {
    char name[STET_KEY_BYTES_MAX];
    stet_event_head head;
    stet_key_reader r;
    stet_str session = stet_key_open_named(key, name, &r);
    if (r.failed || !stet_events_head_decode(value, &head)) {
        stet_check_problem(checker, "events.unreadable", key, "the head cannot be read");
        return STET_OK;
    }
    return need_events_before(turn, checker, session, head.last + 1, &head, key, "the last event", e);
}

/* ---- timers: one row by name for one row by due time ---- */

static stet_code check_timer(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                             stet_error *e) {
    char name[STET_KEY_BYTES_MAX];
    stet_timer_row timer;
    stet_key_reader r;
    stet_str text = stet_key_open_named(key, name, &r);
    if (r.failed || !stet_timers_decode(value, &timer)) {
        stet_check_problem(checker, "timers.unreadable", key, "the timer cannot be read");
        return STET_OK;
    }
    stet_key due = stet_key_of(STET_TABLE_TIMERS_DUE);
    stet_key_u64(&due, (uint64_t)timer.due_ms);
    stet_key_str(&due, text);
    return need_row(turn, checker, &due, "timers.never", key, "its row in timersDue", e);
}

static stet_code check_timer_due(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                                 stet_error *e) {
    char name[STET_KEY_BYTES_MAX];
    uint8_t table;
    stet_timer_row timer;
    bool there;
    (void)value;
    stet_key_reader r = stet_key_reader_of(key, &table);
    uint64_t due_ms = stet_key_read_u64(&r);
    size_t size = stet_key_read_str(&r, name, sizeof(name));
    stet_key by_name = stet_key_of(STET_TABLE_TIMERS);
    if (r.failed) {
        stet_check_problem(checker, "timers.unreadable", key, "the key cannot be read");
        return STET_OK;
    }
    stet_key_str(&by_name, (stet_str){name, size});
    stet_code rc = stet_turn_row_find(turn, &by_name, &value, &there, e);
    if (rc == STET_OK && (!there || !stet_timers_decode(value, &timer) || (uint64_t)timer.due_ms != due_ms))
        stet_check_problem(checker, "timers.stray", key, "there is no timer of this name that is due then");
    return rc;
}

/* ---- rows that only have to be readable ---- */

static stet_code check_duplicate(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                                 stet_error *e) {
    stet_duplicate duplicate;
    (void)turn;
    (void)e;
    if (!stet_duplicates_decode(value, &duplicate))
        stet_check_problem(checker, "duplicates.unreadable", key, "the remembered answer cannot be read");
    return STET_OK;
}

static stet_code check_inbox_mark(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                                  stet_error *e) {
    uint64_t mark;
    (void)turn;
    (void)e;
    if (!stet_inbox_decode(value, &mark))
        stet_check_problem(checker, "inbox.unreadable", key, "the mark cannot be read");
    return STET_OK;
}

/* ---- all tables ---- */

static stet_code check_job_row(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                               stet_error *e) {
    return stet_jobs_check_row(turn, turn->service, checker, key, value, e);
}

/* Tables that are not here and not the actor's own, but have a name, hold nothing that could be wrong: meta, whose
 * chain the store verifies when it opens, and indexes of the actor that it does not want looked at. */
static const stet_check_table runtime_checks[] = {
    {STET_TABLE_DUPLICATES, check_duplicate},
    {STET_TABLE_OUTBOX, check_outbox},
    {STET_TABLE_OUTBOX_HEADS, check_outbox_head},
    {STET_TABLE_INBOX_MARKS, check_inbox_mark},
    {STET_TABLE_EVENTS, check_event},
    {STET_TABLE_EVENT_HEADS, check_event_head},
    {STET_TABLE_TIMERS, check_timer},
    {STET_TABLE_TIMERS_DUE, check_timer_due},
    {STET_TABLE_JOBS, check_job_row},
    {STET_TABLE_JOBS_READY, check_job_row},
    {STET_TABLE_JOBS_DELAYED, check_job_row},
    {STET_TABLE_JOBS_ACTIVE, check_job_row},
    {STET_TABLE_JOBS_BY_KEY, check_job_row},
    {STET_TABLE_JOBS_FAILED, check_job_row},
    {STET_TABLE_JOBS_DEDUP, check_job_row},
    {STET_TABLE_JOBS_KEYS, check_job_row},
    {STET_TABLE_JOBS_QUEUES, check_job_row},
    {STET_TABLE_JOBS_BLOBS, check_job_row},
    {STET_TABLE_JOBS_WAITING, check_job_row},
    {STET_TABLE_JOBS_RESUME, check_job_row},
    {STET_TABLE_JOBS_RATE, check_job_row},
};

static const stet_check_table *find_check(const stet_check_table *checks, size_t count, uint8_t table) {
    for (size_t i = 0; i < count; i++) {
        if (checks[i].table == table)
            return &checks[i];
    }
    return NULL;
}

stet_code stet_check_row(stet_turn *turn, stet_checker *checker, stet_str key, stet_str value,
                         stet_error *e) {
    ASSERT(key.size > 0);
    const stet_service *service = turn->service;
    uint8_t table = (uint8_t)key.data[0];
    const stet_check_table *found = find_check(runtime_checks, COUNT_OF(runtime_checks), table);
    if (!found)
        found = find_check(service->checks, service->checks_count, table);
    if (found)
        return found->check(turn, checker, key, value, e);
    if (!stet_table_name_of(service, table))
        stet_check_problem(checker, "table.unknown", key, "no table has the number %u", (unsigned)table);
    return STET_OK;
}

/* ---- pages ---- */

static stet_code no_memory(stet_error *e) {
    return stet_error_set(e, STET_BUSY, "there is no memory for the check now; ask again");
}

/* Looks at up to `rows` rows behind the cursor and moves it; *ret_seen less than rows: the end. */
static stet_code chunk(stet_turn *turn, stet_checker *checker, stet_buf *cursor, uint32_t rows,
                       uint32_t *ret_seen, stet_error *e) {
    stet_str key, value;
    stet_code rc = STET_OK;
    uint32_t seen = 0;
    stet_buf_append_byte(cursor, 0); /* the smallest key above the cursor */
    stet_str from = cursor->size > 1 ? stet_buf_str(cursor) : (stet_str){NULL, 0};
    CLEANUP(stet_scan_done)
    stet_scan *scan = stet_turn_scan(turn, (stet_str){NULL, 0}, from, false, e);
    if (!scan)
        return STET_BUSY;
    while (rc == STET_OK && seen < rows && checker->count < CHECK_PROBLEMS_MAX &&
           stet_scan_next(scan, &key, &value)) {
        rc = stet_check_row(turn, checker, key, value, e);
        stet_buf_clear(cursor);
        stet_buf_append_str(cursor, key);
        if (stet_buf_starved(cursor))
            rc = no_memory(e);
        seen++;
    }
    if (rc == STET_OK)
        rc = stet_scan_status(scan, e);
    if (seen == 0 && cursor->size > 0)
        stet_buf_truncate(cursor, cursor->size - 1);
    *ret_seen = seen;
    return rc;
}

static bool read_hex(stet_str text, stet_buf *ret) {
    static const char digits[] = "0123456789abcdef";
    if (text.size % 2 != 0)
        return false;
    for (size_t i = 0; i < text.size; i += 2) {
        const char *high = memchr(digits, text.data[i], 16), *low = memchr(digits, text.data[i + 1], 16);
        if (!high || !low)
            return false;
        stet_buf_append_byte(ret, (uint8_t)((high - digits) << 4 | (low - digits)));
    }
    return stet_buf_ok(ret) && ret->size < STET_KEY_BYTES_MAX;
}

static stet_code walk(stet_turn *turn, stet_checker *checker, stet_buf *cursor, uint32_t limit,
                      uint32_t *ret_checked, bool *ret_end, stet_error *e) {
    uint32_t checked = 0;
    *ret_end = false;
    while (!*ret_end && checked < limit && checker->count < CHECK_PROBLEMS_MAX) {
        uint32_t rows = limit - checked < CHECK_CHUNK_ROWS ? limit - checked : CHECK_CHUNK_ROWS, seen = 0;
        stet_code rc = chunk(turn, checker, cursor, rows, &seen, e);
        if (rc != STET_OK)
            return rc;
        checked += seen;
        *ret_end = seen < rows && checker->count < CHECK_PROBLEMS_MAX;
        /* A chunk may have read many large rows. Nothing read so far is needed any more. */
        stet_batch_release_reads(stet_turn_batch(turn));
    }
    *ret_checked = checked;
    return STET_OK;
}

stet_code stet_check_read(stet_turn *turn, const void *request, stet_buf *reply, stet_error *e) {
    const cmd_drafter_check *in = request; /* the same fields in every service */
    CLEANUP(stet_buf_done) stet_buf cursor = STET_BUF(STET_KEY_BYTES_MAX + 1);
    stet_checker checker = {.service = turn->service, .problems = STET_BUF(CHECK_PROBLEM_BYTES_MAX)};
    uint32_t checked = 0;
    bool end = false;
    bool known = !in->has_cursor || read_hex(in->cursor, &cursor);
    if (!known && stet_buf_starved(&cursor))
        return no_memory(e);
    if (!known)
        return stet_error_field(e, STET_INVALID, "cursor", "this is not a cursor of an earlier page");
    stet_code rc =
        walk(turn, &checker, &cursor, in->has_limit ? (uint32_t)in->limit : CHECK_ROWS, &checked, &end, e);
    if (stet_buf_starved(&checker.problems))
        rc = no_memory(e);
    if (rc == STET_OK && !stet_buf_ok(&checker.problems))
        rc = stet_error_set(e, STET_TOO_LARGE, "too many problems for one page; ask with a smaller limit");
    if (rc == STET_OK) {
        stet_mp_map(reply, end ? 2 : 3);
        stet_mp_put_uint(reply, "checked", checked);
        stet_mp_cstr(reply, "problems");
        stet_mp_array(reply, checker.count);
        stet_buf_append_str(reply, stet_buf_str(&checker.problems));
        if (!end) {
            CLEANUP(stet_buf_done) stet_buf hex = STET_BUF(2 * STET_KEY_BYTES_MAX + 8);
            for (size_t i = 0; i < cursor.size; i++)
                stet_buf_printf(&hex, "%02x", cursor.data[i]);
            stet_mp_put_str(reply, "cursor", stet_buf_str(&hex));
            if (stet_buf_starved(&hex))
                rc = no_memory(e);
        }
    }
    stet_buf_done(&checker.problems);
    return rc;
}
