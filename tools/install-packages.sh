#!/usr/bin/env bash
# Installs the Debian 12 packages that Stet is built, run and tested with, or those that are named. Does nothing when all are there.
# Usage: tools/install-packages.sh [PACKAGE...]
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config
  libzmq3-dev libczmq-dev libmsgpack-dev libcurl4-openssl-dev librocksdb-dev libsodium-dev libxxhash-dev libmicrohttpd-dev
  libcmocka-dev python3 python3-zmq python3-msgpack faketime openssl git
  clang-tidy clang-format cppcheck
)

[ $# -eq 0 ] || packages=("$@")

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install-packages: run this as root, or install: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "install-packages: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
