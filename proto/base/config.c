/* config - how the file is read.
 *
 * czmq's zconfig makes the tree, but it prints what it cannot parse on stdout (which may be a piece of a
 * secret) and says nothing of a key that nobody asks for. So the text is first checked here, line by line,
 * against the part of ZPL that zconfig accepts (zconfig then never refuses), and every key of the tree must
 * be one of settings.def. */
#include "proto/base/config.h"

#include "proto/base/log.h"

#include <czmq.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_BYTES_MAX = 1 << 20,
    LINE_BYTES_MAX = 1000,
    NAMES_MAX = 1000, /* zconfig walks all that stand side by side for each one more */
    DEPTH_MAX = 8,
    KEY_SIZE_MAX = 128
};

typedef enum setting_type { TYPE_STR, TYPE_INT, TYPE_MS, TYPE_SIZE, TYPE_BOOL, TYPE_INTS } setting_type;

static const setting_type types[STET_SETTINGS_COUNT] = {
#define X(name, key, type, fallback, env, secret, help) [STET_SETTING_##name] = TYPE_##type,
#include "proto/base/settings.def"
#undef X
};

static const stet_setting_info infos[STET_SETTINGS_COUNT] = {
#define X(name_, key_, type_, fallback_, env_, secret_, help_)                                               \
    [STET_SETTING_##name_] = {.key = (key_),                                                                 \
                              .fallback = (fallback_),                                                       \
                              .environment = (env_),                                                         \
                              .help = (help_),                                                               \
                              .type_name = #type_,                                                           \
                              .secret = (secret_) != 0},
#include "proto/base/settings.def"
#undef X
};

typedef struct value {
    char *text;
    int64_t number;
    stet_setting_source source;
} value;

struct stet_config {
    value values[STET_SETTINGS_COUNT];
};

/* ---- values ---- */

typedef struct unit {
    const char *name;
    int64_t factor;
} unit;

static const unit units_ms[] = {{"", 1},          {"ms", 1},          {"s", 1000},
                                {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000},
                                {NULL, 0}};
static const unit units_size[] = {{"", 1},        {"K", 1 << 10},          {"M", 1 << 20},
                                  {"G", 1 << 30}, {"T", INT64_C(1) << 40}, {NULL, 0}};
static const unit units_none[] = {{"", 1}, {NULL, 0}};

/* Digits, then one of the units; no sign, no spaces, no overflow. */
static bool parse_number(const char *text, const unit *units, int64_t *ret_number) {
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    char *end = NULL;
    long long number = strtoll(text, &end, 10);
    if (errno != 0)
        return false;
    for (; units->name != NULL; units++) {
        if (strcmp(end, units->name) == 0)
            return !__builtin_mul_overflow((int64_t)number, units->factor, ret_number);
    }
    return false;
}

static bool parse_bool(const char *text, int64_t *ret_number) {
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    bool no = strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
    *ret_number = yes;
    return yes || no;
}

/* Looks for a number in "408,429" (spaces around allowed); false when the text is not such a list. */
static bool walk_list(const char *text, int64_t wanted, bool *ret_found) {
    *ret_found = false;
    text += strspn(text, " ");
    while (*text != '\0') {
        errno = 0;
        char *end = NULL;
        if (!isdigit((unsigned char)*text))
            return false;
        long long number = strtoll(text, &end, 10);
        if (errno != 0)
            return false;
        if (number == wanted)
            *ret_found = true;
        text = end + strspn(end, " ");
        if (*text == '\0')
            break;
        if (*text != ',')
            return false;
        text++;
        text += strspn(text, " ");
        if (*text == '\0')
            return false;
    }
    return true;
}

static const char *parse_value(stet_setting setting, const char *text, int64_t *ret_number) {
    bool found = false;
    *ret_number = 0;
    switch (types[setting]) {
    case TYPE_STR:
        if (setting == STET_SETTING_log_level &&
            stet_level_from_name(stet_str_of(text), STET_DEBUG) == STET_DEBUG && strcmp(text, "debug") != 0)
            return "must be debug, info, warn or error";
        return NULL;
    case TYPE_INT:
        return parse_number(text, units_none, ret_number) ? NULL : "must be a whole number, 0 or more";
    case TYPE_MS:
        return parse_number(text, units_ms, ret_number) ? NULL
                                                        : "must be a duration like 250ms, 30s, 5m, 24h or 7d";
    case TYPE_SIZE:
        return parse_number(text, units_size, ret_number) ? NULL
                                                          : "must be a size in bytes like 64K, 32M or 1G";
    case TYPE_BOOL:
        return parse_bool(text, ret_number) ? NULL : "must be true or false";
    case TYPE_INTS:
        return walk_list(text, 0, &found) ? NULL : "must be whole numbers separated by commas, like 408,429";
    }
    return "has an unknown type";
}

