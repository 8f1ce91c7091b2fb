/* table - columns of text for people.
 *
 * Cells may come from peers: control characters and what is not UTF-8 are replaced, so nothing reaches the
 * terminal as a command; long cells are cut. Thread: one. Memory: table_done(). Pure: prints into a buffer.
 */
#ifndef TOOLS_STET_TABLE_H
#define TOOLS_STET_TABLE_H

#include "proto/base/buf.h"

enum {
    TABLE_COLUMNS_MAX = 12,
    TABLE_CELLS_MAX = 32768,
    TABLE_CELL_WIDTH_MAX = 72,
    TABLE_LAST_WIDTH_MAX = 400 /* of the last column, which moves no other */
};

typedef struct table {
    size_t columns;
    size_t cells;
    stet_buf text; /* the cells, each ended by a NUL */
    size_t widths[TABLE_COLUMNS_MAX];
} table;

/* titles: `columns` of them; a table whose titles are all "" prints no title line. */
table table_of(const char *const *titles, size_t columns);
/* The next cell, row by row. Beyond TABLE_CELLS_MAX nothing is added. */
void table_cell(table *self, stet_str text);
void table_cell_c(table *self, const char *text);
/* Fills the last row up and prints. */
void table_print(table *self, stet_buf *b);
void table_done(table *self);

/* Text of a peer, made harmless for a terminal and cut to width_max characters. */
void table_clean(stet_buf *b, stet_str text, size_t width_max);
void table_put_bytes(stet_buf *b, uint64_t bytes);           /* "12.3M" */
void table_put_duration(stet_buf *b, uint64_t milliseconds); /* "350ms", "12s", "3m20s", "5h02m", "3d04h" */

#endif
