"""fortress - what the security tests share: an instance that listens on TCP with keys, and peers that show them, or others.

The instance is a real one (tests/lab). Its TCP ports are chosen by the system and read from the broker's log.
"""

import json
import os
import re
import sys
import time

import msgpack
import zmq

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "lab"))
sys.path.insert(0, os.path.join(ROOT, "tests", "protocol"))
sys.path.insert(0, os.path.join(ROOT, "docs", "examples"))

from client import read_key_file, show_key  # noqa: E402
from lab import Instance, wait_until  # noqa: E402,F401
from speak import SECONDS, Raw, received  # noqa: E402,F401

LISTEN = """
broker
    listen = "tcp://127.0.0.1:*"
    events = "tcp://127.0.0.1:*"
    actors = "tcp://127.0.0.1:*"
    actorEvents = "tcp://127.0.0.1:*"
"""


class Fortress(Instance):
    """keys: name -> arguments of `stet keys new`. doors: socket name -> TCP endpoint, after up()."""

    def __init__(self, keys, config="", **more):
        super().__init__(config=LISTEN + config, **more)
        self.keys = {}
        for name, arguments in keys.items():
            self.new_key(name, *arguments)

    def path(self, name):
        return os.path.join(self.data, name + ".key")

    def new_key(self, name, *arguments):
        self.stet("keys", "new", name, "--out", self.path(name), *arguments)
        self.keys[name] = read_key_file(self.path(name))
        return self.keys[name]

    def up(self):
        super().up()
        self.doors = wait_until(self.listening, 20, "the broker listens on TCP")

    def log(self):
        lines = []
        for name in ("broker.log.1", "broker.log"):
            path = os.path.join(self.data, "log", name)
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    lines += [json.loads(line) for line in file if line.endswith("\n")]
        return lines

    def logged(self, event):
        return [line for line in self.log() if line["event"] == event]

    def listening(self):
        doors = {line["socket"]: line["endpoint"] for line in self.logged("listen") if line["endpoint"].startswith("tcp:")}
        return doors if len(doors) == 4 else None

    def address(self, door="front"):
        host, port = re.fullmatch(r"tcp://\[?(.*?)\]?:(\d+)", self.doors[door]).groups()
        return host, int(port)

    def peer(self, kind, door="front", key=None, server=None, **options):
        """A socket that shows this key (a name, or a dictionary of a key file), connected over TCP."""
        socket = zmq.Context.instance().socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        if key is not None:
            pair = dict(self.keys[key] if isinstance(key, str) else key)
            pair["server"] = server or pair["server"]
            show_key(socket, pair)
        socket.connect(self.doors[door])
        return socket

    def counters(self):
        return json.loads(self.stet("call", "broker.stats").stdout)["counters"]


class Keyed(Raw):
    """speak.Raw over TCP with a key."""

    def __init__(self, fortress, key, **options):  # noqa: super().__init__ would connect by ipc
        self.socket = fortress.peer(zmq.DEALER, "front", key, **options)

    def refused(self, command, body, **more):
        """The code and field of the error that answers this; fails when it is a reply."""
        kind, answer = self.ask(command, body, **more)
        if kind != "error":
            raise AssertionError(f"{command} {body} was answered {kind}: {answer}")
        return answer["code"], answer.get("field")


def request(command, body=b"\x80", request_id=b"0123456789abcdef"):
    return [msgpack.packb({"v": 1, "kind": "request", "id": request_id, "command": command, "timeoutMs": 10000}), body]


def silent(socket, seconds=0.5):
    """True when nothing comes for so long. Proves nothing alone: pair it with a counter or a log line."""
    return not socket.poll(int(seconds * 1000))


def stays_true(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        time.sleep(0.02)
    return True
