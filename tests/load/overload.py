"""overload - clients offer several times what an actor can take, one of them with tens of thousands of requests at once, while
50 subscribers listen, one of them frozen and one slow.

Asserted: each request gets exactly one outcome, what was refused as busy was never applied, what was acknowledged was; the
broker's memory stays under broker.memoryMax; afterwards all queues are empty and a fresh request is answered. How fast all
this was is printed, not asserted.

Usage: overload.py [--seed N] [--seconds N] [--clients N] [--times N] [--count REQUESTS-AT-ONCE]
"""

import argparse
import calendar
import json
import multiprocessing
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import msgpack  # noqa: E402
import zmq  # noqa: E402
from lab import Client, Instance, Refused, wait_until  # noqa: E402

MEMORY_MAX = 256 << 20
# Few messages a commit: the actor, not these clients, is what limits.
CONFIG = """
supervisor
    actors = probe
broker
    queueMax = 1024
    memoryMax = 256M
actor
    turnMessages = 4
"""
SAMPLES = 300
SUBSCRIBERS = 50


def percentile(values, share):
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000, 1) if values else None


class Load:
    """One client on a bare DEALER: request number n puts n under a key of its own."""

    def __init__(self, endpoint, name, seed):
        self.name, self.random = name, random.Random(seed)
        self.nonce = self.random.getrandbits(64).to_bytes(8, "big")
        marker = bytes(range(1, 17))
        envelope = msgpack.packb({"v": 1, "kind": "request", "id": marker, "command": "probe.put", "timeoutMs": 30000})
        self.before, self.after = envelope.split(marker)
        self.socket = zmq.Context().socket(zmq.DEALER)
        for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
            self.socket.setsockopt(option, 0)
        self.socket.connect(endpoint)
        self.sent_at, self.copies, self.answers, self.codes = [], [], [], []
        self.answered = 0
        self.seconds = {}  # by outcome: how long each answer took

    def send(self, number):
        request_id = self.nonce + (number + 1).to_bytes(8, "big")
        self.socket.send_multipart([self.before + request_id + self.after,
                                    msgpack.packb({"key": f"{self.name}-{number}", "value": number})])

    def send_new(self, count):
        for _ in range(count):
            self.sent_at.append(time.monotonic())
            self.copies.append(1)
            self.answers.append(0)
            self.codes.append(None)
            self.send(len(self.copies) - 1)

    def receive(self, count):
        """Takes up to so many answers that are there; returns how many came."""
        for taken in range(count):
            try:
                envelope, body = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return taken
            envelope = msgpack.unpackb(envelope)
            number = int.from_bytes(envelope["id"][8:], "big") - 1
            code = "ok" if envelope["kind"] == "reply" else msgpack.unpackb(body)["code"]
            self.answers[number] += 1
            if self.codes[number] is None:
                self.answered += 1
                self.codes[number] = code
                self.seconds.setdefault(code, []).append((time.monotonic(), time.monotonic() - self.sent_at[number]))
        return count

    def closed(self, seconds, window):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send_new(window - (len(self.copies) - self.answered))
            if not self.receive(window):
                self.socket.poll(20)

    def open(self, seconds, rate):
        """Sends at its rate whatever is answered."""
        began = now = time.monotonic()
        while now < began + seconds:
            self.send_new(min(int((now - began) * rate) - len(self.copies), 500))
            if not self.receive(500):
                self.socket.poll(1)
            now = time.monotonic()

    def finish(self):
        """Waits for the answers that are missing; what stays silent is sent again with its id, as a client must."""
        silent = 0
        for _ in range(20):
            quiet = time.monotonic()
            while self.answered < len(self.copies) and time.monotonic() < quiet + 5:
                if self.receive(1000):
                    quiet = time.monotonic()
                else:
                    self.socket.poll(50)
            missing = [number for number, code in enumerate(self.codes) if code is None]
            silent += len(missing)
            for number in missing:
                self.copies[number] += 1
                self.send(number)
            if not missing:
                break
        while self.socket.poll(300):  # nothing more may come
            self.receive(1000)
        # Where there was a second copy, a refusal says nothing about the first.
        numbers = {code: [n for n, c in enumerate(self.codes) if c == code and self.copies[n] == 1] for code in ("ok", "busy")}
        return {
            "name": self.name, "sent": len(self.copies), "silent": silent,
            "without": sum(code is None for code in self.codes),
            "twice": sum(answers > copies for answers, copies in zip(self.answers, self.copies)),
            "outcomes": {code: self.codes.count(code) for code in set(self.codes) if code},
            "seconds": self.seconds,
            "samples": {code: self.random.sample(some, min(SAMPLES, len(some))) for code, some in numbers.items()},
        }


