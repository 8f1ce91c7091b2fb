"""Everything a model's provider can do wrong, served by the sandbox to a real drafter: each draft ends as docs/drafter.md says (K1),
with a clear error on the job and the alert in the outbox; the sandbox's journal tells how often the model was called."""

import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import BIN, Instance, wait_until  # noqa: E402

CONFIG = """
http
    stallTimeout = 1s
    totalTimeout = 20s
    bodyMax = 256K
drafter
    callBackoff = 20ms
    jobBackoff = 20ms
    backoffMax = 1s
    concurrency = 16
"""

FINAL = ("done", "error", "cancelled")

# fault for the sandbox, how often it is served (0: always), final status, error code, calls of the model in all
CASES = {
    "401": ({"kind": "status", "status": 401}, 0, "error", "http_401", 1),
    "400": ({"kind": "status", "status": 400}, 0, "error", "http_400", 1),
    "429 rate limit then well": ({"kind": "rate-limit"}, 1, "done", None, 2),
    "429 rate limit for ever": ({"kind": "rate-limit"}, 0, "error", None, 3),
    "429 quota": ({"kind": "quota"}, 0, "error", "quota", 1),
    "500 then well": ({"kind": "status", "status": 500}, 1, "done", None, 2),
    "500 for ever": ({"kind": "status", "status": 500}, 0, "error", "http_500", 3),
    "503 with Retry-After then well": ({"kind": "overloaded"}, 1, "done", None, 2),
    "reset for ever": ({"kind": "reset"}, 0, "error", "answer_lost", 3),
    "reset half way then well": ({"kind": "reset-mid"}, 1, "done", None, 2),
    "stall then well": ({"kind": "stall"}, 1, "done", None, 2),
    "stall for ever": ({"kind": "stall"}, 0, "error", "timeout", 3),
    "endless body": ({"kind": "endless"}, 0, "error", "answer_too_large", None),
    "half a stream then well": ({"kind": "half-stream"}, 1, "done", None, 2),
    "half a stream for ever": ({"kind": "half-stream"}, 0, "error", "answer_lost", 3),
    "invalid JSON then well": ({"kind": "bad-json"}, 1, "done", None, 2),
    "invalid JSON for ever": ({"kind": "bad-json"}, 0, "error", "invalid_output", 3),
    "wrong schema for ever": ({"kind": "wrong-schema"}, 0, "error", "invalid_output", 3),
    "refusal": ({"kind": "refusal"}, 0, "error", "refused_by_model", 1),
    "cut by length": ({"kind": "length"}, 0, "error", "output_cut", 1),
    "error inside the stream then well": ({"kind": "error-in-stream"}, 1, "done", None, 2),
    "error code as a number": ({"kind": "string-code", "status": 401}, 0, "error", "http_401", 1),
    "schema ignored, JSON in a fence": ({"kind": "ignore-schema"}, 0, None, None, None),
}


def project_of(case):
    return "fault-" + case.replace(" ", "-").replace(",", "")


def job_of(client, job_id):
    answer = client.ask("drafter.job", {"jobId": job_id})
    return answer.get("job", answer)


def ended(client, jobs):
    return all(job_of(client, job_id)["status"] in FINAL for job_id in jobs.values())


class ModelFaultsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance(config=CONFIG)
        cls.instance.__enter__()
        cls.client = cls.instance.client()
        for case, (fault, times, *_) in CASES.items():
            cls.instance.http("POST", "/sandbox/faults", {**fault, "match": project_of(case) + "|", "times": times})
        # All at once: they share nothing but the drafter.
        cls.jobs = {case: cls.client.ask("drafter.submit", {
            "projectId": project_of(case), "sessionId": project_of(case),
            "instruction": f"Greet the reader of {project_of(case)}|."})["jobId"] for case in CASES}
        wait_until(lambda: ended(cls.client, cls.jobs), 120, "every draft ends")
        cls.requests = cls.instance.http("GET", "/sandbox/requests?since=0")["requests"]
        cls.outbox = [json.loads(line) for line in cls.instance.stet("inspect", "drafter", "outbox").stdout.splitlines()]

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.instance.__exit__(None, None, None)

    def calls(self, case):
        return sum(project_of(case) + "|" in json.dumps(request["body"]) for request in self.requests)

    def alerts(self, job_id):
        return [row for row in self.outbox if "alerts" in json.dumps(row["key"]) and job_id in json.dumps(row["value"])]

    def test_each_fault_ends_as_it_should(self):
        for case, (_, _, status, code, calls) in CASES.items():
            with self.subTest(case):
                job = job_of(self.client, self.jobs[case])
                if status:
                    self.assertEqual(job["status"], status, job)
                if code:
                    self.assertEqual(job["error"]["code"], code, job)
                if calls:
                    self.assertEqual(self.calls(case), calls)
                if job["status"] == "error":
                    self.assertGreater(len(job["error"]["message"]), 10)
                    self.assertEqual(len(self.alerts(job["jobId"])), 1, "one alert in the outbox")
                else:
                    self.assertEqual(self.alerts(job["jobId"]), [])

    def test_a_failed_draft_leaves_no_version_and_no_summary(self):
        for case in CASES:
            job = job_of(self.client, self.jobs[case])
            with self.subTest(case):
                if job["status"] != "error":
                    continue
                self.assertNotIn("generatedSummary", json.dumps(job.get("result") or {}))
                answer = self.client.ask("drafter.queue", {"projectId": project_of(case)})
                self.assertEqual(answer["counts"].get("error"), 1)

    def test_an_operator_queues_a_failed_draft_again_and_it_succeeds(self):
        project = "fault-mended"
        self.instance.http("POST", "/sandbox/faults", {"kind": "status", "status": 401, "match": project + "|", "times": 1})
        job_id = self.client.ask("drafter.submit", {"projectId": project, "sessionId": project,
                                                    "instruction": f"Greet {project}|."})["jobId"]
        wait_until(lambda: job_of(self.client, job_id)["status"] == "error", 30, "the draft fails")
        self.assertEqual(self.client.ask("drafter.retry", {"jobId": job_id})["requeued"], 1)
        wait_until(lambda: job_of(self.client, job_id)["status"] == "done", 30, "the draft succeeds")
        outcomes = [attempt["outcome"] for attempt in job_of(self.client, job_id)["attempts"]]
        self.assertEqual(outcomes, ["failed", "done"])


class MissingKeyTest(unittest.TestCase):
    def test_without_a_key_the_draft_ends_at_once_and_no_call_is_made(self):
        environment = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
        with Instance(sandbox=False, environment={"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}) as instance:
            client = instance.client()
            job_id = client.ask("drafter.submit", {"projectId": "p", "sessionId": "s"})["jobId"]
            job = wait_until(lambda: (lambda j: j if j["status"] in FINAL else None)(job_of(client, job_id)), 20, "it ends")
            client.close()
            self.assertEqual((job["status"], job["error"]["code"]), ("error", "missing_key"))
            self.assertIn("OPENAI_API_KEY", job["error"]["message"])
            self.assertEqual(len(job["attempts"]), 1)
            outbox = subprocess.run([os.path.join(BIN, "stet"), "inspect", "drafter", "outbox"], capture_output=True, text=True,
                                    check=True, env={**environment, "STET_DATA": instance.data}).stdout
            self.assertIn("draft.error", outbox)


if __name__ == "__main__":
    unittest.main()
