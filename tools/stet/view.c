#include "tools/stet/view.h"

#include "proto/wire/json.h"
#include "proto/wire/rfc3339.h"

#include <inttypes.h>
#include <time.h>

enum { VALUE_BYTES_MAX = 1 << 20 };

stet_str view_find(stet_str map, const char *path) {
    while (*path != '\0') {
        char key[64];
        size_t size = strcspn(path, ".");
        ASSERT(size < sizeof key);
        memcpy(key, path, size);
        key[size] = '\0';
        map = stet_mp_get_raw(map, key);
        path += size + (path[size] == '.');
    }
    return map;
}

bool view_has(stet_str array, const char *key, const char *text) {
    stet_mp_reader r = stet_mp_reader_of(array);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    bool found = false;
    for (uint32_t i = 0; i < count && !r.failed && !found; i++)
        found = stet_str_is(stet_mp_get_str(stet_mp_read_raw(&r), key, (stet_str){NULL, 0}), text);
    return found;
}

/* "2026-11-25T22:38:36.123Z" as local time; as it is when it is none. */
static void put_time(stet_buf *b, stet_str text) {
    int64_t wall_ms = 0;
    if (!stet_rfc3339_parse(text, &wall_ms)) {
        stet_buf_append_str(b, text);
        return;
    }
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts = {0};
    char shown[32] = "";
    if (localtime_r(&seconds, &parts) != NULL)
        (void)strftime(shown, sizeof shown, "%Y-%m-%d %H:%M:%S", &parts);
    stet_buf_append_str(b, stet_str_of(shown));
}

static void put_number(stet_buf *b, uint64_t number, view_kind kind) {
    if (kind == VIEW_BYTES)
        table_put_bytes(b, number);
    else if (kind == VIEW_DURATION_MS)
        table_put_duration(b, number);
    else if (kind == VIEW_PERCENT)
        stet_buf_printf(b, "%" PRIu64 "%%", number * 100);
    else
        stet_buf_printf(b, "%" PRIu64, number);
}

void view_value(stet_str value, view_kind kind, stet_buf *b) {
    stet_mp_reader r = stet_mp_reader_of(value);
    switch (stet_mp_peek(&r)) {
    case STET_MP_NONE:
    case STET_MP_NIL:
        return;
    case STET_MP_STR:
        if (kind == VIEW_TIME)
            put_time(b, stet_mp_read_str(&r));
        else
            stet_buf_append_str(b, stet_mp_read_str(&r));
        return;
    case STET_MP_BOOL:
        stet_buf_append_str(b, stet_mp_read_bool(&r) ? STET_STR("yes") : STET_STR("no"));
        return;
    case STET_MP_UINT:
        put_number(b, stet_mp_read_uint(&r), kind);
        return;
    case STET_MP_DOUBLE:
        if (kind == VIEW_PERCENT) {
            stet_buf_printf(b, "%.0f%%", stet_mp_read_double(&r) * 100);
            return;
        }
        break;
    case STET_MP_INT:
    case STET_MP_BIN:
    case STET_MP_ARRAY:
    case STET_MP_MAP:
    case STET_MP_EXT:
        break;
    }
    if (stet_mp_to_json(value, (stet_json_style){.ids = true}, b, NULL) != STET_OK)
        stet_buf_append_str(b, STET_STR("?"));
}

static void put_cell(table *t, stet_str map, const view_column *column) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(VALUE_BYTES_MAX);
    view_value(view_find(map, column->path), column->kind, &text);
    table_cell(t, stet_buf_str(&text));
}

uint32_t view_rows(table *t, stet_str array, const view_column *columns) {
    stet_mp_reader r = stet_mp_reader_of(array);
    uint32_t count = stet_mp_peek(&r) == STET_MP_ARRAY ? stet_mp_read_array(&r) : 0;
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        stet_str map = stet_mp_read_raw(&r);
        for (const view_column *c = columns; c->title != NULL; c++)
            put_cell(t, map, c);
    }
    return count;
}

void view_table(stet_str array, const view_column *columns, const char *when_empty, stet_buf *b) {
    const char *titles[TABLE_COLUMNS_MAX];
    size_t count = 0;
    for (; columns[count].title != NULL; count++) {
        ASSERT(count < TABLE_COLUMNS_MAX);
        titles[count] = columns[count].title;
    }
    CLEANUP(table_done) table t = table_of(titles, count);
    if (view_rows(&t, array, columns) > 0)
        table_print(&t, b);
    else
        stet_buf_printf(b, "%s\n", when_empty);
}

void view_facts(stet_str map, const view_column *columns, stet_buf *b) {
    static const char *const no_titles[] = {"", ""};
    CLEANUP(table_done) table t = table_of(no_titles, COUNT_OF(no_titles));
    for (; columns->title != NULL; columns++) {
        CLEANUP(stet_buf_done) stet_buf text = STET_BUF(VALUE_BYTES_MAX);
        view_value(view_find(map, columns->path), columns->kind, &text);
        if (text.size == 0)
            continue;
        table_cell_c(&t, columns->title);
        table_cell(&t, stet_buf_str(&text));
    }
    table_print(&t, b);
}
