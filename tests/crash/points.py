"""points - each place of proto/base/faults.def kills its program at least once while clients, actors and drafts go on; then the
checkers decide. A place that is never reached fails the run.

The instance stays: for each point its program is killed, started so that it dies at the k-th time it gets there, and started anew.
Beside the clients two actors in Python take part: one that receives the drafter's outbox and sometimes says busy though it has applied,
and one that sends to the probe and repeats itself.

Usage: points.py [--seed N] [--count ROUNDS] [--seconds N] [--points NAME,NAME...]
Prints one JSON line. Exit 0: every point was hit, no promise was broken.
"""

import argparse
import glob
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lab"), os.path.join(HERE, "..", "protocol"), HERE]
import msgpack  # noqa: E402
import zmq  # noqa: E402
import checker  # noqa: E402
from crash import Listener, Submitter, gather, nothing_waits, pages  # noqa: E402
from lab import BIN, Client, Refused, wait_until  # noqa: E402
from parts import Parts  # noqa: E402
from speak import Actor  # noqa: E402

TABLE = os.path.join(HERE, "..", "..", "proto", "base", "faults.def")
KILLED = 137
REACH_SECONDS = 12  # until a point counts as not reached with this k
CONFIG = """
actor
    credit = 3
drafter
    jobBackoff = 100ms
    callBackoff = 50ms
    backoffMax = 1s
    concurrency = 4
    progressEvery = 10ms
store
    freeMin = 0
    ballast = 0
"""
SWEPT = "swept"
SHORT_MEMORY = "actor\n    duplicatesKeep = 300ms\n    eventsKeep = 300ms\n"


def points():
    with open(TABLE, encoding="utf-8") as file:
        return re.findall(r"^X\((\w+), (\w+),", file.read(), flags=re.M)


class Peer(threading.Thread):
    """Keeps an actor in Python registered; what it does besides is in step() and took()."""

    def __init__(self, parts, service, stop):
        super().__init__(name=service, daemon=True)
        self.actor, self.stop, self.error = Actor(parts, service), stop, None
        self.registered, self.heard, self.beat = False, 0.0, 0.0

    def run(self):
        try:
            while not self.stop.is_set():
                self.keep_registered(time.monotonic())
                if self.actor.socket.poll(20):
                    self.take(*self.actor.socket.recv_multipart())
                if self.registered:
                    self.step(time.monotonic())
        except BaseException as error:
            self.error = error

    def keep_registered(self, now):
        if self.registered and now - self.heard > 1.0:
            self.registered = False
        if now - self.beat > 0.2:
            self.beat = now
            if self.registered:
                self.actor.heartbeat()
            else:
                self.actor.ready()

    def take(self, envelope, route, body):
        envelope = msgpack.unpackb(envelope)
        self.heard = time.monotonic()
        if envelope["kind"] == "welcome":
            self.registered = True
        elif envelope["kind"] == "register":
            self.actor.ready()
        else:
            self.took(envelope, route, body)

    def step(self, now):
        pass


class Receiver(Peer):
    """Applies what comes in order and remembers it; now and then it says busy, before or after it has applied."""

    def __init__(self, parts, service, stop, seed):
        super().__init__(parts, service, stop)
        self.random = random.Random(seed)
        self.applied, self.violations, self.repeats, self.quiet = {}, [], 0, False

    def took(self, envelope, route, body):
        if envelope["kind"] != "send":
            return
        channel = self.applied.setdefault((envelope["service"], envelope.get("partition", 0), envelope["epoch"]), [])
        number, chance = envelope["sequence"], 0.5 if self.quiet else self.random.random()
        busy = msgpack.packb({"code": "busy", "message": "later"})
        if number == len(channel) + 1 and chance > 0.95:
            self.actor.say("error", route, busy, id=envelope["id"], command=envelope["command"])
            return
        if number == len(channel) + 1:
            channel.append((envelope["id"], body))
            if envelope["id"] in [other for other, _ in channel[:-1]]:
                self.violations.append(f"message {envelope['id'].hex()} of {envelope['service']} came under two numbers")
        elif number <= len(channel):
            self.repeats += 1
            if channel[number - 1] != (envelope["id"], body):
                self.violations.append(f"number {number} of {envelope['service']} was given twice")
        if chance < 0.05:
            self.actor.say("error", route, busy, id=envelope["id"], command=envelope["command"])
        else:
            self.actor.say("ack", route, b"", id=envelope["id"], command=envelope["command"], **self.actor.identity(),
                           sequence=len(channel))


