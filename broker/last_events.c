/* last_events - the last event of each session and actor, for subscribers that come later.
 *
 * Sessions stand in a hash table and in a list by last use; a session has one entry per actor. Bounded by
 * sessions, by actors per session and by bytes: what was unused longest goes first. The payload's memory is
 * reused when the next event fits, so that steady traffic allocates nothing.
 *
 * Only topics "TOOL_PROGRESS/<session>" are remembered; others are relayed and forgotten. */
#include "broker/internal.h"

#include <stdlib.h>

static const char PREFIX[] = "TOOL_PROGRESS/";
static const char PAYLOAD_PREFIX[] = "TOOL_PROGRESS::";
enum { PREFIX_SIZE = sizeof PREFIX - 1, ACTOR_SIZE_MAX = STET_SERVICE_SIZE_MAX, CAPACITY_STEP = 256 };

typedef struct entry {
    struct entry *next;
    uint8_t actor_size;
    char actor[ACTOR_SIZE_MAX];
    uint32_t size, capacity;
    char payload[];
} entry;

typedef struct session {
    uint32_t hash_next; /* or the free list */
    uint32_t newer, older;
    uint16_t topic_size;
    char topic[BROKER_TOPIC_SIZE_MAX];
    entry *entries;
    uint32_t entries_count;
} session;

typedef struct replay {
    int64_t at_ms; /* of the last one; 0: unused */
    bool again;    /* asked for within the interval: due at at_ms + interval */
    uint16_t size;
    char prefix[BROKER_TOPIC_SIZE_MAX];
} replay;

struct broker_last {
    uint64_t seed, bytes;
    uint32_t sessions_max, count, capacity, free_head, newest, oldest, buckets_count;
    session *sessions;
    uint32_t *buckets;
    replay replays[BROKER_REPLAYS_MAX];
    uint32_t replays_due; /* how many have `again` set */
    int64_t budget_ms;    /* start of the interval that the budget is for */
    uint32_t budget_used;
};

broker_last *broker_last_new(uint32_t sessions_max, uint64_t seed) {
    broker_last *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->seed = seed;
    self->sessions_max = sessions_max < 1u << 20 ? sessions_max : 1u << 20;
    self->free_head = self->newest = self->oldest = BROKER_NONE;
    self->buckets_count = 64;
    while (self->buckets_count < self->sessions_max)
        self->buckets_count *= 2;
    self->buckets = malloc(self->buckets_count * sizeof *self->buckets);
    if (self->buckets == NULL)
        return broker_last_free(self);
    for (uint32_t i = 0; i < self->buckets_count; i++)
        self->buckets[i] = BROKER_NONE;
    return self;
}

static void entries_free(broker_last *self, session *s) {
    while (s->entries != NULL) {
        entry *gone = s->entries;
        s->entries = gone->next;
        self->bytes -= gone->capacity;
        free(gone);
    }
    s->entries_count = 0;
}

broker_last *broker_last_free(broker_last *self) {
    if (self == NULL)
        return NULL;
    for (uint32_t i = self->newest; i != BROKER_NONE; i = self->sessions[i].older)
        entries_free(self, &self->sessions[i]);
    free(self->sessions);
    free(self->buckets);
    free(self);
    return NULL;
}

/* ---- sessions: table and list by last use ---- */
static uint32_t *bucket_of(broker_last *self, stet_str topic) {
    return &self->buckets[broker_hash(self->seed, topic.data, topic.size) & (self->buckets_count - 1)];
}

static uint32_t session_find(broker_last *self, stet_str topic) {
    uint32_t index = *bucket_of(self, topic);
    while (index != BROKER_NONE) {
        const session *s = &self->sessions[index];
        if (stet_str_equal(stet_str_from(s->topic, s->topic_size), topic))
            return index;
        index = s->hash_next;
    }
    return BROKER_NONE;
}

static void use_unlink(broker_last *self, uint32_t index) {
    const session *s = &self->sessions[index];
    if (s->newer == BROKER_NONE)
        self->newest = s->older;
    else
        self->sessions[s->newer].older = s->older;
    if (s->older == BROKER_NONE)
        self->oldest = s->newer;
    else
        self->sessions[s->older].newer = s->newer;
}

static void use_push(broker_last *self, uint32_t index) {
    session *s = &self->sessions[index];
    s->newer = BROKER_NONE;
    s->older = self->newest;
    if (self->newest == BROKER_NONE)
        self->oldest = index;
    else
        self->sessions[self->newest].newer = index;
    self->newest = index;
}

static void session_forget(broker_last *self, uint32_t index) {
    session *s = &self->sessions[index];
    uint32_t *link = bucket_of(self, stet_str_from(s->topic, s->topic_size));
    while (*link != index) {
        ASSERT(*link != BROKER_NONE);
        link = &self->sessions[*link].hash_next;
    }
    *link = s->hash_next;
    use_unlink(self, index);
    entries_free(self, s);
    s->hash_next = self->free_head;
    self->free_head = index;
    self->count--;
}

