/* hot_rows - the small rows that were read last, so that a row which is read again and again but seldom written (the head of
 * an outbox whose receiver is away, a queue's settings) is not looked for through all tables each time.
 *
 * Direct-mapped: a key has one place, and the last one read has it. It holds what the engine has, never what a batch has:
 *
 *      read of the engine   keep
 *      write into a batch   forget; until it is committed the batches answer, afterwards the engine is read again
 *
 * so nothing is to be done at a rollback, and at a commit only for the row that the commit itself writes. Values are copied
 * in; `find` returns a view that lasts until the next keep or forget. Thread: the loop's. Memory: fixed, 75 KiB. */
#ifndef STET_HOT_ROWS_H
#define STET_HOT_ROWS_H

#include "proto/base/base.h"

enum { HOT_ROWS = 128, HOT_ROW_KEY_MAX = 80, HOT_ROW_VALUE_MAX = 512 };

typedef struct hot_row {
    uint16_t key_size; /* 0: free */
    uint16_t value_size;
    uint8_t key[HOT_ROW_KEY_MAX];
    uint8_t value[HOT_ROW_VALUE_MAX];
} hot_row;

/* All zeros: empty. */
typedef struct stet_hot_rows {
    hot_row rows[HOT_ROWS];
} stet_hot_rows;

bool stet_hot_rows_find(const stet_hot_rows *self, stet_str key, stet_str *ret_value);
/* Larger ones are not kept. */
void stet_hot_rows_keep(stet_hot_rows *self, stet_str key, stet_str value);
void stet_hot_rows_forget(stet_hot_rows *self, stet_str key);

#endif
