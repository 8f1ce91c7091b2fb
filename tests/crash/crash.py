"""crash - clients that go on through every fault, and what they saw of it as a history for the checker.

Used by chaos.py (kills at random), by the load tests and by whatever else disturbs an instance under load.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lab"))
from lab import BIN, Client, NoAnswer, Refused, wait_until  # noqa: E402
import msgpack  # noqa: E402
import zmq  # noqa: E402

CONFIG = """
supervisor
    actors = "drafter,probe"
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

    def submit(self, client, session, **more):
        body = {"projectId": self.project, "sessionId": session, "instruction": f"Say it again for {self.project}.", **more}
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
        return record

    def put(self, client):
        try:
            base = client.ask("drafter.document.get", {"projectId": self.project}, seconds=180)["version"]
        except Refused:
            base = 0
        try:
            client.ask("drafter.document.put", {"projectId": self.project, "baseVersion": base,
                                                "markdown": f"# {self.project}\n\nEdited on top of {base}.\n"}, seconds=180)
            self.puts += 1
        except Refused as refusal:
            if refusal.code != "conflict":  # a draft landed between: nobody's edit is overwritten
                raise


class Writer(threading.Thread):
    """Counts up under keys of its own with probe.put. What is put under a counter's key is acknowledged before the next number
    is; under the other keys several numbers are put at once, and read back."""

    def __init__(self, endpoint, name, seed, stop, pause=0.02):
        super().__init__(name=name, daemon=True)
        self.endpoint, self.stop, self.pause = endpoint, stop, pause
        self.random = random.Random(seed)
        self.writes = {f"{name}-k{i}": {"sent": 0, "acked": 0} for i in range(4)}
        self.heads = {f"{name}-b{i}": 0 for i in range(2)}
        self.bursts, self.resent, self.latency, self.error = [], 0, [], None

    def run(self):
        try:
            client = Client(self.endpoint, zmq.Context())
            while not self.stop.is_set():
                if self.random.random() < 0.2:
                    self.burst(client, self.random.choice(list(self.heads)))
                else:
                    self.count(client, self.random.choice(list(self.writes)))
                self.stop.wait(self.random.uniform(0, self.pause))
        except BaseException as error:  # told to the main thread, which fails the test
            self.error = error

    def count(self, client, key):
        write = self.writes[key]
        write["sent"] += 1
        began = time.monotonic()
        self.resent += self.put(client, key, [write["sent"]])
        self.latency.append((began, time.monotonic() - began))
        write["acked"] = write["sent"]

    def burst(self, client, key):
        numbers = [self.heads[key] + 1 + i for i in range(self.random.randint(2, 5))]
        self.heads[key] = numbers[-1]
        resent = self.put(client, key, numbers)
        self.resent += resent
        value = client.ask("probe.get", {"key": key}, seconds=180)["value"]
        self.bursts.append({"key": key, "sent": numbers, "resent": resent > 0, "value": value})

    def put(self, client, key, numbers):
        """Puts all, one behind the other, until all are acknowledged; returns how many copies were sent beyond the first."""
        waiting = {uuid.uuid4(): {"key": key, "value": number} for number in numbers}
        copies, end = 0, time.monotonic() + 180
        while waiting:
            if time.monotonic() > end:
                raise NoAnswer(f"{key}: {len(waiting)} puts without an answer in 180 s")
            for request_id, body in waiting.items():
                client.send("probe.put", body, request_id)
                copies += 1
            self.collect(client, waiting)
        return copies - len(numbers)

    @staticmethod
    def collect(client, waiting):
        """Takes answers until each copy has one, or a second has passed; what was acknowledged is no longer waited for."""
        open_, until = {request_id.bytes: request_id for request_id in waiting}, time.monotonic() + 1.0
        while open_ and time.monotonic() < until:
            answer = client.receive(50)
            if answer is None or answer[0].get("id") not in open_:
                continue
            request_id = open_.pop(answer[0]["id"])
            if answer[0]["kind"] == "reply":
                waiting.pop(request_id)
                continue
            refusal = msgpack.unpackb(answer[1])
            if refusal["code"] not in ("busy", "unavailable", "timeout"):
                raise Refused(refusal)
            time.sleep(min(refusal.get("retryAfterMs", 50), 300) / 1000)


