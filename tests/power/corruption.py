"""corruption - one file of a store is damaged: a bit is flipped, 512 bytes are zeroed, or it is cut at a random place. The next start
either is refused (exit 77, the message says what), or the damage is found by the first read that meets it (exit 74), or everything
that was acknowledged is there. Never a silent loss, a hang, or a refusal of a store that is whole.

The rows are known outside of the store, and so is that its witness is up to date. Every case reads all of them.
An older log is one that is still needed when there are newer ones, because its rows are not in a table yet.

Usage: corruption.py [--seed N] [--count CASES] [--seconds N] [--kinds NAME,...]
Prints one JSON line. Exit 0: no violation.
"""

import argparse
import glob
import json
import os
import random
import shutil
import sys
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lab"), HERE]
import msgpack  # noqa: E402
import zmq  # noqa: E402
from parts import Parts  # noqa: E402
from power import CONFIG, SHIM, Load  # noqa: E402

KINDS = {"log": "db/*.log", "older log": "db/*.log", "table": "db/*.sst", "manifest": "db/MANIFEST-*", "current": "db/CURRENT", "witness": "witness",
         "options": "db/OPTIONS-*", "identity": "db/IDENTITY"}
DAMAGES = ("flip", "zero", "cut", "empty", "remove")
ROWS = 110
SLOW_MS = 20000


class Corruption:
    def __init__(self, parts, rng, kinds):
        self.parts, self.rng, self.kinds = parts, rng, kinds
        self.directory, self.template = parts.actor_directory("probe"), parts.path("template")
        self.load = Load(parts, rng)
        self.ends, self.violations, self.unchanged = {}, [], 0

    def make_template(self):
        """Some tables, logs with the rest, a witness that knows the last commit; ended by SIGKILL."""
        self.rows = {}
        self.parts.start("probe")
        self.put_rows("table")
        self.parts.kill("probe")
        switch = self.parts.path("switch")
        self.parts.start("probe", preload=SHIM, environment={"STET_SHIM_DIR": self.directory, "STET_SHIM_SWITCH": switch,
                                                             "STET_SHIM_SLOW": str(SLOW_MS)})
        assert self.parts.wait_healthy("probe", client=self.load.client)  # opening writes a table of what the logs hold
        with open(switch, "w", encoding="ascii") as file:
            file.write("SLOW")
        self.put_rows("log")
        time.sleep(0.3)  # more than the witness may be behind
        self.parts.kill("probe")
        shutil.copytree(self.directory, self.template)
        for kind in KINDS:
            assert self.files(self.template, kind), kind

    def put_rows(self, name):
        assert self.parts.wait_healthy("probe", client=self.load.client)
        wanted = [(f"{name}{i}", os.urandom(10000).hex()) for i in range(ROWS)]
        waiting = {}
        self.rows.update(wanted)
        while wanted or waiting:
            while wanted and len(waiting) < 16:
                request = uuid.uuid4()
                waiting[request.bytes] = wanted.pop()
                self.load.client.send("probe.put", dict(zip(("key", "value"), waiting[request.bytes])), request, timeout_ms=30000)
            answer = self.load.client.receive(30000)
            assert answer and answer[0]["kind"] == "reply", answer
            waiting.pop(answer[0]["id"])

    @staticmethod
    def files(directory, kind):
        found = sorted(path for path in glob.glob(os.path.join(directory, KINDS[kind])) if os.path.getsize(path))
        return found[-1:] if kind == "log" else found[:-1] if kind == "older log" else found

    def damage(self, path, how):
        """False when the bytes are as before."""
        if how == "remove":
            os.unlink(path)
            return True
        with open(path, "r+b") as file:
            before = bytes(file.read())
            after, at = bytearray(before), self.rng.randrange(len(before))
            if how == "flip":
                after[at] ^= 1 << self.rng.randrange(8)
            elif how == "zero":
                after[at:at + 512] = bytes(len(after[at:at + 512]))
            else:
                del after[0 if how == "empty" else at:]
            file.seek(0)
            file.write(after)
            file.truncate()
        return bytes(after) != before

    def case(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.copytree(self.template, self.directory)
        kind, how, changed = "nothing", "nothing", False
        if self.rng.random() > 0.05:
            kind, how = self.rng.choice(self.kinds), self.rng.choice(DAMAGES)
            path = self.rng.choice(self.files(self.directory, kind))
            changed = self.damage(path, how)
        end = self.outcome()
        self.parts.kill("probe")
        name = f"{kind} {how}: {end}"
        self.ends[name] = self.ends.get(name, 0) + 1
        if end not in ("refused", "found by a read", "all there") or (not changed and end != "all there"):
            self.violations.append(name)
            print(f"VIOLATION {name}\n    " + "\n    ".join(self.parts.log_text("probe").splitlines()[-3:]), flush=True)

    def outcome(self):
        log_begin = len(self.parts.log_text("probe"))
        self.parts.start("probe")
        if not self.parts.wait_healthy("probe", client=self.load.client):
            code, log = self.parts.exited("probe", 5), self.parts.log_text("probe")[log_begin:]
            if code == 74 and "Corruption" in log and self.directory in log:
                return "found by a read"  # of the first turn
            return "refused" if code == 77 and self.directory in log else f"exit {code}"
        end = self.read_all()
        if end == "ended":
            code = self.parts.exited("probe", 5)
            return "found by a read" if code == 74 else f"exit {code} while reading"
        return end

    def read_all(self):
        todo, waiting, lost, end = list(self.rows), {}, 0, time.monotonic() + 30
        while todo or waiting:
            if not self.parts.running("probe"):
                return "ended"
            if time.monotonic() > end:
                return "hang"
            while todo and len(waiting) < 64:
                request = uuid.uuid4()
                waiting[request.bytes] = todo.pop()
                self.load.client.send("probe.get", {"key": waiting[request.bytes]}, request)
            answer = self.load.client.receive(50)
            if not answer or answer[0].get("id") not in waiting:
                continue
            key, body = waiting.pop(answer[0]["id"]), msgpack.unpackb(answer[1])
            if answer[0]["kind"] == "reply":
                lost += body["value"] != self.rows[key]
            elif body["code"] == "not_found":
                lost += 1
            else:
                todo.append(key)
        return f"{lost} rows lost silently" if lost else "all there"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS))
    options = parser.parse_args()
    started, done = time.monotonic(), 0
    with Parts(CONFIG) as parts:
        parts.start("broker")
        run = Corruption(parts, random.Random(options.seed), options.kinds)
        run.make_template()
        while done < options.count and not (options.seconds and time.monotonic() - started > options.seconds):
            done += 1
            run.case()
        print(json.dumps({"seed": options.seed, "seconds": round(time.monotonic() - started), "cases": done,
                          "ends": dict(sorted(run.ends.items())), "violations": len(run.violations)}))
    return 1 if run.violations else 0


if __name__ == "__main__":
    sys.exit(main())
