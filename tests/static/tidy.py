"""tidy - the project's own rules, checked on the sources."""

import os
import re
import sys

import sources

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

# Which folder may include which (the first match of the file's path decides).
MAY_INCLUDE = [
    ("proto/base/", ["proto/base/"]),
    ("proto/wire/", ["proto/base/", "proto/wire/"]),
    ("proto/keys/", ["proto/base/", "proto/wire/", "proto/keys/"]),
    ("proto/client/", ["proto/"]),
    ("store/", ["proto/", "store/"]),
    ("broker/", ["proto/", "broker/"]),
    ("actors/runtime/", ["proto/", "store/", "actors/runtime/"]),
    ("actors/drafter/", ["proto/", "store/", "actors/runtime/", "actors/drafter/"]),
    ("tools/", ["proto/", "tools/"]),
]
# Parts of the runtime that actors must not see.
RUNTIME_FOR_ACTORS = {"actors/runtime/actor.h", "actors/runtime/jobs.h"}

# (what, pattern, files that may)
ONLY_IN = [
    ("rocksdb", r"\brocksdb_\w+\s*\(|<rocksdb/", ["store/"]),
    ("curl", r"\bcurl_\w+\s*\(|<curl/", ["actors/runtime/http", "tools/stet/"]),
    ("ZeroMQ", r"\bzmq_\w+\s*\(|<zmq\.h>|\bzsock_", ["proto/client/", "broker/sockets", "broker/main", "actors/runtime/process", "actors/runtime/loop",
                                                 "actors/runtime/sockets", "tools/", "proto/base/config"]),
    ("the clock", r"\b(clock_gettime|gettimeofday|time)\s*\(|\bzclock_", ["proto/base/clock.c", "proto/base/log.c"]),
    ("entropy", r"\b(getrandom|getentropy|rand|random|randombytes_\w+)\s*\(", ["proto/base/clock.c"]),
]
FORBIDDEN = [
    ("use snprintf or stet_buf", r"\b(sprintf|vsprintf|strcpy|strcat|gets)\s*\("),
    ("use a checked parser", r"\b(atoi|atol|atof|strtok)\s*\("),
    ("ASSERT stays on, assert does not", r"<assert\.h>"),
    ("crashes on bytes from outside", r"\b(zmsg_decode|zhash_unpack|zgossip_\w+|zbeacon_\w+)\s*\("),
    ("TLS is always verified", r"SSL_VERIFY(PEER|HOST)\s*,\s*0"),
    ("durability is not optional", r"disable_WAL|manual_wal_flush|unordered_write"),
    ("no shell", r"\b(system|popen)\s*\("),
]


def without_comments(text):
    """Comments and string contents become blanks; lines keep their numbers."""
    def blank(match):
        token = match.group(0)
        if token.startswith('"'):
            return '"' + " " * (len(token) - 2) + '"'
        return re.sub(r"[^\n]", " ", token)
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def check_includes(path, text):
    allowed = next((may for prefix, may in MAY_INCLUDE if path.startswith(prefix)), None)
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        if allowed and not any(target.startswith(prefix) for prefix in allowed):
            yield number, f"{path.split('/')[0]} may not include {target}"
        if path.startswith("actors/drafter/") and target.startswith("actors/runtime/") and target not in RUNTIME_FOR_ACTORS:
            yield number, f"an actor stands on {' and '.join(sorted(RUNTIME_FOR_ACTORS))} only, not on {target}"


def check_calls(path, code):
    for number, line in enumerate(code.split("\n"), 1):
        if re.match(r"\s*#\s*include\s+<", line) is None and line.lstrip().startswith("#"):
            continue
        if not path.startswith("tests/"):
            for what, pattern, places in ONLY_IN:
                if re.search(pattern, line) and not path.startswith(tuple(places)):
                    yield number, f"{what} is used only in {', '.join(places)}"
        for why, pattern in FORBIDDEN:
            if re.search(pattern, line):
                yield number, f"forbidden call: {why}"


def check_lengths(path, code):
    lines = code.split("\n")
    if len(lines) - 1 > FILE_LINES_MAX:
        yield len(lines), f"{len(lines) - 1} lines; a file has at most {FILE_LINES_MAX}"
    start = None
    for number, line in enumerate(lines, 1):
        # clang-format closes a function with a brace in the first column and opens it at the end of its head.
        if re.match(r"[A-Za-z_].*\)\s*\{\s*$", line) or line == "{" or re.match(r"\s+[^#].*\)\s*\{\s*$", line) and start is None and \
                re.match(r"[A-Za-z_]", lines[number - 2]):
            start = start or number
        elif line.startswith("}") and start:
            if number - start > FUNCTION_LINES_MAX:
                yield start, f"{number - start} lines; a function has at most {FUNCTION_LINES_MAX}"
            start = None


def main():
    options = sources.arguments(__doc__)
    paths = sources.files(options.root, ".c", ".h")
    findings = []
    for path in paths:
        with open(os.path.join(options.root, path), encoding="utf-8") as file:
            text = file.read()
        code = without_comments(text)
        for check, argument in ((check_includes, text), (check_calls, code), (check_lengths, code)):
            findings += [f"{path}:{number}: {rule}" for number, rule in check(path, argument)]
    return sources.finish("tidy", len(paths), findings)


if __name__ == "__main__":
    sys.exit(main())
