#!/usr/bin/env bash
# Runs every test: the C tests by Meson, the Python and system tests by pytest. Fails if either
# does; the last line is the sum, "N passed, N failed, N skipped".
# usage: tools/test.sh VENV BUILD
set -uo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd); build=$2
export PATH="$venv/bin:$PATH"

"$venv/bin/ninja" -C "$build" >"$build/ninja.log" 2>&1 || { tail -n 60 "$build/ninja.log"; echo "0 passed, 1 failed"; exit 1; }
"$venv/bin/meson" test -C "$build" --no-rebuild --print-errorlogs 2>&1 | tee "$build/meson-test.txt" | grep -v '^$'
c_status=${PIPESTATUS[0]}
count() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" "$build/meson-test.txt" | tail -n 1; }
c_ok=$(count Ok); c_bad=$(($(count Fail || true) + $(count Timeout || true) + 0)); c_skip=$(count Skipped)

"$venv/bin/python" -m pytest -q -ra 2>&1 | tee "$build/pytest.txt"
py_status=${PIPESTATUS[0]}
field() { tail -n 1 "$build/pytest.txt" | grep -oE "[0-9]+ $1" | grep -oE '[0-9]+' || echo 0; }
py_ok=$(field passed); py_bad=$(($(field failed) + $(field error))); py_skip=$(field skipped)

bad=$((c_bad + py_bad))
if [ "$c_status" -ne 0 ] && [ "$c_bad" -eq 0 ]; then bad=$((bad + 1)); echo "meson test ended with status $c_status"; fi
if [ "$py_status" -ne 0 ] && [ "$py_bad" -eq 0 ]; then bad=$((bad + 1)); echo "pytest ended with status $py_status"; fi
echo "$((${c_ok:-0} + py_ok)) passed, $bad failed, $((${c_skip:-0} + py_skip)) skipped"
[ "$bad" -eq 0 ]
