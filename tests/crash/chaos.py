"""chaos - SIGKILL and SIGSTOP hit every process of an instance at random while clients submit, edit, put and read and the model
answers slowly; then the checker decides whether a promise was broken.

Usage: chaos.py [--seed N] [--kills N] [--seconds N] [--projects N]     --seconds: stop early, 0 for no limit
Prints one summary line with what was done and how often. Exit 0: no violation.
"""

import argparse
import json
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lab"))
import checker  # noqa: E402
from crash import CONFIG, Traffic  # noqa: E402
from lab import Instance, alive, wait_until  # noqa: E402

VICTIMS = ("broker", "drafter", "probe", "sandbox")
KINDS = (("single", 52), ("double", 16), ("recovery", 24), ("frozen", 8))
FROZEN_SECONDS = (0.1, 0.1, 0.3, 0.3, 0.6, 1.2, 1.2, 2.5, 5.0)  # an actor is taken for away after 1 s
SUPERVISOR_EVERY = 60  # kills
PACE = {"delayMs": 40, "tokenDelayMs": 5}


class Chaos:
    def __init__(self, instance, rng):
        self.instance, self.rng = instance, rng
        self.hits = dict.fromkeys((*VICTIMS, "supervisor"), 0)
        self.kinds = dict.fromkeys([kind for kind, _ in KINDS] + ["supervisor", "everything"], 0)
        self.pace_is_set = False

    def kill(self, victim):
        pid = self.instance.kill(victim, signal.SIGKILL)
        self.hits[victim] += pid is not None
        if victim == "sandbox":
            self.pace_is_set = False
        return pid

    def back(self, victim, before):
        """The pid of a victim that was started again."""
        return wait_until(lambda: self.instance.pid(victim) not in (None, before), 60, f"{victim} is started again")

    def single(self):
        self.kill(self.rng.choice(VICTIMS))

    def double(self):
        for victim in self.rng.sample(VICTIMS, 2):
            self.kill(victim)

    def recovery(self):
        """Again, once or twice, while it is still starting or recovering."""
        victim = self.rng.choice(VICTIMS)
        before = self.kill(victim)
        for _ in range(self.rng.randint(1, 2)):
            if before:
                self.back(victim, before)
            time.sleep(self.rng.uniform(0, 0.1))
            before = self.kill(victim)

    def frozen(self):
        """One stands still; meanwhile another may die; the frozen one goes on, or dies frozen."""
        victim, other = self.rng.sample(VICTIMS, 2)
        pid = self.instance.kill(victim, signal.SIGSTOP)
        if pid is None:
            return
        try:
            time.sleep(self.rng.choice(FROZEN_SECONDS))
            if self.rng.random() < 0.3:
                self.kill(other)
            if self.rng.random() < 0.2:
                self.kill(victim)
        finally:
            self.instance.signal(pid, signal.SIGCONT)

    def supervisor(self):
        """The supervisor dies, its children with it (by SIGTERM from the kernel, or at once); `stet up` goes on."""
        pid = self.kill("supervisor")
        if self.rng.random() < 0.5:
            self.kinds["everything"] += 1
            for victim in VICTIMS:
                self.kill(victim)
        wait_until(lambda: not alive(pid), 60, "the supervisor is dead")
        self.instance.up()
        self.pace_is_set = False

    def slow_down_the_model(self):
        """A new sandbox answers at once; while it is not there yet the next round tries again."""
        if not self.pace_is_set:
            try:
                self.instance.http("POST", "/sandbox/pace", PACE, seconds=1)
                self.pace_is_set = True
            except (OSError, ValueError):
                pass

    def run(self, kills, seconds, traffic):
        end = time.monotonic() + (seconds or float("inf"))
        next_supervisor = min(SUPERVISOR_EVERY, kills) // 2
        while sum(self.hits.values()) < kills and time.monotonic() < end:
            self.slow_down_the_model()
            if sum(self.hits.values()) >= next_supervisor:
                kind, next_supervisor = "supervisor", next_supervisor + SUPERVISOR_EVERY
            else:
                kind = self.rng.choices([name for name, _ in KINDS], [weight for _, weight in KINDS])[0]
            getattr(self, kind)()
            self.kinds[kind] += 1
            traffic.check_alive()
            # The length of a phase of load: from "still recovering" to "long back".
            time.sleep(self.rng.choice([0.02, 0.05, 0.1, 0.3, 0.6]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--projects", type=int, default=4)
    options = parser.parse_args()
    began = time.monotonic()

    with Instance(config=CONFIG) as instance:
        traffic = Traffic(instance, options.seed, options.projects)
        chaos = Chaos(instance, random.Random(options.seed))
        chaos.slow_down_the_model()
        traffic.start()
        chaos.run(options.kills, options.seconds, traffic)
        killed = time.monotonic()
        history = traffic.finish()
        found = checker.check(history)

    print(json.dumps({
        "seed": options.seed, "kills": sum(chaos.hits.values()), "victims": chaos.hits, "kinds": chaos.kinds,
        **traffic.summary(history), "killSeconds": round(killed - began, 1), "seconds": round(time.monotonic() - began, 1),
        "violations": len(found)}))
    for text in found:
        print("VIOLATION", text)
    if sum(s["outcome"] == "ok" for s in history["submits"]) < options.kills // 20 or len(history["reads"]) < options.kills // 4:
        print("too few requests were answered for the run to mean anything")
        return 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
