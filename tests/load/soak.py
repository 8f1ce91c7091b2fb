"""soak - constant load for a long time, in the second half with a kill every ten seconds; what grows, and whether a promise breaks.

Asserted: no violation; threads and descriptors stay what they were once all was warm. Printed: the slope of the memory of each
process over the first half (one life each), the size of the databases, how long a put took in the first and the last quarter.

Usage: soak.py [--seed N] [--seconds N] [--every SECONDS-BETWEEN-KILLS] [--signal KILL|TERM] [--heartbeat DURATION]
"""

import argparse
import json
import os
import random
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lab"), os.path.join(HERE, "..", "crash")]
import checker  # noqa: E402
from crash import CONFIG, Traffic  # noqa: E402
from lab import Instance  # noqa: E402

WATCHED = ("broker", "drafter", "probe", "supervisor")
VICTIMS = ("broker", "drafter", "probe")
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM}
# RocksDB starts its threads when it first needs them, and has its files open or not; clients come and go.
THREADS_SLACK, DESCRIPTORS_SLACK = 3, 24


def sample(pid):
    """(resident bytes, threads, descriptors) of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            rss = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return rss, len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def bytes_below(path):
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                pass  # compacted away
    return total


def slope_per_hour(points):
    """Least squares, in KiB an hour."""
    if len(points) < 2:
        return None
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return round(sum((x - mean_x) * (y - mean_y) for x, y in points) / below * 3600 / 1024) if below else None


def percentile(values, share):
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000, 1) if values else None


class Soak:
    def __init__(self, instance, options):
        self.instance, self.options = instance, options
        self.random = random.Random(options.seed)
        self.samples = {name: [] for name in WATCHED}  # (second, pid, (rss, threads, descriptors))
        self.database, self.kills = [], 0

    def run(self, traffic):
        began = time.monotonic()
        next_kill = self.options.seconds / 2
        while (second := time.monotonic() - began) < self.options.seconds:
            for name in WATCHED:
                pid = self.instance.pid(name)
                taken = sample(pid) if pid else None
                if taken:
                    self.samples[name].append((second, pid, taken))
            self.database.append(sum(bytes_below(os.path.join(self.instance.data, name)) for name in ("drafter", "probe")))
            if second >= next_kill:
                self.kills += self.instance.kill(self.random.choice(VICTIMS), SIGNALS[self.options.signal]) is not None
                next_kill += self.options.every
            traffic.check_alive()
            time.sleep(min(1.0, self.options.seconds / 40))
        return began

    def part(self, name, first, last):
        """What was sampled between two shares of the time."""
        return [(s, taken) for s, _, taken in self.samples[name] if first <= s / self.options.seconds < last]

    def growth(self):
        """What has more threads or descriptors than when all was warm."""
        for name in WATCHED:
            warm, later = self.part(name, 0.2, 0.35), self.part(name, 0.35, 1)
            if not warm:
                continue  # the machine stood still
            for index, what, slack in ((1, "threads", THREADS_SLACK), (2, "descriptors", DESCRIPTORS_SLACK)):
                before, after = (max((taken[index] for _, taken in some), default=0) for some in (warm, later))
                if after > before + slack:
                    yield f"{name} had {before} {what} when warm, {after} later"

    def summary(self):
        return {
            "rssKiBPerHour": {name: slope_per_hour([(s, taken[0]) for s, taken in self.part(name, 0.2, 0.5)]) for name in WATCHED},
            "rssMiB": {name: round(self.samples[name][-1][2][0] / 2**20, 1) for name in WATCHED},
            "threads": {name: max(taken[1] for _, _, taken in self.samples[name]) for name in WATCHED},
            "descriptors": {name: max(taken[2] for _, _, taken in self.samples[name]) for name in WATCHED},
            "databaseMiB": [round(self.database[i] / 2**20, 1) for i in (0, len(self.database) // 2, -1)],
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--signal", choices=SIGNALS, default="KILL", help="TERM: each ends in order and is started again")
    parser.add_argument("--heartbeat", default="250ms", help="of the broker: longer where programs are slow, under valgrind")
    options = parser.parse_args()
    with Instance(config=f"{CONFIG}broker\n    heartbeat = {options.heartbeat}\n") as instance:
        instance.http("POST", "/sandbox/pace", {"delayMs": 40, "tokenDelayMs": 5})
        traffic, soak = Traffic(instance, options.seed, pause=0.1), Soak(instance, options)
        traffic.start()
        began = soak.run(traffic)
        latency = [(at - began, took) for writer in traffic.writers for at, took in writer.latency]
        history = traffic.finish()
        found = checker.check(history) + list(soak.growth())
    quarter = options.seconds / 4
    print(json.dumps({
        "seed": options.seed, "seconds": options.seconds, "kills": soak.kills, **traffic.summary(history), **soak.summary(),
        "putP99MsFirstQuarter": percentile([took for at, took in latency if at < quarter], 0.99),
        "putP99MsLastQuarter": percentile([took for at, took in latency if at >= 3 * quarter], 0.99),
        "violations": len(found)}))
    for text in found:
        print("VIOLATION", text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
