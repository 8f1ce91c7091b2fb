/* JSON: what is taken comes back as the same MessagePack after a trip through text. */
#include "proto/wire/json.h"

#include "tests/fuzz/fuzz.h"

void fuzz_one(const uint8_t *data, size_t size) {
    stet_str text = stet_str_from(data, size);
    CLEANUP(stet_buf_done) stet_buf first = STET_BUF(4 << 20);
    CLEANUP(stet_buf_done) stet_buf second = STET_BUF(4 << 20);
    CLEANUP(stet_buf_done) stet_buf json = STET_BUF(16 << 20);
    stet_error e;
    stet_json_quote(&json, text);
    ASSERT(stet_buf_ok(&json) && stet_utf8_valid(stet_buf_str(&json)));
    ASSERT(stet_json_to_mp(stet_buf_str(&json), STET_MP_LIMITS_BODY, &first, &e) == STET_OK);
    for (size_t max = 0; max < 8; max++)
        ASSERT(stet_utf8_cut(text, max) <= max);
    stet_buf_clear(&first);
    stet_buf_clear(&json);
    if (stet_json_to_mp(text, STET_MP_LIMITS_BODY, &first, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID && first.size == 0);
        return;
    }
    ASSERT(stet_mp_check(stet_buf_str(&first), STET_MP_LIMITS_BODY, &e) == STET_OK);
    ASSERT(stet_mp_to_json(stet_buf_str(&first), (stet_json_style){.indent = (uint32_t)(size % 2)}, &json,
                           &e) == STET_OK);
    ASSERT(stet_json_to_mp(stet_buf_str(&json), STET_MP_LIMITS_BODY, &second, &e) == STET_OK);
    ASSERT(stet_str_equal(stet_buf_str(&first), stet_buf_str(&second)));
}

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const seeds[] = {
        "{}",
        "[]",
        "{\"a\":{\"b\":[1,-2,3.5,1e300,null,true,false]}}",
        "[18446744073709551615,-9223372036854775808,5e-324,-0.0]",
        ("\"gr\xc3\xbc\xc3\x9f"
         "e \\u00e9\\ud83c\\udf89\\n\\\\\\\"\""),
        " { \"k\" :\t[ { } , [ ] ] }\r\n",
        "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]",
        "{\"a\":1,\"b\":2,\"a\":3}",
    };
    if (index >= COUNT_OF(seeds))
        return false;
    stet_buf_append_str(b, stet_str_of(seeds[index]));
    return true;
}
