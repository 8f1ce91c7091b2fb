/* prompt - the template and what is filled into it.
 *
 * A template is a text in two parts, parted by a line `=== user ===`: the system message, then the user
 * message.
 * {{name}} stands for one of the values below; what is filled in is never looked at for further placeholders,
 * so no document can reach into the prompt. The built-in template is prompt.md, embedded at build time.
 * Thread: any; a template is const after parsing. */
#ifndef DRAFTER_PROMPT_H
#define DRAFTER_PROMPT_H

#include "proto/base/buf.h"
#include "proto/base/code.h"

enum { DRAFTER_TEMPLATE_MAX = 64 << 10, DRAFTER_PROMPT_MAX = 3 << 20 };

/* X(C name, placeholder): see docs/drafter.md */
#define DRAFTER_PLACEHOLDERS(X)                                                                              \
    X(project_id, "projectId")                                                                               \
    X(document_version, "documentVersion")                                                                   \
    X(document, "document")                                                                                  \
    X(instruction, "instruction")                                                                            \
    X(excerpts, "excerpts")                                                                                  \
    X(messages, "messages")                                                                                  \
    X(prompt_context, "promptContext")                                                                       \
    X(answer_format, "answerFormat")

typedef struct drafter_prompt_values {
#define X(name, placeholder) stet_str name;
    DRAFTER_PLACEHOLDERS(X)
#undef X
} drafter_prompt_values;

typedef struct drafter_template {
    stet_buf text;
    size_t system_size; /* the system message is text[0, system_size) */
    size_t user_at;     /* the user message is the rest from here */
} drafter_template;

/* Embedded by CMake. */
extern const char drafter_prompt_builtin[];
extern const size_t drafter_prompt_builtin_size;

/* Copies the text. STET_INVALID (field drafter.promptFile) when a part, {{document}} or {{instruction}} is
 * missing or a placeholder is unknown. */
NODISCARD
stet_code drafter_template_parse(stet_str text, drafter_template *ret, stet_error *e);
void drafter_template_done(drafter_template *self);
void drafter_prompt_render(const drafter_template *self, const drafter_prompt_values *values,
                           stet_buf *ret_system, stet_buf *ret_user);

#endif
