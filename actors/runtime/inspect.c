/* Looks into a store without running its actor: rows as JSON lines, and the check. */
#include "actors/runtime/builtin.h"
#include "actors/runtime/process.h"

#include "proto/wire/json.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { INSPECT_LINE_BYTES_MAX = 16 << 20, INSPECT_CHUNK_ROWS = 256 };

static stet_code open_read_only(const char *directory, stet_store **ret, stet_error *e) {
    return stet_store_open(
        &(stet_store_options){.directory = directory, .memory_bytes = 16 << 20, .read_only = true}, ret, e);
}

static int complain(const stet_service *service, const stet_error *e) {
    (void)fprintf(stderr, "stet-%s: %s\n", service->name, e->message);
    return e->code == STET_INVALID ? STET_EXIT_USAGE : STET_EXIT_STORE;
}

/* ---- the prefix ---- */

static bool table_of(const stet_service *service, stet_str name, uint8_t *ret) {
    for (int table = 1; table < 256; table++) {
        const char *known = stet_table_name_of(service, (uint8_t)table);
        if (known && stet_str_is(name, known)) {
            *ret = (uint8_t)table;
            return true;
        }
    }
    return false;
}

static stet_str next_part(const char **at) {
    const char *end = strchr(*at, '/');
    stet_str part = {*at, end ? (size_t)(end - *at) : strlen(*at)};
    *at += part.size + (end ? 1 : 0);
    return part;
}

/* "jobs/drafts": components are ids where they read as one, else texts. */
static stet_code read_prefix(const stet_service *service, const char *text, stet_key *ret, stet_error *e) {
    uint8_t table;
    stet_str name = next_part(&text);
    if (!table_of(service, name, &table))
        return stet_error_set(e, STET_INVALID, "there is no table %.*s", STET_STR_ARG(name));
    *ret = stet_key_of(table);
    while (*text) {
        stet_str part = next_part(&text);
        stet_id id;
        if (part.size > STET_KEY_BYTES_MAX / 8)
            return stet_error_set(e, STET_INVALID, "a part of the prefix is too long");
        if (ret->size > STET_KEY_BYTES_MAX / 2)
            return stet_error_set(e, STET_INVALID, "the prefix is too long");
        if (stet_id_parse(part, &id))
            stet_key_id(ret, id);
        else
            stet_key_str(ret, part);
    }
    return STET_OK;
}

/* ---- rows ---- */

