"""parts - the programs of Stet one by one, without a supervisor: a test starts, kills and watches each itself.

faults=True takes the program that was built with -DSTET_FAULTS (proto/base/fault.h); preload names a library for LD_PRELOAD.
"""

import os
import shutil
import signal
import subprocess
import tempfile

from lab import BIN, Client, NoAnswer, wait_until
from scene import print_scene

EXIT_NAMES = {0: "stopped", 70: "internal", 74: "store", 75: "locked", 76: "fenced", 77: "damaged", 78: "config"}
RESTARTABLE = (70, 74)  # what the supervisor starts again


class Parts:
    """A data directory and the processes on it; use as a context manager."""

    def __init__(self, config="", data=None, environment=None):
        self.own_data = data is None
        self.data = data or tempfile.mkdtemp(prefix="stet-parts-")
        self.environment = {**os.environ, **(environment or {})}
        self.processes = {}
        os.makedirs(os.path.join(self.data, "run"), mode=0o700, exist_ok=True)
        self.logs = os.path.join(self.data, "logs")
        os.makedirs(self.logs, exist_ok=True)
        self.config = os.path.join(self.data, "parts.conf")
        self.write_config(self.config, config)

    @staticmethod
    def write_config(path, text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o600)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print_scene({name: process.pid for name, process in self.processes.items()}, self.data)
        for name in list(self.processes):
            self.kill(name)
        if kind is not None:
            self.print_logs()
        if self.own_data:
            shutil.rmtree(self.data, ignore_errors=True)

    def print_logs(self, lines=25):
        for name in sorted(os.listdir(self.logs)):
            with open(os.path.join(self.logs, name), encoding="utf-8", errors="replace") as file:
                print(f"---- {name}\n{''.join(file.readlines()[-lines:])}", flush=True)

    def start(self, name, faults=False, environment=None, preload=None, config=None, wrap=()):
        """Starts broker, sandbox or an actor; the caller waits for what it needs."""
        assert name not in self.processes, name
        program = os.path.join(BIN, f"stet-{name}" + ("-faults" if faults else ""))
        if name == "sandbox":
            arguments = [program, "--port-file", os.path.join(self.data, "run", "sandbox.port")]
        else:
            arguments = [program, "--data", self.data, "--config", config or self.config]
        all_environment = {**self.environment, **(environment or {})}
        if preload:
            all_environment["LD_PRELOAD"] = preload
        with open(os.path.join(self.logs, f"{name}.log"), "ab") as log:
            process = subprocess.Popen([*wrap, *arguments], env=all_environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes[name] = process
        return process

    def running(self, name):
        process = self.processes.get(name)
        return process is not None and process.poll() is None

    def exited(self, name, seconds):
        """The exit code once the process has ended, negative for a signal; None when it still runs after so long."""
        try:
            code = self.processes[name].wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        del self.processes[name]
        return code

    def kill(self, name, sig=signal.SIGKILL):
        """Ends a process and waits for it; returns how it ended, None when it did not run."""
        process = self.processes.pop(name, None)
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(sig)
        return process.wait(60)

    def path(self, *names):
        return os.path.join(self.data, *names)

    def actor_directory(self, name):
        return self.path(name, "0")

    def front(self):
        return "ipc://" + self.path("run", "front.sock")

    def events(self):
        return "ipc://" + self.path("run", "events.sock")

    def client(self, context=None):
        return Client(self.front(), context)

    def wait_healthy(self, name, seconds=30, client=None):
        """True when the actor answers; False when its process ends meanwhile."""
        own = client or self.client()

        def answers():
            if not self.running(name):
                return "ended"
            try:
                own.ask(f"{name}.health", seconds=0.5)
                return "answers"
            except NoAnswer:
                return None

        try:
            return wait_until(answers, seconds, f"{name} answers") == "answers"
        finally:
            if client is None:
                own.close()

    def log_text(self, name):
        with open(os.path.join(self.logs, f"{name}.log"), encoding="utf-8", errors="replace") as file:
            return file.read()
