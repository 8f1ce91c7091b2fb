/* config - the settings of settings.def, read once at start and then const.
 *
 * Sources: environment, one ZPL file (czmq's zconfig), built-in defaults. Thread: read by any after loading.
 * Memory: stet_config_free(); strings belong to the config. Secrets are wiped on free. */
#ifndef STET_CONFIG_H
#define STET_CONFIG_H

#include "proto/base/buf.h"
#include "proto/base/code.h"

typedef enum stet_setting {
#define X(name, key, type, fallback, env, secret, help) STET_SETTING_##name,
#include "proto/base/settings.def"
#undef X
    STET_SETTINGS_COUNT
} stet_setting;

typedef enum stet_setting_source {
    STET_FROM_DEFAULT,
    STET_FROM_FILE,
    STET_FROM_ENVIRONMENT
} stet_setting_source;

typedef struct stet_config stet_config;

/* path NULL: no file. STET_INVALID names the file, the key and what is wrong: unknown key, bad value, a file
 * holding a secret that others can read. Reads the environment through getenv. */
NODISCARD
stet_code stet_config_load(const char *path, stet_config **ret, stet_error *e);
stet_config *stet_config_free(stet_config *self); /* always NULL */
/* For tests and tools: one setting from text, validated like the file's. */
NODISCARD
stet_code stet_config_set(stet_config *self, stet_setting setting, const char *value, stet_error *e);

const char *stet_config_str(const stet_config *self, stet_setting setting); /* never NULL */
int64_t stet_config_int(const stet_config *self,
                        stet_setting setting); /* INT, MS (milliseconds), SIZE (bytes) */
bool stet_config_bool(const stet_config *self, stet_setting setting);
/* True when the INTS list contains the number. */
bool stet_config_list_has(const stet_config *self, stet_setting setting, int64_t number);

typedef struct stet_setting_info {
    const char *key, *fallback, *environment, *help, *type_name;
    bool secret;
} stet_setting_info;
const stet_setting_info *stet_setting_at(stet_setting setting);
stet_setting_source stet_config_source(const stet_config *self, stet_setting setting);
/* For people: the value's text; secrets as "****" (set) or "" (not set). */
void stet_config_show(const stet_config *self, stet_setting setting, stet_buf *b);

#endif
