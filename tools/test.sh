#!/usr/bin/env bash
# Runs every test: the C tests by Meson, the Python and system tests by pytest, beside them those of test/deploy, which wait more than they work, and, where docker
# is, those in containers whose images can be made meanwhile (remote-mpi's take too long).
# What fails beside all the others is run once more, alone, if it is not much; what passes then is named.
# Fails if one of them does; the last line is the sum, "N passed, N failed, N skipped".
# usage: tools/test.sh VENV BUILD
set -uo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd); build=$2
again_most=5
export PATH="$venv/bin:$PATH"

"$venv/bin/ninja" -C "$build" >"$build/ninja.log" 2>&1 || { tail -n 60 "$build/ninja.log"; echo "0 passed, 1 failed"; exit 1; }
rm -rf "$build"/tests; mkdir -p "$build/tests"
out() { echo "$build/tests/$1.txt"; }

"$venv/bin/meson" test -C "$build" --no-rebuild --timeout-multiplier 5 --print-errorlogs 2>&1 | tee "$(out c)" | grep -v '^$'
c_status=${PIPESTATUS[0]}

# NAME OPTIONS: what failed is remembered below NAME
run() { local name=$1; shift; "$venv/bin/python" -m pytest -q -ra -o cache_dir="$PWD/$build/tests/$name" "$@"; }
deploy() { run deploy test/deploy "$@"; }
containers() { BUILD_SECONDS=${BUILD_SECONDS:-720} run containers -m containers test/deploy/test_{containers,jupyter_cluster,jupyter_cluster_kill}.py "$@"; }
others() { run others --ignore=test/deploy "$@"; }

set -m # job control: without it what runs in the background, and all that its tests start, would ignore SIGINT
deploy >"$(out deploy)" 2>&1 &
deploy_pid=$!
containers >"$(out containers)" 2>&1 &
containers_pid=$!
set +m
trap 'kill -INT -- -$deploy_pid -$containers_pid' INT TERM
others 2>&1 | tee "$(out others)"
others_status=${PIPESTATUS[0]}
[ "$others_status" -ne 2 ] || kill -INT -- -$deploy_pid -$containers_pid # interrupted
echo "test/deploy:"
wait $deploy_pid; deploy_status=$?
cat "$(out deploy)"
echo "test/deploy in containers:"
wait $containers_pid; containers_status=$?
cat "$(out containers)"

# The tests that failed in NAME, a line each.
failed() { "$venv/bin/python" -c 'import json, sys; print(*json.load(open(sys.argv[1])), sep="\n")' "$build/tests/$1/v/cache/lastfailed" 2>/dev/null; }
second=""
for name in others deploy containers; do
    status=${name}_status
    [ "${!status}" -eq 1 ] || continue # 2 and more: interrupted, or not even begun
    tests=$(failed $name)
    [ "$(wc -l <<<"$tests")" -le $again_most ] || continue
    echo "once more, alone: ${tests//$'\n'/ }"
    $name --lf --lfnf none 2>&1 | tee "$(out "$name-again")"
    declare "$status=${PIPESTATUS[0]}"
    second+=$(grep -vxF -e "$(failed $name)" <<<"$tests" && echo .) # the dot keeps the line's end
    second=${second%.}
done
[ -z "$second" ] || printf 'passed only when alone, to be mended:\n%s' "$second"

meson_count() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" "$(out c)" | tail -n 1 | grep . || echo 0; }
# WHAT NAMES: the sum in the last lines of what these printed; of those that ran twice, the tests that pass then count once
pytest_count() { local what=$1; shift; for f; do tail -n 1 "$(out "$f")"; done | grep -oE "[0-9]+ $what" | awk '{n += $1} END {print n + 0}'; }
last() { for name; do [ -e "$(out "$name-again")" ] && echo "$name-again" || echo "$name"; done; }
all=(others deploy containers); both=($(printf '%s\n' "${all[@]}" $(last "${all[@]}") | sort -u))
ok=$(($(meson_count Ok) + $(pytest_count passed "${both[@]}")))
bad=$(($(meson_count Fail) + $(meson_count Timeout) + $(pytest_count 'failed|error' $(last "${all[@]}"))))
skipped=$(($(meson_count Skipped) + $(pytest_count skipped "${all[@]}")))
for status in "meson test:$c_status" "pytest:$others_status" "pytest test/deploy:$deploy_status" "pytest test/deploy in containers:$containers_status"; do
    if [ "${status##*:}" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; echo "${status%:*} ended with status ${status##*:}"; fi
done
echo "$ok passed, $bad failed, $skipped skipped"
[ "$bad" -eq 0 ]
