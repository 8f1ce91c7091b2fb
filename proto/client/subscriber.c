#include <stdio.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/client/client_internal.h"
#include "proto/client/merge.h"
#include "proto/wire/json.h"

#define TOPIC "TOOL_PROGRESS/"
#define PAYLOAD "TOOL_PROGRESS::"

enum { NAME_MAX_SIZE = 129, EVENT_JSON_MAX = 64 << 10, PAGE_EVENTS = 200, PAGE_TIMEOUT_MS = 5000 };

struct stet_subscriber {
    stet_client *client;
    void *socket;
    void *monitor;
    bool all;                       /* every session, live only */
    char session_id[NAME_MAX_SIZE]; /* that is asked for */
    char service[NAME_MAX_SIZE];
    client_merge merge;

    bool asked;    /* a read is under way: its answer will call page_arrived */
    bool orphaned; /* freed while it was: page_arrived frees */
    stet_buf page; /* the answer that is handed out */
    stet_mp_reader events;
    uint32_t events_left;
    bool page_delivered, page_more;
    uint64_t page_last;

    stet_buf json;    /* the event that was handed out, NUL-terminated */
    stet_buf scratch; /* its MessagePack form */
    char event_session[NAME_MAX_SIZE], event_actor[NAME_MAX_SIZE];
};

static void free_now(stet_subscriber *self) {
    stet_buf_done(&self->page);
    stet_buf_done(&self->json);
    stet_buf_done(&self->scratch);
    free(self);
}

void stet_subscriber_free(stet_subscriber *self) {
    if (!self)
        return;
    client_monitor_close(self->socket, self->monitor);
    if (self->socket)
        (void)zmq_close(self->socket);
    self->orphaned = self->asked;
    if (!self->orphaned)
        free_now(self);
}

static int open_subscriber(stet_subscriber *self, const char *session_id, const char *service) {
    stet_client *client = self->client;
    if ((session_id && strlen(session_id) >= NAME_MAX_SIZE) || strlen(service) >= NAME_MAX_SIZE)
        return client_fail(client, STET_INVALID, "session and service have at most %d bytes",
                           NAME_MAX_SIZE - 1);
    (void)snprintf(self->session_id, sizeof self->session_id, "%s", session_id ? session_id : "");
    (void)snprintf(self->service, sizeof self->service, "%s", service);
    self->socket = client_socket(client, ZMQ_SUB);
    if (!self->socket)
        return -1;
    char topic[sizeof TOPIC + NAME_MAX_SIZE];
    int size = snprintf(topic, sizeof topic, TOPIC "%s", self->session_id);
    if (zmq_setsockopt(self->socket, ZMQ_SUBSCRIBE, topic, (size_t)size) != 0)
        return client_fail(client, STET_INTERNAL, "cannot subscribe: %s", zmq_strerror(zmq_errno()));
    self->monitor = client_monitor(client, self->socket);
    return self->monitor ? client_connect(client, self->socket, client->events) : -1;
}

stet_subscriber *stet_subscriber_new(stet_client *client, const char *session_id, const char *service,
                                     uint64_t after_seq) {
    stet_subscriber *self = calloc(1, sizeof *self);
    if (!self) {
        client_fail(client, STET_INTERNAL, "out of memory");
        return NULL;
    }
    self->client = client;
    self->all = session_id == NULL;
    self->page = (stet_buf)STET_BUF(STET_BODY_BYTES_MAX);
    self->json = (stet_buf)STET_BUF(EVENT_JSON_MAX + 1);
    self->scratch = (stet_buf)STET_BUF(EVENT_JSON_MAX);
    self->merge = client_merge_of(after_seq, stet_clock_boot_ms());
    if (open_subscriber(self, session_id, service ? service : "drafter") == 0)
        return self;
    stet_subscriber_free(self);
    return NULL;
}

/* ---- events ---- */

/* Reads the JSON text into the fields that are handed out; false when it is no event. */
static bool read_event(stet_subscriber *self, stet_str json, stet_client_event *ret) {
    stet_buf_clear(&self->scratch);
    stet_buf_clear(&self->json);
    stet_error ignored;
    if (stet_json_to_mp(json, STET_MP_LIMITS_BODY, &self->scratch, &ignored) != STET_OK)
        return false;
    stet_buf_append_str(&self->json, json);
    stet_buf_append_byte(&self->json, 0);
    stet_str map = stet_buf_str(&self->scratch);
    stet_str session = stet_mp_get_str(map, "sessionId", STET_STR(""));
    stet_str actor = stet_mp_get_str(map, "actor", STET_STR(""));
    uint64_t seq = stet_mp_get_uint(map, "seq", 0);
    if (!stet_buf_ok(&self->json) || seq == 0 || session.size >= NAME_MAX_SIZE || actor.size >= NAME_MAX_SIZE)
        return false;
    (void)snprintf(self->event_session, NAME_MAX_SIZE, "%.*s", STET_STR_ARG(session));
    (void)snprintf(self->event_actor, NAME_MAX_SIZE, "%.*s", STET_STR_ARG(actor));
    *ret = (stet_client_event){
        .json = (const char *)self->json.data,
        .json_size = json.size,
        .session_id = self->event_session,
        .actor = self->event_actor,
        .seq = seq,
    };
    return true;
}

