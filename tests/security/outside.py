"""What the drafter calls, and what calls do to it: addresses it must not reach, redirects, answers that swell or never end,
certificates that prove nothing. The real drafter; servers in this process; the base URL is changed by a new configuration."""

import gzip
import http.server
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fortress import Instance, wait_until  # noqa: E402
from hostile import MIB, resident  # noqa: E402
from secrets_stay import draft_ends  # noqa: E402

CONFIG = """
openai
    baseUrl = "{url}"
http
    connectTimeout = 5s
    totalTimeout = 2s
    stallTimeout = 60s
    bodyMax = 1M
    caFile = "{ca}"
drafter
    attempts = 1
    callTries = 1
supervisor
    restartMax = 50ms
"""
BOMB = gzip.compress(b"\0" * (100 * MIB), compresslevel=1)


class Provider(http.server.BaseHTTPRequestHandler):
    """/BEHAVIOUR/v1/chat/completions"""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behaviour = self.path.split("/")[1]
        self.server.hits.append((behaviour, self.headers.get("Authorization")))
        try:
            getattr(self, behaviour)()
        except OSError:
            pass  # the drafter has had enough
        self.close_connection = True

    def head(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def redirect(self):
        self.head(307, Location=f"http://127.0.0.1:{self.server.server_port}/target/v1/chat/completions", Content_Length="0")

    def redirect_away(self):
        self.head(302, Location="https://169.254.169.254/latest/meta-data/", Content_Length="0")

    def target(self):
        self.head(200, Content_Length="0")

    def gzip_bomb(self):
        self.head(200, Content_Type="application/json", Content_Encoding="gzip", Content_Length=str(len(BOMB)))
        self.wfile.write(BOMB)

    def endless(self):
        self.head(200, Content_Type="text/event-stream")
        while True:
            self.wfile.write(b": " + b"x" * 65536 + b"\n")

    def one_long_line(self):
        self.head(200, Content_Type="text/event-stream")
        while True:
            self.wfile.write(b"x" * 65536)

    def slow_loris(self):
        self.head(200, Content_Type="text/event-stream")
        while True:
            self.wfile.write(b":")
            self.wfile.flush()
            time.sleep(0.1)

    def slow_headers(self):
        while True:
            self.wfile.write(b"H")
            self.wfile.flush()
            time.sleep(0.1)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a handshake that the drafter broke off


def serve(certificate=None, key=None):
    server = Server(("127.0.0.1", 0), Provider)
    server.hits = []
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class OutsideTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="stet-outside-")
        cls.make_certificates()
        environment = {"OPENAI_API_KEY": "outside-key", "OPENAI_BASE_URL": ""}
        cls.instance = Instance(config=cls.config("http://127.0.0.1:9/v1"), sandbox=False, environment=environment)
        cls.instance.__enter__()
        cls.server = serve()

    @classmethod
    def tearDownClass(cls):
        cls.instance.__exit__(None, None, None)
        cls.server.shutdown()
        cls.server.server_close()
        cls.directory.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.directory.name, name)

    @classmethod
    def config(cls, url):
        return CONFIG.format(url=url, ca=cls.path("ca.pem"))

    @classmethod
    def openssl(cls, *arguments):
        subprocess.run(["openssl", *arguments], cwd=cls.directory.name, check=True, capture_output=True)

    @classmethod
    def make_certificates(cls):
        """ca.pem vouches for good, expired and elsewhere (another host); nobody vouches for self."""
        for name, subject in (("ca", "/CN=test authority"), ("self", "/CN=127.0.0.1")):
            cls.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                        subject, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", name + ".key", "-out", name + ".pem")
        for name, host, start, end in (("good", "IP:127.0.0.1", None, None), ("elsewhere", "DNS:example.org", None, None),
                                       ("expired", "IP:127.0.0.1", "20200101000000Z", "20200102000000Z"),
                                       ("early", "IP:127.0.0.1", "20980101000000Z", "20990101000000Z")):
            cls.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
                        "-keyout", name + ".key", "-out", name + ".csr")
            with open(cls.path(name + ".ext"), "w", encoding="ascii") as file:
                file.write("subjectAltName=" + host + "\n")
            with open(cls.path(name + ".index"), "w", encoding="ascii"):
                pass
            with open(cls.path(name + ".cnf"), "w", encoding="ascii") as file:
                file.write(f"[ca]\ndefault_ca=d\n[d]\ndatabase={name}.index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n"
                           "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
            dates = ("-startdate", start, "-enddate", end) if start else ("-days", "2")
            cls.openssl("ca", "-batch", "-notext", "-config", name + ".cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in",
                        name + ".csr", "-out", name + ".pem", "-extfile", name + ".ext", *dates)

    def draft(self, url):
        """The error of a draft by a drafter with this base URL."""
        with open(self.instance.config, "w", encoding="utf-8") as file:
            file.write(self.config(url))
        before = self.instance.pid("drafter")
        self.instance.kill("drafter")
        wait_until(lambda: self.instance.pid("drafter") not in (None, before), 30, "the drafter is back")
        job = draft_ends(self.instance)
        return job["error"]

    def local(self, behaviour):
        return f"http://127.0.0.1:{self.server.server_port}/{behaviour}/v1"

    # ---- where it goes ----

    def test_addresses_inside_are_refused_under_every_spelling(self):
        for url in ("http://10.0.0.1/v1", "https://169.254.169.254/v1", "https://[::ffff:10.0.0.1]/v1", "https://167772161/v1",
                    "https://0x0a000001/v1", "https://0.0.0.0/v1", "http://192.0.2.1/v1", "https://inside.localhost/v1",
                    "https://user:password@127.0.0.1/v1", "file:///etc/passwd", "gopher://127.0.0.1:70/"):
            with self.subTest(url):
                self.assertEqual(self.draft(url)["code"], "url_refused")

    def test_a_redirect_is_not_followed(self):
        for behaviour in ("redirect", "redirect_away"):
            with self.subTest(behaviour):
                self.assertRegex(self.draft(self.local(behaviour))["code"], "^http_30[27]$")
        self.assertNotIn("target", [behaviour for behaviour, _ in self.server.hits])

    # ---- what comes back ----

    def test_answers_that_swell_or_never_end_are_cut_off(self):
        for behaviour, codes in (("gzip_bomb", {"answer_lost", "invalid_output", "answer_too_large"}),
                                 ("endless", {"answer_too_large"}), ("one_long_line", {"answer_too_large", "answer_lost"}),
                                 ("slow_loris", {"timeout"}), ("slow_headers", {"timeout", "answer_lost", "answer_too_large"})):
            with self.subTest(behaviour):
                error = self.draft(self.local(behaviour))
                self.assertIn(error["code"], codes)
                self.assertLess(resident(self.instance.pid("drafter")), 500 * MIB)
                self.assertIn(behaviour, [hit for hit, _ in self.server.hits])

    # ---- to whom it speaks ----

    def test_only_a_good_certificate_gets_the_key(self):
        for name, served in (("self", False), ("expired", False), ("early", False), ("elsewhere", False), ("good", True)):
            with self.subTest(name):
                server = serve(self.path(name + ".pem"), self.path(name + ".key"))
                error = self.draft(f"https://127.0.0.1:{server.server_port}/redirect_away/v1")
                if served:
                    self.assertEqual((error["code"], server.hits), ("http_302", [("redirect_away", "Bearer outside-key")]))
                else:
                    self.assertEqual((error["code"], server.hits), ("connect_failed", []))
                server.shutdown()
                server.server_close()


if __name__ == "__main__":
    unittest.main()
