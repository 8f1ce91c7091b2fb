#include "tools/stet/args.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

enum { SECONDS_MAX = 24 * 3600 };

bool args_row_is_option(const args_row *row) {
    return row->name[0] == '-';
}

static bool is_required(const args_row *row) {
    return !args_row_is_option(row) && row->value != NULL;
}

/* ---- finding rows ---- */

static const args_row *find_row(const args_row *rows, const char *name, size_t size, size_t *ret_index) {
    for (size_t i = 0; rows != NULL && rows[i].name != NULL; i++) {
        if (strlen(rows[i].name) == size && strncmp(rows[i].name, name, size) == 0) {
            *ret_index = i;
            return &rows[i];
        }
    }
    return NULL;
}

/* True when `name` is "first" or "first second"; *ret_words says how many words of argv that took. */
static bool name_matches(const char *name, const char *first, const char *second, int *ret_words) {
    size_t size = strlen(first);
    if (strncmp(name, first, size) != 0)
        return false;
    if (name[size] == '\0') {
        *ret_words = 1;
        return true;
    }
    *ret_words = 2;
    return name[size] == ' ' && second != NULL && strcmp(name + size + 1, second) == 0;
}

static const args_command *find_command(const args_command *commands, const char *first, const char *second,
                                        int *ret_words) {
    for (const args_command *c = commands; c->name != NULL; c++) {
        if (name_matches(c->name, first, second, ret_words))
            return c;
    }
    return NULL;
}

/* The name of a group as it stands in the table ("doc" of "doc put"), or NULL. */
static const char *find_group(const args_command *commands, const char *first) {
    size_t size = strlen(first);
    for (const args_command *c = commands; c->name != NULL; c++) {
        if (strncmp(c->name, first, size) == 0 && c->name[size] == ' ')
            return c->name;
    }
    return NULL;
}

/* ---- values ---- */

static bool whole_number(const char *text, uint64_t least) {
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    char *end = NULL;
    unsigned long long number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && number >= least && number <= INT64_MAX;
}

static bool seconds(const char *text, double *ret_seconds) {
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return false;
    if (text[strspn(text, "0123456789.")] != '\0') /* strtod would take hexadecimal, "inf" and exponents */
        return false;
    errno = 0;
    char *end = NULL;
    *ret_seconds = strtod(text, &end);
    return errno == 0 && *end == '\0' && *ret_seconds >= 0.001 && *ret_seconds <= SECONDS_MAX;
}

static stet_code check_value(const args_row *row, const char *text, stet_error *e) {
    double ignored = 0;
    const char *problem = NULL;
    switch (row->type) {
    case ARGS_COUNT:
        problem = whole_number(text, 1) ? NULL : "must be a whole number of at least 1";
        break;
    case ARGS_NUMBER:
        problem = whole_number(text, 0) ? NULL : "must be a whole number of at least 0";
        break;
    case ARGS_SECONDS:
        problem =
            seconds(text, &ignored) ? NULL : "must be seconds, more than 0 and at most a day, like 30 or 0.5";
        break;
    case ARGS_FLAG:
    case ARGS_TEXT:
    case ARGS_FILE:
    case ARGS_LIST:
    case ARGS_JSON:
        break;
    }
    return problem ? stet_error_set(e, STET_INVALID, "%s %s, not '%.40s'", row->name, problem, text)
                   : STET_OK;
}

/* ---- parsing ---- */

typedef struct parse {
    const args_command *commands;
    int argc;
    char **argv;
    int at;
    size_t positionals;
    bool options_ended;
    args *out;
} parse;

static stet_code store(const args_row *row, const char **slot, const char *text, stet_error *e) {
    if (*slot != NULL && row->type != ARGS_FLAG)
        return stet_error_set(e, STET_INVALID, "%s is given twice", row->name);
    *slot = text;
    return check_value(row, text, e);
}

