/* view - answers as tables and lists for people. Values are found by dotted paths ("error.message"). */
#ifndef TOOLS_STET_VIEW_H
#define TOOLS_STET_VIEW_H

#include "proto/wire/mp.h"
#include "tools/stet/table.h"

typedef enum view_kind { VIEW_TEXT, VIEW_TIME, VIEW_BYTES, VIEW_DURATION_MS, VIEW_PERCENT } view_kind;

typedef struct view_column {
    const char *title;
    const char *path;
    view_kind kind;
} view_column; /* a list ends with {NULL} */

/* The value at a dotted path of a map, as its bytes; {NULL, 0} when missing. */
stet_str view_find(stet_str map, const char *path);
/* True when one of the array's maps has this text at the key. */
bool view_has(stet_str array, const char *key, const char *text);
/* One value as text; "" for missing and null, JSON for what is nested. */
void view_value(stet_str value, view_kind kind, stet_buf *b);
/* Appends a row for each map of the array. Returns how many. */
uint32_t view_rows(table *t, stet_str array, const view_column *columns);
/* A table of the array's maps, or the sentence when it is empty. */
void view_table(stet_str array, const view_column *columns, const char *when_empty, stet_buf *b);
/* "title  value" lines of one map; missing values are left out. */
void view_facts(stet_str map, const view_column *columns, stet_buf *b);

#endif
