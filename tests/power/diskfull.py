"""diskfull - an instance on small disks of its own, which are filled to the last byte and freed again, round after round, under load.

The data directory, the probe's directory, the logs and /dev/shm are a tmpfs each, in a mount namespace of this program. One round
is one fault, held for a moment:
  full       one disk or all have no byte left; what the actors remove meanwhile is taken as well
  mark       a little less is left than store.freeMin allows; nothing may end
  own        the actor fills its disk itself, up to the mark; nothing may end
  started    the disk is full and an actor or the broker is killed: what starts then waits
  inodes     no file can be made, though there are bytes
  readonly   the probe's disk is mounted read-only under it, as by a kernel that has met an error
  quota      every call that needs room fails with EDQUOT (EROFS: every second time), with free space in sight
  log        the disk of the logs is full; nothing may end
  memory     /dev/shm, where RocksDB's info log is, is full; nothing may end

  up         in the end, once: the instance is started on full disks, and comes up when there is room

Invariants: nothing acknowledged is lost and nothing else is there (tests/lab/checker.py); who is refused is told what to do; writes are
served again within 30 s of there being room, with nobody's help; nobody is given up, and an actor in a crash loop ends at most once in 5 s;
a life of 10 s ends the loop.

Usage: diskfull.py [--seed N] [--count ROUNDS] [--seconds N] [--kinds NAME,...] [--ext4]
--ext4: the disks that hold data are ext4 in a file behind a loop device; for root.
Prints one JSON line. Exit 0: no violation. 77: this system does not let us mount anything.
"""

import argparse
import collections
import ctypes
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lab"), os.path.join(HERE, "..", "crash")]
import checker  # noqa: E402
import lab  # noqa: E402
from crash import Traffic  # noqa: E402
from lab import Client, Instance, NoAnswer, Refused, wait_until  # noqa: E402

SHIM = os.path.abspath(os.path.join(lab.BIN, "..", "tests", "power", "libstet_shim.so"))
CONFIG = """
supervisor
    actors = "drafter,probe"
store
    memory = 4M
    ballast = 2M
drafter
    jobBackoff = 100ms
    callBackoff = 50ms
    concurrency = 4
"""
MIB = 1 << 20
SIZES = {"data": 160 * MIB, "probe": 160 * MIB, "log": 2 * MIB, "memory": 8 * MIB}
ACTORS = ("drafter", "probe")
KINDS = ("full", "mark", "own", "started", "inodes", "readonly", "quota", "log", "memory", "up")
BACK_SECONDS = 30
LOOP_SECONDS = 4.5  # five, less what a clock and a slow machine may be wrong
LOOP_ENDS, LOOP_WINDOW = 5, 60
LOOP_SETTLED = 9.5  # ten: a life after which the ends before a crash loop no longer count
SKIPPED = 77
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


def mount(path, flags=0, options=""):
    """False, with the reason in errno, when the system refuses."""
    return libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, options.encode()) == 0


def own_mounts():
    """A mount namespace of our own, with a user namespace where that is needed for it. The reason when it is refused, or None."""
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNS) != 0:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
            return f"unshare: {os.strerror(ctypes.get_errno())}"
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return f"private mounts: {os.strerror(ctypes.get_errno())}"
    return None


