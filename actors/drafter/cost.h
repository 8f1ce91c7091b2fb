/* cost - what an answer cost, in whole micro-USD.
 *
 * A price is a decimal text, USD per million tokens with up to six decimals ("0.40"): the same number is
 * micro-USD per token, so prices are kept as micro-USD per million tokens and no float is involved. An
 * unknown price or unknown usage gives an unknown cost, never 0. Thread: any; plain values. */
#ifndef DRAFTER_COST_H
#define DRAFTER_COST_H

#include "proto/base/code.h"

typedef struct drafter_prices {
    bool known; /* prompt and completion prices are set */
    uint64_t in, cached, out;
} drafter_prices;

typedef struct drafter_usage {
    bool known;
    uint64_t prompt, cached, completion, reasoning; /* cached is part of prompt, reasoning of completion */
} drafter_usage;

/* field names the setting in the error. "" is not a price: STET_INVALID. */
NODISCARD
stet_code drafter_price_parse(const char *text, const char *field, uint64_t *ret_micro, stet_error *e);
/* Empty texts mean unknown; an empty cached price is the price of prompt tokens. */
NODISCARD
stet_code drafter_prices_parse(const char *in, const char *cached, const char *out, drafter_prices *ret,
                               stet_error *e);
/* False when the cost is unknown. Rounded half up. */
NODISCARD
bool drafter_cost(const drafter_prices *prices, const drafter_usage *usage, uint64_t *ret_micro_usd);

#endif
