#!/usr/bin/env bash
# The README's two commands as a newcomer types them: in a new minimal Debian (tools/base-image.sh), on a clone of HEAD.
# Needs root, docker and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${FRESH_DIR:-$PWD/build-fresh}
mkdir -p "$work"
image=$(tools/base-image.sh "$work")

rm -rf "$work/covey.git"
git clone -q --bare . "$work/covey.git"
cid=$(docker create --network=host --cap-add=SYS_ADMIN --cap-add=NET_ADMIN --cap-add=SYS_PTRACE --security-opt apparmor=unconfined -v "$work/covey.git:/src.git:ro" "$image" \
    bash -euc 'git config --global --add safe.directory /src.git; git clone -q /src.git /root/covey; cd /root/covey
        for command in "make demo" "make test" "make demo"; do
            echo "== $command"; start=$(date +%s); $command; echo "== $command: $(($(date +%s) - start)) s"
        done')
trap 'docker rm -f "$cid" >/dev/null 2>&1 || true' EXIT
docker start -a "$cid"
