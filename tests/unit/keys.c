/* Key files and the directory of known keys. */
#include "proto/keys/keys.h"
#include "proto/keys/z85.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct place {
    char directory[64], keys[128];
} place;

static int setup(void **state) {
    place *p = calloc(1, sizeof *p);
    (void)snprintf(p->directory, sizeof p->directory, "/tmp/stet-keys-XXXXXX");
    if (mkdtemp(p->directory) == NULL) {
        free(p);
        return -1;
    }
    (void)snprintf(p->keys, sizeof p->keys, "%s/keys", p->directory);
    *state = p;
    return 0;
}

static const char *path_of(const place *p, const char *name, char ret_path[STET_PATH_MAX]) {
    (void)snprintf(ret_path, STET_PATH_MAX, "%s/%s", p->keys, name);
    return ret_path;
}

static int teardown(void **state) {
    static const char *const names[] = {"a.pub", "b.pub", "c.pub", "server.key", "x.key", "fifo.pub"};
    place *p = *state;
    char path[STET_PATH_MAX];
    (void)chmod(p->keys, 0700);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        (void)unlink(path_of(p, names[i], path));
    (void)rmdir(p->keys);
    int rc = rmdir(p->directory); /* fails when anything was left behind */
    free(p);
    return rc;
}

static stet_known_key known(const char *name, stet_role role, const char *sessions) {
    stet_key_pair pair;
    stet_error e;
    assert_int_equal(stet_key_pair_new(&pair, &e), STET_OK);
    stet_known_key key = {.role = role, .created = "2026-11-25T00:00:00.000Z"};
    (void)snprintf(key.name, sizeof key.name, "%s", name);
    (void)snprintf(key.sessions, sizeof key.sessions, "%s", sessions);
    memcpy(key.public_key, pair.public_key, sizeof key.public_key);
    stet_key_pair_done(&pair);
    return key;
}

static void add(const place *p, const stet_known_key *key) {
    stet_error e;
    if (stet_keys_add(p->keys, key, &e) != STET_OK)
        fail_msg("%s", e.message);
}

static stet_keys *load(const place *p, uint32_t bad_expected) {
    stet_keys *keys = NULL;
    stet_error e = {0};
    uint32_t bad = 0;
    if (stet_keys_load(p->keys, &keys, &bad, &e) != STET_OK)
        fail_msg("%s", e.message);
    if (bad != bad_expected)
        fail_msg("%u bad files instead of %u: %s", bad, bad_expected, e.message);
    return keys;
}

