"""crash - SIGKILL hits broker and drafter at random while clients submit and the model answers slowly; then the checker
decides whether a promise was broken.

Usage: crash.py [--seed N] [--kills N] [--projects N]
Prints one summary line with what was done and how often. Exit 0: no violation.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lab"))
import checker  # noqa: E402
from lab import BIN, Client, Instance, NoAnswer, Refused, wait_until  # noqa: E402
import msgpack  # noqa: E402
import zmq  # noqa: E402

CONFIG = """
supervisor
    restartMax = 300ms
drafter
    jobBackoff = 100ms
    callBackoff = 50ms
    concurrency = 4
"""


class Submitter(threading.Thread):
    """Submits drafts of one project one after the other, repeats some requests, edits the document now and then."""

    def __init__(self, endpoint, project, seed, stop):
        super().__init__(name=project, daemon=True)
        self.endpoint, self.project, self.stop = endpoint, project, stop
        self.random = random.Random(seed)
        self.submits, self.puts, self.error = [], 0, None

    def run(self):
        try:
            client = Client(self.endpoint, zmq.Context())
            count = 0
            while not self.stop.is_set():
                count += 1
                self.submit(client, f"{self.project}-s{count % 3}")
                if count % 4 == 0:
                    self.put(client)
                self.stop.wait(self.random.uniform(0.2, 1.2))
        except BaseException as error:  # told to the main thread, which fails the test
            self.error = error

    def submit(self, client, session):
        body = {"projectId": self.project, "sessionId": session, "instruction": f"Say it again for {self.project}."}
        record = {"id": str(uuid.uuid4()), "project": self.project, "session": session, "outcome": "unknown", "replies": []}
        self.submits.append(record)
        for _ in range(1 + (self.random.random() < 0.3)):
            try:
                reply = client.ask("drafter.submit", body, uuid.UUID(record["id"]), seconds=40, raw=True)
                record["replies"].append(reply)
                record["outcome"], record["jobId"] = "ok", msgpack.unpackb(reply)["jobId"]
            except NoAnswer:
                pass
            except Refused:
                record["outcome"] = "refused" if record["outcome"] == "unknown" else record["outcome"]

    def put(self, client):
        try:
            base = client.ask("drafter.document.get", {"projectId": self.project}, seconds=40)["version"]
        except Refused:
            base = 0
        try:
            client.ask("drafter.document.put", {"projectId": self.project, "baseVersion": base,
                                                "markdown": f"# {self.project}\n\nEdited on top of {base}.\n"}, seconds=40)
            self.puts += 1
        except Refused as refusal:
            if refusal.code != "conflict":  # a draft landed between: nobody's edit is overwritten
                raise


class Listener(threading.Thread):
    """Hears every event on the PUB socket; some are lost while the broker is dead, which is allowed."""

    def __init__(self, endpoint, stop):
        super().__init__(daemon=True)
        self.socket = zmq.Context().socket(zmq.SUB)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"TOOL_PROGRESS/")
        self.socket.connect(endpoint)
        self.stop, self.heard, self.differs = stop, {}, []

    def run(self):
        while not self.stop.is_set():
            if not self.socket.poll(100):
                continue
            topic, payload = self.socket.recv_multipart()
            text = payload.decode().removeprefix("TOOL_PROGRESS::")
            session, seq = topic.decode().split("/", 1)[1], json.loads(text)["seq"]
            if self.heard.setdefault(session, {}).setdefault(seq, text) != text:
                self.differs.append(f"session {session} event {seq} was published twice with different texts")


class Follower:
    """`stet watch` of one session, from its first event: libstet's subscriber through all the kills."""

    def __init__(self, instance, session):
        self.path = os.path.join(instance.data, session + ".events")
        with open(self.path, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [os.path.join(BIN, "stet"), "watch", "--session", session, "--since", "0", "--json"],
                env=instance.environment, stdout=file)

    def texts(self):
        with open(self.path, encoding="utf-8") as file:
            return file.read().splitlines()

    def end(self):
        self.process.terminate()
        self.process.wait(30)


def kill_at_random(instance, rng, kills):
    hits = {"broker": 0, "drafter": 0}
    while sum(hits.values()) < kills:
        for victim in list(hits) if rng.random() < 0.2 else [rng.choice(list(hits))]:
            if instance.kill(victim, signal.SIGKILL):
                hits[victim] += 1
        # The length of a phase of load: from "still recovering" to "long back".
        time.sleep(rng.choice([0.05, 0.3, 0.7, 1.2, 2.0]))
    return hits


