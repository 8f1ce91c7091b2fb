/* What the store itself keeps: the commit record, the head of the chain, the witness, keys, and the bytes of a
 * commit. What is read is written the same; only what fits together is taken; order and content survive.
 *
 * Input: a byte that chooses one of them, then its bytes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/wire/json.h"
#include "store/store.h"
#include "store/witness.h"
#include "tests/fuzz/fuzz.h"

enum { SLOT_BYTES = 144, SLOT_CHECKED = 112, SLOT_STRIDE = 4096, ROWS_MAX = 64 };

/* ---- commit record and head ---- */

static void try_record(stet_str bytes) {
    stet_commit_record record;
    uint8_t again[STET_COMMIT_RECORD_BYTES];
    stet_error e;
    if (stet_commit_record_decode(bytes, &record, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID && stet_utf8_valid(stet_str_of(e.message)));
        return;
    }
    ASSERT(record.number > 0 && record.epoch > 0 && record.rows > 0);
    stet_commit_record_encode(&record, again);
    ASSERT(stet_str_equal(bytes, stet_str_from(again, sizeof again)));
    stet_hash one = stet_commit_record_hash(&record), two = stet_hash_of(bytes);
    ASSERT(stet_hash_equal(&one, &two));
}

typedef struct meta_rows {
    stet_str format, epoch, head; /* NULL: not there */
} meta_rows;

static stet_code get_meta(void *from, stet_str key, stet_arena *into, stet_str *ret, stet_error *e) {
    const meta_rows *rows = from;
    (void)into;
    *ret = stet_str_equal(key, stet_store_key_head)     ? rows->head
           : stet_str_equal(key, stet_store_key_format) ? rows->format
                                                        : rows->epoch;
    return ret->data != NULL ? STET_OK : stet_error_set(e, STET_NOT_FOUND, "%s", "");
}

static void try_head(fuzz_input *in) {
    uint8_t what = fuzz_byte(in);
    meta_rows rows = {.format = what & 1 ? STET_STR("\x01") : fuzz_piece(in)};
    rows.epoch = fuzz_piece(in);
    stet_str head = fuzz_rest(in);
    rows.head = what & 2 ? (stet_str){NULL, 0} : head;
    if (what & 4)
        rows.epoch = (stet_str){NULL, 0};
    stet_head ret = {.present = false};
    stet_error e;
    if (stet_head_load(get_meta, &rows, 0, "fuzz", &ret, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID || e.code == STET_INTERNAL);
        return;
    }
    ASSERT(!ret.present || (ret.record.partition == 0 && ret.record.epoch == ret.epoch && ret.epoch > 0));
    ASSERT(ret.present == (rows.head.data != NULL));
}

/* ---- witness ---- */

typedef struct files {
    char directory[32], path[64];
    int witness;
} files;

static files *files_once(void);

static void remove_files(void) {
    (void)unlink(files_once()->path);
    (void)rmdir(files_once()->directory);
}

/* The witness is a link to a file in memory. */
static files *files_once(void) {
    static files all;
    if (all.witness == 0) {
        char target[64];
        (void)snprintf(all.directory, sizeof all.directory, "/tmp/stet-fuzz-XXXXXX");
        ASSERT(mkdtemp(all.directory) != NULL && (all.witness = memfd_create("witness", MFD_CLOEXEC)) > 0);
        (void)snprintf(all.path, sizeof all.path, "%s/witness", all.directory);
        (void)snprintf(target, sizeof target, "/proc/self/fd/%d", all.witness);
        ASSERT(symlink(target, all.path) == 0 && atexit(remove_files) == 0);
    }
    return &all;
}

static uint64_t u64_at(const uint8_t *at) {
    uint64_t n;
    memcpy(&n, at, sizeof n);
    return __builtin_bswap64(n);
}

