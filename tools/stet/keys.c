/* keys - who may connect over TCP: key pairs are made here and never leave the machine but as the file that
 * is given to whom it is for. */
#include "tools/stet/commands.h"
#include "tools/stet/table.h"

#include "proto/base/clock.h"
#include "proto/keys/keys.h"
#include "proto/wire/rfc3339.h"

#include <stdio.h>
#include <unistd.h>

static int find_directory(const stet_cli *cli, char ret_path[STET_PATH_MAX]) {
    stet_config *config = NULL;
    stet_error e;
    int rc = cli_load_config(cli, &config);
    if (rc != CLI_DONE)
        return rc;
    stet_code code =
        stet_keys_directory(stet_config_str(config, STET_SETTING_broker_keys), &cli->paths, ret_path, &e);
    config = stet_config_free(config);
    return code == STET_OK ? CLI_DONE : cli_fail_error(CLI_USAGE, &e);
}

/* The broker's own pair: made when it is asked for the first time. Only its public half is handed out. */
static stet_code server_key(const char *directory, bool make, char ret_public[STET_KEY_TEXT_SIZE],
                            bool *ret_made, stet_error *e) {
    char path[STET_PATH_MAX];
    stet_key_pair pair;
    *ret_made = false;
    stet_code rc = stet_keys_server_path(directory, path, e);
    if (rc == STET_OK)
        rc = stet_key_pair_read(path, &pair, e);
    if (rc == STET_NOT_FOUND && make) {
        rc = stet_make_directories(directory, e);
        if (rc == STET_OK)
            rc = stet_key_pair_new(&pair, e);
        if (rc == STET_OK)
            rc = stet_key_pair_write(path, &pair, e);
        *ret_made = rc == STET_OK;
    }
    if (rc == STET_OK) {
        memcpy(ret_public, pair.public_key, STET_KEY_TEXT_SIZE);
        stet_key_pair_done(&pair);
    }
    return rc;
}

static void pair_done(stet_key_pair *pair) {
    stet_key_pair_done(pair);
}

/* The secret is on disk before its public half is known: what is known can be used. */
static stet_code make_key(const char *directory, stet_known_key *key, const char *server, const char *out,
                          stet_error *e) {
    CLEANUP(pair_done) stet_key_pair pair;
    stet_code rc = stet_key_pair_new(&pair, e);
    if (rc != STET_OK)
        return rc;
    memcpy(pair.server_key, server, sizeof pair.server_key);
    memcpy(key->public_key, pair.public_key, sizeof key->public_key);
    if (strcmp(out, "-") != 0) {
        rc = stet_key_pair_write(out, &pair, e);
        if (rc == STET_OK && (rc = stet_keys_add(directory, key, e)) != STET_OK)
            (void)unlink(out);
        return rc;
    }
    rc = stet_keys_add(directory, key, e);
    if (rc != STET_OK)
        return rc;
    CLEANUP(stet_keys_wipe) stet_buf text = STET_BUF(CLI_BODY_MAX);
    stet_key_pair_print(&pair, &text);
    return cli_print(stet_buf_str(&text)) == CLI_DONE
               ? STET_OK
               : stet_error_set(e, STET_INTERNAL, "cannot print the key");
}

static int read_key(const args *a, stet_known_key *ret) {
    const char *name = args_get(a, "NAME"), *sessions = args_get(a, "--sessions"),
               *role = args_get(a, "--role");
    if (role == NULL)
        return cli_fail(CLI_USAGE, "--role is needed: viewer, producer, control or actor");
    *ret = (stet_known_key){.role = stet_role_from_name(stet_str_of(role))};
    if (ret->role == STET_ROLE_NONE)
        return cli_fail(CLI_USAGE, "'%.40s' is no role: viewer, producer, control or actor", role);
    if (strlen(name) >= sizeof ret->name || (sessions != NULL && strlen(sessions) >= sizeof ret->sessions))
        return cli_fail(CLI_USAGE, "the name or the list of sessions is too long");
    (void)snprintf(ret->name, sizeof ret->name, "%s", name);
    (void)snprintf(ret->sessions, sizeof ret->sessions, "%s", sessions ? sessions : "");
    stet_rfc3339_text(stet_clock_wall_ms(), ret->created);
    return CLI_DONE;
}

