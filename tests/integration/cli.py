"""What the command line says when something is not as it should be: what is wrong, what to do, and with which exit code."""

import json
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import BIN, Instance, wait_until  # noqa: E402

STET = os.path.join(BIN, "stet")


def stet(*arguments, data=None, text=None, environment=None, program=STET):
    """Without an instance."""
    given = {**os.environ, **({"STET_DATA": data} if data else {}), **(environment or {})}
    return subprocess.run([program, *arguments], env=given, input=text, capture_output=True, text=True, timeout=120, check=False)


def on_terminal(*arguments, environment):
    """What a terminal gets to see."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([STET, *arguments], env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while True:
            seen += os.read(ours, 65536)
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.wait(60), seen


class Place(unittest.TestCase):
    """Each test with a directory of its own, in which nothing runs."""

    def setUp(self):
        self.parent = tempfile.mkdtemp(prefix="stet-cli-")
        self.data = os.path.join(self.parent, "data")

    def tearDown(self):
        shutil.rmtree(self.parent)

    def stet(self, *arguments, **more):
        return stet(*arguments, data=self.data, **more)

    def refused(self, code, words, *arguments, **more):
        done = self.stet(*arguments, **more)
        self.assertEqual((done.returncode, done.stdout), (code, ""), (arguments, done.stderr))
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, done.stderr, arguments)

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.parent, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path


class PlaceTest(Place):
    def test_a_data_directory_whose_name_is_not_utf_8_is_refused_at_once(self):
        data = os.path.join(os.fsencode(self.parent), b"caf\xe9")
        for arguments in (("up", "--detach"), ("status",), ("down",)):
            self.refused(2, "not UTF-8", *arguments, "--data", data)
        self.assertEqual(os.listdir(self.parent), [])

    def test_where_nothing_runs_each_command_says_so_and_how_to_start_it(self):
        for arguments in (("call", "broker.version"), ("watch",), ("draft", "--project", "p", "--session", "s"), ("doc", "get", "p"),
                          ("doc", "put", "p", "-"), ("queue", "p"), ("transcript", "append", "p", "-")):
            self.refused(3, "'stet up'", *arguments, text='{"id": "m"}')
        self.assertEqual(self.stet("down").stdout, "nothing runs\n")
        self.assertEqual(json.loads(self.stet("down", "--json").stdout), {"stopped": False})
        status = self.stet("status", "--json")
        self.assertEqual((status.returncode, json.loads(status.stdout)["supervisor"]), (3, None))

    def test_a_configuration_that_cannot_be_used_is_told_before_anything_starts(self):
        self.refused(2, "missing.conf", "up", "--config", os.path.join(self.parent, "missing.conf"))
        for text, word in (("drafter\n    concurency = 2\n", "concurency"), ("drafter\n    concurrency = many\n", "concurrency")):
            path = self.write("stet.conf", text)
            self.refused(2, word, "up", "--detach", "--config", path)
            self.refused(2, word, "config", environment={"STET_CONFIG": path})
        self.assertFalse(os.path.exists(os.path.join(self.data, "run")))

    def test_what_is_written_wrongly_is_explained_with_exit_code_2(self):
        for words, arguments in (
                (["SERVICE.COMMAND"], ("call", "nodot")),
                (["--id", "UUID"], ("call", "drafter.job", "{}", "--id", "7")),
                (["cannot read", "/missing"], ("call", "drafter.job", "@/missing")),
                (["cannot read"], ("call", "drafter.job", "@" + self.parent)),
                (["not JSON"], ("call", "drafter.job", "-")),
                (["--session"], ("watch", "--since", "1")),
                (["--project"], ("draft", "--session", "s")),
                (["--id", "UUID"], ("draft", "--project", "p", "--session", "s", "--id", "x")),
                (["not JSON"], ("draft", "--project", "p", "--session", "s", "--context", "{")),
                (["line 3"], ("transcript", "append", "p", self.write("items", '{"id": "m"}\n\nnot json\n'))),
                (["no items"], ("transcript", "append", "p", self.write("empty", " \n\n"))),
                (["longer than"], ("doc", "put", "p", self.write("long", "x" * 524289))),
                (["name of an actor"], ("inspect", "../drafter")),
                (["cannot run"], ("inspect", "nobody")),
                (["bash"], ("completion", "zsh")),
                (["--role"], ("keys", "new", "a")),
                (["no role", "viewer"], ("keys", "new", "a", "--role", "king")),
                (["too long"], ("keys", "new", "a" * 65, "--role", "viewer"))):
            self.refused(2, words, *arguments, text="{broken")
        self.assertEqual(self.stet().returncode, 2)

    def test_an_output_that_is_closed_ends_a_command_with_an_exit_code(self):
        for arguments in (["config"], ["--help"], ["completion", "bash"], ["config", "--json"]):
            reader, writer = os.pipe()
            os.close(reader)
            done = subprocess.run([STET, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
            os.close(writer)
            self.assertEqual(done.returncode, 1, arguments)

    def test_help_explains_each_command_and_its_fields(self):
        self.assertIn("projectId", self.stet("call", "drafter.submit", "--help").stdout)
        overview = self.stet("--help").stdout
        for name in ("up", "down", "status", "draft", "keys", "transcript"):
            self.assertIn(name, overview)
        self.assertIn("--detach", self.stet("up", "--help").stdout)
        self.assertRegex(self.stet("--version").stdout, r"^stet \d+\.\d+\.\d+\n$")

    def test_the_completion_script_is_one_that_bash_takes(self):
        script = self.stet("completion", "bash").stdout
        done = subprocess.run(["bash", "-c", script + "\ncomplete -p stet"], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("stet", done.stdout)


class DoctorTest(Place):
    def checks(self, *arguments, **more):
        done = self.stet("doctor", "--json", *arguments, **more)
        rows = json.loads(done.stdout)["checks"]
        self.assertEqual(done.returncode, 1 if any(row["result"] == "fail" for row in rows) else 0)
        return rows

    def said(self, rows, check, result):
        return " ".join(row["message"] for row in rows if (row["check"], row["result"]) == (check, result))

    def test_a_fresh_place_is_fine_but_for_the_key_of_the_model(self):
        rows = self.checks(environment={"OPENAI_API_KEY": ""})
        self.assertIn("OPENAI_API_KEY", self.said(rows, "model", "warn"))
        self.assertIn("creates it", self.said(rows, "data", "ok"))
        self.assertIn("stet up", self.said(rows, "supervisor", "ok"))

    def test_a_directory_that_others_may_enter_fails_with_the_command_that_helps(self):
        os.mkdir(self.data)
        os.chmod(self.data, 0o755)
        self.assertIn("chmod 700 " + self.data, self.said(self.checks(), "data", "fail"))
        os.rmdir(self.data)
        self.write("data", "")
        self.assertIn("not a directory", self.said(self.checks(), "data", "fail"))

    def test_a_wrong_configuration_and_an_alert_webhook_nobody_calls_are_told(self):
        self.assertIn("concurency", self.said(self.checks("--config", self.write("stet.conf", "drafter\n    concurency = 2\n")), "config", "fail"))
        self.assertIn("no alerts actor", self.said(self.checks(environment={"DRAFT_ALERT_WEBHOOK": "https://a.example/x"}), "alerts", "warn"))

    def test_too_few_open_files_and_missing_programs_are_told(self):
        script = f"ulimit -n 512; exec {STET} doctor --json --data {self.data}"
        rows = json.loads(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False).stdout)["checks"]
        self.assertIn("ulimit -n 65536", self.said(rows, "files", "fail"))
        alone = shutil.copy(STET, os.path.join(self.parent, "stet"))
        rows = self.checks(program=alone)
        self.assertIn("stet-broker", self.said(rows, "programs", "fail"))
        self.assertIn("stet-sandbox", self.said(rows, "programs", "warn"))

    def test_a_path_too_long_for_sockets_and_a_disk_below_its_mark_are_told(self):
        self.data = os.path.join(self.parent, "d" * 100)
        self.assertIn("too long for sockets", self.said(self.checks(), "sockets", "warn"))
        lines = self.stet("doctor").stdout.splitlines()
        self.assertTrue(all(line.split()[0] in ("ok", "warn", "fail") for line in lines), lines)


class KeysTest(Place):
    def test_a_key_is_made_once_listed_without_its_secret_and_taken_back(self):
        out = os.path.join(self.parent, "dash.key")
        made = json.loads(self.stet("keys", "new", "dash", "--role", "viewer", "--sessions", "s1,s2", "--out", out, "--json").stdout)
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o600)
        with open(out, encoding="ascii") as file:
            text = file.read()
        self.assertIn(made["serverKey"], text)
        secret = next(line.split('"')[1] for line in text.splitlines() if line.startswith("secret"))
        for arguments in (("keys", "list"), ("keys", "list", "--json")):
            listed = self.stet(*arguments).stdout
            self.assertIn(made["publicKey"].replace("\\", "\\\\").replace('"', '\\"'), listed)
            self.assertNotIn(secret, listed)
        # Its name and its file are taken: nothing is written over.
        self.refused(1, "dash", "keys", "new", "dash", "--role", "viewer", "--out", os.path.join(self.parent, "other.key"))
        self.refused(1, "dash.key", "keys", "new", "other", "--role", "viewer", "--out", out)
        self.assertFalse(os.path.exists(os.path.join(self.parent, "other.key")))
        self.assertEqual([key["name"] for key in json.loads(self.stet("keys", "list", "--json").stdout)["keys"]], ["dash"])
        self.assertEqual(self.stet("keys", "revoke", "dash").returncode, 0)
        self.refused(1, "dash", "keys", "revoke", "dash")

    def test_a_key_can_be_printed_and_is_then_nowhere_but_there(self):
        printed = self.stet("keys", "new", "piped", "--role", "producer", "--out", "-").stdout
        secret = next(line.split('"')[1] for line in printed.splitlines() if line.startswith("secret"))
        for directory, _, names in os.walk(self.parent):
            for name in names:
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    self.assertNotIn(secret, file.read(), name)

    def test_the_first_key_says_when_it_counts_and_a_file_that_is_no_key_is_told(self):
        first = self.stet("keys", "new", "one", "--role", "control", "--out", os.path.join(self.parent, "one.key")).stdout
        self.assertIn("next start", first)
        with open(os.path.join(self.data, "keys", "junk.pub"), "w", encoding="ascii") as file:
            file.write("not a key\n")
        os.chmod(file.name, 0o600)
        listed = self.stet("keys", "list")
        self.assertEqual(listed.returncode, 1)
        self.assertIn("one", listed.stdout)
        self.assertIn("junk.pub", listed.stderr)


class AnswersTest(unittest.TestCase):
    """At one instance, what its user reads."""

    @classmethod
    def setUpClass(cls):
        cls.instance = Instance()
        cls.instance.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.instance.__exit__(None, None, None)

    def stet(self, *arguments, **more):
        return self.instance.stet(*arguments, **more)

    def test_nothing_that_is_stored_moves_the_cursor_of_a_terminal(self):
        evil = "# A\x1b[2J\x7f\u009b2J end"
        self.stet("doc", "put", "evil", "-", text=evil)
        for arguments in (("doc", "get", "evil"), ("doc", "get", "evil", "--json"), ("call", "drafter.document.get", '{"projectId": "evil"}'),
                          ("doc", "history", "evil"), ("call", "drafter.job", '{"jobId": "\u009b2J"}')):
            _, seen = on_terminal(*arguments, environment=self.instance.environment)
            text = seen.decode("utf-8").replace("\r\n", "\n")
            self.assertFalse([c for c in text if (ord(c) < 0x20 and c != "\n") or 0x7f <= ord(c) < 0xa0], (arguments, text))
        # Into a file it comes as it is, and as JSON it means the same.
        self.assertEqual(self.stet("doc", "get", "evil").stdout, evil)
        self.assertEqual(json.loads(self.stet("doc", "get", "evil", "--json").stdout)["markdown"], evil)

    def test_a_document_replaces_the_version_it_was_made_from_and_no_other(self):
        self.assertIn("1", self.stet("doc", "put", "versions", "-", text="one").stdout)
        self.stet("doc", "put", "versions", "-", text="two")
        stale = self.stet("doc", "put", "versions", "-", "--base", "1", text="three", check=False)
        self.assertEqual((stale.returncode, json.loads(stale.stderr)["code"]), (1, "conflict"))
        self.assertEqual(self.stet("doc", "get", "versions").stdout, "two")
        missing = self.stet("doc", "get", "no-such-project", check=False)
        self.assertEqual((missing.returncode, json.loads(missing.stderr)["code"]), (1, "not_found"))

    def test_a_transcript_of_more_items_than_a_request_takes_is_sent_in_parts(self):
        items = [{"id": f"m{i}", "role": "user", "text": f"line {i}", "timestamp": "2026-11-25T22:38:36.123Z"} for i in range(1203)]
        text = "".join(json.dumps(item) + "\n" for item in items)
        first = json.loads(self.stet("transcript", "append", "long", "-", "--json", text=text).stdout)
        self.assertEqual((first["appended"], first["repeated"], first["items"]), (1203, 0, 1203))
        again = json.loads(self.stet("transcript", "append", "long", "-", "--json", text=json.dumps(items)).stdout)
        self.assertEqual((again["appended"], again["repeated"], again["items"]), (0, 1203, 1203))
        self.assertIn("long", self.stet("transcript", "list").stdout)

    def test_a_draft_that_fails_ends_with_exit_code_1_and_says_why(self):
        self.instance.http("POST", "/sandbox/faults", {"kind": "status", "status": 400, "times": 1, "match": "fails-here"})
        done = self.stet("draft", "--project", "fails", "--session", "f", "--instruction", "fails-here", "--wait", check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        error = json.loads(done.stderr)
        self.assertTrue(error["code"] and error["message"], error)

    def test_a_draft_can_be_cancelled_while_somebody_waits_for_it(self):
        self.instance.http("POST", "/sandbox/faults", {"kind": "delay", "delayMs": 60000, "times": 1, "match": "waits-here"})
        waiter = subprocess.Popen([STET, "draft", "--project", "slow", "--session", "w", "--instruction", "waits-here", "--wait", "--json"],
                                  env=self.instance.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        active = wait_until(lambda: json.loads(self.stet("queue", "slow", "--json").stdout)["active"], 60, "the draft is active")
        self.stet("cancel", active["jobId"])
        out, error = waiter.communicate(timeout=90)  # closes both
        self.assertEqual(waiter.returncode, 1, error)
        self.assertEqual(json.loads(out)["status"], "cancelled")
        self.assertEqual(json.loads(error)["code"], "cancelled")

    def test_watch_shows_lines_for_people_until_nobody_reads_them(self):
        for arguments in (("watch",), ("watch", "--session", "read")):
            watch = subprocess.Popen([STET, *arguments], env=self.instance.environment, stdout=subprocess.PIPE, text=True)
            try:
                wait_until(lambda: self.draft_and_see(watch), 60, "an event is shown")
                while " read " not in (line := watch.stdout.readline()):
                    pass  # of drafts before
                self.assertRegex(line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d drafter +read +\d+ +\w+")
                watch.stdout.close()
                wait_until(lambda: self.draft("read") and watch.poll() is not None, 60, "it ends")
                self.assertEqual(watch.returncode, 1)
            finally:
                watch.kill()
                watch.wait()
                watch.stdout.close()

    def draft(self, session):
        return self.stet("draft", "--project", "read", "--session", session, "--instruction", "Greet.", "--wait").stdout

    def draft_and_see(self, watch):
        self.draft("read")
        return select.select([watch.stdout], [], [], 0.5)[0]

    def test_waiting_jobs_are_paused_drained_and_resumed_and_failed_ones_tried_again(self):
        stet_of = self.instance.stet
        self.assertEqual(stet_of("pause", "--project", "held").stdout, "paused\n")
        jobs = [stet_of("draft", "--project", "held", "--session", "h", "--instruction", f"Greet {n}.", "--priority", "3",
                        "--anchors", "a1,a2", "--pointers", "m1").stdout.strip() for n in range(2)]
        listed = stet_of("jobs", "--project", "held", "--limit", "1").stdout
        self.assertIn(jobs[1], listed)
        self.assertNotIn(jobs[0], listed)
        drained = stet_of("drain", "--limit", "1").stdout
        self.assertIn(jobs[0], drained)
        self.assertIn("waiting: 1", drained)
        self.assertEqual(stet_of("resume", "--project", "held").stdout, "running\n")
        for job in jobs:
            wait_until(lambda job=job: json.loads(stet_of("job", job, "--json").stdout)["job"]["status"] == "done", 60, "the draft is done")
        again = stet_of("retry", jobs[0], check=False)
        self.assertNotEqual(again.returncode, 0, again.stdout)  # it is done, and stays so
        cancelled = stet_of("draft", "--project", "held", "--session", "h", "--instruction", "x", "--at", "2099-01-01T00:00:00Z").stdout.strip()
        self.assertIn(cancelled, stet_of("cancel", cancelled).stdout)
        self.assertIn("requeued: 1", stet_of("retry", cancelled).stdout)
        wait_until(lambda: "done" in stet_of("job", cancelled).stdout, 60, "the second try is done")

    def test_a_transcript_is_shown_with_what_was_strange_about_it(self):
        item = {"id": "1", "role": "user", "text": "Hello", "timestamp": "2026-11-25T22:38:36.123Z"}
        odd = {**item, "id": "3", "previousItemId": "2", "text": "Where is two?"}
        said = self.stet("transcript", "append", "talk", "-", text=json.dumps([item, odd])).stdout
        self.assertIn("appended 2, repeated 0, items now 2", said)
        self.assertIn("3", said.split("now 2", 1)[1])
        shown = self.stet("transcript", "get", "talk").stdout
        self.assertIn("Hello", shown)
        self.assertIn("Where is two?", shown)

    def test_a_draft_that_takes_too_long_is_left_to_itself_and_can_be_asked_for(self):
        self.instance.http("POST", "/sandbox/faults", {"kind": "delay", "delayMs": 60000, "times": 1, "match": "too-long"})
        done = self.stet("draft", "--project", "late", "--session", "l", "--instruction", "too-long", "--wait", "--timeout", "1", check=False)
        self.assertEqual(done.returncode, 3)
        job_id = done.stderr.split("'stet job ")[1].split("'")[0]
        self.assertIn(job_id, self.stet("job", job_id).stdout)
        self.stet("cancel", job_id)

    def test_a_request_nobody_answers_gives_its_id_to_ask_with_again(self):
        with tempfile.TemporaryDirectory(prefix="stet-cli-") as parent:
            os.makedirs(os.path.join(parent, "run"), mode=0o700)
            with socket.socket(socket.AF_UNIX) as silent:
                silent.bind(os.path.join(parent, "run", "front.sock"))
                silent.listen()
                done = stet("call", "drafter.job", "{}", "--timeout", "0.5", data=parent)
                self.assertEqual(done.returncode, 3)
                error = json.loads(done.stderr)
                self.assertEqual((error["code"], len(error["id"])), ("timeout", 36))
                self.assertIn("does not answer", " ".join(row["message"] for row in json.loads(
                    stet("doctor", "--json", data=parent).stdout)["checks"]))


if __name__ == "__main__":
    unittest.main()