def client(endpoint, name, seed, start, mode, arguments, results):
    os.nice(5)  # the instance is what is measured
    load = Load(endpoint, name, seed)
    start.wait()
    getattr(load, mode)(*arguments)
    results.put(load.finish())


def run_clients(context, endpoint, jobs):
    """Runs (name, seed, mode, arguments) as processes that begin together; returns what each tells, and when they began."""
    start, results = context.Barrier(len(jobs) + 1), context.Queue()
    processes = [context.Process(target=client, args=(endpoint, name, seed, start, mode, arguments, results), daemon=True)
                 for name, seed, mode, arguments in jobs]
    for process in processes:
        process.start()
    start.wait(120)
    began = time.monotonic()
    told = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join(60)
    return told, began


class Subscribers(threading.Thread):
    """48 that read at once, one that takes ten events a second, one that never reads; the two take every session."""

    def __init__(self, endpoint):
        super().__init__(daemon=True)
        self.context, self.stop = zmq.Context(), threading.Event()
        self.heard, self.delays, self.reordered = [{} for _ in range(SUBSCRIBERS - 2)], [], 0
        self.sockets = []
        for number in range(SUBSCRIBERS):
            socket = self.context.socket(zmq.SUB)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, 10 if number >= SUBSCRIBERS - 2 else 10000)
            socket.setsockopt(zmq.SUBSCRIBE, b"" if number >= SUBSCRIBERS - 2 else b"TOOL_PROGRESS/watched")
            socket.connect(endpoint)
            self.sockets.append(socket)

    def run(self):
        poller, slow = zmq.Poller(), self.sockets[-2]
        for socket in self.sockets[:-2]:
            poller.register(socket, zmq.POLLIN)
        next_slow = time.monotonic()
        while not self.stop.is_set():
            for socket, _ in poller.poll(100):
                number, text = self.sockets.index(socket), socket.recv_multipart()[1].decode().removeprefix("TOOL_PROGRESS::")
                seq = json.loads(text)["seq"]
                self.reordered += bool(self.heard[number]) and seq < max(self.heard[number])
                if seq not in self.heard[number]:
                    self.heard[number][seq] = (text, time.time())
            if time.monotonic() > next_slow and slow.poll(0):
                slow.recv_multipart()
                next_slow = time.monotonic() + 0.1


class Jobs(threading.Thread):
    """Ten jobs a second whose events are watched, and more whose events nobody but the slow ones wants."""

    def __init__(self, endpoint, stop):
        super().__init__(daemon=True)
        self.client, self.stop, self.done, self.error = Client(endpoint, zmq.Context()), stop, 0, None

    def run(self):
        try:
            while not self.stop.wait(0.1):
                for session in ("watched", "noise-1", "noise-2", "noise-3"):
                    self.client.ask("probe.job", {"sessionId": session, "payload": "x" * 1000}, seconds=120)
                    self.done += 1
        except BaseException as error:  # told to the main thread, which fails the test
            self.error = error


class Memory(threading.Thread):
    def __init__(self, pid, stop):
        super().__init__(daemon=True)
        self.pid, self.stop, self.rss = pid, stop, []

    def run(self):
        while not self.stop.wait(0.1):
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                self.rss.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def wrongly_applied(asker, told):
    """Samples that break a promise: acknowledged and not there, or refused and there."""
    wrong = []
    for one in told:
        for code, numbers in one["samples"].items():
            for number in numbers:
                key = f"{one['name']}-{number}"
                try:
                    value = asker.ask("probe.get", {"key": key}, seconds=60)["value"]
                except Refused as refusal:
                    if refusal.code != "not_found":
                        raise
                    value = None
                if value != (number if code == "ok" else None):
                    wrong.append(f"{key} was answered {code}; its value is {value}")
    return wrong


def queues_are_empty(asker):
    services = asker.ask("broker.services", seconds=60)["services"]
    return all(s["outstanding"] == 0 and s["queued"] == 0 for s in services)


def missed_events(asker, subscribers):
    """Violations among the watched events: a gap in what is stored, or one heard otherwise than stored."""
    texts = []
    while True:
        page = asker.ask("probe.events", {"sessionId": "watched", "afterSeq": len(texts), "limit": 1000}, seconds=60)
        texts += page["events"]
        if not page["more"]:
            break
    found = [] if [json.loads(t)["seq"] for t in texts] == list(range(1, len(texts) + 1)) else ["a gap in the stored events"]
    for heard in subscribers.heard:
        found += [f"event {seq} was heard as {text}" for seq, (text, _) in heard.items() if texts[seq - 1] != text]
    return found, len(texts)


