"""scene - what the system says about processes and itself at the moment a test fails, before anything is ended.

A hang leaves no log line: its threads, what they wait for, and whether the disk or the memory stood still, tell more.
"""

import os
import time


def read(path, fallback=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError as error:
        return fallback or f"({error.strerror})"


def field(text, name):
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(f"{name}:")), "?")


def threads(pid):
    """A line per thread: its name, its state, the system call and the place in the kernel where it waits."""
    try:
        tasks = sorted(os.listdir(f"/proc/{pid}/task"), key=int)
    except OSError:
        return ["gone"]
    lines = []
    for task in tasks:
        path = f"/proc/{pid}/task/{task}"
        kernel = " < ".join(line.split()[-1].split("+")[0] for line in read(f"{path}/stack").splitlines()[:6] if line.strip())
        lines.append(f"{task} {read(f'{path}/comm')}: {field(read(f'{path}/status'), 'State')}, call {read(f'{path}/syscall').split(' ')[0]}, "
                     f"in {read(f'{path}/wchan')} [{kernel}]")
    return lines


def descriptors(pid):
    counts = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            kind = os.readlink(f"/proc/{pid}/fd/{name}").split(":")[0]
            kind = "file" if kind.startswith("/") else kind
            counts[kind] = counts.get(kind, 0) + 1
    except OSError as error:
        return f"({error.strerror})"
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def sync_seconds(directory):
    """How long the disk takes for one small write now."""
    path, begin = os.path.join(directory, "scene"), time.monotonic()
    try:
        with open(path, "wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        os.unlink(path)
    except OSError as error:
        return error.strerror
    return f"{time.monotonic() - begin:.3f} s"


def print_scene(processes, directory):
    """processes: {name: pid}."""
    memory = read("/proc/meminfo")
    print(f"---- scene: load {read('/proc/loadavg')}, available {field(memory, 'MemAvailable')}, dirty {field(memory, 'Dirty')}, "
          f"one sync {sync_seconds(directory)}")
    for resource in ("cpu", "io", "memory"):
        print(f"  pressure on {resource}: {read(f'/proc/pressure/{resource}').splitlines()[0]}")
    for name, pid in sorted(processes.items()):
        print(f"  {name}, process {pid}: {descriptors(pid)}")
        for line in threads(pid):
            print(f"    {line}")
    print(end="", flush=True)