static void wipe(char *text) {
    if (text != NULL)
        explicit_bzero(text, strlen(text));
}

static stet_code set_value(stet_config *self, stet_setting setting, const char *text,
                           stet_setting_source source, stet_error *e) {
    ASSERT((int)setting >= 0 && setting < STET_SETTINGS_COUNT);
    int64_t number = 0;
    const char *problem = parse_value(setting, text, &number);
    if (problem != NULL) {
        bool shown = !infos[setting].secret;
        return stet_error_field(e, STET_INVALID, infos[setting].key, "%s%s%.60s%s %s", infos[setting].key,
                                shown ? " = '" : "", shown ? text : "", shown ? "'" : "", problem);
    }
    char *copy = strdup(text);
    if (copy == NULL)
        return stet_error_set(e, STET_UNAVAILABLE, "out of memory");
    value *v = &self->values[setting];
    wipe(v->text);
    free(v->text);
    *v = (value){.text = copy, .number = number, .source = source};
    return STET_OK;
}

/* ---- the file ---- */

/* Without the slash: zconfig takes it in the middle of a name only, and complains on stdout. */
static bool is_name_char(char c) {
    return isalnum((unsigned char)c) || (c != '\0' && strchr("$-_@.&+", c) != NULL);
}

/* What is wrong with the part after a name; NULL when nothing. */
static const char *check_line_value(const char *at) {
    at += strspn(at, " \t");
    if (*at != '=')
        return *at == '\0' || *at == '#' ? NULL : "expected '=' after the name";
    at++;
    at += strspn(at, " \t");
    if (*at != '"' && *at != '\'')
        return NULL;
    const char *end = strchr(at + 1, *at);
    if (end == NULL)
        return "the quote is not closed";
    end++;
    end += strspn(end, " \t");
    return *end == '\0' || *end == '#' ? NULL : "text after the closing quote";
}

/* One line without its newline, NUL-terminated. *depth: of the last line with a name. */
static const char *check_line(const char *line, size_t size, int *depth) {
    if (size > LINE_BYTES_MAX)
        return "the line is too long";
    size_t spaces = strspn(line, " ");
    if (line[spaces] == '\t')
        return "indent with 4 spaces, not with tabs";
    if (spaces % 4 != 0)
        return "indent with 4 spaces for each level";
    int own = (int)(spaces / 4);
    if (own > *depth + 1)
        return "indented deeper than the section above";
    if (own >= DEPTH_MAX)
        return "nested too deep";
    const char *at = line + spaces;
    if (!is_name_char(*at))
        return "a name must start the line";
    while (is_name_char(*at))
        at++;
    *depth = own;
    return check_line_value(at);
}

/* Checks and normalizes in place: comment and blank lines become "####", carriage returns become spaces. */
static stet_code check_text(const char *path, char *text, size_t size, stet_error *e) {
    if (memchr(text, '\0', size) != NULL)
        return stet_error_set(e, STET_INVALID, "%s: not a text file", path);
    int depth = -1;
    int number = 0;
    int names = 0;
    for (char *line = text; line < text + size;) {
        char *end = strchr(line, '\n');
        if (end == NULL)
            end = text + size;
        char newline = *end;
        *end = '\0';
        number++;
        for (char *cr = end; cr > line && cr[-1] == '\r';)
            *--cr = ' ';
        char first = line[strspn(line, " \t")];
        const char *problem = NULL;
        if (first == '\0' || first == '#')
            memset(line, '#', (size_t)(end - line));
        else if (++names > NAMES_MAX)
            problem = "more names than there are settings";
        else
            problem = check_line(line, (size_t)(end - line), &depth);
        *end = newline;
        if (problem != NULL)
            return stet_error_set(e, STET_INVALID, "%s: line %d: %s", path, number, problem);
        line = end + 1;
    }
    return STET_OK;
}

