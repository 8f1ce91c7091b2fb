/* check - reads a chat completion request and refuses what the real API refuses, naming the parameter.
 * Pure. Thread: any. Strings point into the request's MessagePack. */
#ifndef STET_SANDBOX_CHECK_H
#define STET_SANDBOX_CHECK_H

#include "proto/base/buf.h"

typedef enum sandbox_format {
    SANDBOX_FORMAT_TEXT,
    SANDBOX_FORMAT_JSON_OBJECT,
    SANDBOX_FORMAT_JSON_SCHEMA
} sandbox_format;

typedef struct sandbox_chat {
    stet_str model;
    bool stream;
    bool include_usage;
    bool obfuscation;
    sandbox_format format;
    stet_str schema;     /* MessagePack; empty without json_schema */
    uint64_t tokens_max; /* 0: no limit */
    stet_buf texts;      /* all messages' texts, one after the other */
    size_t user_start;   /* where the user's texts begin in it */
} sandbox_chat;

typedef struct sandbox_problem {
    uint32_t status;
    const char *code; /* NULL: null */
    char param[96];   /* "": null */
    char message[256];
} sandbox_problem;

/* False: *ret_problem says why. Either way end *ret with sandbox_chat_done. mp empty: the body was not JSON.
 */
NODISCARD
bool sandbox_chat_read(stet_str mp, sandbox_chat *ret, sandbox_problem *ret_problem);
void sandbox_chat_done(sandbox_chat *self);

#endif
