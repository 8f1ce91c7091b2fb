/* Small texts: ids, times, prices, the prompt's template. What is taken is written and read the same; a template
 * is filled in once, and never by what is filled in.
 *
 * Input: the text. */
#include <stdlib.h>
#include <strings.h>

#include "actors/drafter/cost.h"
#include "actors/drafter/prompt.h"
#include "proto/wire/id.h"
#include "proto/wire/json.h"
#include "proto/wire/rfc3339.h"
#include "tests/fuzz/fuzz.h"

static void try_id(stet_str text) {
    stet_id id, again;
    char written[STET_ID_TEXT_SIZE];
    if (!stet_id_parse(text, &id))
        return;
    stet_id_text(id, written);
    ASSERT(text.size == 36 && strncasecmp(written, text.data, 36) == 0);
    ASSERT(stet_id_parse(stet_str_of(written), &again) && stet_id_equal(id, again));
}

static void try_time(stet_str text) {
    int64_t wall_ms, again;
    char written[STET_RFC3339_SIZE];
    if (stet_rfc3339_parse(text, &wall_ms)) {
        ASSERT(text.size >= 20 && (text.data[10] == 'T' || text.data[10] == 't' || text.data[10] == ' '));
        stet_rfc3339_text(wall_ms, written);
        /* An offset may lead out of the years that can be written. */
        ASSERT(stet_rfc3339_parse(stet_str_of(written), &again));
        ASSERT(again == wall_ms || memcmp(written, "0000-01-01", 10) == 0 ||
               memcmp(written, "9999-12-31", 10) == 0);
    }
    memcpy(&wall_ms, text.size >= sizeof wall_ms ? text.data : "\0\0\0\0\0\0\0\0", sizeof wall_ms);
    stet_rfc3339_text(wall_ms, written); /* any number can be shown */
    ASSERT(strlen(written) == STET_RFC3339_SIZE - 1 && stet_rfc3339_parse(stet_str_of(written), &again));
}

static void try_price(const char *text) {
    drafter_prices prices;
    stet_error e;
    uint64_t cost = 0, more = 0;
    if (drafter_prices_parse(text, "", text, &prices, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID);
        return;
    }
    if (!prices.known)
        return;
    ASSERT(prices.in < UINT64_C(10000) * 1000000 && prices.in == prices.out && prices.in == prices.cached);
    double exact = strtod(text, NULL) * 1e6;
    ASSERT(exact - 1 < (double)prices.in && (double)prices.in < exact + 1);
    drafter_usage usage = {.known = true, .prompt = 500000000, .cached = 7, .completion = 500000000};
    ASSERT(drafter_cost(&prices, &usage, &cost));
    usage.completion--;
    ASSERT(drafter_cost(&prices, &usage, &more) && more <= cost);
}

static size_t count_of(stet_str text, stet_str what) {
    size_t count = 0;
    for (size_t at = 0; at + what.size <= text.size; at++)
        count += memcmp(text.data + at, what.data, what.size) == 0;
    return count;
}

static void try_template(stet_str text) {
    drafter_template made;
    stet_error e;
    if (drafter_template_parse(text, &made, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID && strcmp(e.field, "drafter.promptFile") == 0);
        return;
    }
    stet_str evil = STET_STR("<{{instruction}}>");
    drafter_prompt_values values = {evil, evil, evil, evil, evil, evil, evil, evil};
    CLEANUP(stet_buf_done) stet_buf system = STET_BUF(FUZZ_INPUT_MAX), user = STET_BUF(FUZZ_INPUT_MAX);
    drafter_prompt_render(&made, &values, &system, &user);
    ASSERT(stet_buf_ok(&system) && stet_buf_ok(&user));
    /* What was filled in stands there as it was, at least for the two that have to be there. */
    ASSERT(count_of(stet_buf_str(&user), evil) >= 2);
    ASSERT(user.size <= text.size + evil.size * (text.size / 5 + 1));
    drafter_template_done(&made);
}

void fuzz_one(const uint8_t *data, size_t size) {
    stet_str text = stet_str_from(data, size);
    try_id(text);
    try_time(text);
    if (size <= DRAFTER_TEMPLATE_MAX)
        try_template(text);
    CLEANUP(stet_buf_done) stet_buf ended = STET_BUF(FUZZ_INPUT_MAX + 1);
    stet_buf_append_str(&ended, text);
    stet_buf_append_byte(&ended, 0);
    try_price((const char *)ended.data);
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const seeds[] = {
        "019f9c2e-8d7a-7c3e-9b1f-2a6d4e8f0a1b",
        "2026-11-25T22:38:36.123Z",
        "2024-02-29t23:59:60+00:00",
        "0000-01-01 00:00:00.999999999-23:59",
        "9999-12-31T23:59:59-23:59",
        "0.40",
        "9999.999999",
        ".5",
        "Be brief.\n=== user ===\n{{document}} of {{projectId}}: {{instruction}}{{excerpts}}",
        "{{messages}}\n=== user ===\n{{{{document}}{{instruction}}}}",
    };
    if (index > COUNT_OF(seeds))
        return false;
    if (index == COUNT_OF(seeds))
        stet_buf_append(b, drafter_prompt_builtin, drafter_prompt_builtin_size);
    else
        stet_buf_append_str(b, stet_str_of(seeds[index]));
    return true;
}
