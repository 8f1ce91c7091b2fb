"""An instance as its user sees it: up, down, status, two side by side, after kill -9 of everything, exit codes, inspect."""

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import BIN, Instance, alive, wait_until  # noqa: E402

SUBMIT = {"projectId": "p", "sessionId": "s", "instruction": "Write a greeting."}


def pids(instance):
    return [process["pid"] for process in instance.status()["processes"] if process["pid"]]


def finished(instance, job_id):
    job = json.loads(instance.stet("call", "drafter.job", json.dumps({"jobId": job_id})).stdout)
    job = job.get("job", job)
    return job if job["status"] in ("done", "error", "cancelled") else None


def submit(instance, **fields):
    return json.loads(instance.stet("call", "drafter.submit", json.dumps({**SUBMIT, **fields})).stdout)["jobId"]


class LifeTest(unittest.TestCase):
    def test_two_instances_run_side_by_side_and_know_nothing_of_each_other(self):
        with Instance() as one, Instance() as two:
            job = submit(one)
            self.assertEqual(wait_until(lambda: finished(one, job), 30, "the draft ends")["status"], "done")
            refused = two.stet("call", "drafter.job", json.dumps({"jobId": job}), check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertEqual(json.loads(refused.stderr)["code"], "not_found")
            self.assertEqual(set(pids(one)) & set(pids(two)), set())

    def test_a_second_up_on_the_same_directory_is_refused(self):
        with Instance() as instance:
            second = instance.stet("up", "--detach", "--sandbox", check=False)
            self.assertNotEqual(second.returncode, 0)
            self.assertIn("already", second.stderr)

    def test_down_leaves_no_process_and_no_socket(self):
        with Instance() as instance:
            running = pids(instance)
            self.assertGreaterEqual(len(running), 3)
            instance.stet("down")
            self.assertEqual([pid for pid in running if alive(pid)], [])
            self.assertEqual(glob.glob(os.path.join(instance.data, "run", "*.sock")), [])
            self.assertEqual(instance.stet("status", check=False).returncode, 3)
            self.assertEqual(instance.stet("call", "broker.version", "--timeout", "1", check=False).returncode, 3)

    def test_up_after_kill_9_of_everything_goes_on_where_it_was(self):
        with Instance() as instance:
            instance.http("POST", "/sandbox/pace", {"delayMs": 60000, "tokenDelayMs": 0})
            job = submit(instance)
            wait_until(lambda: instance.http("GET", "/sandbox/requests?since=0").get("requests"), 20, "the call is under way")
            state = instance.status()
            everything = [state["supervisor"]["pid"]] + pids(instance)
            for pid in everything:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not any(alive(pid) for pid in everything), 10, "all are dead")
            instance.up()
            done = wait_until(lambda: finished(instance, job), 40, "the draft ends after the restart")
            self.assertEqual(done["status"], "done")
            self.assertEqual(done["attempts"][0]["outcome"], "interrupted")

    def test_a_killed_process_is_started_again_and_counted(self):
        with Instance() as instance:
            before = instance.pid("drafter")
            instance.kill("drafter")
            wait_until(lambda: instance.pid("drafter") not in (None, before), 10, "the drafter is back")
            drafter = next(p for p in instance.status()["processes"] if p["name"] == "drafter")
            self.assertEqual(drafter["restarts"], 1)
            self.assertGreater(drafter["rssBytes"], 0)
            job = submit(instance)
            self.assertEqual(wait_until(lambda: finished(instance, job), 30, "the draft ends")["status"], "done")

    def test_a_data_directory_with_a_path_too_long_for_a_socket_works(self):
        with tempfile.TemporaryDirectory(prefix="stet-long-") as parent:
            instance = Instance()
            os.rmdir(instance.data)
            instance.data = os.path.join(parent, "d" * 100)
            os.mkdir(instance.data, 0o700)
            instance.environment["STET_DATA"] = instance.data
            with instance:
                self.assertEqual(json.loads(instance.stet("call", "broker.health").stdout)["status"], "green")
                run = os.path.dirname(instance.endpoint("front").removeprefix("ipc://"))
            self.assertFalse(run.startswith(parent))
            shutil.rmtree(run)  # it lies where a path is short, and outlives the instance as its data does


class CommandTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance()
        cls.instance.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.instance.__exit__(None, None, None)

    def test_exit_codes(self):
        stet = self.instance.stet
        self.assertEqual(stet("call", "broker.version").returncode, 0)
        self.assertEqual(stet("call", "drafter.job", '{"jobId": "no uuid"}', check=False).returncode, 1)
        self.assertEqual(stet("call", check=False).returncode, 2)
        self.assertEqual(stet("call", "drafter.submit", "{broken", check=False).returncode, 2)
        self.assertEqual(stet("nonsense", check=False).returncode, 2)
        self.assertEqual(stet("--help").returncode, 0)

    def test_an_error_answer_is_json_on_standard_error_and_names_the_field(self):
        refused = self.instance.stet("call", "drafter.submit", '{"projectId": "p"}', check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertEqual(refused.stdout, "")
        error = json.loads(refused.stderr)
        self.assertEqual((error["code"], error["field"]), ("invalid", "sessionId"))

    def test_the_same_id_is_answered_alike_and_makes_one_job(self):
        arguments = ("call", "drafter.submit", json.dumps({**SUBMIT, "projectId": "same-id"}), "--id",
                     "01890a5d-ac96-774b-bcce-b302099a8057")
        first, second = self.instance.stet(*arguments), self.instance.stet(*arguments)
        self.assertEqual(first.stdout, second.stdout)
        listed = json.loads(self.instance.stet("call", "drafter.list", '{"projectId": "same-id"}').stdout)
        self.assertEqual(len(listed["jobs"]), 1)

    def test_a_body_comes_from_a_file_or_standard_input(self):
        path = os.path.join(self.instance.data, "body.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"projectId": "empty"}, file)
        from_file = json.loads(self.instance.stet("call", "drafter.queue", "@" + path).stdout)
        from_input = json.loads(self.instance.stet("call", "drafter.queue", "-", text='{"projectId": "empty"}').stdout)
        self.assertEqual(from_file, from_input)
        self.assertEqual((from_file["active"], from_file["recent"]), (None, []))

    def test_status_shows_endpoints_processes_and_health(self):
        state = self.instance.status()
        self.assertTrue(state["endpoints"]["front"].startswith("ipc://"))
        self.assertTrue(state["endpoints"]["events"].startswith("ipc://"))
        names = {process["name"]: process for process in state["processes"]}
        self.assertLessEqual({"broker", "drafter", "sandbox"}, set(names))
        self.assertTrue(all(process["state"] == "running" for process in names.values()), names)

    def test_config_lists_every_setting_with_its_source_and_masks_secrets(self):
        done = subprocess.run([os.path.join(BIN, "stet"), "config", "--json"], capture_output=True, text=True, check=True,
                              env={**self.instance.environment, "OPENAI_API_KEY": "sk-canary-4711", "OPENAI_MODEL": "m"})
        self.assertNotIn("canary", done.stdout)
        settings = {row["key"]: row for row in json.loads(done.stdout)["settings"]}
        self.assertEqual(settings["openai.apiKey"]["value"], "****")
        self.assertEqual((settings["openai.model"]["value"], settings["openai.model"]["source"]), ("m", "environment"))
        for variable in ("DRAFT_METRICS_ENDPOINT", "DRAFT_ALERT_WEBHOOK", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
            self.assertIn(variable, {row["environment"] for row in settings.values()})

    def test_drain_refuses_limits_that_are_no_count(self):
        for limit in ("0", "-1", "many"):
            done = self.instance.stet("drain", "--limit", limit, check=False)
            self.assertEqual(done.returncode, 2, limit)
            self.assertIn("limit", done.stderr)

    def test_watch_shows_a_session_from_the_first_event(self):
        job = submit(self.instance, sessionId="watched")
        wait_until(lambda: finished(self.instance, job), 30, "the draft ends")
        watch = subprocess.Popen([os.path.join(BIN, "stet"), "watch", "--session", "watched", "--since", "0", "--json"],
                                 env=self.instance.environment, stdout=subprocess.PIPE, text=True)
        try:
            events = []
            for line in watch.stdout:
                events.append(json.loads(line))
                if events[-1]["status"] == "done":
                    break
        finally:
            watch.terminate()
            watch.wait(10)
            watch.stdout.close()
        self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
        self.assertEqual([events[0]["status"], events[-1]["status"]], ["queued", "done"])

    def test_draft_waits_for_its_job_and_tells_how_it_ended(self):
        done = self.instance.stet("draft", "--project", "friendly", "--session", "f", "--instruction", "Greet.", "--wait")
        self.assertIn("done", done.stdout)
        self.assertTrue(self.instance.stet("doc", "get", "friendly").stdout.strip())

    def test_doctor_has_no_complaint_about_a_running_instance(self):
        done = self.instance.stet("doctor", "--json", check=False)
        failed = [row for row in json.loads(done.stdout)["checks"] if row["result"] == "fail"]
        self.assertEqual(failed, [])


class InspectTest(unittest.TestCase):
    def test_inspect_reads_a_running_and_a_stopped_actor_as_json(self):
        with Instance() as instance:
            job = submit(instance)
            wait_until(lambda: finished(instance, job), 30, "the draft ends")
            for stopped in (False, True):
                rows = [json.loads(line) for line in instance.stet("inspect", "drafter").stdout.splitlines()]
                self.assertIn("jobs", {row["key"][0] for row in rows}, f"stopped: {stopped}")
                events = instance.stet("inspect", "drafter", "events").stdout.splitlines()
                rows = [json.loads(line) for line in events]
                self.assertTrue(all(row["key"][0] == "events" for row in rows))
                texts = [json.loads(text) for row in rows for text in row["value"][1:]]
                self.assertGreaterEqual(len(texts), 3)
                self.assertEqual([text["seq"] for text in texts], list(range(1, len(texts) + 1)))
                instance.stet("down")


if __name__ == "__main__":
    unittest.main()
