"""Requests as docs/protocol.md describes them, against a running instance: answers, repeats, every reachable refusal,
malformed frames."""

import os
import signal
import unittest
import uuid

import msgpack

from speak import Raw, SECONDS, nested
from client import Client, Refused
from lab import Instance, wait_until

SUBMIT = {"projectId": "p", "sessionId": "s", "instruction": "Write a greeting."}


def item(number, **more):
    return {"id": f"i{number}", "role": "user", "text": "hello", "timestamp": "2026-11-25T22:38:36.123Z", **more}


class RequestTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance()
        cls.instance.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.instance.__exit__(None, None, None)

    def setUp(self):
        self.raw = Raw(self.instance)
        self.client = Client(self.instance.endpoint("front"))
        self.project = f"{self.id().rsplit('.', 1)[1]}-{uuid.uuid4().hex[:8]}"

    def tearDown(self):
        self.raw.socket.close(0)
        self.client.close()

    def submit_body(self, **more):
        return {**SUBMIT, "projectId": self.project, **more}

    def jobs(self):
        return self.client.request("drafter.list", {"projectId": self.project})["jobs"]

    def assert_refused(self, answer, code, field=None):
        kind, body = answer
        self.assertEqual((kind, body.get("code")), ("error", code), body)
        self.assertTrue(body["message"])
        if field is not None:
            self.assertEqual(body.get("field"), field)
        return body

    def assert_serves(self):
        kind, body = self.raw.ask("broker.version", {})
        self.assertEqual((kind, body["wire"]), ("reply", 1))

    # ---- answers ----

    def test_a_submitted_draft_is_done_and_in_the_document(self):
        job = self.client.request("drafter.submit", self.submit_body())
        self.assertIn(job["status"], ("queued", "active"))

        def ended():
            found = self.client.request("drafter.job", {"jobId": job["jobId"]})
            found = found.get("job", found)
            return found if found["status"] in ("done", "error") else None

        self.assertEqual(wait_until(ended, SECONDS, "the draft ends")["status"], "done")
        self.assertEqual(self.client.request("drafter.document.get", {"projectId": self.project})["version"], 1)

    def test_an_empty_body_frame_counts_as_an_empty_map(self):
        for command in ("broker.stats", "broker.health", "drafter.stats", "drafter.health", "drafter.list"):
            self.assertEqual(self.raw.ask(command, b"")[0], "reply", command)
        self.assert_refused(self.raw.ask("drafter.job", b""), "invalid", "jobId")

    def test_answers_are_matched_by_id_over_many_requests_at_once(self):
        waiting = {self.raw.send("drafter.document.put" if i % 3 == 0 else "broker.version",
                                 {"projectId": f"{self.project}-{i}", "baseVersion": 0, "markdown": str(i)} if i % 3 == 0
                                 else {}).bytes: i for i in range(300)}
        while waiting:
            envelope, body = self.raw.socket.recv_multipart() if self.raw.socket.poll(SECONDS * 1000) else (None, None)
            self.assertIsNotNone(envelope, f"{len(waiting)} answers are missing")
            envelope = msgpack.unpackb(envelope)
            self.assertEqual(envelope["kind"], "reply")
            number = waiting.pop(envelope["id"])
            self.assertIn("version", msgpack.unpackb(body), number)

    def test_unknown_envelope_keys_are_ignored(self):
        kind, _ = self.raw.ask("broker.version", {}, traceparent="00-abc-def-01", baggage={"a": 1}, hops=[1, 2])
        self.assertEqual(kind, "reply")

    # ---- repeats ----

    def test_a_repeat_with_the_same_id_gets_the_same_bytes_and_makes_one_job(self):
        body = msgpack.packb(self.submit_body())
        request_id = uuid.uuid4()
        answers = {self.raw.answer(self.raw.send("drafter.submit", body, request_id)) for _ in range(5)}
        self.assertEqual(len(answers), 1)
        self.assertEqual(answers.pop()[0], "reply")
        self.assertEqual(len(self.jobs()), 1)

    def test_copies_sent_at_once_make_one_job(self):
        body = msgpack.packb(self.submit_body())
        request_id = uuid.uuid4()
        for _ in range(20):
            self.raw.send("drafter.submit", body, request_id)
        self.assertEqual(len({self.raw.answer(request_id) for _ in range(20)}), 1)
        self.assertEqual(len(self.jobs()), 1)

    def test_a_repeat_after_the_drafter_was_killed_gets_the_same_bytes(self):
        body = msgpack.packb(self.submit_body(instruction="survive"))
        request_id = uuid.uuid4()
        first = self.client.request_bytes("drafter.submit", body, request_id=request_id)
        self.instance.kill("drafter")
        self.assertEqual(self.client.request_bytes("drafter.submit", body, request_id=request_id), first)
        self.assertEqual(len(self.jobs()), 1)

    def test_the_same_id_for_something_else_is_a_conflict(self):
        request_id = uuid.uuid4()
        self.assertEqual(self.raw.ask("drafter.submit", self.submit_body(), request_id)[0], "reply")
        self.assert_refused(self.raw.ask("drafter.submit", self.submit_body(instruction="other"), request_id), "conflict", "id")
        self.assert_refused(self.raw.ask("drafter.pause", {"projectId": self.project}, request_id), "conflict", "id")
        self.assertEqual(len(self.jobs()), 1)

    def test_a_refusal_is_not_remembered(self):
        request_id = uuid.uuid4()
        self.assert_refused(self.raw.ask("drafter.submit", {"projectId": self.project}, request_id), "invalid", "sessionId")
        self.assertEqual(self.raw.ask("drafter.submit", self.submit_body(), request_id)[0], "reply")

    # ---- refusals ----

    def test_invalid_names_the_path_of_the_field(self):
        append = "drafter.transcript.append"
        rows = [("drafter.submit", {**SUBMIT, "projectId": ""}, "projectId"),
                ("drafter.submit", {**SUBMIT, "projectId": "x" * 129}, "projectId"),
                ("drafter.submit", {**SUBMIT, "projectId": 7}, "projectId"),
                ("drafter.submit", {**SUBMIT, "projectId": None}, "projectId"),
                ("drafter.submit", {**SUBMIT, "priority": 10}, "priority"),
                ("drafter.submit", {**SUBMIT, "priority": -1}, "priority"),
                ("drafter.submit", {**SUBMIT, "priority": 5.0}, "priority"),
                ("drafter.submit", {**SUBMIT, "runAt": "tomorrow"}, "runAt"),
                ("drafter.submit", {**SUBMIT, "messagePointers": ["a", ""]}, "messagePointers[1]"),
                ("drafter.submit", {**SUBMIT, "messagePointers": "a"}, "messagePointers"),
                ("drafter.submit", {**SUBMIT, "Instruction": "x"}, "Instruction"),
                ("drafter.job", {"jobId": "no"}, "jobId"),
                ("drafter.list", {"status": "lost"}, "status"),
                (append, {"projectId": "p", "items": []}, "items"),
                (append, {"projectId": "p", "items": [item(1), item(2, id="")]}, "items[1].id"),
                (append, {"projectId": "p", "items": [item(1), item(2), item(3, extra=1)]}, "items[2].extra"),
                (append, {"projectId": "p", "items": [item(1), 2]}, "items[1]"),
                ("broker.last", {}, "sessionId"),
                ("broker.last", {"sessionId": "s", "x": 1}, "x")]
        for command, body, field in rows:
            self.assert_refused(self.raw.ask(command, body), "invalid", field)

    def test_a_body_that_is_no_plain_map_is_invalid(self):
        ext = msgpack.packb({"promptContext": msgpack.ExtType(1, b"x")})
        rows = [b"\xc0", b"\x90", b"\xa1x", b"\xc1", b"\x81", b"\x81\xa1a", b"\x80\x80", b"\x81\x01\x02", ext,
                b"\x82\xa1a\x01\xa1a\x02", b"\x81\xa9projectId\xa1\xff", b"\xdf\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff",
                nested(16), nested(100000), msgpack.packb({"promptContext": [0] * 70000})]
        for body in rows:
            self.assert_refused(self.raw.ask("drafter.submit", body), "invalid")
            self.assert_refused(self.raw.ask("broker.version", body), "invalid")
        self.assert_refused(self.raw.ask("drafter.submit", nested(15)), "invalid", "projectId")  # the depth alone is fine

    def test_what_is_not_there_is_not_found(self):
        rows = [("nobody.hears", {}), ("drafter.nothing", {}), ("drafter.", {}), ("broker.nothing", {}),
                ("drafter.job", {"jobId": str(uuid.uuid4())}), ("drafter.cancel", {"jobId": str(uuid.uuid4())})]
        for command, body in rows:
            self.assert_refused(self.raw.ask(command, body), "not_found")

    def test_a_stale_base_version_is_a_conflict(self):
        put = {"projectId": self.project, "baseVersion": 0, "markdown": "one"}
        self.assertEqual(self.raw.ask("drafter.document.put", put)[1]["version"], 1)
        body = self.assert_refused(self.raw.ask("drafter.document.put", {**put, "markdown": "two"}), "conflict")
        self.assertEqual(body["details"]["currentVersion"], 1)

    def test_a_body_over_a_mebibyte_is_too_large(self):
        body = self.assert_refused(self.raw.ask("drafter.submit", msgpack.packb({"x": "y" * (1 << 20)})), "too_large")
        self.assertNotIn("retryAfterMs", body)
        self.assert_refused(self.raw.ask("broker.version", msgpack.packb({"x": "y" * (1 << 20)})), "too_large")
        self.assert_serves()

    def test_a_frame_over_two_mebibytes_costs_its_sender_the_connection_and_nobody_else(self):
        with Raw(self.instance) as other:
            other.send("broker.version", b"\x00" * ((2 << 20) + 1))
            self.assert_serves()
            request = other.send("broker.version", {})
            wait_until(lambda: other.socket.poll(100) or other.send("broker.version", {}, request) is None, SECONDS,
                       "the connection is made again")

    def test_a_known_service_that_does_not_run_is_unavailable(self):
        body = self.assert_refused(self.raw.ask("metrics.record", {}), "unavailable")
        self.assertGreater(body["retryAfterMs"], 0)

    def test_a_stopped_drafter_is_a_timeout_then_unavailable_and_nothing_is_lost_or_done_twice(self):
        body = msgpack.packb(self.submit_body())
        first, second = uuid.uuid4(), uuid.uuid4()
        pid = self.instance.kill("drafter", signal.SIGSTOP)
        try:
            sent = self.raw.send("drafter.submit", body, first, timeoutMs=200)
            kind, answer = self.raw.answer(sent)
            self.assert_refused((kind, msgpack.unpackb(answer)), "timeout")

            def away():
                code = self.raw.ask("drafter.submit", body, second, timeoutMs=100)[1]["code"]
                return code == "unavailable"

            wait_until(away, SECONDS, "the broker takes the stopped drafter for away")
        finally:
            os.kill(pid, signal.SIGCONT)
        self.client.request_bytes("drafter.submit", body, request_id=first)
        self.client.request_bytes("drafter.submit", body, request_id=second)
        self.assertEqual(len(self.jobs()), 2)

    def test_the_example_client_goes_on_when_broker_and_drafter_are_killed(self):
        for name in ("broker", "drafter"):
            self.instance.kill(name)
            self.assertIn("jobId", self.client.request("drafter.submit", self.submit_body(instruction=name)))
        self.assertEqual(len(self.jobs()), 2)
        with self.assertRaises(Refused) as caught:
            self.client.request("drafter.job", {"jobId": "x"})
        self.assertEqual((caught.exception.code, caught.exception.field), ("invalid", "jobId"))

    # ---- malformed ----

    def test_a_wrong_number_of_frames_is_dropped(self):
        envelope = msgpack.packb({"v": 1, "kind": "request", "id": uuid.uuid4().bytes, "command": "broker.version"})
        before = self.client.request("broker.stats")["counters"]["malformedFront"]
        shapes = [[b""], [envelope], [envelope, b"\x80", b""], [envelope] + [b"\x80"] * 4, [b""] * 5, [b"x"] * 500]
        for frames in shapes:
            self.raw.frames(*frames)
        self.assert_serves()
        self.assertEqual(self.client.request("broker.stats")["counters"]["malformedFront"], before + len(shapes))

    def test_an_envelope_that_cannot_be_read_is_dropped(self):
        good = {"v": 1, "kind": "request", "id": uuid.uuid4().bytes, "command": "broker.version"}
        shapes = [b"", b"garbage", b"\xc1", b"\x80", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 1000, os.urandom(1000),
                  msgpack.packb({**good, "id": b"short"}), msgpack.packb({**good, "id": bytes(16)}),
                  msgpack.packb({**good, "id": str(uuid.uuid4())}), msgpack.packb({**good, "x": "y" * 1024})]
        for envelope in shapes:
            self.raw.frames(envelope, b"\x80")
        self.assertIsNone(self.raw.socket.poll(200) or None)
        self.assert_serves()

    def test_a_malformed_envelope_with_an_id_is_answered_invalid(self):
        rows = [({"v": 2}, "v"), ({"v": "1"}, "v"), ({"kind": "reply"}, "kind"), ({"kind": "nothing"}, "kind"),
                ({"kind": "ready"}, None), ({"command": "x" * 65}, "command"), ({"command": "a b"}, "command"),
                ({"command": ""}, "command"), ({"command": "broker"}, "command"), ({"key": "x" * 257}, "key"),
                ({"timeoutMs": -1}, "timeoutMs"), ({"timeoutMs": 1 << 32}, "timeoutMs"), ({"partition": 1024}, "partition"),
                ({"deep": [[[1]]]}, None)]
        for change, field in rows:
            self.assert_refused(self.raw.ask(change.pop("command", "broker.version"), {}, **change), "invalid", field)
        self.assert_serves()


