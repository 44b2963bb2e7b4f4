#!/usr/bin/env bash
# Runs every test: the C tests by Meson, the Python and system tests by pytest, beside them those of test/deploy, which wait more than they work, and, where docker
# is, those in containers whose images can be made meanwhile (remote-mpi's take too long).
# Fails if one of them does; the last line is the sum, "N passed, N failed, N skipped".
# usage: tools/test.sh VENV BUILD
set -uo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd); build=$2
export PATH="$venv/bin:$PATH"

"$venv/bin/ninja" -C "$build" >"$build/ninja.log" 2>&1 || { tail -n 60 "$build/ninja.log"; echo "0 passed, 1 failed"; exit 1; }
"$venv/bin/meson" test -C "$build" --no-rebuild --print-errorlogs 2>&1 | tee "$build/meson-test.txt" | grep -v '^$'
c_status=${PIPESTATUS[0]}

run() { "$venv/bin/python" -m pytest -q -ra "$@"; } # pytest's options
set -m # job control: without it what runs in the background, and all that its tests start, would ignore SIGINT
run -p no:cacheprovider test/deploy >"$build/pytest-deploy.txt" 2>&1 &
deploy=$!
BUILD_SECONDS=${BUILD_SECONDS:-720} run -p no:cacheprovider -m containers test/deploy/test_{containers,jupyter_cluster,jupyter_cluster_kill}.py \
    >"$build/pytest-containers.txt" 2>&1 &
containers=$!
set +m
trap 'kill -INT -- -$deploy -$containers' INT TERM
run --ignore=test/deploy 2>&1 | tee "$build/pytest.txt"
py_status=${PIPESTATUS[0]}
[ "$py_status" -ne 2 ] || kill -INT -- -$deploy -$containers # interrupted
echo "test/deploy:"
wait $deploy; deploy_status=$?
cat "$build/pytest-deploy.txt"
echo "test/deploy in containers:"
wait $containers; containers_status=$?
cat "$build/pytest-containers.txt"

meson_count() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" "$build/meson-test.txt" | tail -n 1 | grep . || echo 0; }
pytest_count() { tail -qn 1 "$build/pytest.txt" "$build/pytest-deploy.txt" "$build/pytest-containers.txt" | grep -oE "[0-9]+ $1" | awk '{n += $1} END {print n + 0}'; }
ok=$(($(meson_count Ok) + $(pytest_count passed)))
bad=$(($(meson_count Fail) + $(meson_count Timeout) + $(pytest_count failed) + $(pytest_count error)))
skipped=$(($(meson_count Skipped) + $(pytest_count skipped)))
for status in "meson test:$c_status" "pytest:$py_status" "pytest test/deploy:$deploy_status" "pytest test/deploy in containers:$containers_status"; do
    if [ "${status##*:}" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; echo "${status%:*} ended with status ${status##*:}"; fi
done
echo "$ok passed, $bad failed, $skipped skipped"
[ "$bad" -eq 0 ]
