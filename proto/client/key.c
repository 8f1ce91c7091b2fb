/* The key that a client shows on TCP endpoints. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/client/client_internal.h"

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Whether the list has an endpoint that starts with this. */
static bool has(const char *endpoints, const char *prefix) {
    while (*endpoints != '\0') {
        endpoints += strspn(endpoints, " ,");
        if (starts_with(endpoints, prefix))
            return true;
        endpoints += strcspn(endpoints, ",");
    }
    return false;
}

static bool leaves_this_machine(const char *endpoints) {
    while (*endpoints != '\0') {
        endpoints += strspn(endpoints, " ,");
        if (starts_with(endpoints, "tcp://") && !starts_with(endpoints, "tcp://127.") &&
            !starts_with(endpoints, "tcp://[::ffff:127.") && !starts_with(endpoints, "tcp://[::1]:"))
            return true;
        endpoints += strcspn(endpoints, ",");
    }
    return false;
}

static const char *given(const char *option, const char *variable) {
    if (option == NULL)
        option = getenv(variable);
    return option != NULL && option[0] != '\0' ? option : NULL;
}

int client_key_load(stet_client *client, const stet_client_options *options, const char *front,
                    const char *events) {
    if (!has(front, "tcp://") && !has(events, "tcp://"))
        return 0;
    const char *file = given(options->key_file, "STET_KEY_FILE");
    const char *server = given(options->server_key, "STET_SERVER_KEY");
    if (file == NULL && (server != NULL || leaves_this_machine(front) || leaves_this_machine(events)))
        return client_fail(
            client, STET_INVALID,
            "an endpoint beyond this machine needs a key: give the file that 'stet keys new' made, "
            "or set STET_KEY_FILE");
    if (file == NULL)
        return 0;
    if (stet_key_pair_read(file, &client->key, &client->error) != STET_OK)
        return -1;
    if (server != NULL && !stet_key_text_valid(stet_str_of(server)))
        return client_fail(client, STET_INVALID, "the broker's public key is 40 characters of Z85");
    if (server != NULL)
        (void)snprintf(client->key.server_key, sizeof client->key.server_key, "%s", server);
    if (client->key.server_key[0] == '\0')
        return client_fail(client, STET_INVALID,
                           "%s does not name the broker's public key: set STET_SERVER_KEY", file);
    client->has_key = true;
    return 0;
}

int client_key_show(stet_client *client, void *socket, const char *endpoints) {
    const stet_key_pair *key = &client->key;
    if (!client->has_key || !has(endpoints, "tcp://"))
        return 0;
    /* A socket that shows a key shows it everywhere, and Unix sockets ask for none. */
    if (has(endpoints, "ipc://"))
        return client_fail(client, STET_INVALID, "with a key all endpoints of a list must be tcp://");
    if (zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, key->server_key, sizeof key->server_key) == 0 &&
        zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, key->public_key, sizeof key->public_key) == 0 &&
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, key->secret_key, sizeof key->secret_key) == 0)
        return 0;
    return client_fail(client, STET_INTERNAL, "cannot use keys: %s", zmq_strerror(zmq_errno()));
}
