"""What the command line says when something is not as it should be: what is wrong, what to do, and with which exit code."""

import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import BIN  # noqa: E402


def stet(*arguments, data=None, text=None, environment=None):
    """Without an instance."""
    given = {**os.environ, **({"STET_DATA": data} if data else {}), **(environment or {})}
    return subprocess.run([os.path.join(BIN, "stet"), *arguments], env=given, input=text, capture_output=True, text=True,
                          timeout=120, check=False)


class PlaceTest(unittest.TestCase):
    def test_a_data_directory_whose_name_is_not_utf_8_is_refused_at_once(self):
        with tempfile.TemporaryDirectory(prefix="stet-cli-") as parent:
            data = os.path.join(os.fsencode(parent), b"caf\xe9")
            for arguments in (("up", "--detach"), ("status",), ("down",)):
                done = stet(*arguments, "--data", data)
                self.assertEqual(done.returncode, 2, arguments)
                self.assertIn("not UTF-8", done.stderr)
            self.assertEqual(os.listdir(parent), [])


if __name__ == "__main__":
    unittest.main()
