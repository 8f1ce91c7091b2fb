#!/usr/bin/env bash
# Installs what is missing, builds Stet twice (warnings as errors; address and undefined-behaviour sanitizers) and runs all
# tests on both. Usage: tests/run.sh [--quick]     --quick: the first build only
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
for argument in "$@"; do
  case "$argument" in
    --quick) quick=true ;;
    -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
    *) echo "tests/run.sh: unknown argument $argument (try --help)" >&2; exit 2 ;;
  esac
done

bash tools/install-packages.sh
jobs=$(nproc)
build=${STET_BUILD:-build}

passed=0 failed=0 skipped=0 status=0
# run NAME LABELS-TO-LEAVE-OUT CMAKE-ARGUMENT...: configures, builds, tests, counts.
run() {
  local name=$1 leave_out=$2
  shift 2
  local directory=$build-$name log=$build-$name/tests.log
  echo "== $name: build"
  cmake -S . -B "$directory" -G Ninja -DSTET_WERROR=ON "$@" >"$directory.cmake.log" 2>&1 ||
    { cat "$directory.cmake.log"; exit 1; }
  rm -f "$directory.cmake.log"
  ninja -C "$directory" -j "$jobs" >"$directory/build.log" 2>&1 || { tail -n 60 "$directory/build.log"; exit 1; }
  echo "== $name: tests"
  local code=0
  ctest --test-dir "$directory" -j "$jobs" --output-on-failure ${leave_out:+-LE "$leave_out"} | tee "$log" || code=$?
  [ "$code" -eq 0 ] || status=1
  local summary total bad left_out
  summary=$(grep -E '^[0-9]+% tests passed, [0-9]+ tests failed out of [0-9]+' "$log" | tail -n 1)
  bad=$(sed -E 's/.*passed, ([0-9]+) tests.*/\1/' <<<"$summary")
  total=$(sed -E 's/.*out of ([0-9]+).*/\1/' <<<"$summary")
  if [ -z "$total" ] || [ "$total" -eq 0 ]; then
    echo "tests/run.sh: ctest ran no test in $directory" >&2
    exit 1
  fi
  left_out=$(grep -c '\*\*\*Skipped' "$log" || true) # ctest counts them as passed
  passed=$((passed + total - bad - left_out))
  failed=$((failed + bad))
  skipped=$((skipped + left_out))
}

mkdir -p "$(dirname "$build")"
run release "" -DCMAKE_BUILD_TYPE=RelWithDebInfo
if ! $quick; then
  # What only reads the sources has been run by the first build.
  run asan "static" -DCMAKE_BUILD_TYPE=Debug -DSANITIZER=address,undefined
fi

[ "$skipped" -eq 0 ] || echo "$skipped skipped, marked so above: this system does not allow what they need"
echo "$passed passed, $failed failed"
exit "$status"
