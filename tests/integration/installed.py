"""What `cmake --install` puts into an empty prefix is enough: the examples build against it with pkg-config and run against an
instance started from it, shared and static."""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
import lab  # noqa: E402

BUILD = os.path.dirname(os.path.abspath(os.environ["STET_BIN"]))
EXAMPLES = os.path.join(HERE, "..", "..", "docs", "examples")
SANITIZED = os.environ.get("STET_SANITIZER", "")


class InstalledTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = tempfile.mkdtemp(prefix="stet-prefix-")
        subprocess.run(["cmake", "--install", BUILD, "--prefix", cls.prefix], check=True, capture_output=True)
        package = glob.glob(os.path.join(cls.prefix, "**", "stet.pc"), recursive=True)[0]
        # The prefix of the .pc file is the one the build was configured with; this install went elsewhere.
        cls.flags = [f"--define-variable=prefix={cls.prefix}", "stet"]
        cls.environment = {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(package)}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.prefix)

    def build(self, example, static=False):
        # Static: our library from its archive, what it stands on as the system has it.
        packages = [*self.flags, *(["libzmq", "libczmq", "libsodium", "msgpack"] if static else [])]
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", *packages], env=self.environment, check=True,
                               capture_output=True, text=True).stdout.split()
        if static:
            flags = ["-l:libstet.a" if flag == "-lstet" else flag for flag in flags]
        program = os.path.join(self.prefix, example + ("-static" if static else ""))
        sanitizer = [f"-fsanitize={SANITIZED}"] if SANITIZED else []
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", os.path.join(EXAMPLES, example + ".c"), "-o", program,
                        *sanitizer, *flags], check=True)
        return program

    def test_the_examples_build_and_run_against_the_installed_library(self):
        libraries = os.path.dirname(glob.glob(os.path.join(self.prefix, "**", "libstet.so"), recursive=True)[0])
        submit, follow = self.build("submit"), self.build("follow", static=True)
        lab.BIN = os.path.join(self.prefix, "bin")
        with lab.Instance() as instance:
            environment = {**instance.environment, "LD_LIBRARY_PATH": libraries}
            done = subprocess.run([submit, "p", "s", "Write a greeting."], env=environment, capture_output=True, text=True,
                                  timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('"status": "queued"', done.stdout)
            heard = subprocess.run([follow, "s"], env=environment, capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(heard.returncode, 0, heard.stderr)
            numbers = [int(line.split('"seq":')[1].split(",")[0]) for line in heard.stdout.splitlines()]
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
            self.assertGreaterEqual(len(numbers), 3)


if __name__ == "__main__":
    unittest.main()
