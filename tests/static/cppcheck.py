"""cppcheck - its errors, warnings, performance, portability and style, without what cppcheck.suppressions says and why."""

import os
import subprocess
import sys
import tempfile

import sources

SUPPRESSIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cppcheck.suppressions")


def main():
    options = sources.arguments(__doc__)
    paths = sources.compiled(options)
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run(
            ["cppcheck", f"--project={sources.database(options, work)}/compile_commands.json", f"--cppcheck-build-dir={work}", f"-j{os.cpu_count()}",
             "--enable=warning,performance,portability,style", "--quiet", "--error-exitcode=9",
             f"--relative-paths={options.root}", f"--suppressions-list={SUPPRESSIONS}",
             "--template={file}:{line}: {severity}: {message} [{id}]"],
            cwd=options.root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
    findings = [line for line in done.stderr.split("\n") if line.endswith("]")]
    if done.returncode != 0 and not findings:
        findings = [f"cppcheck ended with {done.returncode}: {done.stderr.strip()}"]
    return sources.finish("cppcheck", len(paths), findings)


if __name__ == "__main__":
    sys.exit(main())