def pages(client, command, body, field):
    items, cursor = [], None
    while True:
        answer = client.ask(command, {**body, **({"cursor": cursor} if cursor else {})})
        items += answer[field]
        cursor = answer.get("cursor")
        if not cursor:
            return items


def session_events(client, session):
    texts = []
    while True:
        answer = client.ask("drafter.events", {"sessionId": session, "afterSeq": len(texts), "limit": 1000})
        texts += answer["events"]
        if not answer["more"]:
            return texts


def gather(client, submitters, listener, followers):
    """The history for the checker, read when everything has ended."""
    projects = [s.project for s in submitters]
    submits = [record for s in submitters for record in s.submits]
    listed = {p: [job["jobId"] for job in pages(client, "drafter.list", {"projectId": p, "limit": 200}, "jobs")]
              for p in projects}
    wanted = {r["jobId"] for r in submits if r["outcome"] == "ok"} | {j for jobs in listed.values() for j in jobs}
    jobs = {}
    for job_id in wanted:
        try:
            answer = client.ask("drafter.job", {"jobId": job_id})
            jobs[job_id] = answer.get("job", answer)
        except Refused:
            jobs[job_id] = None
    versions = {}
    for project in projects:
        try:
            versions[project] = pages(client, "drafter.document.history", {"projectId": project, "limit": 200}, "versions")
        except Refused:
            versions[project] = []
    sessions = {record["session"] for record in submits}
    events = {session: session_events(client, session) for session in sessions}
    for session, follower in followers.items():
        wait_until(lambda: len(follower.texts()) >= len(events.get(session, [])), 60, f"{session} is followed to its end")
    return {
        "submits": submits, "jobs": jobs, "listed": listed, "versions": versions,
        "puts": {s.project: s.puts for s in submitters},
        "events": events, "live": listener.heard,
        "followed": {session: follower.texts() for session, follower in followers.items()},
        "problems": pages(client, "drafter.check", {"limit": 10000}, "problems") + listener.differs,
    }


def nothing_waits(client, projects):
    for project in projects:
        counts = client.ask("drafter.queue", {"projectId": project}, seconds=60)["counts"]
        if counts.get("queued", 0) + counts.get("delayed", 0) + counts.get("active", 0):
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--projects", type=int, default=4)
    options = parser.parse_args()
    rng = random.Random(options.seed)

    with Instance(config=CONFIG) as instance:
        instance.http("POST", "/sandbox/pace", {"delayMs": 40, "tokenDelayMs": 5})
        stop = threading.Event()
        listener = Listener(instance.endpoint("events"), stop)
        listener.start()
        front = instance.endpoint("front")
        submitters = [Submitter(front, f"p{i}", options.seed * 1000 + i, stop) for i in range(options.projects)]
        followers = {session: Follower(instance, session) for session in ("p0-s1", "p1-s0")}
        for submitter in submitters:
            submitter.start()
        hits = kill_at_random(instance, rng, options.kills)
        stop.set()
        for submitter in submitters:
            submitter.join(120)
            if submitter.error or submitter.is_alive():
                raise AssertionError(f"{submitter.project} failed: {submitter.error!r}")

        client = Client(front)
        wait_until(lambda: nothing_waits(client, [s.project for s in submitters]), 180, "every job ends")
        history = gather(client, submitters, listener, followers)
        found = checker.check(history)
        for follower in followers.values():
            follower.end()

    outcomes = [r["outcome"] for r in history["submits"]]
    states = [job["status"] for job in history["jobs"].values() if job]
    print(json.dumps({
        "seed": options.seed, "kills": hits, "submits": {o: outcomes.count(o) for o in set(outcomes)},
        "repeats": sum(len(r["replies"]) > 1 for r in history["submits"]),
        "jobs": {s: states.count(s) for s in set(states)},
        "interrupted": sum(a.get("outcome") == "interrupted" for j in history["jobs"].values() if j for a in j["attempts"]),
        "events": sum(len(e) for e in history["events"].values()),
        "heard": sum(len(h) for h in history["live"].values()),
        "followed": sum(len(f) for f in history["followed"].values()),
        "puts": sum(history["puts"].values()), "violations": len(found)}))
    for text in found:
        print("VIOLATION", text)
    if outcomes.count("ok") < options.kills // 4:
        print("too few requests were acknowledged for the run to mean anything")
        return 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
