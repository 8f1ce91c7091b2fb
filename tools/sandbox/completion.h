/* completion - the two shapes of a chat completion on the wire: one JSON object, or a stream of events.
 * Source: the published OpenAPI description of the OpenAI API. Pure but for its reply. */
#ifndef STET_SANDBOX_COMPLETION_H
#define STET_SANDBOX_COMPLETION_H

#include "tools/sandbox/check.h"
#include "tools/sandbox/faults.h"
#include "tools/sandbox/stream.h"

typedef struct sandbox_completion {
    uint64_t index; /* makes the id */
    int64_t created_s;
    stet_buf content;
    bool refusal;       /* content is why */
    const char *finish; /* finish_reason */
    uint64_t prompt_tokens;
    uint64_t completion_tokens;
} sandbox_completion;

/* About four bytes are a token. */
uint64_t sandbox_tokens_of(size_t bytes);

void sandbox_completion_plain(const sandbox_chat *chat, const sandbox_completion *c, sandbox_reply *reply);
/* fault NULL: none. Marks every event. */
void sandbox_completion_stream(const sandbox_chat *chat, const sandbox_completion *c,
                               const sandbox_fault *fault, sandbox_reply *reply);

/* {"error": {...}}. code: JSON text such as "\"rate_limit_exceeded\"" or "429"; NULL for null. param "" is
 * null. */
void sandbox_error_json(stet_buf *b, const char *message, const char *type, const char *param,
                        const char *code);

#endif
