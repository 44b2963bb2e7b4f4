#!/usr/bin/env bash
# Builds covey's wheel (incrementally, in build/wheel) and installs it into the virtual environment VENV.
# usage: tools/install.sh VENV
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
mkdir -p build
log=build/install.log
# meson and ninja are called by name without build isolation
PATH="$venv/bin:$PATH" "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps \
    --force-reinstall -Cbuild-dir=build/wheel . >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
touch "$venv/.installed"
