#!/usr/bin/env bash
# Builds the fuzz targets with clang's libFuzzer and runs each for SECONDS, adding what it finds to build-fuzz/corpus.
# usage: tools/fuzz.sh SECONDS VENV
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1; venv=$(cd "$2" && pwd)
export PATH="$venv/bin:$PATH"
command -v clang >/dev/null 2>&1 || { echo "fuzzing needs clang with its runtime: apt-get install clang libclang-rt-dev" >&2; exit 1; }
[ -f build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz --native-file "$venv/meson-native.ini" \
    -Dlibfuzzer=true -Dpyext=false -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
ninja -C build-fuzz >build-fuzz/ninja.log 2>&1 || { tail -n 60 build-fuzz/ninja.log; exit 1; }
for target in build-fuzz/fuzz/*_fuzz; do
    name=$(basename "$target" _fuzz)
    mkdir -p "build-fuzz/corpus/$name"
    echo "== $name, $seconds s"
    "$target" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix=build-fuzz/ "build-fuzz/corpus/$name" "fuzz/corpus/$name" 2>&1 | tail -n 6
done