int run_keys_new(stet_cli *cli, const args *a) {
    char directory[STET_PATH_MAX], server[STET_KEY_TEXT_SIZE], beside[STET_KEY_NAME_SIZE_MAX + 8];
    stet_known_key key;
    stet_error e;
    bool first = false;
    int rc = read_key(a, &key);
    if (rc == CLI_DONE)
        rc = find_directory(cli, directory);
    if (rc != CLI_DONE)
        return rc;
    (void)snprintf(beside, sizeof beside, "%s.key", key.name);
    const char *out = args_has(a, "--out") ? args_get(a, "--out") : beside;
    if (server_key(directory, /* make= */ true, server, &first, &e) != STET_OK ||
        make_key(directory, &key, server, out, &e) != STET_OK)
        return cli_fail_error(CLI_ERROR, &e);
    if (strcmp(out, "-") == 0)
        return CLI_DONE;
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(CLI_BODY_MAX);
    if (cli->json) {
        stet_mp_map(&b, 5);
        stet_mp_put_cstr(&b, "name", key.name);
        stet_mp_put_cstr(&b, "role", stet_role_name(key.role));
        stet_mp_put_cstr(&b, "publicKey", key.public_key);
        stet_mp_put_cstr(&b, "serverKey", server);
        stet_mp_put_cstr(&b, "file", out);
        return cli_print_json(stet_buf_str(&b), /* pretty= */ false);
    }
    stet_buf_printf(&b, "%s: a key for %s. Give it to whom it is for, and to nobody else; no copy is kept.\n",
                    out, key.name);
    if (first)
        stet_buf_printf(&b, "The first key: a running broker asks for keys from its next start.\n");
    return cli_print(stet_buf_str(&b));
}

static void put_keys(const stet_keys *keys, const char *directory, const char *server, stet_buf *b) {
    stet_mp_map(b, 3);
    stet_mp_put_cstr(b, "directory", directory);
    stet_mp_put_cstr(b, "serverKey", server);
    stet_mp_cstr(b, "keys");
    stet_mp_array(b, stet_keys_count(keys));
    for (uint32_t i = 0; i < stet_keys_count(keys); i++) {
        const stet_known_key *key = stet_keys_at(keys, i);
        stet_mp_map(b, 5);
        stet_mp_put_cstr(b, "name", key->name);
        stet_mp_put_cstr(b, "role", stet_role_name(key->role));
        stet_mp_put_cstr(b, "sessions", key->sessions);
        stet_mp_put_cstr(b, "created", key->created);
        stet_mp_put_cstr(b, "publicKey", key->public_key);
    }
}

int run_keys_list(stet_cli *cli, const args *a) {
    (void)a;
    static const char *const titles[] = {"NAME", "ROLE", "SESSIONS", "CREATED", "PUBLIC KEY"};
    char directory[STET_PATH_MAX], server[STET_KEY_TEXT_SIZE] = "";
    stet_keys *keys = NULL;
    stet_error e;
    uint32_t bad = 0;
    bool made = false;
    int rc = find_directory(cli, directory);
    if (rc != CLI_DONE)
        return rc;
    stet_code code = server_key(directory, /* make= */ false, server, &made, &e);
    if ((code != STET_OK && code != STET_NOT_FOUND) || stet_keys_load(directory, &keys, &bad, &e) != STET_OK)
        return cli_fail_error(CLI_ERROR, &e);
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(CLI_TEXT_MAX);
    if (cli->json) {
        put_keys(keys, directory, server, &b);
        rc = cli_print_json(stet_buf_str(&b), /* pretty= */ false);
    } else {
        CLEANUP(table_done) table t = table_of(titles, COUNT_OF(titles));
        for (uint32_t i = 0; i < stet_keys_count(keys); i++) {
            const stet_known_key *key = stet_keys_at(keys, i);
            table_cell_c(&t, key->name);
            table_cell_c(&t, stet_role_name(key->role));
            table_cell_c(&t, key->sessions[0] != '\0' ? key->sessions : "all");
            table_cell_c(&t, key->created);
            table_cell_c(&t, key->public_key);
        }
        table_print(&t, &b);
        stet_buf_printf(&b, "\nthe broker's public key: %s\n",
                        server[0] != '\0' ? server : "none yet ('stet keys new' makes it)");
        rc = cli_print(stet_buf_str(&b));
    }
    (void)stet_keys_free(keys);
    return bad > 0 ? cli_fail(CLI_ERROR, "%u left out, e.g. %s", bad, e.message) : rc;
}

int run_keys_revoke(stet_cli *cli, const args *a) {
    char directory[STET_PATH_MAX];
    stet_error e;
    int rc = find_directory(cli, directory);
    if (rc != CLI_DONE)
        return rc;
    if (stet_keys_remove(directory, args_get(a, "NAME"), &e) != STET_OK)
        return cli_fail_error(CLI_ERROR, &e);
    return CLI_DONE;
}
