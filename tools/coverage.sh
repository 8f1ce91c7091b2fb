#!/usr/bin/env bash
# Builds with gcov's counters, runs the tests with the given labels and prints lines and branches covered per folder.
# Usage: tools/coverage.sh [LABEL-REGEX] [FILE...]     LABEL-REGEX: default "unit"; FILE: sources to show one by one
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
esac
labels=${1:-unit}
[ $# -eq 0 ] || shift
build=${STET_BUILD:-build}-coverage

bash tools/install-packages.sh
bash tools/install-packages.sh gcovr
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DSTET_COVERAGE=ON >/dev/null
ninja -C "$build" | tail -n 1
find "$build" -name '*.gcda' -delete
ctest --test-dir "$build" -j "$(nproc)" -L "$labels" -E integration.installed --output-on-failure >"$build/tests.log" || { tail -n 40 "$build/tests.log"; exit 1; }
# The failing branch of an ASSERT is left out: no test may take it.
gcovr --root . --object-directory "$build" --exclude-directories '.*/tests/.*' --exclude 'tests/' --exclude 'docs/' --exclude-lines-by-pattern '.*\bASSERT\(.*' \
  --json-summary "$build/coverage.json" >/dev/null
python3 - "$build/coverage.json" "$@" <<'PY'
import json
import os
import sys

figures, rows = json.load(open(sys.argv[1], encoding="utf-8"))["files"], {}
for file in figures:
    name = file["filename"] if file["filename"] in sys.argv[2:] else os.path.dirname(file["filename"])
    row = rows.setdefault(name, [0, 0, 0, 0])
    for i, key in enumerate(("line_covered", "line_total", "branch_covered", "branch_total")):
        row[i] += file[key]
print(f"{'':36} {'lines':>14} {'branches':>16}")
for name, (lines, lines_all, branches, branches_all) in sorted(rows.items()):
    print(f"{name:36} {lines:6}/{lines_all:<6} {100 * lines // max(lines_all, 1):3} %"
          f" {branches:6}/{branches_all:<6} {100 * branches // max(branches_all, 1):3} %")
PY
