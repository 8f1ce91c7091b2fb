/* Who may connect: key files, the list of known keys, and what the broker decides by them. What is taken is
 * valid, can be found, and is the same when written again; who is let in has a key of the list and a role that
 * may; who is limited to sessions reads of no other.
 *
 * Input: a byte, two files of known keys, a key pair, then the seven frames of a handshake, envelope and body. */
#include "broker/access.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/keys/files.h"
#include "proto/keys/z85.h"
#include "proto/wire/envelope.h"
#include "proto/wire/json.h"
#include "tests/fuzz/fuzz.h"

static const char *const file_names[] = {"a.pub", "b.pub"};

typedef struct files {
    char directory[32];
    int pair, opened[COUNT_OF(file_names)];
    char pair_path[64];
} files;

static files *files_once(void);

static void remove_files(void) {
    const files *f = files_once();
    for (size_t i = 0; i < COUNT_OF(file_names); i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "%s/%s", f->directory, file_names[i]);
        (void)unlink(path);
    }
    (void)rmdir(f->directory);
}

/* The known keys are links to files in memory. */
static files *files_once(void) {
    static files all;
    if (all.pair != 0)
        return &all;
    (void)snprintf(all.directory, sizeof all.directory, "/tmp/stet-fuzz-XXXXXX");
    ASSERT(mkdtemp(all.directory) != NULL);
    ASSERT((all.pair = memfd_create("pair", MFD_CLOEXEC)) > 0 && fchmod(all.pair, 0600) == 0);
    (void)snprintf(all.pair_path, sizeof all.pair_path, "/proc/self/fd/%d", all.pair);
    for (size_t i = 0; i < COUNT_OF(file_names); i++) {
        char path[64], target[64];
        ASSERT((all.opened[i] = memfd_create(file_names[i], MFD_CLOEXEC)) > 0);
        ASSERT(fchmod(all.opened[i], 0600) == 0);
        (void)snprintf(path, sizeof path, "%s/%s", all.directory, file_names[i]);
        (void)snprintf(target, sizeof target, "/proc/self/fd/%d", all.opened[i]);
        ASSERT(symlink(target, path) == 0);
    }
    ASSERT(atexit(remove_files) == 0);
    return &all;
}

static void put_file(int fd, stet_str text) {
    ASSERT(ftruncate(fd, 0) == 0);
    ASSERT(pwrite(fd, text.size > 0 ? text.data : "", text.size, 0) == (ssize_t)text.size);
}

static void check_known(const stet_keys *keys, const stet_known_key *key) {
    uint8_t bytes[STET_KEY_BYTES];
    char text[STET_KEY_TEXT_SIZE];
    ASSERT(strcmp(key->name, "a") == 0 || strcmp(key->name, "b") == 0);
    ASSERT(key->role != STET_ROLE_NONE && (key->sessions[0] == '\0' || key->role == STET_ROLE_VIEWER));
    ASSERT(stet_keys_find(keys, stet_str_of(key->public_key)) == key);
    ASSERT(stet_z85_decode(stet_str_of(key->public_key), bytes, sizeof bytes));
    stet_z85_encode(bytes, sizeof bytes, text);
    ASSERT(strcmp(text, key->public_key) == 0);
    for (const char *at = key->sessions; *at != '\0'; at++)
        ASSERT((unsigned char)*at >= 0x20 && *at != '"');
}

/* As stet_keys_add writes it, without its sync. */
static void write_again(const stet_known_key *key, int fd) {
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(KEY_FILE_BYTES_MAX);
    key_line_put(&text, "name", key->name);
    key_line_put(&text, "role", stet_role_name(key->role));
    key_line_put(&text, "public", key->public_key);
    key_line_put(&text, "sessions", key->sessions);
    key_line_put(&text, "created", key->created);
    ASSERT(stet_buf_ok(&text));
    put_file(fd, stet_buf_str(&text));
}

static stet_keys *load(const files *f) {
    stet_keys *keys = NULL;
    uint32_t bad = 0;
    stet_error e;
    ASSERT(stet_keys_load(f->directory, &keys, &bad, &e) == STET_OK);
    ASSERT(stet_keys_count(keys) + bad == COUNT_OF(file_names));
    for (uint32_t i = 0; i < stet_keys_count(keys); i++)
        check_known(keys, stet_keys_at(keys, i));
    return keys;
}

static void try_again(const stet_keys *keys, const files *f) {
    for (uint32_t i = 0; i < stet_keys_count(keys); i++) {
        const stet_known_key *key = stet_keys_at(keys, i);
        write_again(key, f->opened[key->name[0] == 'b']);
    }
    stet_keys *again = load(f);
    ASSERT(!stet_keys_narrowed(keys, again) && !stet_keys_narrowed(again, keys));
    again = stet_keys_free(again);
    ASSERT(again == NULL);
}

static void try_pair(const files *f, stet_str text) {
    stet_key_pair pair, again;
    stet_error e;
    put_file(f->pair, text);
    if (stet_key_pair_read(f->pair_path, &pair, &e) != STET_OK) {
        ASSERT(e.code == STET_INVALID && pair.secret_key[0] == '\0');
        return;
    }
    ASSERT(stet_key_text_valid(stet_str_of(pair.public_key)) &&
           stet_key_text_valid(stet_str_of(pair.secret_key)));
    CLEANUP(stet_buf_done) stet_buf b = STET_BUF(KEY_FILE_BYTES_MAX);
    stet_key_pair_print(&pair, &b);
    put_file(f->pair, stet_buf_str(&b));
    ASSERT(stet_key_pair_read(f->pair_path, &again, &e) == STET_OK);
    ASSERT(strcmp(pair.secret_key, again.secret_key) == 0 && strcmp(pair.server_key, again.server_key) == 0);
}

