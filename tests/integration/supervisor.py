"""The supervisor when its processes do not behave: wrong configuration, crashes, programs that are missing, processes that hang
or outlive it, ports and logs that are in the way."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import BIN, Instance, alive, wait_until  # noqa: E402

BOTH = 'supervisor\n    actors = "drafter, probe"\n'
WAIT_S = 120  # nothing here depends on how fast it is


def process(instance, name):
    """The row of status, or None."""
    return next((row for row in instance.status()["processes"] if row["name"] == name), None)


def up_meanwhile(instance, *arguments):
    return subprocess.Popen([os.path.join(instance.programs, "stet"), "up", *arguments], env=instance.environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class RestartTest(unittest.TestCase):
    def test_a_wrong_configuration_of_an_actor_is_told_and_not_tried_again(self):
        instance = Instance(config='drafter\n    promptFile = "/nowhere/prompt"\n')
        try:
            done = instance.stet("up", "--detach", "--sandbox", check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("its configuration is wrong", done.stderr)
            drafter = process(instance, "drafter")
            self.assertEqual((drafter["state"], drafter["restarts"], drafter["pid"]), ("failed", 0, 0))
            self.assertEqual(instance.status()["health"]["status"], "red")
            self.assertIn("its configuration is wrong", instance.stet("status").stdout)
            self.assertEqual(process(instance, "broker")["state"], "running")
        finally:
            instance.__exit__(None, None, None)

    def test_an_actor_that_keeps_crashing_is_shown_as_such_and_still_started_again(self):
        with Instance(config=BOTH + "    restartMax = 1s\n") as instance:
            self.assertEqual(process(instance, "probe")["state"], "running")
            probe = process(instance, "probe")
            while probe["state"] != "crash-loop":
                pid = wait_until(lambda: instance.pid("probe"), WAIT_S, "the probe runs")
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda gone=pid: instance.pid("probe") != gone, WAIT_S, "its end is noticed")
                probe = process(instance, "probe")
                self.assertLess(probe["restarts"], 50)
            self.assertGreaterEqual(probe["restarts"], 5)
            self.assertIn("signal 9", probe["reason"])
            self.assertEqual(instance.status()["health"]["status"], "red")
            wait_until(lambda: instance.pid("probe"), WAIT_S, "it is started again all the same")
            self.assertEqual(process(instance, "drafter")["restarts"], 0)

    def test_a_program_that_is_missing_is_told_and_started_when_it_is_there(self):
        with tempfile.TemporaryDirectory(prefix="stet-programs-") as programs:
            shutil.copy(os.path.join(BIN, "stet"), programs)
            for name in ("stet-broker", "stet-drafter", "stet-sandbox"):
                os.symlink(os.path.abspath(os.path.join(BIN, name)), os.path.join(programs, name))
            instance = Instance(config=BOTH, programs=programs)
            up = up_meanwhile(instance, "--detach", "--sandbox", "--config", instance.config)
            try:
                wait_until(lambda: "cannot run stet-probe" in ((process(instance, "probe") or {}).get("reason") or ""), WAIT_S, "the reason")
                os.symlink(os.path.abspath(os.path.join(BIN, "stet-probe")), os.path.join(programs, "stet-probe"))
                wait_until(lambda: instance.status()["health"]["status"] == "green", WAIT_S, "all run")
            finally:
                up.communicate(timeout=WAIT_S)
                instance.__exit__(None, None, None)

    def test_an_actor_that_outlived_the_supervisor_is_waited_for(self):
        with Instance() as instance:
            instance.stet("down")
            # Started by hand: whether a stopped child outlives its parent is the kernel's to decide (an orphaned group is sent SIGHUP).
            old = subprocess.Popen([os.path.join(instance.programs, "stet-drafter"), "--data", instance.data], env=instance.environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                self.assertTrue(any(json.loads(line)["event"] == "actor.started" for line in old.stderr))
                up = up_meanwhile(instance, "--detach", "--sandbox")
                wait_until(lambda: f"process {old.pid}" in ((process(instance, "drafter") or {}).get("reason") or ""), WAIT_S, "the wait")
                self.assertIsNone(old.poll())
            finally:
                old.kill()
                old.communicate(timeout=WAIT_S)
            up.communicate(timeout=WAIT_S)
            wait_until(lambda: instance.status()["health"]["status"] == "green", WAIT_S, "all run")
            self.assertNotIn(instance.pid("drafter"), (None, old.pid))


class StopTest(unittest.TestCase):
    def test_down_leaves_a_broker_that_nobody_supervises_to_whom_started_it(self):
        with tempfile.TemporaryDirectory(prefix="stet-broker-") as data:
            environment = {**os.environ, "STET_DATA": data}
            broker = subprocess.Popen([os.path.join(BIN, "stet-broker")], env=environment, stderr=subprocess.DEVNULL)
            try:
                wait_until(lambda: os.path.exists(os.path.join(data, "run", "front.sock")), WAIT_S, "the broker listens")
                stet = [os.path.join(BIN, "stet")]
                down = subprocess.run([*stet, "down"], env=environment, capture_output=True, text=True, check=False)
                self.assertEqual(down.returncode, 1)
                self.assertIn(f"process {broker.pid}", down.stderr)
                self.assertIsNone(broker.poll())
                doctor = subprocess.run([*stet, "doctor"], env=environment, capture_output=True, text=True, check=False)
                self.assertIn(f"process {broker.pid}", doctor.stdout)
            finally:
                broker.terminate()
                self.assertEqual(broker.wait(WAIT_S), 0)

    def test_a_second_one_in_the_foreground_is_refused_and_the_first_goes_on(self):
        with Instance() as instance:
            running = instance.pid("supervisor")
            second = instance.stet("up", "--sandbox", check=False)
            self.assertEqual((second.returncode, second.stdout), (1, ""))
            self.assertIn("already running", second.stderr)
            self.assertEqual(instance.status()["supervisor"]["pid"], running)

    def test_down_ends_what_does_not_end_by_itself(self):
        with Instance() as instance:
            frozen = instance.pid("drafter")
            os.kill(frozen, signal.SIGSTOP)
            self.assertEqual(instance.stet("down").stdout, "stopped\n")
            self.assertFalse(alive(frozen))
            with open(os.path.join(instance.data, "log", "supervisor.log"), encoding="utf-8") as file:
                self.assertIn("process.killed", [json.loads(line)["event"] for line in file])

    def test_in_the_foreground_it_says_when_it_is_up_and_ends_in_order_with_ctrl_c(self):
        instance = Instance()
        up = up_meanwhile(instance, "--sandbox", "--json")
        try:
            state = json.loads(up.stdout.readline())
            running = [row["pid"] for row in state["processes"]]
            self.assertFalse(state["detached"])
            self.assertTrue(all(alive(pid) for pid in running))
            up.send_signal(signal.SIGINT)
            _, log = up.communicate(timeout=WAIT_S)
            self.assertEqual(up.returncode, 0, log)
            self.assertEqual([pid for pid in running if alive(pid)], [])
            events = [json.loads(line) for line in log.splitlines()]
            stopped = [row["name"] for row in events if row["event"] == "process.stopped"]
            self.assertEqual(stopped, ["drafter", "broker", "sandbox"])
        finally:
            up.kill()
            up.communicate(timeout=WAIT_S)
            instance.__exit__(None, None, None)

    def test_ctrl_c_twice_does_not_wait_for_what_hangs(self):
        instance = Instance()
        up = up_meanwhile(instance, "--sandbox", "--json")
        try:
            up.stdout.readline()
            frozen = instance.pid("drafter")
            os.kill(frozen, signal.SIGSTOP)
            up.send_signal(signal.SIGINT)
            wait_until(lambda: (instance.status()["supervisor"] or {}).get("stopping"), WAIT_S, "it is stopping")
            self.assertEqual(process(instance, "drafter")["state"], "stopping")
            up.send_signal(signal.SIGINT)
            up.communicate(timeout=WAIT_S)
            self.assertEqual(up.returncode, 0)
            self.assertFalse(alive(frozen))
        finally:
            up.kill()
            up.communicate(timeout=WAIT_S)
            instance.__exit__(None, None, None)


class PlaceTest(unittest.TestCase):
    def test_a_port_that_somebody_else_has_taken_is_given_up_for_another(self):
        instance = Instance()
        os.makedirs(os.path.join(instance.data, "run"), mode=0o700)
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            with open(os.path.join(instance.data, "run", "sandbox.port"), "w", encoding="ascii") as file:
                file.write(f"{taken}\n")
            with instance:
                self.assertEqual(instance.http("GET", "/health"), {"status": "ok"})
                self.assertNotIn(f":{taken}", instance.status()["endpoints"]["sandbox"])

    def test_a_log_that_has_grown_large_is_kept_once_and_begun_anew(self):
        instance = Instance()
        log = os.path.join(instance.data, "log")
        os.makedirs(log, mode=0o700)
        size = (16 << 20) + 1
        with open(os.path.join(log, "broker.log"), "wb") as file:
            file.truncate(size)
        with instance:
            self.assertEqual(os.stat(os.path.join(log, "broker.log.1")).st_size, size)
            self.assertLess(os.stat(os.path.join(log, "broker.log")).st_size, 1 << 20)


if __name__ == "__main__":
    unittest.main()