class BusyTest(unittest.TestCase):
    def test_what_does_not_fit_is_busy_and_what_was_taken_is_answered(self):
        config = "actor\n    credit = 4\nbroker\n    queueMax = 8\n"
        with Instance(config) as instance, Raw(instance) as raw:
            pid = instance.kill("drafter", signal.SIGSTOP)
            try:
                sent = [raw.send("drafter.submit", {**SUBMIT, "instruction": str(i)}, timeoutMs=30000) for i in range(30)]
                refused = set()
                while len(refused) < 30 - 4 - 4:  # the credit, and half of the queue for one connection
                    kind, body = raw.answer()
                    body = msgpack.unpackb(body)
                    self.assertEqual((kind, body["code"]), ("error", "busy"), body)
                    self.assertGreater(body["retryAfterMs"], 0)
                    refused.add(len(refused))
            finally:
                os.kill(pid, signal.SIGCONT)
            with Client(instance.endpoint("front")) as client:
                for number, request_id in enumerate(sent):
                    client.request("drafter.submit", {**SUBMIT, "instruction": str(number)}, request_id=request_id)
                self.assertEqual(len(client.request("drafter.list", {"projectId": "p", "limit": 100})["jobs"]), 30)


if __name__ == "__main__":
    unittest.main(verbosity=2)
