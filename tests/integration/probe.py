"""The probe, the actor that others are modelled on: values that stay, jobs with their events, and the commands every actor has."""

import json
import os
import sys
import unittest
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import Instance, Refused, wait_until  # noqa: E402


class ProbeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance(config='supervisor\n    actors = "probe"\n', sandbox=False)
        cls.instance.__enter__()
        cls.client = cls.instance.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.instance.__exit__(None, None, None)

    def events(self, session):
        return [json.loads(text) for text in self.client.ask("probe.events", {"sessionId": session, "afterSeq": 0})["events"]]

    def statuses(self, session):
        return [event["status"] for event in self.events(session)]

    def test_any_value_is_kept_and_replaced_under_its_key(self):
        for value in ({"a": [1, None, "ä"]}, [], 7, "text", True):
            self.client.ask("probe.put", {"key": "k", "value": value})
            self.assertEqual(self.client.ask("probe.get", {"key": "k"})["value"], value)
        shown = [json.loads(line) for line in self.instance.stet("inspect", "probe", "values").stdout.splitlines()]
        self.assertIn({"key": ["values", "k"], "value": True}, shown)

    def test_a_key_without_a_value_is_not_found_and_named(self):
        with self.assertRaises(Refused) as refused:
            self.client.ask("probe.get", {"key": "nothing"})
        self.assertEqual((refused.exception.code, refused.exception.body["field"]), ("not_found", "key"))

    def test_the_same_request_again_has_no_second_effect(self):
        request_id = uuid.uuid4()
        first = self.client.ask("probe.job", {"sessionId": "same"}, request_id=request_id, raw=True)
        self.assertEqual(self.client.ask("probe.job", {"sessionId": "same"}, request_id=request_id, raw=True), first)
        wait_until(lambda: "done" in self.statuses("same"), 60, "the job is done")
        self.assertEqual(self.statuses("same").count("queued"), 1)
        with self.assertRaises(Refused) as refused:
            self.client.ask("probe.job", {"sessionId": "other"}, request_id=request_id)
        self.assertEqual(refused.exception.code, "conflict")

    def test_jobs_of_one_key_are_done_one_after_the_other_each_with_its_events(self):
        jobs = [self.client.ask("probe.job", {"sessionId": "jobs", "key": "one", "payload": {"n": n}})["jobId"] for n in range(5)]
        wait_until(lambda: self.statuses("jobs").count("done") == 5, 60, "all are done")
        events = self.events("jobs")
        self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
        self.assertEqual([event["jobId"] for event in events if event["status"] == "done"], jobs)
        for job in jobs:
            own = [event["status"] for event in events if event["jobId"] == job]
            self.assertEqual((own[0], own[-1]), ("queued", "done"))

    def test_a_payload_that_is_too_large_is_refused_and_nothing_is_left_of_it(self):
        with self.assertRaises(Refused) as refused:
            self.client.ask("probe.job", {"sessionId": "large", "payload": {"text": "x" * (64 << 10)}})
        self.assertEqual((refused.exception.code, refused.exception.body["field"]), ("invalid", "payload"))
        self.assertEqual(self.events("large"), [])

    def test_it_is_healthy_and_finds_nothing_wrong_in_its_store(self):
        self.assertEqual(self.client.ask("probe.health")["status"], "green")
        self.assertEqual(self.client.ask("probe.check")["problems"], [])
        self.assertIn("probe", self.client.ask("probe.stats")["queues"])


class CrashTest(unittest.TestCase):
    def test_what_was_acknowledged_is_there_after_kill_9(self):
        with Instance(config='supervisor\n    actors = "probe"\n', sandbox=False) as instance:
            client = instance.client()
            for n in range(20):
                client.ask("probe.put", {"key": f"k{n}", "value": n})
            self.assertIsNotNone(instance.kill("probe"))
            self.assertEqual([client.ask("probe.get", {"key": f"k{n}"})["value"] for n in range(20)], list(range(20)))
            client.close()


if __name__ == "__main__":
    unittest.main()