static stet_setting setting_of_key(const char *key) {
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        if (strcmp(infos[i].key, key) == 0)
            return (stet_setting)i;
    }
    return STET_SETTINGS_COUNT;
}

static bool is_section(const char *key) {
    size_t size = strlen(key);
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        if (strncmp(infos[i].key, key, size) == 0 && infos[i].key[size] == '.')
            return true;
    }
    return false;
}

static stet_code apply_setting(stet_config *self, const char *path, unsigned mode, const char *key,
                               const char *text, stet_error *e) {
    stet_setting setting = setting_of_key(key);
    if (setting == STET_SETTINGS_COUNT)
        return stet_error_field(e, STET_INVALID, key, "%s: unknown setting '%s' ('stet config' lists all)",
                                path, key);
    if (self->values[setting].source == STET_FROM_FILE)
        return stet_error_field(e, STET_INVALID, key, "%s: '%s' is set twice", path, key);
    if (infos[setting].secret && text[0] != '\0' && (mode & 0077) != 0)
        return stet_error_field(e, STET_INVALID, key,
                                "%s holds the secret '%s' but others can read it: chmod 600 it", path, key);
    stet_error inner;
    stet_code rc = set_value(self, setting, text, STET_FROM_FILE, &inner);
    return rc == STET_OK ? rc : stet_error_field(e, rc, key, "%s: %s", path, inner.message);
}

