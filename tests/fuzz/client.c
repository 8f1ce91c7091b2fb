/* The client's core with a broker that says anything: a request ends once, is sent unchanged and never too
 * early, and nothing but time is needed to end it. And the merge of live and stored events: numbers reach the
 * reader in order and once, whatever numbers are claimed.
 *
 * Input: a byte (0: merge, else requests), then operations. */
#include <ctype.h>
#include <stdlib.h>

#include "proto/client/core.h"
#include "proto/client/merge.h"
#include "proto/wire/json.h"
#include "proto/wire/mp.h"
#include "tests/fuzz/fuzz.h"

enum { IDS = 8, OPERATIONS_MAX = 400 };

/* ---- requests ---- */

typedef struct waiting {
    bool waits;
    int64_t not_before_ms, deadline_ms;
    stet_str command, key, body;
} waiting;

typedef struct world {
    client_core *core;
    int64_t now_ms;
    bool blocked, ending;
    size_t count;
    waiting all[IDS];
} world;

static stet_id id_of(uint8_t number) {
    return (stet_id){{1, [8] = 7, [15] = number % IDS}};
}

static waiting *waiting_at(world *w, stet_id id) {
    ASSERT(stet_id_equal(id, id_of(id.bytes[15])));
    return &w->all[id.bytes[15]];
}

static bool edge_send(void *context, stet_str frame, stet_str body) {
    world *w = context;
    stet_envelope envelope;
    ASSERT(stet_envelope_decode(frame, &envelope, NULL) == STET_OK && envelope.kind == STET_KIND_REQUEST);
    const waiting *one = waiting_at(w, envelope.id);
    ASSERT(one->waits && w->now_ms >= one->not_before_ms && w->now_ms < one->deadline_ms);
    ASSERT(envelope.timeout_ms > 0 && envelope.timeout_ms <= one->deadline_ms - w->now_ms);
    ASSERT(stet_str_equal(envelope.command, one->command) && stet_str_equal(envelope.key, one->key));
    ASSERT(stet_str_equal(body, one->body));
    return !w->blocked;
}

static void done(void *context, stet_id id, const client_result *result) {
    world *w = context;
    waiting *one = waiting_at(w, id);
    ASSERT(one->waits && w->count > 0);
    ASSERT(result->answered || result->error.code == STET_OK || result->error.code == STET_BUSY ||
           result->error.code == STET_UNAVAILABLE || result->error.code == STET_TIMEOUT);
    ASSERT(result->answered || w->ending || w->now_ms >= one->deadline_ms);
    ASSERT(!result->refused || result->error.code != STET_OK);
    one->waits = false;
    w->count--;
}

static void ask(world *w, fuzz_input *in) {
    uint8_t number = fuzz_byte(in);
    uint32_t timeout_ms = (uint32_t)fuzz_number(in, 1 + number / 64) | 1;
    client_request request = {.id = id_of(number),
                              .command = number & 8 ? fuzz_piece(in) : STET_STR("a.b"),
                              .key = number & 16 ? fuzz_piece(in) : (stet_str){NULL, 0},
                              .body = fuzz_piece(in),
                              .timeout_ms = timeout_ms,
                              .done = done,
                              .context = w};
    waiting *one = waiting_at(w, request.id);
    bool there = one->waits;
    bool good = request.command.size > 0 && request.command.size <= STET_COMMAND_SIZE_MAX &&
                request.key.size <= STET_ROUTING_KEY_SIZE_MAX && stet_utf8_valid(request.key);
    for (size_t i = 0; i < request.command.size; i++) {
        char c = request.command.data[i];
        good &= c != '\0' && strchr(".-_", c) != NULL ? true : isalnum((unsigned char)c) != 0;
    }
    if (!there)
        *one = (waiting){.waits = good,
                         .deadline_ms = w->now_ms + timeout_ms,
                         .command = request.command,
                         .key = request.key,
                         .body = request.body};
    stet_code rc = client_core_send(w->core, &request, w->now_ms, NULL);
    ASSERT(rc == (there ? STET_CONFLICT : good ? STET_OK : STET_INVALID));
    w->count += rc == STET_OK;
}

