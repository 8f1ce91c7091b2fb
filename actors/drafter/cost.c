#include "actors/drafter/cost.h"

/* Bounds that keep three products and their sum below 2^64. */
enum { PRICE_DIGITS_MAX = 4, PRICE_DECIMALS_MAX = 6, MICRO = 1000000 };
static const uint64_t TOKENS_MAX = 500u * 1000 * 1000;

stet_code drafter_price_parse(const char *text, const char *field, uint64_t *ret_micro, stet_error *e) {
    uint64_t whole = 0;
    uint64_t micro = 0;
    size_t digits = 0;
    size_t decimals = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && digits <= PRICE_DIGITS_MAX; at++, digits++)
        whole = whole * 10 + (uint64_t)(*at - '0');
    if (*at == '.') {
        at++;
        for (; *at >= '0' && *at <= '9' && decimals <= PRICE_DECIMALS_MAX; at++, decimals++)
            micro = micro * 10 + (uint64_t)(*at - '0');
        if (decimals == 0)
            digits = 0;
    }
    if (*at != '\0' || digits == 0 || digits > PRICE_DIGITS_MAX || decimals > PRICE_DECIMALS_MAX)
        return stet_error_field(e, STET_INVALID, field,
                                "%s must be USD per million tokens below 10000 with at most six decimals, "
                                "e.g. 0.40; correct it and start again",
                                field);
    for (; decimals < PRICE_DECIMALS_MAX; decimals++)
        micro *= 10;
    *ret_micro = whole * MICRO + micro;
    return STET_OK;
}

stet_code drafter_prices_parse(const char *in, const char *cached, const char *out, drafter_prices *ret,
                               stet_error *e) {
    drafter_prices prices = {.known = in[0] != '\0' && out[0] != '\0'};
    stet_code rc = STET_OK;
    if (in[0] != '\0')
        rc = drafter_price_parse(in, "openai.priceIn", &prices.in, e);
    if (rc == STET_OK && out[0] != '\0')
        rc = drafter_price_parse(out, "openai.priceOut", &prices.out, e);
    prices.cached = prices.in;
    if (rc == STET_OK && cached[0] != '\0')
        rc = drafter_price_parse(cached, "openai.priceCached", &prices.cached, e);
    if (rc == STET_OK)
        *ret = prices;
    return rc;
}

bool drafter_cost(const drafter_prices *prices, const drafter_usage *usage, uint64_t *ret_micro_usd) {
    if (!prices->known || !usage->known)
        return false;
    if (usage->prompt > TOKENS_MAX || usage->completion > TOKENS_MAX || usage->cached > usage->prompt)
        return false;
    uint64_t sum = (usage->prompt - usage->cached) * prices->in + usage->cached * prices->cached +
                   usage->completion * prices->out;
    *ret_micro_usd = (sum + MICRO / 2) / MICRO;
    return true;
}
