/* The sandbox behind libmicrohttpd: requests with any method, path, headers and body, and faults asked for in any
 * words. Each request is answered or broken off as a fault says; what is meant to be JSON is JSON, an event of a
 * stream too; headers have no line breaks; keys are not shown; nothing is waited for longer than was asked.
 *
 * libmicrohttpd is played by the functions below, time by a clock that a wait moves on (the linker puts both in
 * place), so that one thread does it all.
 *
 * Input: requests: method, path, pace, headers and body as pieces. */
#include <microhttpd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <strings.h>

#include "proto/base/clock.h"
#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"
#include "tools/sandbox/faults.h"
#include "tools/sandbox/server.h"

enum {
    REQUESTS_MAX = 12,
    HEADERS_MAX = 4,
    READS_MAX = 2000,
    ENDLESS_BYTES = 1 << 20, /* enough of an answer without end */
    BLOCK_BYTES = 32 * 1024,
    ANSWER_BYTES_MAX = 16 << 20,
    DEPTH_MAX = 64
};
#define SECRET "sk-very-secret-key-1234"

typedef struct pair {
    const char *name, *value;
} pair;

struct MHD_Connection {
    pair headers[HEADERS_MAX];
    uint32_t headers_count;
    const char *query; /* the value of every argument; NULL: there is none */
    bool gone;         /* the peer, as soon as somebody looks */
    struct MHD_Response *response;
    unsigned status;
};

struct MHD_Response {
    uint64_t size;
    MHD_ContentReaderCallback read;
    MHD_ContentReaderFreeCallback done;
    void *context;
    const char *content_type;
    uint32_t references;
};

struct MHD_Daemon {
    MHD_AccessHandlerCallback handle;
    void *context;
    MHD_RequestCompletedCallback completed;
};

/* ---- time: what is waited for goes by at once ---- */

static bool inside;
static int64_t waited_ms;
static const struct MHD_Connection *current;

/* NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's */
int64_t __real_stet_clock_boot_ms(void);
int64_t __wrap_stet_clock_boot_ms(void);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);

