"""gcc_analyzer - gcc -fanalyzer over all programs and libraries (not over tests, which cmocka ends with longjmp)."""

import re
import sys

import sources

# What gcc 12 reports wrongly: (file, option): why. One that is no longer reported is reported here, so that the list stays short.
ACCEPTED = {
    ("store/memory.c", "-Wanalyzer-malloc-leak"): "what is returned is &iter->base and &self->base, their first member",
    ("store/rocks.c", "-Wanalyzer-malloc-leak"): "what is returned is &iter->base, its first member",
    ("actors/runtime/workers.c", "-Wanalyzer-null-dereference"): "the loop ends when pop() gives NULL",
    ("proto/base/buf.h", "-Wanalyzer-null-argument"): "the copy is made for a size above 0 that the buffer has room for",
    ("actors/runtime/inputs.c", "-Wanalyzer-null-argument"): "reason.data is the result.reason that was tested",
}


def main():
    options = sources.arguments(__doc__)
    paths = {path: words for path, words in sources.compiled(options).items() if not path.startswith(("tests/", "docs/"))}
    commands = {path: ["gcc", *words, "-O0", "-fanalyzer", "-fdiagnostics-plain-output", "-Wno-error", "-o", "/dev/null"]
                for path, words in paths.items()}
    findings, accepted = [], set()
    for path, code, output in sources.run_each(commands, options.root):
        if code != 0:
            findings.append(f"{path}:1: gcc ended with {code}: {output.strip()}")
        for line, option in re.findall(r"^(.*: warning: .*\[(-Wanalyzer[\w-]+)\])$", output, re.M):
            where = line.replace(options.root + "/", "")
            if (where.split(":")[0], option) in ACCEPTED:
                accepted.add((where.split(":")[0], option))
            else:
                findings.append(where)
    findings += [f"{path}:1: {option} is accepted in gcc_analyzer.py and is reported no more: take it out"
                 for path, option in ACCEPTED if path in paths and (path, option) not in accepted]
    return sources.finish("gcc -fanalyzer", len(paths), sorted(set(findings)))


if __name__ == "__main__":
    sys.exit(main())
