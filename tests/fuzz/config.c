/* The configuration file: what is taken says what the file says, can be written and read again, and a secret is
 * neither taken from a file that others can read nor shown in what is wrong. Nothing is printed.
 *
 * Input: the file. */
#include "proto/base/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"

#define CANARY "sk-canary"

typedef struct files {
    int file, printed, stdout_fd; /* printed stands in for stdout while a file is read */
    char path[64];
} files;

static files *files_once(void) {
    static files all;
    if (all.file == 0) {
        for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
            const char *name = stet_setting_at((stet_setting)i)->environment;
            if (name[0] != '\0')
                ASSERT(unsetenv(name) == 0);
        }
        all = (files){.file = memfd_create("config", MFD_CLOEXEC),
                      .printed = memfd_create("printed", MFD_CLOEXEC),
                      .stdout_fd = dup(STDOUT_FILENO)};
        ASSERT(all.file > 0 && all.printed > 0 && all.stdout_fd > 0);
        (void)snprintf(all.path, sizeof all.path, "/proc/self/fd/%d", all.file);
    }
    return &all;
}

static stet_code load(files *f, stet_str text, mode_t mode, stet_config **ret, stet_error *e) {
    struct stat info;
    ASSERT(ftruncate(f->file, 0) == 0 && fchmod(f->file, mode) == 0);
    ASSERT(pwrite(f->file, text.size > 0 ? text.data : "", text.size, 0) == (ssize_t)text.size);
    (void)fflush(stdout);
    ASSERT(dup2(f->printed, STDOUT_FILENO) >= 0);
    stet_code rc = stet_config_load(f->path, ret, e);
    (void)fflush(stdout);
    ASSERT(dup2(f->stdout_fd, STDOUT_FILENO) >= 0);
    ASSERT(fstat(f->printed, &info) == 0 && info.st_size == 0);
    return rc;
}

/* True when the canary stands only where the key's value does. */
static bool secret_in_place(stet_str text) {
    static const char *const names[] = {"apiKey", "openai.apiKey"};
    bool there = false;
    while (text.size > 0) {
        const char *end = memchr(text.data, '\n', text.size);
        stet_str line = stet_str_from(text.data, end ? (size_t)(end - text.data) : text.size);
        text = stet_str_from(text.data + line.size + (end != NULL), text.size - line.size - (end != NULL));
        if (line.size == 0 || memmem(line.data, line.size, CANARY, strlen(CANARY)) == NULL)
            continue;
        there = true;
        while (line.size > 0 && *line.data == ' ')
            line = stet_str_from(line.data + 1, line.size - 1);
        bool good = false;
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            size_t size = strlen(names[i]);
            good |= line.size > size + 1 && memcmp(line.data, names[i], size) == 0 &&
                    (line.data[size] == ' ' || line.data[size] == '=');
        }
        if (!good)
            return false;
    }
    return there;
}

static void check_values(const stet_config *config, stet_str text) {
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        const char *value = stet_config_str(config, (stet_setting)i);
        ASSERT(stet_config_source(config, (stet_setting)i) != STET_FROM_ENVIRONMENT);
        if (stet_config_source(config, (stet_setting)i) == STET_FROM_FILE && value[0] != '\0')
            ASSERT(memmem(text.data, text.size, value, strlen(value)) != NULL);
        else if (stet_config_source(config, (stet_setting)i) == STET_FROM_DEFAULT)
            ASSERT(strcmp(value, stet_setting_at((stet_setting)i)->fallback) == 0);
        const char *type = stet_setting_at((stet_setting)i)->type_name;
        if (strcmp(type, "INT") == 0 || strcmp(type, "MS") == 0 || strcmp(type, "SIZE") == 0)
            ASSERT(stet_config_int(config, (stet_setting)i) >= 0);
        else if (strcmp(type, "INTS") == 0)
            (void)stet_config_list_has(config, (stet_setting)i, 429);
    }
}

/* Written again as `key = "value"`. False when a value cannot be written so. */
static bool write_again(const stet_config *config, stet_buf *b) {
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        const char *value = stet_config_str(config, (stet_setting)i);
        if (stet_config_source(config, (stet_setting)i) != STET_FROM_FILE)
            continue;
        char quote = strchr(value, '"') == NULL ? '"' : '\'';
        if (strchr(value, quote) != NULL || strlen(value) > 900)
            return false;
        stet_buf_printf(b, "%s = %c%s%c\n", stet_setting_at((stet_setting)i)->key, quote, value, quote);
    }
    return stet_buf_ok(b);
}

static void config_done(stet_config **config) {
    *config = stet_config_free(*config);
}

void fuzz_one(const uint8_t *data, size_t size) {
    files *f = files_once();
    stet_str text = stet_str_from(data, size);
    CLEANUP(config_done) stet_config *config = NULL, *again = NULL, *open = NULL;
    stet_error e;
    if (load(f, text, 0600, &config, &e) != STET_OK) {
        ASSERT(config == NULL && e.code == STET_INVALID && strstr(e.message, f->path) != NULL);
        ASSERT(strstr(e.message, CANARY) == NULL || !secret_in_place(text));
        return;
    }
    check_values(config, text);
    bool secret = false;
    for (int i = 0; i < STET_SETTINGS_COUNT; i++)
        secret |=
            stet_setting_at((stet_setting)i)->secret && stet_config_str(config, (stet_setting)i)[0] != '\0';
    stet_code rc = load(f, text, 0644, &open, &e);
    ASSERT(rc == (secret ? STET_INVALID : STET_OK));

    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(FUZZ_INPUT_MAX);
    if (!write_again(config, &b))
        return;
    ASSERT(load(f, stet_buf_str(&b), 0600, &again, &e) == STET_OK);
    for (int i = 0; i < STET_SETTINGS_COUNT; i++)
        ASSERT(strcmp(stet_config_str(config, (stet_setting)i), stet_config_str(again, (stet_setting)i)) ==
               0);
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const seeds[] = {
        "# comment\n\nbroker\n    queueMax = 9 # why\n    timeout = 30s\nstore\n    memory = 64M\n",
        "openai\n    apiKey = " CANARY "\n    model = \"a # b\"\n    authOptional = true\n",
        "openai.apiKey = '" CANARY "'\r\ndrafter.retryStatuses = \"408, 429\"\r\n",
        "broker.listen = tcp://127.0.0.1:5570,tcp://[::1]:5571\nlog.level = warn\n",
        "a\n    b\n        c\n            d = 1\n",
        "broker\n    queueMax = 1\nbroker\n    queueMax = 2\n",
        "openai\n    apiKey " CANARY "\n",
        "broker\n\tqueueMax = 99999999999999999999\n",
        "drafter\n    callBackoff = 7d\n    attempts = -1\n",
    };
    if (index > COUNT_OF(seeds))
        return false;
    if (index < COUNT_OF(seeds)) {
        stet_buf_append_str(b, stet_str_of(seeds[index]));
        return true;
    }
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) { /* all of them */
        const stet_setting_info *info = stet_setting_at((stet_setting)i);
        stet_buf_printf(b, "%s = \"%s\"\n", info->key, info->fallback);
    }
    return true;
}