static bool sessions_grow(broker_last *self) {
    uint32_t capacity = self->capacity == 0 ? 64 : self->capacity * 2;
    if (capacity > self->sessions_max)
        capacity = self->sessions_max;
    session *sessions = realloc(self->sessions, capacity * sizeof *sessions);
    if (sessions == NULL)
        return false;
    for (uint32_t i = capacity; i-- > self->capacity;) {
        sessions[i].hash_next = self->free_head;
        self->free_head = i;
    }
    self->sessions = sessions;
    self->capacity = capacity;
    return true;
}

static uint32_t session_get(broker_last *self, stet_str topic) {
    uint32_t index = session_find(self, topic);
    if (index != BROKER_NONE) {
        use_unlink(self, index);
        use_push(self, index);
        return index;
    }
    if (self->count == self->sessions_max)
        session_forget(self, self->oldest);
    if (self->free_head == BROKER_NONE && !sessions_grow(self))
        return BROKER_NONE;
    index = self->free_head;
    session *s = &self->sessions[index];
    self->free_head = s->hash_next;
    uint32_t *bucket = bucket_of(self, topic);
    *s = (session){.hash_next = *bucket, .topic_size = (uint16_t)topic.size};
    memcpy(s->topic, topic.data, topic.size);
    *bucket = index;
    use_push(self, index);
    self->count++;
    return index;
}

/* ---- entries ---- */
/* The value of "actor" in the JSON. A quote inside a string is escaped, so the bytes "actor" with both quotes
 * are a key or a whole value, and only a key is followed by a colon; the first one is the top level's by the
 * order of keys. */
static stet_str actor_of(stet_str json) {
    static const char key[] = "\"actor\"";
    const char *at = json.data, *end = json.data + json.size;
    while (at < end && (at = memmem(at, (size_t)(end - at), key, sizeof key - 1)) != NULL) {
        at += sizeof key - 1;
        const char *value = at;
        while (value < end && *value == ' ')
            value++;
        if (value == end || *value != ':')
            continue;
        value++;
        while (value < end && *value == ' ')
            value++;
        if (value == end || *value != '"')
            break;
        value++;
        const char *quote = memchr(value, '"', (size_t)(end - value));
        if (quote == NULL || (size_t)(quote - value) > ACTOR_SIZE_MAX)
            break;
        return stet_str_from(value, (size_t)(quote - value));
    }
    return (stet_str){"", 0};
}

/* Takes the actor's entry out of the list, or an old one when there are too many; NULL: a new one is needed.
 */
static entry *entry_take(broker_last *self, session *s, stet_str actor, size_t size) {
    entry **link = &s->entries;
    while (*link != NULL) {
        bool last = (*link)->next == NULL && s->entries_count >= BROKER_LAST_ACTORS_MAX;
        if (last || stet_str_equal(stet_str_from((*link)->actor, (*link)->actor_size), actor))
            break;
        link = &(*link)->next;
    }
    entry *found = *link;
    if (found == NULL)
        return NULL;
    *link = found->next;
    s->entries_count--;
    if (found->capacity >= size && found->capacity <= 4 * size + CAPACITY_STEP)
        return found;
    self->bytes -= found->capacity;
    free(found);
    return NULL;
}

void broker_last_put(broker_last *self, stet_str topic, stet_str payload) {
    if (topic.size <= PREFIX_SIZE || topic.size > BROKER_TOPIC_SIZE_MAX ||
        memcmp(topic.data, PREFIX, PREFIX_SIZE) != 0)
        return;
    uint32_t index = session_get(self, topic);
    if (index == BROKER_NONE)
        return;
    session *s = &self->sessions[index];
    stet_str actor = actor_of(payload);
    entry *e = entry_take(self, s, actor, payload.size);
    if (e == NULL) {
        size_t capacity = (payload.size / CAPACITY_STEP + 1) * CAPACITY_STEP;
        e = malloc(sizeof *e + capacity);
        if (e == NULL) {
            if (s->entries == NULL)
                session_forget(self, index);
            return;
        }
        e->capacity = (uint32_t)capacity;
        self->bytes += capacity;
    }
    e->actor_size = (uint8_t)actor.size;
    memcpy(e->actor, actor.data, actor.size);
    e->size = (uint32_t)payload.size;
    memcpy(e->payload, payload.data, payload.size);
    e->next = s->entries;
    s->entries = e;
    s->entries_count++;
    while (self->bytes > BROKER_LAST_BYTES_MAX && self->oldest != self->newest)
        session_forget(self, self->oldest);
}