class Sender(Peer):
    """Sends probe.put with rising numbers over a channel, each until it is acknowledged."""

    def __init__(self, parts, service, stop):
        super().__init__(parts, service, stop)
        self.number, self.acked, self.sent = 0, 0, 0.0
        self.id = uuid.uuid4()

    def step(self, now):
        if self.number == self.acked and now - self.sent > 0.02:
            self.number, self.id, self.sent = self.number + 1, uuid.uuid4(), 0.0
        if self.number > self.acked and now - self.sent > 0.5:
            self.sent = now
            for _ in range(2):
                self.actor.say("send", b"", msgpack.packb({"key": "channel", "value": self.number}), id=self.id.bytes,
                               command="probe.put", sequence=self.number, **self.actor.identity())

    def took(self, envelope, route, body):
        if envelope["kind"] == "ack" and envelope["sequence"] >= self.number:
            self.acked = self.number


class Burst(threading.Thread):
    """Sixteen probe.put at once, repeated until all are answered; some are then asked again and must answer the same."""

    SIZE = 16

    def __init__(self, parts, stop):
        super().__init__(daemon=True)
        self.client, self.stop, self.error = parts.client(zmq.Context()), stop, None
        self.acked, self.violations, self.rounds = {}, [], 0

    def run(self):
        try:
            while not self.stop.is_set():
                self.rounds += 1
                self.round()
                self.stop.wait(0.1)
        except BaseException as error:
            self.error = error

    def round(self):
        wanted = {uuid.uuid4(): (f"b{self.rounds}-{i}", os.urandom(40).hex()) for i in range(self.SIZE)}
        answers = self.ask_all(wanted)
        again = self.ask_all({request: wanted[request] for request in list(wanted)[:3]})
        for request, answer in again.items():
            if answers.get(request, answer) != answer:
                self.violations.append(f"request {request} got different answers to its repeats")
        self.acked.update(wanted[request] for request in answers)

    def ask_all(self, wanted):
        """{id: bytes} of the answers; what is missing when stopped was not answered."""
        missing, answers, end = set(wanted), {}, None
        while missing:
            for request in missing:
                key, value = wanted[request]
                self.client.send("probe.put", {"key": key, "value": value}, request)
            resend = time.monotonic() + 0.5
            while missing and time.monotonic() < resend:
                answer = self.client.receive(50)
                if answer and answer[0]["kind"] == "reply" and uuid.UUID(bytes=answer[0]["id"]) in missing:
                    request = uuid.UUID(bytes=answer[0]["id"])
                    missing.discard(request)
                    answers[request] = answer[1]
            if self.stop.is_set():
                end = end or time.monotonic() + 20
                if time.monotonic() > end:
                    break
        return answers


class Operator(Submitter):
    """A project of its own on which an operator tries every command; `wanted` comes first."""

    ACTIONS = ("tried_again", "failed", "delayed", "drained", "cancelled", "paused", "read")

    def __init__(self, endpoint, seed, stop, sandbox):
        super().__init__(endpoint, "operator", seed, stop)
        self.sandbox, self.wanted, self.count = sandbox, None, 0

    def run(self):
        try:
            client = Client(self.endpoint, zmq.Context())
            while not self.stop.is_set():
                self.count += 1
                if self.wanted or self.waiting(client) < 8:
                    getattr(self, self.wanted or self.ACTIONS[self.count % len(self.ACTIONS)])(client)
                self.stop.wait(0.2)
            client.ask("drafter.resume", {"projectId": self.project}, seconds=40)
        except BaseException as error:
            self.error = error

    def waiting(self, client):
        counts = client.ask("drafter.queue", {"projectId": self.project}, seconds=40)["counts"]
        return counts.get("queued", 0) + counts.get("delayed", 0)

    def session(self):
        return f"operator-s{self.count % 4}"

    def faulty(self, client, **fault):
        tag = f"tag{self.count}|"
        self.sandbox({**fault, "match": tag, "times": 1})
        self.submit(client, self.session(), instruction=f"Say {tag}")

    def tried_again(self, client):
        self.faulty(client, kind="status", status=500)

    def failed(self, client):
        self.faulty(client, kind="bad-json")

    def later(self, client, milliseconds):
        at = time.time() + milliseconds / 1000
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03d}Z"
        return self.submit(client, self.session(), runAt=text)

    def delayed(self, client):
        self.later(client, 200)

    def drained(self, client):
        self.later(client, 600000)
        client.ask("drafter.drain", {"limit": 10}, seconds=40)

    def cancelled(self, client):
        """Cancelled and queued again, so that it ends as done."""
        record = self.later(client, 600000)
        if record["outcome"] == "ok":
            for command in ("drafter.cancel", "drafter.retry"):
                try:
                    client.ask(command, {"jobId": record["jobId"]}, seconds=40)
                except Refused:
                    pass  # a drain was faster

    def paused(self, client):
        for command in ("drafter.pause", "drafter.resume"):
            client.ask(command, {"projectId": self.project}, seconds=40)

    def read(self, client):
        client.ask("drafter.events", {"sessionId": "operator-s1", "afterSeq": 0}, seconds=40)