static void compare(const stet_witness_record *witness, fuzz_input *in) {
    uint8_t what = fuzz_byte(in);
    if (witness->state == STET_WITNESS_NONE) /* taken, with a warning */
        return;
    stet_head head = {.present = (what & 1) != 0, .epoch = 1};
    head.record.number = what & 2 ? witness->number : witness->number + fuzz_byte(in) - 128;
    head.hash = what & 4 ? witness->hash : (stet_hash){{what}};
    if (stet_witness_compare(witness, &head, files_once()->directory, NULL) != STET_OK)
        return;
    ASSERT(witness->state != STET_WITNESS_DAMAGED);
    if (witness->state != STET_WITNESS_KNOWN || witness->number == 0)
        return;
    ASSERT(head.present && head.record.number >= witness->number);
    ASSERT(head.record.number > witness->number || stet_hash_equal(&head.hash, &witness->hash));
}

static void try_witness(fuzz_input *in) {
    const files *f = files_once();
    uint8_t what = fuzz_byte(in), file[2 * SLOT_STRIDE] = {0};
    uint64_t best = 0;
    bool known = false, anything = false;
    size_t size = what & 0x40 ? fuzz_number(in, 2) % sizeof file : SLOT_STRIDE + SLOT_BYTES;
    for (int i = 0; i < 2; i++) {
        uint8_t *slot = file + (size_t)i * SLOT_STRIDE;
        stet_str piece = fuzz_piece(in);
        memcpy(slot, piece.size > 0 ? piece.data : "", piece.size < SLOT_BYTES ? piece.size : SLOT_BYTES);
        bool whole = size >= (size_t)i * SLOT_STRIDE + SLOT_BYTES;
        if (what >> i & 1) { /* a good one, unless the file is cut or a byte of it wrong */
            memcpy(slot, "STETWIT2", 8);
            stet_hash check = stet_hash_of(stet_str_from(slot, SLOT_CHECKED));
            memcpy(slot + SLOT_CHECKED, check.bytes, sizeof check.bytes);
            if (what >> (2 + i) & 1)
                slot[fuzz_byte(in) % SLOT_BYTES] ^= (uint8_t)(1 + fuzz_byte(in) % 255), whole = false;
            if (whole && (!known || u64_at(slot + 8) > best))
                best = u64_at(slot + 8);
            known |= whole;
        }
        for (size_t k = 0; k < SLOT_BYTES && (size_t)i * SLOT_STRIDE + k < size; k++)
            anything |= slot[k] != 0;
    }
    ASSERT(ftruncate(f->witness, 0) == 0 && pwrite(f->witness, file, size, 0) == (ssize_t)size);
    stet_witness_record record;
    ASSERT(stet_witness_read(f->directory, &record, NULL) == STET_OK);
    ASSERT((record.state == STET_WITNESS_KNOWN) == known && (!known || record.generation == best));
    ASSERT(anything || record.state == STET_WITNESS_NONE);
    compare(&record, in);
}

/* ---- keys ---- */

typedef struct tuple {
    uint8_t table;
    stet_str text;
    uint64_t up, down;
    stet_id id;
} tuple;

static stet_key key_of(const tuple *t) {
    stet_key key = stet_key_of(t->table);
    stet_key_str(&key, t->text);
    stet_key_u64(&key, t->up);
    stet_key_u64_descending(&key, t->down);
    stet_key_id(&key, t->id);
    return key;
}

static int order_of(const tuple *a, const tuple *b) {
    if (a->table != b->table)
        return a->table < b->table ? -1 : 1;
    int order = stet_bytes_compare(a->text, b->text);
    if (order != 0)
        return order < 0 ? -1 : 1;
    if (a->up != b->up)
        return a->up < b->up ? -1 : 1;
    if (a->down != b->down)
        return a->down > b->down ? -1 : 1;
    order = memcmp(a->id.bytes, b->id.bytes, sizeof a->id.bytes);
    return (order > 0) - (order < 0);
}

static void check_read(const tuple *t, const stet_key *key) {
    char text[STET_KEY_BYTES_MAX];
    uint8_t table;
    stet_key_reader r = stet_key_reader_of(stet_key_bytes(key), &table);
    stet_str read = {text, stet_key_read_str(&r, text, sizeof text)};
    ASSERT(table == t->table && stet_str_equal(read, t->text));
    ASSERT(stet_key_read_u64(&r) == t->up && stet_key_read_u64_descending(&r) == t->down);
    ASSERT(stet_id_equal(stet_key_read_id(&r), t->id) && !r.failed && r.at == r.end);
}

