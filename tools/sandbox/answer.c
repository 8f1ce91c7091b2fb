#include "tools/sandbox/answer.h"

#include <strings.h>

#include "proto/wire/json.h"
#include "proto/wire/mp.h"

enum { HEADING_BYTES_MAX = 60, QUOTE_BYTES_MAX = 200, SCHEMA_DEPTH_MAX = 6, SCHEMA_PROPERTIES_MAX = 64 };

/* ---- finding things ---- */

static stet_str from(stet_str text, size_t at) {
    return (stet_str){text.data + at, text.size - at};
}

static size_t find(stet_str text, stet_str part) {
    const char *at = text.size >= part.size ? memmem(text.data, text.size, part.data, part.size) : NULL;
    return at == NULL ? SIZE_MAX : (size_t)(at - text.data);
}

static size_t find_last(stet_str text, stet_str part) {
    size_t last = SIZE_MAX;
    for (size_t at = 0; at < text.size;) {
        size_t next = find(from(text, at), part);
        if (next == SIZE_MAX)
            break;
        last = at + next;
        at = last + 1;
    }
    return last;
}

static bool has_word(stet_str text, const char *word) {
    size_t size = strlen(word);
    for (size_t i = 0; i + size <= text.size; i++)
        if (strncasecmp(text.data + i, word, size) == 0)
            return true;
    return false;
}

/* What stands between a line `open` and the last line `close`; false when one is missing. */
static bool between(stet_str text, stet_str open, stet_str close, stet_str *ret) {
    size_t start = find(text, open);
    size_t end = find_last(text, close);
    if (start == SIZE_MAX || end == SIZE_MAX || end < start + open.size)
        return false;
    stet_str inner = {text.data + start + open.size, end - start - open.size};
    if (inner.size > 0 && inner.data[inner.size - 1] == '\n')
        inner.size--;
    *ret = inner;
    return true;
}

typedef struct task {
    stet_str document;
    stet_str instruction;
} task;

static task read_task(stet_str prompt) {
    task t = {.document = {NULL, 0}, .instruction = prompt};
    size_t order = find_last(prompt, STET_STR("## Instruction\n"));
    if (order == SIZE_MAX)
        return t;
    stet_str instruction;
    if (between(from(prompt, order), STET_STR("<<<INSTRUCTION\n"), STET_STR("INSTRUCTION>>>"), &instruction))
        t.instruction = instruction;
    stet_str before = {prompt.data, order};
    size_t heading = find(before, STET_STR("## Current document"));
    if (heading != SIZE_MAX)
        (void)between(from(before, heading), STET_STR("<<<DOCUMENT\n"), STET_STR("DOCUMENT>>>"), &t.document);
    return t;
}

/* The next text in quotation marks; moves *at past it. */
static bool next_quoted(stet_str text, size_t *at, stet_str *ret) {
    static const struct {
        stet_str open, close;
    } marks[] = {
        {{"\"", 1}, {"\"", 1}},
        {{"\xe2\x80\x9c", 3}, {"\xe2\x80\x9d", 3}}, /* 66 and 99 */
        {{"\xe2\x80\x9e", 3}, {"\xe2\x80\x9c", 3}}, /* low 99 and 66 */
        {{"\xc2\xab", 2}, {"\xc2\xbb", 2}},         /* guillemets */
    };
    for (size_t i = *at; i < text.size; i++)
        for (size_t m = 0; m < COUNT_OF(marks); m++) {
            stet_str rest = from(text, i);
            if (rest.size < marks[m].open.size ||
                memcmp(rest.data, marks[m].open.data, marks[m].open.size) != 0)
                continue;
            rest = from(rest, marks[m].open.size);
            size_t end = find(rest, marks[m].close);
            if (end == SIZE_MAX)
                continue;
            *ret = (stet_str){rest.data, end};
            *at = i + marks[m].open.size + end + marks[m].close.size;
            return true;
        }
    return false;
}

/* ---- edits ---- */

static void quote(stet_buf *b, stet_str text) {
    stet_buf_append_str(b, STET_STR("\xe2\x80\x9c"));
    size_t size = stet_utf8_cut(text, QUOTE_BYTES_MAX);
    for (size_t i = 0; i < size; i++)
        stet_buf_append_byte(b, (uint8_t)text.data[i] < 0x20 ? ' ' : (uint8_t)text.data[i]);
    if (size < text.size)
        stet_buf_append_str(b, STET_STR("\xe2\x80\xa6"));
    stet_buf_append_str(b, STET_STR("\xe2\x80\x9d"));
}

