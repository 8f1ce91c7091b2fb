"""An actor in Python on the back socket, as docs/protocol.md describes one: registration, requests, epochs, channels."""

import time
import unittest
import uuid

import msgpack

from speak import SECONDS, Actor, Raw, front_of
from client import Client
from lab import Instance, wait_until


class ActorTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance()
        cls.instance.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.instance.__exit__(None, None, None)

    def setUp(self):
        self.raw = Raw(self.instance)
        self.service = "echo-" + uuid.uuid4().hex[:8]

    def tearDown(self):
        self.raw.socket.close(0)

    def code(self, request_id):
        kind, body = self.raw.answer(request_id)
        self.assertEqual(kind, "error", msgpack.unpackb(body))
        return msgpack.unpackb(body)["code"]

    def test_a_registered_actor_gets_requests_with_a_route_and_its_answers_arrive(self):
        with Actor(self.instance, self.service) as actor:
            welcome = actor.register()
            self.assertEqual((welcome["service"], welcome["epoch"]), (self.service, 1))
            self.assertEqual(len(welcome["instance"]), 16)
            body = msgpack.packb({"any": ["thing", 1.5, None]})
            sent = self.raw.send(self.service + ".ping", body, key="k", extra="kept")
            request, route, got = actor.hear("request")
            self.assertEqual((request["id"], request["command"], request["key"]), (sent.bytes, self.service + ".ping", "k"))
            self.assertEqual(request["extra"], "kept")  # the envelope as it was sent
            self.assertEqual(got, body)
            _, role, slot, partition, remaining = msgpack.unpackb(route)
            fnv = 0xcbf29ce484222325
            for byte in b"k":
                fnv = (fnv ^ byte) * 0x100000001b3 % (1 << 64)
            self.assertEqual((role, slot, partition), ("control", fnv % 1024, 0))
            self.assertTrue(9000 < remaining <= 10000)
            actor.reply(request, route, {"pong": 1})
            self.assertEqual(self.raw.answer(sent), ("reply", msgpack.packb({"pong": 1})))
            sent = self.raw.send(self.service + ".ping", body)
            request, route, _ = actor.hear("request")
            actor.say("error", route, msgpack.packb({"code": "paused", "message": "resume first"}), id=request["id"])
            self.assertEqual(self.code(sent), "paused")

    def test_answers_may_come_in_any_order_and_no_more_than_the_credit_is_outstanding(self):
        with Actor(self.instance, self.service, credit=3) as actor:
            actor.register()
            sent = [self.raw.send(self.service + ".n", {"n": n}) for n in range(5)]
            taken = [actor.hear("request") for _ in range(3)]
            with self.assertRaises(AssertionError):
                actor.hear("request", seconds=0.5)
            for request, route, body in reversed(taken):
                actor.reply(request, route, msgpack.unpackb(body))
            for _ in range(2):
                request, route, body = actor.hear("request")
                actor.reply(request, route, msgpack.unpackb(body))
            answers = [msgpack.unpackb(self.raw.answer()[1])["n"] for _ in sent]
            self.assertEqual(answers, [2, 1, 0, 3, 4])

    def test_a_heartbeat_is_answered_and_from_a_stranger_with_register(self):
        with Actor(self.instance, self.service) as actor:
            actor.heartbeat()
            self.assertEqual(len(actor.hear("register")[0].get("instance", b"")), 16)
            welcome = actor.register()
            actor.heartbeat()
            self.assertEqual(actor.hear("heartbeat")[0]["instance"], welcome["instance"])

    def test_an_actor_that_falls_silent_is_away_and_its_requests_unavailable(self):
        with Actor(self.instance, self.service) as actor:
            actor.register()
            sent = self.raw.send(self.service + ".ping", {})
            actor.hear("request")
            began = time.monotonic()
            self.assertEqual(self.code(sent), "unavailable")
            self.assertGreater(time.monotonic() - began, 2 * actor.interval / 1000)
            self.assertEqual(self.code(self.raw.send(self.service + ".ping", {})), "unavailable")
            actor.heartbeat()
            actor.hear("register")
            actor.register()
            self.raw.send(self.service + ".ping", {})
            actor.hear("request")

    def test_a_higher_epoch_takes_over_and_a_lower_one_is_refused(self):
        with Actor(self.instance, self.service, epoch=2) as old, Actor(self.instance, self.service, epoch=3) as new:
            old.register()
            sent = self.raw.send(self.service + ".ping", {})
            old.hear("request")
            self.assertEqual(new.register()["epoch"], 3)
            self.assertEqual(self.code(sent), "unavailable")
            old.ready()
            _, _, body = old.hear("error")
            self.assertEqual(msgpack.unpackb(body)["code"], "conflict")
            self.raw.send(self.service + ".ping", {})
            new.hear("request")

    def test_an_actor_that_leaves_answers_what_it_has_and_gets_nothing_new(self):
        with Actor(self.instance, self.service) as actor:
            actor.register()
            sent = self.raw.send(self.service + ".ping", {})
            request, route, _ = actor.hear("request")
            actor.say("leave", **actor.identity())

            def leaving():
                services = msgpack.unpackb(self.raw.answer(self.raw.send("broker.services", {}))[1])["services"]
                return "leaving" in [service["state"] for service in services if service["name"] == self.service]

            wait_until(leaving, SECONDS, "the broker knows that it leaves")
            self.assertEqual(self.code(self.raw.send(self.service + ".ping", {})), "unavailable")
            actor.reply(request, route, {"late": True})
            self.assertEqual(self.raw.answer(sent)[0], "reply")

    def test_malformed_messages_on_the_back_socket_hurt_nobody(self):
        with Actor(self.instance, self.service) as actor:
            actor.register()
            good = msgpack.packb({"v": 1, "kind": "reply", "id": uuid.uuid4().bytes})
            for frames in ([b""], [good], [good, b""], [good, b"", b"", b""], [b"garbage", b"", b""], [good, b"\xc1", b""],
                           [good, msgpack.packb([7, "control", 0, 0, 1]), b"\x80"], [b"x"] * 200):
                actor.socket.send_multipart(frames)
            self.raw.send(self.service + ".ping", {})
            actor.hear("request")

    def test_a_send_under_another_name_is_forbidden_and_to_nobody_unavailable(self):
        with Actor(self.instance, self.service) as actor:
            actor.register()
            keys = {"id": uuid.uuid4().bytes, "command": "drafter.submit", "epoch": 1, "sequence": 1}
            actor.say("send", body=b"\x80", service="metrics", **keys)
            envelope, _, body = actor.hear("error")
            self.assertEqual((envelope["id"], envelope["command"]), (keys["id"], "drafter.submit"))
            self.assertEqual(msgpack.unpackb(body)["code"], "forbidden")
            actor.say("send", body=b"\x80", service=self.service, **{**keys, "command": "alerts.raise"})
            envelope, _, body = actor.hear("error")
            self.assertEqual((envelope["command"], msgpack.unpackb(body)["code"]), ("alerts.raise", "unavailable"))

    def test_a_channel_to_the_drafter_applies_each_number_once_and_in_order(self):
        project, session = "p-" + self.service, "s-" + self.service

        def send(actor, sequence, body):
            request_id = uuid.uuid4().bytes
            actor.say("send", body=msgpack.packb(body), id=request_id, command="drafter.submit", service=self.service,
                      epoch=1, sequence=sequence)
            envelope, _, _ = actor.hear("ack", "error")
            self.assertEqual((envelope["kind"], envelope["id"], envelope["service"]), ("ack", request_id, "drafter"))
            return envelope.get("sequence", 0)

        with Actor(self.instance, self.service) as actor, Client(front_of(self.instance)) as client:
            actor.register()
            body = {"projectId": project, "sessionId": session, "instruction": "from another actor"}
            self.assertEqual(send(actor, 2, body), 0)  # a gap: nothing is applied
            self.assertEqual(send(actor, 1, body), 1)
            self.assertEqual(send(actor, 1, body), 1)
            self.assertEqual(send(actor, 2, {"projectId": project}), 2)  # refused for good, and acknowledged
            self.assertEqual(send(actor, 4, body), 2)
            self.assertEqual(send(actor, 3, body), 3)
            self.assertEqual(len(client.request("drafter.list", {"projectId": project})["jobs"]), 2)

    def test_the_drafters_outbox_is_numbered_without_gap_and_resent_until_acknowledged(self):
        with Client(front_of(self.instance)) as client, Actor(self.instance, "metrics") as actor:
            client.request("drafter.submit", {"projectId": self.service, "sessionId": self.service, "instruction": "measure"})
            actor.register()
            envelope, _, body = actor.hear("send")
            self.assertEqual((envelope["command"], envelope["service"], envelope["sequence"]), ("metrics.record", "drafter", 1))
            self.assertIn("name", msgpack.unpackb(body))
            mark, resent = 0, False
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not (resent and mark >= 2):
                envelope, route, _ = actor.hear("send")
                if envelope["sequence"] == 1 and not resent:
                    resent = True  # the first was not acknowledged and came again
                if envelope["sequence"] == mark + 1 and resent:
                    mark += 1
                if resent:
                    actor.say("ack", route, id=envelope["id"], command=envelope["command"], service="metrics", epoch=1,
                              **({"sequence": mark} if mark else {}))
            self.assertGreaterEqual(mark, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