def delays(subscribers):
    """Seconds from an event's time (milliseconds) to its first hearing, all fast subscribers."""
    seconds = []
    for heard in subscribers.heard:
        for text, at in heard.values():
            when = json.loads(text)["at"]
            moment = time.strptime(when[:19], "%Y-%m-%dT%H:%M:%S")
            seconds.append(at - calendar.timegm(moment) - int(when[20:23]) / 1000)
    return seconds


def overload(instance, options):
    context = multiprocessing.get_context("spawn")
    front = instance.endpoint("front")
    asker, stop = Client(front), threading.Event()
    subscribers = Subscribers(instance.endpoint("events"))
    jobs, memory = Jobs(front, stop), Memory(instance.pid("broker"), stop)
    seconds = max(2.0, options.seconds / 4)
    told, _ = run_clients(context, front, [(f"c{i}", options.seed * 100 + i, "closed", (seconds, 64)) for i in range(options.clients)])
    capacity = sum(one["outcomes"].get("ok", 0) for one in told) / seconds
    normal = [s for one in told for _, s in one["seconds"].get("ok", [])]

    for thread in (subscribers, jobs, memory):
        thread.start()
    rate = options.times * capacity / options.clients
    work = [(f"o{i}", options.seed * 100 + 50 + i, "open", (options.seconds, rate)) for i in range(options.clients)]
    work.append(("flood", options.seed * 100 + 99, "send_new", (options.count,)))
    under, began = run_clients(context, front, work)

    wait_until(lambda: queues_are_empty(asker), 120, "the queues are empty after the load")
    fresh = time.monotonic()
    asker.ask("probe.put", {"key": "fresh", "value": 1}, seconds=60)
    fresh = time.monotonic() - fresh
    wrong = wrongly_applied(asker, told + under)
    stop.set()
    jobs.join(150)
    if jobs.error:
        raise jobs.error
    memory.join(10)
    time.sleep(0.5)  # what was published is still on its way
    subscribers.stop.set()
    subscribers.join(30)
    missed, stored = missed_events(asker, subscribers)

    steady = [one for one in under if one["name"] != "flood"]  # whose requests did not wait for each other in the client
    good = sum(at < began + options.seconds for one in under for at, _ in one["seconds"].get("ok", []))
    accepted, busy = ([s for one in steady for _, s in one["seconds"].get(code, [])] for code in ("ok", "busy"))
    outcomes = {}
    for one in under:
        for code, count in one["outcomes"].items():
            outcomes[code] = outcomes.get(code, 0) + count
    late = delays(subscribers)
    violations = wrong + missed
    violations += [f"{one['name']}: {one['without']} requests without an outcome" for one in told + under if one["without"]]
    violations += [f"{one['name']}: {one['twice']} requests with more answers than copies" for one in told + under if one["twice"]]
    violations += [f"{subscribers.reordered} events came after a later one"] if subscribers.reordered else []
    violations += [f"the broker took {max(memory.rss)} bytes"] if max(memory.rss) > MEMORY_MAX else []
    if not outcomes.get("busy") or not outcomes.get("ok"):
        violations.append(f"no overload: {outcomes}")
    return {
        "seed": options.seed, "capacityPerSecond": round(capacity), "offeredTimes":
            round(sum(one["sent"] for one in steady) / options.seconds / capacity, 1),
        "requests": sum(one["sent"] for one in told + under), "outcomes": outcomes, "silent": sum(o["silent"] for o in told + under),
        "goodputOfCapacity": round(good / options.seconds / capacity, 2),
        "normalP99Ms": percentile(normal, 0.99), "acceptedP99Ms": percentile(accepted, 0.99),
        "busyP50Ms": percentile(busy, 0.5), "busyP99Ms": percentile(busy, 0.99),
        "busyWithin100Ms": round(sum(s <= 0.1 for s in busy) / len(busy), 3) if busy else None,
        "brokerRssMaxMiB": max(memory.rss) >> 20, "freshMs": round(fresh * 1000, 1),
        "jobs": jobs.done, "eventsStored": stored, "eventsHeardByEach": round(sum(map(len, subscribers.heard)) / len(subscribers.heard), 1),
        "eventDelayP99Ms": percentile(late, 0.99), "sampled": sum(len(s) for o in told + under for s in o["samples"].values()),
    }, violations


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--times", type=float, default=5, help="of the measured capacity")
    parser.add_argument("--count", type=int, default=50000, help="requests that one client has outstanding at once")
    options = parser.parse_args()
    with Instance(config=CONFIG, sandbox=False) as instance:
        told, violations = overload(instance, options)
    print(json.dumps({**told, "violations": len(violations)}))
    for text in violations[:20]:
        print("VIOLATION", text)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
