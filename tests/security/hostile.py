"""Bytes that are meant to hurt: frame sizes that are claimed, messages without an end, bodies that nest, claim and repeat. Each
is dropped or answered; the process is the same afterwards, its memory bounded, and others are served."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

import msgpack

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fortress import Instance, Raw, request, wait_until  # noqa: E402
from speak import nested  # noqa: E402

MIB = 1 << 20


class Wire:
    """ZMTP 3 by hand on a Unix socket: what a ZeroMQ library would never send."""

    def __init__(self, instance, kind=b"DEALER", name="front.sock"):
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.settimeout(30)
        self.stream.connect(os.path.join(instance.data, "run", name))
        self.stream.sendall(b"\xff" + b"\0" * 8 + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" * 32)
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        self.stream.sendall(b"\x04" + bytes([len(ready)]) + ready)
        self.read(64)
        self.read(self.read(2)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def read(self, size):
        data = b""
        while len(data) < size:
            piece = self.stream.recv(size - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def closed_by_the_other_side(self):
        try:
            while self.stream.recv(65536):
                pass
        except socket.timeout:
            return False
        except ConnectionError:
            pass
        return True

    @staticmethod
    def frame(data, more=False):
        return bytes([2 | more]) + struct.pack(">Q", len(data)) + data

    @staticmethod
    def claim(size):
        return b"\x02" + struct.pack(">Q", size) + b"x" * 100


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class HostileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance()
        cls.instance.__enter__()
        cls.pids = {name: cls.instance.pid(name) for name in ("broker", "drafter")}

    @classmethod
    def tearDownClass(cls):
        cls.instance.__exit__(None, None, None)

    def setUp(self):
        self.memory = {name: resident(pid) for name, pid in self.pids.items()}

    def tearDown(self):
        """Nothing died, nothing swelled, others are served."""
        with Raw(self.instance) as peer:
            self.assertEqual(peer.ask("drafter.list", {})[0], "reply")
        for name, pid in self.pids.items():
            self.assertEqual(self.instance.pid(name), pid)
            # Under AddressSanitizer freed memory is kept for a while (256 MiB).
            self.assertLess(resident(pid) - self.memory[name], 400 * MIB, name)

    def refused(self, command, body, **more):
        with Raw(self.instance) as peer:
            kind, answer = peer.ask(command, body, **more)
        self.assertEqual(kind, "error", f"{command}: {str(body)[:60]}")
        return answer["code"]

    # ---- frames ----

    def test_a_claimed_size_over_the_limit_costs_the_connection(self):
        for size in (2 * MIB + 1, 1 << 31, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1):
            for name, kind in (("front.sock", b"DEALER"), ("back.sock", b"DEALER"), ("events-in.sock", b"PUB")):
                with self.subTest(size=size, socket=name), Wire(self.instance, kind, name) as wire:
                    wire.stream.sendall(wire.claim(size))
                    self.assertTrue(wire.closed_by_the_other_side())

    def test_a_body_at_the_limit_passes_and_one_byte_more_is_answered(self):
        padding = b"\xda" + struct.pack(">H", 60000) + b"y" * 60000
        for size, code in ((MIB, "invalid"), (MIB + 1, "too_large"), (2 * MIB, "too_large")):
            body = (b"\x81\xa1x\x9f" + padding * 40)[:size].ljust(size, b"\xc0")
            self.assertEqual(self.refused("drafter.submit", body), code, size)

    def test_a_message_of_a_million_frames_is_dropped(self):
        before = self.malformed()
        with Wire(self.instance) as wire:
            wire.stream.sendall(b"\x01\x00" * 1_000_000 + b"\x00\x00")
            wait_until(lambda: self.malformed() > before, 60, "the message is counted as malformed")
            for frame in request("broker.version")[:1]:  # the connection goes on after it
                wire.stream.sendall(wire.frame(frame, more=True) + wire.frame(b"\x80"))
            self.assertTrue(wire.read(2))

    def malformed(self):
        with Raw(self.instance) as peer:
            return peer.ask("broker.stats", {})[1]["counters"]["malformedFront"]

    def test_commands_of_the_wire_that_mean_nothing_are_survived(self):
        junk = [b"\x04\x00", b"\x04\x05\x04PING", b"\x04\x07\x04PING\xff\xff", b"\x06" + struct.pack(">Q", 4) + b"\x03abc",
                b"\x04\x0a\x05ERROR\x03bad", b"\xff" * 64, b"\x04\x06\x05READY" * 50, b"\x07\x00"]
        for data in junk:
            with self.subTest(data[:12]), Wire(self.instance) as wire:
                wire.stream.sendall(data)
                wire.stream.shutdown(socket.SHUT_WR)
                wire.closed_by_the_other_side()

    # ---- bodies ----

    def test_nesting_is_bounded(self):
        start = b"\x83\xa9projectId\xa1p\xa9sessionId\xa1s"
        with Raw(self.instance) as peer:
            self.assertEqual(peer.ask("drafter.submit", start + nested(14)[1:])[0], "reply")
        for depth in (16, 17, 33, 1000, 100_000, 1_000_000):
            self.assertEqual(self.refused("drafter.submit", start + nested(depth)[1:]), "invalid", depth)
            maps = start + b"\xadpromptContext" + b"\x81\xa1k" * min(depth, 300_000) + b"\xc0"
            self.assertEqual(self.refused("drafter.submit", maps), "invalid", depth)

    def test_sizes_that_are_claimed_and_not_there_cost_nothing(self):
        claims = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                  b"\xc9\xff\xff\xff\xff\x01", b"\xdc\xff\xff", b"\xde\xff\xff", b"\xdd\x00\xff\xff\xff" * 30, b"\xc1",
                  b"\x81\xa9projectId\xdb\x7f\xff\xff\xff", b"\x81\xadpromptContext" + b"\xdd\x7f\xff\xff\xff" * 14]
        for claim in claims:
            for command in ("drafter.submit", "broker.last", "drafter.events"):
                self.assertEqual(self.refused(command, claim), "invalid", claim[:8])

    def test_what_can_be_read_two_ways_is_refused(self):
        twice = b"\x83\xa9projectId\xa1p\xa9sessionId\xa1s\xa9sessionId\xa1t"
        deep = b"\x83\xa9projectId\xa1p\xa9sessionId\xa1s\xadpromptContext\x82\xa1k\x01\xa1k\x02"
        trailing = msgpack.packb({"projectId": "p", "sessionId": "s"}) + b"\xc0"
        number_key = b"\x81\x01\x02"
        no_utf8 = [b"\x82\xa9projectId\xa2\xc3\x28\xa9sessionId\xa1s", b"\x82\xa9projectId\xa3\xed\xa0\x80\xa9sessionId\xa1s",
                   b"\x82\xa9projectId\xa2\xc0\xaf\xa9sessionId\xa1s"]
        for body in (twice, deep, trailing, number_key, *no_utf8, b"\xd4\x01\x00", b"\x90", b"\xa1x"):
            self.assertEqual(self.refused("drafter.submit", body), "invalid", body)

    def test_names_hold_no_nul_and_reach_no_other_row_or_file(self):
        with Raw(self.instance) as peer:
            self.assertEqual(peer.ask("drafter.document.put", {"projectId": "nul", "baseVersion": 0, "markdown": "safe"})[0], "reply")
            for name in ("nul\0", "nul\0x", "\0", "../nul", "nul/..", "../../../../etc/passwd", "/etc/passwd", "nul\n", "%2e%2e"):
                kind, answer = peer.ask("drafter.document.get", {"projectId": name})
                self.assertEqual((kind, answer["code"]) if kind == "error" else answer.get("markdown"), ("error", answer.get("code")))
                self.assertIn(answer["code"], ("invalid", "not_found"), name)
                kind, answer = peer.ask("drafter.document.put", {"projectId": name, "baseVersion": 0, "markdown": "other"})
                self.assertTrue(kind == "reply" or answer["code"] == "invalid", answer)
            self.assertEqual(peer.ask("drafter.document.get", {"projectId": "nul"})[1]["markdown"], "safe")
            self.assertEqual(peer.ask("drafter.check", {})[1].get("problems"), [])
        for actor in ("../drafter", "drafter/../drafter", "/bin/sh", "drafter\n"):
            self.assertEqual(self.instance.stet("inspect", actor, check=False).returncode, 2, actor)
        self.assertFalse(os.path.exists(os.path.join(self.instance.data, "..", "nul")))

    # ---- envelopes ----

    def test_envelopes_that_are_none_are_dropped_or_answered(self):
        good = {"v": 1, "kind": "request", "id": b"i" * 16, "command": "broker.version"}
        bad = [b"", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x91" * 1000, b"\x81\xa1v" * 300, msgpack.packb(good) + b"\x00",
               msgpack.packb({**good, "id": b"i" * 15}), msgpack.packb({**good, "id": b"\0" * 16}),
               msgpack.packb({**good, "id": "i" * 16}), msgpack.packb({**good, "v": 2}), msgpack.packb({**good, "v": -1}),
               msgpack.packb({**good, "command": "broker.version\0"}), msgpack.packb({**good, "command": "x" * 65}),
               msgpack.packb({**good, "command": ".version"}), msgpack.packb({**good, "timeoutMs": 1 << 32}),
               msgpack.packb({**good, "timeoutMs": -1}), msgpack.packb({**good, "key": "k" * 257}),
               msgpack.packb({**good, "unknown": [[[[1]]]]}), msgpack.packb({**good, "pad": "p" * 1100}),
               msgpack.packb(good)[:-3], b"\x82\xa1v\x01\xa1v\x01"]
        with Raw(self.instance) as peer:
            for envelope in bad:
                peer.frames(envelope, b"\x80")
                peer.frames(envelope)
                peer.frames(envelope, b"\x80", b"")
            kind, answer = peer.ask("broker.version", {})  # answers of refused ones have other ids
            self.assertEqual((kind, answer["wire"]), ("reply", 1))


class EndlessTest(unittest.TestCase):
    def test_a_message_without_an_end_costs_the_broker_a_restart_at_most(self):
        # AddressSanitizer's shadow and redzones count as memory as well.
        with Instance(config="broker\n    memoryMax = 400M\n") as instance:
            before = instance.pid("broker")
            drafter = instance.pid("drafter")
            stop = threading.Event()

            def flood():
                try:
                    with Wire(instance) as wire:
                        while not stop.is_set():
                            wire.stream.sendall(b"\x01\x00" * 32768)
                except OSError:
                    pass
            thread = threading.Thread(target=flood)
            thread.start()
            try:
                wait_until(lambda: instance.pid("broker") not in (None, before), 120, "the broker is started anew")
            finally:
                stop.set()
                thread.join(60)
            from_then = time.monotonic()
            client = instance.client()
            self.assertEqual(client.ask("drafter.health", seconds=60)["status"], "green")
            client.close()
            print(f"others were served {time.monotonic() - from_then:.1f} s after the broker's new start")
            self.assertEqual(instance.pid("drafter"), drafter)
            log = subprocess.run(["grep", "-c", "memory.limit", os.path.join(instance.data, "log", "broker.log")],
                                 capture_output=True, text=True, check=False).stdout
            self.assertEqual(int(log), 1)


if __name__ == "__main__":
    unittest.main()
