"""power - the probe is killed under load and its disk loses what was not synced; what was acknowledged must be there afterwards.

shim.c notes what the process did to its files. After the kill this program applies a power cut to them: what was written after the
last sync of a file is cut off, or any 512-byte blocks of it survive, or the last record keeps its header and its payload is
zeros; names that were made, changed or removed since the last sync of their directory are as before, from some point on.
A refusal to open (exit 77) is a failure too: a power cut is no damage.

Usage: power.py [--seed N] [--count CYCLES] [--seconds N] [--no-sync] [--keep DIR] [--die SHARE]
--die: the share of cycles that end instead of a sync of the manifest, which would hardly ever be hit by chance.
--keep: what is lost or refused is copied there, with the shim's log and the files as they were before the loss.
With --no-sync commits are not synced: then losses must be found, or this harness proves nothing.
Prints one JSON line. Exit 0: as it should be.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
import msgpack  # noqa: E402
import zmq  # noqa: E402
from lab import BIN, Refused, wait_until  # noqa: E402
from parts import Parts  # noqa: E402

SHIM = os.path.join(BIN, "..", "tests", "power", "libstet_shim.so")
BLOCK = 512
# Small buffers, so that logs are switched and tables are written within a few seconds.
CONFIG = """
store
    memory = 4M
    freeMin = 0
    ballast = 0
