/* edge_place - a broker's sockets and files for the target `edge`, whose loop is turned by hand. */
#ifndef STET_TESTS_FUZZ_EDGE_PLACE_H
#define STET_TESTS_FUZZ_EDGE_PLACE_H

#include "broker/internal.h"
#include "broker/sockets_internal.h"
#include "tests/fuzz/fuzz.h"

typedef struct place {
    char directory[32], keys[64], known[80];
    stet_paths paths;
    bool known_changed;
    broker_options core;
    broker_sockets *sockets;
    void *asker, *subscriber;
    uint32_t rounds;
} place;

/* A client of the list, and the broker, who is the only actor here as well. */
extern const stet_key_pair edge_client, edge_server;

/* The one of the two, made when it is asked for first; without asker and subscriber then. */
place *edge_place(bool tcp);
/* The broker's loop, until nothing is left to be done. */
void edge_turn(const place *p);
/* The file of the only client. */
void edge_put_known(place *p, stet_str text);
void edge_put_client(place *p);

#endif
