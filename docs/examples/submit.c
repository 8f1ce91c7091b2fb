/* submit - queues a background draft with libstet and prints the answer.
 *
 *   cc submit.c $(pkg-config --cflags --libs stet) -o submit
 *   STET_DATA=... ./submit PROJECT SESSION "INSTRUCTION" */
#include <stdio.h>
#include <stdlib.h>

#include <stet.h>

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: submit PROJECT SESSION INSTRUCTION\n");
        return 2;
    }
    char error[256];
    stet_client *client = stet_client_new(NULL, error, sizeof error);
    if (!client) {
        fprintf(stderr, "submit: %s\n", error);
        return 1;
    }

    /* A program would build the body with msgpack; from JSON text it is one call. */
    char json[1024];
    int size =
        snprintf(json, sizeof json, "{\"projectId\": \"%s\", \"sessionId\": \"%s\", \"instruction\": \"%s\"}",
                 argv[1], argv[2], argv[3]);
    size_t body_size = 0;
    uint8_t *body = size > 0 && (size_t)size < sizeof json
                        ? stet_body_from_json(json, (size_t)size, &body_size, error, sizeof error)
                        : NULL;
    if (!body) {
        fprintf(stderr, "submit: the arguments do not make JSON\n");
        stet_client_free(client);
        return 2;
    }

    /* Sent again with the same id while a part of Stet is away; NULL: a new id. */
    stet_answer answer;
    int status = 3;
    if (stet_client_request(client, "drafter.submit", body, body_size, NULL, /* timeout_ms= */ 10000,
                            &answer) != 0) {
        fprintf(stderr, "submit: %s\n", stet_client_error(client));
    } else {
        char *text = stet_body_to_json(answer.body, answer.body_size, /* indent= */ 2, error, sizeof error);
        printf("%s\n", text ? text : error);
        free(text);
        status = answer.code ? 1 : 0;
    }
    free(body);
    stet_client_free(client);
    return status;
}