static stet_code parse_option(parse *p, stet_error *e) {
    const char *word = p->argv[p->at++];
    if (strcmp(word, "-h") == 0)
        word = "--help";
    const char *equals = strchr(word, '=');
    size_t size = equals ? (size_t)(equals - word) : strlen(word);
    size_t index = 0;
    args *out = p->out;
    const char **slot = NULL;
    const args_row *row = out->command ? find_row(out->command->rows, word, size, &index) : NULL;
    if (row != NULL) {
        slot = &out->values[index];
    } else {
        row = find_row(out->globals, word, size, &index);
        slot = row ? &out->global_values[index] : NULL;
    }
    if (row == NULL)
        return stet_error_set(e, STET_INVALID, "unknown option %.60s%s%s", word,
                              out->command ? " for stet " : "", out->command ? out->command->name : "");
    if (row->type == ARGS_FLAG)
        return equals ? stet_error_set(e, STET_INVALID, "%s takes no value", row->name)
                      : store(row, slot, row->name, e);
    if (equals != NULL)
        return store(row, slot, equals + 1, e);
    if (p->at >= p->argc)
        return stet_error_set(e, STET_INVALID, "%s needs a value: %s %s", row->name, row->name, row->value);
    return store(row, slot, p->argv[p->at++], e);
}

static stet_code parse_command(parse *p, stet_error *e) {
    const char *first = p->argv[p->at];
    const char *second = p->at + 1 < p->argc ? p->argv[p->at + 1] : NULL;
    int words = 0;
    p->out->command = find_command(p->commands, first, second, &words);
    if (p->out->command != NULL) {
        p->at += words;
        return STET_OK;
    }
    if (find_group(p->commands, first) == NULL)
        return stet_error_set(e, STET_INVALID, "unknown command '%.40s'", first);
    p->out->group = first;
    p->at++;
    if (second == NULL || second[0] == '-')
        return STET_OK;
    return stet_error_set(e, STET_INVALID, "unknown command '%.40s %.40s'", first, second);
}

static stet_code parse_positional(parse *p, stet_error *e) {
    const char *word = p->argv[p->at++];
    size_t seen = 0;
    const args_row *rows = p->out->command ? p->out->command->rows : NULL;
    for (size_t i = 0; rows != NULL && rows[i].name != NULL; i++) {
        if (!args_row_is_option(&rows[i]) && seen++ == p->positionals) {
            p->positionals++;
            return store(&rows[i], &p->out->values[i], word, e);
        }
    }
    return stet_error_set(e, STET_INVALID, "unexpected argument '%.60s'", word);
}

static stet_code check_required(const args *self, stet_error *e) {
    const args_row *rows = self->command->rows;
    for (size_t i = 0; rows != NULL && rows[i].name != NULL; i++) {
        if (is_required(&rows[i]) && self->values[i] == NULL)
            return stet_error_set(e, STET_INVALID, "%s is missing", rows[i].name);
    }
    return STET_OK;
}

stet_code args_parse(const args_command *commands, const args_row *globals, int argc, char **argv, args *ret,
                     stet_error *e) {
    args out = {.globals = globals};
    parse p = {.commands = commands, .argc = argc, .argv = argv, .at = 1, .out = &out};
    stet_code rc = STET_OK;
    while (rc == STET_OK && p.at < argc) {
        const char *word = argv[p.at];
        if (!p.options_ended && strcmp(word, "--") == 0) {
            p.options_ended = true;
            p.at++;
        } else if (!p.options_ended && word[0] == '-' && word[1] != '\0') {
            rc = parse_option(&p, e);
        } else if (out.command == NULL && out.group == NULL) {
            rc = parse_command(&p, e);
        } else {
            rc = parse_positional(&p, e);
        }
    }
    *ret = out; /* also when wrong: the caller names the command whose help may be read */
    if (rc == STET_OK && out.command != NULL && !args_has(&out, "--help"))
        rc = check_required(&out, e);
    return rc;
}

/* ---- reading ---- */

const char *args_get(const args *self, const char *name) {
    size_t index = 0;
    if (self->command != NULL && find_row(self->command->rows, name, strlen(name), &index) != NULL) {
        ASSERT(index < ARGS_ROWS_MAX);
        return self->values[index];
    }
    const args_row *row = find_row(self->globals, name, strlen(name), &index);
    ASSERT(row != NULL);
    ASSERT(index < ARGS_GLOBALS_MAX);
    return self->global_values[index];
}

bool args_has(const args *self, const char *name) {
    return args_get(self, name) != NULL;
}

uint64_t args_number(const args *self, const char *name, uint64_t fallback) {
    const char *text = args_get(self, name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

uint32_t args_milliseconds(const args *self, const char *name, uint32_t fallback) {
    const char *text = args_get(self, name);
    double value = 0;
    return text != NULL && seconds(text, &value) ? (uint32_t)(value * 1000) : fallback;
}
