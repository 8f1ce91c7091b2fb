"""lab - a real instance of Stet for tests: starts it in a directory of its own, asks it, kills parts of it, ends it.

Only what docs/protocol.md says is used to talk to it. Run with /usr/bin/python3 (Debian's python3-zmq, python3-msgpack).
STET_BIN names the directory of the programs.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
import uuid

import msgpack
import zmq
from scene import print_scene

BIN = os.environ.get("STET_BIN", "build/bin")


class Refused(Exception):
    """The answer was an error."""

    def __init__(self, body):
        super().__init__(f"{body.get('code')}: {body.get('message')}")
        self.body = body
        self.code = body.get("code")


class NoAnswer(Exception):
    pass


def wait_until(condition, seconds, what):
    """Looks at the condition until it holds and returns its value; fails after the limit."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def alive(pid):
    """A process that runs; one that has ended and waits for its parent does not count."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


class Client:
    """Requests with resending, as docs/protocol.md describes them. One per thread."""

    refused = None  # for a test that wants to know: called with the body of every error, from the client's thread

    def __init__(self, endpoint, context=None):
        self.context = context or zmq.Context.instance()
        self.endpoint = endpoint
        self.socket = None
        self._connect()

    def _connect(self):
        if self.socket:
            self.socket.close(0)
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.connect(self.endpoint)

    def close(self):
        self.socket.close(0)

    def send(self, command, body, request_id, timeout_ms=2000):
        envelope = {"v": 1, "kind": "request", "id": request_id.bytes, "command": command, "timeoutMs": timeout_ms}
        self.socket.send_multipart([msgpack.packb(envelope), msgpack.packb(body)])

    def receive(self, wait_ms):
        """(envelope, body bytes) of the next answer, or None."""
        if not self.socket.poll(wait_ms):
            return None
        envelope, body = self.socket.recv_multipart()
        envelope = msgpack.unpackb(envelope)
        if Client.refused and envelope["kind"] == "error":
            Client.refused(msgpack.unpackb(body))
        return envelope, body

    def ask(self, command, body=None, request_id=None, seconds=30.0, raw=False):
        """The reply's body; resent with the same id on silence, busy, unavailable and timeout."""
        request_id = request_id or uuid.uuid4()
        end = time.monotonic() + seconds
        last = None
        while time.monotonic() < end:
            self.send(command, body or {}, request_id)
            resend = time.monotonic() + 1.0
            while time.monotonic() < resend:
                answer = self.receive(50)
                if answer is None or answer[0].get("id") != request_id.bytes:
                    continue
                envelope, bytes_ = answer
                if envelope["kind"] == "reply":
                    return bytes_ if raw else msgpack.unpackb(bytes_)
                last = msgpack.unpackb(bytes_)
                if last["code"] not in ("busy", "unavailable", "timeout"):
                    raise Refused(last)
                time.sleep(min(last.get("retryAfterMs", 50), 500) / 1000)
                break
        raise NoAnswer(f"{command}: no answer in {seconds} s; last refusal {last}")


class Instance:
    """`stet up --sandbox --detach` in a temporary directory; use as a context manager. `data`: a directory of the caller's instead;
    `notes`: where clients may write, else there too."""

    def __init__(self, config=None, sandbox=True, environment=None, programs=None, data=None, notes=None):
        self.programs = programs or BIN
        self.own_data = data is None
        self.data = data or tempfile.mkdtemp(prefix="stet-lab-")
        self.notes = notes or self.data
        self.environment = {**os.environ, "STET_DATA": self.data, **(environment or {})}
        self.sandbox = sandbox
        self.config = None
        if config:
            self.config = os.path.join(self.data, "stet.conf")
            with open(self.config, "w", encoding="utf-8") as file:
                file.write(config)
            os.chmod(self.config, 0o600)

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print_scene(self.pids(), self.data)
        self.stet("down", check=False)
        if kind is not None:
            self.print_logs()
        left = self.end_what_is_left()
        if self.own_data:
            shutil.rmtree(self.data, ignore_errors=True)
        if kind is None and left:
            raise AssertionError(f"processes were left behind: {left}")

    def is_ours(self, pid):
        """Whether a process belongs to this instance: all of them are told its data directory. Numbers are used again."""
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return b"STET_DATA=" + os.fsencode(self.data) in file.read().split(b"\0")
        except OSError:
            return False

    def end_what_is_left(self):
        """Kills what still runs after `down`, so that a test that failed leaves nothing behind; returns the command lines."""
        left = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if not self.is_ours(pid):
                continue
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                    left.append(file.read().replace("\0", " ").strip())
                os.kill(int(pid), signal.SIGKILL)
            except (OSError, ProcessLookupError):
                pass  # it has just ended
        return left

    def stet(self, *arguments, check=True, text=None):
        done = subprocess.run([os.path.join(self.programs, "stet"), *arguments], env=self.environment, input=text,
                              capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"stet {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def up(self):
        arguments = ["up", "--detach"]
        if self.sandbox:
            arguments.append("--sandbox")
        if self.config:
            arguments += ["--config", self.config]
        done = self.stet(*arguments, check=False)
        if done.returncode == 3:  # not green within 30 s, on a slow machine: it keeps trying
            wait_until(lambda: self.status().get("health", {}).get("status") == "green", 180, f"green after {done.stderr}")
        elif done.returncode != 0:
            raise AssertionError(f"stet up: exit {done.returncode}\n{done.stdout}{done.stderr}")

    def status(self):
        """Also while the broker is dead: then what the supervisor knows."""
        return json.loads(self.stet("status", "--json", check=False).stdout)

    def endpoint(self, name):
        return self.status()["endpoints"][name]

    def client(self):
        return Client(self.endpoint("front"))

    def pids(self):
        """{name: pid} of the running processes of the instance; from the supervisor's file, which needs no broker."""
        try:
            with open(os.path.join(self.data, "run", "supervisor.json"), encoding="utf-8") as file:
                state = json.load(file)
        except FileNotFoundError:
            return {}
        return {"supervisor": state["pid"], **{process["name"]: process["pid"] for process in state["processes"] if process["pid"]}}

    def pid(self, name):
        """None when it does not run."""
        return self.pids().get(name)

    def kill(self, name, sig=signal.SIGKILL):
        """Signals one process of this instance; returns its pid, or None when it was not there."""
        pid = self.pid(name)
        return pid if pid is not None and self.signal(pid, sig) else None

    def signal(self, pid, sig):
        """False when the process is gone."""
        if not self.is_ours(pid):
            return False
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return False
        return True

    def http(self, method, path, body=None, seconds=30):
        """Talks to the sandbox."""
        with open(os.path.join(self.data, "run", "sandbox.port"), encoding="ascii") as file:
            port = int(file.read())
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method=method,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def print_logs(self):
        log = os.path.join(self.data, "log")
        for name in sorted(os.listdir(log)) if os.path.isdir(log) else []:
            with open(os.path.join(log, name), encoding="utf-8", errors="replace") as file:
                lines = file.readlines()[-40:]
            print(f"---- {name}\n{''.join(lines)}", flush=True)
