"""speak - what the protocol tests share: raw sockets with one message at a time, an actor in Python, paths."""

import os
import sys
import time
import uuid

import msgpack
import zmq

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "lab"))
sys.path.insert(0, os.path.join(ROOT, "docs", "examples"))

SECONDS = 20  # for what should take milliseconds


def socket_of(kind, endpoint):
    socket = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, 20)
    socket.connect(endpoint)
    return socket


def received(socket, seconds=SECONDS):
    """The frames of the next message; None when none comes in time."""
    return socket.recv_multipart() if socket.poll(int(seconds * 1000)) else None


def front_of(instance):
    """The front endpoint, asked for once: `stet status` asks every registered service, also one that has just gone."""
    if not hasattr(instance, "known_front"):
        instance.known_front = instance.endpoint("front")
    return instance.known_front


class Raw:
    """A DEALER on the front socket that sends exactly what it is told."""

    def __init__(self, instance):
        self.socket = socket_of(zmq.DEALER, front_of(instance))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close(0)

    def frames(self, *frames):
        self.socket.send_multipart(list(frames))

    def send(self, command, body, request_id=None, **more):
        """Sends a request; body: bytes, or what is packed. Returns the id."""
        request_id = request_id or uuid.uuid4()
        envelope = {"v": 1, "kind": "request", "id": request_id.bytes, "command": command, "timeoutMs": 10000, **more}
        self.frames(msgpack.packb(envelope), body if isinstance(body, bytes) else msgpack.packb(body))
        return request_id

    def answer(self, request_id=None, seconds=SECONDS):
        """(kind, body bytes) of the answer to the id, others are dropped; of the next answer when no id is given."""
        end = time.monotonic() + seconds
        while True:
            frames = received(self.socket, max(0.0, end - time.monotonic()))
            if frames is None:
                raise AssertionError(f"no answer within {seconds} s")
            if len(frames) != 2:
                raise AssertionError(f"an answer of {len(frames)} frames")
            envelope = msgpack.unpackb(frames[0])
            if request_id is None or envelope["id"] == request_id.bytes:
                return envelope["kind"], frames[1]

    def ask(self, command, body, request_id=None, **more):
        """(kind, body) of the one answer to one copy."""
        kind, answer = self.answer(self.send(command, body, request_id, **more))
        return kind, msgpack.unpackb(answer)


class Actor:
    """An actor on the back socket, driven by hand."""

    def __init__(self, instance, service, epoch=1, credit=16):
        self.service, self.epoch, self.credit = service, epoch, credit
        self.instance = uuid.uuid4().bytes
        self.socket = socket_of(zmq.DEALER, "ipc://" + os.path.join(instance.data, "run", "back.sock"))
        self.interval = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close(0)

    def say(self, kind, route=b"", body=b"", **keys):
        self.socket.send_multipart([msgpack.packb({"v": 1, "kind": kind, **keys}), route, body])

    def identity(self):
        return {"service": self.service, "epoch": self.epoch, "instance": self.instance}

    def ready(self):
        self.say("ready", credit=self.credit, software="python", **self.identity())

    def heartbeat(self):
        self.say("heartbeat", **self.identity())

    def hear(self, *kinds, seconds=SECONDS):
        """(envelope, route, body) of the next message of one of the kinds; meanwhile heartbeats are kept up."""
        end = time.monotonic() + seconds
        beat = self.interval / 1000 if self.interval else seconds
        next_beat = time.monotonic() + beat
        while time.monotonic() < end:
            frames = received(self.socket, max(0.0, min(next_beat, end) - time.monotonic()))
            if time.monotonic() >= next_beat and self.interval:
                self.heartbeat()
                next_beat = time.monotonic() + beat
            if frames is None:
                continue
            if len(frames) != 3:
                raise AssertionError(f"a message of {len(frames)} frames on the back socket")
            envelope = msgpack.unpackb(frames[0])
            if envelope["kind"] in kinds:
                return envelope, frames[1], frames[2]
        raise AssertionError(f"no {' or '.join(kinds)} within {seconds} s")

    def register(self):
        self.ready()
        envelope, _, _ = self.hear("welcome")
        self.interval = envelope["intervalMs"]
        return envelope

    def reply(self, request, route, body):
        self.say("reply", route, msgpack.packb(body), id=request["id"])


def nested(depth):
    """A body nested so deep, as bytes: {"promptContext": [[[...nil...]]]} counts as depth + 1."""
    return b"\x81\xadpromptContext" + b"\x91" * depth + b"\xc0"
