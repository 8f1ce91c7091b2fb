/* access - what a key may do beyond its role, and the answer to a handshake. Pure: no sockets, no files.
 *
 * A viewer that is limited to sessions may read the events of these sessions and nothing else: every other
 * command shows more than one session, or what belongs to no session. Thread: any. Memory: the caller's. */
#ifndef BROKER_ACCESS_H
#define BROKER_ACCESS_H

#include "proto/keys/keys.h"

/* The sockets that TCP peers reach; the name is the ZAP domain. X(C name, name) */
#define BROKER_DOORS(X)                                                                                      \
    X(FRONT, "front")                                                                                        \
    X(BACK, "back")                                                                                          \
    X(EVENTS, "events")                                                                                      \
    X(EVENTS_IN, "events-in")
typedef enum broker_door {
#define X(name, text) BROKER_DOOR_##name,
    BROKER_DOORS(X)
#undef X
        BROKER_DOORS_COUNT
} broker_door;
const char *broker_door_name(broker_door door);

/* True when this key may connect there at all: `back` and `events-in` are for actors, `events` shows
 * everything and so is not for viewers limited to sessions. */
bool broker_access_door(const stet_known_key *key, broker_door door);
/* STET_FORBIDDEN when this key may not send this request, whatever its role. A malformed message is left to
 * the core. */
NODISCARD
stet_code broker_access_request(const stet_known_key *key, stet_str envelope, stet_str body, stet_error *e);

/* ---- ZAP (rfc.zeromq.org/spec/27): one request of libzmq, frame by frame ---- */
enum { BROKER_ZAP_FRAMES = 7 };

typedef struct broker_zap_answer {
    const char *status; /* "200", "400" refused, "500" not a ZAP request */
    const char *text;
    const stet_known_key *key; /* with 200 */
    broker_door door;          /* with 200 and, when it could be read, 400 */
} broker_zap_answer;

/* frames: version, request id, domain, address, identity, mechanism, credentials; count is how many came. */
broker_zap_answer broker_zap_decide(const stet_keys *keys, const stet_str *frames, uint32_t count);

#endif
