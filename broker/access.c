#include "broker/access.h"

#include "proto/keys/z85.h"
#include "proto/wire/envelope.h"

const char *broker_door_name(broker_door door) {
    static const char *const names[] = {
#define X(name, text) [BROKER_DOOR_##name] = text,
        BROKER_DOORS(X)
#undef X
    };
    ASSERT(door < BROKER_DOORS_COUNT);
    return names[door];
}

bool broker_access_door(const stet_known_key *key, broker_door door) {
    switch (door) {
    case BROKER_DOOR_FRONT:
        return true;
    case BROKER_DOOR_EVENTS:
        return key->sessions[0] == '\0';
    case BROKER_DOOR_BACK:
    case BROKER_DOOR_EVENTS_IN:
        return key->role == STET_ROLE_ACTOR;
    case BROKER_DOORS_COUNT:
        break;
    }
    return false;
}

/* "SERVICE.events" and "broker.last": what tells of one session only. */
static bool reads_one_session(stet_str command) {
    stet_str service = stet_command_service(command);
    if (stet_str_is(command, "broker.last"))
        return true;
    size_t skip = service.size + 1;
    return service.size > 0 && command.size > skip &&
           stet_str_is(stet_str_from(command.data + skip, command.size - skip), "events");
}

stet_code broker_access_request(const stet_known_key *key, stet_str envelope_bytes, stet_str body,
                                stet_error *e) {
    stet_envelope envelope;
    stet_error ignored;
    if (key->sessions[0] == '\0' || stet_envelope_decode(envelope_bytes, &envelope, &ignored) != STET_OK)
        return STET_OK;
    if (!reads_one_session(envelope.command))
        return stet_error_set(e, STET_FORBIDDEN,
                              "this key is limited to sessions: it may call SERVICE.events and broker.last");
    /* Checked first: of a body with two sessionIds the actor might take the other one. */
    stet_code rc =
        body.size > STET_BODY_BYTES_MAX ? STET_TOO_LARGE : stet_mp_check(body, STET_MP_LIMITS_BODY, e);
    if (rc == STET_BUSY)
        return rc;
    if (rc != STET_OK)
        return stet_error_field(e, STET_FORBIDDEN, "sessionId", "this key is limited to sessions; name one");
    stet_str session = stet_mp_get_str(body, "sessionId", STET_STR(""));
    if (!stet_known_key_sees(key, session))
        return stet_error_field(e, STET_FORBIDDEN, "sessionId", "this key may not see that session");
    return STET_OK;
}

/* ---- ZAP ---- */
enum {
    FRAME_VERSION,
    FRAME_REQUEST,
    FRAME_DOMAIN,
    FRAME_ADDRESS,
    FRAME_IDENTITY,
    FRAME_MECHANISM,
    FRAME_CREDENTIALS
};

static broker_zap_answer refused(const char *status, const char *text, broker_door door) {
    return (broker_zap_answer){.status = status, .text = text, .door = door};
}

static broker_door door_of(stet_str domain) {
    broker_door door = BROKER_DOOR_FRONT;
    while (door < BROKER_DOORS_COUNT && !stet_str_is(domain, broker_door_name(door)))
        door++;
    return door;
}

broker_zap_answer broker_zap_decide(const stet_keys *keys, const stet_str *frames, uint32_t count) {
    broker_door door = count > FRAME_DOMAIN ? door_of(frames[FRAME_DOMAIN]) : BROKER_DOORS_COUNT;
    if (count <= FRAME_MECHANISM || !stet_str_is(frames[FRAME_VERSION], "1.0"))
        return refused("500", "not a ZAP 1.0 request", door);
    if (door == BROKER_DOORS_COUNT)
        return refused("400", "unknown domain", door);
    if (!stet_str_is(frames[FRAME_MECHANISM], "CURVE"))
        return refused("400", "only keys are accepted", door);
    if (count != BROKER_ZAP_FRAMES || frames[FRAME_CREDENTIALS].size != STET_KEY_BYTES)
        return refused("400", "not a key", door);
    char text[STET_KEY_TEXT_SIZE];
    stet_z85_encode((const uint8_t *)frames[FRAME_CREDENTIALS].data, STET_KEY_BYTES, text);
    const stet_known_key *key = stet_keys_find(keys, stet_str_of(text));
    if (key == NULL)
        return refused("400", "unknown key", door);
    if (!broker_access_door(key, door))
        return refused("400", "this key may not connect here", door);
    return (broker_zap_answer){.status = "200", .text = "OK", .key = key, .door = door};
}
