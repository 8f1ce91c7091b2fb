#include "actors/drafter/transcripts.h"

#include "proto/wire/rfc3339.h"

enum { GET_DEFAULT = 100, LIST_DEFAULT = 100 };

/* ---- keys and rows ---- */

static stet_key item_key(stet_str project, uint64_t sequence) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_ITEMS, project);
    stet_key_u64(&key, sequence);
    return key;
}

static stet_key id_key(stet_str project, stet_str id) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_ITEM_IDS, project);
    stet_key_str(&key, id);
    return key;
}

static stet_key variant_key(stet_str project, stet_str id, uint64_t hash) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_ITEM_VARIANTS, project);
    stet_key_str(&key, id);
    stet_key_u64(&key, hash);
    return key;
}

static drafter_item item_of(uint64_t sequence, stet_str row) {
    const stet_str none = {NULL, 0};
    return (drafter_item){
        .sequence = sequence,
        .id = stet_mp_get_str(row, "id", none),
        .previous_id = stet_mp_get_str(row, "previousItemId", none),
        .role = stet_mp_get_str(row, "role", none),
        .text = stet_mp_get_str(row, "text", none),
        .at_ms = stet_mp_get_int(row, "atMs", 0),
        .row = row,
    };
}

static drafter_transcript transcript_of(stet_str row) {
    const stet_str none = {NULL, 0};
    return (drafter_transcript){
        .items = stet_mp_get_uint(row, "items", 0),
        .last_id = stet_mp_get_str(row, "lastItemId", none),
        .last_ms = stet_mp_get_int(row, "lastMs", 0),
        .snapshot = stet_mp_get_str(row, "snapshotAt", none),
    };
}

stet_code drafter_transcript_head(stet_turn *turn, stet_str project, drafter_transcript *ret, stet_error *e) {
    stet_key key = drafter_project_key(DRAFTER_TABLE_TRANSCRIPTS, project);
    stet_str row;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &row, e);
    if (rc == STET_NOT_FOUND) {
        *ret = (drafter_transcript){.items = 0};
        return STET_OK;
    }
    if (rc == STET_OK)
        *ret = transcript_of(row);
    return rc;
}

stet_code drafter_item_read(stet_turn *turn, stet_str project, uint64_t sequence, drafter_item *ret,
                            stet_error *e) {
    stet_key key = item_key(project, sequence);
    stet_str row;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(&key), &row, e);
    if (rc == STET_OK)
        *ret = item_of(sequence, row);
    return rc;
}

static stet_code read_sequence(stet_turn *turn, const stet_key *key, uint64_t *ret, stet_error *e) {
    stet_str row;
    stet_code rc = stet_batch_get(stet_turn_batch(turn), stet_key_bytes(key), &row, e);
    if (rc != STET_OK)
        return rc;
    stet_mp_reader r = stet_mp_reader_of(row);
    *ret = stet_mp_read_uint(&r);
    return STET_OK;
}

static void write_sequence(stet_turn *turn, const stet_key *key, uint64_t sequence) {
    uint8_t bytes[16]; /* which is more than an integer needs */
    stet_buf row = STET_BUF_ON(bytes, sizeof(bytes));
    stet_mp_uint(&row, sequence);
    stet_batch_put(stet_turn_batch(turn), stet_key_bytes(key), stet_buf_str(&row));
}

stet_code drafter_item_find(stet_turn *turn, stet_str project, stet_str id, uint64_t *ret, stet_error *e) {
    if (id.size > 128)
        return stet_error_set(e, STET_NOT_FOUND, "no item has an id that long");
    stet_key key = id_key(project, id);
    return read_sequence(turn, &key, ret, e);
}

void drafter_snapshot_encode(const drafter_transcript *transcript, stet_buf *b) {
    stet_mp_map(b, 4);
    stet_mp_put_uint(b, "items", transcript->items);
    stet_mp_cstr(b, "lastItemId");
    if (transcript->items > 0)
        stet_mp_str(b, transcript->last_id);
    else
        stet_mp_nil(b);
    if (transcript->items > 0) {
        stet_mp_put_time(b, "lastAt", transcript->last_ms);
    } else {
        stet_mp_cstr(b, "lastAt");
        stet_mp_nil(b);
    }
    stet_mp_cstr(b, "snapshotAt");
    if (transcript->snapshot.size > 0)
        stet_mp_str(b, transcript->snapshot);
    else
        stet_mp_nil(b);
}