/* ---- reading ---- */
uint32_t broker_last_replay(broker_last *self, stet_str prefix, uint32_t events_max,
                            const broker_edge *edge) {
    uint32_t sent = 0;
    for (uint32_t i = self->newest; i != BROKER_NONE && sent < events_max; i = self->sessions[i].older) {
        const session *s = &self->sessions[i];
        if (s->topic_size < prefix.size ||
            (prefix.size > 0 && memcmp(s->topic, prefix.data, prefix.size) != 0))
            continue;
        for (const entry *e = s->entries; e != NULL && sent < events_max; e = e->next, sent++)
            edge->publish(edge->context, stet_str_from(s->topic, s->topic_size),
                          stet_str_from(e->payload, e->size));
    }
    return sent;
}

uint32_t broker_last_session(broker_last *self, stet_str session_id, stet_buf *b) {
    char topic[BROKER_TOPIC_SIZE_MAX];
    if (session_id.size > sizeof topic - PREFIX_SIZE)
        return 0;
    memcpy(topic, PREFIX, PREFIX_SIZE);
    if (session_id.size > 0)
        memcpy(topic + PREFIX_SIZE, session_id.data, session_id.size);
    uint32_t index = session_find(self, stet_str_from(topic, PREFIX_SIZE + session_id.size));
    if (index == BROKER_NONE)
        return 0;
    uint32_t count = 0;
    for (const entry *e = self->sessions[index].entries; e != NULL; e = e->next) {
        stet_str text = stet_str_from(e->payload, e->size);
        if (b->size + text.size + 64 > b->size_max)
            break;
        size_t skip = sizeof PAYLOAD_PREFIX - 1;
        if (text.size >= skip && memcmp(text.data, PAYLOAD_PREFIX, skip) == 0)
            text = stet_str_from(text.data + skip, text.size - skip);
        stet_mp_str(b, text);
        count++;
    }
    return count;
}

/* ---- the rate of replays ---- */
static void replay_now(broker_core *core, stet_str prefix) {
    broker_last *self = core->last;
    if (core->now_ms - self->budget_ms >= BROKER_REPLAY_INTERVAL_MS) {
        self->budget_ms = core->now_ms;
        self->budget_used = 0;
    }
    if (self->budget_used >= BROKER_REPLAY_BUDGET) {
        broker_count(core, BROKER_COUNT_REPLAYS_SKIPPED);
        return;
    }
    uint32_t sent = broker_last_replay(self, prefix, BROKER_REPLAY_EVENTS_MAX, &core->edge);
    self->budget_used += sent + 1;
    core->counters[BROKER_COUNT_EVENTS_REPLAYED] += sent;
}

/* The entry of this prefix; else one that may be used anew; else NULL: too many prefixes within the interval.
 */
static replay *replay_of(broker_core *core, stet_str prefix) {
    replay *free_one = NULL;
    for (uint32_t i = 0; i < BROKER_REPLAYS_MAX; i++) {
        replay *r = &core->last->replays[i];
        bool recent = r->at_ms != 0 && core->now_ms - r->at_ms < BROKER_REPLAY_INTERVAL_MS;
        if ((recent || r->again) && stet_str_equal(stet_str_from(r->prefix, r->size), prefix))
            return r;
        if (!recent && !r->again)
            free_one = r;
    }
    if (free_one != NULL) {
        *free_one = (replay){.size = (uint16_t)prefix.size};
        if (prefix.size > 0)
            memcpy(free_one->prefix, prefix.data, prefix.size);
    }
    return free_one;
}

void broker_last_subscribed(broker_core *core, stet_str prefix) {
    replay *r = replay_of(core, prefix);
    if (r != NULL && r->at_ms != 0) {
        core->last->replays_due += r->again ? 0 : 1;
        r->again = true;
        return;
    }
    if (r != NULL)
        r->at_ms = core->now_ms == 0 ? 1 : core->now_ms;
    replay_now(core, prefix);
}

void broker_last_tick(broker_core *core) {
    if (core->last->replays_due == 0)
        return;
    for (uint32_t i = 0; i < BROKER_REPLAYS_MAX; i++) {
        replay *r = &core->last->replays[i];
        if (!r->again || core->now_ms - r->at_ms < BROKER_REPLAY_INTERVAL_MS)
            continue;
        r->again = false;
        core->last->replays_due--;
        r->at_ms = core->now_ms;
        replay_now(core, stet_str_from(r->prefix, r->size));
    }
}

int64_t broker_last_next_ms(const broker_core *core) {
    int64_t next_ms = INT64_MAX;
    if (core->last->replays_due == 0)
        return next_ms;
    for (uint32_t i = 0; i < BROKER_REPLAYS_MAX; i++) {
        const replay *r = &core->last->replays[i];
        if (r->again && r->at_ms + BROKER_REPLAY_INTERVAL_MS < next_ms)
            next_ms = r->at_ms + BROKER_REPLAY_INTERVAL_MS;
    }
    return next_ms;
}
