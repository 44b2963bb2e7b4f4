#!/usr/bin/env bash
# Lines of python/covey and compat that the Python tests run: in the tests' own process, in programs
# that they start, and in engines (which are forked). The last lines name each module and the sum.
# Without three tests: workers of a pool that an engine forks wait for ever for a lock of coverage's, and so does the engine; a zygote with
# coverage has imported what one without has not; a program of examples/ sends os._exit, and coverage's own can't be sent (test/conftest.py).
# usage: tools/coverage.sh VENV [pytest arguments]
set -uo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd); shift
data=$PWD/build/coverage
rm -rf "$data"; mkdir -p "$data"
"$venv/bin/python" -c 'import coverage' 2>/dev/null || "$venv/bin/pip" -q install 'coverage>=7.11'
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cat >"$data/rc" <<EOF
[run]
source_pkgs = covey, ipyparallel
data_file = $data/data
parallel = true
sigterm = true
patch = subprocess, _exit, fork, execv
disable_warnings = module-not-imported, no-data-collected, module-not-measured
[paths]
covey =
    python/covey
    $site/covey
    */site/covey
    */python/covey
compat =
    compat/ipyparallel
    */compat/ipyparallel
[report]
include = python/covey/*, compat/ipyparallel/*
exclude_also =
    if TYPE_CHECKING:
    if __name__ == .__main__.:
EOF
export COVERAGE_RCFILE=$data/rc  # for test/deploy, whose machines have an environment of their own
"$venv/bin/python" -m coverage run --rcfile="$data/rc" -m pytest -q --timeout=120 \
    --deselect 'test/system/test_engine.py::test_m6_tasks_may_use_multiprocessing[fork]' \
    --deselect test/python/test_engine.py::test_the_warm_interpreter_has_no_numpy_and_one_thread \
    --deselect 'test/system/test_examples.py::test_program[monitoring]' "$@"
status=$?
"$venv/bin/python" -m coverage combine -q --rcfile="$data/rc" >/dev/null
"$venv/bin/python" -m coverage report --rcfile="$data/rc" --sort=cover
exit $status
