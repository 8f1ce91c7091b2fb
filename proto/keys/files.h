/* files - how key files are read and written. Private to proto/keys. Thread: any. */
#ifndef STET_KEYS_FILES_H
#define STET_KEYS_FILES_H

#include "proto/keys/keys.h"

enum { KEY_FILE_BYTES_MAX = 16 << 10 };

/* One `name = "value"` that a file may hold. */
typedef struct key_line {
    const char *name;
    char *value; /* where it goes, size_max bytes with its NUL */
    size_t size_max;
    bool required;
    bool seen;
} key_line;

/* Reads a private file of such lines. Lines that start with # and empty ones are skipped. */
NODISCARD
stet_code key_file_read(const char *path, key_line *lines, size_t lines_count, stet_error *e);
/* `name = "value"` */
void key_line_put(stet_buf *b, const char *name, const char *value);
/* A new file with this content, mode 0600, there and synced or not there at all. STET_CONFLICT when it
 * exists. */
NODISCARD
stet_code key_file_write(const char *path, stet_str text, stet_error *e);
/* Makes a change of names in the directory of the file durable. */
NODISCARD
stet_code key_directory_sync(const char *path, stet_error *e);
/* A directory of ours that nobody else may enter; a file of ours that nobody else may read. */
NODISCARD
stet_code key_check_private(int fd, const char *path, bool directory, stet_error *e);

#endif
