/* Each invariant gathers the records it is about, sorts them by what they share and looks at each group. */
#include "tests/sim/checker.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct checker {
    const history *h;
    char *text;
    const history_record **list; /* those gathered */
    size_t count;
    bool bad;
} checker;

static const struct {
    const char *text;
    checker_status status;
} statuses[] = {{"queued", CHECKER_QUEUED},      {"delayed", CHECKER_DELAYED}, {"active", CHECKER_ACTIVE},
                {"progress", CHECKER_PROGRESS},  {"done", CHECKER_JOB_DONE},   {"error", CHECKER_JOB_ERROR},
                {"cancelled", CHECKER_CANCELLED}};

checker_status checker_status_of(stet_str text) {
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        if (stet_str_is(text, statuses[i].text))
            return statuses[i].status;
    }
    return CHECKER_OTHER;
}

static void bad(checker *self, const char *what, const history_record *r, const char *why) {
    char id[STET_ID_TEXT_SIZE];
    if (self->bad)
        return;
    self->bad = true;
    stet_id_text(r->id, id);
    (void)snprintf(self->text, CHECKER_TEXT_SIZE,
                   "%s: %s (%s at %lld.%03lld, %s%s%s, who %u, number %llu, code %u)", what, why,
                   history_kind_text(r->kind), (long long)(r->at_ms / 1000), (long long)(r->at_ms % 1000),
                   r->stream < self->h->names_count ? self->h->names[r->stream] : "",
                   stet_id_is_zero(r->id) ? "" : ", id ", stet_id_is_zero(r->id) ? "" : id, r->who,
                   (unsigned long long)r->number, r->code);
}

/* ---- gathering ---- */

#define KIND(name) (1u << HISTORY_##name)

static void gather(checker *self, uint32_t kinds) {
    self->count = 0;
    for (size_t i = 0; i < self->h->count; i++) {
        if (kinds >> self->h->records[i].kind & 1)
            self->list[self->count++] = &self->h->records[i];
    }
}

typedef int compare_fn(const void *a, const void *b);

