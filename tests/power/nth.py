"""nth - the n-th call of the probe to its disk fails, for every n until the scenario runs clean, once and for ever from n on; then
the same for its own allocations.

The scenario: the probe opens its store (a new one, or one that was killed and has a log to replay), answers fifty messages, stops.
Invariants: what was acknowledged is there after a restart without faults, and that restart is not refused; under the fault the
process serves, waits alive for room on the disk (ENOSPC while opening), refuses while there is no memory at all, or ends with a
documented exit code and a line in its log, not with 77 (damaged) or 78 (configuration); nothing hangs, and what happened once is got over.
An allocation may also end it by SIGABRT (libzmq, RocksDB and our own ASSERT give up without memory).

Usage: nth.py [--seed N] [--count CASES] [--seconds N] [--only io|memory] [--jobs N]     without --count: every n
Prints one JSON line. Exit 0: no violation.
"""

import argparse
import json
import os
import random
import shutil
import signal
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lab"), HERE]
import zmq  # noqa: E402
import uuid  # noqa: E402
from lab import Refused  # noqa: E402
from parts import Parts  # noqa: E402
from power import CONFIG, SHIM  # noqa: E402

MESSAGES = 50
WINDOW = 8
HANG_SECONDS = 10
DOCUMENTED = (0, 70, 74)


class Scenario:
    def __init__(self, parts):
        self.parts, self.client = parts, parts.client(zmq.Context())
        self.directory = parts.actor_directory("probe")
        self.template = parts.path("template")
        self.count_file = parts.path("count")
        self.begun = 0

    def make_template(self):
        """A store that was killed: opening replays its log and writes a table. Its keys have to stay, too."""
        self.place("new")
        self.parts.start("probe")
        self.known = {}
        assert self.put_all(self.known) == "served"
        self.parts.kill("probe")
        shutil.copytree(self.directory, self.template)

    def place(self, kind):
        shutil.rmtree(self.directory, ignore_errors=True)
        if kind == "new":
            os.makedirs(self.directory, mode=0o700)
        else:
            shutil.copytree(self.template, self.directory)

    def run(self, kind, environment):
        """(how it went, exit code, acknowledged, counts of the shim)"""
        self.place(kind)
        if os.path.exists(self.count_file):
            os.unlink(self.count_file)
        self.log_begin = os.path.getsize(os.path.join(self.parts.logs, "probe.log")) if self.begun else 0
        self.begun += 1
        self.parts.start("probe", preload=SHIM,
                         environment={"STET_SHIM_DIR": self.directory, "STET_SHIM_COUNT": self.count_file, **environment})
        acked = {} if kind == "new" else dict(self.known)
        how = self.put_all(acked)
        code = None
        if how == "ended":
            code = self.parts.exited("probe", 5)
        else:
            self.parts.processes["probe"].send_signal(signal.SIGTERM)
            code = self.parts.exited("probe", HANG_SECONDS)
            if code is None:
                self.parts.kill("probe")
                how += ", does not stop"
        with open(self.count_file, "rb") as file:
            counts = struct.unpack("<QQQ", file.read(24))
        return how, code, acked, counts

    def log(self):
        with open(os.path.join(self.parts.logs, "probe.log"), encoding="utf-8", errors="replace") as file:
            file.seek(self.log_begin)
            return file.read()

    def put_all(self, acked):
        """served: all are acknowledged; ended: the process has; waiting: for room on the disk; refusing: alive, every message is
        answered with an error; hang: none of these."""
        todo = [(f"n{self.begun}-{i}", "v" * (20 + 37 * i)) for i in range(MESSAGES)]
        waiting, progress, refused = {}, time.monotonic(), None
        while todo or waiting:
            if not self.parts.running("probe"):
                return "ended"
            if time.monotonic() - progress > 3 and '"store.waiting"' in self.log():
                return "waiting"
            if time.monotonic() - progress > HANG_SECONDS:
                return "refusing" if refused and time.monotonic() - refused < 2 else "hang"
            while todo and len(waiting) < WINDOW:
                waiting[uuid.uuid4().bytes] = [*todo.pop(0), 0.0]
            for request, entry in waiting.items():
                if time.monotonic() > entry[2]:
                    entry[2] = time.monotonic() + 1.0
                    self.client.send("probe.put", {"key": entry[0], "value": entry[1]}, uuid.UUID(bytes=request))
            answer = self.client.receive(10)
            if answer and answer[0].get("id") in waiting:
                if answer[0]["kind"] == "reply":
                    key, value, _ = waiting.pop(answer[0]["id"])
                    acked[key] = value
                    progress = time.monotonic()
                else:
                    if b"not running" not in answer[1]:  # the actor's own word, not the broker's
                        refused = time.monotonic()
                    waiting[answer[0]["id"]][2] = time.monotonic() + 0.03
        return "served"

    def judge(self, acked):
        """Violations found after a restart without faults."""
        self.parts.start("probe")
        if not self.parts.wait_healthy("probe", client=self.client):
            return [f"the restart without faults ended with {self.parts.exited('probe', 1)}: {self.log().splitlines()[-1][:500]}"]
        found = []
        for key in acked:
            try:
                if self.client.ask("probe.get", {"key": key})["value"] != acked[key]:
                    found.append(f"{key} has another value")
            except Refused as refusal:
                found.append(f"{key} was acknowledged: {refusal.code}")
        found += [str(problem) for problem in self.client.ask("probe.check", {"limit": 2000})["problems"]]
        self.parts.kill("probe")
        return found


