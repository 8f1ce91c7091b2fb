#!/usr/bin/env bash
# Installs what is missing, builds Stet and runs one draft from end to end against the local sandbox: a transcript and a
# document go in, a model is called over HTTP, progress streams out, the document changes.
# Usage: tools/quickstart.sh [DATA]      DATA: data directory to use (default: stet-data in this checkout)
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
esac
data=$(realpath -m "${1:-stet-data}")

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

bash tools/install-packages.sh
say "Building"
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
ninja -C build -j "$(nproc)" stet-cli stet-broker stet-drafter stet-sandbox | tail -n 1
export PATH="$PWD/build/bin:$PATH" STET_DATA=$data

say "Starting broker, drafter and sandbox in $data"
stet up --sandbox --detach

project=launch-notes session=demo-$(date +%s)
say "A transcript and a document go in"
stet call drafter.transcript.append "$(cat <<JSON
{"projectId": "$project", "items": [
  {"id": "m1", "previousItemId": null, "role": "user", "text": "We ship on Thursday, not on Monday.", "timestamp": "2026-11-25T09:00:00Z"},
  {"id": "m2", "previousItemId": "m1", "role": "assistant", "text": "Noted. Shall I change the announcement?", "timestamp": "2026-11-25T09:00:05Z"},
  {"id": "m3", "previousItemId": "m2", "role": "user", "text": "Yes, and keep it short.", "timestamp": "2026-11-25T09:00:09Z"}]}
JSON
)"
# The version to edit, when an earlier run has left a document.
document=$(stet call drafter.document.get "{\"projectId\": \"$project\"}" 2>/dev/null || true)
base=$(sed -nE 's/.*"version": *([0-9]+).*/\1/p' <<<"$document" | head -n 1)
stet call drafter.document.put \
  "{\"projectId\": \"$project\", \"baseVersion\": ${base:-0}, \"markdown\": \"# Launch\\n\\nWe ship on Monday.\\n\"}"

say "A draft runs in the background; its events come from the PUB socket"
stet draft --project "$project" --session "$session" --anchors m1,m3 --wait \
  --instruction "Bring the announcement in line with the conversation."

say "The document now"
stet doc get "$project"

say "How to go on"
cat <<TEXT
  export PATH="$PWD/build/bin:\$PATH" STET_DATA="$data"
  stet status                     what runs, what waits
  stet watch                      every progress event, live
  stet queue $project       the project's drafts
  stet doc history $project versions of the document
  stet --help                     everything else
  stet down                       stop it (what is stored stays; stet up goes on where it was)
TEXT