/* Depth-first over a tree whose depth check_text() has bounded. */
static stet_code apply_tree(stet_config *self, const char *path, unsigned mode, zconfig_t *node,
                            const char *prefix, stet_error *e) {
    for (; node != NULL; node = zconfig_next(node)) {
        char key[KEY_SIZE_MAX];
        int size =
            snprintf(key, sizeof key, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", zconfig_name(node));
        if (size < 0 || (size_t)size >= sizeof key)
            return stet_error_set(e, STET_INVALID, "%s: unknown setting '%s...'", path, key);
        zconfig_t *child = zconfig_child(node);
        const char *text = zconfig_value(node);
        text = text ? text : "";
        stet_code rc;
        if (child != NULL || (is_section(key) && text[0] == '\0')) {
            if (!is_section(key) || text[0] != '\0')
                return stet_error_field(e, STET_INVALID, key,
                                        "%s: unknown section '%s' ('stet config' lists all)", path, key);
            rc = apply_tree(self, path, mode, child, key, e);
        } else {
            rc = apply_setting(self, path, mode, key, text, e);
        }
        if (rc != STET_OK)
            return rc;
    }
    return STET_OK;
}

static void wipe_tree(zconfig_t *node) {
    for (; node != NULL; node = zconfig_next(node)) {
        wipe(zconfig_value(node));
        wipe_tree(zconfig_child(node));
    }
}

/* *ret_size bytes and a NUL, for the caller to wipe and free. */
static stet_code read_file(const char *path, char **ret_text, size_t *ret_size, unsigned *ret_mode,
                           stet_error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        stet_code rc = stet_error_set(e, stet_code_of_disk(errno, STET_INVALID),
                                      "cannot read configuration %s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    size_t size = 0;
    ssize_t got = -1;
    bool is_file = S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode);
    char *text = is_file ? malloc(FILE_BYTES_MAX + 2) : NULL;
    if (is_file && text == NULL) {
        (void)close(fd);
        return stet_error_set(e, STET_UNAVAILABLE, "out of memory");
    }
    while (text != NULL && size <= FILE_BYTES_MAX) {
        got = read(fd, text + size, FILE_BYTES_MAX + 1 - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        size += (size_t)got;
    }
    (void)close(fd);
    if (text == NULL || got < 0 || size > FILE_BYTES_MAX) {
        free(text);
        return stet_error_set(e, STET_INVALID,
                              "cannot read configuration %s: not a readable file of at most 1 MiB", path);
    }
    text[size] = '\0';
    *ret_text = text;
    *ret_size = size;
    *ret_mode = info.st_mode;
    return STET_OK;
}

static stet_code load_file(stet_config *self, const char *path, stet_error *e) {
    char *text = NULL;
    size_t size = 0;
    unsigned mode = 0;
    stet_code rc = read_file(path, &text, &size, &mode, e);
    if (rc != STET_OK)
        return rc;
    ASSERT(text != NULL);
    rc = check_text(path, text, size, e);
    if (rc == STET_OK && size > 0) {
        zconfig_t *root = zconfig_str_load(text);
        if (root == NULL)
            rc = stet_error_set(e, STET_INVALID, "%s: not a ZPL file", path);
        else
            rc = apply_tree(self, path, mode, zconfig_child(root), "", e);
        wipe_tree(root);
        zconfig_destroy(&root);
    }
    explicit_bzero(text, size);
    free(text);
    return rc;
}

/* An empty variable counts as not set, as shells make it hard to tell the two apart. */
static stet_code load_environment(stet_config *self, stet_error *e) {
    for (int i = 0; i < STET_SETTINGS_COUNT; i++) {
        if (infos[i].environment[0] == '\0')
            continue;
        const char *text = getenv(infos[i].environment);
        if (text == NULL || text[0] == '\0')
            continue;
        stet_error inner;
        stet_code rc = set_value(self, (stet_setting)i, text, STET_FROM_ENVIRONMENT, &inner);
        if (rc != STET_OK)
            return stet_error_field(e, rc, infos[i].key, "environment variable %s: %s", infos[i].environment,
                                    inner.message);
    }
    return STET_OK;
}

/* ---- the public side ---- */

stet_code stet_config_load(const char *path, stet_config **ret, stet_error *e) {
    stet_config *self = calloc(1, sizeof *self);
    stet_code rc = self ? STET_OK : stet_error_set(e, STET_UNAVAILABLE, "out of memory");
    for (int i = 0; rc == STET_OK && i < STET_SETTINGS_COUNT; i++)
        rc = set_value(self, (stet_setting)i, infos[i].fallback, STET_FROM_DEFAULT, e);
    if (rc == STET_OK && path != NULL)
        rc = load_file(self, path, e);
    if (rc == STET_OK)
        rc = load_environment(self, e);
    if (rc != STET_OK) {
        stet_config_free(self);
        return rc;
    }
    *ret = self;
    return STET_OK;
}

stet_config *stet_config_free(stet_config *self) {
    if (self == NULL)
        return NULL;
    for (size_t i = 0; i < STET_SETTINGS_COUNT; i++) {
        wipe(self->values[i].text);
        free(self->values[i].text);
    }
    free(self);
    return NULL;
}

stet_code stet_config_set(stet_config *self, stet_setting setting, const char *text, stet_error *e) {
    return set_value(self, setting, text, STET_FROM_FILE, e);
}

static const value *value_at(const stet_config *self, stet_setting setting) {
    ASSERT((int)setting >= 0 && setting < STET_SETTINGS_COUNT);
    return &self->values[setting];
}

const char *stet_config_str(const stet_config *self, stet_setting setting) {
    return value_at(self, setting)->text;
}

int64_t stet_config_int(const stet_config *self, stet_setting setting) {
    ASSERT(types[setting] == TYPE_INT || types[setting] == TYPE_MS || types[setting] == TYPE_SIZE);
    return value_at(self, setting)->number;
}

bool stet_config_bool(const stet_config *self, stet_setting setting) {
    ASSERT(types[setting] == TYPE_BOOL);
    return value_at(self, setting)->number != 0;
}

bool stet_config_list_has(const stet_config *self, stet_setting setting, int64_t number) {
    ASSERT(types[setting] == TYPE_INTS);
    bool found = false;
    bool well_formed = walk_list(value_at(self, setting)->text, number, &found);
    ASSERT(well_formed); /* checked when it was set */
    return found;
}

const stet_setting_info *stet_setting_at(stet_setting setting) {
    ASSERT((int)setting >= 0 && setting < STET_SETTINGS_COUNT);
    return &infos[setting];
}

stet_setting_source stet_config_source(const stet_config *self, stet_setting setting) {
    return value_at(self, setting)->source;
}

void stet_config_show(const stet_config *self, stet_setting setting, stet_buf *b) {
    const char *text = value_at(self, setting)->text;
    if (infos[setting].secret && text[0] != '\0')
        text = "****";
    stet_buf_append_str(b, stet_str_of(text));
}
