/* follow - prints every event of a session, once and in order, until a job of it ends.
 *
 *   cc follow.c $(pkg-config --cflags --libs stet) -o follow
 *   STET_DATA=... ./follow SESSION */
#include <stdio.h>
#include <string.h>

#include <stet.h>

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: follow SESSION\n");
        return 2;
    }
    char error[256];
    stet_client *client = stet_client_new(NULL, error, sizeof error);
    if (!client) {
        fprintf(stderr, "follow: %s\n", error);
        return 1;
    }
    stet_subscriber *events = stet_subscriber_new(client, argv[1], "drafter", /* after_seq= */ 0);
    int status = 1;
    while (events) {
        stet_client_event event;
        int got = stet_subscriber_next(events, &event, /* wait_ms= */ 60000);
        if (got != 1)
            break;
        printf("%s\n", event.json);
        if (strstr(event.json, "\"status\":\"done\"")) {
            status = 0;
            break;
        }
    }
    if (status != 0)
        fprintf(stderr, "follow: %s\n",
                *stet_client_error(client) ? stet_client_error(client) : "nothing for a minute");
    stet_subscriber_free(events);
    stet_client_free(client);
    return status;
}
