"""selftest - a check that cannot fail proves nothing: each rule of each static check is broken once, in a tree made for it."""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
LONG_FUNCTION = "int f(int x) {\n" + "    x++;\n" * 71 + "    return x;\n}\n"
LONG_FILE = "int x;\n" * 601

# (check, what it must say, file, content, line)
MUST_FAIL = [
    ("tidy", "proto may not include store/store.h", "proto/wire/a.c", '#include "store/store.h"\n', 1),
    ("tidy", "an actor stands on", "actors/drafter/a.c", '#include "actors/runtime/turn.h"\n', 1),
    ("tidy", "actors may not include actors/drafter/drafter.h", "actors/runtime/a.c", '\n#include "actors/drafter/drafter.h"\n', 2),
    ("tidy", "rocksdb is used only in", "broker/a.c", "void f(void) {\n    rocksdb_open(0, 0, 0);\n}\n", 2),
    ("tidy", "curl is used only in", "store/a.c", "#include <curl/curl.h>\n", 1),
    ("tidy", "ZeroMQ is used only in", "actors/drafter/a.c", "#include <zmq.h>\n", 1),
    ("tidy", "the clock is used only in", "actors/drafter/a.c", "long f(void) {\n    return time(0);\n}\n", 2),
    ("tidy", "entropy is used only in", "store/a.c", "int f(void) {\n    return rand();\n}\n", 2),
    ("tidy", "use snprintf or stet_buf", "tests/a.c", "void f(char *a) {\n    strcpy(a, a);\n}\n", 2),
    ("tidy", "use a checked parser", "tools/a.c", "int f(char *a) {\n    return atoi(a);\n}\n", 2),
    ("tidy", "ASSERT stays on", "tools/a.c", "#include <assert.h>\n", 1),
    ("tidy", "crashes on bytes from outside", "broker/sockets.c", "void f(void) {\n    zmsg_decode(0);\n}\n", 2),
    ("tidy", "TLS is always verified", "actors/runtime/http.c", "void f(void) {\n    set(CURLOPT_SSL_VERIFYPEER, 0L);\n}\n", 2),
    ("tidy", "durability is not optional", "store/a.c", "void f(void) {\n    set_disable_WAL(1);\n}\n", 2),
    ("tidy", "no shell", "tools/a.c", 'void f(void) {\n    system("ls");\n}\n', 2),
    ("tidy", "a function has at most 70", "store/a.c", LONG_FUNCTION, 1),
    ("tidy", "a file has at most 600", "store/a.c", LONG_FILE, 602),
    ("format", "clang-format", "store/a.c", "int  f( void ){return 1;}\n", 1),
    ("clang_tidy", "clang-analyzer-core.NullDereference", "store/a.c",
     "int f(int x) {\n    int *at = x ? &x : 0;\n    return *at;\n}\n", 3),
    ("clang_tidy", "bugprone-suspicious-memset-usage", "store/a.c",
     "#include <string.h>\nvoid f(char *a) {\n    memset(a, sizeof(int), 0);\n}\n", 3),
    ("clang_tidy", "cert-err33-c", "store/a.c", "#include <stdio.h>\nvoid f(void) {\n    remove(\"a\");\n}\n", 3),
    ("clang_tidy", "cert-err34-c", "store/a.c", "#include <stdlib.h>\nint f(const char *a) {\n    return atoi(a);\n}\n", 3),
    ("clang_tidy", "readability-function-size", "store/a.c", LONG_FUNCTION, 1),
    ("cppcheck", "arrayIndexOutOfBounds", "store/a.c", "int f(void) {\n    int a[2] = {0};\n    return a[2];\n}\n", 3),
    ("gcc_analyzer", "-Wanalyzer-double-free", "store/a.c",
     "#include <stdlib.h>\nvoid f(void *a) {\n    free(a);\n    free(a);\n}\n", 4),
    ("gcc_analyzer", "is reported no more", "store/memory.c", "int f(void) {\n    return 1;\n}\n", 1),
]
GOOD = "/* good */\nint f(int x) {\n    return x + 1;\n}\n"
CHECKS = sorted({row[0] for row in MUST_FAIL})


def run(check, path, content):
    """The check's exit code and output on a tree of one file."""
    with tempfile.TemporaryDirectory() as root:
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full))
        with open(full, "w", encoding="utf-8") as file:
            file.write(content)
        for name in (".clang-tidy", ".clang-format"):
            os.symlink(os.path.join(ROOT, name), os.path.join(root, name))
        build = os.path.join(root, "build")
        os.mkdir(build)
        with open(os.path.join(build, "compile_commands.json"), "w", encoding="utf-8") as file:
            json.dump([{"directory": build, "file": full, "command": f"/usr/bin/cc -I{root} -std=gnu17 -o a.o -c {full}"}], file)
        done = subprocess.run([sys.executable, os.path.join(HERE, check + ".py"), "--root", root, "--build", build],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout


def main():
    wrong = 0
    for check, says, path, content, line in MUST_FAIL:
        code, output = run(check, path, content)
        if code != 1 or not any(row.startswith(f"{path}:{line}:") and says in row for row in output.split("\n")):
            print(f"{check} should say {path}:{line}: ...{says}..., but ended with {code} and said:\n{output}")
            wrong += 1
    for check in CHECKS:
        code, output = run(check, "tools/good.c", GOOD)
        if code != 0:
            print(f"{check} should find nothing in good code, but ended with {code} and said:\n{output}")
            wrong += 1
    print(f"{len(MUST_FAIL)} breaches, {len(CHECKS)} checks on good code, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