static void receive(world *w, stet_str envelope, stet_str body) {
    stet_envelope read;
    stet_error error = {.code = STET_OK};
    if (stet_envelope_decode(envelope, &read, NULL) == STET_OK && read.kind == STET_KIND_ERROR &&
        stet_id_equal(read.id, id_of(read.id.bytes[15]))) {
        waiting *one = waiting_at(w, read.id);
        stet_error_decode(body, &error);
        if (error.code == STET_BUSY || error.code == STET_UNAVAILABLE || error.code == STET_TIMEOUT)
            one->not_before_ms = w->now_ms + error.retry_after_ms;
    }
    size_t before = w->count;
    uint32_t handed_out = client_core_receive(w->core, envelope, body, w->now_ms);
    ASSERT(handed_out <= 1 && before - w->count == handed_out);
}

static void answer(world *w, fuzz_input *in) {
    static const stet_code codes[] = {STET_BUSY, STET_UNAVAILABLE, STET_TIMEOUT, STET_CONFLICT};
    uint8_t what = fuzz_byte(in);
    CLEANUP(stet_buf_done) stet_buf envelope = STET_BUF(STET_ENVELOPE_BYTES_MAX);
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(4096);
    stet_envelope_encode(
        &(stet_envelope){.kind = what & 0x80 ? STET_KIND_ERROR : STET_KIND_REPLY, .id = id_of(what)},
        &envelope);
    stet_error error;
    (void)stet_error_set(&error, codes[what >> 3 & 3], "no");
    error.retry_after_ms = (uint32_t)fuzz_number(in, what >> 5 & 3 ? 2 : 4);
    if (what & 0x80)
        stet_error_encode(&error, &body);
    receive(w, stet_buf_str(&envelope), stet_buf_str(&body));
}

static void tick(world *w, int64_t ms) {
    w->now_ms += ms;
    (void)client_core_tick(w->core, w->now_ms);
    ASSERT(client_core_next_wake(w->core) > w->now_ms);
}

static void operate(world *w, fuzz_input *in) {
    stet_str envelope;
    uint8_t what = fuzz_byte(in);
    switch (what % 8) {
    case 0:
    case 1:
        ask(w, in);
        break;
    case 2:
        envelope = fuzz_piece(in);
        receive(w, envelope, fuzz_piece(in));
        break;
    case 3:
    case 4:
        answer(w, in);
        break;
    case 5:
        for (int i = 0; i < IDS; i++) /* a new connection is asked at once */
            w->all[i].not_before_ms = 0;
        client_core_reconnected(w->core, w->now_ms);
        break;
    case 6:
        w->blocked = (what >> 3 & 1) != 0;
        break;
    default:
        tick(w, (int64_t)fuzz_number(in, 1 + (what >> 3) % 4));
    }
    ASSERT(client_core_pending(w->core) == w->count);
    ASSERT((client_core_next_wake(w->core) == INT64_MAX) == (w->count == 0));
}

static void try_requests(fuzz_input *in) {
    world w = {.now_ms = 1000000};
    const client_edge edge = {.context = &w, .send = edge_send};
    w.core = client_core_new(&edge, 1);
    ASSERT(w.core != NULL);
    bool wait = (fuzz_byte(in) & 1) != 0;
    for (int i = 0; i < OPERATIONS_MAX && in->left > 0; i++)
        operate(&w, in);
    if (wait) {
        tick(&w, (int64_t)UINT32_MAX + 1);
        ASSERT(w.count == 0);
    }
    w.ending = true;
    w.core = client_core_free(w.core);
    ASSERT(w.count == 0);
}

/* ---- merge ---- */

static uint64_t number_of(fuzz_input *in, uint8_t how) {
    uint64_t number = fuzz_number(in, how % 4 == 3 ? 8 : 1);
    return how % 4 == 2 ? UINT64_MAX - number : number;
}