def cases(scenario, options, rng):
    """Every (kind of store, environment), or an evenly spread sample of them."""
    every = []
    for kind in ("new", "killed"):
        how, code, _, (calls, _, allocations) = scenario.run(kind, {})
        assert (how, code) == ("served", 0), (how, code)
        if options.only != "memory":
            # The number of calls differs a little from run to run: a margin that runs clean ends the sweep.
            every += [(kind, {"STET_SHIM_FAIL": error, "STET_SHIM_AT": str(n), "STET_SHIM_FOREVER": forever})
                      for error in ("EIO", "ENOSPC", "SHORT") for forever in "01" for n in range(1, calls + 5)]
        if options.only != "io":
            every += [(kind, {"STET_SHIM_MALLOC_AT": str(n), "STET_SHIM_FOREVER": forever})
                      for forever in "01" for n in range(1, allocations + 5)]
        print(f"# {kind}: {calls} calls to the disk, {allocations} allocations", file=sys.stderr)
    if options.count and options.count < len(every):
        io = [case for case in every if "STET_SHIM_FAIL" in case[1]]
        memory = [case for case in every if "STET_SHIM_FAIL" not in case[1]]
        want = min(len(io), options.count * 3 // 4) if memory else options.count
        every = rng.sample(io, want) + rng.sample(memory, min(len(memory), options.count - want))
    rng.shuffle(every)
    return every


class Run:
    """Cases by several workers at once, each with a broker and a data directory of its own: most of their time is waiting."""

    def __init__(self, options):
        self.options, self.started, self.lock = options, time.monotonic(), threading.Lock()
        self.ends, self.violations, self.done, self.every, self.failures = {}, [], 0, [], []
        self.hits = {"EIO": 0, "ENOSPC": 0, "SHORT": 0, "memory": 0}

    def next(self):
        with self.lock:
            late = self.options.seconds and time.monotonic() - self.started > self.options.seconds
            return self.every.pop() if self.every and not late and not self.failures else None

    def work(self, worker):
        """Cases until there are none; a worker that fails itself is no violation, but the run has failed."""
        try:
            with Parts(CONFIG) as parts:
                parts.start("broker")
                scenario = Scenario(parts)
                scenario.make_template()
                if worker == 0:
                    self.every = cases(scenario, self.options, random.Random(self.options.seed))
                    self.of = len(self.every)
                    self.ready.set()
                self.ready.wait()
                for case in iter(self.next, None):
                    self.case(scenario, *case)
        except BaseException as error:  # told by the main thread
            self.failures.append(error)
            self.ready.set()

    def case(self, scenario, kind, environment):
        how, code, acked, (_, failures, _) = scenario.run(kind, environment)
        found = violations_of(environment, how, code, scenario.log()) + scenario.judge(acked)
        what = environment.get("STET_SHIM_FAIL", "memory")
        with self.lock:
            self.done += 1
            self.hits[what] += failures > 0
            end = f"{what}: {how if how != 'ended' else f'exit {code}'}"
            self.ends[end] = self.ends.get(end, 0) + 1
            for text in found:
                self.violations.append(text)
                print(f"VIOLATION {kind} {environment}: {text}\n    {scenario.log()[-900:]}", flush=True)

    def run(self):
        self.ready = threading.Event()
        workers = [threading.Thread(target=self.work, args=(i,)) for i in range(self.options.jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if self.failures:
            raise self.failures[0]


def violations_of(environment, how, code, log):
    """Of the life under the fault."""
    memory, once = "STET_SHIM_FAIL" not in environment, environment["STET_SHIM_FOREVER"] == "0"
    found = [how] if "hang" in how or "does not stop" in how or (once and how in ("refusing", "waiting")) else []
    if code not in DOCUMENTED and not (memory and code == -signal.SIGABRT):
        found.append(f"ended with {code}")
    if how == "ended" and code and not log.strip():
        found.append(f"ended with {code} without a word")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--only", choices=("io", "memory"))
    run = Run(parser.parse_args())
    run.run()
    print(json.dumps({"seed": run.options.seed, "seconds": round(time.monotonic() - run.started), "cases": run.done, "of": run.of,
                      "hits": run.hits, "ends": dict(sorted(run.ends.items())), "violations": len(run.violations)}))
    return 1 if run.violations or run.done == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
