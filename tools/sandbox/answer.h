/* answer - what the sandbox's "model" says: an edit of the document found in the prompt, the same for the
 * same prompt.
 *
 * The prompt holds the document between "<<<DOCUMENT" and "DOCUMENT>>>" below "## Current document", and the
 * instruction between "<<<INSTRUCTION" and "INSTRUCTION>>>" below "## Instruction". Without them the whole
 * prompt is the instruction and the document is new.
 *
 *   replace "A" by "B"        every A of the document becomes B
 *   ... title "T"             the first heading becomes T
 *   anything else             a section that repeats the instruction is added at the end
 *
 * Pure: no clock, no random. Thread: any. */
#ifndef STET_SANDBOX_ANSWER_H
#define STET_SANDBOX_ANSWER_H

#include "proto/base/buf.h"

/* Appends the edited document and a sentence about the edit. */
void sandbox_answer_edit(stet_str prompt, stet_buf *markdown, stet_buf *summary);
/* {"markdown": ..., "summary": ...} */
void sandbox_answer_json(stet_str markdown, stet_str summary, stet_buf *json);
/* An object that has every required property of a JSON Schema object (MessagePack), with plain values; nested
 * objects up to a few levels. text: what strings say. */
void sandbox_answer_of_schema(stet_str schema, stet_str text, stet_buf *json);
/* True when the schema wants markdown and summary. */
bool sandbox_schema_is_draft(stet_str schema);

#endif
