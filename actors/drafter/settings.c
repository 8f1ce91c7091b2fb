#include <stdio.h>

#include "actors/drafter/drafter.h"

static stet_code read_template(const char *path, stet_buf *ret, stet_error *e) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return stet_error_field(e, STET_INVALID, "drafter.promptFile",
                                "the prompt template cannot be opened; check the path and its permissions");
    uint8_t piece[4096];
    size_t size;
    while (stet_buf_ok(ret) && (size = fread(piece, 1, sizeof(piece), file)) > 0)
        stet_buf_append(ret, piece, size);
    bool failed = ferror(file) != 0;
    (void)fclose(file);
    if (failed)
        return stet_error_field(e, STET_INVALID, "drafter.promptFile",
                                "the prompt template cannot be read; check the file");
    if (stet_buf_starved(ret))
        return stet_error_set(e, STET_BUSY, "no memory for the prompt template");
    if (!stet_buf_ok(ret))
        return stet_error_field(e, STET_INVALID, "drafter.promptFile",
                                "the prompt template is larger than %d bytes; shorten it",
                                DRAFTER_TEMPLATE_MAX);
    return STET_OK;
}

static stet_code load_prompt(const char *path, drafter_template *ret, stet_error *e) {
    if (path[0] == '\0')
        return drafter_template_parse(stet_str_from(drafter_prompt_builtin, drafter_prompt_builtin_size), ret,
                                      e);
    CLEANUP(stet_buf_done) stet_buf text = STET_BUF(DRAFTER_TEMPLATE_MAX);
    stet_code rc = read_template(path, &text, e);
    return rc == STET_OK ? drafter_template_parse(stet_buf_str(&text), ret, e) : rc;
}

stet_code drafter_load(const stet_config *config, void *state, stet_error *e) {
    drafter_state *self = state;
    stet_code rc =
        drafter_schema_parse(stet_config_str(config, STET_SETTING_openai_schema), &self->schema, e);
    if (rc == STET_OK)
        rc = drafter_prices_parse(stet_config_str(config, STET_SETTING_openai_price_in),
                                  stet_config_str(config, STET_SETTING_openai_price_cached),
                                  stet_config_str(config, STET_SETTING_openai_price_out), &self->prices, e);
    if (rc == STET_OK)
        rc = load_prompt(stet_config_str(config, STET_SETTING_drafter_prompt_file), &self->prompt, e);
    return rc;
}

bool drafter_key_missing(const stet_config *config) {
    return stet_config_str(config, STET_SETTING_openai_api_key)[0] == '\0' &&
           !stet_config_bool(config, STET_SETTING_openai_auth_optional);
}

uint32_t drafter_call_tries(const stet_config *config) {
    int64_t tries = stet_config_int(config, STET_SETTING_drafter_call_tries);
    return tries < 1 ? 1 : tries > DRAFTER_TRIES_MAX ? DRAFTER_TRIES_MAX : (uint32_t)tries;
}

void drafter_put_id(stet_buf *b, const char *key, stet_id id) {
    char text[STET_ID_TEXT_SIZE];
    stet_id_text(id, text);
    stet_mp_put_cstr(b, key, text);
}

stet_key drafter_project_key(uint8_t table, stet_str project) {
    stet_key key = stet_key_of(table);
    stet_key_str(&key, project);
    return key;
}

stet_code drafter_cursor_refused(stet_error *e) {
    return stet_error_field(e, STET_INVALID, "cursor",
                            "cursor is not one of ours; leave it out to begin at the start");
}

stet_code drafter_cursor_read(bool has_cursor, stet_str cursor, uint64_t *ret, stet_error *e) {
    if (!has_cursor)
        return STET_OK;
    uint64_t number = 0;
    bool good = cursor.size > 0 && cursor.size <= 19;
    for (size_t i = 0; good && i < cursor.size; i++) {
        good = cursor.data[i] >= '0' && cursor.data[i] <= '9';
        number = number * 10 + (uint64_t)(cursor.data[i] - '0');
    }
    if (!good)
        return drafter_cursor_refused(e);
    *ret = number;
    return STET_OK;
}

void drafter_page_close(stet_buf *reply, size_t mark, uint32_t pairs, uint64_t next) {
    if (next > 0) {
        char text[DRAFTER_NUMBER_SIZE];
        stet_mp_put_str(reply, "cursor", drafter_number_text(next, text));
    }
    stet_mp_close_map(reply, mark, next > 0 ? pairs + 1 : pairs);
}

stet_str drafter_number_text(uint64_t number, char text[DRAFTER_NUMBER_SIZE]) {
    int size = snprintf(text, DRAFTER_NUMBER_SIZE, "%llu", (unsigned long long)number);
    return stet_str_from(text, (size_t)size);
}

stet_code drafter_built(const stet_buf *b, const char *what, stet_error *e) {
    if (stet_buf_ok(b))
        return STET_OK;
    if (stet_buf_starved(b))
        return stet_error_set(e, STET_BUSY, "there is no memory for %s now; send it again", what);
    return stet_error_set(e, STET_INTERNAL, "%s does not fit; report it", what);
}
