"""format - every .c and .h file is as clang-format writes it. Put right with: clang-format -i FILE"""

import re
import subprocess
import sys

import sources


def main():
    options = sources.arguments(__doc__)
    paths = sources.files(options.root, ".c", ".h")
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", "--style=file", *paths], cwd=options.root,
                          stderr=subprocess.PIPE, text=True, check=False)
    findings = re.findall(r"^\S+?:\d+:\d+: .*", done.stderr, re.M)
    if done.returncode != 0 and not findings:
        findings = [done.stderr.strip()]
    return sources.finish("clang-format", len(paths), findings)


if __name__ == "__main__":
    sys.exit(main())