static void put_base64(stet_buf *b, stet_str value) {
    size_t size = sodium_base64_ENCODED_LEN(value.size, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(size);
    if (!text) {
        b->failed = true;
        return;
    }
    (void)sodium_bin2base64(text, size, (const unsigned char *)value.data, value.size,
                            sodium_base64_VARIANT_ORIGINAL);
    stet_json_quote(b, stet_str_of(text));
    free(text);
}

static void put_value(stet_buf *b, stet_str value) {
    stet_mp_limits limits = {.depth_max = 64, .nodes_max = 1 << 20};
    size_t mark = b->size;
    if (value.size == 0) {
        stet_buf_append_str(b, STET_STR("null"));
    } else if (stet_mp_check(value, limits, NULL) != STET_OK ||
               stet_mp_to_json(value, (stet_json_style){.ids = true, .nested = true}, b, NULL) != STET_OK) {
        stet_buf_truncate(b, mark);
        put_base64(b, value);
    }
}

static bool print_row(const stet_service *service, stet_buf *line, stet_str key, stet_str value) {
    uint8_t table = (uint8_t)key.data[0];
    stet_buf_clear(line);
    stet_buf_append_str(line, STET_STR("{\"key\":"));
    stet_key_json(key, stet_table_name_of(service, table), line);
    stet_buf_append_str(line, STET_STR(",\"value\":"));
    put_value(line, value);
    stet_buf_append_str(line, STET_STR("}\n"));
    return stet_buf_ok(line) && fwrite(line->data, 1, line->size, stdout) == line->size;
}

static stet_code print_rows(const stet_service *service, stet_store *store, const stet_key *prefix,
                            stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf line = STET_BUF(INSPECT_LINE_BYTES_MAX);
    stet_str key, value, wanted = prefix ? stet_key_bytes(prefix) : (stet_str){NULL, 0};
    stet_batch *batch = stet_store_batch(store);
    stet_scan *scan = batch ? stet_batch_scan(batch, wanted, (stet_str){NULL, 0}, false) : NULL;
    if (!scan)
        return stet_error_set(e, STET_INTERNAL, "no memory for a scan");
    while (stet_scan_next(scan, &key, &value)) {
        if (print_row(service, &line, key, value))
            continue;
        stet_scan_free(scan);
        return stet_error_set(e, STET_INTERNAL, "cannot print a row");
    }
    stet_code rc = stet_scan_status(scan, e);
    stet_scan_free(scan);
    return rc;
}

int stet_inspect_rows(const stet_service *service, const char *directory, const char *prefix) {
    stet_error error = {0};
    stet_store *store = NULL;
    stet_key key;
    bool all = !prefix || !*prefix;
    stet_code rc = all ? STET_OK : read_prefix(service, prefix, &key, &error);
    if (rc == STET_OK)
        rc = open_read_only(directory, &store, &error);
    if (rc == STET_OK)
        rc = print_rows(service, store, all ? NULL : &key, &error);
    (void)stet_store_close(store);
    return rc == STET_OK ? STET_EXIT_OK : complain(service, &error);
}

/* ---- check ---- */

static stet_code print_problems(stet_str reply, uint64_t *ret_problems, stet_error *e) {
    CLEANUP(stet_buf_done) stet_buf line = STET_BUF(INSPECT_LINE_BYTES_MAX);
    stet_mp_reader r;
    if (!stet_mp_find(reply, "problems", &r))
        return STET_OK;
    uint32_t count = stet_mp_read_array(&r);
    for (uint32_t i = 0; i < count; i++) {
        stet_buf_clear(&line);
        stet_code rc = stet_mp_to_json(stet_mp_read_raw(&r), (stet_json_style){0}, &line, e);
        if (rc != STET_OK)
            return rc;
        (void)printf("%.*s\n", STET_STR_ARG(stet_buf_str(&line)));
    }
    *ret_problems += count;
    return STET_OK;
}

static stet_code check_pages(stet_turn *turn, uint64_t *ret_problems, stet_error *e) {
    CLEANUP(stet_buf_done)
    stet_buf reply = STET_BUF(STET_BODY_BYTES_MAX), cursor = STET_BUF(2 * STET_KEY_BYTES_MAX);
    uint64_t checked = 0;
    for (;;) {
        cmd_drafter_check request = {.has_cursor = cursor.size > 0, .cursor = stet_buf_str(&cursor)};
        stet_buf_clear(&reply);
        stet_code rc = stet_check_read(turn, &request, &reply, e);
        if (rc == STET_OK)
            rc = print_problems(stet_buf_str(&reply), ret_problems, e);
        if (rc != STET_OK)
            return rc;
        checked += stet_mp_get_uint(stet_buf_str(&reply), "checked", 0);
        stet_str next = stet_mp_get_str(stet_buf_str(&reply), "cursor", (stet_str){NULL, 0});
        stet_buf_clear(&cursor);
        stet_buf_append_str(&cursor, next);
        if (next.size == 0)
            break;
    }
    (void)fprintf(stderr, "%llu rows looked at, %llu problems\n", (unsigned long long)checked,
                  (unsigned long long)*ret_problems);
    return STET_OK;
}

int stet_inspect_check(const stet_service *service, const stet_config *config, const char *directory) {
    stet_error error = {0};
    stet_effects effects;
    uint64_t problems = 0;
    stet_store *store = NULL;
    stet_code rc = open_read_only(directory, &store, &error);
    if (rc == STET_OK && !stet_store_batch(store))
        rc = stet_error_set(&error, STET_INTERNAL, "no memory");
    if (rc == STET_OK) {
        stet_effects_init(&effects);
        stet_turn turn = {.service = service,
                          .config = config,
                          .store = store,
                          .effects = &effects,
                          .row = STET_BUF(STET_VALUE_BYTES_MAX)};
        rc = check_pages(&turn, &problems, &error);
        stet_effects_done(&effects);
    }
    (void)stet_store_close(store);
    if (rc != STET_OK)
        return complain(service, &error);
    return problems ? 1 : STET_EXIT_OK;
}
