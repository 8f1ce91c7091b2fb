/* What is derived from the tables of args.h for people and for their shell. */
#include "tools/stet/args.h"

enum { HELP_COLUMN = 26 };

static void put_row_name(const args_row *row, stet_buf *b) {
    stet_buf_append_str(b, stet_str_of(row->name));
    if (args_row_is_option(row) && row->type != ARGS_FLAG)
        stet_buf_printf(b, " %s", row->value);
}

void args_usage(const args_command *command, stet_buf *b) {
    stet_buf_printf(b, "stet %s", command->name);
    for (const args_row *row = command->rows; row != NULL && row->name != NULL; row++) {
        bool optional = args_row_is_option(row) || row->value == NULL;
        stet_buf_append_str(b, optional ? STET_STR(" [") : STET_STR(" "));
        put_row_name(row, b);
        if (optional)
            stet_buf_append_byte(b, ']');
    }
}

static void put_rows(const args_row *rows, stet_buf *b) {
    for (; rows != NULL && rows->name != NULL; rows++) {
        size_t start = b->size;
        stet_buf_append_str(b, STET_STR("  "));
        put_row_name(rows, b);
        size_t width = b->size - start;
        stet_buf_printf(b, "%*s%s\n", width < HELP_COLUMN ? (int)(HELP_COLUMN - width) : 1, "", rows->help);
    }
}

void args_command_help(const args_command *command, const args_row *globals, stet_buf *b) {
    stet_buf_printf(b, "Usage: ");
    args_usage(command, b);
    stet_buf_printf(b, "\n\n%s.\n", command->help);
    if (command->details != NULL)
        stet_buf_printf(b, "\n%s\n", command->details);
    if (command->request != NULL)
        stet_buf_printf(b, "\nSends %s; 'stet call %s --help' lists its fields.\n", command->request,
                        command->request);
    stet_buf_printf(b, "\n");
    put_rows(command->rows, b);
    put_rows(globals, b);
    if (command->example != NULL)
        stet_buf_printf(b, "\nExample: %s\n", command->example);
}

void args_overview(const args_command *commands, const args_row *globals, const char *group, stet_buf *b) {
    stet_buf_printf(b, "Usage: stet %s%s[options]\n\nCommands:\n", group ? group : "COMMAND",
                    group ? " COMMAND " : " ");
    size_t group_size = group ? strlen(group) : 0;
    for (const args_command *c = commands; c->name != NULL; c++) {
        if (group == NULL || (strncmp(c->name, group, group_size) == 0 && c->name[group_size] == ' '))
            stet_buf_printf(b, "  %-*s%s\n", HELP_COLUMN - 2, c->name, c->help);
    }
    stet_buf_printf(b, "\nEverywhere:\n");
    put_rows(globals, b);
    stet_buf_printf(
        b,
        "\nExit codes: 0 done, 1 the answer was an error (JSON on stderr), 2 usage, 3 unreachable or timed "
        "out.\n'stet COMMAND --help' explains one command.\n");
}

/* ---- bash completion ---- */

static void put_options(const args_row *rows, stet_buf *b) {
    for (; rows != NULL && rows->name != NULL; rows++) {
        if (args_row_is_option(rows))
            stet_buf_printf(b, " %s", rows->name);
    }
}

/* First words, each once; two-word commands follow one another in the table. */
static void put_first_words(const args_command *commands, stet_buf *b) {
    stet_str before = {NULL, 0};
    for (const args_command *c = commands; c->name != NULL; c++) {
        stet_str first = stet_str_from(c->name, strcspn(c->name, " "));
        if (!stet_str_equal(first, before))
            stet_buf_printf(b, " %.*s", STET_STR_ARG(first));
        before = first;
    }
}

/* Options that take a value (of this type, or of any but ARGS_FLAG), each with '|' before it for a case
 * pattern. */