"""
MODES = ("cut", "blocks", "header", "keep")


class Disk:
    """What is durable, from the shim's log; then the loss."""

    def __init__(self, log, rng):
        self.rng = rng
        self.synced = {}     # path: bytes that are durable
        self.over = {}       # path: [(begin, old bytes)] written over synced bytes since the last sync of the file
        self.pending = {}    # directory: [operation] since its last sync
        if not os.path.exists(log):  # killed before it had begun
            return
        with open(log, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if line.endswith("\n"):
                    self.event(line.rstrip("\n").split("\t"))

    def event(self, fields):
        kind, path = fields[0], fields[1]
        if kind == "C":
            self.synced[path] = 0
            self.later(path, fields)
        elif kind in ("M", "U", "R", "X", "L"):
            self.later(path, fields)
            if kind == "R":
                self.moved(path, fields[2])
        elif kind == "S":
            self.synced[path] = max(self.synced.get(path, 0), int(fields[2]))
            self.over.pop(path, None)
        elif kind == "W":
            self.synced.setdefault(path, 1 << 62)  # older than this log: what it had is durable, see loss()
        elif kind == "O":
            self.over.setdefault(path, []).append((int(fields[2]), bytes.fromhex(fields[3])))
        elif kind == "T":
            self.synced[path] = min(self.synced.get(path, 1 << 62), int(fields[2]))
        elif kind == "D":
            self.pending.pop(path, None)

    def later(self, path, fields):
        made = fields[2] if fields[0] == "L" else path
        self.pending.setdefault(os.path.dirname(made), []).append(fields)

    def moved(self, old, new):
        for table in (self.synced, self.over):
            for path in list(table):
                if path == old or path.startswith(old + "/"):
                    table[new + path[len(old):]] = table.pop(path)

    # ---- the loss

    def lose(self, mode, sizes_before):
        """Changes the files; returns what it did, counted. sizes_before: of files that are older than the log."""
        done = {"bytes": 0, "names": 0, "overwritten": 0}
        for path in list(self.synced):
            if os.path.isfile(path):
                durable = min(self.synced[path], sizes_before.get(path, 0)) if self.synced[path] == 1 << 62 else self.synced[path]
                done["bytes"] += self.lose_bytes(path, durable, mode)
                done["overwritten"] += self.lose_overwrites(path, durable, mode)
        if mode != "keep":
            for operations in self.pending.values():
                keep = 0 if mode == "cut" else self.rng.randint(0, len(operations))
                for fields in reversed(operations[keep:]):
                    done["names"] += self.undo(fields)
        return done

    def lose_bytes(self, path, durable, mode):
        size = os.path.getsize(path)
        if size <= durable or mode == "keep":
            return 0
        with open(path, "r+b") as file:
            if mode == "cut":
                file.truncate(durable)
                return size - durable
            file.seek(durable)
            tail = bytearray(file.read())
            if mode == "header":
                head = self.rng.choice([7, 8, 11, 20])
                tail[head:] = bytes(max(0, len(tail) - head))
            else:
                begin = 0
                while begin < len(tail):
                    end = min(len(tail), begin + BLOCK - (durable + begin) % BLOCK)
                    if self.rng.random() < 0.5:
                        tail[begin:end] = bytes(end - begin)
                    begin = end
                tail = tail[:self.rng.choice([len(tail), self.rng.randint(0, len(tail))])]
            file.seek(durable)
            file.write(tail)
            file.truncate()
        return size - durable

    def lose_overwrites(self, path, durable, mode):
        count = 0
        with open(path, "r+b") as file:
            for begin, old in reversed(self.over.get(path, [])):
                if mode == "keep" or mode == "blocks" and self.rng.random() < 0.3:
                    continue
                part = self.rng.randint(0, len(old)) if mode == "blocks" else len(old)  # torn inside, or all old
                file.seek(begin)
                file.write(old[:part])
                count += 1
        return count

    def undo(self, fields):
        kind, path = fields[0], fields[1]
        try:
            if kind in ("C", "L"):
                os.unlink(path if kind == "C" else fields[2])
            elif kind == "M":
                shutil.rmtree(path)
            elif kind == "U":
                if fields[2] == "-" or os.path.exists(path):
                    return 0
                os.link(fields[2], path)
            elif kind == "X":
                os.rename(path, path + ".exchange")
                os.rename(fields[2], path)
                os.rename(path + ".exchange", fields[2])
            elif kind == "R":
                os.rename(fields[2], path)
                if fields[3] != "-":
                    os.link(fields[3], fields[2])
        except FileNotFoundError:
            return 0
        return 1


class Load:
    """Puts with a raw client, many at once; what was acknowledged is kept here, outside."""

    OUTSTANDING = 24

    def __init__(self, parts, rng):
        self.rng, self.client = rng, parts.client(zmq.Context())
        self.acked, self.open, self.count = {}, {}, 0

    def run(self, seconds, enough, alive):
        """Until so long has passed and so many were acknowledged, or there is nobody any more; True unless none of it
        happened in 20 s."""
        begin, first = time.monotonic(), len(self.acked)
        while alive():
            now = time.monotonic() - begin
            if now > seconds and len(self.acked) - first >= enough:
                return True
            if now > 20:
                return False
            while len(self.open) < self.OUTSTANDING:
                self.put()
            self.take(20)
        return True

    def put(self):
        self.count += 1
        key = f"k{self.count}" if self.rng.random() < 0.9 else f"hot{self.count % 7}"
        if any(key == other for other, _ in self.open.values()):
            return
        value = [self.count, "v" * self.rng.choice([8, 100, 100, 700, 6000])]
        request = uuid.uuid4()
        self.open[request.bytes] = (key, value)
        self.client.send("probe.put", {"key": key, "value": value}, request)

    def take(self, wait_ms):
        answer = self.client.receive(wait_ms)
        while answer:
            envelope, _ = answer
            written = self.open.pop(envelope.get("id"), None)
            if written and envelope["kind"] == "reply":
                self.acked[written[0]] = written[1]
            elif written:  # the actor may have gone after it had written: either value is right
                self.acked.pop(written[0], None)
            answer = self.client.receive(0)

    def forget_open(self):
        """Unknown outcomes: a hot key may have either value, so its acknowledged one is dropped from what must be there."""
        self.take(50)
        for key, _ in self.open.values():
            self.acked.pop(key, None)
        self.open = {}

    def missing(self, limit=400):
        """Acknowledged keys with another value: the newest and a sample of the rest, asked many at once."""
        keys = list(self.acked)
        chosen = keys[-limit // 2:] + self.rng.sample(keys[:-limit // 2], min(limit // 2, max(0, len(keys) - limit // 2)))
        waiting, lost, end = {}, [], time.monotonic() + 30
        todo = list(chosen)
        while (todo or waiting) and time.monotonic() < end:
            while todo and len(waiting) < 64:
                request = uuid.uuid4()
                waiting[request.bytes] = todo.pop()
                self.client.send("probe.get", {"key": waiting[request.bytes]}, request)
            answer = self.client.receive(100)
            if not answer or answer[0].get("id") not in waiting:
                continue
            key, body = waiting.pop(answer[0]["id"]), msgpack.unpackb(answer[1])
            if answer[0]["kind"] == "reply" and body["value"] != self.acked[key] or body.get("code") == "not_found":
                lost.append(key)
            elif answer[0]["kind"] != "reply":
                todo.append(key)
        return lost if not (todo or waiting) else [f"no answer about {len(todo) + len(waiting)} keys"]


class Power:
    def __init__(self, parts, options):
        self.parts, self.options, self.rng = parts, options, random.Random(options.seed)
        self.directory = parts.actor_directory("probe")
        self.side = tempfile.mkdtemp(prefix="stet-power-", dir=os.path.dirname(parts.data))
        self.path_before = self.side + "-before"
        self.load = Load(parts, self.rng)
        self.totals = {"cycles": 0, "modes": {mode: 0 for mode in MODES}, "bytes": 0, "names": 0, "overwritten": 0,
                       "dying": 0, "recovered": 0, "torn_manifests": 0, "losses": 0, "refusals": 0, "other": []}

    def sizes(self):
        return {os.path.join(folder, name): os.path.getsize(os.path.join(folder, name))
                for folder, _, names in os.walk(self.directory) for name in names}

    def start(self):
        """The probe under the shim, with a log of its own."""
        shutil.rmtree(self.side, ignore_errors=True)
        os.makedirs(os.path.join(self.side, "graves"))
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        self.before = self.sizes()
        environment = {"STET_SHIM_DIR": self.directory, "STET_SHIM_LOG": os.path.join(self.side, "log"),
                       "STET_SHIM_GRAVES": os.path.join(self.side, "graves")}
        self.dying = self.rng.random() < self.options.die
        if self.dying:
            environment |= {"STET_SHIM_DIE": "MANIFEST", "STET_SHIM_DIE_AT": str(self.rng.randint(2, 7))}
            self.totals["dying"] += 1
        if self.options.no_sync:
            environment["STET_FAULT_NO_SYNC"] = "1"
        self.parts.start("probe", faults=self.options.no_sync, environment=environment, preload=SHIM)

    def cycle(self):
        self.totals["cycles"] += 1
        self.start()
        mode = self.rng.choice(MODES)
        during_open = self.totals["cycles"] > 1 and not self.dying and self.rng.random() < 0.15
        if during_open:
            time.sleep(self.rng.uniform(0.0, 0.15))  # somewhere in opening; where it is does not matter
        elif not self.load.run(5.0 if self.dying else self.rng.choice([0.0, 0.05, 0.2, 0.5]), self.rng.choice([1, 30, 200]),
                               alive=lambda: self.parts.running("probe")):
            self.totals["other"].append("no acknowledgement within 20 s")
        code = self.parts.kill("probe")
        if code == 77:
            return self.refused()
        self.load.forget_open()
        self.totals["modes"][mode] += 1
        if self.options.keep:
            shutil.rmtree(self.path_before, ignore_errors=True)
            shutil.copytree(self.directory, self.path_before)
        done = Disk(os.path.join(self.side, "log"), self.rng).lose(mode, self.before)
        for key, value in done.items():
            self.totals[key] += value
        return self.judge(mode)

    def refused(self):
        self.totals["refusals"] += 1
        self.keep()
        print(f"cycle {self.totals['cycles']}: refused to open after a power cut: {self.parts.log_text('probe').splitlines()[-1]}", flush=True)
        self.begin_anew()

    def judge(self, mode):
        """What a restart without the shim finds."""
        self.parts.start("probe")
        if not self.parts.wait_healthy("probe", client=self.load.client):
            code = self.parts.exited("probe", 1)
            if code == 77:
                return self.refused()
            self.totals["other"].append(f"exit {code}")
            return self.begin_anew()
        lost = self.load.missing()
        problems = self.load.client.ask("probe.check", {"limit": 2000})["problems"]
        if lost or problems:
            self.totals["losses"] += len(lost)
            self.keep()
            if not self.options.no_sync:
                print(f"cycle {self.totals['cycles']} ({mode}): lost {lost[:5]}, problems {problems[:3]}", flush=True)
            for key in lost:
                self.load.acked.pop(key, None)
        self.parts.kill("probe")
        self.totals["recovered"] += self.tidy()
        if self.totals["cycles"] % 25 == 0:
            self.begin_anew()

    def keep(self):
        if self.options.keep and not self.options.no_sync:
            kept = os.path.join(self.options.keep, f"{self.options.seed}-{self.totals['cycles']}")
            shutil.copytree(self.directory, os.path.join(kept, "after"), dirs_exist_ok=True)
            for path in (self.path_before, os.path.join(self.side, "log")):
                if os.path.exists(path):
                    os.rename(path, os.path.join(kept, os.path.basename(path)))

    def tidy(self):
        """Databases put aside by recoveries: counted and removed."""
        self.totals["torn_manifests"] = self.parts.log_text("probe").count('"store.manifest.torn"')
        aside = [name for name in os.listdir(self.directory) if name.startswith("db.damaged")]
        for name in aside:
            shutil.rmtree(os.path.join(self.directory, name))
        return len(aside)

    def begin_anew(self):
        self.parts.kill("probe")
        shutil.rmtree(self.directory)
        self.load.acked = {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--no-sync", action="store_true")
    parser.add_argument("--keep")
    parser.add_argument("--die", type=float, default=0.1)
    options = parser.parse_args()
    started = time.monotonic()
    with Parts(CONFIG) as parts:
        parts.start("broker")
        power = Power(parts, options)
        try:
            while power.totals["cycles"] < options.count and not (options.seconds and time.monotonic() - started > options.seconds):
                power.cycle()
        finally:
            shutil.rmtree(power.side, ignore_errors=True)
            shutil.rmtree(power.path_before, ignore_errors=True)
        totals = power.totals
        print(json.dumps({"seed": options.seed, "seconds": round(time.monotonic() - started), **totals}))
        if options.no_sync:
            if totals["losses"] + totals["refusals"] == 0:
                print("commits were not synced and no loss was found: the harness is blind")
                return 1
            return 0
        if totals["losses"] or totals["refusals"] or totals["other"]:
            parts.print_logs()
            return 1
        return 0


if __name__ == "__main__":
    sys.exit(main())