static void write_file(const place *p, const char *name, const char *text, mode_t mode) {
    char path[STET_PATH_MAX];
    int fd = open(path_of(p, name, path), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    (void)close(fd);
}

static void z85_goes_there_and_back_as_the_specification_shows(void **state) {
    (void)state;
    static const uint8_t bytes[8] = {0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b};
    char text[11];
    uint8_t back[8];
    stet_z85_encode(bytes, sizeof bytes, text);
    assert_string_equal(text, "HelloWorld");
    assert_true(stet_z85_decode(STET_STR("HelloWorld"), back, sizeof back));
    assert_memory_equal(back, bytes, sizeof bytes);
    assert_false(stet_z85_decode(STET_STR("HelloWorl"), back, sizeof back));
    assert_false(stet_z85_decode(STET_STR("Hello\"orld"), back, sizeof back));
    assert_false(stet_z85_decode(STET_STR("#####00000"), back, sizeof back)); /* over 2^32 */
    assert_false(stet_z85_decode(stet_str_from("Hello\0orld", 10), back, sizeof back));
}

static void a_pair_is_kept_private_and_read_back(void **state) {
    const place *p = *state;
    char path[STET_PATH_MAX];
    stet_key_pair pair, server, back;
    stet_error e;
    struct stat info;
    assert_int_equal(mkdir(p->keys, 0700), 0);
    assert_int_equal(stet_key_pair_new(&server, &e), STET_OK);
    assert_int_equal(stet_key_pair_new(&pair, &e), STET_OK);
    assert_string_not_equal(pair.secret_key, server.secret_key);
    memcpy(pair.server_key, server.public_key, sizeof pair.server_key);
    assert_int_equal(stet_key_pair_write(path_of(p, "x.key", path), &pair, &e), STET_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(stet_key_pair_read(path, &back, &e), STET_OK);
    assert_memory_equal(&back, &pair, sizeof pair);
    assert_int_equal(stet_key_pair_write(path, &server, &e), STET_CONFLICT); /* never over another one */
    assert_int_equal(stet_key_pair_read(path, &back, &e), STET_OK);
    assert_string_equal(back.secret_key, pair.secret_key);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(stet_key_pair_read(path, &back, &e), STET_FORBIDDEN);
    assert_non_null(strstr(e.message, "chmod 600"));
    assert_null(strstr(e.message, pair.secret_key));
    assert_int_equal(stet_key_pair_read(path_of(p, "none.key", path), &back, &e), STET_NOT_FOUND);
}

static void what_is_no_pair_is_refused_without_repeating_it(void **state) {
    const place *p = *state;
    stet_key_pair one, other, back;
    stet_error e;
    char path[STET_PATH_MAX], mixed[512];
    assert_int_equal(mkdir(p->keys, 0700), 0);
    assert_int_equal(stet_key_pair_new(&one, &e), STET_OK);
    assert_int_equal(stet_key_pair_new(&other, &e), STET_OK);
    (void)snprintf(mixed, sizeof mixed, "public = \"%s\"\nsecret = \"%s\"\n", one.public_key,
                   other.secret_key);
    const char *const bad[] = {"",
                               "secret",
                               "public = \"x\"\n",
                               "public = x\nsecret = y\n",
                               mixed,
                               "public = \"CANARY\"\nsecret = \"CANARY\"\nCANARY = \"CANARY\"\n",
                               "public = \"a\"\npublic = \"a\"\nsecret = \"b\"\n"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        write_file(p, "x.key", bad[i], 0600);
        assert_int_equal(stet_key_pair_read(path_of(p, "x.key", path), &back, &e), STET_INVALID);
        assert_null(strstr(e.message, "CANARY"));
        assert_null(strstr(e.message, other.secret_key));
        assert_string_equal(back.secret_key, "");
    }
}

static void keys_are_found_by_their_public_half(void **state) {
    const place *p = *state;
    stet_known_key a = known("a", STET_ROLE_CONTROL, ""), b = known("b", STET_ROLE_VIEWER, "s1,s2");
    add(p, &b);
    add(p, &a);
    stet_keys *keys = load(p, 0);
    assert_int_equal(stet_keys_count(keys), 2);
    assert_string_equal(stet_keys_at(keys, 0)->name, "a");
    const stet_known_key *found = stet_keys_find(keys, stet_str_of(b.public_key));
    assert_non_null(found);
    assert_string_equal(found->name, "b");
    assert_int_equal(found->role, STET_ROLE_VIEWER);
    assert_string_equal(found->created, b.created);
    assert_null(stet_keys_find(keys, STET_STR("")));
    assert_null(stet_keys_find(keys, stet_str_from(b.public_key, 39)));
    assert_null(stet_keys_find(NULL, stet_str_of(b.public_key)));
    (void)stet_keys_free(keys);
}

static void a_session_list_is_matched_whole(void **state) {
    (void)state;
    stet_known_key key = {.sessions = "s1,,session 2"};
    assert_true(stet_known_key_sees(&key, STET_STR("s1")));
    assert_true(stet_known_key_sees(&key, STET_STR("session 2")));
    const stet_str foreign[] = {STET_STR("s"),   STET_STR("s10"),  STET_STR(""),
                                STET_STR("s1,"), STET_STR("s1\0"), STET_STR("s1,,session 2")};
    for (size_t i = 0; i < COUNT_OF(foreign); i++)
        assert_false(stet_known_key_sees(&key, foreign[i]));
    key.sessions[0] = '\0';
    assert_true(stet_known_key_sees(&key, STET_STR("any")));
}

static void names_roles_and_sessions_are_checked(void **state) {
    const place *p = *state;
    static const struct {
        const char *name, *sessions, *field;
        stet_role role;
    } bad[] = {{"", "", "name", STET_ROLE_VIEWER},        {"../x", "", "name", STET_ROLE_VIEWER},
               {".x", "", "name", STET_ROLE_VIEWER},      {"a b", "", "name", STET_ROLE_VIEWER},
               {"server", "", "name", STET_ROLE_VIEWER},  {"a", "", "role", STET_ROLE_NONE},
               {"a", "s", "sessions", STET_ROLE_ACTOR},   {"a", "s\"", "sessions", STET_ROLE_VIEWER},
               {"a", "s\n", "sessions", STET_ROLE_VIEWER}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        stet_known_key key = known(bad[i].name, bad[i].role, bad[i].sessions);
        stet_error e = {0};
        assert_int_equal(stet_keys_add(p->keys, &key, &e), STET_INVALID);
        assert_string_equal(e.field, bad[i].field);
    }
    stet_known_key key = known("a", STET_ROLE_VIEWER, "");
    stet_error e;
    add(p, &key);
    assert_int_equal(stet_keys_add(p->keys, &key, &e), STET_CONFLICT);
    assert_int_equal(stet_keys_remove(p->keys, "../keys/a", &e), STET_INVALID);
    assert_int_equal(stet_keys_remove(p->keys, "b", &e), STET_NOT_FOUND);
    assert_int_equal(stet_keys_remove(p->keys, "a", &e), STET_OK);
    assert_int_equal(stet_keys_remove(p->keys, "a", &e), STET_NOT_FOUND);
}

static void bad_files_let_nobody_in_and_good_ones_stay(void **state) {
    const place *p = *state;
    stet_known_key a = known("a", STET_ROLE_CONTROL, "");
    char text[512], path[STET_PATH_MAX];
    add(p, &a);
    write_file(p, "b.pub", "name = \"b\"\nrole = \"king\"\npublic = \"x\"\n", 0600);
    (void)snprintf(text, sizeof text, "name = \"c\"\nrole = \"control\"\npublic = \"%s\"\n", a.public_key);
    write_file(p, "c.pub", text, 0600); /* a's key once more: revoking a would change nothing */
    stet_keys *keys = load(p, 2);
    assert_int_equal(stet_keys_count(keys), 1);
    (void)stet_keys_free(keys);
    assert_int_equal(chmod(path_of(p, "a.pub", path), 0644), 0);
    assert_int_equal(unlink(path_of(p, "c.pub", path)), 0);
    assert_int_equal(mkfifo(path_of(p, "fifo.pub", path), 0600), 0); /* must not be waited for */
    keys = load(p, 3);
    assert_int_equal(stet_keys_count(keys), 0);
    (void)stet_keys_free(keys);
}

static void a_directory_that_others_may_enter_is_refused(void **state) {
    const place *p = *state;
    stet_keys *keys = load(p, 0); /* none yet */
    assert_int_equal(stet_keys_count(keys), 0);
    (void)stet_keys_free(keys);
    stet_known_key a = known("a", STET_ROLE_CONTROL, "");
    stet_error e;
    uint32_t bad = 0;
    add(p, &a);
    assert_int_equal(chmod(p->keys, 0750), 0);
    assert_int_equal(stet_keys_load(p->keys, &keys, &bad, &e), STET_FORBIDDEN);
    stet_known_key b = known("b", STET_ROLE_CONTROL, "");
    assert_int_equal(stet_keys_add(p->keys, &b, &e), STET_FORBIDDEN);
}

static void only_taking_away_is_narrowing(void **state) {
    const place *p = *state;
    stet_known_key a = known("a", STET_ROLE_VIEWER, "s1"), b = known("b", STET_ROLE_CONTROL, "");
    stet_error e;
    add(p, &a);
    stet_keys *one = load(p, 0);
    add(p, &b);
    stet_keys *two = load(p, 0);
    assert_false(stet_keys_narrowed(one, two));
    assert_true(stet_keys_narrowed(two, one));
    assert_true(stet_keys_narrowed(two, NULL));
    assert_false(stet_keys_narrowed(NULL, two));
    assert_int_equal(stet_keys_remove(p->keys, "a", &e), STET_OK);
    (void)snprintf(a.sessions, sizeof a.sessions, "s2");
    add(p, &a);
    stet_keys *three = load(p, 0);
    assert_true(stet_keys_narrowed(two, three));
    (void)stet_keys_free(one);
    (void)stet_keys_free(two);
    (void)stet_keys_free(three);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(z85_goes_there_and_back_as_the_specification_shows),
        TEST(a_pair_is_kept_private_and_read_back),
        TEST(what_is_no_pair_is_refused_without_repeating_it),
        TEST(keys_are_found_by_their_public_half),
        TEST(a_session_list_is_matched_whole),
        TEST(names_roles_and_sessions_are_checked),
        TEST(bad_files_let_nobody_in_and_good_ones_stay),
        TEST(a_directory_that_others_may_enter_is_refused),
        TEST(only_taking_away_is_narrowing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
