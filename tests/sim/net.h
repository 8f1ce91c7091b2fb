/* net - the connections between the broker and everybody else, as ZeroMQ gives them.
 *
 * A link joins one node to one socket of the broker. While it is up, both directions are first in, first out,
 * with a delay of their own for each message. What can go wrong: loss        a message vanishes (a PUB queue
 * that is full, or a hop that is not ours) refusal     the sender's queue is full: send says no break the
 * connection ends. Of what was under way a first part has arrived in the receiver's queue and is still read,
 * perhaps after messages of the next connection; the rest is lost, or, for a client (whose socket keeps its
 * queue), sent again first thing on the next connection. The next connection has another routing id.
 *   partition   one direction stands still until it heals, or loses everything meanwhile
 *   half open   one end believes in a connection that the other has lost
 *   doubled     a message arrives twice (ZeroMQ never does this, a hop in between could)
 * ZeroMQ does not reorder within a connection, and neither does this. */
#ifndef SIM_NET_H
#define SIM_NET_H

#include "broker/core.h"
#include "tests/sim/world.h"

enum { NET_FRAMES_MAX = 3, NET_LINKS_MAX = 48, NET_GHOSTS_MAX = 16 };

typedef enum net_socket { NET_FRONT, NET_BACK, NET_EVENTS_IN, NET_EVENTS } net_socket;

typedef struct net_packet {
    struct net_packet *next;
    uint64_t order;
    broker_peer peer; /* of the connection it was sent on */
    uint32_t count;
    stet_str frames[NET_FRAMES_MAX];
    char bytes[];
} net_packet;

typedef struct net_direction {
    net_packet *first, **end;
    uint32_t count;
    int64_t last_ms; /* when the last one arrives */
    int64_t blocked_until_ms;
    bool black_hole; /* what is sent while it is blocked is lost */
} net_direction;

typedef struct net net;
typedef struct net_link net_link;

/* Takes the packet over (net_free), or says when to try again: a node that stands still. */
typedef int64_t net_deliver_fn(void *node, net_link *link, net_packet *packet);

struct net_link {
    net *net;
    net_socket socket;
    const char *name;
    void *node;
    net_deliver_fn *deliver;                       /* to the node */
    void (*connected)(void *node, net_link *link); /* may be NULL */
    bool keeps;                                    /* the queue outlives the connection */
    bool quick;                                    /* connects at once */
    bool wanted;                                   /* the node is there and wants to be connected */
    bool up;
    uint32_t connection;
    uint32_t number; /* of the connection, over all links */
    broker_peer peer;
    net_direction to_broker, to_node;
    net_packet *waiting, **waiting_end; /* not yet sent, of a link that keeps */
    uint32_t waiting_count;
    bool subscribed; /* EVENTS: the broker knows */
    bool deaf;       /* half open: it is up for the node, and for the broker there is no such peer */
};

typedef struct net_rates {
    uint32_t loss, loss_events, refusal, spike, doubled; /* per mille */
    int64_t delay_ms, spike_ms;
} net_rates;

struct net {
    world *world;
    net_rates rates;
    net_link *links[NET_LINKS_MAX];
    size_t links_count;
    void *broker;
    net_deliver_fn *deliver; /* to the broker */
    bool broker_there;
    uint32_t peers;
    uint64_t order;
    uint64_t sent, lost, refused, breaks, doubled;
    struct net_ghost {
        uint32_t number;
        int64_t until_ms;
    } ghosts[NET_GHOSTS_MAX]; /* half open: the node has gone, and the broker does not know */
    uint32_t ghosts_count;
};

void net_init(net *self, world *world, void *broker, net_deliver_fn *deliver);
void net_done(net *self);
void net_add(net *self, net_link *link);

/* The node appears and connects, or is gone with what it had not sent. */
void net_open(net_link *link);
void net_close(net_link *link);
/* The connection ends; a new one is made when both ends are there. */
void net_break(net_link *link);
/* One end has lost the connection, the other does not notice for so long: what it sends is lost. */
void net_half_open(net_link *link, int64_t ms, bool at_broker);
/* Does the broker believe that this peer is connected, although it is not? */
bool net_is_ghost(const net *self, const broker_peer *peer);
void net_broker_appears(net *self);
void net_broker_dies(net *self);

/* False: not connected, or the queue is full. Frames are copied. */
bool net_to_broker(net_link *link, const stet_str *frames, uint32_t count);
bool net_to_node(net_link *link, const stet_str *frames, uint32_t count);
net_link *net_find(net *self, net_socket socket, const broker_peer *peer);
void net_free(net_packet *packet);
/* No partition, no loss, short delays from here on. */
void net_heal(net *self);

#endif