static int order(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

/* The last word: the order in which they were written. */
static int by_place(const history_record *a, const history_record *b) {
    return a < b ? -1 : a > b;
}

static int by_id(const void *pa, const void *pb) {
    const history_record *a = *(const history_record *const *)pa, *b = *(const history_record *const *)pb;
    int c = memcmp(a->id.bytes, b->id.bytes, STET_ID_BYTES);
    return c ? c : by_place(a, b);
}

static int by_stream(const void *pa, const void *pb) {
    const history_record *a = *(const history_record *const *)pa, *b = *(const history_record *const *)pb;
    int c = order(a->stream, b->stream);
    return c ? c : by_place(a, b);
}

static int by_stream_number(const void *pa, const void *pb) {
    const history_record *a = *(const history_record *const *)pa, *b = *(const history_record *const *)pb;
    int c = order(a->stream, b->stream);
    if (!c)
        c = order(a->number, b->number);
    return c ? c : by_place(a, b);
}

static int by_who_stream(const void *pa, const void *pb) {
    const history_record *a = *(const history_record *const *)pa, *b = *(const history_record *const *)pb;
    int c = order(a->who, b->who);
    if (!c)
        c = order(a->stream, b->stream);
    return c ? c : by_place(a, b);
}

static int by_id_number(const void *pa, const void *pb) {
    const history_record *a = *(const history_record *const *)pa, *b = *(const history_record *const *)pb;
    int c = memcmp(a->id.bytes, b->id.bytes, STET_ID_BYTES);
    if (!c)
        c = order(a->number, b->number);
    return c ? c : by_place(a, b);
}

static void sort(checker *self, compare_fn *compare) {
    if (self->count > 1)
        qsort(self->list, self->count, sizeof(self->list[0]), compare);
}

/* The end of the group that begins at `from`; groups share the id, or else the stream. */
static size_t group_of_id(const checker *self, size_t from) {
    size_t to = from + 1;
    while (to < self->count && stet_id_equal(self->list[to]->id, self->list[from]->id))
        to++;
    return to;
}

static size_t group_of_stream(const checker *self, size_t from, bool same_who) {
    size_t to = from + 1;
    while (to < self->count && self->list[to]->stream == self->list[from]->stream &&
           (!same_who || self->list[to]->who == self->list[from]->who))
        to++;
    return to;
}

/* ---- requests: I1, I2, I3, I7, I8, I9 ---- */

static void check_answers(checker *self, size_t from, size_t to) {
    const history_record *first = NULL;
    for (size_t i = from; i < to; i++) {
        const history_record *r = self->list[i];
        if (r->kind == HISTORY_OK && !first)
            first = r;
        else if (r->kind == HISTORY_OK && r->hash != first->hash)
            bad(self, "I3", r, "another request under an id that was answered was not refused");
        else if (r->kind == HISTORY_OK && r->answer != first->answer)
            bad(self, "I3", r, "the same request got another answer than the first time");
        else if (r->kind == HISTORY_REFUSED && first && r->hash == first->hash)
            bad(self, "I3", r, "a request that was answered is refused when asked again");
    }
}

typedef struct facets {
    bool seen;
    uint64_t count[FACETS_COUNT];
    bool known[FACETS_COUNT];
    const history_record *last[FACETS_COUNT]; /* to be shown */
} facets;

static facets facets_of(const checker *self, size_t from, size_t to) {
    facets found = {.seen = false};
    for (size_t i = from; i < to; i++) {
        const history_record *r = self->list[i];
        if (r->kind != HISTORY_FACET || r->code >= FACETS_COUNT)
            continue;
        found.seen = true;
        found.known[r->code] = true;
        found.last[r->code] = r;
        found.count[r->code] += r->number;
    }
    return found;
}

static void check_facets(checker *self, size_t from, size_t to) {
    facets found = facets_of(self, from, to);
    const history_record *head = self->list[from];
    bool ok = false, refused = false, other = false;
    for (size_t i = from; i < to; i++) {
        const history_record *r = self->list[i];
        ok |= r->kind == HISTORY_OK;
        refused |= r->kind == HISTORY_REFUSED && r->number <= 1;
        other |= r->kind == HISTORY_UNKNOWN || (r->kind == HISTORY_REFUSED && r->number > 1) ||
                 (r->kind == HISTORY_INVOKE && r->hash != head->hash);
    }
    if (!found.seen)
        return;
    for (int i = 0; i < FACETS_COUNT; i++) {
        if (!found.known[i] || (i == FACET_EVENT && self->h->forgets && found.count[i] == 0))
            continue;
        if (found.count[i] > 1)
            bad(self, "I2", head, "a message was applied more than once");
        if (found.count[i] == 0 && ok)
            bad(self, "I1", head, "a request that was answered is not there");
        if (found.count[i] > 0 && refused && !ok && !other)
            bad(self, "I7", head, "a request that was refused has been applied");
        if (found.count[i] != found.count[FACET_STATE] && found.known[FACET_STATE])
            bad(self, "I9", found.last[i], "of one message a part is there and another is not");
    }
}

static void check_requests(checker *self) {
    gather(self, KIND(INVOKE) | KIND(OK) | KIND(REFUSED) | KIND(UNKNOWN) | KIND(FACET));
    sort(self, by_id);
    for (size_t from = 0, to; from < self->count; from = to) {
        bool asked = false, told = false;
        to = group_of_id(self, from);
        check_answers(self, from, to);
        check_facets(self, from, to);
        for (size_t i = from; i < to; i++) {
            asked |= self->list[i]->kind == HISTORY_INVOKE;
            told |= self->list[i]->kind == HISTORY_OK || self->list[i]->kind == HISTORY_REFUSED;
        }
        if (self->h->whole && asked && !told)
            bad(self, "I8", self->list[from], "nobody could ever say what became of this request");
    }
}

/* ---- one client and its keys: I5 ---- */

/* A writer that went away before its write was answered: nobody waits for it, so it may be applied at any time
 * until somebody is told what became of it, after later writes too. But once only: what was seen and then
 * overwritten does not come again. */
static bool is_adrift(const checker *self, size_t from, size_t to, uint64_t number) {
    const history_record *wrote = NULL;
    bool adrift = false, seen = false, overwritten = false;
    for (size_t i = from; i < to; i++) {
        const history_record *r = self->list[i];
        bool same = r->number == number, told = r->kind == HISTORY_READ || r->answer;
        switch (r->kind) {
        case HISTORY_READ:
        case HISTORY_WROTE:
            if (same && r->kind == HISTORY_WROTE) {
                wrote = r;
                adrift = adrift && !r->answer;
            }
            overwritten |= seen && told && !same;
            seen |= told && same;
            break;
        default: /* UNKNOWN, REFUSED */
            if (wrote && stet_id_equal(r->id, wrote->id))
                adrift = r->kind == HISTORY_UNKNOWN;
            break;
        }
    }
    return adrift && !overwritten;
}

/* A key with one writer: a read shows the last write that was answered, or a later one. */
static void check_register(checker *self, size_t from, size_t to) {
    uint64_t least = 0, most = 0, gone = 0;
    for (size_t i = from; i < to; i++) {
        const history_record *r = self->list[i];
        if (r->kind == HISTORY_WROTE) {
            most = r->number > most ? r->number : most;
            least = r->answer && r->number > least ? r->number : least;
        } else if (r->kind == HISTORY_READ) {
            bool old = r->number < least || (gone > 0 && r->number <= gone);
            if (r->number > most)
                bad(self, "I5", r, "a read shows what was never written");
            else if (old && !is_adrift(self, from, i, r->number))
                bad(self, "I5", r, "a read shows less than what this client has written or read before");
            else if (old)
                gone = least; /* overwritten by what was adrift */
            least = r->number > least ? r->number : least;
        }
    }
}

static void check_keys(checker *self) {
    gather(self, KIND(WROTE) | KIND(READ) | KIND(UNKNOWN) | KIND(REFUSED));
    sort(self, by_who_stream);
    for (size_t from = 0, to; from < self->count; from = to) {
        to = group_of_stream(self, from, /* same_who= */ true);
        check_register(self, from, to);
    }
}

/* A counter tells how far it is: for one client, one thing after the other, always further. */
static void check_counters(checker *self) {
    gather(self, KIND(OK));
    sort(self, by_who_stream);
    for (size_t i = 1; i < self->count; i++) {
        const history_record *a = self->list[i - 1], *b = self->list[i];
        if (a->who != b->who || a->stream != b->stream || !a->number || !b->number)
            continue;
        if (!stet_id_equal(a->id, b->id) && a->code == 0 && b->code == 0 && b->number <= a->number)
            bad(self, "I5", b, "a later request of the same client on the same key was applied before");
    }
}

/* ---- channels: I4, I15 ---- */

static void check_channel(checker *self, size_t from, size_t to) {
    const history_record *sent = NULL;
    uint64_t taken = 0, acked = 0;
    bool looked = false;
    for (size_t i = from; i < to; i++) {
        const history_record *r = self->list[i];
        switch (r->kind) {
        case HISTORY_SENT:
            if (sent && sent->number == r->number &&
                (!stet_id_equal(sent->id, r->id) || sent->hash != r->hash))
                bad(self, "I4", r, "a number of a channel was given to two messages");
            sent = r;
            break;
        case HISTORY_TAKEN:
            looked = true;
            if (r->number != taken + 1)
                bad(self, "I4", r, "the order of what was applied has a gap");
            taken = r->number;
            if (sent && sent->number == r->number && !stet_id_equal(sent->id, r->id))
                bad(self, "I4", r, "another message than the one sent was applied, or in another order");
            if (!sent || sent->number != r->number)
                bad(self, "I4", r, "a message was applied that was never sent under this number");
            break;
        default:
            acked = r->number > acked ? r->number : acked;
            break;
        }
    }
    if (looked && acked > taken)
        bad(self, "I15", self->list[to - 1], "more was acknowledged than was applied and kept");
}

static void check_channels(checker *self) {
    gather(self, KIND(SENT) | KIND(TAKEN) | KIND(ACKED));
    sort(self, by_stream_number);
    for (size_t from = 0, to; from < self->count; from = to) {
        to = group_of_stream(self, from, /* same_who= */ false);
        check_channel(self, from, to);
    }
}

/* ---- progress: I6 ---- */

static void check_readers(checker *self) {
    gather(self, KIND(EVENT));
    sort(self, by_who_stream);
    for (size_t from = 0, to; from < self->count; from = to) {
        to = group_of_stream(self, from, /* same_who= */ true);
        uint64_t last = 0;
        for (size_t i = from; i < to; last = self->list[i++]->number) {
            uint64_t number = self->list[i]->number;
            if (self->h->forgets ? number <= last : number != last + 1)
                bad(self, "I6", self->list[i], "a reader missed an event, or got one twice");
        }
    }
}

static void check_texts(checker *self) {
    gather(self, KIND(EVENT) | KIND(PUBLISHED) | KIND(STORED));
    sort(self, by_stream_number);
    for (size_t from = 0, to; from < self->count; from = to) {
        uint64_t last = 0;
        bool stored = false;
        to = group_of_stream(self, from, /* same_who= */ false);
        for (size_t i = from; i < to; i++) {
            const history_record *r = self->list[i];
            stored |= r->kind == HISTORY_STORED;
            if (r->kind == HISTORY_STORED) {
                if (r->number != last + 1 && !(self->h->forgets && last == 0))
                    bad(self, "I6", r, "the stored events have a gap, or one twice");
                last = r->number;
            }
            if (i > from && self->list[i - 1]->number == r->number && self->list[i - 1]->hash != r->hash)
                bad(self, "I6", r, "one number was given to two events");
        }
        for (size_t i = from; stored && i < to; i++) {
            if (self->list[i]->number > last)
                bad(self, "I6", self->list[i], "an event was seen that is not stored");
        }
    }
}

/* When all has come to rest, each reader has read to the end. Later events are those of the next start. */
static void check_read_to_the_end(checker *self) {
    if (self->h->forgets)
        return;
    gather(self, KIND(HEAD));
    uint64_t *last = calloc(HISTORY_NAMES_MAX, sizeof(*last));
    ASSERT(last != NULL);
    for (size_t i = 0; i < self->count; i++) {
        if (self->list[i]->number > last[self->list[i]->stream])
            last[self->list[i]->stream] = self->list[i]->number;
    }
    gather(self, KIND(EVENT));
    sort(self, by_who_stream);
    for (size_t from = 0, to; from < self->count; from = to) {
        to = group_of_stream(self, from, /* same_who= */ true);
        const history_record *r = self->list[to - 1];
        if (last[r->stream] && r->number < last[r->stream])
            bad(self, "I6", r, "a reader never came to the last event");
    }
    free(last);
}

/* ---- jobs and calls: J1, I5, I10 ---- */

static bool may_follow(uint32_t before, uint32_t after) {
    switch (before) {
    case CHECKER_JOB_DONE:
        return false;
    case CHECKER_JOB_ERROR:
    case CHECKER_CANCELLED:
        return after == CHECKER_QUEUED;
    case CHECKER_QUEUED:
        return after == CHECKER_ACTIVE || after == CHECKER_CANCELLED || after == CHECKER_DELAYED;
    case CHECKER_DELAYED:
        return after == CHECKER_QUEUED || after == CHECKER_ACTIVE || after == CHECKER_CANCELLED;
    default:
        return true;
    }
}

static void check_jobs(checker *self) {
    gather(self, KIND(STORED));
    sort(self, by_id_number);
    for (size_t i = 0; i < self->count; i++) {
        const history_record *r = self->list[i], *before = i > 0 ? self->list[i - 1] : NULL;
        if (stet_id_is_zero(r->id) || r->code == CHECKER_OTHER)
            continue;
        if (!before || !stet_id_equal(before->id, r->id)) {
            if (r->code != CHECKER_QUEUED && r->code != CHECKER_DELAYED && !self->h->forgets)
                bad(self, "J1", r, "a job's first event is not that it was queued");
        } else if (before->stream != r->stream || !may_follow(before->code, r->code)) {
            bad(self, "J1", r, "an event of a job cannot follow the one before it");
        }
    }
}

static void check_one_at_a_time(checker *self) {
    gather(self, KIND(EFFECT) | KIND(EFFECT_END));
    sort(self, by_stream);
    for (size_t from = 0, to; from < self->count; from = to) {
        const history_record *open = NULL;
        to = group_of_stream(self, from, /* same_who= */ false);
        for (size_t i = from; i < to; i++) {
            const history_record *r = self->list[i];
            if (r->kind == HISTORY_EFFECT && open)
                bad(self, "I5", r, "two calls at a time for one project");
            if (r->kind == HISTORY_EFFECT)
                open = r;
            else if (open && stet_id_equal(open->id, r->id) && open->number == r->number)
                open = NULL;
        }
    }
}

static void check_effects(checker *self) {
    gather(self, KIND(EFFECT) | KIND(KNOWN));
    sort(self, by_id_number);
    for (size_t from = 0, to; from < self->count; from = to) {
        uint64_t attempts = 0, calls = 0;
        const history_record *known = NULL;
        to = group_of_id(self, from);
        for (size_t i = from; i < to; i++) {
            const history_record *r = self->list[i];
            if (r->kind == HISTORY_KNOWN) {
                known = r;
                continue;
            }
            calls++;
            attempts = r->number >> 32 > attempts ? r->number >> 32 : attempts;
            if (i > from && self->list[i - 1]->kind == HISTORY_EFFECT &&
                self->list[i - 1]->number == r->number)
                bad(self, "I10", r, "one try of one attempt was made twice outside");
        }
        if (known && attempts > known->number)
            bad(self, "I10", known, "a call was made of an attempt that its job does not know of");
        if (known && calls > known->answer)
            bad(self, "I10", known, "more calls were made than the job knows of");
    }
}

/* ---- the rest ---- */

static void check_commits(checker *self) {
    gather(self, KIND(COMMIT) | KIND(OPENED));
    sort(self, by_stream);
    uint64_t last = 0;
    for (size_t i = 0; i < self->count; i++) {
        const history_record *r = self->list[i];
        if (i > 0 && r->stream != self->list[i - 1]->stream)
            last = 0;
        if (r->kind == HISTORY_OPENED) {
            if (r->number < last)
                bad(self, "I15", r, "a store is served that ends before what was acknowledged");
            continue;
        }
        if (last > 0 && r->number != last + 1)
            bad(self, "I13", r, "a commit's number does not follow the one before it");
        last = r->number;
    }
}

static void check_owners(checker *self) {
    gather(self, KIND(OWNER) | KIND(SERVED));
    sort(self, by_stream);
    uint64_t highest = 0;
    for (size_t i = 0; i < self->count; i++) {
        const history_record *r = self->list[i];
        if (i > 0 && r->stream != self->list[i - 1]->stream)
            highest = 0;
        if (r->number < highest)
            bad(self, "I13", r,
                r->kind == HISTORY_OWNER ? "an owner that was replaced is the owner again"
                                         : "an answer of an owner that was replaced has left");
        if (r->kind == HISTORY_OWNER)
            highest = r->number;
    }
}

static void check_single(checker *self) {
    for (size_t i = 0; i < self->h->count; i++) {
        const history_record *r = &self->h->records[i];
        if (r->kind == HISTORY_SUM && r->number != r->answer)
            bad(self, "I11", r, "a sum is not what it has to be");
        if (r->kind == HISTORY_BASE && r->number != r->answer)
            bad(self, "J2", r, "a draft has landed on another version than the one it was made from");
        if (r->kind == HISTORY_PENDING && r->number > 0)
            bad(self, "I12", r, "something still waits, long after the last fault");
        if (r->kind == HISTORY_COMPLAINT)
            bad(self, "S1", r, "a part complains about itself");
    }
}

bool checker_run(const history *h, char ret_text[CHECKER_TEXT_SIZE]) {
    checker self = {.h = h, .text = ret_text};
    ret_text[0] = '\0';
    self.list = calloc(h->count + 1, sizeof(self.list[0]));
    ASSERT(self.list != NULL);
    check_single(&self);
    check_requests(&self);
    check_keys(&self);
    check_counters(&self);
    check_channels(&self);
    check_readers(&self);
    check_texts(&self);
    check_read_to_the_end(&self);
    check_jobs(&self);
    check_one_at_a_time(&self);
    check_effects(&self);
    check_commits(&self);
    check_owners(&self);
    free(self.list);
    return !self.bad;
}