/* The next live event that is to be delivered. */
static bool next_live(stet_subscriber *self, stet_client_event *ret) {
    for (;;) {
        zmq_msg_t frames[2];
        int count = 0;
        bool whole = client_receive(self->socket, frames, 2, &count);
        if (count == 0)
            return false;
        if (!whole)
            continue;
        stet_str payload = count == 2 ? client_frame(&frames[1]) : STET_STR("");
        bool deliver =
            payload.size > strlen(PAYLOAD) && memcmp(payload.data, PAYLOAD, strlen(PAYLOAD)) == 0 &&
            read_event(self, stet_str_from(payload.data + strlen(PAYLOAD), payload.size - strlen(PAYLOAD)),
                       ret);
        for (int i = 0; i < count; i++)
            (void)zmq_msg_close(&frames[i]);
        /* A subscription is a prefix: "s1" also brings "s10". */
        if (deliver && !self->all)
            deliver = strcmp(ret->session_id, self->session_id) == 0 &&
                      strcmp(ret->actor, self->service) == 0 &&
                      client_merge_live(&self->merge, ret->seq, stet_clock_boot_ms());
        if (deliver)
            return true;
    }
}

/* The next event of the page that is being handed out. */
static bool next_of_page(stet_subscriber *self, stet_client_event *ret) {
    while (self->events_left > 0) {
        stet_str json = stet_mp_read_str(&self->events);
        self->events_left--;
        bool deliver = read_event(self, json, ret) && client_merge_page_event(&self->merge, ret->seq);
        self->page_delivered |= deliver;
        if (self->events_left == 0)
            client_merge_page_end(&self->merge, self->page_delivered, self->page_more, self->page_last,
                                  stet_clock_boot_ms());
        if (deliver)
            return true;
    }
    return false;
}

static void page_arrived(void *context, stet_id id, const client_result *result) {
    (void)id;
    stet_subscriber *self = context;
    self->asked = false;
    if (self->orphaned) {
        free_now(self);
        return;
    }
    int64_t now = stet_clock_boot_ms();
    stet_buf_clear(&self->page);
    stet_buf_append_str(&self->page, result->body);
    stet_str map = stet_buf_str(&self->page);
    stet_mp_reader events;
    if (!result->answered || result->refused || !stet_buf_ok(&self->page) ||
        !stet_mp_find(map, "events", &events)) {
        client_merge_page_failed(&self->merge, now);
        return;
    }
    self->events_left = stet_mp_read_array(&events);
    self->events = events;
    self->page_delivered = false;
    self->page_more = stet_mp_get_bool(map, "more", false);
    self->page_last = stet_mp_get_uint(map, "lastSeq", 0);
    if (self->events_left == 0)
        client_merge_page_end(&self->merge, false, self->page_more, self->page_last, now);
}

static void ask_for_page(stet_subscriber *self) {
    uint64_t after = 0;
    int64_t now = stet_clock_boot_ms();
    if (self->all || !client_merge_read(&self->merge, now, &after))
        return;
    CLEANUP(stet_buf_done) stet_buf body = STET_BUF(1024);
    stet_mp_map(&body, 3);
    stet_mp_put_cstr(&body, "sessionId", self->session_id);
    stet_mp_put_uint(&body, "afterSeq", after);
    stet_mp_put_uint(&body, "limit", PAGE_EVENTS);
    char command[NAME_MAX_SIZE + 8];
    (void)snprintf(command, sizeof command, "%s.events", self->service);
    client_request request = {
        .id = stet_id_next(&self->client->ids, stet_clock_wall_ms()),
        .command = stet_str_of(command),
        .body = stet_buf_str(&body),
        .timeout_ms = PAGE_TIMEOUT_MS,
        .done = page_arrived,
        .context = self,
    };
    stet_error ignored;
    self->asked =
        stet_buf_ok(&body) && client_core_send(self->client->core, &request, now, &ignored) == STET_OK;
    if (!self->asked)
        client_merge_page_failed(&self->merge, now);
}

int stet_subscriber_next(stet_subscriber *self, stet_client_event *event, int wait_ms) {
    stet_client *client = self->client;
    int64_t until = wait_ms < 0 ? INT64_MAX : stet_clock_boot_ms() + wait_ms;
    for (;;) {
        if (client_monitor_connected(client, self->monitor))
            client_merge_reconnected(&self->merge, stet_clock_boot_ms());
        client_service(client);
        if (next_of_page(self, event) || next_live(self, event))
            return 1;
        ask_for_page(self);

        int64_t now = stet_clock_boot_ms();
        if (now >= until)
            return 0;
        int64_t wake = self->all ? INT64_MAX : client_merge_next_wake(&self->merge);
        int64_t left = (wake < until ? wake : until) - now;
        int limit = wake == INT64_MAX && until == INT64_MAX ? -1
                    : left < 0                              ? 0
                    : left > 60000                          ? 60000
                                                            : (int)left;
        zmq_pollitem_t items[] = {{.socket = self->socket, .events = ZMQ_POLLIN},
                                  {.socket = self->monitor, .events = ZMQ_POLLIN},
                                  {.socket = client->dealer, .events = ZMQ_POLLIN},
                                  {.socket = client->monitor, .events = ZMQ_POLLIN}};
        if (zmq_poll(items, COUNT_OF(items), client_poll_ms(client, limit)) < 0)
            return client_fail(client, STET_INTERNAL, "waiting was interrupted: %s",
                               zmq_strerror(zmq_errno()));
    }
}
