"""sources - what the static checks have in common: which files there are, how each is compiled, and running a tool over them."""

import argparse
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys

TOP_FOLDERS = ("proto", "store", "broker", "actors", "tools", "tests", "docs")


def arguments(text):
    """--root and --build, which every check takes."""
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--root", default=here, help="the tree to check (default: this checkout)")
    parser.add_argument("--build", help="build directory with compile_commands.json (default: build, build-release in the tree)")
    options = parser.parse_args()
    options.root = os.path.realpath(options.root)
    if options.build is None:
        options.build = next((path for path in (os.path.join(options.root, name) for name in ("build", "build-release"))
                              if os.path.exists(os.path.join(path, "compile_commands.json"))), None)
    return options


def files(root, *endings):
    """Paths from the root of all tracked files with one of these endings; of all files when the tree is no git checkout."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        listed = [os.path.relpath(os.path.join(folder, name), root) for top in TOP_FOLDERS
                  for folder, _, names in os.walk(os.path.join(root, top)) for name in names]
    return sorted(path for path in listed if path.endswith(endings))


def entries(options):
    """{path from the root: its entry in the build's compile database}. A file that is compiled into several programs counts as it
    is first, without what the later ones switch on (fault points, planted bugs)."""
    if options.build is None:
        sys.exit("no compile_commands.json: configure a build (cmake --preset dev), or name it with --build")
    with open(os.path.join(options.build, "compile_commands.json"), encoding="utf-8") as file:
        listed = json.load(file)
    found = {}
    for entry in listed:
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), options.root)
        if not path.startswith(".."):
            found.setdefault(path, entry)
    return found


def database(options, folder):
    """Writes those entries as a compile database of their own; tools that read one see each file once."""
    with open(os.path.join(folder, "compile_commands.json"), "w", encoding="utf-8") as file:
        json.dump(list(entries(options).values()), file)
    return folder


def compiled(options):
    """{path from the root: compiler arguments without compiler and output}."""
    found = {}
    for path, entry in entries(options).items():
        words = shlex.split(entry["command"])
        output = words.index("-o")
        del words[output:output + 2]
        compiler = next(i for i, word in enumerate(words) if not word.endswith("ccache"))
        found[path] = words[compiler + 1:]
    return found


def run_each(commands, root):
    """Runs every command, as many at a time as there are processors; gives (key, exit code, output) as they were named."""
    def run(item):
        key, command = item
        done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return key, done.returncode, done.stdout
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(run, commands.items()))


def finish(what, checked, findings):
    """Prints each finding and a summary; the exit code. A check that looked at nothing has failed."""
    for finding in findings:
        print(finding)
    print(f"{what}: {checked} files, {len(findings)} findings")
    return 1 if findings or not checked else 0
