"""The sandbox behaves like the API it stands for, and fails in each way it is told to."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.error
import urllib.request

BIN = os.path.join(os.environ["STET_BIN"], "stet-sandbox")
SCHEMA = {"type": "json_schema", "json_schema": {"name": "draft", "strict": True, "schema": {
    "type": "object", "properties": {"markdown": {"type": "string"}, "summary": {"type": "string"}},
    "required": ["markdown", "summary"], "additionalProperties": False}}}
DOCUMENT = "# Bread\n\nFlour, water, salt. \u00e4\u00f6\u00fc \U0001f35e " + "and time. " * 40


def prompt(instruction="Add a section about ovens.", document=DOCUMENT):
    return (f"# Project p\n\n## Current document\nVersion 3, between the two marks:\n<<<DOCUMENT\n{document}\nDOCUMENT>>>\n\n"
            f"## Instruction\n<<<INSTRUCTION\n{instruction}\nINSTRUCTION>>>\n")


def chat(instruction="Add a section about ovens.", **more):
    body = {"model": "gpt-x", "messages": [{"role": "system", "content": "Answer with JSON."},
                                           {"role": "user", "content": prompt(instruction)}], "response_format": SCHEMA}
    body.update(more)
    return {key: value for key, value in body.items() if value is not None}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def content(self):
        return self.json()["choices"][0]["message"]["content"]


def events(body):
    """The data of each event as JSON, and whether [DONE] came."""
    found, done = [], False
    for block in body.decode().split("\n\n"):
        data = "\n".join(line[5:].lstrip() for line in block.split("\n") if line.startswith("data:"))
        if data == "[DONE]":
            done = True
        elif data:
            found.append(json.loads(data))
    return found, done


def streamed(found):
    return "".join(choice["delta"].get("content") or "" for event in found for choice in event.get("choices", []))


class SandboxTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="stet-sandbox-")
        cls.port_file = os.path.join(cls.directory.name, "port")
        cls.process = cls.launch("--port-file", cls.port_file)
        cls.base = cls.process.stdout.readline().strip()
        cls.port = int(cls.base.split(":")[2].split("/")[0])
        cls.root = f"http://127.0.0.1:{cls.port}"
        cls.threads_idle = cls.threads()

    @classmethod
    def launch(cls, *options):
        return subprocess.Popen([BIN, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    @classmethod
    def tearDownClass(cls):
        cls.process.send_signal(signal.SIGTERM)
        code = cls.process.wait(timeout=30)
        cls.process.stdout.close()
        cls.directory.cleanup()
        assert code == 0, f"exit code {code}"

    def setUp(self):
        self.call("DELETE", "/sandbox/faults")
        self.call("DELETE", "/sandbox/requests")
        self.call("POST", "/sandbox/pace", {"delayMs": 0, "tokenDelayMs": 0})

    def call(self, method, path, body=None, key="sk-test-12345678", raw=None):
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", "Bearer " + key)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def chat(self, *arguments, **more):
        return self.call("POST", "/v1/chat/completions", chat(*arguments, **more))

    def fault(self, kind=None, **more):
        if kind is not None:
            more["kind"] = kind
        answer = self.call("POST", "/sandbox/faults", more)
        self.assertEqual(answer.status, 201, answer.body)
        return answer.json()["id"]

    def last_request(self):
        return self.call("GET", "/sandbox/requests").json()["requests"][-1]

    def outcome(self, wanted, count=1):
        """An outcome is noted when the connection's thread notices; waits until so many requests have it."""
        def outcomes():
            return [entry["outcome"] for entry in self.call("GET", "/sandbox/requests").json()["requests"]]
        self.wait_until(lambda: outcomes().count(wanted) == count, f"{wanted}: {outcomes()}")

    # ---- right answers ----

    def test_a_plain_answer_is_an_edit_of_the_document(self):
        answer = self.chat()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertRegex(answer.headers["x-request-id"], "^req_[0-9a-f]{32}$")
        completion = answer.json()
        self.assertEqual(completion["object"], "chat.completion")
        self.assertEqual(completion["choices"][0]["finish_reason"], "stop")
        self.assertIsNone(completion["choices"][0]["message"]["refusal"])
        usage = completion["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        output = json.loads(answer.content())
        self.assertEqual(set(output), {"markdown", "summary"})
        self.assertTrue(output["markdown"].startswith(DOCUMENT.strip()))
        self.assertIn("## Ovens", output["markdown"])
        self.assertEqual(answer.content(), self.chat().content(), "the same prompt gives the same answer")

    def test_replacements_and_titles_are_carried_out(self):
        output = json.loads(self.chat('Replace "salt" with "sugar".').content())
        self.assertEqual(output["markdown"], DOCUMENT.replace("salt", "sugar"))
        output = json.loads(self.chat('Change the title to "Cake".').content())
        self.assertEqual(output["markdown"], DOCUMENT.replace("# Bread", "# Cake"))

    def test_a_prompt_of_another_shape_gets_a_new_document(self):
        body = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "Two slogans for a bakery"}]}])
        output = json.loads(self.call("POST", "/v1/chat/completions", body).content())
        self.assertTrue(output["markdown"].startswith("# Two slogans for a bakery\n"))

    def test_other_formats_are_honoured(self):
        self.assertTrue(self.chat(response_format=None).content().startswith("# Bread"))
        self.assertIn("markdown", json.loads(self.chat(response_format={"type": "json_object"}).content()))
        schema = {"type": "object", "properties": {"n": {"type": "integer"}, "kind": {"enum": ["a", "b"]},
                                                   "inner": {"type": "object", "properties": {"ok": {"type": "boolean"}}}}}
        other = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        self.assertEqual(json.loads(self.chat(response_format=other).content()), {"n": 0, "kind": "a", "inner": {"ok": False}})

    def test_a_stream_says_the_same_as_the_plain_answer(self):
        answer = self.chat(stream=True, stream_options={"include_usage": True})
        self.assertTrue(answer.headers["Content-Type"].startswith("text/event-stream"))
        found, done = events(answer.body)
        self.assertTrue(done)
        self.assertIn(b": ping\n\n", answer.body)
        self.assertEqual(streamed(found), self.chat().content())
        self.assertEqual(found[0]["choices"][0]["delta"]["role"], "assistant")
        self.assertEqual(found[-2]["choices"][0]["finish_reason"], "stop")
        self.assertEqual(found[-1]["choices"], [])
        self.assertGreater(found[-1]["usage"]["completion_tokens"], 0)
        self.assertTrue(all(event["usage"] is None for event in found[:-1]))
        self.assertTrue(all("obfuscation" in event for event in found[:-1]))
        found, done = events(self.chat(stream=True, stream_options={"include_obfuscation": False}).body)
        self.assertFalse(any("obfuscation" in event or "usage" in event for event in found))

    def test_a_stream_leaves_in_pieces_cut_at_odd_positions(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True)),
                           {"Authorization": "Bearer k", "Content-Type": "application/json"})
        raw = connection.sock.makefile("rb")
        sizes, line = [], raw.readline()
        while line != b"\r\n":
            line = raw.readline()
        while True:
            size = int(raw.readline(), 16)
            sizes.append(size)
            raw.read(size + 2)
            if size == 0:
                break
        raw.close()
        connection.close()
        self.assertGreater(len(set(sizes)), 10)
        self.assertTrue(any(size % 2 for size in sizes))

    def test_the_token_limit_cuts_the_answer(self):
        completion = self.chat(max_completion_tokens=10).json()
        self.assertEqual(completion["choices"][0]["finish_reason"], "length")
        self.assertLessEqual(completion["usage"]["completion_tokens"], 10)

    def test_models_are_listed(self):
        models = self.call("GET", "/v1/models").json()
        self.assertEqual(models["object"], "list")
        name = models["data"][0]["id"]
        self.assertEqual(self.call("GET", "/v1/models/" + name).json()["id"], name)
        self.assertEqual(self.call("GET", "/v1/models/none").json()["error"]["code"], "model_not_found")

    # ---- refusals ----

    def test_keys_are_checked(self):
        answer = self.call("POST", "/v1/chat/completions", chat(), key="bad-key")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (401, "invalid_api_key"))
        self.assertEqual(self.call("POST", "/v1/chat/completions", chat(), key=None).status, 401)
        self.assertEqual(self.call("GET", "/v1/models", key="bad-key").status, 401)

    def test_wrong_requests_are_refused_with_the_parameter(self):
        user = [{"role": "user", "content": "json"}]
        cases = [
            ({"model": None}, "model"), ({"messages": None}, "messages"), ({"messages": []}, "messages"),
            ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
            ({"messages": user + [{"role": "user", "content": 4}]}, "messages[1].content"),
            ({"messages": [{"role": "user"}]}, "messages[0].content"),
            ({"temperature": 2.5}, "temperature"), ({"temperature": "hot"}, "temperature"), ({"top_p": -0.1}, "top_p"),
            ({"n": 0}, "n"), ({"stop": ["a"] * 5}, "stop"), ({"max_completion_tokens": 0}, "max_completion_tokens"),
            ({"max_completion_tokens": 5, "max_tokens": 5}, "max_tokens"), ({"stream": "yes"}, "stream"),
            ({"stream_options": {"include_usage": True}}, "stream_options"),
            ({"response_format": {"type": "xml"}}, "response_format.type"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
             "response_format.json_schema.name"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format.json_schema.schema"),
            ({"response_format": {"type": "json_schema", "json_schema": {
                "name": "a", "strict": True, "schema": {"type": "object", "properties": {"x": {}}, "required": []}}}},
             "response_format"),
            ({"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "hello"}]}, "messages"),
            ({"colour": "red"}, None),
        ]
        for change, param in cases:
            with self.subTest(change=change):
                answer = self.chat(**change)
                self.assertEqual(answer.status, 400, answer.body)
                error = answer.json()["error"]
                self.assertEqual((error["type"], error["param"]), ("invalid_request_error", param))
        self.assertEqual(self.call("POST", "/v1/chat/completions", raw=b"{not json").status, 400)
        self.assertEqual(self.chat(model="no-such-model").status, 404)
        self.assertEqual(self.call("GET", "/v1/nothing").json()["error"]["type"], "invalid_request_error")
        self.assertEqual(self.call("GET", "/v1/chat/completions").status, 404)

    def test_a_body_that_is_too_large_is_refused(self):
        try:
            status = self.call("POST", "/v1/chat/completions", raw=b" " * (8 * 1024 * 1024 + 1)).status
        except (ConnectionError, urllib.error.URLError):
            return
        self.assertEqual(status, 413)

    # ---- faults ----

    def error_of(self, kind, **more):
        self.fault(kind, **more)
        answer = self.chat()
        self.assertEqual(self.chat().status, 200, "used up after one time")
        return answer, answer.json()["error"]

    def test_a_header_that_was_sent_twice_is_shown_once(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest("POST", "/v1/chat/completions")
        for name, value in (("X-Tag", "a"), ("x-tag", "b"), ("Authorization", "Bearer sk-test-12345678"), ("Content-Length", "0")):
            connection.putheader(name, value)
        connection.endheaders()
        connection.getresponse().read()
        connection.close()
        headers = self.call("GET", "/sandbox/requests").json()["requests"][-1]["headers"]
        self.assertEqual((headers["X-Tag"], headers.get("x-tag"), headers["Authorization"]), ("a, b", None, "Bearer ****5678"))

    def test_fault_status_body_and_headers(self):
        self.fault(status=502, body="<html>Bad gateway</html>", headers={"Content-Type": "text/html", "X-Proxy": "p1"})
        answer = self.chat()
        self.assertEqual((answer.status, answer.body), (502, b"<html>Bad gateway</html>"))
        self.assertEqual((answer.headers["Content-Type"], answer.headers["X-Proxy"]), ("text/html", "p1"))
        self.fault("status", status=408, body={"error": {"message": "late"}})
        answer = self.chat()
        self.assertEqual((answer.status, answer.json()), (408, {"error": {"message": "late"}}))
        answer, error = self.error_of("status", status=500)
        self.assertEqual((answer.status, error["type"]), (500, "server_error"))
        self.assertEqual(self.call("GET", "/sandbox/requests").json()["requests"][0]["fault"], "status")

    def test_fault_rate_limit(self):
        answer, error = self.error_of("rate-limit")
        self.assertEqual((answer.status, error["code"], answer.headers["Retry-After"]), (429, "rate_limit_exceeded", "1"))
        answer, _ = self.error_of("rate-limit", retryAfter="Wed, 25 Nov 2026 22:38:36 GMT")
        self.assertEqual(answer.headers["Retry-After"], "Wed, 25 Nov 2026 22:38:36 GMT")
        answer, _ = self.error_of("rate-limit", retryAfter=7)
        self.assertEqual(answer.headers["Retry-After"], "7")

    def test_fault_quota(self):
        answer, error = self.error_of("quota")
        self.assertEqual((answer.status, error["type"], error["code"]), (429, "insufficient_quota", "insufficient_quota"))
        self.assertIsNone(answer.headers["Retry-After"])

    def test_fault_overloaded(self):
        answer, error = self.error_of("overloaded")
        self.assertEqual((answer.status, error["code"]), (503, "server_is_overloaded"))
        self.assertIsNotNone(answer.headers["Retry-After"])

    def test_fault_codes_of_other_types(self):
        answer, error = self.error_of("string-code", status=429)
        self.assertEqual((answer.status, error["code"]), (429, "429"))
        answer, error = self.error_of("number-code", status=503)
        self.assertEqual((answer.status, error["code"]), (503, 503))

    def test_fault_reset(self):
        self.fault("reset")
        with self.assertRaises(ConnectionResetError):
            self.raw_chat()
        self.outcome("reset")

    def raw_chat(self, **more):
        """The answer's bytes up to the end; raises ConnectionResetError on a reset."""
        body = json.dumps(chat(**more)).encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as s:
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nConnection: close\r\n"
                      b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            got = b""
            while True:
                piece = s.recv(65536)
                if not piece:
                    return got
                got += piece

    def open_chat(self, **more):
        """A connection on which a call has been sent."""
        body = json.dumps(chat(**more)).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
                           b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return connection

    def wait_until(self, condition, what):
        for _ in range(3000):
            if condition():
                return
            threading.Event().wait(0.01)
        self.fail(f"never: {what}")

    def test_fault_reset_in_the_middle(self):
        for count, stream in ((1, False), (2, True)):
            self.fault("reset-mid")
            with self.assertRaises(ConnectionResetError):
                self.raw_chat(stream=stream)
            self.outcome("reset", count)
            self.assertEqual(self.last_request()["status"], 200)

    @classmethod
    def threads(cls):
        return len(os.listdir(f"/proc/{cls.process.pid}/task"))

    def test_fault_stall_holds_a_thread_only_as_long_as_the_client_stays(self):
        self.wait_until(lambda: self.threads() <= self.threads_idle, "earlier connections' threads end")
        for count, stream in ((1, False), (2, True)):
            self.fault("stall")
            with self.open_chat(stream=stream) as connection:
                self.outcome("stalled", count)
                self.assertGreater(self.threads(), self.threads_idle)
                self.assertNotIn(b"[DONE]", connection.recv(65536))
            self.wait_until(lambda: self.threads() <= self.threads_idle, "the stalled call's thread ends")

    def test_fault_endless(self):
        for count, stream in ((1, False), (2, True)):
            self.fault("endless")
            got = b""
            with self.open_chat(stream=stream) as connection:
                while len(got) < 2_000_000:
                    piece = connection.recv(65536)
                    self.assertTrue(piece, "the server closed")
                    got += piece
            self.assertNotIn(b"[DONE]", got)
            self.outcome("endless", count)

    def test_fault_half_stream(self):
        self.fault("half-stream")
        found, done = events(self.chat(stream=True).body)
        self.assertFalse(done)
        self.assertTrue(streamed(found))
        self.assertTrue(all(choice["finish_reason"] is None for event in found for choice in event["choices"]))
        self.fault("half-stream")
        with self.assertRaises(json.JSONDecodeError):
            self.chat().json()

    def test_fault_contents(self):
        self.fault("bad-json")
        with self.assertRaises(json.JSONDecodeError):
            json.loads(self.chat().content())
        self.fault("wrong-schema")
        self.assertNotIn("markdown", json.loads(self.chat().content()))
        self.fault("ignore-schema")
        self.assertTrue(self.chat().content().startswith("# Bread"))
        self.fault("ignore-schema", fence=True)
        content = self.chat().content()
        self.assertTrue(content.startswith("```json\n{") and content.endswith("}\n```"))
        self.fault("length")
        choice = self.chat().json()["choices"][0]
        self.assertEqual(choice["finish_reason"], "length")
        with self.assertRaises(json.JSONDecodeError):
            json.loads(choice["message"]["content"])

    def test_fault_refusal(self):
        self.fault("refusal", times=2)
        message = self.chat().json()["choices"][0]["message"]
        self.assertIsNone(message["content"])
        self.assertTrue(message["refusal"])
        found, done = events(self.chat(stream=True).body)
        self.assertTrue(done)
        self.assertEqual(streamed(found), "")
        self.assertTrue(any("refusal" in choice["delta"] and choice["delta"]["refusal"] for event in found
                            for choice in event["choices"]))

    def test_fault_error_in_a_stream(self):
        self.fault("error-in-stream")
        found, done = events(self.chat(stream=True).body)
        self.assertFalse(done)
        self.assertEqual(found[-1]["error"]["type"], "server_error")
        self.fault("error-in-stream", namedEvent=True)
        self.assertIn(b"event: error\ndata: {", self.chat(stream=True).body)
        self.fault("error-in-stream")
        self.assertEqual(self.chat().status, 500)

    def test_delays_change_nothing_but_time(self):
        self.fault(delayMs=1, tokenDelayMs=1)
        found, done = events(self.chat(stream=True).body)
        self.assertTrue(done)
        self.assertEqual(streamed(found), self.chat().content())
        self.assertEqual(self.call("POST", "/sandbox/pace", {"tokenDelayMs": 1}).json(), {"delayMs": 0, "tokenDelayMs": 1})
        self.assertEqual(self.call("POST", "/sandbox/pace", {"tokenDelayMs": -1}).status, 400)

    def test_faults_match_are_counted_and_removed(self):
        first = self.fault("status", status=500, match="only \u201cthis\u201d\none", times=0)
        self.assertEqual(self.chat("something else").status, 200)
        for _ in range(3):
            self.assertEqual(self.chat("only \u201cthis\u201d\none").status, 500)
        listed = self.call("GET", "/sandbox/faults").json()
        self.assertEqual([(f["id"], f["hits"], f["times"]) for f in listed["faults"]], [(first, 3, 0)])
        self.assertIn("half-stream", listed["kinds"])
        self.assertEqual(self.call("DELETE", f"/sandbox/faults?id={first}").json(), {"removed": 1})
        self.assertEqual(self.chat("only \u201cthis\u201d\none").status, 200)
        self.fault("status", status=500, times=2)
        self.assertEqual([self.chat().status for _ in range(3)], [500, 500, 200])

    def test_wrong_faults_are_refused_with_the_field(self):
        cases = [({"kind": "nonsense"}, "kind"), ({"status": 99}, "status"), ({"times": -1}, "times"), ({"colour": 1}, "colour"),
                 ({"headers": {"X": "a\r\nb"}}, "headers"), ({"match": 4}, "match"), ({"delayMs": "long"}, "delayMs")]
        for body, field in cases:
            with self.subTest(body=body):
                answer = self.call("POST", "/sandbox/faults", body)
                self.assertEqual((answer.status, answer.json()["error"]["field"]), (400, field))
        self.assertEqual(self.call("POST", "/sandbox/faults", raw=b"nonsense").status, 400)
        self.assertEqual(self.call("GET", "/sandbox/faults").json()["faults"], [])

    # ---- journal, page, process ----

    def test_the_journal_shows_what_came_without_the_key(self):
        self.chat()
        entry = self.last_request()
        self.assertEqual((entry["method"], entry["path"], entry["status"]), ("POST", "/v1/chat/completions", 200))
        self.assertEqual(entry["headers"]["Authorization"], "Bearer ****5678")
        self.assertEqual(entry["body"], chat())
        self.assertEqual(entry["outcome"], "complete")
        since = entry["index"]
        self.call("POST", "/v1/chat/completions", raw=b"{not json", key="short")
        later = self.call("GET", f"/sandbox/requests?since={since}").json()
        self.assertEqual([e["body"] for e in later["requests"]], ["{not json"])
        self.assertEqual(later["requests"][0]["headers"]["Authorization"], "Bearer ****")
        self.assertEqual(later["last"], since + 1)
        self.call("DELETE", "/sandbox/requests")
        self.assertEqual(self.call("GET", "/sandbox/requests").json(), {"requests": [], "last": since + 1})

    def test_page_and_health(self):
        page = self.call("GET", "/")
        self.assertTrue(page.headers["Content-Type"].startswith("text/html"))
        self.assertIn(b"/sandbox/requests", page.body)
        self.assertEqual(self.call("GET", "/health").json(), {"status": "ok"})
        self.assertEqual(self.call("GET", "/other").status, 404)

    def test_many_calls_at_once_are_all_answered(self):
        contents = []

        def ask(number):
            contents.append(streamed(events(self.chat(f"Write about item {number}.", stream=True).body)[0]))
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        titles = sorted(json.loads(content)["summary"] for content in contents)
        self.assertEqual(len(set(titles)), 24)

    def test_it_stops_at_once_with_open_streams_and_keeps_its_port(self):
        with tempfile.TemporaryDirectory(prefix="stet-sandbox-") as directory:
            port_file = os.path.join(directory, "port")
            process = self.launch("--port-file", port_file)
            port = int(process.stdout.readline().split(":")[2].split("/")[0])
            process.stdout.close()
            with open(port_file, encoding="ascii") as file:
                self.assertEqual(file.read(), f"{port}\n")
            self.assertEqual(os.listdir(directory), ["port"])
            body = json.dumps({"kind": "stall"}).encode()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/sandbox/faults", data=body, timeout=60).close()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True)), {"Authorization": "Bearer k"})
            self.assertEqual(connection.getresponse().status, 200)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(timeout=30), 0)
            connection.close()
            process = self.launch("--port-file", port_file)
            self.assertEqual(process.stdout.readline(), f"http://127.0.0.1:{port}/v1\n")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=30), 0)
            process.stdout.close()

    def test_wrong_options_are_refused(self):
        for options in (["--port", "x"], ["--port", "70000"], ["--nonsense"], ["extra"]):
            with self.subTest(options=options):
                self.assertEqual(subprocess.run([BIN, *options], capture_output=True, check=False).returncode, 2)
        self.assertIn("--port-file", subprocess.run([BIN, "--help"], capture_output=True, text=True, check=True).stdout)
        self.assertNotEqual(subprocess.run([BIN, "--port", str(self.port)], capture_output=True, check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
