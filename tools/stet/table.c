#include "tools/stet/table.h"

#include "proto/wire/json.h"

#include <inttypes.h>

enum { TEXT_BYTES_MAX = 16 << 20 };

static size_t width_of(stet_str text) {
    size_t width = 0;
    for (size_t i = 0; i < text.size; i++)
        width += ((uint8_t)text.data[i] & 0xC0) != 0x80;
    return width;
}

void table_clean(stet_buf *b, stet_str text, size_t width_max) {
    size_t width = 0;
    for (size_t i = 0; i < text.size; width++) {
        size_t size = 1;
        while (i + size < text.size && size < 4 && ((uint8_t)text.data[i + size] & 0xC0) == 0x80)
            size++;
        stet_str character = stet_str_from(text.data + i, size);
        if (width + 1 == width_max && i + size < text.size) {
            stet_buf_append(b, "\xE2\x80\xA6", 3); /* … */
            return;
        }
        uint8_t c = (uint8_t)character.data[0];
        bool control = c < 0x20 || c == 0x7F || (c == 0xC2 && size == 2 && (uint8_t)character.data[1] < 0xA0);
        if (control)
            stet_buf_append_byte(b, ' ');
        else if (!stet_utf8_valid(character))
            stet_buf_append_byte(b, '?');
        else
            stet_buf_append_str(b, character);
        i += size;
    }
}

static size_t add(table *self, stet_str text, size_t column) {
    size_t start = self->text.size;
    table_clean(&self->text, text, column + 1 == self->columns ? TABLE_LAST_WIDTH_MAX : TABLE_CELL_WIDTH_MAX);
    stet_buf_append_byte(&self->text, '\0');
    if (!stet_buf_ok(&self->text))
        return 0; /* table_print says so */
    return width_of(stet_str_from(self->text.data + start, self->text.size - 1 - start));
}

table table_of(const char *const *titles, size_t columns) {
    ASSERT(columns > 0 && columns <= TABLE_COLUMNS_MAX);
    table self = {.columns = columns, .text = STET_BUF(TEXT_BYTES_MAX)};
    for (size_t i = 0; i < columns; i++)
        self.widths[i] = add(&self, stet_str_of(titles[i]), i);
    return self;
}

void table_cell(table *self, stet_str text) {
    if (self->cells >= TABLE_CELLS_MAX)
        return;
    size_t column = self->cells++ % self->columns;
    size_t width = add(self, text.size > 0 ? text : STET_STR("-"), column);
    if (width > self->widths[column])
        self->widths[column] = width;
}

void table_cell_c(table *self, const char *text) {
    table_cell(self, stet_str_of(text));
}

void table_put_bytes(stet_buf *b, uint64_t bytes) {
    static const char units[] = {'K', 'M', 'G', 'T', 'P', 'E'};
    if (bytes < 1024) {
        stet_buf_printf(b, "%" PRIu64 "B", bytes);
        return;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    for (; value >= 1000 && unit + 1 < COUNT_OF(units); unit++)
        value /= 1024;
    stet_buf_printf(b, "%.*f%c", value < 10 ? 1 : 0, value, units[unit]);
}

void table_put_duration(stet_buf *b, uint64_t milliseconds) {
    uint64_t s = milliseconds / 1000;
    if (milliseconds < 1000)
        stet_buf_printf(b, "%" PRIu64 "ms", milliseconds);
    else if (s < 60)
        stet_buf_printf(b, "%" PRIu64 "s", s);
    else if (s < 3600)
        stet_buf_printf(b, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        stet_buf_printf(b, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        stet_buf_printf(b, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
}

void table_print(table *self, stet_buf *b) {
    while (self->cells % self->columns != 0 && self->cells < TABLE_CELLS_MAX)
        table_cell(self, STET_STR(""));
    if (!stet_buf_ok(&self->text)) {
        b->failed = true;
        return;
    }
    const char *at = (const char *)self->text.data;
    bool titled = false;
    for (size_t i = 0; i < self->columns; i++) {
        titled |= *at != '\0';
        if (i + 1 < self->columns)
            at += strlen(at) + 1;
    }
    at = (const char *)self->text.data;
    for (size_t i = 0; i < self->columns + self->cells; i++) {
        stet_str cell = stet_str_of(at);
        at += cell.size + 1;
        if (i < self->columns && !titled)
            continue;
        stet_buf_append_str(b, cell);
        bool last = i % self->columns == self->columns - 1;
        size_t pad = self->widths[i % self->columns] - width_of(cell) + 2;
        if (last)
            stet_buf_append_byte(b, '\n');
        else
            stet_buf_printf(b, "%*s", (int)pad, "");
    }
}

void table_done(table *self) {
    stet_buf_done(&self->text);
}
