#!/usr/bin/env bash
# Builds the fuzz targets with clang's libFuzzer and runs each for SECONDS, adding what it finds to build-fuzz/corpus.
# usage: tools/fuzz.sh SECONDS VENV [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1; venv=$(cd "$2" && pwd); shift 2
export PATH="$venv/bin:$PATH"
command -v clang >/dev/null 2>&1 || { echo "fuzzing needs clang with its runtime: apt-get install clang libclang-rt-dev" >&2; exit 1; }
# fuzzer-no-link: without it the libraries would be run, but the fuzzer would not see where in them it gets
[ -f build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz --native-file "$venv/meson-native.ini" \
    -Dlibfuzzer=true -Dpyext=false -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fsanitize=fuzzer-no-link >/dev/null
ninja -C build-fuzz >build-fuzz/ninja.log 2>&1 || { tail -n 60 build-fuzz/ninja.log; exit 1; }
[ $# -gt 0 ] || set -- $(basename -s _fuzz -a build-fuzz/fuzz/*_fuzz)
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
for name; do
    mkdir -p "build-fuzz/corpus/$name"
    echo "== $name, $seconds s"
    "build-fuzz/fuzz/${name}_fuzz" -max_total_time="$seconds" -rss_limit_mb=1536 -timeout=60 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/$name-" "build-fuzz/corpus/$name" "fuzz/corpus/$name" 2>&1 | tail -n 6
done
