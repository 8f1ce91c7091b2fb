"""client - a small Stet client, written from docs/protocol.md alone. Needs pyzmq and msgpack.

    STET_FRONT=ipc:///home/me/.local/share/stet/run/front.sock python3 client.py drafter.submit \
        '{"projectId": "p", "sessionId": "s", "instruction": "Write a greeting."}'

Over TCP with a key: STET_FRONT=tcp://192.0.2.1:5570 STET_KEY_FILE=app.key python3 client.py broker.version
"""

import json
import os
import random
import sys
import time
import uuid

import msgpack
import zmq

RESEND = {"busy", "unavailable", "rate_limited", "timeout"}


class Refused(Exception):
    """The answer is an error. `code` is for programs, str() is for people."""

    def __init__(self, body):
        super().__init__(body.get("message") or body.get("code"))
        self.code = body.get("code", "internal")
        self.field = body.get("field")
        self.details = body.get("details", {})


class Unknown(Exception):
    """No answer in time. It may have happened: ask again with the same id to learn it."""

    def __init__(self, request_id, last):
        super().__init__(f"no answer to {request_id} in time" + (f"; last refusal: {last}" if last else ""))
        self.request_id = request_id


def read_key_file(path):
    """{public, secret, server} of a file that `stet keys new` made: lines of NAME = "VALUE"."""
    with open(path, encoding="ascii") as file:
        lines = [line.rstrip("\n").split(" = ", 1) for line in file if " = " in line and not line.startswith("#")]
    return {name: value.strip('"').encode() for name, value in lines}


def show_key(socket, key):
    """Before connect: this socket talks to the broker with that public key only, and shows it ours."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, key["server"])
    socket.setsockopt(zmq.CURVE_PUBLICKEY, key["public"])
    socket.setsockopt(zmq.CURVE_SECRETKEY, key["secret"])


class Client:
    """One connection. Not to be shared between threads; requests are made one after the other."""

    def __init__(self, endpoint, context=None, key_file=None):
        self.socket = (context or zmq.Context.instance()).socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, 2 << 20)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        if key_file:
            show_key(self.socket, read_key_file(key_file))
        self.socket.connect(endpoint)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def request(self, command, body=None, key="", request_id=None, timeout=30.0):
        """The reply as a dictionary; Refused when it is an error; Unknown when none came within `timeout` seconds.
        To repeat a request give its id and the same command and body."""
        return msgpack.unpackb(self.request_bytes(command, msgpack.packb(body or {}), key, request_id, timeout))

    def request_bytes(self, command, body, key="", request_id=None, timeout=30.0):
        """The same with the body as bytes, which a resend repeats exactly."""
        request_id = request_id or uuid.uuid4()
        deadline = time.monotonic() + timeout
        silence, pause, last = 2.0, 0.05, None
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unknown(request_id, last)
            self._send(command, body, key, request_id, left)
            answer = self._receive(request_id, min(silence, left))
            if answer is None:
                silence = min(silence * 2, 10.0)
                continue
            kind, content = answer
            if kind == "reply":
                return content
            error = msgpack.unpackb(content)
            if error.get("code") not in RESEND:
                raise Refused(error)
            last = error["code"]
            wait = max(error.get("retryAfterMs", 0) / 1000, pause) * random.uniform(1.0, 1.25)
            pause = min(pause * 2, 2.0)
            time.sleep(max(0.0, min(wait, deadline - time.monotonic())))

    def _send(self, command, body, key, request_id, left):
        envelope = {"v": 1, "kind": "request", "id": request_id.bytes, "command": command,
                    "timeoutMs": max(1, int(left * 1000))}
        if key:
            envelope["key"] = key
        try:
            self.socket.send_multipart([msgpack.packb(envelope), body], zmq.DONTWAIT)
        except zmq.Again:
            pass  # no broker and the queue is full: silence, then another try

    def _receive(self, request_id, seconds):
        """(kind, body) of the answer to this id; None after so many seconds. Answers to others are dropped."""
        end = time.monotonic() + seconds
        while self.socket.poll(max(0, int((end - time.monotonic()) * 1000))):
            frames = self.socket.recv_multipart()
            if len(frames) != 2:
                continue
            envelope = msgpack.unpackb(frames[0])
            if envelope.get("v") == 1 and envelope.get("id") == request_id.bytes:
                return envelope["kind"], frames[1]
        return None


def main():
    if len(sys.argv) not in (2, 3) or "STET_FRONT" not in os.environ:
        sys.exit("usage: STET_FRONT=ENDPOINT client.py SERVICE.COMMAND [JSON]")
    with Client(os.environ["STET_FRONT"], key_file=os.environ.get("STET_KEY_FILE")) as client:
        try:
            print(json.dumps(client.request(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) == 3 else {}), indent=2))
        except Refused as refused:
            sys.exit(f"{refused.code}: {refused}" + (f" ({refused.field})" if refused.field else ""))
        except Unknown as unknown:
            sys.exit(str(unknown))


if __name__ == "__main__":
    main()
