"""clock - broker or actors whose wall clock is a year ahead, a year behind, or jumps while they run (Debian's libfaketime): promises hold.

The clocks that only go forward are true, as they are on a machine whose wall clock is set. Usage: clock.py [--seed N] [--seconds N] [NAMES OF TESTS]
--seconds: of traffic under a jumping clock. Prints one summary line for each of those.
"""

import glob
import json
import os
import random
import shutil
import sys
import tempfile
import time
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lab"), os.path.join(HERE, "..", "crash")]
import checker  # noqa: E402
import lab  # noqa: E402
from crash import CONFIG, Traffic  # noqa: E402
from lab import Instance, wait_until  # noqa: E402

# No back-off: it goes by the wall clock, and a job that waits when the clock is set back waits for as long.
ONE_TRY = CONFIG + "    attempts = 1\n    callTries = 1\n"
OPTIONS = {"--seed": 1, "--seconds": 5}
ACTORS = ("drafter", "probe")
YEAR = 365 * 86400


def library():
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        raise AssertionError("libfaketime is not there: bash tools/install-packages.sh")
    return found[0]


class WrongClock:
    """A directory of the programs in which some start with a wall clock that is set by a file."""

    def __init__(self, names):
        self.path = tempfile.mkdtemp(prefix="stet-clock-")
        self.file = os.path.join(self.path, "clock")
        self.set(0)
        for program in os.listdir(lab.BIN):
            source, target = os.path.abspath(os.path.join(lab.BIN, program)), os.path.join(self.path, program)
            if program == "stet":
                shutil.copy2(source, target)  # it looks for the others beside itself
            elif program in [f"stet-{name}" for name in names]:
                with open(target, "w", encoding="utf-8") as script:
                    script.write("#!/bin/sh\n"
                                 f"export LD_PRELOAD={library()} FAKETIME_TIMESTAMP_FILE={self.file} FAKETIME_NO_CACHE=1\n"
                                 f'export FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {source} "$@"\n')
                os.chmod(target, 0o755)
            else:
                os.symlink(source, target)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def set(self, seconds):
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds:+d}\n")
        os.rename(self.file + ".new", self.file)


def finished(client, job_id):
    job = client.ask("drafter.job", {"jobId": job_id})
    job = job.get("job", job)
    return job if job["status"] in checker.FINAL else None


class ClockTest(unittest.TestCase):
    def ask_twice(self, client, request_id):
        """The job of a submit that was sent twice; both were answered alike."""
        body = {"projectId": "p", "sessionId": "s", "instruction": "Greet."}
        first, second = (client.ask("drafter.submit", body, request_id, raw=True) for _ in range(2))
        self.assertEqual(first, second)
        return first, lab.msgpack.unpackb(first)["jobId"]

    def promises_hold_at(self, names, offsets):
        """One life of an instance while the clock of some is set to each of the offsets in turn."""
        with WrongClock(names) as clock, Instance(config=ONE_TRY, programs=clock.path) as instance:
            client = instance.client()
            before, answers = {name: instance.pid(name) for name in ("broker", *ACTORS)}, {}
            for count, offset in enumerate(offsets, 1):
                clock.set(offset)
                request_id = uuid.uuid4()
                answers[request_id], job_id = self.ask_twice(client, request_id)
                self.assertEqual(wait_until(lambda: finished(client, job_id), 60, "the draft ends")["status"], "done")
                client.ask("probe.put", {"key": "k", "value": count})
                self.assertEqual(client.ask("probe.get", {"key": "k"})["value"], count)
            for request_id, answer in answers.items():
                self.assertEqual(self.ask_twice(client, request_id)[0], answer)
            events = [json.loads(text) for text in client.ask("drafter.events", {"sessionId": "s", "limit": 1000})["events"]]
            self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
            if "drafter" in names:
                years = {int(event["at"][:4]) for event in events}
                self.assertGreater(len(years), 1, "the clock was wrong indeed")
            self.assertEqual({name: instance.pid(name) for name in before}, before, "nobody was started again")
            client.close()

    def test_a_broker_a_year_ahead_behind_and_back_keeps_deadlines_heartbeats_and_order(self):
        self.promises_hold_at(("broker",), (YEAR, -YEAR, 0))

    def test_actors_a_year_behind_ahead_and_back_answer_repeats_and_finish_jobs(self):
        self.promises_hold_at(ACTORS, (-YEAR, YEAR, 0))

    def jumps_under_traffic(self, names):
        rng = random.Random(OPTIONS["--seed"])
        with WrongClock(names) as clock, Instance(config=ONE_TRY, programs=clock.path) as instance:
            traffic = Traffic(instance, OPTIONS["--seed"], projects=2, writers=2)
            traffic.start()
            jumps, end = 0, time.monotonic() + OPTIONS["--seconds"]
            while time.monotonic() < end:
                clock.set(rng.choice((YEAR, -YEAR, 3600, -3600, 0)))
                jumps += 1
                traffic.check_alive()
                time.sleep(rng.uniform(0.05, 0.4))
            clock.set(0)
            history = traffic.finish()
            # Attempts are put in order by the wall clock, which proves nothing here.
            found = [text for text in checker.check(history) if not text.startswith("attempts_never_overlap")]
            services = traffic.client.ask("broker.services")["services"]
        print(json.dumps({"clock": names, "jumps": jumps, **traffic.summary(history), "violations": len(found)}))
        self.assertEqual(found, [])
        self.assertEqual({s["name"]: s["state"] for s in services if s["name"] in ACTORS}, dict.fromkeys(ACTORS, "ready"))

    def test_a_brokers_clock_that_jumps_under_traffic_breaks_nothing(self):
        self.jumps_under_traffic(("broker",))

    def test_an_actors_clock_that_jumps_under_traffic_breaks_nothing(self):
        self.jumps_under_traffic(ACTORS)


if __name__ == "__main__":
    for name in OPTIONS:
        if name in sys.argv:
            at = sys.argv.index(name)
            OPTIONS[name] = int(sys.argv[at + 1])
            del sys.argv[at:at + 2]
    unittest.main()
