"""clang_tidy - the checks of .clang-tidy, with clang's path-sensitive analyzer, on every compiled file."""

import os
import re
import sys
import tempfile

import sources


def main():
    options = sources.arguments(__doc__)
    paths = sources.compiled(options)
    findings = []
    with tempfile.TemporaryDirectory() as work:
        # One compilation a process: of the later ones in a process the analyzer of clang 14 takes every va_list for unset.
        build = sources.database(options, work)
        commands = {path: ["clang-tidy", "--quiet", "-p", build, os.path.join(options.root, path)] for path in paths}
        results = sources.run_each(commands, options.root)
    for path, code, output in results:
        found = [line.replace(options.root + "/", "") for line in re.findall(r"^.*: (?:warning|error): .*$", output, re.M)]
        if code != 0 and not found:
            found = [f"{path}:1: clang-tidy ended with {code}: {output.strip()}"]
        findings += found
    return sources.finish("clang-tidy", len(paths), sorted(set(findings)))


if __name__ == "__main__":
    sys.exit(main())
