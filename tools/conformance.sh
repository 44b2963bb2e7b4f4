#!/usr/bin/env bash
# Runs ipyparallel's own tests against covey under that name, in an environment made for it: build/conformance/venv gets
# what those tests import, covey's wheel and compat/. The last line counts the tests of test/conformance/public.txt, or of
# another list (internal.txt: tests of inner parts, for which nothing is promised).
# usage: tools/conformance.sh VENV [LIST] [pytest's arguments]     VENV is where covey was built
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(cd "$1" && pwd); shift
list=${1:-test/conformance/public.txt}; [ $# -eq 0 ] || shift
home=build/conformance
venv=$PWD/$home/venv
mkdir -p "$home"
quiet_pip() { "$venv/bin/python" -m pip "$@" -q --disable-pip-version-check; }

if [ ! -e "$venv/.deps" ] || [ test/conformance/requirements.txt -nt "$venv/.deps" ]; then
    "$built/bin/python" -m venv "$venv"
    quiet_pip install -r test/conformance/requirements.txt
    touch "$venv/.deps"
fi
rm -rf "$home/wheel"
PATH="$built/bin:$PATH" "$built/bin/python" -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps \
    -Cbuild-dir=build/wheel -w "$home/wheel" . >"$home/build.log" 2>&1 || { cat "$home/build.log" >&2; exit 1; }
quiet_pip install --no-deps --force-reinstall "$home"/wheel/*.whl ./compat
exec "$venv/bin/python" test/conformance/run.py "$venv/bin/python" --list "$list" "$@"
