"""kept - opens the stores that earlier programs wrote (tests/format/NAME) with these, and reads everything back as it was.

Each kept store is the drafter's directory as `make` left it, with the answers that it gave then (answers.json). A change of the
format has to read, or to migrate, every one of them; a new format gets a new one:

    /usr/bin/python3 tests/format/kept.py --make tests/format/NAME     # with the programs of STET_BIN
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
from lab import Instance, wait_until  # noqa: E402

# Rows are kept for as long as stores are: what is compared must not be swept.
CONFIG = """
actor
    duplicatesKeep = 36500d
    eventsKeep = 36500d
drafter
    jobsKeep = 36500d
"""
STORE = os.path.join("drafter", "0")
REPEATED = uuid.UUID("01900000-0000-7000-8000-000000000001")
FAR = "2100-01-01T00:00:00.000Z"


def fill(instance, client):
    """Something in every table that a drafter can fill by itself."""
    def submit(project, session, **more):
        return client.ask("drafter.submit", {"projectId": project, "sessionId": session, **more})["jobId"]

    def ended(job):
        return wait_until(lambda: client.ask("drafter.job", {"jobId": job})["job"]["status"] in ("done", "error"), 60, f"{job} has ended")

    client.ask("drafter.document.put", {"projectId": "news", "baseVersion": 0, "markdown": "# Title\n\nThe old word.\n"})
    client.ask("drafter.transcript.append", {"projectId": "news", "items": [
        {"id": f"m{n}", "role": "user", "text": f"message {n}", "timestamp": f"2026-01-01T00:00:0{n}.000Z"} for n in range(3)]})
    ended(submit("news", "s-done", instruction='replace "old" with "new"', transcriptAnchors=["m1"]))
    instance.http("POST", "/sandbox/faults", {"kind": "refusal"})
    ended(submit("news", "s-error", instruction="anything"))
    instance.http("DELETE", "/sandbox/faults")
    submit("later", "s-delayed", instruction="not yet", runAt=FAR)
    client.ask("drafter.pause", {})
    submit("waits", "s-waits", instruction="first", priority=1)
    submit("waits", "s-waits", instruction="x" * 9000, dedupKey="one")  # its payload lies in a row of its own
    client.ask("drafter.cancel", {"jobId": submit("waits", "s-waits", instruction="never")})


def read(client):
    """Every answer that does not depend on the time of the day."""
    answers = {}

    def ask(command, **body):
        answers[f"{command} {json.dumps(body, sort_keys=True)}"] = reply = client.ask(command, body)
        return reply

    for project in ("news", "again"):
        for entry in ask("drafter.document.history", projectId=project)["versions"]:
            ask("drafter.document.get", projectId=project, version=entry["version"])
    ask("drafter.transcript.get", projectId="news")
    ask("drafter.transcript.list")
    for job in ask("drafter.list")["jobs"]:
        ask("drafter.job", jobId=job["jobId"])
    for session in ("s-done", "s-error", "s-delayed", "s-waits"):
        ask("drafter.events", sessionId=session)
    ask("drafter.queue", projectId="waits")
    return answers


def make(directory):
    with Instance(config=CONFIG) as instance:
        client = instance.client()
        fill(instance, client)
        instance.stet("down")  # what was in the log goes to a table at the next start: the store has both then
        instance.up()
        client.ask("drafter.document.put", {"projectId": "again", "baseVersion": 0, "markdown": "once\n"}, request_id=REPEATED)
        answers = read(client)
        client.close()
        instance.stet("down")
        # What names paths of this machine, or is made anew.
        shutil.copytree(os.path.join(instance.data, STORE), directory, ignore=shutil.ignore_patterns("OPTIONS*", "LOG*", "LOCK", "ballast"))
    with open(os.path.join(directory, "answers.json"), "w", encoding="utf-8") as file:
        json.dump(answers, file, indent=1, sort_keys=True)
        file.write("\n")
    print(f"{directory}: {sum(os.path.getsize(os.path.join(p, f)) for p, _, fs in os.walk(directory) for f in fs)} bytes")


class KeptTest(unittest.TestCase):
    def open(self, name):
        """An instance on a copy of the store, without sandbox: nothing may run."""
        data = tempfile.mkdtemp(prefix="stet-lab-")
        self.addCleanup(shutil.rmtree, data, ignore_errors=True)
        os.mkdir(os.path.join(data, "drafter"), 0o700)
        shutil.copytree(os.path.join(HERE, name), os.path.join(data, STORE), ignore=shutil.ignore_patterns("answers.json"))
        for path, directories, files in os.walk(data):  # a checkout does not keep modes
            for entry in directories:
                os.chmod(os.path.join(path, entry), 0o700)
            for entry in files:
                os.chmod(os.path.join(path, entry), 0o600)
        return Instance(config=CONFIG, sandbox=False, data=data)

    def test_every_kept_store_is_read_as_it_was_written(self):
        names = sorted(entry for entry in os.listdir(HERE) if os.path.isfile(os.path.join(HERE, entry, "answers.json")))
        self.assertTrue(names)
        for name in names:
            with self.subTest(name), self.open(name) as instance:
                with open(os.path.join(HERE, name, "answers.json"), encoding="utf-8") as file:
                    expected = json.load(file)
                client = instance.client()
                self.assertEqual(read(client), expected)
                self.assertEqual(client.ask("drafter.check")["problems"], [])
                self.goes_on(client)
                client.close()

    def goes_on(self, client):
        again = client.ask("drafter.document.put", {"projectId": "again", "baseVersion": 0, "markdown": "once\n"}, request_id=REPEATED)
        self.assertEqual(again, {"version": 1})  # known, else it would be a conflict
        self.assertEqual(client.ask("drafter.document.put", {"projectId": "again", "baseVersion": 1, "markdown": "twice\n"}), {"version": 2})
        waiting = client.ask("drafter.submit", {"projectId": "waits", "sessionId": "s", "dedupKey": "one"})
        self.assertTrue(waiting["existing"])
        self.assertEqual(client.ask("drafter.check")["problems"], [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--make", metavar="DIR")
    options, rest = parser.parse_known_args()
    if options.make:
        make(options.make)
    else:
        unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
