/* stet.h - libstet, the client of a Stet broker: requests that survive restarts, events without gaps.
 *
 * Requests: sent with an id of their own and resent with the same id while the broker or an actor is away or
 * busy, until the deadline; an acknowledged write happened once, however often it was resent. Events: the
 * subscriber goes live first, then reads on from the last known number over the request channel and merges by
 * number, so every event is delivered exactly once and in order, across restarts of anything.
 *
 * Bodies are MessagePack maps; stet_json_... converts from and to JSON text.
 * Thread: a stet_client belongs to one thread; make one per thread. Memory: as noted per function.
 * Errors: calls return 0 (or what they are asked for) on success and -1 otherwise; stet_client_error() then
 * says what happened and what to do. An answer that is an error is a success of the call: look at
 * stet_answer.code. */
#ifndef STET_CLIENT_H
#define STET_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STET_API __attribute__((visibility("default")))

typedef struct stet_client stet_client;
typedef struct stet_subscriber stet_subscriber;

/* The answer to a request. code NULL: success. */
typedef struct stet_answer {
    const char *code;    /* NULL, or the error's wire name: "invalid", "conflict", ... */
    const char *message; /* "" or a sentence for people */
    const char *field;   /* "" or the offending field's path */
    const uint8_t *body; /* MessagePack: the reply, or the error body */
    size_t body_size;
    uint32_t sends; /* how often it was sent */
} stet_answer;

typedef struct stet_client_options {
    const char *endpoints;  /* comma separated front endpoints; NULL: from data */
    const char *events;     /* comma separated event endpoints; NULL: from data */
    const char *data;       /* data directory of a local instance; NULL: STET_DATA or the default place */
    uint32_t timeout_ms;    /* default deadline of a request; 0: 30,000 */
    const char *key_file;   /* key pair shown on tcp:// endpoints (stet keys new); NULL: STET_KEY_FILE */
    const char *server_key; /* the broker's public key; NULL: STET_SERVER_KEY, else what the key file names */
} stet_client_options;

/* options may be NULL. Returns NULL and fills error (size bytes, may be NULL) when the options are wrong or
 * memory is out. Does not wait for the broker. */
STET_API stet_client *stet_client_new(const stet_client_options *options, char *error, size_t error_size);
/* Requests under way get their done call without an answer. Free the subscribers first. */
STET_API void stet_client_free(stet_client *self);
STET_API const char *
stet_client_error(const stet_client *self); /* of the last call that failed; "" for none */

/* Blocking request. id_text: a UUID to repeat an earlier request, or NULL for a new one. timeout_ms 0: the
 * default. Returns 0 with *answer (valid until the next call on this client) also when the answer is an
 * error; -1 when no answer came in time (unreachable or timed out: repeat with the same id to learn the
 * outcome; it is in stet_client_last_id()); -2 when the request could not be sent as it is (wrong id, too
 * large, out of memory). */
STET_API int stet_client_request(stet_client *self, const char *command, const uint8_t *body,
                                 size_t body_size, const char *id_text, uint32_t timeout_ms,
                                 stet_answer *answer);
STET_API const char *stet_client_last_id(const stet_client *self);

/* Asynchronous request: done(context, answer) is called from stet_client_poll(); answer NULL means no answer
 * in time. Returns 0, or -1 when the command or body is wrong or too many (65,536) are under way. */
typedef void stet_client_done_fn(void *context, const char *id_text, const stet_answer *answer);
STET_API int stet_client_send(stet_client *self, const char *command, const uint8_t *body, size_t body_size,
                              const char *id_text, uint32_t timeout_ms, stet_client_done_fn *done,
                              void *context);
/* Handles what has come; waits up to wait_ms when there is nothing. Returns how many answers were handed out,
 * -1 when a signal came. */
STET_API int stet_client_poll(stet_client *self, int wait_ms);
STET_API size_t stet_client_pending(const stet_client *self);
/* For an own poll loop: readable when stet_client_poll() has something to do; also call it every 100 ms. */
STET_API int stet_client_fd(stet_client *self);

/* One event. json is NUL-terminated, the exact bytes as stored. */
typedef struct stet_client_event {
    const char *json;
    size_t json_size;
    const char *session_id;
    const char *actor;
    uint64_t seq;
} stet_client_event;

/* session_id NULL: every session, live only (no catch-up). after_seq: the last number already seen, per actor
 * `service` (e.g. "drafter"); 0 reads from the beginning; UINT64_MAX: only what comes from now on. service
 * NULL: "drafter". */
STET_API stet_subscriber *stet_subscriber_new(stet_client *client, const char *session_id,
                                              const char *service, uint64_t after_seq);
STET_API void stet_subscriber_free(stet_subscriber *self);
/* The next event in order; waits up to wait_ms. 1: *event is valid until the next call; 0: none yet; -1: a
 * signal came or the client failed (stet_client_error). */
STET_API int stet_subscriber_next(stet_subscriber *self, stet_client_event *event, int wait_ms);

/* JSON text to a MessagePack body and back. Returns malloc'ed memory to free() or NULL with error filled. */
STET_API uint8_t *stet_body_from_json(const char *json, size_t json_size, size_t *ret_size, char *error,
                                      size_t error_size);
STET_API char *stet_body_to_json(const uint8_t *body, size_t body_size, int indent, char *error,
                                 size_t error_size);

STET_API const char *stet_version(void);

#ifdef __cplusplus
}
#endif
#endif