static void try_keys(fuzz_input *in) {
    tuple t[2];
    stet_key keys[2];
    for (int i = 0; i < 2; i++) {
        t[i] = (tuple){.table = fuzz_byte(in), .text = fuzz_piece(in)};
        t[i].text.size = t[i].text.size > 254 ? 254 : t[i].text.size;
        t[i].up = fuzz_number(in, fuzz_byte(in) % 9);
        t[i].down = fuzz_number(in, fuzz_byte(in) % 9);
        t[i].id.bytes[15] = fuzz_byte(in);
        keys[i] = key_of(&t[i]);
        check_read(&t[i], &keys[i]);
    }
    int order = stet_bytes_compare(stet_key_bytes(&keys[0]), stet_key_bytes(&keys[1]));
    ASSERT((order > 0) - (order < 0) == order_of(&t[0], &t[1]));

    stet_str raw = fuzz_rest(in); /* any bytes can be looked at */
    char text[32];
    uint8_t table;
    stet_key_reader r = stet_key_reader_of(raw, &table);
    while (!r.failed && r.at < r.end)
        ASSERT(stet_key_read_str(&r, text, sizeof text) <= sizeof text);
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(16 << 20), mp = STET_BUF(16 << 20);
    stet_key_json(raw, "table", &json);
    ASSERT(stet_buf_ok(&json));
    ASSERT(stet_json_to_mp(stet_buf_str(&json), (stet_mp_limits){.depth_max = 4, .nodes_max = 1 << 20}, &mp,
                           NULL) == STET_OK);
}

/* ---- the bytes of a commit ---- */

typedef struct row {
    stet_str key, value; /* value.data NULL: deleted */
    bool there;
} row;

typedef struct model {
    row rows[ROWS_MAX];
    size_t count;
} model;

static void model_put(model *m, stet_str key, stet_str value) {
    size_t i = 0;
    while (i < m->count && !stet_str_equal(m->rows[i].key, key))
        i++;
    m->rows[i] = (row){.key = key, .value = value, .there = true};
    m->count += i == m->count;
}

static uint64_t read_varint(const uint8_t **at, const uint8_t *end) {
    uint64_t n = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        ASSERT(*at < end);
        uint8_t byte = *(*at)++;
        n |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return n;
    }
    ASSERT(false);
    return 0;
}

static stet_str read_slice(const uint8_t **at, const uint8_t *end) {
    uint64_t size = read_varint(at, end);
    ASSERT(size <= (uint64_t)(end - *at));
    stet_str slice = stet_str_from(*at, size);
    *at += size;
    return slice;
}

/* A WriteBatch of RocksDB: in key order, each row once, and the head at its end. */
static void check_write(const model *m, const stet_commit_record *record, const stet_buf *write) {
    const uint8_t *at = write->data + 12, *end = write->data + write->size;
    stet_str before = {NULL, 0};
    uint32_t count = 0;
    while (at < end && (size_t)(at - write->data) < record->body_bytes) {
        bool put = *at++ == 0x01;
        stet_str key = read_slice(&at, end), value = {NULL, 0};
        if (put)
            value = read_slice(&at, end);
        ASSERT(before.data == NULL || stet_bytes_compare(before, key) < 0);
        size_t i = 0;
        while (i < m->count && !stet_str_equal(m->rows[i].key, key))
            i++;
        ASSERT(i < m->count && put == (m->rows[i].value.data != NULL) &&
               stet_str_equal(value, m->rows[i].value));
        before = key;
        count++;
    }
    ASSERT(count == record->rows && count == m->count);
    ASSERT((size_t)(at - write->data) == record->body_bytes && *at++ == 0x01);
    ASSERT(stet_str_equal(read_slice(&at, end), stet_store_key_head));
    stet_commit_record decoded;
    ASSERT(stet_commit_record_decode(read_slice(&at, end), &decoded, NULL) == STET_OK && at == end);
    ASSERT(memcmp(&decoded.body, &record->body, sizeof decoded.body) == 0);
    uint32_t stated = (uint32_t)write->data[8] | (uint32_t)write->data[9] << 8;
    ASSERT(stated == count + 1);
}

