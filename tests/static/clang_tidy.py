"""clang_tidy - the checks of .clang-tidy, with clang's path-sensitive analyzer, on every compiled file."""

import os
import re
import sys

import sources


def main():
    options = sources.arguments(__doc__)
    paths = sources.compiled(options)
    # One process a file: in one process for several, the analyzer of clang 14 takes every va_list of the later ones for unset.
    commands = {path: ["clang-tidy", "--quiet", "-p", options.build, os.path.join(options.root, path)] for path in paths}
    findings = []
    for path, code, output in sources.run_each(commands, options.root):
        found = [line.replace(options.root + "/", "") for line in re.findall(r"^.*: (?:warning|error): .*$", output, re.M)]
        if code != 0 and not found:
            found = [f"{path}:1: clang-tidy ended with {code}: {output.strip()}"]
        findings += found
    return sources.finish("clang-tidy", len(paths), sorted(set(findings)))


if __name__ == "__main__":
    sys.exit(main())
