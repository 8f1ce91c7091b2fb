"""Secrets stay where they belong: a unique token in every slot that takes one, an instance that uses and misuses them, then a
search through everything it wrote and shows. And: files that others may read are refused at the start."""

import http.server
import json
import os
import stat
import subprocess
import sys
import threading
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fortress import Fortress, Instance, Keyed, wait_until  # noqa: E402

FINAL = ("done", "error", "cancelled")


def token():
    return "canary-" + uuid.uuid4().hex


class Echo(http.server.BaseHTTPRequestHandler):
    """A provider with bad manners: its errors repeat the key, in the body, in a header and in the reason."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(self.headers.get("Authorization", ""))
        said = self.headers.get("Authorization", "none")
        body = json.dumps({"error": {"message": f"Incorrect API key provided: {said}", "type": "invalid_request_error",
                                     "code": "invalid_api_key"}}).encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Request-Id", "echo-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def provider():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def files_below(directory):
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                yield path


def draft_ends(instance, **fields):
    client = instance.client()
    try:
        job_id = client.ask("drafter.submit", {"projectId": "p", "sessionId": "s", "instruction": "Greet.", **fields})["jobId"]

        def ended():
            job = client.ask("drafter.job", {"jobId": job_id})
            job = job.get("job", job)
            return job if job["status"] in FINAL else None
        return wait_until(ended, 60, "the draft ends")
    finally:
        client.close()


def read(path):
    with open(path, "rb") as file:
        return file.read()


class CanaryTest(unittest.TestCase):
    def search(self, instance, canaries, allowed):
        """Everything the instance wrote or shows; a hit outside `allowed` (paths) is a leak."""
        texts = {path: read(path) for path in files_below(instance.data) if path not in allowed}
        for arguments in (("config",), ("config", "--json"), ("status",), ("status", "--json"), ("doctor",), ("jobs",),
                          ("queue", "p"), ("keys", "list", "--json"), ("inspect", "drafter"), ("call", "drafter.stats"),
                          ("call", "broker.stats"), ("call", "drafter.events", '{"sessionId": "s"}'),
                          ("call", "broker.last", '{"sessionId": "s"}'), ("call", "drafter.list")):
            done = instance.stet(*arguments, check=False)
            texts["stet " + " ".join(arguments)] = (done.stdout + done.stderr).encode()
        for process in instance.status()["processes"]:
            if process["pid"]:
                texts[f"argv of {process['name']}"] = read(f"/proc/{process['pid']}/cmdline")
        self.assertGreater(len(texts), 20)
        self.assertIn(b"http_401", texts["stet inspect drafter"])  # the search sees what is stored
        leaks = [(where, what) for where, text in texts.items() for what, canary in canaries.items() if canary.encode() in text]
        self.assertEqual(leaks, [])

    def environments(self, instance, canaries):
        """Only the drafter is given secrets; what another user of the machine could read is nothing at all."""
        for process in instance.status()["processes"]:
            if not process["pid"]:
                continue
            try:
                environment = read(f"/proc/{process['pid']}/environ")
            except PermissionError:
                continue  # not even this user may look, since the process cannot be dumped
            for what, canary in canaries.items():
                if process["name"] != "drafter":
                    self.assertNotIn(canary.encode(), environment, (process["name"], what))

    def test_secrets_of_the_environment(self):
        server = provider()
        canaries = {"OPENAI_API_KEY": token(), "DRAFT_ALERT_WEBHOOK": "https://127.0.0.1:9/" + token()}
        environment = {**canaries, "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1", "STET_LOG": "debug"}
        instance = Fortress({"app": ("--role", "control")}, sandbox=False, environment=environment)
        with instance:
            job = draft_ends(instance)
            self.assertEqual(job["error"]["code"], "http_401")
            self.assertEqual(set(server.seen), {"Bearer " + canaries["OPENAI_API_KEY"]})  # it was used
            with Keyed(instance, "app") as peer:
                self.assertEqual(peer.ask("broker.version", {})[0], "reply")
            secrets = {**canaries, "the app's key": instance.keys["app"]["secret"].decode(),
                       "the broker's key": self.server_secret(instance)}
            allowed = {instance.path("app"), os.path.join(instance.data, "keys", "server.key")}
            self.search(instance, secrets, allowed)
            self.environments(instance, secrets)
            for name in ("broker", "drafter"):
                limits = read(f"/proc/{instance.pid(name)}/limits").decode()
                core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
                self.assertEqual(core.split()[4:6], ["0", "0"], name)
                self.assertEqual(os.stat(f"/proc/{instance.pid(name)}/environ").st_uid, 0, "cannot be dumped")
            instance.kill("drafter")  # what a crash leaves behind is searched as well
            wait_until(lambda: instance.pid("drafter"), 20, "the drafter is back")
            draft_ends(instance, projectId="p2")
            self.search(instance, secrets, allowed)
        server.shutdown()
        server.server_close()

    @staticmethod
    def server_secret(instance):
        text = read(os.path.join(instance.data, "keys", "server.key")).decode()
        return next(line.split('"')[1] for line in text.splitlines() if line.startswith("secret"))

    def test_secrets_of_the_configuration(self):
        server = provider()
        canaries = {"openai.apiKey": token(), "alerts.draftWebhook": "https://127.0.0.1:9/" + token()}
        config = (f'openai\n    apiKey = "{canaries["openai.apiKey"]}"\n    baseUrl = "http://127.0.0.1:{server.server_port}/v1"\n'
                  f'alerts\n    draftWebhook = "{canaries["alerts.draftWebhook"]}"\n')
        clean = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "DRAFT_ALERT_WEBHOOK": "", "STET_LOG": "debug"}
        with Instance(config=config, sandbox=False, environment=clean) as instance:
            self.assertEqual(draft_ends(instance)["error"]["code"], "http_401")
            self.assertEqual(set(server.seen), {"Bearer " + canaries["openai.apiKey"]})
            self.search(instance, canaries, {instance.config})
            self.environments(instance, canaries)
        server.shutdown()
        server.server_close()

    def test_a_wrong_configuration_is_refused_without_repeating_its_secrets(self):
        secret = token()
        for text in (f"openai\n    apikey = {secret}\n", f"openai\n    apiKey = {secret}\n    apiKey = {secret}\n",
                     f'openai\n    apiKey = "{secret}\n', f"openai\n\tapiKey = {secret}\n"):
            instance = Instance(config=text)
            try:
                done = instance.stet("up", "--detach", "--sandbox", "--config", instance.config, check=False)
                self.assertNotEqual(done.returncode, 0, text)
                self.assertNotIn(secret, done.stdout + done.stderr, text)
            finally:
                instance.__exit__(None, None, None)


class ModesTest(unittest.TestCase):
    def test_nothing_that_an_instance_makes_can_be_read_by_others(self):
        previous = os.umask(0)
        try:
            with Fortress({"app": ("--role", "viewer")}) as instance:
                draft_ends(instance)
                open_ones = []
                for folder, folders, names in os.walk(instance.data):
                    for name in folders + names:
                        path = os.path.join(folder, name)
                        mode = os.lstat(path).st_mode
                        if mode & 0o077 and not stat.S_ISLNK(mode):
                            open_ones.append((os.path.relpath(path, instance.data), oct(mode)))
                self.assertEqual([entry for entry in open_ones if entry[0] != "stet.conf"], [])
        finally:
            os.umask(previous)

    def starts(self, instance):
        done = instance.stet("up", "--detach", "--sandbox", "--config", instance.config, check=False)
        instance.stet("down", check=False)
        return done.returncode == 0

    def test_what_others_may_read_is_refused_at_the_start(self):
        instance = Fortress({"app": ("--role", "viewer")})
        with instance:
            instance.stet("down")
            self.assertTrue(self.starts(instance))
            for name, good, bad in (("keys", 0o700, 0o750), ("keys/server.key", 0o600, 0o640), ("keys/app.pub", 0o600, 0o604),
                                    ("run", 0o700, 0o755), ("drafter/0", 0o700, 0o755)):
                path = os.path.join(instance.data, name)
                os.chmod(path, bad)
                self.assertFalse(self.starts(instance), name)
                os.chmod(path, good)
            self.assertTrue(self.starts(instance))
            with open(instance.config, "a", encoding="utf-8") as file:
                file.write('openai\n    apiKey = "x"\n')
            os.chmod(instance.config, 0o644)
            self.assertFalse(self.starts(instance))
            os.chmod(instance.config, 0o600)
            self.assertTrue(self.starts(instance))


if __name__ == "__main__":
    unittest.main()