class Reader(threading.Thread):
    """Reads the counters of all writers again and again, with what was acknowledged before and sent after each read."""

    def __init__(self, endpoint, writers, seed, stop, pause=0.03):
        super().__init__(daemon=True)
        self.endpoint, self.stop, self.pause = endpoint, stop, pause
        self.random = random.Random(seed)
        self.counters = [(key, write) for writer in writers for key, write in writer.writes.items()]
        self.reads, self.error = [], None

    def run(self):
        try:
            client = Client(self.endpoint, zmq.Context())
            while not self.stop.is_set():
                key, write = self.random.choice(self.counters)
                acked = write["acked"]
                value = value_of(client, key)
                self.reads.append({"key": key, "acked": acked, "value": value, "sent": write["sent"]})
                self.stop.wait(self.random.uniform(0, self.pause))
        except BaseException as error:  # told to the main thread, which fails the test
            self.error = error


def value_of(client, key):
    """The number under a key, 0 for nothing."""
    try:
        return client.ask("probe.get", {"key": key}, seconds=180)["value"]
    except Refused as refusal:
        if refusal.code != "not_found":
            raise
        return 0


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
        self.path = os.path.join(instance.notes, session + ".events")
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
        "problems": pages(client, "drafter.check", {"limit": 100}, "problems") + listener.differs,
    }


def nothing_waits(client, projects):
    for project in projects:
        counts = client.ask("drafter.queue", {"projectId": project}, seconds=60)["counts"]
        if counts.get("queued", 0) + counts.get("delayed", 0) + counts.get("active", 0):
            return False
    return True


class Traffic:
    """All of the clients at once, on one instance: some projects with drafts and edits, some writers of values, a reader of
    them, a listener, two subscribers from the first event on."""

    def __init__(self, instance, seed, projects=4, writers=3, pause=0.02):
        self.instance, self.stop = instance, threading.Event()
        front = instance.endpoint("front")
        self.client = Client(front)
        self.listener = Listener(instance.endpoint("events"), self.stop)
        self.submitters = [Submitter(front, f"p{i}", seed * 1000 + i, self.stop) for i in range(projects)]
        self.writers = [Writer(front, f"w{i}", seed * 1000 + 100 + i, self.stop, pause) for i in range(writers)]
        self.reader = Reader(front, self.writers, seed * 1000 + 200, self.stop)
        self.followers = {session: Follower(instance, session) for session in ("p0-s1", "p1-s0")}
        self.threads = [*self.submitters, *self.writers, self.reader]

    def start(self):
        self.listener.start()
        for thread in self.threads:
            thread.start()

    def check_alive(self):
        """A client that gave up fails the test at once."""
        for thread in self.threads:
            if thread.error:
                raise AssertionError(f"{thread.name} failed: {thread.error!r}")

    def finish(self):
        """Ends the clients and waits until the instance has done all that was asked; returns the history."""
        self.stop.set()
        for thread in self.threads:
            thread.join(300)
            if thread.is_alive():
                raise AssertionError(f"{thread.name} does not end")
        self.check_alive()
        wait_until(lambda: nothing_waits(self.client, [s.project for s in self.submitters]), 300, "every job ends")
        history = gather(self.client, self.submitters, self.listener, self.followers)
        for follower in self.followers.values():
            follower.end()
        history["writes"] = {key: {**write, "last": value_of(self.client, key)}
                             for writer in self.writers for key, write in writer.writes.items()}
        history["reads"] = self.reader.reads
        history["bursts"] = [burst for writer in self.writers for burst in writer.bursts]
        history["problems"] += pages(self.client, "probe.check", {"limit": 100}, "problems")
        return history

    def close(self):
        """Leaves no client behind, also after a failure."""
        self.stop.set()
        for follower in self.followers.values():
            follower.process.kill()
            follower.process.wait(30)

    def summary(self, history):
        """What was done, in numbers, for the line that a program prints at its end."""
        outcomes = [r["outcome"] for r in history["submits"]]
        states = [job["status"] for job in history["jobs"].values() if job]
        return {
            "submits": {o: outcomes.count(o) for o in sorted(set(outcomes))},
            "repeats": sum(len(r["replies"]) > 1 for r in history["submits"]),
            "jobs": {s: states.count(s) for s in sorted(set(states))},
            "interrupted": sum(a.get("outcome") == "interrupted" for j in history["jobs"].values() if j for a in j["attempts"]),
            "events": sum(len(e) for e in history["events"].values()),
            "heard": sum(len(h) for h in history["live"].values()),
            "followed": sum(len(f) for f in history["followed"].values()),
            "edits": sum(history["puts"].values()),
            "puts": sum(w["acked"] for w in history["writes"].values()) + sum(len(b["sent"]) for b in history["bursts"]),
            "resent": sum(w.resent for w in self.writers),
            "reads": len(history["reads"]), "bursts": len(history["bursts"]),
            "burstsOfFirstCopies": sum(not b["resent"] for b in history["bursts"]),
        }
