"""The worked example in docs/protocol.md: bytes and JSON say the same, and every table of the page is whole."""

import json
import os
import re
import unittest

import msgpack

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class DocumentTest(unittest.TestCase):
    def setUp(self):
        with open(os.path.join(ROOT, "docs", "protocol.md"), encoding="utf-8") as file:
            self.text = file.read()

    def blocks(self, language):
        return dict(re.findall(rf"```{language} ([a-z-]+)\n(.*?)```", self.text, re.S))

    def test_every_example_decodes_to_the_json_beside_it(self):
        texts, bytes_ = self.blocks("json"), self.blocks("hex")
        self.assertEqual(sorted(texts), sorted(bytes_))
        self.assertGreaterEqual(len(texts), 6)
        for name, text in texts.items():
            value = msgpack.unpackb(bytes.fromhex(bytes_[name]))
            if isinstance(value.get("id"), bytes):
                value["id"] = value["id"].hex()
            self.assertEqual(value, json.loads(text), name)

    def test_every_kind_and_key_of_the_source_is_described(self):
        with open(os.path.join(ROOT, "proto", "wire", "envelope.h"), encoding="utf-8") as file:
            kinds = re.findall(r'X\([A-Z]+, "([a-z]+)"', file.read())
        with open(os.path.join(ROOT, "proto", "wire", "envelope.c"), encoding="utf-8") as file:
            table = re.search(r"#define KEYS\(X\)(.*?)\n\n", file.read(), re.S).group(1).replace("\\\n", "")
        entries = [re.sub(r'"\s*"', "", entry) for entry in re.findall(r"X\([A-Z]+,\s*((?:\"[^\"]*\"\s*)+)", table)]
        keys = [re.sub(r"^\\xa[0-9a-f]", "", entry.strip().strip('"')) for entry in entries]
        self.assertEqual(len(kinds), 10)
        self.assertEqual(len(keys), 14)
        for name in kinds + keys:
            self.assertTrue(f"| `{name}` |" in self.text, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
