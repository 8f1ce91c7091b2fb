#include "store/hot_rows.h"

#include <xxhash.h>

static size_t place_of(stet_str key) {
    return XXH3_64bits(key.data, key.size) % HOT_ROWS;
}

static bool is_of(const hot_row *row, stet_str key) {
    return row->key_size == key.size && memcmp(row->key, key.data, key.size) == 0;
}

bool stet_hot_rows_find(const stet_hot_rows *self, stet_str key, stet_str *ret_value) {
    const hot_row *row = &self->rows[place_of(key)];
    if (!is_of(row, key))
        return false;
    *ret_value = stet_str_from(row->value, row->value_size);
    return true;
}

void stet_hot_rows_keep(stet_hot_rows *self, stet_str key, stet_str value) {
    ASSERT(key.size > 0);
    if (key.size > HOT_ROW_KEY_MAX || value.size > HOT_ROW_VALUE_MAX)
        return;
    hot_row *row = &self->rows[place_of(key)];
    row->key_size = (uint16_t)key.size;
    row->value_size = (uint16_t)value.size;
    memcpy(row->key, key.data, key.size);
    if (value.size > 0)
        memcpy(row->value, value.data, value.size);
}

void stet_hot_rows_forget(stet_hot_rows *self, stet_str key) {
    hot_row *row = &self->rows[place_of(key)];
    if (is_of(row, key))
        row->key_size = 0;
}
