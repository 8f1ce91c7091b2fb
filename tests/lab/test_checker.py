"""The checker itself: a good history passes, and for each rule a history with that one fault is refused by that rule."""

import copy
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(__file__))
import checker  # noqa: E402


def event(seq, status, job="j1"):
    return json.dumps({"seq": seq, "sessionId": "s", "jobId": job, "status": status})


GOOD = {
    "submits": [{"id": "r1", "project": "p", "session": "s", "outcome": "ok", "jobId": "j1", "replies": [b"a", b"a"]},
                {"id": "r2", "project": "p", "session": "s", "outcome": "unknown", "replies": []},
                {"id": "r3", "project": "p", "session": "s", "outcome": "refused", "replies": []}],
    "jobs": {"j1": {"status": "done", "projectId": "p", "attempts": [
        {"attempt": 1, "startedAt": "2026-01-01T00:00:00.000Z", "finishedAt": "2026-01-01T00:00:01.000Z"},
        {"attempt": 2, "startedAt": "2026-01-01T00:00:01.000Z", "finishedAt": "2026-01-01T00:00:02.000Z"}]}},
    "listed": {"p": ["j1"]},
    "versions": {"p": [{"version": 2, "author": "drafter", "jobId": "j1"}, {"version": 1, "author": "user"}]},
    "puts": {"p": 1},
    "events": {"s": [event(1, "queued"), event(2, "active"), event(3, "progress"), event(4, "done")]},
    "live": {"s": {2: event(2, "active")}},
    "followed": {"s": [event(1, "queued"), event(2, "active"), event(3, "progress"), event(4, "done")]},
    "writes": {"k": {"sent": 4, "acked": 3, "last": 3}, "none": {"sent": 1, "acked": 0, "last": 0}},
    "reads": [{"key": "k", "acked": 1, "value": 1, "sent": 2}, {"key": "k", "acked": 1, "value": 2, "sent": 2}],
    "bursts": [{"key": "b", "sent": [1, 2, 3], "resent": False, "value": 3}, {"key": "b", "sent": [4, 5], "resent": True, "value": 4}],
    "problems": [],
}


def spoil(change):
    history = copy.deepcopy(GOOD)
    change(history)
    return history


BAD = {
    "acknowledged_is_there": lambda h: h["jobs"].update(j1=None),
    "one_job_per_request": lambda h: h["listed"]["p"].extend(["j2", "j3"]),
    "same_answer_to_a_repeat": lambda h: h["submits"][0]["replies"].append(b"b"),
    "one_final_state": lambda h: h["jobs"]["j1"].update(status="active"),
    "one_version_per_done_job": lambda h: h["versions"]["p"].append({"version": 3, "author": "drafter", "jobId": "j1"}),
    "attempts_never_overlap": lambda h: h["jobs"]["j1"]["attempts"][1].update(startedAt="2026-01-01T00:00:00.500Z"),
    "events_without_gap": lambda h: h["events"]["s"].pop(1),
    "heard_equals_stored": lambda h: h["live"]["s"].update({3: event(3, "other")}),
    "followed_once_and_in_order": lambda h: h["followed"]["s"].insert(1, event(1, "queued")),
    "events_tell_the_life_of_a_job": lambda h: h["events"]["s"].append(event(5, "done")),
    "acknowledged_put_is_there": lambda h: h["writes"]["k"].update(last=2),
    "only_what_was_put_is_there": lambda h: h["writes"]["none"].update(last=2),
    "puts_of_a_key_in_order": lambda h: h["reads"].append({"key": "k", "acked": 1, "value": 1, "sent": 3}),
    "indexes_are_clean": lambda h: h["problems"].append("jobsReady"),
}

# Further faults of the rules that keep several promises.
BAD_TOO = [
    ("acknowledged_put_is_there", lambda h: h["reads"][1].update(acked=3, sent=3)),
    ("only_what_was_put_is_there", lambda h: h["reads"][1].update(value=3)),
    ("only_what_was_put_is_there", lambda h: h["bursts"][1].update(value=3)),
    ("puts_of_a_key_in_order", lambda h: h["bursts"][0].update(value=2)),
]


class CheckerTest(unittest.TestCase):
    def test_a_good_history_passes(self):
        self.assertEqual(checker.check(GOOD), [])

    def test_every_rule_has_a_bad_history(self):
        self.assertEqual(sorted(BAD), sorted(rule.__name__ for rule in checker.RULES))

    def test_each_bad_history_is_refused_by_its_rule(self):
        for name, change in list(BAD.items()) + BAD_TOO:
            with self.subTest(name):
                found = checker.check(spoil(change))
                self.assertTrue(any(text.startswith(name + ":") for text in found), found)


if __name__ == "__main__":
    unittest.main()