static void try_text(stet_str text) {
    uint8_t bytes[STET_KEY_BYTES];
    char again[STET_KEY_TEXT_SIZE];
    if (!stet_z85_decode(text, bytes, sizeof bytes))
        return;
    stet_z85_encode(bytes, sizeof bytes, again);
    ASSERT(stet_str_is(text, again));
}

static void try_handshake(const stet_keys *keys, fuzz_input *in, uint8_t choice) {
    stet_str frames[BROKER_ZAP_FRAMES + 2];
    uint32_t count = 7;
    if (choice >> 4 != 0)
        count = choice >> 4 & 7;
    for (uint32_t i = 0; i < count; i++)
        frames[i] = fuzz_piece(in);
    broker_zap_answer answer = broker_zap_decide(keys, frames, count);
    ASSERT(answer.text != NULL);
    if (strcmp(answer.status, "200") != 0) {
        ASSERT(answer.key == NULL);
        return;
    }
    ASSERT(count == BROKER_ZAP_FRAMES && stet_str_is(frames[0], "1.0") && stet_str_is(frames[5], "CURVE"));
    ASSERT(stet_str_is(frames[2], broker_door_name(answer.door)) &&
           broker_access_door(answer.key, answer.door));
    uint8_t bytes[STET_KEY_BYTES];
    ASSERT(stet_z85_decode(stet_str_of(answer.key->public_key), bytes, sizeof bytes));
    ASSERT(stet_str_equal(stet_str_from(bytes, sizeof bytes), frames[6]));
    ASSERT(answer.key->role == STET_ROLE_ACTOR || answer.door == BROKER_DOOR_FRONT ||
           (answer.door == BROKER_DOOR_EVENTS && answer.key->sessions[0] == '\0'));
}

/* What may pass names one session of the list, once. */
static void try_request(stet_str frame, stet_str body) {
    static const stet_known_key key = {.name = "a", .role = STET_ROLE_VIEWER, .sessions = "s1,s2,,s 3"};
    stet_envelope envelope;
    stet_error e;
    if (broker_access_request(&key, frame, body, &e) != STET_OK) {
        ASSERT(e.code == STET_FORBIDDEN);
        return;
    }
    if (stet_envelope_decode(frame, &envelope, NULL) != STET_OK)
        return;
    ASSERT(stet_str_is(envelope.command, "broker.last") ||
           (envelope.command.size > 7 &&
            memcmp(envelope.command.data + envelope.command.size - 7, ".events", 7) == 0));
    ASSERT(stet_mp_check(body, STET_MP_LIMITS_BODY, NULL) == STET_OK);
    stet_str session = stet_mp_get_str(body, "sessionId", STET_STR(""));
    ASSERT(stet_str_is(session, "s1") || stet_str_is(session, "s2") || stet_str_is(session, "s 3"));
}

void fuzz_one(const uint8_t *data, size_t size) {
    files *f = files_once();
    CLEANUP(fuzz_input_done) fuzz_input in = fuzz_input_of(data, size);
    uint8_t choice = fuzz_byte(&in);
    for (size_t i = 0; i < COUNT_OF(file_names); i++)
        put_file(f->opened[i], fuzz_piece(&in));
    stet_keys *keys = load(f);
    try_again(keys, f);
    stet_str pair = fuzz_piece(&in);
    try_pair(f, pair);
    try_text(pair);
    try_handshake(keys, &in, choice);
    stet_str envelope = fuzz_piece(&in);
    try_request(envelope, fuzz_piece(&in));
    keys = stet_keys_free(keys);
    ASSERT(keys == NULL);
}

/* ---- seeds: one key of the broker's list that also shakes hands ---- */

#define PUBLIC "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7" /* of rfc.zeromq.org/spec/32 and 26 */
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"

bool fuzz_seed(size_t index, stet_buf *b) {
    static const char *const roles[] = {"viewer", "actor", "control"};
    static const char *const doors[] = {"front", "back", "events"};
    if (index >= COUNT_OF(roles))
        return false;
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(4096);
    uint8_t bytes[STET_KEY_BYTES];
    ASSERT(stet_z85_decode(STET_STR(PUBLIC), bytes, sizeof bytes));
    stet_buf_append_byte(b, 0);
    stet_buf_printf(&text, "# known\nname = \"a\"\nrole = \"%s\"\npublic = \"%s\"\n%screated = \"\"\n",
                    roles[index], PUBLIC, index == 0 ? "sessions = \"s1,s2\"\n" : "");
    fuzz_put_piece(b, stet_buf_str(&text));
    stet_buf_clear(&text);
    stet_buf_printf(&text, "name = \"b\"\nrole = \"producer\"\npublic = \"%s\"\n", SECRET);
    fuzz_put_piece(b, stet_buf_str(&text));
    fuzz_put_piece(b,
                   STET_STR("public = \"" PUBLIC "\"\nsecret = \"" SECRET "\"\nserver = \"" PUBLIC "\"\n"));
    const stet_str frames[] = {
        STET_STR("1.0"), STET_STR("1"),     stet_str_of(doors[index]),         STET_STR("::1"),
        STET_STR(""),    STET_STR("CURVE"), stet_str_from(bytes, sizeof bytes)};
    for (size_t i = 0; i < COUNT_OF(frames); i++)
        fuzz_put_piece(b, frames[i]);
    stet_buf_clear(&text);
    stet_envelope_encode(
        &(stet_envelope){.kind = STET_KIND_REQUEST,
                         .id = {{1}},
                         .command = index == 0 ? STET_STR("drafter.events") : STET_STR("broker.last")},
        &text);
    fuzz_put_piece(b, stet_buf_str(&text));
    fuzz_put_piece(b, STET_STR("\x81\xa9sessionId\xa2s1"));
    return true;
}