/* ---- append ---- */

typedef struct append {
    stet_turn *turn;
    stet_str project;
    drafter_transcript head;
    uint64_t appended, repeated;
    stet_buf *warnings; /* the open array */
    uint32_t warnings_count;
} append;

static void warn(append *self, stet_str item_id, const char *kind, const char *message) {
    stet_mp_map(self->warnings, 3);
    stet_mp_put_str(self->warnings, "itemId", item_id);
    stet_mp_put_cstr(self->warnings, "kind", kind);
    stet_mp_put_cstr(self->warnings, "message", message);
    self->warnings_count++;
    stet_turn_log(self->turn, STET_WARN, "transcript.anomaly", message,
                  (const stet_log_field[]){STET_LOG_S("project_id", self->project),
                                           STET_LOG_S("item_id", item_id),
                                           STET_LOG_C("kind", kind),
                                           {.name = NULL}});
    stet_turn_count(self->turn, "transcriptWarnings", 1);
}

static bool same_content(const drafter_item *stored, const cmd_transcript_item *item) {
    return stet_str_equal(stored->text, item->text) && stet_str_equal(stored->role, item->role) &&
           stored->at_ms == item->timestamp &&
           stet_str_equal(stored->previous_id,
                          item->has_previous_item_id ? item->previous_item_id : (stet_str){NULL, 0});
}

static void hash_bytes(uint64_t *hash, stet_str bytes) {
    for (size_t i = 0; i < bytes.size; i++)
        *hash = (*hash ^ (uint8_t)bytes.data[i]) * 1099511628211u;
    *hash = (*hash ^ bytes.size) * 1099511628211u;
}

/* FNV-1a: only finds the row to compare with; equal content decides, so a collision costs a repeat stored
 * twice. */
static uint64_t content_hash(const cmd_transcript_item *item) {
    uint64_t hash = 14695981039346656037u;
    hash_bytes(&hash, item->text);
    hash_bytes(&hash, item->role);
    hash_bytes(&hash, item->has_previous_item_id ? item->previous_item_id : (stet_str){NULL, 0});
    hash_bytes(&hash, stet_str_from(&item->timestamp, sizeof(item->timestamp)));
    return hash;
}

static stet_code put_item(append *self, const cmd_transcript_item *item, uint64_t sequence, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf row = STET_BUF(80 << 10);
    stet_mp_map(&row, item->has_previous_item_id ? 7 : 6);
    stet_mp_put_uint(&row, "format", DRAFTER_FORMAT);
    stet_mp_put_str(&row, "id", item->id);
    if (item->has_previous_item_id)
        stet_mp_put_str(&row, "previousItemId", item->previous_item_id);
    stet_mp_put_str(&row, "role", item->role);
    stet_mp_put_str(&row, "text", item->text);
    stet_mp_put_int(&row, "atMs", item->timestamp);
    stet_mp_put_time(&row, "appendedAt", stet_turn_wall_ms(self->turn));
    stet_key key = item_key(self->project, sequence);
    stet_batch_put(stet_turn_batch(self->turn), stet_key_bytes(&key), stet_buf_str(&row));
    return drafter_built(&row, "the transcript item", e);
}

/* The id is known. Repeat, or another content under the same id. */
static stet_code append_known(append *self, const cmd_transcript_item *item, uint64_t first, stet_error *e) {
    drafter_item stored;
    stet_code rc = drafter_item_read(self->turn, self->project, first, &stored, e);
    if (rc != STET_OK)
        return rc;
    if (same_content(&stored, item)) {
        self->repeated++;
        return STET_OK;
    }
    stet_key key = variant_key(self->project, item->id, content_hash(item));
    uint64_t variant;
    rc = read_sequence(self->turn, &key, &variant, e);
    if (rc == STET_OK) {
        rc = drafter_item_read(self->turn, self->project, variant, &stored, e);
        if (rc != STET_OK)
            return rc;
        if (same_content(&stored, item)) {
            self->repeated++;
            return STET_OK;
        }
    } else if (rc != STET_NOT_FOUND) {
        return rc;
    }
    warn(self, item->id, "duplicate_id",
         "the id is there with other content; this one is stored beside it: check the sender");
    uint64_t sequence = ++self->head.items;
    self->appended++;
    write_sequence(self->turn, &key, sequence);
    return put_item(self, item, sequence, e);
}

