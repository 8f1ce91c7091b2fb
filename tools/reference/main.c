/* stet-reference - prints docs/reference.md from the tables, or compares a copy with them.
 *
 *   stet-reference                 print
 *   stet-reference --check FILE    exit 1 with the first line that differs
 * Part of the build, not installed. */
#include <stdio.h>

#include "proto/wire/schema.h"

enum { REFERENCE_BYTES_MAX = 4 << 20 };

static int print(const stet_buf *reference) {
    size_t written = fwrite(reference->data, 1, reference->size, stdout);
    return written == reference->size && fflush(stdout) == 0 ? 0 : 1;
}

static int check(const stet_buf *reference, const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    size_t line = 1, at = 0;
    int byte;
    while ((byte = fgetc(file)) != EOF && at < reference->size && reference->data[at] == byte) {
        line += byte == '\n';
        at++;
    }
    (void)fclose(file);
    if (byte == EOF && at == reference->size)
        return 0;
    (void)fprintf(stderr, "%s differs from the tables in line %zu; run: stet-reference > %s\n", path, line,
                  path);
    return 1;
}

int main(int argc, char **argv) {
    CLEANUP(stet_buf_done) stet_buf reference = STET_BUF(REFERENCE_BYTES_MAX);
    stet_schema_reference(&reference);
    if (!stet_buf_ok(&reference))
        return 1;
    if (argc == 1)
        return print(&reference);
    if (argc == 3 && strcmp(argv[1], "--check") == 0)
        return check(&reference, argv[2]);
    (void)fprintf(stderr, "usage: stet-reference [--check FILE]\n");
    return 2;
}