typedef struct reader {
    client_merge merge;
    uint64_t last;
    int64_t now_ms;
} reader;

static void deliver(reader *r, uint64_t seq) {
    ASSERT(seq > r->last);
    r->last = seq;
}

static void page(reader *r, fuzz_input *in) {
    uint64_t after = 0;
    if (!client_merge_read(&r->merge, r->now_ms, &after))
        return;
    ASSERT(client_merge_next_wake(&r->merge) == INT64_MAX);
    ASSERT(after == INT64_MAX || after >= r->last || r->last > INT64_MAX);
    uint8_t what = fuzz_byte(in);
    if (what % 8 == 7) {
        client_merge_page_failed(&r->merge, r->now_ms);
        return;
    }
    bool delivered = false;
    for (uint8_t i = what % 8; i > 0; i--) {
        uint64_t seq = number_of(in, fuzz_byte(in));
        if (seq > 0 && client_merge_page_event(&r->merge, seq)) {
            deliver(r, seq);
            delivered = true;
        }
        if (what & 0x40) {
            seq = number_of(in, fuzz_byte(in));
            if (client_merge_live(&r->merge, seq, r->now_ms))
                deliver(r, seq);
        }
    }
    client_merge_page_end(&r->merge, delivered, (what & 0x80) != 0, number_of(in, what >> 3), r->now_ms);
    ASSERT(client_merge_next_wake(&r->merge) != INT64_MAX);
    ASSERT(delivered || client_merge_next_wake(&r->merge) > r->now_ms); /* nothing new: no reason to hurry */
}

static void try_merge(fuzz_input *in) {
    uint8_t how = fuzz_byte(in);
    uint64_t after = how == 255 ? UINT64_MAX : number_of(in, how);
    reader r = {.now_ms = 1000, .last = after == UINT64_MAX ? 0 : after};
    r.merge = client_merge_of(after, r.now_ms);
    for (int i = 0; i < OPERATIONS_MAX && in->left > 0; i++) {
        uint8_t what = fuzz_byte(in);
        uint64_t seq;
        switch (what % 4) {
        case 0:
            seq = number_of(in, what >> 2);
            if (seq > 0 && client_merge_live(&r.merge, seq, r.now_ms))
                deliver(&r, seq);
            break;
        case 1:
            page(&r, in);
            break;
        case 2:
            r.now_ms += (int64_t)fuzz_number(in, 2);
            break;
        default:
            client_merge_reconnected(&r.merge, r.now_ms);
        }
    }
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    if (fuzz_byte(&in) % 2 == 0)
        try_merge(&in);
    else
        try_requests(&in);
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const stet_str seeds[] = {
        {"\x01\x01\x00\x41\x0b\xb8\x01\x80\x00\x42\x00\x64\x01\x80\x03\x01\x00\x0f\x00\x05", 20},
        {"\x01\x00\x00\x81\x00\xff\xff\x01\x80\x03\xa9\x01\xf4\x07\xff\x0f\xff\xff\x03\xc1\xff\xff\xff\xff"
         "\x05",
         25},
        {"\x01\x01\x0e\x00\xc1\x00\x00\x20\x00\x01\x80\x07\x32\x06\x0f\x09\x00\x03\xb1\x00\x00\x17\x10\x00"
         "\x00",
         25},
        {"\x00\x00\x00\x00\x01\x00\x02\x00\x04\x01\x02\x00\x03\x00\x04\x05\x02\x03\xe8\x03\x01\x00\x00", 23},
        {"\x00\xff\x01\x00\x05\x00\x07\x00\x06\x01\x81\x00\x07\x09", 14},
        {"\x00\x00\x00\x01\x82\x02\x01\x02\x00\x02\x03\xe8\x01\x01\x00\x05\x00\x02", 18},
    };
    if (index >= COUNT_OF(seeds))
        return false;
    stet_buf_append_str(b, seeds[index]);
    return true;
}