static stet_code check_previous(append *self, const cmd_transcript_item *item, stet_error *e) {
    if (!item->has_previous_item_id) {
        if (self->head.items > 0)
            warn(self, item->id, "missing_previous",
                 "the item names no item before it and is not the first: check the sender");
        return STET_OK;
    }
    uint64_t ignored;
    stet_code rc = drafter_item_find(self->turn, self->project, item->previous_item_id, &ignored, e);
    if (rc == STET_NOT_FOUND)
        warn(self, item->id, "missing_previous",
             "previousItemId names an item that is not there: append that one too");
    return rc == STET_NOT_FOUND ? STET_OK : rc;
}

static stet_code append_item(append *self, const cmd_transcript_item *item, stet_error *e) {
    uint64_t first;
    stet_code rc = drafter_item_find(self->turn, self->project, item->id, &first, e);
    if (rc == STET_OK)
        return append_known(self, item, first, e);
    if (rc != STET_NOT_FOUND)
        return rc;
    rc = check_previous(self, item, e);
    if (rc != STET_OK)
        return rc;
    if (self->head.items > 0 && item->timestamp < self->head.last_ms)
        warn(self, item->id, "timestamp_order",
             "the item is older than the one before it: check the sender's clock and order");
    uint64_t sequence = ++self->head.items;
    self->appended++;
    self->head.last_id = item->id;
    self->head.last_ms = item->timestamp;
    stet_key key = id_key(self->project, item->id);
    write_sequence(self->turn, &key, sequence);
    return put_item(self, item, sequence, e);
}

static stet_code put_head(append *self, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf row = STET_BUF(1024);
    stet_mp_map(&row, 5);
    stet_mp_put_uint(&row, "format", DRAFTER_FORMAT);
    stet_mp_put_uint(&row, "items", self->head.items);
    stet_mp_put_str(&row, "lastItemId", self->head.last_id);
    stet_mp_put_int(&row, "lastMs", self->head.last_ms);
    stet_mp_put_time(&row, "snapshotAt", stet_turn_wall_ms(self->turn));
    stet_key key = drafter_project_key(DRAFTER_TABLE_TRANSCRIPTS, self->project);
    stet_batch_put(stet_turn_batch(self->turn), stet_key_bytes(&key), stet_buf_str(&row));
    return drafter_built(&row, "the transcript's head", e);
}

DRAFTER_HANDLER(transcript_append) {
    const cmd_drafter_transcript_append *in = request;
    CLEANUP(stet_buf_done) stet_buf warnings = STET_BUF(512 << 10);
    append self = {.turn = turn, .project = in->project_id, .warnings = &warnings};
    size_t mark = stet_mp_open(&warnings);
    stet_code rc = drafter_transcript_head(turn, in->project_id, &self.head, e);
    stet_mp_reader r = stet_list_reader(in->items);
    for (uint32_t i = 0; rc == STET_OK && i < in->items.count; i++) {
        cmd_transcript_item item;
        stet_list_next(&stet_record_transcript_item, &r, &item);
        rc = append_item(&self, &item, e);
    }
    if (rc == STET_OK && self.appended > 0)
        rc = put_head(&self, e);
    stet_mp_close_array(&warnings, mark, self.warnings_count);
    if (rc == STET_OK)
        rc = drafter_built(&warnings, "the list of warnings", e);
    if (rc != STET_OK)
        return rc;
    stet_mp_map(reply, 4);
    stet_mp_put_uint(reply, "appended", self.appended);
    stet_mp_put_uint(reply, "repeated", self.repeated);
    stet_mp_put_uint(reply, "items", self.head.items);
    stet_mp_put_raw(reply, "warnings", stet_buf_str(&warnings));
    return STET_OK;
}

