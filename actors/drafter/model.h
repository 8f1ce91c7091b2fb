/* model - what is sent to an OpenAI-compatible chat completions endpoint, and what is read out of the text it
 * wrote.
 *
 * The model is asked for one JSON object {markdown, summary}. What counts as usable output depends on how
 * firmly the server was asked (openai.schema), and is validated here in all modes, since servers ignore
 * response_format: json_schema  an object with both strings; bare, inside a ``` fence, or the first {...}
 * object in the text json_object  the same, but a missing summary is taken from the first heading or line
 *   none         the whole text is the document (a fence around all of it is taken off), the summary as above
 * Anything else of a complete answer is unusable output: the job's attempt fails, the call is not repeated.
 * Thread: any. */
#ifndef DRAFTER_MODEL_H
#define DRAFTER_MODEL_H

#include "proto/base/buf.h"
#include "proto/base/code.h"
#include "proto/base/config.h"

enum {
    DRAFTER_MARKDOWN_MAX = 512 << 10, /* as drafter.document.put */
    DRAFTER_SUMMARY_MAX = 2000,       /* bytes; longer ones are cut */
    DRAFTER_REQUEST_MAX = 8 << 20
};

typedef enum drafter_schema { DRAFTER_JSON_SCHEMA, DRAFTER_JSON_OBJECT, DRAFTER_PLAIN } drafter_schema;
/* STET_INVALID for a text that is none of the three. */
NODISCARD
stet_code drafter_schema_parse(const char *text, drafter_schema *ret, stet_error *e);
/* What the prompt's {{answerFormat}} says. */
const char *drafter_schema_instruction(drafter_schema schema);

/* The request body. Look at stet_buf_ok(). */
void drafter_model_request(const stet_config *config, drafter_schema schema, stet_str system, stet_str user,
                           stet_buf *ret_json);

typedef struct drafter_output {
    stet_str markdown; /* not blank */
    stet_str summary;
} drafter_output;
/* Slices point into content or scratch. On false *ret_reason says what was wrong, for people. */
NODISCARD
bool drafter_output_parse(drafter_schema schema, stet_str content, stet_buf *scratch, drafter_output *ret,
                          const char **ret_reason);

#endif
