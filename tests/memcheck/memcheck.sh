#!/usr/bin/env bash
# Runs an instance whose broker and actors are under valgrind's memcheck, with load and with restarts, and fails on errors
# and on leaks of ours. By hand: valgrind makes everything some thirty times slower. Wants a build without sanitizers.
# Usage: tests/memcheck/memcheck.sh [SECONDS]      STET_BIN: directory of the programs, default build/bin
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v valgrind >/dev/null || { echo "memcheck: apt-get install valgrind" >&2; exit 2; }

seconds=${1:-300}
programs=$(realpath "${STET_BIN:-build/bin}")
work=$(mktemp -d /tmp/stet-memcheck-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/log"
cp "$programs/stet" "$work/bin/" # it looks for the others beside itself
ln -s "$programs/stet-sandbox" "$work/bin/"
for name in broker drafter probe; do
  cat >"$work/bin/stet-$name" <<SCRIPT
#!/bin/sh
exec valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \\
  --num-callers=25 --suppressions=$PWD/tests/memcheck/memcheck.supp --log-file=$work/log/$name.%p $programs/stet-$name "\$@"
SCRIPT
  chmod +x "$work/bin/stet-$name"
done

code=0
STET_BIN=$work/bin PYTHONDONTWRITEBYTECODE=1 \
  /usr/bin/python3 tests/load/soak.py --seconds "$seconds" --every 30 --signal TERM --heartbeat 3s || code=$?
lives=$(find "$work/log" -type f | wc -l)
# RocksDB gives the kernel a hint (fcntl 1036, F_SET_RW_HINT) that valgrind does not know.
find "$work/log" -type f -exec sed -i '/unimplemented fcntl command: 1036$/d' {} +
bad=$(find "$work/log" -type f -size +0 | sort)
for log in $bad; do
  echo "---- ${log##*/}"
  cat "$log"
done
echo "{\"seconds\": $seconds, \"lives\": $lives, \"livesWithReports\": $(wc -w <<<"$bad"), \"soak\": $code}"
[ -z "$bad" ] && [ "$code" -eq 0 ] && [ "$lives" -ge 3 ]