/* ---- read ---- */

static void encode_item(stet_buf *b, const drafter_item *item) {
    stet_mp_map(b, 7);
    stet_mp_put_str(b, "id", item->id);
    stet_mp_cstr(b, "previousItemId");
    if (item->previous_id.size > 0)
        stet_mp_str(b, item->previous_id);
    else
        stet_mp_nil(b);
    stet_mp_put_str(b, "role", item->role);
    stet_mp_put_str(b, "text", item->text);
    stet_mp_put_time(b, "timestamp", item->at_ms);
    stet_mp_put_str(b, "appendedAt", stet_mp_get_str(item->row, "appendedAt", STET_STR("")));
    stet_mp_put_uint(b, "sequence", item->sequence);
}

DRAFTER_HANDLER(transcript_get) {
    const cmd_drafter_transcript_get *in = request;
    uint64_t limit = in->has_limit ? in->limit : GET_DEFAULT;
    uint64_t next = 1;
    drafter_transcript head;
    stet_code rc = drafter_cursor_read(in->has_cursor, in->cursor, &next, e);
    if (rc == STET_OK)
        rc = drafter_transcript_head(turn, in->project_id, &head, e);
    if (rc != STET_OK)
        return rc;
    size_t mark = stet_mp_open(reply);
    stet_mp_cstr(reply, "snapshot");
    drafter_snapshot_encode(&head, reply);
    stet_mp_cstr(reply, "items");
    size_t items = stet_mp_open(reply);
    uint32_t count = 0;
    for (; count < limit && next <= head.items && reply->size < DRAFTER_REPLY_ROOM; count++, next++) {
        drafter_item item;
        rc = drafter_item_read(turn, in->project_id, next, &item, e);
        if (rc != STET_OK)
            return rc;
        encode_item(reply, &item);
    }
    stet_mp_close_array(reply, items, count);
    drafter_page_close(reply, mark, 2, next <= head.items ? next : 0);
    return STET_OK;
}

static void encode_listed(stet_buf *b, stet_str project, const drafter_transcript *transcript) {
    stet_mp_map(b, 5);
    stet_mp_put_str(b, "projectId", project);
    stet_mp_put_uint(b, "items", transcript->items);
    stet_mp_put_str(b, "lastItemId", transcript->last_id);
    stet_mp_put_time(b, "lastAt", transcript->last_ms);
    stet_mp_put_str(b, "snapshotAt", transcript->snapshot);
}

DRAFTER_HANDLER(transcript_list) {
    const cmd_drafter_transcript_list *in = request;
    uint64_t limit = in->has_limit ? in->limit : LIST_DEFAULT;
    if (in->cursor.size > 128)
        return drafter_cursor_refused(e);
    stet_key prefix = stet_key_of(DRAFTER_TABLE_TRANSCRIPTS);
    stet_key from = drafter_project_key(DRAFTER_TABLE_TRANSCRIPTS, in->cursor);
    CLEANUP(stet_scan_done)
    stet_scan *scan = stet_batch_scan(stet_turn_batch(turn), stet_key_bytes(&prefix),
                                      in->has_cursor ? stet_key_bytes(&from) : (stet_str){NULL, 0}, false);
    if (!scan)
        return stet_error_set(e, STET_BUSY, "no memory to list the transcripts");
    size_t mark = stet_mp_open(reply);
    stet_mp_cstr(reply, "transcripts");
    size_t list = stet_mp_open(reply);
    uint32_t count = 0;
    char name[STET_KEY_BYTES_MAX];
    stet_str project = {NULL, 0};
    stet_str key;
    stet_str row;
    bool more = false;
    while (!more && stet_scan_next(scan, &key, &row)) {
        stet_key_reader rest;
        project = stet_key_open_named(key, name, &rest);
        more = count == limit;
        if (!more) {
            drafter_transcript transcript = transcript_of(row);
            encode_listed(reply, project, &transcript);
            count++;
        }
    }
    stet_mp_close_array(reply, list, count);
    if (more)
        stet_mp_put_str(reply, "cursor", project);
    stet_mp_close_map(reply, mark, more ? 2 : 1);
    return stet_scan_status(scan, e);
}
