"""Events as docs/protocol.md describes them: live without gaps, the same bytes as stored, catch-up, last events."""

import json
import unittest
import uuid

import zmq

from speak import SECONDS, received, socket_of
from client import Client
from lab import Instance, wait_until
from subscriber import PREFIX, TOPIC, Subscriber

KEYS = ["seq", "sessionId", "projectId", "jobId", "actor", "kind", "status", "attempt", "progress", "message", "at"]


class EventTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance("drafter\n    progressEvery = 10ms\n")
        cls.instance.__enter__()
        cls.front, cls.events = cls.instance.endpoint("front"), cls.instance.endpoint("events")

    @classmethod
    def tearDownClass(cls):
        cls.instance.__exit__(None, None, None)

    def setUp(self):
        self.client = Client(self.front)
        self.session = f"{uuid.uuid4().hex[:8]}"

    def tearDown(self):
        self.client.close()

    def submit(self, session=None, **more):
        return self.client.request("drafter.submit", {"projectId": f"p-{session or self.session}", "sessionId": session or self.session,
                                                      "instruction": "Write a greeting.", **more})["jobId"]

    def stored(self, session=None):
        texts, more = [], True
        while more:
            page = self.client.request("drafter.events", {"sessionId": session or self.session, "limit": 2,
                                                          "afterSeq": json.loads(texts[-1])["seq"] if texts else 0})
            texts += page["events"]
            more = page["more"]
        return [text.encode() for text in texts]

    def ended(self, session=None):
        texts = self.stored(session)
        return texts if texts and json.loads(texts[-1])["status"] == "done" else None

    def listen(self, topic):
        """A raw SUB that is live for the topic: an event of a marker session below it has come through."""
        socket = socket_of(zmq.SUB, self.events)
        socket.setsockopt(zmq.SUBSCRIBE, topic)
        marker = topic[len(TOPIC):].decode() + "-marker-" + uuid.uuid4().hex[:8]

        def live():
            self.submit(marker)
            return received(socket, 0.2)

        wait_until(live, SECONDS, "the subscription is live")
        wait_until(lambda: self.ended(marker), SECONDS, "the marker's draft is done")
        return socket

    @staticmethod
    def heard(socket, topic, until="done"):
        """The texts of one topic until a status comes."""
        texts = []
        while not texts or json.loads(texts[-1])["status"] != until:
            frames = received(socket)
            if frames is None:
                raise AssertionError(f"no more events after {texts}")
            if frames[0] == topic:
                if len(frames) != 2 or not frames[1].startswith(PREFIX):
                    raise AssertionError(f"not an event: {frames}")
                texts.append(frames[1][len(PREFIX):])
        return texts

    def test_live_events_have_no_gap_and_are_the_bytes_that_are_stored(self):
        socket = self.listen(TOPIC + self.session.encode())
        self.instance.http("POST", "/sandbox/pace", {"delayMs": 0, "tokenDelayMs": 20})
        job = self.submit()
        texts = self.heard(socket, TOPIC + self.session.encode())
        socket.close(0)
        self.instance.http("POST", "/sandbox/pace", {"delayMs": 0, "tokenDelayMs": 0})
        self.assertEqual(texts, self.stored())
        events = [json.loads(text) for text in texts]
        self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
        statuses = [event["status"] for event in events]
        self.assertEqual(statuses[:2] + statuses[-1:], ["queued", "active", "done"])
        self.assertEqual(set(statuses[2:-1]), {"progress"})
        for text, event in zip(texts, events):
            self.assertEqual(list(event)[:len(KEYS)], KEYS)
            self.assertEqual((event["jobId"], event["actor"], event["kind"]), (job, "drafter", "draft"))
            self.assertTrue(0 <= event["progress"] <= 1)
            self.assertNotIn(b"\n", text)

    def test_a_subscription_is_a_prefix(self):
        socket = self.listen(TOPIC + self.session.encode())
        self.submit(self.session + "0")
        self.assertTrue(self.heard(socket, TOPIC + self.session.encode() + b"0"))
        socket.close(0)

    def test_a_late_subscriber_gets_the_last_event_and_reads_the_rest(self):
        self.submit()
        texts = wait_until(self.ended, SECONDS, "the draft is done")
        socket = socket_of(zmq.SUB, self.events)
        socket.setsockopt(zmq.SUBSCRIBE, TOPIC + self.session.encode())
        self.assertEqual(received(socket), [TOPIC + self.session.encode(), PREFIX + texts[-1]])
        socket.close(0)
        self.assertEqual(self.client.request("broker.last", {"sessionId": self.session})["events"], [texts[-1].decode()])
        self.assertEqual(self.client.request("broker.last", {"sessionId": "nobody"})["events"], [])

    def test_pages_of_events_join_without_gap(self):
        self.submit()
        texts = wait_until(self.ended, SECONDS, "the draft is done")
        page = self.client.request("drafter.events", {"sessionId": self.session, "limit": 1})
        self.assertEqual((page["events"], page["lastSeq"], page["more"]), ([texts[0].decode()], 1, True))
        page = self.client.request("drafter.events", {"sessionId": self.session, "afterSeq": len(texts)})
        self.assertEqual((page["events"], page["lastSeq"], page["more"]), ([], len(texts), False))
        page = self.client.request("drafter.events", {"sessionId": "nobody"})
        self.assertEqual((page["events"], page["lastSeq"], page["more"]), ([], 0, False))

    def take(self, subscriber, until):
        texts = []
        while sum(json.loads(text)["status"] == "done" for text in texts) < until:
            text = subscriber.next_event(timeout=SECONDS)
            self.assertIsNotNone(text, texts)
            texts.append(text)
        return texts

    def test_the_example_subscriber_catches_up_from_any_number(self):
        self.submit()
        texts = wait_until(self.ended, SECONDS, "the draft is done")
        for after in (0, 1, 2, len(texts) - 1):
            with Subscriber(self.client, self.events, self.session, after=after) as subscriber:
                self.assertEqual(self.take(subscriber, 1), texts[after:])
        with Subscriber(self.client, self.events, self.session, after=len(texts)) as subscriber:
            self.assertIsNone(subscriber.next_event(timeout=0.3))
            self.submit()
            self.assertEqual(self.take(subscriber, 1), wait_until(self.ended, SECONDS, "done")[len(texts):])

    def test_the_example_subscriber_misses_nothing_when_broker_and_drafter_are_killed(self):
        with Subscriber(self.client, self.events, self.session) as subscriber:
            texts = []
            for round_, name in enumerate(("broker", "drafter", "broker")):
                self.submit(instruction=f"round {round_}")
                self.instance.kill(name)
                texts += self.take(subscriber, 1)
            self.assertIsNone(subscriber.next_event(timeout=0.6))
        self.assertEqual(texts, self.stored())
        self.assertEqual([json.loads(text)["seq"] for text in texts], list(range(1, len(texts) + 1)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
