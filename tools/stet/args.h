/* args - the command line, described by tables.
 *
 * A command is a row: its name (one or two words), what it takes (rows of options and positionals), its help
 * and its function. Parsing, `--help`, usage lines and bash completion are all derived from the rows. Thread:
 * any. Memory: args point into argv; nothing to free. Pure: no output, no exit. */
#ifndef TOOLS_STET_ARGS_H
#define TOOLS_STET_ARGS_H

#include "proto/base/buf.h"
#include "proto/base/code.h"

enum { ARGS_ROWS_MAX = 16, ARGS_GLOBALS_MAX = 8 };

typedef enum args_type {
    ARGS_FLAG,    /* no value */
    ARGS_TEXT,    /* as it is */
    ARGS_FILE,    /* a path, for completion */
    ARGS_COUNT,   /* a whole number, 1 or more */
    ARGS_NUMBER,  /* a whole number, 0 or more */
    ARGS_SECONDS, /* "30" or "0.5", more than 0, at most a day */
    ARGS_LIST,    /* "a,b,c" */
    ARGS_JSON     /* JSON text, @FILE or - */
} args_type;

typedef struct args_row {
    const char *name;  /* "--limit"; a name without dashes is a positional: "PROJECT" */
    const char *value; /* what the help calls the value: "N"; for a positional: "required" or NULL */
    args_type type;
    const char *field; /* the request's field it fills, or NULL */
    const char *help;
} args_row; /* a table ends with {NULL} */

typedef struct stet_cli stet_cli;
typedef struct args args;
typedef int args_run_fn(stet_cli *cli, const args *a); /* returns the exit code */

typedef struct args_command {
    const char *name; /* "status", "doc put" */
    const char *help; /* one line */
    const args_row *rows;
    const char *request; /* wire name of the command it sends; NULL when it does more than that */
    args_run_fn *run;
    const char *details; /* further help, or NULL */
    const char *example; /* or NULL */
} args_command;          /* a table ends with {NULL} */

struct args {
    const args_command *command; /* NULL: only help or version was asked for */
    const args_row *globals;
    const char *values[ARGS_ROWS_MAX]; /* by row; a flag's value is its own name */
    const char *global_values[ARGS_GLOBALS_MAX];
    const char *group; /* first word of a group ("doc") when no command of it was named */
};

/* argv[0] is skipped. STET_INVALID says in one sentence what is wrong. With --help nothing that is missing is
 * an error. */
NODISCARD
stet_code args_parse(const args_command *commands, const args_row *globals, int argc, char **argv, args *ret,
                     stet_error *e);
/* The value of a row, of the command or global; NULL when not given. Asking for a row that is in neither is a
 * bug. */
const char *args_get(const args *self, const char *name);
bool args_has(const args *self, const char *name);
/* The fallback when not given; the text was checked by args_parse. */
uint64_t args_number(const args *self, const char *name, uint64_t fallback);
uint32_t args_milliseconds(const args *self, const char *name, uint32_t fallback);

bool args_row_is_option(const args_row *row);
/* "stet drain [--limit N]" */
void args_usage(const args_command *command, stet_buf *b);
/* Everything about one command; or the overview of all of `group` (NULL: of all). */
void args_command_help(const args_command *command, const args_row *globals, stet_buf *b);
void args_overview(const args_command *commands, const args_row *globals, const char *group, stet_buf *b);
/* A bash completion script. call_names: words for `call`'s argument, separated by spaces. */
void args_completion(const args_command *commands, const args_row *globals, stet_str call_names, stet_buf *b);

#endif
