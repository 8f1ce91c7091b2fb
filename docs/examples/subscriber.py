"""subscriber - every event of a session once and in order, written from docs/protocol.md alone. Needs pyzmq and msgpack.

    STET_FRONT=ipc://.../front.sock STET_EVENTS=ipc://.../events.sock python3 subscriber.py SESSION [AFTER]
"""

import json
import os
import sys
import time

import zmq

from client import Client, Unknown

TOPIC, PREFIX = b"TOOL_PROGRESS/", b"TOOL_PROGRESS::"
QUIET_FIRST, QUIET_MAX = 0.25, 5.0


class Subscriber:
    """Events of one session and one actor. Live events come from a SUB socket; what is missing is read by number."""

    def __init__(self, client, events, session, service="drafter", after=0, context=None):
        self.client, self.session, self.service = client, session, service
        self.next = after + 1
        self.ready = []  # texts to be handed out, in order
        self.quiet, self.read_at = QUIET_FIRST, 0.0
        self.topic = TOPIC + session.encode()
        context = context or zmq.Context.instance()
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, 2 << 20)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.socket.setsockopt(zmq.SUBSCRIBE, self.topic)
        self.socket.connect(events)
        self.monitor.poll(100)  # 1, 2: subscribed, and given a moment to be live

    def close(self):
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def next_event(self, timeout=None):
        """The JSON text (bytes) of the next event; None when none came within `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.ready:
            now = time.monotonic()
            if now >= self.read_at:
                self._read()
                continue
            if end is not None and now >= end:
                return None
            until = self.read_at if end is None else min(self.read_at, end)
            self._listen(max(0.0, until - now))
        return self.ready.pop(0)

    def _read(self):
        """3: reads on by number until there is no more."""
        more = True
        while more:
            try:
                page = self.client.request(self.service + ".events", {"sessionId": self.session, "afterSeq": self.next - 1},
                                           timeout=10.0)
            except Unknown:
                break
            for text in page["events"]:
                self._deliver(text.encode(), from_page=True)
            more = page["more"]
        self.quiet = QUIET_FIRST if self.ready else min(self.quiet * 2, QUIET_MAX)
        self.read_at = time.monotonic() + self.quiet

    def _listen(self, seconds):
        """4, 5: takes one live event, or notices a new connection."""
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self.monitor, zmq.POLLIN)
        ready = dict(poller.poll(int(seconds * 1000) + 1))
        if self.monitor in ready:
            self.monitor.recv_multipart()
            self.read_at = 0.0
        if self.socket in ready:
            frames = self.socket.recv_multipart()
            # A subscription is a prefix: s1 also brings s10.
            if len(frames) == 2 and frames[0] == self.topic and frames[1].startswith(PREFIX):
                self._deliver(frames[1][len(PREFIX):], from_page=False)

    def _deliver(self, text, from_page):
        event = json.loads(text)
        if event["actor"] != self.service or event["seq"] < self.next:
            return  # another's, or a repeat
        if event["seq"] > self.next and not from_page:
            self.read_at = 0.0  # a gap: what is missing is read, and this one again with it
            return
        self.ready.append(text)
        self.next = event["seq"] + 1
        self.quiet = QUIET_FIRST
        self.read_at = time.monotonic() + self.quiet


def main():
    if len(sys.argv) not in (2, 3) or "STET_FRONT" not in os.environ or "STET_EVENTS" not in os.environ:
        sys.exit("usage: STET_FRONT=ENDPOINT STET_EVENTS=ENDPOINT subscriber.py SESSION [AFTER]")
    after = int(sys.argv[2]) if len(sys.argv) == 3 else 0
    with Client(os.environ["STET_FRONT"]) as client, \
            Subscriber(client, os.environ["STET_EVENTS"], sys.argv[1], after=after) as subscriber:
        while True:
            print(subscriber.next_event().decode(), flush=True)


if __name__ == "__main__":
    main()
