#!/usr/bin/env bash
# Installs what the build needs: Debian's or Ubuntu's packages with apt (as root or by a sudo that
# asks nothing), Python's packages into the virtual environment VENV. Without root it says what is
# missing as one apt and one conda line and exits 1. Quick when all is there.
# usage: tools/deps.sh VENV     (PYTHON names the interpreter)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
python=${PYTHON:-python3}

have_lib() { pkg-config --exists "$1" 2>/dev/null; }
missing=()
command -v cc >/dev/null 2>&1 || missing+=(build-essential)
command -v pkg-config >/dev/null 2>&1 || missing+=(pkg-config)
command -v "$python" >/dev/null 2>&1 || missing+=(python3)
have_lib libuv || missing+=(libuv1-dev)
have_lib openssl || missing+=(libssl-dev)
have_lib jansson || missing+=(libjansson-dev)
have_lib sqlite3 || missing+=(libsqlite3-dev)
have_lib cmocka || missing+=(libcmocka-dev)
have_lib msgpack-c || have_lib msgpack || have_lib msgpackc || missing+=(libmsgpack-c-dev)
command -v ip >/dev/null 2>&1 || missing+=(iproute2)
command -v ps >/dev/null 2>&1 || missing+=(procps)
if command -v "$python" >/dev/null 2>&1; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "covey needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Name another one: make PYTHON=python3.12 …" >&2; exit 1; }
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$python" -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || missing+=(python3-dev)
else
    missing+=(python3-venv python3-dev)
fi

apt_run() {
    if [ "$(id -u)" = 0 ]; then DEBIAN_FRONTEND=noninteractive "$@"; else sudo -n env DEBIAN_FRONTEND=noninteractive "$@"; fi
}

if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
        echo "installing: ${missing[*]}"
        log=$(mktemp)
        apt_run apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
        # the C library's package has another name in Debian 12
        for i in "${!missing[@]}"; do
            if [ "${missing[$i]}" = libmsgpack-c-dev ] && ! apt-cache show libmsgpack-c-dev >/dev/null 2>&1; then missing[i]=libmsgpack-dev; fi
        done
        apt_run apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
        rm -f "$log"
    else
        {
            echo "covey's build needs packages that are not installed: ${missing[*]}"
            echo "  as root:    apt-get install ${missing[*]}     (Debian 12: libmsgpack-dev instead of libmsgpack-c-dev)"
            echo "  with conda: conda install -c conda-forge c-compiler pkg-config make python libuv openssl jansson sqlite cmocka msgpack-c iproute2 procps-ng"
        } >&2
        exit 1
    fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -r tools/requirements.txt
# Meson finds the venv's interpreter by this file, whatever else is on PATH.
printf "[binaries]\npython = '%s'\n" "$(cd "$venv" && pwd)/bin/python" > "$venv/meson-native.ini"
touch "$venv/.deps"
