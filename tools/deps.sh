#!/usr/bin/env bash
# Installs what the build needs: Debian's or Ubuntu's packages with apt (as root or by a sudo that
# asks nothing), Python's packages into the virtual environment VENV. Without root it says what is
# missing as one apt and one conda line and exits 1. Quick when all is there.
# usage: tools/deps.sh VENV     (PYTHON names the interpreter)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
python=${PYTHON:-python3}

have() { command -v "$1" >/dev/null 2>&1; }
have_lib() { pkg-config --exists "$1" 2>/dev/null; }
can_install() { have apt-get && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; }
# The C library's package has another name in Debian 12 and Ubuntu 22.04.
msgpack_package() {
    if ! apt-cache show libmsgpack-c-dev >/dev/null 2>&1 && apt-cache show libmsgpack-dev >/dev/null 2>&1; then echo libmsgpack-dev; else echo libmsgpack-c-dev; fi
}

# python3.12's own packages where it is not the distribution's python3
python_package=python3
[[ $(basename "$python") =~ ^python3\.[0-9]+$ ]] && python_package=$(basename "$python")
compiler=(${CC:-cc})

missing=()
have "${compiler[0]}" || missing+=(build-essential)
have pkg-config || missing+=(pkg-config)
have_lib libuv || missing+=(libuv1-dev)
have_lib 'openssl >= 3.0' || missing+=(libssl-dev)
have_lib jansson || missing+=(libjansson-dev)
have_lib sqlite3 || missing+=(libsqlite3-dev)
have_lib cmocka || missing+=(libcmocka-dev)
have_lib msgpack-c || have_lib msgpack || have_lib msgpackc || missing+=("$(msgpack_package)")
if have "$python"; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "covey needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Name another one: make PYTHON=python3.12 …" >&2; exit 1; }
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$python_package-venv")
    "$python" -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || missing+=("$python_package-dev")
else
    missing+=("$python_package" "$python_package-venv" "$python_package-dev")
fi
# One test of slow links wants it, and is skipped without it: no reason to stop.
wanted=()
have ip || wanted+=(iproute2)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
install_all() {
    as_root apt-get update -qq || return
    # known only now, where there were no package lists before
    local i
    for i in "${!missing[@]}"; do [ "${missing[$i]}" != libmsgpack-c-dev ] || missing[i]=$(msgpack_package); done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" "${wanted[@]}"
}

if [ $((${#missing[@]} + ${#wanted[@]})) -gt 0 ] && can_install; then
    echo "installing:" "${missing[@]}" "${wanted[@]}"
    log=$(mktemp)
    install_all >"$log" 2>&1 || { tail -n 30 "$log" >&2; [ ${#missing[@]} -eq 0 ] || exit 1; }
    rm -f "$log"
elif [ ${#missing[@]} -gt 0 ]; then
    {
        echo "covey's build needs packages that are not installed: ${missing[*]}. Install them:"
        echo "  as root:    apt-get install -y ${missing[*]}"
        echo "  with conda: conda install -y -c conda-forge c-compiler pkg-config make python libuv openssl jansson sqlite cmocka msgpack-c"
    } >&2
    exit 1
fi

[ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -r tools/requirements.txt
# Meson finds the venv's interpreter by this file, whatever else is on PATH.
printf "[binaries]\npython = '%s'\n" "$(cd "$venv" && pwd)/bin/python" > "$venv/meson-native.ini"
touch "$venv/.deps"