static bool replace(const task *t, stet_buf *markdown, stet_buf *summary) {
    stet_str old, new;
    size_t at = 0;
    bool asked = has_word(t->instruction, "replace") || has_word(t->instruction, "change") ||
                 has_word(t->instruction, "rename");
    if (!asked || !next_quoted(t->instruction, &at, &old) || !next_quoted(t->instruction, &at, &new) ||
        old.size == 0 || find(t->document, old) == SIZE_MAX)
        return false;
    unsigned count = 0;
    stet_str rest = t->document;
    for (size_t next = find(rest, old); next != SIZE_MAX; next = find(rest, old)) {
        stet_buf_append(markdown, rest.data, next);
        stet_buf_append_str(markdown, new);
        rest = from(rest, next + old.size);
        count++;
    }
    stet_buf_append_str(markdown, rest);
    stet_buf_append_str(summary, STET_STR("Replaced "));
    quote(summary, old);
    stet_buf_append_str(summary, STET_STR(" with "));
    quote(summary, new);
    stet_buf_printf(summary, " (%u %s).", count, count == 1 ? "place" : "places");
    return true;
}

static bool retitle(const task *t, stet_buf *markdown, stet_buf *summary) {
    stet_str title;
    size_t at = 0;
    bool asked = has_word(t->instruction, "title") || has_word(t->instruction, "headline");
    if (!asked || !next_quoted(t->instruction, &at, &title) || title.size == 0)
        return false;
    stet_str rest = t->document;
    size_t start = rest.size > 0 && rest.data[0] == '#' ? 0 : find(rest, STET_STR("\n#"));
    if (start == SIZE_MAX) {
        stet_buf_append_str(markdown, STET_STR("# "));
        stet_buf_append_str(markdown, title);
        stet_buf_append_str(markdown, STET_STR("\n\n"));
        stet_buf_append_str(markdown, rest);
    } else {
        start += start > 0 ? 1 : 0;
        while (start < rest.size && rest.data[start] == '#')
            start++;
        stet_buf_append(markdown, rest.data, start);
        stet_buf_append_byte(markdown, ' ');
        stet_buf_append_str(markdown, title);
        size_t end = find(from(rest, start), STET_STR("\n"));
        if (end != SIZE_MAX)
            stet_buf_append_str(markdown, from(rest, start + end));
    }
    stet_buf_append_str(summary, STET_STR("Set the title to "));
    quote(summary, title);
    stet_buf_append_byte(summary, '.');
    return true;
}

/* "Add a section about bread" asks for the heading "bread". */
static stet_str without_preface(stet_str instruction) {
    static const char *const prefaces[] = {"add a section about ", "add a section on ",
                                           "add a paragraph about ", "write about "};
    while (instruction.size > 0 && memchr(" \t\r\n#*->", instruction.data[0], 9) != NULL)
        instruction = from(instruction, 1);
    for (size_t i = 0; i < COUNT_OF(prefaces); i++) {
        size_t size = strlen(prefaces[i]);
        if (instruction.size > size && strncasecmp(instruction.data, prefaces[i], size) == 0)
            return from(instruction, size);
    }
    return instruction;
}

/* The first sentence of the instruction, short enough for a heading. */
static stet_str heading_of(stet_str instruction) {
    instruction = without_preface(instruction);
    stet_str heading = {instruction.data, 0};
    while (heading.size < instruction.size && memchr(".!?:;\n\r", instruction.data[heading.size], 7) == NULL)
        heading.size++;
    if (heading.size > HEADING_BYTES_MAX) {
        heading.size = stet_utf8_cut(heading, HEADING_BYTES_MAX);
        for (size_t cut = heading.size; cut > HEADING_BYTES_MAX / 2; cut--)
            if (heading.data[cut - 1] == ' ') {
                heading.size = cut - 1;
                break;
            }
    }
    while (heading.size > 0 && heading.data[heading.size - 1] == ' ')
        heading.size--;
    return heading.size > 0 ? heading : STET_STR("Draft");
}