static void put_value_options(const args_row *rows, bool files_only, stet_buf *b) {
    for (; rows != NULL && rows->name != NULL; rows++) {
        bool wanted = files_only ? rows->type == ARGS_FILE : rows->type != ARGS_FLAG;
        if (args_row_is_option(rows) && wanted)
            stet_buf_printf(b, "|%s", rows->name);
    }
}

static void put_all_value_options(const args_command *commands, const args_row *globals, bool files_only,
                                  stet_buf *b) {
    stet_buf_printf(b, "--value"); /* stands before the first '|' */
    put_value_options(globals, files_only, b);
    for (const args_command *c = commands; c->name != NULL; c++)
        put_value_options(c->rows, files_only, b);
}

static bool takes_file(const args_row *rows) {
    for (; rows != NULL && rows->name != NULL; rows++) {
        if (!args_row_is_option(rows) && (rows->type == ARGS_FILE || rows->type == ARGS_JSON))
            return true;
    }
    return false;
}

static void put_groups(const args_command *commands, stet_buf *b) {
    stet_str before = {NULL, 0};
    for (const args_command *c = commands; c->name != NULL; c++) {
        size_t first_size = strcspn(c->name, " ");
        stet_str first = stet_str_from(c->name, first_size);
        if (c->name[first_size] == '\0' || stet_str_equal(first, before))
            continue;
        before = first;
        stet_buf_printf(b, "    %.*s) words=\"", STET_STR_ARG(first));
        for (const args_command *member = c; member->name != NULL; member++) {
            if (strncmp(member->name, c->name, first_size + 1) == 0)
                stet_buf_printf(b, " %s", member->name + first_size + 1);
        }
        stet_buf_printf(b, "\" ;;\n");
    }
}

void args_completion(const args_command *commands, const args_row *globals, stet_str call_names,
                     stet_buf *b) {
    stet_buf_printf(b,
                    "# bash completion for stet; made by 'stet completion bash'. To use it in this shell:\n"
                    "#   source <(stet completion bash)\n"
                    "_stet() {\n"
                    "  local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"\" words=\"\" files=\"\" i\n"
                    "  local -a plain=()\n"
                    "  [ \"$COMP_CWORD\" -gt 0 ] && prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
                    "  COMPREPLY=()\n"
                    "  case \"$prev\" in\n    ");
    put_all_value_options(commands, globals, /* files_only= */ true, b);
    stet_buf_printf(b, ") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n  esac\n"
                       "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
                       "    case \"${COMP_WORDS[i]}\" in\n    ");
    put_all_value_options(commands, globals, /* files_only= */ false, b);
    stet_buf_printf(b, ") i=$((i + 1)) ;;\n"
                       "    -*) ;;\n    *) plain+=(\"${COMP_WORDS[i]}\") ;;\n    esac\n"
                       "  done\n"
                       "  if [ ${#plain[@]} -eq 0 ]; then\n    words=\"");
    put_first_words(commands, b);
    stet_buf_printf(b, "\"\n  elif [ ${#plain[@]} -eq 1 ]; then\n    case \"${plain[0]}\" in\n");
    put_groups(commands, b);
    stet_buf_printf(b, "    call) words=\"%.*s\" ;;\n    completion) words=\"bash\" ;;\n    esac\n  fi\n",
                    STET_STR_ARG(call_names));
    stet_buf_printf(b, "  case \"${plain[*]}\" in\n");
    for (const args_command *c = commands; c->name != NULL; c++) {
        stet_buf_printf(b, "    \"%s\"*) words+=\"", c->name);
        put_options(c->rows, b);
        stet_buf_printf(b, "\"%s ;;\n", takes_file(c->rows) ? "; files=yes" : "");
    }
    stet_buf_printf(b, "  esac\n  words+=\"");
    put_options(globals, b);
    stet_buf_printf(b, "\"\n"
                       "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                       "  [ -n \"$files\" ] && COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
                       "}\n"
                       "complete -o filenames -F _stet stet\n");
}