static void try_commit(fuzz_input *in) {
    stet_overlay overlay = stet_overlay_of(8 << 20, /* keeps_undo= */ true);
    model *now = calloc(2, sizeof *now), *marked = now + 1;
    ASSERT(now != NULL);
    size_t mark = 0;
    for (int i = 0; i < 60 && in->left > 0; i++) {
        uint8_t what = fuzz_byte(in);
        stet_str key = fuzz_piece(in), value = {NULL, 0};
        if (key.size == 0 || now->count == ROWS_MAX)
            continue;
        if (what % 4 < 2)
            value = fuzz_piece(in);
        if (what % 8 == 6) {
            mark = stet_overlay_mark(&overlay);
            *marked = *now;
        } else if (what % 8 == 7) {
            stet_overlay_undo(&overlay, mark);
            *now = *marked;
        } else {
            ASSERT(stet_overlay_put(&overlay, key, value));
            model_put(now, key, value);
        }
    }
    stet_commit_record record = {.epoch = 1, .number = 1, .wall_ms = 5};
    CLEANUP(stet_buf_done) stet_buf write = STET_BUF(STET_COMMIT_BYTES_MAX);
    ASSERT(overlay.count == now->count);
    if (now->count > 0) {
        ASSERT(stet_commit_build(&overlay, &record, &write));
        check_write(now, &record, &write);
    }
    free(now);
    stet_overlay_done(&overlay);
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    switch (fuzz_byte(&in) % 5) {
    case 0:
        try_record(fuzz_rest(&in));
        break;
    case 1:
        try_head(&in);
        break;
    case 2:
        try_witness(&in);
        break;
    case 3:
        try_keys(&in);
        break;
    default:
        try_commit(&in);
    }
}

#define PUT(literal) stet_buf_append(b, literal, sizeof(literal) - 1)

bool fuzz_seed(size_t index, stet_buf *b) {
    static const stet_commit_record record = {
        .rows = 2, .epoch = 7, .number = 9, .wall_ms = 5, .body_bytes = 40, .previous = {{1}}, .body = {{2}}};
    uint8_t bytes[STET_COMMIT_RECORD_BYTES];
    stet_commit_record_encode(&record, bytes);
    switch (index) {
    case 0:
        stet_buf_append_byte(b, 0);
        stet_buf_append(b, bytes, sizeof bytes);
        return true;
    case 1:
        stet_buf_append(b, "\x01\x01\x01\x07", 4);
        stet_buf_append(b, bytes, sizeof bytes);
        return true;
    case 2:
    case 3:
        stet_buf_append(b, index == 2 ? "\x02\x03" : "\x02\x0b", 2);
        for (uint8_t i = 0; i < 2; i++) {
            uint8_t slot[SLOT_CHECKED] = {
                [15] = (uint8_t)(1 + i), [23] = 1, [31] = (uint8_t)(4 + i), [40] = 7};
            fuzz_put_piece(b, stet_str_from(slot, sizeof slot));
        }
        stet_buf_append(b, "\x07\x07\x07", 3);
        return true;
    case 4:
        PUT("\x03\x10\x03"
            "a\0b\x08\x01\x02\x03\x04\x05\x06\x07\x08\x01\x05\x10\x10\x02"
            "a\0\x00\x00\x02");
        return true;
    case 5:
        PUT("\x03\x03\x00\x00\x00\x03\x00\x00\x00\x00\x00S\0\x01U12345678Sab\0\x01I0123456789abcdef");
        return true;
    case 6:
        PUT("\x04\x00\x01"
            "b\x02vv\x01\x01"
            "a\x00\x06\x01x\x02\x01"
            "b\x00\x01"
            "c\x01w\x07\x01x\x00\x01"
            "b\x01z");
        return true;
    default:
        return false;
    }
}
