/* keys - CURVE key pairs in files, and the directory of public keys that says who may connect over TCP.
 *
 *   DIRECTORY/             mode 0700, normally DATA/keys
 *     server.key           the broker's key pair, mode 0600
 *     NAME.pub             one known key: name, role, sessions, when it was made, mode 0600
 *   anywhere/NAME.key      a client's key pair with the broker's public key, mode 0600
 *
 * Each is a text of lines `name = "value"`; an unknown or repeated name is an error. Files are written beside
 * their place, synced and renamed, never over an existing one; the directory is synced. Files and directories
 * that others may read are refused. Secrets are wiped by ..._done(). Thread: any; a loaded list is const.
 * Entropy: libsodium's. */
#ifndef STET_KEYS_H
#define STET_KEYS_H

#include "proto/base/buf.h"
#include "proto/base/code.h"
#include "proto/base/paths.h"
#include "proto/wire/schema.h"

enum {
    STET_KEY_BYTES = 32,
    STET_KEY_TEXT_SIZE = 41, /* Z85: 40 characters and a NUL, which is what libzmq takes */
    STET_KEY_NAME_SIZE_MAX = 64,
    STET_KEY_SESSIONS_BYTES_MAX = 4096,
    STET_KEY_CREATED_SIZE = 32,
    STET_KEYS_MAX = 4096
};

/* ---- one pair ---- */
typedef struct stet_key_pair {
    char public_key[STET_KEY_TEXT_SIZE];
    char secret_key[STET_KEY_TEXT_SIZE];
    char server_key[STET_KEY_TEXT_SIZE]; /* public key of the broker it is for; "" in the broker's own */
} stet_key_pair;

NODISCARD
stet_code stet_key_pair_new(stet_key_pair *ret, stet_error *e);
/* STET_NOT_FOUND when there is no such file, STET_FORBIDDEN when others may read it, STET_INVALID when it is
 * no key pair or its halves do not belong together. */
NODISCARD
stet_code stet_key_pair_read(const char *path, stet_key_pair *ret, stet_error *e);
/* STET_CONFLICT when the file exists. */
NODISCARD
stet_code stet_key_pair_write(const char *path, const stet_key_pair *pair, stet_error *e);
/* The same text, for who asks to see it; the caller wipes it with stet_keys_wipe(). */
void stet_key_pair_print(const stet_key_pair *pair, stet_buf *b);
void stet_key_pair_done(stet_key_pair *self);
/* Wipes and frees a buffer that held a secret. */
void stet_keys_wipe(stet_buf *b);
/* 40 characters that are the text of 32 bytes. */
bool stet_key_text_valid(stet_str text);

/* ---- who may connect ---- */
typedef struct stet_known_key {
    char name[STET_KEY_NAME_SIZE_MAX + 1];
    stet_role role;
    char public_key[STET_KEY_TEXT_SIZE];
    char created[STET_KEY_CREATED_SIZE];            /* RFC 3339 */
    char sessions[STET_KEY_SESSIONS_BYTES_MAX + 1]; /* comma separated, viewers only; "": all of them */
} stet_known_key;

/* The name of a session in the list; an empty list has all. */
bool stet_known_key_sees(const stet_known_key *key, stet_str session);

typedef struct stet_keys stet_keys; /* NULL is an empty list */

/* "DATA/keys", or what the setting broker.keys says (absolute). */
NODISCARD
stet_code stet_keys_directory(const char *setting, const stet_paths *paths, char ret_path[STET_PATH_MAX],
                              stet_error *e);
/* DIRECTORY/server.key */
NODISCARD
stet_code stet_keys_server_path(const char *directory, char ret_path[STET_PATH_MAX], stet_error *e);
/* Reads the directory. Files that are no keys, and the second of two with one public key, are left out;
 * ret_bad is how many, *e says what is wrong with one of them. A missing directory is an empty list.
 * STET_FORBIDDEN when others may enter it. */
NODISCARD
stet_code stet_keys_load(const char *directory, stet_keys **ret, uint32_t *ret_bad, stet_error *e);
stet_keys *stet_keys_free(stet_keys *self); /* always NULL */
uint32_t stet_keys_count(const stet_keys *self);
const stet_known_key *stet_keys_at(const stet_keys *self, uint32_t index); /* by name */
/* NULL when there is none. public_key: its text. Takes the same time for any text that is not in the list as
 * far as its bytes are concerned: public keys are no secrets. */
const stet_known_key *stet_keys_find(const stet_keys *self, stet_str public_key);
/* True when somebody of `before` may do less or nothing now. */
bool stet_keys_narrowed(const stet_keys *before, const stet_keys *now);

/* STET_INVALID names the field: name, role or sessions. STET_CONFLICT: the name is taken. Creates the
 * directory. */
NODISCARD
stet_code stet_keys_add(const char *directory, const stet_known_key *key, stet_error *e);
/* STET_NOT_FOUND when there is none of this name. */
NODISCARD
stet_code stet_keys_remove(const char *directory, const char *name, stet_error *e);

#endif
