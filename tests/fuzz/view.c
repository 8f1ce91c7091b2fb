/* What the command line shows of an answer: whatever a broker or an actor puts into it, nothing reaches the terminal
 * as a command, and what is shown is UTF-8.
 *
 * Input: a byte that chooses the command, the body; or, with the highest bit, text for a table. */
#include <stdlib.h>

#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"
#include "tools/stet/commands.h"
#include "tools/stet/view.h"

static const char *const commands[] = {
    "drafter.queue",
    "drafter.list",
    "drafter.job",
    "drafter.drain",
    "drafter.retry",
    "drafter.cancel",
    "drafter.pause",
    "drafter.document.put",
    "drafter.document.history",
    "drafter.transcript.get",
    "drafter.transcript.list",
    "drafter.transcript.append",
};

/* No control character but the end of a line, neither of ASCII nor of U+0080 to U+009F. */
static void check_text(const stet_buf *b) {
    ASSERT(stet_buf_ok(b) && stet_utf8_valid(stet_buf_str(b)));
    for (size_t i = 0; i < b->size; i++) {
        ASSERT(b->data[i] >= 0x20 || b->data[i] == '\n');
        ASSERT(b->data[i] != 0x7f && (i + 1 >= b->size || b->data[i] != 0xc2 || b->data[i + 1] >= 0xa0));
    }
}

static void try_answer(const char *command, stet_str body) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(CLI_TEXT_MAX);
    ASSERT(show_answer(command, body, &b));
    check_text(&b);
}

static void try_cells(fuzz_input *in) {
    static const char *const titles[] = {"A", "B", "C"};
    size_t columns = 1 + fuzz_byte(in) % COUNT_OF(titles);
    CLEANUP(table_done) table t = table_of(titles, columns);
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(CLI_TEXT_MAX);
    size_t lines = 1, cells = 0;
    for (; in->left > 0 && cells < 300; cells++)
        table_cell(&t, fuzz_piece(in));
    table_print(&t, &b);
    check_text(&b);
    lines += (cells + columns - 1) / columns;
    for (size_t i = 0; i < b.size; i++)
        lines -= b.data[i] == '\n';
    ASSERT(lines == 0); /* a cell is never two lines */
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    uint8_t choice = fuzz_byte(&in);
    if (choice >= 0x80)
        try_cells(&in);
    else
        try_answer(commands[choice % COUNT_OF(commands)], fuzz_rest(&in));
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const seeds[] = {
        "{\"active\":{\"jobId\":\"j\",\"progress\":0.5,\"createdAt\":\"2026-11-25T22:38:36.123Z\"},"
        "\"counts\":"
        "{\"queued\":3,\"a\\u001bb\":1},\"recent\":[{\"jobId\":\"x\",\"error\":{\"message\":\"m\"}}],"
        "\"transcript\":{\"items\":2}}",
        "{\"jobs\":[{\"jobId\":\"x\",\"status\":\"done\"},{\"attempt\":[1,{\"a\":-1}]}],\"cursor\":\"c\"}",
        "{\"job\":{\"jobId\":\"j\",\"attempts\":[{\"attempt\":1,\"outcome\":\"ok\"}],\"result\":"
        "{\"usage\":{\"promptTokens\":7}}}}",
        "{\"drained\":[{\"jobId\":\"x\"}],\"waiting\":2}",
        "{\"requeued\":1,\"jobs\":[{\"jobId\":\"x\"}],\"more\":true}",
        "{\"jobId\":\"x\",\"status\":\"cancelled\"}",
        "{\"paused\":true}",
        "{\"version\":3}",
        "{\"versions\":[{\"version\":1,\"size\":123456789,\"author\":\"a\",\"at\":\"2026-11-25T22:38:36Z\"}]"
        "}",
        "{\"items\":[{\"timestamp\":\"t\",\"id\":\"m1\",\"role\":\"user\",\"text\":\"a\\nb\\u0085\"}]}",
        "{\"transcripts\":[{\"projectId\":\"p\",\"items\":1e300}]}",
        "{\"appended\":1,\"repeated\":2,\"items\":3,\"warnings\":[{\"itemId\":\"m\",\"kind\":\"k\"}]}",
    };
    if (index > COUNT_OF(seeds))
        return false;
    if (index == COUNT_OF(seeds)) {
        stet_buf_append(b,
                        "\x80\x01\x03"
                        "abc\x05"
                        "a\x1b[2J\x04\xc3\xa4\xff\n\x00\x02\xc2\x85",
                        20);
        return true;
    }
    stet_buf_append_byte(b, (uint8_t)index);
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(4096);
    ASSERT(stet_json_to_mp(stet_str_of(seeds[index]), STET_MP_LIMITS_BODY, &mp, NULL) == STET_OK);
    stet_buf_append_str(b, stet_buf_str(&mp));
    return true;
}