EITHER = {"message_received", "duplicate_looked_up", "handler_before", "handler_after", "batch_built", "completion_taken",
          "release_answer_before", "release_answer_after", "welcomed", "leave", "core_opened", "commit_write_before",
          "commit_write_after", "witness_before", "witness_between", "witness_after", "open_locked", "open_database_after",
          "close_before"}
PROBE = {"duplicate_answered", "inbox_apply_before", "inbox_apply_after", "inbox_repeat", "sweep_duplicates", "sweep_events"}
WANTED = {"job_resumed": "tried_again", "job_failed": "failed", "job_promoted": "delayed", "job_drained": "drained",
          "job_cancelled": "cancelled", "job_retried": "cancelled", "job_paused": "paused", "catch_up_read": "read"}
# Reached once in a life, or rarely: the first time it is.
RARE = {"welcomed", "leave", "core_opened", "close_before", "open_locked", "open_database_after", "broker_ready", "broker_welcomed",
        "broker_gone", "broker_left", "job_taken_back", "job_paused", "job_drained", "job_retried", "job_cancelled", "job_resumed",
        "job_failed", "outbox_resend", "inbox_repeat", "sweep_duplicates", "sweep_events"}


def tear_log(directory):
    """Adds to the newest log what a power cut may leave: the header of a record whose payload is zeros."""
    logs = sorted(glob.glob(os.path.join(directory, "db", "*.log")))
    with open(logs[-1], "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        left = 32768 - size % 32768
        if left < 7 + 100:
            file.write(b"\0" * left)
        file.write(struct.pack("<IHB", 0x12345678, 100, 1) + b"\0" * 100)


class Run:
    def __init__(self, parts, options):
        self.parts, self.options = parts, options
        self.random = random.Random(options.seed)
        self.hits, self.missed, self.violations = {}, [], []
        self.stop, self.end = threading.Event(), threading.Event()  # of the clients; of those that take what they cause

    def sandbox(self, path, body):
        with open(self.parts.path("run", "sandbox.port"), encoding="ascii") as file:
            port = int(file.read())
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()

    def begin(self):
        parts = self.parts
        parts.start("sandbox")
        port = parts.path("run", "sandbox.port")
        wait_until(lambda: os.path.exists(port) and os.path.getsize(port), 30, "the sandbox listens")
        self.sandbox("/sandbox/pace", {"delayMs": 20, "tokenDelayMs": 3})
        with open(port, encoding="ascii") as file:
            parts.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{int(file.read())}/v1"
        parts.environment["OPENAI_API_KEY"] = "sandbox"
        for name in ("broker", "probe", "drafter"):
            parts.start(name)
        self.client = parts.client(zmq.Context())
        for name in ("probe", "drafter"):
            assert parts.wait_healthy(name, client=self.client)
        self.receivers = [Receiver(parts, name, self.end, self.options.seed + i) for i, name in enumerate(("metrics", "alerts"))]
        self.sender = Sender(parts, "tester", self.end)
        self.burst = Burst(parts, self.stop)
        self.operator = Operator(parts.front(), self.options.seed, self.stop, lambda fault: self.sandbox("/sandbox/faults", fault))
        self.submitters = [Submitter(parts.front(), f"p{i}", self.options.seed * 1000 + i, self.stop) for i in range(2)]
        self.submitters.append(self.operator)
        self.listener = Listener(parts.events(), self.end)
        for thread in self.threads():
            thread.start()

    def threads(self):
        return [*self.receivers, self.sender, self.burst, *self.submitters, self.listener]

    def look_at_threads(self):
        for thread in self.threads():
            if getattr(thread, "error", None):
                raise AssertionError(f"{thread.name} failed: {thread.error!r}") from thread.error

    # ---- one point

    def hit(self, name, program):
        at_most = 1 if name in RARE or name.startswith("recovery_") else 6
        for at in sorted({self.random.randint(1, at_most), 1}, reverse=True):
            how = {"client": self.client_point}.get(program, self.empty_store_point if name == "epoch_before" else self.program_point)
            if how(name, program, at):
                self.hits[name] = self.hits.get(name, 0) + 1
                return
        self.missed.append(name)

    def victim_of(self, name, program):
        if program == "broker":
            return "broker"
        if name in PROBE or name.startswith("recovery_"):
            return "probe"
        return self.random.choice(("probe", "drafter")) if name in EITHER else "drafter"

    def program_point(self, name, program, at):
        parts, victim = self.parts, self.victim_of(name, program)
        self.operator.wanted = WANTED.get(name)
        if name == "job_taken_back":
            self.make_a_draft_wait()
        parts.kill(victim)
        if name.startswith("recovery_"):
            tear_log(parts.actor_directory(victim))
        config = None
        if name.startswith("sweep_"):
            config = parts.path("short.conf")
            parts.write_config(config, CONFIG.replace("credit = 3\n", "credit = 3\n" + SHORT_MEMORY.split("\n", 1)[1]))
        parts.start(victim, faults=True, environment={"STET_FAULT": f"{name}:{at}"}, config=config)
        if name == "sweep_events":
            self.client.ask("probe.job", {"sessionId": SWEPT})
        code = self.wait_for_death(name, victim)
        self.operator.wanted = None
        if code is None:
            parts.kill(victim)
        elif code != KILLED:
            self.violations.append(f"{name}: {victim} ended with {code}")
        parts.start(victim)
        self.back_again(name)
        return code == KILLED

    def wait_for_death(self, name, victim):
        parts = self.parts
        if name in ("leave", "close_before"):
            if parts.wait_healthy(victim, client=self.client):
                parts.processes[victim].send_signal(signal.SIGTERM)
        elif name == "broker_left":
            parts.wait_healthy("probe", client=self.client)
            parts.kill("probe", signal.SIGTERM)
            parts.start("probe")
        elif name == "broker_gone":
            parts.wait_healthy("probe", client=self.client)
            parts.kill("probe")
            parts.start("probe")
        return parts.exited(victim, REACH_SECONDS)

    def back_again(self, name):
        """Faults have stopped: everything answers soon."""
        for actor in ("probe", "drafter"):
            if not self.parts.wait_healthy(actor, client=self.client):
                raise AssertionError(f"{name}: {actor} ended with {self.parts.exited(actor, 1)} instead of coming back")
        self.look_at_threads()

    def make_a_draft_wait(self):
        tag = f"slow{uuid.uuid4()}|"
        self.sandbox("/sandbox/faults", {"kind": "delay", "delayMs": 3000, "match": tag, "times": 1})
        record = self.operator.submit(self.client, "operator-s0", instruction=f"Say {tag}", priority=0)
        if record["outcome"] != "ok":
            return

        def active():
            answer = self.client.ask("drafter.job", {"jobId": record["jobId"]})
            return answer.get("job", answer)["status"] != "queued"
        wait_until(active, 30, "the slow draft starts")

    def client_point(self, name, program, at):
        """The client dies; what became of its request a second one with the same id learns, twice with the same words."""
        request, key = str(uuid.uuid4()), f"client-{name}-{len(self.burst.acked)}-{self.hits.get(name, 0)}"
        command = ["call", "probe.put", json.dumps({"key": key, "value": name}), "--id", request, "--data", self.parts.data]
        died = subprocess.run([os.path.join(BIN, "stet-faults"), *command], env={**os.environ, "STET_FAULT": f"{name}:1"},
                              capture_output=True, timeout=60, check=False).returncode
        told = [subprocess.run([os.path.join(BIN, "stet"), *command], capture_output=True, timeout=60, check=False) for _ in range(2)]
        if [t.returncode for t in told] != [0, 0] or told[0].stdout != told[1].stdout:
            self.violations.append(f"{name}: the repeats of {request} said {[(t.returncode, t.stdout, t.stderr) for t in told]}")
        self.burst.acked[key] = name
        return died == KILLED

    def empty_store_point(self, name, program, at):
        """Needs no broker: a new store, killed before its first commit, opens at the next start."""
        with tempfile.TemporaryDirectory(prefix="stet-parts-") as data, Parts(CONFIG, data=data) as parts:
            parts.start("probe", faults=True, environment={"STET_FAULT": f"{name}:1"})
            code = parts.exited("probe", REACH_SECONDS)
            parts.start("probe")
            wait_until(lambda: "actor.started" in parts.log_text("probe") or not parts.running("probe"), 30, "the probe starts")
            if not parts.running("probe"):
                self.violations.append(f"{name}: the new store did not open at the next start")
            return code == KILLED

    # ---- the end

    def judge(self):
        for receiver in self.receivers:
            receiver.quiet = True
        projects = [submitter.project for submitter in self.submitters]
        self.finish_clients()
        wait_until(lambda: nothing_waits(self.client, projects), 120, "every job ends")
        try:
            wait_until(self.outbox_is_empty, 60, "the outbox is empty")
        except AssertionError:
            print(self.client.ask("drafter.stats"), [(r.name, r.registered, r.repeats, {k: len(c) for k, c in r.applied.items()})
                                                     for r in self.receivers])
            raise
        history = gather(self.client, self.submitters, self.listener, followers={})
        history["live"].pop(SWEPT, None)  # its events are gone, as they should
        self.violations += checker.check(history)
        for receiver in self.receivers:
            self.violations += receiver.violations
        self.violations += self.burst.violations
        self.end.set()
        for peer in (*self.receivers, self.sender):
            peer.join(30)
        self.check_probe()
        return history

    def finish_clients(self):
        self.stop.set()
        for thread in [*self.submitters, self.burst]:
            thread.join(120)
            if thread.is_alive():
                raise AssertionError(f"{thread.name} does not end")
        self.look_at_threads()

    def outbox_is_empty(self):
        stats = self.client.ask("drafter.stats")
        return sum(channel["pending"] for channel in stats["outbox"].values()) == 0

    def check_probe(self):
        for key, value in self.burst.acked.items():
            try:
                found = self.client.ask("probe.get", {"key": key})["value"]
            except Refused as refusal:
                found = refusal.code
            if found != value:
                self.violations.append(f"probe: {key} was acknowledged as {value!r} and is {found!r}")
        channel = self.client.ask("probe.get", {"key": "channel"})["value"]
        if channel not in (self.sender.acked, self.sender.number):
            self.violations.append(f"probe: message {self.sender.acked} of the channel was acknowledged, {channel} is applied")
        self.violations += [str(problem) for problem in pages(self.client, "probe.check", {"limit": 10000}, "problems")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1, help="rounds over all points")
    parser.add_argument("--seconds", type=float, default=0, help="begin no further point after so long")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--points", help="only these, comma separated")
    options = parser.parse_args()
    table = [(n, p) for n, p in points() if not options.points or n in options.points.split(",")]
    started = time.monotonic()
    with Parts(CONFIG) as parts:
        run = Run(parts, options)
        run.begin()
        for _ in range(options.count):
            run.random.shuffle(table)
            for name, program in table:
                if options.seconds and time.monotonic() - started > options.seconds:
                    break
                begun = time.monotonic()
                run.hit(name, program)
                if options.verbose:
                    print(f"{name} {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
        history = run.judge()
        stats = {"seed": options.seed, "seconds": round(time.monotonic() - started), "points": len(table), "kills": sum(run.hits.values()),
                 "missed": run.missed, "jobs": len(history["jobs"]), "puts": len(run.burst.acked), "channel": run.sender.acked,
                 "received": sum(len(c) for r in run.receivers for c in r.applied.values()),
                 "repeats": sum(r.repeats for r in run.receivers), "violations": len(run.violations), "hits": run.hits}
        for text in run.violations:
            print("VIOLATION", text)
        print(json.dumps(stats))
        never = [name for name, _ in table if not run.hits.get(name)]
        if never and not options.seconds:
            print("never reached:", ", ".join(never))
        if run.violations or never and not options.seconds:
            parts.print_logs()
            return 1
        return 0


if __name__ == "__main__":
    sys.exit(main())