int64_t __wrap_stet_clock_boot_ms(void) {
    return inside ? waited_ms : __real_stet_clock_boot_ms();
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout) {
    if (!inside)
        return __real_poll(fds, count, timeout);
    ASSERT(count == 2 && timeout >= 0);
    if (timeout == INT32_MAX || current->gone) /* without end: until the peer goes */
        return 1;
    waited_ms += timeout;
    return 0;
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* ---- libmicrohttpd ---- */

struct MHD_Daemon *MHD_start_daemon(unsigned int flags, uint16_t port, MHD_AcceptPolicyCallback apc,
                                    void *apc_context, MHD_AccessHandlerCallback handle, void *context, ...) {
    static struct MHD_Daemon daemon;
    (void)flags, (void)port, (void)apc, (void)apc_context;
    daemon = (struct MHD_Daemon){.handle = handle, .context = context};
    va_list options;
    va_start(options, context);
    for (enum MHD_OPTION option; (option = (enum MHD_OPTION)va_arg(options, int)) != MHD_OPTION_END;) {
        if (option == MHD_OPTION_NOTIFY_COMPLETED) {
            daemon.completed = va_arg(options, MHD_RequestCompletedCallback);
            (void)va_arg(options, void *);
        } else {
            (void)va_arg(options, int);
        }
    }
    va_end(options);
    return &daemon;
}

void MHD_stop_daemon(struct MHD_Daemon *daemon) {
    (void)daemon;
}

const union MHD_ConnectionInfo *MHD_get_connection_info(struct MHD_Connection *connection,
                                                        enum MHD_ConnectionInfoType type, ...) {
    static const union MHD_ConnectionInfo info = {.connect_fd = -1};
    (void)connection, (void)type;
    return &info;
}

const char *MHD_lookup_connection_value(struct MHD_Connection *connection, enum MHD_ValueKind kind,
                                        const char *key) {
    if (kind == MHD_GET_ARGUMENT_KIND)
        return connection->query;
    for (uint32_t i = 0; i < connection->headers_count; i++)
        if (strcasecmp(connection->headers[i].name, key) == 0)
            return connection->headers[i].value;
    return NULL;
}

int MHD_get_connection_values(struct MHD_Connection *connection, enum MHD_ValueKind kind,
                              MHD_KeyValueIterator iterator, void *context) {
    uint32_t i = 0;
    while (i < connection->headers_count &&
           iterator(context, kind, connection->headers[i].name, connection->headers[i].value) == MHD_YES)
        i++;
    return (int)i;
}

struct MHD_Response *MHD_create_response_from_callback(uint64_t size, size_t block_size,
                                                       MHD_ContentReaderCallback read, void *context,
                                                       MHD_ContentReaderFreeCallback done) {
    struct MHD_Response *response = malloc(sizeof *response);
    ASSERT(response != NULL && block_size == BLOCK_BYTES);
    *response =
        (struct MHD_Response){.size = size, .read = read, .done = done, .context = context, .references = 1};
    return response;
}

void MHD_destroy_response(struct MHD_Response *response) {
    if (--response->references > 0)
        return;
    response->done(response->context);
    free(response);
}

/* As libmicrohttpd: what would break the head of the answer is refused. The sandbox refuses it before. */
enum MHD_Result MHD_add_response_header(struct MHD_Response *response, const char *name, const char *value) {
    ASSERT(strpbrk(name, "\r\n\t") == NULL && strpbrk(value, "\r\n") == NULL);
    if (strcasecmp(name, "Content-Type") == 0)
        response->content_type = value;
    return MHD_YES;
}

enum MHD_Result MHD_del_response_header(struct MHD_Response *response, const char *name, const char *value) {
    (void)response, (void)name, (void)value;
    return MHD_YES;
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned int status,
                                   struct MHD_Response *response) {
    ASSERT(connection->response == NULL && status >= 200 && status <= 599);
    connection->response = response;
    connection->status = status;
    response->references++;
    return MHD_YES;
}

/* ---- one request ---- */

typedef struct request {
    struct MHD_Connection connection;
    const char *method, *path;
    stet_str body;
    bool faulty; /* a fault may decide the answer */
} request;

static bool secret_given; /* by the input, in a body say: then it may be shown */

/* A C string of the piece, ended where libmicrohttpd would not go on. */
static const char *word(fuzz_input *in, stet_buf *words) {
    stet_str piece = fuzz_piece(in);
    size_t at = words->size;
    for (size_t i = 0;
         i < piece.size && piece.data[i] != '\0' && piece.data[i] != '\r' && piece.data[i] != '\n'; i++)
        stet_buf_append_byte(words, (uint8_t)piece.data[i]);
    stet_buf_append_byte(words, 0);
    ASSERT(stet_buf_ok(words));
    return (const char *)words->data + at;
}

static request read_request(fuzz_input *in, stet_buf *words) {
    static const char *const methods[] = {"GET", "POST", "DELETE", "HEAD", "PUT", ""};
    static const char *const paths[] = {"/v1/chat/completions",
                                        "/v1/chat/completions",
                                        "/v1/models",
                                        "/sandbox/faults",
                                        "/sandbox/faults",
                                        "/sandbox/requests",
                                        "/sandbox/pace",
                                        "/health",
                                        "/"};
    uint8_t method = fuzz_byte(in), path = fuzz_byte(in), what = fuzz_byte(in);
    request r = {.method = method < 250 ? methods[method % COUNT_OF(methods)] : word(in, words),
                 .path = path < 200 ? paths[path % COUNT_OF(paths)] : word(in, words),
                 .connection = {.gone = what >= 0xf0, .query = what & 0x08 ? word(in, words) : NULL}};
    if (what & 0x04)
        r.connection.headers[r.connection.headers_count++] = (pair){"Authorization", "Bearer " SECRET};
    for (uint32_t i = 0; i < (what & 3); i++) {
        const char *name = word(in, words);
        r.connection.headers[r.connection.headers_count++] = (pair){name, word(in, words)};
    }
    r.body = fuzz_piece(in);
    return r;
}

/* ---- what comes back ---- */

static void check_json(stet_str text) {
    CLEANUP(stet_buf_done) stet_buf mp = STET_BUF(2 * ANSWER_BYTES_MAX);
    stet_mp_limits limits = {.depth_max = DEPTH_MAX, .nodes_max = 1 << 22};
    ASSERT(stet_json_to_mp(text, limits, &mp, NULL) == STET_OK);
}

/* Events as they leave when nothing breaks them off: each is JSON, and the last one says that it is. */
static void check_stream(stet_str text) {
    bool done = false;
    while (text.size > 0) {
        const char *end = memmem(text.data, text.size, "\n\n", 2);
        ASSERT(end != NULL && !done);
        stet_str event = stet_str_from(text.data, (size_t)(end - text.data));
        text = stet_str_from(end + 2, text.size - event.size - 2);
        if (event.size > 0 && event.data[0] == ':')
            continue;
        ASSERT(event.size > 6 && memcmp(event.data, "data: ", 6) == 0);
        event = stet_str_from(event.data + 6, event.size - 6);
        done = stet_str_is(event, "[DONE]");
        if (!done)
            check_json(event);
    }
    ASSERT(done);
}

/* True when the answer came to its end. */
static bool read_all(struct MHD_Response *response, bool faulty, stet_buf *ret) {
    char block[BLOCK_BYTES];
    for (uint32_t i = 0; i < READS_MAX && (!faulty || ret->size < ENDLESS_BYTES); i++) {
        if (response->size != MHD_SIZE_UNKNOWN && ret->size == response->size)
            return true;
        /* As libmicrohttpd: never more than is missing. */
        size_t room = response->size != MHD_SIZE_UNKNOWN && response->size - ret->size < sizeof block
                          ? (size_t)(response->size - ret->size)
                          : sizeof block;
        ssize_t got = response->read(response->context, ret->size, block, room);
        if (got == MHD_CONTENT_READER_END_OF_STREAM || got == MHD_CONTENT_READER_END_WITH_ERROR)
            return got == MHD_CONTENT_READER_END_OF_STREAM;
        ASSERT(got > 0 && (size_t)got <= room); /* none would be asked for again at once */
        stet_buf_append(ret, block, (size_t)got);
        ASSERT(stet_buf_ok(ret));
    }
    return false; /* endless, or slower than anybody waits */
}

static void check_answer(const request *r) {
    struct MHD_Response *response = r->connection.response;
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(ANSWER_BYTES_MAX);
    bool whole = read_all(response, r->faulty, &body);
    stet_str text = stet_buf_str(&body);
    if (whole && !r->faulty && strncmp(response->content_type, "application/json", 16) == 0)
        check_json(text);
    if (whole && !r->faulty && strncmp(response->content_type, "text/event-stream", 17) == 0)
        check_stream(text);
    if (strcmp(r->path, "/sandbox/requests") == 0 && strcmp(r->method, "GET") == 0)
        ASSERT(secret_given || text.size == 0 ||
               memmem(text.data, text.size, SECRET, strlen(SECRET)) == NULL);
}

/* libmicrohttpd calls once for the head, then for each piece of the body, then once more. */
static void ask(sandbox *s, request *r, uint8_t cut) {
    void *context = NULL;
    const struct MHD_Daemon *daemon = s->daemon;
    struct MHD_Connection *connection = &r->connection;
    size_t none = 0, sizes[] = {r->body.size * cut / 255, 0};
    sizes[1] = r->body.size - sizes[0];
    current = connection;
    enum MHD_Result good =
        daemon->handle(daemon->context, connection, r->path, r->method, "HTTP/1.1", NULL, &none, &context);
    const char *at = r->body.data;
    for (size_t i = 0; i < COUNT_OF(sizes) && good == MHD_YES; i++) {
        size_t size = sizes[i];
        if (size > 0)
            good = daemon->handle(daemon->context, connection, r->path, r->method, "HTTP/1.1", at, &size,
                                  &context);
        ASSERT(size == 0);
        at += sizes[i];
    }
    if (good == MHD_YES)
        good = daemon->handle(daemon->context, connection, r->path, r->method, "HTTP/1.1", NULL, &none,
                              &context);
    ASSERT((good == MHD_YES) == (connection->response != NULL));
    ASSERT(good == MHD_YES || r->faulty || connection->gone);
    if (connection->response != NULL) {
        check_answer(r);
        MHD_destroy_response(connection->response);
    }
    daemon->completed(NULL, connection, &context, MHD_REQUEST_TERMINATED_COMPLETED_OK);
    ASSERT(context == NULL);
}

/* The sandbox's own pages are never faulty; the API is, as long as there is a fault. */
static bool may_be_faulty(const sandbox *s, const char *path) {
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(ANSWER_BYTES_MAX);
    sandbox_faults_json(s->faults, &b);
    check_json(stet_buf_str(&b));
    return strncmp(path, "/v1", 3) == 0 && memmem(b.data, b.size, "\"id\": ", 6) != NULL;
}

void fuzz_one(const uint8_t *data, size_t size) {
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    sandbox s = {.stop_fd = -1};
    stet_error e;
    secret_given = memmem(data, size, SECRET, strlen(SECRET)) != NULL;
    inside = true;
    waited_ms = 1000000;
    ASSERT(sandbox_start(&s, /* listener= */ -1, &e) == STET_OK);
    for (int i = 0; i < REQUESTS_MAX && in.left > 0; i++) {
        CLEANUP(stet_buf_done) stet_buf words = STET_BUF(FUZZ_INPUT_MAX + 64);
        (void)stet_buf_extend(&words, size + 64); /* so that pointers into it stay good */
        stet_buf_clear(&words);
        request r = read_request(&in, &words);
        r.faulty = may_be_faulty(&s, r.path);
        ask(&s, &r, fuzz_byte(&in));
    }
    sandbox_stop(&s);
    inside = false;
}

/* ---- seeds ---- */

static void put_request(stet_buf *b, uint8_t method, uint8_t path, const char *body) {
    stet_buf_append(b, (const uint8_t[]){method, path, 0x04}, 3);
    fuzz_put_piece(b, stet_str_of(body));
    stet_buf_append_byte(b, 100);
}

#define PROMPT                                                                                               \
    "{\"role\":\"user\",\"content\":\"## Current document\\n<<<DOCUMENT\\n# A\\n\\ntext "                    \
    "b\\nDOCUMENT>>>\\n## Instruction\\n<<<INSTRUCTION\\n"
#define CHAT(instruction, more)                                                                              \
    "{\"model\":\"gpt-x\",\"messages\":[{\"role\":\"system\",\"content\":\"json\"}," PROMPT instruction      \
    "\\nINSTRUCTION>>>\"}]" more "}"
#define SCHEMA                                                                                               \
    ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,"        \
    "\"schema\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"a\",\"b\"],"             \
    "\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"enum\":[1,{\"c\":null}]}}}}}"
#define STREAM ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"

static const char *const chats[] = {
    CHAT("replace \\\"b\\\" by \\\"\\u00e4\\\"", ""),
    CHAT("make the title \\\"T\\\"", STREAM),
    CHAT("Add a section about bread", SCHEMA),
    CHAT("x", SCHEMA STREAM),
    CHAT("x", ",\"response_format\":{\"type\":\"json_object\"},\"max_tokens\":9,\"temperature\":0.5,\"stop\":"
              "[\"a\"]"),
    "{\"model\":\"no-such-model\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
    "\"a\"}]}]}",
    "{\"model\":\"gpt-4.1\",\"messages\":[]}",
    "{\"model\":\"gpt-4.1\",\"unknown\":1}",
};

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const more[] = {"\"match\":\"b\",\"times\":2", "\"status\":503,\"body\":{\"a\":1}",
                                       "\"delayMs\":500,\"tokenDelayMs\":7,\"headers\":{\"x-a\":\"b\"}",
                                       "\"retryAfter\":\"2\",\"fence\":true,\"namedEvent\":true"};
    if (index >= COUNT_OF(chats) + SANDBOX_FAULT_KINDS_COUNT)
        return false;
    if (index < COUNT_OF(chats)) {
        put_request(b, 1, 0, chats[index]);
        put_request(b, 0, 2, "");
        put_request(b, 0, 5, "");
        put_request(b, 1, 6, "{\"delayMs\":3,\"tokenDelayMs\":1}");
        put_request(b, 1, 0, chats[(index + 1) % COUNT_OF(chats)]);
        return true;
    }
    size_t kind = index - COUNT_OF(chats);
    CLEANUP(stet_buf_done) stet_buf fault = STET_BUF(1024);
    stet_buf_printf(&fault, "{\"kind\":\"%s\",%s}", sandbox_fault_kind_name((sandbox_fault_kind)kind),
                    more[kind % COUNT_OF(more)]);
    stet_buf_append_byte(&fault, 0);
    put_request(b, 1, 3, (const char *)fault.data);
    put_request(b, 0, 3, "");
    put_request(b, 1, 0, chats[kind % 5]);
    put_request(b, 1, 0, chats[(kind + 1) % 5]);
    put_request(b, 2, 3, "");
    put_request(b, 0, 5, "");
    return true;
}