static void add_section(const task *t, stet_buf *markdown, stet_buf *summary) {
    stet_str document = t->document;
    stet_str heading = heading_of(t->instruction);
    while (document.size > 0 && memchr(" \t\r\n", document.data[document.size - 1], 4) != NULL)
        document.size--;
    stet_buf_append_str(markdown, document);
    stet_buf_append_str(markdown, document.size > 0 ? STET_STR("\n\n## ") : STET_STR("# "));
    uint8_t first = (uint8_t)heading.data[0];
    stet_buf_append_byte(markdown, first >= 'a' && first <= 'z' ? (uint8_t)(first - 32) : first);
    stet_buf_append_str(markdown, from(heading, 1));
    stet_buf_append_str(markdown, STET_STR("\n\nThis text stands where a model would have carried out "));
    quote(markdown, t->instruction);
    stet_buf_append_str(markdown, STET_STR(". The sandbox wrote it; no model was asked.\n"));
    stet_buf_append_str(summary, document.size > 0 ? STET_STR("Added the section ")
                                                   : STET_STR("Wrote a new document, "));
    quote(summary, heading);
    stet_buf_append_byte(summary, '.');
}

void sandbox_answer_edit(stet_str prompt, stet_buf *markdown, stet_buf *summary) {
    task t = read_task(prompt);
    if (!replace(&t, markdown, summary) && !retitle(&t, markdown, summary))
        add_section(&t, markdown, summary);
}

void sandbox_answer_json(stet_str markdown, stet_str summary, stet_buf *json) {
    stet_buf_append_str(json, STET_STR("{\"markdown\":"));
    stet_json_quote(json, markdown);
    stet_buf_append_str(json, STET_STR(",\"summary\":"));
    stet_json_quote(json, summary);
    stet_buf_append_byte(json, '}');
}

/* ---- other schemas ---- */

bool sandbox_schema_is_draft(stet_str schema) {
    stet_str properties = stet_mp_get_raw(schema, "properties");
    return stet_mp_get_raw(properties, "markdown").size > 0 &&
           stet_mp_get_raw(properties, "summary").size > 0;
}

static void value_of_schema(stet_str schema, stet_str text, int depth, stet_buf *json);

static void object_of_schema(stet_str schema, stet_str text, int depth, stet_buf *json) {
    stet_mp_reader r = stet_mp_reader_of(stet_mp_get_raw(schema, "properties"));
    uint32_t pairs = stet_mp_peek(&r) == STET_MP_MAP ? stet_mp_read_map(&r) : 0;
    stet_buf_append_byte(json, '{');
    for (uint32_t i = 0; i < pairs && i < SCHEMA_PROPERTIES_MAX && !r.failed; i++) {
        if (i > 0)
            stet_buf_append_byte(json, ',');
        stet_json_quote(json, stet_mp_read_str(&r));
        stet_buf_append_byte(json, ':');
        value_of_schema(stet_mp_read_raw(&r), text, depth + 1, json);
    }
    stet_buf_append_byte(json, '}');
}

static void value_of_schema(stet_str schema, stet_str text, int depth, stet_buf *json) {
    stet_str type = stet_mp_get_str(schema, "type", (stet_str){NULL, 0});
    stet_mp_reader allowed;
    if (stet_mp_find(schema, "enum", &allowed) && stet_mp_read_array(&allowed) > 0)
        json->failed |=
            stet_mp_to_json(stet_mp_read_raw(&allowed), (stet_json_style){0}, json, NULL) != STET_OK;
    else if (stet_str_is(type, "object") && depth < SCHEMA_DEPTH_MAX)
        object_of_schema(schema, text, depth, json);
    else if (stet_str_is(type, "array"))
        stet_buf_append_str(json, STET_STR("[]"));
    else if (stet_str_is(type, "integer") || stet_str_is(type, "number"))
        stet_buf_append_byte(json, '0');
    else if (stet_str_is(type, "boolean"))
        stet_buf_append_str(json, STET_STR("false"));
    else if (stet_str_is(type, "string"))
        stet_json_quote(json, text);
    else
        stet_buf_append_str(json, STET_STR("null"));
}

void sandbox_answer_of_schema(stet_str schema, stet_str text, stet_buf *json) {
    value_of_schema(schema, text, /* depth= */ 0, json);
}
