"""Who gets in over TCP, and how far: strangers, wrong keys, each role at each door, limited viewers, revoked keys, peers that
claim to be others. Each case asserts what did not happen and then that a good peer is served."""

import os
import random
import socket
import sys
import time
import unittest
import uuid

import msgpack
import zmq

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fortress import Fortress, Keyed, Raw, received, request, silent, wait_until  # noqa: E402

KEYS = {
    "control": ("--role", "control"),
    "producer": ("--role", "producer"),
    "viewer": ("--role", "viewer"),
    "limited": ("--role", "viewer", "--sessions", "own,other-own"),
    "actor": ("--role", "actor"),
}
GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01"
SUBMIT = {"projectId": "p", "sessionId": "own", "instruction": "Greet."}


def pair():
    public, secret = zmq.curve_keypair()
    return {"public": public, "secret": secret}


class DoorsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fortress = Fortress(KEYS, config="    curve = always\n")
        cls.fortress.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.fortress.__exit__(None, None, None)

    def assert_served(self, key="control"):
        with Keyed(self.fortress, key) as peer:
            self.assertEqual(peer.ask("broker.health", {})[0], "reply")

    def counted(self, name, at_least):
        wait_until(lambda: self.fortress.counters()[name] >= at_least, 20, f"{name} reaches {at_least}")

    # ---- strangers ----

    def test_garbage_is_counted_and_hurts_nobody(self):
        before = self.fortress.counters()["handshakesFailed"]
        dice = random.Random(4711)
        for i in range(64):
            data = dice.randbytes(dice.randrange(1, 400))
            if i % 2:  # a right greeting first, then garbage where the handshake should be
                mechanism = [b"CURVE", b"NULL", b"PLAIN", b"GSSAPI"][i // 2 % 4].ljust(20, b"\0")
                data = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00" + mechanism + b"\0" * 32 + data
            with socket.create_connection(self.fortress.address(list(self.fortress.doors)[i % 4])) as stream:
                stream.settimeout(10)
                try:
                    stream.sendall(data)
                    stream.shutdown(socket.SHUT_WR)
                    while stream.recv(4096):
                        pass
                except OSError:
                    pass
        self.counted("handshakesFailed", before + 16)  # what looked like the protocol far enough
        self.assert_served()

    def test_connections_that_say_nothing_keep_nobody_out(self):
        idle = [socket.create_connection(self.fortress.address()) for _ in range(200)]
        try:
            for stream in idle[::2]:
                stream.sendall(GREETING[:5])
            self.assert_served()
        finally:
            for stream in idle:
                stream.close()

    def say(self, peer, door):
        if door == "front":
            peer.send_multipart(request("broker.stats"), zmq.DONTWAIT)
        elif door == "back":
            ready = {"v": 1, "kind": "ready", "service": "evil", "epoch": 1, "instance": b"e" * 16, "credit": 1}
            peer.send_multipart([msgpack.packb(ready), b"", b""], zmq.DONTWAIT)
        elif door == "events-in":
            peer.send_multipart([b"TOOL_PROGRESS/own", b'TOOL_PROGRESS::{"forged":true}'])
        else:
            peer.setsockopt(zmq.SUBSCRIBE, b"")

    def assert_kept_out(self, connect, door, counter):
        """What the peer says reaches nothing, and the attempt is counted."""
        before = self.fortress.counters()
        peer = connect()
        try:
            try:
                self.say(peer, door)
            except zmq.Again:
                pass  # refused already, and the connection given up
            self.counted(counter, before[counter] + 1)
            after = self.fortress.counters()
            self.assertEqual((after["registered"], after["unauthorized"]), (before["registered"], before["unauthorized"]))
            self.assertNotIn("forged", self.fortress.stet("call", "broker.last", '{"sessionId": "own"}').stdout)
            if door != "events-in":
                self.assertTrue(silent(peer, 0.1))
        finally:
            peer.close(0)

    def strangers(self, door):
        kind = {"front": zmq.DEALER, "back": zmq.DEALER, "events": zmq.SUB, "events-in": zmq.PUB}[door]
        yield "NULL", lambda: self.fortress.peer(kind, door), "handshakesFailed"
        yield "PLAIN", lambda: self.fortress.peer(kind, door, PLAIN_USERNAME=b"control", PLAIN_PASSWORD=b"secret"), "handshakesFailed"
        server = self.fortress.keys["control"]["server"]
        yield "an unknown key", lambda: self.fortress.peer(kind, door, pair(), server), "handshakesRefused"
        yield "a wrong server key", lambda: self.fortress.peer(kind, door, "control", pair()["public"]), "handshakesFailed"

    def test_strangers_reach_no_door(self):
        for door in self.fortress.doors:
            for what, peer, counter in self.strangers(door):
                with self.subTest(door=door, who=what):
                    self.assert_kept_out(peer, door, counter)
        self.assert_served()

    def test_a_refused_key_is_logged_with_its_address_and_no_secret(self):
        stranger = pair()
        self.fortress.peer(zmq.DEALER, "front", stranger, self.fortress.keys["control"]["server"]).close(500)
        socket_ = self.fortress.peer(zmq.DEALER, "front", stranger, self.fortress.keys["control"]["server"])
        line = wait_until(lambda: [line for line in self.fortress.logged("handshake.refused")
                                   if line["public_key"] == stranger["public"].decode()], 20, "the refusal is logged")[0]
        socket_.close(0)
        self.assertIn("127.0.0.1", line["peer"])
        self.assertEqual((line["level"], line["socket"]), ("warn", "front"))
        self.assertNotIn(stranger["secret"].decode(), str(self.fortress.log()))

    # ---- roles ----

    def test_each_key_passes_its_doors_only(self):
        for door, allowed in (("back", {"actor"}), ("events-in", {"actor"}),
                              ("events", {"control", "producer", "viewer", "actor"})):
            for key in KEYS:
                if key in allowed:
                    continue
                with self.subTest(door=door, key=key):
                    kind = {"back": zmq.DEALER, "events": zmq.SUB, "events-in": zmq.PUB}[door]
                    self.assert_kept_out(lambda: self.fortress.peer(kind, door, key), door, "handshakesRefused")

    def test_each_role_may_do_what_the_command_table_says(self):
        table = [  # command, body, who may
            ("drafter.list", {}, {"viewer", "producer", "control", "actor"}),
            ("broker.stats", {}, {"viewer", "producer", "control", "actor"}),
            ("drafter.submit", SUBMIT, {"producer", "control", "actor"}),
            ("drafter.pause", {"projectId": "roles"}, {"control"}),
            ("drafter.check", {}, {"control"}),
        ]
        for key in ("viewer", "producer", "control", "actor"):
            with Keyed(self.fortress, key) as peer:
                for command, body, may in table:
                    with self.subTest(key=key, command=command):
                        kind, answer = peer.ask(command, body)
                        if key in may:
                            self.assertEqual(kind, "reply", answer)
                        else:
                            self.assertEqual(answer.get("code"), "forbidden", answer)

    def test_a_limited_viewer_reads_its_sessions_and_nothing_else(self):
        with Keyed(self.fortress, "control") as control, Keyed(self.fortress, "limited") as limited:
            for session in ("own", "foreign"):
                self.assertEqual(control.ask("drafter.submit", {**SUBMIT, "sessionId": session})[0], "reply")
            for session in ("own", "other-own"):
                for command in ("drafter.events", "broker.last"):
                    self.assertEqual(limited.ask(command, {"sessionId": session})[0], "reply")
            for session in ("foreign", "ow", "own,other-own", "own\0", ""):
                for command in ("drafter.events", "broker.last"):
                    self.assertEqual(limited.refused(command, {"sessionId": session}), ("forbidden", "sessionId"))
            two = b"\x82\xa9sessionId\xa3own\xa9sessionId\xa7foreign"
            self.assertEqual(limited.refused("drafter.events", two), ("forbidden", "sessionId"))
            for command in ("drafter.list", "drafter.job", "drafter.document.get", "broker.services", "drafter.submit",
                            "drafter.health", "nobody.events.x"):
                self.assertEqual(limited.refused(command, {"sessionId": "own"})[0], "forbidden")

    def test_a_topic_scan_of_a_limited_viewer_brings_nothing(self):
        scans = []
        for topic in (b"", b"TOOL_PROGRESS/", b"TOOL_PROGRESS/own"):
            scan = self.fortress.peer(zmq.SUB, "events", "limited")
            scan.setsockopt(zmq.SUBSCRIBE, topic)
            scans.append(scan)
        good = self.fortress.peer(zmq.SUB, "events", "viewer")
        good.setsockopt(zmq.SUBSCRIBE, b"TOOL_PROGRESS/own")
        with Keyed(self.fortress, "producer") as producer:
            def seen():
                producer.ask("drafter.submit", SUBMIT)
                return received(good, 1)
            wait_until(seen, 30, "the good subscriber sees an event")
        self.assertEqual([scan.poll(200) for scan in scans], [0, 0, 0])
        for each in (*scans, good):
            each.close(0)

    # ---- pretending ----

    def test_a_chosen_identity_gives_no_rights_and_takes_none(self):
        with Keyed(self.fortress, "control") as control:
            self.assertEqual(control.ask("broker.version", {})[0], "reply")
            for identity in (b"control", self.fortress.keys["control"]["public"], b"\0" + b"\0\0\0\1", b"x" * 255):
                with Keyed(self.fortress, "viewer", ROUTING_ID=identity) as viewer:
                    request_id = viewer.send("drafter.pause", {})
                    if len(identity) < 16:
                        self.assertEqual(msgpack.unpackb(viewer.answer(request_id)[1])["code"], "forbidden")
            self.assertEqual(control.ask("broker.version", {})[0], "reply")

    def test_two_peers_of_one_identity_do_not_get_each_others_answers(self):
        with Keyed(self.fortress, "control", ROUTING_ID=b"twin") as first:
            mine = [first.send("drafter.list", {}) for _ in range(20)]
            with Keyed(self.fortress, "viewer", ROUTING_ID=b"twin") as second:
                for request_id in mine:
                    self.assertEqual(first.answer(request_id)[0], "reply")
                self.assertTrue(silent(second.socket, 0.2))
        # The same identity by Unix socket and by TCP are two peers as well.
        local = Raw(self.fortress)
        local.socket.close(0)
        local.socket = zmq.Context.instance().socket(zmq.DEALER)
        local.socket.setsockopt(zmq.ROUTING_ID, b"twice")
        local.socket.connect(self.fortress.endpoint("front"))
        with local, Keyed(self.fortress, "viewer", ROUTING_ID=b"twice") as remote:
            asked = local.send("broker.version", {}), remote.send("broker.version", {})
            self.assertEqual([local.answer(asked[0])[0], remote.answer(asked[1])[0]], ["reply", "reply"])

    def test_what_an_envelope_claims_is_not_believed(self):
        with Keyed(self.fortress, "viewer") as viewer:
            claims = {"service": "drafter", "epoch": 9, "instance": b"i" * 16, "role": "control", "from": "control"}
            self.assertEqual(viewer.refused("drafter.pause", {}, **claims)[0], "forbidden")
            for kind in ("reply", "send", "ready", "heartbeat", "leave", "ack", "register", "welcome"):
                more = {"service": "drafter", "epoch": 9, "instance": b"i" * 16, "credit": 1, "sequence": 1}
                envelope = {"v": 1, "kind": kind, "id": b"k" * 16, "command": "drafter.pause", **more}
                viewer.frames(msgpack.packb(envelope), b"\x80")
                self.assertEqual(msgpack.unpackb(viewer.answer()[1])["code"], "invalid")
        actor = self.fortress.peer(zmq.DEALER, "back", "actor")
        ready = {"v": 1, "kind": "ready", "service": "guest", "epoch": 1, "instance": b"g" * 16, "credit": 4}
        actor.send_multipart([msgpack.packb(ready), b"", b""])
        self.assertEqual(msgpack.unpackb(received(actor)[0])["kind"], "welcome")
        forged = {"v": 1, "kind": "send", "id": b"s" * 16, "command": "alerts.raise", "service": "drafter", "epoch": 1, "sequence": 1}
        actor.send_multipart([msgpack.packb(forged), b"", b"\x80"])
        answer = received(actor)
        self.assertEqual(msgpack.unpackb(answer[2])["code"], "forbidden")
        actor.close(0)

    def test_a_repeat_by_another_peer_needs_the_role_and_the_same_body(self):
        """Ids are remembered for the whole instance, whoever sends: who knows the id *and* the exact body may learn the answer."""
        request_id = uuid.uuid4()
        body = msgpack.packb({**SUBMIT, "projectId": "replay"})
        with Keyed(self.fortress, "producer") as first, Keyed(self.fortress, "control") as other, \
                Keyed(self.fortress, "viewer") as viewer:
            answer = first.answer(first.send("drafter.submit", body, request_id))
            self.assertEqual(answer[0], "reply")
            self.assertEqual(other.answer(other.send("drafter.submit", body, request_id)), answer)
            self.assertEqual(viewer.refused("drafter.submit", body, request_id=request_id)[0], "forbidden")
            changed = msgpack.packb({**SUBMIT, "projectId": "changed"})
            self.assertEqual(other.refused("drafter.submit", changed, request_id=request_id), ("conflict", "id"))
            self.assertEqual(len(other.ask("drafter.list", {"projectId": "replay"})[1]["jobs"]), 1)

    # ---- revoking ----

    def test_a_revoked_key_is_out_at_once_and_others_go_on(self):
        self.fortress.new_key("short-lived", "--role", "control")
        live = Keyed(self.fortress, "short-lived")
        subscriber = self.fortress.peer(zmq.SUB, "events", "short-lived")
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        stays = Keyed(self.fortress, "producer")
        with live, stays:
            self.assertEqual(live.ask("broker.version", {})[0], "reply")  # without a restart of the broker
            self.assertEqual(stays.ask("broker.version", {})[0], "reply")

            def seen():
                stays.ask("drafter.submit", SUBMIT)
                return received(subscriber, 1)
            wait_until(seen, 30, "the subscriber sees an event")
            self.fortress.stet("keys", "revoke", "short-lived")
            wait_until(lambda: [line for line in self.fortress.logged("keys.loaded") if "taken back" in line["message"]], 20,
                       "the broker has read the keys anew")
            wait_until(lambda: {line["socket"] for line in self.fortress.logged("handshake.refused")
                                if line["public_key"] == self.fortress.keys["short-lived"]["public"].decode()} ==
                       {"front", "events"}, 20, "its connections were cut and came back")
            while subscriber.poll(0):
                subscriber.recv_multipart()
            try:  # ZeroMQ gives a connection up whose key is refused
                live.socket.send_multipart(request("drafter.pause"), zmq.DONTWAIT)
            except zmq.Again:
                pass
            # Who has a good key is connected again by ZeroMQ, and repeats what was lost with the old connection.
            stays.socket.close(0)
            stays.socket = self.fortress.peer(zmq.DEALER, "front", "producer")
            self.assertEqual(stays.ask("drafter.submit", SUBMIT)[0], "reply")
            self.assertTrue(silent(live.socket, 0.5))
            self.assertEqual(stays.ask("drafter.queue", {"projectId": "p"})[1]["paused"], False)
            self.assertTrue(silent(subscriber, 0.5))
        subscriber.close(0)
        again = self.fortress.stet("keys", "revoke", "short-lived", check=False)
        self.assertEqual(again.returncode, 1)

    def test_a_connection_that_survives_is_made_anew_by_itself(self):
        self.fortress.new_key("bystander", "--role", "viewer")
        self.fortress.new_key("leaver", "--role", "viewer")
        with Keyed(self.fortress, "bystander") as peer:
            self.assertEqual(peer.ask("broker.version", {})[0], "reply")
            self.fortress.stet("keys", "revoke", "leaver")
            end = time.monotonic() + 20
            while True:  # as docs/protocol.md says: silence, then again with the same id
                request_id = peer.send("broker.version", {})
                try:
                    self.assertEqual(peer.answer(request_id, seconds=1)[0], "reply")
                    break
                except AssertionError:
                    self.assertLess(time.monotonic(), end, "the connection did not come back")


class CommandLineTest(unittest.TestCase):
    def test_the_broker_listens_beyond_loopback_with_keys_only(self):
        with Fortress(KEYS, config="") as fortress:
            fortress.stet("down")
            for setting in ("listen", "events"):
                with open(fortress.config, "w", encoding="utf-8") as file:
                    file.write(f'broker\n    {setting} = "tcp://0.0.0.0:*"\n    keys = "/nonexistent/keys"\n')
                refused = fortress.stet("up", "--detach", "--sandbox", "--config", fortress.config, check=False)
                self.assertNotEqual(refused.returncode, 0)
                wait_until(lambda: any("stet keys new" in str(line) for line in fortress.log()), 20, "it says why")
                fortress.stet("down", check=False)

    def test_keys_are_made_listed_and_taken_back(self):
        with Fortress({"app": ("--role", "producer")}, config="") as fortress:
            stet = fortress.stet
            secret = fortress.keys["app"]["secret"].decode()
            for arguments in (("keys", "list"), ("keys", "list", "--json"), ("config",), ("doctor",), ("status", "--json")):
                self.assertNotIn(secret, stet(*arguments, check=False).stdout)
            self.assertEqual(os.stat(fortress.path("app")).st_mode & 0o7777, 0o600)
            self.assertEqual(os.stat(os.path.join(fortress.data, "keys")).st_mode & 0o7777, 0o700)
            for name in os.listdir(os.path.join(fortress.data, "keys")):
                self.assertEqual(os.stat(os.path.join(fortress.data, "keys", name)).st_mode & 0o7777, 0o600, name)
            printed = stet("keys", "new", "piped", "--role", "viewer", "--out", "-").stdout
            self.assertIn('secret = "', printed)
            for bad in (("new", "app", "--role", "viewer"), ("new", "x"), ("new", "x", "--role", "king"),
                        ("new", "../x", "--role", "viewer"), ("new", "x", "--role", "control", "--sessions", "s"),
                        ("revoke", "nobody")):
                done = stet("keys", *bad, "--out", fortress.path("bad"), check=False) if bad[0] == "new" else \
                    stet("keys", *bad, check=False)
                self.assertNotEqual(done.returncode, 0, bad)
                self.assertFalse(os.path.exists(fortress.path("bad")), bad)

    def test_stet_itself_shows_a_key(self):
        with Fortress({"app": ("--role", "producer")}, config="") as fortress:
            remote = {**fortress.environment, "STET_FRONT": fortress.doors["front"], "STET_EVENTS": fortress.doors["events"],
                      "STET_KEY_FILE": fortress.path("app")}
            fortress.environment, local = remote, fortress.environment
            self.assertEqual(fortress.stet("queue", "p").returncode, 0)
            self.assertIn("forbidden", fortress.stet("drain", check=False).stderr)
            self.assertIn("done", fortress.stet("draft", "--project", "p", "--session", "s", "--instruction", "x", "--wait").stdout)
            fortress.environment = {**remote, "STET_SERVER_KEY": pair()["public"].decode()}
            done = fortress.stet("call", "broker.version", "--timeout", "1", check=False)
            self.assertEqual(done.returncode, 3)
            self.assertIn("key", done.stderr)
            os.chmod(fortress.path("app"), 0o644)
            fortress.environment = remote
            self.assertIn("chmod 600", fortress.stet("queue", "p", check=False).stderr)
            fortress.environment = local


if __name__ == "__main__":
    unittest.main()
