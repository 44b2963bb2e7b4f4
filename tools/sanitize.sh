#!/usr/bin/env bash
# Builds covey with sanitizers into an environment of its own and runs the C tests, and with the runtime preloaded the
# Python tests; with `thread` of those the ones that have many threads and many connections.
# usage: tools/sanitize.sh address,undefined|thread VENV
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1; venv=$(cd "$2" && pwd)
name=${kind//,/-}
build=build-$name
opts=("-Db_sanitize=$kind" -Db_lundef=false)
export PATH="$venv/bin:$PATH"

[ -f "$build/build.ninja" ] || meson setup "$build" --native-file "$venv/meson-native.ini" "${opts[@]}" >/dev/null
ninja -C "$build" >"$build/ninja.log" 2>&1 || { tail -n 60 "$build/ninja.log"; exit 1; }
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:suppressions=$PWD/tools/tsan.supp
c_tests=(); if [ "$kind" = thread ]; then c_tests=(--no-suite sim); fi # one thread, ten minutes
ASAN_OPTIONS=detect_leaks=1 meson test -C "$build" --no-rebuild --print-errorlogs --timeout-multiplier 5 "${c_tests[@]}"

san=$PWD/$build/venv
if [ ! -x "$san/bin/python" ]; then
    "$venv/bin/python" -m venv "$san"
    "$san/bin/python" -m pip install -q --disable-pip-version-check -r tools/requirements.txt
fi
setup=(); for o in "${opts[@]}"; do setup+=("-Csetup-args=$o"); done
"$san/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
    "-Cbuild-dir=$build/wheel" "${setup[@]}" . >"$build/install.log" 2>&1 || { cat "$build/install.log"; exit 1; }
# Python itself is not instrumented: its own leaks are none of ours, and of its memory only what we touch is watched.
report=$PWD/$build/report
rm -f "$report"*
if [ "$kind" = thread ]; then
    libs=$(cc -print-file-name=libtsan.so)
    tests=(test/system/test_storm.py test/system/test_links.py test/system/test_stopping.py)
    TSAN_OPTIONS=halt_on_error=0:exitcode=0:log_path=$report:suppressions=$PWD/tools/tsan.supp
else
    cc -shared -fPIC -DREPORT="\"$report\"" -o "$build/ub_report.so" test/system/ub_report.c
    libs="$(cc -print-file-name=libasan.so) $PWD/$build/ub_report.so $(cc -print-file-name=libubsan.so)"
    tests=(test/system test/python)
    export ASAN_OPTIONS=detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_abort=0:log_path=$report
fi
status=0
COVEY_TEST_PRELOAD=1 LD_PRELOAD=$libs "$san/bin/python" -m pytest -q -ra "${tests[@]}" --timeout=300 || status=$?
if ls "$report"* >/dev/null 2>&1; then cat "$report"*; exit 1; fi
exit $status
