/* The command line of stet, with its own table: what is taken is complete and within its bounds, and said in
 * another way it is the same.
 *
 * Input: the words, each ended by a NUL. */
#include <stdlib.h>

#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"
#include "tools/stet/commands.h"

enum { WORDS_MAX = 64 };

#define STUB(name)                                                                                           \
    int name(stet_cli *cli, const args *a) {                                                                 \
        (void)cli;                                                                                           \
        (void)a;                                                                                             \
        return 0;                                                                                            \
    }
STUB(run_up)
STUB(run_down)
STUB(run_status)
STUB(run_call)
STUB(run_request)
STUB(run_watch)
STUB(run_draft)
STUB(run_doc_get)
STUB(run_doc_put)
STUB(run_transcript_append)
STUB(run_inspect)
STUB(run_config)
STUB(run_completion)
STUB(run_keys_new)
STUB(run_keys_list)
STUB(run_keys_revoke)
STUB(run_doctor)

static void check_value(const args *a, const args_row *row, const char *value) {
    if (row->type == ARGS_FLAG) {
        ASSERT(value == NULL || strcmp(value, row->name) == 0);
        return;
    }
    if (value == NULL)
        return;
    if (row->type == ARGS_COUNT || row->type == ARGS_NUMBER) {
        uint64_t number = args_number(a, row->name, 0);
        ASSERT(number <= INT64_MAX && (number > 0 || row->type == ARGS_NUMBER));
    } else if (row->type == ARGS_SECONDS) {
        uint32_t ms = args_milliseconds(a, row->name, 0);
        ASSERT(ms >= 1 && ms <= 24 * 3600 * 1000);
    }
}

/* Options as --name=value, in the order of the table; then the positionals behind --. */
static int say_again(const args *a, char **words, stet_buf *b) {
    size_t starts[WORDS_MAX];
    int count = 0;
#define WORD(...)                                                                                            \
    do {                                                                                                     \
        ASSERT(count < WORDS_MAX);                                                                           \
        starts[count++] = b->size;                                                                           \
        stet_buf_printf(b, __VA_ARGS__);                                                                     \
        stet_buf_append_byte(b, 0);                                                                          \
    } while (0)
    WORD("stet");
    const char *name = a->command->name, *space = strchr(name, ' ');
    WORD("%.*s", space ? (int)(space - name) : (int)strlen(name), name);
    if (space)
        WORD("%s", space + 1);
    const args_row *rows = a->command->rows;
    for (size_t i = 0; rows[i].name != NULL; i++) {
        if (args_row_is_option(&rows[i]) && a->values[i] != NULL)
            WORD(rows[i].type == ARGS_FLAG ? "%s" : "%s=%s", rows[i].name, a->values[i]);
    }
    for (size_t i = 0; a->globals[i].name != NULL; i++) {
        if (a->global_values[i] != NULL)
            WORD(a->globals[i].type == ARGS_FLAG ? "%s" : "%s=%s", a->globals[i].name, a->global_values[i]);
    }
    WORD("--");
    for (size_t i = 0; rows[i].name != NULL; i++) {
        if (!args_row_is_option(&rows[i]) && a->values[i] != NULL)
            WORD("%s", a->values[i]);
    }
#undef WORD
    ASSERT(stet_buf_ok(b));
    for (int i = 0; i < count; i++)
        words[i] = (char *)b->data + starts[i];
    return count;
}

static bool same(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_taken(const args *a) {
    const args_row *rows = a->command->rows;
    bool help = args_has(a, "--help");
    for (size_t i = 0; rows[i].name != NULL; i++) {
        check_value(a, &rows[i], a->values[i]);
        ASSERT(help || a->values[i] != NULL || args_row_is_option(&rows[i]) || rows[i].value == NULL);
    }
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(2 * FUZZ_INPUT_MAX);
    char *words[WORDS_MAX];
    int count = say_again(a, words, &b);
    args again;
    ASSERT(args_parse(stet_commands, stet_globals, count, words, &again, NULL) == STET_OK);
    ASSERT(again.command == a->command);
    for (size_t i = 0; i < ARGS_ROWS_MAX; i++)
        ASSERT(same(a->values[i], again.values[i]));
    for (size_t i = 0; i < ARGS_GLOBALS_MAX; i++)
        ASSERT(same(a->global_values[i], again.global_values[i]));
}

static void try_help(const args *a) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(1 << 20);
    if (a->command != NULL)
        args_command_help(a->command, stet_globals, &b);
    else
        args_overview(stet_commands, stet_globals, a->group, &b);
    ASSERT(stet_buf_ok(&b) && b.size > 0);
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(FUZZ_INPUT_MAX + 1);
    stet_buf_append(&text, data, size);
    stet_buf_append_byte(&text, 0);
    char name[] = "stet";
    char *words[WORDS_MAX] = {name};
    int count = 1;
    for (size_t at = 0; at < size && count < WORDS_MAX; count++) {
        words[count] = (char *)text.data + at;
        at += strlen(words[count]) + 1;
    }
    args a;
    stet_error e;
    if (args_parse(stet_commands, stet_globals, count, words, &a, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID && e.message[0] != '\0');
        return;
    }
    if (a.command != NULL)
        check_taken(&a);
    if (args_has(&a, "--help") || a.command == NULL)
        try_help(&a);
}

/* Of each command: everything it takes. */
bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const values[] = {
        [ARGS_TEXT] = "x",      [ARGS_FILE] = "f",   [ARGS_COUNT] = "3",       [ARGS_NUMBER] = "0",
        [ARGS_SECONDS] = "0.5", [ARGS_LIST] = "a,b", [ARGS_JSON] = "{\"a\":1}"};
    size_t commands = 0;
    while (stet_commands[commands].name != NULL)
        commands++;
    if (index > commands)
        return false;
    if (index == commands) {
        stet_buf_append(b, "--json\0doc\0-h\0--\0-\0", 19);
        return true;
    }
    const args_command *command = &stet_commands[index];
    stet_buf_append_str(b, stet_str_of(command->name));
    for (uint8_t *at = b->data; at < b->data + b->size; at++)
        *at = *at == ' ' ? 0 : *at;
    stet_buf_append_byte(b, 0);
    for (const args_row *row = command->rows; row->name != NULL; row++) {
        if (args_row_is_option(row)) {
            stet_buf_append_str(b, stet_str_of(row->name));
            stet_buf_append_byte(b, index % 2 == 0 && row->type != ARGS_FLAG ? '=' : 0);
        }
        if (row->type != ARGS_FLAG) {
            stet_buf_append_str(b, stet_str_of(values[row->type]));
            stet_buf_append_byte(b, 0);
        }
    }
    return true;
}
