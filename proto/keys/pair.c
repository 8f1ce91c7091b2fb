/* Key pairs: X25519 keys as CURVE uses them. */
#include "proto/keys/files.h"
#include "proto/keys/z85.h"

#include <sodium.h>

_Static_assert(STET_KEY_BYTES == crypto_box_PUBLICKEYBYTES && STET_KEY_BYTES == crypto_box_SECRETKEYBYTES,
               "CURVE's keys are libsodium's");

bool stet_key_text_valid(stet_str text) {
    uint8_t bytes[STET_KEY_BYTES];
    return stet_z85_decode(text, bytes, sizeof bytes);
}

stet_code stet_key_pair_new(stet_key_pair *ret, stet_error *e) {
    uint8_t public_key[STET_KEY_BYTES], secret_key[STET_KEY_BYTES];
    *ret = (stet_key_pair){.public_key = ""};
    if (sodium_init() < 0 || crypto_box_keypair(public_key, secret_key) != 0)
        return stet_error_set(e, STET_INTERNAL, "cannot make keys: no entropy");
    stet_z85_encode(public_key, sizeof public_key, ret->public_key);
    stet_z85_encode(secret_key, sizeof secret_key, ret->secret_key);
    sodium_memzero(secret_key, sizeof secret_key);
    return STET_OK;
}

void stet_key_pair_done(stet_key_pair *self) {
    sodium_memzero(self, sizeof *self);
}

static bool halves_match(const stet_key_pair *pair) {
    uint8_t public_key[STET_KEY_BYTES], secret_key[STET_KEY_BYTES], made[STET_KEY_BYTES];
    bool good = stet_z85_decode(stet_str_of(pair->public_key), public_key, sizeof public_key) &&
                stet_z85_decode(stet_str_of(pair->secret_key), secret_key, sizeof secret_key) &&
                crypto_scalarmult_base(made, secret_key) == 0 &&
                sodium_memcmp(made, public_key, sizeof made) == 0;
    sodium_memzero(secret_key, sizeof secret_key);
    return good;
}

stet_code stet_key_pair_read(const char *path, stet_key_pair *ret, stet_error *e) {
    *ret = (stet_key_pair){.public_key = ""};
    key_line lines[] = {{"public", ret->public_key, sizeof ret->public_key, true, false},
                        {"secret", ret->secret_key, sizeof ret->secret_key, true, false},
                        {"server", ret->server_key, sizeof ret->server_key, false, false}};
    stet_code rc = key_file_read(path, lines, COUNT_OF(lines), e);
    if (rc == STET_OK && sodium_init() < 0)
        rc = stet_error_set(e, STET_INTERNAL, "libsodium does not start");
    if (rc == STET_OK && !halves_match(ret))
        rc = stet_error_set(e, STET_INVALID, "%s: public and secret do not belong together", path);
    if (rc == STET_OK && ret->server_key[0] != '\0' && !stet_key_text_valid(stet_str_of(ret->server_key)))
        rc = stet_error_set(e, STET_INVALID, "%s: server is not a public key", path);
    if (rc != STET_OK)
        stet_key_pair_done(ret);
    return rc;
}

void stet_key_pair_print(const stet_key_pair *pair, stet_buf *b) {
    size_t start = b->size;
    (void)stet_buf_extend(b, KEY_FILE_BYTES_MAX / 2); /* at once: growing would leave copies behind */
    stet_buf_truncate(b, start);
    stet_buf_append_str(b,
                        STET_STR("# A key pair of Stet. Whoever has this file is let in: keep it secret.\n"));
    key_line_put(b, "public", pair->public_key);
    key_line_put(b, "secret", pair->secret_key);
    if (pair->server_key[0] != '\0')
        key_line_put(b, "server", pair->server_key);
}

stet_code stet_key_pair_write(const char *path, const stet_key_pair *pair, stet_error *e) {
    CLEANUP(stet_keys_wipe) stet_buf text = STET_BUF(KEY_FILE_BYTES_MAX);
    stet_key_pair_print(pair, &text);
    if (!stet_buf_ok(&text))
        return stet_error_set(e, STET_UNAVAILABLE, "out of memory");
    return key_file_write(path, stet_buf_str(&text), e);
}