class Disk:
    """A tmpfs, or ext4 in the file `image`; what takes its room lies in it under the name `filler`."""

    def __init__(self, path, size, image=None):
        self.path, self.filler = path, os.path.join(path, "filler")
        self.options = "" if image else f"size={size},mode=0700,nr_inodes=4096"
        os.makedirs(path, mode=0o700, exist_ok=True)
        if image:
            with open(image, "wb") as file:
                file.truncate(size)
            subprocess.run(["/sbin/mkfs.ext4", "-q", "-m", "0", "-N", "2048", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, path], check=True)
            os.chmod(path, 0o700)
        elif not mount(path, options=self.options):
            raise OSError(ctypes.get_errno(), f"mounting {path}")

    def available(self):
        figures = os.statvfs(self.path)
        return figures.f_bavail * figures.f_frsize

    def mark(self):
        figures = os.statvfs(self.path)
        return figures.f_blocks * figures.f_frsize // 20

    def fill(self, leave=0):
        """Takes what is there beyond `leave`; again and again, because others give some back."""
        fd = os.open(self.filler, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            step = self.available() - leave
            while step >= 4096:
                try:
                    os.posix_fallocate(fd, os.fstat(fd).st_size, step)
                except OSError:
                    step //= 2  # somebody was quicker
                else:
                    step = self.available() - leave
        finally:
            os.close(fd)

    def take_inodes(self):
        for i in range(100000):
            try:
                os.close(os.open(f"{self.filler}-{i}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError:
                return

    def free(self):
        for name in os.listdir(self.path):
            if name.startswith("filler"):
                os.unlink(os.path.join(self.path, name))

    def read_only(self, yes):
        return mount(self.path, MS_REMOUNT | (MS_RDONLY if yes else 0), self.options)


class Programs:
    """The programs, with the actors behind the shim, whose failures are switched by a file."""

    def __init__(self, folder, data):
        self.path, self.switch = os.path.join(folder, "bin"), os.path.join(folder, "switch")
        os.mkdir(self.path)
        for program in os.listdir(lab.BIN):
            source, target = os.path.abspath(os.path.join(lab.BIN, program)), os.path.join(self.path, program)
            if program == "stet":
                shutil.copy2(source, target)  # it looks for the others beside itself
            elif program in [f"stet-{name}" for name in ACTORS]:
                with open(target, "w", encoding="utf-8") as script:
                    script.write(f"#!/bin/sh\nexport LD_PRELOAD={SHIM} STET_SHIM_DIR={data} STET_SHIM_SWITCH={self.switch}\n"
                                 f'exec {source} "$@"\n')
                os.chmod(target, 0o755)
            else:
                os.symlink(source, target)

    def fail(self, error):
        with open(self.switch + ".new", "w", encoding="ascii") as file:
            file.write(error)
        os.rename(self.switch + ".new", self.switch)

    def mend(self):
        os.unlink(self.switch)


class Rounds:
    def __init__(self, instance, disks, programs, traffic, rng):
        self.instance, self.disks, self.programs, self.traffic, self.rng = instance, disks, programs, traffic, rng
        self.client, self.supervisor = Client(instance.endpoint("front")), instance.pid("supervisor")
        self.violations, self.back, self.refusals = [], [], collections.Counter()
        self.showed, self.faults = collections.Counter(), 0
        Client.refused = self.refused

    def refused(self, body):
        self.refusals[(body.get("code"), body.get("message", ""))] += 1

    def violation(self, text):
        self.violations.append(text)
        print(f"VIOLATION {text}", flush=True)

    # ---- what is known of the processes

    def log_lines(self, name):
        """What a process has written; the log of a full disk ends anywhere."""
        lines = []
        for suffix in (".1", ""):
            try:
                with open(os.path.join(self.instance.data, "log", f"{name}.log{suffix}"), encoding="utf-8", errors="replace") as file:
                    lines += file.readlines()
            except FileNotFoundError:
                pass
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                pass

    def pids(self):
        """The children of the supervisor, by name. Not from its file, which may be on a full disk."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                    name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue
            state, parent = rest.split()[:2]
            if int(parent) == self.supervisor and name.startswith("stet-") and state != "Z":
                found[name.removeprefix("stet-")] = int(pid)
        return found

    def kill(self, name):
        pid = self.pids().get(name)
        if pid:
            os.kill(pid, signal.SIGKILL)

    # ---- rounds

    def hold(self, disks=(), shortest=0.2):
        """Stands in the fault for a moment; disks stay full while actors remove files."""
        end = time.monotonic() + max(shortest, self.rng.choice([0.2, 1.0, 2.0, 4.0]))
        while time.monotonic() < end:
            for disk in disks:
                disk.fill()
            time.sleep(0.05)

    def choose(self):
        return self.rng.choice([("probe",), ("data",), ("probe", "data"), ("probe", "data", "log")])

    def full(self):
        disks = [self.disks[name] for name in self.choose()]
        self.hold(disks)
        for disk in disks:
            disk.free()

    def refused_with_advice(self, disk, command, body):
        """Told that there is no room, at the latest when asked for the tenth time: meanwhile the actor gives some back."""
        for _ in range(10):
            disk.fill(leave=disk.mark() - 64 * 1024)
            time.sleep(0.3)  # it looks four times a second
            try:
                self.client.ask(command, body, seconds=3)
            except NoAnswer as silence:
                if "make room" not in str(silence):
                    self.violation(f"{command} below the mark: {silence}")
                self.showed["refused below the mark"] += 1
                return
        self.violation(f"{command} was served below the mark, ten times")

    def health_says_so(self, disk):
        disk.fill(leave=disk.mark() - 64 * 1024)
        health = self.instance.status()["health"]
        return health["status"] == "red" and "nearly full" in " ".join(health["reasons"])

    def nothing_ends(self, disk, name):
        """Below the mark: writes are refused with advice, reads are served, health says so."""
        before = self.pids()
        self.hold(shortest=1.0)
        if name == "probe":
            self.refused_with_advice(disk, "probe.put", {"key": "below", "value": 1})
        else:
            self.refused_with_advice(disk, "drafter.pause", {"projectId": "nobody"})
        self.client.ask(f"{name}.stats")
        wait_until(lambda: self.health_says_so(disk), 20, "health is red below the mark")
        disk.free()
        if self.pids() != before:
            self.violation(f"{name} below the mark: {before} became {self.pids()}")

    def mark(self):
        name = self.rng.choice(ACTORS)
        disk = self.disks["probe" if name == "probe" else "data"]
        self.nothing_ends(disk, name)

    def own(self):
        disk = self.disks["probe"]
        disk.fill(leave=disk.mark() + MIB)
        end = time.monotonic() + 10
        for i in range(1 << 20):
            if disk.available() < disk.mark() or time.monotonic() > end:
                break
            self.client.send("probe.put", {"key": f"big{i % 16}", "value": os.urandom(30000).hex()}, uuid.uuid4())
            self.client.receive(100)
        self.nothing_ends(disk, "probe")

    def started(self):
        name = self.rng.choice([*ACTORS, *ACTORS, "broker"])
        disks = [self.disks["probe"], self.disks["data"]]
        for disk in disks:
            disk.fill()
        self.kill(name)
        self.hold(disks, shortest=1.0)
        for disk in disks:
            disk.free()

    def inodes(self):
        disks = [self.disks[name] for name in self.choose()]
        for disk in disks:
            disk.take_inodes()
        if self.rng.random() < 0.5:
            self.kill(self.rng.choice([*ACTORS, "broker"]))
        self.hold(shortest=1.0)
        for disk in disks:
            disk.free()

    def readonly(self):
        """A disk with files open for writing cannot be remounted: between two lives of the probe it can."""
        end = time.monotonic() + 20
        self.kill("probe")
        while not self.disks["probe"].read_only(True):
            if time.monotonic() > end:
                return
            self.kill("probe")
        self.showed["mounted read-only"] += 1
        self.hold(shortest=1.0)
        if not self.disks["probe"].read_only(False):
            raise OSError(ctypes.get_errno(), "the disk cannot be made writable again")

    def quota(self):
        self.programs.fail(("EDQUOT", "EROFS")[self.showed["quota"] % 2])
        self.showed["quota"] += 1
        self.hold()
        self.programs.mend()

    def log(self):
        self.quiet("log")

    def memory(self):
        self.quiet("memory")

    def quiet(self, name):
        """A disk that holds no data is full, and nobody ends."""
        before = self.pids()
        self.disks[name].fill()
        self.hold([self.disks[name]], shortest=1.0)
        for actor in ACTORS:
            self.client.ask(f"{actor}.stats", seconds=20)
        self.client.ask("probe.put", {"key": "meanwhile", "value": 1}, seconds=20)
        if self.pids() != before:
            self.violation(f"{name} full: {before} became {self.pids()}")
        self.disks[name].free()

    def served_again(self, kind):
        """Writes of both actors are acknowledged and everyone runs, within the limit from now."""
        began = time.monotonic()
        try:
            self.client.ask("probe.put", {"key": "round", "value": self.faults}, seconds=BACK_SECONDS)
            left = BACK_SECONDS - (time.monotonic() - began)
            self.client.ask("drafter.pause", {"projectId": "nobody"}, seconds=left)
        except NoAnswer as silence:
            self.violation(f"{kind}: not served within {BACK_SECONDS} s of there being room: {silence}")
            wait_until(lambda: {"broker", "sandbox", *ACTORS} <= set(self.pids()), 60, "everybody runs")
            return
        self.back.append(time.monotonic() - began)
        wait_until(self.status_is_true, 20, "the supervisor's file tells who runs")

    def status_is_true(self):
        pids = self.pids()
        return all(self.instance.pid(name) == pids.get(name) for name in ("broker", "sandbox", *ACTORS))

    def run(self, count, seconds, kinds):
        end, order = time.monotonic() + (seconds or float("inf")), []
        while self.faults < count and time.monotonic() < end:
            if not order:
                order = [kind for kind in kinds if kind != "up"]
                self.rng.shuffle(order)
            kind = order.pop()
            self.faults += 1
            seen = sum(self.refusals.values())
            getattr(self, kind)()
            self.showed[f"refusals in {kind}"] += sum(self.refusals.values()) - seen
            self.served_again(kind)
            self.traffic.check_alive()
            time.sleep(self.rng.choice([0.1, 0.5, 1.0]))
            yield kind

    def up(self):
        """Told that it is not green and why; green when there is room, without a second `up`."""
        self.instance.stet("down")
        disks = [self.disks["data"], self.disks["probe"]]
        for actor in ACTORS:
            os.unlink(os.path.join(self.instance.data, actor, "0", "ballast"))  # which would let it open
        for disk in disks:
            disk.fill()
        told = self.instance.stet("up", "--sandbox", "--detach", "--config", self.instance.config, check=False)
        if told.returncode != 3 or "full" not in told.stderr:
            self.violation(f"up on full disks: exit {told.returncode}, {told.stderr}")
        health = self.instance.status()["health"]
        if health["status"] != "red" or "full" not in " ".join(health["reasons"]):
            self.violation(f"started on full disks health is {health}")
        for disk in disks:
            disk.free()
        self.supervisor = None
        wait_until(lambda: self.instance.status()["health"]["status"] == "green", BACK_SECONDS, "green after up on full disks")
        self.supervisor = self.instance.pid("supervisor")
        self.served_again("up")

    # ---- afterwards

    def judge_ends(self):
        """How processes ended, and that nobody loops."""
        started, states, codes = {}, {}, collections.Counter()
        recent = collections.defaultdict(list)  # ends that count
        for line in self.log_lines("supervisor"):
            if line.get("event") not in ("process.started", "process.ended"):
                continue
            name, at = line["name"], time.mktime(time.strptime(line["ts"][:19], "%Y-%m-%dT%H:%M:%S")) + float(line["ts"][19:23])
            if line["event"] == "process.started":
                started[name] = at
                continue
            codes[f"{name}: {line['message']}"] += 1
            if line["state"] == "failed":
                self.violation(f"{name} was given up: {line['message']}")
            if states.get(name) == "crash-loop" and at - started[name] >= LOOP_SETTLED:
                recent[name] = []
            self.judge_loop(name, recent[name], at)
            recent[name].append(at)
            states[name] = line["state"]
        return dict(sorted(codes.items()))

    def judge_loop(self, name, ends, at):
        if len(ends) >= LOOP_ENDS and ends[-1] - ends[-LOOP_ENDS] < LOOP_WINDOW and at - ends[-1] < LOOP_SECONDS - 0.001:
            self.violation(f"{name} ended {at - ends[-1]:.1f} s after it had ended {LOOP_ENDS} times in "
                           f"{ends[-1] - ends[-LOOP_ENDS]:.0f} s")

    def waits(self):
        return {name: sum(line.get("event") == "store.waiting" for line in self.log_lines(name)) for name in ACTORS}

    def judge_refusals(self):
        codes = collections.Counter()
        for (code, message), count in self.refusals.items():
            codes[code] += count
            if code not in ("unavailable", "busy", "timeout", "conflict", "not_found") or not message:
                self.violation(f"refused with {code}: {message!r}")
        return dict(codes)


def play(options, folder, images):
    rng, started, rounds_of = random.Random(options.seed), time.monotonic(), collections.Counter()
    data = os.path.join(folder, "data")
    image = {name: os.path.join(images, name) if options.ext4 else None for name in ("data", "probe")}
    disks = {"data": Disk(data, SIZES["data"], image["data"]), "probe": Disk(os.path.join(data, "probe"), SIZES["probe"], image["probe"]),
             "log": Disk(os.path.join(data, "log"), SIZES["log"]), "memory": Disk("/dev/shm", SIZES["memory"])}
    programs = Programs(folder, data)
    with Instance(config=CONFIG, programs=programs.path, data=data, notes=folder) as instance:
        traffic = Traffic(instance, options.seed, projects=2, writers=3)
        rounds = Rounds(instance, disks, programs, traffic, rng)
        traffic.start()
        try:
            for kind in rounds.run(options.count, options.seconds, options.kinds):
                rounds_of[kind] += 1
            history = traffic.finish()
        finally:
            traffic.close()
        if "up" in options.kinds:
            rounds.up()
            rounds_of["up"] += 1
        for text in checker.check(history):
            rounds.violation(text)
        ends, refusals, waits = rounds.judge_ends(), rounds.judge_refusals(), rounds.waits()
        if rounds.violations:
            instance.print_logs()
    print(json.dumps({
        "seed": options.seed, "seconds": round(time.monotonic() - started), "rounds": dict(sorted(rounds_of.items())),
        "backSeconds": {"median": round(statistics.median(rounds.back), 2), "max": round(max(rounds.back), 2)} if rounds.back else None,
        "refusals": refusals, "showed": dict(sorted(rounds.showed.items())), "ends": ends, "waits": waits,
        **traffic.summary(history), "violations": len(rounds.violations)}))
    return 1 if rounds.violations or not rounds_of else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=KINDS)
    parser.add_argument("--ext4", action="store_true")
    options = parser.parse_args()
    images = tempfile.mkdtemp(prefix="stet-images-")
    folder = tempfile.mkdtemp(prefix="stet-disk-")
    try:
        refused = own_mounts() or (None if mount(folder, options="size=16m,mode=0700") else os.strerror(ctypes.get_errno()))
        if refused:
            print(f"skipped: this system does not let us mount a disk of our own ({refused})")
            return SKIPPED
        return play(options, folder, images)
    finally:
        for path in ("data/probe", "data/log", "data", ""):
            libc.umount2(os.fsencode(os.path.join(folder, path)), 2)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(images, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
