/* chat - the OpenAI-compatible routes: chat completions and models, with the faults that are set.
 * Handlers return what libmicrohttpd's handler returns. */
#ifndef STET_SANDBOX_CHAT_H
#define STET_SANDBOX_CHAT_H

#include "tools/sandbox/server.h"

int sandbox_chat_completions(const sandbox_request *r);
int sandbox_models(const sandbox_request *r);
/* Any other path or method below /v1. */
int sandbox_chat_unknown(const sandbox_request *r);
/* The API's error for a body that is too large. */
int sandbox_chat_too_large(const sandbox_request *r);

#endif
